//! What can go wrong with disks.

use crate::Plan;
use std::path::PathBuf;

/// What was tried on what, and why it did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or device could not be read or written.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A program could not be run, or said no.
    #[error(transparent)]
    Program(#[from] twinpost_storage::Error),
    /// A partition table could not be read or written.
    #[error("cannot {what} the partition table of {path}: {why}")]
    Table {
        /// What was tried.
        what: &'static str,
        /// The disk.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The kernel did not make the device of a partition.
    #[error("{path} did not appear within {seconds} s")]
    NoNode {
        /// The device that was waited for.
        path: PathBuf,
        /// How long.
        seconds: u64,
    },
    /// What was read back is not what was written.
    #[error("{path} does not hold what was written to it: the disk is not reliable")]
    NotAsWritten {
        /// The partition.
        path: PathBuf,
    },
    /// The plan has refusals.
    #[error("refused: {}", shown(.0))]
    Refused(Box<Plan>),
    /// The disks are no longer as they were when the plan was made.
    #[error("the disks changed since the plan was made; nothing was done, look at the new plan")]
    Changed(Box<Plan>),
    /// Something that must be there is not.
    #[error("{0}")]
    Missing(String),
    /// An installation medium that cannot be used.
    #[error("{path} is no installation medium: {why}")]
    Medium {
        /// File or device.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A disk could not become a leg of the running root.
    #[error("the running system cannot be read from the disk in bay {bay} ({source}); the next start tries it again")]
    Root {
        /// Which bay.
        bay: String,
        /// Why not.
        source: twinpost_mapper::Error,
    },
    /// A rebuild ended without success.
    #[error("the rebuild of array {array} ended and it is still degraded: look at the health of the disks")]
    NotRebuilt {
        /// Name of the array.
        array: &'static str,
    },
    /// The runtime ended while a disk was being written.
    #[error("the work on {path} was broken off")]
    BrokenOff {
        /// The disk.
        path: PathBuf,
    },
}

fn shown(plan: &Plan) -> String {
    plan.refusals.iter().map(|refusal| refusal.text.en.as_str()).collect::<Vec<_>>().join("; ")
}

impl Error {
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}
