//! A mail process that was started ahead on the standby of a pair (`twinpost mail --wait`).
//!
//! Contract: it has read the documents, rehearsed its start, and waits at its door for the pair daemon's word; until then it opens nothing of the
//! mail volume, no address and no socket that clients know. What the documents say when the word comes is what counts.
//!
//! Failure classes: a fault in the documents ends it (the pair daemon tries again, calmly); a rehearsal that fails is logged.

use super::opening::{rehearsal_in, rehearse};
use super::{Halt, hopeless};
use crate::logs;
use crate::node::Folder;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use twinpost_group::{Door, Word};

/// The rehearsal is cut off here: nobody shall wait for it.
const REHEARSAL_LIMIT: Duration = Duration::from_secs(20);

/// Waits for the word; none when the process is to end instead.
pub async fn wait(folder: &Folder) -> Result<Option<Word>, Halt> {
    folder.make().map_err(|e| format!("cannot make {}: {e}", folder.path().display()))?;
    let document = twinpost_config::load(&folder.document()).map_err(hopeless)?;
    logs::open(&document.log)?;
    let open = |kind| signal(kind).map_err(|e| format!("cannot listen for signals: {e}"));
    let (mut terminate, mut interrupt) = (open(SignalKind::terminate())?, open(SignalKind::interrupt())?);
    let path = folder.mail_door();
    // The door is there at once: a takeover does not wait for the rehearsal, it makes it needless.
    let door = Door::open(&path).map_err(|e| format!("cannot open {}: {e}", path.display()))?;
    let rehearsal = async {
        match tokio::time::timeout(REHEARSAL_LIMIT, rehearse(&document, folder)).await {
            Ok(Ok(laps)) => tracing::info!(took_ms = laps.total_ms(), steps = %laps, "rehearsed"),
            Ok(Err(error)) => tracing::warn!(error, "the rehearsal failed; a takeover may take longer"),
            Err(_) => tracing::warn!(limit_ms = REHEARSAL_LIMIT.as_millis(), "the rehearsal took too long; a takeover may, too"),
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Status("waits for the pair daemon's word")]);
        std::future::pending::<()>().await;
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tokio::select! {
        word = door.word() => {
            // What a rehearsal that was cut short left; it lies in memory and is in nobody's way.
            let _ = std::fs::remove_dir_all(rehearsal_in(folder));
            word.map(Some).map_err(|e| Halt::from(format!("nobody can come to {}: {e}", path.display())))
        }
        () = rehearsal => Ok(None),
        _ = terminate.recv() => Ok(None),
        _ = interrupt.recv() => Ok(None),
    }
}
