//! What was attempted and what became of it: the state machine of one node's update, without any I/O.
//!
//! `idle -> received -> written -> trial -> committed | returned`, and `failed` from the first two. Each function takes what is known and says what is to be
//! done ([`Do`]) and what is to be remembered ([`Record`]); who calls it does that in the order of the answer. Facts win over memory: what runs and what the
//! boot entries say is asked anew after every start, so that a power cut between any two effects, and even the loss of the record, leads to one of the ends.
//!
//! Contract: [`Do::Bless`] only after the system was found healthy; a slot that was given up never keeps tries; an attempt that ended is told once.
//!
//! Failure classes: [`accept`] refuses with all reasons; a record that cannot be read is a new one, with a note.

use crate::bundle::Manifest;
use crate::entries::Marks;
use crate::health::Baseline;
use crate::platform::Running;
use crate::release::Release;
use crate::slot::Slot;
use crate::text::Text;
use serde::{Deserialize, Serialize};

/// Attempts that are remembered after their end.
const HISTORY_MAX: usize = 20;

/// Why a node runs its old system again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The new one was not healthy in time and gave up by itself.
    Health,
    /// The loader gave up: the new one never came as far as its first program that keeps a record.
    Loader,
    /// The new one started and ended each time before it could be judged: power, a hang, the watchdog.
    Power,
    /// Somebody let the old one boot.
    Chosen,
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Stage {
    /// The bundle is good; the slot is being written.
    Received,
    /// The slot holds the new system; the next boot tries it.
    Written,
    /// The new system runs and is being judged.
    Trial,
    /// It was found healthy and stays.
    Committed,
    /// The old one runs again.
    Returned {
        /// Why.
        why: Why,
    },
    /// It ended before there was anything to boot.
    Failed,
}

impl Stage {
    /// Nothing will change any more.
    #[must_use]
    pub const fn over(self) -> bool {
        matches!(self, Self::Committed | Self::Returned { .. } | Self::Failed)
    }
}

/// One update of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What it brings.
    pub release: Release,
    /// What ran when it began.
    pub from: Release,
    /// The slot that it is written into.
    pub target: Slot,
    /// How far it is.
    #[serde(flatten)]
    pub stage: Stage,
    /// Boots of the new system so far.
    #[serde(default)]
    pub boots: u32,
    /// What was ill or failed.
    #[serde(default)]
    pub reasons: Vec<Text>,
    /// When it began, seconds since 1970.
    #[serde(default)]
    pub at_s: i64,
    /// Its end was told.
    #[serde(default)]
    pub told: bool,
    /// How the node was before: what was broken already is not the update's fault.
    #[serde(default)]
    pub baseline: Baseline,
}

/// What `update.json` holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The last attempt.
    #[serde(default)]
    pub attempt: Option<Attempt>,
    /// Those before it, the newest first.
    #[serde(default)]
    pub history: Vec<Attempt>,
    /// What was found in the slots last, `a` and `b`.
    #[serde(default)]
    pub slots: [Option<Release>; 2],
}

/// What is to be done on every disk. All of it can be done twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Do {
    /// [`crate::entries::Entries::bless`]
    Bless(Slot),
    /// [`crate::entries::Entries::bad`]
    Bad(Slot),
    /// [`crate::entries::Entries::drop_slot`]
    Drop(Slot),
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Something works less well than it should.
    Warning,
    /// Someone has to act.
    Serious,
}

/// Something that people must hear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// For programs.
    pub code: String,
    /// How bad it is.
    pub severity: Severity,
    /// What happened, what it means, what to do.
    pub text: Text,
}

fn alarm(code: &str, severity: Severity, en: String, zh: String) -> Alarm {
    Alarm { code: code.to_owned(), severity, text: Text { en, zh } }
}

/// What the entries of both slots say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    /// Of slot a.
    pub a: Marks,
    /// Of slot b.
    pub b: Marks,
}

impl Seen {
    /// Of one slot.
    #[must_use]
    pub const fn of(&self, slot: Slot) -> Marks {
        match slot {
            Slot::A => self.a,
            Slot::B => self.b,
        }
    }
}

/// What an installation may ignore.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// An older version is taken too.
    pub allow_downgrade: bool,
    /// The board that this node was matched to.
    pub board: String,
}

/// Everything that stands against installing this now; empty when it may be.
#[must_use]
pub fn accept(record: &Record, running: &Running, marks: Marks, manifest: &Manifest, wish: &Wish) -> Vec<Text> {
    let mut reasons = Vec::new();
    let (new, now) = (&manifest.release, &running.release);
    let mut no = |en: String, zh: String| reasons.push(Text { en, zh });
    let on_trial = record.attempt.as_ref().is_some_and(|a| a.stage == Stage::Trial && a.target == running.slot);
    // Without a good mark anywhere the running system may still be taken back, and the other slot is the only way back.
    if on_trial || (marks.counting && !marks.good) {
        no(
            format!("version {} is still on trial: wait until it is kept (about a minute after all services run)", now.version),
            format!("版本 {} 仍在试运行：请等待其确认（所有服务运行后约一分钟）", now.version),
        );
    }
    if new.sequence == now.sequence && new.version != now.version {
        // Of commits of the same second.
        no(
            format!(
                "version {} is of the same moment as version {}, which runs: neither is the later one",
                new.version, now.version
            ),
            format!("版本 {} 与正在运行的版本 {} 时间相同，无法判断先后", new.version, now.version),
        );
    } else if new.sequence == now.sequence {
        no(
            format!("version {} runs already: nothing needs to be done", new.version),
            format!("已在运行版本 {}：无需升级", new.version),
        );
    } else if new.sequence < now.sequence {
        if new.sequence < now.floor {
            no(
                format!(
                    "version {} cannot read what version {} has written: going back that far is not possible",
                    new.version, now.version
                ),
                format!("版本 {} 无法读取版本 {} 写入的数据：不能回退到该版本", new.version, now.version),
            );
        } else if !wish.allow_downgrade {
            no(
                format!(
                    "version {} is older than version {}, which runs: say so if that is meant (--downgrade)",
                    new.version, now.version
                ),
                format!("版本 {} 比正在运行的版本 {} 旧：如确实需要，请使用 --downgrade", new.version, now.version),
            );
        }
    }
    if now.sequence < manifest.from_sequence {
        no(
            format!(
                "version {} cannot follow version {} directly: install a version between them first",
                new.version, now.version
            ),
            format!("版本 {} 不能直接从版本 {} 升级：请先安装中间版本", new.version, now.version),
        );
    }
    if !manifest.boards.is_empty() && !manifest.boards.contains(&wish.board) {
        let list = manifest.boards.join(", ");
        no(
            format!("the bundle is for the boards {list}; this one is {}", wish.board),
            format!("该升级包适用于机型 {list}；本机为 {}", wish.board),
        );
    }
    reasons
}

impl Record {
    /// Reads the record; one that cannot be read is a new one. The flag says that this happened.
    #[must_use]
    pub fn read(bytes: Option<&[u8]>) -> (Self, bool) {
        match bytes {
            None => (Self::default(), false),
            Some(bytes) => serde_json::from_slice(bytes).map_or((Self::default(), true), |record| (record, false)),
        }
    }

    /// As bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// The bundle was accepted: the other slot will be written.
    pub fn begin(&mut self, running: &Running, release: Release, baseline: Baseline, at_s: i64) {
        self.retire();
        let target = running.slot.other();
        self.set_slot(running.slot, Some(running.release.clone()));
        self.set_slot(target, None);
        self.attempt = Some(Attempt {
            release,
            from: running.release.clone(),
            target,
            stage: Stage::Received,
            boots: 0,
            reasons: Vec::new(),
            at_s,
            told: false,
            baseline,
        });
    }

    fn retire(&mut self) {
        if let Some(old) = self.attempt.take() {
            self.history.insert(0, old);
            self.history.truncate(HISTORY_MAX);
        }
    }

    /// Every disk holds the new system; the entries are prepared and will be armed now.
    pub fn written(&mut self) {
        if let Some(attempt) = self.attempt.as_mut().filter(|a| a.stage == Stage::Received) {
            attempt.stage = Stage::Written;
            let (target, release) = (attempt.target, attempt.release.clone());
            self.set_slot(target, Some(release));
        }
    }

    /// It ended with an error, before there was anything to boot.
    pub fn failed(&mut self, reasons: Vec<Text>) {
        if let Some(attempt) = self.attempt.as_mut().filter(|a| matches!(a.stage, Stage::Received | Stage::Written)) {
            (attempt.stage, attempt.reasons, attempt.told) = (Stage::Failed, reasons, true);
        }
    }

    /// This boot is judged, and ends by itself when it is ill. True when the loader counts (`marks` of the running slot) or the record says so.
    #[must_use]
    pub fn on_trial(&self, running: Slot, marks: Marks) -> bool {
        let recorded = self.attempt.as_ref().is_some_and(|a| a.target == running && a.stage == Stage::Trial);
        (recorded || marks.counting || marks.exhausted) && !marks.good
    }

    /// The node has started. Call it once for each start, do what it says, then store the record; a power cut in between only makes it happen again.
    #[must_use]
    pub fn booted(&mut self, running: &Running, seen: Seen) -> Vec<Do> {
        self.set_slot(running.slot, Some(running.release.clone()));
        let here = seen.of(running.slot);
        let Some(attempt) = &mut self.attempt else {
            // The record was lost, or this is the first start: what some disk has as good is good on all.
            return if here.good && (here.counting || here.exhausted) { vec![Do::Bless(running.slot)] } else { Vec::new() };
        };
        let target = attempt.target;
        let there = seen.of(target);
        if running.slot == target {
            match attempt.stage {
                // Found good before the power went: finish what was begun.
                Stage::Written | Stage::Trial if here.good => {
                    attempt.boots += u32::from(attempt.boots == 0);
                    attempt.stage = Stage::Committed;
                    vec![Do::Bless(target)]
                }
                Stage::Written | Stage::Trial => {
                    attempt.stage = Stage::Trial;
                    attempt.boots += 1;
                    // Judged anew: what was ill at the last boot may have been the power.
                    attempt.reasons.clear();
                    Vec::new()
                }
                Stage::Committed => vec![Do::Bless(target)],
                // Somebody booted what was given up, by hand or because nothing else is left: it is judged like any trial, without a record.
                Stage::Received | Stage::Returned { .. } | Stage::Failed => Vec::new(),
            }
        } else {
            match attempt.stage {
                Stage::Received => {
                    attempt.stage = Stage::Failed;
                    attempt.reasons = vec![interrupted()];
                    vec![Do::Drop(target)]
                }
                // The power went while the entries were being armed, or the loader of another disk was asked: nothing was tried yet.
                Stage::Written if !there.exhausted => {
                    attempt.stage = Stage::Failed;
                    attempt.reasons = vec![interrupted()];
                    vec![Do::Drop(target)]
                }
                Stage::Written => {
                    attempt.stage = Stage::Returned { why: Why::Loader };
                    vec![Do::Bad(target)]
                }
                Stage::Trial => {
                    let why = match () {
                        () if !attempt.reasons.is_empty() => Why::Health,
                        () if there.exhausted => Why::Power,
                        () => Why::Chosen,
                    };
                    attempt.stage = Stage::Returned { why };
                    vec![Do::Bad(target)]
                }
                Stage::Returned { .. } => vec![Do::Bad(target)],
                // Kept, and yet the old one runs: somebody chose it for a boot. Nothing is changed.
                Stage::Committed => Vec::new(),
                Stage::Failed => vec![Do::Drop(target)],
            }
        }
    }

    /// The running system was found healthy: do this, then call [`Record::committed`] and store.
    #[must_use]
    pub fn commit(&self, running: Slot) -> Vec<Do> {
        vec![Do::Bless(running)]
    }

    /// After [`Record::commit`] was done.
    pub fn committed(&mut self, running: &Running) {
        self.set_slot(running.slot, Some(running.release.clone()));
        if let Some(attempt) = self.attempt.as_mut().filter(|a| a.target == running.slot && !a.stage.over()) {
            attempt.stage = Stage::Committed;
        }
    }

    /// The running system, which is on trial, is not healthy in time: store the record, then do this, then reboot.
    #[must_use]
    pub fn give_up(&mut self, running: Slot, reasons: Vec<Text>) -> Vec<Do> {
        if let Some(attempt) = self.attempt.as_mut().filter(|a| a.target == running && !a.stage.over()) {
            attempt.reasons = reasons;
        }
        vec![Do::Bad(running)]
    }

    /// The running system was kept, and cannot do its work after all: store the record, then do this, then reboot.
    #[must_use]
    pub fn withdrawn(&mut self, running: Slot, reasons: Vec<Text>) -> Vec<Do> {
        let tried = |a: &&mut Attempt| a.target == running && matches!(a.stage, Stage::Trial | Stage::Committed);
        if let Some(attempt) = self.attempt.as_mut().filter(tried) {
            (attempt.stage, attempt.reasons, attempt.told) = (Stage::Trial, reasons, false);
        }
        vec![Do::Bad(running)]
    }

    /// What became of the last attempt and was not told yet.
    #[must_use]
    pub fn news(&self) -> Option<Alarm> {
        self.attempt.as_ref().filter(|a| a.stage.over() && !a.told).map(Attempt::end)
    }

    /// People have heard [`Record::news`].
    pub fn told(&mut self) {
        if let Some(attempt) = self.attempt.as_mut().filter(|a| a.stage.over()) {
            attempt.told = true;
        }
    }

    fn set_slot(&mut self, slot: Slot, release: Option<Release>) {
        self.slots[usize::from(slot == Slot::B)] = release;
    }

    /// What is in a slot, as far as is known.
    #[must_use]
    pub const fn slot(&self, slot: Slot) -> Option<&Release> {
        match slot {
            Slot::A => self.slots[0].as_ref(),
            Slot::B => self.slots[1].as_ref(),
        }
    }
}

fn interrupted() -> Text {
    Text::new("the power went before it was complete", "完成之前断电")
}

impl Attempt {
    /// How it stands, in one sentence.
    #[must_use]
    pub fn sentence(&self) -> Text {
        let (new, old) = (&self.release.version, &self.from.version);
        match self.stage {
            Stage::Received => Text::new(format!("Version {new} is being written."), format!("正在写入版本 {new}。")),
            Stage::Written => Text::new(
                format!("Version {new} is written: the next start tries it."),
                format!("版本 {new} 已写入：下次启动时试运行。"),
            ),
            Stage::Trial => Text::new(
                format!(
                    "Version {new} is on trial (start {} of it): it is kept once everything runs, otherwise version {old} comes back by itself.",
                    self.boots
                ),
                format!("版本 {new} 正在试运行（第 {} 次启动）：一切正常后保留，否则自动恢复版本 {old}。", self.boots),
            ),
            _ => self.end().text,
        }
    }

    fn end(&self) -> Alarm {
        use Severity::{Info, Serious, Warning};
        let (new, old) = (&self.release.version, &self.from.version);
        let list = |pick: fn(&Text) -> &str, between: &str| self.reasons.iter().map(pick).collect::<Vec<_>>().join(between);
        let (en, zh) = (list(|t| &t.en, "; "), list(|t| &t.zh, "；"));
        match self.stage {
            Stage::Returned { why } => {
                let (why_en, why_zh) = match why {
                    Why::Health => (format!("it was not healthy: {en}"), format!("其运行不正常：{zh}")),
                    Why::Loader => ("it did not start".to_owned(), "其无法启动".to_owned()),
                    Why::Power => (
                        "it ended before it could be judged (power, a hang or the watchdog)".to_owned(),
                        "在完成判定之前中断（断电、死机或看门狗复位）".to_owned(),
                    ),
                    Why::Chosen => ("somebody chose the old one".to_owned(), "有人选择启动旧版本".to_owned()),
                };
                alarm(
                    "update_returned",
                    if why == Why::Chosen { Warning } else { Serious },
                    format!("The update to version {new} was taken back; version {old} runs. Reason: {why_en}."),
                    format!("升级到版本 {new} 已撤销；现运行版本 {old}。原因：{why_zh}。"),
                )
            }
            Stage::Failed => alarm(
                "update_failed",
                Warning,
                format!("Version {new} was not installed ({en}); version {old} runs and nothing has changed. Install it again."),
                format!("版本 {new} 未能安装（{zh}）；仍运行版本 {old}，未作任何更改。请重新安装。"),
            ),
            _ => alarm(
                "update_done",
                Info,
                format!("Version {new} is in use; it was version {old} before."),
                format!("已启用版本 {new}；此前为版本 {old}。"),
            ),
        }
    }
}

/// The nodes of a pair run different versions.
#[must_use]
pub fn versions_differ(me: &str, own: &Release, peer: &str, other: &Release) -> Option<Alarm> {
    if own.sequence == other.sequence {
        return None;
    }
    let (older, old, new) = if own.sequence < other.sequence { (me, own, other) } else { (peer, other, own) };
    Some(alarm(
        "versions_differ",
        Severity::Warning,
        format!(
            "Node {me} runs version {}, node {peer} version {}: the pair works, but update node {older} to {} soon (`twinpost ctl update install`).",
            own.version, other.version, new.version
        ),
        format!(
            "节点 {me} 运行版本 {}，节点 {peer} 运行版本 {}：双机可以工作，但请尽快把节点 {older} 从 {} 升级到 {}（`twinpost ctl update install`）。",
            own.version, other.version, old.version, new.version
        ),
    ))
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
