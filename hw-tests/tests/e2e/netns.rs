//! A pair in network namespaces: two nodes with a crossover cable, a null-modem cable and a LAN, a third host on the LAN.
//!
//! Contract: names are this process's own, and everything is removed at the end, also after a panic. The nodes are real `twinpost node`s with
//! the address driver of the appliance; no rack is between them. Two observers hold fixed neighbour entries for the service
//! address, one for each node's hardware address: what a node answers is known by whom it was asked, whatever ARP says.
//!
//! Failure classes: iproute2 or nftables is missing, the kernel refuses, a pair cannot be founded: a panic that says so.

use crate::imap::Imap;
use crate::kill::Load;
use crate::line::Line;
use crate::node::{program, wait_for};
use crate::smtp::Smtp;
use crate::two::{Two, signal_to};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, openpty};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use serde_json::Value;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The service address.
pub const SERVICE: &str = "192.0.2.10";
/// Where SMTP is on it.
pub const SMTP: &str = "192.0.2.10:25";
/// Both nodes.
pub const NODES: [&str; 2] = ["a", "b"];

static WORLDS: AtomicU32 = AtomicU32::new(0);
/// Pairs that are measured in milliseconds do not run beside each other.
static TURN: Mutex<()> = Mutex::new(());

/// Whether this can be done; without root one line says what is left out.
pub fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("left out: a pair in network namespaces needs root");
    }
    root
}

/// The other node.
pub fn other(node: &str) -> &'static str {
    if node == "a" { "b" } else { "a" }
}

/// `ip` with these words, which must succeed.
#[track_caller]
pub fn ip(words: &str) -> String {
    tool("ip", words.split(' '))
}

#[track_caller]
fn tool<'a>(program: &str, words: impl Iterator<Item = &'a str> + Clone) -> String {
    let output = Command::new(program).args(words.clone()).output().expect("iproute2 and nftables are installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {said}", words.collect::<Vec<_>>().join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// See the module.
pub struct World {
    name: String,
    two: Two,
    serial: Serial,
    running: Vec<(&'static str, Child)>,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    /// Founds a pair, writes its documents for the namespaces, and starts witness and nodes.
    pub fn new() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let two = Two::new();
        let mut up = two.up("found", &[]);
        two.settled(&mut up);
        assert!(up.end_by(Signal::SIGTERM).success(), "{}", up.log());
        let name = format!("tpn{}x{}", std::process::id(), WORLDS.fetch_add(1, Ordering::Relaxed));
        let mut world = Self { name, two, serial: Serial::join(), running: Vec::new(), _turn: turn };
        world.lay_cables();
        world.write_documents();
        world.start_witness();
        for node in NODES {
            world.start(node);
        }
        world
    }

    /// Namespaces a, b; c is the LAN itself with the third host; pa and pb are the observers.
    fn lay_cables(&self) {
        let n = &self.name;
        for side in ["a", "b", "c", "pa", "pb"] {
            ip(&format!("netns add {n}{side}"));
            ip(&format!("-n {n}{side} link set lo up"));
        }
        ip(&format!("-n {n}c link add lan type bridge forward_delay 0 mcast_snooping 0"));
        ip(&format!("-n {n}c link set lan up"));
        ip(&format!("-n {n}c addr add 192.0.2.1/24 dev lan"));
        for (side, host) in [("a", 11), ("b", 12), ("pa", 31), ("pb", 32)] {
            ip(&format!("-n {n}c link add to-{side} type veth peer name lan0 netns {n}{side}"));
            ip(&format!("-n {n}c link set to-{side} master lan up"));
            ip(&format!("-n {n}{side} link set lan0 up"));
            ip(&format!("-n {n}{side} addr add 192.0.2.{host}/24 dev lan0"));
        }
        ip(&format!("-n {n}a link add eth1 type veth peer name eth1 netns {n}b"));
        for (side, host) in [("a", 1), ("b", 2)] {
            ip(&format!("-n {n}{side} link set eth1 up"));
            ip(&format!("-n {n}{side} addr add 10.77.0.{host}/30 dev eth1"));
            let mac = self.mac(side);
            ip(&format!("-n {n}p{side} neigh replace {SERVICE} lladdr {mac} nud permanent dev lan0"));
        }
    }

    fn write_documents(&self) {
        let at = |port: u16| format!("[\"{SERVICE}:{port}\"]");
        let appliance = format!(
            "version = 1\n[node]\nhost_name = \"mail.school.example\"\n[network]\nsmtp = {}\nsubmission = {}\nsubmissions = {}\nlmtp = \
             [\"127.0.0.1:24\"]\nimap = {}\nimaps = {}\npop3 = {}\npop3s = {}\n[tls]\nallow_plain_sign_in = true\n[limits]\nexempt = \
             [\"127.0.0.0/8\", \"192.0.2.0/24\"]\n[pair]\nprefer_after = \"1 s\"\nfirst_contact = \"10 s\"\n",
            at(25),
            at(587),
            at(465),
            at(143),
            at(993),
            at(110),
            at(995)
        );
        for (node, own, peer) in [("a", 1, 2), ("b", 2, 1)] {
            let port = self.serial.port(node);
            let text = format!(
                "version = 1\n[node]\nname = \"{node}\"\n[pair]\nenabled = true\n\
                 [pair.eth1]\nbind = \"10.77.0.{own}:2694\"\npeer = \"10.77.0.{peer}:2694\"\ninterface = \"eth1\"\n\
                 [pair.lan]\nbind = \"192.0.2.1{own}:2694\"\npeer = \"192.0.2.1{peer}:2694\"\n\
                 [pair.channel]\nbind = \"10.77.0.{own}:2695\"\npeer = \"10.77.0.{peer}:2695\"\n\
                 [pair.serial]\nport = \"{}\"\n[pair.storage]\ndriver = \"shared\"\nroot = \"../shared\"\n\
                 [pair.address]\ninterface = \"lan0\"\naddresses = [\"{SERVICE}/24\"]\n\
                 [pair.watchdog]\ndevice = \"\"\ntimeout = \"1 s\"\n\
                 [pair.witness]\nengine = \"twinpost\"\naddress = \"192.0.2.1:2696\"\n",
                port.display()
            );
            let folder = self.two.dir().join(node);
            std::fs::write(folder.join("appliance.toml"), &appliance).unwrap();
            std::fs::write(folder.join("node.toml"), text).unwrap();
            // The document is another one from here on, on both: no generation precedes it.
            let _ = std::fs::remove_dir_all(folder.join("config"));
        }
    }

    fn start_witness(&mut self) {
        let dir = self.two.dir().join("witness");
        let words = ["witness", "--dir", dir.to_str().unwrap(), "--listen", "192.0.2.1:2696"];
        let child = self.spawn("c", &words, "witness");
        self.running.push(("c", child));
    }

    /// Starts a node, as after a power cut.
    pub fn start(&mut self, node: &'static str) {
        let dir = self.two.dir().to_owned();
        let words = ["node", "--dir", dir.to_str().unwrap(), "--node", node, "--modem", "none"];
        let child = self.spawn(node, &words, node);
        self.running.push((node, child));
    }

    fn spawn(&self, side: &str, words: &[&str], log: &str) -> Child {
        let file = File::options().create(true).append(true).open(self.log(log)).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.ns(side), "setpriv", "--pdeathsig", "KILL"]).arg(program()).args(words);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn().expect("iproute2 is installed")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.two.dir().join(format!("{name}.log"))
    }

    /// The namespace of a side.
    pub fn ns(&self, side: &str) -> String {
        format!("{}{side}", self.name)
    }

    fn mac(&self, node: &str) -> String {
        let text = ip(&format!("-n {} -br link show lan0", self.ns(node)));
        text.split_ascii_whitespace().nth(2).unwrap().to_owned()
    }

    /// The node to which the third host sends what is for the service address.
    pub fn neighbour(&self) -> Option<&'static str> {
        let text = ip(&format!("-n {} neigh show {SERVICE} dev lan", self.ns("c")));
        NODES.into_iter().find(|node| text.contains(&self.mac(node)))
    }

    /// Whether the service address is on a node's interface, in reach or not.
    pub fn has_address(&self, node: &str) -> bool {
        ip(&format!("-n {} addr show dev lan0", self.ns(node))).contains(SERVICE)
    }

    /// The LAN cable of a node in or out.
    pub fn lan(&self, node: &str, state: &str) {
        ip(&format!("-n {} link set to-{node} {state}", self.ns("c")));
    }

    /// The crossover cable in or out, at this node's end.
    pub fn eth1(&self, node: &str, state: &str) {
        ip(&format!("-n {} link set eth1 {state}", self.ns(node)));
    }

    /// The null-modem cable out or in.
    pub fn serial_cut(&self, cut: bool) {
        self.serial.cut.store(cut, Ordering::Relaxed);
    }

    /// One packet in five that comes in on this interface is lost, on both nodes; with `None` none is.
    pub fn loss(&self, interface: Option<&str>) {
        for node in NODES {
            let ns = self.ns(node);
            let nft = |rest: &str| tool("ip", ["netns", "exec", &ns, "nft", rest].into_iter());
            nft("add table netdev bad_cable; delete table netdev bad_cable");
            if let Some(interface) = interface {
                nft(&format!(
                    "add table netdev bad_cable; add chain netdev bad_cable in {{ type filter hook ingress device \"{interface}\" priority 0; \
                     }}; add rule netdev bad_cable in numgen random mod 100 < 20 counter drop"
                ));
            }
        }
    }

    /// Packets that were lost on purpose.
    pub fn lost(&self, node: &str) -> u64 {
        let text = tool("ip", ["netns", "exec", &self.ns(node), "nft", "list", "table", "netdev", "bad_cable"].into_iter());
        let after = text.split_once("counter packets ").expect("the rule counts").1;
        after.split(' ').next().unwrap().parse().unwrap()
    }

    /// kill -9 of everything in the namespace of a node, until nothing is left.
    pub fn power_cut(&mut self, node: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let pids = ip(&format!("netns pids {}", self.ns(node)));
            if pids.trim().is_empty() {
                break;
            }
            assert!(Instant::now() < end, "processes of node {node} stay: {pids}");
            for pid in pids.split_ascii_whitespace() {
                signal_to(pid.parse().unwrap(), Signal::SIGKILL);
            }
            for (_, child) in &mut self.running {
                let _ = child.try_wait();
            }
        }
    }

    /// The pair daemon of a node.
    pub fn daemon(&self, node: &str) -> u64 {
        let text = std::fs::read_to_string(self.two.dir().join(node).join("run/node.json")).expect("the node runs");
        let life: Value = serde_json::from_str(&text).expect("JSON");
        life["pids"]["pair"].as_u64().expect("the pair daemon runs")
    }

    /// What the pair daemon of a node says.
    pub fn status(&self, node: &str) -> Option<Value> {
        self.two.status(node)
    }

    /// Waits until one node serves and the other is its eligible standby, as both see it; gives the active.
    #[track_caller]
    pub fn settled(&self) -> &'static str {
        wait_for("an active node and its eligible standby", || {
            let [a, b] = NODES.map(|node| self.status(node));
            let (a, b) = (a?, b?);
            let active = NODES.into_iter().find(|node| a["active"] == *node && b["active"] == *node)?;
            let (by, standby) = if active == "a" { (&a, other("a")) } else { (&b, other("b")) };
            let eligible = by["nodes"].as_array()?.iter().any(|n| n["name"] == standby && n["eligible"] == true);
            (eligible && by["services"]["state"] == "up" && self.banner()).then_some(active)
        })
    }

    /// Whether SMTP greets the third host.
    pub fn banner(&self) -> bool {
        self.within("c", || matches!(greeting(), Some(Heard::Banner)))
    }

    /// `twinpost ctl pair`.
    #[track_caller]
    pub fn pair(&self, words: &[&str]) -> String {
        self.two.ctl(&[&["pair"], words].concat()).well()
    }

    /// Does something in the namespace of a side.
    pub fn within<T: Send>(&self, side: &str, work: impl FnOnce() -> T + Send) -> T {
        let enter = self.door(side);
        std::thread::scope(|scope| {
            let made = scope.spawn(move || {
                enter();
                work()
            });
            made.join().unwrap()
        })
    }

    /// What brings a thread into the namespace of a side.
    fn door(&self, side: &str) -> impl FnOnce() + Send + 'static {
        let file = File::open(format!("/run/netns/{}", self.ns(side))).unwrap();
        move || setns(file.as_fd(), CloneFlags::CLONE_NEWNET).unwrap()
    }

    /// Mail from the third host, and observers of both nodes.
    pub fn watched(&self) -> Watched {
        let (load, opens, over) = (Load::new(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let seed = crate::kill::seed();
        let clients = (0..CLIENTS as u64).map(|c| {
            let (load, opens, enter) = (load.clone(), opens.clone(), self.door("c"));
            std::thread::spawn(move || {
                enter();
                load.client(&format!("n{c}"), seed ^ c, &PEOPLE, "you@elsewhere.example", &|| {
                    let line = Line::plain_within(SMTP.parse().unwrap(), SHORT, Duration::from_secs(3))?;
                    let smtp = Smtp::greeted(line)?;
                    opens.fetch_add(1, Ordering::Relaxed);
                    Ok(smtp)
                });
            })
        });
        let clients = clients.collect();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let observers = NODES.map(|node| {
            let (seen, over, enter) = (seen.clone(), over.clone(), self.door(&format!("p{node}")));
            std::thread::spawn(move || {
                enter();
                while !over.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    if let Some(what) = greeting() {
                        seen.lock().unwrap().push(Seen { node, asked, heard: Instant::now(), what });
                    }
                    // The pace of asking.
                    std::thread::sleep(Duration::from_millis(15));
                }
            })
        });
        Watched { load, opens, clients, seen, over, observers: observers.into() }
    }

    /// Looks for every message of a load that has ended.
    #[track_caller]
    pub fn find_all(&self, load: &Load) {
        let mut boxes = std::collections::HashMap::new();
        for person in PEOPLE {
            let password = self.two.password(person);
            let ids = self.within("c", || {
                let line = Line::plain(SocketAddr::new(SERVICE.parse().unwrap(), 143)).unwrap();
                Imap::sign_in_on(line, person, &password).unwrap().message_ids("INBOX")
            });
            boxes.insert(person, ids);
        }
        let sent = load.sent.lock().unwrap();
        let (mut acknowledged, mut twice) = (0, 0);
        for one in sent.iter() {
            acknowledged += usize::from(one.acknowledged);
            for person in &one.to {
                let found = boxes[person].get(&one.id).copied().unwrap_or(0);
                assert!(found >= 1 || !one.acknowledged, "{} was acknowledged and is not in {person}'s mailbox", one.id);
                assert!(found <= one.tries(), "{} is {found} times in {person}'s mailbox, sent {} times", one.id, one.tries());
                twice += found.saturating_sub(1);
            }
        }
        println!("{acknowledged} acknowledged messages, all found; {twice} of those whose 250 was lost are there twice");
        assert!(twice <= CLIENTS * PEOPLE.len() * 8, "more than can have been under way");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["a", "b", "witness"] {
                let log = std::fs::read_to_string(self.log(name)).unwrap_or_default();
                let lines: Vec<&str> =
                    log.lines().filter(|line| !line.starts_with('{') && !line.contains(" accepted ")).collect();
                println!("--- {name} (the end of its log)\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
            }
        }
        for (_, child) in &mut self.running {
            let _ = child.kill();
        }
        for side in ["a", "b", "c", "pa", "pb"] {
            let pids = Command::new("ip").args(["netns", "pids", &self.ns(side)]).output();
            let pids = pids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            for pid in pids.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
                signal_to(pid, Signal::SIGKILL);
            }
            let _ = Command::new("ip").args(["netns", "del", &self.ns(side)]).stderr(Stdio::null()).status();
        }
        for (_, child) in &mut self.running {
            let _ = child.wait();
        }
    }
}

const PEOPLE: [&str; 2] = ["ben@school.example", "anna@school.example"];
const CLIENTS: usize = 3;
/// How long a connection may take.
const SHORT: Duration = Duration::from_millis(150);

/// What was heard from the service address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// SMTP greeted.
    Banner,
    /// The kernel answered, no service did.
    Kernel,
}

/// Asks the service address.
fn greeting() -> Option<Heard> {
    let mut stream = match TcpStream::connect_timeout(&SMTP.parse().unwrap(), SHORT) {
        Ok(stream) => stream,
        Err(error) => return (error.kind() == ErrorKind::ConnectionRefused).then_some(Heard::Kernel),
    };
    let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
    let mut bytes = [0; 4];
    let greeted = stream.read_exact(&mut bytes).is_ok() && &bytes == b"220 ";
    Some(if greeted { Heard::Banner } else { Heard::Kernel })
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

/// A load and observers.
pub struct Watched {
    /// The mail.
    pub load: Arc<Load>,
    opens: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    over: Arc<AtomicBool>,
    observers: Vec<JoinHandle<()>>,
}

impl Watched {
    /// Waits for so many further acknowledged messages.
    #[track_caller]
    pub fn acknowledge(&self, more: usize) {
        let goal = self.load.acknowledged.load(Ordering::Relaxed) + more;
        wait_for("acknowledged messages", || (self.load.acknowledged.load(Ordering::Relaxed) >= goal).then_some(()));
    }

    /// Sessions that were opened until now.
    pub fn sessions(&self) -> usize {
        self.opens.load(Ordering::Relaxed)
    }

    /// Waits for the first greeting of a node that was asked for after this moment; gives when it came.
    #[track_caller]
    pub fn first_banner(&self, node: &str, after: Instant) -> Instant {
        wait_for("a greeting", || {
            let seen = self.seen.lock().unwrap();
            seen.iter().find(|s| s.node == node && s.what == Heard::Banner && s.asked >= after).map(|s| s.heard)
        })
    }

    /// The last answer of a node, of whatever kind.
    pub fn last_answer(&self, node: &str) -> Option<Seen> {
        self.seen.lock().unwrap().iter().filter(|s| s.node == node).max_by_key(|s| s.asked).copied()
    }

    /// Everything that was heard.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Ends load and observers; gives the load.
    pub fn end(&mut self) -> Arc<Load> {
        self.load.stop.store(true, Ordering::Relaxed);
        self.over.store(true, Ordering::Relaxed);
        for thread in self.clients.drain(..).chain(self.observers.drain(..)) {
            thread.join().unwrap();
        }
        self.load.clone()
    }

    /// Nothing, not even its kernel, answered on the service address of this node when it was asked after this moment.
    #[track_caller]
    pub fn silent_since(&self, node: &str, moment: Instant) {
        let late: Vec<Seen> = self.seen().into_iter().filter(|s| s.node == node && s.asked > moment).collect();
        let after = |s: &Seen| (s.asked - moment).as_millis();
        assert!(late.is_empty(), "node {node} answered {:?} ms too late: {late:?}", late.iter().map(after).max());
    }

    /// The service's answers form exactly these turns: nothing was served by a node that was asked after another had served in its
    /// turn. What only a kernel answers is left out here: that of a node whose programs were killed refuses connections until
    /// the lease ends ([`Watched::silent_since`]).
    #[track_caller]
    pub fn turns(&self, expected: &[&str]) {
        let turns = |mut seen: Vec<Seen>, key: fn(&Seen) -> Instant| {
            seen.sort_by_key(key);
            let mut turns: Vec<&str> = seen.iter().map(|s| s.node).collect();
            turns.dedup();
            turns
        };
        let seen: Vec<Seen> = self.seen().into_iter().filter(|s| s.what == Heard::Banner).collect();
        let (by_asked, by_heard) = (turns(seen.clone(), |s| s.asked), turns(seen.clone(), |s| s.heard));
        if by_asked == expected || by_heard == expected {
            println!("{} greetings on the service address, in turns {}", seen.len(), expected.join(", "));
            return;
        }
        let mut sorted = seen;
        sorted.sort_by_key(|s| s.asked);
        let Some(first) = sorted.first().map(|s| s.asked) else { panic!("nobody ever answered") };
        for pair in sorted.windows(2).filter(|pair| pair[0].node != pair[1].node) {
            let at = |s: &Seen| {
                format!("{} {:?} {}..{} ms", s.node, s.what, (s.asked - first).as_millis(), (s.heard - first).as_millis())
            };
            println!("{} then {}", at(&pair[0]), at(&pair[1]));
        }
        panic!("the turns are {by_asked:?}, expected {expected:?}");
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.load.stop.store(true, Ordering::Relaxed);
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Two pseudo-terminals joined byte by byte.
struct Serial {
    ends: [OpenptyResult; 2],
    cut: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Serial {
    fn join() -> Self {
        let ends = [(), ()].map(|()| openpty(None, None).expect("a pseudo-terminal"));
        let (cut, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        for end in &ends {
            let mut raw = tcgetattr(&end.slave).unwrap();
            cfmakeraw(&mut raw);
            tcsetattr(&end.slave, SetArg::TCSANOW, &raw).unwrap();
            fcntl(&end.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        }
        for (from, to) in [(0, 1), (1, 0)] {
            let copy = |fd: &OwnedFd| fd.try_clone().unwrap();
            let (from, to, cut, over) = (copy(&ends[from].master), copy(&ends[to].master), cut.clone(), over.clone());
            std::thread::spawn(move || {
                let mut bytes = [0; 512];
                while !over.load(Ordering::Relaxed) {
                    let mut fds = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
                    let _ = poll(&mut fds, PollTimeout::from(100_u16));
                    // What finds no room is lost, as on a line without flow control.
                    if let Ok(count) = nix::unistd::read(&from, &mut bytes)
                        && !cut.load(Ordering::Relaxed)
                    {
                        let _ = nix::unistd::write(&to, &bytes[..count]);
                    }
                }
            });
        }
        Self { ends, cut, over }
    }

    fn port(&self, node: &str) -> PathBuf {
        nix::unistd::ttyname(&self.ends[usize::from(node == "b")].slave).unwrap()
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
