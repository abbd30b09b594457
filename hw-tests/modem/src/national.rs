//! 3GPP TS 23.038 annex A: the national language tables, by their identifiers (6.2.1.2.4).
//!
//! The nine tables of Indian scripts share one layout, as their Unicode blocks do: a code stands for the same place in each block. So
//! they are kept as that layout, the places which a script leaves empty, and the few codes that differ. Empty places read as a space.

use crate::alphabet::{DEFAULT, EXTENSION, Language};
use std::sync::OnceLock;

/// Places in the Unicode block for codes 0x00..=0x5F of an Indian locking table; above 0xFF: the character itself; 0: a space.
const INDIAN: [u16; 0x60] = {
    const fn is(c: char) -> u16 {
        0x100 + c as u16
    }
    let mut codes = [0; 0x60];
    let runs: [(usize, u16, usize); 12] = [
        (0x00, 0x01, 3),
        (0x03, 0x05, 7),
        (0x0b, 0x0c, 2),
        (0x0e, 0x0e, 13),
        (0x1c, 0x1b, 4),
        (0x22, 0x1f, 6),
        (0x2a, 0x25, 2),
        (0x3c, 0x29, 3),
        (0x40, 0x2c, 14),
        (0x4e, 0x3c, 18),
        (0x30, 0x100 + '0' as u16, 10),
        (0x3a, 0x100 + ':' as u16, 2),
    ];
    let mut run = 0;
    while run < runs.len() {
        let (code, place, n) = runs[run];
        let mut i = 0;
        while i < n {
            codes[code + i] = place + i as u16;
            i += 1;
        }
        run += 1;
    }
    codes[0x0a] = is('\n');
    codes[0x0d] = is('\r');
    codes[0x1b] = is('\u{1b}');
    codes[0x20] = is(' ');
    codes[0x21] = is('!');
    codes[0x28] = is(')');
    codes[0x29] = is('(');
    codes[0x2c] = is(',');
    codes[0x2d] = 0x27;
    codes[0x2e] = is('.');
    codes[0x2f] = 0x28;
    codes[0x3f] = is('?');
    codes
};

/// Codes 0x00..=0x18 behind an escape in the single shift tables of the Indian scripts and Urdu.
const INDIAN_SINGLE: &str = "@£$¥¿\"¤%&'\u{c}*+ -/<=>¡^¡_#*";

/// Codes behind an escape that the script's own characters follow each other in, from 0x19 on.
const INDIAN_PLACES: [u8; 32] = [
    0x19, 0x1a, 0x1c, 0x1d, 0x1e, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x2a, 0x2b, 0x2c, 0x2d, 0x2e, 0x30, 0x31,
    0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x3b, 0x3f,
];

struct Script {
    language: Language,
    base: u32,
    /// Codes of the layout that have no character in this script.
    without: &'static [u8],
    /// Codes 0x60 and 0x7B..=0x7F of the locking table.
    own: [u16; 6],
    /// Characters of the single shift table, at [`INDIAN_PLACES`].
    single: &'static str,
}

const SCRIPTS: [Script; 9] = [
    // Bengali, A.3.4 and A.2.4
    Script {
        language: 4,
        base: 0x0980,
        without: &[0x0c, 0x0e, 0x11, 0x12, 0x3c, 0x45, 0x47, 0x48, 0x49, 0x57, 0x58, 0x5b, 0x5c],
        own: [0x9ce, 0x9d7, 0x9dc, 0x9dd, 0x9f0, 0x9f1],
        single: "০১২৩৪৫৬৭৮৯\u{9df}ৠৡ\u{9e2}\u{9e3}৲৳৴৵৶৷৸৹৺",
    },
    // Gujarati, A.3.5 and A.2.5
    Script {
        language: 5,
        base: 0x0a80,
        without: &[0x0e, 0x12, 0x3c, 0x45, 0x48, 0x58, 0x5c],
        own: [0xad0, 0xae0, 0xae1, 0xae2, 0xae3, 0xaf1],
        single: "।॥૦૧૨૩૪૫૬૭૮૯",
    },
    // Hindi, A.3.6 and A.2.6
    Script {
        language: 6,
        base: 0x0900,
        without: &[],
        own: [0x950, 0x972, 0x97b, 0x97c, 0x97e, 0x97f],
        single: "।॥०१२३४५६७८९\u{951}\u{952}\u{953}\u{954}\u{958}\u{959}\u{95a}\u{95b}\u{95c}\u{95d}\u{95e}\u{95f}ॠॡ\u{962}\u{963}॰ॱ",
    },
    // Kannada, A.3.7 and A.2.7
    Script {
        language: 7,
        base: 0x0c80,
        without: &[0x00, 0x0c, 0x11, 0x3c, 0x48, 0x57, 0x5b],
        own: [0xcd5, 0xcd6, 0xce0, 0xce1, 0xce2, 0xce3],
        single: "।॥೦೧೨೩೪೫೬೭೮೯ೞ\u{cf1}\u{cf2}",
    },
    // Malayalam, A.3.8 and A.2.8
    Script {
        language: 8,
        base: 0x0d00,
        without: &[0x00, 0x0c, 0x11, 0x3c, 0x4e, 0x57, 0x5b],
        own: [0xd57, 0xd60, 0xd61, 0xd62, 0xd63, 0xd79],
        single: "।॥൦൧൨൩൪൫൬൭൮൯\u{d70}\u{d71}\u{d72}\u{d73}\u{d74}\u{d75}ൺൻർൽൾൿ",
    },
    // Oriya, A.3.9 and A.2.9
    Script {
        language: 9,
        base: 0x0b00,
        without: &[0x0c, 0x0e, 0x11, 0x12, 0x3c, 0x45, 0x48, 0x57, 0x58, 0x5b, 0x5c],
        own: [0xb56, 0xb57, 0xb60, 0xb61, 0xb62, 0xb63],
        single: "।॥୦୧୨୩୪୫୬୭୮୯\u{b5c}\u{b5d}ୟ୰ୱ",
    },
    // Punjabi, A.3.10 and A.2.10
    Script {
        language: 10,
        base: 0x0a00,
        without: &[0x09, 0x0b, 0x0c, 0x0e, 0x11, 0x12, 0x3c, 0x45, 0x48, 0x4b, 0x4f, 0x55, 0x56, 0x57, 0x58, 0x5b, 0x5c],
        own: [0xa51, 0xa70, 0xa71, 0xa72, 0xa73, 0xa74],
        single: "।॥੦੧੨੩੪੫੬੭੮੯\u{a59}\u{a5a}\u{a5b}ੜ\u{a5e}\u{a75}",
    },
    // Tamil, A.3.11 and A.2.11
    Script {
        language: 11,
        base: 0x0b80,
        without: &[
            0x00, 0x09, 0x0b, 0x0c, 0x11, 0x16, 0x17, 0x18, 0x1c, 0x1e, 0x23, 0x24, 0x25, 0x2a, 0x2b, 0x2d, 0x3e, 0x40, 0x41,
            0x4e, 0x4f, 0x55, 0x56, 0x57, 0x5b,
        ],
        own: [0xbd0, 0xbd7, 0xbf0, 0xbf1, 0xbf2, 0xbf9],
        single: "।॥௦௧௨௩௪௫௬௭௮௯௳௴௵௶௷௸௺",
    },
    // Telugu, A.3.12 and A.2.12
    Script {
        language: 12,
        base: 0x0c00,
        without: &[0x0c, 0x11, 0x3c, 0x48, 0x4e, 0x57, 0x5b],
        own: [0xc55, 0xc56, 0xc60, 0xc61, 0xc62, 0xc63],
        single: "\0\0౦౧౨౩౪౫౬౭౮౯ౘౙ౸౹౺౻౼౽౾౿",
    },
];

/// Urdu, A.3.13, codes 0x00..=0x60 without what the others have at the same place.
const URDU: &str = "اآبٻڀپڦتۂٿ\nٹٽ\rٺټثجځڄڃڅچڇحخد\u{1b}ڌڈډڊ !ڏڍذرڑړ)(ڙز,ږ.ژ0123456789:;ښسش?صضطظعفقکڪګگڳڱلمنںڻڼوۄەہھءیېے\u{64d}\u{650}\u{64f}\u{657}\u{654}abcdefghijklmnopqrstuvwxyz\u{655}\u{651}\u{653}\u{656}\u{670}";

/// Urdu, A.2.13, at [`INDIAN_PLACES`].
const URDU_SINGLE: &str = "\u{600}\u{601}۰۱۲۳۴۵۶۷۸۹،؍؎؏\u{610}\u{611}\u{612}\u{613}\u{614}؛؟ـ\u{652}\u{658}٫٬ٲٳۍ۔";

/// Portuguese, A.3.3.
const PORTUGUESE: &str = "@£$¥êéúíóç\nÔô\rÁáΔ_ªÇÀ∞^\\€Ó|\u{1b}ÂâÊÉ !\"#º%&'()*+,-./0123456789:;<=>?ÍABCDEFGHIJKLMNOPQRSTUVWXYZÃÕÚÜ§~abcdefghijklmnopqrstuvwxyzãõ`üà";

/// Turkish, A.3.1: codes that differ from the default alphabet.
const TURKISH: [(u8, char); 8] =
    [(0x04, '€'), (0x07, 'ı'), (0x0b, 'Ğ'), (0x0c, 'ğ'), (0x1c, 'Ş'), (0x1d, 'ş'), (0x40, 'İ'), (0x60, 'ç')];

/// Single shift tables that add to the extension table: Turkish A.2.1, Spanish A.2.2, Portuguese A.2.3.
const ADDED: [(Language, &str); 3] = [
    (1, "\u{47}Ğ\u{49}İ\u{53}Ş\u{63}ç\u{67}ğ\u{69}ı\u{73}ş"),
    (2, "\u{09}ç\u{41}Á\u{49}Í\u{4f}Ó\u{55}Ú\u{61}á\u{69}í\u{6f}ó\u{75}ú"),
    (
        3,
        "\u{05}ê\u{09}ç\u{0b}Ô\u{0c}ô\u{0e}Á\u{0f}á\u{12}Φ\u{13}Γ\u{15}Ω\u{16}Π\u{17}Ψ\u{18}Σ\u{19}Θ\u{1f}Ê\u{41}À\u{49}Í\u{4f}Ó\u{55}Ú\u{5b}Ã\u{5c}Õ\u{61}Â\u{69}í\u{6f}ó\u{75}ú\u{7b}ã\u{7c}õ\u{7f}â",
    ),
];

type Table = [char; 128];

fn indian(script: &Script) -> Table {
    let mut table = [' '; 128];
    for (code, place) in INDIAN.iter().enumerate() {
        table[code] = match place {
            0 => ' ',
            1..0x100 if script.without.contains(&(code as u8)) => ' ',
            1..0x100 => char::from_u32(script.base + u32::from(*place)).unwrap_or(' '),
            own => char::from((own - 0x100) as u8),
        };
    }
    for (code, own) in [0x60, 0x7b, 0x7c, 0x7d, 0x7e, 0x7f].into_iter().zip(script.own) {
        table[code] = char::from_u32(own.into()).unwrap_or(' ');
    }
    for code in b'a'..=b'z' {
        table[usize::from(code)] = char::from(code);
    }
    table
}

fn written(text: &str) -> Table {
    let mut table = [' '; 128];
    for (place, c) in table.iter_mut().zip(text.chars()) {
        *place = c;
    }
    table
}

fn locking_tables() -> &'static [Table; 14] {
    static TABLES: OnceLock<[Table; 14]> = OnceLock::new();
    TABLES.get_or_init(|| {
        let mut tables = [written(DEFAULT); 14];
        for (code, c) in TURKISH {
            tables[1][usize::from(code)] = c;
        }
        tables[3] = written(PORTUGUESE);
        for script in &SCRIPTS {
            tables[usize::from(script.language)] = indian(script);
        }
        tables[13] = written(URDU);
        tables
    })
}

fn single_tables() -> &'static [[Option<char>; 128]; 14] {
    static TABLES: OnceLock<[[Option<char>; 128]; 14]> = OnceLock::new();
    TABLES.get_or_init(|| {
        let mut tables = [[None; 128]; 14];
        for table in &mut tables {
            for (code, c) in EXTENSION {
                table[usize::from(code)] = Some(c);
            }
        }
        for (language, pairs) in ADDED {
            let mut pairs = pairs.chars();
            while let (Some(code), Some(c)) = (pairs.next(), pairs.next()) {
                tables[usize::from(language)][code as usize] = Some(c);
            }
        }
        let scripts = SCRIPTS.iter().map(|s| (s.language, s.single)).chain([(13, URDU_SINGLE)]);
        for (language, own) in scripts {
            let table = &mut tables[usize::from(language)];
            for (code, c) in INDIAN_SINGLE.chars().enumerate() {
                table[code] = Some(c);
            }
            for (code, c) in INDIAN_PLACES.into_iter().zip(own.chars()).filter(|(_, c)| *c != '\0') {
                table[usize::from(code)] = Some(c);
            }
            for code in b'A'..=b'Z' {
                table[usize::from(code)] = Some(char::from(code));
            }
        }
        tables
    })
}

/// The character of a code in the main table, or in the locking shift table of `language`; unknown languages read as the default.
#[must_use]
pub fn locking(language: Language, code: u8) -> char {
    let tables = locking_tables();
    tables.get(usize::from(language)).unwrap_or(&tables[0])[usize::from(code & 0x7f)]
}

/// The character of a code behind an escape, in the extension table or the single shift table of `language`.
#[must_use]
pub fn single(language: Language, code: u8) -> Option<char> {
    let tables = single_tables();
    tables.get(usize::from(language)).unwrap_or(&tables[0])[usize::from(code & 0x7f)]
}

#[cfg(test)]
mod tests {
    use super::{locking, single};

    fn row(language: u8, from: u8, to: u8) -> String {
        (from..=to).map(|code| locking(language, code)).collect()
    }

    fn shifted(language: u8, from: u8, to: u8) -> String {
        (from..=to).map(|code| single(language, code).unwrap_or('.')).collect()
    }

    /// Rows of the annex, as the tables print them.
    #[test]
    fn rows_of_the_standard() {
        assert_eq!(row(0, 0x10, 0x1a), "Δ_ΦΓΛΩΠΨΣΘΞ");
        assert_eq!(row(1, 0x00, 0x0c), "@£$¥€éùıòÇ\nĞğ");
        assert_eq!(row(1, 0x5b, 0x61), "ÄÖÑÜ§ça");
        assert_eq!(row(3, 0x10, 0x1a), "Δ_ªÇÀ∞^\\€Ó|");
        assert_eq!(row(3, 0x5b, 0x60), "ÃÕÚÜ§~");
        assert_eq!(row(3, 0x7b, 0x7f), "ãõ`üà");
        assert_eq!(row(4, 0x00, 0x14), "\u{981}\u{982}\u{983}অআইঈউঊঋ\nঌ \r এঐ  ওঔ");
        assert_eq!(row(6, 0x40, 0x4d), "बभमयर\u{931}लळ\u{934}वशषसह");
        assert_eq!(row(6, 0x5d, 0x60), "\u{94b}\u{94c}\u{94d}ॐ");
        assert_eq!(row(7, 0x40, 0x4d), "ಬಭಮಯರ\u{cb1}ಲಳ ವಶಷಸಹ");
        assert_eq!(row(11, 0x14, 0x1f), "ஔக   ஙச\u{1b} ஜ ஞ");
        assert_eq!(row(10, 0x7b, 0x7f), "\u{a70}\u{a71}ੲੳੴ");
        assert_eq!(row(13, 0x00, 0x09), "اآبٻڀپڦتۂٿ");
        assert_eq!(row(13, 0x53, 0x5c), "وۄەہھءیېے\u{64d}");
        assert_eq!(row(13, 0x61, 0x65), "abcde");
        assert_eq!(shifted(0, 0x28, 0x2f), "{}.....\\");
        assert_eq!(shifted(1, 0x63, 0x69), "ç.€.ğ.ı");
        assert_eq!(shifted(3, 0x0a, 0x1f), "\u{c}Ôô.Áá..ΦΓ^ΩΠΨΣΘ.....Ê");
        assert_eq!(shifted(4, 0x19, 0x27), "০১.২৩৪৫৬৭৮৯\u{9df}ৠৡ\u{9e2}");
        assert_eq!(shifted(6, 0x2a, 0x34), "\u{953}\u{954}\u{958}\u{959}\u{95a}\\\u{95b}\u{95c}\u{95d}\u{95e}\u{95f}");
        assert_eq!(shifted(12, 0x19, 0x1d), "...౦౧");
        assert_eq!(shifted(13, 0x39, 0x40), "ٲٳۍ[~]۔|");
        assert_eq!(shifted(13, 0x41, 0x43), "ABC");
        // A language that nobody has defined yet.
        assert_eq!((locking(99, 0x41), single(99, 0x65)), ('A', Some('€')));
    }
}
