//! `twinpost ctl pair`: orders for the pair daemon, and its state for people.
//!
//! Contract: orders that disconnect people are previewed first and asked for on a terminal; elsewhere they need `--yes`. A refusal
//! lists every reason. Which node is meant: the one whose folder is given, or, for a folder that holds both, the one that the order is for
//! (the active for `standby`, the standby for `takeover`).

use super::show;
use crate::cli::{ConflictOrder, CopyOrder, FailBackTo, MaintenanceOrder, PairOrder, PreviewOf, Sure, Whose};
use crate::node::Folder;
use crate::{EXIT_DONE, EXIT_FAILED, EXIT_UNREACHABLE, complain};
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use twinpost_pair::api::{
    Alarm, Answer, ConfigAsk, Conflict, FailBack, LinkStatus, NodeStatus, OrderName, Refusal, Request, Status, Text,
};
use twinpost_pair::{Client, Error};

/// Alarms that the state shows.
const ALARMS_SHOWN: usize = 5;

/// Carries out an order about the pair, if it is not one for the mail process; gives the exit code.
pub async fn run(order: &PairOrder, dir: &Path, json: bool) -> Option<u8> {
    let language = Language::of_terminal();
    let outcome = match order {
        PairOrder::Conflict(ConflictOrder::List { aside } | ConflictOrder::Merge { aside, .. }) => {
            if aside.is_none() {
                bring(dir, json, language).await;
            }
            return None;
        }
        PairOrder::Pairing(order) => return Some(super::pairing::run(order, dir, json).await),
        PairOrder::Status { watch: true } => watch(dir, json, language).await,
        PairOrder::Status { watch: false } => any(dir).await.map(|(_, status)| {
            show::note(&page(&status, language), &value(&status), json);
            EXIT_DONE
        }),
        PairOrder::Alarms => any(dir).await.map(|(_, status)| {
            let lines: Vec<String> = status.alarms.iter().map(|alarm| told(alarm, language)).collect();
            let text = if lines.is_empty() { "nothing happened".to_owned() } else { lines.join("\n") };
            show::note(&text, &value(&status.alarms), json);
            EXIT_DONE
        }),
        PairOrder::Standby(sure) => switch(dir, Role::Active, OrderName::Standby, Request::Standby, *sure, json, language).await,
        PairOrder::Takeover { sure, force: false } => {
            switch(dir, Role::Standby, OrderName::Takeover, Request::Takeover, *sure, json, language).await
        }
        PairOrder::Takeover { sure, force: true } => {
            let order = Request::Force { confirm: true };
            switch(dir, Role::Standby, OrderName::Force, order, *sure, json, language).await
        }
        PairOrder::Maintenance(MaintenanceOrder::On { for_s }) => {
            order_any(dir, Request::Maintenance { for_s: Some(*for_s) }, json, language).await
        }
        PairOrder::Maintenance(MaintenanceOrder::Off) => {
            order_any(dir, Request::Maintenance { for_s: None }, json, language).await
        }
        PairOrder::FailBack { to, after } => {
            let after_s = u32::try_from(*after).unwrap_or(u32::MAX);
            let rule = match to {
                FailBackTo::Never => FailBack::Never,
                FailBackTo::A => FailBack::Node { node: "a".to_owned(), after_s },
                FailBackTo::B => FailBack::Node { node: "b".to_owned(), after_s },
            };
            order_any(dir, Request::FailBack { rule }, json, language).await
        }
        PairOrder::Resync(sure) => switch(dir, Role::Active, OrderName::Resync, Request::Resync, *sure, json, language).await,
        PairOrder::Conflict(ConflictOrder::GiveWay(sure)) => {
            switch(dir, Role::Standby, OrderName::GiveWay, Request::GiveWay, *sure, json, language).await
        }
        PairOrder::Config(order) => {
            let what = match order {
                CopyOrder::Show => ConfigAsk::Show,
                CopyOrder::Choose { whose: Whose::Ours } => ConfigAsk::Ours,
                CopyOrder::Choose { whose: Whose::Theirs } => ConfigAsk::Theirs,
            };
            order_any(dir, Request::Config { what }, json, language).await
        }
        PairOrder::Preview { order } => {
            let (role, order) = match order {
                PreviewOf::Standby => (Role::Active, OrderName::Standby),
                PreviewOf::Takeover => (Role::Standby, OrderName::Takeover),
                PreviewOf::Maintenance => (Role::Any, OrderName::Maintenance),
                PreviewOf::Resync => (Role::Active, OrderName::Resync),
                PreviewOf::Force => (Role::Standby, OrderName::Force),
                PreviewOf::GiveWay => (Role::Standby, OrderName::GiveWay),
            };
            preview(dir, role, order, json, language).await
        }
    };
    Some(outcome.unwrap_or_else(|why| {
        if json {
            show::note("", &json!({ "error": why.message }), true);
        } else {
            complain(&why.message);
        }
        why.exit
    }))
}

/// Why an order did not get through.
struct Why {
    message: String,
    exit: u8,
}

impl From<Error> for Why {
    fn from(error: Error) -> Self {
        Self { message: error.to_string(), exit: EXIT_UNREACHABLE }
    }
}

/// The node that an order is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Active,
    Standby,
    Any,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    English,
    Chinese,
}

impl Language {
    /// As the terminal says (`LC_ALL`, `LC_MESSAGES`, `LANG`).
    pub(super) fn of_terminal() -> Self {
        let said =
            ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
        if said.is_some_and(|locale| locale.starts_with("zh")) { Self::Chinese } else { Self::English }
    }
    fn say(self, text: &Text) -> &str {
        if self == Self::Chinese { &text.zh } else { &text.en }
    }
    pub(super) fn word(self, en: &'static str, zh: &'static str) -> &'static str {
        self.both(en, zh)
    }
    /// The one of both that is spoken here.
    pub(super) fn both<'a>(self, en: &'a str, zh: &'a str) -> &'a str {
        if self == Self::Chinese { zh } else { en }
    }
}

/// The daemons of this folder that answer, with what they say: of the node that the folder is, or of both that it holds.
async fn daemons(dir: &Path) -> Result<Vec<(Client, Status)>, Why> {
    let mut found = Vec::new();
    let mut trouble = None;
    let folders = Folder::pair_of(dir);
    for folder in &folders {
        match greet(folder).await {
            Ok(answers) => found.push(answers),
            Err(error) => trouble = Some(error),
        }
    }
    match trouble {
        Some(error) if found.is_empty() => {
            let paired = folders.iter().any(|f| twinpost_config::load_node(f.path()).is_ok_and(|node| node.pair.enabled));
            let message = if paired {
                format!("no pair daemon answers in {}: {error}", dir.display())
            } else {
                format!("{} holds a node alone: there is no pair", dir.display())
            };
            Err(Why { message, exit: EXIT_UNREACHABLE })
        }
        _ => Ok(found),
    }
}

async fn greet(folder: &Folder) -> Result<(Client, Status), Error> {
    let mut client = Client::connect(&folder.pair_socket()).await?;
    let status = client.status().await?;
    Ok((client, status))
}

/// The daemon that knows most: the active's, if it answers.
async fn any(dir: &Path) -> Result<(Client, Status), Why> {
    one(dir, Role::Any).await
}

async fn one(dir: &Path, role: Role) -> Result<(Client, Status), Why> {
    let mut found = daemons(dir).await?;
    let serves = |status: &Status| status.active.as_deref() == Some(status.node.as_str());
    let at = found.iter().position(|(_, status)| serves(status) == (role != Role::Standby)).unwrap_or(0);
    Ok(found.swap_remove(at))
}

async fn order_any(dir: &Path, request: Request, json: bool, language: Language) -> Result<u8, Why> {
    let (mut client, _) = any(dir).await?;
    answered(client.ask(&request).await?, json, language)
}

/// What the peer set aside comes to the node that serves, before it is compared there. Without a peer, what is here is all there is.
async fn bring(dir: &Path, json: bool, language: Language) {
    let Ok((mut client, _)) = one(dir, Role::Active).await else { return };
    match client.ask(&Request::Conflict { what: Conflict::List }).await {
        Ok(Answer::Told { text }) if !json => complain(language.say(&text)),
        Ok(Answer::Error { text }) => complain(language.say(&text)),
        _ => {}
    }
}

/// A mail order given on a node that does not serve: passed on to the one that does; none when no pair daemon answers here.
pub async fn pass_on(dir: &Path, request: &crate::control::Request) -> Option<Result<Value, crate::control::Failure>> {
    let (mut client, status) = any(dir).await.ok()?;
    let failed = |message: String| crate::control::Failure { message, exit: EXIT_UNREACHABLE, found: None };
    let Some(active) = status.active.filter(|active| *active != status.node) else {
        return Some(Err(failed(format!("neither node serves mail now: {}", status.sentence))));
    };
    if request.attachment_bytes > 0 {
        return Some(Err(failed(format!("node {active} serves: give this order there, it brings a file with it"))));
    }
    let order = serde_json::to_value(request).ok()?;
    Some(match client.ask(&Request::Mail { order }).await {
        Ok(Answer::Passed { said }) => match serde_json::from_value(said) {
            Ok(crate::control::Answer::Done(value)) => Ok(value),
            Ok(crate::control::Answer::Failed(failure)) => Err(failure),
            Ok(crate::control::Answer::Progress(_)) => Err(failed(format!("node {active} serves, and did not finish the order"))),
            Err(error) => Err(failed(format!("node {active} serves, and its answer is not understood: {error}"))),
        },
        Ok(Answer::Error { text }) => Err(failed(format!("node {active} serves: give the order there ({})", text.en))),
        Ok(_) => Err(failed(format!("node {active} serves: give the order there"))),
        Err(error) => Err(failed(format!("node {active} serves: give the order there ({error})"))),
    })
}

/// An order that people notice: previewed, asked for, given.
async fn switch(
    dir: &Path,
    role: Role,
    name: OrderName,
    request: Request,
    sure: Sure,
    json: bool,
    language: Language,
) -> Result<u8, Why> {
    let (mut client, _) = one(dir, role).await?;
    if !sure.yes {
        match client.ask(&Request::Preview { order: name }).await? {
            Answer::Preview { text, reasons } if reasons.is_empty() => {
                if !asked(language.say(&text), language) {
                    let message = language.word("nothing was done", "未做任何操作").to_owned();
                    return Err(Why { message, exit: EXIT_FAILED });
                }
            }
            Answer::Preview { reasons, .. } => return answered(Answer::Refused { reasons }, json, language),
            other => return answered(other, json, language),
        }
    }
    answered(client.ask(&request).await?, json, language)
}

async fn preview(dir: &Path, role: Role, order: OrderName, json: bool, language: Language) -> Result<u8, Why> {
    let (mut client, _) = one(dir, role).await?;
    let answer = client.ask(&Request::Preview { order }).await?;
    let Answer::Preview { text, reasons } = &answer else { return answered(answer, json, language) };
    let mut page = language.say(text).to_owned();
    if !reasons.is_empty() {
        page.push_str(language.word("\nImpossible now:\n", "\n目前无法执行：\n"));
        page.push_str(&list(reasons, language));
    }
    show::note(&page, &value(&answer), json);
    Ok(if reasons.is_empty() { EXIT_DONE } else { EXIT_FAILED })
}

/// Asks on the terminal; without one the answer is no.
#[allow(clippy::print_stderr, reason = "a question on the terminal")]
fn asked(what: &str, language: Language) -> bool {
    if !std::io::stdin().is_terminal() {
        complain(language.word("nobody is there to ask: add --yes", "没有可以询问的终端：请加 --yes"));
        return false;
    }
    eprint!("{what}\n{} ", language.word("Go on? [y/N]", "继续？[y/N]"));
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes" | "是")
}

fn list(reasons: &[Refusal], language: Language) -> String {
    reasons.iter().map(|reason| format!("- {}", language.say(&reason.text))).collect::<Vec<_>>().join("\n")
}

fn answered(answer: Answer, json: bool, language: Language) -> Result<u8, Why> {
    if json {
        show::note("", &value(&answer), true);
        return Ok(if matches!(answer, Answer::Refused { .. } | Answer::Error { .. }) { EXIT_FAILED } else { EXIT_DONE });
    }
    match answer {
        Answer::Done { text } | Answer::Told { text } | Answer::Preview { text, .. } => show::text(language.say(&text)),
        Answer::Status(status) => show::text(&page(&status, language)),
        Answer::Code { code, .. } => show::text(&code),
        Answer::Passed { said } => show::text(&said.to_string()),
        Answer::Refused { reasons } => {
            let title = language.word("refused, nothing has changed:", "已拒绝，未做任何更改：");
            return Err(Why { message: format!("{title}\n{}", list(&reasons, language)), exit: EXIT_FAILED });
        }
        Answer::Error { text } => return Err(Why { message: language.say(&text).to_owned(), exit: EXIT_FAILED }),
    }
    Ok(EXIT_DONE)
}

/// The state at each change, until Ctrl-C.
async fn watch(dir: &Path, json: bool, language: Language) -> Result<u8, Why> {
    let clear = !json && std::io::stdout().is_terminal();
    loop {
        let (client, _) = any(dir).await?;
        let mut changes = client.watch().await?;
        while let Ok(status) = changes.next().await {
            if json {
                show::text(&value(&status).to_string());
            } else {
                let home = if clear { "\u{1b}[H\u{1b}[J" } else { "" };
                show::text(&format!("{home}{}\n", page(&status, language)));
            }
        }
        // That daemon is gone; its peer may know more.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

fn value(of: impl serde::Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_else(|e| json!({ "error": e.to_string() }))
}

fn told(alarm: &Alarm, language: Language) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp(alarm.at)
        .ok()
        .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_default();
    format!("{at} {:?}: {}", alarm.severity, language.say(&alarm.text)).replace('\n', "\n  ")
}

/// One sentence, then what it stands on.
fn page(status: &Status, language: Language) -> String {
    let sentence = if language == Language::Chinese { &status.sentence_zh } else { &status.sentence };
    let mut page = format!("{sentence}\n\n");
    page.push_str(&nodes(&status.nodes, language));
    page.push_str("\n\n");
    page.push_str(&links(&status.links, language));
    page.push('\n');
    let mut line = |name: &str, text: String| page.push_str(&format!("\n{name}: {text}"));
    if let Some(storage) = &status.storage {
        line(
            language.word("storage", "存储"),
            if language == Language::Chinese { storage.sentence_zh.clone() } else { storage.sentence.clone() },
        );
    }
    let services = &status.services;
    let why = services.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    line(language.word("services here", "本节点服务"), format!("{}{why}", services.state));
    if let Some(witness) = &status.witness {
        line(
            language.word("witness", "见证"),
            if witness.reachable { language.word("answers", "有应答") } else { language.word("DOES NOT ANSWER", "无应答") }
                .to_owned(),
        );
    }
    if let Some(fencing) = &status.fencing {
        line(
            language.word("power switch", "电源开关"),
            format!("{} {}", fencing.name, fencing.last.as_deref().unwrap_or_default()),
        );
    }
    if let Some(watchdog) = &status.watchdog {
        let state = if watchdog.open { language.word("fed", "运行中") } else { language.word("NOT OPEN", "未打开") };
        line(language.word("watchdog", "看门狗"), format!("{state}, {} s", f64::from(watchdog.timeout_ms) / 1000.0));
    }
    if let Some(left_s) = status.maintenance_left_s {
        line(language.word("maintenance ends in", "维护剩余"), format!("{} min", left_s.div_ceil(60)));
    }
    if let FailBack::Node { node, after_s } = &status.fail_back {
        line(language.word("falls back to", "自动切回"), format!("{node}, {after_s} s"));
    }
    if let Some(switch) = &status.last_switch {
        let s = &switch.steps;
        line(
            language.word("last switch", "上次切换"),
            format!(
                "{} -> {}, reign {}, {}, {} ms (detected {}, proof {}, stored {}, storage {}, address {}, services {}, checked {})",
                switch.from.as_deref().unwrap_or("?"),
                switch.to,
                switch.reign,
                switch.proof,
                switch.took_ms,
                s.detected_ms,
                s.proof_ms,
                s.stored_ms,
                s.promoted_ms,
                s.address_ms,
                s.services_ms,
                s.checked_ms
            ),
        );
    }
    for alarm in status.alarms.iter().rev().take(ALARMS_SHOWN).rev() {
        page.push_str(&format!("\n{}", told(alarm, language)));
    }
    page
}

fn nodes(nodes: &[NodeStatus], language: Language) -> String {
    let mut table = show::blank();
    table.set_header(match language {
        Language::English => ["node", "state", "may take over", "reign", "since", "heard", "configuration", "version"],
        Language::Chinese => ["节点", "状态", "可接管", "任期", "持续", "最近心跳", "配置", "版本"],
    });
    for node in nodes {
        table.add_row([
            node.name.clone(),
            node.state.clone(),
            if node.eligible { language.word("yes", "是") } else { language.word("no", "否") }.to_owned(),
            node.reign.to_string(),
            ago(node.since_ms),
            node.silent_ms
                .map_or_else(|| language.word("never", "从未").to_owned(), |ms| if ms == 0 { String::new() } else { ago(ms) }),
            node.config_generation.to_string(),
            node.version.clone().unwrap_or_default(),
        ]);
    }
    table.to_string()
}

fn links(links: &[LinkStatus], language: Language) -> String {
    let mut table = show::blank();
    table.set_header(match language {
        Language::English => ["link", "state", "heard", "sent", "received", "dropped", "trouble"],
        Language::Chinese => ["链路", "状态", "最近心跳", "已发送", "已接收", "已丢弃", "故障"],
    });
    for link in links {
        let d = &link.dropped;
        let classes = [
            ("forged", d.forged),
            ("replayed", d.replayed),
            ("cluster", d.cluster),
            ("version", d.version),
            ("cut", d.cut),
            ("own", d.own),
            ("meaning", d.meaning),
        ];
        let dropped: Vec<String> = classes.into_iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}")).collect();
        table.add_row([
            link.name.clone(),
            link.state.clone(),
            link.heard_ms.map(ago).unwrap_or_default(),
            link.sent.to_string(),
            link.received.to_string(),
            dropped.join(", "),
            link.trouble.as_ref().map(|text| language.say(text).to_owned()).unwrap_or_default(),
        ]);
    }
    table.to_string()
}

/// 350 ms, 12 s, 5 min, 3 h, 2 d.
fn ago(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}
