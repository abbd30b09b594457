//! A network that loses, doubles and delays, and people who send what is not theirs.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use twinpost_witness::{
    Claimed, Client, ClientSettings, Counters, Error, Key, Refusal, Renewed, Server, Settings, Witness as _, WitnessStatus,
    enrol, read_status,
};

const CLUSTER: u32 = 0x00c0_ffee;

struct Running {
    dir: tempfile::TempDir,
    address: SocketAddr,
    key: Key,
    shutdown: CancellationToken,
    status: Box<dyn Fn() -> WitnessStatus + Send + Sync>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = Key::generate();
        enrol(dir.path(), CLUSTER, &key).unwrap();
        let settings = Settings { listen: "127.0.0.1:0".parse().unwrap(), dir: dir.path().to_owned() };
        let server = Server::bind(settings).await.unwrap();
        let (address, status, shutdown) = (server.local_addr(), Box::new(server.watch()), CancellationToken::new());
        let task = tokio::spawn(server.run(shutdown.clone()));
        Self { dir, address, key, shutdown, status, task }
    }

    fn client(&self, address: SocketAddr, node: u8) -> Client {
        let settings = ClientSettings::new(address.to_string(), CLUSTER, node, self.key.clone());
        Client::new(ClientSettings { limit: Duration::from_secs(15), probe: Duration::from_secs(3600), ..settings })
    }

    /// Sends datagrams from a stranger's socket and waits until `seen` holds of what was dropped.
    async fn throw(&self, datagrams: &[Vec<u8>], seen: impl Fn(Counters) -> bool) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for datagram in datagrams {
            socket.send_to(datagram, self.address).await.unwrap();
        }
        let watch = async {
            while !seen((self.status)().dropped) {
                tokio::task::yield_now().await;
            }
        };
        let outcome = tokio::time::timeout(Duration::from_secs(10), watch).await;
        assert!(outcome.is_ok(), "{:?}", (self.status)().dropped);
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

/// Numbers of a seed, for what befalls datagrams.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// Stands between clients and witness: loses a third of all datagrams, doubles some, gives some out later and in another order. Keeps
/// every question that came by.
async fn rough(witness: SocketAddr, seed: u64) -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
    let outer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let inner = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    inner.connect(witness).await.unwrap();
    let (address, seen) = (outer.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let keep = Arc::clone(&seen);
    tokio::spawn(async move {
        let mut dice = Dice(seed);
        let mut client = None;
        let mut late: [VecDeque<Vec<u8>>; 2] = Default::default();
        let (mut out, mut back) = ([0; 200], [0; 200]);
        loop {
            let (way, data) = tokio::select! {
                got = outer.recv_from(&mut out) => {
                    let (length, from) = got.unwrap();
                    client = Some(from);
                    keep.lock().unwrap().push(out[..length].to_vec());
                    (0, out[..length].to_vec())
                }
                Ok(length) = inner.recv(&mut back) => (1, back[..length].to_vec()),
            };
            match dice.below(6) {
                0 | 1 => {}
                2 => late[way].extend([data.clone(), data]),
                3 => late[way].push_back(data),
                _ => late[way].push_front(data),
            }
            while late[way].len() > 1 || (!late[way].is_empty() && dice.below(2) == 0) {
                let data = late[way].pop_front().expect("not empty");
                if way == 0 {
                    drop(inner.send(&data).await);
                } else if let Some(client) = client {
                    drop(outer.send_to(&data, client).await);
                }
            }
        }
    });
    (address, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rough_line_decides_once() {
    let running = Running::start().await;
    let seed = rand_seed();
    let mut lines = Vec::new();
    for node in 0..2u8 {
        lines.push(rough(running.address, seed + u64::from(node)).await);
    }
    let [a, b] = [0, 1].map(|node| running.client(lines[usize::from(node)].0, node));
    let mut winners = Vec::new();
    for reign in 1..=8 {
        let outcome = tokio::join!(a.claim(reign - 1, reign), b.claim(reign - 1, reign));
        let outcome = [outcome.0.unwrap(), outcome.1.unwrap()];
        let won = outcome.map(|claimed| matches!(claimed, Claimed::Won { .. }));
        assert!(won[0] != won[1], "seed {seed}, reign {reign}: {outcome:?}");
        winners.push(won[1]);
    }
    assert_eq!(a.read().await.unwrap(), (8, u8::from(winners[7])), "seed {seed}");
    let status = (running.status)();
    assert_eq!(status.clusters[0].answers.won, 8, "seed {seed}: each reign was won once, whatever was sent twice: {status:?}");

    // All questions of both again: nothing is decided again.
    let old: Vec<_> = lines.iter().flat_map(|(_, seen)| seen.lock().unwrap().clone()).collect();
    let before = (running.status)();
    // Those that ask for run and session are greeted again, the last of each node is answered from memory, all others are dropped.
    running.throw(&old, |dropped| dropped.replayed >= before.dropped.replayed + 12).await;
    let after = (running.status)();
    let decided = |status: &WitnessStatus| {
        let answers = status.clusters[0].answers;
        answers.won + answers.lost + answers.held + answers.renewed + answers.deposed + answers.read
    };
    assert_eq!(decided(&before), decided(&after));
    assert_eq!(b.read().await.unwrap().0, 8);
    running.stop().await;
}

fn rand_seed() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_counted_and_not_answered() {
    let running = Running::start().await;
    let tap = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // A real question, caught on its way.
    let settings = ClientSettings::new(tap.local_addr().unwrap().to_string(), CLUSTER, 0, running.key.clone());
    let caught = Client::new(settings);
    let mut buffer = [0; 200];
    let (length, _) = tap.recv_from(&mut buffer).await.unwrap();
    let real = buffer[..length].to_vec();
    drop(caught);

    let mut forged = real.clone();
    forged[45] ^= 1;
    let mut foreign = real.clone();
    foreign[8..12].copy_from_slice(&7u32.to_be_bytes());
    let mut newer = real.clone();
    newer[4] = 2;
    let mut long = real.clone();
    long.push(0);
    let cut = [real[..95].to_vec(), Vec::new(), long, newer, b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0xff; 96]];
    running.throw(&cut, |dropped| dropped.cut == 6).await;
    running.throw(&[forged], |dropped| dropped.forged == 1).await;
    running.throw(&[foreign], |dropped| dropped.foreign == 1).await;
    let status = (running.status)();
    assert_eq!(status.dropped, Counters { cut: 6, forged: 1, foreign: 1, replayed: 0, busy: 0 });
    assert_eq!(status.clusters[0].answers.greeted, 0);

    // Another key, and a cluster that is enrolled while the witness runs.
    let other = Client::new(ClientSettings {
        limit: Duration::from_millis(100),
        ..ClientSettings::new(running.address.to_string(), CLUSTER, 0, Key::generate())
    });
    assert!(matches!(other.claim(0, 1).await, Err(Error::Silent { .. })));
    let key = Key::generate();
    let late = Client::new(ClientSettings {
        limit: Duration::from_secs(10),
        ..ClientSettings::new(running.address.to_string(), 8, 1, key.clone())
    });
    let enrolled = async { enrol(running.dir.path(), 8, &key).unwrap() };
    let (claimed, ()) = tokio::join!(late.claim(0, 1), enrolled);
    assert_eq!(claimed.unwrap(), Claimed::Won { reign: 1, granted_ms: u32::MAX });
    assert_eq!(late.renew(1).await.unwrap(), Renewed::Renewed);
    // Its key is changed: the register stays, the old key is a stranger's.
    let newer = Key::generate();
    enrol(running.dir.path(), 8, &newer).unwrap();
    let again = Client::new(ClientSettings {
        limit: Duration::from_secs(10),
        ..ClientSettings::new(running.address.to_string(), 8, 0, newer)
    });
    assert_eq!(again.read().await.unwrap(), (1, 1));
    assert_eq!(again.claim(0, 2).await.unwrap(), Claimed::Lost { reign: 1 });

    // What people see is the same picture.
    let told = read_status(running.dir.path()).await.unwrap();
    assert_eq!(told.listen, running.address.to_string());
    assert_eq!(told.clusters.iter().map(|cluster| cluster.cluster).collect::<Vec<_>>(), [8, CLUSTER]);
    assert_eq!((told.clusters[0].holder, told.clusters[1].holder, told.clusters[1].reign), (Some(1), None, 0));
    assert!(told.clusters[0].renewed_ago_ms[1].is_some());

    // One witness a folder.
    let second = Server::bind(Settings { listen: "127.0.0.1:0".parse().unwrap(), dir: running.dir.path().to_owned() }).await;
    assert!(matches!(second.err().unwrap(), Error::File { doing, .. } if doing.starts_with("lock")));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_or_damaged_register_is_refused_and_never_begun_anew() {
    let running = Running::start().await;
    let a = running.client(running.address, 0);
    let damaged = |outcome: Result<Claimed, Error>| {
        assert!(matches!(outcome, Err(Error::Refused { why: Refusal::Damaged, .. })), "{outcome:?}");
    };
    assert_eq!(a.claim(0, 3).await.unwrap(), Claimed::Won { reign: 3, granted_ms: u32::MAX });
    let register = running.dir.path().join(format!("{CLUSTER:08x}.reign"));
    let good = std::fs::read(&register).unwrap();
    std::fs::remove_file(&register).unwrap();
    damaged(a.claim(3, 4).await);
    assert!((running.status)().clusters[0].trouble.is_some());
    std::fs::write(&register, &good[..100]).unwrap();
    // Cut behind its first copy, which is whole: nothing is lost.
    assert_eq!(a.claim(3, 4).await.unwrap(), Claimed::Won { reign: 4, granted_ms: u32::MAX });
    assert!((running.status)().clusters[0].trouble.is_none());
    std::fs::remove_file(&register).unwrap();
    damaged(a.claim(4, 5).await);
    std::fs::write(&register, vec![0; 8192]).unwrap();
    damaged(a.claim(4, 5).await);
    // The administrator's word.
    enrol(running.dir.path(), CLUSTER, &running.key).unwrap();
    assert_eq!(a.claim(4, 5).await.unwrap(), Claimed::Won { reign: 5, granted_ms: u32::MAX });
    running.stop().await;
}
