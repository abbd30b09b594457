//! IMAP: filling, reading and idling.

use super::client::Client;
use super::message::Maker;
use super::{Target, ms};
use serde_json::{Map, Value, json};
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
        for n in 0..self.messages {
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
    /// Text for SEARCH TEXT
    #[arg(long, default_value = "holiday")]
    text: String,
    /// Rounds; each figure is the best of them, `first` is the first
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

impl Read {
    /// Times each command.
    pub async fn run(self) -> Result<Value, String> {
        let mut report = Map::new();
        let search = format!("SEARCH TEXT {}", self.text);
        let steps = [
            ("select", format!("SELECT {}", self.login.mailbox)),
            ("fetch_flags", "FETCH 1:* (FLAGS)".to_owned()),
            ("fetch_envelope", "FETCH 1:* (ENVELOPE)".to_owned()),
            ("fetch_structure", "FETCH 1:* (BODYSTRUCTURE)".to_owned()),
            ("search_text", search),
            ("search_subject", "SEARCH SUBJECT \"message 4242 \"".to_owned()),
        ];
        for round in 0..self.rounds {
            let mut client = self.login.open(&self.login.user).await?;
            for (name, command) in &steps {
                client.send(format!("a {command}\r\n").as_bytes()).await?;
                let start = Instant::now();
                let bytes = ok(client.tagged("a").await?).map_err(|e| format!("{command}: {e}"))?;
                let took = ms(start.elapsed());
                let entry = report
                    .entry((*name).to_owned())
                    .or_insert_with(|| json!({ "first_ms": took, "best_ms": took, "bytes": bytes }));
                if round > 0 && entry["best_ms"].as_f64().is_some_and(|best| took < best) {
                    entry["best_ms"] = json!(took);
                }
            }
        }
        Ok(Value::Object(report))
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
    /// Process whose memory is read before and after
    #[arg(long)]
    pid: Vec<u32>,
}

impl Idle {
    /// Opens the connections, selects, idles, and reads the server's memory.
    pub async fn run(self) -> Result<Value, String> {
        let before = self.rss_kib()?;
        let mut clients = Vec::new();
        for n in 0..self.connections {
            let mut client = self.login.open(&self.login.user.replace("{}", &(n % self.users).to_string())).await?;
            client.send(format!("a SELECT {}\r\n", self.login.mailbox).as_bytes()).await?;
            ok(client.tagged("a").await?)?;
            client.send(b"b IDLE\r\n").await?;
            if !client.line().await?.starts_with(b"+") {
                return Err("the server does not IDLE".to_owned());
            }
            clients.push(client);
        }
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let after = self.rss_kib()?;
        let report = json!({ "connections": self.connections, "before_kib": before, "after_kib": after, "kib_each": (after.saturating_sub(before)) as f64 / self.connections as f64 });
        for client in &mut clients {
            client.send(b"DONE\r\nc LOGOUT\r\n").await?;
            client.wait_closed().await?;
        }
        Ok(report)
    }

    /// Memory of the server's processes: private pages, so that shared libraries do not count for each.
    fn rss_kib(&self) -> Result<u64, String> {
        self.pid.iter().try_fold(0, |sum, pid| {
            let path = format!("/proc/{pid}/smaps_rollup");
            let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
            let private = |name: &str| {
                text.lines()
                    .filter(|l| l.starts_with(name))
                    .filter_map(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok())
                    .sum::<u64>()
            };
            Ok(sum + private("Private_Clean:") + private("Private_Dirty:"))
        })
    }
}
