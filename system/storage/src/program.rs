//! Runs the programs that the drivers stand on: by an argument list, never a shell, with a time limit and bounded output.
//!
//! Contract: [`Program::run`] ends within its limit; a program that does not is killed and reaped. What it wrote is kept up to
//! [`OUTPUT_MAX_BYTES`]. Failure classes: not there or not executable, ended by a signal, too slow, exit status not asked for.

use crate::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// More output than this is read and forgotten.
const OUTPUT_MAX_BYTES: usize = 256 * 1024;
/// Of standard error in an error.
const SAID_MAX: usize = 400;

/// A program to run: replaced by tests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// Path or name.
    pub path: PathBuf,
    /// Arguments that stand before those of a call.
    pub first: Vec<OsString>,
    /// Variables that it gets besides the daemon's own.
    pub env: Vec<(OsString, OsString)>,
}

impl Program {
    /// Without arguments of its own.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), first: Vec::new(), env: Vec::new() }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.first).args(args).envs(self.env.iter().map(|(k, v)| (k, v)));
        // Messages are read by us and by people who read English logs.
        command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    fn shown(&self, args: &[&str]) -> String {
        let mut shown = self.path.display().to_string();
        for arg in self.first.iter().map(|arg| arg.to_string_lossy()).chain(args.iter().map(|arg| (*arg).into())) {
            shown.push(' ');
            shown.push_str(&arg);
        }
        shown
    }

    /// Runs it to its end, whatever it answers.
    pub async fn run(&self, args: &[&str], limit: Duration) -> Result<Answer, Error> {
        let command = self.shown(args);
        let error = |how: String| Error::Program { command: command.clone(), how, stderr: String::new() };
        let mut child = self.command(args).spawn().map_err(|source| Error::NoProgram { command: command.clone(), source })?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let work = async { tokio::join!(child.wait(), gather(out), gather(err)) };
        let (status, stdout, stderr) = match tokio::time::timeout(limit, work).await {
            Ok((status, stdout, stderr)) => (status.map_err(|e| error(format!("was lost: {e}")))?, stdout, stderr),
            Err(_) => {
                // A program in uninterruptible sleep cannot be reaped; its death is left to the runtime.
                let _ = child.start_kill();
                let _ = tokio::time::timeout(Duration::from_millis(500), child.wait()).await;
                return Err(error(format!("took longer than {} ms and was killed", limit.as_millis())));
            }
        };
        let how = status.to_string();
        Ok(Answer { command, code: status.code(), how, stdout, stderr: shorten(&stderr) })
    }

    /// Runs it and wants exit status 0; its standard output.
    pub async fn ok(&self, args: &[&str], limit: Duration) -> Result<String, Error> {
        self.run(args, limit).await?.ok()
    }
}

/// What a program answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Program and arguments.
    pub command: String,
    /// Exit status, `None` when a signal ended it.
    pub code: Option<i32>,
    how: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error, shortened.
    pub stderr: String,
}

impl Answer {
    /// Standard output, if the exit status is 0.
    pub fn ok(self) -> Result<String, Error> {
        if self.code == Some(0) { Ok(self.stdout) } else { Err(self.error()) }
    }

    /// As an error.
    pub fn error(self) -> Error {
        let stderr = if self.stderr.is_empty() { shorten(&self.stdout) } else { self.stderr };
        Error::Program { command: self.command, how: self.how, stderr }
    }

    /// As an answer that makes no sense.
    pub fn nonsense(&self, said: &str) -> Error {
        Error::Answer { command: self.command.clone(), said: shorten(said) }
    }
}

async fn gather(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut from) = from else { return String::new() };
    let mut kept = Vec::new();
    let mut part = vec![0; 8192];
    while let Ok(n @ 1..) = from.read(&mut part).await {
        let room = OUTPUT_MAX_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&part[..n.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// One line of at most [`SAID_MAX`] characters.
pub(crate) fn shorten(text: &str) -> String {
    let mut out: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = out.char_indices().nth(SAID_MAX) {
        out.truncate(at);
        out.push_str("...");
    }
    out
}

/// A process for people: name and id.
pub(crate) fn name_of(pid: u32) -> String {
    let name = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm")).unwrap_or_default();
    format!("{} ({pid})", name.trim())
}

/// Names and ids of processes that have a device open, for people.
pub(crate) fn holders_of_device(device: &Path) -> String {
    let Ok(device) = std::fs::canonicalize(device) else { return String::new() };
    let Ok(processes) = std::fs::read_dir("/proc") else { return String::new() };
    let mut found = Vec::new();
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let open = |fd: std::fs::DirEntry| std::fs::read_link(fd.path()).is_ok_and(|to| to == device);
        if std::fs::read_dir(process.path().join("fd")).is_ok_and(|list| list.flatten().take(4096).any(open)) {
            found.push(name_of(pid));
            if found.len() == 8 {
                break;
            }
        }
    }
    found.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn says_what_failed_and_with_what() {
        let shell = Program::new("/bin/sh");
        assert_eq!(shell.ok(&["-c", "echo yes"], LIMIT).await.unwrap(), "yes\n");
        let error = shell.ok(&["-c", "echo out; echo why >&2; exit 3"], LIMIT).await.unwrap_err().to_string();
        assert!(error.contains("/bin/sh -c") && error.contains("exit status: 3") && error.ends_with(": why"), "{error}");
        let error = Program::new("/no/such").ok(&[], LIMIT).await.unwrap_err().to_string();
        assert!(error.contains("/no/such") && error.contains("cannot be run"), "{error}");
    }

    #[tokio::test]
    async fn too_slow_is_killed_and_too_much_is_cut() {
        let shell = Program::new("/bin/sh");
        let error = shell.ok(&["-c", "exec cat /dev/zero >/dev/null"], Duration::from_millis(50)).await.unwrap_err().to_string();
        assert!(error.contains("longer than 50 ms"), "{error}");
        let much = shell.ok(&["-c", "head -c 3000000 /dev/zero"], LIMIT).await.unwrap();
        assert_eq!(much.len(), OUTPUT_MAX_BYTES);
    }
}
