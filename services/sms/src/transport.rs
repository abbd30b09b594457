//! What every way out offers: a modem, an SMPP service, a test's fake.
//!
//! Contract: [`Transport::send`] always answers, and says [`Outcome::Unknown`] whenever the part may have left and no
//! clear answer came. Whatever comes in is handed over at least once and again until it was confirmed.
//!
//! Failure classes: those of [`Outcome`].

use crate::api::{Kind, Reason, ResetStep, Way};
use crate::book::{Fragment, Reference};
use std::future::Future;
use std::sync::Arc;
use tokio::sync::watch;

/// One part of a message, with everything that a way needs to put it on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parcel {
    /// For the log.
    pub key: Arc<str>,
    pub to: Arc<str>,
    /// The text of the whole message; the way cuts it as [`crate::text`] says.
    pub text: Arc<str>,
    /// This part, from 1.
    pub number: u8,
    /// Of so many.
    pub of: u8,
    /// For concatenation.
    pub reference: u16,
    /// TP-MR, the same at each attempt.
    pub mr: u8,
    /// An earlier attempt may have been accepted: the service centre is asked to refuse a second one (TP-RD).
    pub again: bool,
    pub report: bool,
    pub flash: bool,
    pub validity_s: u32,
    /// Another part follows at once: the radio link is kept.
    pub more_follows: bool,
}

/// What became of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The network accepted it.
    Accepted(Reference),
    /// It was refused; certainly not sent.
    Refused(Blame, Reason),
    /// The way cannot send now; certainly not sent.
    NotSent(Reason),
    /// It may have been sent.
    Unknown(Reason),
}

/// Who is to blame for a refusal: decides what is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The number or the message: nothing will change it.
    Message,
    /// The network or the phone at the moment: this message later.
    Moment,
    /// Nobody knows: this message later, but not for ever.
    Unclear,
    /// The SIM, the registration, the modem, the account with the operator: every message later, nobody's attempt.
    /// Should it turn out that the way takes other messages, this one is to blame after all (`Reason::permanent` then
    /// says whether it has failed).
    Way,
    /// The service centre holds the same part already.
    Duplicate,
}

/// Names something received until it is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Token(pub u64);

/// What a delivery report says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It reached the phone.
    Delivered,
    /// It never will.
    Lost(Reason),
    /// The service centre still tries.
    Pending(Reason),
}

/// A delivery report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub reference: Reference,
    /// The number as the network writes it.
    pub to: String,
    pub fate: Fate,
}

/// What comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Inbound {
    /// A part of a message. Store it, then confirm.
    Fragment(Box<Fragment>, Token),
    /// A delivery report. Store it, then confirm.
    Report(Report, Token),
    /// Nothing of interest (a silent message): confirm.
    Nothing(Token),
}

/// A way out.
pub(crate) trait Transport: Send + Sync + 'static {
    /// What it is.
    fn kind(&self) -> Kind;

    /// So many parts may be on their way at a time.
    fn window(&self) -> usize;

    /// How it is. `name` is set by the engine.
    fn state(&self) -> watch::Receiver<Way>;

    /// Sends one part.
    fn send(&self, parcel: Parcel) -> impl Future<Output = Outcome> + Send;

    /// What was received under this token is stored.
    fn confirm(&self, token: Token) -> impl Future<Output = ()> + Send;

    /// Resets it, beginning at this step.
    fn reset(&self, step: ResetStep) -> impl Future<Output = ()> + Send;

    /// Lets go of the port or the connection.
    fn stop(&self) -> impl Future<Output = ()> + Send;
}
