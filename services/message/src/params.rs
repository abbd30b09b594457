//! `value; name=value; ...` of MIME headers (RFC 2045 5.1), with continuations and charsets (RFC 2231).
//!
//! Contract: any text; what cannot be read as a parameter is passed over. Encoded words in values, which RFC 2047 5 forbids and
//! most mailers write, are decoded as all readers do.

use crate::{Param, charset, words};

/// Most parameters that are read of one header.
const PARAMS_MAX: usize = 64;

/// Splits an unfolded header value into its first token (lower case) and its parameters.
pub(crate) fn value_and_params(text: &str) -> (String, Vec<Param>) {
    let text = text.trim();
    let end = text.find(';').unwrap_or(text.len());
    let head = text[..end].split('(').next().unwrap_or_default();
    let value = head.trim().to_ascii_lowercase();
    let params = if end < text.len() { params(&text[end + 1..]) } else { Vec::new() };
    (value, params)
}

struct Piece {
    name: String,
    /// `name*0`: its number (RFC 2231 3).
    section: Option<u32>,
    /// `name*=`: per cent encoded, the first with charset and language (RFC 2231 4).
    extended: bool,
    value: String,
}

fn params(text: &str) -> Vec<Param> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while pieces.len() < PARAMS_MAX {
        rest = skip_blank(rest);
        if rest.is_empty() {
            break;
        }
        let end = rest.find(['=', ';']).unwrap_or(rest.len());
        let name = rest[..end].trim();
        if !rest[end..].starts_with('=') {
            rest = rest.get(end + 1..).unwrap_or_default();
            continue;
        }
        let (value, behind) = value(skip_blank(&rest[end + 1..]));
        rest = behind;
        if !name.is_empty() {
            pieces.push(piece(name, value));
        }
    }
    join(&pieces)
}

/// White space and comments (RFC 5322 3.2.2).
fn skip_blank(text: &str) -> &str {
    let mut rest = text.trim_start();
    while rest.starts_with('(') {
        let mut depth = 0u32;
        let mut escaped = false;
        let end = rest.char_indices().find(|(_, c)| {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        rest = end.map_or("", |(at, c)| &rest[at + c.len_utf8()..]).trim_start();
    }
    rest
}

/// A token or quoted string, and what stands behind the next `;`.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        // Unquoted values with spaces (`name=My file.doc`) are wrong and common: up to the `;`.
        let end = text.find(';').unwrap_or(text.len());
        let plain = text[..end].trim();
        let plain = plain.split_once(" (").map_or(plain, |(before, _)| before.trim_end());
        return (plain.to_owned(), text.get(end + 1..).unwrap_or_default());
    };
    let mut plain = String::with_capacity(quoted.len());
    let mut chars = quoted.char_indices();
    let mut end = quoted.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                end = at + 1;
                break;
            }
            '\\' => match chars.next() {
                Some((_, c @ ('"' | '\\'))) => plain.push(c),
                // Windows paths are sent with single backslashes.
                Some((_, c)) => plain.extend(['\\', c]),
                None => {}
            },
            c => plain.push(c),
        }
    }
    let behind = &quoted[end..];
    (plain, behind.find(';').map_or("", |semicolon| &behind[semicolon + 1..]))
}

fn piece(name: &str, value: String) -> Piece {
    let lower = name.to_ascii_lowercase();
    let (stem, extended) = lower.strip_suffix('*').map_or((lower.as_str(), false), |stem| (stem, true));
    let (stem, section) = match stem.split_once('*') {
        Some((base, number)) => match number.parse() {
            Ok(number) => (base, Some(number)),
            Err(_) => (stem, None),
        },
        None => (stem, None),
    };
    Piece { name: stem.to_owned(), section, extended, value }
}

fn join(pieces: &[Piece]) -> Vec<Param> {
    let mut out: Vec<Param> = Vec::with_capacity(pieces.len());
    for (i, first) in pieces.iter().enumerate() {
        if first.section.is_none() && !first.extended {
            // A plain one yields to an extended one of its name (RFC 2231 writers send both).
            if !out.iter().any(|(name, _)| *name == first.name) && !pieces.iter().any(|p| p.name == first.name && is_extended(p))
            {
                out.push((first.name.clone(), words::decode(&first.value).into_owned()));
            }
            continue;
        }
        if pieces[..i].iter().any(|p| p.name == first.name && is_extended(p)) {
            continue;
        }
        out.push((first.name.clone(), extended_value(pieces, &first.name)));
    }
    out
}

fn is_extended(piece: &Piece) -> bool {
    piece.extended || piece.section.is_some()
}

/// Joins the sections of one name in their order (RFC 2231 3, 4, 4.1).
fn extended_value(pieces: &[Piece], name: &str) -> String {
    let mut sections: Vec<&Piece> = pieces.iter().filter(|p| p.name == name && is_extended(p)).collect();
    sections.sort_by_key(|p| p.section.unwrap_or(0));
    let mut charset = None;
    let mut bytes = Vec::new();
    for (i, piece) in sections.iter().enumerate() {
        if !piece.extended {
            bytes.extend_from_slice(piece.value.as_bytes());
            continue;
        }
        let mut coded = piece.value.as_str();
        if i == 0 {
            let mut parts = coded.splitn(3, '\'');
            if let (Some(label), Some(_language), Some(text)) = (parts.next(), parts.next(), parts.next()) {
                charset = (!label.is_empty()).then_some(label);
                coded = text;
            }
        }
        percent(coded.as_bytes(), &mut bytes);
    }
    charset::decode(&bytes, charset).into_owned()
}

fn percent(coded: &[u8], out: &mut Vec<u8>) {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut rest = coded;
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if let (b'%', [high, low, after @ ..]) = (first, behind)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            out.push(high << 4 | low);
            rest = after;
        } else {
            out.push(first);
        }
    }
}

/// Entry point for random input.
pub fn fuzz(data: &[u8]) {
    let _ = value_and_params(&String::from_utf8_lossy(data));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (String, Vec<(String, String)>) {
        value_and_params(text)
    }

    #[test]
    fn rfc_2231_examples() {
        let (kind, params) = read(
            "message/external-body; access-type=URL; URL*0=\"ftp://\"; URL*1=\"cs.utk.edu/pub/moore/bulk-mailer/bulk-mailer.tar\"",
        );
        assert_eq!(kind, "message/external-body");
        assert_eq!(params[1], ("url".into(), "ftp://cs.utk.edu/pub/moore/bulk-mailer/bulk-mailer.tar".into()));
        let (_, params) = read("application/x-stuff; title*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A");
        assert_eq!(params[0], ("title".into(), "This is ***fun***".into()));
        let (_, params) = read(
            "application/x-stuff; title*0*=us-ascii'en'This%20is%20even%20more%20; title*1*=%2A%2A%2Afun%2A%2A%2A%20; title*2=\"isn't it!\"",
        );
        assert_eq!(params, [("title".to_owned(), "This is even more ***fun*** isn't it!".to_owned())]);
    }

    #[test]
    fn params_of_the_field() {
        for (text, want) in [
            ("a/b; charset=UTF-8 (comment); x=y", vec![("charset", "UTF-8"), ("x", "y")]),
            ("a/b; filename=\"a\\\"b;c\" ; y = z", vec![("filename", "a\"b;c"), ("y", "z")]),
            ("a/b; name=My file.doc; x=1", vec![("name", "My file.doc"), ("x", "1")]),
            ("a/b; name=\"=?gb2312?B?1tC5+g==?=.doc\"", vec![("name", "中国.doc")]),
            ("a/b; name=plain; name*=utf-8''%E4%B8%AD", vec![("name", "中")]),
            ("a/b; name*1=b; name*0=a", vec![("name", "ab")]),
            ("a/b; name*=gb18030''%D6%D0%B9%FA", vec![("name", "中国")]),
            ("a/b;;; x; =y; z=\"open", vec![("z", "open")]),
            ("a/b; name=\"C:\\dir\"", vec![("name", "C:\\dir")]),
        ] {
            let got = read(text).1;
            assert_eq!(got.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect::<Vec<_>>(), want, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text(text in "([;=*'\"%()\\\\ ]|name|0|utf-8|\\PC){0,40}") { let _ = read(&text); }
    }
}
