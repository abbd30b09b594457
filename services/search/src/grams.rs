//! Grams of a folded text, and the grams that a needle asks for.
//!
//! Contract: if every text is indexed with [`Grams`], then a text holds a needle exactly where the phrase of [`cover`] stands.
//!
//! At each character begins, with the character's number as position:
//! * a Chinese, Japanese or Korean character: the gram of it and the next character; when the next one is of another
//!   script also the gram of three, so that a needle such as `中ab` is covered;
//! * any other: the gram of three characters;
//! * where the text ends before: what is left, so that short needles are prefixes of grams there too.

use tantivy::tokenizer::{Token, TokenStream, Tokenizer};
use twinpost_message::is_ideographic;

/// Two characters of it are a word: bigrams serve it best.
fn is_dense(c: char) -> bool {
    is_ideographic(c) || matches!(c, '\u{ac00}'..='\u{d7a3}')
}

/// The tokenizer of the index. Takes folded text.
#[derive(Clone, Default)]
pub(crate) struct Grams {
    token: Token,
}

impl Tokenizer for Grams {
    type TokenStream<'a> = GramStream<'a>;
    fn token_stream<'a>(&'a mut self, text: &'a str) -> GramStream<'a> {
        self.token.reset();
        self.token.text.clear();
        GramStream { text, at: 0, number: 0, also: None, token: &mut self.token }
    }
}

pub(crate) struct GramStream<'a> {
    text: &'a str,
    /// Byte where the next gram begins.
    at: usize,
    /// Number of that character.
    number: usize,
    /// End of the gram of three that shares the last one's beginning.
    also: Option<(usize, usize)>,
    token: &'a mut Token,
}

impl GramStream<'_> {
    fn set(&mut self, from: usize, to: usize, number: usize) {
        self.token.text.clear();
        self.token.text.push_str(&self.text[from..to]);
        (self.token.offset_from, self.token.offset_to, self.token.position) = (from, to, number);
    }
}

impl TokenStream for GramStream<'_> {
    fn advance(&mut self) -> bool {
        if let Some((from, to)) = self.also.take() {
            self.set(from, to, self.number - 1);
            return true;
        }
        let from = self.at;
        let mut chars = self.text[from..].chars();
        let Some(first) = chars.next() else { return false };
        let (second, third) = (chars.next(), chars.next());
        let one = from + first.len_utf8();
        let two = one + second.map_or(0, char::len_utf8);
        let three = two + third.map_or(0, char::len_utf8);
        let to = if is_dense(first) {
            if second.is_some_and(|c| !is_dense(c)) && third.is_some() {
                self.also = Some((from, three));
            }
            two
        } else {
            three
        };
        self.set(from, to, self.number);
        self.at = one;
        self.number += 1;
        true
    }
    fn token(&self) -> &Token {
        self.token
    }
    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

/// What to ask the index for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cover<'n> {
    /// Nothing: every text holds it.
    All,
    /// Any gram that begins so.
    Prefix(&'n str),
    /// These grams at these distances, in order, at least one.
    Phrase(Vec<(usize, &'n str)>),
}

/// The grams that cover a folded needle.
pub(crate) fn cover(needle: &str) -> Cover<'_> {
    let mut starts: Vec<usize> = needle.char_indices().map(|(at, _)| at).collect();
    let chars: Vec<char> = needle.chars().collect();
    let len = chars.len();
    starts.push(needle.len());
    match chars.as_slice() {
        [] => return Cover::All,
        [_] => return Cover::Prefix(needle),
        [first, _] if !is_dense(*first) => return Cover::Prefix(needle),
        _ => {}
    }
    // The end of the longest gram that certainly begins at this character of any text that holds the needle.
    let end = |at: usize| -> Option<usize> {
        let second_is_dense = chars.get(at + 1).map(|c| is_dense(*c))?;
        let wanted = if is_dense(chars[at]) && (second_is_dense || at + 2 == len) { at + 2 } else { at + 3 };
        (wanted <= len).then_some(wanted)
    };
    let mut phrase = Vec::with_capacity(len / 2 + 1);
    let (mut covered, mut from) = (0, 0);
    while covered < len {
        // Of the grams that leave no gap, the one that reaches farthest.
        let best = (from..=covered).filter_map(|at| end(at).map(|to| (to, at))).max();
        let Some((to, at)) = best.filter(|(to, _)| *to > covered) else {
            unreachable!("the last three characters of a needle always hold a whole gram that ends it: {needle:?}")
        };
        phrase.push((at, &needle[starts[at]..starts[to]]));
        covered = to;
        from = (at + 1).max(covered.saturating_sub(3)).min(covered);
    }
    Cover::Phrase(phrase)
}

/// Entry point for random input: the cover of each piece of a text stands in the text's grams.
///
/// # Panics
/// When it does not: that is what it looks for.
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut grams = Grams::default();
    let mut stream = grams.token_stream(&text);
    let mut all = std::collections::HashSet::new();
    while stream.advance() {
        all.insert((stream.token().position, stream.token().text.clone()));
    }
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    for from in 0..starts.len() {
        for to in from..starts.len().min(from + 12) {
            match cover(&text[starts[from]..starts[to]]) {
                Cover::All => assert_eq!(from, to),
                Cover::Prefix(prefix) => assert!(all.iter().any(|(at, gram)| *at == from && gram.starts_with(prefix))),
                Cover::Phrase(phrase) => {
                    for (at, gram) in phrase {
                        assert!(all.contains(&(from + at, gram.to_owned())), "{gram:?} of {:?}", &text[starts[from]..starts[to]]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn grams_of_a_mixed_text() {
        let mut grams = Grams::default();
        let mut stream = grams.token_stream("ab学校c");
        let mut got = Vec::new();
        while stream.advance() {
            got.push((stream.token().position, stream.token().text.clone()));
        }
        let want = [(0, "ab学"), (1, "b学校"), (2, "学校"), (3, "校c"), (4, "c")];
        assert_eq!(got, want.map(|(at, gram)| (at, gram.to_owned())));
    }

    #[test]
    fn covers() {
        assert_eq!(cover("school"), Cover::Phrase(vec![(0, "sch"), (3, "ool")]));
        assert_eq!(cover("chool"), Cover::Phrase(vec![(0, "cho"), (2, "ool")]));
        assert_eq!(cover("学校"), Cover::Phrase(vec![(0, "学校")]));
        assert_eq!(cover("学校的"), Cover::Phrase(vec![(0, "学校"), (1, "校的")]));
        assert_eq!(cover("中ab"), Cover::Phrase(vec![(0, "中ab")]));
        assert_eq!(cover("国中a"), Cover::Phrase(vec![(0, "国中"), (1, "中a")]));
        assert_eq!(cover("的"), Cover::Prefix("的"));
        assert_eq!(cover("ab"), Cover::Prefix("ab"));
        assert_eq!(cover("a学"), Cover::Prefix("a学"));
    }

    proptest! {
        #[test]
        fn pieces_of_any_text_are_covered(text in "[ab学校가ー \\PC]{0,24}") { fuzz(text.as_bytes()); }

        #[test]
        fn a_cover_leaves_no_gap(needle in "[ab学校가 ]{1,24}") {
            if let Cover::Phrase(phrase) = cover(&needle) {
                let mut covered = 0;
                for (at, gram) in &phrase {
                    prop_assert!(*at <= covered);
                    covered = at + gram.chars().count();
                }
                prop_assert_eq!(covered, needle.chars().count());
            }
        }
    }
}
