//! `rebuild`: the index made again from the packs alone.
//!
//! Contract: for a stopped store. Nothing of the old index is believed or read, and it is touched only when the new one is
//! complete: a SQLite file is then kept beside it under another name, on PostgreSQL the tables are exchanged in one
//! transaction. UIDs, UIDVALIDITY, flags, keywords, subscriptions, deleted mail and the queue are as the placement records say;
//! counters follow from them. When the packs do not end with the mark of a proper stop, or something in them is damaged, some
//! numbers may have been given that they do not tell: then UIDNEXT of each mailbox and the change log go on well above
//! all that are known, so that no number ever names two things.
//!
//! A message whose record is damaged keeps its place and is shown as damaged. Mail whose transaction was lost with
//! the old index in the moment of a power cut is delivered once more, as the record of its arrival says ([`arrivals`]). What was
//! refused, or failed, is left out: a later transaction, or the end, says that it was decided. Only when something is damaged
//! can a body be without any place: it goes into the mailbox [`RECOVERED`] of account 0, which no person has, and an operator
//! moves it to whom it belongs. Mail is never thrown away here for want of an owner.
//!
//! Failure classes: as [`Store::open`]; what is wrong with a pack is told in the report and stops nothing.

mod arrivals;
mod bodies;
mod finish;
mod replay;
mod swap;

use crate::db;
use crate::pack::{Found, Kind, Location, PackError, PackReader};
use crate::placement::{self, Part};
use crate::store::Lock;
use crate::{Error, Options, Store};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use twinpost_message::BodyHash;
use twinpost_sql::Database;

/// The mailbox of account 0 for bodies that nothing places.
pub const RECOVERED: &str = "Recovered";

/// Faults that a report lists one by one; further ones are counted.
const FAULTS_MAX: usize = 10_000;
/// Records between two reports of progress.
const PIECE_RECORDS: usize = 256;

/// What `rebuild` made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RebuildReport {
    /// Packs that were read.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whole records of bodies in them.
    pub records: u64,
    /// Whole placement records.
    pub placement_records: u64,
    /// Transactions that were replayed.
    pub transactions: u64,
    /// Transactions that are missing in the middle: a placement record is damaged.
    pub missing_transactions: u64,
    /// The packs say that the store was closed behind the last transaction: nothing is missing at the end.
    pub complete: bool,
    /// Mailboxes.
    pub mailboxes: u64,
    /// Messages in them.
    pub messages: u64,
    /// Entries of the outbound queue.
    pub queue_entries: u64,
    /// Bodies that are referred to and have no whole record: their messages are shown as damaged.
    pub damaged_bodies: u64,
    /// Messages and queue entries of the last moment before the loss, delivered once more: their transaction is in no pack.
    pub last_moment: u64,
    /// Bodies that nothing placed, now in [`RECOVERED`].
    pub recovered: u64,
    /// What was wrong with the packs, in sentences, at most 10,000.
    pub faults: Vec<String>,
    /// How many there were.
    pub faults_total: u64,
    /// Where the old index is now. None: there was none, or it was on PostgreSQL.
    pub old_index: Option<PathBuf>,
}

impl RebuildReport {
    fn fault(&mut self, text: String) {
        tracing::error!(fault = %text, "rebuild");
        self.faults_total += 1;
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(text);
        }
    }
}

/// What is said at the end of the packs, and how far they are decided.
#[derive(Default)]
struct Tail {
    /// The last record is the mark of a proper stop behind this transaction.
    end: Option<u64>,
    /// Pack and place: everything that arrived up to here was stored or refused.
    decided: (u32, u64),
    /// Records of arrivals behind it.
    arrivals: Vec<Location>,
}

impl Tail {
    fn is_open(&self, place: &Location) -> bool {
        (place.pack, place.offset) > self.decided
    }
}

/// Which bodies without a place matter.
struct Keep {
    /// Everything before is decided, and nothing is damaged: what is without a place was refused.
    refused_before: Option<(u32, u64)>,
    /// Bodies that arrivals name.
    named: HashSet<BodyHash>,
}

/// A placement record.
struct Placed {
    location: Location,
    /// First transaction in it; of a part of a snapshot its begin.
    seq: u64,
    part: Option<Part>,
}

/// Which placement records count, and in which order.
struct Plan {
    records: Vec<Location>,
    /// Transactions up to this one are in the snapshot.
    begin: u64,
    /// Where the snapshot begins: bodies before it that it does not name were deleted.
    start: Option<Location>,
}

impl Store {
    /// Makes the index of a stopped store again. `progress` hears how much is done, and of how much, in bytes read.
    ///
    /// # Errors
    /// [`Error::Locked`] when the store is open; [`Error::Open`], [`Error::Database`], [`Error::Pack`] and faults of the
    /// index's engine: then the old index is as it was.
    pub async fn rebuild(options: Options, mut progress: impl FnMut(u64, u64) + Send) -> Result<RebuildReport, Error> {
        let lock = Lock::take(&options.dir)?;
        let reader = PackReader::at_rest(options.files.clone(), &options.dir.join("packs"));
        let target = options.index.clone().unwrap_or_else(|| twinpost_sql::Location::Sqlite(options.dir.join("index.sqlite")));
        let work = swap::prepare(&options.dir, &target).await?;
        let db = Database::open(&work, 2).await?;
        db.migrate("store", crate::schema::STEPS).await?;
        let writer = db::Writer::new(&db, &work)?;
        let made = make(&db, &writer, &reader, &options, &mut progress).await;
        if let Ok(report) = &made {
            finish::name(&writer, &options.dir, report).await?;
        }
        let old_index = match made.is_ok() {
            true => swap::exchange(&options.dir, &db, &writer, &work, &target).await?,
            false => None,
        };
        writer.close();
        db.close().await;
        let mut report = made?;
        report.old_index = old_index;
        drop(lock);
        // What was decided here (recovered mail, numbers) must be in the packs, too.
        let store = Self::open(options).await?;
        store.snapshot_index().await?;
        store.close().await;
        Ok(report)
    }
}

/// Fills the empty index `db` from the packs. Writes nowhere else.
pub(crate) async fn make(
    db: &Database,
    writer: &db::Writer,
    reader: &PackReader,
    options: &Options,
    progress: &mut (impl FnMut(u64, u64) + Send),
) -> Result<RebuildReport, Error> {
    let mut report = RebuildReport::default();
    let list = reader.clone();
    options
        .files
        .create_dir(&options.dir.join("packs"))
        .map_err(|e| Error::Open { dir: options.dir.clone(), source: e.into() })?;
    let packs = blocking(move || list.packs()).await?.map_err(|e| Error::pack("list the packs", e))?;
    report.packs = packs.len() as u64;
    report.bytes = packs.iter().map(|p| p.bytes).sum();
    // Everything is read twice: what is placed where first, then the bodies.
    let total = report.bytes * 2;
    let mut done = 0;
    let (mut placed, mut tail) = (Vec::new(), Tail::default());
    for pack in &packs {
        progress(done, total);
        let mut scan = Walk::new(reader, pack.pack);
        while let Some(piece) = scan.next(look_at_placement).await? {
            for (found, record) in piece {
                note(found, record, &mut placed, &mut tail, &mut report);
            }
            progress(done + scan.at.min(pack.bytes), total);
        }
        if let Some(fault) = scan.fault {
            report.fault(fault);
        }
        done += pack.bytes;
    }
    let plan = plan(&placed);
    replay::run(db, writer, reader, &plan, tail.end, &mut report).await?;
    let open: &[Location] = if report.complete { &[] } else { &tail.arrivals };
    let arrivals = arrivals::read(reader, open, &mut report).await?;
    let decided = if report.complete { (u32::MAX, 0) } else { tail.decided };
    let keep =
        Keep { refused_before: (report.faults_total == 0).then_some(decided), named: arrivals.iter().map(|a| a.hash).collect() };
    let mut unplaced = Vec::new();
    for pack in &packs {
        progress(done, total);
        let mut scan = Walk::new(reader, pack.pack);
        while let Some(piece) = scan.next(bodies::read).await? {
            bodies::enter(db, writer, piece, &plan, &keep, &mut unplaced, &mut report).await?;
            progress(done + scan.at.min(pack.bytes), total);
        }
        done += pack.bytes;
    }
    arrivals::run(db, writer, arrivals, &mut unplaced, &mut report).await?;
    finish::run(db, writer, unplaced, &mut report).await?;
    progress(total, total);
    Ok(report)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Closed)
}

/// A pack, piece by piece, with the work on each record done where blocking is allowed.
struct Walk {
    reader: PackReader,
    pack: u32,
    scan: Option<crate::pack::Scan>,
    begun: bool,
    /// How far it came, in bytes.
    at: u64,
    fault: Option<String>,
}

impl Walk {
    fn new(reader: &PackReader, pack: u32) -> Self {
        Self { reader: reader.clone(), pack, scan: None, begun: false, at: 0, fault: None }
    }

    async fn next<T: Send + 'static>(&mut self, work: fn(&PackReader, &Found) -> T) -> Result<Option<Vec<(Found, T)>>, Error> {
        let (reader, pack) = (self.reader.clone(), self.pack);
        if !self.begun {
            self.begun = true;
            let reader = reader.clone();
            match blocking(move || reader.scan(pack)).await? {
                Ok(scan) => self.scan = Some(scan),
                Err(error @ PackError::Io { .. }) => return Err(Error::pack("read a pack", error)),
                Err(error) => self.fault = Some(format!("Pack {pack} cannot be read: {error}.")),
            }
        }
        let Some(mut scan) = self.scan.take() else { return Ok(None) };
        let (scan, piece) = blocking(move || {
            let piece: Vec<_> = scan.by_ref().take(PIECE_RECORDS).map(|f| (f, work(&reader, &f))).collect();
            (scan, piece)
        })
        .await?;
        let Some((last, _)) = piece.last() else { return Ok(None) };
        self.at = match last {
            Found::Record { location, .. } => location.end(),
            Found::Damaged { offset, bytes, .. } => offset.saturating_add(*bytes),
        };
        self.scan = Some(scan);
        Ok(Some(piece))
    }
}

/// What matters of a placement record before any is replayed.
struct Look {
    /// First transaction in it; of a part of a snapshot its begin; 0: arrivals, or an opening.
    seq: u64,
    part: Option<Part>,
    decided: (u32, u64),
    /// It ends with the mark of a proper stop.
    end: Option<u64>,
}

fn look_at_placement(reader: &PackReader, found: &Found) -> Option<Result<Look, String>> {
    let Found::Record { location, header } = found else { return None };
    if header.kind != Kind::Placement {
        return None;
    }
    let record = reader.read(*location).map_err(|e| e.to_string()).and_then(|bytes| placement::decode(&bytes));
    Some(record.map(|r| {
        let decided = r.logs.iter().flat_map(placement::Log::pieces).filter_map(|piece| match piece {
            Ok(placement::Piece::Fact(placement::Fact::Decided(pack, place))) => Some((pack, place)),
            _ => None,
        });
        Look {
            seq: r.part.map_or_else(|| r.logs.first().map_or(0, |l| l.seq), |p| p.begin),
            part: r.part,
            decided: decided.max().unwrap_or_default(),
            end: r.logs.last().filter(|l| l.is_end() && r.part.is_none()).map(|l| l.seq),
        }
    }))
}

fn note(
    found: Found,
    record: Option<Result<Look, String>>,
    placed: &mut Vec<Placed>,
    tail: &mut Tail,
    report: &mut RebuildReport,
) {
    tail.end = None;
    match (found, record) {
        (Found::Record { location, .. }, Some(Ok(Look { seq, part, decided, end }))) => {
            report.placement_records += 1;
            tail.end = end;
            if decided > tail.decided {
                tail.decided = decided;
                let open: Vec<Location> = tail.arrivals.iter().filter(|a| tail.is_open(a)).copied().collect();
                tail.arrivals = open;
            }
            match (seq, part) {
                (0, None) if tail.is_open(&location) => tail.arrivals.push(location),
                (0, None) => {}
                _ => placed.push(Placed { location, seq, part }),
            }
        }
        (Found::Record { location, .. }, Some(Err(why))) => {
            report.fault(format!("The placement record at {} in pack {} cannot be read: {why}.", location.offset, location.pack));
        }
        (Found::Record { .. }, None) => report.records += 1,
        (Found::Damaged { pack, offset, bytes, fault, .. }, _) => {
            report.fault(format!("{bytes} bytes at {offset} in pack {pack} are no record: {fault}."));
        }
    }
}

/// The latest whole snapshot and what came behind its begin; without one, everything that is there.
fn plan(placed: &[Placed]) -> Plan {
    let mut snapshots: BTreeMap<(u64, u64), BTreeMap<u32, (Location, bool)>> = BTreeMap::new();
    for p in placed {
        if let Some(part) = p.part {
            snapshots.entry((part.begin, part.id)).or_default().insert(part.n, (p.location, part.last));
        }
    }
    let whole = |parts: &BTreeMap<u32, (Location, bool)>| {
        let last = parts.last_key_value();
        last.is_some_and(|(n, (_, last))| *last && parts.len() == *n as usize + 1)
    };
    let chosen = snapshots.iter().rev().find(|(_, parts)| whole(parts));
    let begin = chosen.map_or(0, |((begin, _), _)| *begin);
    let mut records: Vec<Location> = chosen.iter().flat_map(|(_, parts)| parts.values().map(|p| p.0)).collect();
    let start = records.first().copied();
    // Without a whole snapshot the parts of a torn one say something, too: behind what it covers.
    let mut rest: Vec<&Placed> = placed.iter().filter(|p| p.part.is_none() || start.is_none()).collect();
    rest.sort_by_key(|p| (p.seq, p.part.map(|part| part.n), p.location));
    records.extend(rest.into_iter().map(|p| p.location));
    Plan { records, begin, start }
}

/// The highest number that the new index has anywhere.
async fn last_number(db: &Database) -> Result<u64, Error> {
    crate::store::last_number(db).await
}

/// A number that one row holds.
async fn number(db: &Database, sql: &'static str) -> Result<u64, Error> {
    db::fetch(db, sql, vec![]).await?.first().map_or(Ok(0), |r| r.uint(0))
}
