//! The vocabulary of mail: what a message, an address, a flag and a mailbox are, once parsed.
//!
//! Contract: types that cannot be wrong once built; no I/O, no clock, no SQL, no protocol. The store writes these
//! types, the protocol crates show them, and neither knows the other. Every parser here takes any bytes and never
//! panics; what cannot be understood is kept as it came (a broken header is still mail).

mod address;
pub mod addresses;
pub mod charset;
pub mod date;
pub mod decode;
mod fold;
pub mod header;
pub mod html;
mod ids;
pub mod mime;
pub mod params;
mod parsed;
mod preview;
pub mod search_text;
pub mod section;
pub mod subject;
pub mod view;
pub mod words;

pub use address::{Address, AddressError};
pub use decode::{UnknownEncoding, decode_part};
pub use fold::{Needle, fold, fold_into, is_ideographic};
pub use ids::{AccountId, BodyHash, BodyId, DomainId, Flags, MailboxId, ModSeq, QueueId, TraceId, Uid, UidValidity};
pub use parsed::{Addr, ContentDisposition, Envelope, Group, Mailbox, Param, Parsed, Part, PartBody};
pub use search_text::{SearchText, search_text};
pub use section::{Node, Section, header_fields};
