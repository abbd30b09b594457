//! When a boot is kept: the definition of a healthy product, as data, and its evaluation over time.
//!
//! Contract: [`judge`] looks at facts that others gathered and at how the node was before the update ([`Baseline`]): what was broken already (a disk that is missing, a
//! modem that is absent) is not the update's fault and must not undo it. [`Trial`] decides: healthy for 20 s without a break, and the boot is kept; not so within five
//! minutes (or what its release says), and a boot on trial is given up. It has no clock: milliseconds since the last call come in.
//!
//! Failure classes: none.

use crate::text::Text;
use serde::{Deserialize, Serialize};

/// Healthy for so long without a break: kept.
pub const HEALTHY_MS: u64 = 20_000;
/// Not kept after so long: given up, unless the release says another time.
pub const PATIENCE_MS: u64 = 300_000;

/// What the node is to its pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Not known (yet).
    #[default]
    Unknown,
    /// A machine that nobody has set up: it has no services.
    NotSetUp,
    /// It serves: as the active node of a pair, or without a peer.
    Serving,
    /// The other node serves, or nobody does for a reason that the pair knows.
    Standby,
}

/// One array.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Array {
    /// `state`, `mail`.
    pub name: String,
    /// Members that work; 0: it is not assembled.
    pub working: u32,
    /// Members that it should have.
    pub members: u32,
}

/// Something that should answer or run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// `smtp`, `imaps`, `twinpost-pair`.
    pub name: String,
    /// It does.
    pub good: bool,
}

/// A fault that the boot found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// For programs: `nic_missing:pair`. The same fault has the same code at every boot.
    pub code: String,
    /// For people.
    pub text: Text,
}

/// How the node is now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Its part in the pair.
    pub role: Role,
    /// The arrays that its disks make up.
    pub arrays: Vec<Array>,
    /// The state volume is a disk and not memory.
    pub state_volume: bool,
    /// The mail store is open; only asked of a node that serves.
    pub store: bool,
    /// The replication has its disk; none on a node without it.
    pub mirror: Option<bool>,
    /// Ports that should answer here, as tried over the network's own interface.
    pub ports: Vec<Part>,
    /// Programs that should run here.
    pub programs: Vec<Part>,
    /// What the boot found.
    pub faults: Vec<Fault>,
}

/// How the node was before: kept with the attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// The arrays.
    #[serde(default)]
    pub arrays: Vec<Array>,
    /// Codes of the boot's faults.
    #[serde(default)]
    pub faults: Vec<String>,
    /// The state volume was a disk.
    #[serde(default)]
    pub state_volume: bool,
}

impl Baseline {
    /// Of a node that is about to be updated.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        Self {
            arrays: facts.arrays.clone(),
            faults: facts.faults.iter().map(|fault| fault.code.clone()).collect(),
            state_volume: facts.state_volume,
        }
    }
}

/// What is wrong with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// It may still come.
    NotYet,
    /// It will not come by itself.
    Ill,
}

type Found = Vec<(Weight, Text)>;

/// One line of the definition.
pub struct Check {
    /// For programs.
    pub code: &'static str,
    /// What must hold.
    pub must: (&'static str, &'static str),
    look: fn(&Facts, &Baseline) -> Found,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code)
    }
}

/// The definition.
pub const CHECKS: [Check; 8] = [
    Check {
        code: "role", must: ("the node knows its part in the pair", "节点已确定自己在双机中的角色"), look: role
    },
    Check { code: "state_volume", must: ("the state volume is on disk", "状态卷位于磁盘上"), look: state_volume },
    Check {
        code: "arrays",
        must: ("every array has at least the disks that it had", "每个阵列的磁盘不少于升级之前"),
        look: arrays,
    },
    Check { code: "faults", must: ("the boot found no new fault", "启动时没有发现新的故障"), look: faults },
    Check { code: "programs", must: ("its programs run", "各程序正在运行"), look: programs },
    Check { code: "mirror", must: ("the replication has its disk", "复制层已连接本地磁盘"), look: mirror },
    Check {
        code: "store", must: ("where it serves, the mail store is open", "提供服务时，邮件库已打开"), look: store
    },
    Check { code: "ports", must: ("where it serves, its ports answer", "提供服务时，各端口有应答"), look: ports },
];

fn when(bad: bool, weight: Weight, en: impl Into<String>, zh: impl Into<String>) -> Found {
    if bad { vec![(weight, Text::new(en, zh))] } else { Vec::new() }
}

fn role(facts: &Facts, _: &Baseline) -> Found {
    when(facts.role == Role::Unknown, Weight::NotYet, "its part in the pair is not known", "尚未确定双机角色")
}

fn state_volume(facts: &Facts, before: &Baseline) -> Found {
    let worse = !facts.state_volume && before.state_volume;
    when(
        worse,
        Weight::Ill,
        "the state volume could not be opened; settings and logs are in memory",
        "无法打开状态卷；设置和日志仅在内存中",
    )
}

fn arrays(facts: &Facts, before: &Baseline) -> Found {
    let mut found = Found::new();
    for array in &before.arrays {
        let now = facts.arrays.iter().find(|a| a.name == array.name).map_or(0, |a| a.working);
        let name = &array.name;
        if now == 0 && array.working > 0 {
            found.push((Weight::NotYet, Text::new(format!("the array {name} is not assembled"), format!("阵列 {name} 未组装"))));
        } else if now < array.working {
            let (en, zh) = (
                format!("the array {name} has {now} working disks, it had {}", array.working),
                format!("阵列 {name} 有 {now} 块正常磁盘，之前有 {} 块", array.working),
            );
            found.push((Weight::Ill, Text::new(en, zh)));
        }
    }
    // Without a record of before: what is there must be assembled.
    for array in facts.arrays.iter().filter(|a| a.working == 0 && !before.arrays.iter().any(|b| b.name == a.name)) {
        let name = &array.name;
        found.push((Weight::NotYet, Text::new(format!("the array {name} is not assembled"), format!("阵列 {name} 未组装"))));
    }
    found
}

fn faults(facts: &Facts, before: &Baseline) -> Found {
    let new = facts.faults.iter().filter(|fault| !before.faults.contains(&fault.code));
    new.map(|fault| (Weight::Ill, fault.text.clone())).collect()
}

fn programs(facts: &Facts, _: &Baseline) -> Found {
    let bad = facts.programs.iter().filter(|part| !part.good);
    bad.map(|part| (Weight::NotYet, Text::new(format!("{} does not run", part.name), format!("{} 未运行", part.name)))).collect()
}

fn mirror(facts: &Facts, _: &Baseline) -> Found {
    when(facts.mirror == Some(false), Weight::NotYet, "the replication has no disk", "复制层没有本地磁盘")
}

fn store(facts: &Facts, _: &Baseline) -> Found {
    let bad = facts.role == Role::Serving && !facts.store;
    when(bad, Weight::NotYet, "the mail store is not open", "邮件库未打开")
}

fn ports(facts: &Facts, _: &Baseline) -> Found {
    let bad = facts.ports.iter().filter(|part| facts.role == Role::Serving && !part.good);
    bad.map(|part| (Weight::NotYet, Text::new(format!("{} does not answer", part.name), format!("{} 无应答", part.name))))
        .collect()
}

/// What is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "health", content = "reasons", rename_all = "snake_case")]
pub enum Verdict {
    /// Everything that must hold, holds.
    Healthy,
    /// Something is missing that may still come.
    NotYet(Vec<Text>),
    /// Something is broken that was not.
    Ill(Vec<Text>),
}

/// Looks at the facts.
#[must_use]
pub fn judge(facts: &Facts, before: &Baseline) -> Verdict {
    let found: Found = CHECKS.iter().flat_map(|check| (check.look)(facts, before)).collect();
    let ill = found.iter().any(|(weight, _)| *weight == Weight::Ill);
    let reasons: Vec<Text> = found.into_iter().map(|(_, text)| text).collect();
    match reasons.is_empty() {
        true => Verdict::Healthy,
        false if ill => Verdict::Ill(reasons),
        false => Verdict::NotYet(reasons),
    }
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Ask again.
    Wait,
    /// Keep this boot.
    Keep,
    /// Take it back: what was wrong to the end.
    GiveUp(Vec<Text>),
}

/// The judgement of one boot over time.
#[derive(Clone, Debug)]
pub struct Trial {
    patience_ms: u64,
    elapsed_ms: u64,
    healthy_ms: u64,
}

impl Default for Trial {
    fn default() -> Self {
        Self::of(PATIENCE_MS)
    }
}

impl Trial {
    /// Of a version that gets so long.
    #[must_use]
    pub const fn of(patience_ms: u64) -> Self {
        Self { patience_ms, elapsed_ms: 0, healthy_ms: 0 }
    }

    /// `elapsed_ms` have passed since the last call (or the start) and this is how it is now.
    pub fn look(&mut self, elapsed_ms: u64, verdict: &Verdict) -> Decision {
        self.elapsed_ms = self.elapsed_ms.saturating_add(elapsed_ms);
        match verdict {
            Verdict::Healthy => {
                self.healthy_ms = self.healthy_ms.saturating_add(elapsed_ms);
                // A node that is healthy when its time is over may finish its 20 s.
                if self.healthy_ms >= HEALTHY_MS { Decision::Keep } else { Decision::Wait }
            }
            Verdict::NotYet(reasons) | Verdict::Ill(reasons) => {
                self.healthy_ms = 0;
                if self.elapsed_ms >= self.patience_ms { Decision::GiveUp(reasons.clone()) } else { Decision::Wait }
            }
        }
    }

    /// How far it is, for people: milliseconds healthy, milliseconds in all.
    #[must_use]
    pub const fn so_far(&self) -> (u64, u64) {
        (self.healthy_ms, self.elapsed_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        let array = |name: &str| Array { name: name.to_owned(), working: 2, members: 2 };
        let part = |name: &str| Part { name: name.to_owned(), good: true };
        Facts {
            role: Role::Serving,
            arrays: vec![array("state"), array("mail")],
            state_volume: true,
            store: true,
            mirror: Some(true),
            ports: vec![part("smtp"), part("imaps")],
            programs: vec![part("twinpost-pair")],
            faults: Vec::new(),
        }
    }

    fn with(change: impl FnOnce(&mut Facts)) -> Facts {
        let mut facts = good();
        change(&mut facts);
        facts
    }

    fn not_yet(facts: &Facts, word: &str) {
        let Verdict::NotYet(reasons) = judge(facts, &Baseline::of(&good())) else { panic!("{facts:?}") };
        assert!(reasons.len() == 1 && reasons[0].en.contains(word) && !reasons[0].zh.is_ascii(), "{reasons:?}");
    }

    fn ill(facts: &Facts, word: &str) {
        let Verdict::Ill(reasons) = judge(facts, &Baseline::of(&good())) else { panic!("{facts:?}") };
        assert!(reasons.iter().any(|reason| reason.en.contains(word)), "{reasons:?}");
    }

    #[test]
    fn each_line_of_the_definition() {
        assert_eq!(judge(&good(), &Baseline::of(&good())), Verdict::Healthy);
        assert_eq!(judge(&good(), &Baseline::default()), Verdict::Healthy, "a record that was lost");
        not_yet(&with(|f| f.role = Role::Unknown), "part in the pair");
        not_yet(&with(|f| f.arrays[1].working = 0), "mail is not assembled");
        not_yet(&with(|f| drop(f.arrays.pop())), "mail is not assembled");
        not_yet(&with(|f| f.programs[0].good = false), "twinpost-pair");
        not_yet(&with(|f| f.mirror = Some(false)), "replication");
        not_yet(&with(|f| f.store = false), "store");
        not_yet(&with(|f| f.ports[1].good = false), "imaps");
        ill(&with(|f| f.state_volume = false), "state volume");
        ill(&with(|f| f.arrays[0].working = 1), "state has 1");
        let fault = Fault { code: "nic_missing:pair".into(), text: Text::new("no eth1", "没有 eth1") };
        ill(&with(|f| f.faults.push(fault.clone())), "eth1");
        let broken_before = with(|f| {
            f.faults.push(fault);
            f.arrays[0].working = 1;
        });
        assert_eq!(judge(&broken_before, &Baseline::of(&broken_before)), Verdict::Healthy, "not the update's fault");
    }

    #[test]
    fn a_standby_has_no_ports_and_a_new_machine_no_services() {
        let standby = with(|f| {
            (f.role, f.store) = (Role::Standby, false);
            f.ports.iter_mut().for_each(|port| port.good = false);
        });
        assert_eq!(judge(&standby, &Baseline::default()), Verdict::Healthy);
        let new = Facts { role: Role::NotSetUp, state_volume: true, ..Facts::default() };
        assert_eq!(judge(&new, &Baseline::default()), Verdict::Healthy);
    }

    #[test]
    fn kept_after_20_s_without_a_break_given_up_after_5_min() {
        let bad = Verdict::NotYet(vec![Text::same("x")]);
        let mut trial = Trial::default();
        for _ in 0..19 {
            assert_eq!(trial.look(1000, &Verdict::Healthy), Decision::Wait);
        }
        assert_eq!(trial.look(1000, &bad), Decision::Wait);
        for _ in 0..19 {
            assert_eq!(trial.look(1000, &Verdict::Healthy), Decision::Wait);
        }
        assert_eq!(trial.look(1000, &Verdict::Healthy), Decision::Keep);
        let mut trial = Trial::default();
        for second in 1..300 {
            assert_eq!(trial.look(1000, &bad), Decision::Wait, "{second}");
        }
        assert_eq!(trial.look(1000, &bad), Decision::GiveUp(vec![Text::same("x")]));
        // Healthy at the very end: it may finish.
        let mut trial = Trial::default();
        assert_eq!(trial.look(PATIENCE_MS - 1, &bad), Decision::Wait);
        assert_eq!(trial.look(10_000, &Verdict::Healthy), Decision::Wait);
        assert_eq!(trial.look(10_000, &Verdict::Healthy), Decision::Keep);
        let mut trial = Trial::of(60_000);
        assert_eq!(trial.look(59_999, &bad), Decision::Wait);
        assert_eq!(trial.look(1, &bad), Decision::GiveUp(vec![Text::same("x")]));
        let mut trial = Trial::default();
        trial.look(PATIENCE_MS, &Verdict::Healthy);
        assert!(trial.so_far().0 >= HEALTHY_MS);
    }
}
