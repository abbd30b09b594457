//! AUTH (RFC 4954): when it may be asked, and the words for how it ended.

use super::{Event, Next, Session};
use crate::reply::put;
use crate::{AuthOffer, Refusal};
use twinpost_sasl::{Denied, Failure, Outcome};

/// After so many failed sign-ins a session ends: guessing needs connections, and those are counted by address.
const FAILURES_MAX: u32 = 5;

impl<R> Session<R> {
    /// AUTH is part of this session as it stands.
    pub(super) fn auth_open(&self) -> bool {
        match self.settings.auth {
            AuthOffer::Never => false,
            AuthOffer::UnderTls => self.client.tls.is_some(),
            AuthOffer::Always => true,
        }
    }

    pub(super) fn auth(&mut self, mechanism: &str, initial: Option<&str>, out: &mut Vec<u8>) -> Next {
        let refusal = if self.settings.auth == AuthOffer::Never {
            Refusal::new(502, (5, 1), "AUTH is not offered here; sign in on the submission port")
        } else if self.client.helo.is_empty() || !self.client.extended {
            Refusal::new(503, (5, 1), "greet with EHLO first")
        } else if !self.auth_open() {
            Refusal::new(538, (7, 11), "encryption required: STARTTLS first") // RFC 4954 6
        } else if self.client.identity.is_some() {
            Refusal::new(503, (5, 1), "signed in already") // RFC 4954 4
        } else if self.transaction.is_some() {
            Refusal::new(503, (5, 1), "not inside a mail transaction") // RFC 4954 4
        } else {
            return Next::Auth { mechanism: mechanism.to_owned(), initial: initial.map(|i| i.as_bytes().to_vec()) };
        };
        self.bad(&refusal, out)
    }

    /// How the sign-in ended.
    pub fn signed_in(&mut self, outcome: Outcome, out: &mut Vec<u8>) -> Next {
        let failed = |text: &'static str| Refusal::new(535, (7, 8), text); // RFC 4954 6
        let refusal = match outcome {
            Outcome::Accepted(identity) => {
                self.events.push(Event::SignedIn { address: identity.address.clone() });
                self.client.identity = Some(identity);
                return self.say(235, (7, 0), "signed in", out);
            }
            Outcome::Cancelled => return self.bad(&Refusal::new(501, (0, 0), "sign-in cancelled"), out),
            Outcome::Encoding => return self.bad(&Refusal::new(501, (5, 2), "not base64"), out),
            Outcome::Mechanism => return self.bad(&Refusal::new(504, (5, 4), "mechanism not offered"), out),
            Outcome::Privacy => return self.bad(&Refusal::new(538, (7, 11), "encryption required for this mechanism"), out),
            Outcome::Broken(Failure::Syntax { .. } | Failure::Over) => {
                return self.bad(&Refusal::new(501, (5, 2), "not a message of this mechanism"), out);
            }
            Outcome::Broken(_) => failed("authentication failed"),
            // RFC 4954 6: 454 is for the moment. Nobody is locked out for good, so the administrator is not either.
            Outcome::Denied { reason: Denied::Unavailable, .. } => {
                return self.say(454, (7, 0), "cannot check passwords now, try again later", out);
            }
            Outcome::Denied { reason: Denied::TooMany { retry_after }, .. } => {
                let text = format!("too many failed sign-ins, try again in {} s", retry_after.as_secs().max(1));
                Refusal::new(454, (7, 0), text)
            }
            Outcome::Denied { reason: Denied::Suspended, .. } => Refusal::new(525, (7, 13), "account is disabled"), // RFC 5248
            Outcome::Denied { reason: Denied::Service, .. } => failed("this account may not send mail"),
            Outcome::Denied { reason: Denied::ActAs, .. } => failed("this account may not act as another"),
            Outcome::Denied { reason: Denied::Credentials, .. } => failed("wrong name or password"),
        };
        self.counts.failed_sign_ins += 1;
        if self.counts.failed_sign_ins >= FAILURES_MAX {
            put(out, 421, (7, 0), "too many failed sign-ins", false);
            return Next::Close;
        }
        self.refuse(&refusal, out);
        Next::Line
    }
}
