//! Packs against body rows.

use super::{FaultKind, PLACES_MAX, Place, VerifyFault, VerifyReport};
use crate::db::{self, Row, Value};
use crate::pack::{Found, Header, Kind, Location, PackError, PackReader, Scan};
use crate::writer::hash_of;
use crate::{Error, Store};
use std::collections::{BTreeMap, HashMap, HashSet};
use twinpost_message::{BodyHash, BodyId};

/// Records between two reports of progress.
const PIECE_RECORDS: usize = 256;

/// A body row.
#[derive(Clone, Copy)]
struct Body {
    id: BodyId,
    hash: BodyHash,
    place: Location,
    size_bytes: u32,
}

const BODY: &str = "SELECT id, hash, pack, place, stored_bytes, size_bytes FROM body WHERE ";

fn body(row: &Row) -> Result<Body, Error> {
    let place = Location { pack: row.u32(2)?, offset: row.uint(3)?, stored_bytes: row.u32(4)? };
    Ok(Body { id: BodyId(row.int(0)?), hash: hash_of(&row.blob(1)?)?, place, size_bytes: row.u32(5)? })
}

/// What is wrong with the record of a body.
struct Bad {
    body: Body,
    kind: FaultKind,
    why: String,
}

pub(super) async fn check(
    store: &Store,
    report: &mut VerifyReport,
    progress: &mut (impl FnMut(u64, u64) + Send),
) -> Result<(), Error> {
    let reader = store.inner.reader.clone();
    let packs = blocking(move || reader.packs()).await?.map_err(|e| Error::pack("list the packs", e))?;
    let total = packs.iter().map(|p| p.bytes).sum();
    let mut done = 0;
    progress(done, total);
    let mut suspects = Vec::new();
    for pack in &packs {
        let rows = db::fetch(&store.inner.db, format!("{BODY}pack = $1"), vec![pack.pack.into()]).await?;
        let mut rows = rows.iter().map(|r| body(r).map(|b| (b.place.offset, b))).collect::<Result<BTreeMap<_, _>, _>>()?;
        report.packs += 1;
        report.bytes += pack.bytes;
        report.bodies += rows.len() as u64;
        let reader = store.inner.reader.clone();
        let number = pack.pack;
        match blocking(move || reader.scan(number)).await? {
            Ok(scan) => read(store, scan, &mut rows, report, &mut |at| progress(done + at.min(pack.bytes), total)).await?,
            // Compaction removed it since it was listed; its rows are looked up again below.
            Err(PackError::NoPack { .. }) => {}
            Err(error @ PackError::Io { .. }) => return Err(Error::pack("read a pack", error)),
            Err(error) => {
                let text = format!("Pack {number} cannot be read: {error}. {} stored bodies are in it.", rows.len());
                let fault = VerifyFault::of_index(FaultKind::DamagedRange, text);
                report.add(VerifyFault { pack: Some(number), offset: Some(0), ..fault });
            }
        }
        suspects.extend(rows.into_values().map(|b| b.id));
        done += pack.bytes;
        progress(done, total);
    }
    // Rows that point into packs that are not there.
    let listed: HashSet<u32> = packs.iter().map(|p| p.pack).collect();
    for row in db::fetch(&store.inner.db, "SELECT DISTINCT pack FROM body", vec![]).await? {
        let pack = row.u32(0)?;
        // Those behind the newest one were begun since.
        if !listed.contains(&pack) && packs.last().is_none_or(|newest| pack < newest.pack) {
            for row in db::fetch(&store.inner.db, "SELECT id FROM body WHERE pack = $1", vec![pack.into()]).await? {
                suspects.push(BodyId(row.int(0)?));
                report.bodies += 1;
            }
        }
    }
    let bad = confirm(store, &suspects).await?;
    tell(store, bad, report).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Closed)
}

/// Goes through one pack. Rows whose record is as it should be are taken out; the others stay to be looked at again.
async fn read(
    store: &Store,
    mut scan: Scan,
    rows: &mut BTreeMap<u64, Body>,
    report: &mut VerifyReport,
    progress: &mut (impl FnMut(u64) + Send),
) -> Result<(), Error> {
    loop {
        let reader = store.inner.reader.clone();
        let (back, piece) = blocking(move || {
            let piece: Vec<_> = scan.by_ref().take(PIECE_RECORDS).map(|found| look(&reader, found)).collect();
            (scan, piece)
        })
        .await?;
        scan = back;
        if piece.is_empty() {
            return Ok(());
        }
        for (found, checked) in piece {
            match (found, checked) {
                (Found::Record { location, .. }, Ok(header)) if header.kind == Kind::Body => {
                    report.records += 1;
                    let matches = rows.get(&location.offset).is_some_and(|row| {
                        row.place == location && row.hash == header.id && row.size_bytes == header.plain_bytes
                    });
                    if matches {
                        rows.remove(&location.offset);
                    } else if !rows.contains_key(&location.offset) {
                        report.orphan_records += 1;
                        report.orphan_bytes += u64::from(location.stored_bytes);
                    }
                    progress(location.end());
                }
                (Found::Record { location, .. }, Ok(_)) => {
                    report.placement_records += 1;
                    progress(location.end());
                }
                (Found::Record { location, header }, Err(error)) => {
                    if !rows.contains_key(&location.offset) {
                        let whole = (location.offset, u64::from(location.stored_bytes));
                        report.add(range(location.pack, whole, &error, header.kind == Kind::Placement));
                    }
                }
                (Found::Damaged { pack, offset, bytes, fault, header }, _) => {
                    if rows.range(offset..offset.saturating_add(bytes)).next().is_none() {
                        let placement = header.is_some_and(|h| h.kind == Kind::Placement);
                        report.add(range(pack, (offset, bytes), &fault.to_string(), placement));
                    }
                    progress(offset.saturating_add(bytes));
                }
            }
        }
    }
}

/// A record is compared with the hash that names it, too.
fn look(reader: &PackReader, found: Found) -> (Found, Result<Header, String>) {
    let checked = match found {
        Found::Record { location, .. } => reader.check(location).map_err(|e| e.to_string()),
        Found::Damaged { fault, .. } => Err(fault.to_string()),
    };
    (found, checked)
}

fn range(pack: u32, (offset, bytes): (u64, u64), why: &str, placement: bool) -> VerifyFault {
    let text = if placement {
        format!(
            "A placement record at {offset} in pack {pack} is damaged ({why}). No message is concerned; `rebuild` would miss what \
             it says until the next compaction writes it anew."
        )
    } else {
        format!("{bytes} bytes at {offset} in pack {pack} are no record ({why}). No message is in them.")
    };
    let fault = VerifyFault::of_index(FaultKind::DamagedRange, text);
    VerifyFault { pack: Some(pack), offset: Some(offset), ..fault }
}

/// Looks these bodies up and reads them once more: what moved or went meanwhile is no fault.
async fn confirm(store: &Store, suspects: &[BodyId]) -> Result<Vec<Bad>, Error> {
    let mut bad = Vec::new();
    for id in suspects {
        let mut last: Option<Bad> = None;
        // Compaction can move it once more between the look-up and the read: a verdict stands when it is given twice
        // about the same place.
        for _ in 0..4 {
            let rows = db::fetch(&store.inner.db, format!("{BODY}id = $1"), vec![id.0.into()]).await?;
            let Some(row) = rows.first() else {
                last = None;
                break;
            };
            let body = body(row)?;
            let reader = store.inner.reader.clone();
            let (kind, why) = match blocking(move || reader.check(body.place)).await? {
                Ok(header) if header.id != body.hash => {
                    (FaultKind::Mismatch, format!("the record there is {}, the index wants {}", header.id, body.hash))
                }
                Ok(header) if header.plain_bytes != body.size_bytes => {
                    let (is, wants) = (header.plain_bytes, body.size_bytes);
                    (FaultKind::Mismatch, format!("the record there has {is} bytes, the index says {wants}"))
                }
                Ok(_) => {
                    last = None;
                    break;
                }
                Err(error @ PackError::Io { .. }) => return Err(Error::pack("read a message", error)),
                Err(_) if body.place.pack == 0 => {
                    (FaultKind::MissingRecord, "no whole record of it was there when the index was made again".to_owned())
                }
                Err(error @ (PackError::Missing(_) | PackError::Torn(_))) => (FaultKind::MissingRecord, error.to_string()),
                Err(error) => (FaultKind::DamagedRecord, error.to_string()),
            };
            if last.replace(Bad { body, kind, why }).is_some_and(|before| before.body.place == body.place) {
                break;
            }
        }
        bad.extend(last);
    }
    Ok(bad)
}

/// Names the messages of bad bodies.
async fn tell(store: &Store, bad: Vec<Bad>, report: &mut VerifyReport) -> Result<(), Error> {
    let list: Vec<Value> = bad.iter().map(|b| Value::Int(b.body.id.0)).collect();
    let mut places: HashMap<i64, (Vec<Place>, u64)> = HashMap::new();
    let head = "SELECT m.body, b.account, b.name, m.uid FROM message m JOIN mailbox b ON b.id = m.mailbox WHERE m.body";
    for row in db::fetch_in(&store.inner.db, head, &[], &list, "ORDER BY m.body, b.account, b.name, m.uid").await? {
        let (found, more) = places.entry(row.int(0)?).or_default();
        if found.len() < PLACES_MAX {
            found.push(Place { account: row.int(1)?, mailbox: row.text(2)?, uid: row.u32(3)? });
        } else {
            *more += 1;
        }
    }
    let mut others: HashMap<i64, Vec<String>> = HashMap::new();
    for row in db::fetch_in(&store.inner.db, "SELECT body, id FROM spool WHERE body", &[], &list, "").await? {
        others.entry(row.int(0)?).or_default().push(format!("queue entry {}", row.int(1)?));
    }
    for row in db::fetch_in(&store.inner.db, "SELECT body, account FROM trash WHERE body", &[], &list, "").await? {
        others.entry(row.int(0)?).or_default().push(format!("deleted mail of account {}", row.int(1)?));
    }
    for Bad { body, kind, why } in bad {
        let (messages, more) = places.remove(&body.id.0).unwrap_or_default();
        let mut where_ =
            messages.iter().map(|p| format!("{:?} of account {} (UID {})", p.mailbox, p.account, p.uid)).collect::<Vec<_>>();
        if more > 0 {
            where_.push(format!("{more} more mailboxes"));
        }
        where_.append(&mut others.remove(&body.id.0).unwrap_or_default());
        let concerned =
            if where_.is_empty() { "nothing refers to it".to_owned() } else { format!("it is in {}", where_.join(", ")) };
        let text = format!("The stored message {}: {why}; {concerned}.", body.id);
        let (pack, offset) = (Some(body.place.pack), Some(body.place.offset));
        report.add(VerifyFault { kind, text, pack, offset, body: Some(body.id.0), messages });
    }
    Ok(())
}
