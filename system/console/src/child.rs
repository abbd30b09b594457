//! The one job of a terminal: an order as a child process, or a test of the network.
//!
//! Contract: a job is a task that speaks through [`Events`]; it ends when its console ends. A child gets exactly the words of its
//! order and a small environment, and is the leader of its own process group, which gets the signals: nothing that it
//! started outlives it. An order of a program has no standard input and its two outputs are one pipe; an order of a
//! person has a pseudo-terminal of its own, whose output is passed on.
//!
//! Failure classes: cannot be started (exit code 126), time limit (124), killed by a signal (128 and its number).

use crate::frame::{START, TIME};
use crate::probe::{self, Lines, Probe};
use crate::session::Job;
use crate::terminal::Line;
use crate::{Settings, Tongue};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// After Ctrl-C an order has so long to end by itself.
const GRACE: Duration = Duration::from_secs(3);
/// After the end of an order, what it said is read for so long at most: a grandchild may hold the pipe open.
const DRAIN: Duration = Duration::from_millis(500);
/// The longest output that the menu reads, in bytes.
const CAPTURE_MAX: u64 = 4 << 20;
/// The menu waits so long for one answer.
const CAPTURE_WAIT: Duration = Duration::from_secs(20);

/// What a job says.
#[derive(Debug)]
pub(crate) enum Event {
    /// Output.
    Output(Vec<u8>),
    /// The end, with an exit code.
    End(u8),
}

/// What a job is told.
#[derive(Debug)]
pub(crate) enum Control {
    /// End; said twice: at once.
    Interrupt,
    /// End at once.
    Kill,
    /// Typed for it.
    Input(Vec<u8>),
}

/// A running job. Dropped, it ends.
#[derive(Debug)]
pub(crate) struct Running {
    /// What it says.
    pub(crate) events: mpsc::Receiver<Event>,
    control: mpsc::UnboundedSender<Control>,
}

impl Running {
    /// Starts a job.
    pub(crate) fn start(job: Job, settings: &Settings, tongue: Tongue) -> Self {
        let (sender, events) = mpsc::channel(4);
        let (control, orders) = mpsc::unbounded_channel();
        let settings = settings.clone();
        tokio::spawn(async move {
            let code = match job {
                Job::Machine(words) => order(&settings, &words, tongue, false, &sender, orders).await,
                Job::Person(words) => order(&settings, &words, tongue, true, &sender, orders).await,
                Job::Probe(probe) => test(&settings, &probe, tongue, &sender, orders).await,
            };
            // Nobody listens any more when the console ends.
            let _ = sender.send(Event::End(code)).await;
        });
        Self { events, control }
    }
    /// Tells it.
    pub(crate) fn tell(&self, control: Control) {
        // It may just have ended.
        let _ = self.control.send(control);
    }
}

fn command(settings: &Settings, words: &[String], tongue: Tongue) -> Command {
    let mut command = Command::new(&settings.program);
    command.arg("ctl").arg("--dir").arg(&settings.node_folder).args(words);
    command.env_clear();
    let kept = ["PATH", "TERM", "RUST_LOG", "TZ"].map(|name| (name, std::env::var_os(name)));
    command.envs(kept.into_iter().filter_map(|(name, value)| Some((name, value?))));
    // The audit trail names who gave an order by this.
    command.env("USER", format!("console {}", settings.name())).env("LANG", tongue.locale());
    command.process_group(0).kill_on_drop(true);
    command
}

type Events = mpsc::Sender<Event>;
type Orders = mpsc::UnboundedReceiver<Control>;

async fn order(settings: &Settings, words: &[String], tongue: Tongue, person: bool, events: &Events, orders: Orders) -> u8 {
    let mut command = command(settings, words, tongue);
    let line = if person { with_terminal(&mut command) } else { with_pipe(&mut command) };
    let started = line.and_then(|line| Ok((line, command.spawn()?)));
    // The child has its own copies of the far end; ours would keep the line open.
    drop(command);
    match started {
        Ok((line, child)) => {
            let watching = words.iter().any(|word| word == "--watch");
            let limit = (!watching).then(|| Instant::now() + settings.order_limit);
            follow(line, child, limit, events, orders).await
        }
        Err(error) => {
            let text = format!("{} cannot be started: {error}\n", settings.program.display());
            let _ = events.send(Event::Output(text.into_bytes())).await;
            START
        }
    }
}

fn with_pipe(command: &mut Command) -> io::Result<Line> {
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    Line::new(OwnedFd::from(reader))
}

fn with_terminal(command: &mut Command) -> io::Result<Line> {
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(Some(&size), None)?;
    let (input, output) = (pair.slave.try_clone()?, pair.slave.try_clone()?);
    command.stdin(input).stdout(output).stderr(pair.slave);
    Line::new(pair.master)
}

/// Carries output and signals between a child and its console until both the child and its output have ended.
async fn follow(line: Line, mut child: Child, limit: Option<Instant>, events: &Events, mut orders: Orders) -> u8 {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let signal = |signal: Signal| {
        // Gone already is as good.
        let _ = group.map(|group| killpg(group, signal));
    };
    let mut buffer = vec![0; 4096];
    let mut held: Option<Vec<u8>> = None;
    let mut typed: Vec<u8> = Vec::new();
    let (mut end_of_output, mut over_time, mut listening) = (false, false, true);
    let mut status: Option<ExitStatus> = None;
    let (mut kill_at, mut drained_at): (Option<Instant>, Option<Instant>) = (None, None);
    let at = |when: Option<Instant>| async move {
        match when {
            Some(when) => tokio::time::sleep_until(when).await,
            None => std::future::pending().await,
        }
    };
    while status.is_none() || held.is_some() || !end_of_output {
        tokio::select! {
            permit = events.reserve(), if held.is_some() => match (permit, held.take()) {
                (Ok(permit), Some(output)) => permit.send(Event::Output(output)),
                _ => end_of_output = true,
            },
            read = line.read(&mut buffer), if held.is_none() && !end_of_output => match read {
                // A pseudo-terminal says EIO when its last user has closed it (pty(7)).
                Ok(0) | Err(_) => end_of_output = true,
                Ok(length) => held = Some(buffer[..length].to_vec()),
            },
            written = line.write(&typed), if !typed.is_empty() => match written {
                Ok(length) => drop(typed.drain(..length)),
                Err(_) => typed.clear(),
            },
            ended = child.wait(), if status.is_none() => {
                status = Some(ended.unwrap_or_default());
                // What it started and left behind ends with it.
                signal(Signal::SIGKILL);
                drained_at = Some(Instant::now() + DRAIN);
            }
            told = orders.recv(), if listening => match told {
                Some(Control::Interrupt) if kill_at.is_none() => {
                    signal(Signal::SIGINT);
                    kill_at = Some(Instant::now() + GRACE);
                }
                Some(Control::Interrupt | Control::Kill) => signal(Signal::SIGKILL),
                // A child that does not read is not given more than this.
                Some(Control::Input(bytes)) if typed.len() < (64 << 10) => typed.extend_from_slice(&bytes),
                Some(Control::Input(_)) => {}
                None => {
                    listening = false;
                    signal(Signal::SIGKILL);
                }
            },
            () = at(kill_at), if status.is_none() => {
                signal(Signal::SIGKILL);
                kill_at = Some(Instant::now() + GRACE);
            }
            () = at(limit), if status.is_none() && !over_time => {
                over_time = true;
                signal(Signal::SIGKILL);
            }
            () = at(drained_at), if held.is_none() && !end_of_output => end_of_output = true,
        }
    }
    if over_time { TIME } else { status.map_or(START, code) }
}

fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(u8::MAX)
}

async fn test(settings: &Settings, probe: &Probe, tongue: Tongue, events: &Events, mut orders: Orders) -> u8 {
    let lines = Lines(events.clone());
    let interrupted = async { while let Some(Control::Input(_)) = orders.recv().await {} };
    tokio::select! {
        good = probe::run(probe, &settings.resolv_conf, tongue, &lines) => u8::from(!good),
        () = interrupted => 130,
    }
}

/// The JSON that an order prints.
pub(crate) async fn capture(settings: &Settings, words: &[&str], tongue: Tongue) -> Result<serde_json::Value, String> {
    let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    let mut command = command(settings, &words, tongue);
    let what = words.join(" ");
    let work = async {
        use tokio::io::AsyncReadExt;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (mut output, mut complaint) = (Vec::new(), Vec::new());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let read = async {
            if let Some(stdout) = stdout {
                stdout.take(CAPTURE_MAX).read_to_end(&mut output).await?;
            }
            io::Result::Ok(())
        };
        let complain = async {
            if let Some(stderr) = stderr {
                stderr.take(4096).read_to_end(&mut complaint).await?;
            }
            io::Result::Ok(())
        };
        tokio::try_join!(read, complain)?;
        io::Result::Ok((child.wait().await?, output, complaint))
    };
    match tokio::time::timeout(CAPTURE_WAIT, work).await {
        Err(_) => Err(format!("{what}: no answer within {} s", CAPTURE_WAIT.as_secs())),
        Ok(Err(error)) => Err(format!("{what}: {error}")),
        Ok(Ok((status, output, complaint))) => {
            let value = serde_json::from_slice::<serde_json::Value>(&output);
            let said = value.as_ref().ok().and_then(|value| crate::look::refusal(&value["error"], tongue));
            match value {
                Ok(value) if status.success() => Ok(value),
                _ => Err(said.unwrap_or_else(|| String::from_utf8_lossy(&complaint).trim().to_owned())),
            }
        }
    }
}
