//! `verify` on a healthy store beside running mail, on flipped bytes, missing packs and rows that contradict each other.
mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;
use support::{Home, delivery, mail, spool, target};
use twinpost_message::{AccountId, BodyId, Flags, Uid};
use twinpost_sql::{Database, Location, read, transaction};
use twinpost_store::*;

/// The only pack of a store.
fn pack(home: &Home) -> PathBuf {
    home.dir.path().join("packs/00000001.pack")
}

/// Changes one byte of a file.
fn flip(path: &PathBuf, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x40;
    std::fs::write(path, bytes).unwrap();
}

/// Where the record of a body is, as the index says.
async fn place(location: &Location, id: BodyId) -> (usize, usize) {
    let db = Database::open(location, 1).await.unwrap();
    let sql = "SELECT place, stored_bytes FROM body WHERE id = $1";
    let row: Result<(i64, i64), twinpost_sql::Error> =
        async { Ok(read!(&db, c => sqlx::query_as(sql).bind(id.0).fetch_one(c).await?)) }.await;
    db.close().await;
    let (offset, bytes) = row.unwrap();
    (usize::try_from(offset).unwrap(), usize::try_from(bytes).unwrap())
}

async fn change(location: &Location, sql: &'static str) {
    let db = Database::open(location, 1).await.unwrap();
    let done: Result<(), twinpost_sql::Error> = async {
        transaction!(&db, tx => { sqlx::query(sql).execute(&mut *tx).await?; tx.commit().await? });
        Ok(())
    }
    .await;
    done.unwrap();
    db.close().await;
}

async fn filled(home: &Home) -> (Store, Vec<BodyId>) {
    let store = home.open().await;
    let mut bodies = Vec::new();
    for n in 0..5 {
        let mut d = delivery(mail(&format!("m{n}")), &[1, 2]);
        d.spool = (n == 3).then(|| spool(&["r@far.example"], 5));
        bodies.push(store.deliver(d).await.unwrap().body.unwrap());
    }
    let inbox = store.mailbox_named(AccountId(2), "INBOX").await.unwrap().id;
    store.expunge(inbox, vec![Uid(2)], false).await.unwrap();
    (store, bodies)
}

on_both! {
    async fn a_healthy_store_is_clean_while_mail_comes(home: Home) {
        let (store, _) = filled(&home).await;
        let (a, b) = (store.clone(), store.clone());
        let mail_comes = tokio::spawn(async move {
            for n in 0..200 {
                a.deliver(delivery(mail(&format!("c{n}")), &[1, 2, 3])).await.unwrap();
                let inbox = a.mailbox_named(AccountId(3), "INBOX").await.unwrap().id;
                a.set_flags(SetFlags { mailbox: inbox, uids: vec![Uid(n + 1)], action: FlagAction::Add, flags: FlagNames::system(Flags::SEEN), unchanged_since: None }).await.unwrap();
            }
        });
        let mut last = (0, 0);
        loop {
            let over = mail_comes.is_finished();
            let report = b.verify(|done, total| last = (done, total)).await.unwrap();
            assert_eq!(report.faults, [], "mail that comes meanwhile is no fault");
            assert_eq!(last.0, last.1);
            assert_eq!(last.1, report.bytes);
            if over {
                assert_eq!((report.records, report.bodies, report.orphan_records), (205, 205, 0));
                assert_eq!((report.messages, report.mailboxes, report.queue_entries), (609, 3, 1));
                break;
            }
        }
        mail_comes.await.unwrap();
        store.close().await;
    }

    async fn a_flipped_byte_is_named_and_the_rest_works(home: Home) {
        let (store, bodies) = filled(&home).await;
        store.close().await;
        let (at, bytes) = place(home.place.location(), bodies[1]).await;
        flip(&pack(&home), at + bytes - 3);
        let store = home.open().await;
        let report = store.verify(|_, _| {}).await.unwrap();
        assert_eq!(report.faults_total, 1, "{:?}", report.faults);
        let fault = &report.faults[0];
        assert_eq!((fault.kind, fault.body, fault.pack, fault.offset), (FaultKind::DamagedRecord, Some(bodies[1].0), Some(1), Some(at as u64)));
        assert_eq!(fault.messages, [Place { account: 1, mailbox: "INBOX".to_owned(), uid: 2 }]);
        assert!(fault.text.contains("\"INBOX\" of account 1 (UID 2), deleted mail of account 2"), "{}", fault.text);
        assert!(serde_json::to_string(&report).unwrap().contains("\"kind\":\"damaged_record\""));
        for id in &bodies {
            let read = store.body(*id).await;
            assert_eq!(matches!(read, Err(Error::Damaged { body, .. }) if body == bodies[1]), *id == bodies[1], "{read:?}");
        }
        // The same message, coming again, heals it.
        store.deliver(delivery(mail("m1"), &[4])).await.unwrap();
        assert!(store.body(bodies[1]).await.is_ok());
        let healed = store.verify(|_, _| {}).await.unwrap();
        assert!(healed.faults.iter().all(|f| f.kind == FaultKind::DamagedRange && f.offset == Some(at as u64)), "{:?}", healed.faults);
        store.close().await;
    }

    async fn rows_that_contradict_each_other_are_named(home: Home) {
        let (store, bodies) = filled(&home).await;
        store.close().await;
        let want = [
            ("UPDATE mailbox SET unseen = unseen + 1 WHERE account = 1", FaultKind::Counter, "counts 5 messages (6 unseen"),
            ("UPDATE mailbox SET unseen = unseen - 1, uid_next = 3 WHERE account = 1", FaultKind::Order, "UIDNEXT 3"),
            ("UPDATE mailbox SET uid_next = 6 WHERE account = 1", FaultKind::Order, ""),
            ("UPDATE account SET messages = 77 WHERE id = 2", FaultKind::Counter, "Account 2 counts 77"),
            ("UPDATE account SET messages = 4 WHERE id = 2", FaultKind::Counter, ""),
            ("UPDATE domain SET size_bytes = 1 WHERE id = 1", FaultKind::Counter, "Domain 1 counts"),
            ("DELETE FROM domain", FaultKind::Counter, ""),
            ("UPDATE body SET refs = refs + 1 WHERE id = (SELECT MIN(id) FROM body)", FaultKind::Counter, "counts 3 uses, there are 2"),
            ("UPDATE body SET refs = refs - 1, hash = hash WHERE id = (SELECT MIN(id) FROM body)", FaultKind::Counter, ""),
            ("DELETE FROM spool_rcpt", FaultKind::Dangling, "no recipient that waits"),
            ("DELETE FROM spool", FaultKind::Counter, "counts 3 uses, there are 2"),
        ];
        for (sql, kind, text) in want {
            change(home.place.location(), sql).await;
            let store = home.open().await;
            let report = store.verify(|_, _| {}).await.unwrap();
            store.close().await;
            if text.is_empty() {
                assert_eq!(report.faults, [], "{sql}");
            } else {
                assert!(report.faults.iter().any(|f| f.kind == kind && f.text.contains(text)), "{sql}: {:?}", report.faults);
            }
        }
        change(home.place.location(), "UPDATE body SET place = place + 1 WHERE id = (SELECT MIN(id) FROM body)").await;
        let store = home.open().await;
        let report = store.verify(|_, _| {}).await.unwrap();
        assert!(report.faults.iter().any(|f| f.kind == FaultKind::DamagedRecord && f.body == Some(bodies[0].0)), "{:?}", report.faults);
        assert_eq!(report.orphan_records, 1);
        store.close().await;
    }

    async fn a_lost_pack_is_named_for_each_body(home: Home) {
        let mut home = home;
        home.pack_bytes = 8500;
        let (store, bodies) = filled(&home).await;
        store.close().await;
        std::fs::remove_file(pack(&home)).unwrap();
        let store = home.open().await;
        let report = store.verify(|_, _| {}).await.unwrap();
        let named: BTreeSet<i64> = report.faults.iter().filter(|f| f.kind == FaultKind::MissingRecord).filter_map(|f| f.body).collect();
        assert!(!named.is_empty() && named.len() < bodies.len(), "{:?}", report.faults);
        for id in &bodies {
            assert_eq!(store.body(*id).await.is_err(), named.contains(&id.0), "{id}");
        }
        let mut again = delivery(mail("later"), &[]);
        again.targets = vec![target(9)];
        assert!(store.deliver(again).await.unwrap().body.is_some());
        store.close().await;
    }
}
