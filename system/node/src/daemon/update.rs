//! Updates of this node, carried out by the crate of updates on the disks of the board's boot bays.
//!
//! Contract: reading and writing slots blocks, so it runs on threads of its own; one at a time, the daemon sees to that.
//!
//! Failure classes: [`twinpost_update::Error`], all its reasons.

use crate::api::{self, Done, Refused, Slot, Text};
use crate::render::boot::Sys;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use twinpost_update::health::Baseline;
use twinpost_update::install::{self, Preview};
use twinpost_update::linux::{Linux, SystemDisk, boot_once};
use twinpost_update::platform::Platform;
use twinpost_update::record::Wish;
use twinpost_update::{Error, Keys, release};

/// Variables of the firmware.
const VARIABLES: &str = "/sys/firmware/efi/efivars";

/// The slots and boot partitions of this machine, by the bays as they are now.
pub fn platform() -> Linux {
    let (_, roles) = Sys::default().look();
    let bays = roles.bays.iter().filter(|bay| bay.boot);
    let disk = |bay: &twinpost_board::BayNow| SystemDisk {
        bay: bay.number.to_string(),
        device: bay.device.clone().ok_or_else(|| twinpost_update::Text::new("there is no disk in it", "其中没有磁盘")),
    };
    Linux::new(bays.map(disk).collect())
}

pub fn text(text: &twinpost_update::Text) -> Text {
    Text::new(&text.en, &text.zh)
}

/// An error of updates for people.
pub fn failed(error: &Error) -> Refused {
    Refused { reasons: error.reasons().iter().map(text).collect() }
}

fn broken() -> Refused {
    Refused::one(Text::new("the work was broken off", "操作被中断"))
}

/// Runs what blocks.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work).await.map_err(|_| broken())?.map_err(|error| failed(&error))
}

/// Versions in both slots.
///
/// # Errors
/// The record or a boot partition cannot be read.
pub async fn status() -> Result<Done, Refused> {
    let status = blocking(|| install::status(&platform())).await?;
    let (slot, other) = (status.slot, status.slot.other());
    let here = json!({ "slot": slot.name(), "version": status.release.version, "state": "running" });
    let marks = status.other_marks;
    let state = match (marks.good, marks.counting, marks.exhausted) {
        (_, true, _) => "trying",
        (true, ..) => "good",
        (_, _, true) => "bad",
        _ => "empty",
    };
    let there = json!({
        "slot": other.name(),
        "version": status.other.as_ref().map(|release| release.version.clone()),
        "state": state,
    });
    let mut slots = [here, there];
    slots.sort_by_key(|slot| slot["slot"].to_string());
    let value = json!({
        "version": status.release.version,
        "slot": slot.name(),
        "on_trial": status.on_trial,
        "slots": slots,
        "details": status,
    });
    Ok(Done { text: text(&status.sentence), value, confirm: None })
}

/// The version before boots from the next start on; it tells why.
///
/// # Errors
/// The other slot holds nothing that was ever good, or nothing that can read the present data.
pub async fn withdraw(reasons: Vec<Text>) -> Result<(), Refused> {
    let reasons = reasons.into_iter().map(|reason| twinpost_update::Text::new(reason.en, reason.zh)).collect();
    blocking(move || install::withdraw(&platform(), reasons)).await
}

/// What is to be installed.
pub struct Order {
    /// The bundle.
    pub bundle: PathBuf,
    /// An older version too.
    pub downgrade: bool,
    /// How this node is before.
    pub baseline: Baseline,
}

/// Verifies a bundle and tells what it would do, or writes it.
///
/// # Errors
/// All reasons against it; a disk that fails.
pub async fn install(order: Order, go: bool, step: api::Progress<'_>) -> Result<Done, Refused> {
    let (detected, _) = Sys::default().look();
    let wish = Wish { allow_downgrade: order.downgrade, board: detected.board.full_name() };
    let bundle = order.bundle.clone();
    if !go {
        let preview = blocking(move || {
            let keys = Keys::load(Path::new(release::KEYS))?;
            install::preview(&bundle, &keys, &platform(), &wish)
        })
        .await?;
        if !preview.reasons.is_empty() {
            return Err(Refused { reasons: preview.reasons.iter().map(text).collect() });
        }
        return Ok(Done { text: words(&preview, false), value: json!({ "preview": preview }), confirm: None });
    }
    let (steps, mut heard) = mpsc::unbounded_channel();
    let at_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0));
    let work = blocking(move || {
        let keys = Keys::load(Path::new(release::KEYS))?;
        // Nobody listens when the caller is gone; the work goes on.
        let tell = move |now: twinpost_update::Step| drop(steps.send(now));
        install::install(&bundle, &keys, &platform(), &wish, order.baseline, at_s, &tell)
    });
    let listen = async {
        while let Some(now) = heard.recv().await {
            step(api::Step { what: text(&now.what), done: now.done, of: now.of });
        }
    };
    let (done, ()) = tokio::join!(work, listen);
    let preview = done?;
    Ok(Done { text: words(&preview, true), value: json!({ "installed": preview }), confirm: None })
}

fn words(preview: &Preview, done: bool) -> Text {
    let (new, now) = (&preview.release.version, &preview.running.version);
    let (slot, signers) = (preview.target, preview.signers.join(", "));
    let mut said = if done {
        Text::new(
            format!("Version {new} is in slot {slot}; the next start tries it. `power reboot` starts it now."),
            format!("版本 {new} 已写入槽位 {slot}，下次启动时试用。可用 power reboot 立即重启。"),
        )
    } else {
        Text::new(
            format!("Version {new} (signed by {signers}) is written into slot {slot}; version {now} runs and stays in its slot."),
            format!("版本 {new}（签名：{signers}）将写入槽位 {slot}；当前运行的版本 {now} 保留在其槽位。"),
        )
    };
    for (bay, why) in &preview.missing {
        said.en.push_str(&format!("\nMind: not on the disk of bay {bay}: {}", why.en));
        said.zh.push_str(&format!("\n注意：未写入槽位 {bay} 的磁盘：{}", why.zh));
    }
    said
}

/// Keeps the running version.
///
/// # Errors
/// A boot partition cannot be written.
pub async fn commit() -> Result<Done, Refused> {
    blocking(|| install::commit(&platform())).await?;
    Ok(Done { text: Text::new("The running version is kept.", "已保留当前运行的版本。"), ..Done::default() })
}

/// The other slot boots from now on.
///
/// # Errors
/// It holds nothing that was ever good.
pub async fn back(go: bool) -> Result<Done, Refused> {
    let release = blocking(move || install::back(&platform(), go)).await?;
    let version = release.map_or_else(|| "?".to_owned(), |release| release.version);
    let text = if go {
        Text::new(
            format!("Version {version} starts from now on; `power reboot` starts it now."),
            format!("今后启动版本 {version}；可用 power reboot 立即重启。"),
        )
    } else {
        Text::new(
            format!("Version {version} of the other slot starts from now on."),
            format!("今后将启动另一槽位中的版本 {version}。"),
        )
    };
    Ok(Done { text, ..Done::default() })
}

/// The next start takes this slot, once.
///
/// # Errors
/// It holds no system, or the firmware's variables cannot be written.
pub async fn slot_once(slot: Slot) -> Result<Done, Refused> {
    let wanted = match slot {
        Slot::A => twinpost_update::Slot::A,
        Slot::B => twinpost_update::Slot::B,
    };
    let none = move || Text::new(format!("slot {wanted} holds no system"), format!("槽位 {wanted} 中没有系统"));
    blocking(move || {
        let mut found = None;
        for medium in platform().esps()? {
            let Ok(esp) = medium.medium else { continue };
            let names = esp.list().map_err(twinpost_update::io_error("list", Path::new("EFI/Linux")))?;
            let of_slot = |name: &String| twinpost_update::entries::Entry::parse(name).is_some_and(|entry| entry.slot == wanted);
            found = found.or(names.into_iter().map(|listed| listed.name).find(of_slot));
        }
        let name = found.ok_or_else(|| Error::refused(twinpost_update::Text::new(none().en, none().zh)))?;
        boot_once(Path::new(VARIABLES), &name)
    })
    .await?;
    let text =
        Text::new(format!("Slot {wanted} starts at the next start, once."), format!("下次启动将从槽位 {wanted} 启动一次。"));
    Ok(Done { text, ..Done::default() })
}
