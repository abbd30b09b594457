//! What can go wrong at a power switch.

use std::path::PathBuf;

/// Failures of this crate. None of them says that the power is off, and none that it is on.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not reached: no route, connection refused, device file missing, program not installed.
    #[error("{switch}: cannot {doing}: {why}")]
    Unreachable {
        /// Which switch.
        switch: String,
        /// What was tried.
        doing: &'static str,
        /// Why not.
        why: String,
    },
    /// The switch does not accept the name or the password.
    #[error("{switch}: login refused: {why}")]
    Login {
        /// Which switch.
        switch: String,
        /// Its words.
        why: String,
    },
    /// The switch understood and said no.
    #[error("{switch}: refused to {doing}: {why}")]
    Refused {
        /// Which switch.
        switch: String,
        /// What was tried.
        doing: &'static str,
        /// Its words.
        why: String,
    },
    /// The answer is none that the protocol knows.
    #[error("{switch}: cannot make sense of the answer to {doing}: {what}")]
    Garbage {
        /// Which switch.
        switch: String,
        /// What was asked.
        doing: &'static str,
        /// The answer, shortened.
        what: String,
    },
    /// Nothing came back in time.
    #[error("{switch}: no answer to {doing} within {limit_ms} ms")]
    TimedOut {
        /// Which switch.
        switch: String,
        /// What was asked.
        doing: &'static str,
        /// The limit.
        limit_ms: u64,
    },
    /// Switched on, but off was read until the end of the time limit.
    #[error("{switch}: was told to switch on, but the power stays off")]
    StaysOff {
        /// Which switch.
        switch: String,
    },
    /// A file that the settings name.
    #[error("{switch}: cannot use {}: {what}", path.display())]
    File {
        /// Which switch.
        switch: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A setting that cannot be used.
    #[error("{switch}: {what}")]
    Setting {
        /// Which switch.
        switch: String,
        /// What is wrong.
        what: String,
    },
}
