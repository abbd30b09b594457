//! The handle: opening, publishing a change, seeing another process's changes, listing.

use crate::change::Settings;
use crate::credentials::SignIn;
use crate::draft::Draft;
use crate::error::Error;
use crate::model::{AccountRecord, DomainRecord, Entry, Model, Route};
use crate::normal;
use crate::rows::{self, bound};
use crate::types::{Account, Alias, Domain, Group, Limits};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{Mutex, watch};
use twinpost_message::{AccountId, Address};
use twinpost_sql::{Database, Location, read, transaction};

/// The one handle on the directory; clones share everything.
#[derive(Clone)]
pub struct Directory {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub db: Database,
    pub settings: Settings,
    pub sign_in: SignIn,
    model: ArcSwap<Model>,
    /// Held while a change is made: one at a time in this process.
    writer: Mutex<()>,
    generation: watch::Sender<u64>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").field("generation", &self.generation()).finish_non_exhaustive()
    }
}

/// Seconds since 1970.
pub(crate) fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

/// How often a change starts again because another process was faster.
const RACES_MAX: usize = 20;

impl Directory {
    /// Opens the directory here, makes or upgrades its tables, and reads it into memory.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`], or [`Error::Value`] for settings out of range.
    pub async fn open(location: &Location, settings: Settings) -> Result<Self, Error> {
        let db = Database::open(location, settings.readers).await?;
        db.migrate("directory", rows::MIGRATIONS).await?;
        let secret: [u8; 32] = rand::random();
        let first =
            "INSERT INTO directory_state (id, generation, next_id, secret) VALUES (1, 1, 1, $1) ON CONFLICT (id) DO NOTHING";
        transaction!(db, tx => { sqlx::query(first).bind(secret.to_vec()).execute(&mut *tx).await?; tx.commit().await? });
        let (secret,): (Vec<u8>,) =
            read!(db, c => sqlx::query_as("SELECT secret FROM directory_state WHERE id = 1").fetch_one(c).await?);
        let model = rows::load(&db).await?;
        let sign_in = SignIn::new(&settings, &secret)?;
        let (generation, _) = watch::channel(u64::try_from(model.generation).unwrap_or(0));
        let inner = Inner { db, settings, sign_in, model: ArcSwap::from_pointee(model), writer: Mutex::new(()), generation };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Closes the database; look-ups still answer from memory.
    pub async fn close(&self) {
        self.inner.db.close().await;
    }

    /// Counts changes.
    #[must_use]
    pub fn generation(&self) -> u64 {
        u64::try_from(self.inner.model.load().generation).unwrap_or(0)
    }
    /// Tells each change: a session can look again whether its account is still served.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.generation.subscribe()
    }

    /// Sees what another process changed. True when there was something. Costs one row read when there was not.
    ///
    /// # Errors
    /// [`Error::Database`]; the old state stays.
    pub async fn refresh(&self) -> Result<bool, Error> {
        let _writer = self.inner.writer.lock().await;
        self.refresh_locked().await
    }

    pub(crate) async fn refresh_locked(&self) -> Result<bool, Error> {
        let sql = "SELECT generation FROM directory_state WHERE id = 1";
        let (found,): (i64,) = read!(self.inner.db, c => sqlx::query_as(sql).fetch_one(c).await?);
        if found == self.inner.model.load().generation {
            return Ok(false);
        }
        let model = rows::load(&self.inner.db).await?;
        tracing::debug!(generation = model.generation, "directory read again: another process changed it");
        self.publish(model);
        Ok(true)
    }

    fn publish(&self, model: Model) {
        let generation = u64::try_from(model.generation).unwrap_or(0);
        self.inner.model.store(Arc::new(model));
        self.inner.generation.send_replace(generation);
    }

    /// The moment's directory.
    pub(crate) fn model(&self) -> arc_swap::Guard<Arc<Model>> {
        self.inner.model.load()
    }

    /// Makes a change: `wish` edits a draft of the newest state; its rows are committed; then the draft is published.
    /// `wish` runs again when another process was faster.
    pub(crate) async fn change<T>(&self, actor: &str, wish: impl Fn(&mut Draft) -> Result<T, Error>) -> Result<T, Error> {
        let _writer = self.inner.writer.lock().await;
        for _ in 0..RACES_MAX {
            self.refresh_locked().await?;
            let mut draft = Draft::new(&self.inner.model.load(), now_s(), self.inner.settings.grace_s);
            let answer = wish(&mut draft)?;
            if draft.writes.is_empty() || self.commit(draft, actor).await? {
                return Ok(answer);
            }
        }
        Err(Error::Value { what: "the change", why: "other programs kept changing the directory; try again".to_owned() })
    }

    /// Commits and publishes a draft; false when it was made from an old state.
    pub(crate) async fn commit(&self, draft: Draft, actor: &str) -> Result<bool, Error> {
        let Draft { mut model, writes, now_s, .. } = draft;
        let old = model.generation;
        model.generation += 1;
        for (action, subject, detail) in writes.audit.iter().take(20) {
            tracing::info!(actor, action, subject, detail, "directory changed");
        }
        if writes.audit.len() > 20 {
            tracing::info!(actor, changes = writes.audit.len(), "directory changed; the audit trail names every one");
        }
        let statements = writes.statements(actor, now_s);
        let claim = "UPDATE directory_state SET generation = $1, next_id = $2 WHERE id = 1 AND generation = $3";
        let committed: bool = transaction!(self.inner.db, tx => {
            let claimed = sqlx::query(claim).bind(model.generation).bind(model.next_id).bind(old).execute(&mut *tx).await?;
            if claimed.rows_affected() == 1 {
                for statement in statements {
                    bound!(statement.sql, statement.values).execute(&mut *tx).await?;
                }
                tx.commit().await?;
                true
            } else {
                false
            }
        });
        if committed {
            self.publish(model);
        }
        Ok(committed)
    }

    /// Exclusive use of the newest state, for a change that is prepared in several steps.
    pub(crate) async fn exclusive(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Error> {
        let guard = self.inner.writer.lock().await;
        self.refresh_locked().await?;
        Ok(guard)
    }

    // ---- listing, from memory ----

    /// All domains by name, also suspended and deleted ones.
    #[must_use]
    pub fn domains(&self) -> Vec<Domain> {
        let model = self.model();
        let mut list: Vec<Domain> = model.domains.values().map(|d| shown_domain(&model, d)).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }
    /// The domain of this name or alias.
    #[must_use]
    pub fn domain(&self, name: &str) -> Option<Domain> {
        let model = self.model();
        model.domain(&normal::domain(name).ok()?).map(|d| shown_domain(&model, d))
    }
    /// Accounts by address, of one domain or of all, also suspended and deleted ones.
    ///
    /// # Errors
    /// [`Error::NoDomain`].
    pub fn accounts(&self, domain: Option<&str>) -> Result<Vec<Account>, Error> {
        let model = self.model();
        let only = self.only(&model, domain)?;
        let mine = model.accounts.values().filter(|a| only.is_none_or(|id| a.domain.0 == id));
        let mut list: Vec<Account> = mine.filter_map(|a| shown_account(&model, a)).collect();
        list.sort_by(|a, b| (a.address.domain(), a.address.local()).cmp(&(b.address.domain(), b.address.local())));
        Ok(list)
    }
    /// The account of exactly this address (any case, any name of its domain).
    #[must_use]
    pub fn account(&self, address: &Address) -> Option<Account> {
        let model = self.model();
        match model.entry(address.local(), address.domain()) {
            Some(Entry::Account(a)) => shown_account(&model, a),
            _ => None,
        }
    }
    /// The account of this number.
    #[must_use]
    pub fn account_by_id(&self, id: AccountId) -> Option<Account> {
        let model = self.model();
        model.account(id).and_then(|a| shown_account(&model, a))
    }
    /// Quotas and sizes of this account.
    #[must_use]
    pub fn limits(&self, id: AccountId) -> Option<Limits> {
        let model = self.model();
        let account = model.account(id)?;
        Some(account.limits(&model.domain_of(account.domain)?.settings))
    }
    /// Aliases by address.
    ///
    /// # Errors
    /// [`Error::NoDomain`].
    pub fn aliases(&self, domain: Option<&str>) -> Result<Vec<Alias>, Error> {
        self.routes(domain, shown_alias)
    }
    /// Groups by address.
    ///
    /// # Errors
    /// [`Error::NoDomain`].
    pub fn groups(&self, domain: Option<&str>) -> Result<Vec<Group>, Error> {
        self.routes(domain, shown_group)
    }
    /// The alias of this address.
    #[must_use]
    pub fn alias(&self, address: &Address) -> Option<Alias> {
        self.route(address, shown_alias)
    }
    /// The group of this address.
    #[must_use]
    pub fn group(&self, address: &Address) -> Option<Group> {
        self.route(address, shown_group)
    }

    fn only(&self, model: &Model, domain: Option<&str>) -> Result<Option<i64>, Error> {
        let Some(name) = domain else { return Ok(None) };
        let found = model.domain(&normal::domain(name)?).ok_or_else(|| Error::NoDomain(name.to_owned()))?;
        Ok(Some(found.id.0))
    }
    fn routes<T>(&self, domain: Option<&str>, show: fn(&Model, &Route) -> Option<T>) -> Result<Vec<T>, Error> {
        let model = self.model();
        let only = self.only(&model, domain)?;
        let mut list: Vec<&Arc<Route>> = model.routes().filter(|r| only.is_none_or(|id| r.domain.0 == id)).collect();
        list.sort_by_key(|r| (model.domain_of(r.domain).map(|d| &d.name), &r.local));
        Ok(list.into_iter().filter_map(|r| show(&model, r)).collect())
    }
    fn route<T>(&self, address: &Address, show: fn(&Model, &Route) -> Option<T>) -> Option<T> {
        let model = self.model();
        match model.entry(address.local(), address.domain()) {
            Some(Entry::Route(r)) => show(&model, r),
            _ => None,
        }
    }
}

fn shown_domain(model: &Model, d: &DomainRecord) -> Domain {
    Domain {
        id: d.id,
        name: d.name.to_string(),
        aliases: d.aliases.iter().map(ToString::to_string).collect(),
        state: d.state(),
        settings: d.settings.clone(),
        accounts: model.accounts_in(d.id),
        created_s: d.created_s,
    }
}

/// `None` only for an account whose domain is gone, which no change leaves behind.
pub(crate) fn shown_account(model: &Model, a: &AccountRecord) -> Option<Account> {
    let domain = model.domain_of(a.domain)?;
    Some(Account {
        id: a.id,
        domain_id: a.domain,
        address: normal::join(&a.local, &domain.name).ok()?,
        display_name: a.display_name.to_string(),
        role: a.role,
        language: a.language,
        state: a.state(),
        services: a.services,
        quota_bytes: a.quota_bytes,
        quota_messages: a.quota_messages,
        max_message_bytes: a.max_message_bytes,
        limits: a.limits(&domain.settings),
        created_s: a.created_s,
    })
}

pub(crate) fn target_address(target: &str) -> Option<Address> {
    let (local, domain) = normal::halves(target)?;
    normal::join(local, domain).ok()
}

fn shown_alias(model: &Model, r: &Route) -> Option<Alias> {
    if r.group.is_some() {
        return None;
    }
    let address = normal::join(&r.local, &model.domain_of(r.domain)?.name).ok()?;
    Some(Alias { address, targets: r.targets.iter().filter_map(|t| target_address(t)).collect() })
}

fn shown_group(model: &Model, r: &Route) -> Option<Group> {
    let rules = r.group.as_ref()?;
    Some(Group {
        address: normal::join(&r.local, &model.domain_of(r.domain)?.name).ok()?,
        display_name: rules.display_name.to_string(),
        members: r.targets.iter().filter_map(|t| target_address(t)).collect(),
        senders: rules.senders.clone(),
        members_send_as: rules.members_send_as,
    })
}
