//! Mailboxes that somebody looks at: the current snapshot of each, and who wants to hear of changes.
//!
//! Contract: only the writer publishes, after its commit and before it answers, so a session that got an answer finds its
//! own change in the snapshot. A mailbox that nobody has loaded costs the writer nothing. Entries that nobody watches are
//! dropped when the registry holds more than its bound; loading again is one SELECT.

use crate::Notice;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};
use twinpost_message::view::Snapshot;
use twinpost_message::{AccountId, MailboxId};

/// Messages in unwatched snapshots that stay loaded. An entry takes 48 bytes.
const IDLE_MESSAGES_MAX: usize = 500_000;
/// Unwatched snapshots that stay loaded.
const IDLE_MAILBOXES_MAX: usize = 10_000;
/// Notices that a slow listener may be behind; then it is told so and looks itself.
const NOTICES: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Live {
    mailboxes: Mutex<HashMap<MailboxId, watch::Sender<Arc<Snapshot>>>>,
    accounts: Mutex<HashMap<AccountId, broadcast::Sender<Notice>>>,
}

impl Live {
    pub fn watch(&self, mailbox: MailboxId) -> Option<watch::Receiver<Arc<Snapshot>>> {
        self.mailboxes.lock().get(&mailbox).map(watch::Sender::subscribe)
    }

    pub fn current(&self, mailbox: MailboxId) -> Option<Arc<Snapshot>> {
        self.mailboxes.lock().get(&mailbox).map(|s| s.borrow().clone())
    }

    /// Sets the snapshot of a mailbox, loaded or not.
    pub fn publish(&self, mailbox: MailboxId, snapshot: Arc<Snapshot>) {
        let mut map = self.mailboxes.lock();
        if snapshot.gone {
            if let Some(sender) = map.remove(&mailbox) {
                sender.send_replace(snapshot);
            }
            return;
        }
        match map.get(&mailbox) {
            Some(sender) => {
                sender.send_replace(snapshot);
            }
            None => {
                map.insert(mailbox, watch::Sender::new(snapshot));
            }
        }
    }

    /// Drops unwatched snapshots when there are too many. Called by the writer between batches: what it was given in
    /// a batch stays to its end.
    pub fn trim(&self) {
        let mut map = self.mailboxes.lock();
        if map.len() <= IDLE_MAILBOXES_MAX / 2 {
            let messages: usize = map.values().map(|s| s.borrow().len()).sum();
            if messages <= IDLE_MESSAGES_MAX {
                return;
            }
        } else if map.len() <= IDLE_MAILBOXES_MAX {
            return;
        }
        map.retain(|_, sender| sender.receiver_count() > 0);
    }

    pub fn listen(&self, account: AccountId) -> broadcast::Receiver<Notice> {
        let mut map = self.accounts.lock();
        if map.len() > 1024 && map.len().is_power_of_two() {
            map.retain(|_, s| s.receiver_count() > 0);
        }
        map.entry(account).or_insert_with(|| broadcast::Sender::new(NOTICES)).subscribe()
    }

    pub fn notify(&self, account: AccountId, notice: Notice) {
        let mut map = self.accounts.lock();
        // A notice that nobody hears is an error of the channel: its listeners are gone.
        if map.get(&account).is_some_and(|sender| sender.send(notice).is_err()) {
            map.remove(&account);
        }
    }
}
