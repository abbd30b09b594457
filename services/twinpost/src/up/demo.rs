//! The demo: a school with an operator, a domain admin and some users, made through the same orders that a person gives.

use super::endpoints::DemoAccount;
use crate::cli::{AccountOrder, AccountSet, AliasOrder, DomainOrder, DomainSet, GroupOrder, Order};
use crate::control::{CallError, Request, call};
use crate::node::Folder;

/// The domain of the demo.
const DOMAIN: &str = "school.example";
/// Who is there: local part, name, role, language.
const PEOPLE: [(&str, &str, &str, &str); 5] = [
    ("operator", "Operator", "operator", "en"),
    ("admin", "Office", "domain_admin", "en"),
    ("zhang.wei", "张伟", "user", "zh-CN"),
    ("ben", "Ben Smith", "user", "en"),
    ("anna", "Anna Berg", "user", "en"),
];

/// Makes the demo; gives the domain and the accounts with their passwords.
///
/// # Errors
/// What the node refused.
pub async fn make(folder: &Folder) -> Result<(String, Vec<DemoAccount>), String> {
    order(folder, Order::Domain(DomainOrder::Add { name: DOMAIN.to_owned(), set: DomainSet::default() })).await?;
    let mut accounts = Vec::new();
    for (local, name, role, language) in PEOPLE {
        let address = format!("{local}@{DOMAIN}");
        let set = AccountSet {
            name: Some(name.to_owned()),
            role: Some(role.to_owned()),
            language: Some(language.to_owned()),
            ..AccountSet::default()
        };
        let add = AccountOrder::Add { address: address.clone(), set: Box::new(set), password_stdin: false, password: None };
        let made = order(folder, Order::Account(add)).await?;
        let password = made.get("password").and_then(|p| p.as_str()).ok_or("the node made an account without a password")?;
        accounts.push(DemoAccount { address, password: password.to_owned(), role: role.to_owned() });
    }
    let postmaster = AliasOrder::Add { address: format!("postmaster@{DOMAIN}"), targets: vec![format!("operator@{DOMAIN}")] };
    order(folder, Order::Alias(postmaster)).await?;
    let members = ["zhang.wei", "ben", "anna"].map(|m| format!("{m}@{DOMAIN}")).to_vec();
    let group =
        GroupOrder::Add { address: format!("everyone@{DOMAIN}"), name: Some("Everyone".to_owned()), senders: None, members };
    order(folder, Order::Group(group)).await?;
    Ok((DOMAIN.to_owned(), accounts))
}

async fn order(folder: &Folder, order: Order) -> Result<serde_json::Value, String> {
    let request = Request { order, actor: "demo".to_owned(), attachment_bytes: 0 };
    match call(&folder.socket(), &request, &[], |_| {}).await {
        Ok(value) => Ok(value),
        Err(CallError::Refused(failure)) => Err(format!("the demo could not be made: {}", failure.message)),
        Err(CallError::NotRunning) => Err("the demo could not be made: the mail process is gone".to_owned()),
        Err(CallError::Broken(message)) => Err(format!("the demo could not be made: {message}")),
    }
}
