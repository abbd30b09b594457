//! What can go wrong while an image is built, and in whose hands it lies.
//!
//! Failure classes: the recipe (file and line), a program of the build machine, the file system of the build machine, and findings: the
//! tree that came out would not work on a node, or is too big. No class leaves a half-written output: results are renamed into place.

use std::path::PathBuf;

/// Error of the image builder.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing a file of the build machine.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was tried ("cannot read").
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// A recipe file has a mistake.
    #[error("{file}:{line}: {why}")]
    Recipe {
        /// File name below `image/recipe`.
        file: String,
        /// Line, from 1; 0 for the file as a whole.
        line: usize,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// A program of the build machine failed or is not installed.
    #[error("{program} {why}")]
    Program {
        /// Name of the program.
        program: String,
        /// What it said, or what is missing.
        why: String,
    },
    /// A path of the tree that is not there or not of the needed kind.
    #[error("{path} in the tree: {why}")]
    Tree {
        /// Path in the image, without the leading slash.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The tree would not work on a node.
    #[error("the image would not work:\n  {}", findings.join("\n  "))]
    Findings {
        /// Each finding, with the path it concerns.
        findings: Vec<String>,
    },
    /// Above the size that is promised.
    #[error("{what} is {bytes} bytes, the limit is {limit}. What takes most:\n{report}")]
    TooBig {
        /// The part that is too big.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
        /// The size report, the biggest first, with what grew since the last build.
        report: String,
    },
    /// A part of the image (a kernel, a boot stub, a package list) has another shape than expected.
    #[error("{what}: {why}")]
    Format {
        /// Which part.
        what: String,
        /// What is wrong.
        why: String,
    },
}

/// Result of the image builder.
pub type Result<T> = std::result::Result<T, Error>;

/// Maps an I/O error to [`Error::Io`] with what was tried on which file.
pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.into();
    move |source| Error::Io { what, path, source }
}
