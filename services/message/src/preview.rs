//! The first words of a message (RFC 8970), as a mail client would show them in its list.
//!
//! Contract: at most [`CHARS_MAX`] characters on one line, decoded; quotations, their "… wrote:" line and the signature are left
//! out unless nothing else is there. Only the first [`TEXT_MAX_BYTES`] of the text are looked at: it runs for every message.

use crate::{Part, PartBody, charset, decode, html};

/// RFC 8970 3.1: a server must keep a preview within 256 characters and should within 200.
pub(crate) const CHARS_MAX: usize = 200;
/// Encoded bytes of a plain text that are decoded.
const TEXT_MAX_BYTES: usize = 4 * 1024;
/// Of HTML more is needed: its head may be long.
const HTML_MAX_BYTES: usize = 32 * 1024;

/// The preview of a message.
pub(crate) fn of(message: &[u8], root: &Part) -> String {
    let Some(part) = text_part(root) else { return String::new() };
    let is_html = part.subtype == "html";
    let limit = if is_html { HTML_MAX_BYTES } else { TEXT_MAX_BYTES };
    let body = message.get(part.body_start as usize..part.body_end as usize).unwrap_or_default();
    let Ok(bytes) = decode::decode_body(begin(body, limit), &part.encoding) else { return String::new() };
    let text = charset::decode(&bytes, part.param("charset"));
    let text = text.trim_end_matches(char::REPLACEMENT_CHARACTER); // a character cut by the limit
    if is_html {
        return fold(html::to_text_within(text, 5 * CHARS_MAX).lines());
    }
    let own = fold(own_lines(text));
    if own.is_empty() { fold(text.lines()) } else { own }
}

/// At most so many bytes, not ending inside a UTF-8 character: text that is not valid takes a slower way.
fn begin(body: &[u8], limit: usize) -> &[u8] {
    let mut end = limit;
    while end > 0 && limit - end < 4 && body.get(end).is_some_and(|b| b & 0xc0 == 0x80) {
        end -= 1;
    }
    &body[..end.min(body.len())]
}

/// The part that a reader shows first: plain text before HTML, no attachment.
pub(crate) fn text_part(root: &Part) -> Option<&Part> {
    first(root, "plain").or_else(|| first(root, "html"))
}

fn first<'p>(part: &'p Part, subtype: &str) -> Option<&'p Part> {
    match &part.body {
        PartBody::Multipart(parts) => parts.iter().find_map(|p| first(p, subtype)),
        PartBody::Message(_) => None,
        PartBody::Leaf => (part.is("text", subtype) && !part.is_attachment() && part.body_bytes() > 0).then_some(part),
    }
}

/// Lines that the sender wrote: without quoted ones, the line that introduces them, the signature (RFC 3676 4.3) and the
/// message below an "Original Message" line.
fn own_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut lines = text.lines().peekable();
    std::iter::from_fn(move || {
        loop {
            let line = lines.next()?;
            let bare = line.trim();
            if line == "-- " || line == "--" || is_divider(bare) {
                return None;
            }
            let introduces = bare.ends_with([':', '：']) && lines.peek().is_some_and(|next| next.starts_with('>'));
            if !line.starts_with('>') && !introduces {
                return Some(line);
            }
        }
    })
}

/// `-----Original Message-----`, `------------------ 原始邮件 ------------------`: dashes, words, dashes.
fn is_divider(line: &str) -> bool {
    let inner = line.trim_matches('-');
    line.starts_with("---") && line.ends_with("---") && {
        let words = inner.trim().to_lowercase();
        ["original message", "forwarded message", "原始邮件", "原邮件", "转发邮件", "回复的原邮件", "轉寄郵件"]
            .iter()
            .any(|mark| words.starts_with(mark))
    }
}

/// One line: white space runs are one space, control and invisible characters are gone, cut at the limit.
fn fold<'t>(lines: impl Iterator<Item = &'t str>) -> String {
    let mut out = String::with_capacity(CHARS_MAX);
    let mut count = 0;
    for line in lines {
        let mut space = count > 0;
        for c in line.chars() {
            if c.is_whitespace() {
                space = count > 0;
            } else if !(c.is_control() || matches!(c, '\u{ad}' | '\u{34f}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')) {
                if count + usize::from(space) >= CHARS_MAX {
                    return out;
                }
                if space {
                    out.push(' ');
                }
                count += 1 + usize::from(space);
                space = false;
                out.push(c);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::Parsed;

    fn preview(header: &str, body: &str) -> String {
        Parsed::parse(format!("{header}\r\n\r\n{body}").as_bytes()).preview
    }

    #[test]
    fn what_a_list_shows() {
        for (header, body, want) in [
            ("Subject: a", "Hello\r\n  there,\r\n\r\nfriend.\r\n", "Hello there, friend."),
            ("Subject: a", "On Monday Anna wrote:\r\n> old\r\n> text\r\n\r\nNew.\r\n-- \r\nBob\r\n", "New."),
            ("Subject: a", "> only\r\n> quoted\r\n", "> only > quoted"),
            ("Subject: a", "Yes.\r\n\r\n-----Original Message-----\r\nFrom: x\r\n", "Yes."),
            ("Content-Type: text/html; charset=utf-8", "<style>x</style><p>你好，<b>世界</b></p>", "你好，世界"),
            ("Content-Type: text/plain; charset=gbk\r\nContent-Transfer-Encoding: base64", "1tC5+g==", "中国"),
            ("Content-Type: application/pdf", "x", ""),
            ("Content-Type: text/plain\r\nContent-Transfer-Encoding: x-uuencode", "x", ""),
        ] {
            assert_eq!(preview(header, body), want, "{header} {body}");
        }
        assert_eq!(preview("A: b", &"中 ".repeat(9000)).chars().count(), 199);
    }

    #[test]
    fn plain_text_is_taken_before_html() {
        let body =
            "--b\r\nContent-Type: text/html\r\n\r\n<p>html</p>\r\n--b\r\nContent-Type: text/plain\r\n\r\nplain\r\n--b--\r\n";
        assert_eq!(preview("Content-Type: multipart/alternative; boundary=b", body), "plain");
    }
}
