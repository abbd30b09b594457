//! Replies of another server: RFC 5321 4.2 as a client reads it, and what EHLO offers. Pure.

use crate::spool::Reply;

/// Most bytes of a reply's text that are kept for records and reports; the rest is read and forgotten.
const TEXT_MAX_BYTES: usize = 1000;

/// What EHLO offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// RFC 2920
    pub pipelining: bool,
    /// RFC 6152
    pub eight_bit: bool,
    /// RFC 6531
    pub smtputf8: bool,
    /// RFC 3461
    pub dsn: bool,
    /// RFC 3207
    pub starttls: bool,
    /// RFC 1870: largest message, 0 for no stated limit.
    pub size_bytes: Option<u64>,
    /// RFC 4954
    pub auth: Vec<String>,
    /// RFC 9422 4.2: most recipients of one transaction.
    pub recipients_max: Option<usize>,
    /// RFC 9422 4.1: most transactions of one session.
    pub transactions_max: Option<u32>,
}

impl Offers {
    /// From the lines of an EHLO reply, without codes.
    #[must_use]
    pub fn parse(lines: &[String]) -> Self {
        let mut offers = Self::default();
        for line in lines.iter().skip(1) {
            // "AUTH=PLAIN LOGIN" is how servers before RFC 2554 wrote it, and some still do beside the right form.
            let line = if line.get(..5).is_some_and(|l| l.eq_ignore_ascii_case("AUTH=")) {
                line.replacen('=', " ", 1)
            } else {
                line.clone()
            };
            let mut words = line.split_whitespace();
            match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
                "PIPELINING" => offers.pipelining = true,
                "8BITMIME" => offers.eight_bit = true,
                "SMTPUTF8" => offers.smtputf8 = true,
                "DSN" => offers.dsn = true,
                "STARTTLS" => offers.starttls = true,
                "SIZE" => offers.size_bytes = Some(words.next().and_then(|n| n.parse().ok()).unwrap_or(0)),
                "AUTH" => {
                    for word in words.map(str::to_owned) {
                        if !offers.auth.contains(&word) {
                            offers.auth.push(word);
                        }
                    }
                }
                // RFC 9422 3: a limit of zero or one that is no number says nothing.
                "LIMITS" => {
                    for (name, value) in words.filter_map(|w| w.split_once('=')) {
                        let value = value.parse::<u32>().ok().filter(|n| *n > 0);
                        match name.to_ascii_uppercase().as_str() {
                            "RCPTMAX" => offers.recipients_max = value.map(|n| n as usize),
                            "MAILMAX" => offers.transactions_max = value,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        offers
    }
}

/// One line of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyLine {
    /// SMTP code, 200 to 599.
    pub code: u16,
    /// No line follows.
    pub last: bool,
    /// What stands behind the code, without control characters.
    pub text: String,
}

impl ReplyLine {
    /// `250-text`, `250 text` or `250` (RFC 5321 4.2.1). None: no reply line.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let digits = line.get(..3)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let code = digits.iter().fold(0u16, |n, d| n * 10 + u16::from(d - b'0'));
        if !(200..=599).contains(&code) {
            return None;
        }
        let last = match line.get(3) {
            None | Some(b' ') => true,
            Some(b'-') => false,
            Some(_) => return None,
        };
        // What others say goes to logs and terminals: it must not steer them.
        let text = String::from_utf8_lossy(line.get(4..).unwrap_or_default());
        let text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
        Some(Self { code, last, text: text.trim_end().to_owned() })
    }
}

/// A leading `x.y.z` (RFC 3463 2, RFC 2034 4).
#[must_use]
pub fn enhanced(text: &str) -> Option<&str> {
    let first = text.split(' ').next()?;
    let mut parts = first.split('.');
    let class = parts.next()?;
    let number = |p: Option<&str>| p.is_some_and(|p| (1..=3).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()));
    (matches!(class, "2" | "4" | "5") && number(parts.next()) && number(parts.next()) && parts.next().is_none()).then_some(first)
}

/// The lines of a reply as one; the enhanced code that servers repeat in each line stands once.
#[must_use]
pub fn joined(code: u16, lines: &[String]) -> Reply {
    let mut text = String::new();
    let first_code = lines.first().and_then(|l| enhanced(l));
    for (n, line) in lines.iter().enumerate() {
        let line = match first_code {
            Some(code) if n > 0 && enhanced(line) == Some(code) => &line[code.len()..],
            _ => line,
        };
        let line = line.trim();
        if line.is_empty() || text.len() + 1 >= TEXT_MAX_BYTES {
            continue;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        let room = TEXT_MAX_BYTES.saturating_sub(text.len());
        if line.len() > room {
            text.push_str(&line[..line.floor_char_boundary(room)]);
            break;
        }
        text.push_str(line);
    }
    Reply { code, text }
}

/// The server takes no more recipients in this transaction: the others go in the next one (RFC 5321 4.5.3.1.10 names 452,
/// and 552 of older servers).
#[must_use]
pub fn too_many_recipients(reply: &Reply) -> bool {
    let text = reply.text.to_ascii_lowercase();
    match reply.code {
        452 => text.starts_with("4.5.3") || text.contains("too many"),
        552 => text.starts_with("5.5.3") || text.contains("too many"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(list: &[&str]) -> Vec<String> {
        list.iter().map(|l| (*l).to_owned()).collect()
    }

    #[test]
    fn offers_are_read_from_ehlo() {
        let offers = Offers::parse(&lines(&[
            "mx.example",
            "PIPELINING",
            "size 1000",
            "AUTH PLAIN SCRAM-SHA-256",
            "auth=LOGIN PLAIN",
            "8BITMIME",
            "LIMITS RCPTMAX=20 mailmax=5 RCPTDOMAINMAX=1",
            "unknown",
        ]));
        assert!(offers.pipelining && offers.eight_bit && !offers.smtputf8);
        assert_eq!((offers.size_bytes, offers.auth.join(" ")), (Some(1000), "PLAIN SCRAM-SHA-256 LOGIN".to_owned()));
        assert_eq!((offers.recipients_max, offers.transactions_max), (Some(20), Some(5)));
        assert_eq!(Offers::parse(&[]), Offers::default());
        let odd = Offers::parse(&lines(&["x", "LIMITS RCPTMAX=0 MAILMAX=many", "SIZE lots"]));
        assert_eq!((odd.recipients_max, odd.transactions_max, odd.size_bytes), (None, None, Some(0)));
        // The first line is the server's name, even if it reads as a keyword.
        assert!(!Offers::parse(&lines(&["STARTTLS"])).starttls);
    }

    #[test]
    fn reply_lines_are_strict() {
        let line = |code, last, text: &str| Some(ReplyLine { code, last, text: text.into() });
        assert_eq!(ReplyLine::parse(b"250-x"), line(250, false, "x"));
        assert_eq!(ReplyLine::parse(b"250"), line(250, true, ""));
        assert_eq!(ReplyLine::parse(b"550 \x1b[2Jno\x07"), line(550, true, " [2Jno"));
        for bad in [&b"25"[..], b"2500 x", b"abc x", b"", b"100 x", b"650 x", b"+50 x", b" 250 x", b"250_x"] {
            assert_eq!(ReplyLine::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_reply_of_many_lines_is_one_text() {
        assert_eq!(joined(550, &lines(&["5.1.1 no such", "5.1.1 user", "5.1.10 here"])).text, "5.1.1 no such user 5.1.10 here");
        assert_eq!(joined(550, &lines(&["no", "", "way"])).text, "no way");
        assert_eq!(joined(250, &vec!["ü".repeat(600); 4]).text.len(), TEXT_MAX_BYTES);
        assert_eq!(enhanced("4.7.1 wait"), Some("4.7.1"));
        for none in ["", "4.7", "4.7.1.2 x", "3.1.1", "4.1234.1", "x.1.1", "4..1"] {
            assert_eq!(enhanced(none), None, "{none}");
        }
    }

    #[test]
    fn too_many_recipients_is_told_from_a_full_disk() {
        let is = |code, text: &str| too_many_recipients(&Reply { code, text: text.into() });
        assert!(is(452, "4.5.3 Error: too many recipients") && is(452, "Too many recipients") && is(552, "5.5.3 no more"));
        assert!(
            !is(452, "4.3.1 insufficient system storage") && !is(550, "too many recipients") && !is(552, "5.2.2 mailbox full")
        );
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_said(code in 200u16..600, last: bool, text in "[ -~]{0,80}") {
            let line = format!("{code}{}{text}", if last { ' ' } else { '-' });
            let read = ReplyLine::parse(line.as_bytes()).unwrap();
            prop_assert_eq!((read.code, read.last, read.text.as_str()), (code, last, text.trim_end()));
        }
        #[test]
        fn a_reply_text_is_bounded_and_has_no_controls(raw in prop::collection::vec(prop::collection::vec(0u8..=255, 0..400), 0..12)) {
            let lines: Vec<String> = raw.iter().filter_map(|l| ReplyLine::parse(&[b"550-", l.as_slice()].concat())).map(|l| l.text).collect();
            let reply = joined(550, &lines);
            prop_assert!(reply.text.len() <= TEXT_MAX_BYTES && !reply.text.chars().any(char::is_control));
            let _ = (Offers::parse(&lines), too_many_recipients(&reply), enhanced(&reply.text));
        }
    }
}
