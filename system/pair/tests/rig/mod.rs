//! Two daemons in this process: real UDP on loopback, real pseudo-terminals, the shared storage driver in a temporary folder.
//! A killed daemon is one whose future is dropped, with its children killed beside it, as a power cut does.
#![allow(dead_code, reason = "each test uses its part of the rig")]

pub mod cables;

use cables::{Serial, Udp};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use twinpost_address::Loopback;
use twinpost_group::{Group, Service};
use twinpost_heartbeat::Keys;
use twinpost_pair::api::{Alarm, Answer, Request, Status};
use twinpost_pair::{Alarms, Client, Error, Handle, Parts, SerialLink, Settings, UdpLink, door, serve};
use twinpost_storage::shared::{self, Shared};

/// Nothing here takes so long; a test that waits longer fails and says for what.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const CLUSTER: u32 = 7;
pub const KEY: [u8; 32] = [9; 32];

pub fn keys() -> Keys {
    Keys { current: KEY, next: None }
}

/// The alarms of both nodes.
#[derive(Default)]
pub struct Told(pub Mutex<Vec<Alarm>>);

impl Alarms for Told {
    fn raise(&self, alarm: &Alarm) {
        self.0.lock().expect("whole").push(alarm.clone());
    }
}

pub struct Rig {
    pub dir: tempfile::TempDir,
    pub eth1: Udp,
    pub lan: Udp,
    pub serial: Serial,
}

pub struct Node {
    pub n: usize,
    pub handle: Handle,
    pub socket: PathBuf,
    lock: PathBuf,
    pub told: Arc<Told>,
    pub shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Rig {
    pub fn new() -> Self {
        // `RUST_LOG=info cargo test -- --nocapture` tells what both daemons do.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let dir = tempfile::tempdir().expect("a folder");
        shared::prepare(&dir.path().join("shared")).expect("a shared folder");
        let (eth1, lan) = (Udp::new(), Udp::new());
        let serial = Serial::new(dir.path());
        Self { dir, eth1, lan, serial }
    }

    pub fn folder(&self, n: usize) -> PathBuf {
        self.dir.path().join(["a", "b"][n])
    }

    pub fn settings(&self, n: usize) -> Settings {
        let dir = self.folder(n);
        let mut set = Settings::new(n as u8, CLUSTER, keys(), dir.join("pair"), dir.join("run/pair.sock"));
        // As off the image, but for waiting less at a start.
        set.heart.first_contact_ms = 3000;
        (set.heart.reservation, set.heart.reservation_excludes) = (true, true);
        set.realtime = false;
        let link = |cable: &Udp| UdpLink { bind: cable.node(n), peer: cable.relay(n), interface: None };
        set.eth1 = Some(link(&self.eth1));
        set.lan = Some(link(&self.lan));
        set.serial = Some(SerialLink { port: self.serial.port(n), baud: 115_200 });
        set
    }

    pub fn start(&self, n: usize) -> Node {
        self.start_with(self.settings(n))
    }

    pub fn start_with(&self, set: Settings) -> Node {
        self.start_changed(set, |_| {})
    }

    pub fn start_changed(&self, set: Settings, change: impl FnOnce(&mut Parts)) -> Node {
        let n = usize::from(set.heart.node);
        let dir = self.folder(n);
        std::fs::create_dir_all(&dir).expect("a folder");
        let name = ["a", "b"][n];
        let storage = shared::Settings::new(name, self.dir.path().join("shared"), dir.join("data"));
        let storage = Shared::new(storage).expect("a driver");
        let address = Loopback::new(vec!["127.0.0.1".parse().expect("an address")]).expect("a driver");
        let mut service = Service::child("mail", vec!["sleep".to_owned(), "1000".to_owned()]);
        service.stop_grace = Duration::from_secs(2);
        let marker = dir.display().to_string();
        let (group, group_events) = Group::new(twinpost_group::Settings::new(marker, vec![service])).expect("a group");
        let (handle, door) = door();
        let told = Arc::new(Told::default());
        let mut parts = Parts {
            storage: Arc::new(storage),
            address: Arc::new(address),
            group,
            group_events,
            power: None,
            witness: None,
            channel: None,
            alarms: Some(told.clone()),
            desk: None,
            door: Some(door),
            changes: None,
        };
        change(&mut parts);
        let shutdown = CancellationToken::new();
        let (socket, lock) = (set.socket.clone(), set.state_dir.join("lock"));
        let span = tracing::info_span!("node", name);
        let task = tokio::spawn(tracing::Instrument::instrument(serve(set, parts, shutdown.clone()), span));
        Node { n, handle, socket, lock, told, shutdown, task }
    }
}

impl Node {
    pub fn name(&self) -> &'static str {
        ["a", "b"][self.n]
    }

    pub async fn status(&self) -> Status {
        tokio::time::timeout(PATIENCE, self.handle.status()).await.expect("an answer in time").expect("the daemon runs")
    }

    /// Follows the status until it is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let mut last = None;
        let follow = async {
            let client = loop {
                match Client::connect(&self.socket).await {
                    Ok(client) => break client,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            let mut watch = client.watch().await.expect("watches");
            loop {
                let status = watch.next().await.expect("a status");
                if wanted(&status) {
                    return status;
                }
                last = Some(status);
            }
        };
        match tokio::time::timeout(PATIENCE, follow).await {
            Ok(status) => status,
            Err(_) => panic!("node {}: {what} did not happen: {last:#?}", self.name()),
        }
    }

    pub async fn until_active(&self) -> Status {
        self.until("serving", |s| s.active.as_deref() == Some(self.name()) && s.services.state == "up").await
    }

    pub async fn until_eligible(&self) -> Status {
        let name = self.name();
        self.until("eligible", |s| s.nodes.iter().any(|node| node.name == name && node.eligible)).await
    }

    /// Waits for an alarm of this code.
    pub async fn until_told(&self, code: &str) -> Alarm {
        let status = self.until(code, |s| s.alarms.iter().any(|alarm| alarm.code == code)).await;
        assert!(self.told.0.lock().expect("whole").iter().any(|alarm| alarm.code == code), "the callback heard it too");
        status.alarms.into_iter().rfind(|alarm| alarm.code == code).expect("just seen")
    }

    pub async fn ask(&self, request: Request) -> Answer {
        self.handle.ask(request).await
    }

    /// A power cut.
    pub async fn kill(self) {
        let lock = self.lock.clone();
        let pids = self.status().await.services.pids;
        self.task.abort();
        let _ = self.task.await;
        for pid in pids {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
            let _ = nix::sys::signal::killpg(pid, nix::sys::signal::Signal::SIGKILL);
        }
        // Its workers end when the runtime comes to them; a process would be gone as a whole.
        let gone = async {
            while std::fs::File::open(&lock).is_ok_and(|file| file.try_lock().is_err()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("the state file is let go");
    }

    /// Ends by itself.
    pub async fn ended(self) -> Result<(), Error> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("ends in time").expect("no panic")
    }

    /// An orderly end.
    pub async fn leave(self) -> Result<(), Error> {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("ends in time").expect("no panic")
    }
}

/// A free port of this machine.
pub fn free_port() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port")
}

pub fn node_of<'a>(status: &'a Status, name: &str) -> &'a twinpost_pair::api::NodeStatus {
    status.nodes.iter().find(|node| node.name == name).expect("both nodes are told")
}

pub fn link_of<'a>(status: &'a Status, name: &str) -> &'a twinpost_pair::api::LinkStatus {
    status.links.iter().find(|link| link.name == name).expect("all links are told")
}

pub fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}
