//! Reports: STATUS-REPORT, SUBMIT-REPORT, DELIVER-REPORT (3GPP TS 23.040 9.2.2.1a, 9.2.2.2a, 9.2.2.3).
//!
//! A report about an error begins with TP-FCS, one about success does not, and nothing in the TPDU itself says which it is: the layer
//! below (RP-ERROR or RP-ACK) does. Every TP-FCS has bit 7 set, and a parameter indicator has it only for a further octet, which no
//! release defines: so bit 7 of the second octet tells them apart.

use super::{Error, Input, Output, Tpdu, bit};
use crate::address::Address;
use crate::dcs::Dcs;
use crate::status::Status;
use crate::time::TimeStamp;
use crate::user_data::UserData;

/// SMS-STATUS-REPORT: what became of a message. TS 23.040 9.2.2.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReport {
    /// More messages wait in the service centre (TP-MMS is 0 then).
    pub more: bool,
    /// TP-LP.
    pub forwarded: bool,
    /// TP-SRQ: the report is about a command, not a message.
    pub about_command: bool,
    /// TP-MR of the message.
    pub reference: u8,
    /// TP-RA: to whom it went.
    pub to: Address,
    /// TP-SCTS: when the service centre took it.
    pub time: TimeStamp,
    /// TP-DT: when it was delivered, or last tried.
    pub discharge: TimeStamp,
    /// TP-ST.
    pub status: Status,
    /// TP-PID, optional.
    pub pid: Option<u8>,
    /// TP-DCS, optional.
    pub dcs: Option<Dcs>,
    /// TP-UD, optional.
    pub data: Option<UserData>,
}

impl StatusReport {
    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Tpdu {
        let has_header = self.data.as_ref().is_some_and(UserData::has_header);
        let mut out = Output::new(
            0x02 | bit(!self.more, 0x04) | bit(self.forwarded, 0x08) | bit(self.about_command, 0x20) | bit(has_header, 0x40),
        );
        out.octet(self.reference);
        out.octets(&self.to.encode());
        out.octets(&self.time.0);
        out.octets(&self.discharge.0);
        out.octet(self.status.0);
        // TS 23.040 9.2.2.3: the indicator is there when anything follows.
        let parameters = Parameters { pid: self.pid, dcs: self.dcs, data: self.data.as_ref() };
        if !parameters.is_empty() {
            parameters.encode_all(&mut out);
        }
        out.0
    }

    pub(super) fn decode(octets: &[u8]) -> Result<Self, Error> {
        let mut input = Input(octets);
        let first = input.octet("TP-MTI")?;
        let reference = input.octet("TP-MR")?;
        let to = input.address("TP-RA")?;
        let time = input.time("TP-SCTS")?;
        let discharge = input.time("TP-DT")?;
        let status = Status(input.octet("TP-ST")?);
        // A report that breaks off in its optional fields is still a report.
        let indicator = input.octet("TP-PI").unwrap_or(0);
        let (pid, dcs, data) = optional(&mut input, indicator, first & 0x40 != 0).unwrap_or((None, None, None));
        Ok(Self {
            more: first & 0x04 == 0,
            forwarded: first & 0x08 != 0,
            about_command: first & 0x20 != 0,
            reference,
            to,
            time,
            discharge,
            status,
            pid,
            dcs,
            data,
        })
    }
}

/// SMS-SUBMIT-REPORT: the service centre's answer to a SUBMIT or COMMAND. TS 23.040 9.2.2.2a.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmitReport {
    /// TP-FCS when it was refused; bit 7 is always set (see `failure_cause`).
    pub cause: Option<u8>,
    /// TP-SCTS.
    pub time: TimeStamp,
    /// TP-PID, optional.
    pub pid: Option<u8>,
    /// TP-DCS, optional.
    pub dcs: Option<Dcs>,
    /// TP-UD, optional.
    pub data: Option<UserData>,
}

impl SubmitReport {
    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Tpdu {
        let has_header = self.data.as_ref().is_some_and(UserData::has_header);
        let mut out = Output::new(0x01 | bit(has_header, 0x40));
        if let Some(cause) = self.cause {
            out.octet(cause | 0x80);
        }
        let parameters = Parameters { pid: self.pid, dcs: self.dcs, data: self.data.as_ref() };
        out.octet(parameters.indicator());
        out.octets(&self.time.0);
        parameters.encode(&mut out);
        out.0
    }

    pub(super) fn decode(octets: &[u8]) -> Result<Self, Error> {
        let mut input = Input(octets);
        let first = input.octet("TP-MTI")?;
        let (cause, indicator) = cause_and_indicator(&mut input)?;
        let time = input.time("TP-SCTS")?;
        let (pid, dcs, data) = optional(&mut input, indicator, first & 0x40 != 0)?;
        Ok(Self { cause, time, pid, dcs, data })
    }
}

/// SMS-DELIVER-REPORT: the mobile's answer to a DELIVER or STATUS-REPORT. TS 23.040 9.2.2.1a.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliverReport {
    /// TP-FCS when it is refused; bit 7 is always set.
    pub cause: Option<u8>,
    /// TP-PID, optional.
    pub pid: Option<u8>,
    /// TP-DCS, optional.
    pub dcs: Option<Dcs>,
    /// TP-UD, optional.
    pub data: Option<UserData>,
}

impl DeliverReport {
    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Tpdu {
        let has_header = self.data.as_ref().is_some_and(UserData::has_header);
        let mut out = Output::new(bit(has_header, 0x40));
        if let Some(cause) = self.cause {
            out.octet(cause | 0x80);
        }
        let parameters = Parameters { pid: self.pid, dcs: self.dcs, data: self.data.as_ref() };
        parameters.encode_all(&mut out);
        out.0
    }

    pub(super) fn decode(octets: &[u8]) -> Result<Self, Error> {
        let mut input = Input(octets);
        let first = input.octet("TP-MTI")?;
        let (cause, indicator) = cause_and_indicator(&mut input)?;
        let (pid, dcs, data) = optional(&mut input, indicator, first & 0x40 != 0)?;
        Ok(Self { cause, pid, dcs, data })
    }
}

/// The optional fields behind a parameter indicator. TS 23.040 9.2.3.27.
struct Parameters<'a> {
    pid: Option<u8>,
    dcs: Option<Dcs>,
    data: Option<&'a UserData>,
}

impl Parameters<'_> {
    fn is_empty(&self) -> bool {
        self.indicator() == 0
    }

    fn indicator(&self) -> u8 {
        bit(self.pid.is_some(), 0x01) | bit(self.dcs.is_some(), 0x02) | bit(self.data.is_some(), 0x04)
    }

    fn encode_all(&self, out: &mut Output) {
        out.octet(self.indicator());
        self.encode(out);
    }

    fn encode(&self, out: &mut Output) {
        if let Some(pid) = self.pid {
            out.octet(pid);
        }
        if let Some(dcs) = self.dcs {
            out.octet(dcs.0);
        }
        if let Some(data) = self.data {
            out.user_data(data);
        }
    }
}

fn cause_and_indicator(input: &mut Input<'_>) -> Result<(Option<u8>, u8), Error> {
    let octet = input.octet("TP-PI")?;
    if octet & 0x80 == 0 {
        return Ok((None, octet));
    }
    // The indicator of an error report may be left out by old mobiles: then nothing follows.
    Ok((Some(octet), input.octet("TP-PI").unwrap_or(0)))
}

type Optional = (Option<u8>, Option<Dcs>, Option<UserData>);

fn optional(input: &mut Input<'_>, indicator: u8, has_header: bool) -> Result<Optional, Error> {
    let pid = if indicator & 1 == 0 { None } else { Some(input.octet("TP-PID")?) };
    let dcs = if indicator & 2 == 0 { None } else { Some(Dcs(input.octet("TP-DCS")?)) };
    // TS 23.040 9.2.3.27: without TP-DCS the user data is in the default alphabet.
    let data = if indicator & 4 == 0 { None } else { Some(input.user_data(has_header, dcs.unwrap_or_default())?) };
    Ok((pid, dcs, data))
}
