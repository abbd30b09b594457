//! The rows of one transaction, gathered in memory and written in few statements.
//!
//! Contract: operations add rows here and change the cached state; nothing reaches the database before [`Batch::flush`]
//! but the statements of rare operations, which run in the same transaction. Counters are written as absolute values:
//! the writer is their only owner.

use super::state::{Mailbox, State};
use crate::db::{Shape, Tx, Value, Writer, in_list};
use crate::pack::Location;
use crate::placement::outbox::Outbox;
use crate::placement::{self, ChangeRow, Fact, MessageRow};
use crate::types::{Change, ChangeKind, Prepared};
use crate::{Error, Notice};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use twinpost_message::view::{Entry, Snapshot};
use twinpost_message::{AccountId, BodyHash, BodyId, DomainId, MailboxId, ModSeq, Uid};
use twinpost_sql::Database;

/// A snapshot in work.
pub(crate) struct View {
    pub snapshot: Snapshot,
    /// Messages that came in this batch and are not in the snapshot yet.
    pub added: Vec<Entry>,
}

impl View {
    /// Puts waiting messages into the snapshot.
    pub fn settle(&mut self, highest: ModSeq) -> &Snapshot {
        if !self.added.is_empty() || highest > self.snapshot.highest_modseq {
            self.snapshot = self.snapshot.apply(&[], &[], &self.added, highest);
            self.added.clear();
        }
        &self.snapshot
    }
}

pub(crate) type Answering = Box<dyn FnOnce(Result<(), Error>) + Send + Sync>;

pub(crate) struct NewBody {
    pub id: BodyId,
    pub body: Prepared,
    pub place: Location,
}

pub(crate) struct Batch {
    pub db: Database,
    writer: Writer,
    tx: Option<Tx>,
    pub now_s: i64,
    pub places: HashMap<BodyHash, Location>,
    /// As in [`super::Work::Packed`].
    pub fresh: HashMap<BodyHash, bool>,
    pub bodies: Vec<NewBody>,
    pub refs: HashMap<BodyId, i64>,
    /// Bodies whose damaged record was written again.
    pub mended: Vec<(BodyId, Location)>,
    /// Some: the row as it is now; none: gone.
    pub messages: BTreeMap<(MailboxId, Uid), Option<Entry>>,
    pub changes: Vec<Change>,
    pub trash: Vec<Vec<Value>>,
    pub mailboxes: HashSet<MailboxId>,
    pub accounts: HashSet<AccountId>,
    pub domains: HashSet<DomainId>,
    pub keywords: Vec<(MailboxId, usize, String)>,
    pub spool: Vec<Vec<Value>>,
    pub spool_rcpts: Vec<Vec<Value>>,
    pub spooled: bool,
    /// What came from a diverged store with it.
    pub merged: HashSet<crate::merge::MergeKey>,
    pub uid_validity: Option<u32>,
    pub views: HashMap<MailboxId, View>,
    pub gone: Vec<MailboxId>,
    pub notices: HashSet<(AccountId, Notice)>,
    pub unclaim: Vec<twinpost_message::QueueId>,
    pub answers: Vec<Answering>,
    /// What `rebuild` must know of it, beside what follows from the rows below.
    pub facts: placement::Writer,
    outbox: Arc<Outbox>,
    /// Pack and place of the last record of arrivals that it decides.
    pub arrived: Option<(u32, u64)>,
    /// Its log in the placement records.
    pub log: Option<(u64, Vec<u8>)>,
    /// A fault that fails the whole batch.
    pub broken: Option<Error>,
}

pub(crate) const BODY: Shape = Shape {
    head: "INSERT INTO body (id, hash, pack, place, stored_bytes, size_bytes, thread, refs, parsed) VALUES ",
    row: "(?,?,?,?,?,?,?,?,?)",
    tail: "",
};
pub(crate) const MESSAGE: Shape = Shape {
    head: "INSERT INTO message (mailbox, uid, body, flags, modseq, received_s, saved_s, size_bytes) VALUES ",
    row: "(?,?,?,?,?,?,?,?)",
    tail: " ON CONFLICT (mailbox, uid) DO UPDATE SET flags = excluded.flags, modseq = excluded.modseq",
};
pub(crate) const CHANGE: Shape = Shape {
    head: "INSERT INTO change (modseq, account, mailbox, kind, uid, body, at_s) VALUES ",
    row: "(?,?,?,?,?,?,?)",
    tail: "",
};
pub(crate) const TRASH: Shape = Shape {
    head: "INSERT INTO trash (id, account, mailbox_name, uid, body, flags, received_s, saved_s, size_bytes, deleted_s) VALUES ",
    row: "(?,?,?,?,?,?,?,?,?,?)",
    tail: "",
};
const MAILBOX: Shape = Shape {
    head: "INSERT INTO mailbox (id, account, name, uid_validity, uid_next, highest_modseq, messages, unseen, deleted, size_bytes, \
           special_use, created_s) VALUES ",
    row: "(?,?,?,?,?,?,?,?,?,?,?,?)",
    tail: " ON CONFLICT (id) DO UPDATE SET uid_next = excluded.uid_next, highest_modseq = excluded.highest_modseq, \
           messages = excluded.messages, unseen = excluded.unseen, deleted = excluded.deleted, size_bytes = excluded.size_bytes, \
           special_use = excluded.special_use",
};
const ACCOUNT: Shape = Shape {
    head: "INSERT INTO account (id, domain, size_bytes, messages, furnished) VALUES ",
    row: "(?,?,?,?,?)",
    tail: " ON CONFLICT (id) DO UPDATE SET domain = excluded.domain, size_bytes = excluded.size_bytes, \
           messages = excluded.messages, furnished = excluded.furnished",
};
const DOMAIN: Shape = Shape {
    head: "INSERT INTO domain (id, size_bytes, messages) VALUES ",
    row: "(?,?,?)",
    tail: " ON CONFLICT (id) DO UPDATE SET size_bytes = excluded.size_bytes, messages = excluded.messages",
};
const KEYWORD: Shape = Shape { head: "INSERT INTO keyword (mailbox, place, name) VALUES ", row: "(?,?,?)", tail: "" };
const REFS: Shape = Shape {
    head: "UPDATE body SET refs = refs + v.column2 FROM (VALUES ",
    row: "(CAST(? AS BIGINT),CAST(? AS BIGINT))",
    tail: ") AS v WHERE body.id = v.column1",
};
const MEND: Shape = Shape {
    head: "UPDATE body SET pack = v.column2, place = v.column3, stored_bytes = v.column4 FROM (VALUES ",
    row: "(CAST(? AS BIGINT),CAST(? AS BIGINT),CAST(? AS BIGINT),CAST(? AS BIGINT))",
    tail: ") AS v WHERE body.id = v.column1",
};
const MERGED: Shape = Shape { head: "INSERT INTO merged (key, at_s) VALUES ", row: "(?,?)", tail: "" };
pub(crate) const SPOOL: Shape = Shape {
    head: "INSERT INTO spool (id, body, size_bytes, sender, ret, envid, smtputf8, eight_bit, require_tls, held, trace, account, \
           created_s, expires_s) VALUES ",
    row: "(?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    tail: "",
};
pub(crate) const SPOOL_RCPT: Shape = Shape {
    head: "INSERT INTO spool_rcpt (spool, n, address, orcpt, notify, state, attempts, next_try_s, last_try_s, reply_code, \
           reply_text, delay_told) VALUES ",
    row: "(?,?,?,?,?,0,0,?,NULL,0,'',0)",
    tail: "",
};

impl Batch {
    pub fn new(db: Database, writer: Writer, now_s: i64, outbox: Arc<Outbox>) -> Self {
        Self {
            db,
            writer,
            tx: None,
            now_s,
            places: HashMap::new(),
            fresh: HashMap::new(),
            bodies: Vec::new(),
            refs: HashMap::new(),
            mended: Vec::new(),
            messages: BTreeMap::new(),
            changes: Vec::new(),
            trash: Vec::new(),
            mailboxes: HashSet::new(),
            accounts: HashSet::new(),
            domains: HashSet::new(),
            keywords: Vec::new(),
            spool: Vec::new(),
            spool_rcpts: Vec::new(),
            spooled: false,
            merged: HashSet::new(),
            uid_validity: None,
            views: HashMap::new(),
            gone: Vec::new(),
            notices: HashSet::new(),
            unclaim: Vec::new(),
            answers: Vec::new(),
            facts: placement::Writer::default(),
            outbox,
            arrived: None,
            log: None,
            broken: None,
        }
    }

    /// The transaction, begun when it is first needed: a batch that changes nothing costs none.
    pub async fn tx(&mut self) -> Result<&mut Tx, Error> {
        if self.tx.is_none() {
            self.tx = Some(Tx::begin(&self.writer).await?);
        }
        self.tx.as_mut().ok_or(Error::Closed)
    }

    /// Answers an operation when the batch is committed; a refusal is answered with it, not before, so that answers keep
    /// the order of the operations.
    pub fn answer<T: Send + Sync + 'static>(&mut self, to: super::Answer<T>, outcome: Result<T, Error>) {
        if let Err(error) = &outcome
            && error.is_internal()
            && self.broken.is_none()
        {
            self.broken = Some(error.clone());
        }
        // A caller that went away does not mind.
        self.answers.push(Box::new(move |commit| drop(to.send(commit.and(outcome)))));
    }

    pub fn change(&mut self, modseq: u64, mailbox: &Mailbox, kind: ChangeKind, uid: Uid, body: BodyId) {
        let (account, at_s) = (mailbox.account, self.now_s);
        self.changes.push(Change { modseq: ModSeq(modseq), account, mailbox: mailbox.id, kind, uid, body, at_s });
        let notice = match kind {
            ChangeKind::Added | ChangeKind::Flags | ChangeKind::Expunged => Notice::Mailbox(mailbox.id),
            ChangeKind::Annotations => Notice::Annotations,
            _ => Notice::List,
        };
        self.notices.insert((account, notice));
    }

    pub fn refer(&mut self, body: BodyId, by: i64) {
        *self.refs.entry(body).or_default() += by;
    }

    /// Writes everything and commits, which takes `delay` longer than the disk does.
    pub async fn commit(&mut self, state: &mut State, delay: Duration) -> Result<(), Error> {
        self.flush(state).await?;
        match &mut self.tx {
            Some(tx) => tx.commit().await?,
            None => return Ok(()),
        }
        if !delay.is_zero() {
            // The thread is the committer's own.
            std::thread::sleep(delay);
        }
        self.tx = None;
        Ok(())
    }

    /// Undoes what was not committed.
    pub fn abandon(&mut self) {
        self.tx = None;
    }

    async fn flush(&mut self, state: &mut State) -> Result<(), Error> {
        let mut steps: Vec<(Shape, Vec<Vec<Value>>)> = Vec::new();
        self.tell();
        let mut refs = std::mem::take(&mut self.refs);
        let bodies = self.bodies.drain(..).map(|b| {
            let (p, n) = (&b.body.inner, refs.remove(&b.id).unwrap_or(0));
            vec![
                b.id.0.into(),
                p.hash.0.to_vec().into(),
                b.place.pack.into(),
                b.place.offset.into(),
                b.place.stored_bytes.into(),
                p.size_bytes.into(),
                p.thread.into(),
                n.into(),
                p.parsed_blob.clone().into(),
            ]
        });
        steps.push((BODY, bodies.collect()));
        let mut gone: BTreeMap<MailboxId, Vec<Value>> = BTreeMap::new();
        let mut messages = Vec::with_capacity(self.messages.len());
        for ((mailbox, uid), row) in std::mem::take(&mut self.messages) {
            match row {
                None => gone.entry(mailbox).or_default().push(uid.0.into()),
                Some(e) => messages.push(vec![
                    mailbox.0.into(),
                    uid.0.into(),
                    e.body.0.into(),
                    e.flags.0.into(),
                    e.modseq.0.into(),
                    e.received_s.into(),
                    e.saved_s.into(),
                    e.size_bytes.into(),
                ]),
            }
        }
        steps.push((MESSAGE, messages));
        let changes = self.changes.iter().map(|c| {
            vec![
                c.modseq.0.into(),
                c.account.0.into(),
                c.mailbox.0.into(),
                c.kind.number().into(),
                c.uid.0.into(),
                c.body.0.into(),
                c.at_s.into(),
            ]
        });
        steps.push((CHANGE, changes.collect()));
        steps.push((TRASH, std::mem::take(&mut self.trash)));
        steps.push((MAILBOX, self.mailboxes.iter().filter_map(|id| state.mailboxes.get(id).map(Mailbox::values)).collect()));
        let accounts = self.accounts.iter().filter_map(|id| {
            let a = state.accounts.get(id)?;
            let usage = a.usage;
            Some(vec![id.0.into(), a.domain.0.into(), usage.size_bytes.into(), usage.messages.into(), a.furnished.into()])
        });
        steps.push((ACCOUNT, accounts.collect()));
        let domains = self.domains.iter().filter_map(|id| {
            let usage = state.domains.get(id)?;
            Some(vec![id.0.into(), usage.size_bytes.into(), usage.messages.into()])
        });
        steps.push((DOMAIN, domains.collect()));
        let keywords =
            self.keywords.drain(..).map(|(mailbox, place, name)| vec![mailbox.0.into(), (place as u64).into(), name.into()]);
        steps.push((KEYWORD, keywords.collect()));
        let refs = refs.into_iter().filter(|(_, n)| *n != 0).map(|(id, n)| vec![id.0.into(), n.into()]);
        steps.push((REFS, refs.collect()));
        let mended =
            self.mended.drain(..).map(|(id, p)| vec![id.0.into(), p.pack.into(), p.offset.into(), p.stored_bytes.into()]);
        steps.push((MEND, mended.collect()));
        steps.push((SPOOL, std::mem::take(&mut self.spool)));
        steps.push((SPOOL_RCPT, std::mem::take(&mut self.spool_rcpts)));
        let merged = self.merged.drain().map(|key| vec![key.0.to_vec().into(), self.now_s.into()]);
        steps.push((MERGED, merged.collect()));
        let uid_validity = self.uid_validity.take();
        let nothing =
            steps.iter().all(|(_, rows)| rows.is_empty()) && gone.is_empty() && uid_validity.is_none() && self.facts.is_empty();
        // A batch of which everything was refused says so, or its bodies would come back with `rebuild`.
        if nothing && self.arrived.is_none() {
            return Ok(());
        }
        let (seq, written) = (self.outbox.next(), self.outbox.written());
        if let Some((pack, place)) = self.arrived {
            self.facts.fact(Fact::Decided(pack, place));
        }
        let log = std::mem::take(&mut self.facts).finish(seq, self.now_s);
        let db = self.db.clone();
        let tx = self.tx().await?;
        tx.run("INSERT INTO placement (seq, log) VALUES ($1, $2)", vec![seq.into(), log.as_slice().into()]).await?;
        tx.run("DELETE FROM placement WHERE seq < $1", vec![written.into()]).await?;
        for (shape, rows) in steps {
            if !rows.is_empty() {
                tx.many(shape, rows).await?;
            }
        }
        for (mailbox, uids) in gone {
            for (sql, args) in in_list(&db, "DELETE FROM message WHERE mailbox = $1 AND uid", &[mailbox.0.into()], &uids, "") {
                tx.run(sql, args).await?;
            }
        }
        if let Some(last) = uid_validity {
            let sql = "INSERT INTO meta (key, value) VALUES ('uid_validity', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
            tx.run(sql, vec![last.to_string().into()]).await?;
        }
        self.log = Some((seq, log));
        Ok(())
    }

    /// Writes what follows from the rows into the log.
    fn tell(&mut self) {
        for b in &self.bodies {
            let (hash, size_bytes) = (b.body.hash(), b.body.size_bytes());
            self.facts.fact(Fact::Body { id: b.id.0, hash, size_bytes });
        }
        for (mailbox, place, name) in &self.keywords {
            let place = i64::try_from(*place).unwrap_or(i64::MAX);
            self.facts.fact(Fact::Keyword { mailbox: mailbox.0, place, name: name.clone() });
        }
        for c in &self.changes {
            let (kind, uid) = (c.kind.number(), i64::from(c.uid.0));
            let (account, mailbox, body, modseq) = (c.account.0, c.mailbox.0, c.body.0, c.modseq.0.cast_signed());
            let change = ChangeRow { kind, account, mailbox, uid, body, modseq };
            match self.messages.get(&(c.mailbox, c.uid)) {
                // A message that changed twice is told as it is behind the last change.
                Some(Some(e)) if e.modseq == c.modseq => self.facts.message(&MessageRow {
                    change,
                    flags: e.flags.0.cast_signed(),
                    received_s: e.received_s,
                    saved_s: e.saved_s,
                    size_bytes: e.size_bytes.into(),
                }),
                _ => self.facts.change(&change),
            }
        }
        for row in &self.trash {
            self.facts.fact(Fact::Trash(row.clone()));
        }
        for row in &self.spool {
            self.facts.fact(Fact::Spool(row.clone()));
        }
        for row in &self.spool_rcpts {
            if let [spool, n, address, orcpt, notify, next_try_s] = row.as_slice() {
                let zero = Value::Int(0);
                let mut all =
                    vec![spool.clone(), n.clone(), address.clone(), orcpt.clone(), notify.clone(), zero.clone(), zero.clone()];
                all.extend([next_try_s.clone(), Value::NoInt, zero.clone(), "".into(), zero]);
                self.facts.fact(Fact::Rcpt(all));
            }
        }
        for key in &self.merged {
            self.facts.fact(Fact::Merged(key.0, self.now_s));
        }
        if let Some(last) = self.uid_validity {
            self.facts.fact(Fact::UidValidity(last));
        }
    }

    /// Snapshots as they are behind this batch.
    pub fn finish_views(&mut self, state: &mut State) -> Vec<(MailboxId, Arc<Snapshot>)> {
        let views = std::mem::take(&mut self.views).into_iter();
        let mut out: Vec<(MailboxId, Arc<Snapshot>)> = views
            .map(|(id, mut view)| {
                let highest = state.mailboxes.get(&id).map_or(ModSeq(0), |m| m.highest_modseq);
                view.settle(highest);
                if let Some(Mailbox { keywords: Some(names), .. }) = state.mailboxes.get(&id)
                    && *view.snapshot.keywords != *names
                {
                    view.snapshot = view.snapshot.with_keywords(names.clone());
                }
                (id, Arc::new(view.snapshot))
            })
            .collect();
        for id in self.gone.drain(..) {
            out.retain(|(other, _)| *other != id);
            let mut last = Snapshot::default();
            last.gone = true;
            out.push((id, Arc::new(last)));
        }
        out
    }
}
