//! What can be read of the modem at any moment. Plain data, serialisable for the socket API; no failure classes.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::Settings;

/// Where the modem is. One word for a machine, one sentence for people by `Display`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The port does not exist or cannot be opened.
    NoPort,
    /// Another program holds the port.
    PortBusy,
    /// Something answers on the port, but it does not speak AT.
    NotAModem,
    /// The port is set to a speed at which the modem does not answer properly; see `detail` for the right one.
    WrongSpeed,
    /// Being looked for or brought up.
    Starting,
    /// No SIM card, or the modem cannot read it.
    NoSim,
    /// The SIM wants a PIN and none is configured.
    PinWanted,
    /// The SIM refused the configured PIN. It is not tried again until another one is configured.
    PinWrong,
    /// The SIM is locked and wants its PUK: somebody must unlock it in a telephone.
    PukWanted,
    /// No network, or still searching.
    NoNetwork,
    /// The network denies this SIM.
    Denied,
    /// Sends and receives.
    Ready,
    /// Sends, but cannot receive: the memory for received messages is full.
    StorageFull,
    /// The modem does not answer.
    Silent,
    /// A step of the reset ladder is under way.
    Resetting,
    /// The driver has been stopped.
    Stopped,
}

impl Phase {
    /// Whether [`crate::Modem::send`] is carried out in this phase.
    pub fn can_send(self) -> bool {
        matches!(self, Phase::Ready | Phase::StorageFull)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::NoPort => "the modem's port is not there",
            Phase::PortBusy => "another program holds the modem's port",
            Phase::NotAModem => "what is on the port is not a modem",
            Phase::WrongSpeed => "the port is set to another speed than the modem",
            Phase::Starting => "the modem is being started",
            Phase::NoSim => "there is no readable SIM card in the modem",
            Phase::PinWanted => "the SIM card wants a PIN and none is set",
            Phase::PinWrong => "the SIM card refused the PIN; it will not be tried again",
            Phase::PukWanted => "the SIM card is locked and wants its PUK",
            Phase::NoNetwork => "the modem has no network",
            Phase::Denied => "the network does not admit the SIM card",
            Phase::Ready => "ready",
            Phase::StorageFull => "ready to send, but the memory for received messages is full",
            Phase::Silent => "the modem does not answer",
            Phase::Resetting => "the modem is being reset",
            Phase::Stopped => "the modem driver is stopped",
        })
    }
}

/// `<stat>` of `+CREG`, `+CGREG`, `+CEREG` (TS 27.007 7.2), the best of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// Not known yet.
    #[default]
    Unknown,
    /// Not registered and not searching.
    None,
    /// Searching.
    Searching,
    /// Denied.
    Denied,
    /// Emergency calls only.
    Emergency,
    /// Registered at home (for all or for SMS only).
    Home,
    /// Registered while roaming (for all or for SMS only).
    Roaming,
}

/// A step of the reset ladder, from mild to harsh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetStep {
    /// ESC to leave a hanging prompt, then `AT` until it answers.
    Attention,
    /// The family's reset command, `AT+CFUN=1,1` for most.
    Restart,
    /// DTR (and RTS) down and up again, and the port opened anew.
    Dtr,
    /// The board switches the supply off and on.
    Power,
}

impl fmt::Display for ResetStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ResetStep::Attention => "ESC and AT",
            ResetStep::Restart => "restart by command",
            ResetStep::Dtr => "DTR dropped",
            ResetStep::Power => "power off and on",
        })
    }
}

/// The memory for received messages (`+CPMS`, third memory).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Storage {
    /// Its name, such as `SM` or `ME`.
    pub memory: String,
    /// Messages in it.
    pub used: u16,
    /// Room for so many.
    pub total: u16,
}

impl Storage {
    /// Nine tenths full, or one place left: somebody should find out why it is not emptied.
    pub fn nearly_full(&self) -> bool {
        self.total > 0 && (u32::from(self.used) * 10 >= u32::from(self.total) * 9 || self.used + 1 >= self.total)
    }
}

/// Counted since the driver's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Messages that the network accepted.
    pub sent: u64,
    /// Messages that the modem or network refused.
    pub refused: u64,
    /// Sends of unknown outcome.
    pub unknown: u64,
    /// Messages and reports received and handed over.
    pub received: u64,
    /// Received lines that were no answer, no known notice and no PDU (noise on the line).
    pub garbled: u64,
    /// Steps of the reset ladder.
    pub resets: u64,
    /// Restarts by the modem itself.
    pub restarts: u64,
}

/// All that is known of the modem now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Where it is.
    pub phase: Phase,
    /// What exactly happened, in words.
    pub detail: String,
    /// In this phase since (Unix time).
    pub since_s: i64,
    /// The port as configured.
    pub port: String,
    /// Speed in use, bit/s.
    pub baud: Option<u32>,
    /// Received signal strength of `+CSQ`.
    pub signal_dbm: Option<i16>,
    /// Registration with the network.
    pub registration: Registration,
    /// Operator's name or code (`+COPS?`).
    pub operator: Option<String>,
    /// Name of the family whose quirks are in force.
    pub family: Option<String>,
    /// `+CGMI`.
    pub maker: Option<String>,
    /// `+CGMM`.
    pub model: Option<String>,
    /// `+CGMR`.
    pub revision: Option<String>,
    /// `+CGSN`.
    pub imei: Option<String>,
    /// `+CIMI`.
    pub imsi: Option<String>,
    /// Service centre's number (`+CSCA?`).
    pub smsc: Option<String>,
    /// Memory for received messages.
    pub storage: Option<Storage>,
    /// The step of the reset ladder under way or taken last, until the modem is ready again.
    pub reset: Option<ResetStep>,
    /// Counters.
    pub counters: Counters,
}

impl State {
    pub(crate) fn new(settings: &Settings) -> State {
        State {
            phase: Phase::Starting,
            detail: String::new(),
            since_s: now_s(),
            port: settings.port.display().to_string(),
            baud: None,
            signal_dbm: None,
            registration: Registration::Unknown,
            operator: None,
            family: None,
            maker: None,
            model: None,
            revision: None,
            imei: None,
            imsi: None,
            smsc: None,
            storage: None,
            reset: None,
            counters: Counters::default(),
        }
    }
}

/// Unix time in seconds.
pub(crate) fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearly_full() {
        let storage = |used, total| Storage { memory: "SM".into(), used, total }.nearly_full();
        assert!(!storage(0, 0) && !storage(7, 10) && !storage(44, 50) && !storage(8, 10));
        assert!(storage(9, 10) && storage(45, 50) && storage(1, 2) && storage(50, 50));
    }
}
