//! The mail system as POP3 sees it. One POP3 session a maildrop, held in memory: it dies with its session.

use super::SignIn;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use twinpost_directory::Directory;
use twinpost_message::{AccountId, BodyId, Flags, MailboxId, Uid};
use twinpost_pop3::{Backend, BackendError, Maildrop};
use twinpost_sasl::{Accounts, Denied, Identity, Password, ScramSecret};
use twinpost_store::{Error, FlagAction, FlagNames, INBOX, SetFlags, Store};

/// The mail system behind POP3.
pub struct Pop3Backend {
    sign_in: SignIn,
    directory: Directory,
    store: Store,
    open: Arc<Mutex<HashSet<AccountId>>>,
}

/// A maildrop that is open.
pub struct Guard {
    account: AccountId,
    open: Arc<Mutex<HashSet<AccountId>>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.open.lock().remove(&self.account);
    }
}

impl Pop3Backend {
    /// Over this directory and store.
    pub fn new(directory: Directory, store: Store) -> Self {
        Self { sign_in: SignIn(directory.clone()), directory, store, open: Arc::default() }
    }
}

fn fault(error: &Error) -> BackendError {
    match error {
        Error::Damaged { .. } => BackendError::Damaged,
        Error::NoBody(_) | Error::NoMessage => BackendError::Gone,
        other => BackendError::Unavailable(other.to_string()),
    }
}

impl Accounts for Pop3Backend {
    async fn check_password(&self, user: &str, password: &Password, service: &str, peer: IpAddr) -> Result<Identity, Denied> {
        self.sign_in.check_password(user, password, service, peer).await
    }
    async fn scram_secret(&self, user: &str) -> Result<ScramSecret, Denied> {
        self.sign_in.scram_secret(user).await
    }
    async fn scram_done(&self, user: &str, service: &str, peer: IpAddr) -> Result<Identity, Denied> {
        self.sign_in.scram_done(user, service, peer).await
    }
}

impl Backend for Pop3Backend {
    type Guard = Guard;

    async fn open(&self, identity: &Identity) -> Result<Maildrop<Guard>, BackendError> {
        if !self.open.lock().insert(identity.account) {
            return Err(BackendError::InUse);
        }
        let guard = Guard { account: identity.account, open: self.open.clone() };
        let account = self
            .directory
            .account_by_id(identity.account)
            .ok_or_else(|| BackendError::Unavailable("the account is gone".to_owned()))?;
        self.store.open_account(account.id, account.domain_id).await.map_err(|e| fault(&e))?;
        let inbox = self.store.mailbox_named(account.id, INBOX).await.map_err(|e| fault(&e))?;
        let snapshot = self.store.snapshot(inbox.id).await.map_err(|e| fault(&e))?;
        Ok(Maildrop { guard, mailbox: inbox.id, snapshot })
    }

    async fn bodies(&self, bodies: &[BodyId]) -> Vec<Result<Bytes, BackendError>> {
        if let Err(error) = self.store.warm(bodies).await {
            tracing::debug!(%error, "reading ahead failed; each message is read by itself");
        }
        let mut read = Vec::with_capacity(bodies.len());
        for body in bodies {
            read.push(self.store.body(*body).await.map_err(|e| fault(&e)));
        }
        read
    }

    async fn seen(&self, _: &Identity, mailbox: MailboxId, uids: &[Uid]) -> Result<(), BackendError> {
        let set = SetFlags {
            mailbox,
            uids: uids.to_vec(),
            action: FlagAction::Add,
            flags: FlagNames::system(Flags::SEEN),
            unchanged_since: None,
        };
        self.store.set_flags(set).await.map(|_| ()).map_err(|e| fault(&e))
    }

    async fn expunge(&self, _: &Identity, mailbox: MailboxId, uids: &[Uid]) -> Result<(), BackendError> {
        self.store.expunge(mailbox, uids.to_vec(), false).await.map(|_| ()).map_err(|e| fault(&e))
    }
}
