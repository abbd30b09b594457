//! Where the mail volume lies and who may write it: storage drivers behind one trait.
//!
//! Contract: after [`Storage::promote`] answered `Ok`, [`Storage::path`] is the mail volume, it is writable here and nowhere else,
//! and it stays so until [`Storage::demote`] answered `Ok` or [`Event::Reservation`]`(false)` was told. A driver never takes the data
//! from a node that may still write it, never overwrites data that it was not told to overwrite, and never lets a reign go down.
//! Whatever a driver cannot know it treats as the worse case.
//!
//! Failure classes: what is wrong for good and needs a person ([`Error::needs_a_person`]): a refused reign, a folder without
//! locks, data on both sides; what may pass by itself: a lock that another holds, a program that took too long, a busy volume.
//! A demote that fails means that this node may still write: its caller cuts its own power.
//!
//! Drivers: [`shared`] (a folder that both nodes reach, guarded by a lock file: both nodes on one machine), [`array`] (a
//! dual-attached array with SCSI-3 persistent reservations), [`drbd`] (a disk in each node, mirrored by DRBD 8.4).

use futures_util::future::BoxFuture;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use twinpost_heartbeat::{Replication, Writes};

pub mod array;
pub mod drbd;
mod error;
mod lock;
mod program;
pub mod shared;
mod status;
mod volume;

pub use error::Error;
pub use lock::fuzz as fuzz_lock;
pub use program::{Answer, Program};
pub use status::{Role, StorageStatus};
pub use volume::Header;

/// At most so many events wait for their reader; a driver waits for room rather than lose one.
pub const EVENTS_MAX: usize = 256;

/// What a driver noticed by itself. The daemon gives each on as the core's event of the same name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The mirror changed.
    Replication(Replication),
    /// How far this node's data is.
    Position(u64),
    /// The exclusive reservation became this node's without a call of [`Storage::reserve`], or is no longer this node's.
    Reservation(bool),
    /// This node writes, and its own copy failed (`true`): what it serves lies with the peer alone. Or the copy is back.
    OwnCopyLost(bool),
}

/// Owner of the mail volume on this node. Calls may come at any time and in any order; a driver carries out one after the other.
/// Each call is idempotent: asked again for what is already so, it answers `Ok` without doing anything.
pub trait Storage: Send + Sync {
    /// The events. Taken once: a second call gets a receiver that is closed.
    fn events(&self) -> mpsc::Receiver<Event>;

    /// Where the mail volume is after a promote.
    fn path(&self) -> &Path;

    /// Lock or primary role, file-system check, mount. `reign` is the one that this node has just won and stored; one below the reign
    /// that the storage itself remembers is [`Error::Stale`].
    fn promote(&self, reign: u32) -> BoxFuture<'_, Result<(), Error>>;

    /// Unmount, then secondary or unlock. Kills nobody: a volume that is still in use is [`Error::Busy`] with the names of
    /// who uses it. An error means that this node may still write.
    fn demote(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// How writes are answered from now on. Must be called for every [`twinpost_heartbeat::Effect::Writes`], in order: after
    /// `Alone` (which the core says once a promote is done) a driver tells the present state of the mirror again, because what it told
    /// before the promote was about a standby.
    fn writes(&self, how: Writes) -> BoxFuture<'_, Result<(), Error>>;

    /// The peer's copy may be overwritten from this node's ([`twinpost_heartbeat::Effect::Resync`]).
    fn allow_resync(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// Takes the exclusive reservation: `true` only if the peer verifiably cannot write. `false` without an error: the other has it,
    /// or this driver has no such thing. Any reign may be asked for; after `true` the caller reads [`Storage::position`], the reign that
    /// the storage remembers, and promotes above it. A reservation that no promote follows is given back after some seconds.
    fn reserve(&self, reign: u32) -> BoxFuture<'_, Result<bool, Error>>;

    /// Keeps this node's diverged data for the merge before it is overwritten; the folder of the copy.
    fn keep_aside(&self) -> BoxFuture<'_, Result<PathBuf, Error>>;

    /// This standby goes down in order: its copy leaves the mirror and stays out, while its heart still beats and can promise. So the active goes on alone
    /// by the other's own word, and holds no write for a proof. `false`: there is no mirror, or this node is active, and nothing happened.
    fn leave(&self) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    /// How far this node's data is; comparable between the two nodes of a pair, 0 for a node without data.
    fn position(&self) -> BoxFuture<'_, Result<u64, Error>>;

    /// For people; never waits.
    fn status(&self) -> StorageStatus;

    /// Compares both copies block by block in the background; the result is in [`StorageStatus`]. `Ok(false)`: nothing to compare.
    fn verify(&self) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    /// The lock that every process which may write must inherit, so that it is free only when all of them are gone. There while
    /// promoted. A clone is held only while a child is being spawned: one that outlives that makes [`Storage::demote`] fail
    /// with [`Error::Busy`].
    fn lock_fd(&self) -> Option<Arc<OwnedFd>> {
        None
    }
}
