//! Questions and orders that the pair daemon passes on: the appliance document, and data that was set aside.

use super::{aside, forward, parts};
use crate::node::Folder;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use twinpost_config::history::Choice;
use twinpost_pair::api::{Answer, ConfigAsk, Conflict, Request, Text};
use twinpost_peer::{Channel, ConfigCopy};

/// Who answers.
pub struct Desk {
    /// The document.
    pub copy: ConfigCopy,
    /// To the peer.
    pub channel: Option<Arc<Channel>>,
    /// This node's.
    pub folder: Folder,
}

impl twinpost_pair::Desk for Desk {
    fn ask(&self, request: Request) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            match request {
                Request::Config { what } => {
                    self.config(what).await.unwrap_or_else(|why| Answer::Error { text: Text::new(why.clone(), why) })
                }
                Request::Mail { order } => self.pass(forward::MAIL, order, forward::MAIL_LIMIT).await,
                Request::System { order, limit_s } => {
                    self.pass(forward::SYSTEM, order, Duration::from_secs(limit_s.min(3600))).await
                }
                Request::Conflict { what: Conflict::List } => {
                    self.bring().await.unwrap_or_else(|why| Answer::Error { text: Text::new(why.clone(), why) })
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
    /// To the other node and back.
    async fn pass(&self, name: &str, order: serde_json::Value, limit: Duration) -> Answer {
        let Some(channel) = &self.channel else {
            return Answer::Error {
                text: Text::new("this node has no channel to its peer", "本节点没有到对方的通道")
            };
        };
        match forward::send(channel, name, order, limit).await {
            Ok(said) => Answer::Passed { said },
            Err(why) => Answer::Error { text: Text::new(why.clone(), why) },
        }
    }

    /// What the peer set aside comes here, where it can be compared and merged.
    async fn bring(&self) -> Result<Answer, String> {
        let channel =
            self.channel.as_ref().ok_or("node.toml says nothing of [pair.channel]: nothing can be brought from the peer")?;
        let text = match aside::bring(&self.folder, channel, parts::mail_user()?).await? {
            Some(folder) => Text::new(
                format!("What the peer set aside is in {}.", folder.display()),
                format!("对方节点保留的数据位于 {}。", folder.display()),
            ),
            None => Text::new("The peer has set nothing aside.", "对方节点没有保留的数据。"),
        };
        Ok(Answer::Told { text })
    }

    async fn config(&self, what: ConfigAsk) -> Result<Answer, String> {
        let choice = match what {
            ConfigAsk::Show => {
                let shown =
                    self.copy.with(|history, _| Ok((history.number(), history.conflict()))).await.map_err(|e| e.to_string())?;
                return Ok(Answer::Told { text: shown_text(&shown) });
            }
            ConfigAsk::Ours => Choice::Ours,
            ConfigAsk::Theirs => Choice::Theirs,
        };
        let chosen = self.copy.with(move |history, judge| history.choose(choice, "administrator", &**judge)).await;
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
