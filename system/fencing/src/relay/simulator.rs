//! A serial power switch on a pseudo-terminal, for the test rack: what is behind its outlets is whatever the rack puts there.
//!
//! Contract: speaks the protocol as a real switch must: obeys, measures, never speaks unasked, ignores garbled lines. [`Mishaps`] make it
//! fail in the ways that real ones do.

use super::line::{self, Answer, Code, LINE_BYTES, Question};
use crate::Power;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;

/// What hangs on the outlets.
pub trait Outlets: Send + Sync {
    /// How many; they are counted from 1.
    fn count(&self) -> u8;
    /// Obeys; returns when the relay has moved. False: it cannot.
    fn switch(&self, outlet: u8, on: bool) -> BoxFuture<'_, bool>;
    /// Measures.
    fn measure(&self, outlet: u8) -> BoxFuture<'_, Power>;
}

/// Outlets with nothing behind them but a lamp each.
#[derive(Debug)]
pub struct Switchboard {
    lit: Mutex<Vec<bool>>,
    /// Relays that are welded: they obey and nothing changes.
    pub welded: AtomicBool,
}

impl Switchboard {
    /// All on.
    #[must_use]
    pub fn new(outlets: u8) -> Self {
        Self { lit: Mutex::new(vec![true; usize::from(outlets)]), welded: AtomicBool::new(false) }
    }

    fn lamps(&self) -> std::sync::MutexGuard<'_, Vec<bool>> {
        self.lit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a lamp is lit.
    #[must_use]
    pub fn is_lit(&self, outlet: u8) -> bool {
        self.lamps().get(usize::from(outlet).wrapping_sub(1)).copied().unwrap_or(false)
    }

    /// Somebody turns it by hand.
    pub fn turn(&self, outlet: u8, on: bool) {
        if let Some(lamp) = self.lamps().get_mut(usize::from(outlet).wrapping_sub(1)) {
            *lamp = on;
        }
    }
}

impl Outlets for Switchboard {
    fn count(&self) -> u8 {
        u8::try_from(self.lamps().len()).unwrap_or(u8::MAX)
    }

    fn switch(&self, outlet: u8, on: bool) -> BoxFuture<'_, bool> {
        if !self.welded.load(Ordering::SeqCst) {
            self.turn(outlet, on);
        }
        std::future::ready(true).boxed()
    }

    fn measure(&self, outlet: u8) -> BoxFuture<'_, Power> {
        std::future::ready(if self.is_lit(outlet) { Power::On } else { Power::Off }).boxed()
    }
}

/// What goes wrong on purpose.
#[derive(Debug, Default)]
pub struct Mishaps {
    /// It does not answer.
    pub mute: AtomicBool,
    /// It answers every question with this many garbled lines first; `u32::MAX`: with nothing else.
    pub noise: AtomicU32,
    /// It is locked by hand: refuses to switch, still measures.
    pub locked: AtomicBool,
    /// Every answer is sent only when the next question comes.
    pub late: AtomicBool,
}

/// A switch that waits for somebody to open its line.
pub struct RelaySimulator {
    heard: pipe::Receiver,
    said: pipe::Sender,
    /// Kept open: without an open end the master reports an error.
    _slave: OwnedFd,
    device: PathBuf,
    link: Option<PathBuf>,
    outlets: Arc<dyn Outlets>,
    mishaps: Arc<Mishaps>,
}

impl Drop for RelaySimulator {
    fn drop(&mut self) {
        if let Some(link) = &self.link
            && std::fs::read_link(link).is_ok_and(|target| target == self.device)
        {
            drop(std::fs::remove_file(link));
        }
    }
}

impl RelaySimulator {
    /// Makes a pseudo-terminal; `link`, if given, becomes a symbolic link to it (one that is there is replaced). Within a tokio runtime.
    ///
    /// # Errors
    /// No pseudo-terminal, or `link` is there and is no link.
    pub fn open(link: Option<&Path>, outlets: Arc<dyn Outlets>) -> io::Result<Self> {
        // Not inherited: whoever starts programs must not leave them an end of the line.
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
        // What tokio needs of a pipe's end, a terminal's end has too: it can be polled and does not block.
        let heard = pipe::Receiver::from_owned_fd_unchecked(master.try_clone()?)?;
        let said = pipe::Sender::from_owned_fd_unchecked(master)?;
        if let Some(link) = link {
            match link.symlink_metadata() {
                Ok(there) if !there.file_type().is_symlink() => {
                    return Err(io::Error::new(
                        io::ErrorKind::AlreadyExists,
                        format!("{} is there and is no link", link.display()),
                    ));
                }
                Ok(_) => std::fs::remove_file(link)?,
                Err(_) => {}
            }
            std::os::unix::fs::symlink(&device, link)?;
        }
        let link = link.map(Path::to_owned);
        Ok(Self { heard, said, _slave: slave, device, link, outlets, mishaps: Arc::default() })
    }

    /// The terminal's own name, such as `/dev/pts/7`.
    #[must_use]
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// To be changed at any time.
    pub fn mishaps(&self) -> Arc<Mishaps> {
        Arc::clone(&self.mishaps)
    }

    /// Answers for ever; ends with an error of the terminal, or by being dropped.
    ///
    /// # Errors
    /// The terminal cannot be read or written.
    pub async fn run(mut self) -> io::Result<()> {
        let (mut rest, mut waiting) = (Vec::new(), Vec::new());
        loop {
            let mut buffer = [0; 128];
            let length = self.heard.read(&mut buffer).await?;
            rest.extend_from_slice(&buffer[..length]);
            while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                let asked: Vec<u8> = rest.drain(..=at).collect();
                let asked = asked.strip_suffix(b"\n").unwrap_or(&asked);
                if let Some(question) = line::read_question(asked.strip_suffix(b"\r").unwrap_or(asked)) {
                    self.answer(question, &mut waiting).await?;
                }
            }
            if rest.len() > LINE_BYTES {
                rest.clear();
            }
        }
    }

    async fn answer(&mut self, question: Result<(u8, Question), u8>, waiting: &mut Vec<u8>) -> io::Result<()> {
        let (number, answer) = match question {
            Err(number) => (number, Answer::Error(Code::Command)),
            Ok((number, question)) => (number, self.obey(question).await),
        };
        let mut written = line::write_answer(number, &answer);
        if self.mishaps.late.load(Ordering::SeqCst) {
            std::mem::swap(waiting, &mut written);
        }
        if self.mishaps.mute.load(Ordering::SeqCst) {
            return Ok(());
        }
        let noise = self.mishaps.noise.load(Ordering::SeqCst);
        for turn in 0..if written.is_empty() { 0 } else { noise.min(3) } {
            let mut garbled = written.clone();
            let at = usize::try_from(turn).unwrap_or(0) * 3 % garbled.len().saturating_sub(2);
            garbled[at] ^= 0x05;
            self.write(&garbled).await?;
        }
        if noise == u32::MAX { Ok(()) } else { self.write(&written).await }
    }

    async fn obey(&self, question: Question) -> Answer {
        let known = |outlet: u8| (1..=self.outlets.count()).contains(&outlet);
        match question {
            Question::Hello => Answer::Hello { version: 1, outlets: self.outlets.count(), model: "simulator".to_owned() },
            Question::State { outlet } | Question::Switch { outlet, .. } if !known(outlet) => Answer::Error(Code::Outlet),
            Question::State { outlet } => Answer::State { outlet, power: self.outlets.measure(outlet).await },
            Question::Switch { .. } if self.mishaps.locked.load(Ordering::SeqCst) => Answer::Error(Code::Locked),
            Question::Switch { outlet, on } => {
                if self.outlets.switch(outlet, on).await {
                    Answer::Done { outlet, on }
                } else {
                    Answer::Error(Code::Fault)
                }
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.said.write_all(bytes).await
    }
}
