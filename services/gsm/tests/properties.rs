//! What must hold for every text, every PDU and every octet. proptest prints the seed of a failure.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use twinpost_gsm::{
    Address, Alphabet, Coding, Command, Concatenation, Dcs, Deliver, DeliverReport, Direction, EnhancedValidity, Framed, Joiner,
    Language, Languages, NumberPlan, NumberType, Options, Pdu, Ports, Pushed, Reader, Reference, Status, StatusReport, Submit,
    SubmitReport, Tables, TimeStamp, UserData, Validity, count, fuzz, segment, simplify,
};

/// Characters of all the tables, of Chinese, of emoji sequences, and any other.
fn character() -> impl Strategy<Value = char> {
    let tables =
        (option::of(0..13usize), option::of(0..13usize), any::<(u8, bool)>()).prop_map(|(locking, single, (septet, shifted))| {
            let tables = Tables { locking: locking.map(|at| Language::ALL[at]), single: single.map(|at| Language::ALL[at]) };
            if shifted { tables.escaped(septet) } else { tables.plain(septet) }
        });
    prop_oneof![
        6 => proptest::char::range(' ', '~'),
        3 => tables,
        2 => proptest::char::range('\u{4E00}', '\u{9FFF}'),
        1 => prop::sample::select(vec!['\u{301}', '\u{200D}', '\u{FE0F}', '👩', '🇨', '🇳', '\u{1F3FD}', '\r', '\n', '\u{94D}', '“', '…', '€', '\u{1100}', '\u{1161}']),
        1 => any::<char>(),
    ]
}

fn text() -> impl Strategy<Value = String> {
    let mixed = vec(character(), 0..400).prop_map(String::from_iter);
    let one_table = (vec((any::<u8>(), any::<bool>()), 0..500), 0..14usize, 0..14usize).prop_map(|(septets, locking, single)| {
        let language = |at: usize| at.checked_sub(1).map(|at| Language::ALL[at]);
        let tables = Tables { locking: language(locking), single: language(single) };
        septets.into_iter().map(|(septet, shifted)| if shifted { tables.escaped(septet) } else { tables.plain(septet) }).collect()
    });
    prop_oneof![mixed, one_table, "[a-z €{}]{0,700}", "\\PC{0,300}"]
}

fn options() -> impl Strategy<Value = Options> {
    (any::<bool>(), 0..0x2000u16, any::<bool>(), option::of(any::<(u16, u16)>())).prop_map(
        |(wide, languages, simplify, ports)| Options {
            reference: if wide { Reference::Sixteen } else { Reference::Eight },
            languages: Language::ALL.into_iter().filter(|language| languages >> (language.id() - 1) & 1 != 0).collect(),
            parts_max: 255,
            simplify,
            ports: ports.map(|(destination, source)| Ports { destination, source }),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// Split, put into SUBMIT, encoded, decoded, shuffled, joined, read: the same text.
    #[test]
    fn every_text_survives(text in text(), options in options(), reference in any::<u16>(), shuffle in any::<u64>()) {
        let segments = segment(&text, &options).expect("under 255 parts");
        let says = count(&text, &options);
        prop_assert_eq!(says, segments.count());
        prop_assert_eq!(says.parts, u32::from(segments.total()));
        let wanted: String = if says.simplified {
            text.chars().map(|c| match Tables::DEFAULT.code(c) {
                Some(_) => c.to_string(),
                None => simplify(c).expect("has a plain form").to_owned(),
            }).collect()
        } else {
            text.clone()
        };
        let to = Address::parse("+8613800138000").expect("a number");
        let mut pieces = String::new();
        let mut units = 0;
        let mut arrived = Vec::new();
        for (at, part) in segments.parts(reference).enumerate() {
            prop_assert_eq!(usize::from(part.number), at + 1);
            prop_assert!(part.data.octets().len() <= 140);
            pieces.push_str(part.text);
            let submit = Submit::new(to.clone(), segments.dcs(None), part.data);
            let octets = Pdu::Submit(submit.clone()).encode();
            let back = Pdu::decode(&octets, Direction::FromMobile);
            prop_assert_eq!(&back, &Ok(Pdu::Submit(submit.clone())));
            // Nothing torn: every part reads by itself as its piece.
            if !says.simplified {
                prop_assert_eq!(submit.data.text(submit.dcs).collect::<String>(), part.text);
            }
            units += match says.alphabet {
                Alphabet::Ucs2 => submit.data.payload().len() as u32 / 2,
                Alphabet::Septets(_) => u32::from(submit.data.length()) - (submit.data.header_octets() as u32 * 8).div_ceil(7),
            };
            arrived.push(submit);
        }
        prop_assert_eq!(&pieces, &text);
        prop_assert_eq!(units, says.units);

        let mut joiner = Joiner::<Submit, 1, 255>::new();
        let mut read = String::new();
        let mut reader = Reader::new();
        if let [one] = arrived.as_slice() {
            prop_assert!(one.data.info().concatenation.is_none());
            read.extend(reader.part(one.dcs, &one.data));
        } else {
            let mut order: Vec<usize> = (0..arrived.len()).collect();
            let mut state = shuffle | 1;
            for at in (1..order.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                order.swap(at, (state >> 33) as usize % (at + 1));
            }
            for (n, at) in order.iter().enumerate() {
                let part = &arrived[*at];
                let concatenation = part.data.info().concatenation.expect("a part");
                match joiner.push(&to, concatenation, n as i64, part.clone(), |lost| panic!("{lost:?}")) {
                    Pushed::Complete(complete) => {
                        prop_assert_eq!(n + 1, order.len());
                        for part in joiner.take(complete) {
                            read.extend(reader.part(part.dcs, &part.data));
                        }
                    }
                    Pushed::Waiting { have, .. } => prop_assert_eq!(usize::from(have), n + 1),
                    Pushed::Duplicate(_) => prop_assert!(false, "no part came twice"),
                }
            }
        }
        read.extend(reader.end());
        prop_assert_eq!(read, wanted);
        prop_assert!(joiner.is_empty());
    }

    /// No pair of the tables allowed is cheaper, and none is taken where the default alphabet does as well.
    #[test]
    fn the_cheapest_alphabet(text in text(), options in options()) {
        let options = Options { simplify: false, ports: None, ..options };
        let says = count(&text, &options);
        let mut pairs = vec![Tables::DEFAULT];
        for locking in std::iter::once(None).chain(options.languages.iter().filter(|language| language.has_locking()).map(Some)) {
            for single in std::iter::once(None).chain(options.languages.iter().map(Some)) {
                pairs.push(Tables { locking, single });
            }
        }
        for tables in pairs {
            let Some(septets) = text.chars().try_fold(0, |sum, c| Some(sum + u32::from(tables.code(c)?.septets()))) else { continue };
            let headers = 3 * (u32::from(tables.locking.is_some()) + u32::from(tables.single.is_some()));
            let alone = (140 - if headers == 0 { 0 } else { headers + 1 }) * 8 / 7;
            if septets <= alone {
                prop_assert_eq!(says.parts, 1, "{:?} takes one part", tables);
            }
            if tables == Tables::DEFAULT && (septets <= alone || says.alphabet == Alphabet::Ucs2) {
                prop_assert_eq!(says.alphabet, Alphabet::Septets(Tables::DEFAULT));
            }
            if septets <= alone && says.parts == 1 {
                let better = match says.alphabet {
                    Alphabet::Septets(chosen) => chosen == Tables::DEFAULT || says.units <= septets,
                    Alphabet::Ucs2 => false,
                };
                prop_assert!(better, "{:?} takes {} septets, taken was {:?}", tables, septets, says);
            }
        }
    }
}

fn address() -> impl Strategy<Value = Address> {
    let kind = prop::sample::select(vec![
        NumberType::Unknown,
        NumberType::International,
        NumberType::National,
        NumberType::Network,
        NumberType::Subscriber,
        NumberType::Abbreviated,
        NumberType::Reserved,
    ]);
    let plan = (0..16u8).prop_map(|bits| match bits {
        0 => NumberPlan::Unknown,
        1 => NumberPlan::Telephone,
        other => NumberPlan::Other(other),
    });
    prop_oneof![
        3 => (kind, plan, "[0-9*#abc]{0,20}").prop_map(|(kind, plan, digits)| Address::number(kind, plan, &digits).expect("fits")),
        1 => "[A-Za-z0-9@ £$ΔÄöñ_]{0,11}".prop_map(|name| Address::name(&name).expect("fits")),
        1 => "[a-z€{}]{0,5}".prop_map(|name| Address::name(&name).expect("fits")),
    ]
}

/// User data with a coding that it fits.
fn user_data() -> impl Strategy<Value = (Dcs, UserData)> {
    let header = option::of((any::<u16>(), any::<bool>(), 1..=255u8));
    let septets = ("[ -Z]{0,140}", header, option::of(0..4u8)).prop_map(|(text, header, class)| {
        let elements: Vec<_> = header
            .map(|(reference, wide, total)| {
                let reference = if wide { reference } else { reference & 0xFF };
                twinpost_gsm::Element::Concatenation(Concatenation { wide, reference, total, number: 1 })
            })
            .into_iter()
            .collect();
        let data = UserData::from_septets(&elements, Tables::DEFAULT, &text).expect("fits");
        (Dcs(class.map_or(0, |class| 0x10 | class)), data)
    });
    let octets = (any::<bool>(), vec(any::<u8>(), 0..=140), prop::sample::select(vec![0x04u8, 0x08, 0x15, 0x18, 0xE0, 0xF5]))
        .prop_map(|(header, octets, dcs)| (Dcs(dcs), UserData::from_octets(header, &octets).expect("fits")));
    prop_oneof![septets, octets]
}

fn stamp() -> impl Strategy<Value = TimeStamp> {
    prop_oneof![
        any::<[u8; 7]>().prop_map(TimeStamp),
        (0..4_000_000_000i64, -79..=79i8).prop_map(|(s, zone)| TimeStamp::from_unix(s, zone))
    ]
}

fn flags() -> impl Strategy<Value = [bool; 4]> {
    any::<[bool; 4]>()
}

fn optional() -> impl Strategy<Value = (Option<u8>, Option<Dcs>, Option<UserData>)> {
    (option::of(any::<u8>()), option::of(user_data()), any::<bool>()).prop_map(|(pid, data, bare)| match data {
        // Without TP-DCS user data is in the default alphabet.
        Some((Dcs(0), data)) if bare => (pid, None, Some(data)),
        Some((dcs, data)) => (pid, Some(dcs), Some(data)),
        None => (pid, None, None),
    })
}

fn pdu() -> impl Strategy<Value = (Direction, Pdu)> {
    let validity = prop_oneof![
        Just(Validity::Unset),
        any::<u8>().prop_map(Validity::Relative),
        stamp().prop_map(Validity::Absolute),
        any::<[u8; 7]>().prop_map(|octets| Validity::Enhanced(EnhancedValidity(octets))),
    ];
    let submit = (flags(), any::<(u8, u8)>(), address(), validity, user_data()).prop_map(
        |(flags, (reference, pid), to, validity, (dcs, data))| {
            let [reject_duplicates, report, reply_path, _] = flags;
            Pdu::Submit(Submit { reject_duplicates, report, reply_path, reference, to, pid, dcs, validity, data })
        },
    );
    let deliver = (flags(), any::<u8>(), address(), stamp(), user_data()).prop_map(|(flags, pid, from, time, (dcs, data))| {
        let [more, forwarded, report, reply_path] = flags;
        Pdu::Deliver(Deliver { more, forwarded, report, reply_path, from, pid, dcs, time, data })
    });
    let status = (flags(), any::<(u8, u8)>(), address(), stamp(), stamp(), optional()).prop_map(
        |([more, forwarded, about_command, _], (reference, status), to, time, discharge, (pid, dcs, data))| {
            let status = Status(status);
            Pdu::StatusReport(StatusReport {
                more,
                forwarded,
                about_command,
                reference,
                to,
                time,
                discharge,
                status,
                pid,
                dcs,
                data,
            })
        },
    );
    let cause = || option::of(0x80..=0xFFu8);
    let submit_report = (cause(), stamp(), optional())
        .prop_map(|(cause, time, (pid, dcs, data))| Pdu::SubmitReport(SubmitReport { cause, time, pid, dcs, data }));
    let deliver_report =
        (cause(), optional()).prop_map(|(cause, (pid, dcs, data))| Pdu::DeliverReport(DeliverReport { cause, pid, dcs, data }));
    let command = (any::<[u8; 4]>(), any::<(bool, bool)>(), address(), vec(any::<u8>(), 0..=156)).prop_map(
        |([reference, pid, command, message], (report, has_header), to, data)| {
            let data = data.into_iter().collect();
            Pdu::Command(Command { report, has_header, reference, pid, command, message, to, data })
        },
    );
    prop_oneof![
        3 => submit.prop_map(|pdu| (Direction::FromMobile, pdu)),
        3 => deliver.prop_map(|pdu| (Direction::ToMobile, pdu)),
        2 => status.prop_map(|pdu| (Direction::ToMobile, pdu)),
        1 => submit_report.prop_map(|pdu| (Direction::ToMobile, pdu)),
        1 => deliver_report.prop_map(|pdu| (Direction::FromMobile, pdu)),
        1 => command.prop_map(|pdu| (Direction::FromMobile, pdu)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    /// Every PDU is read as it was written.
    #[test]
    fn pdus_come_back((direction, pdu) in pdu(), centre in option::of("[0-9]{1,20}")) {
        prop_assert_eq!(Pdu::decode(&pdu.encode(), direction), Ok(pdu.clone()));
        let centre = centre.map(|digits| Address::number(NumberType::International, NumberPlan::Telephone, &digits).expect("fits"));
        let framed = Framed { centre, pdu };
        prop_assert_eq!(Framed::decode(&framed.encode(), direction), Ok(framed));
    }

    /// Cut short or changed PDUs are refused or read, never more.
    #[test]
    fn damaged_pdus((direction, pdu) in pdu(), cut in any::<prop::sample::Index>(), flip in any::<(prop::sample::Index, u8)>()) {
        let mut octets = pdu.encode();
        let whole = octets.len();
        fuzz(&octets[..cut.index(whole + 1)]);
        let at = flip.0.index(whole);
        octets[at] ^= flip.1;
        fuzz(&octets);
        let _ = Pdu::decode(&octets, direction);
    }

    #[test]
    fn any_octets(octets in vec(any::<u8>(), 0..300)) {
        fuzz(&octets);
    }

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        fuzz(text.as_bytes());
    }

    #[test]
    fn time_comes_back(unix_s in 631_152_000 + 79 * 900..3_786_911_999i64 - 79 * 900, quarters in -79..=79i8) {
        let stamp = TimeStamp::from_unix(unix_s, quarters);
        prop_assert_eq!(stamp.unix_s(), Some(unix_s));
        prop_assert_eq!(stamp.quarters(), quarters);
    }

    #[test]
    fn any_time(octets in any::<[u8; 7]>(), unix_s in any::<i64>(), quarters in any::<i8>()) {
        let _ = (TimeStamp(octets).unix_s(), TimeStamp(octets).to_string());
        prop_assert!(TimeStamp::from_unix(unix_s, quarters).unix_s().is_some());
        let enhanced = EnhancedValidity(octets);
        let _ = (enhanced.seconds(), enhanced.single_shot());
    }

    /// Numbers as people write them.
    #[test]
    fn numbers(digits in "[0-9]{1,20}", plus in any::<bool>(), gaps in vec((any::<prop::sample::Index>(), prop::sample::select(vec![' ', '-', '.', '(', ')'])), 0..6)) {
        let plain = if plus { format!("+{digits}") } else { digits };
        let mut written: Vec<char> = plain.chars().collect();
        for (at, gap) in gaps {
            let at = at.index(written.len()) + 1;
            written.insert(at, gap);
        }
        let address = Address::parse(&String::from_iter(written)).expect("a number");
        prop_assert_eq!(address.to_string(), plain);
        prop_assert!(address.is_number());
    }
}

/// Where a character stands is where it is read again, in every pair of tables.
#[test]
fn tables_agree_both_ways() {
    let all = || std::iter::once(None).chain(Language::ALL.into_iter().map(Some));
    for locking in all() {
        for single in all() {
            let tables = Tables { locking, single };
            for septet in (0..128).filter(|septet| *septet != 0x1B) {
                for (c, escaped) in [(tables.plain(septet), false), (tables.escaped(septet), true)] {
                    let back = match tables.code(c) {
                        Some(twinpost_gsm::Code::Plain(septet)) => tables.plain(septet),
                        Some(twinpost_gsm::Code::Escaped(septet)) => tables.escaped(septet),
                        None => panic!("{tables:?} reads {septet:#04x} ({escaped}) as {c:?} and cannot write it"),
                    };
                    assert_eq!(back, c);
                }
            }
            assert_eq!(tables.code('\u{1B}'), None);
        }
    }
    assert_eq!(Languages::ALL.iter().count(), 13);
    assert_eq!(Dcs::new(Coding::Septets, None), Dcs::default());
}
