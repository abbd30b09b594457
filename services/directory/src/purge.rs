//! The end of the grace time: what is to be deleted for good, and forgetting it.

use crate::directory::Directory;
use crate::draft::Draft;
use crate::error::Error;
use crate::model::{AccountRecord, DomainRecord, Model, Route};
use crate::normal;
use crate::types::{Purge, State};
use std::collections::HashSet;
use std::sync::Arc;
use twinpost_message::{AccountId, Address};

fn due(model: &Model, account: &AccountRecord, now_s: i64) -> bool {
    let over = |at: Option<i64>| at.is_some_and(|at| at <= now_s);
    over(account.purge_at_s) || model.domain_of(account.domain).is_some_and(|d| over(d.purge_at_s))
}

impl Directory {
    /// The accounts whose grace time is over at `now_s` (seconds since 1970), also those of removed domains. Delete
    /// their mail, then tell [`Directory::purged`].
    #[must_use]
    pub fn to_purge(&self, now_s: i64) -> Vec<Purge> {
        let model = self.model();
        let mut list: Vec<Purge> = model
            .accounts
            .values()
            .filter(|a| due(&model, a, now_s))
            .filter_map(|a| {
                let address = normal::join(&a.local, &model.domain_of(a.domain)?.name).ok()?;
                Some(Purge { account: a.id, domain: a.domain, address })
            })
            .collect();
        list.sort_by_key(|p| p.account);
        list
    }

    /// Ends the grace time of a deleted account or removed domain now: [`Directory::to_purge`] lists it from now on.
    ///
    /// # Errors
    /// [`Error::NoAccount`], [`Error::NotDeleted`].
    pub async fn purge_account_now(&self, actor: &str, address: &Address) -> Result<(), Error> {
        self.change(actor, |draft| {
            let mut account = AccountRecord::clone(&*draft.any_account(address)?);
            if !matches!(account.state(), State::Deleted { .. }) {
                return Err(Error::NotDeleted(address.to_string()));
            }
            account.purge_at_s = Some(draft.now_s);
            draft.note("account.purge_now", draft.model.own_form(account.domain, &account.local), "");
            draft.put_account(account);
            Ok(())
        })
        .await
    }
    /// Ends the grace time of a removed domain now.
    ///
    /// # Errors
    /// [`Error::NoDomain`], [`Error::NotDeleted`].
    pub async fn purge_domain_now(&self, actor: &str, name: &str) -> Result<(), Error> {
        self.change(actor, |draft| {
            let name = normal::domain(name)?;
            let mut domain = match draft.model.domain(&name) {
                Some(d) => DomainRecord::clone(d),
                None => return Err(Error::NoDomain(name)),
            };
            if domain.purge_at_s.is_none() {
                return Err(Error::NotDeleted(name));
            }
            domain.purge_at_s = Some(draft.now_s);
            draft.note("domain.purge_now", name, "");
            draft.put_domain(domain);
            Ok(())
        })
        .await
    }

    /// Forgets deleted accounts, after their mail is gone, and removed domains whose time is over and that have no
    /// account left. Their addresses vanish from aliases and groups. Accounts that are not deleted are left alone (one
    /// may have been restored meanwhile); call it with an empty list to forget empty domains.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn purged(&self, actor: &str, accounts: &[AccountId]) -> Result<(), Error> {
        self.change(actor, |draft| {
            forget(draft, accounts);
            Ok(())
        })
        .await
    }
}

fn forget(draft: &mut Draft, accounts: &[AccountId]) {
    let gone: Vec<Arc<AccountRecord>> = accounts
        .iter()
        .filter_map(|id| draft.model.account(*id))
        .filter(|a| due(&draft.model, a, draft.now_s))
        .cloned()
        .collect();
    let mut forms: HashSet<String> = HashSet::new();
    for account in gone {
        let form = draft.model.own_form(account.domain, &account.local);
        draft.note("account.purge", form.as_str(), "");
        draft.drop_account(account.id);
        forms.insert(form);
    }
    let over: Vec<Arc<DomainRecord>> = {
        let full: HashSet<i64> = draft.model.accounts.values().map(|a| a.domain.0).collect();
        let ended = |d: &&Arc<DomainRecord>| d.purge_at_s.is_some_and(|at| at <= draft.now_s) && !full.contains(&d.id.0);
        draft.model.domains.values().filter(ended).cloned().collect()
    };
    for domain in over {
        let routes: Vec<Arc<Route>> = draft.model.routes().filter(|r| r.domain == domain.id).cloned().collect();
        for route in routes {
            forms.insert(draft.model.own_form(route.domain, &route.local));
            draft.drop_route(&route);
        }
        draft.note("domain.purge", &*domain.name, "");
        draft.drop_domain(&domain);
    }
    if !forms.is_empty() {
        draft.map_targets(|t| if forms.contains(t) { None } else { Some(t.into()) });
        draft.map_catch_alls(|to| {
            let form = format!("{}@{}", to.local(), to.domain());
            if forms.contains(&form) { None } else { Some(to.clone()) }
        });
    }
}
