//! Characters that a telephone shows, and lines without waste.

/// Line breaks become line feeds, odd spaces become spaces; control, direction and filling characters go. What joins emoji and
/// shapes Persian (U+200D, U+200C, variation selectors) stays.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => out.push('\n'),
            '\t' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' => out.push(' '),
            '\u{ad}'
            | '\u{34f}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}'
            | '\u{fffc}' => {}
            // Tags and other format characters far out are used to hide text.
            '\u{e0000}'..='\u{e001f}' | '\u{fff9}'..='\u{fffb}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Runs of spaces are one, lines are trimmed, empty lines go; at most so many characters.
pub(crate) fn tidy(text: &str, chars_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(4 * chars_max));
    let mut count = 0;
    for line in text.lines() {
        // The full-width space indents Chinese paragraphs; at the edges of a line it goes too.
        let mut words = line.trim().split(' ').filter(|w| !w.is_empty()).peekable();
        if words.peek().is_none() {
            continue;
        }
        let mut between = if out.is_empty() { None } else { Some('\n') };
        for word in words {
            for c in between.into_iter().chain(word.chars()) {
                if count == chars_max {
                    out.truncate(out.trim_end().len());
                    return out;
                }
                out.push(c);
                count += 1;
            }
            between = Some(' ');
        }
    }
    out
}

/// Typographic signs as plain ones: none of these is in the 7-bit alphabet (3GPP TS 23.038 6.2.1).
pub(crate) fn punctuation(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '‘' | '’' | '‚' | '‛' | '′' | '`' | '´' => out.push('\''),
            '“' | '”' | '„' | '‟' | '″' | '«' | '»' => out.push('"'),
            '–' | '—' | '―' | '‐' | '‑' | '‒' | '−' => out.push('-'),
            '…' => out.push_str("..."),
            '•' | '·' | '‣' => out.push('*'),
            '‹' => out.push('<'),
            '›' => out.push('>'),
            '\u{3000}' => out.push(' '),
            '×' => out.push('x'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_waste() {
        assert_eq!(tidy(&clean("  a \t b\u{a0}c\r\n\r\n\r\n  \u{3000}中文\u{200b}字\u{7}\r\n"), 100), "a b c\n中文字");
        assert_eq!(tidy("ab cd", 3), "ab");
        assert_eq!(tidy("", 3), "");
        assert_eq!(clean("👨\u{200d}👩 \u{202e}x"), "👨\u{200d}👩 x");
        assert_eq!(punctuation("“It’s” – fine…"), "\"It's\" - fine...");
    }
}
