//! MAIL and RCPT as they are written to another server, by what it offers. Pure.

use super::reply::Offers;
use crate::spool::{Entry, Recipient, Ret};
use std::fmt::Write;
use twinpost_message::Address;

/// An address as this server may see it. Without the SMTPUTF8 parameter a command is ASCII, the domain in A-labels
/// (RFC 6531 3.2, RFC 5890).
fn address(address: &Address, utf8: bool) -> String {
    if utf8 { address.to_string() } else { address.to_ascii_domain() }
}

/// `utf8`: the SMTPUTF8 parameter is given.
pub fn mail(offers: &Offers, entry: &Entry, bytes: usize, eight_bit: bool, utf8: bool) -> String {
    let sender = entry.sender.as_ref().map(|s| address(s, utf8)).unwrap_or_default();
    let mut line = format!("MAIL FROM:<{sender}>");
    // Writing to a String cannot fail.
    if offers.size_bytes.is_some() {
        // RFC 1870 6
        let _ = write!(line, " SIZE={bytes}");
    }
    if offers.eight_bit && eight_bit {
        // RFC 6152 2
        line.push_str(" BODY=8BITMIME");
    }
    if utf8 {
        // RFC 6531 3.4
        line.push_str(" SMTPUTF8");
    }
    if offers.dsn {
        if let Some(ret) = entry.ret {
            line.push_str(if ret == Ret::Full { " RET=FULL" } else { " RET=HDRS" });
        }
        if let Some(envid) = &entry.envid {
            let _ = write!(line, " ENVID={}", xtext(envid));
        }
    }
    line.push_str("\r\n");
    line
}

pub fn rcpt(offers: &Offers, recipient: &Recipient, utf8: bool) -> String {
    let mut line = format!("RCPT TO:<{}>", address(&recipient.address, utf8));
    if offers.dsn {
        if let Some(notify) = recipient.notify.parameter() {
            let _ = write!(line, " NOTIFY={notify}");
        }
        if let Some((kind, original)) = recipient.orcpt.as_deref().and_then(|o| o.split_once(';')) {
            let original =
                if kind.eq_ignore_ascii_case("utf-8") { utf8_xtext(original.trim_start()) } else { xtext(original.trim_start()) };
            let _ = write!(line, " ORCPT={kind};{original}");
        }
    }
    line.push_str("\r\n");
    line
}

/// RFC 3461 4: `+` and hexadecimal for what cannot stand in a parameter.
#[must_use]
pub fn xtext(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, b| {
        if (b'!'..=b'~').contains(&b) && b != b'+' && b != b'=' {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "+{b:02X}");
        }
        out
    })
}

/// RFC 6533 3, utf-8-addr-xtext: `\x{...}` for what is not ASCII or cannot stand in a parameter. It is ASCII, so that it
/// can go to any server.
#[must_use]
pub fn utf8_xtext(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if ('!'..='~').contains(&c) && !matches!(c, '+' | '=' | '\\') {
            out.push(c);
        } else {
            let _ = write!(out, "\\x{{{:02X}}}", u32::from(c));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::Notify;
    use twinpost_message::{QueueId, TraceId};

    #[test]
    fn xtext_as_in_rfc_3461_and_6533() {
        assert_eq!(xtext("a+b=c d"), "a+2Bb+3Dc+20d");
        assert_eq!(utf8_xtext("张+a\\@x.example"), "\\x{5F20}\\x{2B}a\\x{5C}@x.example");
    }

    #[test]
    fn parameters_follow_what_is_offered() {
        let entry = Entry {
            id: QueueId(1),
            trace: TraceId(1),
            size_bytes: 10,
            sender: Some(Address::parse("a@bücher.example").unwrap()),
            ret: Some(Ret::Headers),
            envid: Some("Q+1".into()),
            smtputf8: true,
            eight_bit: true,
            account: None,
            created_s: 0,
            expires_s: 0,
            recipients: Vec::new(),
        };
        let recipient = Recipient {
            n: 0,
            address: Address::parse("b@例子.example").unwrap(),
            orcpt: Some("rfc822;B+1@y.example".into()),
            notify: Notify { given: true, success: true, failure: false, delay: true },
            attempts: 0,
            next_try_s: 0,
            delay_told: false,
        };
        let none = Offers::default();
        assert_eq!(mail(&none, &entry, 9, true, false), "MAIL FROM:<a@xn--bcher-kva.example>\r\n");
        assert_eq!(rcpt(&none, &recipient, false), "RCPT TO:<b@xn--fsqu00a.example>\r\n");
        let all = Offers { eight_bit: true, smtputf8: true, dsn: true, size_bytes: Some(0), ..Offers::default() };
        assert_eq!(
            mail(&all, &entry, 9, true, true),
            "MAIL FROM:<a@bücher.example> SIZE=9 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=Q+2B1\r\n"
        );
        assert_eq!(
            rcpt(&all, &recipient, true),
            "RCPT TO:<b@例子.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;B+2B1@y.example\r\n"
        );
    }
}
