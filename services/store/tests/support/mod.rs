//! A store in a private folder on either engine, and mail to put into it.
#![allow(dead_code, reason = "each test binary uses a part")]

use bytes::Bytes;
use std::sync::Arc;
use twinpost_message::{AccountId, Address, DomainId, TraceId};
use twinpost_sql::testing::Place;
use twinpost_store::files::{Files, RealFiles};
use twinpost_store::spool::{NewRcpt, NewSpool, Notify};
use twinpost_store::{Delivery, FlagNames, Folder, Limits, Options, OverQuotaPolicy, Prepared, Store, Target};

pub struct Home {
    pub dir: tempfile::TempDir,
    pub place: Place,
    pub files: Arc<dyn Files>,
    pub undelete_s: i64,
    pub pack_bytes: u64,
}

impl Home {
    pub fn new(place: Place) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        Self { dir, place, files: Arc::new(RealFiles), undelete_s: 86_400, pack_bytes: 256 << 20 }
    }
    pub fn options(&self) -> Options {
        Options {
            index: Some(self.place.location().clone()),
            files: self.files.clone(),
            undelete_s: self.undelete_s,
            pack_bytes: self.pack_bytes,
            ..Options::new(self.dir.path())
        }
    }
    pub async fn open(&self) -> Store {
        Store::open(self.options()).await.expect("the store opens")
    }
}

/// Runs the same test on both engines.
#[macro_export]
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($home:ident: Home) $body:block)*) => { $(
        mod $name {
            use super::*;
            $(#[$meta])*
            async fn run($home: Home) $body
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() { Box::pin(run(Home::new(twinpost_sql::testing::Place::sqlite()))).await; }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() { Box::pin(run(Home::new(twinpost_sql::testing::Place::postgres()))).await; }
        }
    )* };
}

pub fn mail(text: &str) -> Prepared {
    Store::prepare(&Bytes::from(format!("Subject: {text}\r\nMessage-ID: <{text}@x.example>\r\n\r\nBody of {text}\r\n")))
}

pub fn target(account: i64) -> Target {
    Target {
        account: AccountId(account),
        domain: DomainId(1),
        folder: Folder::Inbox,
        flags: FlagNames::default(),
        limits: Limits::default(),
        recipient: Address::parse(&format!("a{account}@x.example")).expect("an address"),
    }
}

pub fn delivery(body: Prepared, accounts: &[i64]) -> Delivery {
    Delivery {
        body,
        trace: TraceId(7),
        received_s: 1000,
        targets: accounts.iter().map(|a| target(*a)).collect(),
        spool: None,
        over_quota: OverQuotaPolicy::Refuse,
    }
}

pub fn spool(rcpts: &[&str], next_try_s: i64) -> NewSpool {
    let rcpt = |a: &&str| NewRcpt { address: Address::parse(a).expect("an address"), orcpt: None, notify: Notify(0) };
    NewSpool {
        sender: Address::parse("s@x.example").ok(),
        ret: None,
        envid: None,
        smtputf8: false,
        eight_bit: true,
        require_tls: false,
        held: false,
        account: Some(AccountId(1)),
        expires_s: 10_000,
        next_try_s,
        rcpts: rcpts.iter().map(rcpt).collect(),
    }
}
