//! The trial of a version that runs for the first time: kept when the node was well for a while, given up otherwise.
//!
//! Contract: the rule is the crate of updates' ([`twinpost_update::health`]); here are the clock, the facts, and what follows. What became of an
//! update is told to people once, over restarts of this daemon too.
//!
//! Failure classes: a boot partition that cannot be read or written: tried again; the loader's own count of starts ends a trial that this
//! daemon cannot end.

use super::{Machine, disks, facts, link, power, update};
use crate::api::{Power, Text};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use twinpost_update::health::{Decision, Trial, judge};
use twinpost_update::install::{self, Started};
use twinpost_update::record::{Alarm, Severity};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(10);
/// Says that this start of the machine was counted already.
const STARTED: &str = "/run/twinpost/started";

/// Judges this start of the machine to its end.
pub async fn run(machine: Arc<Machine>) {
    let again = Path::new(STARTED).exists();
    let started = loop {
        match update::blocking(move || install::started(&update::platform(), again)).await {
            Ok(started) => break started,
            Err(refused) => {
                let why: Vec<&str> = refused.reasons.iter().map(|reason| reason.en.as_str()).collect();
                tracing::warn!(?why, "the state of updates cannot be read");
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    let _ = std::fs::write(STARTED, "");
    let Started { on_trial, patience_ms, baseline, alarm, missing, healed } = started;
    for (bay, why) in &missing {
        tracing::info!(bay, why = why.en, "no boot partition in this bay");
    }
    for (bay, how) in &healed {
        tracing::info!(bay, ?how, "this disk did not hold the running system");
    }
    tell(&machine, alarm);
    if !on_trial {
        return;
    }
    tracing::info!("this version is on trial");
    let (mut trial, mut last) = (Trial::of(patience_ms), Instant::now());
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = facts::gather(&machine.settings, &disks::machine()).await;
        let elapsed_ms = u64::try_from(last.elapsed().as_millis()).unwrap_or(u64::MAX);
        last = Instant::now();
        match trial.look(elapsed_ms, &judge(&now, &baseline)) {
            Decision::Wait => {}
            Decision::Keep => break keep(&machine).await,
            Decision::GiveUp(reasons) => break give_up(&machine, reasons).await,
        }
    }
}

async fn keep(machine: &Machine) {
    loop {
        match update::blocking(|| install::commit(&update::platform())).await {
            Ok(alarm) => {
                tracing::info!("this version is kept");
                return tell(machine, alarm);
            }
            Err(refused) => {
                tracing::error!(?refused, "this version cannot be kept yet");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn give_up(machine: &Machine, reasons: Vec<twinpost_update::Text>) {
    let words: Vec<String> = reasons.iter().map(|reason| reason.en.clone()).collect();
    tracing::error!(reasons = ?words, "this version is given up");
    match update::blocking(move || install::give_up(&update::platform(), reasons)).await {
        Ok(false) => tracing::error!("there is no other version that could start: this one goes on"),
        Ok(true) | Err(_) => {
            let socket = machine.settings.pair_socket();
            power::go(Power::Reboot, &socket, |_| {}).await;
        }
    }
}

/// Tells what became of an update, as soon as somebody takes it.
fn tell(machine: &Machine, alarm: Option<Alarm>) {
    let Some(Alarm { code, severity, text }) = alarm else { return };
    let severity = match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Serious => "serious",
    };
    tracing::info!(code, "{}", text.en);
    let (socket, text) = (machine.settings.pair_socket(), Text::new(text.en, text.zh));
    tokio::spawn(async move {
        while !link::alarm(&socket, severity, &code, &text).await {
            tokio::time::sleep(AGAIN).await;
        }
        if let Err(refused) = update::blocking(|| install::told(&update::platform())).await {
            tracing::warn!(?refused, "it is told again after the next start");
        }
    });
}
