//! `twinpost-board`: looks at board files and at a machine, for people who write a board.
//!
//! `twinpost-board check DIR` reads every board of a folder; `twinpost-board explain [--boards DIR] [--sys DIR] [--changes FILE] [--json]` says which
//! board this machine is, why, and what has which role. Exit 0: all is well; 1: faults, which are told; 2: not understood.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use twinpost_board::{BOARDS_DIR, Board, Boards, detect, explain};

const USAGE: &str =
    "usage: twinpost-board check DIR\n       twinpost-board explain [--boards DIR] [--sys DIR] [--changes FILE] [--json]\n";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (text, code) = match arguments.next().as_deref() {
        Some("check") => match (arguments.next(), arguments.next()) {
            (Some(dir), None) => check(&PathBuf::from(dir)),
            _ => (USAGE.to_owned(), 2),
        },
        Some("explain") => explained(arguments),
        _ => (USAGE.to_owned(), 2),
    };
    // A reader that went away (a pager) is no fault.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::from(code)
}

fn check(dir: &std::path::Path) -> (String, u8) {
    let boards = Boards::load_all(dir);
    if !boards.faults.is_empty() {
        return (boards.faults.join("\n") + "\n", 1);
    }
    let names: Vec<String> = boards.boards.iter().map(Board::full_name).collect();
    (format!("{} boards are sound: {}\n", names.len(), names.join(", ")), 0)
}

fn explained(mut arguments: impl Iterator<Item = String>) -> (String, u8) {
    let (mut boards, mut sys, mut changes, mut json) = (PathBuf::from(BOARDS_DIR), PathBuf::from("/sys"), None, false);
    while let Some(argument) = arguments.next() {
        let mut path = || arguments.next().map(PathBuf::from);
        match argument.as_str() {
            "--json" => json = true,
            "--changes" => changes = path(),
            "--boards" => boards = path().unwrap_or_default(),
            "--sys" => sys = path().unwrap_or_default(),
            _ => return (USAGE.to_owned(), 2),
        }
    }
    let detected = detect(&sys, &boards, changes.as_deref());
    let roles = detected.board.resolve(&sys);
    let code = u8::from(!detected.faults.is_empty());
    if json {
        let text = serde_json::json!({ "detected": detected, "roles": roles, "has": twinpost_board::inventory(&sys) });
        return (format!("{text:#}\n"), code);
    }
    (explain(&detected, &roles, &boards, &sys), code)
}
