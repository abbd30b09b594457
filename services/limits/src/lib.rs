//! One limiter for SMTP, IMAP, POP3 and the web: connections, commands, sign-ins, recipients, messages.
//!
//! Contract: pure memory, no I/O but log lines; every table is bounded, and what does not fit is forgotten in favour of
//! what is busiest. Rates are GCRA (governor). Time comes from a [`Clock`] that tests turn by hand. IPv6 clients count
//! by their /64. Nobody is ever locked out for good: all state decays.
//!
//! Failure classes: a [`Refused`] names the limit and when another try makes sense; the protocol words it (SMTP 421 or
//! 450, IMAP `NO [LIMIT]`, POP3 `-ERR [SYS/TEMP]`). Nothing here fails otherwise.

mod bounded;
mod clock;
mod report;
mod settings;
mod sign_in;

pub use clock::Clock;
pub use report::Report;
pub use settings::{Network, NetworkError, ProtocolSettings, Settings, SignInSettings};

use bounded::BoundedStore;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::{Quota, RateLimiter};
use parking_lot::{Mutex, RwLock};
use report::{Incident, Reports};
use sign_in::SignIns;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use twinpost_sasl::{Denied, Guard};

/// Who asks. Each has its own connection limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Port 25, mail from other servers.
    Smtp,
    /// Ports 587 and 465.
    Submission,
    /// IMAP.
    Imap,
    /// POP3.
    Pop3,
    /// Web pages and JMAP.
    Web,
}

/// Which limit was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Connections at once from one address.
    Connections,
    /// Connections at once in all.
    ConnectionsTotal,
    /// New connections a minute from one address.
    ConnectionRate,
    /// Commands a minute from one address.
    Commands,
    /// Recipients an hour of one account.
    Recipients,
    /// Messages a minute of one account or address.
    Messages,
}

/// A limit was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}, try again in {} s", match limit {
    Limit::Connections => "too many connections at once from your address",
    Limit::ConnectionsTotal => "too many connections",
    Limit::ConnectionRate => "too many new connections from your address",
    Limit::Commands => "too many commands from your address",
    Limit::Recipients => "too many recipients in an hour",
    Limit::Messages => "too many messages in a minute",
}, retry_after.as_secs().max(1))]
pub struct Refused {
    /// Which.
    pub limit: Limit,
    /// When another try makes sense.
    pub retry_after: Duration,
}

/// An address as limits count it: IPv4, or the /64 of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// The source of this address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        })
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => v4.fmt(f),
            IpAddr::V6(v6) => write!(f, "{v6}/64"),
        }
    }
}

/// An account name as a number: tables stay small, and names of unknown accounts (often mistyped passwords) are not kept.
type AccountKey = u64;

type Rate<K> = RateLimiter<K, BoundedStore<K>, Clock, NoOpMiddleware<Nanos>>;

/// The limiter. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Limiter(Arc<Inner>);

struct Inner {
    rules: RwLock<Arc<Rules>>,
    clock: Clock,
    hasher: RandomState,
    open: Mutex<Open>,
    connection_rate: Rate<(Protocol, Source)>,
    sign_ins: Mutex<SignIns>,
    reports: Mutex<Reports>,
}

/// The limits, and what is counted against each quota.
struct Rules {
    settings: Settings,
    commands: Arc<Rate<Source>>,
    recipients: Arc<Rate<AccountKey>>,
    messages_account: Arc<Rate<AccountKey>>,
    messages_address: Arc<Rate<Source>>,
}

impl Rules {
    fn new(settings: Settings, clock: &Clock) -> Self {
        let keys = settings.remembered_max;
        Self {
            commands: Arc::new(rate(per(settings.commands_per_minute, MINUTE), keys, clock)),
            recipients: Arc::new(rate(per(settings.recipients_per_hour, HOUR), keys, clock)),
            messages_account: Arc::new(rate(per(settings.messages_per_minute_account, MINUTE), keys, clock)),
            messages_address: Arc::new(rate(per(settings.messages_per_minute_address, MINUTE), keys, clock)),
            settings,
        }
    }
}

/// Connections now. Never larger than the number of connections.
#[derive(Default)]
struct Open {
    by_source: HashMap<(Protocol, Source), u32>,
    by_protocol: HashMap<Protocol, u32>,
}

fn per(count: u32, period: Duration) -> Quota {
    let count = NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
    Quota::with_period(period / count.get()).expect("a period of a minute or an hour over a u32 is not 0").allow_burst(count)
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

impl Limiter {
    /// With these limits and the system's clock.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::with_clock(settings, Clock::system())
    }

    /// With a clock of one's own.
    #[must_use]
    pub fn with_clock(settings: Settings, clock: Clock) -> Self {
        let keys = settings.remembered_max;
        Self(Arc::new(Inner {
            // The quota of connections differs by protocol, the store does not: the cost of one is scaled.
            connection_rate: rate(per(settings::RATE_UNIT, MINUTE), keys, &clock),
            sign_ins: Mutex::new(SignIns::new(settings.sign_in, keys)),
            reports: Mutex::new(Reports::new(Duration::from_secs(settings.report_period_s))),
            open: Mutex::default(),
            hasher: RandomState::new(),
            rules: RwLock::new(Arc::new(Rules::new(settings, &clock))),
            clock,
        }))
    }

    /// New limits, from now on. What was counted against a quota that stays is kept, as are open connections and failed
    /// sign-ins; sizes of tables, the period of reports and the rules for failed sign-ins stay as they were.
    pub fn set_settings(&self, settings: Settings) {
        let mut place = self.0.rules.write();
        let (old, now) = (Arc::clone(&place), &settings);
        let same = |of: fn(&Settings) -> u32| of(&old.settings) == of(now);
        let (commands, recipients) = (same(|s| s.commands_per_minute), same(|s| s.recipients_per_hour));
        let (account, address) = (same(|s| s.messages_per_minute_account), same(|s| s.messages_per_minute_address));
        let mut new = Rules::new(settings, &self.0.clock);
        if commands {
            new.commands = Arc::clone(&old.commands);
        }
        if recipients {
            new.recipients = Arc::clone(&old.recipients);
        }
        if account {
            new.messages_account = Arc::clone(&old.messages_account);
        }
        if address {
            new.messages_address = Arc::clone(&old.messages_address);
        }
        *place = Arc::new(new);
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.0.rules.read())
    }

    fn account_key(&self, account: &str) -> AccountKey {
        self.0.hasher.hash_one(account.to_lowercase())
    }

    /// This address is not limited at all.
    #[must_use]
    pub fn is_exempt(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let rules = self.0.rules.read();
        (rules.settings.exempt_loopback && address.is_loopback()) || rules.settings.exempt.iter().any(|n| n.contains(address))
    }

    /// A new connection. Keep the permit as long as the connection.
    ///
    /// # Errors
    /// [`Refused`]: close, with the protocol's word for it.
    pub fn connect(&self, protocol: Protocol, address: IpAddr) -> Result<Permit, Refused> {
        let rules = self.rules();
        let limits = rules.settings.protocol(protocol);
        let source = Source::of(address);
        let exempt = self.is_exempt(address);
        let refuse = |limit, retry_after| {
            let _ = self.report(source, &Incident::Refused(limit));
            Err(Refused { limit, retry_after })
        };
        let over = {
            let mut open = self.0.open.lock();
            let total = open.by_protocol.get(&protocol).copied().unwrap_or(0);
            let here = open.by_source.get(&(protocol, source)).copied().unwrap_or(0);
            // The total protects the machine: it holds for everybody.
            if total >= limits.connections_total {
                Some(Limit::ConnectionsTotal)
            } else if !exempt && here >= limits.connections_per_address {
                Some(Limit::Connections)
            } else {
                *open.by_protocol.entry(protocol).or_default() += 1;
                *open.by_source.entry((protocol, source)).or_default() += 1;
                None
            }
        };
        if let Some(limit) = over {
            return refuse(limit, Duration::from_secs(30));
        }
        let permit = Permit { limiter: self.clone(), protocol, source };
        if !exempt {
            let cost = (settings::RATE_UNIT / limits.connections_per_minute.max(1)).max(1);
            if let Err(wait) = check(&self.0.connection_rate, &(protocol, source), cost, &self.0.clock) {
                return refuse(Limit::ConnectionRate, wait);
            }
        }
        Ok(permit)
    }

    /// Connections of this protocol now.
    #[must_use]
    pub fn connections(&self, protocol: Protocol) -> u32 {
        self.0.open.lock().by_protocol.get(&protocol).copied().unwrap_or(0)
    }

    /// `n` commands came. A refusal is best answered by waiting `retry_after` before the next one is read.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn commands(&self, address: IpAddr, n: u32) -> Result<(), Refused> {
        self.rate(&self.rules().commands, &Source::of(address), address, n, Limit::Commands)
    }

    /// An account sends to `n` recipients.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn recipients(&self, account: &str, address: IpAddr, n: u32) -> Result<(), Refused> {
        self.rate(&self.rules().recipients, &self.account_key(account), address, n, Limit::Recipients)
    }

    /// A message comes from an account (when signed in) or else from an address.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn message(&self, account: Option<&str>, address: IpAddr) -> Result<(), Refused> {
        match account {
            Some(account) => self.rate(&self.rules().messages_account, &self.account_key(account), address, 1, Limit::Messages),
            None => self.rate(&self.rules().messages_address, &Source::of(address), address, 1, Limit::Messages),
        }
    }

    fn rate<K: std::hash::Hash + Eq + Clone>(
        &self,
        rate: &Rate<K>,
        key: &K,
        address: IpAddr,
        n: u32,
        limit: Limit,
    ) -> Result<(), Refused> {
        if n == 0 || self.is_exempt(address) {
            return Ok(());
        }
        check(rate, key, n, &self.0.clock).map_err(|retry_after| {
            let _ = self.report(Source::of(address), &Incident::Refused(limit));
            Refused { limit, retry_after }
        })
    }

    /// The sign-in guard of one peer, for [`twinpost_sasl::authenticate`].
    #[must_use]
    pub fn guard(&self, address: IpAddr) -> PeerGuard {
        PeerGuard { limiter: self.clone(), address, told_as: None }
    }

    fn report(&self, source: Source, incident: &Incident<'_>) -> bool {
        self.0.reports.lock().note(source, incident, self.0.clock.elapsed())
    }

    /// Ends the reporting periods that are over and logs one line for each source that guessed passwords or met limits
    /// in them. Called from time to time (every minute); also happens by itself when new incidents come.
    pub fn sweep(&self) -> Vec<Report> {
        self.0.reports.lock().sweep(self.0.clock.elapsed())
    }
}

fn rate<K: std::hash::Hash + Eq + Clone>(quota: Quota, keys: usize, clock: &Clock) -> Rate<K> {
    RateLimiter::new(quota, BoundedStore::new(keys, clock.clone()), clock.clone())
}

fn check<K: std::hash::Hash + Eq + Clone>(rate: &Rate<K>, key: &K, n: u32, clock: &Clock) -> Result<(), Duration> {
    use governor::clock::Clock as _;
    let Some(n) = NonZeroU32::new(n) else { return Ok(()) };
    match rate.check_key_n(key, n) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(not_until)) => Err(not_until.wait_time_from(clock.now())),
        // More at once than ever allowed: waiting does not help, but an hour is an honest word.
        Err(_) => Err(HOUR),
    }
}

/// A connection that counts as long as this lives.
pub struct Permit {
    limiter: Limiter,
    protocol: Protocol,
    source: Source,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.limiter.0.open.lock();
        if let Some(n) = open.by_protocol.get_mut(&self.protocol) {
            *n = n.saturating_sub(1);
        }
        let key = (self.protocol, self.source);
        if let Some(n) = open.by_source.get_mut(&key) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                open.by_source.remove(&key);
                // A thousand clients that left should not be remembered by the size of the table.
                if open.by_source.len() * 8 < open.by_source.capacity() && open.by_source.capacity() > 1024 {
                    open.by_source.shrink_to_fit();
                }
            }
        }
    }
}

/// The sign-in guard of one peer.
#[derive(Clone)]
pub struct PeerGuard {
    limiter: Limiter,
    address: IpAddr,
    /// Each of the first failures gets a line with this name of the protocol.
    told_as: Option<&'static str>,
}

impl PeerGuard {
    /// Each of the first failed sign-ins of a source in a period gets a line in the log, with peer and account: for protocols that
    /// do not tell of it themselves.
    #[must_use]
    pub fn telling(self, protocol: &'static str) -> Self {
        Self { told_as: Some(protocol), ..self }
    }
}

impl Guard for PeerGuard {
    fn before(&self, user: &str) -> Result<Duration, Denied> {
        if self.limiter.is_exempt(self.address) {
            return Ok(Duration::ZERO);
        }
        let inner = &self.limiter.0;
        let (account, source) = (self.limiter.account_key(user), Source::of(self.address));
        let verdict = inner.sign_ins.lock().before(account, source, inner.clock.elapsed());
        verdict.map_err(|retry_after| {
            let _ = self.limiter.report(source, &Incident::SignInRefused);
            Denied::TooMany { retry_after }
        })
    }

    fn failed(&self, user: &str) {
        let inner = &self.limiter.0;
        let (account, source) = (self.limiter.account_key(user), Source::of(self.address));
        if !self.limiter.is_exempt(self.address) {
            inner.sign_ins.lock().failed(source, inner.clock.elapsed());
        }
        if self.limiter.report(source, &Incident::SignInFailed { account, user })
            && let Some(protocol) = self.told_as
        {
            tracing::info!(protocol, peer = %self.address, account = report::shown(user), "sign-in failed");
        }
    }

    fn passed(&self, user: &str) {
        if self.limiter.is_exempt(self.address) {
            return;
        }
        let inner = &self.limiter.0;
        let (account, source) = (self.limiter.account_key(user), Source::of(self.address));
        inner.sign_ins.lock().passed(account, source, inner.clock.elapsed());
    }

    fn undecided(&self, user: &str) {
        if self.limiter.is_exempt(self.address) {
            return;
        }
        let inner = &self.limiter.0;
        let (account, source) = (self.limiter.account_key(user), Source::of(self.address));
        inner.sign_ins.lock().undecided(account, source, inner.clock.elapsed());
    }
}

#[cfg(test)]
mod tests;
