//! Finds remarks such as `RFC 9051 6.3.2`, `RFC 6409 8.2, 8.3`, `RFC 5321, 6409, 2033` and `RFC 5321 appendix C` in a line.
//!
//! Contract: any line. A word that only begins with RFC (`RFC822.SIZE`, an item of IMAP) is no remark.

/// One RFC in a line, with the sections that stand behind it.
#[derive(Debug, PartialEq, Eq)]
pub struct Citation {
    pub rfc: u32,
    pub sections: Vec<String>,
}

/// Takes digits and dots: `6.3.2`. None when no digit stands there.
fn number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    // A dot at the end is the end of a sentence.
    let taken = text[..end].trim_end_matches('.');
    let whole = !taken.is_empty() && taken.split('.').all(|part| !part.is_empty() && part.len() <= 5);
    whole.then(|| (taken, &text[taken.len()..]))
}

/// A section: `4.1`, `section 3`, `appendix C`, `F.6`.
fn section(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix("section ").unwrap_or(text);
    if let Some(rest) = text.strip_prefix("appendix ") {
        let letter = rest.get(..1).filter(|l| l.bytes().all(|b| b.is_ascii_uppercase()))?;
        return Some((format!("appendix {letter}"), &rest[1..]));
    }
    let letter = text.bytes().next().filter(u8::is_ascii_uppercase);
    if letter.is_some() && text.as_bytes().get(1) == Some(&b'.') {
        let (digits, rest) = number(&text[2..])?;
        return Some((format!("{}.{digits}", &text[..1]), rest));
    }
    let (found, rest) = number(text)?;
    // `RFC 9266: 32 bytes` has a colon before, `4 MB` would have a unit behind: only plain section numbers are short.
    let first: u32 = found.split('.').next()?.parse().ok()?;
    let counts_things = rest.starts_with(',') && rest[1..].starts_with(|c: char| c.is_ascii_digit());
    (first <= 30 && !counts_things).then(|| (found.to_owned(), rest))
}

/// All remarks of a line.
pub fn citations(line: &str) -> Vec<Citation> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find("RFC ") {
        let word_begins = !rest[..at].ends_with(|c: char| c.is_alphanumeric());
        rest = &rest[at + 4..];
        let Some((digits, mut behind)) = number(rest) else { continue };
        let Ok(rfc) = digits.parse() else { continue };
        if !word_begins {
            continue;
        }
        let mut citation = Citation { rfc, sections: Vec::new() };
        // `RFC 5321 4.1`, or at once another RFC: `RFC 5321, 6409`.
        let mut more = [", ", " and ", " "].iter().find_map(|between| behind.strip_prefix(between));
        loop {
            if let Some((one, tail)) = more.and_then(section) {
                citation.sections.push(one);
                behind = tail;
            } else if let Some((next, tail)) = more.and_then(number).filter(|(n, _)| n.len() == 4 && !n.contains('.')) {
                // Another RFC of a list: `RFC 5321, 6409, 2033`.
                let Ok(next) = next.parse() else { break };
                found.push(std::mem::replace(&mut citation, Citation { rfc: next, sections: Vec::new() }));
                behind = tail;
                if behind.starts_with(' ') {
                    more = behind.strip_prefix(' ');
                    continue;
                }
            } else {
                break;
            }
            more = [", ", " and ", " to "].iter().find_map(|between| behind.strip_prefix(between));
        }
        found.push(citation);
        rest = behind;
    }
    found
}

#[test]
fn remarks_are_read_as_people_write_them() {
    let shown = |line: &str| -> Vec<String> {
        citations(line).iter().map(|c| format!("{} {}", c.rfc, c.sections.join(" ")).trim_end().to_owned()).collect()
    };
    for (line, wanted) in [
        ("// RFC 9051 6.3.2.", &["9051 6.3.2"][..]),
        ("/// Missing fields (RFC 6409 8.2, 8.3).", &["6409 8.2 8.3"]),
        ("//! LMTP (RFC 5321, 6409, 8314, 2033).", &["5321", "6409", "8314", "2033"]),
        ("//! one pass (RFC 5322, 2045 6.7, 2046).", &["5322", "2045 6.7", "2046"]),
        ("// RFC 5321 4.5.3.2.1 to 4.5.3.2.3: 5 minutes", &["5321 4.5.3.2.1 4.5.3.2.3"]),
        ("// RFC 4954 4: 12,288", &["4954 4"]),
        ("// RFC 4616 allows 255, RFC 9266: 32 bytes", &["4616", "9266"]),
        ("// RFC 5321 4.1.2, appendix C: a route", &["5321 4.1.2 appendix C"]),
        ("// TURN (RFC 5321 F.6), RFC 3030 2 and 3", &["5321 F.6", "3030 2 3"]),
        ("// (RFC 5258 3.1, RFC 6154 5.2)", &["5258 3.1", "6154 5.2"]),
        ("// the messages of RFC 7677 section 3.", &["7677 3"]),
        ("/// `RFC822.SIZE`, XRFC 1, RFC none", &[]),
    ] {
        assert_eq!(shown(line), wanted, "{line}");
    }
}
