//! What a witness tells people about itself.
//!
//! Contract: status is read over a Unix socket in the witness's folder ([`read_status`]): one connection, one JSON document, end. Reading it
//! changes nothing and needs no key, but the rights of the folder.

use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// All of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct WitnessStatus {
    /// Where it listens.
    pub listen: String,
    /// Since its start.
    pub up_ms: u64,
    /// Datagrams that were not answered, by reason.
    pub dropped: Counters,
    /// Every enrolled cluster, by number.
    pub clusters: Vec<ClusterStatus>,
}

/// Datagrams that a witness dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Not under the cluster's key, or altered on the way.
    pub forged: u64,
    /// Authentic, but from an old session or with an old sequence.
    pub replayed: u64,
    /// Not a question of this version: length, magic, values.
    pub cut: u64,
    /// Of a cluster that is not enrolled.
    pub foreign: u64,
    /// More questions at once than are kept waiting.
    pub busy: u64,
}

/// One cluster at the witness.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Number of the cluster.
    pub cluster: u32,
    /// Newest reign; 0: none yet.
    pub reign: u32,
    /// Whose it is: 0 or 1; none before the first reign.
    pub holder: Option<u8>,
    /// Age of the last renewal of each node that this run of the witness saw.
    pub renewed_ago_ms: [Option<u64>; 2],
    /// Answers given since the start.
    pub answers: Tally,
    /// Why it decides nothing, if so.
    pub trouble: Option<String>,
}

/// Answers by kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Claims won.
    pub won: u64,
    /// Claims lost.
    pub lost: u64,
    /// Claims that came while the peer's lease was fresh.
    pub held: u64,
    /// Renewals.
    pub renewed: u64,
    /// Renewals refused because the peer holds a newer reign.
    pub deposed: u64,
    /// Questions that asked for the state only.
    pub read: u64,
    /// Refused: disk, damaged register, senseless question.
    pub refused: u64,
    /// Answered again from memory: the first answer was lost on the way.
    pub repeated: u64,
    /// Clients that were told run and session.
    pub greeted: u64,
}

pub(crate) fn socket_path(dir: &Path) -> std::path::PathBuf {
    dir.join("witness.sock")
}

/// Asks the witness that runs on `dir` for its status.
///
/// # Errors
/// No witness runs there, or it does not answer within 2 s.
pub async fn read_status(dir: &Path) -> Result<WitnessStatus, Error> {
    let path = socket_path(dir);
    let failed = |why| Error::File { doing: "ask for the status at", path: path.clone(), why };
    let read = async {
        let stream = tokio::net::UnixStream::connect(&path).await?;
        let mut text = Vec::new();
        stream.take(1 << 20).read_to_end(&mut text).await?;
        serde_json::from_slice(&text).map_err(std::io::Error::from)
    };
    let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    tokio::time::timeout(Duration::from_secs(2), read).await.unwrap_or_else(|_| Err(late())).map_err(failed)
}
