//! The units that a setup concerns.
//!
//! Contract: what reads its documents only when it starts is started anew, but nobody who is served is cut off for it: a pair daemon whose node
//! serves hands over first, and if its peer cannot take over it stays as it is, and the answer says so.

use super::{PAIR_UNIT, link, power};
use crate::api::Done;
use serde_json::Value;
use std::path::Path;

/// The unit of the modem's process, which waits for the first setup.
const SMS_UNIT: &str = "twinpost-sms.service";

/// Starts anew what a setup named in its answer.
pub async fn after_setup(mut done: Done, socket: &Path) -> Done {
    let named: Vec<String> =
        done.value["restart"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    for unit in named {
        let said = match unit.as_str() {
            PAIR_UNIT => restart_pair(socket).await,
            SMS_UNIT => power::systemctl(&["--no-block", "restart", SMS_UNIT]).await.err().map(|refused| {
                let why = refused.reasons.into_iter().next().unwrap_or_default();
                (why.en, why.zh)
            }),
            _ => None,
        };
        if let Some((en, zh)) = said {
            done.text.en.push_str(&format!("\n{en}"));
            done.text.zh.push_str(&format!("\n{zh}"));
        }
    }
    done
}

/// What a person should know of it.
async fn restart_pair(socket: &Path) -> Option<(String, String)> {
    // Without a peer it does not run.
    let pair = link::status(socket).await?;
    if pair.serves() {
        if !pair.peer_eligible {
            return Some((
                "This node serves and its peer cannot take over now: what concerns the pair holds from the next start of the pair daemon.".to_owned(),
                "本节点正在提供服务，而对方节点目前无法接管：与双机有关的设置将在双机守护进程下次启动后生效。".to_owned(),
            ));
        }
        power::hand_over(socket, |_| {}).await;
    }
    power::systemctl(&["--no-block", "restart", PAIR_UNIT]).await.err().map(|refused| {
        let why = refused.reasons.into_iter().next().unwrap_or_default();
        (why.en, why.zh)
    })
}
