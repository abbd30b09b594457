//! What a disk says of itself (SMART), by `smartctl --json`.
//!
//! Contract: `None` when the program is not there, the disk gives no such words (virtual disks), or it does not answer in time. A disk in
//! standby is not woken.

use crate::{Health, Machine};
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

    proptest! {
        #[test]
        fn any_words(said in "\\PC{0,200}") {
            fuzz(said.as_bytes());
        }
    }
}
