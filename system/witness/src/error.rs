//! What can go wrong between a node and its witness.

use std::path::PathBuf;

/// Why a witness that was reached does not decide.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Refusal {
    /// The register could not be written: disk full, read-only or broken. Nothing changed that was ever told.
    Disk,
    /// The register is missing or both of its copies are damaged: what was won is not known any more. Enrol the cluster anew.
    Damaged,
    /// The question makes no sense: `new` not above `knows`, reign 0, a node other than 0 or 1, a lease of 0.
    Senseless,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Disk => "its disk does not take the register (full, read-only or broken)",
            Self::Damaged => "its register of this cluster is missing or damaged; enrol the cluster there anew",
            Self::Senseless => "the question makes no sense to it",
        })
    }
}

/// Failures of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No authentic answer in time: not running, not reachable, another key, or this cluster is not enrolled there.
    #[error("the witness at {address} did not answer within {limit_ms} ms{}", last.as_deref().map(|why| format!(" ({why})")).unwrap_or_default())]
    Silent {
        /// Who was asked.
        address: String,
        /// How long.
        limit_ms: u64,
        /// The last thing that went wrong on the way.
        last: Option<String>,
    },
    /// Reached, but not able to decide.
    #[error("the witness at {address} refuses: {why}")]
    Refused {
        /// Who was asked.
        address: String,
        /// Why.
        why: Refusal,
    },
    /// etcd answered with an error or with something that is no answer.
    #[error("etcd at {address} answered {what}")]
    Etcd {
        /// Endpoint.
        address: String,
        /// What it said.
        what: String,
    },
    /// A file of keys or registers.
    #[error("cannot {doing} {}: {why}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        why: std::io::Error,
    },
    /// A key file does not hold a key.
    #[error("{} holds no key: {what}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The register of a cluster cannot be read: what was won is not known.
    #[error("the register {} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The socket of the server.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// Address asked for.
        address: String,
        /// Why not.
        why: std::io::Error,
    },
    /// A setting that cannot be used.
    #[error("{0}")]
    Setting(String),
}
