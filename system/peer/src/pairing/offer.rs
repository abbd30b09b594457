//! The node that shows the code.

use super::{Code, EXPORTER, Exchange, LIMIT, MAX_WRONG, PairAs, Paired, Say, Side, VALID, VERSION, fits};
use crate::error::{Error, PairingError};
use crate::identity::Identity;
use crate::tls::{self, Anyone};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

/// Strangers that may talk at once.
const MAX_GUESTS: usize = 8;

/// An open offer: the code, and the door on which it is heard. Dropping it closes the door.
pub struct Offer {
    code: Code,
    address: SocketAddr,
    ends: Instant,
    listener: TcpListener,
    room: Arc<Room>,
}

struct Room {
    identity: Arc<Identity>,
    mine: PairAs,
    code: Code,
    acceptor: TlsAcceptor,
    tries: Mutex<Tries>,
    wrong: watch::Sender<u8>,
}

#[derive(Default)]
struct Tries {
    wrong: u8,
    /// Somebody has proven to know the code: nobody else is let in.
    found: bool,
}

/// How one guest ended.
enum End {
    Paired(Box<Paired>),
    /// The code is spent: this is the end of the offer.
    Ended(Error),
    /// Nothing happened.
    Gone,
}

/// Opens an offer at this address (of eth1). See [`Offer::code`], then [`Offer::wait`].
///
/// # Errors
/// [`Error::Listen`]; [`Error::Crypto`].
pub async fn pair_offer(identity: Arc<Identity>, mine: PairAs, listen: SocketAddr) -> Result<Offer, Error> {
    let told = |source| Error::Listen { address: listen, source };
    let listener = TcpListener::bind(listen).await.map_err(told)?;
    let address = listener.local_addr().map_err(told)?;
    let acceptor = tls::server(&identity, Anyone)?.into();
    let code = Code::new()?;
    let room = Arc::new(Room { identity, mine, code, acceptor, tries: Mutex::default(), wrong: watch::Sender::new(0) });
    Ok(Offer { code, address, ends: Instant::now() + VALID, listener, room })
}

impl Offer {
    /// To be shown to the person in front of this node, and nobody else.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// Where the other node joins.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// When it ends.
    #[must_use]
    pub fn ends(&self) -> Instant {
        self.ends
    }

    /// How many wrong codes came, with every change.
    #[must_use]
    pub fn wrong(&self) -> watch::Receiver<u8> {
        self.room.wrong.subscribe()
    }

    /// Waits for the other node.
    ///
    /// # Errors
    /// [`Error::Pairing`]: the offer ended, by time, by wrong codes, or because the node that knew the code cannot be paired with this one;
    /// [`Error::File`].
    pub async fn wait(self) -> Result<Paired, Error> {
        timeout_at(self.ends, Self::guests(self.listener, self.room)).await.unwrap_or(Err(PairingError::Expired.into()))
    }

    async fn guests(listener: TcpListener, room: Arc<Room>) -> Result<Paired, Error> {
        let mut guests = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if guests.len() < MAX_GUESTS => match accepted {
                    Ok((tcp, from)) => drop(guests.spawn(room.clone().guest(tcp, from))),
                    Err(why) => {
                        tracing::warn!(%why, "accepting a connection failed");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                },
                Some(end) = guests.join_next() => match end {
                    Ok(End::Paired(paired)) => return Ok(*paired),
                    Ok(End::Ended(why)) => return Err(why),
                    Ok(End::Gone) | Err(_) => {}
                },
            }
        }
    }
}

impl Room {
    async fn guest(self: Arc<Self>, tcp: TcpStream, from: SocketAddr) -> End {
        let mut knew = false;
        let end = timeout(LIMIT, self.talk(tcp, &mut knew)).await;
        let why = match end {
            Ok(Ok(paired)) => return End::Paired(Box::new(paired)),
            Ok(Err(why)) => why,
            Err(_) => PairingError::Interrupted { step: "waiting".to_owned(), why: "it was too slow".to_owned() }.into(),
        };
        tracing::warn!(%from, %why, "a try to pair ended");
        if knew {
            if matches!(why, Error::Pairing(PairingError::Interrupted { .. })) {
                // The same code is good for the repetition that repairs it.
                self.tries().found = false;
                return End::Gone;
            }
            return End::Ended(why);
        }
        match why {
            Error::Pairing(PairingError::TooManyWrongCodes) => End::Ended(why),
            _ => End::Gone,
        }
    }

    fn tries(&self) -> std::sync::MutexGuard<'_, Tries> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn talk(&self, tcp: TcpStream, knew: &mut bool) -> Result<Paired, Error> {
        let interrupted = |step: &str, why: String| Error::from(PairingError::Interrupted { step: step.to_owned(), why });
        let _ = tcp.set_nodelay(true);
        let tls = self.acceptor.accept(tcp).await.map_err(|e| interrupted("handshake", e.to_string()))?;
        let connection = tls.get_ref().1;
        let binding = connection
            .export_keying_material([0; 32], EXPORTER, None)
            .map_err(|e| Error::Crypto { what: "binding the code to the connection", why: e.to_string() })?;
        let key = tls::peer_key(connection).ok_or_else(|| interrupted("handshake", "no certificate came".to_owned()))?;
        let mut side = Side::new(tls, self.identity.clone(), self.mine.clone(), key.clone(), true);
        side.step = "code";
        let share = match side.hear().await? {
            Say::Start { version, oldest, share } => match Side::<TcpStream>::common_version(version, oldest) {
                Ok(()) => share,
                Err(why) => {
                    // The other node compares from its side.
                    side.refuse(&PairingError::Version { ours: version, theirs: VERSION }).await;
                    return Err(why.into());
                }
            },
            other => return Err(side.out_of_turn(&other)),
        };
        let exchange = Exchange::start(self.code, &key, self.identity.public(), &binding, true);
        side.say(&Say::Reply { version: VERSION, oldest: VERSION, share: exchange.share() }).await?;
        let tags = exchange.finish(&share, true).ok_or_else(|| side.interrupted("its part of the key is none"))?;
        let tag = match side.hear().await? {
            Say::Confirm { tag } => tag,
            other => return Err(side.out_of_turn(&other)),
        };
        // Nothing that depends on the code has left this node so far: the guess is judged and counted in one go.
        if let Err(why) = self.judge(&tag, &tags.joiner) {
            side.refuse(&why).await;
            return Err(why.into());
        }
        *knew = true;
        side.say(&Say::Confirm { tag: tags.offerer.to_hex().to_string() }).await?;
        side.settle().await
    }

    fn judge(&self, tag: &str, expected: &blake3::Hash) -> Result<(), PairingError> {
        let mut tries = self.tries();
        if tries.wrong >= MAX_WRONG {
            return Err(PairingError::TooManyWrongCodes);
        }
        if tries.found {
            let why =
                "another connection has given the right code already; if that was yours, try again in half a minute".to_owned();
            return Err(PairingError::Interrupted { step: "code".to_owned(), why });
        }
        if fits(tag, expected) {
            tries.found = true;
            return Ok(());
        }
        tries.wrong += 1;
        self.wrong.send_replace(tries.wrong);
        match MAX_WRONG - tries.wrong {
            0 => Err(PairingError::TooManyWrongCodes),
            left => Err(PairingError::WrongCode { left }),
        }
    }
}
