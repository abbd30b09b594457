//! Carries requests out, and judges whether this boot is kept.
//!
//! Contract: what changes the machine is done one at a time; a second order meanwhile is refused and says what is being done. What only looks is
//! answered always. Every order that changes something is in the log with who gave it (see [`crate::server`]).
//!
//! Failure classes: [`Error`] when the socket cannot be had; everything later is told to the one who asked, with every reason.

mod board;
mod both;
mod care;
mod disks;
mod facts;
mod firewall;
mod guard;
mod health;
mod installer;
mod link;
mod memory;
mod power;
mod report;
mod room;
mod trial;
mod units;
mod update;

use crate::api::{BundleFrom, Done, Power, Refused, Request, SOCKET, Step, Text};
use crate::folder::{self, GROUP};
use crate::render::boot::Sys;
use crate::server::{self, Office};
use crate::setup;
use firewall::Firewall;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use twinpost_disks::{Options, Order};
use twinpost_update::health::{Baseline, Verdict};

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
    /// How the packet filter is.
    pub firewall: Firewall,
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
            firewall: Firewall::default(),
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
    let verdict = watch::Sender::new(Verdict::NotYet(Vec::new()));
    let medium = Sys::default().medium();
    let machine = Arc::new(Machine { settings, medium, doing: Mutex::new(None), now: Mutex::new(None), verdict });
    if machine.medium.is_none() {
        machine.prepare_folder();
        update::platform().tidy();
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(version = machine.settings.version, pid = std::process::id(), "the machine takes orders");
    // An installer is no node: nothing of it is judged, tried or told.
    let work: Vec<_> = match machine.medium {
        Some(_) => Vec::new(),
        None => vec![
            tokio::spawn(health::watch(machine.clone(), stop.clone())),
            tokio::spawn(firewall::watch(machine.clone(), stop.clone())),
            tokio::spawn(trial::run(machine.clone())),
            tokio::spawn(both::resume(machine.clone())),
        ],
    };
    // An installer has nothing that a reset would mend.
    let guarding = machine.medium.is_none().then(|| tokio::spawn(guard::Guard::of(&machine.settings.node).run(stop.clone())));
    server::serve(listener, machine, stop).await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    work.iter().for_each(tokio::task::JoinHandle::abort);
    if let Some(guarding) = guarding {
        // It disarms the watchdog.
        let _ = guarding.await;
    }
    Ok(())
}

/// The machine of this node.
struct Machine {
    settings: Settings,
    /// The medium that this installer was started from; none: this is a node.
    medium: Option<PathBuf>,
    /// What is being done to it.
    doing: Mutex<Option<Text>>,
    /// How far that is.
    now: Mutex<Option<Step>>,
    /// Whether it is well.
    verdict: watch::Sender<Verdict>,
}

/// While it lives nothing else is done to the machine.
struct Turn<'a>(&'a Machine);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.doing.lock() = None;
        *self.0.now.lock() = None;
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

    /// It has a peer.
    fn paired(&self) -> bool {
        twinpost_config::load_node(&self.settings.node).is_ok_and(|node| node.pair.enabled)
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

    fn turn_if(&self, go: bool, what: impl FnOnce() -> Text) -> Result<Option<Turn<'_>>, Refused> {
        if go { self.turn(what()).map(Some) } else { Ok(None) }
    }

    async fn answer(&self, request: Request, step: &(dyn Fn(Step) + Send + Sync)) -> Result<Done, Refused> {
        let socket = self.settings.pair_socket();
        let say = |what: Text| step(Step { what, done: 0, of: 0 });
        if self.medium.is_some() {
            installer::allow(&request)?;
        }
        match request {
            Request::Status => {
                let verdict = self.verdict.borrow().clone();
                Ok(report::status(&self.settings, &verdict).await)
            }
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
            Request::DisksInit { erase, single, go } => {
                let _turn = self.turn_if(go, || Text::new("the disks are prepared", "正在准备磁盘"))?;
                let options = Options { erase, single, ..Options::default() };
                disks::order(Order::Init(options), go, step).await
            }
            Request::DisksReplace { bay, erase, wait, go } => {
                let _turn = self.turn_if(go, || Text::new("a disk is replaced", "正在更换磁盘"))?;
                disks::order(Order::Replace { bay, erase, wait }, go, step).await
            }
            Request::DisksInstall { source, bays, erase, go } => {
                let _turn = self.turn_if(go, || Text::new("the system is installed", "正在安装系统"))?;
                let source = source.or_else(|| self.medium.clone()).ok_or_else(no_medium)?;
                let options = Options { bays, erase, single: false };
                disks::order(Order::Install { source, options }, go, step).await
            }
            Request::UpdateStatus => both::status(self).await,
            Request::UpdateView => {
                let view = both::node_view(self).await?;
                Ok(Done { text: Text::same(&view.name), value: json!(view), confirm: None })
            }
            Request::UpdateInstall { from: BundleFrom::File(bundle), downgrade, this_node: false, go } if self.paired() => {
                let _turn = self.turn_if(go, || Text::new("both nodes are updated", "正在升级两个节点"))?;
                if go { both::go(self, bundle, downgrade, step).await } else { both::preview(self, bundle, downgrade).await }
            }
            Request::UpdateInstall { from: BundleFrom::File(bundle), downgrade, this_node: _, go } => {
                let _turn = self.turn_if(go, || Text::new("an update is installed", "正在安装升级"))?;
                let facts = facts::gather(&self.settings, &disks::machine()).await;
                update::install(update::Order { bundle, downgrade, baseline: Baseline::of(&facts) }, go, step).await
            }
            Request::UpdateForget => {
                both::forget_bundle().await;
                Ok(Done::default())
            }
            Request::UpdateReturn { reasons } => {
                let _turn = self.turn(Text::new("the version before is chosen", "正在恢复之前的版本"))?;
                update::withdraw(reasons).await?;
                Ok(power::go(Power::Reboot, &socket, say).await)
            }
            Request::UpdateCommit => {
                let _turn = self.turn(Text::new("the running version is kept", "正在保留当前版本"))?;
                update::commit().await
            }
            Request::UpdateBack { go } => {
                let _turn = self.turn_if(go, || Text::new("the other version is chosen", "正在选择另一版本"))?;
                update::back(go).await
            }
            Request::Power { what: Power::Slot(slot), go: true } => update::slot_once(slot).await,
            Request::DisksLocate { bay, on } => disks::locate(&bay, on),
            Request::Power { what, go: false } => Ok(power::preview(what, &socket).await),
            Request::Power { what: what @ (Power::Off | Power::Reboot), go: true } => {
                let _turn = self.turn(Text::new("the node goes down", "节点正在关闭"))?;
                Ok(power::go(what, &socket, say).await)
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
            mut install @ Request::UpdateInstall { from: BundleFrom::Usb, .. } => {
                say(Text::new("looking for a bundle on a USB stick", "在 U 盘上查找升级包"));
                let (stick, bundle) = care::bundle_on_stick().await?;
                if let Request::UpdateInstall { from, .. } = &mut install {
                    *from = BundleFrom::File(bundle);
                }
                let done = Box::pin(self.answer(install, step)).await;
                drop(stick);
                done
            }
            Request::Support { to } => care::support(self, to, step).await,
            Request::FactoryReset { mail, go } => {
                let _turn = self.turn_if(go, || Text::new("the node is reset", "正在恢复出厂设置"))?;
                care::reset(self, mail, go, step).await
            }
        }
    }
}

fn no_medium() -> Refused {
    Refused::one(Text::new(
        "this machine was not started from an installer: start it from one, or name the medium (--source DEVICE)",
        "本机不是从安装介质启动的：请从安装介质启动，或指定介质（--source 设备）",
    ))
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
            let machine = self.clone();
            let tell = move |now: Step| {
                *machine.now.lock() = Some(now.clone());
                drop(step.send(now));
            };
            self.answer(request, &tell).await
        })
    }
}
