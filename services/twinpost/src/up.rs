//! `twinpost up`: a node off the image, in the foreground, without root.
//!
//! Contract: makes what is missing in the folder and keeps what is there; starts the parts as children; starts a part again
//! that died; writes `endpoints.json` whenever a process number changes; ends everything on Ctrl-C or SIGTERM, in order.
//!
//! Failure classes: the folder cannot be made or is held by another `up` (said with its pid, exit 1); mail cannot be started
//! the first time for a reason that a restart does not mend (it says which, exit 1); a part that dies again
//! and again is started again with growing pauses, and the log says so.

mod demo;
mod endpoints;

use crate::cli::{Demo, Up};
use crate::control::{CallError, Request, call};
use crate::node::Folder;
use crate::{EXIT_DONE, EXIT_FAILED, EXIT_HOPELESS, complain, logs};
use endpoints::Endpoints;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// How long a part may take to end by itself.
const STOP_GRACE: Duration = Duration::from_secs(15);
/// How long a part may take to answer after its start (recovery of a large store included).
const START_GRACE: Duration = Duration::from_secs(600);
/// A part that ran so long is healthy: the next restart is immediate again.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);
/// Longest pause before a restart.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Name of the only node until the pair exists.
const NODE: &str = "a";

/// Runs the node until it is told to end.
pub async fn run(arguments: Up) -> u8 {
    match Box::pin(up(&arguments)).await {
        Ok(()) => EXIT_DONE,
        Err(message) => {
            complain(&message);
            EXIT_FAILED
        }
    }
}

async fn up(arguments: &Up) -> Result<(), String> {
    let dir = std::path::absolute(&arguments.dir).map_err(|e| format!("{}: {e}", arguments.dir.display()))?;
    let folder = Folder::new(dir.join(NODE));
    folder.make().map_err(|e| format!("cannot make {}: {e}", folder.path().display()))?;
    let _lock = lock(&dir)?;
    let fresh = !folder.document().exists();
    if fresh {
        let text = first_document(arguments.address)?;
        write_whole(&folder.document(), text.as_bytes(), 0o600)
            .map_err(|e| format!("cannot write {}: {e}", folder.document().display()))?;
    }
    let document = twinpost_config::load(&folder.document()).map_err(|e| e.to_string())?;
    logs::open(&document.log)?;

    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let mut endpoints = Endpoints::new(&dir, &folder, &document);
    let mut pause = Duration::ZERO;
    let mut announced = false;
    loop {
        let started = Instant::now();
        let mut mail = start(&folder)?;
        endpoints.mail_pid(mail.id());
        let work = async {
            answers(&folder).await?;
            if announced {
                return endpoints.write();
            }
            if fresh && arguments.demo == Demo::School {
                endpoints.demo(demo::make(&folder).await?);
            }
            endpoints.write()?;
            endpoints.announce();
            announced = true;
            Ok::<(), String>(())
        };
        let ended = tokio::select! {
            result = run_beside(work, &mut mail) => Some(result?),
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
        };
        let Some(how) = ended else {
            tracing::info!("stopping");
            stop(&mut mail).await;
            endpoints.mail_pid(None);
            endpoints.write()?;
            return Ok(());
        };
        // It said why itself, in a sentence on the same terminal.
        if !announced && how.as_ref().is_ok_and(|status| status.code() == Some(EXIT_HOPELESS.into())) {
            return Err("the node cannot start: see the line before".to_owned());
        }
        let how = how.map_or_else(|e| e.to_string(), |status| status.to_string());
        if started.elapsed() > HEALTHY_AFTER {
            pause = Duration::ZERO;
        }
        tracing::error!(part = "mail", %how, pause_ms = pause.as_millis(), "a part of the node ended by itself; it is started again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        }
        pause = (pause * 2).clamp(Duration::from_millis(250), PAUSE_MAX);
    }
}

/// Does the work while the part runs; then waits for the part's end and says how it ended.
async fn run_beside(
    work: impl Future<Output = Result<(), String>>,
    part: &mut Child,
) -> Result<std::io::Result<ExitStatus>, String> {
    tokio::pin!(work);
    tokio::select! {
        result = &mut work => result?,
        ended = part.wait() => return Ok(ended),
    }
    Ok(part.wait().await)
}

fn start(folder: &Folder) -> Result<Child, String> {
    let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    Command::new(program)
        .arg("mail")
        .arg("--with-parent")
        .arg("--node")
        .arg(folder.path())
        // Argon2id takes 19 MiB for each sign-in. Blocks of that size shall come from the system and go back to it, not stay
        // in the heap of each thread that ever checked a password (mallopt(3), M_MMAP_THRESHOLD).
        .env("MALLOC_MMAP_THRESHOLD_", "4194304")
        .stdin(std::process::Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("cannot start the mail process: {e}"))
}

/// Waits until the part answers on its control socket.
async fn answers(folder: &Folder) -> Result<(), String> {
    let request = Request { order: crate::cli::Order::Status, actor: "up".to_owned(), attachment_bytes: 0 };
    let end = Instant::now() + START_GRACE;
    loop {
        match call(&folder.socket(), &request, &[], |_| {}).await {
            Ok(_) => return Ok(()),
            Err(CallError::Refused(failure)) => return Err(failure.message),
            Err(CallError::NotRunning | CallError::Broken(_)) if Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(_) => return Err(format!("the mail process does not answer after {} s", START_GRACE.as_secs())),
        }
    }
}

async fn stop(part: &mut Child) {
    let Some(pid) = part.id().and_then(|id| i32::try_from(id).ok()) else { return };
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    if tokio::time::timeout(STOP_GRACE, part.wait()).await.is_err() {
        tracing::error!(
            part = "mail",
            "did not end within {} s and is killed; nothing acknowledged is lost by that",
            STOP_GRACE.as_secs()
        );
        let _ = part.kill().await;
    }
}

/// One `up` a folder.
fn lock(dir: &Path) -> Result<Flock<File>, String> {
    let path = dir.join("up.lock");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| format!("cannot open {}: {e}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let written = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| write!(lock, "{}", std::process::id()));
            written.map(|()| lock).map_err(|e| format!("cannot write {}: {e}", path.display()))
        }
        Err((mut file, _)) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            Err(format!("{} is in use by another `twinpost up`, process {}", dir.display(), pid.trim()))
        }
    }
}

/// The ports of a node without root, in the order of [`SERVICES`].
const PORTS: [u16; 8] = [2525, 2587, 2465, 2424, 2143, 2993, 2110, 2995];
/// The services of `[network]`.
const SERVICES: [&str; 8] = ["smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s"];

/// The document of a new node: known ports when they are free, else any free ones, kept from then on.
fn first_document(address: IpAddr) -> Result<String, String> {
    let bind = |port| TcpListener::bind((address, port)).map_err(|e| format!("cannot listen on {address}: {e}"));
    let known: Result<Vec<TcpListener>, String> = PORTS.iter().map(|p| bind(*p)).collect();
    let held = known.or_else(|_| PORTS.iter().map(|_| bind(0)).collect::<Result<Vec<_>, _>>())?;
    let mut text = String::from(
        "# The appliance document of this node. All keys: docs/configuration.md. Check it with `twinpost ctl config check`.\n\
         version = 1\n\n[node]\nname = \"a\"\nhost_name = \"mail.school.example\"\n\n[network]\n",
    );
    for (service, listener) in SERVICES.iter().zip(&held) {
        let at = listener.local_addr().map_err(|e| e.to_string())?;
        text.push_str(&format!("{service} = [\"{at}\"]\n"));
    }
    text.push_str(
        "\n[limits]\n# This machine itself is not limited: tests and load come from here.\nexempt = [\"127.0.0.0/8\", \"::1\"]\n",
    );
    Ok(text)
}

/// Writes a file so that it is either the old one or the new one, whole.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let new = path.with_extension("new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(mode).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
