//! Another way out than SMTP, for the domains that it names: text messages, for example.
//!
//! Contract: the queue asks the courier for each recipient of such a domain, never asks DNS for it and never connects. The
//! queue keeps the recipient until the courier gives its fate, and asks again after a kill: the same entry and recipient
//! then means the same errand ([`Entry::id`], [`Entry::trace`] and [`Recipient::n`] name it), which a courier must not carry
//! out twice. A courier that cannot carry now says so at once ([`Fate::Waits`]) instead of holding the errand.
//!
//! Failure classes: for good ([`Fate::Failed`]), not now ([`Fate::Waits`]); a courier has no others.

use crate::spool::{Entry, Recipient, Reply};
use bytes::Bytes;
use std::future::Future;

/// What became of one errand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrived, and the other end said so.
    Delivered,
    /// It was handed to somebody who tells nothing more (RFC 3464 2.3.3 "relayed").
    Relayed,
    /// It will never arrive.
    Failed,
    /// Somebody was asked and said "not now". Tried again at this time (seconds since 1970 UTC), or by the queue's schedule.
    Waits(Option<i64>),
    /// Nobody could be asked: that is no try. Looked at again at this time (seconds since 1970 UTC).
    Rests(i64),
}

/// The fate with the reason in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// What became of it.
    pub fate: Fate,
    /// What is written down and told: code 0, and a text that begins with an enhanced status code (RFC 3463).
    pub reply: Reply,
    /// The same for the sender alone, in the sender's own language, when that is not English.
    pub words: Option<String>,
    /// Who gave the answer (a network, a device), for Remote-MTA.
    pub by: Option<String>,
}

/// How a courier's answers are called in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Type of the name in Remote-MTA (RFC 3464 2.3.5).
    pub mta: &'static str,
    /// Type of Diagnostic-Code (RFC 3464 2.3.6).
    pub diagnostic: &'static str,
}

/// Another way out than SMTP.
pub trait Courier: Send + Sync + 'static {
    /// How its answers are called in a report.
    const KIND: Kind;
    /// Mail for this domain (lower case) goes by the courier.
    fn takes(&self, domain: &str) -> bool;
    /// Carries the message to one recipient. Dropped when the queue stops: the errand is then asked for again.
    fn carry(&self, entry: &Entry, recipient: &Recipient, message: Bytes) -> impl Future<Output = Carried> + Send;
}

/// All mail goes by SMTP.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCourier;

impl Courier for NoCourier {
    const KIND: Kind = Kind { mta: "x-none", diagnostic: "x-none" };
    fn takes(&self, _: &str) -> bool {
        false
    }
    async fn carry(&self, _: &Entry, _: &Recipient, _: Bytes) -> Carried {
        let text = "4.3.5 no way out is known for this domain".to_owned();
        Carried { fate: Fate::Waits(None), reply: Reply { code: 0, text }, words: None, by: None }
    }
}
