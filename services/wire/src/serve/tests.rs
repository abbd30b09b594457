use super::*;
use crate::listen::listen;
use crate::self_signed::{SelfSignedSettings, self_signed};
use crate::{ClientTls, LineEnds, connect};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const LONG: Duration = Duration::from_secs(20);

/// Counts while it lives.
struct Counted(Arc<AtomicUsize>);
impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    open: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

/// Says its peer's address, then echoes lines; `panic` panics; at most two connections.
fn start(settings: ServeSettings) -> Server {
    let endpoint = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let (address, stop, open) = (endpoint.address(), CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let counter = open.clone();
    let admit = move |_| {
        if counter.fetch_add(1, Ordering::SeqCst) >= 2 {
            counter.fetch_sub(1, Ordering::SeqCst);
            return Err(Some(Bytes::from_static(b"full\r\n")));
        }
        Ok(Counted(counter.clone()))
    };
    let handle = |connection: Connection<Counted>| async move {
        let Connection { mut stream, permit: _permit, stop } = connection;
        let hello = format!("{}\r\n", stream.peer_addr());
        stream.queue(hello.as_bytes());
        stream.flush().await.unwrap();
        loop {
            let line = tokio::select! {
                line = stream.read_line(100, LineEnds::Strict, LONG) => line.unwrap(),
                () = stop.cancelled() => { stream.queue(b"bye\r\n"); break; }
            };
            let Some(line) = line else { break };
            assert_ne!(&line[..], b"panic", "as asked");
            stream.queue(&line);
            stream.queue(b"\r\n");
            stream.flush().await.unwrap();
        }
        stream.shutdown().await;
    };
    let task = tokio::spawn(serve(endpoint, settings, stop.clone(), admit, handle));
    Server { address, stop, open, task }
}

async fn line(stream: &mut Stream) -> Option<String> {
    let line = stream.read_line(100, LineEnds::Strict, LONG).await.unwrap()?;
    Some(String::from_utf8(line.to_vec()).unwrap())
}

async fn say(stream: &mut Stream, text: &str) {
    stream.queue(text.as_bytes());
    stream.flush().await.unwrap();
}

#[tokio::test]
async fn connections_are_counted_refused_and_said_goodbye_to() {
    let server = start(ServeSettings::default());
    let mut one = connect(server.address, None).await.unwrap();
    assert_eq!(line(&mut one).await.unwrap(), one.local_addr().to_string());
    let mut two = connect(server.address, Some("127.0.0.2".parse().unwrap())).await.unwrap();
    assert!(line(&mut two).await.unwrap().starts_with("127.0.0.2:"));
    let mut three = connect(server.address, None).await.unwrap();
    assert_eq!(line(&mut three).await.as_deref(), Some("full"));
    assert_eq!(line(&mut three).await, None);
    // A panic ends one connection only, and gives its permit back.
    say(&mut two, "panic\r\n").await;
    assert_eq!(line(&mut two).await, None);
    say(&mut one, "still here\r\n").await;
    assert_eq!(line(&mut one).await.as_deref(), Some("still here"));
    assert_eq!(server.open.load(Ordering::SeqCst), 1);
    server.stop.cancel();
    assert_eq!(line(&mut one).await.as_deref(), Some("bye"));
    server.task.await.unwrap();
    assert_eq!(server.open.load(Ordering::SeqCst), 0);
    assert!(connect(server.address, None).await.is_err());
}

#[tokio::test]
async fn proxies_name_their_clients_and_nobody_else_may() {
    let settings = ServeSettings { proxies: vec!["127.0.0.9".parse().unwrap()], ..Default::default() };
    let server = start(settings);
    let mut proxied = connect(server.address, Some("127.0.0.9".parse().unwrap())).await.unwrap();
    say(&mut proxied, "PROXY TCP4 203.0.113.5 198.51.100.1 4711 25\r\nhi\r\n").await;
    assert_eq!(line(&mut proxied).await.as_deref(), Some("203.0.113.5:4711"));
    assert_eq!(line(&mut proxied).await.as_deref(), Some("hi"));
    let mut silent = connect(server.address, Some("127.0.0.9".parse().unwrap())).await.unwrap();
    say(&mut silent, "EHLO x\r\n").await;
    assert_eq!(silent.read_line(100, LineEnds::Strict, LONG).await.ok().flatten(), None);
    let mut liar = connect(server.address, None).await.unwrap();
    say(&mut liar, "PROXY TCP4 203.0.113.5 198.51.100.1 4711 25\r\n").await;
    assert!(line(&mut liar).await.unwrap().starts_with("127.0.0.1:"));
    server.stop.cancel();
    server.task.await.unwrap();
}

#[tokio::test]
async fn tls_from_the_first_byte_also_behind_a_proxy() {
    let dir = tempfile::tempdir().unwrap();
    let wanted = SelfSignedSettings { names: vec!["mail.example".into()], ..Default::default() };
    let made = self_signed(dir.path(), &wanted, time::OffsetDateTime::now_utc()).unwrap();
    let settings = ServeSettings {
        tls: Some(ServerTls::load(vec![made.server]).unwrap()),
        proxies: vec!["127.0.0.9".parse().unwrap()],
        ..Default::default()
    };
    let server = start(settings);
    let tls = ClientTls::verified(&made.ca).unwrap();
    let mut direct = connect(server.address, None).await.unwrap();
    direct.start_tls_client(&tls, "mail.example", LONG).await.unwrap();
    assert!(line(&mut direct).await.unwrap().starts_with("127.0.0.1:"));
    let mut proxied = connect(server.address, Some("127.0.0.9".parse().unwrap())).await.unwrap();
    // Queued, so that the header and the ClientHello come in one piece where the system likes.
    proxied.queue(b"PROXY TCP4 203.0.113.5 198.51.100.1 4711 993\r\n");
    proxied.start_tls_client(&tls, "mail.example", LONG).await.unwrap();
    assert_eq!(line(&mut proxied).await.as_deref(), Some("203.0.113.5:4711"));
    server.stop.cancel();
    server.task.await.unwrap();
}
