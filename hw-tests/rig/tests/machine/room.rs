//! File systems without room: the mail's, and the state's.

use crate::ground::{Ground, Outcome, Scenario, check};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};
use twinpost_rig::client::line::Line;
use twinpost_rig::client::smtp::{Reply, Smtp, message_of};
use twinpost_rig::console::BOOT_PATIENCE;
use twinpost_rig::pair::{PEOPLE, Pair, TAKEOVER};
use twinpost_rig::recover::{MAIL, extract};
use twinpost_rig::wait::until_told;
use twinpost_rig::{Cable, Capability, Fault, NODES, Observers, Rig, Stand, found, other};

/// What is left on the mail volume: what new mail leaves free, what ext4 keeps for itself (its reserved clusters), and a few messages.
const GAP_BYTES: u64 = 128 << 20;
/// What ext4 keeps for itself: nothing is left to programs.
const NOTHING_BYTES: u64 = 16 << 20;
const LARGE_BYTES: usize = 3 << 20;
const STATE: &str = "twinpost-state";
/// A tenth of the state volume of 256 MiB, and one file more (journald makes room when it begins the next one).
const JOURNAL_MOST_BYTES: u64 = 34 << 20;

pub fn all() -> Vec<Scenario> {
    const NEEDS: &[Capability] = &[Capability::FillDisk, Capability::CutPower, Capability::CutSwitch];
    vec![
        Scenario { name: "a_full_mail_volume_refuses_for_now_and_keeps_what_it_took", needs: NEEDS, long: true, run: mail },
        Scenario { name: "a_full_state_volume_is_said_and_the_node_serves", needs: NEEDS, long: true, run: state },
    ]
}

fn deliver(pair: &Pair<Stand>, id: &str, bytes: usize) -> Result<Reply, Box<dyn std::error::Error>> {
    let (at, text) = (pair.at(25), message_of("you@elsewhere.example", id, "large", bytes));
    let reply = pair.as_client(|| -> std::io::Result<_> {
        let mut smtp = Smtp::greeted(Line::plain_within(at, Duration::from_secs(10), Duration::from_secs(120))?)?;
        smtp.mail("you@elsewhere.example", &[PEOPLE[1]], &text)
    })??;
    Ok(reply)
}

/// Each of these is in the mailbox, once.
fn all_there(pair: &Pair<Stand>, ids: &[String]) -> Outcome {
    let found = pair.mailbox(PEOPLE[1])?;
    let lost: Vec<&String> = ids.iter().filter(|id| found.get(*id) != Some(&1)).collect();
    check(lost.is_empty(), || format!("of {} acknowledged these are not there once: {lost:?}", ids.len()))
}

fn mail(ground: &mut Ground) -> Outcome {
    full_to_the_last_block(ground)?;
    ground.used_up();
    let (pair, active) = ground.pair_with(|pair| Ok(pair.rig.qemu().fill(&NODES, MAIL, Some(GAP_BYTES))?))?;
    let begun = Instant::now();
    let timeline = pair.rig.timeline().clone();
    let observers = Observers::start(&pair.rig, &timeline)?;
    let (mut taken, mut refused) = (Vec::new(), None);
    for number in 0..40 {
        let id = format!("{number}.{:x}@large.example", rand::random::<u64>());
        let reply = deliver(pair, &id, LARGE_BYTES)?;
        match reply.code {
            250 => taken.push(id),
            _ => {
                refused = Some(reply);
                break;
            }
        }
    }
    let refused = refused.ok_or("the volume is never full")?;
    check(refused.code == 452, || format!("{refused:?}"))?;
    check(!taken.is_empty(), || "there was room for some".to_owned())?;
    timeline.say(&format!("{} large messages taken, then {} {}", taken.len(), refused.code, refused.text));
    all_there(pair, &taken)?;
    // People hear of it, and the pair stays as it is.
    let what = "it says that the mail volume is full";
    until_told(&timeline, what, Duration::from_secs(60), || {
        pair.rig.console(active).json("node status").ok().filter(|status| status["faults"].to_string().contains("mail_full"))
    })?;
    let again = deliver(pair, "again@large.example", LARGE_BYTES)?;
    check(again.code == 452, || format!("{again:?}"))?;
    check(observers.first_banner(other(active), begun).is_none(), || "the peer served".to_owned())?;
    observers.end();
    check(pair.settled()? == active, || "the peer serves".to_owned())?;

    found::switch_off(pair)?;
    pair.rig.qemu().empty(&NODES, MAIL)?;
    found::start(pair)?;
    let id = format!("room.{:x}@large.example", rand::random::<u64>());
    let reply = deliver(pair, &id, LARGE_BYTES)?;
    check(reply.code == 250, || format!("there is room again: {reply:?}"))?;
    taken.push(id);
    all_there(pair, &taken)?;
    // Its disks are not what a rig keeps.
    ground.used_up();
    Ok(())
}

/// A service that starts on a volume without a free block serves what it has.
fn full_to_the_last_block(ground: &mut Ground) -> Outcome {
    ground.used_up();
    let (pair, _) = ground.pair_with(|pair| Ok(pair.rig.qemu().fill(&NODES, MAIL, Some(NOTHING_BYTES))?))?;
    let reply = deliver(pair, "none@large.example", LARGE_BYTES)?;
    check(reply.code == 452, || format!("{reply:?}"))?;
    pair.mailbox(PEOPLE[1])?;
    Ok(())
}

/// The journal on the state volume of a node that is off keeps to its tenth of the volume.
fn journal_is_bounded(folder: &Path, pair: &Pair<Stand>, node: &str) -> Outcome {
    let disk = pair.rig.machine(node).bays()[0].clone().ok_or("an empty bay")?;
    let files = folder.join("state");
    let _ = std::fs::remove_dir_all(&files);
    extract(&disk.file, STATE, &files)?;
    let bytes = tree_bytes(&files.join("log/journal"))?;
    let _ = std::fs::remove_dir_all(&files);
    pair.rig.timeline().say(&format!("the journal has {bytes} bytes"));
    check(bytes > 0 && bytes <= JOURNAL_MOST_BYTES, || format!("the journal has {bytes} bytes"))
}

fn tree_bytes(folder: &Path) -> std::io::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let facts = entry.metadata()?;
        sum += if facts.is_dir() { tree_bytes(&entry.path())? } else { facts.len() };
    }
    Ok(sum)
}

fn faults(pair: &Pair<Stand>, node: &str) -> Option<String> {
    pair.rig.console(node).json("node status").ok().map(|status| status["faults"].to_string())
}

fn state(ground: &mut Ground) -> Outcome {
    let folder = ground.folder().to_owned();
    let (pair, active) = ground.pair()?;
    let node = other(active);
    pair.rig.cable(node, Cable::Switch, Fault::Pulled)?;
    found::switch_off_one(pair, node)?;
    // Not even root finds room.
    pair.rig.qemu().fill(&[node], STATE, None)?;
    pair.rig.power(node, true)?;
    pair.rig.console(node).attend(BOOT_PATIENCE)?;
    pair.rig.cable(node, Cable::Switch, Fault::None)?;
    let (pair, _) = ground.pair()?;
    let said = until_told(pair.rig.timeline(), "it says that its state volume is full", Duration::from_secs(60), || {
        faults(pair, node).filter(|faults| faults.contains("state_full"))
    })?;
    // It takes over, with all that a new reign writes, and gives it back.
    for name in ["planned switch to a node whose state volume is full", "planned switch from a node whose state volume is full"] {
        ground.taken_over(name, |scene| Ok(scene.pair.rig.console(scene.active).well("pair standby --yes").map(drop)?))?;
    }
    let (pair, active) = ground.pair()?;
    check(active != node, || format!("node {active} serves"))?;
    pair.rig.cable(node, Cable::Switch, Fault::Pulled)?;
    found::switch_off_one(pair, node)?;
    journal_is_bounded(&folder, pair, node)?;
    pair.rig.qemu().empty(&[node], STATE)?;
    pair.rig.power(node, true)?;
    pair.rig.console(node).attend(BOOT_PATIENCE)?;
    pair.rig.cable(node, Cable::Switch, Fault::None)?;
    let (pair, _) = ground.pair()?;
    pair.until_status(node, "it is standby", TAKEOVER, |status| status["active"] != node)?;
    let after = faults(pair, node).ok_or("no status")?;
    check(!after.contains("state_full"), || format!("there is room again: {after}"))?;
    ground.figure("what a node with a full state volume says", json!(said));
    ground.used_up();
    Ok(())
}
