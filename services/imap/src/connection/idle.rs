//! IDLE (RFC 9051 6.3.13, RFC 2177), and waiting with NOTIFY (RFC 5465).
//!
//! Contract: what changed is told as soon as its commit is seen; while nothing happens this future holds no buffer, only the
//! receivers of the watches.

use super::{Link, Ran, closing, too_slow};
use crate::backend::Backend;
use crate::session::answer::{Answer, Stop};
use crate::session::out::{Out, Sink};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use twinpost_message::ModSeq;
use twinpost_message::view::Snapshot;
use twinpost_sasl::Accounts;
use twinpost_wire::{LineEnds, ReadError};

/// What ends a wait.
enum Woken {
    /// The client sent something.
    Read(Result<bool, ReadError>),
    /// There may be news.
    News,
    /// Nothing for the time of a sign of life.
    Quiet,
    Stop,
}

impl<B: Backend, A: Accounts + 'static> Link<B, A> {
    /// IDLE until DONE.
    pub(super) async fn idle(&mut self, tag: String) -> Ran<()> {
        self.stream.queue(b"+ idling\r\n");
        let until = Instant::now() + self.session.settings.idle_timeout;
        let keepalive = self.session.settings.idle_keepalive;
        let answer = loop {
            Box::pin(self.tell_news(true)).await?;
            if let Some(line) = self.stream.buffered_line(64, LineEnds::Tolerant) {
                break match line {
                    Ok(line) if line.eq_ignore_ascii_case(b"DONE") => Answer::ok("Done"),
                    _ => Answer::bad("IDLE ends with DONE"),
                };
            }
            Sink::flush(&mut self.stream).await?;
            match self.woken(keepalive.min(until.saturating_duration_since(Instant::now()))).await {
                Woken::Read(read) => self.read(read)?,
                Woken::News => {}
                // RFC 9051 5.4: even a client in IDLE is logged out when it is gone; living ones start again after 29 minutes.
                Woken::Quiet if Instant::now() >= until => return Err(too_slow()),
                Woken::Quiet => self.stream.queue(b"* OK Still here\r\n"),
                Woken::Stop => return Err(closing()),
            }
        };
        Box::pin(self.end_command(&tag, answer)).await
    }

    /// Between commands, with NOTIFY.
    pub(super) async fn wait_with_news(&mut self, within: Duration) -> Ran<()> {
        let until = Instant::now() + within;
        loop {
            // In the middle of a command nothing is told: numbers in it must hold.
            if self.framer.is_fresh() && self.stream.buffered().is_empty() {
                Box::pin(self.tell_news(false)).await?;
                Sink::flush(&mut self.stream).await?;
            } else {
                let read = tokio::select! {
                    biased;
                    read = self.stream.fill_more(within) => read,
                    () = self.stop.cancelled() => return Err(closing()),
                };
                return self.read(read);
            }
            match self.woken(until.saturating_duration_since(Instant::now())).await {
                Woken::Read(read) => return self.read(read),
                Woken::News => {}
                Woken::Quiet => return Err(too_slow()),
                Woken::Stop => return Err(closing()),
            }
        }
    }

    async fn tell_news(&mut self, idle: bool) -> Ran<()> {
        if let Some(account) = &self.session.account
            && !self.shared.backend.still_allowed(account.id)
        {
            return Err(Stop::Bye(None, "The account was closed".into()));
        }
        let mut out = Out::new(&mut self.stream, self.session.settings.chunk_bytes);
        self.session.push(&mut out).await?;
        if idle {
            // RFC 2177: IDLE tells everything of the selected mailbox, whatever NOTIFY says.
            self.session.tell(&mut out, true).await?;
        }
        out.finish();
        Ok(())
    }

    /// Waits for the client, for news, for the stop, or for the time to pass.
    async fn woken(&mut self, at_most: Duration) -> Woken {
        let mailbox = self.session.selected.as_ref().map(|s| s.view.waiter());
        let account = self.session.notify.as_ref().map(|n| n.waiter());
        tokio::select! {
            biased;
            // The time-out of the read is the time of the wait: one timer for both.
            read = self.stream.fill_more(at_most) => match read {
                Err(ReadError::TimedOut) => Woken::Quiet,
                read => Woken::Read(read),
            },
            () = news(mailbox, account) => Woken::News,
            () = self.stop.cancelled() => Woken::Stop,
        }
    }
}

/// Until one of the watches moves or closes.
async fn news(mailbox: Option<watch::Receiver<Arc<Snapshot>>>, account: Option<watch::Receiver<ModSeq>>) {
    let mailbox = async {
        match mailbox {
            Some(mut watch) => drop(watch.changed().await),
            None => pending().await,
        }
    };
    let account = async {
        match account {
            // A closed account watch tells nothing; the mailbox's own watch does.
            Some(mut watch) => {
                if watch.changed().await.is_err() {
                    pending::<()>().await;
                }
            }
            None => pending().await,
        }
    };
    tokio::select! {
        () = mailbox => {}
        () = account => {}
    }
}
