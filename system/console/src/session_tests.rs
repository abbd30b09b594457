//! Dialogues of a console without a terminal.

use super::*;
use crate::editor::LINE_MAX;
use proptest::prelude::*;
use serde_json::json;

fn session() -> Session {
    Session::new(Place { title: "Twinpost".into(), orders: true, chinese: true, installer: false })
}

/// What was written, and what else happened.
fn split(effects: Vec<Effect>) -> (String, Vec<Effect>) {
    let (mut text, mut rest) = (Vec::new(), Vec::new());
    for effect in effects {
        match effect {
            Effect::Write(bytes) => text.extend(bytes),
            other => rest.push(other),
        }
    }
    (String::from_utf8_lossy(&text).into_owned(), rest)
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn person(line: &str) -> Vec<Effect> {
    vec![Effect::Start(Job::Person(words(line)))]
}

#[test]
fn the_first_screen_ends_with_the_prompt() {
    let (text, rest) = split(session().start());
    assert!(text.contains(" 1  Status\r\n") && text.contains("  l  中文") && text.ends_with("\r\ntwinpost> "), "{text}");
    assert!(rest.is_empty());
}

#[test]
fn an_order_of_a_program_is_framed_and_not_echoed() {
    let mut s = session();
    let (text, rest) = split(s.bytes(b"@12 pair status --json\r"));
    assert_eq!((text.as_str(), rest), ("\x0212\r\n", vec![Effect::Start(Job::Machine(words("pair status --json")))]));
    assert_eq!(split(s.output(b"{\n\x03}")).0, "{\r\n?}");
    assert_eq!(split(s.ended(3)).0, "\r\n\x0312 3\r\n\r\ntwinpost> ");
    // The next one.
    assert_eq!(split(s.bytes(b"@13 status\r\n")).1, [Effect::Start(Job::Machine(words("status")))]);
}

#[test]
fn what_a_program_cannot_have_is_refused_in_its_frame() {
    let mut s = session();
    assert_eq!(split(s.bytes(b"@1 a 'b\r")).0, "\x021\r\n' is not closed\r\n\x031 127\r\n\r\ntwinpost> ");
    assert_eq!(split(s.bytes(b"@2\r")).0, "\x022\r\nno order\r\n\x032 127\r\n\r\ntwinpost> ");
    let long = format!("@3 {}\r", "a".repeat(LINE_MAX));
    assert!(split(s.bytes(long.as_bytes())).0.ends_with("\x023\r\nthe line is too long\r\n\x033 127\r\n\r\ntwinpost> "));
    let mut s = Session::new(Place { title: String::new(), orders: false, chinese: false, installer: false });
    let (text, rest) = split(s.bytes(b"@4 status\r"));
    assert!(text.starts_with("\x024\r\norders are switched off") && text.contains("\x034 127\r\n") && rest.is_empty(), "{text}");
    assert!(split(s.bytes(b"status\r")).1.is_empty());
    assert_eq!(split(s.bytes(b"8\r")).1, person("support save --usb"), "the menu works without orders");
}

#[test]
fn lines_of_a_program_wait_for_their_turn_and_ctrl_c_ends_an_order() {
    let mut s = session();
    s.bytes(b"@1 a\r");
    assert!(s.bytes(b"@2 b\r@3 c\r").is_empty());
    let (text, rest) = split(s.ended(0));
    assert_eq!((text.as_str(), rest), ("\x031 0\r\n\r\ntwinpost> \x022\r\n", vec![Effect::Start(Job::Machine(words("b")))]));
    assert_eq!(s.bytes(b"\x03"), [Effect::Interrupt]);
    // Ctrl-C dropped the third as well.
    assert_eq!(split(s.ended(130)), ("\x032 130\r\n\r\ntwinpost> ".to_owned(), vec![]));
}

#[test]
fn an_order_that_says_too_much_is_cut() {
    let mut s = session();
    s.bytes(b"@1 export\r");
    let piece = vec![b'a'; 1 << 20];
    for _ in 0..4 {
        assert_eq!(s.output(&piece).len(), 1);
    }
    assert!(s.output(&piece).contains(&Effect::Kill));
    assert!(!s.output(&piece).contains(&Effect::Kill));
    assert_eq!(split(s.ended(137)).0, "\r\n\x031 125\r\n\r\ntwinpost> ");
}

#[test]
fn a_person_types_an_order_and_answers_it() {
    let mut s = session();
    let (text, rest) = split(s.bytes(b"twinpost ctl disks init\r"));
    assert_eq!((text.as_str(), rest), ("twinpost ctl disks init\r\n", person("disks init")));
    assert_eq!(split(s.output(b"Type the word: ")).0, "Type the word: ");
    assert_eq!(s.bytes(b"destroy\r"), [Effect::Input(b"destroy\r".to_vec())]);
    assert_eq!(s.bytes(b"x\x03y"), [Effect::Interrupt, Effect::Input(b"y".to_vec())]);
    assert_eq!(split(s.ended(130)).0, "\r\n-- done: 130\r\n\r\ntwinpost> ");
}

#[test]
fn the_status_is_found_out_and_shown_and_may_be_given_up() {
    let mut s = session();
    let (_, rest) = split(s.bytes(b"1\r"));
    assert!(matches!(&rest[..], [Effect::Gather(asks)] if asks[0] == Ask::Order(&["pair", "status", "--json"])));
    let (text, _) = split(s.gathered(&[Ok(json!({"sentence": "Node a \x1b[2J serves."}))]));
    assert!(text.contains("Node a ?[2J serves.\r\n") && text.ends_with("twinpost> "), "{text}");
    s.bytes(b"1\r");
    assert_eq!(s.bytes(b"\x03"), [Effect::Interrupt]);
    assert!(split(s.gathered(&[])).0.ends_with("twinpost> "));
    // An answer that nobody waits for is no event.
    assert!(s.gathered(&[Ok(json!(1))]).is_empty() && s.output(b"x").is_empty());
}

#[test]
fn a_program_may_come_while_a_person_left_a_question_open() {
    let mut s = session();
    assert!(split(s.bytes(b"10\r")).0.ends_with("Go on? [y/N] "));
    assert_eq!(split(s.bytes(b"@1 status\r")).1, [Effect::Start(Job::Machine(words("status")))]);
    s.ended(0);
    // The question is gone: this is no answer to it.
    assert_eq!(split(s.bytes(b"y\r")).1, person("y"));
}

#[test]
fn chinese_where_the_terminal_has_it() {
    let mut s = session();
    assert!(split(s.bytes(b"l\r")).0.contains("重启本节点"));
    assert_eq!(s.tongue(), Tongue::Chinese);
    let mut screen = Session::new(Place { title: String::new(), orders: true, chinese: false, installer: false });
    assert!(split(screen.start()).0.is_ascii());
    assert_eq!(split(screen.bytes(b"l\r")).1, person("l"));
}

proptest! {
    #[test]
    fn nothing_panics_and_nothing_grows(
        steps in proptest::collection::vec((0_u8..6, proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'1'), Just(b'y'), Just(b'@'), Just(3_u8)], 0..300)), 0..60)
    ) {
        let mut s = session();
        let mut running = false;
        for (kind, bytes) in steps {
            let effects = match kind {
                0..3 => s.bytes(&bytes),
                3 => s.output(&bytes),
                4 => s.ended(bytes.first().copied().unwrap_or(0)),
                _ => s.gathered(&[serde_json::from_slice(&bytes).map_err(|e| e.to_string())]),
            };
            for effect in &effects {
                if let Effect::Start(_) | Effect::Gather(_) = effect {
                    prop_assert!(!(running && matches!(kind, 0..4)), "a second job was started beside the first");
                    running = true;
                }
            }
            running = s.running.is_some();
            prop_assert!(s.waiting.len() <= super::WAITING_MAX);
        }
    }
}
