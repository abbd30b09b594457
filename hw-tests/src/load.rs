//! The kinds of load.

mod bare;
mod client;
mod imap;
mod message;
mod pop3;
mod smtp;

use clap::{Parser, Subcommand};
use serde_json::Value;
use std::net::SocketAddr;

/// Load for mail servers.
#[derive(Debug, Parser)]
#[command(name = "twinpost-load", version)]
pub struct Load {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Messages by SMTP or LMTP
    Smtp(smtp::Smtp),
    /// Messages by APPEND, one after the other
    Append(imap::Append),
    /// SELECT, FETCH and SEARCH of one mailbox, timed one by one
    Read(imap::Read),
    /// Idle, selected connections; stays until standard input ends
    Idle(imap::Idle),
    /// Counts the messages of accounts, as a client sees them
    Status(imap::Status),
    /// Reads a whole maildrop by POP3
    Drain(pop3::Drain),
    /// The same bytes into a file with a number of fdatasync, and nothing else
    Bare(bare::Bare),
}

/// Where to and how.
#[derive(Clone, Debug, clap::Args)]
struct Target {
    /// Address and port of the server
    #[arg(long)]
    addr: SocketAddr,
    /// TLS from the first byte; any certificate is taken, as this measures speed
    #[arg(long)]
    tls: bool,
}

/// Runs the load; gives its report.
///
/// # Errors
/// A sentence: what was tried, what came back.
pub async fn run(load: Load) -> Result<Value, String> {
    match load.kind {
        Kind::Smtp(smtp) => smtp.run().await,
        Kind::Append(append) => append.run().await,
        Kind::Read(read) => read.run().await,
        Kind::Idle(idle) => idle.run().await,
        Kind::Status(status) => status.run().await,
        Kind::Drain(drain) => drain.run().await,
        Kind::Bare(bare) => bare.run().await,
    }
}

/// Milliseconds with three decimals.
fn ms(elapsed: std::time::Duration) -> f64 {
    (elapsed.as_secs_f64() * 1e6).round() / 1e3
}
