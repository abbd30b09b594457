//! What a stranger does first: start, send a mail to the printed address, read it back, pull the plug, look again.

use crate::node::{Node, alive, own_address, program, wait_for};
use crate::programs::{python, run};
use nix::sys::signal::Signal;
use std::process::Command;

/// A mail by swaks to port 25, as the printed advice says.
fn swaks(node: &Node, to: &str, subject: &str) {
    let server = node.at("smtp").to_string();
    let sent = run(
        Command::new("swaks").args(["--server", &server, "--to", to, "--from", "you@elsewhere.example"]).args([
            "--header",
            &format!("Subject: {subject}"),
            "--body",
            "A first word.",
        ]),
        b"",
    )
    .well();
    assert!(sent.contains("<-  250 2."), "{sent}");
}

/// Reads by curl over IMAPS; gives the message.
fn curl_imap(node: &Node, user: &str, path: &str) -> String {
    let url = format!("imaps://{}/{path}", node.at("imaps"));
    let ca = node.ca();
    run(
        Command::new("curl").args(["--silent", "--show-error", "--cacert"]).arg(ca).args([
            "-u",
            &format!("{user}:{}", node.password(user)),
            &url,
        ]),
        b"",
    )
    .well()
}

#[test]
fn a_newcomer_sends_reads_pulls_the_plug_and_reads_again() {
    let mut node = Node::start();
    let ben = "ben@school.example";
    println!("node at {}, folder {}", node.ip(), node.dir().display());
    let said = wait_for("the words of `up`", || Some(node.log()).filter(|log| log.contains("Look inside")));
    for part in ["Twinpost is running on", "Ctrl-C stops it", ben, &node.password(ben), "certificate authority"] {
        assert!(said.contains(part), "`up` does not say {part:?}:\n{said}");
    }

    println!("a mail by swaks, read by curl over imaps and pop3s, then by imaplib and poplib");
    swaks(&node, ben, "first light");
    assert!(curl_imap(&node, ben, "INBOX;UID=1").contains("Subject: first light"));
    let url = format!("pop3s://{}/1", node.at("pop3s"));
    let login = format!("{ben}:{}", node.password(ben));
    let popped =
        run(Command::new("curl").args(["--silent", "--show-error", "--cacert"]).arg(node.ca()).args(["-u", &login, &url]), b"");
    assert!(popped.well().contains("Subject: first light"));
    let read = |node: &Node, subjects: &str| {
        let ports = [
            node.port("imaps").to_string(),
            node.port("imap").to_string(),
            node.port("pop3s").to_string(),
            node.port("pop3").to_string(),
        ];
        let (ip, ca) = (node.ip().to_string(), node.ca());
        let mut words = vec![ip.as_str(), ca.to_str().unwrap(), ben];
        let password = node.password(ben);
        words.extend([password.as_str(), subjects]);
        words.extend(ports.iter().map(String::as_str));
        println!("{}", python("read_all.py", &words).well());
    };
    read(&node, "first light");

    println!("kill -9 of the mail process: `up` starts it again by itself, and the mail is there");
    let old = node.kill_mail();
    let new = node.wait_for_another(old);
    assert!(alive(new) && !alive(old));
    read(&node, "first light");
    swaks(&node, ben, "second light");

    println!("Ctrl-C ends everything, exit 0");
    let mail = node.mail_pid();
    let status = node.stop_by(Signal::SIGINT);
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(!alive(mail), "the mail process outlived `up`");
    assert_eq!(node.endpoints()["nodes"][0]["pids"], serde_json::json!({}), "a stopped node has no processes");

    println!("a second start on the same folder keeps mail, people and passwords");
    let before = node.endpoints();
    node.again();
    assert_eq!(node.endpoints()["accounts"], before["accounts"]);
    assert_eq!(node.endpoints()["service"], before["service"]);
    read(&node, "first light|second light");
}

#[test]
fn a_second_daemon_on_the_same_data_is_refused_with_the_pid_of_the_first() {
    let node = Node::start();
    let second = run(Command::new(program()).arg("up").arg("--dir").arg(node.dir()), b"");
    assert_eq!(second.code, 1, "{second:?}");
    assert!(second.err.contains(&format!("process {}", node.up_pid())), "{second:?}");
    let second = run(Command::new(program()).arg("mail").arg("--node").arg(node.dir().join("a")), b"");
    assert_eq!(second.code, 1, "{second:?}");
    assert!(second.err.contains(&node.mail_pid().to_string()), "{second:?}");
    assert_eq!(node.json(&["status"])["running"], true, "the first goes on");
}

#[test]
fn a_killed_up_takes_its_parts_with_it_and_the_next_one_starts() {
    let mut node = Node::start();
    let mail = node.mail_pid();
    println!("kill -9 of `up` itself: its mail process must not stay behind");
    node.stop_by(Signal::SIGKILL);
    wait_for("the end of the orphan", || (!alive(mail)).then_some(()));
    node.again();
    assert_eq!(node.json(&["status"])["running"], true);
}

#[test]
fn a_node_without_demo_is_empty_and_beside_another_node_it_takes_free_ports() {
    let address = own_address();
    let first = Node::start_with(address, &[]);
    let second = Node::start_with(address, &["--demo", "none"]);
    assert_ne!(first.port("smtp"), second.port("smtp"));
    assert_eq!(second.json(&["domain", "list"]), serde_json::json!([]));
    assert_eq!(second.json(&["account", "list"]), serde_json::json!([]));
    assert_eq!(second.endpoints()["accounts"], serde_json::json!([]));
    let refused = second.mx().mail("a@elsewhere.example", &["ben@school.example"], b"Subject: x\r\n\r\nx\r\n").unwrap();
    assert_eq!(refused.code, 550, "{refused:?}");
    println!("its first domain and its first person are made by `ctl`");
    second.ctl(&["domain", "add", "club.example"]).well();
    second.ctl_with(&["account", "add", "li@club.example", "--password-stdin"], b"a long password\n").well();
    assert_eq!(second.mx().mail("a@elsewhere.example", &["li@club.example"], b"Subject: x\r\n\r\nx\r\n").unwrap().code, 250);
    let mut imap = second.imap_as("li@club.example", "a long password").unwrap();
    assert_eq!(imap.count("INBOX"), 1);
}

#[test]
fn a_taken_port_is_said_once_with_its_holder_and_up_ends() {
    let mut node = Node::start();
    node.stop();
    let at = node.at("imap");
    let held = std::net::TcpListener::bind(at).unwrap();
    let vain = node.again_in_vain();
    assert_eq!(vain.code, 1, "{vain:?}");
    let says = format!("{at} is in use already");
    assert_eq!(vain.err.matches(&says).count(), 1, "{vain:?}");
    assert!(vain.err.contains(&std::process::id().to_string()), "the holder is this test, {}: {vain:?}", std::process::id());
    assert!(!vain.err.contains("started again"), "{vain:?}");
    println!("when the port is free again, it starts");
    drop(held);
    node.again();
}
