//! The node on which the code is typed.

use super::{Code, EXPORTER, Exchange, LIMIT, PairAs, Paired, Say, Side, VERSION, fits};
use crate::error::{Error, PairingError};
use crate::identity::Identity;
use crate::tls::{self, Anyone};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Joins the node that offers at `address` and shows this code. One try: a second one needs the person to type the code again.
///
/// # Errors
/// [`Error::Pairing`]: a wrong code, a reason of either node, or an interruption, which a repetition repairs; [`Error::File`].
pub async fn pair_join(identity: Arc<Identity>, mine: PairAs, address: SocketAddr, code: &str) -> Result<Paired, Error> {
    let code: Code = code.parse()?;
    let interrupted = |step: &str, why: String| Error::from(PairingError::Interrupted { step: step.to_owned(), why });
    let late = || interrupted("connecting", format!("{address} did not answer in time"));
    let join = async {
        let tcp = TcpStream::connect(address).await.map_err(|e| interrupted("connecting", format!("{address}: {e}")))?;
        let _ = tcp.set_nodelay(true);
        let config = tls::client(&identity, Anyone)?;
        let connected = TlsConnector::from(config).connect(tls::no_name(), tcp).await;
        let tls = connected.map_err(|e| interrupted("handshake", format!("{address}: {e}")))?;
        let connection = tls.get_ref().1;
        let binding = connection
            .export_keying_material([0; 32], EXPORTER, None)
            .map_err(|e| Error::Crypto { what: "binding the code to the connection", why: e.to_string() })?;
        let key = tls::peer_key(connection).ok_or_else(|| interrupted("handshake", "no certificate came".to_owned()))?;
        let mut side = Side::new(tls, identity.clone(), mine, key.clone(), false);

        let exchange = Exchange::start(code, identity.public(), &key, &binding, false);
        side.step = "code";
        side.say(&Say::Start { version: VERSION, oldest: VERSION, share: exchange.share() }).await?;
        let share = match side.hear().await? {
            Say::Reply { version, oldest, share } => {
                Side::<TcpStream>::common_version(version, oldest)?;
                share
            }
            other => return Err(side.out_of_turn(&other)),
        };
        let tags = exchange.finish(&share, false).ok_or_else(|| side.interrupted("its part of the key is none"))?;
        side.say(&Say::Confirm { tag: tags.joiner.to_hex().to_string() }).await?;
        match side.hear().await? {
            Say::Confirm { tag } if fits(&tag, &tags.offerer) => {}
            // Somebody who does not know the code accepted ours.
            Say::Confirm { .. } => return Err(PairingError::WrongCode { left: 0 }.into()),
            other => return Err(side.out_of_turn(&other)),
        }
        side.settle().await
    };
    timeout(LIMIT, join).await.unwrap_or_else(|_| Err(late()))
}
