//! Which processes belong to a service: read from /proc.
//!
//! Contract: a process belongs if it is in the child's process group, or carries the child's marker in its environment, or was a
//! descendant of the child when it was last looked at. So one that made a session of its own (`setsid`) is found too; one that
//! does all of it (leaves the group, is orphaned before anybody looks, and wipes its environment) is not: then the lock descriptor
//! that it inherited still keeps the data from the peer, and on the image its cgroup tells. Zombies run nothing and do not count.
//!
//! Failure classes: an I/O error of /proc itself is the caller's (nothing may be concluded); a process that vanishes meanwhile is gone.

use std::{collections::HashSet, fs, io, os::fd::OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// More than any /proc/PID/stat (52 fields of at most 20 digits and a name of 64 bytes).
const STAT_MAX_BYTES: usize = 2048;

/// One process, as proc_pid_stat(5) tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    name: String,
    state: char,
    parent: i32,
    group: i32,
    threads: i64,
    /// Ticks since boot; with the pid it names one process for ever.
    started: u64,
}

impl Process {
    fn parse(stat: &str) -> Option<Self> {
        let (pid, rest) = stat.split_once(" (")?;
        // The name may hold spaces and parentheses.
        let (name, rest) = rest.rsplit_once(") ")?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let threads = fields.nth(14)?.parse().ok()?;
        let started = fields.nth(1)?.parse().ok()?;
        Some(Self { pid: pid.trim().parse().ok()?, name: name.to_owned(), state, parent, group, threads, started })
    }

    fn read(pid: i32) -> Option<Self> {
        Self::parse(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?))
    }

    /// A leader that ended while others of its threads run shows as a zombie, too.
    const fn runs(&self) -> bool {
        !(matches!(self.state, 'Z' | 'X' | 'x') && self.threads <= 1)
    }

    pub(crate) const fn is_in(&self, group: i32) -> bool {
        self.group == group
    }

    /// For an error.
    pub(crate) fn shown(&self) -> String {
        format!("{} {} (state {})", self.pid, self.name, self.state)
    }
}

/// What a service may have left on the machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    /// Its process group; `None` for what a predecessor left.
    pub(crate) group: Option<i32>,
    /// `NAME=value` in the environment; a value that ends in `:` stands for all that begin so.
    pub(crate) marker: String,
    /// Descendants seen so far.
    seen: HashSet<(i32, u64)>,
}

impl Trace {
    pub(crate) fn new(group: Option<i32>, marker: String) -> Self {
        Self { group, marker, seen: HashSet::new() }
    }

    /// Who of it runs now. Blocking: some ms.
    ///
    /// # Errors
    /// /proc cannot be read, or does not even show this process.
    pub(crate) fn living(&mut self) -> io::Result<Vec<Process>> {
        let all = table()?;
        let me = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        if !all.iter().any(|p| p.pid == me) {
            return Err(io::Error::other("/proc does not show this process"));
        }
        let mut mine: HashSet<i32> = all.iter().filter(|p| self.claims(p)).map(|p| p.pid).collect();
        // Children of what belongs belong; parents may stand behind their children in the table.
        loop {
            let before = mine.len();
            mine.extend(all.iter().filter(|p| mine.contains(&p.parent)).map(|p| p.pid).collect::<Vec<_>>());
            if mine.len() == before {
                break;
            }
        }
        // Never this process or those above it, whatever environment a test runner gave them.
        let mut above = Some(me);
        while let Some(pid) = above {
            mine.remove(&pid);
            above = all.iter().find(|p| p.pid == pid).map(|p| p.parent).filter(|&p| p > 0);
        }
        let living: Vec<_> = all.into_iter().filter(|p| p.runs() && mine.contains(&p.pid)).collect();
        self.seen.extend(living.iter().map(|p| (p.pid, p.started)));
        Ok(living)
    }

    fn claims(&self, process: &Process) -> bool {
        self.group == Some(process.group)
            || self.seen.contains(&(process.pid, process.started))
            || (!self.marker.is_empty() && carries(process.pid, &self.marker))
    }
}

/// Every process. One that ends meanwhile is left out.
fn table() -> io::Result<Vec<Process>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|n| n.parse().ok());
        all.extend(pid.and_then(Process::read));
    }
    Ok(all)
}

/// proc_pid_environ(5): the environment as it was at exec, entries ended by NUL. What cannot be read is another user's.
fn carries(pid: i32, marker: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment
        .split(|&b| b == 0)
        .any(|entry| if marker.ends_with(':') { entry.starts_with(marker.as_bytes()) } else { entry == marker.as_bytes() })
}

/// Sends a signal to exactly this process: one that got its number meanwhile is left alone.
pub(crate) fn signal(process: &Process, signal: Signal) {
    if let Some(handle) = handle(process.pid)
        && Process::read(process.pid).is_some_and(|now| now.started == process.started)
        && let Err(error) = pidfd_send_signal(&handle, signal)
    {
        tracing::debug!(pid = process.pid, %error, "signal not sent");
    }
}

/// A descriptor that becomes readable when the process ends.
pub(crate) fn handle(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::NONBLOCK).ok()
}

/// For tests: no text makes the parser of /proc/PID/stat panic.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(&data[..data.len().min(STAT_MAX_BYTES)]);
    if let Some(process) = Process::parse(&text) {
        let _ = (process.shown(), process.runs());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_with_spaces_and_parentheses() {
        let stat = "4711 (a) b (c) S 1 4700 4700 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 3 0 987654 1 1 1";
        let process = Process::parse(stat).unwrap();
        assert_eq!(
            process,
            Process { pid: 4711, name: "a) b (c".into(), state: 'S', parent: 1, group: 4700, threads: 3, started: 987_654 }
        );
        assert!(process.runs());
        assert!(Process { state: 'Z', ..process.clone() }.runs(), "other threads of it still run");
        assert!(!Process { state: 'Z', threads: 1, ..process }.runs());
    }

    #[test]
    fn this_process_and_those_above_are_never_its_own() {
        let group = rustix::process::getpgrp().as_raw_nonzero().get();
        let mut trace = Trace::new(Some(group), String::new());
        let me = i32::try_from(std::process::id()).unwrap();
        let parent = rustix::process::getppid().map_or(0, |p| p.as_raw_nonzero().get());
        assert!(trace.living().unwrap().iter().all(|p| p.pid != me && p.pid != parent));
    }

    proptest! {
        #[test]
        fn nothing_panics(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            fuzz(&data);
        }

        #[test]
        fn nothing_that_looks_like_it_panics(text in "[0-9 ()a-z-]{0,120}") {
            fuzz(text.as_bytes());
        }
    }
}
