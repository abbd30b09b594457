//! Two daemons over real UDP and real pseudo-terminals, with the shared storage driver.

#![allow(clippy::print_stdout, reason = "how long a takeover took is worth reading, and is no assertion")]

mod rig;

use rig::{Rig, exists, link_of, node_of};
use twinpost_pair::api::{Answer, Request};

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_agree_and_the_other_takes_over_when_one_dies() {
    let rig = Rig::new();
    let (a, b) = (rig.start(0), rig.start(1));
    // Wait-for-all: both are here, so they agree; equals go by their number.
    let status = a.until_active().await;
    assert_eq!((status.reign, status.proof.as_deref()), (1, Some("release")));
    assert!(exists(&rig.folder(0).join("data")) && !exists(&rig.folder(1).join("data")));
    let status = b.until_eligible().await;
    assert_eq!(status.active.as_deref(), Some("a"));
    for link in ["eth1", "lan", "serial"] {
        let status = b.until(link, |s| link_of(s, link).state == "up").await;
        let link = link_of(&status, link);
        assert!(link.received > 0 && link.sent > 0 && link.dropped == Default::default(), "{link:?}");
    }
    a.kill().await;
    let status = b.until_active().await;
    assert_eq!(status.proof.as_deref(), Some("reservation"));
    assert!(status.reign > 1);
    let switch = status.last_switch.expect("it took over");
    assert_eq!((switch.from.as_deref(), switch.to.as_str()), (Some("a"), "b"));
    let s = switch.steps;
    let sum = s.detected_ms + s.proof_ms + s.stored_ms + s.promoted_ms + s.address_ms + s.services_ms + s.checked_ms;
    assert_eq!(sum, switch.took_ms);
    println!("took over in {} ms: {s:?}", switch.took_ms);
    let status = b.until("peer silent", |s| node_of(s, "a").state == "silent").await;
    assert!(!node_of(&status, "a").eligible);
    assert!(status.sentence.contains("alone"), "{}", status.sentence);
    b.until_told("took_over").await;
    // The one that was killed comes back as standby.
    let a = rig.start(0);
    a.until_eligible().await;
    let status = b.until("a eligible", |s| node_of(s, "a").eligible).await;
    assert_eq!(status.active.as_deref(), Some("b"));
    assert!(node_of(&status, "a").boot > 1);
    b.leave().await.expect("an orderly end");
    let status = a.until_active().await;
    assert_eq!(status.proof.as_deref(), Some("release"), "handed over in order");
    a.leave().await.expect("an orderly end");
    assert!(!exists(&rig.folder(0).join("data")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_switch_and_its_refusals() {
    let rig = Rig::new();
    let (a, b) = (rig.start(0), rig.start(1));
    a.until_active().await;
    let Answer::Refused { reasons } = b.ask(Request::Standby).await else { panic!("b does not serve") };
    assert!(reasons.iter().any(|r| r.code == "not_active" && !r.text.zh.is_empty()), "{reasons:?}");
    let Answer::Refused { reasons } = b.ask(Request::Takeover).await else { panic!("there is no channel") };
    assert!(reasons.iter().any(|r| r.code == "no_channel"), "{reasons:?}");
    b.until_eligible().await;
    a.until("b eligible", |s| node_of(s, "b").eligible && s.sentence.contains("current")).await;
    let answer = a.ask(Request::Standby).await;
    assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
    let status = b.until_active().await;
    assert_eq!(status.proof.as_deref(), Some("release"));
    println!("planned switch in {:?}", status.last_switch);
    a.until_eligible().await;
    a.leave().await.expect("an orderly end");
    b.leave().await.expect("an orderly end");
}

/// Milliseconds of processor time by the name of the thread.
fn cpu_ms() -> std::collections::BTreeMap<String, u64> {
    let mut used = std::collections::BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").expect("proc is there").flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else { continue };
        let (head, tail) = stat.rsplit_once(')').expect("proc(5)");
        let fields: Vec<&str> = tail.split_whitespace().collect();
        // utime and stime, in hundredths of a second
        let ms: u64 = [11, 12].iter().map(|&i| fields[i].parse::<u64>().expect("a number") * 10).sum();
        *used.entry(head.split_once('(').expect("proc(5)").1.to_owned()).or_default() += ms;
    }
    used
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of a minute: cargo test -p twinpost-pair --test pair -- --ignored --nocapture"]
async fn processor_time_of_an_idle_pair() {
    let rig = Rig::new();
    let (a, b) = (rig.start(0), rig.start(1));
    a.until_active().await;
    b.until_eligible().await;
    let (begun, used) = (std::time::Instant::now(), cpu_ms());
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let wall_ms = begun.elapsed().as_millis() as f64;
    for (thread, ms) in cpu_ms() {
        let ms = ms - used.get(&thread).copied().unwrap_or(0);
        println!(
            "threads {thread:?} of two daemons, relays apart: {ms} ms, {:.2} % of one processor",
            ms as f64 * 100.0 / wall_ms
        );
    }
    let status = b.status().await;
    println!("longest stall: {} ms", status.stall_max_ms);
    assert_eq!(status.alarms.iter().filter(|alarm| alarm.code == "took_over").count(), 0, "nobody took over");
}
