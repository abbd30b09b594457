//! QMP: a virtual machine of the test bench, by QEMU's machine protocol over a Unix socket.
//!
//! Contract: a machine is off when its QEMU process is *gone*, when QEMU says that the guest has shut down, or (for [`QmpOrder::Hold`]) when it was
//! stopped and reset by this switch and still stands: its memory is then lost like that of a node without power. A socket on which nobody listens
//! proves nothing by itself: off is told only if this switch has seen the process behind it before, and that process is no more.
//!
//! Source: QEMU's QMP specification (greeting, `qmp_capabilities`, one JSON object a line, events in between).

use crate::program;
use crate::readback::{Device, Times, Verified};
use crate::{Error, Power};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

/// Longest answer; QEMU's greeting has some hundred bytes.
const MOST_BYTES: u64 = 64 << 10;

/// What off means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum QmpOrder {
    /// `quit`: the process ends, as if the plug was pulled.
    #[default]
    Quit,
    /// `stop` and `system_reset`: the process stays, the machine stands still with empty memory. `on` lets it boot.
    Hold,
    /// `system_powerdown`: the guest is asked; one that does not follow is [`crate::PowerOff::Unread`].
    PowerDown,
}

/// Settings of a virtual machine.
#[derive(Clone, Debug)]
pub struct QmpSettings {
    /// Socket of `-qmp unix:PATH,server=on,wait=off`.
    pub socket: PathBuf,
    /// What off means.
    pub order: QmpOrder,
    /// Program and arguments that start the machine when its process is gone; without, such a machine cannot be switched on.
    pub start: Vec<String>,
    /// Time limits.
    pub times: Times,
}

impl QmpSettings {
    /// `quit`, and no way to start it again.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, order: QmpOrder::Quit, start: Vec::new(), times: Times::default() }
    }
}

/// A virtual machine as a power switch.
pub type Qmp = Verified<Machine>;

impl Qmp {
    /// Nothing is sent before the first order.
    #[must_use]
    pub fn new(settings: QmpSettings) -> Self {
        let name = format!("qmp {}", settings.socket.display());
        Self::of(Machine { settings, name, seen: Mutex::default() })
    }
}

/// A process, told from a later one with the same number by its start time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Process {
    pid: i32,
    started: u64,
}

impl Process {
    /// proc(5): state and start time stand behind the name, which may itself have brackets and blanks.
    fn look(pid: i32) -> Option<(Self, char)> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let started = fields.nth(18)?.parse().ok()?;
        Some((Self { pid, started }, state))
    }

    fn is_gone(self) -> bool {
        match Self::look(self.pid) {
            None => !std::path::Path::new(&format!("/proc/{}", self.pid)).exists(),
            Some((found, state)) => found != self || matches!(state, 'Z' | 'X'),
        }
    }
}

#[derive(Debug, Default)]
struct Seen {
    process: Option<Process>,
    /// Stopped and reset by this switch, and not let go since.
    held: bool,
}

/// The device behind [`Qmp`].
#[derive(Debug)]
pub struct Machine {
    settings: QmpSettings,
    name: String,
    seen: Mutex<Seen>,
}

/// One connection, greeted and ready for commands.
struct Talk {
    stream: BufReader<UnixStream>,
    process: Option<Process>,
}

/// What a line is.
#[derive(Clone, PartialEq, Debug)]
enum Said {
    Return(Value),
    Error(String),
    /// Events and what later versions may add.
    Other,
}

fn understand(line: &[u8]) -> Option<Said> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let object = value.as_object()?;
    Some(if let Some(result) = object.get("return") {
        Said::Return(result.clone())
    } else if let Some(error) = object.get("error") {
        Said::Error(program::line(error["desc"].as_str().unwrap_or("no reason given")))
    } else {
        Said::Other
    })
}

/// Reads any bytes as a line of QMP. Entry point of property tests.
pub fn fuzz(data: &[u8]) {
    if let Some(Said::Error(words)) = understand(data) {
        assert!(words.chars().count() <= 200, "an error is one short line");
    }
}

impl Machine {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn garbage(&self, doing: &'static str, what: impl Into<String>) -> Error {
        Error::Garbage { switch: self.name.clone(), doing, what: what.into() }
    }

    fn unreachable(&self, doing: &'static str) -> impl Fn(std::io::Error) -> Error {
        let switch = self.name.clone();
        move |why| Error::Unreachable { switch: switch.clone(), doing, why: why.to_string() }
    }

    async fn line(&self, talk: &mut Talk, doing: &'static str) -> Result<Vec<u8>, Error> {
        let mut line = Vec::new();
        let read = (&mut talk.stream).take(MOST_BYTES).read_until(b'\n', &mut line).await;
        match read {
            Ok(0) => Err(self.unreachable(doing)(std::io::ErrorKind::UnexpectedEof.into())),
            Ok(_) if line.ends_with(b"\n") => Ok(line),
            Ok(_) => Err(self.garbage(doing, "a line without an end")),
            Err(e) => Err(self.unreachable(doing)(e)),
        }
    }

    async fn greet(&self, stream: UnixStream, doing: &'static str) -> Result<Talk, Error> {
        let pid = stream.peer_cred().ok().and_then(|cred| cred.pid());
        let process = pid.and_then(Process::look).map(|(process, _)| process);
        let mut talk = Talk { stream: BufReader::new(stream), process };
        let greeting = self.line(&mut talk, doing).await?;
        let value: Value = serde_json::from_slice(&greeting).unwrap_or_default();
        if !value["QMP"].is_object() {
            return Err(self.garbage(doing, program::line(&String::from_utf8_lossy(&greeting))));
        }
        self.command(&mut talk, "qmp_capabilities", doing).await?;
        let mut seen = self.seen();
        seen.held &= seen.process == process;
        seen.process = process;
        drop(seen);
        Ok(talk)
    }

    async fn command(&self, talk: &mut Talk, command: &str, doing: &'static str) -> Result<Value, Error> {
        let line = format!("{}\n", json!({ "execute": command }));
        talk.stream.write_all(line.as_bytes()).await.map_err(self.unreachable(doing))?;
        // Events come at any time, but not without end.
        for _ in 0..1000 {
            let line = self.line(talk, doing).await?;
            match understand(&line) {
                Some(Said::Return(value)) => return Ok(value),
                Some(Said::Error(why)) => return Err(Error::Refused { switch: self.name.clone(), doing, why }),
                Some(Said::Other) => {}
                None => return Err(self.garbage(doing, program::line(&String::from_utf8_lossy(&line)))),
            }
        }
        Err(self.garbage(doing, "a thousand events and no answer"))
    }

    async fn connect(&self, doing: &'static str) -> Result<Talk, Error> {
        let stream = UnixStream::connect(&self.settings.socket).await.map_err(self.unreachable(doing))?;
        self.greet(stream, doing).await
    }

    async fn order_off(&self) -> Result<(), Error> {
        let doing = "switch off";
        let mut talk = self.connect(doing).await?;
        match self.settings.order {
            QmpOrder::Quit => match self.command(&mut talk, "quit", doing).await {
                // It may be gone before its answer is out.
                Ok(_) | Err(Error::Unreachable { .. }) => {}
                Err(other) => return Err(other),
            },
            QmpOrder::PowerDown => drop(self.command(&mut talk, "system_powerdown", doing).await?),
            QmpOrder::Hold => {
                self.command(&mut talk, "stop", doing).await?;
                self.command(&mut talk, "system_reset", doing).await?;
                let mut seen = self.seen();
                seen.held = seen.process.is_some() && seen.process == talk.process;
            }
        }
        Ok(())
    }

    async fn order_on(&self) -> Result<(), Error> {
        let doing = "switch on";
        let gone = self.seen().process.is_none_or(Process::is_gone);
        match self.connect(doing).await {
            Ok(mut talk) => {
                self.seen().held = false;
                let status = self.command(&mut talk, "query-status", doing).await?;
                if status["status"] == json!("shutdown") {
                    self.command(&mut talk, "system_reset", doing).await?;
                }
                self.command(&mut talk, "cont", doing).await.map(drop)
            }
            Err(Error::Unreachable { .. }) if gone && !self.settings.start.is_empty() => self.start(doing),
            Err(other) => Err(other),
        }
    }

    fn start(&self, doing: &'static str) -> Result<(), Error> {
        let (program, arguments) = self.settings.start.split_first().ok_or_else(|| self.garbage(doing, "no program"))?;
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // The machine lives on without us: it is not killed with this handle, and tokio reaps it when it ends.
        command.spawn().map(drop).map_err(self.unreachable(doing))
    }
}

impl Device for Machine {
    fn name(&self) -> &str {
        &self.name
    }

    fn times(&self) -> Times {
        self.settings.times
    }

    async fn order(&self, on: bool) -> Result<(), Error> {
        if on { self.order_on().await } else { self.order_off().await }
    }

    async fn read(&self) -> Result<Power, Error> {
        let doing = "read the power";
        let mut talk = match self.connect(doing).await {
            Ok(talk) => talk,
            Err(error) => {
                // The one that was behind the socket, whoever is there now.
                return match self.seen().process {
                    Some(process) if process.is_gone() => Ok(Power::Off),
                    _ => Err(error),
                };
            }
        };
        let status = self.command(&mut talk, "query-status", doing).await?;
        let (Some(state), Some(running)) = (status["status"].as_str(), status["running"].as_bool()) else {
            return Err(self.garbage(doing, program::line(&status.to_string())));
        };
        let held = self.seen().held;
        Ok(match state {
            "shutdown" if !running => Power::Off,
            "paused" | "prelaunch" if !running && held => Power::Off,
            _ => Power::On,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_of_the_specification() {
        assert_eq!(understand(br#"{"return": {}}"#), Some(Said::Return(json!({}))));
        assert_eq!(
            understand(br#"{"error": {"class": "GenericError", "desc": "no\nway"}}"#),
            Some(Said::Error("no way".to_owned()))
        );
        assert_eq!(understand(br#"{"timestamp": {"seconds": 1}, "event": "STOP"}"#), Some(Said::Other));
        assert_eq!(understand(b"[]"), None);
        assert_eq!(understand(b"HTTP/1.1 400"), None);
    }

    #[test]
    fn a_process_is_told_from_the_next_with_its_number() {
        let own = i32::try_from(std::process::id()).unwrap();
        let (me, _) = Process::look(own).unwrap();
        assert!(!me.is_gone());
        assert!(Process { started: me.started + 1, ..me }.is_gone());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let seen = Process::look(pid);
        child.wait().unwrap();
        assert!(seen.is_none_or(|(process, _)| process.is_gone()));
    }

    proptest! {
        #[test]
        fn any_line(data in proptest::collection::vec(any::<u8>(), 0..100), text in "\\PC{0,60}") {
            fuzz(&data);
            fuzz(json!({ "error": { "desc": text } }).to_string().as_bytes());
        }
    }
}
