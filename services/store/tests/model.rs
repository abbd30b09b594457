//! Random operations against a simple model in memory, on both engines: UIDs, flags, keywords, quotas, counters,
//! published snapshots and the change log must agree with it after each step, and after a restart.
mod support;

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use support::{Home, delivery, mail};
use tokio::sync::watch;
use twinpost_message::view::{Change as Difference, Entry, Snapshot};
use twinpost_message::{AccountId, DomainId, Flags, MailboxId, ModSeq, Uid};
use twinpost_sql::testing::Place;
use twinpost_store::*;

const NAMES: [&str; 4] = ["INBOX", "a", "a/b", "c"];
const KEYWORDS: [&str; 3] = ["Red", "Blue", "Green"];

#[derive(Clone, Debug)]
enum Step {
    Deliver { text: u8, accounts: Vec<i64>, most: Option<u64>, keyword: Option<usize> },
    Append { account: i64, name: usize, texts: Vec<u8>, most: Option<u64> },
    Flags { account: i64, name: usize, uids: Vec<u32>, action: FlagAction, system: u64, keyword: Option<usize> },
    Expunge { account: i64, name: usize, uids: Vec<u32>, only_deleted: bool },
    Transfer { account: i64, from: usize, to: usize, uids: Vec<u32>, remove: bool },
    Create { account: i64, name: usize },
    Delete { account: i64, name: usize },
    Rename { account: i64, from: usize, to: usize },
    Watch { account: i64, name: usize },
    Restore { account: i64 },
    Compact,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let account = 1i64..4;
    let name = 0usize..4;
    let uids = prop::collection::vec(1u32..8, 1..5);
    let most = prop::option::of(0u64..6);
    let keyword = prop::option::of(0usize..3);
    prop_oneof![
        6 => (0u8..6, prop::collection::vec(1i64..4, 1..4), most.clone(), keyword.clone())
            .prop_map(|(text, accounts, most, keyword)| Step::Deliver { text, accounts, most, keyword }),
        3 => (account.clone(), name.clone(), prop::collection::vec(0u8..6, 1..3), most)
            .prop_map(|(account, name, texts, most)| Step::Append { account, name, texts, most }),
        5 => (account.clone(), name.clone(), uids.clone(), 0usize..3, 0u64..32, keyword).prop_map(|(account, name, uids, action, system, keyword)| {
            let action = [FlagAction::Add, FlagAction::Remove, FlagAction::Replace][action];
            Step::Flags { account, name, uids, action, system, keyword }
        }),
        3 => (account.clone(), name.clone(), uids.clone(), any::<bool>())
            .prop_map(|(account, name, uids, only_deleted)| Step::Expunge { account, name, uids, only_deleted }),
        3 => (account.clone(), name.clone(), name.clone(), uids, any::<bool>())
            .prop_map(|(account, from, to, uids, remove)| Step::Transfer { account, from, to, uids, remove }),
        2 => (account.clone(), name.clone()).prop_map(|(account, name)| Step::Create { account, name }),
        1 => (account.clone(), name.clone()).prop_map(|(account, name)| Step::Delete { account, name }),
        1 => (account.clone(), name.clone(), name.clone()).prop_map(|(account, from, to)| Step::Rename { account, from, to }),
        2 => (account.clone(), name).prop_map(|(account, name)| Step::Watch { account, name }),
        1 => account.prop_map(|account| Step::Restore { account }),
        1 => Just(Step::Compact),
        1 => Just(Step::Restart),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct Message {
    text: u8,
    system: u64,
    keywords: BTreeSet<usize>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Mailbox {
    next: u32,
    messages: BTreeMap<u32, Message>,
}

#[derive(Default)]
struct Model {
    mailboxes: BTreeMap<(i64, String), Mailbox>,
    /// (account, mailbox name, message) of what was expunged, oldest first.
    trash: Vec<(i64, String, Message)>,
}

impl Model {
    fn mailbox(&mut self, account: i64, name: &str) -> &mut Mailbox {
        self.mailboxes.entry((account, name.to_owned())).or_insert(Mailbox { next: 1, messages: BTreeMap::new() })
    }
    fn add(&mut self, account: i64, name: &str, message: Message) -> u32 {
        let mailbox = self.mailbox(account, name);
        mailbox.messages.insert(mailbox.next, message);
        mailbox.next += 1;
        mailbox.next - 1
    }
    fn count(&self, account: i64) -> u64 {
        self.mailboxes.iter().filter(|((a, _), _)| *a == account).map(|(_, m)| m.messages.len() as u64).sum()
    }
    fn make(&mut self, account: i64, name: &str) {
        if let Some((above, _)) = name.rsplit_once('/') {
            self.make(account, above);
        }
        self.mailbox(account, name);
    }
}

fn text_of(n: u8) -> String {
    format!("text{n}")
}

/// A client that hears of differences only.
struct Client {
    watch: watch::Receiver<std::sync::Arc<Snapshot>>,
    seen: std::sync::Arc<Snapshot>,
    list: Vec<Entry>,
}

impl Client {
    fn hear(&mut self) {
        let now = self.watch.borrow_and_update().clone();
        for change in now.since(&self.seen) {
            match change {
                Difference::Expunged { seq, entry } => assert_eq!(self.list.remove(seq as usize - 1).uid, entry.uid),
                Difference::Flags { seq, entry } => self.list[seq as usize - 1] = entry,
                Difference::Added { seq, entry } => {
                    assert_eq!(seq as usize, self.list.len() + 1);
                    self.list.push(entry);
                }
            }
        }
        self.seen = now;
    }
}

async fn id_of(store: &Store, account: i64, name: &str) -> Option<MailboxId> {
    store.mailbox_named(AccountId(account), name).await.ok().map(|m| m.id)
}

async fn compare(store: &Store, model: &Model, clients: &mut BTreeMap<MailboxId, Client>) {
    let mut alive = BTreeSet::new();
    for account in 1..4 {
        let list = store.mailboxes(AccountId(account)).await.unwrap();
        let names: Vec<String> = list.iter().map(|m| m.name.clone()).collect();
        let want: Vec<String> = model.mailboxes.keys().filter(|(a, _)| *a == account).map(|(_, n)| n.clone()).collect();
        assert_eq!(names, want, "mailboxes of {account}");
        for info in list {
            let want = &model.mailboxes[&(account, info.name.clone())];
            let snapshot = store.snapshot(info.id).await.unwrap();
            let bits = |m: &Message| {
                m.keywords.iter().fold(Flags(m.system), |flags, k| {
                    let index = snapshot.keywords.iter().position(|n| n == KEYWORDS[*k]).expect("its keyword has a name");
                    flags.with(Flags::keyword(index))
                })
            };
            let have: Vec<(u32, Flags)> = snapshot.iter().map(|e| (e.uid.0, e.flags)).collect();
            assert_eq!(have, want.messages.iter().map(|(u, m)| (*u, bits(m))).collect::<Vec<_>>(), "{} of {account}", info.name);
            assert_eq!((info.uid_next.0, snapshot.uid_next.0), (want.next, want.next));
            assert_eq!(info.highest_modseq, snapshot.highest_modseq);
            let count = |test: &dyn Fn(&Message) -> bool| want.messages.values().filter(|m| test(m)).count() as u32;
            assert_eq!(info.messages, count(&|_| true));
            assert_eq!(info.unseen, count(&|m| m.system & Flags::SEEN.0 == 0));
            assert_eq!(info.deleted, count(&|m| m.system & Flags::DELETED.0 != 0));
            assert_eq!(info.size_bytes, snapshot.iter().map(|e| u64::from(e.size_bytes)).sum::<u64>());
            for (entry, message) in snapshot.iter().zip(want.messages.values()) {
                let parsed = store.parsed(&[entry.body]).await.unwrap();
                assert_eq!(parsed[0].envelope.subject_text, text_of(message.text));
                alive.insert((info.id, entry.uid));
            }
            if let Some(client) = clients.get_mut(&info.id) {
                client.hear();
                assert_eq!(client.list, snapshot.iter().copied().collect::<Vec<_>>(), "a watching client");
            }
        }
        assert_eq!(store.usage(AccountId(account)).await.unwrap().messages, model.count(account));
    }
    assert_eq!(store.domain_usage(DomainId(1)).await.unwrap().messages, (1..4).map(|a| model.count(a)).sum::<u64>());
    // The log alone tells which messages are there.
    let log = store.changes(ModSeq(0), usize::MAX >> 1).await.unwrap();
    assert!(log.windows(2).all(|w| w[0].modseq < w[1].modseq));
    let mut told = BTreeSet::new();
    for change in &log {
        match change.kind {
            ChangeKind::Added => assert!(told.insert((change.mailbox, change.uid))),
            ChangeKind::Expunged => assert!(told.remove(&(change.mailbox, change.uid))),
            ChangeKind::Flags => assert!(told.contains(&(change.mailbox, change.uid))),
            ChangeKind::MailboxDeleted => told.retain(|(m, _)| *m != change.mailbox),
            _ => {}
        }
    }
    assert_eq!(told, alive, "the log against the mailboxes");
    assert!(log.last().map_or(ModSeq(0), |c| c.modseq) <= *store.head().borrow());
}

async fn run(place: Place, steps: Vec<Step>) {
    let home = Home::new(place);
    let mut store = home.open().await;
    let mut model = Model::default();
    let mut clients: BTreeMap<MailboxId, Client> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Deliver { text, mut accounts, most, keyword } => {
                accounts.sort_unstable();
                accounts.dedup();
                let mut d = delivery(mail(&text_of(text)), &accounts);
                for target in &mut d.targets {
                    target.limits.account.messages = most;
                    target.flags.keywords = keyword.iter().map(|k| KEYWORDS[*k].to_owned()).collect();
                }
                let done = store.deliver(d).await.unwrap();
                for (account, outcome) in accounts.iter().zip(done.outcomes) {
                    if most.is_some_and(|most| model.count(*account) >= most) {
                        assert_eq!(outcome, Outcome::OverQuota(OverQuota::AccountMessages));
                        continue;
                    }
                    let uid = model.add(*account, "INBOX", Message { text, system: 0, keywords: keyword.into_iter().collect() });
                    let mailbox = id_of(&store, *account, "INBOX").await.unwrap();
                    assert_eq!(outcome, Outcome::Stored { mailbox, uid: Uid(uid) });
                }
            }
            Step::Append { account, name, texts, most } => {
                let Some(mailbox) = id_of(&store, account, NAMES[name]).await else { continue };
                let message =
                    |t: &u8| AppendMessage { body: mail(&text_of(*t)), flags: FlagNames::system(Flags::SEEN), received_s: 0 };
                let mut limits = Limits::default();
                limits.account.messages = most;
                let done =
                    store.append(Append { mailbox, messages: texts.iter().map(message).collect(), limits, replace: None }).await;
                if most.is_some_and(|most| model.count(account) + texts.len() as u64 > most) {
                    assert!(matches!(done, Err(Error::OverQuota(OverQuota::AccountMessages))));
                    continue;
                }
                let add =
                    |t: &u8| Uid(model.add(account, NAMES[name], Message { text: *t, system: 1, keywords: BTreeSet::new() }));
                assert_eq!(done.unwrap().uids, texts.iter().map(add).collect::<Vec<_>>());
            }
            Step::Flags { account, name, uids, action, system, keyword } => {
                let Some(mailbox) = id_of(&store, account, NAMES[name]).await else { continue };
                let keywords: Vec<String> = keyword.iter().map(|k| KEYWORDS[*k].to_lowercase()).collect();
                // The first spelling of a keyword stays, so it is made in the model's spelling.
                let keywords = if action == FlagAction::Remove {
                    keywords
                } else {
                    keyword.iter().map(|k| KEYWORDS[*k].to_owned()).collect()
                };
                let flags = FlagNames { system: Flags(system), keywords };
                let set =
                    SetFlags { mailbox, uids: uids.iter().map(|u| Uid(*u)).collect(), action, flags, unchanged_since: None };
                let done = store.set_flags(set).await.unwrap();
                let mut changed = BTreeSet::new();
                for uid in uids {
                    let Some(message) = model.mailbox(account, NAMES[name]).messages.get_mut(&uid) else { continue };
                    let before = message.clone();
                    match action {
                        FlagAction::Add => {
                            message.system |= system;
                            message.keywords.extend(keyword);
                        }
                        FlagAction::Remove => {
                            message.system &= !system;
                            message.keywords.retain(|k| Some(*k) != keyword);
                        }
                        FlagAction::Replace => {
                            message.system = system;
                            message.keywords = keyword.into_iter().collect();
                        }
                    }
                    if before != *message {
                        changed.insert(Uid(uid));
                    }
                }
                assert_eq!(done.changed, changed.into_iter().collect::<Vec<_>>());
            }
            Step::Expunge { account, name, uids, only_deleted } => {
                let Some(mailbox) = id_of(&store, account, NAMES[name]).await else { continue };
                let done = store.expunge(mailbox, uids.iter().map(|u| Uid(*u)).collect(), only_deleted).await.unwrap();
                let mut gone = Vec::new();
                let uids: BTreeSet<u32> = uids.into_iter().collect();
                for uid in uids {
                    let messages = &mut model.mailbox(account, NAMES[name]).messages;
                    if messages.get(&uid).is_some_and(|m| !only_deleted || m.system & Flags::DELETED.0 != 0) {
                        let message = messages.remove(&uid).unwrap();
                        model.trash.push((account, NAMES[name].to_owned(), message));
                        gone.push(Uid(uid));
                    }
                }
                assert_eq!(done.uids, gone);
            }
            Step::Transfer { account, from, to, uids, remove } => {
                let (Some(a), Some(b)) = (id_of(&store, account, NAMES[from]).await, id_of(&store, account, NAMES[to]).await)
                else {
                    continue;
                };
                let transfer =
                    Transfer { from: a, to: b, uids: uids.iter().map(|u| Uid(*u)).collect(), limits: Limits::default(), remove };
                let done = store.transfer(transfer).await.unwrap();
                // What is there before the copy: one into the same mailbox does not copy its own copies.
                let there = model.mailbox(account, NAMES[from]).messages.clone();
                let mut pairs = Vec::new();
                for uid in uids.into_iter().collect::<BTreeSet<u32>>() {
                    let Some(message) = there.get(&uid).cloned() else { continue };
                    pairs.push((Uid(uid), Uid(model.add(account, NAMES[to], message))));
                }
                if remove {
                    for (uid, _) in &pairs {
                        model.mailbox(account, NAMES[from]).messages.remove(&uid.0);
                    }
                }
                assert_eq!(done.pairs, pairs);
            }
            Step::Create { account, name } => {
                let done = store.create(AccountId(account), NAMES[name], None).await;
                let exists = model.mailboxes.contains_key(&(account, NAMES[name].to_owned()));
                // An account that was neither opened nor got mail is refused: nobody would be charged for what lies in it.
                let known = model.mailboxes.keys().any(|(a, _)| *a == account);
                match done {
                    Ok(_) => {
                        assert!(!exists);
                        model.make(account, NAMES[name]);
                    }
                    Err(Error::Exists(_)) => assert!(exists),
                    Err(Error::NoAccount(_)) => assert!(!known),
                    Err(other) => panic!("{other}"),
                }
            }
            Step::Delete { account, name } => {
                let Some(mailbox) = id_of(&store, account, NAMES[name]).await else { continue };
                let done = store.delete(mailbox).await;
                if NAMES[name] == "INBOX" {
                    assert!(matches!(done, Err(Error::Inbox(_))));
                    continue;
                }
                done.unwrap();
                let gone = model.mailboxes.remove(&(account, NAMES[name].to_owned())).unwrap();
                model.trash.extend(gone.messages.into_values().map(|m| (account, NAMES[name].to_owned(), m)));
                if let Some(client) = clients.remove(&mailbox) {
                    assert!(client.watch.borrow().gone);
                }
            }
            Step::Rename { account, from, to } => {
                let (from, to) = (NAMES[from], NAMES[to]);
                let Some(mailbox) = id_of(&store, account, from).await else { continue };
                let done = store.rename(mailbox, to).await;
                let key = |name: &str| (account, name.to_owned());
                let inside = format!("{from}/");
                let children: Vec<String> = model
                    .mailboxes
                    .keys()
                    .filter(|(a, n)| *a == account && n.starts_with(&inside))
                    .map(|(_, n)| n.clone())
                    .collect();
                let new = |old: &str| format!("{to}/{}", &old[inside.len()..]);
                let taken = model.mailboxes.contains_key(&key(to))
                    || (from != "INBOX" && children.iter().any(|c| model.mailboxes.contains_key(&key(&new(c)))));
                if taken || to.starts_with(&inside) {
                    assert!(done.is_err(), "{from} to {to}");
                    continue;
                }
                done.unwrap();
                if let Some((above, _)) = to.rsplit_once('/') {
                    model.make(account, above);
                }
                if from == "INBOX" {
                    let moved = std::mem::take(&mut model.mailbox(account, "INBOX").messages);
                    model.make(account, to);
                    for message in moved.into_values() {
                        model.add(account, to, message);
                    }
                } else {
                    for child in children {
                        let mailbox = model.mailboxes.remove(&key(&child)).unwrap();
                        model.mailboxes.insert(key(&new(&child)), mailbox);
                    }
                    let mailbox = model.mailboxes.remove(&key(from)).unwrap();
                    model.mailboxes.insert(key(to), mailbox);
                }
            }
            Step::Watch { account, name } => {
                let Some(mailbox) = id_of(&store, account, NAMES[name]).await else { continue };
                let mut watch = store.watch(mailbox).await.unwrap();
                let seen = watch.borrow_and_update().clone();
                let list = seen.iter().copied().collect();
                clients.insert(mailbox, Client { watch, seen, list });
            }
            Step::Restore { account } => {
                let deleted = store.deleted(AccountId(account), 1000).await.unwrap();
                assert_eq!(deleted.len(), model.trash.iter().filter(|(a, ..)| *a == account).count());
                let Some(last) = deleted.first() else { continue };
                store.restore(AccountId(account), vec![last.id]).await.unwrap();
                let at = model.trash.iter().rposition(|(a, ..)| *a == account).unwrap();
                let (_, name, message) = model.trash.remove(at);
                model.add(
                    account,
                    &name,
                    Message { system: message.system & !Flags::DELETED.0, keywords: BTreeSet::new(), ..message },
                );
            }
            Step::Compact => drop(store.compact(100).await.unwrap()),
            Step::Restart => {
                clients.clear();
                store.close().await;
                store = home.open().await;
            }
        }
        compare(&store, &model, &mut clients).await;
    }
    store.close().await;
}

fn run_blocking(place: Place, steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(place, steps));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn sqlite_agrees_with_the_model(steps in prop::collection::vec(step(), 1..40)) {
        run_blocking(Place::sqlite(), steps);
    }
}
proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 100, ..ProptestConfig::default() })]
    #[test]
    fn postgres_agrees_with_the_model(steps in prop::collection::vec(step(), 1..30)) {
        run_blocking(Place::postgres(), steps);
    }
}
