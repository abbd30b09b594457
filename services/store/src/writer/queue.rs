//! Changes of the outbound queue.

use super::batch::Batch;
use super::committer::Committer;
use crate::Error;
use crate::db::{Shape, Value};
use crate::placement::Fact;
use crate::spool::{RcptState, SpoolAction, SpoolUpdate};
use crate::types::{Delivered, Delivery, Outcome};
use twinpost_message::{BodyId, QueueId};

/// Reply code of a recipient that waits although it has its mail. No failed try leaves it.
const HERE: i64 = 250;
/// Bytes of a remote reply that are kept.
const REPLY_BYTES_MAX: usize = 1000;

const UPDATE: Shape = Shape {
    head: "UPDATE spool_rcpt SET state = v.column3, next_try_s = v.column4, \
           attempts = attempts + CASE WHEN v.column5 IS NULL THEN 0 ELSE 1 END, last_try_s = COALESCE(v.column5, last_try_s), \
           reply_code = v.column6, reply_text = v.column7, delay_told = CASE WHEN v.column8 = 1 THEN 1 ELSE delay_told END \
           FROM (VALUES ",
    row: "(CAST(? AS BIGINT),CAST(? AS BIGINT),CAST(? AS BIGINT),CAST(? AS BIGINT),CAST(? AS BIGINT),CAST(? AS BIGINT),\
          CAST(? AS TEXT),CAST(? AS BIGINT))",
    tail: ") AS v WHERE spool_rcpt.spool = v.column1 AND spool_rcpt.n = v.column2",
};

impl Committer {
    async fn entry_body(batch: &mut Batch, id: QueueId) -> Result<BodyId, Error> {
        let rows = batch.tx().await?.fetch("SELECT body FROM spool WHERE id = $1", vec![id.0.into()]).await?;
        rows.first().ok_or(Error::NoQueueEntry(id))?.int(0).map(BodyId)
    }

    async fn drop_entry(batch: &mut Batch, id: QueueId, body: BodyId) -> Result<(), Error> {
        let tx = batch.tx().await?;
        tx.run("DELETE FROM spool_rcpt WHERE spool = $1", vec![id.0.into()]).await?;
        tx.run("DELETE FROM spool WHERE id = $1", vec![id.0.into()]).await?;
        batch.facts.fact(Fact::SpoolGone(id.0));
        batch.refer(body, -1);
        Ok(())
    }

    pub(super) async fn spool_update(&mut self, batch: &mut Batch, update: SpoolUpdate) -> Result<Vec<Delivered>, Error> {
        // An entry that an operator dropped meanwhile makes no reports: nothing of the update happens.
        let body = match Self::entry_body(batch, update.id).await {
            Ok(body) => body,
            Err(error) => {
                batch.unclaim.push(update.id);
                return Err(error);
            }
        };
        let rows = update.rcpts.iter().map(|r| {
            let mut text = r.reply.text.clone();
            text.truncate(text.floor_char_boundary(REPLY_BYTES_MAX));
            vec![
                update.id.0.into(),
                r.n.into(),
                r.state.number().into(),
                r.next_try_s.into(),
                r.tried_s.into(),
                Value::Int(i64::from(r.reply.code)),
                text.replace('\0', "").into(),
                r.delay_told.into(),
            ]
        });
        let rows: Vec<_> = rows.collect();
        for row in &rows {
            batch.facts.fact(Fact::Tried(row.clone()));
        }
        let tx = batch.tx().await?;
        tx.many(UPDATE, rows).await?;
        let sql = "SELECT COUNT(*) FROM spool_rcpt WHERE spool = $1 AND state = $2";
        let left = tx.fetch(sql, vec![update.id.0.into(), RcptState::Waiting.number().into()]).await?;
        if left.first().map_or(Ok(0), |r| r.int(0))? == 0 {
            Self::drop_entry(batch, update.id, body).await?;
        }
        batch.unclaim.push(update.id);
        batch.spooled = true;
        let mut delivered = Vec::with_capacity(update.deliver.len());
        for delivery in update.deliver {
            delivered.push(self.deliver(batch, delivery).await?);
        }
        Ok(delivered)
    }

    /// Delivers for one recipient and notes it in its row, which waits on: what becomes of the entry, and what its sender is
    /// told, is settled by the update that follows. A stop in between finds the note, and delivers nothing a second time.
    pub(super) async fn spool_deliver(
        &mut self,
        batch: &mut Batch,
        id: QueueId,
        n: u32,
        delivery: Delivery,
    ) -> Result<Option<Delivered>, Error> {
        let sql = "SELECT reply_code, next_try_s FROM spool_rcpt WHERE spool = $1 AND n = $2 AND state = $3";
        let key = vec![id.0.into(), n.into(), RcptState::Waiting.number().into()];
        let rows = batch.tx().await?.fetch(sql, key).await?;
        let row = rows.first().ok_or(Error::NoQueueEntry(id))?;
        if row.int(0)? == HERE {
            return Ok(None);
        }
        let next_try_s = row.int(1)?;
        let done = self.deliver(batch, delivery).await?;
        let stored = done.queue.is_some() || done.outcomes.iter().any(|o| !matches!(o, Outcome::OverQuota(_)));
        if stored {
            let mut note: Vec<Value> = vec![id.0.into(), n.into(), RcptState::Waiting.number().into(), next_try_s.into()];
            note.extend([Value::NoInt, Value::Int(HERE), "2.1.5 delivered here".into(), false.into()]);
            batch.facts.fact(Fact::Tried(note.clone()));
            batch.tx().await?.many(UPDATE, vec![note]).await?;
        }
        Ok(Some(done))
    }

    pub(super) async fn spool_action(&mut self, batch: &mut Batch, id: QueueId, action: SpoolAction) -> Result<(), Error> {
        let body = Self::entry_body(batch, id).await?;
        match action {
            SpoolAction::Hold => batch.facts.fact(Fact::Held { id: id.0, held: true }),
            SpoolAction::Release => batch.facts.fact(Fact::Held { id: id.0, held: false }),
            SpoolAction::Retry(at_s) => batch.facts.fact(Fact::Retry { id: id.0, at_s }),
            // As in `drop_entry`.
            SpoolAction::Drop => {}
        }
        let tx = batch.tx().await?;
        match action {
            SpoolAction::Hold => drop(tx.run("UPDATE spool SET held = 1 WHERE id = $1", vec![id.0.into()]).await?),
            SpoolAction::Release => drop(tx.run("UPDATE spool SET held = 0 WHERE id = $1", vec![id.0.into()]).await?),
            SpoolAction::Retry(at_s) => {
                tx.run("UPDATE spool SET held = 0 WHERE id = $1", vec![id.0.into()]).await?;
                let sql = "UPDATE spool_rcpt SET next_try_s = $2 WHERE spool = $1 AND state = 0";
                tx.run(sql, vec![id.0.into(), at_s.into()]).await?;
            }
            SpoolAction::Drop => Self::drop_entry(batch, id, body).await?,
        }
        batch.spooled = true;
        Ok(())
    }
}
