//! The client's end of the control socket.

use super::{Answer, Failure, Progress, Request};
use std::path::Path;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Why a call brought no result.
#[derive(Debug)]
pub enum CallError {
    /// Nobody answers on the socket.
    NotRunning,
    /// The node went away in the middle, or spoke what this program does not understand.
    Broken(String),
    /// The node refused.
    Refused(Failure),
}

/// Gives one order and waits for its end; `progress` hears how far it is.
///
/// # Errors
/// [`CallError`].
pub async fn call(
    socket: &Path,
    request: &Request,
    attachment: &[u8],
    mut progress: impl FnMut(&Progress),
) -> Result<serde_json::Value, CallError> {
    let broken = |e: &dyn std::fmt::Display| CallError::Broken(format!("the node's control socket {}: {e}", socket.display()));
    let stream = UnixStream::connect(socket).await.map_err(|_| CallError::NotRunning)?;
    let (reader, mut writer) = stream.into_split();
    let mut line = serde_json::to_vec(request).map_err(|e| broken(&e))?;
    line.push(b'\n');
    writer.write_all(&line).await.map_err(|e| broken(&e))?;
    writer.write_all(attachment).await.map_err(|e| broken(&e))?;
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await.map_err(|e| broken(&e))? {
        match serde_json::from_str(&line).map_err(|e| broken(&e))? {
            Answer::Progress(step) => progress(&step),
            Answer::Done(value) => return Ok(value),
            Answer::Failed(failure) => return Err(CallError::Refused(failure)),
        }
    }
    Err(broken(&"closed before the answer"))
}
