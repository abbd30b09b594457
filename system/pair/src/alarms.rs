//! Alarms: kept, told to people once, and kept over a restart together with the last switch.
//!
//! Contract: a lasting trouble is told once until it is over. The last [`ALARMS_MAX`] are kept, in memory and (best effort: an alarm about a
//! full disk must not depend on it) in `journal.json`.

use crate::api::{ALARMS_MAX, Alarm, Severity, Switch};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// Who is told of alarms: by SMS, by mail.
pub trait Alarms: Send + Sync {
    /// Takes it at once: called from the thread that must not wait.
    fn raise(&self, alarm: &Alarm);
}

/// A journal longer than this is not one.
const JOURNAL_MAX_BYTES: u64 = 1 << 20;

/// What outlives the daemon, for people only.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Journal {
    pub(crate) alarms: VecDeque<Alarm>,
    pub(crate) last_switch: Option<Switch>,
}

impl Journal {
    /// What is there; nothing, where there is none or it cannot be read.
    pub(crate) fn load(path: &Path) -> Self {
        let small = std::fs::metadata(path).is_ok_and(|facts| facts.is_file() && facts.len() <= JOURNAL_MAX_BYTES);
        let mut journal: Self = small
            .then(|| std::fs::read(path).ok())
            .flatten()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let surplus = journal.alarms.len().saturating_sub(ALARMS_MAX);
        journal.alarms.drain(..surplus);
        journal
    }
}

/// Where alarms come together.
pub(crate) struct Board {
    pub(crate) journal: Journal,
    lasting: BTreeSet<&'static str>,
    out: Option<Arc<dyn Alarms>>,
    kept: watch::Sender<Journal>,
}

impl Board {
    /// The second value is given to [`keep`].
    pub(crate) fn new(journal: Journal, out: Option<Arc<dyn Alarms>>) -> (Self, watch::Receiver<Journal>) {
        let (kept, changes) = watch::channel(journal.clone());
        (Self { journal, lasting: BTreeSet::new(), out, kept }, changes)
    }

    /// Tells people.
    pub(crate) fn raise(&mut self, alarm: Alarm) {
        if alarm.severity == Severity::Info {
            tracing::info!(code = %alarm.code, "{}", alarm.text.en);
        } else {
            tracing::warn!(code = %alarm.code, severity = ?alarm.severity, "{}", alarm.text.en);
        }
        if let Some(out) = &self.out {
            out.raise(&alarm);
        }
        if self.journal.alarms.len() >= ALARMS_MAX {
            self.journal.alarms.pop_front();
        }
        self.journal.alarms.push_back(alarm);
        self.kept.send_replace(self.journal.clone());
    }

    /// Tells people unless they know already; whether they had to be told.
    pub(crate) fn lasting(&mut self, key: &'static str, alarm: impl FnOnce() -> Alarm) -> bool {
        let new = self.lasting.insert(key);
        if new {
            self.raise(alarm());
        }
        new
    }

    /// That trouble is over; whether it was there.
    pub(crate) fn over(&mut self, key: &str) -> bool {
        self.lasting.remove(key)
    }

    /// Whether that trouble lasts.
    pub(crate) fn lasts(&self, key: &str) -> bool {
        self.lasting.contains(key)
    }

    pub(crate) fn switched(&mut self, switch: Switch) {
        self.journal.last_switch = Some(switch);
        self.kept.send_replace(self.journal.clone());
    }
}

/// Writes the journal whenever it has changed.
pub(crate) async fn keep(path: PathBuf, mut changes: watch::Receiver<Journal>) {
    while changes.changed().await.is_ok() {
        let journal = changes.borrow_and_update().clone();
        let path = path.clone();
        let written = tokio::task::spawn_blocking(move || {
            let text = serde_json::to_vec(&journal).map_err(std::io::Error::other)?;
            crate::memory::replace(&path, &text)
        });
        if let Ok(Err(e)) = written.await {
            tracing::info!(error = %e, "the journal of alarms cannot be kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    struct Told(Mutex<Vec<String>>);

    impl Alarms for Told {
        fn raise(&self, alarm: &Alarm) {
            self.0.lock().expect("no panic under it").push(alarm.code.clone());
        }
    }

    fn alarm(code: impl Into<String>) -> Alarm {
        Alarm { code: code.into(), ..Alarm::default() }
    }

    #[test]
    fn a_lasting_trouble_is_told_once_until_it_is_over() {
        let told = Arc::new(Told(Mutex::default()));
        let (mut board, _kept) = Board::new(Journal::default(), Some(told.clone()));
        for _ in 0..3 {
            board.lasting("disk", || alarm("disk"));
        }
        assert!(board.over("disk") && !board.over("disk"));
        board.lasting("disk", || alarm("disk again"));
        assert_eq!(*told.0.lock().expect("whole"), ["disk", "disk again"]);
        for n in 0..2 * ALARMS_MAX {
            board.raise(alarm(n.to_string()));
        }
        assert_eq!(board.journal.alarms.len(), ALARMS_MAX);
        assert_eq!(board.journal.alarms.back().map(|a| a.code.clone()), Some((2 * ALARMS_MAX - 1).to_string()));
    }

    #[test]
    fn any_journal_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal.json");
        assert!(Journal::load(&path).alarms.is_empty());
        for text in ["", "{", "[]", "{\"alarms\":7}", "{\"unknown\":1}"] {
            std::fs::write(&path, text).expect("written");
            assert!(Journal::load(&path).alarms.is_empty());
        }
        let many = Journal { alarms: (0..150).map(|n| alarm(n.to_string())).collect(), last_switch: None };
        std::fs::write(&path, serde_json::to_vec(&many).expect("serialises")).expect("written");
        assert_eq!(Journal::load(&path).alarms.len(), ALARMS_MAX);
    }
}
