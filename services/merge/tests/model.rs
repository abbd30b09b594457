//! Any common past, anything on both sides: after the merge everything that either side acknowledged is there once, nothing of
//! this side is gone or less, and a second merge does nothing.
mod support;

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use support::*;
use twinpost_merge::Run;
use twinpost_message::{AccountId, BodyHash, DomainId, Flags, TraceId, Uid};
use twinpost_store::spool::{RcptState, RcptUpdate, Reply, SpoolUpdate};
use twinpost_store::*;

const NAMES: [&str; 4] = ["INBOX", "Archive", "a/b", "甲"];

#[derive(Clone, Debug)]
enum Step {
    Deliver { accounts: Vec<i64> },
    Append { account: i64, name: usize, text: u8 },
    Flags { account: i64, name: usize, uids: Vec<u32>, flag: u64, keyword: Option<u8>, add: bool },
    Expunge { account: i64, name: usize, uids: Vec<u32> },
    Move { account: i64, from: usize, to: usize, uids: Vec<u32> },
    Create { account: i64, name: usize },
    Rename { account: i64, from: usize, to: usize },
    Delete { account: i64, name: usize },
    Queue,
    Sent { which: usize },
    DeliverFromQueue { which: usize, account: i64 },
    Restart,
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    let (account, name) = (1i64..3, 0usize..4);
    let uids = prop::collection::vec(1u32..9, 1..4);
    prop_oneof![
        6 => prop::collection::vec(1i64..3, 1..3).prop_map(|accounts| Step::Deliver { accounts }),
        3 => (account.clone(), name.clone(), 0u8..4).prop_map(|(account, name, text)| Step::Append { account, name, text }),
        4 => (account.clone(), name.clone(), uids.clone(), 0u32..5, prop::option::of(0u8..3), any::<bool>())
            .prop_map(|(account, name, uids, flag, keyword, add)| Step::Flags { account, name, uids, flag: 1 << flag, keyword, add }),
        2 => (account.clone(), name.clone(), uids.clone()).prop_map(|(account, name, uids)| Step::Expunge { account, name, uids }),
        3 => (account.clone(), name.clone(), name.clone(), uids)
            .prop_map(|(account, from, to, uids)| Step::Move { account, from, to, uids }),
        2 => (account.clone(), name.clone()).prop_map(|(account, name)| Step::Create { account, name }),
        1 => (account.clone(), 1usize..4, 1usize..4).prop_map(|(account, from, to)| Step::Rename { account, from, to }),
        1 => (account.clone(), 1usize..4).prop_map(|(account, name)| Step::Delete { account, name }),
        2 => Just(Step::Queue),
        1 => (0usize..4).prop_map(|which| Step::Sent { which }),
        1 => (0usize..4, account).prop_map(|(which, account)| Step::DeliverFromQueue { which, account }),
        1 => Just(Step::Restart),
        1 => Just(Step::Compact),
    ]
}

/// One side with what it was told.
struct Side {
    name: &'static str,
    data: std::path::PathBuf,
    store: Store,
    told: u32,
}

impl Side {
    async fn mailbox(&self, account: i64, name: usize) -> Option<MailboxInfo> {
        self.store.mailbox_named(AccountId(account), NAMES[name]).await.ok()
    }

    async fn run(&mut self, step: &Step) {
        self.told += 1;
        let text = format!("{} {}", self.name, self.told);
        match step {
            Step::Deliver { accounts } => deliver(&self.store, &text, accounts).await,
            Step::Append { account, name, text } => {
                if let Some(m) = self.mailbox(*account, *name).await {
                    append(&self.store, m.id, &format!("draft {text}"), FlagNames::default()).await;
                }
            }
            Step::Flags { account, name, uids, flag, keyword, add } => {
                if let Some(m) = self.mailbox(*account, *name).await {
                    let keywords = keyword.iter().map(|k| format!("k{k}")).collect();
                    let flags = FlagNames { system: Flags(*flag), keywords };
                    let action = if *add { FlagAction::Add } else { FlagAction::Remove };
                    let uids = uids.iter().copied().map(Uid).collect();
                    self.store.set_flags(SetFlags { mailbox: m.id, uids, action, flags, unchanged_since: None }).await.unwrap();
                }
            }
            Step::Expunge { account, name, uids } => {
                if let Some(m) = self.mailbox(*account, *name).await {
                    self.store.expunge(m.id, uids.iter().copied().map(Uid).collect(), false).await.unwrap();
                }
            }
            Step::Move { account, from, to, uids } => {
                if let (Some(from), Some(to)) = (self.mailbox(*account, *from).await, self.mailbox(*account, *to).await)
                    && from.id != to.id
                {
                    let (from, to, uids) = (from.id, to.id, uids.iter().copied().map(Uid).collect());
                    self.store.transfer(Transfer { from, uids, to, limits: Limits::default(), remove: true }).await.unwrap();
                }
            }
            Step::Create { account, name } => drop(self.store.create(AccountId(*account), NAMES[*name], None).await),
            Step::Rename { account, from, to } => {
                if let Some(m) = self.mailbox(*account, *from).await {
                    drop(self.store.rename(m.id, NAMES[*to]).await);
                }
            }
            Step::Delete { account, name } => {
                if let Some(m) = self.mailbox(*account, *name).await {
                    drop(self.store.delete(m.id).await);
                }
            }
            Step::Queue => enqueue(&self.store, &text).await,
            Step::Sent { which } => {
                if let Some(e) = queue(&self.store).await.get(*which) {
                    let reply = Reply { code: 250, text: "ok".into() };
                    let (state, n) = (RcptState::Delivered, 0);
                    let rcpt = RcptUpdate { n, state, next_try_s: 0, tried_s: Some(1), reply, delay_told: false };
                    self.store.spool_update(SpoolUpdate { id: e.id, rcpts: vec![rcpt], deliver: vec![] }).await.unwrap();
                }
            }
            Step::DeliverFromQueue { which, account } => {
                if let Some(e) = queue(&self.store).await.get(*which) {
                    let bytes = self.store.body(e.body).await.unwrap();
                    let body = Store::prepare(&bytes);
                    let delivery = Delivery { body, trace: e.trace, ..delivery("", &[*account]) };
                    self.store.spool_deliver(e.id, 0, delivery).await.unwrap();
                }
            }
            Step::Restart => {
                self.store.close().await;
                self.store = open(&self.data).await;
            }
            Step::Compact => drop(self.store.compact(60).await.unwrap()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Index {
    Whole,
    Lost,
    /// The store was not closed, as a power cut leaves it.
    Cut,
}

type Held = BTreeMap<(i64, BodyHash), u64>;

fn held(seen: &[Seen]) -> Held {
    let mut held = Held::new();
    for s in seen {
        *held.entry((s.account, s.hash)).or_default() += 1;
    }
    held
}

async fn check(common: Vec<Step>, ours: Vec<Step>, theirs: Vec<Step>, index: Index) {
    let world = World::new();
    let mut here = Side { name: "common", data: world.data(), store: world.here().await, told: 0 };
    for account in 1..3 {
        here.store.open_account(AccountId(account), DomainId(1)).await.unwrap();
    }
    let mut ever: BTreeSet<BodyHash> = BTreeSet::new();
    for step in &common {
        here.run(step).await;
        ever.extend(look(&here.store).await.iter().map(|s| s.hash));
    }
    for e in queue(&here.store).await {
        ever.insert(here.store.body_hash(e.body).await.unwrap());
    }
    let base = look(&here.store).await;
    here.store.close().await;
    world.part();
    let common_queue: std::collections::HashSet<TraceId> = {
        let store = world.here().await;
        let all = queue(&store).await.iter().map(|e| e.trace).collect();
        store.close().await;
        all
    };
    let mut here = Side { name: "here", data: world.data(), store: world.here().await, told: 0 };
    let mut there = Side { name: "there", data: world.aside(), store: world.there().await, told: 0 };
    // Two that begin with the very same commits in the same second are one for as long.
    if !ours.is_empty() && !theirs.is_empty() {
        here.run(&Step::Deliver { accounts: vec![1] }).await;
    }
    for step in &ours {
        here.run(step).await;
    }
    for step in &theirs {
        there.run(step).await;
    }
    let (before, other) = (look(&here.store).await, look(&there.store).await);
    let (our_queue, their_queue) = (queue(&here.store).await, queue(&there.store).await);
    match index {
        Index::Cut => {
            let cut = World::new();
            copy(&world.aside(), &cut.aside());
            there.store.close().await;
            std::fs::remove_dir_all(world.aside()).unwrap();
            copy(&cut.aside(), &world.aside());
        }
        Index::Whole => there.store.close().await,
        Index::Lost => {
            there.store.close().await;
            lose_index(&world.aside());
        }
    }
    let report = world.merge(&here.store).await;
    assert_eq!((&report.run, report.faults_total), (&Run::Merged, 0), "{report:#?}");
    let after = look(&here.store).await;

    // Nothing of this side is gone or less.
    for s in &before {
        let now = after.iter().find(|a| (a.id, a.uid) == (s.id, s.uid)).unwrap_or_else(|| panic!("{s:?} is gone"));
        assert_eq!((now.hash, &now.mailbox, now.received_s), (s.hash, &s.mailbox, s.received_s));
        assert!(now.flags.contains(s.flags) && s.keywords.iter().all(|k| now.keywords.contains(k)), "{s:?} {now:?}");
        // Flags come only from the other side's change of the same message.
        let same = |o: &&Seen| (o.id, o.uid, o.hash) == (s.id, s.uid, s.hash);
        let (theirs, first) = (other.iter().find(same), base.iter().find(same));
        if let (Some(theirs), Some(first)) = (theirs, first) {
            if (theirs.flags, &theirs.keywords) == (first.flags, &first.keywords) && index == Index::Whole {
                // It may have been changed there and back.
                assert!(s.flags.with(first.flags).contains(now.flags), "{s:?} {now:?}");
            }
            let wanted = Flags(theirs.flags.0 & (Flags::SEEN.0 | Flags::ANSWERED.0 | Flags::FLAGGED.0)).without(first.flags);
            assert!(now.flags.contains(wanted), "{theirs:?} {now:?}");
        }
    }
    // Everything that was acknowledged is there once.
    let (ours, theirs, first, now) = (held(&before), held(&other), held(&base), held(&after));
    for key in ours.keys().chain(theirs.keys()).chain(now.keys()) {
        let n = |held: &Held| held.get(key).copied().unwrap_or(0);
        let (o, t, f, n) = (n(&ours), n(&theirs), n(&first), n(&now));
        let subject = after.iter().chain(&other).find(|s| s.hash == key.1).map(|s| s.subject.clone()).unwrap_or_default();
        let what = format!("{subject:?} of {}: {o} here, {t} there, {f} before: {n} now", key.0);
        assert!(n >= o && n <= o + t, "{what}");
        let handed_in = subject.starts_with("draft");
        if f == 0 && !ever.contains(&key.1) {
            // New on one side or both.
            assert_eq!(n, if handed_in { o + t } else { o.max(t) }, "{what}");
        } else if !handed_in && o > 0 {
            // Each text is delivered once a side: only a queue entry can bring it into an account that has it.
            assert!(n <= o.max(t) + u64::from(t > 1), "{what}");
        } else if f > 0 && o == 0 && t <= f && !handed_in {
            // Deleted here: it comes back only where the other side filed it anew.
            assert!(n <= t, "{what}");
        }
    }
    // The queue: theirs once, ours untouched.
    let queued = queue(&here.store).await;
    let traces: Vec<TraceId> = queued.iter().map(|e| e.trace).collect();
    for e in &our_queue {
        assert_eq!(queued.iter().find(|q| q.id == e.id), Some(e));
    }
    for e in &their_queue {
        let n = traces.iter().filter(|t| **t == e.trace).count();
        let here_before = our_queue.iter().any(|q| q.trace == e.trace);
        assert_eq!(n, usize::from(here_before || !common_queue.contains(&e.trace)), "{e:?}");
    }
    assert_eq!(traces.iter().collect::<std::collections::HashSet<_>>().len(), traces.len(), "nothing is queued twice");
    // A second merge does nothing.
    let head = *here.store.head().borrow();
    let again = world.merge(&here.store).await;
    assert_eq!((*here.store.head().borrow(), again.totals.counts.taken, again.totals.queued), (head, 0, 0));
    assert_eq!(look(&here.store).await, after);
    let verified = here.store.verify(|_, _| {}).await.unwrap();
    assert!(verified.faults.is_empty(), "{verified:?}");
    here.store.close().await;
}

/// More with the variable of proptest.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(16)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn a_merge_loses_nothing_and_doubles_nothing(
        common in prop::collection::vec(step(), 0..14),
        ours in prop::collection::vec(step(), 0..10),
        theirs in prop::collection::vec(step(), 0..14),
        index in prop_oneof![3 => Just(Index::Whole), 2 => Just(Index::Lost), 1 => Just(Index::Cut)],
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(check(common, ours, theirs, index));
    }
}
