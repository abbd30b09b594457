//! SORT (RFC 5256 2.2 and 3, RFC 5957).
//!
//! Contract: pure, `O(n log n)`, one key of each message made once. Texts are compared folded (see `twinpost_message::fold`,
//! which joins what `i;unicode-casemap` of RFC 5051 joins). Messages with equal keys keep the order of their sequence numbers,
//! with REVERSE too (RFC 5256 3). Failure classes: none.

use crate::codec::ast::{SortBy, SortKey};
use std::cmp::Ordering;
use twinpost_message::view::Entry;
use twinpost_message::{Addr, Parsed, fold, words};

/// These keys need what was parsed at arrival; else the entries of the list are enough.
#[must_use]
pub fn needs_parsed(keys: &[SortKey]) -> bool {
    keys.iter().any(|k| !matches!(k.by, SortBy::Arrival | SortBy::Size))
}

/// Puts messages in order: indexes into `messages`, which is in order of sequence numbers. A message whose `Parsed` is absent
/// sorts as one without headers.
#[must_use]
pub fn sort(keys: &[SortKey], messages: &[(&Entry, Option<&Parsed>)]) -> Vec<usize> {
    let width = keys.len();
    let made: Vec<Key> = messages.iter().flat_map(|(e, p)| keys.iter().map(|k| make(k.by, e, *p))).collect();
    let mut order: Vec<usize> = (0..messages.len()).collect();
    order.sort_by(|a, b| {
        let (x, y) = (&made[a * width..(a + 1) * width], &made[b * width..(b + 1) * width]);
        keys.iter()
            .zip(x.iter().zip(y))
            .map(|(k, (x, y))| if k.reverse { y.cmp(x) } else { x.cmp(y) })
            .find(|o| *o != Ordering::Equal)
            .unwrap_or(Ordering::Equal)
    });
    order
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Number(i64),
    Text(Box<str>),
}

fn make(by: SortBy, entry: &Entry, parsed: Option<&Parsed>) -> Key {
    let text = |list: fn(&Parsed) -> &[Addr], display: bool| {
        let first = parsed.and_then(|p| list(p).first());
        Key::Text(first.map_or_else(String::new, |a| if display { display_name(a) } else { local_part(a) }).into())
    };
    match by {
        SortBy::Arrival => Key::Number(entry.received_s),
        SortBy::Size => Key::Number(entry.size_bytes.into()),
        // RFC 5256 2.2: the date that the sender wrote, in UTC; INTERNALDATE when there is none.
        SortBy::Date => Key::Number(sent_s(entry, parsed)),
        SortBy::Subject => Key::Text(parsed.map_or_else(String::new, |p| fold(&p.base_subject)).into()),
        SortBy::From => text(|p| &p.envelope.from, false),
        SortBy::To => text(|p| &p.envelope.to, false),
        SortBy::Cc => text(|p| &p.envelope.cc, false),
        SortBy::DisplayFrom => text(|p| &p.envelope.from, true),
        SortBy::DisplayTo => text(|p| &p.envelope.to, true),
    }
}

/// The sent date of RFC 5256 2.2.
pub(super) fn sent_s(entry: &Entry, parsed: Option<&Parsed>) -> i64 {
    parsed.and_then(|p| p.sent_s).unwrap_or(entry.received_s)
}

/// RFC 5256 3: addr-mailbox of the first address; of a group that is its name.
fn local_part(addr: &Addr) -> String {
    match addr {
        Addr::Mailbox(m) => fold(&m.local),
        Addr::Group(g) => fold(&words::decode(&g.name)),
    }
}

/// RFC 5957 3: the decoded display name, else the address.
fn display_name(addr: &Addr) -> String {
    match addr {
        Addr::Mailbox(m) => {
            let name = m.name.as_deref().map(words::decode).unwrap_or_default();
            if name.trim().is_empty() { fold(&format!("{}@{}", m.local, m.host)) } else { fold(&name) }
        }
        Addr::Group(g) => fold(&words::decode(&g.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinpost_message::{BodyId, Flags, ModSeq, Uid};

    fn order(keys: &str, mails: &[&str]) -> Vec<usize> {
        let command = format!("a SORT ({keys}) UTF-8 ALL");
        let crate::codec::ast::Request::Sort { keys, .. } = crate::codec::parse::parse(command.as_bytes(), true).unwrap().request
        else {
            panic!()
        };
        let parsed: Vec<Parsed> = mails.iter().map(|m| Parsed::parse(format!("{m}\r\n\r\nx").as_bytes())).collect();
        let entries: Vec<Entry> = (0u32..)
            .zip(mails)
            .map(|(i, m)| Entry {
                uid: Uid(i + 1),
                flags: Flags::default(),
                modseq: ModSeq(1),
                body: BodyId(1),
                size_bytes: u32::try_from(m.len()).unwrap(),
                received_s: 100 - i64::from(i),
                saved_s: 0,
            })
            .collect();
        let messages: Vec<_> = entries.iter().zip(parsed.iter().map(Some)).collect();
        sort(&keys, &messages).into_iter().map(|i| i + 1).collect()
    }

    #[test]
    fn keys_and_ties() {
        let mails = [
            "Subject: Re: b\r\nFrom: =?utf-8?Q?=C3=84nne?= <z@x>\r\nDate: Tue, 1 Feb 1994 00:00:00 +0000",
            "Subject: A\r\nFrom: m@x\r\nDate: Tue, 1 Feb 1994 00:30:00 +0100",
            "Subject: [list] a (fwd)\r\nFrom: Bob <A@x>",
            "Subject: C",
        ];
        assert_eq!(order("SUBJECT", &mails), [2, 3, 1, 4]);
        assert_eq!(order("REVERSE SUBJECT", &mails), [4, 1, 2, 3]);
        assert_eq!(order("SUBJECT REVERSE SIZE", &mails), [2, 3, 1, 4]);
        assert_eq!(order("FROM", &mails), [4, 3, 2, 1]);
        assert_eq!(order("DISPLAYFROM", &mails), [4, 1, 3, 2]);
        // 3 and 4 have no date: INTERNALDATE counts
        assert_eq!(order("DATE", &mails), [4, 3, 2, 1]);
        assert_eq!(order("ARRIVAL", &mails), [4, 3, 2, 1]);
        assert_eq!(order("REVERSE ARRIVAL", &mails), [1, 2, 3, 4]);
        assert_eq!(order("TO", &mails), [1, 2, 3, 4]);
        assert_eq!(order("TO", &[]), [0usize; 0]);
    }
}
