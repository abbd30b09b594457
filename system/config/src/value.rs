//! The kinds of values: how each is written, measured and limited.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use toml_edit::{Item, Value as Toml};

/// A kind of value.
pub(crate) trait Value: Sized {
    /// Reads an item; the error says what was expected.
    fn read(item: &Item) -> Result<Self, String>;
    /// For the reference: what may stand there.
    fn kind() -> String;
    /// Limits are written like values.
    fn within(&self, _low: &str, _high: &str) -> Result<(), String> {
        Ok(())
    }
    /// Reads a value from TOML text.
    fn from_text(text: &str) -> Result<Self, String> {
        let value: Toml = text.parse().map_err(|e: toml_edit::TomlError| e.message().to_owned())?;
        Self::read(&Item::Value(value))
    }
}

fn text_of(item: &Item, expected: &str) -> Result<String, String> {
    item.as_str().map(str::to_owned).ok_or_else(|| format!("expected {expected}, found {}", found(item)))
}

fn found(item: &Item) -> String {
    match item.as_value() {
        Some(value) => format!("{} {}", value.type_name(), value.to_string().trim()),
        None => item.type_name().to_owned(),
    }
}

fn between<T: PartialOrd + std::fmt::Display>(value: &T, low: &T, high: &T) -> Result<(), String> {
    if (low..=high).contains(&value) { Ok(()) } else { Err(format!("{value} is outside {low} to {high}")) }
}

impl Value for bool {
    fn read(item: &Item) -> Result<Self, String> {
        item.as_bool().ok_or_else(|| format!("expected true or false, found {}", found(item)))
    }
    fn kind() -> String {
        "true or false".into()
    }
}

impl Value for u32 {
    fn read(item: &Item) -> Result<Self, String> {
        let number = item.as_integer().ok_or_else(|| format!("expected a whole number, found {}", found(item)))?;
        Self::try_from(number).map_err(|_| format!("{number} is outside 0 to {}", Self::MAX))
    }
    fn kind() -> String {
        "whole number".into()
    }
    fn within(&self, low: &str, high: &str) -> Result<(), String> {
        match (low.parse(), high.parse()) {
            (Ok(low), Ok(high)) => between(self, &low, &high),
            _ => Err(format!("the limits {low} to {high} are not whole numbers")),
        }
    }
}

impl Value for String {
    fn read(item: &Item) -> Result<Self, String> {
        text_of(item, "a text in quotes")
    }
    fn kind() -> String {
        "text".into()
    }
}

impl Value for PathBuf {
    fn read(item: &Item) -> Result<Self, String> {
        text_of(item, "a path in quotes").map(Self::from)
    }
    fn kind() -> String {
        "path".into()
    }
}

impl<V: Value> Value for Vec<V> {
    fn read(item: &Item) -> Result<Self, String> {
        let list = item.as_array().ok_or_else(|| format!("expected a list in brackets, found {}", found(item)))?;
        list.iter().map(|v| V::read(&Item::Value(v.clone()))).collect()
    }
    fn kind() -> String {
        format!("list of: {}", V::kind())
    }
    fn within(&self, low: &str, high: &str) -> Result<(), String> {
        self.iter().try_for_each(|v| v.within(low, high))
    }
}

impl<V: Value> Value for Option<V> {
    fn read(item: &Item) -> Result<Self, String> {
        if item.as_str() == Some("") { Ok(None) } else { V::read(item).map(Some) }
    }
    fn kind() -> String {
        format!("{}, or \"\" for none", V::kind())
    }
    fn within(&self, low: &str, high: &str) -> Result<(), String> {
        self.as_ref().map_or(Ok(()), |v| v.within(low, high))
    }
}

/// A table of names and values.
impl<V: Value> Value for BTreeMap<String, V> {
    fn read(item: &Item) -> Result<Self, String> {
        let table = item.as_table_like().ok_or_else(|| format!("expected a table of names and values, found {}", found(item)))?;
        table.iter().map(|(name, v)| V::read(v).map(|v| (name.to_owned(), v)).map_err(|e| format!("{name}: {e}"))).collect()
    }
    fn kind() -> String {
        format!("table of names, each with: {}", V::kind())
    }
    fn within(&self, low: &str, high: &str) -> Result<(), String> {
        self.iter().try_for_each(|(name, v)| v.within(low, high).map_err(|e| format!("{name}: {e}")))
    }
}

/// A number of bytes, written `"50 MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub struct BytesSize(pub u64);

impl std::fmt::Display for BytesSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)]
            .into_iter()
            .find(|(_, shift)| self.0 >> shift > 0 && self.0 & ((1 << shift) - 1) == 0);
        match unit {
            Some((name, shift)) => write!(f, "{} {name}", self.0 >> shift),
            None => write!(f, "{} B", self.0),
        }
    }
}

fn size_of(text: &str) -> Result<BytesSize, String> {
    let wrong = || format!("{text:?} is not a size; write for example \"50 MiB\" (B, KiB, MiB, GiB, TiB)");
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let shift = match text[digits..].trim() {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).map(BytesSize).ok_or_else(wrong)
}

/// The same text as in the document: `50 MiB`.
impl std::str::FromStr for BytesSize {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        size_of(text)
    }
}

impl Value for BytesSize {
    fn read(item: &Item) -> Result<Self, String> {
        size_of(&text_of(item, "a size like \"50 MiB\"")?)
    }
    fn kind() -> String {
        "size (B, KiB, MiB, GiB, TiB)".into()
    }
    fn within(&self, low: &str, high: &str) -> Result<(), String> {
        between(self, &size_of(low)?, &size_of(high)?)
    }
}

/// A span of time, written `"30 s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub struct Span(pub Duration);

impl Span {
    /// Whole seconds.
    #[must_use]
    pub fn as_secs(self) -> u64 {
        self.0.as_secs()
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = self.0.as_millis();
        let unit = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)]
            .into_iter()
            .find(|(_, n)| ms >= *n && ms.is_multiple_of(*n));
        match unit {
            Some((name, n)) => write!(f, "{} {name}", ms / n),
            None => write!(f, "{ms} ms"),
        }
    }
}

fn span_of(text: &str) -> Result<Span, String> {
    let wrong = || format!("{text:?} is not a span of time; write for example \"30 s\" (ms, s, min, h, d)");
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let ms = match text[digits..].trim() {
        "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(ms).map(|ms| Span(Duration::from_millis(ms))).ok_or_else(wrong)
}

/// The same text as in the document: `30 s`.
impl std::str::FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        span_of(text)
    }
}

impl Value for Span {
    fn read(item: &Item) -> Result<Self, String> {
        span_of(&text_of(item, "a span of time like \"30 s\"")?)
    }
    fn kind() -> String {
        "span of time (ms, s, min, h, d)".into()
    }
    fn within(&self, low: &str, high: &str) -> Result<(), String> {
        between(self, &span_of(low)?, &span_of(high)?)
    }
}

impl Value for SocketAddr {
    fn read(item: &Item) -> Result<Self, String> {
        let text = text_of(item, "an address with port")?;
        text.parse()
            .map_err(|_| format!("{text:?} is not an address with port; write for example \"192.0.2.1:25\" or \"[::]:25\""))
    }
    fn kind() -> String {
        "address with port".into()
    }
}

impl Value for std::net::IpAddr {
    fn read(item: &Item) -> Result<Self, String> {
        let text = text_of(item, "an address")?;
        text.parse().map_err(|_| format!("{text:?} is not an address; write for example \"192.0.2.1\" or \"2001:db8::1\""))
    }
    fn kind() -> String {
        "address".into()
    }
}

/// An IP network, `"10.0.0.0/8"` or a single address.
impl Value for (std::net::IpAddr, u8) {
    fn read(item: &Item) -> Result<Self, String> {
        let text = text_of(item, "a network")?;
        let wrong = || format!("{text:?} is not a network; write for example \"10.0.0.0/8\" or \"2001:db8::/32\"");
        let (ip, bits) = text.split_once('/').map_or((text.as_str(), None), |(ip, bits)| (ip, Some(bits)));
        let ip: std::net::IpAddr = ip.parse().map_err(|_| wrong())?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |b| b.parse::<u8>().map_err(|_| wrong()))?;
        if bits <= most { Ok((ip, bits)) } else { Err(wrong()) }
    }
    fn kind() -> String {
        "network".into()
    }
}

/// A host name or address with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Value for HostPort {
    fn read(item: &Item) -> Result<Self, String> {
        let text = text_of(item, "a host with port")?;
        let wrong = || format!("{text:?} is not a host with port; write for example \"relay.example:587\"");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| wrong())? })
    }
    fn kind() -> String {
        "host:port".into()
    }
}

/// Where the tables are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseAddress {
    /// SQLite files in the data folder.
    Sqlite,
    /// A PostgreSQL server.
    Postgres(String),
}

impl Value for DatabaseAddress {
    fn read(item: &Item) -> Result<Self, String> {
        let text = text_of(item, "\"sqlite\" or \"postgres://...\"")?;
        match text.as_str() {
            "sqlite" => Ok(Self::Sqlite),
            url if url.starts_with("postgres://") => Ok(Self::Postgres(text)),
            _ => Err(format!("{text:?} is neither \"sqlite\" nor an address that begins with postgres://")),
        }
    }
    fn kind() -> String {
        "\"sqlite\" or \"postgres://user@host/database\"".into()
    }
}

/// A part of the day, written `"22:00-07:00"`; over midnight when it ends before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayHours {
    /// First minute of the day, 0 to 1439.
    pub from_min: u16,
    /// Minute that is outside again, 0 to 1440.
    pub to_min: u16,
}

/// `07:30` as minutes.
fn clock(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let (h, m): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours.len() == 2 && minutes.len() == 2 && h <= 24 && m <= 59 && h * 60 + m <= 1440).then_some(h * 60 + m)
}

impl Value for DayHours {
    fn read(item: &Item) -> Result<Self, String> {
        let text = text_of(item, "a part of the day")?;
        let wrong = || format!("{text:?} is no part of the day; write for example \"22:00-07:00\"");
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        match (clock(from), clock(to)) {
            (Some(from_min), Some(to_min)) if from_min < 1440 && from_min != to_min => Ok(Self { from_min, to_min }),
            _ => Err(wrong()),
        }
    }
    fn kind() -> String {
        "part of the day, \"22:00-07:00\"".into()
    }
}

/// A clock's distance from UTC, written `"+08:00"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneOffset {
    /// Minutes east of UTC.
    pub minutes: i16,
}

impl Value for ZoneOffset {
    fn read(item: &Item) -> Result<Self, String> {
        let text = text_of(item, "a distance from UTC")?;
        let wrong = || format!("{text:?} is no distance from UTC; write for example \"+08:00\"");
        let (sign, rest) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(rest), _) => (1, rest),
            (_, Some(rest)) => (-1, rest),
            _ => return Err(wrong()),
        };
        let minutes = clock(rest).and_then(|m| i16::try_from(m).ok()).filter(|m| *m <= 14 * 60).ok_or_else(wrong)?;
        Ok(Self { minutes: sign * minutes })
    }
    fn kind() -> String {
        "distance from UTC, \"+08:00\"".into()
    }
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $( $(#[$vdoc:meta])* $variant:ident = $text:literal ),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $( $(#[$vdoc])* $variant, )+ }
        impl Value for $name {
            fn read(item: &Item) -> Result<Self, String> {
                let text = text_of(item, &Self::kind())?;
                match text.as_str() {
                    $( $text => Ok(Self::$variant), )+
                    _ => Err(format!("{text:?} is not one of {}", Self::kind())),
                }
            }
            fn kind() -> String { [$(concat!("\"", $text, "\"")),+].join(" or ") }
        }
    };
}

choice!(/// What to do with a bare CR or LF inside a message.
    BareLineEnds { /// Answer 554: the sender must repair it.
        Refuse = "refuse", /// Make it CRLF; it still never ends the message.
        Repair = "repair" });
choice!(/// The answer to mail for a full mailbox.
    OverQuota { /// 452: the sender tries again later.
        Defer = "defer", /// 552: the sender is told at once.
        Refuse = "refuse" });
choice!(/// How log lines look.
    LogForm { /// For people.
        Text = "text", /// One JSON object a line.
        Json = "json" });
choice!(/// TLS toward the smart host.
    SmartHostTls { /// From the first byte (port 465).
        Implicit = "implicit", /// STARTTLS, and nothing is sent without it.
        Starttls = "starttls", /// STARTTLS when offered.
        Opportunistic = "opportunistic" });
choice!(/// Which people with an account may write to numbers.
    SmsSenders { /// Everybody.
        All = "all", /// Nobody.
        Nobody = "nobody", /// Those in `senders`.
        Listed = "listed", /// Domain admins and operators.
        Admins = "admins", /// Operators.
        Operators = "operators" });
choice!(/// When the subject becomes the first line of a text.
    SmsSubject { /// Never.
        Never = "never", /// Always.
        Always = "always", /// When the mail has no text.
        IfNoText = "if-no-text" });
choice!(/// Language of sentences.
    SmsLanguage { /// Simplified Chinese.
        Chinese = "zh-CN", /// English.
        English = "en" });
choice!(/// When a delivery report is asked of the network.
    SmsReports { /// Never.
        Never = "never", /// When the sender asked for one.
        OnRequest = "on-request", /// For each text.
        Always = "always" });
choice!(/// Which proofs let a node take over.
    TakeoverRule { /// Release, fenced, witness, reservation.
        Proof = "proof", /// Also evidence.
        Evidence = "evidence" });
choice!(/// Where the mail volume of a pair lies.
    StorageDriver { /// A folder that both nodes see, guarded by a lock file.
        Shared = "shared", /// A dual-attached array with SCSI-3 reservations.
        Array = "array", /// A disk in each node, mirrored.
        Drbd = "drbd" });
choice!(/// What switches the peer's power.
    SwitchDriver { /// Nothing does.
        None = "none", /// A management controller, by ipmitool.
        Ipmi = "ipmi", /// A management controller, by HTTP.
        Redfish = "redfish", /// A relay on a serial port.
        Relay = "relay", /// The peer is a virtual machine.
        Qmp = "qmp" });
choice!(/// What knows who may serve.
    WitnessEngine { /// Nobody.
        None = "none", /// `twinpost witness`.
        Twinpost = "twinpost", /// etcd v3.
        Etcd = "etcd" });
