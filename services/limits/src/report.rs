//! One log line for each source and period, however much it does in it.

use crate::{AccountKey, Limit, Source};
use std::collections::HashMap;
use std::time::Duration;

/// Sources that are counted in one period at most; the rest is counted together.
const SOURCES_MAX: usize = 10_000;
/// Distinct account names that are counted for one source.
const NAMES_MAX: usize = 64;
/// Failed sign-ins below this are somebody's typing mistakes: a line each. From then on one line tells of all.
const GUESSES_MIN: u32 = 5;

pub(crate) enum Incident<'a> {
    SignInFailed { account: AccountKey, user: &'a str },
    SignInRefused,
    Refused(Limit),
}

/// What one source did in one period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Where it came from; `None` for all sources beyond those counted one by one.
    pub source: Option<Source>,
    /// Wrong passwords.
    pub failed: u32,
    /// Different account names among them (counted up to 64).
    pub accounts: usize,
    /// The name tried first.
    pub first_account: Option<String>,
    /// Sign-ins refused without a check.
    pub sign_ins_refused: u32,
    /// Connections refused.
    pub connections_refused: u32,
    /// Commands, recipients or messages over a limit.
    pub rate_refused: u32,
}

/// A name as it may stand in a log.
pub(crate) fn shown(user: &str) -> String {
    user.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[derive(Default)]
struct Count {
    failed: u32,
    accounts: Vec<AccountKey>,
    first_account: Option<String>,
    sign_ins_refused: u32,
    connections_refused: u32,
    rate_refused: u32,
}

pub(crate) struct Reports {
    period: Duration,
    began: Duration,
    sources: HashMap<Source, Count>,
    rest: Count,
}

impl Reports {
    pub(crate) fn new(period: Duration) -> Self {
        Self { period, began: Duration::ZERO, sources: HashMap::new(), rest: Count::default() }
    }

    /// True: a failed sign-in that is worth a line of its own; those beyond a few are in the one line of the period.
    pub(crate) fn note(&mut self, source: Source, incident: &Incident<'_>, now: Duration) -> bool {
        self.sweep(now);
        if self.sources.is_empty() && self.rest.is_quiet() {
            // The first incident opens the period, so that a source is reported a period after it began.
            self.began = now;
        }
        let full = self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(&source);
        let count = if full { &mut self.rest } else { self.sources.entry(source).or_default() };
        match incident {
            Incident::SignInFailed { account, user } => {
                count.failed = count.failed.saturating_add(1);
                if count.first_account.is_none() {
                    count.first_account = Some(shown(user));
                }
                if count.accounts.len() < NAMES_MAX && !count.accounts.contains(account) {
                    count.accounts.push(*account);
                }
            }
            Incident::SignInRefused => count.sign_ins_refused = count.sign_ins_refused.saturating_add(1),
            Incident::Refused(Limit::Connections | Limit::ConnectionsTotal | Limit::ConnectionRate) => {
                count.connections_refused = count.connections_refused.saturating_add(1);
            }
            Incident::Refused(Limit::Commands | Limit::Recipients | Limit::Messages) => {
                count.rate_refused = count.rate_refused.saturating_add(1);
            }
        }
        !full && matches!(incident, Incident::SignInFailed { .. }) && count.failed < GUESSES_MIN
    }

    #[cfg(test)]
    pub(crate) fn sources(&self) -> Vec<Source> {
        self.sources.keys().copied().collect()
    }

    pub(crate) fn sweep(&mut self, now: Duration) -> Vec<Report> {
        if now.saturating_sub(self.began) < self.period || (self.sources.is_empty() && self.rest.is_quiet()) {
            return Vec::new();
        }
        self.began = now;
        let rest = std::mem::take(&mut self.rest);
        let sources = std::mem::take(&mut self.sources);
        let reports: Vec<Report> = sources
            .into_iter()
            .map(|(source, count)| count.report(Some(source)))
            .chain([rest.report(None)])
            .filter(|r| r.failed >= GUESSES_MIN || r.sign_ins_refused + r.connections_refused + r.rate_refused > 0)
            .collect();
        for report in &reports {
            report.log(self.period);
        }
        reports
    }
}

impl Count {
    fn is_quiet(&self) -> bool {
        self.failed == 0 && self.sign_ins_refused == 0 && self.connections_refused == 0 && self.rate_refused == 0
    }
    fn report(self, source: Option<Source>) -> Report {
        Report {
            source,
            failed: self.failed,
            accounts: self.accounts.len(),
            first_account: self.first_account,
            sign_ins_refused: self.sign_ins_refused,
            connections_refused: self.connections_refused,
            rate_refused: self.rate_refused,
        }
    }
}

impl Report {
    fn log(&self, period: Duration) {
        let source = self.source.map_or_else(|| "others".to_owned(), |s| s.to_string());
        let what = if self.failed >= GUESSES_MIN || self.sign_ins_refused > 0 { "password guessing" } else { "limits met" };
        tracing::warn!(
            source,
            failed = self.failed,
            accounts = self.accounts,
            first_account = self.first_account.as_deref().unwrap_or("-"),
            sign_ins_refused = self.sign_ins_refused,
            connections_refused = self.connections_refused,
            rate_refused = self.rate_refused,
            period_s = period.as_secs(),
            "{what}"
        );
    }
}
