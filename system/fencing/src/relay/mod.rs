//! The serial power switch: "Twinpost relay protocol", defined in docs/manual/power-switch.md.
//!
//! Contract: 9600 8N1, ASCII lines, one question and one answer, each with a number and a checksum, so that a garbled or late line is never
//! taken for an answer. `DONE` says that the switch obeys, `STATE` what it *measures* at the outlet: only the latter is a reading. The line is opened anew after
//! every failure, so a switch that was unplugged is found again.

mod line;
mod simulator;

pub use line::fuzz;
pub use simulator::{Mishaps, Outlets, RelaySimulator, Switchboard};

use crate::readback::{Device, Times, Verified};
use crate::{Error, Power};
use line::{Answer, LINE_BYTES, Question};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tokio_serial::{SerialPortBuilderExt as _, SerialStream};

/// After this long without an answer a question is asked again.
const AGAIN: Duration = Duration::from_millis(400);

/// Settings of a serial power switch.
#[derive(Clone, Debug)]
pub struct RelaySettings {
    /// Device file of the line.
    pub device: PathBuf,
    /// Outlet of the peer, from 1.
    pub outlet: u8,
    /// Speed, 9600.
    pub baud: u32,
    /// Time limits.
    pub times: Times,
}

impl RelaySettings {
    /// 9600 baud.
    #[must_use]
    pub fn new(device: PathBuf, outlet: u8) -> Self {
        Self { device, outlet, baud: 9600, times: Times::default() }
    }
}

/// A serial power switch.
pub type Relay = Verified<Board>;

impl Relay {
    /// The line is opened by the first order.
    #[must_use]
    pub fn new(settings: RelaySettings) -> Self {
        let name = format!("relay {} outlet {}", settings.device.display(), settings.outlet);
        Self::of(Board { settings, name, line: Mutex::default() })
    }
}

/// The device behind [`Relay`].
#[derive(Debug)]
pub struct Board {
    settings: RelaySettings,
    name: String,
    line: Mutex<Option<Line>>,
}

#[derive(Debug)]
struct Line {
    port: SerialStream,
    number: u8,
    /// What came and is no whole line yet.
    rest: Vec<u8>,
}

impl Board {
    fn open(&self, doing: &'static str) -> Result<Line, Error> {
        let builder = tokio_serial::new(self.settings.device.to_string_lossy(), self.settings.baud).exclusive(true);
        let port = builder.open_native_async().map_err(|e| Error::Unreachable {
            switch: self.name.clone(),
            doing,
            why: format!("{}: {e}", self.settings.device.display()),
        })?;
        Ok(Line { port, number: std::process::id().to_le_bytes()[0], rest: Vec::new() })
    }

    /// One question until its answer comes. Taken out of the slot while in use: a question that is dropped half-way leaves no line behind.
    async fn ask(&self, question: Question, doing: &'static str) -> Result<Answer, Error> {
        let mut kept = self.line.lock().await;
        let mut line = match kept.take() {
            Some(line) => line,
            None => self.open(doing)?,
        };
        let answer = self.exchange(&mut line, question, doing).await?;
        *kept = Some(line);
        match answer {
            Answer::Error(code) => Err(Error::Refused { switch: self.name.clone(), doing, why: code.to_string() }),
            answer => Ok(answer),
        }
    }

    async fn exchange(&self, line: &mut Line, question: Question, doing: &'static str) -> Result<Answer, Error> {
        let failed = |e: std::io::Error| Error::Unreachable { switch: self.name.clone(), doing, why: e.to_string() };
        // Inside the step's own limit, so that the reason is told: silence or noise.
        let end = Instant::now() + self.settings.times.step.mul_f32(0.9);
        line.number = line.number.wrapping_add(1);
        let sent = line::write_question(line.number, question);
        let mut noise = None;
        while Instant::now() < end {
            // The empty line ends whatever a garbled one has left in the switch.
            line.port.write_all(b"\r\n").await.map_err(failed)?;
            line.port.write_all(&sent).await.map_err(failed)?;
            let again = end.min(Instant::now() + AGAIN);
            while let Ok(said) = timeout_at(again, next_line(line)).await {
                let said = said.map_err(failed)?;
                match line::read_answer(&said) {
                    Some((number, answer)) if number == line.number && answer.fits(question) => return Ok(answer),
                    // Late, or somebody else's.
                    Some(_) => {}
                    None if said.is_empty() => {}
                    None => noise = Some(crate::program::line(&String::from_utf8_lossy(&said))),
                }
            }
        }
        let limit_ms = u64::try_from(self.settings.times.step.as_millis()).unwrap_or(u64::MAX);
        Err(match noise {
            Some(what) => Error::Garbage { switch: self.name.clone(), doing, what },
            None => Error::TimedOut { switch: self.name.clone(), doing, limit_ms },
        })
    }
}

/// The next line without its end; a longer one than the protocol has is cut to nothing.
async fn next_line(line: &mut Line) -> std::io::Result<Vec<u8>> {
    loop {
        if let Some(at) = line.rest.iter().position(|byte| *byte == b'\n') {
            let mut said: Vec<u8> = line.rest.drain(..=at).collect();
            while said.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                said.pop();
            }
            return Ok(said);
        }
        if line.rest.len() > LINE_BYTES {
            line.rest.clear();
        }
        let mut buffer = [0; 64];
        let length = line.port.read(&mut buffer).await?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        line.rest.extend_from_slice(&buffer[..length]);
    }
}

impl Device for Board {
    fn name(&self) -> &str {
        &self.name
    }

    fn times(&self) -> Times {
        self.settings.times
    }

    async fn order(&self, on: bool) -> Result<(), Error> {
        let doing = if on { "switch on" } else { "switch off" };
        self.ask(Question::Switch { outlet: self.settings.outlet, on }, doing).await.map(drop)
    }

    async fn read(&self) -> Result<Power, Error> {
        match self.ask(Question::State { outlet: self.settings.outlet }, "read the power").await? {
            Answer::State { power, .. } => Ok(power),
            // `fits` lets nothing else through.
            _ => Ok(Power::Unknown),
        }
    }
}
