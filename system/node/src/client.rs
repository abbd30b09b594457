//! The asking end of `twinpost system`.
//!
//! Failure classes: no daemon there ([`CallError::NotRunning`]), it refuses ([`CallError::Refused`]), the connection breaks or says something
//! that is no answer ([`CallError::Broken`]): then nobody knows what became of the request.

use crate::api::{Asked, Done, LINE_MAX_BYTES, Line, Refused, Request, Step};
use std::path::Path;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Why a request got no `done`.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens.
    #[error("nobody answers at {0}: this is no node of the image, or `twinpost system` does not run")]
    NotRunning(String),
    /// It was refused or failed.
    #[error("{}", .0.reasons.iter().map(|reason| reason.en.as_str()).collect::<Vec<_>>().join("; "))]
    Refused(Refused),
    /// The answer did not come whole.
    #[error("the answer broke off: {0}")]
    Broken(String),
}

/// Asks one thing and waits for its end; `progress` hears each step.
///
/// # Errors
/// [`CallError`].
pub async fn call(socket: &Path, by: &str, request: Request, mut progress: impl FnMut(Step)) -> Result<Done, CallError> {
    let broken = |error: std::io::Error| CallError::Broken(error.to_string());
    let stream = UnixStream::connect(socket).await.map_err(|_| CallError::NotRunning(socket.display().to_string()))?;
    let (reader, mut writer) = stream.into_split();
    let mut line = serde_json::to_vec(&Asked { by: by.to_owned(), request }).map_err(|e| CallError::Broken(e.to_string()))?;
    line.push(b'\n');
    writer.write_all(&line).await.map_err(broken)?;
    let mut reader = BufReader::new(reader);
    loop {
        line.clear();
        let read = (&mut reader).take(LINE_MAX_BYTES).read_until(b'\n', &mut line).await.map_err(broken)?;
        if read == 0 {
            return Err(CallError::Broken("`twinpost system` closed the connection".to_owned()));
        }
        match serde_json::from_slice(&line).map_err(|e| CallError::Broken(format!("an answer that is none: {e}")))? {
            Line::Progress(step) => progress(step),
            Line::Done(done) => return Ok(done),
            Line::Error(refused) => return Err(CallError::Refused(refused)),
        }
    }
}
