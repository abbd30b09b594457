//! The whole conversation of a console, without terminal, child and clock.
//!
//! Contract: bytes typed, output and end of the one order that runs, and answers to what the menu asked come in; effects come out,
//! to be carried out in their turn. One order runs at a time. What is typed while an order without a terminal runs is kept
//! ([`WAITING_MAX`]) and taken afterwards; Ctrl-C ends the order. Nothing that comes in panics or is kept without bound.

use crate::Tongue;
use crate::editor::{Edit, Editor};
use crate::frame::{self, Body};
use crate::look;
use crate::menu::{Menu, Step};
use crate::probe::Probe;
use crate::words;
use serde_json::Value;
use std::collections::VecDeque;

/// Bytes kept that were typed while an order runs.
const WAITING_MAX: usize = 64 << 10;
/// Bytes of a program's order that are sent on; 115200 bit/s need six minutes for them.
const OUTPUT_MAX: usize = 4 << 20;
/// The prompt.
pub const PROMPT: &str = "twinpost> ";

/// What shall be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Bytes for the terminal.
    Write(Vec<u8>),
    /// Start this; its output and end come back.
    Start(Job),
    /// Ctrl-C: ask the running job to end; asked again, end it.
    Interrupt,
    /// End the running job at once.
    Kill,
    /// Typed for the running job.
    Input(Vec<u8>),
    /// Find these out; all answers come back at once, in this order.
    Gather(Vec<Ask>),
}

/// One thing that runs and speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// An order of a program: no terminal, output by pipes.
    Machine(Vec<String>),
    /// An order of a person: it gets a terminal.
    Person(Vec<String>),
    /// A test of the network, by this process itself.
    Probe(Probe),
}

/// What the menu wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The JSON that an order prints.
    Order(&'static [&'static str]),
    /// What `twinpost boot` found.
    BootReport,
    /// The addresses that this node has now.
    Addresses,
}

/// An answer, or why there is none.
pub type Answer = Result<Value, String>;

/// What belongs to one terminal.
#[derive(Clone, Debug)]
pub struct Place {
    /// First line of the screen: program, version, terminal.
    pub title: String,
    /// Orders may be typed.
    pub orders: bool,
    /// The terminal can show Chinese.
    pub chinese: bool,
    /// The menu of the installer.
    pub installer: bool,
}

/// One terminal's conversation.
#[derive(Debug)]
pub struct Session {
    editor: Editor,
    menu: Menu,
    orders: bool,
    running: Option<Running>,
    waiting: VecDeque<u8>,
}

#[derive(Debug)]
enum Running {
    Machine { number: u64, body: Body, sent: usize, cut: bool },
    Person { line_open: bool },
    Gather,
}

impl Session {
    /// A console that nobody has used yet.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self { editor: Editor::default(), orders: place.orders, menu: Menu::new(place), running: None, waiting: VecDeque::new() }
    }

    /// The language that orders shall speak.
    #[must_use]
    pub fn tongue(&self) -> Tongue {
        self.menu.tongue()
    }

    /// The first screen.
    pub fn start(&mut self) -> Vec<Effect> {
        let text = format!("\n{}{PROMPT}", self.menu.screen());
        vec![say(&text)]
    }

    /// Bytes from the terminal.
    pub fn bytes(&mut self, bytes: &[u8]) -> Vec<Effect> {
        let mut effects = Vec::new();
        match self.running {
            None => {
                self.waiting.extend(bytes);
                self.drain(&mut effects);
            }
            Some(Running::Person { .. }) => {
                // The last Ctrl-C counts; what was typed before it is dropped, as terminals do.
                if let Some(at) = bytes.iter().rposition(|&b| b == 0x03) {
                    effects.push(Effect::Interrupt);
                    effects.extend((at + 1 < bytes.len()).then(|| Effect::Input(bytes[at + 1..].to_vec())));
                } else {
                    effects.push(Effect::Input(bytes.to_vec()));
                }
            }
            Some(Running::Machine { .. } | Running::Gather) => {
                for &byte in bytes {
                    if byte == 0x03 {
                        self.waiting.clear();
                        effects.push(Effect::Interrupt);
                    } else if self.waiting.len() < WAITING_MAX {
                        self.waiting.push_back(byte);
                    }
                }
            }
        }
        effects
    }

    /// Output of the running job.
    pub fn output(&mut self, output: &[u8]) -> Vec<Effect> {
        match &mut self.running {
            Some(Running::Machine { body, sent, cut, .. }) => {
                let room = OUTPUT_MAX.saturating_sub(*sent);
                let piece = &output[..output.len().min(room)];
                *sent += piece.len();
                let mut effects = vec![Effect::Write(body.piece(piece))];
                if piece.len() < output.len() && !std::mem::replace(cut, true) {
                    effects.push(Effect::Kill);
                }
                effects
            }
            Some(Running::Person { line_open }) => {
                if let Some(last) = output.last() {
                    *line_open = *last != b'\n';
                }
                vec![Effect::Write(output.to_vec())]
            }
            Some(Running::Gather) | None => Vec::new(),
        }
    }

    /// The running job ended with this exit code.
    pub fn ended(&mut self, code: u8) -> Vec<Effect> {
        let mut effects = Vec::new();
        match self.running.take() {
            Some(Running::Machine { number, body, cut, .. }) => {
                let code = if cut { frame::SIZE } else { code };
                effects.push(Effect::Write(body.close(number, code)));
                effects.push(say(&format!("\n{PROMPT}")));
            }
            Some(Running::Person { line_open }) => {
                let start = if line_open { "\n" } else { "" };
                effects.push(say(&format!("{start}-- done: {code}\n")));
                let steps = self.menu.ended(code);
                self.carry(steps, &mut effects);
            }
            other @ (Some(Running::Gather) | None) => self.running = other,
        }
        self.drain(&mut effects);
        effects
    }

    /// What the menu asked for.
    pub fn gathered(&mut self, answers: &[Answer]) -> Vec<Effect> {
        let mut effects = Vec::new();
        if matches!(self.running, Some(Running::Gather)) {
            self.running = None;
            let steps = self.menu.gathered(answers);
            self.carry(steps, &mut effects);
            self.drain(&mut effects);
        }
        effects
    }

    /// Takes what was typed, as long as nothing runs.
    fn drain(&mut self, effects: &mut Vec<Effect>) {
        let mut echo = Vec::new();
        while self.running.is_none()
            && let Some(byte) = self.waiting.pop_front()
        {
            let edit = self.editor.byte(byte, &mut echo);
            if edit != Edit::More && !echo.is_empty() {
                effects.push(Effect::Write(std::mem::take(&mut echo)));
            }
            match edit {
                Edit::More => {}
                Edit::Line(line) => self.line(&line, effects),
                Edit::TooLong(start) => self.too_long(&start, effects),
                Edit::Interrupt => {
                    self.menu.home();
                    effects.push(say(&format!("^C\n{PROMPT}")));
                }
            }
        }
        if !echo.is_empty() {
            effects.push(Effect::Write(echo));
        }
    }

    fn line(&mut self, line: &str, effects: &mut Vec<Effect>) {
        if let Some((number, order)) = frame::machine_order(line) {
            self.menu.home();
            return self.machine(number, order, effects);
        }
        let steps = self.menu.line(line.trim());
        self.carry(steps, effects);
    }

    fn machine(&mut self, number: u64, order: &str, effects: &mut Vec<Effect>) {
        effects.push(Effect::Write(frame::open(number)));
        let body = Body::default();
        let refusal = match words::split(order) {
            _ if !self.orders => "orders are switched off on this console ([console] orders in node.toml)".to_owned(),
            Ok(words) if words.is_empty() => "no order".to_owned(),
            Ok(words) => {
                self.running = Some(Running::Machine { number, body, sent: 0, cut: false });
                effects.push(Effect::Start(Job::Machine(words)));
                return;
            }
            Err(unclosed) => unclosed.to_string(),
        };
        Self::refuse(number, body, &refusal, effects);
    }

    fn refuse(number: u64, mut body: Body, refusal: &str, effects: &mut Vec<Effect>) {
        effects.push(Effect::Write(body.piece(refusal.as_bytes())));
        effects.push(Effect::Write(body.close(number, frame::REFUSED)));
        effects.push(say(&format!("\n{PROMPT}")));
    }

    fn too_long(&mut self, start: &str, effects: &mut Vec<Effect>) {
        let tongue = self.tongue();
        if let Some((number, _)) = frame::machine_order(start) {
            effects.push(Effect::Write(frame::open(number)));
            return Self::refuse(number, Body::default(), "the line is too long", effects);
        }
        self.menu.home();
        let text = tongue.say("The line is too long; nothing was done.", "该行过长，未执行任何操作。");
        effects.push(say(&format!("{text}\n{PROMPT}")));
    }

    fn carry(&mut self, steps: Vec<Step>, effects: &mut Vec<Effect>) {
        let mut asks = false;
        for step in steps {
            match step {
                Step::Say(text) => effects.push(say(&text)),
                Step::Question(text) => {
                    asks = true;
                    effects.push(say(&text));
                }
                Step::Run(words) => {
                    self.running = Some(Running::Person { line_open: false });
                    effects.push(Effect::Start(Job::Person(words)));
                }
                Step::Probe(probe) => {
                    self.running = Some(Running::Person { line_open: false });
                    effects.push(Effect::Start(Job::Probe(probe)));
                }
                Step::Gather(asks) => {
                    self.running = Some(Running::Gather);
                    effects.push(Effect::Gather(asks));
                }
            }
        }
        if self.running.is_none() && !asks {
            effects.push(say(&format!("\n{PROMPT}")));
        }
    }
}

fn say(text: &str) -> Effect {
    Effect::Write(look::lines(text))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
