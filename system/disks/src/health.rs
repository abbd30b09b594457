//! What a disk says of itself (SMART), by `smartctl --json`.
//!
//! Contract: `None` when the program is not there, the disk gives no such words (virtual disks), or it does not answer in time. A disk in
//! standby is not woken.

use crate::{Bay, Fault, Health, Machine, Text};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(15);

impl Machine {
    pub(crate) async fn health(&self, device: &Path) -> Option<Health> {
        let shown = device.to_str()?;
        let args = ["--json", "--nocheck=standby", "--health", "--info", "--attributes", shown];
        // The exit status is a set of bits, some of which only say that the disk is ill.
        let said = self.programs.smartctl.run(&args, LIMIT).await.ok()?;
        parse(&said.stdout)
    }
}

/// Warmer than this is told: makers name 60 to 70 as the most.
const HOT_C: i64 = 60;
/// A flash disk with more of its life used up is to be replaced soon.
const WORN_PERCENT: u64 = 90;

/// What the words of the disks themselves call for.
#[must_use]
pub fn faults(bays: &[Bay]) -> Vec<Fault> {
    let mut out = Vec::new();
    for bay in bays {
        let Some(health) = bay.disk.as_ref().and_then(|disk| disk.health.as_ref()) else { continue };
        let (name, label) = (&bay.name, &bay.label);
        let mut tell = |code: &str, en: String, zh: String| {
            let text = Text::new(format!("the disk in bay {name} ({label}) {en}"), format!("插槽 {name}（{label}）的磁盘{zh}"));
            out.push(Fault { code: code.into(), bay: Some(name.clone()), text });
        };
        if health.passed == Some(false) {
            tell("disk_failing", "says that it is failing: replace it now".into(), "自检报告即将损坏：请立即更换".into());
        }
        if let Some(pending @ 1..) = health.pending_sectors {
            tell(
                "disk_unreadable_sectors",
                format!("has {pending} sectors that could not be read"),
                format!("有 {pending} 个扇区无法读取"),
            );
        }
        if let Some(used @ WORN_PERCENT..) = health.used_percent {
            tell(
                "disk_worn",
                format!("has used up {used} % of its life: replace it soon"),
                format!("寿命已使用 {used} %：请尽快更换"),
            );
        }
        if let Some(hot @ HOT_C..) = health.temperature_c {
            tell("disk_hot", format!("has {hot} °C: look at the fans"), format!("温度为 {hot} °C：请检查风扇"));
        }
    }
    out
}

/// From what `smartctl --json` writes.
fn parse(said: &str) -> Option<Health> {
    let said: Value = serde_json::from_str(said).ok()?;
    let attribute = |id: u64| {
        let table = said.pointer("/ata_smart_attributes/table")?.as_array()?;
        table.iter().find(|row| row["id"].as_u64() == Some(id))?.pointer("/raw/value")?.as_u64()
    };
    let nvme = |name: &str| said.pointer("/nvme_smart_health_information_log")?[name].as_u64();
    let health = Health {
        passed: said.pointer("/smart_status/passed").and_then(Value::as_bool),
        temperature_c: said.pointer("/temperature/current").and_then(Value::as_i64),
        power_on_hours: said.pointer("/power_on_time/hours").and_then(Value::as_u64),
        used_percent: nvme("percentage_used"),
        // ATA: 5 reallocated, 197 pending.
        reallocated_sectors: attribute(5),
        pending_sectors: attribute(197),
    };
    (health != Health::default()).then_some(health)
}

/// The parser with arbitrary bytes.
pub fn fuzz(data: &[u8]) {
    if let Ok(said) = std::str::from_utf8(data) {
        let _ = parse(said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ata_and_nvme() {
        let said = r#"{"smart_status":{"passed":true},"temperature":{"current":34},"power_on_time":{"hours":12345},
            "ata_smart_attributes":{"table":[{"id":5,"raw":{"value":8}},{"id":197,"raw":{"value":0}}]}}"#;
        let health = parse(said).unwrap();
        assert_eq!((health.passed, health.temperature_c, health.power_on_hours), (Some(true), Some(34), Some(12345)));
        assert_eq!((health.reallocated_sectors, health.pending_sectors, health.used_percent), (Some(8), Some(0), None));
        let said = r#"{"smart_status":{"passed":false},"nvme_smart_health_information_log":{"percentage_used":101}}"#;
        let health = parse(said).unwrap();
        assert_eq!((health.passed, health.used_percent), (Some(false), Some(101)));
        let virtual_disk = r#"{"smartctl":{"exit_status":2,"messages":[{"string":"Unable to detect device type"}]}}"#;
        assert_eq!(parse(virtual_disk), None);
    }

    #[test]
    fn what_calls_for_a_person() {
        let bay = |health| Bay {
            name: "1".into(),
            label: "HDD1".into(),
            led: false,
            disk: Some(crate::Disk {
                device: "/dev/sda".into(),
                serial: String::new(),
                model: String::new(),
                bytes: 0,
                sector_bytes: 512,
                rotational: false,
                health: Some(health),
                holds: crate::Holds::Blank,
                in_use: false,
                members: Vec::new(),
            }),
        };
        let codes = |health| faults(&[bay(health)]).into_iter().map(|fault| fault.code).collect::<Vec<_>>();
        let well = Health {
            passed: Some(true),
            temperature_c: Some(41),
            used_percent: Some(89),
            pending_sectors: Some(0),
            ..Health::default()
        };
        assert_eq!(codes(well), Vec::<String>::new());
        let ill = Health {
            passed: Some(false),
            temperature_c: Some(60),
            used_percent: Some(90),
            pending_sectors: Some(1),
            ..Health::default()
        };
        assert_eq!(codes(ill), ["disk_failing", "disk_unreadable_sectors", "disk_worn", "disk_hot"]);
    }

    proptest! {
        #[test]
        fn any_words(said in "\\PC{0,200}") {
            fuzz(said.as_bytes());
        }
    }
}
