//! What stage 1 was asked to do with the bodies of a batch, in the packs before anybody is told that it is done.
//!
//! Contract: the record of arrivals is synced with the bodies that it names, and before the transaction that places them. When
//! index and power are lost in the same moment, the last transactions are missing from the packs; their arrivals are not:
//! `rebuild` puts that mail into the mailboxes and the queue that it was for. [`Fact::Decided`](super::Fact::Decided) in the log
//! of a later transaction says up to which record of arrivals everything was stored or refused: what is still without a place
//! there was refused, and is dead.
//!
//! An arrival says what was asked for, not what was done: a message that was refused for its quota in that very moment comes
//! back, and once more when its sender repeats it. UIDs and keywords of the last moment are not told.

use super::Log;
use crate::db::Value;
use crate::pack::record::{EncodedRecord, encode_placement};
use crate::types::{Delivery, Folder, Prepared};
use crate::writer::{Op, queue_rows};
use serde::{Deserialize, Serialize};
use twinpost_message::{BodyHash, Flags};

/// One body and where it was to go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Arrival {
    pub hash: BodyHash,
    pub size_bytes: u32,
    pub received_s: i64,
    /// Account, its domain, name of the mailbox (empty: INBOX), system flags.
    pub targets: Vec<(i64, i64, String, u64)>,
    /// APPEND: number of the mailbox, system flags.
    pub mailbox: Option<(i64, u64)>,
    /// The queue entry and its recipients as rows; entry and body have the number 0 in them.
    pub queue: Option<(Vec<Value>, Vec<Vec<Value>>)>,
}

/// System flags: keywords have other bits in each mailbox.
const SYSTEM: u64 = (1 << Flags::KEYWORD_SHIFT) - 1;

fn of_delivery(d: &Delivery, now_s: i64) -> Arrival {
    let name = |folder: &Folder| match folder {
        Folder::Inbox => String::new(),
        Folder::Named(name) => crate::names::normal(name),
    };
    let targets = d.targets.iter().map(|t| (t.account.0, t.domain.0, name(&t.folder), t.flags.system.0 & SYSTEM));
    let queue = d.spool.as_ref().filter(|s| !s.rcpts.is_empty());
    Arrival {
        hash: d.body.hash(),
        size_bytes: d.body.size_bytes(),
        received_s: d.received_s,
        targets: targets.collect(),
        mailbox: None,
        queue: queue.map(|spool| queue_rows(0, 0, d.body.size_bytes(), d.trace, spool, now_s)),
    }
}

/// A body that has its place without this, or is made again.
fn nothing(facts: &mut super::Writer, body: &Prepared, received_s: i64) {
    let (hash, size_bytes) = (body.hash(), body.size_bytes());
    let none = Arrival { hash, size_bytes, received_s, targets: Vec::new(), mailbox: None, queue: None };
    facts.fact(super::Fact::Arrival(Box::new(none)));
}

/// The arrivals of these operations as a record; none when none of them has a body.
pub(crate) fn encode(ops: &[Op], now_s: i64) -> Option<EncodedRecord> {
    let mut facts = super::Writer::default();
    for op in ops {
        match op {
            Op::Deliver(d, _) => facts.fact(super::Fact::Arrival(Box::new(of_delivery(d, now_s)))),
            Op::Append(a, _) => {
                for m in &a.messages {
                    facts.fact(super::Fact::Arrival(Box::new(Arrival {
                        hash: m.body.hash(),
                        size_bytes: m.body.size_bytes(),
                        received_s: m.received_s,
                        targets: Vec::new(),
                        mailbox: Some((a.mailbox.0, m.flags.system.0 & SYSTEM)),
                        queue: None,
                    })));
                }
            }
            Op::SpoolDeliver { delivery, .. } => nothing(&mut facts, &delivery.body, delivery.received_s),
            // What a try made of a queue entry is not repeated: the entry is as before it, and is tried again.
            Op::SpoolUpdate(u, _) => {
                for d in &u.deliver {
                    nothing(&mut facts, &d.body, d.received_s);
                }
            }
            // The merge is begun again, and finds what is missing.
            Op::Merge(items, _) => {
                for body in items.iter().filter_map(crate::merge::MergeItem::body) {
                    nothing(&mut facts, body, 0);
                }
            }
            _ => {}
        }
    }
    (!facts.is_empty()).then(|| encode_placement(&super::record(None, &[facts.finish(0, now_s)])))
}

/// Says in the packs that the store was opened again: what ended there goes on.
pub(crate) fn opened() -> EncodedRecord {
    encode_placement(&super::record(None, &[super::encode(&Log { seq: 0, at_s: 0, pieces: Vec::new() })]))
}
