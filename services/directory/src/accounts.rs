//! Changes of accounts.

use crate::change::{AccountChange, NewAccount, NewPassword};
use crate::credentials::{Credential, Pending};
use crate::directory::Directory;
use crate::draft::Draft;
use crate::error::Error;
use crate::model::{AccountRecord, DomainRecord, Route};
use crate::normal;
use twinpost_message::{AccountId, Address};

const DISPLAY_NAME_MAX_CHARS: usize = 200;

/// What becomes of mail to the old name of a renamed account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renamed {
    /// An alias keeps it coming.
    KeepOldName,
    /// The old name is free for others.
    FreeOldName,
}

impl Directory {
    /// Adds an account.
    ///
    /// # Errors
    /// [`Error::NoDomain`], [`Error::Taken`], [`Error::InGrace`], [`Error::DomainFull`], [`Error::Password`],
    /// [`Error::Hash`], [`Error::Value`].
    pub async fn add_account(&self, actor: &str, address: &Address, new: &NewAccount) -> Result<AccountId, Error> {
        let shown = address.to_string();
        let credential = self.new_credential(&new.password, &[&shown, address.local(), &new.display_name]).await?;
        self.change(actor, |draft| add(draft, address, new, Some(credential.clone()))).await
    }

    /// Changes an account.
    ///
    /// # Errors
    /// [`Error::NoAccount`], [`Error::Deleted`], [`Error::Value`].
    pub async fn change_account(&self, actor: &str, address: &Address, change: &AccountChange) -> Result<(), Error> {
        self.change(actor, |draft| alter(draft, address, change).map(|_| ())).await
    }

    /// Sets a new password. Whoever is remembered with the old one must sign in again; app passwords stay.
    ///
    /// # Errors
    /// [`Error::NoAccount`], [`Error::Deleted`], [`Error::Password`], [`Error::Hash`].
    pub async fn set_password(&self, actor: &str, address: &Address, password: &NewPassword) -> Result<(), Error> {
        let account = self.account(address).ok_or_else(|| Error::NoAccount(address.to_string()))?;
        let shown = account.address.to_string();
        let names = [shown.as_str(), account.address.local(), &account.display_name];
        let credential = self.new_credential(password, &names).await?;
        self.change(actor, |draft| {
            let account = draft.account(address)?;
            draft.note("account.password", shown.as_str(), if *password == NewPassword::None { "taken away" } else { "" });
            draft.put_credential(account.id, credential.clone());
            Ok(())
        })
        .await
    }

    async fn new_credential(&self, password: &NewPassword, names: &[&str]) -> Result<Credential, Error> {
        match Pending::of(password, names, self.inner.settings.password_min_chars)? {
            Pending::Ready(credential) => Ok(credential),
            Pending::Password(plain) => self.inner.sign_in.hash(plain).await,
        }
    }

    /// Stops serving an account; its mail stays.
    ///
    /// # Errors
    /// [`Error::NoAccount`], [`Error::Deleted`].
    pub async fn suspend_account(&self, actor: &str, address: &Address) -> Result<(), Error> {
        self.change(actor, |draft| set_suspended(draft, address, true).map(|_| ())).await
    }
    /// Serves a suspended account again.
    ///
    /// # Errors
    /// [`Error::NoAccount`], [`Error::Deleted`].
    pub async fn resume_account(&self, actor: &str, address: &Address) -> Result<(), Error> {
        self.change(actor, |draft| set_suspended(draft, address, false).map(|_| ())).await
    }

    /// Deletes an account. It can be restored, with its mail, until the time that is returned (seconds since 1970).
    /// Its name stays taken until it is purged.
    ///
    /// # Errors
    /// [`Error::NoAccount`], [`Error::Deleted`].
    pub async fn delete_account(&self, actor: &str, address: &Address) -> Result<i64, Error> {
        self.change(actor, |draft| {
            let mut account = AccountRecord::clone(&*draft.account(address)?);
            let at = draft.now_s.saturating_add(draft.grace_s);
            account.purge_at_s = Some(at);
            draft.note("account.delete", draft.model.own_form(account.domain, &account.local), "");
            draft.put_account(account);
            Ok(at)
        })
        .await
    }
    /// Brings a deleted account back as it was.
    ///
    /// # Errors
    /// [`Error::NoAccount`], [`Error::NotDeleted`], [`Error::DomainFull`].
    pub async fn restore_account(&self, actor: &str, address: &Address) -> Result<(), Error> {
        self.change(actor, |draft| {
            let mut account = AccountRecord::clone(&*draft.any_account(address)?);
            if account.purge_at_s.take().is_none() {
                return Err(Error::NotDeleted(address.to_string()));
            }
            if let Some(domain) = draft.model.domain_of(account.domain) {
                draft.room_for_account(domain)?;
            }
            draft.note("account.restore", draft.model.own_form(account.domain, &account.local), "");
            draft.put_account(account);
            Ok(())
        })
        .await
    }

    /// Gives an account another address, in its own or another domain. Aliases and groups follow it.
    /// The account keeps its number, its mail and its passwords.
    ///
    /// # Errors
    /// [`Error::NoAccount`], [`Error::NoDomain`], [`Error::Taken`], [`Error::InGrace`], [`Error::DomainFull`].
    pub async fn rename_account(&self, actor: &str, address: &Address, new: &Address, old_name: Renamed) -> Result<(), Error> {
        self.change(actor, |draft| rename(draft, address, new, old_name)).await
    }
}

fn check_display_name(name: &str) -> Result<(), Error> {
    if name.chars().count() > DISPLAY_NAME_MAX_CHARS || name.chars().any(char::is_control) {
        let why = format!("at most {DISPLAY_NAME_MAX_CHARS} characters and no control characters");
        return Err(Error::Value { what: "the display name", why });
    }
    Ok(())
}

/// `credential`: `None` when it follows later in the same draft.
pub(crate) fn add(
    draft: &mut Draft,
    address: &Address,
    new: &NewAccount,
    credential: Option<Credential>,
) -> Result<AccountId, Error> {
    let domain = draft.domain(address.domain())?;
    let local = draft.free_name(&domain, address.local())?;
    if let Some(separator) = domain.settings.plus_separator.filter(|s| local.contains(*s)) {
        let why = format!("{separator:?} divides a name from its folder hint in this domain");
        return Err(Error::Value { what: "the name", why });
    }
    check_display_name(&new.display_name)?;
    draft.room_for_account(&domain)?;
    let id = AccountId(draft.next_id());
    draft.put_account(AccountRecord {
        id,
        domain: domain.id,
        local: local.as_str().into(),
        display_name: new.display_name.as_str().into(),
        role: new.role,
        language: new.language.unwrap_or(domain.settings.language),
        services: new.services.unwrap_or(domain.settings.services),
        suspended: new.suspended,
        purge_at_s: None,
        quota_bytes: new.quota_bytes,
        quota_messages: new.quota_messages,
        max_message_bytes: new.max_message_bytes,
        created_s: draft.now_s,
        credential_version: 0,
    });
    if let Some(credential) = credential {
        draft.writes.credentials.insert(id.0, credential);
    }
    draft.note("account.add", format!("{local}@{}", domain.name), format!("role {}", new.role));
    Ok(id)
}

/// True when something was different.
pub(crate) fn alter(draft: &mut Draft, address: &Address, change: &AccountChange) -> Result<bool, Error> {
    let old = draft.account(address)?;
    let mut new = AccountRecord::clone(&old);
    let mut said: Vec<String> = Vec::new();
    if let Some(name) = &change.display_name {
        check_display_name(name)?;
        new.display_name = name.as_str().into();
    }
    macro_rules! take {
        ($($field:ident),+) => { $( if let Some(v) = change.$field { new.$field = v; } )+ };
    }
    take!(role, language, services, quota_bytes, quota_messages, max_message_bytes);
    let limit = |n: Option<u64>| n.map_or_else(|| "default".to_owned(), |n| n.to_string());
    let mut say = |name: &str, old: String, new: String| {
        if old != new {
            said.push(format!("{name}: {old} -> {new}"));
        }
    };
    say("display_name", old.display_name.to_string(), new.display_name.to_string());
    say("role", old.role.to_string(), new.role.to_string());
    say("language", old.language.to_string(), new.language.to_string());
    say("services", old.services.to_string(), new.services.to_string());
    say("quota_bytes", limit(old.quota_bytes), limit(new.quota_bytes));
    say("quota_messages", limit(old.quota_messages), limit(new.quota_messages));
    say("max_message_bytes", limit(old.max_message_bytes), limit(new.max_message_bytes));
    if said.is_empty() {
        return Ok(false);
    }
    draft.note("account.change", draft.model.own_form(new.domain, &new.local), said.join(", "));
    draft.put_account(new);
    Ok(true)
}

/// True when it was different.
pub(crate) fn set_suspended(draft: &mut Draft, address: &Address, suspended: bool) -> Result<bool, Error> {
    let mut account = AccountRecord::clone(&*draft.account(address)?);
    if account.suspended == suspended {
        return Ok(false);
    }
    account.suspended = suspended;
    let action = if suspended { "account.suspend" } else { "account.resume" };
    draft.note(action, draft.model.own_form(account.domain, &account.local), "");
    draft.put_account(account);
    Ok(true)
}

fn rename(draft: &mut Draft, address: &Address, new: &Address, old_name: Renamed) -> Result<(), Error> {
    let old = draft.account(address)?;
    let domain: std::sync::Arc<DomainRecord> = draft.domain(new.domain())?;
    let old_form = draft.model.own_form(old.domain, &old.local);
    if normal::fold(new.local()) == *old.local && domain.id == old.domain {
        return Ok(());
    }
    let local = draft.free_name(&domain, new.local())?;
    if domain.id != old.domain {
        draft.room_for_account(&domain)?;
    }
    let new_form = format!("{local}@{}", domain.name);
    let renamed = AccountRecord { domain: domain.id, local: local.as_str().into(), ..AccountRecord::clone(&old) };
    draft.note("account.rename", old_form.as_str(), format!("now {new_form}"));
    draft.put_account(renamed);
    draft.map_targets(|t| if *t == *old_form { Some(new_form.as_str().into()) } else { Some(t.into()) });
    draft.map_catch_alls(|to| {
        let same = to.local() == &*old.local && normal::halves(&old_form).is_some_and(|(_, d)| d == to.domain());
        if same { normal::join(&local, &domain.name).ok() } else { Some(to.clone()) }
    });
    if old_name == Renamed::KeepOldName {
        let id = draft.next_id();
        let targets = vec![new_form.into()];
        draft.put_route(Route { id, domain: old.domain, local: old.local.clone(), targets, group: None });
    }
    Ok(())
}
