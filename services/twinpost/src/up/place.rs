//! The place of a node in the rack: a `twinpost node` as a child of `twinpost up`.
//!
//! Contract: starts the node when it has power, tells how it fares, and starts it again only as a machine would: after a reset by the
//! watchdog, or when its power comes back. A node that dies otherwise stays down, and what is left of it is killed: that is a
//! power cut. One `up` holds a place at a time ([`claim`]).
//!
//! Failure classes: the place is held by another `up` (said with both process numbers); the node cannot start ([`End::Hopeless`],
//! its own words are on the terminal).

use crate::EXIT_HOPELESS;
use crate::cli::ModemKind;
use crate::node::Folder;
use crate::node_init::Report;
use crate::rack::life::Life;
use crate::rack::mains::{Mains, Power};
use clap::ValueEnum;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A machine that was reset starts so long after.
const BOOT: Duration = Duration::from_secs(1);
/// How long a node may take to say its first word.
const HELLO_GRACE: Duration = Duration::from_secs(20);
/// How long a node may take to end: mail and the modem's process each have their own time within it.
const STOP_GRACE: Duration = Duration::from_secs(60);
/// How long what is left of a dead node may take to end.
const REAP: Duration = Duration::from_secs(10);
/// Between two looks at the power of a dark node.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a place tells.
#[derive(Debug)]
pub enum News {
    /// The node's processes, or who is active.
    Changed(&'static str, Report),
    /// Nothing of it runs; it has no power and waits for it.
    Dark(&'static str),
    /// The place is given up.
    Over(&'static str, End),
}

/// Why a place was given up.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// As it was told.
    Stopped,
    /// It died, and stays down.
    Down(String),
    /// It cannot start.
    Hopeless(String),
}

/// The right to run a node.
#[derive(Debug)]
pub struct Claim {
    name: &'static str,
    _lock: Flock<File>,
}

impl Claim {
    /// Of which node.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// Asks for the right to run a node.
///
/// # Errors
/// A sentence that says who runs it.
pub fn claim(dir: &Path, name: &'static str) -> Result<Claim, String> {
    let path = dir.join("rack").join(format!("node-{name}.lock"));
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = opened.map_err(|e| format!("cannot open {}: {e}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let written = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| write!(lock, "{}", std::process::id()));
            written.map(|()| Claim { name, _lock: lock }).map_err(|e| format!("cannot write {}: {e}", path.display()))
        }
        Err((mut file, _)) => {
            let mut by = String::new();
            let _ = file.read_to_string(&mut by);
            let node = Life::last(&Folder::new(dir.join(name))).filter(Life::leader_runs);
            Err(match node {
                Some(life) => {
                    format!("node {name} runs already, as process {}; `twinpost up`, process {}, started it", life.pid, by.trim())
                }
                None => format!("node {name} is in the hands of another `twinpost up`, process {}", by.trim()),
            })
        }
    }
}

/// A node at its place.
#[derive(Debug)]
pub struct Place {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// What is needed to start a node.
#[derive(Clone, Debug)]
pub struct Start {
    /// The folder given to `up`.
    pub dir: PathBuf,
    /// This program.
    pub program: PathBuf,
    /// The simulated modem.
    pub modem: ModemKind,
}

impl Place {
    /// Starts the node: whoever asks for it presses its power button.
    pub fn start(start: Start, claim: Claim, news: mpsc::UnboundedSender<News>) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(start, claim, news, stop.clone()));
        Self { stop, task }
    }

    /// Ends the node, and waits for its end.
    pub async fn stop(self) {
        self.stop.cancel();
        // A panic in the task was told by the runtime already; its child died with it (kill_on_drop).
        let _ = self.task.await;
    }
}

async fn run(start: Start, claim: Claim, news: mpsc::UnboundedSender<News>, stop: CancellationToken) {
    let name = claim.name;
    // Nobody listens only when `up` itself is ending.
    let tell = |what| drop(news.send(what));
    let end = match stay(&start, name, &tell, &stop).await {
        Ok(end) => end,
        Err(why) => End::Down(why),
    };
    // The place is free before it is said to be.
    drop(claim);
    tell(News::Over(name, end));
}

async fn stay(start: &Start, name: &'static str, tell: &impl Fn(News), stop: &CancellationToken) -> Result<End, String> {
    let mains = Mains::of(&start.dir);
    let folder = Folder::new(start.dir.join(name));
    let mut first = true;
    loop {
        let held = mains.hold(name).await?;
        if !first && mains.power(name) == Power::Off {
            drop(held);
            tell(News::Dark(name));
            tracing::warn!(node = name, "the node was switched off; it starts when it is switched on");
            if !powered(&mains, name, stop).await {
                return Ok(End::Stopped);
            }
            continue;
        }
        first = false;
        mains.set(&held, name, Power::On)?;
        let mut node = Node::spawn(start, name)?;
        let hello = node.hello(name).await;
        // From here on whoever switches the power finds all processes of this life.
        drop(held);
        if let Some(report) = hello {
            tell(News::Changed(name, report));
        }
        let ended = loop {
            tokio::select! {
                () = stop.cancelled() => {
                    node.stop(name, &folder, tell).await;
                    return Ok(End::Stopped);
                }
                event = node.event() => match event {
                    Event::Said(report) => tell(News::Changed(name, report)),
                    Event::Ended(how) => break how,
                },
            }
        };
        if let Some(life) = Life::last(&folder) {
            life.kill(REAP).await?;
        }
        match (mains.power(name), ended) {
            (Power::Off, _) => {}
            (Power::Reset, _) => {
                tell(News::Dark(name));
                tracing::warn!(node = name, "the node was reset; it starts again in {} s", BOOT.as_secs());
                tokio::select! {
                    () = stop.cancelled() => return Ok(End::Stopped),
                    () = tokio::time::sleep(BOOT) => {}
                }
            }
            (Power::On, Ok(status)) if status.code() == Some(EXIT_HOPELESS.into()) => {
                return Ok(End::Hopeless(format!("node {name} cannot start: see the line before")));
            }
            (Power::On, ended) => return Ok(End::Down(described(ended))),
        }
    }
}

fn described(ended: std::io::Result<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt;
    match ended {
        Err(error) => error.to_string(),
        Ok(status) => match status.signal().map(Signal::try_from) {
            Some(Ok(signal)) => format!("killed by {signal}"),
            _ => status.to_string(),
        },
    }
}

/// Waits until the node has power; false: told to stop before.
async fn powered(mains: &Mains, name: &str, stop: &CancellationToken) -> bool {
    while mains.power(name) == Power::Off {
        tokio::select! {
            () = stop.cancelled() => return false,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    true
}

/// What a node does.
enum Event {
    /// It says how it is.
    Said(Report),
    /// It ended.
    Ended(std::io::Result<ExitStatus>),
}

/// The child.
struct Node {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    said_all: bool,
}

impl Node {
    fn spawn(start: &Start, name: &str) -> Result<Self, String> {
        let modem = start.modem.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let mut command = Command::new(&start.program);
        command.arg("node").arg("--dir").arg(&start.dir).args(["--node", name, "--modem", &modem]);
        command.arg(format!("--with-parent={}", std::process::id())).env(crate::logs::MARK, name);
        // No group of its own here: the leader of a group could not become the leader of a session.
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
        let mut child = spawned.map_err(|e| format!("node {name} cannot be started: {e}"))?;
        let stdout = child.stdout.take().ok_or("a child without the pipe that was asked for")?;
        Ok(Self { child, lines: BufReader::new(stdout).lines(), said_all: false })
    }

    /// The first word; none when the node ended or says nothing.
    async fn hello(&mut self, name: &str) -> Option<Report> {
        let said = tokio::time::timeout(HELLO_GRACE, self.lines.next_line()).await;
        match said {
            Ok(Ok(Some(line))) => serde_json::from_str(&line).ok(),
            Ok(_) => {
                self.said_all = true;
                None
            }
            Err(_) => {
                tracing::error!(node = name, "the node did not say a word within {} s", HELLO_GRACE.as_secs());
                None
            }
        }
    }

    /// The next word, or the end.
    async fn event(&mut self) -> Event {
        loop {
            tokio::select! {
                line = self.lines.next_line(), if !self.said_all => match line {
                    Ok(Some(line)) => {
                        if let Ok(report) = serde_json::from_str(&line) {
                            return Event::Said(report);
                        }
                    }
                    _ => self.said_all = true,
                },
                ended = self.child.wait() => return Event::Ended(ended),
            }
        }
    }

    async fn stop(&mut self, name: &'static str, folder: &Folder, tell: &impl Fn(News)) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let life = Life::last(folder);
        // One that stands still cannot end.
        let _ = life.as_ref().map(|life| life.signal(Signal::SIGCONT));
        let ending = async {
            while let Event::Said(report) = self.event().await {
                tell(News::Changed(name, report));
            }
        };
        if tokio::time::timeout(STOP_GRACE, ending).await.is_err() {
            tracing::error!(node = name, "did not end within {} s and is switched off", STOP_GRACE.as_secs());
            let _ = self.child.kill().await;
        }
        if let Some(life) = life
            && let Err(error) = life.kill(REAP).await
        {
            tracing::error!(node = name, %error, "the node is not gone");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_held_once_and_the_second_is_told_by_whom() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("rack")).expect("made");
        let first = claim(dir.path(), "a").expect("free");
        let refused = claim(dir.path(), "a").expect_err("held");
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        claim(dir.path(), "b").expect("the other node is another place");
        drop(first);
        claim(dir.path(), "a").expect("free again");
    }
}
