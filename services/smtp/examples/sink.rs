//! An SMTP server that stores nothing: what the protocol alone reaches, to hold the whole against.
//!
//! `cargo run --release -p twinpost-smtp --example sink -- 127.0.0.1:2525 [lmtp]` accepts every recipient and every
//! message and prints what it took in each second, until Ctrl-C.

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use twinpost_message::Address;
use twinpost_sasl::{Accounts, Denied, Identity, Password, ScramSecret};
use twinpost_smtp::{
    AcceptAll, Backend, Client, Envelope, Mail, MailAccepted, Message, Outcome, Rcpt, Refusal, Server, Settings,
};
use twinpost_wire::{ServeSettings, listen, serve};

#[derive(Default)]
struct Sink {
    nobody: Nobody,
    messages: AtomicU64,
    recipients: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Default)]
struct Nobody;

impl Accounts for Nobody {
    async fn check_password(&self, _: &str, _: &Password, _: &str, _: IpAddr) -> Result<Identity, Denied> {
        Err(Denied::Credentials)
    }
    async fn scram_secret(&self, user: &str) -> Result<ScramSecret, Denied> {
        Ok(ScramSecret::fake(user, b"sink"))
    }
    async fn scram_done(&self, _: &str, _: &str, _: IpAddr) -> Result<Identity, Denied> {
        Err(Denied::Credentials)
    }
}

impl Backend for Sink {
    type Accounts = Nobody;
    type Recipient = ();
    fn accounts(&self) -> &Nobody {
        &self.nobody
    }
    async fn mail_from(&self, _: &Client, _: &Mail) -> Result<MailAccepted, Refusal> {
        Ok(MailAccepted::default())
    }
    async fn recipient(&self, _: &Client, _: &Mail, _: &Rcpt, _: &[()]) -> Result<(), Refusal> {
        Ok(())
    }
    async fn may_send_as(&self, _: &Client, _: &[Address]) -> Result<(), Refusal> {
        Ok(())
    }
    async fn deliver(&self, _: &Client, envelope: &Envelope, _: Vec<()>, message: Message) -> Outcome {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.recipients.fetch_add(envelope.recipients.len() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(message.bytes.len() as u64, Ordering::Relaxed);
        Outcome::All(Ok(()))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:2525".to_owned()).parse()?;
    let settings =
        if args.next().as_deref() == Some("lmtp") { Settings::lmtp("sink.example") } else { Settings::mx("sink.example") };
    let endpoint = listen(address)?;
    println!("storing nothing on {}", endpoint.address());
    let sink = Arc::new(Sink::default());
    let server = Arc::new(Server::new(settings, None, sink.clone(), Arc::new(AcceptAll), Arc::new(())));
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
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut before = 0;
    loop {
        tokio::select! {
            _ = tick.tick() => {
                let messages = sink.messages.load(Ordering::Relaxed);
                if messages > before {
                    println!("{} messages/s", messages - before);
                }
                before = messages;
            }
            done = tokio::signal::ctrl_c() => {
                done?;
                break;
            }
        }
    }
    stop.cancel();
    serving.await?;
    let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
    println!("{} messages, {} recipients, {} bytes", count(&sink.messages), count(&sink.recipients), count(&sink.bytes));
    Ok(())
}
