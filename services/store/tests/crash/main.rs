//! The whole store, real database and real files, through power cuts and kills.
//!
//! A child process (this program again) works on a store and says on standard output what the store acknowledged. For
//! power cuts it runs under strace, once; from the record any number of disks are made that a cut at some moment could have
//! left, and each is opened and checked. For kills it is killed, and what the kernel still has is opened and checked.
//!
//! - `TWINPOST_SEED=n`: the seed of the run and of its cuts.
//! - `TWINPOST_SEEDS=n`, `TWINPOST_KILLS=n`: how many cuts and kills (the ordinary test makes few).
//! - A failure prints the variables that repeat it from its record.

#![allow(clippy::print_stderr, reason = "how much was proved is the result of a run, and its seeds repeat it")]

mod check;
mod child;
mod plan;
mod replay;
mod trace;

use check::{Said, check};
use child::Texts;
use replay::{Mutant, Replay};
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use trace::Event;
use twinpost_store::Store;
use twinpost_store::files::{FaultFiles, Rng};

/// Of each worker.
const STEPS: u64 = 24;
/// Cuts of the ordinary test.
const CUTS: u64 = 150;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

#[test]
#[ignore = "run by the other tests in a process of its own"]
fn child_process() {
    let dir = std::env::var_os("TWINPOST_CRASH_DIR").expect("the harness names the folder");
    let (seed, steps) = (number("TWINPOST_CRASH_SEED"), number("TWINPOST_CRASH_STEPS"));
    let (seed, steps) = (seed.expect("a seed"), steps.expect("a number of steps"));
    runtime().block_on(async {
        match steps {
            0 => child::recover(Path::new(&dir), seed).await,
            _ => child::run(Path::new(&dir), seed, steps).await,
        }
    });
}

const ARGS: [&str; 5] = ["child_process", "--exact", "--ignored", "--nocapture", "--test-threads=1"];

fn envs(dir: &Path, seed: u64, steps: u64) -> [(&'static str, OsString); 3] {
    [
        ("TWINPOST_CRASH_DIR", dir.into()),
        ("TWINPOST_CRASH_SEED", seed.to_string().into()),
        ("TWINPOST_CRASH_STEPS", steps.to_string().into()),
    ]
}

/// Memory where the system has it as a folder: the disks of the cuts are synced over and over while they are opened.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a temporary folder")
}

fn program() -> PathBuf {
    std::env::current_exe().expect("this program")
}

/// A run under strace: its events, and the file that repeats them. A record is read again where the environment names one.
fn record(seed: u64) -> (Vec<Event>, PathBuf) {
    if let Some(kept) = std::env::var_os("TWINPOST_TRACE") {
        let log = std::fs::read(&kept).expect("the record that TWINPOST_TRACE names");
        return (trace::parse(&log), kept.into());
    }
    let dir = scratch();
    let (_, log) = tempfile::NamedTempFile::new().expect("a temporary file").keep().expect("a file");
    let data = dir.path().join("data");
    trace::record(&program(), &ARGS, &envs(&data, seed, STEPS), &data, &log);
    (trace::parse(&std::fs::read(&log).expect("the record")), log)
}

/// Writes the files of a simulated disk into a real folder.
fn lay_out(disk: &FaultFiles, dir: &Path) {
    std::fs::create_dir_all(dir.join("packs")).expect("a folder");
    for (path, content) in disk.contents() {
        let path = dir.join(path.strip_prefix("/").unwrap_or(&path));
        std::fs::write(path, content).expect("room for a small store");
    }
}

/// Opens what a cut left and checks it.
async fn opens_well(disk: &FaultFiles, said: &Said, seed: u64, texts: &mut Texts) -> Result<(), String> {
    let dir = scratch();
    lay_out(disk, dir.path());
    let store = Store::open(child::options(dir.path())).await.map_err(|e| format!("it does not open: {e}"))?;
    let outcome = check(&store, seed, said, texts).await;
    store.close().await;
    outcome
}

async fn survives(replay: &mut Replay, cut: usize, cut_seed: u64, seed: u64, texts: &mut Texts) -> Result<u64, String> {
    let disk = replay.disk_at(cut, cut_seed);
    let said = Said::new(replay.said(cut));
    opens_well(&disk, &said, seed, texts).await.map(|()| said.acknowledged())
}

/// Cuts in rising order: all over the run, half of them right behind a sync or an answer.
/// Each with the seed of what the disk does.
fn cuts(events: &[Event], count: u64, seed: u64) -> Vec<(usize, u64)> {
    let mut rng = Rng::new(seed);
    let all = events.len() as u64;
    let mut cuts: Vec<usize> = (0..count).map(|_| 1 + rng.below(all) as usize).collect();
    for cut in cuts.iter_mut().step_by(2) {
        let next = events.iter().enumerate().skip(*cut).find(|(_, e)| e.is_turning_point());
        *cut = next.map_or(*cut, |(at, _)| (at + rng.below(3) as usize).min(events.len()));
    }
    cuts.sort_unstable();
    cuts.into_iter().map(|cut| (cut, rng.bits())).collect()
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_acknowledged() {
    let seed = number("TWINPOST_SEED").unwrap_or(1);
    let (events, log) = record(seed);
    let mut replay = Replay::new(&events, Mutant::None);
    let mut texts = Texts::default();
    let mut acknowledged = 0;
    let cuts = match number("TWINPOST_CUT") {
        Some(cut) => vec![(cut as usize, number("TWINPOST_CUT_SEED").expect("the seed of the cut"))],
        None => cuts(&events, number("TWINPOST_SEEDS").unwrap_or(CUTS), seed),
    };
    let count = cuts.len();
    runtime().block_on(async {
        for (cut, cut_seed) in cuts {
            match survives(&mut replay, cut, cut_seed, seed, &mut texts).await {
                Ok(acks) => acknowledged += acks,
                Err(what) => panic!(
                    "cut before event {cut} of {}: {what}\nto repeat it: TWINPOST_TRACE={} TWINPOST_SEED={seed} TWINPOST_CUT={cut} \
                     TWINPOST_CUT_SEED={cut_seed}",
                    events.len(),
                    log.display()
                ),
            }
        }
    });
    eprintln!("{count} power cuts in a run of {} events, {acknowledged} acknowledgements held", events.len());
    assert!(acknowledged > 0 || count == 1, "cuts without anything to lose");
    mutants_are_caught(&events, seed, &mut texts);
    if std::env::var_os("TWINPOST_TRACE").is_none() {
        std::fs::remove_file(log).expect("the record of a run that is proved");
    }
}

/// The same record, as a store with an error would have written it: the harness must see each of them.
fn mutants_are_caught(events: &[Event], seed: u64, texts: &mut Texts) {
    for mutant in [Mutant::AnswerBeforePackSync, Mutant::AnswerBeforeCommit, Mutant::CommitBeforePackSync] {
        let mut replay = Replay::new(events, mutant);
        let all = cuts(events, 400, seed ^ 0xbad);
        let caught = runtime().block_on(async {
            for (n, (cut, cut_seed)) in (1..).zip(all) {
                if let Err(what) = survives(&mut replay, cut, cut_seed, seed, texts).await {
                    return Some((n, what));
                }
            }
            None
        });
        let Some((n, what)) = caught else { panic!("{mutant:?} went through 400 cuts unseen, seed {seed}") };
        eprintln!("{mutant:?} is caught at cut {n}: {what:.200}");
    }
}

/// The power goes again while the store is being opened after a cut, and in its first work then.
#[test]
fn a_second_cut_during_recovery_loses_nothing_either() {
    let seed = number("TWINPOST_SEED").unwrap_or(1);
    let mut rng = Rng::new(seed);
    let (events, log) = record(seed);
    let mut texts = Texts::default();
    let mut first_cuts = cuts(&events, number("TWINPOST_RECOVERIES").unwrap_or(3), rng.bits());
    first_cuts.retain(|(cut, _)| *cut > 0);
    let mut replay = Replay::new(&events, Mutant::None);
    for (cut, cut_seed) in first_cuts {
        let disk = replay.disk_at(cut, cut_seed);
        let said = Said::new(replay.said(cut));
        let dir = scratch();
        lay_out(&disk, dir.path());
        let second_log = tempfile::NamedTempFile::new().expect("a temporary file");
        trace::record(&program(), &ARGS, &envs(dir.path(), seed, 0), dir.path(), second_log.path());
        let second = trace::parse(&std::fs::read(second_log.path()).expect("the record"));
        let mut second_replay = Replay::on(&disk, &second);
        for (again, again_seed) in cuts(&second, 30, rng.bits()) {
            let disk = second_replay.disk_at(again, again_seed);
            let said = said.clone().and_then(second_replay.said(again));
            if let Err(what) = runtime().block_on(opens_well(&disk, &said, seed, &mut texts)) {
                panic!(
                    "TWINPOST_SEED={seed}, record {}: cut before event {cut} (seed {cut_seed}), then before event {again} of {} \
                     (seed {again_seed}): {what}",
                    log.display(),
                    second.len()
                );
            }
        }
    }
    if std::env::var_os("TWINPOST_TRACE").is_none() {
        std::fs::remove_file(log).expect("the record of a run that is proved");
    }
}

/// A child that is killed while it works; what it had said until then.
fn killed_after(data: &Path, seed: u64, lines: u64) -> Said {
    let mut command = Command::new(program());
    command.args(ARGS).envs(envs(data, seed, STEPS)).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("this program runs");
    let out = BufReader::new(child.stdout.take().expect("its output is a pipe"));
    let mut said = Vec::new();
    for line in out.lines() {
        said.push(line.expect("the harness of Rust writes UTF-8"));
        // The kill comes while others work; what they still say is read to the end, for it was acknowledged.
        if said.len() as u64 == lines {
            child.kill().expect("a process of ours");
        }
    }
    child.wait().expect("a process of ours");
    Said::new(said.iter().map(|l| &**l))
}

#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    let seed = number("TWINPOST_SEED").unwrap_or(1);
    let mut rng = Rng::new(seed);
    let mut texts = Texts::default();
    let mut held = 0;
    for round in 0..number("TWINPOST_KILLS").unwrap_or(6) {
        let dir = scratch();
        let data = dir.path().join("data");
        let lines = 1 + rng.below(2 * STEPS * plan::WORKERS);
        let said = killed_after(&data, seed, lines);
        held += said.acknowledged();
        runtime().block_on(async {
            let opened = Store::open(child::options(&data)).await;
            let store = opened.unwrap_or_else(|e| panic!("TWINPOST_SEED={seed}, kill {round} at line {lines}: {e}"));
            let outcome = check(&store, seed, &said, &mut texts).await;
            store.close().await;
            outcome.unwrap_or_else(|what| panic!("TWINPOST_SEED={seed}, kill {round} at line {lines}: {what}"));
        });
    }
    eprintln!("{held} acknowledgements held through the kills");
    assert!(held > 0, "kills without anything to lose");
}
