//! A store in memory that keeps real snapshots: the backend of the dialogue tests and of the exactness test. Deterministic: the
//! clock stands at [`NOW_S`], ids count from 1, every mailbox's UIDVALIDITY is 1000 plus its id. Faults can be switched on.

use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;
use twinpost_imap::{
    Account, Annotation, Appended, Backend, Copied, FlagChange, FlagMode, FlagsChanged, MailboxInfo, NewMessage, Outcome,
    Refusal, SpecialUse, TextField, TextHits, Usage, Vanished,
};
use twinpost_message::view::{Entry, Snapshot};
use twinpost_message::{AccountId, BodyId, Flags, MailboxId, ModSeq, Parsed, Uid, UidValidity};

/// The clock: 2023-11-14 22:13:20 UTC.
pub const NOW_S: i64 = 1_700_000_000;

#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
    /// Every append answers "disk full".
    pub disk_full: AtomicBool,
    /// The account was suspended.
    pub suspended: AtomicBool,
    /// How often the body bytes were asked for.
    pub body_reads: std::sync::atomic::AtomicUsize,
}

#[derive(Default)]
struct State {
    accounts: BTreeMap<i64, Person>,
    bodies: HashMap<BodyId, (Bytes, Arc<Parsed>)>,
    damaged: HashSet<BodyId>,
    modseq: u64,
    ids: i64,
    indexed_to: Option<ModSeq>,
}

struct Person {
    address: Arc<str>,
    password: String,
    append_limit_bytes: u32,
    bytes_limit: Option<u64>,
    boxes: BTreeMap<String, Folder>,
    notes: BTreeMap<(Option<MailboxId>, String), Bytes>,
    changes: watch::Sender<ModSeq>,
}

struct Folder {
    id: MailboxId,
    special_use: Option<SpecialUse>,
    subscribed: bool,
    now: watch::Sender<Arc<Snapshot>>,
    vanished: Vec<(ModSeq, Uid)>,
    forgotten_to: ModSeq,
}

impl Person {
    fn by_id(&mut self, id: MailboxId) -> Outcome<&mut Folder> {
        self.boxes.values_mut().find(|b| b.id == id).ok_or(Refusal::NonExistent)
    }
    fn bytes(&self) -> u64 {
        self.boxes.values().flat_map(|b| b.now.borrow().iter().map(|e| u64::from(e.size_bytes)).collect::<Vec<_>>()).sum()
    }
}

impl Folder {
    fn flags(&self, mut flags: Flags, keywords: &[String], make: bool) -> Outcome<(Flags, Vec<String>)> {
        let mut names = self.now.borrow().keywords.to_vec();
        for word in keywords {
            let at = names.iter().position(|n| n.eq_ignore_ascii_case(word));
            let at = match at {
                Some(at) => at,
                None if !make => continue,
                None if names.len() == Flags::KEYWORDS_MAX => {
                    return Err(Refusal::Limit("a mailbox has at most 58 keywords".to_owned()));
                }
                None => {
                    names.push(word.clone());
                    names.len() - 1
                }
            };
            flags = flags.with(Flags::keyword(at));
        }
        Ok((flags, names))
    }
    fn publish(&mut self, updated: &[Entry], removed: &[Uid], added: &[Entry], names: Option<Vec<String>>, at: ModSeq) {
        let mut next = self.now.borrow().apply(updated, removed, added, at);
        if let Some(names) = names.filter(|n| *n != *next.keywords) {
            next = next.with_keywords(names);
        }
        self.vanished.extend(removed.iter().map(|u| (at, *u)));
        self.now.send_replace(Arc::new(next));
    }
}

impl State {
    fn next_modseq(&mut self) -> ModSeq {
        self.modseq += 1;
        ModSeq(self.modseq)
    }
    fn person(&mut self, account: AccountId) -> Outcome<&mut Person> {
        self.accounts.get_mut(&account.0).ok_or(Refusal::Unavailable)
    }
    fn folder(&mut self, account: AccountId, id: MailboxId) -> Outcome<&mut Folder> {
        self.person(account)?.by_id(id)
    }
    fn make(&mut self, account: AccountId, name: &str, special_use: Option<SpecialUse>, subscribed: bool) -> Outcome<MailboxId> {
        self.ids += 1;
        let id = self.ids;
        let at = self.next_modseq();
        let first = Snapshot::new(UidValidity(1000 + u32::try_from(id).unwrap()), Uid(1), at, vec![], &[]);
        let folder = Folder {
            id: MailboxId(id),
            special_use,
            subscribed,
            now: watch::channel(Arc::new(first)).0,
            vanished: vec![],
            forgotten_to: ModSeq(0),
        };
        self.person(account)?.boxes.insert(name.to_owned(), folder);
        Ok(MailboxId(id))
    }
    fn add(&mut self, account: AccountId, to: MailboxId, messages: Vec<NewMessage>) -> Outcome<Appended> {
        let at = self.next_modseq();
        let mut entries = Vec::new();
        let size: u64 = messages.iter().map(|m| m.body.len() as u64).sum();
        let person = self.person(account)?;
        if person.bytes_limit.is_some_and(|limit| person.bytes() + size > limit) {
            return Err(Refusal::OverQuota);
        }
        let limit = person.append_limit_bytes;
        let folder = person.by_id(to)?;
        let mut names = folder.now.borrow().keywords.to_vec();
        let mut uid = folder.now.borrow().uid_next;
        let mut ready = Vec::new();
        for message in messages {
            if message.body.len() > limit as usize {
                return Err(Refusal::TooBig);
            }
            folder.now.send_modify(|s| *s = Arc::new(s.with_keywords(names.clone())));
            let (flags, more) = folder.flags(message.flags, &message.keywords, true)?;
            names = more;
            ready.push((message, flags));
        }
        for (message, flags) in ready {
            self.ids += 1;
            let body = BodyId(self.ids);
            let parsed = Arc::new(Parsed::parse(&message.body));
            entries.push(Entry {
                uid,
                flags,
                modseq: at,
                body,
                size_bytes: u32::try_from(message.body.len()).unwrap(),
                received_s: message.received_s.unwrap_or(NOW_S),
                saved_s: NOW_S,
            });
            self.bodies.insert(body, (message.body, parsed));
            uid = Uid(uid.0 + 1);
        }
        let folder = self.folder(account, to)?;
        folder.publish(&[], &[], &entries, Some(names), at);
        let uid_validity = folder.now.borrow().uid_validity;
        self.changed(account, at);
        Ok(Appended { uid_validity, uids: entries.iter().map(|e| e.uid).collect() })
    }
    fn copy(&mut self, account: AccountId, from: MailboxId, to: MailboxId, uids: &[Uid], take: bool) -> Outcome<Copied> {
        let at = self.next_modseq();
        let source = self.folder(account, from)?.now.borrow().clone();
        let found: Vec<Entry> = uids.iter().filter_map(|u| source.find(*u).map(|(_, e)| *e)).collect();
        let size: u64 = found.iter().map(|e| u64::from(e.size_bytes)).sum();
        let person = self.person(account)?;
        if !take && person.bytes_limit.is_some_and(|limit| person.bytes() + size > limit) {
            return Err(Refusal::OverQuota);
        }
        let target = person.by_id(to)?;
        let mut names = target.now.borrow().keywords.to_vec();
        let first = target.now.borrow().uid_next.0;
        let mut added = Vec::new();
        for (next, entry) in (first..).zip(&found) {
            let words: Vec<String> = (0..source.keywords.len())
                .filter(|i| entry.flags.contains(Flags::keyword(*i)))
                .map(|i| source.keywords[i].clone())
                .collect();
            target.now.send_modify(|s| *s = Arc::new(s.with_keywords(names.clone())));
            let (flags, more) = target.flags(Flags(entry.flags.0 & 31), &words, true)?;
            names = more;
            added.push(Entry { uid: Uid(next), flags, modseq: at, saved_s: NOW_S, ..*entry });
        }
        target.publish(&[], &[], &added, Some(names), at);
        let uid_validity = target.now.borrow().uid_validity;
        if take {
            let gone: Vec<Uid> = found.iter().map(|e| e.uid).collect();
            self.folder(account, from)?.publish(&[], &gone, &[], None, at);
        }
        self.changed(account, at);
        Ok(Copied { uid_validity, pairs: found.iter().zip(&added).map(|(a, b)| (a.uid, b.uid)).collect() })
    }
    fn changed(&mut self, account: AccountId, at: ModSeq) {
        if let Some(person) = self.accounts.get(&account.0) {
            person.changes.send_replace(at);
        }
    }
}

fn info(name: &str, folder: &Folder) -> MailboxInfo {
    let now = folder.now.borrow();
    let count =
        |without: bool, flag: Flags| u32::try_from(now.iter().filter(|e| e.flags.contains(flag) != without).count()).unwrap();
    MailboxInfo {
        id: folder.id,
        name: name.into(),
        special_use: folder.special_use,
        subscribed: folder.subscribed,
        messages: u32::try_from(now.len()).unwrap(),
        unseen: count(true, Flags::SEEN),
        deleted: count(false, Flags::DELETED),
        size_bytes: now.iter().map(|e| u64::from(e.size_bytes)).sum(),
        uid_next: now.uid_next,
        uid_validity: now.uid_validity,
        highest_modseq: now.highest_modseq,
    }
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
    /// Adds an account with an INBOX.
    pub fn account(&self, id: i64, address: &str, password: &str) -> AccountId {
        let mut state = self.lock();
        let person = Person {
            address: address.into(),
            password: password.to_owned(),
            append_limit_bytes: 100_000,
            bytes_limit: None,
            boxes: BTreeMap::new(),
            notes: BTreeMap::new(),
            changes: watch::channel(ModSeq(0)).0,
        };
        state.accounts.insert(id, person);
        state.make(AccountId(id), "INBOX", None, true).unwrap();
        AccountId(id)
    }
    /// The password of an address.
    pub fn password(&self, address: &str) -> Option<(AccountId, String)> {
        let state = self.lock();
        let found = state.accounts.iter().find(|(_, p)| &*p.address == address || p.address.split('@').next() == Some(address));
        found.map(|(id, p)| (AccountId(*id), p.password.clone()))
    }
    /// Sets the quota.
    pub fn limit(&self, account: AccountId, bytes: u64) {
        self.lock().person(account).unwrap().bytes_limit = Some(bytes);
    }
    /// Delivers a message as SMTP would.
    pub fn deliver(&self, account: AccountId, folder: &str, body: &str) -> Uid {
        self.deliver_bytes(account, folder, body.replace('\n', "\r\n").into_bytes())
    }
    /// The same with exact bytes.
    pub fn deliver_bytes(&self, account: AccountId, folder: &str, body: Vec<u8>) -> Uid {
        let mut state = self.lock();
        let to = state.person(account).unwrap().boxes[folder].id;
        let message = NewMessage { body: body.into(), flags: Flags(0), keywords: vec![], received_s: None };
        state.add(account, to, vec![message]).unwrap().uids[0]
    }
    /// Puts a mailbox into an exact state: UIDVALIDITY, UIDNEXT, HIGHESTMODSEQ, messages (UID, flags, modseq) and what vanished.
    pub fn seed(
        &self,
        account: AccountId,
        folder: &str,
        numbers: (u32, u32, u64),
        list: &[(u32, u64, u64)],
        gone: &[(u64, u32)],
    ) {
        let mut state = self.lock();
        let mut entries = Vec::new();
        for (uid, flags, modseq) in list {
            state.ids += 1;
            let body = BodyId(state.ids);
            let bytes = Bytes::from(format!("Subject: message {uid}\r\n\r\nText {uid}.\r\n"));
            entries.push(Entry {
                uid: Uid(*uid),
                flags: Flags(*flags),
                modseq: ModSeq(*modseq),
                body,
                size_bytes: u32::try_from(bytes.len()).unwrap(),
                received_s: NOW_S,
                saved_s: NOW_S,
            });
            let parsed = Arc::new(Parsed::parse(&bytes));
            state.bodies.insert(body, (bytes, parsed));
        }
        state.modseq = state.modseq.max(numbers.2);
        let snapshot = Snapshot::new(UidValidity(numbers.0), Uid(numbers.1), ModSeq(numbers.2), vec![], &entries);
        let folder = state.person(account).unwrap().boxes.get_mut(folder).unwrap();
        folder.now.send_replace(Arc::new(snapshot));
        folder.vanished = gone.iter().map(|(m, u)| (ModSeq(*m), Uid(*u))).collect();
    }
    /// The list of a mailbox as it truly is: UID, system flags and keyword names.
    pub fn truth(&self, account: AccountId, folder: &str) -> Vec<(u32, Vec<String>)> {
        let mut state = self.lock();
        let now = state.person(account).unwrap().boxes[folder].now.borrow().clone();
        now.iter()
            .map(|e| {
                let system = ["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"].into_iter().enumerate();
                let mut names: Vec<String> =
                    system.filter(|(i, _)| e.flags.0 & (1 << i) != 0).map(|(_, n)| n.to_owned()).collect();
                names.extend(
                    (0..now.keywords.len()).filter(|i| e.flags.contains(Flags::keyword(*i))).map(|i| now.keywords[i].clone()),
                );
                names.sort();
                (e.uid.0, names)
            })
            .collect()
    }
    /// The record of this message is damaged.
    pub fn damage(&self, account: AccountId, folder: &str, uid: u32) {
        let mut state = self.lock();
        let now = state.person(account).unwrap().boxes[folder].now.borrow().clone();
        let body = now.find(Uid(uid)).unwrap().1.body;
        state.damaged.insert(body);
    }
    /// The removals at or before this position are forgotten.
    pub fn forget(&self, account: AccountId, folder: &str, to: u64) {
        self.lock().person(account).unwrap().boxes.get_mut(folder).unwrap().forgotten_to = ModSeq(to);
    }
    /// An index that reaches to the newest message (later ones are not in it).
    pub fn index_now(&self) {
        let mut state = self.lock();
        state.indexed_to = Some(ModSeq(state.modseq));
    }
    /// The store closes: every watch ends.
    pub fn close(&self) {
        self.lock().accounts.clear();
    }
}

impl Backend for Memory {
    async fn account(&self, id: AccountId) -> Outcome<Account> {
        let mut state = self.lock();
        let person = state.person(id)?;
        Ok(Account { id, address: person.address.clone(), append_limit_bytes: person.append_limit_bytes })
    }
    fn still_allowed(&self, _account: AccountId) -> bool {
        !self.suspended.load(Relaxed)
    }
    fn now_s(&self) -> i64 {
        NOW_S
    }
    async fn mailboxes(&self, account: AccountId) -> Outcome<Vec<MailboxInfo>> {
        Ok(self.lock().person(account)?.boxes.iter().map(|(n, f)| info(n, f)).collect())
    }
    async fn mailbox(&self, account: AccountId, name: &str) -> Outcome<Option<MailboxInfo>> {
        Ok(self.lock().person(account)?.boxes.get(name).map(|f| info(name, f)))
    }
    async fn create(&self, account: AccountId, name: &str, special_use: Option<SpecialUse>) -> Outcome<MailboxId> {
        let mut state = self.lock();
        if state.person(account)?.boxes.contains_key(name) {
            return Err(Refusal::AlreadyExists);
        }
        if special_use.is_some() && state.person(account)?.boxes.values().any(|f| f.special_use == special_use) {
            return Err(Refusal::UseTaken);
        }
        for (i, _) in name.match_indices('/') {
            if !state.person(account)?.boxes.contains_key(&name[..i]) {
                state.make(account, &name[..i], None, false)?;
            }
        }
        let id = state.make(account, name, special_use, false)?;
        let at = state.next_modseq();
        state.changed(account, at);
        Ok(id)
    }
    async fn delete(&self, account: AccountId, mailbox: MailboxId) -> Outcome<()> {
        let mut state = self.lock();
        let person = state.person(account)?;
        let name = person.boxes.iter().find(|(_, f)| f.id == mailbox).map(|(n, _)| n.clone()).ok_or(Refusal::NonExistent)?;
        if name == "INBOX" {
            return Err(Refusal::Cannot("INBOX cannot be deleted".to_owned()));
        }
        if person.boxes.keys().any(|n| n.starts_with(&format!("{name}/"))) {
            return Err(Refusal::HasChildren);
        }
        let folder = person.boxes.remove(&name).unwrap();
        let mut last = Snapshot::clone(&folder.now.borrow());
        last.gone = true;
        folder.now.send_replace(Arc::new(last));
        let at = state.next_modseq();
        state.changed(account, at);
        Ok(())
    }
    async fn rename(&self, account: AccountId, from: &str, to: &str) -> Outcome<()> {
        let mut state = self.lock();
        if state.person(account)?.boxes.contains_key(to) {
            return Err(Refusal::AlreadyExists);
        }
        if !state.person(account)?.boxes.contains_key(from) {
            return Err(Refusal::NonExistent);
        }
        for (i, _) in to.match_indices('/') {
            if !state.person(account)?.boxes.contains_key(&to[..i]) {
                state.make(account, &to[..i], None, false)?;
            }
        }
        if from == "INBOX" {
            let target = state.make(account, to, None, false)?;
            let inbox = state.person(account)?.boxes["INBOX"].id;
            let uids: Vec<Uid> = state.folder(account, inbox)?.now.borrow().iter().map(|e| e.uid).collect();
            state.copy(account, inbox, target, &uids, true)?;
        } else {
            let person = state.person(account)?;
            let below = format!("{from}/");
            let names: Vec<String> = person.boxes.keys().filter(|n| *n == from || n.starts_with(&below)).cloned().collect();
            for name in names {
                let folder = person.boxes.remove(&name).unwrap();
                person.boxes.insert(format!("{to}{}", &name[from.len()..]), folder);
            }
        }
        let at = state.next_modseq();
        state.changed(account, at);
        Ok(())
    }
    async fn subscribe(&self, account: AccountId, name: &str, on: bool) -> Outcome<()> {
        let mut state = self.lock();
        state.person(account)?.boxes.get_mut(name).ok_or(Refusal::NonExistent)?.subscribed = on;
        let at = state.next_modseq();
        state.changed(account, at);
        Ok(())
    }
    async fn changes(&self, account: AccountId) -> Outcome<watch::Receiver<ModSeq>> {
        Ok(self.lock().person(account)?.changes.subscribe())
    }
    async fn open(&self, account: AccountId, mailbox: MailboxId) -> Outcome<watch::Receiver<Arc<Snapshot>>> {
        Ok(self.lock().folder(account, mailbox)?.now.subscribe())
    }
    async fn vanished(&self, account: AccountId, mailbox: MailboxId, since: ModSeq) -> Outcome<Vanished> {
        let mut state = self.lock();
        let folder = state.folder(account, mailbox)?;
        if since < folder.forgotten_to {
            return Ok(Vanished::Forgotten);
        }
        let mut uids: Vec<Uid> = folder.vanished.iter().filter(|(at, _)| *at > since).map(|(_, u)| *u).collect();
        uids.sort();
        Ok(Vanished::Known(uids))
    }
    async fn append(&self, account: AccountId, mailbox: MailboxId, messages: Vec<NewMessage>) -> Outcome<Appended> {
        if self.disk_full.load(Relaxed) {
            return Err(Refusal::DiskFull);
        }
        self.lock().add(account, mailbox, messages)
    }
    async fn replace(
        &self,
        account: AccountId,
        source: MailboxId,
        old: Uid,
        mailbox: MailboxId,
        message: NewMessage,
    ) -> Outcome<Appended> {
        let mut state = self.lock();
        let appended = state.add(account, mailbox, vec![message])?;
        let at = state.next_modseq();
        state.folder(account, source)?.publish(&[], &[old], &[], None, at);
        state.changed(account, at);
        Ok(appended)
    }
    async fn copy(&self, account: AccountId, from: MailboxId, to: MailboxId, uids: &[Uid]) -> Outcome<Copied> {
        self.lock().copy(account, from, to, uids, false)
    }
    async fn move_to(&self, account: AccountId, from: MailboxId, to: MailboxId, uids: &[Uid]) -> Outcome<Copied> {
        self.lock().copy(account, from, to, uids, true)
    }
    async fn store_flags(&self, account: AccountId, mailbox: MailboxId, change: FlagChange) -> Outcome<FlagsChanged> {
        let mut state = self.lock();
        let at = state.next_modseq();
        let folder = state.folder(account, mailbox)?;
        let (flags, names) = folder.flags(change.flags, &change.keywords, change.mode != FlagMode::Remove)?;
        let now = folder.now.borrow().clone();
        let (mut answer, mut updated) = (FlagsChanged::default(), Vec::new());
        for uid in &change.uids {
            let Some((_, entry)) = now.find(*uid) else {
                answer.missing.push(*uid);
                continue;
            };
            if change.unchanged_since.is_some_and(|limit| entry.modseq > limit) {
                answer.modified.push(*uid);
                continue;
            }
            let next = match change.mode {
                FlagMode::Replace => flags,
                FlagMode::Add => entry.flags.with(flags),
                FlagMode::Remove => entry.flags.without(flags),
            };
            if next != entry.flags {
                updated.push(Entry { flags: next, modseq: at, ..*entry });
            }
        }
        folder.publish(&updated, &[], &[], Some(names), if updated.is_empty() { ModSeq(0) } else { at });
        state.changed(account, at);
        Ok(answer)
    }
    async fn expunge(&self, account: AccountId, mailbox: MailboxId, uids: &[Uid]) -> Outcome<()> {
        let mut state = self.lock();
        let at = state.next_modseq();
        let folder = state.folder(account, mailbox)?;
        let now = folder.now.borrow().clone();
        let gone: Vec<Uid> =
            uids.iter().filter(|u| now.find(**u).is_some_and(|(_, e)| e.flags.contains(Flags::DELETED))).copied().collect();
        folder.publish(&[], &gone, &[], None, if gone.is_empty() { ModSeq(0) } else { at });
        state.changed(account, at);
        Ok(())
    }
    async fn parsed(&self, _account: AccountId, bodies: &[BodyId]) -> Outcome<Vec<Outcome<Arc<Parsed>>>> {
        let state = self.lock();
        Ok(bodies.iter().map(|b| state.bodies.get(b).map(|(_, p)| p.clone()).ok_or(Refusal::NonExistent)).collect())
    }
    async fn bodies(&self, _account: AccountId, bodies: &[BodyId]) -> Outcome<Vec<Outcome<Bytes>>> {
        self.body_reads.fetch_add(bodies.len(), Relaxed);
        let state = self.lock();
        let read = |b: &BodyId| {
            if state.damaged.contains(b) {
                return Err(Refusal::Damaged("checksum of the record does not match".to_owned()));
            }
            state.bodies.get(b).map(|(bytes, _)| bytes.clone()).ok_or(Refusal::NonExistent)
        };
        Ok(bodies.iter().map(read).collect())
    }
    async fn search_text(&self, _account: AccountId, _field: TextField, text: &str) -> Outcome<Option<TextHits>> {
        let state = self.lock();
        let Some(indexed_to) = state.indexed_to else { return Ok(None) };
        // An index that knows less than the text: it offers every body that holds the text's letters in any case, anywhere.
        let wanted = text.to_lowercase();
        let mut bodies: Vec<BodyId> = state
            .bodies
            .iter()
            .filter(|(_, (bytes, _))| String::from_utf8_lossy(bytes).to_lowercase().contains(&wanted))
            .map(|(id, _)| *id)
            .collect();
        bodies.sort();
        Ok(Some(TextHits { bodies, exact: false, indexed_to }))
    }
    async fn annotations(&self, account: AccountId, mailbox: Option<MailboxId>) -> Outcome<Vec<Annotation>> {
        let mut state = self.lock();
        let notes = &state.person(account)?.notes;
        Ok(notes.iter().filter(|((m, _), _)| *m == mailbox).map(|((_, n), v)| (n.clone(), v.clone())).collect())
    }
    async fn set_annotations(
        &self,
        account: AccountId,
        mailbox: Option<MailboxId>,
        entries: Vec<(String, Option<Bytes>)>,
    ) -> Outcome<()> {
        let mut state = self.lock();
        let notes = &mut state.person(account)?.notes;
        for (name, value) in entries {
            match value {
                Some(value) => notes.insert((mailbox, name), value),
                None => notes.remove(&(mailbox, name)),
            };
        }
        Ok(())
    }
    async fn usage(&self, account: AccountId) -> Outcome<Usage> {
        let mut state = self.lock();
        let person = state.person(account)?;
        Ok(Usage {
            bytes: person.bytes(),
            bytes_limit: person.bytes_limit,
            messages: person.boxes.values().map(|f| f.now.borrow().len() as u64).sum(),
            mailboxes: person.boxes.len() as u64,
            ..Usage::default()
        })
    }
}
