//! Mail that must not become an SMS: reports, lists, programs, and what this gateway made itself.
//!
//! Contract: looks at the header only; any bytes.

use crate::refusal::{Fault, Refusal};
use twinpost_message::header::fields;

/// Stands in every mail that the gateway makes: such a mail, forwarded to a number, would go round in a circle.
pub const LOOP_HEADER: &str = "X-Twinpost-Sms";

/// What kind of automatic mail it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Automatic {
    /// Made by this gateway.
    Own,
    /// A mailing list's.
    List,
    /// A program's.
    Program,
}

/// Looks for the marks of automatic mail in a header.
pub(crate) fn kind_of(header: &[u8]) -> Option<Automatic> {
    let mut found = None;
    for field in fields(header) {
        if field.is(LOOP_HEADER) {
            return Some(Automatic::Own);
        }
        let kind = kind_of_field(&field);
        // A list's mail is also a program's: the first mark names it.
        found = found.or(kind);
    }
    found
}

fn kind_of_field(field: &twinpost_message::header::Field<'_>) -> Option<Automatic> {
    // RFC 2919 3, RFC 2369 3: what lists add.
    if ["list-id", "list-unsubscribe", "list-post", "list-help", "mailing-list"].iter().any(|name| field.is(name)) {
        return Some(Automatic::List);
    }
    let value = || field.text(None).to_ascii_lowercase();
    if field.is("precedence") {
        // No standard names its values; these are the ones in use.
        return match value().trim() {
            "list" => Some(Automatic::List),
            "bulk" | "junk" | "auto_reply" => Some(Automatic::Program),
            _ => None,
        };
    }
    // RFC 3834 5: everything but "no", whose comments and parameters do not count.
    if field.is("auto-submitted") {
        let value = value();
        let word = value.split([';', '(', ' ', '\t']).find(|w| !w.is_empty()).unwrap_or("no");
        return (word != "no").then_some(Automatic::Program);
    }
    // A report about a mail (RFC 3464 2, and read receipts).
    if field.is("content-type") {
        return value().trim_start().starts_with("multipart/report").then_some(Automatic::Program);
    }
    // Not standard, but what the mailers of the field write instead. X-Auto-Response-Suppress is no mark: it asks for no answers, and stands
    // in people's mail too.
    let is_answer = ["x-autoreply", "x-autorespond", "x-autoresponder"].iter().any(|name| field.is(name));
    (is_answer && value().trim() != "no").then_some(Automatic::Program)
}

/// A report has no sender (RFC 5321 4.5.5).
pub(crate) fn null_sender() -> Refusal {
    Refusal::new(
        Fault::NullSender,
        550,
        (7, 1),
        "reports and automatic answers (mail without a sender) are not sent as text messages",
        "退信通知和自动回复（没有发件人的邮件）不会作为短信发送",
    )
}

impl Automatic {
    pub(crate) fn refusal(self) -> Refusal {
        match self {
            Self::Own => Refusal::new(
                Fault::Loop,
                554,
                (4, 6),
                "this mail was made from a text message and would go round in a circle: please write a new mail instead",
                "这封邮件本身由短信生成，转发会造成循环：请另写一封新邮件",
            ),
            Self::List => Refusal::new(
                Fault::List,
                550,
                (7, 1),
                "mail from mailing lists and newsletters is not sent as text messages: please write the mail yourself",
                "邮件列表和群发订阅邮件不会作为短信发送，请自己写邮件发送",
            ),
            Self::Program => Refusal::new(
                Fault::Automatic,
                550,
                (7, 1),
                "automatic mail (absence notices, notifications of programs) is not sent as text messages",
                "自动邮件（外出回复、程序通知等）不会作为短信发送",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_automatic_mail() {
        use Automatic::{List, Own, Program};
        for (header, kind) in [
            ("Subject: hello\r\n", None),
            ("Auto-Submitted: no\r\n", None),
            ("Auto-Submitted: No (a person)\r\n", None),
            ("Auto-Submitted: auto-replied; owner-email=x\r\n", Some(Program)),
            ("Auto-Submitted: auto-generated\r\n", Some(Program)),
            ("Precedence: first-class\r\n", None),
            ("Precedence: Bulk\r\n", Some(Program)),
            ("Precedence: list\r\n", Some(List)),
            ("List-Id: <a.example>\r\n", Some(List)),
            ("List-Unsubscribe: <mailto:x@y.example>\r\nPrecedence: bulk\r\n", Some(List)),
            ("X-Auto-Response-Suppress: All\r\n", None),
            ("Content-Type: multipart/report; report-type=delivery-status\r\n", Some(Program)),
            ("X-Autoreply: yes\r\n", Some(Program)),
            ("List-Id: a\r\nX-Twinpost-Sms: reply\r\n", Some(Own)),
            ("Subject: a\r\n\r\nList-Id: in the text\r\n", None),
        ] {
            assert_eq!(kind_of(header.as_bytes()), kind, "{header}");
        }
    }
}
