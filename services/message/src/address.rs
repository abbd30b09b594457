//! An address as SMTP uses it: `local@domain`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An envelope address. The local part is kept as the sender wrote it (unquoted); the domain is lower case and in
/// Unicode form (U-labels, RFC 5890), or an address literal in brackets. The null sender is not an `Address`:
/// it is `Option::None` where a sender is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Address {
    local: String,
    domain: String,
}

/// Why a text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `@`, or nothing on one of its sides.
    #[error("an address is written name@domain")]
    Shape,
    /// RFC 5321 4.5.3.1.1: at most 64 octets.
    #[error("the part before @ is longer than 64 bytes")]
    LocalLength,
    /// RFC 5321 4.5.3.1.2: at most 255 octets.
    #[error("the domain is longer than 255 bytes")]
    DomainLength,
    /// A character that is not allowed, or a quoted string that does not end.
    #[error("the part before @ holds a character that is not allowed there")]
    LocalCharacter,
    /// Not a host name, not an internationalised one (RFC 5891), not an address literal (RFC 5321 4.1.3).
    #[error("the domain is not a valid domain name")]
    Domain,
}

impl Address {
    /// Parses `local@domain` or `"quoted local"@domain` (RFC 5321 4.1.2, RFC 6531 3.3).
    ///
    /// # Errors
    /// [`AddressError`] names the part at fault.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let at = text.rfind('@').ok_or(AddressError::Shape)?;
        let (local, domain) = (&text[..at], &text[at + 1..]);
        if local.is_empty() || domain.is_empty() {
            return Err(AddressError::Shape);
        }
        Self::new(&unquote_local(local)?, domain)
    }

    /// Builds an address from an unquoted local part and a domain in any form.
    ///
    /// # Errors
    /// [`AddressError`] names the part at fault.
    pub fn new(local: &str, domain: &str) -> Result<Self, AddressError> {
        if local.is_empty() {
            return Err(AddressError::Shape);
        }
        if local.len() > 64 {
            return Err(AddressError::LocalLength);
        }
        if local.chars().any(char::is_control) {
            return Err(AddressError::LocalCharacter);
        }
        Ok(Self { local: local.to_owned(), domain: normal_domain(domain)? })
    }

    /// The local part, unquoted.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.local
    }
    /// The domain: lower case, U-labels, or a bracketed literal.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }
    /// The domain is an address literal, `[192.0.2.1]` (RFC 5321 4.1.3).
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.domain.starts_with('[')
    }
    /// Only a server with SMTPUTF8 can take it (RFC 6531): the local part is not ASCII. A domain alone can be sent as
    /// A-labels.
    #[must_use]
    pub fn needs_smtputf8(&self) -> bool {
        !self.local.is_ascii()
    }
    /// The address with its domain in A-labels, as a server without SMTPUTF8 must see it.
    #[must_use]
    pub fn to_ascii_domain(&self) -> String {
        let domain = if self.is_literal() {
            self.domain.clone()
        } else {
            idna::domain_to_ascii(&self.domain).unwrap_or_else(|_| self.domain.clone())
        };
        format!("{}@{domain}", Quoted(&self.local))
    }
}

/// A domain name in its one form: lower case, Unicode, no final dot; a literal keeps its brackets.
pub(crate) fn normal_domain(domain: &str) -> Result<String, AddressError> {
    if domain.len() > 255 {
        return Err(AddressError::DomainLength);
    }
    if let Some(inner) = domain.strip_prefix('[').and_then(|d| d.strip_suffix(']')) {
        let ip = match inner.get(..5) {
            Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => {
                inner[5..].parse::<std::net::Ipv6Addr>().map(|ip| format!("[IPv6:{ip}]")).ok()
            }
            _ => inner.parse::<std::net::Ipv4Addr>().map(|ip| format!("[{ip}]")).ok(),
        };
        return ip.ok_or(AddressError::Domain);
    }
    let name = domain.strip_suffix('.').unwrap_or(domain);
    let ascii = idna::domain_to_ascii_strict(name).map_err(|_| AddressError::Domain)?;
    let labels_fit = ascii.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    });
    if !labels_fit || ascii.len() > 253 {
        return Err(AddressError::Domain);
    }
    let (unicode, outcome) = idna::domain_to_unicode(&ascii);
    outcome.map_err(|_| AddressError::Domain)?;
    Ok(unicode)
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_control())
}

fn is_dot_atom(local: &str) -> bool {
    local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

fn unquote_local(local: &str) -> Result<String, AddressError> {
    let Some(inner) = local.strip_prefix('"') else {
        return if is_dot_atom(local) { Ok(local.to_owned()) } else { Err(AddressError::LocalCharacter) };
    };
    let inner = inner.strip_suffix('"').ok_or(AddressError::LocalCharacter)?;
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(chars.next().ok_or(AddressError::LocalCharacter)?),
            '"' => return Err(AddressError::LocalCharacter),
            c => plain.push(c),
        }
    }
    Ok(plain)
}

/// A local part as it must be written: quoted when it is not a dot-atom.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_atom(self.0) {
            return f.write_str(self.0);
        }
        f.write_str("\"")?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        f.write_str("\"")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", Quoted(&self.local), self.domain)
    }
}
impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}
impl TryFrom<String> for Address {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        Self::parse(&text)
    }
}
impl std::str::FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_each_address() {
        for (given, shown) in [
            ("Anna@School.Example", "Anna@school.example"),
            ("anna@school.example.", "anna@school.example"),
            ("\"a b\"@x.example", "\"a b\"@x.example"),
            ("\"plain\"@x.example", "plain@x.example"),
            ("a@[192.0.2.1]", "a@[192.0.2.1]"),
            ("a@[ipv6:2001:DB8::1]", "a@[IPv6:2001:db8::1]"),
            ("张三@xn--fiqs8s.example", "张三@中国.example"),
        ] {
            assert_eq!(Address::parse(given).map(|a| a.to_string()).as_deref(), Ok(shown), "{given}");
        }
        assert_eq!(Address::parse("a@中国.example").map(|a| a.to_ascii_domain()).as_deref(), Ok("a@xn--fiqs8s.example"));
    }

    #[test]
    fn what_is_no_address_is_named() {
        use AddressError::{Domain, LocalCharacter, LocalLength, Shape};
        for (text, fault) in [
            ("anna", Shape),
            ("@x.example", Shape),
            ("a@", Shape),
            ("a..b@x.example", LocalCharacter),
            ("a b@x.example", LocalCharacter),
            ("\"a@x.example", LocalCharacter),
            ("a@x..example", Domain),
            ("a@-x.example", Domain),
            ("a@[300.1.1.1]", Domain),
            ("a\r\n@x.example", LocalCharacter),
        ] {
            assert_eq!(Address::parse(text), Err(fault), "{text:?}");
        }
        assert_eq!(Address::parse(&format!("{}@x.example", "a".repeat(65))), Err(LocalLength));
    }

    proptest::proptest! {
        #[test]
        fn any_text_parses_or_is_refused_and_shown_form_is_stable(text in "\\PC{0,40}@\\PC{0,40}") {
            if let Ok(address) = Address::parse(&text) {
                proptest::prop_assert_eq!(Address::parse(&address.to_string()), Ok(address));
            }
        }
    }
}
