//! Where mail goes, and who may send as whom.
//!
//! Contract: answers come from memory, from one moment of the directory, in microseconds for an account and in time
//! proportional to its members for a group. Each account and each address elsewhere is named once, however many ways
//! lead to it. Circles (which changes refuse, but which a new domain can close) end where they began.

use crate::directory::{Directory, target_address};
use crate::model::{AccountRecord, DomainRecord, Found, Model, Route};
use crate::normal;
use crate::types::{Limits, Senders};
use std::collections::HashSet;
use std::sync::Arc;
use twinpost_message::{AccountId, Address, DomainId};

/// Most mailboxes and addresses that one recipient stands for.
const EXPANSION_MAX: usize = 100_000;
/// Most aliases and groups that are looked through for a right to send.
const RIGHTS_MAX: usize = 10_000;

/// Who sends the message: groups can be closed to strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Originator<'a> {
    /// A signed-in account.
    Account(AccountId),
    /// Somebody who did not sign in; `None` is the null sender. An address of ours proves nothing then.
    Outside(Option<&'a Address>),
    /// The appliance itself, or a question without a message (RCPT limits, `ctl`): closed groups are open.
    System,
}

/// What a recipient address stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// These mailboxes here and these addresses elsewhere; at least one.
    Deliver {
        /// Mailboxes here.
        local: Vec<Target>,
        /// Addresses elsewhere, to be forwarded to.
        remote: Vec<Address>,
    },
    /// Ours, but the account, its domain, or everyone behind the address is suspended: try later.
    Suspended,
    /// Ours, but there is no such name (or it was deleted).
    UnknownUser,
    /// Not a domain of ours.
    NotOurDomain,
    /// A group that is closed to this originator.
    NotAllowed,
    /// It stands for more than 100,000 recipients.
    TooMany,
}

/// One mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The account.
    pub account: AccountId,
    /// Its domain.
    pub domain: DomainId,
    /// Its own address in normal form.
    pub address: Address,
    /// Folder hint of a plus address, as written by the sender: use it if the folder exists.
    pub folder: Option<String>,
    /// Quotas and sizes that hold.
    pub limits: Limits,
}

/// An address of ours in stored form.
pub(crate) fn is_form(address: &Address, form: &str) -> bool {
    normal::halves(form) == Some((address.local(), address.domain()))
}

fn target(domain: &DomainRecord, account: &AccountRecord, folder: Option<String>) -> Option<Target> {
    Some(Target {
        account: account.id,
        domain: account.domain,
        // Its length was checked when it was added; a longer domain name since then makes it unreachable.
        address: normal::join(&account.local, &domain.name).ok()?,
        folder,
        limits: account.limits(&domain.settings),
    })
}

struct Expansion<'m> {
    model: &'m Model,
    from: Originator<'m>,
    local: Vec<Target>,
    remote: Vec<Address>,
    accounts: HashSet<AccountId>,
    elsewhere: HashSet<Box<str>>,
    routes: HashSet<i64>,
    suspended: bool,
    closed: bool,
}

impl Directory {
    /// What mail for `to` becomes.
    #[must_use]
    pub fn resolve(&self, to: &Address, from: Originator<'_>) -> Resolution {
        let model = self.model();
        match model.find(to.local(), to.domain()) {
            Found::Elsewhere => Resolution::NotOurDomain,
            Found::Unknown(domain) if domain.suspended => Resolution::Suspended,
            Found::Unknown(_) => Resolution::UnknownUser,
            // The common case, without the machinery.
            Found::Account(domain, account, folder) => {
                if domain.suspended || account.suspended {
                    return Resolution::Suspended;
                }
                match target(domain, account, folder) {
                    Some(t) => Resolution::Deliver { local: vec![t], remote: Vec::new() },
                    None => Resolution::UnknownUser,
                }
            }
            Found::Route(..) | Found::CatchAll(..) => expand(&model, to, from),
        }
    }

    /// Our domain, served or suspended: mail for it is not relayed.
    #[must_use]
    pub fn is_local_domain(&self, domain: &str) -> bool {
        self.model().domain(domain).is_some_and(|d| d.purge_at_s.is_none())
    }

    /// The account may send with this address as sender: its own (also by another name of its domain, also with a plus
    /// part), an alias that leads to it, or a group that lets its members do so.
    #[must_use]
    pub fn may_send_as(&self, account: AccountId, address: &Address) -> bool {
        let model = self.model();
        let Some(record) = model.account(account).filter(|a| a.purge_at_s.is_none()) else { return false };
        let own = model.own_form(record.domain, &record.local);
        let mut open: Vec<Arc<Route>> = Vec::new();
        match model.find(address.local(), address.domain()) {
            Found::Account(_, found, _) => return found.id == account,
            Found::Route(_, route) => open.push(Arc::clone(route)),
            Found::CatchAll(..) | Found::Unknown(_) | Found::Elsewhere => return false,
        }
        let mut seen: HashSet<i64> = open.iter().map(|r| r.id).collect();
        while let Some(route) = open.pop() {
            if route.group.as_ref().is_some_and(|g| !g.members_send_as) {
                continue;
            }
            if route.leads_to(&own) {
                return true;
            }
            for target in &route.targets {
                let Some((local, domain)) = normal::halves(target) else { continue };
                match model.find(local, domain) {
                    // A plus form or an old domain name of it.
                    Found::Account(_, found, _) if found.id == account => return true,
                    Found::Route(_, next) if seen.len() < RIGHTS_MAX && seen.insert(next.id) => open.push(Arc::clone(next)),
                    _ => {}
                }
            }
        }
        false
    }
}

fn expand(model: &Model, to: &Address, from: Originator<'_>) -> Resolution {
    let mut e = Expansion {
        model,
        from,
        local: Vec::new(),
        remote: Vec::new(),
        accounts: HashSet::new(),
        elsewhere: HashSet::new(),
        routes: HashSet::new(),
        suspended: false,
        closed: false,
    };
    let mut open: Vec<Box<str>> = vec![model.target_form(to).into()];
    // A plus form of an alias leads where the alias leads; the stored form keeps the plus part for the first step.
    while let Some(form) = open.pop() {
        if e.local.len() + e.remote.len() + open.len() > EXPANSION_MAX {
            return Resolution::TooMany;
        }
        e.visit(&form, &mut open);
    }
    match e {
        Expansion { local, remote, .. } if !local.is_empty() || !remote.is_empty() => Resolution::Deliver { local, remote },
        Expansion { closed: true, .. } => Resolution::NotAllowed,
        Expansion { suspended: true, .. } => Resolution::Suspended,
        _ => Resolution::UnknownUser,
    }
}

impl Expansion<'_> {
    fn visit(&mut self, form: &str, open: &mut Vec<Box<str>>) {
        let Some((local, domain)) = normal::halves(form) else { return };
        match self.model.find(local, domain) {
            Found::Account(domain, account, folder) => {
                if domain.suspended || account.suspended {
                    self.suspended = true;
                } else if self.accounts.insert(account.id) {
                    self.local.extend(target(domain, account, folder));
                }
            }
            Found::Route(domain, route) => {
                if domain.suspended {
                    self.suspended = true;
                } else if self.routes.insert(route.id) {
                    if self.admits(domain, route) {
                        // Reversed, so that they come off the stack in their order.
                        open.extend(route.targets.iter().rev().cloned());
                    } else {
                        self.closed = true;
                    }
                }
            }
            Found::CatchAll(domain, to) => {
                if domain.suspended {
                    self.suspended = true;
                } else if self.routes.insert(-domain.id.0) {
                    open.push(self.model.target_form(to).into());
                }
            }
            Found::Unknown(domain) => self.suspended |= domain.suspended,
            Found::Elsewhere => {
                if self.elsewhere.insert(form.into()) {
                    self.remote.extend(target_address(form));
                }
            }
        }
    }

    /// The originator may write to this group.
    fn admits(&self, domain: &DomainRecord, route: &Route) -> bool {
        let Some(rules) = &route.group else { return true };
        if matches!(rules.senders, Senders::Anyone) || self.from == Originator::System {
            return true;
        }
        let account = match self.from {
            Originator::Account(id) => self.model.account(id),
            Originator::Outside(_) | Originator::System => None,
        };
        let form = match (account, self.from) {
            (Some(account), _) => self.model.own_form(account.domain, &account.local),
            // An address of ours without a sign-in may be anybody's work.
            (None, Originator::Outside(Some(a))) if self.model.domain(a.domain()).is_none() => self.model.target_form(a),
            _ => return false,
        };
        match &rules.senders {
            Senders::Anyone => true,
            Senders::Domain => account.is_some_and(|a| a.domain == domain.id),
            Senders::Members => self.is_behind(route, &form),
            Senders::Listed(list) => list.iter().any(|l| is_form(l, &form)),
        }
    }

    /// The address is a member, directly or through aliases and groups among the members.
    fn is_behind(&self, route: &Route, form: &str) -> bool {
        let mut seen = HashSet::from([route.id]);
        let mut open = vec![route];
        while let Some(route) = open.pop() {
            if route.leads_to(form) {
                return true;
            }
            for target in &route.targets {
                if let Some((local, domain)) = normal::halves(target)
                    && let Found::Route(_, next) = self.model.find(local, domain)
                    && seen.len() < RIGHTS_MAX
                    && seen.insert(next.id)
                {
                    open.push(next);
                }
            }
        }
        false
    }
}
