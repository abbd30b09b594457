//! Paths: `<a@b>`, `<>`, `<"odd local"@b>`, `<@route,@ignored:a@b>` (RFC 5321 4.1.2).

/// Splits an argument into what stands between the angle brackets (source route taken off) and what follows. None when
/// it is not a path.
#[must_use]
pub fn split(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('<')?;
    let end = closing(inner)?;
    let (path, rest) = (&inner[..end], &inner[end + 1..]);
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    // RFC 5321 4.1.2, appendix C: a source route is taken and ignored.
    let mailbox = if path.starts_with('@') { path.split_once(':')?.1 } else { path };
    Some((mailbox, rest.trim_matches(' ')))
}

/// The `>` that is not inside a quoted local part.
fn closing(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn paths() {
        for (text, want) in [
            ("<a@b.example>", Some(("a@b.example", ""))),
            ("<> SIZE=3", Some(("", "SIZE=3"))),
            ("<\"a>b\"@x>  A B ", Some(("\"a>b\"@x", "A B"))),
            ("<\"a\\\">b\"@x>", Some(("\"a\\\">b\"@x", ""))),
            ("<@r.example,@s.example:a@b.example>", Some(("a@b.example", ""))),
            ("<@r.example>", None),
            ("a@b.example", None),
            ("<a@b.example", None),
            ("<a@b.example>SIZE=3", None),
            ("", None),
        ] {
            assert_eq!(split(text), want, "{text}");
        }
    }
}
