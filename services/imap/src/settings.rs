//! Settings of the IMAP server, with the defaults of the appliance. The binary fills them from the appliance document.

use std::time::Duration;

/// What can be set. Every limit has a default that serves a school and stops a robot.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this host in the greeting.
    pub host: String,
    /// Product name for the greeting and ID (RFC 2971).
    pub product: String,
    /// Version for ID.
    pub version: String,
    /// Allow passwords without TLS. Without this, LOGINDISABLED stands until TLS does (RFC 9051 11.1).
    pub plain_text_sign_in: bool,
    /// Offer COMPRESS=DEFLATE (RFC 4978).
    pub compress: bool,
    /// Longest command line without literals, bytes (RFC 9051 4: at least 8192 is usual).
    pub line_max_bytes: usize,
    /// All literals and lines of one command other than APPEND together, bytes.
    pub command_max_bytes: usize,
    /// The same before sign-in.
    pub command_max_before_auth_bytes: usize,
    /// Messages in one MULTIAPPEND at most.
    pub append_messages_max: usize,
    /// Bytes of all messages of one MULTIAPPEND together at most.
    pub append_total_max_bytes: u64,
    /// From the greeting to a successful sign-in.
    pub auth_timeout: Duration,
    /// Autologout: RFC 9051 5.4 wants at least 30 minutes.
    pub idle_timeout: Duration,
    /// A command or message that has begun must move on within this time.
    pub transfer_timeout: Duration,
    /// A quiet IDLE is answered with `* OK Still here` this often, so that home routers keep the connection.
    pub idle_keepalive: Duration,
    /// A write that makes no progress for this long ends the connection.
    pub write_timeout: Duration,
    /// Wrong commands in a row after which the connection ends.
    pub bad_commands_max: u32,
    /// Failed sign-ins on one connection after which it ends.
    pub auth_failures_max: u32,
    /// Connections of one account at a time.
    pub connections_per_account: u32,
    /// Output is handed to the socket in pieces of about this size, bytes.
    pub chunk_bytes: usize,
    /// Bodies fetched ahead at a time: so many bytes.
    pub fetch_ahead_bytes: u64,
    /// Messages asked of `Backend::parsed` in one call.
    pub parsed_batch: usize,
    /// Largest annotation value, bytes (RFC 5464 METADATA MAXSIZE).
    pub annotation_max_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            product: "Twinpost".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            plain_text_sign_in: false,
            compress: true,
            line_max_bytes: 64 * 1024,
            command_max_bytes: 1024 * 1024,
            command_max_before_auth_bytes: 16 * 1024,
            append_messages_max: 512,
            append_total_max_bytes: 256 * 1024 * 1024,
            auth_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(31 * 60),
            transfer_timeout: Duration::from_secs(5 * 60),
            idle_keepalive: Duration::from_secs(5 * 60),
            write_timeout: Duration::from_secs(120),
            bad_commands_max: 20,
            auth_failures_max: 5,
            connections_per_account: 100,
            chunk_bytes: 32 * 1024,
            fetch_ahead_bytes: 2 * 1024 * 1024,
            parsed_batch: 512,
            annotation_max_bytes: 64 * 1024,
        }
    }
}
