//! What the store promises, operation by operation, on both engines.
mod support;

use bytes::Bytes;
use support::{Home, delivery, mail, spool, target};
use twinpost_message::view::Change as Difference;
use twinpost_message::{AccountId, DomainId, Flags, MailboxId, ModSeq, Uid};
use twinpost_store::spool::{RcptState, RcptUpdate, Reply, SpoolAction, SpoolFilter, SpoolUpdate};
use twinpost_store::*;

const ANNA: AccountId = AccountId(1);
const SCHOOL: DomainId = DomainId(1);

async fn inbox(store: &Store, account: i64) -> MailboxInfo {
    store.mailbox_named(AccountId(account), "inbox").await.expect("an INBOX")
}

fn set(mailbox: MailboxId, uids: &[u32], action: FlagAction, system: Flags, keywords: &[&str]) -> SetFlags {
    let keywords = keywords.iter().map(|k| (*k).to_owned()).collect();
    let uids = uids.iter().map(|u| Uid(*u)).collect();
    SetFlags { mailbox, uids, action, flags: FlagNames { system, keywords }, unchanged_since: None }
}

on_both! {
    async fn a_message_to_many_is_one_body(home: Home) {
        let store = home.open().await;
        let done = store.deliver(delivery(mail("one"), &[1, 2, 3])).await.unwrap();
        assert_eq!(done.outcomes.len(), 3);
        let body = done.body.unwrap();
        for account in 1..=3 {
            let info = inbox(&store, account).await;
            assert_eq!((info.messages, info.unseen, info.uid_next), (1, 1, Uid(2)));
            let snapshot = store.snapshot(info.id).await.unwrap();
            assert_eq!(snapshot.at(1).unwrap().body, body);
            assert_eq!(store.usage(AccountId(account)).await.unwrap().messages, 1);
        }
        // The same bytes again are the same body.
        let again = store.deliver(delivery(mail("one"), &[1])).await.unwrap();
        assert_eq!(again.body, Some(body));
        assert_eq!(store.domain_usage(SCHOOL).await.unwrap().messages, 4);
        assert!(store.body(body).await.unwrap().ends_with(b"Body of one\r\n"));
        assert_eq!(store.parsed(&[body, body]).await.unwrap()[1].envelope.subject_text, "one");
        // All of it is there after a restart.
        store.close().await;
        assert!(matches!(store.deliver(delivery(mail("two"), &[1])).await, Err(Error::Closed)));
        let store = home.open().await;
        assert_eq!(inbox(&store, 1).await.messages, 2);
        assert!(store.body(body).await.unwrap().ends_with(b"Body of one\r\n"));
        assert_eq!(store.parsed(&[body]).await.unwrap()[0].envelope.subject_text, "one");
        let next = store.deliver(delivery(mail("two"), &[1])).await.unwrap();
        assert_eq!(next.outcomes, [Outcome::Stored { mailbox: inbox(&store, 1).await.id, uid: Uid(3) }]);
        assert!(next.body > Some(body));
        store.close().await;
    }

    async fn quotas_are_kept_target_by_target(home: Home) {
        let store = home.open().await;
        let size = u64::from(mail("q1").size_bytes());
        let mut d = delivery(mail("q1"), &[1, 2]);
        d.targets[0].limits.account.messages = Some(0);
        let done = store.deliver(d).await.unwrap();
        assert_eq!(done.outcomes[0], Outcome::OverQuota(OverQuota::AccountMessages));
        assert!(matches!(done.outcomes[1], Outcome::Stored { .. }));
        // Bytes of the domain: exactly full is allowed, one byte more is not.
        let mut limits = Limits::default();
        limits.domain.size_bytes = Some(2 * size);
        let mut d = delivery(mail("q2"), &[1]);
        d.targets[0].limits = limits;
        assert!(matches!(store.deliver(d).await.unwrap().outcomes[0], Outcome::Stored { .. }));
        assert_eq!(store.would_exceed(ANNA, SCHOOL, &limits, 1, 1).await.unwrap(), Some(OverQuota::DomainBytes));
        let mut d = delivery(mail("q3"), &[1]);
        d.targets[0].limits = limits;
        let done = store.deliver(d.clone()).await.unwrap();
        assert_eq!((done.outcomes, done.body, done.queue), (vec![Outcome::OverQuota(OverQuota::DomainBytes)], None, None));
        // Told so, it goes to the queue instead.
        d.over_quota = OverQuotaPolicy::Spool;
        d.spool = Some(spool(&[], 5));
        let done = store.deliver(d).await.unwrap();
        assert_eq!(done.outcomes, [Outcome::Spooled(OverQuota::DomainBytes)]);
        let entry = store.spool_entry(done.queue.unwrap()).await.unwrap();
        assert_eq!(entry.rcpts[0].address.to_string(), "a1@x.example");
        // Deleted mail frees its room.
        let here = inbox(&store, 1).await;
        store.expunge(here.id, vec![Uid(1)], false).await.unwrap();
        assert_eq!(store.would_exceed(ANNA, SCHOOL, &limits, size, 1).await.unwrap(), None);
        assert_eq!(store.usage(ANNA).await.unwrap(), Usage::default());
        store.close().await;
    }

    async fn append_is_all_or_nothing_and_replaces(home: Home) {
        let store = home.open().await;
        store.open_account(ANNA, SCHOOL).await.unwrap();
        let drafts = store.mailbox_named(ANNA, "Drafts").await.unwrap();
        assert_eq!((drafts.special_use, drafts.subscribed), (Some(SpecialUse::Drafts), true));
        let message = |n: &str| AppendMessage {
            body: mail(n),
            flags: FlagNames { system: Flags::DRAFT, keywords: vec!["$Phishing".into()] },
            received_s: 5,
        };
        let mut limits = Limits::default();
        limits.account.messages = Some(1);
        let both = Append { mailbox: drafts.id, messages: vec![message("a"), message("b")], limits, replace: None };
        assert!(matches!(store.append(both.clone()).await, Err(Error::OverQuota(OverQuota::AccountMessages))));
        assert_eq!(store.mailbox(drafts.id).await.unwrap().messages, 0);
        let done = store.append(Append { limits: Limits::default(), ..both }).await.unwrap();
        assert_eq!(done.uids, [Uid(1), Uid(2)]);
        let watch = store.watch(drafts.id).await.unwrap();
        let before = watch.borrow().clone();
        assert_eq!(*before.keywords, ["$Phishing"]);
        let replaced = Append { mailbox: drafts.id, messages: vec![message("c")], limits: Limits::default(), replace: Some((drafts.id, Uid(1))) };
        assert_eq!(store.append(replaced.clone()).await.unwrap().uids, [Uid(3)]);
        let after = watch.borrow().clone();
        let changes = after.since(&before);
        assert!(matches!(changes[0], Difference::Expunged { seq: 1, .. }));
        assert!(matches!(changes[1], Difference::Added { seq: 2, entry } if entry.flags == Flags::DRAFT.with(Flags::keyword(0))));
        assert!(matches!(store.append(replaced).await, Err(Error::NoMessage)));
        assert_eq!(store.vanished(drafts.id, before.highest_modseq).await.unwrap(), [Uid(1)]);
        assert!(matches!(
            store.append(Append { mailbox: MailboxId(999_999), messages: vec![message("d")], limits: Limits::default(), replace: None }).await,
            Err(Error::NoMailbox(_))
        ));
        store.close().await;
    }

    async fn flags_change_once_and_conditionally(home: Home) {
        let store = home.open().await;
        for n in ["a", "b", "c"] {
            store.deliver(delivery(mail(n), &[1])).await.unwrap();
        }
        let id = inbox(&store, 1).await.id;
        let mut notices = store.listen(ANNA);
        let start = store.snapshot(id).await.unwrap();
        let done = store.set_flags(set(id, &[1, 2, 9], FlagAction::Add, Flags::SEEN, &["Work"])).await.unwrap();
        assert_eq!(done.changed, [Uid(1), Uid(2)]);
        assert_eq!(notices.recv().await.unwrap(), Notice::Mailbox(id));
        let again = store.set_flags(set(id, &[1, 2], FlagAction::Add, Flags::SEEN, &["WORK"])).await.unwrap();
        assert!(again.changed.is_empty());
        assert_eq!(again.modseq, done.modseq);
        let mut conditional = set(id, &[1, 3], FlagAction::Replace, Flags::FLAGGED, &[]);
        conditional.unchanged_since = Some(start.highest_modseq);
        let outcome = store.set_flags(conditional).await.unwrap();
        assert_eq!((outcome.changed, outcome.modified), (vec![Uid(3)], vec![Uid(1)]));
        let now = store.snapshot(id).await.unwrap();
        assert_eq!(*now.keywords, ["Work"]);
        assert_eq!(now.at(1).unwrap().flags, Flags::SEEN.with(Flags::keyword(0)));
        assert_eq!(now.at(3).unwrap().flags, Flags::FLAGGED);
        let info = store.mailbox(id).await.unwrap();
        assert_eq!((info.messages, info.unseen, info.deleted), (3, 1, 0));
        let many: Vec<String> = (0..60).map(|n| format!("k{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(matches!(store.set_flags(set(id, &[1], FlagAction::Add, Flags(0), &many)).await, Err(Error::TooMany { .. })));
        store.set_flags(set(id, &[2], FlagAction::Remove, Flags::SEEN, &["work", "none"])).await.unwrap();
        assert_eq!(store.snapshot(id).await.unwrap().at(2).unwrap().flags, Flags(0));
        // A fresh load says the same as the published snapshot.
        let published: Vec<_> = store.snapshot(id).await.unwrap().iter().copied().collect();
        store.close().await;
        let store = home.open().await;
        assert_eq!(store.snapshot(id).await.unwrap().iter().copied().collect::<Vec<_>>(), published);
        store.close().await;
    }

    async fn copy_move_expunge_and_back(home: Home) {
        let store = home.open().await;
        store.open_account(ANNA, SCHOOL).await.unwrap();
        for n in ["a", "b", "c"] {
            store.deliver(delivery(mail(n), &[1])).await.unwrap();
        }
        let (from, to) = (inbox(&store, 1).await.id, store.mailbox_named(ANNA, "Archive").await.unwrap().id);
        store.set_flags(set(from, &[1], FlagAction::Add, Flags::DELETED, &["Red", "Blue"])).await.unwrap();
        store.set_flags(set(from, &[2], FlagAction::Add, Flags(0), &["Blue"])).await.unwrap();
        let transfer = |uids: &[u32], remove| Transfer { from, to, uids: uids.iter().map(|u| Uid(*u)).collect(), limits: Limits::default(), remove };
        let done = store.transfer(transfer(&[2, 7], false)).await.unwrap();
        assert_eq!(done.pairs, [(Uid(2), Uid(1))]);
        let there = store.snapshot(to).await.unwrap();
        assert_eq!(*there.keywords, ["Blue"]);
        assert_eq!(there.at(1).unwrap().flags, Flags::keyword(0));
        let done = store.transfer(transfer(&[3], true)).await.unwrap();
        assert_eq!(done.pairs, [(Uid(3), Uid(2))]);
        assert_eq!(store.usage(ANNA).await.unwrap().messages, 4);
        // Only what is marked goes.
        let gone = store.expunge(from, vec![Uid(1), Uid(2)], true).await.unwrap();
        assert_eq!(gone.uids, [Uid(1)]);
        assert_eq!(store.vanished(from, ModSeq(0)).await.unwrap(), [Uid(1), Uid(3)]);
        let deleted = store.deleted(ANNA, 10).await.unwrap();
        assert_eq!(deleted.len(), 1, "a moved message is not a deleted one");
        let back = store.restore(ANNA, vec![deleted[0].id, 12345]).await.unwrap();
        assert_eq!(back, [(from, Uid(4))]);
        assert_eq!(store.snapshot(from).await.unwrap().find(Uid(4)).unwrap().1.flags, Flags(0));
        // Copying into the same mailbox works as well.
        let same = Transfer { from, to: from, uids: vec![Uid(2)], limits: Limits::default(), remove: false };
        assert_eq!(store.transfer(same).await.unwrap().pairs, [(Uid(2), Uid(5))]);
        assert_eq!(store.mailbox(from).await.unwrap().messages, 3);
        // What nobody refers to any more is forgotten after the time to bring it back.
        store.expunge(from, vec![Uid(4)], false).await.unwrap();
        let body = store.deleted(ANNA, 10).await.unwrap()[0].body;
        assert_eq!(store.purge(i64::MAX).await.unwrap(), 1);
        assert_eq!(store.compact(0).await.unwrap().forgotten, 1);
        store.close().await;
        let store = home.open().await;
        assert!(matches!(store.body(body).await, Err(Error::NoBody(_))));
        store.close().await;
    }

    async fn mailboxes_are_made_renamed_and_deleted(home: Home) {
        let store = home.open().await;
        store.open_account(ANNA, SCHOOL).await.unwrap();
        store.open_account(ANNA, SCHOOL).await.unwrap();
        let names = |list: Vec<MailboxInfo>| list.into_iter().map(|m| m.name).collect::<Vec<_>>();
        assert_eq!(names(store.mailboxes(ANNA).await.unwrap()), ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"]);
        let c = store.create(ANNA, "a/b/c", None).await.unwrap();
        assert!(matches!(store.create(ANNA, "a/b", None).await, Err(Error::Exists(_))));
        assert!(matches!(store.create(ANNA, "inbox", None).await, Err(Error::Exists(_))));
        let a = store.mailbox_named(ANNA, "a").await.unwrap().id;
        store.rename(a, "x/y").await.unwrap();
        assert_eq!(store.mailbox(c).await.unwrap().name, "x/y/b/c");
        assert!(matches!(store.rename(a, "x/y/z").await, Err(Error::Name { .. })));
        assert!(matches!(store.rename(a, "Sent").await, Err(Error::Exists(_))));
        // The old name is free, and a new mailbox of that name is another one.
        let old = store.mailbox(a).await.unwrap();
        let fresh = store.create(ANNA, "a", None).await.unwrap();
        assert_ne!(store.mailbox(fresh).await.unwrap().uid_validity, old.uid_validity);
        // INBOX gives its mail away and stays.
        store.deliver(delivery(mail("r"), &[1])).await.unwrap();
        let here = inbox(&store, 1).await;
        store.rename(here.id, "Old mail").await.unwrap();
        assert_eq!(inbox(&store, 1).await.messages, 0);
        let moved = store.mailbox_named(ANNA, "Old mail").await.unwrap();
        assert_eq!(moved.messages, 1);
        assert!(matches!(store.delete(here.id).await, Err(Error::Inbox(_))));
        let watch = store.watch(moved.id).await.unwrap();
        store.delete(moved.id).await.unwrap();
        assert!(watch.borrow().gone);
        assert!(matches!(store.watch(moved.id).await, Err(Error::NoMailbox(_))));
        assert!(matches!(store.delete(moved.id).await, Err(Error::NoMailbox(_))));
        assert_eq!(store.usage(ANNA).await.unwrap(), Usage::default());
        // Its mail can be brought back, into a mailbox of the same name.
        let deleted = store.deleted(ANNA, 10).await.unwrap();
        store.restore(ANNA, vec![deleted[0].id]).await.unwrap();
        assert_eq!(store.mailbox_named(ANNA, "Old mail").await.unwrap().messages, 1);
        store.subscribe(ANNA, "nowhere", true).await.unwrap();
        store.subscribe(ANNA, "Junk", false).await.unwrap();
        assert_eq!(store.subscriptions(ANNA).await.unwrap(), ["Archive", "Drafts", "INBOX", "Sent", "Trash", "nowhere"]);
        store.set_special_use(fresh, Some(SpecialUse::Flagged)).await.unwrap();
        assert_eq!(store.mailbox(fresh).await.unwrap().special_use, Some(SpecialUse::Flagged));
        // Deliveries to a named folder fall back to INBOX.
        let mut d = delivery(mail("f"), &[1, 1]);
        d.targets[0].folder = Folder::Named("junk".into());
        d.targets[1].folder = Folder::Named("Junk/".into());
        let done = store.deliver(d).await.unwrap();
        let junk = store.mailbox_named(ANNA, "Junk").await.unwrap();
        assert_eq!(done.outcomes, [Outcome::Stored { mailbox: here.id, uid: Uid(2) }, Outcome::Stored { mailbox: junk.id, uid: Uid(1) }]);
        store.delete_account(ANNA).await.unwrap();
        assert!(store.mailboxes(ANNA).await.unwrap().is_empty());
        assert_eq!(store.domain_usage(SCHOOL).await.unwrap(), Usage::default());
        // The account can begin again.
        store.deliver(delivery(mail("f"), &[1])).await.unwrap();
        assert_eq!(inbox(&store, 1).await.messages, 1);
        store.close().await;
    }

    async fn annotations_are_kept(home: Home) {
        let store = home.open().await;
        store.open_account(ANNA, SCHOOL).await.unwrap();
        let id = inbox(&store, 1).await.id;
        let note = |mailbox, entry: &str, value: Option<&'static str>| Annotation { mailbox, entry: entry.into(), value: value.map(Bytes::from) };
        store.annotate(ANNA, vec![note(Some(id), "/private/comment", Some("x")), note(None, "/private/a", Some("y"))]).await.unwrap();
        store.annotate(ANNA, vec![note(Some(id), "/private/comment", Some("z")), note(None, "/private/a", None)]).await.unwrap();
        assert_eq!(store.annotations(ANNA, Some(id)).await.unwrap(), [note(Some(id), "/private/comment", Some("z"))]);
        assert!(store.annotations(ANNA, None).await.unwrap().is_empty());
        assert!(matches!(store.annotate(ANNA, vec![note(Some(MailboxId(77)), "/x", None)]).await, Err(Error::NoMailbox(_))));
        store.close().await;
    }

    async fn the_queue_keeps_each_recipient_until_it_is_final(home: Home) {
        let store = home.open().await;
        let mut changed = store.spool_changes();
        let mut d = delivery(mail("out"), &[]);
        d.spool = Some(spool(&["b@y.example", "c@z.example"], 100));
        let id = store.deliver(d).await.unwrap().queue.unwrap();
        changed.changed().await.unwrap();
        assert_eq!(store.spool_next_due_s().await.unwrap(), Some(100));
        assert!(store.spool_claim(99, 10).await.unwrap().is_empty());
        let claimed = store.spool_claim(100, 10).await.unwrap();
        assert_eq!((claimed.len(), claimed[0].rcpts.len(), claimed[0].held), (1, 2, false));
        assert!(store.spool_claim(100, 10).await.unwrap().is_empty(), "claimed once");
        let update = |n, state, next_try_s| RcptUpdate { n, state, next_try_s, tried_s: Some(101), reply: Reply { code: 451, text: "4.2.0 later".into() }, delay_told: false };
        store.spool_update(SpoolUpdate { id, rcpts: vec![update(0, RcptState::Delivered, 0), update(1, RcptState::Waiting, 500)], deliver: vec![] }).await.unwrap();
        let entry = store.spool_entry(id).await.unwrap();
        assert_eq!((entry.rcpts[0].state, entry.rcpts[1].attempts, entry.rcpts[1].next_try_s, entry.rcpts[1].reply.code), (RcptState::Delivered, 1, 500, 451));
        assert_eq!(store.spool_next_due_s().await.unwrap(), Some(500));
        store.spool_action(id, SpoolAction::Hold).await.unwrap();
        assert!(store.spool_claim(1000, 10).await.unwrap().is_empty());
        store.spool_action(id, SpoolAction::Retry(7)).await.unwrap();
        assert_eq!(store.spool_claim(7, 10).await.unwrap().len(), 1);
        let filter = SpoolFilter { rcpt: Some("Z.EXAMPLE".into()), sender: Some("s@".into()), account: Some(ANNA), held: Some(false), trace: Some(twinpost_message::TraceId(7)), after: None };
        assert_eq!(store.spool_list(&filter, 10).await.unwrap().len(), 1);
        assert!(store.spool_list(&SpoolFilter { rcpt: Some("%".into()), ..filter.clone() }, 10).await.unwrap().is_empty());
        // A failure makes its report in the same commit, and the entry goes.
        let report = delivery(mail("report"), &[1]);
        let made = store.spool_update(SpoolUpdate { id, rcpts: vec![update(1, RcptState::Failed, 0)], deliver: vec![report] }).await.unwrap();
        assert!(matches!(made[0].outcomes[0], Outcome::Stored { .. }));
        assert!(matches!(store.spool_entry(id).await, Err(Error::NoQueueEntry(_))));
        assert_eq!((store.spool_len().await.unwrap(), inbox(&store, 1).await.messages), (0, 1));
        // An entry that is gone makes no report.
        let late = SpoolUpdate { id, rcpts: vec![update(1, RcptState::Failed, 0)], deliver: vec![delivery(mail("late"), &[1])] };
        assert!(matches!(store.spool_update(late).await, Err(Error::NoQueueEntry(_))));
        assert_eq!(inbox(&store, 1).await.messages, 1);
        // The body of the entry is referred to by nothing any more.
        assert_eq!(store.compact(0).await.unwrap().forgotten, 1);
        store.close().await;
    }

    async fn a_recipient_of_this_site_gets_its_queued_mail_once_whatever_stops_in_between(home: Home) {
        let store = home.open().await;
        let mut d = delivery(mail("late"), &[]);
        d.spool = Some(spool(&["a1@x.example", "far@y.example"], 100));
        let id = store.deliver(d).await.unwrap().queue.unwrap();
        // Over quota: nothing is noted, and it is tried again.
        let mut full = delivery(mail("late"), &[1]);
        full.targets[0].limits = Limits { account: Quota { messages: Some(0), ..Quota::default() }, ..Limits::default() };
        let refused = store.spool_deliver(id, 0, full).await.unwrap().unwrap();
        assert!(matches!(refused.outcomes[0], Outcome::OverQuota(_)));
        let done = store.spool_deliver(id, 0, delivery(mail("late"), &[1])).await.unwrap().unwrap();
        assert!(matches!(done.outcomes[0], Outcome::Stored { .. }));
        store.close().await;
        // The stop comes before the update: after the start the entry is tried again as it stands.
        let store = home.open().await;
        let claimed = store.spool_claim(100, 10).await.unwrap();
        assert_eq!(claimed[0].rcpts.iter().map(|r| r.state).collect::<Vec<_>>(), [RcptState::Waiting; 2]);
        assert_eq!(store.spool_deliver(id, 0, delivery(mail("late"), &[1])).await.unwrap(), None);
        assert_eq!(inbox(&store, 1).await.messages, 1);
        let update = |n| RcptUpdate { n, state: RcptState::Delivered, next_try_s: 0, tried_s: Some(101), reply: Reply { code: 250, text: "2.0.0 ok".into() }, delay_told: false };
        store.spool_update(SpoolUpdate { id, rcpts: vec![update(0)], deliver: vec![] }).await.unwrap();
        assert!(matches!(store.spool_deliver(id, 0, delivery(mail("late"), &[1])).await, Err(Error::NoQueueEntry(_))));
        store.spool_update(SpoolUpdate { id, rcpts: vec![update(1)], deliver: vec![] }).await.unwrap();
        assert!(matches!(store.spool_deliver(id, 1, delivery(mail("late"), &[1])).await, Err(Error::NoQueueEntry(_))));
        assert_eq!((store.spool_len().await.unwrap(), inbox(&store, 1).await.messages), (0, 1));
        store.close().await;
    }

    async fn many_at_once_are_each_answered_right(home: Home) {
        let store = home.open().await;
        let mut tasks = Vec::new();
        for task in 0..20 {
            let store = store.clone();
            tasks.push(tokio::spawn(async move {
                let mut got = Vec::new();
                for n in 0..10 {
                    let done = store.deliver(delivery(mail(&format!("m{task}-{n}")), &[1, 2 + task])).await.unwrap();
                    got.push((done.outcomes[0], done.body.unwrap()));
                }
                got
            }));
        }
        let mut all = std::collections::BTreeMap::new();
        for task in tasks {
            for (outcome, body) in task.await.unwrap() {
                let Outcome::Stored { uid, .. } = outcome else { panic!("{outcome:?}") };
                assert!(all.insert(uid, body).is_none(), "each UID is given once");
            }
        }
        let snapshot = store.snapshot(inbox(&store, 1).await.id).await.unwrap();
        assert_eq!(snapshot.iter().map(|e| (e.uid, e.body)).collect::<Vec<_>>(), all.into_iter().collect::<Vec<_>>());
        // The log has every change once, in order, and ends where the head says.
        let log = store.changes(ModSeq(0), 10_000).await.unwrap();
        assert!(log.windows(2).all(|w| w[0].modseq < w[1].modseq));
        assert_eq!(log.iter().filter(|c| c.kind == ChangeKind::Added).count(), 400);
        assert_eq!(log.last().unwrap().modseq, *store.head().borrow());
        store.close().await;
    }

    async fn a_second_opener_is_told_who_has_it(home: Home) {
        let store = home.open().await;
        match Store::open(home.options()).await {
            Err(Error::Locked { pid, .. }) => assert_eq!(pid, std::process::id()),
            other => panic!("{other:?}"),
        }
        store.close().await;
        home.open().await.close().await;
    }

    async fn compaction_moves_the_living_and_mail_goes_on(mut_home: Home) {
        let mut home = mut_home;
        home.undelete_s = 0;
        home.pack_bytes = 64 << 10;
        let store = home.open().await;
        // Texts that do not compress, so that several packs come.
        let noise = |n: u32| {
            let mut state = n.wrapping_mul(2_654_435_761) | 1;
            let text: String = (0..8000).map(|_| { state ^= state << 13; state ^= state >> 17; state ^= state << 5; char::from(33 + (state % 90) as u8) }).collect();
            Store::prepare(&Bytes::from(format!("Subject: {n}\r\n\r\n{text}\r\n")))
        };
        for n in 0..40 {
            store.deliver(delivery(noise(n), &[1])).await.unwrap();
        }
        let id = inbox(&store, 1).await.id;
        let dead: Vec<Uid> = (1..=40).filter(|n| n % 5 != 0).map(Uid).collect();
        store.expunge(id, dead, false).await.unwrap();
        let writing = { let store = store.clone(); tokio::spawn(async move { for n in 100..120 { store.deliver(delivery(noise(n), &[1])).await.unwrap(); } }) };
        let done = store.compact(50).await.unwrap();
        writing.await.unwrap();
        assert_eq!((done.forgotten, done.damaged), (32, 0));
        assert!(done.packs >= 3 && done.copied >= 3, "{done:?}");
        let snapshot = store.snapshot(id).await.unwrap();
        assert_eq!(snapshot.len(), 28);
        for entry in snapshot.iter() {
            assert_eq!(store.body(entry.body).await.unwrap().len(), entry.size_bytes as usize);
        }
        store.close().await;
        let store = home.open().await;
        for entry in store.snapshot(id).await.unwrap().iter() {
            assert_eq!(store.body(entry.body).await.unwrap().len(), entry.size_bytes as usize);
        }
        assert!(matches!(store.deliver(delivery(noise(1), &[1])).await.unwrap().outcomes[0], Outcome::Stored { .. }));
        assert_eq!(target(1).account, ANNA);
        store.close().await;
    }
}
