//! The end of the serial line where a terminal plugs in: a pseudo-terminal in raw mode under a symbolic link.

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, QueueSelector, tcflush, tcgetattr, tcsetattr};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What programs did with the terminal since the last look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Plugged {
    /// The last one closed it at some time: DTR fell.
    pub fell: bool,
    /// One has it open now.
    pub open: bool,
}

/// A pseudo-terminal; the link goes with it.
#[derive(Debug)]
pub(crate) struct Pty {
    master: OwnedFd,
    /// Kept open: the settings of a line nobody has open would fall back to those of a console, with echo.
    slave: OwnedFd,
    /// Tells when programs open and close the terminal: what DTR is on a real port.
    watch: OwnedFd,
    openers: i32,
    device: PathBuf,
    link: PathBuf,
}

impl Pty {
    /// Makes one, and `link` point to it. A link that is there is replaced; anything else there is an error.
    pub(crate) fn open(link: &Path) -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let slave = rustix::fs::open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        let mut settings = tcgetattr(&slave)?;
        settings.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &settings)?;
        rustix::fs::fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK)?;
        let device = PathBuf::from(OsStr::from_bytes(name.to_bytes()));
        match link.symlink_metadata() {
            Ok(there) if !there.file_type().is_symlink() => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is there and is no link", link.display())));
            }
            _ => {}
        }
        let fresh = link.with_extension(format!("new-{}", std::process::id()));
        let _ = std::fs::remove_file(&fresh);
        std::os::unix::fs::symlink(&device, &fresh)?;
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&watch, &device, WatchFlags::OPEN | WatchFlags::CLOSE_WRITE | WatchFlags::CLOSE_NOWRITE)?;
        std::fs::rename(&fresh, link)?;
        Ok(Self { master, slave, watch, openers: 0, device, link: link.to_owned() })
    }

    pub(crate) fn watch(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }

    /// Who has opened and closed it meanwhile. Equal events in a row come as one: two programs that open it at the same instant count as
    /// one, which only matters when one of them closes it again.
    pub(crate) fn plugged(&mut self) -> Plugged {
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut events = inotify::Reader::new(&self.watch, &mut buffer);
        let mut fell = false;
        while let Ok(event) = events.next() {
            if event.events().contains(ReadFlags::OPEN) {
                self.openers += 1;
            } else if event.events().intersects(ReadFlags::CLOSE_WRITE | ReadFlags::CLOSE_NOWRITE) {
                self.openers = (self.openers - 1).max(0);
                fell |= self.openers == 0;
            }
        }
        Plugged { fell, open: self.openers > 0 }
    }

    /// What nobody has read is gone, as on a port that is closed.
    pub(crate) fn flush(&self) {
        let _ = tcflush(&self.slave, QueueSelector::IFlush);
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// The speed that the terminal has set.
    pub(crate) fn speed(&self) -> Option<u32> {
        tcgetattr(&self.master).ok().map(|t| t.output_speed())
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        if std::fs::read_link(&self.link).is_ok_and(|to| to == self.device) {
            let _ = std::fs::remove_file(&self.link);
        }
    }
}
