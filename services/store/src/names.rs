//! Names of mailboxes: one form for each, and which are allowed.

use crate::Error;
use crate::types::{INBOX, SEPARATOR};

/// Bytes of a name.
pub const NAME_BYTES_MAX: usize = 1000;
/// Levels of a name.
pub const LEVELS_MAX: usize = 32;

/// The one form of a name: INBOX as first level in capitals (RFC 9051 5.1), no separator at the end.
pub(crate) fn normal(name: &str) -> String {
    let name = name.strip_suffix(SEPARATOR).unwrap_or(name);
    match name.split_once(SEPARATOR) {
        None if name.eq_ignore_ascii_case(INBOX) => INBOX.to_owned(),
        Some((first, rest)) if first.eq_ignore_ascii_case(INBOX) => format!("{INBOX}{SEPARATOR}{rest}"),
        _ => name.to_owned(),
    }
}

/// The normal form, if a mailbox may have it.
pub(crate) fn check(name: &str) -> Result<String, Error> {
    let normal = normal(name);
    let refuse = |why| Err(Error::Name { name: name.chars().take(80).collect(), why });
    if normal.is_empty() {
        return refuse("it is empty");
    }
    if normal.len() > NAME_BYTES_MAX {
        return refuse("it is longer than 1,000 bytes");
    }
    if normal.chars().any(char::is_control) {
        return refuse("it holds a control character");
    }
    if normal.split(SEPARATOR).any(str::is_empty) {
        return refuse("one of its levels is empty");
    }
    if normal.split(SEPARATOR).count() > LEVELS_MAX {
        return refuse("it has more than 32 levels");
    }
    Ok(normal)
}

/// The names above this one, outermost first.
pub(crate) fn above(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices(SEPARATOR).map(|(at, _)| &name[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        for (given, normal_form) in
            [("inbox", "INBOX"), ("InBox/a", "INBOX/a"), ("a/", "a"), ("Inboxes", "Inboxes"), ("甲/乙", "甲/乙")]
        {
            assert_eq!(check(given).ok().as_deref(), Some(normal_form));
        }
        for bad in ["", "/", "a//b", "/a", "a\nb", "a\0"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        assert!(check(&"a".repeat(1001)).is_err());
        assert!(check(&vec!["a"; 33].join("/")).is_err());
        assert_eq!(above("a/b/c").collect::<Vec<_>>(), ["a", "a/b"]);
    }
}
