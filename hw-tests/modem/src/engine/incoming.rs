//! What comes down from the network: messages and status reports, routed as `+CNMI` says (27.005 3.4.1), acknowledged with `+CNMA`
//! under `+CSMS=1` (3.4.4), kept by the service centre while the modem cannot take them.

use super::line::Reply;
use super::{Engine, Power, Timer};
use crate::address::{Number, hex};
use crate::stamp;
use crate::storage::{Memory, Status, Stored};
use crate::tpdu::{self, Deliver, Submit};

/// Messages that the service centre keeps for the modem.
const WAITING_MOST: usize = 10_000;

/// A TPDU for the modem.
#[derive(Debug, Clone)]
pub(super) struct Inbound {
    report: bool,
    tpdu: Vec<u8>,
    class: Option<u8>,
    not_before: u64,
}

enum Route {
    Taken,
    Waits,
}

impl Engine {
    /// A phone sends `text` to the modem's number. `from` may be a name. False: the number cannot be, or too many wait.
    pub fn receive(&mut self, from: &str, text: &str) -> bool {
        let Some(from) = Number::parse(from) else { return false };
        if self.waiting.len() >= WAITING_MOST {
            return false;
        }
        let reference = self.dice.between(0, 255) as u8;
        let parts = tpdu::split(text, reference);
        let count = parts.len();
        for (n, (length, octets, coding, has_header)) in parts.into_iter().enumerate() {
            let stamp = stamp::octets(self.now_ms().div_euclid(1000), self.options.zone_quarters);
            let deliver = Deliver { from: from.clone(), coding, stamp, length, octets, has_header, more: n + 1 < count };
            self.receive_tpdu(&deliver.encode());
        }
        true
    }

    /// A TPDU comes down as it is, whatever it holds.
    pub fn receive_tpdu(&mut self, tpdu: &[u8]) {
        let report = tpdu.first().is_some_and(|f| f & 3 == 2);
        let class = Deliver::decode(tpdu).ok().and_then(|d| tpdu::class(d.coding));
        self.waiting.push_back(Inbound { report, tpdu: tpdu.to_vec(), class, not_before: 0 });
        self.deliver_waiting();
    }

    /// The status report of a message that was sent at `sent_ms` and came to its end now.
    pub(super) fn report_of(&self, submit: &Submit, sent_ms: i64, status: u8) -> Inbound {
        let moment = |ms: i64| stamp::octets(ms.div_euclid(1000), self.options.zone_quarters);
        let done = moment(self.now_ms() + self.centre.report_delay_ms as i64);
        let tpdu = tpdu::status_report(submit.reference, &submit.to, moment(sent_ms), done, status);
        Inbound { report: true, tpdu, class: None, not_before: 0 }
    }

    /// Tries to bring down everything that waits.
    pub(super) fn deliver_waiting(&mut self) {
        let mut kept = std::collections::VecDeque::new();
        while let Some(inbound) = self.waiting.pop_front() {
            let able = self.power == Power::On
                && self.dead.is_none()
                && self.registered()
                && self.unacknowledged.is_none()
                && (self.cnma_seen || !self.options.family.cnma_first)
                && inbound.not_before <= self.now;
            if !able || matches!(self.route(&inbound), Route::Waits) {
                kept.push_back(inbound);
            }
        }
        self.waiting = kept;
    }

    fn route(&mut self, inbound: &Inbound) -> Route {
        let [mode, messages, _, reports, _] = self.profile.cnmi;
        if inbound.report {
            return match reports {
                // 27.005 3.4.1 <ds>=0: no report goes to the terminal; nobody keeps it.
                0 => Route::Taken,
                1 if mode == 0 => Route::Waits,
                1 => self.direct(inbound),
                _ => {
                    let named = Memory::named("SR").filter(|m| self.options.family.memories.contains(&m.name()));
                    self.store(inbound, named.unwrap_or(self.profile.memories[2]), "+CDSI")
                }
            };
        }
        let direct = match messages {
            2 => inbound.class != Some(2),
            3 => inbound.class == Some(3),
            _ => false,
        };
        if direct {
            return if mode == 0 { Route::Waits } else { self.direct(inbound) };
        }
        self.store(inbound, self.profile.memories[2], if messages == 0 || mode == 0 { "" } else { "+CMTI" })
    }

    fn store(&mut self, inbound: &Inbound, memory: Memory, told: &str) -> Route {
        if self.full {
            return Route::Waits;
        }
        let pdu = self.with_centre(&inbound.tpdu);
        let Some(index) = self.storage.keep(memory, Stored { status: Status::Unread, pdu }) else { return Route::Waits };
        if !told.is_empty() {
            let name = if memory == Memory::Mt { self.place_name(index) } else { memory.name() };
            self.unsolicited_line(format!("{told}: \"{name}\",{index}"));
        }
        Route::Taken
    }

    /// Under `MT` modems name the real memory, with an index that counts through both.
    fn place_name(&self, index: usize) -> &'static str {
        if index <= self.storage.capacity(Memory::Sm) { "SM" } else { "ME" }
    }

    fn with_centre(&self, tpdu: &[u8]) -> Vec<u8> {
        let mut pdu = Vec::with_capacity(tpdu.len() + 12);
        match Number::parse(&self.options.smsc) {
            Some(centre) => centre.encode_centre(&mut pdu),
            None => pdu.push(0),
        }
        pdu.extend(tpdu);
        pdu
    }

    fn direct(&mut self, inbound: &Inbound) -> Route {
        let pdu = hex(&self.with_centre(&inbound.tpdu));
        let length = inbound.tpdu.len();
        let line = match (self.profile.text, inbound.report) {
            (false, false) => format!("+CMT: ,{length}\n{pdu}"),
            (false, true) => format!("+CDS: {length}\n{pdu}"),
            (true, report) => self.text_direct(&inbound.tpdu, report),
        };
        self.unsolicited_line(line);
        if self.profile.phase2plus {
            self.acks += 1;
            self.unacknowledged = Some((self.acks, inbound.clone()));
            self.after(self.options.ack_ms, Timer::AckLate(self.acks));
        }
        Route::Taken
    }

    /// `+CNMA`: the terminal has it, or refuses it.
    pub(super) fn acknowledge(&mut self, good: bool) -> Reply {
        let first = self.options.family.cnma_first && !self.cnma_seen;
        self.cnma_seen = true;
        let reply = match self.unacknowledged.take() {
            Some((_, mut inbound)) => {
                self.counters.acknowledged += u64::from(good);
                if !good {
                    // The service centre tries again later.
                    inbound.not_before = self.now + 5000;
                    self.waiting.push_front(inbound);
                    self.after(5000, Timer::Retry);
                }
                Reply::Ok
            }
            None if first => Reply::Ok,
            // 27.005 3.2.5: 340 no +CNMA acknowledgement expected.
            None => Reply::Cms(340),
        };
        self.deliver_waiting();
        reply
    }

    /// 27.005 3.4.4: no acknowledgement in time: RP-ERROR to the network, and nothing is routed to the terminal any more.
    pub(super) fn ack_late(&mut self, number: u64) {
        if self.unacknowledged.as_ref().is_none_or(|(n, _)| *n != number) {
            return;
        }
        if let Some((_, inbound)) = self.unacknowledged.take() {
            self.waiting.push_front(inbound);
        }
        self.profile.cnmi[1] = 0;
        self.profile.cnmi[3] = 0;
        self.deliver_waiting();
    }
}
