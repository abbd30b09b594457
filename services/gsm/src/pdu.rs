//! Transfer protocol data units, both ways (3GPP TS 23.040 9.2.2).
//!
//! Contract: `decode` and then `encode` gives the octets of every well formed PDU again, and `encode` then `decode` every value.
//! What the standard orders to ignore (octets behind the user data, reserved values) is ignored. User data that ends early is kept as
//! far as it came: half a message is better than none. Failure class: `Error`, octets that are no such PDU.

mod report;
mod submit;

use core::fmt;

use heapless::Vec;

pub use self::report::{DeliverReport, StatusReport, SubmitReport};
pub use self::submit::{Command, Deliver, Submit};
use crate::address::Address;
use crate::dcs::Dcs;
use crate::time::TimeStamp;
use crate::user_data::UserData;

/// Room for the longest TPDU: a command takes up to 174 octets, a status report with everything 173, a submit 164.
pub const TPDU_MAX: usize = 176;
/// The same with the service centre's address before it, as AT commands carry it.
pub const PDU_MAX: usize = TPDU_MAX + 12;

/// An encoded TPDU. Its length is the number that `AT+CMGS=` wants.
pub type Tpdu = Vec<u8, TPDU_MAX>;

/// Who sends it: the same type bits mean other PDUs each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Service centre to mobile: DELIVER, SUBMIT-REPORT, STATUS-REPORT.
    ToMobile,
    /// Mobile to service centre: SUBMIT, DELIVER-REPORT, COMMAND.
    FromMobile,
}

/// Why octets are no PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// They end in the named field.
    Ended(&'static str),
    /// The named field holds what it cannot.
    Field(&'static str),
    /// The type is reserved.
    Reserved,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(field) => write!(f, "the PDU ends in {field}"),
            Self::Field(field) => write!(f, "the PDU has nonsense in {field}"),
            Self::Reserved => f.write_str("the PDU is of a reserved type"),
        }
    }
}

impl core::error::Error for Error {}

/// Any TPDU.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // no allocation: the largest PDU is what all must hold
pub enum Pdu {
    /// A message for the mobile.
    Deliver(Deliver),
    /// The mobile's answer to it.
    DeliverReport(DeliverReport),
    /// A message from the mobile.
    Submit(Submit),
    /// The service centre's answer to it.
    SubmitReport(SubmitReport),
    /// What became of a message.
    StatusReport(StatusReport),
    /// An order about a message sent before.
    Command(Command),
}

impl Pdu {
    /// Reads a TPDU. The reports' cause is told from their parameter indicator, as in the field: see `report`.
    ///
    /// # Errors
    /// `Error`.
    pub fn decode(octets: &[u8], direction: Direction) -> Result<Self, Error> {
        let first = *octets.first().ok_or(Error::Ended("TP-MTI"))?;
        // TS 23.040 9.2.3.1
        match (direction, first & 3) {
            // A reserved type is processed like a DELIVER.
            (Direction::ToMobile, 0 | 3) => Deliver::decode(octets).map(Self::Deliver),
            (Direction::ToMobile, 1) => SubmitReport::decode(octets).map(Self::SubmitReport),
            (Direction::ToMobile, _) => StatusReport::decode(octets).map(Self::StatusReport),
            (Direction::FromMobile, 0) => DeliverReport::decode(octets).map(Self::DeliverReport),
            (Direction::FromMobile, 1) => Submit::decode(octets).map(Self::Submit),
            (Direction::FromMobile, 2) => Command::decode(octets).map(Self::Command),
            (Direction::FromMobile, _) => Err(Error::Reserved),
        }
    }

    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Tpdu {
        match self {
            Self::Deliver(pdu) => pdu.encode(),
            Self::DeliverReport(pdu) => pdu.encode(),
            Self::Submit(pdu) => pdu.encode(),
            Self::SubmitReport(pdu) => pdu.encode(),
            Self::StatusReport(pdu) => pdu.encode(),
            Self::Command(pdu) => pdu.encode(),
        }
    }

    /// Its user data and coding, when it has any.
    #[must_use]
    pub fn user_data(&self) -> Option<(&UserData, Dcs)> {
        match self {
            Self::Deliver(pdu) => Some((&pdu.data, pdu.dcs)),
            Self::Submit(pdu) => Some((&pdu.data, pdu.dcs)),
            Self::DeliverReport(pdu) => pdu.data.as_ref().map(|data| (data, pdu.dcs.unwrap_or_default())),
            Self::SubmitReport(pdu) => pdu.data.as_ref().map(|data| (data, pdu.dcs.unwrap_or_default())),
            Self::StatusReport(pdu) => pdu.data.as_ref().map(|data| (data, pdu.dcs.unwrap_or_default())),
            Self::Command(_) => None,
        }
    }
}

/// A TPDU behind the address of the service centre, as `+CMT`, `+CMGL` and `AT+CMGS` carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framed {
    /// Service centre; `None`: the one that the SIM names.
    pub centre: Option<Address>,
    /// What follows.
    pub pdu: Pdu,
}

impl Framed {
    /// Reads both.
    ///
    /// # Errors
    /// `Error`.
    // TS 27.005 3.1, <pdu>
    pub fn decode(octets: &[u8], direction: Direction) -> Result<Self, Error> {
        let mut input = Input(octets);
        let length = usize::from(input.octet("service centre address")?);
        if length > 11 {
            return Err(Error::Field("service centre address"));
        }
        let centre = match input.take(length, "service centre address")? {
            [] => None,
            [kind, digits @ ..] => Some(Address::decode(*kind, digits, digits.len() * 2)),
        };
        Ok(Self { centre, pdu: Pdu::decode(input.0, direction)? })
    }

    /// Writes both. The number for `AT+CMGS=` counts the TPDU alone: `encode().len()` of `pdu`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8, PDU_MAX> {
        let mut out = Vec::new();
        let centre = self.centre.as_ref().map_or_else(|| Vec::from_array([0]), Address::encode_centre);
        // Both fit: an address takes at most 12 octets, a TPDU at most TPDU_MAX.
        let _ = out.extend_from_slice(&centre);
        let _ = out.extend_from_slice(&self.pdu.encode());
        out
    }
}

/// Octets to come.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn octet(&mut self, field: &'static str) -> Result<u8, Error> {
        let (&octet, rest) = self.0.split_first().ok_or(Error::Ended(field))?;
        self.0 = rest;
        Ok(octet)
    }

    fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Error::Ended(field))?;
        self.0 = rest;
        Ok(taken)
    }

    fn seven(&mut self, field: &'static str) -> Result<[u8; 7], Error> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Error::Ended(field))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn time(&mut self, field: &'static str) -> Result<TimeStamp, Error> {
        self.seven(field).map(TimeStamp)
    }

    // TS 23.040 9.1.2.5
    fn address(&mut self, field: &'static str) -> Result<Address, Error> {
        let semi_octets = usize::from(self.octet(field)?);
        if semi_octets > 20 {
            return Err(Error::Field(field));
        }
        let kind = self.octet(field)?;
        let octets = self.take(semi_octets.div_ceil(2), field)?;
        Ok(Address::decode(kind, octets, semi_octets))
    }

    fn user_data(&mut self, has_header: bool, dcs: Dcs) -> Result<UserData, Error> {
        let length = self.octet("TP-UDL")?;
        Ok(UserData::decode(has_header, dcs, length, core::mem::take(&mut self.0)))
    }
}

/// Octets written. Everything that is pushed fits: TPDU_MAX is the sum of the longest fields of the longest PDU.
struct Output(Tpdu);

impl Output {
    fn new(first: u8) -> Self {
        Self(Vec::from_iter([first]))
    }

    fn octet(&mut self, octet: u8) {
        let fits = self.0.push(octet).is_ok();
        debug_assert!(fits, "TPDU_MAX is the sum of the longest fields");
    }

    fn octets(&mut self, octets: &[u8]) {
        let fits = self.0.extend_from_slice(octets).is_ok();
        debug_assert!(fits, "TPDU_MAX is the sum of the longest fields");
    }

    fn user_data(&mut self, data: &UserData) {
        self.octet(data.length());
        self.octets(data.octets());
    }
}

/// A bit of the first octet.
fn bit(set: bool, mask: u8) -> u8 {
    if set { mask } else { 0 }
}
