//! Which port of a machine is which, as data.
//!
//! Contract: a board is a file, `board/<name>/board.toml`: how the machine is recognised by what its firmware says (DMI), and which role
//! each of its parts has. [`Boards::load_all`] reads them strictly: an unknown key, a wrong type, two roles in one place, a PCI address
//! that cannot be are faults with file, line, key and what is allowed, all told at once. [`Boards::matching`] chooses; the narrower match
//! wins, and two that are equally narrow are a fault of the data. [`Board::resolve`] finds what has each role in the running kernel, by
//! connectors and never by names like eth0 or sda, and says of what is missing where to look. A machine that no board fits gets the
//! board `generic-x86_64`, which guesses nothing that could do harm; the administrator gives it its roles by a file of changes.
//!
//! Failure classes: a file with faults is left out and told ([`Boards::faults`]); nothing here fails the boot. [`Error`] is for callers
//! that name a file or a board.

#![forbid(unsafe_code)]

mod board;
mod choose;
mod dmi;
mod explain;
mod inventory;
mod layer;
mod load;
mod place;
mod resolve;
mod roles;
mod sys;
#[cfg(test)]
mod tests;

pub use board::{
    Bay, Board, Careful, Controller, Flow, Led, Nic, NicRole, Sensor, Serial, SerialPlace, SerialRole, Source, Supply,
    TpmVersion, Unit, Watchdog, WatchdogDriver,
};
pub use choose::{Choice, Verdict};
pub use dmi::{Dmi, FIELDS, Match};
pub use explain::explain;
pub use inventory::{FoundDisk, FoundNic, FoundSerial, Inventory, inventory};
pub use load::{Boards, Detected, detect, detect_with};
pub use place::{PciAddress, PciPath, UsbPort};
pub use roles::{BayNow, Interface, Missing, Roles, SensorNow, SerialNow, SupplyNow, WatchdogNow};

use std::path::PathBuf;

/// Where the image keeps the boards.
pub const BOARDS_DIR: &str = "/usr/share/twinpost/board";
/// Where the administrator's changes are on a node.
pub const CHANGES_FILE: &str = "/state/system/board.toml";
/// Board of a machine that no other fits.
pub const GENERIC: &str = "generic-x86_64";

/// Why there is no board.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read the board {}: {source}", path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file has these faults; each line names file, line and key.
    #[error("{0}")]
    Faults(String),
    /// Two boards fit equally well.
    #[error("the boards {first} and {second} fit this machine equally well: one of their matches must name more")]
    Ambiguous {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// There is no board of this name.
    #[error("there is no board {name:?}; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
}

/// Entry point for fuzzing: any bytes are a board file or a list of faults.
pub fn fuzz(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for kind in [layer::Kind::Board, layer::Kind::Changes] {
        let mut faults = twinpost_config::Faults::new("board.toml", text);
        let layer = layer::read(text, kind, &mut faults);
        let mut board = Board::default();
        layer.onto(&mut board);
        let _ = layer::check(&board);
    }
}
