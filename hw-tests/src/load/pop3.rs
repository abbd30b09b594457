//! POP3: a client that takes everything.

use super::client::Client;
use super::{Target, ms};
use serde_json::{Value, json};
use std::time::Instant;

#[derive(Debug, clap::Args)]
pub struct Drain {
    #[command(flatten)]
    target: Target,
    /// Name to sign in with
    #[arg(long)]
    user: String,
    /// Its password
    #[arg(long)]
    password: String,
    /// RETR commands on their way at once
    #[arg(long, default_value_t = 50)]
    ahead: u64,
    /// Delete what was read
    #[arg(long)]
    delete: bool,
}

fn plus(line: &[u8]) -> Result<(), String> {
    if line.starts_with(b"+OK") { Ok(()) } else { Err(String::from_utf8_lossy(line).into_owned()) }
}

impl Drain {
    /// Signs in, reads all, and if asked deletes all.
    pub async fn run(self) -> Result<Value, String> {
        let mut client = Client::connect(&self.target).await?;
        plus(client.line().await?)?;
        client.send(format!("USER {}\r\n", self.user).as_bytes()).await?;
        plus(client.line().await?)?;
        client.send(format!("PASS {}\r\n", self.password).as_bytes()).await?;
        plus(client.line().await?)?;
        let start = Instant::now();
        client.send(b"STAT\r\n").await?;
        let stat = String::from_utf8_lossy(client.line().await?).into_owned();
        let count: u64 = stat.split(' ').nth(1).and_then(|n| n.parse().ok()).ok_or(stat)?;
        let (mut asked, mut got, mut bytes) = (0, 0, 0);
        while got < count {
            let mut batch = Vec::new();
            while asked < count && asked - got < self.ahead {
                asked += 1;
                batch.extend_from_slice(format!("RETR {asked}\r\n").as_bytes());
            }
            if !batch.is_empty() {
                client.send(&batch).await?;
            }
            // Half of the window is read before more is asked, so that commands go out in groups.
            for _ in 0..(asked - got).div_ceil(2) {
                plus(client.line().await?)?;
                bytes += client.dot().await?;
                got += 1;
            }
        }
        let read = start.elapsed();
        if self.delete {
            for n in 1..=count {
                client.send(format!("DELE {n}\r\n").as_bytes()).await?;
                plus(client.line().await?)?;
            }
        }
        client.send(b"QUIT\r\n").await?;
        plus(client.line().await?)?;
        Ok(json!({ "messages": count, "bytes": bytes, "ms": ms(read), "with_quit_ms": ms(start.elapsed()) }))
    }
}
