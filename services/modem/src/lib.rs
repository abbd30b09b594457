//! The GSM modem on a serial port: AT engine, families, bring-up, watch (3GPP TS 27.005, TS 27.007, ITU-T V.250).
//!
//! Contract: [`Modem::start`] never fails and never gives up. It takes the port when the port comes, finds the speed,
//! brings the modem up, hands received messages over as [`Event`]s and keeps them on the SIM (or unacknowledged to the
//! network) until [`Modem::confirm`]; it watches signal and registration, and resets a silent modem by a ladder of
//! growing harshness. What is the matter at any moment is in [`State`].
//!
//! The crate moves raw PDU octets; it knows nothing of what is in them.
//!
//! Failure classes of a send ([`SendError::outcome`]): *not sent* (safe to send again), *refused* (the network or the
//! modem said no, with its code), *unknown* (the PDU and Ctrl-Z went out and no clear answer came back: sending again
//! may make a duplicate). Received messages are handed over **at least once**: a crash between storing and
//! [`Modem::confirm`] shows the same PDU again, so the user compares PDUs.

pub mod at;
mod driver;
mod family;
mod inbox;
mod ladder;
mod link;
mod pins;
mod port;
mod settings;
mod state;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

pub use family::{Dtr, Family, FamilyError, by_name as family_by_name, families, find as find_family};
pub use settings::{Pin, PinError, Power, Settings, Timing};
pub use state::{Counters, Phase, Registration, ResetStep, State, Storage};

/// Most octets of a TPDU that `+CMGS` takes: 164 of an SMS-SUBMIT with 140 octets of user data, 12-octet address and
/// 7-octet validity, and some room for SMS-COMMAND (TS 23.040 9.2.2).
pub const MAX_TPDU_BYTES: usize = 176;

/// What the modem tells without being asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A short message arrived (SMS-DELIVER, with the SMSC address in front). Store it, then [`Modem::confirm`].
    Deliver {
        /// SMSC address octets, then the TPDU (TS 27.005 3.1 `<pdu>`).
        pdu: Vec<u8>,
        /// Hand this to [`Modem::confirm`] once the message is stored.
        token: Token,
    },
    /// A status report arrived (SMS-STATUS-REPORT, with the SMSC address in front). Store it, then [`Modem::confirm`].
    StatusReport {
        /// SMSC address octets, then the TPDU.
        pdu: Vec<u8>,
        /// Hand this to [`Modem::confirm`] once the report is stored.
        token: Token,
    },
    /// Somebody calls the modem. It is not answered.
    Ring {
        /// The caller's number when `+CLIP` told it.
        number: Option<String>,
    },
    /// The phase changed (the same is in the watched [`State`], which may skip short phases; this does not).
    Phase {
        /// The new phase.
        phase: Phase,
        /// What exactly happened, for a log or an alarm.
        detail: String,
    },
    /// A step of the reset ladder is taken now.
    Reset {
        /// Which step.
        step: ResetStep,
        /// Why.
        reason: String,
    },
    /// The modem restarted by itself (brown-out, watchdog, somebody pulled its plug); it is being brought up again.
    Restarted {
        /// The line that told it.
        line: String,
    },
}

/// Names one received message until it is confirmed. Valid for the life of the [`Modem`], over resets too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(u64);

/// Why a send gave no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The modem or the network refused it with `+CMS ERROR: <cms>` (TS 27.005 3.2.5). A `+CME ERROR` is given as the
    /// CMS code of the same meaning, a bare `ERROR` as 500 (unknown error). Not sent.
    #[error("sending the message by AT+CMGS was refused with +CMS ERROR: {cms}")]
    Refused {
        /// The code of TS 27.005 3.2.5: 0..=127 RP causes, 128..=255 TP-FCS, 300.. modem.
        cms: u16,
    },
    /// The modem cannot send now; nothing was written to it. Not sent.
    #[error("the modem is not ready to send: {0}")]
    NotReady(Phase),
    /// The modem was silent, garbled or reset before it asked for the PDU: nothing of the PDU left. Not sent.
    #[error("the modem gave no prompt for the PDU: nothing was sent")]
    NoPrompt,
    /// Silence, reset or a lost port after Ctrl-Z: outcome unknown.
    #[error("no answer after the PDU and Ctrl-Z: whether the message was sent is unknown")]
    Unknown,
    /// An answer came after Ctrl-Z, but no reference could be read from it: outcome unknown.
    #[error("the answer after the PDU and Ctrl-Z could not be read: whether the message was sent is unknown")]
    Garbled,
    /// The TPDU is empty or longer than [`MAX_TPDU_BYTES`], or the SMSC address is longer than 12 octets. Not sent.
    #[error("the PDU of {0} octets is not one that AT+CMGS takes")]
    BadPdu(usize),
    /// The modem's task has ended ([`Modem::stop`]). Not sent.
    #[error("the modem driver has been stopped")]
    Stopped,
}

/// Feeds bytes to every parser of the crate: the engine as a modem's noise in all stages of a command, and the family
/// files. Never panics.
pub fn fuzz(data: &[u8]) {
    use at::{Command, Engine, Expect};
    let commands = [
        Command::new("AT"),
        Command::new("AT+CGMI").expect(Expect::Text),
        Command::new("AT+CREG?").expect(Expect::Registration("+CREG:".to_owned())),
        Command::new("AT+CMGL=4").expect(Expect::Pdus("+CMGL:".to_owned())),
        Command::new("AT+CMEE?").expect(Expect::Sync("+CMEE:".to_owned())),
        Command::send(&[1, 0, 1, 0x81, 0xF1, 0, 0, 0], &[], 10, 10),
    ];
    let mut engine = Engine::default();
    let mut now_ms = 0;
    for (n, piece) in data.chunks(97).enumerate() {
        if engine.idle() {
            engine.start(commands[n % commands.len()].clone(), now_ms);
        }
        engine.input(piece, now_ms);
        now_ms += 7;
        engine.tick(now_ms);
        while engine.poll(now_ms).is_some() {}
    }
    family::fuzz(data);
}

/// The three classes of a failed send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Certainly not sent: safe to try again at once or later.
    NotSent,
    /// Certainly not sent, and somebody said why: retry by the code's class.
    Refused,
    /// It may have been sent.
    Unknown,
}

impl SendError {
    /// The class of this failure.
    pub fn outcome(&self) -> Outcome {
        match self {
            SendError::Refused { .. } | SendError::BadPdu(_) => Outcome::Refused,
            SendError::Unknown | SendError::Garbled => Outcome::Unknown,
            SendError::NotReady(_) | SendError::NoPrompt | SendError::Stopped => Outcome::NotSent,
        }
    }
}

/// What the handle asks of the driver's task.
#[derive(Debug)]
pub(crate) enum Request {
    Send { tpdu: Vec<u8>, smsc: Vec<u8>, more_follows: bool, answer: oneshot::Sender<Result<u8, SendError>> },
    Confirm { token: Token, done: oneshot::Sender<()> },
    Reset { from: ResetStep, done: oneshot::Sender<()> },
    Stop,
}

/// A handle to the modem's task. Cheap to clone; the task ends with [`Modem::stop`] or when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Modem {
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<State>,
    task: Arc<parking_lot::Mutex<Option<tokio::task::JoinHandle<()>>>>,
}

impl Modem {
    /// Starts the modem's task on the current tokio runtime. Events wait in a bounded channel; while nobody takes them,
    /// messages stay on the SIM.
    pub fn start(settings: Settings) -> (Modem, mpsc::Receiver<Event>) {
        let (requests, inbox) = mpsc::channel(16);
        let (events, receiver) = mpsc::channel(64);
        let (state_in, state) = watch::channel(State::new(&settings));
        let task = tokio::spawn(driver::run(settings, inbox, events, state_in));
        (Modem { requests, state, task: Arc::new(parking_lot::Mutex::new(Some(task))) }, receiver)
    }

    /// Sends one TPDU by `AT+CMGS` in PDU mode and returns its message reference (TP-MR) once the network accepted it.
    /// `smsc` is the service centre's address field without its length octet (type of address and semi-octets; `None`:
    /// the SIM's own centre). `more_follows` keeps the radio link up for the next part (`+CMMS`). Sends are carried out
    /// one after the other. Dropping the future does not take the message back.
    pub async fn send(&self, tpdu: &[u8], smsc: Option<&[u8]>, more_follows: bool) -> Result<u8, SendError> {
        let smsc = smsc.unwrap_or_default();
        if tpdu.is_empty() || tpdu.len() > MAX_TPDU_BYTES || smsc.len() > 11 {
            return Err(SendError::BadPdu(tpdu.len()));
        }
        let (answer, outcome) = oneshot::channel();
        let request = Request::Send { tpdu: tpdu.to_vec(), smsc: smsc.to_vec(), more_follows, answer };
        self.requests.send(request).await.map_err(|_| SendError::Stopped)?;
        // The driver answers every request that it has begun; a dropped answer means that its task died in the middle.
        outcome.await.unwrap_or(Err(SendError::Unknown))
    }

    /// The message of `token` is stored: acknowledge it to the network or delete it from the modem. Returns when that
    /// is noted (it is done as soon as the modem can; a failure shows the message again, never loses it).
    pub async fn confirm(&self, token: Token) {
        let (done, noted) = oneshot::channel();
        if self.requests.send(Request::Confirm { token, done }).await.is_ok() {
            let _ = noted.await;
        }
    }

    /// The present state and every later one.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Walks the reset ladder from this step on, by order of an administrator. Returns when the first step is taken.
    pub async fn reset(&self, from: ResetStep) {
        let (done, taken) = oneshot::channel();
        if self.requests.send(Request::Reset { from, done }).await.is_ok() {
            let _ = taken.await;
        }
    }

    /// Finishes the command under way, gives the port back and ends the task.
    pub async fn stop(self) {
        let _ = self.requests.send(Request::Stop).await;
        let task = self.task.lock().take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }
}
