//! What a simulated modem is asked to be, and the faults that it can be asked to have.

use crate::family::{FAMILIES, Family};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the serial line ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Line {
    /// A pseudo-terminal with a symbolic link of this name to it.
    Pty(PathBuf),
    /// A Unix stream socket.
    Unix(PathBuf),
    /// A TCP port (as serial servers offer it, without RFC 2217).
    Tcp(SocketAddr),
    /// None: for the engine alone.
    #[default]
    None,
}

/// How long things take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Timing {
    /// Answers at once.
    #[default]
    Instant,
    /// Like a radio: 2.4 to 6.5 s for a message, tenths for the SIM.
    Radio,
    /// So many milliseconds for a message, nothing for the rest.
    SendMs(u64),
}

/// What brings a modem back that hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The next command line: only this answer is lost.
    At,
    /// `AT+CFUN=1,1`, and what is stronger.
    Cfun,
    /// A drop of DTR, which closing the port is too, and what is stronger.
    Dtr,
    /// Power off and on.
    Power,
    /// Milliseconds.
    Ms(u64),
}

/// Where in a send a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// After `AT+CMGS=n`, before the prompt.
    BeforePrompt,
    /// After the prompt: what is written then is lost.
    AfterPrompt,
    /// After Ctrl-Z; the message has gone out or has not: a terminal cannot know.
    AfterSend {
        /// It has gone out.
        sent: bool,
    },
}

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// No answer, until something brings it back.
    Hang(Until),
    /// The modem starts anew. With a number the port goes away for so many milliseconds, as a USB one does.
    Reset {
        /// Milliseconds without port.
        away_ms: Option<u64>,
    },
    /// `+CMS ERROR`.
    Cms(u16),
    /// `+CME ERROR`.
    Cme(u16),
    /// The answer comes, but so many milliseconds late.
    Late(u64),
}

/// A fault of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub stage: Stage,
    /// What.
    pub effect: Effect,
}

/// The state of the SIM card at start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Card {
    /// There, unlocked or with the PIN of the options.
    #[default]
    In,
    /// None in the holder.
    Out,
    /// Locked by three wrong PINs.
    Locked,
}

/// Everything that can be chosen at start. `Options::default()` is a healthy plain modem that answers at once.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the terminal plugs in.
    pub line: Line,
    /// Control socket (Unix), one order a line.
    pub control: Option<PathBuf>,
    /// File that gets a JSON line for each received message.
    pub record: Option<PathBuf>,
    /// The modem to be.
    pub family: &'static Family,
    /// How long things take.
    pub timing: Timing,
    /// Seed of all chance.
    pub seed: u64,
    /// PIN of the SIM; `None` asks for none.
    pub pin: Option<String>,
    /// PUK of the SIM.
    pub puk: String,
    /// SIM card.
    pub card: Card,
    /// Fixed speed of the modem; `None` follows the terminal.
    pub baud: Option<u32>,
    /// The modem's own number.
    pub number: String,
    /// Service centre on the SIM.
    pub smsc: String,
    /// `+CIMI`.
    pub imsi: String,
    /// `+CGSN`.
    pub imei: String,
    /// Operator name.
    pub operator: String,
    /// Operator code.
    pub operator_code: String,
    /// Signal 0..31, 99 unknown.
    pub signal: u8,
    /// Places in the SIM's memory; the family's when `None`.
    pub capacity: Option<usize>,
    /// Local time zone of the service centre, in quarters of an hour.
    pub zone_quarters: i8,
    /// Milliseconds from sending to the status report.
    pub report_delay_ms: u64,
    /// Faults of sends with their probability.
    pub chances: Vec<(Fault, f64)>,
    /// Probability for each byte, both ways, to become another one.
    pub garble: f64,
    /// Probability that an unsolicited line comes at any place of an answer where one can.
    pub unsolicited: f64,
    /// Milliseconds that the echo takes.
    pub echo_delay_ms: u64,
    /// Milliseconds that the terminal has for `+CNMA`.
    pub ack_ms: u64,
    /// Begin switched on and ready; false begins with the boot of the family.
    pub booted: bool,
    /// Milliseconds since 1970 at the engine's time 0; the system's clock when `None`.
    pub epoch_ms: Option<i64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            line: Line::None,
            control: None,
            record: None,
            family: FAMILIES.last().expect("the list ends with the plain one"),
            timing: Timing::Instant,
            seed: 1,
            pin: None,
            puk: "12345678".to_owned(),
            card: Card::In,
            baud: None,
            number: "+8613800100500".to_owned(),
            smsc: "+8613800100500".to_owned(),
            imsi: "460001234567890".to_owned(),
            imei: "356938035643809".to_owned(),
            operator: "CHINA MOBILE".to_owned(),
            operator_code: "46000".to_owned(),
            signal: 21,
            capacity: None,
            zone_quarters: 32,
            report_delay_ms: 0,
            chances: Vec::new(),
            garble: 0.0,
            unsolicited: 0.0,
            echo_delay_ms: 0,
            ack_ms: 15_000,
            booted: true,
            epoch_ms: None,
        }
    }
}
