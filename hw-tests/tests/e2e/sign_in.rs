//! What an operator sees of failed sign-ins, and what comes of commands behind STLS in the clear.

use crate::line::Line;
use crate::node::{Node, wait_for};

fn ask(line: &mut Line, command: &str) -> String {
    line.send(format!("{command}\r\n").as_bytes()).unwrap();
    String::from_utf8_lossy(&line.line().unwrap()).into_owned()
}

#[test]
fn each_failed_sign_in_has_a_line_with_peer_and_account_until_there_are_too_many() {
    let node = Node::start();
    let mut imap = Line::tls(node.at("imaps"), &node.ca()).unwrap();
    imap.line().unwrap();
    let answer = ask(&mut imap, "a LOGIN anna@school.example wrong");
    assert!(answer.starts_with("a NO [AUTHENTICATIONFAILED]"), "{answer}");
    let mut pop = Line::tls(node.at("pop3s"), &node.ca()).unwrap();
    pop.line().unwrap();
    ask(&mut pop, "USER nobody@school.example");
    let answer = ask(&mut pop, "PASS wrong");
    assert!(answer.starts_with("-ERR [AUTH]"), "{answer}");
    for (protocol, account) in [("imap", "anna@school.example"), ("pop3", "nobody@school.example")] {
        wait_for("a line of the failed sign-in", || {
            let log = node.log();
            let line = log.lines().find(|l| l.contains("sign-in failed") && l.contains(protocol) && l.contains(account))?;
            assert!(line.contains("peer=127.0.0.1") && !line.contains("wrong"), "{line}");
            Some(())
        });
    }
    for n in 0..8 {
        let mut imap = Line::tls(node.at("imaps"), &node.ca()).unwrap();
        imap.line().unwrap();
        let answer = ask(&mut imap, &format!("a LOGIN guess{n}@school.example wrong"));
        assert!(answer.starts_with("a NO"), "{answer}");
    }
    let lines = node.log().matches("sign-in failed").count();
    assert_eq!(lines, 4, "guessing gets one line for all, later");
}

#[test]
fn commands_behind_stls_in_the_clear_are_refused_and_told() {
    let node = Node::start();
    let mut pop = Line::plain(node.at("pop3")).unwrap();
    pop.line().unwrap();
    pop.send(b"STLS\r\nUSER ben@school.example\r\n").unwrap();
    let answer = String::from_utf8_lossy(&pop.line().unwrap()).into_owned();
    assert!(answer.starts_with("-ERR nothing may follow STLS"), "{answer}");
    assert!(pop.line().is_err(), "the session is over");
    wait_for("a line in the log", || node.log().contains("data in plain text behind STLS").then_some(()));
}
