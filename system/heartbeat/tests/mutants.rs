//! Each safety rule switched off, and each thing around the pair that lies, must break a property of the model. The way there is
//! printed: it is the reason for the rule.
#![allow(clippy::print_stdout, reason = "counterexamples are what this test is for")]

mod pair;
mod world;

use pair::{Do, Pair, Promise, allow, caught, settings, whole};
use twinpost_heartbeat::{Rules, Settings};
use world::Twist;

const TWO: &str = "never two that serve";
const LOST: &str = "never an acknowledged write lost";

fn witness() -> Settings {
    Settings { witness: true, ..settings() }
}

fn switch() -> Settings {
    Settings { fencing: true, ..settings() }
}

fn evidence() -> Settings {
    Settings { evidence: true, ..settings() }
}

fn lock() -> Settings {
    Settings { reservation: true, reservation_excludes: true, ..settings() }
}

fn broken(set: Settings, rules: Rules, twist: Twist, allows: fn(Do) -> bool) -> Pair {
    Pair { start: whole(set, rules, twist), faults: 2, writes: 2, progress: false, promise: Promise::Safe, allows }
}

/// With faults enough, of few kinds.
fn deep(faults: u32, set: Settings, rules: Rules, twist: Twist) -> Pair {
    Pair { faults, ..broken(set, rules, twist, allow::few) }
}

fn rule(name: &str, set: Settings, rules: Rules, property: &'static str) {
    caught(name, &broken(set, rules, Twist::None, allow::plain), property);
}

#[test]
fn no_wait_for_all_after_boot() {
    rule("no wait-for-all after boot", switch(), Rules { wait_for_all: false, ..Rules::ALL }, LOST);
}

#[test]
fn unread_power_switch() {
    rule("unread power switch", switch(), Rules { read_power_back: false, ..Rules::ALL }, TWO);
}

#[test]
fn answers_before_the_peer_has_the_bytes() {
    rule("answers before the peer has the bytes", switch(), Rules { peer_has_bytes: false, ..Rules::ALL }, LOST);
}

#[test]
fn no_self_stop_on_a_stall() {
    // Without a hardware watchdog, or it would end the stall before it hurts.
    let set = Settings { watchdog_ms: 0, ..witness() };
    rule("no self-stop on a stall", set, Rules { address_expires: false, ..Rules::ALL }, TWO);
}

#[test]
fn no_stop_at_the_lease_end() {
    rule("no stop at the lease end", witness(), Rules { stop_at_lease_end: false, ..Rules::ALL }, TWO);
}

#[test]
fn waits_less_than_lease_and_watchdog() {
    let rules = Rules { wait_out_lease: false, ..Rules::ALL };
    caught(
        "waits less than lease + watchdog",
        &Pair { faults: 3, writes: 1, ..broken(witness(), rules, Twist::None, allow::freezes) },
        TWO,
    );
}

#[test]
fn ping_as_a_vote() {
    rule("ping as a vote", switch(), Rules { ping_is_no_proof: false, ..Rules::ALL }, TWO);
}

#[test]
fn eligibility_kept_over_boot() {
    rule("eligibility kept over boot", switch(), Rules { forget_eligibility: false, ..Rules::ALL }, LOST);
}

#[test]
fn a_lock_taken_without_a_right() {
    rule(
        "a lock taken without a right",
        lock(),
        Rules { reservation_needs_right: false, ..Rules::ALL },
        "an array is taken by right",
    );
}

#[test]
fn nobody_listens_as_a_proof() {
    rule("nobody listens, taken as a proof", switch(), Rules { gone_is_no_proof: false, ..Rules::ALL }, TWO);
}

#[test]
fn serves_again_though_it_promised() {
    let rules = Rules { lapse_ends: false, ..Rules::ALL };
    caught(
        "serves again though it promised",
        &Pair { faults: 4, writes: 1, ..broken(witness(), rules, Twist::None, allow::lapses) },
        TWO,
    );
}

#[test]
fn fenced_without_the_word_of_the_witness() {
    // The active went on alone by the witness; the standby cannot reach that, but the power switch.
    let rules = Rules { witness_decides: false, ..Rules::ALL };
    let pair = Pair { faults: 3, ..broken(Settings { fencing: true, ..witness() }, rules, Twist::None, allow::apart) };
    caught("fenced without the word of the witness", &pair, LOST);
}

#[test]
fn a_half_overwritten_copy_says_that_it_is_whole() {
    caught(
        "a half overwritten copy says that it is whole",
        &broken(switch(), Rules::ALL, Twist::HalfIsWhole, allow::plain),
        LOST,
    );
}

#[test]
fn a_failed_stop_is_believed() {
    caught("a failed stop is believed", &deep(2, settings(), Rules::ALL, Twist::StopIsBelieved), TWO);
}

/// Not a rule of ours but of the setting: with every cable pulled, evidence is wrong. That is why `takeover = "proof"` exists.
#[test]
fn evidence_is_wrong_when_all_cables_are_pulled() {
    caught("evidence with all cables pulled", &broken(evidence(), Rules::ALL, Twist::None, allow::unplugged), TWO);
}
