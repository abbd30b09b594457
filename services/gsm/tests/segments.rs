//! Cutting and counting: the figures of the standard (TS 23.040 9.2.3.24.1) and the borders where something must not be torn.

use twinpost_gsm::{
    Alphabet, Class, Count, Dcs, Language, Languages, Options, Ports, Reader, Reference, Tables, TooLong, count, segment,
};

const DEFAULT: Alphabet = Alphabet::Septets(Tables::DEFAULT);

fn wide() -> Options {
    Options { reference: Reference::Sixteen, ..Options::default() }
}

/// Characters of each part.
fn cut(text: &str, options: &Options) -> Vec<usize> {
    let segments = segment(text, options).expect("short enough");
    segments.parts(1).map(|part| part.text.chars().count()).collect()
}

/// 160, 153 and 152 septets; 70, 67 and 66 units; 255 parts. TS 23.040 9.2.3.24.1, .8; oFono, unit/test-sms.c, test_prepare_limits.
#[test]
fn limits() {
    for (unit, characters, options, parts) in [
        ("a", 0, Options::default(), 1),
        ("a", 160, Options::default(), 1),
        ("a", 161, Options::default(), 2),
        ("a", 2 * 153, Options::default(), 2),
        ("a", 2 * 153 + 1, Options::default(), 3),
        ("a", 2 * 152, wide(), 2),
        ("a", 2 * 152 + 1, wide(), 3),
        ("a", 255 * 153, Options::default(), 255),
        ("a", 255 * 153 + 1, Options::default(), 256),
        ("a", 255 * 152, wide(), 255),
        ("a", 255 * 152 + 1, wide(), 256),
        ("€", 80, Options::default(), 1),
        ("€", 81, Options::default(), 2),
        ("€", 2 * 76, Options::default(), 2),
        ("€", 2 * 76 + 1, Options::default(), 3),
        ("中", 70, Options::default(), 1),
        ("中", 71, Options::default(), 2),
        ("中", 2 * 67, Options::default(), 2),
        ("中", 2 * 67 + 1, Options::default(), 3),
        ("中", 200, Options::default(), 3),
        ("中", 2 * 66 + 1, wide(), 3),
        ("Ж", 255 * 67, Options::default(), 255),
        ("Ж", 255 * 67 + 1, Options::default(), 256),
        ("Ж", 255 * 66, wide(), 255),
        ("Ж", 255 * 66 + 1, wide(), 256),
        ("😁", 35, Options::default(), 1),
        ("😁", 36, Options::default(), 2),
        ("😁", 2 * 33, Options::default(), 2),
        ("😁", 2 * 33 + 1, Options::default(), 3),
    ] {
        let text = unit.repeat(characters);
        assert_eq!(count(&text, &options).parts, parts, "{characters} times {unit}");
        match segment(&text, &options) {
            Ok(segments) => assert_eq!(segments.parts(0).count(), parts as usize),
            Err(TooLong { parts: wanted, parts_max: 255 }) => assert_eq!((wanted, parts), (256, 256)),
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn count_says_what_is_left() {
    let says = |text: &str, parts, alphabet, units, units_left| {
        let wanted = Count { parts, alphabet, units, units_left, simplified: false };
        assert_eq!(count(text, &Options::default()), wanted, "{text}");
    };
    says("", 1, DEFAULT, 0, 160);
    says("Hello", 1, DEFAULT, 5, 155);
    says("10 €", 1, DEFAULT, 5, 155);
    says("你好", 1, Alphabet::Ucs2, 2, 68);
    says("你好😁", 1, Alphabet::Ucs2, 4, 66);
    says(&"a".repeat(161), 2, DEFAULT, 161, 145);
    says(&"中".repeat(71), 2, Alphabet::Ucs2, 71, 63);
}

#[test]
fn too_long_says_how_long() {
    let options = Options { parts_max: 3, ..Options::default() };
    let error = segment(&"a".repeat(460), &options).expect_err("four parts");
    assert_eq!(error, TooLong { parts: 4, parts_max: 3 });
    assert_eq!(error.to_string(), "the text takes 4 short messages, 3 are allowed");
    assert!(segment(&"a".repeat(459), &options).is_ok());
}

#[test]
fn nothing_is_torn() {
    let plain = Options::default();
    let a = |n: usize| "a".repeat(n);
    let zh = |n: usize| "中".repeat(n);
    // An escape and its character: the 153rd septet of the part stays free.
    assert_eq!(cut(&(a(152) + "€" + &a(20)), &plain), [152, 21]);
    assert_eq!(cut(&(a(151) + "€" + &a(20)), &plain), [152, 20]);
    // A surrogate pair.
    assert_eq!(cut(&(zh(66) + "😁" + &zh(9)), &plain), [66, 10]);
    assert_eq!(cut(&(zh(65) + "😁" + &zh(9)), &plain), [66, 9]);
    // A letter and its combining mark.
    assert_eq!(cut(&(zh(66) + "e\u{301}" + &zh(9)), &plain), [66, 11]);
    // A family of three with joiners: 8 units.
    assert_eq!(cut(&(zh(60) + "👩\u{200D}👩\u{200D}👧" + &zh(9)), &plain), [60, 14]);
    // A heart with its variation selector; a flag; a keycap.
    assert_eq!(cut(&(zh(66) + "❤\u{FE0F}" + &zh(9)), &plain), [66, 11]);
    assert_eq!(cut(&(zh(64) + "🇨🇳" + &zh(9)), &plain), [64, 11]);
    assert_eq!(cut(&(zh(65) + "1\u{FE0F}\u{20E3}" + &zh(9)), &plain), [65, 12]);
    // CR LF in the default alphabet.
    assert_eq!(cut(&(a(152) + "\r\n" + &a(20)), &plain), [152, 22]);
    // What is longer than a part is cut between its characters, pairs stay whole.
    let tower = format!("a{}", "\u{301}".repeat(150));
    assert_eq!(cut(&tower, &plain), [67, 67, 17]);
    let pairs = format!("{}e{}", zh(3), "\u{1D165}".repeat(70));
    assert_eq!(cut(&pairs, &plain).iter().sum::<usize>(), 74);
}

#[test]
fn alphabets() {
    let with = |languages: &[Language]| Options { languages: languages.iter().copied().collect(), ..Options::default() };
    let chosen = |text: &str, options: &Options| count(text, options).alphabet;
    let septets = |locking, single| Alphabet::Septets(Tables { locking, single });
    let turkish = "Yarın akşam değil, öbür akşam";
    assert_eq!(chosen(turkish, &Options::default()), Alphabet::Ucs2);
    assert_eq!(chosen(turkish, &with(&[Language::Turkish])), septets(Some(Language::Turkish), None));
    // Few special letters: the single shift table costs less than the locking one, and survives on a mobile that knows neither.
    assert_eq!(chosen("ağ", &with(&[Language::Turkish])), septets(Some(Language::Turkish), None));
    assert_eq!(chosen("¿Qué? allí", &with(&[Language::Spanish])), septets(None, Some(Language::Spanish)));
    assert_eq!(chosen("नमस्ते १२३", &with(&[Language::Hindi])), septets(Some(Language::Hindi), Some(Language::Hindi)));
    assert_eq!(chosen("नमस्ते १२३", &with(&[Language::Tamil, Language::Turkish])), Alphabet::Ucs2);
    assert_eq!(chosen("hello", &Options { languages: Languages::ALL, ..Options::default() }), DEFAULT);
    // Escapes cost two: a table without them saves a part, but never with the same number of parts.
    let euros = "€".repeat(100);
    assert_eq!((count(&euros, &Options::default()).parts, chosen(&euros, &Options::default())), (2, DEFAULT));
    assert_eq!(
        (count(&euros, &with(&[Language::Turkish])).parts, chosen(&euros, &with(&[Language::Turkish]))),
        (1, septets(Some(Language::Turkish), None))
    );
    // Urdu and Chinese together: nothing but UCS-2.
    assert_eq!(chosen("ہیں 中", &Options { languages: Languages::ALL, ..Options::default() }), Alphabet::Ucs2);
}

/// One table named: 155 septets alone, 149 in parts; two: 152 and 146. By floor((140 - header) * 8 / 7).
#[test]
fn national_capacities() {
    let options = Options { languages: Languages::NONE.with(Language::Turkish), ..Options::default() };
    for (letters, parts) in [(155, 1), (156, 2), (2 * 149, 2), (2 * 149 + 1, 3)] {
        assert_eq!(count(&"ı".repeat(letters), &options).parts, parts, "{letters} letters, locking table");
    }
    let hindi = Options { languages: Languages::NONE.with(Language::Hindi), ..Options::default() };
    for (digits, parts) in [(75, 1), (76, 2), (72 + 73, 2), (72 + 73 + 1, 3)] {
        // The letter is in the locking table only, the digit in the single shift table only: both are named.
        assert_eq!(count(&("कक".to_owned() + &"१".repeat(digits)), &hindi).parts, parts, "{digits} digits");
    }
}

#[test]
fn ports_take_room() {
    let options = Options { ports: Some(Ports { destination: 2948, source: 9200 }), ..Options::default() };
    // Header of 7 octets: 152 septets; with the reference 12 octets: 146.
    for (letters, parts) in [(152, 1), (153, 2), (2 * 146, 2), (2 * 146 + 1, 3)] {
        let text = "a".repeat(letters);
        let segments = segment(&text, &options).expect("short");
        assert_eq!(segments.total(), parts, "{letters}");
        assert!(segments.parts(9).all(|part| part.data.info().ports == options.ports));
    }
}

#[test]
fn plain_forms_only_when_they_save_parts() {
    let options = Options { simplify: true, ..Options::default() };
    let short = "“Hello” – she said…";
    let says = count(short, &options);
    assert_eq!((says.parts, says.alphabet, says.simplified), (1, Alphabet::Ucs2, false), "one part anyway: left as it is");
    let long = format!("“{}”", "Hello ".repeat(20));
    let says = count(&long, &options);
    assert_eq!((says.parts, says.alphabet, says.simplified), (1, DEFAULT, true));
    assert_eq!(count(&long, &Options::default()).parts, 2);
    let segments = segment(&long, &options).expect("one part");
    let read: String = segments.parts(0).flat_map(|part| part.data.text(Dcs(0)).collect::<Vec<_>>()).collect();
    assert_eq!(read, format!("\"{}\"", "Hello ".repeat(20)));
    // A letter without plain form: nothing helps.
    assert_eq!(count(&(long + "ж"), &options).alphabet, Alphabet::Ucs2);
    // Dots of an ellipsis at the border stay in one part.
    let border = format!("{}…{}", "a".repeat(151), "b".repeat(200));
    let segments = segment(&border, &options).expect("parts");
    assert!(segments.count().simplified);
    assert_eq!(cut(&border, &options), [151, 151, 50]);
}

#[test]
fn flash_and_references() {
    let text = "中".repeat(100);
    let segments = segment(&text, &wide()).expect("two parts");
    assert_eq!(segments.dcs(Some(Class::Flash)), Dcs(0x18));
    assert_eq!(segments.dcs(None), Dcs(0x08));
    let references: Vec<_> = segments.parts(0xBEEF).filter_map(|part| part.data.info().concatenation).collect();
    assert!(references.iter().all(|c| c.wide && c.reference == 0xBEEF && c.total == 2));
    let narrow = segment(&text, &Options::default()).expect("two parts");
    let references: Vec<_> = narrow.parts(0xBEEF).filter_map(|part| part.data.info().concatenation).collect();
    assert!(references.iter().all(|c| !c.wide && c.reference == 0xEF));
    assert_eq!(references.iter().map(|c| c.number).collect::<Vec<_>>(), [1, 2]);
    // A later part alone is the same as in the row.
    assert_eq!(narrow.parts(3).nth(1), narrow.parts(3).last());
    assert_eq!(narrow.parts(3).len(), 2);
    // A single part carries no header.
    let one = segment("hi", &Options::default()).expect("one part");
    assert_eq!(one.parts(3).next().map(|part| part.data.has_header()), Some(false));
}

/// A careless sender cuts an escape and a surrogate pair between two parts: one reader puts them together.
#[test]
fn torn_parts_are_read_whole() {
    use twinpost_gsm::{Direction, Pdu};
    let deliver = |dcs: u8, length: u8, octets: &[u8]| {
        let head = [0x04, 0x04, 0x91, 0x21, 0x43, 0x00, dcs, 0x62, 0x11, 0x22, 0x30, 0x51, 0x00, 0x23, length];
        match Pdu::decode(&[&head[..], octets].concat(), Direction::ToMobile) {
            Ok(Pdu::Deliver(deliver)) => deliver,
            other => panic!("{other:?}"),
        }
    };
    let read = |parts: [(u8, u8, &[u8]); 2]| {
        let mut reader = Reader::new();
        let mut text = String::new();
        for (dcs, length, octets) in parts {
            let part = deliver(dcs, length, octets);
            text.extend(reader.part(part.dcs, &part.data));
        }
        text.extend(reader.end());
        text
    };
    assert_eq!(read([(8, 4, &[0x4E, 0x2D, 0xD8, 0x3D]), (8, 4, &[0xDE, 0x01, 0x4E, 0x2D])]), "中😁中");
    assert_eq!(read([(8, 2, &[0xD8, 0x3D]), (8, 2, &[0x4E, 0x2D])]), "\u{FFFD}中");
    assert_eq!(read([(8, 2, &[0xD8, 0x3D]), (0, 1, &[0x61])]), "\u{FFFD}a");
    assert_eq!(read([(8, 2, &[0x4E, 0x2D]), (8, 2, &[0xD8, 0x3D])]), "中\u{FFFD}");
    // "a" ESC | "e"
    assert_eq!(read([(0, 2, &[0xE1, 0x0D]), (0, 1, &[0x65])]), "a€");
    assert_eq!(read([(0, 2, &[0xE1, 0x0D]), (8, 2, &[0x4E, 0x2D])]), "a 中");
    assert_eq!(read([(0, 1, &[0x61]), (0, 1, &[0x1B])]), "a ");
}
