//! The socket's server.
//!
//! Contract: see [`crate::api`]. A connection does one thing at a time; a stream ends when the client writes another
//! request. Clients, lines and lists are bounded. A client that does not read stops its own connection only.
//!
//! Failure classes: [`Error::Socket`] and [`Error::AlreadyServed`] before anything is served; whatever a client does
//! concerns that client.

use crate::api::{Answer, Class, LINE_MAX_BYTES, Request, Submit};
use crate::engine::{Ask, EngineHandle};
use crate::error::Error;
use crate::submit;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, broadcast, oneshot};
use tokio_util::sync::CancellationToken;

/// Messages read from the book at a time for a stream.
const LIST_MOST: u32 = 64;
/// Entries of a queue in one answer.
const QUEUE_MOST: u32 = 200;
/// A client that takes nothing for so long is gone.
const WRITE_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// Binds the socket with mode 0600, or 0660 in a folder that gives its group on (set-group-ID: the image's, where each part has a user of its own).
/// A dead one in its place is removed.
pub(crate) async fn bind(path: &Path) -> Result<UnixListener, Error> {
    let fail = |source| Error::Socket { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    if UnixStream::connect(path).await.is_ok() {
        return Err(Error::AlreadyServed(path.to_owned()));
    }
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(fail(e)),
    }
    let listener = UnixListener::bind(path).map_err(fail)?;
    let shared = path.parent().and_then(|folder| std::fs::metadata(folder).ok()).is_some_and(|about| about.mode() & 0o2000 != 0);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(if shared { 0o660 } else { 0o600 })).map_err(fail)?;
    Ok(listener)
}

/// Serves until `shutdown`.
pub(crate) async fn serve(listener: UnixListener, engine: EngineHandle, shutdown: CancellationToken) {
    let room = Arc::new(Semaphore::new(engine.settings.limits.clients.max(1) as usize));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(e) => {
                // Out of descriptors or memory: others' connections end some time.
                tracing::warn!(error = %e, "cannot accept a client of the SMS socket");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = room.clone().try_acquire_owned() else {
            tracing::warn!("too many clients of the SMS socket");
            continue;
        };
        let (engine, shutdown) = (engine.clone(), shutdown.clone());
        tokio::spawn(async move {
            let _place = place;
            let (read, write) = stream.into_split();
            let mut session = Session { engine, read: BufReader::new(read), begun: Vec::new(), write };
            tokio::select! {
                () = shutdown.cancelled() => {}
                end = session.run() => if let Err(e) = end {
                    tracing::debug!(error = %e, "a client of the SMS socket has gone");
                },
            }
        });
    }
}

struct Session {
    engine: EngineHandle,
    read: BufReader<OwnedReadHalf>,
    begun: Vec<u8>,
    write: OwnedWriteHalf,
}

impl Session {
    async fn run(&mut self) -> std::io::Result<()> {
        let mut next = self.line().await?;
        while let Some(line) = next {
            let request = match serde_json::from_slice::<Request>(&line) {
                Ok(request) => request,
                Err(e) => {
                    self.say(&Answer::Error { text: format!("this is no request: {e}") }).await?;
                    next = self.line().await?;
                    continue;
                }
            };
            next = match request {
                Request::Follow { key } => self.follow(key).await?,
                Request::Watch => self.watch().await?,
                Request::Incoming { after } => self.incoming(after).await?,
                simple => {
                    let answer = self.answer(simple).await;
                    self.say(&answer).await?;
                    self.line().await?
                }
            };
        }
        Ok(())
    }

    /// The next line; `None` at the end. May be dropped and called again.
    async fn line(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let room = (LINE_MAX_BYTES + 1).saturating_sub(self.begun.len()) as u64;
        (&mut self.read).take(room).read_until(b'\n', &mut self.begun).await?;
        if self.begun.last() == Some(&b'\n') {
            return Ok(Some(std::mem::take(&mut self.begun)));
        }
        if self.begun.len() > LINE_MAX_BYTES {
            self.say(&Answer::Error { text: format!("a line is at most {LINE_MAX_BYTES} bytes long") }).await?;
        }
        Ok(None)
    }

    async fn say(&mut self, answer: &Answer) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(answer).map_err(std::io::Error::other)?;
        if line.len() >= LINE_MAX_BYTES {
            let text = "the answer is too long for one line; ask for less".to_owned();
            line = serde_json::to_vec(&Answer::Error { text }).map_err(std::io::Error::other)?;
        }
        line.push(b'\n');
        match tokio::time::timeout(WRITE_MAX, self.write.write_all(&line)).await {
            Ok(written) => written,
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        }
    }

    async fn answer(&self, request: Request) -> Answer {
        let asked = match request {
            Request::Submit(s) => return self.submit(s).await,
            Request::Test { to } => return self.submit(test_message(to)).await,
            Request::Cancel { key } => {
                let unknown = key.clone();
                let answer = self.ask(|reply| Ask::Cancel { key, reply }).await;
                return match answer {
                    Some(Answer::Error { .. }) => Answer::UnknownKey { key: unknown },
                    Some(answer) => answer,
                    None => ended(),
                };
            }
            Request::Queue { most } => {
                let most = most.clamp(1, QUEUE_MOST) as usize;
                self.ask(|reply| Ask::Queue { most, reply }).await.map(|(entries, total)| cut_queue(entries, total))
            }
            Request::State => self.ask(|reply| Ask::State { reply }).await.map(Answer::State),
            Request::Take { id } => self.ask(|reply| Ask::Take { id, reply }).await,
            Request::Reset { step } => self.ask(|reply| Ask::Reset { step, reply }).await,
            Request::Statistics { days } => self.ask(|reply| Ask::Statistics { days, reply }).await.map(cut_statistics),
            // Streams are the session's own.
            Request::Follow { .. } | Request::Watch | Request::Incoming { .. } => None,
        };
        asked.unwrap_or_else(ended)
    }

    async fn submit(&self, s: Submit) -> Answer {
        let settings = &self.engine.settings;
        match submit::draft(s, &settings.pace, &settings.limits, 0) {
            Ok(draft) => {
                let draft = Box::new(draft);
                self.ask(|reply| Ask::Submit { draft, reply }).await.unwrap_or_else(ended)
            }
            Err(reason) => Answer::Refused { reason },
        }
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.engine.asks.send(question(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Each stream gives the client's next line, or `None` when the client has gone.
    async fn follow(&mut self, key: String) -> std::io::Result<Option<Vec<u8>>> {
        let unknown = Answer::UnknownKey { key: key.clone() };
        let Some(found) = self.ask(|reply| Ask::Follow { key, reply }).await else {
            self.say(&ended()).await?;
            return self.line().await;
        };
        let Some(mut statuses) = found else {
            self.say(&unknown).await?;
            return self.line().await;
        };
        loop {
            let status = statuses.borrow_and_update().clone();
            let more = status.more;
            self.say(&Answer::Status(status)).await?;
            if !more {
                return self.line().await;
            }
            tokio::select! {
                changed = statuses.changed() => if changed.is_err() {
                    self.say(&ended()).await?;
                    return self.line().await;
                },
                line = self.line() => return line,
            }
        }
    }

    async fn watch(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut events = self.engine.events.subscribe();
        let mut states = self.engine.state.clone();
        // The counts of what waits are newer when asked for.
        match self.ask(|reply| Ask::State { reply }).await {
            Some(state) => self.say(&Answer::State(state)).await?,
            None => self.say(&ended()).await?,
        }
        states.mark_unchanged();
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => self.say(&Answer::Event(event)).await?,
                    // What was missed is in the state's troubles.
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        let state = states.borrow_and_update().clone();
                        self.say(&Answer::State(state)).await?;
                    }
                    Err(broadcast::error::RecvError::Closed) => return Ok(None),
                },
                changed = states.changed() => {
                    if changed.is_err() {
                        return Ok(None);
                    }
                    let state = states.borrow_and_update().clone();
                    self.say(&Answer::State(state)).await?;
                }
                line = self.line() => return line,
            }
        }
    }

    async fn incoming(&mut self, mut after: u64) -> std::io::Result<Option<Vec<u8>>> {
        let mut arrivals = self.engine.arrivals.clone();
        loop {
            arrivals.mark_unchanged();
            loop {
                let Some(messages) = self.ask(|reply| Ask::List { after, most: LIST_MOST, reply }).await else {
                    self.say(&ended()).await?;
                    return self.line().await;
                };
                let Some(last) = messages.last().map(|m| m.id) else { break };
                after = last;
                for message in messages {
                    self.say(&Answer::Incoming(message)).await?;
                }
            }
            tokio::select! {
                changed = arrivals.changed() => if changed.is_err() { return Ok(None) },
                line = self.line() => return line,
            }
        }
    }
}

fn ended() -> Answer {
    Answer::Error { text: "the SMS process is ending, or its spool failed".into() }
}

/// As many entries as fit one line.
fn cut_queue(mut entries: Vec<crate::api::QueueEntry>, total: u32) -> Answer {
    let mut room = LINE_MAX_BYTES - 1024;
    let fits = entries.iter().take_while(|e| take(&mut room, e)).count();
    entries.truncate(fits);
    Answer::Queue { entries, total }
}

/// The newest counts that fit one line.
fn cut_statistics(mut counts: Vec<crate::api::Count>) -> Answer {
    let mut room = LINE_MAX_BYTES - 1024;
    let fits = counts.iter().take_while(|c| take(&mut room, c)).count();
    counts.truncate(fits);
    Answer::Statistics { counts }
}

fn take<T: serde::Serialize>(room: &mut usize, what: &T) -> bool {
    let size = serde_json::to_string(what).map_or(usize::MAX, |s| s.len() + 1);
    match room.checked_sub(size) {
        Some(left) => {
            *room = left;
            true
        }
        None => false,
    }
}

/// The text of `Test`, under a key of its own.
fn test_message(to: String) -> Submit {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    Submit {
        key: format!("test-{now}-{}", NUMBER.fetch_add(1, Ordering::Relaxed)),
        class: Class::Alarm,
        to,
        text: "Twinpost: this is a test. 短信测试。".into(),
        validity_s: Some(600),
        report: true,
        flash: false,
        durable: false,
        account: None,
        domain: None,
        parts_max: None,
    }
}
