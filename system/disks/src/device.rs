//! Bytes of disks: reading past the page cache, zeroing, waiting for nodes.
//!
//! Contract: what is read is what is on the disk, not what was there when it was last read; what is written is on the disk when the call
//! returns. Failure classes: those of the disk.

use crate::Error;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate, inotify};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Zeros are written in pieces of this size where the disk cannot make them itself.
const ZERO_STEP_BYTES: u64 = 64 << 20;

/// Runs work that waits for a disk on a thread of its own.
pub async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::BrokenOff { path: path.into() })?
}

/// For reading.
pub fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(Error::io("open", path))
}

/// For reading and writing.
pub fn open_rw(path: &Path) -> Result<File, Error> {
    OpenOptions::new().read(true).write(true).open(path).map_err(Error::io("open for writing", path))
}

/// Reads as much as there is of this range. The kernel's copy is dropped before: arrays write past it.
pub fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    // Advice only: a file system that does not know it has no second writer either.
    let _ = fadvise(file, offset, None, Advice::DontNeed);
    let mut out = vec![0; len];
    let mut have = 0;
    while have < len {
        match file.read_at(&mut out[have..], offset + have as u64) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    out.truncate(have);
    Ok(out)
}

/// Every byte is zero. Compared in blocks: byte by byte it takes longer than the disk.
pub fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|part| *part == ZEROS[..part.len()])
}

/// Whether a range is zero at both ends (1 MiB) and in samples between.
pub fn looks_blank(file: &File, start: u64, len: u64) -> io::Result<bool> {
    const END: u64 = 1 << 20;
    const SAMPLES: u64 = 64;
    let zero = |offset: u64, len: u64| -> io::Result<bool> {
        Ok(is_zero(&read_at(file, offset, usize::try_from(len).unwrap_or(usize::MAX))?))
    };
    if len <= 2 * END {
        return zero(start, len);
    }
    if !zero(start, END)? || !zero(start + len - END, END)? {
        return Ok(false);
    }
    for sample in 1..SAMPLES {
        if !zero(start + len / SAMPLES * sample / 4096 * 4096, 4096)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Lets the disk make a range zero by itself, if it can; not yet durable. A hole of a block device reads as zeros, and the kernel refuses it when
/// it would have to send them.
pub fn punch(file: &File, start: u64, len: u64) -> bool {
    fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, start, len).is_ok()
}

/// Writes zeros to a range, durably. `quick_only`: `Ok(false)` when the disk cannot make them by itself, nothing is written then.
pub fn zero(file: &File, path: &Path, start: u64, len: u64, quick_only: bool, tell: &dyn Fn(u64)) -> Result<bool, Error> {
    let error = Error::io("write zeros to", path);
    if punch(file, start, len) {
        file.sync_all().map_err(error)?;
        tell(len);
        return Ok(true);
    }
    if quick_only {
        return Ok(false);
    }
    let mut done = 0;
    while done < len {
        let part = ZERO_STEP_BYTES.min(len - done);
        if fallocate(file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, start + done, part).is_err() {
            write_zeros(file, start + done, part).map_err(Error::io("write zeros to", path))?;
        }
        done += part;
        tell(done);
    }
    file.sync_all().map_err(error)?;
    Ok(true)
}

fn write_zeros(file: &File, start: u64, len: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut done = 0;
    while done < len {
        let part = (len - done).min(zeros.len() as u64);
        file.write_all_at(&zeros[..usize::try_from(part).unwrap_or(zeros.len())], start + done)?;
        done += part;
    }
    Ok(())
}

/// Writes a file of sysfs.
pub fn write_sysfs(path: &Path, text: &str) -> Result<(), Error> {
    let mut file = OpenOptions::new().write(true).open(path).map_err(Error::io("open", path))?;
    file.write_all(text.as_bytes()).map_err(Error::io("write", path))
}

/// Waits until a node is there: for the folder's next change, not for a time.
pub fn wait_for_node(path: &Path, limit: Duration) -> Result<(), Error> {
    let folder: PathBuf = path.parent().unwrap_or(Path::new("/")).into();
    let error = |source: rustix::io::Errno| Error::io("watch", &folder)(source.into());
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).map_err(error)?;
    inotify::add_watch(&watch, &folder, inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO).map_err(error)?;
    let end = Instant::now() + limit;
    while !path.exists() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::NoNode { path: path.into(), seconds: limit.as_secs() });
        }
        let left = Timespec::try_from(left).ok();
        let mut fds = [PollFd::new(&watch, PollFlags::IN)];
        if poll(&mut fds, left.as_ref()).map_err(error)? > 0 {
            // What changed is seen by looking; the events only say that something did.
            let mut drain = [0; 4096];
            while rustix::io::read(&watch, &mut drain).is_ok_and(|n| n > 0) {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_blank_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        File::create(&path).unwrap().set_len(64 << 20).unwrap();
        let file = open_rw(&path).unwrap();
        let blank = || looks_blank(&file, 1 << 20, 62 << 20).unwrap();
        assert!(blank());
        file.write_all_at(b"x", 0).unwrap();
        assert!(blank(), "outside of the range");
        for at in [1 << 20, (63 << 20) - 1, (1 << 20) + (62 << 20) / 64 * 7 / 4096 * 4096] {
            file.write_all_at(b"x", at).unwrap();
            assert!(!blank(), "{at}");
            assert!(zero(&file, &path, at, 1, false, &|_| ()).unwrap());
            assert!(blank());
        }
        file.write_all_at(&[7; 9000], 5000).unwrap();
        write_zeros(&file, 6000, 7000).unwrap();
        assert_eq!(read_at(&file, 5999, 1).unwrap(), [7]);
        assert!(is_zero(&read_at(&file, 6000, 7000).unwrap()));
        assert_eq!(read_at(&file, 13_000, 1).unwrap(), [7]);
    }

    #[test]
    fn a_node_is_awaited() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node");
        let error = wait_for_node(&path, Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains("node did not appear"), "{error}");
        let maker = std::thread::spawn({
            let path = path.clone();
            move || std::fs::write(path, "").unwrap()
        });
        wait_for_node(&path, Duration::from_secs(60)).unwrap();
        maker.join().unwrap();
    }
}
