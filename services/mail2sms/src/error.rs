//! What can go wrong that is nobody's mail's fault.

/// Why the gateway cannot start, or cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting makes no sense.
    #[error("the SMS gateway's setting {key} = {value:?} is not accepted: {want} is needed")]
    Setting {
        /// Which one.
        key: String,
        /// What it was.
        value: String,
        /// What it should be.
        want: &'static str,
    },
    /// A rule for notices makes no sense.
    #[error("the notice rule is not accepted: {0}")]
    Rule(String),
    /// The ledger's database did not do its part.
    #[error("the SMS ledger's database did not answer: {0}. Nothing was changed; try again, and look at the disk if it stays so")]
    Database(#[from] twinpost_sql::Error),
    /// The ledger holds what this program did not write.
    #[error("the SMS ledger holds something that it should not: {0}. Restore it from a backup")]
    Damaged(String),
}

impl From<sqlx::Error> for Error {
    fn from(e: sqlx::Error) -> Self {
        Self::Database(e.into())
    }
}
