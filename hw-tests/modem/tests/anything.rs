//! No bytes on the line, from the network or in an order can stop the simulator; and what a text becomes on its way is what it was.

mod talk;

use proptest::prelude::*;
use talk::{Talk, submit};
use twinpost_hw_modem::tpdu::{Deliver, Submit, split};
use twinpost_hw_modem::{FAMILIES, Options, Order, Timing, hex, unhex};

/// What terminals, broken ones too, put on a line.
fn typed() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "AT",
        "at",
        "+CMGS=",
        "+CMGS=20\r",
        "+CMGS=\"1\"\r",
        "+CMGW=20\r",
        "+CNMA=1,20\r",
        "\u{1a}",
        "\u{1b}",
        "\r",
        "\n",
        ";",
        "A/",
        "=?",
        "?",
        "+CPMS=\"ME\",\"SM\"\r",
        "+CMGL=4\r",
        "AT+CMGF=1\r",
        "AT+CMGD=1,4\r",
        "AT+CFUN=1,1\r",
        "+CNMI=2,2,0,1,0\r",
        "AT+CSMS=1\r",
        "S3=",
        "S5=65\r",
        "&F",
        "&",
        "\"",
        ",",
        "00",
        "0011000B91",
        "AT+CPIN=1\r",
        "+CSMP=",
        "255",
        "^SM20=0,0",
        "AT+IPR=9600\r",
        "ATV0Q0E1\r",
        "D12;",
    ]);
    let piece = prop_oneof![
        4 => words.prop_map(|w| w.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 7..60).prop_map(|t| format!("AT+CMGS={}\r00{}\u{1a}", t.len(), hex(&t)).into_bytes()),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|p| p.concat())
}

fn ordered() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "ring",
        "hang",
        "hang before-prompt cfun",
        "hang after-prompt 50",
        "hang sent dtr",
        "reset",
        "reset sent away 5",
        "reset after-prompt",
        "power",
        "dtr",
        "wake",
        "error 500",
        "late 9",
        "cme 3",
        "deregister",
        "register",
        "roam",
        "sim out",
        "sim in",
        "sim locked",
        "pin 1234",
        "storage-full on",
        "storage-full off",
        "capacity 0",
        "capacity 3",
        "receive +4915112345678 hello",
        "receive Name 中文 😀",
        "receive-pdu 00",
        "receive-pdu 06000D91683108108300F062101080000023",
        "receive-pdu 040B",
        "timing radio",
        "timing 5",
        "timing instant",
        "inside RING",
        "line X",
        "report status 70",
        "report delay 3",
        "repeats refuse",
        "baud 9600",
        "baud auto",
        "echo-delay 3",
        "healthy",
        "phone +49 off",
        "phone +49 on",
        "garble 0.5",
        "unsolicited 1",
        "signal 99",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_stops_it(
        family in 0..FAMILIES.len(),
        seed in any::<u64>(),
        steps in prop::collection::vec((typed(), ordered(), 0u64..100), 1..8),
        speed in any::<bool>(),
    ) {
        let mut t = Talk::cold(Options { family: &FAMILIES[family], seed, ..Options::default() });
        for (bytes, order, ms) in steps {
            t.engine.input(t.now, &bytes);
            t.hear();
            t.order(order);
            t.engine.set_line_speed(speed.then_some(115_200));
            t.pass(ms);
            while t.engine.take_port_act().is_some() {}
        }
        // However it was left, power off and on, a card and a network make it a modem again.
        for order in ["healthy", "sim in", "pin none", "baud auto", "timing instant", "storage-full off", "register", "power"] {
            t.order(order);
        }
        t.pass(20_000);
        prop_assert_eq!(t.engine.state().power, "on");
    }

    #[test]
    fn any_octets_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        twinpost_hw_modem::tpdu::fuzz(&octets);
        twinpost_hw_modem::fuzz(&octets);
        if let Ok(deliver) = Deliver::decode(&octets) {
            prop_assert!(deliver.data().is_ok());
        }
        // A first octet and an address that are good bring the rest further in.
        let bent = [&[0x51, 0, 1, 0x81, 0xf1, 0, 0, 0xff], octets.as_slice()].concat();
        let _ = Submit::decode(&bent);
        for coding in [0u8, 4, 8, 0xe0, 0xf4] {
            let length = octets.len().min(140) as u8;
            let head = [0x41, 0, 1, 0x81, 0xf1, 0, coding, length];
            let _ = Submit::decode(&[&head, &octets[..usize::from(length)]].concat());
        }
    }

    #[test]
    fn any_order_is_taken_or_refused(line in ".{0,60}") {
        let _ = Order::parse(&line);
    }

    #[test]
    fn hex_goes_there_and_back(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(unhex(hex(&octets).as_bytes()), Some(octets));
    }

    #[test]
    fn what_phones_send_arrives_whole(text in "\\PC{1,500}", reference in any::<u8>()) {
        let mut whole = String::new();
        let parts = split(&text, reference);
        let count = parts.len();
        for (n, (length, octets, coding, has_header)) in parts.into_iter().enumerate() {
            let from = twinpost_hw_modem::Number::parse("+4915112345678").expect("a number");
            let deliver = Deliver { from, coding, stamp: [0x62, 0x10, 0x10, 0, 0, 0, 0x23], length, octets, has_header, more: false };
            let read = Deliver::decode(&deliver.encode()).and_then(|d| d.data()).expect("it was encoded here");
            prop_assert_eq!(read.concatenation.map(|c| (c.part, c.parts)), (count > 1).then_some((n as u8 + 1, count as u8)));
            whole += &read.text;
        }
        prop_assert_eq!(whole, text);
    }

    /// Messages in a storm of faults: each that was answered with +CMGS is with a phone, none comes twice by itself.
    #[test]
    fn what_was_accepted_was_received(seed in any::<u64>(), n in 1usize..60) {
        let mut t = Talk::new(Options { seed, timing: Timing::Instant, unsolicited: 0.2, ..Options::default() });
        for order in ["chance 0.1 hang sent", "chance 0.1 hang after-prompt", "error 500 0.1", "chance 0.05 hang not-sent"] {
            t.order(order);
        }
        let mut accepted = 0;
        for at in 0..n {
            let answer = t.send(&submit(0, 0, &[], &format!("message {at}")));
            accepted += usize::from(answer.contains("+CMGS: "));
            t.say("\u{1b}");
            t.say("AT\r");
        }
        prop_assert!(t.received.len() >= accepted);
        prop_assert!(t.received.iter().all(|m| !m.duplicate));
    }
}
