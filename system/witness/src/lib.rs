//! The witness: a durable compare-and-set register of the reign at a third party, and those who ask it.
//!
//! Contract: a reign is won by one node only, and a won reign is never forgotten: it is on the disk of the witness before the
//! answer leaves. A node that renews at the witness is not deposed while its lease is fresh ([`Claimed::Held`]), and a winner is told a
//! *lower* bound of the age of the loser's last renewal, so that it never waits too short. No wall clock is read anywhere; ages are
//! measured on the monotonic clock of the witness, and a restarted witness counts unknown ages from its own start.
//!
//! Two engines behind one trait and one suite of behaviour (`tests/`): our own server ([`Server`], any small PC) asked by
//! [`Client`], and [`Etcd`] for those who run one.
//!
//! Failure classes: a witness that cannot be reached or does not answer in time ([`Error::Silent`]) leaves the question open: the
//! same claim may be asked again and is idempotent. A witness that cannot be *sure* (disk full, damaged register, cluster that is not
//! enrolled) refuses ([`Error::Refused`]): it never guesses. Datagrams that are forged, replayed, cut or of other clusters are
//! dropped and counted ([`Counters`]).

mod client;
mod datagram;
mod error;
mod etcd;
mod key;
mod register;
mod server;
mod status;
mod store;

pub use client::{Client, ClientSettings};
pub use datagram::{fuzz_answer, fuzz_request};
pub use error::{Error, Refusal};
pub use etcd::{Credentials, Etcd, EtcdSettings};
pub use key::{Key, enrol};
pub use server::{Server, Settings, serve};
pub use status::{ClusterStatus, Counters, Tally, WitnessStatus, read_status};
pub use store::{fuzz as fuzz_slot, is_enrolled};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// What a claim came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claimed {
    /// The register is at `reign`, this node's, and that is on the disk of the witness. A repeated claim gets the same answer.
    Won {
        /// The reign claimed.
        reign: u32,
        /// At least this long ago the witness last renewed a lease of the peer; `u32::MAX`: it never did. The moment meant is the
        /// answer's, and the age told is never more than the true one.
        granted_ms: u32,
    },
    /// The register stands at a reign that this claim does not beat: the peer was faster, or this node's own record is older than its deeds.
    Lost {
        /// What the register holds.
        reign: u32,
    },
    /// The peer's lease is fresh: nothing changed. Ask again later.
    Held {
        /// Until the lease is over, if it is not renewed. An upper bound.
        left_ms: u32,
    },
}

/// What a renewal came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Renewed {
    /// The lease counts from the moment of the question.
    Renewed,
    /// The peer holds this newer reign.
    Lost {
        /// What the register holds.
        reign: u32,
    },
}

/// A third party that says who may serve. Used as `Arc<dyn Witness>`; one question at a time, others wait their turn.
pub trait Witness: Send + Sync {
    /// Compare-and-set: `new` becomes this node's if the witness knows nothing above `knows` that is the peer's, and if the peer's lease
    /// is over. Safe to repeat and safe to drop half-way: the outcome is then unknown, never doubled.
    fn claim(&self, knows: u32, new: u32) -> BoxFuture<'_, Result<Claimed, Error>>;

    /// Renews this node's lease of `reign`, unless the witness knows a newer reign of the peer. A renewal of a reign that was won without
    /// the witness (released, fenced) is stored there first.
    fn renew(&self, reign: u32) -> BoxFuture<'_, Result<Renewed, Error>>;

    /// Whether the last question was answered; asked by itself every few seconds. False until the first answer.
    fn state(&self) -> watch::Receiver<bool>;
}
