//! USB sticks, support bundles and the factory reset, as orders.
//!
//! Contract: a stick is mounted for as long as the order takes. A reset is ordered here and carried out by the next start ([`crate::reset`]).
//!
//! Failure classes: what the modules say, in both languages.

use super::{Machine, link, power, report, update};
use crate::api::{Done, Power, Progress, Refused, Step, SupportTo, Text};
use crate::render::boot::Sys;
use crate::support::{self, Sources};
use crate::usb::{self, Stick};
use crate::{reset, support::Written};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Ending of a bundle's name.
const BUNDLE_END: &str = ".twinpost";
/// Where the order to reset is kept.
const STATE: &str = "/state";

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

/// The machine's own disks: never a stick.
fn own_disks() -> Vec<PathBuf> {
    Sys::default().look().1.bays.into_iter().filter_map(|bay| bay.device).collect()
}

/// The newest bundle on a stick, with the stick, which stays mounted until it is dropped.
///
/// # Errors
/// No stick, none that can be mounted, or no bundle on any.
pub async fn bundle_on_stick() -> Result<(Stick, PathBuf), Refused> {
    let look = || {
        let found = usb::find(Path::new("/sys"), Path::new("/dev"), &own_disks()).map_err(|why| Refused::one(why.text()))?;
        let mut reasons = Vec::new();
        for one in found {
            match Stick::mount(&one, Path::new(usb::MOUNTS), false) {
                Err(why) => reasons.push(why.text()),
                Ok(stick) => match usb::files(&stick, BUNDLE_END).into_iter().next() {
                    Some(bundle) => return Ok((stick, bundle)),
                    None => {
                        let device = one.device.display();
                        reasons.push(Text::new(
                            format!("there is no bundle (*{BUNDLE_END}) on the stick {device}"),
                            format!("U 盘 {device} 上没有升级包（*{BUNDLE_END}）"),
                        ));
                    }
                },
            }
        }
        Err(Refused { reasons })
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_else(|why| Err(Refused::one(Text::same(why.to_string()))))
}

/// Writes a support bundle.
///
/// # Errors
/// The target cannot be written.
pub async fn support(machine: &Machine, to: SupportTo, step: Progress<'_>) -> Result<Done, Refused> {
    let socket = machine.settings.pair_socket();
    let pair = link::ask(&socket, &json!({ "op": "status" })).await.unwrap_or_default();
    let node = pair.get("node").and_then(|node| node.as_str()).unwrap_or_default().to_owned();
    let disks = super::disks::list().await.map(|done| done.value).unwrap_or_default();
    let updates = update::status().await.map(|done| done.value).unwrap_or_default();
    let told = vec![
        ("pair".to_owned(), pair),
        ("arrays".to_owned(), serde_json::to_value(super::disks::machine().arrays()).unwrap_or_default()),
        ("disks".to_owned(), disks),
        ("updates".to_owned(), updates),
    ];
    let mut sources = Sources::new(&node, &machine.settings.version, told);
    sources.folder.clone_from(&machine.settings.node);
    let written = match to {
        SupportTo::File(path) => support::to_file(&path, &sources, now_s(), step).await,
        SupportTo::Usb => support::to_usb(&sources, &own_disks(), now_s(), step).await,
    };
    let written = written.map_err(|why| Refused::one(why.text()))?;
    let Written { file, stick, bytes, .. } = &written;
    let file = file.display();
    let text = match stick {
        Some(_) => Text::new(
            format!("{file} ({bytes} bytes) is on the USB stick, which may be pulled out now."),
            format!("{file}（{bytes} 字节）已写入 U 盘，现在可以拔出。"),
        ),
        None => Text::new(format!("{file}, {bytes} bytes."), format!("{file}，{bytes} 字节。")),
    };
    Ok(Done { text, value: serde_json::to_value(&written).unwrap_or_default(), confirm: None })
}

/// Tells what a factory reset would do, or orders it and starts the machine again. That the word was typed is the caller's to see to.
///
/// # Errors
/// Everything that stands against it.
pub async fn reset(machine: &Machine, mail: bool, go: bool, step: Progress<'_>) -> Result<Done, Refused> {
    let socket = machine.settings.pair_socket();
    let pair = link::status(&socket).await;
    let on_trial =
        update::blocking(|| twinpost_update::install::status(&update::platform())).await.is_ok_and(|status| status.on_trial);
    let state_on_disk = report::read(&machine.settings.boot_report)["state"]["mounted"] == "persistent";
    let facts = match pair {
        None => reset::Facts { state_on_disk, on_trial, ..reset::Facts::default() },
        Some(pair) => reset::Facts {
            peer: Some(if pair.node == "a" { "b" } else { "a" }.to_owned()),
            serving: pair.serves(),
            peer_eligible: pair.peer_eligible,
            node: pair.node,
            state_on_disk,
            on_trial,
        },
    };
    let preview = reset::preview(&facts, mail);
    if !preview.reasons.is_empty() {
        return Err(Refused { reasons: preview.reasons });
    }
    if !go {
        return Ok(Done { text: preview.text, value: json!({ "mail": mail }), confirm: Some(preview.word) });
    }
    let word = preview.word.clone();
    let ordered =
        tokio::task::spawn_blocking(move || reset::order(Path::new(STATE), &facts, mail, &word, "system", now_s())).await;
    match ordered {
        Ok(Ok(())) => {}
        Ok(Err(why)) => return Err(Refused { reasons: why.reasons() }),
        Err(why) => return Err(Refused::one(Text::same(why.to_string()))),
    }
    power::go(Power::Reboot, &socket, |what| step(Step { what, done: 0, of: 0 })).await;
    Ok(Done {
        text: Text::new("The node is reset: it starts again as a new machine.", "节点已恢复出厂设置：正在作为新机器重新启动。"),
        ..Done::default()
    })
}
