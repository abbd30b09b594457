//! Why the console ends.

use std::io;
use std::path::PathBuf;

/// The terminal is of no use. The process ends; systemd starts it again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be opened.
    #[error("cannot open the terminal {tty}: {source}")]
    Open {
        /// The terminal.
        tty: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no terminal, or cannot be set.
    #[error("cannot set the terminal {tty}: {source}")]
    Set {
        /// The terminal.
        tty: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was there and went away (a USB adapter pulled, a hang-up).
    #[error("the terminal {tty} went away: {source}")]
    Gone {
        /// The terminal.
        tty: PathBuf,
        /// Why.
        source: io::Error,
    },
}
