//! Commands and their answers, as 27.005, 27.007 and V.250 have them.

mod talk;

use talk::{Talk, submit};
use twinpost_hw_modem::{Card, FAMILIES, Family, Options};

#[test]
fn lines_echo_repeat_and_numbers() {
    let mut t = Talk::cold(Options::default());
    assert_eq!(t.say("at\r"), "at\r\r\nOK\r\n");
    assert_eq!(t.say("AT+CSQ;+CREG?\r"), "AT+CSQ;+CREG?\r\r\n+CSQ: 21,0\r\n\r\n+CREG: 0,1\r\n\r\nOK\r\n");
    assert_eq!(t.say("ATE0\r"), "ATE0\r\r\nOK\r\n");
    assert_eq!(t.say("AT+CSQ\r"), "\r\n+CSQ: 21,0\r\n\r\nOK\r\n");
    assert_eq!(t.say("A/"), "\r\n+CSQ: 21,0\r\n\r\nOK\r\n");
    assert_eq!(t.say("ATV0\r"), "0\r");
    assert_eq!(t.say("AT+NONSENSE\r"), "4\r");
    assert_eq!(t.say("ATV1Q1\r"), "");
    assert_eq!(t.say("ATQ0\r"), "\r\nOK\r\n");
    assert_eq!(t.say("ATS3?\r"), "\r\n013\r\n\r\nOK\r\n");
    assert_eq!(t.say("ATI\r"), format!("\r\nTwinpost\r\nSimulated modem\r\n{}\r\n\r\nOK\r\n", env!("CARGO_PKG_VERSION")));
    // An error ends the line: what follows it is not carried out.
    assert_eq!(t.say("AT+NONSENSE;+CSQ\r"), "\r\nERROR\r\n");
    // Backspace; and no answer to what is no command.
    assert_eq!(t.say("AT+CSX\u{8}Q\r"), "\r\n+CSQ: 21,0\r\n\r\nOK\r\n");
    assert_eq!(t.say("hello\r\r\r"), "");
    assert_eq!(t.say("ATZ\r"), "\r\nOK\r\n");
    assert_eq!(t.say("AT\r"), "AT\r\r\nOK\r\n");
}

#[test]
fn errors_by_cmee() {
    let mut t = Talk::new(Options { card: Card::Out, ..Options::default() });
    assert_eq!(t.say("AT+CPIN?\r"), "\r\nERROR\r\n");
    t.say("AT+CMEE=1\r");
    assert_eq!(t.say("AT+CPIN?\r"), "\r\n+CME ERROR: 10\r\n");
    t.say("AT+CMEE=2\r");
    assert_eq!(t.say("AT+CIMI\r"), "\r\n+CME ERROR: SIM not inserted\r\n");
    assert_eq!(t.say("AT+CMGS=20\r"), "\r\n+CMS ERROR: 310\r\n");
    assert_eq!(t.say("AT+CREG?\r"), "\r\n+CREG: 0,0\r\n\r\nOK\r\n");
}

#[test]
fn three_wrong_pins_lock_the_sim() {
    let mut t = Talk::new(Options { pin: Some("1234".to_owned()), ..Options::default() });
    t.say("AT+CMEE=1\r");
    assert_eq!(t.say("AT+CPIN?\r"), "\r\n+CPIN: SIM PIN\r\n\r\nOK\r\n");
    assert_eq!(t.say("AT+CIMI\r"), "\r\n+CME ERROR: 11\r\n");
    assert_eq!(t.say("AT+CMGS=20\r"), "\r\n+CMS ERROR: 311\r\n");
    assert_eq!(t.say("AT+CPIN=\"0000\"\r"), "\r\n+CME ERROR: 16\r\n");
    assert_eq!(t.say("AT+CPIN=0001\r"), "\r\n+CME ERROR: 16\r\n");
    assert_eq!(t.say("AT+CPIN=\"0002\"\r"), "\r\n+CME ERROR: 12\r\n");
    assert_eq!(t.engine.counters().wrong_pins, 3);
    assert_eq!(t.say("AT+CPIN=\"1234\"\r"), "\r\n+CME ERROR: 12\r\n");
    assert_eq!(t.say("AT+CPIN?\r"), "\r\n+CPIN: SIM PUK\r\n\r\nOK\r\n");
    assert_eq!(t.say("AT+CPIN=\"12345678\",\"4321\"\r"), "\r\nOK\r\n");
    t.say("AT+CREG=1\r");
    t.pass(10);
    assert_eq!(t.say("AT+CPIN?;+CREG?\r"), "\r\n+CPIN: READY\r\n\r\n+CREG: 1,1\r\n\r\nOK\r\n");
}

#[test]
fn each_family_says_who_it_is_and_sends() {
    for family in FAMILIES {
        let mut t = Talk::new(Options { family, ..Options::default() });
        assert_eq!(t.say("AT+CGMI;+CGMM\r"), format!("\r\n{}\r\n\r\n{}\r\n\r\nOK\r\n", family.manufacturer, family.model));
        t.pass(1000);
        assert_eq!(t.say("AT+CMGF=0\r"), "\r\nOK\r\n");
        t.pass(1000);
        let tpdu = submit(0, 7, &[], "hello");
        assert_eq!(t.say(&format!("AT+CMGS={}\r", tpdu.len())), format!("\r\n{}", family.prompt));
        t.pass(1000);
        let answer = t.say(&format!("00{}\u{1a}", twinpost_hw_modem::hex(&tpdu)));
        let reference = if family.counts_references { 0 } else { 7 };
        assert_eq!(answer, format!("\r\n+CMGS: {reference}\r\n\r\nOK\r\n"), "{}", family.name);
        assert_eq!(t.received[0].text, "hello");
    }
}

#[test]
fn siemens_hide_a_failure_until_told() {
    let family = Family::named("mc35i").expect("it is in the list");
    let mut t = Talk::new(Options { family, ..Options::default() });
    t.order("error 500 2");
    assert_eq!(t.send(&submit(0, 0, &[], "a")), "\r\nOK\r\n");
    assert_eq!(t.say("AT^SM20=0,0\r"), "\r\nOK\r\n");
    assert_eq!(t.send(&submit(0, 0, &[], "a")), "\r\n+CMS ERROR: 500\r\n");
    assert_eq!(t.send(&submit(0, 0, &[], "b")), "\r\n+CMGS: 0\r\n\r\nOK\r\n");
}

#[test]
fn nokia_cables_lose_what_comes_without_gaps() {
    let family = Family::named("nokia").expect("it is in the list");
    let mut t = Talk::new(Options { family, ..Options::default() });
    t.pass(1000);
    let tpdu = submit(0, 0, &[], &"x".repeat(150));
    let line = format!("00{}\u{1a}", twinpost_hw_modem::hex(&tpdu));
    t.say(&format!("AT+CMGS={}\r", tpdu.len()));
    assert_eq!(t.say(&line), "");
    assert!(t.engine.counters().overrun > 100);
    t.pass(1000);
    t.say("\u{1b}");
    t.say(&format!("AT+CMGS={}\r", tpdu.len()));
    let mut answer = String::new();
    for part in line.as_bytes().chunks(32) {
        t.pass(5);
        answer = t.say(std::str::from_utf8(part).expect("ASCII"));
    }
    assert_eq!(answer, "\r\n+CMGS: 0\r\n\r\nOK\r\n");
}

#[test]
fn storing_listing_reading_deleting() {
    let mut t = Talk::new(Options { capacity: Some(2), ..Options::default() });
    t.say("AT+CNMI=2,1\r");
    t.order("receive +4915112345678 one");
    assert_eq!(t.hear(), "\r\n+CMTI: \"SM\",1\r\n");
    t.order("receive +4915112345678 two");
    t.hear();
    t.order("receive +4915112345678 three");
    assert_eq!(t.hear(), "", "it waits at the service centre: the memory is full");
    assert_eq!(t.say("AT+CPMS?\r"), "\r\n+CPMS: \"SM\",2,2,\"SM\",2,2,\"SM\",2,2\r\n\r\nOK\r\n");
    let one = "0891683108100005F0040D91945111325476F8000062101080000023036F7719";
    assert_eq!(t.say("AT+CMGR=1\r"), format!("\r\n+CMGR: 0,,{}\r\n{one}\r\n\r\nOK\r\n", one.len() / 2 - 9));
    let list = t.say("AT+CMGL=0\r");
    assert!(list.starts_with("\r\n+CMGL: 2,0,,23\r\n"), "{list}");
    assert_eq!(t.say("AT+CMGD=1\r"), "\r\nOK\r\n\r\n+CMTI: \"SM\",1\r\n");
    assert_eq!(t.say("AT+CMGR=9\r"), "\r\n+CMS ERROR: 321\r\n");
    assert_eq!(t.say("AT+CMGD=1,4\r"), "\r\nOK\r\n");
    assert_eq!(t.say("AT+CMGL=4\r"), "\r\nOK\r\n");
    let tpdu = submit(0, 0, &[], "kept");
    t.say(&format!("AT+CMGW={}\r", tpdu.len()));
    assert_eq!(t.say(&format!("00{}\u{1a}", twinpost_hw_modem::hex(&tpdu))), "\r\n+CMGW: 1\r\n\r\nOK\r\n");
    assert_eq!(t.say("AT+CMSS=1\r"), "\r\n+CMSS: 0\r\n\r\nOK\r\n");
    assert_eq!(t.received[0].text, "kept");
    t.order("storage-full on");
    t.say(&format!("AT+CMGW={}\r", tpdu.len()));
    assert_eq!(t.say(&format!("00{}\u{1a}", twinpost_hw_modem::hex(&tpdu))), "\r\n+CMS ERROR: 322\r\n");
}

#[test]
fn direct_messages_and_their_acknowledgement() {
    let mut t = Talk::new(Options::default());
    assert_eq!(t.say("AT+CNMA\r"), "\r\n+CMS ERROR: 340\r\n");
    assert_eq!(t.say("AT+CSMS=1\r"), "\r\n+CSMS: 1,1,1\r\n\r\nOK\r\n");
    t.say("AT+CNMI=2,2,0,1,0\r");
    t.order("receive +4915112345678 one");
    t.order("receive +4915112345678 two");
    let first = t.hear();
    assert!(first.starts_with("\r\n+CMT: ,23\r\n0891683108100005F004") && first.matches("+CMT").count() == 1, "{first}");
    let then = t.say("AT+CNMA\r");
    assert!(then.starts_with("\r\nOK\r\n\r\n+CMT: ,23\r\n"), "{then}");
    // No acknowledgement in time: back to the service centre, and routing ends (27.005 3.4.4).
    t.pass(20_000);
    assert_eq!(t.say("AT+CNMI?\r"), "\r\n+CNMI: 2,0,0,0,0\r\n\r\nOK\r\n");
    assert_eq!(t.say("AT+CPMS?\r"), "\r\n+CPMS: \"SM\",1,50,\"SM\",1,50,\"SM\",1,50\r\n\r\nOK\r\n");
    assert_eq!(t.engine.counters().acknowledged, 1);
}

#[test]
fn ec25_gives_nothing_before_the_first_acknowledgement() {
    let family = Family::named("ec25").expect("it is in the list");
    let mut t = Talk::new(Options { family, ..Options::default() });
    t.say("AT+CNMI=2,1\r");
    t.order("receive +4915112345678 one");
    assert_eq!(t.hear(), "");
    assert_eq!(t.say("AT+CNMA\r"), "\r\nOK\r\n\r\n+CMTI: \"ME\",1\r\n");
}

#[test]
fn status_reports_come_as_asked() {
    let mut t = Talk::new(Options { report_delay_ms: 5000, ..Options::default() });
    t.say("AT+CNMI=2,1,0,1,0\r");
    assert_eq!(t.send(&submit(0x20, 0, &[], "a")), "\r\n+CMGS: 0\r\n\r\nOK\r\n");
    assert_eq!(t.pass(4999), "");
    // First octet, TP-MR, TP-RA, TP-SCTS, TP-DT, TP-ST: 2026-01-01 08:00:00 +08 and five seconds later.
    let report = "0600\
                  0D91683108108300F0\
                  62101080000023\
                  62101080005023\
                  00";
    assert_eq!(t.pass(1), format!("\r\n+CDS: 26\r\n0891683108100005F0{report}\r\n"));
    t.order("report status 70");
    t.say("AT+CNMI=2,1,0,2,0\r");
    t.send(&submit(0x20, 0, &[], "b"));
    assert_eq!(t.pass(5000), "\r\n+CDSI: \"SM\",1\r\n");
    assert!(t.say("AT+CMGR=1\r").contains("46\r\n"), "TP-ST 0x46");
    t.order("report off");
    t.send(&submit(0x20, 0, &[], "c"));
    assert_eq!(t.pass(100_000), "");
}

#[test]
fn text_mode() {
    let mut t = Talk::new(Options::default());
    t.say("AT+CMGF=1;+CSCS=\"IRA\"\r");
    assert_eq!(t.say("AT+CMGS=\"+4915112345678\"\r"), "\r\n> ");
    assert_eq!(t.say("Hello [World]\u{1a}"), "\r\n+CMGS: 0\r\n\r\nOK\r\n");
    assert_eq!((t.received[0].text.as_str(), t.received[0].number.as_str()), ("Hello [World]", "+4915112345678"));
    t.say("AT+CSCS=\"UCS2\";+CSMP=17,167,0,8\r");
    t.say("AT+CMGS=\"13800138000\"\r");
    t.say("4E2D6587\u{1a}");
    assert_eq!((t.received[1].text.as_str(), t.received[1].number.as_str()), ("中文", "13800138000"));
    t.say("AT+CSCS=\"GSM\"\r");
    t.order("receive Bank code 42");
    assert_eq!(
        t.say("AT+CMGL=\"ALL\"\r"),
        "\r\n+CMGL: 1,\"REC UNREAD\",\"Bank\",,\"26/01/01,08:00:00+32\"\r\ncode 42\r\n\r\nOK\r\n"
    );
}

#[test]
fn a_pdu_must_be_what_it_says() {
    let mut t = Talk::new(Options::default());
    let tpdu = submit(0, 0, &[], "hello");
    let bad = "\r\n+CMS ERROR: 304\r\n";
    assert_eq!(t.say("AT+CMGS=6\r"), bad);
    assert_eq!(t.say("AT+CMGS=177\r"), bad);
    t.say(&format!("AT+CMGS={}\r", tpdu.len() - 1));
    assert_eq!(t.say(&format!("00{}\u{1a}", twinpost_hw_modem::hex(&tpdu))), bad);
    t.say(&format!("AT+CMGS={}\r", tpdu.len()));
    assert_eq!(t.say("00XY\u{1a}"), bad);
    t.say(&format!("AT+CMGS={}\r", tpdu.len()));
    assert_eq!(t.say("0011\u{1b}"), "\r\nOK\r\n");
    let long = [tpdu.as_slice(), &[0]].concat();
    assert_eq!(t.send(&long), bad, "octets behind the user data");
    assert!(t.received.is_empty());
    assert_eq!(t.engine.counters().cancelled, 1);
    t.say("AT+CSCA=\"\"\r");
    assert_eq!(t.send(&tpdu), "\r\n+CMS ERROR: 330\r\n");
}
