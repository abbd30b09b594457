//! The serial port: opened exclusively, set to a speed, its modem lines moved.
//!
//! Contract: [`Port::open`] takes the port so that no other program gets in its way: `TIOCEXCL` and `flock` on the
//! device (by serialport), and the `LCK..` file of FHS 5.9 that minicom, gammu and others look at. A pseudo-terminal has
//! no modem lines (`ENOTTY`): moving them there does nothing, quietly. Failure classes: [`OpenError`].

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_serial::{ClearBuffer, FlowControl, SerialPort as _, SerialPortBuilderExt as _, SerialStream};

/// Why the port is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// It does not exist, or is no serial port, or may not be opened.
    Missing(String),
    /// Another program holds it.
    Busy(String),
}

/// The open port.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) stream: SerialStream,
    _lock: Option<LockFile>,
}

impl Port {
    /// Opens `path` at `baud`, 8N1, without flow control.
    pub(crate) fn open(path: &Path, baud: u32, lock_dir: Option<&Path>) -> Result<Port, OpenError> {
        let device = std::fs::canonicalize(path)
            .map_err(|e| OpenError::Missing(format!("looking for the port {}: {e}", path.display())))?;
        let lock = match lock_dir {
            Some(dir) => LockFile::take(dir, &device).map_err(OpenError::Busy)?,
            None => None,
        };
        let opened = tokio_serial::new(device.to_string_lossy(), baud).exclusive(true).open_native_async();
        let mut stream = opened.map_err(|e| {
            let what = format!("opening the port {}: {e}", device.display());
            // serialport tells EBUSY (TIOCEXCL) and a failed flock by this kind.
            if e.kind() == tokio_serial::ErrorKind::NoDevice { OpenError::Busy(what) } else { OpenError::Missing(what) }
        })?;
        // ENOTTY on a pseudo-terminal
        let _ = stream.write_data_terminal_ready(true);
        let _ = stream.write_request_to_send(true);
        let _ = stream.clear(ClearBuffer::All);
        Ok(Port { stream, _lock: lock })
    }

    /// Another speed; what has not been read is thrown away.
    pub(crate) fn set_baud(&mut self, baud: u32) -> Result<(), String> {
        self.stream.set_baud_rate(baud).map_err(|e| format!("setting the port to {baud} bit/s: {e}"))?;
        let _ = self.stream.clear(ClearBuffer::All);
        Ok(())
    }

    /// RTS/CTS on or off. A modem on a three-wire cable never raises CTS, and nothing could be written to it: then it
    /// stays off unless `forced`. Returns what is in force.
    pub(crate) fn set_rts_cts(&mut self, on: bool, forced: bool) -> bool {
        let on = on && (forced || self.stream.read_clear_to_send().unwrap_or(false));
        let flow = if on { FlowControl::Hardware } else { FlowControl::None };
        self.stream.set_flow_control(flow).is_ok() && on
    }

    /// DTR and RTS up or down; false where the port has no such lines.
    pub(crate) fn set_lines(&mut self, up: bool) -> bool {
        let dtr = self.stream.write_data_terminal_ready(up).is_ok();
        let rts = self.stream.write_request_to_send(up).is_ok();
        dtr || rts
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // Closing waits up to half a minute for bytes that a modem without CTS never takes.
        let _ = self.stream.clear(ClearBuffer::All);
    }
}

/// `LCK..ttyS1` with the process id in ten characters (FHS 5.9), removed when dropped.
#[derive(Debug)]
struct LockFile(PathBuf);

impl LockFile {
    /// `Ok(None)`: the folder cannot be written, so nobody uses it here.
    fn take(dir: &Path, device: &Path) -> Result<Option<LockFile>, String> {
        let name = device.strip_prefix("/dev").unwrap_or(device).to_string_lossy().trim_matches('/').replace('/', "_");
        let path = dir.join(format!("LCK..{name}"));
        for _ in 0..2 {
            match std::fs::OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    let written = writeln!(file, "{:>10}", std::process::id());
                    return if written.is_ok() { Ok(Some(LockFile(path))) } else { Ok(None) };
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                    let text = std::fs::read_to_string(&path).unwrap_or_default();
                    let pid = text.split_whitespace().next().and_then(|p| p.parse::<i32>().ok()).filter(|p| *p > 0);
                    let written = std::fs::metadata(&path).and_then(|m| m.modified()).ok();
                    if let Some(pid) = pid.filter(|&pid| alive(pid) && !started_after(pid, written)) {
                        return Err(format!("the lock file {} belongs to process {pid}", path.display()));
                    }
                    // Left behind by a process that is gone.
                    if std::fs::remove_file(&path).is_err() {
                        return Ok(None);
                    }
                }
                Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }
}

fn alive(pid: i32) -> bool {
    // EPERM: it lives and belongs to somebody else
    !matches!(nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None), Err(nix::errno::Errno::ESRCH))
}

/// Whether the process began after the lock file was written: then the number was given out anew (after a crash, or in a
/// container, where every start has the same numbers), and the port would be "busy" for ever.
fn started_after(pid: i32, written: Option<SystemTime>) -> bool {
    let started_s = || -> Option<u64> {
        // proc(5): the 22nd field of stat is the start in hundredths of a second since the boot; the second field, in
        // brackets, may hold anything.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        let kernel = std::fs::read_to_string("/proc/stat").ok()?;
        let boot_s: u64 = kernel.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
        Some(boot_s + ticks / 100)
    };
    let written_s = written.and_then(|w| w.duration_since(UNIX_EPOCH).ok()).map(|d| d.as_secs());
    // Two seconds for rounding on both sides.
    matches!((started_s(), written_s), (Some(started), Some(written)) if started > written + 2)
}

impl Drop for LockFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_files() {
        let dir = tempfile::tempdir().unwrap();
        let device = Path::new("/dev/ttyS17");
        let path = dir.path().join("LCK..ttyS17");
        let lock = LockFile::take(dir.path(), device).unwrap().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{:>10}\n", std::process::id()));
        // We live, so a second one is told who holds it.
        assert!(LockFile::take(dir.path(), device).unwrap_err().contains(&std::process::id().to_string()));
        drop(lock);
        assert!(!path.exists());
        // Process ids end at 2^22 on Linux: nobody has this one.
        std::fs::write(&path, "   9999999\n").unwrap();
        assert!(LockFile::take(dir.path(), device).unwrap().is_some());
        // Our number, but from a life before this one.
        std::fs::write(&path, format!("{:>10}\n", std::process::id())).unwrap();
        let old = SystemTime::now() - std::time::Duration::from_secs(3_000_000);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        assert!(LockFile::take(dir.path(), device).unwrap().is_some());
        // Rubbish is nobody's.
        std::fs::write(&path, "x").unwrap();
        assert!(LockFile::take(dir.path(), device).unwrap().is_some());
        assert!(LockFile::take(Path::new("/nonexistent"), device).unwrap().is_none());
        assert_eq!(LockFile::take(dir.path(), Path::new("/dev/pts/3")).unwrap().unwrap().0, dir.path().join("LCK..pts_3"));
    }
}
