//! The one binary of Twinpost. It parses the command line and starts a part; it alone knows every room.
//!
//! Exit codes, for all commands: 0 done; 1 refused or failed, nothing was changed unless the text says so; 2 the
//! command line is wrong; 3 the node is not running or does not answer; 4 faults were found (`config check`,
//! `store verify`, faulty lines of an import).

mod adapter;
mod boot;
mod cli;
mod console;
mod control;
mod ctl;
mod indexer;
mod janitor;
mod logs;
mod mail;
mod node;
mod node_init;
mod operators;
mod pair;
mod rack;
mod settings;
mod sms;
mod system;
mod texts;
mod up;
mod witness;

use clap::Parser;
use std::process::ExitCode;

/// Done.
pub(crate) const EXIT_DONE: u8 = 0;
/// Refused or failed.
pub(crate) const EXIT_FAILED: u8 = 1;
/// The node is not running or does not answer.
pub(crate) const EXIT_UNREACHABLE: u8 = 3;
/// The node cannot run until a person changes something: another start would bring the same.
pub(crate) const EXIT_HOPELESS: u8 = 5;
/// The pair daemon could not verify that its services stopped: the node must be reset, and until then nothing of it may start.
pub(crate) const EXIT_FENCED: u8 = twinpost_pair::SELF_FENCED_EXIT;
/// Faults were found.
pub(crate) const EXIT_FAULTS: u8 = 4;

/// Name under which DRBD's kernel part calls this program (module parameter `usermode_helper`).
const DRBD_HELPER: &str = "drbd-helper";

fn main() -> ExitCode {
    if let Some(code) = drbd_helper() {
        return ExitCode::from(code);
    }
    // One TLS provider for the whole process, chosen here and nowhere else.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        complain("another TLS provider was installed before main");
        return ExitCode::from(EXIT_FAILED);
    }
    let command = cli::Cli::parse().command;
    let code = match command {
        cli::Command::Up(arguments) => run(up::run(arguments)),
        cli::Command::Mail(arguments) => run(mail::run(arguments)),
        cli::Command::Sms(arguments) => run(sms::run(arguments)),
        cli::Command::Node(arguments) => run(node_init::run(arguments)),
        cli::Command::Pair(arguments) => run(pair::run(arguments)),
        cli::Command::Witness(arguments) => run(witness::run(arguments)),
        cli::Command::PairHandler { socket, ask } => {
            let resource = std::env::var("DRBD_RESOURCE").unwrap_or_default();
            twinpost_storage::drbd::run_handler(&socket, &ask, &resource)
        }
        cli::Command::Boot(arguments) => run(boot::run(arguments)),
        cli::Command::System(arguments) => run(system::run(arguments)),
        cli::Command::Console(arguments) => run(console::run(arguments)),
        cli::Command::Ctl(arguments) => run(ctl::run(arguments)),
    };
    ExitCode::from(code)
}

/// What DRBD's kernel part asks on the image, where no shell could run a handler of the resource file: `drbd-helper KIND NAME`.
fn drbd_helper() -> Option<u8> {
    let mut words = std::env::args();
    let name = words.next()?;
    if std::path::Path::new(&name).file_name()? != DRBD_HELPER {
        return None;
    }
    let (kind, of) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let socket = node::Folder::new(twinpost_node::api::NODE_FOLDER).pair().join("drbd.sock");
    Some(twinpost_storage::drbd::run_kernel_helper(&socket, &kind, &of))
}

/// Runs one part to its end on a runtime of its own.
fn run(part: impl Future<Output = u8>) -> u8 {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(part),
        Err(error) => {
            complain(&format!("cannot start the runtime: {error}"));
            EXIT_FAILED
        }
    }
}

/// Lets this process get `signal` when `parent`, which started it, ends (prctl(2), `PR_SET_PDEATHSIG`); 0 for any parent.
pub(crate) fn end_with_parent(parent: u32, signal: nix::sys::signal::Signal) {
    if let Err(error) = nix::sys::prctl::set_pdeathsig(signal) {
        complain(&format!("cannot tie this process to its parent: {error}"));
    }
    // It may have ended before the call: then nobody sends the signal any more.
    if parent != 0 && nix::unistd::getppid().as_raw().unsigned_abs() != parent {
        std::process::exit(i32::from(EXIT_FAILED));
    }
}

/// A sentence for the person at the terminal, when no log is open.
#[allow(clippy::print_stderr, reason = "the command line is where this program speaks to people")]
pub(crate) fn complain(text: &str) {
    eprintln!("twinpost: {text}");
}
