//! Load for mail servers: the same bytes for Twinpost, Postfix + Dovecot or a sink, so that figures compare.
//!
//! Contract: sends only to the address it is given, a bounded number of messages, and ends by itself. Prints one JSON object
//! with what it measured. An answer that is not a success is counted and shown, never passed over.
//!
//! Exit code 1 when anything was refused or broke.

mod load;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    let command = load::Load::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(load::run(command)) {
        Ok(report) => {
            show(&report);
            if report.get("refused").and_then(serde_json::Value::as_u64).unwrap_or(0) == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => fail(&error),
    }
}

#[allow(clippy::print_stdout, reason = "the report is what this program is for")]
fn show(report: &serde_json::Value) {
    println!("{report}");
}

#[allow(clippy::print_stderr, reason = "a sentence for the person at the terminal")]
fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("twinpost-load: {error}");
    ExitCode::FAILURE
}
