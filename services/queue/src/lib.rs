//! The outbound queue: mail for other sites goes out, or comes back to its sender with the reason.
//!
//! Contract: the queue owns no state that matters. What waits is in the store ([`Spool`]), claimed by one process; every
//! outcome is one commit together with the reports it makes. After a kill everything that was claimed is due again, so a
//! recipient is lost at no point, and is tried twice only when the stop fell between the remote 250 and our commit (the one
//! duplicate that SMTP cannot exclude, RFC 5321 6.1).
//!
//! Parts: [`schedule`] (when), [`route`] (where to: pure rules over DNS answers), [`client`] (the dialogue),
//! [`courier`] (another way out for the domains that it names),
//! [`sevenbit`] (the form that a server can take),
//! [`dsn`] (what the sender is told), [`runner`] (claims, concurrency, back-off).
//!
//! Failure classes: the destination says no for good (5yz, null MX, no such domain: a failure report); not now (4yz, no
//! connection, DNS silent: tried again by the schedule until it expires); we are at fault (the store cannot be read or
//! written: logged, tried again, nothing changes hands).

pub mod client;
pub mod courier;
pub mod dns;
pub mod dsn;
pub mod route;
pub mod runner;
pub mod schedule;
mod settings;
pub mod sevenbit;
mod spool;

pub use runner::Queue;
pub use settings::{Settings, SmartHost, SmartHostTls};
pub use spool::{Entry, Notify, Recipient, RecipientUpdate, Reply, Report, Ret, Spool, SpoolFault, State, Update};
