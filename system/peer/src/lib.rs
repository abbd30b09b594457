//! The trusted channel between the two nodes: pairing by a short code, mutual TLS with pinned keys, orders, configuration copy, files for the merge.
//!
//! Contract: nobody but the partner pinned at pairing is answered; whoever else connects is refused, counted and bounded. No certificate
//! authority, no clock and no name is trusted. Everything that comes in has a size limit and a time limit.
//!
//! Failure classes: one enum, [`Error`], whose text says what a person does about it.

mod channel;
mod config_copy;
mod error;
mod files;
pub mod frame;
mod identity;
mod message;
mod pair;
pub mod pairing;
mod secret;
mod tls;

pub use channel::{Channel, Counts, Fetched, Handler, MAX_CALLS, Progress, Settings, State};
pub use config_copy::{ConfigCopy, Judge};
pub use error::{Error, PairingError};
pub use identity::Identity;
pub use message::{Answer, Hello, OLDEST_PROTOCOL, PROTOCOL, Refusal, RefusalKind, Request};
pub use pair::{About, FrameKeys, KeyStep, Letter, OtherKey, Pair, Partner};
pub use pairing::{Code, Offer, PairAs, Paired, pair_join, pair_offer};
pub use secret::{PublicKey, Secret};
