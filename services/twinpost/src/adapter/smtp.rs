//! The mail system as the SMTP server sees it.
//!
//! One delivery is one commit: all local mailboxes and the queue entry for everybody else. The stored body begins with
//! Return-Path and serves both; what goes out again begins after that field.

use super::{SignIn, Wishes, now_s, store_limits};
use crate::texts::{Texts, Writer};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use twinpost_directory::{Directory, Originator, Resolution, Target as DirectoryTarget};
use twinpost_mail2sms::Number;
use twinpost_message::{AccountId, Address, TraceId};
use twinpost_queue::dsn::{About, Action, Notice};
use twinpost_smtp::{
    Backend, Body, Client, Envelope, Mail, MailAccepted, Message, Outcome, Rcpt, RcptParams, Refusal, Ret, Role,
};
use twinpost_store::spool::{NewRcpt, NewSpool, Notify};
use twinpost_store::{Delivery, Error, FlagNames, Folder, Outcome as Stored, OverQuotaPolicy, Store, Target};

/// The folder of mail that the filter wants kept apart.
const JUNK: &str = "Junk";

/// The mail system behind SMTP and LMTP.
pub struct SmtpBackend {
    /// Who is here.
    pub directory: Directory,
    /// The directory for AUTH.
    pub sign_in: SignIn,
    /// Where mail goes.
    pub store: Store,
    /// Our name in reports.
    pub host_name: String,
    /// How long mail is tried, and what is said of a full mailbox.
    pub wishes: Arc<Wishes>,
    /// Mail to numbers.
    pub texts: Option<Arc<Texts>>,
}

/// What a recipient address stands for.
pub struct Recipient {
    local: Vec<DirectoryTarget>,
    remote: Vec<Address>,
    /// The telephones among the remote addresses.
    numbers: Vec<Number>,
    /// It stands for telephones and for nobody else: then what they are refused is refused.
    only_numbers: bool,
}

impl Recipient {
    fn mailboxes(local: Vec<DirectoryTarget>, remote: Vec<Address>) -> Self {
        Self { local, remote, numbers: Vec::new(), only_numbers: false }
    }
}

fn trouble(error: &Error, trace: Option<TraceId>) -> Refusal {
    if error.is_disk_full() {
        tracing::error!(trace = ?trace, %error, "no mail can be stored: the disk is full");
        return Refusal::disk_full();
    }
    tracing::error!(trace = ?trace, %error, "mail could not be stored");
    Refusal::trouble()
}

impl SmtpBackend {
    fn originator<'a>(client: &'a Client, mail: &'a Mail) -> Originator<'a> {
        match (&client.identity, client.role) {
            (Some(identity), _) => Originator::Account(identity.account),
            // What comes by LMTP was let in by the server before us.
            (None, Role::Lmtp) => Originator::System,
            (None, _) => Originator::Outside(mail.sender.as_ref()),
        }
    }

    /// A quota or size that this message would break, as far as its size is known.
    async fn refusal_of(&self, target: &DirectoryTarget, size_bytes: u64) -> Result<(), Refusal> {
        if target.limits.max_message_bytes.is_some_and(|most| size_bytes > most) {
            return Err(Refusal::too_large());
        }
        let limits = store_limits(&target.limits);
        match self.store.would_exceed(target.account, target.domain, &limits, size_bytes, 1).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(Refusal::over_quota(self.wishes.over_quota_later())),
            Err(error) => Err(trouble(&error, None)),
        }
    }

    /// A recipient some of whose addresses are elsewhere: those that are telephones are asked for their rights. A group takes
    /// the mail for those who may have it; an address that means telephones only is answered for them.
    async fn elsewhere(
        &self,
        client: &Client,
        mail: &Mail,
        (local, addresses): (Vec<DirectoryTarget>, Vec<Address>),
        so_far: &[Recipient],
    ) -> Result<Recipient, Refusal> {
        let takes = |address: &Address| self.texts.as_ref().is_some_and(|texts| texts.takes(address.domain()));
        let (phones, mut remote): (Vec<Address>, Vec<Address>) = addresses.into_iter().partition(takes);
        let only_numbers = local.is_empty() && remote.is_empty();
        let mut numbers = Vec::new();
        let mut known: Vec<Number> = so_far.iter().flat_map(|r| r.numbers.iter().cloned()).collect();
        for (address, texts) in phones.iter().zip(std::iter::repeat(&self.texts)) {
            let Some(texts) = texts else { break };
            match texts.recipient(&writer(texts, client, mail), address, &known).await {
                Ok(found) => {
                    known.extend(found.numbers.iter().cloned());
                    numbers.extend(found.numbers);
                    remote.extend(found.addresses);
                }
                Err(refusal) if only_numbers => return Err(refusal),
                // The gateway wrote a line about it.
                Err(_) => {}
            }
        }
        Ok(Recipient { local, remote, numbers, only_numbers })
    }

    fn spool(&self, client: &Client, envelope: &Envelope, rcpts: Vec<NewRcpt>) -> NewSpool {
        let params = &envelope.mail.params;
        NewSpool {
            sender: envelope.mail.sender.clone(),
            ret: params
                .ret
                .map(|r| if r == Ret::Full { twinpost_store::spool::Ret::Full } else { twinpost_store::spool::Ret::Headers }),
            envid: params.envid.clone(),
            smtputf8: params.smtputf8,
            eight_bit: params.body != Body::SevenBit,
            require_tls: false,
            held: false,
            account: client.identity.as_ref().map(|i| i.account),
            expires_s: envelope.received_s + i64::try_from(self.wishes.expire().as_secs()).unwrap_or(i64::MAX / 2),
            next_try_s: envelope.received_s,
            rcpts,
        }
    }

    /// Tells the sender of recipients that asked for it (RFC 3461 5.2.2, 5.2.3): delivered, or put to a group.
    async fn report_success(&self, envelope: &Envelope, delivered: Vec<About>, message: &Bytes) {
        let (Some(sender), false) = (&envelope.mail.sender, delivered.is_empty()) else { return };
        let trace = TraceId(rand::random());
        let notice = Notice {
            host_name: &self.host_name,
            sender,
            action: Action::Delivered,
            about: &delivered,
            envid: envelope.mail.params.envid.as_deref(),
            ret: envelope.mail.params.ret.map(|_| twinpost_queue::Ret::Headers),
            arrived_s: envelope.received_s,
            now_s: now_s(),
            original: message,
            about_trace: envelope.trace,
            trace,
        };
        tracing::info!(trace = %trace, about = %envelope.trace, to = %sender, "reported to the sender: delivered");
        let delivery = report_delivery(&self.directory, sender, &notice.build(), trace, self.wishes.expire());
        if let Err(error) = self.store.deliver(delivery).await {
            tracing::error!(trace = %trace, %error, "a report of success could not be stored");
        }
    }
}

/// A report as a delivery: into the sender's mailbox here, or into the queue for elsewhere.
pub fn report_delivery(directory: &Directory, to: &Address, message: &[u8], trace: TraceId, expire: Duration) -> Delivery {
    let now = now_s();
    let mut bytes = b"Return-Path: <>\r\n".to_vec();
    bytes.extend_from_slice(message);
    let (local, remote) = match directory.resolve(to, Originator::System) {
        Resolution::Deliver { local, remote } => (local, remote),
        Resolution::NotOurDomain => (Vec::new(), vec![to.clone()]),
        Resolution::Suspended | Resolution::UnknownUser | Resolution::NotAllowed | Resolution::TooMany => {
            (Vec::new(), Vec::new())
        }
    };
    if local.is_empty() && remote.is_empty() {
        tracing::info!(trace = %trace, to = %to, "the report has nobody to go to and is dropped");
    }
    let rcpts: Vec<NewRcpt> =
        remote.into_iter().map(|address| NewRcpt { address, orcpt: None, notify: Notify(Notify::NEVER) }).collect();
    let spool = (!rcpts.is_empty()).then(|| NewSpool {
        sender: None,
        ret: None,
        envid: None,
        smtputf8: rcpts.iter().any(|r| r.address.needs_smtputf8()),
        eight_bit: !message.is_ascii(),
        require_tls: false,
        held: false,
        account: None,
        expires_s: now + i64::try_from(expire.as_secs()).unwrap_or(i64::MAX / 2),
        next_try_s: now,
        rcpts,
    });
    Delivery {
        body: Store::prepare(&Bytes::from(bytes)),
        trace,
        received_s: now,
        // A report is small and must arrive: no quota keeps it out.
        targets: local.into_iter().map(|t| target(t, false, true)).collect(),
        spool,
        over_quota: OverQuotaPolicy::Refuse,
    }
}

/// Who sends, as the gateway to text messages sees it.
fn writer(texts: &Texts, client: &Client, mail: &Mail) -> Writer {
    texts.writer(client.identity.as_ref(), mail.sender.as_ref(), mail.params.smtputf8)
}

fn target(found: DirectoryTarget, quarantine: bool, unlimited: bool) -> Target {
    let folder = if quarantine { Some(JUNK.to_owned()) } else { found.folder };
    Target {
        account: found.account,
        domain: found.domain,
        folder: folder.map_or(Folder::Inbox, Folder::Named),
        flags: FlagNames::default(),
        limits: if unlimited { twinpost_store::Limits::default() } else { store_limits(&found.limits) },
        // Its own address: what waits in the queue for it must not go to the whole group again.
        recipient: found.address,
    }
}

fn notify(params: &RcptParams) -> Notify {
    let Some(wish) = params.notify else { return Notify(0) };
    let bits = [(wish.success, Notify::SUCCESS), (wish.failure, Notify::FAILURE), (wish.delay, Notify::DELAY)];
    let set = bits.iter().filter(|(on, _)| *on).fold(0, |all, (_, bit)| all | bit);
    Notify(if set == 0 { Notify::NEVER } else { set })
}

fn orcpt(params: &RcptParams) -> Option<String> {
    params.original.as_ref().map(|o| format!("{};{}", o.kind, o.address))
}

impl Backend for SmtpBackend {
    type Accounts = SignIn;
    type Recipient = Recipient;

    fn accounts(&self) -> &SignIn {
        &self.sign_in
    }

    async fn mail_from(&self, client: &Client, mail: &Mail) -> Result<MailAccepted, Refusal> {
        let Some(identity) = &client.identity else { return Ok(MailAccepted::default()) };
        if let Some(sender) = &mail.sender
            && !self.directory.may_send_as(identity.account, sender)
        {
            return Err(Refusal::not_owner());
        }
        let limits = self.directory.limits(identity.account).ok_or_else(Refusal::suspended)?;
        Ok(MailAccepted { size_max_bytes: limits.max_message_bytes })
    }

    async fn recipient(&self, client: &Client, mail: &Mail, rcpt: &Rcpt, so_far: &[Recipient]) -> Result<Recipient, Refusal> {
        // A number is nobody's mailbox: the directory is not asked.
        if self.texts.as_ref().is_some_and(|texts| texts.takes(rcpt.address.domain())) {
            return Box::pin(self.elsewhere(client, mail, (Vec::new(), vec![rcpt.address.clone()]), so_far)).await;
        }
        match self.directory.resolve(&rcpt.address, Self::originator(client, mail)) {
            Resolution::Deliver { local, remote } => {
                let size_bytes = mail.params.size_bytes.unwrap_or(0);
                // A group takes the mail for those who have room; an address that means one mailbox is answered for it.
                if let ([only], true) = (local.as_slice(), remote.is_empty()) {
                    self.refusal_of(only, size_bytes).await?;
                }
                if remote.is_empty() {
                    return Ok(Recipient::mailboxes(local, remote));
                }
                // An alias that leads to a telephone gives nobody a right that the number itself would not.
                Box::pin(self.elsewhere(client, mail, (local, remote), so_far)).await
            }
            Resolution::NotOurDomain if client.identity.is_some() => {
                Ok(Recipient::mailboxes(Vec::new(), vec![rcpt.address.clone()]))
            }
            Resolution::NotOurDomain => Err(Refusal::relay_denied()),
            Resolution::UnknownUser => Err(Refusal::unknown_user()),
            Resolution::Suspended => Err(Refusal::suspended()),
            Resolution::NotAllowed => Err(Refusal::new(550, (7, 2), "this group takes no mail from you")),
            Resolution::TooMany => Err(Refusal::new(550, (5, 3), "this address stands for too many recipients")),
        }
    }

    async fn may_send_as(&self, client: &Client, authors: &[Address]) -> Result<(), Refusal> {
        let Some(identity) = &client.identity else { return Ok(()) };
        let foreign = authors.iter().find(|a| !self.directory.may_send_as(identity.account, a));
        foreign.map_or(Ok(()), |_| Err(Refusal::not_owner()))
    }

    async fn deliver(&self, client: &Client, envelope: &Envelope, mut recipients: Vec<Recipient>, message: Message) -> Outcome {
        let quarantine = message.quarantine;
        let bytes = Bytes::from(message.bytes);
        // Each account gets the message once, however many recipients lead to it; each recipient is answered by its own.
        let mut targets: Vec<Target> = Vec::with_capacity(recipients.len());
        let mut places: HashMap<AccountId, usize> = HashMap::with_capacity(recipients.len());
        let mut of_recipient: Vec<Vec<usize>> = Vec::with_capacity(recipients.len());
        let mut rcpts = Vec::new();
        let numbers: Vec<Number> = recipients.iter().flat_map(|r| r.numbers.iter().cloned()).collect();
        let mut texts = self.texts.as_ref().filter(|_| !numbers.is_empty());
        let mut receipt_wanted = false;
        if let Some(gate) = texts {
            match Box::pin(gate.accept(&writer(gate, client, &envelope.mail), envelope.trace, &numbers, &bytes)).await {
                Ok(wanted) => receipt_wanted = wanted,
                Err(refusal) if recipients.iter().any(|r| r.only_numbers) => return Outcome::All(Err(refusal)),
                // A group whose mail cannot become a text has other members.
                Err(_) => {
                    for recipient in &mut recipients {
                        recipient.remote.retain(|address| !gate.takes(address.domain()));
                    }
                    texts = None;
                }
            }
        }
        for (recipient, rcpt) in recipients.into_iter().zip(&envelope.recipients) {
            let mut mine = Vec::with_capacity(recipient.local.len());
            for found in recipient.local {
                let next = targets.len();
                let place = *places.entry(found.account).or_insert(next);
                if place == next {
                    targets.push(target(found, quarantine, false));
                }
                mine.push(place);
            }
            of_recipient.push(mine);
            // A receipt that the mail itself asks for is what a telephone can give: its network's confirmation.
            let receipt = receipt_wanted && !recipient.numbers.is_empty() && rcpt.params.notify.is_none();
            let notify = if receipt { Notify(Notify::SUCCESS | Notify::FAILURE | Notify::DELAY) } else { notify(&rcpt.params) };
            let rcpt = |address| NewRcpt { address, orcpt: orcpt(&rcpt.params), notify };
            rcpts.extend(recipient.remote.into_iter().map(rcpt));
        }
        let one_answer_for_many = client.role != Role::Lmtp && (targets.len() > 1 || !rcpts.is_empty());
        // A mailbox that filled up since RCPT: where one answer must serve many, its mail waits in the queue and is reported
        // if it never gets in; where each recipient has an answer, it is refused.
        let over_quota = if one_answer_for_many { OverQuotaPolicy::Spool } else { OverQuotaPolicy::Refuse };
        let spool = (one_answer_for_many || !rcpts.is_empty()).then(|| self.spool(client, envelope, rcpts));
        let body = Store::prepare(&bytes);
        let accounts: Vec<AccountId> = targets.iter().map(|t| t.account).collect();
        let delivery = Delivery { body, trace: envelope.trace, received_s: envelope.received_s, targets, spool, over_quota };
        let delivered = match tokio::time::timeout(self.wishes.commit_timeout(), self.store.deliver(delivery)).await {
            Ok(Ok(delivered)) => delivered,
            Ok(Err(error)) => {
                if let Some(texts) = texts {
                    Box::pin(texts.release(envelope.trace)).await;
                }
                return Outcome::All(Err(trouble(&error, Some(envelope.trace))));
            }
            Err(_) => {
                // HA.md "new mail waits for the proof (then 451, never a false 250)". It may still be stored when the disk answers: then the
                // sender's next try makes a second copy, which is better than none (RFC 5321 4.5.3.2.6 has the same case).
                let waited_s = self.wishes.commit_timeout().as_secs();
                tracing::error!(trace = %envelope.trace, waited_s, "the storage does not answer; the sender is asked to try again");
                return Outcome::All(Err(Refusal::trouble()));
            }
        };
        if let Some(texts) = &self.texts {
            let stored = delivered.outcomes.iter().zip(&accounts).filter(|(o, _)| matches!(o, Stored::Stored { .. }));
            texts.arrived(stored.map(|(_, account)| *account).collect(), bytes.clone(), envelope.trace);
        }
        let answer = |mine: &Vec<usize>| {
            let refused = !mine.is_empty() && mine.iter().all(|place| matches!(delivered.outcomes[*place], Stored::OverQuota(_)));
            if refused { Err(Refusal::over_quota(self.wishes.over_quota_later())) } else { Ok(()) }
        };
        let answers: Vec<Result<(), Refusal>> = of_recipient.iter().map(answer).collect();
        let told: Vec<About> = envelope
            .recipients
            .iter()
            .zip(&of_recipient)
            .filter(|(rcpt, mine)| {
                rcpt.params.notify.is_some_and(|n| n.success)
                    && mine.iter().any(|p| matches!(delivered.outcomes[*p], Stored::Stored { .. }))
            })
            .map(|(rcpt, _)| About {
                address: rcpt.address.clone(),
                orcpt: orcpt(&rcpt.params),
                reply: twinpost_queue::Reply { code: 250, text: "2.1.5 delivered".to_owned() },
                host: None,
                courier: None,
                words: None,
                retry_until_s: None,
            })
            .collect();
        if !told.is_empty() {
            Box::pin(self.report_success(envelope, told, &bytes)).await;
        }
        if answers.len() == 1 { Outcome::All(answers.into_iter().next().unwrap_or(Ok(()))) } else { Outcome::Each(answers) }
    }
}
