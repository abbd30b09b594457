//! The promises of the pair on real kernels: QEMU machines with md, DRBD, watchdog, serial lines, from the built image.
//!
//! Contract: scenarios run one after the other on one pair that lives on, as long as it comes back well by itself; after a failure, or when a
//! scenario leaves a machine that nobody would keep, the next one gets a new pair over the founded base. Each ends with every
//! acknowledged message found and never two that served. What a rig cannot do is left out by its declared capabilities and
//! counted as ignored. `TWINPOST_IMAGE` names the image; without it this suite is left out whole (`make test` builds one).
//! `TWINPOST_BENCH` names the file of a real bench instead (docs/manual/bench.md): the same scenarios on the pair that stands there.
//! Arguments are parts of names; `--list` lists. `TWINPOST_SOAK=1` adds the long ones. `TWINPOST_BASE` names a pair founded with an earlier
//! image, for developers ([`twinpost_rig::found`]).
//!
//! Failure classes: an expectation is not met: the timeline of the scenario, the last lines of each console, and the journals of the nodes
//! that still answer lie in the folder that is named.
#![allow(clippy::print_stdout, reason = "a test says what it does")]

mod bench;
mod boot;
mod clock;
mod crash;
mod disks;
mod ground;
mod install;
mod links;
mod mirror;
mod off;
mod outside;
mod power;
mod room;
mod serial;
mod sms;
mod state;
mod update;
mod update_bad;
mod update_cuts;

use ground::{Ground, Scenario};
use std::process::ExitCode;

/// In the order in which they run.
fn scenarios() -> Vec<Scenario> {
    [
        boot::all(),
        sms::all(),
        outside::all(),
        links::all(),
        serial::all(),
        crash::all(),
        off::all(),
        bench::all(),
        mirror::all(),
        disks::all(),
        install::all(),
        clock::all(),
        state::all(),
        room::all(),
        power::all(),
        update::all(),
        update_cuts::all(),
        update_bad::all(),
    ]
    .concat()
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--") || word == "--list").collect();
    let all = scenarios();
    if words.iter().any(|word| word == "--list") {
        for scenario in &all {
            println!("{}: test", scenario.name);
        }
        return ExitCode::SUCCESS;
    }
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let ground = match (named("TWINPOST_BENCH"), named("TWINPOST_IMAGE")) {
        (Some(bench), _) => Ground::on_bench(bench.as_ref()),
        (None, Some(image)) => Ground::prepare(image.as_ref()),
        (None, None) => {
            println!("machine suite: left out, TWINPOST_IMAGE names no image (`make test` builds one and runs it)");
            return ExitCode::SUCCESS;
        }
    };
    let wanted = |scenario: &Scenario| words.is_empty() || words.iter().any(|word| scenario.name.contains(word.as_str()));
    match ground {
        Ok(mut ground) => ground.run(&all, wanted),
        Err(error) => {
            println!("the machine suite cannot begin: {error}");
            println!("test result: FAILED. 0 passed; 1 failed; 0 ignored");
            ExitCode::FAILURE
        }
    }
}
