//! Which parts a node has, how each is started and how it is known to be ready.

use super::part::{Answers, Recipe};
use crate::cli::ModemKind;
use crate::control::{CallError, Request, call};
use crate::node::Folder;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::process::Command;
use twinpost_config::Document;

/// How long a part may take to answer after its start (recovery of a large store included).
const START_GRACE: Duration = Duration::from_secs(600);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The program of the simulated modem, beside this one.
const MODEM_PROGRAM: &str = "twinpost-modem";

/// Mail.
pub fn mail(program: &Path, folder: &Folder) -> Recipe {
    let (program, folder, asked) = (program.to_owned(), folder.clone(), folder.clone());
    Recipe {
        name: "mail",
        essential: true,
        command: Box::new(move || {
            let mut command = Command::new(&program);
            command.arg("mail").arg(format!("--with-parent={}", std::process::id())).arg("--node").arg(folder.path());
            let (name, value) = crate::mail::memory_for_passwords();
            command.env(name, value);
            command
        }),
        answers: Box::new(move || mail_answers(asked.clone())),
    }
}

/// The pair daemon, which starts mail where the node is active.
pub fn pair(program: &Path, folder: &Folder) -> Recipe {
    let (program, folder, socket) = (program.to_owned(), folder.clone(), folder.pair_socket());
    Recipe {
        name: "pair",
        essential: true,
        command: Box::new(move || {
            let mut command = Command::new(&program);
            command.arg("pair").arg(format!("--with-parent={}", std::process::id())).arg("--node").arg(folder.path());
            command
        }),
        answers: Box::new(move || listens(socket.clone())),
    }
}

/// The witness of a pair, which any machine could run.
pub fn witness(program: &Path, dir: &Path, listen: SocketAddr) -> Recipe {
    let (program, dir, socket) = (program.to_owned(), dir.to_owned(), dir.join("witness.sock"));
    Recipe {
        name: "witness",
        essential: false,
        command: Box::new(move || {
            let mut command = Command::new(&program);
            command.arg("witness").arg(format!("--with-parent={}", std::process::id())).arg("--dir").arg(&dir);
            command.arg("--listen").arg(listen.to_string());
            command
        }),
        answers: Box::new(move || listens(socket.clone())),
    }
}

/// The process of the modem.
pub fn sms(program: &Path, folder: &Folder) -> Recipe {
    let (program, folder, socket) = (program.to_owned(), folder.clone(), folder.sms_socket());
    Recipe {
        name: "sms",
        essential: false,
        command: Box::new(move || {
            let mut command = Command::new(&program);
            command.arg("sms").arg(format!("--with-parent={}", std::process::id())).arg("--node").arg(folder.path());
            command
        }),
        answers: Box::new(move || listens(socket.clone())),
    }
}

/// The simulated modem: where it lies.
#[derive(Clone, Debug)]
pub struct SimulatedModem {
    /// The port, a symbolic link to a pseudo-terminal.
    pub port: PathBuf,
    /// What its telephones received, a JSON object a line.
    pub record: PathBuf,
    /// Takes orders, a line each.
    pub control: PathBuf,
}

impl SimulatedModem {
    /// A modem is simulated when its port lies in the node's own folder: no real one has its port there.
    pub fn of(document: &Document, folder: &Folder) -> Option<Self> {
        let port = folder.within(document.sms.port.as_ref()?);
        let dir = folder.modem();
        (document.sms.enabled && port.starts_with(&dir)).then(|| Self {
            port,
            record: dir.join("record.jsonl"),
            control: dir.join("control.sock"),
        })
    }

    /// How it is started; none when its program was not built.
    pub fn recipe(&self, program: &Path, kind: ModemKind) -> Option<Recipe> {
        let timing = match kind {
            ModemKind::None => return None,
            ModemKind::Radio => "radio",
            ModemKind::Instant => "instant",
        };
        let beside = program.with_file_name(MODEM_PROGRAM);
        if !beside.is_file() {
            tracing::error!(program = %beside.display(), "there is no simulated modem beside this program: text messages wait (build it with `make build`)");
            return None;
        }
        let (modem, control) = (self.clone(), self.control.clone());
        Some(Recipe {
            name: "modem",
            essential: false,
            command: Box::new(move || {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "TERM"]).arg(&beside);
                command.arg("--link").arg(&modem.port).arg("--record").arg(&modem.record);
                command.arg("--control").arg(&modem.control).args(["--timing", timing]);
                command.stdout(std::process::Stdio::null());
                command
            }),
            answers: Box::new(move || listens(control.clone())),
        })
    }
}

/// Whether the mail process of a node answers now.
pub async fn serves(folder: &Folder) -> bool {
    let request = Request { order: crate::cli::Order::Status, actor: "up".to_owned(), attachment_bytes: 0 };
    call(&folder.socket(), &request, &[], |_| {}).await.is_ok()
}

/// Waits until the mail process answers on its control socket.
fn mail_answers(folder: Folder) -> Answers {
    let request = Request { order: crate::cli::Order::Status, actor: "up".to_owned(), attachment_bytes: 0 };
    let end = Instant::now() + START_GRACE;
    Box::pin(async move {
        loop {
            match call(&folder.socket(), &request, &[], |_| {}).await {
                Ok(_) => return Ok(()),
                Err(CallError::Refused(failure)) => return Err(failure.message),
                Err(CallError::NotRunning | CallError::Broken(_)) if Instant::now() < end => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(_) => return Err(format!("the mail process does not answer after {} s", START_GRACE.as_secs())),
            }
        }
    })
}

/// Waits until somebody listens on a socket. The node is not given up for a part that never does.
fn listens(socket: PathBuf) -> Answers {
    Box::pin(async move {
        while UnixStream::connect(&socket).await.is_err() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    })
}
