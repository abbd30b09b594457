//! The queue's courier for numbers: what the mail becomes goes to the modem's process, and its word comes back.
//!
//! The key of a text is made of the mail's trace, its queue entry and its recipient, so that an errand that is asked for again
//! (after a kill on either side) finds the text that it began: parts that the network has are never sent again.
//!
//! Where the sender asked to be told of success, the errand stays in the queue after the network's acceptance until the
//! telephone's confirmation came or cannot come any more: that needs no state of its own, and one report tells the end.

use super::{Readiness, Texts};
use crate::adapter::now_s;
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use twinpost_mail2sms::{Gateway, Kind, Language, Number, Outcome, Outgoing, Reason, ReportMode, Settle};
use twinpost_message::{QueueId, TraceId};
use twinpost_queue::courier::{self, Carried, Courier, Fate};
use twinpost_queue::{Entry, Recipient, Reply};
use twinpost_sms::api::{Class, SmsState, Status, Submit};
use twinpost_sms::{Client, Error, Submitted};
use twinpost_store::spool::{RcptState, SpoolEntry};

/// A text that cannot go now is looked at again after this time, if nothing wakes it before.
const LOOK_AGAIN_S: i64 = 60;
/// The same while the telephone's confirmation is waited for.
const REPORT_AGAIN_S: i64 = 300;
/// So long is a confirmation waited for: a network keeps trying for the validity of a text, and says so then.
const REPORT_MAX_S: i64 = 50 * 3600;
/// Validity of a person's text: the modem's process gives it up then.
const VALIDITY_S: u32 = 48 * 3600;
/// How long a text that waits for its own reasons (a busy telephone, a number that the network cannot reach) or for its
/// confirmation is followed before its place is given to another.
const WAITING_MAX: Duration = Duration::from_secs(90);

/// The courier.
#[derive(Clone)]
pub struct TextCourier(pub Option<Arc<Texts>>);

impl Courier for TextCourier {
    const KIND: courier::Kind = courier::Kind { mta: "x-gsm", diagnostic: "X-SMS" };

    fn takes(&self, domain: &str) -> bool {
        self.0.as_ref().is_some_and(|texts| texts.takes(domain))
    }

    async fn carry(&self, entry: &Entry, recipient: &Recipient, message: Bytes) -> Carried {
        match &self.0 {
            Some(texts) => Box::pin(texts.carry(entry, recipient, &message)).await,
            None => waits(None, "4.3.5 text messages are switched off"),
        }
    }
}

fn reply(text: impl Into<String>) -> Reply {
    Reply { code: 0, text: text.into() }
}

fn waits(at_s: Option<i64>, text: impl Into<String>) -> Carried {
    Carried { fate: Fate::Waits(at_s), reply: reply(text), words: None, by: None }
}

fn rests(until_s: i64, text: impl Into<String>) -> Carried {
    Carried { fate: Fate::Rests(until_s), reply: reply(text), words: None, by: None }
}

fn reason(from: &twinpost_sms::api::Reason) -> Reason {
    Reason { permanent: from.permanent, code: from.code, en: from.text.clone(), zh: from.zh.clone() }
}

fn taken_back() -> Reason {
    let en = "it was taken back by an operator".to_owned();
    Reason { permanent: true, code: None, en, zh: "管理员已撤回".to_owned() }
}

/// Takes back the texts of an entry that is no longer in the queue, and gives back what of their quota is not used. Gives for
/// each number what became of its text; none: no text of it was at the modem's process.
///
/// A part that is with the network's answer outstanding is not taken back: the courier that follows it writes down its end.
pub async fn take_back(gateway: &Gateway, client: &Client, entry: &SpoolEntry) -> Vec<(Number, Option<Status>)> {
    let policy = gateway.policy();
    let mut ended = Vec::new();
    for rcpt in entry.rcpts.iter().filter(|rcpt| rcpt.state == RcptState::Waiting) {
        let Some(number) = policy.number_of(&rcpt.address) else { continue };
        let key = key(entry.trace, entry.id, rcpt.n);
        // A process that is away has no text of ours: people's texts are in its memory only.
        let status = client.cancel(&key).await.unwrap_or_else(|error| {
            tracing::warn!(trace = %entry.trace, key, %error, "the modem's process could not be asked to take a text back");
            None
        });
        let outcome = match &status {
            Some(status) => match status.state {
                SmsState::Sending => None,
                SmsState::Accepted | SmsState::Delivered | SmsState::NotDelivered => {
                    Some(Outcome::Sent { parts: status.accepted, possible_duplicate: status.possible_duplicate })
                }
                _ => Some(Outcome::Failed { parts: status.accepted, reason: taken_back() }),
            },
            None => Some(Outcome::Failed { parts: 0, reason: taken_back() }),
        };
        if let Some(outcome) = &outcome {
            let trace = entry.trace.to_string();
            let news = Settle { kind: Kind::Mail, trace: &trace, number: &number, outcome, now_s: now_s() };
            if let Err(error) = gateway.settle(news).await {
                tracing::error!(trace, to = %number, %error, "the end of a text that was taken back could not be written into the ledger");
            }
        }
        ended.push((number, status));
    }
    ended
}

/// The name of the text that a recipient of a queue entry becomes: the same for each try.
fn key(trace: TraceId, entry: QueueId, n: u32) -> String {
    format!("{trace}-{entry}-{n}")
}

/// One errand.
struct Errand<'a> {
    entry: &'a Entry,
    number: Number,
    trace: String,
    key: String,
    /// The sender wants to hear of success.
    wants_report: bool,
    language: Language,
}

impl Texts {
    async fn carry(&self, entry: &Entry, recipient: &Recipient, message: &[u8]) -> Carried {
        let policy = self.gateway.policy();
        let Some(number) = policy.number_of(&recipient.address) else {
            let text = "5.1.3 this address is no telephone number";
            return Carried { fate: Fate::Failed, reply: reply(text), words: None, by: None };
        };
        let errand = Errand {
            entry,
            number,
            trace: entry.trace.to_string(),
            key: key(entry.trace, entry.id, recipient.n),
            wants_report: recipient.notify.success && policy.settings().reports != ReportMode::Never,
            language: self.language_of(entry.account).unwrap_or(policy.settings().language),
        };
        let text = match policy.outgoing(message) {
            Ok(text) => text,
            Err(refusal) => {
                let said = reply(format!("{} {}", refusal.enhanced(), refusal.sentence.en));
                let fate = if refusal.is_permanent() { Fate::Failed } else { Fate::Waits(None) };
                if refusal.is_permanent() {
                    let reason = Reason { permanent: true, code: None, en: refusal.sentence.en, zh: String::new() };
                    self.settled(&errand, &Outcome::Failed { parts: 0, reason }).await;
                }
                return Carried { fate, reply: said, words: Some(refusal.sentence.zh).filter(|_| errand.zh()), by: None };
            }
        };
        if let Some(at_s) = policy.not_before_s(text.urgent, now_s()) {
            return rests(at_s, "4.3.2 ordinary texts wait until the quiet hours are over");
        }
        if let Readiness::Not(why, _) = &*self.readiness.borrow() {
            self.rests(entry.id);
            return rests(now_s() + LOOK_AGAIN_S, format!("4.4.2 {why}"));
        }
        match self.hand_over(&errand, text).await {
            Ok(carried) => carried,
            Err(error) => {
                tracing::warn!(trace = errand.trace, key = errand.key, %error, "the modem's process went away with a text; it is asked again");
                self.rests(entry.id);
                rests(now_s() + LOOK_AGAIN_S, "4.4.2 the process of the modem does not answer")
            }
        }
    }

    /// Submits the text and follows it until there is something to say.
    async fn hand_over(&self, errand: &Errand<'_>, text: Outgoing) -> Result<Carried, Error> {
        let account = errand.entry.account.and_then(|id| self.directory.account_by_id(id)).map(|a| a.address);
        let who = account.or_else(|| errand.entry.sender.clone());
        let always = self.gateway.policy().settings().reports == ReportMode::Always;
        let left_s = u32::try_from(errand.entry.expires_s.saturating_sub(now_s()).max(60)).unwrap_or(u32::MAX);
        let submit = Submit {
            key: errand.key.clone(),
            class: Class::Person,
            to: errand.number.as_str().to_owned(),
            text: text.text,
            validity_s: Some(left_s.min(VALIDITY_S)),
            report: errand.wants_report || always,
            flash: false,
            durable: false,
            account: who.as_ref().map(ToString::to_string),
            domain: who.as_ref().map(|w| w.domain().to_owned()),
            // The gateway counted already; the process keeps to the same limit.
            parts_max: None,
        };
        if let Submitted::Refused(why) = self.client.submit(submit).await? {
            let why = reason(&why);
            return Ok(if why.permanent {
                self.told(errand, Outcome::Failed { parts: 0, reason: why }, Fate::Failed).await
            } else {
                waits(None, format!("4.3.2 {}", why.en))
            });
        }
        // An operator who drops the entry takes back what is at the process then: this text came later than that.
        if let Err(twinpost_store::Error::NoQueueEntry(_)) = self.store.spool_entry(errand.entry.id).await {
            self.client.cancel(&errand.key).await?;
        }
        let Some(mut statuses) = self.client.follow(&errand.key).await? else {
            return Ok(rests(now_s() + 1, "4.4.2 the modem's process forgot the text"));
        };
        let mut waiting_since: Option<Instant> = None;
        let mut last: Option<Status> = None;
        loop {
            let next = match waiting_since {
                None => statuses.next().await?,
                Some(since) => {
                    let left = WAITING_MAX.saturating_sub(since.elapsed());
                    tokio::time::timeout(left, statuses.next()).await.unwrap_or(Ok(None))?
                }
            };
            let Some(status) = next else { return Ok(self.not_yet(errand, last)) };
            if let Some(carried) = self.word_of(errand, &status).await {
                return Ok(carried);
            }
            let waits = matches!(status.state, SmsState::Waiting | SmsState::Accepted);
            waiting_since = waits.then(|| waiting_since.unwrap_or_else(Instant::now));
            last = Some(status);
        }
    }

    /// What a status means for the errand; none: more is to come.
    async fn word_of(&self, errand: &Errand<'_>, status: &Status) -> Option<Carried> {
        let why = || status.reason.as_ref().map(reason).unwrap_or_default();
        let sent = || Outcome::Sent { parts: status.accepted, possible_duplicate: status.possible_duplicate };
        Some(match status.state {
            SmsState::Queued | SmsState::Sending | SmsState::Waiting => return None,
            SmsState::Accepted if errand.wants_report && status.more && !errand.too_late_for_report() => {
                self.settled(errand, &sent()).await;
                return None;
            }
            SmsState::Accepted => self.told(errand, sent(), Fate::Relayed).await,
            SmsState::Delivered => {
                self.settled(errand, &sent()).await;
                self.told(errand, Outcome::Delivered, Fate::Delivered).await
            }
            SmsState::NotDelivered => {
                self.settled(errand, &sent()).await;
                self.told(errand, Outcome::NotDelivered(why()), Fate::Failed).await
            }
            SmsState::Failed => self.told(errand, Outcome::Failed { parts: status.accepted, reason: why() }, Fate::Failed).await,
            SmsState::Canceled => {
                self.told(errand, Outcome::Failed { parts: status.accepted, reason: taken_back() }, Fate::Failed).await
            }
        })
    }

    /// The text goes on waiting; its place is free for another.
    fn not_yet(&self, errand: &Errand<'_>, last: Option<Status>) -> Carried {
        if last.as_ref().is_some_and(|status| status.state == SmsState::Accepted) {
            let text = "4.4.0 the mobile network has the text; the telephone has not confirmed it yet";
            return Carried { by: self.network(), ..waits(Some(now_s() + REPORT_AGAIN_S), text) };
        }
        let why = last.and_then(|status| status.reason);
        let text = why.as_ref().map_or("4.4.0 the text waits for its turn".to_owned(), |r| format!("4.4.0 {}", r.text));
        let words = why.map(|r| r.zh).filter(|zh| errand.zh() && !zh.is_empty());
        // A way out that went away is told by the watch; then it is tried as soon as it is back.
        self.rests(errand.entry.id);
        Carried { fate: Fate::Waits(Some(now_s() + LOOK_AGAIN_S)), reply: reply(text), words, by: self.network() }
    }

    /// Writes the outcome into the ledger, and puts it into words.
    async fn told(&self, errand: &Errand<'_>, outcome: Outcome, fate: Fate) -> Carried {
        let Some(report) = self.settled(errand, &outcome).await else {
            // The ledger is for statistics and answers; the fate of the text is known and must not be lost for it.
            return Carried { fate, reply: reply("2.0.0"), words: None, by: self.network() };
        };
        let words = errand.zh().then(|| report.sentence.zh.clone());
        Carried { fate, reply: reply(report.reply_text()), words, by: self.network() }
    }

    async fn settled(&self, errand: &Errand<'_>, outcome: &Outcome) -> Option<twinpost_mail2sms::Report> {
        let news = Settle { kind: Kind::Mail, trace: &errand.trace, number: &errand.number, outcome, now_s: now_s() };
        match self.gateway.settle(news).await {
            Ok(report) => Some(report),
            Err(error) => {
                tracing::error!(trace = errand.trace, to = %errand.number, %error, "the outcome of a text could not be written into the ledger");
                Some(twinpost_mail2sms::Report::of(outcome, &errand.number))
            }
        }
    }

    /// The network's name, for Remote-MTA.
    fn network(&self) -> Option<String> {
        self.operator.lock().clone()
    }
}

impl Errand<'_> {
    fn zh(&self) -> bool {
        self.language == Language::ZhCn
    }
    fn too_late_for_report(&self) -> bool {
        let now = now_s();
        now >= self.entry.expires_s || now >= self.entry.created_s + REPORT_MAX_S
    }
}
