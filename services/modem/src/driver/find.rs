//! Finding the modem: port, lock, speed.
//!
//! Contract: [`Driver::find`] tries for ever, with back-off, and ends with a link on which `AT` was answered. What it
//! meets meanwhile is a phase: no port, port busy, wrong speed, not a modem, silent. A modem that stays silent gets DTR
//! and power from the reset ladder, at the ladder's growing pauses. Failure class: only [`Break::Stop`].

use std::time::Duration;

use tokio::time::Instant;

use super::{Break, Driver, Fault};
use crate::at::{Command, Engine, Failure, Notice};
use crate::family::Dtr;
use crate::ladder::Ladder;
use crate::link::Link;
use crate::port::{OpenError, Port};
use crate::{Event, Phase, ResetStep};

/// Speeds to try, the usual ones first.
const BAUDS: [u32; 10] = [115_200, 9_600, 57_600, 38_400, 19_200, 230_400, 460_800, 921_600, 4_800, 2_400];

/// What a speed gave.
#[derive(Debug, PartialEq, Eq)]
enum Probe {
    /// `AT` was answered.
    Modem,
    /// Something came, but no answer.
    Noise,
    /// Nothing came.
    Nothing,
}

impl Driver {
    /// Finds the modem.
    pub(super) async fn find(&mut self) -> Result<Link, Break> {
        let timing = self.settings.timing.clone();
        let mut pause = timing.port_retry_min;
        loop {
            let first = self.settings.baud.or(self.last_baud).unwrap_or(BAUDS[0]);
            match Port::open(&self.settings.port, first, self.settings.lock_dir.as_deref()) {
                Err(OpenError::Missing(why)) => self.phase(Phase::NoPort, &why),
                Err(OpenError::Busy(why)) => self.phase(Phase::PortBusy, &why),
                Ok(port) => {
                    let phase = self.state.borrow().phase;
                    // The phase of a silent or wrong modem stays until something is known to be better.
                    if matches!(phase, Phase::NoPort | Phase::PortBusy | Phase::Stopped) {
                        self.phase(Phase::Starting, "looking for the modem");
                    }
                    let mut link = Link::new(port, first, Engine::new(self.session.family.dialect.clone()));
                    match self.probe_all(&mut link, first).await {
                        Ok(true) => {
                            self.last_baud = Some(link.baud);
                            let baud = link.baud;
                            self.state.send_modify(|s| s.baud = Some(baud));
                            return Ok(link);
                        }
                        Ok(false) => {}
                        Err(Break::Stop) => return Err(Break::Stop),
                        Err(Break::Lost(why)) => self.phase(Phase::NoPort, &why),
                        // An order given to a modem that is not there yet: the next look comes at once.
                        Err(_) => {
                            self.next_harsh = None;
                            pause = timing.port_retry_min;
                        }
                    }
                }
            }
            match self.pause(pause).await {
                Err(Break::Stop) => return Err(Break::Stop),
                Err(_) => {
                    self.next_harsh = None;
                    pause = timing.port_retry_min;
                }
                Ok(()) => pause = (pause * 2).min(timing.port_retry_max),
            }
        }
    }

    /// Tries the speeds; false with the phase set when no modem answers as configured.
    async fn probe_all(&mut self, link: &mut Link, first: u32) -> Result<bool, Break> {
        let fixed = self.settings.baud;
        let mut bauds = vec![first];
        let family = self.session.family;
        bauds.extend(family.bauds.iter().chain(&BAUDS).copied().filter(|b| *b != first));
        let mut seen = Vec::new();
        let mut noise = false;
        let mut answers_at = None;
        for baud in bauds {
            if seen.contains(&baud) {
                continue;
            }
            seen.push(baud);
            match self.probe(link, baud).await? {
                Probe::Modem if fixed.is_none_or(|fixed| fixed == baud) => return Ok(true),
                Probe::Modem => {
                    answers_at = Some(baud);
                    break;
                }
                Probe::Noise => noise = true,
                Probe::Nothing => {}
            }
        }
        let port = self.settings.port.display().to_string();
        match (answers_at, fixed) {
            (Some(right), Some(fixed)) => {
                self.phase(Phase::WrongSpeed, &format!("{port} is set to {fixed} bit/s, but the modem answers at {right}"));
            }
            _ if noise => {
                self.phase(
                    Phase::NotAModem,
                    &format!("what is on {port} answers, but not to AT, at none of {} speeds", seen.len()),
                );
            }
            _ => {
                self.phase(Phase::Silent, &format!("nothing on {port} answers at any of {} speeds", seen.len()));
                self.harsh(link).await?;
            }
        }
        Ok(false)
    }

    /// DTR and power for a modem that was silent from the beginning, at the ladder's pace.
    async fn harsh(&mut self, link: &mut Link) -> Result<(), Break> {
        if self.next_harsh.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        // The modem's family is not known, so DTR is worth a try.
        for step in Ladder::steps(ResetStep::Dtr, Dtr::Starts, self.settings.power.is_some()) {
            if step == ResetStep::Restart {
                continue;
            }
            self.step_taken(step, "nothing answers on the port");
            self.drop_or_power(link, step).await?;
        }
        let pause = self.ladder.failed(&self.settings.timing.clone());
        self.next_harsh = Some(Instant::now() + pause);
        Ok(())
    }

    /// Notes and tells that a step is taken.
    pub(super) fn step_taken(&mut self, step: ResetStep, reason: &str) {
        tracing::warn!(%step, reason, "resetting the modem");
        self.state.send_modify(|s| {
            s.reset = Some(step);
            s.counters.resets += 1;
        });
        self.event(Event::Reset { step, reason: reason.to_owned() });
    }

    /// Whether `AT` is answered at this speed.
    async fn probe(&mut self, link: &mut Link, baud: u32) -> Result<Probe, Break> {
        let timing = &self.settings.timing;
        let half_ms = u64::try_from(timing.probe.as_millis() / 2).unwrap_or(u64::MAX).max(1);
        link.port.set_baud(baud).map_err(Break::Lost)?;
        link.clear();
        link.baud = baud;
        let before = link.bytes_in;
        // V.250 4.3: AT lets a modem find our speed. The second is for one that was left in a prompt, in numeric or
        // quiet mode: ESC, then results in words.
        for text in ["AT", "ATQ0V1"] {
            self.check_orders()?;
            match self.command(link, Command::new(text).within_ms(half_ms)).await {
                Ok(_) => return Ok(Probe::Modem),
                Err(Fault::Lost(_, why)) => return Err(Break::Lost(why)),
                Err(Fault::Failed(Failure::Restarted(..))) => {}
                Err(Fault::Failed(Failure::Silent(_))) => link.escape(),
            }
        }
        while let Some(notice) = link.notice() {
            if let Notice::Booted(_) = notice {
                return Ok(Probe::Noise); // a modem at this speed, still starting: it answers at the next look
            }
        }
        Ok(if link.bytes_in == before { Probe::Nothing } else { Probe::Noise })
    }

    /// Drops DTR or switches the power, and waits as long as that takes.
    pub(super) async fn drop_or_power(&mut self, link: &mut Link, step: ResetStep) -> Result<(), Break> {
        let drop = self.settings.timing.drop;
        if step == ResetStep::Power {
            if let Some(power) = self.settings.power.clone() {
                if let Err(error) = power.switch(false) {
                    tracing::error!(%error, "cannot switch the modem's power off");
                }
                let slept = self.sleep_or_stop(drop).await;
                if let Err(error) = power.switch(true) {
                    tracing::error!(%error, "cannot switch the modem's power on");
                }
                slept?;
            }
        } else {
            // False on a pseudo-terminal, which has no such lines.
            let there = link.port.set_lines(false);
            let slept = if there { self.sleep_or_stop(drop).await } else { Ok(()) };
            link.port.set_lines(true);
            slept?;
        }
        link.clear();
        Ok(())
    }

    /// A pause that only a stop breaks.
    async fn sleep_or_stop(&mut self, pause: Duration) -> Result<(), Break> {
        match self.pause(pause).await {
            Err(Break::Stop) => Err(Break::Stop),
            _ => Ok(()),
        }
    }
}
