//! What can be set.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Settings of the queue.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our name in EHLO and in reports.
    pub host_name: String,
    /// Waiting times before each further try; the last one repeats.
    pub retry: Vec<Duration>,
    /// The sender is told of a delay after this time.
    pub warn_after: Duration,
    /// Connections at once to one destination.
    pub per_destination: usize,
    /// Connections at once to all destinations.
    pub connections: usize,
    /// Entries claimed at once.
    pub claims: usize,
    /// Port of other mail servers (25; another one in tests).
    pub port: u16,
    /// All mail for other sites goes through this server.
    pub smart_host: Option<SmartHost>,
    /// Addresses that mail is sent from, by family.
    pub source: Vec<IpAddr>,
    /// Addresses on which this site receives mail: an MX that leads to one of them is ourselves.
    pub own_addresses: Vec<SocketAddr>,
    /// Time for a connection (RFC 5321 4.5.3.2 leaves it open; Postfix waits 30 s).
    pub connect_timeout: Duration,
    /// Time for the greeting and each reply (RFC 5321 4.5.3.2.1 to 4.5.3.2.3: 5 minutes).
    pub reply_timeout: Duration,
    /// Time for the reply to the end of data (RFC 5321 4.5.3.2.6: 10 minutes).
    pub data_timeout: Duration,
    /// An idle connection is kept so long for the next message to the same destination.
    pub keep_idle: Duration,
    /// Messages on one connection.
    pub per_connection: u32,
    /// Recipients in one transaction (RFC 5321 4.5.3.1.8: every server takes 100).
    pub recipients: usize,
    /// Pause after a fault of the store before it is tried again.
    pub fault_pause: Duration,
    /// A message that is being handed over when the queue is stopped may take so long to end.
    pub stop_grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let minutes = |m: u64| Duration::from_secs(60 * m);
        Self {
            host_name: "localhost".to_owned(),
            retry: [2, 5, 15, 30, 60, 120, 240].map(minutes).to_vec(),
            warn_after: minutes(240),
            per_destination: 5,
            connections: 100,
            claims: 1000,
            port: 25,
            smart_host: None,
            source: Vec::new(),
            own_addresses: Vec::new(),
            connect_timeout: Duration::from_secs(30),
            reply_timeout: minutes(5),
            data_timeout: minutes(10),
            keep_idle: Duration::from_secs(5),
            per_connection: 100,
            recipients: 100,
            fault_pause: Duration::from_secs(5),
            stop_grace: Duration::from_secs(20),
        }
    }
}

/// A server that takes all mail for other sites (RFC 6409 submission, as a client).
#[derive(Clone)]
pub struct SmartHost {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS.
    pub tls: SmartHostTls,
    /// Name and password to sign in with.
    pub credentials: Option<(String, String)>,
    /// PEM file of the authorities that its certificate is checked against.
    pub ca_file: PathBuf,
}

impl std::fmt::Debug for SmartHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmartHost")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .field("user", &self.credentials.as_ref().map(|c| &c.0))
            .finish_non_exhaustive()
    }
}

/// TLS toward the smart host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmartHostTls {
    /// From the first byte; the certificate is checked.
    Implicit,
    /// STARTTLS; nothing is sent without it, the certificate is checked.
    Required,
    /// STARTTLS when offered; the certificate is not checked (RFC 7435).
    Opportunistic,
}
