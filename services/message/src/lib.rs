//! The vocabulary of mail: what a message, an address, a flag and a mailbox are, once parsed.
//!
//! Contract: types that cannot be wrong once built; no I/O, no clock, no SQL, no protocol. The store writes these
//! types, the protocol crates show them, and neither knows the other. Every parser here takes any bytes and never
//! panics; what cannot be understood is kept as it came (a broken header is still mail).

mod address;
mod ids;
mod parsed;
pub mod view;

pub use address::{Address, AddressError};
pub use ids::{AccountId, BodyHash, BodyId, DomainId, Flags, MailboxId, ModSeq, QueueId, TraceId, Uid, UidValidity};
pub use parsed::{Addr, ContentDisposition, Envelope, Group, Mailbox, Param, Parsed, Part, PartBody};
