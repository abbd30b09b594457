//! The operating system's files.
//!
//! Contract: each call is one system call where the kernel takes all at once, repeated where it took a part; interrupted
//! calls are repeated. No buffering here: what was written is in the kernel's cache, what was synced is on the disk as
//! far as the disk tells the truth.

use super::{DiskFile, Files, Mode, Room};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;
use nix::sys::uio::pwritev;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Most parts that one `pwritev` takes (`IOV_MAX` of Linux).
const PARTS_MAX: usize = 1024;

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFiles;

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.0.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        for some in parts.chunks(PARTS_MAX) {
            let total: usize = some.iter().map(|p| p.len()).sum();
            let written = loop {
                match pwritev(&self.0, some, i64::try_from(offset).map_err(io::Error::other)?) {
                    Ok(n) => break n,
                    Err(nix::errno::Errno::EINTR) => {}
                    Err(e) => return Err(e.into()),
                }
            };
            if written < total {
                self.write_rest(some, written, offset)?;
            }
            offset += total as u64;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        // No repetition, not even after EINTR: whether the first call dropped the failed pages cannot be known.
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn allocate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let signed = |n: u64| i64::try_from(n).map_err(io::Error::other);
        loop {
            match fallocate(&self.0, FallocateFlags::empty(), signed(offset)?, signed(bytes)?) {
                Err(nix::errno::Errno::EINTR) => {}
                other => return Ok(other?),
            }
        }
    }
}

impl RealFile {
    /// The kernel took only a part (a nearly full disk): the rest goes slice by slice, and ends in its error.
    fn write_rest(&self, parts: &[IoSlice<'_>], mut skip: usize, mut offset: u64) -> io::Result<()> {
        offset += skip as u64;
        for part in parts {
            let some = &part[skip.min(part.len())..];
            skip -= part.len() - some.len();
            self.0.write_all_at(some, offset)?;
            offset += some.len() as u64;
        }
        Ok(())
    }
}

impl Files for RealFiles {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        match mode {
            Mode::Read => options.read(true),
            Mode::Write => options.read(true).write(true),
            // Mail is private: nobody but the service's own user reads it.
            Mode::Create => options.read(true).write(true).create_new(true).mode(0o600),
        };
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        if let Some(above) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
            self.create_dir(above)?;
            fs::create_dir(dir)?;
            return self.sync_dir(above);
        }
        fs::create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn room(&self, dir: &Path) -> io::Result<Room> {
        let facts = statvfs(dir)?;
        let bytes = |blocks: u64| blocks.saturating_mul(facts.fragment_size());
        Ok(Room { free: bytes(facts.blocks_available()), total: bytes(facts.blocks()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_parts_are_written_in_order_and_read_back() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (files, path) = (RealFiles, dir.path().join("sub/a"));
        files.create_dir(&dir.path().join("sub"))?;
        let file = files.open(&path, Mode::Create)?;
        assert_eq!(files.open(&path, Mode::Create).map_err(|e| e.kind()).unwrap_err(), io::ErrorKind::AlreadyExists);
        // More parts than one system call takes.
        let bytes: Vec<u8> = (0..5000u32).flat_map(u32::to_le_bytes).collect();
        let parts: Vec<IoSlice<'_>> = bytes.chunks(7).map(IoSlice::new).collect();
        file.write_at(&parts, 3)?;
        file.sync_data()?;
        let mut back = vec![1; bytes.len() + 9];
        assert_eq!(file.read_at(&mut back, 3)?, bytes.len());
        assert_eq!(back[..bytes.len()], bytes);
        file.allocate(0, 1 << 16)?;
        assert_eq!(file.len()?, 1 << 16);
        assert_eq!(file.read_at(&mut back[..4], 60_000)?, 4);
        assert_eq!(back[..4], [0; 4]);
        files.rename(&path, &dir.path().join("sub/b"))?;
        files.sync_dir(&dir.path().join("sub"))?;
        assert_eq!(files.list(&dir.path().join("sub"))?, ["b"]);
        Ok(())
    }

    #[test]
    fn the_rest_of_a_short_write_starts_where_the_kernel_stopped() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let file = RealFile(OpenOptions::new().read(true).write(true).create_new(true).open(dir.path().join("a"))?);
        let parts = [IoSlice::new(b"abc"), IoSlice::new(b""), IoSlice::new(b"defg"), IoSlice::new(b"h")];
        for taken in 0..=8 {
            file.0.set_len(0)?;
            file.0.write_all_at(&b"abcdefgh"[..taken], 0)?;
            file.write_rest(&parts, taken, 0)?;
            let mut back = [0; 9];
            assert_eq!((file.read_at(&mut back, 0)?, &back[..8]), (8, &b"abcdefgh"[..]), "taken {taken}");
        }
        Ok(())
    }
}
