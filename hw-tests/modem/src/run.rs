//! The thread that lets an engine stand on a real line: it waits for bytes, orders and times, and never for anything else.

use crate::engine::{Counters, Engine, PortAct};
use crate::options::{Line, Options};
use crate::order::{HELP, Order};
use crate::phones::Received;
use crate::port::{Plugged, Pty};
use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Longest order.
const ORDER_MOST: usize = 64 * 1024;
/// Control connections at a time.
const CONTROLS_MOST: usize = 32;

/// Received messages, and how many before them are no longer kept.
#[derive(Default)]
pub(crate) struct Kept {
    pub gone: u64,
    pub list: VecDeque<Received>,
}

/// What the thread and the handles share.
pub(crate) struct Shared {
    pub engine: Mutex<Engine>,
    pub received: Mutex<Kept>,
    pub counters: tokio::sync::watch::Sender<Counters>,
    pub changed: (Mutex<u64>, Condvar),
    pub stopped: Mutex<bool>,
    /// True when the thread has ended.
    pub ended: tokio::sync::watch::Sender<bool>,
    pub seed: u64,
    /// Messages that are kept for `received()`; older ones go.
    pub keep: usize,
    began: Instant,
}

impl Shared {
    pub(crate) fn new(options: Options, keep: usize) -> Self {
        Self {
            received: Mutex::new(Kept::default()),
            counters: tokio::sync::watch::Sender::new(Counters::default()),
            changed: (Mutex::new(0), Condvar::new()),
            stopped: Mutex::new(false),
            ended: tokio::sync::watch::Sender::new(false),
            seed: options.seed,
            engine: Mutex::new(Engine::new(options)),
            keep,
            began: Instant::now(),
        }
    }

    /// Milliseconds since the start.
    pub(crate) fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }
}

enum Plug {
    Pty(Option<Pty>, PathBuf),
    Unix(UnixListener, Option<UnixStream>, PathBuf),
    Tcp(TcpListener, Option<TcpStream>),
    None,
}

struct Control {
    stream: UnixStream,
    typed: Vec<u8>,
}

/// The thread's own things.
pub(crate) struct Runner {
    shared: Arc<Shared>,
    plug: Plug,
    control: Option<(UnixListener, PathBuf)>,
    controls: Vec<Control>,
    record: Option<std::fs::File>,
    wake: UnixStream,
    out: Vec<u8>,
}

fn listen_unix(path: &PathBuf) -> io::Result<UnixListener> {
    // A socket that nobody listens on is what a killed simulator left.
    if UnixStream::connect(path).is_err() && path.symlink_metadata().is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Runner {
    pub(crate) fn new(options: Options, keep: usize, wake: UnixStream) -> io::Result<Self> {
        let plug = match &options.line {
            Line::Pty(link) => Plug::Pty(Some(Pty::open(link)?), link.clone()),
            Line::Unix(path) => Plug::Unix(listen_unix(path)?, None, path.clone()),
            Line::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Plug::Tcp(listener, None)
            }
            Line::None => Plug::None,
        };
        let control = match &options.control {
            Some(path) => Some((listen_unix(path)?, path.clone())),
            None => None,
        };
        let record = match &options.record {
            Some(path) => Some(std::fs::OpenOptions::new().create(true).append(true).open(path)?),
            None => None,
        };
        wake.set_nonblocking(true)?;
        let shared = Arc::new(Shared::new(options, keep));
        Ok(Self { shared, plug, control, controls: Vec::new(), record, wake, out: Vec::new() })
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// The address of a TCP line.
    pub(crate) fn address(&self) -> Option<std::net::SocketAddr> {
        match &self.plug {
            Plug::Tcp(listener, _) => listener.local_addr().ok(),
            _ => None,
        }
    }

    /// Runs until it is stopped.
    pub(crate) fn run(mut self) {
        let mut buffer = [0u8; 4096];
        while !*self.shared.stopped.lock() {
            let wake_ms = self.step();
            self.sleep(wake_ms);
            self.accept();
            let plugged = match &mut self.plug {
                Plug::Pty(Some(pty), _) => pty.plugged(),
                _ => Plugged::default(),
            };
            // Closed and opened again: what is there to read belongs to the new one. Closed for good: to the old one.
            if plugged.fell && plugged.open {
                self.unplugged();
            }
            self.read_line(&mut buffer);
            if plugged.fell && !plugged.open {
                self.step();
                self.unplugged();
            }
            self.read_controls(&mut buffer);
            while matches!((&self.wake).read(&mut buffer), Ok(n) if n > 0) {}
        }
        self.step();
        if let Plug::Unix(_, _, path) = &self.plug {
            let _ = std::fs::remove_file(path);
        }
        if let Some((_, path)) = &self.control {
            let _ = std::fs::remove_file(path);
        }
        // The line goes before anybody is told.
        drop(std::mem::replace(&mut self.plug, Plug::None));
        self.shared.ended.send_replace(true);
        let _told = self.shared.changed.0.lock();
        self.shared.changed.1.notify_all();
    }

    /// Lets the engine act, writes what it says, records what phones received; milliseconds until it wants to act again.
    fn step(&mut self) -> Option<u64> {
        let now = self.shared.now();
        let mut engine = self.shared.engine.lock();
        if let Plug::Pty(Some(pty), _) = &self.plug {
            engine.set_line_speed(pty.speed());
        }
        engine.advance(now);
        let bytes = engine.output(now);
        let received = engine.take_received();
        let mut acts = Vec::new();
        while let Some(act) = engine.take_port_act() {
            acts.push(act);
        }
        let counters = engine.counters();
        let wake_at = engine.wake_at();
        drop(engine);
        // A phone has the message before the terminal hears of it: a kill in between must not make it unheard of.
        self.keep(received);
        self.out.extend(bytes);
        self.write_line();
        for act in acts {
            self.port(act);
        }
        if *self.shared.counters.borrow() != counters {
            self.shared.counters.send_replace(counters);
            *self.shared.changed.0.lock() += 1;
            self.shared.changed.1.notify_all();
        }
        wake_at.map(|at| at.saturating_sub(self.shared.now()))
    }

    fn keep(&mut self, received: Vec<Received>) {
        if received.is_empty() {
            return;
        }
        if let Some(file) = &mut self.record {
            let mut lines = Vec::new();
            for message in &received {
                let _ = serde_json::to_writer(&mut lines, message);
                lines.push(b'\n');
            }
            // One write: a reader never sees half a line. A full disk is the test's fault to see in the file.
            let _ = file.write_all(&lines);
        }
        let mut kept = self.shared.received.lock();
        kept.list.extend(received);
        while kept.list.len() > self.shared.keep {
            kept.list.pop_front();
            kept.gone += 1;
        }
    }

    fn port(&mut self, act: PortAct) {
        if let Plug::Pty(pty, link) = &mut self.plug {
            match act {
                PortAct::Away => *pty = None,
                PortAct::Back => *pty = Pty::open(link).ok(),
            }
        }
        match (&mut self.plug, act) {
            (Plug::Unix(_, stream, _), PortAct::Away) => *stream = None,
            (Plug::Tcp(_, stream), PortAct::Away) => *stream = None,
            _ => {}
        }
        self.out.clear();
    }

    fn write_line(&mut self) {
        let done = match &mut self.plug {
            Plug::Pty(Some(pty), _) => rustix::io::write(pty.fd(), &self.out).map_err(io::Error::from),
            Plug::Unix(_, Some(stream), _) => stream.write(&self.out),
            Plug::Tcp(_, Some(stream)) => stream.write(&self.out),
            // Nobody is there: it goes into the air.
            _ => Ok(self.out.len()),
        };
        match done {
            Ok(n) => drop(self.out.drain(..n)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.out.truncate(64 * 1024),
            Err(_) => self.out.clear(),
        }
    }

    fn sleep(&self, wake_ms: Option<u64>) {
        let both = if self.out.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        match &self.plug {
            Plug::Pty(Some(pty), _) => {
                fds.push(PollFd::from_borrowed_fd(pty.fd(), both));
                fds.push(PollFd::from_borrowed_fd(pty.watch(), PollFlags::IN));
            }
            Plug::Unix(listener, stream, _) => {
                fds.push(PollFd::new(listener, PollFlags::IN));
                fds.extend(stream.as_ref().map(|s| PollFd::new(s, both)));
            }
            Plug::Tcp(listener, stream) => {
                fds.push(PollFd::new(listener, PollFlags::IN));
                fds.extend(stream.as_ref().map(|s| PollFd::new(s, both)));
            }
            Plug::Pty(None, _) | Plug::None => {}
        }
        if let Some((listener, _)) = &self.control {
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        fds.extend(self.controls.iter().map(|c| PollFd::new(&c.stream, PollFlags::IN)));
        let timeout = wake_ms.map(|ms| Timespec { tv_sec: (ms / 1000) as i64, tv_nsec: (ms % 1000 * 1_000_000) as i64 });
        let _ = poll(&mut fds, timeout.as_ref());
    }

    fn accept(&mut self) {
        match &mut self.plug {
            Plug::Unix(listener, stream, _) => {
                if let Ok((fresh, _)) = listener.accept() {
                    let _ = fresh.set_nonblocking(true);
                    *stream = Some(fresh);
                }
            }
            Plug::Tcp(listener, stream) => {
                if let Ok((fresh, _)) = listener.accept() {
                    let _ = fresh.set_nonblocking(true);
                    let _ = fresh.set_nodelay(true);
                    *stream = Some(fresh);
                }
            }
            Plug::Pty(..) | Plug::None => {}
        }
        if let Some((listener, _)) = &self.control
            && let Ok((stream, _)) = listener.accept()
            && self.controls.len() < CONTROLS_MOST
        {
            let _ = stream.set_nonblocking(true);
            self.controls.push(Control { stream, typed: Vec::new() });
        }
    }

    fn read_line(&mut self, buffer: &mut [u8]) {
        let got = match &mut self.plug {
            Plug::Pty(Some(pty), _) => rustix::io::read(pty.fd(), &mut *buffer).map_err(io::Error::from),
            Plug::Unix(_, Some(stream), _) => stream.read(buffer),
            Plug::Tcp(_, Some(stream)) => stream.read(buffer),
            _ => return,
        };
        match got {
            Ok(0) => {
                match &mut self.plug {
                    Plug::Unix(_, stream, _) => *stream = None,
                    Plug::Tcp(_, stream) => *stream = None,
                    Plug::Pty(..) | Plug::None => {}
                }
                self.unplugged();
            }
            Ok(n) => {
                let now = self.shared.now();
                let mut engine = self.shared.engine.lock();
                if let Plug::Pty(Some(pty), _) = &self.plug {
                    engine.set_line_speed(pty.speed());
                }
                engine.input(now, &buffer[..n]);
            }
            Err(_) => {}
        }
    }

    /// The terminal has gone: DTR falls, and what it did not read is lost.
    fn unplugged(&mut self) {
        self.out.clear();
        if let Plug::Pty(Some(pty), _) = &self.plug {
            pty.flush();
        }
        self.shared.engine.lock().dtr_drop();
    }

    fn read_controls(&mut self, buffer: &mut [u8]) {
        let mut lines: Vec<(usize, String)> = Vec::new();
        let mut gone = Vec::new();
        for (at, control) in self.controls.iter_mut().enumerate() {
            match control.stream.read(buffer) {
                Ok(0) => gone.push(at),
                Ok(n) if control.typed.len() + n <= ORDER_MOST => control.typed.extend(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => gone.push(at),
            }
            while let Some(end) = control.typed.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = control.typed.drain(..=end).collect();
                lines.push((at, String::from_utf8_lossy(&line).trim().to_owned()));
            }
        }
        for (at, line) in lines {
            let mut answer = self.shared.obey(&line);
            answer.push('\n');
            let _ = self.controls[at].stream.write_all(answer.as_bytes());
        }
        for at in gone.into_iter().rev() {
            self.controls.remove(at);
        }
    }
}

impl Shared {
    /// A line of the control socket: carried out, and the answer. The last line of an answer is `ok` or begins with `error: `.
    pub(crate) fn obey(&self, line: &str) -> String {
        let json = |value: serde_json::Result<String>| value.map_or_else(|e| format!("error: {e}"), |v| format!("{v}\nok"));
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["help"] => format!("{HELP}\nok"),
            ["state"] => json(serde_json::to_string(&self.engine.lock().state())),
            ["counters"] => json(serde_json::to_string(&self.engine.lock().counters())),
            ["seed"] => format!("{}\nok", self.seed),
            ["received"] => self.last_received(usize::MAX),
            ["received", n] => n.parse().map_or_else(|_| format!("error: '{n}' is no number"), |n| self.last_received(n)),
            ["quit"] => {
                *self.stopped.lock() = true;
                "ok".to_owned()
            }
            _ => match Order::parse(line).and_then(|order| self.engine.lock().order(self.now(), order)) {
                Ok(()) => "ok".to_owned(),
                Err(sentence) => format!("error: {sentence}"),
            },
        }
    }

    fn last_received(&self, most: usize) -> String {
        let kept = self.received.lock();
        let skip = kept.list.len().saturating_sub(most);
        let lines: Vec<String> = kept.list.iter().skip(skip).filter_map(|m| serde_json::to_string(m).ok()).collect();
        lines.into_iter().chain(["ok".to_owned()]).collect::<Vec<_>>().join("\n")
    }
}
