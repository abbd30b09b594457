//! What the writer keeps in memory: mailboxes, accounts, domains and bodies that it touched lately, as committed.
//!
//! Contract: between batches each cached value equals its row. A batch changes the cached values; when its transaction
//! fails, everything is dropped and read again when needed. Bounded: two generations, the older goes when the younger is full.

use crate::db::{self, Row, Value};
use crate::{Error, INBOX, SpecialUse, Usage};
use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use twinpost_message::{AccountId, BodyHash, BodyId, DomainId, Flags, MailboxId, ModSeq, Uid, UidValidity};
use twinpost_sql::Database;

/// A bounded map that forgets what was not used for a while, but never inside a batch.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    most: usize,
}

impl<K: Hash + Eq + Clone, V> Recent<K, V> {
    pub fn new(most: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), most }
    }
    pub fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        if !self.young.contains_key(key)
            && let Some((k, v)) = self.old.remove_entry(key)
        {
            self.young.insert(k, v);
        }
        self.young.get_mut(key)
    }
    pub fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_mut(key).map(|v| &*v)
    }
    pub fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        self.young.insert(key, value);
    }
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }
    pub fn retain(&mut self, keep: impl Fn(&K, &V) -> bool) {
        self.young.retain(|k, v| keep(k, v));
        self.old.retain(|k, v| keep(k, v));
    }
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
    /// Between batches: forgets the older generation when the younger one is full.
    pub fn age(&mut self) {
        if self.young.len() > self.most / 2 {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

/// A mailbox row.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    pub id: MailboxId,
    pub account: AccountId,
    pub name: String,
    pub uid_validity: UidValidity,
    pub uid_next: Uid,
    pub highest_modseq: ModSeq,
    pub messages: u64,
    pub unseen: u64,
    pub deleted: u64,
    pub size_bytes: u64,
    pub special_use: Option<SpecialUse>,
    pub created_s: i64,
    /// Names by bit; none when not read yet.
    pub keywords: Option<Vec<String>>,
}

pub(crate) const MAILBOX: &str = "SELECT id, account, name, uid_validity, uid_next, highest_modseq, messages, unseen, deleted, \
                                  size_bytes, special_use, created_s FROM mailbox WHERE ";

impl Mailbox {
    pub fn read(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: MailboxId(row.int(0)?),
            account: AccountId(row.int(1)?),
            name: row.text(2)?,
            uid_validity: UidValidity(row.u32(3)?),
            uid_next: Uid(row.u32(4)?),
            highest_modseq: ModSeq(row.uint(5)?),
            messages: row.uint(6)?,
            unseen: row.uint(7)?,
            deleted: row.uint(8)?,
            size_bytes: row.uint(9)?,
            special_use: row.opt_text(10)?.as_deref().and_then(SpecialUse::of),
            created_s: row.int(11)?,
            keywords: None,
        })
    }
    pub fn values(&self) -> Vec<Value> {
        vec![
            self.id.0.into(),
            self.account.0.into(),
            self.name.as_str().into(),
            self.uid_validity.0.into(),
            self.uid_next.0.into(),
            self.highest_modseq.0.into(),
            self.messages.into(),
            self.unseen.into(),
            self.deleted.into(),
            self.size_bytes.into(),
            self.special_use.map(SpecialUse::name).into(),
            self.created_s.into(),
        ]
    }
    /// Counts a message in.
    pub fn count(&mut self, flags: Flags, size_bytes: u32) {
        self.messages += 1;
        self.size_bytes += u64::from(size_bytes);
        self.unseen += u64::from(!flags.contains(Flags::SEEN));
        self.deleted += u64::from(flags.contains(Flags::DELETED));
    }
    /// Counts a message out. Saturates: a wrong counter is found by `verify`, it must not stop mail.
    pub fn discount(&mut self, flags: Flags, size_bytes: u32) {
        self.messages = self.messages.saturating_sub(1);
        self.size_bytes = self.size_bytes.saturating_sub(u64::from(size_bytes));
        self.unseen = self.unseen.saturating_sub(u64::from(!flags.contains(Flags::SEEN)));
        self.deleted = self.deleted.saturating_sub(u64::from(flags.contains(Flags::DELETED)));
    }
}

/// An account row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    pub domain: DomainId,
    pub usage: Usage,
    /// The folders beside INBOX were made.
    pub furnished: bool,
}

/// Everything that is cached.
#[derive(Debug)]
pub(crate) struct State {
    pub mailboxes: Recent<MailboxId, Mailbox>,
    /// INBOX and other names that were looked up; none when the account has no such mailbox.
    pub names: Recent<(AccountId, String), Option<MailboxId>>,
    pub accounts: Recent<AccountId, Account>,
    pub domains: Recent<DomainId, Usage>,
    pub bodies: Recent<BodyHash, BodyId>,
}

impl State {
    pub fn new() -> Self {
        Self {
            mailboxes: Recent::new(100_000),
            names: Recent::new(100_000),
            accounts: Recent::new(100_000),
            domains: Recent::new(20_000),
            bodies: Recent::new(100_000),
        }
    }

    /// After a failed transaction: nothing is known any more.
    pub fn forget(&mut self) {
        self.mailboxes.clear();
        self.names.clear();
        self.accounts.clear();
        self.domains.clear();
        self.bodies.clear();
    }

    pub fn age(&mut self) {
        self.mailboxes.age();
        self.names.age();
        self.accounts.age();
        self.domains.age();
        self.bodies.age();
    }

    /// Reads the accounts that are not cached, and their domains.
    pub async fn load_accounts(&mut self, db: &Database, ids: impl Iterator<Item = AccountId>) -> Result<(), Error> {
        let missing: HashSet<AccountId> = ids.filter(|id| self.accounts.get(id).is_none()).collect();
        let mut domains = HashSet::new();
        if !missing.is_empty() {
            let list: Vec<Value> = missing.iter().map(|id| id.0.into()).collect();
            let head = "SELECT id, domain, size_bytes, messages, furnished FROM account WHERE id";
            for row in db::fetch_in(db, head, &[], &list, "").await? {
                let usage = Usage { size_bytes: row.uint(2)?, messages: row.uint(3)? };
                let account = Account { domain: DomainId(row.int(1)?), usage, furnished: row.bool(4)? };
                domains.insert(account.domain);
                self.accounts.insert(AccountId(row.int(0)?), account);
            }
        }
        self.load_domains(db, domains.into_iter()).await
    }

    /// Reads the domains that are not cached; those that have no row use nothing.
    pub async fn load_domains(&mut self, db: &Database, ids: impl Iterator<Item = DomainId>) -> Result<(), Error> {
        let missing: HashSet<DomainId> = ids.filter(|id| self.domains.get(id).is_none()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let list: Vec<Value> = missing.iter().map(|id| id.0.into()).collect();
        let head = "SELECT id, size_bytes, messages FROM domain WHERE id";
        let rows = db::fetch_in(db, head, &[], &list, "").await?;
        for id in missing {
            self.domains.insert(id, Usage::default());
        }
        for row in rows {
            self.domains.insert(DomainId(row.int(0)?), Usage { size_bytes: row.uint(1)?, messages: row.uint(2)? });
        }
        Ok(())
    }

    fn keep(&mut self, mailbox: Mailbox) {
        self.names.insert((mailbox.account, mailbox.name.clone()), Some(mailbox.id));
        self.mailboxes.insert(mailbox.id, mailbox);
    }

    /// Reads the mailboxes with these ids that are not cached.
    pub async fn load_mailboxes(&mut self, db: &Database, ids: impl Iterator<Item = MailboxId>) -> Result<(), Error> {
        let missing: HashSet<MailboxId> = ids.filter(|id| self.mailboxes.get(id).is_none()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let list: Vec<Value> = missing.iter().map(|id| id.0.into()).collect();
        for row in db::fetch_in(db, &format!("{MAILBOX} id"), &[], &list, "").await? {
            self.keep(Mailbox::read(&row)?);
        }
        Ok(())
    }

    /// Reads the mailboxes with these names that are not cached. INBOX of many accounts is one statement.
    pub async fn load_names(&mut self, db: &Database, names: impl Iterator<Item = (AccountId, String)>) -> Result<(), Error> {
        let mut missing: HashSet<(AccountId, String)> = HashSet::new();
        for key in names {
            // A name can be known whose mailbox has aged out.
            let known = match self.names.get(&key) {
                None => false,
                Some(None) => true,
                Some(Some(id)) => {
                    let id = *id;
                    self.mailboxes.get(&id).is_some()
                }
            };
            if !known {
                missing.insert(key);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let mut by_name: HashMap<&str, Vec<Value>> = HashMap::new();
        for (account, name) in &missing {
            by_name.entry(name).or_default().push(account.0.into());
        }
        let mut found = Vec::new();
        for (name, accounts) in by_name {
            let head = format!("{MAILBOX} name = $1 AND account");
            for row in db::fetch_in(db, &head, &[name.into()], &accounts, "").await? {
                found.push(Mailbox::read(&row)?);
            }
        }
        for key in missing {
            self.names.insert(key, None);
        }
        for mailbox in found {
            // A mailbox that is cached by id is the same row.
            if self.mailboxes.get(&mailbox.id).is_some() {
                self.names.insert((mailbox.account, mailbox.name.clone()), Some(mailbox.id));
            } else {
                self.keep(mailbox);
            }
        }
        Ok(())
    }

    /// Reads the keyword tables of these mailboxes that are not cached.
    pub async fn load_keywords(&mut self, db: &Database, ids: impl Iterator<Item = MailboxId>) -> Result<(), Error> {
        let missing: HashSet<MailboxId> = ids.filter(|id| self.mailboxes.get(id).is_some_and(|m| m.keywords.is_none())).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let list: Vec<Value> = missing.iter().map(|id| id.0.into()).collect();
        let rows =
            db::fetch_in(db, "SELECT mailbox, name FROM keyword WHERE mailbox", &[], &list, "ORDER BY mailbox, place").await?;
        for id in missing {
            if let Some(mailbox) = self.mailboxes.get_mut(&id) {
                mailbox.keywords = Some(Vec::new());
            }
        }
        for row in rows {
            if let Some(Mailbox { keywords: Some(names), .. }) = self.mailboxes.get_mut(&MailboxId(row.int(0)?)) {
                names.push(row.text(1)?);
            }
        }
        Ok(())
    }

    /// The account's mailbox of this name, when both caches have it.
    pub fn named(&mut self, account: AccountId, name: &str) -> Option<MailboxId> {
        let id = (*self.names.get(&(account, name.to_owned()))?)?;
        self.mailboxes.get(&id).map(|m| m.id)
    }

    pub fn inbox(&mut self, account: AccountId) -> Option<MailboxId> {
        self.named(account, INBOX)
    }
}
