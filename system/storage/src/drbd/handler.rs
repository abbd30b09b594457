//! The program that DRBD calls, and the socket on which the driver answers it.
//!
//! Contract: DRBD's kernel part runs `HANDLER KIND` and takes its exit code as the answer; [`run`] is that program. It asks the driver
//! over a socket, one line each way: `KIND RESOURCE`, `exit CODE`. Without a driver it answers what can do no harm: `fence-peer` waits
//! (writes stay held), a resync is refused.
//!
//! Exit codes of fence-peer, drbd.conf(5) and the module's own words: 3 the peer's copy is inconsistent, 4 it is outdated, 5 the peer
//! is unreachable and taken as dead (only believed by a current copy), 6 the peer is primary (this copy outdates itself), 7 the peer was fenced. Ours
//! is 7 when the core has a proof, else [`REFUSED`]: the module takes any other code as "cannot tell" and goes on holding writes.

use crate::Error;
use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as Blocking;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// The peer was fenced: writes go on without it.
pub const FENCED: u8 = 7;
/// Nothing is known of the peer; a resync may not begin.
pub const REFUSED: u8 = 1;
/// Longest line either way.
const LINE_MAX: u64 = 256;
/// Handlers at once.
const CALLS_MAX: usize = 32;
/// How long a handler other than `fence-peer` looks for the driver.
const PATIENCE: Duration = Duration::from_secs(5);

/// What DRBD asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// The peer is gone, writes are held: may they go on?
    FencePeer,
    /// The peer's copy would be overwritten from this one.
    ResyncSource,
    /// This copy would be overwritten from the peer's.
    ResyncTarget,
    /// Both sides changed without each other.
    SplitBrain,
}

impl Ask {
    const ALL: [(Self, &'static str); 5] = [
        (Self::FencePeer, "fence-peer"),
        (Self::ResyncSource, "before-resync-source"),
        (Self::ResyncTarget, "before-resync-target"),
        (Self::ResyncTarget, "before-resync"),
        (Self::SplitBrain, "split-brain"),
    ];

    /// DRBD's word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(ask, _)| *ask)
    }
}

/// The handler program: asks the driver at `socket` and gives the exit code. `kind` is DRBD's word, `resource` comes in `DRBD_RESOURCE`.
#[must_use]
pub fn run(socket: &Path, kind: &str, resource: &str) -> u8 {
    let Some(ask) = Ask::of(kind) else { return REFUSED };
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(code) = call(socket, kind, resource) {
            return code;
        }
        // The daemon is starting, or starting again: a held write waits for it, for nobody else can know.
        if ask != Ask::FencePeer && Instant::now() >= end {
            return REFUSED;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn call(socket: &Path, kind: &str, resource: &str) -> Option<u8> {
    let mut stream = Blocking::connect(socket).ok()?;
    writeln!(stream, "{kind} {resource}").ok()?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_MAX)).read_line(&mut line).ok()?;
    line.trim_end().strip_prefix("exit ")?.parse().ok()
}

/// How DRBD's kernel part names the resource when it calls the handler: `fence-peer` comes with its name, everything else with `minor-N`
/// (drbd_khelper and conn_khelper of 8.4); through drbdadm with its name.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    resource: String,
    minor: String,
}

impl Names {
    pub(crate) fn of(settings: &super::Settings) -> Self {
        Self::new(&settings.resource, settings.minor)
    }

    fn new(resource: &str, minor: u32) -> Self {
        Self { resource: resource.to_owned(), minor: format!("minor-{minor}") }
    }

    fn mean(&self, said: &str) -> bool {
        said.is_empty() || said == self.resource || said == self.minor
    }
}

/// The handler as DRBD's kernel part runs it by itself (module parameter `usermode_helper`), where no shell could run one of the resource file:
/// `drbd-helper KIND NAME`. What the resource file would not name is answered as drbdadm answers it: 0, nothing was asked.
#[must_use]
pub fn run_kernel_helper(socket: &Path, kind: &str, name: &str) -> u8 {
    if Ask::of(kind).is_none() { 0 } else { run(socket, kind, name) }
}

/// Listens; only the user of the daemon (and root, as which DRBD calls) may ask.
pub(crate) fn listen(socket: &Path) -> Result<UnixListener, Error> {
    // Left by a killed daemon; a running one is impossible, it holds the daemon's own lock.
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).map_err(Error::io("listen on", socket))?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(Error::io("close to others", socket))?;
    Ok(listener)
}

/// Answers for ever.
pub(crate) async fn serve<F: Future<Output = u8> + Send + 'static>(
    listener: UnixListener,
    names: Names,
    answer: impl Fn(Ask) -> F + Send + Sync + 'static,
) {
    let room = Arc::new(Semaphore::new(CALLS_MAX));
    let answer = Arc::new(answer);
    // They end with this task, and so do their connections.
    let mut talks = tokio::task::JoinSet::new();
    loop {
        while talks.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a handler of the mirror could not be taken in");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (answer, names) = (Arc::clone(&answer), names.clone());
        talks.spawn(async move {
            converse(stream, &names, &*answer).await;
            drop(permit);
        });
    }
}

async fn converse<F: Future<Output = u8>>(stream: UnixStream, names: &Names, answer: &impl Fn(Ask) -> F) {
    let (from, mut to) = stream.into_split();
    let mut from = tokio::io::BufReader::with_capacity(LINE_MAX as usize, from.take(LINE_MAX));
    let mut line = String::new();
    if tokio::time::timeout(PATIENCE, from.read_line(&mut line)).await.is_err() {
        return;
    }
    let (kind, of) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
    let code = match Ask::of(kind) {
        Some(ask) if names.mean(of) => {
            tracing::info!(kind, "the mirror asks");
            let mut gone = String::new();
            tokio::select! {
                code = answer(ask) => code,
                // The handler was killed: nobody waits for the answer.
                _ = from.read_line(&mut gone) => return,
            }
        }
        _ => REFUSED,
    };
    tracing::info!(kind, code, "the mirror is answered");
    let _ = to.write_all(format!("exit {code}\n").as_bytes()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn asks_and_answers() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        std::fs::write(&socket, "left behind").unwrap();
        let listener = listen(&socket).unwrap();
        tokio::spawn(serve(listener, Names::new("mail", 0), |ask| async move {
            match ask {
                Ask::FencePeer => FENCED,
                Ask::ResyncSource => 0,
                Ask::ResyncTarget => REFUSED,
                Ask::SplitBrain => 9,
            }
        }));
        for (kind, resource, code) in [
            ("fence-peer", "mail", 7),
            ("before-resync-source", "mail", 0),
            ("before-resync-target", "mail", 1),
            ("before-resync", "mail", 1),
            ("split-brain", "mail", 9),
            ("fence-peer", "", 7),
            ("before-resync-source", "other", 1),
            ("before-resync-source", "minor-0", 0),
            ("before-resync-target", "minor-0", 1),
            ("before-resync-source", "minor-1", 1),
        ] {
            let socket = socket.clone();
            let said = tokio::task::spawn_blocking(move || run(&socket, kind, resource)).await.unwrap();
            assert_eq!(said, code, "{kind} {resource}");
        }
        assert_eq!(run(&socket, "rubbish", "mail"), REFUSED);
        let helper = |kind: &'static str, name: &'static str| {
            let socket = socket.clone();
            tokio::task::spawn_blocking(move || run_kernel_helper(&socket, kind, name))
        };
        assert_eq!(helper("fence-peer", "mail").await.unwrap(), FENCED);
        assert_eq!(helper("before-resync-target", "minor-0").await.unwrap(), REFUSED);
        assert_eq!(helper("pri-lost-after-sb", "minor-0").await.unwrap(), 0, "the resource file names none, so nothing is asked");
        assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_held_write_waits_for_a_daemon_that_is_not_there_yet() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let path = socket.clone();
        let handler = tokio::task::spawn_blocking(move || run(&path, "fence-peer", "mail"));
        // The first daemon dies while the handler waits for its answer.
        let first = tokio::spawn(serve(listen(&socket).unwrap(), Names::new("mail", 0), |_| std::future::pending()));
        tokio::task::yield_now().await;
        first.abort();
        let _ = first.await;
        tokio::spawn(serve(listen(&socket).unwrap(), Names::new("mail", 0), |_| async { FENCED }));
        assert_eq!(handler.await.unwrap(), FENCED);
    }

    #[tokio::test]
    async fn rubbish_on_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        tokio::spawn(serve(listen(&socket).unwrap(), Names::new("mail", 0), |_| async { FENCED }));
        for rubbish in [&b"\n"[..], b"\xFF\xFF\n", &[b'x'; 4096], b"fence-peer other mail\n"] {
            let mut stream = UnixStream::connect(&socket).await.unwrap();
            let _ = stream.write_all(rubbish).await;
            let mut said = String::new();
            let _ = stream.read_to_string(&mut said).await;
            assert!(said.is_empty() || said == "exit 1\n", "{said}");
        }
    }
}
