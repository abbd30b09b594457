//! kill -9 of a real witness at any moment, and a disk that takes nothing.
//!
//! The witness is this test program run again as a child (`child_witness`, which does nothing unless the variable is set).

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use twinpost_witness::{Claimed, Client, ClientSettings, Error, Key, Refusal, Renewed, Settings, Witness as _, enrol, serve};

const DIR: &str = "TWINPOST_TEST_WITNESS_DIR";
const LISTEN: &str = "TWINPOST_TEST_WITNESS_LISTEN";

#[test]
fn child_witness() {
    let (Ok(dir), Ok(listen)) = (std::env::var(DIR), std::env::var(LISTEN)) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let settings = Settings { listen: listen.parse().unwrap(), dir: dir.into() };
    runtime.block_on(serve(settings, CancellationToken::new())).unwrap();
}

struct Running(Child);

impl Running {
    fn start(dir: &Path, listen: SocketAddr, limited: bool) -> Self {
        let me = std::env::current_exe().unwrap();
        let mut command = if limited {
            // No file may be written any more: the process is told EFBIG, as it would be told ENOSPC.
            let mut shell = Command::new("sh");
            shell.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\""]).arg(me);
            shell
        } else {
            Command::new(me)
        };
        command.args(["--exact", "child_witness", "--nocapture", "--test-threads=1"]);
        command.env(DIR, dir).env(LISTEN, listen.to_string());
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn kill(self) {
        drop(self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Outside the range from which the system gives ports by itself: the clients' sockets must not take it while the witness is dead.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id() % 5000 * 2;
    loop {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::SeqCst)) % 10_000;
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()));
        if std::net::UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

fn client(listen: SocketAddr, node: u8, key: &Key, lease_ms: u32) -> Client {
    let settings = ClientSettings::new(listen.to_string(), 1, node, key.clone());
    Client::new(ClientSettings { lease_ms, limit: Duration::from_secs(20), probe: Duration::from_secs(3600), ..settings })
}

/// Two nodes take the reign from each other as fast as they can; the witness is killed at moments of chance. Whoever was told `Won` stays
/// the only winner of that reign, and no later answer is older.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_won_reign_is_lost() {
    const KILLS: u32 = 30;
    let dir = tempfile::tempdir().unwrap();
    let (listen, key) = (free_address(), Key::generate());
    enrol(dir.path(), 1, &key).unwrap();
    let newest = Arc::new(AtomicU32::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let nodes: Vec<_> = [0, 1]
        .map(|node| {
            let client = client(listen, node, &key, 5);
            let (newest, done) = (Arc::clone(&newest), Arc::clone(&done));
            tokio::spawn(async move {
                let mut won = Vec::new();
                while !done.load(Ordering::SeqCst) {
                    let knows = newest.load(Ordering::SeqCst);
                    match client.claim(knows, knows + 1).await.unwrap() {
                        Claimed::Won { reign, .. } => {
                            won.push(reign);
                            newest.fetch_max(reign, Ordering::SeqCst);
                            // A short lease: a restarted witness must wait it out.
                            let renewed = client.renew(reign).await.unwrap();
                            match renewed {
                                Renewed::Renewed => {}
                                Renewed::Lost { reign: newer } => assert!(newer > reign, "{reign} was lost to {newer}"),
                            }
                        }
                        Claimed::Lost { reign } => {
                            assert!(reign > knows, "{reign} after {knows} was told");
                            newest.fetch_max(reign, Ordering::SeqCst);
                        }
                        Claimed::Held { .. } => tokio::task::yield_now().await,
                    }
                }
                won
            })
        })
        .into();
    let mut pause_us = u64::from(std::process::id()) % 997;
    for kill in 1..=KILLS {
        let before = newest.load(Ordering::SeqCst);
        let running = Running::start(dir.path(), listen, false);
        let begin = Instant::now();
        while newest.load(Ordering::SeqCst) <= before {
            assert!(begin.elapsed() < Duration::from_secs(20), "no reign is won after kill {kill}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        pause_us = (pause_us * 7919 + 104_729) % 30_000;
        tokio::time::sleep(Duration::from_micros(pause_us)).await;
        running.kill();
    }
    done.store(true, Ordering::SeqCst);
    let last = Running::start(dir.path(), listen, false);
    let mut won = Vec::new();
    for node in nodes {
        won.extend(node.await.unwrap());
    }
    let told = won.len();
    won.sort_unstable();
    won.dedup();
    assert_eq!(won.len(), told, "a reign was won twice");
    assert!(told >= 30, "{told} reigns");
    let (reign, _) = client(listen, 0, &key, 5).read().await.unwrap();
    assert!(reign >= *won.last().unwrap(), "{reign} at the end, {won:?} were told");
    last.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_takes_nothing_is_refused_and_leases_survive_it() {
    let dir = tempfile::tempdir().unwrap();
    let (listen, key) = (free_address(), Key::generate());
    enrol(dir.path(), 1, &key).unwrap();
    let [a, b] = [0, 1].map(|node| client(listen, node, &key, 800));
    let first = Running::start(dir.path(), listen, false);
    assert_eq!(a.claim(0, 1).await.unwrap(), Claimed::Won { reign: 1, granted_ms: u32::MAX });
    assert_eq!(a.renew(1).await.unwrap(), Renewed::Renewed);
    first.kill();

    let full = Running::start(dir.path(), listen, true);
    // The restarted witness does not know how old the lease is.
    let begin = Instant::now();
    let refused = loop {
        match b.claim(1, 2).await {
            Ok(Claimed::Held { left_ms }) => tokio::time::sleep(Duration::from_millis(u64::from(left_ms.min(100)))).await,
            other => break other,
        }
    };
    assert!(begin.elapsed() >= Duration::from_millis(600), "held only {:?}", begin.elapsed());
    assert!(matches!(refused, Err(Error::Refused { why: Refusal::Disk, .. })), "{refused:?}");
    assert_eq!(b.read().await.unwrap(), (1, 0), "nothing changed");
    assert_eq!(a.renew(1).await.unwrap(), Renewed::Renewed, "what needs no disk still works");
    full.kill();

    let last = Running::start(dir.path(), listen, false);
    assert_eq!(a.read().await.unwrap(), (1, 0));
    assert!(matches!(a.claim(1, 2).await.unwrap(), Claimed::Won { reign: 2, .. }));
    last.kill();
}
