//! From bytes to lines and prompts.
//!
//! Contract: a piece is told as soon as its last byte is in; chunking does not matter. A line ends at CR, LF or Ctrl-Z
//! (an echoed PDU); empty lines are dropped; NUL, XON and XOFF are noise of the line and dropped. Failure class: a line
//! over [`MAX_LINE_BYTES`] is thrown away up to its end and told as [`Piece::Overlong`].

/// Longest line kept. A PDU line has at most 376 characters; the longest answers of TS 27.007 a few hundred.
pub const MAX_LINE_BYTES: usize = 2048;

/// What the splitter finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A line without its end, white space at its ends cut. Octets that are not UTF-8 are replaced.
    Line(String),
    /// `>` at the beginning of a line, while a prompt is awaited (TS 27.005 3.5.1).
    Prompt,
    /// The space after a prompt. Not every modem sends it.
    PromptSpace,
    /// A line without end was thrown away.
    Overlong,
}

/// The splitter. One a modem.
#[derive(Debug, Default)]
pub struct Splitter {
    line: Vec<u8>,
    after_prompt: bool,
    overlong: bool,
}

impl Splitter {
    /// Takes one byte. `want_prompt`: whether a `>` at the beginning of a line is a prompt now.
    pub fn push(&mut self, byte: u8, want_prompt: bool) -> Option<Piece> {
        let after_prompt = std::mem::take(&mut self.after_prompt);
        match byte {
            0 | 0x11 | 0x13 => {
                self.after_prompt = after_prompt;
                None
            }
            b'\r' | b'\n' | 0x1A => {
                if std::mem::take(&mut self.overlong) {
                    self.line.clear();
                    return Some(Piece::Overlong);
                }
                let line = String::from_utf8_lossy(self.line.trim_ascii()).into_owned();
                self.line.clear();
                (!line.is_empty()).then_some(Piece::Line(line))
            }
            b' ' if self.line.is_empty() => after_prompt.then_some(Piece::PromptSpace),
            b'>' if want_prompt && self.line.is_empty() && !self.overlong => {
                self.after_prompt = true;
                Some(Piece::Prompt)
            }
            _ => {
                if self.line.len() < MAX_LINE_BYTES {
                    self.line.push(byte);
                } else {
                    self.overlong = true;
                }
                None
            }
        }
    }

    /// Forgets a line that has begun.
    pub fn clear(&mut self) {
        *self = Splitter::default();
    }

    /// Whether a line has begun and is not finished.
    pub fn in_line(&self) -> bool {
        !self.line.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bytes: &[u8], want_prompt: bool) -> Vec<Piece> {
        let mut splitter = Splitter::default();
        bytes.iter().filter_map(|&b| splitter.push(b, want_prompt)).collect()
    }

    #[test]
    fn lines_and_prompts() {
        assert_eq!(pieces(b"\r\nOK\r\n", false), [Piece::Line("OK".into())]);
        assert_eq!(pieces(b"\r\n> ", true), [Piece::Prompt, Piece::PromptSpace]);
        assert_eq!(pieces(b"\r\n>\r\nOK\r\n", true), [Piece::Prompt, Piece::Line("OK".into())]);
        assert_eq!(pieces(b"\r\n> \r\n", false), [Piece::Line(">".into())]);
        assert_eq!(pieces(b"a > b\r", true), [Piece::Line("a > b".into())]);
        assert_eq!(pieces(b"\0\x11O\0K\x13\r\n", false), [Piece::Line("OK".into())]);
        assert_eq!(pieces(b"0011\x1a\r\n+CMGS: 1\r", false), [Piece::Line("0011".into()), Piece::Line("+CMGS: 1".into())]);
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let mut noise = vec![b'x'; 3 * MAX_LINE_BYTES];
        noise.extend_from_slice(b"\r\nOK\r\n");
        assert_eq!(pieces(&noise, false), [Piece::Overlong, Piece::Line("OK".into())]);
    }
}
