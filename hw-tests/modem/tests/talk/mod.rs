//! A terminal and an engine in one hand: what is said, what is heard, and the time, without a line and without a clock.
#![allow(dead_code, reason = "each test file takes what it needs")]

use twinpost_hw_modem::{Engine, Options, Order, Received, hex, pack};

/// The conversation.
pub struct Talk {
    /// The modem.
    pub engine: Engine,
    /// Milliseconds.
    pub now: u64,
    /// What phones received.
    pub received: Vec<Received>,
}

impl Talk {
    /// A modem with these options, echo off.
    pub fn new(options: Options) -> Self {
        let mut talk = Self::cold(Options { epoch_ms: Some(1_767_225_600_000), ..options });
        talk.say("ATE0\r");
        talk
    }

    /// The same, as it comes from the factory.
    pub fn cold(options: Options) -> Self {
        Self { engine: Engine::new(options), now: 0, received: Vec::new() }
    }

    /// Says something and gives what is answered at once.
    pub fn say(&mut self, text: &str) -> String {
        self.engine.input(self.now, text.as_bytes());
        self.hear()
    }

    /// What is on the wire now.
    pub fn hear(&mut self) -> String {
        let bytes = self.engine.output(self.now);
        self.received.extend(self.engine.take_received());
        bytes.iter().map(|b| char::from(*b)).collect()
    }

    /// Lets time pass, event by event, and gives what was said meanwhile.
    pub fn pass(&mut self, ms: u64) -> String {
        let end = self.now + ms;
        let mut heard = String::new();
        while let Some(at) = self.engine.wake_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            heard += &self.hear();
        }
        self.now = end;
        self.engine.advance(end);
        heard + &self.hear()
    }

    /// Carries out a line of the control language.
    pub fn order(&mut self, line: &str) {
        let order = Order::parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        self.engine.order(self.now, order).unwrap_or_else(|e| panic!("{line}: {e}"));
    }

    /// Sends a TPDU by `+CMGS` and gives the last answer.
    pub fn send(&mut self, tpdu: &[u8]) -> String {
        let prompt = self.say(&format!("AT+CMGS={}\r", tpdu.len()));
        if !prompt.contains('>') {
            return prompt;
        }
        self.say(&format!("00{}\u{1a}", hex(tpdu)))
    }
}

/// A SUBMIT of ASCII text to +8613800138000. `first` holds the flags beside TP-MTI, `header` a user data header.
pub fn submit(first: u8, reference: u8, header: &[u8], text: &str) -> Vec<u8> {
    let mut tpdu = vec![first | 1, reference, 13, 0x91, 0x68, 0x31, 0x08, 0x10, 0x83, 0x00, 0xf0, 0, 0];
    let header_septets = (header.len() * 8).div_ceil(7);
    tpdu.push((header_septets + text.len()) as u8);
    tpdu.extend(header);
    tpdu.extend(pack(text.as_bytes(), header_septets * 7 - header.len() * 8));
    tpdu
}
