//! The promises of the pair on real kernels: QEMU machines with md, DRBD, watchdog, serial lines, from the built image.
//!
//! Contract: scenarios run one after the other on one pair that lives on, as long as it comes back well by itself; after a failure, or when a
//! scenario leaves a machine that nobody would keep, the next one gets a new pair over the founded base. Each ends with every
//! acknowledged message found and never two that served. What a rig cannot do is left out by its declared capabilities and
//! counted as ignored. `TWINPOST_IMAGE` names the image; without it this suite is left out whole (`make test` builds one).
//! Arguments are parts of names; `--list` lists. `TWINPOST_SOAK=1` adds the long ones. `TWINPOST_BASE` names a pair founded with an earlier
//! image, for developers ([`twinpost_rig::found`]).
//!
//! Failure classes: an expectation is not met: the timeline of the scenario, the last lines of each console, and the journals of the nodes
//! that still answer lie in the folder that is named.
#![allow(clippy::print_stdout, reason = "a test says what it does")]

mod boot;
mod clock;
mod crash;
mod disks;
mod ground;
mod install;
mod links;
mod mirror;
mod off;
mod power;
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
        links::all(),
        serial::all(),
        crash::all(),
        off::all(),
        mirror::all(),
        disks::all(),
        install::all(),
        clock::all(),
        state::all(),
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
    let Some(image) = std::env::var_os("TWINPOST_IMAGE") else {
        println!("machine suite: left out, TWINPOST_IMAGE names no image (`make test` builds one and runs it)");
        return ExitCode::SUCCESS;
    };
    let wanted = |scenario: &Scenario| words.is_empty() || words.iter().any(|word| scenario.name.contains(word.as_str()));
    match Ground::prepare(image.as_ref()) {
        Ok(mut ground) => ground.run(&all, wanted),
        Err(error) => {
            println!("the machine suite cannot begin: {error}");
            println!("test result: FAILED. 0 passed; 1 failed; 0 ignored");
            ExitCode::FAILURE
        }
    }
}
