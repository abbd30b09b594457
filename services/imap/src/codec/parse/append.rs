//! APPEND, MULTIAPPEND, REPLACE: the parts around the messages (RFC 9051 6.3.12, RFC 3502, RFC 8508, RFC 6855 4).

use super::cursor::{Cursor, Parse, syntax};
use super::{refusal, tag_of};
use crate::codec::ast::{AppendItem, AppendStart, CommandError, ErrorKind, FlagList, Literal, Replace};

/// Parses what [`crate::codec::frame::Step::Message`] called a head: from the tag to the announcement of the first message.
///
/// # Errors
/// [`CommandError`]; the session then answers and calls [`crate::codec::frame::Framer::refuse_message`].
pub fn append_start(head: &[u8], utf8: bool) -> Result<AppendStart, CommandError> {
    let Some(tag) = tag_of(head) else {
        return Err(CommandError { tag: None, kind: ErrorKind::Syntax, message: "a command begins with a tag".to_owned() });
    };
    let mut c = Cursor::new(&head[tag.len()..], utf8);
    match start(&mut c, tag.clone()) {
        Ok(start) => Ok(start),
        Err(fault) => Err(refusal(Some(tag), fault)),
    }
}

fn start(c: &mut Cursor<'_>, tag: String) -> Parse<AppendStart> {
    c.sp()?;
    let mut name = c.word()?;
    let uid = name == "UID";
    if uid {
        c.sp()?;
        name = c.word()?;
    }
    let replace = match name.as_str() {
        "APPEND" if !uid => None,
        "REPLACE" => {
            c.sp()?;
            Some(Replace { uid, number: c.set()? })
        }
        _ => return syntax("unknown command"),
    };
    c.sp()?;
    let mailbox = c.mailbox()?;
    let item = item(c)?;
    Ok(AppendStart { tag, mailbox, replace, item })
}

/// Parses what follows a message: none at the end of the command, else the head of the next message. `after_utf8`: the
/// message before came as `UTF8 (~{n}`, so a `)` has to follow.
///
/// # Errors
/// [`CommandError`] without tag: it is the tag of the command's start.
pub fn append_next(bytes: &[u8], after_utf8: bool) -> Result<Option<AppendItem>, CommandError> {
    let mut c = Cursor::new(bytes, false);
    let mut next = || {
        if after_utf8 {
            c.spaces();
            c.expect(b')', "UTF8 ( does not end")?;
        }
        if c.at_end() { Ok(None) } else { item(&mut c).map(Some) }
    };
    next().map_err(|fault| refusal(None, fault))
}

fn item(c: &mut Cursor<'_>) -> Parse<AppendItem> {
    c.sp()?;
    let mut flags = FlagList::default();
    if c.peek() == Some(b'(') {
        flags = c.flag_list()?;
        c.sp()?;
    }
    let mut received_s = None;
    if c.peek() == Some(b'"') {
        received_s = Some(c.date_time()?);
        c.sp()?;
    }
    let utf8 = c.eat_word("UTF8");
    if utf8 {
        c.spaces();
        c.expect(b'(', "UTF8 needs a literal in parentheses")?;
        c.spaces();
    }
    let binary = c.eat(b'~');
    c.expect(b'{', "the message must be a literal")?;
    let size_bytes = c.number64()?;
    let sync = !c.eat(b'+');
    c.expect(b'}', "the size of a literal does not end")?;
    c.end()?;
    Ok(AppendItem { flags, received_s, utf8, literal: Literal { size_bytes, sync, binary } })
}
