//! Cutting out what a mail quotes.
//!
//! Contract: lines in, own lines out. A message that is passed on is not a quote: its text stays, its header lines go.

use super::lines::{self, Divider};

/// The text without quoted messages. `forwarded`: the subject says that the mail passes a message on.
pub(super) fn cut(text: &str, forwarded: bool) -> String {
    let all: Vec<&str> = text.lines().collect();
    let mut own: Vec<&str> = Vec::with_capacity(all.len());
    let mut at = 0;
    // Inside of a message that is passed on: its own quotes are part of what was meant.
    let mut inside = false;
    while at < all.len() {
        let rest = &all[at..];
        let line = rest[0];
        if inside {
            own.push(line.trim_start_matches(['>', ' ']));
            at += 1;
            continue;
        }
        match lines::divider(line) {
            Some(Divider::Original) if !forwarded => break,
            Some(_) => {
                at += 1 + header_len(&all[at + 1..]);
                inside = true;
                continue;
            }
            None => {}
        }
        let ruled = usize::from(lines::is_rule(line));
        if let Some(len) = lines::header_block(next_text(&rest[ruled..])) {
            if !forwarded {
                break;
            }
            at += rest.len() - next_text(&rest[ruled..]).len() + len;
            inside = true;
            continue;
        }
        if let Some(len) = lines::introduction(rest) {
            // With marked lines below, only those go: somebody may have answered under them. Without, all below is the quote.
            if !next_text(&rest[len..]).first().is_some_and(|l| l.starts_with('>')) && !line.starts_with('>') {
                break;
            }
            at += len;
            continue;
        }
        if !line.starts_with('>') {
            own.push(line);
        }
        at += 1;
    }
    own.join("\n")
}

/// From the first line that is not empty; looks only a few lines ahead.
fn next_text<'l, 't>(lines: &'l [&'t str]) -> &'l [&'t str] {
    let blank = lines.iter().take(4).take_while(|l| l.trim().is_empty()).count();
    &lines[blank..]
}

/// Header lines of a passed-on message, in whatever order, with empty lines before them.
fn header_len(lines: &[&str]) -> usize {
    let blank = lines.iter().take(4).take_while(|l| l.trim().is_empty()).count();
    let is_field = |l: &&&str| {
        let name = l.trim_start_matches(['>', ' ', '*']).split([':', '：']).next().unwrap_or("");
        l.contains([':', '：']) && name.chars().count() <= 12 && !name.is_empty()
    };
    let fields = lines[blank..].iter().take(10).take_while(is_field).count();
    if fields >= 2 { blank + fields } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn own_words_stay_and_quotes_go() {
        for (text, own) in [
            ("yes\n\nOn Mon, Nov 16, 2026 at 3:00 PM A <a@x.example> wrote:\n> no?\n> so?\n", "yes\n"),
            ("On Mon, Nov 16, 2026 A <a@x.example> wrote:\n> question\nanswer below\n> more\nand more", "answer below\nand more"),
            ("好的\n\n在 2026-11-16 15:00:00，张三 <z@x.example> 写道：\n明天开会\n请准时", "好的\n"),
            ("好的\n------------------ 原始邮件 ------------------\n发件人: x", "好的"),
            ("ok\n________________________________\nFrom: A\nSent: B\nTo: C\nSubject: D\n\nold", "ok"),
            ("ok\n\n发件人: A\n发送时间: B\n收件人: C\n主题: D\n\nold", "ok"),
            ("see\n---------- Forwarded message ---------\nFrom: A\nDate: B\nTo: C\n\nthe news\n> deep", "see\n\nthe news\ndeep"),
            ("从家里出发", "从家里出发"),
            ("5 > 3\n> quoted", "5 > 3"),
        ] {
            assert_eq!(cut(text, false), own, "{text}");
        }
        let passed_on = "FYI\n________________________________\nFrom: A\nSent: B\nTo: C\nSubject: D\n\nthe news";
        assert_eq!(cut(passed_on, true), "FYI\n\nthe news");
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_added(text in "(> |On 2026 a@b wrote:|From: x|Sent: y|To: z|-----Original Message-----|---------- Forwarded message ---------|____________|\n|\\PC){0,40}", forwarded: bool) {
            proptest::prop_assert!(cut(&text, forwarded).len() <= text.len());
        }
    }
}
