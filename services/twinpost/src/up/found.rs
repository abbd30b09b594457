//! Founds a pair in a folder: documents, addresses, identities.
//!
//! Contract: done once, under the lock of the folder; a start that was cut off is finished by the next. Addresses and ports are tried out
//! and held until they are written down; the ends of the cables are held on, so that two pairs that are founded at the same time
//! take different ones. A folder with a node alone becomes a pair: its document goes to both, its mail to the shared folder, its
//! certificates with the mail.
//!
//! Failure classes: no free addresses, a file that cannot be written, a mail folder on another file system: one sentence.

use super::{Shape, document_text, service_ports};
use crate::node::{Folder, write_whole};
use crate::rack::relay::{Path as CablePath, Probe};
use crate::rack::{Bound, NODES, Wiring};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use twinpost_config::NODE_FILE;
use twinpost_peer::Identity;

/// Heartbeats.
const HEARTBEAT: u16 = 2694;
/// The trusted channel.
const CHANNEL: u16 = 2695;
/// The witness.
const WITNESS: u16 = 2696;
/// Networks tried before giving up.
const TRIES: usize = 40;

/// Where the addresses of one pair lie: LAN 127.`x`.`y`.0/24, crossover cable the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ground {
    x: u8,
    y: u8,
}

impl Ground {
    /// The known one first, then any.
    fn candidates() -> impl Iterator<Item = Self> {
        let any = std::iter::repeat_with(|| Self { x: rand::random_range(128..=254), y: rand::random_range(0..=127) * 2 });
        std::iter::once(Self { x: 0, y: 0 }).chain(any).take(TRIES)
    }
    fn lan(self, host: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, self.x, self.y, host))
    }
    fn eth1(self, host: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, self.x, self.y + 1, host))
    }
    fn service(self) -> IpAddr {
        self.lan(10)
    }
    fn witness(self) -> SocketAddr {
        (self.lan(13), WITNESS).into()
    }
    /// Nodes at 11 and 12; what they send to is at 21 and 22.
    fn path(of: impl Fn(u8) -> IpAddr, port: u16) -> CablePath {
        let at = |host| SocketAddr::new(of(host), port);
        CablePath { node_a: at(11), node_b: at(12), relay_a: at(21), relay_b: at(22) }
    }
    fn wiring(self) -> Wiring {
        Wiring {
            eth1: Some(Self::path(|host| self.eth1(host), HEARTBEAT)),
            lan: Some(Self::path(|host| self.lan(host), HEARTBEAT)),
            channel: Some(Self::path(|host| self.eth1(host), CHANNEL)),
            watchdogs: [None; 2],
            witness: Some(self.witness()),
        }
    }
}

/// What a founded pair needs at its first start.
#[derive(Debug, Default)]
pub struct Founded {
    /// The pair was made just now.
    pub new: bool,
    /// The ends of the cables, held since they were chosen.
    pub bound: Option<Bound>,
}

/// Where it is noted that a demo is to be made, until it is.
pub fn demo_wish(dir: &Path) -> PathBuf {
    dir.join("rack").join("demo-wanted")
}

/// Makes the folder a pair's, if it is not; the caller holds its lock.
///
/// # Errors
/// A sentence.
pub async fn pair(dir: &Path, address: Option<IpAddr>, demo: bool) -> Result<Founded, String> {
    let folders = NODES.map(|node| Folder::new(dir.join(node)));
    for folder in &folders {
        folder.make().map_err(|e| format!("cannot make {}: {e}", folder.path().display()))?;
        private(&folder.pair())?;
    }
    for name in ["shared", "rack", "witness"] {
        private(&dir.join(name))?;
    }
    let shape = Shape::of(dir);
    let mut founded = Founded::default();
    if shape != Shape::Two {
        let (ground, bound, held) = free_ground(address).await?;
        founded = Founded { new: shape == Shape::New, bound: Some(bound) };
        let text = match shape {
            Shape::One => nameless(&folders[0])?,
            _ => document_text(&held.services, None)?,
        };
        if shape == Shape::New && demo {
            write(&demo_wish(dir), b"")?;
        }
        // Node a's own document is the last for a new pair, its node.toml for one that was a node alone: what is cut off before is
        // begun again.
        write(&folders[1].document(), text.as_bytes())?;
        write(&folders[1].path().join(NODE_FILE), node_text(ground, 1).as_bytes())?;
        if shape == Shape::New {
            write(&folders[0].path().join(NODE_FILE), node_text(ground, 0).as_bytes())?;
            write(&folders[0].document(), text.as_bytes())?;
        } else {
            write(&folders[0].document(), text.as_bytes())?;
            write(&folders[0].path().join(NODE_FILE), node_text(ground, 0).as_bytes())?;
        }
        drop(held);
    }
    let [a, _] = Identity::couple(&folders[0].pair(), &folders[1].pair(), NODES).map_err(|e| e.to_string())?;
    let witness = dir.join("witness");
    if let Some(paired) = a.pair().filter(|paired| !twinpost_witness::is_enrolled(&witness, paired.cluster)) {
        let key = twinpost_witness::Key::from(paired.witness_key.0);
        twinpost_witness::enrol(&witness, paired.cluster, &key).map_err(|e| e.to_string())?;
    }
    join_data(dir, &folders[0])?;
    Ok(founded)
}

/// The mail of a node that was alone becomes the pair's.
fn join_data(dir: &Path, alone: &Folder) -> Result<(), String> {
    let (own, shared) = (alone.data(), dir.join("shared").join("data"));
    let real = own.symlink_metadata().is_ok_and(|data| data.is_dir());
    if !real || shared.exists() {
        return Ok(());
    }
    // The certificates first: what is cut off here is found again, as the mail still lies where it was.
    let known = std::fs::read_dir(alone.tls()).is_ok_and(|mut files| files.next().is_some());
    if known && !alone.shared_tls().exists() {
        copy(&alone.tls(), &alone.shared_tls())?;
    }
    std::fs::rename(&own, &shared).map_err(|e| {
        format!("cannot move the mail from {} to {}: {e}; both must lie on one file system", own.display(), shared.display())
    })
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let new = to.with_extension("new");
    let work = || {
        match std::fs::remove_dir_all(&new) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => std::fs::create_dir(&new)?,
        }
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            std::fs::copy(entry.path(), new.join(entry.file_name()))?;
        }
        std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        std::fs::rename(&new, to)
    };
    work().map_err(|e| format!("cannot copy the certificates from {} to {}: {e}", from.display(), to.display()))
}

/// Makes a folder that only its owner may read.
///
/// # Errors
/// A sentence.
pub fn private(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| format!("cannot make {}: {e}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    write_whole(path, bytes, 0o600).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

/// The document of a node alone without its name: the same file serves both nodes.
fn nameless(alone: &Folder) -> Result<String, String> {
    let path = alone.document();
    twinpost_config::load(&path).map_err(|e| e.to_string())?;
    let text = std::fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let mut document: toml_edit::DocumentMut = text.parse().map_err(|e| format!("{}: {e}", path.display()))?;
    if let Some(node) = document.get_mut("node").and_then(|node| node.as_table_like_mut()) {
        node.remove("name");
    }
    Ok(document.to_string())
}

/// Sockets that keep addresses from others until the documents are written.
struct Held {
    services: Vec<std::net::TcpListener>,
    _nodes: Probe,
}

/// Addresses that nobody uses.
async fn free_ground(address: Option<IpAddr>) -> Result<(Ground, Bound, Held), String> {
    let mut why = String::new();
    // An address that the administrator named is taken with other ports; an own one is changed for another.
    let mut named = address.map(|address| service_ports(address, true)).transpose()?;
    for ground in Ground::candidates() {
        let wiring = ground.wiring();
        let all = async {
            let bound = Bound::bind(&wiring).await?;
            let nodes = Probe::nodes(&[wiring.eth1, wiring.lan], &[wiring.channel], wiring.witness).await?;
            let services = if address.is_some() { Vec::new() } else { service_ports(ground.service(), false)? };
            Ok::<_, String>((bound, nodes, services))
        };
        match all.await {
            Ok((bound, nodes, services)) => {
                let services = named.take().unwrap_or(services);
                return Ok((ground, bound, Held { services, _nodes: nodes }));
            }
            Err(error) => why = error,
        }
    }
    Err(format!("no free addresses for a pair were found in 127.0.0.0/8: {why}"))
}

/// `node.toml` of node a (0) or b (1).
fn node_text(ground: Ground, index: usize) -> String {
    let (name, other) = (NODES[index], NODES[1 - index]);
    let wiring = ground.wiring();
    let ends = |path: Option<CablePath>| {
        let path = path.expect("the wiring of a ground has every path");
        let (bind, peer) = if index == 0 { (path.node_a, path.relay_a) } else { (path.node_b, path.relay_b) };
        format!("bind = \"{bind}\"\npeer = \"{peer}\"\n")
    };
    let (eth1, lan, channel) = (ends(wiring.eth1), ends(wiring.lan), ends(wiring.channel));
    format!(
        "# What belongs to node {name} alone. What both nodes share is in appliance.toml. All keys: docs/configuration.md.\n\
         version = 1\n\n[node]\nname = \"{name}\"\n\n[pair]\nenabled = true\n\n\
         # The cables lie in the rack, which `twinpost up` runs: what this node sends to `peer` arrives at node {other}, and `twinpost ctl\n\
         # rack` can cut them.\n[pair.eth1]\n{eth1}\n[pair.lan]\n{lan}\n[pair.channel]\n{channel}\n\
         [pair.serial]\nport = \"../rack/serial-{name}\"\nbaud = 115200\n\n\
         [pair.storage]\ndriver = \"shared\"\nroot = \"../shared\"\n\n\
         [pair.watchdog]\ndevice = \"../rack/watchdog-{name}\"\ntimeout = \"10 s\"\n\n\
         # The switch of node {other}'s power: driver = \"relay\" uses the one in the rack.\n\
         [pair.power]\ndriver = \"none\"\nat = \"../rack/power-{other}\"\n\n\
         [pair.witness]\nengine = \"twinpost\"\naddress = \"{}\"\n",
        ground.witness()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinpost_config::{load, load_node};

    fn made(dir: &Path) -> [twinpost_config::NodeDocument; 2] {
        NODES.map(|node| load_node(&dir.join(node)).expect("a sound node.toml"))
    }

    #[tokio::test]
    async fn a_new_pair_has_one_document_twice_and_its_wiring_is_found_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let founded = pair(dir.path(), None, true).await.expect("founded");
        assert!(founded.new && founded.bound.is_some() && demo_wish(dir.path()).exists());
        let text = |node: &str| std::fs::read_to_string(dir.path().join(node).join("appliance.toml")).expect("written");
        assert_eq!(text("a"), text("b"));
        let names = NODES.map(|node| load(&dir.path().join(node).join("appliance.toml")).expect("sound").node.name);
        assert_eq!(names, ["a", "b"]);
        let documents = made(dir.path());
        let wiring = Wiring::of(dir.path(), &documents);
        let eth1 = wiring.eth1.expect("through the rack");
        assert_eq!(Some(eth1.node_a), documents[0].pair.eth1.bind);
        assert_eq!(wiring.watchdogs, [Some(std::time::Duration::from_secs(10)); 2]);
        assert!(wiring.lan.is_some() && wiring.channel.is_some() && wiring.witness.is_some());
        assert!(!dir.path().join("a/data").exists(), "a standby has no data");
        assert_eq!(Shape::of(dir.path()), Shape::Two);

        // While the ends of its cables are held, the next pair takes others.
        let second = tempfile::tempdir().expect("a folder");
        let next = pair(second.path(), None, false).await.expect("founded");
        assert_ne!(made(second.path())[0].pair.eth1.bind, documents[0].pair.eth1.bind);
        drop((founded, next));
        let again = pair(dir.path(), None, true).await.expect("nothing to do");
        assert!(!again.new && again.bound.is_none());
        assert_eq!(made(dir.path()), documents);
    }

    #[tokio::test]
    async fn a_node_alone_becomes_a_pair_with_its_mail_its_addresses_and_its_certificate() {
        let dir = tempfile::tempdir().expect("a folder");
        let alone = Folder::new(dir.path().join("a"));
        alone.make().and_then(|()| alone.make_data()).expect("made");
        let text = "[node]\nname = \"mx\" # mine\nhost_name = \"mx.school.example\"\n[network]\nsmtp = [\"127.9.9.9:25\"]\n";
        std::fs::write(alone.document(), text).expect("written");
        std::fs::write(alone.data().join("mail"), "kept").expect("written");
        std::fs::write(alone.tls().join("ca.pem"), "known").expect("written");
        let founded = pair(dir.path(), None, true).await.expect("founded");
        assert!(!founded.new && !demo_wish(dir.path()).exists());
        for node in NODES {
            let document = load(&dir.path().join(node).join("appliance.toml")).expect("sound");
            assert_eq!((document.node.name.as_str(), document.node.host_name.as_str()), (node, "mx.school.example"));
            assert_eq!(document.network.smtp, ["127.9.9.9:25".parse().expect("an address")]);
        }
        let read = |name: &str| std::fs::read_to_string(dir.path().join("shared/data").join(name)).expect("moved");
        assert_eq!((read("mail"), read("tls/ca.pem")), ("kept".to_owned(), "known".to_owned()));
        assert!(!alone.data().exists());
    }
}
