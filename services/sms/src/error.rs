//! What can go wrong with the process as a whole and with a client of it.

use std::path::PathBuf;

/// Why the process ends or a client's request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings contradict themselves.
    #[error("the SMS settings cannot be used: {0}")]
    Settings(String),
    /// The socket cannot be served.
    #[error("cannot serve the SMS socket {path}: {source}")]
    Socket {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Another process serves the socket already.
    #[error("another process serves the SMS socket {0} already")]
    AlreadyServed(PathBuf),
    /// The spool cannot be opened.
    #[error("cannot open the SMS spool {path}: {what}")]
    Spool {
        /// The database file.
        path: PathBuf,
        /// What SQLite or the system said.
        what: String,
    },
    /// No connection to the SMS process.
    #[error("cannot reach the SMS process at {path}: {source}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The connection broke, or the process ended.
    #[error("the connection to the SMS process at {path} broke: {what}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What happened.
        what: String,
    },
    /// The process answered something that the request cannot have as an answer.
    #[error("the SMS process did not carry out the request: {0}")]
    Request(String),
}
