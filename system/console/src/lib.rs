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
    /// Name of the terminal in the log and in the audit trail.
    fn name(&self) -> &str {
        self.tty.file_name().and_then(|name| name.to_str()).unwrap_or("console")
    }
}
