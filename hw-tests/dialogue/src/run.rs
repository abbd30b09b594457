//! Running a dialogue over connections.

use crate::pattern::{Token, Variables, expand, matches};
use crate::script::{Action, Script, Step};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Any connection.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The server as a dialogue reaches it. A closure `FnMut(u32) -> impl Future<Output = io::Result<impl Duplex>>` is one.
pub trait Peer: Send {
    /// Opens connection number `connection`.
    fn connect(&mut self, connection: u32) -> impl Future<Output = io::Result<Box<dyn Duplex>>> + Send;

    /// `+ TLS`: the client's side of a handshake.
    fn upgrade(&mut self, connection: u32, plain: Box<dyn Duplex>) -> impl Future<Output = io::Result<Box<dyn Duplex>>> + Send {
        let _ = (connection, plain);
        std::future::ready(Err(io::Error::other("this test has no TLS")))
    }

    /// `+ text`: whatever the test wants to do in between.
    fn call(&mut self, text: &str) -> impl Future<Output = io::Result<()>> + Send {
        let what = format!("this test does not know \"+ {text}\"");
        std::future::ready(Err(io::Error::other(what)))
    }
}

impl<F, Fut, D> Peer for F
where
    F: FnMut(u32) -> Fut + Send,
    Fut: Future<Output = io::Result<D>> + Send,
    D: Duplex + 'static,
{
    fn connect(&mut self, connection: u32) -> impl Future<Output = io::Result<Box<dyn Duplex>>> + Send {
        let opening = self(connection);
        async move { Ok(Box::new(opening.await?) as Box<dyn Duplex>) }
    }
}

/// How a dialogue is run.
#[derive(Clone, Debug)]
pub struct Dialogue {
    within: Duration,
    variables: Variables,
}

impl Default for Dialogue {
    fn default() -> Self {
        Self { within: Duration::from_secs(10), variables: Variables::new() }
    }
}

/// A dialogue went another way. `Display` tells all of it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The file.
    pub file: String,
    /// The line in it, from 1.
    pub line: usize,
    /// The line as written.
    pub expected: String,
    /// What came instead.
    pub got: String,
    /// Everything that was said.
    pub transcript: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}\n  expected  {}\n  got       {}\n--- transcript\n{}---",
            self.file, self.line, self.expected, self.got, self.transcript
        )
    }
}
impl std::error::Error for Failure {}

struct Connection {
    io: Option<Box<dyn Duplex>>,
    buffer: Vec<u8>,
    skip: bool,
}

/// Longest line that a server may send.
const LINE_MAX_BYTES: usize = 16 * 1024 * 1024;

enum Received {
    Line(Vec<u8>),
    Closed(Vec<u8>),
    TimedOut(Vec<u8>),
    Error(io::Error),
}

impl Connection {
    async fn line(&mut self, within: Duration) -> Received {
        loop {
            if let Some(at) = self.buffer.iter().position(|b| *b == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=at).collect();
                // A bare LF stays in the line, so that it does not match.
                if line.ends_with(b"\r\n") {
                    line.truncate(line.len() - 2);
                }
                return Received::Line(line);
            }
            if self.buffer.len() > LINE_MAX_BYTES {
                return Received::Error(io::Error::other("an endless line"));
            }
            let Some(io) = &mut self.io else { return Received::Closed(std::mem::take(&mut self.buffer)) };
            match timeout(within, io.read_buf(&mut self.buffer)).await {
                Err(_) => return Received::TimedOut(self.buffer.clone()),
                Ok(Ok(0)) => return Received::Closed(std::mem::take(&mut self.buffer)),
                Ok(Ok(_)) => {}
                // A server that closes with data unread resets the connection; TLS may end without its goodbye.
                Ok(Err(e)) if matches!(e.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) => {
                    return Received::Closed(std::mem::take(&mut self.buffer));
                }
                Ok(Err(e)) => return Received::Error(e),
            }
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\r' => out.push_str("\\r"),
                '\n' => out.push_str("\\n"),
                c if c.is_control() => {
                    let _ = write!(out, "\\x{:02x}", u32::from(c));
                }
                c => out.push(c),
            }
        }
        for b in chunk.invalid() {
            let _ = write!(out, "\\x{b:02x}");
        }
    }
    out
}

impl Dialogue {
    /// With the default time-out of 10 seconds for each expected line.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Another time-out.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }
    /// A name that the dialogue can use: `{name}`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.variables.insert(name.to_owned(), value.as_ref().to_vec());
        self
    }

    /// Runs a dialogue to its end. Gives back what was captured.
    ///
    /// # Errors
    /// [`Failure`], boxed because it carries the transcript.
    pub async fn run(self, script: &Script, peer: &mut impl Peer) -> Result<BTreeMap<String, Vec<u8>>, Box<Failure>> {
        let mut run =
            Run { within: self.within, variables: self.variables, connections: BTreeMap::new(), transcript: String::new() };
        for step in &script.steps {
            if let Err(got) = run.step(step, peer).await {
                return Err(Box::new(Failure {
                    file: script.name.clone(),
                    line: step.line,
                    expected: step.text.clone(),
                    got,
                    transcript: run.transcript,
                }));
            }
        }
        Ok(run.variables)
    }

    /// Parses and runs a text, and panics with the failure: for tests.
    ///
    /// # Panics
    /// When the text is not a dialogue or goes another way.
    pub async fn assert(self, name: &str, text: &str, peer: &mut impl Peer) -> BTreeMap<String, Vec<u8>> {
        let script = Script::parse(name, text).unwrap_or_else(|e| panic!("{e}"));
        self.run(&script, peer).await.unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Loads and runs a file, and panics with the failure: for tests.
    ///
    /// # Panics
    /// When the file is not a dialogue or goes another way.
    pub async fn assert_file(self, path: &std::path::Path, peer: &mut impl Peer) {
        let script = Script::load(path).unwrap_or_else(|e| panic!("{e}"));
        self.run(&script, peer).await.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

struct Run {
    within: Duration,
    variables: Variables,
    connections: BTreeMap<u32, Connection>,
    transcript: String,
}

impl Run {
    async fn step(&mut self, step: &Step, peer: &mut impl Peer) -> Result<(), String> {
        let id = step.connection;
        let is_call = matches!(&step.action, Action::Call(what) if what != "TLS" && what != "CLOSE");
        if !is_call && !self.connections.contains_key(&id) {
            let io = timeout(self.within, peer.connect(id))
                .await
                .map_err(|_| "connecting took too long".to_owned())?
                .map_err(|e| format!("cannot connect: {e}"))?;
            self.connections.insert(id, Connection { io: Some(io), buffer: Vec::new(), skip: false });
        }
        match &step.action {
            Action::Call(what) if is_call => {
                self.note(id, "+", what.as_bytes());
                timeout(self.within, peer.call(what)).await.map_err(|_| "took too long".to_owned())?.map_err(|e| e.to_string())
            }
            Action::Call(what) => self.change(id, what, peer).await,
            Action::Send { tokens, line_end } => self.send(id, tokens, *line_end).await,
            Action::Skip => {
                self.connection(id)?.skip = true;
                Ok(())
            }
            Action::Expect(tokens) => self.expect(id, tokens).await,
            Action::Closed => self.closed(id).await,
        }
    }

    fn connection(&mut self, id: u32) -> Result<&mut Connection, String> {
        self.connections.get_mut(&id).ok_or_else(|| format!("connection {id} is not open"))
    }

    fn note(&mut self, id: u32, who: &str, bytes: &[u8]) {
        let number = if id == 1 { String::new() } else { id.to_string() };
        let _ = writeln!(self.transcript, "{number}{who} {}", shown(bytes));
    }

    async fn change(&mut self, id: u32, what: &str, peer: &mut impl Peer) -> Result<(), String> {
        self.note(id, "+", what.as_bytes());
        let within = self.within;
        let connection = self.connection(id)?;
        if what == "CLOSE" {
            self.connections.remove(&id);
            return Ok(());
        }
        if !connection.buffer.is_empty() {
            return Err(format!("plain text before TLS: {}", shown(&connection.buffer)));
        }
        let plain = connection.io.take().ok_or("the connection is closed")?;
        let tls = timeout(within, peer.upgrade(id, plain))
            .await
            .map_err(|_| "the TLS handshake took too long".to_owned())?
            .map_err(|e| format!("TLS: {e}"))?;
        connection.io = Some(tls);
        Ok(())
    }

    async fn send(&mut self, id: u32, tokens: &[Token], line_end: bool) -> Result<(), String> {
        let mut bytes = expand(tokens, &self.variables)?;
        self.note(id, if line_end { "C:" } else { "C~" }, &bytes);
        if line_end {
            bytes.extend_from_slice(b"\r\n");
        }
        let within = self.within;
        let connection = self.connection(id)?;
        let io = connection.io.as_mut().ok_or("the connection is closed")?;
        timeout(within, async {
            io.write_all(&bytes).await?;
            io.flush().await
        })
        .await
        .map_err(|_| "the server does not read".to_owned())?
        .map_err(|e| format!("cannot send: {e}"))
    }

    async fn receive(&mut self, id: u32) -> Result<Received, String> {
        let within = self.within;
        let received = self.connection(id)?.line(within).await;
        if let Received::Line(line) = &received {
            let line = line.clone();
            self.note(id, "S:", &line);
        }
        Ok(received)
    }

    async fn expect(&mut self, id: u32, tokens: &[Token]) -> Result<(), String> {
        let skip = std::mem::take(&mut self.connection(id)?.skip);
        loop {
            match self.receive(id).await? {
                Received::Line(line) => {
                    if matches(tokens, &line, &mut self.variables)? {
                        return Ok(());
                    }
                    if !skip {
                        return Err(shown(&line));
                    }
                }
                Received::Closed(rest) => {
                    let rest = if rest.is_empty() { String::new() } else { format!(" behind {}", shown(&rest)) };
                    return Err(format!("[closed]{rest}"));
                }
                Received::TimedOut(rest) => {
                    return Err(format!("nothing in {:?}; a part of a line: \"{}\"", self.within, shown(&rest)));
                }
                Received::Error(e) => return Err(format!("an error: {e}")),
            }
        }
    }

    async fn closed(&mut self, id: u32) -> Result<(), String> {
        let skip = std::mem::take(&mut self.connection(id)?.skip);
        loop {
            match self.receive(id).await? {
                Received::Closed(rest) if rest.is_empty() => {
                    self.note(id, "S:", b"[closed]");
                    // The number may be used for a new connection.
                    self.connections.remove(&id);
                    return Ok(());
                }
                Received::Closed(rest) => return Err(shown(&rest)),
                Received::Line(_) if skip => {}
                Received::Line(line) => return Err(shown(&line)),
                Received::TimedOut(_) => return Err(format!("open after {:?}", self.within)),
                Received::Error(e) => return Err(format!("an error: {e}")),
            }
        }
    }
}
