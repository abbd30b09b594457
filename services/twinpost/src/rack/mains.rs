//! The power of the nodes: who switched what, and whether a node is really off.
//!
//! Contract: the state of each node's power is a file beside the cables, so it outlives every process: *on*, *off* (switched off by
//! the power switch: the node stays off until it is switched on) and *reset* (by the watchdog or the switch: the node starts again by
//! itself). Whoever changes it, and whoever starts a node, does so under one lock: a node that was read back as off cannot be
//! on its way up.
//!
//! Failure classes: the lock is not free in time, or processes do not end: an error, and the power counts as unknown.

use super::life::Life;
use crate::node::{Folder, write_whole};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the killed may take to end, and how long the lock is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at the lock.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The power of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// It may run.
    On,
    /// It was switched off.
    Off,
    /// It was reset, and starts again by itself.
    Reset,
}

impl Power {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Reset => "reset",
        }
    }
}

/// The power of all nodes of one folder.
#[derive(Clone, Debug)]
pub struct Mains {
    dir: PathBuf,
}

/// While it is held, nobody else starts or switches the node.
#[derive(Debug)]
pub struct Held {
    _lock: Flock<File>,
}

impl Mains {
    /// Of the folder given to `twinpost up`.
    pub fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    fn file(&self, node: &str, what: &str) -> PathBuf {
        self.dir.join("rack").join(format!("power-{node}.{what}"))
    }

    fn folder(&self, node: &str) -> Folder {
        Folder::new(self.dir.join(node))
    }

    /// Waits for the lock of a node.
    ///
    /// # Errors
    /// Somebody holds it for too long.
    pub async fn hold(&self, node: &str) -> Result<Held, String> {
        let path = self.file(node, "lock");
        let end = Instant::now() + PATIENCE;
        let cannot = |e: &dyn std::fmt::Display| format!("cannot lock {}: {e}", path.display());
        let mut file = File::options().write(true).create(true).truncate(false).open(&path).map_err(|e| cannot(&e))?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Held { _lock: lock }),
                Err((_, errno)) if Instant::now() > end => return Err(cannot(&errno)),
                Err((back, _)) => file = back,
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The state of a node's power.
    pub fn power(&self, node: &str) -> Power {
        match std::fs::read_to_string(self.file(node, "state")).unwrap_or_default().trim() {
            "off" => Power::Off,
            "reset" => Power::Reset,
            _ => Power::On,
        }
    }

    /// Writes the state down; the caller holds the node.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set(&self, _held: &Held, node: &str, power: Power) -> Result<(), String> {
        let path = self.file(node, "state");
        write_whole(&path, power.name().as_bytes(), 0o600).map_err(|e| format!("cannot write {}: {e}", path.display()))
    }

    /// Processes of the node that can still do anything.
    pub fn members(&self, node: &str) -> Vec<u32> {
        Life::last(&self.folder(node)).map(|life| life.members()).unwrap_or_default()
    }

    /// Switches a node off: comes back when none of its processes is left.
    ///
    /// # Errors
    /// It is not known to be off.
    pub async fn off(&self, node: &str) -> Result<(), String> {
        self.end(node, Power::Off).await
    }

    /// Resets a node: its processes end at once, and whoever runs it starts it again.
    ///
    /// # Errors
    /// Some of its processes did not end.
    pub async fn reset(&self, node: &str) -> Result<(), String> {
        self.end(node, Power::Reset).await
    }

    async fn end(&self, node: &str, power: Power) -> Result<(), String> {
        let held = self.hold(node).await?;
        self.set(&held, node, power)?;
        match Life::last(&self.folder(node)) {
            Some(life) => life.kill(PATIENCE).await,
            None => Ok(()),
        }
    }

    /// Lets a node have power again.
    ///
    /// # Errors
    /// The lock or the file cannot be had.
    pub async fn on(&self, node: &str) -> Result<(), String> {
        let held = self.hold(node).await?;
        self.set(&held, node, Power::On)
    }

    /// Reads back: off only when it was switched off and none of its processes is left.
    pub fn read(&self, node: &str) -> Power {
        match self.power(node) {
            Power::Off if self.members(node).is_empty() => Power::Off,
            _ => Power::On,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[tokio::test]
    async fn a_node_reads_as_off_only_when_it_was_switched_off_and_nothing_of_it_is_left() {
        let dir = tempfile::tempdir().expect("a folder");
        for sub in ["rack", "a/run"] {
            std::fs::create_dir_all(dir.path().join(sub)).expect("made");
        }
        let mains = Mains::of(dir.path());
        assert_eq!((mains.power("a"), mains.read("a")), (Power::On, Power::On));
        let mut leader = std::process::Command::new("setsid").args(["sleep", "1000"]).spawn().expect("setsid is installed");
        let mut life = Life { pid: leader.id(), born: 0, pids: BTreeMap::new() };
        // It is found once setsid(2) was called.
        let text = loop {
            let text = std::fs::read_to_string(format!("/proc/{}/stat", leader.id())).expect("it runs");
            if text.rsplit_once(") ").is_some_and(|(_, rest)| rest.split(' ').nth(3) == Some(&leader.id().to_string())) {
                break text;
            }
        };
        life.born = text.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(19)?.parse().ok()).expect("a stat line");
        life.keep(&Folder::new(dir.path().join("a"))).expect("written");
        assert_eq!(mains.members("a"), [leader.id()]);

        let held = mains.hold("a").await.expect("free");
        mains.set(&held, "a", Power::Off).expect("written");
        assert_eq!(mains.read("a"), Power::On, "its process runs: it is not off");
        drop(held);
        mains.off("a").await.expect("it can be killed");
        assert_eq!((mains.read("a"), mains.members("a")), (Power::Off, Vec::new()));
        mains.on("a").await.expect("written");
        assert_eq!(mains.read("a"), Power::On);
        mains.reset("a").await.expect("nothing is left to end");
        assert_eq!(mains.power("a"), Power::Reset);
        leader.wait().expect("it is our child");
    }

    #[tokio::test]
    async fn nobody_else_holds_a_node_that_is_held() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(dir.path().join("rack")).expect("made");
        let mains = Mains::of(dir.path());
        let held = mains.hold("b").await.expect("free");
        let waiting = tokio::spawn({
            let mains = mains.clone();
            async move { mains.hold("b").await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        mains.hold("a").await.expect("the other node is another matter");
        drop(held);
        waiting.await.expect("no panic").expect("free again");
    }
}
