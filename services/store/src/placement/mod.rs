//! Placement records: what the packs must hold beside bodies so that the index can be made again from them alone.
//!
//! Contract: each transaction of the writer that changes something leaves a [`Log`] of the rows as they are behind it, numbered
//! without gaps. The log is written into the table `placement` in the same transaction, and into the newest pack together
//! with the bodies of the next batch: no sync of its own while mail comes, one after [`outbox::IDLE_MS`] when none does, one at
//! the end. What is in a pack is taken out of the table later. So a stop at any point loses no log: at the next start those still
//! in the table go into the packs. Only who loses the index *and* the power in the same moment loses logs: those of the
//! transactions since the last batch or the last [`outbox::IDLE_MS`]. Their bodies are in the packs, and for whom they were
//! (both were synced before the transaction, see [`arrival`]): `rebuild` delivers them once more.
//!
//! Why logs of rows and not of operations: a row says the same however often and in whichever state it is read, so a
//! [`snapshot`] can be taken beside running mail, and a later program needs to know rows, not how an earlier one worked.
//! Why not the counters: they follow from the rows. Why not the UIDs in one sync with their bodies: they are given by stage
//! 2, whose order decides quotas and UIDs, while stage 1 writes the next batch; to give them in stage 1 would join the stages
//! again and halve the intake. Why a table between: the packs cannot be appended to in the transaction of the index.
//!
//! Compaction removes packs with logs in them: before it does, it writes a snapshot, a log of the whole index in parts, and
//! everything before its begin is dead. Failure classes: a log that cannot be decoded is an error of the record that holds it,
//! and told; the bytes come from a record with a checksum, but nothing here believes lengths or panics.

pub(crate) mod arrival;
pub(crate) mod outbox;
pub(crate) mod snapshot;

use crate::db::Value;
use arrival::Arrival;
use serde::{Deserialize, Serialize};
use twinpost_message::BodyHash;

/// First byte of a placement record.
const VERSION: u8 = 1;

/// A row of a mailbox, without its counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MailboxRow {
    pub id: i64,
    pub account: i64,
    pub name: String,
    pub uid_validity: u32,
    pub uid_next: u32,
    pub highest_modseq: u64,
    pub special_use: Option<String>,
    pub created_s: i64,
}

/// A message and the change that made its row what it is. Each number goes into a record as the difference to the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MessageRow {
    pub change: ChangeRow,
    pub flags: i64,
    pub received_s: i64,
    pub saved_s: i64,
    pub size_bytes: i64,
}

/// A row of the change log without its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChangeRow {
    pub kind: i64,
    pub account: i64,
    pub mailbox: i64,
    pub uid: i64,
    pub body: i64,
    pub modseq: i64,
}

/// One thing that a transaction did. The order is part of the format: add at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Wire {
    /// flags, received, saved, size behind the six of a change.
    Message([i64; 10]),
    Change([i64; 6]),
    Other(Fact),
}

/// Everything that is rarer than a message. `Vec<Value>` is a row in the order of the columns of its table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Fact {
    Body {
        id: i64,
        hash: BodyHash,
        size_bytes: u32,
    },
    Mailbox(MailboxRow),
    /// It went with its messages, keywords and annotations.
    MailboxGone(i64),
    Keyword {
        mailbox: i64,
        place: i64,
        name: String,
    },
    Account {
        id: i64,
        domain: i64,
        furnished: bool,
    },
    /// It went with its subscriptions, annotations and deleted mail.
    AccountGone(i64),
    Subscription {
        account: i64,
        name: String,
        subscribed: bool,
    },
    Annotation {
        account: i64,
        mailbox: i64,
        entry: String,
        value: Option<Vec<u8>>,
    },
    Trash(Vec<Value>),
    TrashGone(i64),
    /// A queue entry.
    Spool(Vec<Value>),
    /// A recipient of one, all twelve columns.
    Rcpt(Vec<Value>),
    /// An attempt: spool, n, state, next try, tried at, reply code, reply text, delay told.
    Tried(Vec<Value>),
    Held {
        id: i64,
        held: bool,
    },
    /// Every waiting recipient is due at this time.
    Retry {
        id: i64,
        at_s: i64,
    },
    SpoolGone(i64),
    /// The last one given.
    UidValidity(u32),
    /// In a log without a number only: what is to be done with a body.
    Arrival(Box<Arrival>),
    /// Every record of arrivals up to this one (pack, place) is decided.
    Decided(u32, u64),
    /// Something of a diverged store was taken in, and when.
    Merged([u8; 16], i64),
}

/// What a log says, piece by piece.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    Message(MessageRow),
    Change(ChangeRow),
    Fact(Fact),
}

impl ChangeRow {
    fn array(&self) -> [i64; 6] {
        [self.kind, self.account, self.mailbox, self.uid, self.body, self.modseq]
    }
    fn of([kind, account, mailbox, uid, body, modseq]: [i64; 6]) -> Self {
        Self { kind, account, mailbox, uid, body, modseq }
    }
}

/// Differences to the last numbers: a message to a thousand mailboxes takes some ten bytes for each.
#[derive(Clone, Copy, Debug, Default)]
struct Last([i64; 10]);

impl Last {
    fn difference<const N: usize>(&mut self, row: [i64; N]) -> [i64; N] {
        let mut out = row;
        for ((out, now), last) in out.iter_mut().zip(row).zip(&mut self.0) {
            *out = now.wrapping_sub(*last);
            *last = now;
        }
        out
    }
    fn sum<const N: usize>(&mut self, row: [i64; N]) -> [i64; N] {
        let mut out = row;
        for (out, last) in out.iter_mut().zip(&mut self.0) {
            *last = last.wrapping_add(*out);
            *out = *last;
        }
        out
    }
}

/// The pieces of one transaction, written as they come.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    last: Last,
}

impl Writer {
    fn put(&mut self, wire: &Wire) {
        let bytes = std::mem::take(&mut self.bytes);
        // Plain data into memory cannot fail; were it to, the log would end here and `verify` would not mind.
        self.bytes = postcard::to_extend(wire, bytes).unwrap_or_default();
    }
    pub fn fact(&mut self, fact: Fact) {
        self.put(&Wire::Other(fact));
    }
    pub fn change(&mut self, change: &ChangeRow) {
        let wire = Wire::Change(self.last.difference(change.array()));
        self.put(&wire);
    }
    pub fn message(&mut self, m: &MessageRow) {
        let [a, b, c, d, e, f] = m.change.array();
        let wire = Wire::Message(self.last.difference([a, b, c, d, e, f, m.flags, m.received_s, m.saved_s, m.size_bytes]));
        self.put(&wire);
    }
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
    /// Ends the log of transaction `seq`.
    pub fn finish(self, seq: u64, at_s: i64) -> Vec<u8> {
        encode(&Log { seq, at_s, pieces: self.bytes })
    }
}

/// What one transaction did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Log {
    /// Its number, from 1 without gaps; 0: no transaction, arrivals or (without pieces) the opening of the store.
    pub seq: u64,
    /// When, seconds since 1970 UTC.
    pub at_s: i64,
    pieces: Vec<u8>,
}

impl Log {
    /// What it says. An error names the place where the bytes stop making sense.
    pub fn pieces(&self) -> impl Iterator<Item = Result<Piece, String>> + '_ {
        let (mut rest, mut last) = (&*self.pieces, Last::default());
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            match postcard::take_from_bytes::<Wire>(rest) {
                Ok((wire, left)) => {
                    rest = left;
                    Some(Ok(match wire {
                        Wire::Message(row) => {
                            let [a, b, c, d, e, f, flags, received_s, saved_s, size_bytes] = last.sum(row);
                            let change = ChangeRow::of([a, b, c, d, e, f]);
                            Piece::Message(MessageRow { change, flags, received_s, saved_s, size_bytes })
                        }
                        Wire::Change(row) => Piece::Change(ChangeRow::of(last.sum(row))),
                        Wire::Other(fact) => Piece::Fact(fact),
                    }))
                }
                Err(error) => {
                    let at = self.pieces.len() - rest.len();
                    rest = &[];
                    Some(Err(format!("byte {at} of transaction {}: {error}", self.seq)))
                }
            }
        })
    }
    /// Nothing was to be written behind this transaction when the store was closed.
    pub fn is_end(&self) -> bool {
        self.seq > 0 && self.pieces.is_empty()
    }
}

fn encode(log: &Log) -> Vec<u8> {
    // As in `Writer::put`.
    postcard::to_stdvec(log).unwrap_or_default()
}

/// Says that the store was closed behind transaction `seq`.
fn end(seq: u64) -> Vec<u8> {
    encode(&Log { seq, at_s: 0, pieces: Vec::new() })
}

/// Which part of a snapshot a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Every transaction up to this number is in it.
    pub begin: u64,
    /// Tells two with the same begin apart.
    pub id: u64,
    /// From 0.
    pub n: u32,
    /// There are no more.
    pub last: bool,
}

/// The content of a placement record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// None: logs as they came.
    pub part: Option<Part>,
    pub logs: Vec<Log>,
}

fn record(part: Option<Part>, logs: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.append(&mut postcard::to_stdvec(&part).unwrap_or_default());
    bytes.extend(logs.iter().flatten());
    bytes
}

/// Reads a placement record.
pub(crate) fn decode(bytes: &[u8]) -> Result<Record, String> {
    let Some((&VERSION, bytes)) = bytes.split_first() else {
        return Err(format!("its version {:?} is unknown to this program", bytes.first()));
    };
    let (part, mut rest) = postcard::take_from_bytes(bytes).map_err(|e| e.to_string())?;
    let mut logs = Vec::new();
    while !rest.is_empty() {
        let (log, left) = postcard::take_from_bytes(rest).map_err(|e| e.to_string())?;
        logs.push(log);
        rest = left;
    }
    Ok(Record { part, logs })
}

/// Reads a log as the table of the index holds it.
pub(crate) fn decode_log(bytes: &[u8]) -> Result<Log, String> {
    postcard::from_bytes(bytes).map_err(|e| e.to_string())
}

/// Takes any bytes as a placement record.
pub fn fuzz(data: &[u8]) {
    for bytes in [data, &[&[VERSION, 0], data].concat()] {
        if let Ok(record) = decode(bytes) {
            let pieces: usize = record.logs.iter().map(|l| l.pieces().count()).sum();
            assert!(pieces <= bytes.len(), "a piece has at least a byte");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message() -> impl Strategy<Value = MessageRow> {
        (any::<[i64; 6]>(), any::<[i64; 4]>()).prop_map(|(c, [flags, received_s, saved_s, size_bytes])| MessageRow {
            change: ChangeRow::of(c),
            flags,
            received_s,
            saved_s,
            size_bytes,
        })
    }

    fn piece() -> impl Strategy<Value = Piece> {
        prop_oneof![
            message().prop_map(Piece::Message),
            any::<[i64; 6]>().prop_map(|c| Piece::Change(ChangeRow::of(c))),
            (any::<i64>(), any::<[u8; 32]>(), any::<u32>()).prop_map(|(id, hash, size_bytes)| Piece::Fact(Fact::Body {
                id,
                hash: BodyHash(hash),
                size_bytes
            })),
            (any::<i64>(), ".*", any::<i64>()).prop_map(|(mailbox, name, place)| Piece::Fact(Fact::Keyword {
                mailbox,
                place,
                name
            })),
            (".*", any::<i64>(), prop::collection::vec(any::<u8>(), 0..9)).prop_map(|(text, n, blob)| Piece::Fact(Fact::Spool(
                vec![text.into(), n.into(), blob.into(), Value::NoInt, Value::NoText]
            ))),
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(pieces in prop::collection::vec(piece(), 0..20), seq in any::<u64>(), at_s in any::<i64>()) {
            let mut writer = Writer::default();
            for piece in &pieces {
                match piece {
                    Piece::Message(m) => writer.message(m),
                    Piece::Change(c) => writer.change(c),
                    Piece::Fact(f) => writer.fact(f.clone()),
                }
            }
            let part = Some(Part { begin: seq, id: 1, n: 2, last: true });
            let read = decode(&record(part, &[writer.finish(seq, at_s), end(seq)])).unwrap();
            prop_assert_eq!(read.part, part);
            prop_assert_eq!((read.logs[0].seq, read.logs[0].at_s, read.logs[1].is_end()), (seq, at_s, true));
            prop_assert_eq!(read.logs[0].pieces().collect::<Result<Vec<_>, _>>().unwrap(), pieces);
        }

        #[test]
        fn any_bytes_are_taken(data in prop::collection::vec(any::<u8>(), 0..300)) {
            fuzz(&data);
        }
    }

    #[test]
    fn a_message_to_a_thousand_takes_few_bytes_for_each() {
        let mut writer = Writer::default();
        for n in 0..1000 {
            let change = ChangeRow {
                kind: 1,
                account: 70_000 + n,
                mailbox: 9_000_000 + 8 * n,
                uid: 1500 + (n * 37) % 90,
                body: 12_000_000,
                modseq: 12_000_001 + n,
            };
            writer.message(&MessageRow {
                change,
                flags: 0,
                received_s: 1_800_000_000,
                saved_s: 1_800_000_000,
                size_bytes: 10_000,
            });
        }
        let bytes = writer.finish(1, 1).len();
        assert!(bytes < 13_000, "{bytes}");
    }
}
