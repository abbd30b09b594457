//! Opening after a stop: what lies behind the last record that the index knows.
//!
//! Contract: bytes before `known_end` are never touched, so damage there stays to be found and shown. Behind it nothing was
//! ever acknowledged: whole records stay (their batch was synced or survived by luck), ranges between them become
//! [`Kind::Gap`] records, and what follows the last whole one is cut. Without an index nothing is cut at all: the newest pack is
//! left as it is when its tail is not clean, and mail goes into a new one. After this everything that a scan shows is durable.

use super::head::{self, DATA_START};
use super::reader::{PackFile, Shared};
use super::record::{HEADER_BYTES, Header, Kind};
use super::scan::{Found, Scan};
use super::{Active, PackError, PackOptions};
use crate::files::Mode;
use std::io::{self, IoSlice};
use std::sync::Arc;
use twinpost_message::BodyHash;

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// How many packs there are.
    pub packs: u64,
    /// Bytes of the newest pack that were looked through.
    pub scanned_bytes: u64,
    /// Whole records behind `known_end`: synced, but the index does not point to them.
    pub unindexed_records: u64,
    /// Half-written bytes behind `known_end` that were cut or covered.
    pub cut_bytes: u64,
    /// Damage that was left as it is: (pack, from, bytes). With an index: the newest pack ends before `known_end`, or its
    /// head is unreadable. Without: anything in the newest pack that is not a record.
    pub damage: Vec<(u32, u64, u64)>,
}

/// Clears the newest pack; returns the report, the number of the next new pack and the pack to go on with.
pub fn recover(shared: &Arc<Shared>, options: &PackOptions) -> Result<(ScanReport, u32, Option<Active>), PackError> {
    let mut report = ScanReport::default();
    let mut packs = shared.numbers().map_err(|source| PackError::Io { what: "list", pack: 0, source })?;
    report.packs = packs.len() as u64;
    // A number the index knows is not used again even if its pack is gone: old rows must not find new records there.
    let known_pack = options.known_end.map_or(0, |(pack, _)| pack);
    let next = packs.last().copied().unwrap_or(0).max(known_pack).saturating_add(1);
    remove_unborn(shared, &mut packs, known_pack, options, &mut report)?;
    let Some(pack) = packs.pop() else { return Ok((report, next, None)) };
    let io = |what, source| PackError::Io { what, pack, source };
    let file = shared.files.open(&shared.path(pack), Mode::Write).map_err(|e| io("open", e))?;
    let len = file.len().map_err(|e| io("measure", e))?;
    let Some(seal) = head::read(&*file, pack).map_err(|e| io("read the head of", e))? else {
        report.damage.push((pack, 0, len));
        return Ok((report, next, None));
    };
    let open = shared.keep(pack, PackFile { file, seal });
    let active = clear(pack, &open, len, options, &mut report).map_err(|e| io("repair the tail of", e))?;
    Ok((report, next, active))
}

/// Removes packs that were being made when the power went: the head is synced before the first record, so a pack without
/// a head that no row knows holds no mail. There can be several: making one failed on a bad disk, and the removal was lost.
fn remove_unborn(
    shared: &Shared,
    packs: &mut Vec<u32>,
    known_pack: u32,
    options: &PackOptions,
    report: &mut ScanReport,
) -> Result<(), PackError> {
    let mut removed = false;
    for i in (0..packs.len()).rev() {
        let pack = packs[i];
        if pack <= known_pack {
            break;
        }
        let io = |what, source| PackError::Io { what, pack, source };
        let file = shared.files.open(&shared.path(pack), Mode::Read).map_err(|e| io("open", e))?;
        let len = file.len().map_err(|e| io("measure", e))?;
        if head::read(&*file, pack).map_err(|e| io("read the head of", e))?.is_some() {
            continue;
        }
        if options.known_end.is_some() || len <= DATA_START {
            shared.files.remove(&shared.path(pack)).map_err(|e| io("remove the torn", e))?;
            packs.remove(i);
            report.packs -= 1;
            report.cut_bytes += len;
            removed = true;
        }
    }
    if removed {
        let dir = &shared.dir;
        shared.files.sync_dir(dir).map_err(|source| PackError::Io { what: "remove for good the torn", pack: 0, source })?;
    }
    Ok(())
}

/// What a scan found behind the start: all that matters for the tail.
struct Tail {
    end: u64,
    torn: Vec<(u64, u64)>,
}

fn look(pack: u32, open: &Arc<PackFile>, start: u64, len: u64, report: &mut ScanReport) -> Tail {
    let mut tail = Tail { end: start, torn: Vec::new() };
    for found in Scan::new(pack, Arc::clone(open), start, len) {
        match found {
            Found::Record { location, .. } => {
                tail.end = location.end();
                report.unindexed_records += 1;
            }
            Found::Damaged { offset, bytes, .. } => tail.torn.push((offset, bytes)),
        }
    }
    report.scanned_bytes = len.saturating_sub(start);
    tail
}

fn clear(
    pack: u32,
    open: &Arc<PackFile>,
    len: u64,
    options: &PackOptions,
    report: &mut ScanReport,
) -> io::Result<Option<Active>> {
    let start = match options.known_end {
        Some((known, end)) if known == pack => end.max(DATA_START),
        _ => DATA_START,
    };
    if start > len.max(DATA_START) {
        // Rows point beyond the end: damage, and not ours to overwrite.
        report.damage.push((pack, len, start - len));
        return Ok(None);
    }
    let tail = look(pack, open, start, len, report);
    if options.known_end.is_none() {
        report.damage.extend(tail.torn.iter().map(|(offset, bytes)| (pack, *offset, *bytes)));
        open.file.sync_data()?;
        if tail.torn.iter().any(|(offset, _)| *offset >= tail.end) {
            return Ok(None);
        }
    } else {
        for (offset, bytes) in tail.torn {
            report.cut_bytes += bytes;
            if offset < tail.end {
                cover(open, offset, bytes)?;
            }
        }
    }
    let end = tail.end;
    if end < len {
        open.file.set_len(end)?;
    }
    // A copy of the head that was torn, or has gone bad since, is made good; the other copy is written as it is.
    head::write(&*open.file, pack, open.seal)?;
    // Records that survived a power cut by luck, or a kill in the kernel's cache, become durable before anyone uses them.
    open.file.sync_data()?;
    Ok(Some(Active { pack, file: Arc::clone(&open.file), seal: open.seal, end, synced: end, allocated: end }))
}

/// Puts records without content over a range that lies between two records.
fn cover(open: &PackFile, mut offset: u64, mut bytes: u64) -> io::Result<()> {
    let least = HEADER_BYTES as u64;
    while bytes >= least {
        // What is left must hold a header of its own.
        let some = if bytes > u64::from(u32::MAX) { u64::from(u32::MAX) / 2 } else { bytes };
        let header = Header {
            kind: Kind::Gap,
            compressed: false,
            id: BodyHash([0; 32]),
            plain_bytes: 0,
            payload_bytes: u32::try_from(some - least).unwrap_or(0),
            payload_crc: 0,
        };
        open.file.write_at(&[IoSlice::new(&header.to_bytes(open.seal, offset))], offset)?;
        offset += some;
        bytes -= some;
    }
    Ok(())
}
