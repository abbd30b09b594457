//! The control socket's client.
//!
//! Contract: one connection for each client value; a request and its answer at a time. Orders may take as long as the peer takes to
//! answer, so the limit is generous.
//!
//! Failure classes: [`Error::Connect`] (the daemon does not run), [`Error::Broken`] (it went away in the middle).

use crate::api::{Answer, LINE_MAX_BYTES, Request, Status};
use crate::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

/// How long a request may take.
const REQUEST_MAX: Duration = Duration::from_secs(90);

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Connect`]
    pub async fn connect(path: &Path) -> Result<Self, Error> {
        let stream = UnixStream::connect(path).await.map_err(|source| Error::Connect { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), stream: BufReader::new(stream) })
    }

    /// One request, one answer.
    ///
    /// # Errors
    /// [`Error::Broken`]
    pub async fn ask(&mut self, request: &Request) -> Result<Answer, Error> {
        let talk = async {
            self.write(request).await?;
            self.next().await
        };
        match tokio::time::timeout(REQUEST_MAX, talk).await {
            Ok(answer) => answer,
            Err(_) => Err(self.broken("no answer in time")),
        }
    }

    /// The status.
    ///
    /// # Errors
    /// [`Error::Broken`]
    pub async fn status(&mut self) -> Result<Status, Error> {
        match self.ask(&Request::Status).await? {
            Answer::Status(status) => Ok(*status),
            other => Err(self.broken(&format!("an odd answer to a question for the status: {other:?}"))),
        }
    }

    /// Follows the status: the present one, then at each change with [`Watch::next`].
    ///
    /// # Errors
    /// [`Error::Broken`]
    pub async fn watch(mut self) -> Result<Watch, Error> {
        self.write(&Request::Watch).await?;
        Ok(Watch(self))
    }

    async fn write(&mut self, request: &Request) -> Result<(), Error> {
        let mut line = serde_json::to_vec(request).map_err(|e| self.broken(&e.to_string()))?;
        line.push(b'\n');
        let written = self.stream.get_mut().write_all(&line).await;
        written.map_err(|e| self.broken(&e.to_string()))
    }

    async fn next(&mut self) -> Result<Answer, Error> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(LINE_MAX_BYTES as u64).read_until(b'\n', &mut line).await;
        read.map_err(|e| self.broken(&e.to_string()))?;
        if line.last() != Some(&b'\n') {
            return Err(self.broken("the daemon has ended"));
        }
        serde_json::from_slice(&line).map_err(|e| self.broken(&format!("the answer cannot be read: {e}")))
    }

    fn broken(&self, what: &str) -> Error {
        Error::Broken { path: self.path.clone(), what: what.to_owned() }
    }
}

/// A stream of statuses.
#[derive(Debug)]
pub struct Watch(Client);

impl Watch {
    /// The next; waits for a change after the first.
    ///
    /// # Errors
    /// [`Error::Broken`]
    pub async fn next(&mut self) -> Result<Status, Error> {
        match self.0.next().await? {
            Answer::Status(status) => Ok(*status),
            Answer::Error { text } => Err(self.0.broken(&text.en)),
            other => Err(self.0.broken(&format!("an odd answer: {other:?}"))),
        }
    }
}
