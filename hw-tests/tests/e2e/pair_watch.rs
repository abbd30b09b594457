//! Watches a pair from outside and proves that no two nodes serve at once.
//!
//! Contract: every few milliseconds it looks whose processes listen on the service address (from the kernel's tables, not from what the
//! nodes say) and what the lock file records, and a few times a second it asks both daemons. At each moment at most one node listens;
//! the one that listens is the one of the lock's record; each reign belongs to one node; no reign goes back.
//!
//! Failure classes: each breach is kept with its moment; [`Watch::end`] fails with all of them and the timeline.

use crate::two::Two;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks at the kernel's tables.
const LOOK_EVERY: Duration = Duration::from_millis(4);
/// Between two questions to both daemons.
const ASK_EVERY: Duration = Duration::from_millis(150);
/// A daemon that stands still does not answer; the next question comes anyway.
const ANSWER_LIMIT: Duration = Duration::from_millis(400);

/// What happened, in order.
#[derive(Clone)]
pub struct Timeline {
    began: Instant,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Timeline {
    /// It begins now.
    pub fn new() -> Self {
        Self { began: Instant::now(), lines: Arc::default() }
    }

    /// Writes a line down.
    pub fn note(&self, text: &str) {
        let line = format!("{:9.3} s  {text}", self.began.elapsed().as_secs_f64());
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// The last lines.
    pub fn last(&self, lines: usize) -> String {
        let all = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// What the watching threads share.
struct Shared {
    dir: PathBuf,
    address: IpAddr,
    timeline: Timeline,
    stop: AtomicBool,
    looks: AtomicU64,
    answers: AtomicU64,
    served: AtomicU64,
    breaches: Mutex<Vec<String>>,
}

impl Shared {
    fn breach(&self, text: String) {
        self.timeline.note(&format!("BREACH: {text}"));
        self.breaches.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
}

/// The watching threads.
pub struct Watch {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    /// Begins to watch a pair whose service address is known.
    pub fn start(two: &Two, timeline: Timeline) -> Self {
        let shared = Arc::new(Shared {
            dir: two.dir().to_owned(),
            address: two.at("smtp").ip(),
            timeline,
            stop: AtomicBool::new(false),
            looks: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            served: AtomicU64::new(0),
            breaches: Mutex::default(),
        });
        let threads = [look as fn(&Shared), ask]
            .map(|work| {
                let shared = shared.clone();
                std::thread::spawn(move || work(&shared))
            })
            .into();
        Self { shared, threads }
    }

    /// What was seen that must not be.
    pub fn breaches(&self) -> Vec<String> {
        self.shared.breaches.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends; fails if anything was seen that must not be.
    pub fn end(mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a watcher does not panic");
        }
        let [looks, answers, served] =
            [&self.shared.looks, &self.shared.answers, &self.shared.served].map(|count| count.load(Ordering::Relaxed));
        let breaches = self.shared.breaches.lock().unwrap();
        assert!(
            breaches.is_empty(),
            "two nodes at once:\n{}\ntimeline:\n{}",
            breaches.join("\n"),
            self.shared.timeline.last(200)
        );
        assert!(served > 100 && answers > 2, "the watchers saw too little: {served} of {looks} looks, {answers} answers");
        println!(
            "never two: {looks} looks at the kernel's tables, {served} of them while a node listened; {answers} answers of daemons"
        );
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// The record of the lock file: reign and node. Of its two places the one with more writes counts; a torn one does not.
fn record(dir: &Path) -> Option<(u64, String)> {
    let bytes = std::fs::read(dir.join("shared/lock")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = text.split("twinpost-lock ").filter_map(|slot| {
        let words: HashMap<&str, &str> = slot.split_ascii_whitespace().filter_map(|word| word.split_once('=')).collect();
        words.get("check").filter(|check| check.len() == 8)?;
        let number = |key: &str| words.get(key)?.parse::<u64>().ok();
        Some((number("writes")?, (number("reign")?, (*words.get("by")?).to_owned())))
    });
    whole.max_by_key(|(writes, _)| *writes).map(|(_, found)| found)
}

/// Sockets that listen on this address, by their inode, with the port. The kernel lists those that listen first.
fn listeners(address: IpAddr) -> BTreeMap<u64, u16> {
    let mut found = BTreeMap::new();
    let Ok(file) = std::fs::File::open("/proc/net/tcp") else { return found };
    let IpAddr::V4(address) = address else { panic!("the loopback pair has an IPv4 address") };
    let wanted = format!("{:08X}", u32::from_ne_bytes(address.octets()));
    let mut lines = BufReader::with_capacity(16_384, file).lines().map_while(Result::ok);
    lines.next();
    for line in lines {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if words.get(3) != Some(&"0A") {
            break;
        }
        let local = words[1].split_once(':').filter(|(ip, _)| *ip == wanted);
        if let (Some((_, port)), Some(inode)) = (local, words.get(9).and_then(|inode| inode.parse().ok())) {
            found.insert(inode, u16::from_str_radix(port, 16).unwrap_or(0));
        }
    }
    found
}

/// A process of a node that holds a socket.
#[derive(Clone, Debug)]
struct Owner {
    node: &'static str,
    pid: u32,
}

/// Processes whose command line names the folder of a node and that hold one of these sockets.
fn owners(dir: &Path, inodes: &BTreeSet<u64>) -> BTreeMap<u64, Owner> {
    let mut found = BTreeMap::new();
    let canonical = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let path = |of: &Path, node: &str| of.join(node).into_os_string().into_encoded_bytes();
    let folders = ["a", "b"].map(|node| (node, [path(dir, node), path(&canonical, node)]));
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(words) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let names = |folders: &[Vec<u8>; 2]| words.split(|b| *b == 0).any(|word| folders.iter().any(|folder| word == folder));
        let Some((node, _)) = folders.iter().find(|(_, folders)| names(folders)) else { continue };
        for held in std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
            let link = std::fs::read_link(held.path()).unwrap_or_default();
            let inode = link.to_str().and_then(|l| l.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode.filter(|inode| inodes.contains(inode)) {
                found.insert(inode, Owner { node, pid });
            }
        }
    }
    found
}

/// A process that is being taken apart by the kernel answers nobody, though its sockets may close one after the other.
fn is_dying(pid: u32) -> bool {
    const PF_EXITING: u64 = 4;
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    let Some((_, rest)) = stat.rsplit_once(") ") else { return true };
    let words: Vec<&str> = rest.split(' ').collect();
    matches!(words.first(), Some(&"Z" | &"X"))
        || words.get(6).and_then(|f| f.parse::<u64>().ok()).is_none_or(|f| f & PF_EXITING != 0)
}

/// Who listens, and what the lock says.
fn look(shared: &Shared) {
    let mut known: BTreeMap<u64, Owner> = BTreeMap::new();
    let mut reigns: BTreeMap<u64, &'static str> = BTreeMap::new();
    let mut last: (Option<&'static str>, u64) = (None, 0);
    while !shared.stop.load(Ordering::Relaxed) {
        let before = record(&shared.dir);
        let now = listeners(shared.address);
        known.retain(|inode, _| now.contains_key(inode));
        let new: BTreeSet<u64> = now.keys().filter(|inode| !known.contains_key(inode)).copied().collect();
        if !new.is_empty() {
            known.extend(owners(&shared.dir, &new));
        }
        let after = record(&shared.dir);
        shared.looks.fetch_add(1, Ordering::Relaxed);
        if let (Some((earlier, _)), (_, highest)) = (&before, last)
            && *earlier < highest
        {
            shared.breach(format!("the lock's reign went back from {highest} to {earlier}"));
        }
        let nodes: BTreeSet<&'static str> = known.values().map(|owner| owner.node).collect();
        let living = || known.values().filter(|owner| !is_dying(owner.pid)).map(|owner| owner.node).collect::<BTreeSet<_>>();
        if nodes.len() > 1 && living().len() > 1 {
            shared.breach(format!("both nodes listen on the service address: {known:?}, lock {after:?}"));
        }
        let serving = nodes.iter().next().copied();
        shared.served.fetch_add(u64::from(serving.is_some()), Ordering::Relaxed);
        // Only a record that stood still during the look can be compared with it.
        if let (Some(node), Some((reign, by)), true) = (serving, &after, before == after) {
            if by != node && living().contains(node) {
                shared.breach(format!(
                    "node {node} listens on the service address, and the lock belongs to node {by}, reign {reign}"
                ));
            } else if by == node && *reigns.entry(*reign).or_insert(node) != node {
                shared.breach(format!("reign {reign} belongs to both nodes"));
            }
        }
        let reign = after.map_or(last.1, |(reign, _)| reign.max(last.1));
        if last != (serving, reign) {
            shared.timeline.note(&format!("reign {reign} in the lock; listening: {}", serving.unwrap_or("nobody")));
            last = (serving, reign);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What a daemon says of itself: reign and whether it serves.
fn status(dir: &Path, node: &str) -> Option<(u64, bool, String)> {
    let mut stream = UnixStream::connect(dir.join(node).join("run/pair.sock")).ok()?;
    stream.set_read_timeout(Some(ANSWER_LIMIT)).ok()?;
    stream.set_write_timeout(Some(ANSWER_LIMIT)).ok()?;
    stream.write_all(b"{\"op\":\"status\"}\n").ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    let value: Value = serde_json::from_str(&line).ok()?;
    let own = value["nodes"].as_array()?.iter().find(|n| n["name"] == node)?;
    let state = own["state"].as_str()?.to_owned();
    Some((own["reign"].as_u64()?, matches!(state.as_str(), "active" | "alone" | "resync"), state))
}

/// What the daemons say: one after the other, and the first once more.
fn ask(shared: &Shared) {
    let mut highest: BTreeMap<&str, u64> = BTreeMap::new();
    let mut states: BTreeMap<&str, String> = BTreeMap::new();
    while !shared.stop.load(Ordering::Relaxed) {
        let answers = ["a", "b", "a"].map(|node| (node, status(&shared.dir, node)));
        for (node, answer) in &answers {
            // A daemon that has just started has not read its own record yet.
            let Some((reign, _, state)) = answer.as_ref().filter(|(reign, _, state)| *reign > 0 || state != "boot") else {
                continue;
            };
            shared.answers.fetch_add(1, Ordering::Relaxed);
            let highest = highest.entry(node).or_default();
            if *reign < *highest {
                shared.breach(format!("the reign of node {node} went back from {highest} to {reign}"));
            }
            *highest = (*highest).max(*reign);
            let text = format!("{state}, reign {reign}");
            if states.insert(node, text.clone()).as_ref() != Some(&text) {
                shared.timeline.note(&format!("node {node} says: {text}"));
            }
        }
        if let [(_, Some((first, true, _))), (_, Some((other, true, _))), (_, Some((again, true, _)))] = &answers
            && first == again
        {
            shared.breach(format!("both nodes say that they serve: a in reign {first}, b in reign {other}"));
        }
        std::thread::sleep(ASK_EVERY);
    }
}

/// Whether SMTP greets here.
pub fn greets(at: SocketAddr) -> bool {
    let Ok(mut stream) = std::net::TcpStream::connect_timeout(&at, Duration::from_secs(1)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let mut greeting = [0; 4];
    stream.read_exact(&mut greeting).is_ok() && &greeting == b"220 "
}

#[test]
fn the_watcher_sees_a_second_node_and_a_reign_that_goes_back() {
    use crate::node::wait_for;
    let two = Two::new();
    let mut up = two.up("up", &[]);
    let (active, standby) = two.settled(&mut up);
    let watch = Watch::start(&two, Timeline::new());
    wait_for("a look", || (watch.shared.served.load(Ordering::Relaxed) > 5).then_some(()));
    assert_eq!(watch.breaches(), Vec::<String>::new());
    // A process of the standby's folder listens on the service address: what it does there is all the same.
    let listen = "import socket,sys\ns=socket.create_server((sys.argv[1],0))\nwhile True: s.accept()";
    let mut command = std::process::Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "python3", "-c", listen, &two.at("smtp").ip().to_string()]);
    let mut second = command.arg(two.dir().join(standby)).spawn().expect("setpriv is installed");
    let seen = |text: &str| wait_for(text, || watch.breaches().iter().any(|breach| breach.contains(text)).then_some(()));
    seen("both nodes listen on the service address");
    second.kill().unwrap();
    second.wait().unwrap();
    // The lock's record of another node, and an older one: what a second node with a disk of its own would leave.
    let path = two.dir().join("shared/lock");
    let old = std::fs::read(&path).unwrap();
    let forged = |reign: u64, writes: u64| format!("twinpost-lock writes={writes} reign={reign} by={standby} check=00000000\n");
    std::fs::write(&path, forged(7, 1000)).unwrap();
    seen(&format!("node {active} listens on the service address, and the lock belongs to node {standby}"));
    std::fs::write(&path, forged(6, 1001)).unwrap();
    seen("the lock's reign went back");
    std::fs::write(&path, old).unwrap();
}
