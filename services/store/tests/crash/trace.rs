//! What a process wrote to its data folder, in order, with the answers that it gave: taken from outside by strace.
//!
//! Contract: every call that changes a file or a name below the folder is in the trace, or the trace is refused; the
//! process is the real one, with the real database. strace sees a call begin and end: a write counts from its beginning
//! (a part may be on the disk), a sync only when it ended, an answer from its beginning. Calls of several threads are in the
//! order in which one could have caused the other.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A call on a file below the folder; paths are relative to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A file was opened that may not have been there.
    Create {
        path: PathBuf,
    },
    Write {
        path: PathBuf,
        offset: u64,
        bytes: Vec<u8>,
    },
    SetLen {
        path: PathBuf,
        bytes: u64,
    },
    Allocate {
        path: PathBuf,
        offset: u64,
        bytes: u64,
    },
    Sync {
        path: PathBuf,
    },
    SyncDir {
        path: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    /// A line on standard output.
    Said(String),
}

/// A call and when it had ended, as a position in the trace.
#[derive(Clone, Debug)]
pub struct Event {
    pub call: Call,
    /// Number of events that had begun when it ended.
    pub ended: usize,
}

impl Event {
    /// Something became durable or was said.
    pub fn is_turning_point(&self) -> bool {
        match &self.call {
            Call::Said(line) => line.starts_with("ack "),
            call => matches!(call, Call::Sync { .. } | Call::SyncDir { .. }),
        }
    }
}

const CALLS: &str = "open,openat,openat2,creat,write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,sync_file_range,\
                     ftruncate,truncate,fallocate,rename,renameat,renameat2,unlink,unlinkat,link,linkat,copy_file_range,sendfile,splice";

/// Runs a program to its end under strace and writes to `log` what it did below `dir`.
pub fn record(program: &Path, args: &[&str], envs: &[(&str, OsString)], dir: &Path, log: &Path) {
    let mut command = Command::new("strace");
    // -v: lists of any length whole. -xx: all strings in hexadecimal, so that nothing in them looks like syntax.
    command.args(["-f", "--seccomp-bpf", "-qq", "-v", "-y", "-xx", "-s", "16777216", "-e", "signal=none", "-o"]);
    command.arg(log).arg("-e").arg(format!("trace={CALLS}"));
    command.arg(program).args(args).envs(envs.iter().cloned()).stdout(Stdio::null());
    let status = command.status().expect("strace runs: the crash harness records with it (package strace)");
    assert!(status.success(), "the recorded program ended with {status}");
    let mut text = format!("{}\n", dir.display()).into_bytes();
    text.append(&mut std::fs::read(log).expect("strace's log"));
    std::fs::write(log, text).expect("room for the record");
}

/// A call that has begun.
struct Begun {
    /// Its events; none when it does not concern the folder.
    at: Vec<usize>,
    /// Bytes that a whole write has, to refuse what was not seen whole.
    whole: Option<usize>,
    name: String,
}

/// The events of a record.
pub fn parse(log: &[u8]) -> Vec<Event> {
    let mut lines = log.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    let dir = PathBuf::from(String::from_utf8_lossy(lines.next().expect("a record begins with its folder")).into_owned());
    let mut parser = Parser { dir: &dir, events: Vec::new(), open: HashMap::new(), cursors: HashMap::new() };
    for line in lines {
        let line = std::str::from_utf8(line).expect("strace -xx writes ASCII");
        parser.line(line);
    }
    // A call that never ended may have happened.
    parser.events
}

struct Parser<'a> {
    dir: &'a Path,
    events: Vec<Event>,
    open: HashMap<String, Begun>,
    /// Position of descriptors that are written without an offset.
    cursors: HashMap<String, u64>,
}

impl Parser<'_> {
    fn line(&mut self, line: &str) {
        let (pid, rest) = line.split_once(' ').unwrap_or_else(|| panic!("no process in {line:.80}"));
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            return;
        }
        if let Some(rest) = rest.strip_prefix("<... ") {
            let begun = self.open.remove(pid).unwrap_or_else(|| panic!("an end without a beginning: {line:.80}"));
            assert!(rest.starts_with(&begun.name), "{} ended as {line:.80}", begun.name);
            self.end(&begun, answer(line));
            return;
        }
        let (name, args) = rest.split_once('(').unwrap_or_else(|| panic!("no call in {line:.80}"));
        if let Some(args) = args.strip_suffix(" <unfinished ...>") {
            let begun = self.begin(name, args);
            self.open.insert(pid.to_owned(), begun);
        } else {
            let close = args.rfind(')').unwrap_or_else(|| panic!("no end in {line:.80}"));
            let begun = self.begin(name, &args[..close]);
            self.end(&begun, answer(line));
        }
    }

    fn begin(&mut self, name: &str, args: &str) -> Begun {
        let first = self.events.len();
        let mut whole = None;
        match name {
            "open" | "openat" | "creat" if name == "creat" || args.contains("O_CREAT") => {
                if let Some(path) = self.named(args) {
                    self.push(Call::Create { path: path.clone() });
                    if name == "creat" || args.contains("O_TRUNC") {
                        self.push(Call::SetLen { path, bytes: 0 });
                    }
                }
            }
            "open" | "openat" => {
                assert!(!args.contains("O_TRUNC") || self.named(args).is_none(), "O_TRUNC without O_CREAT: {args:.200}");
            }
            "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" => {
                let (fd, path) = self.descriptor(args);
                let bytes = strings(args);
                if fd == "1" {
                    for said in String::from_utf8_lossy(&bytes).lines() {
                        self.push(Call::Said(said.to_owned()));
                    }
                } else if let Some(path) = path {
                    whole = Some(bytes.len());
                    let last = |n: usize| args.rsplit(", ").nth(n).and_then(|a| a.parse::<u64>().ok());
                    let offset = match name {
                        "pwrite64" | "pwritev" => last(0),
                        "pwritev2" => last(1),
                        _ => Some(*self.cursors.entry(fd.to_owned()).and_modify(|at| *at += bytes.len() as u64).or_insert(0)),
                    };
                    let offset = offset.unwrap_or_else(|| panic!("no offset in {name}"));
                    self.push(Call::Write { path, offset, bytes });
                }
            }
            "fsync" | "fdatasync" => {
                if let (_, Some(path)) = self.descriptor(args) {
                    let is_dir = path.as_os_str().is_empty() || path == Path::new("packs");
                    self.push(if is_dir { Call::SyncDir { path } } else { Call::Sync { path } });
                }
            }
            "ftruncate" | "fallocate" => {
                if let (_, Some(path)) = self.descriptor(args) {
                    let numbers: Vec<u64> = args.split(", ").skip(1).filter_map(|n| n.parse().ok()).collect();
                    self.push(match numbers[..] {
                        [bytes] => Call::SetLen { path, bytes },
                        [0, offset, bytes] => Call::Allocate { path, offset, bytes },
                        _ => panic!("{name} in a way that is not understood: {args:.200}"),
                    });
                }
            }
            "unlink" | "unlinkat" => {
                if let Some(path) = self.named(args) {
                    self.push(Call::Remove { path });
                }
            }
            "rename" | "renameat" | "renameat2" => {
                let mut names = quoted(args).map(|name| self.relative(&String::from_utf8_lossy(&unhex(name))));
                if let (Some(Some(from)), Some(Some(to))) = (names.next(), names.next()) {
                    drop(names);
                    self.push(Call::Rename { from, to });
                }
            }
            _ => assert!(
                self.named(args).is_none() && self.descriptor(args).1.is_none(),
                "{name} on the data folder is not understood"
            ),
        }
        Begun { at: (first..self.events.len()).collect(), whole, name: name.to_owned() }
    }

    fn push(&mut self, call: Call) {
        self.events.push(Event { call, ended: usize::MAX });
    }

    fn end(&mut self, begun: &Begun, answer: &str) {
        if begun.name.starts_with("open") {
            self.cursors.remove(answer.split('<').next().unwrap_or(answer));
        }
        let count = self.events.len();
        for at in &begun.at {
            if let Some(whole) = begun.whole {
                assert_eq!(answer.parse(), Ok(whole), "a write that was not taken whole, or not seen whole");
            }
            let failed = answer.starts_with('-');
            // A name that was there or was not: no change.
            assert!(!failed || !matches!(self.events[*at].call, Call::Write { .. } | Call::Sync { .. }), "{} failed", begun.name);
            self.events[*at].ended = count;
            if failed {
                self.events[*at].call = Call::Said(String::new());
            }
        }
    }

    fn relative(&self, path: &str) -> Option<PathBuf> {
        let path = Path::new(path).strip_prefix(self.dir).ok()?;
        // Shared memory of SQLite: made anew by whoever opens the database first.
        (!path.as_os_str().as_encoded_bytes().ends_with(b"-shm")).then(|| path.to_owned())
    }

    /// The first path in quotes.
    fn named(&self, args: &str) -> Option<PathBuf> {
        let path = String::from_utf8_lossy(&unhex(quoted(args).next()?)).into_owned();
        assert!(path.starts_with('/') || !args.contains("O_CREAT"), "a relative path: {path}");
        self.relative(&path)
    }

    /// The descriptor that is the first argument, and its path.
    fn descriptor<'b>(&self, args: &'b str) -> (&'b str, Option<PathBuf>) {
        let first = args.split(", ").next().unwrap_or(args);
        let Some((fd, path)) = first.split_once('<') else { return (first, None) };
        // A file without a name is gone after a power cut, whatever is written to it.
        let path = path.strip_suffix('>').map(unhex);
        (fd, path.and_then(|p| self.relative(&String::from_utf8_lossy(&p))))
    }
}

fn answer(line: &str) -> &str {
    let (_, answer) = line.rsplit_once(" = ").unwrap_or_else(|| panic!("no answer in {line:.80}"));
    answer.split(' ').next().unwrap_or(answer)
}

fn quoted(args: &str) -> impl Iterator<Item = &str> {
    args.split('"').skip(1).step_by(2)
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |b: u8| (b as char).to_digit(16).unwrap_or_else(|| panic!("not hexadecimal: {text:.80}")) as u8;
    let bytes = text.as_bytes().chunks(4);
    bytes
        .map(|c| {
            assert!(c.len() == 4 && c[..2] == *b"\\x", "not hexadecimal: {text:.80}");
            digit(c[2]) << 4 | digit(c[3])
        })
        .collect()
}

fn strings(args: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    quoted(args).for_each(|s| bytes.append(&mut unhex(s)));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> String {
        text.bytes().map(|b| format!("\\x{b:02x}")).collect()
    }

    #[test]
    fn lines_of_strace_are_understood() {
        let (dir, a, ab) = (hex("/d"), hex("/d/a"), hex("ab"));
        let (out, hi) = (hex("/out"), hex("hi\n"));
        let log = format!(
            "/d\n\
             1 openat(AT_FDCWD<{dir}>, \"{a}\", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 3<{a}>\n\
             2 pwritev(3<{a}>, [{{iov_base=\"{ab}\", iov_len=2}}, {{iov_base=\"{hi}\", iov_len=3}}], 2, 7) = 5\n\
             1 fdatasync(3<{a}> <unfinished ...>\n\
             2 write(1<{out}>, \"{hi}\", 3) = 3\n\
             2 fallocate(3<{a}>, 0, 5, 100) = 0\n\
             1 <... fdatasync resumed>)          = 0\n\
             1 fsync(4<{dir}>) = 0\n\
             1 openat(AT_FDCWD<{dir}>, \"{out}\", O_RDWR|O_CREAT, 0600) = -1 EACCES (Permission denied)\n\
             1 unlink(\"{a}\") = -1 ENOENT (No such file or directory)\n\
             1 pwrite64(3<{a}>(deleted), \"{ab}\", 2, 0) = 2\n\
             1 +++ exited with 0 +++\n"
        );
        let events = parse(log.as_bytes());
        let path = PathBuf::from("a");
        let calls: Vec<Call> = events.iter().map(|e| e.call.clone()).collect();
        assert_eq!(
            calls,
            [
                Call::Create { path: path.clone() },
                Call::Write { path: path.clone(), offset: 7, bytes: b"abhi\n".to_vec() },
                Call::Sync { path: path.clone() },
                Call::Said("hi".into()),
                Call::Allocate { path, offset: 5, bytes: 100 },
                Call::SyncDir { path: PathBuf::new() },
                Call::Said(String::new()),
            ]
        );
        assert_eq!(events[2].ended, 5, "the sync ended behind two other calls");
    }
}
