//! From a modem that answers `AT` to one that sends and receives.
//!
//! Contract: [`Driver::bring_up`] ends when everything is set and the messages in the modem are listed; SIM faults are
//! phases in which it waits, for ever, serving requests. A PIN is entered at most once a SIM ([`crate::pins`]).
//! Failure classes: [`Break`].

use std::time::Duration;

use super::{Break, Driver, MAX_SIGNS, Session};
use crate::at::{Command, Expect, Final, fields, plain};
use crate::family::{by_name, find, generic};
use crate::link::Link;
use crate::pins::{Decision, decide};
use crate::{Phase, State};

/// How many looks at a missing SIM before the modem is restarted to make it look again.
const SIM_LOOKS: u32 = 60;

impl Driver {
    /// Brings the modem up.
    pub(super) async fn bring_up(&mut self, link: &mut Link) -> Result<(), Break> {
        self.phase(Phase::Starting, "bringing the modem up");
        self.look = false;
        self.strays.clear();
        let patience = Duration::from_secs(self.session.family.boot_s);
        if !self.answers_within(link, patience).await? {
            return Err(Break::Silent("no answer to AT while starting".to_owned()));
        }
        self.session = Session::new(self.session.family);
        // V.250 6.2.4, 6.2.5, 6.2.6; TS 27.007 9.1: error codes as numbers
        let mut quiet = self.set(link, "ATE0Q0V1").await?;
        if !quiet {
            quiet = self.set(link, "ATE0").await?;
            self.set(link, "ATV1").await?;
        }
        link.engine.set_echo_off(quiet && self.signs < MAX_SIGNS);
        self.set(link, "AT+CMEE=1").await?;
        self.identify(link).await?;
        self.make_ready(link).await?;
        self.open_sim(link).await?;
        self.read_sim(link).await?;
        self.set_messages(link).await?;
        self.watch_network(link).await?;
        self.list_all(link).await?;
        self.look_around(link, true).await
    }

    async fn identify(&mut self, link: &mut Link) -> Result<(), Break> {
        let maker = self.text(link, &["AT+CGMI", "AT+GMI"], "+CGMI").await?;
        let model = self.text(link, &["AT+CGMM", "AT+GMM"], "+CGMM").await?;
        let revision = self.text(link, &["AT+CGMR", "AT+GMR"], "+CGMR").await?;
        let imei = self.text(link, &["AT+CGSN", "AT+GSN"], "+CGSN").await?;
        let found = match self.settings.family.as_deref().map(by_name) {
            Some(Some(family)) => family,
            Some(None) => {
                tracing::warn!(family = self.settings.family, "no such modem family; using what the modem says");
                find(maker.as_deref().unwrap_or(""), model.as_deref().unwrap_or(""))
            }
            None => find(maker.as_deref().unwrap_or(""), model.as_deref().unwrap_or("")),
        };
        self.session = Session::new(found);
        link.engine.set_dialect(found.dialect.clone());
        tracing::info!(maker, model, family = found.name, "modem found");
        self.state.send_modify(|s| {
            s.maker = maker;
            s.model = model;
            s.revision = revision;
            s.imei = imei;
            s.family = Some(found.name.clone());
        });
        Ok(())
    }

    /// The text answer of the first command that is answered well.
    async fn text(&mut self, link: &mut Link, commands: &[&str], prefix: &str) -> Result<Option<String>, Break> {
        for command in commands {
            let answer = self.say(link, command, Expect::Text).await?;
            if answer.last == Final::Ok {
                let lines: Vec<String> = answer.lines.iter().map(|l| plain(l, prefix)).filter(|l| !l.is_empty()).collect();
                if !lines.is_empty() {
                    return Ok(Some(lines.join(" ").chars().take(100).collect()));
                }
            }
        }
        Ok(None)
    }

    /// Flow control, the family's first commands, radio on.
    async fn make_ready(&mut self, link: &mut Link) -> Result<(), Break> {
        let family = self.session.family;
        let wanted = self.settings.rts_cts.unwrap_or(family.rts_cts);
        let in_force = link.port.set_rts_cts(wanted, self.settings.rts_cts == Some(true));
        tracing::debug!(wanted, in_force, "RTS/CTS");
        for command in &family.init {
            if !self.set(link, command).await? {
                tracing::debug!(command, "the modem does not take this command of its family");
            }
        }
        // TS 27.007 8.2; makers give it up to 15 s
        if let Some(line) = self.line(link, "AT+CFUN?", "+CFUN:").await?
            && fields(&line, "+CFUN:").is_some_and(|f| f[0] != "1")
        {
            self.ask(link, Command::new("AT+CFUN=1").within_ms(15_000)).await?;
        }
        Ok(())
    }

    /// Waits until the SIM is usable; enters the PIN once.
    async fn open_sim(&mut self, link: &mut Link) -> Result<(), Break> {
        let mut looks = 0;
        loop {
            // TS 27.007 8.3; makers give it 5 s
            let command = Command::new("AT+CPIN?").prefix("+CPIN:").within_ms(5_000);
            let answer = self.ask(link, command).await?;
            let word = answer.lines.first().map(|l| plain(l, "+CPIN"));
            let mut pause = self.settings.timing.wait_network;
            match (word.as_deref(), &answer.last) {
                (Some("READY"), Final::Ok) => {
                    // READY says that the right PIN was entered, by us or by somebody else.
                    if !self.pins.is_empty() {
                        let iccid = self.iccid(link).await?;
                        self.pins.accepted(iccid.as_deref());
                    }
                    return Ok(());
                }
                (Some("SIM PIN"), Final::Ok) | (_, Final::Cme(Some(11))) => {
                    if self.enter_pin(link).await? {
                        pause = pause.min(Duration::from_millis(300));
                    }
                }
                (Some("SIM PUK"), Final::Ok) | (_, Final::Cme(Some(12))) => {
                    self.phase(Phase::PukWanted, "the SIM card is locked; its PUK must be entered in a telephone");
                }
                (Some(other), Final::Ok) => {
                    self.phase(Phase::NoSim, &format!("the SIM card or the modem is locked: {other}"));
                }
                // Busy: it is still being read.
                (_, Final::Cme(Some(14))) => pause = pause.min(Duration::from_millis(500)),
                (_, Final::Cme(Some(10))) => self.phase(Phase::NoSim, "there is no SIM card in the modem"),
                (_, Final::Cme(Some(code @ (13 | 15)))) => {
                    self.phase(Phase::NoSim, &format!("the SIM card cannot be read (+CME ERROR: {code})"));
                }
                (_, Final::Ok | Final::Error) if looks < 10 => pause = pause.min(Duration::from_secs(1)),
                // A modem without +CPIN: go on, the network will tell.
                (_, Final::Error) => return Ok(()),
                (_, last) => self.phase(Phase::NoSim, &format!("AT+CPIN? was answered by {last:?}")),
            }
            looks += 1;
            if looks % SIM_LOOKS == 0 && self.state.borrow().phase == Phase::NoSim {
                // Many modems look for a card only when they start.
                return Err(Break::Reset(crate::ResetStep::Restart, "it has found no SIM card for long".to_owned()));
            }
            self.look = false;
            self.idle(link, pause).await?;
        }
    }

    /// Enters the PIN if that is safe. True: it was entered and not refused.
    async fn enter_pin(&mut self, link: &mut Link) -> Result<bool, Break> {
        let Some(pin) = self.settings.pin.clone() else {
            self.phase(Phase::PinWanted, "the SIM card wants a PIN and none is configured");
            return Ok(false);
        };
        let iccid = self.iccid(link).await?;
        let left = self.tries_left(link).await?;
        match decide(self.pins.spent(iccid.as_deref(), &pin), left) {
            Decision::Try => {}
            Decision::Refused => {
                let known = "the SIM card did not accept the configured PIN before; it is not tried again";
                self.phase(Phase::PinWrong, known);
                return Ok(false);
            }
            Decision::LastTry => {
                let last = "the SIM card has one PIN try left; it is not risked";
                self.phase(Phase::PinWrong, last);
                return Ok(false);
            }
        }
        if let Err(error) = self.pins.trying(iccid.as_deref(), &pin) {
            self.phase(Phase::PinWanted, &format!("the PIN is not tried, because the try cannot be written down: {error}"));
            return Ok(false);
        }
        let command = Command::new(format!("AT+CPIN=\"{}\"", pin.digits())).within_ms(10_000);
        let answer = self.ask(link, command).await?;
        if answer.last == Final::Ok {
            return Ok(true);
        }
        tracing::error!(last = ?answer.last, "the SIM card refused the PIN");
        self.phase(Phase::PinWrong, &format!("the SIM card refused the configured PIN ({:?})", answer.last));
        Ok(false)
    }

    /// The SIM card's serial number, readable without its PIN.
    async fn iccid(&mut self, link: &mut Link) -> Result<Option<String>, Break> {
        let ways = [&self.session.family.iccid, &generic().iccid];
        for (command, prefix) in ways.into_iter().flatten() {
            if let Some(line) = self.line(link, command, prefix).await? {
                let longest = line.split(|c: char| !c.is_ascii_hexdigit()).max_by_key(|part| part.len()).unwrap_or("");
                if longest.len() >= 18 {
                    return Ok(Some(longest.to_ascii_uppercase()));
                }
            }
        }
        Ok(None)
    }

    /// How many PIN tries the SIM card has left.
    async fn tries_left(&mut self, link: &mut Link) -> Result<Option<u8>, Break> {
        let ways = [&self.session.family.pin_tries, &generic().pin_tries];
        for (command, prefix, field) in ways.into_iter().flatten() {
            if let Some(line) = self.line(link, command, prefix).await?
                && let Some(left) = fields(&line, prefix).and_then(|f| f.get(*field)?.parse().ok())
            {
                return Ok(Some(left));
            }
        }
        Ok(None)
    }

    async fn read_sim(&mut self, link: &mut Link) -> Result<(), Break> {
        let imsi = self.text(link, &["AT+CIMI"], "+CIMI").await?;
        self.state.send_modify(|s| s.imsi = imsi.filter(|i| i.bytes().all(|b| b.is_ascii_digit())));
        // TS 27.005 3.3.1. Right after the PIN the SIM may still be busy.
        for _ in 0..5 {
            let command = Command::new("AT+CSCA?").prefix("+CSCA:").within_ms(5_000);
            let answer = self.ask(link, command).await?;
            let number = answer.lines.first().and_then(|l| fields(l, "+CSCA:")).map(|f| f[0].clone()).unwrap_or_default();
            if answer.last == Final::Ok {
                if number.is_empty()
                    && let Some(smsc) = self.settings.smsc.clone()
                {
                    self.set(link, &format!("AT+CSCA=\"{}\"", smsc.replace('"', ""))).await?;
                    self.state.send_modify(|s| s.smsc = Some(smsc));
                } else {
                    self.state.send_modify(|s| s.smsc = Some(number).filter(|n| !n.is_empty()));
                }
                break;
            }
            self.idle(link, self.settings.timing.wait_network.min(Duration::from_secs(1))).await?;
        }
        Ok(())
    }

    /// PDU mode, service, memory, indications (TS 27.005 3.2).
    async fn set_messages(&mut self, link: &mut Link) -> Result<(), Break> {
        let family = self.session.family;
        self.set(link, "AT+CMGF=0").await?;
        for service in &family.csms {
            let answer = self.say(link, &format!("AT+CSMS={service}"), Expect::Prefix("+CSMS:".to_owned())).await?;
            if answer.last == Final::Ok {
                self.session.csms = *service;
                break;
            }
        }
        self.choose_memory(link).await?;
        for parameters in &family.cnmi {
            if self.set(link, &format!("AT+CNMI={parameters}")).await? {
                self.session.cnmi = Some(parameters.clone());
                break;
            }
        }
        if self.session.cnmi.is_none() {
            tracing::warn!("the modem takes no +CNMI: messages are found by listing alone");
        }
        if family.wake_ack && self.session.csms == 1 {
            self.set(link, "AT+CNMA").await?; // +CMS ERROR: 340 when nothing was owed
        }
        // Who calls: for the log alone, so a refusal is no fault.
        self.set(link, "AT+CLIP=1").await?;
        Ok(())
    }

    /// The memory for received messages: the family's first that the modem takes, else as it is.
    async fn choose_memory(&mut self, link: &mut Link) -> Result<(), Break> {
        for memory in &self.session.family.memories {
            let all = format!("AT+CPMS=\"{memory}\",\"{memory}\",\"{memory}\"");
            let reading = format!("AT+CPMS=\"{memory}\"");
            for text in [all, reading] {
                let command = Command::new(text).prefix("+CPMS:").within_ms(5_000);
                if self.ask(link, command).await?.last == Final::Ok {
                    self.session.memory.clone_from(memory);
                    self.read_storage(link).await?;
                    return Ok(());
                }
            }
        }
        self.read_storage(link).await
    }

    async fn watch_network(&mut self, link: &mut Link) -> Result<(), Break> {
        self.session.creg = self.set(link, "AT+CREG=1").await? && self.signs < MAX_SIGNS;
        self.session.cereg = self.set(link, "AT+CEREG=1").await?;
        Ok(())
    }

    pub(super) fn told(&self, tell: impl FnOnce(&mut State)) {
        let before = self.state.borrow().clone();
        let mut after = before.clone();
        tell(&mut after);
        if after != before {
            self.state.send_replace(after);
        }
    }
}
