//! Who sends, and patterns of people.

use crate::settings::{Language, Role};
use twinpost_message::Address;

/// The sender of a mail, as the mail system knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// Main address of the account that signed in; none for a sender elsewhere.
    pub account: Option<Address>,
    /// MAIL FROM; none is the null sender.
    pub address: Option<Address>,
    /// Role of the account.
    pub role: Role,
    /// Language of the account; none: not known.
    pub language: Option<Language>,
}

impl Sender {
    /// Who is charged and judged: the account, else the envelope address.
    #[must_use]
    pub fn who(&self) -> Option<&Address> {
        self.account.as_ref().or(self.address.as_ref())
    }
    /// Where answers go: the envelope address (an alias of the account keeps its name), else the account.
    #[must_use]
    pub fn answers_to(&self) -> Option<&Address> {
        self.address.as_ref().or(self.account.as_ref())
    }
}

/// The one form in which a person stands in the ledger: addresses differ in case only by habit.
pub(crate) fn key(address: &Address) -> String {
    address.to_string().to_lowercase()
}

/// One entry of a list of people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    Address(String),
    Domain(String),
    /// A domain and all below it.
    Below(String),
}

impl Pattern {
    /// `anna@school.example`, `school.example` or `@school.example`, `.school.example`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        // A domain's one form (case, A-labels) is what Address makes of it.
        let domain = |name: &str| Some(Address::new("x", name).ok()?.domain().to_owned());
        if let Some(name) = text.strip_prefix('.') {
            return domain(name).map(Self::Below);
        }
        match text.strip_prefix('@').or_else(|| (!text.contains('@')).then_some(text)) {
            Some(name) => domain(name).map(Self::Domain),
            None => Address::parse(text).ok().map(|a| Self::Address(key(&a))),
        }
    }

    pub(crate) fn matches(&self, address: &Address) -> bool {
        match self {
            Self::Address(own) => *own == key(address),
            Self::Domain(own) => own == address.domain(),
            Self::Below(own) => {
                let rest = address.domain().strip_suffix(own.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
        }
    }
}

/// Any of them matches.
pub(crate) fn any(patterns: &[Pattern], address: &Address) -> bool {
    patterns.iter().any(|p| p.matches(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_people() {
        let hit = |pattern: &str, address: &str| {
            Pattern::parse(pattern).expect("a pattern").matches(&Address::parse(address).expect("an address"))
        };
        assert!(hit("Anna@School.example", "anna@school.example"));
        assert!(!hit("anna@school.example", "ben@school.example"));
        assert!(hit("school.example", "ben@SCHOOL.example") && hit("@school.example", "ben@school.example"));
        assert!(!hit("school.example", "ben@sub.school.example") && !hit("school.example", "ben@myschool.example"));
        assert!(hit(".school.example", "ben@sub.school.example") && hit(".school.example", "ben@school.example"));
        assert!(!hit(".school.example", "ben@myschool.example"));
        assert!(hit("xn--fiqs8s.example", "ben@中国.example"));
        assert_eq!((Pattern::parse(""), Pattern::parse("a b"), Pattern::parse("a b@x.example")), (None, None, None));
    }
}
