//! One small HTTP(S) client for devices of the pair: the BMC that speaks Redfish, the etcd that is the witness.
//!
//! Contract: one origin, one request at a time on one kept connection; every request has a time limit and every answer a size limit
//! ([`MAX_BODY_BYTES`]). TLS trusts what the settings name and nothing else: the authorities in a file, or one certificate by its SHA-256
//! fingerprint (a BMC signs its own). Redirects are not followed: a device that sends elsewhere is not the device that was configured.
//! A request whose kept connection turns out to be dead is sent again once on a new one, so only repeatable requests may be sent.
//!
//! Failure classes: [`Error::Setting`] and [`Error::File`] (nothing was sent), [`Error::Connect`], [`Error::Tls`], [`Error::Exchange`] and
//! [`Error::TimedOut`] (whether the request took effect is unknown).

mod origin;
mod tls;

pub use origin::Origin;
pub use tls::{Identity, Trust, fingerprint};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

pub use hyper::header::{self, HeaderMap, HeaderName};
pub use hyper::{Method, StatusCode};

/// Longest answer that is read.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// Failures of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Address, header or trust that cannot be used.
    #[error("{0}")]
    Setting(String),
    /// A file of certificates or keys.
    #[error("cannot use {}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// No connection.
    #[error("cannot connect to {origin}: {why}")]
    Connect {
        /// To whom.
        origin: String,
        /// Why not.
        why: std::io::Error,
    },
    /// The server is not the one that is trusted, or does not speak TLS.
    #[error("no trusted TLS connection to {origin}: {why}")]
    Tls {
        /// To whom.
        origin: String,
        /// Why not.
        why: std::io::Error,
    },
    /// The connection broke, or what came back is not HTTP, or is too long.
    #[error("{origin} gave no usable HTTP answer: {why}")]
    Exchange {
        /// From whom.
        origin: String,
        /// What happened.
        why: String,
    },
    /// The time limit ended.
    #[error("{origin} did not answer within {limit_ms} ms")]
    TimedOut {
        /// Who.
        origin: String,
        /// The limit.
        limit_ms: u64,
    },
}

/// A request to the client's origin.
#[derive(Clone, Debug)]
pub struct Request {
    /// GET, POST, DELETE ...
    pub method: Method,
    /// Absolute path with query, such as `/redfish/v1/`.
    pub path: String,
    /// Beside `host` and the length, which are set by themselves.
    pub headers: HeaderMap,
    /// Empty for none.
    pub body: Bytes,
}

impl Request {
    /// GET without a body.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// Adds a header; a value that cannot stand in a header is an error of the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] for control characters. The value is marked sensitive: it is shown in no debug output.
    pub fn header(mut self, name: HeaderName, value: &str) -> Result<Self, Error> {
        let mut value =
            HeaderValue::from_str(value).map_err(|_| Error::Setting(format!("the value of {name} has control characters")))?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }

    /// A JSON body.
    #[must_use]
    pub fn json(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self
    }
}

/// What came back, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status, also of refusals: those are for the caller.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// At most [`MAX_BODY_BYTES`].
    pub body: Bytes,
}

impl Answer {
    /// A header as text, if it is there and is text.
    #[must_use]
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body's begin for an error message: one line, at most 200 characters.
    #[must_use]
    pub fn excerpt(&self) -> String {
        excerpt(&self.body)
    }
}

/// Begin of `bytes` as one printable line of at most 200 characters.
#[must_use]
pub fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..800).unwrap_or(bytes));
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect::<String>().trim().to_owned()
}

/// A connection and the task that drives it; the task ends with it.
struct Connection {
    send: SendRequest<Full<Bytes>>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Client of one origin.
pub struct Client {
    origin: Origin,
    tls: Option<TlsConnector>,
    kept: Mutex<Option<Connection>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Client {
    /// `base`: `http://host[:port]` or `https://host[:port]`, nothing behind it. `https` needs a [`Trust`]; `identity` is the client's own certificate.
    ///
    /// # Errors
    /// The address is none, a trust is missing, or a file cannot be read.
    pub fn new(base: &str, trust: Option<&Trust>, identity: Option<&Identity>) -> Result<Self, Error> {
        let origin = Origin::parse(base)?;
        let tls = match (origin.secure, trust) {
            (false, _) => None,
            (true, None) => {
                return Err(Error::Setting(format!("{origin}: https needs the file of an authority or a fingerprint")));
            }
            (true, Some(trust)) => Some(TlsConnector::from(Arc::new(tls::config(trust, identity)?))),
        };
        Ok(Self { origin, tls, kept: Mutex::new(None) })
    }

    /// Who is asked.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Sends and reads the whole answer within `limit`.
    ///
    /// # Errors
    /// See the crate's failure classes; an answer with any status is not an error.
    pub async fn send(&self, request: &Request, limit: Duration) -> Result<Answer, Error> {
        let mut kept = self.kept.lock().await;
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let late = || Error::TimedOut { origin: self.origin.to_string(), limit_ms };
        tokio::time::timeout(limit, self.exchange(&mut kept, request)).await.map_err(|_| late())?
    }

    /// The connection is put back only after a whole answer, so a dropped future leaves none that is half used.
    async fn exchange(&self, kept: &mut Option<Connection>, request: &Request) -> Result<Answer, Error> {
        if let Some(mut old) = kept.take()
            && old.send.ready().await.is_ok()
            && let Ok(answer) = self.once(&mut old, request).await
        {
            *kept = Some(old);
            return Ok(answer);
        }
        let mut new = self.connect().await?;
        let answer = self.once(&mut new, request).await?;
        *kept = Some(new);
        Ok(answer)
    }

    async fn once(&self, connection: &mut Connection, request: &Request) -> Result<Answer, Error> {
        let broken = |why: String| Error::Exchange { origin: self.origin.to_string(), why };
        let mut out = hyper::Request::new(Full::new(request.body.clone()));
        *out.method_mut() = request.method.clone();
        *out.uri_mut() = request.path.parse().map_err(|_| Error::Setting(format!("{:?} is no path", request.path)))?;
        *out.headers_mut() = request.headers.clone();
        let host =
            HeaderValue::from_str(&self.origin.authority()).map_err(|_| Error::Setting(format!("{} is no host", self.origin)))?;
        out.headers_mut().insert(HOST, host);
        let answer = connection.send.send_request(out).await.map_err(|e| broken(e.to_string()))?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(|e| broken(e.to_string()))?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let tcp = TcpStream::connect((self.origin.host.as_str(), self.origin.port)).await;
        let tcp = tcp.map_err(|why| Error::Connect { origin: self.origin.to_string(), why })?;
        tcp.set_nodelay(true).map_err(|why| Error::Connect { origin: self.origin.to_string(), why })?;
        match &self.tls {
            None => self.speak(tcp).await,
            Some(connector) => {
                let name = self.origin.server_name()?;
                let tls = connector.connect(name, tcp).await;
                self.speak(tls.map_err(|why| Error::Tls { origin: self.origin.to_string(), why })?).await
            }
        }
    }

    async fn speak(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Connection, Error> {
        let (send, driver) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(64 << 10)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| Error::Exchange { origin: self.origin.to_string(), why: e.to_string() })?;
        let driver = tokio::spawn(async move {
            // Its error is also told to whoever waits for the answer.
            drop(driver.await);
        });
        Ok(Connection { send, driver })
    }
}
