//! Orders about mail on its way out.

use super::{Failure, Office, moment, trace_text};
use crate::adapter::{now_s, report_delivery};
use crate::cli::QueueOrder;
use crate::texts::take_back;
use serde_json::{Value, json};
use twinpost_message::{QueueId, TraceId};
use twinpost_queue::Reply;
use twinpost_queue::dsn::{About, Action, Notice};
use twinpost_sms::Client;
use twinpost_store::spool::{RcptState, SpoolAction, SpoolEntry, SpoolFilter};

fn row(entry: &SpoolEntry, now: i64) -> Value {
    let waiting: Vec<_> = entry.rcpts.iter().filter(|r| r.state == RcptState::Waiting).collect();
    let next = waiting.iter().map(|r| r.next_try_s).min();
    let last = waiting.iter().max_by_key(|r| r.last_try_s);
    json!({
        "id": entry.id, "trace": trace_text(entry.trace), "sender": entry.sender.as_ref().map_or_else(|| "<>".to_owned(), ToString::to_string),
        "recipients": waiting.iter().map(|r| r.address.to_string()).collect::<Vec<_>>(), "size_bytes": entry.size_bytes, "age_s": (now - entry.created_s).max(0),
        "next_try_s": next.map(|n| (n - now).max(0)), "hold": entry.held, "last_reply": last.map(|r| r.reply.text.clone()).unwrap_or_default(),
    })
}

fn detail(entry: &SpoolEntry) -> Value {
    let rcpts: Vec<Value> = entry
        .rcpts
        .iter()
        .map(|r| {
            let state = match r.state {
                RcptState::Waiting => "waiting",
                RcptState::Delivered => "delivered",
                RcptState::Failed => "failed",
            };
            json!({ "address": r.address, "state": state, "attempts": r.attempts, "next_try": moment(r.next_try_s), "last_try": r.last_try_s.map(moment), "reply_code": r.reply.code, "reply": r.reply.text })
        })
        .collect();
    json!({
        "id": entry.id, "trace": trace_text(entry.trace), "sender": entry.sender, "size_bytes": entry.size_bytes, "created": moment(entry.created_s),
        "expires": moment(entry.expires_s), "hold": entry.held, "envelope_id": entry.envid, "recipients": rcpts,
    })
}

impl Office {
    pub(super) async fn queue(&self, order: QueueOrder) -> Result<Value, Failure> {
        let now = now_s();
        match order {
            QueueOrder::List { match_text, limit } => {
                let entries = self.store.spool_list(&SpoolFilter::default(), usize::MAX >> 1).await.map_err(Failure::because)?;
                let wanted = |e: &&SpoolEntry| {
                    let text = match_text.as_deref().unwrap_or_default();
                    e.sender.as_ref().is_some_and(|s| s.to_string().contains(text))
                        || e.rcpts.iter().any(|r| r.address.to_string().contains(text))
                };
                Ok(entries.iter().filter(wanted).take(limit as usize).map(|e| row(e, now)).collect())
            }
            QueueOrder::Show { id } => Ok(detail(&self.entry(id).await?)),
            QueueOrder::Retry { id: Some(id) } => self.act(id, SpoolAction::Retry(now)).await,
            QueueOrder::Retry { id: None } => {
                let entries = self
                    .store
                    .spool_list(&SpoolFilter { held: Some(false), ..SpoolFilter::default() }, usize::MAX >> 1)
                    .await
                    .map_err(Failure::because)?;
                for entry in &entries {
                    self.act(entry.id.0, SpoolAction::Retry(now)).await?;
                }
                Ok(json!({ "tried_again": entries.len() }))
            }
            QueueOrder::Hold { id } => self.act(id, SpoolAction::Hold).await,
            QueueOrder::Release { id } => self.act(id, SpoolAction::Release).await,
            QueueOrder::Drop { id, notify } => {
                let entry = self.entry(id).await?;
                if notify {
                    self.tell_dropped(&entry).await?;
                }
                tracing::info!(trace = %entry.trace, queue = id, notify, "dropped by an operator");
                self.act(id, SpoolAction::Drop).await?;
                // Only when the entry is gone: whoever carries it finds no one to report the end of its texts to.
                Ok(self.take_texts_back(&entry).await)
            }
        }
    }

    async fn entry(&self, id: i64) -> Result<SpoolEntry, Failure> {
        self.store.spool_entry(QueueId(id)).await.map_err(Failure::because)
    }

    async fn act(&self, id: i64, action: SpoolAction) -> Result<Value, Failure> {
        self.store.spool_action(QueueId(id), action).await.map_err(Failure::because)?;
        if let (Some(running), SpoolAction::Retry(_) | SpoolAction::Release) = (&self.running, action) {
            running.wake_queue();
        }
        Ok(Value::Null)
    }

    /// The texts of an entry that was dropped are taken back; tells what became of them.
    async fn take_texts_back(&self, entry: &SpoolEntry) -> Value {
        let Some(gateway) = &self.gateway else { return Value::Null };
        let ended = take_back(gateway, &Client::new(self.folder.sms_socket()), entry).await;
        let known = ended.into_iter().filter_map(|(number, status)| Some((number, status?)));
        let texts: Vec<Value> = known
            .map(|(number, status)| {
                json!({
                    "number": number.to_string(), "key": status.key, "state": status.state,
                    "parts": format!("{}/{}", status.accepted, status.parts),
                })
            })
            .collect();
        if texts.is_empty() { Value::Null } else { Value::Array(texts) }
    }

    /// The sender hears that the message was taken out.
    async fn tell_dropped(&self, entry: &SpoolEntry) -> Result<(), Failure> {
        let Some(sender) = &entry.sender else { return Ok(()) };
        let message = self.store.body(entry.body).await.map_err(Failure::because)?;
        let reply = Reply { code: 0, text: "5.7.0 taken out of the queue by an operator".to_owned() };
        let about = |r: &twinpost_store::spool::SpoolRcpt| About {
            address: r.address.clone(),
            orcpt: r.orcpt.clone(),
            reply: reply.clone(),
            host: None,
            courier: None,
            words: None,
            retry_until_s: None,
        };
        let about: Vec<About> = entry.rcpts.iter().filter(|r| r.state == RcptState::Waiting).map(about).collect();
        let trace = TraceId(rand::random());
        let notice = Notice {
            host_name: &self.document.node.host_name,
            sender,
            action: Action::Failed,
            about: &about,
            envid: entry.envid.as_deref(),
            ret: None,
            arrived_s: entry.created_s,
            now_s: now_s(),
            original: &message,
            about_trace: entry.trace,
            trace,
        };
        let delivery = report_delivery(&self.directory, sender, &notice.build(), trace, self.document.queue.expire.0);
        self.store.deliver(delivery).await.map(|_| ()).map_err(Failure::because)
    }
}
