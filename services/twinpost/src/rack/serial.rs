//! The null-modem cable: two pseudo-terminals, joined byte by byte at the speed of the line.
//!
//! Contract: each end is a terminal in raw mode under a stable symbolic link. A byte arrives when it would have on a real line
//! (ten bits at the speed that the sender has set); ends with different speeds hear noise; bytes for an end that nobody has open
//! are lost, as in a real port. A program that dies and opens its end again finds it as new: nothing old waits there, and the
//! exclusive mode of the dead one is taken back (tty_ioctl(4), `TIOCEXCL` lasts as long as any descriptor, and we hold one).
//!
//! Failure classes: no pseudo-terminal can be made, or something that is no link lies in the way (said by [`Line::open`]).

use super::cable::{Cable, Way};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, QueueSelector, ioctl_tiocnxcl, tcflush, tcgetattr, tcsetattr};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a port's own memory holds (16550): so many bytes go at a time.
const FIFO_BYTES: usize = 16;
/// Start bit, eight bits, stop bit.
const BITS: u32 = 10;
/// A timer is late by up to this: a busy line makes up for it, an idle one begins anew.
const SLACK: Duration = Duration::from_millis(10);

#[allow(
    deprecated,
    reason = "its successor is unsafe, which this house forbids; an `OwnedFd` stays open as long as it is registered, which is all that is asked"
)]
fn registered(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}

/// A pseudo-terminal in raw mode under a link; the link goes with it.
#[derive(Debug)]
pub struct Terminal {
    master: AsyncFd<OwnedFd>,
    /// Kept open: the settings of a line nobody has open would fall back to those of a console, with echo.
    slave: OwnedFd,
    watch: AsyncFd<OwnedFd>,
    openers: AtomicI32,
    device: PathBuf,
    link: PathBuf,
}

impl Terminal {
    /// Makes one, and `link` point to it. A link that is there is replaced.
    ///
    /// # Errors
    /// No terminal can be made, or what is no link lies there.
    pub fn open(link: &Path) -> io::Result<Self> {
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
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&watch, &device, WatchFlags::OPEN | WatchFlags::CLOSE_WRITE | WatchFlags::CLOSE_NOWRITE)?;
        if link.symlink_metadata().is_ok_and(|there| !there.file_type().is_symlink()) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is there and is no link", link.display())));
        }
        let fresh = link.with_extension(format!("new-{}", std::process::id()));
        let _ = std::fs::remove_file(&fresh);
        std::os::unix::fs::symlink(&device, &fresh)?;
        std::fs::rename(&fresh, link)?;
        Ok(Self {
            master: registered(master)?,
            slave,
            watch: registered(watch)?,
            openers: AtomicI32::new(0),
            device,
            link: link.to_owned(),
        })
    }

    /// Takes in who opened and closed it meanwhile.
    fn look(&self) {
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut events = inotify::Reader::new(self.watch.get_ref().as_fd(), &mut buffer);
        while let Ok(event) = events.next() {
            let kind = event.events();
            if kind.contains(ReadFlags::OPEN) {
                self.openers.fetch_add(1, Ordering::SeqCst);
            } else if kind.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::CLOSE_NOWRITE) {
                let before = self.openers.load(Ordering::SeqCst);
                self.openers.store((before - 1).max(0), Ordering::SeqCst);
                if before <= 1 {
                    // The last one is gone: the port is as new. An error means that there is nothing to take back.
                    let _ = tcflush(&self.slave, QueueSelector::IFlush);
                    let _ = ioctl_tiocnxcl(&self.slave);
                }
            }
        }
    }

    /// Whether a program has it open.
    pub fn is_open(&self) -> bool {
        self.look();
        self.openers.load(Ordering::SeqCst) > 0
    }

    /// The speed that the last program has set, in bit/s.
    pub fn speed(&self) -> u32 {
        tcgetattr(&self.slave).map_or(9600, |t| t.output_speed()).max(50)
    }

    /// Follows who opens and closes it, until it is stopped.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                ready = self.watch.readable() => {
                    let Ok(mut ready) = ready else { return };
                    self.look();
                    ready.clear_ready();
                }
            }
        }
    }

    /// Reads what the program wrote.
    ///
    /// # Errors
    /// The terminal is gone.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.master.readable().await?;
            match ready.try_io(|master| Ok(rustix::io::read(master, &mut *buffer)?)) {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    /// Gives the program these bytes; what its memory cannot hold is lost.
    pub fn write(&self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            match rustix::io::write(self.master.get_ref(), &bytes[sent..]) {
                Ok(count) if count > 0 => sent += count,
                _ => break,
            }
        }
        sent
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::fs::read_link(&self.link).is_ok_and(|to| to == self.device) {
            let _ = std::fs::remove_file(&self.link);
        }
    }
}

/// Both ends of the cable.
#[derive(Debug)]
pub struct Line {
    a: Arc<Terminal>,
    b: Arc<Terminal>,
}

impl Line {
    /// Makes both ends under these links.
    ///
    /// # Errors
    /// A sentence that names the link.
    pub fn open(a: &Path, b: &Path) -> Result<Self, String> {
        let end = |link: &Path| {
            Terminal::open(link).map(Arc::new).map_err(|e| format!("cannot lay the serial cable to {}: {e}", link.display()))
        };
        Ok(Self { a: end(a)?, b: end(b)? })
    }

    /// Carries bytes until it is stopped.
    pub fn run(&self, cable: &Cable, stop: &CancellationToken, tasks: &TaskTracker) {
        for (from, to, way) in [(&self.a, &self.b, Way::ToB), (&self.b, &self.a, Way::ToA)] {
            tasks.spawn(from.clone().follow(stop.clone()));
            tasks.spawn(carry(from.clone(), to.clone(), cable.clone(), way, stop.clone()));
        }
    }

    /// Who has it open and at which speed: a, then b.
    pub fn show(&self) -> serde_json::Value {
        let end = |t: &Terminal| serde_json::json!({ "link": t.link, "open": t.is_open(), "bit_s": t.speed() });
        serde_json::json!({ "a": end(&self.a), "b": end(&self.b) })
    }
}

async fn carry(from: Arc<Terminal>, to: Arc<Terminal>, cable: Cable, way: Way, stop: CancellationToken) {
    let mut buffer = [0; FIFO_BYTES];
    let mut free_at = Instant::now();
    loop {
        let count = tokio::select! {
            () = stop.cancelled() => return,
            read = from.read(&mut buffer) => match read {
                Ok(count) => count,
                Err(error) => return tracing::error!(%error, way = way.name(), "the serial cable is gone"),
            },
        };
        let speed = from.speed();
        let now = Instant::now();
        let takes = Duration::from_secs_f64(f64::from(u32::try_from(count).unwrap_or(0) * BITS) / f64::from(speed));
        free_at = free_at.max(now.checked_sub(SLACK).unwrap_or(now)) + takes;
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep_until(free_at) => {}
        }
        let bytes = &mut buffer[..count];
        let open = to.is_open();
        if open && to.speed() != speed {
            cable.noise(bytes);
        }
        if cable.through(way, bytes) && open {
            to.write(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A program's end of the line.
    struct Port(AsyncFd<OwnedFd>);

    impl Port {
        fn open(link: &Path, speed: u32) -> io::Result<Self> {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let port = rustix::fs::open(link, flags, Mode::empty())?;
            let mut settings = tcgetattr(&port)?;
            settings.make_raw();
            settings.set_speed(speed)?;
            tcsetattr(&port, OptionalActions::Now, &settings)?;
            Ok(Self(registered(port)?))
        }

        fn write(&self, bytes: &[u8]) {
            assert_eq!(rustix::io::write(self.0.get_ref(), bytes).expect("the port takes it"), bytes.len());
        }

        async fn read(&self, count: usize) -> Vec<u8> {
            let mut all = Vec::new();
            let work = async {
                while all.len() < count {
                    let mut ready = self.0.readable().await.expect("the port is there");
                    let mut buffer = [0; 256];
                    if let Ok(read) = ready.try_io(|fd| Ok(rustix::io::read(fd, &mut buffer[..])?)) {
                        all.extend_from_slice(&buffer[..read.expect("the port is read")]);
                    }
                }
            };
            tokio::time::timeout(PATIENCE, work).await.expect("in time");
            all
        }
    }

    struct Laid {
        dir: tempfile::TempDir,
        line: Line,
        cable: Cable,
        _stop: CancellationToken,
    }

    impl Laid {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a folder");
            let line = Line::open(&dir.path().join("serial-a"), &dir.path().join("serial-b")).expect("terminals");
            let (cable, stop) = (Cable::new("serial", 9), CancellationToken::new());
            line.run(&cable, &stop, &TaskTracker::new());
            Self { dir, line, cable, _stop: stop }
        }
        fn port(&self, name: &str, speed: u32) -> Port {
            Port::open(&self.dir.path().join(name), speed).expect("the end can be opened")
        }
        async fn open_at_both_ends(&self) {
            while !(self.line.a.is_open() && self.line.b.is_open()) {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn every_byte_crosses_unchanged_and_at_the_speed_of_the_line() {
        let laid = Laid::new();
        let (a, b) = (laid.port("serial-a", 19200), laid.port("serial-b", 19200));
        laid.open_at_both_ends().await;
        let all: Vec<u8> = (0..=255).collect();
        let began = Instant::now();
        a.write(&all);
        assert_eq!(b.read(256).await, all, "no echo, no translation, no flow control");
        // 2560 bits at 19200 bit/s.
        assert!(began.elapsed() >= Duration::from_millis(120), "256 bytes crossed in {:?}", began.elapsed());
        b.write(b"back\x03\x11\x13\r\n");
        assert_eq!(a.read(9).await, b"back\x03\x11\x13\r\n");
    }

    #[tokio::test]
    async fn an_end_that_was_closed_in_exclusive_mode_opens_again_as_new() {
        let laid = Laid::new();
        let (a, b) = (laid.port("serial-a", 115_200), laid.port("serial-b", 115_200));
        laid.open_at_both_ends().await;
        rustix::termios::ioctl_tiocexcl(b.0.get_ref()).expect("a terminal");
        drop(b);
        while laid.line.b.is_open() {
            tokio::task::yield_now().await;
        }
        a.write(b"for nobody");
        while laid.cable.show()["a>b"]["passed"] != 10 {
            tokio::task::yield_now().await;
        }
        let b = laid.port("serial-b", 115_200);
        laid.open_at_both_ends().await;
        a.write(b"new");
        assert_eq!(b.read(3).await, b"new", "what came while it was closed is gone");
    }

    #[tokio::test]
    async fn a_cut_stops_bytes_and_different_speeds_make_noise() {
        let laid = Laid::new();
        let (a, b) = (laid.port("serial-a", 115_200), laid.port("serial-b", 115_200));
        laid.open_at_both_ends().await;
        laid.cable.cut(&[Way::ToB]);
        a.write(b"cut");
        while laid.cable.show()["a>b"]["dropped_by_cut"] != 3 {
            tokio::task::yield_now().await;
        }
        b.write(b"other way");
        assert_eq!(a.read(9).await, b"other way");
        laid.cable.mend(&Way::BOTH);
        drop(b);
        let b = laid.port("serial-b", 9600);
        laid.open_at_both_ends().await;
        a.write(&[0x55; 64]);
        assert_ne!(b.read(64).await, [0x55; 64]);
    }
}
