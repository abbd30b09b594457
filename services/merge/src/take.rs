//! Taking in what is missing.

use crate::compare::{Box_, Missing, Other, Plan, Unflagged, count, named};
use crate::people::{Found, Home};
use crate::queue::Requeue;
use crate::report::Report;
use crate::{Error, Options, Sides, Step, Watch};
use std::collections::BTreeMap;
use tokio::task::JoinHandle;
use twinpost_message::{AccountId, DomainId, Flags, MailboxId};
use twinpost_store::{AppendMessage, INBOX, Limits, MailboxInfo, MergeItem, MergeOutcome, MergeWhat, Prepared, RECOVERED, Store};

/// Things that are taken in with one commit, and bytes of their messages, about.
const BATCH_ITEMS: usize = 500;
const BATCH_BYTES: u64 = 16 << 20;

/// What became of a batch.
type Committing = JoinHandle<Result<Vec<MergeOutcome>, twinpost_store::Error>>;

struct Take<'a> {
    sides: &'a Sides,
    other: &'a Other,
    watch: &'a Watch,
    done: u64,
    total: u64,
    /// Commits while the next batch is read.
    committing: Option<Committing>,
}

/// Counts of a mailbox that a batch adds to.
#[derive(Default)]
struct Gain {
    taken: u64,
    flagged: u64,
    refused: Vec<String>,
}

pub(crate) async fn take(sides: &Sides, other: &Other, options: Options, watch: &Watch, plan: &mut Plan) -> Result<(), Error> {
    let work = |m: &Box_| (m.messages.len() + m.flags.len()) as u64;
    let total = plan.boxes.values().map(work).sum::<u64>() + plan.queue.len() as u64;
    let mut run = Take { sides, other, watch, done: 0, total, committing: None };
    let taken = run.everything(options, plan).await;
    // What is under way is finished, whatever stopped the rest.
    let last = run.settle(&mut Gain::default()).await;
    count(plan);
    let quotas = over_quota(sides, plan).await;
    taken.and(last).and(quotas)
}

impl Take<'_> {
    async fn everything(&mut self, options: Options, plan: &mut Plan) -> Result<(), Error> {
        self.watch.tell(Step::Take, 0, self.total);
        let made: Vec<AccountId> = plan.accounts_made.clone();
        for there in made {
            self.watch.go_on()?;
            self.home(there, &mut plan.people, &mut plan.report).await?;
        }
        let mut boxes = std::mem::take(&mut plan.boxes);
        let taken = self.boxes(&mut boxes, plan).await;
        plan.boxes = boxes;
        taken?;
        let queue = std::mem::take(&mut plan.queue);
        self.queue(queue, options, plan).await
    }

    async fn boxes(&mut self, boxes: &mut BTreeMap<MailboxId, Box_>, plan: &mut Plan) -> Result<(), Error> {
        for m in boxes.values_mut() {
            let made = m.difference.made_there && m.here.is_none();
            if m.messages.is_empty() && m.flags.is_empty() && !made {
                continue;
            }
            self.watch.go_on()?;
            let Some(home) = self.home(m.there.account, &mut plan.people, &mut plan.report).await? else { continue };
            let unknown = matches!(plan.people.get(&m.there.account), Some(Found::Unknown));
            // Nobody's mailboxes are not made when there is nothing in them.
            if unknown && m.messages.is_empty() {
                continue;
            }
            let here = self.mailbox(m, &home, unknown, &mut plan.report).await?;
            m.difference.here = Some(here.name.clone());
            let mut gain = Gain::default();
            let filled = self.fill(m, here.id, &mut gain, &mut plan.report).await;
            let settled = self.settle(&mut gain).await;
            m.difference.counts.taken += gain.taken;
            m.difference.counts.flagged += gain.flagged;
            for why in gain.refused {
                plan.report.fault(format!("{}, mailbox {:?}: {why}", home.address, m.there.name));
            }
            m.here = Some(here);
            filled.and(settled)?;
        }
        Ok(())
    }

    /// The home of an account, made if it was made there; none: its mail is not taken in.
    async fn home(
        &self,
        there: AccountId,
        people: &mut BTreeMap<AccountId, Found>,
        report: &mut Report,
    ) -> Result<Option<Home>, Error> {
        match people.get(&there) {
            Some(Found::Here(home)) => Ok(Some(home.clone())),
            Some(Found::Removed { .. }) => Ok(None),
            Some(Found::MadeThere { address }) => match self.sides.people.make(there).await {
                Ok(home) => {
                    people.insert(there, Found::Here(home.clone()));
                    Ok(Some(home))
                }
                Err(Error::Directory(error)) => {
                    report.fault(format!("{address} cannot be made here, its mail goes to {RECOVERED} of account 0: {error}"));
                    people.insert(there, Found::Unknown);
                    Ok(Some(nobody()))
                }
                Err(error) => Err(error),
            },
            Some(Found::Unknown) | None => Ok(Some(nobody())),
        }
    }

    /// The mailbox here, made if it is missing.
    async fn mailbox(&self, m: &Box_, home: &Home, unknown: bool, report: &mut Report) -> Result<MailboxInfo, Error> {
        let store = &self.sides.store;
        if let Some(here) = &m.here {
            match store.mailbox(here.id).await {
                Err(twinpost_store::Error::NoMailbox(_)) => {}
                found => return Ok(found?),
            }
        }
        store.open_account(home.account, home.domain).await?;
        let name = if unknown { RECOVERED } else { m.there.name.as_str() };
        match store.mailbox_named(home.account, name).await {
            Err(twinpost_store::Error::NoMailboxName(_)) => {}
            found => return Ok(found?),
        }
        let uses = store.mailboxes(home.account).await?;
        let free = m.there.special_use.filter(|u| uses.iter().all(|m| m.special_use != Some(*u)));
        match store.create(home.account, name, free).await {
            // Somebody was faster.
            Ok(_) | Err(twinpost_store::Error::Exists(_)) => {}
            Err(error) if error.is_internal() => return Err(error.into()),
            Err(error) => {
                report.fault(format!("{}: the mailbox {name:?} cannot be made, its mail goes to {INBOX}: {error}", home.address));
                return Ok(store.mailbox_named(home.account, INBOX).await?);
            }
        }
        if m.there.subscribed && !unknown {
            match store.subscribe(home.account, name, true).await {
                Err(error) if error.is_internal() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(store.mailbox_named(home.account, name).await?)
    }

    async fn fill(&mut self, m: &mut Box_, here: MailboxId, gain: &mut Gain, report: &mut Report) -> Result<(), Error> {
        let keywords = self.other.store().keywords(m.there.id).await?;
        let mut messages = m.messages.iter().peekable();
        while messages.peek().is_some() {
            self.watch.go_on()?;
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while batch.len() < BATCH_ITEMS
                && bytes < BATCH_BYTES
                && let Some(next) = messages.next()
            {
                bytes += u64::from(next.placed.size_bytes);
                batch.push(next);
            }
            let (items, unreadable) = self.read(&batch, here, &keywords).await?;
            for why in unreadable {
                m.difference.counts.unreadable += 1;
                report.fault(format!("Mailbox {:?}: {why}", m.there.name));
            }
            self.commit(items, gain).await?;
        }
        for batch in m.flags.chunks(BATCH_ITEMS) {
            self.watch.go_on()?;
            let item = |f: &Unflagged| MergeItem {
                key: f.key,
                what: MergeWhat::Flags { mailbox: f.mailbox, uid: f.uid, flags: f.flags.clone() },
            };
            self.commit(batch.iter().map(item).collect(), gain).await?;
        }
        Ok(())
    }

    /// Reads messages of the other side; those that cannot be read come back as sentences.
    async fn read(
        &self,
        batch: &[&Missing],
        mailbox: MailboxId,
        keywords: &[String],
    ) -> Result<(Vec<MergeItem>, Vec<String>), Error> {
        let ids: Vec<_> = batch.iter().map(|m| m.placed.body).collect();
        self.other.store().warm(&ids).await?;
        let (mut bodies, mut unreadable) = (Vec::new(), Vec::new());
        for m in batch {
            match self.other.store().body(m.placed.body).await {
                Ok(bytes) => bodies.push((*m, bytes)),
                Err(error) => {
                    unreadable.push(format!("message {} of {} cannot be read there: {error}", m.placed.uid, m.placed.received_s));
                }
            }
        }
        let bytes: Vec<_> = bodies.iter().map(|(_, bytes)| bytes.clone()).collect();
        let prepared: Vec<Prepared> = blocking(move || bytes.iter().map(Store::prepare).collect()).await?;
        let item = |((m, _), body): ((&Missing, _), Prepared)| {
            let mut flags = named(m.placed.flags, keywords);
            // Who merges wants to see everything: an EXPUNGE would take it away.
            flags.system = flags.system.without(Flags::DELETED);
            let message = AppendMessage { body, flags, received_s: m.placed.received_s };
            MergeItem { key: m.key, what: MergeWhat::Message { mailbox, message } }
        };
        Ok((bodies.into_iter().zip(prepared).map(item).collect(), unreadable))
    }

    async fn commit(&mut self, items: Vec<MergeItem>, gain: &mut Gain) -> Result<(), Error> {
        self.settle(gain).await?;
        let store = self.sides.store.clone();
        self.committing = Some(tokio::spawn(async move { store.merge(items).await }));
        Ok(())
    }

    /// Waits for the batch that is being committed.
    async fn settle(&mut self, gain: &mut Gain) -> Result<(), Error> {
        let Some(committing) = self.committing.take() else { return Ok(()) };
        let outcomes = committing.await.map_err(|_| twinpost_store::Error::Closed)??;
        self.done += outcomes.len() as u64;
        for outcome in outcomes {
            match outcome {
                MergeOutcome::Stored(_) => gain.taken += 1,
                MergeOutcome::Flagged(changed) => gain.flagged += u64::from(changed),
                MergeOutcome::Refused(error) => gain.refused.push(error.to_string()),
                MergeOutcome::Known | MergeOutcome::Queued(_) => {}
            }
        }
        self.watch.tell(Step::Take, self.done, self.total);
        Ok(())
    }

    async fn queue(&mut self, queue: Vec<Requeue>, options: Options, plan: &mut Plan) -> Result<(), Error> {
        for r in queue {
            self.watch.go_on()?;
            if let Some(account) = r.entry.account
                && !plan.people.contains_key(&account)
            {
                let found = self.sides.people.find(account, self.other.divergence.common_s).await?;
                plan.people.insert(account, found);
            }
            let bytes = match self.other.store().body(r.entry.body).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    plan.report.totals.queue_unreadable += 1;
                    plan.report.fault(format!("The outbound message {} cannot be read there: {error}", r.entry.trace));
                    continue;
                }
            };
            let body = blocking(move || Store::prepare(&bytes)).await?;
            let spool = r.spool(&plan.people, options);
            let what = MergeWhat::Queue { body, trace: r.entry.trace, spool };
            for outcome in self.sides.store.merge(vec![MergeItem { key: r.key, what }]).await? {
                if let MergeOutcome::Queued(id) = outcome {
                    plan.report.totals.queued += 1;
                    tracing::info!(trace = %r.entry.trace, queue = %id, "queued again from a store that was set aside");
                    if let Some(told) = r.listed.and_then(|n| plan.report.queue.get_mut(n)) {
                        told.here = Some(id.0);
                    }
                }
            }
            self.done += 1;
            self.watch.tell(Step::Take, self.done, self.total);
        }
        Ok(())
    }
}

/// Account 0: an operator looks there for what has lost its owner.
fn nobody() -> Home {
    Home { account: AccountId(0), domain: DomainId(0), address: "account 0".to_owned(), limits: Limits::default() }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(|_| twinpost_store::Error::Closed)?)
}

/// Says which accounts are above a limit now. Nothing was held back for it.
async fn over_quota(sides: &Sides, plan: &mut Plan) -> Result<(), Error> {
    let mut over = 0;
    for account in &mut plan.report.accounts {
        let taken = account.mailboxes.iter().any(|m| m.counts.taken > 0);
        let Some(Found::Here(home)) = plan.people.get(&AccountId(account.there)).filter(|_| taken) else { continue };
        let (mine, domain) = (sides.store.usage(home.account).await?, sides.store.domain_usage(home.domain).await?);
        if let Some(limit) = home.limits.broken_by(&mine, &domain, 0, 0) {
            account.over_quota = Some(limit.to_string());
            over += 1;
        }
    }
    plan.report.totals.over_quota = over;
    Ok(())
}
