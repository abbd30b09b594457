//! The appliance document with faults: all of them are said at once, and a running node keeps the old one.

use crate::node::Node;

#[test]
fn all_faults_of_a_document_are_said_with_their_lines() {
    let node = Node::start();
    assert_eq!(node.ctl(&["config", "check"]).code, 0);
    assert_eq!(node.json(&["config", "check"])["faults"], serde_json::json!([]));

    let good = std::fs::read_to_string(node.document()).unwrap();
    let lines = good.lines().count();
    let bad = format!(
        "{good}\n[smtp]\nmax_message = \"9 GiB\"\nmax_recipient = 7\n\n[queue]\nretry = [\"soon\"]\n\n[sauna]\nhot = true\n"
    );
    std::fs::write(node.document(), &bad).unwrap();
    let said = node.ctl(&["config", "check"]);
    println!("{}", said.out);
    assert_eq!(said.code, 4, "{said:?}");
    for (line, key) in [(3, "max_message"), (4, "max_recipient"), (7, "retry"), (9, "sauna")] {
        let found = said.out.lines().find(|l| l.contains(key)).unwrap_or_else(|| panic!("{key} is not named:\n{}", said.out));
        assert!(found.contains(&(lines + line).to_string()), "{key} is in line {}: {found}", lines + line);
    }
    let machine = node.ctl(&["--json", "config", "check"]);
    assert_eq!(machine.code, 4);
    let machine: serde_json::Value = serde_json::from_str(&machine.out).unwrap();
    assert_eq!(machine["faults"].as_array().unwrap().len(), 4, "{machine:#}");

    println!("the running node keeps the old one and says what is wrong");
    let mail = node.mail_pid();
    let refused = node.ctl(&["config", "reload"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("max_recipient") && refused.err.contains("sauna"), "{refused:?}");
    assert_eq!(node.mail_pid(), mail);
    assert!(node.mx().command("EHLO c.example").unwrap().text.contains("SIZE 52428800"), "50 MiB, as before");

    println!("mended, it is taken by the running node");
    std::fs::write(node.document(), format!("{good}\n[smtp]\nmax_message = \"1 MiB\"\n")).unwrap();
    node.ctl(&["config", "reload"]).well();
    assert!(node.mx().command("EHLO c.example").unwrap().text.contains("SIZE 1048576"));
    assert_eq!(node.mail_pid(), mail, "without a restart");
}

#[test]
fn a_node_does_not_start_with_a_faulty_document() {
    let mut node = Node::start();
    node.stop();
    let mut text = std::fs::read_to_string(node.document()).unwrap();
    text.push_str("\n[limits2]\n");
    std::fs::write(node.document(), text).unwrap();
    let refused =
        crate::programs::run(std::process::Command::new(crate::node::program()).arg("up").arg("--dir").arg(node.dir()), b"");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("appliance.toml") && refused.err.contains("limits2"), "{refused:?}");
}

#[test]
fn a_pair_daemon_that_needs_a_person_is_no_failure_that_resets_the_node() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("appliance.toml"), "[sauna]\n").unwrap();
    let notices = folder.path().join("notify");
    let systemd = std::os::unix::net::UnixDatagram::bind(&notices).unwrap();
    systemd.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let mut daemon = std::process::Command::new(crate::node::program());
    daemon.args(["pair", "--node"]).arg(folder.path()).env("NOTIFY_SOCKET", &notices);
    let ended = crate::programs::run(&mut daemon, b"");
    assert_eq!(ended.code, 5, "SuccessExitStatus= of its unit: {ended:?}");
    let mut said = [0; 4096];
    let bytes = systemd.recv(&mut said).expect("it said something to systemd");
    let said = String::from_utf8_lossy(&said[..bytes]);
    assert!(said.contains("READY=1") && said.contains("STATUS=") && said.contains("sauna"), "{said}");
}

#[test]
fn a_reload_takes_what_can_change_and_names_what_waits() {
    let node = Node::start();
    let good = std::fs::read_to_string(node.document()).unwrap();
    let changed = good
        .replace("exempt = [\"127.0.0.0/8\", \"::1\"]", "exempt = []\nconnections = 2")
        .replace("host_name = \"mail.school.example\"", "host_name = \"other.school.example\"");
    assert_ne!(changed, good);
    let changed = format!(
        "{changed}\n[log]\nlevel = \"debug\"\n\n[queue]\nretry = [\"7 s\"]\nconnections = 3\n\n[tls]\nallow_plain_sign_in = true\n"
    );
    std::fs::write(node.document(), changed).unwrap();
    let said = node.ctl(&["config", "reload"]).well();
    println!("{said}");
    for part in ["taken: [limits]", "taken: [queue]", "taken: log.level", "taken: tls.allow_plain_sign_in"] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
    for part in ["waits for the next start: [node]", "waits for the next start: queue.connections"] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
    assert!(!said.contains("[pop3]") && !said.contains("[smtp]"), "what did not change is not named:\n{said}");

    println!("the limit holds at once, the name of the host does not");
    let mut one = node.mx();
    assert!(one.command("EHLO c.example").unwrap().text.contains("mail.school.example"));
    let _two = node.mx();
    assert!(crate::smtp::Smtp::open(node.at("smtp")).is_err(), "a third connection is refused");

    println!("the queue waits as long as it says now");
    let text = crate::smtp::message_of("ben@school.example", "q@school.example", "later", 500);
    assert_eq!(
        node.submission("ben@school.example").mail("ben@school.example", &["a@[127.127.127.127]"], &text).unwrap().code,
        250
    );
    crate::node::wait_for("the first try", || {
        let list = node.json(&["queue", "list"]);
        let next = list.pointer("/0/next_try_s")?.as_i64()?;
        (!list[0]["last_reply"].as_str().unwrap_or_default().is_empty() && next <= 10).then_some(())
    });

    println!("the log says more than before, and a password without TLS is taken by IMAP and POP3 as by submission");
    for (service, line, fine) in [
        ("imap", format!("a LOGIN ben@school.example {}", node.password("ben@school.example")), "a OK"),
        ("pop3", "USER ben@school.example".to_owned(), "+OK"),
    ] {
        let mut plain = crate::line::Line::plain(node.at(service)).unwrap();
        plain.line().unwrap();
        plain.send(format!("{line}\r\n").as_bytes()).unwrap();
        let answer = String::from_utf8_lossy(&plain.line().unwrap()).into_owned();
        assert!(answer.starts_with(fine), "{service}: {answer}");
    }
    crate::node::wait_for("a line of level debug", || node.log().contains("DEBUG").then_some(()));
}
