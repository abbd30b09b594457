//! How fast the pure parts of IMAP are on this machine: commands read, listings written, searches, sorts and threads of a
//! mailbox of 20,000. `cargo run --release -p twinpost-imap --example codec_speed`
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use std::hint::black_box;
use std::time::Instant;
use twinpost_imap::algorithm::ranges::Ranges;
use twinpost_imap::algorithm::search::{Facts, Program};
use twinpost_imap::algorithm::sort::sort;
use twinpost_imap::algorithm::thread::{Message, references};
use twinpost_imap::codec::ast::{Request, SearchKey};
use twinpost_imap::codec::frame::{FrameLimits, Framer, Step};
use twinpost_imap::codec::parse::parse;
use twinpost_imap::codec::respond::{self, FlagText, number};
use twinpost_message::view::{Entry, Snapshot};
use twinpost_message::{BodyId, Flags, ModSeq, Parsed, Uid, UidValidity};

const MESSAGES: u32 = 20_000;

fn timed(what: &str, per_round: u64, unit: &str, mut work: impl FnMut()) {
    work();
    let start = Instant::now();
    let mut rounds = 0u64;
    while start.elapsed().as_millis() < 300 {
        work();
        rounds += 1;
    }
    let round_s = start.elapsed().as_secs_f64() / rounds.max(1) as f64;
    println!("{what:<40} {:>9.3} ms a round  {:>14.0} {unit}/s", round_s * 1e3, per_round as f64 / round_s);
}

fn mail(n: u32) -> String {
    format!(
        "From: Sender {n} <sender{}@x.example>\r\nTo: all@school.example\r\nSubject: Re: Subject of thread {}\r\nDate: Tue, 1 Feb 1994 10:{:02}:00 +0000\r\n\
         Message-ID: <{n}@x.example>\r\nReferences: <{}@x.example> <{}@x.example>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nHello\r\n--b\r\n\
         Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b--\r\n",
        n % 97,
        n / 8,
        n % 60,
        n / 8 * 8,
        n.saturating_sub(1)
    )
}

fn program(text: &str) -> SearchKey {
    match parse(format!("a SEARCH {text}\r\n").as_bytes(), true).map(|c| c.request) {
        Ok(Request::Search(search)) => search.program,
        other => panic!("{other:?}"),
    }
}

fn main() {
    let entries: Vec<Entry> = (1..=MESSAGES)
        .map(|n| Entry {
            uid: Uid(n * 2),
            flags: Flags([0, 1, 1, 3][(n % 4) as usize]),
            modseq: ModSeq(u64::from(n) * 1000),
            body: BodyId(n.into()),
            size_bytes: n,
            received_s: i64::from(n) * 60,
            saved_s: 0,
        })
        .collect();
    let snapshot = Snapshot::new(UidValidity(1), Uid(MESSAGES * 2 + 1), ModSeq(1 << 40), vec!["$Junk".to_owned()], &entries);
    let parsed: Vec<Parsed> = (0..MESSAGES).map(|n| Parsed::parse(mail(n).as_bytes())).collect();
    let all = u64::from(MESSAGES);

    let commands: Vec<u8> = b"a1 UID FETCH 1:* (FLAGS)\r\na2 NOOP\r\na3 SEARCH UNSEEN SINCE 1-Feb-1994 NOT FROM \"Smith\"\r\na4 STORE 2:4 +FLAGS (\\Deleted)\r\n".repeat(100);
    timed("commands framed and parsed", 400, "commands", || {
        let mut framer = Framer::new(FrameLimits::default());
        let mut rest = commands.as_slice();
        while let Step::Complete { len_bytes } = framer.advance(rest) {
            black_box(parse(&rest[..len_bytes], true).is_ok());
            rest = &rest[len_bytes..];
        }
    });
    let mut out = Vec::with_capacity(1 << 20);
    timed("FETCH (UID FLAGS), 2 items a message", all * 2, "items", || {
        out.clear();
        let mut text = FlagText::default();
        for (seq, e) in snapshot.iter_from(1) {
            out.extend_from_slice(b"* ");
            number(&mut out, seq.into());
            out.extend_from_slice(b" FETCH (UID ");
            number(&mut out, e.uid.0.into());
            out.extend_from_slice(b" FLAGS ");
            text.write(e.flags, &snapshot.keywords, &mut out);
            out.extend_from_slice(b")\r\n");
        }
        black_box(&out);
    });
    timed("FETCH INTERNALDATE", all, "items", || {
        out.clear();
        snapshot.iter().for_each(|e| respond::date_time(e.received_s, &mut out));
        black_box(&out);
    });
    timed("FETCH ENVELOPE", all, "items", || {
        out.clear();
        parsed.iter().for_each(|p| respond::envelope(&p.envelope, false, &mut out));
        black_box(&out);
    });
    timed("FETCH BODYSTRUCTURE", all, "items", || {
        out.clear();
        parsed.iter().for_each(|p| respond::body_structure(&p.root, true, false, &mut out));
        black_box(&out);
    });
    let key = program("UNSEEN LARGER 100 UID 1:30000");
    timed("SEARCH by list", all, "messages", || {
        let p = Program::new(&key, &snapshot, &Ranges::default(), 0);
        black_box(p.scan(&snapshot));
    });
    let key = program("OR FROM sender42@ SUBJECT \"thread 77\"");
    timed("SEARCH FROM and SUBJECT, parsed", all, "messages", || {
        let p = Program::new(&key, &snapshot, &Ranges::default(), 0);
        let hits = snapshot.iter_from(1).zip(&parsed).filter(|((s, e), q)| p.decide(&Facts::parsed(*s, e, q)) == Some(true));
        black_box(hits.count());
    });
    let Ok(Request::Sort { keys, .. }) = parse(b"a SORT (SUBJECT REVERSE DATE) UTF-8 ALL", true).map(|c| c.request) else {
        unreachable!("this is a SORT command")
    };
    let rows: Vec<_> = entries.iter().zip(parsed.iter().map(Some)).collect();
    timed("SORT (SUBJECT REVERSE DATE)", all, "messages", || {
        black_box(sort(&keys, &rows));
    });
    let messages: Vec<_> =
        entries.iter().zip(&parsed).map(|(e, p)| Message { number: e.uid.0, entry: e, parsed: Some(p) }).collect();
    timed("THREAD REFERENCES", all, "messages", || {
        out.clear();
        respond::thread(&references(&messages), &mut out);
        black_box(&out);
    });
}
