//! Sending: `+CMGS`, `+CMSS`, what the network makes of it, and the faults on the way.

use super::line::{DataFor, Mode, Reply};
use super::{Engine, Timer};
use crate::address::{Number, split_centre, unhex};
use crate::options::{Effect, Fault, Stage};
use crate::tpdu::Submit;

/// A message on its way to the network.
#[derive(Debug)]
pub(super) struct Job {
    /// The TPDU.
    pub octets: Vec<u8>,
    /// The centre that the terminal named for it.
    pub centre: Option<Number>,
    /// The command that sends it, for the answer.
    pub command: &'static str,
}

impl Engine {
    /// Why nothing can be sent now.
    pub(super) fn send_obstacle(&self) -> Option<Reply> {
        if let Some(error) = self.sim_cms() {
            return Some(error);
        }
        // 27.005 3.2.5: 302 operation not allowed.
        (self.function != 1).then_some(Reply::Cms(302))
    }

    /// The fault of a send without prompt (`+CMSS`): one that has its place at the prompt stops it before it goes out.
    pub(super) fn choose_fault_of_stored(&mut self) {
        self.choose_fault();
        if let Some(fault) = &mut self.fault
            && !matches!(fault.stage, Stage::AfterSend { .. })
        {
            fault.stage = Stage::AfterSend { sent: false };
        }
    }

    fn choose_fault(&mut self) {
        self.fault = self.faults.pop_front();
        for n in 0..self.chances.len() {
            let (fault, p) = self.chances[n];
            if self.fault.is_none() && self.dice.hit(p) {
                self.fault = Some(fault);
            }
        }
    }

    /// The prompt comes, unless a fault is before it.
    pub(super) fn begin_send(&mut self, what: DataFor) -> Reply {
        self.counters.cmgs += 1;
        self.asked_ms = self.now_ms();
        if let Some(error) = self.send_obstacle() {
            self.counters.refused += 1;
            return self.softened(error);
        }
        self.choose_fault();
        let mut ms = self.radio_ms(20, 80);
        if let Some(Fault { effect, .. }) = self.fault.filter(|f| f.stage == Stage::BeforePrompt) {
            self.counters.faults += 1;
            self.fault = None;
            match effect {
                Effect::Cms(n) => {
                    self.counters.refused += 1;
                    return self.softened(Reply::Cms(n));
                }
                Effect::Cme(n) => return Reply::Cme(n),
                Effect::Late(late) => ms += late,
                Effect::Hang(_) | Effect::Reset { .. } => {
                    self.stop_by(effect);
                    return Reply::Later;
                }
            }
        }
        if ms > 0 {
            self.after(ms, Timer::Prompt(what));
        } else {
            self.prompt(what);
        }
        Reply::Later
    }

    /// Ctrl-Z has come.
    pub(super) fn data_complete(&mut self, what: DataFor, data: &[u8]) {
        match what {
            DataFor::Send { length } => match read_pdu(data, length) {
                Some((octets, centre)) => self.send(Job { octets, centre, command: "+CMGS" }),
                None => self.refuse(304),
            },
            DataFor::SendText { to } => match self.text_submit(&to, data) {
                Some(octets) => self.send(Job { octets, centre: None, command: "+CMGS" }),
                None => self.refuse(305),
            },
            DataFor::Write { length, status } => self.written(read_pdu_whole(data, length), status),
            DataFor::WriteText { to } => {
                let pdu = self.text_submit(&to, data).map(|tpdu| [vec![0], tpdu].concat());
                self.written(pdu, 2);
            }
            DataFor::Acknowledge { kind, length } => {
                let good = unhex(data).is_some_and(|o| o.len() == length);
                let reply = if good { self.acknowledge(kind != 2) } else { Reply::Cms(304) };
                self.finish(reply);
            }
        }
    }

    fn refuse(&mut self, code: u16) {
        self.fault = None;
        self.counters.refused += 1;
        let reply = self.softened(Reply::Cms(code));
        self.finish(reply);
    }

    /// Siemens: under `^SM20` the failure of a send is answered with `OK`.
    fn softened(&self, reply: Reply) -> Reply {
        let hidden = self.options.family.sm20 && self.profile.sm20[1] == 1 && matches!(reply, Reply::Cms(_));
        if hidden { Reply::Ok } else { reply }
    }

    /// Gives a message to the radio.
    pub(super) fn send(&mut self, job: Job) {
        self.mode = Mode::Busy;
        match self.send_ms() {
            0 => self.sent(job),
            ms => self.after(ms, Timer::Sent(Box::new(job))),
        }
    }

    /// The radio is through: the network's answer, or the fault behind Ctrl-Z.
    pub(super) fn sent(&mut self, job: Job) {
        let fault = self.fault.take();
        let goes_out = !fault.is_some_and(|f| f.stage == Stage::AfterSend { sent: false });
        let command = job.command;
        let outcome = if goes_out { self.transmit(job) } else { Err(332) };
        let mut late_ms = 0;
        if let Some(Fault { effect, .. }) = fault {
            self.counters.faults += 1;
            if self.stop_by(effect) {
                return;
            }
            match effect {
                Effect::Cms(n) => return self.refuse(n),
                Effect::Cme(n) => return self.finish(Reply::Cme(n)),
                Effect::Late(ms) => late_ms = ms,
                Effect::Hang(_) | Effect::Reset { .. } => {}
            }
        }
        match outcome {
            Ok(reference) if late_ms == 0 => {
                self.info(&format!("{command}: {reference}"));
                self.resume(Reply::Ok);
            }
            Ok(reference) => self.after(late_ms, Timer::Late(command, reference)),
            Err(code) => self.refuse(code),
        }
    }

    /// What the network does with a message: TP-MR, or the `+CMS ERROR` that its refusal becomes.
    fn transmit(&mut self, job: Job) -> Result<u8, u16> {
        if !self.registered() {
            // 27.005 3.2.5: 331 no network service.
            return Err(331);
        }
        let mut octets = job.octets;
        // Only SMS-SUBMIT goes up by +CMGS; SMS-COMMAND has +CMGC (27.005 3.5.5), which these modems do not offer.
        let mut submit = Submit::decode(&octets).map_err(|_| 304u16)?;
        if self.options.family.counts_references {
            octets[1] = self.next_reference;
            submit.reference = self.next_reference;
        }
        self.next_reference = submit.reference.wrapping_add(1);
        let reference = submit.reference;
        if submit.to.kind & 0x70 == 0x50 || submit.to.value.is_empty() {
            // 24.011 table 8.4: 28 unidentified subscriber.
            return Err(28);
        }
        let centre = job.centre.map_or_else(|| self.profile.centre.clone(), |c| c.to_string());
        if centre.is_empty() {
            return Err(330);
        }
        self.centre_takes(submit, octets, centre)?;
        Ok(reference)
    }
}

/// Service centre and TPDU of what was typed; `None` when it is not hex or has not the length that was said.
fn read_pdu(data: &[u8], length: usize) -> Option<(Vec<u8>, Option<Number>)> {
    let pdu = read_pdu_whole(data, length)?;
    let (centre, tpdu) = split_centre(&pdu)?;
    Some((tpdu.to_vec(), centre))
}

fn read_pdu_whole(data: &[u8], length: usize) -> Option<Vec<u8>> {
    let digits: Vec<u8> = data.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n' | b' ')).collect();
    let pdu = unhex(&digits)?;
    // 27.005 3.1: <length> counts the TPDU, not the service centre's address.
    (split_centre(&pdu)?.1.len() == length).then_some(pdu)
}
