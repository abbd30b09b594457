//! Measures on an instantly answering simulated modem: the time from an alarm's `Submit` to `AT+CMGS` on the wire with
//! an idle modem, and the host's overhead for each part when many wait. One JSON line on standard output.
//!
//! `cargo run --release -p twinpost-sms --example sms_bench [alarms] [parts]`

use std::io::Write;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use twinpost_hw_modem::{Line, Options, Simulator};
use twinpost_sms::api::{Class, Condition, SmsState, State, Submit};
use twinpost_sms::{Client, Language, Orders, Seen, Settings, serve};

struct None;

impl Orders for None {
    async fn status(&self, _: &State, _: Language) -> String {
        String::new()
    }

    async fn acknowledge(&self, _: u32, _: &str, _: Language) -> Result<String, String> {
        Err(String::new())
    }

    async fn switch(&self, _: &str, _: Language) -> Result<String, String> {
        Err(String::new())
    }
}

fn message(key: String, class: Class) -> Submit {
    Submit {
        key,
        class,
        to: "+8613800138000".into(),
        text: "Twinpost bench: disk 2 of the array has failed, the other one works.".into(),
        validity_s: Option::None,
        report: false,
        flash: false,
        durable: class == Class::Alarm,
        account: Option::None,
        domain: Option::None,
        parts_max: Option::None,
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let number = |n: usize, default: u64| std::env::args().nth(n).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (alarms, parts) = (number(1, 300), number(2, 500));
    let dir = tempfile::tempdir()?;
    let sim = Simulator::start(Options { line: Line::Pty(dir.path().join("modem")), ..Options::default() })?;
    let mut modem = twinpost_modem::Settings::new(dir.path().join("modem"));
    modem.lock_dir = Option::None;
    let mut settings = Settings::new(dir.path().join("sms.sock"), dir.path().join("sms"), modem);
    settings.pace.parts_per_minute = 10_000_000;
    settings.pace.burst_parts = 1_000_000;
    let shutdown = CancellationToken::new();
    let client = Client::new(settings.socket.clone());
    let process = tokio::spawn(serve(settings, None, shutdown.clone()));
    while client.state().await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut watch = client.watch().await?;
    loop {
        if let Seen::State(state) = watch.next().await?
            && state.ways[0].condition == Condition::Ready
        {
            break;
        }
    }
    let mut latencies = Vec::new();
    for n in 0..alarms {
        let before = sim.counters();
        let began = Instant::now();
        let submit = client.submit(message(format!("alarm-{n}"), Class::Alarm));
        let wire = sim.wait_until(Duration::from_secs(30), |c| c.cmgs > before.cmgs);
        let timed = async {
            wire.await;
            began.elapsed()
        };
        let (submitted, latency) = tokio::join!(submit, timed);
        submitted?;
        latencies.push(latency);
        // Idle again before the next one.
        sim.wait_until(Duration::from_secs(30), |c| c.accepted > before.accepted).await;
        if let Some(mut follow) = client.follow(&format!("alarm-{n}")).await? {
            while follow.next().await?.is_some_and(|s| s.state != SmsState::Accepted) {}
        }
    }
    latencies.sort_unstable();
    let at = |per_mille: usize| {
        latencies.get((latencies.len().saturating_sub(1)) * per_mille / 1000).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    let before = sim.counters().accepted;
    let began = Instant::now();
    for n in 0..parts {
        client.submit(message(format!("part-{n}"), Class::Person)).await?;
    }
    sim.wait_until(Duration::from_secs(600), |c| c.accepted >= before + parts).await;
    let each = began.elapsed().as_secs_f64() * 1e3 / parts.max(1) as f64;
    let line = serde_json::json!({
        "alarms": alarms,
        "alarm_to_wire_p50_ms": at(500),
        "alarm_to_wire_p99_ms": at(990),
        "alarm_to_wire_max_ms": at(1000),
        "parts": parts,
        "overhead_per_part_ms": each,
        "parts_per_minute": 60_000.0 / each,
    });
    writeln!(std::io::stdout(), "{line}")?;
    shutdown.cancel();
    process.await??;
    Ok(())
}
