//! The working modem: sends, chores of the inbox, the watch over signal, registration and memory.
//!
//! Contract: a send that finds the modem idle is on the wire at once; looks and chores are single short commands, and
//! a send goes before them (but lets one chore through after each send, so that a storm of sends starves nobody).
//! Failure classes: [`Break`].

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use tokio::time::Instant;

use super::{Break, Driver, Fault, SendJob};
use crate::at::{Command, Expect, Failure, Final, Stage, fields};
use crate::link::Link;
use crate::{Phase, Registration, ResetStep, SendError};

/// Every so many watches the memory is listed: an announcement may have been lost in noise.
const LIST_EVERY: u32 = 20;

/// A look at something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Signal,
    Registration,
    Lte,
    Storage,
    Operator,
    Sim,
    Listing,
}

impl Driver {
    /// Works until something ends it.
    pub(super) async fn serve(&mut self, link: &mut Link) -> Break {
        match self.work(link).await {
            Err(end) => end,
            Ok(never) => match never {},
        }
    }

    async fn work(&mut self, link: &mut Link) -> Result<Infallible, Break> {
        let mut looks: VecDeque<Look> = VecDeque::new();
        let mut next_watch = Instant::now() + self.watch_period();
        let mut watches = 0;
        let mut sent_last = false;
        loop {
            self.read_notices(link)?;
            while let Ok(request) = self.requests.try_recv() {
                self.take(request);
            }
            self.check_orders()?;
            self.give();
            let chores = self.inbox.has_chores();
            if !(chores && sent_last)
                && let Some(job) = self.sends.pop_front()
            {
                sent_last = true;
                self.carry_out(link, job).await?;
                continue;
            }
            if chores {
                sent_last = false;
                self.chore(link).await?;
                continue;
            }
            if std::mem::take(&mut self.look) {
                self.judge();
                for look in [Look::Registration, Look::Lte, Look::Storage, Look::Sim] {
                    if !looks.contains(&look) {
                        looks.push_back(look);
                    }
                }
            }
            if let Some(look) = looks.pop_front() {
                self.look_at(link, look).await?;
                if looks.is_empty() {
                    self.judge();
                    self.search(link).await?;
                    // A network that was lost is asked for more often.
                    next_watch = next_watch.min(Instant::now() + self.watch_period());
                }
                continue;
            }
            if Instant::now() >= next_watch {
                next_watch = Instant::now() + self.watch_period();
                watches += 1;
                looks.extend([Look::Signal, Look::Registration, Look::Lte]);
                if watches % 4 == 0 || self.state.borrow().phase == Phase::StorageFull {
                    looks.push_back(Look::Storage);
                }
                // A card that was pulled out shows as a lost network first.
                if watches % 4 == 0 || !self.state.borrow().phase.can_send() {
                    looks.push_back(Look::Sim);
                }
                if self.state.borrow().operator.is_none() {
                    looks.push_back(Look::Operator);
                }
                if watches % LIST_EVERY == 0 {
                    looks.push_back(Look::Listing);
                }
                continue;
            }
            let events = self.events.clone();
            tokio::select! {
                biased;
                request = self.requests.recv() => self.received(request),
                moved = link.pump(Some(next_watch)) => moved.map_err(|lost| Break::Lost(lost.0))?,
                // Room in the user's channel: loop and hand over. Without a user messages stay where they are.
                _ = events.reserve(), if self.inbox.has_waiting() && !events.is_closed() => {}
            }
        }
    }

    /// A modem long without a network: it is told to search, and then restarted, at growing intervals.
    async fn search(&mut self, link: &mut Link) -> Result<(), Break> {
        if self.state.borrow().phase.can_send() {
            return Ok(());
        }
        let patience = self.settings.timing.network_patience;
        let (since, done) = *self.alone.get_or_insert((Instant::now(), 0));
        if since.elapsed() < patience.saturating_mul(1 << done.min(4)) {
            return Ok(());
        }
        self.alone = Some((Instant::now(), done + 1));
        if done % 2 == 0 {
            // TS 27.007 7.3: automatic selection; makers give it up to three minutes
            self.ask(link, Command::new("AT+COPS=0").within_ms(180_000)).await?;
            self.look = true;
            return Ok(());
        }
        Err(Break::Reset(ResetStep::Restart, "it has found no network for long".to_owned()))
    }

    fn watch_period(&self) -> Duration {
        let timing = &self.settings.timing;
        if self.state.borrow().phase == Phase::Ready { timing.watch } else { timing.watch.min(timing.wait_network) }
    }

    /// All looks at once, and the phase that follows: the end of the bring-up.
    pub(super) async fn look_around(&mut self, link: &mut Link, first: bool) -> Result<(), Break> {
        for look in [Look::Signal, Look::Registration, Look::Lte, Look::Storage] {
            self.look_at(link, look).await?;
        }
        self.read_notices(link)?;
        self.judge();
        if first && self.state.borrow().phase.can_send() {
            self.look_at(link, Look::Operator).await?;
        }
        Ok(())
    }

    async fn look_at(&mut self, link: &mut Link, look: Look) -> Result<(), Break> {
        match look {
            Look::Signal => {
                let line = self.line(link, "AT+CSQ", "+CSQ:").await?;
                let rssi = line.and_then(|l| fields(&l, "+CSQ:")?[0].parse().ok());
                self.told(|s| s.signal_dbm = rssi.and_then(dbm));
            }
            Look::Registration => {
                let answer = self.say(link, "AT+CREG?", Expect::Registration("+CREG:".to_owned())).await?;
                if let Some(f) = answer.lines.first().and_then(|l| fields(l, "+CREG:")) {
                    if self.session.creg && f[0] == "0" {
                        self.signs = self.signs.saturating_add(1);
                        return Err(Break::Restarted("its settings are gone".to_owned()));
                    }
                    if let Ok(stat) = f[1].parse() {
                        self.session.registered.insert("+CREG".to_owned(), stat);
                    }
                }
            }
            Look::Lte if self.session.cereg => {
                let answer = self.say(link, "AT+CEREG?", Expect::Registration("+CEREG:".to_owned())).await?;
                if let Some(f) = answer.lines.first().and_then(|l| fields(l, "+CEREG:"))
                    && let Ok(stat) = f[1].parse()
                {
                    self.session.registered.insert("+CEREG".to_owned(), stat);
                }
            }
            Look::Lte => {}
            Look::Storage => self.read_storage(link).await?,
            Look::Operator => {
                // Makers give it up to three minutes, but only while the modem searches.
                let command = Command::new("AT+COPS?").prefix("+COPS:").within_ms(10_000);
                let answer = self.ask(link, command).await?;
                let operator = answer.lines.first().and_then(|l| fields(l, "+COPS:")?.get(2).cloned());
                self.told(|s| s.operator = operator.filter(|o| !o.is_empty()));
            }
            Look::Sim => {
                let answer = self.ask(link, Command::new("AT+CPIN?").prefix("+CPIN:").within_ms(5_000)).await?;
                let ready = answer.lines.first().is_some_and(|l| l.contains("READY"));
                // A card that was pulled out, or a modem that lost it: from the beginning.
                if !ready && !answer.garbled && matches!(answer.last, Final::Ok | Final::Cme(Some(10..=13 | 15))) {
                    return Err(Break::Restarted("its SIM card is not ready any more".to_owned()));
                }
            }
            Look::Listing => self.list_all(link).await?,
        }
        Ok(())
    }

    /// Sets the phase from what is known of registration and memory.
    pub(super) fn judge(&mut self) {
        let registration = self.session.registered.values().map(|&stat| registration(stat)).max_by_key(|r| rank(*r));
        let registration = registration.unwrap_or_default();
        let before = self.state.borrow().registration;
        self.told(|s| s.registration = registration);
        if before != registration {
            self.told(|s| s.operator = None);
        }
        let storage = self.state.borrow().storage.clone();
        let ready = match storage.as_ref().filter(|s| s.nearly_full()) {
            Some(s) => format!("registered; the memory {} is nearly full, {} of {} places", s.memory, s.used, s.total),
            None => "registered".to_owned(),
        };
        let full = storage.filter(|s| s.total > 0 && s.used >= s.total);
        match (registration, full) {
            (Registration::Home | Registration::Roaming, None) => self.phase(Phase::Ready, &ready),
            (Registration::Home | Registration::Roaming, Some(storage)) => {
                self.phase(
                    Phase::StorageFull,
                    &format!("all {} places of the memory {} are full", storage.total, storage.memory),
                );
            }
            (Registration::Denied, _) => self.phase(Phase::Denied, "the network does not admit the SIM card"),
            (Registration::Emergency, _) => self.phase(Phase::Denied, "the network admits only emergency calls"),
            (Registration::Searching, _) => self.phase(Phase::NoNetwork, "searching for a network"),
            (Registration::None, _) => self.phase(Phase::NoNetwork, "not registered, not searching"),
            (Registration::Unknown, _) => self.phase(Phase::NoNetwork, "the modem does not tell whether it is registered"),
        }
    }

    /// Sends one PDU and answers whoever wants it sent.
    async fn carry_out(&mut self, link: &mut Link, job: SendJob) -> Result<(), Break> {
        let SendJob { tpdu, smsc, more_follows, answer } = job;
        let linked = self.keep_link(link, more_follows).await;
        let (result, end) = match linked {
            Err(end) => (Err(SendError::NoPrompt), Err(end)),
            Ok(()) => self.transmit(link, &tpdu, &smsc).await,
        };
        if self.session.cmms_until.is_some() {
            // TS 27.005 3.5.6: mode 1 ends by itself one to five seconds after the last answer.
            self.session.cmms_until = Some(Instant::now() + Duration::from_secs(1));
        }
        self.state.send_if_modified(|s| {
            match &result {
                Ok(_) => s.counters.sent += 1,
                Err(SendError::Refused { .. }) => s.counters.refused += 1,
                Err(SendError::Unknown | SendError::Garbled) => s.counters.unknown += 1,
                Err(_) => {}
            }
            false // counters alone wake nobody
        });
        if let Err(SendError::Refused { cms: 300.. }) = result {
            self.look = true; // the modem's own reason: SIM, memory or network
        }
        // Whoever gets the answer sees the state that follows from it.
        match &end {
            Ok(()) => {}
            Err(Break::Lost(why)) => self.phase(Phase::NoPort, why),
            Err(Break::Restarted(line)) => self.phase(Phase::Starting, &format!("the modem restarted by itself: {line}")),
            Err(Break::Silent(why)) => self.phase(Phase::Resetting, why),
            Err(Break::Stop | Break::Reset(..)) => {}
        }
        let _ = answer.send(result);
        end
    }

    /// `+CMMS` while more is queued.
    async fn keep_link(&mut self, link: &mut Link, more_follows: bool) -> Result<(), Break> {
        let now = Instant::now();
        let in_force = self.session.cmms_until.is_some_and(|until| now < until);
        if !self.session.cmms {
            return Ok(());
        }
        if more_follows && !in_force {
            let mode = self.session.family.cmms;
            self.session.cmms = self.set(link, &format!("AT+CMMS={mode}")).await?;
            self.session.cmms_until = self.session.cmms.then(|| now + Duration::from_secs(1));
        } else if !more_follows && self.session.cmms_until.is_some() && self.session.family.cmms == 2 {
            self.set(link, "AT+CMMS=0").await?;
            self.session.cmms_until = None;
        }
        Ok(())
    }

    async fn transmit(&mut self, link: &mut Link, tpdu: &[u8], smsc: &[u8]) -> (Result<u8, SendError>, Result<(), Break>) {
        let family = self.session.family;
        let mut answer_ms = family.answer_s * 1000;
        if let Some(most) = self.settings.timing.send_max {
            answer_ms = answer_ms.min(u64::try_from(most.as_millis()).unwrap_or(u64::MAX));
        }
        self.strays.clear();
        let outcome = |stage: Stage| if stage == Stage::Data { SendError::Unknown } else { SendError::NoPrompt };
        match self.command(link, Command::send(tpdu, smsc, family.prompt_s * 1000, answer_ms)).await {
            Ok(answer) => match answer.last.as_cms() {
                Some(cms) => (Err(SendError::Refused { cms }), Ok(())),
                // OK without a reference is what a Siemens says of a failure unless ^SM20 is off, or noise in the line.
                None => (reference(&answer.lines).ok_or(SendError::Garbled), Ok(())),
            },
            Err(Fault::Lost(stage, why)) => (Err(outcome(stage)), Err(Break::Lost(why))),
            Err(Fault::Failed(Failure::Restarted(stage, line))) => (Err(outcome(stage)), Err(Break::Restarted(line))),
            Err(Fault::Failed(Failure::Silent(stage))) => {
                let mut stepped = self.step_in(link, "AT+CMGS").await;
                if let Err(end) = self.read_notices(link) {
                    stepped = Err(end);
                }
                (self.late(stage).unwrap_or_else(|| Err(outcome(stage))), stepped)
            }
        }
    }

    /// What lines that came too late say of a PDU that was written.
    fn late(&mut self, stage: Stage) -> Option<Result<u8, SendError>> {
        if stage != Stage::Data {
            return None;
        }
        let lines: Vec<String> = self.strays.drain(..).collect();
        if let Some(reference) = reference(&lines) {
            return Some(Ok(reference));
        }
        // Only +CMS ERROR names the message service; a bare ERROR may be the answer to our ESC.
        let cms = lines.iter().find_map(|line| match Final::parse(line, false) {
            Some(Final::Cms(code)) => Some(code.unwrap_or(500)),
            _ => None,
        })?;
        Some(Err(SendError::Refused { cms }))
    }
}

/// The reference in a `+CMGS: <mr>[,<ackpdu>]` line.
fn reference(lines: &[String]) -> Option<u8> {
    lines.iter().find_map(|line| fields(line, "+CMGS:")?[0].parse().ok())
}

/// `<rssi>` of `+CSQ` in dBm (TS 27.007 8.5); 100 and up are makers' finer values for LTE.
fn dbm(rssi: i16) -> Option<i16> {
    match rssi {
        0..=31 => Some(-113 + 2 * rssi),
        100..=191 => Some(-116 + (rssi - 100)),
        _ => None,
    }
}

/// `<stat>` of TS 27.007 7.2.
fn registration(stat: u8) -> Registration {
    match stat {
        0 => Registration::None,
        2 => Registration::Searching,
        3 => Registration::Denied,
        8 => Registration::Emergency,
        1 | 6 | 9 => Registration::Home,
        5 | 7 | 10 => Registration::Roaming,
        _ => Registration::Unknown,
    }
}

/// The better of circuit-switched and LTE registration counts.
fn rank(registration: Registration) -> u8 {
    match registration {
        Registration::Unknown => 0,
        Registration::None => 1,
        Registration::Emergency => 2,
        Registration::Denied => 3,
        Registration::Searching => 4,
        Registration::Roaming => 5,
        Registration::Home => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        assert_eq!(dbm(0), Some(-113));
        assert_eq!(dbm(31), Some(-51));
        assert_eq!(dbm(99), None);
        assert_eq!(dbm(191), Some(-25));
        assert_eq!(registration(6), Registration::Home);
        assert_eq!(registration(7), Registration::Roaming);
        assert_eq!(reference(&["+CMGS: 12,\"00\"".into()]), Some(12));
        assert_eq!(reference(&["+CMGS: x".into(), "+CM".into()]), None);
        assert_eq!(reference(&["+CMGS: 256".into()]), None);
    }
}
