//! Runs a program of the system with a list of arguments.
//!
//! Contract: never a shell; killed when the caller stops waiting; output is bounded; the language of its messages is fixed.

use crate::Error;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

const MOST_BYTES: u64 = 64 << 10;

pub(crate) struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

async fn read(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What came before an error is what there is.
        drop(pipe.take(MOST_BYTES).read_to_end(&mut bytes).await);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `secret` is an environment variable of the child alone.
pub(crate) async fn run(
    switch: &str,
    program: &Path,
    arguments: &[String],
    secret: Option<(&str, &str)>,
) -> Result<Ended, Error> {
    let failed = |e: std::io::Error| Error::Unreachable {
        switch: switch.to_owned(),
        doing: "run its program",
        why: format!("{}: {e}", program.display()),
    };
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").envs(secret);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr, status) = tokio::join!(read(stdout), read(stderr), child.wait());
    Ok(Ended { status: status.map_err(failed)?, stdout, stderr })
}

/// One printable line of at most 200 characters.
pub(crate) fn line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|c| !c.is_control()).take(200).collect()
}
