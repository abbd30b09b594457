//! Lines of the Twinpost relay protocol (docs/manual/power-switch.md).
//!
//! `<number> <words>*<checksum>` CR LF; the checksum is CRC-16/CCITT-FALSE over everything before the `*`, four upper-case hex digits.

use crate::Power;

/// Longest line with its end.
pub(crate) const LINE_BYTES: usize = 80;

/// What the host asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Question {
    Hello,
    State { outlet: u8 },
    Switch { outlet: u8, on: bool },
}

/// Why a switch does not obey.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Code {
    Command,
    Outlet,
    Busy,
    Locked,
    Fault,
}

const CODES: [(Code, &str, &str); 5] = [
    (Code::Command, "COMMAND", "it does not know this command"),
    (Code::Outlet, "OUTLET", "it has no such outlet"),
    (Code::Busy, "BUSY", "it is still switching"),
    (Code::Locked, "LOCKED", "it is locked by hand"),
    (Code::Fault, "FAULT", "its relay or its measuring is broken"),
];

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = CODES.iter().find(|(code, ..)| code == self).map_or("", |(_, _, words)| words);
        f.write_str(words)
    }
}

/// What the switch answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Hello { version: u8, outlets: u8, model: String },
    State { outlet: u8, power: Power },
    Done { outlet: u8, on: bool },
    Error(Code),
}

impl Answer {
    /// Whether this can be the answer to `question`: kind and outlet.
    pub(crate) fn fits(&self, question: Question) -> bool {
        match (self, question) {
            (Self::Error(_), _) | (Self::Hello { .. }, Question::Hello) => true,
            (Self::State { outlet, .. }, Question::State { outlet: asked }) => *outlet == asked,
            (Self::Done { outlet, on }, Question::Switch { outlet: asked, on: wanted }) => (*outlet, *on) == (asked, wanted),
            _ => false,
        }
    }
}

/// CRC-16/CCITT-FALSE: polynomial 1021, begins with FFFF, not reflected.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    })
}

fn seal(text: &str) -> Vec<u8> {
    format!("{text}*{:04X}\r\n", checksum(text.as_bytes())).into_bytes()
}

/// Number and words of a line without its end; `None` for what is garbled.
fn open(line: &[u8]) -> Option<(u8, Vec<&str>)> {
    if line.len() > LINE_BYTES {
        return None;
    }
    let line = std::str::from_utf8(line).ok()?;
    let (text, sum) = line.rsplit_once('*')?;
    let exact = |c: char| c.is_ascii_digit() || ('A'..='F').contains(&c);
    if sum.len() != 4 || !sum.chars().all(exact) || u16::from_str_radix(sum, 16).ok()? != checksum(text.as_bytes()) {
        return None;
    }
    let (number, words) = text.split_once(' ')?;
    Some((small(number)?, words.split(' ').collect()))
}

/// 0 to 255 without sign or leading zeros.
fn small(text: &str) -> Option<u8> {
    text.parse().ok().filter(|number: &u8| number.to_string() == text)
}

fn on_off(on: bool) -> &'static str {
    if on { "ON" } else { "OFF" }
}

pub(crate) fn write_question(number: u8, question: Question) -> Vec<u8> {
    seal(&match question {
        Question::Hello => format!("{number} HELLO"),
        Question::State { outlet } => format!("{number} STATE {outlet}"),
        Question::Switch { outlet, on } => format!("{number} {} {outlet}", on_off(on)),
    })
}

/// A question as the switch reads it: `Err` with its number for one that is whole, but unknown.
pub(crate) fn read_question(line: &[u8]) -> Option<Result<(u8, Question), u8>> {
    let (number, words) = open(line)?;
    let question = match words[..] {
        ["HELLO"] => Some(Question::Hello),
        ["STATE", outlet] => small(outlet).map(|outlet| Question::State { outlet }),
        ["ON", outlet] => small(outlet).map(|outlet| Question::Switch { outlet, on: true }),
        ["OFF", outlet] => small(outlet).map(|outlet| Question::Switch { outlet, on: false }),
        _ => None,
    };
    Some(question.map(|question| (number, question)).ok_or(number))
}

pub(crate) fn write_answer(number: u8, answer: &Answer) -> Vec<u8> {
    seal(&match answer {
        Answer::Hello { version, outlets, model } => format!("{number} HELLO TWINPOST-RELAY {version} {outlets} {model}"),
        Answer::State { outlet, power } => {
            let power = match power {
                Power::On => "ON",
                Power::Off => "OFF",
                Power::Unknown => "UNKNOWN",
            };
            format!("{number} STATE {outlet} {power}")
        }
        Answer::Done { outlet, on } => format!("{number} DONE {} {outlet}", on_off(*on)),
        Answer::Error(code) => {
            let word = CODES.iter().find(|(found, ..)| found == code).map_or("FAULT", |(_, word, _)| word);
            format!("{number} ERROR {word}")
        }
    })
}

pub(crate) fn read_answer(line: &[u8]) -> Option<(u8, Answer)> {
    let (number, words) = open(line)?;
    let answer = match words[..] {
        ["HELLO", "TWINPOST-RELAY", version, outlets, model] => {
            Answer::Hello { version: small(version)?, outlets: small(outlets)?, model: model.to_owned() }
        }
        ["STATE", outlet, "ON"] => Answer::State { outlet: small(outlet)?, power: Power::On },
        ["STATE", outlet, "OFF"] => Answer::State { outlet: small(outlet)?, power: Power::Off },
        ["STATE", outlet, "UNKNOWN"] => Answer::State { outlet: small(outlet)?, power: Power::Unknown },
        ["DONE", "ON", outlet] => Answer::Done { outlet: small(outlet)?, on: true },
        ["DONE", "OFF", outlet] => Answer::Done { outlet: small(outlet)?, on: false },
        ["ERROR", code] => Answer::Error(CODES.iter().find(|(_, word, _)| *word == code)?.0),
        _ => return None,
    };
    Some((number, answer))
}

/// Reads any bytes as a question and as an answer. Entry point of property tests.
pub fn fuzz(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        if let Some(Ok((number, question))) = read_question(line) {
            let written = write_question(number, question);
            assert_eq!(written.strip_suffix(b"\r\n"), Some(line), "what is read is what was written");
        }
        if let Some((number, answer)) = read_answer(line) {
            let written = write_answer(number, &answer);
            assert_eq!(written.strip_suffix(b"\r\n"), Some(line), "what is read is what was written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn checksum_of_the_catalogue() {
        // CRC RevEng catalogue, CRC-16/IBM-3740 (CCITT-FALSE): check value of "123456789".
        assert_eq!(checksum(b"123456789"), 0x29b1);
    }

    /// The examples of docs/manual/power-switch.md.
    #[test]
    fn examples_of_the_manual() {
        let manual = include_str!("../../../../docs/manual/power-switch.md");
        let mut found = 0;
        for line in manual.lines() {
            if let Some(question) = line.trim().strip_prefix("host:   ") {
                assert!(matches!(read_question(question.as_bytes()), Some(Ok(_))), "{question}");
                found += 1;
            } else if let Some(answer) = line.trim().strip_prefix("switch: ") {
                assert!(read_answer(answer.as_bytes()).is_some(), "{answer}");
                found += 1;
            }
        }
        assert!(found >= 10, "the manual has {found} examples");
    }

    fn any_question() -> impl Strategy<Value = Question> {
        prop_oneof![
            Just(Question::Hello),
            any::<u8>().prop_map(|outlet| Question::State { outlet }),
            any::<(u8, bool)>().prop_map(|(outlet, on)| Question::Switch { outlet, on }),
        ]
    }

    proptest! {
        #[test]
        fn survives_the_line(number: u8, question in any_question(), outlet: u8, on: bool) {
            let line = write_question(number, question);
            prop_assert!(line.len() <= LINE_BYTES);
            prop_assert_eq!(read_question(line.strip_suffix(b"\r\n").unwrap()), Some(Ok((number, question))));
            for answer in [
                Answer::Done { outlet, on },
                Answer::State { outlet, power: Power::Unknown },
                Answer::Hello { version: 1, outlets: outlet, model: "bench-2".to_owned() },
                Answer::Error(CODES[usize::from(number) % CODES.len()].0),
            ] {
                let line = write_answer(number, &answer);
                prop_assert_eq!(read_answer(line.strip_suffix(b"\r\n").unwrap()), Some((number, answer)));
            }
        }

        /// A checksum of 16 bits finds every error of one or two bits in lines this short, and every burst of up to 16.
        #[test]
        fn garbled_is_never_an_answer(number: u8, outlet: u8, on: bool, at in 0..160usize, burst in 1..=u16::MAX) {
            let line = write_answer(number, &Answer::State { outlet, power: if on { Power::On } else { Power::Off } });
            let line = line.strip_suffix(b"\r\n").unwrap();
            let flip = |bytes: &mut [u8], bit: usize| bytes[bit / 8] ^= 0x80 >> (bit % 8);
            let bits = line.len() * 8;
            for one in 0..bits {
                for other in one..(one + 24).min(bits) {
                    let mut bent = line.to_vec();
                    flip(&mut bent, one);
                    if other != one {
                        flip(&mut bent, other);
                    }
                    prop_assert_eq!(read_answer(&bent), None);
                }
            }
            let mut bent = line.to_vec();
            let first = at % ((line.len() - 5) * 8 - 15);
            for bit in (0..16).filter(|bit| burst >> bit & 1 == 1) {
                flip(&mut bent, first + bit);
            }
            prop_assert_eq!(read_answer(&bent), None);
        }

        #[test]
        fn any_bytes(data in proptest::collection::vec(any::<u8>(), 0..100), words in "[0-9]{1,3} [A-Z0-9 ]{0,20}") {
            fuzz(&data);
            fuzz(&seal(&words));
        }
    }
}
