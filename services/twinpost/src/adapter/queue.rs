//! The store's spool as the queue sees it.

use super::smtp::report_delivery;
use super::{Wishes, now_s, store_limits};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::watch;
use twinpost_directory::{Directory, Originator, Resolution};
use twinpost_message::QueueId;
use twinpost_queue::{Entry, Notify, Recipient, Reply, Ret, Spool, SpoolFault, State, Update};
use twinpost_store::spool::{self, RcptState, RcptUpdate, SpoolEntry, SpoolUpdate};
use twinpost_store::{Delivery, Error, FlagNames, Folder, Outcome, OverQuotaPolicy, Store, Target};

/// The spool of this node.
pub struct StoreSpool {
    store: Store,
    directory: Directory,
    wishes: Arc<Wishes>,
    changes: tokio::sync::Mutex<watch::Receiver<u64>>,
}

impl StoreSpool {
    /// Over this store and directory.
    pub fn new(store: Store, directory: Directory, wishes: Arc<Wishes>) -> Self {
        let changes = tokio::sync::Mutex::new(store.spool_changes());
        Self { store, directory, wishes, changes }
    }
}

fn fault(error: &Error) -> SpoolFault {
    SpoolFault(error.to_string())
}

fn entry(from: SpoolEntry) -> Entry {
    let wishes = |n: spool::Notify| Notify {
        given: n.0 != 0,
        success: n.wants(spool::Notify::SUCCESS),
        failure: n.wants(spool::Notify::FAILURE),
        delay: n.wants(spool::Notify::DELAY),
    };
    let waiting = from.rcpts.into_iter().filter(|r| r.state == RcptState::Waiting).map(|r| Recipient {
        n: r.n,
        address: r.address,
        orcpt: r.orcpt,
        notify: wishes(r.notify),
        attempts: r.attempts,
        next_try_s: r.next_try_s,
        delay_told: r.delay_told,
    });
    Entry {
        id: from.id,
        trace: from.trace,
        size_bytes: from.size_bytes,
        sender: from.sender,
        ret: from.ret.map(|r| if r == spool::Ret::Full { Ret::Full } else { Ret::Headers }),
        envid: from.envid,
        smtputf8: from.smtputf8,
        eight_bit: from.eight_bit,
        account: from.account,
        created_s: from.created_s,
        expires_s: from.expires_s,
        recipients: waiting.collect(),
    }
}

impl Spool for StoreSpool {
    async fn claim(&self, now_s: i64, most: usize) -> Result<Vec<Entry>, SpoolFault> {
        let claimed = self.store.spool_claim(now_s, most).await.map_err(|e| fault(&e))?;
        Ok(claimed.into_iter().map(entry).collect())
    }

    fn unclaim(&self, id: QueueId) {
        self.store.spool_unclaim(id);
    }

    async fn next_due_s(&self) -> Result<Option<i64>, SpoolFault> {
        self.store.spool_next_due_s().await.map_err(|e| fault(&e))
    }

    async fn changed(&self) {
        // A closed store has nothing more to tell; the queue is stopped by its token.
        if self.changes.lock().await.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    async fn body(&self, entry: &Entry) -> Result<Bytes, SpoolFault> {
        let stored = self.store.spool_entry(entry.id).await.map_err(|e| fault(&e))?;
        let bytes = self.store.body(stored.body).await.map_err(|e| fault(&e))?;
        // Everything in the spool was stored with our own Return-Path in front, in one line.
        let start =
            if bytes.starts_with(b"Return-Path:") { memchr::memmem::find(&bytes, b"\r\n").map_or(0, |at| at + 2) } else { 0 };
        Ok(bytes.slice(start..))
    }

    async fn update(&self, update: Update) -> Result<(), SpoolFault> {
        let rcpts = update.recipients.into_iter().map(|r| RcptUpdate {
            n: r.n,
            state: match r.state {
                State::Waiting => RcptState::Waiting,
                State::Delivered => RcptState::Delivered,
                State::Failed => RcptState::Failed,
            },
            next_try_s: r.next_try_s,
            tried_s: r.tried_s,
            reply: spool::Reply { code: r.reply.code, text: r.reply.text },
            delay_told: r.delay_told,
        });
        let deliver =
            update.reports.iter().map(|r| report_delivery(&self.directory, &r.to, &r.message, r.trace, self.wishes.expire()));
        let deliver = deliver.collect();
        match self.store.spool_update(SpoolUpdate { id: update.id, rcpts: rcpts.collect(), deliver }).await {
            // An operator dropped it meanwhile: there is nothing left to write down.
            Ok(_) | Err(Error::NoQueueEntry(_)) => Ok(()),
            Err(error) => Err(fault(&error)),
        }
    }

    async fn deliver_here(&self, entry: &Entry, recipient: &Recipient) -> Option<(State, Reply)> {
        let reply = |code, text: &str| Reply { code, text: text.to_owned() };
        let (local, remote) = match self.directory.resolve(&recipient.address, Originator::System) {
            Resolution::NotOurDomain => return None,
            Resolution::Deliver { local, remote } => (local, remote),
            Resolution::UnknownUser => return Some((State::Failed, reply(550, "5.1.1 no such mailbox here"))),
            Resolution::Suspended => return Some((State::Waiting, reply(450, "4.2.1 the mailbox is disabled"))),
            Resolution::NotAllowed | Resolution::TooMany => {
                return Some((State::Failed, reply(550, "5.7.2 the group takes no mail from this sender")));
            }
        };
        let stored = match self.store.spool_entry(entry.id).await {
            Ok(stored) => stored,
            Err(error) => return Some((State::Waiting, reply(0, &format!("4.3.0 {error}")))),
        };
        let bytes = match self.store.body(stored.body).await {
            Ok(bytes) => bytes,
            Err(error) => return Some((State::Waiting, reply(0, &format!("4.3.0 {error}")))),
        };
        let targets = local.into_iter().map(|found| Target {
            account: found.account,
            domain: found.domain,
            folder: found.folder.map_or(Folder::Inbox, Folder::Named),
            flags: FlagNames::default(),
            limits: store_limits(&found.limits),
            recipient: recipient.address.clone(),
        });
        // An alias that leads elsewhere by now: the mail goes where it leads, by a new entry of its own.
        let rcpts: Vec<spool::NewRcpt> = remote
            .into_iter()
            .map(|address| spool::NewRcpt { address, orcpt: recipient.orcpt.clone(), notify: spool::Notify(0) })
            .collect();
        let spool = (!rcpts.is_empty()).then(|| spool::NewSpool {
            sender: stored.sender.clone(),
            ret: stored.ret,
            envid: stored.envid.clone(),
            smtputf8: stored.smtputf8,
            eight_bit: stored.eight_bit,
            require_tls: stored.require_tls,
            held: false,
            account: stored.account,
            expires_s: stored.expires_s,
            next_try_s: now_s(),
            rcpts,
        });
        let delivery = Delivery {
            body: Store::prepare(&bytes),
            trace: entry.trace,
            received_s: now_s(),
            targets: targets.collect(),
            spool,
            over_quota: OverQuotaPolicy::Refuse,
        };
        Some(match self.store.spool_deliver(entry.id, recipient.n, delivery).await {
            Ok(Some(done)) if !done.outcomes.is_empty() && done.outcomes.iter().all(|o| matches!(o, Outcome::OverQuota(_))) => {
                (State::Waiting, reply(452, "4.2.2 the mailbox is full"))
            }
            Ok(_) => (State::Delivered, reply(250, "2.1.5 delivered")),
            // An operator dropped it meanwhile: nothing is told to anybody.
            Err(Error::NoQueueEntry(_)) => (State::Failed, reply(554, "5.0.0 it was dropped")),
            Err(error) => (State::Waiting, reply(451, &format!("4.3.0 {error}"))),
        })
    }
}
