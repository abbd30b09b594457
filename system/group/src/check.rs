//! One check from outside.
//!
//! Contract: a check opens a connection as a client would, reads one line if it expects one, and says goodbye. It ends within its
//! time limit, reads at most [`LINE_MAX_BYTES`], and never fails in a way that does not say what was read. One that ends by its time limit is *late*:
//! the machine may be busy, and a service that is slow is not one that is broken.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// RFC 5321 4.5.3.1.5: a reply line has at most 512 octets; IMAP and POP3 greetings are shorter or as long.
const LINE_MAX_BYTES: usize = 512;
/// For everything, unless the caller says otherwise: more than a busy machine takes.
const LIMIT: Duration = Duration::from_secs(5);
/// For the goodbye, which nobody waits for.
const BYE_LIMIT: Duration = Duration::from_secs(1);

static TLS: LazyLock<Arc<rustls::ClientConfig>> = LazyLock::new(crate::any_certificate::client);

/// What is asked of a service.
#[derive(Clone, Debug)]
pub enum Check {
    /// The first line must begin so.
    Banner {
        /// Where.
        address: SocketAddr,
        /// Beginning of the line.
        expect: String,
        /// Sent afterwards, so that the server's log has no broken connection.
        bye: String,
        /// TLS from the first byte; any certificate is taken.
        tls: bool,
        /// For everything.
        limit: Duration,
    },
    /// A connection is enough.
    Connect {
        /// Where.
        address: SocketAddr,
        /// For the connection.
        limit: Duration,
    },
}

/// A failed check: where, and what was read instead.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{address}: {why}")]
pub struct Failure {
    /// Where.
    pub address: SocketAddr,
    /// In words.
    pub why: String,
    /// Nothing was read within the time limit.
    pub late: bool,
}

impl Check {
    /// RFC 5321 3.1: `220`.
    #[must_use]
    pub fn smtp(address: SocketAddr) -> Self {
        Self::banner(address, "220", "QUIT\r\n")
    }

    /// RFC 9051 7.1.1: `* OK`.
    #[must_use]
    pub fn imap(address: SocketAddr) -> Self {
        Self::banner(address, "* OK", "c LOGOUT\r\n")
    }

    /// RFC 1939 4: `+OK`.
    #[must_use]
    pub fn pop3(address: SocketAddr) -> Self {
        Self::banner(address, "+OK", "QUIT\r\n")
    }

    /// A connection.
    #[must_use]
    pub const fn connect(address: SocketAddr) -> Self {
        Self::Connect { address, limit: LIMIT }
    }

    /// A line that begins with `expect`.
    #[must_use]
    pub fn banner(address: SocketAddr, expect: impl Into<String>, bye: impl Into<String>) -> Self {
        Self::Banner { address, expect: expect.into(), bye: bye.into(), tls: false, limit: LIMIT }
    }

    /// The same over TLS from the first byte (465, 993, 995).
    #[must_use]
    pub fn over_tls(mut self) -> Self {
        if let Self::Banner { tls, .. } = &mut self {
            *tls = true;
        }
        self
    }

    /// The same with another time limit.
    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        let (Self::Banner { limit, .. } | Self::Connect { limit, .. }) = &mut self;
        *limit = time;
        self
    }

    /// Where it goes.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        let (Self::Banner { address, .. } | Self::Connect { address, .. }) = self;
        *address
    }

    /// Asks once.
    ///
    /// # Errors
    /// What was read instead, or how the connection failed.
    pub async fn run(&self) -> Result<(), Failure> {
        let (Self::Banner { limit, .. } | Self::Connect { limit, .. }) = self;
        let address = self.address();
        match timeout(*limit, Box::pin(self.ask())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(Failure { address, why, late: false }),
            Err(_) => Err(Failure { address, why: format!("no answer within {} ms", limit.as_millis()), late: true }),
        }
    }

    async fn ask(&self) -> Result<(), String> {
        let stream = TcpStream::connect(self.address()).await.map_err(|e| format!("connect: {e}"))?;
        let Self::Banner { address, expect, bye, tls, .. } = self else { return Ok(()) };
        if *tls {
            let name = rustls::pki_types::ServerName::IpAddress(address.ip().into());
            let connector = tokio_rustls::TlsConnector::from(Arc::clone(&TLS));
            let stream = connector.connect(name, stream).await.map_err(|e| format!("TLS: {e}"))?;
            greet(stream, expect, bye).await
        } else {
            greet(stream, expect, bye).await
        }
    }
}

/// Reads the first line; the goodbye goes its own way.
async fn greet<S>(mut stream: S, expect: &str, bye: &str) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut line = Vec::with_capacity(LINE_MAX_BYTES);
    while line.len() < LINE_MAX_BYTES && !line.contains(&b'\n') {
        let mut part = [0; LINE_MAX_BYTES];
        let room = LINE_MAX_BYTES - line.len();
        match stream.read(&mut part[..room]).await {
            Ok(0) if line.is_empty() => return Err("closed without a word".to_owned()),
            Ok(0) => break,
            Ok(count) => line.extend_from_slice(&part[..count]),
            Err(e) if line.is_empty() => return Err(format!("read: {e}")),
            Err(_) => break,
        }
    }
    let end = line.iter().position(|&b| b == b'\n').unwrap_or(line.len());
    let line = line[..end].trim_ascii_end();
    let verdict = if line.starts_with(expect.as_bytes()) {
        Ok(())
    } else {
        Err(format!("read \"{}\" instead of \"{expect}\"", shown(line)))
    };
    let bye = bye.to_owned();
    tokio::spawn(timeout(BYE_LIMIT, async move {
        let mut rest = [0; 256];
        if stream.write_all(bye.as_bytes()).await.is_ok() {
            while matches!(stream.read(&mut rest).await, Ok(1..)) {}
        }
    }));
    verdict
}

/// A line for a log: at most 80 characters, nothing that a terminal would obey.
fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(line).chars().take(80).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn server(greeting: &'static [u8], keep: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(greeting).await;
                if keep {
                    kept.push(stream);
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn banners_are_read_not_guessed() {
        Check::smtp(server(b"220 mail.example ESMTP\r\n", true).await).run().await.unwrap();
        Check::imap(server(b"* OK [CAPABILITY IMAP4rev2] ready\r\n", true).await).run().await.unwrap();
        Check::pop3(server(b"+OK ready\r\n", true).await).run().await.unwrap();
        Check::connect(server(b"", true).await).run().await.unwrap();

        let full = Check::smtp(server(b"421 4.3.2 too busy\x1b[2J\r\n", true).await).run().await.unwrap_err();
        assert_eq!(full.why, "read \"421 4.3.2 too busy\\u{1b}[2J\" instead of \"220\"");
        let dumb = Check::smtp(server(b"", false).await).run().await.unwrap_err();
        assert_eq!(dumb.why, "closed without a word");
        let hung = Check::smtp(server(b"", true).await).within(Duration::from_millis(30)).run().await.unwrap_err();
        assert_eq!(hung.why, "no answer within 30 ms");
        let endless: &'static [u8] = Box::leak(vec![b'x'; 100_000].into_boxed_slice());
        let long = Check::smtp(server(endless, true).await).run().await.unwrap_err();
        assert!(long.why.contains(&"x".repeat(80)) && long.why.len() < 200, "{long}");
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(Check::connect(closed).run().await.unwrap_err().why.contains("refused"));
    }

    #[tokio::test]
    async fn the_server_hears_a_goodbye() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"220 here\r\n").await.unwrap();
            let mut line = [0; 6];
            stream.read_exact(&mut line).await.unwrap();
            line
        });
        Check::smtp(address).run().await.unwrap();
        assert_eq!(&heard.await.unwrap(), b"QUIT\r\n");
    }

    #[tokio::test]
    async fn tls_from_the_first_byte() {
        let key = rcgen::generate_simple_self_signed(["expired.example".to_owned()]).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![key.cert.der().clone()],
                rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into()),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _ = stream.write_all(b"* OK hello\r\n").await;
                    let _ = stream.read(&mut [0; 64]).await;
                }
            }
        });
        Check::imap(address).over_tls().run().await.unwrap();
        let wrong = Check::pop3(address).over_tls().run().await.unwrap_err();
        assert!(wrong.why.contains("* OK hello"), "{wrong}");
        let plain = server(b"* OK hello\r\n", true).await;
        assert!(Check::imap(plain).over_tls().run().await.unwrap_err().why.starts_with("TLS:"));
    }
}
