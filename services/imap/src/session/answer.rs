//! Tagged answers, and the response code that each refusal of the backend gets.

use crate::Refusal;
use std::borrow::Cow;
use std::io;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    No,
    Bad,
}

/// The tagged answer of a command (RFC 9051 7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub status: Status,
    /// Response code without its brackets.
    pub code: Option<Cow<'static, str>>,
    pub text: Cow<'static, str>,
}

impl Answer {
    pub fn ok(text: impl Into<Cow<'static, str>>) -> Self {
        Self { status: Status::Ok, code: None, text: text.into() }
    }
    pub fn no(code: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status: Status::No, code: Some(Cow::Borrowed(code)), text: text.into() }
    }
    pub fn bad(text: impl Into<Cow<'static, str>>) -> Self {
        Self { status: Status::Bad, code: None, text: text.into() }
    }
    pub fn with_code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.code = Some(code.into());
        self
    }
    /// Appends `TAG OK [CODE] text`.
    pub fn write(&self, tag: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(tag.as_bytes());
        out.extend_from_slice(match self.status {
            Status::Ok => b" OK ",
            Status::No => b" NO ",
            Status::Bad => b" BAD ",
        });
        if let Some(code) = &self.code {
            out.push(b'[');
            out.extend_from_slice(code.as_bytes());
            out.extend_from_slice(b"] ");
        }
        plain_text(&self.text, out);
        out.extend_from_slice(b"\r\n");
    }
}

/// Human text behind a status: one line, ASCII (RFC 9051 9 `resp-text`: clients of rev1 expect no more).
pub(crate) fn plain_text(text: &str, out: &mut Vec<u8>) {
    let before = out.len();
    out.extend(text.chars().map(|c| if (' '..='~').contains(&c) { c as u8 } else { b'?' }));
    if out.len() == before {
        out.push(b'-');
    }
}

/// Why a command stops before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// With this answer.
    Answer(Answer),
    /// The connection is gone.
    Io(io::Error),
    /// The session ends: `* BYE` with this code and text.
    Bye(Option<&'static str>, Cow<'static, str>),
}

impl From<Answer> for Stop {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}
impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Answer(refused(&refusal))
    }
}

/// The answer to a refusal: each has its response code (RFC 5530, RFC 9051 7.1).
pub(crate) fn refused(refusal: &Refusal) -> Answer {
    let code = match refusal {
        Refusal::NonExistent => "NONEXISTENT",
        Refusal::AlreadyExists => "ALREADYEXISTS",
        Refusal::HasChildren => "HASCHILDREN",
        Refusal::Cannot(_) => "CANNOT",
        Refusal::NoPermission(_) => "NOPERM",
        Refusal::OverQuota => "OVERQUOTA",
        Refusal::Limit(_) => "LIMIT",
        Refusal::TooBig => "TOOBIG",
        // RFC 5530 3: a full disk is no fault of the user's quota, and passes: UNAVAILABLE, not OVERQUOTA.
        Refusal::DiskFull | Refusal::Unavailable => "UNAVAILABLE",
        Refusal::Damaged(_) => "CORRUPTION",
        // RFC 6154 3: the attribute can not be given.
        Refusal::UseTaken => "USEATTR",
        Refusal::Internal(fault) => {
            tracing::error!(%fault, "the mail store failed");
            return Answer::no("SERVERBUG", "Something is wrong in the server; please tell your administrator");
        }
    };
    let mut text = refusal.to_string();
    if let Some(first) = text.get(..1) {
        let upper = first.to_ascii_uppercase();
        text.replace_range(..1, &upper);
    }
    Answer::no(code, text)
}

/// As [`refused`] for the target of APPEND, COPY and MOVE: a missing mailbox could be made (RFC 9051 6.3.12, 6.4.7).
pub(crate) fn refused_target(refusal: &Refusal) -> Answer {
    match refusal {
        Refusal::NonExistent => no_target(),
        other => refused(other),
    }
}

/// The target of APPEND, COPY or MOVE does not exist.
pub(crate) fn no_target() -> Answer {
    Answer::no("TRYCREATE", "There is no such mailbox")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_line_of_ascii() {
        let mut out = Vec::new();
        Answer::no("CANNOT", "no\r\n* BYE \u{4e2d}").write("a1", &mut out);
        assert_eq!(out, b"a1 NO [CANNOT] no??* BYE ?\r\n");
        out.clear();
        Answer::ok("").write("a1", &mut out);
        assert_eq!(out, b"a1 OK -\r\n", "text is never empty (RFC 9051 9 text)");
    }
}
