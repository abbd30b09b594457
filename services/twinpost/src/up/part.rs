//! One part of the node: a child process that is started again whenever it ends.
//!
//! Contract: each part runs, dies and comes back by itself; the others do not notice. A part that dies again and again is
//! started again with growing pauses. Told to stop, it gets SIGTERM, time to end by itself, and then the end.

use crate::{EXIT_FENCED, EXIT_HOPELESS};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a part may take to end by itself: the modem's process waits 20 s for a text that is on the wire.
const STOP_GRACE: Duration = Duration::from_secs(22);
/// A part that ran so long is healthy: the next restart is immediate again.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);
/// Longest pause before a restart.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Resolves when the part answers; an error ends the whole node, as no restart would mend it.
pub type Answers = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// What a part is made of.
pub struct Recipe {
    /// Its name, in the logs and in `endpoints.json`.
    pub name: &'static str,
    /// The command that starts it.
    pub command: Box<dyn Fn() -> Command + Send>,
    /// The node is nothing without it: when it cannot start for a reason that a restart does not mend, the node gives up.
    pub essential: bool,
    /// How it is known to be ready.
    pub answers: Box<dyn Fn() -> Answers + Send>,
}

/// What a part tells.
pub enum News {
    /// It answers, as this process.
    Up(&'static str, u32),
    /// It ended by itself and is started again.
    Down(&'static str),
    /// It will never work; the sentence says why.
    Hopeless(String),
    /// It could not verify that everything of it stopped: the whole node must be reset before anything starts again.
    Fenced,
}

/// A part at work.
pub struct Part {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Part {
    /// Starts it; it tells how it fares.
    pub fn start(recipe: Recipe, news: mpsc::UnboundedSender<News>) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(recipe, news, stop.clone()));
        Self { stop, task }
    }

    /// Ends it, and waits for its end.
    pub async fn stop(self) {
        self.stop.cancel();
        // A panic in the task was told by the runtime already; its child died with it (kill_on_drop).
        let _ = self.task.await;
    }
}

async fn run(recipe: Recipe, news: mpsc::UnboundedSender<News>, stop: CancellationToken) {
    let name = recipe.name;
    let mut pause = Duration::ZERO;
    let mut ever_answered = false;
    // Nobody listens only when `up` itself is ending.
    let tell = |what| drop(news.send(what));
    loop {
        let began = Instant::now();
        let how = match (recipe.command)().stdin(std::process::Stdio::null()).process_group(0).kill_on_drop(true).spawn() {
            Err(error) => format!("it cannot be started: {error}"),
            Ok(mut child) => {
                let pid = child.id();
                let mut answers = (recipe.answers)();
                let mut answered = false;
                loop {
                    tokio::select! {
                        () = stop.cancelled() => return end(name, &mut child).await,
                        ended = child.wait() => {
                            let code = ended.as_ref().ok().and_then(std::process::ExitStatus::code);
                            if recipe.essential && !ever_answered && code == Some(EXIT_HOPELESS.into()) {
                                // It said why itself, in a sentence on the same terminal.
                                return tell(News::Hopeless("the node cannot start: see the line before".to_owned()));
                            }
                            if code == Some(EXIT_FENCED.into()) {
                                return tell(News::Fenced);
                            }
                            break ended.map_or_else(|e| e.to_string(), |status| status.to_string());
                        }
                        outcome = &mut answers, if !answered => {
                            (answered, ever_answered) = (true, true);
                            tell(match (outcome, pid) {
                                (Ok(()), Some(pid)) => News::Up(name, pid),
                                (Ok(()), None) => continue,
                                (Err(why), _) => News::Hopeless(why),
                            });
                        }
                    }
                }
            }
        };
        tell(News::Down(name));
        if began.elapsed() > HEALTHY_AFTER {
            pause = Duration::ZERO;
        }
        tracing::error!(part = name, %how, pause_ms = pause.as_millis(), "a part of the node ended by itself; it is started again");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).clamp(Duration::from_millis(250), PAUSE_MAX);
    }
}

async fn end(name: &str, child: &mut Child) {
    let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) else { return };
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    if tokio::time::timeout(STOP_GRACE, child.wait()).await.is_err() {
        tracing::error!(
            part = name,
            "did not end within {} s and is killed; nothing acknowledged is lost by that",
            STOP_GRACE.as_secs()
        );
        let _ = child.kill().await;
    }
}
