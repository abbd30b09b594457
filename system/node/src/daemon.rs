//! Carries requests out, and judges whether this boot is kept.
//!
//! Contract: what changes the machine is done one at a time; a second order meanwhile is refused and says what is being done. What only looks is
//! answered always. Every order that changes something is in the log with who gave it (see [`crate::server`]).
//!
//! Failure classes: [`Error`] when the socket cannot be had; everything later is told to the one who asked, with every reason.

mod board;
mod disks;
mod facts;
mod health;
mod link;
mod power;
mod report;
mod units;

use crate::api::{Done, Power, Refused, Request, SOCKET, Step, Text};
use crate::folder::{self, GROUP};
use crate::render::boot::Sys;
use crate::server::{self, Office};
use crate::setup;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use twinpost_update::health::Verdict;

/// What the daemon works on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of the node.
    pub node: PathBuf,
    /// Version of this program.
    pub version: String,
    /// Where orders come in.
    pub socket: PathBuf,
    /// What the boot found.
    pub boot_report: PathBuf,
    /// What the initramfs found.
    pub init_report: PathBuf,
}

impl Settings {
    /// With the places of the image.
    pub fn new(node: PathBuf, version: &str) -> Self {
        Self {
            node,
            version: version.to_owned(),
            socket: SOCKET.into(),
            boot_report: crate::api::BOOT_REPORT.into(),
            init_report: crate::api::INIT_REPORT.into(),
        }
    }

    fn pair_socket(&self) -> PathBuf {
        self.node.join("run").join("pair.sock")
    }
}

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket cannot be had.
    #[error("cannot listen on {path}: {source}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Runs until `stop`.
///
/// # Errors
/// [`Error`].
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<(), Error> {
    let group = nix::unistd::Group::from_name(GROUP).ok().flatten().map(|group| group.gid);
    let listener =
        server::listen(&settings.socket, group).map_err(|source| Error::Socket { path: settings.socket.clone(), source })?;
    let machine = Arc::new(Machine {
        settings,
        doing: Mutex::new(None),
        verdict: watch::Sender::new(Verdict::NotYet(Vec::new())),
    });
    machine.prepare_folder();
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(version = machine.settings.version, pid = std::process::id(), "the machine takes orders");
    let judging = tokio::spawn(health::watch(machine.clone(), stop.clone()));
    server::serve(listener, machine, stop).await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    judging.abort();
    Ok(())
}

/// The machine of this node.
struct Machine {
    settings: Settings,
    /// What is being done to it.
    doing: Mutex<Option<Text>>,
    /// Whether it is well.
    verdict: watch::Sender<Verdict>,
}

/// While it lives nothing else is done to the machine.
struct Turn<'a>(&'a Machine);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.doing.lock() = None;
    }
}

impl Machine {
    /// Whoever wrote there last: owners and modes are as the programs need them.
    fn prepare_folder(&self) {
        let prepared =
            folder::People::find().and_then(|people| folder::prepare(&self.settings.node, folder::RUN.as_ref(), &people));
        if let Err(error) = prepared {
            tracing::error!(%error, "the node's folder is not as it should be");
        }
    }

    fn turn(&self, what: Text) -> Result<Turn<'_>, Refused> {
        let mut doing = self.doing.lock();
        if let Some(other) = &*doing {
            let en = format!("wait until this is done: {}", other.en);
            return Err(Refused::one(Text::new(en, format!("请等待完成：{}", other.zh))));
        }
        *doing = Some(what);
        Ok(Turn(self))
    }

    async fn answer(&self, request: Request, step: &(dyn Fn(Step) + Send + Sync)) -> Result<Done, Refused> {
        let socket = self.settings.pair_socket();
        let say = |what: Text| step(Step { what, done: 0, of: 0 });
        match request {
            Request::Status => Ok(report::status(&self.settings, &self.verdict.borrow().clone()).await),
            Request::Board { explain } => Ok(board::show(explain)),
            Request::DisksList => disks::list().await,
            Request::SetupShow => setup::show(&Sys::default()),
            Request::Setup { wish, go: false } => setup::answer(&Sys::default(), wish, false, step).await,
            Request::Setup { wish, go: true } => {
                let _turn = self.turn(Text::new("the setup", "正在设置"))?;
                let done = setup::answer(&Sys::default(), wish, true, step).await?;
                self.prepare_folder();
                Ok(units::after_setup(done, &socket).await)
            }
            Request::DisksLocate { bay, on } => disks::locate(&bay, on).await,
            Request::Power { what, go: false } => Ok(power::preview(what, &socket).await),
            Request::Power { what: what @ (Power::Off | Power::Reboot), go: true } => {
                let _turn = self.turn(Text::new("the node goes down", "节点正在关闭"))?;
                power::go(what, &socket, say).await
            }
            Request::Paired => {
                let _turn = self.turn(Text::new("the pair is begun", "正在启动双机"))?;
                self.prepare_folder();
                power::systemctl(&["--no-block", "restart", PAIR_UNIT]).await?;
                Ok(Done { text: Text::new("The pair daemon starts.", "双机守护进程正在启动。"), ..Done::default() })
            }
            Request::Unpaired => {
                let _turn = self.turn(Text::new("the pair is ended", "正在结束双机"))?;
                power::systemctl(&["stop", PAIR_UNIT]).await?;
                Ok(Done { text: Text::new("The pair daemon has ended.", "双机守护进程已停止。"), ..Done::default() })
            }
            other => {
                tracing::error!(request = ?other, "this order is not known to this version");
                Err(Refused::one(Text::new("this version of the system cannot do that", "此版本的系统无法执行该操作")))
            }
        }
    }
}

/// The unit of the pair daemon.
const PAIR_UNIT: &str = "twinpost-pair.service";

impl Office for Machine {
    fn carry_out(
        self: Arc<Self>,
        _by: String,
        request: Request,
        step: mpsc::UnboundedSender<Step>,
    ) -> BoxFuture<'static, Result<Done, Refused>> {
        Box::pin(async move {
            // Nobody listens when the caller is gone; the work goes on.
            let tell = move |now: Step| drop(step.send(now));
            self.answer(request, &tell).await
        })
    }
}
