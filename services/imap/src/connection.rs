//! One connection: reading commands, and the commands that concern the connection itself.
//!
//! Contract: [`Link::run`] serves a client to its end and never panics. While it waits, it holds no buffer: the stream gives
//! its own back, commands run in boxed futures that are gone by then. Failure classes: the client (answered, or BYE), the
//! connection (ends silently), the server's stop (BYE).

mod authenticate;
mod idle;
mod upload;

use crate::backend::Backend;
use crate::codec::ast::{Command, CommandError, ErrorKind, Request};
use crate::codec::frame::{FrameLimits, Framer, Step};
use crate::codec::parse;
use crate::server::{Seat, Shared};
use crate::session::answer::{Answer, Status, Stop, plain_text};
use crate::session::capability::{self, Connection};
use crate::session::out::{Out, Sink};
use crate::session::{Session, gone};
use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use twinpost_sasl::{Accounts, Bindings};
use twinpost_wire::{ReadError, Stream, TlsError};

/// A client and its session.
pub(crate) struct Link<B, A> {
    shared: Arc<Shared<B, A>>,
    stream: Stream,
    stop: CancellationToken,
    framer: Framer,
    session: Session<B>,
    seat: Option<Seat<B, A>>,
    began: Instant,
    bad_commands: u32,
    auth_failures: u32,
}

/// What a command leaves to be done.
enum After {
    Nothing,
    /// IDLE began under this tag.
    Idle(String),
    /// The session is over; BYE was said.
    End,
}

type Ran<T> = Result<T, Stop>;

impl<B: Backend, A: Accounts + 'static> Link<B, A> {
    pub fn new(shared: Arc<Shared<B, A>>, mut stream: Stream, stop: CancellationToken) -> Self {
        let settings = shared.settings();
        stream.set_write_timeout(settings.write_timeout);
        let limit = settings.command_max_before_auth_bytes;
        let session = Session::new(Arc::clone(&shared.backend), settings);
        let framer = Framer::new(FrameLimits { command_max_bytes: limit, literal_max_bytes: limit as u64 });
        Self { shared, stream, stop, framer, session, seat: None, began: Instant::now(), bad_commands: 0, auth_failures: 0 }
    }

    /// Serves the client.
    pub async fn run(mut self) {
        let capabilities = self.capabilities();
        let greeting = format!(
            "* OK [CAPABILITY {capabilities}] {} {} ready\r\n",
            self.session.settings.host, self.session.settings.product
        );
        self.stream.queue(greeting.as_bytes());
        let end = self.serve().await;
        if let Err(Stop::Bye(code, text)) = &end {
            self.say_bye(*code, text);
        }
        let account = self.session.account.as_ref().map(|a| Arc::clone(&a.address));
        match end {
            Err(Stop::Io(error)) => {
                tracing::debug!(peer = %self.stream.peer_addr(), account = account.as_deref(), %error, "IMAP connection lost");
            }
            _ => Box::pin(self.stream.shutdown()).await,
        }
    }

    async fn serve(&mut self) -> Ran<()> {
        loop {
            match self.framer.advance(self.stream.buffered()) {
                Step::More => self.wait().await?,
                Step::Continue => self.stream.queue(b"+ Go on\r\n"),
                Step::Skip { len_bytes } => self.stream.consume(len_bytes),
                Step::Refused { tag, kind } => {
                    let message = "The command or a literal in it is too long".to_owned();
                    self.refuse(&CommandError { tag, kind, message })?;
                }
                Step::Message { head_bytes, literal } => {
                    let head = self.stream.take(head_bytes);
                    Box::pin(self.upload(&head, literal)).await?;
                }
                Step::Complete { len_bytes } => {
                    let bytes = self.stream.take(len_bytes);
                    match Box::pin(self.command(&bytes)).await? {
                        After::Nothing => {}
                        After::Idle(tag) => {
                            drop(bytes);
                            self.idle(tag).await?;
                        }
                        After::End => return Ok(()),
                    }
                }
            }
        }
    }

    /// Sends what is queued and waits for the client, telling news meanwhile if NOTIFY asked for it.
    async fn wait(&mut self) -> Ran<()> {
        Sink::flush(&mut self.stream).await?;
        let within = self.patience()?;
        if self.session.notify.is_none() {
            let stop = self.stop.clone();
            return tokio::select! {
                biased;
                read = self.stream.fill_more(within) => self.read(read),
                () = stop.cancelled() => Err(closing()),
            };
        }
        self.wait_with_news(within).await
    }

    /// How long the client may be silent.
    fn patience(&self) -> Ran<Duration> {
        let settings = &self.session.settings;
        if self.session.account.is_none() {
            // A client that never signs in has one time-out for all.
            let left = settings.auth_timeout.saturating_sub(self.began.elapsed());
            return if left.is_zero() { Err(too_slow()) } else { Ok(left) };
        }
        Ok(if self.framer.is_fresh() && self.stream.buffered().is_empty() {
            settings.idle_timeout
        } else {
            settings.transfer_timeout
        })
    }

    fn read(&self, read: Result<bool, ReadError>) -> Ran<()> {
        match read {
            Ok(true) => Ok(()),
            Ok(false) => Err(gone(io::ErrorKind::UnexpectedEof)),
            // RFC 9051 5.4
            Err(ReadError::TimedOut) => Err(too_slow()),
            Err(ReadError::Io(error)) => Err(Stop::Io(error)),
            Err(_) => Err(gone(io::ErrorKind::InvalidData)),
        }
    }

    async fn command(&mut self, bytes: &[u8]) -> Ran<After> {
        if let Err(refused) = self.shared.limiter.commands(self.stream.peer_addr().ip(), 1) {
            // Slowed down, not refused: a client in a loop hurts only itself.
            Sink::flush(&mut self.stream).await?;
            tokio::select! {
                () = tokio::time::sleep(refused.retry_after.min(Duration::from_secs(10))) => {}
                () = self.stop.cancelled() => return Err(closing()),
            }
        }
        let command = match parse::parse(bytes, self.session.modes.utf8) {
            Ok(command) => command,
            Err(error) => {
                self.refuse(&error)?;
                return Ok(After::Nothing);
            }
        };
        let Command { tag, request } = command;
        let signed_in = self.session.account.is_some();
        match request {
            Request::Capability => {
                let text = format!("* CAPABILITY {}\r\n", self.capabilities());
                self.stream.queue(text.as_bytes());
                self.end_command(&tag, Answer::ok("Done")).await?;
            }
            Request::Logout => {
                // RFC 9051 6.1.3
                self.say_bye(None, "Goodbye");
                self.answer(&tag, &Answer::ok("Signed out"));
                return Ok(After::End);
            }
            Request::StartTls if !signed_in => self.start_tls(&tag).await?,
            Request::Login { user, password } if !signed_in => Box::pin(self.login(&tag, &user, password)).await?,
            Request::Authenticate { mechanism, initial } if !signed_in => {
                Box::pin(self.authenticate(&tag, &mechanism, initial)).await?;
            }
            Request::StartTls | Request::Login { .. } | Request::Authenticate { .. } => {
                self.answer(&tag, &Answer::bad("You are signed in already"));
            }
            Request::Idle if signed_in => return Ok(After::Idle(tag)),
            Request::Compress(mechanism) if signed_in => self.compress(&tag, &mechanism).await?,
            Request::Idle | Request::Compress(_) => self.answer(&tag, &Answer::bad("Sign in first")),
            request => {
                let mut out = Out::new(&mut self.stream, self.session.settings.chunk_bytes);
                self.session.run(Command { tag, request }, &mut out).await?;
                out.finish();
                // A pipelining client that does not read costs no more than a chunk.
                if self.stream.queued_bytes() > self.session.settings.chunk_bytes {
                    Sink::flush(&mut self.stream).await?;
                }
            }
        }
        self.bad_commands = 0;
        Ok(After::Nothing)
    }

    /// News of the mailbox, then the tagged answer, for a command that was done here.
    async fn end_command(&mut self, tag: &str, answer: Answer) -> Ran<()> {
        let mut out = Out::new(&mut self.stream, self.session.settings.chunk_bytes);
        self.session.finish(tag, Ok(answer), true, &mut out).await?;
        out.finish();
        Ok(())
    }

    fn answer(&mut self, tag: &str, answer: &Answer) {
        let mut line = Vec::new();
        answer.write(tag, &mut line);
        self.stream.queue(&line);
    }

    /// A command that was not understood.
    fn refuse(&mut self, error: &CommandError) -> Ran<()> {
        let text = error.message.clone();
        let answer = match error.kind {
            ErrorKind::Syntax => Answer::bad(text),
            // RFC 9051 6.4.4
            ErrorKind::BadCharset => Answer::no("BADCHARSET (US-ASCII UTF-8)", text),
            ErrorKind::Limit => Answer::no("LIMIT", text),
            ErrorKind::Cannot => Answer::no("CANNOT", text),
            ErrorKind::TooBig => Answer::no("TOOBIG", text),
        };
        self.answer(error.tag.as_deref().unwrap_or("*"), &answer);
        if answer.status == Status::Bad {
            self.bad_commands += 1;
            if self.bad_commands >= self.session.settings.bad_commands_max {
                tracing::info!(peer = %self.stream.peer_addr(), "IMAP connection closed: too many wrong commands");
                return Err(Stop::Bye(None, Cow::Borrowed("Too many wrong commands")));
            }
        }
        Ok(())
    }

    fn say_bye(&mut self, code: Option<&str>, text: &str) {
        let mut line = b"* BYE ".to_vec();
        if let Some(code) = code {
            line.extend_from_slice(format!("[{code}] ").as_bytes());
        }
        plain_text(text, &mut line);
        line.extend_from_slice(b"\r\n");
        self.stream.queue(&line);
    }

    // ---- the connection itself

    fn connection(&self) -> Connection {
        let tls = self.stream.is_tls();
        let allowed = self.session.settings.plain_text_sign_in;
        Connection {
            tls,
            can_start_tls: self.shared.tls.is_some(),
            private: tls || allowed,
            compressed: self.stream.is_compressed(),
        }
    }

    fn bindings(&self) -> Bindings {
        Bindings { exporter: self.stream.channel_binding(), server_end_point: self.stream.server_end_point() }
    }

    fn capabilities(&self) -> String {
        let limit = self.session.account.as_ref().map(|a| a.append_limit_bytes);
        capability::list(&self.session.settings, self.connection(), &self.bindings(), limit)
    }

    /// RFC 9051 6.2.1.
    async fn start_tls(&mut self, tag: &str) -> Ran<()> {
        let Some(tls) = self.shared.tls.clone().filter(|_| !self.stream.is_tls()) else {
            self.answer(tag, &Answer::bad("TLS cannot be started here"));
            return Ok(());
        };
        if !self.stream.buffered().is_empty() {
            // Commands behind STARTTLS in plain text may be somebody else's (CVE-2011-0411): nothing of them is done.
            tracing::warn!(peer = %self.stream.peer_addr(), "data in plain text behind STARTTLS");
            self.answer(tag, &Answer::bad("Nothing may follow STARTTLS before the handshake"));
            return Err(Stop::Bye(None, Cow::Borrowed("Data in plain text behind STARTTLS")));
        }
        self.answer(tag, &Answer::ok("Begin TLS"));
        let within = self.patience()?;
        match Box::pin(self.stream.start_tls(&tls, within)).await {
            Ok(()) => Ok(()),
            Err(TlsError::Write(error)) => Err(Stop::Io(io::Error::other(error))),
            Err(error) => Err(Stop::Io(io::Error::other(error))),
        }
    }

    /// RFC 4978.
    async fn compress(&mut self, tag: &str, mechanism: &str) -> Ran<()> {
        if mechanism != "DEFLATE" || !self.session.settings.compress {
            self.answer(tag, &Answer::bad("Only DEFLATE is known here"));
        } else if self.stream.is_compressed() {
            self.answer(tag, &Answer::no("COMPRESSIONACTIVE", "It is on already"));
        } else {
            self.end_command(tag, Answer::ok("Compressed from here on")).await?;
            self.stream.start_deflate().await.map_err(|e| Stop::Io(io::Error::other(e)))?;
        }
        Ok(())
    }
}

fn closing() -> Stop {
    Stop::Bye(Some("UNAVAILABLE"), Cow::Borrowed("The server is going down"))
}

fn too_slow() -> Stop {
    Stop::Bye(None, Cow::Borrowed("Nothing came for too long"))
}
