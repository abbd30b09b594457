//! Command lines (RFC 5321 4.1, RFC 2033, RFC 3030, RFC 3207, RFC 4954).
//!
//! Contract: any line in, one [`Command`] or one [`Refusal`] out; never panics, never allocates for a wrong line. Order
//! of commands, addresses and rights are the session's matter.

use crate::{Refusal, path};

/// A command with its arguments still as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// RFC 5321 4.1.1.1
    Helo(&'a str),
    /// RFC 5321 4.1.1.1
    Ehlo(&'a str),
    /// RFC 2033 4.1
    Lhlo(&'a str),
    /// RFC 5321 4.1.1.2. An empty path is the null sender.
    Mail {
        /// Between the brackets.
        path: &'a str,
        /// After them.
        params: &'a str,
    },
    /// RFC 5321 4.1.1.3
    Rcpt {
        /// Between the brackets.
        path: &'a str,
        /// After them.
        params: &'a str,
    },
    /// RFC 5321 4.1.1.4
    Data,
    /// RFC 3030 2
    Bdat {
        /// Octets that follow the line.
        size_bytes: u64,
        /// The message ends with them.
        last: bool,
    },
    /// RFC 5321 4.1.1.5
    Rset,
    /// RFC 5321 4.1.1.6
    Vrfy,
    /// RFC 5321 4.1.1.7
    Expn,
    /// RFC 5321 4.1.1.8
    Help,
    /// RFC 5321 4.1.1.9
    Noop,
    /// RFC 5321 4.1.1.10
    Quit,
    /// RFC 3207 4
    StartTls,
    /// RFC 4954 4
    Auth {
        /// As written.
        mechanism: &'a str,
        /// Base64, or `=` for an empty one.
        initial: Option<&'a str>,
    },
    /// Not done here, but known: ETRN (RFC 1985), TURN, SEND, SOML, SAML (RFC 5321 F.6).
    NotImplemented,
    /// The first line of another protocol: a browser or a script that was led here.
    OtherProtocol,
}

fn syntax(text: &'static str) -> Refusal {
    Refusal::new(501, (5, 4), text)
}

/// Parses a line without its CRLF.
///
/// # Errors
/// The reply to give: 500 for an unknown command, 501 for wrong arguments.
pub fn parse(line: &[u8]) -> Result<Command<'_>, Refusal> {
    let unknown = || Refusal::new(500, (5, 2), "command not recognized");
    let line = std::str::from_utf8(line).map_err(|_| Refusal::new(500, (5, 2), "command lines are ASCII or UTF-8"))?;
    if line.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
        return Err(Refusal::new(500, (5, 2), "control character in the command line"));
    }
    let line = line.trim_end_matches([' ', '\t']);
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim_start_matches(' ');
    let mut upper = [0u8; 8];
    if verb.len() > upper.len() {
        return Err(if verb.starts_with("Content-") { Refusal::new(500, (5, 2), "this is SMTP") } else { unknown() });
    }
    let upper = &mut upper[..verb.len()];
    upper.copy_from_slice(verb.as_bytes());
    upper.make_ascii_uppercase();
    let bare = |command| if rest.is_empty() { Ok(command) } else { Err(syntax("this command takes no argument")) };
    match &*upper {
        b"EHLO" => Ok(Command::Ehlo(host(rest)?)),
        b"HELO" => Ok(Command::Helo(host(rest)?)),
        b"LHLO" => Ok(Command::Lhlo(host(rest)?)),
        b"MAIL" => {
            let (path, params) = after(rest, "FROM:").ok_or_else(|| syntax("write MAIL FROM:<address> [parameters]"))?;
            Ok(Command::Mail { path, params })
        }
        b"RCPT" => {
            let (path, params) = after(rest, "TO:").ok_or_else(|| syntax("write RCPT TO:<address> [parameters]"))?;
            Ok(Command::Rcpt { path, params })
        }
        b"DATA" => bare(Command::Data),
        b"BDAT" => bdat(rest),
        b"RSET" => bare(Command::Rset),
        b"QUIT" => bare(Command::Quit),
        b"NOOP" => Ok(Command::Noop),
        b"HELP" => Ok(Command::Help),
        b"VRFY" if rest.is_empty() => Err(syntax("write VRFY address")),
        b"VRFY" => Ok(Command::Vrfy),
        b"EXPN" if rest.is_empty() => Err(syntax("write EXPN list")),
        b"EXPN" => Ok(Command::Expn),
        b"STARTTLS" => bare(Command::StartTls), // RFC 3207 4: 501 with a parameter
        b"AUTH" => auth(rest),
        b"ETRN" | b"TURN" | b"SEND" | b"SOML" | b"SAML" => Ok(Command::NotImplemented),
        b"GET" | b"POST" | b"PUT" | b"HEAD" | b"OPTIONS" | b"CONNECT" | b"DELETE" | b"PATCH" | b"PRI" => {
            Ok(Command::OtherProtocol)
        }
        _ => Err(unknown()),
    }
}

/// The path and the parameters after `FROM:` or `TO:`. A blank after the colon is against RFC 5321 4.1.1.2 but common.
fn after<'a>(rest: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let (head, tail) = rest.split_at_checked(word.len())?;
    if head.eq_ignore_ascii_case(word) { path::split(tail.trim_start_matches(' ')) } else { None }
}

/// The name in a greeting. It goes into Received and logs, so its characters are checked; whether it is true is not
/// (RFC 5321 4.1.4 forbids to refuse mail for that).
fn host(rest: &str) -> Result<&str, Refusal> {
    let fits = !rest.is_empty()
        && rest.len() <= 255
        && rest.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:[]".contains(c) || (!c.is_ascii() && c.is_alphanumeric()));
    if fits { Ok(rest) } else { Err(syntax("give your host name or address literal")) }
}

fn bdat(rest: &str) -> Result<Command<'_>, Refusal> {
    let fault = || syntax("write BDAT size [LAST]");
    let mut words = rest.split(' ').filter(|w| !w.is_empty());
    let size = words.next().ok_or_else(fault)?;
    if size.len() > 19 || !size.bytes().all(|b| b.is_ascii_digit()) {
        return Err(fault());
    }
    let size_bytes = size.parse().map_err(|_| fault())?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return Err(fault()),
    };
    if words.next().is_some() {
        return Err(fault());
    }
    Ok(Command::Bdat { size_bytes, last })
}

fn auth(rest: &str) -> Result<Command<'_>, Refusal> {
    let fault = || syntax("write AUTH mechanism [initial response]");
    let mut words = rest.split(' ').filter(|w| !w.is_empty());
    let mechanism = words.next().ok_or_else(fault)?;
    // RFC 4422 3.1: 1 to 20 upper-case letters, digits, hyphens and underscores.
    if mechanism.len() > 20 || !mechanism.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Err(fault());
    }
    let initial = words.next();
    if words.next().is_some() { Err(fault()) } else { Ok(Command::Auth { mechanism, initial }) }
}

/// Runs the parser on any bytes.
pub fn fuzz(data: &[u8]) {
    let _ = parse(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_forms() {
        for (line, want) in [
            ("EHLO mx.example", Command::Ehlo("mx.example")),
            ("ehlo [IPv6:2001:db8::1] ", Command::Ehlo("[IPv6:2001:db8::1]")),
            ("HELO localhost", Command::Helo("localhost")),
            ("LHLO a_b", Command::Lhlo("a_b")),
            ("MAIL FROM:<a@b> SIZE=1", Command::Mail { path: "a@b", params: "SIZE=1" }),
            ("mail from: <>", Command::Mail { path: "", params: "" }),
            ("RCPT TO:<@x:a@b>", Command::Rcpt { path: "a@b", params: "" }),
            ("rcpt to:<Postmaster>", Command::Rcpt { path: "Postmaster", params: "" }),
            ("DATA", Command::Data),
            ("BDAT 0 last", Command::Bdat { size_bytes: 0, last: true }),
            ("BDAT 1000000", Command::Bdat { size_bytes: 1_000_000, last: false }),
            ("NOOP whatever you like", Command::Noop),
            ("VRFY anna", Command::Vrfy),
            ("AUTH PLAIN =", Command::Auth { mechanism: "PLAIN", initial: Some("=") }),
            ("ETRN x", Command::NotImplemented),
            ("GET / HTTP/1.1", Command::OtherProtocol),
        ] {
            assert_eq!(parse(line.as_bytes()), Ok(want), "{line}");
        }
    }

    #[test]
    fn wrong_forms() {
        for (line, code) in [
            (&b""[..], 500),
            (b" ", 500),
            (b"EHLO", 501),
            (b"EHLO a b", 501),
            (b"EHLO (comment)", 501),
            (b"MAIL", 501),
            (b"MAIL TO:<a@b>", 501),
            (b"MAIL FROM:a@b", 501),
            (b"MAIL FROM <a@b>", 501),
            (b"RCPT TO:<a@b", 501),
            (b"RCPT TO:<a@b>NOTIFY=NEVER", 501),
            (b"DATA now", 501),
            (b"RSET x", 501),
            (b"QUIT x", 501),
            (b"STARTTLS x", 501),
            (b"BDAT", 501),
            (b"BDAT -1", 501),
            (b"BDAT 1 FIRST", 501),
            (b"BDAT 1 LAST LAST", 501),
            (b"BDAT 99999999999999999999", 501),
            (b"VRFY", 501),
            (b"EXPN", 501),
            (b"AUTH", 501),
            (b"AUTH PLAIN a b", 501),
            (b"AUTH PL;AIN", 501),
            (b"XCLIENT a=b", 500),
            (b"MAILFROM:<a@b>", 500),
            (b"NOOP\x00", 500),
            (b"NOOP \xff", 500),
            (b"HELO x\rRSET", 500),
        ] {
            assert_eq!(parse(line).map_err(|r| r.code()), Err(code), "{}", String::from_utf8_lossy(line));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(data in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            fuzz(&data);
        }
        #[test]
        fn near_misses(line in "(MAIL FROM|RCPT TO|BDAT|AUTH|EHLO|VRFY) ?:?<?[@:,\"\\\\>a-z0-9 =]{0,30}") {
            fuzz(line.as_bytes());
        }
    }
}
