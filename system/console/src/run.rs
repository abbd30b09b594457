//! The conversation on a terminal.

use crate::child::{self, Control, Event, Running};
use crate::session::{Answer, Ask, Effect, Job, Place, Session};
use crate::terminal::Terminal;
use crate::words::for_log;
use crate::{Error, Settings, Tongue, net};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;

/// While the terminal has so many bytes to show, the running order waits.
const BACKLOG: usize = 32 << 10;

type Gathering = Pin<Box<dyn Future<Output = Vec<Answer>> + Send>>;

/// Talks on the terminal until `stop`.
///
/// # Errors
/// The terminal cannot be used, or went away.
pub async fn run(settings: Settings, stop: impl Future<Output = ()>) -> Result<(), Error> {
    let terminal = Terminal::open(&settings.tty, settings.serial())?;
    let (installer, chinese) = (settings.installer, settings.has_chinese());
    let what = if installer { "Twinpost installer" } else { "Twinpost" };
    let title = format!("{what} {} - {}", settings.version, settings.name());
    let mut session = Session::new(Place { title, orders: settings.orders, chinese, installer });
    let mut work = Work { settings: &settings, out: VecDeque::new(), running: None, gathering: None };
    tracing::info!(tty = settings.name(), orders = settings.orders, "the console is ready");
    let effects = session.start();
    work.carry(effects, session.tongue());
    let mut buffer = vec![0; 1024];
    tokio::pin!(stop);
    loop {
        let Work { out, running, gathering, .. } = &mut work;
        let open = out.len() < BACKLOG;
        let has_output = !out.is_empty();
        let effects = tokio::select! {
            () = &mut stop => return Ok(()),
            read = terminal.read(&mut buffer) => session.bytes(&buffer[..read?]),
            written = terminal.write(out.as_slices().0), if has_output => {
                let written = written?;
                out.drain(..written);
                Vec::new()
            }
            event = next(running), if open && running.is_some() => match event {
                Some(Event::Output(output)) => session.output(&output),
                Some(Event::End(code)) => {
                    tracing::info!(tty = settings.name(), code, "an order of the console ended");
                    *running = None;
                    session.ended(code)
                }
                None => {
                    *running = None;
                    session.ended(crate::frame::START)
                }
            },
            answers = gathered(gathering), if gathering.is_some() => {
                *gathering = None;
                session.gathered(&answers)
            }
        };
        let tongue = session.tongue();
        if work.carry(effects, tongue) {
            // What was being found out is not waited for any more.
            let effects = session.gathered(&[]);
            work.carry(effects, tongue);
        }
    }
}

async fn next(running: &mut Option<Running>) -> Option<Event> {
    match running {
        Some(running) => running.events.recv().await,
        None => std::future::pending().await,
    }
}

async fn gathered(gathering: &mut Option<Gathering>) -> Vec<Answer> {
    match gathering {
        Some(gathering) => gathering.await,
        None => std::future::pending().await,
    }
}

struct Work<'a> {
    settings: &'a Settings,
    out: VecDeque<u8>,
    running: Option<Running>,
    gathering: Option<Gathering>,
}

impl Work<'_> {
    /// Carries effects out. True: a gathering was given up.
    fn carry(&mut self, effects: Vec<Effect>, tongue: Tongue) -> bool {
        let mut given_up = false;
        for effect in effects {
            match effect {
                Effect::Write(bytes) => self.out.extend(bytes),
                Effect::Start(job) => {
                    self.log(&job);
                    self.running = Some(Running::start(job, self.settings, tongue));
                }
                Effect::Interrupt if self.gathering.take().is_some() => given_up = true,
                Effect::Interrupt => self.tell(Control::Interrupt),
                Effect::Kill => self.tell(Control::Kill),
                Effect::Input(bytes) => self.tell(Control::Input(bytes)),
                Effect::Gather(asks) => self.gathering = Some(Box::pin(gather(self.settings.clone(), asks, tongue))),
            }
        }
        given_up
    }

    fn tell(&self, control: Control) {
        if let Some(running) = &self.running {
            running.tell(control);
        }
    }

    /// Whoever used the console left a trace.
    fn log(&self, job: &Job) {
        let tty = self.settings.name();
        match job {
            Job::Machine(words) => tracing::info!(tty, order = for_log(words), by = "program", "an order on the console"),
            Job::Person(words) => tracing::info!(tty, order = for_log(words), by = "person", "an order on the console"),
            Job::Probe(probe) => tracing::info!(tty, ?probe, by = "person", "a test on the console"),
        }
    }
}

async fn gather(settings: Settings, asks: Vec<Ask>, tongue: Tongue) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(asks.len());
    for ask in asks {
        answers.push(match ask {
            Ask::Order(words) => child::capture(&settings, words, tongue).await,
            Ask::BootReport => report(&settings).await,
            Ask::Addresses => net::addresses(),
        });
    }
    answers
}

async fn report(settings: &Settings) -> Answer {
    use tokio::io::AsyncReadExt;
    let path = settings.boot_report.display();
    let file = tokio::fs::File::open(&settings.boot_report).await.map_err(|error| format!("{path}: {error}"))?;
    let mut text = Vec::new();
    file.take(1 << 20).read_to_end(&mut text).await.map_err(|error| format!("{path}: {error}"))?;
    serde_json::from_slice(&text).map_err(|error| format!("{path}: {error}"))
}
