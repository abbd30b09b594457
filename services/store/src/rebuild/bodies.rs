//! Records of bodies into their rows, parsed again.

use super::{Keep, Plan, RebuildReport};
use crate::Error;
use crate::db::{self, Shape, Tx, Value};
use crate::pack::{Found, Kind, Location, PackReader};
use crate::reads::parsed_blob;
use crate::writer::batch::BODY;
use crate::writer::hash_of;
use std::collections::HashMap;
use twinpost_message::{BodyHash, Parsed};
use twinpost_sql::Database;

/// A whole record, parsed.
pub(super) struct Read {
    hash: BodyHash,
    location: Location,
    size_bytes: u32,
    thread: u64,
    parsed: Vec<u8>,
}

/// A body that nothing places.
pub(super) struct Unplaced {
    pub body: i64,
    pub size_bytes: u32,
}

macro_rules! enter {
    ($bytes:literal) => {
        Shape {
            head: "UPDATE body SET pack = v.column2, place = v.column3, stored_bytes = v.column4, size_bytes = v.column5, \
                   thread = v.column6, parsed = v.column7 FROM (VALUES ",
            row: concat!(
                "(CAST(? AS BIGINT),CAST(? AS BIGINT),CAST(? AS BIGINT),CAST(? AS BIGINT),CAST(? AS BIGINT),CAST(? AS BIGINT),CAST(? AS ",
                $bytes,
                "))"
            ),
            tail: ") AS v WHERE body.id = v.column1",
        }
    };
}
const ON_SQLITE: Shape = enter!("BLOB");
const ON_POSTGRES: Shape = enter!("BYTEA");
const NEW: Shape = Shape { row: "(?,?,?,?,?,?,?,0,?)", ..BODY };

/// None: not a body, or not the one that its name says.
pub(super) fn read(reader: &PackReader, found: &Found) -> Option<Read> {
    let Found::Record { location, header } = found else { return None };
    if header.kind != Kind::Body {
        return None;
    }
    let bytes = reader.read(*location).ok().filter(|b| BodyHash::of(b) == header.id)?;
    let parsed = Parsed::parse(&bytes);
    let (thread, size_bytes) = (parsed.thread, header.plain_bytes);
    Some(Read { hash: header.id, location: *location, size_bytes, thread, parsed: parsed_blob(&parsed) })
}

/// Points rows to these records. When a body has several, the last one counts: it was written because an earlier one
/// was damaged or lies in a pack that is being emptied.
pub(super) async fn enter(
    db: &Database,
    writer: &db::Writer,
    piece: Vec<(Found, Option<Read>)>,
    plan: &Plan,
    keep: &Keep,
    unplaced: &mut Vec<Unplaced>,
    report: &mut RebuildReport,
) -> Result<(), Error> {
    let mut records: HashMap<BodyHash, Read> = HashMap::new();
    for (found, read) in piece {
        match (found, read) {
            (_, Some(read)) => drop(records.insert(read.hash, read)),
            (Found::Record { location, header }, None) if header.kind == Kind::Body => {
                report.fault(format!(
                    "The record at {} in pack {} is not the message that its name says.",
                    location.offset, location.pack
                ));
            }
            _ => {}
        }
    }
    let list: Vec<Value> = records.keys().map(|h| h.0.to_vec().into()).collect();
    let mut rows = Vec::new();
    for row in db::fetch_in(db, "SELECT id, hash FROM body WHERE hash", &[], &list, "").await? {
        if let Some(read) = records.remove(&hash_of(&row.blob(1)?)?) {
            let mut values: Vec<Value> = vec![row.int(0)?.into(), read.location.pack.into(), read.location.offset.into()];
            values.extend([read.location.stored_bytes.into(), read.size_bytes.into(), read.thread.into(), read.parsed.into()]);
            rows.push(values);
        }
    }
    let mut new = Vec::new();
    let mut last = if records.is_empty() { 0 } else { super::last_number(db).await? };
    let mut left: Vec<Read> = records.into_values().collect();
    left.sort_by_key(|r| r.location);
    for read in left {
        // Before the snapshot, and not in it: it was deleted. Or it was refused.
        let place = (read.location.pack, read.location.offset);
        let dead =
            plan.start.is_some_and(|start| read.location < start) || keep.refused_before.is_some_and(|until| place < until);
        if dead && !keep.named.contains(&read.hash) {
            continue;
        }
        last += 1;
        unplaced.push(Unplaced { body: last.cast_signed(), size_bytes: read.size_bytes });
        let mut values: Vec<Value> =
            vec![last.into(), read.hash.0.to_vec().into(), read.location.pack.into(), read.location.offset.into()];
        values.extend([read.location.stored_bytes.into(), read.size_bytes.into(), read.thread.into(), read.parsed.into()]);
        new.push(values);
    }
    let mut tx = Tx::begin(writer).await?;
    tx.many(if db.is_postgres() { ON_POSTGRES } else { ON_SQLITE }, rows).await?;
    tx.many(NEW, new).await?;
    tx.commit().await
}
