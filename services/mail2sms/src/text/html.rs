//! HTML mail as text: what the mailers mark as quote or signature is taken out first, a link keeps its address.
//!
//! Contract: any text, linear. The words themselves are read by `twinpost_message::html`, which the search uses too.

use super::mime::Cut;
use twinpost_message::html;

/// Longest link address that is written behind its words.
const LINK_MAX_BYTES: usize = 200;

/// Classes (parts of them) of what is quoted.
const QUOTE_CLASSES: [&str; 8] = [
    "gmail_quote",
    "gmail_extra",
    "yahoo_quoted",
    "moz-cite-prefix",
    "protonmail_quote",
    "zmail_extra",
    "ntes-mailmaster-quote",
    "tutanota_quote",
];
/// Ids of what is quoted.
const QUOTE_IDS: [&str; 5] =
    ["isreplycontent", "mail-editor-reference-message-container", "ntes-pcmail-quote", "replycontent", "reply-intro"];
/// Ids behind which everything is quoted.
const REST_IDS: [&str; 3] = ["divrplyfwdmsg", "appendonsend", "x_divrplyfwdmsg"];
const SIGNATURE_CLASSES: [&str; 4] = ["gmail_signature", "moz-signature", "foxmail-signature", "protonmail_signature_block"];
const SIGNATURE_IDS: [&str; 5] =
    ["signature", "ntes-pcmail-signature", "ms-outlook-mobile-signature", "_foxmail_signature", "applemailsignature"];
/// Elements without an end tag: nothing is inside of them.
const VOID: [&str; 9] = ["br", "hr", "img", "input", "meta", "link", "col", "area", "wbr"];

/// The words of an HTML text.
pub(super) fn to_text(text: &str, cut: Cut) -> String {
    html::to_text(&own(text, cut))
}

/// A tag, its attributes in lower case.
struct Tag<'t> {
    name: String,
    closes: bool,
    /// As written, for addresses.
    attributes: &'t str,
    lower: String,
}

/// The HTML without what is cut, and with the addresses of links as words.
fn own(text: &str, cut: Cut) -> String {
    let mut out = String::with_capacity(text.len());
    // Element that is being left out, and how many of its kind are open.
    let mut left_out: Option<(String, usize)> = None;
    // Link that is open: its address, and where its words begin in `out`.
    let mut link: Option<(String, usize)> = None;
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        if left_out.is_none() {
            out.push_str(&rest[..at]);
        }
        rest = &rest[at..];
        let Some((tag, behind)) = tag(rest) else {
            // Not a tag: a comment is dropped, a lone `<` is text.
            let (words, behind) = not_a_tag(rest);
            if left_out.is_none() {
                out.push_str(words);
            }
            rest = behind;
            continue;
        };
        let whole = &rest[..rest.len() - behind.len()];
        rest = behind;
        if let Some((name, depth)) = &mut left_out {
            if tag.name == *name {
                *depth = if tag.closes { depth.saturating_sub(1) } else { *depth + 1 };
            }
            if *depth == 0 {
                left_out = None;
                // Words before and behind do not run together.
                out.push_str("<br>");
            }
            continue;
        }
        if !tag.closes {
            if ["script", "style", "head", "title"].contains(&tag.name.as_str()) {
                rest = behind_close(behind, &tag.name);
                continue;
            }
            if cut.quotes && tag.id().is_some_and(|id| REST_IDS.contains(&id)) {
                return out;
            }
            if !VOID.contains(&tag.name.as_str()) && !tag.attributes.ends_with('/') && is_left_out(&tag, cut) {
                left_out = Some((tag.name, 1));
                continue;
            }
        }
        if tag.name == "a" {
            end_link(&mut out, link.take());
            link = if tag.closes { None } else { tag.address().map(|address| (address, out.len())) };
        }
        out.push_str(whole);
    }
    if left_out.is_none() {
        out.push_str(rest);
    }
    end_link(&mut out, link);
    out
}

/// Writes the address behind the words of a link that do not name it.
fn end_link(out: &mut String, link: Option<(String, usize)>) {
    let Some((address, from)) = link else { return };
    let words = html::to_text(&out[from..]);
    let words = words.trim();
    let bare = address.split_once("://").map_or(address.as_str(), |(_, bare)| bare).trim_end_matches('/');
    // A picture's link has no words; an address as words needs no second one.
    if !words.is_empty() && !words.contains(bare) && !bare.contains(words.trim_end_matches('/')) {
        out.push_str(&format!(" ({})", address.replace('&', "&amp;").replace('<', "&lt;")));
    }
}

fn is_left_out(tag: &Tag<'_>, cut: Cut) -> bool {
    let style = tag.attribute("style").unwrap_or_default().replace(' ', "");
    if style.contains("display:none") {
        return true;
    }
    let class = tag.attribute("class").unwrap_or_default();
    let has = |list: &[&str]| list.iter().any(|c| class.contains(c));
    let id = tag.id().unwrap_or_default();
    let quote = || {
        // A block quote without these marks is somebody's indented paragraph.
        let cited =
            tag.name == "blockquote" && (tag.attribute("type").is_some_and(|t| t == "cite") || style.contains("border-left"));
        cited || tag.name == "includetail" || has(&QUOTE_CLASSES) || QUOTE_IDS.contains(&id)
    };
    let signature = || tag.name == "sign" || has(&SIGNATURE_CLASSES) || SIGNATURE_IDS.contains(&id);
    cut.quotes && quote() || cut.signature && signature()
}

impl Tag<'_> {
    /// The value of an attribute, in lower case.
    fn attribute(&self, name: &str) -> Option<&str> {
        let (from, to) = value_range(&self.lower, name)?;
        Some(&self.lower[from..to])
    }
    fn id(&self) -> Option<&str> {
        self.attribute("id")
    }
    /// The address of a link to the web.
    fn address(&self) -> Option<String> {
        // ASCII lower case keeps all places.
        let (from, to) = value_range(&self.lower, "href")?;
        let address = html::to_text(self.attributes.get(from..to)?);
        let address = address.trim();
        let lower = address.get(..8)?.to_ascii_lowercase();
        let is_web = lower.starts_with("http://") || lower.starts_with("https://");
        (is_web && address.len() <= LINK_MAX_BYTES && !address.contains(char::is_whitespace)).then(|| address.to_owned())
    }
}

/// Where the value of an attribute stands.
fn value_range(attributes: &str, name: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(at) = attributes[from..].find(name) {
        let start = from + at;
        let end = start + name.len();
        from = end;
        let stands_alone =
            start == 0 || attributes[..start].ends_with(|c: char| c.is_ascii_whitespace() || matches!(c, '"' | '\'' | '/'));
        let behind = attributes[end..].trim_start();
        let Some(value) = behind.strip_prefix('=').filter(|_| stands_alone) else { continue };
        let value = value.trim_start();
        let at = attributes.len() - value.len();
        return Some(match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let len = value[1..].find(quote).unwrap_or(value.len() - 1);
                (at + 1, at + 1 + len)
            }
            _ => (at, at + value.find(|c: char| c.is_ascii_whitespace()).unwrap_or(value.len())),
        });
    }
    None
}

/// The tag that the text begins with, and what stands behind it.
fn tag(text: &str) -> Option<(Tag<'_>, &str)> {
    let inner = text.strip_prefix('<')?;
    let closes = inner.starts_with('/');
    let inner = if closes { &inner[1..] } else { inner };
    if !inner.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    // A tag that never ends is all the rest; looking on behind its first character would look at the rest again and again.
    let len = tag_len(inner).unwrap_or(inner.len());
    let name_len = inner[..len].find(|c: char| !(c.is_ascii_alphanumeric() || c == ':' || c == '-')).unwrap_or(len);
    let attributes = inner[name_len..len].trim();
    let tag = Tag { name: inner[..name_len].to_ascii_lowercase(), closes, attributes, lower: attributes.to_ascii_lowercase() };
    Some((tag, inner.get(len + 1..).unwrap_or_default()))
}

/// Where the `>` stands that ends a tag; quoted values may hold one, and a quote that never ends is a mistake.
fn tag_len(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut quote = None;
    for (at, byte) in bytes.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at),
            (None, b'"' | b'\'') if bytes[..at].trim_ascii_end().ends_with(b"=") => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    text.find('>')
}

/// Takes what begins with `<` and is no element: comments and declarations vanish, anything else is text.
fn not_a_tag(text: &str) -> (&str, &str) {
    if let Some(inner) = text.strip_prefix("<!--") {
        return ("", inner.find("-->").map_or("", |end| &inner[end + 3..]));
    }
    if text.starts_with("<!") || text.starts_with("<?") {
        return ("", text.find('>').map_or("", |end| &text[end + 1..]));
    }
    text.split_at(1)
}

/// What stands behind `</name>`.
fn behind_close<'t>(text: &'t str, name: &str) -> &'t str {
    let mut rest = text;
    while let Some(at) = rest.find("</") {
        rest = &rest[at + 2..];
        if rest.get(..name.len()).is_some_and(|n| n.eq_ignore_ascii_case(name)) {
            return rest.find('>').map_or("", |end| &rest[end + 1..]);
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::plain;

    fn shown(text: &str, all: bool) -> String {
        plain::tidy(&plain::clean(&to_text(text, Cut { quotes: all, signature: all })), 1000)
    }

    #[test]
    fn words_of_a_page() {
        for (text, words) in [
            (
                "<html><head><title>no</title><style>p{}</style></head><body><p>Hello</p><p>World</p></body></html>",
                "Hello\nWorld",
            ),
            ("<table><tr><td>Mon</td><td>Math</td></tr><tr><td>Tue</td><td>Art</td></tr></table>", "Mon Math\nTue Art"),
            ("<a href=\"https://x.example/a?b=1&amp;c=2\">click here</a>!", "click here (https://x.example/a?b=1&c=2)!"),
            (
                "<a href='https://x.example/'>x.example</a> <A HREF=http://y.example>https://y.example/</A>",
                "x.example https://y.example/",
            ),
            ("<a href=\"mailto:a@x.example\">mail</a> <a href=\"https://x.example\"><img src=\"a\"></a>", "mail"),
            ("<div style=\"display: none\">preheader</div>seen", "seen"),
            ("a < b &amp; c<!-- comment --> <![endif]>d", "a < b & c d"),
            ("<script>if (a < b) {}</script>x<p", "x"),
            ("<blockquote style=\"margin:0 0 0 40px\">indented</blockquote>", "indented"),
        ] {
            assert_eq!(shown(text, true), words, "{text}");
        }
    }

    #[test]
    fn marked_quotes_and_signatures() {
        for (text, own, whole) in [
            ("yes<div class=\"gmail_quote\"><div>On .. wrote</div><div>old</div></div>", "yes", "yes\nOn .. wrote\nold"),
            ("yes<blockquote type=\"cite\">a<blockquote>b</blockquote>c</blockquote>after", "yes\nafter", "yes\na\nb\nc\nafter"),
            ("yes<hr><div id=\"divRplyFwdMsg\">From: x</div><div>old</div>", "yes", "yes\nFrom: x\nold"),
            ("yes<includetail><div>old</div></includetail>", "yes", "yes\nold"),
            ("yes<div class=\"gmail_signature\">Anna</div>", "yes", "yes\nAnna"),
            ("yes<div id=isReplyContent>old<br>x</div>", "yes", "yes\nold\nx"),
        ] {
            assert_eq!((shown(text, true).as_str(), shown(text, false).as_str()), (own, whole), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text(text in "(<|>|/|=|\"|'|!--|-->|<div class=\"gmail_quote\">|</div>|<a href=\"https://x.example\">|</a>|script|style| |\\PC){0,60}", all: bool) {
            let _ = shown(&text, all);
        }
    }
}
