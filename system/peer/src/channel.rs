//! The channel itself: one connection in each direction, kept up for ever.
//!
//! Contract: [`Channel::start`] listens and connects; a call goes out over the own connection, is answered over it, and has a time limit. The
//! partner's requests come over its connection and go to the [`Handler`]. A connection that says nothing for four seconds though asked is given up;
//! a new one is tried for ever: at most a second apart while the partner answers frames ([`Channel::heard`]), at most 15 s apart otherwise.
//! Dropping the channel ends everything that it started.
//!
//! Failure classes: [`Error::Down`] (not sent), [`Error::Lost`] and [`Error::Late`] (maybe carried out), [`Error::Refused`] (not carried out).

mod client;
mod server;
mod transfer;

pub use transfer::{Fetched, Progress};

use crate::error::Error;
use crate::frame::MAX_FRAME_BYTES;
use crate::identity::Identity;
use crate::message::{Answer, Hello, OLDEST_PROTOCOL, PROTOCOL, Refusal, RefusalKind, Request};
use crate::pair::{About, FrameKeys, KeyStep, Letter, OtherKey};
use crate::secret::Secret;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Calls that may be under way at once.
pub const MAX_CALLS: usize = 64;

/// Where a channel listens and connects.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Own addresses, on eth1 and, if wished, on the LAN.
    pub listen: Vec<SocketAddr>,
    /// The partner's addresses, the preferred one first.
    pub partner: Vec<SocketAddr>,
    /// Own address to connect from, by default the system's choice.
    pub from: Option<IpAddr>,
    /// What this node tells about itself.
    pub about: About,
}

/// What the node does for its partner. A future is dropped when its connection ends or its time is over: work that must go on is spawned.
pub trait Handler: Send + Sync + 'static {
    /// Answers a request. Never called for what the channel answers itself ([`Request::Time`], [`Request::Version`], keys and files).
    fn answer(&self, request: Request) -> BoxFuture<'_, Result<Answer, Refusal>>;

    /// The file behind a name that the partner asks for. By default there are none.
    fn file(&self, name: String) -> BoxFuture<'_, Result<PathBuf, Refusal>> {
        let refusal = Refusal::new(RefusalKind::NotFound, format!("no file is offered as `{name}`"));
        Box::pin(std::future::ready(Err(refusal)))
    }
}

/// Whether calls can be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// No connection.
    Down {
        /// How the last attempt ended.
        why: String,
    },
    /// Connected.
    Up {
        /// What the partner told.
        hello: Hello,
        /// Which of its addresses.
        address: SocketAddr,
    },
}

/// What was refused and dropped since the start; each saturates in practice never.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) accepted: AtomicU64,
    pub(crate) strangers: AtomicU64,
    pub(crate) no_certificate: AtomicU64,
    pub(crate) version: AtomicU64,
    pub(crate) garbage: AtomicU64,
    pub(crate) slow: AtomicU64,
    pub(crate) crowd: AtomicU64,
    pub(crate) oversized: AtomicU64,
    pub(crate) mismatched: AtomicU64,
    pub(crate) unknown: AtomicU64,
    pub(crate) requests: AtomicU64,
}

/// A reading of [`Counters`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Connections of the partner.
    pub accepted: u64,
    /// Connections with a key that is not pinned.
    pub strangers: u64,
    /// Connections without a certificate.
    pub no_certificate: u64,
    /// Connections of TLS before 1.3, or of a protocol version without a common one.
    pub version: u64,
    /// Connections that spoke no TLS, or ended in the middle of the handshake.
    pub garbage: u64,
    /// Connections that took too long for the handshake, the hello or a frame.
    pub slow: u64,
    /// Connections beyond the number that is served at once.
    pub crowd: u64,
    /// Frames beyond the limit or with a wrong header, and messages that are no JSON.
    pub oversized: u64,
    /// Hellos of another cluster or of a node with this node's own letter.
    pub mismatched: u64,
    /// Requests that this version does not know.
    pub unknown: u64,
    /// Requests in all.
    pub requests: u64,
}

impl Counters {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            accepted: of(&self.accepted),
            strangers: of(&self.strangers),
            no_certificate: of(&self.no_certificate),
            version: of(&self.version),
            garbage: of(&self.garbage),
            slow: of(&self.slow),
            crowd: of(&self.crowd),
            oversized: of(&self.oversized),
            mismatched: of(&self.mismatched),
            unknown: of(&self.unknown),
            requests: of(&self.requests),
        }
    }
}

/// One message inside a frame.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Envelope {
    #[serde(default)]
    pub(crate) id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hello: Option<Hello>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) within_ms: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) answer: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<Refusal>,
}

impl Envelope {
    pub(crate) fn json(&self) -> Result<Bytes, Error> {
        serde_json::to_vec(self).map(Bytes::from).map_err(|e| Error::Answer(e.to_string()))
    }
}

pub(crate) type Answered = Result<(Answer, Bytes), Error>;

/// A call on its way to the client's task.
pub(crate) struct Call {
    pub(crate) request: Value,
    pub(crate) within_ms: u32,
    pub(crate) sent: Arc<AtomicBool>,
    pub(crate) done: oneshot::Sender<Answered>,
}

/// What client and server share.
pub(crate) struct Shared {
    pub(crate) identity: Arc<Identity>,
    pub(crate) settings: Settings,
    pub(crate) counters: Counters,
    pub(crate) state: watch::Sender<State>,
    pub(crate) heard: watch::Sender<bool>,
    calls: mpsc::UnboundedSender<Call>,
    places: Semaphore,
    /// One change of keys at a time.
    rotating: tokio::sync::Mutex<()>,
}

/// See the module.
pub struct Channel {
    shared: Arc<Shared>,
    listening: Vec<SocketAddr>,
    tasks: JoinSet<()>,
}

impl Channel {
    /// Listens, and connects for ever. An own address that is not there yet (a cable without carrier) is tried again in the background. Runs
    /// without a pair too: it waits until there is one.
    ///
    /// # Errors
    /// [`Error::Listen`] where an address is taken by another program; [`Error::Crypto`] where the key cannot be used.
    pub async fn start(identity: Arc<Identity>, settings: Settings, handler: Arc<dyn Handler>) -> Result<Self, Error> {
        let (calls, queue) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            identity,
            settings,
            counters: Counters::default(),
            state: watch::Sender::new(State::Down { why: "not connected yet".to_owned() }),
            heard: watch::Sender::new(false),
            calls,
            places: Semaphore::new(MAX_CALLS),
            rotating: tokio::sync::Mutex::new(()),
        });
        let server = Arc::new(server::Server::new(shared.clone(), handler)?);
        let client = client::Client::new(shared.clone(), queue)?;
        let (mut tasks, mut listening) = (JoinSet::new(), Vec::new());
        for &address in &shared.settings.listen {
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    listening.push(listener.local_addr().unwrap_or(address));
                    tasks.spawn(server.clone().serve(listener));
                }
                Err(source) if source.kind() == std::io::ErrorKind::AddrNotAvailable => {
                    tracing::warn!(%address, "this address is not there yet, waiting for it");
                    tasks.spawn(server.clone().serve_when_there(address));
                }
                Err(source) => return Err(Error::Listen { address, source }),
            }
        }
        tasks.spawn(client.run());
        Ok(Self { shared, listening, tasks })
    }

    /// Asks the partner, with the usual time limit of the request. Waits for the connection within it.
    ///
    /// # Errors
    /// As the module says.
    pub async fn call(&self, request: Request) -> Result<Answer, Error> {
        let limit = request.limit();
        self.call_within(request, limit).await
    }

    /// Asks the partner.
    ///
    /// # Errors
    /// As the module says.
    pub async fn call_within(&self, request: Request, limit: Duration) -> Result<Answer, Error> {
        self.shared.ask(&request, limit).await.map(|(answer, _)| answer)
    }

    /// Ends everything and waits until the addresses are free again. Dropping does the same without waiting.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
    }

    /// Tells the channel whether the partner's frames come: while they do, a lost connection is tried again at least every second, and
    /// when they come again, at once.
    pub fn heard(&self, yes: bool) {
        self.shared.heard.send_if_modified(|now| std::mem::replace(now, yes) != yes);
    }

    /// Whether calls can be made, with every change.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// What was refused so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counters.read()
    }

    /// Addresses on which it listens, with the ports that the system chose.
    #[must_use]
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// Changes the key of the heartbeat frames on both nodes without a gap. Node a drives; on node b this asks node a. An interrupted change is finished
    /// first. [`Identity::watch`] tells both daemons of each step.
    ///
    /// # Errors
    /// As for calls; [`Error::File`] where a step does not get onto the disk. Either way both nodes still understand each other.
    pub async fn rotate_keys(&self) -> Result<FrameKeys, Error> {
        self.shared.rotate_keys().await
    }
}

impl Shared {
    pub(crate) fn hello(&self, cluster: u32, node: Letter) -> Hello {
        Hello { protocol: PROTOCOL, oldest: OLDEST_PROTOCOL, cluster, node, about: self.settings.about.clone() }
    }

    pub(crate) async fn ask(&self, request: &Request, limit: Duration) -> Answered {
        let Ok(_place) = self.places.try_acquire() else { return Err(Error::Busy { limit: MAX_CALLS }) };
        let request = serde_json::to_value(request).map_err(|e| Error::Answer(e.to_string()))?;
        // The envelope adds less than this around it.
        let bytes = request.to_string().len() + 256;
        if bytes > MAX_FRAME_BYTES {
            return Err(Error::TooLarge { bytes, limit: MAX_FRAME_BYTES });
        }
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let end = Instant::now() + limit;
        let mut state = self.state.subscribe();
        loop {
            let up = timeout_at(end, state.wait_for(|state| matches!(state, State::Up { .. }))).await.is_ok();
            if !up {
                return Err(self.down());
            }
            let (done, answer) = oneshot::channel();
            let sent = Arc::new(AtomicBool::new(false));
            let left = end.saturating_duration_since(Instant::now());
            let within_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
            self.calls.send(Call { request: request.clone(), within_ms, sent: sent.clone(), done }).map_err(|_| self.down())?;
            match timeout_at(end, answer).await {
                // It was in the queue when the connection ended: nothing has happened yet.
                Ok(Ok(Err(Error::Down { .. }))) => {}
                Ok(Ok(answered)) => return answered,
                Ok(Err(_)) => return Err(Error::Down { why: "the channel was closed".to_owned() }),
                Err(_) if sent.load(Ordering::Acquire) => return Err(Error::Late { limit_ms }),
                Err(_) => return Err(self.down()),
            }
        }
    }

    fn down(&self) -> Error {
        let why = match &*self.state.borrow() {
            State::Down { why } => why.clone(),
            State::Up { .. } => "it was interrupted just now".to_owned(),
        };
        Error::Down { why }
    }

    async fn step(&self, step: KeyStep) -> Result<(), Error> {
        let request = Request::Keys(step);
        let limit = request.limit();
        self.ask(&request, limit).await.map(|_| ())
    }

    async fn own_step(&self, step: KeyStep) -> Result<FrameKeys, Error> {
        let identity = self.identity.clone();
        blocking(move || identity.change_keys(&step)).await
    }

    pub(crate) async fn rotate_keys(&self) -> Result<FrameKeys, Error> {
        let _one = self.rotating.lock().await;
        let pair = self.identity.pair().ok_or(Error::NotPaired)?;
        if pair.node == Letter::B {
            let request = Request::RotateKeys;
            self.ask(&request, Duration::from_secs(60)).await?;
            return self.identity.pair().map(|pair| pair.keys).ok_or(Error::NotPaired);
        }
        let mut keys = pair.keys;
        // A change that stopped after we began to sign with the new key: the partner may be at any step of it.
        if keys.other.as_ref().is_some_and(|other| other.epoch < keys.epoch) {
            keys = self.finish_rotation(&keys).await?;
        }
        let next = match keys.other.take() {
            Some(next) => next,
            None => OtherKey { epoch: keys.epoch.saturating_add(1), key: Secret::new()? },
        };
        self.own_step(KeyStep::Accept(next.clone())).await?;
        self.step(KeyStep::Accept(next.clone())).await?;
        // Both accept it now; from here on it does not matter who signs with which.
        let keys = self.own_step(KeyStep::Use { epoch: next.epoch }).await?;
        self.finish_rotation(&keys).await
    }

    async fn finish_rotation(&self, keys: &FrameKeys) -> Result<FrameKeys, Error> {
        let epoch = keys.epoch;
        self.step(KeyStep::Use { epoch }).await?;
        let keys = self.own_step(KeyStep::Forget { epoch }).await?;
        self.step(KeyStep::Forget { epoch }).await?;
        tracing::info!(epoch, "frame keys changed on both nodes");
        Ok(keys)
    }
}

/// Runs what waits for the disk where it holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(why) => Err(Error::Answer(format!("the work was given up: {why}"))),
    }
}

#[cfg(test)]
mod tests;
