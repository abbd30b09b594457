//! What leaves the machine in a support bundle must hold no secret.
//!
//! Contract: values of keys that name a secret (as the configuration and the logs name them) are replaced; so is whatever looks like one wherever it stands: private keys, password
//! hashes, credentials in addresses and dialogues, long random words. Telephone numbers keep their first three and last two digits, so that one can
//! still be told from another. Better too much than too little: what is lost is context, never the reason why a thing failed. Any bytes are taken.
//!
//! Failure classes: none; what is not text is made text first.

use serde_json::Value;
use toml_edit::{DocumentMut, Item, TableLike};

/// Stands where something was.
const REMOVED: &str = "[removed]";
/// Parts of names that mean a secret.
const SECRET_PARTS: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "psk",
    "credential",
    "authorization",
    "api_key",
    "apikey",
    "private_key",
    "cookie",
];
/// Whole names that mean a secret.
const SECRET_NAMES: [&str; 6] = ["pin", "pins", "puk", "pass", "key", "keys"];
/// Beginnings of password hashes and of tokens.
const HASHES: [&str; 12] =
    ["$argon2", "$2a$", "$2b$", "$2y$", "$1$", "$5$", "$6$", "$y$", "{ssha", "{crypt}", "scram-sha-", "eyj"];
/// Words as long as this that look random are taken for keys.
const RANDOM_MIN: usize = 40;

/// What a name says of its value; none: nothing.
fn verdict(name: &str) -> Option<bool> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    // Paths and limits are no secrets: `password_file`, `min_password`.
    if name.ends_with("_file") || name.starts_with("min_") || name.starts_with("max_") {
        return Some(false);
    }
    let secret = SECRET_NAMES.contains(&name.as_str()) || SECRET_PARTS.iter().any(|part| name.contains(part));
    secret.then_some(true)
}

fn is_secret(name: &str) -> bool {
    verdict(name) == Some(true)
}

/// A value that names a place is no secret: `key = "/state/node/tls.key"`.
fn is_path(value: &str) -> bool {
    value.starts_with('/') || value.ends_with(".pem")
}

/// A TOML document. One that cannot be read is treated as text.
#[must_use]
pub fn document(source: &str) -> String {
    let Ok(mut document) = source.parse::<DocumentMut>() else { return text(source) };
    table(document.as_table_mut(), false);
    text(&document.to_string())
}

fn table(table: &mut dyn TableLike, secret: bool) {
    for (key, item) in table.iter_mut() {
        let secret = verdict(key.get()).unwrap_or(secret);
        walk(item, secret);
    }
}

fn walk(item: &mut Item, secret: bool) {
    if let Some(inner) = item.as_table_like_mut() {
        return table(inner, secret);
    }
    if let Some(tables) = item.as_array_of_tables_mut() {
        return tables.iter_mut().for_each(|inner| table(inner, secret));
    }
    if !secret {
        return;
    }
    match item.as_value_mut() {
        Some(value) if value.is_bool() || value.as_str().is_some_and(|text| text.is_empty() || is_path(text)) => {}
        Some(value) => *value = REMOVED.into(),
        None => {}
    }
}

/// A JSON value.
pub fn json(value: &mut Value) {
    json_in(value, false);
}

fn json_in(value: &mut Value, secret: bool) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map.iter_mut() {
                json_in(inner, verdict(key).unwrap_or(secret));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| json_in(inner, secret)),
        Value::String(held) if secret && !is_path(held) => *held = REMOVED.to_owned(),
        Value::Number(_) if secret => *value = REMOVED.into(),
        Value::String(held) => *held = text(held),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Any text: logs, answers of programs.
#[must_use]
pub fn text(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut in_key = false;
    for piece in source.split_inclusive('\n') {
        let (line, end) = piece.strip_suffix('\n').map_or((piece, ""), |line| (line, "\n"));
        if in_key {
            in_key = !line.contains("-----END");
            continue;
        }
        if let Some(at) = line.find("-----BEGIN").filter(|_| line.contains("PRIVATE")) {
            in_key = !line[at..].contains("-----END");
            out.push_str(&one_line(&line[..at]));
            out.push_str(REMOVED);
            out.push_str(end);
            continue;
        }
        out.push_str(&one_line(line));
        out.push_str(end);
    }
    out
}

fn one_line(line: &str) -> String {
    let line = named_values(line);
    let line = addresses(&line);
    let line = words(&line);
    numbers(&line)
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// `password=x`, `"token": "x"`, `Authorization: Basic x`, `AUTH PLAIN x`.
fn named_values(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(is_name) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        out.push_str(name);
        rest = after;
        if name.eq_ignore_ascii_case("auth") {
            // RFC 4954, RFC 9051: AUTH mechanism initial-response.
            if let Some(answer) = sasl_answer(after) {
                out.push_str(&after[..answer]);
                let gone = after[answer..].find(char::is_whitespace).unwrap_or(after.len() - answer);
                out.push_str(REMOVED);
                rest = &after[answer + gone..];
            }
            continue;
        }
        if !is_secret(name) {
            continue;
        }
        let Some(value) = value_begin(after) else { continue };
        let (between, held) = after.split_at(value);
        out.push_str(between);
        if let Some(more) = held.strip_prefix(REMOVED) {
            out.push_str(REMOVED);
            rest = more;
            continue;
        }
        if held.starts_with(['{', '[']) {
            let (inner, more) = held.split_at(closed(held));
            // A table of a document, whose values were seen to one by one.
            out.push_str(if inner.contains(REMOVED) { inner } else { REMOVED });
            rest = more;
            continue;
        }
        let quote = between.chars().next_back().filter(|c| matches!(c, '"' | '\''));
        let end = match quote {
            Some(quote) => quoted_end(held, quote),
            None if name.to_ascii_lowercase().contains("authorization") || name.to_ascii_lowercase().contains("cookie") => {
                held.len()
            }
            None => held
                .find(|c: char| c.is_whitespace() || matches!(c, ',' | '&' | ';' | '"' | '\'' | ')' | '}' | ']'))
                .unwrap_or(held.len()),
        };
        let bare = &held[..end];
        if bare.is_empty() || is_path(bare) || matches!(bare, "true" | "false" | "null" | REMOVED) {
            out.push_str(bare);
        } else {
            out.push_str(REMOVED);
        }
        rest = &held[end..];
    }
    out.push_str(rest);
    out
}

/// Where the value begins behind a name: `=`, `:` or `": "`, with blanks.
fn value_begin(after: &str) -> Option<usize> {
    let mut seen = false;
    for (at, c) in after.char_indices() {
        match c {
            '=' | ':' if !seen => seen = true,
            '"' | '\'' if seen => return Some(at + 1),
            '\\' | '"' | '\'' | ' ' | '\t' => {}
            _ => return seen.then_some(at),
        }
    }
    None
}

/// Where the bracket that opens here is closed, or the end.
fn closed(held: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in held.char_indices() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + c.len_utf8();
        }
    }
    held.len()
}

fn quoted_end(held: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in held.char_indices() {
        match c {
            '\\' => escaped = !escaped,
            c if c == quote && !escaped => return at,
            _ => escaped = false,
        }
    }
    held.len()
}

fn sasl_answer(after: &str) -> Option<usize> {
    let mut words = after.split(' ').filter(|word| !word.is_empty());
    let mechanism = words.next()?;
    let known = ["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "XOAUTH2", "OAUTHBEARER", "CRAM-MD5"];
    let answer = words.next().filter(|_| known.iter().any(|name| mechanism.eq_ignore_ascii_case(name)))?;
    // Both point into `after`.
    Some(answer.as_ptr() as usize - after.as_ptr() as usize)
}

/// `scheme://user:password@host`
fn addresses(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '?' | '#')).unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rfind('@') {
            None => out.push_str(authority),
            Some(host) => {
                let user = authority[..host].find(':').map_or("", |colon| &authority[..=colon]);
                out.push_str(user);
                out.push_str(REMOVED);
                out.push_str(&authority[host..]);
            }
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// Hashes, tokens and long random words.
fn words(line: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '$' | '{' | '}' | '+' | '/' | '=' | '_' | '.' | '-' | ',');
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(is_word) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let lower = word.to_ascii_lowercase();
        let hash = HASHES.iter().any(|begin| lower.strip_prefix(begin).is_some_and(|more| more.len() >= 8));
        // `hash=$6$...`
        let nested = lower.find('$').filter(|at| HASHES.iter().any(|begin| lower[*at..].starts_with(begin)));
        match nested {
            Some(at) => {
                out.push_str(&word[..at]);
                out.push_str(REMOVED);
            }
            None if hash || looks_random(word) => out.push_str(REMOVED),
            None => out.push_str(word),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Base64 of 30 bytes and more: letters of both cases and digits without a break. Hashes in hexadecimal digits stay: they name things.
fn looks_random(word: &str) -> bool {
    let longest = word.split(['.', '-', ',', '{', '}', '$']).max_by_key(|part| part.len()).unwrap_or_default();
    let has = |what: fn(&u8) -> bool| longest.as_bytes().iter().filter(|b| what(b)).count();
    longest.len() >= RANDOM_MIN
        && !longest.contains('/')
        && has(u8::is_ascii_uppercase) >= 4
        && has(u8::is_ascii_lowercase) >= 4
        && has(u8::is_ascii_digit) >= 2
        || longest.len() >= RANDOM_MIN
            && longest.ends_with('=')
            && longest.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
}

/// Telephone numbers, and the PIN behind one in an address.
fn numbers(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    let mut before = None;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let head = &rest[..at];
        out.push_str(head);
        before = head.chars().next_back().or(before);
        rest = &rest[at..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(end);
        let free = !before.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_'))
            && !after.starts_with(|c: char| c.is_ascii_alphanumeric());
        let plus = before == Some('+') && (8..=15).contains(&digits.len());
        let national =
            digits.strip_prefix("0086").or_else(|| digits.strip_prefix("86").filter(|more| more.len() == 11)).unwrap_or(digits);
        let mobile = national.len() == 11 && national.starts_with('1') && matches!(national.as_bytes()[1], b'3'..=b'9');
        before = digits.chars().next_back();
        if !(free && (plus || mobile)) {
            out.push_str(digits);
            rest = after;
            continue;
        }
        out.push_str(&digits[..3]);
        out.extend(std::iter::repeat_n('*', digits.len() - 5));
        out.push_str(&digits[digits.len() - 2..]);
        rest = after;
        // 13800138000.4711@...
        if let Some(more) = after.strip_prefix('.') {
            let end = more.find(|c: char| !c.is_ascii_digit()).unwrap_or(more.len());
            if end > 0 && more[end..].starts_with('@') {
                out.push('.');
                out.push_str(REMOVED);
                rest = &more[end..];
                before = None;
            }
        }
    }
    out.push_str(rest);
    out
}

/// The journal's export format (<https://systemd.io/JOURNAL_EXPORT_FORMATS>). An entry that was cut off is left out.
#[must_use]
pub fn journal(source: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(source.len());
    let mut entry = Vec::new();
    let mut rest = source;
    while let Some(end) = rest.iter().position(|&b| b == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        if line.is_empty() {
            if !entry.is_empty() {
                out.append(&mut entry);
                out.push(b'\n');
            }
            continue;
        }
        if let Some(at) = line.iter().position(|&b| b == b'=') {
            let (name, value) = (&line[..at], &line[at + 1..]);
            entry.extend_from_slice(name);
            entry.push(b'=');
            entry.extend(field(name, value));
            entry.push(b'\n');
            continue;
        }
        // Name, then a length of 8 bytes, then the value and a line end.
        let Some((length, more)) = rest.split_first_chunk::<8>() else { break };
        let Some(length) = usize::try_from(u64::from_le_bytes(*length)).ok().filter(|&n| n < more.len()) else { break };
        let value = field(line, &more[..length]);
        entry.extend_from_slice(line);
        entry.push(b'\n');
        entry.extend((value.len() as u64).to_le_bytes());
        entry.extend(value);
        entry.push(b'\n');
        rest = &more[length + 1..];
    }
    out
}

fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let name = String::from_utf8_lossy(name);
    if is_secret(&name) {
        return REMOVED.as_bytes().to_vec();
    }
    // The journal's own: identities and times.
    if name.starts_with('_') && name != "_CMDLINE" {
        return value.to_vec();
    }
    text(&String::from_utf8_lossy(value)).into_bytes()
}

/// For fuzzing: any bytes.
pub fn fuzz(data: &[u8]) {
    let source = String::from_utf8_lossy(data);
    let once = text(&source);
    let _ = (document(&source), journal(data), once);
    if let Ok(mut value) = serde_json::from_slice(data) {
        json(&mut value);
    }
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
