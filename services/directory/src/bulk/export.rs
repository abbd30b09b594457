//! Exporting accounts as the list that can be imported again.

use super::guard::guarded;
use crate::credentials::SCRAM_SCHEME;
use crate::directory::{Directory, target_address};
use crate::error::Error;
use crate::model::Entry;
use crate::normal;
use crate::types::State;
use futures_util::TryStreamExt as _;
use std::collections::HashMap;
use twinpost_message::AccountId;
use twinpost_sql::read;

/// What to export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// Only this domain.
    pub domain: Option<String>,
    /// With password hashes: whoever gets the list can try passwords against them. SCRAM secrets stand as
    /// `{SCRAM-SHA-256}...` where there is no other hash yet.
    pub hashes: bool,
    /// With the mark by which spreadsheets know UTF-8.
    pub byte_order_mark: bool,
}

const HEADER: [&str; 12] = [
    "address",
    "hash",
    "display_name",
    "role",
    "quota_bytes",
    "quota_messages",
    "max_message_bytes",
    "services",
    "aliases",
    "groups",
    "language",
    "suspended",
];

impl Directory {
    /// The accounts (without deleted ones) as CSV in UTF-8; no cell is a formula to a spreadsheet. Aliases stand with each account that they lead to directly,
    /// if they lead to nobody else: an import makes an alias of one target.
    ///
    /// # Errors
    /// [`Error::NoDomain`], [`Error::Database`].
    pub async fn export(&self, what: &Export) -> Result<String, Error> {
        let accounts = self.accounts(what.domain.as_deref())?;
        let hashes = if what.hashes { self.hashes().await? } else { HashMap::new() };
        let mut aliases: HashMap<AccountId, Vec<String>> = HashMap::new();
        let mut groups: HashMap<AccountId, Vec<String>> = HashMap::new();
        {
            let model = self.model();
            for route in model.routes() {
                let Some(shown) = target_address(&model.own_form(route.domain, &route.local)) else { continue };
                if route.group.is_none() && route.targets.len() > 1 {
                    continue;
                }
                let lists = if route.group.is_some() { &mut groups } else { &mut aliases };
                for (local, domain) in route.targets.iter().filter_map(|t| normal::halves(t)) {
                    if let Some(Entry::Account(a)) = model.entry(local, domain) {
                        lists.entry(a.id).or_default().push(shown.to_string());
                    }
                }
            }
        }
        let mut out = csv::Writer::from_writer(Vec::new());
        let broken = |e: csv::Error| Error::List(e.to_string());
        out.write_record(HEADER).map_err(broken)?;
        let number = |n: Option<u64>| n.map_or_else(String::new, |n| n.to_string());
        let joined = |list: Option<&mut Vec<String>>| {
            list.map_or_else(String::new, |l| {
                l.sort_unstable();
                l.join(" ")
            })
        };
        for a in accounts.iter().filter(|a| !matches!(a.state, State::Deleted { .. })) {
            let cells = [
                a.address.to_string(),
                hashes.get(&a.id).cloned().unwrap_or_default(),
                a.display_name.clone(),
                a.role.to_string(),
                number(a.quota_bytes),
                number(a.quota_messages),
                number(a.max_message_bytes),
                a.services.to_string(),
                joined(aliases.get_mut(&a.id)),
                joined(groups.get_mut(&a.id)),
                a.language.to_string(),
                if a.state == State::Suspended { "yes" } else { "no" }.to_owned(),
            ];
            out.write_record(cells.iter().map(|cell| guarded(cell).into_owned())).map_err(broken)?;
        }
        let bytes = out.into_inner().map_err(|e| Error::List(e.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|e| Error::List(e.to_string()))?;
        Ok(if what.byte_order_mark { format!("\u{feff}{text}") } else { text })
    }

    async fn hashes(&self) -> Result<HashMap<AccountId, String>, Error> {
        let mut hashes = HashMap::new();
        type Row = (i64, Option<String>, Option<String>);
        read!(self.inner.db, c => {
            let mut rows = sqlx::query_as::<_, Row>("SELECT account_id, hash, scram FROM credential").fetch(c);
            while let Some((id, hash, scram)) = rows.try_next().await? {
                if let Some(text) = hash.or_else(|| scram.map(|s| format!("{SCRAM_SCHEME}{s}"))) {
                    hashes.insert(AccountId(id), text);
                }
            }
        });
        Ok(hashes)
    }
}
