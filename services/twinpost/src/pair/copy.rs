//! What changes while the pair daemon runs: frame keys, and the appliance document, which is the same on both nodes.
//!
//! Contract: a document that was taken from the peer, or edited here by hand, is in force for the mail process of this node at once
//! (`config reload`); what only holds from the next start is told in its log.

use super::{Plan, parts};
use crate::cli::{ConfigOrder, Order};
use crate::control::{CallError, Request, call};
use crate::node::Folder;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use twinpost_config::history::{History, Settled};
use twinpost_pair::Changes;
use twinpost_peer::{Channel, ConfigCopy, Identity};

/// All faults of a document, a sentence each.
///
/// # Errors
/// The faults.
pub fn judge(text: &str) -> Result<(), Vec<String>> {
    match twinpost_config::parse(text, "appliance.toml") {
        Ok(document) => crate::settings::sms::check(&document).map_err(|fault| vec![fault]),
        Err(faults) => Err(faults.to_string().lines().map(str::to_owned).collect()),
    }
}

/// The history of this node's document.
///
/// # Errors
/// A sentence.
pub fn open(plan: &Plan) -> Result<ConfigCopy, String> {
    let (dir, file) = (plan.folder.history(), plan.folder.document());
    let (history, seen) = History::open(&dir, &file, &plan.document.node.name, None, &judge).map_err(|e| e.to_string())?;
    tracing::info!(generation = history.number(), ?seen, "the appliance document");
    Ok(ConfigCopy::new(history, Arc::new(judge)))
}

/// Follows the identity and the document until `stop`.
pub fn keep(
    plan: &Plan,
    identity: &Arc<Identity>,
    copy: &ConfigCopy,
    channel: Option<Arc<Channel>>,
    stop: &CancellationToken,
) -> watch::Receiver<Changes> {
    let config = copy.generation().borrow().0;
    let (send, receive) = watch::channel(Changes { keys: parts::keys(&plan.pair.keys), config, health: 255 });
    let send = Arc::new(send);

    let (mut pairs, changes, ending) = (identity.watch(), send.clone(), stop.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = ending.cancelled() => return,
                changed = pairs.changed() => if changed.is_err() { return },
            }
            if let Some(pair) = pairs.borrow_and_update().as_ref() {
                changes.send_modify(|now| now.keys = parts::keys(&pair.keys));
            }
        }
    });

    let (mut generation, folder, ending) = (copy.generation(), plan.folder.clone(), stop.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = ending.cancelled() => return,
                changed = generation.changed() => if changed.is_err() { return },
            }
            let number = generation.borrow_and_update().0;
            send.send_modify(|now| now.config = number);
            reload(&folder, number).await;
        }
    });

    if let Some(channel) = channel {
        let (copy, ending, mut settled) = (copy.clone(), stop.clone(), copy.settled());
        tokio::spawn(async move {
            let told = async {
                while settled.changed().await.is_ok() {
                    match settled.borrow_and_update().as_ref() {
                        Some(Settled::Conflict) => tracing::error!(
                            "the appliance document was changed on both nodes while they did not hear each other: choose one with `twinpost ctl pair config choose`"
                        ),
                        Some(other) => tracing::debug!(settled = ?other, "the appliance document and the peer's"),
                        None => {}
                    }
                }
            };
            tokio::select! {
                () = ending.cancelled() => {}
                () = copy.run(&channel) => {}
                () = told => {}
            }
        });
    }
    receive
}

/// Lets the mail process of this node read the document, if it runs here.
async fn reload(folder: &Folder, generation: u32) {
    let request = Request { order: Order::Config(ConfigOrder::Reload), actor: "pair".to_owned(), attachment_bytes: 0 };
    match call(&folder.socket(), &request, &[], |_| {}).await {
        Ok(notes) => tracing::info!(generation, %notes, "the mail process has read the document"),
        Err(CallError::NotRunning) => tracing::debug!(generation, "no mail process here"),
        Err(CallError::Refused(failure)) => {
            tracing::error!(generation, why = failure.message, "the mail process keeps the old document");
        }
        Err(CallError::Broken(why)) => {
            tracing::error!(generation, why, "the mail process did not say whether it took the document");
        }
    }
}
