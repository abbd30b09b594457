//! MAIL and RCPT, and the end of a transaction.

use super::intake::Intake;
use super::{Event, Next, Session};
use crate::reply::put;
use crate::{Envelope, Mail, MailAccepted, MailParams, Rcpt, RcptParams, Refusal};
use std::fmt::Write as _;
use twinpost_message::{Address, AddressError, TraceId};

/// From MAIL to its end.
pub(super) struct Transaction<R> {
    pub envelope: Envelope,
    /// The backend's tokens, in the order of `envelope.recipients`.
    pub tokens: Vec<R>,
    pub size_max_bytes: u64,
    /// The recipient that the backend is asked about.
    pub candidate: Option<Rcpt>,
    /// The first refusal and whom it concerned, and how many.
    pub refused: Option<(String, Refusal)>,
    pub refused_count: u32,
    pub intake: Option<Intake>,
    /// A chunk was refused: the rest of the message is, too (RFC 3030 2).
    pub chunk_failed: bool,
}

impl<R> Transaction<R> {
    pub fn note(&mut self, whom: impl FnOnce() -> String, refusal: &Refusal) {
        self.refused_count += 1;
        if self.refused.is_none() {
            self.refused = Some((whom(), refusal.clone()));
        }
    }
}

impl<R> Session<R> {
    pub(super) fn mail(&mut self, path: &str, params: &str, out: &mut Vec<u8>) -> Next {
        self.mail_refused = false;
        let s = &self.settings;
        // RFC 5321 4.1.4: the order of commands.
        let refusal = if self.client.helo.is_empty() {
            Refusal::new(503, (5, 1), "greet first")
        } else if s.tls_required && self.client.tls.is_none() {
            Refusal::new(530, (7, 0), "must issue a STARTTLS command first") // RFC 3207 4
        } else if s.auth_required && self.client.identity.is_none() {
            Refusal::new(530, (7, 0), "authentication required") // RFC 4954 6
        } else if self.transaction.is_some() {
            Refusal::new(503, (5, 1), "a transaction is open already; RSET ends it")
        } else if self.counts.transactions >= s.messages_max {
            self.end_transaction();
            put(out, 421, (7, 0), "enough messages in this session; connect again", false); // RFC 9422 4
            return Next::Close;
        } else {
            let mail = match parse_mail(path, params) {
                Ok(mail) => mail,
                Err(refusal) => return self.bad(&refusal, out),
            };
            let size_max_bytes = s.size_max_bytes;
            let envelope = Envelope { trace: TraceId(0), received_s: 0, mail, recipients: Vec::new() };
            let too_large = envelope.mail.params.size_bytes.is_some_and(|size| size > size_max_bytes);
            self.counts.transactions += 1;
            self.transaction = Some(Box::new(Transaction {
                envelope,
                tokens: Vec::new(),
                size_max_bytes,
                candidate: None,
                refused: None,
                refused_count: 0,
                intake: None,
                chunk_failed: false,
            }));
            // RFC 1870 6.1
            return if too_large { self.mail_answer(Err(Refusal::too_large()), out) } else { Next::Mail };
        };
        self.bad(&refusal, out)
    }

    /// The backend's answer about the sender.
    pub fn mail_answer(&mut self, answer: Result<MailAccepted, Refusal>, out: &mut Vec<u8>) -> Next {
        let Some(transaction) = &mut self.transaction else { return Next::Line };
        let answer = answer.and_then(|accepted| {
            let limit = accepted.size_max_bytes.map_or(transaction.size_max_bytes, |l| l.min(transaction.size_max_bytes));
            transaction.size_max_bytes = limit;
            let fits = transaction.envelope.mail.params.size_bytes.is_none_or(|size| size <= limit);
            if fits { Ok(()) } else { Err(Refusal::too_large()) }
        });
        match answer {
            Ok(()) => self.say(250, (1, 0), "sender ok", out),
            Err(refusal) => {
                transaction.note(String::new, &refusal);
                self.refuse(&refusal, out);
                self.end_transaction();
                self.mail_refused = true;
                Next::Line
            }
        }
    }

    pub(super) fn rcpt(&mut self, path: &str, params: &str, out: &mut Vec<u8>) -> Next {
        let Some(transaction) = self.transaction.as_deref_mut() else {
            return self.out_of_order(&Refusal::new(503, (5, 1), "MAIL first"), out);
        };
        if transaction.intake.is_some() || transaction.chunk_failed {
            return self.bad(&Refusal::new(503, (5, 1), "the message has begun"), out);
        }
        let smtputf8 = transaction.envelope.mail.params.smtputf8;
        // RFC 5321 4.5.1: Postmaster without a domain is always a recipient.
        let address = if path.eq_ignore_ascii_case("postmaster") {
            Address::new("postmaster", &self.settings.postmaster_domain).map_err(|_| Refusal::trouble())
        } else {
            parse_address(path, smtputf8, (1, 3))
        };
        let parsed = address.and_then(|address| Ok(Rcpt { address, params: RcptParams::parse(params, smtputf8)? }));
        let rcpt = match parsed {
            Ok(rcpt) => rcpt,
            Err(refusal) => return self.bad(&refusal, out),
        };
        if transaction.envelope.recipients.len() >= self.settings.recipients_max {
            // RFC 5321 4.5.3.1.10. Not counted as harvesting: the client is told to go on with another transaction.
            let refusal = Refusal::too_many_recipients();
            transaction.note(|| rcpt.address.to_string(), &refusal);
            self.refuse(&refusal, out);
            return Next::Line;
        }
        transaction.candidate = Some(rcpt);
        Next::Recipient
    }

    /// The recipient that the backend is asked about.
    #[must_use]
    pub fn candidate(&self) -> Option<&Rcpt> {
        self.transaction.as_deref()?.candidate.as_ref()
    }
    /// The tokens of the recipients accepted so far.
    #[must_use]
    pub fn tokens(&self) -> &[R] {
        self.transaction.as_deref().map_or(&[], |t| &t.tokens)
    }

    /// The backend's answer about the recipient.
    pub fn recipient_answer(&mut self, answer: Result<R, Refusal>, out: &mut Vec<u8>) -> Next {
        let Some(transaction) = self.transaction.as_deref_mut() else { return Next::Line };
        let Some(rcpt) = transaction.candidate.take() else { return Next::Line };
        match answer {
            Ok(token) => {
                transaction.envelope.recipients.push(rcpt);
                transaction.tokens.push(token);
                self.say(250, (1, 5), "recipient ok", out)
            }
            Err(refusal) => {
                transaction.note(|| rcpt.address.to_string(), &refusal);
                self.counts.refused_recipients = self.counts.refused_recipients.saturating_add(1);
                if self.counts.refused_recipients >= self.settings.refused_recipients_max {
                    self.end_transaction();
                    put(out, 421, (7, 0), "too many refused recipients", false);
                    return Next::Close;
                }
                self.refuse(&refusal, out);
                Next::Line
            }
        }
    }

    /// Forgets the transaction. One that took nothing and was refused something is worth a log line.
    pub(super) fn end_transaction(&mut self) {
        self.chunk = None;
        let Some(transaction) = self.transaction.take() else { return };
        if let Some((whom, reply)) = transaction.refused {
            let envelope = &transaction.envelope;
            let to = if whom.is_empty() { shown_recipients(envelope) } else { whom };
            let from = shown_sender(envelope);
            self.events.push(Event::Refused { trace: envelope.trace, from, to, reply, count: transaction.refused_count });
        }
    }
}

pub(super) fn shown_sender(envelope: &Envelope) -> String {
    envelope.mail.sender.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// The first three recipients and how many more.
pub(super) fn shown_recipients(envelope: &Envelope) -> String {
    let mut text = String::new();
    for (i, rcpt) in envelope.recipients.iter().take(3).enumerate() {
        // Writing to a String does not fail.
        let _ = write!(text, "{}{}", if i > 0 { ", " } else { "" }, rcpt.address);
    }
    if envelope.recipients.len() > 3 {
        let _ = write!(text, " and {} more", envelope.recipients.len() - 3);
    }
    text
}

fn parse_mail(path: &str, params: &str) -> Result<Mail, Refusal> {
    let params = MailParams::parse(params)?;
    let sender = if path.is_empty() { None } else { Some(parse_address(path, params.smtputf8, (1, 7))?) };
    Ok(Mail { sender, params })
}

fn parse_address(path: &str, smtputf8: bool, detail: (u16, u16)) -> Result<Address, Refusal> {
    // RFC 6531 3.5: non-ASCII addresses only with SMTPUTF8.
    if !smtputf8 && !path.is_ascii() {
        return Err(Refusal::new(553, (6, 7), "an address with non-ASCII letters needs SMTPUTF8"));
    }
    Address::parse(path).map_err(|fault| {
        let text = match fault {
            AddressError::Shape => "an address is written name@domain",
            AddressError::LocalLength => "the part before @ is longer than 64 bytes",
            AddressError::DomainLength => "the domain is longer than 255 bytes",
            AddressError::LocalCharacter => "the part before @ holds a character that is not allowed there",
            AddressError::Domain => "the domain is not a valid domain name",
        };
        Refusal::new(501, detail, text)
    })
}
