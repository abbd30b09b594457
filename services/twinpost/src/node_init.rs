//! `twinpost node`: one node of a pair off the image. It is to its parts what systemd is to them on the image.
//!
//! Contract: the leader of a session in which everything of the node stays, so that the node can be switched off as a machine can
//! ([`crate::rack::life`]); starts the pair daemon, the modem's process and the simulated modem, and starts again what dies; the
//! pair daemon starts mail where the node is active. Writes `run/node.json` and tells `twinpost up` on its standard output, a line of
//! JSON for each change. Ends in order on SIGTERM or SIGINT, and when `up` ends.
//!
//! Failure classes: the node runs already, or its documents have faults: one sentence and exit 1; the pair daemon cannot start
//! for a reason that a restart does not mend: exit 5. What a former life left behind is killed first: a machine that starts has no old
//! processes.

use crate::cli::NodeInit;
use crate::node::Folder;
use crate::rack::life::Life;
use crate::rack::mains::Mains;
use crate::up::part::{News, Part};
use crate::up::parts::{self, SimulatedModem};
use crate::{EXIT_DONE, EXIT_FAILED, EXIT_HOPELESS, complain, end_with_parent, logs};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// How long the processes of a former life may take to end.
const REAP: Duration = Duration::from_secs(10);
/// Between two tries to reach the pair daemon.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// Longest line of the pair daemon.
const LINE_MAX: u64 = 1 << 20;

/// What `twinpost up` is told, a line each time it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its processes.
    #[serde(flatten)]
    pub life: Life,
    /// The node that serves, as far as this one knows.
    pub active: Option<String>,
}

/// Runs the node until a signal ends it.
pub async fn run(arguments: NodeInit) -> u8 {
    match Box::pin(serve(&arguments)).await {
        Ok(()) => EXIT_DONE,
        Err(Halt { message, code }) => {
            complain(&message);
            code
        }
    }
}

struct Halt {
    message: String,
    code: u8,
}

impl From<String> for Halt {
    fn from(message: String) -> Self {
        Self { message, code: EXIT_FAILED }
    }
}

/// What the pair daemon says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    mail: Option<u32>,
    active: Option<String>,
}

async fn serve(arguments: &NodeInit) -> Result<(), Halt> {
    if let Some(parent) = arguments.with_parent {
        end_with_parent(parent, Signal::SIGTERM);
    }
    // The number of the session names all processes of this life.
    if let Err(errno) = nix::unistd::setsid() {
        let message =
            format!("a node must lead a session of its own ({errno}): start it with `twinpost up --only {}`", arguments.node);
        return Err(message.into());
    }
    let dir = std::path::absolute(&arguments.dir).map_err(|e| format!("{}: {e}", arguments.dir.display()))?;
    let folder = Folder::new(dir.join(&arguments.node));
    if let Some(last) = Life::last(&folder) {
        if last.leader_runs() {
            return Err(format!("node {} runs already, as process {}", arguments.node, last.pid).into());
        }
        last.kill(REAP).await?;
    }
    folder.make().map_err(|e| format!("cannot make {}: {e}", folder.path().display()))?;
    let document = twinpost_config::load(&folder.document()).map_err(|e| e.to_string())?;
    logs::open(&document.log)?;
    let open = |kind| signal(kind).map_err(|e| format!("cannot listen for signals: {e}"));
    let (mut terminate, mut interrupt) = (open(SignalKind::terminate())?, open(SignalKind::interrupt())?);
    let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;

    let mut report = Report { life: Life::of_this_process()?, active: None };
    tell(&folder, &report)?;
    let (news, mut heard) = mpsc::unbounded_channel();
    // In the order of their ends: what asks goes before what answers.
    let mut recipes = vec![parts::pair(&program, &folder)];
    if document.sms.enabled {
        recipes.push(parts::sms(&program, &folder));
    }
    recipes.extend(SimulatedModem::of(&document, &folder).and_then(|modem| modem.recipe(&program, arguments.modem)));
    let running: Vec<Part> = recipes.into_iter().map(|recipe| Part::start(recipe, news.clone())).collect();
    let (says, mut said) = mpsc::channel(16);
    let listening = tokio::spawn(listen(folder.pair_socket(), says));

    let outcome = loop {
        let before = report.clone();
        tokio::select! {
            Some(what) = heard.recv() => match what {
                News::Up(part, pid) => drop(report.life.pids.insert(part.to_owned(), pid)),
                News::Down(part) => drop(report.life.pids.remove(part)),
                News::Hopeless(message) => break Err(Halt { message, code: EXIT_HOPELESS }),
                News::Fenced => {
                    tracing::error!(node = arguments.node, "what may still write cannot be stopped: the node is reset");
                    // This process is the first to end by it; `up` verifies that none is left.
                    Mains::of(&dir).reset(&arguments.node).await?;
                }
            },
            Some(Said { mail, active }) = said.recv() => {
                match mail {
                    Some(pid) => drop(report.life.pids.insert("mail".to_owned(), pid)),
                    None => drop(report.life.pids.remove("mail")),
                }
                report.active = active;
            }
            _ = terminate.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
        }
        if report != before {
            tell(&folder, &report)?;
        }
    };
    tracing::info!(node = arguments.node, "the node is stopping");
    listening.abort();
    for part in running {
        part.stop().await;
    }
    report.life.pids.clear();
    tell(&folder, &report)?;
    outcome
}

/// Writes the processes down and tells `up`.
#[allow(clippy::print_stdout, reason = "this is how `up` hears of its node")]
fn tell(folder: &Folder, report: &Report) -> Result<(), String> {
    report.life.keep(folder).map_err(|e| format!("cannot write the processes of {}: {e}", folder.path().display()))?;
    let line = serde_json::to_string(report).map_err(|e| e.to_string())?;
    // `up` may be gone: then this node is being ended.
    let _ = writeln!(std::io::stdout(), "{line}");
    Ok(())
}

/// Follows the status of the pair daemon for ever.
async fn listen(socket: PathBuf, says: mpsc::Sender<Said>) {
    loop {
        if let Err(error) = follow(&socket, &says).await {
            tracing::debug!(%error, "the pair daemon was not heard");
        }
        // It is gone, and mail with it.
        if says.send(Said::default()).await.is_err() {
            return;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

async fn follow(socket: &Path, says: &mpsc::Sender<Said>) -> std::io::Result<()> {
    let stream = UnixStream::connect(socket).await?;
    let (reader, mut writer) = stream.into_split();
    writer.write_all(b"{\"op\":\"watch\"}\n").await?;
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        if (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        if let Some(said) = understood(&line)
            && says.send(said).await.is_err()
        {
            return Ok(());
        }
    }
}

/// Reads only what is needed here: a daemon of the next version may say more.
fn understood(line: &[u8]) -> Option<Said> {
    let status: Value = serde_json::from_slice(line).ok()?;
    if status.get("answer").and_then(Value::as_str) != Some("status") {
        return None;
    }
    let mail = status.pointer("/services/pids/0").and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok());
    let active = status.get("active").and_then(Value::as_str).map(str::to_owned);
    Some(Said { mail, active })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_says_which_process_serves_mail_and_who_is_active() {
        let line = br#"{"answer":"status","node":"a","active":"b","services":{"state":"up","pids":[77]},"later":1}"#;
        assert_eq!(understood(line), Some(Said { mail: Some(77), active: Some("b".to_owned()) }));
        let line = br#"{"answer":"status","node":"a","active":null,"services":{"state":"stopped","pids":[]}}"#;
        assert_eq!(understood(line), Some(Said::default()));
        assert_eq!(understood(br#"{"answer":"done"}"#), None);
        assert_eq!(understood(b"no JSON"), None);
    }

    #[test]
    fn a_report_is_one_line_with_the_life_inside() {
        let life = Life { pid: 5, born: 9, pids: [("pair".to_owned(), 6)].into() };
        let report = Report { life, active: Some("a".to_owned()) };
        let line = serde_json::to_string(&report).expect("JSON");
        assert_eq!(line, r#"{"pid":5,"born":9,"pids":{"pair":6},"active":"a"}"#);
        assert_eq!(serde_json::from_str::<Report>(&line).expect("the same"), report);
    }
}
