//! The modem itself, without line and without clock: bytes and milliseconds go in, bytes come out.
//!
//! Contract: [`Engine::input`] takes any bytes at any time and never panics; what the modem says is in [`Engine::output`]; nothing
//! happens before [`Engine::advance`] is called at the time that [`Engine::wake_at`] names. All times are milliseconds since the
//! engine's start. The same options, orders, bytes and times give the same output.

mod centre;
mod general;
mod incoming;
mod line;
mod orders;
mod profile;
mod send;
mod sim;
mod sms;
mod text;

use crate::dice::Dice;
use crate::options::{Card, Effect, Fault, Options, Timing, Until};
use crate::phones::{Phones, Received, Repeats};
use crate::storage::Storage;
use centre::Kept;
use incoming::Inbound;
use line::{DataFor, Mode, Reply};
pub use orders::EngineState;
use profile::Profile;
use send::Job;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet, VecDeque};

/// Bytes that wait for a terminal which does not read; what is beyond is lost, as on a wire.
const OUT_MOST: usize = 256 * 1024;
/// Unsolicited lines that wait for the end of an answer.
const URC_MOST: usize = 256;

/// What the port does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortAct {
    /// The port goes away (a USB modem that starts anew).
    Away,
    /// It is there again.
    Back,
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Command lines.
    pub lines: u64,
    /// `+CMGS` commands, good or not.
    pub cmgs: u64,
    /// Prompts given.
    pub prompts: u64,
    /// Messages (parts) that the network took.
    pub accepted: u64,
    /// Sends that were refused with an error.
    pub refused: u64,
    /// Sends cancelled with ESC.
    pub cancelled: u64,
    /// Messages that phones show.
    pub received: u64,
    /// Times that the modem hung.
    pub hangs: u64,
    /// Times that it started anew.
    pub resets: u64,
    /// Times that the port came back after it went away.
    pub port_returns: u64,
    /// Times that DTR fell.
    pub dtr_drops: u64,
    /// Faults that were carried out.
    pub faults: u64,
    /// Wrong PINs.
    pub wrong_pins: u64,
    /// Unsolicited lines that went out.
    pub unsolicited: u64,
    /// Messages and reports taken by the terminal with `+CNMA`.
    pub acknowledged: u64,
    /// Stored messages that the terminal deleted.
    pub deleted: u64,
    /// Messages whose validity ended before their phone was switched on.
    pub expired: u64,
    /// Status reports made.
    pub reports: u64,
    /// Bytes changed on the way.
    pub garbled: u64,
    /// Bytes lost because they came too fast for the cable.
    pub overrun: u64,
    /// What phones dropped or saw twice.
    #[serde(flatten)]
    pub repeats: Repeats,
}

#[derive(Debug)]
enum Timer {
    Prompt(DataFor),
    Answer(Reply),
    Sent(Box<Job>),
    Late(&'static str, u8),
    Booted,
    Ready,
    PortBack,
    Awake(u64),
    Report(Box<Inbound>),
    AckLate(u64),
    Retry,
    Registered(u8),
    Expired(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    Off,
    Booting,
    On,
}

/// A modem that hangs, and what it has heard since.
#[derive(Debug)]
struct Dead {
    until: Until,
    heard: Vec<u8>,
    number: u64,
}

/// What the service centre answers to reports and repeats.
#[derive(Debug, Clone, Copy)]
struct Centre {
    reports: bool,
    /// TP-ST of the reports.
    report_status: u8,
    report_delay_ms: u64,
    refuse_repeats: bool,
}

/// A simulated modem with its network. See the module's contract.
pub struct Engine {
    options: Options,
    now: u64,
    epoch_ms: i64,
    dice: Dice,
    out: VecDeque<(u64, Vec<u8>)>,
    out_bytes: usize,
    out_due: u64,
    mode: Mode,
    typed: Vec<u8>,
    held: Vec<u8>,
    last_line: String,
    rest: VecDeque<String>,
    urcs: VecDeque<String>,
    inside: VecDeque<String>,
    answered: bool,
    power: Power,
    dead: Option<Dead>,
    hangs_told: u64,
    line_speed: Option<u32>,
    speed: Option<u32>,
    burst: (usize, u64),
    profile: Profile,
    saved: Profile,
    card: Card,
    pin_done: bool,
    pin_tries: u8,
    puk_tries: u8,
    function: u8,
    network: u8,
    signal: u8,
    storage: Storage,
    full: bool,
    phones: Phones,
    centre: Centre,
    kept: Vec<Kept>,
    kept_told: u64,
    phones_off: HashSet<String>,
    next_reference: u8,
    asked_ms: i64,
    waiting: VecDeque<Inbound>,
    unacknowledged: Option<(u64, Inbound)>,
    acks: u64,
    cnma_seen: bool,
    faults: VecDeque<Fault>,
    fault: Option<Fault>,
    chances: Vec<(Fault, f64)>,
    cme_next: Option<(u16, u32)>,
    timers: BTreeMap<(u64, u64), Timer>,
    timer_number: u64,
    received: Vec<Received>,
    port: VecDeque<PortAct>,
    counters: Counters,
}

impl Engine {
    /// A modem at time 0.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let epoch_ms = options.epoch_ms.unwrap_or_else(|| {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            since.map_or(0, |d| d.as_millis() as i64)
        });
        let profile = Profile::new(&options);
        let mut engine = Self {
            now: 0,
            epoch_ms,
            dice: Dice::new(options.seed),
            out: VecDeque::new(),
            out_bytes: 0,
            out_due: 0,
            mode: Mode::Command,
            typed: Vec::new(),
            held: Vec::new(),
            last_line: String::new(),
            rest: VecDeque::new(),
            urcs: VecDeque::new(),
            inside: VecDeque::new(),
            answered: false,
            power: Power::On,
            dead: None,
            hangs_told: 0,
            line_speed: None,
            speed: options.baud,
            burst: (0, 0),
            saved: profile.clone(),
            profile,
            card: options.card,
            pin_done: false,
            pin_tries: 3,
            puk_tries: 10,
            function: 1,
            network: 1,
            signal: options.signal,
            storage: Storage::new(options.capacity.unwrap_or(options.family.capacity)),
            full: false,
            phones: Phones::default(),
            centre: Centre { reports: true, report_status: 0, report_delay_ms: options.report_delay_ms, refuse_repeats: false },
            kept: Vec::new(),
            kept_told: 0,
            phones_off: HashSet::new(),
            next_reference: 0,
            asked_ms: epoch_ms,
            waiting: VecDeque::new(),
            unacknowledged: None,
            acks: 0,
            cnma_seen: false,
            faults: VecDeque::new(),
            fault: None,
            chances: options.chances.clone(),
            cme_next: None,
            timers: BTreeMap::new(),
            timer_number: 0,
            received: Vec::new(),
            port: VecDeque::new(),
            counters: Counters::default(),
            options,
        };
        if !engine.options.booted {
            engine.power = Power::Booting;
            engine.after(engine.boot_ms(), Timer::Booted);
        }
        engine
    }

    /// Lets everything happen that is due at `now`.
    pub fn advance(&mut self, now: u64) {
        while let Some(entry) = self.timers.first_entry().filter(|e| e.key().0 <= now) {
            self.now = self.now.max(entry.key().0);
            let timer = entry.remove();
            self.fire(timer);
        }
        self.now = self.now.max(now);
    }

    /// When something happens next, or bytes are due; `None`: nothing until input.
    #[must_use]
    pub fn wake_at(&self) -> Option<u64> {
        let timer = self.timers.first_key_value().map(|(k, _)| k.0);
        let out = self.out.front().map(|(due, _)| *due);
        timer.into_iter().chain(out).min()
    }

    /// Bytes that are on the wire by `now`.
    pub fn output(&mut self, now: u64) -> Vec<u8> {
        self.advance(now);
        let mut bytes = Vec::new();
        while self.out.front().is_some_and(|(due, _)| *due <= now) {
            let (_, mut chunk) = self.out.pop_front().expect("the front was looked at");
            self.out_bytes -= chunk.len();
            bytes.append(&mut chunk);
        }
        bytes
    }

    /// Messages received since the last call.
    pub fn take_received(&mut self) -> Vec<Received> {
        std::mem::take(&mut self.received)
    }

    /// What the port does next.
    pub fn take_port_act(&mut self) -> Option<PortAct> {
        self.port.pop_front()
    }

    /// Counters so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { repeats: self.phones.repeats, ..self.counters }
    }

    /// The speed that the terminal has set on its side.
    pub fn set_line_speed(&mut self, baud: Option<u32>) {
        self.line_speed = baud;
    }

    fn wrong_speed(&self) -> bool {
        matches!((self.speed, self.line_speed), (Some(ours), Some(theirs)) if ours != theirs)
    }

    fn disturbed(&mut self, byte: u8) -> u8 {
        if self.wrong_speed() {
            // What a UART at another speed makes of it: nothing legible, and the same for the same byte.
            return byte.wrapping_mul(0x6d).rotate_left(3) | 0x80;
        }
        if self.dice.hit(self.options.garble) {
            self.counters.garbled += 1;
            return byte ^ (1 << self.dice.between(0, 7));
        }
        byte
    }

    fn after(&mut self, ms: u64, timer: Timer) {
        self.timer_number += 1;
        self.timers.insert((self.now + ms, self.timer_number), timer);
    }

    fn now_ms(&self) -> i64 {
        self.epoch_ms + self.now as i64
    }

    /// Milliseconds for a thing that takes `low..=high` with a radio and nothing without.
    fn radio_ms(&mut self, low: u64, high: u64) -> u64 {
        if self.options.timing == Timing::Radio { self.dice.between(low, high) } else { 0 }
    }

    fn send_ms(&mut self) -> u64 {
        match self.options.timing {
            Timing::Instant => 0,
            Timing::Radio => self.dice.between(2400, 6500),
            Timing::SendMs(ms) => ms,
        }
    }

    fn boot_ms(&self) -> u64 {
        if self.options.timing == Timing::Radio { self.options.family.boot_ms } else { 20 }
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Prompt(what) => self.prompt(what),
            Timer::Answer(reply) => self.resume(reply),
            Timer::Sent(job) => self.sent(*job),
            Timer::Late(command, reference) => {
                self.info(&format!("{command}: {reference}"));
                self.resume(Reply::Ok);
            }
            Timer::Booted => {
                self.power = Power::On;
                for line in self.options.family.boot {
                    self.unsolicited_line((*line).to_owned());
                }
                let ms = self.radio_ms(1500, 4000);
                if ms > 0 && self.sim_ready() {
                    self.find_network(ms);
                }
                self.after(ms, Timer::Ready);
            }
            Timer::Ready => {
                if self.sim_ready() {
                    for line in self.options.family.ready {
                        self.unsolicited_line((*line).to_owned());
                    }
                }
                self.deliver_waiting();
            }
            Timer::PortBack => {
                self.counters.port_returns += 1;
                self.port.push_back(PortAct::Back);
            }
            Timer::Awake(number) => {
                if self.dead.as_ref().is_some_and(|d| d.number == number) {
                    self.dead = None;
                }
            }
            Timer::Report(inbound) => {
                self.waiting.push_back(*inbound);
                self.deliver_waiting();
            }
            Timer::AckLate(number) => self.ack_late(number),
            Timer::Retry => self.deliver_waiting(),
            Timer::Registered(state) => self.set_network(state),
            Timer::Expired(number) => self.expired(number),
        }
    }

    /// Carries out a fault that stops the modem or the answer; false when it is one that only changes the answer.
    fn stop_by(&mut self, effect: Effect) -> bool {
        match effect {
            Effect::Hang(until) => self.hang(until),
            Effect::Reset { away_ms } => self.reset(away_ms),
            Effect::Cms(_) | Effect::Cme(_) | Effect::Late(_) => return false,
        }
        true
    }

    fn hang(&mut self, until: Until) {
        self.counters.hangs += 1;
        self.hangs_told += 1;
        let number = self.hangs_told;
        self.dead = Some(Dead { until, heard: Vec::new(), number });
        self.idle();
        if let Until::Ms(ms) = until {
            self.after(ms, Timer::Awake(number));
        }
    }

    fn idle(&mut self) {
        self.mode = Mode::Command;
        self.typed.clear();
        self.held.clear();
        self.rest.clear();
        self.fault = None;
        self.timers.retain(|_, t| !matches!(t, Timer::Prompt(_) | Timer::Answer(_) | Timer::Sent(_) | Timer::Late(..)));
    }

    /// The modem starts anew: what was typed, half sent or set without `&W` is gone.
    fn reset(&mut self, away_ms: Option<u64>) {
        self.counters.resets += 1;
        self.idle();
        self.dead = None;
        self.urcs.clear();
        self.inside.clear();
        self.out.clear();
        self.out_bytes = 0;
        self.out_due = self.now;
        self.profile = self.saved.clone();
        self.pin_done = false;
        self.function = 1;
        self.cnma_seen = false;
        if let Some((_, inbound)) = self.unacknowledged.take() {
            self.waiting.push_front(inbound);
        }
        self.power = Power::Booting;
        self.timers.retain(|_, t| !matches!(t, Timer::Booted | Timer::Ready | Timer::PortBack));
        if let Some(ms) = away_ms {
            self.port.push_back(PortAct::Away);
            self.after(ms, Timer::PortBack);
        }
        self.after(away_ms.unwrap_or(0).max(self.boot_ms()), Timer::Booted);
    }
}

/// Types any bytes to a modem, the first one chooses the family.
pub fn fuzz(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    let family = &crate::family::FAMILIES[usize::from(*first) % crate::family::FAMILIES.len()];
    let mut engine = Engine::new(Options { family, epoch_ms: Some(0), ..Options::default() });
    for (now, chunk) in bytes.chunks(64).enumerate() {
        engine.input(now as u64 * 100, chunk);
        engine.output(now as u64 * 100);
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("family", &self.options.family.name).field("now", &self.now).finish_non_exhaustive()
    }
}
