//! Many accounts at once, as CSV: one line, one account.
//!
//! Columns (header row, any order, only `address` is needed; an empty cell leaves a value as it is, or takes the
//! domain's default for a new account):
//!
//! | column | meaning |
//! |---|---|
//! | `address` | the account |
//! | `password` | in plain text; the rules for passwords apply |
//! | `hash` | of another system, instead of `password`; `{PLAIN}...` is taken without the rules |
//! | `display_name`, `role`, `language` | `user`, `domain_admin`, `operator`; `zh-CN`, `en` |
//! | `quota_bytes`, `quota_messages`, `max_message_bytes` | a number, with K, M, G, T; `0` no limit; `default` the domain's |
//! | `services` | `all`, `none`, or names divided by spaces |
//! | `aliases` | addresses that lead here, divided by spaces; they are added, none is taken away |
//! | `groups` | groups to be a member of; memberships are added, none is taken away |
//! | `suspended` | `yes` or `no` |
//!
//! Failure classes: a list that is no such list is an error as a whole; a faulty line is refused with its reason and
//! changes nothing, and with `all_or_nothing` neither does any other line.

mod export;
mod guard;
mod import;
mod list;
#[cfg(test)]
mod tests;

pub use export::Export;
pub use import::{ImportOptions, ImportReport, LineReport, Outcome, Progress};

/// Any bytes through the reader of lists.
pub(crate) fn fuzz(data: &[u8]) {
    if let Ok(list) = list::read(data) {
        assert!(list.lines.len() <= list::LINES_MAX, "the reader keeps its own limit");
    }
}
