//! The gateway as the mail system calls it: the policy with its ledger.
//!
//! Contract: one shared handle; clones share everything. Each decision is one log line (target of this module, field `trace` where there is a
//! mail) and, for people with an account, one audit line. Refusals of strangers are logged only: whoever knocks must not fill the disk.
//! Failure class: a ledger that does not answer refuses new mail for now (451); for texts on their way the caller gets [`Error`] and asks again.

use crate::answer::{self, Incoming, Mail};
use crate::error::Error;
use crate::guesses::Guesses;
use crate::ledger::{AuditLine, AuditQuery, Charge, Ended, Kind, Ledger, QuotaFull, Row, StatisticsQuery, Usage, Wanted};
use crate::notice::{Arrival, Rule};
use crate::number::Number;
use crate::outgoing::Outgoing;
use crate::policy::{Policy, Recipient};
use crate::refusal::{Fault, Refusal};
use crate::report::{Outcome, Report};
use crate::sender::{self, Sender};
use crate::settings::{Language, Settings};
use parking_lot::RwLock;
use std::sync::Arc;
use twinpost_message::Address;
use twinpost_sql::Location;

const DAY_S: i64 = 86_400;

/// The gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    policy: Arc<RwLock<Arc<Policy>>>,
    ledger: Ledger,
    guesses: Guesses,
}

/// A mail at DATA.
#[derive(Clone, Copy, Debug)]
pub struct Intake<'a> {
    /// Who sends it.
    pub sender: &'a Sender,
    /// Names the mail; with a number it names one text.
    pub trace: &'a str,
    /// All numbers that it goes to, from [`Recipient::numbers`].
    pub numbers: &'a [Number],
    /// The whole mail.
    pub mail: &'a [u8],
    /// Seconds since 1970.
    pub now_s: i64,
}

/// News of one text.
#[derive(Clone, Copy, Debug)]
pub struct Settle<'a> {
    /// A mail's text or a notice.
    pub kind: Kind,
    /// As at [`Intake::trace`] or [`Told::trace`].
    pub trace: &'a str,
    /// Where it went.
    pub number: &'a Number,
    /// What became of it.
    pub outcome: &'a Outcome,
    /// Seconds since 1970.
    pub now_s: i64,
}

/// A notice to send: one text to each number, of the class for notices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Trace of the mail that came.
    pub trace: String,
    /// Where to.
    pub to: Vec<Number>,
    /// The text.
    pub text: String,
    /// Short messages for each number.
    pub parts: u8,
}

impl Gateway {
    /// Checks the settings and opens the ledger.
    ///
    /// # Errors
    /// [`Error::Setting`], [`Error::Database`], [`Error::Damaged`].
    pub async fn open(location: &Location, settings: Settings) -> Result<Self, Error> {
        let policy = Policy::new(settings)?;
        let ledger = Ledger::open(location).await?;
        Ok(Self { policy: Arc::new(RwLock::new(Arc::new(policy))), ledger, guesses: Guesses::default() })
    }
    /// Closes the ledger.
    pub async fn close(&self) {
        self.ledger.close().await;
    }
    /// Takes other settings, from the next question on.
    ///
    /// # Errors
    /// [`Error::Setting`]; the old ones stay.
    pub fn replace(&self, settings: Settings) -> Result<(), Error> {
        let policy = Arc::new(Policy::new(settings)?);
        *self.policy.write() = policy;
        Ok(())
    }
    /// The settings in force, and every question that needs no ledger.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.read().clone()
    }
    /// Mail to this domain (lower case, Unicode) becomes SMS.
    #[must_use]
    pub fn is_sms_domain(&self, domain: &str) -> bool {
        self.policy.read().is_sms_domain(domain)
    }

    /// RCPT: may this sender write to this address? `so_far`: the numbers of the recipients accepted before.
    ///
    /// # Errors
    /// The refusal to tell.
    pub async fn recipient(&self, sender: &Sender, to: &Address, so_far: &[Number], now_s: i64) -> Result<Recipient, Refusal> {
        let policy = self.policy();
        if let Some(refusal) = self.guesses.refusal(sender, now_s) {
            return Err(refusal);
        }
        let answer = match self.judge(&policy, sender, to, so_far, now_s).await {
            Ok(recipient) => self.has_room(&policy, sender, now_s).await.map(|()| recipient),
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = &answer {
            if refusal.fault == Fault::Pin {
                self.guesses.count(sender, now_s);
            }
            // What stands behind the last dot may be a PIN, or nearly one.
            let shown = to.local().rsplit_once('.').map_or(to.local(), |(shown, _)| shown);
            self.refused(sender, "", shown, refusal, now_s).await;
        }
        answer
    }

    async fn judge(
        &self,
        policy: &Policy,
        sender: &Sender,
        to: &Address,
        so_far: &[Number],
        now_s: i64,
    ) -> Result<Recipient, Refusal> {
        let refusal = match policy.recipient(sender, to, so_far, |_| false) {
            Err(refusal) if matches!(refusal.fault, Fault::Pin | Fault::NoPin) => refusal,
            answer => return answer,
        };
        // Who was answered by a number may write back without the PIN: the reply address has none.
        let (Some(account), Ok(number)) = (&sender.account, policy.plan().parse(to.local())) else { return Err(refusal) };
        let since_s = now_s - i64::from(policy.settings().reply_days) * DAY_S;
        match self.ledger.has_answered(&number, &sender::key(account), since_s).await {
            Ok(true) => policy.recipient(sender, to, so_far, |n| *n == number),
            Ok(false) => Err(refusal),
            Err(error) => Err(trouble(&error)),
        }
    }

    /// Something is left for today; how much the mail needs is known at DATA.
    async fn has_room(&self, policy: &Policy, sender: &Sender, now_s: i64) -> Result<(), Refusal> {
        let Some(who) = sender.who() else { return Ok(()) };
        let charge = charge(policy, who, now_s);
        if let Some(most) = charge.account_most {
            let usage = self.ledger.usage_of_account(&charge.who, charge.day).await.map_err(|e| trouble(&e))?;
            if usage.reserved + usage.used >= u64::from(most) {
                return Err(over_quota(QuotaFull { of_domain: false, most, left: 0 }, 1));
            }
        }
        if let Some(most) = charge.domain_most {
            let usage = self.ledger.usage_of_domain(&charge.domain, charge.day).await.map_err(|e| trouble(&e))?;
            if usage.reserved + usage.used >= u64::from(most) {
                return Err(over_quota(QuotaFull { of_domain: true, most, left: 0 }, 1));
            }
        }
        Ok(())
    }

    /// DATA: the text that the mail becomes, with its quota taken. Call it when all other checks have passed, and
    /// [`Gateway::release`] when the mail is not stored after all.
    ///
    /// # Errors
    /// The refusal to tell.
    pub async fn accept(&self, intake: Intake<'_>) -> Result<Outgoing, Refusal> {
        let answer = self.try_accept(&intake).await;
        match &answer {
            Ok(mail) => {
                let who = intake.sender.who().map(ToString::to_string).unwrap_or_default();
                tracing::info!(
                    trace = intake.trace,
                    from = who,
                    numbers = intake.numbers.len(),
                    parts = mail.parts,
                    "mail to SMS accepted"
                );
            }
            Err(refusal) => {
                let number = intake.numbers.first().map(Number::as_str).unwrap_or_default();
                self.refused(intake.sender, intake.trace, number, refusal, intake.now_s).await;
            }
        }
        answer
    }

    async fn try_accept(&self, intake: &Intake<'_>) -> Result<Outgoing, Refusal> {
        let policy = self.policy();
        policy.sender(intake.sender)?;
        let mail = policy.outgoing(intake.mail)?;
        let (Some(who), Some(answers_to)) = (intake.sender.who(), intake.sender.answers_to()) else {
            return Err(crate::automatic::null_sender());
        };
        let charge = charge(&policy, who, intake.now_s);
        let wanted = Wanted {
            kind: Kind::Mail,
            charge: &charge,
            trace: intake.trace,
            numbers: intake.numbers,
            answers_to: &answers_to.to_string(),
            mail: &mail,
            now_s: intake.now_s,
        };
        match self.ledger.reserve(&wanted).await {
            Ok(Ok(())) => Ok(mail),
            Ok(Err(full)) => Err(over_quota(full, intake.numbers.len() * usize::from(mail.parts))),
            Err(error) => Err(trouble(&error)),
        }
    }

    /// The mail was not stored after all, or was canceled: gives back what of it has not gone.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn release(&self, trace: &str) -> Result<(), Error> {
        self.ledger.release(trace).await
    }

    /// Writes down what became of a text, once, and says what its sender is told. [`Outcome::Waiting`] changes nothing.
    ///
    /// # Errors
    /// [`Error::Database`]: ask again.
    pub async fn settle(&self, news: Settle<'_>) -> Result<Report, Error> {
        let Settle { kind, trace, number, outcome, now_s } = news;
        let report = Report::of(outcome, number);
        let ended = |well, parts| Ended { kind, trace, number, well, parts, detail: &report.diagnostic, now_s };
        let settled = match outcome {
            Outcome::Waiting(_) => None,
            Outcome::Sent { parts, .. } => self.ledger.settle(&ended(true, *parts)).await?,
            Outcome::Failed { parts, .. } => self.ledger.settle(&ended(false, *parts)).await?,
            Outcome::Delivered => self.ledger.reported(&ended(true, 0)).await?,
            Outcome::NotDelivered(_) => self.ledger.reported(&ended(false, 0)).await?,
        };
        if let Some(who) = settled {
            tracing::info!(trace, from = who, to = %number, outcome = report.reply_text(), "SMS");
        }
        Ok(report)
    }

    /// An SMS came: the mail that it becomes; none: it answers nobody, and strays are dropped here. The same SMS again gives the
    /// same mail with the same Message-ID.
    ///
    /// # Errors
    /// [`Error::Database`]: leave it where it is and ask again.
    pub async fn incoming(&self, sms: &Incoming, now_s: i64) -> Result<Option<Mail>, Error> {
        let policy = self.policy();
        let number = policy.plan().parse(&sms.from).ok();
        let since_s = now_s - i64::from(policy.settings().reply_days) * DAY_S;
        let route = match &number {
            Some(number) => self.ledger.route(number, since_s).await?,
            None => None,
        };
        if let (Some(number), Some(route)) = (&number, &route)
            && let Ok(to) = Address::parse(&route.answers_to)
        {
            self.ledger.answered(route, &answer::name(sms), number, policy.day(now_s), now_s).await?;
            tracing::info!(from = %number, to = %to, sms = sms.id, "an SMS answers a mail");
            return Ok(Some(answer::mail(&policy, sms, Some(number), &to, Some(route))));
        }
        let to = policy.strays_to();
        let shown: String = number.as_ref().map_or_else(|| crate::text::one_line(&sms.from), ToString::to_string);
        let detail = to.map_or_else(|| "dropped".to_owned(), ToString::to_string);
        tracing::info!(from = shown, to = detail, sms = sms.id, "an SMS answers nobody");
        let trace = answer::name(sms);
        let line = AuditLine { at_s: now_s, event: "stray".to_owned(), trace, number: shown, detail, ..AuditLine::default() };
        self.ledger.note_once(line).await?;
        Ok(to.map(|to| answer::mail(&policy, sms, number.as_ref(), to, None)))
    }

    /// A mail came for this account: the notice to send, if its rules want one. Costs a look into memory for accounts without rules.
    ///
    /// # Errors
    /// [`Error::Database`]: then there is no notice; the mail itself must not suffer.
    pub async fn notice(
        &self,
        account: &Address,
        language: Option<Language>,
        mail: &[u8],
        trace: &str,
        now_s: i64,
    ) -> Result<Option<Told>, Error> {
        let who = sender::key(account);
        let rules = self.ledger.rules(&who);
        if rules.is_empty() {
            return Ok(None);
        }
        let policy = self.policy();
        let language = language.unwrap_or(policy.settings().language);
        let Some(notice) = policy.notice(&rules, &Arrival::of(mail), language, now_s) else { return Ok(None) };
        let mut charge = charge(&policy, account, now_s);
        charge.notices_most = Some(u32::from(notice.per_day_max));
        let text = Outgoing {
            text: notice.text,
            parts: notice.parts,
            unicode: false,
            urgent: false,
            receipt_wanted: false,
            subject: String::new(),
            message_id: None,
            references: Vec::new(),
        };
        let wanted =
            Wanted { kind: Kind::Notice, charge: &charge, trace, numbers: &notice.to, answers_to: &who, mail: &text, now_s };
        if let Err(full) = self.ledger.reserve(&wanted).await? {
            tracing::info!(
                trace,
                account = who,
                of_domain = full.of_domain,
                most = full.most,
                "no notice: the quota of today is used up"
            );
            return Ok(None);
        }
        tracing::info!(trace, account = who, numbers = notice.to.len(), "notice of new mail");
        Ok(Some(Told { trace: trace.to_owned(), to: notice.to, text: text.text, parts: text.parts }))
    }

    async fn refused(&self, sender: &Sender, trace: &str, number: &str, refusal: &Refusal, now_s: i64) {
        let who = sender.who().map(sender::key).unwrap_or_default();
        tracing::info!(trace, from = who, to = number, fault = refusal.fault.word(), code = refusal.code, "mail to SMS refused");
        if sender.account.is_none() || refusal.fault == Fault::Trouble {
            return;
        }
        let line = AuditLine {
            at_s: now_s,
            event: "refused".to_owned(),
            who,
            trace: trace.to_owned(),
            number: number.to_owned(),
            detail: refusal.fault.word().to_owned(),
            ..AuditLine::default()
        };
        if let Err(error) = self.ledger.note(line).await {
            tracing::error!(%error, "a refusal could not be written to the audit");
        }
    }

    #[cfg(test)]
    pub(crate) fn ledger_for_tests(&self) -> &Ledger {
        &self.ledger
    }

    // ---- for administrators ----

    /// The notice rules of an account.
    #[must_use]
    pub fn rules(&self, account: &Address) -> Arc<[Rule]> {
        self.ledger.rules(&sender::key(account))
    }
    /// Writes a notice rule; one of the same name is replaced.
    ///
    /// # Errors
    /// [`Error::Rule`] says what is wrong with it; [`Error::Database`].
    pub async fn set_rule(&self, account: &Address, rule: Rule) -> Result<(), Error> {
        let policy = self.policy();
        let rule = policy.rule(rule)?;
        let most = policy.settings().notices.rules_max;
        if self.ledger.set_rule(&sender::key(account), &rule, most).await? {
            Ok(())
        } else {
            Err(Error::Rule(format!("{account} may have {most} rules and has them: remove one first")))
        }
    }
    /// Removes a notice rule; false when there was none of this name.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn remove_rule(&self, account: &Address, name: &str) -> Result<bool, Error> {
        if name.is_empty() {
            return Ok(false);
        }
        Ok(self.ledger.remove_rules(&sender::key(account), Some(name)).await? > 0)
    }
    /// Forgets the rules of an account that is gone.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn forget_account(&self, account: &Address) -> Result<(), Error> {
        self.ledger.remove_rules(&sender::key(account), None).await.map(|_| ())
    }
    /// Reads the rules again that another process may have changed.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn refresh(&self) -> Result<(), Error> {
        self.ledger.refresh().await
    }
    /// What an account or outside sender has used today, and its quota.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn usage(&self, who: &Address, now_s: i64) -> Result<(Usage, Option<u32>), Error> {
        let charge = charge(&self.policy(), who, now_s);
        Ok((self.ledger.usage_of_account(&charge.who, charge.day).await?, charge.account_most))
    }
    /// Numbers by account, domain or day.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn statistics(&self, query: &StatisticsQuery) -> Result<Vec<Row>, Error> {
        self.ledger.statistics(query).await
    }
    /// Audit lines, newest first.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditLine>, Error> {
        self.ledger.audit(query).await
    }
    /// Forgets what is too old; once a day. How many rows went.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn prune(&self, now_s: i64) -> Result<u64, Error> {
        let policy = self.policy();
        let settings = policy.settings();
        let before_s = |days: u16| now_s - i64::from(days) * DAY_S;
        // A text may wait in the queue for days, and be reported days later.
        let texts_s = before_s(settings.reply_days.max(30));
        let day = policy.day(now_s);
        self.ledger.prune(texts_s, before_s(settings.audit_days), day - 30, day - i64::from(settings.statistics_days)).await
    }
}

fn charge(policy: &Policy, who: &Address, now_s: i64) -> Charge {
    let (account_most, domain_most) = policy.quotas_of(who);
    Charge {
        who: sender::key(who),
        domain: who.domain().to_owned(),
        day: policy.day(now_s),
        account_most,
        domain_most,
        notices_most: None,
    }
}

fn trouble(error: &Error) -> Refusal {
    tracing::error!(%error, "the SMS ledger cannot be asked");
    Refusal::trouble()
}

fn over_quota(full: QuotaFull, wanted: usize) -> Refusal {
    let QuotaFull { of_domain, most, left } = full;
    let (whose_en, whose_zh) = if of_domain { ("your organisation", "您所在的单位") } else { ("you", "您") };
    let (en, zh) = if left == 0 {
        (
            format!("{whose_en} may send {most} text messages a day and all of them are used: please try again tomorrow"),
            format!("{whose_zh}每天可发送 {most} 条短信，今天的额度已用完，请明天再试"),
        )
    } else {
        (
            format!(
                "{whose_en} may send {most} text messages a day, {left} are left today and this mail needs {wanted}: please shorten it, write to fewer numbers or try again tomorrow"
            ),
            format!(
                "{whose_zh}每天可发送 {most} 条短信，今天还剩 {left} 条，这封邮件需要 {wanted} 条：请缩短内容、减少号码或明天再试"
            ),
        )
    };
    // For good and not for now: a server would try again tomorrow, and nobody expects the text then. RFC 3463 3.3: X.2.2 over quota.
    Refusal::new(Fault::Quota, 552, (2, 2), en, zh)
}
