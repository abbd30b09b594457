//! Random faults, round after round, on one pair under load that is never restarted as a whole.
//!
//! `TWINPOST_ROUNDS` gives their number; without it there are 50, and 1000 when `TWINPOST_SOAK` is set. The seed is printed and `TWINPOST_SEED` repeats the order of the faults.
//! Each round changes the cables by chance, makes one fault, and waits until mail is acknowledged again. When the cables that were cut
//! leave no proof to anybody, the service is rightly away: then they are mended, and it must come back. At the end every 250 is found
//! once, and never two nodes served.

use crate::kill::seed;
use crate::node::alive;
use crate::pair_world::{World, other};
use nix::sys::signal::Signal::{SIGCONT, SIGKILL, SIGSTOP};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::{Duration, Instant};

/// What is done in a round.
#[derive(Clone, Copy, Debug)]
enum Fault {
    KillActive,
    KillStandby,
    KillBoth,
    KillPart(&'static str),
    StallAll,
    StallPart(&'static str),
    StallWitness,
    Switch,
    Nothing,
}

const CABLES: [&str; 3] = ["eth1", "lan", "serial"];
const WAYS: [&str; 3] = ["a>b", "b>a", "both"];
const PARTS: [&str; 4] = ["mail", "pair", "sms", "node"];
/// The service may be away so long while cables are cut, before they are mended.
const AWAY: Duration = Duration::from_secs(6);

fn one<T: Copy>(rng: &mut StdRng, of: &[T]) -> T {
    of[rng.random_range(0..of.len())]
}

fn fault(rng: &mut StdRng) -> Fault {
    match rng.random_range(0..100) {
        0..20 => Fault::KillActive,
        20..30 => Fault::KillStandby,
        30..33 => Fault::KillBoth,
        33..51 => Fault::KillPart(one(rng, &PARTS)),
        51..61 => Fault::StallAll,
        61..73 => Fault::StallPart(one(rng, &PARTS[..3])),
        73..90 => Fault::Switch,
        90..96 => Fault::StallWitness,
        _ => Fault::Nothing,
    }
}

/// Some cables change.
fn cables(world: &World, rng: &mut StdRng) {
    let cable = one(rng, &CABLES);
    let way = one(rng, &WAYS);
    match rng.random_range(0..10) {
        0..3 => world.rack(&format!("cut {cable} {way}")),
        3 => world.rack(&format!("garble serial 0.0{} {way}", rng.random_range(1..9))),
        4 if cable != "serial" => world.rack(&format!("loss {cable} {} {way}", rng.random_range(5..60))),
        5 => world.rack(&format!("mend {cable}")),
        6..9 => world.rack("mend all"),
        _ => {}
    }
}

/// Carries it out; gives the nodes that have no power afterwards, with their last processes.
fn carry_out(world: &mut World, fault: Fault, active: &'static str, rng: &mut StdRng) -> Vec<(&'static str, Vec<(String, u64)>)> {
    let standby = other(active);
    let mut dark = Vec::new();
    let mut kill = |world: &mut World, node: &'static str| {
        let old = world.two.pids(node);
        world.pull_the_plug(node);
        dark.push((node, old));
    };
    match fault {
        Fault::KillActive => kill(world, active),
        Fault::KillStandby => kill(world, standby),
        Fault::KillBoth => {
            kill(world, active);
            kill(world, standby);
        }
        Fault::KillPart(part) => {
            let node = if part == "mail" || rng.random_bool(0.6) { active } else { standby };
            let old = world.two.pids(node);
            // The part may be gone this very moment, after the round before.
            if world.try_signal(node, part, SIGKILL) && part == "node" {
                dark.push((node, old));
            }
        }
        Fault::StallAll | Fault::StallPart(_) => {
            let part = if let Fault::StallPart(part) = fault { Some(part) } else { None };
            let node = if rng.random_bool(0.7) { active } else { standby };
            let pids: Vec<u64> =
                world.two.pids(node).into_iter().filter(|(name, _)| part.is_none_or(|p| p == name)).map(|(_, pid)| pid).collect();
            let stall = Duration::from_millis(rng.random_range(50..3000));
            world.say(&format!("{} of node {node} stands still for {stall:?}", part.unwrap_or("everything")));
            world.signal_pids(&pids, SIGSTOP);
            std::thread::sleep(stall);
            world.signal_pids(&pids, SIGCONT);
        }
        Fault::StallWitness => {
            let stall = Duration::from_millis(rng.random_range(500..2500));
            world.signal_witness(SIGSTOP);
            std::thread::sleep(stall);
            world.signal_witness(SIGCONT);
        }
        Fault::Switch => {
            // With cables cut it may be refused: that is an answer too.
            let said = world.two.ctl(&["pair", "standby", "--yes"]);
            world.say(&format!("planned switch away from node {active}: exit {}, {}", said.code, said.err.trim()));
        }
        Fault::Nothing => {}
    }
    dark
}

#[test]
fn random_faults_round_after_round() {
    let rounds = std::env::var("TWINPOST_ROUNDS").ok().and_then(|n| n.parse().ok());
    let rounds = rounds.unwrap_or(if std::env::var_os("TWINPOST_SOAK").is_some() { 1000 } else { 50 });
    let rounds = if crate::fast() {
        println!("TWINPOST_TESTS=fast: 10 rounds instead of {rounds}");
        10
    } else {
        rounds
    };
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::start(seed);
    let (began, mut mended, mut longest) = (Instant::now(), 0, Duration::ZERO);
    for round in 1..=rounds {
        cables(&world, &mut rng);
        let fault = fault(&mut rng);
        let Some(active) = world.service_within(AWAY).or_else(|| {
            mended += 1;
            world.rack("mend all");
            Some(world.someone_serves())
        }) else {
            unreachable!("either it serves or the test has failed")
        };
        world.say(&format!("round {round}: {fault:?}, node {active} serves, {} acknowledged", world.acknowledged()));
        let since = Instant::now();
        let dark = carry_out(&mut world, fault, active, &mut rng);
        // A second one while the pair is still busy with the first.
        if rng.random_bool(0.3) {
            let second = match rng.random_range(0..4) {
                0 => Fault::KillPart(one(&mut rng, &PARTS[..3])),
                1 => Fault::StallPart(one(&mut rng, &PARTS[..3])),
                2 => Fault::Switch,
                _ => Fault::StallWitness,
            };
            std::thread::sleep(Duration::from_millis(rng.random_range(0..700)));
            cables(&world, &mut rng);
            world.say(&format!("round {round}: and {second:?}"));
            carry_out(&mut world, second, one(&mut rng, &["a", "b"]), &mut rng);
        }
        // Half of the time the node that is left must answer before the other is put back.
        if dark.len() < 2 && rng.random_bool(0.5) {
            world.mail_within(3, AWAY);
        }
        for (node, old) in dark {
            world.put_back(node, &old);
        }
        if !world.mail_within(3, AWAY) {
            mended += 1;
            world.rack("mend all");
            world.more_mail(3);
        }
        let away = since.elapsed();
        if away > Duration::from_secs(3) {
            world.say(&format!("round {round}: mail again after {:.1} s", away.as_secs_f64()));
        }
        longest = longest.max(away);
        // Often both are well before the next fault, sometimes it comes in the middle.
        if rng.random_bool(0.4) {
            world.rack("mend all");
            world.settled();
        }
        if round % 10 == 0 {
            println!("{round} of {rounds} rounds in {:.0} s", began.elapsed().as_secs_f64());
        }
    }
    assert!(["a", "b"].iter().all(|node| world.two.pid(node, "node").is_some_and(alive)), "both nodes have power");
    println!(
        "{rounds} rounds in {:?}; cables mended to get the service back: {mended}; longest wait for mail {longest:?}",
        began.elapsed()
    );
    world.finish();
}
