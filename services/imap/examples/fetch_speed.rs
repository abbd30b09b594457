//! How fast a whole server answers the listings that clients ask for when they open a large mailbox: 20,000 messages in memory, a
//! client that reads as fast as it can. `cargo run -p twinpost-imap --example fetch_speed`
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]
#![allow(dead_code, reason = "the store of the tests has faults that can be switched on; nothing is wrong here")]

#[path = "../tests/imap/memory.rs"]
mod memory;

use memory::Memory;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use twinpost_imap::{Server, Settings};
use twinpost_limits::Limiter;
use twinpost_message::AccountId;
use twinpost_sasl::{Accounts, Denied, Identity, Password, ScramSecret};
use twinpost_wire::Stream;

const MESSAGES: u32 = 20_000;

/// Lets everybody in.
struct Anybody;

impl Accounts for Anybody {
    async fn check_password(&self, user: &str, _: &Password, _: &str, _: IpAddr) -> Result<Identity, Denied> {
        Ok(Identity { account: AccountId(1), address: user.to_owned() })
    }
    async fn scram_secret(&self, _: &str) -> Result<ScramSecret, Denied> {
        Err(Denied::Unavailable)
    }
    async fn scram_done(&self, _: &str, _: &str, _: IpAddr) -> Result<Identity, Denied> {
        Err(Denied::Unavailable)
    }
}

/// Sends a command and reads up to its tagged line, wherever the reads cut it. Bytes and time.
async fn run(tcp: &mut TcpStream, buffer: &mut Vec<u8>, command: &str) -> (usize, f64) {
    buffer.clear();
    let start = Instant::now();
    tcp.write_all(format!("tag {command}\r\n").as_bytes()).await.expect("the server reads");
    loop {
        let n = tcp.read_buf(buffer).await.expect("the server answers");
        assert!(n > 0, "the server closed");
        // The tagged line is the last one: only the end has to be looked at.
        let tail = &buffer[buffer.len().saturating_sub(512)..];
        if tail.ends_with(b"\r\n") {
            let line = tail[..tail.len() - 2].iter().rposition(|b| *b == b'\n').map_or(tail, |at| &tail[at + 1..]);
            if line.starts_with(b"tag ") {
                assert!(line.starts_with(b"tag OK"), "{}", String::from_utf8_lossy(line));
                return (buffer.len(), start.elapsed().as_secs_f64());
            }
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> std::io::Result<()> {
    let memory = Arc::new(Memory::default());
    let account = memory.account(1, "eve@x.example", "secret");
    let list: Vec<(u32, u64, u64)> = (1..=MESSAGES).map(|n| (n * 2, [0, 1, 1, 3][(n % 4) as usize], u64::from(n))).collect();
    memory.seed(account, "INBOX", (1, MESSAGES * 2 + 1, u64::from(MESSAGES)), &list, &[]);
    // The load is one client in a loop; limits of commands a minute are not what is measured.
    let limits = twinpost_limits::Settings::default();
    let server = Server::new(
        memory,
        Arc::new(Anybody),
        Settings { plain_text_sign_in: true, ..Settings::default() },
        Limiter::new(limits),
        None,
    );
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let mut tcp = TcpStream::connect(listener.local_addr()?).await?;
    let stream = Stream::tcp(listener.accept().await?.0)?;
    tokio::spawn(async move { server.connection(stream, CancellationToken::new()).await });
    let mut buffer = Vec::with_capacity(16 * 1024 * 1024);
    run(&mut tcp, &mut buffer, "LOGIN eve secret").await;
    run(&mut tcp, &mut buffer, "SELECT INBOX").await;
    for command in [
        "FETCH 1:* (FLAGS)",
        "UID FETCH 1:* (FLAGS)",
        "UID FETCH 1:* (UID RFC822.SIZE INTERNALDATE FLAGS)",
        "FETCH 1:* (ENVELOPE)",
        "FETCH 1:* (UID FLAGS ENVELOPE BODYSTRUCTURE)",
        "UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE)])",
        "FETCH 1:* (BODY.PEEK[])",
        "UID SEARCH UNSEEN",
    ] {
        let mut best_s = f64::MAX;
        let mut bytes = 0;
        for _ in 0..5 {
            let (n, took_s) = run(&mut tcp, &mut buffer, command).await;
            (bytes, best_s) = (n, best_s.min(took_s));
        }
        println!("{command:<66} {:>8.2} ms  {:>9} bytes", best_s * 1e3, bytes);
    }
    Ok(())
}
