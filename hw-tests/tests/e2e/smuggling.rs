//! Attempts to slip a second mail or a command past the server: line ends that are none, and words before TLS.
//! The tests of the crates go through all forms; here a few of them meet the whole node.

use crate::line::Line;
use crate::node::Node;
use crate::smtp::Reply;

const BEN: &str = "ben@school.example";

/// Sends a message with something like an end in it, and a second mail behind that; gives the answer to the whole.
fn smuggle(node: &Node, end: &str) -> Reply {
    let mut smtp = node.mx();
    assert_eq!(smtp.command("MAIL FROM:<a@elsewhere.example>").unwrap().code, 250);
    assert_eq!(smtp.command(&format!("RCPT TO:<{BEN}>")).unwrap().code, 250);
    assert_eq!(smtp.command("DATA").unwrap().code, 354);
    let inner = format!("MAIL FROM:<root@school.example>\r\nRCPT TO:<{BEN}>\r\nDATA\r\nSubject: smuggled\r\n\r\nx");
    smtp.line.send(format!("Subject: outer\r\n\r\nhello{end}{inner}\r\n.\r\n").as_bytes()).unwrap();
    let reply = smtp.reply().unwrap();
    println!("{end:?}: {reply:?}");
    // The next answer is the answer to the next command, not to a smuggled one.
    assert_eq!(smtp.command("NO-SUCH-COMMAND").unwrap().code, 500, "{end:?}");
    reply
}

#[test]
fn nothing_but_crlf_dot_crlf_ends_a_message() {
    const ENDS: [&str; 7] = ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\r\n\0.\r\n"];
    let node = Node::start();
    println!("repaired: each is one message, with the second mail as its text");
    for end in ENDS {
        assert_eq!(smuggle(&node, end).code, 250, "{end:?}");
    }
    let mut imap = node.imap(BEN);
    assert_eq!(imap.count("INBOX"), ENDS.len() as u64);
    imap.ok("EXAMINE INBOX");
    assert_eq!(imap.ok("UID SEARCH SUBJECT smuggled"), ["* SEARCH"], "a smuggled mail arrived");
    println!("refused, where the site wants that");
    let mut text = std::fs::read_to_string(node.document()).unwrap();
    text.push_str("\n[smtp]\nbare_line_ends = \"refuse\"\n");
    std::fs::write(node.document(), text).unwrap();
    node.ctl(&["config", "reload"]).well();
    for end in ENDS.into_iter().filter(|end| !end.contains('\0')) {
        assert_eq!(smuggle(&node, end).code, 554, "{end:?}");
    }
    assert_eq!(imap.count("INBOX"), ENDS.len() as u64);
}

#[test]
fn what_is_said_before_tls_is_forgotten() {
    let node = Node::start();
    for (service, greeting, start, injected) in [
        ("submission", 1, "STARTTLS", "MAIL FROM:<root@school.example>"),
        ("smtp", 1, "STARTTLS", "RSET"),
        ("imap", 1, "a STARTTLS", "b LOGIN x y"),
        ("pop3", 1, "STLS", "USER root"),
    ] {
        let mut line = Line::plain(node.at(service)).unwrap();
        for _ in 0..greeting {
            line.line().unwrap();
        }
        if service == "submission" || service == "smtp" {
            line.send(b"EHLO c.example\r\n").unwrap();
            while line.line().unwrap().get(3) == Some(&b'-') {}
        }
        // The command for TLS and a command after it in one packet.
        line.send(format!("{start}\r\n{injected}\r\n").as_bytes()).unwrap();
        // A server may close at once: then there is nothing to be seen.
        let said = String::from_utf8_lossy(&line.line().unwrap_or_default()).into_owned();
        println!("{service}: {said}");
        if !(said.starts_with("220") || said.contains("OK")) {
            let _ = line.send(if service == "imap" { b"z LOGOUT\r\n" } else { b"QUIT\r\n" });
            let rest = String::from_utf8_lossy(&line.rest()).into_owned();
            println!("{service} then: {rest}");
            assert!(!rest.contains("250") && !rest.contains("b OK") && !rest.contains("+OK pass"), "it was carried out: {rest}");
            continue;
        }
        // TLS was begun: either the handshake fails because of what was put before it, or nothing of it was kept.
        if line.start_tls(&node.ca()).is_ok() {
            let probe = if service == "imap" { "c NOOP\r\n" } else { "NOOP\r\n" };
            line.send(probe.as_bytes()).unwrap();
            let answer = String::from_utf8_lossy(&line.line().unwrap()).into_owned();
            println!("{service} after TLS: {answer}");
            let expected = match service {
                "imap" => answer.starts_with("c OK"),
                "pop3" => answer.starts_with("-ERR"),
                _ => answer.starts_with("250 2.0.0") || answer.starts_with("503"),
            };
            assert!(expected, "{service}: {answer}");
        }
    }
}

#[test]
fn passwords_are_not_taken_without_tls() {
    let node = Node::start();
    let mut smtp = crate::smtp::Smtp::open(node.at("submission")).unwrap();
    let refused = smtp.sign_in("ben@school.example", &node.password("ben@school.example")).unwrap();
    assert!(refused.code >= 500, "{refused:?}");
    let refused = smtp.command("MAIL FROM:<ben@school.example>").unwrap();
    assert_eq!(refused.code, 530, "{refused:?}");
    let mut imap = Line::plain(node.at("imap")).unwrap();
    assert!(String::from_utf8_lossy(&imap.line().unwrap()).contains("LOGINDISABLED"));
    imap.send(format!("a LOGIN ben@school.example {}\r\n", node.password("ben@school.example")).as_bytes()).unwrap();
    let refused = String::from_utf8_lossy(&imap.line().unwrap()).into_owned();
    assert!(refused.starts_with("a NO [PRIVACYREQUIRED]"), "{refused}");
    let mut pop = Line::plain(node.at("pop3")).unwrap();
    pop.line().unwrap();
    pop.send(b"USER ben@school.example\r\n").unwrap();
    let refused = String::from_utf8_lossy(&pop.line().unwrap()).into_owned();
    assert!(refused.starts_with("-ERR"), "{refused}");
}
