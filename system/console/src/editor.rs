//! One line typed on a raw terminal.
//!
//! Contract: backspace, Ctrl-U (the line), Ctrl-W (a word), Ctrl-C (drop it), Enter as CR, LF or CR LF. What the terminal shall show
//! is given back with each byte. A line that begins with `@` comes from a program and is not echoed. Never more than
//! [`LINE_MAX`] bytes are kept; a longer line is refused as a whole, for half an order may be another order.
//!
//! Failure classes: bytes that are no UTF-8, control characters, escape sequences of keys (all dropped).

/// The longest line in bytes.
pub const LINE_MAX: usize = 4096;

/// What a byte brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Edit {
    /// The line goes on.
    More,
    /// The line is there.
    Line(String),
    /// The line was longer than [`LINE_MAX`]; what it began with.
    TooLong(String),
    /// Ctrl-C.
    Interrupt,
}

/// The line so far.
#[derive(Debug, Default)]
pub struct Editor {
    line: String,
    /// Bytes of a character that is not whole yet.
    partial: Vec<u8>,
    escape: Escape,
    after_cr: bool,
    too_long: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// After ESC.
    Begun,
    /// After `ESC [` or `ESC O`, with the number of bytes so far.
    Sequence(u8),
}

impl Editor {
    /// Takes one byte; what shall be shown is added to `echo`.
    pub fn byte(&mut self, byte: u8, echo: &mut Vec<u8>) -> Edit {
        let after_cr = std::mem::take(&mut self.after_cr);
        if self.escaped(byte) {
            return Edit::More;
        }
        match byte {
            b'\n' if after_cr => {}
            b'\r' | b'\n' => {
                self.after_cr = byte == b'\r';
                if !self.by_program() {
                    echo.extend_from_slice(b"\r\n");
                }
                let line = self.take();
                return if std::mem::take(&mut self.too_long) { Edit::TooLong(line) } else { Edit::Line(line) };
            }
            0x03 => {
                self.take();
                self.too_long = false;
                return Edit::Interrupt;
            }
            0x08 | 0x7f => {
                self.partial.clear();
                if let Some(letter) = self.line.pop() {
                    self.rub_out(letter, echo);
                }
            }
            0x15 => {
                while let Some(letter) = self.line.pop() {
                    self.rub_out(letter, echo);
                }
                self.partial.clear();
                self.too_long = false;
            }
            0x17 => {
                let keep = self.line.trim_end().rfind(' ').map_or(0, |at| at + 1);
                while self.line.len() > keep
                    && let Some(letter) = self.line.pop()
                {
                    self.rub_out(letter, echo);
                }
            }
            0x1b => self.escape = Escape::Begun,
            b'\t' => self.letters(b" ", echo),
            0x00..0x20 => {}
            _ => self.letters(&[byte], echo),
        }
        Edit::More
    }

    /// The line begins with `@`: nobody looks at its echo.
    fn by_program(&self) -> bool {
        self.line.starts_with('@')
    }

    fn take(&mut self) -> String {
        self.partial.clear();
        std::mem::take(&mut self.line)
    }

    fn letters(&mut self, bytes: &[u8], echo: &mut Vec<u8>) {
        self.partial.extend_from_slice(bytes);
        let letter = match str::from_utf8(&self.partial) {
            Ok(letter) => letter.to_owned(),
            // The rest of the character may still come.
            Err(error) if error.error_len().is_none() && self.partial.len() < 4 => return,
            Err(_) => {
                // What broke the character off may begin the next one.
                let begun = self.partial.len() > 1;
                self.partial.clear();
                if begun && let [.., last] = bytes {
                    self.letters(&[*last], echo);
                }
                return;
            }
        };
        self.partial.clear();
        // C1 controls and the invisible are for the screen, not for words.
        if letter.chars().any(char::is_control) {
            return;
        }
        if self.line.len() + letter.len() > LINE_MAX {
            self.too_long = true;
            echo.push(0x07);
            return;
        }
        self.line.push_str(&letter);
        if !self.by_program() {
            echo.extend_from_slice(letter.as_bytes());
        }
    }

    fn rub_out(&self, letter: char, echo: &mut Vec<u8>) {
        if self.by_program() || (self.line.is_empty() && letter == '@') {
            return;
        }
        for _ in 0..columns(letter) {
            echo.extend_from_slice(b"\x08 \x08");
        }
    }

    /// Swallows what arrow and function keys send (ECMA-48 5.4).
    fn escaped(&mut self, byte: u8) -> bool {
        match self.escape {
            Escape::None => return false,
            Escape::Begun if byte == b'[' || byte == b'O' => self.escape = Escape::Sequence(0),
            // Enter and Ctrl-C work whatever came before.
            _ if matches!(byte, b'\r' | b'\n' | 0x03 | 0x1b) => {
                self.escape = Escape::None;
                return false;
            }
            Escape::Begun => self.escape = Escape::None,
            // A final byte, or something that is no sequence at all.
            Escape::Sequence(length) if (0x40..=0x7e).contains(&byte) || length >= 16 => self.escape = Escape::None,
            Escape::Sequence(length) => self.escape = Escape::Sequence(length + 1),
        }
        true
    }
}

/// Columns of a character on a terminal: the wide blocks of East Asia take two (Unicode UAX #11).
fn columns(letter: char) -> usize {
    match letter as u32 {
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 => 2,
        0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn typed(bytes: &[u8]) -> (Vec<Edit>, String) {
        let (mut editor, mut echo) = (Editor::default(), Vec::new());
        let edits = bytes.iter().map(|&b| editor.byte(b, &mut echo)).filter(|e| *e != Edit::More).collect();
        (edits, String::from_utf8_lossy(&echo).into_owned())
    }

    #[test]
    fn a_line_is_edited() {
        let (edits, echo) = typed("pairr\x7f st\x17x\x15status\r\n中文\x7f\n".as_bytes());
        assert_eq!(edits, [Edit::Line("status".into()), Edit::Line("中".into())]);
        assert!(echo.ends_with("中文\x08 \x08\x08 \x08\r\n"), "{echo:?}");
        assert_eq!(typed(b"abc\x03d\r").0, [Edit::Interrupt, Edit::Line("d".into())]);
        // Arrows, a stray ESC before Enter, bytes that are no UTF-8.
        assert_eq!(typed(b"a\x1b[A\x1bOPb\x1b\r").0, [Edit::Line("ab".into())]);
        assert_eq!(typed(b"a\xff\xc3(\xf0\x9f\x98b\r").0, [Edit::Line("a(b".into())]);
    }

    #[test]
    fn a_program_sees_no_echo() {
        let (edits, echo) = typed(b"@1 pair status\r");
        assert_eq!((edits, echo.as_str()), (vec![Edit::Line("@1 pair status".into())], ""));
    }

    #[test]
    fn a_line_that_is_too_long_is_no_order() {
        let mut line = vec![b'a'; LINE_MAX + 10];
        line.extend_from_slice(b"\rb\r");
        let edits = typed(&line).0;
        assert!(matches!(&edits[0], Edit::TooLong(start) if start.len() == LINE_MAX));
        assert_eq!(edits[1], Edit::Line("b".into()));
    }

    proptest! {
        #[test]
        fn nothing_typed_grows_without_bound(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
            let (mut editor, mut echo) = (Editor::default(), Vec::new());
            for byte in bytes {
                echo.clear();
                editor.byte(byte, &mut echo);
                prop_assert!(editor.line.len() <= LINE_MAX && editor.partial.len() < 4);
                prop_assert!(editor.line.chars().all(|c| !c.is_control()));
            }
        }
    }
}
