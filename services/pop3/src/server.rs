//! The session over a connection.

use crate::output::{self, Sink};
use crate::session::{Action, LINE_MAX_BYTES, Session};
use crate::{Backend, BackendError, Maildrop, READ_AHEAD_MESSAGES, Settings};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use twinpost_limits::{Limiter, Permit, Protocol};
use twinpost_message::{BodyId, MailboxId, Uid};
use twinpost_sasl::{Attempt, Bindings, Channel, Identity, Outcome, authenticate, sign_in};
use twinpost_wire::{Connection, Endpoint, LineEnds, ReadError, ServeSettings, ServerTls, Stream, TlsError, WriteError, serve};

/// Answers gathered before they are sent, in bytes.
const GATHER_BYTES: usize = 128 * 1024;
/// Bytes of messages fetched from the backend before the client asks for them.
const READ_AHEAD_BYTES: u64 = 512 * 1024;
/// RFC 4954 4, which RFC 5034 follows: longest answer to a challenge.
const AUTH_LINE_MAX_BYTES: usize = 12_288;

/// A POP3 server.
pub struct Server<B> {
    backend: Arc<B>,
    limiter: Limiter,
    settings: RwLock<Arc<Settings>>,
    tls: Option<ServerTls>,
}

/// Why a session ended before its time. Nobody is there to be told.
enum Lost {
    Read(ReadError),
    Write(WriteError),
    Tls(TlsError),
}
impl From<ReadError> for Lost {
    fn from(e: ReadError) -> Self {
        Self::Read(e)
    }
}
impl From<WriteError> for Lost {
    fn from(e: WriteError) -> Self {
        Self::Write(e)
    }
}
impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(e) => e.fmt(f),
            Self::Write(e) => e.fmt(f),
            Self::Tls(e) => e.fmt(f),
        }
    }
}

impl<B: Backend> Server<B> {
    /// A server. `tls`: for STLS, and for [`Server::serve`] with TLS from the first byte.
    #[must_use]
    pub fn new(backend: Arc<B>, limiter: Limiter, settings: Settings, tls: Option<ServerTls>) -> Arc<Self> {
        Arc::new(Self { backend, limiter, settings: RwLock::new(Arc::new(settings)), tls })
    }

    /// New rules, for sessions that begin from now on.
    pub fn set_settings(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Serves an endpoint until `stop`. `serve_settings.tls` makes it a POP3S endpoint (RFC 8314 3.2).
    pub async fn serve(self: Arc<Self>, endpoint: Endpoint, serve_settings: ServeSettings, stop: CancellationToken) {
        let limiter = self.limiter.clone();
        let admit = move |peer: std::net::SocketAddr| {
            limiter
                .connect(Protocol::Pop3, peer.ip())
                .map_err(|refused| Some(Bytes::from(format!("-ERR [SYS/TEMP] {refused}\r\n"))))
        };
        let handle = move |connection: Connection<Permit>| {
            let server = self.clone();
            async move {
                let Connection { stream, permit, stop } = connection;
                server.connection(stream, &stop).await;
                drop(permit);
            }
        };
        serve(endpoint, serve_settings, stop, admit, handle).await;
    }

    /// One connection, to its end.
    pub async fn connection(&self, mut stream: Stream, stop: &CancellationToken) {
        let settings = Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner));
        stream.set_write_timeout(settings.write);
        let mut talk = Talk {
            server: self,
            session: Session::new(settings, self.tls.is_some() && !stream.is_tls()),
            stream,
            maildrop: None,
            ahead: VecDeque::new(),
            retrieved: 0,
            unseen: Vec::new(),
            deleted: 0,
            bytes: 0,
        };
        let ended = talk.run(stop).await;
        talk.mark_seen().await;
        talk.unlock();
        talk.stream.shutdown().await;
        if talk.session.is_sent_away() {
            talk.stream.linger().await;
        }
        talk.log(ended.err());
    }
}

struct Talk<'a, B: Backend> {
    server: &'a Server<B>,
    session: Session,
    stream: Stream,
    maildrop: Option<Open<B>>,
    /// Bodies fetched ahead of the client.
    ahead: VecDeque<(BodyId, Result<Bytes, BackendError>)>,
    retrieved: u32,
    /// UIDs of the messages fetched whole, to be marked at the end.
    unseen: Vec<Uid>,
    deleted: usize,
    bytes: u64,
}

/// A maildrop of this session.
struct Open<B: Backend> {
    identity: Identity,
    mailbox: MailboxId,
    /// The lock of the maildrop: lives with the session, and is given back before the client hears the last word, so
    /// that it can come again at once.
    guard: Option<B::Guard>,
}

impl<B: Backend> Talk<'_, B> {
    async fn run(&mut self, stop: &CancellationToken) -> Result<(), Lost> {
        if self.stream.is_tls() {
            self.session.tls_started(bindings(&self.stream));
        }
        let greeting = self.session.greeting();
        self.stream.queue(greeting.as_bytes());
        loop {
            let line = match self.stream.buffered_line(LINE_MAX_BYTES, LineEnds::Tolerant) {
                // RFC 2449 6.6: answers to pipelined commands go together
                Some(line) => {
                    if self.stream.queued_bytes() >= GATHER_BYTES {
                        self.stream.flush().await?;
                    }
                    line.map(Some)
                }
                None => {
                    self.stream.flush().await?;
                    let idle =
                        if self.session.is_open() { self.session.settings().idle } else { self.session.settings().sign_in_idle };
                    tokio::select! {
                        line = self.stream.read_line(LINE_MAX_BYTES, LineEnds::Tolerant, idle) => line,
                        () = stop.cancelled() => {
                            self.stream.queue(b"-ERR [SYS/TEMP] the server is shutting down\r\n");
                            return Ok(());
                        }
                    }
                }
            };
            let action = match line {
                Ok(Some(line)) => {
                    if let Err(refused) = self.server.limiter.commands(self.stream.peer_addr().ip(), 1) {
                        self.stream.flush().await?;
                        tokio::time::sleep(refused.retry_after.min(Duration::from_secs(5))).await;
                    }
                    self.session.line(&line)
                }
                Ok(None) => return Ok(()),
                Err(error) if error.is_recoverable() => self.session.too_long(),
                Err(ReadError::TimedOut) => {
                    // RFC 1939 3: closes without a word and without UPDATE; a word helps whoever reads the log.
                    self.stream.queue(b"-ERR idle for too long\r\n");
                    return Err(ReadError::TimedOut.into());
                }
                Err(error) => return Err(error.into()),
            };
            if self.act(action).await? {
                return Ok(());
            }
        }
    }

    async fn mark_seen(&mut self) {
        self.unseen.sort_unstable();
        self.unseen.dedup();
        let (Some(open), false) = (&self.maildrop, self.unseen.is_empty()) else { return };
        if let Err(error) = Box::pin(self.server.backend.seen(&open.identity, open.mailbox, &self.unseen)).await {
            tracing::warn!(account = %open.identity.address, "messages fetched by POP3 cannot be marked as seen: {error}");
        }
    }

    fn unlock(&mut self) {
        if let Some(open) = &mut self.maildrop {
            drop(open.guard.take());
        }
    }

    /// `true`: the session is over; what is queued still has to be sent.
    async fn act(&mut self, action: Action) -> Result<bool, Lost> {
        let action = match action {
            Action::SignIn { user, password } => {
                let (peer, server) = (self.stream.peer_addr().ip(), self.server);
                self.stream.flush().await?;
                let guard = server.limiter.guard(peer).telling("pop3");
                let outcome = Box::pin(sign_in(&*server.backend, &guard, &user, &password, "pop3", peer)).await;
                self.signed_in(outcome).await
            }
            Action::Auth { mechanism, initial } => {
                let (peer, server) = (self.stream.peer_addr().ip(), self.server);
                let attempt = Attempt {
                    mechanism: &mechanism,
                    initial: initial.as_deref(),
                    private: self.session.is_private(),
                    bindings: self.session.bindings().clone(),
                    service: "pop3",
                    peer,
                };
                let guard = server.limiter.guard(peer).telling("pop3");
                let mut channel = Challenges { stream: &mut self.stream, within: self.session.settings().sign_in_idle };
                let outcome = Box::pin(authenticate(&*server.backend, &guard, attempt, &mut channel)).await?;
                self.signed_in(outcome).await
            }
            Action::StartTls(text) => {
                let Some(tls) = &self.server.tls else { return Ok(true) };
                if !self.stream.buffered().is_empty() {
                    // Commands behind STLS in plain text may be somebody else's (CVE-2011-0411): nothing of them is done.
                    tracing::warn!(peer = %self.stream.peer_addr(), "data in plain text behind STLS");
                    self.stream.queue(b"-ERR nothing may follow STLS before the handshake\r\n");
                    return Ok(true);
                }
                self.stream.queue(text.as_bytes());
                Box::pin(self.stream.start_tls(tls, self.session.settings().handshake)).await.map_err(Lost::Tls)?;
                self.session.tls_started(bindings(&self.stream));
                return Ok(false);
            }
            other => other,
        };
        match action {
            Action::Reply(text) => self.stream.queue(text.as_bytes()),
            Action::Retrieve { seq, uid, body, size_bytes, lines } => self.retrieve((seq, uid), body, size_bytes, lines).await,
            Action::Expunge(uids) => {
                let result = match &self.maildrop {
                    Some(open) => Box::pin(self.server.backend.expunge(&open.identity, open.mailbox, &uids)).await,
                    None => Ok(()),
                };
                match &result {
                    Ok(()) => {
                        self.deleted = uids.len();
                        // `uids` are in rising order: the session goes through its marks in the order of numbers.
                        self.unseen.retain(|uid| uids.binary_search(uid).is_err());
                    }
                    Err(error) => {
                        let (peer, messages) = (self.stream.peer_addr(), uids.len());
                        tracing::error!(%peer, messages, "POP3 QUIT cannot remove what was deleted: {error}");
                    }
                }
                self.stream.queue(Session::expunged(&result).as_bytes());
                return Ok(true);
            }
            Action::Close(text) => {
                self.stream.queue(text.as_bytes());
                return Ok(true);
            }
            Action::SignIn { .. } | Action::Auth { .. } | Action::StartTls(_) => {}
        }
        Ok(false)
    }

    async fn signed_in(&mut self, outcome: Outcome) -> Action {
        let Outcome::Accepted(identity) = outcome else { return self.session.refused(&outcome) };
        match Box::pin(self.server.backend.open(&identity)).await {
            Ok(maildrop) => {
                let text = self.session.opened(maildrop.snapshot.clone());
                let Maildrop { guard, mailbox, .. } = maildrop;
                self.maildrop = Some(Open { identity, mailbox, guard: Some(guard) });
                Action::Reply(text.into())
            }
            Err(error) => {
                if let BackendError::Unavailable(why) = &error {
                    tracing::error!(account = %identity.address, "the maildrop cannot be opened: {why}");
                }
                self.session.not_opened(&error)
            }
        }
    }

    async fn retrieve(&mut self, (seq, uid): (u32, Uid), body: BodyId, size_bytes: u32, lines: Option<u32>) {
        match self.body(seq, body, lines.is_some()).await {
            Ok(bytes) => {
                let part = match lines {
                    Some(lines) => bytes.slice(..output::top(&bytes, lines)),
                    None => bytes,
                };
                match lines {
                    None => self.stream.queue(format!("+OK {size_bytes} octets\r\n").as_bytes()),
                    Some(_) => self.stream.slice(b"+OK\r\n"),
                }
                output::message(&part, &mut self.stream);
                if lines.is_none() {
                    self.retrieved += 1;
                    self.unseen.push(uid);
                }
                self.bytes += part.len() as u64;
            }
            Err(error) => {
                if !matches!(error, BackendError::Gone) {
                    tracing::error!(message = seq, body = %body, "POP3 cannot read a message: {error}");
                }
                self.stream.queue(Session::not_read(&error).as_bytes());
            }
        }
    }

    /// The body, fetched together with those that the client will most likely ask for next.
    async fn body(&mut self, seq: u32, body: BodyId, alone: bool) -> Result<Bytes, BackendError> {
        if let Some(at) = self.ahead.iter().position(|(id, _)| *id == body) {
            // Those before it were passed over.
            self.ahead.drain(..at);
            if let Some((_, result)) = self.ahead.pop_front() {
                return result;
            }
        }
        let mut wanted = vec![body];
        let mut room = READ_AHEAD_BYTES;
        if !alone {
            for entry in self.session.following(seq).take(READ_AHEAD_MESSAGES - 1) {
                let Some(left) = room.checked_sub(u64::from(entry.size_bytes)) else { break };
                room = left;
                wanted.push(entry.body);
            }
        }
        let fetched = Box::pin(self.server.backend.bodies(&wanted)).await;
        self.ahead = wanted.into_iter().zip(fetched).collect();
        match self.ahead.pop_front() {
            Some((_, result)) => result,
            None => Err(BackendError::Unavailable("the store gave no answer".to_owned())),
        }
    }

    fn log(&self, lost: Option<Lost>) {
        let peer = self.stream.peer_addr();
        let end = lost.map_or_else(|| "closed".to_owned(), |l| l.to_string());
        let Some(open) = &self.maildrop else {
            tracing::debug!(%peer, end, "pop3 without sign-in");
            return;
        };
        let tls = self.stream.tls_info().map_or("none", |t| t.version);
        tracing::info!(
            account = %open.identity.address, %peer, tls, retrieved = self.retrieved, bytes = self.bytes,
            deleted = self.deleted, end, "pop3 session"
        );
    }
}

fn bindings(stream: &Stream) -> Bindings {
    Bindings { exporter: stream.channel_binding(), server_end_point: stream.server_end_point() }
}

/// RFC 5034 4: challenges are lines with `+ ` before them.
struct Challenges<'a> {
    stream: &'a mut Stream,
    within: Duration,
}

impl Channel for Challenges<'_> {
    type Error = Lost;
    async fn challenge(&mut self, base64: &str) -> Result<Vec<u8>, Lost> {
        self.stream.queue(b"+ ");
        self.stream.queue(base64.as_bytes());
        self.stream.queue(b"\r\n");
        self.stream.flush().await?;
        match self.stream.read_line(AUTH_LINE_MAX_BYTES, LineEnds::Tolerant, self.within).await? {
            Some(line) => Ok(line.to_vec()),
            None => Err(ReadError::Truncated.into()),
        }
    }
}
