//! Against the codec of the simulated modem, which was written from the standards alone and keeps the Indian tables as places in Unicode
//! blocks, not as lists: all tables agree, it reads what we write, and we read what it writes.

use proptest::collection::vec;
use proptest::prelude::*;
use twinpost_gsm::{
    Address, Alphabet, Class, Deliver, Direction, Language, Languages, NumberPlan, NumberType, Options, Pdu, Reader, Reference,
    Status, StatusReport, Submit, Tables, TimeStamp, Validity, segment,
};
use twinpost_hw_modem::{Number, decode, tpdu};

#[test]
fn every_place_of_every_table() {
    let id = |language: Option<Language>| language.map_or(0, Language::id);
    let all = || std::iter::once(None).chain(Language::ALL.into_iter().map(Some));
    let mut places = 0;
    for locking in all() {
        for single in all() {
            let tables = Tables { locking, single };
            // Spanish has no locking shift table: a header that names one is not to be obeyed.
            if locking.is_some_and(|language| !language.has_locking()) {
                continue;
            }
            for septet in 0..128u8 {
                if septet != 0x1B {
                    assert_eq!(decode(&[septet], id(locking), 0), tables.plain(septet).to_string(), "{tables:?} {septet:#04x}");
                }
                // A control position that no single shift table fills: read as the main table's here, as a space there.
                if septet == 0x0D {
                    continue;
                }
                let escaped = decode(&[0x1B, septet], id(locking), id(single));
                assert_eq!(escaped, tables.escaped(septet).to_string(), "{tables:?} escape {septet:#04x}");
                places += 1;
            }
        }
    }
    assert_eq!(places, 13 * 14 * 127);
}

fn character() -> impl Strategy<Value = char> {
    let tables = (0..14usize, any::<(u8, bool)>()).prop_map(|(language, (septet, shifted))| {
        let language = language.checked_sub(1).map(|at| Language::ALL[at]);
        let tables = Tables { locking: language, single: language };
        if shifted { tables.escaped(septet) } else { tables.plain(septet) }
    });
    prop_oneof![6 => proptest::char::range(' ', '~'), 3 => tables, 1 => any::<char>()]
}

fn text() -> impl Strategy<Value = String> {
    let table = (0..13usize, vec(any::<(u8, bool)>(), 0..300)).prop_map(|(language, septets)| {
        let language = Some(Language::ALL[language]);
        let tables = Tables { locking: language, single: language };
        septets.into_iter().map(|(septet, shifted)| if shifted { tables.escaped(septet) } else { tables.plain(septet) }).collect()
    });
    prop_oneof![vec(character(), 0..300).prop_map(String::from_iter), table, "[ -~€]{0,600}"]
}

fn number() -> impl Strategy<Value = String> {
    "\\+?[0-9]{1,20}"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn it_reads_what_we_write(
        text in text(), number in number(), wide in any::<bool>(), languages in 0..0x2000u16, reference in any::<u16>(),
        flags in any::<[bool; 3]>(), flash in any::<bool>(), validity in 0..40_000_000u32, when in 0..3u8,
    ) {
        let options = Options {
            reference: if wide { Reference::Sixteen } else { Reference::Eight },
            languages: Language::ALL.into_iter().filter(|language| languages >> (language.id() - 1) & 1 != 0).collect::<Languages>(),
            ..Options::default()
        };
        let segments = segment(&text, &options).expect("under 255 parts");
        let to = Address::parse(&number).expect("a number");
        let [report, reject_duplicates, reply_path] = flags;
        let mut read = String::new();
        for part in segments.parts(reference) {
            let validity = match when {
                0 => Validity::Unset,
                1 => Validity::at_least_s(validity),
                _ => Validity::Absolute(TimeStamp::from_unix(1_700_000_000 + i64::from(validity), 32)),
            };
            let dcs = segments.dcs(flash.then_some(Class::Flash));
            let (mr, pid) = (reference as u8, 0);
            let submit = Submit { reject_duplicates, report, reply_path, reference: mr, to: to.clone(), pid, dcs, validity, data: part.data };
            let octets = submit.encode();
            let seen = tpdu::Submit::decode(&octets);
            let seen = match seen {
                Ok(seen) => seen,
                Err(error) => return Err(TestCaseError::fail(format!("{error}: {octets:02X?}"))),
            };
            prop_assert_eq!((seen.reject_duplicates, seen.wants_report, seen.reply_path), (reject_duplicates, report, reply_path));
            prop_assert_eq!((seen.reference, seen.protocol, seen.coding), (mr, pid, dcs.0));
            prop_assert_eq!(tpdu::class(seen.coding), flash.then_some(0));
            prop_assert_eq!(seen.to.kind, to.type_octet());
            prop_assert_eq!(&seen.to.value, to.value());
            let wanted = match validity {
                Validity::Absolute(until) => tpdu::Validity::Until(until.unix_s().expect("a time")),
                _ => validity.seconds().map_or(tpdu::Validity::Own, tpdu::Validity::For),
            };
            prop_assert_eq!(seen.validity, wanted);
            prop_assert_eq!(&seen.data.text, part.text);
            let concatenation = seen.data.concatenation.map(|c| (c.reference, c.wide, c.parts, c.part));
            let tied = if wide { reference } else { reference & 0xFF };
            prop_assert_eq!(concatenation, (part.total > 1).then_some((tied, wide, part.total, part.number)));
            if let Alphabet::Septets(tables) = segments.count().alphabet {
                let id = |language: Option<Language>| language.map_or(0, Language::id);
                prop_assert_eq!(seen.data.languages, (id(tables.locking), id(tables.single)));
            }
            read.push_str(&seen.data.text);
        }
        prop_assert_eq!(read, text);
    }

    #[test]
    fn we_read_what_it_writes(text in text(), number in number(), reference in any::<u8>(), more in any::<bool>(), unix_s in 1_000_000_000..2_000_000_000i64, quarters in -79..=79i8) {
        let from = Address::parse(&number).expect("a number");
        let time = TimeStamp::from_unix(unix_s, quarters);
        let mut reader = Reader::new();
        let mut read = String::new();
        let parts = tpdu::split(&text, reference);
        let total = parts.len();
        for (at, (length, octets, coding, has_header)) in parts.into_iter().enumerate() {
            let number = Number { kind: from.type_octet(), value: from.value().to_owned() };
            let written = tpdu::Deliver { from: number, coding, stamp: time.0, length, octets, has_header, more }.encode();
            let Ok(Pdu::Deliver(deliver)) = Pdu::decode(&written, Direction::ToMobile) else {
                return Err(TestCaseError::fail("no DELIVER"));
            };
            prop_assert_eq!(deliver.encode().to_vec(), written);
            let Deliver { more: mms, from: seen, time: stamp, data, dcs, .. } = deliver;
            prop_assert_eq!((mms, &seen, stamp), (more, &from, time));
            let concatenation = data.info().concatenation.map(|c| (c.reference, c.wide, usize::from(c.total), usize::from(c.number)));
            prop_assert_eq!(concatenation, (total > 1).then_some((reference.into(), false, total, at + 1)));
            read.extend(reader.part(dcs, &data));
        }
        read.extend(reader.end());
        prop_assert_eq!(read, text);
    }

    #[test]
    fn we_read_its_reports(digits in "[0-9]{1,20}", reference in any::<u8>(), status in any::<u8>(), sent in any::<[u8; 7]>(), done in any::<[u8; 7]>()) {
        let number = Number { kind: 0x91, value: digits.clone() };
        let octets = tpdu::status_report(reference, &number, sent, done, status);
        let wanted = StatusReport {
            more: false,
            forwarded: false,
            about_command: false,
            reference,
            to: Address::number(NumberType::International, NumberPlan::Telephone, &digits).expect("fits"),
            time: TimeStamp(sent),
            discharge: TimeStamp(done),
            status: Status(status),
            pid: None,
            dcs: None,
            data: None,
        };
        prop_assert_eq!(Pdu::decode(&octets, Direction::ToMobile), Ok(Pdu::StatusReport(wanted)));
    }
}
