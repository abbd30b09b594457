//! Plain forms of typographic characters, for texts that would need UCS-2 only because of them.
//!
//! Contract: what a reader would take for the same sign, in the default alphabet; letters are never touched (an accent changes words).
//! Used only when the caller asks for it (`Options::simplify`) and when it saves parts. Nothing fails.

/// The plain form of a typographic character; `None` when it has none or needs none.
#[must_use]
pub fn simplify(c: char) -> Option<&'static str> {
    Some(match c {
        '\u{2018}'..='\u{201B}' | '\u{2032}' | '\u{2039}' | '\u{203A}' | '´' | '`' | '\u{02BC}' => "'",
        '\u{201C}'..='\u{201F}' | '\u{2033}' | '«' | '»' | '\u{301D}'..='\u{301F}' => "\"",
        '\u{2010}'..='\u{2015}' | '\u{2212}' => "-",
        '…' => "...",
        '\t' | '\u{A0}' | '\u{2000}'..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}' => " ",
        '\u{2028}' | '\u{2029}' | '\u{85}' => "\n",
        // Signs without shape: soft hyphen, zero width space, word joiner, byte order mark.
        '\u{AD}' | '\u{200B}' | '\u{2060}' | '\u{FEFF}' => "",
        '•' | '·' | '‣' => "*",
        '×' => "x",
        '©' => "(c)",
        '®' => "(R)",
        '™' => "(TM)",
        '№' => "No.",
        '⁄' => "/",
        '\u{FF01}'..='\u{FF5E}' => {
            let at = (u32::from(c) - 0xFF01) as usize;
            // The plain form of the full width grave accent is not in the alphabet either.
            if c == '\u{FF40}' { "'" } else { ASCII.get(at..=at)? }
        }
        _ => return None,
    })
}

/// U+0021 to U+007E.
const ASCII: &str = "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alphabet::Tables;

    #[test]
    fn every_plain_form_is_in_the_default_alphabet() {
        let mut forms = 0;
        for c in '\0'..=char::MAX {
            if let Some(form) = simplify(c) {
                forms += 1;
                assert!(form.chars().all(|c| Tables::DEFAULT.code(c).is_some()), "{c:?} -> {form:?}");
                assert!(Tables::DEFAULT.code(c).is_none(), "{c:?} needs no plain form");
                assert!(!c.is_alphabetic() || ('\u{FF01}'..='\u{FF5E}').contains(&c) || c == '\u{2BC}', "{c:?} is a letter");
            }
        }
        assert!(forms > 130);
        assert_eq!(simplify('Ａ'), Some("A"));
        assert_eq!(simplify('～'), Some("~"));
    }
}
