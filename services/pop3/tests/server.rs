//! Dialogues with a server over a mail system in memory.

#![allow(clippy::print_stdout)] // The drain prints its figures.

use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio_util::sync::CancellationToken;
use twinpost_dialogue::{Dialogue, Duplex, Peer, files};
use twinpost_limits::{Limiter, Settings as Limits};
use twinpost_message::view::{Entry, Snapshot};
use twinpost_message::{AccountId, BodyId, Flags, MailboxId, ModSeq, Uid, UidValidity};
use twinpost_pop3::{Backend, BackendError, Maildrop, Server, Settings};
use twinpost_sasl::{Accounts, Denied, Identity, Password, ScramSecret};
use twinpost_wire::{ClientTls, SelfSignedSettings, ServeSettings, ServerTls, Stream, connect, listen, self_signed};

#[derive(Default)]
struct Memory {
    /// UID and message; a body's number is its UID.
    messages: Mutex<Vec<(u32, Result<Bytes, BackendError>)>>,
    locked: Arc<Mutex<HashSet<i64>>>,
    /// The next expunge fails.
    broken: Mutex<bool>,
    /// UIDs of each expunge.
    expunges: Mutex<Vec<Vec<u32>>>,
    /// UIDs of each marking.
    seen: Mutex<Vec<Vec<u32>>>,
}

struct Lock(Arc<Mutex<HashSet<i64>>>, i64);
impl Drop for Lock {
    fn drop(&mut self) {
        self.0.lock().unwrap().remove(&self.1);
    }
}

fn identity(user: &str) -> Option<Identity> {
    let account = HashMap::from([("tim", 1), ("läufer", 2), ("broken", 3)]).get(user).copied()?;
    Some(Identity { account: AccountId(account), address: format!("{user}@school.example") })
}

impl Accounts for Memory {
    async fn check_password(&self, user: &str, password: &Password, service: &str, _: IpAddr) -> Result<Identity, Denied> {
        assert_eq!(service, "pop3");
        match (user, password.reveal()) {
            ("tim" | "läufer" | "broken", "tan staaf") => identity(user).ok_or(Denied::Credentials),
            ("suspended", "tan staaf") => Err(Denied::Suspended),
            ("noservice", "tan staaf") => Err(Denied::Service),
            ("down", _) => Err(Denied::Unavailable),
            _ => Err(Denied::Credentials),
        }
    }
    async fn scram_secret(&self, user: &str) -> Result<ScramSecret, Denied> {
        Ok(match identity(user) {
            Some(_) => ScramSecret::from_password("tan staaf", b"salt", 2),
            None => ScramSecret::fake(user, b"key"),
        })
    }
    async fn scram_done(&self, user: &str, _: &str, _: IpAddr) -> Result<Identity, Denied> {
        identity(user).ok_or(Denied::Credentials)
    }
}

impl Backend for Memory {
    type Guard = Lock;
    async fn open(&self, identity: &Identity) -> Result<Maildrop<Lock>, BackendError> {
        if identity.account.0 == 3 {
            return Err(BackendError::Unavailable("as asked".into()));
        }
        if !self.locked.lock().unwrap().insert(identity.account.0) {
            return Err(BackendError::InUse);
        }
        let guard = Lock(self.locked.clone(), identity.account.0);
        let entries: Vec<Entry> = self.messages.lock().unwrap().iter().map(|(uid, body)| entry(*uid, body)).collect();
        let next = entries.last().map_or(1, |e| e.uid.0 + 1);
        let snapshot = Snapshot::new(UidValidity(77), Uid(next), ModSeq(1), vec![], &entries);
        Ok(Maildrop { guard, mailbox: MailboxId(5), snapshot: Arc::new(snapshot) })
    }
    async fn bodies(&self, bodies: &[BodyId]) -> Vec<Result<Bytes, BackendError>> {
        let messages = self.messages.lock().unwrap();
        let find = |id: &BodyId| messages.iter().find(|(uid, _)| i64::from(*uid) == id.0);
        bodies.iter().map(|id| find(id).map_or(Err(BackendError::Gone), |(_, body)| body.clone())).collect()
    }
    async fn seen(&self, _: &Identity, mailbox: MailboxId, uids: &[Uid]) -> Result<(), BackendError> {
        assert_eq!(mailbox, MailboxId(5));
        self.seen.lock().unwrap().push(uids.iter().map(|u| u.0).collect());
        Ok(())
    }
    async fn expunge(&self, _: &Identity, mailbox: MailboxId, uids: &[Uid]) -> Result<(), BackendError> {
        assert_eq!(mailbox, MailboxId(5));
        if std::mem::take(&mut *self.broken.lock().unwrap()) {
            return Err(BackendError::Unavailable("the disk is full".into()));
        }
        self.messages.lock().unwrap().retain(|(uid, _)| !uids.contains(&Uid(*uid)));
        self.expunges.lock().unwrap().push(uids.iter().map(|u| u.0).collect());
        Ok(())
    }
}

fn entry(uid: u32, body: &Result<Bytes, BackendError>) -> Entry {
    Entry {
        uid: Uid(uid),
        flags: Flags(0),
        modseq: ModSeq(1),
        body: BodyId(i64::from(uid)),
        size_bytes: u32::try_from(body.as_ref().map_or(100, Bytes::len)).unwrap(),
        received_s: 0,
        saved_s: 0,
    }
}

const FIRST: &str = "Subject: first\r\n\r\n.\r\n..two dots\r\nlast\r\n";
const SECOND: &str = "Subject: second\r\nTo: tim\r\n\r\none\r\ntwo\r\nthree\r\n";

struct House {
    memory: Arc<Memory>,
    server: Arc<Server<Memory>>,
    client_tls: ClientTls,
    _dir: tempfile::TempDir,
}

fn house(settings: Settings) -> House {
    let memory = Arc::new(Memory::default());
    *memory.messages.lock().unwrap() = vec![
        (3, Ok(Bytes::from_static(FIRST.as_bytes()))),
        (7, Ok(Bytes::from_static(SECOND.as_bytes()))),
        (9, Err(BackendError::Damaged)),
    ];
    let dir = tempfile::tempdir().unwrap();
    let names = SelfSignedSettings { names: vec!["pop.school.example".into()], ..Default::default() };
    let made = self_signed(dir.path(), &names, std::time::SystemTime::now().into()).unwrap();
    let client_tls = ClientTls::verified(&made.ca).unwrap();
    let tls = ServerTls::load(vec![made.server]).unwrap();
    let limiter = Limiter::new(Limits { exempt_loopback: true, ..Limits::default() });
    let server = Server::new(memory.clone(), limiter, settings, Some(tls));
    House { memory, server, client_tls, _dir: dir }
}

fn open(server: &Arc<Server<Memory>>) -> DuplexStream {
    let (here, there) = duplex(64 * 1024);
    let address = "127.0.0.1:110".parse().unwrap();
    let server = server.clone();
    tokio::spawn(async move {
        let stream = Stream::boxed(Box::new(there), address, address);
        server.connection(stream, &CancellationToken::new()).await;
    });
    here
}

/// Private connections are made so by setting; STLS has a test of its own below.
struct Client<'a>(&'a House);

impl Peer for Client<'_> {
    async fn connect(&mut self, _: u32) -> io::Result<Box<dyn Duplex>> {
        Ok(Box::new(open(&self.0.server)))
    }
    async fn call(&mut self, text: &str) -> io::Result<()> {
        let memory = &self.0.memory;
        match text {
            "break the store" => *memory.broken.lock().unwrap() = true,
            "remove message 2 elsewhere" => memory.messages.lock().unwrap().retain(|(uid, _)| *uid != 7),
            "wait for the lock to be free" => {
                while !memory.locked.lock().unwrap().is_empty() {
                    tokio::task::yield_now().await;
                }
            }
            _ => {
                let (list, expected) = match text.split_once(' ') {
                    Some(("expunged", expected)) => (&memory.expunges, expected),
                    Some(("seen", expected)) => (&memory.seen, expected),
                    _ => return Err(io::Error::other("unknown")),
                };
                let got = format!("{:?}", list.lock().unwrap());
                if got != expected {
                    return Err(io::Error::other(got));
                }
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn dialogues() {
    for file in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues")).unwrap() {
        let plain = !file.file_name().unwrap().to_str().unwrap().contains("without-tls");
        let settings = Settings { host: "pop.school.example".into(), plain_text_sign_in: plain, ..Default::default() };
        Dialogue::new().with("long", "x".repeat(5000)).assert_file(&file, &mut Client(&house(settings))).await;
    }
}

async fn say(stream: &mut Stream, line: &str) -> String {
    stream.queue(line.as_bytes());
    stream.queue(b"\r\n");
    stream.flush().await.unwrap();
    hear(stream).await
}

async fn hear(stream: &mut Stream) -> String {
    let line = stream.read_line(1000, twinpost_wire::LineEnds::Strict, Duration::from_secs(20)).await.unwrap();
    String::from_utf8(line.expect("the server speaks").to_vec()).unwrap()
}

#[tokio::test]
async fn stls_and_scram_plus_over_tcp() {
    use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
    use twinpost_sasl::{Bindings, Mechanism, client::Client};
    let house = house(Settings::default());
    let endpoint = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let (address, stop) = (endpoint.address(), CancellationToken::new());
    let serving = tokio::spawn(house.server.clone().serve(endpoint, ServeSettings::default(), stop.clone()));
    let mut stream = connect(address, None).await.unwrap();
    assert!(hear(&mut stream).await.starts_with("+OK "));
    assert_eq!(say(&mut stream, "USER tim").await, "-ERR [AUTH] only over TLS, use STLS first");
    assert!(say(&mut stream, "STLS").await.starts_with("+OK"));
    stream.start_tls_client(&house.client_tls, "pop.school.example", Duration::from_secs(20)).await.unwrap();
    // RFC 2595 4: what was said before is forgotten, STLS is gone, -PLUS is there
    let mut capabilities = Vec::new();
    let mut line = say(&mut stream, "CAPA").await;
    while line != "." {
        capabilities.push(line);
        line = hear(&mut stream).await;
    }
    assert!(capabilities.contains(&"SASL SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN".to_owned()), "{capabilities:?}");
    assert!(!capabilities.contains(&"STLS".to_owned()));
    assert_eq!(say(&mut stream, "STLS").await, "-ERR TLS is on already");
    let bindings = Bindings { exporter: stream.channel_binding(), server_end_point: None };
    let mut client = Client::new(Mechanism::ScramSha256Plus, "tim".into(), Password::new("tan staaf"), bindings);
    let initial = BASE64.encode(client.initial().unwrap());
    let mut answer = say(&mut stream, &format!("AUTH SCRAM-SHA-256-PLUS {initial}")).await;
    while let Some(challenge) = answer.strip_prefix("+ ") {
        let response = client.step(&BASE64.decode(challenge).unwrap()).unwrap();
        answer = say(&mut stream, &BASE64.encode(response)).await;
    }
    assert_eq!(answer, "+OK 3 messages");
    client.finish(None).unwrap();
    stop.cancel();
    assert_eq!(hear(&mut stream).await, "-ERR [SYS/TEMP] the server is shutting down");
    serving.await.unwrap();
    assert!(house.memory.locked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn commands_behind_stls_are_not_obeyed() {
    let house = house(Settings::default());
    let mut client = open(&house.server);
    client.write_all(b"STLS\r\nUSER tim\r\n").await.unwrap();
    let mut all = String::new();
    client.read_to_string(&mut all).await.unwrap();
    let lines: Vec<&str> = all.lines().skip(1).collect();
    assert_eq!(lines, ["-ERR nothing may follow STLS before the handshake"], "behind the greeting");
}

/// Over TCP a socket that is closed with unread data would take the last word with it.
#[tokio::test]
async fn a_client_that_is_sent_away_reads_why() {
    let house = house(Settings::default());
    let endpoint = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let (address, stop) = (endpoint.address(), CancellationToken::new());
    let serving = tokio::spawn(house.server.clone().serve(endpoint, ServeSettings::default(), stop.clone()));
    let mut client = BufReader::new(tokio::net::TcpStream::connect(address).await.unwrap());
    client.write_all("rubbish\r\n".repeat(30).as_bytes()).await.unwrap();
    let mut line = String::new();
    while line != "-ERR too many mistakes\r\n" {
        line.clear();
        assert_ne!(client.read_line(&mut line).await.unwrap(), 0, "the last word comes");
    }
    // It goes on talking, as robots do; without a server that listens a little longer this resets the connection.
    for _ in 0..200 {
        client.write_all("rubbish\r\n".repeat(100).as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
    client.shutdown().await.unwrap();
    assert_eq!(client.read_line(&mut line).await.unwrap(), 0);
    stop.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn silence_ends_a_session_and_removes_nothing() {
    let idle = Duration::from_millis(50);
    let house = house(Settings { plain_text_sign_in: true, idle, ..Default::default() });
    let dialogue = "S: +OK *\nC: USER tim\\r\\nPASS tan staaf\\r\\nDELE 1\nS*\nS: +OK goes at QUIT\nS: -ERR idle for too long\nS: [closed]\n+ expunged []\n";
    Dialogue::new().assert("idle", dialogue, &mut Client(&house)).await;
    assert_eq!(house.memory.messages.lock().unwrap().len(), 3);
}

/// A mailbox of 5,000 messages of 10 KB, fetched and deleted by a client that pipelines (RFC 2449 6.6) and by one that
/// waits for each answer. Prints the times; `cargo test --release` gives figures worth comparing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_maildrop_is_drained() {
    const COUNT: u32 = 5_000;
    let house = house(Settings { plain_text_sign_in: true, ..Default::default() });
    let body = Bytes::from(format!("Subject: load\r\n\r\n{}", format!("{}\r\n", "x".repeat(76)).repeat(128)));
    let endpoint = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let (address, stop) = (endpoint.address(), CancellationToken::new());
    let serving = tokio::spawn(house.server.clone().serve(endpoint, ServeSettings::default(), stop.clone()));
    for pipelined in [false, true] {
        *house.memory.messages.lock().unwrap() = (1..=COUNT).map(|uid| (uid, Ok(body.clone()))).collect();
        house.memory.expunges.lock().unwrap().clear();
        let begun = Instant::now();
        let (reader, mut writer) = tokio::net::TcpStream::connect(address).await.unwrap().into_split();
        let mut reader = BufReader::with_capacity(256 * 1024, reader);
        let mut line = Vec::new();
        let mut read = async |expected: &str| {
            line.clear();
            reader.read_until(b'\n', &mut line).await.unwrap();
            assert!(line.starts_with(expected.as_bytes()), "{}", String::from_utf8_lossy(&line));
        };
        read("+OK").await;
        for command in ["USER tim\r\n", "PASS tan staaf\r\n"] {
            writer.write_all(command.as_bytes()).await.unwrap();
            read("+OK").await;
        }
        let commands = |n: u32| format!("RETR {n}\r\nDELE {n}\r\n");
        let sending = if pipelined {
            let all: String = (1..=COUNT).map(commands).collect();
            Some(tokio::spawn(async move {
                writer.write_all(all.as_bytes()).await.unwrap();
                writer.write_all(b"QUIT\r\n").await.unwrap();
                writer
            }))
        } else {
            for n in 1..=COUNT {
                writer.write_all(commands(n).as_bytes()).await.unwrap();
                read("+OK 10").await;
                for _ in 0..130 {
                    read("").await;
                }
                read(".\r\n").await;
                read("+OK").await;
            }
            writer.write_all(b"QUIT\r\n").await.unwrap();
            None
        };
        if sending.is_some() {
            for _ in 1..=COUNT {
                read("+OK 10").await;
                for _ in 0..130 {
                    read("").await;
                }
                read(".\r\n").await;
                read("+OK").await;
            }
        }
        read("+OK bye").await;
        println!("{COUNT} messages of {} bytes, pipelined {pipelined}: {:?}", body.len(), begun.elapsed());
        assert!(house.memory.messages.lock().unwrap().is_empty());
        assert_eq!(house.memory.expunges.lock().unwrap().len(), 1, "one commit");
        assert!(house.memory.seen.lock().unwrap().is_empty(), "what is deleted needs no mark");
    }
    stop.cancel();
    serving.await.unwrap();
}
