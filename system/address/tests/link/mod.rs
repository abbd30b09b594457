//! Two nodes and a third host in network namespaces, joined by a bridge; removed at the end, also after a panic.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::AsFd as _,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use socket2::{Domain, Protocol, Socket, Type};

pub(crate) const V4: &str = "192.0.2.10";
pub(crate) const V6: &str = "2001:db8::10";
pub(crate) const LONG: Duration = Duration::from_secs(10);

pub(crate) fn root() -> bool {
    let root = geteuid().is_root();
    if !root {
        println!("left out: the service address in network namespaces needs root");
    }
    root
}

pub(crate) fn now_us() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

pub(crate) struct Node {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What it said first.
    pub(crate) first: String,
}

impl Node {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the node ended");
            // The test harness prints in between, once on the same line.
            if let Some((_, answer)) = line.split_once("= ") {
                return answer.trim_end().to_owned();
            }
        }
    }

    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// What it answers, which must be good.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.say(line);
        let answer = self.hear();
        answer.strip_prefix("ok ").or(answer.strip_prefix("ok")).unwrap_or_else(|| panic!("{line}: {answer}")).to_owned()
    }

    pub(crate) fn refused(&mut self, line: &str) -> String {
        self.say(line);
        let answer = self.hear();
        answer.strip_prefix("err ").unwrap_or_else(|| panic!("{line}: {answer}")).to_owned()
    }

    /// SIGSTOP, and the moment at which it was surely stopped.
    pub(crate) fn stall(&self) -> u64 {
        kill(self.pid(), Signal::SIGSTOP).unwrap();
        let stopped = |path: std::path::PathBuf| {
            std::fs::read_to_string(path.join("stat"))
                .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, s)| s.starts_with('T')))
        };
        let tasks = format!("/proc/{}/task", self.child.id());
        until("every thread stops", || {
            std::fs::read_dir(&tasks).unwrap().all(|task| stopped(task.unwrap().path())).then_some(())
        });
        now_us()
    }

    pub(crate) fn kill_9(&mut self) -> u64 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        now_us()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LONG;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Namespaces a and b (nodes, eth0) and c (the third host, which is the bridge).
pub(crate) struct World {
    name: String,
}

static WORLDS: AtomicU32 = AtomicU32::new(0);

pub(crate) fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl World {
    pub(crate) fn new() -> Self {
        let name = format!("tpa{}x{}", std::process::id(), WORLDS.fetch_add(1, Ordering::Relaxed));
        let world = Self { name };
        let n = &world.name;
        for side in ["a", "b", "c"] {
            ip(&format!("netns add {n}{side}"));
            ip(&format!("-n {n}{side} link set lo up"));
        }
        ip(&format!("-n {n}c link add br0 type bridge forward_delay 0 mcast_snooping 0"));
        ip(&format!("-n {n}c link set br0 up"));
        ip(&format!("-n {n}c addr add 192.0.2.1/24 dev br0"));
        ip(&format!("-n {n}c addr add 2001:db8::1/64 dev br0 nodad"));
        for (side, host) in [("a", 11), ("b", 12)] {
            ip(&format!("-n {n}c link add {side}0 type veth peer name eth0 netns {n}{side}"));
            ip(&format!("-n {n}c link set {side}0 master br0 up"));
            ip(&format!("-n {n}{side} link set eth0 up"));
            ip(&format!("-n {n}{side} addr add 192.0.2.{host}/24 dev eth0"));
            ip(&format!("-n {n}{side} addr add 2001:db8::{host}/64 dev eth0 nodad"));
        }
        world
    }

    pub(crate) fn node(&self, side: &str, env: &[(&str, &str)]) -> Node {
        let exe = std::env::current_exe().unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.ns(side)]).arg(exe).args(["--exact", "node", "--nocapture"]);
        command.env("NODE", format!("{V4},{V6}")).envs(env.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut node = Node { child, input, output, first: String::new() };
        node.first = node.hear();
        node
    }

    pub(crate) fn ns(&self, side: &str) -> String {
        format!("{}{side}", self.name)
    }

    /// Makes something in a namespace: sockets stay where they were made.
    pub(crate) fn within<T: Send>(&self, side: &str, make: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(format!("/run/netns/{}", self.ns(side))).unwrap();
        thread::scope(|scope| {
            let made = scope.spawn(move || {
                setns(file.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                make()
            });
            made.join().unwrap()
        })
    }

    pub(crate) fn mac(&self, side: &str) -> String {
        let text = ip(&format!("-n {} -br link show eth0", self.ns(side)));
        text.split_ascii_whitespace().nth(2).unwrap().to_owned()
    }

    /// The third host's neighbour entry.
    pub(crate) fn neighbour(&self, address: &str) -> String {
        let text = ip(&format!("-n {} neigh show {address} dev br0", self.ns("c")));
        let mut words = text.split_ascii_whitespace();
        words.find(|word| *word == "lladdr").and_then(|_| words.next()).unwrap_or("").to_owned()
    }

    pub(crate) fn addresses(&self, side: &str) -> String {
        ip(&format!("-n {} addr show dev eth0", self.ns(side)))
    }

    pub(crate) fn pinger(&self, address: &str) -> Pinger {
        Pinger::new(self, address.parse().unwrap())
    }

    pub(crate) fn answers(&self, address: &str) {
        assert!(self.pinger(address).is_answered(LONG), "{address} never answered");
    }

    /// Nothing comes for a while, from a host that asks the link anew.
    pub(crate) fn is_silent(&self, address: &str) -> bool {
        self.forget();
        let answered = self.pinger(address).is_answered(Duration::from_millis(400));
        !answered
    }

    /// The third host forgets its neighbours: one that it asked for in vain it would ask for only once a second.
    pub(crate) fn forget(&self) {
        ip(&format!("-n {} neigh flush dev br0", self.ns("c")));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for side in ["a", "b", "c"] {
            let _ = Command::new("ip").args(["netns", "del", &self.ns(side)]).stderr(Stdio::null()).status();
        }
    }
}

/// The third host pings all the time and remembers which pings, by when they were sent, were answered.
pub(crate) struct Pinger {
    address: IpAddr,
    socket: Arc<Socket>,
    sequence: AtomicU32,
}

impl Pinger {
    pub(crate) fn new(world: &World, address: IpAddr) -> Self {
        let (domain, protocol) =
            if address.is_ipv6() { (Domain::IPV6, Protocol::ICMPV6) } else { (Domain::IPV4, Protocol::ICMPV4) };
        let socket = world.within("c", || Socket::new(domain, Type::RAW, Some(protocol)).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        Self { address, socket: Arc::new(socket), sequence: AtomicU32::new(0) }
    }

    /// One echo request (RFC 792, RFC 4443 4.1) with the time inside. A packet that cannot be sent is not answered.
    pub(crate) fn send(&self) {
        let sequence = u16::try_from(self.sequence.fetch_add(1, Ordering::Relaxed) & 0xffff).unwrap().to_be_bytes();
        let kind = if self.address.is_ipv6() { 128 } else { 8 };
        let mut packet = vec![kind, 0, 0, 0, b'T', b'P', sequence[0], sequence[1]];
        packet.extend(now_us().to_be_bytes());
        let mut sum: u32 = packet.chunks(2).map(|p| u32::from(p[0]) << 8 | u32::from(p[1])).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        // ICMPv6's check sum is the kernel's to make.
        packet[2..4].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
        let _ = self.socket.send_to(&packet, &SocketAddr::new(self.address, 0).into());
    }

    /// When the next answered one was sent; `None` when nothing came.
    pub(crate) fn answer(&self) -> Option<u64> {
        let mut bytes = [0; 256];
        let count = (&*self.socket).read(&mut bytes).ok()?;
        // IPv4 gives the whole packet.
        let header = if self.address.is_ipv6() { 0 } else { usize::from(bytes[0] & 15) * 4 };
        let reply = if self.address.is_ipv6() { 129 } else { 0 };
        // Everything of this kind comes here: only what the service address answered counts.
        let from_it = match self.address {
            IpAddr::V4(address) => bytes[12..16] == address.octets(),
            IpAddr::V6(_) => true,
        };
        let body = bytes.get(header..count)?;
        let mine = from_it && body.len() == 16 && body[0] == reply && body[4..6] == *b"TP";
        mine.then(|| u64::from_be_bytes(body[8..16].try_into().unwrap()))
    }

    pub(crate) fn is_answered(&self, within: Duration) -> bool {
        let end = Instant::now() + within;
        while Instant::now() < end {
            self.send();
            if self.answer().is_some() {
                return true;
            }
        }
        false
    }

    /// Pings every ms while `work` runs; gives the moments (sent) of all that were answered.
    pub(crate) fn during<T>(&self, work: impl FnOnce(&Mutex<Vec<(u64, u64)>>) -> T) -> (T, Vec<(u64, u64)>) {
        let (over, answered) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        let result = thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    self.send();
                    thread::sleep(Duration::from_millis(1));
                }
            });
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    if let Some(sent) = self.answer() {
                        answered.lock().unwrap().push((sent, now_us()));
                    }
                }
            });
            // The threads must end when this panics, too.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&answered)));
            over.store(true, Ordering::Relaxed);
            result
        });
        (result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), answered.into_inner().unwrap())
    }
}

/// A service on the address that goes on when its node's daemon is stopped: every byte comes back.
pub(crate) fn echo(world: &World, side: &str, address: &str) -> SocketAddr {
    let at = SocketAddr::new(address.parse().unwrap(), 25);
    let listener = world.within(side, move || std::net::TcpListener::bind(at).unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut reader, &mut &stream);
            });
        }
    });
    at
}

pub(crate) fn connect(world: &World, at: SocketAddr) -> TcpStream {
    let socket = world.within("c", || Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap());
    socket.connect_timeout(&at.into(), LONG).unwrap();
    socket.into()
}

pub(crate) fn comes_back(stream: &mut TcpStream, byte: u8, within: Duration) -> bool {
    stream.set_read_timeout(Some(within)).unwrap();
    let mut got = [0];
    stream.write_all(&[byte]).is_ok() && stream.read_exact(&mut got).is_ok() && got[0] == byte
}
