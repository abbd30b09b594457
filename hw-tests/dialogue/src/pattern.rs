//! Texts to send and lines to expect, with escapes, captures and wildcards.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use std::collections::BTreeMap;

/// Captured texts by name.
pub(crate) type Variables = BTreeMap<String, Vec<u8>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Bytes(Vec<u8>),
    /// `{name}`
    Variable(String),
    /// `{base64:...}`
    Base64(Vec<Token>),
    /// `*`
    Any,
    /// `<name>`
    Capture(String),
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Parses a text; `expected` turns wildcards and captures on.
pub(crate) fn parse(text: &str, expected: bool) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut bytes = Vec::new();
    let mut rest = text;
    if expected && let Some(after) = rest.strip_prefix("* ") {
        bytes.extend_from_slice(b"* ");
        rest = after;
    }
    let close = |bytes: &mut Vec<u8>, tokens: &mut Vec<Token>| {
        if !bytes.is_empty() {
            tokens.push(Token::Bytes(std::mem::take(bytes)));
        }
    };
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = after;
        match c {
            '\\' => {
                let (byte, used) = match after.as_bytes().first() {
                    Some(b'r') => (b'\r', 1),
                    Some(b'n') => (b'\n', 1),
                    Some(b't') => (b'\t', 1),
                    Some(b @ (b'\\' | b'*' | b'<' | b'{')) => (*b, 1),
                    Some(b'x') => {
                        let hex = after.get(1..3).and_then(|h| u8::from_str_radix(h, 16).ok());
                        (hex.ok_or_else(|| format!("\\x needs two hexadecimal digits: {text}"))?, 3)
                    }
                    _ => (b'\\', 0),
                };
                bytes.push(byte);
                rest = &after[used..];
            }
            '*' if expected => {
                close(&mut bytes, &mut tokens);
                tokens.push(Token::Any);
            }
            '<' if expected => match after.split_once('>') {
                Some((name, after)) if is_name(name) => {
                    close(&mut bytes, &mut tokens);
                    tokens.push(Token::Capture(name.to_owned()));
                    rest = after;
                }
                _ => bytes.push(b'<'),
            },
            '{' => match after.split_once('}') {
                Some((name, after)) if is_name(name) => {
                    close(&mut bytes, &mut tokens);
                    tokens.push(Token::Variable(name.to_owned()));
                    rest = after;
                }
                Some((inner, after)) if inner.starts_with("base64:") => {
                    close(&mut bytes, &mut tokens);
                    tokens.push(Token::Base64(parse(&inner["base64:".len()..], false)?));
                    rest = after;
                }
                _ => bytes.push(b'{'),
            },
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    close(&mut bytes, &mut tokens);
    Ok(tokens)
}

/// The bytes of a text to send.
pub(crate) fn expand(tokens: &[Token], variables: &Variables) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    for token in tokens {
        match token {
            Token::Bytes(bytes) => out.extend_from_slice(bytes),
            Token::Variable(name) => {
                out.extend_from_slice(variables.get(name).ok_or_else(|| format!("{{{name}}} was not captured before"))?);
            }
            Token::Base64(inner) => out.extend_from_slice(BASE64.encode(expand(inner, variables)?).as_bytes()),
            Token::Any | Token::Capture(_) => return Err("a pattern where a text is meant".to_owned()),
        }
    }
    Ok(out)
}

/// Does the line fit? New captures are added to `variables` only when it does.
pub(crate) fn matches(tokens: &[Token], line: &[u8], variables: &mut Variables) -> Result<bool, String> {
    let mut found = Vec::new();
    let fits = fit(tokens, line, variables, &mut found)?;
    if fits {
        variables.extend(found);
    }
    Ok(fits)
}

fn fit(tokens: &[Token], line: &[u8], variables: &Variables, found: &mut Vec<(String, Vec<u8>)>) -> Result<bool, String> {
    let Some((token, rest)) = tokens.split_first() else { return Ok(line.is_empty()) };
    match token {
        Token::Any | Token::Capture(_) => {
            let least = usize::from(*token != Token::Any);
            // The last one takes the rest at once.
            let from = if rest.is_empty() { line.len().max(least) } else { least };
            for len in from..=line.len() {
                let before = found.len();
                if let Token::Capture(name) = token {
                    found.push((name.clone(), line[..len].to_vec()));
                }
                if fit(rest, &line[len..], variables, found)? {
                    return Ok(true);
                }
                found.truncate(before);
            }
            Ok(false)
        }
        fixed => {
            let bytes = match fixed {
                // A name captured in this very line.
                Token::Variable(name) if found.iter().any(|(n, _)| n == name) => {
                    found.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap_or_default()
                }
                fixed => expand(std::slice::from_ref(fixed), variables)?,
            };
            match line.strip_prefix(bytes.as_slice()) {
                Some(line) => fit(rest, line, variables, found),
                None => Ok(false),
            }
        }
    }
}
