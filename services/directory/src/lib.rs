//! The directory: domains, accounts, aliases, groups, credentials, rights and limits.
//!
//! Contract: one [`Directory`] handle (cheap to clone) answers look-ups from memory without locks, and changes in one
//! place: a change is checked against the newest state, committed to SQL, and then seen by every later look-up in this
//! process. Another process on the same database sees it at its next [`Directory::refresh`], and each change begins
//! with one. Two processes that change at once are kept apart by the `generation` row: the later tries again.
//! Every change names its actor and leaves a row in the audit trail, in the same transaction.
//!
//! Passwords: Argon2id, and a SCRAM-SHA-256 secret beside it; hashes of other systems are taken in and replaced at the next
//! sign-in. No password or hash is kept in memory beyond the sign-in, except as a keyed hash of what was verified.
//!
//! Failure classes: [`Error`] for a change or question that cannot be granted (nothing was changed; the text is for people),
//! [`SignInError`] for a sign-in. A lost database fails changes and sign-ins; look-ups go on from memory.

mod accounts;
mod audit;
mod bulk;
mod change;
mod copy;
mod credentials;
mod directory;
mod domains;
mod draft;
mod error;
mod model;
mod normal;
mod purge;
mod resolve;
mod routes;
mod rows;
mod shards;
mod types;

#[cfg(test)]
mod tests;

pub use accounts::Renamed;
pub use audit::AuditQuery;
pub use bulk::{Export, ImportOptions, ImportReport, LineReport, Outcome, Progress};
pub use change::{AccountChange, GroupChange, HashCost, NewAccount, NewDomain, NewGroup, NewPassword, Settings};
pub use credentials::fuzz;
pub use directory::Directory;
pub use error::{Error, HashFault, PasswordFault, SignInError};
pub use resolve::{Originator, Resolution, Target};
pub use twinpost_sasl::ScramSecret;
pub use types::{
    Account, Alias, AppPassword, AuditEntry, Domain, DomainSettings, Group, Identity, Language, Limits, Purge, Role, Senders,
    Service, Services, State, UnknownName,
};
