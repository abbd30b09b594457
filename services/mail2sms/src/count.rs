//! What a text costs, by the codec that will send it (3GPP TS 23.040 9.2.3.24).

use crate::text::punctuation;
use twinpost_gsm::{Alphabet, Options, count};
use unicode_normalization::char::is_combining_mark;

/// What a text costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Short messages.
    pub parts: u32,
    /// Characters outside the 7-bit alphabet: 67 a part instead of 153.
    pub unicode: bool,
}

/// What this text costs.
pub(crate) fn cost(text: &str) -> Cost {
    let count = count(text, &Options::default());
    Cost { parts: count.parts, unicode: count.alphabet == Alphabet::Ucs2 }
}

/// The text with plain quotes and dashes, when these were all that kept it from the 7-bit alphabet.
pub(crate) fn cheapest(text: String) -> String {
    if !cost(&text).unicode {
        return text;
    }
    let plain = punctuation(&text);
    if cost(&plain).unicode { text } else { plain }
}

/// The longest beginning of the text that fits so many parts; `…` or `...` says that it was cut.
pub(crate) fn within(text: &str, parts_max: u8) -> String {
    let most = u32::from(parts_max.max(1));
    let all = cost(text);
    if all.parts <= most {
        return text.to_owned();
    }
    let more = if all.unicode { "…" } else { "..." };
    let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let cut = |n: usize| format!("{}{more}", text[..ends[n]].trim_end());
    // The cost grows with the length, so the longest beginning is found by halves.
    let fits = |n: &usize| cost(&cut(*n)).parts <= most;
    let mut n = {
        let (mut low, mut high) = (0, ends.len() - 1);
        while low < high {
            let middle = (low + high).div_ceil(2);
            if fits(&middle) { low = middle } else { high = middle - 1 }
        }
        low
    };
    // Not between a letter and its accent, nor inside an emoji.
    let joins = |at: usize| {
        let next = text[ends[at]..].chars().next();
        let before = text[..ends[at]].chars().next_back();
        next.is_some_and(|c| is_combining_mark(c) || matches!(c, '\u{200d}' | '\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}'))
            || before == Some('\u{200d}')
    };
    while n > 0 && joins(n) {
        n -= 1;
    }
    cut(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_and_beginnings() {
        assert_eq!(cost(&"a".repeat(160)), Cost { parts: 1, unicode: false });
        assert_eq!(cost(&"a".repeat(161)), Cost { parts: 2, unicode: false });
        assert_eq!(cost(&"中".repeat(70)), Cost { parts: 1, unicode: true });
        assert_eq!(cost(&"中".repeat(200)), Cost { parts: 3, unicode: true });
        assert_eq!(cheapest("It’s “fine” – really…".to_owned()), "It's \"fine\" - really...");
        assert_eq!(cheapest("“好”".to_owned()), "“好”");
        assert_eq!(within(&"a".repeat(161), 1), format!("{}...", "a".repeat(157)));
        assert_eq!(within(&"中".repeat(71), 1), format!("{}…", "中".repeat(69)));
        assert_eq!(within("short", 1), "short");
        let family = format!("{}👨\u{200d}👩{}", "中".repeat(66), "中".repeat(9));
        assert_eq!(within(&family, 1), format!("{}…", "中".repeat(66)));
    }

    proptest::proptest! {
        #[test]
        fn a_beginning_fits(text in "\\PC{0,200}", parts in 1u8..3) {
            proptest::prop_assert!(cost(&within(&text, parts)).parts <= u32::from(parts));
        }
    }
}
