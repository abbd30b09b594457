//! What a line of a mail is, as the mailers of the field write it: where a quoted message begins, and header lines of one.

/// Words that introduce a quotation, before a colon at the end.
const WROTE: [&str; 8] = ["wrote", "writes", "写道", "寫道", "schrieb", "a écrit", "escribió", "написал"];
/// How such a line begins in the languages that put the time first.
const WHEN: [&str; 9] = ["On ", "At ", "在", "于", "於", "Am ", "Le ", "El ", "Op "];
/// Longest introduction, all its lines together.
const INTRODUCTION_MAX_CHARS: usize = 400;
/// Lines that an introduction is broken into at most.
const INTRODUCTION_MAX_LINES: usize = 3;

const ORIGINAL: [&str; 14] = [
    "original message",
    "original",
    "原始邮件",
    "原始郵件",
    "原邮件",
    "回复的原邮件",
    "回覆的原郵件",
    "replied message",
    "ursprüngliche nachricht",
    "reply message",
    "回复邮件",
    "原始訊息",
    "原文",
    "原信",
];
const FORWARDED: [&str; 8] = [
    "forwarded message",
    "begin forwarded message",
    "转发邮件",
    "转发的邮件",
    "轉寄郵件",
    "轉發郵件",
    "forwarded",
    "转发的原邮件",
];

const FROM: [&str; 6] = ["from", "发件人", "寄件者", "寄件人", "發件人", "von"];
const OTHER: [&[&str]; 4] = [
    &["sent", "date", "发送时间", "日期", "发送日期", "寄件日期", "時間", "时间", "gesendet", "傳送時間"],
    &["to", "收件人", "收件者", "an"],
    &["subject", "主题", "主旨", "標題", "标题", "betreff"],
    &["cc", "抄送", "副本"],
];

/// A line that divides the own words from another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Divider {
    /// The message that is answered.
    Original,
    /// A message that is passed on.
    Forwarded,
}

/// `-----Original Message-----`, `------------------ 原始邮件 ------------------`, `Begin forwarded message:`.
pub(super) fn divider(line: &str) -> Option<Divider> {
    let line = line.trim();
    if line.len() > 120 {
        return None;
    }
    let inner = line.trim_matches(['-', '－', '—', '_', '=', ' ']);
    let ruled = line.starts_with("--") && line.ends_with("--");
    let words = inner.trim_end_matches([':', '：']).trim().to_lowercase();
    if ruled && ORIGINAL.contains(&words.as_str()) {
        return Some(Divider::Original);
    }
    let says_forwarded = FORWARDED.contains(&words.as_str()) || words.starts_with("forwarded message ");
    let is_apple = words == "begin forwarded message" || line == "下面是被转发的邮件：" || line == "开始转发的邮件：";
    ((ruled && says_forwarded) || is_apple).then_some(Divider::Forwarded)
}

/// A rule of underscores or dashes, which Outlook puts over the header of the message below.
pub(super) fn is_rule(line: &str) -> bool {
    let line = line.trim();
    line.len() >= 10 && (line.bytes().all(|b| b == b'_') || line.bytes().all(|b| b == b'-'))
}

/// Name and value of a header line of a quoted message: `From: x`, `*发件人：* x`.
fn header_line(line: &str) -> Option<(String, &str)> {
    let line = line.trim().trim_start_matches(['*', '>', ' ', '|']);
    let (name, value) = line.split_once([':', '：'])?;
    let name = name.trim().trim_matches('*').trim();
    (!name.is_empty() && name.len() <= 40).then(|| (name.to_lowercase(), value.trim_start_matches('*').trim()))
}

/// Length in lines of the header of a quoted message that begins here (its empty line not counted): a From line and at least
/// two others that such a header has.
pub(super) fn header_block(lines: &[&str]) -> Option<usize> {
    let (name, value) = header_line(lines.first()?)?;
    if !FROM.contains(&name.as_str()) || value.is_empty() {
        return None;
    }
    let mut seen = [false; OTHER.len()];
    let mut len = 1;
    for (at, line) in lines.iter().enumerate().skip(1).take(12) {
        match header_line(line) {
            Some((name, _)) if let Some(kind) = OTHER.iter().position(|names| names.contains(&name.as_str())) => {
                seen[kind] = true;
                len = at + 1;
            }
            // A long list of recipients goes on in the next line; Outlook writes empty ones between.
            _ if at > len + 1 => break,
            _ => {}
        }
    }
    (seen.iter().filter(|s| **s).count() >= 2).then_some(len)
}

/// Length in lines of an introduction like `On ... Anna <a@x> wrote:` that begins here.
pub(super) fn introduction(lines: &[&str]) -> Option<usize> {
    let first = lines.first()?.trim_start_matches(['>', ' ']).trim();
    let named = |text: &str| WHEN.iter().any(|w| text.starts_with(w)) || text.contains('@') || text.contains('<');
    if first.is_empty() || !named(first) && !closes(first) {
        return None;
    }
    let mut whole = String::new();
    for (at, line) in lines.iter().take(INTRODUCTION_MAX_LINES).enumerate() {
        let line = line.trim_start_matches(['>', ' ']).trim();
        if line.is_empty() {
            return None;
        }
        whole.push_str(line);
        whole.push(' ');
        if whole.chars().count() > INTRODUCTION_MAX_CHARS {
            return None;
        }
        if closes(line) {
            // Who and when: somebody who writes "the teacher wrote:" gives no date.
            let digits = whole.chars().filter(char::is_ascii_digit).count();
            return (named(&whole) && (digits >= 4 || whole.contains('@')) || digits >= 8).then_some(at + 1);
        }
    }
    None
}

fn closes(line: &str) -> bool {
    let Some(words) = line.trim_end_matches(['=', '-']).strip_suffix([':', '：']) else { return false };
    let lower = words.to_lowercase();
    WROTE.iter().any(|w| lower.contains(w))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dividers() {
        for (line, kind) in [
            ("-----Original Message-----", Some(Divider::Original)),
            ("-----原始邮件-----", Some(Divider::Original)),
            ("------------------ 原始邮件 ------------------", Some(Divider::Original)),
            ("------------------ Original ------------------", Some(Divider::Original)),
            ("---- 回复的原邮件 ----", Some(Divider::Original)),
            ("---- Replied Message ----", Some(Divider::Original)),
            ("---------- Forwarded message ---------", Some(Divider::Forwarded)),
            ("-------- 转发邮件信息 --------", None),
            ("-------- 转发的邮件 --------", Some(Divider::Forwarded)),
            ("Begin forwarded message:", Some(Divider::Forwarded)),
            ("original", None),
            ("-- ", None),
            ("the original message is lost", None),
        ] {
            assert_eq!(divider(line), kind, "{line}");
        }
    }

    #[test]
    fn introductions() {
        for (text, len) in [
            ("On Mon, Nov 16, 2026 at 3:00 PM Anna <a@x.example> wrote:", Some(1)),
            ("On Mon, Nov 16, 2026 at 3:00 PM Anna\n<a@x.example> wrote:", Some(2)),
            ("On Mon, 16 Nov 2026\nat 3:00 PM Anna\n<a@x.example> wrote:", Some(3)),
            ("在 2026-11-16 15:00:00，\"张三\" <z@x.example> 写道：", Some(1)),
            ("张三 <z@x.example> 于2026年11月16日周一 15:00写道：", Some(1)),
            ("> 在 2026年11月16日，下午3:00，张三 <z@x.example> 写道：", Some(1)),
            ("Am 16.11.2026 um 15:00 schrieb Anna:", Some(1)),
            ("======= 2026-11-16 15:00:00 您在来信中写道：=======", Some(1)),
            ("On Monday, November 16, 2026 at 03:00:00 PM GMT+8, Anna <a@x.example> wrote: ", Some(1)),
            ("在会上老师写道：", None),
            ("Anna wrote:", None),
            ("On the board I wrote:", None),
            ("On the way home\nplease buy milk.\nBye", None),
        ] {
            let lines: Vec<&str> = text.split('\n').collect();
            assert_eq!(introduction(&lines), len, "{text}");
        }
    }

    #[test]
    fn headers_of_quoted_messages() {
        let len = |text: &str| header_block(&text.split('\n').collect::<Vec<_>>());
        assert_eq!(len("From: A <a@x.example>\nSent: Monday\nTo: B\nSubject: s\n\ntext"), Some(4));
        assert_eq!(len("发件人: 张三\n发送时间: 2026年\n收件人: 李四\n主题: 会议\n\n正文"), Some(4));
        assert_eq!(len("*发件人：* 张三\n*发送时间：* 2026\n*收件人：* 李四"), Some(3));
        assert_eq!(len("From: home\nwe go at eight."), None);
        assert_eq!(len("To: B\nFrom: A\nDate: x"), None);
    }
}
