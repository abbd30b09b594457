//! Notices of new mail by text.
//!
//! A notice begins after the commit of the mail and never before: it waits in memory for its turn, so that no 250 waits for
//! it. A kill in that moment loses the notice (not the mail); once the modem's process has it, it is kept on disk there.

use super::Texts;
use crate::adapter::now_s;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use twinpost_mail2sms::{Kind, Number, Outcome, Reason, Settle, Told};
use twinpost_message::{AccountId, TraceId};
use twinpost_sms::Submitted;
use twinpost_sms::api::{Class, Submit};

/// A mail that came.
pub struct Arrival {
    /// For these accounts, which have rules.
    pub accounts: Vec<AccountId>,
    /// The mail.
    pub mail: Bytes,
    /// Its name in the logs.
    pub trace: TraceId,
}

impl Texts {
    /// Judges what came, one after the other.
    pub(super) async fn judge_arrivals(self: Arc<Self>, mut arrivals: mpsc::Receiver<Arrival>, stop: CancellationToken) {
        loop {
            let arrival = tokio::select! {
                () = stop.cancelled() => return,
                arrival = arrivals.recv() => arrival,
            };
            let Some(arrival) = arrival else { return };
            for account in &arrival.accounts {
                self.judge(*account, &arrival).await;
            }
        }
    }

    async fn judge(&self, account: AccountId, arrival: &Arrival) {
        let Some(account) = self.directory.account_by_id(account) else { return };
        let language = self.language_of(Some(account.id));
        // Two accounts that get the same mail have a notice each.
        let trace = format!("{}-{}", arrival.trace, account.id.0);
        match self.gateway.notice(&account.address, language, &arrival.mail, &trace, now_s()).await {
            Ok(None) => {}
            Ok(Some(notice)) => {
                for number in &notice.to {
                    self.notify(&account, &notice, number).await;
                }
            }
            Err(error) => {
                tracing::error!(trace = %arrival.trace, account = %account.address, %error, "no notice of this mail: the ledger does not answer");
            }
        }
    }

    async fn notify(&self, account: &twinpost_directory::Account, notice: &Told, number: &Number) {
        let submit = Submit {
            key: format!("notice-{}-{number}", notice.trace),
            class: Class::Notice,
            to: number.as_str().to_owned(),
            text: notice.text.clone(),
            validity_s: None,
            report: false,
            flash: false,
            durable: true,
            account: Some(account.address.to_string()),
            domain: Some(account.address.domain().to_owned()),
            parts_max: None,
        };
        let failed = |en: String| {
            let reason = Reason { permanent: true, code: None, en, zh: String::new() };
            Outcome::Failed { parts: 0, reason }
        };
        let outcome = match self.client.submit(submit).await {
            Ok(Submitted::Accepted { parts, .. }) => Outcome::Sent { parts, possible_duplicate: false },
            Ok(Submitted::Known(status)) => Outcome::Sent { parts: status.parts, possible_duplicate: status.possible_duplicate },
            Ok(Submitted::Refused(reason)) => failed(reason.text),
            Err(error) => failed(error.to_string()),
        };
        if let Outcome::Failed { reason, .. } = &outcome {
            tracing::warn!(trace = notice.trace, account = %account.address, to = %number, why = reason.en, "a notice of new mail cannot be sent");
        }
        let news = Settle { kind: Kind::Notice, trace: &notice.trace, number, outcome: &outcome, now_s: now_s() };
        if let Err(error) = self.gateway.settle(news).await {
            tracing::error!(trace = notice.trace, %error, "a notice could not be written into the ledger");
        }
    }
}
