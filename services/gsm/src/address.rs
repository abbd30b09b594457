//! Addresses: numbers and alphanumeric names of senders and service centres (3GPP TS 23.040 9.1.2.5, TS 24.011 8.2.5).
//!
//! Contract: a value always fits the field (20 semi-octets; 10 octets of septets). Decoding takes any type and plan, also reserved ones.
//! Failure class: `NumberError`, when what was typed is no number.

use core::fmt;

use heapless::{String, Vec};

use crate::alphabet::{Code, ESCAPE, Tables};
use crate::septet;

/// Longest number, in digits. TS 23.040 9.1.2.3: an address takes 12 octets, two of them length and type.
const DIGITS_MAX: usize = 20;
/// Octets that the text of the longest name takes: 11 septets of up to 3 octets each.
const VALUE_MAX: usize = 36;

/// Type of number. TS 23.040 9.1.2.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NumberType {
    /// 000: not known beforehand; the number carries its prefix.
    Unknown,
    /// 001: international, country code first.
    International,
    /// 010: national, without prefix.
    National,
    /// 011: specific to a network.
    Network,
    /// 100: a subscriber number, or a short code.
    Subscriber,
    /// 101: a name in the 7-bit default alphabet.
    Alphanumeric,
    /// 110: abbreviated.
    Abbreviated,
    /// 111: reserved for extension.
    Reserved,
}

/// Numbering plan. TS 23.040 9.1.2.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NumberPlan {
    /// 0000.
    Unknown,
    /// 0001: telephone, ITU-T E.164.
    Telephone,
    /// Any other (data, telex, national, private, ERMES, reserved): the four bits.
    Other(u8),
}

/// An address as a TPDU or a service centre field carries it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    kind: NumberType,
    plan: NumberPlan,
    value: String<VALUE_MAX>,
}

/// Why what was typed is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberError {
    /// No digit in it.
    Empty,
    /// More than 20 digits, or a name over 11 septets.
    TooLong,
    /// A character that no number (or no name in the default alphabet) has.
    Character(char),
}

impl fmt::Display for NumberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the number has no digits"),
            Self::TooLong => f.write_str("the number is longer than a short message can carry"),
            Self::Character(c) => write!(f, "a number cannot hold the character {c:?}"),
        }
    }
}

impl core::error::Error for NumberError {}

impl Address {
    /// A number as people write it: digits, `*`, `#`; spaces, `-`, `.`, `/`, brackets and the digits of other scripts' full width
    /// forms are allowed; a leading `+` makes it international, else its type is unknown.
    ///
    /// # Errors
    /// `NumberError`.
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        let mut value = String::new();
        let mut kind = NumberType::Unknown;
        for c in text.trim().chars() {
            match c {
                '+' | '\u{FF0B}' if value.is_empty() && kind == NumberType::Unknown => kind = NumberType::International,
                '0'..='9' | '*' | '#' => push_digit(&mut value, c)?,
                '\u{FF10}'..='\u{FF19}' => push_digit(&mut value, char::from(b'0' + (u32::from(c) - 0xFF10) as u8))?,
                ' ' | '-' | '.' | '/' | '(' | ')' | '\u{A0}' | '\u{2010}'..='\u{2013}' => {}
                _ => return Err(NumberError::Character(c)),
            }
        }
        if value.is_empty() {
            return Err(NumberError::Empty);
        }
        Ok(Self { kind, plan: NumberPlan::Telephone, value })
    }

    /// A number of any type and plan. Digits, `*`, `#`, `a`, `b`, `c` (TS 23.040 9.1.2.3).
    ///
    /// # Errors
    /// `NumberError`; an empty number is allowed here.
    pub fn number(kind: NumberType, plan: NumberPlan, digits: &str) -> Result<Self, NumberError> {
        if kind == NumberType::Alphanumeric {
            return Self::name(digits);
        }
        let mut value = String::new();
        for c in digits.chars() {
            semi_octet(c).ok_or(NumberError::Character(c))?;
            push_digit(&mut value, c)?;
        }
        Ok(Self { kind, plan, value })
    }

    /// A name in the default alphabet, as senders have: at most 11 septets.
    ///
    /// # Errors
    /// `NumberError`.
    // TS 23.040 9.1.2.5: alphanumeric, plan 0
    pub fn name(text: &str) -> Result<Self, NumberError> {
        let mut value = String::new();
        let mut septets = 0;
        for c in text.chars() {
            septets += Tables::DEFAULT.code(c).ok_or(NumberError::Character(c))?.septets();
            value.push(c).map_err(|_| NumberError::TooLong)?;
        }
        if septets > 11 {
            return Err(NumberError::TooLong);
        }
        Ok(Self { kind: NumberType::Alphanumeric, plan: NumberPlan::Unknown, value })
    }

    /// Type of number.
    #[must_use]
    pub fn kind(&self) -> NumberType {
        self.kind
    }

    /// Numbering plan.
    #[must_use]
    pub fn plan(&self) -> NumberPlan {
        self.plan
    }

    /// Digits without `+`, or the name.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether the address can be written to: digits, not a name.
    #[must_use]
    pub fn is_number(&self) -> bool {
        self.kind != NumberType::Alphanumeric && !self.value.is_empty()
    }

    /// Type-of-address octet.
    // TS 23.040 9.1.2.5
    #[must_use]
    pub fn type_octet(&self) -> u8 {
        let kind = match self.kind {
            NumberType::Unknown => 0,
            NumberType::International => 1,
            NumberType::National => 2,
            NumberType::Network => 3,
            NumberType::Subscriber => 4,
            NumberType::Alphanumeric => 5,
            NumberType::Abbreviated => 6,
            NumberType::Reserved => 7,
        };
        let plan = match self.plan {
            NumberPlan::Unknown => 0,
            NumberPlan::Telephone => 1,
            NumberPlan::Other(bits) => bits & 0x0F,
        };
        0x80 | kind << 4 | plan
    }

    /// The address field of a TPDU: length in semi-octets, type, value.
    // TS 23.040 9.1.2.5
    pub(crate) fn encode(&self) -> Vec<u8, 12> {
        let (length, octets) = self.value_octets();
        let mut out = Vec::new();
        let _ = out.extend_from_slice(&[length, self.type_octet()]);
        let _ = out.extend_from_slice(&octets);
        out
    }

    /// The service centre field before a TPDU: length in octets with the type, type, value.
    // TS 24.011 8.2.5.1, TS 27.005 3.3.1
    pub(crate) fn encode_centre(&self) -> Vec<u8, 12> {
        let (_, octets) = self.value_octets();
        let mut out = Vec::new();
        let _ = out.extend_from_slice(&[octets.len() as u8 + 1, self.type_octet()]);
        let _ = out.extend_from_slice(&octets);
        out
    }

    /// Semi-octets that count, and the octets of the value (10 at most, by the bounds of the constructors).
    fn value_octets(&self) -> (u8, Vec<u8, 10>) {
        let mut octets = Vec::new();
        if self.kind == NumberType::Alphanumeric {
            let mut septets = Vec::<u8, 11>::new();
            for code in self.value.chars().filter_map(|c| Tables::DEFAULT.code(c)) {
                let _ = match code {
                    Code::Plain(septet) => septets.push(septet),
                    Code::Escaped(septet) => septets.push(ESCAPE).and_then(|()| septets.push(septet)),
                };
            }
            let length = (septets.len() * 7).div_ceil(4) as u8;
            let _ = septet::pack(septets, 0, &mut octets);
            return (length, octets);
        }
        let mut digits = self.value.chars().filter_map(semi_octet);
        while let Some(low) = digits.next() {
            // TS 23.040 9.1.2.3: an odd number of digits is filled with 1111.
            let _ = octets.push(digits.next().unwrap_or(0x0F) << 4 | low);
        }
        (self.value.len() as u8, octets)
    }

    /// From the type octet, the value octets and the number of semi-octets that count.
    pub(crate) fn decode(kind: u8, octets: &[u8], semi_octets: usize) -> Self {
        let plan = match kind & 0x0F {
            0 => NumberPlan::Unknown,
            1 => NumberPlan::Telephone,
            other => NumberPlan::Other(other),
        };
        let kind = match kind >> 4 & 7 {
            0 => NumberType::Unknown,
            1 => NumberType::International,
            2 => NumberType::National,
            3 => NumberType::Network,
            4 => NumberType::Subscriber,
            5 => NumberType::Alphanumeric,
            6 => NumberType::Abbreviated,
            _ => NumberType::Reserved,
        };
        let mut value = String::new();
        if kind == NumberType::Alphanumeric {
            let count = (semi_octets.min(DIGITS_MAX) * 4 / 7).min(11);
            let mut septets = septet::unpack(octets, 0, count);
            while let Some(septet) = septets.next() {
                let c = match (septet, septets.len_left()) {
                    // An escape with nothing behind it is dropped: it would not be written again.
                    (ESCAPE, 0) => break,
                    (ESCAPE, _) => Tables::DEFAULT.escaped(septets.next().unwrap_or(b' ')),
                    (plain, _) => Tables::DEFAULT.plain(plain),
                };
                let _ = value.push(c);
            }
        } else {
            let digits = octets.iter().flat_map(|octet| [octet & 0x0F, octet >> 4]).take(semi_octets.min(DIGITS_MAX));
            // Some networks count the filler as a digit: the number ends there.
            for digit in digits.take_while(|digit| *digit != 0x0F) {
                let _ = value.push(char::from(b"0123456789*#abc"[usize::from(digit)]));
            }
        }
        Self { kind, plan, value }
    }
}

/// As people write it: `+` before an international number, a name as it is.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == NumberType::International {
            f.write_str("+")?;
        }
        f.write_str(&self.value)
    }
}

impl core::str::FromStr for Address {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Self, NumberError> {
        Self::parse(text)
    }
}

fn push_digit(value: &mut String<VALUE_MAX>, digit: char) -> Result<(), NumberError> {
    if value.len() >= DIGITS_MAX {
        return Err(NumberError::TooLong);
    }
    value.push(digit).map_err(|_| NumberError::TooLong)
}

/// TS 23.040 9.1.2.3: the sixteen semi-octets of an address, without the filler.
fn semi_octet(c: char) -> Option<u8> {
    Some(match c {
        '0'..='9' => c as u8 - b'0',
        '*' => 10,
        '#' => 11,
        'a' | 'b' | 'c' => c as u8 - b'a' + 12,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_write_numbers() {
        for (typed, shown, kind) in [
            ("13800138000", "13800138000", NumberType::Unknown),
            ("+86 138-0013-8000", "+8613800138000", NumberType::International),
            (" (010) 6234.5678 ", "01062345678", NumberType::Unknown),
            ("＋８６１３８００１３８０００", "+8613800138000", NumberType::International),
            ("*100#", "*100#", NumberType::Unknown),
            ("+49 30/1234", "+49301234", NumberType::International),
            ("10086", "10086", NumberType::Unknown),
        ] {
            let address = Address::parse(typed).expect(typed);
            assert_eq!((address.value(), address.kind()), (shown.trim_start_matches('+'), kind), "{typed}");
        }
        for (typed, error) in [
            ("", NumberError::Empty),
            ("+", NumberError::Empty),
            (" - ", NumberError::Empty),
            ("123456789012345678901", NumberError::TooLong),
            ("12a4", NumberError::Character('a')),
            ("++49", NumberError::Character('+')),
            ("49+", NumberError::Character('+')),
            ("张三", NumberError::Character('张')),
            ("12345@example.org", NumberError::Character('@')),
        ] {
            assert_eq!(Address::parse(typed), Err(error), "{typed}");
        }
        assert_eq!(Address::name("Twinpost Ltd."), Err(NumberError::TooLong));
        assert_eq!(Address::name("中文"), Err(NumberError::Character('中')));
        assert!(!Address::name("Twinpost").expect("fits").is_number());
    }
}
