//! The serial line: echo, command lines, `;`, `A/`, data after a prompt, answers (V.250 clause 5, 27.005 clause 3).

use super::{Engine, OUT_MOST, Power, URC_MOST};
use crate::options::{Fault, Stage, Until};
use std::collections::VecDeque;

const LINE_MOST: usize = 1024;
const DATA_MOST: usize = 2048;
const ESC: u8 = 0x1b;
const CTRL_Z: u8 = 0x1a;

/// What the modem makes of the next byte.
#[derive(Debug)]
pub(super) enum Mode {
    /// Waits for a command line.
    Command,
    /// Behind a prompt, until Ctrl-Z or ESC.
    Data(DataFor),
    /// A command takes its time; what is typed waits.
    Busy,
}

/// What data are for.
#[derive(Debug, Clone)]
pub(super) enum DataFor {
    /// `+CMGS=length`.
    Send { length: usize },
    /// `+CMGS="number"`.
    SendText { to: String },
    /// `+CMGW=length,stat`.
    Write { length: usize, status: u8 },
    /// `+CMGW="number"`.
    WriteText { to: String },
    /// `+CNMA=n,length`.
    Acknowledge { kind: u8, length: usize },
}

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    Ok,
    Error,
    Cme(u16),
    Cms(u16),
    NoCarrier,
    /// It ends later, or data come first.
    Later,
    /// No answer at all.
    Silent,
}

/// The operation of an extended command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    Execute,
    Read,
    Test,
    Set(Vec<String>),
}

impl Engine {
    /// Bytes from the terminal.
    pub fn input(&mut self, now: u64, bytes: &[u8]) {
        self.advance(now);
        if let Some((size, gap_ms)) = self.options.family.burst {
            // A gap lets the cable breathe; a terminal that was delayed itself gets what it would have earned in the time.
            let gaps = (now.saturating_sub(self.burst.1) / gap_ms.max(1)).min(8) as usize;
            self.burst.0 = self.burst.0.saturating_sub(gaps * size);
            self.burst.1 = now;
        }
        for byte in bytes {
            if let Some((size, _)) = self.options.family.burst {
                self.burst.0 += 1;
                if self.burst.0 > size * 2 {
                    self.counters.overrun += 1;
                    continue;
                }
            }
            let disturbed = self.options.garble > 0.0 || self.wrong_speed();
            let byte = if disturbed { self.disturbed(*byte) } else { *byte };
            self.byte(byte);
        }
    }

    fn byte(&mut self, byte: u8) {
        if self.power != Power::On {
            return;
        }
        if self.dead.is_some() {
            self.hear(byte);
            return;
        }
        match &self.mode {
            Mode::Busy => {
                if self.held.len() < DATA_MOST {
                    self.held.push(byte);
                }
            }
            Mode::Command => self.command_byte(byte),
            Mode::Data(_) => self.data_byte(byte),
        }
    }

    /// A hanging modem listens only for what brings it back.
    fn hear(&mut self, byte: u8) {
        let Some(dead) = &mut self.dead else { return };
        if !matches!(byte, b'\r' | b'\n' | ESC | CTRL_Z) {
            if dead.heard.len() < 64 {
                dead.heard.push(byte.to_ascii_uppercase());
            }
            return;
        }
        let heard = std::mem::take(&mut dead.heard);
        let back = byte == b'\r'
            && match dead.until {
                Until::At => heard.starts_with(b"AT"),
                Until::Cfun => heard == b"AT+CFUN=1,1",
                Until::Dtr | Until::Power | Until::Ms(_) => false,
            };
        if back {
            self.dead = None;
            for b in heard.into_iter().chain([byte]) {
                self.byte(b);
            }
        }
    }

    fn command_byte(&mut self, byte: u8) {
        if self.profile.echo {
            let due = self.options.echo_delay_ms;
            self.put_later(vec![byte], due);
        }
        if byte == self.profile.s3 {
            let line = std::mem::take(&mut self.typed);
            if line.len() >= LINE_MOST {
                self.finish(Reply::Error);
            } else if let Some(at) = line.windows(2).position(|w| w.eq_ignore_ascii_case(b"AT")) {
                let line = String::from_utf8_lossy(&line[at + 2..]).into_owned();
                self.last_line.clone_from(&line);
                self.execute(&line);
            }
            return;
        }
        match byte {
            ESC | CTRL_Z => self.typed.clear(),
            _ if byte == self.profile.s5 || byte == 0x7f => drop(self.typed.pop()),
            b'\n' | 0 => {}
            _ if self.typed.len() < LINE_MOST => self.typed.push(byte),
            _ => {}
        }
        // V.250 5.2.4: the last line again, without waiting for CR.
        if self.typed.eq_ignore_ascii_case(b"A/") {
            self.typed.clear();
            let line = self.last_line.clone();
            self.execute(&line);
        }
    }

    fn data_byte(&mut self, byte: u8) {
        if self.profile.echo && byte != CTRL_Z && byte != ESC {
            let due = self.options.echo_delay_ms;
            self.put_later(vec![byte], due);
        }
        match byte {
            CTRL_Z => {
                let data = std::mem::take(&mut self.typed);
                if let Mode::Data(what) = std::mem::replace(&mut self.mode, Mode::Busy) {
                    self.data_complete(what, &data);
                }
            }
            // 27.005 3.5.1: "sending can be cancelled by giving <ESC> character"; modems answer OK.
            ESC => {
                self.typed.clear();
                self.fault = None;
                self.counters.cancelled += 1;
                self.finish(Reply::Ok);
            }
            8 | 0x7f => drop(self.typed.pop()),
            _ if self.typed.len() < DATA_MOST => self.typed.push(byte),
            _ => {}
        }
    }

    fn execute(&mut self, line: &str) {
        self.counters.lines += 1;
        self.rest = split_commands(line);
        self.answered = false;
        self.run();
    }

    fn run(&mut self) {
        self.mode = Mode::Busy;
        while let Some(command) = self.rest.pop_front() {
            match self.command(&command) {
                Reply::Ok => {}
                Reply::Later => return,
                other => return self.finish(other),
            }
        }
        self.finish(Reply::Ok);
    }

    /// A command that took its time ends.
    pub(super) fn resume(&mut self, reply: Reply) {
        if reply == Reply::Ok { self.run() } else { self.finish(reply) }
    }

    /// The final result code, and what waited for it.
    pub(super) fn finish(&mut self, reply: Reply) {
        self.rest.clear();
        self.mode = Mode::Command;
        if reply != Reply::Silent {
            self.unsolicited_inside();
            self.result(reply);
        }
        self.flush_unsolicited();
        let held = std::mem::take(&mut self.held);
        for byte in held {
            self.byte(byte);
        }
    }

    fn result(&mut self, reply: Reply) {
        if self.profile.quiet {
            return;
        }
        let cmee = self.profile.cmee;
        let (words, code) = match reply {
            Reply::Ok => ("OK".to_owned(), "0"),
            Reply::NoCarrier => ("NO CARRIER".to_owned(), "3"),
            Reply::Cme(n) if cmee == 1 => (format!("+CME ERROR: {n}"), ""),
            Reply::Cme(n) if cmee == 2 => (format!("+CME ERROR: {}", super::text::cme_words(n)), ""),
            Reply::Cms(n) if cmee == 2 && self.options.family.cms_words => {
                (format!("+CMS ERROR: {}", super::text::cms_words(n)), "")
            }
            Reply::Cms(n) => (format!("+CMS ERROR: {n}"), ""),
            _ => ("ERROR".to_owned(), "4"),
        };
        let (cr, lf) = (char::from(self.profile.s3), char::from(self.profile.s4));
        // V.250 6.2.6: numeric codes end with CR only; +CME and +CMS stay as they are.
        let bytes =
            if self.profile.words || code.is_empty() { format!("{cr}{lf}{words}{cr}{lf}") } else { format!("{code}{cr}") };
        self.put(latin(&bytes));
    }

    /// An information line of the running command; `\n` in it parts lines of one answer.
    pub(super) fn info(&mut self, text: &str) {
        self.unsolicited_inside();
        let (cr, lf) = (char::from(self.profile.s3), char::from(self.profile.s4));
        let body = text.replace('\n', &format!("{cr}{lf}"));
        let bytes = if self.profile.words { format!("{cr}{lf}{body}{cr}{lf}") } else { format!("{body}{cr}{lf}") };
        self.put(latin(&bytes));
        self.answered = true;
    }

    /// A line that nobody asked for: now when the line is free, else behind the answer.
    pub(super) fn unsolicited_line(&mut self, text: String) {
        if self.urcs.len() < URC_MOST {
            self.urcs.push_back(text);
        }
        if matches!(self.mode, Mode::Command) {
            self.flush_unsolicited();
        }
    }

    pub(super) fn flush_unsolicited(&mut self) {
        if self.dead.is_some() || self.power != Power::On {
            return;
        }
        while let Some(text) = self.urcs.pop_front() {
            self.put_unsolicited(&text);
        }
    }

    fn put_unsolicited(&mut self, text: &str) {
        self.counters.unsolicited += 1;
        let body = text.replace('\n', "\r\n");
        self.put(latin(&format!("\r\n{body}\r\n")));
    }

    /// Between lines of an answer: what was ordered to come there, and what chance brings.
    pub(super) fn unsolicited_inside(&mut self) {
        if let Some(text) = self.inside.pop_front() {
            self.put_unsolicited(&text);
        }
        if !self.dice.hit(self.options.unsolicited) {
            return;
        }
        let text = self.urcs.pop_front().unwrap_or_else(|| {
            let chatter = self.options.family.chatter;
            let at = self.dice.between(0, 1 + chatter.len() as u64) as usize;
            match at {
                0 => "RING".to_owned(),
                1 => format!("+CREG: {}", self.registration()),
                n => chatter[n - 2].replace("{s}", &self.signal.to_string()),
            }
        });
        self.put_unsolicited(&text);
    }

    /// The prompt of `+CMGS` and its like.
    pub(super) fn prompt(&mut self, what: DataFor) {
        self.unsolicited_inside();
        self.mode = Mode::Data(what);
        self.counters.prompts += 1;
        let prompt = format!("\r\n{}", self.options.family.prompt);
        self.put(prompt.into_bytes());
        if let Some(fault) = self.fault.filter(|f| f.stage == Stage::AfterPrompt) {
            self.counters.faults += 1;
            self.fault = None;
            if !self.stop_by(fault.effect) {
                // An error has its place behind Ctrl-Z.
                self.fault = Some(Fault { stage: Stage::AfterSend { sent: false }, ..fault });
            }
        }
        if self.dead.is_none() && self.power == Power::On {
            let held = std::mem::take(&mut self.held);
            for byte in held {
                self.byte(byte);
            }
        }
    }

    pub(super) fn put(&mut self, bytes: Vec<u8>) {
        self.put_later(bytes, 0);
    }

    fn put_later(&mut self, mut bytes: Vec<u8>, ms: u64) {
        // As it is said, not as it is taken: the answer to +IPR still goes out at the old speed.
        if self.options.garble > 0.0 || self.wrong_speed() {
            for byte in &mut bytes {
                *byte = self.disturbed(*byte);
            }
        }
        if self.out_bytes + bytes.len() > OUT_MOST {
            return;
        }
        self.out_due = self.out_due.max(self.now + ms);
        self.out_bytes += bytes.len();
        match self.out.back_mut() {
            Some((due, last)) if *due == self.out_due => last.extend(bytes),
            _ => self.out.push_back((self.out_due, bytes)),
        }
    }
}

/// Texts in a character set of one octet go out as such; all else in answers is ASCII.
fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

/// Parts a command line behind `AT` into commands (V.250 5.2.1, 5.4.1): letters with their number run on, extended ones end with `;`.
pub(super) fn split_commands(line: &str) -> VecDeque<String> {
    let mut commands = VecDeque::new();
    let chars: Vec<char> = line.chars().filter(|c| !c.is_control()).collect();
    let mut at = 0;
    while at < chars.len() {
        let begin = at;
        match chars[at] {
            ' ' | ';' => {
                at += 1;
                continue;
            }
            'A'..='Z' | 'a'..='z' | '&' => {
                at += if chars[at] == '&' { 2 } else { 1 };
                if chars[begin].eq_ignore_ascii_case(&'d') {
                    at = chars.len();
                }
                let parameter =
                    |c: char| c.is_ascii_digit() || (chars[begin].eq_ignore_ascii_case(&'s') && matches!(c, '=' | '?'));
                while at < chars.len() && parameter(chars[at]) {
                    at += 1;
                }
            }
            _ => {
                let mut quoted = false;
                while at < chars.len() && (quoted || chars[at] != ';') {
                    quoted ^= chars[at] == '"';
                    at += 1;
                }
            }
        }
        let end = at.min(chars.len());
        commands.push_back(chars[begin..end].iter().collect::<String>().trim().to_owned());
    }
    commands
}

/// Name in capitals and operation of an extended command.
pub(super) fn parse(command: &str) -> (String, Op) {
    let end = command.find(['=', '?']).unwrap_or(command.len());
    let (name, rest) = command.split_at(end);
    let op = match rest {
        "" => Op::Execute,
        "?" => Op::Read,
        "=?" => Op::Test,
        _ => Op::Set(arguments(rest.strip_prefix('=').unwrap_or(rest))),
    };
    (name.trim().to_ascii_uppercase(), op)
}

/// Values between commas, quotes taken off.
fn arguments(text: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(String::new()),
            ' ' if !quoted => {}
            c => out.last_mut().expect("it begins with one").push(c),
        }
    }
    out
}
