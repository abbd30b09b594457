//! One command: its text, the data after its prompt, what belongs to its answer, its times.
//!
//! Contract: plain data. Times are those of the makers' manuals where the standard has none; the families' files name
//! them. No failure classes.

/// Which lines before the final result belong to a command's answer; all others are unsolicited or noise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// None: only the final result.
    Nothing,
    /// Lines that begin so, such as `+CSQ:`.
    Prefix(String),
    /// `+CREG:`-like read answers: `<n>,<stat>...`. An unsolicited line of the same name has `<stat>` alone or
    /// `<stat>,"<lac>"...` (TS 27.007 7.2), so the second field decides.
    Registration(String),
    /// Any text that is no known unsolicited line (`+CGMI`, `+CGSN`).
    Text,
    /// Header lines that begin so, each followed by a line with a PDU (`+CMGL:`, `+CMGR:`).
    Pdus(String),
    /// Only a line that begins so makes the final result after it valid: for getting in step again. Final results
    /// before it belong to something older and are told as stray lines.
    Sync(String),
}

/// A command to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The line without its CR, such as `AT+CSQ`.
    pub text: String,
    /// Data after the prompt, without Ctrl-Z: makes it a command with a prompt.
    pub data: Option<Vec<u8>>,
    /// What its answer looks like.
    pub expect: Expect,
    /// Longest silence before its final result (or prompt), ms. Each line of the answer starts it anew.
    pub timeout_ms: u64,
    /// Longest silence after Ctrl-Z, ms.
    pub data_timeout_ms: u64,
}

impl Command {
    /// A command with only a final result. Two seconds of time, unless changed: the makers give 300 ms for most.
    pub fn new(text: impl Into<String>) -> Command {
        Command { text: text.into(), data: None, expect: Expect::Nothing, timeout_ms: 2_000, data_timeout_ms: 0 }
    }

    /// Expects lines with this prefix.
    pub fn prefix(mut self, prefix: &str) -> Command {
        self.expect = Expect::Prefix(prefix.to_owned());
        self
    }

    /// Expects lines of this kind.
    pub fn expect(mut self, expect: Expect) -> Command {
        self.expect = expect;
        self
    }

    /// Another time-out.
    pub fn within_ms(mut self, timeout_ms: u64) -> Command {
        self.timeout_ms = timeout_ms;
        self
    }

    /// `AT+CMGS` in PDU mode (TS 27.005 4.3): the length counts the TPDU alone, the data is the SMSC address field
    /// (`00`: the SIM's own) and the TPDU in hexadecimal.
    pub fn send(tpdu: &[u8], smsc: &[u8], prompt_ms: u64, answer_ms: u64) -> Command {
        let mut data = Vec::with_capacity(2 * (1 + smsc.len() + tpdu.len()));
        // TS 24.011 8.2.5.2: length octet, then type of address and semi-octets
        super::reply::hex_encode(&[u8::try_from(smsc.len()).unwrap_or(0)], &mut data);
        super::reply::hex_encode(smsc, &mut data);
        super::reply::hex_encode(tpdu, &mut data);
        Command {
            text: format!("AT+CMGS={}", tpdu.len()),
            data: Some(data),
            expect: Expect::Prefix("+CMGS:".to_owned()),
            timeout_ms: prompt_ms,
            data_timeout_ms: answer_ms,
        }
    }
}
