//! Base subject (RFC 5256 2.1), for SORT and THREAD.
//!
//! Contract: any decoded text; linear but for nested `[fwd: ]`, whose depth is bounded.

/// `[fwd: ...]` wrappings that are taken off at most.
const FORWARDS_MAX: usize = 16;

/// Bytes of a subject that are looked at: more can not be told apart in a list, and `leader` may look at each blob twice.
const SUBJECT_MAX_BYTES: usize = 1000;

/// The base subject of a decoded subject, and whether marks of a reply or forward were taken off.
#[must_use]
pub fn base(text: &str) -> (String, bool) {
    // RFC 5256 2.1 (1): tabs and folds are spaces, runs of them one.
    let text = &text[..text.floor_char_boundary(SUBJECT_MAX_BYTES)];
    let mut plain = String::with_capacity(text.len());
    for word in text.split([' ', '\t', '\r', '\n']).filter(|w| !w.is_empty()) {
        if !plain.is_empty() {
            plain.push(' ');
        }
        plain.push_str(word);
    }
    let mut rest = plain.as_str();
    let mut is_reply = false;
    for _ in 0..=FORWARDS_MAX {
        // RFC 5256 2.1 (2)
        rest = rest.trim_end_matches(' ');
        while let Some(before) = strip_suffix_ignore_case(rest, "(fwd)") {
            rest = before.trim_end_matches(' ');
            is_reply = true;
        }
        // RFC 5256 2.1 (3) to (5)
        loop {
            rest = rest.trim_start_matches(' ');
            if let Some(behind) = leader(rest) {
                rest = behind;
                is_reply = true;
            } else if let Some(behind) = blob(rest)
                && !behind.is_empty()
            {
                rest = behind;
            } else {
                break;
            }
        }
        // RFC 5256 2.1 (6)
        let Some(inner) = strip_prefix_ignore_case(rest, "[fwd:").and_then(|inner| inner.strip_suffix(']')) else { break };
        rest = inner;
        is_reply = true;
    }
    (rest.to_owned(), is_reply)
}

/// `subj-leader`: blobs and then `subj-refwd`. What stands behind it.
fn leader(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(behind) = blob(rest) {
        rest = behind;
    }
    let rest = ["re", "fwd", "fw"].iter().find_map(|mark| strip_prefix_ignore_case(rest, mark))?;
    let rest = rest.trim_start_matches(' ');
    blob(rest).unwrap_or(rest).strip_prefix(':')
}

/// `subj-blob`: `[...]` without brackets inside, and white space behind it.
fn blob(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?;
    let end = inner.find(['[', ']'])?;
    inner[end..].strip_prefix(']').map(|behind| behind.trim_start_matches(' '))
}

fn strip_prefix_ignore_case<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

fn strip_suffix_ignore_case<'t>(text: &'t str, suffix: &str) -> Option<&'t str> {
    let at = text.len().checked_sub(suffix.len())?;
    let tail = text.get(at..)?;
    tail.eq_ignore_ascii_case(suffix).then(|| &text[..at])
}

/// Entry point for random input.
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (first, _) = base(&text);
    assert!(first.len() <= text.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_5256_section_2_1() {
        for (text, want, is_reply) in [
            ("Re: hello", "hello", true),
            ("RE[2]: hello", "hello", true),
            ("Fwd: Re: FW: hello (fwd) (FWD)", "hello", true),
            ("[list] Re: hello", "hello", true),
            ("Re: [list] hello", "hello", true),
            ("[a] [b] re [c] : hello", "hello", true),
            ("[list]", "[list]", false),
            ("[list] hello", "hello", false),
            ("[fwd: [x] Re: hello]", "hello", true),
            ("Fwd: [fwd: hello (fwd)] ", "hello", true),
            ("  a \t b\r\n c ", "a b c", false),
            ("re", "re", false),
            ("return: x", "return: x", false),
            ("re:", "", true),
            ("回复：你好", "回复：你好", false),
            ("(fwd)", "", true),
            ("[a[b] x", "[a[b] x", false),
        ] {
            assert_eq!(base(text), (want.to_owned(), is_reply), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_base_subject_is_its_own_base(text in "(re|fwd?|\\[|\\]|:|\\(fwd\\)| |a|中){0,24}") {
            let (first, _) = base(&text);
            proptest::prop_assert_eq!(base(&first).0, first);
        }
    }
}
