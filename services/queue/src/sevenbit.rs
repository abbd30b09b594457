//! A message in the form that the next server can take: RFC 6152 3, RFC 3030 3, RFC 5321 4.5.3.1.6. Pure.
//!
//! Contract: what a server takes as it is goes out byte for byte. A body is converted (quoted-printable for text, base64 for
//! the rest) when the server lacks 8BITMIME and it has 8-bit bytes, when it holds what DATA cannot carry (a bare CR or LF, a
//! NUL: mail that came by BINARYMIME), or lines above 998 bytes. The other choice that RFC 6152 leaves, sending the mail back, would lose mail
//! that everyone else delivers; sending the bytes anyway would break it without a word. A DKIM signature over a converted body
//! does not verify any more, as with every other relay that converts. Nothing is converted inside `multipart/signed`: there
//! the signature is the point, and the mail goes back instead, with the reason. Header bytes above 127 stay as they are:
//! they are outside of every rule already, and every server in use passes them.
//!
//! Failure class: [`Message::form`] says why a message cannot be converted; the caller refuses it.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use std::sync::OnceLock;
use twinpost_message::header::fields;
use twinpost_message::{Parsed, Part, PartBody};

/// RFC 5321 4.5.3.1.6, without CRLF.
const LINE_MAX_BYTES: usize = 998;

/// A message on its way out; what is found out about it is found out once.
pub struct Message {
    bytes: Bytes,
    eight_bit: bool,
    unclean: bool,
    long: bool,
    utf8_header: OnceLock<bool>,
    converted: OnceLock<Result<Vec<u8>, &'static str>>,
}

impl Message {
    /// Looks at the bytes.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        let (unclean, long) = examine(&bytes);
        Self { eight_bit: !bytes.is_ascii(), unclean, long, utf8_header: OnceLock::new(), converted: OnceLock::new(), bytes }
    }

    /// The bytes to send.
    ///
    /// # Errors
    /// Why it cannot be put into a form that this server takes.
    pub fn form(&self, takes_eight_bit: bool) -> Result<&[u8], &'static str> {
        let must = self.unclean || (self.eight_bit && !takes_eight_bit);
        if !must && !self.long {
            return Ok(&self.bytes);
        }
        match self.converted.get_or_init(|| convert(&self.bytes)) {
            Ok(converted) => Ok(converted),
            Err(why) if must => Err(why),
            // Only its lines are too long: many servers take them all the same.
            Err(_) => Ok(&self.bytes),
        }
    }

    /// A header, also of a part, holds UTF-8: only a server with SMTPUTF8 may have it (RFC 6532 3.2).
    #[must_use]
    pub fn utf8_header(&self) -> bool {
        *self.utf8_header.get_or_init(|| self.eight_bit && in_headers(&Parsed::parse(&self.bytes).root, &self.bytes))
    }
}

fn in_headers(part: &Part, bytes: &[u8]) -> bool {
    let header = &bytes[part.header_start as usize..part.body_start as usize];
    (!header.is_ascii() && std::str::from_utf8(header).is_ok())
        || match &part.body {
            PartBody::Leaf => false,
            PartBody::Multipart(parts) => parts.iter().any(|p| in_headers(p, bytes)),
            PartBody::Message(inner) => in_headers(&inner.1, bytes),
        }
}

/// Holds what DATA cannot carry; has lines that are too long.
fn examine(bytes: &[u8]) -> (bool, bool) {
    let mut line_start = 0;
    let (mut unclean, mut long) = (memchr::memchr(0, bytes).is_some(), false);
    for at in memchr::memchr2_iter(b'\r', b'\n', bytes) {
        if bytes[at] == b'\r' {
            unclean |= bytes.get(at + 1) != Some(&b'\n');
        } else {
            let ended = at > 0 && bytes[at - 1] == b'\r';
            unclean |= !ended;
            long |= at - line_start > LINE_MAX_BYTES + usize::from(ended);
            line_start = at + 1;
        }
    }
    (unclean, long || bytes.len() - line_start > LINE_MAX_BYTES)
}

fn is_dirty(bytes: &[u8]) -> bool {
    !bytes.is_ascii() || examine(bytes) != (false, false)
}

/// # Errors
/// Why it cannot be converted.
fn convert(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let root = Parsed::parse(bytes).root;
    let mut out = Out { bytes, to: Vec::with_capacity(bytes.len() + bytes.len() / 4), at: 0 };
    out.part(&root, true)?;
    out.gap(bytes.len());
    Ok(out.to)
}

struct Out<'a> {
    bytes: &'a [u8],
    to: Vec<u8>,
    /// What lies before is written.
    at: usize,
}

impl Out<'_> {
    /// Boundaries, preambles and what lies between parts: nobody is shown it.
    fn gap(&mut self, end: usize) {
        let start = self.to.len();
        line_ends(&self.bytes[self.at..end], &mut self.to);
        for byte in &mut self.to[start..] {
            if !byte.is_ascii() {
                *byte = b'?';
            }
        }
        self.at = end;
    }

    fn part(&mut self, part: &Part, root: bool) -> Result<(), &'static str> {
        let (start, body, end) = (part.header_start as usize, part.body_start as usize, part.body_end as usize);
        self.gap(start);
        let header = &self.bytes[start..body];
        let content = &self.bytes[body..end];
        let dirty = is_dirty(content);
        match &part.body {
            PartBody::Multipart(parts) => {
                if dirty && part.subtype == "signed" {
                    return Err("it is signed, and the signature would break");
                }
                self.header(header, part, None, root);
                self.at = body;
                for inner in parts {
                    self.part(inner, false)?;
                }
            }
            PartBody::Message(inner) => {
                self.header(header, part, None, root);
                self.at = body;
                self.part(&inner.1, true)?;
            }
            PartBody::Leaf if !dirty => {
                self.header(header, part, None, root);
                self.to.extend_from_slice(content);
                self.at = end;
                return Ok(());
            }
            PartBody::Leaf => {
                // RFC 2045 6.4: a composite type takes no encoding; RFC 6532 3.7 allows it for message/global and its kin.
                let kind =
                    fields(header).find(|f| f.is("Content-Type")).map(|f| f.text(None).to_ascii_lowercase()).unwrap_or_default();
                if kind.starts_with("multipart/") || (kind.starts_with("message/") && !kind.starts_with("message/global")) {
                    return Err("a part of it is of a type that cannot be encoded");
                }
                let text = part.kind == "text";
                match part.encoding.as_str() {
                    // It is encoded already, and wrong: what is no text of its encoding means nothing in it.
                    "base64" => {
                        self.header(header, part, Some("base64"), root);
                        let plain: Vec<u8> = content.iter().copied().filter(|b| b.is_ascii_graphic() && *b != b'=').collect();
                        for line in plain.chunks(76) {
                            self.to.extend_from_slice(line);
                            self.to.extend_from_slice(b"\r\n");
                        }
                        // RFC 4648 4: one byte or two in the last group are filled up; one letter alone is no byte.
                        let padding: &[u8] = match plain.len() % 4 {
                            2 => b"==\r\n",
                            3 => b"=\r\n",
                            _ => b"",
                        };
                        self.to.extend_from_slice(padding);
                    }
                    "quoted-printable" => {
                        self.header(header, part, Some("quoted-printable"), root);
                        quoted_printable(content, true, &mut self.to);
                    }
                    _ if text => {
                        self.header(header, part, Some("quoted-printable"), root);
                        quoted_printable(content, false, &mut self.to);
                    }
                    _ => {
                        self.header(header, part, Some("base64"), root);
                        for line in content.chunks(57) {
                            self.to.extend_from_slice(BASE64.encode(line).as_bytes());
                            self.to.extend_from_slice(b"\r\n");
                        }
                    }
                }
                self.at = end;
                return Ok(());
            }
        }
        self.gap(end);
        Ok(())
    }

    /// The header with another Content-Transfer-Encoding; none: what the part has, or 7bit where it was 8bit or binary.
    fn header(&mut self, header: &[u8], part: &Part, encoding: Option<&str>, root: bool) {
        let relabel = matches!(part.encoding.as_str(), "8bit" | "binary");
        let encoding = encoding.or_else(|| relabel.then_some("7bit"));
        let Some(encoding) = encoding else { return line_ends(header, &mut self.to) };
        let has = |name: &str| fields(header).any(|f| f.is(name));
        let mut added = String::new();
        if root && !has("MIME-Version") {
            added.push_str("MIME-Version: 1.0\r\n");
        }
        if part.kind == "text" && !has("Content-Type") {
            // RFC 1428 3: nobody said in which charset it is.
            added.push_str("Content-Type: text/plain; charset=unknown-8bit\r\n");
        }
        added.push_str(&format!("Content-Transfer-Encoding: {encoding}\r\n"));
        let mut at = 0;
        let mut kept = Vec::with_capacity(header.len());
        for field in fields(header).filter(|f| f.is("Content-Transfer-Encoding")) {
            let from = field.whole.as_ptr() as usize - header.as_ptr() as usize;
            kept.extend_from_slice(&header[at..from]);
            at = from + field.whole.len();
        }
        kept.extend_from_slice(&header[at..]);
        // The empty line stays the last one; a header without one gets it.
        let end = [&b"\r\n"[..], b"\n"].iter().find_map(|end| kept.strip_suffix(*end)).map_or(kept.len(), <[u8]>::len);
        line_ends(&kept[..end], &mut self.to);
        if !self.to.is_empty() && !self.to.ends_with(b"\r\n") {
            self.to.extend_from_slice(b"\r\n");
        }
        self.to.extend_from_slice(added.as_bytes());
        self.to.extend_from_slice(b"\r\n");
    }
}

/// CR, LF and CRLF become CRLF, so that no server sees another end of data than we do.
fn line_ends(bytes: &[u8], to: &mut Vec<u8>) {
    let (mut at, start) = (0, to.len());
    for end in memchr::memchr2_iter(b'\r', b'\n', bytes) {
        if end < at {
            continue;
        }
        to.extend_from_slice(&bytes[at..end]);
        to.extend_from_slice(b"\r\n");
        at = end + if bytes[end] == b'\r' && bytes.get(end + 1) == Some(&b'\n') { 2 } else { 1 };
    }
    to.extend_from_slice(&bytes[at..]);
    to[start..].iter_mut().filter(|b| **b == 0).for_each(|b| *b = b'?');
}

/// RFC 2045 6.7. CRLF stays a line break, everything else comes back as it was. `encoded`: the text is quoted-printable
/// already, and only what must not stand there is encoded.
fn quoted_printable(bytes: &[u8], encoded: bool, to: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut column = 0;
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"\r\n") {
            to.extend_from_slice(b"\r\n");
            (column, at) = (0, at + 2);
            continue;
        }
        let byte = bytes[at];
        let rest = &bytes[at + 1..];
        let line_ends_here = rest.is_empty() || rest.starts_with(b"\r\n");
        let plain = match byte {
            b'=' => encoded,
            b' ' | b'\t' => !line_ends_here,
            // A soft break could make a line that reads as somebody's boundary.
            b'-' => column > 0 || at == 0 || bytes[at - 1] == b'\n',
            b'!'..=b'~' => true,
            _ => false,
        };
        // "=41" of text that is encoded already must not be torn.
        let torn = if encoded && byte == b'=' && rest.first().is_some_and(u8::is_ascii_hexdigit) { 3 } else { 1 };
        let width = if plain { torn } else { 3 };
        if column + width > 75 {
            to.extend_from_slice(b"=\r\n");
            column = 0;
            if byte == b'-' {
                continue;
            }
        }
        if plain {
            to.push(byte);
            column += 1;
        } else {
            to.extend_from_slice(&[b'=', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            column += 3;
        }
        at += 1;
    }
}

/// Entry point for fuzzing: whatever comes in, what goes out can be sent.
///
/// # Panics
/// When it cannot: that is what it looks for.
pub fn fuzz(data: &[u8]) {
    let message = Message::new(Bytes::copy_from_slice(data));
    let _ = message.utf8_header();
    for takes in [true, false] {
        if let Ok(form) = message.form(takes) {
            assert!(!examine(form).0, "a bare line end or NUL is left");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_parser::{MessageParser, MimeHeaders, PartType};
    use proptest::prelude::*;

    fn seven(text: &[u8]) -> Result<String, &'static str> {
        let message = Message::new(Bytes::copy_from_slice(text));
        message.form(false).map(|b| String::from_utf8_lossy(b).into_owned())
    }

    #[test]
    fn what_can_go_as_it_is_is_not_touched() {
        let plain = b"Subject: x\r\n\r\nline\r\n.\r\n";
        assert_eq!(Message::new(Bytes::from_static(plain)).form(false), Ok(&plain[..]));
        let eight = "Subject: x\r\n\r\nGrüße\r\n".as_bytes();
        assert_eq!(Message::new(Bytes::from_static(eight)).form(true), Ok(eight));
    }

    #[test]
    fn text_becomes_quoted_printable_and_reads_the_same() {
        let text = "Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße = \t\r\n--b\r\n张三\r\n";
        let sent = seven(text.as_bytes()).unwrap();
        assert!(sent.is_ascii() && sent.contains("MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"));
        assert!(!sent.contains("8bit"));
        assert_eq!(MessageParser::default().parse(&sent).unwrap().body_text(0).unwrap(), "Grüße = \t\r\n--b\r\n张三\r\n");
    }

    #[test]
    fn parts_inside_parts_are_converted_each() {
        let text = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a\r\nContent-Transfer-Encoding: 8bit\r\n\r\nprämbel\r\n--a\r\n\
            Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n<p>ä</p>\r\n--a\r\n\
            Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: in\r\n\r\nö\r\n--a\r\n\
            Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\u{1}\r\u{2}\n\r\n--a\r\n\
            Content-Type: text/plain\r\n\r\nplain\r\n--a--\r\nend ü\r\n";
        let sent = seven(text.as_bytes()).unwrap();
        assert!(sent.is_ascii(), "{sent}");
        let parsed = MessageParser::default().parse(&sent).unwrap();
        assert_eq!(parsed.parts[1].text_contents(), Some("<p>ä</p>"));
        let PartType::Message(inner) = &parsed.parts[2].body else { panic!("{sent}") };
        assert_eq!(inner.body_text(0).unwrap(), "ö");
        let image = parsed.parts.iter().find(|p| p.content_type().is_some_and(|t| t.c_type == "image")).unwrap();
        assert_eq!(image.contents(), b"\0\x01\r\x02\n");
        assert_eq!(parsed.parts.last().unwrap().text_contents(), Some("plain"));
    }

    #[test]
    fn a_signed_message_is_not_broken() {
        let text = "Content-Type: multipart/signed; boundary=a; protocol=x; micalg=y\r\n\r\n--a\r\n\r\nä\r\n--a\r\nContent-Type: application/x\r\n\r\ns\r\n--a--\r\n";
        assert!(seven(text.as_bytes()).unwrap_err().contains("signed"));
        // Long lines alone are sent as they are.
        let long = text.replace('ä', &"x".repeat(1200));
        assert_eq!(seven(long.as_bytes()).unwrap(), long);
    }

    #[test]
    fn no_other_line_end_than_crlf_leaves() {
        // SMTP smuggling: what DATA would carry as the end of the message for somebody else.
        for text in ["S: x\r\n\r\na\n.\r\nMAIL", "S: x\n\n.\n", "S: x\r\n\r\na\r.\r", "S: a\rb\r\n\r\nx"] {
            let sent = seven(text.as_bytes()).unwrap();
            assert!(!examine(sent.as_bytes()).0, "{sent:?}");
        }
        let binary = MessageParser::default().parse(seven(b"S: x\r\n\r\na\nb\rc\0").unwrap().as_bytes()).unwrap().into_owned();
        assert_eq!(binary.body_text(0).unwrap(), "a\nb\rc\0");
    }

    #[test]
    fn utf8_is_seen_in_headers_only() {
        let is = |text: &str| Message::new(Bytes::copy_from_slice(text.as_bytes())).utf8_header();
        assert!(is("Subject: ä\r\n\r\n") && !is("Subject: a\r\n\r\nä\r\n"));
        assert!(is("Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Description: ä\r\n\r\nx\r\n--a--\r\n"));
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_sent_or_are_refused(data in prop::collection::vec(0u8..=255, 0..400)) {
            fuzz(&data);
        }
        #[test]
        fn any_text_comes_back(lines in prop::collection::vec("[ -~äöü张=\\-. \t]{0,120}", 0..6)) {
            let body = lines.iter().map(|l| format!("{l}\r\n")).collect::<String>() + "ß\r\n";
            let text = format!("Content-Type: text/plain; charset=utf-8\r\n\r\n{body}");
            let sent = seven(text.as_bytes()).unwrap();
            prop_assert!(sent.is_ascii() && sent.split("\r\n").all(|l| l.len() <= 76));
            prop_assert_eq!(MessageParser::default().parse(&sent).unwrap().body_text(0).unwrap().into_owned(), body);
        }
        #[test]
        fn mime_shapes(pieces in prop::collection::vec(prop_oneof![
            Just("Content-Type: multipart/mixed; boundary=a\r\n"), Just("\r\n"), Just("--a\r\n"), Just("--a--\r\n"), Just("ä\n"), Just("\r"), Just("\0"),
            Just("Content-Transfer-Encoding: base64\r\n"), Just("Content-Type: message/rfc822\r\n"), Just("Content-Transfer-Encoding: quoted-printable\r\n"), Just("x=41=\r\n")], 0..20)) {
            fuzz(pieces.concat().as_bytes());
        }
    }
}
