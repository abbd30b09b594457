//! COMPRESS=DEFLATE (RFC 4978) as a working stream: the client packs and unpacks with flate2, the server with its own layer.

use crate::bench::{Bench, settings};
use crate::client::Client;

/// A message of about `kilobytes`, of which no two are the same.
fn mail(n: usize, kilobytes: usize) -> Vec<u8> {
    let mut text = format!("From: Ann <ann@x.example>\r\nSubject: number {n}\r\n\r\n").into_bytes();
    let mut seed = n as u64 + 1;
    while text.len() < kilobytes * 1024 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend_from_slice(format!("line {:x} of the message {n}, as mail is\r\n", seed >> 40).as_bytes());
    }
    text
}

async fn compressed(client: &mut Client) {
    client.ok("COMPRESS DEFLATE").await;
    client.start_deflate();
}

/// Everything that a session does, over a compressed stream.
async fn whole_session(bench: &Bench, client: &mut Client) {
    let mails: Vec<Vec<u8>> = (0..60).map(|n| mail(n, 30)).collect();
    for text in &mails {
        bench.memory.deliver_bytes(bench.eve, "INBOX", text.clone());
    }
    compressed(client).await;
    let (_, again) = client.run("COMPRESS DEFLATE").await;
    assert!(again.starts_with("NO [COMPRESSIONACTIVE]"), "{again}");
    let offered = client.ok("CAPABILITY").await;
    assert!(!String::from_utf8_lossy(&offered[0]).contains("COMPRESS"), "RFC 4978 2: not offered twice");

    client.ok("SELECT INBOX").await;
    let before = client.received_bytes;
    let told = client.ok("FETCH 1:* (UID BODY.PEEK[])").await;
    let packed = client.received_bytes - before;
    assert_eq!(told.len(), mails.len());
    for (n, (line, text)) in told.iter().zip(&mails).enumerate() {
        let uid = n + 1;
        let mut want = format!("* {uid} FETCH (UID {uid} BODY[] {{{}}}\r\n", text.len()).into_bytes();
        want.extend_from_slice(text);
        want.push(b')');
        assert!(*line == want, "message {uid} came out different");
    }
    let plain: usize = mails.iter().map(Vec::len).sum();
    assert!(packed * 2 < plain, "{packed} of {plain} bytes: not compressed");

    // IDLE inside: news are flushed at once, not kept in the compressor.
    client.send("i IDLE\r\n").await;
    assert_eq!(client.text().await, "+ idling");
    for n in 1..=3 {
        bench.memory.deliver_bytes(bench.eve, "INBOX", mail(n, 1));
        assert_eq!(client.text().await, format!("* {} EXISTS", mails.len() + n));
        assert_eq!(client.text().await, "* 0 RECENT");
    }
    client.send("DONE\r\n").await;
    assert_eq!(client.answer("i ").await.1, "OK Done");

    // A message that comes in, and many commands in one block.
    let text = mail(99, 90);
    let mut upload = format!("u APPEND INBOX {{{}+}}\r\n", text.len()).into_bytes();
    upload.extend_from_slice(&text);
    upload.extend_from_slice(b"\r\n");
    client.send(&upload).await;
    assert!(client.answer("u ").await.1.starts_with("OK [APPENDUID 1001 64]"));
    let told = client.ok("FETCH 64 BODY.PEEK[]").await;
    assert!(told[0].windows(text.len()).any(|w| w == text));
    let many: String = (0..300).map(|n| format!("p{n} NOOP\r\n")).collect();
    client.send(many).await;
    for n in 0..300 {
        assert_eq!(client.text().await, format!("p{n} OK Done"));
    }
    client.send("z LOGOUT\r\n").await;
    assert_eq!(client.rest().await, "* BYE Goodbye\r\nz OK Signed out\r\n");
}

#[tokio::test]
async fn a_whole_session_over_tcp() {
    let bench = Bench::new(settings());
    let mut client = Client::eve(bench.open_tcp().await).await;
    whole_session(&bench, &mut client).await;
}

#[tokio::test]
async fn a_whole_session_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::far(settings(), dir.path());
    let mut client = Client::new(bench.open_tls().await.0);
    client.ok("LOGIN eve@x.example secret").await;
    whole_session(&bench, &mut client).await;
}

#[tokio::test]
async fn commands_that_came_with_compress_are_compressed_already() {
    let bench = Bench::new(settings());
    let mut client = Client::eve(bench.open()).await;
    let mut packer = Client::new(tokio::io::empty());
    packer.start_deflate();
    let mut both = b"c COMPRESS DEFLATE\r\n".to_vec();
    both.extend(packer.packed(b"n NOOP\r\n"));
    client.send(&both).await;
    assert_eq!(client.text().await, "c OK Compressed from here on");
    client.start_deflate();
    assert_eq!(client.text().await, "n OK Done");
}

#[tokio::test]
async fn what_is_not_deflate_ends_the_connection() {
    let bench = Bench::new(settings());
    let (wire, end) = bench.open_watched();
    let mut client = Client::eve(wire).await;
    compressed(&mut client).await;
    // Block type 3 does not exist (RFC 1951 3.2.3).
    client.send_raw(&[0xff; 64]).await.unwrap();
    assert_eq!(client.rest().await, "");
    end.await.expect("no panic");
}

/// 100 MB of blanks in 100 KB: the command is refused where its limit is, and costs no more than that.
#[tokio::test]
async fn a_bomb_is_a_command_that_is_too_long() {
    let bench = Bench::new(settings());
    let mut client = Client::eve(bench.open()).await;
    compressed(&mut client).await;
    client.send("b ").await;
    let blank = vec![b' '; 1024 * 1024];
    for _ in 0..100 {
        client.send(&blank).await;
    }
    client.send("\r\nc NOOP\r\n").await;
    assert!(client.text().await.starts_with("b NO [LIMIT]"));
    assert_eq!(client.text().await, "c OK Done");
}
