//! Everything that happened on a rig, with seconds since its start.
//!
//! Contract: every line of every console, every event and order of a monitor, every order to a node and its answer, and what clients
//! saw, lies in one file in the order in which the rig saw it. On a failure the end of it is printed, one part a source, so that
//! the cause is near. Lines are cut at [`LINE_MOST`] bytes; the last [`KEEP`] events are held in memory.
//!
//! Failure classes: a file that cannot be written is said once on standard error; the rig goes on.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Events held in memory.
const KEEP: usize = 60_000;
/// Longest line.
const LINE_MOST: usize = 16 << 10;

/// Locks what no panic can leave half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Since the start of the rig.
    pub at: Duration,
    /// Who saw it, such as `a console`, `b qmp`, `rig`, `client`.
    pub source: String,
    /// What.
    pub text: String,
}

struct Inner {
    started: Instant,
    folder: PathBuf,
    state: Mutex<State>,
}

struct State {
    file: Option<File>,
    events: VecDeque<Event>,
    /// Progress lines go to standard output.
    loud: bool,
}

/// See the module. Clones are the same timeline.
#[derive(Clone)]
pub struct Timeline(Arc<Inner>);

impl std::fmt::Debug for Timeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timeline").field("folder", &self.0.folder).finish_non_exhaustive()
    }
}

/// Control characters would move the cursor of who reads it.
fn plain(text: &str) -> String {
    let mut end = text.len().min(LINE_MOST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut = if end < text.len() { " ..." } else { "" };
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).chain(cut.chars()).collect()
}

impl Timeline {
    /// Begins one whose file `timeline.log` lies in this folder.
    #[must_use]
    pub fn begin(folder: &Path) -> Self {
        let _ = std::fs::create_dir_all(folder);
        let path = folder.join("timeline.log");
        let file = match File::create(&path) {
            Ok(file) => Some(file),
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "{}: {error}: the timeline is kept in memory only", path.display());
                None
            }
        };
        let state = Mutex::new(State { file, events: VecDeque::new(), loud: true });
        Self(Arc::new(Inner { started: Instant::now(), folder: folder.to_owned(), state }))
    }

    /// Progress lines stay off standard output.
    #[must_use]
    pub fn quiet(self) -> Self {
        lock(&self.0.state).loud = false;
        self
    }

    /// Where its file and the files of [`Timeline::keep`] lie.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// Adds an event; each line of the text is one.
    pub fn note(&self, source: &str, text: &str) {
        let at = self.now();
        let mut state = lock(&self.0.state);
        for line in text.split('\n').map(|line| line.trim_end_matches('\r')).filter(|line| !line.is_empty()) {
            let event = Event { at, source: source.to_owned(), text: plain(line) };
            if let Some(file) = &mut state.file
                && writeln!(file, "{:9.3} {:<10} {}", at.as_secs_f64(), event.source, event.text).is_err()
            {
                state.file = None;
            }
            if state.events.len() == KEEP {
                state.events.pop_front();
            }
            state.events.push_back(event);
        }
    }

    /// Adds an event of the rig itself and shows it to the person who waits.
    pub fn say(&self, text: &str) {
        self.note("rig", text);
        if lock(&self.0.state).loud {
            let _ = writeln!(std::io::stdout(), "{:7.1} s  {}", self.now().as_secs_f64(), plain(text));
        }
    }

    /// Whether a source said something that contains this text, at or after the moment; when it was.
    #[must_use]
    pub fn find(&self, source: &str, text: &str, from: Duration) -> Option<Duration> {
        let state = lock(&self.0.state);
        state.events.iter().find(|e| e.at >= from && e.source == source && e.text.contains(text)).map(|e| e.at)
    }

    /// All that a source said since the moment.
    #[must_use]
    pub fn since(&self, source: &str, from: Duration) -> Vec<Event> {
        lock(&self.0.state).events.iter().filter(|e| e.at >= from && e.source == source).cloned().collect()
    }

    /// Keeps a text as a file beside the timeline.
    pub fn keep(&self, name: &str, text: &[u8]) {
        if let Err(error) = std::fs::write(self.0.folder.join(name), text) {
            self.note("rig", &format!("{name} cannot be kept: {error}"));
        }
    }

    /// The last lines of each source since the moment, and the last of all together: what a person reads after a failure.
    #[must_use]
    pub fn last(&self, from: Duration, lines: usize) -> String {
        let state = lock(&self.0.state);
        let mut sources: Vec<&str> = state.events.iter().map(|e| e.source.as_str()).collect();
        sources.sort_unstable();
        sources.dedup();
        let mut out = String::new();
        let mut part = |title: &str, events: Vec<&Event>, source: bool| {
            if events.is_empty() {
                return;
            }
            out += &format!("--- {title}\n");
            for event in &events[events.len().saturating_sub(lines)..] {
                let by = if source { format!("{:<10} ", event.source) } else { String::new() };
                out += &format!("{:9.3} {by}{}\n", event.at.as_secs_f64(), event.text);
            }
        };
        let recent = || state.events.iter().filter(|e| e.at >= from);
        for source in sources {
            part(&format!("{source} (the end)"), recent().filter(|e| e.source == source).collect(), false);
        }
        part("all together (the end)", recent().filter(|e| !e.source.ends_with("serial")).collect(), true);
        out + &format!("--- the whole timeline: {}\n", self.0.folder.join("timeline.log").display())
    }
}

#[cfg(test)]
mod tests {
    use super::Timeline;
    use std::time::Duration;

    #[test]
    fn events_are_found_by_source_and_time_and_the_file_has_all() {
        let folder = tempfile::tempdir().unwrap();
        let timeline = Timeline::begin(folder.path()).quiet();
        timeline.note("a console", "one\r\ntwo\x1b[2J");
        timeline.note("b console", "one");
        assert!(timeline.find("a console", "two", Duration::ZERO).is_some());
        assert!(timeline.find("b console", "two", Duration::ZERO).is_none());
        assert!(timeline.find("a console", "one", timeline.now() + Duration::from_secs(1)).is_none());
        assert_eq!(timeline.since("a console", Duration::ZERO).len(), 2);
        let text = std::fs::read_to_string(folder.path().join("timeline.log")).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(!text.contains('\x1b'));
        let last = timeline.last(Duration::ZERO, 1);
        assert!(last.contains("--- a console") && last.contains("two") && last.contains("--- all together"), "{last}");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let folder = tempfile::tempdir().unwrap();
        let timeline = Timeline::begin(folder.path()).quiet();
        timeline.note("rig", &"\u{4e2d}".repeat(16_000));
        assert!(timeline.since("rig", Duration::ZERO)[0].text.len() < 20_000);
    }
}
