//! Mail to numbers at RCPT and DATA: who may, to whom, how much.

use super::Texts;
use crate::adapter::now_s;
use twinpost_directory::{Role, Service, State};
use twinpost_mail2sms::{Fault, Intake, Language, Number, Recipient, Sender};
use twinpost_message::{Address, TraceId};
use twinpost_sasl::Identity;
use twinpost_smtp::Refusal;

/// Who sends a mail to numbers, and how a "no" is told.
#[derive(Clone, Debug)]
pub struct Writer {
    sender: Sender,
    /// The account may not use text messages.
    without_service: bool,
    smtputf8: bool,
}

impl Texts {
    /// Who this is to the gateway.
    pub fn writer(&self, identity: Option<&Identity>, sender: Option<&Address>, smtputf8: bool) -> Writer {
        let account = identity.and_then(|i| self.directory.account_by_id(i.account));
        let without_service =
            account.as_ref().is_some_and(|a| !a.services.allows(Service::Sms) || !matches!(a.state, State::Active));
        let role = account.as_ref().map_or(twinpost_mail2sms::Role::User, |a| match a.role {
            Role::Operator => twinpost_mail2sms::Role::Operator,
            Role::DomainAdmin => twinpost_mail2sms::Role::DomainAdmin,
            Role::User => twinpost_mail2sms::Role::User,
        });
        let language = self.language_of(account.as_ref().map(|a| a.id));
        let sender = Sender { account: account.map(|a| a.address), address: sender.cloned(), role, language };
        Writer { sender, without_service, smtputf8 }
    }

    /// RCPT: the numbers that this address stands for.
    ///
    /// # Errors
    /// The refusal, in the words of the person who writes.
    pub async fn recipient(&self, writer: &Writer, to: &Address, so_far: &[Number]) -> Result<Recipient, Refusal> {
        if writer.without_service {
            tracing::info!(from = ?writer.sender.account.as_ref().map(ToString::to_string), fault = "service", "mail to SMS refused");
            let no = Refusal::new(550, (7, 1), "your account may not send text messages: please ask your administrator");
            return Err(self.worded(writer, no, "您的账户没有发送短信的权限，请联系管理员"));
        }
        let judged = self.gateway.recipient(&writer.sender, to, so_far, now_s()).await;
        judged.map_err(|refusal| self.refusal(writer, refusal))
    }

    /// DATA: takes the quota for the text that the mail becomes. True: the mail asks for a receipt.
    ///
    /// # Errors
    /// The refusal, in the words of the person who writes.
    pub async fn accept(&self, writer: &Writer, trace: TraceId, numbers: &[Number], mail: &[u8]) -> Result<bool, Refusal> {
        let trace = trace.to_string();
        let intake = Intake { sender: &writer.sender, trace: &trace, numbers, mail, now_s: now_s() };
        self.gateway.accept(intake).await.map(|text| text.receipt_wanted).map_err(|refusal| self.refusal(writer, refusal))
    }

    /// The mail was not stored after all.
    pub async fn release(&self, trace: TraceId) {
        if let Err(error) = self.gateway.release(&trace.to_string()).await {
            tracing::error!(%trace, %error, "the quota of a mail that was not stored could not be given back");
        }
    }

    fn refusal(&self, writer: &Writer, from: twinpost_mail2sms::Refusal) -> Refusal {
        let no = Refusal::new(from.code, from.detail, from.sentence.en);
        // Strangers get no more than the standard's words: their servers read them.
        if from.fault == Fault::Trouble { no } else { self.worded(writer, no, &from.sentence.zh) }
    }

    /// Says it in the person's own language too.
    fn worded(&self, writer: &Writer, no: Refusal, zh: &str) -> Refusal {
        let language = writer.sender.language.unwrap_or(Language::En);
        let person = writer.sender.account.is_some() || writer.smtputf8;
        if person && language == Language::ZhCn { no.also(zh) } else { no }
    }
}
