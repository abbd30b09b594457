//! LIST patterns (RFC 9051 6.3.9): `*` is anything, `%` anything but `/`.
//!
//! Contract: pure; a match costs at most the product of both lengths, and pattern and name are bounded by the parser and by
//! what can be created.

/// A pattern with its reference put before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<u8>);

impl Pattern {
    /// From text. Runs of wildcards are made one: `**`, `*%` and `%*` are `*`. A first level INBOX in any case is INBOX
    /// (RFC 9051 5.1), in a pattern without wildcards there.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut out: Vec<u8> = Vec::with_capacity(text.len());
        for b in text.bytes() {
            match (b, out.last()) {
                (b'*' | b'%', Some(b'*')) | (b'%', Some(b'%')) => {}
                (b'*', Some(b'%')) => {
                    out.pop();
                    out.push(b'*');
                }
                _ => out.push(b),
            }
        }
        Self(out)
    }

    /// The name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_slice(), name.as_bytes());
        // Letters of a first level INBOX match in any case.
        let inbox = if name == b"INBOX" || name.starts_with(b"INBOX/") { 5 } else { 0 };
        let same = |p: u8, i: usize| if i < inbox { p.eq_ignore_ascii_case(&name[i]) } else { p == name[i] };
        let (mut p, mut n) = (0, 0);
        // Where to go on when a literal does not fit: behind the last `*`, and behind the last `%` after it. An earlier wildcard
        // need not be tried again: the later one reaches whatever it would.
        let mut star: Option<(usize, usize)> = None;
        let mut percent: Option<(usize, usize)> = None;
        while n < name.len() || p < pattern.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p + 1, n));
                    percent = None;
                    p += 1;
                    continue;
                }
                Some(b'%') => {
                    percent = Some((p + 1, n));
                    p += 1;
                    continue;
                }
                Some(c) if n < name.len() && same(*c, n) => {
                    (p, n) = (p + 1, n + 1);
                    continue;
                }
                _ => {}
            }
            match (&mut percent, &mut star) {
                (Some((next, at)), _) if *at < name.len() && name[*at] != b'/' => {
                    *at += 1;
                    (p, n) = (*next, *at);
                }
                (_, Some((next, at))) if *at < name.len() => {
                    *at += 1;
                    (p, n) = (*next, *at);
                    percent = None;
                }
                _ => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).matches(name)
    }

    #[test]
    fn wildcards() {
        assert!(is("*", "a/b/c") && is("*", "") && is("%", "a") && !is("%", "a/b") && is("%/%", "a/b"));
        assert!(is("a*c", "a/b/c") && !is("a%c", "a/b/c") && is("a/%", "a/b") && !is("a/%", "a") && is("a*", "a"));
        assert!(is("%b/c", "ab/c") && is("%a%/b", "xaya/b") && is("*a%b", "xa/ab") && is("*%", "a/b") && is("%*", "a/b"));
        assert!(is("inbox", "INBOX") && is("Inb%", "INBOX") && is("inbox/x", "INBOX/x") && !is("inbox/X", "INBOX/x"));
        assert!(!is("inboxes", "Inboxes") && !is("a", "A") && !is("", "a") && is("", "") && is("学*", "学校/通知"));
    }

    /// By the definition, exponential.
    fn slow(p: &[u8], n: &[u8]) -> bool {
        match p.split_first() {
            None => n.is_empty(),
            Some((b'*', rest)) => (0..=n.len()).any(|i| slow(rest, &n[i..])),
            Some((b'%', rest)) => (0..=n.len()).take_while(|i| !n[..*i].contains(&b'/')).any(|i| slow(rest, &n[i..])),
            Some((c, rest)) => n.first() == Some(c) && slow(rest, &n[1..]),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(p in "[ab/%*]{0,9}", n in "[ab/]{0,10}") {
            prop_assert_eq!(is(&p, &n), slow(p.as_bytes(), n.as_bytes()));
        }
        #[test]
        fn any_text(p: String, n: String) { is(&p, &n); }
    }

    #[test]
    fn many_wildcards_do_not_explode() {
        assert!(!is(&"*a".repeat(500), &"a".repeat(499)) && is(&"%a".repeat(500), &"a".repeat(1000)));
    }
}
