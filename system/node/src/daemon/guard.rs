//! The hardware watchdog of a node that has no peer yet.
//!
//! Contract: the watchdog is the pair daemon's, and a node without a peer runs none: until it is paired this daemon feeds it, so that a kernel or a
//! daemon that stands still ends in a reset. As soon as the pairing is on disk it is disarmed and given up, at the latest [`LOOK_EVERY`] later; the pair daemon
//! tries again at each feed. After an orderly end it is disarmed, after a crash it stays armed and this daemon's next start feeds it.
//!
//! Failure classes: a device that is not there, or that somebody else has: told once, tried again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Named by the board's udev rules.
const DEVICE: &str = "/dev/twinpost/watchdog";
/// Below half of every time that a board may set (its least is some seconds), and how soon it is given up after a pairing.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The watchdog of this node.
pub struct Guard {
    device: PathBuf,
    /// There once the node has a peer.
    paired: PathBuf,
    open: Option<File>,
    told: bool,
}

impl Guard {
    /// Of the node in this folder.
    pub fn of(node: &Path) -> Self {
        Self::new(DEVICE.into(), node.join("pair").join("pair.json"))
    }

    const fn new(device: PathBuf, paired: PathBuf) -> Self {
        Self { device, paired, open: None, told: false }
    }

    /// Until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            self.look();
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => return self.give_up(),
            }
        }
    }

    fn look(&mut self) {
        if self.paired.exists() {
            return self.give_up();
        }
        match self.feed() {
            Ok(()) => {
                if std::mem::take(&mut self.told) {
                    tracing::info!(device = %self.device.display(), "the watchdog takes what it is fed again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    tracing::warn!(device = %self.device.display(), %error, "the watchdog of this node without a peer cannot be fed");
                }
            }
        }
    }

    /// The first feed arms it.
    fn feed(&mut self) -> io::Result<()> {
        let file = match &mut self.open {
            Some(file) => file,
            none => {
                let file = OpenOptions::new().write(true).open(&self.device)?;
                tracing::info!(device = %self.device.display(), "armed: this node has no peer yet");
                none.insert(file)
            }
        };
        file.write_all(b"1")
    }

    /// watchdog-api.rst: `V` before the close disarms it.
    fn give_up(&mut self) {
        if let Some(mut file) = self.open.take() {
            match file.write_all(b"V") {
                Ok(()) => tracing::info!(device = %self.device.display(), "the watchdog is given up"),
                Err(error) => tracing::warn!(device = %self.device.display(), %error, "the watchdog cannot be disarmed"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fed_until_there_is_a_peer() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join("watchdog");
        let mut guard = Guard::new(device.clone(), dir.path().join("pair.json"));
        guard.look();
        assert!(guard.told && guard.open.is_none(), "no device yet: tried again");
        std::fs::write(&device, "").unwrap();
        guard.look();
        guard.look();
        assert!(!guard.told);
        assert_eq!(std::fs::read(&device).unwrap(), b"11");
        std::fs::write(dir.path().join("pair.json"), "{}").unwrap();
        guard.look();
        guard.look();
        assert_eq!(std::fs::read(&device).unwrap(), b"11V", "disarmed once, and not opened again");
        // Unpaired, it is fed again, and disarmed by an orderly end.
        std::fs::remove_file(dir.path().join("pair.json")).unwrap();
        guard.look();
        guard.give_up();
        assert!(guard.open.is_none());
        assert!(std::fs::read(&device).unwrap().ends_with(b"V"));
    }
}
