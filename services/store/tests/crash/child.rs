//! The process that is recorded, or killed: a store under load by some workers at once, twice opened and closed.
//!
//! Contract: each worker says `start W S` before a step and `ack W S` when the store has answered it, each line in one write
//! to standard output. What a step is follows from the seed (see `plan`).

use crate::plan::{AFTERWARDS, KEEP, OTHER, Op, Place, SHARED, State, WORKERS, text};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use twinpost_message::{AccountId, Address, DomainId, MailboxId, TraceId, Uid};
use twinpost_sql::{Database, Location, Pool};
use twinpost_store::spool::{NewRcpt, NewSpool, Notify};
use twinpost_store::{
    Append, AppendMessage, Delivery, FlagAction, FlagNames, Folder, Limits, Options, OverQuotaPolicy, SetFlags, Store, Target,
    Transfer,
};

pub fn options(dir: &Path) -> Options {
    // Small packs: they are rolled during the run.
    Options { pack_bytes: 128 * 1024, ..Options::new(dir) }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody listens any more: the run is over.
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}

/// Runs all steps in two lives of the store.
pub async fn run(dir: &Path, seed: u64, steps: u64) {
    for (from, to) in [(0, steps / 2), (steps / 2, steps)] {
        let store = Store::open(options(dir)).await.expect("the store opens");
        let (acked, heard) = mpsc::unbounded_channel();
        let folding = tokio::spawn(fold(dir.join("index.sqlite"), heard));
        let workers: Vec<_> = (0..WORKERS).map(|w| tokio::spawn(work(store.clone(), seed, w, from..to, acked.clone()))).collect();
        drop(acked);
        for worker in workers {
            worker.await.expect("a worker ends well");
        }
        folding.await.expect("the log is folded");
        if from > 0 {
            store.purge(i64::MAX).await.expect("expunged mail is forgotten");
            store.compact(90).await.expect("packs are compacted");
        }
        store.close().await;
    }
    say("end");
}

/// Opens what a cut left, takes one more mail, and closes.
pub async fn recover(dir: &Path, seed: u64) {
    let store = Store::open(options(dir)).await.expect("the store opens");
    let body = Store::prepare(&Bytes::from(text(seed, AFTERWARDS)));
    let (targets, over_quota) = (vec![target(OTHER)], OverQuotaPolicy::Refuse);
    let delivery = Delivery { body, trace: TraceId(1), received_s: 1, targets, spool: None, over_quota };
    store.deliver(delivery).await.expect("a delivery");
    say("ack afterwards");
    store.close().await;
}

/// Folds SQLite's log into its file while the workers go on, after every so many acknowledgements: the store does so by time,
/// which a short run does not reach. Every other time the log begins again from its start.
async fn fold(index: PathBuf, mut heard: mpsc::UnboundedReceiver<()>) {
    let db = Database::open(&Location::Sqlite(index), 1).await.expect("the index opens again");
    let Pool::Sqlite(pool) = db.writer() else { panic!("SQLite was opened") };
    let mut count = 0u32;
    while heard.recv().await.is_some() {
        count += 1;
        if count.is_multiple_of(20) {
            let how = if count.is_multiple_of(40) { "PRAGMA wal_checkpoint(RESTART)" } else { "PRAGMA wal_checkpoint(PASSIVE)" };
            sqlx::query(how).execute(pool).await.expect("a checkpoint");
        }
    }
    db.close().await;
}

fn address(local: &str) -> Address {
    Address::new(local, "school.example").expect("an address")
}

fn target(account: i64) -> Target {
    Target {
        account: AccountId(account),
        domain: DomainId(1),
        folder: Folder::Inbox,
        flags: FlagNames::default(),
        limits: Limits::default(),
        recipient: address("x"),
    }
}

async fn work(store: Store, seed: u64, worker: u64, steps: Range<u64>, acked: mpsc::UnboundedSender<()>) {
    let account = AccountId(worker as i64 + 1);
    if steps.start == 0 {
        store.open_account(account, DomainId(1)).await.expect("an account");
        store.create(account, KEEP, None).await.expect("a mailbox");
        say(&format!("made {worker}"));
    }
    let mut ids = BTreeMap::new();
    for (place, name) in [(Place::Inbox, "INBOX"), (Place::Keep, KEEP)] {
        ids.insert(place, store.mailbox_named(account, name).await.expect("it was made").id);
    }
    let mut state = State::after(seed, worker, steps.start);
    for step in steps {
        let op = state.plan(seed, worker, step);
        say(&format!("start {worker} {step}"));
        perform(&store, seed, worker, &ids, &op).await;
        say(&format!("ack {worker} {step}"));
        // Nobody folds any more: the run is being killed.
        let _ = acked.send(());
        state.apply(&op);
    }
}

async fn perform(store: &Store, seed: u64, worker: u64, ids: &BTreeMap<Place, MailboxId>, op: &Op) {
    let prepare = |mail| Store::prepare(&Bytes::from(text(seed, mail)));
    let uids = |list: &[u32]| list.iter().copied().map(Uid).collect::<Vec<_>>();
    match op {
        Op::Deliver { mail, shared, queue } => {
            let mut targets = vec![target(worker as i64 + 1)];
            targets.extend(shared.then(|| target(SHARED)));
            let spool = queue.then(|| NewSpool {
                sender: Some(address("w")),
                ret: None,
                envid: Some(mail.to_string()),
                smtputf8: false,
                eight_bit: false,
                require_tls: false,
                held: false,
                account: None,
                expires_s: i64::MAX,
                next_try_s: 0,
                rcpts: vec![NewRcpt { address: address("far"), orcpt: None, notify: Notify::default() }],
            });
            let over_quota = OverQuotaPolicy::Refuse;
            let delivery = Delivery { body: prepare(*mail), trace: TraceId(*mail), received_s: 1, targets, spool, over_quota };
            store.deliver(delivery).await.expect("a delivery");
        }
        Op::Append { place, mails } => {
            let flags = FlagNames::system(twinpost_message::Flags::SEEN);
            let messages =
                mails.iter().map(|m| AppendMessage { body: prepare(*m), flags: flags.clone(), received_s: 1 }).collect();
            let append = Append { mailbox: ids[place], messages, limits: Limits::default(), replace: None };
            store.append(append).await.expect("an append");
        }
        Op::Flags { place, uid, flags } => {
            let set = SetFlags {
                mailbox: ids[place],
                uids: vec![Uid(*uid)],
                action: FlagAction::Replace,
                flags: FlagNames::system(*flags),
                unchanged_since: None,
            };
            store.set_flags(set).await.expect("flags");
        }
        Op::Expunge { place, uids: list } => {
            store.expunge(ids[place], uids(list), false).await.expect("an expunge");
        }
        Op::Transfer { uids: list, remove } => {
            let (from, to) = (ids[&Place::Inbox], ids[&Place::Keep]);
            let transfer = Transfer { from, uids: uids(list), to, limits: Limits::default(), remove: *remove };
            store.transfer(transfer).await.expect("a transfer");
        }
    }
}

/// Texts of mails, made once.
#[derive(Default)]
pub struct Texts(BTreeMap<u64, Arc<Vec<u8>>>);

impl Texts {
    pub fn of(&mut self, seed: u64, mail: u64) -> Arc<Vec<u8>> {
        self.0.entry(mail).or_insert_with(|| Arc::new(text(seed, mail))).clone()
    }
}
