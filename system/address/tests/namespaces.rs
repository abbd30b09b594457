//! The `interface` driver on a real link: two nodes and a third host in network namespaces, joined by a bridge.
//!
//! Needs root, iproute2 and nftables; without root it says so in one line. A node is this program in its namespace (`node`), driven by
//! lines, so that it can be stopped and killed. The third host's sockets are made in its namespace and used from here.

#![allow(missing_docs, reason = "a test program")]
#![allow(clippy::print_stdout, reason = "a test program; the node answers on standard output")]

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
use twinpost_address::{Address as _, Interface, Settings};

const V4: &str = "192.0.2.10";
const V6: &str = "2001:db8::10";
const LONG: Duration = Duration::from_secs(10);

fn root() -> bool {
    let root = geteuid().is_root();
    if !root {
        println!("left out: the service address in network namespaces needs root");
    }
    root
}

fn now_us() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

// ---- a node ------------------------------------------------------------------------------------------------------------------

/// Not a test by itself: with `NODE` in the environment, this is a node that obeys lines.
#[test]
fn node() {
    let Ok(addresses) = std::env::var("NODE") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(Box::pin(async {
        let addresses = addresses.split(',').map(|a| a.parse().unwrap()).collect();
        let mut settings = Settings::new("eth0", addresses);
        settings.probe = std::env::var("PROBE_MS").ok().map(|ms| Duration::from_millis(ms.parse().unwrap()));
        settings.peer_mac = std::env::var("PEER_MAC").ok().map(|text| {
            let bytes: Vec<u8> = text.split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
            bytes.try_into().unwrap()
        });
        let (driver, mut notices) = match Interface::new(settings).await {
            Ok(made) => made,
            Err(error) => return println!("= err {error}"),
        };
        let driver = Arc::new(driver);
        println!("= ready");
        let (sender, mut lines) = tokio::sync::mpsc::channel(16);
        thread::spawn(move || {
            for line in std::io::stdin().lines() {
                sender.blocking_send(line.unwrap()).unwrap();
            }
        });
        let mut keeping: Option<tokio::task::JoinHandle<()>> = None;
        while let Some(line) = lines.recv().await {
            let words: Vec<&str> = line.split(' ').collect();
            let ms = |at: usize| Duration::from_millis(words[at].parse().unwrap());
            let answer = match words[0] {
                "up" => {
                    let (at, since) = (now_us(), Instant::now());
                    let result = driver.up(Some(ms(1)), since).await;
                    result.map(|()| format!("{at} {}", since.elapsed().as_micros())).map_err(|e| e.to_string())
                }
                "late" => {
                    let since = Instant::now().checked_sub(ms(2)).unwrap();
                    driver.up(Some(ms(1)), since).await.map(|()| String::new()).map_err(|e| e.to_string())
                }
                "keep" => {
                    let (driver, lease, every) = (Arc::clone(&driver), ms(1), ms(2));
                    driver.up(Some(lease), Instant::now()).await.unwrap();
                    keeping = Some(tokio::spawn(async move {
                        let mut tick = tokio::time::interval(every);
                        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                        loop {
                            tick.tick().await;
                            let _ = driver.up(Some(lease), Instant::now()).await;
                        }
                    }));
                    Ok(String::new())
                }
                "release" => {
                    keeping.take().unwrap().abort();
                    Ok(String::new())
                }
                "down" => driver.down().await.map(|()| String::new()).map_err(|e| e.to_string()),
                "announce" => driver.announce().await.map(|()| String::new()).map_err(|e| e.to_string()),
                "uninstall" => driver.uninstall().await.map(|()| String::new()).map_err(|e| e.to_string()),
                "status" => Ok(format!("{:?}", driver.status())),
                "notice" => Ok(format!("{:?}", notices.recv().await)),
                "carrier" => {
                    let wanted = words[1] == "true";
                    Ok(driver.carrier().wait_for(|now| *now == wanted).await.unwrap().to_string())
                }
                "renewals" => {
                    let mut took: Vec<_> = Vec::new();
                    for _ in 0..words[1].parse().unwrap() {
                        let begun = Instant::now();
                        driver.up(Some(Duration::from_secs(1)), begun).await.unwrap();
                        took.push(begun.elapsed().as_micros());
                    }
                    took.sort_unstable();
                    Ok(format!("median {} us, p99 {} us", took[took.len() / 2], took[took.len() * 99 / 100]))
                }
                other => Err(format!("what is {other}?")),
            };
            match answer {
                Ok(text) => println!("= ok {text}"),
                Err(text) => println!("= err {text}"),
            }
        }
    }));
}

struct Node {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    first: String,
}

impl Node {
    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    fn hear(&mut self) -> String {
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

    fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// What it answers, which must be good.
    fn ask(&mut self, line: &str) -> String {
        self.say(line);
        let answer = self.hear();
        answer.strip_prefix("ok ").or(answer.strip_prefix("ok")).unwrap_or_else(|| panic!("{line}: {answer}")).to_owned()
    }

    fn refused(&mut self, line: &str) -> String {
        self.say(line);
        let answer = self.hear();
        answer.strip_prefix("err ").unwrap_or_else(|| panic!("{line}: {answer}")).to_owned()
    }

    /// SIGSTOP, and the moment at which it was surely stopped.
    fn stall(&self) -> u64 {
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

    fn kill_9(&mut self) -> u64 {
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

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LONG;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

// ---- the link ----------------------------------------------------------------------------------------------------------------

/// Namespaces a and b (nodes, eth0) and c (the third host, which is the bridge).
struct World {
    name: String,
}

static WORLDS: AtomicU32 = AtomicU32::new(0);

fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl World {
    fn new() -> Self {
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

    fn node(&self, side: &str, env: &[(&str, &str)]) -> Node {
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

    fn ns(&self, side: &str) -> String {
        format!("{}{side}", self.name)
    }

    /// Makes something in a namespace: sockets stay where they were made.
    fn within<T: Send>(&self, side: &str, make: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(format!("/run/netns/{}", self.ns(side))).unwrap();
        thread::scope(|scope| {
            let made = scope.spawn(move || {
                setns(file.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                make()
            });
            made.join().unwrap()
        })
    }

    fn mac(&self, side: &str) -> String {
        let text = ip(&format!("-n {} -br link show eth0", self.ns(side)));
        text.split_ascii_whitespace().nth(2).unwrap().to_owned()
    }

    /// The third host's neighbour entry.
    fn neighbour(&self, address: &str) -> String {
        let text = ip(&format!("-n {} neigh show {address} dev br0", self.ns("c")));
        let mut words = text.split_ascii_whitespace();
        words.find(|word| *word == "lladdr").and_then(|_| words.next()).unwrap_or("").to_owned()
    }

    fn addresses(&self, side: &str) -> String {
        ip(&format!("-n {} addr show dev eth0", self.ns(side)))
    }

    fn pinger(&self, address: &str) -> Pinger {
        Pinger::new(self, address.parse().unwrap())
    }

    fn answers(&self, address: &str) {
        assert!(self.pinger(address).is_answered(LONG), "{address} never answered");
    }

    /// Nothing comes for a while, from a host that asks the link anew.
    fn is_silent(&self, address: &str) -> bool {
        self.forget();
        let answered = self.pinger(address).is_answered(Duration::from_millis(400));
        !answered
    }

    /// The third host forgets its neighbours: one that it asked for in vain it would ask for only once a second.
    fn forget(&self) {
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
struct Pinger {
    address: IpAddr,
    socket: Arc<Socket>,
    sequence: AtomicU32,
}

impl Pinger {
    fn new(world: &World, address: IpAddr) -> Self {
        let (domain, protocol) =
            if address.is_ipv6() { (Domain::IPV6, Protocol::ICMPV6) } else { (Domain::IPV4, Protocol::ICMPV4) };
        let socket = world.within("c", || Socket::new(domain, Type::RAW, Some(protocol)).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        Self { address, socket: Arc::new(socket), sequence: AtomicU32::new(0) }
    }

    /// One echo request (RFC 792, RFC 4443 4.1) with the time inside. A packet that cannot be sent is not answered.
    fn send(&self) {
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
    fn answer(&self) -> Option<u64> {
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

    fn is_answered(&self, within: Duration) -> bool {
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
    fn during<T>(&self, work: impl FnOnce(&Mutex<Vec<(u64, u64)>>) -> T) -> (T, Vec<(u64, u64)>) {
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
fn echo(world: &World, side: &str, address: &str) -> SocketAddr {
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

fn connect(world: &World, at: SocketAddr) -> TcpStream {
    let socket = world.within("c", || Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap());
    socket.connect_timeout(&at.into(), LONG).unwrap();
    socket.into()
}

fn comes_back(stream: &mut TcpStream, byte: u8, within: Duration) -> bool {
    stream.set_read_timeout(Some(within)).unwrap();
    let mut got = [0];
    stream.write_all(&[byte]).is_ok() && stream.read_exact(&mut got).is_ok() && got[0] == byte
}

// ---- tests -------------------------------------------------------------------------------------------------------------------

#[test]
fn the_address_moves_and_the_third_host_follows() {
    if !root() {
        return;
    }
    let world = World::new();
    let (mut a, mut b) = (world.node("a", &[]), world.node("b", &[]));
    assert!(world.is_silent(V4) && world.is_silent(V6));
    a.ask("up 5000");
    world.answers(V4);
    world.answers(V6);
    assert_eq!((world.neighbour(V4), world.neighbour(V6)), (world.mac("a"), world.mac("a")));
    assert!(a.ask("status").contains("here: true"));

    a.ask("down");
    assert!(!world.addresses("a").contains(V4) && !world.addresses("a").contains(V6));
    b.ask("up 5000");
    assert_eq!((world.neighbour(V4), world.neighbour(V6)), (world.mac("a"), world.mac("a")), "nobody told it yet");
    b.ask("announce");
    // Nothing is sent by the third host here: it follows because it was told.
    until("ARP cache follows", || (world.neighbour(V4) == world.mac("b")).then_some(()));
    until("neighbour cache follows", || (world.neighbour(V6) == world.mac("b")).then_some(()));
    world.answers(V4);
    world.answers(V6);

    // Twice is once, also for what is not there.
    b.ask("up 5000");
    b.ask("down");
    b.ask("down");
    b.ask("announce");
    assert!(world.is_silent(V4) && world.is_silent(V6));
    assert!(b.refused("late 800 900").contains("ended 10"), "an old event renews nothing");
    b.ask("uninstall");
}

#[test]
fn a_lease_ends_by_itself_and_never_late() {
    if !root() {
        return;
    }
    let world = World::new();
    let mut a = world.node("a", &[]);
    for address in [V4, V6] {
        let pinger = world.pinger(address);
        let (mut early, mut rounds) = (Vec::new(), 0);
        while early.len() < 6 {
            rounds += 1;
            assert!(rounds < 50, "{address} is hardly ever answered");
            let lease_ms = 100 + rounds % 6 * 7;
            let (since, answered) = pinger.during(|_| {
                let since: u64 = a.ask(&format!("up {lease_ms}")).split(' ').next().unwrap().parse().unwrap();
                // So that the third host need not ask, which it does once a second only.
                a.ask("announce");
                until("the lease is long over", || (now_us() > since + 250_000).then_some(()));
                since
            });
            // On a machine that is very busy nothing may come through in so short a time; then nothing was shown.
            if answered.is_empty() {
                continue;
            }
            let end = since + lease_ms * 1000;
            let last = answered.iter().map(|(sent, _)| *sent).max().unwrap();
            assert!(last <= end, "{address}: a ping sent {} us after the lease was answered", last - end);
            early.push((end - last) / 1000);
        }
        println!("{address}: the last answered ping was sent so many ms before the end of the lease: {early:?}");
        a.ask("down");
    }
}

#[test]
fn a_stalled_daemon_is_out_of_reach_for_established_connections_too() {
    if !root() {
        return;
    }
    let world = World::new();
    let mut a = world.node("a", &[]);
    a.ask("keep 400 50");
    for address in [V4, V6] {
        let mut client = connect(&world, echo(&world, "a", address));
        assert!(comes_back(&mut client, 1, LONG));
        let pinger = world.pinger(address);
        let (stopped, answered) = pinger.during(|answered| {
            until("it is reached", || (!answered.lock().unwrap().is_empty()).then_some(()));
            let stopped = a.stall();
            until("the lease is long over", || (now_us() > stopped + 600_000).then_some(()));
            stopped
        });
        let last = answered.iter().map(|(sent, _)| *sent).max().unwrap();
        assert!(last <= stopped + 400_000, "{address} answered {} us after the lease", last - stopped - 400_000);
        // The service itself runs, the connection is established, and still no byte comes out.
        assert!(!comes_back(&mut client, 2, Duration::from_millis(500)), "{address}: established connection answered");
        assert!(world.addresses("a").contains(address), "the address is still on the interface");
        // A host that does not know the way hears nothing either: no answer to ARP or to a neighbour solicitation.
        assert!(world.is_silent(address));
        assert_eq!(world.neighbour(address), "", "{address}: the neighbour was resolved");

        kill(a.pid(), Signal::SIGCONT).unwrap();
        world.answers(address);
        let mut got = [0];
        client.set_read_timeout(Some(LONG)).unwrap();
        client.read_exact(&mut got).unwrap();
        assert_eq!(got[0], 2, "{address}: what was sent meanwhile arrives by TCP's own repetition");
    }
}

#[test]
fn a_killed_daemon_leaves_nothing_reachable_and_its_successor_cleans_up() {
    if !root() {
        return;
    }
    let world = World::new();
    let mut a = world.node("a", &[]);
    a.ask("keep 300 50");
    world.answers(V4);
    world.answers(V6);
    let pinger = world.pinger(V4);
    let (killed, answered) = pinger.during(|answered| {
        until("it is reached", || (!answered.lock().unwrap().is_empty()).then_some(()));
        let killed = a.kill_9();
        until("the lease is long over", || (now_us() > killed + 500_000).then_some(()));
        killed
    });
    let last = answered.iter().map(|(sent, _)| *sent).max().unwrap();
    assert!(last <= killed + 300_000, "answered {} us after the lease", last - killed - 300_000);
    assert!(world.is_silent(V6));
    let left = world.addresses("a");
    assert!(left.contains(V4) && left.contains(V6), "{left}");

    // A successor with other settings finds them by their mark.
    let mut a = world.node("a", &[("NODE", "192.0.2.20/24")]);
    let left = world.addresses("a");
    assert!(!left.contains(V4) && !left.contains(V6), "{left}");
    assert!(a.ask("notice").contains("Leftover { what: \"192.0.2.10/32"));
    assert!(a.ask("notice").contains("Leftover { what: \"2001:db8::10/128"));
    assert!(left.contains("192.0.2.11/24"), "the node's own address stays: {left}");
    a.ask("up 5000");
    world.answers("192.0.2.20");
}

#[test]
fn what_others_take_away_is_put_back() {
    if !root() {
        return;
    }
    let world = World::new();
    let mut a = world.node("a", &[]);
    a.ask("keep 2000 20");
    ip(&format!("-n {} addr del {V4}/32 dev eth0", world.ns("a")));
    assert!(a.ask("notice").contains("service addresses on the interface"));
    world.answers(V4);

    let nft = |args: &[&str]| {
        let output = Command::new("ip").args(["netns", "exec", &world.ns("a"), "nft"]).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    nft(&["flush", "ruleset"]);
    assert!(a.ask("notice").contains("rules of the service address"));
    nft(&["flush", "chain", "inet", "twinpost_pair", "output"]);
    assert!(a.ask("notice").contains("rules of the service address"), "a part missing is seen, too");
    assert!(nft(&["list", "ruleset"]).contains("ip saddr 192.0.2.10 ip saddr != @lease4 drop"));
    // Somebody else's table is none of our business.
    nft(&["add", "table", "inet", "firewall"]);
    world.answers(V4);
    world.answers(V6);
    a.ask("release");
    a.ask("down");
    assert!(nft(&["list", "tables"]).contains("inet firewall"));
    a.ask("uninstall");
    assert!(!nft(&["list", "tables"]).contains("twinpost_pair"));
}

#[test]
fn carrier_is_watched() {
    if !root() {
        return;
    }
    let world = World::new();
    let mut a = world.node("a", &[]);
    assert_eq!(a.ask("carrier true"), "true");
    ip(&format!("-n {} link set a0 down", world.ns("c")));
    assert_eq!(a.ask("carrier false"), "false");
    ip(&format!("-n {} link set a0 up", world.ns("c")));
    assert_eq!(a.ask("carrier true"), "true");
    // Gone altogether, and made anew with another index.
    a.ask("keep 2000 20");
    ip(&format!("-n {} link del a0", world.ns("c")));
    assert_eq!(a.ask("carrier false"), "false");
    ip(&format!("-n {0} link add a0 type veth peer name eth0 netns {1}", world.ns("c"), world.ns("a")));
    ip(&format!("-n {} link set a0 master br0 up", world.ns("c")));
    ip(&format!("-n {} link set eth0 up", world.ns("a")));
    assert_eq!(a.ask("carrier true"), "true");
    until("the address is on the new interface", || world.addresses("a").contains(V4).then_some(()));
    // The node's own addresses are its administrator's.
    ip(&format!("-n {} addr add 192.0.2.11/24 dev eth0", world.ns("a")));
    ip(&format!("-n {} addr add 2001:db8::11/64 dev eth0 nodad", world.ns("a")));
    world.answers(V4);
    world.answers(V6);
}

#[test]
fn others_on_the_address() {
    if !root() {
        return;
    }
    let world = World::new();
    let add = |side: &str, address: &str| ip(&format!("-n {} addr add {address} dev eth0 nodad", world.ns(side)));
    let mac = world.mac("b");
    add("b", "192.0.2.10/32");
    {
        let mut a = world.node("a", &[("PROBE_MS", "150"), ("NODE", V4)]);
        assert_eq!(a.refused("up 5000"), format!("service address {V4} is used by another host, {mac}"));
        assert!(!world.addresses("a").contains(V4));
    }
    {
        // The peer's answer is an alarm: the proof counts.
        let mut a = world.node("a", &[("PROBE_MS", "150"), ("NODE", V4), ("PEER_MAC", &mac)]);
        a.ask("up 5000");
        assert_eq!(a.ask("notice"), format!("Some(Conflict {{ address: {V4}, mac: \"{mac}\", peer: true }})"));
        assert!(world.addresses("a").contains(V4));
        a.ask("down");
    }
    ip(&format!("-n {} addr del {V4}/32 dev eth0", world.ns("b")));
    add("b", "2001:db8::10/128");
    {
        let mut a = world.node("a", &[("PROBE_MS", "300")]);
        assert_eq!(a.refused("up 5000"), format!("service address {V6} is used by another host, {mac}"));
    }
    ip(&format!("-n {} addr del {V6}/128 dev eth0", world.ns("b")));
    {
        // Free: it comes, and whoever claims it later is told of.
        let mut a = world.node("a", &[("PROBE_MS", "100")]);
        a.ask("up 20000");
        let mut b = world.node("b", &[]);
        b.ask("up 20000");
        b.ask("announce");
        assert_eq!(a.ask("notice"), format!("Some(Conflict {{ address: {V4}, mac: \"{mac}\", peer: false }})"));
    }
}

#[test]
fn a_node_without_its_means_says_so() {
    if !root() {
        return;
    }
    let world = World::new();
    ip(&format!("-n {} link set eth0 name lan0", world.ns("a")));
    let a = world.node("a", &[]);
    assert!(a.first.starts_with("err interface eth0"), "{}", a.first);
}

/// Figures for the docs; nothing is asserted of them.
#[test]
fn figures() {
    if !root() {
        return;
    }
    let world = World::new();
    let (mut a, mut b) = (world.node("a", &[]), world.node("b", &[]));
    let pinger = world.pinger(V4);
    let (mut first, mut calls) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        for node in [&mut a, &mut b] {
            let ((at, took), answered) = pinger.during(|answered| {
                let up = node.ask("up 5000");
                node.ask("announce");
                let (at, took) = up.split_once(' ').unwrap();
                let at: u64 = at.parse().unwrap();
                until("an answer", || answered.lock().unwrap().iter().any(|(_, heard)| *heard > at).then_some(()));
                (at, took.parse::<u64>().unwrap())
            });
            first.push(answered.iter().map(|(_, heard)| *heard).filter(|heard| *heard > at).min().unwrap() - at);
            calls.push(took);
            node.ask("down");
        }
    }
    first.sort_unstable();
    calls.sort_unstable();
    println!("up to the first answered ping at a third host: median {} us, worst {} us of 20", first[10], first[19]);
    println!("the call of up itself: median {} us, worst {} us", calls[10], calls[19]);
    a.ask("up 5000");
    println!("a renewal: {}", a.ask("renewals 500"));
}
