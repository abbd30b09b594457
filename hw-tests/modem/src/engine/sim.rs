//! The SIM: PIN, PUK, wrong tries, IMSI (27.007 8.3, 5.6; 27.005 3.2.5 for what messages say without it).

use super::line::{Op, Reply};
use super::{Engine, Timer};
use crate::options::Card;

/// What `+CPIN?` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SimState {
    Ready,
    Pin,
    Puk,
    None,
    /// Locked for good: ten wrong PUKs.
    Dead,
}

impl Engine {
    pub(super) fn sim_state(&self) -> SimState {
        match self.card {
            Card::Out => SimState::None,
            _ if self.puk_tries == 0 => SimState::Dead,
            Card::Locked => SimState::Puk,
            Card::In if self.options.pin.is_some() && !self.pin_done => SimState::Pin,
            Card::In => SimState::Ready,
        }
    }

    pub(super) fn sim_ready(&self) -> bool {
        self.sim_state() == SimState::Ready
    }

    /// The error of 27.007 9.2 while the SIM cannot be used.
    pub(super) fn sim_cme(&self) -> Option<Reply> {
        match self.sim_state() {
            SimState::Ready => None,
            SimState::Pin => Some(Reply::Cme(11)),
            SimState::Puk => Some(Reply::Cme(12)),
            SimState::None => Some(Reply::Cme(10)),
            SimState::Dead => Some(Reply::Cme(15)),
        }
    }

    /// The error of 27.005 3.2.5 while the SIM cannot be used.
    pub(super) fn sim_cms(&self) -> Option<Reply> {
        match self.sim_state() {
            SimState::Ready => None,
            SimState::Pin => Some(Reply::Cms(311)),
            SimState::Puk => Some(Reply::Cms(316)),
            SimState::None => Some(Reply::Cms(310)),
            SimState::Dead => Some(Reply::Cms(313)),
        }
    }

    pub(super) fn sim_command(&mut self, name: &str, op: &Op) -> Reply {
        match (name, op) {
            ("+CPIN", Op::Read) => {
                let state = match self.sim_state() {
                    SimState::Ready => "READY",
                    SimState::Pin => "SIM PIN",
                    SimState::Puk => "SIM PUK",
                    SimState::None => return Reply::Cme(10),
                    SimState::Dead => return Reply::Cme(15),
                };
                self.info(&format!("+CPIN: {state}"));
                Reply::Ok
            }
            ("+CPIN", Op::Test) => Reply::Ok,
            ("+CPIN", Op::Set(v)) => self.enter_pin(v),
            ("+CIMI", Op::Execute) => match self.sim_cme() {
                Some(error) => error,
                None => {
                    let imsi = self.options.imsi.clone();
                    self.info(&imsi);
                    Reply::Ok
                }
            },
            ("+CLCK", Op::Set(v)) if v.first().is_some_and(|f| f == "SC") => {
                if v.get(1).is_some_and(|m| m == "2") {
                    let on = u8::from(self.options.pin.is_some());
                    self.info(&format!("+CLCK: {on}"));
                }
                Reply::Ok
            }
            ("+CNUM", Op::Execute) => match self.sim_cme() {
                Some(error) => error,
                None => {
                    let number = self.options.number.clone();
                    self.info(&format!("+CNUM: \"\",\"{number}\",145"));
                    Reply::Ok
                }
            },
            // Families differ in the name of "how many tries are left"; these three are the usual ones.
            ("^SPIC" | "+SPIC" | "+CPINC", Op::Execute | Op::Read) => {
                let left = if self.sim_state() == SimState::Puk { self.puk_tries } else { self.pin_tries };
                self.info(&format!("{name}: {left}"));
                Reply::Ok
            }
            ("+QINISTAT", Op::Execute) => {
                self.info("+QINISTAT: 3");
                Reply::Ok
            }
            _ => self.message_command(name, op),
        }
    }

    fn enter_pin(&mut self, values: &[String]) -> Reply {
        match self.sim_state() {
            // 27.007 8.3: nothing to enter.
            SimState::Ready => Reply::Cme(3),
            SimState::None => Reply::Cme(10),
            SimState::Dead => Reply::Cme(15),
            SimState::Pin if self.options.pin.as_deref() == values.first().map(String::as_str) => {
                self.pin_tries = 3;
                self.unlocked();
                Reply::Ok
            }
            SimState::Pin => {
                self.counters.wrong_pins += 1;
                self.pin_tries -= 1;
                if self.pin_tries == 0 {
                    self.card = Card::Locked;
                    return Reply::Cme(12);
                }
                Reply::Cme(16)
            }
            SimState::Puk => {
                let (Some(puk), Some(pin)) = (values.first(), values.get(1)) else { return Reply::Cme(12) };
                if *puk != self.options.puk || !(4..=8).contains(&pin.len()) {
                    self.puk_tries -= 1;
                    return Reply::Cme(if self.puk_tries == 0 { 15 } else { 16 });
                }
                self.options.pin = Some(pin.clone());
                self.card = Card::In;
                (self.pin_tries, self.puk_tries) = (3, 10);
                self.unlocked();
                Reply::Ok
            }
        }
    }

    fn unlocked(&mut self) {
        self.pin_done = true;
        let ms = self.radio_ms(1500, 6000);
        self.find_network(ms);
    }

    /// Not in the network at the instant of the start or of the PIN: searching first, if the radio takes its time.
    pub(super) fn find_network(&mut self, ms: u64) {
        if self.timers.values().any(|t| matches!(t, Timer::Registered(_))) {
            return;
        }
        let state = self.network;
        let searching = ms > 0 && matches!(state, 1 | 5);
        self.network = if searching { 2 } else { 0 };
        self.after(if searching { ms } else { 0 }, Timer::Registered(state));
    }
}
