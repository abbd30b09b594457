//! The console of a node: a menu, and orders, on its screen and on its serial line.
//!
//! Contract: whoever sits at the machine needs no network, no shell and no page to see how the node is and to bring it back.
//! A line is the number of an entry, or an order: the words of `twinpost ctl`, run as a child with exactly these words. Physical
//! presence is trusted; each use is logged. Orders that begin with `@N ` come from a program: they are not echoed, and the
//! answer stands between STX and ETX ([`frame`]).
//!
//! [`session`] is the whole conversation without a terminal, a child or a clock; [`run`] puts it on a terminal.
//!
//! Failure classes: the terminal cannot be opened or went away ([`Error`]: the process ends and is started again); an order
//! cannot be started, fails, says too much or lasts too long (its exit code says so, the console goes on); garbage on the line
//! (ignored, or refused as an unknown order).

mod child;
mod editor;
mod error;
pub mod frame;
mod look;
mod menu;
mod net;
mod probe;
mod run;
pub mod session;
mod status;
mod terminal;
mod tongue;
mod words;

pub use error::Error;
pub use run::run;
pub use tongue::Tongue;
pub use words::{Unclosed, split};

use std::path::PathBuf;
use std::time::Duration;

/// What the first program of this start of the machine reported: it came from an installer medium.
fn is_installer(report: &std::path::Path) -> bool {
    let report: Option<serde_json::Value> = std::fs::read(report).ok().and_then(|text| serde_json::from_slice(&text).ok());
    report.is_some_and(|report| report["install"] == true)
}

/// How a serial line is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Serial {
    /// Speed in bit/s.
    pub baud: u32,
    /// Flow control by RTS and CTS.
    pub rts_cts: bool,
}

/// The serial line of a terminal, as `twinpost boot` found it on the board.
fn serial_of(report: &serde_json::Value, tty: &std::path::Path) -> Option<Serial> {
    let ports = report.pointer("/roles/serial")?.as_array()?;
    let port =
        ports.iter().find(|port| port["role"] == "console" && port["device"].as_str().map(std::path::Path::new) == Some(tty))?;
    let rts_cts = port["flow"] == "rts-cts";
    Some(Serial { baud: u32::try_from(port["baud"].as_u64()?).ok()?, rts_cts })
}

/// Where the console speaks, and for which node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The terminal: `/dev/tty1`, `/dev/ttyS0`.
    pub tty: PathBuf,
    /// The program whose `ctl` carries orders out: our own binary.
    pub program: PathBuf,
    /// Folder of the node, given to `ctl` with `--dir`.
    pub node_folder: PathBuf,
    /// What `twinpost boot` found (JSON).
    pub boot_report: PathBuf,
    /// This is an installer: its menu is another one.
    pub installer: bool,
    /// The servers asked by the name test.
    pub resolv_conf: PathBuf,
    /// Version shown in the first line.
    pub version: String,
    /// Orders may be typed, not only numbers of the menu.
    pub orders: bool,
    /// An order that is not told to watch ends after this time.
    pub order_limit: Duration,
}

impl Settings {
    /// The places of the image, for a terminal.
    #[must_use]
    pub fn image(tty: PathBuf, program: PathBuf, node_folder: PathBuf) -> Self {
        Self {
            tty,
            program,
            node_folder,
            boot_report: "/run/twinpost/boot.json".into(),
            installer: is_installer("/run/twinpost/init.json".as_ref()),
            resolv_conf: "/etc/resolv.conf".into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            orders: true,
            order_limit: Duration::from_secs(3600),
        }
    }
    /// The screen of the kernel has no Chinese letters; a serial terminal has those of the computer behind it.
    fn has_chinese(&self) -> bool {
        let name = self.tty.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix("tty").is_none_or(|rest| !rest.chars().all(|c| c.is_ascii_digit()))
    }
    /// What the board says of this terminal's line; a screen has none.
    fn serial(&self) -> Option<Serial> {
        let report = std::fs::read(&self.boot_report).ok()?;
        serial_of(&serde_json::from_slice(&report).ok()?, &self.tty)
    }
    /// Name of the terminal in the log and in the audit trail.
    fn name(&self) -> &str {
        self.tty.file_name().and_then(|name| name.to_str()).unwrap_or("console")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_the_line_that_the_board_gives_it() {
        let report = serde_json::json!({"roles": {"serial": [
            {"role": "heartbeat", "device": "/dev/ttyS0", "baud": 115_200, "flow": "none"},
            {"role": "console", "device": "/dev/ttyS1", "baud": 57_600, "flow": "rts-cts"},
        ]}});
        assert_eq!(serial_of(&report, "/dev/ttyS1".as_ref()), Some(Serial { baud: 57_600, rts_cts: true }));
        assert_eq!(serial_of(&report, "/dev/ttyS0".as_ref()), None, "another's line");
        assert_eq!(serial_of(&report, "/dev/tty1".as_ref()), None, "a screen");
        assert_eq!(serial_of(&serde_json::Value::Null, "/dev/ttyS1".as_ref()), None);
    }
}
