use super::*;
use crate::self_signed::{SelfSignedSettings, self_signed};
use std::pin::pin;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);

fn pair(size: usize) -> (Stream, DuplexStream) {
    let (here, there) = duplex(size);
    let address = "192.0.2.1:25".parse().unwrap();
    (Stream::boxed(Box::new(here), address, address), there)
}

fn streams(size: usize) -> (Stream, Stream) {
    let (here, there) = pair(size);
    let address = "127.0.0.1:4711".parse().unwrap();
    (here, Stream::boxed(Box::new(there), address, address))
}

fn tls(dir: &std::path::Path) -> (ServerTls, ClientTls) {
    let settings = SelfSignedSettings {
        names: vec!["mail.school.example".into()],
        ips: vec!["127.0.0.1".parse().unwrap()],
        ..Default::default()
    };
    let made = self_signed(dir, &settings, time::OffsetDateTime::now_utc()).unwrap();
    (ServerTls::load(vec![made.server]).unwrap(), ClientTls::verified(&made.ca).unwrap())
}

async fn line(stream: &mut Stream) -> String {
    let line = stream.read_line(1000, LineEnds::Tolerant, LONG).await.unwrap().unwrap();
    String::from_utf8(line.to_vec()).unwrap()
}

#[tokio::test]
async fn lines() {
    let (mut stream, mut peer) = pair(64 * 1024);
    peer.write_all(b"one\r\ntwo\n\r\nthr").await.unwrap();
    let first = stream.read_line(10, LineEnds::Strict, LONG).await.unwrap().unwrap();
    assert_eq!((&first[..], first.bare_lf), (&b"one"[..], false));
    let bare = stream.read_line(10, LineEnds::Strict, LONG).await.unwrap_err();
    assert!(matches!(bare, ReadError::BareLf) && bare.is_recoverable());
    assert_eq!(line(&mut stream).await, "");
    assert!(matches!(stream.read_line(10, LineEnds::Strict, SHORT).await, Err(ReadError::TimedOut)));
    peer.write_all(b"ee\ntail").await.unwrap();
    let third = stream.read_line(10, LineEnds::Tolerant, LONG).await.unwrap().unwrap();
    assert_eq!((&third[..], third.bare_lf), (&b"three"[..], true));
    drop(peer);
    assert!(matches!(stream.read_line(10, LineEnds::Strict, LONG).await, Err(ReadError::Truncated)));
}

#[tokio::test]
async fn the_end_between_lines_is_no_error() {
    let (mut stream, mut peer) = pair(1024);
    peer.write_all(b"last\r\n").await.unwrap();
    drop(peer);
    assert_eq!(line(&mut stream).await, "last");
    assert_eq!(stream.read_line(10, LineEnds::Strict, LONG).await.unwrap(), None);
    assert_eq!(stream.read_line(10, LineEnds::Strict, LONG).await.unwrap(), None);
    assert!(stream.fill(LONG).await.unwrap().is_empty());
}

#[tokio::test]
async fn long_lines_are_skipped_and_the_next_is_read() {
    let (mut stream, mut peer) = pair(1024);
    let writer = tokio::spawn(async move {
        for (n, end) in [(10, "\r\n"), (11, "\r\n"), (12, "\n"), (100_000, "\r\n"), (10, "\n"), (0, "\r\n")] {
            peer.write_all(format!("{}{end}", "x".repeat(n)).as_bytes()).await.unwrap();
        }
        let _ = peer.write_all(&vec![b'y'; SKIP_MAX_BYTES * 2]).await;
    });
    let mut read = async || stream.read_line(10, LineEnds::Tolerant, LONG).await;
    assert_eq!(read().await.unwrap().unwrap().len(), 10);
    assert!(matches!(read().await, Err(ReadError::LineTooLong { limit_bytes: 10 })));
    assert!(matches!(read().await, Err(ReadError::LineTooLong { .. })));
    assert!(matches!(read().await, Err(ReadError::LineTooLong { .. })));
    assert_eq!(read().await.unwrap().unwrap().len(), 10);
    assert_eq!(read().await.unwrap().unwrap().len(), 0);
    let flood = read().await.unwrap_err();
    assert!(matches!(flood, ReadError::Flood) && !flood.is_recoverable());
    drop(stream);
    writer.await.unwrap();
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn any_chunks_give_the_same_lines(
        lines in proptest::collection::vec(("[a-z\r ]{0,30}", proptest::bool::ANY), 0..20),
        cuts in proptest::collection::vec(1usize..20, 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let text: String = lines.iter().map(|(l, crlf)| format!("{l}{}", if *crlf { "\r\n" } else { "\n" })).collect();
        // A CR before a bare LF is a CRLF on the wire.
        let expected: Vec<String> = text.split_terminator('\n').map(|l| l.strip_suffix('\r').unwrap_or(l).to_owned()).collect();
        let got = runtime.block_on(async {
            let (mut stream, mut peer) = pair(7);
            let writer = tokio::spawn(async move {
                let mut rest = text.as_bytes();
                for n in cuts.iter().cycle() {
                    if rest.is_empty() { break; }
                    let n = (*n).min(rest.len());
                    peer.write_all(&rest[..n]).await.unwrap();
                    rest = &rest[n..];
                }
            });
            let mut got = Vec::new();
            while let Some(line) = stream.read_line(100, LineEnds::Tolerant, LONG).await.unwrap() {
                got.push(String::from_utf8(line.to_vec()).unwrap());
            }
            writer.await.unwrap();
            got
        });
        proptest::prop_assert_eq!(got, expected);
    }
}

#[tokio::test]
async fn bulk_data_and_counted_data() {
    let (mut stream, mut peer) = pair(1024 * 1024);
    peer.write_all(&vec![b'a'; 300_000]).await.unwrap();
    let mut literal = Vec::new();
    stream.read_exact_into(&mut literal, 200_000, LONG).await.unwrap();
    assert_eq!(literal.len(), 200_000);
    let mut seen = 0;
    while seen < 100_000 {
        let n = stream.fill(LONG).await.unwrap().len();
        assert_eq!(stream.take(n.min(10)).len(), n.min(10));
        stream.consume(n - n.min(10));
        seen += n;
    }
    assert_eq!(seen, 100_000);
    peer.write_all(b"xy").await.unwrap();
    drop(peer);
    assert!(matches!(stream.read_exact_into(&mut literal, 3, LONG).await, Err(ReadError::Truncated)));
}

#[tokio::test]
async fn an_idle_stream_holds_no_buffer() {
    let (mut stream, mut peer) = pair(1024 * 1024);
    peer.write_all(&vec![b'a'; 500_000]).await.unwrap();
    let mut sink = Vec::new();
    stream.read_exact_into(&mut sink, 500_000, LONG).await.unwrap();
    assert!(stream.read.bytes.capacity() > 0);
    stream.queue(b"answer\r\n");
    stream.flush().await.unwrap();
    assert!(stream.read_line(100, LineEnds::Strict, SHORT).await.is_err());
    assert_eq!(stream.read.bytes.capacity(), 0);
    assert_eq!(stream.write.tail().capacity(), 0);
}

#[tokio::test]
async fn a_cancelled_read_loses_nothing() {
    let (mut stream, mut peer) = pair(1024);
    peer.write_all(b"half").await.unwrap();
    {
        let mut read = pin!(stream.read_line(100, LineEnds::Strict, LONG));
        assert!(tokio::time::timeout(SHORT, read.as_mut()).await.is_err());
    }
    peer.write_all(b" and half\r\n").await.unwrap();
    assert_eq!(line(&mut stream).await, "half and half");
}

#[tokio::test]
async fn writes_are_gathered_in_order_and_a_deaf_peer_is_left() {
    let (mut stream, mut peer) = pair(64);
    let large = Bytes::from(vec![b'L'; 5000]);
    stream.queue(b"small ");
    stream.queue_bytes(large.clone());
    stream.queue_bytes(Bytes::from_static(b" tiny"));
    stream.queue_with(|out| out.extend_from_slice(b" with"));
    stream.queue_bytes(large.clone());
    assert_eq!(stream.queued_bytes(), 6 + 5000 + 5 + 5 + 5000);
    let reader = tokio::spawn(async move {
        let mut all = vec![0; 10_016];
        peer.read_exact(&mut all).await.unwrap();
        (all, peer)
    });
    stream.flush().await.unwrap();
    let (all, _peer) = reader.await.unwrap();
    assert_eq!(all, [b"small ", &large[..], b" tiny with", &large[..]].concat());
    assert_eq!(stream.queued_bytes(), 0);
    stream.set_write_timeout(SHORT);
    stream.queue_bytes(large);
    assert!(matches!(stream.flush().await, Err(WriteError::TimedOut)));
}

#[tokio::test]
async fn start_tls_with_everything_around_it() {
    let dir = tempfile::tempdir().unwrap();
    let (server_tls, client_tls) = tls(dir.path());
    let (mut server, mut client) = streams(4096);
    assert_eq!((server.tls_info(), server.channel_binding(), server.server_end_point()), (None, None, None));
    server.queue(b"+OK begin TLS\r\n");
    let both = async {
        let accept = server.start_tls(&server_tls, LONG);
        let connect = async {
            assert_eq!(line(&mut client).await, "+OK begin TLS");
            client.start_tls_client(&client_tls, "mail.school.example", LONG).await
        };
        tokio::join!(accept, connect)
    };
    let (accepted, connected) = both.await;
    accepted.unwrap();
    connected.unwrap();
    let info = server.tls_info().unwrap();
    assert_eq!((info.version, info.sni.as_deref(), info.peer_certificate), ("TLSv1.3", Some("mail.school.example"), false));
    assert!(info.cipher.starts_with("TLS_"), "{}", info.cipher);
    // RFC 9266: the same on both ends
    let binding = server.channel_binding().unwrap();
    assert_eq!(binding.len(), 32);
    assert_eq!(Some(binding), client.channel_binding());
    assert_eq!(server.server_end_point().unwrap().len(), 32);
    client.queue(b"over TLS\r\n");
    client.flush().await.unwrap();
    assert_eq!(line(&mut server).await, "over TLS");
    assert!(matches!(server.start_tls(&server_tls, LONG).await, Err(TlsError::State)));

    // COMPRESS above TLS, with commands that come together with the change.
    server.start_deflate().await.unwrap();
    client.start_deflate().await.unwrap();
    assert!(server.is_tls() && server.is_compressed());
    for text in ["short", &"long ".repeat(20_000)] {
        client.queue(text.as_bytes());
        client.queue(b"\r\n");
        let (sent, got) = tokio::join!(client.flush(), server.read_line(200_000, LineEnds::Strict, LONG));
        sent.unwrap();
        assert_eq!(&got.unwrap().unwrap()[..], text.as_bytes());
    }
    let (_, got) = tokio::join!(client.shutdown(), server.read_line(10, LineEnds::Strict, LONG));
    assert_eq!(got.unwrap(), None);
}

#[tokio::test]
async fn data_behind_starttls_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (server_tls, _) = tls(dir.path());
    let (mut server, mut client) = pair(4096);
    client.write_all(b"STARTTLS\r\nRSET\r\n").await.unwrap();
    assert_eq!(line(&mut server).await, "STARTTLS");
    assert!(matches!(server.start_tls(&server_tls, LONG).await, Err(TlsError::Buffered)));
}

#[tokio::test]
async fn tls_failures() {
    let dir = tempfile::tempdir().unwrap();
    let (server_tls, client_tls) = tls(dir.path());
    let (mut server, mut client) = pair(4096);
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(matches!(server.start_tls(&server_tls, LONG).await, Err(TlsError::Handshake(_))));
    assert!(server.fill(LONG).await.is_err(), "nothing works behind a failed handshake");
    let (mut server, _client) = pair(4096);
    assert!(matches!(server.start_tls(&server_tls, SHORT).await, Err(TlsError::TimedOut)));
    // A name that the certificate does not have: refused when verified, taken when opportunistic.
    for (config, fits) in [(client_tls, false), (ClientTls::opportunistic().unwrap(), true)] {
        let (mut server, mut client) = streams(4096);
        let connect = client.start_tls_client(&config, "other.example", LONG);
        let (_, connected) = tokio::join!(server.start_tls(&server_tls, LONG), connect);
        assert_eq!(connected.is_ok(), fits);
    }
}

#[tokio::test]
async fn compressed_data_does_not_grow_beyond_what_is_asked() {
    let (mut server, mut client) = streams(1024 * 1024);
    server.start_deflate().await.unwrap();
    client.start_deflate().await.unwrap();
    // 64 MB of nothing in 64 KB.
    let zeros = Bytes::from(vec![0; 1024 * 1024]);
    for _ in 0..64 {
        client.queue_bytes(zeros.clone());
        client.flush().await.unwrap();
    }
    let n = server.fill(LONG).await.unwrap().len();
    assert!(n <= 128 * 1024, "{n}");
    let line = server.read_line(1000, LineEnds::Tolerant, LONG).await;
    assert!(matches!(line, Err(ReadError::Flood)), "{line:?}");
    assert!(server.read.bytes.capacity() <= 256 * 1024);
}

#[tokio::test]
async fn broken_deflate() {
    let (mut server, mut client) = pair(1024);
    server.start_deflate().await.unwrap();
    client.write_all(&[0xff; 100]).await.unwrap();
    assert!(matches!(server.fill(LONG).await, Err(ReadError::Deflate)));
}

#[tokio::test]
async fn deflate_keeps_going_over_many_flushes() {
    let (mut server, mut client) = streams(64);
    server.start_deflate().await.unwrap();
    client.start_deflate().await.unwrap();
    let asking = tokio::spawn(async move {
        for i in 0..200 {
            client.queue(format!("{}{i}\r\n", "ab".repeat(i * 7 % 300)).as_bytes());
            client.flush().await.unwrap();
            let answer = line(&mut client).await;
            assert_eq!(answer, format!("ok {i}"));
        }
    });
    for i in 0..200 {
        assert_eq!(line(&mut server).await, format!("{}{i}", "ab".repeat(i * 7 % 300)));
        server.queue(format!("ok {i}\r\n").as_bytes());
        server.flush().await.unwrap();
    }
    asking.await.unwrap();
}

#[tokio::test]
async fn compressed_commands_that_came_with_the_change_are_read() {
    let (mut server, mut client) = streams(4096);
    client.queue(b"COMPRESS\r\n");
    client.flush().await.unwrap();
    client.start_deflate().await.unwrap();
    client.queue(b"first compressed\r\nsecond\r\n");
    client.flush().await.unwrap();
    assert_eq!(line(&mut server).await, "COMPRESS");
    assert!(!server.buffered().is_empty(), "the compressed bytes came in the same read");
    server.start_deflate().await.unwrap();
    assert_eq!((line(&mut server).await, line(&mut server).await), ("first compressed".into(), "second".into()));
}
