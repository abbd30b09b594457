//! What goes on beside the calls: the stream of DRBD's events, and a look once a second at what does not mend itself.
//!
//! Contract: the stream is started again for ever; while it is down the last view stands, and the kernel, not the view, is what
//! holds writes. The keeper never does what an operation may be doing: it skips its turn while one runs.

use super::events::{Disk, LINE_MAX, Notice, View};
use super::{Inner, Mode};
use crate::{Error, Event};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use twinpost_heartbeat::{Replication, Writes};

/// How often the keeper looks.
const TURN: Duration = Duration::from_millis(500);
/// Looked at on either end of a disk that may be new: DRBD's metadata begins within the last 4 KiB, ext4 within the first 2 KiB.
const END_BYTES: usize = 256 << 10;
/// Writes that are still held so long after the core said `Alone`, with no handler waiting, are resumed by order.
const THAW: Duration = Duration::from_secs(2);

/// Reads DRBD's events for ever.
pub(super) async fn watch(inner: Arc<Inner>) {
    let mut pause = Duration::from_millis(50);
    loop {
        let begun = Instant::now();
        if let Err(error) = stream(&inner).await {
            tracing::warn!(%error, "the events of the mirror stopped");
        }
        inner.view.send_modify(|view| view.complete = false);
        pause = if begun.elapsed() > Duration::from_secs(10) {
            Duration::from_millis(50)
        } else {
            (pause * 2).min(Duration::from_secs(5))
        };
        tokio::time::sleep(pause).await;
    }
}

async fn stream(inner: &Inner) -> Result<(), Error> {
    let program = &inner.settings.programs.drbdsetup;
    let error =
        |how: String| Error::Program { command: format!("{} events2", program.path.display()), how, stderr: String::new() };
    let mut child = program
        .command(&["events2", "--statistics", "all"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .map_err(|e| error(format!("cannot be run: {e}")))?;
    let Some(out) = child.stdout.take() else { return Err(error("has no output".into())) };
    let mut out = BufReader::new(out);
    let resource = &inner.settings.resource;
    // The dump at the start describes everything anew.
    let mut view = View::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = LINE_MAX as u64;
        match (&mut out).take(limit).read_until(b'\n', &mut line).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) => return Err(error(format!("cannot be read: {e}"))),
        }
        let was = view.clone();
        match view.take(resource, &String::from_utf8_lossy(&line)) {
            Notice::Nothing => {}
            Notice::SplitBrain => inner.split_brain().await,
            // Half a dump is no view.
            Notice::Changed if !view.complete => {}
            Notice::Changed => {
                inner.view.send_replace(view.clone());
                after(inner, &was, &view).await;
            }
        }
    }
    let status = child.wait().await.map_err(|e| error(format!("was lost: {e}")))?;
    Err(error(status.to_string()))
}

/// What follows from a change.
async fn after(inner: &Inner, was: &View, view: &View) {
    let syncing = |word: &str| word.starts_with("Sync") || word.starts_with("PausedSync");
    let verifying = |word: &str| word.starts_with("Verify");
    {
        let mut state = inner.state();
        if syncing(&view.replication) && !syncing(&was.replication) {
            state.resync_kib = view.out_of_sync_kib.unwrap_or(0);
        }
        if syncing(&view.replication) {
            let left = view.out_of_sync_kib.unwrap_or(0).min(state.resync_kib);
            #[allow(clippy::cast_precision_loss, reason = "a percentage for people")]
            let done = if state.resync_kib == 0 { 100.0 } else { 100.0 - left as f32 * 100.0 / state.resync_kib as f32 };
            state.done_percent = Some(done);
        } else if verifying(&view.replication) {
            state.done_percent = view.done_percent;
        } else {
            state.done_percent = None;
            if state.verifying && verifying(&was.replication) {
                state.verifying = false;
                state.verified = view.out_of_sync_kib;
                let kib = view.out_of_sync_kib.unwrap_or(0);
                if view.connected() && kib > 0 {
                    tracing::error!(kib, "the two copies of the mail volume differ");
                    state.trouble = format!("the check of both copies found {kib} KiB that differ; disconnect and resync");
                }
            }
        }
        if view.connected() && view.mirrored() {
            // They have met and agree.
            state.diverged = false;
        }
    }
    if was.connected() && !view.connected() {
        // A new connection needs a new permission: the peer may have become another meanwhile.
        inner.permit.send_replace(false);
    }
    inner.tell_mirror().await;
    let outdated = |view: &View| view.disk == Disk::Outdated;
    let news = (view.replication == "Established" && was.replication != "Established")
        || (was.peer_primary && !view.peer_primary)
        || outdated(view) != outdated(was);
    if news && !inner.mode().active() {
        // What came over may be of another reign.
        if let Err(error) = inner.tell_position().await {
            tracing::warn!(%error, "the position of the mail volume is not known");
        }
    }
}

/// Whether a disk holds nothing: zeros at both ends, where a file system, a header and the metadata of a mirror would be.
fn bare(disk: &Path) -> Result<bool, Error> {
    let mut file = std::fs::File::open(disk).map_err(Error::io("open", disk))?;
    let bytes = file.seek(SeekFrom::End(0)).map_err(Error::io("measure", disk))?;
    let mut end = vec![0; END_BYTES];
    if bytes < 2 * END_BYTES as u64 {
        return Ok(false);
    }
    for at in [0, bytes - END_BYTES as u64] {
        file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut end)).map_err(Error::io("read", disk))?;
        if end.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Inner {
    /// Both sides changed without each other: DRBD has let go of the connection by itself.
    pub(super) async fn split_brain(&self) {
        let news = !std::mem::replace(&mut self.state().diverged, true);
        if news {
            tracing::error!("the two copies of the mail volume have diverged");
            self.tell(Event::Replication(Replication::Diverged)).await;
        }
    }
}

/// Looks once in a while.
pub(super) async fn keep(inner: Arc<Inner>) {
    // The node of before may have died in its place: nothing here may be active now.
    let mut settled = false;
    let mut frozen_since: Option<Instant> = None;
    let mut up_pause = 0_u32;
    let mut turn = tokio::time::interval(TURN);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turn.tick().await;
        let Ok(_one) = inner.operation.try_lock() else { continue };
        let view = inner.view.borrow().clone();
        if !view.complete {
            continue;
        }
        let done = if !view.exists {
            up_pause = up_pause.saturating_sub(1);
            if up_pause > 0 {
                continue;
            }
            up_pause = 10;
            inner.bring_up().await
        } else if !settled {
            settled = true;
            inner.settle(&view).await
        } else {
            inner.thaw(&view, &mut frozen_since).await.and(inner.connect(&view).await)
        };
        let done = if view.exists && view.disk == Disk::Diskless && inner.mode() == Mode::Standby {
            // A disk that came late, or one that failed and is back.
            up_pause = up_pause.saturating_sub(1);
            if up_pause > 0 {
                continue;
            }
            up_pause = 10;
            done.and(inner.drbdadm(&["attach"]).await.map(drop))
        } else {
            done
        };
        if let Err(error) = done {
            let text = error.to_string();
            let news = std::mem::replace(&mut inner.state().trouble, text.clone()) != text;
            if news {
                tracing::warn!(%error, "the mirror needs attention");
            }
        }
        if inner.mode() == Mode::Standby && view.of_standby() == Replication::CopyWhole {
            // The active writes the reign into the volume, and it comes over like any block: nothing tells of it.
            if let Err(error) = inner.tell_position().await {
                tracing::debug!(%error, "the position of the mail volume is not known");
            }
        }
        if view.replication.starts_with("Sync") || view.replication.starts_with("Verify") {
            inner.progress().await;
        }
    }
}

impl Inner {
    async fn bring_up(&self) -> Result<(), Error> {
        // A new disk becomes a blank copy by itself: there is nothing on it that could be lost, and a blank copy is never a source.
        let disk = self.settings.this.disk.clone();
        if tokio::task::spawn_blocking(move || bare(&disk)).await.map_err(|_| Error::Stopped)?? {
            tracing::info!(disk = %self.settings.this.disk.display(), "a new disk: it becomes a blank copy of the mail volume");
            self.drbdadm(&["create-md", "--force"]).await?;
        }
        self.drbdadm(&["up"]).await.map(drop)?;
        self.state().trouble.clear();
        Ok(())
    }

    /// At the start: a primary role or a mount that a killed daemon left is given up, for its services are dead.
    async fn settle(&self, view: &View) -> Result<(), Error> {
        if self.mode() == Mode::Standby && (view.primary || self.volume.mounted()?) {
            tracing::warn!("the volume was left mounted by an earlier run");
            self.demote().await?;
        }
        if let Err(error) = self.tell_position().await {
            tracing::warn!(%error, "the position of the mail volume is not known");
        }
        Ok(())
    }

    /// A standby always looks for its peer; an active only once the core allowed a resync.
    async fn connect(&self, view: &View) -> Result<(), Error> {
        let kept_out = self.state().diverged || self.state().left;
        let may = !kept_out && (self.mode() == Mode::Standby || (self.mode().active() && *self.permit.borrow()));
        if may && view.stands_alone() {
            self.drbdadm(&["connect"]).await?;
        }
        Ok(())
    }

    /// Held writes whose handler was killed.
    async fn thaw(&self, view: &View, since: &mut Option<Instant>) -> Result<(), Error> {
        let stuck = view.frozen && self.mode() == Mode::Active(Writes::Alone) && self.state().waiting == 0;
        if !stuck {
            *since = None;
            return Ok(());
        }
        if since.get_or_insert_with(Instant::now).elapsed() >= THAW {
            *since = None;
            tracing::warn!("writes were still held without a handler; resuming them");
            self.drbdadm(&["resume-io"]).await?;
        }
        Ok(())
    }

    /// How far a resync or a verify is: DRBD tells its progress only when asked.
    async fn progress(&self) {
        let program = &self.settings.programs.drbdsetup;
        let said = program.ok(&["status", &self.settings.resource, "--verbose", "--statistics"], super::SHORT).await;
        let Ok(said) = said else { return };
        let number = |key: &str| {
            let at = said.find(key)? + key.len();
            said[at..].split(|c: char| !c.is_ascii_digit() && c != '.').next()?.parse::<f32>().ok()
        };
        if let Some(done) = number("done:").filter(|done| (0.0..=100.0).contains(done)) {
            self.state().done_percent = Some(done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_zeros_at_both_ends_are_a_new_disk() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        let len = 3 * END_BYTES;
        for (mark, wanted) in [(None, true), (Some(1024 + 56), false), (Some(len - 4096), false), (Some(len / 2), true)] {
            let mut bytes = vec![0; len];
            if let Some(at) = mark {
                bytes[at] = 0x53;
            }
            std::fs::write(&disk, bytes).unwrap();
            assert_eq!(bare(&disk).unwrap(), wanted, "{mark:?}");
        }
        std::fs::write(&disk, "short").unwrap();
        assert!(!bare(&disk).unwrap(), "too small to know");
        assert!(bare(&folder.path().join("missing")).is_err());
    }
}
