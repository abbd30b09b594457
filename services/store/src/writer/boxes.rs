//! Changes of mailboxes and accounts: made, renamed, deleted, subscribed, annotated; expunged mail brought back.

use super::batch::Batch;
use super::committer::{Committer, NewEntry, entry};
use super::state::{MAILBOX, Mailbox};
use crate::db::{Shape, Value, in_list};
use crate::pack::Location;
use crate::placement::{Fact, snapshot};
use crate::types::{Annotation, Change, ChangeKind, SpecialUse};
use crate::{Error, INBOX, names};
use twinpost_message::{AccountId, BodyId, DomainId, Flags, MailboxId, ModSeq, Uid};

/// Mailboxes of one account.
pub const MAILBOXES_MAX: usize = 5_000;
/// Annotations of one account, and bytes of one value.
pub const ANNOTATIONS_MAX: usize = 1_000;
/// Bytes of one annotation value.
pub const ANNOTATION_BYTES_MAX: usize = 64 * 1024;

/// What an account finds beside INBOX.
const FURNITURE: [(&str, SpecialUse); 5] = [
    ("Drafts", SpecialUse::Drafts),
    ("Sent", SpecialUse::Sent),
    ("Junk", SpecialUse::Junk),
    ("Trash", SpecialUse::Trash),
    ("Archive", SpecialUse::Archive),
];

const RELOCATE: Shape = Shape {
    head: "UPDATE body SET pack = v.column4, place = v.column5, stored_bytes = v.column6 FROM (VALUES ",
    row: "(CAST(? AS BIGINT),CAST(? AS BIGINT),CAST(? AS BIGINT),CAST(? AS BIGINT),CAST(? AS BIGINT),CAST(? AS BIGINT))",
    tail: ") AS v WHERE body.id = v.column1 AND body.pack = v.column2 AND body.place = v.column3",
};

impl Committer {
    /// Makes a mailbox whose name was looked up and is free.
    pub(super) fn make(
        &mut self,
        batch: &mut Batch,
        account: AccountId,
        name: &str,
        special_use: Option<SpecialUse>,
    ) -> MailboxId {
        let id = MailboxId(self.number().cast_signed());
        let uid_validity = self.next_uid_validity(batch);
        let modseq = self.number();
        let mailbox = Mailbox {
            id,
            account,
            name: name.to_owned(),
            uid_validity,
            uid_next: Uid(1),
            highest_modseq: ModSeq(modseq),
            messages: 0,
            unseen: 0,
            deleted: 0,
            size_bytes: 0,
            special_use,
            created_s: batch.now_s,
            keywords: Some(Vec::new()),
        };
        batch.change(modseq, &mailbox, ChangeKind::MailboxCreated, Uid(0), BodyId(0));
        batch.facts.fact(snapshot::mailbox(&mailbox));
        batch.mailboxes.insert(id);
        self.state.names.insert((account, name.to_owned()), Some(id));
        self.state.mailboxes.insert(id, mailbox);
        id
    }

    pub(super) async fn furnish(&mut self, batch: &mut Batch, account: AccountId, domain: DomainId) -> Result<(), Error> {
        let mut row = self.settle_account(batch, account, domain);
        if row.furnished {
            return Ok(());
        }
        let wanted = std::iter::once((INBOX, None)).chain(FURNITURE.map(|(n, u)| (n, Some(u))));
        let keys = wanted.clone().map(|(n, _)| (account, n.to_owned()));
        self.state.load_names(&batch.db, keys).await?;
        for (name, special_use) in wanted {
            if self.state.named(account, name).is_none() {
                self.make(batch, account, name, special_use);
            }
            let sql = "INSERT INTO subscription (account, name) VALUES ($1, $2) ON CONFLICT (account, name) DO NOTHING";
            batch.tx().await?.run(sql, vec![account.0.into(), name.into()]).await?;
            batch.facts.fact(Fact::Subscription { account: account.0, name: name.to_owned(), subscribed: true });
        }
        row.furnished = true;
        batch.facts.fact(Fact::Account { id: account.0, domain: domain.0, furnished: true });
        self.state.accounts.insert(account, row);
        batch.accounts.insert(account);
        Ok(())
    }

    pub(super) async fn create(
        &mut self,
        batch: &mut Batch,
        account: AccountId,
        name: &str,
        special_use: Option<SpecialUse>,
    ) -> Result<MailboxId, Error> {
        let name = names::check(name)?;
        // Mail in it could not be counted for anybody.
        self.state.load_accounts(&batch.db, std::iter::once(account)).await?;
        if self.state.accounts.get(&account).is_none() {
            return Err(Error::NoAccount(account));
        }
        let keys = names::above(&name).chain(std::iter::once(&*name)).map(|n| (account, n.to_owned()));
        self.state.load_names(&batch.db, keys).await?;
        if self.state.named(account, &name).is_some() {
            return Err(Error::Exists(name));
        }
        let sql = "SELECT COUNT(*) FROM mailbox WHERE account = $1";
        let rows = crate::db::fetch(&batch.db, sql, vec![account.0.into()]).await?;
        if rows.first().map_or(Ok(0), |r| r.int(0))? >= MAILBOXES_MAX as i64 {
            return Err(Error::TooMany { what: "mailboxes in one account", most: MAILBOXES_MAX });
        }
        // RFC 9051 6.3.4: superior names are made as well.
        for above in names::above(&name) {
            if self.state.named(account, above).is_none() {
                self.make(batch, account, above, None);
            }
        }
        Ok(self.make(batch, account, &name, special_use))
    }

    fn touch(&mut self, batch: &mut Batch, mailbox: MailboxId, kind: ChangeKind) {
        let modseq = self.number();
        if let Some(m) = self.state.mailboxes.get(&mailbox) {
            batch.change(modseq, m, kind, Uid(0), BodyId(0));
        }
    }

    fn touch_account(&mut self, batch: &mut Batch, account: AccountId, kind: ChangeKind) {
        let (modseq, at_s) = (ModSeq(self.number()), batch.now_s);
        batch.changes.push(Change { modseq, account, mailbox: MailboxId(0), kind, uid: Uid(0), body: BodyId(0), at_s });
        let notice = if kind == ChangeKind::Annotations { crate::Notice::Annotations } else { crate::Notice::List };
        batch.notices.insert((account, notice));
    }

    pub(super) async fn subscribe(
        &mut self,
        batch: &mut Batch,
        account: AccountId,
        name: &str,
        subscribed: bool,
    ) -> Result<(), Error> {
        // A name that no mailbox has can be subscribed to as well (RFC 9051 6.3.7), or left.
        let name = if subscribed { names::check(name)? } else { names::normal(name) };
        let tx = batch.tx().await?;
        let touched = if subscribed {
            let rows = tx.fetch("SELECT COUNT(*) FROM subscription WHERE account = $1", vec![account.0.into()]).await?;
            if rows.first().map_or(Ok(0), |r| r.int(0))? >= MAILBOXES_MAX as i64 {
                return Err(Error::TooMany { what: "subscriptions in one account", most: MAILBOXES_MAX });
            }
            let sql = "INSERT INTO subscription (account, name) VALUES ($1, $2) ON CONFLICT (account, name) DO NOTHING";
            tx.run(sql, vec![account.0.into(), name.as_str().into()]).await?
        } else {
            tx.run("DELETE FROM subscription WHERE account = $1 AND name = $2", vec![account.0.into(), name.as_str().into()])
                .await?
        };
        if touched > 0 {
            batch.facts.fact(Fact::Subscription { account: account.0, name, subscribed });
            self.touch_account(batch, account, ChangeKind::MailboxAttributes);
        }
        Ok(())
    }

    pub(super) async fn special_use(
        &mut self,
        batch: &mut Batch,
        mailbox: MailboxId,
        special_use: Option<SpecialUse>,
    ) -> Result<(), Error> {
        self.need(batch, mailbox).await?;
        if let Some(m) = self.state.mailboxes.get_mut(&mailbox) {
            m.special_use = special_use;
            batch.facts.fact(snapshot::mailbox(m));
        }
        batch.mailboxes.insert(mailbox);
        self.touch(batch, mailbox, ChangeKind::MailboxAttributes);
        Ok(())
    }

    pub(super) async fn annotate(
        &mut self,
        batch: &mut Batch,
        account: AccountId,
        annotations: Vec<Annotation>,
    ) -> Result<(), Error> {
        for a in &annotations {
            if a.value.as_ref().is_some_and(|v| v.len() > ANNOTATION_BYTES_MAX) {
                return Err(Error::TooMany { what: "bytes in an annotation", most: ANNOTATION_BYTES_MAX });
            }
            if let Some(mailbox) = a.mailbox {
                self.need(batch, mailbox).await?;
            }
        }
        let sql = "SELECT COUNT(*) FROM annotation WHERE account = $1";
        let rows = batch.tx().await?.fetch(sql, vec![account.0.into()]).await?;
        let have = usize::try_from(rows.first().map_or(Ok(0), |r| r.int(0))?).unwrap_or(usize::MAX);
        if have.saturating_add(annotations.iter().filter(|a| a.value.is_some()).count()) > ANNOTATIONS_MAX {
            return Err(Error::TooMany { what: "annotations in one account", most: ANNOTATIONS_MAX });
        }
        for a in annotations {
            batch.facts.fact(Fact::Annotation {
                account: account.0,
                mailbox: a.mailbox.unwrap_or_default().0,
                entry: a.entry.clone(),
                value: a.value.as_ref().map(|v| v.to_vec()),
            });
            let mut args: Vec<Value> = vec![account.0.into(), a.mailbox.unwrap_or_default().0.into(), a.entry.into()];
            let sql = match a.value {
                Some(value) => {
                    args.push(value.to_vec().into());
                    "INSERT INTO annotation (account, mailbox, entry, value) VALUES ($1, $2, $3, $4) \
                     ON CONFLICT (account, mailbox, entry) DO UPDATE SET value = excluded.value"
                }
                None => "DELETE FROM annotation WHERE account = $1 AND mailbox = $2 AND entry = $3",
            };
            batch.tx().await?.run(sql, args).await?;
        }
        self.touch_account(batch, account, ChangeKind::Annotations);
        Ok(())
    }

    /// All mailboxes of an account, into the cache.
    async fn all(&mut self, batch: &Batch, account: AccountId) -> Result<Vec<Mailbox>, Error> {
        let rows = crate::db::fetch(&batch.db, format!("{MAILBOX}account = $1"), vec![account.0.into()]).await?;
        let list = rows.iter().map(Mailbox::read).collect::<Result<Vec<_>, _>>()?;
        self.state.load_mailboxes(&batch.db, list.iter().map(|m| m.id)).await?;
        self.state.load_accounts(&batch.db, std::iter::once(account)).await?;
        Ok(list)
    }

    /// RFC 9051 6.3.6.
    pub(super) async fn rename(&mut self, batch: &mut Batch, mailbox: MailboxId, name: &str) -> Result<(), Error> {
        let name = names::check(name)?;
        self.need(batch, mailbox).await?;
        let Some(m) = self.state.mailboxes.get(&mailbox).cloned() else { return Err(Error::NoMailbox(mailbox)) };
        let all = self.all(batch, m.account).await?;
        if all.iter().any(|other| other.name == name) {
            return Err(Error::Exists(name));
        }
        let inside = format!("{}/", m.name);
        if name.starts_with(&inside) {
            return Err(Error::Name { name, why: "a mailbox cannot move into itself" });
        }
        let free: Vec<&str> = names::above(&name).filter(|n| !all.iter().any(|o| o.name == *n)).collect();
        for above in free {
            self.make(batch, m.account, above, None);
        }
        if m.name == INBOX {
            // Its messages move to a new mailbox; INBOX stays, empty, with its children.
            let to = self.make(batch, m.account, &name, None);
            self.view(batch, mailbox, None).await?;
            let uids = batch.views.get(&mailbox).map(|v| v.snapshot.iter().map(|e| e.uid).collect()).unwrap_or_default();
            let limits = crate::Limits::default();
            self.transfer(batch, crate::Transfer { from: mailbox, uids, to, limits, remove: true }).await?;
            return Ok(());
        }
        let mut moved: Vec<(MailboxId, String, String)> = vec![(m.id, m.name.clone(), name.clone())];
        for child in all.iter().filter(|o| o.name.starts_with(&inside)) {
            let new = format!("{name}/{}", &child.name[inside.len()..]);
            if all.iter().any(|o| o.name == new) {
                return Err(Error::Exists(new));
            }
            moved.push((child.id, child.name.clone(), names::check(&new)?));
        }
        for (id, old, new) in moved {
            let sql = "UPDATE mailbox SET name = $2 WHERE id = $1";
            batch.tx().await?.run(sql, vec![id.0.into(), new.as_str().into()]).await?;
            if let Some(row) = self.state.mailboxes.get_mut(&id) {
                row.name.clone_from(&new);
                batch.facts.fact(snapshot::mailbox(row));
            }
            self.state.names.insert((m.account, old), None);
            self.state.names.insert((m.account, new), Some(id));
            self.touch(batch, id, ChangeKind::MailboxRenamed);
        }
        Ok(())
    }

    /// The rows of a mailbox go; its messages can be brought back. Its name stays free, its children stay.
    async fn drop_mailbox(&mut self, batch: &mut Batch, m: &Mailbox, keep: bool) -> Result<(), Error> {
        let id = vec![Value::from(m.id.0)];
        if keep {
            let messages = batch.tx().await?.fetch(format!("{} WHERE mailbox = $1", super::committer::ENTRY), id.clone()).await?;
            for row in &messages {
                let e = entry(row)?;
                let number = self.number();
                batch.trash.push(super::entries::trash_row(number, m.account.0, &m.name, &e, batch.now_s));
            }
        } else {
            let sql = "SELECT body, COUNT(*) FROM message WHERE mailbox = $1 GROUP BY body";
            for row in batch.tx().await?.fetch(sql, id.clone()).await? {
                batch.refer(BodyId(row.int(0)?), -row.int(1)?);
            }
        }
        let tx = batch.tx().await?;
        for sql in [
            "DELETE FROM message WHERE mailbox = $1",
            "DELETE FROM keyword WHERE mailbox = $1",
            "DELETE FROM annotation WHERE mailbox = $1",
            "DELETE FROM mailbox WHERE id = $1",
        ] {
            tx.run(sql, id.clone()).await?;
        }
        self.charge(batch, m.account, -m.messages.cast_signed(), -m.size_bytes.cast_signed());
        self.touch(batch, m.id, ChangeKind::MailboxDeleted);
        self.state.mailboxes.remove(&m.id);
        self.state.names.insert((m.account, m.name.clone()), None);
        batch.facts.fact(Fact::MailboxGone(m.id.0));
        batch.mailboxes.remove(&m.id);
        batch.gone.push(m.id);
        Ok(())
    }

    pub(super) async fn delete(&mut self, batch: &mut Batch, mailbox: MailboxId) -> Result<(), Error> {
        self.need(batch, mailbox).await?;
        let Some(m) = self.state.mailboxes.get(&mailbox).cloned() else { return Err(Error::NoMailbox(mailbox)) };
        if m.name == INBOX {
            return Err(Error::Inbox("deleted"));
        }
        let keep = self.undelete_s > 0;
        self.drop_mailbox(batch, &m, keep).await
    }

    pub(super) async fn delete_account(&mut self, batch: &mut Batch, account: AccountId) -> Result<(), Error> {
        for m in self.all(batch, account).await? {
            self.drop_mailbox(batch, &m, false).await?;
        }
        let id = vec![Value::from(account.0)];
        let sql = "SELECT body, COUNT(*) FROM trash WHERE account = $1 GROUP BY body";
        for row in batch.tx().await?.fetch(sql, id.clone()).await? {
            batch.refer(BodyId(row.int(0)?), -row.int(1)?);
        }
        let tx = batch.tx().await?;
        for sql in [
            "DELETE FROM trash WHERE account = $1",
            "DELETE FROM subscription WHERE account = $1",
            "DELETE FROM annotation WHERE account = $1",
            "DELETE FROM account WHERE id = $1",
        ] {
            tx.run(sql, id.clone()).await?;
        }
        batch.facts.fact(Fact::AccountGone(account.0));
        self.state.accounts.remove(&account);
        self.touch_account(batch, account, ChangeKind::AccountDeleted);
        Ok(())
    }

    pub(super) async fn restore(
        &mut self,
        batch: &mut Batch,
        account: AccountId,
        ids: &[i64],
    ) -> Result<Vec<(MailboxId, Uid)>, Error> {
        let list: Vec<Value> = ids.iter().map(|id| Value::Int(*id)).collect();
        let head = "SELECT id, mailbox_name, body, flags, size_bytes, received_s FROM trash WHERE account = $1 AND id";
        let rows = crate::db::fetch_in(&batch.db, head, &[account.0.into()], &list, "ORDER BY id").await?;
        self.state.load_accounts(&batch.db, std::iter::once(account)).await?;
        let mut restored = Vec::with_capacity(rows.len());
        let mut gone = Vec::with_capacity(rows.len());
        for row in rows {
            let name = row.text(1)?;
            self.state.load_names(&batch.db, [(account, name.clone()), (account, INBOX.to_owned())].into_iter()).await?;
            let mailbox = match self.state.named(account, &name) {
                Some(id) => id,
                None => self.make(batch, account, &name, None),
            };
            let entry = NewEntry {
                body: BodyId(row.int(2)?),
                // Not deleted any more; keyword bits belong to a table that may be another by now.
                flags: Flags(row.uint(3)? & ((1 << Flags::KEYWORD_SHIFT) - 1)).without(Flags::DELETED),
                size_bytes: row.u32(4)?,
                received_s: row.int(5)?,
            };
            let added = self.add(batch, mailbox, entry)?;
            // The message holds the body now instead of the trash.
            batch.refer(entry.body, -1);
            restored.push((mailbox, added.uid));
            batch.facts.fact(Fact::TrashGone(row.int(0)?));
            gone.push(Value::Int(row.int(0)?));
        }
        for (sql, args) in in_list(&batch.db, "DELETE FROM trash WHERE id", &[], &gone, "") {
            batch.tx().await?.run(sql, args).await?;
        }
        Ok(restored)
    }

    /// Deleted mail older than this can no longer be brought back. Some thousands at once: the caller repeats.
    pub(super) async fn purge(&mut self, batch: &mut Batch, before_s: i64) -> Result<u64, Error> {
        let sql = "SELECT id, body FROM trash WHERE deleted_s < $1 ORDER BY deleted_s LIMIT 5000";
        let rows = crate::db::fetch(&batch.db, sql, vec![before_s.into()]).await?;
        let mut gone = Vec::with_capacity(rows.len());
        for row in &rows {
            batch.refer(BodyId(row.int(1)?), -1);
            batch.facts.fact(Fact::TrashGone(row.int(0)?));
            gone.push(Value::Int(row.int(0)?));
        }
        for (sql, args) in in_list(&batch.db, "DELETE FROM trash WHERE id", &[], &gone, "") {
            batch.tx().await?.run(sql, args).await?;
        }
        Ok(gone.len() as u64)
    }

    /// Rows of bodies that nothing refers to. Some thousands at once: the caller repeats.
    pub(super) async fn collect(&mut self, batch: &mut Batch) -> Result<u64, Error> {
        let rows = crate::db::fetch(&batch.db, "SELECT id FROM body WHERE refs = 0 LIMIT 5000", vec![]).await?;
        let ids = rows.iter().map(|r| r.int(0).map(Value::Int)).collect::<Result<Vec<_>, _>>()?;
        for (sql, args) in in_list(&batch.db, "DELETE FROM body WHERE refs = 0 AND id", &[], &ids, "") {
            batch.tx().await?.run(sql, args).await?;
        }
        // A body that comes again gets a new row.
        self.state.bodies.clear();
        Ok(ids.len() as u64)
    }

    pub(super) async fn relocate(&mut self, batch: &mut Batch, moves: Vec<(BodyId, Location, Location)>) -> Result<u64, Error> {
        let rows: Vec<Vec<Value>> = moves
            .iter()
            .map(|(id, old, new)| {
                vec![id.0.into(), old.pack.into(), old.offset.into(), new.pack.into(), new.offset.into(), new.stored_bytes.into()]
            })
            .collect();
        let n = rows.len() as u64;
        if n > 0 {
            batch.tx().await?.many(RELOCATE, rows).await?;
        }
        for (id, ..) in moves {
            self.published.places.remove(&id);
        }
        Ok(n)
    }
}
