//! Changes of aliases and groups: the addresses that lead to others.

use crate::change::{GroupChange, NewGroup};
use crate::directory::Directory;
use crate::draft::{Draft, TARGETS_MAX};
use crate::error::Error;
use crate::model::{DomainRecord, Found, GroupRules, Model, Route};
use crate::normal;
use crate::types::Senders;
use std::collections::HashSet;
use std::sync::Arc;
use twinpost_message::Address;

impl Directory {
    /// Adds an alias: mail to `address` goes to `targets`, here or elsewhere.
    ///
    /// # Errors
    /// [`Error::NoDomain`], [`Error::Taken`], [`Error::InGrace`], [`Error::NoTarget`], [`Error::TooMany`],
    /// [`Error::Loop`] with the circle spelled out.
    pub async fn add_alias(&self, actor: &str, address: &Address, targets: &[Address]) -> Result<(), Error> {
        self.change(actor, |draft| add_alias(draft, address, targets).map(|_| ())).await
    }
    /// Gives an alias other targets.
    ///
    /// # Errors
    /// [`Error::NoAlias`], [`Error::NoTarget`], [`Error::TooMany`], [`Error::Loop`].
    pub async fn change_alias(&self, actor: &str, address: &Address, targets: &[Address]) -> Result<(), Error> {
        self.change(actor, |draft| {
            let mut route = Route::clone(&*draft.route(address, false)?);
            route.targets = forms(&draft.model, targets)?;
            if route.targets.is_empty() {
                return Err(Error::NoTarget(address.to_string()));
            }
            let detail = format!("now {}", route.targets.join(" "));
            draft.note("alias.change", draft.model.own_form(route.domain, &route.local), detail);
            draft.put_checked(route)
        })
        .await
    }
    /// Takes an alias away.
    ///
    /// # Errors
    /// [`Error::NoAlias`].
    pub async fn remove_alias(&self, actor: &str, address: &Address) -> Result<(), Error> {
        self.change(actor, |draft| remove(draft, address, false, "alias.remove")).await
    }

    /// Adds a group.
    ///
    /// # Errors
    /// As [`Directory::add_alias`]; a group may be empty.
    pub async fn add_group(&self, actor: &str, address: &Address, new: &NewGroup) -> Result<(), Error> {
        self.change(actor, |draft| add_group(draft, address, new)).await
    }
    /// Changes a group.
    ///
    /// # Errors
    /// [`Error::NoGroup`], [`Error::TooMany`], [`Error::Loop`].
    pub async fn change_group(&self, actor: &str, address: &Address, change: &GroupChange) -> Result<(), Error> {
        self.change(actor, |draft| alter_group(draft, address, change)).await
    }
    /// Takes a group away; its members stay.
    ///
    /// # Errors
    /// [`Error::NoGroup`].
    pub async fn remove_group(&self, actor: &str, address: &Address) -> Result<(), Error> {
        self.change(actor, |draft| remove(draft, address, true, "group.remove")).await
    }
}

/// Targets in stored form, sorted, each once.
fn forms(model: &Model, addresses: &[Address]) -> Result<Vec<Box<str>>, Error> {
    if addresses.len() > TARGETS_MAX {
        return Err(Error::TooMany { what: "an alias or group", max: TARGETS_MAX, given: addresses.len() });
    }
    let mut forms: Vec<Box<str>> = addresses.iter().map(|a| model.target_form(a).into()).collect();
    forms.sort_unstable();
    forms.dedup();
    Ok(forms)
}

pub(crate) fn add_alias(draft: &mut Draft, address: &Address, targets: &[Address]) -> Result<(), Error> {
    let domain = draft.domain(address.domain())?;
    let local = draft.free_name(&domain, address.local())?;
    let targets = forms(&draft.model, targets)?;
    if targets.is_empty() {
        return Err(Error::NoTarget(address.to_string()));
    }
    draft.note("alias.add", format!("{local}@{}", domain.name), format!("to {}", targets.join(" ")));
    let id = draft.next_id();
    draft.put_checked(Route { id, domain: domain.id, local: local.into(), targets, group: None })
}

fn normal_senders(draft: &Draft, senders: &Senders) -> Result<Senders, Error> {
    let Senders::Listed(list) = senders else { return Ok(senders.clone()) };
    if list.len() > 1000 {
        return Err(Error::TooMany { what: "a group's listed senders", max: 1000, given: list.len() });
    }
    let forms = forms(&draft.model, list)?;
    Ok(Senders::Listed(forms.iter().filter_map(|f| crate::directory::target_address(f)).collect()))
}

pub(crate) fn add_group(draft: &mut Draft, address: &Address, new: &NewGroup) -> Result<(), Error> {
    let domain = draft.domain(address.domain())?;
    let local = draft.free_name(&domain, address.local())?;
    let targets = forms(&draft.model, &new.members)?;
    let rules = GroupRules {
        display_name: new.display_name.as_str().into(),
        senders: normal_senders(draft, &new.senders)?,
        members_send_as: new.members_send_as,
    };
    draft.note("group.add", format!("{local}@{}", domain.name), format!("{} members", targets.len()));
    let id = draft.next_id();
    draft.put_checked(Route { id, domain: domain.id, local: local.into(), targets, group: Some(rules) })
}

pub(crate) fn alter_group(draft: &mut Draft, address: &Address, change: &GroupChange) -> Result<(), Error> {
    let old = draft.route(address, true)?;
    let mut route = Route::clone(&old);
    let (come, go) = (forms(&draft.model, &change.add_members)?, forms(&draft.model, &change.remove_members)?);
    route.targets.retain(|t| go.binary_search(t).is_err());
    route.targets.extend(come);
    route.targets.sort_unstable();
    route.targets.dedup();
    if route.targets.len() > TARGETS_MAX {
        return Err(Error::TooMany { what: "a group", max: TARGETS_MAX, given: route.targets.len() });
    }
    if let Some(rules) = &mut route.group {
        if let Some(name) = &change.display_name {
            rules.display_name = name.as_str().into();
        }
        if let Some(senders) = &change.senders {
            rules.senders = normal_senders(draft, senders)?;
        }
        rules.members_send_as = change.members_send_as.unwrap_or(rules.members_send_as);
    }
    if route == *old {
        return Ok(());
    }
    let detail = format!("{} members, before {}", route.targets.len(), old.targets.len());
    draft.note("group.change", draft.model.own_form(route.domain, &route.local), detail);
    draft.put_checked(route)
}

fn remove(draft: &mut Draft, address: &Address, group: bool, action: &'static str) -> Result<(), Error> {
    let route = draft.route(address, group)?;
    let form = draft.model.own_form(route.domain, &route.local);
    draft.note(action, form.as_str(), "");
    draft.drop_route(&route);
    // Nothing may lead to it any more, or mail to the others on such a list would bounce half.
    draft.map_targets(|t| if *t == *form { None } else { Some(t.into()) });
    draft.map_catch_alls(|to| if crate::resolve::is_form(to, &form) { None } else { Some(to.clone()) });
    Ok(())
}

impl Draft {
    /// Writes a route if mail cannot run in a circle through it.
    pub(crate) fn put_checked(&mut self, route: Route) -> Result<(), Error> {
        let start = self.model.own_form(route.domain, &route.local);
        self.put_route(route);
        no_circle(&self.model, &start)
    }
    pub(crate) fn check_catch_all(&self, domain: &DomainRecord) -> Result<(), Error> {
        match &domain.settings.catch_all {
            Some(to) => no_circle(&self.model, &self.model.target_form(to)),
            None => Ok(()),
        }
    }
}

/// One step from a name: what it is called in a circle, and where it leads. `None` where mail comes to rest.
fn step(model: &Model, form: &str) -> Option<(String, Vec<Box<str>>)> {
    let (local, domain) = normal::halves(form)?;
    match model.find(local, domain) {
        Found::Route(_, route) => Some((model.own_form(route.domain, &route.local), route.targets.clone())),
        Found::CatchAll(domain, to) => Some((format!("(anyone else)@{}", domain.name), vec![model.target_form(to).into()])),
        Found::Account(..) | Found::Unknown(_) | Found::Elsewhere => None,
    }
}

/// Refuses when mail from `start` can come back to a place where it was. Depth first, each place once.
fn no_circle(model: &Model, start: &str) -> Result<(), Error> {
    let mut path: Vec<(String, std::vec::IntoIter<Box<str>>)> = Vec::new();
    let mut done: HashSet<String> = HashSet::new();
    let enter = |form: &str| step(model, form).map(|(name, targets)| (name, targets.into_iter()));
    path.extend(enter(start));
    while let Some((_, targets)) = path.last_mut() {
        let Some(target) = targets.next() else {
            done.extend(path.pop().map(|(name, _)| name));
            continue;
        };
        let Some((name, targets)) = enter(&target) else { continue };
        if let Some(at) = path.iter().position(|(n, _)| *n == name) {
            let mut circle: Vec<String> = path[at..].iter().map(|(n, _)| n.clone()).collect();
            circle.push(name);
            return Err(Error::Loop { path: circle });
        }
        if !done.contains(&name) {
            path.push((name, targets));
        }
    }
    Ok(())
}

/// Used by the import: the route of this address, if there is one.
pub(crate) fn route_of(model: &Model, address: &Address) -> Option<Arc<Route>> {
    match model.entry(address.local(), address.domain()) {
        Some(crate::model::Entry::Route(r)) => Some(Arc::clone(r)),
        _ => None,
    }
}
