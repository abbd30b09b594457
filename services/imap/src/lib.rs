//! IMAP4rev2 and IMAP4rev1 (RFC 9051, RFC 3501) with the extensions that `capability` names: a session state machine and the
//! tokio server around it.
//!
//! Contract: knows the store and the directory only through [`Backend`]. Two sessions on one mailbox see each other's changes
//! exactly: all untagged mailbox responses are computed as the difference of two snapshots. Any input is answered or ends the
//! connection with BYE; none panics. Failure classes: [`Refusal`] (an answer code, the session goes on) and I/O faults (the
//! session ends).

pub mod algorithm;
mod backend;
pub mod codec;
mod connection;
mod server;
mod session;
mod settings;
mod view;

pub use backend::{
    Account, Annotation, Appended, Backend, Copied, DELIMITER, FlagChange, FlagMode, FlagsChanged, MailboxInfo, NewMessage,
    Outcome, Refusal, SpecialUse, TextField, TextHits, Usage, Vanished, uid_ranges,
};
pub use server::Server;
pub use settings::Settings;
