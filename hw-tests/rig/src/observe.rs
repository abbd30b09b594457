//! Observers of a pair: they ask the service address and know which node answered.
//!
//! Contract: in QEMU one observer for each node stands on the LAN in a namespace of its own, with a fixed neighbour entry that leads the service
//! address to that node's hardware address: whatever ARP says, what a node answers is known by whom was asked. On a bench one
//! observer asks as every client does, and knows who answered by the hardware address that the kernel holds for the service address; there a
//! second server shows itself only when it takes the address over. A node that greets while the other does breaks the pair's
//! first promise: never two in one reign.
//!
//! Failure classes: iproute2 refuses. What was heard is kept; a breach is found by [`Observers::breaches`].

use crate::qemu::{Qemu, SERVICE};
use crate::rig::{NODES, Rig};
use crate::space::Space;
use crate::stand::Stand;
use crate::timeline::{Timeline, lock};
use crate::{Error, Result};
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a connection may take: a machine without processor of its own answers slowly.
const SHORT: Duration = Duration::from_millis(400);
/// How long a greeting may take.
const GREETING: Duration = Duration::from_secs(2);
/// Between two questions to a node that does not greet.
const PACE: Duration = Duration::from_millis(40);
/// Between two questions to one that does: each is a session on its one slow processor.
const CALM_PACE: Duration = Duration::from_millis(200);

/// What was heard from the service address at a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// SMTP greeted.
    Banner,
    /// The kernel answered, no service did.
    Kernel,
}

/// One answer.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Who answered.
    pub node: &'static str,
    /// When it was asked.
    pub asked: Instant,
    /// When the answer came.
    pub heard: Instant,
    /// What it was.
    pub what: Heard,
}

/// Asks an address for an SMTP greeting: what came, or none when nobody answered at all.
#[must_use]
pub fn greeting(at: SocketAddr) -> Option<Heard> {
    let mut stream = match TcpStream::connect_timeout(&at, SHORT) {
        Ok(stream) => stream,
        Err(error) => return (error.kind() == ErrorKind::ConnectionRefused).then_some(Heard::Kernel),
    };
    let _ = stream.set_read_timeout(Some(GREETING));
    let mut bytes = [0; 4];
    let greeted = stream.read_exact(&mut bytes).is_ok() && &bytes == b"220 ";
    Some(if greeted { Heard::Banner } else { Heard::Kernel })
}

/// See the module.
#[derive(Debug)]
pub struct Observers {
    seen: Arc<Mutex<Vec<Seen>>>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _spaces: Vec<Space>,
}

impl Observers {
    /// Puts them on the LAN of a rig.
    ///
    /// # Errors
    /// iproute2 refuses.
    pub fn start(rig: &Stand, timeline: &Timeline) -> Result<Self> {
        match rig {
            Stand::Qemu(rig) => Self::on_bridge(rig, timeline),
            Stand::Bench(rig) => Self::on_lan(&**rig, timeline),
        }
    }

    /// On the LAN of a bench, where this machine is a client like others.
    fn on_lan(rig: &dyn Rig, timeline: &Timeline) -> Result<Self> {
        let (seen, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (service, nodes) = (rig.service(), NODES.map(|node| (node, rig.address(node))));
        let (heard, end, timeline) = (seen.clone(), over.clone(), timeline.clone());
        let observe = move || {
            let mut last = None;
            while !end.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let what = greeting(SocketAddr::new(service, 25));
                // Whoever asks a node itself has its hardware address afterwards, whatever the answer.
                for (_, address) in nodes {
                    let _ = TcpStream::connect_timeout(&SocketAddr::new(address, 25), SHORT);
                }
                let table = Command::new("ip").args(["-json", "neigh", "show"]).output();
                let table = table.ok().and_then(|output| serde_json::from_slice(&output.stdout).ok()).unwrap_or_default();
                let who = answered(&table, service, &nodes);
                if (who, what) != last.unwrap_or_default() {
                    timeline.note("service", &format!("node {} on the service address: {what:?}", who.unwrap_or("?")));
                    last = Some((who, what));
                }
                if let (Some(node), Some(what)) = (who, what) {
                    lock(&heard).push(Seen { node, asked, heard: Instant::now(), what });
                }
                // The pace of asking.
                std::thread::sleep(if what == Some(Heard::Banner) { CALM_PACE } else { PACE });
            }
        };
        let thread = std::thread::Builder::new().name("seen".to_owned()).spawn(observe).map_err(Error::io("an observer"))?;
        Ok(Self { seen, over, threads: vec![thread], _spaces: Vec::new() })
    }

    fn on_bridge(rig: &Qemu, timeline: &Timeline) -> Result<Self> {
        let (seen, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (mut threads, mut spaces) = (Vec::new(), Vec::new());
        for (at, node) in NODES.into_iter().enumerate() {
            let space = Space::new()?;
            let (inside, port) = (space.path().display().to_string(), format!("eye{at}"));
            let ip = |space: &Space, words: &str| space.tool("ip", &words.split(' ').collect::<Vec<_>>()).map(drop);
            // The last rig's port may still be going.
            let _ = ip(rig.space(), &format!("link del {port}"));
            ip(rig.space(), &format!("link add {port} type veth peer name lan0 netns {inside}"))?;
            ip(rig.space(), &format!("link set {port} master lan up"))?;
            // Always the same hardware address: a node remembers that of the observer before, and would answer nobody for the ten seconds that its
            // kernel takes to find out.
            ip(&space, &format!("link set lan0 address 52:54:00:00:01:0{}", at + 1))?;
            ip(&space, "link set lan0 up")?;
            ip(&space, &format!("addr add 10.9.0.{}/24 dev lan0", 31 + at))?;
            let mac = format!("52:54:00:00:00:0{}", at + 1);
            ip(&space, &format!("neigh replace {SERVICE} lladdr {mac} nud permanent dev lan0"))?;
            let (door, seen, over, timeline) = (space.clone(), seen.clone(), over.clone(), timeline.clone());
            let observe = move || {
                if door.enter().is_err() {
                    return;
                }
                let mut last = None;
                while !over.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    let what = greeting(SocketAddr::from((SERVICE, 25)));
                    if what != last {
                        timeline.note(&format!("{node} seen"), &format!("on the service address: {what:?}"));
                        last = what;
                    }
                    if let Some(what) = what {
                        lock(&seen).push(Seen { node, asked, heard: Instant::now(), what });
                    }
                    // The pace of asking.
                    std::thread::sleep(if what == Some(Heard::Banner) { CALM_PACE } else { PACE });
                }
            };
            let thread = std::thread::Builder::new().name(format!("{node} seen")).spawn(observe);
            threads.push(thread.map_err(Error::io("an observer"))?);
            spaces.push(space);
        }
        Ok(Self { seen, over, threads, _spaces: spaces })
    }

    /// Everything that was heard.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    /// The first greeting of a node that was asked for after this moment.
    #[must_use]
    pub fn first_banner(&self, node: &str, after: Instant) -> Option<Instant> {
        let seen = lock(&self.seen);
        seen.iter().find(|s| s.node == node && s.what == Heard::Banner && s.asked >= after).map(|s| s.heard)
    }

    /// The last greeting that a node gave.
    #[must_use]
    pub fn last_banner(&self, node: &str) -> Option<Instant> {
        lock(&self.seen).iter().filter(|s| s.node == node && s.what == Heard::Banner).map(|s| s.heard).max()
    }

    /// Where both nodes greeted at once since the moment: a greeting of one node that was asked for after the other had greeted in a
    /// turn that then went on.
    #[must_use]
    pub fn breaches(&self, from: Instant) -> Vec<String> {
        let seen = lock(&self.seen);
        breaches(seen.iter().filter(|s| s.asked >= from && s.what == Heard::Banner))
    }

    /// Ends them.
    pub fn end(mut self) -> Vec<Seen> {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        self.seen()
    }
}

impl Drop for Observers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// The node whose hardware address the neighbour table (`ip -json neigh show`) has for the service address.
fn answered(table: &serde_json::Value, service: IpAddr, nodes: &[(&'static str, IpAddr)]) -> Option<&'static str> {
    let hardware = |address: IpAddr| {
        let address = address.to_string();
        let entry = table.as_array()?.iter().find(|entry| entry["dst"] == address.as_str())?;
        entry["lladdr"].as_str()
    };
    let serving = hardware(service)?;
    nodes.iter().find(|(_, address)| hardware(*address) == Some(serving)).map(|(node, _)| *node)
}

/// Both served at once when a node's greetings lie on both sides of a whole greeting of the other: asked and heard before it was
/// asked, and asked after it was heard, without the first one's turn having ended by a handover back. A turn that comes back takes
/// longer than [`TURN_LEAST`].
fn breaches<'a>(seen: impl Iterator<Item = &'a Seen>) -> Vec<String> {
    let mut sorted: Vec<&Seen> = seen.collect();
    sorted.sort_by_key(|s| s.asked);
    let mut found = Vec::new();
    for (at, between) in sorted.iter().enumerate() {
        let before = sorted[..at].iter().rev().find(|s| s.node != between.node && s.heard <= between.asked);
        let after = sorted[at + 1..].iter().find(|s| s.node != between.node && s.asked >= between.heard);
        if let (Some(before), Some(after)) = (before, after)
            && after.asked.duration_since(before.heard) < TURN_LEAST
        {
            let ms = |s: &Seen| s.asked.duration_since(sorted[0].asked).as_millis();
            found.push(format!(
                "node {} greeted at {} ms, between greetings of node {} at {} ms and {} ms",
                between.node,
                ms(between),
                before.node,
                ms(before),
                ms(after)
            ));
        }
    }
    found
}

/// No pair hands over twice in less.
const TURN_LEAST: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::{Heard, Seen, answered, breaches};
    use std::time::{Duration, Instant};

    fn seen(start: Instant, list: &[(&'static str, u64, u64)]) -> Vec<Seen> {
        let at = |ms| start + Duration::from_millis(ms);
        list.iter().map(|(node, asked, heard)| Seen { node, asked: at(*asked), heard: at(*heard), what: Heard::Banner }).collect()
    }

    #[test]
    fn who_answers_is_told_by_the_neighbour_table() {
        let nodes = [("a", "192.0.2.11".parse().unwrap()), ("b", "192.0.2.12".parse().unwrap())];
        let service = "192.0.2.10".parse().unwrap();
        // As iproute2 6.1 prints it; an entry that failed has no hardware address.
        let table = |service_at: &str| {
            serde_json::json!([
                { "dst": "192.0.2.11", "dev": "eth0", "lladdr": "52:54:00:00:00:01", "state": ["STALE"] },
                { "dst": "192.0.2.12", "dev": "eth0", "lladdr": "52:54:00:00:00:02", "state": ["REACHABLE"] },
                { "dst": "192.0.2.10", "dev": "eth0", "lladdr": service_at, "state": ["REACHABLE"] },
                { "dst": "192.0.2.99", "dev": "eth0", "state": ["FAILED"] },
            ])
        };
        assert_eq!(answered(&table("52:54:00:00:00:02"), service, &nodes), Some("b"));
        assert_eq!(answered(&table("52:54:00:00:00:01"), service, &nodes), Some("a"));
        assert_eq!(answered(&table("52:54:00:00:00:09"), service, &nodes), None);
        assert_eq!(answered(&serde_json::json!(null), service, &nodes), None);
    }

    #[test]
    fn a_second_server_is_seen_and_a_handover_is_not_one() {
        let start = Instant::now();
        let takeover = seen(start, &[("a", 0, 5), ("a", 40, 45), ("b", 2000, 2010), ("b", 2050, 2060)]);
        assert!(breaches(takeover.iter()).is_empty());
        let back = seen(start, &[("a", 0, 5), ("b", 1000, 1010), ("b", 1800, 1810), ("a", 3000, 3010)]);
        assert!(breaches(back.iter()).is_empty());
        let slow = seen(start, &[("a", 0, 900), ("b", 850, 860), ("b", 900, 910)]);
        assert!(breaches(slow.iter()).is_empty(), "an answer under way at the handover is none");
        let both = seen(start, &[("a", 0, 5), ("b", 20, 25), ("a", 40, 45), ("b", 60, 65)]);
        assert!(!breaches(both.iter()).is_empty());
    }
}
