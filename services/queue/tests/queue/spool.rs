//! A spool in memory that keeps the rules of the real one, and says when they are broken.

use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify as Bell, watch};
use twinpost_message::{Address, QueueId, TraceId};
use twinpost_queue::{Entry, Notify, Recipient, RecipientUpdate, Reply, Report, Spool, SpoolFault, State, Update};

pub fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

#[derive(Default)]
pub struct Inner {
    pub entries: BTreeMap<QueueId, Entry>,
    pub bodies: BTreeMap<QueueId, Bytes>,
    claimed: HashSet<QueueId>,
    /// Final and last states, by entry and recipient.
    pub updates: Vec<(QueueId, RecipientUpdate)>,
    pub commits: usize,
    pub reports: Vec<Report>,
    /// Domains that are of this site.
    pub here: BTreeMap<String, (State, Reply)>,
}

#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    state: watch::Sender<Inner>,
    came: Bell,
    update_faults: AtomicUsize,
    body_faults: AtomicUsize,
    body_panics: AtomicUsize,
}

impl Memory {
    pub fn new() -> Self {
        let (update_faults, body_faults, body_panics) = Default::default();
        Self(Arc::new(Shared { state: watch::Sender::default(), came: Bell::new(), update_faults, body_faults, body_panics }))
    }
    pub fn put(&self, entry: Entry, body: impl Into<Bytes>) {
        self.0.state.send_modify(|s| {
            s.bodies.insert(entry.id, body.into());
            s.entries.insert(entry.id, entry);
        });
        self.0.came.notify_one();
    }
    pub fn edit<T>(&self, edit: impl FnOnce(&mut Inner) -> T) -> T {
        let mut out = None;
        self.0.state.send_modify(|s| out = Some(edit(s)));
        self.0.came.notify_one();
        out.unwrap()
    }
    pub fn read<T>(&self, read: impl FnOnce(&Inner) -> T) -> T {
        read(&self.0.state.borrow())
    }
    /// Waits until this is so.
    pub async fn until(&self, what: &str, mut is: impl FnMut(&Inner) -> bool) {
        let mut state = self.0.state.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(30), state.wait_for(|s| is(s))).await;
        if waited.is_err() {
            let seen = self.read(|s| s.updates.iter().map(|(id, u)| format!("{id}: {u:?}\n")).collect::<String>());
            panic!("never: {what}; updates so far:\n{seen}");
        }
        waited.unwrap().unwrap();
    }
    /// Waits until each of so many recipients was written down.
    pub async fn updated(&self, n: usize) {
        self.until(&format!("{n} updates"), |s| s.updates.len() >= n).await;
    }
    pub fn last(&self, id: i64, n: u32) -> RecipientUpdate {
        self.read(|s| s.updates.iter().rev().find(|(i, u)| *i == QueueId(id) && u.n == n).map(|(_, u)| u.clone()))
            .expect("an update")
    }
    /// Makes everything due now.
    pub fn due(&self) {
        self.edit(|s| s.entries.values_mut().flat_map(|e| &mut e.recipients).for_each(|r| r.next_try_s = 0));
    }
    pub fn reports(&self) -> Vec<Report> {
        self.read(|s| s.reports.clone())
    }
    pub fn is_claimed(&self, id: i64) -> bool {
        self.read(|s| s.claimed.contains(&QueueId(id)))
    }
    pub fn fail_updates(&self, n: usize) {
        self.0.update_faults.store(n, Ordering::SeqCst);
    }
    pub fn update_faults_left(&self) -> usize {
        self.0.update_faults.load(Ordering::SeqCst)
    }
    pub fn fail_bodies(&self, n: usize) {
        self.0.body_faults.store(n, Ordering::SeqCst);
    }
    pub fn panic_bodies(&self, n: usize) {
        self.0.body_panics.store(n, Ordering::SeqCst);
    }
}

fn one_of(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

impl Spool for Memory {
    async fn claim(&self, now_s: i64, most: usize) -> Result<Vec<Entry>, SpoolFault> {
        let mut out = Vec::new();
        self.0.state.send_if_modified(|s| {
            let due = |e: &&Entry| e.recipients.iter().any(|r| r.next_try_s <= now_s);
            out = s.entries.values().filter(due).filter(|e| !s.claimed.contains(&e.id)).take(most).cloned().collect();
            s.claimed.extend(out.iter().map(|e| e.id));
            false
        });
        tokio::task::yield_now().await;
        Ok(out)
    }
    fn unclaim(&self, id: QueueId) {
        self.0.state.send_modify(|s| {
            s.claimed.remove(&id);
        });
    }
    async fn next_due_s(&self) -> Result<Option<i64>, SpoolFault> {
        Ok(self.read(|s| {
            let free = s.entries.values().filter(|e| !s.claimed.contains(&e.id));
            free.flat_map(|e| e.recipients.iter().map(|r| r.next_try_s)).min()
        }))
    }
    async fn changed(&self) {
        self.0.came.notified().await;
    }
    async fn body(&self, entry: &Entry) -> Result<Bytes, SpoolFault> {
        assert!(!one_of(&self.0.body_panics), "a body that makes the reader panic (on purpose)");
        if one_of(&self.0.body_faults) {
            return Err(SpoolFault("damaged (on purpose)".into()));
        }
        Ok(self.read(|s| s.bodies[&entry.id].clone()))
    }
    async fn update(&self, update: Update) -> Result<(), SpoolFault> {
        if one_of(&self.0.update_faults) {
            return Err(SpoolFault("disk full (on purpose)".into()));
        }
        self.0.state.send_modify(|s| {
            s.commits += 1;
            s.claimed.remove(&update.id);
            if let Some(entry) = s.entries.get_mut(&update.id) {
                for u in &update.recipients {
                    let at = entry.recipients.iter().position(|r| r.n == u.n);
                    let at = at.unwrap_or_else(|| panic!("recipient {} of {} was final already", u.n, update.id));
                    if u.state == State::Waiting {
                        let r = &mut entry.recipients[at];
                        (r.next_try_s, r.delay_told) = (u.next_try_s, u.delay_told);
                        r.attempts += u32::from(u.tried_s.is_some());
                    } else {
                        entry.recipients.remove(at);
                    }
                }
                if entry.recipients.is_empty() {
                    s.entries.remove(&update.id);
                }
            }
            s.updates.extend(update.recipients.iter().map(|u| (update.id, u.clone())));
            s.reports.extend(update.reports.iter().cloned());
        });
        Ok(())
    }
    async fn deliver_here(&self, _: &Entry, recipient: &Recipient) -> Option<(State, Reply)> {
        self.read(|s| s.here.get(recipient.address.domain()).cloned())
    }
}

pub const BODY: &[u8] = b"Message-ID: <1@us.example>\r\nSubject: s\r\n\r\nhello\r\n.dot\r\n";

/// An entry from `a@us.example`.
pub fn entry(id: i64, to: &[&str]) -> Entry {
    let now = now_s();
    let recipient = |(n, to): (usize, &&str)| Recipient {
        n: n as u32,
        address: Address::parse(to).unwrap(),
        orcpt: Some(format!("rfc822;{to}")),
        notify: Notify::default(),
        attempts: 0,
        next_try_s: now,
        delay_told: false,
    };
    Entry {
        id: QueueId(id),
        trace: TraceId(1000 + id as u64),
        size_bytes: BODY.len() as u32,
        sender: Some(Address::parse("a@us.example").unwrap()),
        ret: None,
        envid: Some("E1".into()),
        smtputf8: false,
        eight_bit: false,
        account: None,
        created_s: now,
        expires_s: now + 5 * 86_400,
        recipients: to.iter().enumerate().map(recipient).collect(),
    }
}
