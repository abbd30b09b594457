//! What this machine is and how it is, gathered from the reports of its boot and from the running system.

use super::room::Room;
use super::{Settings, link, memory};
use crate::api::{Done, Text};
use serde_json::{Value, json};
use std::path::Path;
use twinpost_update::health::Verdict;

/// A report of an earlier step of the boot; null where there is none.
pub fn read(path: &Path) -> Value {
    std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or(Value::Null)
}

/// Everything that the boot and the running system complain of.
pub fn faults(boot: &Value) -> Vec<(String, Text)> {
    let text = |fault: &Value| {
        let of = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let inner = fault.get("text").unwrap_or(fault);
        let en = of(inner, "en").or_else(|| inner.as_str().map(str::to_owned))?;
        let code = of(fault, "code").unwrap_or_else(|| "boot".to_owned());
        Some((code, Text { zh: of(inner, "zh").unwrap_or_else(|| en.clone()), en }))
    };
    boot.get("faults").and_then(Value::as_array).into_iter().flatten().filter_map(text).collect()
}

/// The whole.
pub async fn status(settings: &Settings, verdict: &Verdict) -> Done {
    let (boot, init) = (read(&settings.boot_report), read(&settings.init_report));
    let pair = link::status(&settings.pair_socket()).await;
    let mut faults = super::facts::faults(settings, &boot);
    faults.extend(Room::look(&settings.node).iter().filter_map(Room::fault));
    let slot = init.get("slot").and_then(Value::as_str).unwrap_or("?").to_owned();
    let mut en = format!("Version {}, slot {slot}.", settings.version);
    let mut zh = format!("版本 {}，槽位 {slot}。", settings.version);
    let installer = boot["installer"].as_str();
    if let Some(medium) = installer {
        en = format!("Installer of version {}, started from {medium}: `disks install` writes it to the disks.", settings.version);
        zh = format!("版本 {} 的安装程序，从 {medium} 启动：用 disks install 写入磁盘。", settings.version);
    }
    match &pair {
        _ if installer.is_some() => {}
        Some(pair) => {
            en.push_str(&format!(" {}", pair.sentence.0));
            zh.push_str(&pair.sentence.1);
        }
        None => {
            en.push_str(" No pair daemon runs here.");
            zh.push_str("双机守护进程未运行。");
        }
    }
    for (_, text) in &faults {
        en.push_str(&format!("\n- {}", text.en));
        zh.push_str(&format!("\n- {}", text.zh));
    }
    match verdict {
        Verdict::Healthy => {
            en.push_str("\nThis node is well.");
            zh.push_str("\n本节点状态良好。");
        }
        Verdict::NotYet(reasons) | Verdict::Ill(reasons) => {
            for reason in reasons.iter().filter(|reason| !faults.iter().any(|(_, told)| told.en == reason.en)) {
                en.push_str(&format!("\n- {}", reason.en));
                zh.push_str(&format!("\n- {}", reason.zh));
            }
        }
    }
    let arrays = super::disks::machine().arrays();
    let memory = memory::look(Path::new("/sys/fs/cgroup"), Path::new("/proc"));
    if memory.total_bytes > 0 {
        let mb = |bytes: u64| bytes / 1_000_000;
        let (used, all) = (mb(memory.total_bytes.saturating_sub(memory.available_bytes)), mb(memory.total_bytes));
        en.push_str(&format!("\nMemory: {used} of {all} MB are in use."));
        zh.push_str(&format!("\n内存：已用 {used} MB，共 {all} MB。"));
    }
    let value = json!({
        "version": settings.version,
        "slot": slot,
        "installer": installer,
        "health": verdict,
        "arrays": arrays,
        "memory": memory,
        "boot": boot,
        "init": init,
        "paired": pair.is_some(),
        "active": pair.as_ref().and_then(|pair| pair.active.clone()),
        "serves": pair.as_ref().is_some_and(link::Pair::serves),
        "state": pair.as_ref().map(|pair| pair.state.clone()),
        "faults": faults.iter().map(|(code, text)| json!({ "code": code, "text": text })).collect::<Vec<_>>(),
    });
    Done { text: Text::new(en, zh), value, confirm: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_in_each_form() {
        let boot = json!({"faults": [
            {"code": "state_volatile", "text": {"en": "in memory", "zh": "内存"}},
            {"en": "plain", "zh": "普通"},
            "only words",
            {"code": "empty"}
        ]});
        let found = faults(&boot);
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(found[0], ("state_volatile".to_owned(), Text::new("in memory", "内存")));
        assert_eq!(found[2].1, Text::same("only words"));
        assert!(faults(&Value::Null).is_empty());
    }
}
