//! Orders from a test or the control socket, carried out at once.

use super::{Engine, Power, Timer};
use crate::options::Until;
use crate::order::Order;
use crate::storage::Memory;
use serde::Serialize;

/// How the modem is, for the control socket.
#[derive(Debug, Clone, Serialize)]
pub struct EngineState {
    /// Family.
    pub family: &'static str,
    /// `off`, `starting`, `on`, `hangs`.
    pub power: &'static str,
    /// As `+CPIN?` says.
    pub sim: String,
    /// As `+CREG`.
    pub registration: u8,
    /// As `+CSQ`.
    pub signal: u8,
    /// Messages in the SIM's memory, and its places.
    pub stored: (usize, usize),
    /// Messages that wait at the service centre.
    pub waiting: usize,
    /// Long messages of which phones miss parts.
    pub incomplete: usize,
    /// Messages that the service centre keeps for phones that are off.
    pub kept: usize,
    /// Fixed speed.
    pub baud: Option<u32>,
}

impl Engine {
    /// Carries out an order at `now`.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn order(&mut self, now: u64, order: Order) -> Result<(), String> {
        self.advance(now);
        match order {
            Order::Receive { from, text } => {
                if !self.receive(&from, &text) {
                    return Err(format!("'{from}' can be no sender, or too many messages wait"));
                }
            }
            Order::ReceivePdu(tpdu) => self.receive_tpdu(&tpdu),
            Order::Faults(faults) => self.faults.extend(faults),
            Order::Chance(fault, p) => {
                self.chances.retain(|(f, _)| *f != fault);
                if p > 0.0 {
                    self.chances.push((fault, p));
                }
            }
            Order::Healthy => {
                self.faults.clear();
                self.chances.clear();
                self.cme_next = None;
                self.inside.clear();
                (self.options.garble, self.options.unsolicited) = (0.0, 0.0);
            }
            Order::Cme(code, times) => self.cme_next = (times > 0).then_some((code, times)),
            Order::Garble(p) => self.options.garble = p,
            Order::Unsolicited(p) => self.options.unsolicited = p,
            Order::Line(text) => self.unsolicited_line(text),
            Order::Inside(text) => self.inside.push_back(text),
            Order::Network(state) => {
                self.timers.retain(|_, t| !matches!(t, Timer::Registered(_)));
                self.set_network(state);
            }
            Order::Signal(level) => self.signal = level,
            Order::Card(card) => {
                self.card = card;
                (self.pin_done, self.pin_tries) = (false, 3);
                self.deliver_waiting();
            }
            Order::Pin(pin) => self.options.pin = pin,
            Order::Full(full) => {
                self.full = full;
                self.deliver_waiting();
            }
            Order::Capacity(places) => {
                self.storage.resize(Memory::Sm, places);
                self.deliver_waiting();
            }
            Order::Phone { number, on } => self.switch_phone(&number, on),
            Order::Reports(on) => self.centre.reports = on,
            Order::ReportStatus(status) => self.centre.report_status = status,
            Order::ReportDelay(ms) => self.centre.report_delay_ms = ms,
            Order::RefuseRepeats(on) => self.centre.refuse_repeats = on,
            Order::Hang(until) => self.hang(until),
            Order::Wake => self.dead = None,
            Order::Reset(away_ms) => self.reset(away_ms),
            Order::PowerCycle => self.reset(None),
            Order::Dtr => self.dtr_drop(),
            Order::Timing(timing) => self.options.timing = timing,
            Order::EchoDelay(ms) => self.options.echo_delay_ms = ms,
            Order::Baud(baud) => self.speed = baud,
        }
        Ok(())
    }

    /// DTR falls: what was typed is gone, a hang that DTR heals ends; `&D2` also ends a prompt (V.250 6.2.9).
    pub fn dtr_drop(&mut self) {
        self.counters.dtr_drops += 1;
        if self.dead.as_ref().is_some_and(|d| matches!(d.until, Until::At | Until::Cfun | Until::Dtr)) {
            self.dead = None;
        }
        self.typed.clear();
        if self.profile.dtr == 2 && matches!(self.mode, super::Mode::Data(_)) {
            self.idle();
        }
    }

    /// How the modem is.
    #[must_use]
    pub fn state(&self) -> EngineState {
        EngineState {
            family: self.options.family.name,
            power: match self.power {
                Power::Off => "off",
                Power::Booting => "starting",
                Power::On if self.dead.is_some() => "hangs",
                Power::On => "on",
            },
            sim: format!("{:?}", self.sim_state()).to_lowercase(),
            registration: self.registration(),
            signal: self.signal,
            stored: (self.storage.used(Memory::Sm), self.storage.capacity(Memory::Sm)),
            waiting: self.waiting.len(),
            incomplete: self.phones.incomplete(),
            kept: self.kept.len(),
            baud: self.speed,
        }
    }
}
