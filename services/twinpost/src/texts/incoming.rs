//! Texts from telephones, as mail: whose text they answer, they reach.
//!
//! The modem's process keeps a text until it is taken, which happens after the commit of the mail that it became. So that a
//! kill between the two does not store it twice, the text's id and the position of the change log are written down before:
//! when the same text is offered again, the log from there on says whether its mail is stored.

use super::{CALL_AGAIN, Texts};
use crate::adapter::now_s;
use crate::node::write_whole;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use twinpost_mail2sms::Incoming;
use twinpost_message::{BodyId, ModSeq, Parsed, TraceId};

impl Texts {
    /// Takes what comes in, for as long as the mail process runs.
    pub(super) async fn take_incoming(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                why = self.take_once() => tracing::debug!(why, "texts from telephones wait"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(CALL_AGAIN) => {}
            }
        }
    }

    async fn take_once(&self) -> String {
        let mut stream = match self.client.incoming(0).await {
            Ok(stream) => stream,
            Err(error) => return error.to_string(),
        };
        loop {
            let text = match stream.next().await {
                Ok(text) => text,
                Err(error) => return error.to_string(),
            };
            if let Err(why) = self.take_one(&text).await {
                tracing::error!(
                    sms = text.id,
                    from = text.from,
                    why,
                    "a text from a telephone could not be made into mail; it waits"
                );
                return why;
            }
        }
    }

    async fn take_one(&self, text: &twinpost_sms::api::Incoming) -> Result<(), String> {
        let sms = Incoming {
            id: text.id,
            from: text.from.clone(),
            text: text.text.clone(),
            sent_s: text.sent_s,
            received_s: text.received_s,
        };
        if let Some(mail) = self.gateway.incoming(&sms, now_s()).await.map_err(|e| e.to_string())? {
            self.store_once(text.id, &mail).await?;
        }
        self.client.take(text.id).await.map_err(|e| e.to_string())
    }
}

/// Written before the mail of a text is stored, so that a kill before the text is taken can be told from one before the commit.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Begun {
    /// The text.
    id: u64,
    /// Position of the change log before its mail was stored.
    position: u64,
}

impl Texts {
    /// Stores the mail of a text, unless an earlier process did so before it could take the text.
    async fn store_once(&self, id: u64, mail: &twinpost_mail2sms::Mail) -> Result<(), String> {
        let begun: Option<Begun> = std::fs::read(&self.begun).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some(begun) = begun.filter(|begun| begun.id == id)
            && self.is_stored(ModSeq(begun.position), &mail.message).await.map_err(|e| e.to_string())?
        {
            tracing::info!(sms = id, to = %mail.to, "the mail of this text is there already");
            return Ok(());
        }
        let begun = Begun { id, position: self.store.head().borrow().0 };
        let line = serde_json::to_vec(&begun).map_err(|e| e.to_string())?;
        write_whole(&self.begun, &line, 0o600).map_err(|e| format!("{}: {e}", self.begun.display()))?;
        let trace = TraceId(rand::random());
        self.deliver(&mail.to, &mail.message, trace).await.map_err(|e| e.to_string())?;
        tracing::info!(%trace, sms = id, to = %mail.to, answer = mail.answer, "a text became mail");
        Ok(())
    }

    /// A message with this one's Message-ID was stored after the position.
    async fn is_stored(&self, position: ModSeq, message: &[u8]) -> Result<bool, twinpost_store::Error> {
        let Some(id) = Parsed::parse(message).id else { return Ok(false) };
        let mut since = position;
        loop {
            let rows = self.store.changes(since, 512).await?;
            let Some(last) = rows.last().map(|row| row.modseq) else { return Ok(false) };
            let mut bodies: Vec<BodyId> = rows.iter().map(|row| row.body).filter(|body| body.0 != 0).collect();
            bodies.sort_unstable();
            bodies.dedup();
            for body in bodies {
                // A body that is gone by now is not the one that was stored a moment ago, or nobody wants it any more.
                let found = self.store.parsed(&[body]).await;
                if found.is_ok_and(|all| all.iter().any(|p| p.id.as_deref() == Some(&id))) {
                    return Ok(true);
                }
            }
            since = last;
        }
    }
}
