//! Operations of SMPP 3.4 octet by octet.

use crate::{decode, decode_ucs2};
use std::io::{Error, ErrorKind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// `command_id` of what is spoken here (SMPP 3.4 5.1.2.1); an answer has [`ANSWER`] besides.
pub const SUBMIT_SM: u32 = 0x04;
/// A message or a receipt for the other side.
pub const DELIVER_SM: u32 = 0x05;
/// The end of a session.
pub const UNBIND: u32 = 0x06;
/// The begin of a session in both directions.
pub const BIND_TRANSCEIVER: u32 = 0x09;
/// Are you there?
pub const ENQUIRE_LINK: u32 = 0x15;
/// The bit that tells an answer.
pub const ANSWER: u32 = 0x8000_0000;

/// Longest operation that is read.
const OPERATION_MAX_BYTES: u32 = 100_000;
/// `command_length`, `command_id`, `command_status`, `sequence_number`: SMPP 3.4 3.2.
const HEAD_BYTES: u32 = 16;

/// One operation as it is on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// `command_id`
    pub id: u32,
    /// `command_status`
    pub status: u32,
    /// `sequence_number`
    pub sequence: u32,
    /// What follows the head.
    pub body: Vec<u8>,
}

/// One connection, seen from the service centre; or one direction of it.
#[derive(Debug)]
pub struct Session<S = TcpStream> {
    /// The line.
    pub stream: S,
}

impl<S: AsyncRead + Unpin> Session<S> {
    /// Reads one operation.
    ///
    /// # Errors
    /// The line ended, or a length makes no sense.
    pub async fn read(&mut self) -> Result<Operation, Error> {
        let mut head = [0; HEAD_BYTES as usize];
        self.stream.read_exact(&mut head).await?;
        let [length, id, status, sequence] =
            [0, 4, 8, 12].map(|n| u32::from_be_bytes([head[n], head[n + 1], head[n + 2], head[n + 3]]));
        if !(HEAD_BYTES..=OPERATION_MAX_BYTES).contains(&length) {
            return Err(Error::new(ErrorKind::InvalidData, format!("command_length {length}")));
        }
        let mut body = vec![0; (length - HEAD_BYTES) as usize];
        self.stream.read_exact(&mut body).await?;
        Ok(Operation { id, status, sequence, body })
    }
}

impl<S: AsyncWrite + Unpin> Session<S> {
    /// Writes one operation.
    ///
    /// # Errors
    /// The line ended.
    pub async fn write(&mut self, id: u32, status: u32, sequence: u32, body: &[u8]) -> Result<(), Error> {
        self.stream.write_all(&octets(id, status, sequence, body)).await
    }
}

/// One operation as octets.
#[must_use]
pub fn octets(id: u32, status: u32, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = HEAD_BYTES + u32::try_from(body.len()).unwrap_or(OPERATION_MAX_BYTES);
    let mut out: Vec<u8> = [length, id, status, sequence].into_iter().flat_map(u32::to_be_bytes).collect();
    out.extend_from_slice(body);
    out
}

/// Reads field after field.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A C-Octet String: SMPP 3.4 3.1.
    fn string(&mut self) -> Option<Vec<u8>> {
        let end = self.0.iter().position(|b| *b == 0)?;
        let found = self.0[..end].to_vec();
        self.0 = &self.0[end + 1..];
        Some(found)
    }

    /// Type of number, numbering plan, number.
    fn address(&mut self) -> Option<(u8, u8, Vec<u8>)> {
        Some((self.octet()?, self.octet()?, self.string()?))
    }
}

/// The name and password of a bind (SMPP 3.4 4.1.5); none: it is cut short.
#[must_use]
pub fn credentials(body: &[u8]) -> Option<(String, String)> {
    let mut fields = Fields(body);
    let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
    Some((text(fields.string()?), text(fields.string()?)))
}

/// A `submit_sm`. SMPP 3.4 4.4.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitSm {
    /// Type of number, numbering plan and number of the destination.
    pub to: (u8, u8, Vec<u8>),
    /// `esm_class`: 0x40 says that a user data header begins the text.
    pub esm_class: u8,
    /// `validity_period`
    pub validity: Vec<u8>,
    /// `registered_delivery`
    pub registered: u8,
    /// `data_coding`
    pub data_coding: u8,
    /// `short_message`
    pub text: Vec<u8>,
    /// The optional parameters, as they are.
    pub tlvs: Vec<u8>,
}

impl SubmitSm {
    /// Reads the body; none: it is cut short.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let _service_type = fields.string()?;
        let _source = fields.address()?;
        let to = fields.address()?;
        let esm_class = fields.octet()?;
        let _protocol_and_priority = (fields.octet()?, fields.octet()?);
        let _schedule = fields.string()?;
        let validity = fields.string()?;
        let registered = fields.octet()?;
        let _replace = fields.octet()?;
        let data_coding = fields.octet()?;
        let _default_message = fields.octet()?;
        let length = usize::from(fields.octet()?);
        let text = fields.0.get(..length)?.to_vec();
        let tlvs = fields.0[length..].to_vec();
        Some(Self { to, esm_class, validity, registered, data_coding, text, tlvs })
    }

    /// The number as people write it. SMPP 3.4 5.2.5: type 1 is international.
    #[must_use]
    pub fn number(&self) -> String {
        format!("{}{}", if self.to.0 == 1 { "+" } else { "" }, String::from_utf8_lossy(&self.to.2))
    }

    /// What is told of its place among others (3GPP TS 23.040 9.2.3.24.1) as reference, parts and number, and what the
    /// phone shows.
    #[must_use]
    pub fn part(&self) -> ((u8, u8, u8), String) {
        let (place, text) = match self.text.as_slice() {
            [5, 0, 3, reference, parts, number, text @ ..] if self.esm_class & 0x40 != 0 => ((*reference, *parts, *number), text),
            text => ((0, 1, 1), text),
        };
        // SMPP 3.4 5.2.19: 8 is UCS2; 0 the centre's own alphabet, that of GSM here, one septet an octet.
        let text = if self.data_coding & 0x0C == 8 { decode_ucs2(text) } else { decode(text, 0, 0) };
        (place, text)
    }
}

/// The body of a `deliver_sm` from this number, which begins with + when it is international. SMPP 3.4 4.6.1.
///
/// # Panics
/// The text is longer than 254 octets.
#[must_use]
pub fn deliver_sm(from: &str, esm_class: u8, data_coding: u8, text: &[u8], tlvs: &[u8]) -> Vec<u8> {
    let (kind, digits) = from.strip_prefix('+').map_or((0, from), |digits| (1, digits));
    let mut body = vec![0, kind, 1];
    body.extend_from_slice(digits.as_bytes());
    body.extend_from_slice(b"\0\0\x0110690000\0");
    let length = u8::try_from(text.len()).ok().filter(|n| *n < 255);
    let length = length.expect("a short message has 254 octets at most, as the contract of this function says");
    body.extend_from_slice(&[esm_class, 0, 0, 0, 0, 0, 0, data_coding, 0, length]);
    body.extend_from_slice(text);
    body.extend_from_slice(tlvs);
    body
}
