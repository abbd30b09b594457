//! Many messages, many destinations; faults of the store; stops in the middle.

use crate::names::Names;
use crate::peer::{Manners, Peer, SILENCE};
use crate::spool::{BODY, Memory, entry, now_s};
use crate::{Site, peer, settings, there};
use std::collections::HashSet;
use std::time::Duration;
use twinpost_queue::{Reply, Settings, State};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_messages_to_one_destination_drain() {
    let (peer, names) = there(Manners::default()).await;
    let site = Site::start(names, Settings { per_destination: 4, per_connection: 50, ..settings() });
    for n in 0..2000 {
        site.spool.put(entry(n, &[&format!("r{n}@there.example")]), BODY);
    }
    site.spool.until("all delivered", |s| s.entries.is_empty()).await;
    let heard = peer.heard();
    let once: HashSet<&String> = heard.messages.iter().map(|m| &m.1[0]).collect();
    assert_eq!((heard.messages.len(), once.len()), (2000, 2000), "each once");
    assert_eq!(heard.most_open, 4);
    let most = (0..heard.connections).map(|c| heard.messages.iter().filter(|m| m.0 == c).count()).max();
    assert_eq!(most, Some(50), "a connection carries what it may and no more");
    assert!(heard.connections <= 60, "{} connections for 40 full ones", heard.connections);
}

#[tokio::test]
async fn a_silent_destination_does_not_stop_the_others() {
    let silent = Peer::start(Manners::default().always("MAIL", SILENCE)).await;
    let (good, names) = there(Manners::default()).await;
    let names = names.mx("silent.example", &[(1, "silent")]).host("silent", &[silent.ip()]);
    let site = Site::start(names, Settings { claims: 20, per_destination: 2, ..settings() });
    for n in 0..200 {
        site.spool.put(entry(n, &["b@silent.example"]), BODY);
    }
    for n in 200..300 {
        site.spool.put(entry(n, &["b@there.example"]), BODY);
    }
    good.until("100 messages", |h| h.messages.len() == 100).await;
    assert_eq!(silent.heard().most_open, 2);
    // Those that were put off have not been tried and are not told of it.
    let off = site.spool.read(|s| s.updates.iter().filter(|(_, u)| u.state == State::Waiting).cloned().collect::<Vec<_>>());
    assert!(!off.is_empty() && off.iter().all(|(_, u)| u.tried_s.is_none() && u.reply.text.starts_with("4.4.5")));
}

#[tokio::test]
async fn one_dead_destination_rests_and_costs_one_attempt() {
    let (good, names) = there(Manners::default()).await;
    let names = names.mx("dead.example", &[(1, "dead")]).host("dead", &[peer::address()]);
    let site = Site::start(names, Settings { per_destination: 1, ..settings() });
    let to: Vec<i64> = (0..30).collect();
    for n in &to {
        site.spool.put(entry(*n, &["b@dead.example", "b@there.example"]), BODY);
    }
    site.spool.until("all have a fate", |s| s.updates.len() >= 60).await;
    good.until("the others", |h| h.messages.len() == 30).await;
    let dead: Vec<_> = to.iter().map(|n| site.spool.last(*n, 0)).collect();
    assert_eq!(dead.iter().filter(|u| u.tried_s.is_some()).count(), 1, "{dead:?}");
    assert!(dead.iter().all(|u| u.state == State::Waiting && u.next_try_s >= now_s() + 10));
    let status = site.queue.destinations();
    assert!(status.len() == 1 && status[0].name == "dead.example" && (10..=15).contains(&status[0].rests_s), "{status:?}");
    // "Retry" means now; the next rest is longer.
    site.spool.edit(|s| s.updates.clear());
    site.again();
    site.spool.until("tried again", |s| s.updates.iter().any(|(_, u)| u.tried_s.is_some())).await;
    site.spool.until("rests", |s| s.updates.len() >= 30).await;
    assert!((16..=30).contains(&site.queue.destinations()[0].rests_s));
}

#[tokio::test]
async fn connections_in_all_are_limited_and_idle_ones_give_way() {
    let mut names = Names::new();
    let mut peers = Vec::new();
    for n in 0..6 {
        let peer = Peer::start(Manners::default()).await;
        names = names.mx(&format!("d{n}.example"), &[(1, &format!("h{n}"))]).host(&format!("h{n}"), &[peer.ip()]);
        peers.push(peer);
    }
    let site = Site::start(names, Settings { connections: 2, ..settings() });
    for n in 0..6 {
        site.spool.put(entry(n, &[&format!("b@d{n}.example")]), BODY);
    }
    // keep_idle is 30 s: waiting for it would time the test out.
    site.spool.updated(6).await;
    for peer in &peers {
        assert_eq!(peer.heard().messages.len(), 1);
    }
}

#[tokio::test]
async fn idle_connections_end() {
    let (peer, names) = there(Manners::default()).await;
    let site = Site::start(names, Settings { keep_idle: Duration::ZERO, ..settings() });
    site.spool.put(entry(1, &["b@there.example"]), BODY);
    peer.until("QUIT", |h| h.open == 0 && h.commands.iter().any(|c| c.2 == "QUIT")).await;
}

#[tokio::test]
async fn faults_of_the_store_lose_nothing_and_repeat_nothing() {
    let (peer, names) = there(Manners::default()).await;
    let site = Site::start(names, settings());
    site.spool.fail_updates(5);
    site.spool.put(entry(1, &["b@there.example"]), BODY);
    site.spool.updated(1).await;
    assert_eq!((site.spool.last(1, 0).state, peer.heard().messages.len()), (State::Delivered, 1));

    site.spool.fail_bodies(1);
    site.spool.put(entry(2, &["b@there.example"]), BODY);
    site.spool.updated(2).await;
    let last = site.spool.last(2, 0);
    assert!(last.state == State::Waiting && last.reply.text.starts_with("4.3.0") && !site.spool.is_claimed(2), "{last:?}");

    site.spool.panic_bodies(1);
    site.spool.put(entry(3, &["b@there.example"]), BODY);
    site.spool.updated(3).await;
    let last = site.spool.last(3, 0);
    assert!(last.state == State::Waiting && last.next_try_s > now_s() && !site.spool.is_claimed(3), "{last:?}");
    site.again();
    site.spool.until("both went in the end", |s| s.entries.is_empty()).await;
    assert_eq!(peer.heard().messages.len(), 3);
}

#[tokio::test]
async fn what_is_delivered_is_written_down_before_the_slow_ones_end() {
    let slow = Peer::start(Manners::default().always(".", SILENCE)).await;
    let (good, names) = there(Manners::default()).await;
    let names = names.mx("slow.example", &[(1, "slow")]).host("slow", &[slow.ip()]);
    let site = Site::start(names, Settings { stop_grace: Duration::from_millis(10), ..settings() });
    site.spool.edit(|s| s.here.insert("us.example".into(), (State::Delivered, Reply { code: 250, text: "2.1.5 here".into() })));
    site.spool.put(entry(1, &["b@slow.example", "b@there.example", "b@us.example"]), BODY);
    slow.until("the end of data", |h| h.commands.iter().any(|c| c.2 == ".")).await;
    site.spool.updated(2).await;
    assert_eq!((site.spool.last(1, 1).state, site.spool.last(1, 2).state), (State::Delivered, State::Delivered));
    // The spool may hand the entry out again now; it is still at work, and nobody gets it twice.
    site.again();
    site.spool.put(entry(2, &["b@there.example"]), BODY);
    site.spool.updated(3).await;
    let spool = site.end().await;
    assert_eq!((slow.heard().connections, good.heard().messages.len()), (1, 2));
    let last = spool.last(1, 0);
    assert!(last.state == State::Waiting && last.tried_s.is_some() && !spool.is_claimed(1), "{last:?}");
}

#[tokio::test]
async fn a_stop_in_the_middle_loses_nothing_and_a_message_on_its_way_may_end() {
    // Stopped in the envelope: not tried. Stopped behind the end of data: the answer is awaited.
    let (peer, names) = there(Manners::default().once("RCPT", SILENCE)).await;
    let site = Site::start(names.clone(), settings());
    site.spool.put(entry(1, &["b@there.example"]), BODY);
    peer.until("RCPT", |h| h.commands.iter().any(|c| c.2.starts_with("RCPT"))).await;
    let spool = site.end().await;
    let last = spool.last(1, 0);
    assert!(
        last.state == State::Waiting && last.tried_s.is_none() && last.next_try_s <= now_s() && !spool.is_claimed(1),
        "{last:?}"
    );
    let site = Site::over(spool, names, settings());
    site.spool.until("it goes after the start", |s| s.entries.is_empty()).await;
    assert_eq!(peer.heard().messages.len(), 1);
    // A store that fails for good does not keep the process from stopping.
    let spool: Memory = site.spool.clone();
    spool.fail_updates(usize::MAX / 2);
    spool.put(entry(2, &["b@there.example"]), BODY);
    peer.until("the second", |h| h.messages.len() == 2).await;
    let spool = site.end().await;
    assert!(spool.update_faults_left() < usize::MAX / 2 && spool.read(|s| s.entries.len()) == 1);
}
