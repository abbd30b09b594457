//! What can go wrong in the store. One error answers every operation of a failed batch, so errors are cheap to clone.

use std::path::PathBuf;
use std::sync::Arc;
use twinpost_message::{AccountId, BodyId, MailboxId, QueueId};

/// Which limit a message would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverQuota {
    /// Bytes of the account.
    AccountBytes,
    /// Messages of the account.
    AccountMessages,
    /// Bytes of the domain.
    DomainBytes,
    /// Messages of the domain.
    DomainMessages,
}

impl std::fmt::Display for OverQuota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AccountBytes => "the mailbox is full",
            Self::AccountMessages => "the mailbox holds as many messages as it may",
            Self::DomainBytes => "the storage of the domain is used up",
            Self::DomainMessages => "the domain holds as many messages as it may",
        })
    }
}

/// What was tried on what, and why it did not happen. Nothing of a failed operation was kept.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the store open.
    #[error("the store {dir} is in use by process {pid}")]
    Locked {
        /// Folder of the store.
        dir: PathBuf,
        /// Its owner; 0 when it did not say.
        pid: u32,
    },
    /// The store's folder or lock file.
    #[error("cannot open the store at {dir}: {source}")]
    Open {
        /// Folder of the store.
        dir: PathBuf,
        /// Why.
        source: Arc<std::io::Error>,
    },
    /// The packs hold mail, the index is empty: it was lost. Nothing was changed.
    #[error(
        "the index of the store {dir} is missing, its {packs} packs are there: make it again with `twinpost ctl store rebuild`"
    )]
    IndexLost {
        /// Folder of the store.
        dir: PathBuf,
        /// How many packs.
        packs: u64,
    },
    /// The database engine cannot make sense of the index. Nothing was changed.
    #[error("the index of the store {dir} is damaged ({why}): make it again with `twinpost ctl store rebuild`")]
    IndexDamaged {
        /// Folder of the store.
        dir: PathBuf,
        /// What the engine said.
        why: String,
    },
    /// The database.
    #[error(transparent)]
    Database(Arc<twinpost_sql::Error>),
    /// No space for {what}. Comes back by itself when there is.
    #[error("the disk is full: could not {what}")]
    DiskFull {
        /// What was tried.
        what: &'static str,
    },
    /// A statement.
    #[error("could not {what}: {source}")]
    Sql {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The pack files.
    #[error("could not {what}: {source}")]
    Pack {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: Arc<crate::pack::PackError>,
    },
    /// The index contradicts itself; `verify` says more.
    #[error("the index is damaged: {0}")]
    Index(String),
    /// The record of this body is missing or does not match its checksum. Other mail is not concerned.
    #[error("the stored message {body} is damaged: {why}")]
    Damaged {
        /// The body.
        body: BodyId,
        /// What is wrong with its record.
        why: String,
    },
    /// The store was closed, or its writer stopped.
    #[error("the store is closed")]
    Closed,
    /// No such body.
    #[error("there is no stored message {0}")]
    NoBody(BodyId),
    /// The store does not know the account: it was neither opened nor did it get mail.
    #[error("the store does not know account {0}")]
    NoAccount(AccountId),
    /// No such mailbox, or no longer.
    #[error("there is no mailbox {0}")]
    NoMailbox(MailboxId),
    /// No mailbox of this name.
    #[error("there is no mailbox {0:?}")]
    NoMailboxName(String),
    /// The name is taken.
    #[error("the mailbox {0:?} exists already")]
    Exists(String),
    /// A name that no mailbox may have.
    #[error("{name:?} cannot be the name of a mailbox: {why}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// INBOX cannot be deleted; nor be the new name of a mailbox.
    #[error("INBOX cannot be {0}")]
    Inbox(&'static str),
    /// A quota.
    #[error("over quota: {0}")]
    OverQuota(OverQuota),
    /// A limit of the store itself.
    #[error("too many {what}: at most {most}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        most: usize,
    },
    /// No such message in the mailbox.
    #[error("the message is no longer there")]
    NoMessage,
    /// No such queue entry.
    #[error("there is no queue entry {0}")]
    NoQueueEntry(QueueId),
}

impl Error {
    pub(crate) fn sql(what: &'static str, source: sqlx::Error) -> Self {
        if let sqlx::Error::Database(e) = &source {
            // SQLITE_FULL; PostgreSQL: disk_full, and the class of insufficient resources that a full tablespace gives.
            if matches!(e.code().as_deref(), Some("13" | "53100")) {
                return Self::DiskFull { what };
            }
        }
        if let sqlx::Error::Io(e) = &source
            && full(e)
        {
            return Self::DiskFull { what };
        }
        if matches!(source, sqlx::Error::PoolClosed) {
            return Self::Closed;
        }
        Self::Sql { what, source: Arc::new(source) }
    }

    pub(crate) fn sqlite(what: &'static str, source: rusqlite::Error) -> Self {
        if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
            return Self::DiskFull { what };
        }
        Self::Sql { what, source: Arc::new(source) }
    }

    pub(crate) fn pack(what: &'static str, source: crate::pack::PackError) -> Self {
        if source.is_full() { Self::DiskFull { what } } else { Self::Pack { what, source: Arc::new(source) } }
    }

    pub(crate) fn index(what: String) -> Self {
        Self::Index(what)
    }

    /// As [`Error::IndexDamaged`] where the engine says that the file is none of its own, or contradicts itself.
    pub(crate) fn at_open(self, dir: &std::path::Path) -> Self {
        let of_sqlx = |e: &sqlx::Error| match e {
            // SQLITE_CORRUPT and SQLITE_NOTADB, with their extended codes.
            sqlx::Error::Database(e) => e.code().and_then(|c| c.parse::<u32>().ok()).is_some_and(|c| matches!(c & 0xff, 11 | 26)),
            _ => false,
        };
        let damaged = match &self {
            Self::Database(e) => match &**e {
                twinpost_sql::Error::Open { source, .. } | twinpost_sql::Error::Migrate { source, .. } => of_sqlx(source),
                _ => false,
            },
            Self::Sql { source, .. } => {
                let of_rusqlite = |e: &rusqlite::Error| {
                    let code = e.sqlite_error_code();
                    matches!(code, Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
                };
                source.downcast_ref().is_some_and(of_sqlx) || source.downcast_ref().is_some_and(of_rusqlite)
            }
            _ => false,
        };
        if damaged { Self::IndexDamaged { dir: dir.to_owned(), why: self.to_string() } } else { self }
    }

    /// Only a person mends it: to try again brings the same.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        matches!(self, Self::IndexLost { .. } | Self::IndexDamaged { .. })
    }

    /// There is no space left: SMTP answers 452, IMAP NO [OVERQUOTA] or [LIMIT]; it comes back by itself.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    /// The fault is in the store or its disk, not in what was asked.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        matches!(
            self,
            Self::Database(_) | Self::DiskFull { .. } | Self::Sql { .. } | Self::Pack { .. } | Self::Index(_) | Self::Closed
        )
    }
}

impl From<twinpost_sql::Error> for Error {
    fn from(e: twinpost_sql::Error) -> Self {
        match e {
            twinpost_sql::Error::Sql(source) => Self::sql("use the database", source),
            e => Self::Database(Arc::new(e)),
        }
    }
}

/// The operating system says that there is no space.
fn full(e: &std::io::Error) -> bool {
    matches!(e.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}
