//! Address lists of headers (RFC 5322 3.4, obsolete forms of 4.4 too).
//!
//! Contract: any text gives a list; what is not an address is kept as a mailbox without a host, so that a reader still sees it.
//! Names stay as written: encoded words are not decoded here (RFC 9051 7.5.2 wants them raw).

use crate::{Addr, Group, Mailbox, words};

/// Most mailboxes that are read of one list.
const MAILBOXES_MAX: usize = 4096;

/// Reads an unfolded address list.
#[must_use]
pub fn parse_list(text: &str) -> Vec<Addr> {
    let mut list = List::default();
    let mut rest = text;
    while !rest.is_empty() && list.count < MAILBOXES_MAX {
        rest = list.step(rest);
    }
    list.end_entry();
    list.end_group();
    list.out
}

/// What was read of the entry at hand.
#[derive(Default)]
struct Entry {
    /// Words outside of angle brackets, unquoted, single spaces between them.
    plain: String,
    /// Where the last unquoted `@` stands in `plain`.
    at: Option<usize>,
    /// Last comment: the display name of `anna@x (Anna)`.
    comment: Option<String>,
    /// What stood in angle brackets.
    angle: Option<(String, String)>,
}

#[derive(Default)]
struct List {
    out: Vec<Addr>,
    group: Option<Group>,
    entry: Entry,
    count: usize,
}

impl List {
    /// Takes one token and returns what stands behind it.
    fn step<'t>(&mut self, rest: &'t str) -> &'t str {
        let first = rest.chars().next().unwrap_or(' ');
        let behind = &rest[first.len_utf8()..];
        match first {
            ',' => self.end_entry(),
            ';' => {
                self.end_entry();
                self.end_group();
            }
            ':' if self.group.is_none() && self.entry.angle.is_none() && self.entry.at.is_none() => {
                let name = std::mem::take(&mut self.entry).plain;
                self.group = Some(Group { name: name.trim().to_owned(), members: Vec::new() });
            }
            '<' => {
                let (angle, behind) = angle(behind);
                self.entry.angle = Some(angle);
                return behind;
            }
            '(' => {
                let (comment, behind) = comment(behind);
                self.entry.comment = Some(comment);
                return behind;
            }
            '"' => {
                let (text, behind) = quoted(behind);
                self.entry.plain.push_str(&text);
                return behind;
            }
            '@' => {
                self.entry.at = Some(self.entry.plain.len());
                self.entry.plain.push('@');
            }
            c if c.is_whitespace() => {
                if !self.entry.plain.is_empty() && !self.entry.plain.ends_with(' ') {
                    self.entry.plain.push(' ');
                }
            }
            _ => {
                // A whole word at once; an encoded word may hold commas, against RFC 2047 5.
                let len = words::word_len(rest).unwrap_or_else(|| {
                    rest.find(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | ':' | '<' | '(' | '"' | '@'))
                        .unwrap_or(rest.len())
                        .max(first.len_utf8())
                });
                self.entry.plain.push_str(&rest[..len]);
                return &rest[len..];
            }
        }
        behind
    }

    fn end_entry(&mut self) {
        let Entry { plain, at, comment, angle } = std::mem::take(&mut self.entry);
        let mailbox = match angle {
            Some((local, host)) => {
                let name = if plain.trim().is_empty() { comment } else { Some(plain.trim().to_owned()) };
                Mailbox { name, local, host }
            }
            None if plain.trim().is_empty() => return,
            None => {
                let (local, host) = at.map_or((plain.as_str(), ""), |at| (&plain[..at], &plain[at + 1..]));
                Mailbox { name: comment, local: local.trim().to_owned(), host: host.trim().to_owned() }
            }
        };
        self.count += 1;
        match &mut self.group {
            Some(group) => group.members.push(mailbox),
            None => self.out.push(Addr::Mailbox(mailbox)),
        }
    }

    fn end_group(&mut self) {
        if let Some(group) = self.group.take() {
            self.count += 1;
            self.out.push(Addr::Group(group));
        }
    }
}

/// A quoted string behind its opening quote, unquoted, and the rest.
fn quoted(text: &str) -> (String, &str) {
    let mut plain = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (plain, &text[at + 1..]),
            '\\' => plain.extend(chars.next().map(|(_, c)| c)),
            c => plain.push(c),
        }
    }
    (plain, "")
}

/// A comment behind its opening bracket, nested ones kept, and the rest.
fn comment(text: &str) -> (String, &str) {
    let mut plain = String::new();
    let mut depth = 1u32;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            ')' if depth == 1 => return (plain.trim().to_owned(), &text[at + 1..]),
            '\\' => plain.extend(chars.next().map(|(_, c)| c)),
            c => {
                depth = match c {
                    '(' => depth + 1,
                    ')' => depth - 1,
                    _ => depth,
                };
                plain.push(c);
            }
        }
    }
    (plain.trim().to_owned(), "")
}

/// `[route:]local@host>` behind the opening bracket: local part unquoted, host, and the rest.
fn angle(text: &str) -> ((String, String), &str) {
    let mut plain = String::new();
    let mut at = None;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let behind = &rest[c.len_utf8()..];
        rest = behind;
        match c {
            '>' => break,
            '"' => {
                let (text, behind) = quoted(behind);
                plain.push_str(&text);
                rest = behind;
            }
            // The obsolete route `@a,@b:` (RFC 5322 4.4) is not part of the address.
            ':' if plain.starts_with('@') => {
                plain.clear();
                at = None;
            }
            '@' => {
                at = Some(plain.len());
                plain.push('@');
            }
            '(' => rest = comment(behind).1,
            c if c.is_whitespace() => {}
            c => plain.push(c),
        }
    }
    let (local, host) = at.map_or((plain.as_str(), ""), |at| (&plain[..at], &plain[at + 1..]));
    ((local.to_owned(), host.to_owned()), rest)
}

/// Entry point for random input.
pub fn fuzz(data: &[u8]) {
    let _ = parse_list(&String::from_utf8_lossy(data));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: Option<&str>, local: &str, host: &str) -> Mailbox {
        Mailbox { name: name.map(str::to_owned), local: local.into(), host: host.into() }
    }
    fn flat(text: &str) -> Vec<Mailbox> {
        crate::Envelope::mailboxes(&parse_list(text)).cloned().collect()
    }

    #[test]
    fn rfc_5322_appendix_a() {
        assert_eq!(
            flat("\"Joe Q. Public\" <john.q.public@example.com>"),
            [one(Some("Joe Q. Public"), "john.q.public", "example.com")]
        );
        assert_eq!(
            flat("Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>"),
            [one(Some("Mary Smith"), "mary", "x.test"), one(None, "jdoe", "example.org"), one(Some("Who?"), "one", "y.test")]
        );
        assert_eq!(
            flat("<boss@nil.test>, \"Giant; \\\"Big\\\" Box\" <sysservices@example.net>"),
            [one(None, "boss", "nil.test"), one(Some("Giant; \"Big\" Box"), "sysservices", "example.net")]
        );
        let list = parse_list("A Group:Ed Jones <joe@where.test>,joe@where.test,John <jdoe@one.test>;");
        assert!(matches!(&list[..], [Addr::Group(g)] if g.name == "A Group" && g.members.len() == 3), "{list:?}");
        let list = parse_list("Undisclosed recipients:;, a@b");
        assert!(matches!(&list[..], [Addr::Group(g), Addr::Mailbox(_)] if g.members.is_empty()), "{list:?}");
        assert_eq!(
            flat("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>"),
            [one(Some("Pete"), "pete", "silly.test")]
        );
        assert_eq!(flat("Mary Smith <@node.test,@b:mary@example.net>"), [one(Some("Mary Smith"), "mary", "example.net")]);
    }

    #[test]
    fn lists_of_the_field() {
        assert_eq!(flat("anna@x.example (Anna B)"), [one(Some("Anna B"), "anna", "x.example")]);
        assert_eq!(flat("=?utf-8?Q?a,b?= <a@x>, c"), [one(Some("=?utf-8?Q?a,b?="), "a", "x"), one(None, "c", "")]);
        assert_eq!(flat("张三 <zhang@学校.example>"), [one(Some("张三"), "zhang", "学校.example")]);
        assert_eq!(flat("\"a b\"@x.example"), [one(None, "a b", "x.example")]);
        assert_eq!(flat("a@b@c.example"), [one(None, "a@b", "c.example")]);
        assert_eq!(flat("<a@x.example"), [one(None, "a", "x.example")]);
        assert_eq!(flat(",, ,"), []);
    }

    proptest::proptest! {
        #[test]
        fn any_text(text in "([,;:<>()\"@\\\\ ]|=\\?utf-8\\?q\\?|\\?=|\\PC){0,40}") { let _ = parse_list(&text); }
    }
}
