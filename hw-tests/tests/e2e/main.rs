//! The built program from outside: a node is started by `twinpost up` on this machine, and real programs and raw
//! connections use it as people, other servers and robots do.
//!
//! Contract: each test makes its own node in a folder and on a loopback address of its own, and ends what it started; no
//! test waits for time to pass, only for events, each with a deadline. `TWINPOST_BIN` names another program to test;
//! `TWINPOST_TESTS=fast` shortens the long loops and says so.
//!
//! Failure classes: the program is not built or a client program is not installed (said with the command that helps), or
//! an expectation is not met (the node's log follows).
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test says what it does; the harness shows it on failure")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where its expectation does")]

mod charsets;
mod damaged_record;
mod document;
mod full_disk;
mod kill;
mod netns;
mod newcomer;
mod node;
mod operator;
mod pair_faults;
mod pair_netns;
mod pair_rounds;
mod pair_up;
mod pair_watch;
mod pair_world;
mod phones;
mod programs;
mod real_clients;
mod rebuild;
mod rights;
mod sign_in;
mod sms;
mod sms_faults;
mod sms_operator;
mod sms_smpp;
mod smuggling;
mod two;

use twinpost_rig::client::{imap, line, smtp};

/// The long loops are short: `TWINPOST_TESTS=fast`.
fn fast() -> bool {
    std::env::var("TWINPOST_TESTS").is_ok_and(|kind| kind == "fast")
}
