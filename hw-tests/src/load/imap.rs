//! IMAP: filling, reading and idling.

use super::client::Client;
use super::message::Maker;
use super::{Target, ms};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

#[derive(Clone, Debug, clap::Args)]
struct Login {
    #[command(flatten)]
    target: Target,
    /// Name to sign in with
    #[arg(long)]
    user: String,
    /// Its password
    #[arg(long)]
    password: String,
    /// Mailbox
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
}

impl Login {
    async fn open(&self, user: &str) -> Result<Client, String> {
        let mut client = Client::connect(&self.target).await?;
        client.line().await?;
        client.send(format!("a LOGIN {user} \"{}\"\r\n", self.password).as_bytes()).await?;
        ok(client.tagged("a").await?)?;
        Ok(client)
    }
}

fn ok((bytes, line): (u64, String)) -> Result<u64, String> {
    if line.split(' ').nth(1) == Some("OK") { Ok(bytes) } else { Err(line) }
}

#[derive(Debug, clap::Args)]
pub struct Append {
    #[command(flatten)]
    login: Login,
    /// How many messages
    #[arg(long, default_value_t = 1000)]
    messages: u64,
    /// Bytes of each
    #[arg(long, default_value_t = 10_240)]
    size: usize,
    /// Number of the first message
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Keeps Message-IDs of runs apart
    #[arg(long, default_value_t = 1)]
    run: u64,
}

impl Append {
    /// Appends one after the other; each answer is awaited.
    pub async fn run(self) -> Result<Value, String> {
        let mut client = self.login.open(&self.login.user).await?;
        let maker = Maker::new(self.size, self.run);
        let mut body = Vec::new();
        let start = Instant::now();
        for n in self.first..self.first + self.messages {
            body.clear();
            maker.make(n, &mut body);
            let mut out = format!("a APPEND {} {{{}}}\r\n", self.login.mailbox, body.len()).into_bytes();
            client.send(&out).await?;
            if !client.line().await?.starts_with(b"+") {
                return Err("the server did not ask for the literal".to_owned());
            }
            out.clear();
            out.extend_from_slice(&body);
            out.extend_from_slice(b"\r\n");
            client.send(&out).await?;
            ok(client.tagged("a").await?)?;
        }
        let elapsed = start.elapsed();
        Ok(json!({ "appended": self.messages, "per_second": self.messages as f64 / elapsed.as_secs_f64(), "ms": ms(elapsed) }))
    }
}

#[derive(Debug, clap::Args)]
pub struct Read {
    #[command(flatten)]
    login: Login,
    /// Commands to time, each as `name=COMMAND`; without any: SELECT and the usual listings
    #[arg(long)]
    command: Vec<String>,
    /// Rounds, each on a connection of its own; `first_ms` is of the first, `best_ms` of the later ones
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

impl Read {
    /// Times each command.
    pub async fn run(self) -> Result<Value, String> {
        let usual = ["fetch_flags=FETCH 1:* (FLAGS)", "fetch_envelope=FETCH 1:* (ENVELOPE)"].map(str::to_owned);
        let wished = if self.command.is_empty() { usual.to_vec() } else { self.command };
        let select = format!("select=SELECT {}", self.login.mailbox);
        let mut report = Map::new();
        for round in 0..self.rounds {
            let mut client = self.login.open(&self.login.user).await?;
            for step in std::iter::once(&select).chain(&wished) {
                let (name, command) = step.split_once('=').ok_or_else(|| format!("not name=COMMAND: {step}"))?;
                let start = Instant::now();
                client.send(format!("a {command}\r\n").as_bytes()).await?;
                let bytes = ok(client.tagged("a").await?).map_err(|e| format!("{command}: {e}"))?;
                let took = ms(start.elapsed());
                let entry =
                    report.entry(name.to_owned()).or_insert_with(|| json!({ "first_ms": took, "best_ms": null, "bytes": bytes }));
                if round > 0 && entry["best_ms"].as_f64().is_none_or(|best| took < best) {
                    entry["best_ms"] = json!(took);
                }
            }
        }
        Ok(Value::Object(report))
    }
}

#[derive(Debug, clap::Args)]
pub struct Status {
    #[command(flatten)]
    login: Login,
    /// Accounts to look at: {} in the user name is replaced by numbers from 0, {d} by the number of the domain
    #[arg(long, default_value_t = 1)]
    users: u64,
    /// How many different domains for {d}
    #[arg(long, default_value_t = 1)]
    domains: u64,
}

impl Status {
    /// Counts the messages in the mailbox of each account, as a client sees them.
    pub async fn run(self) -> Result<Value, String> {
        let mut total = 0u64;
        for n in 0..self.users {
            let user = self.login.user.replace("{}", &n.to_string()).replace("{d}", &(n % self.domains).to_string());
            let mut client = self.login.open(&user).await?;
            client.send(format!("a SELECT {}\r\n", self.login.mailbox).as_bytes()).await?;
            loop {
                let line = String::from_utf8_lossy(client.line().await?).into_owned();
                if let Some(count) = line.strip_prefix("* ").and_then(|l| l.strip_suffix(" EXISTS")) {
                    total += count.parse::<u64>().map_err(|e| format!("{line}: {e}"))?;
                } else if line.starts_with("a ") {
                    ok((0, line))?;
                    break;
                }
            }
            client.send(b"b LOGOUT\r\n").await?;
        }
        Ok(json!({ "messages": total, "accounts": self.users }))
    }
}

#[derive(Debug, clap::Args)]
pub struct Idle {
    #[command(flatten)]
    login: Login,
    /// How many connections
    #[arg(long, default_value_t = 500)]
    connections: u64,
    /// Accounts to spread them over: {} in the user name is replaced by numbers from 0
    #[arg(long, default_value_t = 1)]
    users: u64,
    /// Connections that are opened at the same time
    #[arg(long, default_value_t = 8)]
    opening: u64,
}

impl Idle {
    /// Opens the connections, selects, idles, says so in one line, and stays until standard input ends.
    pub async fn run(self) -> Result<Value, String> {
        let idle = Arc::new(self);
        let next = Arc::new(AtomicU64::new(0));
        let openers: Vec<_> = (0..idle.opening.max(1)).map(|_| tokio::spawn(idle.clone().open_some(next.clone()))).collect();
        let mut clients = Vec::new();
        for opener in openers {
            clients.extend(opener.await.map_err(|e| e.to_string())??);
        }
        say(&json!({ "ready": clients.len() }))?;
        let waiting = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        waiting.await.map_err(|e| e.to_string())?.map_err(|e| format!("standard input: {e}"))?;
        for client in &mut clients {
            client.send(b"DONE\r\nc LOGOUT\r\n").await?;
        }
        for client in &mut clients {
            client.wait_closed().await?;
        }
        Ok(json!({ "connections": clients.len() }))
    }

    async fn open_some(self: Arc<Self>, next: Arc<AtomicU64>) -> Result<Vec<Client>, String> {
        let mut clients = Vec::new();
        loop {
            let n = next.fetch_add(1, Relaxed);
            if n >= self.connections {
                return Ok(clients);
            }
            let user = self.login.user.replace("{}", &(n % self.users.max(1)).to_string());
            let mut client = self.login.open(&user).await?;
            client.send(format!("a SELECT {}\r\n", self.login.mailbox).as_bytes()).await?;
            ok(client.tagged("a").await?)?;
            client.send(b"b IDLE\r\n").await?;
            if !client.line().await?.starts_with(b"+") {
                return Err("the server does not IDLE".to_owned());
            }
            clients.push(client);
        }
    }
}

/// A line for the program that started this one, before the report.
fn say(line: &Value) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|e| format!("standard output: {e}"))
}
