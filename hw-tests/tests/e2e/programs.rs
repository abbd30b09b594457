//! Runs real programs: with a deadline, with their output kept, and with a clear word when one is not installed.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a program may take on a busy machine.
const LONGEST: Duration = Duration::from_secs(90);

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ended {
    /// The program must have ended well; gives its output.
    #[track_caller]
    pub fn well(self) -> String {
        assert!(self.code == 0, "exit {}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.out, self.err);
        self.out
    }
}

/// The Debian package that brings a program.
fn package(program: &str) -> &str {
    match program {
        "mbsync" => "isync",
        "unshare" | "setpriv" => "util-linux",
        "script" => "bsdutils",
        other => other,
    }
}

/// Runs a program with this input.
pub fn run(command: &mut Command, input: &[u8]) -> Ended {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            panic!("{program} is not installed: `apt-get install {}`, or `hw-tests/need test`", package(&program))
        }
        Err(error) => panic!("{program} cannot be started: {error}"),
    };
    let mut stdin = child.stdin.take().expect("it was asked for");
    let input = input.to_vec();
    // A program that does not read its input closes it: that is its right.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let reader = |mut from: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut all = Vec::new();
            let _ = from.read_to_end(&mut all);
            String::from_utf8_lossy(&all).into_owned()
        })
    };
    let out = reader(Box::new(child.stdout.take().expect("it was asked for")));
    let err = reader(Box::new(child.stderr.take().expect("it was asked for")));
    let end = Instant::now() + LONGEST;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{program} did not end within {LONGEST:?}\n{}\n{}", out.join().unwrap(), err.join().unwrap());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    feeder.join().unwrap();
    Ended { code: status.code().unwrap_or(-1), out: out.join().unwrap(), err: err.join().unwrap() }
}

/// Runs one of our Python scripts (in `programs/`) with these arguments.
pub fn python(script: &str, arguments: &[&str]) -> Ended {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/programs").join(script);
    run(Command::new("python3").arg("-B").arg(path).args(arguments), b"")
}
