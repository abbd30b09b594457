//! The directory's tables: schema, reading them into a [`Model`], and the statements that write changes.
//!
//! Contract: statements are engine-independent values ([`Statement`]) so that one list runs on whichever database is
//! open. Rows are written many to a statement: an import of 100,000 accounts is some thousand statements.
//! Failure class: a row that this program cannot have written is [`Error::Damaged`] with the row named.

use crate::credentials::Credential;
use crate::error::Error;
use crate::model::{AccountRecord, DomainRecord, GroupRules, Model, Route};
use crate::types::Services;
use futures_util::TryStreamExt as _;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::str::FromStr;
use std::sync::Arc;
use twinpost_message::{AccountId, DomainId};
use twinpost_sql::{Database, Migration, read};

pub(crate) const MIGRATIONS: &[Migration] = &[(
    1,
    "CREATE TABLE directory_state (id BIGINT PRIMARY KEY, generation BIGINT NOT NULL, next_id BIGINT NOT NULL, secret {blob} NOT NULL);
CREATE TABLE domain (id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE, aliases TEXT NOT NULL, suspended BIGINT NOT NULL, purge_at_s BIGINT, settings TEXT NOT NULL, created_s BIGINT NOT NULL);
CREATE TABLE account (id BIGINT PRIMARY KEY, domain_id BIGINT NOT NULL, local TEXT NOT NULL, display_name TEXT NOT NULL, role TEXT NOT NULL, language TEXT NOT NULL, services BIGINT NOT NULL, suspended BIGINT NOT NULL, purge_at_s BIGINT, quota_bytes BIGINT, quota_messages BIGINT, max_message_bytes BIGINT, created_s BIGINT NOT NULL, credential_version BIGINT NOT NULL);
CREATE UNIQUE INDEX account_name ON account (domain_id, local);
CREATE TABLE credential (account_id BIGINT PRIMARY KEY, hash TEXT, origin TEXT, scram TEXT);
CREATE TABLE app_password (account_id BIGINT NOT NULL, name TEXT NOT NULL, services BIGINT NOT NULL, verifier TEXT NOT NULL, created_s BIGINT NOT NULL, PRIMARY KEY (account_id, name));
CREATE TABLE route (id BIGINT PRIMARY KEY, domain_id BIGINT NOT NULL, local TEXT NOT NULL, display_name TEXT, senders TEXT, members_send_as BIGINT);
CREATE UNIQUE INDEX route_name ON route (domain_id, local);
CREATE TABLE route_target (route_id BIGINT NOT NULL, target TEXT NOT NULL, PRIMARY KEY (route_id, target));
CREATE TABLE audit (id {id}, at_s BIGINT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL, detail TEXT NOT NULL);
CREATE INDEX audit_subject ON audit (subject, id);
",
)];

/// A value bound to a statement.
#[derive(Clone, Debug)]
pub(crate) enum Val {
    Int(i64),
    OptInt(Option<i64>),
    Text(String),
    OptText(Option<String>),
}
impl From<i64> for Val {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}
impl From<bool> for Val {
    fn from(b: bool) -> Self {
        Self::Int(i64::from(b))
    }
}
impl From<Option<i64>> for Val {
    fn from(n: Option<i64>) -> Self {
        Self::OptInt(n)
    }
}
impl From<Option<u64>> for Val {
    fn from(n: Option<u64>) -> Self {
        Self::OptInt(n.map(|n| i64::try_from(n).unwrap_or(i64::MAX)))
    }
}
impl From<String> for Val {
    fn from(t: String) -> Self {
        Self::Text(t)
    }
}
impl From<&str> for Val {
    fn from(t: &str) -> Self {
        Self::Text(t.to_owned())
    }
}
impl From<Option<String>> for Val {
    fn from(t: Option<String>) -> Self {
        Self::OptText(t)
    }
}

/// SQL with its values.
pub(crate) struct Statement {
    pub sql: String,
    pub values: Vec<Val>,
}

/// Binds the values of a [`Statement`] to a query of either engine.
macro_rules! bound {
    ($sql:expr, $values:expr) => {{
        let mut query = sqlx::query(sqlx::AssertSqlSafe($sql));
        for value in $values {
            query = match value {
                $crate::rows::Val::Int(n) => query.bind(n),
                $crate::rows::Val::OptInt(n) => query.bind(n),
                $crate::rows::Val::Text(t) => query.bind(t),
                $crate::rows::Val::OptText(t) => query.bind(t),
            };
        }
        query
    }};
}
pub(crate) use bound;

/// What one change writes. Rows are whole: writing one twice writes the later.
#[derive(Default)]
pub(crate) struct Writes {
    pub domains: BTreeMap<i64, Arc<DomainRecord>>,
    pub drop_domains: BTreeSet<i64>,
    pub accounts: BTreeMap<i64, Arc<AccountRecord>>,
    pub drop_accounts: BTreeSet<i64>,
    pub credentials: BTreeMap<i64, Credential>,
    pub app_passwords: Vec<AppPasswordRow>,
    pub drop_app_passwords: Vec<(i64, String)>,
    pub routes: BTreeMap<i64, Arc<Route>>,
    pub drop_routes: BTreeSet<i64>,
    pub add_targets: BTreeSet<(i64, Box<str>)>,
    pub drop_targets: BTreeSet<(i64, Box<str>)>,
    pub audit: Vec<(&'static str, String, String)>,
}

pub(crate) struct AppPasswordRow {
    pub account: i64,
    pub name: String,
    pub services: Services,
    pub verifier: String,
    pub created_s: i64,
}

/// Rows of one statement: 400 rows of 14 columns stay below SQLite's 32,766 parameters.
const ROWS: usize = 400;

fn insert(out: &mut Vec<Statement>, table: &str, columns: &str, conflict: &str, rows: impl Iterator<Item = Vec<Val>>) {
    let width = columns.split(',').count();
    let mut values: Vec<Val> = Vec::new();
    let mut flush = |values: &mut Vec<Val>| {
        if values.is_empty() {
            return;
        }
        let mut sql = format!("INSERT INTO {table} ({columns}) VALUES ");
        for row in 0..values.len() / width {
            let marks: Vec<String> = (1..=width).map(|c| format!("${}", row * width + c)).collect();
            sql.push_str(if row == 0 { "(" } else { ", (" });
            sql.push_str(&marks.join(", "));
            sql.push(')');
        }
        sql.push_str(conflict);
        out.push(Statement { sql, values: std::mem::take(values) });
    };
    for row in rows {
        debug_assert_eq!(row.len(), width, "{table}: as many values as columns");
        values.extend(row);
        if values.len() == ROWS * width {
            flush(&mut values);
        }
    }
    flush(&mut values);
}

/// `ON CONFLICT (key) DO UPDATE` of all other columns.
fn upsert(key: &str, columns: &str) -> String {
    let sets: Vec<String> =
        columns.split(", ").filter(|c| !key.split(", ").any(|k| k == *c)).map(|c| format!("{c} = excluded.{c}")).collect();
    format!(" ON CONFLICT ({key}) DO UPDATE SET {}", sets.join(", "))
}

const DOMAIN: &str = "id, name, aliases, suspended, purge_at_s, settings, created_s";
const ACCOUNT: &str = "id, domain_id, local, display_name, role, language, services, suspended, purge_at_s, quota_bytes, quota_messages, max_message_bytes, created_s, credential_version";
const CREDENTIAL: &str = "account_id, hash, origin, scram";
const APP_PASSWORD: &str = "account_id, name, services, verifier, created_s";
const ROUTE: &str = "id, domain_id, local, display_name, senders, members_send_as";

impl Writes {
    pub(crate) fn is_empty(&self) -> bool {
        self.audit.is_empty()
    }

    /// The statements, in an order in which no name is in use twice: first what goes, then what comes.
    pub(crate) fn statements(self, actor: &str, now_s: i64) -> Vec<Statement> {
        let mut out = Vec::new();
        let mut delete = |sql: &str, values: Vec<Val>| out.push(Statement { sql: sql.to_owned(), values });
        for id in self.drop_routes {
            delete("DELETE FROM route_target WHERE route_id = $1", vec![id.into()]);
            delete("DELETE FROM route WHERE id = $1", vec![id.into()]);
        }
        for (id, target) in self.drop_targets {
            delete("DELETE FROM route_target WHERE route_id = $1 AND target = $2", vec![id.into(), (&*target).into()]);
        }
        for (id, name) in self.drop_app_passwords {
            delete("DELETE FROM app_password WHERE account_id = $1 AND name = $2", vec![id.into(), name.into()]);
        }
        for id in self.drop_accounts {
            delete("DELETE FROM app_password WHERE account_id = $1", vec![id.into()]);
            delete("DELETE FROM credential WHERE account_id = $1", vec![id.into()]);
            delete("DELETE FROM account WHERE id = $1", vec![id.into()]);
        }
        for id in self.drop_domains {
            delete("DELETE FROM domain WHERE id = $1", vec![id.into()]);
        }
        let json = |v: serde_json::Result<String>| v.expect("records of plain strings and numbers always serialise");
        let domains = self.domains.into_values().map(|d| {
            let (aliases, settings) = (json(serde_json::to_string(&d.aliases)), json(serde_json::to_string(&d.settings)));
            let name = (*d.name).into();
            vec![
                d.id.0.into(),
                name,
                aliases.into(),
                d.suspended.into(),
                d.purge_at_s.into(),
                settings.into(),
                d.created_s.into(),
            ]
        });
        insert(&mut out, "domain", DOMAIN, &upsert("id", DOMAIN), domains);
        let accounts = self.accounts.into_values().map(|a| {
            vec![
                a.id.0.into(),
                a.domain.0.into(),
                (&*a.local).into(),
                (&*a.display_name).into(),
                a.role.name().into(),
                a.language.name().into(),
                i64::from(a.services.0).into(),
                a.suspended.into(),
                a.purge_at_s.into(),
                a.quota_bytes.into(),
                a.quota_messages.into(),
                a.max_message_bytes.into(),
                a.created_s.into(),
                i64::from(a.credential_version).into(),
            ]
        });
        insert(&mut out, "account", ACCOUNT, &upsert("id", ACCOUNT), accounts);
        let credentials = self
            .credentials
            .into_iter()
            .map(|(id, c)| vec![id.into(), c.hash.into(), c.origin.into(), c.scram.as_ref().map(ToString::to_string).into()]);
        insert(&mut out, "credential", CREDENTIAL, &upsert("account_id", CREDENTIAL), credentials);
        let app_passwords = self.app_passwords.into_iter().map(|p| {
            vec![p.account.into(), p.name.into(), i64::from(p.services.0).into(), p.verifier.into(), p.created_s.into()]
        });
        insert(&mut out, "app_password", APP_PASSWORD, "", app_passwords);
        let routes = self.routes.into_values().map(|r| {
            let group = r.group.as_ref();
            vec![
                r.id.into(),
                r.domain.0.into(),
                (&*r.local).into(),
                group.map(|g| g.display_name.to_string()).into(),
                group.map(|g| json(serde_json::to_string(&g.senders))).into(),
                group.map(|g| i64::from(g.members_send_as)).into(),
            ]
        });
        insert(&mut out, "route", ROUTE, &upsert("id", ROUTE), routes);
        let targets = self.add_targets.into_iter().map(|(id, target)| vec![id.into(), (&*target).into()]);
        insert(&mut out, "route_target", "route_id, target", " ON CONFLICT (route_id, target) DO NOTHING", targets);
        let audit = self
            .audit
            .into_iter()
            .map(|(action, subject, detail)| vec![now_s.into(), actor.into(), action.into(), subject.into(), detail.into()]);
        insert(&mut out, "audit", "at_s, actor, action, subject, detail", "", audit);
        out
    }
}

fn damaged(what: &str, id: i64, why: impl std::fmt::Display) -> Error {
    Error::Damaged(format!("{what} number {id}: {why}"))
}

fn limit(n: Option<i64>) -> Option<u64> {
    n.map(|n| u64::try_from(n).unwrap_or(0))
}

type AccountRow =
    (i64, i64, String, String, String, String, i64, i64, Option<i64>, Option<i64>, Option<i64>, Option<i64>, i64, i64);

fn account_of(row: AccountRow) -> Result<AccountRecord, Error> {
    let (
        id,
        domain,
        local,
        display_name,
        role,
        language,
        services,
        suspended,
        purge_at_s,
        bytes,
        messages,
        size,
        created_s,
        version,
    ) = row;
    Ok(AccountRecord {
        id: AccountId(id),
        domain: DomainId(domain),
        local: local.into(),
        display_name: display_name.into(),
        role: FromStr::from_str(&role).map_err(|e| damaged("account", id, e))?,
        language: FromStr::from_str(&language).map_err(|e| damaged("account", id, e))?,
        services: Services(u16::try_from(services).map_err(|e| damaged("account", id, e))?).both(Services::ALL),
        suspended: suspended != 0,
        purge_at_s,
        quota_bytes: limit(bytes),
        quota_messages: limit(messages),
        max_message_bytes: limit(size),
        created_s,
        credential_version: u32::try_from(version).map_err(|e| damaged("account", id, e))?,
    })
}

/// Reads everything. All in one transaction's view is not needed: the generation is read first, so a change that
/// slips in between is found by the next `refresh`.
pub(crate) async fn load(db: &Database) -> Result<Model, Error> {
    let mut model = Model::default();
    let state = "SELECT generation, next_id FROM directory_state WHERE id = 1";
    (model.generation, model.next_id) = read!(db, c => sqlx::query_as(state).fetch_one(c).await?);
    let sql = format!("SELECT {DOMAIN} FROM domain");
    type DomainRow = (i64, String, String, i64, Option<i64>, String, i64);
    let rows: Vec<DomainRow> = read!(db, c => sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(c).await?);
    for (id, name, aliases, suspended, purge_at_s, settings, created_s) in rows {
        model.put_domain(Arc::new(DomainRecord {
            id: DomainId(id),
            name: name.into(),
            aliases: serde_json::from_str(&aliases).map_err(|e| damaged("domain", id, e))?,
            suspended: suspended != 0,
            purge_at_s,
            settings: serde_json::from_str(&settings).map_err(|e| damaged("domain", id, e))?,
            created_s,
        }));
    }
    let sql = format!("SELECT {ACCOUNT} FROM account");
    read!(db, c => {
        let mut rows = sqlx::query_as::<_, AccountRow>(sqlx::AssertSqlSafe(sql)).fetch(c);
        while let Some(row) = rows.try_next().await? {
            model.put_account(Arc::new(account_of(row)?));
        }
    });
    load_routes(db, &mut model).await?;
    model.shrink();
    Ok(model)
}

async fn load_routes(db: &Database, model: &mut Model) -> Result<(), Error> {
    let sql = "SELECT route_id, target FROM route_target";
    let mut targets: HashMap<i64, Vec<Box<str>>> = HashMap::new();
    read!(db, c => {
        let mut rows = sqlx::query_as::<_, (i64, String)>(sql).fetch(c);
        while let Some((id, target)) = rows.try_next().await? {
            targets.entry(id).or_default().push(target.into());
        }
    });
    let sql = format!("SELECT {ROUTE} FROM route");
    type RouteRow = (i64, i64, String, Option<String>, Option<String>, Option<i64>);
    let rows: Vec<RouteRow> = read!(db, c => sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(c).await?);
    for (id, domain, local, display_name, senders, send_as) in rows {
        let mut targets = targets.remove(&id).unwrap_or_default();
        // The engine's order is its own (collation); ours is the order of bytes.
        targets.sort_unstable();
        targets.shrink_to_fit();
        let group = match display_name {
            None => None,
            Some(name) => Some(GroupRules {
                display_name: name.into(),
                senders: serde_json::from_str(senders.as_deref().unwrap_or("null")).map_err(|e| damaged("group", id, e))?,
                members_send_as: send_as == Some(1),
            }),
        };
        model.put_route(Arc::new(Route { id, domain: DomainId(domain), local: local.into(), targets, group }));
    }
    Ok(())
}
