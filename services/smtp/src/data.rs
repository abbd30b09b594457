//! The text of a message as it comes: where it ends, dots, line ends, size.
//!
//! Contract: after DATA only CR LF `.` CR LF ends the message, or `.` CR LF at its very start (RFC 5321 4.1.1.4); a CR or
//! an LF alone never does, and a line begins after CRLF only, so a dot after anything else is text (2.3.8, smuggling).
//! The result does not depend on how the bytes are cut into chunks. What is kept holds CRLF only. After a [`Fault`]
//! nothing is kept, but the end is still found, so the session stays in step with its client.

use crate::{BareLineEnds, Refusal};
use memchr::memchr2;

/// Why the message will be refused. Of several, the last in this order counts, whichever came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A line over the limit.
    LineTooLong,
    /// A CR or LF alone, and the setting says refuse.
    BareLineEnd,
    /// Over the size limit.
    TooLarge,
    /// No memory for it now.
    NoRoom,
}

impl Fault {
    /// The reply to give at the end of the data.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        match self {
            Self::TooLarge => Refusal::too_large(),
            Self::BareLineEnd => Refusal::new(554, (6, 0), "CR or LF alone in the message: lines end with CRLF (RFC 5321 2.3.8)"),
            Self::LineTooLong => Refusal::new(554, (6, 0), "a line of the message is too long"),
            Self::NoRoom => Refusal::disk_full(),
        }
    }
}

/// How the message comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// DATA: dot-stuffed lines.
    Dots,
    /// BDAT with text: counted, lines are checked, dots are text.
    Counted,
    /// BDAT with BODY=BINARYMIME: counted, any bytes (RFC 3030 3).
    Binary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the start of a line.
    Line,
    /// Inside a line.
    Text,
    /// After a CR.
    Cr,
    /// After the dot that began a line.
    Dot,
    /// After that dot and a CR.
    DotCr,
}

/// Takes the text apart.
#[derive(Debug)]
pub struct Reader {
    framing: Framing,
    bare: BareLineEnds,
    state: State,
    line_bytes: usize,
    line_max_bytes: usize,
    size_max_bytes: u64,
    /// Bytes that came, kept or not, without the dots taken off.
    seen_bytes: u64,
    fault: Option<Fault>,
}

impl Reader {
    /// A reader for a message of at most `size_max_bytes` as it came (RFC 1870 5: CRLF counts, stuffed dots do not).
    #[must_use]
    pub fn new(framing: Framing, bare: BareLineEnds, size_max_bytes: u64, line_max_bytes: Option<usize>) -> Self {
        Self {
            framing,
            bare,
            state: State::Line,
            line_bytes: 0,
            line_max_bytes: line_max_bytes.unwrap_or(usize::MAX),
            size_max_bytes,
            seen_bytes: 0,
            fault: None,
        }
    }

    /// Why the message will be refused.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Bytes of the message that came so far, kept or not.
    #[must_use]
    pub fn seen_bytes(&self) -> u64 {
        self.seen_bytes
    }

    /// From now on nothing is kept.
    pub fn fail(&mut self, fault: Fault, body: &mut Vec<u8>) {
        *body = Vec::new();
        self.fault = self.fault.max(Some(fault));
    }

    /// Takes a chunk, appends the text to `body`. Returns how many bytes were taken and whether the message has ended;
    /// it ends only with [`Framing::Dots`], and then what was not taken is the next command.
    pub fn push(&mut self, input: &[u8], body: &mut Vec<u8>) -> (usize, bool) {
        if self.framing == Framing::Binary {
            self.keep(input, body);
            return (input.len(), false);
        }
        let dots = self.framing == Framing::Dots;
        let mut at = 0;
        while at < input.len() {
            match (self.state, input[at]) {
                (State::Line, b'.') if dots => {
                    self.state = State::Dot;
                    at += 1;
                }
                // RFC 5321 4.5.2: a dot that begins a line and is not alone is taken off.
                (State::Dot, b'\r') => {
                    self.state = State::DotCr;
                    at += 1;
                }
                (State::DotCr, b'\n') => return (at + 1, true),
                (State::Cr, b'\n') => {
                    self.keep(b"\r\n", body);
                    self.end_line(2, body);
                    at += 1;
                }
                (State::Cr | State::DotCr, _) => self.bare_end(body),
                (State::Line | State::Text | State::Dot, _) => at = self.text(input, at, dots, body),
            }
        }
        (at, false)
    }

    /// The last octet of a counted message has come: closes its last line.
    pub fn finish(&mut self, body: &mut Vec<u8>) {
        if self.framing != Framing::Counted {
            return;
        }
        if self.state == State::Cr {
            self.bare_end(body);
        } else if self.state != State::Line && self.fault.is_none() {
            // What we store and relay by DATA consists of lines; this one lacks its end only.
            body.extend_from_slice(b"\r\n");
        }
    }

    /// Copies whole lines in one piece, up to a line that begins with a dot or a line end that is none.
    fn text(&mut self, input: &[u8], from: usize, dots: bool, body: &mut Vec<u8>) -> usize {
        self.state = State::Text;
        let (mut scan, mut line) = (from, from);
        loop {
            let Some(found) = memchr2(b'\r', b'\n', &input[scan..]) else {
                self.line_bytes += input.len() - line;
                self.keep(&input[from..], body);
                return input.len();
            };
            let end = scan + found;
            let crlf = input[end] == b'\r' && input.get(end + 1) == Some(&b'\n');
            if crlf {
                self.end_line(end + 2 - line, body);
                match input.get(end + 2) {
                    Some(b'.') if dots => {}
                    Some(_) => {
                        (scan, line) = (end + 2, end + 2);
                        self.state = State::Text;
                        continue;
                    }
                    None => {}
                }
                self.keep(&input[from..end + 2], body);
                return end + 2;
            }
            self.line_bytes += end - line;
            self.keep(&input[from..end], body);
            if input[end] == b'\r' && end + 1 == input.len() {
                self.state = State::Cr;
            } else {
                self.bare_end(body);
            }
            return end + 1;
        }
    }

    fn end_line(&mut self, bytes: usize, body: &mut Vec<u8>) {
        if self.line_bytes + bytes > self.line_max_bytes {
            self.fail(Fault::LineTooLong, body);
        }
        self.line_bytes = 0;
        self.state = State::Line;
    }

    /// A CR or LF that is no line end. What follows is not the start of a line to the protocol, whatever is stored.
    fn bare_end(&mut self, body: &mut Vec<u8>) {
        match self.bare {
            BareLineEnds::Refuse => self.fail(Fault::BareLineEnd, body),
            BareLineEnds::Repair => {
                self.keep(b"\r\n", body);
                self.end_line(2, body);
            }
        }
        self.state = State::Text;
    }

    fn keep(&mut self, bytes: &[u8], body: &mut Vec<u8>) {
        self.seen_bytes += bytes.len() as u64;
        if self.seen_bytes > self.size_max_bytes {
            self.fail(Fault::TooLarge, body);
        } else if self.fault.is_none() {
            body.extend_from_slice(bytes);
        }
    }
}

/// Any bytes in any chunks: must not panic, and chunks must not matter.
pub fn fuzz(data: &[u8]) {
    let (cut, data) = data.split_first().map_or((1, data), |(n, rest)| (usize::from(*n).max(1), rest));
    for framing in [Framing::Dots, Framing::Counted, Framing::Binary] {
        for bare in [BareLineEnds::Refuse, BareLineEnds::Repair] {
            let whole = run(framing, bare, data, data.len().max(1));
            assert_eq!(whole, run(framing, bare, data, cut), "chunks of {cut} changed the message");
        }
    }
}

/// Body, bytes taken, ended, fault.
fn run(framing: Framing, bare: BareLineEnds, data: &[u8], cut: usize) -> (Vec<u8>, usize, bool, Option<Fault>) {
    let (mut reader, mut body) = (Reader::new(framing, bare, 4096, Some(1000)), Vec::new());
    let (mut taken, mut ended) = (0, false);
    for chunk in data.chunks(cut) {
        let (n, end) = reader.push(chunk, &mut body);
        taken += n;
        if end {
            ended = true;
            break;
        }
        assert_eq!(n, chunk.len(), "a chunk is taken whole unless the message ends in it");
    }
    reader.finish(&mut body);
    (body, taken, ended, reader.fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dots(data: &[u8], bare: BareLineEnds) -> (Vec<u8>, usize, bool, Option<Fault>) {
        run(Framing::Dots, bare, data, data.len().max(1))
    }

    #[test]
    fn dots_and_ends() {
        for (data, body, rest) in [
            (&b".\r\n"[..], &b""[..], &b""[..]),
            (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", b"QUIT\r\n"),
            (b"..\r\n.\r\n", b".\r\n", b""),
            (b"...a\r\n..b\r\n.c\r\n.\r\n", b"..a\r\n.b\r\nc\r\n", b""),
            (b"\r\n\r\n.\r\n.\r\n", b"\r\n\r\n", b".\r\n"),
        ] {
            let (got, taken, ended, fault) = dots(data, BareLineEnds::Refuse);
            assert_eq!((got.as_slice(), &data[taken..], ended, fault), (body, rest, true, None), "{:?}", data.escape_ascii());
        }
    }

    /// The rules, said in the plainest way: a model to hold the fast reader against.
    fn model(data: &[u8]) -> (Option<usize>, Vec<u8>, bool) {
        let end =
            if data.starts_with(b".\r\n") { Some(3) } else { data.windows(5).position(|w| w == b"\r\n.\r\n").map(|p| p + 5) };
        let text = &data[..end.map_or(data.len(), |e| e - 3)];
        let (mut body, mut bare, mut at, mut line) = (Vec::new(), false, 0, true);
        while at < text.len() {
            if line && text[at] == b'.' {
                at += 1;
                line = false;
                continue;
            }
            line = false;
            if text[at..].starts_with(b"\r\n") {
                body.extend_from_slice(b"\r\n");
                at += 2;
                line = true;
            } else if matches!(text[at], b'\r' | b'\n') {
                body.extend_from_slice(b"\r\n");
                bare = true;
                at += 1;
            } else {
                body.push(text[at]);
                at += 1;
            }
        }
        (end, body, bare)
    }

    /// Every string of up to 8 of CR, LF, dot and a letter (87,380 of them), in every fixed chunk size: only CRLF.CRLF
    /// ends the data, and what is kept has neither a bare CR nor a bare LF.
    #[test]
    fn no_short_combination_smuggles() {
        for length in 1..=8u32 {
            for code in 0..4u32.pow(length) {
                let data: Vec<u8> = (0..length).map(|i| b"\r\n.x"[(code >> (2 * i) & 3) as usize]).collect();
                let (end, body, bare) = model(&data);
                let shown = || data.escape_ascii().to_string();
                for cut in [1, 2, 3, 8] {
                    let (got, taken, ended, fault) = run(Framing::Dots, BareLineEnds::Repair, &data, cut);
                    assert_eq!((ended, taken), (end.is_some(), end.unwrap_or(data.len())), "{}", shown());
                    assert_eq!(fault, None);
                    if ended {
                        assert_eq!(got, body, "{}", shown());
                        assert!(!got.ends_with(b"\r") && got.windows(2).all(|w| (w[0] == b'\r') == (w[1] == b'\n')));
                        assert_eq!(dots(&data, BareLineEnds::Refuse).3, bare.then_some(Fault::BareLineEnd), "{}", shown());
                    }
                }
            }
        }
    }

    /// The sequences known from SMTP smuggling (2023) must stay inside the message.
    #[test]
    fn known_smuggling_sequences() {
        for false_end in
            ["\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\r\n\0.\r\n", "\r\n.\0\r\n", "\n.\r", "\r.\n"]
        {
            let data = format!("first{false_end}MAIL FROM:<evil@x.example>\r\nsecond\r\n.\r\n");
            let (body, taken, ended, _) = dots(data.as_bytes(), BareLineEnds::Repair);
            assert!(ended && taken == data.len(), "{}", false_end.escape_debug());
            assert!(body.ends_with(b"second\r\n"), "{}", false_end.escape_debug());
        }
    }

    #[test]
    fn limits_keep_the_session_in_step() {
        let mut data = vec![b'a'; 5000];
        data.extend_from_slice(b"\r\n.\r\nRSET");
        let (body, taken, ended, fault) = dots(&data, BareLineEnds::Repair);
        assert_eq!((body.len(), ended, fault), (0, true, Some(Fault::TooLarge)));
        assert_eq!(&data[taken..], b"RSET");
        let mut data = vec![b'a'; 999];
        data.extend_from_slice(b"\r\n.\r\n");
        assert_eq!(dots(&data, BareLineEnds::Repair).3, Some(Fault::LineTooLong));
        assert_eq!(dots(&data[1..], BareLineEnds::Repair).3, None);
    }

    #[test]
    fn counted_text_and_binary() {
        let counted = |data: &[u8], bare| run(Framing::Counted, bare, data, 2);
        assert_eq!(counted(b"a\r\n.\r\n.b", BareLineEnds::Refuse).0, b"a\r\n.\r\n.b\r\n");
        assert_eq!(counted(b"a\nb\r", BareLineEnds::Repair).0, b"a\r\nb\r\n");
        assert_eq!(counted(b"a\r", BareLineEnds::Refuse).3, Some(Fault::BareLineEnd));
        assert_eq!(run(Framing::Binary, BareLineEnds::Refuse, b"\0\r.\n", 1).0, b"\0\r.\n");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_any_chunks(data in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            fuzz(&data);
        }
        #[test]
        fn likely_bytes_any_chunks(text in "[\r\n.]{0,3}([a-z]{0,9}[\r\n.]{0,4}){0,30}", cut in 1usize..9) {
            let mut data = vec![u8::try_from(cut).unwrap()];
            data.extend_from_slice(text.as_bytes());
            fuzz(&data);
        }
    }
}
