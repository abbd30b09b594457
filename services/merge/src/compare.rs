//! What only the other side has.
//!
//! Numbers up to [`Divergence::number`] mean the same on both sides, those above belong to one side. So a message of the other side
//! is new if the change that brought it is above; what is left is to see which of those are here all the same: taken in by an
//! earlier run, delivered on both sides from a common queue entry, or only moved there.

use crate::paths::{Work, data_of};
use crate::people::{Found, Home};
use crate::queue::{self, Requeue};
use crate::report::{
    ACCOUNTS_MAX, AccountDifference, Counts, IndexUsed, MAILBOXES_MAX, MailboxDifference, Report, Run, SAMPLES_MAX, Sample,
    Totals,
};
use crate::{Error, Sides, Step, Watch, paths, same};
use std::collections::{BTreeMap, HashMap, HashSet};
use twinpost_message::{AccountId, BodyHash, BodyId, Flags, MailboxId, ModSeq, Uid};
use twinpost_store::{
    Aside, AsideIndex, ChangeKind, Divergence, FlagNames, INBOX, MailboxInfo, MergeKey, Placed, RECOVERED, Store, ThereNow,
};

/// Rows that are asked for at once.
const PAGE_ROWS: usize = 4_000;

/// Flags that a message gets from the other side. `\Deleted` and `\Draft` are no opinion about mail that both have.
const ADDED_FLAGS: Flags = Flags(Flags::SEEN.0 | Flags::ANSWERED.0 | Flags::FLAGGED.0);

/// The other side, open for reading.
pub(crate) struct Other {
    pub aside: Aside,
    pub divergence: Divergence,
}

impl Other {
    pub async fn open(sides: &Sides, work: &Work, watch: &Watch) -> Result<Self, Error> {
        let dir = data_of(&sides.aside).join("store");
        if !dir.is_dir() {
            return Err(Error::Nothing(sides.aside.clone()));
        }
        watch.go_on()?;
        let progress = |done, total| watch.tell(Step::Open, done, total);
        let aside = Box::pin(Aside::open(&dir, &work.dir, progress)).await?;
        match Box::pin(sides.store.divergence(&aside)).await {
            Ok(Some(divergence)) => Ok(Self { aside, divergence }),
            Ok(None) => {
                close(aside).await;
                Err(Error::Foreign(sides.aside.clone()))
            }
            Err(error) => {
                close(aside).await;
                Err(error.into())
            }
        }
    }

    pub fn store(&self) -> &Store {
        self.aside.store()
    }
    /// It belongs to both sides.
    pub fn is_common(&self, number: i64) -> bool {
        number.cast_unsigned() <= self.divergence.number.0
    }
    pub async fn close(self) {
        close(self.aside).await;
    }
}

async fn close(aside: Aside) {
    if let Err(error) = aside.close().await {
        tracing::warn!(%error, "a working copy stays; the next run takes it away");
    }
}

/// A message that is to be taken in.
pub(crate) struct Missing {
    pub placed: Placed,
    pub key: MergeKey,
}

/// Flags that are to be added.
pub(crate) struct Unflagged {
    pub mailbox: MailboxId,
    pub uid: Uid,
    pub flags: FlagNames,
    pub key: MergeKey,
}

/// A mailbox of the other side.
pub(crate) struct Box_ {
    pub there: MailboxInfo,
    /// The mailbox here, if there is one.
    pub here: Option<MailboxInfo>,
    pub messages: Vec<Missing>,
    pub flags: Vec<Unflagged>,
    pub difference: MailboxDifference,
}

/// What is to be done.
pub(crate) struct Plan {
    pub report: Report,
    /// Where mail of the other side's accounts belongs.
    pub people: BTreeMap<AccountId, Found>,
    /// Accounts of the other side's directory that were made there, with mail or without.
    pub accounts_made: Vec<AccountId>,
    pub boxes: BTreeMap<MailboxId, Box_>,
    pub queue: Vec<Requeue>,
}

/// The name of a placement in the other store, the same in every copy of it.
fn message_key(p: &Placed) -> MergeKey {
    let mut text = b"message".to_vec();
    text.extend(p.mailbox.0.to_le_bytes());
    text.extend(p.uid.0.to_le_bytes());
    text.extend(p.hash.0);
    MergeKey::of(&text)
}

fn flags_key(p: &Placed, names: &FlagNames) -> MergeKey {
    let mut text = b"flags".to_vec();
    text.extend(p.mailbox.0.to_le_bytes());
    text.extend(p.uid.0.to_le_bytes());
    text.extend(p.hash.0);
    text.extend(names.system.0.to_le_bytes());
    for name in &names.keywords {
        text.extend(name.to_ascii_lowercase().bytes());
        text.push(0);
    }
    MergeKey::of(&text)
}

/// Names of flags whose keywords have the numbers of this mailbox.
pub(crate) fn named(flags: Flags, keywords: &[String]) -> FlagNames {
    let has = |n: &usize| flags.contains(Flags::keyword(*n));
    let keywords = (0..keywords.len()).filter(has).map(|n| keywords[n].clone()).collect();
    FlagNames { system: flags, keywords }
}

/// What happened there after they parted.
#[derive(Default)]
struct Happened {
    /// Messages that came, by mailbox and UID.
    came: HashSet<(MailboxId, Uid)>,
    /// Messages that went, with their bodies.
    went: Vec<(AccountId, MailboxId, Uid, BodyId)>,
    /// Bodies of messages that came and are there.
    stays: HashSet<(AccountId, BodyId)>,
    mailboxes_gone: HashSet<MailboxId>,
    mailboxes_renamed: HashSet<MailboxId>,
}

struct Compare<'a> {
    sides: &'a Sides,
    other: &'a Other,
    watch: &'a Watch,
    plan: Plan,
    happened: Happened,
    /// Mailboxes here that were there before they parted.
    common: HashMap<MailboxId, MailboxInfo>,
    /// Messages that both have although a change above the divergence says that they came: an index that was made again.
    artifacts: Vec<Placed>,
}

pub(crate) async fn compare(sides: &Sides, other: &Other, watch: &Watch) -> Result<Plan, Error> {
    let index = match other.aside.index() {
        AsideIndex::Own => IndexUsed::Own,
        AsideIndex::Made { why, report } => IndexUsed::Made {
            why: why.clone(),
            faults: report.faults.clone(),
            last_moment: report.last_moment,
            recovered: report.recovered,
        },
    };
    let report = Report {
        version: 1,
        run: Run::Compared,
        began_s: paths::now_s(),
        ended_s: None,
        aside: sides.aside.clone(),
        index,
        divergence: other.divergence.clone(),
        totals: Totals::default(),
        accounts: Vec::new(),
        more_accounts: 0,
        queue: Vec::new(),
        names_there: sides.people.names_there(),
        faults: Vec::new(),
        faults_total: 0,
    };
    let plan = Plan { report, people: BTreeMap::new(), accounts_made: Vec::new(), boxes: BTreeMap::new(), queue: Vec::new() };
    let (happened, common, artifacts) = (Happened::default(), HashMap::new(), Vec::new());
    let mut run = Compare { sides, other, watch, plan, happened, common, artifacts };
    if let Some(why) = sides.people.fault() {
        run.plan
            .report
            .fault(format!("The directory of the other side cannot be read ({why}): accounts are told by their numbers."));
    }
    run.changes().await?;
    run.mailboxes().await?;
    let came = run.came().await?;
    run.sort(came).await?;
    run.deleted().await?;
    run.flags().await?;
    run.plan.queue = queue::compare(sides, other, &mut run.plan.report).await?;
    run.accounts().await?;
    run.samples().await?;
    let mut plan = run.plan;
    count(&mut plan);
    Ok(plan)
}

impl Compare<'_> {
    fn since(&self) -> ModSeq {
        self.other.divergence.number
    }

    /// Reads the change log of the other side.
    async fn changes(&mut self) -> Result<(), Error> {
        let mut at = self.since();
        let total = self.other.store().head().borrow().0.saturating_sub(at.0);
        loop {
            self.watch.go_on()?;
            self.watch.tell(Step::Compare, at.0 - self.since().0, total);
            let page = self.other.store().changes(at, PAGE_ROWS).await?;
            for c in &page {
                at = c.modseq;
                match c.kind {
                    ChangeKind::Added => drop(self.happened.came.insert((c.mailbox, c.uid))),
                    ChangeKind::Expunged => self.happened.went.push((c.account, c.mailbox, c.uid, c.body)),
                    ChangeKind::MailboxDeleted => drop(self.happened.mailboxes_gone.insert(c.mailbox)),
                    ChangeKind::MailboxRenamed => drop(self.happened.mailboxes_renamed.insert(c.mailbox)),
                    _ => {}
                }
            }
            if page.len() < PAGE_ROWS {
                return Ok(());
            }
        }
    }

    async fn person(&mut self, there: AccountId) -> Result<&Found, Error> {
        if !self.plan.people.contains_key(&there) {
            let found =
                if there.0 == 0 { Found::Unknown } else { self.sides.people.find(there, self.other.divergence.common_s).await? };
            self.plan.people.insert(there, found);
        }
        Ok(&self.plan.people[&there])
    }

    /// Reads the mailboxes of both sides: those here that are common, all there.
    async fn mailboxes(&mut self) -> Result<(), Error> {
        let mut after = MailboxId(i64::MIN);
        'here: loop {
            self.watch.go_on()?;
            let page = self.sides.store.every_mailbox(after, PAGE_ROWS).await?;
            let last = page.len() < PAGE_ROWS;
            for m in page {
                after = m.id;
                if !self.other.is_common(m.id.0) {
                    break 'here;
                }
                self.common.insert(m.id, m);
            }
            if last {
                break;
            }
        }
        let mut after = MailboxId(i64::MIN);
        loop {
            self.watch.go_on()?;
            let page = self.other.store().every_mailbox(after, PAGE_ROWS).await?;
            let last = page.len() < PAGE_ROWS;
            for m in page {
                after = m.id;
                let here = match self.common.get(&m.id).filter(|_| self.other.is_common(m.id.0)) {
                    Some(here) => Some(here.clone()),
                    None => self.named_here(&m).await?,
                };
                let difference = MailboxDifference {
                    name: m.name.clone(),
                    here: here.as_ref().map(|h| h.name.clone()),
                    made_there: !self.other.is_common(m.id.0),
                    missing_here: here.is_none(),
                    renamed_there: self.happened.mailboxes_renamed.contains(&m.id)
                        && here.as_ref().is_some_and(|h| h.name != m.name),
                    ..MailboxDifference::default()
                };
                self.plan.boxes.insert(m.id, Box_ { there: m, here, messages: Vec::new(), flags: Vec::new(), difference });
            }
            if last {
                return Ok(());
            }
        }
    }

    /// A mailbox that was made there, or deleted here: the one of its name.
    async fn named_here(&mut self, there: &MailboxInfo) -> Result<Option<MailboxInfo>, Error> {
        let (account, name) = match self.person(there.account).await? {
            Found::Here(home) => (home.account, there.name.as_str()),
            Found::Unknown => (AccountId(0), RECOVERED),
            Found::MadeThere { .. } | Found::Removed { .. } => return Ok(None),
        };
        match self.sides.store.mailbox_named(account, name).await {
            Ok(found) => Ok(Some(found)),
            Err(twinpost_store::Error::NoMailboxName(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Messages that came there and are there.
    async fn came(&mut self) -> Result<Vec<Placed>, Error> {
        let (mut at, mut seen, mut came) = (self.since(), HashSet::new(), Vec::new());
        loop {
            self.watch.go_on()?;
            let page = self.other.store().there_now(ThereNow::Added, at, PAGE_ROWS).await?;
            let last = page.len() < PAGE_ROWS;
            for p in page {
                at = p.at;
                if self.plan.boxes.contains_key(&p.mailbox) && seen.insert((p.mailbox, p.uid)) {
                    came.push(p);
                }
            }
            if last {
                return Ok(came);
            }
        }
    }

    /// What the change log here says of messages that came here after they parted: which bodies into which mailboxes, and which of
    /// the places in `gone` were theirs.
    async fn came_here(&self, bodies: &HashMap<BodyHash, BodyId>, gone: &HashSet<(MailboxId, Uid)>) -> Result<Here, Error> {
        let names: HashMap<BodyId, BodyHash> = bodies.iter().map(|(hash, id)| (*id, *hash)).collect();
        let mut here = Here::default();
        let mut at = self.since();
        loop {
            self.watch.go_on()?;
            let page = self.sides.store.changes(at, PAGE_ROWS).await?;
            for c in &page {
                at = c.modseq;
                if c.kind != ChangeKind::Added {
                    continue;
                }
                if gone.contains(&(c.mailbox, c.uid)) {
                    here.uids.insert((c.mailbox, c.uid));
                }
                if let Some(hash) = names.get(&c.body) {
                    *here.bodies.entry((c.mailbox, *hash)).or_default() += 1;
                    *here.accounts.entry((c.account, *hash)).or_default() += 1;
                }
            }
            if page.len() < PAGE_ROWS {
                return Ok(here);
            }
        }
    }

    /// Which of these (mailbox, UID) are here now, mailbox by mailbox.
    async fn here_now(&self, wanted: impl Iterator<Item = (MailboxId, Uid)>) -> Result<HashMap<(MailboxId, Uid), Placed>, Error> {
        let mut by_mailbox: BTreeMap<MailboxId, Vec<Uid>> = BTreeMap::new();
        for (mailbox, uid) in wanted.filter(|(mailbox, _)| self.common.contains_key(mailbox)) {
            by_mailbox.entry(mailbox).or_default().push(uid);
        }
        let mut found = HashMap::new();
        for (mailbox, uids) in by_mailbox {
            self.watch.go_on()?;
            for p in self.sides.store.messages(mailbox, &uids).await? {
                found.insert((p.mailbox, p.uid), p);
            }
        }
        Ok(found)
    }

    /// Which of the messages that came there are missing here.
    async fn sort(&mut self, came: Vec<Placed>) -> Result<(), Error> {
        if came.is_empty() {
            return Ok(());
        }
        let mut bodies = HashMap::new();
        for piece in came.chunks(PAGE_ROWS) {
            self.watch.go_on()?;
            let hashes: Vec<BodyHash> = piece.iter().map(|p| p.hash).collect();
            bodies.extend(self.sides.store.bodies_named(&hashes).await?);
        }
        let keys: Vec<MergeKey> = came.iter().map(message_key).collect();
        let mut before = HashSet::new();
        for piece in keys.chunks(PAGE_ROWS) {
            before.extend(self.sides.store.merged(piece).await?);
        }
        let vanished = self.vanished(came.iter().filter(|p| self.may_be_common(p)).map(|p| p.mailbox)).await?;
        // Only of bodies that are here as well can anything be here already.
        let idle = bodies.is_empty() && vanished.is_empty();
        let mut here = if idle { Here::default() } else { self.came_here(&bodies, &vanished).await? };
        let twins = came.iter().filter(|p| bodies.contains_key(&p.hash));
        let now = self.here_now(twins.map(|p| (p.mailbox, p.uid))).await?;
        let moved_from = self.moved_from(&came).await?;
        for p in &came {
            if let Some(m) = self.plan.boxes.get(&p.mailbox) {
                self.happened.stays.insert((m.there.account, p.body));
            }
        }
        // What an earlier run took in does not stand for another message.
        for (p, _) in came.iter().zip(&keys).filter(|(_, key)| before.contains(key)) {
            here.take(self.target(p), p.hash);
        }
        for (p, key) in came.into_iter().zip(keys) {
            if before.contains(&key) {
                self.counts(p.mailbox).taken_before += 1;
                continue;
            }
            let place = (p.mailbox, p.uid);
            let twin = now.get(&place).filter(|h| h.hash == p.hash && h.saved_s == p.saved_s && h.received_s == p.received_s);
            if self.may_be_common(&p) {
                if twin.is_some() {
                    self.artifacts.push(p);
                    continue;
                }
                // It was here, and went: only an index that was made again calls it new. Its body must be old, too: a UID alone may
                // have been given on both sides.
                if self.other.is_common(p.body.0) && vanished.contains(&place) && !here.uids.contains(&place) {
                    continue;
                }
            }
            if here.has(self.target(&p), p.hash) && self.is_one_delivery(&p).await {
                here.take(self.target(&p), p.hash);
                self.counts(p.mailbox).on_both += 1;
                continue;
            }
            if self.is_only_moved(&p, &moved_from, &here) {
                self.counts(p.mailbox).moved_there += 1;
                continue;
            }
            let counts = self.counts(p.mailbox);
            counts.messages += 1;
            counts.bytes += u64::from(p.size_bytes);
            if let Some(m) = self.plan.boxes.get_mut(&p.mailbox) {
                m.messages.push(Missing { placed: p, key });
            }
        }
        Ok(())
    }

    /// Its body was there before they parted, or that cannot be said: so it may be an old message.
    fn may_be_common(&self, p: &Placed) -> bool {
        self.other.is_common(p.mailbox.0) && (self.other.is_common(p.body.0) || !self.other.divergence.exact)
    }

    fn target(&self, p: &Placed) -> Option<MailboxId> {
        self.plan.boxes.get(&p.mailbox)?.here.as_ref().map(|h| h.id)
    }

    fn counts(&mut self, mailbox: MailboxId) -> &mut Counts {
        &mut self.plan.boxes.entry(mailbox).or_insert_with(|| gone_box(mailbox)).difference.counts
    }

    /// UIDs that went from these mailboxes here.
    async fn vanished(&self, mailboxes: impl Iterator<Item = MailboxId>) -> Result<HashSet<(MailboxId, Uid)>, Error> {
        let mailboxes: HashSet<MailboxId> = mailboxes.filter(|m| self.common.contains_key(m)).collect();
        let mut gone = HashSet::new();
        for mailbox in mailboxes {
            gone.extend(self.sides.store.vanished(mailbox, ModSeq(0)).await?.into_iter().map(|uid| (mailbox, uid)));
        }
        Ok(gone)
    }

    /// Equal bytes on both sides are one message: the body is common, or it carries a trace id.
    async fn is_one_delivery(&self, p: &Placed) -> bool {
        if self.other.is_common(p.body.0) {
            return true;
        }
        // What cannot be read here is read, and told, when it is taken in.
        self.other.store().body(p.body).await.is_ok_and(|bytes| same::trace(&bytes).is_some())
    }

    /// Messages that both had and that went there: by account and body, and whether each is here still.
    async fn moved_from(&self, came: &[Placed]) -> Result<HashMap<(AccountId, BodyId), Vec<bool>>, Error> {
        let bodies: HashSet<BodyId> = came.iter().map(|p| p.body).collect();
        let of_both = |(_, mailbox, uid, body): &&(AccountId, MailboxId, Uid, BodyId)| {
            bodies.contains(body) && self.other.is_common(mailbox.0) && !self.happened.came.contains(&(*mailbox, *uid))
        };
        let went: Vec<_> = self.happened.went.iter().filter(of_both).collect();
        let now = self.here_now(went.iter().map(|w| (w.1, w.2))).await?;
        let mut from: HashMap<(AccountId, BodyId), Vec<bool>> = HashMap::new();
        for (account, mailbox, uid, body) in went {
            from.entry((*account, *body)).or_default().push(now.contains_key(&(*mailbox, *uid)));
        }
        Ok(from)
    }

    /// It left another mailbox of its account there, and is here still: where it was, or where it was moved here.
    fn is_only_moved(&self, p: &Placed, from: &HashMap<(AccountId, BodyId), Vec<bool>>, here: &Here) -> bool {
        let Some(account) = self.plan.boxes.get(&p.mailbox).map(|m| m.there.account) else { return false };
        let Some(went) = from.get(&(account, p.body)) else { return false };
        went.contains(&true) || here.accounts.get(&(account, p.hash)).is_some_and(|n| *n > 0)
    }

    /// What was deleted there.
    async fn deleted(&mut self) -> Result<(), Error> {
        let went = std::mem::take(&mut self.happened.went);
        let here = self.here_now(went.iter().map(|w| (w.1, w.2))).await?;
        for (account, mailbox, uid, body) in &went {
            let known = self.plan.boxes.contains_key(mailbox) || self.common.contains_key(mailbox);
            // One that was moved is told where it went.
            if !known || self.happened.stays.contains(&(*account, *body)) {
                continue;
            }
            if self.happened.came.contains(&(*mailbox, *uid)) {
                self.counts(*mailbox).came_and_deleted_there += 1;
            } else if here.contains_key(&(*mailbox, *uid)) {
                self.counts(*mailbox).deleted_there += 1;
            }
        }
        let gone: Vec<MailboxId> = self.happened.mailboxes_gone.iter().copied().filter(|m| self.other.is_common(m.0)).collect();
        for mailbox in gone {
            if let Some(here) = self.common.get(&mailbox).cloned() {
                let m = self.plan.boxes.entry(mailbox).or_insert_with(|| gone_box(mailbox));
                m.difference.name.clone_from(&here.name);
                m.difference.here = Some(here.name.clone());
                m.difference.gone_there = true;
                m.there.account = here.account;
                m.here = Some(here);
            }
        }
        Ok(())
    }

    /// Flags that messages of both sides got there.
    async fn flags(&mut self) -> Result<(), Error> {
        let mut changed: BTreeMap<MailboxId, Vec<Placed>> = BTreeMap::new();
        for p in self.artifacts.drain(..) {
            changed.entry(p.mailbox).or_default().push(p);
        }
        let mut at = self.since();
        loop {
            self.watch.go_on()?;
            let page = self.other.store().there_now(ThereNow::Flagged, at, PAGE_ROWS).await?;
            for p in &page {
                at = p.at;
                if self.common.contains_key(&p.mailbox) && !self.happened.came.contains(&(p.mailbox, p.uid)) {
                    changed.entry(p.mailbox).or_default().push(*p);
                }
            }
            if page.len() < PAGE_ROWS {
                break;
            }
        }
        for (mailbox, there) in changed {
            self.watch.go_on()?;
            let (theirs, ours) = (self.other.store().keywords(mailbox).await?, self.sides.store.keywords(mailbox).await?);
            let uids: Vec<Uid> = there.iter().map(|p| p.uid).collect();
            let here: HashMap<Uid, Placed> =
                self.sides.store.messages(mailbox, &uids).await?.into_iter().map(|p| (p.uid, p)).collect();
            let mut missing = Vec::new();
            for p in there {
                // One that is not here any more was deleted here.
                let Some(h) = here.get(&p.uid).filter(|h| h.hash == p.hash) else { continue };
                let (wanted, have) = (named(p.flags, &theirs), named(h.flags, &ours));
                let new = |k: &String| !have.keywords.iter().any(|other| other.eq_ignore_ascii_case(k));
                let keywords: Vec<String> = wanted.keywords.into_iter().filter(new).collect();
                let system = Flags(p.flags.0 & ADDED_FLAGS.0).without(h.flags);
                if system.0 != 0 || !keywords.is_empty() {
                    let flags = FlagNames { system, keywords };
                    let key = flags_key(&p, &flags);
                    missing.push(Unflagged { mailbox, uid: p.uid, flags, key });
                }
            }
            let keys: Vec<MergeKey> = missing.iter().map(|m| m.key).collect();
            // Somebody took them away again here.
            let before = self.sides.store.merged(&keys).await?;
            missing.retain(|m| !before.contains(&m.key));
            if let Some(m) = self.plan.boxes.get_mut(&mailbox) {
                m.difference.counts.flags += missing.len() as u64;
                m.flags = missing;
            }
        }
        Ok(())
    }

    /// Accounts that were made there, also those without mail.
    async fn accounts(&mut self) -> Result<(), Error> {
        for there in self.sides.people.accounts_there() {
            if matches!(self.person(there).await?, Found::MadeThere { .. }) {
                self.plan.accounts_made.push(there);
            }
        }
        let owners: Vec<AccountId> = self.plan.boxes.values().map(|m| m.there.account).collect();
        for owner in owners {
            self.person(owner).await?;
        }
        Ok(())
    }

    /// Some messages of each mailbox, for people.
    async fn samples(&mut self) -> Result<(), Error> {
        for m in self.plan.boxes.values_mut() {
            let some: Vec<Placed> = m.messages.iter().take(SAMPLES_MAX).map(|m| m.placed).collect();
            if some.is_empty() {
                continue;
            }
            let ids: Vec<BodyId> = some.iter().map(|p| p.body).collect();
            // A message that cannot be read is told when it is taken in.
            let Ok(parsed) = self.other.store().parsed(&ids).await else { continue };
            m.difference.samples = some
                .iter()
                .zip(parsed)
                .map(|(p, parsed)| Sample {
                    from: queue::sender_of(&parsed),
                    subject: queue::shown(&parsed.envelope.subject_text),
                    received_s: p.received_s,
                    size_bytes: p.size_bytes,
                })
                .collect();
        }
        Ok(())
    }
}

/// What came here.
#[derive(Default)]
struct Here {
    uids: HashSet<(MailboxId, Uid)>,
    bodies: HashMap<(MailboxId, BodyHash), u64>,
    accounts: HashMap<(AccountId, BodyHash), u64>,
}

impl Here {
    fn has(&self, mailbox: Option<MailboxId>, hash: BodyHash) -> bool {
        mailbox.is_some_and(|m| self.bodies.get(&(m, hash)).is_some_and(|n| *n > 0))
    }
    fn take(&mut self, mailbox: Option<MailboxId>, hash: BodyHash) {
        if let Some(n) = mailbox.and_then(|m| self.bodies.get_mut(&(m, hash))) {
            *n = n.saturating_sub(1);
        }
    }
}

/// A mailbox that is no longer there.
fn gone_box(id: MailboxId) -> Box_ {
    let there = MailboxInfo {
        id,
        account: AccountId(0),
        name: String::new(),
        uid_validity: Default::default(),
        uid_next: Uid(1),
        highest_modseq: ModSeq(0),
        messages: 0,
        unseen: 0,
        deleted: 0,
        size_bytes: 0,
        special_use: None,
        subscribed: false,
        created_s: 0,
    };
    Box_ { there, here: None, messages: Vec::new(), flags: Vec::new(), difference: MailboxDifference::default() }
}

impl Box_ {
    /// There is something to tell of it.
    pub fn differs(&self) -> bool {
        let d = &self.difference;
        // What every new account finds tells nothing.
        let made = d.made_there && d.missing_here && d.name != INBOX;
        made || d.gone_there || d.renamed_there || !d.counts.is_nothing()
    }
}

/// Writes what the mailboxes say into the report.
pub(crate) fn count(plan: &mut Plan) {
    let Totals { queue, queued, queue_unreadable, .. } = plan.report.totals;
    let mut totals = Totals { queue, queued, queue_unreadable, ..Totals::default() };
    let mut accounts: BTreeMap<AccountId, AccountDifference> = BTreeMap::new();
    let new = |there: &AccountId| {
        let found = plan.people.get(there).unwrap_or(&Found::Unknown);
        let (address, here) = match found {
            Found::Here(Home { account, address, .. }) => (address.clone(), Some(account.0)),
            Found::MadeThere { address } | Found::Removed { address } => (address.clone(), None),
            Found::Unknown => (format!("account {there}"), Some(0)),
        };
        let made_there = plan.accounts_made.contains(there) || matches!(found, Found::MadeThere { .. });
        let removed_here = matches!(found, Found::Removed { .. });
        AccountDifference { address, here, there: there.0, made_there, removed_here, ..AccountDifference::default() }
    };
    for there in &plan.accounts_made {
        accounts.insert(*there, new(there));
    }
    for m in plan.boxes.values().filter(|m| m.differs()) {
        let account = accounts.entry(m.there.account).or_insert_with(|| new(&m.there.account));
        totals.mailboxes += 1;
        totals.mailboxes_made_there += u64::from(m.difference.made_there && m.difference.missing_here);
        totals.counts.add(&m.difference.counts);
        if account.mailboxes.len() < MAILBOXES_MAX {
            account.mailboxes.push(m.difference.clone());
        } else {
            account.more_mailboxes += 1;
        }
    }
    totals.accounts = accounts.len() as u64;
    totals.accounts_made_there = accounts.values().filter(|a| a.made_there).count() as u64;
    plan.report.more_accounts = accounts.len().saturating_sub(ACCOUNTS_MAX) as u64;
    plan.report.accounts = accounts.into_values().take(ACCOUNTS_MAX).collect();
    plan.report.totals = totals;
}
