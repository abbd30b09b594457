//! What happens on two sides, one thing at a time, and what a merge makes of it.
mod support;

use support::*;
use twinpost_merge::{Error, IndexUsed, Options, Outbound, Run, Sides, Tongue, Watch};
use twinpost_message::{AccountId, DomainId, Flags, Uid};
use twinpost_sql::testing::Place;
use twinpost_store::spool::{RcptState, RcptUpdate, Reply, SpoolUpdate};
use twinpost_store::*;

/// A store with two accounts and a message in each, on both sides.
async fn parted() -> (World, Store, Store) {
    let world = World::new();
    let here = world.here().await;
    here.open_account(AccountId(1), DomainId(1)).await.unwrap();
    here.open_account(AccountId(2), DomainId(1)).await.unwrap();
    deliver(&here, "common", &[1, 2]).await;
    here.close().await;
    world.part();
    let (here, there) = (world.here().await, world.there().await);
    (world, here, there)
}

/// A caller can run both on any thread.
#[allow(dead_code, reason = "compiling is the test")]
fn runs_anywhere(sides: &Sides, watch: &Watch) {
    fn anywhere(_: impl Send) {}
    anywhere(twinpost_merge::differences(sides, watch));
    anywhere(twinpost_merge::merge(sides, Options::default(), watch));
}

fn starts(list: &[String], with: &str) -> Vec<String> {
    list.iter().filter(|s| s.starts_with(with)).cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_other_side_has_comes_once() {
    let (world, here, there) = parted().await;
    deliver(&here, "only here", &[1]).await;
    deliver(&there, "only there", &[1]).await;
    deliver(&there, "to both", &[1, 2]).await;
    there.create(AccountId(1), "projects/2026", None).await.unwrap();
    let projects = mailbox(&there, 1, "projects/2026").await;
    let flags =
        FlagNames { system: Flags(Flags::SEEN.0 | Flags::DELETED.0), keywords: vec!["$Forwarded".into(), "urgent".into()] };
    append(&there, projects, "a draft", flags).await;
    there.close().await;
    let before = bytes_of(&world.aside());
    let report = world.differences(&here).await;
    assert_eq!((report.totals.counts.messages, report.totals.counts.taken, report.run.clone()), (4, 0, Run::Compared));
    assert!(report.has_more() && report.divergence.exact && report.divergence.first_there_s.is_some());
    assert_eq!(report.totals.mailboxes_made_there, 2, "{:?}", report.accounts);
    let samples: Vec<&str> =
        report.accounts.iter().flat_map(|a| &a.mailboxes).flat_map(|m| &m.samples).map(|s| s.subject.as_str()).collect();
    assert!(samples.contains(&"only there") && samples.contains(&"a draft"), "{samples:?}");
    assert_eq!(places(&here).await, ["1/INBOX/common", "1/INBOX/only here", "2/INBOX/common"]);
    assert!(twinpost_merge::reports(&world.data()).unwrap().is_empty());

    let watched = std::sync::Arc::new(std::sync::Mutex::new(vec![]));
    let hear = watched.clone();
    let watch = Watch { progress: Some(std::sync::Arc::new(move |p| hear.lock().unwrap().push(p))), ..Watch::default() };
    let report = twinpost_merge::merge(&world.sides(&here), Options::default(), &watch).await.unwrap();
    assert_eq!((report.totals.counts.taken, report.run.clone(), report.faults_total), (4, Run::Merged, 0));
    let last = *watched.lock().unwrap().last().unwrap();
    assert_eq!((last.step, last.done, last.total), (twinpost_merge::Step::Take, 4, 4));
    let expected = [
        "1/INBOX/common",
        "1/INBOX/only here",
        "1/INBOX/only there",
        "1/INBOX/to both",
        "1/projects/2026/a draft",
        "2/INBOX/common",
        "2/INBOX/to both",
    ];
    assert_eq!(places(&here).await, expected);
    let seen = look(&here).await;
    let draft = seen.iter().find(|s| s.subject == "a draft").unwrap();
    assert_eq!((draft.flags, draft.received_s), (Flags::SEEN, 2000), "\\Deleted does not come along");
    assert_eq!(draft.keywords, ["$Forwarded", "urgent"]);
    assert_eq!(bytes_of(&world.aside()), before, "the other side is only read");

    let head = *here.head().borrow();
    let again = world.merge(&here).await;
    assert_eq!((again.totals.counts.taken, again.totals.counts.messages, again.totals.counts.taken_before), (0, 0, 4));
    assert_eq!(*here.head().borrow(), head, "a second merge changes nothing");
    assert!(!world.differences(&here).await.has_more(), "nothing is left");
    let kept = twinpost_merge::reports(&world.data()).unwrap();
    assert_eq!(kept.len(), 2);
    assert_eq!(twinpost_merge::report(&world.data(), &kept[0].name).unwrap(), report);
    assert!(matches!(twinpost_merge::report(&world.data(), "../lock"), Err(Error::NoReport(_))));
    for tongue in [Tongue::En, Tongue::Zh] {
        assert!(report.sentences(tongue)[0].contains('4'), "{:?}", report.sentences(tongue));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_side_that_only_lags_brings_nothing_and_one_that_only_leads_brings_all() {
    for (text, leads) in [("more", false), ("more", true)] {
        let (world, here, there) = parted().await;
        deliver(if leads { &there } else { &here }, text, &[1, 2]).await;
        there.close().await;
        let report = world.merge(&here).await;
        assert_eq!(report.totals.counts.taken, if leads { 2 } else { 0 });
        assert_eq!(report.divergence.first_there_s.is_some(), leads);
        assert_eq!(places(&here).await, ["1/INBOX/common", "1/INBOX/more", "2/INBOX/common", "2/INBOX/more"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_store_and_an_empty_folder_are_refused() {
    let (world, here, there) = parted().await;
    there.close().await;
    let other = World::new();
    let stranger = other.here().await;
    deliver(&stranger, "of somebody else", &[1]).await;
    let head = *here.head().borrow();
    stranger.close().await;
    let sides = Sides { aside: other.data(), ..world.sides(&here) };
    let refused = twinpost_merge::merge(&sides, Options::default(), &Watch::default()).await;
    assert!(matches!(refused, Err(Error::Foreign(_))), "{refused:?}");
    lose_index(&other.data());
    let refused = twinpost_merge::merge(&sides, Options::default(), &Watch::default()).await;
    assert!(matches!(refused, Err(Error::Foreign(_))), "{refused:?}");
    let sides = Sides { aside: other.aside(), ..sides };
    let refused = twinpost_merge::merge(&sides, Options::default(), &Watch::default()).await;
    assert!(matches!(refused, Err(Error::Nothing(_))), "{refused:?}");
    assert_eq!(*here.head().borrow(), head);
    assert!(twinpost_merge::reports(&world.data()).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_runs_at_once_and_a_stop() {
    let (world, here, there) = parted().await;
    deliver(&there, "only there", &[1]).await;
    there.close().await;
    let watch = Watch::default();
    watch.stop.cancel();
    let stopped = twinpost_merge::merge(&world.sides(&here), Options::default(), &watch).await;
    assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
    let (sides, watch) = (world.sides(&here), Watch::default());
    let run = || twinpost_merge::merge(&sides, Options::default(), &watch);
    let (one, two) = tokio::join!(run(), run());
    let busy = [&one, &two].iter().filter(|r| matches!(r, Err(Error::Busy(_)))).count();
    assert_eq!((busy, one.is_ok() || two.is_ok()), (1, true));
    assert_eq!(starts(&places(&here).await, "1"), ["1/INBOX/common", "1/INBOX/only there"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_are_added_and_nothing_is_taken_away() {
    let (world, here, there) = parted().await;
    let inbox = mailbox(&here, 1, "INBOX").await;
    let set = |flags: Flags, keyword: &str, action| SetFlags {
        mailbox: inbox,
        uids: vec![Uid(1)],
        action,
        flags: FlagNames { system: flags, keywords: vec![keyword.to_owned()] },
        unchanged_since: None,
    };
    here.set_flags(set(Flags::FLAGGED, "mine", FlagAction::Add)).await.unwrap();
    there.set_flags(set(Flags(Flags::SEEN.0 | Flags::DELETED.0), "theirs", FlagAction::Add)).await.unwrap();
    there.close().await;
    let report = world.merge(&here).await;
    assert_eq!((report.totals.counts.flags, report.totals.counts.flagged), (1, 1));
    let seen = look(&here).await;
    assert_eq!(seen[0].flags, Flags(Flags::SEEN.0 | Flags::FLAGGED.0));
    assert_eq!(seen[0].keywords, ["mine", "theirs"]);
    // Taken away here, it is not brought back by another run.
    here.set_flags(set(Flags::SEEN, "theirs", FlagAction::Remove)).await.unwrap();
    let report = world.merge(&here).await;
    assert_eq!((report.totals.counts.flags, look(&here).await[0].flags), (0, Flags::FLAGGED));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_moved_or_deleted_there_stays_here() {
    let (world, here, there) = parted().await;
    let (inbox, archive) = (mailbox(&here, 1, "INBOX").await, mailbox(&here, 1, "Archive").await);
    let transfer = |remove| Transfer { from: inbox, uids: vec![Uid(1)], to: archive, limits: Limits::default(), remove };
    there.transfer(transfer(true)).await.unwrap();
    there.expunge(mailbox(&there, 2, "INBOX").await, vec![Uid(1)], false).await.unwrap();
    deliver(&there, "read and deleted", &[2]).await;
    there.expunge(mailbox(&there, 2, "INBOX").await, vec![Uid(2)], false).await.unwrap();
    deliver(&there, "read and filed", &[1]).await;
    there.transfer(Transfer { uids: vec![Uid(2)], ..transfer(true) }).await.unwrap();
    there.delete(mailbox(&there, 2, "Junk").await).await.unwrap();
    there.rename(mailbox(&there, 2, "Drafts").await, "Entwürfe").await.unwrap();
    there.close().await;
    let report = world.merge(&here).await;
    let c = report.totals.counts;
    assert_eq!((c.moved_there, c.deleted_there, c.came_and_deleted_there, c.taken), (1, 1, 1, 1), "{report:#?}");
    assert_eq!(places(&here).await, ["1/Archive/read and filed", "1/INBOX/common", "2/INBOX/common"]);
    let boxes: Vec<_> = report.accounts.iter().flat_map(|a| &a.mailboxes).collect();
    assert!(boxes.iter().any(|m| m.gone_there && m.name == "Junk"), "{boxes:#?}");
    assert!(boxes.iter().any(|m| m.renamed_there && m.name == "Entwürfe" && m.here.as_deref() == Some("Drafts")));
    assert!(here.mailbox_named(AccountId(2), "Junk").await.is_ok());

    // Moved on both sides: it is there once. Copied there: the copy comes.
    let (world, here, there) = parted().await;
    here.transfer(transfer(true)).await.unwrap();
    there.transfer(transfer(true)).await.unwrap();
    there.close().await;
    world.merge(&here).await;
    assert_eq!(starts(&places(&here).await, "1"), ["1/Archive/common"]);
    let (world, here, there) = parted().await;
    there.transfer(transfer(false)).await.unwrap();
    there.close().await;
    world.merge(&here).await;
    assert_eq!(starts(&places(&here).await, "1"), ["1/Archive/common", "1/INBOX/common"]);
    // Deleted here, filed there: it is kept. Only deleted here: it stays deleted.
    let (world, here, there) = parted().await;
    here.expunge(inbox, vec![Uid(1)], false).await.unwrap();
    there.transfer(transfer(true)).await.unwrap();
    here.expunge(mailbox(&here, 2, "INBOX").await, vec![Uid(1)], false).await.unwrap();
    there.close().await;
    world.merge(&here).await;
    assert_eq!(places(&here).await, ["1/Archive/common"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_bytes_are_one_message_only_by_their_trace_id() {
    let (world, here, there) = parted().await;
    let inbox = mailbox(&here, 1, "INBOX").await;
    // Two that begin with the very same commits are one for as long.
    deliver(&here, "only here", &[2]).await;
    for side in [&here, &there] {
        deliver(side, "by one delivery", &[1]).await;
        append(side, inbox, "handed in on both", FlagNames::default()).await;
    }
    there.close().await;
    let report = world.merge(&here).await;
    assert_eq!((report.totals.counts.on_both, report.totals.counts.taken), (1, 1));
    let expected = ["1/INBOX/by one delivery", "1/INBOX/common", "1/INBOX/handed in on both", "1/INBOX/handed in on both"];
    assert_eq!(starts(&places(&here).await, "1"), expected);
    world.merge(&here).await;
    assert_eq!(starts(&places(&here).await, "1"), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mailboxes_made_or_deleted_on_one_side_or_both() {
    let (world, here, there) = parted().await;
    for (side, text) in [(&here, "h"), (&there, "t")] {
        let made = side.create(AccountId(1), "made on both", None).await.unwrap();
        append(side, made, text, FlagNames::default()).await;
    }
    // The other side goes on with a mailbox that is deleted here.
    here.delete(mailbox(&here, 2, "Archive").await).await.unwrap();
    append(&there, mailbox(&there, 2, "Archive").await, "into one deleted here", FlagNames::default()).await;
    // Renamed here: mail follows it.
    here.rename(mailbox(&here, 2, "Sent").await, "Gesendet").await.unwrap();
    append(&there, mailbox(&there, 2, "Sent").await, "into one renamed here", FlagNames::default()).await;
    there.close().await;
    world.merge(&here).await;
    let expected = [
        "1/INBOX/common",
        "1/made on both/h",
        "1/made on both/t",
        "2/Archive/into one deleted here",
        "2/Gesendet/into one renamed here",
        "2/INBOX/common",
    ];
    assert_eq!(places(&here).await, expected);
    assert_eq!(here.mailbox_named(AccountId(2), "Archive").await.unwrap().special_use, Some(SpecialUse::Archive));
    let checked = here.verify(|_, _| {}).await.unwrap();
    assert!(checked.faults.is_empty(), "{checked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outbound_mail_is_neither_lost_nor_sent_twice_silently() {
    let world = World::new();
    let here = world.here().await;
    for text in ["common, waits on both", "common, sent there", "common, sent here"] {
        enqueue(&here, text).await;
    }
    here.close().await;
    world.part();
    let (here, there) = (world.here().await, world.there().await);
    let sent = |entry: &twinpost_store::spool::SpoolEntry| SpoolUpdate {
        id: entry.id,
        rcpts: vec![RcptUpdate {
            n: 0,
            state: RcptState::Delivered,
            next_try_s: 0,
            tried_s: Some(1),
            reply: Reply { code: 250, text: "ok".into() },
            delay_told: false,
        }],
        deliver: vec![],
    };
    let entry = |text: &str, all: &[twinpost_store::spool::SpoolEntry]| {
        all.iter().find(|e| e.trace == trace_of(text)).cloned().expect("the entry is queued")
    };
    enqueue(&there, "there, waits").await;
    enqueue(&there, "there, sent").await;
    let theirs = queue(&there).await;
    there.spool_update(sent(&entry("there, sent", &theirs))).await.unwrap();
    there.spool_update(sent(&entry("common, sent there", &theirs))).await.unwrap();
    here.spool_update(sent(&entry("common, sent here", &queue(&here).await))).await.unwrap();
    there.close().await;
    let report = world.merge(&here).await;
    assert_eq!((report.totals.queue, report.totals.queued), (1, 1));
    let states: Vec<(&str, Outbound, bool)> = report.queue.iter().map(|q| (q.subject.as_str(), q.state, q.maybe_sent)).collect();
    assert!(states.contains(&("there, waits", Outbound::OnlyThere, true)), "{states:?}");
    assert!(states.contains(&("common, waits on both", Outbound::OnBoth, false)), "{states:?}");
    assert!(states.contains(&("common, sent there", Outbound::DoneThere, false)), "{states:?}");
    assert_eq!(states.len(), 3, "{states:?}");
    let queued = queue(&here).await;
    let mut traces: Vec<_> = queued.iter().map(|e| e.trace.0).collect();
    let mut expected: Vec<_> =
        ["common, waits on both", "common, sent there", "there, waits"].iter().map(|t| trace_of(t).0).collect();
    traces.sort_unstable();
    expected.sort_unstable();
    assert_eq!(traces, expected);
    let back = entry("there, waits", &queued);
    assert_eq!((back.account, back.held, back.rcpts.len()), (Some(AccountId(1)), false, 1));
    let bytes = here.body(back.body).await.unwrap();
    assert!(String::from_utf8_lossy(&bytes).contains("Body of there, waits"));
    // Sent from here since: it does not come back.
    here.spool_update(sent(&back)).await.unwrap();
    let report = world.merge(&here).await;
    assert_eq!((report.totals.queued, queue(&here).await.len()), (0, 2));
    assert!(report.queue.iter().any(|q| q.state == Outbound::TakenBefore));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_common_entry_delivered_locally_on_both_sides_is_one_message() {
    let world = World::new();
    let here = world.here().await;
    here.open_account(AccountId(1), DomainId(1)).await.unwrap();
    enqueue(&here, "late").await;
    here.close().await;
    world.part();
    let (here, there) = (world.here().await, world.there().await);
    let entry = queue(&here).await.remove(0);
    for side in [&here, &there] {
        side.spool_deliver(entry.id, 0, delivery("late", &[1])).await.unwrap();
    }
    // The two commits can be equal in every byte; then they are one past.
    deliver(&there, "later", &[1]).await;
    there.close().await;
    world.merge(&here).await;
    assert_eq!(places(&here).await, ["1/INBOX/late", "1/INBOX/later"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_lost_garbled_or_old_is_made_from_the_packs() {
    for way in ["lost", "garbled", "old", "half"] {
        let (world, here, there) = parted().await;
        let old = std::fs::read(world.aside().join("store/index.sqlite")).unwrap();
        deliver(&here, "only here", &[1]).await;
        deliver(&there, "only there", &[1, 2]).await;
        let inbox = mailbox(&there, 2, "INBOX").await;
        append(&there, inbox, "a draft", FlagNames { system: Flags::DRAFT, keywords: vec!["k".into()] }).await;
        enqueue(&there, "outbound").await;
        there.close().await;
        let index = world.aside().join("store/index.sqlite");
        match way {
            "lost" => lose_index(&world.aside()),
            "garbled" => std::fs::write(&index, vec![7; 100_000]).unwrap(),
            "old" => std::fs::write(&index, old).unwrap(),
            _ => {
                let bytes = std::fs::read(&index).unwrap();
                std::fs::write(&index, &bytes[..bytes.len() / 2]).unwrap();
            }
        }
        let before = bytes_of(&world.aside());
        let report = world.merge(&here).await;
        assert!(matches!(report.index, IndexUsed::Made { .. }), "{way}: {:?}", report.index);
        assert_eq!((report.totals.counts.taken, report.totals.queued, report.faults_total), (3, 1, 0), "{way}: {report:#?}");
        let expected = [
            "1/INBOX/common",
            "1/INBOX/only here",
            "1/INBOX/only there",
            "2/INBOX/a draft",
            "2/INBOX/common",
            "2/INBOX/only there",
        ];
        assert_eq!(places(&here).await, expected, "{way}");
        assert_eq!(bytes_of(&world.aside()), before, "{way}");
        let report = world.merge(&here).await;
        assert_eq!((report.totals.counts.taken, report.totals.queued), (0, 0), "{way}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_moment_of_a_side_that_was_killed_and_lost_its_index_comes_too() {
    let (world, here, there) = parted().await;
    for n in 0..40 {
        deliver(&there, &format!("m{n}"), &[1]).await;
    }
    // As a power cut leaves it: no stop, no end in the packs.
    let cut = World::new();
    copy(&world.aside().join("store"), &cut.aside().join("store"));
    lose_index(&cut.aside());
    let sides = Sides { aside: cut.aside(), ..world.sides(&here) };
    let report = twinpost_merge::merge(&sides, Options::default(), &Watch::default()).await.unwrap();
    assert_eq!(report.totals.counts.taken, 40, "{report:#?}");
    // The same data once more, with its index: nothing that has a name comes again.
    there.close().await;
    world.merge(&here).await;
    let all = starts(&places(&here).await, "1/INBOX/m");
    assert_eq!(all.len(), 40, "{all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_message_is_told_and_tried_again() {
    let (world, here, there) = parted().await;
    deliver(&there, "whole", &[1]).await;
    deliver(&there, "damaged", &[1]).await;
    there.close().await;
    let good = bytes_of(&world.aside());
    let hash = traced("damaged").hash();
    for (path, mut bytes) in good.clone() {
        // In the header of its record its name is plain: the byte behind the header is its payload.
        if let Some(at) = bytes.windows(32).position(|w| w == hash.0)
            && path.extension().is_some_and(|e| e == "pack")
        {
            bytes[at + 60] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }
    }
    let report = world.merge(&here).await;
    assert_eq!((report.totals.counts.taken, report.totals.counts.unreadable), (1, 1), "{report:#?}");
    assert!(report.has_more() && report.faults_total == 1);
    for (path, bytes) in good {
        std::fs::write(path, bytes).unwrap();
    }
    let report = world.merge(&here).await;
    assert_eq!((report.totals.counts.taken, report.totals.counts.taken_before, report.has_more()), (1, 1, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_here_between_the_parting_and_the_merge() {
    let (world, here, there) = parted().await;
    // Nothing that can be compressed, so that packs fill up.
    let mut state = 88_172_645_463_325_252_u64;
    let mut noise = || {
        let letter = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(33 + (state % 90) as u8)
        };
        (0..30_000).map(letter).collect::<String>()
    };
    let inbox = mailbox(&here, 1, "INBOX").await;
    for n in 0..40 {
        append(&here, inbox, &format!("{n} {}", noise()), FlagNames::default()).await;
    }
    here.expunge(inbox, (2..40).map(Uid).collect(), false).await.unwrap();
    here.purge(i64::MAX).await.unwrap();
    here.expunge(mailbox(&here, 2, "INBOX").await, vec![Uid(1)], false).await.unwrap();
    deliver(&there, "only there", &[1]).await;
    there.close().await;
    here.compact(90).await.unwrap();
    let report = world.merge(&here).await;
    assert_eq!(report.totals.counts.taken, 1, "{report:#?}");
    assert!(!report.divergence.exact, "the packs of that time are gone: {:?}", report.divergence);
    assert!(!places(&here).await.contains(&"2/INBOX/common".to_owned()), "what was deleted here stays deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_hold_nothing_up_and_are_told() {
    let (world, here, there) = parted().await;
    deliver(&there, "one too many", &[1]).await;
    there.close().await;
    let limits = Limits { account: Quota { size_bytes: None, messages: Some(1) }, domain: Quota::default() };
    let sides = Sides { people: std::sync::Arc::new(SameNumbers { limits }), ..world.sides(&here) };
    let report = twinpost_merge::merge(&sides, Options::default(), &Watch::default()).await.unwrap();
    assert_eq!((report.totals.counts.taken, report.totals.over_quota), (1, 1));
    assert!(report.accounts[0].over_quota.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_too() {
    let (world, place) = (World::new(), Place::postgres());
    let options = |dir: std::path::PathBuf, index| twinpost_store::Options { index, ..twinpost_store::Options::new(&dir) };
    let here = Store::open(options(world.data().join("store"), Some(place.location().clone()))).await.unwrap();
    here.open_account(AccountId(1), DomainId(1)).await.unwrap();
    deliver(&here, "common", &[1]).await;
    here.close().await;
    world.part();
    // The other node made its own index of the packs.
    Store::rebuild(options(world.aside().join("store"), None), |_, _| {}).await.unwrap();
    let here = Store::open(options(world.data().join("store"), Some(place.location().clone()))).await.unwrap();
    let there = world.there().await;
    deliver(&here, "only here", &[1]).await;
    deliver(&there, "only there", &[1]).await;
    enqueue(&there, "outbound").await;
    let flags = FlagNames { system: Flags::SEEN, keywords: vec!["k".into()] };
    let inbox = mailbox(&there, 1, "INBOX").await;
    let set = SetFlags { mailbox: inbox, uids: vec![Uid(1)], action: FlagAction::Add, flags, unchanged_since: None };
    there.set_flags(set).await.unwrap();
    there.close().await;
    let report = world.merge(&here).await;
    assert_eq!((report.totals.counts.taken, report.totals.counts.flagged, report.totals.queued), (1, 1, 1), "{report:#?}");
    assert_eq!(places(&here).await, ["1/INBOX/common", "1/INBOX/only here", "1/INBOX/only there"]);
    let head = *here.head().borrow();
    world.merge(&here).await;
    assert_eq!(*here.head().borrow(), head);
    here.close().await;
}
