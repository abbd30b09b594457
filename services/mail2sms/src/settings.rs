//! What an administrator can choose about the gateway, with what holds when nothing is chosen.
//!
//! Contract: plain data; nothing here is checked. [`crate::Policy::new`] checks it and names the key at fault.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// All choices of the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Domains whose local parts are telephone numbers: `mail2sms.example`. None: the gateway is off. The first one is
    /// where answers come from.
    pub domains: Vec<String>,
    /// How numbers are written here.
    pub numbers: Numbers,
    /// Who may write to numbers.
    pub who: Who,
    /// PINs that must stand behind the number: `13800138000.4711@...`.
    pub pins: Pins,
    /// How much may be sent.
    pub quotas: Quotas,
    /// Most parts of one text: 1 to 255. 6 parts hold 402 Chinese characters or 918 Latin ones.
    pub parts_max: u8,
    /// Most numbers that one mail may go to, members of groups counted: 1 to 500.
    pub numbers_per_mail_max: u16,
    /// Names that stand for several numbers.
    pub groups: BTreeMap<String, Group>,
    /// When ordinary texts wait. None: never.
    pub quiet: Option<Quiet>,
    /// Minutes east of UTC: days of quotas and hours of rules are counted by it. 480 is China.
    pub zone_min: i16,
    /// How the text is made of the mail.
    pub text: Text,
    /// Language of sentences to people who have not chosen one.
    pub language: Language,
    /// How long an answer by SMS finds its way back, in days: 1 to 90.
    pub reply_days: u16,
    /// Where an SMS goes that answers nobody: a mail address. None: it is logged and dropped.
    pub strays_to: Option<String>,
    /// When a delivery report is asked of the network.
    pub reports: ReportMode,
    /// Notices of new mail.
    pub notices: Notices,
    /// How long audit lines are kept, in days.
    pub audit_days: u16,
    /// How long statistics are kept, in days.
    pub statistics_days: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            numbers: Numbers::default(),
            who: Who::default(),
            pins: Pins::default(),
            quotas: Quotas::default(),
            parts_max: 6,
            numbers_per_mail_max: 50,
            groups: BTreeMap::new(),
            quiet: None,
            zone_min: 480,
            text: Text::default(),
            language: Language::ZhCn,
            reply_days: 7,
            strays_to: None,
            reports: ReportMode::OnRequest,
            notices: Notices::default(),
            audit_days: 180,
            statistics_days: 400,
        }
    }
}

/// How numbers are written at this site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Numbers {
    /// Home country code without `+`: `86`.
    pub country: String,
    /// What is dialled before a national number and is no part of it internationally: `0`. Empty: nothing.
    pub trunk_prefix: String,
    /// What is dialled instead of `+`: `00`.
    pub international_prefix: String,
    /// Least and most digits of a national number without its trunk prefix.
    pub national_digits: (u8, u8),
    /// National numbers that begin so have exactly so many digits: finds mistyped mobile numbers. China: `13` to `19` have
    /// 11 (`10` is a line in Beijing).
    pub exact_digits: Vec<(String, u8)>,
    /// Numbers that are shorter than national ones and may be written to, as they are dialled: `10086`.
    pub short: Vec<String>,
    /// Beginnings of international numbers that are allowed, with `+`: `+86`, `+852`; `+` means every country. None given: the
    /// home country only.
    pub allowed: Vec<String>,
    /// Beginnings that are forbidden, with `+`; the longest beginning decides between allowed and forbidden.
    pub forbidden: Vec<String>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            country: "86".to_owned(),
            trunk_prefix: "0".to_owned(),
            international_prefix: "00".to_owned(),
            national_digits: (7, 12),
            exact_digits: (13..=19).map(|begins: u8| (begins.to_string(), 11)).collect(),
            short: Vec::new(),
            allowed: Vec::new(),
            forbidden: Vec::new(),
        }
    }
}

/// Who may write to numbers. People are written as addresses (`anna@school.example`), whole domains (`school.example`),
/// or domains with all below them (`.school.example`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Who {
    /// Which of the people with an account here, signed in.
    pub signed_in: SignedIn,
    /// Senders elsewhere. A sender address can be forged, so each of them needs a PIN unless `outside_without_pin` says otherwise.
    pub outside: Vec<String>,
    /// Senders elsewhere need no PIN: right only where a server in front of this one checks who they are.
    pub outside_without_pin: bool,
    /// Nobody of these, whatever else says yes.
    pub denied: Vec<String>,
}

impl Default for Who {
    fn default() -> Self {
        Self { signed_in: SignedIn::All, outside: Vec::new(), outside_without_pin: false, denied: Vec::new() }
    }
}

/// Which people with an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignedIn {
    /// Nobody.
    Nobody,
    /// Everybody.
    #[default]
    All,
    /// These addresses and domains.
    Listed(Vec<String>),
    /// Those who have at least this role.
    AtLeast(Role),
}

/// What an account may administer, lowest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Nothing more than itself.
    #[default]
    User,
    /// Its domain.
    DomainAdmin,
    /// The appliance.
    Operator,
}

/// Language of what the gateway says to a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Language {
    /// Simplified Chinese.
    #[default]
    #[serde(rename = "zh-CN")]
    ZhCn,
    /// English.
    #[serde(rename = "en")]
    En,
}

/// A PIN: 4 to 16 ASCII letters and digits; the case of letters does not matter, as telephones change it. Never shown.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pin(String);

impl Pin {
    /// Takes a PIN as written; [`crate::Policy::new`] checks it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    /// 4 to 16 ASCII letters and digits.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        (4..=16).contains(&self.0.len()) && self.0.bytes().all(|b| b.is_ascii_alphanumeric())
    }
    /// The given text is this PIN. Takes the same time wherever they differ.
    #[must_use]
    pub fn is(&self, given: &str) -> bool {
        let differs = |(a, b): (u8, u8)| a.to_ascii_lowercase() ^ b.to_ascii_lowercase();
        given.len() == self.0.len() && self.0.bytes().zip(given.bytes()).map(differs).fold(0, |all, d| all | d) == 0
    }
}
impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(...)")
    }
}
impl PartialEq for Pin {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}
impl Eq for Pin {}

/// Who must write a PIN; the closest rule decides: account, then domain of the sender, then everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pins {
    /// Everybody.
    pub everybody: Option<Pin>,
    /// Senders of a domain.
    pub domains: BTreeMap<String, Pin>,
    /// One sender.
    pub accounts: BTreeMap<String, Pin>,
}

/// How many parts may be sent a day. None: no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// Each account, or each sender elsewhere.
    pub account: Option<u32>,
    /// Each domain of senders.
    pub domain: Option<u32>,
    /// Accounts with a number of their own.
    pub accounts: BTreeMap<String, u32>,
    /// Domains with a number of their own.
    pub domains: BTreeMap<String, u32>,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { account: Some(100), domain: Some(2000), accounts: BTreeMap::new(), domains: BTreeMap::new() }
    }
}

/// A name for several numbers: `class3a@mail2sms.example`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Group {
    /// The numbers, in any form that an address may have; at most 500.
    pub numbers: Vec<String>,
    /// Only these senders (as in [`Who`]); none given: everybody who may write to numbers at all.
    pub senders: Vec<String>,
}

/// A part of the day, by the site's clock: from the minute `from_min` to before `to_min`, over midnight when that is smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// First minute of the day, 0 to 1439.
    pub from_min: u16,
    /// Minute that is outside again, 0 to 1440.
    pub to_min: u16,
}

/// When ordinary texts wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quiet {
    /// From when to when.
    pub hours: Hours,
    /// Mail that is marked urgent goes out all the same.
    pub urgent_passes: bool,
}

/// How a text is made of a mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Text {
    /// The subject as first line.
    pub subject: SubjectLine,
    /// Signatures are left out.
    pub cut_signature: bool,
    /// What the mail quotes is left out.
    pub cut_quotes: bool,
    /// Typographic quotes and dashes become plain ones when the whole text then fits the 7-bit alphabet, which costs half.
    pub plain_punctuation: bool,
    /// Last line; `{name}` and `{address}` are the sender's. None: no such line.
    pub footer: Option<String>,
}

impl Default for Text {
    fn default() -> Self {
        Self { subject: SubjectLine::IfNoText, cut_signature: true, cut_quotes: true, plain_punctuation: true, footer: None }
    }
}

/// When the subject becomes the first line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectLine {
    /// Never.
    Never,
    /// Always, when the mail has one.
    Always,
    /// When the mail has no text: many write a short message into the subject.
    #[default]
    IfNoText,
}

/// When a delivery report is asked of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportMode {
    /// Never.
    Never,
    /// When the sender asked for one: NOTIFY=SUCCESS, or a receipt asked for in the mail.
    #[default]
    OnRequest,
    /// For each text: statistics know what arrived. The sender is told only when asked for.
    Always,
}

/// Notices of new mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notices {
    /// Accounts may have rules at all.
    pub enabled: bool,
    /// Most notices of an account a day; its own rules may say less.
    pub per_day_max: u16,
    /// Most parts of one notice.
    pub parts_max: u8,
    /// Most rules of one account.
    pub rules_max: u8,
}

impl Default for Notices {
    fn default() -> Self {
        Self { enabled: true, per_day_max: 20, parts_max: 1, rules_max: 20 }
    }
}
