//! A server over the memory store, and connections to it: plain pipes with the address of a client far away or on loopback.

use crate::memory::Memory;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use twinpost_dialogue::{Duplex, Peer};
use twinpost_imap::{Server, Settings};
use twinpost_limits::Limiter;
use twinpost_message::AccountId;
use twinpost_sasl::{Accounts, Bindings, Denied, Identity, Password, ScramSecret};
use twinpost_wire::{ClientTls, SelfSignedSettings, ServerTls, Stream, self_signed};

/// Eve's password is `secret`; the suspended account is `sue`, the one without IMAP `pat`.
pub struct People(Arc<Memory>);

impl Accounts for People {
    async fn check_password(&self, user: &str, password: &Password, service: &str, _peer: IpAddr) -> Result<Identity, Denied> {
        assert_eq!(service, "imap");
        match user {
            "sue" => return Err(Denied::Suspended),
            "pat" => return Err(Denied::Service),
            _ => {}
        }
        let found = self.0.password(user).filter(|(_, known)| known == password.reveal());
        found.map(|(account, _)| Identity { account, address: user.to_owned() }).ok_or(Denied::Credentials)
    }
    async fn scram_secret(&self, user: &str) -> Result<ScramSecret, Denied> {
        Ok(match self.0.password(user) {
            Some((_, password)) => ScramSecret::from_password(&password, b"salt of 16 bytes", 4096),
            None => ScramSecret::fake(user, b"key of this installation"),
        })
    }
    async fn scram_done(&self, user: &str, service: &str, _peer: IpAddr) -> Result<Identity, Denied> {
        assert_eq!(service, "imap");
        let (account, _) = self.0.password(user).ok_or(Denied::Credentials)?;
        Ok(Identity { account, address: user.to_owned() })
    }
}

pub type TestServer = Server<Memory, People>;

pub struct Bench {
    pub memory: Arc<Memory>,
    pub eve: AccountId,
    pub server: TestServer,
    pub stop: CancellationToken,
    tls: Option<ClientTls>,
    peer: SocketAddr,
}

/// Settings whose waits are short enough for a test that provokes them.
pub fn settings() -> Settings {
    Settings {
        host: "mail.example".to_owned(),
        plain_text_sign_in: true,
        command_max_bytes: 8192,
        append_messages_max: 3,
        annotation_max_bytes: 64,
        connections_per_account: 4,
        ..Settings::default()
    }
}

impl Bench {
    pub fn new(settings: Settings) -> Self {
        let memory = Arc::new(Memory::default());
        let eve = memory.account(1, "eve@x.example", "secret");
        memory.account(2, "bob@x.example", "word");
        let people = Arc::new(People(memory.clone()));
        let server = Server::new(memory.clone(), people, settings, Limiter::new(twinpost_limits::Settings::default()), None);
        let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
        Self { memory, eve, server, stop: CancellationToken::new(), tls: None, peer }
    }

    /// From a client that is not on this machine: passwords need TLS, which STARTTLS offers.
    pub fn far(settings: Settings, dir: &std::path::Path) -> Self {
        let settings = Settings { plain_text_sign_in: false, ..settings };
        let mut bench = Self::new(settings.clone());
        let wish = SelfSignedSettings { names: vec!["mail.example".to_owned()], ..SelfSignedSettings::default() };
        let made = self_signed(dir, &wish, time::OffsetDateTime::now_utc()).unwrap();
        bench.tls = Some(ClientTls::verified(&made.ca).unwrap());
        let tls = ServerTls::load(vec![made.server]).unwrap();
        let people = Arc::new(People(bench.memory.clone()));
        let limiter = Limiter::new(twinpost_limits::Settings::default());
        bench.server = Server::new(bench.memory.clone(), people, settings, limiter, Some(tls));
        bench.peer = SocketAddr::from(([192, 0, 2, 7], 40_000));
        bench
    }

    /// Other limits for clients far away, from the next connection on.
    pub fn limit(&mut self, limits: twinpost_limits::Settings) {
        let people = Arc::new(People(self.memory.clone()));
        self.server = Server::new(self.memory.clone(), people, settings(), Limiter::new(limits), None);
    }

    pub fn open(&self) -> DuplexStream {
        self.open_watched().0
    }

    /// A connection, and its end on the server's side.
    pub fn open_watched(&self) -> (DuplexStream, JoinHandle<()>) {
        let (here, there) = tokio::io::duplex(16 * 1024);
        let server = self.server.clone();
        let local = SocketAddr::from(([127, 0, 0, 1], 143));
        let (peer, stop) = (self.peer, self.stop.clone());
        let end = tokio::spawn(async move { server.connection(Stream::boxed(Box::new(there), peer, local), stop).await });
        (here, end)
    }

    /// A connection over TCP.
    pub async fn open_tcp(&self) -> TcpStream {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (here, there) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (server, stop) = (self.server.clone(), self.stop.clone());
        let stream = Stream::tcp(there.unwrap().0).unwrap();
        tokio::spawn(async move { server.connection(stream, stop).await });
        here.unwrap()
    }

    /// A connection with TLS by STARTTLS, and what binds a sign-in to it.
    pub async fn open_tls(&self) -> (DuplexStream, Bindings) {
        let mut plain = self.open();
        plain.write_all(b"a STARTTLS\r\n").await.unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"a OK Begin TLS\r\n") {
            said.push(plain.read_u8().await.unwrap());
        }
        self.secure(Box::new(plain)).await.unwrap()
    }

    async fn secure(&self, plain: Box<dyn Duplex>) -> io::Result<(DuplexStream, Bindings)> {
        let Some(tls) = self.tls.clone() else { return Err(io::Error::other("this bench has no TLS")) };
        let mut stream = Stream::boxed(Box::new(plain), self.peer, self.peer);
        stream.start_tls_client(&tls, "mail.example", Duration::from_secs(5)).await.map_err(io::Error::other)?;
        let bindings = Bindings { exporter: stream.channel_binding(), server_end_point: None };
        let (here, there) = tokio::io::duplex(16 * 1024);
        tokio::spawn(pump(stream, there));
        Ok((here, bindings))
    }

    /// What a dialogue can ask for with `+ text`.
    fn act(&mut self, text: &str) -> io::Result<()> {
        let words: Vec<&str> = text.split(' ').collect();
        match words[..] {
            // Delivers `count` small messages as SMTP would.
            ["deliver", folder, count] => {
                for n in 1..=count.parse().map_err(io::Error::other)? {
                    let text = format!("From: Ann <ann@x.example>\nSubject: message {n}\n\nText {n}.\n");
                    self.memory.deliver(self.eve, folder, &text);
                }
            }
            ["mail", folder, name] => {
                let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail").join(name);
                self.memory.deliver_bytes(self.eve, folder, std::fs::read(path)?);
            }
            ["damage", folder, uid] => self.memory.damage(self.eve, folder, uid.parse().map_err(io::Error::other)?),
            ["index"] => self.memory.index_now(),
            ["quota", bytes] => self.memory.limit(self.eve, bytes.parse().map_err(io::Error::other)?),
            ["disk", state] => self.memory.disk_full.store(state == "full", Relaxed),
            ["suspend"] => self.memory.suspended.store(true, Relaxed),
            ["forget", folder, to] => self.memory.forget(self.eve, folder, to.parse().map_err(io::Error::other)?),
            ["seed", name] => crate::dialogues::seed(&self.memory, self.eve, name),
            ["close", "store"] => self.memory.close(),
            ["stop"] => self.stop.cancel(),
            _ => return Err(io::Error::other(format!("no such action: {text}"))),
        }
        Ok(())
    }
}

impl Peer for Bench {
    async fn connect(&mut self, _connection: u32) -> io::Result<Box<dyn Duplex>> {
        Ok(Box::new(self.open()))
    }
    async fn call(&mut self, text: &str) -> io::Result<()> {
        self.act(text)
    }
    async fn upgrade(&mut self, _connection: u32, plain: Box<dyn Duplex>) -> io::Result<Box<dyn Duplex>> {
        Ok(Box::new(self.secure(plain).await?.0))
    }
}

/// The plain end of a TLS stream.
async fn pump(mut stream: Stream, mut plain: DuplexStream) -> io::Result<()> {
    let mut out = [0u8; 4096];
    loop {
        tokio::select! {
            got = stream.fill(Duration::from_secs(60)) => {
                let bytes = got.map_err(io::Error::other)?.to_vec();
                if bytes.is_empty() {
                    return plain.shutdown().await;
                }
                stream.consume(bytes.len());
                plain.write_all(&bytes).await?;
            }
            n = plain.read(&mut out) => {
                let n = n?;
                if n == 0 {
                    stream.shutdown().await;
                    return Ok(());
                }
                stream.queue(&out[..n]);
                stream.flush().await.map_err(io::Error::other)?;
            }
        }
    }
}
