//! What the user of the crate says: port, speed, PIN, family, power switch, times. Plain data with documented defaults.
//!
//! Failure classes: only [`Pin::new`] can refuse something.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The settings of one modem.
#[derive(Clone)]
pub struct Settings {
    /// The serial port or a symbolic link to it, such as `/dev/ttyS1`. It need not exist yet.
    pub port: PathBuf,
    /// Line speed in bit/s; `None`: found by trying.
    pub baud: Option<u32>,
    /// The SIM's PIN, if it wants one.
    pub pin: Option<Pin>,
    /// File that remembers which PIN a SIM refused, so that it is never tried a second time (a SIM locks at three).
    /// `None`: remembered only while the process lives; a daemon should set it.
    pub pin_memory: Option<PathBuf>,
    /// Name of a family (see the crate's `families` folder); `None`: found by `+CGMI` and `+CGMM`.
    pub family: Option<String>,
    /// Service centre to set by `+CSCA` when the SIM has none, such as `+8613800100500`.
    pub smsc: Option<String>,
    /// Folder of the `LCK..ttyS1` files by which serial programs keep out of each other's way (FHS 5.9);
    /// default `/var/lock`. `None`: none is looked at or written.
    pub lock_dir: Option<PathBuf>,
    /// RTS/CTS flow control; `None`: as the family wants it.
    pub rts_cts: Option<bool>,
    /// The board's power switch of the modem: last rung of the reset ladder.
    pub power: Option<Arc<dyn Power>>,
    /// Times. The defaults suit real modems; tests shorten them.
    pub timing: Timing,
}

impl Settings {
    /// Settings for a modem on this port, everything else by default.
    pub fn new(port: impl Into<PathBuf>) -> Settings {
        Settings {
            port: port.into(),
            baud: None,
            pin: None,
            pin_memory: None,
            family: None,
            smsc: None,
            lock_dir: Some(PathBuf::from("/var/lock")),
            rts_cts: None,
            power: None,
            timing: Timing::default(),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("port", &self.port)
            .field("baud", &self.baud)
            .field("pin", &self.pin)
            .field("family", &self.family)
            .field("power", &self.power.is_some())
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

/// The times of the driver.
#[derive(Debug, Clone)]
pub struct Timing {
    /// First pause before looking for a missing or busy port again; doubles up to [`Timing::port_retry_max`].
    /// Default 250 ms.
    pub port_retry_min: Duration,
    /// Default 5 s.
    pub port_retry_max: Duration,
    /// How long one speed is given to answer `AT` while looking for the modem. Default 400 ms.
    pub probe: Duration,
    /// Between two looks at signal and registration when nothing else happens. Default 30 s.
    pub watch: Duration,
    /// Between two looks at a SIM or network that is missing. Default 5 s.
    pub wait_network: Duration,
    /// Without a network for so long, the modem is told to search anew, and next time restarted; grows. Default 10 min.
    pub network_patience: Duration,
    /// Upper bound of the answer time of ordinary commands, `None`: by command and family. Default `None`.
    pub answer_max: Option<Duration>,
    /// Upper bound of the answer time of `+CMGS` after Ctrl-Z, `None`: by family (60 s to 150 s). Default `None`.
    pub send_max: Option<Duration>,
    /// Upper bound of the time that a modem is given to start after a reset, `None`: by family. Default `None`.
    pub boot_max: Option<Duration>,
    /// Pause after a failed step of the reset ladder; doubles with each round. Default 5 s.
    pub ladder_min: Duration,
    /// Longest pause between two steps of the ladder. Default 10 min.
    pub ladder_max: Duration,
    /// How long DTR is held down, and how long the power is off, in a reset. Default 2 s.
    pub drop: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            port_retry_min: Duration::from_millis(250),
            port_retry_max: Duration::from_secs(5),
            probe: Duration::from_millis(400),
            watch: Duration::from_secs(30),
            wait_network: Duration::from_secs(5),
            network_patience: Duration::from_secs(600),
            answer_max: None,
            send_max: None,
            boot_max: None,
            ladder_min: Duration::from_secs(5),
            ladder_max: Duration::from_secs(600),
            drop: Duration::from_secs(2),
        }
    }
}

/// The board's power switch of the modem. Called from the driver's task: it must return within some milliseconds.
pub trait Power: Send + Sync {
    /// Switches the modem's supply on or off.
    fn switch(&self, on: bool) -> std::io::Result<()>;
}

/// A SIM PIN: 4 to 8 digits (TS 31.101 9.3). Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Pin(String);

/// The PIN is not 4 to 8 digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a SIM PIN is 4 to 8 digits, this one is not")]
pub struct PinError;

impl Pin {
    /// Takes 4 to 8 digits; surrounding white space is dropped.
    pub fn new(digits: &str) -> Result<Pin, PinError> {
        let digits = digits.trim();
        if (4..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Pin(digits.to_owned()))
        } else {
            Err(PinError)
        }
    }

    /// The digits, to write them to the SIM.
    pub fn digits(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(..)")
    }
}
