//! Between parts of messages and SMPP 3.4 operations. Everything that comes from the network is read without panic.

use crate::api::Reason;
use crate::book::{Body, Fragment, Reference};
use crate::settings::{LongText, SmppSettings};
use crate::transport::{Blame, Fate, Outcome, Parcel, Report};
use crate::{reasons, text};
use rusmpp::pdus::{BindTransceiver, DeliverSm, SubmitSm};
use rusmpp::tlvs::{MessageSubmissionRequestTlvValue as Tlv, TlvValue};
use rusmpp::types::{COctetString, EmptyOrFullCOctetString, OctetString};
use rusmpp::values::{DataCoding, EsmClass, InterfaceVersion, MessageState, Npi, RegisteredDelivery, Ton};
use std::str::FromStr;
use twinpost_gsm::{Address, Code, Tables, UserData};

/// SMPP 3.4 4.1.5 `bind_transceiver`. `None`: a name or password does not fit its field.
pub(super) fn bind(settings: &SmppSettings) -> Option<BindTransceiver> {
    Some(
        BindTransceiver::builder()
            .system_id(COctetString::from_str(&settings.system_id).ok()?)
            .password(COctetString::from_str(&settings.password).ok()?)
            .system_type(COctetString::from_str(&settings.system_type).ok()?)
            .interface_version(InterfaceVersion::Smpp3_4)
            .build(),
    )
}

/// SMPP 3.4 4.4.1 `submit_sm`. `None`: the number or the text does not fit.
pub(super) fn submit(settings: &SmppSettings, parcel: &Parcel) -> Option<SubmitSm> {
    let (piece, septets) = text::piece(&parcel.text, parcel.number)?;
    let mut body = Vec::with_capacity(160);
    let mut esm_class = 0;
    let several = parcel.of > 1;
    let reference = parcel.reference;
    if several && settings.long_text == LongText::Udh {
        // SMPP 3.4 5.2.12: bit 6, a user data header begins the short message. TS 23.040 9.2.3.24.1.
        esm_class = 0x40;
        body.extend_from_slice(&[5, 0, 3, reference.to_le_bytes()[0], parcel.of, parcel.number]);
    }
    if septets {
        for c in piece.chars() {
            match Tables::DEFAULT.code(c)? {
                Code::Plain(septet) => body.push(septet),
                Code::Escaped(septet) => body.extend_from_slice(&[twinpost_gsm::ESCAPE, septet]),
            }
        }
    } else {
        body.extend(piece.encode_utf16().flat_map(u16::to_be_bytes));
    }
    // SMPP 3.4 5.2.19: 8 is UCS2; the class of a flash message is given as a GSM coding, 0x10 and 0x18.
    let data_coding = match (septets, parcel.flash) {
        (true, false) => settings.gsm_data_coding,
        (false, false) => 8,
        (true, true) => 0x10,
        (false, true) => 0x18,
    };
    let (ton, npi, number) = address(&parcel.to);
    let mut sm = SubmitSm::builder()
        .dest_addr_ton(ton)
        .dest_addr_npi(npi)
        .destination_addr(COctetString::from_str(number).ok()?)
        .esm_class(EsmClass::from(esm_class))
        .validity_period(EmptyOrFullCOctetString::from_str(&validity(parcel.validity_s)).ok()?)
        .registered_delivery(RegisteredDelivery::from(u8::from(parcel.report)))
        .data_coding(DataCoding::from(data_coding))
        .short_message(OctetString::from_vec(body).ok()?);
    if let Some(source) = &settings.source {
        let (ton, npi, number) = if source.bytes().all(|b| b.is_ascii_digit() || b == b'+') {
            address(source)
        } else {
            (Ton::Alphanumeric, Npi::Unknown, source.as_str())
        };
        sm = sm.source_addr_ton(ton).source_addr_npi(npi).source_addr(COctetString::from_str(number).ok()?);
    }
    if several && settings.long_text == LongText::Sar {
        sm = sm
            .push_tlv(Tlv::SarMsgRefNum(reference))
            .push_tlv(Tlv::SarTotalSegments(parcel.of))
            .push_tlv(Tlv::SarSegmentSeqnum(parcel.number));
    }
    Some(sm.build())
}

fn address(number: &str) -> (Ton, Npi, &str) {
    match number.strip_prefix('+') {
        Some(digits) => (Ton::International, Npi::Isdn, digits),
        None => (Ton::Unknown, Npi::Isdn, number),
    }
}

/// A relative time. SMPP 3.4 7.1.1: YYMMDDhhmmsstnnp.
fn validity(seconds: u32) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (months, days) = ((days / 30).min(99), days % 30);
    format!("00{months:02}{days:02}{:02}{:02}{:02}000R", rest / 3600, rest / 60 % 60, rest % 60)
}

/// What a refusal of `submit_sm` means. SMPP 3.4 5.1.3.
pub(super) fn refused(code: u32) -> Outcome {
    let (blame, permanent, text, zh) = match code {
        0x0B | 0x50 | 0x51 => (Blame::Message, true, "the operator knows no such number", "运营商不认识此号码"),
        0x01 => (Blame::Message, true, "the operator finds the message too long", "运营商认为短信过长"),
        0x14 => (Blame::Way, false, "the operator's queue is full", "运营商的队列已满"),
        0x58 => (Blame::Way, false, "the operator asks to send more slowly", "运营商要求降低发送速度"),
        0x0A | 0x48 | 0x49 => (Blame::Way, true, "the operator refuses our sender's number", "运营商拒绝我方发送号码"),
        0x04 | 0x0D | 0x0E | 0x0F => (Blame::Way, false, "the operator does not let us in", "运营商拒绝我方登录"),
        0x08 | 0x64 => (Blame::Moment, false, "an error in the operator's system", "运营商系统错误"),
        _ => (Blame::Unclear, false, "the operator refuses the message", "运营商拒绝了短信"),
    };
    let text = format!("{text} (SMPP status 0x{code:X})");
    let zh = format!("{zh}（SMPP 状态 0x{code:X}）");
    Outcome::Refused(blame, Reason { permanent, code: Some(code), text, zh })
}

/// What a `deliver_sm` carries.
#[derive(Debug)]
pub(super) enum Delivered {
    Report(Report),
    Fragment(Box<Fragment>),
}

/// Reads a `deliver_sm`. SMPP 3.4 4.6.1.
pub(super) fn delivered(sm: &DeliverSm) -> Delivered {
    let mut body: Vec<u8> = sm.short_message().as_ref().to_vec();
    let (mut sar_reference, mut sar_total, mut sar_number) = (None, None, None);
    let (mut id, mut state) = (None, None);
    for tlv in sm.tlvs() {
        match tlv.value() {
            Some(TlvValue::MessagePayload(payload)) => body = payload.value.as_ref().to_vec(),
            Some(TlvValue::SarMsgRefNum(n)) => sar_reference = Some(*n),
            Some(TlvValue::SarTotalSegments(n)) => sar_total = Some(*n),
            Some(TlvValue::SarSegmentSeqnum(n)) => sar_number = Some(*n),
            Some(TlvValue::ReceiptedMessageId(n)) => id = Some(n.as_str().to_owned()),
            Some(TlvValue::MessageState(n)) => state = Some(*n),
            _ => {}
        }
    }
    let esm_class = u8::from(sm.esm_class);
    let international = sm.source_addr_ton == Ton::International;
    let from = format!("{}{}", if international { "+" } else { "" }, sm.source_addr.as_str());
    // SMPP 3.4 5.2.12: bits 5 to 2, 0001 a delivery receipt, 1000 an intermediate notification.
    if matches!(esm_class & 0x3C, 0x04 | 0x20) {
        let words = String::from_utf8_lossy(&body).into_owned();
        let reference = Reference::Id(id.or_else(|| word(&words, "id:")).unwrap_or_default());
        return Delivered::Report(Report { reference, to: from, fate: fate(state, &words) });
    }
    let mut part = match (sar_reference, sar_total, sar_number) {
        (Some(reference), Some(total), Some(number)) => (reference, total, number),
        _ => (0, 1, 1),
    };
    if esm_class & 0x40 != 0
        && let Some(length) = body.first().map(|l| usize::from(*l) + 1)
        && length <= body.len()
    {
        let header = UserData::from_octets(true, &body[..length]);
        if let Some(c) = header.and_then(|h| h.info().concatenation) {
            part = (c.reference, c.total, c.number);
        }
        body.drain(..length);
    }
    if part.1 < 2 || part.2 == 0 || part.2 > part.1 {
        part = (0, 1, 1);
    }
    let mut hash = blake3::Hasher::new();
    hash.update(from.as_bytes());
    hash.update(&part.0.to_be_bytes());
    hash.update(&[part.1, part.2, esm_class]);
    hash.update(&body);
    let digest = *hash.finalize().as_bytes();
    let body = match u8::from(sm.data_coding) {
        8 | 0x18 => Body::Utf16(body),
        // SMPP 3.4 5.2.19: 1 is IA5, 3 is Latin 1; every octet of both is the character of that number.
        1 | 3 => Body::Text(body.iter().map(|b| char::from(*b)).collect()),
        _ => Body::Text(unpacked(&body)),
    };
    Delivered::Fragment(Box::new(Fragment {
        from,
        reference: part.0,
        total: part.1,
        number: part.2,
        body,
        sent_s: 0,
        received_s: 0,
        digest,
        // There is no time stamp in it.
        until_confirmed: true,
    }))
}

/// The default alphabet, one septet an octet.
fn unpacked(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    let mut octets = octets.iter().map(|o| o & 0x7F);
    while let Some(septet) = octets.next() {
        if septet == twinpost_gsm::ESCAPE {
            text.push(octets.next().map_or(' ', |s| Tables::DEFAULT.escaped(s)));
        } else {
            text.push(Tables::DEFAULT.plain(septet));
        }
    }
    text
}

/// The word that follows `name` in a receipt's text. SMPP 3.4 appendix B.
fn word(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(name)?;
    rest.split_whitespace().next().map(str::to_owned)
}

fn fate(state: Option<MessageState>, words: &str) -> Fate {
    // SMPP 3.4 5.2.28 and appendix B.
    let stat = match state.map(u8::from) {
        Some(1) => "ENROUTE".to_owned(),
        Some(2) => "DELIVRD".to_owned(),
        Some(3) => "EXPIRED".to_owned(),
        Some(4) => "DELETED".to_owned(),
        Some(5) => "UNDELIV".to_owned(),
        Some(6) => "ACCEPTD".to_owned(),
        Some(8) => "REJECTD".to_owned(),
        _ => word(words, "stat:").unwrap_or_default(),
    };
    let reason = |permanent, text: &str, zh: &str| Reason { permanent, code: None, text: text.into(), zh: zh.into() };
    match stat.as_str() {
        "DELIVRD" | "ACCEPTD" => Fate::Delivered,
        "EXPIRED" => Fate::Lost(reason(false, "the phone could not be reached in time (EXPIRED)", "有效期内未能送达（EXPIRED）")),
        "UNDELIV" => Fate::Lost(reason(true, "it cannot be delivered (UNDELIV)", "无法送达（UNDELIV）")),
        "DELETED" => Fate::Lost(reason(true, "the operator deleted it (DELETED)", "已被运营商删除（DELETED）")),
        "REJECTD" => Fate::Lost(reason(true, "the operator rejected it (REJECTD)", "被运营商拒绝（REJECTD）")),
        _ => Fate::Pending(reason(false, "the operator still tries", "运营商仍在尝试")),
    }
}

/// The outcome of a part whose answer never came.
pub(super) fn no_answer() -> Outcome {
    Outcome::Unknown(reasons::unknown("the connection to the operator broke before the answer"))
}

/// A number that does not fit.
pub(super) fn unfit(parcel: &Parcel) -> Outcome {
    let what = match Address::parse(&parcel.to) {
        Ok(_) => "it does not fit an SMPP message".to_owned(),
        Err(e) => e.to_string(),
    };
    Outcome::Refused(Blame::Message, reasons::bad_number(&what))
}
