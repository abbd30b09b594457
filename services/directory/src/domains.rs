//! Changes of domains.

use crate::change::NewDomain;
use crate::directory::Directory;
use crate::draft::Draft;
use crate::error::Error;
use crate::model::DomainRecord;
use crate::normal;
use crate::types::DomainSettings;
use twinpost_message::{Address, DomainId};

/// Other names of one domain.
const ALIASES_MAX: usize = 100;

impl Directory {
    /// Adds a domain.
    ///
    /// # Errors
    /// [`Error::DomainName`], [`Error::Taken`], [`Error::Value`].
    pub async fn add_domain(&self, actor: &str, name: &str, new: &NewDomain) -> Result<DomainId, Error> {
        self.change(actor, |draft| add(draft, name, new)).await
    }

    /// Changes a domain's limits and rules: `edit` gets the present ones. (It runs again when another process was faster.)
    ///
    /// # Errors
    /// [`Error::NoDomain`], [`Error::Deleted`], [`Error::Value`], [`Error::Loop`] through a catch-all.
    pub async fn change_domain(&self, actor: &str, name: &str, edit: impl Fn(&mut DomainSettings)) -> Result<(), Error> {
        self.change(actor, |draft| {
            let mut domain = DomainRecord::clone(&*draft.domain(name)?);
            let old = domain.settings.clone();
            edit(&mut domain.settings);
            check(&domain.settings)?;
            if old == domain.settings {
                return Ok(());
            }
            domain.settings.catch_all = normal_catch_all(draft, domain.settings.catch_all.as_ref())?;
            draft.note("domain.change", &*domain.name, difference(&old, &domain.settings));
            draft.put_domain(domain.clone());
            draft.check_catch_all(&domain)
        })
        .await
    }

    /// Stops serving a domain: its mail is refused for the time being and nobody signs in.
    ///
    /// # Errors
    /// [`Error::NoDomain`], [`Error::Deleted`].
    pub async fn suspend_domain(&self, actor: &str, name: &str) -> Result<(), Error> {
        self.set_domain_suspended(actor, name, true, "domain.suspend").await
    }
    /// Serves a suspended domain again.
    ///
    /// # Errors
    /// [`Error::NoDomain`], [`Error::Deleted`].
    pub async fn resume_domain(&self, actor: &str, name: &str) -> Result<(), Error> {
        self.set_domain_suspended(actor, name, false, "domain.resume").await
    }
    async fn set_domain_suspended(&self, actor: &str, name: &str, suspended: bool, action: &'static str) -> Result<(), Error> {
        self.change(actor, |draft| {
            let mut domain = DomainRecord::clone(&*draft.domain(name)?);
            if domain.suspended != suspended {
                domain.suspended = suspended;
                draft.note(action, &*domain.name, "");
                draft.put_domain(domain);
            }
            Ok(())
        })
        .await
    }

    /// Removes a domain with its accounts. It can be restored until the time that is returned (seconds since 1970).
    ///
    /// # Errors
    /// [`Error::NoDomain`], [`Error::Deleted`].
    pub async fn remove_domain(&self, actor: &str, name: &str) -> Result<i64, Error> {
        self.change(actor, |draft| {
            let mut domain = DomainRecord::clone(&*draft.domain(name)?);
            let at = draft.now_s.saturating_add(draft.grace_s);
            domain.purge_at_s = Some(at);
            draft.note("domain.remove", &*domain.name, format!("{} accounts", draft.model.accounts_in(domain.id)));
            draft.put_domain(domain);
            Ok(at)
        })
        .await
    }
    /// Brings a removed domain back as it was.
    ///
    /// # Errors
    /// [`Error::NoDomain`], [`Error::NotDeleted`].
    pub async fn restore_domain(&self, actor: &str, name: &str) -> Result<(), Error> {
        self.change(actor, |draft| {
            let name = normal::domain(name)?;
            let mut domain = match draft.model.domain(&name) {
                Some(d) => DomainRecord::clone(d),
                None => return Err(Error::NoDomain(name)),
            };
            if domain.purge_at_s.take().is_none() {
                return Err(Error::NotDeleted(name));
            }
            draft.note("domain.restore", name, "");
            draft.put_domain(domain);
            Ok(())
        })
        .await
    }

    /// Gives a domain another name. With `keep_old` mail to the old name still arrives.
    ///
    /// # Errors
    /// [`Error::NoDomain`], [`Error::DomainName`], [`Error::Taken`].
    pub async fn rename_domain(&self, actor: &str, name: &str, new: &str, keep_old: bool) -> Result<(), Error> {
        self.change(actor, |draft| {
            let mut domain = DomainRecord::clone(&*draft.domain(name)?);
            let new = normal::domain(new)?;
            let old = std::mem::replace(&mut domain.name, new.as_str().into());
            if *old == *new {
                return Ok(());
            }
            // An own alias may become the name.
            domain.aliases.retain(|a| **a != *new);
            if draft.model.domain(&new).is_some_and(|d| d.id != domain.id) {
                return Err(taken(draft, &new));
            }
            if keep_old {
                domain.aliases.push(old.clone());
            }
            draft.note("domain.rename", &*old, format!("now {new}{}", if keep_old { ", the old name stays" } else { "" }));
            draft.put_domain(domain);
            draft.map_targets(|target| match normal::halves(target) {
                Some((local, host)) if *host == *old => Some(format!("{local}@{new}").into()),
                _ => Some(target.into()),
            });
            draft.map_catch_alls(|to| if to.domain() == &*old { normal::join(to.local(), &new).ok() } else { Some(to.clone()) });
            Ok(())
        })
        .await
    }

    /// Gives a domain another name beside its own: mail to x@alias is mail to x@domain.
    ///
    /// # Errors
    /// [`Error::NoDomain`], [`Error::DomainName`], [`Error::Taken`], [`Error::TooMany`].
    pub async fn add_domain_alias(&self, actor: &str, name: &str, alias: &str) -> Result<(), Error> {
        self.change(actor, |draft| {
            let mut domain = DomainRecord::clone(&*draft.domain(name)?);
            let alias = normal::domain(alias)?;
            if draft.model.domain(&alias).is_some() {
                return Err(taken(draft, &alias));
            }
            if domain.aliases.len() >= ALIASES_MAX {
                return Err(Error::TooMany { what: "a domain's other names", max: ALIASES_MAX, given: domain.aliases.len() + 1 });
            }
            draft.note("domain.alias.add", &*domain.name, &*alias);
            domain.aliases.push(alias.into());
            draft.put_domain(domain);
            Ok(())
        })
        .await
    }
    /// Takes another name of a domain away.
    ///
    /// # Errors
    /// [`Error::NoDomain`] when it is no other name of a domain.
    pub async fn remove_domain_alias(&self, actor: &str, alias: &str) -> Result<(), Error> {
        self.change(actor, |draft| {
            let alias = normal::domain(alias)?;
            let mut domain = DomainRecord::clone(&*draft.domain(&alias)?);
            let before = domain.aliases.len();
            domain.aliases.retain(|a| **a != *alias);
            if domain.aliases.len() == before {
                return Err(Error::NoDomain(alias));
            }
            draft.note("domain.alias.remove", &*domain.name, alias);
            draft.put_domain(domain);
            Ok(())
        })
        .await
    }
}

pub(crate) fn add(draft: &mut Draft, name: &str, new: &NewDomain) -> Result<DomainId, Error> {
    let name = normal::domain(name)?;
    let mut aliases = new.aliases.iter().map(|a| normal::domain(a)).collect::<Result<Vec<_>, _>>()?;
    aliases.sort_unstable();
    aliases.dedup();
    aliases.retain(|a| *a != name);
    for other in std::iter::once(&name).chain(&aliases) {
        if draft.model.domain(other).is_some() {
            return Err(taken(draft, other));
        }
    }
    if aliases.len() > ALIASES_MAX {
        return Err(Error::TooMany { what: "a domain's other names", max: ALIASES_MAX, given: aliases.len() });
    }
    check(&new.settings)?;
    let id = DomainId(draft.next_id());
    let domain = DomainRecord {
        id,
        name: name.as_str().into(),
        aliases: aliases.into_iter().map(Into::into).collect(),
        suspended: false,
        purge_at_s: None,
        settings: new.settings.clone(),
        created_s: draft.now_s,
    };
    draft.put_domain(domain.clone());
    if new.settings.catch_all.is_some() {
        let mut domain = domain;
        domain.settings.catch_all = normal_catch_all(draft, new.settings.catch_all.as_ref())?;
        draft.put_domain(domain.clone());
        draft.check_catch_all(&domain)?;
    }
    draft.note("domain.add", name, difference(&DomainSettings::default(), &new.settings));
    Ok(id)
}

fn taken(draft: &Draft, name: &str) -> Error {
    let what = match draft.model.domain(name) {
        Some(d) if *d.name != *name => format!("another name of the domain {}", d.name),
        Some(d) if d.purge_at_s.is_some() => "a removed domain that can still be restored".to_owned(),
        _ => "a domain of its own".to_owned(),
    };
    Error::Taken { name: name.to_owned(), what }
}

fn check(settings: &DomainSettings) -> Result<(), Error> {
    match settings.plus_separator {
        None | Some('+' | '-' | '_' | '=' | '#' | '~') => Ok(()),
        Some(c) => Err(Error::Value { what: "the plus separator", why: format!("{c:?} is none of + - _ = # ~") }),
    }
}

fn normal_catch_all(draft: &Draft, to: Option<&Address>) -> Result<Option<Address>, Error> {
    let Some(to) = to else { return Ok(None) };
    let form = draft.model.target_form(to);
    let (local, domain) = normal::halves(&form).ok_or_else(|| Error::Damaged(form.clone()))?;
    Ok(Some(normal::join(local, domain)?))
}

/// `quota_bytes: none -> 5` for each value that differs, from the serialised form so that no field is forgotten.
fn difference(old: &DomainSettings, new: &DomainSettings) -> String {
    let fields = |s: &DomainSettings| match serde_json::to_value(s) {
        Ok(serde_json::Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let (old, new) = (fields(old), fields(new));
    let shown = |v: Option<&serde_json::Value>| v.filter(|v| !v.is_null()).map_or_else(|| "none".to_owned(), ToString::to_string);
    let changed: Vec<String> = new
        .iter()
        .filter(|(k, v)| old.get(*k) != Some(*v))
        .map(|(k, v)| format!("{k}: {} -> {}", shown(old.get(k)), shown(Some(v))))
        .collect();
    changed.join(", ")
}

impl Draft {
    /// Changes catch-all addresses of all domains; `None` switches one off.
    pub(crate) fn map_catch_alls(&mut self, change: impl Fn(&Address) -> Option<Address>) {
        let touched: Vec<DomainRecord> = self
            .model
            .domains
            .values()
            .filter_map(|d| {
                let old = d.settings.catch_all.as_ref()?;
                let new = change(old);
                if new.as_ref() == Some(old) {
                    return None;
                }
                let mut domain = DomainRecord::clone(d);
                domain.settings.catch_all = new;
                Some(domain)
            })
            .collect();
        for domain in touched {
            self.put_domain(domain);
        }
    }
}
