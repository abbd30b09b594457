//! `twinpost sms`: the process of a node's modem.
//!
//! Contract: knows nothing of mail; takes texts on its socket and gives those that come in back on it. It runs on both nodes,
//! whether mail is served here or not, and stops on SIGTERM or SIGINT. The appliance document is read again on SIGHUP and whenever its file
//! was changed, by a person or by the copy from the other node: when it is sound, the modem is brought up anew by it. On the image the
//! process is always there, and waits while the document says that there is no modem.
//!
//! Failure classes: the document has faults, the spool or the socket cannot be used: one sentence and exit 1. Trouble with the
//! modem never ends the process; it is a state that can be read and an alarm.

use crate::cli::{Mail, Order};
use crate::control::{Request, call};
use crate::node::{Folder, on_image};
use crate::{EXIT_DONE, EXIT_FAILED, complain, end_with_parent, logs, settings};
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use twinpost_pair::Client;
use twinpost_pair::api::{Answer as PairAnswer, Request as PairRequest, Status, Text};
use twinpost_sms::api::{Condition, State};
use twinpost_sms::{Language, Orders};

/// An administrator waits for an answer on a telephone: the mail process has so long to say how it is.
const ASK_MAX: Duration = Duration::from_secs(3);
/// Between two looks whether the document was changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Runs the process until a signal ends it.
pub async fn run(arguments: Mail) -> u8 {
    if let Some(parent) = arguments.with_parent {
        end_with_parent(parent, nix::sys::signal::Signal::SIGTERM);
    }
    match Box::pin(serve(Folder::new(arguments.node))).await {
        Ok(()) => EXIT_DONE,
        Err(message) => {
            complain(&message);
            EXIT_FAILED
        }
    }
}

async fn serve(folder: Folder) -> Result<(), String> {
    folder.make().map_err(|e| format!("cannot make {}: {e}", folder.path().display()))?;
    let mut document = twinpost_config::load(&folder.document()).map_err(|e| e.to_string())?;
    logs::open(&document.log)?;
    let open = |kind| signal(kind).map_err(|e| format!("cannot listen for signals: {e}"));
    let (mut terminate, mut interrupt, mut hangup) =
        (open(SignalKind::terminate())?, open(SignalKind::interrupt())?, open(SignalKind::hangup())?);
    let mut file = File::of(&folder);
    loop {
        if !document.sms.enabled {
            if !on_image() {
                return Err("the document says [sms] enabled = false: there is no modem to serve".to_owned());
            }
            tracing::info!("the document says [sms] enabled = false: waiting until it says otherwise");
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = hangup.recv() => {}
                () = file.changed() => {}
            }
            match twinpost_config::load(&folder.document()) {
                Ok(new) => document = new,
                Err(faults) => tracing::error!("the document has faults and the old one stays:\n{faults}"),
            }
            continue;
        }
        let settings = settings::sms::process(&document, &folder)?;
        let orders = Desk { folder: folder.clone(), node: document.node.name.clone() };
        let stop = CancellationToken::new();
        let mut served = Box::pin(twinpost_sms::serve(settings, orders, stop.clone()));
        tracing::info!(node = document.node.name, port = ?document.sms.port, pid = std::process::id(), "text messages are served");
        let again = loop {
            tokio::select! {
                outcome = &mut served => return outcome.map_err(|e| e.to_string()),
                _ = terminate.recv() => break None,
                _ = interrupt.recv() => break None,
                _ = hangup.recv() => {}
                () = file.changed() => {}
            }
            match twinpost_config::load(&folder.document()) {
                Ok(new) if new.sms == document.sms => tracing::info!("the document was read again: [sms] is as before"),
                Ok(new) => break Some(new),
                Err(faults) => tracing::error!("the document has faults and the old one stays:\n{faults}"),
            }
        };
        tracing::info!("text messages are stopping");
        stop.cancel();
        served.await.map_err(|e| e.to_string())?;
        match again {
            None => return Ok(()),
            Some(new) => document = new,
        }
    }
}

/// The document's file, watched by a look at it: it is replaced as a whole, seldom, and nobody waits for it.
struct File {
    path: PathBuf,
    seen: Option<(u64, i64, i64)>,
}

impl File {
    fn of(folder: &Folder) -> Self {
        let path = folder.document();
        Self { seen: Self::look(&path), path }
    }

    fn look(path: &Path) -> Option<(u64, i64, i64)> {
        let about = std::fs::metadata(path).ok()?;
        Some((about.ino(), about.mtime(), about.mtime_nsec()))
    }

    /// Waits until it is another one.
    async fn changed(&mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = Self::look(&self.path);
            if now.is_some() && std::mem::replace(&mut self.seen, now) != now {
                return;
            }
        }
    }
}

/// Carries out what an administrator's telephone orders.
struct Desk {
    folder: Folder,
    node: String,
}

impl Desk {
    /// What the mail process says of itself; none when it does not answer.
    async fn mail(&self) -> Option<Value> {
        let request = Request { order: Order::Status, actor: "order by SMS".to_owned(), attachment_bytes: 0 };
        let socket = self.folder.socket();
        tokio::time::timeout(ASK_MAX, call(&socket, &request, &[], |_| {})).await.ok()?.ok()
    }
}

impl Desk {
    /// The pair daemon of this node and what it says; none when it does not answer.
    async fn pair(&self) -> Option<(Client, Status)> {
        let asked = async {
            let mut client = Client::connect(&self.folder.pair_socket()).await.ok()?;
            let status = client.status().await.ok()?;
            Some((client, status))
        };
        tokio::time::timeout(ASK_MAX, asked).await.ok().flatten()
    }
}

impl Orders for Desk {
    async fn status(&self, state: &State, language: Language) -> String {
        let mail = self.mail().await;
        let pair = self.pair().await.map(|(_, status)| status);
        let standby = pair.as_ref().is_some_and(|pair| pair.active.as_deref().is_some_and(|active| active != self.node));
        let number = |key: &str| mail.as_ref().and_then(|m| m.get(key)).and_then(Value::as_u64).unwrap_or(0);
        let (hours, queued) = (number("up_s") / 3600, number("queue"));
        let texts = state.waiting.alarms + state.waiting.notices + state.waiting.people;
        let way = state.ways.first();
        let signal = way.and_then(|w| w.signal_dbm).map_or_else(|| "?".to_owned(), |dbm| dbm.to_string());
        let bad = |w: &&twinpost_sms::api::Way| !matches!(w.condition, Condition::Ready);
        let mut said = match (language, mail.is_some()) {
            (Language::English, true) => {
                format!("Twinpost {}: mail up {hours} h, {queued} in queue; {texts} texts wait; signal {signal} dBm.", self.node)
            }
            (Language::English, false) if standby => format!("Twinpost {}: {texts} texts wait; signal {signal} dBm.", self.node),
            (Language::Chinese, false) if standby => format!("Twinpost {}：{texts} 条短信等待；信号 {signal} dBm。", self.node),
            (Language::English, false) => {
                format!("Twinpost {}: MAIL DOES NOT ANSWER; {texts} texts wait; signal {signal} dBm.", self.node)
            }
            (Language::Chinese, true) => {
                format!(
                    "Twinpost {}：邮件已运行 {hours} 小时，队列 {queued} 封；{texts} 条短信等待；信号 {signal} dBm。",
                    self.node
                )
            }
            (Language::Chinese, false) => {
                format!("Twinpost {}：邮件服务无响应；{texts} 条短信等待；信号 {signal} dBm。", self.node)
            }
        };
        if let Some(pair) = pair {
            said = format!("{} {said}", if language == Language::English { pair.sentence } else { pair.sentence_zh });
        }
        for way in state.ways.iter().filter(bad) {
            said.push(' ');
            said.push_str(if language == Language::English { &way.text } else { &way.zh });
        }
        said
    }

    async fn acknowledge(&self, alarm: u32, by: &str, language: Language) -> Result<String, String> {
        tracing::info!(alarm, by, "an alarm was acknowledged that is not open");
        // Alarms with numbers come with the alarm part of the appliance; no alarm that this node sends now waits for an answer.
        Err(match language {
            Language::English => format!("No alarm {alarm} is open on node {}.", self.node),
            Language::Chinese => format!("节点 {} 上没有编号为 {alarm} 的未处理告警。", self.node),
        })
    }

    async fn switch(&self, by: &str, language: Language) -> Result<String, String> {
        let say = |text: &Text| if language == Language::Chinese { text.zh.clone() } else { text.en.clone() };
        let Some((mut client, status)) = self.pair().await else {
            tracing::warn!(by, "a switch to the other node was ordered, and no pair daemon answers");
            let paired = twinpost_config::load_node(self.folder.path()).is_ok_and(|node| node.pair.enabled);
            return Err(match (language, paired) {
                (Language::English, false) => {
                    format!("Node {} works alone: no pair is set up, so nothing was switched.", self.node)
                }
                (Language::Chinese, false) => format!("节点 {} 单机运行：未设置双机，未做切换。", self.node),
                (Language::English, true) => {
                    format!("Node {}: the pair daemon does not answer, nothing was switched.", self.node)
                }
                (Language::Chinese, true) => format!("节点 {}：双机守护进程无应答，未做切换。", self.node),
            });
        };
        let here = status.active.as_deref() == Some(self.node.as_str());
        tracing::warn!(by, active = ?status.active, "a switch to the other node was ordered by telephone");
        match client.ask(&if here { PairRequest::Standby } else { PairRequest::Takeover }).await {
            Ok(PairAnswer::Done { text }) => Ok(say(&text)),
            Ok(PairAnswer::Refused { reasons }) => Err(reasons.iter().map(|r| say(&r.text)).collect::<Vec<_>>().join(" ")),
            Ok(PairAnswer::Error { text }) => Err(say(&text)),
            Ok(_) => Err("?".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}
