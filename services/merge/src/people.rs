//! Whose mail it is: accounts of the other side and their homes here.
//!
//! Contract: two accounts are one person's when they have the same address, or the same number since before the two sides parted.
//! Numbers given later say nothing: both sides give the same ones to different people. Nobody's mail goes to anybody else; mail
//! of an account that neither directory knows goes to account 0, where an operator finds it.

use crate::Error;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use twinpost_directory::{Account, AuditQuery, Directory, Settings};
use twinpost_message::{AccountId, DomainId};
use twinpost_sql::Location;
use twinpost_store::{Limits, Quota};

/// Who does it, in the audit trail.
const ACTOR: &str = "merge";

/// An account here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Its number here.
    pub account: AccountId,
    /// Its domain here.
    pub domain: DomainId,
    /// Its address, for people.
    pub address: String,
    /// Its quotas: they hold nothing up, but are reported.
    pub limits: Limits,
}

/// Where mail of an account of the other side belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Here.
    Here(Home),
    /// To an account that was made there: [`People::make`] makes it here.
    MadeThere {
        /// Its address.
        address: String,
    },
    /// To nobody: the account was removed here on purpose.
    Removed {
        /// Its address.
        address: String,
    },
    /// Nobody knows.
    Unknown,
}

/// Whose mail it is.
pub trait People: Send + Sync {
    /// Where mail of this account of the other side belongs. `common_s`: when the two sides were still one, if that is known.
    fn find(&self, there: AccountId, common_s: Option<i64>) -> BoxFuture<'_, Result<Found, Error>>;
    /// Makes an account here as it is there.
    fn make(&self, there: AccountId) -> BoxFuture<'_, Result<Home, Error>>;
    /// All accounts of the other side, if its directory can be read.
    fn accounts_there(&self) -> Vec<AccountId>;
    /// Domains, aliases and groups that only the other side has, in words.
    fn names_there(&self) -> Vec<String>;
    /// Why the other side's directory cannot be read.
    fn fault(&self) -> Option<String>;
}

/// A copy of the other side's directory in a folder of its own. It holds hashes of passwords, so it does not stay.
#[derive(Debug)]
struct Copy {
    dir: PathBuf,
    _lock: File,
}

impl Copy {
    fn make(data: &Path, own: &Path) -> Result<Self, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let folder = crate::paths::reports(data);
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (new, dir) = (folder.join(format!("new-{name}")), folder.join(format!("directory-{name}")));
        Self::sweep(&folder);
        // It has its name when it is locked, so that nobody sweeps it away.
        let made = std::fs::create_dir_all(&new).and_then(|()| {
            let lock = File::create(new.join("lock"))?;
            lock.lock()?;
            std::fs::rename(&new, &dir)?;
            Ok(lock)
        });
        let lock = made.map_err(|source| Error::File { what: "make", path: dir.clone(), source })?;
        let copy = Self { dir, _lock: lock };
        // The index of the log is made again from the log.
        for end in ["", "-wal"] {
            let mut from = own.as_os_str().to_owned();
            from.push(end);
            match std::fs::copy(&from, copy.dir.join(format!("directory.sqlite{end}"))) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::File { what: "copy", path: from.into(), source }),
                Ok(_) => {}
            }
        }
        Ok(copy)
    }

    /// Takes away what a run left that was killed: nobody holds its lock. What cannot be taken away is tried again next time.
    fn sweep(folder: &Path) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let ours = entry.file_name().to_str().is_some_and(|n| n.starts_with("directory-"));
            if ours && File::open(entry.path().join("lock")).is_ok_and(|lock| lock.try_lock().is_ok()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What stays is taken away by the next run.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The directories of both sides.
#[derive(Debug)]
pub struct Directories {
    here: Directory,
    there: Result<Directory, String>,
    /// The copy; gone with this.
    _copy: Copy,
}

impl Directories {
    /// `here` serves; the other side's is copied from `directory.sqlite` in `aside` into `data/merge/`, and the copy is read, and taken away at the end. Without
    /// it (another engine, damaged) accounts are told by their numbers.
    ///
    /// # Errors
    /// [`Error::File`] when the copy cannot be written.
    pub async fn open(here: Directory, aside: &Path, data: &Path) -> Result<Self, Error> {
        let own = crate::paths::data_of(aside).join("directory.sqlite");
        let kept = Copy::make(data, &own)?;
        let copy = kept.dir.join("directory.sqlite");
        let there = if copy.is_file() {
            let settings = Settings { readers: 1, ..Settings::default() };
            Directory::open(&Location::Sqlite(copy), settings).await.map_err(|e| e.to_string())
        } else {
            Err(format!("there is no {}", own.display()))
        };
        Ok(Self { here, there, _copy: kept })
    }

    fn home(&self, account: &Account) -> Home {
        let l = self.here.limits(account.id).unwrap_or_default();
        let account_quota = Quota { size_bytes: l.account_bytes, messages: l.account_messages };
        let domain_quota = Quota { size_bytes: l.domain_bytes, messages: l.domain_messages };
        Home {
            account: account.id,
            domain: account.domain_id,
            address: account.address.to_string(),
            limits: Limits { account: account_quota, domain: domain_quota },
        }
    }

    async fn look(&self, there: AccountId, common_s: Option<i64>) -> Result<Found, Error> {
        // Numbers given after they parted mean different people.
        let by_number = self.here.account_by_id(there).filter(|a| common_s.is_some_and(|common| a.created_s < common));
        let known = self.there.as_ref().ok().and_then(|directory| directory.account_by_id(there));
        // Purged there, or nobody can say who it was: the number is all there is.
        let Some(known) = known else {
            return Ok(by_number.map_or(Found::Unknown, |a| Found::Here(self.home(&a))));
        };
        if let Some(same) = self.here.account(&known.address) {
            return Ok(Found::Here(self.home(&same)));
        }
        // Renamed on one side.
        if let Some(renamed) = by_number.filter(|a| a.created_s == known.created_s) {
            return Ok(Found::Here(self.home(&renamed)));
        }
        let address = known.address.to_string();
        let query = AuditQuery { subject: Some(address.clone()), limit: 100, ..AuditQuery::default() };
        // What was deleted while they were one was made again there.
        let later = |at_s: i64| common_s.is_none_or(|common| at_s >= common);
        let removed = self.here.audit(&query).await?.iter().any(|e| e.action == "account.delete" && later(e.at_s));
        Ok(if removed { Found::Removed { address } } else { Found::MadeThere { address } })
    }
}

impl People for Directories {
    fn find(&self, there: AccountId, common_s: Option<i64>) -> BoxFuture<'_, Result<Found, Error>> {
        self.look(there, common_s).boxed()
    }

    fn make(&self, there: AccountId) -> BoxFuture<'_, Result<Home, Error>> {
        async move {
            let missing = || twinpost_directory::Error::NoAccount(there.to_string());
            let directory = self.there.as_ref().map_err(|_| missing())?;
            let account = directory.account_by_id(there).ok_or_else(missing)?;
            let id = self.here.copy_account(ACTOR, directory, &account.address).await?;
            Ok(self.home(&self.here.account_by_id(id).ok_or_else(missing)?))
        }
        .boxed()
    }

    fn accounts_there(&self) -> Vec<AccountId> {
        let accounts = self.there.as_ref().ok().and_then(|d| d.accounts(None).ok());
        accounts.unwrap_or_default().iter().map(|a| a.id).collect()
    }

    fn names_there(&self) -> Vec<String> {
        let Ok(there) = &self.there else { return Vec::new() };
        let mut names = Vec::new();
        names
            .extend(there.domains().iter().filter(|d| self.here.domain(&d.name).is_none()).map(|d| format!("domain {}", d.name)));
        let aliases = there.aliases(None).unwrap_or_default();
        let is_new = |a: &&twinpost_directory::Alias| self.here.alias(&a.address).is_none();
        names.extend(aliases.iter().filter(is_new).map(|a| format!("alias {}", a.address)));
        let groups = there.groups(None).unwrap_or_default();
        names.extend(groups.iter().filter(|g| self.here.group(&g.address).is_none()).map(|g| format!("group {}", g.address)));
        names
    }

    fn fault(&self) -> Option<String> {
        self.there.as_ref().err().cloned()
    }
}
