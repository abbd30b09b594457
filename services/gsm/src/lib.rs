//! GSM short messages: alphabets, protocol data units, segmentation and joining (3GPP TS 23.038, TS 23.040, TS 24.011, TS 27.005).
//!
//! Contract: `no_std`, no allocation, no clock, no I/O. Everything has a fixed size; nothing panics on any input. Times come in as
//! numbers. Failure classes: `Error` (octets that are no such PDU), `TooLong` (a text over the allowed number of parts),
//! `NumberError` (what was typed is no number). Text is never lost silently: what the 7-bit tables lack goes as UCS-2.
//!
//! ```
//! use twinpost_gsm::{Address, Options, Submit, segment};
//! let segments = segment("第二个节点的磁盘已满", &Options::default())?;
//! let to = Address::parse("+86 138 0013 8000").expect("a number");
//! for part in segments.parts(7) {
//!     let pdu = Submit::new(to.clone(), segments.dcs(None), part.data).encode();
//!     assert_eq!(pdu.len(), 34); // for `AT+CMGS=`
//! }
//! # Ok::<(), twinpost_gsm::TooLong>(())
//! ```
//!
//! Way out: `segment` -> `Segments::parts` -> `Submit` -> `encode`. Way in: `Pdu::decode` -> `UserData::info` -> `Joiner` -> `Reader`.
#![no_std]

mod address;
mod alphabet;
mod cause;
mod cluster;
mod dcs;
mod header;
mod join;
#[rustfmt::skip]
mod marks;
mod pdu;
mod segment;
pub mod septet;
mod simplify;
mod status;
#[rustfmt::skip]
mod tables;
mod text;
mod time;
mod user_data;

pub use address::{Address, NumberError, NumberPlan, NumberType};
pub use alphabet::{Code, ESCAPE, Language, Languages, Tables};
pub use cause::{Blame, Cause, Lasting, cms_error, failure_cause};
pub use dcs::{Class, Coding, Dcs, Waiting, WaitingKind};
pub use header::{Concatenation, Element, Elements, HeaderInfo, Ports};
pub use join::{Joiner, Lost, Pushed};
pub use pdu::{
    Command, Deliver, DeliverReport, Direction, Error, Framed, PDU_MAX, Pdu, StatusReport, Submit, SubmitReport, TPDU_MAX, Tpdu,
};
pub use segment::{Alphabet, Count, Options, Part, Parts, Reference, Segments, TooLong, count, segment};
pub use simplify::simplify;
pub use status::{Status, StatusClass};
pub use text::{Reader, Text};
pub use time::{EnhancedValidity, TimeStamp, Validity};
pub use user_data::{USER_DATA_MAX, UserData};

/// Feeds any octets to every decoder, and what they give to the encoders. For property tests and fuzzers: it must return.
pub fn fuzz(data: &[u8]) {
    for direction in [Direction::ToMobile, Direction::FromMobile] {
        if let Ok(pdu) = Pdu::decode(data, direction) {
            let octets = pdu.encode();
            let again = Pdu::decode(&octets, direction).map(|pdu| pdu.encode());
            assert!(again.as_ref() == Ok(&octets), "what was encoded once is encoded the same again");
        }
        if let Ok(framed) = Framed::decode(data, direction) {
            let _ = framed.encode();
            if let Some((data, dcs)) = framed.pdu.user_data() {
                let mut reader = Reader::new();
                let characters = reader.part(dcs, data).count();
                assert!(characters <= USER_DATA_MAX * 8 / 7 + 1, "no septet gives two characters");
                let _ = (reader.end(), data.info());
            }
        }
    }
    if let Ok(text) = core::str::from_utf8(data) {
        let options = Options { languages: Languages::ALL, ..Options::default() };
        if let Ok(segments) = segment(text, &options) {
            for part in segments.parts(7) {
                let _ = part.data.info();
            }
        }
        let _ = Address::parse(text);
    }
    let _ = septet::unpack_padded(data).count();
}
