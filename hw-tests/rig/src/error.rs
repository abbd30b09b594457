//! What can go wrong with a rig.

use std::io;

/// A rig's failure: what was tried on what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, socket or thread of the rig itself.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's word.
        source: io::Error,
    },
    /// A program of the host refused.
    #[error("{what}: {said}")]
    Tool {
        /// The command.
        what: String,
        /// Its words.
        said: String,
    },
    /// QEMU's monitor refused an order.
    #[error("node {node}: the monitor refuses {order}: {said}")]
    Qmp {
        /// Which node.
        node: String,
        /// The order.
        order: String,
        /// The monitor's words.
        said: String,
    },
    /// The node has no power, or ended meanwhile.
    #[error("node {node} is off: {what}")]
    Off {
        /// Which node.
        node: String,
        /// What was asked of it.
        what: String,
    },
    /// It did not happen in time.
    #[error("waited {after_s} s in vain for {what}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        after_s: u64,
    },
    /// The console answered, and the order failed.
    #[error("node {node}: `{words}` ended with {exit}: {text}")]
    Refused {
        /// Which node.
        node: String,
        /// The order.
        words: String,
        /// Its exit code.
        exit: i32,
        /// What it printed.
        text: String,
    },
    /// An answer that is not what was agreed.
    #[error("node {node}: the answer of `{words}` is not what it should be: {said}")]
    Garbage {
        /// Which node.
        node: String,
        /// The order.
        words: String,
        /// What came.
        said: String,
    },
    /// This rig cannot do that; its declared capabilities say so.
    #[error("this rig cannot {what}")]
    Cannot {
        /// What was asked.
        what: String,
    },
    /// A file that describes a rig or an image is wrong.
    #[error("{what}")]
    Setting {
        /// The place and the fault.
        what: String,
    },
}

impl Error {
    /// An input or output error with what was tried.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;
