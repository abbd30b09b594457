//! What readers ask: mailbox lists, bodies, parsed messages, the change log. None of it waits for the writer.

use crate::db::{self, Row, Value};
use crate::pack::{Location, PackError};
use crate::types::{Annotation, Change, ChangeKind, Deleted, MailboxInfo, Usage};
use crate::writer::state::Mailbox;
use crate::{Error, Limits, OverQuota, Store};
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use twinpost_message::{AccountId, BodyHash, BodyId, DomainId, MailboxId, ModSeq, Parsed, Uid};

/// A mailbox as `writer::state::MAILBOX` has it, and whether its account subscribed to it.
pub(crate) const LISTED: &str = "SELECT id, account, name, uid_validity, uid_next, highest_modseq, messages, unseen, deleted, size_bytes, \
                      special_use, created_s, (SELECT COUNT(*) FROM subscription AS s WHERE s.account = mailbox.account \
                      AND s.name = mailbox.name) FROM mailbox WHERE ";

/// Version of the blob in `body.parsed`: its first byte.
pub(crate) const PARSED_VERSION: u8 = 1;

/// Weighs a parsed message by about its memory.
#[derive(Clone, Debug)]
pub(crate) struct ParsedWeight;

impl quick_cache::Weighter<BodyId, Arc<Parsed>> for ParsedWeight {
    fn weight(&self, _: &BodyId, parsed: &Arc<Parsed>) -> u64 {
        let text = parsed.preview.len() + parsed.references.iter().map(String::len).sum::<usize>();
        (1024 + 2 * text) as u64
    }
}

/// Weighs a body by its bytes.
#[derive(Clone, Debug)]
pub(crate) struct BytesWeight;

impl quick_cache::Weighter<BodyId, Bytes> for BytesWeight {
    fn weight(&self, _: &BodyId, body: &Bytes) -> u64 {
        body.len() as u64 + 64
    }
}

/// What the index keeps of a parsed message.
pub(crate) fn parsed_blob(parsed: &Parsed) -> Vec<u8> {
    let mut blob = vec![PARSED_VERSION];
    match postcard::to_stdvec(parsed) {
        Ok(mut bytes) => blob.append(&mut bytes),
        // Plain data cannot fail to serialise; if it ever does, the reader parses the body again.
        Err(_) => blob.clear(),
    }
    blob
}

fn parsed_of(blob: &[u8]) -> Option<Parsed> {
    let (version, rest) = blob.split_first()?;
    (*version == PARSED_VERSION).then(|| postcard::from_bytes(rest).ok()).flatten()
}

fn info(m: Mailbox, subscribed: bool) -> MailboxInfo {
    let count = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    MailboxInfo {
        id: m.id,
        account: m.account,
        name: m.name,
        uid_validity: m.uid_validity,
        uid_next: m.uid_next,
        highest_modseq: m.highest_modseq,
        messages: count(m.messages),
        unseen: count(m.unseen),
        deleted: count(m.deleted),
        size_bytes: m.size_bytes,
        special_use: m.special_use,
        subscribed,
        created_s: m.created_s,
    }
}

fn change(row: &Row) -> Result<Change, Error> {
    let number = row.int(3)?;
    Ok(Change {
        modseq: ModSeq(row.uint(0)?),
        account: AccountId(row.int(1)?),
        mailbox: MailboxId(row.int(2)?),
        kind: ChangeKind::of(number).ok_or_else(|| Error::Index(format!("a change of unknown kind {number}")))?,
        uid: Uid(row.u32(4)?),
        body: BodyId(row.int(5)?),
        at_s: row.int(6)?,
    })
}

impl Store {
    /// All mailboxes of an account, by name. See [`Store::open_account`] for new accounts.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn mailboxes(&self, account: AccountId) -> Result<Vec<MailboxInfo>, Error> {
        let rows = db::fetch(&self.inner.db, format!("{LISTED}account = $1"), vec![account.0.into()]).await?;
        let mut list = rows.iter().map(|row| self.listed(row)).collect::<Result<Vec<_>, _>>()?;
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    /// One mailbox.
    ///
    /// # Errors
    /// [`Error::NoMailbox`]; faults of the index.
    pub async fn mailbox(&self, id: MailboxId) -> Result<MailboxInfo, Error> {
        let rows = db::fetch(&self.inner.db, format!("{LISTED}id = $1"), vec![id.0.into()]).await?;
        self.listed(rows.first().ok_or(Error::NoMailbox(id))?)
    }

    /// The mailbox of this name; INBOX in any case of letters.
    ///
    /// # Errors
    /// [`Error::NoMailboxName`]; faults of the index.
    pub async fn mailbox_named(&self, account: AccountId, name: &str) -> Result<MailboxInfo, Error> {
        let name = crate::names::normal(name);
        let args = vec![account.0.into(), name.as_str().into()];
        let rows = db::fetch(&self.inner.db, format!("{LISTED}account = $1 AND name = $2"), args).await?;
        let Some(row) = rows.first() else { return Err(Error::NoMailboxName(name)) };
        self.listed(row)
    }

    /// A row of [`LISTED`].
    pub(crate) fn listed(&self, row: &Row) -> Result<MailboxInfo, Error> {
        let info = info(Mailbox::read(row)?, row.int(12)? != 0);
        self.inner.published.owners.insert(info.id, info.account);
        Ok(info)
    }

    /// Whose mailbox it is. A mailbox never changes hands and its number is never given again, so one that went may still be known.
    ///
    /// # Errors
    /// [`Error::NoMailbox`]; faults of the index.
    pub async fn owner(&self, id: MailboxId) -> Result<AccountId, Error> {
        match self.inner.published.owners.get(&id) {
            Some(account) => Ok(account),
            None => Ok(self.mailbox(id).await?.account),
        }
    }

    /// Names that the account subscribed to, in order; some may have no mailbox.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn subscriptions(&self, account: AccountId) -> Result<Vec<String>, Error> {
        let sql = "SELECT name FROM subscription WHERE account = $1 ORDER BY name";
        db::fetch(&self.inner.db, sql, vec![account.0.into()]).await?.iter().map(|r| r.text(0)).collect()
    }

    /// UIDs that went from a mailbox after this position, in order (RFC 7162 3.2.6 VANISHED).
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn vanished(&self, mailbox: MailboxId, since: ModSeq) -> Result<Vec<Uid>, Error> {
        let sql = "SELECT uid FROM change WHERE mailbox = $1 AND modseq > $2 AND kind = 3 ORDER BY uid";
        let rows = db::fetch(&self.inner.db, sql, vec![mailbox.0.into(), since.0.into()]).await?;
        rows.iter().map(|r| r.u32(0).map(Uid)).collect()
    }

    /// Rows of the change log behind a position, in order, at most `most`.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn changes(&self, since: ModSeq, most: usize) -> Result<Vec<Change>, Error> {
        let sql = "SELECT modseq, account, mailbox, kind, uid, body, at_s FROM change WHERE modseq > $1 ORDER BY modseq LIMIT $2";
        let args = vec![since.0.into(), i64::try_from(most).unwrap_or(i64::MAX).into()];
        db::fetch(&self.inner.db, sql, args).await?.iter().map(change).collect()
    }

    /// Which of these bodies are held by a mailbox, the queue, or deleted mail that can come back.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn held(&self, ids: &[BodyId]) -> Result<HashSet<BodyId>, Error> {
        let list: Vec<Value> = ids.iter().map(|id| Value::Int(id.0)).collect();
        let rows = db::fetch_in(&self.inner.db, "SELECT id FROM body WHERE refs > 0 AND id", &[], &list, "").await?;
        rows.iter().map(|r| r.int(0).map(BodyId)).collect()
    }

    /// Parsed messages in the order of the ids.
    ///
    /// # Errors
    /// [`Error::NoBody`] names the first that is not there; [`Error::Damaged`]; faults of the index.
    pub async fn parsed(&self, ids: &[BodyId]) -> Result<Vec<Arc<Parsed>>, Error> {
        let cache = &self.inner.published.parsed;
        let mut found: HashMap<BodyId, Arc<Parsed>> = HashMap::with_capacity(ids.len());
        let mut missing = Vec::new();
        for id in ids {
            if !found.contains_key(id) {
                match cache.get(id) {
                    Some(parsed) => drop(found.insert(*id, parsed)),
                    None => missing.push(Value::Int(id.0)),
                }
            }
        }
        if !missing.is_empty() {
            for row in db::fetch_in(&self.inner.db, "SELECT id, parsed FROM body WHERE id", &[], &missing, "").await? {
                let id = BodyId(row.int(0)?);
                let parsed = match parsed_of(&row.blob(1)?) {
                    Some(parsed) => parsed,
                    // Written by another version: the body itself says it.
                    None => Parsed::parse(&self.body(id).await?),
                };
                let parsed = Arc::new(parsed);
                cache.insert(id, parsed.clone());
                found.insert(id, parsed);
            }
        }
        ids.iter().map(|id| found.get(id).cloned().ok_or(Error::NoBody(*id))).collect()
    }

    /// The plain bytes of a message.
    ///
    /// # Errors
    /// [`Error::NoBody`]; [`Error::Damaged`] when its record is missing or does not match; faults of the index.
    pub async fn body(&self, id: BodyId) -> Result<Bytes, Error> {
        if let Some(bytes) = self.inner.bodies.get(&id) {
            return Ok(bytes);
        }
        let mut last = None;
        // Compaction can move a record between the look-up and the read: then the row says where to.
        for _ in 0..3 {
            let place = self.place(id).await?;
            if last.as_ref().is_some_and(|(old, _)| *old == place) {
                break;
            }
            let reader = self.inner.reader.clone();
            let read = tokio::task::spawn_blocking(move || reader.read(place)).await.map_err(|_| Error::Closed)?;
            match read {
                Ok(bytes) => {
                    self.inner.bodies.insert(id, bytes.clone());
                    return Ok(bytes);
                }
                Err(error) => last = Some((place, error)),
            }
            self.inner.published.places.remove(&id);
        }
        let Some((_, error)) = last else { return Err(Error::NoBody(id)) };
        if matches!(error, PackError::Io { .. }) {
            return Err(Error::pack("read a message", error));
        }
        tracing::error!(body = %id, %error, "a stored message is damaged");
        let rows = db::fetch(&self.inner.db, "SELECT hash FROM body WHERE id = $1", vec![id.0.into()]).await?;
        if let Some(row) = rows.first() {
            // The same message, coming again, is then written again and heals this one.
            self.inner.damaged.lock().insert(crate::writer::hash_of(&row.blob(0)?)?);
        }
        Err(Error::Damaged { body: id, why: error.to_string() })
    }

    /// Looks up where these bodies are, in few statements: for a caller that will read them all, one by one.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn warm(&self, ids: &[BodyId]) -> Result<(), Error> {
        let cache = &self.inner.published.places;
        let list: Vec<Value> = ids.iter().filter(|id| cache.get(*id).is_none()).map(|id| Value::Int(id.0)).collect();
        if !list.is_empty() {
            let head = "SELECT id, pack, place, stored_bytes FROM body WHERE id";
            for row in db::fetch_in(&self.inner.db, head, &[], &list, "").await? {
                let place = Location { pack: row.u32(1)?, offset: row.uint(2)?, stored_bytes: row.u32(3)? };
                cache.insert(BodyId(row.int(0)?), place);
            }
        }
        Ok(())
    }

    async fn place(&self, id: BodyId) -> Result<Location, Error> {
        if let Some(place) = self.inner.published.places.get(&id) {
            return Ok(place);
        }
        self.warm(&[id]).await?;
        self.inner.published.places.get(&id).ok_or(Error::NoBody(id))
    }

    /// The hash of a body.
    ///
    /// # Errors
    /// [`Error::NoBody`]; faults of the index.
    pub async fn body_hash(&self, id: BodyId) -> Result<BodyHash, Error> {
        let rows = db::fetch(&self.inner.db, "SELECT hash FROM body WHERE id = $1", vec![id.0.into()]).await?;
        crate::writer::hash_of(&rows.first().ok_or(Error::NoBody(id))?.blob(0)?)
    }

    /// What an account and its domain (as the store knows it) use.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn usage(&self, account: AccountId) -> Result<Usage, Error> {
        Ok(self.account_usage(account).await?.map_or_else(Usage::default, |a| a.1))
    }

    async fn account_usage(&self, account: AccountId) -> Result<Option<(DomainId, Usage)>, Error> {
        let published = &self.inner.published;
        if let Some(known) = published.accounts.get(&account) {
            return Ok(Some(known));
        }
        let epoch = published.usage_epoch.load(Ordering::SeqCst);
        let sql = "SELECT domain, size_bytes, messages FROM account WHERE id = $1";
        let rows = db::fetch(&self.inner.db, sql, vec![account.0.into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let found = (DomainId(row.int(0)?), Usage { size_bytes: row.uint(1)?, messages: row.uint(2)? });
        if published.usage_epoch.load(Ordering::SeqCst) == epoch {
            published.accounts.insert(account, found);
        }
        Ok(Some(found))
    }

    /// What all accounts of a domain use.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn domain_usage(&self, domain: DomainId) -> Result<Usage, Error> {
        let published = &self.inner.published;
        if let Some(known) = published.domains.get(&domain) {
            return Ok(known);
        }
        let epoch = published.usage_epoch.load(Ordering::SeqCst);
        let sql = "SELECT size_bytes, messages FROM domain WHERE id = $1";
        let rows = db::fetch(&self.inner.db, sql, vec![domain.0.into()]).await?;
        let found = match rows.first() {
            Some(row) => Usage { size_bytes: row.uint(0)?, messages: row.uint(1)? },
            None => Usage::default(),
        };
        if published.usage_epoch.load(Ordering::SeqCst) == epoch {
            published.domains.insert(domain, found);
        }
        Ok(found)
    }

    /// Which limit would break if this came now. A look ahead (SMTP's RCPT, SIZE): the delivery itself counts exactly.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn would_exceed(
        &self,
        account: AccountId,
        domain: DomainId,
        limits: &Limits,
        size_bytes: u64,
        messages: u64,
    ) -> Result<Option<OverQuota>, Error> {
        if *limits == Limits::default() {
            return Ok(None);
        }
        let of_account = self.usage(account).await?;
        let of_domain =
            if limits.domain == crate::Quota::default() { Usage::default() } else { self.domain_usage(domain).await? };
        Ok(limits.broken_by(&of_account, &of_domain, size_bytes, messages))
    }

    /// Annotations of an account: those of a mailbox, or of the server when none is given (RFC 5464), by entry name.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn annotations(&self, account: AccountId, mailbox: Option<MailboxId>) -> Result<Vec<Annotation>, Error> {
        let sql = "SELECT entry, value FROM annotation WHERE account = $1 AND mailbox = $2 ORDER BY entry";
        let args = vec![account.0.into(), mailbox.unwrap_or_default().0.into()];
        let rows = db::fetch(&self.inner.db, sql, args).await?;
        rows.iter().map(|r| Ok(Annotation { mailbox, entry: r.text(0)?, value: Some(r.blob(1)?.into()) })).collect()
    }

    /// Expunged mail of an account that can be brought back, latest first.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn deleted(&self, account: AccountId, most: usize) -> Result<Vec<Deleted>, Error> {
        let sql = "SELECT id, mailbox_name, uid, body, size_bytes, received_s, deleted_s FROM trash WHERE account = $1 \
                   ORDER BY deleted_s DESC, id DESC LIMIT $2";
        let rows = db::fetch(&self.inner.db, sql, vec![account.0.into(), i64::try_from(most).unwrap_or(i64::MAX).into()]).await?;
        rows.iter()
            .map(|r| {
                Ok(Deleted {
                    id: r.int(0)?,
                    mailbox_name: r.text(1)?,
                    uid: Uid(r.u32(2)?),
                    body: BodyId(r.int(3)?),
                    size_bytes: r.u32(4)?,
                    received_s: r.int(5)?,
                    deleted_s: r.int(6)?,
                })
            })
            .collect()
    }
}
