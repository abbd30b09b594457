//! Founding a pair: what a person does with two new machines, over their consoles.
//!
//! Contract: power on, setup, disks, pairing by code, witness, domain, accounts; each step is shown with its time. A founded pair that was
//! switched off in order is a base: its disks and the witness's register lie in a folder named after the image, and any number of
//! rigs start from overlays of it. A base that is not whole is never used: it gets its name last.
//!
//! For developers: `TWINPOST_BASE` names the folder of a pair that was founded with an earlier image (`rig/base-*` beside that image). It is used as
//! it is, with the boot partition and the slots of the new image written over its own, so trying a change costs no founding. Its
//! state and its mail are those of the earlier release: where a change must be seen on a new machine, found a new pair.
//!
//! Failure classes: a step fails: the error names it, the timeline has the rest.

use crate::console::quoted;
use crate::frame::values;
use crate::machine::Disk;
use crate::pair::{DOMAIN, Founded, PEOPLE, Pair, SETTLE, SMS_DOMAIN};
use crate::partition::transplant;
use crate::qemu::{Disks, GATEWAY, Qemu, SERVICE, Settings, WITNESS_PORT, copy_folder, overlay};
use crate::rig::{NODES, Rig, other};
use crate::timeline::lock;
use crate::wait::until_ok;
use crate::{Error, Result, SWITCH_PASSWORD, SWITCH_USER, Stand, Timeline};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// File beside the disks of a founded pair.
const FILE: &str = "founded.json";
/// How long disks may take to be made.
const DISKS_LIMIT: Duration = Duration::from_secs(300);
/// How long an orderly end may take.
const OFF_LIMIT: Duration = Duration::from_secs(120);

struct Phases<'a> {
    timeline: &'a Timeline,
    begun: Instant,
    done: Vec<(String, u64)>,
}

impl Phases<'_> {
    fn done(&mut self, what: &str) {
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.timeline.say(&format!("{what} ({}.{} s)", ms / 1000, ms % 1000 / 100));
        self.done.push((what.to_owned(), ms));
        self.begun = Instant::now();
    }
}

/// On both nodes at once: each waits for its own machine.
fn both(work: impl Fn(&'static str) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let made = NODES.map(|node| {
            let work = &work;
            scope.spawn(move || work(node))
        });
        let mut outcome = Ok(());
        for thread in made {
            let one = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            outcome = outcome.and(one);
        }
        outcome
    })
}

/// Founds a pair on fresh disks; both nodes run afterwards.
///
/// # Errors
/// A step fails.
pub fn found(pair: &Pair<Qemu>) -> Result<()> {
    let rig = &pair.rig;
    let timeline = rig.timeline().clone();
    let mut phases = Phases { timeline: &timeline, begun: Instant::now(), done: Vec::new() };
    both(|node| rig.power(node, true))?;
    both(|node| rig.console(node).attend(crate::console::BOOT_PATIENCE))?;
    phases.done("both consoles answer");
    both(|node| {
        // What the image found out about the machine stands in the timeline, for those who look for a fault.
        rig.console(node).order("node status --json")?;
        rig.console(node).well_within(&setup_words(rig, node), Duration::from_secs(120)).map(drop)
    })?;
    phases.done("both nodes are set up");
    both(|node| rig.console(node).well_within("disks init --yes --json", DISKS_LIMIT).map(drop))?;
    phases.done("disks are made");
    let cluster = pair_up(rig)?;
    phases.done("the nodes are paired");
    enrol(rig, cluster)?;
    lock(&pair.founded).cluster = cluster;
    pair.wait_banner(SETTLE)?;
    phases.done("SMTP greets on the service address");
    let active = pair.settled()?;
    phases.done(&format!("node {active} serves, node {} is its eligible standby", other(active)));
    people(pair, active)?;
    phases.done("domain and accounts are made");
    lock(&pair.founded).phases_ms = phases.done;
    Ok(())
}

/// The words with which a node is set up on this rig.
#[must_use]
pub fn setup_words(rig: &Qemu, node: &str) -> String {
    let own = rig.address(node);
    let (letter, switch) = (node, rig.switch_address(other(node)));
    format!(
        "setup --node {letter} --lan {own}/24 --gateway {GATEWAY} --dns {GATEWAY} --service {SERVICE}/24 --domain {DOMAIN} --witness \
         {GATEWAY}:{WITNESS_PORT} --power redfish:http://{switch} --power-user {SWITCH_USER} --power-password {} --sms-domain \
         {SMS_DOMAIN} --yes",
        quoted(SWITCH_PASSWORD)
    )
}

/// Pairing by code: node a offers, node b joins.
fn pair_up(rig: &Qemu) -> Result<u64> {
    let offer = rig.console("a").begin("--json pair pairing offer", |said| !values(said).is_empty(), Duration::from_secs(60))?;
    let garbage =
        |said: &str| Error::Garbage { node: "a".to_owned(), words: "pair pairing offer".to_owned(), said: said.to_owned() };
    let first = values(&offer.first);
    let code = first.first().and_then(|first| first["code"].as_str()).ok_or_else(|| garbage(&offer.first))?;
    rig.console("b").well_within(&format!("--json pair pairing join {}", quoted(code)), Duration::from_secs(120))?;
    let answer = offer.end(Duration::from_secs(120))?;
    let last = answer.json().ok_or_else(|| garbage(&answer.text))?;
    last["cluster"].as_u64().ok_or_else(|| garbage(&answer.text))
}

/// Carries the pair's key to the witness.
fn enrol(rig: &Qemu, cluster: u64) -> Result<()> {
    let words = "pair pairing witness-key -";
    let key = rig.console("a").json(words)?;
    let text = key["key"].as_str().ok_or_else(|| Error::Garbage {
        node: "a".to_owned(),
        words: words.to_owned(),
        said: "no key in it".to_owned(),
    })?;
    let file = rig.settings().folder.join("witness-key");
    write_private(&file, format!("{text}\n").as_bytes())?;
    let done = rig.enrol(cluster, &file);
    let _ = std::fs::remove_file(&file);
    done?;
    // It reads its register at its start.
    rig.witness(true)
}

fn write_private(file: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let _ = std::fs::remove_file(file);
    let opened = std::fs::File::options().write(true).create_new(true).mode(0o600).open(file);
    opened.and_then(|mut opened| opened.write_all(bytes)).map_err(Error::io(file.display().to_string()))
}

/// The people of the tests.
fn people<R: Rig>(pair: &Pair<R>, active: &'static str) -> Result<()> {
    let console = pair.rig.console(active);
    let domains = console.json("domain list")?;
    if !domains.to_string().contains(&format!("\"{DOMAIN}\"")) {
        console.well(&format!("domain add {DOMAIN}"))?;
    }
    // The clients of a test send more than one address may.
    console.well("config set 'limits.exempt=[\"10.9.0.0/24\"]'")?;
    for person in PEOPLE {
        let made = console.json(&format!("account add {person} --services submission,imap,pop3,sms"))?;
        let password = find(&made, "password").and_then(Value::as_str).ok_or_else(|| Error::Garbage {
            node: active.to_owned(),
            words: format!("account add {person}"),
            said: "no password in it".to_owned(),
        })?;
        lock(&pair.founded).passwords.insert(person.to_owned(), password.to_owned());
    }
    Ok(())
}

/// A key anywhere in a value.
fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(key).or_else(|| map.values().find_map(|inner| find(inner, key))),
        Value::Array(list) => list.iter().find_map(|inner| find(inner, key)),
        _ => None,
    }
}

/// Switches a pair off in order: the standby first. A node that goes off by order says so to its peer, which then leaves it off.
///
/// # Errors
/// A node does not switch itself off.
pub fn switch_off<R: Rig>(pair: &Pair<R>) -> Result<()> {
    let active = pair.settled()?;
    for node in [other(active), active] {
        switch_off_one(pair, node)?;
    }
    Ok(())
}

/// Switches a node off in order.
///
/// # Errors
/// It does not switch itself off.
pub fn switch_off_one<R: Rig>(pair: &Pair<R>, node: &str) -> Result<()> {
    // The answer may be lost with the console.
    let _ = pair.rig.console(node).order_within("power off --yes", Duration::from_secs(8));
    let off = || Ok((!pair.rig.has_power(node)?).then_some(()));
    until_ok(pair.rig.timeline(), &format!("the end of node {node}"), OFF_LIMIT, off)?;
    pair.rig.power(node, false)
}

/// Writes down what belongs to a founded pair beside its disks.
///
/// # Errors
/// The file cannot be written.
pub fn remember(pair: &Pair<Qemu>) -> Result<()> {
    let text = serde_json::to_vec_pretty(&*lock(&pair.founded)).map_err(|e| Error::Setting { what: e.to_string() })?;
    write_private(&pair.rig.settings().folder.join(FILE), &text)
}

/// What was written down in a folder.
#[must_use]
pub fn remembered(folder: &Path) -> Option<Founded> {
    serde_json::from_slice(&std::fs::read(folder.join(FILE)).ok()?).ok()
}

/// A pair founded with an earlier image, with this image on its disks; what is in `from` stays as it is.
///
/// # Errors
/// There is no founded pair, or its disks are laid out in another way.
fn adopt(settings: &Settings, from: &Path, cache: &Path, timeline: &Timeline) -> Result<PathBuf> {
    let from = from.canonicalize().map_err(Error::io(format!("TWINPOST_BASE {}", from.display())))?;
    let founded = || Error::Setting { what: format!("TWINPOST_BASE: {} is no founded pair", from.display()) };
    remembered(&from).ok_or_else(founded)?;
    let folder = cache.join("adopted");
    let _ = std::fs::remove_dir_all(&folder);
    let failed = || Error::io(folder.display().to_string());
    std::fs::create_dir_all(&folder).map_err(failed())?;
    if from.join("witness").exists() {
        copy_folder(&from.join("witness"), &folder.join("witness")).map_err(failed())?;
    }
    for node in NODES {
        for bay in [1, 2] {
            let name = format!("{node}-{bay}.qcow2");
            let disk = Disk { file: folder.join(&name), serial: String::new(), raw: false };
            overlay(&disk.file, Some((&from.join(&name), "qcow2")), None)?;
            for partition in ["twinpost-esp", "twinpost-a", "twinpost-b"] {
                transplant(&settings.image.disk, &disk, partition)?;
            }
        }
    }
    timeline.say(&format!("a pair founded with an earlier image is used: {}", from.display()));
    std::fs::copy(from.join(FILE), folder.join(FILE)).map_err(failed())?;
    Ok(folder)
}

/// The folder of a founded pair of this image, or of that which `TWINPOST_BASE` names; founds it first if there is none.
///
/// # Errors
/// A step of the founding fails.
pub fn base(settings: &Settings, cache: &Path, timeline: &Timeline) -> Result<PathBuf> {
    if let Some(earlier) = std::env::var_os("TWINPOST_BASE").filter(|value| !value.is_empty()) {
        return adopt(settings, Path::new(&earlier), cache, timeline);
    }
    let folder = cache.join(format!("base-{}", settings.image.id));
    if remembered(&folder).is_some() {
        return Ok(folder);
    }
    timeline.say("founding a pair: two new machines, once for this image");
    let begun = cache.join(format!("begun-{}", settings.image.id));
    let _ = std::fs::remove_dir_all(&begun);
    let rig = Qemu::prepare(Settings { folder: begun.clone(), ..settings.clone() }, &Disks::Fresh, timeline.clone())?;
    let pair = Pair::of(rig, Founded::default());
    found(&pair)?;
    switch_off(&pair)?;
    remember(&pair)?;
    drop(pair);
    // Bases of earlier images lie over files that are gone.
    for entry in std::fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("base-") {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    std::fs::rename(&begun, &folder).map_err(Error::io(folder.display().to_string()))?;
    Ok(folder)
}

/// A pair over a base; nothing has power yet.
///
/// # Errors
/// The base is none, or the rig cannot be made.
pub fn over(settings: Settings, base: &Path, timeline: Timeline) -> Result<Pair<Stand>> {
    let founded = remembered(base).ok_or_else(|| Error::Setting { what: format!("{} is no founded pair", base.display()) })?;
    let rig = Qemu::prepare(settings, &Disks::Over(base.to_owned()), timeline)?;
    Ok(Pair::of(rig.into(), founded))
}

/// Switches both nodes on and waits until they are settled; gives the time from power to greeting.
///
/// # Errors
/// They do not come up.
pub fn start<R: Rig>(pair: &Pair<R>) -> Result<Duration> {
    both(|node| pair.rig.power(node, true))?;
    let banner = pair.wait_banner(pair.rig.settle_limit())?;
    pair.settled()?;
    Ok(banner)
}
