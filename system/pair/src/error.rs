//! Why the daemon does not run, or a client does not reach it.

use std::path::PathBuf;

/// What was tried on what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings contradict themselves.
    #[error("the settings of the pair cannot be used: {0}")]
    Settings(String),
    /// The folder of the state files cannot be used.
    #[error("cannot {what} {path}: {source}")]
    State {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another daemon serves this node.
    #[error("another pair daemon serves {0} already")]
    AlreadyServed(PathBuf),
    /// The control socket cannot be served.
    #[error("cannot serve the control socket {path}: {source}")]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The thread of the heart ended by itself: a fault of this program. The watchdog is not fed any more.
    #[error("the heart of the pair has stopped: {0}")]
    Heart(String),
    /// Something did not stop, so this node stopped everything by force and lets its watchdog cut the power. The process
    /// exits with [`SELF_FENCED_EXIT`] and must not be started again before the machine is.
    #[error("something did not stop: the services were killed, and the watchdog is not fed any more")]
    SelfFenced,
    /// No connection to the daemon.
    #[error("cannot reach the pair daemon at {path}: {source}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The connection broke, or the daemon ended.
    #[error("the connection to the pair daemon at {path} broke: {what}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What happened.
        what: String,
    },
}

/// Exit status of a process whose [`crate::serve`] ended with [`Error::SelfFenced`]: `RestartPreventExitStatus=` of the unit.
pub const SELF_FENCED_EXIT: u8 = 86;
