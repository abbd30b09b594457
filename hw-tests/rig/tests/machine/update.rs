//! Starts by firmware and boot loader with a verified root, and updates of both nodes from a USB stick.
//!
//! `TWINPOST_NEXT` is the folder of a second image: a later release, signed by a key that the first one trusts. `make test` builds it.
//! What goes wrong with an update is in `update_bad`, power cuts are in `update_cuts`.

use crate::ground::{Ground, Outcome, Scenario, check, ms};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use twinpost_rig::pair::SETTLE;
use twinpost_rig::wait::{until_ok, until_told};
use twinpost_rig::{Answer, Capability, NODES, Pair, Rig, Stand, Start, other};
use twinpost_update::SigningKey;
use twinpost_update::bundle::{self, Facts};

/// Two times writing, restarting, catching up, proving.
pub const UPDATE_LIMIT: Duration = Duration::from_secs(1200);
/// Between two looks at an update: for each of them a node reads its boot partitions, which an emulated processor does for seconds.
const LOOK_EVERY: Duration = Duration::from_secs(6);
/// What every scenario here needs.
pub const NEEDS: &[Capability] = &[Capability::Uefi, Capability::CutPower, Capability::CorruptDisk];

type Failure = Box<dyn std::error::Error>;

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario { name: "both_nodes_start_by_firmware_with_a_verified_root", needs: NEEDS, long: false, run: firmware },
        Scenario { name: "an_update_that_nobody_trusted_signed_is_refused", needs: NEEDS, long: false, run: untrusted },
        Scenario { name: "an_update_brings_both_nodes_and_mail_goes_on", needs: NEEDS, long: true, run: good },
        Scenario { name: "an_older_version_needs_the_word_for_it", needs: NEEDS, long: true, run: older },
        Scenario { name: "two_versions_take_over_from_each_other", needs: NEEDS, long: true, run: two_versions },
        Scenario { name: "a_damaged_slot_is_refused_and_the_other_one_starts", needs: NEEDS, long: true, run: damaged },
    ]
}

fn folder(variable: &str) -> Result<PathBuf, Failure> {
    let folder = std::env::var_os(variable).ok_or_else(|| format!("{variable} names no image (`make test` builds it)"))?;
    Ok(PathBuf::from(folder))
}

/// The folder of the later release.
pub fn next() -> Result<PathBuf, Failure> {
    folder("TWINPOST_NEXT")
}

/// The folder of the release that the pair begins with.
pub fn first() -> Result<PathBuf, Failure> {
    let path = folder("TWINPOST_IMAGE")?;
    Ok(if path.is_dir() { path } else { path.parent().map(Path::to_owned).unwrap_or_default() })
}

/// The version of an image.
pub fn version(image: &Path) -> Result<String, Failure> {
    let facts: Value = serde_json::from_slice(&std::fs::read(image.join("image.json"))?)?;
    Ok(facts["version"].as_str().unwrap_or_default().to_owned())
}

/// A stick with one file on it.
fn stick(folder: &Path, bundle: &Path) -> Result<PathBuf, Failure> {
    let content = folder.join("stick");
    let _ = std::fs::remove_dir_all(&content);
    std::fs::create_dir_all(&content)?;
    std::fs::hard_link(bundle, content.join("update.twinpost"))
        .or_else(|_| std::fs::copy(bundle, content.join("update.twinpost")).map(drop))?;
    let image = folder.join("stick.img");
    let _ = std::fs::remove_file(&image);
    let bytes = std::fs::metadata(bundle)?.len() + (32 << 20);
    std::fs::File::create(&image)?.set_len(bytes)?;
    let made = Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-d"]).arg(&content).arg(&image).output()?;
    check(made.status.success(), || format!("mkfs.ext4: {}", String::from_utf8_lossy(&made.stderr)))?;
    Ok(image)
}

/// What a node says of itself; none while it does not answer.
pub fn machine_status(pair: &Pair<Stand>, node: &str) -> Option<Value> {
    pair.rig.console(node).attend(Duration::from_secs(2)).ok()?;
    pair.rig.console(node).json("node status").ok()
}

/// What a node says of its versions; none while it does not answer.
pub fn update_status(pair: &Pair<Stand>, node: &str) -> Option<Value> {
    pair.rig.console(node).attend(Duration::from_secs(2)).ok()?;
    pair.rig.console(node).json("update status").ok()
}

/// Waits until a node says this of its versions.
pub fn until_update(pair: &Pair<Stand>, node: &str, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value, Failure> {
    let what = format!("node {node}: {what}");
    Ok(until_told(pair.rig.timeline(), &what, UPDATE_LIMIT, || update_status(pair, node).filter(|status| is(status)))?)
}

/// Whether people were told something, on either node.
pub fn alarmed(pair: &Pair<Stand>, code: &str) -> Option<String> {
    NODES.into_iter().find_map(|node| {
        let status = pair.status_now(node)?;
        let alarm = status["alarms"].as_array()?.iter().find(|alarm| alarm["code"] == code)?;
        Some(alarm["text"]["en"].as_str().unwrap_or_default().to_owned())
    })
}

/// A pair whose nodes start by firmware and have a USB port: the one that lives, or a new one.
pub fn by_firmware(ground: &mut Ground) -> Outcome {
    let already = |pair: &Pair<Stand>| NODES.iter().all(|node| pair.rig.machine(node).options().start == Start::Uefi);
    if !ground.living().is_some_and(already) {
        ground.used_up();
    }
    let choose = |pair: &Pair<Stand>| {
        for node in NODES {
            pair.rig.machine(node).choose(|options| (options.start, options.usb) = (Start::Uefi, true));
        }
        Ok(())
    };
    ground.pair_with(choose).map(drop)
}

fn firmware(ground: &mut Ground) -> Outcome {
    by_firmware(ground)?;
    let (pair, _) = ground.pair()?;
    for node in NODES {
        let status = machine_status(pair, node).ok_or("no status")?;
        let legs = status["init"]["legs"].as_array().cloned().unwrap_or_default();
        let whole = legs.len() == 2 && legs.iter().all(|leg| leg["ok"] == true);
        check(whole, || format!("node {node} verifies its root on both disks: {}", status["init"]))?;
        let update = update_status(pair, node).ok_or("no status of updates")?;
        check(update["on_trial"] == false, || format!("node {node} is on trial: {update}"))?;
    }
    let sending = pair.load("firmware")?;
    sending.more(10, Duration::from_secs(60))?;
    let load = sending.end();
    pair.find_all(&load)?;
    Ok(())
}

/// Puts a stick with this bundle into the USB port of a node, in the place of the one that is in it.
pub fn plug(pair: &Pair<Stand>, node: &str, folder: &Path, bundle: &Path) -> Outcome {
    let machine = pair.rig.machine(node);
    // There may be none.
    let _ = machine.pull_stick();
    Ok(machine.plug_stick(&stick(folder, bundle)?)?)
}

/// Gives an order to install from the stick, and waits until its words are enough; the order goes on.
pub fn begin(pair: &Pair<Stand>, node: &str, words: &str, enough: impl Fn(&str) -> bool) -> Result<(), Failure> {
    let order = format!("--json update install --usb --yes {words}");
    until_ok(pair.rig.timeline(), "progress of the update", UPDATE_LIMIT, || {
        match pair.rig.console(node).begin(order.trim(), &enough, UPDATE_LIMIT) {
            // The kernel needs a moment to find the stick.
            Err(twinpost_rig::Error::Refused { text, .. }) if text.contains("no USB stick") => Ok(None),
            Err(error) => Err(error),
            Ok(_) => Ok(Some(())),
        }
    })?;
    // Whoever gave it goes away.
    pair.rig.console(node).type_in(b"\x03");
    pair.rig.console(node).forget();
    Ok(())
}

/// The update of both has begun: its first words are that the stick is looked at.
pub fn begun(text: &str) -> bool {
    text.matches("\"progress\"").count() >= 2
}

/// What an order to install from the stick answers.
pub fn install(pair: &Pair<Stand>, node: &str, words: &str) -> Result<Answer, Failure> {
    let order = format!("--json update install --usb --yes {words}");
    let answer = until_told(pair.rig.timeline(), "an answer to the update", UPDATE_LIMIT, || {
        match pair.rig.console(node).order_within(order.trim(), UPDATE_LIMIT) {
            Ok(answer) if answer.exit != 0 && answer.text.contains("no USB stick") => None,
            other => Some(other),
        }
    })?;
    Ok(answer?)
}

/// Follows an update of both nodes to its end; gives the stages that were seen, and why it stopped, if it did.
pub fn follow(pair: &Pair<Stand>, wanted: &str) -> Result<(Vec<String>, Option<String>), Failure> {
    let mut seen: Vec<String> = Vec::new();
    let ended = until_told(pair.rig.timeline(), &format!("the update of both nodes to version {wanted}"), UPDATE_LIMIT, || {
        std::thread::sleep(LOOK_EVERY);
        let found = NODES.map(|node| update_status(pair, node));
        let plans = found.iter().flatten().map(|status| &status["both"]).filter(|both| both["version"] == wanted);
        let mut over = None;
        for plan in plans {
            let stage = plan["stage"]["stage"].as_str().unwrap_or_default().to_owned();
            let stage = plan["stage"]["node"].as_u64().map_or_else(|| stage.clone(), |node| format!("{stage} {node}"));
            if seen.last() != Some(&stage) {
                pair.rig.timeline().say(&format!("the update is at: {stage}"));
                seen.push(stage);
            }
            if plan["over"] == true {
                over = Some(plan["stage"].clone());
            }
        }
        over
    })?;
    let why = (ended["stage"] != "done").then(|| ended["reasons"].to_string());
    Ok((seen, why))
}

/// Brings both nodes to the version of an image, by an order at the node that serves.
pub fn bring_both(pair: &Pair<Stand>, active: &str, folder: &Path, image: &Path, words: &str) -> Result<Vec<String>, Failure> {
    plug(pair, active, folder, &image.join("update.twinpost"))?;
    begin(pair, active, words, begun)?;
    let wanted = version(image)?;
    let (seen, why) = follow(pair, &wanted)?;
    check(why.is_none(), || format!("the update stopped: {}", why.unwrap_or_default()))?;
    for node in NODES {
        let status = until_update(pair, node, "the new version is kept", |status| {
            status["version"] == wanted.as_str() && status["on_trial"] == false
        })?;
        check(status["details"]["record"]["attempt"]["stage"] == "committed", || format!("{}", status["details"]["record"]))?;
        for disk in status["details"]["disks"].as_array().into_iter().flatten() {
            let runs = disk[1]["Ok"].as_array().into_iter().flatten().find(|entry| entry["slot"] == status["slot"]);
            check(runs.is_some_and(|entry| entry["tries"].is_null()), || format!("node {node}: not kept on {disk}"))?;
        }
    }
    Ok(seen)
}

fn untrusted(ground: &mut Ground) -> Outcome {
    by_firmware(ground)?;
    let folder = ground.folder().to_owned();
    let (pair, active) = ground.pair()?;
    let before = machine_status(pair, active).ok_or("no status")?["version"].clone();
    let next = next()?;
    let whole = std::fs::read(next.join("update.twinpost"))?;
    let refused = |what: &str, bytes: Option<Vec<u8>>, words: &str| -> Outcome {
        let bundle = folder.join("forged.twinpost");
        if let Some(bytes) = bytes {
            std::fs::write(&bundle, bytes)?;
        }
        plug(pair, active, &folder, &bundle)?;
        let answer = install(pair, active, "")?;
        check(answer.exit != 0 && answer.text.contains(words), || format!("{what}: {}: {}", answer.exit, answer.text))
    };
    // The manifest says something else than what was signed.
    let mut changed = whole.clone();
    let at = changed.windows(9).position(|window| window == b"\"version\"").ok_or("no manifest in the bundle")?;
    changed[at + 12] ^= 1;
    refused("a changed manifest", Some(changed), "not signed")?;
    // Well signed, by somebody else.
    let mut file = std::fs::File::create(folder.join("forged.twinpost"))?;
    let facts: Value = serde_json::from_slice(&std::fs::read(next.join("image.json"))?)?;
    let release = serde_json::from_value(
        json!({ "version": facts["version"], "sequence": facts["sequence"], "commit": facts["commit"], "built": facts["built"] }),
    )?;
    let parts = [next.join("slot.img"), next.join("uki-a.efi"), next.join("uki-b.efi")];
    let key = SigningKey::generate()?;
    bundle::write(&mut file, Facts { release, ..Facts::default() }, [&parts[0], &parts[1], &parts[2]], &[&key], &|_| {})?;
    drop(file);
    refused("another key", None, "not signed")?;
    // Changed on its way, behind what is signed.
    let mut damaged = whole;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    refused("a changed chunk", Some(damaged), "damaged")?;
    let _ = std::fs::remove_file(folder.join("forged.twinpost"));
    let after = machine_status(pair, active).ok_or("no status")?["version"].clone();
    check(before == after, || format!("version {after} runs now"))?;
    let status = update_status(pair, active).ok_or("no status of updates")?;
    check(status["details"]["record"]["attempt"].is_null(), || format!("something was begun: {status}"))
}

fn good(ground: &mut Ground) -> Outcome {
    by_firmware(ground)?;
    let (folder, image) = (ground.folder().to_owned(), next()?);
    let figure = ground.under_load("update", |scene| {
        let begun = Instant::now();
        let seen = bring_both(scene.pair, scene.active, &folder, &image, "")?;
        let took = begun.elapsed();
        let active = scene.pair.settled()?;
        check(active == scene.standby, || format!("node {active} serves and not the one that was updated first"))?;
        for stage in ["settle 0", "install 1", "done"] {
            check(seen.iter().any(|known| known == stage), || format!("the status never said {stage}: {seen:?}"))?;
        }
        Ok(json!({ "took_ms": ms(took), "stages": seen }))
    })?;
    ground.figure("update of both nodes", figure);
    Ok(())
}

fn older(ground: &mut Ground) -> Outcome {
    by_firmware(ground)?;
    let (folder, older) = (ground.folder().to_owned(), first()?);
    let (pair, active) = ground.pair()?;
    let (node, wanted) = (other(active), version(&older)?);
    if machine_status(pair, node).ok_or("no status")?["version"] == wanted.as_str() {
        let _ = bring_both(pair, active, &folder, &next()?, "")?;
    }
    let (pair, active) = ground.pair()?;
    plug(pair, active, &folder, &older.join("update.twinpost"))?;
    let answer = install(pair, active, "")?;
    check(answer.exit != 0 && answer.text.contains("--downgrade"), || format!("{}: {}", answer.exit, answer.text))?;
    bring_both(pair, active, &folder, &older, "--downgrade").map(drop)
}

fn two_versions(ground: &mut Ground) -> Outcome {
    by_firmware(ground)?;
    let (folder, image) = (ground.folder().to_owned(), next()?);
    let (pair, active) = ground.pair()?;
    let wanted = version(&image)?;
    let node = other(active);
    plug(pair, node, &folder, &image.join("update.twinpost"))?;
    let answer = install(pair, node, "--this-node")?;
    check(answer.exit == 0, || format!("it was not installed: {}", answer.text))?;
    pair.rig.console(node).well("power reboot --yes")?;
    until_update(pair, node, "it keeps the new version", |status| {
        status["version"] == wanted.as_str() && status["on_trial"] == false
    })?;
    pair.settled()?;
    for one in NODES {
        let status = until_update(pair, one, "it knows the other's version", |status| !status["peer"]["version"].is_null())?;
        check(status["peer"]["version"] != status["version"], || format!("{status}"))?;
    }
    until_told(pair.rig.timeline(), "the alarm that the versions differ", SETTLE, || alarmed(pair, "peer_other_version"))?;
    // From the old version to the new one, and back.
    for name in ["takeover by the newer version", "takeover by the older version"] {
        let (_, active) = ground.pair()?;
        ground.taken_over(name, |scene| Ok(scene.pair.rig.power(scene.active, false)?))?;
        let pair = ground.living().ok_or("no pair")?;
        pair.rig.power(active, true)?;
    }
    // The rest of the update: the node that has it already is left alone.
    let (pair, active) = ground.pair()?;
    bring_both(pair, active, &folder, &image, "")?;
    until_told(pair.rig.timeline(), "the word that the versions are the same", SETTLE, || {
        let differ = NODES.iter().filter_map(|one| update_status(pair, one)).any(|status| status["version"] != wanted.as_str());
        (!differ).then_some(())
    })?;
    Ok(())
}

fn damaged(ground: &mut Ground) -> Outcome {
    by_firmware(ground)?;
    let folder = ground.folder().to_owned();
    let (pair, active) = ground.pair()?;
    let node = other(active);
    let mut status = update_status(pair, node).ok_or("no status")?;
    // A node that was never updated has nothing in its other slot.
    let other_slot_good = |status: &Value| {
        status["slots"].as_array().into_iter().flatten().all(|slot| slot["state"] == "running" || slot["state"] == "good")
    };
    if !other_slot_good(&status) {
        bring_both(pair, active, &folder, &next()?, "")?;
        status = update_status(pair, node).ok_or("no status")?;
    }
    let (pair, active) = ground.pair()?;
    let node = if node == active { other(active) } else { node };
    let slot = update_status(pair, node).map_or(status["slot"].clone(), |status| status["slot"].clone());
    let slot = slot.as_str().unwrap_or_default().to_owned();
    pair.rig.power(node, false)?;
    for bay in [0, 1] {
        pair.rig.machine(node).damage(bay, &format!("twinpost-{slot}"))?;
    }
    pair.rig.power(node, true)?;
    let status = until_told(pair.rig.timeline(), "the node on its other slot", UPDATE_LIMIT, || {
        machine_status(pair, node).filter(|status| status["slot"] != slot.as_str())
    })?;
    let why = status["init"]["fallback"]["why"].as_str().unwrap_or_default().to_owned();
    check(why.contains("damaged on every disk"), || format!("it does not say why: {}", status["init"]))?;
    pair.settled()?;
    ground.used_up();
    Ok(())
}
