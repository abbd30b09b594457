//! What can stop a comparison or a merge.

use std::path::PathBuf;

/// What was tried on what, and why it did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder holds no store.
    #[error("there is no store to compare with in {0}")]
    Nothing(PathBuf),
    /// The two stores never were one.
    #[error("the store in {0} never was a copy of this one: no pack and no name of the two is the same; nothing was done")]
    Foreign(PathBuf),
    /// Another run is at work on the same data.
    #[error("another comparison or merge is at work (lock {0})")]
    Busy(PathBuf),
    /// The caller stopped it.
    #[error("stopped; what was taken in stays, and the next run goes on from there")]
    Stopped,
    /// One of the stores.
    #[error(transparent)]
    Store(#[from] twinpost_store::Error),
    /// One of the directories.
    #[error(transparent)]
    Directory(#[from] twinpost_directory::Error),
    /// A file of ours.
    #[error("could not {what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No report of this name.
    #[error("there is no report {0:?}")]
    NoReport(String),
    /// A report that cannot be read.
    #[error("the report {name} cannot be read: {why}")]
    Report {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
}

impl Error {
    /// There is no space left: it goes on when there is.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Store(e) => e.is_disk_full(),
            Self::File { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}
