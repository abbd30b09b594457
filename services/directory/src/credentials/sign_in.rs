//! Sign-in: from a name and a password, or a finished SCRAM exchange, to an [`Identity`].
//!
//! Contract: an unknown name costs the same work as a wrong password. Slow hashes run on blocking threads, a bounded
//! number at once, a bounded number waiting: guessing can neither fill the memory nor starve mail. What was verified is
//! remembered for a while as a keyed hash, and forgotten at once when the account's credentials change.
//!
//! Known limit: an account that still has another system's hash fails slower than others by the cost of that hash (it
//! pays for both): its name could be told from an unknown one by many timed guesses, until its owner signs in once.

use super::{Credential, Scram, app_password, keyed};
use crate::change::{HashCost, Settings};
use crate::directory::Directory;
use crate::error::{Error, SignInError};
use crate::model::{AccountRecord, Entry};
use crate::normal;
use crate::rows::{AppPasswordRow, bound};
use crate::types::{Identity, Service, Services, State};
use argon2::{Argon2, PasswordVerifier};
use quick_cache::sync::Cache;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use twinpost_message::{AccountId, Address};
use twinpost_sasl::ScramSecret;
use twinpost_sql::{read, transaction};

pub(crate) struct SignIn {
    cost: HashCost,
    /// One permit for each slow hash at work.
    gate: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    remembered: Cache<[u8; 32], Remembered>,
    remember: Duration,
    /// Keys the remembered passwords; new at each start.
    memory_key: [u8; 32],
    /// Of this installation: makes the secrets of unknown users stable.
    secret: Vec<u8>,
    /// What a password of an unknown user is compared with.
    dummy: Arc<str>,
}

#[derive(Clone)]
struct Remembered {
    version: u32,
    until: Instant,
    app_password: Option<(Arc<str>, Services)>,
}

/// How a password fared.
enum Verdict {
    Wrong,
    App(String, Services),
    Own { renewed: Option<Credential> },
}

impl SignIn {
    pub(crate) fn new(settings: &Settings, secret: &[u8]) -> Result<Self, Error> {
        let cost = settings.cost;
        if !(1..=super::SCRAM_ITERATIONS_MAX).contains(&cost.scram_iterations) {
            let why = format!("SCRAM needs 1 to {} rounds", super::SCRAM_ITERATIONS_MAX);
            return Err(Error::Value { what: "the cost of password hashes", why });
        }
        Ok(Self {
            cost,
            gate: Arc::new(Semaphore::new(settings.verifications_at_once.clamp(1, Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
            waiting_max: settings.verifications_waiting,
            remembered: Cache::new(settings.remember_max.max(1)),
            remember: Duration::from_secs(settings.remember_s),
            memory_key: rand::random(),
            secret: secret.to_vec(),
            dummy: super::nobody_s_hash(cost)?.into(),
        })
    }

    fn memory_of(&self, account: AccountId, password: &str) -> [u8; 32] {
        keyed(&self.memory_key, &[&account.0.to_be_bytes(), password.as_bytes()])
    }

    /// A turn for one slow hash.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, SignInError> {
        if let Ok(permit) = Arc::clone(&self.gate).try_acquire_owned() {
            return Ok(permit);
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.waiting_max {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(SignInError::Busy);
        }
        let place = Place(&self.waiting);
        let permit = Arc::clone(&self.gate).acquire_owned().await;
        drop(place);
        permit.map_err(|_| Error::Stopped.into())
    }

    /// Runs slow work in its turn on a blocking thread.
    async fn slowly<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, SignInError> {
        let permit = self.turn().await?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            // Held by the work, not by the waiting session: a client that hangs up frees no turn early.
            drop(permit);
            result
        });
        done.await.map_err(|_| Error::Stopped.into())
    }

    /// Hashes a new password in its turn.
    pub(crate) async fn hash(&self, password: String) -> Result<Credential, Error> {
        let cost = self.cost;
        match self.slowly(move || Credential::of(&password, cost)).await {
            Ok(made) => made,
            Err(SignInError::Directory(e)) => Err(e),
            Err(other) => Err(Error::Value { what: "the new password", why: other.to_string() }),
        }
    }
}

/// A place in the queue, given back also when the waiting session goes away.
struct Place<'a>(&'a AtomicUsize);
impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn verify(
    password: &str,
    account: AccountId,
    credential: Option<&Credential>,
    apps: &[AppPasswordRow],
    cost: HashCost,
    dummy: &str,
) -> Verdict {
    let given = app_password::verifier(account, password);
    if let Some(app) = apps.iter().find(|a| a.verifier.as_bytes().ct_eq(given.as_bytes()).into()) {
        return Verdict::App(app.name.clone(), app.services);
    }
    let too_long = password.len() > super::rules::PASSWORD_MAX_BYTES;
    if !too_long && credential.is_some_and(|c| c.opens(password)) {
        let outdated = credential.is_some_and(|c| c.is_outdated(cost));
        let origin = credential.and_then(|c| c.origin.clone());
        // A failure to hash only means that the old hash stays.
        let renewed = outdated.then(|| Credential::of(password, cost).ok()).flatten().map(|c| Credential { origin, ..c });
        return Verdict::Own { renewed };
    }
    if credential.and_then(|c| c.hash.as_ref()).is_none_or(|h| !h.starts_with("$argon2")) {
        let short = if too_long { "too long" } else { password };
        let _ = Argon2::default().verify_password(short.as_bytes(), dummy);
    }
    Verdict::Wrong
}

impl Directory {
    /// Who `user` is: a full address, or a name in the default domain. Only accounts, not aliases; also accounts that are
    /// suspended, because only the owner of the password is told so.
    fn named(&self, user: &str) -> Option<Arc<AccountRecord>> {
        let user = user.trim();
        if user.len() > 400 {
            return None;
        }
        let model = self.model();
        let (local, domain) = if user.contains('@') {
            let address = Address::parse(user).ok()?;
            (address.local().to_owned(), address.domain().to_owned())
        } else {
            let domain = match &self.inner.settings.default_domain {
                Some(name) => normal::domain(name).ok()?,
                None if model.domains.len() == 1 => model.domains.values().next()?.name.to_string(),
                None => return None,
            };
            (user.to_owned(), domain)
        };
        match model.entry(&local, &domain) {
            Some(Entry::Account(a)) => Some(Arc::clone(a)),
            _ => None,
        }
    }

    /// Checks a password and the right to use `service`.
    ///
    /// # Errors
    /// [`SignInError::Wrong`] for an unknown name and a wrong password alike; the others only with the right password.
    pub async fn authenticate(&self, user: &str, password: &str, service: Service) -> Result<Identity, SignInError> {
        let sign_in = &self.inner.sign_in;
        let record = self.named(user);
        let id = record.as_ref().map_or(AccountId(-1), |r| r.id);
        let memory = sign_in.memory_of(id, password);
        if let Some(record) = &record
            && let Some(known) = sign_in.remembered.get(&memory)
            && known.version == record.credential_version
            && known.until > Instant::now()
        {
            return self.identify(record.id, service, known.app_password);
        }
        let (credential, apps) = (self.credential(id).await?, self.app_password_rows(id).await?);
        let (text, dummy, cost) = (password.to_owned(), Arc::clone(&sign_in.dummy), sign_in.cost);
        let (verdict, credential) =
            sign_in.slowly(move || (verify(&text, id, credential.as_ref(), &apps, cost, &dummy), credential)).await?;
        let Some(record) = record else { return Err(SignInError::Wrong) };
        let app_password = match verdict {
            Verdict::Wrong => return Err(SignInError::Wrong),
            Verdict::App(name, services) => Some((Arc::from(name), services)),
            Verdict::Own { renewed } => {
                if let (Some(new), Some(old)) = (renewed, credential) {
                    self.renew(record.id, &old, new).await;
                }
                None
            }
        };
        // The version is the one from before the check: a change in between is not remembered as verified.
        let remembered = Remembered {
            version: record.credential_version,
            until: Instant::now() + sign_in.remember,
            app_password: app_password.clone(),
        };
        sign_in.remembered.insert(memory, remembered);
        self.identify(record.id, service, app_password)
    }

    /// The SCRAM-SHA-256 secret of a user. An unknown user, and one whose password is only known as another system's
    /// hash, gets one that no password opens, always the same (RFC 5802 9).
    ///
    /// # Errors
    /// [`SignInError::Directory`] when the database does not answer.
    pub async fn scram_secret(&self, user: &str) -> Result<ScramSecret, SignInError> {
        let record = self.named(user);
        let credential = self.credential(record.as_ref().map_or(AccountId(-1), |r| r.id)).await?;
        if let Some(Scram(secret)) = credential.and_then(|c| c.scram) {
            return Ok(secret);
        }
        let sign_in = &self.inner.sign_in;
        let name: String = normal::fold(user.trim()).chars().take(400).collect();
        Ok(ScramSecret { iterations: sign_in.cost.scram_iterations, ..ScramSecret::fake(&name, &sign_in.secret) })
    }

    /// Who a user is whose password was proved by SCRAM.
    ///
    /// # Errors
    /// [`SignInError`] when it is not known, suspended, or may not use the service.
    pub fn identity(&self, user: &str, service: Service) -> Result<Identity, SignInError> {
        let record = self.named(user).ok_or(SignInError::Wrong)?;
        self.identify(record.id, service, None)
    }

    fn identify(&self, id: AccountId, service: Service, app: Option<(Arc<str>, Services)>) -> Result<Identity, SignInError> {
        let model = self.model();
        // Deleted while the password was checked.
        let record = model.account(id).ok_or(SignInError::Wrong)?;
        let domain = model.domain_of(record.domain).ok_or(SignInError::Wrong)?;
        if record.state() != State::Active || domain.state() != State::Active {
            return Err(SignInError::Suspended);
        }
        let services = app.as_ref().map_or(record.services, |(_, only)| record.services.both(*only));
        if !services.allows(service) {
            return Err(SignInError::NotAllowed(service));
        }
        Ok(Identity {
            account: record.id,
            domain: record.domain,
            address: normal::join(&record.local, &domain.name)?,
            display_name: record.display_name.to_string(),
            role: record.role,
            language: record.language,
            services,
            limits: record.limits(&domain.settings),
            app_password: app.map(|(name, _)| name.to_string()),
        })
    }

    /// Reads an account's credential; `None` when it has none.
    pub(crate) async fn credential(&self, id: AccountId) -> Result<Option<Credential>, Error> {
        let sql = "SELECT hash, origin, scram FROM credential WHERE account_id = $1";
        type Row = (Option<String>, Option<String>, Option<String>);
        let row: Option<Row> = read!(self.inner.db, c => sqlx::query_as(sql).bind(id.0).fetch_optional(c).await?);
        Ok(row.map(|(hash, origin, scram)| Credential { hash, origin, scram: scram.and_then(|s| s.parse().ok()) }))
    }

    /// Replaces an outdated hash of the same password, unless somebody changed it meanwhile. What is remembered stays
    /// good, so this is no change of the directory. A failure is logged: the old hash still opens.
    async fn renew(&self, id: AccountId, old: &Credential, new: Credential) {
        let sql = "UPDATE credential SET hash = $1, scram = $2 WHERE account_id = $3 AND COALESCE(hash, '') = $4 AND COALESCE(scram, '') = $5";
        let scram = |c: &Credential| c.scram.as_ref().map(ToString::to_string);
        let (new_scram, old_scram) = (scram(&new), scram(old).unwrap_or_default());
        let old_hash = old.hash.clone().unwrap_or_default();
        let outcome: Result<(), twinpost_sql::Error> = async {
            transaction!(self.inner.db, tx => {
                let values = vec![new.hash.into(), new_scram.into(), id.0.into(), old_hash.into(), old_scram.into()];
                bound!(sql, values as Vec<crate::rows::Val>).execute(&mut *tx).await?;
                tx.commit().await?;
            });
            Ok(())
        }
        .await;
        match outcome {
            Ok(()) => tracing::info!(account = %id, "old password hash replaced"),
            Err(error) => tracing::warn!(account = %id, %error, "old password hash could not be replaced"),
        }
    }
}
