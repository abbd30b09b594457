use super::*;
use crate::codec::ast::Request;
use proptest::prelude::*;
use twinpost_message::{BodyId, ModSeq, Uid, UidValidity};

const NOW_S: i64 = 1_000_000_000;

fn mails() -> Vec<&'static [u8]> {
    vec![
        b"Date: Tue, 1 Feb 1994 23:30:00 -0800\r\nFrom: =?utf-8?Q?J=C3=B6rg?= Smith <js@x.example>\r\nTo: all: a@b, c@d;\r\nSubject: =?gb2312?B?1tC5+g==?= plan\r\n\
          Message-ID: <one@x>\r\nX-Own: =?utf-8?B?5Lit?= yes\r\n\r\nThe quick brown fox\r\n",
        b"From: bob@y.example\r\nSubject: Re: fox\r\nIn-Reply-To: <one@x>\r\nContent-Type: text/plain; charset=gbk\r\n\r\n\xcd\xa8\xd6\xaa\r\n",
        b"Cc: Smith <s@z>\r\nX-Own:\r\n\r\nplain\r\n",
    ]
}

struct Box_ {
    snapshot: Snapshot,
    parsed: Vec<Parsed>,
}

fn open() -> Box_ {
    let parsed: Vec<Parsed> = mails().iter().map(|m| Parsed::parse(m)).collect();
    let entries: Vec<Entry> = (0u32..3)
        .map(|i| Entry {
            uid: Uid(10 * (i + 1)),
            flags: [Flags::SEEN, Flags::keyword(1).with(Flags::DELETED), Flags::default()][i as usize],
            modseq: ModSeq(100 + u64::from(i)),
            body: BodyId(i64::from(i) + 1),
            size_bytes: 1000 * (i + 1),
            received_s: NOW_S - 3600 * i64::from(i) * 24,
            saved_s: 86_400 * i64::from(i),
        })
        .collect();
    let keywords = vec!["a".to_owned(), "$Work".to_owned()];
    Box_ { snapshot: Snapshot::new(UidValidity(1), Uid(31), ModSeq(102), keywords, &entries), parsed }
}

fn key(search: &str) -> SearchKey {
    match crate::codec::parse::parse(format!("a SEARCH {search}").as_bytes(), true).unwrap().request {
        Request::Search(s) => s.program,
        other => panic!("{other:?}"),
    }
}

/// Runs a program as a session does and says which messages it found and how much it needed at most.
fn run(b: &Box_, program: &Program) -> (Vec<u32>, Need) {
    let (mut found, mut open) = program.scan(&b.snapshot);
    let mut need = Need::Entry;
    if !open.is_empty() {
        need = Need::Parsed;
        open.retain(|(seq, entry)| match program.decide(&Facts::parsed(*seq, entry, &b.parsed[*seq as usize - 1])) {
            Some(yes) => {
                if yes {
                    found.push((*seq, *entry));
                }
                false
            }
            None => true,
        });
    }
    for (seq, entry) in open {
        need = Need::Body;
        let i = seq as usize - 1;
        if program.decide(&Facts::whole(seq, &entry, &b.parsed[i], mails()[i])).expect("a body decides") {
            found.push((seq, entry));
        }
    }
    found.sort_by_key(|(seq, _)| *seq);
    (found.into_iter().map(|(seq, _)| seq).collect(), need)
}

fn found(search: &str) -> (Vec<u32>, Need) {
    let b = open();
    let program = Program::new(&key(search), &b.snapshot, &Ranges::from_numbers([20]), NOW_S);
    let result = run(&b, &program);
    assert!(result.1 <= program.need(), "{search}");
    result
}

#[test]
fn keys_find_what_they_name() {
    use Need::{Body, Entry, Parsed};
    for (search, want, need) in [
        ("ALL", vec![1, 2, 3], Entry),
        ("SEEN", vec![1], Entry),
        ("UNSEEN", vec![2, 3], Entry),
        ("KEYWORD $work", vec![2], Entry),
        ("UNKEYWORD $work", vec![1, 3], Entry),
        ("KEYWORD none", vec![], Entry),
        ("NEW", vec![], Entry),
        ("OLD", vec![1, 2, 3], Entry),
        ("2:*", vec![2, 3], Entry),
        ("*", vec![3], Entry),
        ("7:9", vec![], Entry),
        ("$", vec![2], Entry),
        ("UID 11:25", vec![2], Entry),
        ("UID 500:*", vec![3], Entry),
        ("LARGER 1000 SMALLER 3000", vec![2], Entry),
        ("YOUNGER 3600", vec![1], Entry),
        ("OLDER 86400", vec![2, 3], Entry),
        ("OLDER 0", vec![1, 2, 3], Entry),
        ("MODSEQ 101", vec![2, 3], Entry),
        ("EMAILID M2", vec![2], Entry),
        ("ON 9-Sep-2001", vec![1], Entry),
        ("BEFORE 9-Sep-2001", vec![2, 3], Entry),
        ("SINCE 8-Sep-2001", vec![1, 2], Entry),
        ("SAVEDON 2-Jan-1970", vec![2], Entry),
        ("SAVEDATESUPPORTED", vec![1, 2, 3], Entry),
        // 23:30 at the sender is the next day in UTC (RFC 9051 6.4.4: without regard to zone)
        ("SENTON 1-Feb-1994", vec![1], Parsed),
        ("NOT SENTSINCE 1-Feb-1994", vec![2, 3], Parsed),
        ("FROM smith", vec![1], Parsed),
        ("FROM \"jörg smith <js@\"", vec![1], Parsed),
        ("TO \"all: <a@b>\"", vec![1], Parsed),
        ("CC \"\"", vec![3], Parsed),
        ("SUBJECT 中国", vec![1], Parsed),
        ("SUBJECT FOX", vec![2], Parsed),
        ("HEADER subject \"\"", vec![1, 2], Parsed),
        ("HEADER Message-ID one@", vec![1], Parsed),
        ("HEADER In-Reply-To <one@x>", vec![2], Parsed),
        ("HEADER X-Own 中", vec![1], Body),
        ("HEADER X-Own \"\"", vec![1, 3], Body),
        ("BODY 通知", vec![2], Body),
        ("BODY \"QUICK brown\"", vec![1], Body),
        ("BODY smith", vec![], Body),
        ("TEXT smith", vec![1, 3], Body),
        ("TEXT \"\"", vec![1, 2, 3], Entry),
        ("OR SUBJECT fox BODY fox", vec![1, 2], Body),
        // what is cheap decides alone
        ("BODY fox SEEN FLAGGED", vec![], Entry),
        ("OR BODY fox ALL", vec![1, 2, 3], Entry),
        ("BODY fox FROM nobody", vec![], Parsed),
        ("NOT (SEEN BODY nothing)", vec![1, 2, 3], Body),
    ] {
        assert_eq!(found(search), (want, need), "{search}");
    }
    let thread = thread_id(open().parsed[0].thread).to_string();
    // the answer belongs to the thread of what it answers
    assert_eq!(found(&format!("THREADID {thread}")), (vec![1, 2], Need::Parsed));
}

#[test]
fn the_index_answers_what_it_knows() {
    let b = open();
    let program = |bodies: &[i64], exact: bool, indexed_to: u64| {
        let mut p = Program::new(&key("TEXT fox"), &b.snapshot, &Ranges::default(), NOW_S);
        assert_eq!(p.text_keys().collect::<Vec<_>>(), [(0, TextField::Text, "fox")]);
        let bodies = bodies.iter().map(|n| BodyId(*n)).collect();
        p.set_hits(0, TextHits { bodies, exact, indexed_to: ModSeq(indexed_to) });
        p
    };
    // exact and complete: nothing is read
    assert_eq!(run(&b, &program(&[1, 2], true, 102)), (vec![1, 2], Need::Entry));
    // candidates only: they are confirmed, and message 3 is none
    assert_eq!(run(&b, &program(&[1, 3], false, 102)), (vec![1], Need::Body));
    // the index is behind: what is newer is scanned, so that an answer is never short
    assert_eq!(run(&b, &program(&[1], true, 100)), (vec![1, 2], Need::Body));
}

proptest! {
    /// Less knowledge never leads to another answer.
    #[test]
    fn answers_do_not_change_with_knowledge(words in prop::collection::vec(prop::sample::select(vec![
        "SEEN", "NOT BODY fox", "OR TEXT smith SEEN", "SUBJECT fox", "(OR DELETED HEADER X-Own yes)", "NOT (FROM smith BODY quick)", "UID 10:20", "SENTBEFORE 1-Jan-2000",
        "OR (BODY plain SEEN) NOT SUBJECT fox"]), 1..5)) {
        let b = open();
        let program = Program::new(&key(&words.join(" ")), &b.snapshot, &Ranges::default(), NOW_S);
        for (seq, entry) in b.snapshot.iter_from(1) {
            let i = seq as usize - 1;
            let whole = program.decide(&Facts::whole(seq, entry, &b.parsed[i], mails()[i]));
            prop_assert!(whole.is_some());
            for less in [program.decide(&Facts::listed(seq, entry)), program.decide(&Facts::parsed(seq, entry, &b.parsed[i]))] {
                prop_assert!(less.is_none() || less == whole);
            }
        }
    }
}
