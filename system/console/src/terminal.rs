//! A terminal, or another file that can be waited for, and the raw mode of a terminal.
//!
//! Contract: the mode that was found is put back at the end. Speed and framing are left as they are: the kernel's own console set
//! them. Carrier is ignored (CLOCAL), so that a cable may be pulled and put back.

use crate::Error;
use nix::sys::termios::{ControlFlags, SetArg, SpecialCharacterIndices, Termios, cfmakeraw, tcgetattr, tcsetattr};
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
    pub(crate) fn open(tty: &Path) -> Result<Self, Error> {
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
