//! A recorded run, and the disks that a power cut at any of its moments could leave.
//!
//! Contract: [`Replay::at`] gives a disk that holds everything whose sync had ended before the cut and, of everything else
//! that had begun, what the seed draws (see [`FaultFiles`]); [`Replay::said`] gives the lines that had been said by then. The
//! mutants change the record as a store with that error would have written it.

use crate::trace::{Call, Event};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use twinpost_store::files::{FaultFiles, Files, Mode};

/// An error that a store could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    None,
    /// It answers when the packs are written, before they are synced.
    AnswerBeforePackSync,
    /// It answers before the commit of the index is on the disk.
    AnswerBeforeCommit,
    /// It leaves the sync of the packs to somebody in the background: the index is committed long before.
    CommitBeforePackSync,
}

pub struct Replay {
    events: Vec<Event>,
    /// Next event to be done.
    next: usize,
    disk: FaultFiles,
    /// Syncs that have begun: the position where they end, what they cover, and whether it is a folder.
    syncs: Vec<(usize, u64, PathBuf, bool)>,
    said: Vec<(usize, String)>,
}

fn is_pack(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "pack")
}
fn is_log(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"-wal")
}
fn place(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

impl Replay {
    /// A run that began on this disk.
    pub fn on(disk: &FaultFiles, events: &[Event]) -> Self {
        Self { disk: disk.after_cut(0), ..Self::new(events, Mutant::None) }
    }

    pub fn new(events: &[Event], mutant: Mutant) -> Self {
        // The call before the last sync of such a file: what was to be synced is written then.
        let sync_before = |at: usize, what: fn(&Path) -> bool| {
            (0..at)
                .rev()
                .find(|i| matches!(&events[*i].call, Call::Sync { path } if what(path)))
                .map_or(at, |sync| sync.saturating_sub(1))
        };
        let mut said = Vec::new();
        for (at, event) in events.iter().enumerate() {
            if let Call::Said(line) = &event.call {
                let is_answer = line.starts_with("ack ");
                let at = match mutant {
                    Mutant::AnswerBeforePackSync if is_answer => sync_before(at, is_pack),
                    Mutant::AnswerBeforeCommit if is_answer => sync_before(at, is_log),
                    _ => at,
                };
                said.push((at, line.clone()));
            }
        }
        said.sort_by_key(|(at, _)| *at);
        let mut events = events.to_vec();
        if mutant == Mutant::CommitBeforePackSync {
            for at in 0..events.len() {
                if matches!(&events[at].call, Call::Sync { path } if is_pack(path)) {
                    // The next commit can be that of the batch before: the packs are one batch ahead of the index.
                    let log = events.iter().skip(at).filter(|e| matches!(&e.call, Call::Sync { path } if is_log(path))).nth(1);
                    events[at].ended = log.map_or(usize::MAX, |e| e.ended.saturating_add(8));
                }
            }
        }
        Self { events, next: 0, disk: FaultFiles::new(0), syncs: Vec::new(), said }
    }

    /// What a cut before the event with this number could leave. Cuts are taken in rising order.
    pub fn disk_at(&mut self, cut: usize, seed: u64) -> FaultFiles {
        assert!(cut >= self.next, "cuts are taken in rising order");
        while self.next < cut {
            self.step();
        }
        self.disk.after_cut(seed)
    }

    /// What had been said before the cut.
    pub fn said(&self, cut: usize) -> impl Iterator<Item = &str> {
        self.said.iter().take_while(move |(at, _)| *at < cut).map(|(_, line)| &**line)
    }

    fn step(&mut self) {
        let at = self.next;
        self.next += 1;
        self.apply(at).unwrap_or_else(|e| panic!("event {at}, {:?}: {e}", self.events[at].call));
        for (_, until, path, is_dir) in self.syncs.extract_if(.., |(ended, ..)| *ended <= at + 1) {
            if is_dir {
                self.disk.sync_dir_until(&path, until);
            } else {
                self.disk.sync_until(&path, until);
            }
        }
    }

    fn apply(&mut self, at: usize) -> std::io::Result<()> {
        let event = &self.events[at];
        let disk = &self.disk;
        match &event.call {
            Call::Said(_) => {}
            Call::Create { path } => {
                let path = place(path);
                if let Some(dir) = path.parent() {
                    disk.create_dir(dir)?;
                }
                if disk.open(&path, Mode::Read).is_err() {
                    disk.open(&path, Mode::Create)?;
                }
            }
            Call::Write { path, offset, bytes } => {
                disk.open(&place(path), Mode::Write)?.write_at(&[IoSlice::new(bytes)], *offset)?;
            }
            Call::SetLen { path, bytes } => disk.open(&place(path), Mode::Write)?.set_len(*bytes)?,
            Call::Allocate { path, offset, bytes } => disk.open(&place(path), Mode::Write)?.allocate(*offset, *bytes)?,
            Call::Remove { path } => disk.remove(&place(path))?,
            Call::Rename { from, to } => disk.rename(&place(from), &place(to))?,
            Call::Sync { path } => self.syncs.push((event.ended, disk.ops(), place(path), false)),
            Call::SyncDir { path } => self.syncs.push((event.ended, disk.ops(), place(path), true)),
        }
        Ok(())
    }
}
