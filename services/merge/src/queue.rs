//! Outbound mail that waits on the other side.
//!
//! Contract: mail that came there after the two parted and waits there still is queued here once; what was sent there is not.
//! An entry of before they parted is here, or was settled here: it stays as it is, and is told where the other side
//! settled it, too. A try that was under way when the other side stopped cannot be seen: such an entry is queued (SMTP allows a second
//! copy, not a lost one), and told.

use crate::compare::Other;
use crate::people::{Found, Home};
use crate::report::{Outbound, QUEUE_MAX, QueueDifference, Report};
use crate::{Error, Options, Sides, paths, same};
use std::collections::{BTreeMap, HashMap, HashSet};
use twinpost_message::{AccountId, Addr, BodyHash, BodyId, Parsed, TraceId};
use twinpost_store::spool::{NewRcpt, NewSpool, RcptState, SpoolEntry, SpoolFilter};
use twinpost_store::{ChangeKind, MergeKey, Store};

/// Entries that are asked for at once.
const PAGE: usize = 1_000;
/// What a message that waited out its time there still gets here, in seconds.
const CHANCE_S: i64 = 86_400;
/// Characters of a text for people.
const SHOWN_CHARS: usize = 200;

/// An entry to be queued here.
pub(crate) struct Requeue {
    pub entry: SpoolEntry,
    pub key: MergeKey,
    /// Its place in the report.
    pub listed: Option<usize>,
}

impl Requeue {
    /// As it is queued here: the recipients that still wait, due now.
    pub fn spool(&self, people: &BTreeMap<AccountId, Found>, options: Options) -> NewSpool {
        let now = paths::now_s();
        let e = &self.entry;
        let account = e.account.and_then(|there| match people.get(&there) {
            Some(Found::Here(Home { account, .. })) => Some(*account),
            _ => None,
        });
        NewSpool {
            sender: e.sender.clone(),
            ret: e.ret,
            envid: e.envid.clone(),
            smtputf8: e.smtputf8,
            eight_bit: e.eight_bit,
            require_tls: e.require_tls,
            held: e.held || options.hold_queue,
            account,
            expires_s: e.expires_s.max(now.saturating_add(CHANCE_S)),
            next_try_s: now,
            rcpts: waiting(e).map(|r| NewRcpt { address: r.address.clone(), orcpt: r.orcpt.clone(), notify: r.notify }).collect(),
        }
    }
}

fn waiting(e: &SpoolEntry) -> impl Iterator<Item = &twinpost_store::spool::SpoolRcpt> {
    e.rcpts.iter().filter(|r| r.state == RcptState::Waiting)
}

/// A text of a message, for people.
pub(crate) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect()
}

/// Whom a message is from.
pub(crate) fn sender_of(parsed: &Parsed) -> String {
    match parsed.envelope.from.first() {
        Some(Addr::Mailbox(m)) => shown(&format!("{}@{}", m.local, m.host)),
        Some(Addr::Group(g)) => shown(&g.name),
        None => String::new(),
    }
}

async fn subject(store: &Store, body: BodyId) -> String {
    match store.parsed(&[body]).await {
        Ok(parsed) => parsed.first().map(|p| shown(&p.envelope.subject_text)).unwrap_or_default(),
        Err(_) => String::new(),
    }
}

async fn entries(store: &Store) -> Result<Vec<SpoolEntry>, Error> {
    let (mut all, mut filter) = (Vec::new(), SpoolFilter::default());
    loop {
        let page = store.spool_list(&filter, PAGE).await?;
        filter.after = page.last().map(|e| e.id);
        let last = page.is_empty();
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

/// Bodies that were queued here after the two parted.
async fn queued_here(sides: &Sides, other: &Other) -> Result<HashSet<BodyId>, Error> {
    let (mut at, mut bodies) = (other.divergence.number, HashSet::new());
    loop {
        let page = sides.store.changes(at, 4_000).await?;
        bodies.extend(page.iter().filter(|c| c.kind == ChangeKind::Spooled).map(|c| c.body));
        match page.last() {
            Some(last) => at = last.modseq,
            None => return Ok(bodies),
        }
    }
}

fn key(e: &SpoolEntry, hash: &BodyHash) -> MergeKey {
    let mut text = b"queue".to_vec();
    text.extend(e.id.0.to_le_bytes());
    text.extend(e.trace.0.to_le_bytes());
    text.extend(hash.0);
    MergeKey::of(&text)
}

fn told(e: &SpoolEntry, state: Outbound, recipients: Vec<String>, subject: String) -> QueueDifference {
    QueueDifference {
        state,
        trace: e.trace.to_string(),
        sender: e.sender.as_ref().map(ToString::to_string).unwrap_or_default(),
        recipients,
        subject,
        size_bytes: e.size_bytes,
        created_s: e.created_s,
        maybe_sent: false,
        here: None,
    }
}

/// Compares the queues, and lists in the report what differs.
pub(crate) async fn compare(sides: &Sides, other: &Other, report: &mut Report) -> Result<Vec<Requeue>, Error> {
    let (ours, theirs) = (entries(&sides.store).await?, entries(other.store()).await?);
    let by_trace: HashMap<TraceId, &SpoolEntry> = ours.iter().map(|e| (e.trace, e)).collect();
    let mut list: Vec<QueueDifference> = Vec::new();
    let mut requeue = Vec::new();
    let mut queued = None;
    for e in &theirs {
        let left: Vec<String> = waiting(e).map(|r| r.address.to_string()).collect();
        if left.is_empty() {
            continue;
        }
        let hash = other.store().body_hash(e.body).await?;
        let key = key(e, &hash);
        let known = !sides.store.merged(&[key]).await?.is_empty();
        if !known && let Some(here) = by_trace.get(&e.trace) {
            // Of before they parted, or the same try of the last moment: it goes out from here.
            let mut told = told(e, Outbound::OnBoth, left, subject(other.store(), e.body).await);
            told.here = Some(here.id.0);
            list.push(told);
            continue;
        }
        if other.is_common(e.id.0) {
            // Settled here, or dropped by an operator.
            continue;
        }
        if !known && let Some(body) = sides.store.bodies_named(&[hash]).await?.get(&hash) {
            if queued.is_none() {
                queued = Some(queued_here(sides, other).await?);
            }
            let traced = other.store().body(e.body).await.is_ok_and(|b| same::trace(&b) == Some(e.trace));
            // The same message was queued here, too, and has gone out since.
            if traced && queued.as_ref().is_some_and(|q| q.contains(body)) {
                continue;
            }
        }
        let state = if known { Outbound::TakenBefore } else { Outbound::OnlyThere };
        let mut told = told(e, state, left, subject(other.store(), e.body).await);
        // The other side ended before now; when exactly, nobody knows.
        told.maybe_sent = !e.held && waiting(e).any(|r| r.next_try_s <= report.began_s);
        list.push(told);
        if !known {
            requeue.push(Requeue { entry: e.clone(), key, listed: Some(list.len() - 1) });
        }
    }
    // What waits here although the other side settled it.
    let there: HashMap<i64, &SpoolEntry> = theirs.iter().map(|e| (e.id.0, e)).collect();
    for e in ours.iter().filter(|e| other.is_common(e.id.0)) {
        let theirs = there.get(&e.id.0).filter(|t| t.trace == e.trace);
        let waits = |n: u32| theirs.is_some_and(|t| waiting(t).any(|r| r.n == n));
        let done: Vec<String> = waiting(e).filter(|r| !waits(r.n)).map(|r| r.address.to_string()).collect();
        if !done.is_empty() {
            let mut told = told(e, Outbound::DoneThere, done, subject(&sides.store, e.body).await);
            told.here = Some(e.id.0);
            list.push(told);
        }
    }
    report.totals.queue = requeue.len() as u64;
    if list.len() > QUEUE_MAX {
        let more = list.len() - QUEUE_MAX;
        report.fault(format!("The list of outbound mail is cut: {more} further entries differ."));
        list.truncate(QUEUE_MAX);
        for r in &mut requeue {
            r.listed = r.listed.filter(|n| *n < QUEUE_MAX);
        }
    }
    report.queue = list;
    Ok(requeue)
}
