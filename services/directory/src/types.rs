//! What the directory holds, as callers see it. All listing types serialise: the command line prints them as tables or JSON.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use twinpost_message::{AccountId, Address, DomainId};

/// What an account may do beyond reading its own mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Nothing more.
    #[default]
    User,
    /// Administers the accounts, aliases and groups of its own domain.
    DomainAdmin,
    /// Administers the whole appliance.
    Operator,
}

/// The language in which the appliance writes to an account.
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

/// A door through which an account can come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Service {
    /// Sending mail by SMTP (587, 465).
    Submission,
    /// Reading by IMAP.
    Imap,
    /// Reading by POP3.
    Pop3,
    /// Reading and sending by JMAP.
    Jmap,
    /// The web pages.
    Web,
    /// Sending short messages through the modem.
    Sms,
    /// Editing filter scripts (RFC 5804).
    Sieve,
    /// Calendars and contacts.
    Dav,
}

macro_rules! names {
    ($type:ident, $what:literal, $($variant:ident = $name:literal),+) => {
        impl $type {
            /// All values.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The name in tables, JSON and CSV.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(self.name()) }
        }
        impl FromStr for $type {
            type Err = UnknownName;
            fn from_str(text: &str) -> Result<Self, UnknownName> {
                Self::ALL.iter().copied().find(|v| v.name().eq_ignore_ascii_case(text.trim())).ok_or_else(|| UnknownName {
                    what: $what,
                    given: text.chars().take(60).collect(),
                    known: [$($name),+].join(", "),
                })
            }
        }
    };
}
names!(Role, "role", User = "user", DomainAdmin = "domain_admin", Operator = "operator");
names!(Language, "language", ZhCn = "zh-CN", En = "en");
names!(
    Service,
    "service",
    Submission = "submission",
    Imap = "imap",
    Pop3 = "pop3",
    Jmap = "jmap",
    Web = "web",
    Sms = "sms",
    Sieve = "sieve",
    Dav = "dav"
);

/// A word that stands for nothing here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a {what}: write one of {known}")]
pub struct UnknownName {
    /// What was expected.
    pub what: &'static str,
    /// What was written.
    pub given: String,
    /// What could have been written.
    pub known: String,
}

/// A set of [`Service`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "Vec<Service>", from = "Vec<Service>")]
pub struct Services(pub(crate) u16);

impl Services {
    /// Every service.
    pub const ALL: Self = Self((1 << Service::ALL.len()) - 1);
    /// None.
    pub const NONE: Self = Self(0);
    /// The set holds this service.
    #[must_use]
    pub fn allows(self, service: Service) -> bool {
        self.0 & (1 << service as u8) != 0
    }
    /// What is in both sets.
    #[must_use]
    pub fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    /// The services in it.
    pub fn iter(self) -> impl Iterator<Item = Service> {
        Service::ALL.iter().copied().filter(move |s| self.allows(*s))
    }
}
impl Default for Services {
    fn default() -> Self {
        Self::ALL
    }
}
impl From<Vec<Service>> for Services {
    fn from(list: Vec<Service>) -> Self {
        list.into_iter().collect()
    }
}
impl From<Services> for Vec<Service> {
    fn from(set: Services) -> Self {
        set.iter().collect()
    }
}
impl FromIterator<Service> for Services {
    fn from_iter<I: IntoIterator<Item = Service>>(list: I) -> Self {
        Self(list.into_iter().fold(0, |set, s| set | (1 << s as u8)))
    }
}
impl fmt::Display for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALL => f.pad("all"),
            Self::NONE => f.pad("none"),
            some => f.pad(&some.iter().map(Service::name).collect::<Vec<_>>().join(" ")),
        }
    }
}
/// `all`, `none`, or names divided by spaces, commas or semicolons.
impl FromStr for Services {
    type Err = UnknownName;
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text.trim() {
            t if t.eq_ignore_ascii_case("all") => Ok(Self::ALL),
            t if t.eq_ignore_ascii_case("none") => Ok(Self::NONE),
            t => t.split([' ', ',', ';']).filter(|w| !w.is_empty()).map(str::parse).collect(),
        }
    }
}

/// Whether a domain or account is served. Times are seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// In service.
    Active,
    /// Kept with all its mail, but not served: no sign-in, no delivery.
    Suspended,
    /// Deleted; can be restored until then.
    Deleted {
        /// When it is purged.
        purge_at_s: i64,
    },
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleted { .. } => "deleted",
        })
    }
}

/// Limits and rules of a domain. `None` means: no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DomainSettings {
    /// All mail of the domain together.
    pub quota_bytes: Option<u64>,
    /// All messages of the domain together.
    pub quota_messages: Option<u64>,
    /// For accounts that have no value of their own.
    pub account_quota_bytes: Option<u64>,
    /// For accounts that have no value of their own.
    pub account_quota_messages: Option<u64>,
    /// How many accounts the domain may have.
    pub max_accounts: Option<u32>,
    /// Largest message that the domain's accounts send or receive, unless they have a value of their own.
    pub max_message_bytes: Option<u64>,
    /// Who gets mail for names that do not exist. `None`: such mail is refused.
    pub catch_all: Option<Address>,
    /// `anna+books@` reaches `anna@`, folder hint `books`. `None`: off.
    pub plus_separator: Option<char>,
    /// What a new account may use.
    pub services: Services,
    /// Language of a new account.
    pub language: Language,
}

impl Default for DomainSettings {
    fn default() -> Self {
        Self {
            quota_bytes: None,
            quota_messages: None,
            account_quota_bytes: None,
            account_quota_messages: None,
            max_accounts: None,
            max_message_bytes: None,
            catch_all: None,
            plus_separator: Some('+'),
            services: Services::ALL,
            language: Language::default(),
        }
    }
}

/// A domain as listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Domain {
    /// Its number, never used again.
    pub id: DomainId,
    /// Its name: lower case, Unicode.
    pub name: String,
    /// Other names; mail to x@alias is mail to x@name.
    pub aliases: Vec<String>,
    /// Whether it is served.
    #[serde(flatten)]
    pub state: State,
    /// Limits and rules.
    pub settings: DomainSettings,
    /// Accounts that are not deleted.
    pub accounts: u32,
    /// When it was added.
    pub created_s: i64,
}

/// An account as listed: its own values, before the domain's defaults are put in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Its number, never used again.
    pub id: AccountId,
    /// Number of its domain.
    pub domain_id: DomainId,
    /// Its address in normal form.
    pub address: Address,
    /// The person's name, or empty.
    pub display_name: String,
    /// What it may do.
    pub role: Role,
    /// Language of the appliance's own mail to it.
    pub language: Language,
    /// Whether it is served.
    #[serde(flatten)]
    pub state: State,
    /// What it may use.
    pub services: Services,
    /// Own quota. `None`: the domain's default; `Some(0)`: no limit.
    pub quota_bytes: Option<u64>,
    /// Own quota. `None`: the domain's default; `Some(0)`: no limit.
    pub quota_messages: Option<u64>,
    /// Own limit. `None`: the domain's; `Some(0)`: no limit.
    pub max_message_bytes: Option<u64>,
    /// What holds in the end.
    pub limits: Limits,
    /// When it was added.
    pub created_s: i64,
}

/// What holds for an account after the domain's defaults were put in. `None` means: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// The account's mail.
    pub account_bytes: Option<u64>,
    /// The account's messages.
    pub account_messages: Option<u64>,
    /// The mail of all accounts of its domain.
    pub domain_bytes: Option<u64>,
    /// The messages of all accounts of its domain.
    pub domain_messages: Option<u64>,
    /// One message.
    pub max_message_bytes: Option<u64>,
}

/// An address that leads to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alias {
    /// The address.
    pub address: Address,
    /// Where its mail goes: here or elsewhere.
    pub targets: Vec<Address>,
}

/// Who may write to a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "who", content = "addresses")]
pub enum Senders {
    /// Anyone on earth.
    #[default]
    Anyone,
    /// Its members.
    Members,
    /// Signed-in accounts of the group's domain.
    Domain,
    /// These addresses (and nobody else).
    Listed(Vec<Address>),
}

/// A group: one address, many members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The address.
    pub address: Address,
    /// Its name for people.
    pub display_name: String,
    /// Accounts, aliases, groups, or addresses elsewhere.
    pub members: Vec<Address>,
    /// Who may write to it.
    pub senders: Senders,
    /// A member may send with the group's address as sender.
    pub members_send_as: bool,
}

/// Whom a sign-in turned out to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The account.
    pub account: AccountId,
    /// Its domain.
    pub domain: DomainId,
    /// Its address in normal form.
    pub address: Address,
    /// The person's name, or empty.
    pub display_name: String,
    /// What it may do.
    pub role: Role,
    /// Its language.
    pub language: Language,
    /// What it may use; with an app password only what that one is for.
    pub services: Services,
    /// Quotas and sizes.
    pub limits: Limits,
    /// The name of the app password it came in with.
    pub app_password: Option<String>,
}

/// A password for one program, as listed: random, revocable, shown once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AppPassword {
    /// Its name, unique in the account.
    pub name: String,
    /// What it is good for.
    pub services: Services,
    /// When it was made.
    pub created_s: i64,
}

/// An account whose time to be restored is over: delete its mail, then call `Directory::purged`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Purge {
    /// The account.
    pub account: AccountId,
    /// Its domain.
    pub domain: DomainId,
    /// Its address.
    pub address: Address,
}

/// Who changed what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// Grows by time.
    pub id: i64,
    /// When, seconds since 1970.
    pub at_s: i64,
    /// Who, in the caller's words: an account, a program, a node.
    pub actor: String,
    /// What was done: `account.add`, `domain.suspend`, ...
    pub action: String,
    /// To which domain, account, alias or group.
    pub subject: String,
    /// With which values; never a password.
    pub detail: String,
}
