//! Messages that come in: deliveries, appends, queue entries.

use super::batch::Batch;
use super::committer::{Committer, NewEntry};
use crate::db::Value;
use crate::spool::{NewRcpt, NewSpool, Ret};
use crate::types::{Append, Appended, Change, ChangeKind, Delivered, Delivery, FlagNames, Folder, Outcome, OverQuotaPolicy};
use crate::{Error, INBOX};
use twinpost_message::{AccountId, BodyId, Flags, MailboxId, ModSeq, QueueId, TraceId, Uid};

/// System flags: what is above them are keywords.
const SYSTEM: u64 = (1 << Flags::KEYWORD_SHIFT) - 1;

/// A queue entry as a row of `spool` and rows of `spool_rcpt`.
pub(crate) fn queue_rows(
    id: i64,
    body: i64,
    size_bytes: u32,
    trace: TraceId,
    spool: &NewSpool,
    now_s: i64,
) -> (Vec<Value>, Vec<Vec<Value>>) {
    let entry = vec![
        id.into(),
        body.into(),
        size_bytes.into(),
        spool.sender.as_ref().map(ToString::to_string).into(),
        spool.ret.map(Ret::name).into(),
        spool.envid.clone().into(),
        spool.smtputf8.into(),
        spool.eight_bit.into(),
        spool.require_tls.into(),
        spool.held.into(),
        trace.0.into(),
        spool.account.map(|a| a.0).into(),
        now_s.into(),
        spool.expires_s.into(),
    ];
    let rcpt = |(n, rcpt): (u32, &NewRcpt)| {
        vec![
            id.into(),
            n.into(),
            rcpt.address.to_string().into(),
            rcpt.orcpt.clone().into(),
            u32::from(rcpt.notify.0).into(),
            spool.next_try_s.into(),
        ]
    };
    (entry, (0u32..).zip(&spool.rcpts).map(rcpt).collect())
}

impl Committer {
    pub(super) async fn deliver(&mut self, batch: &mut Batch, delivery: Delivery) -> Result<Delivered, Error> {
        let size_bytes = delivery.body.size_bytes();
        let mut outcomes = Vec::with_capacity(delivery.targets.len());
        let mut spool = delivery.spool;
        let mut body = None;
        for target in delivery.targets {
            let account = self.settle_account(batch, target.account, target.domain);
            let domain = self.state.domains.get(&target.domain).copied().unwrap_or_default();
            if let Some(over) = target.limits.broken_by(&account.usage, &domain, u64::from(size_bytes), 1) {
                outcomes.push(match &mut spool {
                    Some(spool) if delivery.over_quota == OverQuotaPolicy::Spool => {
                        spool.rcpts.push(NewRcpt {
                            address: target.recipient,
                            orcpt: None,
                            notify: crate::spool::Notify::default(),
                        });
                        Outcome::Spooled(over)
                    }
                    _ => Outcome::OverQuota(over),
                });
                continue;
            }
            let named = match &target.folder {
                Folder::Inbox => None,
                Folder::Named(name) => self.state.named(target.account, &crate::names::normal(name)),
            };
            let mailbox = match named.or_else(|| self.state.inbox(target.account)) {
                Some(id) => id,
                None => self.make(batch, target.account, INBOX, None),
            };
            let flags = self.flags_of(batch, mailbox, &target.flags, true).await?;
            let id = match body {
                Some(id) => id,
                None => *body.insert(self.body(batch, &delivery.body)?),
            };
            let entry = self.add(batch, mailbox, NewEntry { body: id, flags, size_bytes, received_s: delivery.received_s })?;
            outcomes.push(Outcome::Stored { mailbox, uid: entry.uid });
        }
        let queue = match spool.filter(|s| !s.rcpts.is_empty()) {
            None => None,
            Some(spool) => {
                let id = match body {
                    Some(id) => id,
                    None => *body.insert(self.body(batch, &delivery.body)?),
                };
                Some(self.enqueue(batch, id, size_bytes, delivery.trace, &spool))
            }
        };
        Ok(Delivered { outcomes, queue, body })
    }

    pub(super) fn enqueue(
        &mut self,
        batch: &mut Batch,
        body: BodyId,
        size_bytes: u32,
        trace: TraceId,
        spool: &NewSpool,
    ) -> QueueId {
        let id = QueueId(self.number().cast_signed());
        batch.refer(body, 1);
        let (entry, mut rcpts) = queue_rows(id.0, body.0, size_bytes, trace, spool, batch.now_s);
        batch.spool.push(entry);
        batch.spool_rcpts.append(&mut rcpts);
        batch.spooled = true;
        let (modseq, at_s) = (ModSeq(self.number()), batch.now_s);
        let (account, mailbox) = (spool.account.unwrap_or_default(), MailboxId(0));
        batch.changes.push(Change { modseq, account, mailbox, kind: ChangeKind::Spooled, uid: Uid(0), body, at_s });
        id
    }

    pub(super) async fn append(&mut self, batch: &mut Batch, append: Append) -> Result<Appended, Error> {
        self.need(batch, append.mailbox).await?;
        if let Some((from, uid)) = append.replace {
            // RFC 8508 3: the message to replace must be there.
            self.view(batch, from, None).await?;
            let there = batch.views.get(&from).is_some_and(|v| v.snapshot.find(uid).is_some());
            if !there {
                return Err(Error::NoMessage);
            }
        }
        let account = self.state.mailboxes.get(&append.mailbox).map(|m| m.account).unwrap_or_default();
        let total: u64 = append.messages.iter().map(|m| u64::from(m.body.size_bytes())).sum();
        self.keep_limits(account, &append.limits, total, append.messages.len() as u64)?;
        let mut flags = Vec::with_capacity(append.messages.len());
        for message in &append.messages {
            flags.push(self.flags_of(batch, append.mailbox, &message.flags, true).await?);
        }
        let mut done = Appended { uid_validity: Default::default(), uids: vec![], bodies: vec![], modseq: ModSeq(0) };
        for (message, flags) in append.messages.iter().zip(flags) {
            let body = self.body(batch, &message.body)?;
            let size_bytes = message.body.size_bytes();
            let entry = self.add(batch, append.mailbox, NewEntry { body, flags, size_bytes, received_s: message.received_s })?;
            done.uids.push(entry.uid);
            done.bodies.push(body);
        }
        if let Some((from, uid)) = append.replace {
            self.expunge(batch, from, &[uid], false).await?;
        }
        if let Some(m) = self.state.mailboxes.get(&append.mailbox) {
            (done.uid_validity, done.modseq) = (m.uid_validity, m.highest_modseq);
        }
        Ok(done)
    }

    pub(super) fn keep_limits(
        &mut self,
        account: AccountId,
        limits: &crate::Limits,
        size_bytes: u64,
        messages: u64,
    ) -> Result<(), Error> {
        let Some(a) = self.state.accounts.get(&account).copied() else { return Ok(()) };
        let domain = self.state.domains.get(&a.domain).copied().unwrap_or_default();
        limits.broken_by(&a.usage, &domain, size_bytes, messages).map_or(Ok(()), |over| Err(Error::OverQuota(over)))
    }

    /// Bits of these flags in a mailbox; keywords that it does not have yet are added when `make` says so, as far as there
    /// is room: those beyond are left out.
    pub(super) async fn flags_of(
        &mut self,
        batch: &mut Batch,
        mailbox: MailboxId,
        names: &FlagNames,
        make: bool,
    ) -> Result<Flags, Error> {
        let mut flags = Flags(names.system.0 & SYSTEM);
        if names.keywords.is_empty() {
            return Ok(flags);
        }
        self.state.load_keywords(&batch.db, std::iter::once(mailbox)).await?;
        let Some(known) = self.state.mailboxes.get_mut(&mailbox).and_then(|m| m.keywords.as_mut()) else { return Ok(flags) };
        for name in &names.keywords {
            let index = match known.iter().position(|k| k.eq_ignore_ascii_case(name)) {
                Some(index) => index,
                None if make && known.len() < Flags::KEYWORDS_MAX && !name.is_empty() => {
                    known.push(name.clone());
                    batch.keywords.push((mailbox, known.len() - 1, name.clone()));
                    known.len() - 1
                }
                None => continue,
            };
            flags = flags.with(Flags::keyword(index));
        }
        Ok(flags)
    }
}
