//! A store that was set aside is looked at and not touched; what is taken in from it comes once, also behind `rebuild`.
mod support;

use support::{Home, delivery, mail, spool};
use twinpost_message::{AccountId, DomainId, Flags, TraceId, Uid};
use twinpost_sql::testing::Place;
use twinpost_store::*;

fn item(key: &str, mailbox: &MailboxInfo, text: &str) -> MergeItem {
    let flags = FlagNames { system: Flags::SEEN, keywords: vec!["k".to_owned()] };
    let message = AppendMessage { body: mail(text), flags, received_s: 5 };
    MergeItem { key: MergeKey::of(key.as_bytes()), what: MergeWhat::Message { mailbox: mailbox.id, message } }
}

async fn inbox(store: &Store) -> MailboxInfo {
    store.mailbox_named(AccountId(1), "INBOX").await.unwrap()
}

on_both! {
    async fn what_is_taken_in_has_a_name_that_outlives_the_index(home: Home) {
        let store = home.open().await;
        store.open_account(AccountId(1), DomainId(1)).await.unwrap();
        let body = mail("outbound");
        let queue = || MergeItem {
            key: MergeKey::of(b"q"),
            what: MergeWhat::Queue { body: body.clone(), trace: TraceId(9), spool: spool(&["r@y.example"], 0) },
        };
        let all = |m: &MailboxInfo| vec![item("a", m, "x"), item("b", m, "x"), item("a", m, "x"), queue()];
        let outcomes = store.merge(all(&inbox(&store).await)).await.unwrap();
        let taken = |o: &MergeOutcome| matches!(o, MergeOutcome::Stored(_) | MergeOutcome::Queued(_));
        assert_eq!(outcomes.iter().map(taken).collect::<Vec<_>>(), [true, true, false, true]);
        let flags = MergeWhat::Flags { mailbox: inbox(&store).await.id, uid: Uid(1), flags: FlagNames::system(Flags::FLAGGED) };
        let flags = MergeItem { key: MergeKey::of(b"f"), what: flags };
        assert!(matches!(store.merge(vec![flags.clone()]).await.unwrap()[0], MergeOutcome::Flagged(true)));
        // A mailbox that is gone refuses its item, and only that; it can be asked again.
        let gone = MailboxInfo { id: twinpost_message::MailboxId(999_999), ..inbox(&store).await };
        let outcomes = store.merge(vec![item("g", &gone, "y"), item("c", &inbox(&store).await, "y")]).await.unwrap();
        assert!(matches!(&outcomes[..], [MergeOutcome::Refused(Error::NoMailbox(_)), MergeOutcome::Stored(Uid(3))]));
        let keys = ["a", "b", "c", "f", "g", "q"].map(|k| MergeKey::of(k.as_bytes()));
        assert_eq!(store.merged(&keys).await.unwrap().len(), 5);
        let head = *store.head().borrow();
        let mut again = all(&inbox(&store).await);
        again.push(flags);
        let outcomes = store.merge(again).await.unwrap();
        assert!(outcomes.iter().all(|o| matches!(o, MergeOutcome::Known)), "{outcomes:?}");
        assert_eq!(*store.head().borrow(), head);
        assert!(store.verify(|_, _| {}).await.unwrap().faults.is_empty());
        // Once from the logs, once from a snapshot (which a rebuild leaves).
        for _ in 0..2 {
            store.close().await;
            let report = Store::rebuild(home.options(), |_, _| {}).await.unwrap();
            assert_eq!((report.messages, report.queue_entries, report.complete), (3, 1, true));
            let store = home.open().await;
            assert_eq!(store.merged(&keys).await.unwrap().len(), 5);
            assert!(matches!(store.merge(vec![queue()]).await.unwrap()[0], MergeOutcome::Known));
            store.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aside_store_is_read_and_refuses_changes() {
    let home = Home::new(Place::sqlite());
    let options = Options { index: None, ..home.options() };
    let store = Store::open(options.clone()).await.unwrap();
    store.deliver(delivery(mail("a"), &[1])).await.unwrap();
    store.deliver(Delivery { spool: Some(spool(&["r@y.example"], 0)), ..delivery(mail("b"), &[]) }).await.unwrap();
    store.close().await;
    let work = tempfile::tempdir().unwrap();
    for lost in [false, true] {
        if lost {
            std::fs::remove_file(home.dir.path().join("index.sqlite")).unwrap();
        }
        let aside = Aside::open(home.dir.path(), work.path(), |_, _| {}).await.unwrap();
        assert_eq!(matches!(aside.index(), AsideIndex::Made { .. }), lost);
        let there = aside.store();
        let found = there.there_now(ThereNow::Added, Default::default(), 10).await.unwrap();
        assert_eq!(found.iter().map(|p| p.hash).collect::<Vec<_>>(), [mail("a").hash()]);
        assert_eq!(there.messages(found[0].mailbox, &[Uid(1), Uid(7)]).await.unwrap().len(), 1);
        assert!(there.body(found[0].body).await.is_ok());
        assert_eq!(there.spool_list(&Default::default(), 10).await.unwrap().len(), 1);
        assert!(matches!(there.deliver(delivery(mail("c"), &[1])).await, Err(Error::Closed)));
        assert!(matches!(there.create(AccountId(1), "x", None).await, Err(Error::Closed)));
        aside.close().await.unwrap();
        assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 0, "nothing stays in the working folder");
        assert_eq!(home.dir.path().join("index.sqlite").exists(), !lost);
    }
    let nothing = tempfile::tempdir().unwrap();
    assert!(matches!(Aside::open(nothing.path(), work.path(), |_, _| {}).await, Err(Error::Open { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_parting_is_found_in_the_logs() {
    let home = Home::new(Place::sqlite());
    let options = Options { index: None, pack_bytes: 64 << 10, ..home.options() };
    let store = Store::open(options.clone()).await.unwrap();
    for n in 0..30 {
        store.deliver(delivery(mail(&format!("m{n}")), &[1])).await.unwrap();
    }
    store.close().await;
    let other = tempfile::tempdir().unwrap();
    std::fs::create_dir(other.path().join("packs")).unwrap();
    let copy = |name: &str| std::fs::copy(home.dir.path().join(name), other.path().join(name)).map(drop).unwrap();
    copy("index.sqlite");
    for entry in std::fs::read_dir(home.dir.path().join("packs")).unwrap() {
        copy(&format!("packs/{}", entry.unwrap().file_name().to_str().unwrap()));
    }
    let work = tempfile::tempdir().unwrap();
    let ours = Store::open(options.clone()).await.unwrap();
    let common = *ours.head().borrow();
    let look = |ours: Store| {
        let (other, work) = (other.path().to_owned(), work.path().to_owned());
        async move {
            let aside = Aside::open(&other, &work, |_, _| {}).await.unwrap();
            let found = ours.divergence(&aside).await.unwrap().expect("one past");
            aside.close().await.unwrap();
            found
        }
    };
    let found = look(ours.clone()).await;
    assert_eq!((found.number, found.exact, found.first_here_s, found.first_there_s), (common, true, None, None));
    ours.deliver(delivery(mail("here"), &[1])).await.unwrap();
    let found = look(ours.clone()).await;
    assert_eq!((found.number, found.exact, found.first_there_s), (common, true, None));
    assert!(found.first_here_s.is_some(), "also of a log that is in no pack yet");
    let theirs = Store::open(Options { index: None, ..Options::new(other.path()) }).await.unwrap();
    theirs.deliver(delivery(mail("there"), &[1])).await.unwrap();
    theirs.close().await;
    let found = look(ours.clone()).await;
    assert_eq!((found.number, found.exact), (common, true));
    assert!(found.first_here_s.is_some() && found.first_there_s.is_some());
    // Another store altogether.
    let stranger = tempfile::tempdir().unwrap();
    let store = Store::open(Options::new(stranger.path())).await.unwrap();
    store.deliver(delivery(mail("x"), &[1])).await.unwrap();
    store.close().await;
    let aside = Aside::open(stranger.path(), work.path(), |_, _| {}).await.unwrap();
    assert_eq!(ours.divergence(&aside).await.unwrap(), None);
    aside.close().await.unwrap();
    ours.close().await;
}
