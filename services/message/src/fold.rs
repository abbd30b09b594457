//! Text as SEARCH compares it: letters without case, width and accents.
//!
//! Contract: any text, linear. A needle matches a text when its folded form is a substring of the text's folded form. Folding
//! goes further than `i;unicode-casemap` (RFC 5051: titlecase, then compatibility decomposition, then octets), so that every
//! match under that collation is a match here too, but for halves of a composed kana or Hangul syllable:
//! * case: lower case, final sigma as sigma, sharp s as `ss`;
//! * compatibility forms as their plain ones (full-width and half-width forms, ligatures);
//! * accents (U+0300 to U+036F) are dropped: `resume` finds `Résumé`; other marks (kana voicing, Hangul jamo) are composed;
//! * a run of white space and control characters is one space, and no space at all where a line break stands between two
//!   Chinese or Japanese characters: mailers break lines inside words there;
//! * invisible characters (soft hyphen, zero-width ones, byte order mark) are dropped.

use unicode_normalization::char::{canonical_combining_class, compose, decompose_compatible};

/// The folded form.
#[must_use]
pub fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    fold_into(&mut out, text);
    out
}

/// Appends the folded form.
pub fn fold_into(out: &mut String, text: &str) {
    // White space seen since the last visible character: none, some, or some with a line break.
    let (mut space, mut broken) = (false, false);
    let mut after_wide = false;
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(first) = bytes.get(at) {
        if first.is_ascii_graphic() {
            if space {
                push_space(out);
                (space, broken) = (false, false);
            }
            let end = at + ascii_words(&bytes[at..]);
            let start = out.len();
            out.push_str(&text[at..end]);
            out[start..].make_ascii_lowercase();
            after_wide = false;
            at = end;
            continue;
        }
        let Some(c) = text[at..].chars().next() else { break };
        at += c.len_utf8();
        if c.is_whitespace() || c.is_control() {
            space = true;
            broken |= matches!(c, '\n' | '\r');
            continue;
        }
        if is_invisible(c) {
            continue;
        }
        let wide = is_wide(c);
        if space {
            if !(broken && wide && after_wide) {
                push_space(out);
            }
            (space, broken) = (false, false);
        }
        after_wide = wide;
        match c {
            '\u{4e00}'..='\u{9fff}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{ac00}'..='\u{d7a3}' => out.push(c),
            '\u{ff01}'..='\u{ff5e}' => {
                let ascii = u8::try_from(u32::from(c) - 0xfee0).map_or(c, char::from);
                out.push(ascii.to_ascii_lowercase());
            }
            c => push_slowly(out, c),
        }
    }
    if space {
        push_space(out);
    }
}

/// One space for a run: what stood between two spaces may fold to nothing.
fn push_space(out: &mut String) {
    if !out.ends_with(' ') {
        out.push(' ');
    }
}

/// Length of the run of visible ASCII characters with single spaces between them: most of most texts.
fn ascii_words(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Some(byte) = bytes.get(end) {
        if byte.is_ascii_graphic() {
            end += 1;
        } else if *byte == b' ' && bytes.get(end + 1).is_some_and(u8::is_ascii_graphic) {
            end += 2;
        } else {
            break;
        }
    }
    end
}

fn push_slowly(out: &mut String, c: char) {
    for lower in c.to_lowercase() {
        // Decomposed first: what it gives may have case again (`℡`).
        decompose_compatible(lower, |part| part.to_lowercase().for_each(|c| push_part(out, c)));
    }
}

fn push_part(out: &mut String, c: char) {
    match c {
        '\u{300}'..='\u{36f}' => {}
        'ß' => out.push_str("ss"),
        'ς' => out.push('σ'),
        // A free-standing accent (`´`) decomposes into a space and the accent; both go.
        c if c.is_whitespace() => {}
        c => {
            let joins = canonical_combining_class(c) != 0 || matches!(c, '\u{1161}'..='\u{11ff}');
            match out.chars().next_back().filter(|_| joins).and_then(|last| compose(last, c)) {
                Some(joined) => {
                    out.pop();
                    out.push(joined);
                }
                None => out.push(c),
            }
        }
    }
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

/// Chinese and Japanese characters and their punctuation: lines break anywhere between them.
fn is_wide(c: char) -> bool {
    is_ideographic(c) || matches!(c, '\u{3000}'..='\u{303f}' | '\u{ff01}'..='\u{ffef}')
}

/// An ideograph or kana: a character that carries about as much as a syllable, in scripts without spaces.
#[must_use]
pub fn is_ideographic(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3100}'..='\u{312f}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// A text to look for.
#[derive(Clone, Debug)]
pub struct Needle {
    folded: String,
    finder: memchr::memmem::Finder<'static>,
}

impl Needle {
    /// A needle for this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let folded = fold(text);
        let finder = memchr::memmem::Finder::new(folded.as_bytes()).into_owned();
        Self { folded, finder }
    }
    /// The folded text that is looked for.
    #[must_use]
    pub fn folded(&self) -> &str {
        &self.folded
    }
    /// Nothing to look for: it is in every text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.folded.is_empty()
    }
    /// The text holds the needle.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.is_empty() || self.matches_folded(&fold(text))
    }
    /// A text that is folded already holds the needle.
    #[must_use]
    pub fn matches_folded(&self, folded: &str) -> bool {
        self.finder.find(folded.as_bytes()).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_finds_what() {
        for (needle, text, found) in [
            ("CHOOL", "the school", true),
            ("resume", "Résumé", true),
            ("résumé", "RE\u{301}SUME\u{301}", true),
            ("strasse", "STRAßE", true),
            ("ΟΔΟΣ", "οδος", true),
            ("abc１", "ＡＢＣ1", true),
            ("ﬁne", "FINE", true),
            ("hello world", "Hello\r\n  World", true),
            ("学校", "我的学\r\n校", true),
            ("学校", "我的学 校", false),
            ("ガ", "\u{ff76}\u{ff9e}", true),
            ("か", "が", false),
            ("각", "\u{1100}\u{1161}\u{11a8}", true),
            ("istanbul", "İSTANBUL", true),
            ("tel", "℡ 1", true),
            ("co operate", "co\u{ad}operate", false),
            ("cooperate", "co\u{ad}operate", true),
            ("rock ´n´ roll", "rock n roll", true),
            ("", "", true),
            ("a", "", false),
        ] {
            assert_eq!(Needle::new(needle).matches(text), found, "{needle} in {text}");
        }
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing(text in "\\PC{0,40}") {
            let once = fold(&text);
            prop_assert_eq!(fold(&once), once);
        }
        #[test]
        fn each_piece_of_a_text_is_found(text in "[a-zA-ZäÖßéﬁ学校日本ガ가각Ａ１Σς .,@-]{1,40}", from in 0usize..40, len in 1usize..10) {
            let piece: String = text.chars().skip(from).take(len).collect();
            prop_assert!(Needle::new(&piece).matches(&text), "{:?}", piece);
        }
    }
}
