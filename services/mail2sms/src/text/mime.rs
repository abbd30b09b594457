//! Which parts of a mail are its text, decoded.
//!
//! Contract: any bytes; of `multipart/alternative` plain text is taken before HTML; several texts between pictures follow each other;
//! attachments and attached mails are no text. At most [`PART_MAX_BYTES`] of a part and [`PARTS_MAX`] parts are looked at.

use super::{flowed, html};
use twinpost_message::{Part, PartBody, charset, decode_part};

/// Encoded bytes of one part that are decoded; Word makes long HTML of few words.
const PART_MAX_BYTES: usize = 1024 * 1024;
/// Text parts that are joined.
const PARTS_MAX: usize = 20;
/// Bytes of text after which nothing more is added: far more than any text message holds.
const TEXT_MAX_BYTES: usize = 256 * 1024;

/// What is left out already in HTML, where it is marked best.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub quotes: bool,
    pub signature: bool,
}

/// The text of a message.
pub(super) fn text_of(mail: &[u8], root: &Part, cut: Cut) -> String {
    let mut texts = Texts { mail, cut, out: String::new(), parts: 0 };
    texts.add(root);
    texts.out
}

struct Texts<'a> {
    mail: &'a [u8],
    cut: Cut,
    out: String,
    parts: usize,
}

impl Texts<'_> {
    fn add(&mut self, part: &Part) {
        if self.parts >= PARTS_MAX || self.out.len() >= TEXT_MAX_BYTES {
            return;
        }
        match &part.body {
            PartBody::Multipart(parts) if part.subtype == "alternative" => self.add_alternative(parts),
            PartBody::Multipart(parts) => parts.iter().for_each(|p| self.add(p)),
            PartBody::Message(_) => {}
            PartBody::Leaf => {
                if let Some(text) = self.leaf(part) {
                    self.push(&text);
                }
            }
        }
    }

    /// RFC 2046 5.1.4 puts the richest last; here the plainest that says something is wanted.
    fn add_alternative(&mut self, parts: &[Part]) {
        let plain =
            parts.iter().find_map(|p| if p.is("text", "plain") { self.leaf(p).filter(|t| !t.trim().is_empty()) } else { None });
        match plain {
            Some(text) => self.push(&text),
            // HTML, or HTML with its pictures as multipart/related, or a nested alternative.
            None => {
                let before = self.out.len();
                for part in parts.iter().rev() {
                    self.add(part);
                    if !self.out[before..].trim().is_empty() {
                        break;
                    }
                }
            }
        }
    }

    fn push(&mut self, text: &str) {
        self.parts += 1;
        let room = TEXT_MAX_BYTES.saturating_sub(self.out.len() + 1);
        if !self.out.is_empty() && !self.out.ends_with('\n') {
            self.out.push('\n');
        }
        self.out.push_str(&text[..text.floor_char_boundary(room)]);
    }

    /// The text of a part without parts; none when it is no text or an attachment.
    fn leaf(&self, part: &Part) -> Option<String> {
        let is_html = part.subtype == "html";
        // A text file that a mailer shows inline is a file all the same; only a whole message may bear a name.
        if part.header_start > 0 && part.file_name().is_some() {
            return None;
        }
        if part.kind != "text" || part.is_attachment() || !(is_html || part.subtype == "plain") {
            return None;
        }
        let most = u32::try_from(PART_MAX_BYTES).unwrap_or(u32::MAX);
        let part =
            Part { body_end: part.body_end.min(part.body_start.saturating_add(most)), body: PartBody::Leaf, ..part.clone() };
        // A text in an unknown encoding (x-uuencode) cannot be read: it counts as none.
        let bytes = decode_part(self.mail, &part).ok()?;
        let text = charset::decode(&bytes, part.param("charset"));
        Some(match part.param("format") {
            _ if is_html => self.html(&text),
            Some(f) if f.eq_ignore_ascii_case("flowed") => {
                let delsp = part.param("delsp").is_some_and(|d| d.eq_ignore_ascii_case("yes"));
                flowed::unflow(&text, delsp)
            }
            _ => text.into_owned(),
        })
    }

    fn html(&self, text: &str) -> String {
        let own = html::to_text(text, self.cut);
        // All of it was marked as quote: perhaps a message passed on. The lines decide then.
        if own.trim().is_empty() && self.cut.quotes {
            return html::to_text(text, Cut { quotes: false, ..self.cut });
        }
        own
    }
}
