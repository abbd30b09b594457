//! HTML into plain text, for previews and search.
//!
//! Contract: any text, linear time, never longer than the input (an entity is longer than its character). Not for showing: no
//! layout, no safety promise about markup. Scripts, styles, heads and comments are left out; block elements become line breaks.

/// Text of an HTML document or fragment.
#[must_use]
pub fn to_text(html: &str) -> String {
    to_text_within(html, usize::MAX)
}

/// The same, stopping soon after this many bytes of text.
#[must_use]
pub fn to_text_within(html: &str, text_max_bytes: usize) -> String {
    let mut out = String::with_capacity((html.len() / 2).min(text_max_bytes));
    let mut rest = html;
    while out.len() < text_max_bytes
        && let Some(at) = memchr::memchr2(b'<', b'&', rest.as_bytes())
    {
        push_text(&mut out, &rest[..at]);
        rest = &rest[at..];
        rest = if rest.starts_with('<') { tag(&mut out, rest) } else { entity(&mut out, rest) };
    }
    if out.len() < text_max_bytes {
        push_text(&mut out, rest);
    }
    out
}

/// White space of the source is one space.
fn push_text(out: &mut String, text: &str) {
    for (i, word) in text.split([' ', '\t', '\r', '\n']).enumerate() {
        if i > 0 && !out.is_empty() && !out.ends_with([' ', '\n']) {
            out.push(' ');
        }
        out.push_str(word);
    }
}

/// Takes the tag that `text` begins with, returns what stands behind it.
fn tag<'t>(out: &mut String, text: &'t str) -> &'t str {
    if let Some(inner) = text.strip_prefix("<!--") {
        return inner.find("-->").map_or("", |end| &inner[end + 3..]);
    }
    let inner = &text[1..];
    let named = inner.strip_prefix('/').unwrap_or(inner);
    if !named.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '!' | '?')) {
        out.push('<'); // `a < b` is text
        return inner;
    }
    let len = named.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(named.len());
    let mut lower = [0u8; 10];
    let name: &[u8] = match lower.get_mut(..len) {
        Some(lower) => {
            lower.copy_from_slice(&named.as_bytes()[..len]);
            lower.make_ascii_lowercase();
            lower
        }
        None => b"",
    };
    let behind = tag_end(named);
    match name {
        b"script" | b"style" | b"head" | b"template" if named.len() == inner.len() => return behind_close(behind, name),
        b"p" | b"div" | b"br" | b"tr" | b"li" | b"ul" | b"ol" | b"table" | b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6"
        | b"hr" | b"blockquote" | b"pre" | b"section" | b"article" | b"header" | b"footer" | b"dt" | b"dd" | b"body"
        | b"title" => {
            while out.ends_with(' ') {
                out.pop();
            }
            if !out.is_empty() && !out.ends_with('\n') {
                out.push('\n');
            }
        }
        b"td" | b"th" => push_text(out, " "),
        _ => {}
    }
    behind
}

/// What stands behind the `>` that ends the tag; quoted attribute values may hold one.
fn tag_end(text: &str) -> &str {
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return &text[at + 1..],
            (None, b'"' | b'\'') if text.as_bytes()[..at].trim_ascii_end().ends_with(b"=") => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    // A quote that never ends is a mistake: then the first `>` ends the tag.
    text.find('>').filter(|_| quote.is_some()).map_or("", |at| &text[at + 1..])
}

/// What stands behind `</name>`.
fn behind_close<'t>(text: &'t str, name: &[u8]) -> &'t str {
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest.as_bytes(), b"</") {
        rest = &rest[at + 2..];
        if rest.as_bytes().get(..name.len()).is_some_and(|n| n.eq_ignore_ascii_case(name)) {
            return tag_end(rest);
        }
    }
    ""
}

fn entity<'t>(out: &mut String, text: &'t str) -> &'t str {
    let inner = &text[1..];
    let len = inner.bytes().take(12).take_while(|b| b.is_ascii_alphanumeric() || *b == b'#').count();
    let name = &inner[..len];
    let Some(c) = named(name) else {
        out.push('&');
        return inner;
    };
    match c {
        '\u{a0}' => push_text(out, " "),
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{feff}' => {} // invisible, and used to fill previews
        c => out.push(c),
    }
    let behind = &inner[len..];
    behind.strip_prefix(';').unwrap_or(behind)
}

fn named(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => number.parse(),
        };
        return code.ok().and_then(char::from_u32).filter(|c| !c.is_control() || c.is_whitespace());
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, c)| *c)
}

/// The entities that mail holds; others stay as they are written.
const NAMES: [(&str, char); 58] = [
    ("nbsp", '\u{a0}'),
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("copy", '©'),
    ("reg", '®'),
    ("trade", '™'),
    ("hellip", '…'),
    ("mdash", '—'),
    ("ndash", '–'),
    ("lsquo", '‘'),
    ("rsquo", '’'),
    ("ldquo", '“'),
    ("rdquo", '”'),
    ("laquo", '«'),
    ("raquo", '»'),
    ("bull", '•'),
    ("middot", '·'),
    ("times", '×'),
    ("divide", '÷'),
    ("deg", '°'),
    ("euro", '€'),
    ("pound", '£'),
    ("yen", '¥'),
    ("cent", '¢'),
    ("sect", '§'),
    ("para", '¶'),
    ("plusmn", '±'),
    ("frac12", '½'),
    ("szlig", 'ß'),
    ("auml", 'ä'),
    ("ouml", 'ö'),
    ("uuml", 'ü'),
    ("Auml", 'Ä'),
    ("Ouml", 'Ö'),
    ("Uuml", 'Ü'),
    ("agrave", 'à'),
    ("aacute", 'á'),
    ("acirc", 'â'),
    ("aring", 'å'),
    ("aelig", 'æ'),
    ("ccedil", 'ç'),
    ("egrave", 'è'),
    ("eacute", 'é'),
    ("ecirc", 'ê'),
    ("euml", 'ë'),
    ("iacute", 'í'),
    ("ntilde", 'ñ'),
    ("oacute", 'ó'),
    ("ocirc", 'ô'),
    ("oslash", 'ø'),
    ("uacute", 'ú'),
    ("shy", '\u{ad}'),
    ("zwnj", '\u{200c}'),
    ("ensp", '\u{2002}'),
    ("emsp", '\u{2003}'),
];

/// Entry point for random input.
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    assert!(to_text(&text).len() <= text.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents() {
        for (html, text) in [
            (
                "<html><head><title>no</title></head><body><p>Hello\r\n <b>wor</b>ld</p><div>two</div></body>",
                "Hello world\ntwo\n",
            ),
            ("a&nbsp;&amp;&lt;b&#20013;&#x56fd;&bogus;", "a &<b中国&bogus;"),
            ("x<style>p{}</style><script>if (a</b) {}</script>y", "xy"),
            ("<a href=\"x>y\" title='it'>link</a> a < b", "link a < b"),
            ("<!-- no --->yes<!-- open", "yes"),
            ("<td>a</td><td>b</td>", "a b "),
            ("<a b=\"open>text</a>", "text"),
        ] {
            assert_eq!(to_text(html), text, "{html}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text(text in "(<|>|/|&|;|\"|=|!--|-->|script|p|#x?[0-9a-f]{1,6}|nbsp| |\\PC){0,60}") { fuzz(text.as_bytes()); }
    }
}
