//! What ends a connection from the server's side: time-outs, its own stop, and too many connections of one account. Waits are
//! short by settings; no test waits for a time, only for what the server says.

use crate::bench::{Bench, settings};
use crate::client::Client;
use std::time::Duration;
use twinpost_imap::Settings;

const SHORT: Duration = Duration::from_millis(120);
const TOO_SLOW: &str = "* BYE Nothing came for too long\r\n";
const DOWN: &str = "* BYE [UNAVAILABLE] The server is going down\r\n";

#[tokio::test]
async fn a_client_that_does_not_sign_in() {
    let bench = Bench::new(Settings { auth_timeout: SHORT, ..settings() });
    // Silent; in the middle of a command, of a literal, of an exchange.
    for said in ["", "a LOG", "a LOGIN {5}\r\nab", "a LOGIN {5+}\r\nab", "a AUTHENTICATE PLAIN\r\nabc"] {
        let (wire, end) = bench.open_watched();
        let mut client = Client::new(wire);
        client.text().await;
        client.send(said).await;
        let rest = client.rest().await;
        assert!(rest.ends_with(TOO_SLOW), "{said:?}: {rest:?}");
        end.await.unwrap();
    }
    // Busy, but not with signing in.
    let mut client = Client::new(bench.open());
    client.text().await;
    loop {
        if client.send_raw(b"n NOOP\r\n").await.is_err() {
            break;
        }
        match client.line().await.as_deref() {
            Some(b"n OK Done") => {}
            Some(bye) => {
                assert_eq!(bye, TOO_SLOW.trim_end().as_bytes());
                break;
            }
            None => panic!("closed without BYE"),
        }
    }
}

#[tokio::test]
async fn a_client_that_falls_silent() {
    let bench = Bench::new(Settings { idle_timeout: SHORT, ..settings() });
    let mut client = Client::eve(bench.open()).await;
    client.ok("SELECT INBOX").await;
    assert_eq!(client.rest().await, TOO_SLOW);
    // With NOTIFY it waits in another way.
    let mut client = Client::eve(bench.open()).await;
    client.ok("NOTIFY SET (PERSONAL (MailboxName))").await;
    assert_eq!(client.rest().await, TOO_SLOW);
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle() {
    let bench = Bench::new(Settings { transfer_timeout: SHORT, ..settings() });
    for said in ["a NOO", "a SEARCH TEXT {5}\r\nab", "a APPEND INBOX {50+}\r\nSubject: x", "a APPEND INBOX {3+}\r\nabc"] {
        for notify in [false, true] {
            let mut client = Client::eve(bench.open()).await;
            if notify {
                client.ok("NOTIFY SET (PERSONAL (MailboxName))").await;
            }
            client.send(said).await;
            let rest = client.rest().await;
            assert!(rest.ends_with(TOO_SLOW), "{said:?}: {rest:?}");
        }
    }
    assert!(bench.memory.truth(bench.eve, "INBOX").is_empty(), "nothing of a broken APPEND is stored");
}

#[tokio::test]
async fn idle_shows_signs_of_life_until_its_end() {
    // The time for a sign of life does not go up in the time-out.
    let (idle_keepalive, idle_timeout) = (Duration::from_millis(400), Duration::from_secs(1));
    let bench = Bench::new(Settings { idle_keepalive, idle_timeout, ..settings() });
    let mut client = Client::eve(bench.open()).await;
    client.ok("SELECT INBOX").await;
    client.send("i IDLE\r\n").await;
    let rest = client.rest().await;
    let signs = rest.strip_prefix("+ idling\r\n").and_then(|r| r.strip_suffix(TOO_SLOW)).unwrap_or_else(|| panic!("{rest}"));
    let alive = signs.matches("* OK Still here\r\n").count();
    assert!((1..=2).contains(&alive) && signs.len() == alive * "* OK Still here\r\n".len(), "{rest}");
}

#[tokio::test]
async fn connections_of_one_account() {
    let bench = Bench::new(settings());
    let mut open = Vec::new();
    for _ in 0..settings().connections_per_account {
        let (wire, end) = bench.open_watched();
        open.push((Client::eve(wire).await, end));
    }
    let mut one_more = Client::new(bench.open());
    one_more.text().await;
    for command in ["LOGIN eve@x.example secret", "AUTHENTICATE PLAIN AGV2ZUB4LmV4YW1wbGUAc2VjcmV0"] {
        assert_eq!(one_more.run(command).await.1, "NO [LIMIT] Too many connections of this account at once");
    }
    // Others have their own.
    let mut bob = Client::new(bench.open());
    bob.text().await;
    bob.ok("LOGIN bob@x.example word").await;
    // One leaves (here without a word): its place is free.
    let (left, end) = open.pop().unwrap();
    drop(left);
    end.await.unwrap();
    one_more.ok("LOGIN eve@x.example secret").await;
    assert_eq!(open.len(), 3);
}

/// A client in a loop is slowed down, not refused; the stop does not wait for it.
#[tokio::test]
async fn the_server_stops_while_a_client_is_slowed_down() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::far(settings(), dir.path());
    // The first commands pass, the next is due in a minute.
    bench.limit(twinpost_limits::Settings { commands_per_minute: 1, ..Default::default() });
    let (wire, end) = bench.open_watched();
    let mut client = Client::new(wire);
    client.text().await;
    client.send("n NOOP\r\n".repeat(50)).await;
    assert_eq!(client.text().await, "n OK Done");
    bench.stop.cancel();
    let rest = client.rest().await;
    let more = rest.strip_suffix(DOWN).unwrap_or_else(|| panic!("{rest}"));
    assert!(more.len() < 49 * "n OK Done\r\n".len(), "not slowed down");
    end.await.unwrap();
}

#[tokio::test]
async fn the_server_stops() {
    // Where the client stands, what it sent, and what it hears before the end.
    let places = [
        ("", "", ""),
        ("", "a LOGIN {3}\r\n", "+ Go on\r\n"),
        ("", "a AUTHENTICATE PLAIN\r\n", "+ \r\n"),
        ("LOGIN eve@x.example secret", "a NOO", ""),
        ("LOGIN eve@x.example secret", "a IDLE\r\n", "+ idling\r\n"),
        ("LOGIN eve@x.example secret", "a APPEND INBOX {50}\r\n", "+ Go on\r\n"),
        ("LOGIN eve@x.example secret", "a APPEND INBOX {3+}\r\nabc", ""),
    ];
    for notify in [false, true] {
        for (first, said, heard) in places {
            let bench = Bench::new(settings());
            let (wire, end) = bench.open_watched();
            let mut client = Client::new(wire);
            client.text().await;
            if !first.is_empty() {
                client.ok(first).await;
                if notify {
                    client.ok("NOTIFY SET (SELECTED (MessageNew MessageExpunge)) (PERSONAL (MailboxName))").await;
                }
            }
            client.send(said).await;
            if !heard.is_empty() {
                assert_eq!(format!("{}\r\n", client.text().await), heard);
            }
            bench.stop.cancel();
            assert_eq!(client.rest().await, DOWN, "{said:?}");
            end.await.unwrap();
            assert!(bench.memory.truth(bench.eve, "INBOX").is_empty());
        }
    }
}
