//! Published vectors: PDUs and their parts as the standards' examples and other people's test suites state them (facts; the source stands
//! at each group). Contract: each is read to what its source says, and, where its writer kept to the standard, written again to the same
//! octets.

use std::fmt::Write as _;

use twinpost_gsm::{
    Class, Coding, Concatenation, Dcs, Direction, Element, Elements, Language, NumberType, Pdu, Ports, Tables, TimeStamp,
    UserData, Validity, Waiting, WaitingKind, septet,
};

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).expect("hex in the vector")).collect()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut out, octet| {
        write!(out, "{octet:02X}").expect("a string takes all");
        out
    })
}

/// Text in the default alphabet and its septets, packed.
#[test]
fn packed_text() {
    let vectors = [
        // Known since GSM 03.40 tutorials; smspdudecoder, codecs.py doctests
        ("hellohello", "E8329BFD4697D9EC37"),
        ("How are you?", "C8F71D14969741F977FD07"),
        ("2 € par mois", "32D0A60C8287E5A0F63B3D07"),
        ("1234567", "31D98C56B3DD00"),
        // python-gsmmodem, test_pdu.py, TestGsm7
        ("123", "31D90C"),
        ("12345678", "31D98C56B3DD70"),
        ("123456789", "31D98C56B3DD7039"),
        ("Hello World!", "C8329BFD065DDF72363904"),
        ("[{abc}]~", "1BDE0615168F37A98D6FD303"),
        ("123456789012345678901234567890", "31D98C56B3DD7039584C36A3D56C375C0E1693CD6835DB0D978301"),
        ("{åΦΓΛΩΠΨΣΘ€}", "1BD44332A1542C174C6653DEA400"),
        ("a[]{}€", "E10D6FE3DBA036A94D19"),
    ];
    for (text, packed) in vectors {
        let data = UserData::from_septets(&[], Tables::DEFAULT, text).expect("in the default alphabet");
        assert_eq!(hex(data.octets()), packed, "{text}");
        assert_eq!(data.text(Dcs(0)).collect::<String>(), text);
    }
}

/// The padding of seven spare bits. TS 23.038 6.1.2.3.1; smspdudecoder, codecs.py doctests.
#[test]
fn padded_text() {
    let vectors: [(&str, &str, &str); 4] = [
        ("1234567", "31D98C56B3DD1A", "1234567"),
        ("*115*5#", "AA58ACA6AA8D1A", "*115*5#"),
        // A carriage return meant as such on an octet boundary gets a second; the receiver then drops one.
        ("1234567\r", "31D98C56B3DD1A0D", "1234567\r"),
        ("hello", "E8329BFD06", "hello"),
    ];
    for (text, packed, read) in vectors {
        let mut out = heapless::Vec::<u8, 32>::new();
        septet::pack_padded(text.as_bytes(), &mut out).expect("room");
        assert_eq!(hex(&out), packed, "{text:?}");
        let back = septet::unpack_padded(&octets(packed)).map(char::from).collect::<String>();
        assert_eq!(back, read, "{packed}");
    }
}

/// Every language with its tables; texts packed by an independent script from the tables of oFono (src/util.c, TS 23.038 annex A).
#[test]
fn national_tables() {
    type Vector = (Option<Language>, Option<Language>, &'static str, u8, &'static str);
    let vectors: &[Vector] = &[
        (
            Some(Language::Turkish),
            None,
            "İyi akşamlar, değerli ağabey. Işık söndü mü? Ğ",
            51,
            "0325010100E6D3A0F0BA136EB3C37216885C6694E5EC3428CC088BCB791728D939AC4173BE9BEC07B5FD3FD002",
        ),
        (
            None,
            Some(Language::Turkish),
            "Şu dağın ıssız yamacı: İçel, €5",
            45,
            "03240101D84CEB20727873DEA4DDA04D7A3EDFA4F5A07CB81D1E6FD23AD026B91997D92CD0A65C03",
        ),
        (
            None,
            Some(Language::Spanish),
            "¿Qué tal? El camión ya está aquí, allá: ÁÍÓÚ úç",
            62,
            "032401020047EB05103DCCFE818A6CD038DC4E6FDE6E503E0C2ACFE99B30281CAF6FD22C5098CDDE8475A04D7093DC3C3755D0A6BE4900",
        ),
        (
            Some(Language::Portuguese),
            None,
            "Não há informação: você já pôs o pão? ∞ ºª Ê",
            49,
            "0325010370EEDF20F40394769BDFF27638B17FEB40F6F79800523F4070C61CF406C1F7EF1FA8022249401E",
        ),
        (
            None,
            Some(Language::Portuguese),
            "Ações à mão, avô, êxito, úbere, coração ÀÂÃÕ",
            61,
            "03240103086E121B7E790EFA83DA9BFD9B050ADB370C166853C0A7E96F1668531797E5651668FC96873789CDFE0DDA0437E1CD76C305",
        ),
        (
            Some(Language::Bengali),
            Some(Language::Bengali),
            "আমি বাংলায় গান গাই. ১২৩",
            35,
            "062501042401040461140484068CD00D097481BE401768C105DA68369C4D07",
        ),
        (
            Some(Language::Gujarati),
            Some(Language::Gujarati),
            "મારું નામ ગુજરાત છે। ૧૨૩",
            36,
            "062501052401054228711A00BDA042D065DA21424F204E7693016D3A1BCFE603",
        ),
        (
            Some(Language::Hindi),
            Some(Language::Hindi),
            "नमस्ते दुनिया। १२३ Hindi",
            37,
            "062501062401062F21F37BCA8256D3577408DD64409BCEC6B3F98036C8B49B9C06",
        ),
        (
            Some(Language::Kannada),
            Some(Language::Kannada),
            "ನಮಸ್ಕಾರ ಕರ್ನಾಟಕ। ೧೨೩",
            32,
            "062501072401072F21F35B81124115E2F70515553619D0A6B3F16C3E",
        ),
        (
            Some(Language::Malayalam),
            Some(Language::Malayalam),
            "നമസ്കാരം കേരളം। ൧൨൩",
            31,
            "062501082401082F21F35B811203A04A96780C6C32A04D67E3D97C00",
        ),
        (
            Some(Language::Oriya),
            Some(Language::Oriya),
            "ନମସ୍କାର ଓଡ଼ିଶା। ୧୨୩",
            31,
            "062501092401092F21F35B811241938D29AA846E32A04D67E3D97C00",
        ),
        (
            Some(Language::Punjabi),
            Some(Language::Punjabi),
            "ਸਤ ਸ੍ਰੀ ਅਕਾਲ ਪੰਜਾਬ। ੧੨੩",
            35,
            "0625010A24010ACC1388F9254A41830AD408EAED3B50E02603DA74369ECD07",
        ),
        (
            Some(Language::Tamil),
            Some(Language::Tamil),
            "வணக்கம் உலகம்। ௧௨௩",
            30,
            "0625010B24010B4953E55B117E41076345F8DD64409BCEC6B3F900",
        ),
        (
            Some(Language::Telugu),
            Some(Language::Telugu),
            "నమస్కారం తెలుగు ౧౨౩",
            30,
            "0625010C24010C2F21F35B811203A013D638BD4C419BCEC6B3F900",
        ),
        (
            Some(Language::Urdu),
            Some(Language::Urdu),
            "آپ کیسے ہیں۔ ۱۲۳ پاکستان، ٹھیک؟",
            45,
            "0625010D24010D8102E898ED6D41D62C74F3036D3A1BCFE6032A008EBD03E0B9318116D7EC713303",
        ),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for (locking, single, text, length, packed) in vectors {
        let tables = Tables { locking: *locking, single: *single };
        let elements: Vec<Element<'_>> =
            locking.map(Element::LockingShift).into_iter().chain(single.map(Element::SingleShift)).collect();
        let data = UserData::from_septets(&elements, tables, text).expect("the tables have every character");
        assert_eq!((hex(data.octets()).as_str(), data.length()), (*packed, *length), "{text}");
        assert_eq!(data.info().tables, tables);
        assert_eq!(data.text(Dcs(0)).collect::<String>(), *text);
        seen.extend(locking.map(|language| (true, language.id())));
        seen.extend(single.map(|language| (false, language.id())));
    }
    assert_eq!(seen.len(), 25, "12 locking and 13 single shift tables");
}

/// Septets with national tables, as warthog618/sms, encoding/tpdu/userdata_test.go and encode_test.go give them.
#[test]
fn national_septets() {
    let kannada = Some(Language::Kannada);
    let urdu = Some(Language::Urdu);
    let vectors: &[(Tables, &[u8], &str)] = &[
        (Tables { locking: kannada, single: None }, b"\x01\x02\x03", "\u{C82}\u{C83}\u{C85}"),
        (Tables { locking: None, single: kannada }, b"\x1b\x1e\x1b\x1f\x1b\x20", "\u{CE8}\u{CE9}\u{CEA}"),
        (Tables { locking: urdu, single: None }, b"hello \x07", "hello ت"),
        (Tables { locking: None, single: urdu }, b"hello \x1b\x2a", "hello ؎"),
        (Tables { locking: urdu, single: urdu }, b"hello \x07\x1b\x2a", "hello ت؎"),
        (Tables::DEFAULT, b"message\x10", "messageΔ"),
        (Tables::DEFAULT, b"\x1be", "€"),
        // Where the extension table has nothing the main table counts.
        (Tables::DEFAULT, b"\x1b\x1e\x1b\x1f\x1b\x20", "ßÉ "),
        (Tables::DEFAULT, b"\x01\x02\x03", "£$¥"),
        (Tables::DEFAULT, b"message\x1b", "message "),
    ];
    for (tables, septets, text) in vectors {
        let elements: Vec<Element<'_>> =
            tables.locking.map(Element::LockingShift).into_iter().chain(tables.single.map(Element::SingleShift)).collect();
        let empty = UserData::from_septets(&elements, *tables, "").expect("a header fits");
        let header = empty.header_octets();
        let mut out: heapless::Vec<u8, 140> = heapless::Vec::from_slice(&empty.octets()[..header]).expect("fits");
        septet::pack(septets.iter().copied(), if header == 0 { 0 } else { septet::fill_bits(header) }, &mut out).expect("room");
        // A DELIVER around it, so that the length counts septets.
        let mut pdu =
            octets(if header == 0 { "040B911346610089F6000020806291731448" } else { "440B911346610089F6000020806291731448" });
        pdu.push((header * 8).div_ceil(7) as u8 + septets.len() as u8);
        pdu.extend_from_slice(&out);
        let Ok(Pdu::Deliver(deliver)) = Pdu::decode(&pdu, Direction::ToMobile) else { panic!("{text}") };
        assert_eq!(deliver.data.text(deliver.dcs).collect::<String>(), *text);
    }
}

/// python-gsmmodem, test_pdu.py, TestUcs2; warthog618/sms, encode_test.go
#[test]
fn ucs2() {
    for (text, units) in [
        ("あ叶葉", "304253F68449"),
        ("はい", "306F3044"),
        ("hello 😁", "00680065006C006C006F0020D83DDE01"),
        ("😁😁😁", "D83DDE01D83DDE01D83DDE01"),
        ("Je pompe donc je suis.", "004A006500200070006F006D0070006500200064006F006E00630020006A006500200073007500690073002E"),
    ] {
        let data = UserData::from_ucs2(&[], text).expect("fits");
        assert_eq!(hex(data.octets()), units);
        assert_eq!(data.text(Dcs::new(Coding::Ucs2, None)).collect::<String>(), text);
    }
    let dangling = UserData::from_octets(false, &octets("D83DDE01D83D")).expect("fits");
    assert_eq!(dangling.text(Dcs(8)).collect::<String>(), "😁\u{FFFD}");
}

/// Addresses as fields of a SUBMIT: python-gsmmodem, test_pdu.py, TestSmsPduAddressFields; smspdudecoder, fields.py doctests.
#[test]
fn addresses() {
    for (field, kind, shown) in [
        ("0A918967452301", NumberType::International, "+9876543210"),
        ("099189674523F1", NumberType::International, "+987654321"),
        ("0B917228195339F4", NumberType::International, "+27829135934"),
        ("0B915155214365F7", NumberType::International, "+15551234567"),
        ("06D061F118", NumberType::Alphanumeric, "abc"),
        ("0ED04669D0397C26A7", NumberType::Alphanumeric, "FRANCOIS"),
        ("14D0E10D6FE3DBA036A94D19", NumberType::Alphanumeric, "a[]{}€"),
        ("0BD0CDE6DB5DCE03", NumberType::Alphanumeric, "MMoney"),
        ("14D0C4F23C7D760390EF7619", NumberType::Alphanumeric, "Design@Home"),
        ("0AA11092997856", NumberType::National, "0129998765"),
        ("048121F3", NumberType::Unknown, "123"),
    ] {
        let field = octets(field);
        let pdu = [&[0x01, 0x00][..], &field, &[0, 0, 0]].concat();
        let Ok(Pdu::Submit(submit)) = Pdu::decode(&pdu, Direction::FromMobile) else { panic!("{shown}") };
        assert_eq!((submit.to.to_string().as_str(), submit.to.kind()), (shown, kind));
        if field[0] != 4 {
            assert_eq!(hex(&submit.encode()), hex(&pdu), "{shown}");
        }
    }
}

/// smspdudecoder, elements.py doctests; python-gsmmodem, test_pdu.py, TestTimestamp; oFono, unit/test-sms.c. Unix times by `date -d`.
#[test]
fn time_stamps() {
    for (field, unix_s, quarters, shown) in [
        ("70402132522400", 1_176_420_342, 0, "2007-04-12 23:25:42 +00:00"),
        ("70402132522423", 1_176_391_542, 32, "2007-04-12 23:25:42 +08:00"),
        ("7040213252242B", 1_176_449_142, -32, "2007-04-12 23:25:42 -08:00"),
        ("3130523210658A", 1_364_277_716, -28, "2013-03-25 23:01:56 -07:00"),
        ("51117200000000", 1_448_582_400, 0, "2015-11-27 00:00:00 +00:00"),
        ("51117200000080", 1_448_575_200, 8, "2015-11-27 00:00:00 +02:00"),
        ("81101000000000", 1_514_764_800, 0, "2018-01-01 00:00:00 +00:00"),
        ("02109231521440", 1_580_300_741, 4, "2020-01-29 13:25:41 +01:00"),
        ("20806291731448", 1_030_394_261, -4, "2002-08-26 19:37:41 -01:00"),
    ] {
        let stamp = TimeStamp(octets(field).try_into().expect("seven octets"));
        assert_eq!((stamp.unix_s(), stamp.quarters()), (Some(unix_s), quarters), "{field}");
        assert_eq!(stamp.to_string(), shown);
        assert_eq!(TimeStamp::from_unix(unix_s, quarters), stamp);
    }
    assert_eq!(TimeStamp(octets("00000000000000").try_into().expect("seven")).unix_s(), None, "month 0");
    assert_eq!(TimeStamp(octets("12202900000000").try_into().expect("seven")).unix_s(), None, "2021-02-92");
    assert_eq!(TimeStamp(octets("FFFFFFFFFFFFFF").try_into().expect("seven")).unix_s(), None);
}

/// TS 23.040 9.2.3.12.1; python-gsmmodem, test_pdu.py, TestRelativeValidityPeriod.
#[test]
fn validity() {
    const HOUR: u32 = 3600;
    for (octet, seconds) in [
        (0, 300),
        (5, HOUR / 2),
        (143, 12 * HOUR),
        (144, 12 * HOUR + HOUR / 2),
        (151, 16 * HOUR),
        (167, 24 * HOUR),
        (168, 48 * HOUR),
        (169, 72 * HOUR),
        (196, 30 * 24 * HOUR),
        (197, 5 * 7 * 24 * HOUR),
        (244, 52 * 7 * 24 * HOUR),
        (255, 63 * 7 * 24 * HOUR),
    ] {
        assert_eq!(Validity::Relative(octet).seconds(), Some(seconds));
        assert_eq!(Validity::at_least_s(seconds), Validity::Relative(octet), "{seconds} s");
    }
    assert_eq!(Validity::at_least_s(0), Validity::Relative(0));
    assert_eq!(Validity::at_least_s(u32::MAX), Validity::Relative(255));
    for seconds in (0..64 * 7 * 24 * HOUR).step_by(977) {
        let given = Validity::at_least_s(seconds).seconds().expect("relative");
        assert!(given >= seconds.min(63 * 7 * 24 * HOUR), "{seconds} s");
    }
}

/// TS 23.038 section 4.
#[test]
fn coding_schemes() {
    let waiting = |kind, active, store| Some(Waiting { kind, active, store });
    for (octet, coding, class, mwi) in [
        (0x00, Coding::Septets, None, None),
        (0x04, Coding::Octets, None, None),
        (0x08, Coding::Ucs2, None, None),
        (0x0C, Coding::Septets, None, None),
        (0x10, Coding::Septets, Some(Class::Flash), None),
        (0x18, Coding::Ucs2, Some(Class::Flash), None),
        (0x15, Coding::Octets, Some(Class::Mobile), None),
        (0x52, Coding::Septets, Some(Class::Sim), None),
        (0x80, Coding::Septets, None, None),
        (0xC8, Coding::Septets, None, waiting(WaitingKind::Voice, true, false)),
        (0xD2, Coding::Septets, None, waiting(WaitingKind::Mail, false, true)),
        (0xEB, Coding::Ucs2, None, waiting(WaitingKind::Other, true, true)),
        (0xF0, Coding::Septets, Some(Class::Flash), None),
        (0xF5, Coding::Octets, Some(Class::Mobile), None),
        (0xF6, Coding::Octets, Some(Class::Sim), None),
        (0xFF, Coding::Octets, Some(Class::Terminal), None),
    ] {
        let dcs = Dcs(octet);
        assert_eq!((dcs.coding(), dcs.class(), dcs.waiting()), (coding, class, mwi), "{octet:#04x}");
        if let Some(waiting) = mwi {
            assert_eq!(Dcs::waiting_for(waiting, coding), dcs);
        }
    }
    assert_eq!(Dcs::new(Coding::Septets, Some(Class::Flash)), Dcs(0x10));
    assert_eq!(Dcs::new(Coding::Ucs2, Some(Class::Flash)), Dcs(0x18));
    assert!(Dcs(0x20).compressed() && !Dcs(0x00).compressed() && !Dcs(0xF4).compressed());
    assert!(Dcs(0x40).delete_after_reading() && !Dcs(0x80).delete_after_reading());
}

/// Information elements: python-gsmmodem, test_pdu.py, TestUdhConcatenation, TestUdhPortAddress; warthog618/sms, userdata_test.go.
#[test]
fn elements() {
    let concatenation = |wide, reference, total, number| Element::Concatenation(Concatenation { wide, reference, total, number });
    let ports = |destination, source| Element::Ports(Ports { destination, source });
    let cases: &[(&str, &[Element<'_>])] = &[
        ("0003170301", &[concatenation(false, 23, 3, 1)]),
        ("080401800402", &[concatenation(true, 384, 4, 2)]),
        ("080404030201", &[concatenation(true, 1027, 2, 1)]),
        ("04026432", &[ports(100, 50)]),
        ("050404D21466", &[ports(1234, 5222)]),
        ("2401012501 0D", &[Element::SingleShift(Language::Turkish), Element::LockingShift(Language::Urdu)]),
        ("0103010203", &[Element::Other { id: 1, data: &[1, 2, 3] }]),
        // Spanish has no locking table; 14 is no language.
        ("250102 24010E", &[Element::Other { id: 0x25, data: &[2] }, Element::Other { id: 0x24, data: &[14] }]),
        // Numbers outside of 1 to the total, and wrong lengths: no concatenation.
        ("0003050200", &[Element::Other { id: 0, data: &[5, 2, 0] }]),
        ("0003050203", &[Element::Other { id: 0, data: &[5, 2, 3] }]),
        ("00020201", &[Element::Other { id: 0, data: &[2, 1] }]),
        ("0803030201", &[Element::Other { id: 8, data: &[3, 2, 1] }]),
        // Too few octets in the last element: nothing of it counts.
        ("0003170301 0103 0102", &[]),
        ("0003170301 01", &[]),
        ("", &[]),
    ];
    for (text, wanted) in cases {
        let header = octets(&text.replace(' ', ""));
        assert_eq!(Elements::new(&header).collect::<Vec<_>>(), *wanted, "{text}");
    }
    // Of two concatenations the last one counts. TS 23.040 9.2.3.24
    let info = Elements::new(&octets("00031703010003180302")).info();
    assert_eq!(info.concatenation.map(|c| (c.reference, c.number)), Some((0x18, 2)));
}
