//! The driver: one sign-in from the command to the decision, for every protocol.
//!
//! Contract: [`authenticate`] asks the guard first, sends challenges through the channel, asks the accounts, tells the
//! guard how it ended. It never answers the client's command itself: the protocol words the [`Outcome`].

use crate::{Bindings, Exchange, Failure, Mechanism, Password, ScramSecret, Step, prepare_stored};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;
use twinpost_message::AccountId;

/// Who signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account.
    pub account: AccountId,
    /// Its main address, as the directory writes it.
    pub address: String,
}

/// Why a sign-in is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Unknown user or wrong password: the client is never told which.
    #[error("wrong name or password")]
    Credentials,
    /// The account (or its domain) is suspended.
    #[error("the account is suspended")]
    Suspended,
    /// The account may not use this service (POP3, IMAP, submission).
    #[error("the account may not use this service")]
    Service,
    /// May not act as the other name that it asked for.
    #[error("may not act as somebody else")]
    ActAs,
    /// The directory cannot answer now.
    #[error("the directory cannot answer now")]
    Unavailable,
    /// Too many failed sign-ins: come back after the given time.
    #[error("too many failed sign-ins, try again in {} s", .retry_after.as_secs())]
    TooMany {
        /// When another attempt has a chance.
        retry_after: Duration,
    },
}

/// The directory as sign-in sees it. Services: `"smtp"`, `"imap"`, `"pop3"`.
pub trait Accounts: Send + Sync {
    /// Checks a password. Must take as long for an unknown user as for a wrong password.
    fn check_password(
        &self,
        user: &str,
        password: &Password,
        service: &str,
        peer: IpAddr,
    ) -> impl Future<Output = Result<Identity, Denied>> + Send;

    /// The SCRAM secret of a user; for an unknown one [`ScramSecret::fake`].
    fn scram_secret(&self, user: &str) -> impl Future<Output = Result<ScramSecret, Denied>> + Send;

    /// The user has proved its password by SCRAM: who is it, and may it use the service?
    fn scram_done(&self, user: &str, service: &str, peer: IpAddr) -> impl Future<Output = Result<Identity, Denied>> + Send;

    /// `identity` asks to act as `authzid` (RFC 4422 3.4.1), which is not its own name. Nobody may, unless the
    /// directory says otherwise.
    fn act_as(&self, identity: &Identity, authzid: &str) -> impl Future<Output = Result<Identity, Denied>> + Send {
        let _ = (identity, authzid);
        std::future::ready(Err(Denied::ActAs))
    }
}

/// Slows down guessing; implemented by the limiter for one peer, and by `()` for none.
pub trait Guard: Send + Sync {
    /// Before the check: how long to wait, or [`Denied::TooMany`].
    ///
    /// # Errors
    /// The refusal to give to the client.
    fn before(&self, user: &str) -> Result<Duration, Denied>;
    /// The password was wrong.
    fn failed(&self, user: &str);
    /// The sign-in succeeded.
    fn passed(&self, user: &str);
    /// The check came to no result (the directory is not there, the account may not use the service): neither a
    /// failure nor a success.
    fn undecided(&self, user: &str) {
        let _ = user;
    }
}

impl Guard for () {
    fn before(&self, _: &str) -> Result<Duration, Denied> {
        Ok(Duration::ZERO)
    }
    fn failed(&self, _: &str) {}
    fn passed(&self, _: &str) {}
}

/// How a protocol sends a challenge and reads the answer line.
pub trait Channel: Send {
    /// The connection's error.
    type Error: Send;
    /// Sends the challenge, given in base64 (SMTP `334 `, IMAP and POP3 `+ ` before it), and reads one line without
    /// its end. Lines longer than 12,288 bytes (RFC 4954 4) are the channel's error.
    fn challenge(&mut self, base64: &str) -> impl Future<Output = Result<Vec<u8>, Self::Error>> + Send;
}

/// What the client asked for.
#[derive(Clone, Debug)]
pub struct Attempt<'a> {
    /// Mechanism name as it came.
    pub mechanism: &'a str,
    /// Initial response in base64 as it came with the command (`=` means an empty one, RFC 4954 4).
    pub initial: Option<&'a [u8]>,
    /// The connection is private (TLS, or plain text allowed by setting): PLAIN and LOGIN may be used.
    pub private: bool,
    /// Channel bindings of the connection.
    pub bindings: Bindings,
    /// `"smtp"`, `"imap"`, `"pop3"`.
    pub service: &'a str,
    /// The client's address.
    pub peer: IpAddr,
}

/// How the attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Signed in.
    Accepted(Identity),
    /// Refused. `user` as the client gave it, where it came so far.
    Denied {
        /// The name that was tried.
        user: Option<String>,
        /// Why.
        reason: Denied,
    },
    /// The client sent `*` (RFC 4422 3.5).
    Cancelled,
    /// Not base64 (RFC 4954 4: 501).
    Encoding,
    /// The mechanism is unknown or not offered here (SMTP 504).
    Mechanism,
    /// The mechanism shows the password and the connection is not private (SMTP 538, IMAP PRIVACYREQUIRED).
    Privacy,
    /// The client's message broke the mechanism's rules or its channel binding.
    Broken(Failure),
}

/// Drives one SASL exchange to its outcome.
///
/// # Errors
/// The channel's error: the connection is gone.
pub async fn authenticate<A: Accounts, G: Guard, C: Channel>(
    accounts: &A,
    guard: &G,
    attempt: Attempt<'_>,
    channel: &mut C,
) -> Result<Outcome, C::Error> {
    let Some(mechanism) = Mechanism::parse(attempt.mechanism) else { return Ok(Outcome::Mechanism) };
    if !Mechanism::offered(attempt.private, &attempt.bindings).any(|m| m == mechanism) {
        let shows_password = matches!(mechanism, Mechanism::Plain | Mechanism::Login);
        return Ok(if shows_password { Outcome::Privacy } else { Outcome::Mechanism });
    }
    let (service, peer) = (attempt.service, attempt.peer);
    let mut exchange = Exchange::start(mechanism, attempt.bindings);
    let mut step = match attempt.initial {
        None => exchange.first(),
        Some(b"=") => exchange.step(b""),
        Some(text) => match BASE64.decode(text) {
            Ok(message) => exchange.step(&message),
            Err(_) => return Ok(Outcome::Encoding),
        },
    };
    let mut user_seen = None;
    loop {
        step = match step {
            Step::Challenge(bytes) => {
                let answer = channel.challenge(&BASE64.encode(bytes)).await?;
                if answer == b"*" {
                    return Ok(Outcome::Cancelled);
                }
                match BASE64.decode(&answer) {
                    Ok(message) => exchange.step(&message),
                    Err(_) => return Ok(Outcome::Encoding),
                }
            }
            Step::NeedSecret { user } => {
                let secret = match wait(guard, &user).await {
                    Ok(()) => accounts.scram_secret(&user).await,
                    Err(denied) => Err(denied),
                };
                match secret {
                    Ok(secret) => {
                        user_seen = Some(user);
                        exchange.secret(secret)
                    }
                    Err(reason) => return Ok(Outcome::Denied { user: Some(user), reason }),
                }
            }
            Step::CheckPassword { authzid, user, password } => {
                let result = check(accounts, guard, &user, &password, service, peer).await;
                return Ok(decide(accounts, result, user, authzid).await);
            }
            Step::Proven { user, authzid, server_final } => {
                let result = accounts.scram_done(&user, service, peer).await;
                if result.is_ok() {
                    guard.passed(&user);
                    // Without additional data of success the server's proof travels as one more challenge, to which
                    // the client answers with nothing (RFC 4422 5).
                    let answer = channel.challenge(&BASE64.encode(server_final)).await?;
                    if answer == b"*" {
                        return Ok(Outcome::Cancelled);
                    }
                    if !answer.is_empty() && answer != b"=" {
                        return Ok(Outcome::Broken(Failure::Over));
                    }
                }
                if result.is_err() {
                    guard.undecided(&user);
                }
                return Ok(decide(accounts, result, user, authzid).await);
            }
            Step::Failed(Failure::Proof) => {
                if let Some(user) = &user_seen {
                    guard.failed(user);
                }
                return Ok(Outcome::Denied { user: user_seen, reason: Denied::Credentials });
            }
            Step::Failed(failure) => return Ok(Outcome::Broken(failure)),
        };
    }
}

/// A sign-in by name and password without SASL: IMAP `LOGIN`, POP3 `USER`/`PASS`. The same guard, the same checks.
pub async fn sign_in<A: Accounts, G: Guard>(
    accounts: &A,
    guard: &G,
    user: &str,
    password: &Password,
    service: &str,
    peer: IpAddr,
) -> Outcome {
    let user = prepare_stored(user).into_owned();
    let password = Password::new(prepare_stored(password.reveal()));
    let result = check(accounts, guard, &user, &password, service, peer).await;
    decide(accounts, result, user, None).await
}

async fn wait<G: Guard>(guard: &G, user: &str) -> Result<(), Denied> {
    let delay = guard.before(user)?;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    Ok(())
}

async fn check<A: Accounts, G: Guard>(
    accounts: &A,
    guard: &G,
    user: &str,
    password: &Password,
    service: &str,
    peer: IpAddr,
) -> Result<Identity, Denied> {
    wait(guard, user).await?;
    let result = accounts.check_password(user, password, service, peer).await;
    match &result {
        Ok(_) => guard.passed(user),
        Err(Denied::Credentials) => guard.failed(user),
        Err(_) => guard.undecided(user),
    }
    result
}

async fn decide<A: Accounts>(accounts: &A, result: Result<Identity, Denied>, user: String, authzid: Option<String>) -> Outcome {
    let result = match (result, authzid) {
        (Ok(identity), Some(other)) if other != user && !other.eq_ignore_ascii_case(&identity.address) => {
            accounts.act_as(&identity, &other).await
        }
        (result, _) => result,
    };
    match result {
        Ok(identity) => Outcome::Accepted(identity),
        Err(reason) => Outcome::Denied { user: Some(user), reason },
    }
}
