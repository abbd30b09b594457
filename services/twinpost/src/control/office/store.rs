//! Orders about mail that is kept.

use super::{Failure, Office, ProgressSender, address, moment};
use crate::cli::StoreOrder;
use serde_json::{Value, json};

/// Deleted messages listed at most.
const DELETED_MAX: usize = 10_000;
/// A pack is emptied when less than this share of it is live.
const LIVE_PERCENT: u64 = 90;

impl Office {
    pub(super) async fn store_order(&self, order: StoreOrder, progress: ProgressSender) -> Result<Value, Failure> {
        match order {
            StoreOrder::Compact => {
                super::tell(&progress, "giving room back", 0, 0);
                let done = self.store.compact(LIVE_PERCENT).await.map_err(Failure::because)?;
                Ok(
                    json!({ "packs_removed": done.packs, "freed_bytes": done.freed_bytes, "records_copied": done.copied, "bodies_forgotten": done.forgotten, "damaged_records": done.damaged }),
                )
            }
            StoreOrder::Deleted { address: text } => {
                let account = self.account_named(&text)?;
                let list = self.store.deleted(account, DELETED_MAX).await.map_err(Failure::because)?;
                let mut rows = Vec::with_capacity(list.len());
                for one in list {
                    let parsed = self.store.parsed(&[one.body]).await.ok().and_then(|mut p| p.pop());
                    let subject = parsed.map(|p| p.envelope.subject_text.clone()).unwrap_or_default();
                    rows.push(json!({ "id": one.id, "mailbox": one.mailbox_name, "subject": subject, "deleted": moment(one.deleted_s), "received": moment(one.received_s), "size_bytes": one.size_bytes }));
                }
                Ok(Value::Array(rows))
            }
            StoreOrder::Undelete { address: text, ids } => {
                let account = self.account_named(&text)?;
                let ids = if ids.is_empty() {
                    self.store.deleted(account, DELETED_MAX).await.map_err(Failure::because)?.iter().map(|d| d.id).collect()
                } else {
                    ids
                };
                let back = self.store.restore(account, ids).await.map_err(Failure::because)?;
                Ok(json!({ "restored": back.len() }))
            }
            StoreOrder::Verify => {
                let report = self
                    .store
                    .verify(|done, total| super::tell(&progress, "checking packs", done, total))
                    .await
                    .map_err(Failure::because)?;
                let clean = report.is_clean();
                let total = report.faults_total;
                let shown = super::shown(report)?;
                if clean { Ok(shown) } else { Err(Failure::faults(format!("{total} faults were found; see above"), shown)) }
            }
            StoreOrder::Rebuild => Err(Failure::because(
                "the node must be stopped before its index is made again: stop it and give this order again",
            )),
        }
    }

    fn account_named(&self, text: &str) -> Result<twinpost_message::AccountId, Failure> {
        let address = address(text)?;
        self.directory.account(&address).map(|a| a.id).ok_or_else(|| Failure::because(format!("there is no account {address}")))
    }
}
