//! Stage 2 of the writer: one transaction a batch, then snapshots, notices and answers.

use super::batch::{Batch, View};
use super::state::{Account, Mailbox, State};
use super::{Alone, BATCH_OPS_MAX, BATCH_WEIGHT_MAX, Op, Work};
use crate::db::{self, Row, Value};
use crate::live::Live;
use crate::placement::Fact;
use crate::types::{ChangeKind, Folder, Prepared};
use crate::{Error, Usage};
use parking_lot::Mutex;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use twinpost_message::view::{Entry, Snapshot};
use twinpost_message::{AccountId, BodyId, DomainId, Flags, MailboxId, ModSeq, QueueId, Uid, UidValidity};
use twinpost_sql::Database;

/// What the writer shows to readers after a commit.
#[derive(Debug)]
pub(crate) struct Published {
    pub live: Live,
    pub head: watch::Sender<ModSeq>,
    /// Counts commits that put something into the queue, or made something due.
    pub spooled: watch::Sender<u64>,
    /// Counts publications of usage: a reader that read the database caches only when none came between.
    pub usage_epoch: AtomicU64,
    pub accounts: quick_cache::sync::Cache<AccountId, (DomainId, Usage)>,
    pub domains: quick_cache::sync::Cache<DomainId, Usage>,
    pub places: quick_cache::sync::Cache<BodyId, crate::pack::Location>,
    pub owners: quick_cache::sync::Cache<MailboxId, AccountId>,
    pub parsed: quick_cache::sync::Cache<BodyId, Arc<twinpost_message::Parsed>, crate::reads::ParsedWeight>,
    pub claims: Mutex<HashSet<QueueId>>,
}

pub(crate) struct Committer {
    /// First, so that it is let go before the queue is seen to be closed.
    pub _lock: Arc<crate::store::Lock>,
    pub db: Database,
    pub writer: db::Writer,
    /// See [`crate::Options::commit_delay`].
    pub commit_delay: Duration,
    pub work: mpsc::Receiver<Work>,
    pub published: Arc<Published>,
    pub outbox: Arc<crate::placement::outbox::Outbox>,
    pub state: State,
    /// The last number given.
    pub last: u64,
    /// The last UIDVALIDITY given.
    pub uid_validity: u32,
    /// How long expunged messages can be brought back; 0: not at all.
    pub undelete_s: i64,
}

pub(crate) fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

impl Committer {
    pub async fn run(mut self) {
        let mut waiting: VecDeque<Work> = VecDeque::new();
        let mut arrived = Vec::new();
        loop {
            if waiting.is_empty() {
                if self.work.recv_many(&mut arrived, BATCH_OPS_MAX).await == 0 {
                    return;
                }
            } else {
                while waiting.len() + arrived.len() < BATCH_OPS_MAX
                    && let Ok(work) = self.work.try_recv()
                {
                    arrived.push(work);
                }
            }
            waiting.extend(arrived.drain(..));
            let mut batch = Batch::new(self.db.clone(), self.writer.clone(), now_s(), self.outbox.clone());
            let mut ops = Vec::new();
            let mut weight = 0;
            while weight < BATCH_WEIGHT_MAX {
                match waiting.pop_front() {
                    Some(Work::Op(Op::Alone(alone))) => {
                        if ops.is_empty() {
                            self.alone(&mut batch, alone).await;
                        } else {
                            waiting.push_front(Work::Op(Op::Alone(alone)));
                        }
                        break;
                    }
                    Some(Work::Op(op)) => {
                        weight += op.weight();
                        ops.push(op);
                    }
                    Some(Work::Packed { ops: mut packed, places, fresh, arrived, turn }) => {
                        drop(turn);
                        // Rare operations come this way too when they must stand behind the packs.
                        if packed.iter().any(|op| matches!(op, Op::Alone(_))) {
                            // The last of them decides their arrivals.
                            let mut decides = arrived;
                            for op in packed.drain(..).rev() {
                                let arrived = decides.take();
                                let piece = match op {
                                    op @ Op::Alone(_) => Work::Op(op),
                                    op => {
                                        let (places, fresh) = (places.clone(), fresh.clone());
                                        Work::Packed { ops: vec![op], places, fresh, arrived, turn: None }
                                    }
                                };
                                waiting.push_front(piece);
                            }
                            continue;
                        }
                        weight += packed.iter().map(Op::weight).sum::<usize>();
                        ops.append(&mut packed);
                        batch.places.extend(places.iter().map(|(h, p)| (*h, *p)));
                        batch.fresh.extend(fresh);
                        batch.arrived = batch.arrived.max(arrived);
                    }
                    Some(Work::Close(answer)) => {
                        if ops.is_empty() {
                            let _ = answer.send(());
                            return;
                        }
                        waiting.push_front(Work::Close(answer));
                        break;
                    }
                    None => break,
                }
            }
            if !ops.is_empty() {
                self.plan(&mut batch, ops).await;
            }
            self.finish(batch).await;
        }
    }

    async fn plan(&mut self, batch: &mut Batch, ops: Vec<Op>) {
        if let Err(error) = self.prefetch(batch, &ops).await {
            batch.broken = Some(error.clone());
            ops.into_iter().for_each(|op| op.fail(error.clone()));
            return;
        }
        for op in ops {
            if let Some(error) = &batch.broken {
                op.fail(error.clone());
                continue;
            }
            match op {
                Op::Deliver(d, to) => {
                    let outcome = self.deliver(batch, *d).await;
                    batch.answer(to, outcome);
                }
                Op::Append(a, to) => {
                    let outcome = self.append(batch, *a).await;
                    batch.answer(to, outcome);
                }
                Op::SetFlags(s, to) => {
                    let outcome = self.set_flags(batch, s).await;
                    batch.answer(to, outcome);
                }
                Op::Expunge { mailbox, uids, only_deleted, answer } => {
                    let outcome = self.expunge(batch, mailbox, &uids, only_deleted).await;
                    batch.answer(answer, outcome);
                }
                Op::Transfer(t, to) => {
                    let outcome = self.transfer(batch, t).await;
                    batch.answer(to, outcome);
                }
                Op::SpoolUpdate(u, to) => {
                    let outcome = self.spool_update(batch, *u).await;
                    batch.answer(to, outcome);
                }
                Op::SpoolDeliver { id, n, delivery, answer } => {
                    let outcome = self.spool_deliver(batch, id, n, *delivery).await;
                    batch.answer(answer, outcome);
                }
                Op::SpoolAction(id, action, to) => {
                    let outcome = self.spool_action(batch, id, action).await;
                    batch.answer(to, outcome);
                }
                Op::Merge(items, to) => {
                    let outcome = self.merge(batch, items).await;
                    batch.answer(to, outcome);
                }
                Op::Attach(mailbox, snapshot, to) => {
                    let outcome = self.view(batch, mailbox, snapshot).await;
                    batch.answer(to, outcome);
                }
                Op::Furnish { account, domain, answer } => {
                    let outcome = self.furnish(batch, account, domain).await;
                    batch.answer(answer, outcome);
                }
                Op::Create { account, name, special_use, answer } => {
                    let outcome = self.create(batch, account, &name, special_use).await;
                    batch.answer(answer, outcome);
                }
                Op::Subscribe { account, name, subscribed, answer } => {
                    let outcome = self.subscribe(batch, account, &name, subscribed).await;
                    batch.answer(answer, outcome);
                }
                Op::SpecialUse { mailbox, special_use, answer } => {
                    let outcome = self.special_use(batch, mailbox, special_use).await;
                    batch.answer(answer, outcome);
                }
                Op::Annotate { account, annotations, answer } => {
                    let outcome = self.annotate(batch, account, annotations).await;
                    batch.answer(answer, outcome);
                }
                Op::Alone(alone) => {
                    // `run` gives these a batch of their own.
                    Op::Alone(alone).fail(Error::index("an operation was gathered that must stand alone".to_owned()));
                }
            }
        }
    }

    async fn alone(&mut self, batch: &mut Batch, alone: Alone) {
        match alone {
            Alone::Rename { mailbox, name, answer } => {
                let outcome = self.rename(batch, mailbox, &name).await;
                batch.answer(answer, outcome);
            }
            Alone::Delete { mailbox, answer } => {
                let outcome = self.delete(batch, mailbox).await;
                batch.answer(answer, outcome);
            }
            Alone::DeleteAccount { account, answer } => {
                let outcome = self.delete_account(batch, account).await;
                batch.answer(answer, outcome);
            }
            Alone::Restore { account, ids, answer } => {
                let outcome = self.restore(batch, account, &ids).await;
                batch.answer(answer, outcome);
            }
            Alone::Purge { before_s, answer } => {
                let outcome = self.purge(batch, before_s).await;
                batch.answer(answer, outcome);
            }
            Alone::Collect { answer } => {
                let outcome = self.collect(batch).await;
                batch.answer(answer, outcome);
            }
            Alone::Relocate { moves, answer } => {
                let outcome = self.relocate(batch, moves).await;
                batch.answer(answer, outcome);
            }
            Alone::Note { key, value, answer } => {
                let sql = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
                let outcome = match batch.tx().await {
                    Ok(tx) => tx.run(sql, vec![key.into(), value.into()]).await.map(drop),
                    Err(error) => Err(error),
                };
                batch.answer(answer, outcome);
            }
            Alone::CountPack { pack, answer } => {
                let sql = "SELECT COUNT(*) FROM body WHERE pack = $1";
                let rows = db::fetch(&self.db, sql, vec![pack.into()]).await;
                let outcome = rows.and_then(|rows| rows.first().map_or(Ok(0), |r| r.uint(0)));
                batch.answer(answer, outcome);
            }
        }
    }

    async fn finish(&mut self, mut batch: Batch) {
        let outcome = match batch.broken.take() {
            Some(error) => Err(error),
            None => batch.commit(&mut self.state, self.commit_delay).await,
        };
        match &outcome {
            Ok(()) => {
                if let Some((seq, log)) = batch.log.take() {
                    self.outbox.push(seq, log, batch.arrived);
                }
                self.publish(&mut batch);
            }
            Err(error) => {
                tracing::warn!(%error, operations = batch.answers.len(), "a change of the store was not committed");
                batch.abandon();
                self.state.forget();
                if let Err(error) = self.outbox.look_again(&self.db).await {
                    tracing::warn!(%error, "whether it was committed after all is asked again with the next change");
                }
            }
        }
        for answer in batch.answers.drain(..) {
            answer(outcome.clone());
        }
        self.state.age();
        self.published.live.trim();
    }

    fn publish(&mut self, batch: &mut Batch) {
        let published = &self.published;
        for (id, snapshot) in batch.finish_views(&mut self.state) {
            published.live.publish(id, snapshot);
        }
        published.usage_epoch.fetch_add(1, Ordering::SeqCst);
        for id in &batch.accounts {
            match self.state.accounts.get(id) {
                Some(a) => published.accounts.insert(*id, (a.domain, a.usage)),
                None => drop(published.accounts.remove(id)),
            }
        }
        for id in &batch.domains {
            match self.state.domains.get(id) {
                Some(usage) => published.domains.insert(*id, *usage),
                None => drop(published.domains.remove(id)),
            }
        }
        for (account, notice) in batch.notices.drain() {
            published.live.notify(account, notice);
        }
        if !batch.unclaim.is_empty() {
            let mut claims = published.claims.lock();
            for id in batch.unclaim.drain(..) {
                claims.remove(&id);
            }
        }
        if batch.spooled {
            published.spooled.send_modify(|n| *n += 1);
        }
        if let Some(last) = batch.changes.last() {
            published.head.send_replace(last.modseq);
        }
    }

    /// The next number.
    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// A new UIDVALIDITY: rises with the clock, and with each mailbox, and is never given twice.
    pub(super) fn next_uid_validity(&mut self, batch: &mut Batch) -> UidValidity {
        let now = u32::try_from(batch.now_s.max(1)).unwrap_or(u32::MAX - 1);
        self.uid_validity = now.max(self.uid_validity.saturating_add(1));
        batch.uid_validity = Some(self.uid_validity);
        UidValidity(self.uid_validity)
    }

    /// Reads in bulk what the batch will need.
    async fn prefetch(&mut self, batch: &mut Batch, ops: &[Op]) -> Result<(), Error> {
        let mut accounts = HashSet::new();
        let mut domains = HashSet::new();
        let mut names = HashSet::new();
        let mut mailboxes = HashSet::new();
        let mut hashes = HashSet::new();
        for op in ops {
            let deliveries: Vec<&crate::Delivery> = match op {
                Op::Deliver(d, _) => vec![d],
                Op::SpoolUpdate(u, _) => u.deliver.iter().collect(),
                Op::SpoolDeliver { delivery, .. } => vec![delivery],
                _ => vec![],
            };
            for target in deliveries.iter().flat_map(|d| &d.targets) {
                accounts.insert(target.account);
                domains.insert(target.domain);
                names.insert((target.account, crate::INBOX.to_owned()));
                if let Folder::Named(name) = &target.folder {
                    names.insert((target.account, crate::names::normal(name)));
                }
            }
            match op {
                Op::Append(a, _) => {
                    mailboxes.insert(a.mailbox);
                    mailboxes.extend(a.replace.map(|r| r.0));
                }
                Op::Merge(items, _) => mailboxes.extend(items.iter().filter_map(crate::merge::MergeItem::mailbox)),
                Op::SetFlags(s, _) => drop(mailboxes.insert(s.mailbox)),
                Op::Expunge { mailbox, .. } | Op::Attach(mailbox, ..) | Op::SpecialUse { mailbox, .. } => {
                    mailboxes.insert(*mailbox);
                }
                Op::Transfer(t, _) => mailboxes.extend([t.from, t.to]),
                Op::Furnish { account, domain, .. } => {
                    accounts.insert(*account);
                    domains.insert(*domain);
                }
                _ => {}
            }
            op.bodies(|b| {
                hashes.insert(b.hash());
            });
        }
        let db = batch.db.clone();
        let unknown: Vec<Value> = hashes
            .iter()
            .filter(|h| batch.fresh.get(*h) != Some(&false) && self.state.bodies.get(*h).is_none())
            .map(|h| h.0.to_vec().into())
            .collect();
        if !unknown.is_empty() {
            for row in db::fetch_in(&db, "SELECT hash, id FROM body WHERE hash", &[], &unknown, "").await? {
                self.state.bodies.insert(super::packer::hash_of(&row.blob(0)?)?, BodyId(row.int(1)?));
            }
        }
        self.state.load_mailboxes(&db, mailboxes.iter().copied()).await?;
        for id in mailboxes {
            accounts.extend(self.state.mailboxes.get(&id).map(|m| m.account));
        }
        self.state.load_accounts(&db, accounts.into_iter()).await?;
        self.state.load_domains(&db, domains.into_iter()).await?;
        self.state.load_names(&db, names.into_iter()).await
    }

    /// The row of a body that is on the disk: the one it has, or a new one.
    pub(super) fn body(&mut self, batch: &mut Batch, body: &Prepared) -> Result<BodyId, Error> {
        let place = batch.places.get(&body.hash()).copied();
        if let Some(id) = self.state.bodies.get(&body.hash()).copied() {
            if batch.fresh.contains_key(&body.hash())
                && let Some(place) = place
                && !batch.bodies.iter().any(|b| b.id == id)
            {
                batch.mended.push((id, place));
                self.published.places.insert(id, place);
            }
            return Ok(id);
        }
        let Some(place) = place else {
            return Err(Error::index(format!("the message {} reached the index before the packs", body.hash())));
        };
        let id = BodyId(self.number().cast_signed());
        batch.bodies.push(super::batch::NewBody { id, body: body.clone(), place });
        self.state.bodies.insert(body.hash(), id);
        self.published.places.insert(id, place);
        self.published.parsed.insert(id, body.inner.parsed.clone());
        Ok(id)
    }

    /// The mailbox is cached, or does not exist.
    pub(super) async fn need(&mut self, batch: &Batch, id: MailboxId) -> Result<(), Error> {
        self.state.load_mailboxes(&batch.db, std::iter::once(id)).await?;
        let account = self.state.mailboxes.get(&id).map(|m| m.account).ok_or(Error::NoMailbox(id))?;
        self.state.load_accounts(&batch.db, std::iter::once(account)).await
    }

    /// Puts a message into a mailbox that is cached.
    pub(super) fn add(&mut self, batch: &mut Batch, mailbox: MailboxId, entry: NewEntry) -> Result<Entry, Error> {
        let modseq = self.number();
        let Some(m) = self.state.mailboxes.get_mut(&mailbox) else { return Err(Error::NoMailbox(mailbox)) };
        if m.uid_next.0 == u32::MAX {
            return Err(Error::TooMany { what: "messages in the life of a mailbox", most: u32::MAX as usize });
        }
        let entry = Entry {
            uid: m.uid_next,
            flags: entry.flags,
            modseq: ModSeq(modseq),
            body: entry.body,
            size_bytes: entry.size_bytes,
            received_s: entry.received_s,
            saved_s: batch.now_s,
        };
        m.uid_next = Uid(m.uid_next.0 + 1);
        m.highest_modseq = ModSeq(modseq);
        m.count(entry.flags, entry.size_bytes);
        batch.change(modseq, m, ChangeKind::Added, entry.uid, entry.body);
        let account = m.account;
        batch.messages.insert((mailbox, entry.uid), Some(entry));
        batch.mailboxes.insert(mailbox);
        batch.refer(entry.body, 1);
        if let Some(view) = batch.views.get_mut(&mailbox) {
            view.added.push(entry);
        } else if let Some(snapshot) = self.published.live.current(mailbox) {
            batch.views.insert(mailbox, View { snapshot: (*snapshot).clone(), added: vec![entry] });
        }
        self.charge(batch, account, 1, i64::from(entry.size_bytes));
        Ok(entry)
    }

    /// Counts messages in or out of an account that is cached, and its domain.
    pub(super) fn charge(&mut self, batch: &mut Batch, account: AccountId, messages: i64, size_bytes: i64) {
        let add = |usage: &mut Usage| {
            usage.messages = usage.messages.saturating_add_signed(messages);
            usage.size_bytes = usage.size_bytes.saturating_add_signed(size_bytes);
        };
        let Some(a) = self.state.accounts.get_mut(&account) else { return };
        add(&mut a.usage);
        batch.accounts.insert(account);
        let domain = a.domain;
        if let Some(usage) = self.state.domains.get_mut(&domain) {
            add(usage);
            batch.domains.insert(domain);
        }
    }

    /// The account is cached with this domain; a new account begins here, and one that moved takes its usage along.
    pub(super) fn settle_account(&mut self, batch: &mut Batch, id: AccountId, domain: DomainId) -> Account {
        let account = match self.state.accounts.get(&id).copied() {
            Some(a) if a.domain == domain => return a,
            Some(mut a) => {
                for (which, sign) in [(a.domain, -1), (domain, 1)] {
                    if let Some(usage) = self.state.domains.get_mut(&which) {
                        usage.messages = usage.messages.saturating_add_signed(sign * a.usage.messages.cast_signed());
                        usage.size_bytes = usage.size_bytes.saturating_add_signed(sign * a.usage.size_bytes.cast_signed());
                        batch.domains.insert(which);
                    }
                }
                a.domain = domain;
                a
            }
            None => Account { domain, usage: Usage::default(), furnished: false },
        };
        batch.facts.fact(Fact::Account { id: id.0, domain: domain.0, furnished: account.furnished });
        self.state.accounts.insert(id, account);
        batch.accounts.insert(id);
        account
    }

    /// The working snapshot of a mailbox is in the batch: the live one, or `base` or the database brought up to date.
    pub(super) async fn view(&mut self, batch: &mut Batch, id: MailboxId, base: Option<Snapshot>) -> Result<(), Error> {
        self.need(batch, id).await?;
        self.state.load_keywords(&batch.db, std::iter::once(id)).await?;
        let Some(m) = self.state.mailboxes.get(&id).cloned() else { return Err(Error::NoMailbox(id)) };
        if !batch.views.contains_key(&id) {
            let snapshot = match (self.published.live.current(id), base) {
                (Some(live), _) => (*live).clone(),
                (None, Some(base)) if base.uid_validity == m.uid_validity => self.catch_up(batch, &m, base).await?,
                (None, _) => self.catch_up(batch, &m, load(&batch.db, id).await?).await?,
            };
            batch.views.insert(id, View { snapshot, added: Vec::new() });
        }
        if let Some(view) = batch.views.get_mut(&id) {
            let names = m.keywords.unwrap_or_default();
            if *view.snapshot.keywords != names {
                view.snapshot = view.snapshot.with_keywords(names);
            }
            view.settle(m.highest_modseq);
        }
        Ok(())
    }

    /// Applies what was committed behind `base`, and what this batch added.
    async fn catch_up(&mut self, batch: &Batch, m: &Mailbox, base: Snapshot) -> Result<Snapshot, Error> {
        let mut snapshot = base;
        if snapshot.highest_modseq < m.highest_modseq {
            let args = vec![Value::from(m.id.0), snapshot.highest_modseq.0.into()];
            let sql = format!("{ENTRY} WHERE mailbox = $1 AND modseq > $2 ORDER BY uid");
            let rows = db::fetch(&batch.db, sql, args.clone()).await?;
            let entries = rows.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
            let sql = "SELECT uid FROM change WHERE mailbox = $1 AND modseq > $2 AND kind = 3 ORDER BY uid";
            let rows = db::fetch(&batch.db, sql, args).await?;
            let removed = rows.iter().map(|r| r.u32(0).map(Uid)).collect::<Result<Vec<_>, _>>()?;
            let (updated, added): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|e| e.uid < snapshot.uid_next);
            snapshot = snapshot.apply(&updated, &removed, &added, m.highest_modseq);
        }
        // Without a view in this batch, only additions can have happened to the mailbox.
        let range = (m.id, snapshot.uid_next)..=(m.id, Uid(u32::MAX));
        let added: Vec<Entry> = batch.messages.range(range).filter_map(|(_, e)| *e).collect();
        let mut snapshot = snapshot.apply(&[], &[], &added, m.highest_modseq);
        snapshot.uid_next = m.uid_next;
        Ok(snapshot)
    }
}

/// A message on its way into a mailbox.
#[derive(Clone, Copy)]
pub(crate) struct NewEntry {
    pub body: BodyId,
    pub flags: Flags,
    pub size_bytes: u32,
    pub received_s: i64,
}

pub(crate) const ENTRY: &str = "SELECT uid, flags, modseq, body, size_bytes, received_s, saved_s FROM message";

pub(crate) fn entry(row: &Row) -> Result<Entry, Error> {
    Ok(Entry {
        uid: Uid(row.u32(0)?),
        flags: Flags(row.uint(1)?),
        modseq: ModSeq(row.uint(2)?),
        body: BodyId(row.int(3)?),
        size_bytes: row.u32(4)?,
        received_s: row.int(5)?,
        saved_s: row.int(6)?,
    })
}

/// A snapshot as the database has it now. Reads the mailbox row first: what is committed between the two reads has a higher
/// modseq and is applied again by the writer, which changes nothing.
pub(crate) async fn load(db: &Database, id: MailboxId) -> Result<Snapshot, Error> {
    let rows = db::fetch(db, format!("{}id = $1", super::state::MAILBOX), vec![id.0.into()]).await?;
    let m = Mailbox::read(rows.first().ok_or(Error::NoMailbox(id))?)?;
    let rows = db::fetch(db, format!("{ENTRY} WHERE mailbox = $1 ORDER BY uid"), vec![id.0.into()]).await?;
    let entries = rows.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    let rows = db::fetch(db, "SELECT name FROM keyword WHERE mailbox = $1 ORDER BY place", vec![id.0.into()]).await?;
    let keywords = rows.iter().map(|r| r.text(0)).collect::<Result<Vec<_>, _>>()?;
    let next = entries.last().map_or(m.uid_next, |e| m.uid_next.max(Uid(e.uid.0 + 1)));
    Ok(Snapshot::new(m.uid_validity, next, m.highest_modseq, keywords, &entries))
}
