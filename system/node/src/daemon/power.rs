//! Off, on, and the slot of the next start; the units of the pair.
//!
//! Contract: an active node hands over first, if its peer may take over, and only then does the machine go down; a hand-over that does not
//! succeed in time does not keep the machine up, for a person has said what they want. systemd does the rest in its order.
//!
//! Failure classes: systemd refuses: its sentence, in the log where the order was answered before.

use super::link;
use crate::api::{Done, Power, Refused, Text};
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::Instant;

/// How long the peer may take to take over.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Going down ends the console, the web page and this daemon too: whoever gave the order hears the answer first.
const ANSWER_FIRST: Duration = Duration::from_secs(2);
/// systemctl answers within.
const ORDER_LIMIT: Duration = Duration::from_secs(60);

/// `systemctl` with these words.
///
/// # Errors
/// What it said.
pub async fn systemctl(words: &[&str]) -> Result<(), Refused> {
    let mut command = Command::new("systemctl");
    command.args(words).stdin(Stdio::null()).kill_on_drop(true);
    let failed = |why: String| {
        let order = words.join(" ");
        Refused::one(Text::new(format!("systemctl {order}: {why}"), format!("systemctl {order}：{why}")))
    };
    let output = match tokio::time::timeout(ORDER_LIMIT, command.output()).await {
        Err(_) => return Err(failed(format!("no answer within {} s", ORDER_LIMIT.as_secs()))),
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Ok(Ok(output)) => output,
    };
    if output.status.success() {
        return Ok(());
    }
    let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(400).collect();
    Err(failed(format!("{}: {said}", output.status)))
}

/// What it would do.
pub async fn preview(what: Power, socket: &Path) -> Done {
    let pair = link::status(socket).await;
    let (mut en, mut zh) = match what {
        Power::Off => ("This node is switched off.".to_owned(), "本节点将关机。".to_owned()),
        Power::Reboot => ("This node starts again.".to_owned(), "本节点将重新启动。".to_owned()),
        Power::Slot(slot) => (
            format!("Slot {} is started at the next start, once. Nothing happens until then.", slot.name()),
            format!("下次启动将从槽位 {} 启动一次；在此之前没有任何变化。", slot.name()),
        ),
    };
    if let (Some(pair), Power::Off | Power::Reboot) = (pair, what)
        && pair.serves()
    {
        let (more, more_zh) = if pair.peer_eligible {
            (
                " It serves now and hands over to its peer first: clients connect once more.",
                "它正在提供服务，将先移交给对方节点：客户端需重新连接。",
            )
        } else {
            (
                " It serves now and its peer cannot take over: there is no mail service until it is back.",
                "它正在提供服务，而对方节点无法接管：恢复之前邮件服务中断。",
            )
        };
        en.push_str(more);
        zh.push_str(more_zh);
    }
    Done { text: Text::new(en, zh), ..Done::default() }
}

/// Reboot or off, a moment after it was answered.
pub async fn go(what: Power, socket: &Path, say: impl Fn(Text)) -> Done {
    hand_over(socket, say).await;
    tell_the_peer(what, socket).await;
    let (word, text) = match what {
        Power::Off => ("poweroff", Text::new("This node is being switched off.", "本节点正在关机。")),
        Power::Reboot | Power::Slot(_) => ("reboot", Text::new("This node starts again.", "本节点正在重新启动。")),
    };
    tokio::spawn(async move {
        tokio::time::sleep(ANSWER_FIRST).await;
        if let Err(refused) = systemctl(&["--no-block", word]).await {
            tracing::error!(?refused, "this node does not go down");
        }
    });
    Done { text, ..Done::default() }
}

/// The other node shall neither take this one for dead nor give it its power back.
async fn tell_the_peer(what: Power, socket: &Path) {
    let word = if what == Power::Off { "off" } else { "restart" };
    match link::ask(socket, &json!({ "op": "leaving", "what": word })).await {
        Some(answer) if answer["answer"] == "done" => {}
        Some(answer) => tracing::warn!(said = %answer, "the other node was not told that this one goes down"),
        None => tracing::info!("no pair daemon answers: nobody is told that this node goes down"),
    }
}

/// Lets the peer take over, if this node serves and the peer may.
pub async fn hand_over(socket: &Path, say: impl Fn(Text)) {
    let Some(pair) = link::status(socket).await.filter(|pair| pair.serves() && pair.peer_eligible) else { return };
    say(Text::new("handing over to the peer", "正在移交给对方节点"));
    if link::ask(socket, &json!({ "op": "standby" })).await.is_none_or(|answer| answer["answer"] != "done") {
        tracing::warn!("the pair daemon did not take the order to hand over");
        return;
    }
    let until = Instant::now() + HAND_OVER_LIMIT;
    while Instant::now() < until {
        match link::status(socket).await {
            Some(now) if now.services == "stopped" && now.active.as_deref() != Some(pair.node.as_str()) => return,
            _ => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
    tracing::warn!("the peer did not take over in time; this node goes down all the same");
}
