//! Cables with a hand on them: UDP through a relay, two pseudo-terminals joined byte by byte.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A relay stops looking at its end this often.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Faults {
    cut: [AtomicBool; 2],
    gone: AtomicBool,
}

/// A UDP path; each node speaks to a relay port of its own.
pub struct Udp {
    nodes: [SocketAddr; 2],
    relays: [Arc<UdpSocket>; 2],
    faults: Arc<Faults>,
    seen: Arc<[Mutex<Vec<u8>>; 2]>,
}

impl Udp {
    pub fn new() -> Self {
        let nodes = [super::free_port(), super::free_port()];
        let relays = [0, 1].map(|_| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
            socket.set_read_timeout(Some(LOOK)).expect("set");
            Arc::new(socket)
        });
        let (faults, seen) = (Arc::new(Faults::default()), Arc::new([Mutex::default(), Mutex::default()]));
        for n in 0..2 {
            let (from, to, target) = (relays[n].clone(), relays[1 - n].clone(), nodes[1 - n]);
            let (faults, seen) = (Arc::clone(&faults), Arc::clone(&seen));
            let relay = move || {
                let mut buf = [0; 2048];
                while !faults.gone.load(Ordering::Relaxed) {
                    let Ok((length, _)) = from.recv_from(&mut buf) else { continue };
                    *seen[n].lock().expect("whole") = buf[..length].to_vec();
                    if !faults.cut[n].load(Ordering::Relaxed) {
                        let _ = to.send_to(&buf[..length], target);
                    }
                }
            };
            std::thread::Builder::new().name("relay".to_owned()).spawn(relay).expect("a thread");
        }
        Self { nodes, relays, faults, seen }
    }

    pub fn node(&self, n: usize) -> SocketAddr {
        self.nodes[n]
    }

    /// What node `n` believes to be its peer.
    pub fn relay(&self, n: usize) -> SocketAddr {
        self.relays[n].local_addr().expect("bound")
    }

    /// Nothing that node `n` sends arrives any more.
    pub fn cut(&self, n: usize, cut: bool) {
        self.faults.cut[n].store(cut, Ordering::Relaxed);
    }

    pub fn cut_both(&self, cut: bool) {
        self.cut(0, cut);
        self.cut(1, cut);
    }

    /// The last datagram that node `n` sent.
    pub fn last_of(&self, n: usize) -> Vec<u8> {
        self.seen[n].lock().expect("whole").clone()
    }

    /// To node `n`, as if from its peer.
    pub fn inject(&self, n: usize, bytes: &[u8]) {
        self.relays[n].send_to(bytes, self.nodes[n]).expect("sent");
    }
}

impl Drop for Udp {
    fn drop(&mut self) {
        self.faults.gone.store(true, Ordering::Relaxed);
    }
}

struct Wire {
    cut: AtomicBool,
    gone: AtomicBool,
    /// One byte of so many is garbled; 0 for none.
    garble: AtomicU32,
    passed: AtomicU64,
}

/// A null-modem cable: two pseudo-terminals.
pub struct Serial {
    ports: [PathBuf; 2],
    masters: [Arc<std::fs::File>; 2],
    wire: Arc<Wire>,
    // Open ends keep the terminals alive while no daemon has them.
    _slaves: [std::fs::File; 2],
}

/// A pseudo-terminal in raw mode: its master and the path of its slave.
pub fn terminal() -> (std::fs::File, PathBuf, std::fs::File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pseudo-terminal");
    grantpt(&master).expect("granted");
    unlockpt(&master).expect("unlocked");
    let path = ptsname(&master, Vec::new()).expect("a name").into_string().expect("ASCII").into();
    let slave = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("opens");
    let mut modes = tcgetattr(&slave).expect("modes");
    modes.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &modes).expect("raw");
    (master.into(), path, slave)
}

impl Serial {
    pub fn new(dir: &Path) -> Self {
        let [(one, one_path, one_slave), (two, two_path, two_slave)] = [terminal(), terminal()];
        let masters = [Arc::new(one), Arc::new(two)];
        let wire = Arc::new(Wire {
            cut: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            garble: AtomicU32::new(0),
            passed: AtomicU64::new(0),
        });
        for n in 0..2 {
            let (from, to, wire) = (masters[n].clone(), masters[1 - n].clone(), Arc::clone(&wire));
            let relay = move || {
                let mut buf = [0; 256];
                let mut count = 0_u32;
                while !wire.gone.load(Ordering::Relaxed) {
                    let ready = {
                        use rustix::event::{PollFd, PollFlags, Timespec, poll};
                        let mut fds = [PollFd::new(&*from, PollFlags::IN)];
                        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 20_000_000 })).unwrap_or(0)
                    };
                    if ready == 0 {
                        continue;
                    }
                    let Ok(length) = (&*from).read(&mut buf) else { continue };
                    if wire.cut.load(Ordering::Relaxed) {
                        continue;
                    }
                    let garble = wire.garble.load(Ordering::Relaxed);
                    for byte in &mut buf[..length] {
                        count = count.wrapping_add(1);
                        if garble > 0 && count.is_multiple_of(garble) {
                            *byte ^= 0x55;
                        }
                    }
                    wire.passed.fetch_add(length as u64, Ordering::Relaxed);
                    let _ = (&*to).write_all(&buf[..length]);
                }
            };
            std::thread::Builder::new().name("relay".to_owned()).spawn(relay).expect("a thread");
        }
        let ports = [("serial-a", one_path), ("serial-b", two_path)].map(|(name, path)| {
            let link = dir.join(name);
            std::os::unix::fs::symlink(path, &link).expect("a link");
            link
        });
        Self { ports, masters, wire, _slaves: [one_slave, two_slave] }
    }

    pub fn port(&self, n: usize) -> PathBuf {
        self.ports[n].clone()
    }

    pub fn cut(&self, cut: bool) {
        self.wire.cut.store(cut, Ordering::Relaxed);
    }

    /// One byte of so many is garbled; 0 for none.
    pub fn garble(&self, one_of: u32) {
        self.wire.garble.store(one_of, Ordering::Relaxed);
    }

    /// What node `n` reads, as if from its peer.
    pub fn inject(&self, n: usize, bytes: &[u8]) {
        (&*self.masters[n]).write_all(bytes).expect("written");
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        self.wire.gone.store(true, Ordering::Relaxed);
    }
}
