//! What changes while the pair daemon runs: frame keys, and the appliance document, which is the same on both nodes.
//!
//! Contract: a document that was taken from the peer, or edited here by hand, is in force for the mail process of this node at once
//! (`config reload`); what only holds from the next start is told in its log.

use super::{Plan, parts};
use crate::cli::{ConfigOrder, Order};
use crate::control::{CallError, Request, call};
use crate::node::Folder;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use twinpost_config::history::{Choice, History, Settled};
use twinpost_pair::Changes;
use twinpost_pair::api::{Answer, ConfigAsk, Request as PairRequest, Text};
use twinpost_peer::{Channel, ConfigCopy, Identity};

/// All faults of a document, a sentence each.
fn judge(text: &str) -> Result<(), Vec<String>> {
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

/// Answers questions about the document.
pub struct Desk(pub ConfigCopy);

impl twinpost_pair::Desk for Desk {
    fn ask(&self, request: PairRequest) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            match request {
                PairRequest::Config { what } => {
                    self.config(what).await.unwrap_or_else(|why| Answer::Error { text: Text::new(why.clone(), why) })
                }
                _ => {
                    let text =
                        Text::new("`twinpost ctl` does this itself, on the node", "此操作由节点上的 twinpost ctl 自行完成");
                    Answer::Error { text }
                }
            }
        })
    }
}

impl Desk {
    async fn config(&self, what: ConfigAsk) -> Result<Answer, String> {
        let choice = match what {
            ConfigAsk::Show => {
                let shown =
                    self.0.with(|history, _| Ok((history.number(), history.conflict()))).await.map_err(|e| e.to_string())?;
                return Ok(Answer::Told { text: shown_text(&shown) });
            }
            ConfigAsk::Ours => Choice::Ours,
            ConfigAsk::Theirs => Choice::Theirs,
        };
        let chosen = self.0.with(move |history, judge| history.choose(choice, "administrator", &**judge)).await;
        let number = chosen.map_err(|e| e.to_string())?.number;
        Ok(Answer::Done {
            text: Text::new(
                format!("Generation {number} of the appliance document is in force, and goes to the other node."),
                format!("配置文档第 {number} 代已生效，并将复制到另一节点。"),
            ),
        })
    }
}

fn shown_text((number, conflict): &(u32, Option<twinpost_config::history::Conflict>)) -> Text {
    match conflict {
        None => Text::new(
            format!("Generation {number} of the appliance document is in force; nothing waits for a choice."),
            format!("配置文档第 {number} 代生效；没有待选择的冲突。"),
        ),
        Some(conflict) => {
            let (ours, theirs, diff) = (&conflict.ours, &conflict.theirs, &conflict.diff);
            Text::new(
                format!(
                    "Both nodes changed the appliance document without each other: generation {} here (by {}), {} there (by {}).\n\
                     From here to there:\n{diff}\nChoose with `pair config choose ours` or `pair config choose theirs`.",
                    ours.number, ours.who, theirs.number, theirs.who
                ),
                format!(
                    "两个节点在互相不可见时都修改了配置文档：本节点第 {} 代（{}），对方第 {} 代（{}）。\n\
                     从本节点到对方的差异：\n{diff}\n请用 pair config choose ours 或 pair config choose theirs 选择。",
                    ours.number, ours.who, theirs.number, theirs.who
                ),
            )
        }
    }
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
