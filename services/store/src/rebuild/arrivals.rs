//! Mail whose transaction is in no pack, into the mailboxes and the queue that it was for.
//!
//! Contract: each body that a record of arrivals names and that was stored whole gets a place: the mailbox that was asked for,
//! else the INBOX of the account, which is made when it is missing. UIDs are well above those that may have been told for the
//! same message before the loss.

use super::bodies::Unplaced;
use super::finish::{UIDS_FREE, mailbox, put};
use super::{RebuildReport, blocking, last_number};
use crate::db::{self, Tx, Value};
use crate::pack::{Location, PackReader};
use crate::placement::arrival::Arrival;
use crate::placement::{self, Fact, Piece};
use crate::types::ChangeKind;
use crate::writer::batch::{SPOOL, SPOOL_RCPT};
use crate::writer::now_s;
use crate::{Error, INBOX};
use std::collections::{HashMap, HashSet};
use twinpost_message::BodyHash;
use twinpost_sql::Database;

/// What these records say.
pub(super) async fn read(reader: &PackReader, records: &[Location], report: &mut RebuildReport) -> Result<Vec<Arrival>, Error> {
    let mut all = Vec::new();
    for location in records {
        let (reader, location) = (reader.clone(), *location);
        let bytes = blocking(move || reader.read(location)).await?.map_err(|e| Error::pack("read a record of arrivals", e))?;
        for log in placement::decode(&bytes).map_err(Error::Index)?.logs {
            for piece in log.pieces() {
                match piece {
                    Ok(Piece::Fact(Fact::Arrival(arrival))) => all.push(*arrival),
                    Ok(_) => {}
                    Err(why) => report.fault(format!("A record of arrivals cannot be understood: {why}.")),
                }
            }
        }
    }
    Ok(all)
}

struct Places {
    /// The next number of the change log.
    next: u64,
    uids: HashMap<i64, u32>,
    now_s: i64,
}

impl Places {
    fn number(&mut self) -> i64 {
        self.next += 1;
        self.next.cast_signed()
    }

    /// The mailbox of this name, the INBOX, or a new INBOX.
    async fn find(&mut self, tx: &mut Tx, account: i64, name: &str) -> Result<i64, Error> {
        for name in [name, INBOX].into_iter().filter(|n| !n.is_empty()) {
            let sql = "SELECT id FROM mailbox WHERE account = $1 AND name = $2";
            if let Some(row) = tx.fetch(sql, vec![account.into(), name.into()]).await?.first() {
                return row.int(0);
            }
        }
        let (id, modseq) = (self.number(), self.number());
        mailbox(tx, id, modseq, account, INBOX, self.now_s).await?;
        Ok(id)
    }

    async fn uid(&mut self, tx: &mut Tx, mailbox: i64) -> Result<u32, Error> {
        if let Some(uid) = self.uids.get_mut(&mailbox) {
            *uid = uid.saturating_add(1);
            return Ok(*uid);
        }
        let sql = "SELECT uid_next, (SELECT COALESCE(MAX(uid), 0) FROM change WHERE mailbox = $1) FROM mailbox WHERE id = $1";
        let rows = tx.fetch(sql, vec![mailbox.into()]).await?;
        let first = rows.first().map_or(Ok(1), |r| Ok::<_, Error>(r.u32(0)?.max(r.u32(1)?.saturating_add(1))))?;
        let uid = first.saturating_add(UIDS_FREE);
        self.uids.insert(mailbox, uid);
        Ok(uid)
    }
}

/// Places them; bodies that found a place are unplaced no more.
pub(super) async fn run(
    db: &Database,
    writer: &db::Writer,
    arrivals: Vec<Arrival>,
    unplaced: &mut Vec<Unplaced>,
    report: &mut RebuildReport,
) -> Result<(), Error> {
    let hashes: HashSet<BodyHash> = arrivals.iter().map(|a| a.hash).collect();
    let list: Vec<Value> = hashes.iter().map(|h| h.0.to_vec().into()).collect();
    let mut bodies = HashMap::new();
    for row in db::fetch_in(db, "SELECT id, hash FROM body WHERE hash", &[], &list, "").await? {
        bodies.insert(crate::writer::hash_of(&row.blob(1)?)?, row.int(0)?);
    }
    let mut places = Places { next: last_number(db).await?, uids: HashMap::new(), now_s: now_s() };
    let mut named = HashSet::new();
    let mut tx = Tx::begin(writer).await?;
    for arrival in arrivals {
        // Without a whole record its batch was not synced: nobody was told that it was stored.
        let Some(body) = bodies.get(&arrival.hash).copied() else { continue };
        named.insert(body);
        let mut into = Vec::new();
        for (account, domain, name, flags) in &arrival.targets {
            let sql = "INSERT INTO account (id, domain, size_bytes, messages, furnished) VALUES ($1, $2, 0, 0, 0) ON CONFLICT (id) DO NOTHING";
            tx.run(sql, vec![(*account).into(), (*domain).into()]).await?;
            into.push((*account, places.find(&mut tx, *account, name).await?, *flags));
        }
        if let Some((id, flags)) = arrival.mailbox {
            // A mailbox that no record tells of was made, or deleted, in that moment: its owner is not known here.
            match tx.fetch("SELECT account FROM mailbox WHERE id = $1", vec![id.into()]).await?.first() {
                Some(row) => into.push((row.int(0)?, id, flags)),
                None => drop(named.remove(&body)),
            }
        }
        for (account, mailbox, flags) in into {
            let (uid, modseq) = (places.uid(&mut tx, mailbox).await?, places.number());
            let row = [
                mailbox,
                uid.into(),
                body,
                flags.cast_signed(),
                modseq,
                arrival.received_s,
                places.now_s,
                arrival.size_bytes.into(),
            ];
            let kind = ChangeKind::Added.number();
            put(&mut tx, vec![row], vec![[modseq, account, mailbox, kind, uid.into(), body, places.now_s]]).await?;
            report.last_moment += 1;
        }
        if let Some((mut entry, mut rcpts)) = arrival.queue {
            let id = places.number();
            if let [entry_id, entry_body, ..] = entry.as_mut_slice() {
                (*entry_id, *entry_body) = (id.into(), body.into());
            }
            for rcpt in &mut rcpts {
                if let Some(spool) = rcpt.first_mut() {
                    *spool = id.into();
                }
            }
            tx.many(SPOOL, vec![entry]).await?;
            tx.many(SPOOL_RCPT, rcpts).await?;
            report.last_moment += 1;
        }
    }
    tx.commit().await?;
    unplaced.retain(|u| !named.contains(&u.body));
    Ok(())
}
