//! The words of a message as SEARCH sees them: headers decoded, all text parts decoded, HTML as text.
//!
//! Contract: any bytes, bounded output ([`HEADERS_MAX_BYTES`], [`BODY_MAX_BYTES`]); when a bound cut something, `complete` is
//! false, and a search that does not find its needle here must look at the message itself.

use crate::header::fields;
use crate::{Parsed, Part, PartBody, charset, decode, header, html};

/// Bytes of decoded header text that are kept.
pub const HEADERS_MAX_BYTES: usize = 64 * 1024;
/// Bytes of decoded body text that are kept.
pub const BODY_MAX_BYTES: usize = 1024 * 1024;

/// Decoded text of one message, by what a search may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchText {
    /// `Subject:`
    pub subject: String,
    /// `From:`, all of it, as text.
    pub from: String,
    /// `To:`
    pub to: String,
    /// `Cc:`
    pub cc: String,
    /// `Bcc:`
    pub bcc: String,
    /// All header fields, `Name: value` lines, the five above included: what TEXT looks at beside the body.
    pub headers: String,
    /// Text of all text parts; of the parts the file names; of messages inside the headers too.
    pub body: String,
    /// Nothing was cut.
    pub complete: bool,
}

/// The texts of a message that was parsed from these bytes.
#[must_use]
pub fn search_text(bytes: &[u8], parsed: &Parsed) -> SearchText {
    search_text_within(bytes, parsed, HEADERS_MAX_BYTES, BODY_MAX_BYTES)
}

/// The same with other bounds: the scan of what the index could not keep.
#[must_use]
pub fn search_text_within(bytes: &[u8], parsed: &Parsed, headers_max_bytes: usize, body_max_bytes: usize) -> SearchText {
    let mut text = SearchText { complete: true, ..SearchText::default() };
    let charset = parsed.root.param("charset");
    for field in fields(slice(bytes, 0, parsed.root.body_start)) {
        if field.raw.len() > header::VALUE_MAX_BYTES {
            text.complete = false;
        }
        let value = field.decoded(charset);
        let own = [
            ("subject", &mut text.subject),
            ("from", &mut text.from),
            ("to", &mut text.to),
            ("cc", &mut text.cc),
            ("bcc", &mut text.bcc),
        ];
        for (name, own) in own {
            if field.is(name) {
                push_line(own, &value, headers_max_bytes, &mut text.complete);
            }
        }
        let line = format!("{}: {value}", String::from_utf8_lossy(field.name));
        push_line(&mut text.headers, &line, headers_max_bytes, &mut text.complete);
        if text.headers.len() + char::MAX.len_utf8() >= headers_max_bytes {
            text.complete = false;
            break;
        }
    }
    let mut body = Body { bytes, text: String::new(), max_bytes: body_max_bytes, complete: true };
    body.part(&parsed.root);
    text.body = body.text;
    text.complete &= body.complete;
    text
}

fn slice(bytes: &[u8], from: u32, to: u32) -> &[u8] {
    bytes.get(from as usize..to as usize).unwrap_or_default()
}

fn push_line(out: &mut String, line: &str, max_bytes: usize, complete: &mut bool) {
    let room = max_bytes.saturating_sub(out.len() + 1);
    let kept = &line[..line.floor_char_boundary(room)];
    *complete &= kept.len() == line.len();
    if !kept.is_empty() {
        out.push_str(kept);
        out.push('\n');
    }
}

struct Body<'a> {
    bytes: &'a [u8],
    text: String,
    max_bytes: usize,
    complete: bool,
}

impl Body<'_> {
    fn push(&mut self, text: &str) {
        push_line(&mut self.text, text, self.max_bytes, &mut self.complete);
    }

    fn part(&mut self, part: &Part) {
        if let Some(name) = part.file_name() {
            self.push(name);
        }
        match &part.body {
            PartBody::Multipart(parts) => parts.iter().for_each(|p| self.part(p)),
            PartBody::Message(inner) => {
                let root = &inner.1;
                for field in fields(slice(self.bytes, root.header_start, root.body_start)) {
                    let line = format!("{}: {}", String::from_utf8_lossy(field.name), field.decoded(root.param("charset")));
                    self.push(&line);
                }
                self.part(root);
            }
            // Reports (message/delivery-status and the like) are text too.
            PartBody::Leaf if part.kind == "text" || part.kind == "message" => self.text(part),
            PartBody::Leaf => {}
        }
    }

    fn text(&mut self, part: &Part) {
        let raw = slice(self.bytes, part.body_start, part.body_end);
        // Four encoded bytes for each kept one are enough for every encoding but HTML, whose rest is then marked as cut.
        let limit = self.max_bytes.saturating_sub(self.text.len()).saturating_mul(4);
        let kept = &raw[..raw.len().min(limit)];
        self.complete &= kept.len() == raw.len();
        // An unknown encoding (x-uuencode) is looked at as it is: no text is better than its raw form.
        let bytes = decode::decode_body(kept, &part.encoding).unwrap_or(std::borrow::Cow::Borrowed(kept));
        let text = charset::decode(&bytes, part.param("charset"));
        if part.subtype == "html" { self.push(&html::to_text(&text)) } else { self.push(&text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_mixed_message() {
        let mail: &[u8] = b"Subject: =?gb2312?B?1tC5+g==?=\r\nFrom: =?utf-8?Q?J=C3=B6rg?= <j@x.example>\r\nTo: a@b\r\nX-Own: =?utf-8?B?5Lit?=\r\n\
            Content-Type: multipart/mixed; boundary=b\r\n\r\n\
            --b\r\nContent-Type: text/plain; charset=gb18030\r\n\r\n\xd6\xd0\xb9\xfa\xb5\xc4\r\n\
            --b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>caf=C3=A9</p><script>no</script>\r\n\
            --b\r\nContent-Type: application/pdf; name*=utf-8''%E5%AD%A6.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n\
            --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ndeep\r\n--b--\r\n";
        let text = search_text(mail, &Parsed::parse(mail));
        assert_eq!(text.subject, "中国\n");
        assert_eq!(text.from, "Jörg <j@x.example>\n");
        assert!(text.headers.contains("X-Own: 中\n") && text.headers.contains("Subject: 中国\n"), "{}", text.headers);
        assert_eq!(text.body, "中国的\ncafé\n\n学.pdf\nSubject: inner\ndeep\n");
        assert!(text.complete);
        let cut = search_text_within(mail, &Parsed::parse(mail), 10, 5);
        assert!(!cut.complete && cut.headers.len() <= 10 && cut.body.len() <= 5);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(data: Vec<u8>) {
            let text = search_text(&data, &Parsed::parse(&data));
            proptest::prop_assert!(text.headers.len() <= HEADERS_MAX_BYTES && text.body.len() <= BODY_MAX_BYTES);
        }
    }
}
