//! Incoming messages on disk: parts are joined here, in the transaction that stores the last one.
//!
//! Contract: a part that was stored before (the modem shows it again after a crash between storing and confirming) is
//! known again and stored once. A message of several parts is given out when its last part comes; an incomplete one
//! when it is old, when parts of too many messages wait, or when its reference is used for another message.

use super::signed;
use crate::api::Incoming;
use rusqlite::{Connection, OptionalExtension, params};

/// Shown where a part is missing.
const GAP: &str = " [...] ";

/// The text of one part. UCS-2 is kept as it came: a surrogate pair may be cut by the part's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Text(String),
    Utf16(Vec<u8>),
}

/// One part of an incoming message (or the only one: `total` 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub from: String,
    pub reference: u16,
    pub total: u8,
    /// From 1.
    pub number: u8,
    pub body: Body,
    pub sent_s: i64,
    pub received_s: i64,
    /// Names the part: the same digest is the same part, shown again.
    pub digest: [u8; 32],
    /// The digest is remembered only until the way was told that the part is stored: for ways without a time stamp,
    /// where the same words twice may be two messages.
    pub until_confirmed: bool,
}

/// What storing a part brought about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// False: it was known.
    pub new: bool,
    /// The messages that it completed, or pushed out.
    pub given: Vec<Incoming>,
}

pub(super) fn store(db: &Connection, f: &Fragment) -> Result<Stored, rusqlite::Error> {
    let fresh = db.prepare_cached("INSERT OR IGNORE INTO seen VALUES (?1, ?2, ?3)")?.execute(params![
        &f.digest[..],
        f.received_s,
        f.until_confirmed
    ])?;
    if fresh == 0 {
        return Ok(Stored { new: false, given: Vec::new() });
    }
    if f.total <= 1 {
        let text = join([Some(&f.body)].into_iter());
        let message = insert(db, &f.from, &text, f.sent_s, f.received_s, 1)?;
        return Ok(Stored { new: true, given: vec![message] });
    }
    let mut given = Vec::new();
    let taken = db
        .prepare_cached("SELECT 1 FROM fragment WHERE sender = ?1 AND reference = ?2 AND total = ?3 AND number = ?4")?
        .query_row(params![f.from, f.reference, f.total, f.number], |_| Ok(()))
        .optional()?;
    if taken.is_some() {
        // Another text in the same place: the sender's reference has come round, the old message stays incomplete.
        given.extend(give(db, &f.from, f.reference, f.total)?);
    }
    let (utf16, bytes) = match &f.body {
        Body::Text(text) => (false, text.as_bytes()),
        Body::Utf16(bytes) => (true, bytes.as_slice()),
    };
    db.prepare_cached(
        "INSERT INTO fragment (sender, reference, total, number, utf16, body, sent_s, received_s) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![f.from, f.reference, f.total, f.number, utf16, bytes, f.sent_s, f.received_s])?;
    let have: i64 = db
        .prepare_cached("SELECT count(*) FROM fragment WHERE sender = ?1 AND reference = ?2 AND total = ?3")?
        .query_row(params![f.from, f.reference, f.total], |r| r.get(0))?;
    if have >= i64::from(f.total) {
        given.extend(give(db, &f.from, f.reference, f.total)?);
    }
    Ok(Stored { new: true, given })
}

/// Incomplete messages whose first part came before `before_s`, and of the oldest so many that at most `most` parts wait.
pub(super) fn give_out(db: &Connection, before_s: i64, most: u32) -> Result<Vec<Incoming>, rusqlite::Error> {
    let mut given = Vec::new();
    loop {
        let waiting: i64 = db.prepare_cached("SELECT count(*) FROM fragment")?.query_row([], |r| r.get(0))?;
        let oldest = db
            .prepare_cached("SELECT sender, reference, total, received_s FROM fragment ORDER BY received_s, id LIMIT 1")?
            .query_row([], |r| Ok((r.get::<_, String>(0)?, r.get::<_, u16>(1)?, r.get::<_, u8>(2)?, r.get::<_, i64>(3)?)))
            .optional()?;
        let Some((sender, reference, total, received_s)) = oldest else { return Ok(given) };
        if received_s >= before_s && waiting <= i64::from(most) {
            return Ok(given);
        }
        given.extend(give(db, &sender, reference, total)?);
    }
}

/// Joins what is there of this message, moves it to the incoming ones, and forgets its parts.
fn give(db: &Connection, sender: &str, reference: u16, total: u8) -> Result<Option<Incoming>, rusqlite::Error> {
    let mut find = db.prepare_cached(
        "SELECT number, utf16, body, sent_s, received_s FROM fragment WHERE sender = ?1 AND reference = ?2 AND total = ?3",
    )?;
    let rows = find
        .query_map(params![sender, reference, total], |r| {
            let bytes: Vec<u8> = r.get(2)?;
            let body = if r.get(1)? { Body::Utf16(bytes) } else { Body::Text(String::from_utf8(bytes).unwrap_or_default()) };
            Ok((r.get::<_, u8>(0)?, body, r.get::<_, i64>(3)?, r.get::<_, i64>(4)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let Some(sent_s) = rows.iter().map(|r| r.2).min() else { return Ok(None) };
    let received_s = rows.iter().map(|r| r.3).min().unwrap_or_default();
    let text = join((1..=total).map(|n| rows.iter().find(|r| r.0 == n).map(|r| &r.1)));
    let parts = u8::try_from(rows.len()).unwrap_or(u8::MAX);
    db.prepare_cached("DELETE FROM fragment WHERE sender = ?1 AND reference = ?2 AND total = ?3")?
        .execute(params![sender, reference, total])?;
    insert(db, sender, &text, sent_s, received_s, parts).map(Some)
}

fn insert(db: &Connection, from: &str, text: &str, sent_s: i64, received_s: i64, parts: u8) -> Result<Incoming, rusqlite::Error> {
    db.prepare_cached("INSERT INTO incoming (sender, text, sent_s, received_s, parts) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![from, text, sent_s, received_s, parts])?;
    Ok(Incoming {
        id: db.last_insert_rowid().unsigned_abs(),
        from: from.to_owned(),
        text: text.to_owned(),
        sent_s,
        received_s,
        parts,
    })
}

/// The text of all parts; UCS-2 neighbours are joined before they are decoded.
fn join<'a>(parts: impl Iterator<Item = Option<&'a Body>>) -> String {
    let mut text = String::new();
    let mut units: Vec<u16> = Vec::new();
    let flush = |units: &mut Vec<u16>, text: &mut String| {
        text.push_str(&String::from_utf16_lossy(units));
        units.clear();
    };
    let mut gap = false;
    for part in parts {
        match part {
            Some(Body::Utf16(bytes)) => {
                units.extend(bytes.chunks_exact(2).map(|c| u16::from_be_bytes([c[0], c[1]])));
                gap = false;
            }
            Some(Body::Text(more)) => {
                flush(&mut units, &mut text);
                text.push_str(more);
                gap = false;
            }
            None if gap => {}
            None => {
                flush(&mut units, &mut text);
                text.push_str(GAP);
                gap = true;
            }
        }
    }
    flush(&mut units, &mut text);
    text
}

pub(super) fn list(db: &Connection, after: u64, most: u32) -> Result<Vec<(Incoming, bool)>, rusqlite::Error> {
    db.prepare_cached(
        "SELECT id, sender, text, sent_s, received_s, parts, begun FROM incoming WHERE id > ?1 ORDER BY id LIMIT ?2",
    )?
    .query_map(params![signed(after), most], |r| {
        let message = Incoming {
            id: r.get::<_, i64>(0)?.unsigned_abs(),
            from: r.get(1)?,
            text: r.get(2)?,
            sent_s: r.get(3)?,
            received_s: r.get(4)?,
            parts: r.get(5)?,
        };
        Ok((message, r.get(6)?))
    })?
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Answer, Book, Op};
    use super::*;

    fn fragment(n: u8, total: u8, body: Body) -> Fragment {
        let digest = *blake3::hash(format!("{n}/{total}/{body:?}").as_bytes()).as_bytes();
        Fragment {
            from: "+8613800138000".into(),
            reference: 7,
            total,
            number: n,
            body,
            sent_s: 100 + i64::from(n),
            received_s: 1000 + i64::from(n),
            digest,
            until_confirmed: false,
        }
    }

    fn store_one(book: &mut Book, f: &Fragment) -> Stored {
        match book.apply(&[Op::Fragment(Box::new(f.clone()))]).unwrap().pop() {
            Some(Answer::Stored(stored)) => stored,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parts_in_any_order_make_one_message_and_a_cut_surrogate_pair_is_whole_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::open(folder.path()).unwrap();
        let units: Vec<u8> = "水😀".encode_utf16().flat_map(u16::to_be_bytes).collect();
        let (first, second) = units.split_at(4);
        let second = fragment(2, 2, Body::Utf16(second.to_vec()));
        assert!(store_one(&mut book, &second).given.is_empty());
        // Shown again by the modem: known.
        assert!(!store_one(&mut book, &second).new);
        let done = store_one(&mut book, &fragment(1, 2, Body::Utf16(first.to_vec())));
        assert_eq!(done.given.len(), 1);
        assert_eq!(done.given[0].text, "水😀");
        assert_eq!((done.given[0].parts, done.given[0].sent_s, done.given[0].received_s), (2, 101, 1001));
        assert_eq!(book.fragments_waiting().unwrap(), 0);
    }

    #[test]
    fn an_incomplete_message_is_given_out_when_old_with_its_gap_shown() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::open(folder.path()).unwrap();
        store_one(&mut book, &fragment(1, 4, Body::Text("one".into())));
        store_one(&mut book, &fragment(4, 4, Body::Text("four".into())));
        let given = |book: &mut Book, before_s, most| match book.apply(&[Op::GiveOut { before_s, most }]).unwrap().pop() {
            Some(Answer::Given(given)) => given,
            other => panic!("{other:?}"),
        };
        assert!(given(&mut book, 1001, 2).is_empty());
        let out = given(&mut book, 1002, 2);
        assert_eq!(out[0].text, "one [...] four");
        assert_eq!(out[0].parts, 2);
        // Too many parts wait: the oldest go although they are young.
        store_one(&mut book, &fragment(2, 3, Body::Text("b".into())));
        assert_eq!(given(&mut book, 0, 0)[0].text, " [...] b [...] ");
    }

    #[test]
    fn a_reference_that_comes_round_pushes_the_old_message_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::open(folder.path()).unwrap();
        store_one(&mut book, &fragment(1, 2, Body::Text("old".into())));
        let stored = store_one(&mut book, &fragment(1, 2, Body::Text("new".into())));
        assert_eq!(stored.given[0].text, "old [...] ");
        let stored = store_one(&mut book, &fragment(2, 2, Body::Text("er".into())));
        assert_eq!(stored.given[0].text, "newer");
    }

    #[test]
    fn the_same_words_twice_are_two_messages_where_there_is_no_time_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::open(folder.path()).unwrap();
        let mut yes = fragment(1, 1, Body::Text("yes".into()));
        yes.until_confirmed = true;
        assert!(store_one(&mut book, &yes).new);
        assert!(!store_one(&mut book, &yes).new, "not confirmed: the same message again");
        book.apply(&[Op::Confirmed { digest: yes.digest }]).unwrap();
        assert!(store_one(&mut book, &yes).new);
    }
}
