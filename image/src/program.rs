//! Runs the programs of the build machine that the stages need.
//!
//! Contract: a program that is missing or fails is an [`Error::Program`] with the end of what it said; nothing is printed. No shell.

use std::io::ErrorKind;
use std::process::{Command, Output, Stdio};

use crate::error::{Error, Result};

/// Lines of a failed program's output that an error shows.
const LINES: usize = 12;

/// Runs a command to its end and returns what it wrote to its standard output.
pub fn run(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| missing(command, &error))?;
    check(command, output)
}

/// The error of a program that could not be started.
pub fn missing(command: &Command, error: &std::io::Error) -> Error {
    let program = command.get_program().to_string_lossy().into_owned();
    let why = match error.kind() {
        ErrorKind::NotFound => "is not installed; `hw-tests/need image` installs what building an image needs".to_owned(),
        _ => format!("cannot be started: {error}"),
    };
    Error::Program { program, why }
}

/// The standard output of a program that succeeded, or the end of what it said.
pub fn check(command: &Command, output: Output) -> Result<Vec<u8>> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(LINES)..].join("\n  ");
    Err(Error::Program {
        program: command.get_program().to_string_lossy().into_owned(),
        why: format!("failed ({}):\n  {tail}", output.status),
    })
}
