//! What is said to one server, and what its answers lead to.

use crate::peer::{CLOSE, Manners, Peer};
use crate::spool::{BODY, Memory, entry};
use crate::{Site, settings, there};
use std::time::Duration;
use twinpost_message::Address;
use twinpost_queue::{Settings, State};
use twinpost_wire::{SelfSignedSettings, ServerTls, self_signed};

fn tls(dir: &tempfile::TempDir) -> ServerTls {
    let wanted = SelfSignedSettings { names: vec!["mx.there.example".into()], ..Default::default() };
    let made = self_signed(dir.path(), &wanted, time::OffsetDateTime::now_utc()).unwrap();
    ServerTls::load(vec![made.server]).unwrap()
}

/// Sends one entry to one server and gives what both remember.
async fn one(manners: Manners, to: &[&str]) -> (Peer, Memory) {
    let (peer, names) = there(manners).await;
    let site = Site::start(names, settings());
    site.spool.put(entry(1, to), BODY);
    site.spool.updated(to.len()).await;
    (peer, site.end().await)
}

#[tokio::test]
async fn recipients_of_one_destination_share_a_transaction_and_the_text_arrives() {
    for manners in [Manners::default(), Manners::offering(&["SIZE"]), Manners { ehlo: None, ..Manners::default() }] {
        let (peer, spool) = one(manners, &["b@there.example", "c@there.example"]).await;
        let heard = peer.heard();
        assert_eq!(heard.messages.len(), 1, "{heard:?}");
        assert_eq!((heard.messages[0].1.len(), heard.messages[0].2.as_slice()), (2, BODY));
        assert_eq!((spool.last(1, 0).state, spool.last(1, 1).reply.text.as_str()), (State::Delivered, "2.0.0 taken"));
        assert_eq!(spool.read(|s| (s.commits, s.reports.len(), s.entries.len())), (1, 0, 0));
        assert_eq!(peer.said("QUIT").len(), 1);
    }
}

#[tokio::test]
async fn a_server_without_ehlo_is_greeted_with_helo() {
    let (peer, _) = one(Manners { ehlo: None, ..Manners::default() }, &["b@there.example"]).await;
    assert_eq!(peer.said("HELO"), ["HELO mail.us.example"]);
    assert_eq!(peer.said("MAIL"), ["MAIL FROM:<a@us.example>"]);
}

#[tokio::test]
async fn each_recipient_has_its_own_fate() {
    for pipelining in [true, false] {
        let manners = if pipelining { Manners::default() } else { Manners::offering(&[]) };
        let manners = manners
            .once("RCPT TO:<c@", "450-4.2.0 greylisted\r\n450 4.2.0 come again")
            .once("RCPT TO:<d@", "550 5.1.1 who is that");
        let (peer, spool) = one(manners, &["b@there.example", "c@there.example", "d@there.example"]).await;
        assert_eq!(peer.heard().messages[0].1.len(), 1);
        let states = [0, 1, 2].map(|n| spool.last(1, n).state);
        assert_eq!(states, [State::Delivered, State::Waiting, State::Failed]);
        assert_eq!(spool.last(1, 1).reply.text, "4.2.0 greylisted come again");
        assert!(spool.last(1, 1).next_try_s >= crate::spool::now_s() + 100);
        assert_eq!(spool.reports().len(), 1);
    }
}

#[tokio::test]
async fn what_is_neither_yes_nor_no_is_not_taken_for_a_delivery() {
    // DATA answered as if it were done; a final answer of another kind; text that is no reply; a reply without end.
    let endless = vec!["250-more"; 300].join("\r\n");
    let long = format!("250 {}", "x".repeat(10_000));
    for (command, reply) in [
        ("DATA", "250 2.0.0 taken"),
        (".", "354 go on"),
        (".", "hello?"),
        (".", endless.as_str()),
        ("MAIL", long.as_str()),
        (".", CLOSE),
        ("DATA", CLOSE),
        ("RCPT", CLOSE),
        ("MAIL", CLOSE),
    ] {
        let (peer, spool) = one(Manners::default().once(command, reply), &["b@there.example"]).await;
        let last = spool.last(1, 0);
        assert_eq!((last.state, last.tried_s.is_some()), (State::Waiting, true), "{command} {reply}: {last:?}");
        assert!(last.reply.text.len() < 1100 && peer.heard().connections == 1);
        assert!(spool.reports().is_empty());
    }
}

#[tokio::test]
async fn a_session_that_ends_with_421_keeps_what_was_decided() {
    let manners = Manners::default().once("RCPT TO:<c@", "550 5.1.1 no").once("RCPT TO:<d@", "421 4.3.2 going down");
    let (_peer, spool) = one(manners, &["b@there.example", "c@there.example", "d@there.example"]).await;
    let states = [0, 1, 2].map(|n| spool.last(1, n).state);
    assert_eq!(states, [State::Waiting, State::Failed, State::Waiting]);
    assert_eq!((spool.last(1, 0).reply.code, spool.last(1, 2).reply.text.as_str()), (421, "4.3.2 going down"));
}

#[tokio::test]
async fn a_refusal_and_a_hang_up_is_a_refusal() {
    let (_peer, spool) = one(
        Manners::default().once("MAIL", "550 5.7.1 not you").always("RCPT", "503 5.5.1 no").always("RSET", CLOSE),
        &["b@there.example"],
    )
    .await;
    assert_eq!((spool.last(1, 0).state, spool.last(1, 0).reply.text), (State::Failed, "5.7.1 not you".into()));
}

#[tokio::test]
async fn a_transaction_that_failed_does_not_spoil_the_next() {
    // The server answers "nested MAIL" unless the transaction that DATA refused is reset.
    let (peer, names) = there(Manners::default().once("DATA", "451 4.3.0 not now")).await;
    let site = Site::start(names, settings());
    site.spool.put(entry(1, &["b@there.example"]), BODY);
    site.spool.updated(1).await;
    site.spool.put(entry(2, &["b@there.example"]), BODY);
    site.spool.updated(2).await;
    assert_eq!((site.spool.last(1, 0).state, site.spool.last(2, 0).state), (State::Waiting, State::Delivered));
    assert_eq!((peer.heard().connections, peer.said("RSET").len()), (1, 1));
}

#[tokio::test]
async fn a_kept_connection_that_died_costs_nothing() {
    // 421 for idleness, and a bare close.
    for reply in ["421 4.4.2 idle for too long", CLOSE] {
        let (peer, names) = there(Manners::default().once("MAIL FROM:<second@", reply)).await;
        let site = Site::start(names, settings());
        site.spool.put(entry(1, &["b@there.example"]), BODY);
        site.spool.updated(1).await;
        let mut second = entry(2, &["b@there.example"]);
        second.sender = Some(Address::parse("second@us.example").unwrap());
        site.spool.put(second, BODY);
        site.spool.updated(2).await;
        assert_eq!(site.spool.last(2, 0).state, State::Delivered);
        assert_eq!((peer.heard().connections, peer.heard().messages.len()), (2, 2));
    }
}

#[tokio::test]
async fn tls_is_used_when_offered_and_given_up_on_a_new_connection_when_broken() {
    let dir = tempfile::tempdir().unwrap();
    let (peer, _) = one(Manners { tls: Some(tls(&dir)), ..Manners::default() }, &["b@there.example"]).await;
    let heard = peer.heard();
    assert!(heard.commands.iter().any(|(_, tls, c)| *tls && c.starts_with("MAIL")), "{heard:?}");
    assert_eq!((heard.connections, peer.said("EHLO").len()), (1, 2));

    for manners in [
        Manners { tls_broken: true, ..Manners::default() },
        Manners { tls: Some(tls(&dir)), ..Manners::default() }.always("STARTTLS", "454 4.7.0 no TLS now"),
    ] {
        let (peer, spool) = one(manners, &["b@there.example"]).await;
        let heard = peer.heard();
        assert_eq!(spool.last(1, 0).state, State::Delivered);
        assert_eq!((heard.connections, heard.messages[0].0), (2, 1), "{heard:?}");
    }
}

#[tokio::test]
async fn eight_bit_mail_is_converted_for_a_server_of_seven_bits() {
    let text = "Subject: s\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n";
    let signed = "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nü\r\n--b--\r\n";
    for (offers, text, arrives) in [(&["8BITMIME"][..], text, Some(text)), (&[], text, None), (&[], signed, None)] {
        let (peer, names) = there(Manners::offering(offers)).await;
        let site = Site::start(names, settings());
        let mut e = entry(1, &["b@there.example"]);
        e.eight_bit = true;
        site.spool.put(e, text.to_owned());
        site.spool.updated(1).await;
        let heard = peer.heard();
        match (arrives, text == signed) {
            (Some(text), _) => {
                assert_eq!(heard.messages[0].2, text.as_bytes());
                assert_eq!(peer.said("MAIL"), ["MAIL FROM:<a@us.example> BODY=8BITMIME"]);
            }
            (None, false) => {
                let got = &heard.messages[0].2;
                assert!(got.is_ascii() && peer.said("MAIL") == ["MAIL FROM:<a@us.example>"]);
                assert_eq!(mail_parser::MessageParser::default().parse(got).unwrap().body_text(0).unwrap(), "Grüße\r\n");
            }
            (None, true) => {
                let last = site.spool.last(1, 0);
                assert!(last.state == State::Failed && last.reply.text.starts_with("5.6.3"), "{last:?}");
            }
        }
    }
}

#[tokio::test]
async fn bare_line_ends_never_leave() {
    // The peer asserts it of every line.
    let (peer, names) = there(Manners::default()).await;
    let site = Site::start(names, settings());
    site.spool.put(entry(1, &["b@there.example"]), &b"Subject: s\r\n\r\nx\n.\nMAIL FROM:<evil@x.example>\r\n\r.\r\rend"[..]);
    site.spool.updated(1).await;
    assert_eq!(site.spool.last(1, 0).state, State::Delivered);
    assert_eq!((peer.heard().messages.len(), peer.said("MAIL").len()), (1, 1));
}

#[tokio::test]
async fn smtputf8_is_asked_for_only_where_it_is_needed() {
    let utf8 = |to: &str, flag: bool, body: &str| {
        let mut e = entry(1, &[to]);
        e.smtputf8 = flag;
        (e, body.to_owned())
    };
    let plain = String::from_utf8(BODY.to_vec()).unwrap();
    for (offers, (e, body), mail, rcpt) in [
        // An IDN domain alone goes in A-labels, even if the client said SMTPUTF8.
        (&[][..], utf8("b@there.example", true, &plain), Some("MAIL FROM:<a@us.example>"), "RCPT TO:<b@there.example>"),
        (
            &["SMTPUTF8", "8BITMIME"],
            utf8("张三@there.example", false, &plain),
            Some("MAIL FROM:<a@us.example> SMTPUTF8"),
            "RCPT TO:<张三@there.example>",
        ),
        (&["8BITMIME"], utf8("张三@there.example", true, &plain), None, ""),
        (&["8BITMIME"], utf8("b@there.example", true, "Subject: ü\r\n\r\n"), None, ""),
    ] {
        let (peer, names) = there(Manners::offering(offers)).await;
        let site = Site::start(names, settings());
        site.spool.put(e, body);
        site.spool.updated(1).await;
        match mail {
            Some(mail) => assert_eq!((peer.said("MAIL"), peer.said("RCPT")), (vec![mail.to_owned()], vec![rcpt.to_owned()])),
            None => {
                assert!(site.spool.last(1, 0).reply.text.starts_with("5.6.7") && site.spool.last(1, 0).state == State::Failed);
            }
        }
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_is_not_sent() {
    let (peer, spool) = one(Manners::offering(&["SIZE 20"]), &["b@there.example"]).await;
    assert!(spool.last(1, 0).state == State::Failed && spool.last(1, 0).reply.text.starts_with("5.3.4"));
    assert!(peer.said("MAIL").is_empty());
    // The report goes out all the same.
    assert_eq!(spool.reports().len(), 1);
}

#[tokio::test]
async fn many_recipients_are_split() {
    let to: Vec<String> = (0..250).map(|n| format!("r{n}@there.example")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    for (manners, sizes) in [
        (Manners::default(), vec![100, 100, 50]),
        (Manners::offering(&["PIPELINING", "LIMITS RCPTMAX=90"]), vec![90, 90, 70]),
        // The server does not say so before (RFC 5321 4.5.3.1.10).
        (Manners::default().once("RCPT TO:<r60@", "452 4.5.3 too many recipients"), vec![99, 100, 51]),
    ] {
        let (peer, spool) = one(manners, &to).await;
        let heard = peer.heard();
        assert_eq!(heard.messages.iter().map(|m| m.1.len()).collect::<Vec<_>>(), sizes);
        assert_eq!((heard.connections, spool.read(|s| s.entries.len())), (1, 0));
        // Each transaction was written down when it ended.
        assert_eq!(spool.read(|s| s.commits), 3);
    }
    // RFC 9422 MAILMAX: the next transaction needs a new connection.
    let (peer, _) = one(Manners::offering(&["LIMITS MAILMAX=1"]), &to).await;
    assert_eq!((peer.heard().connections, peer.heard().messages.len()), (3, 3));
}

#[tokio::test]
async fn a_silent_server_is_left_and_the_mail_waits() {
    let (_peer, names) = there(Manners { greeting: crate::peer::SILENCE.into(), ..Manners::default() }).await;
    let site = Site::start(names, Settings { reply_timeout: Duration::from_millis(50), ..settings() });
    site.spool.put(entry(1, &["b@there.example"]), BODY);
    site.spool.updated(1).await;
    let last = site.spool.last(1, 0);
    assert!(last.state == State::Waiting && last.reply.text.starts_with("4.4.2 waiting for the greeting"), "{last:?}");
}
