//! A terminal, or another file that can be waited for, and the raw mode of a terminal.
//!
//! Contract: the mode that was found is put back at the end. Speed and flow control are the board's, where it says them; else they are left as the
//! kernel's own console set them. Carrier is ignored (CLOCAL), so that a cable may be pulled and put back.

use crate::{Error, Serial};
use nix::sys::termios::{
    BaudRate, ControlFlags, SetArg, SpecialCharacterIndices, Termios, cfmakeraw, cfsetspeed, tcgetattr, tcsetattr,
};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A file descriptor that is read and written without blocking.
#[derive(Debug)]
pub(crate) struct Line(AsyncFd<File>);

impl Line {
    /// Takes a descriptor; it is made non-blocking.
    #[allow(
        deprecated,
        reason = "a File owns its descriptor as long as it is registered, which is all that the unsafe form asks for"
    )]
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        AsyncFd::new(File::from(fd)).map(Self)
    }
    /// Reads what is there; 0 at the end. Nothing is lost when the call is dropped.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.async_io(Interest::READABLE, |mut file| file.read(buffer)).await
    }
    /// Writes as much as fits. Nothing is written when the call is dropped.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.async_io(Interest::WRITABLE, |mut file| file.write(bytes)).await
    }
}

/// termios(3): the speeds of serial lines that boards have.
fn speed(baud: u32) -> Option<BaudRate> {
    Some(match baud {
        9600 => BaudRate::B9600,
        19_200 => BaudRate::B19200,
        38_400 => BaudRate::B38400,
        57_600 => BaudRate::B57600,
        115_200 => BaudRate::B115200,
        230_400 => BaudRate::B230400,
        460_800 => BaudRate::B460800,
        921_600 => BaudRate::B921600,
        _ => return None,
    })
}

/// The terminal of the console.
#[derive(Debug)]
pub(crate) struct Terminal {
    line: Line,
    /// In the kernel's form, which may be shared between threads.
    found: nix::libc::termios,
    tty: PathBuf,
}

impl Terminal {
    /// Opens it and sets its mode.
    pub(crate) fn open(tty: &Path, serial: Option<Serial>) -> Result<Self, Error> {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags((nix::fcntl::OFlag::O_NOCTTY | nix::fcntl::OFlag::O_NONBLOCK).bits())
            .open(tty);
        let file = opened.map_err(|source| Error::Open { tty: tty.to_owned(), source })?;
        let set = |source: io::Error| Error::Set { tty: tty.to_owned(), source };
        let found = tcgetattr(&file).map_err(|e| set(e.into()))?;
        let mut raw = found.clone();
        cfmakeraw(&mut raw);
        raw.control_flags |= ControlFlags::CLOCAL | ControlFlags::CREAD;
        raw.control_flags &= !ControlFlags::HUPCL;
        raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        if let Some(Serial { baud, rts_cts }) = serial {
            let speed = speed(baud).ok_or_else(|| set(io::Error::other(format!("{baud} bit/s is no speed of a serial line"))))?;
            cfsetspeed(&mut raw, speed).map_err(|e| set(e.into()))?;
            raw.control_flags.set(ControlFlags::CRTSCTS, rts_cts);
        }
        tcsetattr(&file, SetArg::TCSANOW, &raw).map_err(|e| set(e.into()))?;
        let line = Line::new(OwnedFd::from(file)).map_err(set)?;
        Ok(Self { line, found: found.into(), tty: tty.to_owned() })
    }
    /// Reads what was typed: at least one byte.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        match self.line.read(buffer).await {
            Ok(0) => Err(self.gone(io::ErrorKind::UnexpectedEof.into())),
            Ok(length) => Ok(length),
            Err(error) => Err(self.gone(error)),
        }
    }
    /// Writes as much as fits.
    pub(crate) async fn write(&self, bytes: &[u8]) -> Result<usize, Error> {
        self.line.write(bytes).await.map_err(|error| self.gone(error))
    }
    fn gone(&self, source: io::Error) -> Error {
        Error::Gone { tty: self.tty.clone(), source }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The terminal may be gone; then nobody misses its mode.
        let _ = tcsetattr(self.line.0.get_ref(), SetArg::TCSANOW, &Termios::from(self.found));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;
    use nix::sys::termios::cfgetospeed;

    #[tokio::test]
    async fn a_line_gets_the_boards_speed_and_its_own_back() {
        let pty = openpty(None, None).unwrap();
        let name = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&pty.slave))).unwrap();
        let now = || cfgetospeed(&tcgetattr(&pty.slave).unwrap());
        let before = now();
        let terminal = Terminal::open(&name, Some(Serial { baud: 57_600, rts_cts: true })).unwrap();
        assert_eq!(now(), BaudRate::B57600);
        assert!(tcgetattr(&pty.slave).unwrap().control_flags.contains(ControlFlags::CRTSCTS));
        drop(terminal);
        assert_eq!(now(), before);
        assert!(Terminal::open(&name, Some(Serial { baud: 7, rts_cts: false })).is_err());
        drop(Terminal::open(&name, None).unwrap());
        assert_eq!(now(), before, "a screen has none");
    }
}
