//! What can go wrong with the mail volume.

use std::path::PathBuf;

/// What was tried on what, and why it did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The storage remembers a newer reign, or the same one of the other node.
    #[error("reign {asked} is not above reign {known} of node {by}, which the storage remembers")]
    Stale {
        /// Asked for.
        asked: u32,
        /// Remembered.
        known: u32,
        /// Whose reign that was.
        by: String,
    },
    /// The other node (or a process of this one) has the volume.
    #[error("{what} is held by {by}")]
    Held {
        /// Lock or device.
        what: PathBuf,
        /// As far as it is known.
        by: String,
    },
    /// The file system cannot lock, or not for two nodes.
    #[error("{path} cannot guard a shared volume: {why}; put the folder on a local disk")]
    NoLocks {
        /// The folder.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// Something that must be there is not, or is not what it should be. Nothing was changed.
    #[error("{path}: {why}")]
    Unfit {
        /// Folder, file or device.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// Both places hold data; only a person can say which is right.
    #[error("there is data in {here} and in {there}; move one of them away, nothing was changed")]
    TwoDataFolders {
        /// The node's own.
        here: PathBuf,
        /// The shared one.
        there: PathBuf,
    },
    /// Still in use.
    #[error("{what} is still in use by {by}")]
    Busy {
        /// Lock, mount or device.
        what: PathBuf,
        /// Process names and ids, as far as they are known.
        by: String,
    },
    /// A file could not be read or written.
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
    #[error("{command}: {how}{}{stderr}", if stderr.is_empty() { "" } else { ": " })]
    Program {
        /// Program and arguments.
        command: String,
        /// Exit status, or why it did not run.
        how: String,
        /// What it wrote to standard error, shortened.
        stderr: String,
    },
    /// A program is not there, or the disk that it lies on failed.
    #[error("{command}: cannot be run: {source}")]
    NoProgram {
        /// Program and arguments.
        command: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A program answered with something that cannot be understood.
    #[error("{command} answered what cannot be understood: {said}")]
    Answer {
        /// Program and arguments.
        command: String,
        /// The part that made no sense, shortened.
        said: String,
    },
    /// The file-system check found what it may not mend by itself.
    #[error("the file system on {device} is damaged (fsck said {code}): {said}")]
    Damaged {
        /// Block device.
        device: PathBuf,
        /// Exit code of the check.
        code: i32,
        /// What it wrote, shortened.
        said: String,
    },
    /// The driver does not do that now, or never.
    #[error("{0}")]
    Refused(String),
    /// The driver's own task is gone; the daemon restarts.
    #[error("the storage driver has stopped")]
    Stopped,
}

impl Error {
    /// Trying again does not help: someone has to look.
    #[must_use]
    pub const fn needs_a_person(&self) -> bool {
        matches!(self, Self::NoLocks { .. } | Self::Unfit { .. } | Self::TwoDataFolders { .. } | Self::Damaged { .. })
    }

    /// A program that cannot be run now will not be there in a moment either: it is not the machine that is short of something.
    pub(crate) fn lacks_program(&self) -> bool {
        use std::io::ErrorKind::{OutOfMemory, ResourceBusy, WouldBlock};
        matches!(self, Self::NoProgram { source, .. } if !matches!(source.kind(), OutOfMemory | ResourceBusy | WouldBlock))
    }

    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}
