//! The user data header: information elements (3GPP TS 23.040 9.2.3.24).
//!
//! Contract: any octets are read; a header whose elements do not fill it exactly is ignored as a whole, unknown elements are
//! passed on and skipped, of a repeated element the last one counts: as the standard orders. Nothing fails.

use crate::alphabet::{Language, Tables};

/// Which part of which message this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Concatenation {
    /// Whether the reference has 16 bits. A sender counts both kinds apart.
    pub wide: bool,
    /// The same in all parts of a message.
    pub reference: u16,
    /// Parts in all, 1 to 255.
    pub total: u8,
    /// This part, 1 to `total`.
    pub number: u8,
}

/// Application ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ports {
    /// Where it goes.
    pub destination: u16,
    /// Where it is from.
    pub source: u16,
}

/// One information element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    /// 0x00 and 0x08.
    Concatenation(Concatenation),
    /// 0x04 and 0x05.
    Ports(Ports),
    /// 0x24: the table behind the escape.
    SingleShift(Language),
    /// 0x25: the main table.
    LockingShift(Language),
    /// Any other, or one of the above with nonsense in it.
    Other {
        /// Identifier.
        id: u8,
        /// What it holds.
        data: &'a [u8],
    },
}

/// Identifiers. TS 23.040 9.2.3.24.
pub(crate) mod id {
    pub(crate) const CONCATENATION: u8 = 0x00;
    pub(crate) const PORTS: u8 = 0x04;
    pub(crate) const WIDE_PORTS: u8 = 0x05;
    pub(crate) const WIDE_CONCATENATION: u8 = 0x08;
    pub(crate) const SINGLE_SHIFT: u8 = 0x24;
    pub(crate) const LOCKING_SHIFT: u8 = 0x25;
}

/// What the elements that matter say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderInfo {
    /// Part of a longer message.
    pub concatenation: Option<Concatenation>,
    /// Application ports.
    pub ports: Option<Ports>,
    /// National tables.
    pub tables: Tables,
}

/// The elements of a header, its length octet taken off.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    /// Of the octets behind the length octet.
    #[must_use]
    pub fn new(header: &'a [u8]) -> Self {
        // TS 23.040 9.2.3.24: too few or too many octets in the last element: the whole header is ignored.
        let mut rest = header;
        while let Some((_, _, behind)) = cut(rest) {
            rest = behind;
        }
        Self { rest: if rest.is_empty() { header } else { &[] } }
    }

    /// What they say in all.
    #[must_use]
    pub fn info(self) -> HeaderInfo {
        let mut info = HeaderInfo::default();
        for element in self {
            match element {
                Element::Concatenation(concatenation) => info.concatenation = Some(concatenation),
                Element::Ports(ports) => info.ports = Some(ports),
                Element::SingleShift(language) => info.tables.single = Some(language),
                Element::LockingShift(language) => info.tables.locking = Some(language),
                Element::Other { .. } => {}
            }
        }
        info
    }
}

fn cut(octets: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[id, length], rest) = octets.split_first_chunk()?;
    let (data, rest) = rest.split_at_checked(usize::from(length))?;
    Some((id, data, rest))
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let (id, data, rest) = cut(self.rest)?;
        self.rest = rest;
        Some(element(id, data).unwrap_or(Element::Other { id, data }))
    }
}

fn element(id: u8, data: &[u8]) -> Option<Element<'_>> {
    match (id, data) {
        // TS 23.040 9.2.3.24.1
        (id::CONCATENATION, &[reference, total, number]) => concatenation(false, u16::from(reference), total, number),
        // TS 23.040 9.2.3.24.8
        (id::WIDE_CONCATENATION, &[high, low, total, number]) => {
            concatenation(true, u16::from_be_bytes([high, low]), total, number)
        }
        // TS 23.040 9.2.3.24.3
        (id::PORTS, &[destination, source]) => {
            Some(Element::Ports(Ports { destination: u16::from(destination), source: u16::from(source) }))
        }
        // TS 23.040 9.2.3.24.4
        (id::WIDE_PORTS, &[d1, d0, s1, s0]) => {
            Some(Element::Ports(Ports { destination: u16::from_be_bytes([d1, d0]), source: u16::from_be_bytes([s1, s0]) }))
        }
        // TS 23.040 9.2.3.24.15
        (id::SINGLE_SHIFT, &[language]) => Language::from_id(language).map(Element::SingleShift),
        // TS 23.040 9.2.3.24.16
        (id::LOCKING_SHIFT, &[language]) => {
            Language::from_id(language).filter(|language| language.has_locking()).map(Element::LockingShift)
        }
        _ => None,
    }
}

fn concatenation(wide: bool, reference: u16, total: u8, number: u8) -> Option<Element<'static>> {
    // TS 23.040 9.2.3.24.1: a total of 0, a number of 0 or above the total: the element is ignored.
    (total > 0 && number > 0 && number <= total).then_some(Element::Concatenation(Concatenation {
        wide,
        reference,
        total,
        number,
    }))
}

impl Element<'_> {
    /// Identifier, length and content; `None` when `out` has no room. The octets written.
    #[must_use]
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let mut held = [0u8; 4];
        let (id, data): (u8, &[u8]) = match self {
            Self::Concatenation(Concatenation { wide: false, reference, total, number }) => {
                held = [*reference as u8, *total, *number, 0];
                (id::CONCATENATION, &held[..3])
            }
            Self::Concatenation(Concatenation { wide: true, reference, total, number }) => {
                let [high, low] = reference.to_be_bytes();
                held = [high, low, *total, *number];
                (id::WIDE_CONCATENATION, &held)
            }
            Self::Ports(Ports { destination, source }) => {
                let ([d1, d0], [s1, s0]) = (destination.to_be_bytes(), source.to_be_bytes());
                held = [d1, d0, s1, s0];
                (id::WIDE_PORTS, &held)
            }
            Self::SingleShift(language) => {
                held[0] = language.id();
                (id::SINGLE_SHIFT, &held[..1])
            }
            Self::LockingShift(language) => {
                held[0] = language.id();
                (id::LOCKING_SHIFT, &held[..1])
            }
            Self::Other { id, data } => (*id, data),
        };
        let length = u8::try_from(data.len()).ok()?;
        let target = out.get_mut(..data.len() + 2)?;
        target[0] = id;
        target[1] = length;
        target[2..].copy_from_slice(data);
        Some(target.len())
    }
}
