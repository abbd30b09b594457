//! Room for a start: a file that takes space while there is some, and is removed when a store has to open without any.
//!
//! Contract: a database in WAL mode cannot be opened on a disk without a free block: its shared memory is a file (SQLite, "Write-Ahead Logging",
//! section 5). So an open store holds [`BYTES`] in a file of its own. [`at_open`] gives them back when nothing else is free, and [`refill`] takes
//! them again once there is room for them and for what new mail leaves free.
//!
//! Failure classes: none. Without the file a start on a full disk fails as it would have.

use crate::files::{Files as _, RealFiles, Room};
use crate::pack::PackOptions;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::{File, remove_file};
use std::path::Path;

/// Name of the file, in the folder of the store.
const NAME: &str = "room-for-a-start";
/// Enough for the shared memory and the first log of each database of a node.
const BYTES: u64 = 8 << 20;

/// Before the index is opened.
pub(crate) fn at_open(dir: &Path) {
    if let Ok(room) = RealFiles.room(dir) {
        make_room(dir, room);
    }
}

/// While the store is open, once in a while.
pub(crate) fn refill(dir: &Path) {
    if let Ok(room) = RealFiles.room(dir) {
        take_room(dir, room);
    }
}

fn make_room(dir: &Path, room: Room) {
    if room.free < BYTES && remove_file(dir.join(NAME)).is_ok() {
        tracing::warn!(dir = %dir.display(), free_bytes = room.free, "the disk is full: what was kept for a start is used");
    }
}

fn take_room(dir: &Path, room: Room) {
    let path = dir.join(NAME);
    if path.exists() || room.free < 2 * BYTES + PackOptions::default().kept_free(room.total) {
        return;
    }
    let made = File::create(&path).and_then(|file| Ok(fallocate(file, FallocateFlags::empty(), 0, BYTES.cast_signed())?));
    if let Err(error) = made {
        // A file without its blocks would be taken for one that has them.
        let _ = remove_file(&path);
        tracing::info!(%error, "no room can be kept for a start on a full disk");
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES, NAME, make_room, take_room};
    use crate::files::Room;

    #[test]
    fn it_is_taken_while_there_is_room_and_given_back_once() {
        let dir = tempfile::tempdir().unwrap();
        let there = || std::fs::metadata(dir.path().join(NAME)).ok().map(|facts| facts.len());
        let total = 10 << 30;
        for (free, held) in [(0, None), (79 << 20, None), (80 << 20, Some(BYTES)), (0, Some(BYTES))] {
            take_room(dir.path(), Room { free, total });
            assert_eq!(there(), held, "{free}");
        }
        for (free, held) in [(BYTES, Some(BYTES)), (BYTES - 1, None), (0, None)] {
            make_room(dir.path(), Room { free, total });
            assert_eq!(there(), held, "{free}");
        }
    }
}
