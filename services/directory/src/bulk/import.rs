//! Importing a list: check all, hash the passwords, then change everything in one transaction.
//!
//! The passwords are hashed between a first pass on a draft that is thrown away and the second that counts, on all
//! cores, without holding up other changes. Only the SCRAM secret is made (see `credentials`): Argon2id for 100,000
//! accounts would take a quarter of an hour and follows at each first sign-in.

use super::list::{self, Line, Wish};
use crate::accounts;
use crate::change::{AccountChange, GroupChange, HashCost, NewAccount, NewDomain, NewGroup, NewPassword, Settings};
use crate::credentials::{Credential, Pending};
use crate::directory::{Directory, now_s};
use crate::domains;
use crate::draft::{Draft, TARGETS_MAX};
use crate::error::Error;
use crate::model::{AccountRecord, Entry};
use crate::normal;
use crate::routes;
use futures_util::TryStreamExt as _;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use twinpost_message::{AccountId, Address};
use twinpost_sql::read;

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Say what would happen and change nothing.
    pub dry_run: bool,
    /// One faulty line stops all; otherwise faulty lines are skipped.
    pub all_or_nothing: bool,
    /// Add domains that are not here yet.
    pub create_domains: bool,
    /// Add groups that are not here yet, open to anyone.
    pub create_groups: bool,
    /// Counts passwords as they are hashed, for a progress bar.
    pub progress: Option<Arc<Progress>>,
}

/// How far an import is.
#[derive(Debug, Default)]
pub struct Progress {
    /// Steps done.
    pub done: AtomicU64,
    /// Steps in all; 0 while that is not known.
    pub total: AtomicU64,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A new account.
    Added,
    /// An account got other values.
    Updated,
    /// All was so already.
    Unchanged,
    /// Not done, for the reason given.
    Refused,
}

/// The report of one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LineReport {
    /// In the file, from 1.
    pub line: u64,
    /// As written there.
    pub address: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it was refused, or a remark; else empty.
    pub reason: String,
}

/// The report of an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// Each line in its order.
    pub lines: Vec<LineReport>,
    /// New accounts.
    pub added: usize,
    /// Changed accounts.
    pub updated: usize,
    /// Accounts that were so already.
    pub unchanged: usize,
    /// Faulty lines.
    pub refused: usize,
    /// The changes were made; false for a dry run, or when all or nothing meant nothing.
    pub committed: bool,
    /// The encoding that the list was in.
    pub encoding: &'static str,
}

/// What is known of the passwords before the change is made.
#[derive(Default)]
struct Passwords {
    /// By index of the line: the credential to store.
    made: HashMap<usize, Credential>,
    /// By account: what is stored now.
    stored: HashMap<i64, Credential>,
    /// Lines whose plain password is the one that is stored.
    same: HashMap<usize, i64>,
    /// False in the pass that is thrown away: nothing was hashed yet.
    hashed: bool,
}

impl Directory {
    /// Imports a list of accounts (CSV, see the columns in this crate's `bulk` module).
    ///
    /// # Errors
    /// [`Error::List`] when it is no such list; [`Error::Database`]. Faulty lines are no error but in the report.
    pub async fn import(&self, actor: &str, data: Vec<u8>, options: &ImportOptions) -> Result<ImportReport, Error> {
        let read = tokio::task::spawn_blocking(move || list::read(&data)).await.map_err(|_| Error::Stopped)??;
        let (lines, encoding) = (Arc::new(read.lines), read.encoding);
        self.refresh().await?;
        let passwords = Arc::new(Passwords { stored: self.stored_credentials(&lines).await?, ..Passwords::default() });
        // First pass: which lines will need a hash?
        let (_, first, passwords) = self.pass(&lines, passwords, options).await?;
        let hopeless = options.all_or_nothing && first.iter().any(|r| r.outcome == Outcome::Refused);
        if hopeless || (options.dry_run && passwords.stored.is_empty()) {
            return Ok(report(first, false, encoding));
        }
        let mut passwords = self.hash_all(&lines, &first, passwords, options).await?;
        let _writer = self.exclusive().await?;
        for _ in 0..20 {
            let (draft, reports, kept) = self.pass(&lines, passwords, options).await?;
            let refused = reports.iter().any(|r| r.outcome == Outcome::Refused);
            if options.dry_run || (options.all_or_nothing && refused) {
                return Ok(report(reports, false, encoding));
            }
            if draft.writes.is_empty() || self.commit(draft, actor).await? {
                return Ok(report(reports, true, encoding));
            }
            passwords = kept;
            self.refresh_locked().await?;
        }
        Err(Error::Value { what: "the import", why: "other programs kept changing the directory; try again".to_owned() })
    }

    /// One pass over all lines on a fresh draft, on a blocking thread.
    async fn pass(
        &self,
        lines: &Arc<Vec<Line>>,
        passwords: Arc<Passwords>,
        options: &ImportOptions,
    ) -> Result<(Draft, Vec<LineReport>, Arc<Passwords>), Error> {
        let draft = Draft::new(&self.model(), now_s(), self.inner.settings.grace_s);
        let (lines, options, settings) = (Arc::clone(lines), options.clone(), self.inner.settings.clone());
        let work = move || {
            let mut pass = Pass { draft, options, settings, passwords, seen: HashMap::new(), members: BTreeMap::new() };
            let mut reports: Vec<LineReport> = lines.iter().enumerate().map(|(index, line)| pass.line(index, line)).collect();
            pass.join_groups(&mut reports);
            (pass.draft, reports, pass.passwords)
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Error::Stopped)
    }

    /// The stored credentials of accounts that get a password in this list.
    async fn stored_credentials(&self, lines: &[Line]) -> Result<HashMap<i64, Credential>, Error> {
        let mut wanted: HashMap<i64, Credential> = HashMap::new();
        {
            let model = self.model();
            let with_password = lines.iter().filter_map(|l| l.wish.as_ref().ok()).filter(|w| w.password != NewPassword::None);
            for address in with_password.filter_map(|w| w.address.as_ref()) {
                if let Some(Entry::Account(a)) = model.entry(address.local(), address.domain()) {
                    wanted.insert(a.id.0, Credential::default());
                }
            }
        }
        if wanted.is_empty() {
            return Ok(wanted);
        }
        type Row = (i64, Option<String>, Option<String>, Option<String>);
        let sql = "SELECT account_id, hash, origin, scram FROM credential";
        read!(self.inner.db, c => {
            let mut rows = sqlx::query_as::<_, Row>(sql).fetch(c);
            while let Some((id, hash, origin, scram)) = rows.try_next().await? {
                if let Some(found) = wanted.get_mut(&id) {
                    *found = Credential { hash, origin, scram: scram.and_then(|s| s.parse().ok()) };
                }
            }
        });
        Ok(wanted)
    }

    /// Hashes or compares the plain passwords of all lines that were not refused, on all cores.
    async fn hash_all(
        &self,
        lines: &Arc<Vec<Line>>,
        reports: &[LineReport],
        passwords: Arc<Passwords>,
        options: &ImportOptions,
    ) -> Result<Arc<Passwords>, Error> {
        let mut work: Vec<(usize, Option<i64>)> = Vec::new();
        {
            let model = self.model();
            for (index, line) in lines.iter().enumerate().filter(|(i, _)| reports[*i].outcome != Outcome::Refused) {
                let Ok(Wish { address: Some(address), password, .. }) = &line.wish else { continue };
                if plain(password).is_some() {
                    let account = match model.entry(address.local(), address.domain()) {
                        Some(Entry::Account(a)) => Some(a.id.0),
                        _ => None,
                    };
                    work.push((index, account));
                }
            }
        }
        let progress = options.progress.clone().unwrap_or_default();
        progress.total.store(work.len() as u64, Ordering::Relaxed);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let share = work.len().div_ceil(cores).max(1);
        let mut tasks = Vec::new();
        for part in work.chunks(share) {
            let (part, lines, passwords) = (part.to_vec(), Arc::clone(lines), Arc::clone(&passwords));
            let (progress, cost, dry_run) = (Arc::clone(&progress), self.inner.settings.cost, options.dry_run);
            tasks.push(tokio::task::spawn_blocking(move || {
                let mut done: Vec<(usize, Result<Credential, i64>)> = Vec::with_capacity(part.len());
                for (index, account) in part {
                    let Some(password) = lines[index].wish.as_ref().ok().and_then(|w| plain(&w.password)) else { continue };
                    let stored = account.and_then(|id| Some((id, passwords.stored.get(&id)?)));
                    match stored.filter(|(_, c)| c.opens(&password)) {
                        Some((id, _)) => done.push((index, Err(id))),
                        None if dry_run => {}
                        None => done.push((index, Ok(Credential::quick(&password, cost)))),
                    }
                    progress.done.fetch_add(1, Ordering::Relaxed);
                }
                done
            }));
        }
        let mut made = HashMap::new();
        let mut same = HashMap::new();
        for task in tasks {
            for (index, result) in task.await.map_err(|_| Error::Stopped)? {
                match result {
                    Ok(credential) => drop(made.insert(index, credential)),
                    Err(id) => drop(same.insert(index, id)),
                }
            }
        }
        let stored = Arc::into_inner(passwords).map(|p| p.stored).unwrap_or_default();
        Ok(Arc::new(Passwords { made, stored, same, hashed: !options.dry_run }))
    }
}

/// The readable password of a line: given as such, or as `{PLAIN}`.
fn plain(password: &NewPassword) -> Option<String> {
    match Pending::of(password, &[], 0) {
        Ok(Pending::Password(plain)) => Some(plain),
        Ok(Pending::Ready(_)) | Err(_) => None,
    }
}

fn report(lines: Vec<LineReport>, committed: bool, encoding: &'static str) -> ImportReport {
    let count = |o: Outcome| lines.iter().filter(|l| l.outcome == o).count();
    let (added, updated) = (count(Outcome::Added), count(Outcome::Updated));
    let (unchanged, refused) = (count(Outcome::Unchanged), count(Outcome::Refused));
    ImportReport { lines, added, updated, unchanged, refused, committed, encoding }
}

struct Pass {
    draft: Draft,
    options: ImportOptions,
    settings: Settings,
    passwords: Arc<Passwords>,
    /// Addresses of earlier lines.
    seen: HashMap<String, u64>,
    /// New members by group, with the lines that asked for them; joined at the end, each group once.
    members: BTreeMap<Address, Vec<(Address, usize)>>,
}

impl Pass {
    fn line(&mut self, index: usize, line: &Line) -> LineReport {
        let done = match &line.wish {
            Ok(wish) => self.grant(index, line.number, wish).map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        };
        let (outcome, reason) = match done {
            Ok((outcome, remark)) => (outcome, remark.to_owned()),
            Err(reason) => (Outcome::Refused, reason),
        };
        LineReport { line: line.number, address: line.shown.clone(), outcome, reason }
    }

    /// Does what a line asks for, or nothing of it.
    fn grant(&mut self, index: usize, number: u64, wish: &Wish) -> Result<(Outcome, &'static str), Error> {
        let address = wish.address.as_ref().ok_or(Error::Stopped)?;
        let form = format!("{}@{}", normal::fold(address.local()), address.domain());
        if let Some(first) = self.seen.get(&form) {
            return Err(Error::Value { what: "the line", why: format!("its address stands on line {first} already") });
        }
        let mut made = Vec::new();
        let mut hosts = vec![address.domain()];
        if self.options.create_groups {
            hosts.extend(wish.groups.iter().map(Address::domain));
        }
        let mut outcome = Ok(());
        if self.options.create_domains {
            for host in hosts {
                if self.draft.model.domain(host).is_none() {
                    outcome = domains::add(&mut self.draft, host, &NewDomain::default()).map(|_| made.push(host.to_owned()));
                }
            }
        }
        let result = outcome.and_then(|()| self.account(index, address, wish));
        if result.is_err() {
            // The line changed nothing else: its domains go as they came.
            for host in made.iter().rev() {
                if let Some(domain) = self.draft.model.domain(host).cloned() {
                    self.draft.drop_domain(&domain);
                    self.draft.writes.drop_domains.remove(&domain.id.0);
                    self.draft.writes.audit.pop();
                }
            }
        } else {
            self.seen.insert(form, number);
        }
        result
    }

    /// Everything that can be refused is checked before the first change.
    fn account(&mut self, index: usize, address: &Address, wish: &Wish) -> Result<(Outcome, &'static str), Error> {
        let shown = address.to_string();
        let name = wish.display_name.as_deref().unwrap_or_default();
        let pending = Pending::of(&wish.password, &[&shown, address.local(), name], self.settings.password_min_chars)?;
        let present: Option<Arc<AccountRecord>> = match self.draft.model.entry(address.local(), address.domain()) {
            Some(Entry::Account(a)) if a.purge_at_s.is_none() => Some(Arc::clone(a)),
            _ => None,
        };
        let aliases = self.check_aliases(address, wish)?;
        let groups = self.check_groups(wish)?;
        let mut different = !aliases.is_empty();
        let id = match &present {
            Some(record) => {
                let change = AccountChange {
                    display_name: wish.display_name.clone(),
                    role: wish.role,
                    language: wish.language,
                    services: wish.services,
                    quota_bytes: wish.quota_bytes,
                    quota_messages: wish.quota_messages,
                    max_message_bytes: wish.max_message_bytes,
                };
                different |= accounts::alter(&mut self.draft, address, &change)?;
                if let Some(suspended) = wish.suspended {
                    different |= accounts::set_suspended(&mut self.draft, address, suspended)?;
                }
                record.id
            }
            None => accounts::add(&mut self.draft, address, &new_account(wish), None)?,
        };
        let unset = wish.password == NewPassword::None;
        if !unset && self.put_password(index, id, present.is_some(), pending, wish) {
            if present.is_some() {
                self.draft.note("account.password", shown.as_str(), "");
            }
            different = true;
        }
        for alias in &aliases {
            routes::add_alias(&mut self.draft, alias, std::slice::from_ref(address))?;
        }
        let form = self.draft.model.target_form(address);
        for group in groups {
            let member = routes::route_of(&self.draft.model, &group).is_some_and(|r| r.leads_to(&form));
            if !member {
                self.members.entry(group).or_default().push((address.clone(), index));
                different = true;
            }
        }
        Ok(match (present, different) {
            (None, _) if unset => (Outcome::Added, "without a password: nobody can sign in until one is set"),
            (None, _) => (Outcome::Added, ""),
            (Some(_), true) => (Outcome::Updated, ""),
            (Some(_), false) => (Outcome::Unchanged, ""),
        })
    }

    /// Stores the line's password; false when it is the one that is stored.
    fn put_password(&mut self, index: usize, id: AccountId, present: bool, pending: Pending, wish: &Wish) -> bool {
        let passwords = Arc::clone(&self.passwords);
        let stored = passwords.stored.get(&id.0);
        let credential = match pending {
            Pending::Password(_) if passwords.same.get(&index) == Some(&id.0) => return false,
            Pending::Password(plain) => match passwords.made.get(&index) {
                Some(made) => made.clone(),
                None if !self.passwords.hashed => Credential::default(),
                // The line was refused in the pass that was thrown away, and is not any more.
                None => Credential::quick(&plain, self.cost()),
            },
            Pending::Ready(credential) => {
                let same = |s: &Credential| match &wish.password {
                    NewPassword::Hash(text) => {
                        s.came_from(text)
                            || (s.hash == credential.hash && s.hash.is_some() || s.hash.is_none() && s.scram == credential.scram)
                    }
                    NewPassword::None | NewPassword::Plain(_) => false,
                };
                if stored.is_some_and(same) {
                    return false;
                }
                credential
            }
        };
        if present {
            self.draft.put_credential(id, credential);
        } else {
            self.draft.writes.credentials.insert(id.0, credential);
        }
        true
    }

    fn cost(&self) -> HashCost {
        self.settings.cost
    }

    /// The aliases of the line that are not there yet.
    fn check_aliases(&self, address: &Address, wish: &Wish) -> Result<Vec<Address>, Error> {
        let form = self.draft.model.target_form(address);
        let mut new: BTreeMap<String, Address> = BTreeMap::new();
        for alias in &wish.aliases {
            let alias_form = self.draft.model.target_form(alias);
            if alias_form == form {
                continue;
            }
            if routes::route_of(&self.draft.model, alias).is_some_and(|r| r.group.is_none() && r.leads_to(&form)) {
                continue;
            }
            self.draft.free_name(&*self.draft.domain(alias.domain())?, alias.local())?;
            new.insert(alias_form, alias.clone());
        }
        Ok(new.into_values().collect())
    }

    fn check_groups(&self, wish: &Wish) -> Result<Vec<Address>, Error> {
        let mut groups: BTreeMap<String, Address> = BTreeMap::new();
        for group in &wish.groups {
            match routes::route_of(&self.draft.model, group).filter(|r| r.group.is_some()) {
                Some(route) if route.targets.len() >= TARGETS_MAX => {
                    return Err(Error::TooMany { what: "a group", max: TARGETS_MAX, given: route.targets.len() + 1 });
                }
                Some(_) => {}
                None if self.options.create_groups => {
                    self.draft.free_name(&*self.draft.domain(group.domain())?, group.local())?;
                    let own = wish
                        .address
                        .as_ref()
                        .is_some_and(|a| self.draft.model.target_form(a) == self.draft.model.target_form(group));
                    if own {
                        return Err(Error::Taken { name: group.to_string(), what: "the account of this line".to_owned() });
                    }
                }
                None => return Err(Error::NoGroup(group.to_string())),
            }
            groups.insert(self.draft.model.target_form(group), group.clone());
        }
        Ok(groups.into_values().collect())
    }

    /// Writes each group once. A name that a later line took for an account is told to the lines that wanted it.
    fn join_groups(&mut self, reports: &mut [LineReport]) {
        for (group, members) in std::mem::take(&mut self.members) {
            let add_members: Vec<Address> = members.iter().map(|(a, _)| a.clone()).collect();
            let exists = routes::route_of(&self.draft.model, &group).is_some_and(|r| r.group.is_some());
            let done = if exists {
                let change = GroupChange { add_members, ..GroupChange::default() };
                routes::alter_group(&mut self.draft, &group, &change)
            } else {
                routes::add_group(&mut self.draft, &group, &NewGroup { members: add_members, ..NewGroup::default() })
            };
            if let Err(e) = done {
                for (_, index) in members {
                    reports[index].reason = format!("not a member of {group}: {e}");
                    if self.options.all_or_nothing {
                        reports[index].outcome = Outcome::Refused;
                    }
                }
            }
        }
    }
}

fn new_account(wish: &Wish) -> NewAccount {
    NewAccount {
        password: NewPassword::None,
        display_name: wish.display_name.clone().unwrap_or_default(),
        role: wish.role.unwrap_or_default(),
        language: wish.language,
        services: wish.services,
        quota_bytes: wish.quota_bytes.flatten(),
        quota_messages: wish.quota_messages.flatten(),
        max_message_bytes: wish.max_message_bytes.flatten(),
        suspended: wish.suspended.unwrap_or(false),
    }
}
