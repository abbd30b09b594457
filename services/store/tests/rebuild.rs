//! The index lost and made again from the packs: everything must be as it was, after a proper stop, after a kill, after
//! compaction, and as far as they tell when the packs are damaged.
mod support;

use bytes::Bytes;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use support::{Home, delivery, mail, spool};
use twinpost_message::{AccountId, BodyId, DomainId, Flags, MailboxId, ModSeq, Uid};
use twinpost_sql::testing::Place;
use twinpost_sql::{Database, Location, transaction};
use twinpost_store::spool::{RcptState, RcptUpdate, Reply, SpoolAction, SpoolFilter, SpoolUpdate};
use twinpost_store::*;

const NAMES: [&str; 5] = ["INBOX", "a", "a/b", "c", "甲"];

/// Everything of a store that somebody can see, but for the numbers of bodies.
#[derive(Debug, PartialEq)]
struct Seen {
    mailboxes: Vec<MailboxInfo>,
    /// Mailbox, UID, flags, modseq, received, saved, body.
    messages: Vec<(MailboxId, Uid, Flags, ModSeq, i64, i64, Bytes)>,
    keywords: BTreeMap<MailboxId, Vec<String>>,
    vanished: BTreeMap<MailboxId, Vec<Uid>>,
    usage: Vec<(u64, u64)>,
    trash: Vec<Deleted>,
    annotations: Vec<Annotation>,
    queue: Vec<twinpost_store::spool::SpoolEntry>,
}

async fn look(store: &Store) -> Seen {
    let mut seen = Seen {
        mailboxes: vec![],
        messages: vec![],
        keywords: BTreeMap::new(),
        vanished: BTreeMap::new(),
        usage: vec![],
        trash: vec![],
        annotations: vec![],
        queue: store.spool_list(&SpoolFilter::default(), 1000).await.unwrap(),
    };
    for account in (1..4).map(AccountId) {
        for info in store.mailboxes(account).await.unwrap() {
            let snapshot = store.snapshot(info.id).await.unwrap();
            for e in snapshot.iter() {
                let body = store.body(e.body).await.unwrap();
                assert_eq!(body.len(), e.size_bytes as usize);
                store.parsed(&[e.body]).await.unwrap();
                seen.messages.push((info.id, e.uid, e.flags, e.modseq, e.received_s, e.saved_s, body));
            }
            seen.keywords.insert(info.id, snapshot.keywords.to_vec());
            seen.vanished.insert(info.id, store.vanished(info.id, ModSeq(0)).await.unwrap());
            seen.annotations.extend(store.annotations(account, Some(info.id)).await.unwrap());
            seen.mailboxes.push(info);
        }
        let usage = store.usage(account).await.unwrap();
        seen.usage.push((usage.messages, usage.size_bytes));
        seen.trash.extend(store.deleted(account, 1000).await.unwrap());
        seen.annotations.extend(store.annotations(account, None).await.unwrap());
    }
    seen
}

/// The index goes as if its disk had.
async fn lose_index(home: &Home) {
    match home.place.location() {
        Location::Sqlite(path) => {
            for end in ["", "-wal", "-shm"] {
                let mut name = path.as_os_str().to_owned();
                name.push(end);
                let _ = std::fs::remove_file(name);
            }
        }
        location @ Location::Postgres { schema, .. } => {
            let db = Database::open(location, 1).await.unwrap();
            let done: Result<(), twinpost_sql::Error> = async {
                let sql = format!("DROP SCHEMA {schema} CASCADE");
                transaction!(&db, tx => { sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *tx).await?; tx.commit().await? });
                Ok(())
            }
            .await;
            done.unwrap();
            db.close().await;
        }
    }
}

async fn rebuild(home: &Home) -> RebuildReport {
    let mut last = (0, 0);
    let report = Store::rebuild(home.options(), |done, total| last = (done, total)).await.unwrap();
    assert_eq!(last.0, last.1);
    report
}

#[derive(Clone, Debug)]
enum Step {
    Deliver { text: u8, accounts: Vec<i64>, keyword: bool, queue: bool },
    Append { account: i64, name: usize, text: u8 },
    Flags { account: i64, name: usize, uids: Vec<u32>, system: u64, keyword: Option<u8> },
    Expunge { account: i64, name: usize, uids: Vec<u32> },
    Transfer { account: i64, from: usize, to: usize, uids: Vec<u32>, remove: bool },
    Create { account: i64, name: usize },
    Delete { account: i64, name: usize },
    Rename { account: i64, from: usize, to: usize },
    Restore { account: i64 },
    Furnish { account: i64 },
    Subscribe { account: i64, name: usize, on: bool },
    Annotate { account: i64, name: usize, value: Option<u8> },
    Tried { last: bool },
    Queue { action: usize },
    Purge,
    Compact,
    DeleteAccount { account: i64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let (account, name) = (1i64..4, 0usize..5);
    let uids = prop::collection::vec(1u32..8, 1..5);
    let both = (account.clone(), name.clone());
    prop_oneof![
        8 => (0u8..9, prop::collection::btree_set(1i64..4, 1..4), any::<bool>(), any::<bool>())
            .prop_map(|(text, accounts, keyword, queue)| Step::Deliver { text, accounts: accounts.into_iter().collect(), keyword, queue }),
        3 => (both.clone(), 0u8..9).prop_map(|((account, name), text)| Step::Append { account, name, text }),
        5 => (both.clone(), uids.clone(), 0u64..32, prop::option::of(0u8..3))
            .prop_map(|((account, name), uids, system, keyword)| Step::Flags { account, name, uids, system, keyword }),
        3 => (both.clone(), uids.clone()).prop_map(|((account, name), uids)| Step::Expunge { account, name, uids }),
        3 => (both.clone(), 0usize..5, uids, any::<bool>())
            .prop_map(|((account, from), to, uids, remove)| Step::Transfer { account, from, to, uids, remove }),
        3 => both.clone().prop_map(|(account, name)| Step::Create { account, name }),
        1 => both.clone().prop_map(|(account, name)| Step::Delete { account, name }),
        2 => (both.clone(), 0usize..5).prop_map(|((account, from), to)| Step::Rename { account, from, to }),
        1 => account.clone().prop_map(|account| Step::Restore { account }),
        1 => account.clone().prop_map(|account| Step::Furnish { account }),
        1 => (both.clone(), any::<bool>()).prop_map(|((account, name), on)| Step::Subscribe { account, name, on }),
        1 => (both, prop::option::of(any::<u8>())).prop_map(|((account, name), value)| Step::Annotate { account, name, value }),
        2 => any::<bool>().prop_map(|last| Step::Tried { last }),
        1 => (0usize..4).prop_map(|action| Step::Queue { action }),
        1 => Just(Step::Purge),
        1 => Just(Step::Compact),
        1 => account.prop_map(|account| Step::DeleteAccount { account }),
        1 => Just(Step::Restart),
    ]
}

fn uids(list: &[u32]) -> Vec<Uid> {
    list.iter().map(|u| Uid(*u)).collect()
}

/// What cannot be done is refused by the store, and that is no matter here.
async fn take(store: &Store, step: Step, n: i64) {
    let id = async |account: i64, name: usize| {
        store.mailbox_named(AccountId(account), NAMES[name]).await.map_or(MailboxId(-1), |m| m.id)
    };
    match step {
        Step::Deliver { text, accounts, keyword, queue } => {
            let mut d = delivery(mail(&format!("t{text}")), &accounts);
            d.received_s = n;
            if keyword {
                d.targets[0].flags = FlagNames { system: Flags::FLAGGED, keywords: vec!["$Work".to_owned()] };
            }
            d.spool = queue.then(|| spool(&["r@far.example", "s@far.example"], n));
            drop(store.deliver(d).await.unwrap());
        }
        Step::Append { account, name, text } => {
            let mailbox = id(account, name).await;
            // Where the mailbox is missing it is refused behind the packs: its body stays there, and must not come back.
            let message = AppendMessage { body: mail(&format!("t{text}")), flags: FlagNames::system(Flags::SEEN), received_s: n };
            drop(
                store
                    .append(Append {
                        mailbox,
                        messages: vec![message.clone(), message],
                        limits: Limits::default(),
                        replace: None,
                    })
                    .await,
            );
        }
        Step::Flags { account, name, uids: list, system, keyword } => {
            let keywords = keyword.iter().map(|k| format!("k{k}")).collect();
            let (mailbox, flags) = (id(account, name).await, FlagNames { system: Flags(system), keywords });
            let action = if n % 2 == 0 { FlagAction::Replace } else { FlagAction::Add };
            drop(store.set_flags(SetFlags { mailbox, uids: uids(&list), action, flags, unchanged_since: None }).await);
        }
        Step::Expunge { account, name, uids: list } => drop(store.expunge(id(account, name).await, uids(&list), false).await),
        Step::Transfer { account, from, to, uids: list, remove } => {
            let (from, to) = (id(account, from).await, id(account, to).await);
            drop(store.transfer(Transfer { from, to, uids: uids(&list), limits: Limits::default(), remove }).await);
        }
        Step::Create { account, name } => drop(store.create(AccountId(account), NAMES[name], Some(SpecialUse::Junk)).await),
        Step::Delete { account, name } => drop(store.delete(id(account, name).await).await),
        Step::Rename { account, from, to } => drop(store.rename(id(account, from).await, NAMES[to]).await),
        Step::Restore { account } => {
            let ids = store.deleted(AccountId(account), 3).await.unwrap().into_iter().map(|d| d.id).collect();
            drop(store.restore(AccountId(account), ids).await.unwrap());
        }
        Step::Furnish { account } => store.open_account(AccountId(account), DomainId(2)).await.unwrap(),
        Step::Subscribe { account, name, on } => store.subscribe(AccountId(account), NAMES[name], on).await.unwrap(),
        Step::Annotate { account, name, value } => {
            let mailbox = store.mailbox_named(AccountId(account), NAMES[name]).await.ok().map(|m| m.id);
            let value = value.map(|v| Bytes::from(vec![v, 0, 255]));
            store
                .annotate(AccountId(account), vec![Annotation { mailbox, entry: "/private/x".to_owned(), value }])
                .await
                .unwrap();
        }
        Step::Tried { last } => {
            let Some(entry) = store.spool_list(&SpoolFilter::default(), 1).await.unwrap().pop() else { return };
            let update = |n_rcpt| RcptUpdate {
                n: n_rcpt,
                state: if last { RcptState::Delivered } else { RcptState::Waiting },
                next_try_s: n + 60,
                tried_s: Some(n),
                reply: Reply { code: 451, text: format!("4.3.0 attempt {n}") },
                delay_told: n % 2 == 0,
            };
            let deliver = vec![delivery(mail(&format!("report {n}")), &[1])];
            drop(store.spool_update(SpoolUpdate { id: entry.id, rcpts: vec![update(0), update(1)], deliver }).await.unwrap());
        }
        Step::Queue { action } => {
            let Some(entry) = store.spool_list(&SpoolFilter::default(), 1).await.unwrap().pop() else { return };
            let action = [SpoolAction::Hold, SpoolAction::Release, SpoolAction::Retry(n), SpoolAction::Drop][action];
            store.spool_action(entry.id, action).await.unwrap();
        }
        Step::Purge => drop(store.purge(i64::MAX).await.unwrap()),
        Step::Compact => drop(store.compact(60).await.unwrap()),
        Step::DeleteAccount { account } => store.delete_account(AccountId(account)).await.unwrap(),
        Step::Restart => {}
    }
}

async fn run(place: Place, steps: Vec<Step>, pack_bytes: u64) {
    let mut home = Home::new(place);
    home.pack_bytes = pack_bytes;
    let mut store = home.open().await;
    for (n, step) in (1i64..).zip(steps) {
        if matches!(step, Step::Restart) {
            store.close().await;
            store = home.open().await;
        }
        take(&store, step, n * 10).await;
    }
    let before = look(&store).await;
    let head = *store.head().borrow();
    store.close().await;
    // Twice, so that what a rebuilt store writes can be rebuilt from, too.
    for round in 0..2 {
        lose_index(&home).await;
        let report = rebuild(&home).await;
        assert_eq!(
            (report.faults.as_slice(), report.missing_transactions, report.recovered),
            ([].as_slice(), 0, 0),
            "round {round}"
        );
        assert!(report.complete || head == ModSeq(0), "{report:?}");
        let store = home.open().await;
        assert_eq!(look(&store).await, before, "round {round}");
        assert!(*store.head().borrow() >= head);
        assert_eq!(store.verify(|_, _| {}).await.unwrap().faults, []);
        store.close().await;
    }
    // It goes on as if nothing had been.
    let store = home.open().await;
    take(&store, Step::Deliver { text: 77, accounts: vec![1, 2], keyword: true, queue: true }, 5).await;
    let after = look(&store).await;
    assert!(
        after
            .messages
            .iter()
            .all(|m| !before.messages.contains(m) || before.mailboxes.iter().any(|b| b.id == m.0 && m.1 < b.uid_next))
    );
    assert_eq!(store.verify(|_, _| {}).await.unwrap().faults, []);
    store.close().await;
}

fn run_blocking(place: Place, steps: Vec<Step>, pack_bytes: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(place, steps, pack_bytes));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn a_rebuilt_index_on_sqlite_is_the_old_one(steps in prop::collection::vec(step(), 1..50), small in any::<bool>()) {
        run_blocking(Place::sqlite(), steps, if small { 9500 } else { 256 << 20 });
    }
}
proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 100, ..ProptestConfig::default() })]
    #[test]
    fn a_rebuilt_index_on_postgres_is_the_old_one(steps in prop::collection::vec(step(), 1..40), small in any::<bool>()) {
        run_blocking(Place::postgres(), steps, if small { 9500 } else { 256 << 20 });
    }
}

/// A copy of a folder as it is now: what a kill at this moment leaves, for the kernel keeps what was written.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_name() != "lock" {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_in_a_store_without_mail_stays_away() {
    run(Place::sqlite(), vec![Step::Append { account: 1, name: 0, text: 0 }], 1 << 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_loses_no_body_and_no_number_is_used_again() {
    let home = Home::new(Place::sqlite());
    let store = home.open().await;
    let mut said: BTreeMap<BodyId, (Uid, Bytes)> = BTreeMap::new();
    for n in 0..20 {
        let done = store.deliver(delivery(mail(&format!("k{n}")), &[1])).await.unwrap();
        let Outcome::Stored { uid, .. } = done.outcomes[0] else { panic!("it is stored") };
        said.insert(done.body.unwrap(), (uid, store.body(done.body.unwrap()).await.unwrap()));
    }
    // Only the packs are left of the killed store.
    let killed = Home::new(Place::sqlite());
    copy(&home.dir.path().join("packs"), &killed.dir.path().join("packs"));
    let before = store.mailbox_named(AccountId(1), "INBOX").await.unwrap();
    assert!(matches!(Store::open(killed.options()).await, Err(Error::IndexLost { packs: 1, .. })));
    let report = rebuild(&killed).await;
    assert!(!report.complete);
    assert_eq!((report.messages, report.recovered), (20, 0), "nothing acknowledged is missing: {report:?}");
    assert!((1..=2).contains(&report.last_moment), "what the last batches placed is delivered once more: {report:?}");
    let again = killed.open().await;
    let inbox = again.mailbox_named(AccountId(1), "INBOX").await.unwrap();
    assert_eq!((inbox.id, inbox.uid_validity), (before.id, before.uid_validity));
    assert!(inbox.uid_next > before.uid_next, "a UID that was told is not told again for another message");
    let mut bodies = BTreeSet::new();
    for e in again.snapshot(inbox.id).await.unwrap().iter() {
        let bytes = again.body(e.body).await.unwrap();
        let same = said.values().any(|s| *s == (e.uid, bytes.clone()));
        assert!(same || e.uid >= before.uid_next, "UID {} is the message that it was, or a new number", e.uid);
        bodies.insert(bytes);
    }
    assert_eq!(bodies, said.values().map(|s| s.1.clone()).collect());
    assert_eq!(again.verify(|_, _| {}).await.unwrap().faults, []);
    again.close().await;
    // With its index the killed store puts into the packs what was not there: then nothing is missing at all.
    let whole = Home::new(Place::sqlite());
    copy(&home.dir.path().join("packs"), &whole.dir.path().join("packs"));
    let (Location::Sqlite(from), Location::Sqlite(to)) = (home.place.location(), whole.place.location()) else { unreachable!() };
    copy(from.parent().unwrap(), to.parent().unwrap());
    let open = whole.open().await;
    let seen = look(&open).await;
    assert_eq!(seen.messages.len(), 20);
    open.close().await;
    lose_index(&whole).await;
    let report = rebuild(&whole).await;
    assert!(report.complete && report.recovered == 0, "{report:?}");
    let open = whole.open().await;
    assert_eq!(look(&open).await, seen);
    open.close().await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_shown_and_the_old_index_is_kept() {
    let home = Home::new(Place::sqlite());
    let store = home.open().await;
    let mut bodies = Vec::new();
    for n in 0..6 {
        bodies.push(store.deliver(delivery(mail(&format!("d{n}")), &[1, 2])).await.unwrap().body.unwrap());
    }
    assert!(matches!(Store::rebuild(home.options(), |_, _| {}).await, Err(Error::Locked { .. })));
    let inbox = store.mailbox_named(AccountId(1), "INBOX").await.unwrap();
    store.close().await;
    // One bit of the third body.
    let path = home.dir.path().join("packs/00000001.pack");
    let mut pack = std::fs::read(&path).unwrap();
    let at = pack.windows(10).position(|w| w == b"Body of d2").unwrap();
    pack[at] ^= 1;
    std::fs::write(&path, pack).unwrap();
    let report = rebuild(&home).await;
    assert_eq!((report.messages, report.damaged_bodies, report.faults_total), (12, 1, 1), "{report:?}");
    assert!(report.old_index.as_ref().is_some_and(|p| p.exists()));
    assert!(serde_json::to_string(&report).unwrap().contains("\"damaged_bodies\":1"));
    let store = home.open().await;
    let now = store.mailbox_named(AccountId(1), "INBOX").await.unwrap();
    assert_eq!((now.messages, now.uid_validity, now.id), (6, inbox.uid_validity, inbox.id));
    for e in store.snapshot(now.id).await.unwrap().iter() {
        let damaged = matches!(store.body(e.body).await, Err(Error::Damaged { .. }));
        assert_eq!(damaged, e.body == bodies[2]);
    }
    let found = store.verify(|_, _| {}).await.unwrap();
    assert!(found.faults.iter().any(|f| f.kind == FaultKind::MissingRecord && f.body == Some(bodies[2].0)), "{:?}", found.faults);
    // The same message, coming again, heals it.
    store.deliver(delivery(mail("d2"), &[3])).await.unwrap();
    assert!(store.body(bodies[2]).await.is_ok());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_placement_record_loses_no_mail() {
    let home = Home::new(Place::sqlite());
    let store = home.open().await;
    for n in 0..6 {
        store.deliver(delivery(mail(&format!("p{n}")), &[1])).await.unwrap();
    }
    store.close().await;
    let path = home.dir.path().join("packs/00000001.pack");
    let whole = std::fs::read(&path).unwrap();
    // Kind 2 of a record, version 1: each placement record in turn, and all of them.
    let starts: Vec<usize> =
        (8192..whole.len() - 56).filter(|at| whole[*at..].starts_with(&[0xd7, b'T', b'p', 0xb1, 1, 2])).collect();
    assert!(starts.len() > 2);
    for bad in starts.iter().map(|s| vec![*s]).chain([starts.clone()]) {
        let mut pack = whole.clone();
        bad.iter().for_each(|at| pack[at + 60] ^= 1);
        std::fs::write(&path, pack).unwrap();
        for entry in std::fs::read_dir(home.dir.path().join("packs")).unwrap() {
            let other = entry.unwrap().path();
            if other != path {
                std::fs::remove_file(other).unwrap();
            }
        }
        lose_index(&home).await;
        let report = rebuild(&home).await;
        assert!(report.faults_total >= bad.len() as u64, "{report:?}");
        assert!(!report.complete);
        let store = home.open().await;
        let mut bodies = BTreeSet::new();
        for account in [0, 1].map(AccountId) {
            for m in store.mailboxes(account).await.unwrap() {
                for e in store.snapshot(m.id).await.unwrap().iter() {
                    // A message whose body the damaged record named is shown as damaged; its body is among the recovered.
                    bodies.extend(store.body(e.body).await.ok());
                }
            }
        }
        assert_eq!(bodies.len(), 6, "{report:?}");
        store.close().await;
    }
}

/// Only the packs of a store, as they are now.
fn packs_of(home: &Home) -> Home {
    let other = Home::new(Place::sqlite());
    copy(&home.dir.path().join("packs"), &other.dir.path().join("packs"));
    other
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_moment_is_delivered_as_it_was_asked_for() {
    let home = Home::new(Place::sqlite());
    let store = home.open().await;
    store.open_account(AccountId(1), DomainId(1)).await.unwrap();
    let drafts = store.mailbox_named(AccountId(1), "Drafts").await.unwrap();
    store.close().await;
    let store = home.open().await;
    // The one batch whose transaction is in no pack: to a folder, into the queue, by APPEND, and one that is refused.
    let mut d = delivery(mail("asked"), &[1, 2]);
    d.targets[0].folder = Folder::Named("Archive".to_owned());
    d.targets[0].flags = FlagNames::system(Flags::FLAGGED);
    d.spool = Some(spool(&["r@far.example", "s@far.example"], 5));
    let append = Append {
        mailbox: drafts.id,
        messages: vec![AppendMessage { body: mail("draft"), flags: FlagNames::system(Flags::DRAFT), received_s: 9 }],
        limits: Limits::default(),
        replace: None,
    };
    let (first, second) = tokio::join!(store.deliver(d), store.append(append));
    first.unwrap();
    second.unwrap();
    let killed = packs_of(&home);
    let seen = store.spool_list(&SpoolFilter::default(), 10).await.unwrap();
    store.close().await;
    let report = rebuild(&killed).await;
    assert!(!report.complete && report.faults_total == 0 && report.recovered == 0, "{report:?}");
    let again = killed.open().await;
    let found = async |account: i64, name: &str| {
        let m = again.mailbox_named(AccountId(account), name).await.unwrap();
        let snapshot = again.snapshot(m.id).await.unwrap();
        let entries: Vec<_> = snapshot.iter().map(|e| (e.flags, e.received_s, e.body)).collect();
        let [(flags, received_s, body)] = entries.as_slice() else { panic!("one message in {name}: {entries:?}") };
        (*flags, *received_s, again.body(*body).await.unwrap())
    };
    let text = |t: &str| Bytes::from(format!("Subject: {t}\r\nMessage-ID: <{t}@x.example>\r\n\r\nBody of {t}\r\n"));
    assert_eq!(found(1, "Archive").await, (Flags::FLAGGED, 1000, text("asked")));
    assert_eq!(found(2, "INBOX").await, (Flags::default(), 1000, text("asked")));
    assert_eq!(found(1, "Drafts").await, (Flags::DRAFT, 9, text("draft")));
    let mut queue = again.spool_list(&SpoolFilter::default(), 10).await.unwrap();
    queue[0].id = seen[0].id;
    queue[0].body = seen[0].body;
    assert_eq!(queue, seen);
    assert_eq!(again.verify(|_, _| {}).await.unwrap().faults, []);
    let whole = look(&again).await;
    again.close().await;
    // It is in the packs now: another loss brings nothing a third time.
    lose_index(&killed).await;
    let report = rebuild(&killed).await;
    assert!(report.complete && report.last_moment == 0, "{report:?}");
    let again = killed.open().await;
    assert_eq!(look(&again).await, whole);
    again.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_does_not_come_back() {
    let home = Home::new(Place::sqlite());
    let store = home.open().await;
    store.deliver(delivery(mail("first"), &[1])).await.unwrap();
    let mut d = delivery(mail("too large"), &[1]);
    d.targets[0].limits = Limits { account: Quota { messages: Some(1), ..Quota::default() }, ..Limits::default() };
    let refused = store.deliver(d).await.unwrap();
    assert!(matches!(refused.outcomes[0], Outcome::OverQuota(_)));
    // Two more, so that the log of the next but one transaction is in the packs, and says that the refusal was decided.
    for n in 0..3 {
        store.deliver(delivery(mail(&format!("later {n}")), &[1])).await.unwrap();
    }
    let killed = packs_of(&home);
    store.close().await;
    for (home, complete) in [(&killed, false), (&home, true)] {
        lose_index(home).await;
        let report = rebuild(home).await;
        assert_eq!((report.complete, report.messages, report.recovered), (complete, 4, 0), "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_opened_again_has_no_end() {
    let home = Home::new(Place::sqlite());
    let store = home.open().await;
    store.deliver(delivery(mail("one"), &[1])).await.unwrap();
    let inbox = store.mailbox_named(AccountId(1), "INBOX").await.unwrap();
    store.close().await;
    let store = home.open().await;
    // A copy has no body of its own: the packs hear of it a moment later only.
    let transfer = Transfer { from: inbox.id, uids: vec![Uid(1)], to: inbox.id, limits: Limits::default(), remove: false };
    let copied = store.transfer(transfer).await.unwrap().pairs[0].1;
    let killed = packs_of(&home);
    store.close().await;
    let report = rebuild(&killed).await;
    let again = killed.open().await;
    let now = again.mailbox_named(AccountId(1), "INBOX").await.unwrap();
    assert!(now.messages == 2 || !report.complete, "{report:?}");
    assert!(now.uid_next > copied, "UID {copied} was told, and is not given to another message: {report:?}");
    again.close().await;
}

#[test]
fn an_exchange_that_was_interrupted_never_shows_an_old_state() {
    // SQLite's file without its log is an older state. Whatever point the exchange stops at, the file is not there without it.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let home = Home::new(Place::sqlite());
        let store = home.open().await;
        for n in 0..3 {
            store.deliver(delivery(mail(&format!("w{n}")), &[1])).await.unwrap();
        }
        let Location::Sqlite(index) = home.place.location() else { unreachable!() };
        let log = index.with_extension("sqlite-wal");
        assert!(log.metadata().unwrap().len() > 0, "what was committed is in the log");
        let other = packs_of(&home);
        let Location::Sqlite(target) = other.place.location() else { unreachable!() };
        // The first step of the exchange: the file has gone, its log has not.
        std::fs::copy(&log, target.with_extension("sqlite-wal")).unwrap();
        assert!(matches!(Store::open(other.options()).await, Err(Error::IndexLost { .. })));
        let report = rebuild(&other).await;
        assert_eq!(report.messages, 3, "{report:?}");
        store.close().await;
    });
}
