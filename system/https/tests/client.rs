//! The client against servers that are written byte for byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use twinpost_https::{Client, Error, Method, Request, header};

const LIMIT: Duration = Duration::from_secs(10);

/// Answers each request of a connection with the next of `script`, then closes; an empty answer is silence. Counts connections.
async fn server(script: &'static [&'static [u8]]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                for answer in script {
                    let mut seen = Vec::new();
                    while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
                        let mut buffer = [0; 1024];
                        match stream.read(&mut buffer).await {
                            Ok(length) if length > 0 => seen.extend_from_slice(&buffer[..length]),
                            _ => return,
                        }
                    }
                    assert!(seen.windows(8).any(|host| host.eq_ignore_ascii_case(b"\r\nhost: ")), "HTTP/1.1 wants a host");
                    if answer.is_empty() {
                        std::future::pending::<()>().await;
                    }
                    drop(stream.write_all(answer).await);
                }
            });
        }
    });
    (base, connections)
}

const YES: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: \"7\"\r\n\r\nyes";

#[tokio::test]
async fn a_connection_is_kept_and_replaced_when_it_has_died() {
    let (base, connections) = server(&[YES, YES]).await;
    let client = Client::new(&base, None, None).unwrap();
    for sent in 1..=6usize {
        let answer = client.send(&Request::new(Method::GET, "/"), LIMIT).await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.body[..], answer.header(&header::ETAG)), (200, &b"yes"[..], Some("\"7\"")));
        // Two requests a connection.
        assert_eq!(connections.load(Ordering::SeqCst), sent.div_ceil(2));
    }
}

#[tokio::test]
async fn refusals_are_answers_and_redirects_are_not_followed() {
    let (base, connections) =
        server(&[b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"]).await;
    let client = Client::new(&base, None, None).unwrap();
    let answer = client.send(&Request::new(Method::POST, "/x").json("{}"), LIMIT).await.unwrap();
    assert_eq!(answer.status.as_u16(), 302);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn silence_garbage_and_floods_end() {
    let get = Request::new(Method::GET, "/");
    let (base, _) = server(&[b""]).await;
    let client = Client::new(&base, None, None).unwrap();
    assert!(matches!(client.send(&get, Duration::from_millis(50)).await, Err(Error::TimedOut { limit_ms: 50, .. })));
    const BROKEN: [&[&[u8]]; 3] = [
        &[b"220 hello\r\n\r\n"],
        &[b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"],
        &[b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n"],
    ];
    for script in BROKEN {
        let (base, _) = server(script).await;
        let failed = Client::new(&base, None, None).unwrap().send(&get, LIMIT).await.unwrap_err();
        assert!(matches!(failed, Error::Exchange { .. }), "{failed}");
    }
    let nobody = Client::new("http://127.0.0.1:1", None, None).unwrap();
    assert!(matches!(nobody.send(&get, LIMIT).await, Err(Error::Connect { .. })));
    assert!(matches!(
        nobody.send(&Request::new(Method::GET, "no path"), LIMIT).await,
        Err(Error::Setting(_) | Error::Connect { .. })
    ));
    assert!(matches!(get.header(header::AUTHORIZATION, "a\nb"), Err(Error::Setting(_))));
}
