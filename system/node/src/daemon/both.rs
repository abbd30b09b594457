//! The update of both nodes: carries out the plan of [`twinpost_update::plan`] from the node where the order was given.
//!
//! Contract: the plan is on the disk before each of its actions, and goes on after a start of this node or this daemon. The other node is spoken to
//! through the pair daemons of both ([`link::peer`]); the bundle goes over their channel. The order's caller sees each step as progress while it
//! listens, and so does who asks either node how it stands ([`status`]); what became of it is told to people once.
//!
//! Failure classes: the plan's own: an action that failed ends it, and its end says which node runs what.

use super::{Machine, disks, facts, link, power, update};
use crate::api::{self, BundleFrom, Done, Power, Refused, Request, Text};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use twinpost_update::bundle::Reader;
use twinpost_update::health::{Baseline, Verdict};
use twinpost_update::plan::{Action, Mark, Next, NodeView, Plan, View};
use twinpost_update::{Keys, Release, install, release};

/// Where the plan and the bundle are kept: on the state volume, for the stick may be pulled and the node starts again.
pub const FOLDER: &str = "/state/system";
/// The bundle on its way to both slots.
pub const BUNDLE: &str = "/state/system/update.bundle";
/// A bundle so old belongs to no update that is under way.
const BUNDLE_OLD: Duration = Duration::from_secs(24 * 3600);
/// Between two looks at both nodes.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// Writing and reading back a slot on a slow disk.
const INSTALL_LIMIT: Duration = Duration::from_secs(1800);
/// The bundle over a slow link.
const COPY_LIMIT: Duration = Duration::from_secs(1800);
/// Everything else is answered at once.
const ASK_LIMIT: Duration = Duration::from_secs(20);
/// Somebody waits for the status.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// Changes with every start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// This node for the plan.
///
/// # Errors
/// The record or a boot partition cannot be read.
pub async fn node_view(machine: &Machine) -> Result<NodeView, Refused> {
    let pair = link::status(&machine.settings.pair_socket()).await.unwrap_or_default();
    let status = update::blocking(|| install::status(&update::platform())).await?;
    Ok(NodeView {
        name: pair.node.clone(),
        release: status.release,
        boot: std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned(),
        serving: pair.serves(),
        eligible: pair.eligible,
        on_trial: status.on_trial,
        attempt: status.record.attempt,
        well: Some(matches!(*machine.verdict.borrow(), Verdict::Healthy)),
        doing: machine.now.lock().clone().map(|now| twinpost_update::Step {
            what: twinpost_update::Text::new(now.what.en, now.what.zh),
            done: now.done,
            of: now.of,
        }),
        plan: Plan::load(Path::new(FOLDER)).map(Box::new),
    })
}

fn step_of(doing: &twinpost_update::Step) -> api::Step {
    api::Step { what: update::text(&doing.what), done: doing.done, of: doing.of }
}

/// Versions in both slots, and how the update of both nodes stands that this node or the other leads, or led last.
///
/// # Errors
/// The record or a boot partition cannot be read.
pub async fn status(machine: &Machine) -> Result<Done, Refused> {
    let mut done = update::status().await?;
    let here = node_view(machine).await?;
    let leads = |node: &NodeView| node.plan.as_ref().is_some_and(|plan| !plan.over());
    let mut leader = here.clone();
    if machine.paired() && !leads(&here) {
        let there = link::peer(&machine.settings.pair_socket(), &Request::UpdateView, LOOK_LIMIT).await.ok();
        let there = there.and_then(|done| serde_json::from_value::<NodeView>(done.value).ok());
        if let Some(there) = &there {
            done.value["peer"] = json!({ "node": there.name, "version": there.release.version, "on_trial": there.on_trial });
            if there.release.sequence != here.release.sequence {
                let (name, version) = (&there.name, &there.release.version);
                done.text.en.push_str(&format!(" Node {name} runs version {version}."));
                done.text.zh.push_str(&format!("节点 {name} 运行版本 {version}。"));
            }
        }
        if let Some(there) = there.filter(leads) {
            leader = there;
        }
    }
    let Some(plan) = &leader.plan else { return Ok(done) };
    let marks: Vec<Value> = plan.steps().iter().map(|(text, mark)| json!({ "text": text, "mark": mark })).collect();
    done.value["both"] = json!({
        "version": plan.release.version,
        "led_by": leader.name,
        "over": plan.over(),
        "stage": plan.stage,
        "steps": marks,
        "doing": leader.doing,
    });
    if !plan.over() {
        let (version, name) = (&plan.release.version, &leader.name);
        done.text.en.push_str(&format!("\nBoth nodes go to version {version}, led by node {name}:"));
        done.text.zh.push_str(&format!("\n两个节点正在升级到版本 {version}（由节点 {name} 主持）："));
        for (step, mark) in plan.steps() {
            let sign = match mark {
                Mark::Done => "+",
                Mark::Now => ">",
                Mark::Todo => " ",
                Mark::Failed => "!",
            };
            done.text.en.push_str(&format!("\n {sign} {}", step.en));
            done.text.zh.push_str(&format!("\n {sign} {}", step.zh));
        }
        if let Some(doing) = &leader.doing {
            let share = (doing.done.min(doing.of) * 100).checked_div(doing.of);
            let share = share.map_or_else(String::new, |share| format!(", {share} %"));
            done.text.en.push_str(&format!("\nNow: {}{share}", doing.what.en));
            done.text.zh.push_str(&format!("\n现在：{}{share}", doing.what.zh));
        }
    }
    Ok(done)
}

/// The bundle of an update of both that came to an end.
pub async fn forget_bundle() {
    let _ = tokio::fs::remove_file(BUNDLE).await;
}

/// A copy whose leader never said that it is over (a plan takes hours at most).
async fn forget_old_bundle() {
    let age = tokio::fs::metadata(BUNDLE).await.and_then(|facts| facts.modified()).ok().and_then(|at| at.elapsed().ok());
    if age.is_some_and(|age| age >= BUNDLE_OLD) {
        forget_bundle().await;
    }
}

async fn view(machine: &Machine) -> Result<View, Refused> {
    let here = node_view(machine).await?;
    let there = link::peer(&machine.settings.pair_socket(), &Request::UpdateView, ASK_LIMIT).await.ok();
    Ok(View { here, there: there.and_then(|done| serde_json::from_value(done.value).ok()) })
}

async fn release_of(bundle: PathBuf) -> Result<Release, Refused> {
    update::blocking(move || {
        let keys = Keys::load(Path::new(release::KEYS))?;
        let file = std::fs::File::open(&bundle).map_err(twinpost_update::io_error("open", &bundle))?;
        Ok(Reader::open(std::io::BufReader::new(file), &keys)?.manifest().release.clone())
    })
    .await
}

/// What the update of both nodes would do.
///
/// # Errors
/// All reasons against it.
pub async fn preview(machine: &Machine, bundle: PathBuf, downgrade: bool) -> Result<Done, Refused> {
    let release = release_of(bundle).await?;
    let plan = Plan::new(&view(machine).await?, release, downgrade).map_err(|error| update::failed(&error))?;
    let (mut en, mut zh) = (Vec::new(), Vec::new());
    for (step, _) in plan.steps() {
        en.push(format!("- {}", step.en));
        zh.push(format!("- {}", step.zh));
    }
    let version = &plan.release.version;
    let text = Text::new(
        format!("Both nodes go to version {version}, one after the other; clients connect once more:\n{}", en.join("\n")),
        format!("两个节点将依次升级到版本 {version}，客户端需重新连接一次：\n{}", zh.join("\n")),
    );
    Ok(Done { text, value: json!({ "plan": plan }), confirm: None })
}

/// Begins the update of both nodes and follows it as far as this node lives to see it.
///
/// # Errors
/// All reasons against it; why it stopped.
pub async fn go(machine: &Machine, bundle: PathBuf, downgrade: bool, step: api::Progress<'_>) -> Result<Done, Refused> {
    let release = release_of(bundle.clone()).await?;
    let plan = Plan::new(&view(machine).await?, release, downgrade).map_err(|error| update::failed(&error))?;
    if bundle != Path::new(BUNDLE) {
        let copied = tokio::fs::copy(&bundle, BUNDLE).await;
        copied.map_err(|error| {
            Refused::one(Text::new(format!("cannot copy the bundle to {BUNDLE}: {error}"), format!("无法复制升级包：{error}")))
        })?;
    }
    plan.store(Path::new(FOLDER)).map_err(|error| update::failed(&error))?;
    follow(machine, plan, step).await
}

/// Goes on with a plan that a start of this node interrupted.
pub async fn resume(machine: Arc<Machine>) {
    let Some(mut plan) = Plan::load(Path::new(FOLDER)).filter(|plan| !(plan.over() && plan.told)) else {
        return forget_old_bundle().await;
    };
    let turn = machine.turn(Text::new("both nodes are updated", "正在升级两个节点"));
    let Ok(_turn) = turn.inspect_err(|refused| tracing::error!(?refused, "the update of both nodes cannot go on")) else {
        return;
    };
    plan.resumed();
    if let Err(error) = plan.store(Path::new(FOLDER)) {
        tracing::error!(%error, "the plan of the update cannot be kept");
        return;
    }
    tracing::info!(version = plan.release.version, "the update of both nodes goes on");
    if let Err(refused) = follow(&machine, plan, &|now| *machine.now.lock() = Some(now)).await {
        tracing::warn!(?refused, "the update of both nodes has ended");
    }
}

async fn follow(machine: &Machine, mut plan: Plan, step: api::Progress<'_>) -> Result<Done, Refused> {
    let (mut last, mut said) = (Instant::now(), String::new());
    loop {
        // What cannot be read now may be readable in a moment; the plan's own times end it.
        let Ok(view) = view(machine).await else {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        };
        let elapsed_ms = u64::try_from(last.elapsed().as_millis()).unwrap_or(u64::MAX);
        last = Instant::now();
        let next = plan.look(&view, elapsed_ms);
        plan.store(Path::new(FOLDER)).map_err(|error| update::failed(&error))?;
        match next {
            Next::Wait(what) => {
                if said != what.en {
                    said.clone_from(&what.en);
                    tracing::info!(what = what.en, "the update of both nodes");
                    step(api::Step { what: update::text(&what), done: 0, of: 0 });
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Next::Do(action) => {
                tracing::info!(?action, "the update of both nodes");
                step(api::Step { what: words(&action), done: 0, of: 0 });
                said.clear();
                let done = act(machine, &plan, &action, step).await;
                let reasons = |refused: Refused| {
                    refused.reasons.into_iter().map(|reason| twinpost_update::Text::new(reason.en, reason.zh)).collect()
                };
                plan.finished(done.map_err(reasons));
                plan.store(Path::new(FOLDER)).map_err(|error| update::failed(&error))?;
                last = Instant::now();
            }
            Next::Over => break,
        }
    }
    let Some(news) = plan.news() else { return Ok(Done::default()) };
    let text = update::text(&news.text);
    let severity = if matches!(news.severity, twinpost_update::record::Severity::Info) { "info" } else { "serious" };
    if link::alarm(&machine.settings.pair_socket(), severity, &news.code, &text).await {
        plan.told = true;
        plan.store(Path::new(FOLDER)).map_err(|error| update::failed(&error))?;
    }
    forget_bundle().await;
    // One that does not answer now forgets it by its age.
    let _ = link::peer(&machine.settings.pair_socket(), &Request::UpdateForget, ASK_LIMIT).await;
    if severity == "info" { Ok(Done { text, value: json!({ "plan": plan }), confirm: None }) } else { Err(Refused::one(text)) }
}

async fn act(machine: &Machine, plan: &Plan, action: &Action, step: api::Progress<'_>) -> Result<(), Refused> {
    let socket = machine.settings.pair_socket();
    let here = |node: &String| *node == plan.here;
    match action {
        Action::Copy => link::peer_raw(&socket, &json!({ "op": "receive_bundle" }), COPY_LIMIT).await.map(drop),
        Action::Install { node } if here(node) => {
            let facts = facts::gather(&machine.settings, &disks::machine()).await;
            let order = update::Order { bundle: BUNDLE.into(), downgrade: plan.downgrade, baseline: Baseline::of(&facts) };
            update::install(order, true, step).await.map(drop)
        }
        Action::Install { .. } => {
            let from = BundleFrom::File(BUNDLE.into());
            let request = Request::UpdateInstall { from, downgrade: plan.downgrade, this_node: true, go: true };
            watched(&socket, link::peer(&socket, &request, INSTALL_LIMIT), step).await.map(drop)
        }
        Action::Switch { to } => {
            let op = if here(to) { "takeover" } else { "standby" };
            match link::ask(&socket, &json!({ "op": op })).await {
                Some(answer) if answer["answer"] == "done" => Ok(()),
                other => Err(refusal(other.as_ref())),
            }
        }
        Action::Restart { node } if here(node) => {
            power::go(Power::Reboot, &socket, |_| {}).await;
            Ok(())
        }
        Action::Return { node, reasons } if here(node) => {
            update::withdraw(reasons.iter().map(update::text).collect()).await?;
            power::go(Power::Reboot, &socket, |_| {}).await;
            Ok(())
        }
        Action::Return { reasons, .. } => {
            let request = Request::UpdateReturn { reasons: reasons.iter().map(update::text).collect() };
            link::peer(&socket, &request, ASK_LIMIT).await.map(drop)
        }
        Action::Restart { .. } => {
            link::peer(&socket, &Request::Power { what: Power::Reboot, go: true }, ASK_LIMIT).await.map(drop)
        }
    }
}

/// What the other node does, and how far that is, while it does it.
async fn watched<T>(socket: &Path, work: impl Future<Output = T>, step: api::Progress<'_>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let view = link::peer(socket, &Request::UpdateView, LOOK_LIMIT).await.ok();
        let view = view.and_then(|done| serde_json::from_value::<NodeView>(done.value).ok());
        if let Some(doing) = view.and_then(|view| view.doing) {
            step(step_of(&doing));
        }
    }
}

/// An action, for people.
fn words(action: &Action) -> Text {
    match action {
        Action::Copy => Text::new("copying the bundle to the other node", "正在将升级包复制到对方节点"),
        Action::Install { node } => {
            Text::new(format!("node {node} writes the new version"), format!("节点 {node} 正在写入新版本"))
        }
        Action::Switch { to } => Text::new(format!("the service moves to node {to}"), format!("服务正在切换到节点 {to}")),
        Action::Restart { node } => Text::new(format!("node {node} starts again"), format!("节点 {node} 正在重新启动")),
        Action::Return { node, .. } => {
            Text::new(format!("node {node} goes back to the version before"), format!("节点 {node} 正在恢复之前的版本"))
        }
    }
}

/// All reasons of a refusal of the pair daemon.
fn refusal(answer: Option<&Value>) -> Refused {
    let reasons = answer.and_then(|answer| answer.get("reasons")).and_then(Value::as_array);
    let reasons: Vec<Text> =
        reasons.into_iter().flatten().filter_map(|reason| serde_json::from_value(reason.get("text")?.clone()).ok()).collect();
    if reasons.is_empty() {
        return Refused::one(Text::new("the pair daemon did not switch", "双机守护进程未执行切换"));
    }
    Refused { reasons }
}
