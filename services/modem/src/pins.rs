//! Which PIN a SIM refused: remembered on disk, so that a wrong PIN costs one try of three, once and for all.
//!
//! Contract: [`PinMemory::trying`] is on stable storage before the PIN goes to the SIM; only [`PinMemory::accepted`]
//! takes it back. [`decide`] is the whole policy. A SIM is known by its ICCID, or as "?" where the modem cannot read it
//! without a PIN. The file does not hold the PIN, but a fingerprint; it does not protect it (four digits cannot be), so
//! the file is for its owner alone.
//!
//! Failure classes: a file that cannot be written means that no PIN is tried ([`std::io::Error`]).

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::settings::Pin;

/// SIM cards remembered at most.
const MAX_SIMS: usize = 64;

/// Whether to enter a PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Enter it.
    Try,
    /// This PIN was refused by this SIM, or its outcome is unknown.
    Refused,
    /// The SIM has only one try left: somebody else used up the others.
    LastTry,
}

/// `spent`: this PIN was entered on this SIM before and not accepted. `left`: tries left, if the SIM tells.
pub(crate) fn decide(spent: bool, left: Option<u8>) -> Decision {
    match (spent, left) {
        (_, Some(0 | 1)) => Decision::LastTry,
        // A full counter says that the right PIN was entered since, elsewhere: this may be the right one now.
        (true, Some(3..)) | (false, _) => Decision::Try,
        (true, _) => Decision::Refused,
    }
}

/// The memory.
#[derive(Debug)]
pub(crate) struct PinMemory {
    path: Option<PathBuf>,
    spent: BTreeMap<String, u64>,
}

impl PinMemory {
    /// Reads the file; one that cannot be understood is as good as empty, line by line.
    pub(crate) fn load(path: Option<&Path>) -> PinMemory {
        let text = path.and_then(|p| std::fs::read_to_string(p).ok()).unwrap_or_default();
        let mut spent = BTreeMap::new();
        for line in text.lines().take(MAX_SIMS) {
            if let Some((sim, print)) = line.split_once(' ')
                && let Ok(print) = u64::from_str_radix(print.trim(), 16)
            {
                spent.insert(sim.to_owned(), print);
            }
        }
        PinMemory { path: path.map(Path::to_owned), spent }
    }

    /// Whether nothing is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.spent.is_empty()
    }

    /// Whether this PIN was entered on this SIM and not accepted.
    pub(crate) fn spent(&self, sim: Option<&str>, pin: &Pin) -> bool {
        // A PIN refused by an unreadable SIM is refused wherever it may be this SIM.
        let known = |sim: &str| self.spent.get(sim).is_some_and(|print| *print == fingerprint(sim, pin));
        known("?") || sim.is_some_and(known)
    }

    /// The PIN is about to be entered. It is as good as refused until it was accepted.
    pub(crate) fn trying(&mut self, sim: Option<&str>, pin: &Pin) -> io::Result<()> {
        let sim = sim.unwrap_or("?");
        while self.spent.len() >= MAX_SIMS {
            self.spent.pop_first();
        }
        self.spent.insert(sim.to_owned(), fingerprint(sim, pin));
        self.save()
    }

    /// The SIM took the PIN (or wants none).
    pub(crate) fn accepted(&mut self, sim: Option<&str>) {
        let known = self.spent.remove(sim.unwrap_or("?")).is_some() | self.spent.remove("?").is_some();
        if known && let Err(error) = self.save() {
            tracing::warn!(%error, "cannot write down that the SIM took the PIN");
        }
    }

    fn save(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let new = path.with_extension("new");
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&new)?;
        for (sim, print) in &self.spent {
            writeln!(file, "{sim} {print:016x}")?;
        }
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        std::fs::File::open(dir)?.sync_all()
    }
}

/// FNV-1a of SIM and PIN: stable over versions.
fn fingerprint(sim: &str, pin: &Pin) -> u64 {
    let bytes = sim.bytes().chain([b' ']).chain(pin.digits().bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_a_second_wrong_try() {
        assert_eq!(decide(false, None), Decision::Try);
        assert_eq!(decide(false, Some(3)), Decision::Try);
        assert_eq!(decide(false, Some(2)), Decision::Try);
        assert_eq!(decide(true, None), Decision::Refused);
        assert_eq!(decide(true, Some(2)), Decision::Refused);
        assert_eq!(decide(true, Some(3)), Decision::Try);
        for spent in [false, true] {
            assert_eq!(decide(spent, Some(1)), Decision::LastTry);
            assert_eq!(decide(spent, Some(0)), Decision::LastTry);
        }
    }

    #[test]
    fn memory_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pins");
        let (one, two) = (Pin::new("1234").unwrap(), Pin::new("4321").unwrap());
        let mut memory = PinMemory::load(Some(&path));
        assert!(!memory.spent(Some("8986"), &one));
        memory.trying(Some("8986"), &one).unwrap();
        let mut memory = PinMemory::load(Some(&path));
        assert!(memory.spent(Some("8986"), &one));
        assert!(!memory.spent(Some("8986"), &two), "another PIN may be tried");
        assert!(!memory.spent(Some("8949"), &one), "on another SIM it may be tried");
        assert!(!std::fs::read_to_string(&path).unwrap().contains("1234"));
        memory.accepted(Some("8986"));
        assert!(!PinMemory::load(Some(&path)).spent(Some("8986"), &one));
        // A SIM without a readable number
        let mut memory = PinMemory::load(Some(&path));
        memory.trying(None, &one).unwrap();
        let memory = PinMemory::load(Some(&path));
        assert!(memory.spent(None, &one) && memory.spent(Some("8986"), &one) && !memory.spent(None, &two));
        std::fs::write(&path, "rubbish\n\0\0 zz\n").unwrap();
        assert!(!PinMemory::load(Some(&path)).spent(None, &one));
    }

    #[test]
    fn no_memory_no_try() {
        let pin = Pin::new("1234").unwrap();
        assert!(PinMemory::load(Some(Path::new("/nonexistent/pins"))).trying(None, &pin).is_err());
        assert!(Pin::new("123").is_err() && Pin::new("12a4").is_err() && Pin::new("123456789").is_err());
        assert_eq!(format!("{pin:?}"), "Pin(..)");
    }
}
