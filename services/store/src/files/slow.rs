//! A file layer with slow syncs.
//!
//! Contract: every call passes to the layer below; [`DiskFile::sync_data`] and [`Files::sync_dir`] take `fsync_delay`
//! longer. The benchmark puts this under the store to show what group commit does on a disk that needs milliseconds for a
//! sync. It fails only as the layer below does.

use super::{DiskFile, Files, Mode, Room};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Another layer with a delay in every sync.
#[derive(Clone, Debug)]
pub struct SlowFiles {
    /// The layer that does the work.
    pub below: Arc<dyn Files>,
    /// Added to every sync.
    pub fsync_delay: Duration,
}

impl SlowFiles {
    /// `below` with this much added to every sync.
    #[must_use]
    pub fn new(below: Arc<dyn Files>, fsync_delay: Duration) -> Self {
        Self { below, fsync_delay }
    }
}

#[derive(Debug)]
struct SlowFile {
    below: Arc<dyn DiskFile>,
    fsync_delay: Duration,
}

impl DiskFile for SlowFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.below.read_at(buffer, offset)
    }
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.below.write_at(parts, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        std::thread::sleep(self.fsync_delay);
        self.below.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        self.below.len()
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.below.set_len(bytes)
    }
    fn allocate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.below.allocate(offset, bytes)
    }
}

impl Files for SlowFiles {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(SlowFile { below: self.below.open(path, mode)?, fsync_delay: self.fsync_delay }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.below.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.below.remove(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.below.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.below.create_dir(dir)
    }
    fn room(&self, dir: &Path) -> io::Result<Room> {
        self.below.room(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        std::thread::sleep(self.fsync_delay);
        self.below.sync_dir(dir)
    }
}
