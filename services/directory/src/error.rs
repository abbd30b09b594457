//! What can be wrong with a wish, said so that a school's technician can act on it: what happened, what it means, what to do.

use twinpost_message::AddressError;

/// Why a change or question was refused. Whenever a change returns an error, nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an address.
    #[error("{given:?} is not a mail address: {source}")]
    Address {
        /// What was written.
        given: String,
        /// Why not.
        source: AddressError,
    },
    /// Not a domain name.
    #[error("{0:?} is not a domain name: write it like school.example")]
    DomainName(String),
    /// A domain that is not here.
    #[error("the domain {0} is not served here: add it first, or check the spelling")]
    NoDomain(String),
    /// An account that is not here.
    #[error("there is no account {0}: list the accounts of its domain to find the right name")]
    NoAccount(String),
    /// An alias that is not here.
    #[error("there is no alias {0}")]
    NoAlias(String),
    /// A group that is not here.
    #[error("there is no group {0}")]
    NoGroup(String),
    /// An app password that is not here.
    #[error("{address} has no app password called {name:?}")]
    NoAppPassword {
        /// The account.
        address: String,
        /// The name.
        name: String,
    },
    /// The name is in use.
    #[error("{name} is already in use: it is {what}")]
    Taken {
        /// The name.
        name: String,
        /// As what.
        what: String,
    },
    /// The address is a deleted account's, which can still come back.
    #[error(
        "{address} was deleted and can be restored for another {days} days: restore it, or purge it before its name is given away"
    )]
    InGrace {
        /// The account.
        address: String,
        /// Days left, rounded up.
        days: i64,
    },
    /// The thing is deleted.
    #[error("{0} is deleted: restore it before you change it")]
    Deleted(String),
    /// The thing is not deleted.
    #[error("{0} is not deleted, so there is nothing to restore")]
    NotDeleted(String),
    /// The domain has no room.
    #[error("the domain {domain} may have {max} accounts and has them: delete one or raise max_accounts")]
    DomainFull {
        /// The domain.
        domain: String,
        /// Its limit.
        max: u32,
    },
    /// The addresses lead in a circle.
    #[error("this would send mail round in a circle: {}: take one of these steps out", path.join(" -> "))]
    Loop {
        /// The addresses, first and last the same.
        path: Vec<String>,
    },
    /// An alias without a target.
    #[error("{0} must lead to at least one address")]
    NoTarget(String),
    /// Too many of something.
    #[error("{what} may have at most {max}: {given} were given")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
        /// The number.
        given: usize,
    },
    /// A value outside its range.
    #[error("{what} is not accepted: {why}")]
    Value {
        /// Which value.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The password is too weak.
    #[error("the password is not accepted: {0}")]
    Password(#[from] PasswordFault),
    /// A hash that cannot be used.
    #[error("the password hash is not accepted: {0}")]
    Hash(#[from] HashFault),
    /// The list for import cannot be read at all.
    #[error("the list cannot be read: {0}")]
    List(String),
    /// The database did not do its part.
    #[error("the directory's database did not answer: {0}. Nothing was changed; try again, and look at the disk if it stays so")]
    Database(#[from] twinpost_sql::Error),
    /// The data in the database is not what this program wrote.
    #[error("the directory's database holds something that it should not: {0}. Restore it from a backup")]
    Damaged(String),
    /// A worker ended before its work.
    #[error("the work was cut short because the program is ending")]
    Stopped,
}

impl From<sqlx::Error> for Error {
    fn from(e: sqlx::Error) -> Self {
        Self::Database(e.into())
    }
}

/// Why a password is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordFault {
    /// Too short.
    #[error("it has {chars} characters, {min} are needed")]
    Short {
        /// Its length.
        chars: usize,
        /// The least.
        min: usize,
    },
    /// Too long.
    #[error("it is longer than 512 bytes")]
    Long,
    /// The name of the account.
    #[error("it is the name of the account, which everyone can guess")]
    Name,
    /// One character again and again.
    #[error("it is one character again and again")]
    Repeated,
    /// A control character.
    #[error("it holds a control character, which many programs cannot send")]
    Control,
}

/// Why a hash of another system is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashFault {
    /// Not a form that is known.
    #[error("its form is unknown; accepted are $1$, $5$, $6$, $2a$, $2b$, $2y$, $argon2id$, and {{PLAIN}}")]
    Unknown,
    /// A form that does not protect the password.
    #[error("{0} does not protect a password: give the password itself or let the person choose a new one")]
    Weak(String),
    /// Damaged.
    #[error("it is cut off or damaged")]
    Damaged,
    /// It would keep the processor busy.
    #[error("its cost is so high that each sign-in would stop the machine")]
    Cost,
}

/// Why a sign-in failed.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// Unknown name or wrong password: one answer, in the same time, for both.
    #[error("the name or the password is wrong")]
    Wrong,
    /// Right password, but the account or its domain is suspended or deleted.
    #[error("the account is suspended: ask the administrator")]
    Suspended,
    /// Right password, but not for this service.
    #[error("the account may not use {0}: ask the administrator")]
    NotAllowed(crate::Service),
    /// Too many sign-ins wait.
    #[error("too many sign-ins at once: try again in a moment")]
    Busy,
    /// The directory cannot answer.
    #[error(transparent)]
    Directory(#[from] Error),
}
