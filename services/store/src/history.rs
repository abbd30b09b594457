//! Where two copies of one store went apart.
//!
//! Contract: the common past is found by comparing, nothing recorded is believed. Packs with the same number and the same seal
//! began as one file; from the newest such pack on, the logs of transactions are compared by their numbers until the first that
//! differs. A log holds every row of its transaction as it is behind it, so equal logs are equal states. As all numbers of a
//! store (positions of the change log, bodies, mailboxes, queue entries, accounts' mail) come from one counter and each transaction
//! that takes some ends with a row of the change log, the last position of the last common transaction divides: what has a
//! lower number is common, what has a higher one belongs to one side alone.
//!
//! Where logs are missing (packs that compaction removed later, or that are damaged), the change logs of the two indexes are
//! compared row by row from there on, with the hashes of the messages; what stays undecided counts as not common
//! ([`Divergence::exact`]). No common pack and another name in the index: a foreign store.

use crate::db;
use crate::pack::{Found, Kind, PackReader, Scan};
use crate::placement::{self, Log, Piece};
use crate::types::{Change, ChangeKind};
use crate::{Aside, AsideIndex, Error, Store};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, VecDeque};
use twinpost_message::{BodyHash, BodyId, ModSeq};

/// Rows of the change logs that are compared at once.
const PAGE_ROWS: usize = 4_000;

/// Where two stores went apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// The last transaction that both have; 0: none is known.
    pub transaction: u64,
    /// The last number that both gave to the same thing.
    pub number: ModSeq,
    /// When the last common transaction was, seconds since 1970 UTC.
    pub common_s: Option<i64>,
    /// When the first one was that only this store has.
    pub first_here_s: Option<i64>,
    /// When the first one was that only the store set aside has. None: it has nothing that is not here.
    pub first_there_s: Option<i64>,
    /// The last common transaction is certain. If not, it may be a later one.
    pub exact: bool,
}

/// The transactions of a store in the order of their numbers.
struct Logs {
    reader: PackReader,
    packs: VecDeque<u32>,
    scan: Option<Scan>,
    read: VecDeque<Log>,
    /// Not in a pack when this began, or in a part of a pack that was not written yet.
    table: BTreeMap<u64, Log>,
    last: u64,
}

impl Logs {
    fn new(reader: &PackReader, packs: &[u32], table: &BTreeMap<u64, Log>) -> Self {
        let packs = packs.iter().copied().collect();
        Self { reader: reader.clone(), packs, scan: None, read: VecDeque::new(), table: table.clone(), last: 0 }
    }
}

impl Iterator for Logs {
    type Item = Log;

    fn next(&mut self) -> Option<Log> {
        loop {
            while let Some(log) = self.read.pop_front() {
                if log.seq > self.last && !log.is_end() {
                    self.last = log.seq;
                    return Some(log);
                }
            }
            if let Some(found) = self.scan.as_mut().and_then(Iterator::next) {
                if let Found::Record { location, header } = found
                    && header.kind == Kind::Placement
                    // What cannot be read is missing: the caller sees the gap.
                    && let Ok(record) = self.reader.read(location).map_err(|e| e.to_string()).and_then(|b| placement::decode(&b))
                    && record.part.is_none()
                {
                    self.read.extend(record.logs);
                }
                continue;
            }
            if let Some(pack) = self.packs.pop_front() {
                self.scan = self.reader.scan(pack).ok();
                continue;
            }
            let (seq, log) = self.table.pop_first()?;
            if seq > self.last && !log.is_end() {
                self.last = seq;
                return Some(log);
            }
        }
    }
}

/// What comparing logs gave.
struct Compared {
    transaction: u64,
    number: u64,
    common_s: Option<i64>,
    here: Option<Log>,
    there: Option<Log>,
}

/// The highest position of the change log in a transaction.
fn number(log: &Log) -> u64 {
    let numbers = log.pieces().filter_map(|piece| match piece {
        Ok(Piece::Message(m)) => Some(m.change.modseq.cast_unsigned()),
        Ok(Piece::Change(c)) => Some(c.modseq.cast_unsigned()),
        _ => None,
    });
    numbers.max().unwrap_or(0)
}

fn compare(here: Logs, there: Logs) -> Compared {
    let (mut here, mut there) = (here.peekable(), there.peekable());
    let mut done = Compared { transaction: 0, number: 0, common_s: None, here: None, there: None };
    while let (Some(h), Some(t)) = (here.peek(), there.peek()) {
        // One that is missing on a side is passed over: the next that both have says whether all before it was common.
        if h.seq < t.seq {
            done.here.get_or_insert_with(|| h.clone());
            here.next();
        } else if h.seq > t.seq {
            done.there.get_or_insert_with(|| t.clone());
            there.next();
        } else if h == t {
            done = Compared {
                transaction: h.seq,
                number: done.number.max(number(h)),
                common_s: (h.at_s > 0).then_some(h.at_s),
                here: None,
                there: None,
            };
            here.next();
            there.next();
        } else {
            break;
        }
    }
    done.here = done.here.or_else(|| here.next());
    done.there = done.there.or_else(|| there.next());
    done
}

/// Packs that both have, oldest first. Blocks.
fn common_packs(here: &PackReader, there: &PackReader) -> Result<Vec<u32>, Error> {
    let list = |reader: &PackReader| reader.packs().map_err(|e| Error::pack("list the packs", e));
    let (ours, theirs) = (list(here)?, list(there)?);
    let both = ours.iter().filter(|p| theirs.iter().any(|t| t.pack == p.pack)).map(|p| p.pack);
    // A head that cannot be read says nothing.
    Ok(both.filter(|p| matches!((here.seal(*p), there.seal(*p)), (Ok(a), Ok(b)) if a == b)).collect())
}

fn numbers(reader: &PackReader) -> Result<Vec<u32>, Error> {
    Ok(reader.packs().map_err(|e| Error::pack("list the packs", e))?.iter().map(|p| p.pack).collect())
}

impl Store {
    /// Where this store and one that was set aside went apart. None: it never was a copy of this one, nor this one of it.
    ///
    /// # Errors
    /// Faults of either store.
    pub async fn divergence(&self, aside: &Aside) -> Result<Option<Divergence>, Error> {
        // The table first: what leaves it meanwhile is in the packs that are read behind it.
        let tables = (waiting(self).await?, waiting(aside.store()).await?);
        let named = (name(self).await?, name(aside.store()).await?);
        let (here, there) = (self.inner.reader.clone(), aside.store().inner.reader.clone());
        let compared = tokio::task::spawn_blocking(move || -> Result<Option<Compared>, Error> {
            let common = common_packs(&here, &there)?;
            // A store that was empty when they parted has no pack to tell it by.
            if common.is_empty() && (named.0.is_none() || named.0 != named.1) {
                return Ok(None);
            }
            let (ours, theirs) = (numbers(&here)?, numbers(&there)?);
            let from = |list: &[u32], pack: u32| list.iter().copied().filter(|p| *p >= pack).collect::<Vec<_>>();
            // The newest common pack says where they parted, unless it tells of no common change at all.
            for pack in common.iter().rev().copied().chain(std::iter::once(0)) {
                let logs = Logs::new(&here, &from(&ours, pack), &tables.0);
                let done = compare(logs, Logs::new(&there, &from(&theirs, pack), &tables.1));
                if done.number > 0 || pack == 0 {
                    return Ok(Some(done));
                }
            }
            Ok(None)
        });
        let Some(compared) = compared.await.map_err(|_| Error::Closed)?? else { return Ok(None) };
        // One side may end there; where both go on, it must be with the next number.
        let gap = |log: &Option<Log>| log.as_ref().is_some_and(|l| l.seq != compared.transaction + 1);
        let mut found = Divergence {
            transaction: compared.transaction,
            number: ModSeq(compared.number),
            common_s: compared.common_s,
            first_here_s: compared.here.as_ref().map(|l| l.at_s),
            first_there_s: compared.there.as_ref().map(|l| l.at_s),
            exact: !gap(&compared.here) && !gap(&compared.there),
        };
        if !found.exact && matches!(aside.index(), AsideIndex::Own) {
            (found.first_here_s, found.first_there_s) = (None, None);
            self.follow(aside.store(), &mut found).await?;
        }
        Ok(Some(found))
    }

    /// Goes on along the change logs of both indexes while they say the same. Rows of both sides can be alike in every number and
    /// second although they speak of different things, and the bodies that would tell are perhaps forgotten. So only a message
    /// that came, and whose hash both know, proves that everything up to it was common.
    async fn follow(&self, there: &Self, found: &mut Divergence) -> Result<(), Error> {
        let mut at = found.number;
        loop {
            let (ours, theirs) = (self.changes(at, PAGE_ROWS).await?, there.changes(at, PAGE_ROWS).await?);
            let ids = |rows: &[Change]| rows.iter().map(|c| c.body).filter(|b| b.0 != 0).collect::<Vec<_>>();
            let (our_names, their_names) = (self.body_names(&ids(&ours)).await?, there.body_names(&ids(&theirs)).await?);
            let mut same = 0;
            for (h, t) in ours.iter().zip(&theirs) {
                let names = (our_names.get(&h.body), their_names.get(&t.body));
                if h != t || matches!(names, (Some(a), Some(b)) if a != b) {
                    break;
                }
                let came = matches!(h.kind, ChangeKind::Added | ChangeKind::Spooled);
                if came && matches!(names, (Some(_), Some(_))) {
                    (found.number, found.common_s) = (h.modseq, Some(h.at_s));
                    (found.first_here_s, found.first_there_s) = (None, None);
                } else {
                    found.first_here_s.get_or_insert(h.at_s);
                    found.first_there_s.get_or_insert(t.at_s);
                }
                at = h.modseq;
                same += 1;
            }
            if same < PAGE_ROWS {
                found.first_here_s = found.first_here_s.or(ours.get(same).map(|c| c.at_s));
                found.first_there_s = found.first_there_s.or(theirs.get(same).map(|c| c.at_s));
                return Ok(());
            }
        }
    }

    async fn body_names(&self, ids: &[BodyId]) -> Result<HashMap<BodyId, BodyHash>, Error> {
        let list: Vec<db::Value> = ids.iter().map(|id| id.0.into()).collect();
        let rows = db::fetch_in(&self.inner.db, "SELECT id, hash FROM body WHERE id", &[], &list, "").await?;
        rows.iter().map(|r| Ok((BodyId(r.int(0)?), crate::writer::hash_of(&r.blob(1)?)?))).collect()
    }
}

/// Logs that are in the index and perhaps not in a pack.
async fn waiting(store: &Store) -> Result<BTreeMap<u64, Log>, Error> {
    let rows = db::fetch(&store.inner.db, "SELECT seq, log FROM placement WHERE length(log) > 0", vec![]).await?;
    let log = |r: &db::Row| {
        let log = placement::decode_log(&r.blob(1)?).map_err(Error::Index)?;
        Ok((log.seq, log))
    };
    rows.iter().map(log).collect()
}

async fn name(store: &Store) -> Result<Option<String>, Error> {
    let rows = db::fetch(&store.inner.db, "SELECT value FROM meta WHERE key = 'uuid'", vec![]).await?;
    rows.first().map(|r| r.text(0)).transpose()
}
