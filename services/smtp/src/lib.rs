//! The SMTP server: MX, submission and LMTP (RFC 5321, 6409, 8314, 2033).
//!
//! Contract: the session knows the protocol and nothing else: no socket, no clock, no account. The server around it
//! moves bytes and asks a [`Backend`] and a [`Filter`]. A message is answered 250 only after the backend has said that
//! it is committed; until then the client still owns it. Only CRLF.CRLF ends a message. Nothing that was sent before
//! TLS counts after it.
//!
//! Failure classes: what a client does wrong is a reply ([`Refusal`]); too much of it ends the session with 421. What
//! the backend cannot do now is a 4yz reply. A broken connection ends its session, and a message whose end did not
//! come is forgotten, as RFC 5321 4.1.1.4 wants it.

mod authors;
mod backend;
pub mod command;
pub mod data;
mod header;
mod limiter;
mod params;
mod path;
mod received;
mod reply;
mod server;
mod session;
mod settings;

pub use backend::{AcceptAll, Backend, Client, Envelope, Filter, Mail, MailAccepted, Message, Outcome, Rcpt, Tls, Verdict};
pub use limiter::Limiter;
pub use params::{Body, MailParams, Notify, OriginalRecipient, RcptParams, Ret, decode_xtext, encode_xtext};
pub use received::date;
pub use reply::{Detail, Refusal};
pub use server::{BUSY, Server};
pub use session::{BrokenLine, Bye, Counts, Event, Next, Session};
pub use settings::{AuthOffer, BareLineEnds, Role, Settings};

/// Any bytes through every parser of this crate: must not panic.
pub fn fuzz(data: &[u8]) {
    command::fuzz(data);
    params::fuzz(data);
    data::fuzz(data);
    authors::fuzz(data);
}
