//! An account of another directory, taken over: for a node that went its own way and gives up what it made there.

use crate::change::{NewAccount, NewDomain, NewPassword};
use crate::directory::Directory;
use crate::error::Error;
use crate::types::State;
use crate::{accounts, domains};
use twinpost_message::{AccountId, Address};

impl Directory {
    /// Makes the account that `from` has under this address here, too: with its password, limits and rights, under a number of its
    /// own. Its domain is made when it is missing. An account of this address that is here already is left as it is.
    /// App passwords stay behind: what is kept of them is bound to the old number.
    ///
    /// # Errors
    /// [`Error::NoAccount`] when `from` has none; [`Error::InGrace`], [`Error::Taken`] (an alias or group has the name here),
    /// [`Error::DomainFull`]; [`Error::Database`] of either.
    pub async fn copy_account(&self, actor: &str, from: &Self, address: &Address) -> Result<AccountId, Error> {
        let there = from.account(address).ok_or_else(|| Error::NoAccount(address.to_string()))?;
        if let Some(here) = self.account(address) {
            return Ok(here.id);
        }
        let domain = from.domain(there.address.domain());
        let credential = from.credential(there.id).await?;
        let new = NewAccount {
            // The credential follows as it is.
            password: NewPassword::None,
            display_name: there.display_name.clone(),
            role: there.role,
            language: Some(there.language),
            services: Some(there.services),
            quota_bytes: there.quota_bytes,
            quota_messages: there.quota_messages,
            max_message_bytes: there.max_message_bytes,
            suspended: there.state == State::Suspended,
        };
        self.change(actor, |draft| {
            if let (Some(domain), Err(Error::NoDomain(_))) = (&domain, draft.domain(there.address.domain())) {
                let made = NewDomain { settings: domain.settings.clone(), aliases: domain.aliases.clone() };
                domains::add(draft, &domain.name, &made)?;
            }
            accounts::add(draft, &there.address, &new, credential.clone())
        })
        .await
    }
}
