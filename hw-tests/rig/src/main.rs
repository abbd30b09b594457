//! `twinpost-rig`: a pair in QEMU for people, and the faults to try on it.
//!
//! Contract: `pair` founds a pair in a folder (or starts the one that is in it), shows what it does, prints how to reach it, and stays until
//! Ctrl-C; the disks are kept. The other orders speak to it through a socket in that folder.
//!
//! Failure classes: one sentence, exit code 1; the timeline is in the folder.

use clap::{Parser, Subcommand};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use twinpost_rig::{Error, Result, desk};

/// Two machines with the appliance in QEMU.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Folder that holds the disks of the pair
    #[arg(long, global = true, default_value = "twinpost-pair", value_name = "DIR")]
    dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a pair here and stay until Ctrl-C
    Pair {
        /// The built image: its folder or image.json; by default that of `make image`
        #[arg(long, value_name = "PATH")]
        image: Option<PathBuf>,
        /// The program, which plays the witness; by default the one beside this program
        #[arg(long, value_name = "PATH")]
        program: Option<PathBuf>,
        /// Forget what is in the folder and found a new pair
        #[arg(long)]
        fresh: bool,
        /// Give up at the first failure instead of leaving the machines for a look
        #[arg(long)]
        strict: bool,
    },
    /// The console of a node; Ctrl-] leaves it
    Console {
        /// a or b
        node: String,
    },
    /// An order to a node, in the words of `twinpost ctl`
    Order {
        /// a or b
        node: String,
        /// The words
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Put a fault in, or take it back; `fault help` lists the words
    Fault {
        /// The words
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Run a program on the pair's LAN, as root
    Exec {
        /// The program and its words
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "twinpost-rig: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let dir = &arguments.dir;
    match &arguments.command {
        Command::Pair { image, program, fresh, strict } => {
            desk::run(&desk::Wish {
                dir: dir.clone(),
                image: image.clone(),
                program: program.clone(),
                fresh: *fresh,
                strict: *strict,
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Console { node } => desk::console(dir, node).map(|()| ExitCode::SUCCESS),
        Command::Order { node, words } => {
            let words: Vec<String> = words.iter().map(|word| twinpost_rig::console::quoted(word)).collect();
            ask(dir, &format!("order {node} {}", words.join(" ")))
        }
        Command::Fault { words } => ask(dir, &format!("fault {}", words.join(" "))),
        Command::Exec { words } => desk::exec(dir, words),
    }
}

/// One line to the rig; its answer ends with a line `-- N`.
fn ask(dir: &Path, line: &str) -> Result<ExitCode> {
    let nobody = |e: std::io::Error| Error::Setting { what: format!("no pair runs in {}: {e}", dir.display()) };
    let mut stream = UnixStream::connect(desk::socket(dir)).map_err(nobody)?;
    writeln!(stream, "{line}").map_err(nobody)?;
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(nobody)?;
        if let Some(code) = line.strip_prefix("-- ") {
            return Ok(ExitCode::from(code.parse::<u8>().unwrap_or(1)));
        }
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    Err(Error::Setting { what: "the rig ended before it answered".to_owned() })
}
