//! The hardware watchdog: fed only when the heart says so.
//!
//! Contract: [`Watchdog::feed`] writes one byte; [`Watchdog::close`] is the orderly end, which disarms it (`V`, the "magic close" of
//! watchdog-api.rst). Dropped without it, the device stays armed and resets the machine: what a crash of this daemon must lead to.
//! Off the image a Unix datagram socket takes the place of the device, one datagram a feed. What is not there is tried again
//! at each feed.
//!
//! Failure classes: the system's error at a feed; told once, and again when it comes back.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

#[derive(Debug)]
enum Out {
    Device(File),
    Socket(UnixDatagram),
}

/// One watchdog.
#[derive(Debug)]
pub(crate) struct Watchdog {
    path: PathBuf,
    out: Option<Out>,
}

impl Watchdog {
    /// Not armed before the first feed.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), out: None }
    }

    /// It may live on.
    pub(crate) fn feed(&mut self) -> io::Result<()> {
        let fed = self.write(b"1");
        if fed.is_err() {
            // A new socket may stand in its place. A device must not be closed: that could disarm it.
            if matches!(self.out, Some(Out::Socket(_))) {
                self.out = None;
            }
        }
        fed
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let out = match &mut self.out {
            Some(out) => out,
            none => none.insert(open(&self.path)?),
        };
        match out {
            Out::Device(file) => file.write_all(bytes),
            Out::Socket(socket) => socket.send(bytes).map(|_| ()),
        }
    }

    /// Whether the last feed was taken.
    pub(crate) const fn is_open(&self) -> bool {
        self.out.is_some()
    }

    /// The orderly end.
    pub(crate) fn close(mut self) {
        if self.out.is_some() {
            let _ = self.write(b"V");
        }
    }
}

fn open(path: &Path) -> io::Result<Out> {
    if std::fs::metadata(path)?.file_type().is_socket() {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect(path)?;
        return Ok(Out::Socket(socket));
    }
    Ok(Out::Device(OpenOptions::new().write(true).open(path)?))
}

/// The time after which a device resets the machine, as its driver was loaded; none for a socket or where the kernel does not tell.
pub(crate) fn timeout_ms(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let name = if name == "watchdog" { "watchdog0" } else { name };
    let seconds: u32 = std::fs::read_to_string(format!("/sys/class/watchdog/{name}/timeout")).ok()?.trim().parse().ok()?;
    seconds.checked_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_fed_and_disarmed_and_found_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("watchdog");
        let mut dog = Watchdog::new(&path);
        assert!(dog.feed().is_err() && !dog.is_open());
        let mut buf = [0; 8];
        let bowl = UnixDatagram::bind(&path).expect("binds");
        dog.feed().expect("fed");
        assert_eq!((bowl.recv(&mut buf).expect("a feed"), buf[0]), (1, b'1'));
        // The one who simulates it is started again.
        drop(bowl);
        std::fs::remove_file(&path).expect("removed");
        let bowl = UnixDatagram::bind(&path).expect("binds");
        assert!(dog.feed().is_err(), "the old socket is gone");
        dog.feed().expect("the new one is found");
        dog.close();
        bowl.recv(&mut buf).expect("a feed");
        assert_eq!((bowl.recv(&mut buf).expect("the end"), buf[0]), (1, b'V'));
    }

    #[test]
    fn a_dropped_watchdog_stays_armed() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("device");
        std::fs::write(&path, b"").expect("a file in place of the device");
        let mut dog = Watchdog::new(&path);
        dog.feed().expect("fed");
        drop(dog);
        assert_eq!(std::fs::read(&path).expect("read"), b"1");
        let mut dog = Watchdog::new(&path);
        dog.feed().expect("fed");
        dog.close();
        assert_eq!(std::fs::read(&path).expect("read"), b"1V", "written by one descriptor");
    }
}
