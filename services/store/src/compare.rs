//! What a comparison of two stores asks, in bulk: messages with the hashes that name them in every store.

use crate::db::{self, Row, Value};
use crate::types::MailboxInfo;
use crate::{Error, Store};
use std::collections::HashMap;
use twinpost_message::{AccountId, BodyHash, BodyId, DomainId, Flags, MailboxId, ModSeq, Uid};

/// A message in a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Position of the change that is asked about.
    pub at: ModSeq,
    /// Its mailbox.
    pub mailbox: MailboxId,
    /// Its UID.
    pub uid: Uid,
    /// Its body.
    pub body: BodyId,
    /// Identity of its plain bytes.
    pub hash: BodyHash,
    /// Its flags, keywords by the numbers of its mailbox.
    pub flags: Flags,
    /// Its last change.
    pub modseq: ModSeq,
    /// INTERNALDATE, seconds since 1970 UTC.
    pub received_s: i64,
    /// When it came into the mailbox.
    pub saved_s: i64,
    /// Size in bytes.
    pub size_bytes: u32,
}

/// Which messages behind a position of the change log are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThereNow {
    /// Those that came behind it and are there.
    Added,
    /// Those whose last change is one of their flags, behind it.
    Flagged,
}

macro_rules! placed {
    ($from:literal) => {
        concat!(
            "SELECT c.modseq, m.mailbox, m.uid, m.body, b.hash, m.flags, m.modseq, m.received_s, m.saved_s, m.size_bytes ",
            $from
        )
    };
}
const ADDED: &str = placed!(
    "FROM change AS c JOIN message AS m ON m.mailbox = c.mailbox AND m.uid = c.uid JOIN body AS b ON b.id = m.body \
     WHERE c.kind = 1 AND c.modseq > $1 ORDER BY c.modseq LIMIT $2"
);
const FLAGGED: &str = placed!(
    "FROM change AS c JOIN message AS m ON m.mailbox = c.mailbox AND m.uid = c.uid AND m.modseq = c.modseq \
     JOIN body AS b ON b.id = m.body WHERE c.kind = 2 AND c.modseq > $1 ORDER BY c.modseq LIMIT $2"
);
const AT: &str = placed!(
    "FROM message AS m JOIN body AS b ON b.id = m.body CROSS JOIN (SELECT CAST(0 AS BIGINT) AS modseq) AS c WHERE m.mailbox = $1 AND m.uid"
);

fn placed(r: &Row) -> Result<Placed, Error> {
    Ok(Placed {
        at: ModSeq(r.uint(0)?),
        mailbox: MailboxId(r.int(1)?),
        uid: Uid(r.u32(2)?),
        body: BodyId(r.int(3)?),
        hash: crate::writer::hash_of(&r.blob(4)?)?,
        flags: Flags(r.uint(5)?),
        modseq: ModSeq(r.uint(6)?),
        received_s: r.int(7)?,
        saved_s: r.int(8)?,
        size_bytes: r.u32(9)?,
    })
}

impl Store {
    /// Messages behind a position of the change log, in the order of [`Placed::at`], at most `most`. In an index that was made again one
    /// may come twice.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn there_now(&self, which: ThereNow, since: ModSeq, most: usize) -> Result<Vec<Placed>, Error> {
        let sql = if which == ThereNow::Added { ADDED } else { FLAGGED };
        let args = vec![since.0.into(), i64::try_from(most).unwrap_or(i64::MAX).into()];
        db::fetch(&self.inner.db, sql, args).await?.iter().map(placed).collect()
    }

    /// The messages that have these UIDs in a mailbox.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn messages(&self, mailbox: MailboxId, uids: &[Uid]) -> Result<Vec<Placed>, Error> {
        let list: Vec<Value> = uids.iter().map(|u| u.0.into()).collect();
        let rows = db::fetch_in(&self.inner.db, AT, &[mailbox.0.into()], &list, "").await?;
        let mut found = rows.iter().map(placed).collect::<Result<Vec<_>, _>>()?;
        found.sort_by_key(|p| p.uid);
        // A list is padded with its last value.
        found.dedup_by_key(|p| p.uid);
        Ok(found)
    }

    /// The bodies of these names, as far as they are there.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn bodies_named(&self, hashes: &[BodyHash]) -> Result<HashMap<BodyHash, BodyId>, Error> {
        let list: Vec<Value> = hashes.iter().map(|h| h.0.to_vec().into()).collect();
        let rows = db::fetch_in(&self.inner.db, "SELECT hash, id FROM body WHERE hash", &[], &list, "").await?;
        rows.iter().map(|r| Ok((crate::writer::hash_of(&r.blob(0)?)?, BodyId(r.int(1)?)))).collect()
    }

    /// All mailboxes of all accounts whose number is above `after`, by number, at most `most`.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn every_mailbox(&self, after: MailboxId, most: usize) -> Result<Vec<MailboxInfo>, Error> {
        let args = vec![after.0.into(), i64::try_from(most).unwrap_or(i64::MAX).into()];
        let sql = format!("{}id > $1 ORDER BY id LIMIT $2", crate::reads::LISTED);
        db::fetch(&self.inner.db, sql, args).await?.iter().map(|row| self.listed(row)).collect()
    }

    /// Accounts that the store knows, with their domains.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn accounts(&self) -> Result<Vec<(AccountId, DomainId)>, Error> {
        let rows = db::fetch(&self.inner.db, "SELECT id, domain FROM account ORDER BY id", vec![]).await?;
        rows.iter().map(|r| Ok((AccountId(r.int(0)?), DomainId(r.int(1)?)))).collect()
    }

    /// Names of the keywords of a mailbox, by number.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn keywords(&self, mailbox: MailboxId) -> Result<Vec<String>, Error> {
        let sql = "SELECT name FROM keyword WHERE mailbox = $1 ORDER BY place";
        db::fetch(&self.inner.db, sql, vec![mailbox.0.into()]).await?.iter().map(|r| r.text(0)).collect()
    }
}
