//! Two sessions work on one mailbox at the same time, each with its own random commands. Each client keeps a list made only of
//! what it was told; at the end both lists are what the store holds. On the way no EXPUNGE comes where RFC 9051 7.5.1 forbids it.

use crate::bench::{Bench, settings};
use proptest::prelude::*;
use std::collections::BTreeSet;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};

/// What a client knows of one message.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    uid: Option<u32>,
    flags: Option<BTreeSet<String>>,
}

struct Client {
    io: BufReader<DuplexStream>,
    list: Vec<Known>,
    tag: u32,
    log: Vec<String>,
}

#[derive(Clone, Debug)]
enum Op {
    Noop,
    Idle,
    Append(u8),
    /// numbers from the end of the list, by UID, silent, mode, flag
    Store(u8, u8, bool, bool, u8, u8),
    Expunge,
    UidExpunge(u8),
    Copy(u8),
    Move(u8, u8),
    FetchFlags(u8, bool),
    FetchBody(u8, bool),
    Search(bool),
}

const FLAGS: [&str; 5] = ["\\Seen", "\\Deleted", "\\Flagged", "$Junk", "work"];

impl Client {
    async fn begin(bench: &Bench, enable: &str) -> Self {
        let mut client = Self { io: BufReader::new(bench.open()), list: vec![], tag: 0, log: vec![] };
        client.line().await;
        client.run("LOGIN eve@x.example secret", true).await;
        if !enable.is_empty() {
            client.run(&format!("ENABLE {enable}"), true).await;
        }
        client.run("SELECT INBOX", true).await;
        client.learn().await;
        client
    }

    async fn line(&mut self) -> String {
        let mut all = Vec::new();
        loop {
            self.io.read_until(b'\n', &mut all).await.unwrap();
            let text = String::from_utf8_lossy(&all).into_owned();
            let Some(n) = text.strip_suffix("}\r\n").and_then(|t| t.rsplit('{').next()?.parse::<usize>().ok()) else {
                self.log.push(format!("S: {}", text.trim_end()));
                return text.trim_end().to_owned();
            };
            let mut literal = vec![0; n];
            self.io.read_exact(&mut literal).await.unwrap();
        }
    }

    /// Sends a command, takes in everything that is told up to the tagged answer. True: OK.
    async fn run(&mut self, command: &str, expunges: bool) -> bool {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        self.log.push(format!("C: {tag} {command}"));
        self.io.write_all(format!("{tag} {command}\r\n").as_bytes()).await.unwrap();
        loop {
            let line = self.line().await;
            if let Some(rest) = line.strip_prefix(&format!("{tag} ")) {
                return rest.starts_with("OK");
            }
            if line == "+ idling" {
                self.io.write_all(b"DONE\r\n").await.unwrap();
                continue;
            }
            assert!(!line.starts_with("* BYE"), "{}", self.log.join("\n"));
            self.hear(&line, expunges);
        }
    }

    fn hear(&mut self, line: &str, expunges: bool) {
        let Some(rest) = line.strip_prefix("* ") else { return };
        if let Some(set) = rest.strip_prefix("VANISHED ") {
            assert!(expunges, "VANISHED where none may come\n{}", self.log.join("\n"));
            for range in set.split(',') {
                let (a, b) = range.split_once(':').unwrap_or((range, range));
                for uid in a.parse::<u32>().unwrap()..=b.parse().unwrap() {
                    // One that was announced and not asked for yet has no UID here; it is among the last.
                    let at = self
                        .list
                        .iter()
                        .position(|k| k.uid == Some(uid))
                        .or_else(|| self.list.iter().position(|k| k.uid.is_none()));
                    self.list.remove(at.unwrap_or_else(|| panic!("UID {uid} is not known\n{}", self.log.join("\n"))));
                }
            }
            return;
        }
        let Some((number, what)) = rest.split_once(' ') else { return };
        let Ok(number) = number.parse::<usize>() else { return };
        if what == "EXISTS" {
            assert!(number >= self.list.len(), "EXISTS shrinks\n{}", self.log.join("\n"));
            self.list.resize(number, Known::default());
        } else if what == "EXPUNGE" {
            assert!(expunges, "EXPUNGE where none may come\n{}", self.log.join("\n"));
            self.list.remove(number - 1);
        } else if let Some(items) = what.strip_prefix("FETCH (") {
            let known = &mut self.list[number - 1];
            if let Some(uid) = items.split("UID ").nth(1).and_then(|t| t.split([' ', ')']).next()) {
                let uid = uid.parse().unwrap();
                assert!(known.uid.is_none_or(|k| k == uid), "number {number} means {uid}\n{}", self.log.join("\n"));
                known.uid = Some(uid);
            }
            if let Some(flags) = items.split("FLAGS (").nth(1).and_then(|t| t.split(')').next()) {
                known.flags = Some(flags.split_whitespace().map(str::to_owned).collect());
            }
        }
    }

    /// Asks for what EXISTS announced.
    async fn learn(&mut self) {
        while let Some(first) = self.list.iter().position(|k| k.uid.is_none() || k.flags.is_none()) {
            let command = format!("FETCH {}:{} (UID FLAGS)", first + 1, self.list.len());
            self.run(&command, false).await;
        }
    }

    fn pick(&self, back: u8) -> Option<(usize, u32)> {
        let at = self.list.len().checked_sub(1 + usize::from(back) % self.list.len().max(1))?;
        Some((at + 1, self.list[at].uid?))
    }

    async fn act(&mut self, op: &Op) {
        match *op {
            Op::Noop => drop(self.run("NOOP", true).await),
            Op::Idle => drop(self.run("IDLE", true).await),
            Op::Append(flag) => {
                let flag = FLAGS[usize::from(flag) % FLAGS.len()];
                self.run(&format!("APPEND INBOX ({flag}) {{14+}}\r\nSubject: a\r\n\r\n"), true).await;
            }
            Op::Store(back, more, uid, silent, mode, flag) => {
                let Some((to, _)) = self.pick(back) else { return };
                let from = to.saturating_sub(usize::from(more % 4)).max(1);
                let uids: Vec<u32> = self.list[from - 1..to].iter().filter_map(|k| k.uid).collect();
                let set =
                    if uid { uids.iter().map(u32::to_string).collect::<Vec<_>>().join(",") } else { format!("{from}:{to}") };
                let flag = FLAGS[usize::from(flag) % FLAGS.len()];
                let mode = ["", "+", "-"][usize::from(mode % 3)];
                let (prefix, suffix) = (if uid { "UID " } else { "" }, if silent { ".SILENT" } else { "" });
                if silent {
                    // A change of others that is told before the answer counts for the guess: none may be pending.
                    self.run("NOOP", true).await;
                    self.learn().await;
                    let known: Vec<u32> = self.list.iter().filter_map(|k| k.uid).collect();
                    if uids.iter().any(|u| !known.contains(u))
                        || self.list.get(from - 1..to).is_none_or(|l| l.iter().filter_map(|k| k.uid).ne(uids.iter().copied()))
                    {
                        return;
                    }
                    self.believe(&uids, mode, flag);
                }
                self.run(&format!("{prefix}STORE {set} {mode}FLAGS{suffix} ({flag})"), uid).await;
            }
            Op::Expunge => drop(self.run("EXPUNGE", true).await),
            Op::UidExpunge(back) => {
                if let Some((_, uid)) = self.pick(back) {
                    self.run(&format!("UID EXPUNGE {uid}"), true).await;
                }
            }
            Op::Copy(back) => {
                if let Some((_, uid)) = self.pick(back) {
                    self.run(&format!("UID COPY {uid} INBOX"), true).await;
                }
            }
            Op::Move(back, number) => {
                let Some((seq, uid)) = self.pick(back) else { return };
                let command = if number % 2 == 0 { format!("MOVE {seq} Other") } else { format!("UID MOVE {uid} Other") };
                self.run(&command, true).await;
            }
            Op::FetchFlags(back, uid) => {
                let Some((seq, number)) = self.pick(back) else { return };
                let command = if uid { format!("UID FETCH {number}:* (FLAGS)") } else { format!("FETCH {seq}:* (UID FLAGS)") };
                self.run(&command, uid).await;
            }
            Op::FetchBody(back, uid) => {
                let Some((seq, number)) = self.pick(back) else { return };
                let command = if uid { format!("UID FETCH {number} BODY[]") } else { format!("FETCH {seq} (BODY[TEXT])") };
                self.run(&command, uid).await;
            }
            Op::Search(uid) => drop(self.run(if uid { "UID SEARCH SEEN" } else { "SEARCH UNSEEN" }, uid).await),
        }
        self.learn().await;
    }

    /// STORE .SILENT: a client takes it that its change was made.
    fn believe(&mut self, uids: &[u32], mode: &str, flag: &str) {
        for known in self.list.iter_mut().filter(|k| k.uid.is_some_and(|u| uids.contains(&u))) {
            let Some(flags) = &mut known.flags else { continue };
            match mode {
                "+" => drop(flags.insert(flag.to_owned())),
                "-" => drop(flags.remove(flag)),
                _ => *flags = [flag.to_owned()].into(),
            }
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => Just(Op::Noop),
        1 => Just(Op::Idle),
        4 => any::<u8>().prop_map(Op::Append),
        8 => any::<(u8, u8, bool, bool, u8, u8)>().prop_map(|(a, b, c, d, e, f)| Op::Store(a, b, c, d, e, f)),
        2 => Just(Op::Expunge),
        1 => any::<u8>().prop_map(Op::UidExpunge),
        1 => any::<u8>().prop_map(Op::Copy),
        1 => any::<(u8, u8)>().prop_map(|(a, b)| Op::Move(a, b)),
        2 => any::<(u8, bool)>().prop_map(|(a, b)| Op::FetchFlags(a, b)),
        2 => any::<(u8, bool)>().prop_map(|(a, b)| Op::FetchBody(a, b)),
        2 => any::<bool>().prop_map(Op::Search),
    ]
}

fn check(first: &[Op], second: &[Op], enable: &str, other: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let bench = Bench::new(settings());
        for n in 0..6 {
            bench.memory.deliver(bench.eve, "INBOX", &format!("Subject: {n}\n\nText\n"));
        }
        let mut a = Client::begin(&bench, enable).await;
        let mut b = Client::begin(&bench, other).await;
        a.run("CREATE Other", true).await;
        tokio::join!(
            async {
                for op in first {
                    a.act(op).await;
                }
            },
            async {
                for op in second {
                    b.act(op).await;
                }
            }
        );
        let truth: Vec<Known> = bench
            .memory
            .truth(bench.eve, "INBOX")
            .into_iter()
            .map(|(uid, flags)| Known { uid: Some(uid), flags: Some(flags.into_iter().collect()) })
            .collect();
        for client in [&mut a, &mut b] {
            client.run("NOOP", true).await;
            client.learn().await;
            client.run("NOOP", true).await;
            let wrong: Vec<_> = client.list.iter().zip(&truth).filter(|(a, b)| a != b).collect();
            assert!(client.list == truth, "{wrong:?} of {} and {}\n{}", client.list.len(), truth.len(), client.log.join("\n"));
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn two_sessions_agree_with_the_store(first in prop::collection::vec(op(), 0..40), second in prop::collection::vec(op(), 0..40)) {
        check(&first, &second, "", "QRESYNC");
        check(&first, &second, "CONDSTORE", "IMAP4rev2");
    }
}
