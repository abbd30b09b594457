//! A change in the making: a copy of the model and the rows that will be written for it.
//!
//! Contract: every method changes both together. A draft that is dropped has changed nothing.

use crate::credentials::Credential;
use crate::error::Error;
use crate::model::{AccountRecord, DomainRecord, Entry, Model, Route};
use crate::normal;
use crate::rows::{AppPasswordRow, Writes};
use std::sync::Arc;
use twinpost_message::{AccountId, Address};

/// What a list may hold: aliases and groups.
pub(crate) const TARGETS_MAX: usize = 100_000;

pub(crate) struct Draft {
    pub model: Model,
    pub writes: Writes,
    pub now_s: i64,
    pub grace_s: i64,
}

impl Draft {
    pub(crate) fn new(model: &Model, now_s: i64, grace_s: i64) -> Self {
        Self { model: model.clone(), writes: Writes::default(), now_s, grace_s }
    }
    pub(crate) fn next_id(&mut self) -> i64 {
        let id = self.model.next_id;
        self.model.next_id += 1;
        id
    }
    pub(crate) fn note(&mut self, action: &'static str, subject: impl Into<String>, detail: impl Into<String>) {
        self.writes.audit.push((action, subject.into(), detail.into()));
    }

    /// The domain of this name, also suspended; not one that was removed.
    pub(crate) fn domain(&self, name: &str) -> Result<Arc<DomainRecord>, Error> {
        let name = normal::domain(name)?;
        let domain = self.model.domain(&name).ok_or_else(|| Error::NoDomain(name.clone()))?;
        if domain.purge_at_s.is_some() { Err(Error::Deleted(name)) } else { Ok(Arc::clone(domain)) }
    }
    /// The account of exactly this address, also deleted.
    pub(crate) fn any_account(&self, address: &Address) -> Result<Arc<AccountRecord>, Error> {
        match self.model.entry(address.local(), address.domain()) {
            Some(Entry::Account(a)) => Ok(Arc::clone(a)),
            _ => Err(Error::NoAccount(address.to_string())),
        }
    }
    /// The account of exactly this address, not deleted.
    pub(crate) fn account(&self, address: &Address) -> Result<Arc<AccountRecord>, Error> {
        let account = self.any_account(address)?;
        if account.purge_at_s.is_some() { Err(Error::Deleted(address.to_string())) } else { Ok(account) }
    }
    pub(crate) fn route(&self, address: &Address, group: bool) -> Result<Arc<Route>, Error> {
        match self.model.entry(address.local(), address.domain()) {
            Some(Entry::Route(r)) if r.group.is_some() == group => Ok(Arc::clone(r)),
            _ if group => Err(Error::NoGroup(address.to_string())),
            _ => Err(Error::NoAlias(address.to_string())),
        }
    }

    /// The folded local part of a new name in `domain`, if it is free.
    pub(crate) fn free_name(&self, domain: &DomainRecord, local: &str) -> Result<String, Error> {
        let folded = normal::fold(local);
        let address = normal::join(&folded, &domain.name)?;
        match self.model.names.get(normal::key(domain.id, &folded).as_str()) {
            None => Ok(folded),
            Some(Entry::Route(r)) => Err(Error::Taken { name: address.to_string(), what: r.what().to_owned() }),
            Some(Entry::Account(a)) => match a.purge_at_s {
                None => Err(Error::Taken { name: address.to_string(), what: "an account".to_owned() }),
                Some(at) => {
                    Err(Error::InGrace { address: address.to_string(), days: ((at - self.now_s).max(0) + 86_399) / 86_400 })
                }
            },
        }
    }
    /// The domain may have one account more.
    pub(crate) fn room_for_account(&self, domain: &DomainRecord) -> Result<(), Error> {
        match domain.settings.max_accounts {
            Some(max) if self.model.accounts_in(domain.id) >= max => {
                Err(Error::DomainFull { domain: domain.name.to_string(), max })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn put_domain(&mut self, record: DomainRecord) {
        let record = Arc::new(record);
        self.writes.domains.insert(record.id.0, Arc::clone(&record));
        self.model.put_domain(record);
    }
    pub(crate) fn drop_domain(&mut self, record: &DomainRecord) {
        self.writes.domains.remove(&record.id.0);
        self.writes.drop_domains.insert(record.id.0);
        self.model.drop_domain(record.id);
    }
    pub(crate) fn put_account(&mut self, record: AccountRecord) {
        let record = Arc::new(record);
        self.writes.accounts.insert(record.id.0, Arc::clone(&record));
        self.model.put_account(record);
    }
    pub(crate) fn drop_account(&mut self, id: AccountId) {
        self.writes.accounts.remove(&id.0);
        self.writes.credentials.remove(&id.0);
        self.writes.drop_accounts.insert(id.0);
        self.model.drop_account(id);
    }
    /// The account's credential; what was verified before does not count any more.
    pub(crate) fn put_credential(&mut self, account: AccountId, credential: Credential) {
        self.writes.credentials.insert(account.0, credential);
        self.bump_credential(account);
    }
    pub(crate) fn bump_credential(&mut self, account: AccountId) {
        if let Some(record) = self.model.account(account) {
            let mut record = AccountRecord::clone(record);
            record.credential_version = record.credential_version.wrapping_add(1);
            self.put_account(record);
        }
    }
    pub(crate) fn put_app_password(&mut self, row: AppPasswordRow) {
        let account = AccountId(row.account);
        self.writes.app_passwords.push(row);
        self.bump_credential(account);
    }
    /// Writes the route; its targets are compared with those it had.
    pub(crate) fn put_route(&mut self, mut route: Route) {
        route.targets.sort_unstable();
        route.targets.dedup();
        let old: Vec<Box<str>> = match self.model.names.get(route.key().as_str()) {
            Some(Entry::Route(r)) if r.id == route.id => r.targets.clone(),
            _ => Vec::new(),
        };
        for gone in old.iter().filter(|t| !route.leads_to(t)) {
            self.writes.add_targets.remove(&(route.id, gone.clone()));
            self.writes.drop_targets.insert((route.id, gone.clone()));
        }
        for new in route.targets.iter().filter(|t| old.binary_search(t).is_err()) {
            self.writes.drop_targets.remove(&(route.id, new.clone()));
            self.writes.add_targets.insert((route.id, new.clone()));
        }
        let route = Arc::new(route);
        self.writes.routes.insert(route.id, Arc::clone(&route));
        self.model.put_route(route);
    }
    pub(crate) fn drop_route(&mut self, route: &Route) {
        self.writes.routes.remove(&route.id);
        self.writes.add_targets.retain(|(id, _)| *id != route.id);
        self.writes.drop_routes.insert(route.id);
        self.model.drop_route(route);
    }

    /// Rewrites targets in all aliases and groups: `new` says what a target becomes, `None` takes it out.
    /// An alias that leads nowhere then is dropped; a group may be empty.
    pub(crate) fn map_targets(&mut self, change: impl Fn(&str) -> Option<Box<str>>) {
        let touched: Vec<Arc<Route>> =
            self.model.routes().filter(|r| r.targets.iter().any(|t| change(t).as_deref() != Some(&**t))).cloned().collect();
        for route in touched {
            let mut new = Route::clone(&route);
            new.targets = route.targets.iter().filter_map(|t| change(t)).collect();
            if new.targets.is_empty() && new.group.is_none() {
                self.note("alias.remove", self.model.own_form(route.domain, &route.local), "its last target is gone");
                self.drop_route(&route);
            } else {
                self.put_route(new);
            }
        }
    }
}
