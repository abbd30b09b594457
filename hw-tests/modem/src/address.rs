//! 3GPP TS 23.040 9.1.2.5: numbers as addresses, and the service centre's address in front of a PDU (27.005 3.1, 24.011 8.2.5.1).

use crate::alphabet;

/// A number or a name, with the octet that says which.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Number {
    /// Type-of-address octet: 0x91 international, 0x81 unknown, 0xD0 alphanumeric, ...
    pub kind: u8,
    /// Digits (also `*#abc`), or the name.
    pub value: String,
}

/// 23.040 9.1.2.3: semi-octet 0xA is `*` and so on; 0xF fills.
const DIGITS: &[u8; 15] = b"0123456789*#abc";

impl Number {
    /// `+49...` international, digits as unknown, anything else as a name of at most 11 characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(digits) = text.strip_prefix('+') {
            let good = (1..=20).contains(&digits.len()) && digits.bytes().all(|d| d.is_ascii_digit());
            return good.then(|| Self { kind: 0x91, value: digits.to_owned() });
        }
        if (1..=20).contains(&text.len()) && text.bytes().all(|d| DIGITS.contains(&d)) {
            return Some(Self { kind: 0x81, value: text.to_owned() });
        }
        let septets = alphabet::encode(text)?.len();
        (1..=11).contains(&septets).then(|| Self { kind: 0xd0, value: text.to_owned() })
    }

    fn is_name(kind: u8) -> bool {
        kind & 0x70 == 0x50
    }

    pub(crate) fn decode(length: u8, kind: u8, octets: &[u8]) -> Option<Self> {
        if Self::is_name(kind) {
            let codes = alphabet::unpack(octets, usize::from(length) * 4 / 7, 0);
            return Some(Self { kind, value: alphabet::decode(&codes, 0, 0) });
        }
        let halves = octets.iter().flat_map(|o| [o & 15, o >> 4]);
        let value = halves.take(length.into()).map(|h| DIGITS.get(usize::from(h)).map(|d| char::from(*d)));
        Some(Self { kind, value: value.collect::<Option<String>>()? })
    }

    fn semi_octets(&self) -> Vec<u8> {
        let halves: Vec<u8> = self.value.bytes().map(|d| DIGITS.iter().position(|x| *x == d).unwrap_or(0) as u8).collect();
        halves.chunks(2).map(|pair| pair[0] | pair.get(1).unwrap_or(&15) << 4).collect()
    }

    /// As an address field: length in semi-octets, kind, octets.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        if Self::is_name(self.kind) {
            let codes = alphabet::encode(&self.value).unwrap_or_default();
            // 9.1.2.5: the number of useful semi-octets.
            out.extend([(codes.len() * 7).div_ceil(4) as u8, self.kind]);
            out.extend(alphabet::pack(&codes, 0));
        } else {
            out.extend([self.value.len() as u8, self.kind]);
            out.extend(self.semi_octets());
        }
    }

    /// As the service centre's address in front of a PDU: length in octets with the kind.
    pub(crate) fn encode_centre(&self, out: &mut Vec<u8>) {
        let octets = self.semi_octets();
        out.extend([octets.len() as u8 + 1, self.kind]);
        out.extend(octets);
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.kind & 0x70 == 0x10 {
            f.write_str("+")?;
        }
        f.write_str(&self.value)
    }
}

/// Takes the service centre's address off the front of a PDU: the address (none when its length is 0), and the TPDU.
pub(crate) fn split_centre(pdu: &[u8]) -> Option<(Option<Number>, &[u8])> {
    let (length, rest) = pdu.split_first()?;
    if *length == 0 {
        return Some((None, rest));
    }
    let (octets, tpdu) = rest.split_at_checked(usize::from(*length))?;
    let (kind, digits) = octets.split_first()?;
    let filled = digits.last().is_some_and(|o| o >> 4 == 15);
    let length = (digits.len() * 2).checked_sub(usize::from(filled))?;
    if length > 20 {
        return None;
    }
    Some((Some(Number::decode(length as u8, *kind, digits)?), tpdu))
}

/// Octets as hex digits, as modems write them.
#[must_use]
pub fn hex(octets: &[u8]) -> String {
    octets.iter().flat_map(|o| [o >> 4, o & 15]).map(|h| char::from(b"0123456789ABCDEF"[usize::from(h)])).collect()
}

/// Hex digits as octets; `None` when there is anything else or a digit too few.
#[must_use]
pub fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}
