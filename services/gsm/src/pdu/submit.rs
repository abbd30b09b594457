//! Messages and orders: SUBMIT, DELIVER, COMMAND (3GPP TS 23.040 9.2.2.1, 9.2.2.2, 9.2.2.4).

use heapless::Vec;

use super::{Error, Input, Output, Tpdu, bit};
use crate::address::Address;
use crate::dcs::Dcs;
use crate::time::{EnhancedValidity, TimeStamp, Validity};
use crate::user_data::UserData;

/// SMS-SUBMIT: a message from the mobile. TS 23.040 9.2.2.2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit {
    /// TP-RD: the service centre refuses a second one with the same reference and address that it still holds.
    pub reject_duplicates: bool,
    /// TP-SRR: a status report is wanted.
    pub report: bool,
    /// TP-RP.
    pub reply_path: bool,
    /// TP-MR. A modem puts its own in its place and answers with it.
    pub reference: u8,
    /// TP-DA.
    pub to: Address,
    /// TP-PID: 0, or 0x41 to 0x47 to replace an earlier message of the same type.
    pub pid: u8,
    /// TP-DCS.
    pub dcs: Dcs,
    /// TP-VP.
    pub validity: Validity,
    /// TP-UD.
    pub data: UserData,
}

impl Submit {
    /// A plain message: no report, no validity.
    #[must_use]
    pub fn new(to: Address, dcs: Dcs, data: UserData) -> Self {
        Self {
            reject_duplicates: false,
            report: false,
            reply_path: false,
            reference: 0,
            to,
            pid: 0,
            dcs,
            validity: Validity::Unset,
            data,
        }
    }

    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Tpdu {
        // TS 23.040 9.2.3.3: format of the validity period
        let format = match self.validity {
            Validity::Unset => 0x00,
            Validity::Enhanced(_) => 0x08,
            Validity::Relative(_) => 0x10,
            Validity::Absolute(_) => 0x18,
        };
        let mut out = Output::new(
            0x01 | bit(self.reject_duplicates, 0x04)
                | format
                | bit(self.report, 0x20)
                | bit(self.data.has_header(), 0x40)
                | bit(self.reply_path, 0x80),
        );
        out.octet(self.reference);
        out.octets(&self.to.encode());
        out.octet(self.pid);
        out.octet(self.dcs.0);
        match &self.validity {
            Validity::Unset => {}
            Validity::Relative(octet) => out.octet(*octet),
            Validity::Absolute(TimeStamp(octets)) | Validity::Enhanced(EnhancedValidity(octets)) => out.octets(octets),
        }
        out.user_data(&self.data);
        out.0
    }

    pub(super) fn decode(octets: &[u8]) -> Result<Self, Error> {
        let mut input = Input(octets);
        let first = input.octet("TP-MTI")?;
        let reference = input.octet("TP-MR")?;
        let to = input.address("TP-DA")?;
        let pid = input.octet("TP-PID")?;
        let dcs = Dcs(input.octet("TP-DCS")?);
        let validity = match first & 0x18 {
            0x08 => Validity::Enhanced(EnhancedValidity(input.seven("TP-VP")?)),
            0x10 => Validity::Relative(input.octet("TP-VP")?),
            0x18 => Validity::Absolute(input.time("TP-VP")?),
            _ => Validity::Unset,
        };
        let data = input.user_data(first & 0x40 != 0, dcs)?;
        Ok(Self {
            reject_duplicates: first & 0x04 != 0,
            report: first & 0x20 != 0,
            reply_path: first & 0x80 != 0,
            reference,
            to,
            pid,
            dcs,
            validity,
            data,
        })
    }
}

/// SMS-DELIVER: a message for the mobile. TS 23.040 9.2.2.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deliver {
    /// More messages wait in the service centre (TP-MMS is 0 then).
    pub more: bool,
    /// TP-LP: forwarded already; not to be forwarded again.
    pub forwarded: bool,
    /// TP-SRI: the sender wants a status report; the service centre's affair.
    pub report: bool,
    /// TP-RP.
    pub reply_path: bool,
    /// TP-OA.
    pub from: Address,
    /// TP-PID. 0x40 is a silent message: acknowledged and thrown away.
    pub pid: u8,
    /// TP-DCS.
    pub dcs: Dcs,
    /// TP-SCTS: when the service centre took it.
    pub time: TimeStamp,
    /// TP-UD.
    pub data: UserData,
}

impl Deliver {
    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Tpdu {
        let mut out = Output::new(
            bit(!self.more, 0x04)
                | bit(self.forwarded, 0x08)
                | bit(self.report, 0x20)
                | bit(self.data.has_header(), 0x40)
                | bit(self.reply_path, 0x80),
        );
        out.octets(&self.from.encode());
        out.octet(self.pid);
        out.octet(self.dcs.0);
        out.octets(&self.time.0);
        out.user_data(&self.data);
        out.0
    }

    pub(super) fn decode(octets: &[u8]) -> Result<Self, Error> {
        let mut input = Input(octets);
        let first = input.octet("TP-MTI")?;
        let from = input.address("TP-OA")?;
        let pid = input.octet("TP-PID")?;
        let dcs = Dcs(input.octet("TP-DCS")?);
        let time = input.time("TP-SCTS")?;
        let data = input.user_data(first & 0x40 != 0, dcs)?;
        Ok(Self {
            more: first & 0x04 == 0,
            forwarded: first & 0x08 != 0,
            report: first & 0x20 != 0,
            reply_path: first & 0x80 != 0,
            from,
            pid,
            dcs,
            time,
            data,
        })
    }

    /// Whether the network wants it acknowledged and thrown away unseen.
    // TS 23.040 9.2.3.9: short message type 0
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.pid == 0x40
    }
}

/// SMS-COMMAND: an order about a message sent before. TS 23.040 9.2.2.4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// TP-SRR.
    pub report: bool,
    /// TP-UDHI: the data begins with a header.
    pub has_header: bool,
    /// TP-MR of the command.
    pub reference: u8,
    /// TP-PID.
    pub pid: u8,
    /// TP-CT: 0 enquiry, 1 cancel the report request, 2 delete, 3 enable the report request. TS 23.040 9.2.3.19.
    pub command: u8,
    /// TP-MN: reference of the message that is meant.
    pub message: u8,
    /// TP-DA of that message.
    pub to: Address,
    /// TP-CD.
    pub data: Vec<u8, 156>,
}

impl Command {
    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Tpdu {
        let mut out = Output::new(0x02 | bit(self.report, 0x20) | bit(self.has_header, 0x40));
        out.octets(&[self.reference, self.pid, self.command, self.message]);
        out.octets(&self.to.encode());
        out.octet(self.data.len() as u8);
        out.octets(&self.data);
        out.0
    }

    pub(super) fn decode(octets: &[u8]) -> Result<Self, Error> {
        let mut input = Input(octets);
        let first = input.octet("TP-MTI")?;
        let reference = input.octet("TP-MR")?;
        let pid = input.octet("TP-PID")?;
        let command = input.octet("TP-CT")?;
        let message = input.octet("TP-MN")?;
        let to = input.address("TP-DA")?;
        let length = input.octet("TP-CDL")?;
        let data = Vec::from_slice(input.take(usize::from(length), "TP-CD")?).map_err(|_| Error::Field("TP-CDL"))?;
        Ok(Self { report: first & 0x20 != 0, has_header: first & 0x40 != 0, reference, pid, command, message, to, data })
    }
}
