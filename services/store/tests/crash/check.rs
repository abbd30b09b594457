//! What must be true of a store after a power cut or a kill, given what had been said.
//!
//! Contract: every acknowledged step is there, exactly; of a step that was begun and not acknowledged all or nothing; nothing
//! else is there, nothing twice, nothing half. Counters agree with what they count, and `verify` finds nothing.

use crate::child::Texts;
use crate::plan::{AFTERWARDS, KEEP, OTHER, Place, SHARED, State, WORKERS};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use twinpost_message::{AccountId, Flags};
use twinpost_store::files::RealFiles;
use twinpost_store::pack::{Found, PackReader};
use twinpost_store::spool::SpoolFilter;
use twinpost_store::{Error, MailboxInfo, Store};

/// What the process had said.
#[derive(Clone, Debug, Default)]
pub struct Said {
    made: BTreeSet<u64>,
    started: BTreeMap<u64, u64>,
    acked: BTreeMap<u64, u64>,
    /// The mail that was sent after a first cut.
    afterwards: bool,
}

impl Said {
    pub fn new<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut said = Self::default();
        for line in lines {
            let mut words = line.split(' ');
            let (word, worker, step) = (words.next(), words.next(), words.next());
            let number = |text: Option<&str>| text.and_then(|t| t.parse::<u64>().ok());
            match (word, number(worker), number(step)) {
                (Some("made"), Some(w), None) => drop(said.made.insert(w)),
                (Some("start"), Some(w), Some(s)) => drop(said.started.insert(w, s + 1)),
                (Some("ack"), Some(w), Some(s)) => drop(said.acked.insert(w, s + 1)),
                _ => {}
            }
        }
        said
    }

    /// This, and what a second process said after it.
    pub fn and_then<'a>(mut self, mut lines: impl Iterator<Item = &'a str>) -> Self {
        self.afterwards |= lines.any(|line| line == "ack afterwards");
        self
    }

    pub fn acknowledged(&self) -> u64 {
        self.acked.values().sum()
    }
}

type Fault = Result<(), String>;

/// A mailbox as it is: its row and UID -> mail and flags.
struct Mailbox {
    info: MailboxInfo,
    mails: BTreeMap<u32, (u64, Flags)>,
}

pub async fn check(store: &Store, seed: u64, said: &Said, texts: &mut Texts) -> Fault {
    let mut shared = BTreeSet::new();
    let mut queued = BTreeSet::new();
    for worker in 0..WORKERS {
        let state = worker_state(store, seed, worker, said, texts).await?;
        shared.extend(state.shared);
        queued.extend(state.queued);
    }
    let found = mailbox(store, seed, SHARED, "INBOX", texts).await?;
    let in_shared: Vec<u64> = found.iter().flat_map(|f| f.mails.values().map(|m| m.0)).collect();
    same("the shared mailbox", in_shared, &shared)?;
    let entries = store.spool_list(&SpoolFilter::default(), 100_000).await.map_err(|e| e.to_string())?;
    let mut in_queue = Vec::new();
    for entry in entries {
        let mail = entry.envid.as_deref().and_then(|e| e.parse().ok()).ok_or("a queue entry without its name")?;
        let body = store.body(entry.body).await.map_err(|e| format!("queue entry {mail}: {e}"))?;
        if body != *texts.of(seed, mail) {
            return Err(format!("queue entry {mail} has another text"));
        }
        in_queue.push(mail);
    }
    same("the queue", in_queue, &queued)?;
    let found = mailbox(store, seed, OTHER, "INBOX", texts).await?;
    let mails: Vec<u64> = found.iter().flat_map(|f| f.mails.values().map(|m| m.0)).collect();
    if (said.afterwards || !mails.is_empty()) && mails != [AFTERWARDS] {
        return Err(format!("the mail after the first cut became {mails:?}"));
    }
    packs_are_clean(store)
}

/// Opening has cleared away what was half-written: every record is whole, and nothing lies between.
fn packs_are_clean(store: &Store) -> Fault {
    let reader = PackReader::at_rest(Arc::new(RealFiles), &store.dir().join("packs"));
    for pack in reader.packs().map_err(|e| e.to_string())? {
        for found in reader.scan(pack.pack).map_err(|e| e.to_string())? {
            let Found::Record { location, .. } = found else { return Err(format!("{found:?}")) };
            reader.check(location).map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

fn same(what: &str, mut found: Vec<u64>, expected: &BTreeSet<u64>) -> Fault {
    found.sort_unstable();
    if let Some(twice) = found.windows(2).find(|w| w[0] == w[1]) {
        return Err(format!("{what} has {} twice", twice[0]));
    }
    let found: BTreeSet<u64> = found.into_iter().collect();
    match (expected.difference(&found).next(), found.difference(expected).next()) {
        (Some(lost), _) => Err(format!("{what} has lost {lost} of {:?}", crate::plan::origin(*lost))),
        (_, Some(extra)) => Err(format!("{what} has {extra}, which its worker does not have")),
        _ => Ok(()),
    }
}

/// The state that a worker's mailboxes are in: all that was acknowledged, and perhaps the step after it.
async fn worker_state(store: &Store, seed: u64, worker: u64, said: &Said, texts: &mut Texts) -> Result<State, String> {
    let account = worker as i64 + 1;
    let acked = said.acked.get(&worker).copied().unwrap_or(0);
    let started = said.started.get(&worker).copied().unwrap_or(0);
    let mut found = BTreeMap::new();
    for (place, name) in [(Place::Inbox, "INBOX"), (Place::Keep, KEEP)] {
        match mailbox(store, seed, account, name, texts).await? {
            Some(mailbox) => drop(found.insert(place, mailbox)),
            None if said.made.contains(&worker) => return Err(format!("{name} of worker {worker} is lost")),
            None => {}
        }
    }
    let mut why = String::new();
    for steps in acked..=started {
        let state = State::after(seed, worker, steps);
        match compare(&state, &found) {
            Ok(()) => return usage(store, account, &found).await.map(|()| state),
            Err(what) => why = what,
        }
    }
    Err(format!("worker {worker} after {acked} acknowledged steps of {started}: {why}"))
}

fn compare(state: &State, found: &BTreeMap<Place, Mailbox>) -> Fault {
    for place in [Place::Inbox, Place::Keep] {
        let expected = state.boxes.get(&place).cloned().unwrap_or_default();
        let Some(found) = found.get(&place) else {
            if expected.is_empty() {
                continue;
            }
            return Err(format!("{place:?} is lost"));
        };
        if found.mails != expected {
            return Err(format!("{place:?} has {:?} instead of {expected:?}", found.mails));
        }
        if found.info.uid_next.0 != state.next_uid(place) {
            return Err(format!("{place:?} has UIDNEXT {} instead of {}", found.info.uid_next, state.next_uid(place)));
        }
    }
    Ok(())
}

async fn usage(store: &Store, account: i64, found: &BTreeMap<Place, Mailbox>) -> Fault {
    let usage = store.usage(AccountId(account)).await.map_err(|e| e.to_string())?;
    let messages: u64 = found.values().map(|f| u64::from(f.info.messages)).sum();
    let size_bytes: u64 = found.values().map(|f| f.info.size_bytes).sum();
    if (usage.messages, usage.size_bytes) != (messages, size_bytes) {
        return Err(format!("account {account} counts {usage:?} instead of {messages} messages of {size_bytes} bytes"));
    }
    Ok(())
}

/// A mailbox with every body read, and its counters counted again.
async fn mailbox(store: &Store, seed: u64, account: i64, name: &str, texts: &mut Texts) -> Result<Option<Mailbox>, String> {
    let info = match store.mailbox_named(AccountId(account), name).await {
        Ok(info) => info,
        Err(Error::NoMailboxName(_)) => return Ok(None),
        Err(e) => return Err(format!("{name} of {account}: {e}")),
    };
    let snapshot = store.snapshot(info.id).await.map_err(|e| format!("{name} of {account}: {e}"))?;
    let mut mails = BTreeMap::new();
    let (mut unseen, mut deleted, mut size_bytes) = (0, 0, 0);
    for entry in snapshot.iter() {
        let body = store.body(entry.body).await.map_err(|e| format!("{name} of {account}, UID {}: {e}", entry.uid))?;
        let subject = String::from_utf8_lossy(&body);
        let mail = subject.split("Subject: mail ").nth(1).and_then(|s| s.split('\r').next()?.parse().ok());
        let mail: u64 = mail.ok_or_else(|| format!("{name} of {account}, UID {}: not a mail of ours", entry.uid))?;
        if body != *texts.of(seed, mail) || body.len() != entry.size_bytes as usize {
            return Err(format!("{name} of {account}, UID {}: not the text of {mail}", entry.uid));
        }
        unseen += u32::from(!entry.flags.contains(Flags::SEEN));
        deleted += u32::from(entry.flags.contains(Flags::DELETED));
        size_bytes += u64::from(entry.size_bytes);
        mails.insert(entry.uid.0, (mail, entry.flags));
    }
    let counted = (mails.len() as u32, unseen, deleted, size_bytes);
    let counters = (info.messages, info.unseen, info.deleted, info.size_bytes);
    if counted != counters {
        return Err(format!("{name} of {account} counts {counters:?} instead of {counted:?}"));
    }
    Ok(Some(Mailbox { info, mails }))
}
