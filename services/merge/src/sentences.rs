//! A report in sentences, for people.

use crate::report::{IndexUsed, Outbound, Report, Run};
use time::OffsetDateTime;
use time::macros::format_description;

/// In which language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tongue {
    /// English.
    #[default]
    En,
    /// Simplified Chinese.
    Zh,
}

fn time(at_s: Option<i64>) -> Option<String> {
    let form = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    OffsetDateTime::from_unix_timestamp(at_s?).ok()?.format(form).ok()
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} KB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

impl Report {
    /// The report in sentences: the result first, then what somebody should look at.
    #[must_use]
    pub fn sentences(&self, tongue: Tongue) -> Vec<String> {
        match tongue {
            Tongue::En => self.english(),
            Tongue::Zh => self.chinese(),
        }
    }

    fn english(&self) -> Vec<String> {
        let (t, c) = (&self.totals, &self.totals.counts);
        let mut lines = Vec::new();
        lines.push(match &self.run {
            Run::Compared if !self.has_more() => "The data set aside holds nothing that is not here.".to_owned(),
            Run::Compared => format!(
                "Only in the data set aside: {} messages ({}), {} changes of flags, {} outbound messages, {} accounts and {} mailboxes.",
                c.messages,
                size(c.bytes),
                c.flags,
                t.queue,
                t.accounts_made_there,
                t.mailboxes_made_there
            ),
            Run::Merged => format!(
                "Taken in: {} messages, flags of {} more; {} outbound messages were queued. Nothing was deleted on either side.",
                c.taken, c.flagged, t.queued
            ),
            Run::Stopped { why } => format!(
                "The merge stopped after {} messages ({why}). What was taken in stays; start it again, it goes on from there.",
                c.taken
            ),
        });
        if let Some(at) = time(self.divergence.common_s) {
            let exact = if self.divergence.exact { "" } else { ", or later" };
            lines.push(format!("The two went apart after {at} (transaction {}{exact}).", self.divergence.transaction));
        }
        if let IndexUsed::Made { why, last_moment, .. } = &self.index {
            lines.push(format!("The other side's index could not be used ({why}); one was made from its packs."));
            if *last_moment > 0 {
                lines.push(format!("{last_moment} messages of its last moment are known by their arrival only."));
            }
        }
        let mut say = |n: u64, text: &str| {
            if n > 0 {
                lines.push(format!("{n} {text}"));
            }
        };
        say(c.taken_before, "messages were taken in by an earlier run.");
        say(c.on_both, "messages came on both sides by the same delivery and are here once.");
        say(c.moved_there, "messages were moved to another mailbox there; here they stay where they are.");
        say(c.deleted_there, "messages were deleted there; here they stay.");
        say(c.came_and_deleted_there, "messages came there and were deleted there; they are not brought back.");
        say(c.unreadable + t.queue_unreadable, "messages cannot be read there; they stay in the data set aside.");
        say(t.over_quota, "accounts are above their quota now. Their mail was taken in all the same.");
        let n = |state| self.queue.iter().filter(|q| q.state == state).count() as u64;
        say(n(Outbound::OnBoth), "outbound messages wait on both sides; they are sent from here.");
        say(
            n(Outbound::DoneThere),
            "outbound messages wait here although the other side settled them: look before they go out twice.",
        );
        let maybe = self.queue.iter().filter(|q| q.maybe_sent && q.state == Outbound::OnlyThere).count() as u64;
        say(maybe, "of the outbound messages were due when the other side stopped: it may have sent them already.");
        let removed = self.accounts.iter().filter(|a| a.removed_here).count() as u64;
        say(removed, "accounts were removed here on purpose: their mail of the other side is not taken in.");
        if !self.names_there.is_empty() {
            lines.push(format!("Only there, and not taken in: {}.", self.names_there.join(", ")));
        }
        lines.extend(self.faults.iter().map(|fault| format!("- {fault}")));
        lines
    }

    fn chinese(&self) -> Vec<String> {
        let (t, c) = (&self.totals, &self.totals.counts);
        let mut lines = Vec::new();
        lines.push(match &self.run {
            Run::Compared if !self.has_more() => "搁置的数据中没有本机缺少的内容。".to_owned(),
            Run::Compared => format!(
                "仅存在于搁置数据中：{} 封邮件（{}）、{} 处标记更改、{} 封待发邮件、{} 个账户、{} 个邮箱文件夹。",
                c.messages,
                size(c.bytes),
                c.flags,
                t.queue,
                t.accounts_made_there,
                t.mailboxes_made_there
            ),
            Run::Merged => format!(
                "已合并 {} 封邮件，另有 {} 封补上标记；{} 封待发邮件已重新排队。两边均未删除任何内容。",
                c.taken, c.flagged, t.queued
            ),
            Run::Stopped { why } => {
                format!("合并在 {} 封邮件之后停止（{why}）。已合并的内容保留；重新启动即可继续。", c.taken)
            }
        });
        if let Some(at) = time(self.divergence.common_s) {
            let exact = if self.divergence.exact { "" } else { "，或更晚" };
            lines.push(format!("两边在 {at} 之后分开（事务 {}{exact}）。", self.divergence.transaction));
        }
        if let IndexUsed::Made { why, last_moment, .. } = &self.index {
            lines.push(format!("对方的索引无法使用（{why}），已根据邮件包重建。"));
            if *last_moment > 0 {
                lines.push(format!("其中最后一刻的 {last_moment} 封邮件仅有到达记录。"));
            }
        }
        let mut say = |n: u64, text: &str| {
            if n > 0 {
                lines.push(format!("{n} {text}"));
            }
        };
        say(c.taken_before, "封邮件已由先前的合并收入。");
        say(c.on_both, "封邮件在两边经同一次投递到达，本机保留一份。");
        say(c.moved_there, "封邮件在对方被移到别的文件夹；本机位置不变。");
        say(c.deleted_there, "封邮件在对方被删除；本机保留。");
        say(c.came_and_deleted_there, "封邮件在对方到达后又被删除；不再恢复。");
        say(c.unreadable + t.queue_unreadable, "封邮件在对方无法读取；仍留在搁置的数据中。");
        say(t.over_quota, "个账户现已超出配额；邮件仍已收入。");
        let n = |state| self.queue.iter().filter(|q| q.state == state).count() as u64;
        say(n(Outbound::OnBoth), "封待发邮件两边都在等待，由本机发送。");
        say(n(Outbound::DoneThere), "封待发邮件对方已处理而本机仍在等待：请检查，以免重复发送。");
        let maybe = self.queue.iter().filter(|q| q.maybe_sent && q.state == Outbound::OnlyThere).count() as u64;
        say(maybe, "封待发邮件在对方停止时正当发送时间：可能已经发出。");
        let removed = self.accounts.iter().filter(|a| a.removed_here).count() as u64;
        say(removed, "个账户已在本机被有意删除：其对方邮件不予合并。");
        if !self.names_there.is_empty() {
            lines.push(format!("仅存在于对方、未合并：{}。", self.names_there.join("、")));
        }
        lines.extend(self.faults.iter().map(|fault| format!("- {fault}")));
        lines
    }
}
