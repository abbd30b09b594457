//! Text mode (27.005 3.3, 3.4): messages in words instead of PDUs; and errors in words.

use super::Engine;
use crate::address::{Number, hex, split_centre, unhex};
use crate::alphabet;
use crate::stamp;
use crate::storage::Stored;
use crate::tpdu::{Alphabet, Deliver, Submit, UserData};

impl Engine {
    /// What `+CMGR` (no index) and `+CMGL` say of a stored message.
    pub(super) fn shown(&self, stored: &Stored, index: Option<usize>) -> String {
        let tpdu = split_centre(&stored.pdu).map_or(&[][..], |(_, tpdu)| tpdu);
        let head = index.map_or_else(|| "+CMGR: ".to_owned(), |n| format!("+CMGL: {n},"));
        if !self.profile.text {
            return format!("{head}{},,{}\n{}", stored.status as u8, tpdu.len(), hex(&stored.pdu));
        }
        let head = format!("{head}\"{}\",", stored.status.word());
        if let Ok(deliver) = Deliver::decode(tpdu) {
            let (when, body) = (stamp::text(&deliver.stamp), self.body(deliver.data().ok().as_ref()));
            let more =
                if self.profile.show_header { format!(",{},{}", deliver.from.kind, deliver.length) } else { String::new() };
            return format!("{head}\"{}\",,\"{when}\"{more}\n{body}", self.coded(&deliver.from.to_string()));
        }
        if let Ok(submit) = Submit::decode(tpdu) {
            return format!("{head}\"{}\",\n{}", self.coded(&submit.to.to_string()), self.body(Some(&submit.data)));
        }
        format!("{head}\n{}", hex(tpdu))
    }

    /// `+CMT` and `+CDS` of text mode.
    pub(super) fn text_direct(&self, tpdu: &[u8], report: bool) -> String {
        if report {
            // 27.005 3.1: +CDS: <fo>,<mr>,[<ra>],[<tora>],<scts>,<dt>,<st>
            let field = |at: usize| tpdu.get(at).copied().unwrap_or(0);
            let digits = usize::from(field(2)).div_ceil(2);
            let number = Number::decode(field(2), field(3), tpdu.get(4..4 + digits).unwrap_or_default());
            let moment = |at: usize| tpdu.get(at..at + 7).and_then(|o| o.try_into().ok()).map(|o| stamp::text(&o));
            let (sent, done) = (moment(4 + digits).unwrap_or_default(), moment(11 + digits).unwrap_or_default());
            let number = number.map(|n| n.to_string()).unwrap_or_default();
            return format!(
                "+CDS: {},{},\"{number}\",{},\"{sent}\",\"{done}\",{}",
                field(0),
                field(1),
                field(3),
                field(18 + digits)
            );
        }
        let Ok(deliver) = Deliver::decode(tpdu) else { return format!("+CMT: ,,\n{}", hex(tpdu)) };
        let more = if self.profile.show_header {
            format!(",{},4,0,{},\"{}\",145,{}", deliver.from.kind, deliver.coding, self.profile.centre, deliver.length)
        } else {
            String::new()
        };
        let (from, when) = (self.coded(&deliver.from.to_string()), stamp::text(&deliver.stamp));
        format!("+CMT: \"{from}\",,\"{when}\"{more}\n{}", self.body(deliver.data().ok().as_ref()))
    }

    /// A string in the terminal's character set (27.007 5.5).
    fn coded(&self, text: &str) -> String {
        match self.profile.character_set.as_str() {
            "UCS2" => hex(&alphabet::encode_ucs2(text)),
            "HEX" => hex(&alphabet::encode(text).unwrap_or_default()),
            _ => text.to_owned(),
        }
    }

    /// 27.005 3.1 `<data>`: 8-bit and UCS-2 in hex whatever the character set, 7-bit converted.
    fn body(&self, data: Option<&UserData>) -> String {
        let Some(data) = data else { return String::new() };
        if data.alphabet == Alphabet::Gsm7 && data.header.is_empty() {
            self.coded(&data.text)
        } else if data.alphabet == Alphabet::Ucs2 && self.profile.character_set != "UCS2" && data.text.is_ascii() {
            data.text.clone()
        } else {
            hex(&data.raw)
        }
    }

    fn uncoded(&self, data: &[u8]) -> Option<String> {
        match self.profile.character_set.as_str() {
            "UCS2" => Some(alphabet::decode_ucs2(&unhex(data)?)),
            "HEX" => Some(alphabet::decode(&unhex(data)?, 0, 0)),
            "GSM" => Some(alphabet::decode(data, 0, 0)),
            _ => Some(data.iter().map(|b| char::from(*b)).collect()),
        }
    }

    /// The SMS-SUBMIT of a number and of what was typed, under `+CSMP` and `+CSCS`.
    pub(super) fn text_submit(&self, to: &str, data: &[u8]) -> Option<Vec<u8>> {
        let to = Number::parse(to).filter(|n| n.kind != 0xd0)?;
        let [first, validity, protocol, coding] = self.profile.csmp;
        let (length, octets) = match Alphabet::of(coding) {
            Alphabet::Gsm7 => {
                let codes = alphabet::encode(&self.uncoded(data)?.replace("\r\n", "\n"))?;
                (codes.len(), alphabet::pack(&codes, 0))
            }
            Alphabet::Ucs2 if self.profile.character_set == "UCS2" => {
                let octets = unhex(data)?;
                (octets.len(), octets)
            }
            Alphabet::Ucs2 => {
                let octets = unhex(data).unwrap_or_else(|| alphabet::encode_ucs2(&String::from_utf8_lossy(data)));
                (octets.len(), octets)
            }
            Alphabet::Binary => {
                let octets = unhex(data)?;
                (octets.len(), octets)
            }
        };
        let mut tpdu = vec![first, 0];
        to.encode(&mut tpdu);
        tpdu.extend([protocol, coding]);
        match first >> 3 & 3 {
            0 => {}
            2 => tpdu.push(validity),
            _ => return None,
        }
        tpdu.push(u8::try_from(length).ok()?);
        tpdu.extend(octets);
        // What cannot be sent in one message is refused, not cut.
        Submit::decode(&tpdu).ok().map(|_| tpdu)
    }
}

/// 27.007 9.2.
pub(super) fn cme_words(code: u16) -> String {
    let words = match code {
        3 => "operation not allowed",
        4 => "operation not supported",
        10 => "SIM not inserted",
        11 => "SIM PIN required",
        12 => "SIM PUK required",
        13 => "SIM failure",
        14 => "SIM busy",
        15 => "SIM wrong",
        16 => "incorrect password",
        20 => "memory full",
        21 => "invalid index",
        30 => "no network service",
        31 => "network timeout",
        32 => "network not allowed - emergency calls only",
        50 => "Incorrect parameters",
        100 => "unknown",
        n => return n.to_string(),
    };
    words.to_owned()
}

/// 27.005 3.2.5.
pub(super) fn cms_words(code: u16) -> String {
    let words = match code {
        300 => "ME failure",
        301 => "SMS service of ME reserved",
        302 => "operation not allowed",
        303 => "operation not supported",
        304 => "invalid PDU mode parameter",
        305 => "invalid text mode parameter",
        310 => "SIM not inserted",
        311 => "SIM PIN required",
        312 => "PH-SIM PIN required",
        313 => "SIM failure",
        314 => "SIM busy",
        315 => "SIM wrong",
        316 => "SIM PUK required",
        320 => "memory failure",
        321 => "invalid memory index",
        322 => "memory full",
        330 => "SMSC address unknown",
        331 => "no network service",
        332 => "network timeout",
        340 => "no +CNMA acknowledgement expected",
        500 => "unknown error",
        n => return n.to_string(),
    };
    words.to_owned()
}
