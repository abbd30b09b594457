//! The rack: what stands between and around two nodes on one machine. Cables, serial line, watchdogs, power, witness.
//!
//! Contract: one rack a folder, run by the `twinpost up` that got its lock ([`lock`]); another one takes it over when that
//! one ends. Nodes find everything by names that stay: addresses of the relays (in their `node.toml`), links and sockets in
//! `DIR/rack/`. Faults are put in by the control socket ([`control`]).
//!
//! Failure classes: an address or a name cannot be had: the rack does not start, one sentence says why. What happens to a node
//! never ends the rack.

mod cable;
pub mod control;
pub mod life;
pub mod mains;
mod order;
mod power;
pub mod relay;
mod serial;
mod watchdog;

use crate::node::Folder;
use cable::Cable;
use life::Life;
use mains::Mains;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use order::Link;
use relay::{Doors, Ends};
use serde_json::{Value, json};
use serial::Line;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use twinpost_config::{NodeDocument, PairLink, WitnessEngine};
use watchdog::Watchdog;

/// The nodes of a pair.
pub const NODES: [&str; 2] = ["a", "b"];
/// Chance begins here until an order says otherwise: two runs have the same faults.
const SEED: u64 = 1;

/// How the nodes' documents say that they are wired.
#[derive(Clone, Debug)]
pub struct Wiring {
    /// The crossover cable; none when the nodes do not speak through the rack.
    pub eth1: Option<relay::Path>,
    /// The path through the LAN.
    pub lan: Option<relay::Path>,
    /// The trusted channel, through the crossover cable.
    pub channel: Option<relay::Path>,
    /// Time of each node's watchdog, when it lies in the rack.
    pub watchdogs: [Option<Duration>; 2],
    /// The witness, when it is one of ours.
    pub witness: Option<SocketAddr>,
}

impl Wiring {
    /// As both documents have it. A path whose ends name each other's own address does not lead through the rack.
    pub fn of(dir: &Path, documents: &[NodeDocument; 2]) -> Self {
        let [a, b] = documents;
        let path = |a: (Option<SocketAddr>, Option<SocketAddr>), b: (Option<SocketAddr>, Option<SocketAddr>)| {
            let path = relay::Path { node_a: a.0?, relay_a: a.1?, node_b: b.0?, relay_b: b.1? };
            (path.relay_a != path.node_b && path.relay_b != path.node_a).then_some(path)
        };
        let link = |a: &PairLink, b: &PairLink| path((a.bind, a.peer), (b.bind, b.peer));
        let (channel_a, channel_b) = (&a.pair.channel, &b.pair.channel);
        let watchdog = |i: usize| {
            let of = &documents[i].pair.watchdog;
            let device = Folder::new(dir.join(NODES[i])).within(of.device.as_ref()?);
            let ours = std::path::absolute(watchdog_path(dir, NODES[i])).ok()?;
            (flat(&device) == flat(&ours)).then_some(of.timeout.0)
        };
        let witness = &a.pair.witness;
        Self {
            eth1: link(&a.pair.eth1, &b.pair.eth1),
            lan: link(&a.pair.lan, &b.pair.lan),
            channel: path((channel_a.bind, channel_a.peer), (channel_b.bind, channel_b.peer)),
            watchdogs: [watchdog(0), watchdog(1)],
            witness: witness.address.filter(|at| witness.engine == WitnessEngine::Twinpost && at.ip().is_loopback()),
        }
    }
}

/// A path without `..`: the documents name the rack relative to the node.
fn flat(path: &Path) -> PathBuf {
    let mut flat = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(flat.pop()),
            std::path::Component::CurDir => {}
            other => flat.push(other),
        }
    }
    flat
}

fn watchdog_path(dir: &Path, node: &str) -> PathBuf {
    dir.join("rack").join(format!("watchdog-{node}"))
}

/// The end of the serial cable at a node.
pub fn serial_path(dir: &Path, node: &str) -> PathBuf {
    dir.join("rack").join(format!("serial-{node}"))
}

/// Where the rack takes orders.
pub fn control_path(dir: &Path) -> PathBuf {
    dir.join("rack").join("control.sock")
}

/// Sockets of the network cables, bound; while they are held, nobody else chooses these addresses.
#[derive(Debug, Default)]
pub struct Bound {
    eth1: Option<(relay::Path, Ends)>,
    lan: Option<(relay::Path, Ends)>,
    channel: Option<(relay::Path, Doors)>,
}

impl Bound {
    /// Binds the relays' ends.
    ///
    /// # Errors
    /// A sentence that names the address.
    pub async fn bind(wiring: &Wiring) -> Result<Self, String> {
        let mut bound = Self::default();
        if let Some(path) = wiring.eth1 {
            bound.eth1 = Some((path, Ends::bind(&path).await?));
        }
        if let Some(path) = wiring.lan {
            bound.lan = Some((path, Ends::bind(&path).await?));
        }
        if let Some(path) = wiring.channel {
            bound.channel = Some((path, Doors::bind(&path).await?));
        }
        Ok(bound)
    }
}

/// The right to run the rack of a folder.
#[derive(Debug)]
pub struct Right {
    _lock: Flock<File>,
}

fn lock_file(dir: &Path) -> Result<File, String> {
    let path = dir.join("rack").join("lock");
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    opened.map_err(|e| format!("cannot open {}: {e}", path.display()))
}

fn own(mut lock: Flock<File>) -> Right {
    // The number is for people who look; the lock itself is what counts.
    let _ = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| write!(lock, "{}", std::process::id()));
    Right { _lock: lock }
}

/// Asks for the right to run the rack; `None` when another `up` has it.
///
/// # Errors
/// The lock file cannot be opened.
pub fn lock(dir: &Path) -> Result<Option<Right>, String> {
    Ok(Flock::lock(lock_file(dir)?, FlockArg::LockExclusiveNonblock).ok().map(own))
}

/// The process that has the right now.
pub fn holder(dir: &Path) -> Option<u32> {
    let mut text = String::new();
    lock_file(dir).ok()?.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Waits for the right in the background: it comes when the one that has it ends.
pub fn wait_for_right(dir: &Path) -> mpsc::Receiver<Right> {
    let (sender, receiver) = mpsc::channel(1);
    let dir = dir.to_owned();
    // A thread of its own and not of the runtime: a runtime waits for its threads at its end, and flock(2) cannot be called off.
    std::thread::spawn(move || {
        let Ok(file) = lock_file(&dir) else { return };
        if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusive) {
            // Nobody waits any more: the right goes back when the lock is dropped here.
            let _ = sender.blocking_send(own(lock));
        }
    });
    receiver
}

/// What the control socket acts on.
#[derive(Debug)]
pub struct Desk {
    dir: PathBuf,
    mains: Mains,
    eth1: Cable,
    lan: Cable,
    serial: Cable,
    line: Line,
    armed: Vec<(&'static str, Duration, tokio::sync::watch::Receiver<bool>)>,
    wakes: mpsc::UnboundedSender<&'static str>,
    tasks: TaskTracker,
}

impl Desk {
    fn cable(&self, link: Link) -> &Cable {
        match link {
            Link::Eth1 => &self.eth1,
            Link::Lan => &self.lan,
            Link::Serial => &self.serial,
        }
    }

    fn life(&self, node: &str) -> Result<Life, String> {
        let life = Life::last(&Folder::new(self.dir.join(node)));
        life.filter(|life| !life.members().is_empty()).ok_or_else(|| format!("node {node} does not run"))
    }

    /// The node has power: whoever of this process runs it may start it.
    fn wake(&self, node: &'static str) {
        // `up` is ending when nobody listens.
        let _ = self.wakes.send(node);
    }

    fn pause(&self, node: &'static str, time: Option<Duration>) -> Result<usize, String> {
        let life = self.life(node)?;
        let count = life.signal(Signal::SIGSTOP);
        if let Some(time) = time {
            self.tasks.spawn(async move {
                tokio::time::sleep(time).await;
                tracing::info!(node, processes = life.signal(Signal::SIGCONT), "the pause is over");
            });
        }
        Ok(count)
    }

    fn show(&self) -> Value {
        let node = |name: &str| {
            let life = Life::last(&Folder::new(self.dir.join(name)));
            let members = life.map(|life| life.members()).unwrap_or_default();
            json!({ "power": self.mains.power(name).name(), "reads": self.mains.read(name).name(), "processes": members })
        };
        let watchdogs: serde_json::Map<String, Value> = self
            .armed
            .iter()
            .map(|(name, timeout, armed)| {
                ((*name).to_owned(), json!({ "armed": *armed.borrow(), "timeout_ms": timeout.as_millis() as u64 }))
            })
            .collect();
        json!({
            "pid": std::process::id(),
            "eth1": self.eth1.show(), "lan": self.lan.show(), "serial": self.serial.show(), "serial_ends": self.line.show(),
            "watchdogs": watchdogs,
            "nodes": { "a": node("a"), "b": node("b") },
        })
    }
}

/// A running rack.
#[derive(Debug)]
pub struct Rack {
    stop: CancellationToken,
    tasks: TaskTracker,
    control: PathBuf,
    _desk: Arc<Desk>,
    _right: Right,
}

impl Rack {
    /// Lays the cables and takes orders. `wakes` hears of each node that may start.
    ///
    /// # Errors
    /// A sentence that says what could not be had.
    pub async fn start(
        dir: &Path,
        right: Right,
        wiring: &Wiring,
        bound: Option<Bound>,
        wakes: mpsc::UnboundedSender<&'static str>,
    ) -> Result<Self, String> {
        let bound = match bound {
            Some(bound) => bound,
            None => Bound::bind(wiring).await?,
        };
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let [eth1, lan, serial] = ["eth1", "lan", "serial"].map(|name| Cable::new(name, SEED));
        for (ends, cable) in [(bound.eth1, &eth1), (bound.lan, &lan)] {
            if let Some((path, ends)) = ends {
                ends.run(path, cable, &stop, &tasks);
            }
        }
        if let Some((path, doors)) = bound.channel {
            doors.run(path, &eth1, &stop, &tasks);
        }
        let line = Line::open(&serial_path(dir, "a"), &serial_path(dir, "b"))?;
        line.run(&serial, &stop, &tasks);
        let mains = Mains::of(dir);
        let mut armed = Vec::new();
        for (node, timeout) in NODES.into_iter().zip(wiring.watchdogs) {
            let Some(timeout) = timeout else { continue };
            let watchdog = Watchdog::bind(&watchdog_path(dir, node), timeout)?;
            armed.push((node, timeout, watchdog.armed()));
            let (mains, wakes) = (mains.clone(), wakes.clone());
            tasks.spawn(watchdog.run(stop.clone(), async move || bite(&mains, node, timeout, &wakes).await));
        }
        for node in NODES {
            let link = dir.join("rack").join(format!("power-{node}"));
            let switch = power::open(&link, node, &mains, &wakes)?;
            let stop = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    ended = switch.run() => tracing::error!(node, ?ended, "the power switch is gone"),
                }
            });
        }
        let control = control_path(dir);
        let listener = control::listen(&control)?;
        let desk = Arc::new(Desk { dir: dir.to_owned(), mains, eth1, lan, serial, line, armed, wakes, tasks: tasks.clone() });
        tasks.spawn(control::serve(listener, desk.clone(), stop.clone()));
        Ok(Self { stop, tasks, control, _desk: desk, _right: right })
    }

    /// Takes everything away and gives the right back.
    pub async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        // A pause with a time still counts: it is short, and its end belongs to it. Nothing else is left by then.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await;
        let _ = std::fs::remove_file(&self.control);
    }
}

/// The watchdog of a node was not fed.
async fn bite(mains: &Mains, node: &'static str, timeout: Duration, wakes: &mpsc::UnboundedSender<&'static str>) {
    if mains.members(node).is_empty() {
        // It has no power or was killed as a whole: its watchdog went dark with it.
        return;
    }
    tracing::warn!(node, timeout_ms = timeout.as_millis() as u64, "the watchdog was not fed in time and resets the node");
    if let Err(error) = mains.reset(node).await {
        tracing::error!(node, %error, "the node could not be reset");
    }
    let _ = wakes.send(node);
}
