//! What a person reads before a plan is carried out, and when it cannot be.

use crate::layout::size;
use crate::{Disk, Error, Holds, Plan, PlanDisk, Text, Whose};

/// What a disk is and holds, in a few words.
#[must_use]
pub fn disk(of: &Disk) -> Text {
    let serial = if of.serial.is_empty() { "-" } else { &of.serial };
    let what = format!("{} {serial}, {}", of.model, size(of.bytes));
    let (en, zh) = match &of.holds {
        Holds::Blank => ("blank".to_owned(), "空白".to_owned()),
        Holds::Twinpost(found) => match found.whose {
            Whose::ThisNode => ("a system disk of this node".to_owned(), "本节点的系统磁盘".to_owned()),
            Whose::Another => ("a system disk with data of another node".to_owned(), "带有另一节点数据的系统磁盘".to_owned()),
            Whose::NoData => ("a system disk without data".to_owned(), "没有数据的系统磁盘".to_owned()),
        },
        Holds::Foreign { what } => (format!("holds {}", what.join("; ")), format!("含有 {}", what.join("；"))),
        Holds::Unreadable { why } => (format!("cannot be read: {why}"), format!("无法读取：{why}")),
    };
    Text::new(format!("{what}: {en}"), format!("{what}：{zh}"))
}

fn row(of: &PlanDisk) -> Text {
    let disk = disk(&of.disk);
    let parts: Vec<_> =
        of.partitions.iter().map(|(name, bytes)| format!("{} {}", name.trim_start_matches("twinpost-"), size(*bytes))).collect();
    let parts = parts.join(", ");
    let (erased_en, erased_zh) = if of.erased { ("ERASED; ", "将被擦除；") } else { ("", "") };
    Text::new(
        format!("bay {}: {}\n  -> {erased_en}{} ({parts})", of.bay, disk.en, of.becomes.en),
        format!("插槽 {}：{}\n  -> {erased_zh}{}（{parts}）", of.bay, disk.zh, of.becomes.zh),
    )
}

impl Plan {
    /// The plan in lines: each disk, what becomes of it, what to know; or all reasons why it cannot be done.
    #[must_use]
    pub fn preview(&self) -> Text {
        let mut lines: Vec<Text> = self.disks.iter().map(row).collect();
        if !self.possible() {
            lines.extend(
                self.refusals
                    .iter()
                    .map(|refusal| Text::new(format!("refused: {}", refusal.text.en), format!("拒绝：{}", refusal.text.zh))),
            );
        } else if self.steps.is_empty() {
            lines.push(Text::new("Nothing is to be done.", "无需任何操作。"));
        } else {
            lines.extend(self.notes.iter().cloned());
        }
        let join = |which: fn(&Text) -> &str| lines.iter().map(which).collect::<Vec<_>>().join("\n");
        Text::new(join(|line| &line.en), join(|line| &line.zh))
    }
}

impl Error {
    /// For people: all refusals, or what failed.
    #[must_use]
    pub fn texts(&self) -> Vec<Text> {
        match self {
            Self::Refused(plan) => plan.refusals.iter().map(|refusal| refusal.text.clone()).collect(),
            Self::Changed(_) => vec![Text::new(self.to_string(), "磁盘自预览后已发生变化；未作任何操作，请查看新的计划")],
            Self::NotRebuilt { array } => {
                vec![Text::new(self.to_string(), format!("阵列 {array} 重建已结束但仍降级：请检查磁盘健康状况"))]
            }
            Self::Root { bay, .. } => {
                vec![Text::new(self.to_string(), format!("运行中的系统无法使用插槽 {bay} 的磁盘；下次启动时重试"))]
            }
            Self::Medium { path, .. } => {
                vec![Text::new(self.to_string(), format!("{} 不是安装介质", path.display()))]
            }
            Self::NotAsWritten { path } => {
                let path = path.display();
                vec![Text::new(self.to_string(), format!("{path} 读回的内容与写入的不一致：磁盘不可靠"))]
            }
            _ => vec![Text::new(self.to_string(), self.to_string())],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Order, Refusal, Step};

    #[test]
    fn a_preview_says_what_is_erased_and_why_not() {
        let holds = Holds::Foreign { what: vec!["ext4 \"Photos\"".into()] };
        let disk = Disk {
            device: "/dev/sdb".into(),
            serial: "WD-1".into(),
            model: "WDC WD40".into(),
            bytes: 4_000_787_030_016,
            sector_bytes: 512,
            rotational: true,
            health: None,
            holds,
            in_use: false,
            members: Vec::new(),
        };
        let becomes = Text::new("becomes the second system disk", "成为第二块系统磁盘");
        let disks =
            vec![PlanDisk { bay: "2".into(), disk, erased: true, partitions: vec![("twinpost-a".into(), 160 << 20)], becomes }];
        let steps = vec![Step::Wipe { bay: "2".into() }];
        let mut plan = Plan { order: Order::Init(Options::default()), disks, steps, refusals: Vec::new(), notes: Vec::new() };
        let said = plan.preview();
        assert_eq!(
            said.en,
            "bay 2: WDC WD40 WD-1, 4.0 TB: holds ext4 \"Photos\"\n  -> ERASED; becomes the second system disk (a 167.7 MB)"
        );
        assert!(said.zh.contains("将被擦除"));
        plan.refusals.push(Refusal { code: "x".into(), bay: None, text: Text::new("because", "因为") });
        assert!(plan.preview().en.ends_with("refused: because"));
        assert_eq!(Error::Refused(Box::new(plan.clone())).texts(), [Text::new("because", "因为")]);
        (plan.refusals, plan.steps) = (Vec::new(), Vec::new());
        assert!(plan.preview().zh.ends_with("无需任何操作。"));
    }
}
