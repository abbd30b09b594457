//! The one form of a name: what is compared, stored and shown.
//!
//! Local parts of our own domains are compared without regard to case and in Unicode NFC (RFC 6532 3.1 advises NFC; case
//! is the receiver's own matter, RFC 5321 2.4). Local parts of other domains are kept exactly as written, for the same reason.

use crate::error::Error;
use twinpost_message::{Address, DomainId};
use unicode_normalization::UnicodeNormalization;

/// The local part as our own domains compare it.
pub(crate) fn fold(local: &str) -> String {
    if local.is_ascii() {
        return local.to_ascii_lowercase();
    }
    // Lower-casing can undo NFC (a capital with a combining dot), so it is made again.
    local.nfc().collect::<String>().to_lowercase().nfc().collect()
}

/// Key of a name in the model. A domain's number instead of its name: a renamed domain moves nothing.
pub(crate) fn key(domain: DomainId, folded: &str) -> String {
    use std::fmt::Write as _;
    let mut key = String::with_capacity(folded.len() + 8);
    let _ = write!(key, "{}@", domain.0);
    key.push_str(folded);
    key
}

/// Local part and domain of a stored `local@domain`.
pub(crate) fn halves(text: &str) -> Option<(&str, &str)> {
    text.rsplit_once('@')
}

/// A domain name in its one form; no address literals.
pub(crate) fn domain(name: &str) -> Result<String, Error> {
    let shown = || Error::DomainName(name.chars().take(80).collect());
    let address = Address::new("x", name.trim()).map_err(|_| shown())?;
    // One label is a machine's name, not a mail domain; the final dot was taken off already.
    if address.is_literal() || !address.domain().contains('.') { Err(shown()) } else { Ok(address.domain().to_owned()) }
}

/// An address from text, with the text in the error.
pub(crate) fn address(text: &str) -> Result<Address, Error> {
    Address::parse(text.trim()).map_err(|source| Error::Address { given: text.chars().take(120).collect(), source })
}

/// An address from its unquoted halves.
pub(crate) fn join(local: &str, domain: &str) -> Result<Address, Error> {
    Address::new(local, domain).map_err(|source| Error::Address { given: format!("{local}@{domain}"), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_composition_do_not_matter() {
        assert_eq!(fold("Anna.Berg"), "anna.berg");
        assert_eq!(fold("JOSE\u{301}"), "josé");
        assert_eq!(fold("张三"), "张三");
    }

    #[test]
    fn domains_have_one_form() {
        assert_eq!(domain("School.Example.").ok().as_deref(), Some("school.example"));
        assert_eq!(domain("xn--fiqs8s.example").ok().as_deref(), Some("中国.example"));
        for wrong in ["", "school", "[192.0.2.1]", "a b.example", "-a.example"] {
            assert!(matches!(domain(wrong), Err(Error::DomainName(_))), "{wrong:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn folding_twice_changes_nothing(text in "\\PC{0,20}") {
            proptest::prop_assert_eq!(fold(&fold(&text)), fold(&text));
        }
    }
}
