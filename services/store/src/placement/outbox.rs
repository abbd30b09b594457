//! Between the index and the packs: logs that are committed and not yet in a pack.
//!
//! Contract: stage 2 pushes the log of a transaction when it is committed; stage 1 takes what waits and writes it with its
//! next batch. The table `placement` holds the same logs, so nothing here needs to be kept through a fault: what is too
//! much for memory or could not be written is read from the table again.

use super::{end, record};
use crate::Error;
use crate::db::{self, Tx, Value};
use crate::pack::record::{EncodedRecord, encode_placement};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use twinpost_sql::Database;

/// How long logs wait for mail to go with before they are written alone, in milliseconds.
pub(crate) const IDLE_MS: u64 = 200;
/// The longest pause between two attempts on a disk that refuses, in milliseconds.
const RETRY_MS: u64 = 30_000;
/// Bytes of logs kept in memory.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// Bytes of logs in one record, about.
const RECORD_BYTES: usize = 4 << 20;
/// Logs read from the table at once.
const READ_LOGS: i64 = 32;

/// How far the index is: what a snapshot begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The last transaction that was committed.
    pub committed: u64,
    /// Pack and place of the last record of arrivals that is decided with it.
    pub decided: (u32, u64),
}

#[derive(Debug, Default)]
struct Waiting {
    logs: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    /// Not all that wait are here: the table has them.
    spilled: bool,
}

/// Logs on their way into the packs.
#[derive(Debug)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    more: Notify,
    /// Behind the last commit.
    mark: Mutex<Mark>,
    /// The last one that is in the packs.
    written: AtomicU64,
    /// The packs say so, too, that this was the last one.
    ended: AtomicBool,
    pause_ms: AtomicU64,
}

/// Logs as one record.
pub(crate) struct Taken {
    pub record: EncodedRecord,
    /// The last transaction in it.
    pub upto: u64,
}

impl Outbox {
    /// Begins where the index says; what the last run could not write is written soon. `end` is the end of the packs: all
    /// arrivals before it are in the index, or nobody was told that they are.
    pub async fn load(db: &Database, end: (u32, u64)) -> Result<Self, Error> {
        let rows = db::fetch(db, "SELECT COALESCE(MAX(seq), 0) FROM placement", vec![]).await?;
        let last = rows.first().map_or(Ok(0), |r| r.uint(0))?;
        let rows = db::fetch(db, "SELECT MIN(seq) FROM placement WHERE length(log) > 0", vec![]).await?;
        let first = rows.first().map_or(Ok(None), |r| r.opt_int(0))?.map(i64::cast_unsigned);
        let outbox = Self {
            waiting: Mutex::new(Waiting { spilled: first.is_some(), ..Waiting::default() }),
            more: Notify::new(),
            mark: Mutex::new(Mark { committed: last, decided: end }),
            written: first.map_or(last, |n| n.saturating_sub(1)).into(),
            ended: first.is_none().into(),
            pause_ms: IDLE_MS.into(),
        };
        outbox.more.notify_one();
        Ok(outbox)
    }

    /// Number of the next transaction.
    pub fn next(&self) -> u64 {
        self.committed() + 1
    }
    pub fn committed(&self) -> u64 {
        self.mark.lock().committed
    }
    pub fn mark(&self) -> Mark {
        *self.mark.lock()
    }
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    /// The packs have the mark of an end, and nothing behind it. False: something will be written anyway.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst) && self.committed() > 0
    }
    /// The packs say that the store is open again: it has to be ended once more.
    pub fn reopened(&self) {
        self.ended.store(false, Ordering::SeqCst);
    }

    /// A commit failed, and nobody can say whether it happened (a connection that broke in the middle of it): the table says
    /// which number was the last.
    pub async fn look_again(&self, db: &Database) -> Result<(), Error> {
        let rows = db::fetch(db, "SELECT COALESCE(MAX(seq), 0) FROM placement", vec![]).await?;
        let last = rows.first().map_or(Ok(0), |r| r.uint(0))?;
        if last > self.committed() {
            self.mark.lock().committed = last;
            self.ended.store(false, Ordering::SeqCst);
            self.spill();
            self.more.notify_one();
        }
        Ok(())
    }

    /// Transaction `seq` is committed, and with it everything that arrived up to `decided`.
    pub fn push(&self, seq: u64, log: Vec<u8>, decided: Option<(u32, u64)>) {
        {
            let mut mark = self.mark.lock();
            mark.committed = seq;
            mark.decided = mark.decided.max(decided.unwrap_or_default());
        }
        self.ended.store(false, Ordering::SeqCst);
        let mut waiting = self.waiting.lock();
        if !waiting.spilled {
            waiting.bytes += log.len();
            waiting.logs.push_back((seq, log));
            if waiting.bytes > WAITING_BYTES_MAX {
                *waiting = Waiting { spilled: true, ..Waiting::default() };
            }
        }
        drop(waiting);
        self.more.notify_one();
    }

    fn is_empty(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.logs.is_empty() && !waiting.spilled
    }

    /// Comes back when logs have waited for mail long enough. Can be dropped at any point.
    pub async fn due(&self) {
        while self.is_empty() {
            self.more.notified().await;
        }
        tokio::time::sleep(Duration::from_millis(self.pause_ms.load(Ordering::Relaxed))).await;
    }

    /// What waits, as one record; none when nothing does. Then [`Outbox::done`] or [`Outbox::failed`] must follow.
    pub async fn take(&self, db: &Database) -> Result<Option<Taken>, Error> {
        let mut logs = Vec::new();
        let spilled = {
            let mut waiting = self.waiting.lock();
            let mut bytes = 0;
            while bytes < RECORD_BYTES
                && let Some((seq, log)) = waiting.logs.pop_front()
            {
                bytes += log.len();
                logs.push((seq, log));
            }
            waiting.bytes -= bytes;
            // What is pushed from now on stays here; what was pushed before is in the table.
            std::mem::take(&mut waiting.spilled)
        };
        if spilled {
            logs.clear();
            let sql = "SELECT seq, log FROM placement WHERE seq > $1 AND length(log) > 0 ORDER BY seq LIMIT $2";
            let args = vec![self.written().into(), Value::Int(READ_LOGS)];
            let rows = db::fetch(db, sql, args).await.inspect_err(|_| self.failed())?;
            for row in &rows {
                logs.push((row.uint(0)?, row.blob(1)?));
            }
            if rows.len() as i64 == READ_LOGS {
                self.spill();
            }
        }
        let Some(upto) = logs.last().map(|l| l.0) else { return Ok(None) };
        let logs: Vec<Vec<u8>> = logs.into_iter().map(|l| l.1).collect();
        Ok(Some(Taken { record: encode_placement(&record(None, &logs)), upto }))
    }

    fn spill(&self) {
        *self.waiting.lock() = Waiting { spilled: true, ..Waiting::default() };
    }

    /// Everything up to this transaction is durable in the packs.
    pub fn done(&self, upto: u64) {
        self.written.fetch_max(upto, Ordering::SeqCst);
        self.pause_ms.store(IDLE_MS, Ordering::Relaxed);
    }

    /// It could not be written: it is read from the table next time, and not at once.
    pub fn failed(&self) {
        self.spill();
        let pause = self.pause_ms.load(Ordering::Relaxed);
        self.pause_ms.store((pause * 2).min(RETRY_MS), Ordering::Relaxed);
    }

    /// Says in the packs that nothing is behind the last transaction; none when something still waits.
    pub fn end(&self) -> Option<EncodedRecord> {
        let all = self.is_empty() && self.written() == self.committed() && !self.ended.load(Ordering::SeqCst);
        all.then(|| encode_placement(&record(None, &[end(self.committed())])))
    }

    /// At the very end: the table keeps the number of the last transaction only, if the packs have everything.
    pub async fn clear(&self, writer: &db::Writer) -> Result<(), Error> {
        let mut tx = Tx::begin(writer).await?;
        tx.run("DELETE FROM placement WHERE seq < $1", vec![self.written().into()]).await?;
        tx.run("UPDATE placement SET log = $2 WHERE seq = $1", vec![self.written().into(), Value::Blob(Vec::new())]).await?;
        tx.commit().await
    }
}
