//! The update of both nodes of a pair: the standby first; then the service moves to it and shows that it works there; then the other.
//!
//! A pure machine that lives on the node where the order was given: facts about both nodes and the passing of time come in ([`Plan::look`]), one action at a time comes
//! out ([`Action`]), and its end comes in ([`Plan::finished`]). It survives the restart of its own node: store it after every change *before* the action is carried
//! out, call [`Plan::resumed`] after a start. Facts win over memory: a step whose result is there already is not done again.
//!
//! Contract: no node that serves is ever restarted; the second node is not touched before the first runs the new version, has found itself healthy and has served well for a while: a
//! standby does not open the mail store, so only serving shows that the new version can. One that cannot goes back to the version before, and the service with it. Every wait has an end,
//! and what ends badly leaves the pair working and says which node runs what.
//!
//! Failure classes: [`Plan::new`] refuses with all reasons; later everything that goes wrong ends in [`Stage::Aborted`].

mod words;

use crate::error::Error;
use crate::record;
use crate::release::Release;
use crate::text::{Step, Text};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A node must be back and kept after so long, or back with the version before: three starts of a server whose firmware takes minutes, and the judgement.
pub const BACK_MS: u64 = 30 * 60_000;
/// Its data must be current after so long.
pub const SYNC_MS: u64 = 2 * 3_600_000;
/// A switch must be over after so long.
pub const SWITCH_MS: u64 = 2 * 60_000;
/// The first node must serve well for so long, without a break, before the second is touched.
pub const PROVE_MS: u64 = 20_000;
/// It must have done so after so long: opening a large store, a new form of its data.
pub const PROVE_LIMIT_MS: u64 = 5 * 60_000;
/// The other node may serve for so long before the service counts as gone back.
const UNSETTLED_MS: u64 = 10_000;
/// Starts of the plan's own node that it survives; each begins its waiting times anew.
pub const RESUMES_MAX: u32 = 6;
const FILE: &str = "pair-update.json";
const FILE_MAX_BYTES: u64 = 1 << 20;

/// What is known of a node now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// `a` or `b`.
    pub name: String,
    /// What it runs.
    pub release: Release,
    /// Changes with every start of the machine: `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// It serves.
    pub serving: bool,
    /// It is a standby with current data.
    pub eligible: bool,
    /// It finds itself healthy; none: a version that does not say so.
    #[serde(default)]
    pub well: Option<bool>,
    /// What it does to its disks now, and how far that is.
    #[serde(default)]
    pub doing: Option<Step>,
    /// Its version is being judged.
    pub on_trial: bool,
    /// Its last attempt.
    pub attempt: Option<record::Attempt>,
    /// The update of both nodes that it leads, or led last.
    #[serde(default)]
    pub plan: Option<Box<Plan>>,
}

/// Both nodes as the plan's own node sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The plan's own node.
    pub here: NodeView,
    /// The other; none while it does not answer.
    pub there: Option<NodeView>,
}

impl View {
    fn of(&self, name: &str) -> Option<&NodeView> {
        if self.here.name == name { Some(&self.here) } else { self.there.as_ref().filter(|node| node.name == name) }
    }
}

/// What is to be done. Each may be asked for again after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The bundle goes to the other node, over the pair's channel.
    Copy,
    /// The bundle is installed on this node.
    Install {
        /// Its name.
        node: String,
    },
    /// The service moves to this node.
    Switch {
        /// Its name.
        to: String,
    },
    /// This node, which does not serve, starts again.
    Restart {
        /// Its name.
        node: String,
    },
    /// This node, which does not serve, gives the new version up and starts again with the one before.
    Return {
        /// Its name.
        node: String,
        /// Why.
        reasons: Vec<Text>,
    },
}

/// Where the plan is. The number is the node: 0 the first, 1 the second.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Stage {
    /// The bundle is on its way to the other node.
    Copy,
    /// Writing.
    Install {
        /// Which.
        node: usize,
    },
    /// The service moves to the first.
    Switch,
    /// Until the first has served well for a while.
    Prove,
    /// The first could not serve: the service moves back, and the first goes back to the version before.
    Withdraw {
        /// What was wrong.
        reasons: Vec<Text>,
        /// The start that it must have left behind, once it was told to.
        boot: Option<String>,
    },
    /// About to start again.
    Restart {
        /// Which.
        node: usize,
    },
    /// Until it is back, kept and current.
    Settle {
        /// Which.
        node: usize,
        /// The start that it must have left behind.
        boot: String,
    },
    /// Both run the new version.
    Done,
    /// It ended before.
    Aborted {
        /// Why.
        reasons: Vec<Text>,
    },
}

/// What follows from a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look again in a second; what is waited for.
    Wait(Text),
    /// Store the plan, then do this, then call [`Plan::finished`].
    Do(Action),
    /// The plan is over.
    Over,
}

/// How far a step is, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// Behind us.
    Done,
    /// Now.
    Now,
    /// To come.
    Todo,
    /// It ended here.
    Failed,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What both shall run.
    pub release: Release,
    /// An older version is meant.
    pub downgrade: bool,
    /// The plan's own node.
    pub here: String,
    /// First and second.
    pub order: [String; 2],
    /// Where it is.
    #[serde(flatten)]
    pub stage: Stage,
    /// Where it was when it was aborted, as a step's number.
    #[serde(default)]
    ended_at: usize,
    #[serde(skip)]
    waited_ms: u64,
    #[serde(skip)]
    acting: bool,
    /// The first serves well for so long.
    #[serde(skip)]
    well_ms: u64,
    /// The first went back to the version before.
    #[serde(default)]
    returned: bool,
    #[serde(default)]
    resumes: u32,
    /// Its end was told.
    #[serde(default)]
    pub told: bool,
}

fn both(en: String, zh: String) -> Text {
    Text { en, zh }
}

impl Plan {
    /// A plan, if nothing stands against it.
    ///
    /// # Errors
    /// [`Error::Refused`] with all reasons.
    pub fn new(view: &View, release: Release, downgrade: bool) -> Result<Self, Error> {
        let Some(there) = &view.there else {
            return Err(Error::refused(Text::new(
                "the other node does not answer: both are updated together, or each alone (`--this-node`)",
                "对方节点没有应答：两个节点应一起升级，或分别单独升级（`--this-node`）",
            )));
        };
        let here = &view.here;
        let mut reasons = Vec::new();
        let runs = |node: &NodeView| node.release.sequence == release.sequence;
        if runs(here) && runs(there) {
            let version = &release.version;
            reasons.push(both(
                format!("both nodes run version {version} already: nothing needs to be done"),
                format!("两个节点都已运行版本 {version}：无需升级"),
            ));
        }
        if there.plan.as_ref().is_some_and(|plan| !plan.over()) {
            let name = &there.name;
            reasons.push(both(
                format!("node {name} leads an update of both nodes already: wait for its end"),
                format!("节点 {name} 正在主持双机升级：请等待其结束"),
            ));
        }
        for node in [here, there] {
            if node.on_trial {
                let name = &node.name;
                reasons.push(both(
                    format!("the version of node {name} is still on trial: wait until it is kept"),
                    format!("节点 {name} 的版本仍在试运行：请等待其确认"),
                ));
            }
        }
        let (active, standby) = if here.serving { (here, there) } else { (there, here) };
        if here.serving == there.serving {
            reasons.push(Text::new(
                "not exactly one node serves: wait until the pair has settled",
                "当前不是恰好一个节点在服务：请等待双机状态稳定",
            ));
        } else if !standby.eligible {
            let name = &standby.name;
            reasons.push(both(
                format!("node {name} could not take over now: wait until its data is current"),
                format!("节点 {name} 目前不能接管：请等待其数据同步"),
            ));
        }
        if !reasons.is_empty() {
            return Err(Error::Refused { reasons });
        }
        Ok(Self {
            release,
            downgrade,
            here: here.name.clone(),
            order: [standby.name.clone(), active.name.clone()],
            stage: Stage::Copy,
            ended_at: 0,
            waited_ms: 0,
            acting: false,
            well_ms: 0,
            returned: false,
            resumes: 0,
            told: false,
        })
    }

    /// It is over, well or not.
    #[must_use]
    pub const fn over(&self) -> bool {
        matches!(self.stage, Stage::Done | Stage::Aborted { .. })
    }

    /// The plan's own node has started again, or its daemon has.
    pub fn resumed(&mut self) {
        (self.waited_ms, self.well_ms, self.acting) = (0, 0, false);
        if self.over() {
            return;
        }
        self.resumes += 1;
        if self.resumes > RESUMES_MAX {
            self.abort(vec![both(
                format!("node {} started again and again in the middle of it", self.here),
                format!("节点 {} 在升级过程中反复重启", self.here),
            )]);
        }
    }

    /// Somebody does not want it any more. What is under way on a node ends by itself.
    pub fn cancel(&mut self) {
        self.abort(vec![Text::new("somebody stopped it", "有人中止了升级")]);
    }

    fn abort(&mut self, reasons: Vec<Text>) {
        if !self.over() {
            self.ended_at = self.step();
            self.go(Stage::Aborted { reasons });
        }
    }

    fn go(&mut self, stage: Stage) {
        (self.stage, self.waited_ms, self.well_ms, self.acting) = (stage, 0, 0, false);
    }

    /// The first node cannot serve with the new version.
    fn withdraw(&mut self, reasons: Vec<Text>) {
        self.ended_at = self.step();
        self.go(Stage::Withdraw { reasons, boot: None });
    }

    fn act(&mut self, action: Action) -> Next {
        self.acting = true;
        Next::Do(action)
    }

    /// The action that [`Plan::look`] asked for has ended.
    pub fn finished(&mut self, result: Result<(), Vec<Text>>) {
        if self.over() || !std::mem::take(&mut self.acting) {
            return;
        }
        let next = match (&self.stage, result) {
            // What was wrong with the version comes first.
            (Stage::Withdraw { reasons, .. }, Err(more)) => Stage::Aborted { reasons: [reasons.clone(), more].concat() },
            (_, Err(reasons)) => Stage::Aborted { reasons },
            (Stage::Copy, Ok(())) => Stage::Install { node: 0 },
            (Stage::Install { node }, Ok(())) => Stage::Restart { node: *node },
            // Asked once; what comes of it is seen.
            (Stage::Switch | Stage::Withdraw { boot: None, .. }, Ok(())) => {
                self.acting = true;
                return;
            }
            (
                Stage::Restart { .. }
                | Stage::Settle { .. }
                | Stage::Prove
                | Stage::Withdraw { .. }
                | Stage::Done
                | Stage::Aborted { .. },
                Ok(()),
            ) => return,
        };
        match next {
            Stage::Aborted { reasons } => self.abort(reasons),
            other => self.go(other),
        }
    }

    /// `elapsed_ms` have passed since the last look. Not called while an action is being carried out, except [`Action::Switch`], [`Action::Restart`] and [`Action::Return`], whose call has returned.
    pub fn look(&mut self, view: &View, elapsed_ms: u64) -> Next {
        // Each turn goes one step further; a plan has fewer.
        for _ in 0..12 {
            if self.over() {
                return Next::Over;
            }
            let before = self.stage.clone();
            let next = self.turn(view, elapsed_ms);
            if self.stage == before || matches!(next, Next::Do(_)) {
                return next;
            }
        }
        Next::Wait(Text::default())
    }

    fn turn(&mut self, view: &View, elapsed_ms: u64) -> Next {
        let wait = |en: String, zh: String| Next::Wait(both(en, zh));
        let name = |plan: &Self, node: usize| plan.order[node].clone();
        match self.stage.clone() {
            Stage::Copy => {
                // A node that runs it already needs no copy.
                if view.there.as_ref().is_some_and(|there| self.runs(there)) {
                    self.go(Stage::Install { node: 0 });
                    return Next::Over;
                }
                if self.acting {
                    return wait("copying the bundle to the other node".into(), "正在将升级包复制到对方节点".into());
                }
                self.act(Action::Copy)
            }
            Stage::Install { node } => {
                let name = name(self, node);
                let written = |attempt: &record::Attempt| {
                    attempt.release.sequence == self.release.sequence && attempt.stage == record::Stage::Written
                };
                match view.of(&name) {
                    Some(there) if self.runs(there) => {
                        // Any start will do: it need not leave one behind.
                        self.go(Stage::Settle { node, boot: String::new() });
                        Next::Over
                    }
                    Some(there) if there.attempt.as_ref().is_some_and(written) => {
                        self.go(Stage::Restart { node });
                        Next::Over
                    }
                    _ if self.acting => {
                        wait(format!("node {name} writes the new version"), format!("节点 {name} 正在写入新版本"))
                    }
                    Some(_) => self.act(Action::Install { node: name }),
                    None => self.wait_for(&name, elapsed_ms),
                }
            }
            Stage::Switch => {
                let (first, second) = (name(self, 0), name(self, 1));
                let (Some(to), Some(from)) = (view.of(&first), view.of(&second)) else {
                    let gone = if view.of(&first).is_none() { first } else { second };
                    return self.wait_for(&gone, elapsed_ms);
                };
                if to.serving && !from.serving {
                    self.go(Stage::Prove);
                    return Next::Over;
                }
                if self.acting {
                    self.waited_ms = self.waited_ms.saturating_add(elapsed_ms);
                    if self.waited_ms >= SWITCH_MS {
                        self.withdraw(vec![both(
                            format!("the service did not move from node {second} to node {first} in time"),
                            format!("服务未能及时从节点 {second} 切换到节点 {first}"),
                        )]);
                        return Next::Over;
                    }
                    return wait(format!("the service moves to node {first}"), format!("服务正在切换到节点 {first}"));
                }
                if !to.eligible {
                    return self.wait_current(&first, elapsed_ms);
                }
                self.act(Action::Switch { to: first })
            }
            Stage::Restart { node } => {
                let name = name(self, node);
                let Some(there) = view.of(&name) else { return self.wait_for(&name, elapsed_ms) };
                if there.serving {
                    // The roles changed: the other node failed, or somebody switched.
                    if node == 1 {
                        self.go(Stage::Switch);
                    } else {
                        self.abort(vec![both(
                            format!("node {name} serves now and is not restarted: look at the other node, then begin again"),
                            format!("节点 {name} 现在正在提供服务，不能重启：请检查对方节点后重新开始"),
                        )]);
                    }
                    return Next::Over;
                }
                let boot = there.boot.clone();
                self.go(Stage::Settle { node, boot });
                self.act(Action::Restart { node: name })
            }
            Stage::Settle { node, boot } => self.settle(view, node, &boot, elapsed_ms),
            Stage::Prove => self.prove(view, elapsed_ms),
            Stage::Withdraw { reasons, boot } => self.take_back(view, reasons, boot.as_deref(), elapsed_ms),
            Stage::Done | Stage::Aborted { .. } => Next::Over,
        }
    }

    /// Nothing but serving shows that the new version can serve.
    fn prove(&mut self, view: &View, elapsed_ms: u64) -> Next {
        let [first, second] = self.order.clone();
        self.waited_ms = self.waited_ms.saturating_add(elapsed_ms);
        let serves = view.of(&first).is_some_and(|node| node.serving);
        let well = serves && view.of(&first).is_some_and(|node| node.well != Some(false));
        self.well_ms = if well { self.well_ms.saturating_add(elapsed_ms) } else { 0 };
        if self.well_ms >= PROVE_MS {
            // One that has it already need not be written.
            self.go(Stage::Install { node: 1 });
            return Next::Over;
        }
        // The pair itself has moved the service back.
        let left = !serves && view.of(&second).is_some_and(|node| node.serving) && self.waited_ms >= UNSETTLED_MS;
        if left || self.waited_ms >= PROVE_LIMIT_MS {
            self.withdraw(vec![both(
                format!("node {first} could not serve with the new version"),
                format!("节点 {first} 无法以新版本提供服务"),
            )]);
            return Next::Over;
        }
        Next::Wait(both(
            format!("node {first} serves and shows that it is well"),
            format!("节点 {first} 正在提供服务并证明其运行正常"),
        ))
    }

    /// The service back to the second node, the first node back to the version before.
    fn take_back(&mut self, view: &View, reasons: Vec<Text>, boot: Option<&str>, elapsed_ms: u64) -> Next {
        let [first, second] = self.order.clone();
        let Some(node) = view.of(&first).cloned() else { return self.wait_for(&first, elapsed_ms) };
        if !self.runs(&node) {
            self.returned = true;
            self.abort(reasons);
            return Next::Over;
        }
        if boot.is_some_and(|boot| boot != node.boot) {
            // It started again with the new version: the power went in between.
            self.stage = Stage::Withdraw { reasons, boot: None };
            self.acting = false;
            return self.wait_for(&first, elapsed_ms);
        }
        if boot.is_some() {
            return self.wait_for(&first, elapsed_ms);
        }
        let back = view.of(&second).is_some_and(|node| node.serving);
        if !node.serving && back {
            self.stage = Stage::Withdraw { reasons: reasons.clone(), boot: Some(node.boot.clone()) };
            return self.act(Action::Return { node: first, reasons });
        }
        self.waited_ms = self.waited_ms.saturating_add(elapsed_ms);
        if self.waited_ms >= SWITCH_MS {
            let stuck = both(format!("the service did not move back to node {second}"), format!("服务未能切换回节点 {second}"));
            self.abort([reasons, vec![stuck]].concat());
            return Next::Over;
        }
        if node.serving && !self.acting && view.of(&second).is_some_and(|node| node.eligible) {
            return self.act(Action::Switch { to: second });
        }
        Next::Wait(both(format!("the service moves back to node {second}"), format!("服务正在切换回节点 {second}")))
    }

    fn settle(&mut self, view: &View, node: usize, boot: &str, elapsed_ms: u64) -> Next {
        let name = self.order[node].clone();
        let Some(there) = view.of(&name) else { return self.wait_for(&name, elapsed_ms) };
        if there.boot == boot {
            return self.wait_for(&name, elapsed_ms);
        }
        if self.runs(there) && !there.on_trial {
            if there.eligible || there.serving {
                // A second that has it already is only looked at.
                let second = view.of(&self.order[1]).is_some_and(|second| self.runs(second));
                self.go(match (node, second) {
                    (0, false) => Stage::Switch,
                    (0, true) => Stage::Install { node: 1 },
                    _ => Stage::Done,
                });
                return Next::Over;
            }
            return self.wait_current(&name, elapsed_ms);
        }
        let given_up = |a: &&record::Attempt| {
            a.release.sequence == self.release.sequence
                && matches!(a.stage, record::Stage::Returned { .. } | record::Stage::Failed)
        };
        if let Some(attempt) = there.attempt.as_ref().filter(given_up).filter(|_| !self.runs(there)) {
            self.abort(vec![attempt.sentence()]);
            return Next::Over;
        }
        self.wait_for(&name, elapsed_ms)
    }

    fn runs(&self, node: &NodeView) -> bool {
        node.release.sequence == self.release.sequence
    }

    /// Waits for a node to be back and kept, not for ever.
    fn wait_for(&mut self, name: &str, elapsed_ms: u64) -> Next {
        self.waited_ms = self.waited_ms.saturating_add(elapsed_ms);
        if self.waited_ms < BACK_MS {
            return Next::Wait(both(
                format!("node {name} starts and judges itself"),
                format!("节点 {name} 正在启动并进行健康判定"),
            ));
        }
        self.abort(vec![both(
            format!("node {name} did not come back with the new version in time: look at its console"),
            format!("节点 {name} 未能及时以新版本恢复：请查看其控制台"),
        )]);
        Next::Over
    }

    /// Waits for a node's data, not for ever.
    fn wait_current(&mut self, name: &str, elapsed_ms: u64) -> Next {
        self.waited_ms = self.waited_ms.saturating_add(elapsed_ms);
        if self.waited_ms < SYNC_MS {
            return Next::Wait(both(format!("the data of node {name} is catching up"), format!("节点 {name} 的数据正在同步")));
        }
        self.abort(vec![both(
            format!("node {name} runs the new version but its data did not become current in time"),
            format!("节点 {name} 已运行新版本，但其数据未能及时同步"),
        )]);
        Next::Over
    }

    /// Reads the plan of this folder (`/state/system`), if there is one that can be read.
    #[must_use]
    pub fn load(folder: &Path) -> Option<Self> {
        use std::io::Read as _;
        let mut text = Vec::new();
        std::fs::File::open(folder.join(FILE)).ok()?.take(FILE_MAX_BYTES).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text)
            .inspect_err(|e| tracing::warn!(error = %e, "the plan of an update cannot be read and is forgotten"))
            .ok()
    }

    /// Keeps the plan, atomically and durably.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn store(&self, folder: &Path) -> Result<(), Error> {
        let bytes = serde_json::to_vec_pretty(self).map_err(|e| Error::Form { what: FILE.to_owned(), why: e.to_string() })?;
        crate::linux::replace(&folder.join(FILE), &bytes)
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
