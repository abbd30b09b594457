//! What can go wrong with the trusted channel, one variant for each thing that a person does about it.

use crate::message::Refusal;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why identity, pairing or a call failed. The text is meant for people: what happened and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This node has no key yet.
    #[error("this node has no identity: {} is missing; a new one is made by pairing this node, the other node then replaces its partner", path.display())]
    NoIdentity {
        /// The missing file.
        path: PathBuf,
    },
    /// A file of the identity cannot be used.
    #[error("{} cannot be used: {what}; restore it from the backup of this node, or remove it and pair the two nodes again", path.display())]
    Damaged {
        /// File.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Others than the owner may read or write the file.
    #[error("{} may be read or changed by others (mode {mode:o}): what it holds may be known; run `chmod 600` on it if you are sure that nobody did, otherwise remove it and pair again", path.display())]
    Exposed {
        /// File.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file could not be read or written.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The operation needs a pair and this node has none.
    #[error("this node is not paired: run `pair offer` on one node and `pair join` on the other")]
    NotPaired,
    /// The cryptographic library refused.
    #[error("{what}: {why}")]
    Crypto {
        /// What was tried.
        what: &'static str,
        /// The library's word.
        why: String,
    },
    /// The address to listen on is not free or not ours.
    #[error("cannot listen on {address}: {source}; is the cable's interface up and nobody else on that port?")]
    Listen {
        /// Address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// No connection to the other node within the time limit of the call.
    #[error("no connection to the other node: {why}")]
    Down {
        /// The last attempt's end.
        why: String,
    },
    /// The connection ended before the answer came. Whether the request was carried out is not known.
    #[error("the connection to the other node ended before its answer came ({why}): ask for its status before you repeat")]
    Lost {
        /// How it ended.
        why: String,
    },
    /// No answer in time. Whether the request was carried out is not known.
    #[error("the other node did not answer within {limit_ms} ms: ask for its status before you repeat")]
    Late {
        /// The limit.
        limit_ms: u64,
    },
    /// Too many calls are under way.
    #[error("{limit} requests to the other node are under way already: wait for one of them")]
    Busy {
        /// How many may be.
        limit: usize,
    },
    /// A request or file name is beyond the limits of the channel.
    #[error("the message has {bytes} bytes, the channel carries {limit}")]
    TooLarge {
        /// Size.
        bytes: usize,
        /// Limit.
        limit: usize,
    },
    /// The other node answered that it will not.
    #[error("the other node refused: {0}")]
    Refused(Refusal),
    /// The other node said something that has no meaning here.
    #[error("the other node's answer cannot be understood: {0}")]
    Answer(String),
    /// A copied file is not what was announced.
    #[error(
        "{name} arrived with another content than announced (expected BLAKE3 {expected}, found {found}): it was thrown away, fetch it again"
    )]
    Content {
        /// Name of the file on the other node.
        name: String,
        /// Announced hash.
        expected: String,
        /// Found hash.
        found: String,
    },
    /// The history of the configuration cannot be read or written, or refuses.
    #[error(transparent)]
    Config(#[from] twinpost_config::history::HistoryError),
    /// Pairing ended without a pair.
    #[error(transparent)]
    Pairing(#[from] PairingError),
}

/// Why two nodes were not paired. Nothing was changed on this node unless the variant says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairingError {
    /// Not eight digits.
    #[error("a pairing code has eight digits, as 1234-5678")]
    CodeForm,
    /// The typed code is not the shown one (or somebody sits between the nodes).
    #[error("wrong code; {left} more tries before the offer ends")]
    WrongCode {
        /// How many wrong codes are left.
        left: u8,
    },
    /// Three wrong codes came; somebody may be guessing.
    #[error("three wrong codes were tried: the offer has ended; make a new one, and find out who tried if it was not you")]
    TooManyWrongCodes,
    /// The code is older than it may be, or the offer ended.
    #[error("the offer has ended: a code is valid for ten minutes; make a new one")]
    Expired,
    /// The other node is in another pair, or this one is and nobody said that its partner is to be replaced.
    #[error(
        "{node} is paired with {with} already; if that node is gone for good, run the command on {node} again with `--replace`, or `pair remove` there first"
    )]
    AlreadyPaired {
        /// Whose pair is in the way.
        node: String,
        /// With whom.
        with: String,
    },
    /// Both nodes belong to pairs, different ones.
    #[error(
        "both nodes belong to a pair ({first} with {first_with}, {second} with {second_with}): run `pair remove` on the one that moves"
    )]
    TwoPairs {
        /// This node.
        first: String,
        /// Its partner.
        first_with: String,
        /// The other node.
        second: String,
        /// Its partner.
        second_with: String,
    },
    /// Both nodes have one name.
    #[error("both nodes are called {name}: give one of them another `node.name`, then pair")]
    SameName {
        /// The name.
        name: String,
    },
    /// Both nodes have one key: a copied disk or folder.
    #[error("both nodes have the same key, as after a copied disk: remove the folder of the identity on one of them, then pair")]
    SameKey,
    /// The other node's software speaks no common version.
    #[error("the other node's software speaks version {theirs} of pairing and this one {ours}: upgrade the older node first")]
    Version {
        /// Own.
        ours: u32,
        /// The other's.
        theirs: u32,
    },
    /// The connection ended or was disturbed. A repeated pairing repairs whatever state it left.
    #[error("pairing was interrupted at `{step}` ({why}): repeat it, what is half done is repaired then")]
    Interrupted {
        /// The step under way.
        step: String,
        /// How it ended.
        why: String,
    },
}
