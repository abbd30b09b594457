//! Real power loss: what the disk's cache had not written out is gone, and every acknowledged message is found all the same.
//!
//! The active's first disk logs its writes. Beside each 250 stands how long that log was: nothing behind that point was promised. Then the
//! log is cut at random points behind promises, the disk is made as a power cut would have left it, and the product's own program opens the
//! store that lies on it.

use crate::ground::{Ground, Outcome, Scenario, check};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use twinpost_rig::blocklog::Log;
use twinpost_rig::client::imap::Imap;
use twinpost_rig::client::line::Line;
use twinpost_rig::pair::PEOPLE;
use twinpost_rig::recover::{MAIL, extract};
use twinpost_rig::wait::until;
use twinpost_rig::{Capability, NODES, Pair, Rig, Stand, Timeline};

/// Messages that are sent.
const MESSAGES: usize = 40;
type Failure = Box<dyn std::error::Error>;

pub fn all() -> Vec<Scenario> {
    const NEEDS: &[Capability] = &[Capability::LoseWrites];
    vec![
        Scenario { name: "a_power_cut_that_loses_unflushed_writes_keeps_every_promise", needs: NEEDS, long: true, run: three },
        Scenario { name: "fifty_power_cuts_that_lose_unflushed_writes", needs: NEEDS, long: true, run: fifty },
    ]
}

fn three(ground: &mut Ground) -> Outcome {
    cuts(ground, 3)
}

fn fifty(ground: &mut Ground) -> Outcome {
    cuts(ground, 50)
}

/// A message that was promised: whose it is, and how long the log was then.
struct Promise {
    id: String,
    person: &'static str,
    log_bytes: u64,
}

fn promises(pair: &Pair<Stand>, log: &Path) -> Result<Vec<Promise>, Failure> {
    let mut made = Vec::new();
    for number in 0..MESSAGES {
        let person = PEOPLE[number % PEOPLE.len()];
        let id = format!("{number}.{:x}@power.example", rand::random::<u64>());
        pair.send(person, &id, "before the cut")?;
        made.push(Promise { id, person, log_bytes: std::fs::metadata(log)?.len() });
    }
    Ok(made)
}

fn tool(program: &str, words: &[&str]) -> Outcome {
    let output = Command::new(program).args(words).output()?;
    check(output.status.success(), || format!("{program} {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr)))
}

fn cuts(ground: &mut Ground, count: usize) -> Outcome {
    ground.used_up();
    let seed = std::env::var("TWINPOST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("seed: TWINPOST_SEED={seed}");
    let base = ground.base().ok_or("there is no founded base")?.to_owned();
    let folder = ground.folder().join("cuts");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let (pair, active) = ground.pair_with(|pair| {
        for node in NODES {
            pair.rig.machine(node).choose(|options| options.log_writes = true);
        }
        Ok(())
    })?;
    let log = pair.rig.machine(active).writes(0);
    let promised = promises(pair, &log)?;
    for node in NODES {
        pair.rig.power(node, false)?;
    }
    let (before, disk) = (folder.join("before.raw"), folder.join("disk.raw"));
    let from = base.join(format!("{active}-1.qcow2"));
    tool("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", &from.display().to_string(), &before.display().to_string()])?;
    let passwords: HashMap<&str, String> = PEOPLE.iter().map(|person| (*person, pair.password(person))).collect();
    let (program, timeline) = (pair.rig.qemu().settings().program.clone(), pair.rig.timeline().clone());
    let writes = Log::open(&log)?;
    timeline.say(&format!("{} requests with {} flushes for {MESSAGES} messages", writes.requests(), writes.flushes()));
    let mut chance = StdRng::seed_from_u64(seed);
    for number in 0..count {
        // Behind a promise somewhere, and up to the next ones.
        let at = chance.random_range(0..promised.len());
        let first = writes.requests_at(promised[at].log_bytes);
        let last = promised.get(at + 3).map_or(writes.requests(), |later| writes.requests_at(later.log_bytes));
        let requests = chance.random_range(first..=last.max(first));
        tool("cp", &["--sparse=always", &before.display().to_string(), &disk.display().to_string()])?;
        let cut = writes.cut(&File::options().write(true).open(&disk)?, requests, seed ^ number as u64)?;
        let mail = folder.join("mail");
        let _ = std::fs::remove_dir_all(&mail);
        extract(&disk, MAIL, &mail)?;
        let held: Vec<&Promise> = promised.iter().filter(|p| writes.requests_at(p.log_bytes) <= requests).collect();
        let found = open_store(&program, &mail, &folder.join(format!("node-{number}")), &passwords, &timeline)?;
        for promise in &held {
            let there = found[promise.person].get(&promise.id).copied().unwrap_or(0);
            check(there == 1, || format!("seed {seed}, cut {number}: {} is {there} times there after {cut:?}", promise.id))?;
        }
        timeline.say(&format!("cut {number}: {cut:?}, {} promised messages found", held.len()));
    }
    ground.used_up();
    Ok(())
}

/// `twinpost up` on a folder; it ends with this.
struct Up(Child);

impl Drop for Up {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap_or(i32::MAX)),
            nix::sys::signal::Signal::SIGTERM,
        );
        let end = Instant::now() + Duration::from_secs(20);
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < end {
            // The pace of looking.
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn up(program: &Path, dir: &Path, timeline: &Timeline) -> Result<(Up, SocketAddr), Failure> {
    let log = File::options().create(true).append(true).open(dir.join("up.log"))?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program).args(["up", "--nodes", "1", "--demo", "none", "--modem", "none", "--dir"]);
    command.arg(dir).args(["--address", "127.83.0.1"]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let child = command.spawn()?;
    let pid = u64::from(child.id());
    let up = Up(child);
    let at = until(timeline, "the store that is opened on this machine", Duration::from_secs(60), || {
        let endpoints: Value = serde_json::from_slice(&std::fs::read(dir.join("endpoints.json")).ok()?).ok()?;
        (endpoints.pointer("/nodes/0/pids/up")?.as_u64()? == pid).then_some(())?;
        let port = u16::try_from(endpoints["service"]["imaps"].as_u64()?).ok()?;
        Some(SocketAddr::new(endpoints["service"]["address"].as_str()?.parse().ok()?, port))
    });
    let at = at.map_err(|e| format!("{e}: {}", std::fs::read_to_string(dir.join("up.log")).unwrap_or_default()))?;
    Ok((up, at))
}

type Boxes = HashMap<&'static str, HashMap<String, usize>>;

/// Opens a store with the product's own program and reads everybody's mailbox.
fn open_store(
    program: &Path,
    mail: &Path,
    dir: &Path,
    passwords: &HashMap<&str, String>,
    timeline: &Timeline,
) -> Result<Boxes, Failure> {
    std::fs::create_dir_all(dir)?;
    drop(up(program, dir, timeline)?);
    let data = dir.join("a/data");
    std::fs::remove_dir_all(&data)?;
    std::fs::rename(mail, &data)?;
    let _ = std::fs::remove_file(dir.join("endpoints.json"));
    let (_up, at) = up(program, dir, timeline)?;
    let mut boxes = Boxes::new();
    for person in PEOPLE {
        let line = Line::tls_unchecked(at, Duration::from_secs(10), Duration::from_secs(60))?;
        let ids = Imap::sign_in_on(line, person, &passwords[person])?.message_ids("INBOX");
        boxes.insert(person, ids);
    }
    Ok(boxes)
}
