//! The store: every message of the appliance, once, on the disk before it is acknowledged.
//!
//! Contract: a change that was answered survives a power cut; one that was refused left nothing. Bodies lie in packs
//! ([`pack`]), everything else in the index (SQL, `schema`); one writer owns all state (`writer`), readers see committed
//! states only. Failure classes: see [`Error`]; a full disk refuses changes and lets reading go on, a damaged record
//! concerns its message only, everything else is told to the caller and changes nothing.

mod aside;
mod ballast;
mod compare;
mod db;
mod error;
pub mod files;
mod history;
mod live;
mod maintain;
mod merge;
mod names;
pub mod pack;
pub mod placement;
mod reads;
mod rebuild;
mod schema;
pub mod spool;
mod sqlite;
mod store;
mod types;
mod verify;
mod writer;

pub use aside::{Aside, AsideIndex};
pub use compare::{Placed, ThereNow};
pub use error::{Error, OverQuota};
pub use history::Divergence;
pub use maintain::Compacted;
pub use merge::{MergeItem, MergeKey, MergeOutcome, MergeWhat};
pub use names::{LEVELS_MAX, NAME_BYTES_MAX};
pub use rebuild::{RECOVERED, RebuildReport};
pub use store::{Options, Store};
pub use types::*;
pub use verify::{FaultKind, Place, VerifyFault, VerifyReport};

#[cfg(test)]
mod full_disk_tests;
