//! The addresses in From and Sender (RFC 5322 3.4), to be held against the rights of the account that sends.
//!
//! Contract: strict on purpose. What does not parse has no authors (None), and the message is refused: an address that
//! we overlook but a reader's program shows would be a way to send as somebody else.

use twinpost_message::Address;

enum Token {
    /// An atom or a quoted string, unquoted.
    Word(String),
    /// `[...]`
    Literal(String),
    /// One of `<>@,:;`
    Mark(char),
}

/// All addresses of the value of an address field; at least one.
#[must_use]
pub fn parse(value: &[u8]) -> Option<Vec<Address>> {
    let text = String::from_utf8_lossy(value);
    let tokens = tokens(&text)?;
    let mut tokens = tokens.into_iter().peekable();
    let mut authors = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut in_group = false;
    while let Some(token) = tokens.next() {
        match token {
            Token::Word(word) => words.push(word),
            Token::Literal(_) | Token::Mark('>') => return None,
            Token::Mark('@') => {
                // addr-spec without brackets: the one word before is the local part.
                let [local] = words.as_slice() else { return None };
                authors.push(Address::new(local, &domain(&mut tokens)?).ok()?);
                words.clear();
                if !matches!(tokens.peek(), None | Some(Token::Mark(',' | ';'))) {
                    return None;
                }
            }
            Token::Mark('<') => {
                let mut next = tokens.next()?;
                // RFC 5322 4.4: an old route before the address.
                if matches!(next, Token::Mark('@')) {
                    while !matches!(tokens.next()?, Token::Mark(':')) {}
                    next = tokens.next()?;
                }
                let (Token::Word(local), Some(Token::Mark('@'))) = (next, tokens.next()) else { return None };
                authors.push(Address::new(&local, &domain(&mut tokens)?).ok()?);
                if !matches!(tokens.next(), Some(Token::Mark('>')))
                    || !matches!(tokens.peek(), None | Some(Token::Mark(',' | ';')))
                {
                    return None;
                }
                words.clear();
            }
            Token::Mark(':') if !in_group && !words.is_empty() => {
                in_group = true;
                words.clear();
            }
            // A phrase without an address is nobody.
            Token::Mark(',') if words.is_empty() => {}
            Token::Mark(';') if words.is_empty() && in_group => in_group = false,
            Token::Mark(_) => return None,
        }
    }
    (words.is_empty() && !in_group && !authors.is_empty()).then_some(authors)
}

fn domain(tokens: &mut impl Iterator<Item = Token>) -> Option<String> {
    match tokens.next()? {
        Token::Word(name) | Token::Literal(name) => Some(name),
        Token::Mark(_) => None,
    }
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => {}
            '(' => {
                let mut depth = 1;
                while depth > 0 {
                    match chars.next()? {
                        '(' => depth += 1,
                        ')' => depth -= 1,
                        '\\' => drop(chars.next()?),
                        _ => {}
                    }
                }
            }
            '"' => {
                let mut word = String::new();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => word.push(chars.next()?),
                        '\r' | '\n' => {}
                        c => word.push(c),
                    }
                }
                tokens.push(Token::Word(word));
            }
            '[' => {
                let mut literal = String::from('[');
                loop {
                    let c = chars.next()?;
                    literal.push(c);
                    if c == ']' {
                        break;
                    }
                }
                tokens.push(Token::Literal(literal));
            }
            '<' | '>' | '@' | ',' | ':' | ';' => tokens.push(Token::Mark(c)),
            ')' | ']' | '\\' => return None,
            c if c.is_control() => return None,
            c => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| !c.is_whitespace() && !c.is_control() && !"()<>[]:;@\\,\"".contains(*c)) {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Some(tokens)
}

/// Runs the parser on any bytes.
pub fn fuzz(data: &[u8]) {
    let _ = parse(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> Option<String> {
        parse(value.as_bytes()).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn forms_of_an_author() {
        for (value, want) in [
            (" anna@school.example\r\n", "anna@school.example"),
            (" Anna <anna@school.example>", "anna@school.example"),
            (" \"a@b, <c@d>\" <anna@school.example>\r\n", "anna@school.example"),
            (" =?utf-8?B?5byg?= John Q. Public\r\n <anna@school.example> (a comment <x@y>)", "anna@school.example"),
            (" a@x.example, \"B\" <b@x.example>", "a@x.example b@x.example"),
            (" Staff: a@x.example, b@x.example;", "a@x.example b@x.example"),
            (" <@relay.example:a@x.example>", "a@x.example"),
            (" \"odd local\"@x.example", "\"odd local\"@x.example"),
            (" a@[192.0.2.1]", "a@[192.0.2.1]"),
            (" 张三 <张三@x.example>", "张三@x.example"),
        ] {
            assert_eq!(shown(value).as_deref(), Some(want), "{value}");
        }
    }

    #[test]
    fn what_is_doubtful_has_no_author() {
        for value in [
            "",
            " ",
            " Anna",
            " <>",
            " anna@school.example boss@school.example",
            " anna@school.example <boss@school.example>",
            " boss@school.example <anna@school.example>",
            " <anna@school.example> <boss@school.example>",
            " <anna@school.example",
            " \"Anna <anna@school.example>",
            " (Anna anna@school.example",
            " Staff: a@x.example",
            " Staff:;",
            " a@b@c",
            " a\0@x.example",
            " a@x.example\\",
        ] {
            assert_eq!(shown(value), None, "{value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(data in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            fuzz(&data);
        }
        #[test]
        fn near_misses(text in "[a@. <>\"(),:;\\\\\\[\\]\r\n]{0,30}") {
            fuzz(text.as_bytes());
        }
    }
}
