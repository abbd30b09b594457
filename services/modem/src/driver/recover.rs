//! Climbing the reset ladder with a modem that was known and went silent, or by order.
//!
//! Contract: after each step the modem is given its time to start; the first step that brings an answer ends the climb
//! ([`Driver::climb`] gives true). When none helps, the phase is silent and the pause of the ladder is waited out.
//! Failure classes: [`Break::Stop`], [`Break::Lost`], [`Break::Reset`] for a new order.

use std::time::Duration;

use tokio::time::Instant;

use super::{Break, Driver, Fault};
use crate::at::{Command, Failure, Final, Notice};
use crate::ladder::Ladder;
use crate::link::Link;
use crate::{Phase, ResetStep};

impl Driver {
    /// Takes one step after the other. True: the modem answers and is to be brought up.
    pub(super) async fn climb(&mut self, link: &mut Link, from: ResetStep, reason: &str) -> Result<bool, Break> {
        let steps = Ladder::steps(from, self.session.family.dtr, self.settings.power.is_some());
        self.phase(Phase::Resetting, reason);
        for step in steps {
            self.check_orders()?;
            self.step_taken(step, reason);
            self.phase(Phase::Resetting, &format!("{step}: {reason}"));
            let patience = match step {
                ResetStep::Attention => {
                    link.escape();
                    Duration::from_secs(3)
                }
                ResetStep::Restart => {
                    if !self.restart(link).await? {
                        continue;
                    }
                    Duration::from_secs(self.session.family.boot_s)
                }
                ResetStep::Dtr | ResetStep::Power => {
                    self.drop_or_power(link, step).await?;
                    Duration::from_secs(self.session.family.boot_s)
                }
            };
            if self.answers_within(link, patience).await? {
                return Ok(true);
            }
        }
        let pause = self.ladder.failed(&self.settings.timing.clone());
        self.phase(Phase::Silent, &format!("no step of the reset ladder helped ({reason}); next try in {} s", pause.as_secs()));
        self.next_harsh = Some(Instant::now() + pause);
        self.idle_quietly(link, pause.min(self.settings.timing.port_retry_max)).await?;
        Ok(false)
    }

    /// The family's restart commands; false when none was answered OK.
    async fn restart(&mut self, link: &mut Link) -> Result<bool, Break> {
        for text in &self.session.family.restart {
            link.escape();
            // TS 27.007 8.2: the answer may come before the restart or be swallowed by it.
            match self.command(link, Command::new(text.as_str()).within_ms(10_000)).await {
                Ok(answer) if answer.last == Final::Ok => {
                    link.engine.set_echo_off(false);
                    return Ok(true);
                }
                Ok(_) | Err(Fault::Failed(Failure::Silent(_))) => {}
                Err(Fault::Failed(Failure::Restarted(..))) => return Ok(true),
                Err(Fault::Lost(_, why)) => return Err(Break::Lost(why)),
            }
        }
        Ok(false)
    }

    /// Asks `AT` until it is answered, at most for `patience`. The modem's own noise of starting is ignored.
    pub(super) async fn answers_within(&mut self, link: &mut Link, patience: Duration) -> Result<bool, Break> {
        let patience = self.settings.timing.boot_max.map_or(patience, |most| patience.min(most));
        let until = Instant::now() + patience;
        link.engine.set_echo_off(false);
        loop {
            self.check_orders()?;
            match self.command(link, Command::new("AT").within_ms(500)).await {
                Ok(_) => {
                    // What it said while it started is no news; messages are in its memory or come again.
                    while let Some(notice) = link.notice() {
                        tracing::debug!(?notice, "said while starting");
                    }
                    return Ok(true);
                }
                Err(Fault::Lost(_, why)) => return Err(Break::Lost(why)),
                Err(Fault::Failed(_)) if Instant::now() >= until => return Ok(false),
                Err(Fault::Failed(_)) => link.escape(),
            }
        }
    }

    /// Waits, and drops what a silent modem says.
    async fn idle_quietly(&mut self, link: &mut Link, pause: Duration) -> Result<(), Break> {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            self.check_orders()?;
            tokio::select! {
                biased;
                request = self.requests.recv() => self.received(request),
                moved = link.pump(Some(until)) => moved.map_err(|lost| Break::Lost(lost.0))?,
            }
            while let Some(notice) = link.notice() {
                if let Notice::Booted(_) = notice {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
