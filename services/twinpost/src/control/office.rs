//! Carries orders out: on the directory, the queue, the store and the document of one node.
//!
//! Contract: an order is done whole or refused whole, with a sentence that says why; what changes people or domains leaves a
//! line in the audit trail with the actor's name.

mod directory;
mod pair;
mod queue;
mod sms;
mod store;

use super::{Failure, Progress, ProgressSender};
use crate::cli::{ConfigOrder, Order};
use crate::node::Folder;
use crate::{operators, settings};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;
use twinpost_config::{BytesSize, Document};
use twinpost_directory::{AuditQuery, Directory, ImportOptions};
use twinpost_mail2sms::Gateway;
use twinpost_message::{Address, TraceId};
use twinpost_store::Store;

/// What only a running node has: ways to reach its parts.
pub trait Running: Send + Sync {
    /// Something may be due in the queue.
    fn wake_queue(&self);
    /// Takes the document from its file; keeps the old one when it has faults.
    ///
    /// # Errors
    /// The faults, or what cannot be changed while running.
    fn reload(&self) -> Result<Vec<String>, String>;
    /// What runs: name and number for each figure of the status.
    fn figures(&self) -> Vec<(&'static str, Value)>;
}

/// The one who carries orders out.
pub struct Office {
    folder: Folder,
    document: Document,
    directory: Directory,
    store: Store,
    gateway: Option<Gateway>,
    running: Option<Arc<dyn Running>>,
    since: Instant,
}

/// A size as people write it: `5 GiB`; `none` for no limit.
fn limit_of(text: &str) -> Result<Option<u64>, Failure> {
    match text {
        "none" | "0" => Ok(None),
        text => text.parse::<BytesSize>().map(|size| Some(size.0)).map_err(Failure::because),
    }
}

/// A number; `none` for no limit.
fn count_of(text: &str) -> Result<Option<u64>, Failure> {
    match text {
        "none" | "0" => Ok(None),
        text => text.parse().map(Some).map_err(|_| Failure::because(format!("{text:?} is neither a whole number nor \"none\""))),
    }
}

fn address(text: &str) -> Result<Address, Failure> {
    text.parse().map_err(|e| Failure::because(format!("{text:?}: {e}")))
}

fn shown(value: impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(Failure::because)
}

/// RFC 3339, for people and machines.
fn moment(seconds: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_default()
}

impl Office {
    /// The office of a running node.
    pub fn new(
        folder: Folder,
        document: Document,
        directory: Directory,
        store: Store,
        gateway: Option<Gateway>,
        running: Arc<dyn Running>,
    ) -> Self {
        Self { folder, document, directory, store, gateway, running: Some(running), since: Instant::now() }
    }

    /// The office of a stopped node: opens its data under its lock.
    ///
    /// # Errors
    /// The document has faults, or the data is in use or cannot be opened.
    pub async fn open(folder: &Folder) -> Result<Self, Failure> {
        let document = twinpost_config::load(&folder.document()).map_err(Failure::because)?;
        let store = Store::open(settings::store(&document, folder)).await.map_err(Failure::because)?;
        let directory = Directory::open(&settings::directory_location(&document, folder), settings::directory(&document))
            .await
            .map_err(Failure::because)?;
        let gateway = settings::sms::open_gateway(&document, folder).await.map_err(Failure::because)?;
        Ok(Self { folder: folder.clone(), document, directory, store, gateway, running: None, since: Instant::now() })
    }

    /// Ends the office of a stopped node.
    pub async fn close(&self) {
        if let Some(gateway) = &self.gateway {
            gateway.close().await;
        }
        self.store.close().await;
        self.directory.close().await;
    }

    /// Makes the index of a stopped node again from its packs.
    ///
    /// # Errors
    /// The document has faults; the data is in use; the packs cannot be read.
    pub async fn rebuild(folder: &Folder, progress: &ProgressSender) -> Result<Value, Failure> {
        let document = twinpost_config::load(&folder.document()).map_err(Failure::because)?;
        let report =
            Store::rebuild(settings::store(&document, folder), |done, total| tell(progress, "reading packs", done, total)).await;
        shown(report.map_err(Failure::because)?)
    }

    /// Carries an order out.
    ///
    /// # Errors
    /// [`Failure`]: nothing was changed unless it says so.
    pub async fn execute(
        &self,
        order: Order,
        attachment: &[u8],
        actor: &str,
        progress: ProgressSender,
    ) -> Result<Value, Failure> {
        match order {
            Order::Status => self.status().await,
            Order::Domain(order) => self.domain(order, actor).await,
            Order::Account(order) => Box::pin(self.account(order, actor)).await,
            Order::Alias(order) => self.alias(order, actor).await,
            Order::Group(order) => self.group(order, actor).await,
            Order::Quota(order) => self.quota(order, actor).await,
            Order::Import { dry_run, skip_faulty, create_domains, create_groups, .. } => {
                let options =
                    ImportOptions { dry_run, all_or_nothing: !skip_faulty, create_domains, create_groups, progress: None };
                Box::pin(self.import(attachment, options, actor, progress)).await
            }
            Order::Export { domain } => self.export(domain).await,
            Order::Queue(order) => self.queue(order).await,
            Order::Store(order) => Box::pin(self.store_order(order, progress)).await,
            Order::Sms(order) => Box::pin(self.sms(order, actor)).await,
            Order::Pair(order) => Box::pin(self.pair(order, progress)).await,
            Order::Notice(notice) => {
                let expire = self.document.queue.expire.0;
                let told = operators::tell(&self.directory, &self.store, &self.document.node.host_name, expire, &notice).await;
                told.map(|told| json!({ "told": told })).map_err(Failure::because)
            }
            Order::Config(ConfigOrder::Reload) => match &self.running {
                Some(running) => running.reload().map(|notes| json!(notes)).map_err(Failure::because),
                None => Err(Failure::because("the node is not running: it reads the document when it starts")),
            },
            Order::Config(ConfigOrder::Check { .. } | ConfigOrder::Reference | ConfigOrder::Show | ConfigOrder::Set { .. })
            | Order::Rack { .. }
            | Order::Setup(_)
            | Order::Disks(_)
            | Order::Update(_)
            | Order::Board(_)
            | Order::Support(_)
            | Order::Power(_)
            | Order::Reset(_)
            | Order::Node(_) => Err(Failure::because("this is answered by `twinpost ctl` itself")),
            Order::Audit { limit } => {
                let entries =
                    self.directory.audit(&AuditQuery { limit, ..AuditQuery::default() }).await.map_err(Failure::because)?;
                let line = |e: &twinpost_directory::AuditEntry| json!({"when": moment(e.at_s), "actor": e.actor, "action": e.action, "subject": e.subject, "detail": e.detail});
                Ok(entries.iter().map(line).collect())
            }
        }
    }

    async fn status(&self) -> Result<Value, Failure> {
        let queued = self.store.spool_len().await.map_err(Failure::because)?;
        let mut status = serde_json::Map::from_iter([
            ("node".to_owned(), json!(self.document.node.name)),
            ("running".to_owned(), json!(self.running.is_some())),
            ("version".to_owned(), json!(crate::node::version())),
            ("domains".to_owned(), json!(self.directory.domains().len())),
            ("queue".to_owned(), json!(queued)),
            ("data".to_owned(), json!(self.folder.data())),
        ]);
        if let Some(running) = &self.running {
            status.insert("up_s".to_owned(), json!(self.since.elapsed().as_secs()));
            status.extend(running.figures().into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        Ok(Value::Object(status))
    }
}

/// Tells how far work is; nobody may be listening.
fn tell(progress: &ProgressSender, text: &str, done: u64, total: u64) {
    // The client may have gone; the work goes on.
    let _ = progress.send(Progress { text: text.to_owned(), done, total });
}

/// A name of a message as it stands in the logs.
fn trace_text(trace: TraceId) -> String {
    trace.to_string()
}
