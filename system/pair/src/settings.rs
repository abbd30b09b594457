//! Settings of the daemon, and what it is given to work with.

use crate::alarms::Alarms;
use crate::api::FailBack;
use crate::door::Door;
use futures_util::future::BoxFuture;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use twinpost_address::Address;
use twinpost_fencing::PowerSwitch;
use twinpost_group::{Group, GroupEvent};
use twinpost_heartbeat::Keys;
use twinpost_storage::Storage;
use twinpost_witness::Witness;

/// What a node must know of itself and of its peer.
#[derive(Clone)]
pub struct Settings {
    /// Names of the nodes; the first is node 0 of the frames. This node is `names[heart.node]`.
    pub names: [String; 2],
    /// Times and means of the heart. `witness`, `fencing` and `watchdog_ms` are set from what the daemon is given.
    pub heart: twinpost_heartbeat::Settings,
    /// Number of the pair in every frame.
    pub cluster: u32,
    /// Keys of the frames.
    pub keys: Keys,
    /// The crossover cable.
    pub eth1: Option<UdpLink>,
    /// The path through the LAN.
    pub lan: Option<UdpLink>,
    /// The null-modem cable.
    pub serial: Option<SerialLink>,
    /// Pinged once a second as a hint; none: no ping.
    pub gateway: Option<IpAddr>,
    /// Folder of the state files, the rules kept and the journal; this node's alone. Made where it is missing.
    pub state_dir: PathBuf,
    /// Control socket.
    pub socket: PathBuf,
    /// The hardware watchdog: a device, or the path of a Unix datagram socket. None: there is none.
    pub watchdog: Option<PathBuf>,
    /// It resets the node so long after the last feed.
    pub watchdog_ms: u32,
    /// The peer's power is switched on again so long after it was read back as off; 0: it stays off.
    pub power_on_after_ms: u32,
    /// Where the service goes back to, until an order says otherwise.
    pub fail_back: FailBack,
    /// Real-time priority and locked memory, where permitted.
    pub realtime: bool,
    /// Clients of the control socket at a time.
    pub clients_max: u32,
    /// Of this software, told to people.
    pub version: String,
    /// Of this machine; both nodes of a pair should be the same.
    pub board: String,
}

impl Settings {
    /// Settings of one node (0 or 1) with defaults: no link, no watchdog, the peer's power on again after 5 s, real time where permitted.
    #[must_use]
    pub fn new(node: u8, cluster: u32, keys: Keys, state_dir: PathBuf, socket: PathBuf) -> Self {
        Self {
            names: ["a".to_owned(), "b".to_owned()],
            heart: twinpost_heartbeat::Settings { node, watchdog_ms: 0, ..twinpost_heartbeat::Settings::default() },
            cluster,
            keys,
            eth1: None,
            lan: None,
            serial: None,
            gateway: None,
            state_dir,
            socket,
            watchdog: None,
            watchdog_ms: 10_000,
            power_on_after_ms: 5000,
            fail_back: FailBack::Never,
            realtime: true,
            clients_max: 16,
            version: String::new(),
            board: String::new(),
        }
    }

    /// This node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.names[usize::from(self.heart.node & 1)]
    }

    /// The peer's name.
    #[must_use]
    pub fn peer_name(&self) -> &str {
        &self.names[usize::from(1 - (self.heart.node & 1))]
    }
}

/// A path of frames by UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpLink {
    /// This node.
    pub bind: SocketAddr,
    /// The peer. Nobody else is listened to.
    pub peer: SocketAddr,
    /// Whose carrier is watched; none: it counts as there.
    pub interface: Option<String>,
}

/// The null-modem cable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialLink {
    /// Serial port or pseudo-terminal.
    pub port: PathBuf,
    /// Speed in bit/s.
    pub baud: u32,
}

/// What the daemon drives and asks.
pub struct Parts {
    /// The mail volume.
    pub storage: Arc<dyn Storage>,
    /// The service address.
    pub address: Arc<dyn Address>,
    /// The service group.
    pub group: Group,
    /// What the group notices.
    pub group_events: mpsc::Receiver<GroupEvent>,
    /// The peer's power.
    pub power: Option<Arc<dyn PowerSwitch>>,
    /// The third party.
    pub witness: Option<Arc<dyn Witness>>,
    /// The trusted channel to the peer; without it orders that concern both nodes are given on each.
    pub channel: Option<Arc<dyn PeerChannel>>,
    /// Who is told of alarms.
    pub alarms: Option<Arc<dyn Alarms>>,
    /// What the daemon does not do itself: pairing, comparing and merging.
    pub desk: Option<Arc<dyn Desk>>,
    /// Where requests come in beside the control socket: the other end is a [`crate::Handle`].
    pub door: Option<Door>,
    /// New frame keys and config generation while the daemon runs.
    pub changes: Option<watch::Receiver<Changes>>,
}

/// What may change while the daemon runs.
#[derive(Clone)]
pub struct Changes {
    /// Keys of the frames.
    pub keys: Keys,
    /// Generation of the config document.
    pub config: u32,
    /// 0 (worst) to 255.
    pub health: u8,
}

/// The trusted channel to the peer, as the daemon uses it.
pub trait PeerChannel: Send + Sync {
    /// Asks the peer; within the request's own limit.
    fn call(&self, request: twinpost_peer::Request) -> BoxFuture<'_, Result<twinpost_peer::Answer, twinpost_peer::Error>>;

    /// Whether the channel stands.
    fn connected(&self) -> bool;

    /// What the peer told about itself, while the channel stands.
    fn about(&self) -> Option<twinpost_peer::About> {
        None
    }

    /// Whether the peer's frames come: a channel that is down is then worth trying.
    fn heard(&self, _yes: bool) {}
}

impl PeerChannel for twinpost_peer::Channel {
    fn call(&self, request: twinpost_peer::Request) -> BoxFuture<'_, Result<twinpost_peer::Answer, twinpost_peer::Error>> {
        Box::pin(Self::call(self, request))
    }

    fn connected(&self) -> bool {
        matches!(*self.state().borrow(), twinpost_peer::State::Up { .. })
    }

    fn about(&self) -> Option<twinpost_peer::About> {
        match &*self.state().borrow() {
            twinpost_peer::State::Up { hello, .. } => Some(hello.about.clone()),
            twinpost_peer::State::Down { .. } => None,
        }
    }

    fn heard(&self, yes: bool) {
        Self::heard(self, yes);
    }
}

/// Requests that the daemon passes on: [`crate::api::Request::PairOffer`], `PairJoin`, `Unpair` and `Conflict`.
pub trait Desk: Send + Sync {
    /// The answer; a refusal names all reasons.
    fn ask(&self, request: crate::api::Request) -> BoxFuture<'_, crate::api::Answer>;
}
