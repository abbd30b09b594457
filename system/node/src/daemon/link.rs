//! The pair daemon of this node, asked over its socket.
//!
//! Only what is needed here is read of its answers: a daemon of another version may say more. A daemon that does not answer in time counts as
//! not there.

use crate::api::{Done, Line, Refused, Request, Text};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Longest answer.
const LINE_MAX_BYTES: u64 = 1 << 20;
/// An answer comes at once or not at all.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// What the pair daemon says of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// This node: `a` or `b`.
    pub node: String,
    /// The node that serves, as far as it knows.
    pub active: Option<String>,
    /// State of this node: `boot`, `standby`, `active` ...
    pub state: String,
    /// This node may take over.
    pub eligible: bool,
    /// The other node may take over.
    pub peer_eligible: bool,
    /// State of the services here: `up`, `stopped` ...
    pub services: String,
    /// This node's copy of the mail volume, in DRBD's words.
    pub disk: String,
    /// Version of the other node, when it is known.
    pub peer_version: Option<String>,
    /// One sentence, English and Chinese.
    pub sentence: (String, String),
}

impl Pair {
    /// This node serves.
    pub fn serves(&self) -> bool {
        self.active.as_deref() == Some(self.node.as_str())
    }

    fn of(status: &Value) -> Option<Self> {
        if status.get("answer")?.as_str()? != "status" {
            return None;
        }
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let node = text(status, "node");
        let nodes: Vec<&Value> = status.get("nodes").and_then(Value::as_array).into_iter().flatten().collect();
        let of = |mine: bool| nodes.iter().copied().find(|known| (text(known, "name") == node) == mine);
        Some(Self {
            active: status.get("active").and_then(Value::as_str).map(str::to_owned),
            state: of(true).map(|mine| text(mine, "state")).unwrap_or_default(),
            eligible: of(true).and_then(|mine| mine.get("eligible")?.as_bool()).unwrap_or(false),
            peer_eligible: of(false).and_then(|peer| peer.get("eligible")?.as_bool()).unwrap_or(false),
            peer_version: of(false).and_then(|peer| peer.get("version")?.as_str()).map(str::to_owned),
            disk: status.get("storage").map(|storage| text(storage, "disk")).unwrap_or_default(),
            services: status.get("services").map(|services| text(services, "state")).unwrap_or_default(),
            sentence: (text(status, "sentence"), text(status, "sentence_zh")),
            node,
        })
    }
}

/// Asks `twinpost system` of the other node, through both pair daemons.
///
/// # Errors
/// It refused, or could not be asked.
pub async fn peer(socket: &Path, request: &Request, limit: Duration) -> Result<Done, Refused> {
    let request = serde_json::to_value(request).map_err(|e| Refused::one(Text::same(e.to_string())))?;
    peer_raw(socket, &request, limit).await
}

/// The same with words that only the other pair daemon knows.
///
/// # Errors
/// It refused, or could not be asked.
pub async fn peer_raw(socket: &Path, request: &Value, limit: Duration) -> Result<Done, Refused> {
    let order = json!({ "op": "system", "order": request, "limit_s": limit.as_secs() });
    let answer = ask_within(socket, &order, limit).await;
    match answer.as_ref().and_then(|answer| answer.get("answer")?.as_str()) {
        Some("passed") => {}
        Some("error") => {
            let text = answer.as_ref().and_then(|answer| serde_json::from_value(answer.get("text")?.clone()).ok());
            return Err(Refused::one(text.unwrap_or_default()));
        }
        _ => return Err(Refused::one(Text::new("the other node could not be asked", "无法询问对方节点"))),
    }
    let said = answer.and_then(|mut answer| answer.get_mut("said").map(Value::take)).unwrap_or_default();
    match serde_json::from_value(said) {
        Ok(Line::Done(done)) => Ok(done),
        Ok(Line::Error(refused)) => Err(refused),
        Ok(Line::Progress(_)) | Err(_) => {
            Err(Refused::one(Text::new("the other node's answer is not understood", "无法理解对方节点的应答")))
        }
    }
}

/// One request, one answer.
pub async fn ask(socket: &Path, request: &Value) -> Option<Value> {
    ask_within(socket, request, ANSWER_LIMIT).await
}

async fn ask_within(socket: &Path, request: &Value, limit: Duration) -> Option<Value> {
    let asked = async {
        let (reader, mut writer) = UnixStream::connect(socket).await.ok()?.into_split();
        let mut line = serde_json::to_vec(request).ok()?;
        line.push(b'\n');
        writer.write_all(&line).await.ok()?;
        let mut answer = Vec::new();
        BufReader::new(reader).take(LINE_MAX_BYTES).read_until(b'\n', &mut answer).await.ok()?;
        serde_json::from_slice(&answer).ok()
    };
    tokio::time::timeout(limit, asked).await.ok().flatten()
}

/// How the pair is; none when no daemon answers.
pub async fn status(socket: &Path) -> Option<Pair> {
    Pair::of(&ask(socket, &json!({ "op": "status" })).await?)
}

/// Tells people something by the pair's way; false when nobody took it.
pub async fn alarm(socket: &Path, severity: &str, code: &str, text: &Text) -> bool {
    let request = json!({ "op": "alarm", "severity": severity, "code": code, "text": text });
    ask(socket, &request).await.is_some_and(|answer| answer.get("answer").and_then(Value::as_str) == Some("done"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemons_words_are_understood() {
        let said = json!({
            "answer": "status", "node": "b", "active": "b", "sentence": "all is well", "sentence_zh": "正常",
            "nodes": [{"name": "a", "state": "standby", "eligible": true, "version": "0.2.0"}, {"name": "b", "state": "active"}],
            "services": {"state": "up"}, "storage": {"disk": "UpToDate"}, "later": 1
        });
        let pair = Pair::of(&said).unwrap();
        assert!(pair.serves() && pair.peer_eligible);
        assert_eq!((pair.state.as_str(), pair.services.as_str()), ("active", "up"));
        assert_eq!(pair.disk, "UpToDate");
        assert_eq!(pair.peer_version.as_deref(), Some("0.2.0"));
        assert_eq!(Pair::of(&json!({"answer": "done"})), None);
        assert_eq!(Pair::of(&json!("rubbish")), None);
    }
}
