//! All processes of a node: found by their session, frozen, killed and seen to be gone.
//!
//! Contract: `twinpost node` is the leader of a session of its own, and everything that it starts stays in it (setsid(2)); a
//! process number is not given out again while a session or group bears it. So the session's number and the birth of its leader
//! name exactly the processes of one life of a node.
//!
//! Failure classes: a process that does not end although it was killed (a disk that does not answer): [`Life::kill`] names it,
//! and the node does *not* count as off.

use crate::node::{Folder, write_whole};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Between two looks at processes that are ending.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// One life of a node, from a start to its end; `<node>/run/node.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Process and session of `twinpost node`.
    pub pid: u32,
    /// When it began, in clock ticks after the machine's start (proc(5), `starttime`).
    pub born: u64,
    /// Its parts, by name.
    pub pids: BTreeMap<String, u32>,
}

/// What /proc/PID/stat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    session: u32,
    born: u64,
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name may hold anything, even parentheses and spaces.
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        state: *fields.first()?.as_bytes().first()?,
        session: fields.get(3)?.parse().ok()?,
        born: fields.get(19)?.parse().ok()?,
    })
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// A process can still write: a dead one whose other threads are not yet gone counts too.
fn acts(pid: u32, stat: Stat) -> bool {
    let dead = |state: u8| matches!(state, b'Z' | b'X' | b'x');
    if !dead(stat.state) {
        return true;
    }
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().any(|thread| {
        let text = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        parse_stat(&text).is_some_and(|stat| !dead(stat.state))
    })
}

impl Life {
    /// Of this process, which must be the leader of its session.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn of_this_process() -> Result<Self, String> {
        let pid = std::process::id();
        let born = stat(pid).ok_or("/proc cannot be read, and a node is found by it")?.born;
        Ok(Self { pid, born, pids: BTreeMap::new() })
    }

    fn path(folder: &Folder) -> PathBuf {
        folder.path().join("run").join("node.json")
    }

    /// The last life of this node, over or not.
    pub fn last(folder: &Folder) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(Self::path(folder)).ok()?).ok()
    }

    /// Writes it down.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self, folder: &Folder) -> std::io::Result<()> {
        write_whole(&Self::path(folder), &serde_json::to_vec_pretty(self)?, 0o600)
    }

    /// The processes of this life that still can do anything; the leader first.
    pub fn members(&self) -> Vec<u32> {
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let Some(stat) = stat(pid) else { continue };
            if stat.session != self.pid {
                continue;
            }
            if pid == self.pid && stat.born != self.born {
                // Somebody else got the number after the whole session was gone.
                return Vec::new();
            }
            if stat.born >= self.born && acts(pid, stat) {
                found.push(pid);
            }
        }
        found.sort_unstable_by_key(|pid| (*pid != self.pid, *pid));
        found
    }

    /// `twinpost node` itself runs.
    pub fn leader_runs(&self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.born == self.born && acts(self.pid, stat))
    }

    /// Sends a signal to all of it.
    pub fn signal(&self, signal: Signal) -> usize {
        let members = self.members();
        members.iter().for_each(|pid| send(*pid, signal));
        members.len()
    }

    /// Kills all of it, and comes back when none is left.
    ///
    /// # Errors
    /// A sentence with the numbers of those that did not end in time.
    pub async fn kill(&self, within: Duration) -> Result<(), String> {
        let end = Instant::now() + within;
        // The leader starts again what dies: it stands still first and ends last. (It also must not end before its children: the kernel
        // lets stopped processes go on that have lost the leader of their session, setsid(2).) A node that resets itself is its own leader.
        if self.pid != std::process::id() && self.leader_runs() {
            send(self.pid, Signal::SIGSTOP);
        }
        loop {
            let members = self.members();
            if members.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("these processes do not end although they were killed: {members:?}"));
            }
            // What a dying process started meanwhile is found by the next look.
            members.iter().rev().for_each(|pid| send(*pid, Signal::SIGKILL));
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Sends a signal to a process that may have ended meanwhile.
fn send(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead;
    use std::process::{Command, Stdio};

    #[test]
    fn a_name_with_parentheses_does_not_disturb() {
        let text = "77 (a) b (c) S 1 70 60 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9999 1 2";
        assert_eq!(parse_stat(text), Some(Stat { state: b'S', session: 60, born: 9999 }));
        assert_eq!(parse_stat("77 (a"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[tokio::test]
    async fn all_processes_of_a_session_die_and_no_other() {
        // A leader with a child in a group of its own, which ignores what can be ignored.
        let script = "trap '' TERM HUP INT; sh -c \"trap '' TERM HUP INT; set -m; sleep 1001 & echo \\$\\$; wait\" & wait";
        let mut leader =
            Command::new("setsid").args(["sh", "-c", script]).stdout(Stdio::piped()).spawn().expect("setsid is installed");
        let mut lines = std::io::BufReader::new(leader.stdout.take().expect("piped")).lines();
        let inner: u32 = lines.next().expect("a line").expect("text").trim().parse().expect("a number");
        let life = Life { pid: leader.id(), born: stat(leader.id()).expect("it runs").born, pids: BTreeMap::new() };
        assert!(life.leader_runs());
        assert!(life.members().contains(&inner) && life.members().len() >= 3, "{:?}", life.members());
        assert_eq!(life.members()[0], leader.id());
        let stranger = Life { born: life.born + 1, ..life.clone() };
        assert_eq!(stranger.members(), Vec::<u32>::new(), "another life that had the same number");
        life.kill(Duration::from_secs(10)).await.expect("all end");
        assert_eq!((life.members(), life.leader_runs()), (Vec::new(), false));
        leader.wait().expect("it is our child");
    }
}
