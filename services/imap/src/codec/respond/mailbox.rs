//! LIST, STATUS and METADATA responses.

use super::{mailbox, mailbox_id, number, string, value};
use crate::backend::MailboxInfo;
use crate::codec::ast::StatusItem;

/// One LIST or LSUB response.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListLine<'a> {
    /// LSUB (RFC 3501 7.2.3).
    pub lsub: bool,
    /// Attributes with their backslash.
    pub attributes: &'a [&'a str],
    /// Name; empty for the answer to an empty pattern, which asks for the delimiter.
    pub name: &'a str,
    /// `CHILDINFO ("SUBSCRIBED")` (RFC 9051 6.3.9.6): names of the selection options that a child matches.
    pub child_info: &'a [&'a str],
    /// `OLDNAME` (RFC 9051 6.3.9.7): the mailbox was renamed, or the client's spelling was normalised.
    pub old_name: Option<&'a str>,
}

/// `* LIST (\HasNoChildren) "/" "name"` (RFC 9051 7.3.1).
pub fn list(line: &ListLine<'_>, utf8: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if line.lsub { b"* LSUB (" } else { b"* LIST (" });
    for (i, attribute) in line.attributes.iter().enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(attribute.as_bytes());
    }
    out.extend_from_slice(b") \"/\" ");
    mailbox(line.name, utf8, out);
    if !line.child_info.is_empty() || line.old_name.is_some() {
        out.extend_from_slice(b" (");
        if !line.child_info.is_empty() {
            out.extend_from_slice(b"\"CHILDINFO\" (");
            for (i, option) in line.child_info.iter().enumerate() {
                if i > 0 {
                    out.push(b' ');
                }
                string(option.as_bytes(), false, out);
            }
            out.push(b')');
        }
        if let Some(old) = line.old_name {
            if !line.child_info.is_empty() {
                out.push(b' ');
            }
            out.extend_from_slice(b"\"OLDNAME\" (");
            mailbox(old, utf8, out);
            out.push(b')');
        }
        out.push(b')');
    }
    out.extend_from_slice(b"\r\n");
}

/// `* STATUS "name" (MESSAGES 231 ..)` (RFC 9051 7.3.4). `append_limit_bytes` and `deleted_bytes` answer APPENDLIMIT and
/// DELETED-STORAGE, which the counters of a mailbox do not hold.
pub fn status(
    info: &MailboxInfo,
    items: &[StatusItem],
    append_limit_bytes: Option<u32>,
    deleted_bytes: u64,
    utf8: bool,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"* STATUS ");
    mailbox(&info.name, utf8, out);
    out.extend_from_slice(b" (");
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        let (name, value): (&[u8], u64) = match item {
            StatusItem::Messages => (b"MESSAGES ", info.messages.into()),
            StatusItem::Recent => (b"RECENT ", 0),
            StatusItem::UidNext => (b"UIDNEXT ", info.uid_next.0.into()),
            StatusItem::UidValidity => (b"UIDVALIDITY ", info.uid_validity.0.into()),
            StatusItem::Unseen => (b"UNSEEN ", info.unseen.into()),
            StatusItem::Deleted => (b"DELETED ", info.deleted.into()),
            StatusItem::Size => (b"SIZE ", info.size_bytes),
            StatusItem::HighestModSeq => (b"HIGHESTMODSEQ ", info.highest_modseq.0),
            StatusItem::DeletedStorage => (b"DELETED-STORAGE ", deleted_bytes),
            StatusItem::AppendLimit => match append_limit_bytes {
                Some(bytes) => (b"APPENDLIMIT ", bytes.into()),
                None => {
                    // RFC 7889 4
                    out.extend_from_slice(b"APPENDLIMIT NIL");
                    continue;
                }
            },
            StatusItem::MailboxId => {
                // RFC 8474 4.3
                out.extend_from_slice(format!("MAILBOXID ({})", mailbox_id(info.id)).as_bytes());
                continue;
            }
        };
        out.extend_from_slice(name);
        number(out, value);
    }
    out.extend_from_slice(b")\r\n");
}

/// `* METADATA "INBOX" (/private/comment "..")` (RFC 5464 4.4.1); the server's own mailbox is the empty name, a value none is
/// NIL.
pub fn metadata<'a>(name: &str, entries: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>, utf8: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* METADATA ");
    mailbox(name, utf8, out);
    let mut before: &[u8] = b" (";
    for (entry, content) in entries {
        out.extend_from_slice(before);
        before = b" ";
        entry_name(entry, out);
        out.push(b' ');
        match content {
            None => out.extend_from_slice(b"NIL"),
            Some(v) => value(v, out),
        }
    }
    if before == b" (" {
        out.extend_from_slice(before);
    }
    out.extend_from_slice(b")\r\n");
}

/// `* METADATA "INBOX" /shared/comment /private/comment` (RFC 5464 4.4.2): entries that changed, without values.
pub fn metadata_names<'a>(name: &str, entries: impl IntoIterator<Item = &'a str>, utf8: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* METADATA ");
    mailbox(name, utf8, out);
    for entry in entries {
        out.push(b' ');
        entry_name(entry, out);
    }
    out.extend_from_slice(b"\r\n");
}

fn entry_name(entry: &str, out: &mut Vec<u8>) {
    if entry.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'.' | b'_')) {
        out.extend_from_slice(entry.as_bytes());
    } else {
        string(entry.as_bytes(), false, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinpost_message::{MailboxId, ModSeq, Uid, UidValidity};

    #[test]
    fn lists() {
        let mut out = Vec::new();
        list(&ListLine { attributes: &["\\Noselect"], ..ListLine::default() }, false, &mut out);
        let line = ListLine { attributes: &["\\Subscribed", "\\HasChildren"], name: "台北", ..ListLine::default() };
        list(&line, false, &mut out);
        list(&ListLine { child_info: &["SUBSCRIBED"], old_name: Some("a b"), ..line }, true, &mut out);
        list(&ListLine { lsub: true, name: "x", ..ListLine::default() }, true, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "* LIST (\\Noselect) \"/\" \"\"\r\n* LIST (\\Subscribed \\HasChildren) \"/\" \"&U,BTFw-\"\r\n\
             * LIST (\\Subscribed \\HasChildren) \"/\" \"台北\" (\"CHILDINFO\" (\"SUBSCRIBED\") \"OLDNAME\" (\"a b\"))\r\n* LSUB () \"/\" \"x\"\r\n"
        );
    }

    #[test]
    fn counters_and_annotations() {
        let info = MailboxInfo {
            id: MailboxId(7),
            name: "blurdybloop".into(),
            special_use: None,
            subscribed: true,
            messages: 231,
            unseen: 3,
            deleted: 2,
            size_bytes: 5_000_000_000,
            uid_next: Uid(44_292),
            uid_validity: UidValidity(5),
            highest_modseq: ModSeq(9),
        };
        use StatusItem as S;
        let mut out = Vec::new();
        let items = [S::Messages, S::UidNext, S::Size, S::AppendLimit, S::MailboxId, S::Recent, S::DeletedStorage];
        status(&info, &items, None, 12, false, &mut out);
        metadata("INBOX", [("/private/comment", Some(&b"My \"own\""[..])), ("/shared/x y", None)], false, &mut out);
        metadata("", [("/shared/b", Some(&b"\0"[..]))], false, &mut out);
        metadata_names("INBOX", ["/shared/comment", "/private/comment"], false, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "* STATUS \"blurdybloop\" (MESSAGES 231 UIDNEXT 44292 SIZE 5000000000 APPENDLIMIT NIL MAILBOXID (F7) RECENT 0 DELETED-STORAGE 12)\r\n\
             * METADATA \"INBOX\" (/private/comment \"My \\\"own\\\"\" \"/shared/x y\" NIL)\r\n* METADATA \"\" (/shared/b ~{1}\r\n\0)\r\n\
             * METADATA \"INBOX\" /shared/comment /private/comment\r\n"
        );
    }
}
