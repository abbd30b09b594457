//! Space: bodies that nothing refers to are forgotten, live records leave mostly dead packs.
//!
//! Contract: mail never waits for it longer than for one batch. A record is copied and synced first, then the rows are
//! pointed to the copy in one transaction, and a pack is removed only when stage 1 has forgotten it and, behind everything
//! that stage 1 sent before, no row points into it. A stop at any point leaves dead bytes at worst.

use crate::db;
use crate::pack::{Found, Kind, Location, PackError};
use crate::placement::snapshot;
use crate::writer::{Alone, Intake, Op};
use crate::{Error, Store};
use twinpost_message::BodyId;

/// Records that are copied at once.
const COPY_RECORDS: usize = 64;
/// Bytes that are copied at once, about.
const COPY_BYTES: u64 = 8 << 20;

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Rows of bodies that nothing referred to.
    pub forgotten: u64,
    /// Records that were copied.
    pub copied: u64,
    /// Packs that were removed.
    pub packs: u64,
    /// Bytes that they took.
    pub freed_bytes: u64,
    /// Records that could not be copied because they are damaged: their packs stay.
    pub damaged: u64,
}

impl Store {
    /// Forgets unused bodies and empties packs whose live share is below `live_percent`. Runs beside mail.
    ///
    /// # Errors
    /// Faults of the store; what was done until then stays done.
    pub async fn compact(&self, live_percent: u64) -> Result<Compacted, Error> {
        let mut done = Compacted::default();
        loop {
            match self.ask_behind(|answer| Op::Alone(Alone::Collect { answer })).await? {
                0 => break,
                n => done.forgotten += n,
            }
        }
        let reader = self.inner.reader.clone();
        let packs = tokio::task::spawn_blocking(move || reader.packs()).await.map_err(|_| Error::Closed)?;
        let packs = packs.map_err(|e| Error::pack("list the packs", e))?;
        let Some(newest) = packs.last().map(|p| p.pack) else { return Ok(done) };
        let sql = "SELECT pack, CAST(SUM(stored_bytes) AS BIGINT) FROM body GROUP BY pack";
        let mut live = std::collections::HashMap::new();
        for row in db::fetch(&self.inner.db, sql, vec![]).await? {
            live.insert(row.u32(0)?, row.uint(1)?);
        }
        let mut empty = Vec::new();
        let since = self.snapshot_pack().await?;
        for pack in packs.iter().filter(|p| p.pack != newest) {
            let mostly_dead = |used: u64| used.saturating_mul(100) < pack.bytes.saturating_mul(live_percent);
            let used = live.get(&pack.pack).copied().unwrap_or(0);
            if mostly_dead(used) && (pack.pack < since || mostly_dead(used.saturating_add(self.placements(pack.pack).await?))) {
                empty.push(pack);
            }
        }
        if !empty.is_empty() {
            // What these packs say to `rebuild` is dead behind it.
            self.snapshot_index().await?;
        }
        for pack in empty {
            if self.empty(pack.pack, &mut done).await? {
                done.packs += 1;
                done.freed_bytes += pack.bytes;
            }
        }
        self.keep_room().await;
        Ok(done)
    }

    /// Keeps room for a start, where the store was told to.
    pub(crate) async fn keep_room(&self) {
        if self.inner.room_for_a_start {
            let dir = self.inner.dir.clone();
            // It has no failures.
            let _ = tokio::task::spawn_blocking(move || crate::ballast::refill(&dir)).await;
        }
    }

    /// The pack in which the last snapshot of the index begins: placement records before it are dead.
    async fn snapshot_pack(&self) -> Result<u32, Error> {
        let rows = db::fetch(&self.inner.db, "SELECT value FROM meta WHERE key = $1", vec![snapshot::KEY.into()]).await?;
        rows.first().map_or(Ok(0), |r| r.text(0).map(|t| t.parse().unwrap_or(0)))
    }

    /// Bytes of placement records in a pack. Reads all of it, so it is asked of packs that would be emptied only.
    async fn placements(&self, pack: u32) -> Result<u64, Error> {
        let reader = self.inner.reader.clone();
        let count = move || -> Result<u64, PackError> {
            let sizes = reader.scan(pack)?.map(|found| match found {
                Found::Record { location, header } if header.kind == Kind::Placement => u64::from(location.stored_bytes),
                _ => 0,
            });
            Ok(sizes.sum())
        };
        match tokio::task::spawn_blocking(count).await.map_err(|_| Error::Closed)? {
            Ok(bytes) => Ok(bytes),
            Err(error @ PackError::Io { .. }) => Err(Error::pack("read a pack", error)),
            // Nothing in it can be read.
            Err(_) => Ok(0),
        }
    }

    /// Copies what lives in a pack and removes it; false when something must stay.
    async fn empty(&self, pack: u32, done: &mut Compacted) -> Result<bool, Error> {
        let sql = "SELECT id, place, stored_bytes FROM body WHERE pack = $1 ORDER BY place";
        let mut rows = Vec::new();
        for row in db::fetch(&self.inner.db, sql, vec![pack.into()]).await? {
            rows.push((BodyId(row.int(0)?), Location { pack, offset: row.uint(1)?, stored_bytes: row.u32(2)? }));
        }
        let mut rows = rows.into_iter().peekable();
        let mut whole = true;
        while rows.peek().is_some() {
            let (mut piece, mut bytes) = (Vec::new(), 0);
            while piece.len() < COPY_RECORDS && bytes < COPY_BYTES {
                let Some(row) = rows.next() else { break };
                bytes += u64::from(row.1.stored_bytes);
                piece.push(row);
            }
            let reader = self.inner.reader.clone();
            let read = tokio::task::spawn_blocking(move || {
                piece.into_iter().map(|(id, place)| (id, place, reader.read_stored(place))).collect::<Vec<_>>()
            });
            let mut records = Vec::new();
            let mut moves = Vec::new();
            for (id, place, record) in read.await.map_err(|_| Error::Closed)? {
                match record {
                    Ok(record) => {
                        records.push(record);
                        moves.push((id, place));
                    }
                    Err(error @ PackError::Io { .. }) => return Err(Error::pack("read a message to copy it", error)),
                    Err(error) => {
                        tracing::error!(body = %id, %error, "a stored message is damaged and cannot be copied");
                        done.damaged += 1;
                        whole = false;
                    }
                }
            }
            let places = self.ask_packs(|answer| Intake::Copy(records, answer)).await??;
            done.copied += places.len() as u64;
            let moves = moves.into_iter().zip(places).map(|((id, old), new)| (id, old, new)).collect();
            self.ask_behind(|answer| Op::Alone(Alone::Relocate { moves, answer })).await?;
        }
        if !whole {
            return Ok(false);
        }
        self.ask_packs(|answer| Intake::Forget(pack, answer)).await?;
        if self.ask_behind(|answer| Op::Alone(Alone::CountPack { pack, answer })).await? > 0 {
            return Ok(false);
        }
        self.ask_packs(|answer| Intake::Retire(pack, answer)).await??;
        Ok(true)
    }
}
