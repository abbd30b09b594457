//! A complete command to [`Command`] (RFC 9051 9 and the grammars of the extensions).
//!
//! Contract: the input is what [`super::frame::Framer`] called complete (other input gives an error, never a panic). Work and
//! memory are linear in its length; nesting and lists have limits. Tolerant where real clients are careless: any case, several
//! spaces, spaces at the end, raw 8-bit names. Failure class: [`CommandError`].

mod append;
mod cursor;
mod fetch;
mod mailbox;
mod search;
#[cfg(test)]
mod tests;

use super::ast::{Command, CommandError, ErrorKind, Request, Store, StoreAction};
pub use append::{append_next, append_start};
use cursor::{Cursor, Fault, Parse, limit, syntax, text};
use std::borrow::Cow;

/// The tag of a command, if it begins with one (RFC 9051 9 `tag`).
pub(super) fn tag_of(command: &[u8]) -> Option<String> {
    let end = command.iter().take(256).position(|b| !is_tag(*b)).unwrap_or(command.len());
    (1..=128)
        .contains(&end)
        .then(|| text(&command[..end]))
        .filter(|_| command.get(end).is_none_or(|b| matches!(b, b' ' | b'\r' | b'\n')))
}

fn is_tag(b: u8) -> bool {
    b.is_ascii_graphic() && !matches!(b, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b'+')
}

/// Parses a command. `utf8`: the client enabled IMAP4rev2 or UTF8=ACCEPT, so that names are UTF-8 on the wire.
///
/// # Errors
/// [`CommandError`] with the tag, if there was one.
pub fn parse(command: &[u8], utf8: bool) -> Result<Command, CommandError> {
    let Some(tag) = tag_of(command) else {
        return Err(CommandError { tag: None, kind: ErrorKind::Syntax, message: "a command begins with a tag".to_owned() });
    };
    let mut cursor = Cursor::new(&command[tag.len()..], utf8);
    match cursor.sp().and_then(|()| request(&mut cursor)).and_then(|r| cursor.end().map(|()| r)) {
        Ok(request) => Ok(Command { tag, request }),
        Err(fault) => Err(refusal(Some(tag), fault)),
    }
}

fn refusal(tag: Option<String>, fault: Fault) -> CommandError {
    CommandError { tag, kind: fault.kind, message: fault.message.into_owned() }
}

fn request(c: &mut Cursor<'_>) -> Parse<Request> {
    let name = c.word()?;
    Ok(match name.as_str() {
        "CAPABILITY" => Request::Capability,
        "NOOP" => Request::Noop,
        "LOGOUT" => Request::Logout,
        "STARTTLS" => Request::StartTls,
        "NAMESPACE" => Request::Namespace,
        "IDLE" => Request::Idle,
        "CHECK" => Request::Check,
        "CLOSE" => Request::Close,
        "UNSELECT" => Request::Unselect,
        "EXPUNGE" => Request::Expunge { uids: None },
        "AUTHENTICATE" => {
            c.sp()?;
            let mechanism = c.word()?;
            // RFC 4959 3: `=` is the empty initial response
            let initial = if c.at_end() {
                None
            } else {
                c.sp()?;
                let base64 = c.take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
                Some(if base64 == b"=" { String::new() } else { text(base64) })
            };
            Request::Authenticate { mechanism, initial }
        }
        "LOGIN" => {
            c.sp()?;
            let user = c.astring_text()?;
            c.sp()?;
            Request::Login { user, password: c.astring_text()? }
        }
        "ENABLE" => {
            let mut names = Vec::new();
            while !c.at_end() {
                c.sp()?;
                if names.len() == 64 {
                    return limit("too many names");
                }
                names.push(c.word()?);
            }
            if names.is_empty() {
                return syntax("ENABLE needs a name");
            }
            Request::Enable(names)
        }
        "ID" => id(c)?,
        "COMPRESS" => {
            c.sp()?;
            Request::Compress(c.word()?)
        }
        "SELECT" => mailbox::select(c, false)?,
        "EXAMINE" => mailbox::select(c, true)?,
        "CREATE" => mailbox::create(c)?,
        "DELETE" => Request::Delete(argument(c)?),
        "RENAME" => {
            let from = argument(c)?;
            Request::Rename { from, to: argument(c)? }
        }
        "SUBSCRIBE" => Request::Subscribe(argument(c)?),
        "UNSUBSCRIBE" => Request::Unsubscribe(argument(c)?),
        "LIST" => mailbox::list(c)?,
        "LSUB" => mailbox::lsub(c)?,
        "STATUS" => mailbox::status(c)?,
        "GETQUOTA" => {
            c.sp()?;
            Request::GetQuota(c.astring_text()?)
        }
        "GETQUOTAROOT" => Request::GetQuotaRoot(argument(c)?),
        "SETQUOTA" => mailbox::set_quota(c)?,
        "GETMETADATA" => mailbox::get_metadata(c)?,
        "SETMETADATA" => mailbox::set_metadata(c)?,
        "NOTIFY" => mailbox::notify(c)?,
        "UID" => {
            c.sp()?;
            let name = c.word()?;
            return if name == "EXPUNGE" {
                c.sp()?;
                Ok(Request::Expunge { uids: Some(c.set()?) })
            } else {
                messages(c, &name, true)
            };
        }
        _ => return messages(c, &name, false),
    })
}

/// Commands that exist with and without `UID`.
fn messages(c: &mut Cursor<'_>, name: &str, uid: bool) -> Parse<Request> {
    match name {
        "SEARCH" => search::search(c, uid).map(Request::Search),
        "SORT" => search::sort(c, uid),
        "THREAD" => search::thread(c, uid),
        "FETCH" => fetch::fetch(c, uid),
        "STORE" => store(c, uid),
        "COPY" | "MOVE" => {
            c.sp()?;
            let set = c.set()?;
            let mailbox = argument(c)?;
            Ok(if name == "COPY" { Request::Copy { uid, set, mailbox } } else { Request::Move { uid, set, mailbox } })
        }
        "APPEND" | "REPLACE" => syntax("the message must be a literal"),
        _ => Err(Fault { kind: ErrorKind::Syntax, message: Cow::Borrowed("unknown command") }),
    }
}

fn argument(c: &mut Cursor<'_>) -> Parse<super::ast::MailboxName> {
    c.sp()?;
    c.mailbox()
}

/// RFC 2971 3.1.
fn id(c: &mut Cursor<'_>) -> Parse<Request> {
    c.sp()?;
    if c.eat_word("NIL") {
        return Ok(Request::Id(Vec::new()));
    }
    // RFC 2971 3.3: at most 30 pairs; names up to 30 and values up to 1024 bytes.
    let pairs = c.list(64, |c| {
        let name = c.astring_text()?;
        c.sp()?;
        let value = c.nstring()?.map(|v| text(&v[..v.len().min(1024)]));
        Ok((name, value))
    })?;
    Ok(Request::Id(pairs))
}

/// RFC 9051 6.4.6, RFC 7162 3.1.3.
fn store(c: &mut Cursor<'_>, uid: bool) -> Parse<Request> {
    c.sp()?;
    let set = c.set()?;
    c.sp()?;
    let mut unchanged_since = None;
    if c.peek() == Some(b'(') {
        c.list(4, |c| {
            if !c.eat_word("UNCHANGEDSINCE") {
                return syntax("unknown STORE modifier");
            }
            c.sp()?;
            unchanged_since = Some(c.number64()?);
            Ok(())
        })?;
        c.sp()?;
    }
    let action = match c.peek() {
        Some(b'+') => StoreAction::Add,
        Some(b'-') => StoreAction::Remove,
        _ => StoreAction::Replace,
    };
    if action != StoreAction::Replace {
        c.take_while(|b| matches!(b, b'+' | b'-'));
    }
    let silent = match c.word()?.as_str() {
        "FLAGS" => false,
        "FLAGS.SILENT" => true,
        _ => return syntax("STORE changes FLAGS only"),
    };
    c.sp()?;
    let flags = if c.peek() == Some(b'(') {
        c.flag_list()?
    } else {
        // RFC 9051 9 `store-att-flags`: without parentheses too
        let mut flags = super::ast::FlagList::default();
        c.flag(&mut flags)?;
        while !c.at_end() {
            c.sp()?;
            c.flag(&mut flags)?;
        }
        flags
    };
    Ok(Request::Store(Store { uid, set, unchanged_since, action, silent, flags }))
}

/// Any bytes as a command, as the head of an APPEND and as what follows a message.
pub fn fuzz(data: &[u8]) {
    for utf8 in [false, true] {
        let _ = parse(data, utf8);
        let _ = append_start(data, utf8);
        let _ = append_next(data, true);
        let mut tagged = b"a ".to_vec();
        tagged.extend_from_slice(data);
        let _ = parse(&tagged, utf8);
    }
}
