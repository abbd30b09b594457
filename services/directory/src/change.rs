//! What callers hand in to add or change something. A field that is `None` in a `...Change` stays as it is.

use crate::types::{DomainSettings, Language, Role, Senders, Services};
use twinpost_message::Address;

/// A password as it is handed in.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum NewPassword {
    /// No sign-in with a password of its own.
    #[default]
    None,
    /// The password itself; the rules for passwords apply.
    Plain(String),
    /// A hash of another system: `$1$`, `$5$`, `$6$`, `$2a$`/`$2b$`/`$2y$`, `$argon2id$`, also behind a `{SCHEME}`.
    Hash(String),
}

impl std::fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Plain(_) => "Plain(..)",
            Self::Hash(_) => "Hash(..)",
        })
    }
}

/// A new account. `Default` is a user with its domain's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewAccount {
    /// How it signs in.
    pub password: NewPassword,
    /// The person's name.
    pub display_name: String,
    /// What it may do.
    pub role: Role,
    /// `None`: the domain's.
    pub language: Option<Language>,
    /// `None`: the domain's.
    pub services: Option<Services>,
    /// `None`: the domain's default; `Some(0)`: no limit.
    pub quota_bytes: Option<u64>,
    /// `None`: the domain's default; `Some(0)`: no limit.
    pub quota_messages: Option<u64>,
    /// `None`: the domain's; `Some(0)`: no limit.
    pub max_message_bytes: Option<u64>,
    /// Made, but not served yet.
    pub suspended: bool,
}

/// Changes of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountChange {
    /// The person's name.
    pub display_name: Option<String>,
    /// What it may do.
    pub role: Option<Role>,
    /// Its language.
    pub language: Option<Language>,
    /// What it may use.
    pub services: Option<Services>,
    /// `Some(None)`: the domain's default; `Some(Some(0))`: no limit.
    pub quota_bytes: Option<Option<u64>>,
    /// `Some(None)`: the domain's default; `Some(Some(0))`: no limit.
    pub quota_messages: Option<Option<u64>>,
    /// `Some(None)`: the domain's; `Some(Some(0))`: no limit.
    pub max_message_bytes: Option<Option<u64>>,
}

/// A new domain with its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewDomain {
    /// Limits and rules.
    pub settings: DomainSettings,
    /// Other names.
    pub aliases: Vec<String>,
}

/// A new group. `Default` is empty and open to anyone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewGroup {
    /// Its name for people.
    pub display_name: String,
    /// Accounts, aliases, groups, or addresses elsewhere.
    pub members: Vec<Address>,
    /// Who may write to it.
    pub senders: Senders,
    /// A member may send with the group's address.
    pub members_send_as: bool,
}

/// Changes of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupChange {
    /// Its name for people.
    pub display_name: Option<String>,
    /// Members that come.
    pub add_members: Vec<Address>,
    /// Members that go.
    pub remove_members: Vec<Address>,
    /// Who may write to it.
    pub senders: Option<Senders>,
    /// A member may send with the group's address.
    pub members_send_as: Option<bool>,
}

/// How much work a password hash is. The default follows OWASP's smallest advice for Argon2id: 19 MiB of memory, two
/// passes, one lane: 15 to 40 ms on one core of a small box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashCost {
    /// Argon2id memory.
    pub memory_kib: u32,
    /// Argon2id passes.
    pub passes: u32,
    /// PBKDF2 rounds of SCRAM-SHA-256 (RFC 7677 4: at least 4096).
    pub scram_iterations: u32,
}

impl Default for HashCost {
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, passes: 2, scram_iterations: 10_000 }
    }
}

/// How the directory behaves. Times in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A name without `@` at sign-in belongs to this domain. `None`: to the only domain, when there is just one.
    pub default_domain: Option<String>,
    /// How long a deleted account or domain can be restored.
    pub grace_s: i64,
    /// Fewest characters of a new password.
    pub password_min_chars: usize,
    /// Cost of hashes.
    pub cost: HashCost,
    /// Password hashes worked on at once. Each takes `cost.memory_kib` and one core.
    pub verifications_at_once: usize,
    /// Sign-ins that may wait for their turn; one more is answered "busy".
    pub verifications_waiting: usize,
    /// How long a verified password is remembered (in memory, as a keyed hash).
    pub remember_s: u64,
    /// How many verified passwords are remembered.
    pub remember_max: usize,
    /// Connections that read from the database.
    pub readers: u32,
}

impl Default for Settings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            default_domain: None,
            grace_s: 30 * 86_400,
            password_min_chars: 8,
            cost: HashCost::default(),
            verifications_at_once: cores.div_ceil(2).max(1),
            verifications_waiting: 256,
            remember_s: 600,
            remember_max: 20_000,
            readers: 2,
        }
    }
}
