//! Where a text may be cut without tearing a character that the reader sees as one.
//!
//! Contract: a cut is refused before combining marks, variation selectors, joiners, emoji modifiers and tags, behind a zero width joiner,
//! inside CR LF, flag pairs and Hangul syllables, and between a virama and its consonant. After UAX 29, a little more careful; not a full
//! implementation: a cut too few costs some room in one part, nothing else. Nothing fails.

use crate::marks::{ASTRAL, BASIC};

/// Walks over a text.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Boundaries(Before);

/// What stood before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Before {
    #[default]
    Other,
    CarriageReturn,
    Joiner,
    Virama,
    /// The first half of a flag.
    Flag,
    /// A leading Hangul consonant.
    Leading,
}

impl Boundaries {
    /// Whether a cut before `c` is good. To be asked for each character in turn; the first answer has no meaning.
    pub(crate) fn before(&mut self, c: char) -> bool {
        let code = u32::from(c);
        if code < 0x300 {
            let good = !(self.0 == Before::Joiner || self.0 == Before::CarriageReturn && c == '\n');
            self.0 = if c == '\r' { Before::CarriageReturn } else { Before::Other };
            return good;
        }
        if is_mark(code) {
            self.0 = match c {
                '\u{200D}' => Before::Joiner,
                _ if is_virama(code) => Before::Virama,
                // A mark between a virama or a joiner and what follows keeps them together.
                _ if self.0 == Before::Virama => Before::Virama,
                _ => Before::Other,
            };
            return false;
        }
        let (good, now) = match code {
            0x1F1E6..=0x1F1FF if self.0 == Before::Flag => (false, Before::Other),
            0x1F1E6..=0x1F1FF => (self.0 != Before::Joiner, Before::Flag),
            // Hangul vowels and final consonants.
            0x1160..=0x11FF | 0xD7B0..=0xD7FF => (false, Before::Other),
            0x1100..=0x115F | 0xA960..=0xA97C => (self.0 != Before::Leading, Before::Leading),
            0xAC00..=0xD7A3 => (self.0 != Before::Leading, Before::Other),
            _ => (!matches!(self.0, Before::Joiner | Before::Virama), Before::Other),
        };
        self.0 = now;
        good
    }
}

/// Whether a cut between two characters is good whatever stands around them: letters of alphabets and ideographs. `false`: perhaps not.
pub(crate) fn apart(before: char, c: char) -> bool {
    let alone = |c: char| matches!(u32::from(c), 0x20..=0x2FF | 0x370..=0x481 | 0x3400..=0x9FFF | 0xFF01..=0xFF9D);
    alone(before) && alone(c)
}

fn is_mark(code: u32) -> bool {
    // Most of Chinese and Japanese text is here.
    if (0x3400..=0x9FFF).contains(&code) {
        return false;
    }
    match u16::try_from(code) {
        Ok(code) => within(&BASIC, code),
        Err(_) => within(&ASTRAL, code),
    }
}

fn within<T: Ord + Copy>(ranges: &[(T, T)], code: T) -> bool {
    let at = ranges.partition_point(|range| range.0 <= code);
    at > 0 && code <= ranges[at - 1].1
}

/// Signs that join two consonants of Indic scripts into one shape.
fn is_virama(code: u32) -> bool {
    matches!(
        code,
        0x094D | 0x09CD | 0x0A4D | 0x0ACD | 0x0B4D | 0x0C4D | 0x0CCD | 0x0D4D | 0x0DCA | 0x1039 | 0x17D2 | 0x1A60 | 0xA9C0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(text: &str) -> heapless::Vec<usize, 64> {
        let mut boundaries = Boundaries::default();
        text.chars().enumerate().filter(|(at, c)| boundaries.before(*c) && *at > 0).map(|(at, _)| at).collect()
    }

    #[test]
    fn sequences_stay_whole() {
        assert_eq!(cuts("abc"), [1, 2]);
        assert_eq!(cuts("e\u{301}a"), [2], "combining acute");
        assert_eq!(cuts("\r\na\n\r"), [2, 3, 4], "CR LF");
        assert_eq!(cuts("👩\u{200D}👩\u{200D}👧x"), [5], "family by joiners");
        assert_eq!(cuts("❤\u{FE0F}👍🏽1\u{FE0F}\u{20E3}"), [2, 4], "selector, skin tone, keycap");
        assert_eq!(cuts("🇨🇳🇩🇪🇫"), [2, 4], "flags");
        assert_eq!(cuts("🏴\u{E0067}\u{E0062}\u{E007F}a"), [4], "tags");
        assert_eq!(cuts("क्षि क"), [4, 5], "virama joins consonants");
        assert_eq!(cuts("\u{1112}\u{1161}\u{11AB}한\u{1100}\u{AC00}"), [3, 4], "Hangul");
        assert_eq!(cuts("か\u{3099}中文"), [2, 3], "voiced sound mark, Chinese");
    }

    #[test]
    fn apart_is_never_wrong() {
        let tried = [
            'a', 'é', '\r', '\n', 'Ж', '中', '\u{301}', '\u{200D}', '\u{94D}', 'क', '🇨', '\u{1100}', '\u{FE0F}', '！',
            '\u{FF9E}', '\u{483}',
        ];
        for context in tried {
            for before in ('\0'..'\u{3000}').chain('\u{FE00}'..='\u{FFFF}').chain(tried) {
                for c in tried {
                    let mut boundaries = Boundaries::default();
                    let good = [context, before, c].map(|c| boundaries.before(c))[2];
                    assert!(good || !apart(before, c), "{context:?} {before:?} {c:?}");
                }
            }
        }
        assert!(apart('a', 'b') && apart('中', '文') && !apart('\r', '\n') && !apart('a', '\u{301}'));
    }

    #[test]
    fn ranges_ascend() {
        assert!(BASIC.iter().zip(&BASIC[1..]).all(|(a, b)| a.0 <= a.1 && a.1 < b.0));
        assert!(ASTRAL.iter().zip(&ASTRAL[1..]).all(|(a, b)| a.0 <= a.1 && a.1 < b.0));
    }
}
