//! Failed sign-ins: growing delays for guessers, none for people.
//!
//! Three counters, all halving with time. By *address*: failures against any account; long delays, then refusal. By
//! *account*: failures from addresses where the account never signed in; delays only, because a refusal would let
//! strangers lock its owner out. By *pair*: an account at an address where it has signed in before; only its own
//! failures count there, so the owner at the usual place notices nothing of guessing from elsewhere, and a
//! guesser behind the same address (a pupil in the school's LAN) is slowed all the same.

use crate::{AccountKey, Source, settings::SignInSettings};
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

pub(crate) struct SignIns {
    settings: SignInSettings,
    addresses: Table<Source, Decaying>,
    accounts: Table<AccountKey, Decaying>,
    pairs: Table<(AccountKey, Source), Known>,
}

/// A count that halves in each half-life.
#[derive(Clone, Copy, Default)]
struct Decaying {
    value: f64,
    at_s: f64,
}

impl Decaying {
    fn now(&self, now: Duration, half_life_s: f64) -> f64 {
        self.value * (-(now.as_secs_f64() - self.at_s) / half_life_s).exp2()
    }
    fn add(&mut self, amount: f64, now: Duration, half_life_s: f64, max: f64) {
        self.value = (self.now(now, half_life_s) + amount).clamp(0.0, max);
        self.at_s = now.as_secs_f64();
    }
}

#[derive(Clone, Copy)]
struct Known {
    failures: Decaying,
    last: Duration,
}

/// What eviction asks of an entry: the least worth goes first.
trait Worth {
    fn worth(&self, now: Duration, half_life_s: f64) -> f64;
}
impl Worth for Decaying {
    fn worth(&self, now: Duration, half_life_s: f64) -> f64 {
        self.now(now, half_life_s)
    }
}
impl Worth for Known {
    fn worth(&self, _: Duration, _: f64) -> f64 {
        self.last.as_secs_f64()
    }
}

struct Table<K, V> {
    entries: HashMap<K, V>,
    max: usize,
}

impl<K: Hash + Eq, V: Worth + Copy> Table<K, V> {
    fn new(max: usize) -> Self {
        Self { entries: HashMap::new(), max: max.max(4) }
    }
    fn entry(&mut self, key: K, now: Duration, half_life_s: f64, fresh: V) -> &mut V {
        if self.entries.len() >= self.max && !self.entries.contains_key(&key) {
            let mut worths: Vec<f64> = self.entries.values().map(|v| v.worth(now, half_life_s)).collect();
            let quarter = worths.len() / 4;
            let (_, cut, _) = worths.select_nth_unstable_by(quarter, f64::total_cmp);
            let cut = *cut;
            self.entries.retain(|_, v| v.worth(now, half_life_s) > cut);
        }
        self.entries.entry(key).or_insert(fresh)
    }
}

impl SignIns {
    pub(crate) fn new(settings: SignInSettings, max: usize) -> Self {
        Self { settings, addresses: Table::new(max), accounts: Table::new(max), pairs: Table::new(max) }
    }

    fn half_life_s(&self) -> f64 {
        std::time::Duration::from_secs(self.settings.half_life_s.max(1)).as_secs_f64()
    }

    /// Most that is counted: recovers from there below the refusal within one half-life.
    fn most(&self) -> f64 {
        f64::from(self.settings.refuse_address.max(1)) * 2.0
    }

    fn delay(&self, failures: f64, free: u32) -> Duration {
        let over = failures - f64::from(free);
        if over < 0.0 {
            return Duration::ZERO;
        }
        // 1 s, 2 s, 4 s ... up to the cap.
        Duration::from_secs_f64(over.min(20.0).exp2()).min(Duration::from_millis(self.settings.delay_max_ms))
    }

    /// The delay before the check; `Err` is the time until an address that is refused gets on. The attempt counts as
    /// failed for the account until [`SignIns::passed`]: parallel guesses do not share one free try.
    pub(crate) fn before(&mut self, account: AccountKey, source: Source, now: Duration) -> Result<Duration, Duration> {
        let (half_life_s, most) = (self.half_life_s(), self.most());
        let known_for = Duration::from_secs(self.settings.known_s);
        if let Some(known) = self.pairs.entries.get_mut(&(account, source)) {
            if now.saturating_sub(known.last) <= known_for {
                let failures = known.failures.now(now, half_life_s);
                known.failures.add(1.0, now, half_life_s, most);
                return Ok(self.delay(failures, self.settings.free_account));
            }
            self.pairs.entries.remove(&(account, source));
        }
        let by_address = self.addresses.entries.get(&source).map_or(0.0, |d| d.now(now, half_life_s));
        let refuse = f64::from(self.settings.refuse_address);
        if by_address >= refuse {
            let wait_s = half_life_s * (by_address / refuse).log2();
            return Err(Duration::from_secs_f64(wait_s.max(1.0)));
        }
        let of_account = self.accounts.entry(account, now, half_life_s, Decaying::default());
        let by_account = of_account.now(now, half_life_s);
        of_account.add(1.0, now, half_life_s, most);
        Ok(self.delay(by_address, self.settings.free_address).max(self.delay(by_account, self.settings.free_account)))
    }

    pub(crate) fn failed(&mut self, source: Source, now: Duration) {
        let (half_life_s, most) = (self.half_life_s(), self.most());
        self.addresses.entry(source, now, half_life_s, Decaying::default()).add(1.0, now, half_life_s, most);
    }

    pub(crate) fn passed(&mut self, account: AccountKey, source: Source, now: Duration) {
        self.undecided(account, source, now);
        let fresh = Known { failures: Decaying::default(), last: now };
        let half_life_s = self.half_life_s();
        let known = self.pairs.entry((account, source), now, half_life_s, fresh);
        known.last = now;
    }

    /// Takes the attempt back that [`SignIns::before`] counted.
    pub(crate) fn undecided(&mut self, account: AccountKey, source: Source, now: Duration) {
        let (half_life_s, most) = (self.half_life_s(), self.most());
        if let Some(known) = self.pairs.entries.get_mut(&(account, source)) {
            known.failures.add(-1.0, now, half_life_s, most);
        } else if let Some(failures) = self.accounts.entries.get_mut(&account) {
            failures.add(-1.0, now, half_life_s, most);
        }
    }

    #[cfg(test)]
    pub(crate) fn sizes(&self) -> [usize; 3] {
        [self.addresses.entries.len(), self.accounts.entries.len(), self.pairs.entries.len()]
    }
}
