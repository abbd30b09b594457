//! The update of both nodes of a pair: the standby first, then the service moves to it, then the other.
//!
//! A pure machine that lives on the node where the order was given: facts about both nodes and the passing of time come in ([`Plan::look`]), one action at a time comes
//! out ([`Action`]), and its end comes in ([`Plan::finished`]). It survives the restart of its own node: store it after every change *before* the action is carried
//! out, call [`Plan::resumed`] after a start. Facts win over memory: a step whose result is there already is not done again.
//!
//! Contract: no node that serves is ever restarted; the second node is not touched before the first runs the new version, has found itself healthy and could take over; every wait
//! has an end, and what ends badly leaves the pair working and says which node runs what.
//!
//! Failure classes: [`Plan::new`] refuses with all reasons; later everything that goes wrong ends in [`Stage::Aborted`].

use crate::error::Error;
use crate::record::{self, Alarm, Severity};
use crate::release::Release;
use crate::text::Text;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A node must be back and kept after so long: shutdown, firmware, start, five minutes of judgement, and as much again.
pub const BACK_MS: u64 = 15 * 60_000;
/// Its data must be current after so long.
pub const SYNC_MS: u64 = 2 * 3_600_000;
/// A switch must be over after so long.
pub const SWITCH_MS: u64 = 2 * 60_000;
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
    /// Its version is being judged.
    pub on_trial: bool,
    /// Its last attempt.
    pub attempt: Option<record::Attempt>,
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
        (self.waited_ms, self.acting) = (0, false);
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
        (self.stage, self.waited_ms, self.acting) = (stage, 0, false);
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
            (_, Err(reasons)) => Stage::Aborted { reasons },
            (Stage::Copy, Ok(())) => Stage::Install { node: 0 },
            (Stage::Install { node: 0 }, Ok(())) => Stage::Restart { node: 0 },
            (Stage::Install { .. }, Ok(())) => Stage::Switch,
            // Asked once; what comes of it is seen.
            (Stage::Switch, Ok(())) => {
                self.acting = true;
                return;
            }
            (Stage::Restart { .. } | Stage::Settle { .. } | Stage::Done | Stage::Aborted { .. }, Ok(())) => return,
        };
        match next {
            Stage::Aborted { reasons } => self.abort(reasons),
            other => self.go(other),
        }
    }

    /// `elapsed_ms` have passed since the last look. Not called while an action is being carried out, except [`Action::Switch`] and [`Action::Restart`], whose call has returned.
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
                        self.go(if node == 0 { Stage::Restart { node } } else { Stage::Switch });
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
                    self.go(Stage::Restart { node: 1 });
                    return Next::Over;
                }
                if self.acting {
                    self.waited_ms = self.waited_ms.saturating_add(elapsed_ms);
                    if self.waited_ms >= SWITCH_MS {
                        self.abort(vec![both(
                            format!("the service did not move from node {second} to node {first} in time; node {second} will try the new version at its next start"),
                            format!("服务未能及时从节点 {second} 切换到节点 {first}；节点 {second} 将在下次启动时试运行新版本"),
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
            Stage::Done | Stage::Aborted { .. } => Next::Over,
        }
    }

    fn settle(&mut self, view: &View, node: usize, boot: &str, elapsed_ms: u64) -> Next {
        let name = self.order[node].clone();
        let Some(there) = view.of(&name) else { return self.wait_for(&name, elapsed_ms) };
        if there.boot == boot {
            return self.wait_for(&name, elapsed_ms);
        }
        if self.runs(there) && !there.on_trial {
            if there.eligible || there.serving {
                self.go(if node == 0 { Stage::Install { node: 1 } } else { Stage::Done });
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

    /// The number of the step that it is at.
    fn step(&self) -> usize {
        match &self.stage {
            Stage::Copy => 0,
            Stage::Install { node: 0 } => 1,
            Stage::Restart { node: 0 } | Stage::Settle { node: 0, .. } => 2,
            Stage::Install { .. } => 3,
            Stage::Switch => 4,
            Stage::Restart { .. } | Stage::Settle { .. } => 5,
            Stage::Done => 6,
            Stage::Aborted { .. } => self.ended_at,
        }
    }

    /// All steps, for people.
    #[must_use]
    pub fn steps(&self) -> Vec<(Text, Mark)> {
        let [first, second] = &self.order;
        let texts = [
            Text::new("copy the bundle to the other node", "将升级包复制到对方节点"),
            both(format!("write it on node {first}"), format!("写入节点 {first}")),
            both(
                format!("restart node {first}, until it is healthy and current"),
                format!("重启节点 {first}，直至健康且数据最新"),
            ),
            both(format!("write it on node {second}"), format!("写入节点 {second}")),
            both(format!("move the service to node {first}"), format!("将服务切换到节点 {first}")),
            both(
                format!("restart node {second}, until it is healthy and current"),
                format!("重启节点 {second}，直至健康且数据最新"),
            ),
        ];
        let at = self.step();
        let here = if matches!(self.stage, Stage::Aborted { .. }) { Mark::Failed } else { Mark::Now };
        let mark = |i: usize| match i.cmp(&at) {
            std::cmp::Ordering::Less => Mark::Done,
            std::cmp::Ordering::Equal => here,
            std::cmp::Ordering::Greater => Mark::Todo,
        };
        texts.into_iter().enumerate().map(|(i, text)| (text, mark(i))).collect()
    }

    /// Its end and what it means, not told yet.
    #[must_use]
    pub fn news(&self) -> Option<Alarm> {
        if self.told {
            return None;
        }
        let version = &self.release.version;
        match &self.stage {
            Stage::Done => Some(Alarm {
                code: "pair_update_done".to_owned(),
                severity: Severity::Info,
                text: both(format!("Both nodes run version {version}."), format!("两个节点均已运行版本 {version}。")),
            }),
            Stage::Aborted { reasons } => {
                let list = |pick: fn(&Text) -> &str, between: &str| reasons.iter().map(pick).collect::<Vec<_>>().join(between);
                let (en, zh) = (list(|t| t.en.trim_end_matches('.'), "; "), list(|t| t.zh.trim_end_matches('。'), "；"));
                let [first, second] = &self.order;
                let (after_en, after_zh) = if self.ended_at <= 2 {
                    (format!("Node {second} was not touched and serves."), format!("节点 {second} 未作更改，继续提供服务。"))
                } else {
                    (
                        format!("Node {first} runs version {version}; give the order again for node {second}."),
                        format!("节点 {first} 已运行版本 {version}；请对节点 {second} 重新执行升级。"),
                    )
                };
                Some(Alarm {
                    code: "pair_update_stopped".to_owned(),
                    severity: Severity::Serious,
                    text: both(
                        format!("The update of the pair to version {version} stopped: {en}. {after_en}"),
                        format!("双机升级到版本 {version} 已停止：{zh}。{after_zh}"),
                    ),
                })
            }
            _ => None,
        }
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
