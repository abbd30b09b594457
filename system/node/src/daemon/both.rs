//! The update of both nodes: carries out the plan of [`twinpost_update::plan`] from the node where the order was given.
//!
//! Contract: the plan is on the disk before each of its actions, and goes on after a start of this node or this daemon. The other node is spoken to
//! through the pair daemons of both ([`link::peer`]); the bundle goes over their channel. The order's caller sees each step as progress while it
//! listens; what became of it is told to people once.
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
use twinpost_update::health::Baseline;
use twinpost_update::plan::{Action, Next, NodeView, Plan, View};
use twinpost_update::{Keys, Release, install, release};

/// Where the plan and the bundle are kept: on the state volume, for the stick may be pulled and the node starts again.
pub const FOLDER: &str = "/state/system";
/// The bundle on its way to both slots.
pub const BUNDLE: &str = "/state/system/update.bundle";
/// Between two looks at both nodes.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// Writing and reading back a slot on a slow disk.
const INSTALL_LIMIT: Duration = Duration::from_secs(1800);
/// The bundle over a slow link.
const COPY_LIMIT: Duration = Duration::from_secs(1800);
/// Everything else is answered at once.
const ASK_LIMIT: Duration = Duration::from_secs(20);
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
    })
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
    let Some(mut plan) = Plan::load(Path::new(FOLDER)) else { return };
    if plan.over() && plan.told {
        return;
    }
    plan.resumed();
    if let Err(error) = plan.store(Path::new(FOLDER)) {
        tracing::error!(%error, "the plan of the update cannot be kept");
        return;
    }
    tracing::info!(version = plan.release.version, "the update of both nodes goes on");
    if let Err(refused) = follow(&machine, plan, &|_| {}).await {
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
    let _ = tokio::fs::remove_file(BUNDLE).await;
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
            link::peer(&socket, &request, INSTALL_LIMIT).await.map(drop)
        }
        Action::Switch { to } => {
            let op = if here(to) { "takeover" } else { "standby" };
            match link::ask(&socket, &json!({ "op": op })).await {
                Some(answer) if answer["answer"] == "done" => Ok(()),
                other => Err(refusal(other.as_ref())),
            }
        }
        Action::Restart { node } if here(node) => power::go(Power::Reboot, &socket, |_| {}).await.map(drop),
        Action::Restart { .. } => {
            link::peer(&socket, &Request::Power { what: Power::Reboot, go: true }, ASK_LIMIT).await.map(drop)
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
