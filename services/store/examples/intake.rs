//! How fast the store takes mail in, without a protocol in front: `cargo run --release -p twinpost-store --example intake [DIR]`.
//! Every answered message is on the disk. Prints one line a case.
#![allow(clippy::print_stdout, reason = "the figures are its purpose")]

use bytes::Bytes;
use nix::sys::resource::{UsageWho, getrusage};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use twinpost_message::{AccountId, Address, DomainId, TraceId};
use twinpost_store::files::{RealFiles, SlowFiles};
use twinpost_store::{Append, AppendMessage, Delivery, FlagNames, Folder, Limits, Options, OverQuotaPolicy, Store, Target};

/// Processor time and waits of the whole process, which a busy machine changes less than it changes the rates.
struct Used {
    cpu_us: i64,
    waits: i64,
}

impl Used {
    fn now() -> Self {
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("its own usage");
        let cpu_us = [usage.user_time(), usage.system_time()].iter().map(|t| t.tv_sec() * 1_000_000 + t.tv_usec()).sum();
        Self { cpu_us, waits: usage.voluntary_context_switches() }
    }
    fn each(&self, of: u64) -> String {
        let now = Self::now();
        let each = |from: i64, to: i64| (to - from) as f64 / of as f64;
        format!("{:.0} us of CPU and {:.2} waits each", each(self.cpu_us, now.cpu_us), each(self.waits, now.waits))
    }
}

/// 10 KB of text that compresses as mail does, different for each number.
fn message(number: u64, size: usize) -> Bytes {
    let mut text =
        format!("From: a@x.example\r\nTo: b@x.example\r\nSubject: message {number}\r\nMessage-ID: <{number}@x.example>\r\n\r\n");
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while text.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(&format!("{state:016x} the quick brown fox jumps over the lazy dog\r\n"));
    }
    Bytes::from(text)
}

fn target(account: i64) -> Target {
    Target {
        account: AccountId(account),
        domain: DomainId(1),
        folder: Folder::Inbox,
        flags: FlagNames::default(),
        limits: Limits::default(),
        recipient: Address::parse("a@x.example").expect("a valid address"),
    }
}

fn delivery(bytes: &Bytes, targets: Vec<Target>) -> Delivery {
    let body = Store::prepare(bytes);
    Delivery { body, trace: TraceId(1), received_s: 0, targets, spool: None, over_quota: OverQuotaPolicy::Refuse }
}

async fn intake(store: &Store, name: &str, tasks: u64, total: u64, users: u64, copies: i64, base: u64) {
    let next = Arc::new(AtomicU64::new(0));
    let (begun, before) = (Instant::now(), Used::now());
    let running: Vec<_> = (0..tasks)
        .map(|_| {
            let (store, next) = (store.clone(), next.clone());
            tokio::spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= total {
                        return;
                    }
                    let bytes = message(base + n, 10_000);
                    let first = i64::try_from(1 + n % users).unwrap_or(1);
                    let targets = (first..first + copies).map(target).collect();
                    store.deliver(delivery(&bytes, targets)).await.expect("the store takes mail");
                }
            })
        })
        .collect();
    for task in running {
        task.await.expect("a delivering task ends");
    }
    let s = begun.elapsed().as_secs_f64();
    println!(
        "{name}: {total} messages in {s:.3} s = {:.0}/s, {:.0} copies/s, {}",
        total as f64 / s,
        (total * copies.cast_unsigned()) as f64 / s,
        before.each(total)
    );
}

#[tokio::main]
async fn main() {
    let dir = std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("twinpost-intake"), PathBuf::from);
    // A leftover of an earlier run; absent is fine.
    let _ = std::fs::remove_dir_all(&dir);
    let store = Store::open(Options::new(&dir)).await.expect("the store opens");
    intake(&store, "warm-up", 20, 1000, 100, 1, 1 << 32).await;
    intake(&store, "20 connections, 100 users", 20, 5000, 100, 1, 2 << 32).await;
    intake(&store, "20 connections, one user", 20, 5000, 1, 1, 3 << 32).await;
    intake(&store, "400 connections, 100 users", 400, 5000, 100, 1, 4 << 32).await;
    intake(&store, "20 messages to 1,000 (new accounts)", 4, 20, 1, 1000, 5 << 32).await;
    intake(&store, "20 messages to 1,000 again", 4, 20, 1, 1000, 6 << 32).await;
    let inbox = store.mailbox_named(AccountId(1), "INBOX").await.expect("an INBOX").id;
    let (begun, before, n) = (Instant::now(), Used::now(), 3000u64);
    for i in 0..n {
        let message =
            AppendMessage { body: Store::prepare(&message((7 << 32) + i, 2_000)), flags: FlagNames::default(), received_s: 0 };
        let append = Append { mailbox: inbox, messages: vec![message], limits: Limits::default(), replace: None };
        store.append(append).await.expect("the store takes mail");
    }
    println!("APPEND of 2 KB one by one: {:.0}/s, {}", n as f64 / begun.elapsed().as_secs_f64(), before.each(n));
    let before = Used::now();
    for i in 0..n {
        std::hint::black_box(Store::prepare(&message((7 << 32) + i, 10_000)));
    }
    println!("making and preparing 10 KB alone: {}", before.each(n));
    let begun = Instant::now();
    let len = store.snapshot(inbox).await.expect("a snapshot").len();
    println!("first snapshot of {len}: {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    store.close().await;
    for delay_ms in [0, 5] {
        let _ = std::fs::remove_dir_all(&dir);
        let delay = Duration::from_millis(delay_ms);
        let files = Arc::new(SlowFiles { below: Arc::new(RealFiles), fsync_delay: delay });
        let store = Store::open(Options { files, commit_delay: delay, ..Options::new(&dir) }).await.expect("the store opens");
        intake(&store, &format!("100 connections, {delay_ms} ms in each sync"), 100, 5000, 100, 1, 8 << 32).await;
        store.close().await;
    }
}
