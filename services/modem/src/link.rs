//! The port and the engine together: bytes pumped both ways, time told.
//!
//! Contract: [`Link::pump`] returns as soon as something happened and may be dropped at any moment without loss. What
//! was written is on its way when `pump` returns to waiting. Failure class: [`Lost`], the port is gone.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::Instant;

use crate::at::{Action, Answer, Command, Engine, Failure, Notice};
use crate::port::Port;

/// Unread notices kept at most; older ones of no weight give way.
const MAX_NOTICES: usize = 1024;

/// The port is gone, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost(pub(crate) String);

/// A modem's port in use.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) port: Port,
    pub(crate) engine: Engine,
    pub(crate) baud: u32,
    start: Instant,
    out: Vec<u8>,
    buffer: Vec<u8>,
    notices: VecDeque<Notice>,
    done: Option<Result<Answer, Failure>>,
    /// Bytes read in all: tells a silent port from a chattering one.
    pub(crate) bytes_in: u64,
}

impl Link {
    pub(crate) fn new(port: Port, baud: u32, engine: Engine) -> Link {
        Link {
            port,
            engine,
            baud,
            start: Instant::now(),
            out: Vec::new(),
            buffer: vec![0; 2048],
            notices: VecDeque::new(),
            done: None,
            bytes_in: 0,
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Writes a command; its end comes from [`Link::done`].
    pub(crate) fn start(&mut self, command: Command) {
        let secret = command.text.starts_with("AT+CPIN=");
        tracing::trace!(command = if secret { "AT+CPIN=.." } else { &command.text }, "to the modem");
        self.done = None;
        let now = self.now_ms();
        self.engine.start(command, now);
        self.drain();
        self.write_now();
    }

    /// Writes ESC.
    pub(crate) fn escape(&mut self) {
        let now = self.now_ms();
        self.engine.escape(now);
        self.drain();
        self.write_now();
    }

    /// The end of the command, once it is there.
    pub(crate) fn done(&mut self) -> Option<Result<Answer, Failure>> {
        self.done.take()
    }

    /// The oldest notice.
    pub(crate) fn notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Puts notices back, in front of those that came later.
    pub(crate) fn put_back(&mut self, notices: Vec<Notice>) {
        for notice in notices.into_iter().rev() {
            self.notices.push_front(notice);
        }
    }

    /// Forgets what is under way: a new speed, a reset.
    pub(crate) fn clear(&mut self) {
        self.engine.clear();
        self.out.clear();
        self.notices.clear();
        self.done = None;
    }

    fn drain(&mut self) {
        let now = self.now_ms();
        while let Some(action) = self.engine.poll(now) {
            match action {
                Action::Write(bytes) => self.out.extend_from_slice(&bytes),
                Action::Done(end) => self.done = Some(end),
                Action::Notice(notice) => {
                    tracing::trace!(?notice, "from the modem");
                    if self.notices.len() >= MAX_NOTICES {
                        let light = |n: &Notice| !matches!(n, Notice::Message(_) | Notice::Report(_) | Notice::Stored { .. });
                        let at = self.notices.iter().position(light).unwrap_or(0);
                        self.notices.remove(at);
                    }
                    self.notices.push_back(notice);
                }
            }
        }
    }

    /// Writes what the port takes without waiting: the fast way of an idle modem.
    fn write_now(&mut self) {
        while !self.out.is_empty() {
            match self.port.stream.try_write(&self.out) {
                Ok(n) if n > 0 => drop(self.out.drain(..n)),
                // Would block, or an error that the next pump meets again.
                _ => return,
            }
        }
    }

    /// Moves bytes until the running command ended, a notice came, or `until` is reached.
    pub(crate) async fn pump(&mut self, until: Option<Instant>) -> Result<(), Lost> {
        loop {
            self.drain();
            if self.done.is_some() || !self.notices.is_empty() || until.is_some_and(|until| Instant::now() >= until) {
                self.write_now();
                return Ok(());
            }
            let wake = self.engine.wake_ms().map(|ms| self.start + Duration::from_millis(ms));
            let far = Instant::now() + Duration::from_secs(3600);
            let next = [wake, until].into_iter().flatten().min().unwrap_or(far);
            let mut sleep = pin!(tokio::time::sleep_until(next));
            let (stream, out, buffer) = (&mut self.port.stream, &mut self.out, &mut self.buffer);
            let read = poll_fn(|cx| {
                while !out.is_empty() {
                    match Pin::new(&mut *stream).poll_write(cx, out) {
                        Poll::Ready(Ok(n)) => drop(out.drain(..n)),
                        Poll::Ready(Err(e)) => return Poll::Ready(Err(Lost(format!("writing to the port: {e}")))),
                        Poll::Pending => break,
                    }
                }
                let mut read = ReadBuf::new(buffer);
                match Pin::new(&mut *stream).poll_read(cx, &mut read) {
                    Poll::Ready(Ok(())) if read.filled().is_empty() => {
                        return Poll::Ready(Err(Lost("the port was closed at the other end".to_owned())));
                    }
                    Poll::Ready(Ok(())) => return Poll::Ready(Ok(read.filled().len())),
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(Lost(format!("reading from the port: {e}")))),
                    Poll::Pending => {}
                }
                sleep.as_mut().poll(cx).map(|()| Ok(0))
            })
            .await?;
            let now = self.now_ms();
            if read > 0 {
                self.bytes_in += read as u64;
                let buffer = std::mem::take(&mut self.buffer);
                self.engine.input(&buffer[..read], now);
                self.buffer = buffer;
            }
            self.engine.tick(now);
        }
    }
}
