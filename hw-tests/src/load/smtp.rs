//! Messages by SMTP or LMTP on persistent connections; MAIL, RCPT and DATA go out together (RFC 2920).

use super::client::Client;
use super::message::Maker;
use super::{Target, ms};
use serde_json::{Value, json};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

#[derive(Debug, clap::Args)]
pub struct Smtp {
    #[command(flatten)]
    target: Target,
    /// Recipients; {} is replaced by numbers from 0, {d} by the number of the domain
    #[arg(long, default_value = "user{}@bench.example")]
    to: String,
    /// How many different recipients
    #[arg(long, default_value_t = 100)]
    users: u64,
    /// How many different domains for {d}
    #[arg(long, default_value_t = 1)]
    domains: u64,
    /// Recipients of each message
    #[arg(long, default_value_t = 1)]
    recipients: u64,
    /// Messages in all
    #[arg(long, default_value_t = 5000)]
    messages: u64,
    /// Bytes of each message
    #[arg(long, default_value_t = 10_240)]
    size: usize,
    /// Connections at once
    #[arg(long, default_value_t = 20)]
    connections: u64,
    /// Messages on one connection before it is closed and opened again; 0: all
    #[arg(long, default_value_t = 0)]
    per_connection: u64,
    /// Speak LMTP
    #[arg(long)]
    lmtp: bool,
    /// Append each acknowledged Message-ID to this file, one a line, after its 250
    #[arg(long)]
    journal: Option<std::path::PathBuf>,
    /// Keeps Message-IDs of runs apart
    #[arg(long, default_value_t = 1)]
    run: u64,
}

#[derive(Default)]
struct Counts {
    next: AtomicU64,
    answered: AtomicU64,
    refused: AtomicU64,
    /// The first refusal in words.
    refusal: std::sync::OnceLock<String>,
}

impl Smtp {
    /// Sends all of it.
    pub async fn run(self) -> Result<Value, String> {
        let smtp = Arc::new(self);
        let counts = Arc::new(Counts::default());
        let journal = match &smtp.journal {
            None => None,
            Some(path) => Some(Arc::new(std::sync::Mutex::new(
                std::fs::File::options().append(true).create(true).open(path).map_err(|e| format!("{}: {e}", path.display()))?,
            ))),
        };
        let maker = Arc::new(Maker::new(smtp.size, smtp.run));
        let start = Instant::now();
        let tasks: Vec<_> = (0..smtp.connections)
            .map(|_| tokio::spawn(worker(smtp.clone(), counts.clone(), maker.clone(), journal.clone())))
            .collect();
        let mut first_fault = None;
        for task in tasks {
            if let Err(fault) = task.await.map_err(|e| e.to_string()).and_then(|r| r) {
                first_fault.get_or_insert(fault);
            }
        }
        let elapsed = start.elapsed();
        let answered = counts.answered.load(Relaxed);
        if let (Some(fault), 0) = (&first_fault, answered) {
            return Err(fault.clone());
        }
        Ok(json!({
            "answered": answered,
            "refused": counts.refused.load(Relaxed) + smtp.messages.saturating_sub(counts.next.load(Relaxed).min(smtp.messages)),
            "seconds": elapsed.as_secs_f64(),
            "per_second": answered as f64 / elapsed.as_secs_f64(),
            "copies_per_second": (answered * smtp.recipients) as f64 / elapsed.as_secs_f64(),
            "ms": ms(elapsed),
            "fault": first_fault.or_else(|| counts.refusal.get().cloned()),
        }))
    }

    fn recipient(&self, n: u64) -> String {
        self.to.replace("{}", &(n % self.users).to_string()).replace("{d}", &(n % self.domains).to_string())
    }
}

async fn worker(
    smtp: Arc<Smtp>,
    counts: Arc<Counts>,
    maker: Arc<Maker>,
    journal: Option<Arc<std::sync::Mutex<std::fs::File>>>,
) -> Result<(), String> {
    let mut out = Vec::with_capacity(smtp.size + 4096);
    loop {
        let mut client = Client::connect(&smtp.target).await?;
        expect(client.reply().await?, 220)?;
        client.send(if smtp.lmtp { b"LHLO load.example\r\n" } else { b"EHLO load.example\r\n" }).await?;
        expect(client.reply().await?, 250)?;
        let mut here = 0;
        while smtp.per_connection == 0 || here < smtp.per_connection {
            let n = counts.next.fetch_add(1, Relaxed);
            if n >= smtp.messages {
                client.send(b"QUIT\r\n").await?;
                return Ok(());
            }
            here += 1;
            out.clear();
            out.extend_from_slice(b"MAIL FROM:<load@load.example>\r\n");
            for k in 0..smtp.recipients {
                // Writing to a Vec cannot fail.
                let _ = write!(out, "RCPT TO:<{}>\r\n", smtp.recipient(n * smtp.recipients + k));
            }
            out.extend_from_slice(b"DATA\r\n");
            client.send(&out).await?;
            expect(client.reply().await?, 250)?;
            let mut taken = 0;
            for _ in 0..smtp.recipients {
                let (code, text) = client.reply().await?;
                if code == 250 {
                    taken += 1;
                } else if taken == 0 && code >= 500 {
                    return Err(text);
                }
            }
            expect(client.reply().await?, 354)?;
            out.clear();
            maker.make(n, &mut out);
            out.extend_from_slice(b".\r\n");
            client.send(&out).await?;
            let mut refusal = None;
            for _ in 0..if smtp.lmtp { taken } else { 1 } {
                let (code, text) = client.reply().await?;
                if code != 250 {
                    refusal = Some(text);
                }
            }
            if let Some(text) = refusal {
                counts.refused.fetch_add(1, Relaxed);
                counts.refusal.get_or_init(|| text);
                continue;
            }
            counts.answered.fetch_add(1, Relaxed);
            if let Some(journal) = &journal {
                let line = format!("<{n}.{:x}@load.example>\n", smtp.run);
                let mut file = journal.lock().map_err(|_| "the journal's lock is poisoned".to_owned())?;
                file.write_all(line.as_bytes()).map_err(|e| format!("journal: {e}"))?;
            }
        }
        client.send(b"QUIT\r\n").await?;
    }
}

fn expect((code, text): (u16, String), wanted: u16) -> Result<(), String> {
    if code == wanted { Ok(()) } else { Err(format!("expected {wanted}, got: {text}")) }
}
