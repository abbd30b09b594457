//! Two sides of one store in a private folder.
#![allow(dead_code, reason = "each test binary uses a part")]

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use twinpost_merge::{Error, Found, Home, Options, People, Report, Sides, Watch};
use twinpost_message::{AccountId, Address, BodyHash, DomainId, Flags, MailboxId, TraceId, Uid};
use twinpost_store::spool::{NewRcpt, NewSpool, Notify, SpoolEntry, SpoolFilter};
use twinpost_store::{Append, AppendMessage, Delivery, FlagNames, Folder, Limits, OverQuotaPolicy, Prepared, Store, Target};

/// Everybody has the same number on both sides.
pub struct SameNumbers {
    pub limits: Limits,
}

impl People for SameNumbers {
    fn find(&self, there: AccountId, _: Option<i64>) -> BoxFuture<'_, Result<Found, Error>> {
        let home = Home { account: there, domain: DomainId(1), address: format!("a{there}@x.example"), limits: self.limits };
        async move { Ok(Found::Here(home)) }.boxed()
    }
    fn make(&self, there: AccountId) -> BoxFuture<'_, Result<Home, Error>> {
        async move { panic!("account {there} is on both sides") }.boxed()
    }
    fn accounts_there(&self) -> Vec<AccountId> {
        Vec::new()
    }
    fn names_there(&self) -> Vec<String> {
        Vec::new()
    }
    fn fault(&self) -> Option<String> {
        None
    }
}

/// `here/store` goes on, `there/store` is set aside.
pub struct World {
    pub dir: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for side in ["here", "there"] {
            std::fs::create_dir_all(dir.path().join(side)).expect("a folder in it");
        }
        Self { dir }
    }
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("here")
    }
    pub fn aside(&self) -> PathBuf {
        self.dir.path().join("there")
    }
    pub async fn here(&self) -> Store {
        open(&self.data()).await
    }
    pub async fn there(&self) -> Store {
        open(&self.aside()).await
    }
    /// Both are one up to now.
    pub fn part(&self) {
        copy(&self.data().join("store"), &self.aside().join("store"));
    }
    pub fn sides(&self, store: &Store) -> Sides {
        let people = Arc::new(SameNumbers { limits: Limits::default() });
        Sides { store: store.clone(), aside: self.aside(), data: self.data(), people }
    }
    pub async fn merge(&self, store: &Store) -> Report {
        twinpost_merge::merge(&self.sides(store), Options::default(), &Watch::default()).await.expect("the merge ends")
    }
    pub async fn differences(&self, store: &Store) -> Report {
        twinpost_merge::differences(&self.sides(store), &Watch::default()).await.expect("the comparison ends")
    }
}

pub async fn open(data: &Path) -> Store {
    let options = twinpost_store::Options { pack_bytes: 256 << 10, ..twinpost_store::Options::new(&data.join("store")) };
    Store::open(options).await.expect("the store opens")
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("the folder is there") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("copies");
        }
    }
}

/// All files of a folder with their bytes.
pub fn bytes_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(bytes_of(&path));
        } else {
            all.insert(path.clone(), std::fs::read(&path).expect("reads"));
        }
    }
    all
}

/// Takes the index of a store away.
pub fn lose_index(data: &Path) {
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(data.join("store").join(format!("index.sqlite{end}")));
    }
}

/// As SMTP delivers it: with our Received field, whose id is made from the text.
pub fn traced(text: &str) -> Prepared {
    let trace = trace_of(text);
    Store::prepare(&Bytes::from(format!(
        "Received: from c ([192.0.2.1])\r\n\tby mx.example with ESMTP\r\n\tid {trace};\r\n\tSun, 1 Jan 2023 00:00:00 +0000\r\n\
         From: s@y.example\r\nSubject: {text}\r\n\r\nBody of {text}\r\n"
    )))
}

pub fn trace_of(text: &str) -> TraceId {
    let hash = BodyHash::of(text.as_bytes());
    TraceId(u64::from_le_bytes(hash.0[..8].try_into().expect("eight bytes")) >> 4)
}

/// As a program hands it in by APPEND.
pub fn plain(text: &str) -> Prepared {
    Store::prepare(&Bytes::from(format!("Subject: {text}\r\n\r\nBody of {text}\r\n")))
}

pub fn delivery(text: &str, accounts: &[i64]) -> Delivery {
    let target = |account: &i64| Target {
        account: AccountId(*account),
        domain: DomainId(1),
        folder: Folder::Inbox,
        flags: FlagNames::default(),
        limits: Limits::default(),
        recipient: Address::parse("a@x.example").expect("an address"),
    };
    Delivery {
        body: traced(text),
        trace: trace_of(text),
        received_s: 1000,
        targets: accounts.iter().map(target).collect(),
        spool: None,
        over_quota: OverQuotaPolicy::Refuse,
    }
}

pub fn spool(rcpt: &str, next_try_s: i64) -> NewSpool {
    NewSpool {
        sender: Address::parse("s@x.example").ok(),
        ret: None,
        envid: None,
        smtputf8: false,
        eight_bit: true,
        require_tls: false,
        held: false,
        account: Some(AccountId(1)),
        expires_s: 4_000_000_000,
        next_try_s,
        rcpts: vec![NewRcpt { address: Address::parse(rcpt).expect("an address"), orcpt: None, notify: Notify(0) }],
    }
}

pub async fn deliver(store: &Store, text: &str, accounts: &[i64]) {
    store.deliver(delivery(text, accounts)).await.expect("it is stored");
}

pub async fn enqueue(store: &Store, text: &str) {
    let spool = Some(spool("r@elsewhere.example", 0));
    store.deliver(Delivery { spool, ..delivery(text, &[]) }).await.expect("it is queued");
}

pub async fn mailbox(store: &Store, account: i64, name: &str) -> MailboxId {
    store.mailbox_named(AccountId(account), name).await.expect("the mailbox is there").id
}

pub async fn append(store: &Store, mailbox: MailboxId, text: &str, flags: FlagNames) -> Uid {
    let message = AppendMessage { body: plain(text), flags, received_s: 2000 };
    let append = Append { mailbox, messages: vec![message], limits: Limits::default(), replace: None };
    store.append(append).await.expect("it is stored").uids[0]
}

/// A message as somebody sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub account: i64,
    pub mailbox: String,
    pub id: MailboxId,
    pub uid: Uid,
    pub hash: BodyHash,
    pub subject: String,
    pub flags: Flags,
    pub keywords: Vec<String>,
    pub received_s: i64,
}

/// Everything of a store.
pub async fn look(store: &Store) -> Vec<Seen> {
    let mut seen = Vec::new();
    for (account, _) in store.accounts().await.expect("accounts") {
        for m in store.mailboxes(account).await.expect("mailboxes") {
            let names = store.keywords(m.id).await.expect("keywords");
            let snapshot = store.snapshot(m.id).await.expect("a snapshot");
            for e in snapshot.iter() {
                let bytes = store.body(e.body).await.expect("a body");
                let parsed = store.parsed(&[e.body]).await.expect("parsed");
                let mut keywords: Vec<String> =
                    (0..names.len()).filter(|n| e.flags.contains(Flags::keyword(*n))).map(|n| names[n].clone()).collect();
                keywords.sort();
                seen.push(Seen {
                    account: account.0,
                    mailbox: m.name.clone(),
                    id: m.id,
                    uid: e.uid,
                    hash: BodyHash::of(&bytes),
                    subject: parsed[0].envelope.subject_text.clone(),
                    flags: Flags(e.flags.0 & 31),
                    keywords,
                    received_s: e.received_s,
                });
            }
        }
    }
    seen
}

pub async fn queue(store: &Store) -> Vec<SpoolEntry> {
    store.spool_list(&SpoolFilter::default(), 10_000).await.expect("the queue")
}

/// `account/mailbox/subject` of every message, in order.
pub async fn places(store: &Store) -> Vec<String> {
    let mut all: Vec<String> = look(store).await.iter().map(|s| format!("{}/{}/{}", s.account, s.mailbox, s.subject)).collect();
    all.sort();
    all
}
