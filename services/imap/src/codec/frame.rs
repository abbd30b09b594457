//! Where a command ends: what to do with the bytes received so far.
//!
//! Contract: the session keeps the unread bytes of one command in a buffer and calls [`Framer::advance`] whenever bytes
//! came. Bytes are looked at once. A message literal of APPEND and REPLACE never enters that buffer: the framer stops at its
//! announcement ([`Step::Message`]), the session reads it where it wants to have it, and the framer goes on behind it.
//! Memory is bounded by [`FrameLimits`].
//!
//! Failure class: [`Step::Refused`], said before a byte of what is too long was read; the framer then finds the next command
//! by itself with [`Step::Skip`], or is reset when the client waits for `+`.

use super::ast::{ErrorKind, Literal};
use super::parse::tag_of;

/// Limits of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// A command with its literals, without messages, bytes.
    pub command_max_bytes: usize,
    /// One literal that is not a message, bytes.
    pub literal_max_bytes: u64,
}

impl Default for FrameLimits {
    fn default() -> Self {
        // RFC 7162 4 wants 8192 at least; clients with big UID lists send up to 60 KB.
        Self { command_max_bytes: 256 * 1024, literal_max_bytes: 128 * 1024 }
    }
}

/// What the session has to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for more bytes.
    More,
    /// Send `+ ` (a synchronising literal was announced), then wait for more bytes.
    Continue,
    /// The first `head_bytes` bytes announce a message. Take them from the buffer, parse them with
    /// [`super::parse::append_start`] (or, behind a message, [`super::parse::append_next`]), then read the literal or call
    /// [`Framer::refuse_message`].
    Message {
        /// Bytes of the head with its line end.
        head_bytes: usize,
        /// What follows.
        literal: Literal,
    },
    /// The first `len_bytes` bytes are a command (or, behind a message, its end). Take them from the buffer.
    Complete {
        /// Bytes with the line end.
        len_bytes: usize,
    },
    /// Take this many bytes from the buffer, forget them and call again.
    Skip {
        /// Bytes.
        len_bytes: usize,
    },
    /// Too long. Answer with the tag, then call again.
    Refused {
        /// The tag when it was readable.
        tag: Option<String>,
        /// [`ErrorKind::Limit`] for the command, [`ErrorKind::TooBig`] for one literal.
        kind: ErrorKind,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a command.
    Command,
    /// Behind a message literal.
    Tail,
    /// Throwing away `left` bytes, then (if `line`) up to the end of the command.
    Skip { left: u64, line: bool },
}

/// Finds the ends of commands.
#[derive(Clone, Debug)]
pub struct Framer {
    limits: FrameLimits,
    state: State,
    /// Begin of the current line in the buffer: 0, or behind a literal.
    line_start: usize,
    /// Everything before this was looked at (or belongs to a literal, and may still be to come).
    scanned: usize,
}

impl Framer {
    /// For the start of a connection.
    #[must_use]
    pub fn new(limits: FrameLimits) -> Self {
        Self { limits, state: State::Command, line_start: 0, scanned: 0 }
    }
    /// Other limits from the next command on (after sign-in).
    pub fn set_limits(&mut self, limits: FrameLimits) {
        self.limits = limits;
    }
    /// No command has begun: the buffer may be freed when it is empty.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.state == State::Command && self.line_start == 0 && self.scanned == 0
    }
    /// Forgets the current command: the next byte begins one.
    pub fn reset(&mut self) {
        self.start(State::Command);
    }
    /// The session does not take the message that [`Step::Message`] announced, or no more of the command. A synchronising
    /// literal will not come once the tagged answer is sent (RFC 9051 4.3); any other is skipped, with the rest of its command.
    pub fn refuse_message(&mut self, literal: Literal) {
        self.start(if literal.sync { State::Command } else { State::Skip { left: literal.size_bytes, line: true } });
    }

    fn start(&mut self, state: State) {
        (self.state, self.line_start, self.scanned) = (state, 0, 0);
    }

    /// Says what to do. `buffer` holds all bytes received and not yet taken.
    pub fn advance(&mut self, buffer: &[u8]) -> Step {
        if let State::Skip { left, line } = self.state {
            return self.skip(buffer, left, line);
        }
        if buffer.len() < self.scanned {
            return Step::More;
        }
        let Some(end) = memchr::memchr(b'\n', &buffer[self.scanned..]).map(|i| self.scanned + i) else {
            self.scanned = buffer.len();
            return self.within_limit(buffer, buffer.len()).unwrap_or(Step::More);
        };
        if let Some(refused) = self.within_limit(buffer, end) {
            return refused;
        }
        let Some(literal) = literal_at_end(&buffer[self.line_start..end]) else {
            self.start(State::Command);
            return Step::Complete { len_bytes: end + 1 };
        };
        if self.state == State::Tail || (is_append(&buffer[..end]) && (self.line_start > 0 || !at_mailbox(&buffer[..end]))) {
            self.start(State::Tail);
            return Step::Message { head_bytes: end + 1, literal };
        }
        let room = self.limits.command_max_bytes.saturating_sub(end);
        if literal.size_bytes > self.limits.literal_max_bytes || literal.size_bytes > room as u64 {
            let tag = tag_of(buffer);
            let (head, size) = (end as u64 + 1, literal.size_bytes);
            // RFC 7888 4: a literal that the client sends without asking is on its way and has to be read.
            self.start(if literal.sync {
                State::Skip { left: head, line: false }
            } else {
                State::Skip { left: head.saturating_add(size), line: true }
            });
            return Step::Refused { tag, kind: ErrorKind::TooBig };
        }
        self.line_start = end + 1 + usize::try_from(literal.size_bytes).unwrap_or(usize::MAX / 2);
        self.scanned = self.line_start;
        if literal.sync {
            return Step::Continue;
        }
        self.advance_again(buffer)
    }

    /// Commands with thousands of small literals must not recurse: one turn of the caller for each.
    fn advance_again(&mut self, buffer: &[u8]) -> Step {
        if buffer.len() < self.scanned { Step::More } else { Step::Skip { len_bytes: 0 } }
    }

    fn within_limit(&mut self, buffer: &[u8], length: usize) -> Option<Step> {
        if length <= self.limits.command_max_bytes {
            return None;
        }
        let tag = if self.state == State::Command { tag_of(buffer) } else { None };
        self.start(State::Skip { left: 0, line: true });
        Some(Step::Refused { tag, kind: ErrorKind::Limit })
    }

    fn skip(&mut self, buffer: &[u8], left: u64, line: bool) -> Step {
        if left > 0 {
            let now = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            if now == 0 {
                return Step::More;
            }
            let left = left - now as u64;
            self.start(if left == 0 && !line { State::Command } else { State::Skip { left, line } });
            return Step::Skip { len_bytes: now };
        }
        match memchr::memchr(b'\n', buffer) {
            Some(end) => {
                self.start(match literal_at_end(&buffer[..end]).filter(|l| !l.sync) {
                    Some(literal) => State::Skip { left: literal.size_bytes, line: true },
                    None => State::Command,
                });
                Step::Skip { len_bytes: end + 1 }
            }
            // The announcement of a literal has at most 26 bytes; the line may end within the next packet.
            None if buffer.len() > 64 => Step::Skip { len_bytes: buffer.len() - 32 },
            None => Step::More,
        }
    }
}

/// The line (without its LF) announces a literal: `{n}`, `{n+}`, `~{n}` (RFC 9051 4.3, RFC 7888, RFC 3516).
fn literal_at_end(line: &[u8]) -> Option<Literal> {
    let line = line.strip_suffix(b"\r").unwrap_or(line).strip_suffix(b"}")?;
    let open = memchr::memrchr(b'{', &line[line.len().saturating_sub(24)..])? + line.len().saturating_sub(24);
    let (digits, sync) = match line[open + 1..].strip_suffix(b"+") {
        Some(digits) => (digits, false),
        None => (&line[open + 1..], true),
    };
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size_bytes = digits.iter().fold(0u64, |n, d| n * 10 + u64::from(d - b'0'));
    Some(Literal { size_bytes, sync, binary: open > 0 && line[open - 1] == b'~' })
}

/// Splits off the next word; spaces before it are passed over.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_start();
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    text.split_at(end)
}

/// What stands behind `APPEND`, or behind the number of `REPLACE`.
fn append_arguments(command: &[u8]) -> Option<&[u8]> {
    let (_, rest) = word(command);
    let (mut name, mut rest) = word(rest);
    if name.eq_ignore_ascii_case(b"UID") {
        (name, rest) = word(rest);
    } else if name.eq_ignore_ascii_case(b"APPEND") {
        return Some(rest);
    }
    name.eq_ignore_ascii_case(b"REPLACE").then(|| word(rest).1)
}

fn is_append(command: &[u8]) -> bool {
    append_arguments(&command[..command.len().min(512)]).is_some()
}

/// The first argument of the APPEND line is the literal itself: it is the mailbox name, not a message.
fn at_mailbox(line: &[u8]) -> bool {
    append_arguments(line).is_some_and(|rest| {
        let rest = rest.trim_ascii_start();
        rest.starts_with(b"{") || rest.starts_with(b"~{")
    })
}

/// Any bytes, cut by the first bytes' values: the steps do not depend on how the bytes arrived.
pub fn fuzz(data: &[u8]) {
    let Some((cut, data)) = data.split_first() else { return };
    assert_eq!(drive(data, usize::from(*cut).max(1)), drive(data, data.len().max(1)), "chunks of {cut}");
}

/// Runs a byte stream through a framer in pieces; what came out of it.
fn drive(data: &[u8], piece: usize) -> Vec<(Step, Vec<u8>)> {
    let mut framer = Framer::new(FrameLimits { command_max_bytes: 300, literal_max_bytes: 100 });
    let (mut buffer, mut out) = (Vec::new(), Vec::new());
    let mut message_left = 0u64;
    for bytes in data.chunks(piece) {
        buffer.extend_from_slice(bytes);
        loop {
            let take = usize::try_from(message_left).unwrap_or(usize::MAX).min(buffer.len());
            buffer.drain(..take);
            message_left -= take as u64;
            if message_left > 0 {
                break;
            }
            let step = framer.advance(&buffer);
            let taken = match &step {
                Step::More => break,
                Step::Continue | Step::Refused { .. } => 0,
                Step::Skip { len_bytes } => {
                    buffer.drain(..*len_bytes);
                    continue;
                }
                Step::Message { head_bytes, literal } => {
                    if literal.size_bytes > 1000 {
                        framer.refuse_message(*literal);
                    } else {
                        message_left = literal.size_bytes;
                    }
                    *head_bytes
                }
                Step::Complete { len_bytes } => *len_bytes,
            };
            out.push((step, buffer.drain(..taken).collect()));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steps(text: &str) -> Vec<String> {
        drive(text.as_bytes(), 1)
            .into_iter()
            .map(|(step, bytes)| match step {
                Step::Continue => "+".to_owned(),
                Step::Refused { tag, kind } => format!("{tag:?} {kind:?}"),
                Step::Message { literal, .. } => {
                    format!("M{} {}", literal.size_bytes, String::from_utf8_lossy(&bytes).trim_end())
                }
                Step::Complete { .. } => String::from_utf8_lossy(&bytes).replace("\r\n", "|"),
                Step::More | Step::Skip { .. } => unreachable!("not recorded"),
            })
            .collect()
    }

    #[test]
    fn commands_literals_and_messages() {
        assert_eq!(
            steps("a noop\r\nb LOGIN {1}\r\nu {1+}\r\np\r\nc noop\n"),
            ["a noop|", "+", "b LOGIN {1}|u {1+}|p|", "c noop\n"]
        );
        // a literal may hold line ends and look like a command
        assert_eq!(steps("a LOGIN {5+}\r\n\r\n{1} x\r\n"), ["a LOGIN {5+}||{1} x|"]);
        assert_eq!(steps("a APPEND x {3}\r\nabc\r\nb noop\r\n"), ["M3 a APPEND x {3}", "|", "b noop|"]);
        // mailbox as literal, two messages (RFC 3502)
        assert_eq!(
            steps("a append {1+}\r\nx (\\Seen) {3+}\r\na\nb {2}\r\ncd\r\nb noop\r\n"),
            ["M3 a append {1+}\r\nx (\\Seen) {3+}", "M2  {2}", "|", "b noop|"]
        );
        assert_eq!(steps("a UID REPLACE 4 {1}\r\nx ~{3}\r\nabc\r\n"), ["+", "M3 a UID REPLACE 4 {1}\r\nx ~{3}", "|"]);
        assert_eq!(steps("a replace 4 x UTF8 (~{3}\r\nabc)\r\n"), ["M3 a replace 4 x UTF8 (~{3}", ")|"]);
    }

    #[test]
    fn what_is_too_long_is_refused_and_the_next_command_is_found() {
        assert_eq!(steps("a LOGIN {101}\r\nb noop\r\n"), ["Some(\"a\") TooBig", "b noop|"]);
        let big = "x".repeat(101);
        assert_eq!(
            steps(&format!("a LOGIN {{101+}}\r\n{big} {{2+}}\r\n\r\n y\r\nb noop\r\n")),
            ["Some(\"a\") TooBig", "b noop|"]
        );
        assert_eq!(steps(&format!("a {}\r\nb noop\r\n", big.repeat(9))), ["Some(\"a\") Limit", "b noop|"]);
        // a message that is refused: synchronising ones do not come, others are skipped
        assert_eq!(steps("a APPEND x {9999}\r\nb noop\r\n"), ["M9999 a APPEND x {9999}", "b noop|"]);
        let huge = "y".repeat(9999);
        assert_eq!(
            steps(&format!("a APPEND x {{9999+}}\r\n{huge} {{1+}}\r\nz\r\nb noop\r\n")),
            ["M9999 a APPEND x {9999+}", "b noop|"]
        );
        assert_eq!(steps("a LOGIN {99999999999999999999}\r\n"), ["a LOGIN {99999999999999999999}|"]);
        assert_eq!(steps("a LOGIN {9999999999999999999+}\r\n"), ["Some(\"a\") TooBig"]);
    }

    proptest! {
        #[test]
        fn any_bytes_any_cut(data in prop::collection::vec(prop_oneof![
            Just("a ".to_owned()), Just("APPEND ".to_owned()), Just("{3}".to_owned()), Just("{5+}".to_owned()), Just("{2000+}".to_owned()),
            Just("{120+}".to_owned()), Just("{120}".to_owned()), Just("\r\n".to_owned()), Just("\n".to_owned()), Just("UID REPLACE 1 ".to_owned()), "[ -~]{0,40}", "x{200,400}"
        ], 0..30), cut in 1u8..60) {
            let mut bytes = vec![cut];
            bytes.extend_from_slice(data.concat().as_bytes());
            fuzz(&bytes);
        }
        #[test]
        fn random_bytes(data: Vec<u8>) { fuzz(&data); }
    }
}
