//! The client of the SMS process's socket.
//!
//! Contract: simple requests share one connection, which is made again when it broke; each stream has a connection of
//! its own. Every request has a time limit. A `submit` that failed with [`Error::Broken`] may have been taken: submit
//! again with the same key, which changes nothing when it was.
//!
//! Failure classes: [`Error::Connect`] (the process does not run), [`Error::Broken`] (it went away in the middle),
//! [`Error::Request`] (it did not like the request).

use crate::api::{Answer, Count, Event, Incoming, LINE_MAX_BYTES, QueueEntry, Reason, Request, ResetStep, State, Status, Submit};
use crate::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;

/// How long a simple request may take.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// A client of the SMS process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    path: Arc<PathBuf>,
    line: Arc<Mutex<Option<Line>>>,
}

/// What became of a `submit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It is in the queue.
    Accepted {
        /// So many parts.
        parts: u8,
        /// False only for an alarm that the disk refused: it is sent at once, from memory.
        stored: bool,
    },
    /// The key is known: this is where that message is.
    Known(Status),
    /// It is not in the queue, and nothing was sent.
    Refused(Reason),
}

/// What `watch` tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// How everything is now.
    State(Box<State>),
    /// Something to tell people.
    Event(Event),
}

impl Client {
    /// A client of the process at this socket. Nothing is connected before the first request, so the process may start
    /// later.
    pub fn new(path: impl Into<PathBuf>) -> Client {
        Client { path: Arc::new(path.into()), line: Arc::new(Mutex::new(None)) }
    }

    /// A client that is connected to the process at this socket.
    ///
    /// # Errors
    /// [`Error::Connect`].
    pub async fn connect(path: impl Into<PathBuf>) -> Result<Client, Error> {
        let client = Client::new(path);
        *client.line.lock().await = Some(Line::open(&client.path).await?);
        Ok(client)
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Hands in a message.
    ///
    /// # Errors
    /// See the failure classes above; a refusal is no error.
    pub async fn submit(&self, message: Submit) -> Result<Submitted, Error> {
        match self.ask(&Request::Submit(message)).await? {
            Answer::Accepted { parts, stored, .. } => Ok(Submitted::Accepted { parts, stored }),
            Answer::Status(status) => Ok(Submitted::Known(status)),
            Answer::Refused { reason } => Ok(Submitted::Refused(reason)),
            other => Err(odd(other)),
        }
    }

    /// Takes a message back; parts that went are gone. `None`: no such key.
    ///
    /// # Errors
    /// See the failure classes above.
    pub async fn cancel(&self, key: &str) -> Result<Option<Status>, Error> {
        match self.ask(&Request::Cancel { key: key.to_owned() }).await? {
            Answer::Status(status) => Ok(Some(status)),
            Answer::UnknownKey { .. } => Ok(None),
            other => Err(odd(other)),
        }
    }

    /// The present status of a message and every later one. `None`: no such key.
    ///
    /// # Errors
    /// See the failure classes above.
    pub async fn follow(&self, key: &str) -> Result<Option<Follow>, Error> {
        let mut line = Line::open(&self.path).await?;
        line.write(&Request::Follow { key: key.to_owned() }, &self.path).await?;
        match within(REQUEST_MAX, &self.path, line.read(&self.path)).await? {
            Answer::Status(status) => Ok(Some(Follow { first: Some(status), line, path: self.path.clone(), over: false })),
            Answer::UnknownKey { .. } => Ok(None),
            other => Err(odd(other)),
        }
    }

    /// What waits: the first `most` messages, and how many there are.
    ///
    /// # Errors
    /// See the failure classes above.
    pub async fn queue(&self, most: u32) -> Result<(Vec<QueueEntry>, u32), Error> {
        match self.ask(&Request::Queue { most }).await? {
            Answer::Queue { entries, total } => Ok((entries, total)),
            other => Err(odd(other)),
        }
    }

    /// How everything is.
    ///
    /// # Errors
    /// See the failure classes above.
    pub async fn state(&self) -> Result<State, Error> {
        match self.ask(&Request::State).await? {
            Answer::State(state) => Ok(state),
            other => Err(odd(other)),
        }
    }

    /// The state now and at each change, and what people should be told.
    ///
    /// # Errors
    /// See the failure classes above.
    pub async fn watch(&self) -> Result<Watch, Error> {
        let mut line = Line::open(&self.path).await?;
        line.write(&Request::Watch, &self.path).await?;
        Ok(Watch { line, path: self.path.clone() })
    }

    /// Messages from phones: those that wait with an id above `after`, then each one that comes.
    ///
    /// # Errors
    /// See the failure classes above.
    pub async fn incoming(&self, after: u64) -> Result<IncomingStream, Error> {
        let mut line = Line::open(&self.path).await?;
        line.write(&Request::Incoming { after }, &self.path).await?;
        Ok(IncomingStream { line, path: self.path.clone() })
    }

    /// The incoming message is safe elsewhere: it is forgotten here.
    ///
    /// # Errors
    /// See the failure classes above.
    pub async fn take(&self, id: u64) -> Result<(), Error> {
        self.done(&Request::Take { id }).await
    }

    /// Resets the modem from this step of the ladder on.
    ///
    /// # Errors
    /// See the failure classes above.
    pub async fn reset(&self, step: Option<ResetStep>) -> Result<(), Error> {
        self.done(&Request::Reset { step }).await
    }

    /// Sends a short test text as an alarm; gives its key.
    ///
    /// # Errors
    /// See the failure classes above; [`Error::Request`] when the number is refused.
    pub async fn test(&self, to: &str) -> Result<String, Error> {
        match self.ask(&Request::Test { to: to.to_owned() }).await? {
            Answer::Accepted { key, .. } => Ok(key),
            other => Err(odd(other)),
        }
    }

    /// Counts by day, account and class, newest first.
    ///
    /// # Errors
    /// See the failure classes above.
    pub async fn statistics(&self, days: u32) -> Result<Vec<Count>, Error> {
        match self.ask(&Request::Statistics { days }).await? {
            Answer::Statistics { counts } => Ok(counts),
            other => Err(odd(other)),
        }
    }

    async fn done(&self, request: &Request) -> Result<(), Error> {
        match self.ask(request).await? {
            Answer::Done => Ok(()),
            other => Err(odd(other)),
        }
    }

    /// One request, one answer. A connection that was kept from before may have died with an earlier process: then the
    /// request goes once more over a new one, which every request bears.
    async fn ask(&self, request: &Request) -> Result<Answer, Error> {
        let mut slot = self.line.lock().await;
        if let Some(mut line) = slot.take()
            && let Ok(answer) = line.exchange(request, &self.path).await
        {
            *slot = Some(line);
            return Ok(answer);
        }
        let mut line = Line::open(&self.path).await?;
        let answer = line.exchange(request, &self.path).await?;
        *slot = Some(line);
        Ok(answer)
    }
}

/// The statuses of one message.
#[derive(Debug)]
pub struct Follow {
    first: Option<Status>,
    line: Line,
    path: Arc<PathBuf>,
    over: bool,
}

impl Follow {
    /// The next status; `None` after the one that said `more: false`. Dropping the future between two statuses loses
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Broken`].
    pub async fn next(&mut self) -> Result<Option<Status>, Error> {
        if self.over {
            return Ok(None);
        }
        let status = if let Some(status) = self.first.take() {
            status
        } else {
            match self.line.read(&self.path).await? {
                Answer::Status(status) => status,
                other => return Err(odd(other)),
            }
        };
        self.over = !status.more;
        Ok(Some(status))
    }
}

/// The state at each change, and events.
#[derive(Debug)]
pub struct Watch {
    line: Line,
    path: Arc<PathBuf>,
}

impl Watch {
    /// The next state or event.
    ///
    /// # Errors
    /// [`Error::Broken`].
    pub async fn next(&mut self) -> Result<Seen, Error> {
        match self.line.read(&self.path).await? {
            Answer::State(state) => Ok(Seen::State(Box::new(state))),
            Answer::Event(event) => Ok(Seen::Event(event)),
            other => Err(odd(other)),
        }
    }
}

/// Messages from phones.
#[derive(Debug)]
pub struct IncomingStream {
    line: Line,
    path: Arc<PathBuf>,
}

impl IncomingStream {
    /// The next message. It is offered again at the next `incoming` until it is taken.
    ///
    /// # Errors
    /// [`Error::Broken`].
    pub async fn next(&mut self) -> Result<Incoming, Error> {
        match self.line.read(&self.path).await? {
            Answer::Incoming(message) => Ok(message),
            other => Err(odd(other)),
        }
    }
}

/// One connection. What was read of an unfinished line is kept here, so that a dropped future loses nothing.
#[derive(Debug)]
struct Line {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    begun: Vec<u8>,
}

impl Line {
    async fn open(path: &Path) -> Result<Line, Error> {
        let stream = UnixStream::connect(path).await.map_err(|source| Error::Connect { path: path.to_owned(), source })?;
        let (read, write) = stream.into_split();
        Ok(Line { read: BufReader::new(read), write, begun: Vec::new() })
    }

    async fn exchange(&mut self, request: &Request, path: &Path) -> Result<Answer, Error> {
        within(REQUEST_MAX, path, async {
            self.write(request, path).await?;
            self.read(path).await
        })
        .await
    }

    async fn write(&mut self, request: &Request, path: &Path) -> Result<(), Error> {
        let mut line = serde_json::to_vec(request).expect("a request has string keys only, so it is always JSON");
        if line.len() >= LINE_MAX_BYTES {
            return Err(Error::Request(format!("a request of {} bytes is too long", line.len())));
        }
        line.push(b'\n');
        self.write.write_all(&line).await.map_err(|e| broken(path, &e))
    }

    async fn read(&mut self, path: &Path) -> Result<Answer, Error> {
        let room = (LINE_MAX_BYTES + 1).saturating_sub(self.begun.len());
        let mut limited = (&mut self.read).take(room as u64);
        limited.read_until(b'\n', &mut self.begun).await.map_err(|e| broken(path, &e))?;
        if self.begun.last() != Some(&b'\n') {
            let what = if self.begun.len() > LINE_MAX_BYTES { "a line was too long" } else { "it ended" };
            return Err(Error::Broken { path: path.to_owned(), what: what.into() });
        }
        let answer = serde_json::from_slice(&self.begun);
        self.begun.clear();
        answer.map_err(|e| Error::Request(format!("an answer could not be read: {e}")))
    }
}

async fn within<T>(limit: Duration, path: &Path, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::Broken { path: path.to_owned(), what: format!("no answer within {} s", limit.as_secs()) }),
    }
}

fn broken(path: &Path, error: &std::io::Error) -> Error {
    Error::Broken { path: path.to_owned(), what: error.to_string() }
}

fn odd(answer: Answer) -> Error {
    match answer {
        Answer::Error { text } => Error::Request(text),
        Answer::Refused { reason } => Error::Request(reason.text),
        other => Error::Request(format!("an unexpected answer: {other:?}")),
    }
}
