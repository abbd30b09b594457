//! The server around the session: real sockets and TLS, one write for many replies, shutdown, memory, limits.

mod memory;

use memory::{ANNA, School, Words};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use twinpost_sasl::{Bindings, Identity, Mechanism, Password};
use twinpost_smtp::{Limiter, Server, Settings};
use twinpost_wire::{ClientTls, LineEnds, ServeSettings, Stream, connect, listen, serve};

const HOST: &str = "mx.school.example";
const LONG: Duration = Duration::from_secs(20);

struct Client {
    io: DuplexStream,
    task: JoinHandle<()>,
    stop: CancellationToken,
    school: Arc<School>,
}

/// A session over a pipe, greeted by the server already.
async fn start<L: Limiter>(settings: Settings, limiter: L) -> Client {
    let school = Arc::new(School::default());
    let server = Server::new(settings, None, school.clone(), Arc::new(Words), Arc::new(limiter));
    let (io, there) = tokio::io::duplex(1 << 20);
    let stop = CancellationToken::new();
    let watched = stop.clone();
    let task = tokio::spawn(async move {
        let (peer, local) = ("192.0.2.7:4711".parse().unwrap(), "192.0.2.1:25".parse().unwrap());
        server.serve_connection(Stream::boxed(Box::new(there), peer, local), watched).await;
    });
    let mut client = Client { io, task, stop, school };
    assert!(client.reply().await.starts_with("220 "));
    client
}

impl Client {
    async fn send(&mut self, text: &str) {
        self.io.write_all(text.as_bytes()).await.unwrap();
    }

    /// One whole reply; empty when the server has closed.
    async fn reply(&mut self) -> String {
        let mut text = String::new();
        loop {
            let byte = tokio::time::timeout(LONG, self.io.read_u8()).await.expect("a reply comes");
            let Ok(byte) = byte else { return text };
            text.push(char::from(byte));
            if text.ends_with('\n') && text.lines().last().is_some_and(|l| l.as_bytes().get(3) == Some(&b' ')) {
                return text;
            }
        }
    }

    /// Sends lines and gives the code and enhanced code of the last reply.
    async fn ask(&mut self, text: &str) -> String {
        self.send(text).await;
        let reply = self.reply().await;
        reply.lines().last().unwrap_or_default().chars().take(9).collect()
    }

    async fn transaction(&mut self) {
        for (line, want) in [("MAIL FROM:<x@remote.example>\r\n", "250 2.1.0"), ("RCPT TO:<bob@school.example>\r\n", "250 2.1.5")]
        {
            assert_eq!(self.ask(line).await, want);
        }
        assert!(self.ask("DATA\r\n").await.starts_with("354"));
    }

    fn stored(&self) -> usize {
        self.school.stored.lock().unwrap().len()
    }
}

#[tokio::test]
async fn scram_plus_inside_implicit_tls_on_a_real_socket() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, _) = memory::tls(dir.path());
    let school = Arc::new(School::default());
    let server = Arc::new(Server::new(Settings::submission(HOST), None, school.clone(), Arc::new(Words), Arc::new(())));
    let endpoint = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = endpoint.address();
    let stop = CancellationToken::new();
    let settings = ServeSettings { tls: Some(tls), ..ServeSettings::default() };
    let serving = tokio::spawn(serve(
        endpoint,
        settings,
        stop.clone(),
        |_| Ok(()),
        move |connection| {
            let server = server.clone();
            async move { server.connection(connection).await }
        },
    ));

    let mut stream = connect(address, None).await.unwrap();
    stream.start_tls_client(&ClientTls::verified(&dir.path().join("ca.pem")).unwrap(), HOST, LONG).await.unwrap();
    let mut ask = async |line: Option<&str>| -> String {
        if let Some(line) = line {
            stream.queue(line.as_bytes());
            stream.queue(b"\r\n");
            stream.flush().await.unwrap();
        }
        loop {
            let line = stream.read_line(1000, LineEnds::Strict, LONG).await.unwrap().unwrap();
            if line[3] == b' ' {
                return String::from_utf8(line.to_vec()).unwrap();
            }
        }
    };
    assert!(ask(None).await.starts_with("220 "));
    assert_eq!(ask(Some("EHLO laptop.example")).await, "250 HELP");

    let bindings = Bindings { exporter: stream.channel_binding(), server_end_point: None };
    assert!(bindings.exporter.is_some(), "TLS 1.3 gives tls-exporter");
    let mut sasl = twinpost_sasl::client::Client::new(Mechanism::ScramSha256Plus, ANNA.into(), Password::new("pencil"), bindings);
    let mut line = format!("AUTH SCRAM-SHA-256-PLUS {}", base64(&sasl.initial().unwrap()));
    let reply = loop {
        stream.queue(line.as_bytes());
        stream.queue(b"\r\n");
        stream.flush().await.unwrap();
        let reply = stream.read_line(1000, LineEnds::Strict, LONG).await.unwrap().unwrap();
        let Some(challenge) = reply.strip_prefix(b"334 ") else { break reply };
        line = base64(&sasl.step(&unbase64(challenge)).unwrap());
    };
    assert!(reply.starts_with(b"235 2.7.0"), "{:?}", reply.bytes);
    sasl.finish(None).expect("the server has proved itself, too");

    stream.queue(b"MAIL FROM:<anna@school.example>\r\nRCPT TO:<bob@school.example>\r\nDATA\r\n");
    stream.flush().await.unwrap();
    for want in ["250", "250", "354"] {
        assert!(stream.read_line(1000, LineEnds::Strict, LONG).await.unwrap().unwrap().starts_with(want.as_bytes()));
    }
    // Larger than any buffer.
    stream.queue(b"From: anna@school.example\r\n\r\n");
    stream.queue("0123456789abcdef\r\n".repeat(60_000).as_bytes());
    stream.queue(b".\r\n");
    stream.flush().await.unwrap();
    assert!(stream.read_line(1000, LineEnds::Strict, LONG).await.unwrap().unwrap().starts_with(b"250 2.0.0"));
    let stored = school.stored.lock().unwrap().pop().unwrap();
    assert_eq!(stored.account.as_deref(), Some(ANNA));
    assert!(stored.text().contains("with ESMTPSA\r\n\t(TLSv1.3 ") && stored.message.bytes.len() > 60_000 * 18);
    stop.cancel();
    assert!(stream.read_line(1000, LineEnds::Strict, LONG).await.unwrap().unwrap().starts_with(b"421 4.3.2"));
    serving.await.unwrap();
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
fn unbase64(text: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

/// Counts the writes of the server.
struct Counting(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counting {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}
impl AsyncWrite for Counting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// RFC 2920 3.2: the replies to a group of commands leave in one write.
#[tokio::test]
async fn a_group_of_commands_is_answered_in_one_write() {
    let school = Arc::new(School::default());
    let server = Server::new(Settings::mx(HOST), None, school.clone(), Arc::new(Words), Arc::new(()));
    let (mut io, there) = tokio::io::duplex(1 << 20);
    let writes = Arc::new(AtomicUsize::new(0));
    let stream = Counting(there, writes.clone());
    let rcpts = "RCPT TO:<bob@school.example>\r\n".repeat(100);
    let all = format!("EHLO a\r\nMAIL FROM:<>\r\n{rcpts}DATA\r\n");
    io.write_all(all.as_bytes()).await.unwrap();
    io.write_all(b"A: b\r\n\r\n.\r\nQUIT\r\n").await.unwrap();
    let address = "192.0.2.7:25".parse().unwrap();
    server.serve_connection(Stream::boxed(Box::new(stream), address, address), CancellationToken::new()).await;
    let mut replies = String::new();
    io.read_to_string(&mut replies).await.unwrap();
    assert!(replies.ends_with("221 2.0.0 bye\r\n") && replies.matches("250 2.1.5").count() == 100, "{replies}");
    // The greeting and all up to 354; then 250 and 221.
    assert!(writes.load(Ordering::Relaxed) <= 3, "{} writes", writes.load(Ordering::Relaxed));
    assert_eq!(school.stored.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn shutdown_lets_a_message_finish_and_sends_idle_clients_away() {
    let mut idle = start(Settings::mx(HOST), ()).await;
    let mut busy = start(Settings::mx(HOST), ()).await;
    let mut slow = start(Settings { shutdown_grace_s: 0, ..Settings::mx(HOST) }, ()).await;
    for client in [&mut busy, &mut slow] {
        assert!(client.ask("EHLO a\r\n").await.starts_with("250"));
        client.transaction().await;
        client.send("A: b\r\n").await;
    }
    idle.stop.cancel();
    busy.stop.cancel();
    slow.stop.cancel();
    assert!(idle.reply().await.starts_with("421 4.3.2"));
    assert_eq!(idle.reply().await, "");
    idle.task.await.unwrap();
    // No grace: 421 instead of an answer, nothing stored.
    assert!(slow.reply().await.starts_with("421 4.3.2"));
    assert_eq!(slow.stored(), 0);
    assert_eq!(busy.ask("\r\nc\r\n.\r\n").await, "250 2.0.0");
    assert_eq!(busy.stored(), 1);
    assert!(busy.reply().await.starts_with("421 4.3.2"));
    busy.task.await.unwrap();
}

/// A delivery that has begun is waited for: its answer tells the truth.
#[tokio::test]
async fn shutdown_waits_for_a_delivery() {
    let mut client = start(Settings { shutdown_grace_s: 0, ..Settings::mx(HOST) }, ()).await;
    let go = Arc::new(Notify::new());
    *client.school.hold.lock().unwrap() = Some(go.clone());
    client.ask("EHLO a\r\n").await;
    client.transaction().await;
    client.send("A: b\r\n.\r\n").await;
    client.stop.cancel();
    go.notify_one();
    assert_eq!(client.reply().await.get(..9), Some("250 2.0.0"));
    assert_eq!(client.stored(), 1);
    assert!(client.reply().await.starts_with("421 4.3.2"));
}

/// A client that floods is told why before the connection ends, and is not read for ever.
#[tokio::test]
async fn a_message_far_too_large_is_cut_off_with_its_reason() {
    let school = Arc::new(School::default());
    let settings = Settings { size_max_bytes: 1000, ..Settings::mx(HOST) };
    let server = Arc::new(Server::new(settings, None, school.clone(), Arc::new(Words), Arc::new(())));
    let endpoint = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = endpoint.address();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(
        endpoint,
        ServeSettings::default(),
        stop.clone(),
        |_| Ok(()),
        move |connection| {
            let server = server.clone();
            async move { server.connection(connection).await }
        },
    ));
    let (mut read, mut write) = tokio::net::TcpStream::connect(address).await.unwrap().into_split();
    write.write_all(b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<bob@school.example>\r\nDATA\r\n").await.unwrap();
    let flood = tokio::spawn(async move {
        let block = "0123456789abcdef\r\n".repeat(1 << 14);
        let mut sent = 0;
        while sent < 1 << 30 && write.write_all(block.as_bytes()).await.is_ok() {
            sent += block.len();
        }
        sent
    });
    let mut replies = Vec::new();
    // The reset that ends a flood may follow the reply.
    let _ = read.read_to_end(&mut replies).await;
    let replies = String::from_utf8(replies).unwrap();
    assert!(replies.ends_with("552 5.3.4 message is larger than allowed\r\n"), "{replies}");
    assert!(flood.await.unwrap() < 64 << 20);
    assert!(school.stored.lock().unwrap().is_empty());
    stop.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn silence_ends_a_session() {
    let mut client = start(Settings { command_timeout_s: 0, ..Settings::mx(HOST) }, ()).await;
    assert!(client.reply().await.starts_with("421 4.4.2"));
    client.task.await.unwrap();
    let mut client = start(Settings { data_block_timeout_s: 0, ..Settings::mx(HOST) }, ()).await;
    client.ask("EHLO a\r\n").await;
    client.transaction().await;
    assert!(client.reply().await.starts_with("421 4.4.2"));
    let mut client = start(Settings { data_total_timeout_s: 0, ..Settings::mx(HOST) }, ()).await;
    client.ask("EHLO a\r\n").await;
    client.transaction().await;
    assert!(client.reply().await.starts_with("421 4.4.2"));
    assert_eq!(client.stored(), 0);
}

/// RFC 5321 4.1.1.4: a connection that breaks inside the data leaves nothing behind.
#[tokio::test]
async fn half_a_message_is_none() {
    for text in ["A: b\r\n\r\nhalf\r\n", "A: b\r\n.", "A: b\r\n.\r"] {
        let mut client = start(Settings::mx(HOST), ()).await;
        client.ask("EHLO a\r\n").await;
        client.transaction().await;
        client.send(text).await;
        drop(client.io);
        client.task.await.unwrap();
        assert!(client.school.stored.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn memory_for_messages_is_bounded() {
    let mut client = start(Settings { transit_max_bytes: 100 << 10, ..Settings::mx(HOST) }, ()).await;
    client.ask("EHLO a\r\n").await;
    for _ in 0..3 {
        client.transaction().await;
        client.send(&"0123456789abcdef\r\n".repeat(20_000)).await;
        assert_eq!(client.ask(".\r\n").await, "452 4.3.1");
        client.transaction().await;
        assert_eq!(client.ask("A: b\r\n.\r\n").await, "250 2.0.0");
    }
    assert_eq!(client.stored(), 3);
}

/// Lets two commands, one message and one recipient through.
struct Stingy {
    commands: u32,
    used: AtomicU32,
    messages: AtomicU32,
}

impl Limiter for Stingy {
    type Guard = ();
    fn guard(&self, _: IpAddr) {}
    fn command(&self, _: IpAddr) -> Result<(), Duration> {
        if self.used.fetch_add(1, Ordering::Relaxed) < self.commands { Ok(()) } else { Err(Duration::from_secs(60)) }
    }
    fn message(&self, _: IpAddr, _: Option<&Identity>) -> Result<(), Duration> {
        if self.messages.fetch_add(1, Ordering::Relaxed) == 0 { Ok(()) } else { Err(Duration::from_secs(30)) }
    }
    fn recipient(&self, _: IpAddr, _: &Identity) -> Result<(), Duration> {
        Err(Duration::from_secs(3000))
    }
}

fn stingy(commands: u32) -> Stingy {
    Stingy { commands, used: AtomicU32::new(0), messages: AtomicU32::new(0) }
}

#[tokio::test]
async fn the_limiter_is_asked() {
    let mut client = start(Settings::mx(HOST), stingy(2)).await;
    client.ask("EHLO a\r\n").await;
    assert_eq!(client.ask("NOOP\r\n").await, "250 2.0.0");
    assert_eq!(client.ask("NOOP\r\n").await, "421 4.7.0");
    assert_eq!(client.reply().await, "");

    let mut client = start(Settings::mx(HOST), stingy(99)).await;
    client.ask("EHLO a\r\n").await;
    client.transaction().await;
    assert_eq!(client.ask("A: b\r\n.\r\n").await, "250 2.0.0");
    client.send("MAIL FROM:<x@remote.example>\r\n").await;
    assert_eq!(client.reply().await, "450 4.7.1 too many messages for now, try again in 30 s\r\n");

    let open = Settings { auth: twinpost_smtp::AuthOffer::Always, tls_required: false, ..Settings::submission(HOST) };
    let mut client = start(open, stingy(99)).await;
    client.ask("EHLO a\r\n").await;
    let secret = base64(b"\0anna@school.example\0pencil");
    assert_eq!(client.ask(&format!("AUTH PLAIN {secret}\r\n")).await, "235 2.7.0");
    assert_eq!(client.ask("MAIL FROM:<anna@school.example>\r\n").await, "250 2.1.0");
    client.send("RCPT TO:<bob@school.example>\r\n").await;
    assert_eq!(client.reply().await, "450 4.7.1 too many recipients for now, try again in 3000 s\r\n");
}

/// What an idle connection costs beside its socket: TESTING says figures are measured elsewhere, this holds the order of
/// magnitude.
#[test]
fn a_session_is_small() {
    let server = Server::new(Settings::mx(HOST), None, Arc::new(School::default()), Arc::new(Words), Arc::new(()));
    let (io, _) = tokio::io::duplex(1);
    let address = "192.0.2.7:25".parse().unwrap();
    let session = server.serve_connection(Stream::boxed(Box::new(io), address, address), CancellationToken::new());
    assert!(size_of_val(&session) < 4096, "{} bytes", size_of_val(&session));
}
