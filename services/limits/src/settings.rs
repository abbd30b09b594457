//! Limits and their defaults: generous enough that a school of a thousand people behind one address works.

use crate::Protocol;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Cost unit of connection rates: quotas by protocol become costs of one shared quota. Divisible by the usual values.
pub(crate) const RATE_UNIT: u32 = 3_600_000;

/// All limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Mail from other servers.
    pub smtp: ProtocolSettings,
    /// Submission by people.
    pub submission: ProtocolSettings,
    /// IMAP: clients hold several connections each, all day.
    pub imap: ProtocolSettings,
    /// POP3: short connections.
    pub pop3: ProtocolSettings,
    /// Web pages.
    pub web: ProtocolSettings,
    /// Commands a minute from one address, all protocols together.
    pub commands_per_minute: u32,
    /// Recipients an hour of one account.
    pub recipients_per_hour: u32,
    /// Messages a minute of one signed-in account.
    pub messages_per_minute_account: u32,
    /// Messages a minute from one address without sign-in (another mail server).
    pub messages_per_minute_address: u32,
    /// Failed sign-ins.
    pub sign_in: SignInSettings,
    /// Networks without limits: the administrators' LAN, a monitoring host, a load test.
    pub exempt: Vec<Network>,
    /// No limits for this machine itself.
    pub exempt_loopback: bool,
    /// Addresses, and accounts, remembered at most in each table.
    pub remembered_max: usize,
    /// One log line for each source in this time, in seconds.
    pub report_period_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        let protocol = |connections_total, connections_per_address, connections_per_minute| ProtocolSettings {
            connections_total,
            connections_per_address,
            connections_per_minute,
        };
        Self {
            smtp: protocol(2_000, 100, 600),
            submission: protocol(4_000, 1_000, 3_000),
            imap: protocol(20_000, 5_000, 6_000),
            pop3: protocol(4_000, 1_000, 6_000),
            web: protocol(10_000, 5_000, 12_000),
            commands_per_minute: 120_000,
            recipients_per_hour: 3_000,
            messages_per_minute_account: 120,
            messages_per_minute_address: 3_000,
            sign_in: SignInSettings::default(),
            exempt: Vec::new(),
            exempt_loopback: true,
            remembered_max: 65_536,
            report_period_s: 600,
        }
    }
}

impl Settings {
    pub(crate) fn protocol(&self, protocol: Protocol) -> &ProtocolSettings {
        match protocol {
            Protocol::Smtp => &self.smtp,
            Protocol::Submission => &self.submission,
            Protocol::Imap => &self.imap,
            Protocol::Pop3 => &self.pop3,
            Protocol::Web => &self.web,
        }
    }
}

/// Connection limits of one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtocolSettings {
    /// At once, from everywhere.
    pub connections_total: u32,
    /// At once from one address.
    pub connections_per_address: u32,
    /// New ones a minute from one address.
    pub connections_per_minute: u32,
}

/// How guessing is slowed down.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignInSettings {
    /// Failures of one account (from addresses where it never signed in) before delays begin.
    pub free_account: u32,
    /// Failures from one address before delays begin.
    pub free_address: u32,
    /// The longest delay in milliseconds. Clients give up after 30 to 60 seconds: it stays well below.
    pub delay_max_ms: u64,
    /// From so many failures on, an address is refused for a while without a check.
    pub refuse_address: u32,
    /// In this time in seconds half of the failures are forgotten: a refused address gets on within it.
    pub half_life_s: u64,
    /// How long in seconds an address counts as known for an account after a sign-in.
    pub known_s: u64,
}

impl Default for SignInSettings {
    fn default() -> Self {
        Self {
            free_account: 5,
            free_address: 20,
            delay_max_ms: 15_000,
            refuse_address: 100,
            half_life_s: 600,
            known_s: 30 * 86_400,
        }
    }
}

/// A network, `192.0.2.0/24` or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a network is written as address/bits, such as 192.168.10.0/24 or 2001:db8::/32")]
pub struct NetworkError;

impl Network {
    /// The address is in the network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (a.to_bits() ^ b.to_bits()).checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                (a.to_bits() ^ b.to_bits()).checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(bits), |p| p.parse().map_err(|_| NetworkError))?;
        if prefix > bits { Err(NetworkError) } else { Ok(Self { address, prefix }) }
    }
}
impl TryFrom<String> for Network {
    type Error = NetworkError;
    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}
impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
