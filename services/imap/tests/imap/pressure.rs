//! Clients that do not read, that send without end, and that announce more than they may.

use crate::bench::{Bench, settings};
use crate::client::Client;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use twinpost_imap::Settings;

fn impatient() -> Settings {
    Settings { write_timeout: Duration::from_millis(150), ..settings() }
}

/// 64 MB are asked for and not read: the write time-out ends the connection, and no more was read from the store than the two
/// batches that may be on their way.
#[tokio::test]
async fn a_client_that_does_not_read_a_large_answer() {
    let bench = Bench::new(impatient());
    let body = b"Subject: large\r\n\r\n0123456789abcdef\r\n".repeat(2700);
    assert!(body.len() < 100_000);
    for _ in 0..640 {
        bench.memory.deliver_bytes(bench.eve, "INBOX", body.clone());
    }
    let (wire, end) = bench.open_watched();
    let mut client = Client::eve(wire).await;
    client.ok("SELECT INBOX").await;
    client.send("f FETCH 1:* (BODY.PEEK[])\r\n").await;
    end.await.expect("the connection ended by itself");
    let read = bench.memory.body_reads.load(Relaxed);
    let ahead = usize::try_from(Settings::default().fetch_ahead_bytes).unwrap() / body.len();
    assert!(read > 0 && read <= 2 * ahead + 2, "{read} bodies were read for a client that takes none");
}

/// Commands without end, answers unread: the server stops reading after a chunk of answers.
#[tokio::test]
async fn a_client_that_sends_and_does_not_read() {
    let bench = Bench::new(impatient());
    let (wire, end) = bench.open_watched();
    let mut client = Client::eve(wire).await;
    let block = "x LIST \"\" * RETURN (STATUS (MESSAGES UIDNEXT UIDVALIDITY UNSEEN))\r\n".repeat(100);
    let mut sent = 0;
    while client.send_raw(block.as_bytes()).await.is_ok() {
        sent += block.len();
        assert!(sent < 4 * 1024 * 1024, "the server takes commands whose answers it cannot deliver");
    }
    end.await.expect("the connection ended by itself");
}

/// A slow reader gets all of it: what the server holds back is not lost.
#[tokio::test]
async fn a_client_that_reads_slowly_loses_nothing() {
    let bench = Bench::new(Settings { chunk_bytes: 512, fetch_ahead_bytes: 1024, parsed_batch: 3, ..settings() });
    for n in 0..200 {
        let text = format!("Subject: number {n}\n\n{}\n", "text ".repeat(n * 3));
        bench.memory.deliver(bench.eve, "INBOX", &text);
    }
    let mut client = Client::eve(bench.open()).await;
    client.ok("SELECT INBOX").await;
    let told = client.ok("FETCH 1:* (UID ENVELOPE BODY.PEEK[TEXT])").await;
    assert_eq!(told.len(), 200);
    for (n, line) in told.iter().enumerate() {
        let line = String::from_utf8_lossy(line);
        assert!(line.starts_with(&format!("* {} FETCH (UID {} ENVELOPE (NIL \"number {n}\"", n + 1, n + 1)), "{line}");
        assert!(line.ends_with(&format!("{}\r\n)", "text ".repeat(n * 3))));
    }
}

/// Literals before sign-in: the limit holds for each, for all of a command together, and for messages; the next command is found.
#[tokio::test]
async fn literals_before_sign_in() {
    let bench = Bench::new(settings());
    let mut client = Client::new(bench.open());
    client.text().await;
    // Not asked for (RFC 7888 4): it comes all the same and is thrown away.
    client.send(format!("a LOGIN {{300000+}}\r\n{} x\r\nb NOOP\r\n", "y".repeat(300_000))).await;
    assert!(client.text().await.starts_with("a NO [TOOBIG]"));
    assert_eq!(client.text().await, "b OK Done");
    // Asked for: refused instead of `+`, so that it does not come.
    client.send("c LOGIN {16385}\r\nd NOOP\r\n").await;
    assert!(client.text().await.starts_with("c NO [TOOBIG]"));
    assert_eq!(client.text().await, "d OK Done");
    // Two that are small enough, together too much.
    let half = "y".repeat(9000);
    client.send(format!("e LOGIN {{9000+}}\r\n{half} {{9000+}}\r\n{half}\r\nf NOOP\r\n")).await;
    assert!(client.text().await.starts_with("e NO [TOOBIG]"));
    assert_eq!(client.text().await, "f OK Done");
    // A line without end.
    client.send(format!("g LOGIN {}\r\nh NOOP\r\n", "z".repeat(200_000))).await;
    assert!(client.text().await.starts_with("g NO [LIMIT]"));
    assert_eq!(client.text().await, "h OK Done");
    // A message of somebody who is not signed in.
    client.send(format!("i APPEND INBOX {{400000+}}\r\n{}\r\nj NOOP\r\n", "m".repeat(400_000))).await;
    assert_eq!(client.text().await, "i BAD Sign in first");
    assert_eq!(client.text().await, "j OK Done");
    // Nothing of this hinders the right one, in literals of both kinds.
    client.send("k LOGIN {13+}\r\neve@x.example {6}\r\n").await;
    assert!(client.text().await.starts_with("+ "));
    client.send("secret\r\n").await;
    assert!(client.text().await.starts_with("k OK "));
}
