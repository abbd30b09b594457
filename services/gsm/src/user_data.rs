//! The user data of a PDU, TP-UD with TP-UDL and TP-UDHI (3GPP TS 23.040 9.2.3.16, 9.2.3.23, 9.2.3.24).
//!
//! Contract: at most 140 octets; `length` counts septets or octets as TP-UDL does. A header or text longer than the octets that came
//! is cut to them. Failure class of the constructors: `None` when it does not fit.

use heapless::Vec;

use crate::alphabet::{Code, ESCAPE, Tables};
use crate::dcs::{Coding, Dcs};
use crate::header::{Element, Elements, HeaderInfo};
use crate::septet::{Packer, fill_bits};
use crate::text::Text;

/// Octets of user data in one PDU. TS 23.040 9.2.3.16.
pub const USER_DATA_MAX: usize = 140;

/// User data of one PDU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserData {
    has_header: bool,
    length: u8,
    octets: Vec<u8, USER_DATA_MAX>,
}

impl UserData {
    /// Octets, with an optional header that is complete with its length octet. `None`: more than 140.
    #[must_use]
    pub fn from_octets(has_header: bool, octets: &[u8]) -> Option<Self> {
        let octets = Vec::from_slice(octets).ok()?;
        Some(Self { has_header, length: octets.len() as u8, octets })
    }

    /// Text in septets of the tables, those named in the header. `None`: too long, or a character that the tables lack.
    #[must_use]
    pub fn from_septets(elements: &[Element<'_>], tables: Tables, text: &str) -> Option<Self> {
        let mut data = Self::with_header(elements)?;
        let codes = text.chars().map(|c| tables.code(c));
        if codes.clone().any(|code| code.is_none()) {
            return None;
        }
        data.push_codes(codes.flatten()).then_some(data)
    }

    /// Text in UCS-2 (UTF-16, big end first). `None`: too long.
    #[must_use]
    pub fn from_ucs2(elements: &[Element<'_>], text: &str) -> Option<Self> {
        let mut data = Self::with_header(elements)?;
        data.push_units(text.chars()).then_some(data)
    }

    /// No text yet: a header of these elements, none when there are none.
    pub(crate) fn with_header(elements: &[Element<'_>]) -> Option<Self> {
        let mut data = Self::default();
        if elements.is_empty() {
            return Some(data);
        }
        let mut header = [0u8; USER_DATA_MAX];
        let mut at = 1;
        for element in elements {
            at += element.write(&mut header[at..])?;
        }
        header[0] = at as u8 - 1;
        data.has_header = true;
        data.octets.extend_from_slice(&header[..at]).ok()?;
        data.length = at as u8;
        Some(data)
    }

    /// Packs behind the header; `false` when it does not fit.
    pub(crate) fn push_codes(&mut self, codes: impl Iterator<Item = Code>) -> bool {
        let before = self.octets.len();
        let mut packer = Packer::new(if before == 0 { 0 } else { fill_bits(before) });
        // TS 23.040 9.2.3.16: the length counts the header's septets with the fill bits.
        let mut length = (before * 8).div_ceil(7);
        let mut fits = true;
        for code in codes {
            fits &= match code {
                Code::Plain(septet) => packer.push(septet, &mut self.octets),
                Code::Escaped(septet) => {
                    packer.push(ESCAPE, &mut self.octets).and_then(|()| packer.push(septet, &mut self.octets))
                }
            }
            .is_ok();
            length += usize::from(code.septets());
        }
        fits &= packer.finish(&mut self.octets).is_ok();
        self.length = length.min(160) as u8;
        fits && length <= 160
    }

    /// Appends UTF-16; `false` when it does not fit.
    pub(crate) fn push_units(&mut self, mut characters: impl Iterator<Item = char>) -> bool {
        let fits = characters.all(|c| {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().all(|unit| self.octets.extend_from_slice(&unit.to_be_bytes()).is_ok())
        });
        self.length = self.octets.len() as u8;
        fits
    }

    /// From TP-UDL and the octets that follow it; more than there are is cut.
    pub(crate) fn decode(has_header: bool, dcs: Dcs, length: u8, octets: &[u8]) -> Self {
        let septets = counts_septets(dcs);
        let most = if septets { 160 } else { USER_DATA_MAX };
        let mut length = usize::from(length).min(most);
        let wanted = if septets { (length * 7).div_ceil(8) } else { length };
        let octets = octets.get(..wanted).unwrap_or(octets);
        if octets.len() < wanted {
            length = if septets { octets.len() * 8 / 7 } else { octets.len() };
        }
        Self { has_header, length: length as u8, octets: octets.iter().copied().take(USER_DATA_MAX).collect() }
    }

    /// TP-UDHI.
    #[must_use]
    pub fn has_header(&self) -> bool {
        self.has_header
    }

    /// TP-UDL: septets or octets, as the coding orders.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.length
    }

    /// All octets, header and text.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Octets that the header takes with its length octet.
    #[must_use]
    pub fn header_octets(&self) -> usize {
        match self.octets.first() {
            Some(&length) if self.has_header => (usize::from(length) + 1).min(self.octets.len()),
            _ => 0,
        }
    }

    /// The elements of the header.
    #[must_use]
    pub fn elements(&self) -> Elements<'_> {
        let header = self.octets.get(1..self.header_octets()).unwrap_or(&[]);
        // A header cut short is not read.
        let whole = self.octets.first().is_some_and(|&length| usize::from(length) == header.len());
        Elements::new(if whole { header } else { &[] })
    }

    /// What the header says.
    #[must_use]
    pub fn info(&self) -> HeaderInfo {
        self.elements().info()
    }

    /// Octets behind the header: the data of an 8-bit message.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.octets.get(self.header_octets()..).unwrap_or(&[])
    }

    /// Septets behind the header with its fill bits.
    pub(crate) fn septets(&self) -> crate::septet::Septets<'_> {
        let header = self.header_octets();
        let fill = if header == 0 { 0 } else { fill_bits(header) };
        let count = usize::from(self.length).saturating_sub((header * 8).div_ceil(7));
        crate::septet::unpack(self.payload(), fill, count)
    }

    /// The text of this part alone; empty for 8-bit and compressed data. Parts of one message are better read with `Reader`.
    #[must_use]
    pub fn text(&self, dcs: Dcs) -> Text<'_> {
        Text::new(dcs, self)
    }
}

/// TS 23.040 9.2.3.16: compressed text is counted in octets.
fn counts_septets(dcs: Dcs) -> bool {
    dcs.coding() == Coding::Septets && !dcs.compressed()
}
