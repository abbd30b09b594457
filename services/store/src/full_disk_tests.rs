//! A full disk under the packs, and under the index: mail is refused as such, nothing acknowledged is lost, reading goes
//! on, and service returns by itself.

use crate::db::{self, Tx};
use crate::files::{FaultFiles, FaultKind};
use crate::{Delivery, Error, FlagNames, Folder, Limits, Options, OverQuotaPolicy, Store, Target};
use bytes::Bytes;
use std::sync::Arc;
use twinpost_message::{AccountId, Address, BodyId, DomainId, TraceId};

fn delivery(n: u32) -> Delivery {
    let mut state = n.wrapping_mul(2_654_435_761) | 1;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        char::from(33 + u8::try_from(state % 90).unwrap_or(0))
    };
    let text: String = (0..20_000).map(|_| noise()).collect();
    let target = Target {
        account: AccountId(1),
        domain: DomainId(1),
        folder: Folder::Inbox,
        flags: FlagNames::default(),
        limits: Limits::default(),
        recipient: Address::parse("a@x.example").unwrap(),
    };
    Delivery {
        body: Store::prepare(&Bytes::from(format!("Subject: {n}\r\n\r\n{text}\r\n"))),
        trace: TraceId(1),
        received_s: 0,
        targets: vec![target],
        spool: None,
        over_quota: OverQuotaPolicy::Refuse,
    }
}

async fn all_are_there(store: &Store, acknowledged: &[BodyId]) {
    let inbox = store.mailbox_named(AccountId(1), "INBOX").await.unwrap();
    let snapshot = store.snapshot(inbox.id).await.unwrap();
    assert_eq!(snapshot.iter().map(|e| e.body).collect::<Vec<_>>(), acknowledged);
    assert_eq!(inbox.messages as usize, acknowledged.len());
    for id in acknowledged {
        assert!(store.body(*id).await.is_ok());
    }
}

#[tokio::test]
async fn packs_without_space() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultFiles::new(1);
    let options = Options { files: Arc::new(disk.clone()), body_cache_bytes: 1, ..Options::new(dir.path()) };
    let store = Store::open(options.clone()).await.unwrap();
    let mut acknowledged = vec![];
    for n in 0..10 {
        acknowledged.push(store.deliver(delivery(n)).await.unwrap().body.unwrap());
    }
    disk.set_capacity(Some(disk.used_bytes()));
    let mut refused = 0;
    // What space the newest pack has reserved is used up first.
    for n in 10..2000 {
        match store.deliver(delivery(n)).await {
            Ok(done) => acknowledged.push(done.body.unwrap()),
            Err(error) => {
                assert!(error.is_disk_full(), "{error:?}");
                refused += 1;
                if refused == 3 {
                    break;
                }
            }
        }
    }
    assert_eq!(refused, 3);
    all_are_there(&store, &acknowledged).await;
    // What needs no new record is still done.
    let copy = store.deliver(delivery(0)).await.unwrap();
    acknowledged.push(copy.body.unwrap());
    disk.set_capacity(None);
    acknowledged.push(store.deliver(delivery(5000)).await.unwrap().body.unwrap());
    all_are_there(&store, &acknowledged).await;
    store.close().await;
    let store = Store::open(options).await.unwrap();
    all_are_there(&store, &acknowledged).await;
    store.close().await;
}

#[tokio::test]
async fn new_mail_leaves_room_for_the_service_itself() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultFiles::new(1);
    let capacity = 4_000_000;
    disk.set_capacity(Some(capacity));
    let options = Options { files: Arc::new(disk.clone()), body_cache_bytes: 1, ..Options::new(dir.path()) };
    let store = Store::open(options.clone()).await.unwrap();
    let mut acknowledged = vec![];
    let refused = loop {
        match store.deliver(delivery(u32::try_from(acknowledged.len()).unwrap())).await {
            Ok(done) => acknowledged.push(done.body.unwrap()),
            Err(error) => break error,
        }
    };
    assert!(refused.is_disk_full(), "{refused:?}");
    let free = capacity - disk.used_bytes();
    assert!((capacity / 20 - 20_000..capacity / 20 + 40_000).contains(&free), "a twentieth is kept: {free}");
    // What is kept is for what needs no new mail, and a start.
    acknowledged.push(store.deliver(delivery(0)).await.unwrap().body.unwrap());
    store.close().await;
    let store = Store::open(options).await.unwrap();
    all_are_there(&store, &acknowledged).await;
    store.close().await;
}

#[tokio::test]
async fn a_failed_sync_fails_its_batch_only() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultFiles::new(1);
    let store =
        Store::open(Options { files: Arc::new(disk.clone()), body_cache_bytes: 1, ..Options::new(dir.path()) }).await.unwrap();
    let mut acknowledged = vec![store.deliver(delivery(0)).await.unwrap().body.unwrap()];
    disk.fail(FaultKind::Sync, 0, 1);
    let refused = store.deliver(delivery(1)).await;
    assert!(matches!(&refused, Err(e) if e.is_internal() && !e.is_disk_full()), "{refused:?}");
    // The same message again must be written again: the first bytes are in doubt for good.
    acknowledged.push(store.deliver(delivery(1)).await.unwrap().body.unwrap());
    all_are_there(&store, &acknowledged).await;
    store.close().await;
}

#[tokio::test]
async fn index_without_space() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Options { body_cache_bytes: 1, ..Options::new(dir.path()) }).await.unwrap();
    let mut acknowledged = vec![];
    for n in 0..5 {
        acknowledged.push(store.deliver(delivery(n)).await.unwrap().body.unwrap());
    }
    let limit = |pages: i64| {
        let writer = store.inner.writer.clone();
        async move {
            let mut tx = Tx::begin(&writer).await.unwrap();
            tx.fetch(format!("PRAGMA max_page_count = {pages}"), vec![]).await.unwrap();
            tx.commit().await.unwrap();
        }
    };
    let pages = db::fetch(&store.inner.db, "PRAGMA page_count", vec![]).await.unwrap()[0].int(0).unwrap();
    limit(pages).await;
    let mut refused = 0;
    for n in 5..2000 {
        match store.deliver(delivery(n)).await {
            Ok(done) => acknowledged.push(done.body.unwrap()),
            Err(error) => {
                assert!(error.is_disk_full(), "{error:?}");
                refused += 1;
                if refused == 3 {
                    break;
                }
            }
        }
    }
    assert_eq!(refused, 3, "the index filled up");
    all_are_there(&store, &acknowledged).await;
    limit(1_000_000).await;
    for n in 2000..2003 {
        acknowledged.push(store.deliver(delivery(n)).await.unwrap().body.unwrap());
    }
    all_are_there(&store, &acknowledged).await;
    let missing = store.body(BodyId(123_456)).await;
    assert!(matches!(missing, Err(Error::NoBody(_))));
    store.close().await;
}

#[tokio::test]
async fn a_damaged_record_concerns_its_message_only_and_heals_when_the_message_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultFiles::new(1);
    let store =
        Store::open(Options { files: Arc::new(disk.clone()), body_cache_bytes: 1, ..Options::new(dir.path()) }).await.unwrap();
    let good = store.deliver(delivery(1)).await.unwrap().body.unwrap();
    let bad = store.deliver(delivery(2)).await.unwrap().body.unwrap();
    let row = &db::fetch(&store.inner.db, "SELECT place FROM body WHERE id = $1", vec![bad.0.into()]).await.unwrap()[0];
    let offset = row.uint(0).unwrap();
    let pack = disk.contents().into_iter().map(|(path, _)| path).find(|p| p.extension().is_some()).unwrap();
    disk.damage(&pack, offset + 100, 8).unwrap();
    assert!(matches!(store.body(bad).await, Err(Error::Damaged { body, .. }) if body == bad));
    assert!(store.body(good).await.is_ok());
    assert!(store.parsed(&[bad]).await.is_ok(), "its list entry is still there");
    let again = store.deliver(delivery(2)).await.unwrap().body.unwrap();
    assert_eq!(again, bad);
    assert!(store.body(bad).await.is_ok(), "healed");
    store.close().await;
}
