//! Properties of the pure machine: no bytes make it panic or forget a command, unsolicited lines between the lines of
//! an answer do not change the answer, and a PDU is written whole or not at all.

use proptest::prelude::*;
use twinpost_modem::at::{Action, Answer, Command, Dialect, Engine, Expect, Failure, Notice};

fn drain(engine: &mut Engine, now_ms: u64, written: &mut Vec<u8>, notices: &mut Vec<Notice>) -> Option<Result<Answer, Failure>> {
    let mut end = None;
    while let Some(action) = engine.poll(now_ms) {
        match action {
            Action::Write(bytes) => written.extend(bytes),
            Action::Notice(notice) => notices.push(notice),
            Action::Done(done) => {
                assert!(end.is_none(), "a command ends once");
                end = Some(done);
            }
        }
    }
    end
}

/// Answers as lines, and the command that they answer.
fn exchanges() -> Vec<(Command, Vec<&'static str>)> {
    vec![
        (Command::new("AT+CSQ").prefix("+CSQ:"), vec!["+CSQ: 17,99", "OK"]),
        (Command::new("AT+CGMI").expect(Expect::Text), vec!["SIEMENS", "OK"]),
        (Command::new("AT+CREG?").expect(Expect::Registration("+CREG:".into())), vec!["+CREG: 1,5", "OK"]),
        (
            Command::new("AT+CMGL=4").expect(Expect::Pdus("+CMGL:".into())),
            vec!["+CMGL: 1,1,,4", "0004050607", "+CMGL: 2,1,,5", "000405060708", "OK"],
        ),
        (Command::new("AT+CMEE?").expect(Expect::Sync("+CMEE:".into())), vec!["+CMEE: 1", "OK"]),
        (Command::new("AT+CPIN?").prefix("+CPIN:"), vec!["+CME ERROR: 14"]),
        (Command::new("AT+CMGF=0"), vec!["OK"]),
    ]
}

const UNSOLICITED: [(&str, &str); 9] = [
    ("RING", "Ring"),
    ("+CMTI: \"SM\",3", "Stored"),
    ("+CREG: 2", "Registration"),
    ("+CREG: 1,\"00C3\",\"1A2B\"", "Registration"),
    ("+CLIP: \"+8613800138000\",145", "Caller"),
    ("+CMT: ,4\r\n0014050607", "Message"),
    ("+CDS: 4\r\n0006010203", "Report"),
    ("^RSSI:17", "Other"),
    ("NO CARRIER", "Other"),
];

proptest! {
    #[test]
    fn any_bytes(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        twinpost_modem::fuzz(&data);
    }

    #[test]
    fn any_words(words in proptest::collection::vec(prop::sample::select(vec![
        "OK", "ERROR", "\r\n", "\r", "> ", ">", "+CMT: ,4", "+CDS: 4", "+CMGL: 1,1,,4", "+CMGS: 4", "0004050607", "00", "4", "0",
        "+CREG: 1", "+CREG: 1,1", "+CMEE: 1", "RDY", "RING", "\x1a", "\x1b", "+CMS ERROR: 500", "AT+CGMI", "\0", "x", ",", "\"",
    ]), 0..80)) {
        twinpost_modem::fuzz(words.concat().as_bytes());
    }

    #[test]
    fn unsolicited_lines_do_not_change_an_answer(
        which in 0usize..7,
        insertions in proptest::collection::vec((0usize..6, 0usize..UNSOLICITED.len()), 0..6),
    ) {
        let (command, lines) = exchanges().swap_remove(which);
        let run = |insertions: &[(usize, usize)]| {
            let mut engine = Engine::new(Dialect::default());
            let (mut written, mut notices) = (Vec::new(), Vec::new());
            engine.start(command.clone(), 0);
            let mut end = drain(&mut engine, 0, &mut written, &mut notices);
            for (at, line) in lines.iter().enumerate() {
                for (_, n) in insertions.iter().filter(|(place, _)| *place == at) {
                    engine.input(format!("\r\n{}\r\n", UNSOLICITED[*n].0).as_bytes(), 0);
                }
                engine.input(format!("\r\n{line}\r\n").as_bytes(), 0);
                end = end.or(drain(&mut engine, 0, &mut written, &mut notices));
            }
            (end, notices)
        };
        let (plain, none) = run(&[]);
        prop_assert!(none.is_empty());
        prop_assert!(plain.is_some());
        let (mixed, notices) = run(&insertions);
        prop_assert_eq!(mixed, plain);
        let mut told: Vec<String> = notices.iter().map(|n| format!("{n:?}")).collect();
        for (place, n) in &insertions {
            if *place < lines.len() {
                let name = UNSOLICITED[*n].1;
                let at = told.iter().position(|t| t.starts_with(name));
                prop_assert!(at.is_some(), "{} was not told", name);
                told.remove(at.unwrap());
            }
        }
        prop_assert!(told.is_empty(), "told besides: {:?}", told);
    }

    /// Whatever the modem says, Ctrl-Z goes out only behind the whole PDU, after a prompt, and once; and a failure
    /// before that is told as one.
    #[test]
    fn a_pdu_is_written_whole_or_not_at_all(
        words in proptest::collection::vec(prop::sample::select(vec![
            "\r\n", ">", "> ", "OK\r\n", "ERROR\r\n", "RDY\r\n", "+CMGS: 1\r\n", "RING\r\n", "x", "\r\n> ", "+CMS ERROR: 1\r\n", "wait",
        ]), 0..20),
        chunk in 0usize..8,
    ) {
        let dialect = Dialect { chunk_bytes: chunk, chunk_gap_ms: 5, prompt_space: true, prompt_pause_ms: 3, ..Dialect::default() };
        let mut engine = Engine::new(dialect);
        let (mut written, mut notices) = (Vec::new(), Vec::new());
        let mut now_ms = 0;
        engine.start(Command::send(&[1, 2, 3], &[], 1_000, 5_000), now_ms);
        let mut end = drain(&mut engine, now_ms, &mut written, &mut notices);
        let mut prompted = false;
        for word in words {
            if word == "wait" {
                for _ in 0..400 {
                    now_ms += 1;
                    engine.tick(now_ms);
                    end = end.or(drain(&mut engine, now_ms, &mut written, &mut notices));
                }
            } else {
                prompted |= word.contains('>');
                engine.input(word.as_bytes(), now_ms);
                end = end.or(drain(&mut engine, now_ms, &mut written, &mut notices));
            }
        }
        for _ in 0..8_000 {
            now_ms += 1;
            engine.tick(now_ms);
            end = end.or(drain(&mut engine, now_ms, &mut written, &mut notices));
        }
        let end = end.expect("every command ends");
        let text = String::from_utf8_lossy(&written);
        let controls = written.iter().filter(|b| **b == 0x1A).count();
        prop_assert!(controls <= 1);
        if controls == 1 {
            prop_assert!(prompted);
            prop_assert!(text.contains("00010203\x1a"), "{:?}", text);
        }
        if let Err(failure) = end {
            let may_be_sent = failure.stage() == twinpost_modem::at::Stage::Data;
            prop_assert!(may_be_sent || controls == 0, "{:?} but Ctrl-Z was written", failure);
        }
    }
}
