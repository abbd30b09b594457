//! Messages to send: text that looks like text, each one different.

/// Makes messages of one size that differ in number, words and Message-ID.
pub struct Maker {
    body: Vec<u8>,
    size_bytes: usize,
    run: u64,
}

const WORDS: [&str; 32] = [
    "school", "report", "meeting", "pupils", "budget", "garden", "window", "letter", "monday", "lesson", "music", "teacher",
    "answer", "question", "paper", "summer", "travel", "kitchen", "library", "science", "history", "number", "picture",
    "language", "weather", "holiday", "project", "morning", "office", "parents", "training", "exercise",
];

impl Maker {
    /// For messages of about this size; `run` keeps the Message-IDs of different runs apart.
    pub fn new(size_bytes: usize, run: u64) -> Self {
        let mut body = Vec::with_capacity(size_bytes * 2);
        let mut state = run | 1;
        let mut column = 0;
        while body.len() < size_bytes * 2 {
            // xorshift64: words in no order that a compressor knows beforehand
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let word = WORDS[usize::try_from(state >> 59).unwrap_or(0)];
            body.extend_from_slice(word.as_bytes());
            column += word.len() + 1;
            if column > 66 {
                body.extend_from_slice(format!(" {:x}\r\n", state & 0xffff).as_bytes());
                column = 0;
            } else {
                body.push(b' ');
            }
        }
        Self { body, size_bytes, run }
    }

    /// Message number `n` with CRLF at its end, without dot-stuffing (no line begins with a dot).
    pub fn make(&self, n: u64, out: &mut Vec<u8>) {
        use std::io::Write;
        let start = out.len();
        // Writing to a Vec cannot fail.
        let _ = write!(
            out,
            "From: Load <load@bench.example>\r\nTo: people@bench.example\r\nSubject: Load message {n} about {}\r\nDate: Sat, 21 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{n}.{:x}@load.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
            WORDS[(n % 32) as usize],
            self.run
        );
        let rest = self.size_bytes.saturating_sub(out.len() - start + 2);
        // Not between CR and LF: a bare LF would be refused, and rightly.
        let from = (n as usize * 37) % self.size_bytes.max(1);
        let from = from + usize::from(self.body.get(from) == Some(&b'\n'));
        // A word per message: bodies differ beyond their headers.
        let _ = write!(out, "{n:08x} ");
        out.extend_from_slice(&self.body[from..from + rest.saturating_sub(9)]);
        if !out.ends_with(b"\r\n") {
            if out.ends_with(b"\r") {
                out.pop();
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that is strict about line ends must take all of them.
    #[test]
    fn every_line_ends_with_crlf() {
        for size in [600, 10_240] {
            let maker = Maker::new(size, 1);
            for n in 0..3000 {
                let mut out = Vec::new();
                maker.make(n, &mut out);
                assert!(out.ends_with(b"\r\n") && out.len() <= size + 2, "message {n} of {size}");
                for (at, byte) in out.iter().enumerate() {
                    match byte {
                        b'\n' => assert_eq!(out[at - 1], b'\r', "message {n} of {size}"),
                        b'\r' => assert_eq!(out[at + 1], b'\n', "message {n} of {size}"),
                        b'.' => assert_ne!(out[at - 1], b'\n', "message {n} of {size}"),
                        _ => {}
                    }
                }
            }
        }
    }
}
