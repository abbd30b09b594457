//! The packet filter of the running node: looked at once a minute, mended where it can be, told where not.
//!
//! Contract: what is wrong is a fault of the node until it is mended; a LAN that a boot left switched off for want of a filter is switched on
//! once there is one. Nothing is done while a setup changes the documents.
//!
//! Failure classes: those of [`crate::filter`].

use super::Machine;
use crate::api::Text;
use crate::filter;
use crate::render::boot::{Sys, documents};
use crate::render::firewall::{self, FIREWALL_FILE};
use crate::render::network;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// After a fault.
const AGAIN: Duration = Duration::from_secs(10);

/// What is wrong with it now.
#[derive(Clone, Debug, Default)]
pub struct Firewall(Arc<Mutex<Option<Text>>>);

impl Firewall {
    /// In words for people; none: it is as it should be.
    #[must_use]
    pub fn fault(&self) -> Option<Text> {
        self.0.lock().clone()
    }
}

/// Looks at it until `stop`.
pub async fn watch(machine: Arc<Machine>, stop: CancellationToken) {
    let sys = Sys::default();
    let boot = super::report::read(&machine.settings.boot_report);
    let told = super::report::faults(&boot).into_iter().any(|(code, _)| code == "firewall");
    // A boot without a filter left the LAN off.
    let mut lan_off = told;
    loop {
        let idle = machine.doing.lock().is_none();
        if idle {
            let (node, document) = documents(&sys.node, &mut Vec::new());
            let wanted = firewall::opened(&node, document.as_ref());
            let now = filter::keep(&sys.nft, &wanted, FIREWALL_FILE.as_ref()).await.err();
            let before = std::mem::replace(&mut *machine.settings.firewall.0.lock(), now.clone());
            match (&before, &now) {
                (_, Some(fault)) if before != now => tracing::error!("{}", fault.en),
                (Some(_), None) => tracing::info!("the packet filter is as it should be again"),
                _ => {}
            }
            if now.is_none() && std::mem::take(&mut lan_off) {
                let roles = sys.look().1;
                for fault in network::apply(&network::plan(&node, &roles), &sys.proc.join("sys/net")).await {
                    tracing::warn!(code = fault.code, "{}", fault.text.en);
                }
            }
        }
        let pause = if idle && machine.settings.firewall.fault().is_none() { LOOK_EVERY } else { AGAIN };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
