//! The session on a socket: moves bytes, keeps time, asks the backend.
//!
//! Contract: one task a connection; it ends when the session says so, when the peer is gone or silent, or at shutdown.
//! Replies of pipelined commands leave in one write. Memory of all messages on their way is bounded
//! ([`Settings::transit_max_bytes`]); an idle session holds no buffer.
//!
//! Failure classes: a broken connection ends its own session only and is told at debug level; everything that matters
//! to an operator is one line at info: a message taken, a transaction refused, a session of errors.

mod transit;

use crate::session::{BrokenLine, Bye, Event, Next, Session};
use crate::{Backend, Client, Filter, Limiter, Refusal, Settings, Tls};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use transit::{Held, Transit};
use twinpost_message::TraceId;
use twinpost_sasl::{Attempt, Bindings, Channel, authenticate};
use twinpost_wire::{Connection, LineEnds, ReadError, ServerTls, Stream, TlsError, WriteError};

/// For a client that is turned away before it has a session (`admit` of `twinpost_wire::serve`).
pub const BUSY: &[u8] = b"421 4.7.0 too many connections from your address, try again later\r\n";

/// Replies of a client that pipelines without reading are sent when they are this many.
const REPLIES_MAX_BYTES: usize = 16 << 10;

/// A client over its rate of commands is slowed down by up to this much a command, and sent away beyond.
const COMMAND_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long, and for how much, a session that ended in errors is read on.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_MAX_BYTES: usize = 1 << 20;

/// One listener's server, shared by its connections.
pub struct Server<B, F, L> {
    settings: std::sync::RwLock<Arc<Settings>>,
    tls: Option<ServerTls>,
    backend: Arc<B>,
    filter: Arc<F>,
    limiter: Arc<L>,
    transit: Transit,
    traces: AtomicU64,
}

/// Why a connection ended without goodbye.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the peer closed the connection")]
    Closed,
    #[error("a message took too long")]
    Slow,
}

impl<B: Backend, F: Filter, L: Limiter> Server<B, F, L> {
    /// A server with these rules. `tls` is for STARTTLS; a port with TLS from the start has it done before.
    #[must_use]
    pub fn new(settings: Settings, tls: Option<ServerTls>, backend: Arc<B>, filter: Arc<F>, limiter: Arc<L>) -> Self {
        let transit = Transit::new(settings.transit_max_bytes);
        // A random start, so that two nodes that begin in the same millisecond do not count alike.
        let start = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
        Self {
            settings: std::sync::RwLock::new(Arc::new(settings)),
            tls,
            backend,
            filter,
            limiter,
            transit,
            traces: AtomicU64::new(start),
        }
    }

    /// New rules, for sessions that begin from now on.
    pub fn set_settings(&self, settings: Settings) {
        self.transit.set_max(settings.transit_max_bytes);
        *self.settings.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(settings);
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// 42 bits of milliseconds and 22 of a counter: unique, and sorted by time.
    fn trace(&self, now: Duration) -> TraceId {
        let count = self.traces.fetch_add(1, Ordering::Relaxed) & ((1 << 22) - 1);
        let ms = u64::try_from(now.as_millis()).unwrap_or(0);
        TraceId(ms << 22 | count)
    }

    async fn ask_recipient(&self, session: &Session<B::Recipient>) -> Result<B::Recipient, Refusal> {
        let client: &Client = session.client();
        let (Some(envelope), Some(candidate)) = (session.envelope(), session.candidate()) else {
            return Err(Refusal::trouble());
        };
        let token = self.backend.recipient(client, &envelope.mail, candidate, session.tokens()).await?;
        self.filter.recipient(client, &envelope.mail, candidate).await?;
        if let Some(identity) = &client.identity {
            self.limiter.recipient(client.peer.ip(), identity).map_err(|after| later("too many recipients", after))?;
        }
        Ok(token)
    }

    /// Serves a connection of `twinpost_wire::serve` to its end.
    pub async fn connection<P: Send>(&self, connection: Connection<P>) {
        let Connection { stream, permit, stop } = connection;
        self.serve_connection(stream, stop).await;
        drop(permit);
    }

    /// Serves one connection to its end.
    pub async fn serve_connection(&self, stream: Stream, stop: CancellationToken) {
        let settings = self.settings();
        let tls_offered = self.tls.is_some() && !stream.is_tls();
        let peer = stream.peer_addr();
        let mut talk = Talk {
            server: self,
            session: Session::new(Arc::clone(&settings), peer, tls_offered),
            settings,
            stream,
            stop,
            out: Vec::new(),
            held: self.transit.share(),
        };
        if talk.stream.is_tls() {
            talk.tls_known();
        }
        let end = talk.run().await;
        if let (Err(broken), false, Some(envelope)) = (&end, talk.session.is_idle(), talk.session.envelope()) {
            // The sender will come again, but an operator looks for this when mail "does not arrive".
            let from = envelope.mail.sender.as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::info!(trace = %envelope.trace, from, %peer, "message broken off: {broken}");
        }
        talk.session.closed();
        talk.log();
        let counts = talk.session.counts();
        if let Err(broken) = &end {
            tracing::debug!(%peer, "session broken off: {broken}");
        }
        if counts.errors > 0 || counts.failed_sign_ins > 0 || counts.refused_recipients > 0 && counts.accepted == 0 {
            tracing::info!(
                %peer,
                helo = talk.session.client().helo,
                commands = counts.commands,
                errors = counts.errors,
                refused = counts.refused_recipients,
                failed_sign_ins = counts.failed_sign_ins,
                accepted = counts.accepted,
                "session with errors"
            );
        }
        // A peer that is gone needs no goodbye.
        if end.is_ok() {
            talk.stream.shutdown().await;
            if counts.errors > 0 {
                linger(&mut talk.stream).await;
            }
        }
    }
}

/// One connection.
struct Talk<'a, B: Backend, F, L> {
    server: &'a Server<B, F, L>,
    session: Session<B::Recipient>,
    settings: Arc<Settings>,
    stream: Stream,
    stop: CancellationToken,
    out: Vec<u8>,
    /// This session's share of the memory for messages.
    held: Held<'a>,
}

impl<B: Backend, F: Filter, L: Limiter> Talk<'_, B, F, L> {
    async fn run(&mut self) -> Result<(), Broken> {
        let mut next = self.session.greet(&mut self.out);
        loop {
            next = match next {
                Next::Line => self.line().await?,
                Next::Auth { mechanism, initial } => Box::pin(self.sign_in(mechanism, initial)).await?,
                Next::StartTls => {
                    let bytes_behind = !self.stream.buffered().is_empty();
                    self.session.start_tls(bytes_behind, &mut self.out)
                }
                Next::Handshake => Box::pin(self.handshake()).await?,
                Next::Mail => self.mail().await,
                Next::Recipient => self.recipient().await,
                Next::Stamp => {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    let unix_s = i64::try_from(now.as_secs()).unwrap_or(0);
                    self.session.stamp(unix_s, self.server.trace(now), &mut self.out)
                }
                Next::Data | Next::Chunk => Box::pin(self.text(next)).await?,
                Next::Authors(authors) => {
                    let answer = self.server.backend.may_send_as(self.session.client(), &authors).await;
                    self.session.authors_answer(answer, &mut self.out)
                }
                Next::Judge => self.judge().await,
                Next::Deliver => self.deliver().await,
                Next::Close => {
                    self.flush().await?;
                    return Ok(());
                }
            };
            if next == Next::Line {
                self.held.set(self.session.transit_bytes());
                self.log();
            }
        }
    }

    async fn line(&mut self) -> Result<Next, Broken> {
        let max_bytes = self.session.line_max_bytes();
        // Between two chunks of a message the client may go on for the grace time, as inside DATA.
        let idle = self.session.is_idle();
        if idle && self.stop.is_cancelled() {
            return Ok(self.session.bye(Bye::Shutdown, &mut self.out));
        }
        let line = if let Some(line) = self.stream.buffered_line(max_bytes, LineEnds::Strict) {
            // RFC 2920 3.2: replies wait while commands wait.
            if self.out.len() > REPLIES_MAX_BYTES {
                self.flush().await?;
            }
            line.map(Some)
        } else {
            self.flush().await?;
            let seconds = self.settings.command_timeout_s;
            let seconds = if self.stop.is_cancelled() { seconds.min(self.settings.shutdown_grace_s) } else { seconds };
            tokio::select! {
                biased;
                line = self.stream.read_line(max_bytes, LineEnds::Strict, Duration::from_secs(seconds)) => line,
                () = self.stop.cancelled(), if idle => return Ok(self.session.bye(Bye::Shutdown, &mut self.out)),
            }
        };
        let fault = match line {
            Ok(None) => return Err(Broken::Closed),
            Ok(Some(line)) => {
                if let Err(wait) = self.server.limiter.command(self.stream.peer_addr().ip()) {
                    if wait > COMMAND_WAIT_MAX {
                        return Ok(self.session.bye(Bye::Busy, &mut self.out));
                    }
                    self.flush().await?;
                    tokio::time::sleep(wait).await;
                }
                return Ok(self.session.line(&line, &mut self.out));
            }
            Err(ReadError::TimedOut) => return Ok(self.session.bye(Bye::Silence, &mut self.out)),
            Err(ReadError::LineTooLong { .. }) => BrokenLine::TooLong,
            Err(ReadError::BareLf) => BrokenLine::BareLf,
            Err(error) => return Err(error.into()),
        };
        Ok(self.session.broken_line(fault, &mut self.out))
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        if !self.out.is_empty() {
            self.stream.queue(&self.out);
            // An idle session holds no buffer.
            self.out = Vec::new();
        }
        self.stream.flush().await?;
        Ok(())
    }

    async fn sign_in(&mut self, mechanism: String, initial: Option<Vec<u8>>) -> Result<Next, Broken> {
        self.flush().await?;
        let peer = self.stream.peer_addr().ip();
        let guard = self.server.limiter.guard(peer);
        let attempt = Attempt {
            mechanism: &mechanism,
            initial: initial.as_deref(),
            private: self.session.is_private(),
            bindings: self.session.bindings().clone(),
            service: "smtp",
            peer,
        };
        let within = Duration::from_secs(self.settings.command_timeout_s);
        let max_bytes = self.settings.auth_line_max_bytes.saturating_sub(2);
        let mut channel = Challenges { stream: &mut self.stream, max_bytes, within };
        match authenticate(self.server.backend.accounts(), &guard, attempt, &mut channel).await {
            Ok(outcome) => Ok(self.session.signed_in(outcome, &mut self.out)),
            Err(Broken::Read(ReadError::LineTooLong { .. })) => Ok(self.session.broken_line(BrokenLine::TooLong, &mut self.out)),
            Err(Broken::Read(ReadError::BareLf)) => Ok(self.session.broken_line(BrokenLine::BareLf, &mut self.out)),
            Err(Broken::Read(ReadError::TimedOut)) => Ok(self.session.bye(Bye::Silence, &mut self.out)),
            Err(error) => Err(error),
        }
    }

    async fn handshake(&mut self) -> Result<Next, Broken> {
        self.flush().await?;
        let Some(tls) = &self.server.tls else { return Err(Broken::Closed) };
        let within = Duration::from_secs(self.settings.command_timeout_s.min(60));
        if let Err(error) = self.stream.start_tls(tls, within).await {
            if matches!(error, TlsError::Buffered) {
                tracing::info!(peer = %self.stream.peer_addr(), "commands behind STARTTLS in the clear: session ended");
            }
            return Err(error.into());
        }
        Ok(self.tls_known())
    }

    fn tls_known(&mut self) -> Next {
        let tls = self.stream.tls_info().map(|info| Tls { version: info.version.to_owned(), cipher: info.cipher });
        let bindings = Bindings { exporter: self.stream.channel_binding(), server_end_point: self.stream.server_end_point() };
        self.session.tls_started(tls.unwrap_or(Tls { version: "TLS".to_owned(), cipher: "unknown".to_owned() }), bindings)
    }

    async fn mail(&mut self) -> Next {
        let client = self.session.client();
        let Some(envelope) = self.session.envelope() else { return Next::Line };
        let answer = match self.server.limiter.message(client.peer.ip(), client.identity.as_ref()) {
            Ok(()) => self.server.backend.mail_from(client, &envelope.mail).await,
            Err(after) => Err(later("too many messages", after)),
        };
        self.session.mail_answer(answer, &mut self.out)
    }

    async fn recipient(&mut self) -> Next {
        let answer = self.server.ask_recipient(&self.session).await;
        self.session.recipient_answer(answer, &mut self.out)
    }

    /// Reads the text of a message: all of it after DATA, one chunk after BDAT.
    async fn text(&mut self, mut next: Next) -> Result<Next, Broken> {
        self.flush().await?;
        let block = Duration::from_secs(self.settings.data_block_timeout_s);
        let mut deadline = Instant::now() + Duration::from_secs(self.settings.data_total_timeout_s);
        let mut stopping = false;
        while matches!(next, Next::Data | Next::Chunk) {
            if self.stream.buffered().is_empty() {
                let read = tokio::select! {
                    biased;
                    read = timeout_at(deadline, self.stream.fill(block)) => read.map(|r| r.map(<[u8]>::is_empty)),
                    () = self.stop.cancelled(), if !stopping => {
                        stopping = true;
                        deadline = deadline.min(Instant::now() + Duration::from_secs(self.settings.shutdown_grace_s));
                        continue;
                    }
                };
                match read {
                    Err(_) if stopping => return Ok(self.session.bye(Bye::Shutdown, &mut self.out)),
                    Err(_) => {
                        self.session.bye(Bye::Silence, &mut self.out);
                        self.flush().await?;
                        return Err(Broken::Slow);
                    }
                    Ok(Err(ReadError::TimedOut)) => return Ok(self.session.bye(Bye::Silence, &mut self.out)),
                    Ok(Err(error)) => return Err(error.into()),
                    // RFC 5321 4.1.1.4: without its end there is no message.
                    Ok(Ok(true)) => return Err(Broken::Closed),
                    Ok(Ok(false)) => {}
                }
            }
            let input = self.stream.buffered();
            let (taken, then) = match next {
                Next::Data => self.session.data(input, &mut self.out),
                _ => self.session.chunk(input, &mut self.out),
            };
            self.stream.consume(taken);
            next = then;
            if !self.held.set(self.session.transit_bytes()) {
                self.session.no_room();
            }
        }
        Ok(next)
    }

    async fn judge(&mut self) -> Next {
        let Some(envelope) = self.session.envelope() else { return Next::Line };
        let verdict = self.server.filter.message(self.session.client(), envelope, self.session.message()).await;
        self.session.judged(verdict, &mut self.out)
    }

    async fn deliver(&mut self) -> Next {
        let (tokens, message) = self.session.take_delivery();
        let bytes = message.bytes.len();
        let Some(envelope) = self.session.envelope() else { return Next::Line };
        let outcome = self.server.backend.deliver(self.session.client(), envelope, tokens, message).await;
        self.session.delivered(outcome, bytes, &mut self.out)
    }

    /// One line tells what became of a message.
    fn log(&mut self) {
        if !self.session.has_events() {
            return;
        }
        let peer = self.stream.peer_addr();
        let client = self.session.client();
        let helo = client.helo.clone();
        let tls = client.tls.is_some();
        let account = client.identity.as_ref().map(|i| i.address.clone());
        for event in self.session.events() {
            match event {
                Event::Accepted { trace, from, to, bytes, refused } => {
                    tracing::info!(%trace, from, to, bytes, refused, %peer, helo, tls, account, "accepted");
                }
                Event::Refused { trace, from, to, reply, count } => {
                    let trace = (trace.0 != 0).then(|| tracing::field::display(trace));
                    tracing::info!(trace, from, to, %reply, count, %peer, helo, tls, account, "refused");
                }
                Event::SignedIn { address } => tracing::info!(account = address, %peer, helo, tls, "signed in"),
            }
        }
    }
}

fn later(what: &str, after: Duration) -> Refusal {
    Refusal::new(450, (7, 1), format!("{what} for now, try again in {} s", after.as_secs().max(1)))
}

/// Reads on a little after our last reply: a socket closed with unread data resets the connection, and the client would
/// never see why it was sent away.
async fn linger(stream: &mut Stream) {
    let deadline = Instant::now() + LINGER;
    let mut left_bytes = LINGER_MAX_BYTES;
    while let Ok(Ok(1..)) = timeout_at(deadline, async { stream.fill(LINGER).await.map(<[u8]>::len) }).await {
        let count = stream.buffered().len();
        stream.consume(count);
        left_bytes = left_bytes.saturating_sub(count);
        if left_bytes == 0 {
            break;
        }
    }
}

/// The lines of an AUTH exchange (RFC 4954 4).
struct Challenges<'a> {
    stream: &'a mut Stream,
    max_bytes: usize,
    within: Duration,
}

impl Channel for Challenges<'_> {
    type Error = Broken;
    async fn challenge(&mut self, base64: &str) -> Result<Vec<u8>, Broken> {
        self.stream.queue(b"334 ");
        self.stream.queue(base64.as_bytes());
        self.stream.queue(b"\r\n");
        self.stream.flush().await?;
        let line = self.stream.read_line(self.max_bytes, LineEnds::Strict, self.within).await?;
        Ok(line.ok_or(Broken::Closed)?.to_vec())
    }
}
