//! Stage 1 of the writer: bodies to the disk, one sync a batch. It has a thread of its own, and blocks it.
//!
//! Contract: a batch leaves for stage 2 only after its bodies are durable. A body that the index already has is not written
//! again; nor is one that an earlier batch wrote, even if its commit failed: the record is there, stage 2 makes the row.
//! Each batch says in the packs, in the same sync, for whom its bodies are ([`arrival`]).
//! At most one batch waits for stage 2: while it does, mail gathers here, so that both stages sync once for many messages and
//! not often for few. An idle writer never waits.
//! A body whose record is known to be damaged is written again, and stage 2 points its row to the new record.

use super::{BATCH_BYTES_MAX, BATCH_OPS_MAX, BATCH_WEIGHT_MAX, Intake, Op, Work};
use crate::Error;
use crate::db::{self, Reader, Value};
use crate::pack::{EncodedRecord, Location, PackSet};
use crate::placement::arrival;
use crate::placement::outbox::{Outbox, Taken};
use crate::types::Prepared;
use crate::writer::now_s;
use crate::writer::state::Recent;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use twinpost_message::BodyHash;
use twinpost_sql::Database;

pub(crate) struct Packer {
    /// First, so that it is let go before the queue is seen to be closed.
    pub _lock: Arc<crate::store::Lock>,
    /// For logs that are read from their table again.
    pub db: Database,
    /// For the very end, when stage 2 writes no more.
    pub writer: db::Writer,
    pub reader: Reader,
    pub packs: PackSet,
    pub intake: mpsc::Receiver<Intake>,
    pub work: mpsc::Sender<Work>,
    /// One permit: the place of the batch that waits for stage 2.
    pub turns: Arc<Semaphore>,
    pub outbox: Arc<Outbox>,
    pub known: Recent<BodyHash, Location>,
    pub damaged: Arc<Mutex<HashSet<BodyHash>>>,
}

impl Packer {
    pub async fn run(mut self) {
        let mut waiting: VecDeque<Intake> = VecDeque::new();
        let mut arrived = Vec::with_capacity(BATCH_OPS_MAX);
        let mut last = None;
        loop {
            if waiting.len() < BATCH_OPS_MAX {
                let room = BATCH_OPS_MAX - waiting.len();
                if waiting.is_empty() {
                    let n = tokio::select! {
                        biased;
                        n = self.intake.recv_many(&mut arrived, room) => n,
                        () = self.outbox.due() => {
                            self.flush().await;
                            continue;
                        }
                    };
                    if n == 0 {
                        break;
                    }
                } else {
                    while arrived.len() < room
                        && let Ok(item) = self.intake.try_recv()
                    {
                        arrived.push(item);
                    }
                }
                waiting.extend(arrived.drain(..));
            }
            let turn = match waiting.front() {
                Some(Intake::Op(_)) => {
                    let turn = self.turns.clone().acquire_owned().await.ok();
                    while waiting.len() < BATCH_OPS_MAX
                        && let Ok(item) = self.intake.try_recv()
                    {
                        waiting.push_back(item);
                    }
                    turn
                }
                _ => None,
            };
            let mut ops = Vec::new();
            let (mut weight, mut bytes) = (0, 0);
            while let Some(Intake::Op(op)) = waiting.front() {
                weight += op.weight();
                op.bodies(|b| bytes += b.inner.record.stored_bytes());
                if !ops.is_empty() && (weight > BATCH_WEIGHT_MAX || bytes > BATCH_BYTES_MAX) {
                    break;
                }
                if let Some(Intake::Op(op)) = waiting.pop_front() {
                    ops.push(op);
                }
            }
            if !ops.is_empty() {
                if self.batch(ops, turn).await.is_err() {
                    break;
                }
                continue;
            }
            match waiting.pop_front() {
                Some(Intake::Copy(records, answer)) => {
                    let places = self.append(&records.iter().collect::<Vec<_>>()).await;
                    drop(answer.send(places));
                }
                Some(Intake::Forget(pack, answer)) => {
                    self.known.retain(|_, place| place.pack != pack);
                    let _ = answer.send(());
                }
                Some(Intake::Retire(pack, answer)) => {
                    drop(answer.send(self.packs.retire(pack).map_err(|e| Error::pack("remove a pack", e))));
                }
                Some(Intake::Close(answer)) => {
                    let (done, ended) = oneshot::channel();
                    if self.work.send(Work::Close(done)).await.is_ok() {
                        // An error says that it had ended already.
                        let _ = ended.await;
                    }
                    self.end().await;
                    last = Some(answer);
                    break;
                }
                Some(Intake::Op(_)) | None => {}
            }
        }
        if let Err(error) = self.packs.close() {
            tracing::error!(%error, "the newest pack could not be closed");
        }
        if let Some(answer) = last {
            let _ = answer.send(());
        }
    }

    /// Err: stage 2 has stopped.
    async fn batch(&mut self, mut ops: Vec<Op>, turn: Option<OwnedSemaphorePermit>) -> Result<(), ()> {
        let mut needed: HashMap<BodyHash, Prepared> = HashMap::new();
        for op in &ops {
            op.bodies(|body| {
                needed.entry(body.hash()).or_insert_with(|| body.clone());
            });
        }
        let mut places = HashMap::with_capacity(needed.len());
        let mut fresh = HashMap::new();
        let mut arrived = None;
        let stored = self.look_up(&needed, &mut places).await;
        let outcome = match stored {
            Ok(damaged) => {
                let missing: Vec<&Prepared> = needed.values().filter(|b| !places.contains_key(&b.hash())).collect();
                let hashes: Vec<BodyHash> = missing.iter().map(|b| b.hash()).collect();
                let records: Vec<_> = missing.iter().map(|b| &b.inner.record).collect();
                let arrivals = arrival::encode(&ops, now_s());
                let count = records.len();
                let bytes = records.iter().map(|record| record.stored_bytes() as u64).sum();
                let list: Vec<_> = records.into_iter().chain(&arrivals).collect();
                // Only new mail is measured: what is moved, deleted or compacted makes room.
                let room =
                    if count == 0 { Ok(()) } else { self.packs.room_for(bytes).map_err(|e| Error::pack("take new mail", e)) };
                let appended = match room {
                    Ok(()) => self.append(&list).await,
                    Err(full) => Err(full),
                };
                appended.map(|mut locations| {
                    arrived = locations.get(count).map(|place| (place.pack, place.offset));
                    locations.truncate(count);
                    for (hash, location) in hashes.into_iter().zip(locations) {
                        self.known.insert(hash, location);
                        places.insert(hash, location);
                        fresh.insert(hash, damaged.contains(&hash));
                    }
                })
            }
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, operations = ops.len(), "a batch of messages could not be stored");
            // What needs no new record goes on.
            let (good, bad): (Vec<Op>, Vec<Op>) = ops.into_iter().partition(|op| {
                let mut placed = true;
                op.bodies(|b| placed &= places.contains_key(&b.hash()));
                placed
            });
            bad.into_iter().for_each(|op| op.fail(error.clone()));
            ops = good;
        }
        self.known.age();
        if ops.is_empty() {
            return Ok(());
        }
        self.work.send(Work::Packed { ops, places: Arc::new(places), fresh, arrived, turn }).await.map_err(|_| ())
    }

    /// Where the bodies are that are stored already; answers those whose records are damaged and must be written again.
    async fn look_up(
        &mut self,
        needed: &HashMap<BodyHash, Prepared>,
        places: &mut HashMap<BodyHash, Location>,
    ) -> Result<HashSet<BodyHash>, Error> {
        let mut unknown: Vec<Value> = Vec::new();
        let damaged: HashSet<BodyHash> = {
            let mut damaged = self.damaged.lock();
            let here: HashSet<BodyHash> = damaged.iter().filter(|h| needed.contains_key(*h)).copied().collect();
            damaged.retain(|h| !here.contains(h));
            here
        };
        for hash in needed.keys().filter(|h| !damaged.contains(*h)) {
            match self.known.get(hash) {
                Some(place) => drop(places.insert(*hash, *place)),
                None => unknown.push(hash.0.to_vec().into()),
            }
        }
        if unknown.is_empty() {
            return Ok(damaged);
        }
        let head = "SELECT hash, pack, place, stored_bytes FROM body WHERE hash";
        for row in self.reader.fetch_keys(head, &unknown).await? {
            let hash = hash_of(&row.blob(0)?)?;
            let place = Location { pack: row.u32(1)?, offset: row.uint(2)?, stored_bytes: row.u32(3)? };
            self.known.insert(hash, place);
            places.insert(hash, place);
        }
        Ok(damaged)
    }

    /// Writes records and makes them durable, and with them the logs that wait.
    async fn append(&mut self, records: &[&EncodedRecord]) -> Result<Vec<Location>, Error> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        // Logs that cannot be read now stay in their table; mail does not wait for them.
        let taken = self.outbox.take(&self.db).await.unwrap_or_default();
        self.write(records, taken.as_ref())
    }

    /// Appends these records, and logs behind them, with one sync.
    fn write(&mut self, records: &[&EncodedRecord], taken: Option<&Taken>) -> Result<Vec<Location>, Error> {
        let list: Vec<_> = records.iter().copied().chain(taken.map(|t| &t.record)).collect();
        let written = self.packs.append(&list).and_then(|places| self.packs.sync().map(|()| places));
        match (taken, &written) {
            (Some(taken), Ok(_)) => self.outbox.done(taken.upto),
            (Some(_), Err(_)) => self.outbox.failed(),
            (None, _) => {}
        }
        let mut places = written.map_err(|e| Error::pack("append messages to a pack", e))?;
        places.truncate(records.len());
        Ok(places)
    }

    /// Writes the logs that wait without mail to go with.
    async fn flush(&mut self) {
        while let Some(taken) = self.outbox.take(&self.db).await.unwrap_or_default() {
            if let Err(error) = self.write(&[], Some(&taken)) {
                tracing::warn!(%error, "what rebuild would need could not be written yet");
                break;
            }
        }
    }

    /// Behind the last transaction of all.
    async fn end(&mut self) {
        self.flush().await;
        let Some(end) = self.outbox.end() else { return };
        let written = self.write(&[&end], None).map(drop);
        if let Err(error) = match written {
            Ok(()) => self.outbox.clear(&self.writer).await,
            error => error,
        } {
            tracing::warn!(%error, "the end of the placement records could not be noted");
        }
    }
}

/// A hash from its column.
pub(crate) fn hash_of(bytes: &[u8]) -> Result<BodyHash, Error> {
    let hash = bytes.try_into().map_err(|_| Error::index("a body row with a hash that is not 32 bytes".to_owned()))?;
    Ok(BodyHash(hash))
}
