//! Bad cables, bad frames, bad disks: counted, told, survived.

mod rig;

use rig::{CLUSTER, PATIENCE, Rig, keys, link_of, node_of};
use twinpost_heartbeat::{Flags, Frame, Keys, Link, NodeState};
use twinpost_pair::api::{Answer, LINE_MAX_BYTES, Request};
use twinpost_pair::{SerialLink, Settings, UdpLink};

fn frame(link: Link, node: u8) -> Frame {
    Frame {
        link,
        node,
        state: NodeState::ActiveAlone,
        boot: 77,
        seq: 1,
        echo_boot: 1,
        echo_seq: 0,
        reign: 9,
        ballot: 0,
        position: 0,
        lease_ms: 0,
        health: 255,
        flags: Flags::default(),
        config: 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_not_the_peers_are_counted_and_change_nothing() {
    let rig = Rig::new();
    let (a, b) = (rig.start(0), rig.start(1));
    a.until_active().await;
    b.until_eligible().await;
    let before = a.status().await;
    let send = |bytes: &[u8]| rig.eth1.inject(0, bytes);
    let forged = frame(Link::Eth1, 1).encode(CLUSTER, &Keys { current: [8; 32], next: None });
    let foreign = frame(Link::Eth1, 1).encode(CLUSTER + 1, &keys());
    let mut other_version = frame(Link::Eth1, 1).encode(CLUSTER, &keys());
    other_version[0] = 2;
    let own = frame(Link::Eth1, 0).encode(CLUSTER, &keys());
    let other_link = frame(Link::Lan, 1).encode(CLUSTER, &keys());
    let recorded = rig.eth1.last_of(1);
    for bytes in [&forged[..], &foreign, &other_version, &own, &other_link, &recorded, &recorded, b"", b"hello", &[0; 1500]] {
        send(bytes);
    }
    let status = a
        .until("all counted", |s| {
            let d = link_of(s, "eth1").dropped;
            d.forged >= 1 && d.cluster >= 1 && d.version >= 1 && d.own >= 1 && d.meaning >= 1 && d.replayed >= 2 && d.cut >= 3
        })
        .await;
    assert_eq!((status.active.as_deref(), status.reign), (Some("a"), before.reign));
    assert_eq!(link_of(&status, "lan").dropped, Default::default());
    // The same again and again: people are told what to look at.
    for _ in 0..6 {
        send(&forged);
        send(&foreign);
        send(&own);
        send(&other_version);
    }
    for code in ["forged", "another_pair", "same_node", "peer_version"] {
        let alarm = a.until_told(code).await;
        assert!(alarm.text.en.contains("eth1") && alarm.text.zh.contains("eth1"), "{alarm:?}");
    }
    assert_eq!(b.status().await.active.as_deref(), Some("a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_garbled_serial_line_costs_frames_and_a_cut_cable_is_named() {
    let rig = Rig::new();
    let [a, b] = [0, 1].map(|n| {
        let mut set = rig.settings(n);
        // More blocks in less time.
        set.heart.serial_keepalive_ms = 100;
        rig.start_with(set)
    });
    a.until_active().await;
    a.until("serial", |s| link_of(s, "serial").state == "up").await;
    // One byte of 100: most blocks arrive.
    rig.serial.garble(100);
    let status = a.until("garbled", |s| link_of(s, "serial").dropped.cut + link_of(s, "serial").dropped.forged >= 2).await;
    let heard = link_of(&status, "serial").received;
    rig.serial.inject(0, &[0x41; 5000]);
    a.until("frames still come", |s| link_of(s, "serial").received > heard + 2).await;
    rig.serial.garble(0);
    rig.serial.cut(true);
    let alarm = a.until_told("link_silent").await;
    assert!(alarm.text.en.contains("serial") && alarm.text.zh.contains("串口"), "{alarm:?}");
    let status = a.until("silent", |s| link_of(s, "serial").state == "silent").await;
    assert_eq!(status.active.as_deref(), Some("a"));
    // Only one cable left: said so.
    rig.lan.cut(1, true);
    let alarm = a.until("two", |s| s.alarms.iter().filter(|alarm| alarm.code == "link_silent").count() == 2).await.alarms.pop();
    assert!(alarm.is_some_and(|alarm| alarm.text.en.contains("Only eth1 is left")), "the last cable is named");
    assert!(node_of(&b.status().await, "a").state == "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_serial_line_alone_is_enough_for_a_planned_switch() {
    let rig = Rig::new();
    let alone = |n| {
        let mut set = rig.settings(n);
        (set.eth1, set.lan) = (None, None);
        set.serial = Some(SerialLink { port: rig.serial.port(n), baud: 19_200 });
        set.heart.warn_ms = 1500;
        set.heart.lease_ms = 2500;
        rig.start_with(set)
    };
    let (a, b) = (alone(0), alone(1));
    a.until_active().await;
    b.until_eligible().await;
    let status = a.until("b eligible", |s| node_of(s, "b").eligible).await;
    assert_eq!(link_of(&status, "eth1").state, "off");
    assert!(matches!(a.ask(Request::Standby).await, Answer::Done { .. }));
    b.until_active().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modem_on_the_serial_port_is_recognised() {
    let rig = Rig::new();
    let a = rig.start(0);
    a.until("the port is open", |s| link_of(s, "serial").sent > 0).await;
    // What a modem with echo answers to whatever it is sent.
    rig.serial.inject(0, b"\rAT\r\r\nOK\r\n\r\n+CREG: 1\r\n");
    let alarm = a.until_told("serial_is_modem").await;
    assert!(alarm.text.en.contains("The serial cable is on the modem's port"), "{alarm:?}");
    let status = a.status().await;
    assert!(link_of(&status, "serial").trouble.is_some());
    // The cable is put right: the trouble is over with the first frame.
    let b = rig.start(1);
    a.until("mended", |s| link_of(s, "serial").trouble.is_none() && link_of(s, "serial").state == "up").await;
    drop(b);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serial_port_that_is_missing_is_opened_when_it_comes() {
    let rig = Rig::new();
    let mut set = rig.settings(0);
    let port = rig.dir.path().join("not-yet");
    set.serial = Some(SerialLink { port: port.clone(), baud: 115_200 });
    let a = rig.start_with(set);
    let troubled = "cannot open the serial port";
    a.until("missing", |s| link_of(s, "serial").trouble.as_ref().is_some_and(|t| t.en.contains(troubled))).await;
    let (master, path, slave) = rig::cables::terminal();
    std::os::unix::fs::symlink(path, &port).expect("a link");
    a.until("open", |s| link_of(s, "serial").trouble.is_none() && link_of(s, "serial").sent > 0).await;
    // The other side of the terminal dies (EIO), as when the adapter is pulled.
    drop((master, slave));
    a.until("gone", |s| link_of(s, "serial").trouble.is_some()).await;
    std::fs::remove_file(&port).expect("removed");
    std::os::unix::fs::symlink(rig.serial.port(0), &port).expect("a link");
    let b = rig.start(1);
    a.until("mended", |s| link_of(s, "serial").trouble.is_none() && link_of(s, "serial").state == "up").await;
    drop(b);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_node_on_both_sides_is_told() {
    let rig = Rig::new();
    let a = rig.start(0);
    // Another machine that was given the same name: its own folder and keys, this node's number.
    let mut set = rig.settings(1);
    set.heart.node = 0;
    set.state_dir = rig.dir.path().join("twin/pair");
    set.socket = rig.dir.path().join("twin/pair.sock");
    let twin = rig.start_with(set);
    let alarm = a.until_told("same_node").await;
    assert!(alarm.text.en.contains("same name"), "{alarm:?}");
    twin.until_told("same_node").await;
    // Nobody serves: neither has heard its peer.
    assert_eq!((a.status().await.active, twin.status().await.active), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_nobody_answers_for_is_missed_at_once() {
    let rig = Rig::new();
    let (one, two) = (rig::free_port(), rig::free_port());
    let direct = |n: usize| {
        let mut set = rig.settings(n);
        let (bind, peer) = if n == 0 { (one, two) } else { (two, one) };
        (set.eth1, set.lan, set.serial) = (Some(UdpLink { bind, peer, interface: None }), None, None);
        // Silence alone would take so long.
        (set.heart.warn_ms, set.heart.lease_ms, set.heart.first_contact_ms) = (8000, 15_000, 16_000);
        rig.start_with(set)
    };
    let (a, b) = (direct(0), direct(1));
    a.until_active().await;
    b.until_eligible().await;
    a.kill().await;
    let status = b.until_active().await;
    let took_ms = status.last_switch.expect("it took over").took_ms;
    assert!(took_ms < 8000, "by the kernel's word, before the silence was long enough: {took_ms} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_state_file_is_the_record_before_and_two_torn_ones_are_told() {
    let rig = Rig::new();
    let a = rig.start(0);
    a.until("heard nobody", |s| node_of(s, "a").boot == 1).await;
    a.kill().await;
    let dir = rig.folder(0).join("pair");
    let slots = ["state.0", "state.1"].map(|name| dir.join(name));
    let records = slots.clone().map(|slot| std::fs::read(slot).expect("there"));
    assert!(records.iter().any(|bytes| bytes.starts_with(b"TPR1")), "the boot id was stored before a frame left");
    // Torn: the slot that is older or empty.
    let older = usize::from(records[0].starts_with(b"TPR1"));
    std::fs::write(&slots[older], b"TPR1 torn").expect("torn");
    let a = rig.start(0);
    let status = a.until("counts on", |s| node_of(s, "a").boot == 2).await;
    assert!(status.alarms.iter().all(|alarm| alarm.code != "state_lost"));
    a.until("stored", |s| s.up_ms > 0).await;
    a.kill().await;
    slots.iter().for_each(|slot| std::fs::write(slot, b"TPR1 torn").expect("torn"));
    let a = rig.start(0);
    a.until_told("state_lost").await;
    assert_eq!(a.status().await.active, None);
    // Nobody but the administrator can say now that this data is the newest.
    let answer = a.ask(Request::Force { confirm: true }).await;
    assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
    assert_eq!(a.until_active().await.proof.as_deref(), Some("forced"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_on_the_control_socket() {
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
    let rig = Rig::new();
    let a = rig.start(0);
    a.until("running", |s| node_of(s, "a").boot == 1).await;
    let mut stream = BufReader::new(tokio::net::UnixStream::connect(&a.socket).await.expect("connects"));
    let long = format!("{{\"op\":\"maintenance\",\"for_s\":{}}}", u64::MAX);
    for bad in [
        "",
        "nonsense",
        "{}",
        "[1,2]",
        "{\"op\":\"moon\"}",
        "{\"op\":\"force\"}",
        "{\"op\":\"maintenance\",\"for_s\":-1}",
        "\u{0}\u{1}",
    ] {
        stream.get_mut().write_all(format!("{bad}\n").as_bytes()).await.expect("written");
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, stream.read_line(&mut line)).await.expect("in time").expect("an answer");
        let answer: Answer = serde_json::from_str(&line).expect("JSON");
        let Answer::Error { text } = answer else { panic!("{bad:?}: {answer:?}") };
        assert!(!text.en.is_empty() && !text.zh.is_empty());
    }
    for (request, codes) in [
        (long.as_str(), vec!["duration"]),
        ("{\"op\":\"standby\"}", vec!["not_active", "peer_silent", "peer_not_current"]),
        ("{\"op\":\"give_way\"}", vec!["peer_silent", "no_conflict"]),
        ("{\"op\":\"resync\"}", vec!["not_active", "peer_silent"]),
        ("{\"op\":\"takeover\"}", vec!["peer_silent", "not_current", "no_channel"]),
        (
            "{\"op\":\"fail_back\",\"rule\":{\"to\":\"node\",\"node\":\"moon\",\"after_s\":9999999}}",
            vec!["no_such_node", "duration"],
        ),
    ] {
        stream.get_mut().write_all(format!("{request}\n").as_bytes()).await.expect("written");
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, stream.read_line(&mut line)).await.expect("in time").expect("an answer");
        let answer: Answer = serde_json::from_str(&line).expect("JSON");
        let Answer::Refused { reasons } = answer else { panic!("{request}: {answer:?}") };
        assert_eq!(reasons.iter().map(|r| r.code.as_str()).collect::<Vec<_>>(), codes, "{request}");
    }
    // Without a word that it was read, a force only tells what it would mean.
    let answer = a.ask(Request::Force { confirm: false }).await;
    assert!(
        matches!(&answer, Answer::Preview { text, reasons } if text.en.contains("missing") && reasons.is_empty()),
        "{answer:?}"
    );
    // A line without an end.
    let endless = vec![b'x'; LINE_MAX_BYTES + 10];
    let _ = stream.get_mut().write_all(&endless).await;
    let mut rest = String::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut rest)).await.expect("it is closed");
    assert!(rest.is_empty() || rest.contains("bytes long"), "{rest}");
    a.status().await;
}

#[test]
fn settings_that_cannot_be_used_are_refused() {
    let set = Settings::new(0, CLUSTER, keys(), "/nowhere".into(), "/nowhere/sock".into());
    assert_eq!((set.name(), set.peer_name()), ("a", "b"));
}
