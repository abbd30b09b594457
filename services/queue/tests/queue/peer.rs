//! A mail server that answers by a script, on a socket, and remembers what it got.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use twinpost_sasl::{Bindings, Exchange, Mechanism, ScramSecret, Step};
use twinpost_wire::{LineEnds, ServerTls, Stream};

/// What a reply of the script may be instead of text.
pub const CLOSE: &str = "<close>";
pub const SILENCE: &str = "<silence>";

/// One server's manners.
#[derive(Clone)]
pub struct Manners {
    pub greeting: String,
    /// Lines after the name; none: EHLO is refused.
    pub ehlo: Option<Vec<String>>,
    pub name: String,
    pub tls: Option<ServerTls>,
    /// STARTTLS is offered, and then no TLS comes.
    pub tls_broken: bool,
    /// Beginning of a command (`.`: the end of data) and the reply, once each, on any connection.
    pub once: Vec<(String, String)>,
    /// The same, always.
    pub always: Vec<(String, String)>,
    /// Name and password for AUTH.
    pub password: Option<(String, String)>,
}

impl Default for Manners {
    fn default() -> Self {
        let ehlo = ["PIPELINING", "8BITMIME", "SIZE 10000000"].map(str::to_owned).to_vec();
        Self {
            greeting: "220 mx ready".into(),
            ehlo: Some(ehlo),
            name: "mx.there.example".into(),
            tls: None,
            tls_broken: false,
            once: Vec::new(),
            always: Vec::new(),
            password: None,
        }
    }
}

impl Manners {
    pub fn offering(lines: &[&str]) -> Self {
        Self { ehlo: Some(lines.iter().map(|l| (*l).to_owned()).collect()), ..Self::default() }
    }
    pub fn once(mut self, command: &str, reply: &str) -> Self {
        self.once.push((command.into(), reply.into()));
        self
    }
    pub fn always(mut self, command: &str, reply: &str) -> Self {
        self.always.push((command.into(), reply.into()));
        self
    }
}

/// What came.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub connections: usize,
    pub open: usize,
    pub most_open: usize,
    /// Number of the connection, over TLS, command.
    pub commands: Vec<(usize, bool, String)>,
    /// Recipients and text of what was accepted, with the connection.
    pub messages: Vec<(usize, Vec<String>, Vec<u8>)>,
}

pub struct Peer {
    pub to: SocketAddr,
    pub heard: watch::Receiver<Heard>,
    stop: CancellationToken,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One port for all hosts of this process, as 25 is outside.
pub fn port() -> u16 {
    static PORT: OnceLock<u16> = OnceLock::new();
    *PORT.get_or_init(|| std::net::TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port())
}

/// A loopback address that nobody else uses.
pub fn address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let pid = std::process::id();
    Ipv4Addr::new(127, (pid % 250) as u8 + 2, (pid / 250 % 64) as u8 + (n / 250) as u8 * 64, (n % 250) as u8 + 1).into()
}

impl Peer {
    pub async fn start(manners: Manners) -> Self {
        Self::at(address(), manners).await
    }

    pub async fn at(ip: IpAddr, manners: Manners) -> Self {
        let listener = TcpListener::bind((ip, port())).await.unwrap();
        let (tell, heard) = watch::channel(Heard::default());
        let (tell, stop) = (Arc::new(tell), CancellationToken::new());
        let once = Arc::new(parking_lot::Mutex::new(manners.once.clone()));
        let (to, ending) = (listener.local_addr().unwrap(), stop.clone());
        let number = AtomicUsize::new(0);
        tokio::spawn(async move {
            loop {
                let socket = tokio::select! { s = listener.accept() => s.unwrap().0, () = ending.cancelled() => return };
                socket.set_nodelay(true).unwrap();
                let n = number.fetch_add(1, Ordering::SeqCst);
                tell.send_modify(|h| {
                    h.connections += 1;
                    h.open += 1;
                    h.most_open = h.most_open.max(h.open);
                });
                let (tell, manners, once, ending) = (tell.clone(), manners.clone(), once.clone(), ending.clone());
                tokio::spawn(async move {
                    let talk = Talk { n, manners, once, tell: &tell };
                    let counted = tokio::select! { end = talk.run(Stream::tcp(socket).unwrap()) => end.is_some(), () = ending.cancelled() => false };
                    if !counted {
                        tell.send_modify(|h| h.open -= 1);
                    }
                });
            }
        });
        Self { to, heard, stop }
    }

    pub fn ip(&self) -> IpAddr {
        self.to.ip()
    }

    pub fn heard(&self) -> Heard {
        self.heard.borrow().clone()
    }

    pub async fn until(&self, what: &str, is: impl FnMut(&Heard) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(30), self.heard.clone().wait_for(is)).await.map(|r| r.is_ok());
        assert_eq!(waited, Ok(true), "never: {what}; heard {:?}", self.heard());
    }

    /// Commands that begin so.
    pub fn said(&self, command: &str) -> Vec<String> {
        self.heard().commands.into_iter().map(|(_, _, c)| c).filter(|c| c.starts_with(command)).collect()
    }
}

struct Talk<'a> {
    n: usize,
    manners: Manners,
    once: Arc<parking_lot::Mutex<Vec<(String, String)>>>,
    tell: &'a watch::Sender<Heard>,
}

impl Talk<'_> {
    fn scripted(&self, command: &str) -> Option<String> {
        let mut once = self.once.lock();
        if let Some(at) = once.iter().position(|(begin, _)| command.starts_with(begin.as_str())) {
            return Some(once.remove(at).1);
        }
        self.manners.always.iter().find(|(begin, _)| command.starts_with(begin.as_str())).map(|(_, r)| r.clone())
    }

    async fn line(stream: &mut Stream) -> Option<String> {
        let line = stream.read_line(100_000, LineEnds::Tolerant, Duration::from_secs(60)).await.ok()??;
        assert!(!line.bare_lf && !line.contains(&b'\r'), "a bare line end was sent: {line:?}");
        Some(String::from_utf8_lossy(&line).into_owned())
    }

    async fn say(stream: &mut Stream, text: &str) -> Option<()> {
        match text {
            CLOSE => return None,
            SILENCE => std::future::pending().await,
            text => stream.queue(text.as_bytes()),
        }
        stream.queue(b"\r\n");
        stream.flush().await.ok()
    }

    /// Some: the client said QUIT.
    async fn run(self, mut stream: Stream) -> Option<()> {
        Self::say(&mut stream, &self.manners.greeting).await?;
        let mut rcpts: Vec<String> = Vec::new();
        let mut in_mail = false;
        loop {
            let line = Self::line(&mut stream).await?;
            let tls = stream.is_tls();
            self.tell.send_modify(|h| h.commands.push((self.n, tls, line.clone())));
            let verb = line.split(' ').next().unwrap_or_default().to_owned();
            let scripted = self.scripted(&line);
            let default = match verb.as_str() {
                "EHLO" => match &self.manners.ehlo {
                    None => "502 5.5.1 what is that".to_owned(),
                    Some(lines) => {
                        let mut all = vec![format!("{} at your service", self.manners.name)];
                        all.extend(lines.clone());
                        if !tls && (self.manners.tls.is_some() || self.manners.tls_broken) {
                            all.push("STARTTLS".into());
                        }
                        let last = all.len() - 1;
                        let lines = all.iter().enumerate().map(|(i, l)| format!("250{}{l}", if i == last { ' ' } else { '-' }));
                        lines.collect::<Vec<_>>().join("\r\n")
                    }
                },
                "STARTTLS" => "220 go".into(),
                "MAIL" if in_mail => "503 5.5.1 nested MAIL".into(),
                "DATA" if rcpts.is_empty() => "554 5.5.1 no valid recipients".into(),
                "DATA" => "354 go".into(),
                "QUIT" => "221 bye".into(),
                "AUTH" => {
                    self.auth(&mut stream, &line).await?;
                    continue;
                }
                _ => "250 2.0.0 ok".into(),
            };
            let reply = scripted.unwrap_or(default);
            let yes = reply.starts_with('2');
            match verb.as_str() {
                "MAIL" if yes => in_mail = true,
                "RSET" => (in_mail, rcpts) = (false, Vec::new()),
                "RCPT" if yes => rcpts.push(line.clone()),
                _ => {}
            }
            if verb == "QUIT" {
                // Before the answer: the client may take it as leave to open another one.
                self.tell.send_modify(|h| h.open -= 1);
                let _ = Self::say(&mut stream, &reply).await;
                return Some(());
            }
            Self::say(&mut stream, &reply).await?;
            match verb.as_str() {
                "STARTTLS" if yes => {
                    if self.manners.tls_broken {
                        let _ = Self::say(&mut stream, "this is no TLS").await;
                        return None;
                    }
                    stream.start_tls(self.manners.tls.as_ref().unwrap(), Duration::from_secs(10)).await.ok()?;
                    (in_mail, rcpts) = (false, Vec::new());
                }
                "DATA" if reply.starts_with("354") => {
                    let mut text = Vec::new();
                    loop {
                        let line = stream.read_line(1_000_000, LineEnds::Strict, Duration::from_secs(60)).await.ok()??;
                        if &line[..] == b"." {
                            break;
                        }
                        text.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
                        text.extend_from_slice(b"\r\n");
                    }
                    let reply = self.scripted(".").unwrap_or_else(|| "250 2.0.0 taken".into());
                    if reply.starts_with('2') {
                        let taken = std::mem::take(&mut rcpts);
                        self.tell.send_modify(|h| h.messages.push((self.n, taken, text)));
                    }
                    (in_mail, rcpts) = (false, Vec::new());
                    self.tell.send_modify(|h| h.commands.push((self.n, tls, ".".into())));
                    Self::say(&mut stream, &reply).await?;
                }
                _ => {}
            }
        }
    }

    async fn auth(&self, stream: &mut Stream, line: &str) -> Option<()> {
        let (user, password) = self.manners.password.clone().unwrap();
        let mut words = line.split(' ').skip(1);
        let mechanism = Mechanism::parse(words.next()?)?;
        // A server that offers no -PLUS cannot bind: with bindings it would take the client's "I could" for an attack.
        let plus = self.manners.ehlo.iter().flatten().any(|l| l.contains("-PLUS"));
        let bindings = if plus {
            Bindings { exporter: stream.channel_binding(), server_end_point: stream.server_end_point() }
        } else {
            Bindings::NONE
        };
        let mut exchange = Exchange::start(mechanism, bindings);
        let mut step = match words.next() {
            Some(initial) => exchange.step(&BASE64.decode(initial).ok()?),
            None => exchange.first(),
        };
        loop {
            step = match step {
                Step::Challenge(bytes) => {
                    Self::say(stream, &format!("334 {}", BASE64.encode(bytes))).await?;
                    exchange.step(&BASE64.decode(Self::line(stream).await?).ok()?)
                }
                Step::NeedSecret { .. } => exchange.secret(ScramSecret::from_password(&password, b"salt salt", 4096)),
                Step::CheckPassword { user: u, password: p, .. } => {
                    let reply = if u == user && p.reveal() == password { "235 2.7.0 ok" } else { "535 5.7.8 wrong password" };
                    return Self::say(stream, reply).await;
                }
                Step::Proven { server_final, .. } => {
                    Self::say(stream, &format!("334 {}", BASE64.encode(server_final))).await?;
                    assert_eq!(Self::line(stream).await?, "");
                    return Self::say(stream, "235 2.7.0 ok").await;
                }
                Step::Failed(_) => return Self::say(stream, "535 5.7.8 wrong password").await,
            };
        }
    }
}
