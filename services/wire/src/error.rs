//! What can go wrong on a connection, in a handshake, or with a listening socket.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The line was longer than allowed. It has been read to its end and thrown away: the connection can go on.
    #[error("a line of more than {limit_bytes} bytes")]
    LineTooLong {
        /// The limit.
        limit_bytes: usize,
    },
    /// A line ended with a bare LF where only CRLF is allowed. The line has been consumed: the connection can go on.
    #[error("a line that ends with LF instead of CRLF")]
    BareLf,
    /// The peer goes on and on without a line end. Close.
    #[error("endless data without a line end")]
    Flood,
    /// Nothing (or not enough) came in time. Close.
    #[error("the peer sent nothing for too long")]
    TimedOut,
    /// The peer closed in the middle of a line or of counted data.
    #[error("the peer closed the connection in the middle of its data")]
    Truncated,
    /// The compressed stream is broken (RFC 4978).
    #[error("the compressed data is broken")]
    Deflate,
    /// The system's error, also TLS alerts.
    #[error("reading from the peer: {0}")]
    Io(#[from] io::Error),
}

impl ReadError {
    /// The stream is still in step: answer with an error and go on.
    #[must_use]
    pub fn is_recoverable(&self) -> bool {
        matches!(self, Self::LineTooLong { .. } | Self::BareLf)
    }
}

/// A write failed. The connection is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The peer did not take a byte for too long.
    #[error("the peer does not read what it asked for")]
    TimedOut,
    /// The system's error.
    #[error("writing to the peer: {0}")]
    Io(#[from] io::Error),
}

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Data came behind STARTTLS in plain text: somebody may have put it there (CVE-2011-0411). Close.
    #[error("data in plain text behind STARTTLS")]
    Buffered,
    /// The stream is encrypted or compressed already.
    #[error("TLS cannot start here: the connection is encrypted or compressed already")]
    State,
    /// The handshake was not done in time.
    #[error("the TLS handshake took too long")]
    TimedOut,
    /// The handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[source] io::Error),
    /// What was queued could not be written before the handshake.
    #[error("before the TLS handshake: {0}")]
    Write(#[from] WriteError),
    /// A certificate or key file is not usable.
    #[error("{}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and with what.
        what: String,
    },
    /// No certificate is configured.
    #[error("no certificate is configured")]
    NoCertificate,
    /// Settings that TLS does not take.
    #[error("TLS settings: {0}")]
    Config(#[from] rustls::Error),
    /// A certificate could not be made.
    #[error("making a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// An address cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error("{address} is in use already{}", holder.as_ref().map(|h| format!(" by {h}")).unwrap_or_default())]
    InUse {
        /// The address.
        address: SocketAddr,
        /// Program and pid, where the system tells.
        holder: Option<String>,
    },
    /// Ports below 1024 need a right.
    #[error(
        "{address} needs a right that this process does not have: run as root, give CAP_NET_BIND_SERVICE, or use a port from 1024"
    )]
    Forbidden {
        /// The address.
        address: SocketAddr,
    },
    /// No interface has this address.
    #[error("{address}: no network interface of this machine has that address")]
    NotLocal {
        /// The address.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("listening on {address}: {source}")]
    Io {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// A socket that was handed in is not a listening TCP socket.
    #[error("the socket handed in as descriptor is not a listening TCP socket: {0}")]
    Handed(#[source] io::Error),
}
