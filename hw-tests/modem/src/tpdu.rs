//! 3GPP TS 23.040 clause 9: the transfer protocol data units that a phone, a modem and a service centre pass to each other.
//!
//! Decoding takes any bytes: `Err` says which field was cut off or cannot be. Written from the standard for the simulator, with none of
//! the product's codec in it.

use crate::address::Number;
use crate::alphabet;
use crate::stamp;

/// Why octets are not a TPDU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The octets end inside this field.
    #[error("the TPDU ends inside {0}")]
    Short(&'static str),
    /// A field holds what the standard does not allow.
    #[error("{0}")]
    Field(&'static str),
    /// More octets than the fields need.
    #[error("{0} octets are left over behind the user data")]
    Long(usize),
}

/// How user data is written (TP-DCS, 23.038 clause 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alphabet {
    /// 7-bit default alphabet and its tables.
    Gsm7,
    /// Octets.
    Binary,
    /// UTF-16.
    Ucs2,
}

impl Alphabet {
    /// 23.038 clause 4: reserved codings are read as the default alphabet.
    #[must_use]
    pub fn of(dcs: u8) -> Self {
        match dcs >> 4 {
            0x0..=0x7 => match dcs >> 2 & 3 {
                1 => Self::Binary,
                2 => Self::Ucs2,
                _ => Self::Gsm7,
            },
            0xe => Self::Ucs2,
            0xf if dcs & 4 != 0 => Self::Binary,
            _ => Self::Gsm7,
        }
    }

    /// The word of the record file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gsm7 => "7bit",
            Self::Binary => "8bit",
            Self::Ucs2 => "ucs2",
        }
    }
}

/// The message class of a coding, if it names one. Class 0 is shown at once ("flash").
#[must_use]
pub fn class(dcs: u8) -> Option<u8> {
    let named = matches!(dcs >> 4, 0x1 | 0x3 | 0x5 | 0x7 | 0xf);
    named.then_some(dcs & 3)
}

/// Which part of which message a TPDU is (23.040 9.2.3.24.1 and .8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Concatenation {
    /// The same in all parts.
    pub reference: u16,
    /// 16 bits instead of 8.
    pub wide: bool,
    /// Number of parts.
    pub parts: u8,
    /// 1 for the first.
    pub part: u8,
}

/// What TP-UDL and TP-UD hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserData {
    /// How the text is written.
    pub alphabet: Alphabet,
    /// The text of this part alone.
    pub text: String,
    /// The octets behind the header, unpacked when 7-bit.
    pub raw: Vec<u8>,
    /// Present in parts of long messages.
    pub concatenation: Option<Concatenation>,
    /// National tables named by the header: locking and single (0: none).
    pub languages: (u8, u8),
    /// Header elements as they are: identifier and octets.
    pub header: Vec<(u8, Vec<u8>)>,
}

/// SMS-SUBMIT (23.040 9.2.2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submit {
    /// TP-RD: the service centre shall refuse a message that it still holds with the same reference and number.
    pub reject_duplicates: bool,
    /// TP-SRR.
    pub wants_report: bool,
    /// TP-RP.
    pub reply_path: bool,
    /// TP-MR.
    pub reference: u8,
    /// TP-DA.
    pub to: Number,
    /// TP-PID.
    pub protocol: u8,
    /// TP-DCS.
    pub coding: u8,
    /// TP-VP in seconds; absolute ones as seconds since 1970 (negative).
    pub validity: Validity,
    /// TP-UD.
    pub data: UserData,
}

/// TP-VP (23.040 9.2.3.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// None given: the service centre's own.
    Own,
    /// So many seconds from now.
    For(u32),
    /// Until a moment, in seconds since 1970.
    Until(i64),
}

/// SMS-DELIVER (23.040 9.2.2.1) to be encoded or shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deliver {
    /// TP-OA.
    pub from: Number,
    /// TP-DCS.
    pub coding: u8,
    /// TP-SCTS as its seven octets.
    pub stamp: [u8; 7],
    /// TP-UDL.
    pub length: u8,
    /// TP-UD with its header.
    pub octets: Vec<u8>,
    /// TP-UDHI.
    pub has_header: bool,
    /// More messages wait at the service centre (TP-MMS is its opposite).
    pub more: bool,
}

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) fn octet(&mut self, field: &'static str) -> Result<u8, Malformed> {
        Ok(self.octets(1, field)?[0])
    }

    pub(crate) fn octets(&mut self, n: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Malformed::Short(field))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn address(&mut self, field: &'static str) -> Result<Number, Malformed> {
        let length = self.octet(field)?;
        if length > 20 {
            return Err(Malformed::Field("an address is longer than 20 digits"));
        }
        let kind = self.octet(field)?;
        let digits = self.octets(usize::from(length).div_ceil(2), field)?;
        Number::decode(length, kind, digits).ok_or(Malformed::Field("an address holds what is no digit"))
    }
}

/// Reads user data: `length` counts septets for 7-bit text, octets otherwise (23.040 9.2.3.16).
pub(crate) fn user_data(octets: &[u8], length: u8, coding: u8, has_header: bool) -> Result<UserData, Malformed> {
    let alphabet = Alphabet::of(coding);
    let length = usize::from(length);
    let most = if alphabet == Alphabet::Gsm7 { 160 } else { 140 };
    if length > most {
        return Err(Malformed::Field("TP-UDL is above 160 septets or 140 octets"));
    }
    let wanted = if alphabet == Alphabet::Gsm7 { (length * 7).div_ceil(8) } else { length };
    if octets.len() < wanted {
        return Err(Malformed::Short("TP-UD"));
    }
    if octets.len() > wanted {
        return Err(Malformed::Long(octets.len() - wanted));
    }
    let mut header = Vec::new();
    let mut header_octets = 0;
    if has_header {
        let size = usize::from(*octets.first().ok_or(Malformed::Short("TP-UDHL"))?);
        let elements = octets.get(1..=size).ok_or(Malformed::Short("the user data header"))?;
        header_octets = size + 1;
        let mut rest = Reader::new(elements);
        while !rest.rest.is_empty() {
            let identifier = rest.octet("an information element")?;
            let length = rest.octet("an information element")?;
            header.push((identifier, rest.octets(usize::from(length), "an information element")?.to_vec()));
        }
    }
    let mut concatenation = None;
    let mut languages = (0, 0);
    for (identifier, data) in &header {
        match (identifier, data.as_slice()) {
            // 23.040 9.2.3.24.1: a part of 0, or beyond the number of parts, makes the element be ignored. The last one counts.
            (0x00, &[reference, parts, part]) if part > 0 && part <= parts => {
                concatenation = Some(Concatenation { reference: reference.into(), wide: false, parts, part });
            }
            (0x08, &[high, low, parts, part]) if part > 0 && part <= parts => {
                concatenation = Some(Concatenation { reference: u16::from_be_bytes([high, low]), wide: true, parts, part });
            }
            (0x24, &[language]) => languages.1 = language,
            (0x25, &[language]) => languages.0 = language,
            _ => {}
        }
    }
    let (text, raw) = match alphabet {
        Alphabet::Gsm7 => {
            let header_septets = (header_octets * 8).div_ceil(7);
            if header_septets > length {
                return Err(Malformed::Field("TP-UDHL is above TP-UDL"));
            }
            let fill_bits = header_septets * 7 - header_octets * 8;
            let codes = alphabet::unpack(&octets[header_octets..], length - header_septets, fill_bits);
            (alphabet::decode(&codes, languages.0, languages.1), codes)
        }
        Alphabet::Ucs2 => (alphabet::decode_ucs2(&octets[header_octets..]), octets[header_octets..].to_vec()),
        // What octets mean is between the programs at both ends: shown as ISO 8859-1, which loses none.
        Alphabet::Binary => (octets[header_octets..].iter().map(|o| char::from(*o)).collect(), octets[header_octets..].to_vec()),
    };
    Ok(UserData { alphabet, text, raw, concatenation, languages, header })
}

impl Submit {
    /// Reads an SMS-SUBMIT.
    ///
    /// # Errors
    /// [`Malformed`] with the field that is wrong.
    pub fn decode(octets: &[u8]) -> Result<Self, Malformed> {
        let mut rest = Reader::new(octets);
        let first = rest.octet("the first octet")?;
        if first & 3 != 1 {
            return Err(Malformed::Field("TP-MTI is not that of SMS-SUBMIT"));
        }
        let reference = rest.octet("TP-MR")?;
        let to = rest.address("TP-DA")?;
        let protocol = rest.octet("TP-PID")?;
        let coding = rest.octet("TP-DCS")?;
        let validity = match first >> 3 & 3 {
            0 => Validity::Own,
            2 => Validity::For(relative_s(rest.octet("TP-VP")?)),
            3 => {
                let octets = rest.octets(7, "TP-VP")?;
                Validity::Until(stamp::seconds(octets).ok_or(Malformed::Field("TP-VP is no moment"))?)
            }
            _ => enhanced(rest.octets(7, "TP-VP")?),
        };
        let length = rest.octet("TP-UDL")?;
        let data = user_data(rest.rest, length, coding, first & 0x40 != 0)?;
        Ok(Self {
            reject_duplicates: first & 0x04 != 0,
            wants_report: first & 0x20 != 0,
            reply_path: first & 0x80 != 0,
            reference,
            to,
            protocol,
            coding,
            validity,
            data,
        })
    }
}

/// 23.040 9.2.3.12.1.
fn relative_s(value: u8) -> u32 {
    let v = u32::from(value);
    match v {
        0..=143 => (v + 1) * 300,
        144..=167 => 12 * 3600 + (v - 143) * 1800,
        168..=196 => (v - 166) * 86_400,
        _ => (v - 192) * 7 * 86_400,
    }
}

/// 23.040 9.2.3.12.3.
fn enhanced(octets: &[u8]) -> Validity {
    match octets[0] & 7 {
        1 => Validity::For(relative_s(octets[1])),
        2 => Validity::For(octets[1].into()),
        3 => {
            let two = |o: u8| u32::from(o & 15) * 10 + u32::from(o >> 4);
            Validity::For(two(octets[1]) * 3600 + two(octets[2]) * 60 + two(octets[3]))
        }
        _ => Validity::Own,
    }
}

impl Deliver {
    /// The octets of the TPDU.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![u8::from(!self.more) << 2 | u8::from(self.has_header) << 6];
        self.from.encode(&mut out);
        out.push(0);
        out.push(self.coding);
        out.extend(self.stamp);
        out.push(self.length);
        out.extend(&self.octets);
        out
    }

    /// Reads an SMS-DELIVER.
    ///
    /// # Errors
    /// [`Malformed`] with the field that is wrong.
    pub fn decode(octets: &[u8]) -> Result<Self, Malformed> {
        let mut rest = Reader::new(octets);
        let first = rest.octet("the first octet")?;
        if first & 3 != 0 {
            return Err(Malformed::Field("TP-MTI is not that of SMS-DELIVER"));
        }
        let from = rest.address("TP-OA")?;
        rest.octet("TP-PID")?;
        let coding = rest.octet("TP-DCS")?;
        let mut stamp = [0; 7];
        stamp.copy_from_slice(rest.octets(7, "TP-SCTS")?);
        let length = rest.octet("TP-UDL")?;
        let has_header = first & 0x40 != 0;
        user_data(rest.rest, length, coding, has_header)?;
        Ok(Self { from, coding, stamp, length, octets: rest.rest.to_vec(), has_header, more: first & 4 == 0 })
    }

    /// What its user data says.
    ///
    /// # Errors
    /// [`Malformed`] with the field that is wrong.
    pub fn data(&self) -> Result<UserData, Malformed> {
        user_data(&self.octets, self.length, self.coding, self.has_header)
    }
}

/// Splits `text` into user data for the way down to a phone: TP-UDL, TP-UD, coding, header flag (23.040 9.2.3.24.1).
/// 7-bit when every character is in the default alphabet or its extension, else UCS-2; `reference` names a long message.
#[must_use]
pub fn split(text: &str, reference: u8) -> Vec<(u8, Vec<u8>, u8, bool)> {
    let (units, coding, one, each): (Vec<Vec<u8>>, u8, usize, usize) = match alphabet::encode(text) {
        // A character is not cut: the escape stays with its code, a surrogate with its other half.
        Some(_) => (text.chars().filter_map(|c| alphabet::encode(c.encode_utf8(&mut [0; 4]))).collect(), 0x00, 160, 153),
        None => (text.chars().map(|c| alphabet::encode_ucs2(c.encode_utf8(&mut [0; 4]))).collect(), 0x08, 140, 134),
    };
    let total: usize = units.iter().map(Vec::len).sum();
    let wrap = |part: &[u8], header: &[u8]| {
        if coding == 0x08 {
            let octets = [header, part].concat();
            (octets.len() as u8, octets, coding, !header.is_empty())
        } else {
            let header_septets = (header.len() * 8).div_ceil(7);
            let octets = [header, &alphabet::pack(part, header_septets * 7 - header.len() * 8)].concat();
            ((header_septets + part.len()) as u8, octets, coding, !header.is_empty())
        }
    };
    if total <= one {
        return vec![wrap(&units.concat(), &[])];
    }
    let mut parts: Vec<Vec<u8>> = vec![Vec::new()];
    for unit in units {
        if parts.last().is_none_or(|p| p.len() + unit.len() > each) {
            parts.push(Vec::new());
        }
        parts.last_mut().expect("a part was pushed above").extend(unit);
    }
    parts.truncate(255);
    let count = parts.len() as u8;
    (1..=count).zip(&parts).map(|(n, part)| wrap(part, &[5, 0, 3, reference, count, n])).collect()
}

/// SMS-STATUS-REPORT (23.040 9.2.2.3): what became of a message.
#[must_use]
pub fn status_report(reference: u8, to: &Number, sent: [u8; 7], done: [u8; 7], status: u8) -> Vec<u8> {
    let mut out = vec![0x06, reference];
    to.encode(&mut out);
    out.extend(sent);
    out.extend(done);
    out.push(status);
    out
}

/// Reads any octets as everything that they could be.
pub fn fuzz(data: &[u8]) {
    let _ = Submit::decode(data);
    if let Ok(deliver) = Deliver::decode(data) {
        let _ = deliver.data();
    }
}
