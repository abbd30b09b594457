//! Orders about the pair.

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// `twinpost ctl pair ...`
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairOrder {
    /// How the pair is: one sentence, then the nodes, the links and the last switch
    Status {
        /// Show it again at each change, until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
    /// What happened, newest last
    Alarms,
    /// The active hands over to its peer: clients connect once more, no mail is lost
    Standby(Sure),
    /// The standby takes over: the active hands over to it
    Takeover {
        #[command(flatten)]
        sure: Sure,
        /// The active does not answer and there is no proof that it is off: take over all the same. You answer for it being off
        #[arg(long)]
        force: bool,
    },
    /// Nothing is taken over or handed over by itself
    #[command(subcommand)]
    Maintenance(MaintenanceOrder),
    /// Where the service goes back to when both nodes are well
    FailBack {
        /// Whoever serves goes on, or this node takes the service back
        #[arg(value_enum)]
        to: FailBackTo,
        /// Once it was current for so long: 10m, 2h, 1d
        #[arg(long, default_value = "10m", value_parser = span_s)]
        after: u64,
    },
    /// Let the peer's copy be overwritten from the active's
    Resync(Sure),
    /// Data that differs: what it is, and its merge
    #[command(subcommand)]
    Conflict(ConflictOrder),
    /// The appliance document, which is copied between the nodes
    #[command(subcommand)]
    Config(CopyOrder),
    /// Make two nodes a pair by a short code
    #[command(subcommand)]
    Pairing(PairingOrder),
    /// What an order would do, and every reason why it is impossible now
    Preview {
        /// The order
        #[arg(value_enum)]
        order: PreviewOf,
    },
}

/// Orders that disconnect people ask first.
#[derive(Clone, Copy, Debug, Args, Serialize, Deserialize)]
pub struct Sure {
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Maintenance.
#[derive(Clone, Copy, Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaintenanceOrder {
    /// Begin, with an end: at most a week
    On {
        /// How long: 30m, 2h, 1d
        #[arg(long = "for", value_parser = span_s)]
        for_s: u64,
    },
    /// End now
    Off,
}

/// Where the service goes back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailBackTo {
    /// Whoever serves goes on
    Never,
    /// To node a
    A,
    /// To node b
    B,
}

/// Data that differs.
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictOrder {
    /// What only the data that was set aside holds, by account and mailbox; changes nothing
    List {
        /// Folder that was set aside; without it the newest on this node
        #[arg(long, value_name = "DIR")]
        aside: Option<PathBuf>,
    },
    /// This node's data is set aside for the merge, then overwritten by the peer's
    GiveWay(Sure),
    /// Put what was set aside into the mailboxes, message by message; nothing is deleted
    Merge {
        /// Folder that was set aside; without it the newest on this node
        #[arg(long, value_name = "DIR")]
        aside: Option<PathBuf>,
        /// Outbound mail that is queued again waits until it is released
        #[arg(long)]
        hold_queue: bool,
    },
}

/// The copied document.
#[derive(Clone, Copy, Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyOrder {
    /// Which generation is in force, and what differs when both nodes changed it without each other
    Show,
    /// Whose stays
    Choose {
        /// Of the node whose folder is given (without one: the active's), or of its peer
        #[arg(value_enum)]
        whose: Whose,
    },
}

/// Whose document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// This node's
    Ours,
    /// The peer's
    Theirs,
}

/// Pairing.
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairingOrder {
    /// On the first node: shows a code that counts for ten minutes
    Offer {
        /// Where the other node reaches this one; by default by the crossover cable, as node.toml has it
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
        /// This node has a peer, and a new machine takes its place
        #[arg(long)]
        replace: bool,
    },
    /// On the second node: type the code that the first one shows
    #[command(allow_missing_positional = true)]
    Join {
        /// Address of the first node; by default at the other end of the crossover cable, as node.toml has it
        #[arg(value_name = "ADDRESS:PORT")]
        address: Option<SocketAddr>,
        /// The code
        code: String,
    },
    /// Write the key that a witness needs to know this pair
    WitnessKey {
        /// The file, or - to print the key; carry it to the witness like a password
        file: PathBuf,
    },
    /// Forget the peer: this node works alone from its next start
    Undo(Sure),
}

/// What can be previewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is the order of the same name")]
pub enum PreviewOf {
    Standby,
    Takeover,
    Maintenance,
    Resync,
    Force,
    GiveWay,
}

/// A span of time as people write it: `90s`, `30m`, `2h`, `1d`; a bare number is seconds.
fn span_s(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no span of time; write for example 30m, 2h or 1d");
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit.trim() {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).filter(|n| *n > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::span_s;

    #[test]
    fn spans_are_read_as_people_write_them() {
        assert_eq!([span_s("90"), span_s("30m"), span_s("2h"), span_s("1d")], [Ok(90), Ok(1800), Ok(7200), Ok(86_400)]);
        for wrong in ["", "h", "0m", "2w", "-3m", "99999999999999999999d"] {
            assert!(span_s(wrong).is_err(), "{wrong}");
        }
    }
}
