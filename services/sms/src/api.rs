//! What is spoken on the socket of `twinpost sms`: JSON lines, one object a line, at most [`LINE_MAX_BYTES`].
//!
//! Contract: a client writes one [`Request`] a line and reads one [`Answer`] a line. `Follow`, `Watch` and `Incoming`
//! are answered by a stream of lines that lasts until its natural end (`Follow`), until the client writes another
//! request on the same connection, or closes it. Every number, text and list has a limit that is named here.
//!
//! Failure classes: a line that is no request is answered by [`Answer::Error`] and the connection stays; a line that is
//! too long is answered so too, and the connection is closed.

use serde::{Deserialize, Serialize};
pub use twinpost_modem::ResetStep;

/// Longest line in either direction, in bytes, line end included.
pub const LINE_MAX_BYTES: usize = 64 * 1024;
/// Longest idempotency key, in bytes.
pub const KEY_MAX_BYTES: usize = 200;
/// Longest text that is looked at, in bytes of UTF-8 (255 parts of 153 septets is about 39,000 characters).
pub const TEXT_MAX_BYTES: usize = 40_000;

/// One request, one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Send a message. Answer: [`Answer::Accepted`], [`Answer::Refused`], or [`Answer::Status`] when the key is known.
    Submit(Submit),
    /// Send no further part of this message. Answer: [`Answer::Status`] or [`Answer::UnknownKey`].
    Cancel {
        /// The key given at `Submit`.
        key: String,
    },
    /// A stream of [`Answer::Status`], the present one first, the last one with `more: false`; or [`Answer::UnknownKey`].
    Follow {
        /// The key given at `Submit`.
        key: String,
    },
    /// What waits, in the order in which it will go. Answer: [`Answer::Queue`].
    Queue {
        /// At most so many entries (and never more than 200).
        most: u32,
    },
    /// Answer: [`Answer::State`].
    State,
    /// A stream of [`Answer::State`] (the present one first, then at each change) and [`Answer::Event`].
    Watch,
    /// A stream of [`Answer::Incoming`]: first what waits with an id above `after`, then what comes.
    Incoming {
        /// The highest id that was seen already; 0 for all.
        after: u64,
    },
    /// The incoming message is safe elsewhere: forget it. Answer: [`Answer::Done`] (also when it is gone already).
    Take {
        /// [`Incoming::id`].
        id: u64,
    },
    /// Reset the modem, beginning at this step of the ladder (none: at the first). Answer: [`Answer::Done`].
    Reset {
        /// The first step.
        step: Option<ResetStep>,
    },
    /// Send a short test text as an alarm. Answer as for `Submit`; the key in the answer can be followed.
    Test {
        /// The number.
        to: String,
    },
    /// Answer: [`Answer::Statistics`].
    Statistics {
        /// So many days back from today (at most 400).
        #[serde(default = "one_month")]
        days: u32,
    },
}

fn one_month() -> u32 {
    31
}

/// Priority, highest first: an alarm goes between two parts of somebody's long text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The appliance is in trouble; also orders' answers. Never held back by a rate.
    Alarm,
    /// Notices of arrived mail.
    Notice,
    /// People's mail to a number.
    Person,
}

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submit {
    /// Names this message for ever: the same key never sends a part again that the network accepted. At most
    /// [`KEY_MAX_BYTES`] visible ASCII characters.
    pub key: String,
    /// Its priority.
    pub class: Class,
    /// Digits, with `+` when international.
    pub to: String,
    /// The text, at most [`TEXT_MAX_BYTES`].
    pub text: String,
    /// Not sent after so many seconds, and given to the network as the validity period. None: the class's own.
    #[serde(default)]
    pub validity_s: Option<u32>,
    /// Ask the network for a delivery report.
    #[serde(default)]
    pub report: bool,
    /// Shown at once on the phone (class 0).
    #[serde(default)]
    pub flash: bool,
    /// Kept on disk until it is sent or has failed; `Accepted` is answered after the commit. Otherwise the text is kept in memory only
    /// and has to be submitted again (with the same key) after a restart.
    #[serde(default)]
    pub durable: bool,
    /// Whose it is, for statistics and for fairness between senders.
    #[serde(default)]
    pub account: Option<String>,
    /// The domain of the account, for statistics.
    #[serde(default)]
    pub domain: Option<String>,
    /// Refuse when the text needs more parts. None: the settings' limit.
    #[serde(default)]
    pub parts_max: Option<u8>,
}

/// Where a message is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SmsState {
    /// Its turn has not come.
    Queued,
    /// One of its parts is on the wire, or some have gone and the others follow.
    Sending,
    /// The network has accepted every part.
    Accepted,
    /// The network reported that every part reached the phone.
    Delivered,
    /// The network accepted it and reported later that it could not be delivered.
    NotDelivered,
    /// Given up; `reason` says why.
    Failed,
    /// It will be tried again; `reason` says what is waited for.
    Waiting,
    /// Taken back before every part had gone.
    Canceled,
}

/// What is known about one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The key given at `Submit`.
    pub key: String,
    /// Where it is.
    pub state: SmsState,
    /// So many parts.
    pub parts: u8,
    /// So many of them were accepted by the network.
    pub accepted: u8,
    /// The outcome of one attempt is not known and the part was sent again: the phone may show it twice.
    pub possible_duplicate: bool,
    /// TP-Message-Reference of each accepted part.
    pub references: Vec<u8>,
    /// Why it waits or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// When this state began, milliseconds since 1970.
    pub at_ms: i64,
    /// Another status of this key may follow (also after `Accepted`, when a report was asked for).
    pub more: bool,
}

/// Why something waits, failed or was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Trying again changes nothing.
    pub permanent: bool,
    /// +CMS ERROR, TP-Status or SMPP `command_status`, when one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u32>,
    /// What happened, in English.
    pub text: String,
    /// The same in Chinese.
    pub zh: String,
}

/// A message that a phone sent to us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incoming {
    /// Grows with each message; given to `Take`.
    pub id: u64,
    /// The sender's number, or a name when the network gives one.
    pub from: String,
    /// The joined text. A part that never came is shown as ` [...] `.
    pub text: String,
    /// The service centre's time stamp, seconds since 1970 (0: it gave none).
    pub sent_s: i64,
    /// When the first part reached us.
    pub received_s: i64,
    /// So many parts were joined.
    pub parts: u8,
}

/// One message in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueEntry {
    /// Its present status.
    pub status: Status,
    /// Its priority.
    pub class: Class,
    /// To which number.
    pub to: String,
    /// Whose it is.
    pub account: Option<String>,
    /// When it was submitted, milliseconds since 1970.
    pub submitted_ms: i64,
    /// Not tried before, milliseconds since 1970.
    pub next_ms: i64,
    /// Given up at, milliseconds since 1970.
    pub deadline_ms: i64,
    /// So many attempts failed so far.
    pub attempts: u32,
}

/// What a way out is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A GSM modem.
    Modem,
    /// An operator's SMPP service.
    Smpp,
}

/// How a way out is. `Ready` and `StorageFull` send, the others hold messages back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It sends.
    Ready,
    /// It is being brought up.
    Starting,
    /// The serial port is not there.
    NoPort,
    /// Somebody else has the serial port.
    PortBusy,
    /// What answers on the port is no modem.
    NotAModem,
    /// Nothing intelligible at any speed.
    WrongSpeed,
    /// No SIM.
    NoSim,
    /// The SIM wants a PIN and none is set.
    PinWanted,
    /// The SIM refused the PIN that is set; it is not tried again.
    PinWrong,
    /// The SIM is locked and wants its PUK.
    PukWanted,
    /// Not registered in a network.
    NoNetwork,
    /// The network refuses this SIM.
    Denied,
    /// The memory for received messages is full: it sends, but nothing comes in.
    StorageFull,
    /// It does not answer.
    Silent,
    /// It is being reset.
    Resetting,
    /// It was stopped.
    Stopped,
    /// SMPP: no connection.
    Disconnected,
    /// SMPP: the operator refuses our name or password.
    BindRefused,
    /// SMPP: the operator asks us to send more slowly.
    Throttled,
}

/// One way out: a modem or an SMPP service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Way {
    /// Its name in the settings.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// How it is.
    pub condition: Condition,
    /// The condition as a sentence, in English, with the detail that the modem gave.
    pub text: String,
    /// The same in Chinese.
    pub zh: String,
    /// Since when it is so, milliseconds since 1970.
    pub since_ms: i64,
    /// Received signal strength in dBm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal_dbm: Option<i16>,
    /// The network's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The family whose quirks are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Manufacturer and model as the modem says them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Serial number of the modem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imei: Option<String>,
    /// The service centre's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smsc: Option<String>,
    /// Home, roaming, searching, denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<String>,
}

/// The state of the whole process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The ways out, in the order of the settings.
    pub ways: Vec<Way>,
    /// Messages that wait: alarms, notices, people's.
    pub waiting: Waiting,
    /// Incoming messages that nobody has taken.
    pub incoming: u64,
    /// The spool on disk takes what it is given.
    pub spool_writable: bool,
    /// What lasts long enough to be told about, and is not over.
    pub troubles: Vec<Event>,
}

/// How many messages wait, by class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Waiting {
    /// Alarms.
    pub alarms: u32,
    /// Notices.
    pub notices: u32,
    /// People's.
    pub people: u32,
}

/// A change that people should hear about by another way than SMS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// `way/<name>`, `spool` or `incoming`: the same for the trouble and for its end.
    pub subject: String,
    /// The trouble is over.
    pub recovered: bool,
    /// The way's condition, when it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// What happened, what it means, what to do; in English.
    pub text: String,
    /// The same in Chinese.
    pub zh: String,
    /// Since when, milliseconds since 1970.
    pub at_ms: i64,
}

/// Counts of one account on one day in one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Days since 1970-01-01 (UTC).
    pub day: u32,
    /// The account; empty: the appliance itself.
    pub account: String,
    /// Its domain; empty: none.
    pub domain: String,
    /// The class.
    pub class: Class,
    /// Messages that the network accepted in full.
    pub sent: u64,
    /// Parts that the network accepted.
    pub parts: u64,
    /// Messages given up.
    pub failed: u64,
    /// Messages reported as delivered.
    pub delivered: u64,
    /// Messages reported as not delivered.
    pub not_delivered: u64,
    /// Messages marked as possible duplicates.
    pub duplicates: u64,
}

/// One answer, one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Answer {
    /// The message is in the queue.
    Accepted {
        /// Its key.
        key: String,
        /// So many parts.
        parts: u8,
        /// False only for an alarm that the disk refused: it is sent at once, from memory.
        stored: bool,
    },
    /// The message is not in the queue, and nothing was sent.
    Refused {
        /// Why.
        reason: Reason,
    },
    /// What is known about a message.
    Status(Status),
    /// No such key.
    UnknownKey {
        /// The key.
        key: String,
    },
    /// What waits.
    Queue {
        /// The first of them.
        entries: Vec<QueueEntry>,
        /// All that wait.
        total: u32,
    },
    /// How everything is.
    State(State),
    /// Something to tell people.
    Event(Event),
    /// A message from a phone.
    Incoming(Incoming),
    /// Counts, newest day first.
    Statistics {
        /// At most 2,000 rows that fit one line are sent; the page is cut at the oldest day.
        counts: Vec<Count>,
    },
    /// It is done.
    Done,
    /// The request could not be understood or carried out.
    Error {
        /// What was wrong.
        text: String,
    },
}
