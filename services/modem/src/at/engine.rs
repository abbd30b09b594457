//! The command machine: one command at a time, and everything that the modem says besides.
//!
//! Contract: [`Engine::start`] while [`Engine::idle`], then [`Engine::input`] and [`Engine::tick`] as bytes and time
//! come, and [`Engine::poll`] until it gives nothing; [`Engine::wake_ms`] says when a tick is due. Every started command
//! ends with exactly one [`Action::Done`]. Ctrl-Z is written once, right after the data, never otherwise. Unsolicited
//! lines and PDUs are told as [`Notice`]s wherever they arrive.
//!
//! Failure classes: [`Failure`]. Nothing of the data was written for [`Stage::Prompt`] and [`Stage::Answer`].

use std::collections::VecDeque;

use super::command::{Command, Expect};
use super::line::{Piece, Splitter};
use super::reply::{Final, fields, hex_decode};

/// Most lines kept of one answer: 500 stored messages with header and PDU.
const MAX_ANSWER_LINES: usize = 1000;
/// After a `+CMGS:` reference the network has accepted the message; a missing `OK` is waited for no longer than this.
const REFERENCE_GRACE_MS: u64 = 3_000;
/// How long the space of a prompt is waited for where the family has one.
const PROMPT_SPACE_MS: u64 = 20;

/// What a family changes in the dialogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    /// Beginnings of unsolicited lines besides the standard's.
    pub unsolicited: Vec<String>,
    /// Beginnings of lines that a starting modem says.
    pub boot: Vec<String>,
    /// Beginnings of lines that say that the memory for messages is full.
    pub full: Vec<String>,
    /// The prompt ends with a space: data is written after it.
    pub prompt_space: bool,
    /// Pause between prompt and data, ms.
    pub prompt_pause_ms: u64,
    /// Most bytes written at once; 0: any number.
    pub chunk_bytes: usize,
    /// Pause between two writes, ms.
    pub chunk_gap_ms: u64,
}

impl Default for Dialect {
    fn default() -> Dialect {
        Dialect {
            unsolicited: Vec::new(),
            boot: vec!["RDY".into(), "^SYSSTART".into()],
            full: Vec::new(),
            prompt_space: false,
            prompt_pause_ms: 0,
            chunk_bytes: 0,
            chunk_gap_ms: 0,
        }
    }
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its lines; with [`Expect::Pdus`] always a header followed by its PDU line.
    pub lines: Vec<String>,
    /// Its final result.
    pub last: Final,
    /// Lines arrived meanwhile that nobody understood: a line of this answer may be among them.
    pub garbled: bool,
}

/// Where a command was when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for the final result of a command without data.
    Answer,
    /// Waiting for the prompt: nothing of the data was written.
    Prompt,
    /// Data and Ctrl-Z were written, or begun to be: outcome unknown.
    Data,
}

/// A command without a final result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Silence for longer than its time.
    Silent(Stage),
    /// The modem restarted in the middle (the line that told it).
    Restarted(Stage, String),
}

impl Failure {
    /// Where it failed.
    pub fn stage(&self) -> Stage {
        match self {
            Failure::Silent(stage) | Failure::Restarted(stage, _) => *stage,
        }
    }
}

/// Something that no command asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// `+CMTI`, `+CDSI`: a message (or status report) was stored.
    Stored {
        /// Memory, such as `SM`.
        memory: String,
        /// Index in it.
        index: u16,
    },
    /// `+CMT` with its PDU: a message routed directly.
    Message(Vec<u8>),
    /// `+CDS` with its PDU: a status report routed directly.
    Report(Vec<u8>),
    /// `RING`, `+CRING`.
    Ring,
    /// `+CLIP`: who calls.
    Caller(String),
    /// `+CREG`, `+CGREG`, `+CEREG`: `<stat>`.
    Registration(String, u8),
    /// `+CPIN` unsolicited: the SIM's state changed.
    Sim(String),
    /// The modem started.
    Booted(String),
    /// The memory for messages is full.
    Full(String),
    /// The modem echoes though it was told not to: it restarted unnoticed.
    Echo,
    /// A prompt that nobody awaits.
    Prompt,
    /// A known unsolicited line without interest.
    Other(String),
    /// A line that looks like an answer, but nobody asks: late, or noise.
    Stray(String),
    /// Noise: a PDU of wrong length, an endless line.
    Garbled(String),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write these bytes to the modem now.
    Write(Vec<u8>),
    /// The running command has ended.
    Done(Result<Answer, Failure>),
    /// Something else was said.
    Notice(Notice),
}

#[derive(Debug)]
struct Running {
    command: Command,
    stage: Stage,
    deadline_ms: u64,
    lines: Vec<String>,
    garbled: bool,
    /// A `+CMGS:` line was read.
    reference: bool,
    /// The prompt was read; data goes out at this time.
    data_at_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Header {
    Message(Option<usize>),
    Report(Option<usize>),
    Broadcast(Option<usize>),
    Answer(String, Option<usize>),
}

/// The machine.
#[derive(Debug, Default)]
pub struct Engine {
    dialect: Dialect,
    splitter: Splitter,
    running: Option<Running>,
    /// Headers whose PDU line has not come; the youngest first gets the next one.
    headers: Vec<Header>,
    actions: VecDeque<Action>,
    out: VecDeque<Vec<u8>>,
    out_at_ms: u64,
    echo_off: bool,
    last_command: String,
}

impl Engine {
    /// A machine that knows only the standard's lines.
    pub fn new(dialect: Dialect) -> Engine {
        Engine { dialect, ..Engine::default() }
    }

    /// The family is known now.
    pub fn set_dialect(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    /// Echo was switched off: an echo from now on is told as [`Notice::Echo`].
    pub fn set_echo_off(&mut self, off: bool) {
        self.echo_off = off;
    }

    /// Whether a command can be started.
    pub fn idle(&self) -> bool {
        self.running.is_none()
    }

    /// Where the running command is.
    pub fn stage(&self) -> Option<Stage> {
        self.running.as_ref().map(|r| r.stage)
    }

    /// Whether a line has begun to arrive.
    pub fn in_line(&self) -> bool {
        self.splitter.in_line()
    }

    /// Forgets everything received and everything not yet written; the command under way gets no answer.
    pub fn clear(&mut self) {
        let dialect = std::mem::take(&mut self.dialect);
        *self = Engine::new(dialect);
    }

    /// Writes a command. The caller sees to it that the machine is idle; a command under way is given up silently.
    pub fn start(&mut self, command: Command, now_ms: u64) {
        debug_assert!(self.idle(), "one command at a time");
        let mut line = command.text.clone().into_bytes();
        line.push(b'\r'); // V.250 5.2.1: S3 ends a command line; makers warn of a LF after it before a prompt
        self.last_command.clone_from(&command.text);
        let stage = if command.data.is_some() { Stage::Prompt } else { Stage::Answer };
        let deadline_ms = now_ms.saturating_add(command.timeout_ms);
        self.headers.retain(|h| !matches!(h, Header::Answer(..)));
        self.running =
            Some(Running { command, stage, deadline_ms, lines: Vec::new(), garbled: false, reference: false, data_at_ms: None });
        self.write(&line, now_ms);
    }

    /// Writes ESC: leaves a prompt, ends nothing (TS 27.005 4.3: ESC cancels the sending).
    pub fn escape(&mut self, now_ms: u64) {
        self.write(b"\x1B", now_ms);
    }

    fn write(&mut self, bytes: &[u8], now_ms: u64) {
        if self.out.is_empty() {
            self.out_at_ms = self.out_at_ms.max(now_ms);
        }
        if self.dialect.chunk_bytes == 0 {
            self.out.push_back(bytes.to_vec());
        } else {
            self.out.extend(bytes.chunks(self.dialect.chunk_bytes).map(<[u8]>::to_vec));
        }
    }

    /// When [`Engine::tick`] is due.
    pub fn wake_ms(&self) -> Option<u64> {
        let out = (!self.out.is_empty()).then_some(self.out_at_ms);
        let run = self.running.as_ref().map(|r| r.data_at_ms.unwrap_or(r.deadline_ms));
        match (out, run) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self, now_ms: u64) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if now_ms >= self.out_at_ms
            && let Some(bytes) = self.out.pop_front()
        {
            if self.dialect.chunk_bytes != 0 {
                self.out_at_ms = now_ms.saturating_add(self.dialect.chunk_gap_ms);
            }
            return Some(Action::Write(bytes));
        }
        None
    }

    /// Time went on.
    pub fn tick(&mut self, now_ms: u64) {
        let Some(running) = &mut self.running else { return };
        if let Some(at) = running.data_at_ms {
            if now_ms >= at {
                self.write_data(now_ms);
            }
            return;
        }
        // A slow writer is not a silent modem: the time runs from the last byte written.
        if !self.out.is_empty() {
            running.deadline_ms = running.deadline_ms.max(now_ms.saturating_add(running.command.timeout_ms));
            return;
        }
        if now_ms < running.deadline_ms {
            return;
        }
        if running.reference {
            self.finish(Final::Ok);
            return;
        }
        let stage = running.stage;
        self.fail(Failure::Silent(stage));
        if stage != Stage::Answer {
            self.escape(now_ms); // leave the prompt, should the modem be in it
        }
    }

    fn write_data(&mut self, now_ms: u64) {
        let Some(running) = &mut self.running else { return };
        running.data_at_ms = None;
        running.stage = Stage::Data;
        running.deadline_ms = now_ms.saturating_add(running.command.data_timeout_ms);
        running.command.timeout_ms = running.command.data_timeout_ms;
        let mut data = running.command.data.clone().unwrap_or_default();
        data.push(0x1A);
        self.write(&data, now_ms);
    }

    /// Bytes came.
    pub fn input(&mut self, bytes: &[u8], now_ms: u64) {
        for &byte in bytes {
            // No answer begins with >, but an echoed PDU stands after it, so not while one is on its way.
            let want_prompt = self.running.as_ref().is_none_or(|r| r.stage != Stage::Data && r.data_at_ms.is_none());
            match self.splitter.push(byte, want_prompt) {
                None => {}
                Some(Piece::Prompt) => self.prompt(now_ms),
                Some(Piece::PromptSpace) => {
                    if let Some(running) = &mut self.running
                        && running.data_at_ms.is_some()
                    {
                        running.data_at_ms = Some(now_ms.saturating_add(self.dialect.prompt_pause_ms));
                        self.tick(now_ms);
                    }
                }
                Some(Piece::Overlong) => self.garbled("a line without end"),
                Some(Piece::Line(line)) => self.line(line, now_ms),
            }
        }
    }

    fn prompt(&mut self, now_ms: u64) {
        match &mut self.running {
            Some(running) if running.stage == Stage::Prompt => {
                let space = if self.dialect.prompt_space { PROMPT_SPACE_MS } else { 0 };
                running.data_at_ms = Some(now_ms.saturating_add(space + self.dialect.prompt_pause_ms));
                self.tick(now_ms);
            }
            // A prompt while getting in step: the modem still waits for an old PDU. Cancel it.
            Some(_) => self.escape(now_ms),
            None => self.actions.push_back(Action::Notice(Notice::Prompt)),
        }
    }

    fn line(&mut self, line: String, now_ms: u64) {
        if self.is_echo(&line) {
            return;
        }
        if !self.headers.is_empty()
            && let Some(octets) = hex_decode(&line)
            && self.pdu(&line, octets, now_ms)
        {
            return;
        }
        if self.answers(&line, now_ms) {
            return;
        }
        if let Some(notice) = self.notice(&line) {
            if let Some(notice) = notice {
                self.tell(notice);
            }
            return;
        }
        if let Some(running) = &mut self.running {
            if running.command.expect == Expect::Text && running.lines.len() < MAX_ANSWER_LINES {
                running.lines.push(line);
                running.deadline_ms = now_ms.saturating_add(running.command.timeout_ms);
                return;
            }
            running.garbled |= !matches!(running.command.expect, Expect::Sync(_));
        }
        self.actions.push_back(Action::Notice(Notice::Stray(line)));
    }

    fn is_echo(&mut self, line: &str) -> bool {
        let command_echo = line.len() > 1 && line.eq_ignore_ascii_case(&self.last_command);
        let data_echo = self.running.as_ref().is_some_and(|r| {
            r.stage == Stage::Data && r.command.data.as_ref().is_some_and(|d| d.eq_ignore_ascii_case(line.as_bytes()))
        });
        if command_echo && self.echo_off {
            self.echo_off = false; // told once
            self.actions.push_back(Action::Notice(Notice::Echo));
        }
        command_echo || data_echo
    }

    /// A line of hexadecimal digits while headers wait for their PDU; false if it is none of theirs.
    fn pdu(&mut self, line: &str, octets: Vec<u8>, now_ms: u64) -> bool {
        // TS 27.005 3.1: <length> counts the TPDU; before it stand the SMSC address's length octet and so many octets.
        let tpdu = octets.len().checked_sub(1 + usize::from(octets[0]));
        let fits = |want: Option<usize>| tpdu.is_some_and(|have| want.is_none_or(|want| want == have) && have > 0);
        let Some(header) = self.headers.pop() else { return false };
        let (Header::Message(want) | Header::Report(want) | Header::Broadcast(want) | Header::Answer(_, want)) = &header;
        if !fits(*want) && self.running.as_ref().is_some_and(|r| r.command.expect == Expect::Text) {
            self.headers.push(header); // a serial number of an even count of digits, not the PDU
            return false;
        }
        match header {
            Header::Message(want) if fits(want) => self.tell(Notice::Message(octets)),
            Header::Report(want) if fits(want) => self.tell(Notice::Report(octets)),
            Header::Broadcast(_) => self.tell(Notice::Other("+CBM:".to_owned())),
            Header::Answer(header, want) if fits(want) => {
                if let Some(running) = &mut self.running
                    && running.lines.len() < MAX_ANSWER_LINES
                {
                    running.deadline_ms = now_ms.saturating_add(running.command.timeout_ms);
                    running.lines.push(header);
                    running.lines.push(line.to_owned());
                }
            }
            _ => self.garbled(line),
        }
        true
    }

    /// Whether the line belongs to the answer of the running command.
    fn answers(&mut self, line: &str, now_ms: u64) -> bool {
        let Some(running) = &mut self.running else { return false };
        // Bare digits are text where text is expected (+CGSN); elsewhere 0 and 4 are the numeric OK and ERROR.
        let numeric = running.command.expect != Expect::Text;
        if let Some(last) = Final::parse(line, numeric) {
            match (&running.command.expect, running.stage) {
                // Not in step yet, or an OK in place of a prompt: it belongs to something older.
                (Expect::Sync(_), _) if running.lines.is_empty() => return false,
                (_, Stage::Prompt) if last == Final::Ok => return false,
                _ => {}
            }
            self.finish(last);
            return true;
        }
        let mine = match &running.command.expect {
            Expect::Nothing | Expect::Text => false,
            Expect::Prefix(prefix) | Expect::Sync(prefix) => line.starts_with(prefix.as_str()),
            Expect::Registration(prefix) => fields(line, prefix)
                .is_some_and(|f| f.len() >= 2 && f[1].len() <= 2 && f[1].parse::<u8>().is_ok() && !quoted_second(line)),
            Expect::Pdus(prefix) => {
                if let Some(f) = fields(line, prefix) {
                    let length: Option<usize> = f.last().and_then(|l| l.parse().ok());
                    if length == Some(0) {
                        return true; // an empty place, told as a message of no octets by some makers
                    }
                    self.headers.push(Header::Answer(line.to_owned(), length));
                    running.deadline_ms = now_ms.saturating_add(running.command.timeout_ms);
                    return true;
                }
                false
            }
        };
        if mine {
            if running.lines.len() < MAX_ANSWER_LINES {
                running.lines.push(line.to_owned());
            }
            running.deadline_ms = now_ms.saturating_add(running.command.timeout_ms);
            if running.stage == Stage::Data && fields(line, "+CMGS:").is_some_and(|f| f[0].parse::<u8>().is_ok()) {
                running.reference = true;
                running.deadline_ms = now_ms.saturating_add(REFERENCE_GRACE_MS.min(running.command.timeout_ms));
            }
        }
        mine
    }

    /// Reads a line as an unsolicited one: `None` it is none; `Some(None)` it is a header whose PDU follows.
    fn notice(&mut self, line: &str) -> Option<Option<Notice>> {
        let begins = |list: &[String]| list.iter().any(|p| line.starts_with(p.as_str()));
        if begins(&self.dialect.boot) {
            return Some(Some(Notice::Booted(line.to_owned())));
        }
        if begins(&self.dialect.full) {
            return Some(Some(Notice::Full(line.to_owned())));
        }
        let (name, _) = line.split_once(':').unwrap_or((line, ""));
        let of = |prefix: &str| fields(line, prefix);
        let length = |f: Vec<String>| f.last().and_then(|l| l.parse().ok());
        Some(Some(match name {
            "+CMT" => return self.header(Header::Message(of("+CMT:").and_then(length))),
            "+CDS" => return self.header(Header::Report(of("+CDS:").and_then(length))),
            "+CBM" => return self.header(Header::Broadcast(of("+CBM:").and_then(length))),
            "+CMTI" | "+CDSI" => {
                let f = of("+CMTI:").or_else(|| of("+CDSI:"))?;
                match (f.first(), f.get(1).and_then(|i| i.parse().ok())) {
                    (Some(memory), Some(index)) => Notice::Stored { memory: memory.clone(), index },
                    _ => Notice::Garbled(line.to_owned()),
                }
            }
            "RING" | "+CRING" => Notice::Ring,
            "+CLIP" => Notice::Caller(of("+CLIP:")?.first().cloned().unwrap_or_default()),
            "+CREG" | "+CGREG" | "+CEREG" | "+C5GREG" => {
                let stat = line.split_once(':')?.1.split(',').next().and_then(|s| s.trim().parse().ok());
                match stat {
                    Some(stat) => Notice::Registration(name.to_owned(), stat),
                    None => Notice::Garbled(line.to_owned()),
                }
            }
            "+CPIN" => Notice::Sim(of("+CPIN:")?.first().cloned().unwrap_or_default()),
            // TS 27.005/27.007 unsolicited lines, call results after a RING, and lines of many makers' start.
            "+CCWA" | "+CUSD" | "+CTZV" | "+CTZE" | "+CTZDST" | "+CIEV" | "+CGEV" | "+CDEV" | "+CSSI" | "+CSSU" | "+CCCM"
            | "+COLP" | "+CRC" | "+CFUN" | "+CALA" | "+CR" | "NO CARRIER" | "BUSY" | "NO ANSWER" | "NO DIALTONE"
            | "NO DIAL TONE" | "CONNECT" | "Call Ready" | "SMS Ready" | "SMS DONE" | "PB DONE" | "DST" | "*PSUTTZ"
            | "+PSUTTZ" | "+QIND" | "+QUSIM" | "+WIND" => Notice::Other(line.to_owned()),
            _ if begins(&self.dialect.unsolicited) => Notice::Other(line.to_owned()),
            // A caret opens makers' lines (Siemens, Huawei), unsolicited unless a command asked by prefix.
            _ if line.starts_with('^') => Notice::Other(line.to_owned()),
            _ => return None,
        }))
    }

    #[allow(clippy::option_option)] // the caller's three answers: no notice, a header, a notice
    fn header(&mut self, header: Header) -> Option<Option<Notice>> {
        // A direct message whose PDU never came is given up when the next header comes: the network repeats it.
        if let Some(at) = self.headers.iter().position(|h| !matches!(h, Header::Answer(..))) {
            self.headers.remove(at);
            self.garbled("a PDU was announced and did not come");
        }
        self.headers.push(header);
        Some(None)
    }

    fn tell(&mut self, notice: Notice) {
        if let Notice::Booted(line) = &notice
            && let Some(running) = &self.running
        {
            let failure = Failure::Restarted(running.stage, line.clone());
            self.fail(failure);
        }
        self.actions.push_back(Action::Notice(notice));
    }

    fn garbled(&mut self, line: &str) {
        if let Some(running) = &mut self.running {
            running.garbled = true;
        }
        self.actions.push_back(Action::Notice(Notice::Garbled(line.to_owned())));
    }

    fn finish(&mut self, last: Final) {
        if let Some(running) = self.running.take() {
            let lost = self.drop_answer_headers();
            let garbled = running.garbled || lost;
            self.actions.push_back(Action::Done(Ok(Answer { lines: running.lines, last, garbled })));
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.running = None;
        self.out.clear();
        self.drop_answer_headers();
        self.actions.push_back(Action::Done(Err(failure)));
    }

    fn drop_answer_headers(&mut self) -> bool {
        let before = self.headers.len();
        self.headers.retain(|h| !matches!(h, Header::Answer(..)));
        self.headers.len() != before
    }
}

/// Whether the second field of the line is in quotation marks.
fn quoted_second(line: &str) -> bool {
    line.split(',').nth(1).is_some_and(|f| f.trim_start().starts_with('"'))
}
