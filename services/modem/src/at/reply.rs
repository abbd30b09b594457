//! What a line means: final results, fields, hexadecimal PDUs.
//!
//! Contract: pure functions, total on any text. No failure classes: what is not understood is `None`.

/// A final result code (V.250 5.7, TS 27.007 9.1, TS 27.005 3.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Final {
    /// `OK`.
    Ok,
    /// `ERROR`, or a maker's word for it.
    Error,
    /// `+CME ERROR: <code>`; `None`: verbose or unreadable.
    Cme(Option<u16>),
    /// `+CMS ERROR: <code>`; `None`: verbose or unreadable.
    Cms(Option<u16>),
}

impl Final {
    /// Reads a line as a final result. `numeric`: whether a bare `0` or `4` is one too (V.250 5.7.1, `ATV0`).
    pub fn parse(line: &str, numeric: bool) -> Option<Final> {
        match line {
            "OK" => return Some(Final::Ok),
            // The second and third are Huawei's, the fourth Siemens' for a command broken off by a character.
            "ERROR" | "COMMAND NOT SUPPORT" | "TOO MANY PARAMETERS" | "ABORTED" => return Some(Final::Error),
            "0" if numeric => return Some(Final::Ok),
            "4" if numeric => return Some(Final::Error),
            _ => {}
        }
        if let Some(rest) = line.strip_prefix("+CME ERROR") {
            return Some(Final::Cme(code(rest)));
        }
        line.strip_prefix("+CMS ERROR").map(|rest| Final::Cms(code(rest)))
    }

    /// The code of TS 27.005 3.2.5 that says the same: `+CME ERROR` codes of TS 27.007 9.2.1 are translated, what has
    /// no code is 500 (unknown error). `None` for `OK`.
    pub fn as_cms(&self) -> Option<u16> {
        Some(match self {
            Final::Ok => return None,
            Final::Cms(Some(code)) => *code,
            Final::Cme(Some(code)) => match code {
                3 | 4 => 302,   // operation not allowed, not supported -> operation not allowed
                5 | 11 => 311,  // SIM PIN required
                10 => 310,      // SIM not inserted
                12 => 316,      // SIM PUK required
                13 => 313,      // SIM failure
                14 => 314,      // SIM busy
                15 => 315,      // SIM wrong
                16 => 312,      // incorrect password -> PH-SIM PIN required is the nearest lock
                17 => 317,      // SIM PIN2 required
                18 => 318,      // SIM PUK2 required
                20 => 322,      // memory full
                21 => 321,      // invalid index
                23 => 320,      // memory failure
                30 => 331,      // no network service
                31 => 332,      // network time-out
                32 => 331,      // emergency calls only -> no network service
                50 => 305,      // incorrect parameters -> invalid parameter
                512.. => *code, // makers use their own numbers in both spaces
                _ => 500,
            },
            Final::Error | Final::Cme(None) | Final::Cms(None) => 500,
        })
    }
}

fn code(rest: &str) -> Option<u16> {
    rest.trim_start_matches(':').trim().parse().ok()
}

/// The information after `prefix` split at commas outside quotation marks, quotation marks taken off.
pub fn fields(line: &str, prefix: &str) -> Option<Vec<String>> {
    let rest = line.strip_prefix(prefix)?.trim();
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in rest.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => fields.last_mut().expect("the vector starts with one field and only grows").push(c),
        }
    }
    for field in &mut fields {
        *field = field.trim().to_owned();
    }
    Some(fields)
}

/// Text of a one-line answer: `+CGMM: "MC35i"` and `MC35i` are the same to us.
pub fn plain(line: &str, prefix: &str) -> String {
    let rest = line.strip_prefix(prefix).map_or(line, |rest| rest.trim_start_matches(':'));
    rest.trim().trim_matches('"').trim().to_owned()
}

/// Octets of a line of hexadecimal digits; `None` if anything else is in it, or it is odd or empty.
pub fn hex_decode(line: &str) -> Option<Vec<u8>> {
    let digits = line.as_bytes();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks_exact(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect()
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Upper-case hexadecimal digits appended to `out` (TS 27.005 3.1: IRA characters, two an octet).
pub fn hex_encode(octets: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for octet in octets {
        out.push(DIGITS[usize::from(octet >> 4)]);
        out.push(DIGITS[usize::from(octet & 15)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn final_results() {
        assert_eq!(Final::parse("OK", false), Some(Final::Ok));
        assert_eq!(Final::parse("0", true), Some(Final::Ok));
        assert_eq!(Final::parse("0", false), None);
        assert_eq!(Final::parse("4", true), Some(Final::Error));
        assert_eq!(Final::parse("+CMS ERROR: 38", false), Some(Final::Cms(Some(38))));
        assert_eq!(Final::parse("+CMS ERROR:500", false), Some(Final::Cms(Some(500))));
        assert_eq!(Final::parse("+CME ERROR: SIM not inserted", false), Some(Final::Cme(None)));
        assert_eq!(Final::parse("NO CARRIER", false), None);
        assert_eq!(Final::Cme(Some(10)).as_cms(), Some(310));
        assert_eq!(Final::Error.as_cms(), Some(500));
        assert_eq!(Final::Ok.as_cms(), None);
    }

    #[test]
    fn fields_respect_quotation_marks() {
        assert_eq!(fields("+COPS: 0,0,\"A, B\",2", "+COPS:").unwrap(), ["0", "0", "A, B", "2"]);
        assert_eq!(fields("+CMTI: \"SM\",3", "+CMTI:").unwrap(), ["SM", "3"]);
        assert_eq!(fields("+CSQ:", "+CSQ:").unwrap(), [""]);
        assert_eq!(fields("+CSQ: 3", "+CREG:"), None);
    }

    proptest! {
        #[test]
        fn hex_survives(octets in proptest::collection::vec(any::<u8>(), 1..200)) {
            let mut text = Vec::new();
            hex_encode(&octets, &mut text);
            prop_assert_eq!(hex_decode(std::str::from_utf8(&text).unwrap()), Some(octets));
        }

        #[test]
        fn any_text_is_read_without_panic(line in ".{0,80}") {
            let _ = (Final::parse(&line, true), fields(&line, "+"), plain(&line, "+C"), hex_decode(&line));
        }
    }
}
