//! Dialogues with the pure machine, from the files of `tests/dialogues`: what the modem says, what we write, how each
//! command ends. Each dialogue is run as written, byte by byte, and in random pieces: the outcome is the same.
//!
//! `? kind text`   starts a command; kinds: nothing, text, prefix P, registration P, pdus P, sync P, send SMSC|- TPDU
//! `H: bytes`      what we must have written since the last `H:`
//! `M: bytes`      what the modem says (`\r`, `\n`, `\x1a` escaped)
//! `wait N`        N milliseconds go by
//! `N: text`       the next notice's Debug form begins so
//! `= text`        how the command ended: final result | lines, or the failure
//! `nothing`       nothing more was written or told
//! `dialect K V`   boot, full, unsolicited, space, pause, chunk, gap

use std::collections::VecDeque;

use proptest::prelude::*;
use twinpost_modem::at::{Action, Command, Dialect, Engine, Expect, hex_decode};

#[derive(Default)]
struct Run {
    engine: Engine,
    dialect: Dialect,
    now_ms: u64,
    written: Vec<u8>,
    notices: VecDeque<String>,
    ends: VecDeque<String>,
}

impl Run {
    fn drain(&mut self) {
        while let Some(action) = self.engine.poll(self.now_ms) {
            match action {
                Action::Write(bytes) => self.written.extend(bytes),
                Action::Notice(notice) => self.notices.push_back(format!("{notice:?}")),
                Action::Done(Ok(answer)) => {
                    let garbled = if answer.garbled { " garbled" } else { "" };
                    self.ends.push_back(format!("{:?}{garbled} | {}", answer.last, answer.lines.join(" | ")).trim().to_owned());
                }
                Action::Done(Err(failure)) => self.ends.push_back(format!("{failure:?}")),
            }
        }
    }

    fn wait(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        loop {
            self.engine.tick(self.now_ms);
            self.drain();
            match self.engine.wake_ms() {
                Some(wake) if wake <= end && wake > self.now_ms => self.now_ms = wake,
                Some(wake) if wake <= self.now_ms && self.now_ms < end => self.now_ms += 1,
                _ => break,
            }
        }
        self.now_ms = end;
        self.engine.tick(self.now_ms);
        self.drain();
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let text =
        text.replace("\\r", "\r").replace("\\n", "\n").replace("\\x1a", "\x1a").replace("\\x1b", "\x1b").replace("\\0", "\0");
    text.into_bytes()
}

fn command(text: &str) -> Command {
    let (kind, rest) = text.split_once(' ').unwrap();
    let two = |expect: fn(String) -> Expect| {
        let (prefix, text) = rest.split_once(' ').unwrap();
        Command::new(text).expect(expect(prefix.to_owned()))
    };
    match kind {
        "nothing" => Command::new(rest),
        "text" => Command::new(rest).expect(Expect::Text),
        "prefix" => two(Expect::Prefix),
        "registration" => two(Expect::Registration),
        "pdus" => two(Expect::Pdus),
        "sync" => two(Expect::Sync),
        "send" => {
            let (smsc, tpdu) = rest.split_once(' ').unwrap();
            Command::send(&hex_decode(tpdu).unwrap(), &hex_decode(smsc).unwrap_or_default(), 10_000, 60_000)
        }
        other => panic!("no command kind {other}"),
    }
}

/// Runs a dialogue; `pieces` cuts what the modem says.
fn run(name: &str, text: &str, mut pieces: impl FnMut(usize) -> usize) {
    let mut run = Run::default();
    for (number, line) in text.lines().enumerate() {
        let place = format!("{name}:{}: {line}", number + 1);
        if line.is_empty() || line.starts_with('#') {
            if line.starts_with("# ---") {
                run = Run::default();
            }
        } else if let Some(text) = line.strip_prefix("? ") {
            run.engine.start(command(text), run.now_ms);
            run.drain();
        } else if let Some(bytes) = line.strip_prefix("M: ") {
            let bytes = unescape(bytes);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let n = pieces(rest.len()).clamp(1, rest.len());
                run.engine.input(&rest[..n], run.now_ms);
                run.drain();
                rest = &rest[n..];
            }
        } else if let Some(bytes) = line.strip_prefix("H: ") {
            let written = std::mem::take(&mut run.written);
            assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&unescape(bytes)), "{place}");
        } else if let Some(ms) = line.strip_prefix("wait ") {
            run.wait(ms.parse().unwrap());
        } else if let Some(notice) = line.strip_prefix("N: ") {
            let told = run.notices.pop_front().unwrap_or_default();
            assert!(told.starts_with(notice), "{place}\ntold: {told}");
        } else if let Some(end) = line.strip_prefix("= ") {
            assert_eq!(run.ends.pop_front().as_deref(), Some(end), "{place}");
        } else if line == "nothing" {
            assert!(
                run.written.is_empty() && run.notices.is_empty() && run.ends.is_empty(),
                "{place}: {:?} {:?}",
                run.notices,
                run.ends
            );
        } else if let Some(rest) = line.strip_prefix("dialect ") {
            let (key, value) = rest.split_once(' ').unwrap();
            match key {
                "boot" => run.dialect.boot.push(value.to_owned()),
                "full" => run.dialect.full.push(value.to_owned()),
                "unsolicited" => run.dialect.unsolicited.push(value.to_owned()),
                "space" => run.dialect.prompt_space = value == "true",
                "pause" => run.dialect.prompt_pause_ms = value.parse().unwrap(),
                "chunk" => run.dialect.chunk_bytes = value.parse().unwrap(),
                "gap" => run.dialect.chunk_gap_ms = value.parse().unwrap(),
                "echo" => run.engine.set_echo_off(value == "off"),
                other => panic!("{place}: no dialect key {other}"),
            }
            run.engine.set_dialect(run.dialect.clone());
        } else {
            panic!("{place}: what is this?");
        }
    }
    assert!(run.ends.is_empty() && run.notices.is_empty(), "{name}: left over: {:?} {:?}", run.ends, run.notices);
}

fn files() -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dialogues"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&p).unwrap()))
        .collect();
    files.sort();
    assert!(files.len() >= 4);
    files
}

#[test]
fn as_written() {
    for (name, text) in files() {
        run(&name, &text, |all| all);
    }
}

#[test]
fn byte_by_byte() {
    for (name, text) in files() {
        run(&name, &text, |_| 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn in_random_pieces(sizes in proptest::collection::vec(1usize..40, 1..50)) {
        for (name, text) in files() {
            let mut sizes = sizes.iter().cycle();
            run(&name, &text, |_| *sizes.next().unwrap());
        }
    }
}
