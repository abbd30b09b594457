//! Orders about domains, people, aliases and groups.

use super::{Failure, Office, ProgressSender, address, count_of, limit_of, shown};
use crate::adapter::store_limits;
use crate::cli::{AccountOrder, AccountSet, AliasOrder, DomainOrder, DomainSet, GroupOrder, QuotaOrder};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use twinpost_directory::{
    AccountChange, DomainSettings, Export, GroupChange, ImportOptions, NewAccount, NewDomain, NewGroup, NewPassword, Renamed,
    Role, Senders, Services,
};
use twinpost_message::Address;

/// Letters and digits that nobody mistakes for each other.
const PASSWORD_ALPHABET: &[u8] = b"abcdefghjkmnpqrstuvwxyzACDEFGHJKLMNPQRTUVWXY34679";

/// A password of 16 characters: about 90 bits.
fn made_password() -> String {
    let mut out = String::with_capacity(19);
    for i in 0..16 {
        if i > 0 && i % 4 == 0 {
            out.push('-');
        }
        out.push(char::from(PASSWORD_ALPHABET[rand::random_range(0..PASSWORD_ALPHABET.len())]));
    }
    out
}

/// What a person wishes for a domain, checked before anything is changed.
struct DomainWish {
    quota: Option<Option<u64>>,
    quota_messages: Option<Option<u64>>,
    account_quota: Option<Option<u64>>,
    max_message: Option<Option<u64>>,
    max_accounts: Option<Option<u32>>,
    catch_all: Option<Option<Address>>,
    plus: Option<bool>,
    language: Option<twinpost_directory::Language>,
}

impl DomainWish {
    fn read(set: &DomainSet) -> Result<Self, Failure> {
        let size = |text: &Option<String>| text.as_deref().map(limit_of).transpose();
        let catch_all = match set.catch_all.as_deref() {
            None => None,
            Some("none") => Some(None),
            Some(text) => Some(Some(address(text)?)),
        };
        let max_accounts = match set.max_accounts.as_deref().map(count_of).transpose()? {
            None => None,
            Some(None) => Some(None),
            Some(Some(n)) => Some(Some(u32::try_from(n).map_err(|_| Failure::because("that many accounts are not possible"))?)),
        };
        Ok(Self {
            quota: size(&set.quota)?,
            quota_messages: set.quota_messages.as_deref().map(count_of).transpose()?,
            account_quota: size(&set.account_quota)?,
            max_message: size(&set.max_message)?,
            max_accounts,
            catch_all,
            plus: set.plus,
            language: set.language.as_deref().map(|l| l.parse().map_err(Failure::because)).transpose()?,
        })
    }
    fn apply(&self, settings: &mut DomainSettings) {
        fn put<T: Clone>(wish: Option<&T>, to: &mut T) {
            if let Some(value) = wish {
                *to = value.clone();
            }
        }
        put(self.quota.as_ref(), &mut settings.quota_bytes);
        put(self.quota_messages.as_ref(), &mut settings.quota_messages);
        put(self.account_quota.as_ref(), &mut settings.account_quota_bytes);
        put(self.max_message.as_ref(), &mut settings.max_message_bytes);
        put(self.max_accounts.as_ref(), &mut settings.max_accounts);
        put(self.catch_all.as_ref(), &mut settings.catch_all);
        if let Some(language) = self.language {
            settings.language = language;
        }
        if let Some(plus) = self.plus {
            settings.plus_separator = plus.then_some('+');
        }
    }
}

/// `none`: no limit (0 in the directory); `default`: the domain's.
fn own_limit(text: Option<&String>, read: impl Fn(&str) -> Result<Option<u64>, Failure>) -> Result<Option<Option<u64>>, Failure> {
    match text.map(String::as_str) {
        None => Ok(None),
        Some("default") => Ok(Some(None)),
        Some(text) => Ok(Some(Some(read(text)?.unwrap_or(0)))),
    }
}

fn account_change(set: &AccountSet) -> Result<AccountChange, Failure> {
    let role = match set.role.as_deref() {
        None => None,
        Some("admin") => Some(Role::DomainAdmin),
        Some(name) => Some(name.parse::<Role>().map_err(Failure::because)?),
    };
    Ok(AccountChange {
        display_name: set.name.clone(),
        role,
        language: set.language.as_deref().map(|l| l.parse().map_err(Failure::because)).transpose()?,
        services: set.services.as_ref().map(|list| list.join(" ").parse::<Services>().map_err(Failure::because)).transpose()?,
        quota_bytes: own_limit(set.quota.as_ref(), limit_of)?,
        quota_messages: own_limit(set.quota_messages.as_ref(), count_of)?,
        max_message_bytes: own_limit(set.max_message.as_ref(), limit_of)?,
    })
}

fn senders(text: Option<&String>) -> Result<Option<Senders>, Failure> {
    Ok(match text.map(String::as_str) {
        None => None,
        Some("anyone") => Some(Senders::Anyone),
        Some("members") => Some(Senders::Members),
        Some("domain") => Some(Senders::Domain),
        Some(list) => {
            let listed = list.split(',').map(|a| address(a.trim())).collect::<Result<Vec<_>, _>>();
            let listed = listed.map_err(|e| {
                Failure::because(format!(
                    "senders: write anyone, members, domain, or addresses with commas between them ({})",
                    e.message
                ))
            })?;
            Some(Senders::Listed(listed))
        }
    })
}

fn addresses(list: &[String]) -> Result<Vec<Address>, Failure> {
    list.iter().map(|a| address(a)).collect()
}

/// A domain as one flat object, for tables.
fn domain_row(domain: &twinpost_directory::Domain) -> Value {
    let s = &domain.settings;
    json!({
        "name": domain.name, "aliases": domain.aliases, "state": domain.state.to_string(), "suspended": domain.state == twinpost_directory::State::Suspended,
        "accounts": domain.accounts, "max_accounts": s.max_accounts, "quota_bytes": s.quota_bytes, "quota_messages": s.quota_messages,
        "account_quota_bytes": s.account_quota_bytes, "max_message_bytes": s.max_message_bytes, "catch_all": s.catch_all, "plus_separator": s.plus_separator, "language": s.language,
        "services": s.services.to_string(), "language": s.language,
    })
}

fn account_row(account: &twinpost_directory::Account) -> Value {
    json!({
        "address": account.address, "display_name": account.display_name, "role": account.role, "state": account.state.to_string(),
        "services": account.services.to_string(), "language": account.language, "quota_bytes": account.limits.account_bytes,
        "quota_messages": account.limits.account_messages, "max_message_bytes": account.limits.max_message_bytes, "id": account.id,
    })
}

impl Office {
    pub(super) async fn domain(&self, order: DomainOrder, actor: &str) -> Result<Value, Failure> {
        let d = &self.directory;
        let done = match order {
            DomainOrder::List => return Ok(d.domains().iter().map(domain_row).collect()),
            DomainOrder::Show { name } => {
                let domain = d.domain(&name).ok_or_else(|| Failure::because(format!("the domain {name} is not served here")))?;
                return Ok(domain_row(&domain));
            }
            DomainOrder::Add { name, set } => {
                let mut settings = DomainSettings::default();
                DomainWish::read(&set)?.apply(&mut settings);
                d.add_domain(actor, &name, &NewDomain { settings, aliases: Vec::new() }).await.map(|_| ())
            }
            DomainOrder::Set { name, set } => {
                let wish = DomainWish::read(&set)?;
                d.change_domain(actor, &name, |settings| wish.apply(settings)).await
            }
            DomainOrder::Suspend { name } => d.suspend_domain(actor, &name).await,
            DomainOrder::Resume { name } => d.resume_domain(actor, &name).await,
            DomainOrder::Remove { name, with_accounts } => {
                let accounts = d.domain(&name).map_or(0, |domain| domain.accounts);
                if accounts > 0 && !with_accounts {
                    return Err(Failure::because(format!(
                        "the domain {name} has {accounts} accounts: delete them first, or say --with-accounts to remove it with them and their mail"
                    )));
                }
                let until = d.remove_domain(actor, &name).await.map_err(Failure::because)?;
                return Ok(json!({ "name": name, "accounts": accounts, "restorable_until": super::moment(until) }));
            }
            DomainOrder::Restore { name } => d.restore_domain(actor, &name).await,
            DomainOrder::Rename { name, to } => d.rename_domain(actor, &name, &to, true).await,
            DomainOrder::AddAlias { name, alias } => d.add_domain_alias(actor, &name, &alias).await,
            DomainOrder::RemoveAlias { alias } => d.remove_domain_alias(actor, &alias).await,
        };
        done.map(|()| Value::Null).map_err(Failure::because)
    }

    pub(super) async fn account(&self, order: AccountOrder, actor: &str) -> Result<Value, Failure> {
        let d = &self.directory;
        let done = match order {
            AccountOrder::List { domain } => {
                let list = d.accounts(domain.as_deref()).map_err(Failure::because)?;
                return Ok(list.iter().map(account_row).collect());
            }
            AccountOrder::Show { address: text } => return self.account_shown(&address(&text)?).await,
            AccountOrder::Add { address: text, set, password, .. } => {
                let address = address(&text)?;
                let wish = account_change(&set)?;
                let made = password.is_none();
                let password = password.unwrap_or_else(made_password);
                let new = NewAccount {
                    password: NewPassword::Plain(password.clone()),
                    display_name: wish.display_name.unwrap_or_default(),
                    role: wish.role.unwrap_or_default(),
                    language: wish.language,
                    services: wish.services,
                    quota_bytes: wish.quota_bytes.flatten(),
                    quota_messages: wish.quota_messages.flatten(),
                    max_message_bytes: wish.max_message_bytes.flatten(),
                    suspended: false,
                };
                d.add_account(actor, &address, &new).await.map_err(Failure::because)?;
                return Ok(if made {
                    json!({ "address": address, "password": password })
                } else {
                    json!({ "address": address })
                });
            }
            AccountOrder::Set { address: text, set } => d.change_account(actor, &address(&text)?, &account_change(&set)?).await,
            AccountOrder::Suspend { address: text } => d.suspend_account(actor, &address(&text)?).await,
            AccountOrder::Resume { address: text } => d.resume_account(actor, &address(&text)?).await,
            AccountOrder::Delete { address: text } => {
                let until = d.delete_account(actor, &address(&text)?).await.map_err(Failure::because)?;
                return Ok(json!({ "address": text, "restorable_until": super::moment(until) }));
            }
            AccountOrder::Restore { address: text } => d.restore_account(actor, &address(&text)?).await,
            AccountOrder::Rename { address: text, to, no_alias } => {
                let old_name = if no_alias { Renamed::FreeOldName } else { Renamed::KeepOldName };
                d.rename_account(actor, &address(&text)?, &address(&to)?, old_name).await
            }
            AccountOrder::Password { address: text, password, .. } => {
                let made = password.is_none();
                let password = password.unwrap_or_else(made_password);
                d.set_password(actor, &address(&text)?, &NewPassword::Plain(password.clone())).await.map_err(Failure::because)?;
                return Ok(if made { json!({ "address": text, "password": password }) } else { Value::Null });
            }
            AccountOrder::AddAppPassword { address: text, name, services } => {
                let services =
                    if services.is_empty() { Services::ALL } else { services.join(" ").parse().map_err(Failure::because)? };
                let password = d.add_app_password(actor, &address(&text)?, &name, services).await.map_err(Failure::because)?;
                return Ok(json!({ "address": text, "name": name, "password": password }));
            }
            AccountOrder::AppPasswords { address: text } => {
                let list = d.app_passwords(&address(&text)?).await.map_err(Failure::because)?;
                let row = |p: &twinpost_directory::AppPassword| json!({ "name": p.name, "services": p.services.to_string(), "created": super::moment(p.created_s) });
                return Ok(list.iter().map(row).collect());
            }
            AccountOrder::RemoveAppPassword { address: text, name } => {
                d.revoke_app_password(actor, &address(&text)?, &name).await
            }
        };
        done.map(|()| Value::Null).map_err(Failure::because)
    }

    async fn account_shown(&self, address: &Address) -> Result<Value, Failure> {
        let account =
            self.directory.account(address).ok_or_else(|| Failure::because(format!("there is no account {address}")))?;
        let used = self.store.usage(account.id).await.map_err(Failure::because)?;
        let mut row = account_row(&account);
        row["used_bytes"] = json!(used.size_bytes);
        row["used_messages"] = json!(used.messages);
        Ok(row)
    }

    pub(super) async fn alias(&self, order: AliasOrder, actor: &str) -> Result<Value, Failure> {
        let done = match order {
            AliasOrder::List { domain } => return shown(self.directory.aliases(domain.as_deref()).map_err(Failure::because)?),
            AliasOrder::Add { address: text, targets } => {
                self.directory.add_alias(actor, &address(&text)?, &addresses(&targets)?).await
            }
            AliasOrder::Set { address: text, targets } => {
                self.directory.change_alias(actor, &address(&text)?, &addresses(&targets)?).await
            }
            AliasOrder::Remove { address: text } => self.directory.remove_alias(actor, &address(&text)?).await,
        };
        done.map(|()| Value::Null).map_err(Failure::because)
    }

    pub(super) async fn group(&self, order: GroupOrder, actor: &str) -> Result<Value, Failure> {
        let d = &self.directory;
        let change = |add: Vec<Address>, remove: Vec<Address>| GroupChange {
            add_members: add,
            remove_members: remove,
            ..GroupChange::default()
        };
        let done = match order {
            GroupOrder::List { domain } => return shown(d.groups(domain.as_deref()).map_err(Failure::because)?),
            GroupOrder::Show { address: text } => {
                let group = d.group(&address(&text)?).ok_or_else(|| Failure::because(format!("there is no group {text}")))?;
                return shown(group);
            }
            GroupOrder::Add { address: text, name, senders: wish, members } => {
                let new = NewGroup {
                    display_name: name.unwrap_or_default(),
                    members: addresses(&members)?,
                    senders: senders(wish.as_ref())?.unwrap_or_default(),
                    members_send_as: false,
                };
                d.add_group(actor, &address(&text)?, &new).await
            }
            GroupOrder::Set { address: text, name, senders: wish, members_send_as } => {
                let change = GroupChange {
                    display_name: name,
                    senders: senders(wish.as_ref())?,
                    members_send_as,
                    ..GroupChange::default()
                };
                d.change_group(actor, &address(&text)?, &change).await
            }
            GroupOrder::Remove { address: text } => d.remove_group(actor, &address(&text)?).await,
            GroupOrder::AddMember { address: text, members } => {
                d.change_group(actor, &address(&text)?, &change(addresses(&members)?, Vec::new())).await
            }
            GroupOrder::RemoveMember { address: text, members } => {
                d.change_group(actor, &address(&text)?, &change(Vec::new(), addresses(&members)?)).await
            }
        };
        done.map(|()| Value::Null).map_err(Failure::because)
    }

    pub(super) async fn quota(&self, order: QuotaOrder, actor: &str) -> Result<Value, Failure> {
        match order {
            QuotaOrder::Show { name } if name.contains('@') => {
                let address = address(&name)?;
                let account =
                    self.directory.account(&address).ok_or_else(|| Failure::because(format!("there is no account {address}")))?;
                let used = self.store.usage(account.id).await.map_err(Failure::because)?;
                let limits = store_limits(&account.limits);
                Ok(
                    json!({ "name": name, "used_bytes": used.size_bytes, "limit_bytes": limits.account.size_bytes, "used_messages": used.messages, "limit_messages": limits.account.messages }),
                )
            }
            QuotaOrder::Show { name } => {
                let domain = self
                    .directory
                    .domain(&name)
                    .ok_or_else(|| Failure::because(format!("the domain {name} is not served here")))?;
                let used = self.store.domain_usage(domain.id).await.map_err(Failure::because)?;
                let s = &domain.settings;
                Ok(
                    json!({ "name": name, "used_bytes": used.size_bytes, "limit_bytes": s.quota_bytes, "used_messages": used.messages, "limit_messages": s.quota_messages }),
                )
            }
            QuotaOrder::Set { name, bytes, messages } if name.contains('@') => {
                let set = AccountSet { quota: bytes, quota_messages: messages, ..AccountSet::default() };
                self.directory
                    .change_account(actor, &address(&name)?, &account_change(&set)?)
                    .await
                    .map(|()| Value::Null)
                    .map_err(Failure::because)
            }
            QuotaOrder::Set { name, bytes, messages } => {
                let wish = DomainWish::read(&DomainSet { quota: bytes, quota_messages: messages, ..DomainSet::default() })?;
                self.directory
                    .change_domain(actor, &name, |settings| wish.apply(settings))
                    .await
                    .map(|()| Value::Null)
                    .map_err(Failure::because)
            }
        }
    }

    pub(super) async fn import(
        &self,
        list: &[u8],
        options: ImportOptions,
        actor: &str,
        progress: ProgressSender,
    ) -> Result<Value, Failure> {
        let counters = Arc::new(twinpost_directory::Progress::default());
        let options = ImportOptions { progress: Some(counters.clone()), ..options };
        let work = self.directory.import(actor, list.to_vec(), &options);
        tokio::pin!(work);
        let report = loop {
            tokio::select! {
                report = &mut work => break report.map_err(Failure::because)?,
                () = tokio::time::sleep(Duration::from_millis(200)) => {
                    super::tell(&progress, "hashing passwords", counters.done.load(Ordering::Relaxed), counters.total.load(Ordering::Relaxed));
                }
            }
        };
        let refused = report.refused;
        let committed = report.committed;
        let shown = shown(report)?;
        match refused {
            0 => Ok(shown),
            n if committed || options.dry_run => Err(Failure::faults(format!("{n} lines were refused; see above"), shown)),
            n => Err(Failure::faults(
                format!("{n} lines were refused, so nothing was changed: mend them, or take the rest with --skip-faulty"),
                shown,
            )),
        }
    }

    pub(super) async fn export(&self, domain: Option<String>) -> Result<Value, Failure> {
        let csv =
            self.directory.export(&Export { domain, hashes: true, byte_order_mark: false }).await.map_err(Failure::because)?;
        Ok(Value::String(csv))
    }
}
