//! What an administrator said and what must outlive a restart: the rule for going back, a maintenance with its end.
//!
//! Contract: [`Memory::keep`] returns when it is on stable storage; the file is replaced whole. The end of a maintenance is kept as time since
//! the machine started, which nobody can set; only after a restart of the machine itself the wall clock has to do, and then never
//! more is left than was at first.
//!
//! Failure classes: the system's error; the order is then refused.

use crate::api::FailBack;
use crate::clock;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A file longer than this is not ours.
const MAX_BYTES: u64 = 64 * 1024;

/// The file.
#[derive(Debug)]
pub(crate) struct Memory {
    path: PathBuf,
    said: Said,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Said {
    fail_back: Option<FailBack>,
    maintenance: Option<Maintenance>,
    /// The peer is off by a person's order: its start at that time.
    peer_off: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Maintenance {
    /// Which start of the machine.
    boot: String,
    /// End, on its clock.
    until_ms: u64,
    /// End on the wall clock.
    until_s: i64,
    /// How long it was to last.
    for_ms: u64,
}

impl Memory {
    /// What is there; nothing where there is none or it cannot be understood.
    pub(crate) fn load(path: PathBuf) -> Self {
        let small = std::fs::metadata(&path).is_ok_and(|facts| facts.is_file() && facts.len() <= MAX_BYTES);
        let text = if small { std::fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let said = serde_json::from_slice(&text).unwrap_or_else(|e| {
            if !text.is_empty() {
                tracing::warn!(path = %path.display(), error = %e, "what was kept cannot be understood and is forgotten");
            }
            Said::default()
        });
        Self { path, said }
    }

    /// The rule that an order set.
    pub(crate) fn fail_back(&self) -> Option<&FailBack> {
        self.said.fail_back.as_ref()
    }

    /// What is left of a maintenance; 0 for none.
    pub(crate) fn maintenance_left_ms(&self) -> u64 {
        let Some(kept) = &self.said.maintenance else { return 0 };
        let boot = clock::machine_boot();
        let left = if !boot.is_empty() && kept.boot == boot {
            kept.until_ms.saturating_sub(clock::now_ms())
        } else {
            u64::try_from(kept.until_s.saturating_sub(clock::wall_s())).unwrap_or(0).saturating_mul(1000)
        };
        left.min(kept.for_ms)
    }

    /// The peer's start in which it was switched off by a person's order, and not heard since.
    pub(crate) fn peer_off(&self) -> Option<u32> {
        self.said.peer_off
    }

    /// Keeps that the peer is off by order; none: it is back.
    pub(crate) fn keep_peer_off(&mut self, boot: Option<u32>) -> io::Result<()> {
        if boot == self.said.peer_off {
            return Ok(());
        }
        self.keep(Said { peer_off: boot, ..self.said.clone() })
    }

    /// Keeps the rule.
    pub(crate) fn keep_fail_back(&mut self, rule: FailBack) -> io::Result<()> {
        self.keep(Said { fail_back: Some(rule), ..self.said.clone() })
    }

    /// Keeps the end of a maintenance that lasts so long from now; 0 for none.
    pub(crate) fn keep_maintenance(&mut self, for_ms: u64) -> io::Result<()> {
        let maintenance = (for_ms > 0).then(|| Maintenance {
            boot: clock::machine_boot(),
            until_ms: clock::now_ms().saturating_add(for_ms),
            until_s: clock::wall_s().saturating_add(i64::try_from(for_ms / 1000).unwrap_or(0)),
            for_ms,
        });
        if maintenance.is_none() && self.said.maintenance.is_none() {
            return Ok(());
        }
        self.keep(Said { maintenance, ..self.said.clone() })
    }

    fn keep(&mut self, said: Said) -> io::Result<()> {
        replace(&self.path, &serde_json::to_vec(&said).map_err(io::Error::other)?)?;
        self.said = said;
        Ok(())
    }
}

/// Replaces a file whole, on stable storage.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_there_after_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("rules.json");
        let mut memory = Memory::load(path.clone());
        assert_eq!((memory.fail_back(), memory.maintenance_left_ms()), (None, 0));
        let rule = FailBack::Node { node: "a".to_owned(), after_s: 600 };
        memory.keep_fail_back(rule.clone()).expect("kept");
        memory.keep_maintenance(3_600_000).expect("kept");
        let memory = Memory::load(path.clone());
        assert_eq!(memory.fail_back(), Some(&rule));
        let left = memory.maintenance_left_ms();
        assert!((3_590_000..=3_600_000).contains(&left), "{left}");
        let mut memory = Memory::load(path.clone());
        memory.keep_maintenance(0).expect("kept");
        assert_eq!(Memory::load(path).maintenance_left_ms(), 0);
    }

    #[test]
    fn that_the_peer_is_off_by_order_outlives_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("rules.json");
        Memory::load(path.clone()).keep_peer_off(Some(7)).expect("kept");
        let mut memory = Memory::load(path.clone());
        assert_eq!(memory.peer_off(), Some(7));
        memory.keep_peer_off(None).expect("kept");
        assert_eq!(Memory::load(path).peer_off(), None);
    }

    #[test]
    fn the_wall_clock_neither_ends_nor_prolongs_a_maintenance() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("rules.json");
        let mut memory = Memory::load(path);
        memory.keep_maintenance(1_000_000).expect("kept");
        let kept = memory.said.maintenance.as_mut().expect("there");
        // The wall clock was an hour behind when it was kept: it would be over by that clock.
        kept.until_s -= 3600;
        assert!(memory.maintenance_left_ms() > 990_000);
        // After a restart of the machine there is only the wall clock, but never more than was ordered.
        let kept = memory.said.maintenance.as_mut().expect("there");
        (kept.boot, kept.until_s) = ("another".to_owned(), kept.until_s + 72_000);
        assert_eq!(memory.maintenance_left_ms(), 1_000_000);
    }

    #[test]
    fn any_file_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("rules.json");
        for text in ["{", "[]", "{\"maintenance\":3}", "{\"fail_back\":{\"to\":\"moon\"}}", "\u{0}"] {
            std::fs::write(&path, text).expect("written");
            assert_eq!(Memory::load(path.clone()).said, Said::default());
        }
    }
}
