//! What the user of the crate says. Plain data with documented defaults; no failure classes: what contradicts itself
//! is told by [`crate::serve`] as [`crate::Error::Settings`] before anything is opened.

use std::path::PathBuf;
use std::time::Duration;

/// The settings of the SMS process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The Unix socket, such as `<node dir>/run/sms/sock`. Made with mode 0600.
    pub socket: PathBuf,
    /// Folder of the spool, such as `<node dir>/sms`. Made when it is missing.
    pub folder: PathBuf,
    /// The ways out. The order is the order of preference: the next one is used when the ones before it cannot send.
    pub ways: Vec<WaySettings>,
    /// Numbers with a certain prefix go by certain ways only, longest prefix first.
    pub routes: Vec<Route>,
    /// How fast, how long, how many.
    pub pace: Pace,
    /// Limits.
    pub limits: Limits,
    /// Orders by SMS; none: messages from administrators are ordinary messages.
    pub orders: Option<OrdersSettings>,
    /// International prefix of this country, such as `+86`: a national number and its international form are the same
    /// phone (orders, delivery reports). None: numbers are compared as they are.
    pub country: Option<String>,
}

impl Settings {
    /// Settings with one modem and everything else by default.
    pub fn new(socket: impl Into<PathBuf>, folder: impl Into<PathBuf>, modem: twinpost_modem::Settings) -> Settings {
        Settings {
            socket: socket.into(),
            folder: folder.into(),
            ways: vec![WaySettings { name: "modem".into(), by: By::Modem(Box::new(modem)) }],
            routes: Vec::new(),
            pace: Pace::default(),
            limits: Limits::default(),
            orders: None,
            country: None,
        }
    }
}

/// One way out.
#[derive(Debug, Clone)]
pub struct WaySettings {
    /// Its name in logs, routes and [`crate::api::Way`].
    pub name: String,
    /// What it is.
    pub by: By,
}

/// What a way out is made of.
#[derive(Debug, Clone)]
pub enum By {
    /// A modem on a serial port.
    Modem(Box<twinpost_modem::Settings>),
    /// An operator's SMPP service.
    Smpp(Box<SmppSettings>),
}

/// Numbers that begin with `prefix` go by `ways`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Digits as submitted, with `+` when international.
    pub prefix: String,
    /// Names of ways, in order of preference.
    pub ways: Vec<String>,
}

/// How fast, how long, how many.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Parts a minute that the network and the SIM's contract bear on one way. Default 30.
    pub parts_per_minute: u32,
    /// Share of it that is kept for alarms, in percent; people and notices get the rest. Default 20.
    pub alarm_share_percent: u8,
    /// People's parts that may go at once after a pause. Default 10.
    pub burst_parts: u32,
    /// Validity of an alarm that names none. Default 24 h.
    pub alarm_validity: Duration,
    /// Validity of a notice that names none. Default 6 h.
    pub notice_validity: Duration,
    /// Validity of a person's message that names none. Default 48 h.
    pub person_validity: Duration,
    /// Pauses after a temporary failure of a notice or a person's message; the last one repeats until the validity
    /// ends. Default 20 s, 1 min, 3 min, 10 min, 30 min.
    pub retry: Vec<Duration>,
    /// The same of an alarm. Default 5 s, 10 s, 20 s, 40 s, 1 min, 2 min.
    pub alarm_retry: Vec<Duration>,
    /// A way that refused for a reason of its own (no network, SIM trouble) though it says that it is ready, rests so
    /// long. Default 10 s.
    pub rest: Duration,
    /// So often is a part sent again after an unknown outcome; then the message fails. Default 3.
    pub unknown_max: u8,
    /// So often is a message tried that the modem refuses without a clear reason; then it fails. Default 8.
    pub unclear_max: u32,
    /// So long does a message that began by one way wait for that way before it begins again by the next: alarms.
    /// Default 30 s.
    pub alarm_patience: Duration,
    /// The same for all other messages. Default 15 min.
    pub patience: Duration,
    /// A way that cannot send for so long is told as a trouble. Default 60 s.
    pub trouble_after: Duration,
    /// A way that sends again for so long is told as recovered. Default 20 s.
    pub recovered_after: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        let s = Duration::from_secs;
        Pace {
            parts_per_minute: 30,
            alarm_share_percent: 20,
            burst_parts: 10,
            alarm_validity: s(24 * 3600),
            notice_validity: s(6 * 3600),
            person_validity: s(48 * 3600),
            retry: vec![s(20), s(60), s(180), s(600), s(1800)],
            alarm_retry: vec![s(5), s(10), s(20), s(40), s(60), s(120)],
            rest: s(10),
            unknown_max: 3,
            unclear_max: 8,
            alarm_patience: s(30),
            patience: s(900),
            trouble_after: s(60),
            recovered_after: s(20),
        }
    }
}

/// Limits.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Messages that wait, alarms not counted. Default 10,000.
    pub queue: u32,
    /// Alarms that wait. Default 1,000.
    pub alarms: u32,
    /// Accepted messages whose delivery report is waited for. The oldest is no longer waited for beyond it.
    /// Default 20,000.
    pub reports: u32,
    /// Parts of one message. Default 10.
    pub parts: u8,
    /// Incoming messages that nobody has taken; beyond it, messages are left on the SIM and in the network.
    /// Default 10,000.
    pub incoming: u32,
    /// Parts of incoming messages that wait for their other parts; beyond it the oldest are given out incomplete.
    /// Default 1,000.
    pub fragments: u32,
    /// So long are they waited for. Default 1 h.
    pub fragments_wait: Duration,
    /// Clients on the socket. Default 64.
    pub clients: u32,
    /// So many days is a key remembered after its end. Default 14.
    pub keep_days: u16,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            queue: 10_000,
            alarms: 1_000,
            reports: 20_000,
            parts: 10,
            incoming: 10_000,
            fragments: 1_000,
            fragments_wait: Duration::from_secs(3600),
            clients: 64,
            keep_days: 14,
        }
    }
}

/// Orders by SMS.
#[derive(Debug, Clone)]
pub struct OrdersSettings {
    /// The administrators' numbers.
    pub numbers: Vec<String>,
    /// A one-time code is good for so long. Default 5 min.
    pub code_valid: Duration,
    /// After so many wrong codes a number is locked out. Default 3.
    pub wrong_max: u8,
    /// For so long. Default 1 h.
    pub lockout: Duration,
    /// Answers to one number in an hour; further orders get no answer. Default 30.
    pub answers_per_hour: u32,
}

impl OrdersSettings {
    /// Orders from these numbers, everything else by default.
    pub fn new(numbers: Vec<String>) -> OrdersSettings {
        OrdersSettings {
            numbers,
            code_valid: Duration::from_secs(300),
            wrong_max: 3,
            lockout: Duration::from_secs(3600),
            answers_per_hour: 30,
        }
    }
}

/// An operator's SMPP service (SMPP 3.4).
#[derive(Clone)]
pub struct SmppSettings {
    /// Host name or address.
    pub host: String,
    /// Port. Usual: 2775, with TLS 3550.
    pub port: u16,
    /// Encrypt, and verify the server's certificate by this file of CA certificates (PEM).
    pub tls_ca: Option<PathBuf>,
    /// `system_id`, at most 15 characters.
    pub system_id: String,
    /// Password, at most 8 characters. Never shown by `Debug`.
    pub password: String,
    /// `system_type`, at most 12 characters. Default empty.
    pub system_type: String,
    /// The sender's number or name on the phone; none: the operator sets it.
    pub source: Option<String>,
    /// Requests that may be unanswered at a time. Default 10.
    pub window: u16,
    /// Between two `enquire_link` on a quiet line. Default 30 s.
    pub enquire: Duration,
    /// No answer for so long: the connection is given up. Default 30 s.
    pub response_max: Duration,
    /// First pause before connecting again; doubles up to [`SmppSettings::reconnect_max`]. Default 1 s.
    pub reconnect_min: Duration,
    /// Default 60 s.
    pub reconnect_max: Duration,
    /// Texts of several parts: how they are put into `submit_sm`. Default [`LongText::Udh`].
    pub long_text: LongText,
    /// `data_coding` of the GSM 7-bit alphabet, one septet an octet. Default 0 (SMSC default alphabet).
    pub gsm_data_coding: u8,
}

impl SmppSettings {
    /// Settings for this service, everything else by default.
    pub fn new(host: impl Into<String>, port: u16, system_id: impl Into<String>, password: impl Into<String>) -> Self {
        SmppSettings {
            host: host.into(),
            port,
            tls_ca: None,
            system_id: system_id.into(),
            password: password.into(),
            system_type: String::new(),
            source: None,
            window: 10,
            enquire: Duration::from_secs(30),
            response_max: Duration::from_secs(30),
            reconnect_min: Duration::from_secs(1),
            reconnect_max: Duration::from_secs(60),
            long_text: LongText::Udh,
            gsm_data_coding: 0,
        }
    }
}

impl std::fmt::Debug for SmppSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmppSettings")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls_ca.is_some())
            .field("system_id", &self.system_id)
            .finish_non_exhaustive()
    }
}

/// How the parts of a long text are named in `submit_sm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LongText {
    /// A user data header in `short_message` (`esm_class` 0x40).
    Udh,
    /// The `sar_msg_ref_num`, `sar_total_segments` and `sar_segment_seqnum` parameters.
    Sar,
}
