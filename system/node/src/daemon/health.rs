//! Is this node well? The verdict keeps a boot or gives it up, and what is wrong goes to people.

use super::{Machine, link, report};
use crate::api::Text;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Looks at the node until `stop`.
pub async fn judge(machine: Arc<Machine>, stop: CancellationToken) {
    let mut told = BTreeSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        tell(&machine, &mut told).await;
    }
}

/// What the boot found, once, by the pair's way to people; while no pair daemon takes it, it waits.
async fn tell(machine: &Machine, told: &mut BTreeSet<String>) {
    let boot = report::read(&machine.settings.boot_report);
    let socket = machine.settings.pair_socket();
    for (code, text) in report::faults(&boot) {
        if told.contains(&text.en) {
            continue;
        }
        let Text { en, zh } = &text;
        let words = Text::new(format!("At its start this node found: {en}"), format!("本节点启动时发现：{zh}"));
        if !link::alarm(&socket, "warning", &code, &words).await {
            return;
        }
        told.insert(en.clone());
    }
}
