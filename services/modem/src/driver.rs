//! The modem's task: one loop that owns the port, and answers every request whatever state the modem is in.
//!
//! Contract: [`run`] ends only by [`crate::Modem::stop`] or when nobody holds a handle. All waiting goes through
//! [`Driver::pause`] and [`Driver::command`], which serve requests meanwhile: a send while the modem is not ready is
//! refused at once, a reset or stop breaks what is under way (but not a PDU on its way).
//!
//! Failure classes: [`Break`] says why the work on a link ended; none of them ends the task but `Stop`.

mod bringup;
mod find;
mod receive;
mod recover;
mod serve;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::at::{Answer, Command, Expect, Failure, Final, Notice};
use crate::family::{Family, generic};
use crate::inbox::Inbox;
use crate::ladder::Ladder;
use crate::link::Link;
use crate::pins::PinMemory;
use crate::state::now_s;
use crate::{Event, Phase, Request, ResetStep, SendError, Settings, State, Token};

/// So many signs of a restart in a row are believed.
const MAX_SIGNS: u8 = 2;
/// Sends that wait for their turn.
const MAX_SENDS: usize = 16;

/// Why the work on a link ended.
#[derive(Debug)]
pub(crate) enum Break {
    /// The driver is told to stop.
    Stop,
    /// A reset is wanted from this step on, and why.
    Reset(ResetStep, String),
    /// The port is gone.
    Lost(String),
    /// The modem does not answer.
    Silent(String),
    /// The modem restarted by itself.
    Restarted(String),
}

/// How a command ended that was not answered.
#[derive(Debug)]
enum Fault {
    Failed(Failure),
    /// The port went while the command was at this stage.
    Lost(crate::at::Stage, String),
}

#[derive(Debug)]
struct SendJob {
    tpdu: Vec<u8>,
    smsc: Vec<u8>,
    more_follows: bool,
    answer: oneshot::Sender<Result<u8, SendError>>,
}

/// What was learnt of the modem on this link.
#[derive(Debug)]
struct Session {
    family: &'static Family,
    /// `+CSMS` service in force.
    csms: u8,
    /// `+CNMI` parameters in force.
    cnmi: Option<String>,
    /// `+CREG=1` was taken, so `+CREG?` answers with 1 until the modem restarts.
    creg: bool,
    cereg: bool,
    /// Last `<stat>` by command.
    registered: BTreeMap<String, u8>,
    /// Memory selected for reading.
    memory: String,
    /// `+CMMS` works.
    cmms: bool,
    /// `+CMMS` is in force until then.
    cmms_until: Option<Instant>,
}

impl Session {
    fn new(family: &'static Family) -> Session {
        Session {
            family,
            csms: 0,
            cnmi: None,
            creg: false,
            cereg: false,
            registered: BTreeMap::new(),
            memory: String::new(),
            cmms: family.cmms > 0,
            cmms_until: None,
        }
    }
}

pub(crate) struct Driver {
    settings: Settings,
    requests: mpsc::Receiver<Request>,
    events: mpsc::Sender<Event>,
    state: watch::Sender<State>,
    sends: VecDeque<SendJob>,
    inbox: Inbox,
    pins: PinMemory,
    ladder: Ladder,
    session: Session,
    /// Speed at which the modem was found last.
    last_baud: Option<u32>,
    reset: Option<ResetStep>,
    stopping: bool,
    /// A notice asks for a look at registration, SIM or memory.
    look: bool,
    /// The boards and DTR are left alone until then.
    next_harsh: Option<Instant>,
    /// Signs of an unnoticed restart (echo, lost settings) since the modem was ready: a modem that shows them always does
    /// not restart, it is just so.
    signs: u8,
    /// Without a network since then, and how often something was done about it.
    alone: Option<(Instant, u32)>,
    /// Message lines read while getting in step: they may settle a send of unknown outcome.
    strays: VecDeque<String>,
}

/// Runs the modem until it is stopped.
pub(crate) async fn run(
    settings: Settings,
    requests: mpsc::Receiver<Request>,
    events: mpsc::Sender<Event>,
    state: watch::Sender<State>,
) {
    let family = settings.family.as_deref().and_then(crate::family::by_name).unwrap_or(generic());
    let mut driver = Driver {
        pins: PinMemory::load(settings.pin_memory.as_deref()),
        settings,
        requests,
        events,
        state,
        sends: VecDeque::new(),
        inbox: Inbox::default(),
        ladder: Ladder::default(),
        session: Session::new(family),
        last_baud: None,
        reset: None,
        stopping: false,
        look: false,
        next_harsh: None,
        signs: 0,
        alone: None,
        strays: VecDeque::new(),
    };
    driver.live().await;
    driver.phase(Phase::Stopped, "stopped");
    while let Ok(request) = driver.requests.try_recv() {
        driver.take(request);
    }
    driver.refuse_sends();
}

impl Driver {
    async fn live(&mut self) {
        loop {
            let Ok(mut link) = Box::pin(self.find()).await else { return };
            loop {
                let mut end = match Box::pin(self.bring_up(&mut link)).await {
                    Ok(()) => Box::pin(self.serve(&mut link)).await,
                    Err(end) => end,
                };
                self.inbox.restarted();
                // A step of the ladder may itself end in a break: the port goes, the driver is stopped.
                let lost = loop {
                    let (from, reason) = match end {
                        Break::Stop => return,
                        Break::Lost(why) => {
                            self.phase(Phase::NoPort, &why);
                            break true;
                        }
                        Break::Restarted(line) => {
                            self.phase(Phase::Starting, &format!("the modem restarted by itself: {line}"));
                            self.state.send_modify(|s| s.counters.restarts += 1);
                            self.event(Event::Restarted { line });
                            break false;
                        }
                        Break::Silent(why) => (ResetStep::Attention, why),
                        Break::Reset(from, why) => (from, why),
                    };
                    match Box::pin(self.climb(&mut link, from, &reason)).await {
                        Ok(true) => break false,
                        // Nothing helped: perhaps it is another modem now, at another speed.
                        Ok(false) => break true,
                        Err(next) => end = next,
                    }
                };
                if lost {
                    break;
                }
            }
        }
    }

    /// Says where the modem is. The event goes out only when the phase changes.
    fn phase(&mut self, phase: Phase, detail: &str) {
        let mut changed = false;
        self.state.send_if_modified(|state| {
            if state.phase == phase && state.detail == detail {
                return false;
            }
            changed = state.phase != phase;
            if changed {
                state.since_s = now_s();
            }
            state.phase = phase;
            detail.clone_into(&mut state.detail);
            if matches!(phase, Phase::Ready | Phase::StorageFull) {
                state.reset = None;
            }
            if matches!(phase, Phase::NoPort | Phase::PortBusy | Phase::NotAModem | Phase::WrongSpeed | Phase::Silent) {
                state.signal_dbm = None;
                state.registration = crate::Registration::Unknown;
            }
            true
        });
        if changed {
            match phase {
                Phase::Ready | Phase::Starting | Phase::Stopped => tracing::info!(?phase, detail, "modem"),
                _ => tracing::warn!(?phase, detail, "modem"),
            }
            self.event(Event::Phase { phase, detail: detail.to_owned() });
        }
        if phase == Phase::Ready {
            self.ladder.succeeded();
            self.next_harsh = None;
            self.signs = 0;
            self.alone = None;
        }
        if !phase.can_send() {
            self.refuse_sends();
        }
    }

    /// Tells something that can be read elsewhere too: lost when nobody takes events.
    fn event(&self, event: Event) {
        let _ = self.events.try_send(event);
    }

    fn refuse_sends(&mut self) {
        let phase = self.state.borrow().phase;
        for job in self.sends.drain(..) {
            let error = if phase == Phase::Stopped { SendError::Stopped } else { SendError::NotReady(phase) };
            let _ = job.answer.send(Err(error));
        }
    }

    /// Takes a request; what cannot be done now is noted or refused.
    fn take(&mut self, request: Request) {
        match request {
            Request::Send { tpdu, smsc, more_follows, answer } => {
                let phase = self.state.borrow().phase;
                if phase.can_send() && self.sends.len() < MAX_SENDS {
                    self.sends.push_back(SendJob { tpdu, smsc, more_follows, answer });
                } else {
                    let _ = answer.send(Err(SendError::NotReady(phase)));
                }
            }
            Request::Confirm { token, done } => {
                self.confirm(token);
                let _ = done.send(());
            }
            Request::Reset { from, done } => {
                self.reset = Some(from);
                let _ = done.send(());
            }
            Request::Stop => self.stopping = true,
        }
    }

    fn confirm(&mut self, token: Token) {
        self.inbox.confirm(token);
    }

    /// Whether an order breaks the work under way.
    fn check_orders(&mut self) -> Result<(), Break> {
        if self.stopping {
            return Err(Break::Stop);
        }
        match self.reset.take() {
            Some(step) => Err(Break::Reset(step, "ordered by an administrator".to_owned())),
            None => Ok(()),
        }
    }

    /// Takes the next request; `None` of the channel means that nobody holds a handle any more.
    fn received(&mut self, request: Option<Request>) {
        match request {
            Some(request) => self.take(request),
            None => self.stopping = true,
        }
    }

    /// Waits without a port.
    async fn pause(&mut self, pause: Duration) -> Result<(), Break> {
        let until = Instant::now() + pause;
        loop {
            self.check_orders()?;
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Ok(()),
                request = self.requests.recv() => self.received(request),
            }
        }
    }

    /// Waits with a port, taking what the modem says. Ends early when a notice asks for a look.
    async fn idle(&mut self, link: &mut Link, pause: Duration) -> Result<(), Break> {
        let until = Instant::now() + pause;
        while Instant::now() < until && !self.look {
            self.check_orders()?;
            self.read_notices(link)?;
            tokio::select! {
                biased;
                request = self.requests.recv() => self.received(request),
                moved = link.pump(Some(until)) => moved.map_err(|lost| Break::Lost(lost.0))?,
            }
        }
        self.read_notices(link)
    }

    /// Runs one command to its end, whatever is ordered meanwhile.
    async fn command(&mut self, link: &mut Link, mut command: Command) -> Result<Answer, Fault> {
        if let Some(most) = self.settings.timing.answer_max {
            let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
            command.timeout_ms = command.timeout_ms.min(most);
        }
        link.start(command);
        let mut notices = Vec::new();
        let end = loop {
            tokio::select! {
                biased;
                moved = link.pump(None) => {
                    if let Err(lost) = moved {
                        let stage = link.engine.stage().unwrap_or(crate::at::Stage::Answer);
                        break Err(Fault::Lost(stage, lost.0));
                    }
                }
                request = self.requests.recv(), if !self.stopping => self.received(request),
            }
            if let Some(end) = link.done() {
                break end.map_err(Fault::Failed);
            }
            // Notices are kept for later, or pump would return at once for ever.
            while let Some(notice) = link.notice() {
                notices.push(notice);
            }
        };
        link.put_back(notices);
        end
    }

    /// Asks the modem. A command that is not answered is an `ERROR` if the modem can be brought in step again.
    async fn ask(&mut self, link: &mut Link, command: Command) -> Result<Answer, Break> {
        self.check_orders()?;
        let text = command.text.clone();
        match self.command(link, command).await {
            Ok(answer) => Ok(answer),
            Err(Fault::Lost(_, why)) => Err(Break::Lost(why)),
            Err(Fault::Failed(Failure::Restarted(_, line))) => Err(Break::Restarted(line)),
            Err(Fault::Failed(Failure::Silent(_))) => {
                tracing::debug!(command = %text, "no answer");
                self.step_in(link, &text).await?;
                Ok(Answer { lines: Vec::new(), last: Final::Error, garbled: true })
            }
        }
    }

    /// Asks by a plain command line with the family's time.
    async fn say(&mut self, link: &mut Link, text: &str, expect: Expect) -> Result<Answer, Break> {
        let command = Command::new(text).expect(expect).within_ms(self.session.family.command_ms.max(1_000));
        self.ask(link, command).await
    }

    /// The first line of the answer after `prefix`, when the answer is good.
    async fn line(&mut self, link: &mut Link, text: &str, prefix: &str) -> Result<Option<String>, Break> {
        let answer = self.say(link, text, Expect::Prefix(prefix.to_owned())).await?;
        Ok(if answer.last == Final::Ok { answer.lines.into_iter().next() } else { None })
    }

    /// Whether the modem took the command.
    async fn set(&mut self, link: &mut Link, text: &str) -> Result<bool, Break> {
        Ok(self.say(link, text, Expect::Nothing).await?.last == Final::Ok)
    }

    /// Gets in step with a modem after silence: ESC leaves a hanging prompt, and an answer that only our question
    /// can have tells old answers from new. Three tries, then the modem is silent.
    async fn step_in(&mut self, link: &mut Link, after: &str) -> Result<(), Break> {
        for attempt in 0..3 {
            link.escape();
            let sync = match attempt {
                0 | 1 => Command::new("AT+CMEE?").expect(Expect::Sync("+CMEE:".to_owned())),
                // A modem without +CMEE: any OK will do after so long a silence.
                _ => Command::new("AT"),
            };
            match self.command(link, sync.within_ms(1_500)).await {
                Ok(_) => {
                    self.read_notices(link)?;
                    return Ok(());
                }
                Err(Fault::Lost(_, why)) => return Err(Break::Lost(why)),
                Err(Fault::Failed(Failure::Restarted(_, line))) => return Err(Break::Restarted(line)),
                Err(Fault::Failed(Failure::Silent(_))) => {}
            }
        }
        Err(Break::Silent(format!("no answer to {after}, nor to ESC and AT")))
    }

    /// Takes what the modem said besides answers.
    fn read_notices(&mut self, link: &mut Link) -> Result<(), Break> {
        while let Some(notice) = link.notice() {
            match notice {
                Notice::Stored { memory, index } => self.inbox.announced(&memory, index),
                Notice::Message(pdu) | Notice::Report(pdu) => {
                    self.state.send_modify(|s| s.counters.received += 1);
                    self.inbox.direct(pdu, self.session.csms == 1);
                }
                Notice::Ring => self.event(Event::Ring { number: None }),
                Notice::Caller(number) => self.event(Event::Ring { number: Some(number).filter(|n| !n.is_empty()) }),
                Notice::Registration(name, stat) => {
                    self.session.registered.insert(name, stat);
                    self.look = true;
                }
                Notice::Sim(_) | Notice::Full(_) => self.look = true,
                Notice::Booted(line) => return Err(Break::Restarted(line)),
                Notice::Echo => {
                    self.signs = self.signs.saturating_add(1);
                    return Err(Break::Restarted("it echoes again, its settings are gone".to_owned()));
                }
                Notice::Prompt => link.escape(),
                Notice::Other(line) => tracing::debug!(line, "unsolicited"),
                Notice::Stray(line) => {
                    self.state.send_modify(|s| s.counters.garbled += 1);
                    tracing::debug!(line, "a line that nobody asked for");
                    if self.strays.len() >= 32 {
                        self.strays.pop_front();
                    }
                    self.strays.push_back(line);
                }
                Notice::Garbled(line) => {
                    self.state.send_modify(|s| s.counters.garbled += 1);
                    tracing::debug!(line, "garbled");
                }
            }
        }
        Ok(())
    }
}
