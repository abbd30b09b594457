//! A plan for people: its steps, and what became of it.
//!
//! Failure classes: none.

use super::{Mark, Plan, Stage, both};
use crate::record::{Alarm, Severity};
use crate::text::Text;

impl Plan {
    /// The number of the step that it is at.
    pub(super) fn step(&self) -> usize {
        match &self.stage {
            Stage::Copy => 0,
            Stage::Install { node: 0 } => 1,
            Stage::Restart { node: 0 } | Stage::Settle { node: 0, .. } => 2,
            Stage::Switch | Stage::Prove => 3,
            Stage::Install { .. } => 4,
            Stage::Restart { .. } | Stage::Settle { .. } => 5,
            Stage::Done => 6,
            Stage::Withdraw { .. } | Stage::Aborted { .. } => self.ended_at,
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
            both(
                format!("move the service to node {first}, until it has served well for a while"),
                format!("将服务切换到节点 {first}，直至其正常服务一段时间"),
            ),
            both(format!("write it on node {second}"), format!("写入节点 {second}")),
            both(
                format!("restart node {second}, until it is healthy and current"),
                format!("重启节点 {second}，直至健康且数据最新"),
            ),
        ];
        let at = self.step();
        let here = if matches!(self.stage, Stage::Withdraw { .. } | Stage::Aborted { .. }) { Mark::Failed } else { Mark::Now };
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
                let (after_en, after_zh) = if self.returned {
                    (
                        format!("Node {first} went back to the version before; node {second} was not touched and serves."),
                        format!("节点 {first} 已恢复到之前的版本；节点 {second} 未作更改，继续提供服务。"),
                    )
                } else if self.ended_at <= 2 {
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
}
