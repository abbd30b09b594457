//! The directory in memory: plain records and the indexes over them.
//!
//! Contract: a [`Model`] is one moment of the directory, complete and consistent; it is never changed once published.
//! Passwords are not in it: their hashes are read from the database when someone signs in.

use crate::normal;
use crate::shards::Shards;
use crate::types::{DomainSettings, Language, Limits, Role, Senders, Services, State};
use std::sync::Arc;
use twinpost_message::{AccountId, DomainId};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DomainRecord {
    pub id: DomainId,
    pub name: Box<str>,
    pub aliases: Vec<Box<str>>,
    pub suspended: bool,
    pub purge_at_s: Option<i64>,
    pub settings: DomainSettings,
    pub created_s: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AccountRecord {
    pub id: AccountId,
    pub domain: DomainId,
    /// Folded local part.
    pub local: Box<str>,
    pub display_name: Box<str>,
    pub role: Role,
    pub language: Language,
    pub services: Services,
    pub suspended: bool,
    pub purge_at_s: Option<i64>,
    pub quota_bytes: Option<u64>,
    pub quota_messages: Option<u64>,
    pub max_message_bytes: Option<u64>,
    pub created_s: i64,
    /// Grows with each change of a password: what was verified before does not count any more.
    pub credential_version: u32,
}

/// An alias or a group: an address that leads to others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Route {
    pub id: i64,
    pub domain: DomainId,
    /// Folded local part.
    pub local: Box<str>,
    /// Sorted `local@domain` in normal form, unquoted.
    pub targets: Vec<Box<str>>,
    /// `None`: an alias.
    pub group: Option<GroupRules>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GroupRules {
    pub display_name: Box<str>,
    pub senders: Senders,
    pub members_send_as: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Account(Arc<AccountRecord>),
    Route(Arc<Route>),
}

fn state(suspended: bool, purge_at_s: Option<i64>) -> State {
    match purge_at_s {
        Some(purge_at_s) => State::Deleted { purge_at_s },
        None if suspended => State::Suspended,
        None => State::Active,
    }
}

impl DomainRecord {
    pub(crate) fn state(&self) -> State {
        state(self.suspended, self.purge_at_s)
    }
}

impl AccountRecord {
    pub(crate) fn state(&self) -> State {
        state(self.suspended, self.purge_at_s)
    }
    pub(crate) fn key(&self) -> String {
        normal::key(self.domain, &self.local)
    }
    /// What holds with the domain's defaults put in: `Some(0)` of an account means no limit.
    pub(crate) fn limits(&self, domain: &DomainSettings) -> Limits {
        let own = |own: Option<u64>, default: Option<u64>| own.or(default).filter(|n| *n > 0);
        Limits {
            account_bytes: own(self.quota_bytes, domain.account_quota_bytes),
            account_messages: own(self.quota_messages, domain.account_quota_messages),
            domain_bytes: domain.quota_bytes.filter(|n| *n > 0),
            domain_messages: domain.quota_messages.filter(|n| *n > 0),
            max_message_bytes: own(self.max_message_bytes, domain.max_message_bytes),
        }
    }
}

impl Route {
    pub(crate) fn key(&self) -> String {
        normal::key(self.domain, &self.local)
    }
    pub(crate) fn leads_to(&self, target: &str) -> bool {
        self.targets.binary_search_by(|t| (**t).cmp(target)).is_ok()
    }
    pub(crate) fn what(&self) -> &'static str {
        if self.group.is_some() { "a group" } else { "an alias" }
    }
}

/// What a name leads to.
pub(crate) enum Found<'m> {
    /// Not a domain of ours (or one that was removed).
    Elsewhere,
    /// Our domain, no such name.
    Unknown(&'m Arc<DomainRecord>),
    /// An account, perhaps by its plus form with a folder hint.
    Account(&'m Arc<DomainRecord>, &'m Arc<AccountRecord>, Option<String>),
    /// An alias or group.
    Route(&'m Arc<DomainRecord>, &'m Arc<Route>),
    /// Our domain, no such name, but someone takes all.
    CatchAll(&'m Arc<DomainRecord>, &'m twinpost_message::Address),
}

#[derive(Clone, Default)]
pub(crate) struct Model {
    pub generation: i64,
    pub next_id: i64,
    pub domains: Shards<i64, Arc<DomainRecord>>,
    pub domain_names: Shards<Box<str>, i64>,
    pub accounts: Shards<i64, Arc<AccountRecord>>,
    pub names: Shards<Box<str>, Entry>,
    /// Accounts of a domain that are not deleted.
    counts: Shards<i64, u32>,
}

impl Model {
    /// The domain of this name or alias, served or not. `name` in normal form.
    pub(crate) fn domain(&self, name: &str) -> Option<&Arc<DomainRecord>> {
        self.domains.get(self.domain_names.get(name)?)
    }
    pub(crate) fn domain_of(&self, id: DomainId) -> Option<&Arc<DomainRecord>> {
        self.domains.get(&id.0)
    }
    pub(crate) fn account(&self, id: AccountId) -> Option<&Arc<AccountRecord>> {
        self.accounts.get(&id.0)
    }
    pub(crate) fn accounts_in(&self, domain: DomainId) -> u32 {
        self.counts.get(&domain.0).copied().unwrap_or(0)
    }
    /// The entry of exactly this name: no plus form, no catch-all. Also in domains that are not served.
    pub(crate) fn entry(&self, local: &str, domain: &str) -> Option<&Entry> {
        let domain = self.domain(domain)?;
        self.names.get(normal::key(domain.id, &normal::fold(local)).as_str())
    }

    /// Where mail for this name goes in one step. `domain` in normal form, `local` as written.
    pub(crate) fn find(&self, local: &str, domain: &str) -> Found<'_> {
        let Some(domain) = self.domain(domain).filter(|d| d.purge_at_s.is_none()) else { return Found::Elsewhere };
        let folded = normal::fold(local);
        let exact = self.names.get(normal::key(domain.id, &folded).as_str());
        let (entry, hint) = match exact {
            Some(entry) => (Some(entry), None),
            None => self.plus_form(domain, &folded, local),
        };
        match entry {
            Some(Entry::Account(a)) if a.purge_at_s.is_none() => Found::Account(domain, a, hint),
            Some(Entry::Route(r)) => Found::Route(domain, r),
            // Mail for a deleted account does not fall to the catch-all: it may come back.
            Some(Entry::Account(_)) => Found::Unknown(domain),
            None => match &domain.settings.catch_all {
                Some(to) => Found::CatchAll(domain, to),
                None => Found::Unknown(domain),
            },
        }
    }

    /// `anna+books`: the entry of `anna` and the hint `books`, in the writer's case.
    fn plus_form(&self, domain: &DomainRecord, folded: &str, local: &str) -> (Option<&Entry>, Option<String>) {
        let Some(separator) = domain.settings.plus_separator else { return (None, None) };
        let Some((base, _)) = folded.split_once(separator).filter(|(base, _)| !base.is_empty()) else { return (None, None) };
        let hint = local.split_once(separator).map(|(_, detail)| detail.to_owned()).filter(|d| !d.is_empty());
        (self.names.get(normal::key(domain.id, base).as_str()), hint)
    }

    /// `local@domain` as targets are stored: one form for each mailbox of ours, others as written.
    pub(crate) fn target_form(&self, address: &twinpost_message::Address) -> String {
        match self.domain(address.domain()) {
            Some(domain) => format!("{}@{}", normal::fold(address.local()), domain.name),
            None => format!("{}@{}", address.local(), address.domain()),
        }
    }
    /// The stored form of a name of ours.
    pub(crate) fn own_form(&self, domain: DomainId, local: &str) -> String {
        format!("{local}@{}", self.domain_of(domain).map_or("", |d| &d.name))
    }

    pub(crate) fn put_domain(&mut self, record: Arc<DomainRecord>) {
        if let Some(old) = self.domains.get(&record.id.0).cloned() {
            self.domain_names.remove(&old.name);
            old.aliases.iter().for_each(|a| self.domain_names.remove(a));
        }
        for name in std::iter::once(&record.name).chain(&record.aliases) {
            self.domain_names.insert(name.clone(), record.id.0);
        }
        self.domains.insert(record.id.0, record);
    }
    pub(crate) fn drop_domain(&mut self, id: DomainId) {
        if let Some(old) = self.domains.get(&id.0).cloned() {
            self.domain_names.remove(&old.name);
            old.aliases.iter().for_each(|a| self.domain_names.remove(a));
            self.domains.remove(&id.0);
            self.counts.remove(&id.0);
        }
    }
    pub(crate) fn put_account(&mut self, record: Arc<AccountRecord>) {
        self.unlist_account(record.id);
        if record.purge_at_s.is_none() {
            self.counts.insert(record.domain.0, self.accounts_in(record.domain) + 1);
        }
        self.names.insert(record.key().into(), Entry::Account(Arc::clone(&record)));
        self.accounts.insert(record.id.0, record);
    }
    pub(crate) fn drop_account(&mut self, id: AccountId) {
        self.unlist_account(id);
        self.accounts.remove(&id.0);
    }
    fn unlist_account(&mut self, id: AccountId) {
        let Some(old) = self.accounts.get(&id.0).cloned() else { return };
        self.names.remove(old.key().as_str());
        if old.purge_at_s.is_none() {
            self.counts.insert(old.domain.0, self.accounts_in(old.domain).saturating_sub(1));
        }
    }
    pub(crate) fn put_route(&mut self, route: Arc<Route>) {
        self.names.insert(route.key().into(), Entry::Route(route));
    }
    pub(crate) fn drop_route(&mut self, route: &Route) {
        self.names.remove(route.key().as_str());
    }
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.names.values().filter_map(|e| match e {
            Entry::Route(r) => Some(r),
            Entry::Account(_) => None,
        })
    }
    /// Gives back what loading left over.
    pub(crate) fn shrink(&mut self) {
        self.domains.shrink();
        self.domain_names.shrink();
        self.accounts.shrink();
        self.names.shrink();
        self.counts.shrink();
    }
}
