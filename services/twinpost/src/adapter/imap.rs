//! The mail system as the IMAP server sees it.

use super::{now_s, store_limits};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};
use twinpost_directory::{Directory, Service, State};
use twinpost_imap::{
    Account, Annotation, Appended, Backend, Copied, FlagChange, FlagMode, FlagsChanged, MailboxInfo, NewMessage, Outcome,
    Refusal, SpecialUse, TextField, TextHits, Usage, Vanished,
};
use twinpost_message::view::Snapshot;
use twinpost_message::{AccountId, BodyId, MailboxId, ModSeq, Parsed, Uid};
use twinpost_search::{Field, Index, Query};
use twinpost_store::{Append, AppendMessage, Error, FlagAction, FlagNames, SetFlags, Store, Transfer};

/// The mail system behind IMAP.
pub struct ImapBackend {
    directory: Directory,
    store: Store,
    search: Option<Arc<Index>>,
    append_max_bytes: u64,
    watches: Mutex<HashMap<AccountId, watch::Receiver<ModSeq>>>,
}

impl ImapBackend {
    /// Over this directory, store and index; no message larger than `append_max_bytes` is appended.
    pub fn new(directory: Directory, store: Store, search: Option<Arc<Index>>, append_max_bytes: u64) -> Self {
        Self { directory, store, search, append_max_bytes, watches: Mutex::default() }
    }

    fn known(&self, account: AccountId) -> Outcome<twinpost_directory::Account> {
        self.directory.account_by_id(account).ok_or_else(|| Refusal::NoPermission("the account is gone".to_owned()))
    }

    /// RFC 7889: the smallest of the limits that hold.
    fn append_limit(&self, limits: &twinpost_directory::Limits) -> u64 {
        limits.max_message_bytes.unwrap_or(u64::MAX).min(self.append_max_bytes)
    }

    fn prepared(&self, account: AccountId, messages: Vec<NewMessage>) -> Outcome<(Vec<AppendMessage>, twinpost_store::Limits)> {
        let limits = self.known(account)?.limits;
        let most = self.append_limit(&limits);
        if messages.iter().any(|m| m.body.len() as u64 > most) {
            return Err(Refusal::TooBig);
        }
        let now = now_s();
        let prepare = |m: NewMessage| AppendMessage {
            body: Store::prepare(&m.body),
            flags: FlagNames { system: m.flags, keywords: m.keywords },
            received_s: m.received_s.unwrap_or(now),
        };
        Ok((messages.into_iter().map(prepare).collect(), store_limits(&limits)))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err calls")]
fn refusal(error: Error) -> Refusal {
    match error {
        Error::NoMailbox(_) | Error::NoMailboxName(_) | Error::NoAccount(_) => Refusal::NonExistent,
        Error::Exists(_) => Refusal::AlreadyExists,
        Error::Name { .. } | Error::Inbox(_) | Error::NoMessage | Error::NoBody(_) | Error::NoQueueEntry(_) => {
            Refusal::Cannot(error.to_string())
        }
        Error::OverQuota(_) => Refusal::OverQuota,
        Error::TooMany { .. } => Refusal::Limit(error.to_string()),
        Error::DiskFull { .. } => Refusal::DiskFull,
        Error::Damaged { .. } => Refusal::Damaged(error.to_string()),
        Error::Closed => Refusal::Unavailable,
        Error::Locked { .. }
        | Error::Open { .. }
        | Error::IndexLost { .. }
        | Error::IndexDamaged { .. }
        | Error::Database(_)
        | Error::Sql { .. }
        | Error::Pack { .. }
        | Error::Index(_) => {
            tracing::error!(%error, "the store cannot answer IMAP");
            Refusal::Internal(error.to_string())
        }
    }
}

fn use_here(found: twinpost_store::SpecialUse) -> Option<SpecialUse> {
    SpecialUse::parse(found.name())
}

fn use_there(wanted: SpecialUse) -> Option<twinpost_store::SpecialUse> {
    twinpost_store::SpecialUse::of(wanted.attribute().trim_start_matches('\\'))
}

fn info(found: twinpost_store::MailboxInfo) -> MailboxInfo {
    MailboxInfo {
        id: found.id,
        name: Arc::from(found.name),
        special_use: found.special_use.and_then(use_here),
        subscribed: found.subscribed,
        messages: found.messages,
        unseen: found.unseen,
        deleted: found.deleted,
        size_bytes: found.size_bytes,
        uid_next: found.uid_next,
        uid_validity: found.uid_validity,
        highest_modseq: found.highest_modseq,
    }
}

impl Backend for ImapBackend {
    async fn account(&self, account: AccountId) -> Outcome<Account> {
        let found = self.known(account)?;
        self.store.open_account(account, found.domain_id).await.map_err(refusal)?;
        Ok(Account {
            id: account,
            address: Arc::from(found.address.to_string()),
            append_limit_bytes: u32::try_from(self.append_limit(&found.limits)).unwrap_or(u32::MAX),
        })
    }

    fn still_allowed(&self, account: AccountId) -> bool {
        self.directory.account_by_id(account).is_some_and(|a| a.state == State::Active && a.services.allows(Service::Imap))
    }

    fn now_s(&self) -> i64 {
        now_s()
    }

    async fn mailboxes(&self, account: AccountId) -> Outcome<Vec<MailboxInfo>> {
        Ok(self.store.mailboxes(account).await.map_err(refusal)?.into_iter().map(info).collect())
    }

    async fn mailbox(&self, account: AccountId, name: &str) -> Outcome<Option<MailboxInfo>> {
        match self.store.mailbox_named(account, name).await {
            Ok(found) => Ok(Some(info(found))),
            Err(Error::NoMailboxName(_) | Error::NoMailbox(_) | Error::Name { .. }) => Ok(None),
            Err(error) => Err(refusal(error)),
        }
    }

    async fn create(&self, account: AccountId, name: &str, special_use: Option<SpecialUse>) -> Outcome<MailboxId> {
        let wanted = special_use.and_then(use_there);
        if wanted.is_some() && self.store.mailboxes(account).await.map_err(refusal)?.iter().any(|m| m.special_use == wanted) {
            return Err(Refusal::UseTaken);
        }
        self.store.create(account, name, wanted).await.map_err(refusal)
    }

    async fn delete(&self, account: AccountId, mailbox: MailboxId) -> Outcome<()> {
        let all = self.store.mailboxes(account).await.map_err(refusal)?;
        let found = all.iter().find(|m| m.id == mailbox).ok_or(Refusal::NonExistent)?;
        let below = format!("{}/", found.name);
        if all.iter().any(|m| m.name.starts_with(&below)) {
            return Err(Refusal::HasChildren);
        }
        self.store.delete(mailbox).await.map_err(refusal)
    }

    async fn rename(&self, account: AccountId, from: &str, to: &str) -> Outcome<()> {
        let found = self.store.mailbox_named(account, from).await.map_err(refusal)?;
        self.store.rename(found.id, to).await.map_err(refusal)
    }

    async fn subscribe(&self, account: AccountId, name: &str, on: bool) -> Outcome<()> {
        self.store.subscribe(account, name, on).await.map_err(refusal)
    }

    async fn changes(&self, account: AccountId) -> Outcome<watch::Receiver<ModSeq>> {
        let mut watches = self.watches.lock();
        // A watch whose feeder ended has no sender any more.
        if let Some(known) = watches.get(&account).filter(|w| w.has_changed().is_ok()) {
            return Ok(known.clone());
        }
        let mut notices = self.store.listen(account);
        let head = self.store.head();
        let (sender, receiver) = watch::channel(*head.borrow());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    notice = notices.recv() => match notice {
                        Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => drop(sender.send_replace(*head.borrow())),
                        Err(broadcast::error::RecvError::Closed) => return,
                    },
                    () = sender.closed() => return,
                }
            }
        });
        watches.retain(|_, w| w.has_changed().is_ok());
        watches.insert(account, receiver.clone());
        Ok(receiver)
    }

    async fn open(&self, account: AccountId, mailbox: MailboxId) -> Outcome<watch::Receiver<Arc<Snapshot>>> {
        // Whose mailbox it is was settled by its name; the id alone proves nothing.
        if self.store.owner(mailbox).await.map_err(refusal)? != account {
            return Err(Refusal::NonExistent);
        }
        self.store.watch(mailbox).await.map_err(refusal)
    }

    async fn vanished(&self, _: AccountId, mailbox: MailboxId, since: ModSeq) -> Outcome<Vanished> {
        self.store.vanished(mailbox, since).await.map(Vanished::Known).map_err(refusal)
    }

    async fn append(&self, account: AccountId, mailbox: MailboxId, messages: Vec<NewMessage>) -> Outcome<Appended> {
        let (messages, limits) = self.prepared(account, messages)?;
        let done = self.store.append(Append { mailbox, messages, limits, replace: None }).await.map_err(refusal)?;
        Ok(Appended { uid_validity: done.uid_validity, uids: done.uids })
    }

    async fn replace(
        &self,
        account: AccountId,
        source: MailboxId,
        old: Uid,
        mailbox: MailboxId,
        message: NewMessage,
    ) -> Outcome<Appended> {
        let (messages, limits) = self.prepared(account, vec![message])?;
        let done =
            self.store.append(Append { mailbox, messages, limits, replace: Some((source, old)) }).await.map_err(refusal)?;
        Ok(Appended { uid_validity: done.uid_validity, uids: done.uids })
    }

    async fn copy(&self, account: AccountId, from: MailboxId, to: MailboxId, uids: &[Uid]) -> Outcome<Copied> {
        self.transfer(account, from, to, uids, false).await
    }

    async fn move_to(&self, account: AccountId, from: MailboxId, to: MailboxId, uids: &[Uid]) -> Outcome<Copied> {
        self.transfer(account, from, to, uids, true).await
    }

    async fn store_flags(&self, _: AccountId, mailbox: MailboxId, change: FlagChange) -> Outcome<FlagsChanged> {
        let wanted = change.uids.clone();
        let done = self
            .store
            .set_flags(SetFlags {
                mailbox,
                uids: change.uids,
                action: match change.mode {
                    FlagMode::Replace => FlagAction::Replace,
                    FlagMode::Add => FlagAction::Add,
                    FlagMode::Remove => FlagAction::Remove,
                },
                flags: FlagNames { system: change.flags, keywords: change.keywords },
                unchanged_since: change.unchanged_since,
            })
            .await
            .map_err(refusal)?;
        let snapshot = self.store.snapshot(mailbox).await.map_err(refusal)?;
        let missing = wanted.into_iter().filter(|uid| snapshot.find(*uid).is_none()).collect();
        Ok(FlagsChanged { modified: done.modified, missing })
    }

    async fn expunge(&self, _: AccountId, mailbox: MailboxId, uids: &[Uid]) -> Outcome<()> {
        self.store.expunge(mailbox, uids.to_vec(), true).await.map(|_| ()).map_err(refusal)
    }

    async fn parsed(&self, _: AccountId, bodies: &[BodyId]) -> Outcome<Vec<Outcome<Arc<Parsed>>>> {
        match self.store.parsed(bodies).await {
            Ok(all) => Ok(all.into_iter().map(Ok).collect()),
            // One of them is at fault: each is asked by itself, so that the others are not missed.
            Err(error) if !error.is_internal() => {
                let mut out = Vec::with_capacity(bodies.len());
                for body in bodies {
                    let one = self.store.parsed(std::slice::from_ref(body)).await;
                    out.push(one.map_err(refusal).and_then(|mut list| list.pop().ok_or(Refusal::NonExistent)));
                }
                Ok(out)
            }
            Err(error) => Err(refusal(error)),
        }
    }

    async fn bodies(&self, _: AccountId, bodies: &[BodyId]) -> Outcome<Vec<Outcome<Bytes>>> {
        if bodies.len() > 1
            && let Err(error) = self.store.warm(bodies).await
        {
            tracing::debug!(%error, "reading ahead failed; each message is read by itself");
        }
        let mut out = Vec::with_capacity(bodies.len());
        for body in bodies {
            out.push(self.store.body(*body).await.map_err(refusal));
        }
        Ok(out)
    }

    async fn search_text(&self, account: AccountId, field: TextField, text: &str) -> Outcome<Option<TextHits>> {
        let Some(index) = self.search.clone() else { return Ok(None) };
        let field = match field {
            TextField::Subject => Field::Subject,
            TextField::From => Field::From,
            TextField::To => Field::To,
            TextField::Cc => Field::Cc,
            TextField::Bcc => Field::Bcc,
            TextField::Body => Field::Body,
            TextField::Text => Field::Text,
        };
        let query = Query::Has(field, text.to_owned());
        let found = tokio::task::spawn_blocking(move || index.search(account, &query)).await;
        match found {
            Ok(Ok(mut hits)) => {
                let exact = hits.unsure.is_empty();
                hits.sure.append(&mut hits.unsure);
                hits.sure.sort_unstable();
                Ok(Some(TextHits { bodies: hits.sure, exact, indexed_to: hits.position }))
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the search index cannot answer; the mailbox is scanned");
                Ok(None)
            }
            Err(error) => Err(Refusal::Internal(error.to_string())),
        }
    }

    async fn annotations(&self, account: AccountId, mailbox: Option<MailboxId>) -> Outcome<Vec<Annotation>> {
        let all = self.store.annotations(account, mailbox).await.map_err(refusal)?;
        Ok(all.into_iter().filter_map(|a| Some((a.entry, a.value?))).collect())
    }

    async fn set_annotations(
        &self,
        account: AccountId,
        mailbox: Option<MailboxId>,
        entries: Vec<(String, Option<Bytes>)>,
    ) -> Outcome<()> {
        let entries = entries.into_iter().map(|(entry, value)| twinpost_store::Annotation { mailbox, entry, value });
        self.store.annotate(account, entries.collect()).await.map_err(refusal)
    }

    async fn usage(&self, account: AccountId) -> Outcome<Usage> {
        let limits = self.known(account)?.limits;
        let used = self.store.usage(account).await.map_err(refusal)?;
        let mailboxes = self.store.mailboxes(account).await.map_err(refusal)?.len();
        Ok(Usage {
            bytes: used.size_bytes,
            bytes_limit: limits.account_bytes,
            messages: used.messages,
            messages_limit: limits.account_messages,
            mailboxes: mailboxes as u64,
            mailboxes_limit: None,
        })
    }
}

impl ImapBackend {
    async fn transfer(&self, account: AccountId, from: MailboxId, to: MailboxId, uids: &[Uid], remove: bool) -> Outcome<Copied> {
        let limits = store_limits(&self.known(account)?.limits);
        let done = self.store.transfer(Transfer { from, uids: uids.to_vec(), to, limits, remove }).await.map_err(refusal)?;
        Ok(Copied { uid_validity: done.uid_validity, pairs: done.pairs })
    }
}
