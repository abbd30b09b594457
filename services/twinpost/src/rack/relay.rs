//! The network cables: what a node sends to the relay's address arrives at the other node.
//!
//! Contract: each end has an address that stands for the other node: node a sends to the relay's end `a` and hears from it, and
//! the same for b. Datagrams are passed on at once, in order, whole; connections (the trusted channel) are passed on byte by
//! byte. A cut drops datagrams and makes connections stand still, as a pulled cable does: nothing is closed.
//!
//! Failure classes: an address is taken (said by [`Ends::bind`]); a receiver that is not there is silence, as on a real cable.

use super::cable::{Cable, Way};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Larger than any heartbeat; what is longer is cut off as by a wire.
const DATAGRAM_MAX: usize = 2048;
/// Connections at a time through one cable.
const CONNECTIONS_MAX: usize = 64;

/// The addresses of one path: those of the relay and those of the nodes behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Where node a sends to: it stands for b.
    pub relay_a: SocketAddr,
    /// Where node b sends to: it stands for a.
    pub relay_b: SocketAddr,
    /// Where node a listens.
    pub node_a: SocketAddr,
    /// Where node b listens.
    pub node_b: SocketAddr,
}

impl Path {
    /// As `endpoints.json` shows it.
    pub fn show(&self) -> Value {
        json!({ "a": self.node_a, "b": self.node_b, "relay": { "a": self.relay_a, "b": self.relay_b } })
    }
}

/// The bound ends of a datagram path.
#[derive(Debug)]
pub struct Ends {
    a: UdpSocket,
    b: UdpSocket,
}

impl Ends {
    /// Binds both ends.
    ///
    /// # Errors
    /// A sentence that names the address.
    pub async fn bind(path: &Path) -> Result<Self, String> {
        let bind = async |at: SocketAddr| UdpSocket::bind(at).await.map_err(|e| format!("cannot lay a cable at {at} (UDP): {e}"));
        Ok(Self { a: bind(path.relay_a).await?, b: bind(path.relay_b).await? })
    }

    /// Passes datagrams on until it is stopped.
    pub fn run(self, path: Path, cable: &Cable, stop: &CancellationToken, tasks: &TaskTracker) {
        let (a, b) = (Arc::new(self.a), Arc::new(self.b));
        tasks.spawn(datagrams(a.clone(), b.clone(), path.node_b, cable.clone(), Way::ToB, stop.clone()));
        tasks.spawn(datagrams(b, a, path.node_a, cable.clone(), Way::ToA, stop.clone()));
    }
}

async fn datagrams(from: Arc<UdpSocket>, by: Arc<UdpSocket>, to: SocketAddr, cable: Cable, way: Way, stop: CancellationToken) {
    let mut buffer = [0; DATAGRAM_MAX];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = from.recv_from(&mut buffer) => received,
        };
        match received {
            Ok((length, _)) if cable.passes(way) => {
                // A node that is down: its datagrams end here, as those on a cable to a dark machine do.
                let _ = by.send_to(&buffer[..length], to).await;
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, cable = cable.name(), "a datagram could not be taken");
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
    }
}

/// The bound ends of a path for connections.
#[derive(Debug)]
pub struct Doors {
    a: TcpListener,
    b: TcpListener,
}

impl Doors {
    /// Binds both ends.
    ///
    /// # Errors
    /// A sentence that names the address.
    pub async fn bind(path: &Path) -> Result<Self, String> {
        let bind =
            async |at: SocketAddr| TcpListener::bind(at).await.map_err(|e| format!("cannot lay a cable at {at} (TCP): {e}"));
        Ok(Self { a: bind(path.relay_a).await?, b: bind(path.relay_b).await? })
    }

    /// Passes connections on until it is stopped.
    pub fn run(self, path: Path, cable: &Cable, stop: &CancellationToken, tasks: &TaskTracker) {
        // A connection comes from the address of the relay's other end, so that the node sees its peer in the caller.
        for (door, to, by, way) in [(self.a, path.node_b, path.relay_b, Way::ToB), (self.b, path.node_a, path.relay_a, Way::ToA)]
        {
            tasks.spawn(connections(door, to, by, cable.clone(), way, stop.clone(), tasks.clone()));
        }
    }
}

async fn connections(
    door: TcpListener,
    to: SocketAddr,
    by: SocketAddr,
    cable: Cable,
    way: Way,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let places = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = door.accept() => accepted,
        };
        let Ok((here, _)) = accepted else {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (cable, stop) = (cable.clone(), stop.clone());
        tasks.spawn(async move {
            let _place = place;
            tokio::select! {
                () = stop.cancelled() => {}
                () = connection(here, to, by, &cable, way) => {}
            }
        });
    }
}

async fn connection(mut here: TcpStream, to: SocketAddr, by: SocketAddr, cable: &Cable, way: Way) {
    cable.whole(way).await;
    let Ok(mut there) = connect(to, by).await else { return };
    for stream in [&here, &there] {
        // Orders are small and waited for. A socket without this option is only slower.
        let _ = stream.set_nodelay(true);
    }
    let back = if way == Way::ToB { Way::ToA } else { Way::ToB };
    let (mut here_reads, mut here_writes) = here.split();
    let (mut there_reads, mut there_writes) = there.split();
    let forth = pump(&mut here_reads, &mut there_writes, cable, way);
    let back = pump(&mut there_reads, &mut here_writes, cable, back);
    tokio::join!(forth, back);
}

async fn connect(to: SocketAddr, by: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if to.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(by.ip(), 0))?;
    socket.connect(to).await
}

async fn pump(from: &mut (impl AsyncReadExt + Unpin), to: &mut (impl AsyncWriteExt + Unpin), cable: &Cable, way: Way) {
    let mut buffer = [0; 8192];
    loop {
        let length = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        // A connection loses nothing: what a cut holds back goes on when the cable is whole again.
        cable.whole(way).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    cable.whole(way).await;
    let _ = to.shutdown().await;
}

/// Sockets at the nodes' own addresses: whoever can bind them knows that no other node is there.
#[derive(Debug)]
pub struct Probe {
    _datagrams: Vec<UdpSocket>,
    _connections: Vec<TcpListener>,
}

impl Probe {
    /// Binds what the nodes will bind at the ends of these paths, and the witness.
    ///
    /// # Errors
    /// A sentence that names the address.
    pub async fn nodes(
        datagrams: &[Option<Path>],
        connections: &[Option<Path>],
        witness: Option<SocketAddr>,
    ) -> Result<Self, String> {
        let ends = |paths: &[Option<Path>]| paths.iter().flatten().flat_map(|p| [p.node_a, p.node_b]).collect::<Vec<_>>();
        let mut probe = Self { _datagrams: Vec::new(), _connections: Vec::new() };
        for at in ends(datagrams).into_iter().chain(witness) {
            probe._datagrams.push(UdpSocket::bind(at).await.map_err(|e| format!("{at} (UDP): {e}"))?);
        }
        for at in ends(connections) {
            probe._connections.push(TcpListener::bind(at).await.map_err(|e| format!("{at} (TCP): {e}"))?);
        }
        Ok(probe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn laid() -> (UdpSocket, UdpSocket, Path, Cable, CancellationToken) {
        let node = async || UdpSocket::bind("127.0.0.1:0").await.expect("loopback is there");
        let (a, b) = (node().await, node().await);
        let (node_a, node_b) = (a.local_addr().expect("bound"), b.local_addr().expect("bound"));
        let any = "127.0.0.1:0".parse().expect("an address");
        let ends = Ends::bind(&Path { relay_a: any, relay_b: any, node_a, node_b }).await.expect("any port");
        let (relay_a, relay_b) = (ends.a.local_addr().expect("bound"), ends.b.local_addr().expect("bound"));
        let path = Path { relay_a, relay_b, node_a, node_b };
        let (cable, stop) = (Cable::new("eth1", 5), CancellationToken::new());
        ends.run(path, &cable, &stop, &TaskTracker::new());
        (a, b, path, cable, stop)
    }

    async fn heard(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 100];
        let (length, from) =
            tokio::time::timeout(PATIENCE, socket.recv_from(&mut buffer)).await.expect("in time").expect("heard");
        (buffer[..length].to_vec(), from)
    }

    #[tokio::test]
    async fn datagrams_cross_and_come_from_the_address_that_stands_for_the_other() {
        let (a, b, path, cable, _stop) = laid().await;
        a.send_to(b"to b", path.relay_a).await.expect("sent");
        assert_eq!(heard(&b).await, (b"to b".to_vec(), path.relay_b));
        b.send_to(b"to a", path.relay_b).await.expect("sent");
        assert_eq!(heard(&a).await, (b"to a".to_vec(), path.relay_a));

        cable.cut(&[Way::ToB]);
        a.send_to(b"lost", path.relay_a).await.expect("sent");
        b.send_to(b"still", path.relay_b).await.expect("sent");
        assert_eq!(heard(&a).await.0, b"still");
        // The lost one is counted before anything that is sent after the mend can pass.
        while cable.show()["a>b"]["dropped_by_cut"] != 1 {
            tokio::task::yield_now().await;
        }
        cable.mend(&Way::BOTH);
        a.send_to(b"again", path.relay_a).await.expect("sent");
        assert_eq!(heard(&b).await.0, b"again");
    }

    #[tokio::test]
    async fn a_connection_stands_still_while_the_cable_is_cut_and_loses_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
        let any = "127.0.0.1:0".parse().expect("an address");
        let node_b = listener.local_addr().expect("bound");
        let doors = Doors::bind(&Path { relay_a: any, relay_b: any, node_a: any, node_b }).await.expect("any port");
        let (relay_a, relay_b) = (doors.a.local_addr().expect("bound"), doors.b.local_addr().expect("bound"));
        let (cable, stop, tasks) = (Cable::new("eth1", 5), CancellationToken::new(), TaskTracker::new());
        doors.run(Path { relay_a, relay_b, node_a: any, node_b }, &cable, &stop, &tasks);

        let mut here = TcpStream::connect(relay_a).await.expect("the door is open");
        here.write_all(b"one").await.expect("sent");
        let (mut there, from) = tokio::time::timeout(PATIENCE, listener.accept()).await.expect("in time").expect("accepted");
        assert_eq!(from.ip(), relay_b.ip());
        let mut three = [0; 3];
        there.read_exact(&mut three).await.expect("read");
        assert_eq!(&three, b"one");

        cable.cut(&Way::BOTH);
        here.write_all(b"two").await.expect("taken by the relay's end");
        let early = tokio::time::timeout(Duration::from_millis(50), there.read(&mut three)).await;
        assert!(early.is_err(), "bytes crossed a cut cable");
        cable.mend(&Way::BOTH);
        tokio::time::timeout(PATIENCE, there.read_exact(&mut three)).await.expect("in time").expect("read");
        assert_eq!(&three, b"two");
        drop(here);
        assert_eq!(tokio::time::timeout(PATIENCE, there.read(&mut three)).await.expect("in time").expect("the end"), 0);
        stop.cancel();
        tasks.close();
        tokio::time::timeout(PATIENCE, tasks.wait()).await.expect("nothing stays behind");
    }
}
