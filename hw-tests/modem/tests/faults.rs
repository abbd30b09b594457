//! What a modem, a radio and a network can do to a message, and what phones make of repeats.

mod talk;

use talk::{Talk, submit};
use twinpost_hw_modem::{Options, PortAct, Timing};

fn at_is_answered(t: &mut Talk) -> bool {
    t.say("AT\r") == "\r\nOK\r\n"
}

#[test]
fn hangs_at_each_stage() {
    for (order, prompt, recorded) in
        [("hang before-prompt", false, 0), ("hang after-prompt", true, 0), ("hang not-sent", true, 0), ("hang sent", true, 1)]
    {
        let mut t = Talk::new(Options::default());
        t.order(order);
        let tpdu = submit(0, 0, &[], "hello");
        assert_eq!(t.say(&format!("AT+CMGS={}\r", tpdu.len())).contains('>'), prompt, "{order}");
        assert_eq!(t.say(&format!("00{}\u{1a}", twinpost_hw_modem::hex(&tpdu))), "", "{order}");
        t.pass(600_000);
        assert_eq!(t.received.len(), recorded, "{order}");
        assert_eq!(t.say("\u{1b}AT\r"), "\r\nOK\r\n", "{order}: the next command is answered");
        assert_eq!(t.send(&tpdu), if recorded == 1 { "\r\n+CMGS: 1\r\n\r\nOK\r\n" } else { "\r\n+CMGS: 0\r\n\r\nOK\r\n" });
        assert_eq!(t.received.last().map(|m| (m.duplicate, m.possible_duplicate)), Some((recorded == 1, false)));
    }
}

#[test]
fn a_hang_ends_only_as_it_should() {
    let mut t = Talk::new(Options::default());
    t.order("hang cfun");
    assert!(!at_is_answered(&mut t));
    assert_eq!(t.say("AT+CFUN=1,1\r"), "\r\nOK\r\n");
    assert_eq!(t.pass(1000), "");
    assert_eq!(t.say("ATE0\r"), "ATE0\r\r\nOK\r\n", "it has started anew");
    t.order("hang dtr");
    assert!(!at_is_answered(&mut t));
    assert_eq!(t.say("AT+CFUN=1,1\r"), "");
    t.order("dtr");
    assert!(at_is_answered(&mut t));
    t.order("hang power");
    t.order("dtr");
    assert!(!at_is_answered(&mut t));
    t.order("power");
    t.pass(1000);
    t.say("ATE0\r");
    assert!(at_is_answered(&mut t));
    t.order("hang 5000");
    t.pass(4999);
    assert!(!at_is_answered(&mut t));
    t.pass(1);
    assert!(at_is_answered(&mut t));
    assert_eq!(t.engine.counters().hangs, 4);
}

#[test]
fn a_reset_forgets_settings_and_can_take_the_port_away() {
    let mut t = Talk::new(Options { pin: Some("1234".to_owned()), ..Options::default() });
    t.say("AT+CPIN=1234\r");
    t.pass(10);
    t.order("reset sent away 3000");
    let tpdu = submit(0, 0, &[], "hello");
    assert_eq!(t.send(&tpdu), "");
    assert_eq!((t.received.len(), t.engine.take_port_act()), (1, Some(PortAct::Away)));
    t.pass(2999);
    assert_eq!(t.engine.take_port_act(), None);
    t.pass(100);
    assert_eq!(t.engine.take_port_act(), Some(PortAct::Back));
    assert_eq!(t.say("AT+CPIN?\r"), "AT+CPIN?\r\r\n+CPIN: SIM PIN\r\n\r\nOK\r\n", "echo is on and the PIN is asked for again");
}

#[test]
fn errors_on_order_and_by_chance() {
    let mut t = Talk::new(Options::default());
    let tpdu = submit(0, 0, &[], "hello");
    t.order("error 38");
    t.order("error 500 before");
    t.order("error 332 sent");
    assert_eq!(t.send(&tpdu), "\r\n+CMS ERROR: 38\r\n");
    assert_eq!(t.send(&tpdu), "\r\n+CMS ERROR: 500\r\n");
    assert!(t.received.is_empty());
    assert_eq!(t.send(&tpdu), "\r\n+CMS ERROR: 332\r\n");
    assert_eq!(t.received.len(), 1, "the error lied: the message went out");
    t.order("error 42 after-prompt");
    assert_eq!(t.send(&tpdu), "\r\n+CMS ERROR: 42\r\n");
    t.say(&format!("AT+CMGW={}\r", tpdu.len()));
    t.say(&format!("00{}\u{1a}", twinpost_hw_modem::hex(&tpdu)));
    t.order("error 27 before");
    assert_eq!(t.say("AT+CMSS=1\r"), "\r\n+CMS ERROR: 27\r\n");
    assert_eq!(t.received.len(), 1);
    t.say("AT+CMEE=1\r");
    t.order("cme 100 2");
    assert_eq!([t.say("AT+CSQ\r"), t.say("AT+CSQ\r")], ["\r\n+CME ERROR: 100\r\n", "\r\n+CME ERROR: 100\r\n"]);
    assert!(t.say("AT+CSQ\r").ends_with("OK\r\n"));
    t.order("error 500 0.5");
    let refused = (0..200).filter(|_| t.send(&tpdu).contains("ERROR: 500")).count();
    assert!((60..140).contains(&refused), "{refused} of 200");
    t.order("healthy");
    assert!((0..50).all(|_| t.send(&tpdu).ends_with("OK\r\n")));
    t.order("late 4000");
    assert_eq!((t.send(&tpdu), t.pass(3999)), (String::new(), String::new()));
    assert!(t.pass(1).ends_with("OK\r\n"));
}

#[test]
fn the_network_goes_and_comes() {
    let mut t = Talk::new(Options::default());
    t.say("AT+CREG=1;+CNMI=2,1\r");
    t.order("deregister");
    assert_eq!(t.hear(), "\r\n+CREG: 0\r\n");
    assert_eq!(t.send(&submit(0, 0, &[], "hello")), "\r\n+CMS ERROR: 331\r\n");
    t.order("receive +4915112345678 late");
    assert_eq!(t.hear(), "");
    t.order("roam");
    assert_eq!(t.hear(), "\r\n+CREG: 5\r\n\r\n+CMTI: \"SM\",1\r\n");
    t.order("signal 3");
    assert_eq!(t.say("AT+CSQ;+COPS?\r"), "\r\n+CSQ: 3,0\r\n\r\n+COPS: 0,0,\"CHINA MOBILE\"\r\n\r\nOK\r\n");
    assert_eq!(t.say("AT+CFUN=4\r"), "\r\nOK\r\n\r\n+CREG: 0\r\n");
    assert_eq!(t.send(&submit(0, 0, &[], "hello")), "\r\n+CMS ERROR: 302\r\n");
}

#[test]
fn unsolicited_lines_inside_an_answer_part_no_line() {
    let mut t = Talk::new(Options::default());
    t.order("inside RING");
    assert_eq!(t.say("AT+CSQ\r"), "\r\nRING\r\n\r\n+CSQ: 21,0\r\n\r\nOK\r\n");
    t.order("inside +CMTI: \"SM\",3");
    let tpdu = submit(0, 0, &[], "hello");
    assert_eq!(t.say(&format!("AT+CMGS={}\r", tpdu.len())), "\r\n+CMTI: \"SM\",3\r\n\r\n> ");
    t.order("inside RING");
    let answer = t.say(&format!("00{}\u{1a}", twinpost_hw_modem::hex(&tpdu)));
    assert_eq!(answer, "\r\nRING\r\n\r\n+CMGS: 0\r\n\r\nOK\r\n");
    t.order("unsolicited 1");
    for _ in 0..50 {
        let answer = t.say("AT+CSQ\r");
        assert!(answer.contains("\r\n+CSQ: 21,0\r\n") && answer.ends_with("\r\nOK\r\n") && answer.len() > 30, "{answer}");
    }
}

#[test]
fn a_radio_takes_its_time() {
    let mut t = Talk::new(Options { timing: Timing::Radio, ..Options::default() });
    let tpdu = submit(0, 0, &[], "hello");
    assert_eq!(t.say(&format!("AT+CMGS={}\r", tpdu.len())), "");
    assert_eq!(t.pass(100), "\r\n> ");
    t.say(&format!("00{}\u{1a}AT\r", twinpost_hw_modem::hex(&tpdu)));
    assert_eq!(t.pass(2300), "", "no message in less than 2.4 s");
    assert_eq!(t.pass(4500), "\r\n+CMGS: 0\r\n\r\nOK\r\n\r\nOK\r\n", "what was typed meanwhile is answered behind it");
}

#[test]
fn a_cold_modem_starts_and_searches() {
    let family = twinpost_hw_modem::Family::named("sim800").expect("it is in the list");
    let mut t = Talk::cold(Options { family, timing: Timing::Radio, booted: false, ..Options::default() });
    assert_eq!(t.say("AT\r"), "", "nothing before it has started");
    assert_eq!(t.pass(3000), "\r\nRDY\r\n\r\n+CFUN: 1\r\n\r\n+CPIN: READY\r\n");
    t.say("ATE0\r");
    assert_eq!(t.say("AT+CREG=1;+CREG?\r"), "\r\n+CREG: 1,2\r\n\r\nOK\r\n");
    assert_eq!(t.pass(4000), "\r\n+CREG: 1\r\n\r\nCall Ready\r\n\r\nSMS Ready\r\n");
}

#[test]
fn the_wrong_speed_is_illegible() {
    let mut t = Talk::new(Options { baud: Some(9600), ..Options::default() });
    t.engine.set_line_speed(Some(115_200));
    let heard = t.say("AT\rAT\r");
    assert!(!heard.contains("OK"), "{heard:?}");
    t.order("line RING");
    let heard = t.hear();
    assert!(!heard.is_empty() && !heard.contains("RING"));
    t.engine.set_line_speed(Some(9600));
    t.say("\u{1b}");
    assert!(at_is_answered(&mut t));
    assert_eq!(t.say("AT+IPR=115200\r"), "\r\nOK\r\n");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed: u64| {
        let mut t = Talk::new(Options { seed, garble: 0.02, unsolicited: 0.3, timing: Timing::Radio, ..Options::default() });
        t.order("error 500 0.3");
        t.order("chance 0.2 hang sent 1000");
        let mut all = String::new();
        for n in 0..30 {
            all += &t.send(&submit(0, 0, &[], &format!("message {n}")));
            all += &t.pass(9000);
            all += &t.say("\u{1b}");
        }
        all
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn repeats_of_a_message() {
    let mut t = Talk::new(Options::default());
    t.send(&submit(0, 0, &[], "one"));
    t.send(&submit(4, 0, &[], "one"));
    t.send(&submit(0, 0, &[], "one"));
    let seen: Vec<_> = t.received.iter().map(|m| (m.duplicate, m.possible_duplicate)).collect();
    assert_eq!(seen, [(false, false), (true, true), (true, false)]);
    assert_eq!(t.engine.counters().repeats.unmarked_duplicates, 1);
    t.order("repeats refuse");
    assert_eq!(t.send(&submit(4, 0, &[], "one")), "\r\n+CMS ERROR: 197\r\n");
    // The refused one has used up its TP-MR (23.040 9.2.3.6).
    assert_eq!(t.send(&submit(4, 0, &[], "two")), "\r\n+CMGS: 4\r\n\r\nOK\r\n");
    assert!(t.received[3].possible_duplicate && !t.received[3].duplicate);
}

#[test]
fn parts_are_joined_and_their_repeats_known() {
    let mut t = Talk::new(Options::default());
    let part = |first: u8, reference: u8, n: u8, text: &str| submit(0x40 | first, 0, &[5, 0, 3, reference, 3, n], text);
    // Out of order, and one of them twice, marked.
    t.send(&part(0, 9, 2, "two "));
    t.send(&part(0, 9, 1, "one "));
    t.send(&part(4, 9, 1, "one "));
    assert!(t.received.is_empty());
    t.send(&part(0, 9, 3, "three"));
    assert_eq!((t.received[0].text.as_str(), t.received[0].parts, t.received[0].reference), ("one two three", 3, 9));
    assert!(t.received[0].possible_duplicate);
    assert_eq!(t.received[0].references, [1, 0, 3], "TP-MR of each part");
    // The last part again, marked: the phone has it. Unmarked: the beginning of another message.
    t.send(&part(4, 9, 3, "three"));
    assert_eq!((t.received.len(), t.engine.counters().repeats.marked_repeats, t.engine.state().incomplete), (1, 2, 0));
    t.send(&part(0, 9, 3, "three"));
    assert_eq!((t.received.len(), t.engine.state().incomplete), (1, 1));
    t.send(&part(0, 9, 3, "three"));
    assert_eq!(t.engine.counters().repeats.unmarked_repeats, 1);
    t.send(&part(0, 9, 1, "one "));
    t.send(&part(0, 9, 2, "two "));
    assert!(t.received[1].duplicate && !t.received[1].possible_duplicate);
    // The 16-bit form.
    let wide = |n: u8, text: &str| submit(0x40, 0, &[6, 8, 4, 0x12, 0x34, 2, n], text);
    t.send(&wide(2, "world"));
    t.send(&wide(1, "hello "));
    assert_eq!((t.received[2].text.as_str(), t.received[2].reference), ("hello world", 0x1234));
}

#[test]
fn a_phone_that_is_off_gets_it_later_or_never() {
    let mut t = Talk::new(Options::default());
    t.say("AT+CNMI=2,1,0,1,0\r");
    t.order("phone +8613800138000 off");
    // TP-VPF 2, TP-VP 0: five minutes.
    let valid = |reject: u8, text: &str| {
        let mut tpdu = submit(0x30 | reject, 0, &[], text);
        tpdu.insert(13, 0);
        tpdu
    };
    assert_eq!(t.send(&valid(0, "one")), "\r\n+CMGS: 0\r\n\r\nOK\r\n");
    // 23.040 9.2.3.25: still held, and marked as a repeat.
    assert_eq!(t.send(&valid(4, "one")), "\r\n+CMS ERROR: 197\r\n");
    assert_eq!(t.pass(299_000), "");
    let late = t.pass(1000);
    assert!(late.starts_with("\r\n+CDS: 26\r\n") && late.ends_with("46\r\n"), "{late}");
    assert!(t.received.is_empty());
    t.send(&valid(0, "two"));
    t.pass(60_000);
    t.order("phone +8613800138000 on");
    let report = t.pass(0);
    assert!(report.ends_with("00\r\n"), "{report}");
    assert_eq!((t.received.len(), t.received[0].text.as_str(), t.engine.counters().expired), (1, "two", 1));
    assert_eq!(t.pass(400_000), "", "its validity is of no account any more");
}
