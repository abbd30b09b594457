//! Generations of the appliance document, and how two nodes come to hold the same one.
//!
//! Contract: every text that was in force on this node is a [`Generation`] with a number, an id and one or two parents; the newest is the
//! *head*. A generation of the other node is taken over only when it descends from the head here. When neither descends from the other, both stay and a
//! [`Conflict`] says so until a person chooses. The choice is a generation with both as parents, so it is newer than each. No edit is lost
//! silently: a file edited by hand becomes a generation when it is seen, before anything else is decided; what does not hold up to the
//! validation stays in the file, is told, and is not overwritten.
//!
//! On the disk: `state.json` (head, ancestry, conflict; checksummed) and `generations/ID.json`, beside the document itself. A change is a new
//! generation file, then the state that names it together with what the document held before, then the document, then the state without that
//! remark. A power cut between any two of them is repaired when the history is opened.
//!
//! Failure classes: the disk refuses ([`HistoryError::File`]); the history is damaged ([`HistoryError::Damaged`]).

mod diff;
mod disk;
mod merge;
mod store;

pub use diff::diff;
pub use merge::Settled;
pub use store::{History, Seen, Validate};

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How many generations are kept with their text.
pub const KEPT: usize = 100;
/// How many ancestors are remembered by their id. Two nodes that were apart for more edits than this see a conflict.
pub const ANCESTORS: usize = 500;
/// Largest document. Together with its ancestors it fits into one message of the channel.
pub const MAX_TEXT_BYTES: usize = 256 << 10;

/// One state of the document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Generation {
    /// Grows from parent to child. 0: the document of the factory, which yields to any other.
    pub number: u32,
    /// Names this generation: BLAKE3 over all other fields, 64 hexadecimal digits.
    pub id: String,
    /// BLAKE3 of the text, 64 hexadecimal digits.
    pub hash: String,
    /// Ids of what it was made from: none (the first), one (an edit) or two (a choice after a conflict).
    pub parents: Vec<String>,
    /// When, seconds since 1970 by the clock of that node; for people only.
    pub when_s: u64,
    /// Who made it: a person, or `file` for an edit by hand, with the node's name.
    pub who: String,
    /// The document.
    pub text: String,
}

/// A generation on its way to the other node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Offer {
    /// The head.
    pub generation: Generation,
    /// Ids of its ancestors, newest first, at most [`ANCESTORS`].
    pub ancestors: Vec<String>,
}

/// What became of an [`Offer`]; the answer to the other node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Received {
    /// It is in force here now.
    Taken,
    /// It was already, or the same text was.
    Same {
        /// The receiver's head, which the offering node takes over if it only has the same text.
        mine: Box<Offer>,
    },
    /// The receiver's head descends from it: the offering node takes this one.
    Behind {
        /// The receiver's head.
        mine: Box<Offer>,
    },
    /// Neither descends from the other; both nodes keep their own until a person chooses.
    Conflict {
        /// The receiver's head.
        mine: Box<Offer>,
    },
    /// The document has faults by the rules of the receiver, which keeps its own.
    Refused {
        /// All of them.
        faults: Vec<String>,
    },
    /// The receiver's file is edited by hand and has faults: it is not overwritten. A person has to repair it there.
    Edited {
        /// All of them.
        faults: Vec<String>,
    },
    /// An answer of a newer version.
    #[serde(other)]
    Other,
}

/// Two documents of which neither is the newer one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Conflict {
    /// This node's.
    pub ours: Generation,
    /// The other node's.
    pub theirs: Generation,
    /// From ours to theirs, line by line, see [`diff`].
    pub diff: String,
}

/// Which side of a [`Conflict`] stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// This node's.
    Ours,
    /// The other node's.
    Theirs,
}

/// Why the history cannot be read or written. The document in force stays what it is.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The disk refuses.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file of the history is not what was written.
    #[error("{} is damaged ({what}): move the folder away, a new history starts with the present document", path.display())]
    Damaged {
        /// File.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The document is larger than [`MAX_TEXT_BYTES`].
    #[error("the document has {bytes} bytes, at most {MAX_TEXT_BYTES} are taken")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The document has faults.
    #[error("{}", .0.join("\n"))]
    Faults(Vec<String>),
    /// The file was edited by hand meanwhile; the edit is in the history now.
    #[error("the document was edited by hand meanwhile (generation {number}): look at it, then repeat your change")]
    Meanwhile {
        /// The generation of that edit.
        number: u32,
    },
    /// The file was edited by hand and has faults, so nothing is written over it.
    #[error("{} was edited by hand and has faults, nothing is written over it:\n{}", path.display(), faults.join("\n"))]
    Edited {
        /// The document.
        path: PathBuf,
        /// All faults.
        faults: Vec<String>,
    },
    /// A choice without a conflict.
    #[error("there is no conflict to decide")]
    NoConflict,
}

impl Generation {
    /// Makes a generation and names it.
    #[must_use]
    pub fn new(number: u32, parents: Vec<String>, when_s: u64, who: &str, text: &str) -> Self {
        let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
        let mut made = Self { number, id: String::new(), hash, parents, when_s, who: who.to_owned(), text: text.to_owned() };
        made.id = made.name();
        made
    }

    /// Each field with its length before it, so that no two generations have one spelling.
    fn name(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("twinpost 2026 generation of the configuration");
        let (number, when) = (self.number.to_be_bytes(), self.when_s.to_be_bytes());
        let fields = [&number[..], &when, self.hash.as_bytes(), self.who.as_bytes()];
        for field in fields.into_iter().chain(self.parents.iter().map(String::as_bytes)) {
            hasher.update(&(field.len() as u64).to_be_bytes());
            hasher.update(field);
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Whether id, hash and sizes are what they should be.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.text.len() <= MAX_TEXT_BYTES
            && self.who.len() <= 400
            && self.parents.len() <= 2
            && self.hash == blake3::hash(self.text.as_bytes()).to_hex().as_str()
            && self.id == self.name()
    }
}

impl Offer {
    /// As [`Generation::is_whole`], and the ancestors are ids within their number.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.generation.is_whole()
            && self.ancestors.len() <= ANCESTORS
            && self.ancestors.iter().chain(&self.generation.parents).all(|id| blake3::Hash::from_hex(id).is_ok())
    }
}

#[cfg(test)]
mod tests;
