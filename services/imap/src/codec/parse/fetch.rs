//! FETCH and its items (RFC 9051 6.4.5, RFC 3516, RFC 7162, RFC 8474, RFC 8514, RFC 8970, RFC 9394).

use super::cursor::{Cursor, LIST_MAX, Parse, syntax};
use crate::codec::ast::{Fetch, FetchItem, PartialRange, Request, Section, SectionWhat};

/// Items in one FETCH at most.
const ITEMS_MAX: usize = 256;
/// Levels of a part number at most: as deep as MIME trees are parsed.
const PART_LEVELS_MAX: usize = 64;

pub(super) fn fetch(c: &mut Cursor<'_>, uid: bool) -> Parse<Request> {
    c.sp()?;
    let set = c.set()?;
    c.sp()?;
    let mut items = Vec::new();
    if c.peek() == Some(b'(') {
        c.list(ITEMS_MAX, |c| item_or_macro(c, &mut items))?;
    } else {
        item_or_macro(c, &mut items)?;
    }
    if items.is_empty() {
        return syntax("FETCH needs an item");
    }
    let mut fetch = Fetch { uid, set, items, changed_since: None, vanished: false, partial: None };
    if !c.at_end() {
        c.spaces();
        c.list(8, |c| {
            match c.word()?.as_str() {
                "CHANGEDSINCE" => {
                    c.sp()?;
                    fetch.changed_since = Some(c.number64()?);
                }
                "VANISHED" => fetch.vanished = true,
                "PARTIAL" => {
                    c.sp()?;
                    fetch.partial = Some(partial_range(c)?);
                }
                _ => return syntax("unknown FETCH modifier"),
            }
            Ok(())
        })?;
    }
    // RFC 7162 3.2.6
    if fetch.vanished && (!uid || fetch.changed_since.is_none()) {
        return syntax("VANISHED needs UID FETCH with CHANGEDSINCE");
    }
    Ok(Request::Fetch(fetch))
}

/// RFC 9394 3.1: `1:10` or `-1:-10`, in either order.
pub(super) fn partial_range(c: &mut Cursor<'_>) -> Parse<PartialRange> {
    let from_end = c.eat(b'-');
    let a = c.nz_number()?;
    c.expect(b':', "PARTIAL needs a range")?;
    if c.eat(b'-') != from_end {
        return syntax("both ends of a PARTIAL range are counted from the same side");
    }
    let b = c.nz_number()?;
    Ok(PartialRange { from_end, first: a.min(b), last: a.max(b) })
}

fn item_or_macro(c: &mut Cursor<'_>, items: &mut Vec<FetchItem>) -> Parse<()> {
    use FetchItem::{Body, Envelope, Flags, InternalDate, Rfc822Size};
    // RFC 9051 6.4.5: ALL, FAST, FULL
    if c.eat_word("ALL") {
        items.extend([Flags, InternalDate, Rfc822Size, Envelope]);
    } else if c.eat_word("FAST") {
        items.extend([Flags, InternalDate, Rfc822Size]);
    } else if c.eat_word("FULL") {
        items.extend([Flags, InternalDate, Rfc822Size, Envelope, Body]);
    } else {
        items.push(item(c)?);
    }
    Ok(())
}

/// One fetch item; NOTIFY has them too.
pub(super) fn item(c: &mut Cursor<'_>) -> Parse<FetchItem> {
    let word = c.take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    if word.len() > 32 {
        return syntax("unknown FETCH item");
    }
    let word = word.to_ascii_uppercase();
    let section = c.peek() == Some(b'[');
    Ok(match (word.as_slice(), section) {
        (b"FLAGS", false) => FetchItem::Flags,
        (b"UID", false) => FetchItem::Uid,
        (b"INTERNALDATE", false) => FetchItem::InternalDate,
        (b"RFC822.SIZE", false) => FetchItem::Rfc822Size,
        (b"ENVELOPE", false) => FetchItem::Envelope,
        (b"BODYSTRUCTURE", false) => FetchItem::BodyStructure,
        (b"RFC822", false) => FetchItem::Rfc822,
        (b"RFC822.HEADER", false) => FetchItem::Rfc822Header,
        (b"RFC822.TEXT", false) => FetchItem::Rfc822Text,
        (b"MODSEQ", false) => FetchItem::ModSeq,
        (b"EMAILID", false) => FetchItem::EmailId,
        (b"THREADID", false) => FetchItem::ThreadId,
        (b"SAVEDATE", false) => FetchItem::SaveDate,
        (b"PREVIEW", false) => FetchItem::Preview { lazy: preview_lazy(c)? },
        (b"BODY", false) => FetchItem::Body,
        (b"BODY", true) => body(c, false)?,
        (b"BODY.PEEK", true) => body(c, true)?,
        (b"BINARY", true) => binary(c, false)?,
        (b"BINARY.PEEK", true) => binary(c, true)?,
        (b"BINARY.SIZE", true) => {
            c.expect(b'[', "a section is missing")?;
            let part = part_numbers(c)?;
            c.expect(b']', "a section does not end")?;
            FetchItem::BinarySize(part)
        }
        _ => return syntax("unknown FETCH item"),
    })
}

/// RFC 8970 3.1: `PREVIEW (LAZY)`.
fn preview_lazy(c: &mut Cursor<'_>) -> Parse<bool> {
    if !c.looks_at(" (LAZY)") {
        return Ok(false);
    }
    c.spaces();
    c.list(1, super::cursor::Cursor::word)?;
    Ok(true)
}

fn body(c: &mut Cursor<'_>, peek: bool) -> Parse<FetchItem> {
    c.expect(b'[', "a section is missing")?;
    let part = part_numbers(c)?;
    let mut section = Section { part, what: SectionWhat::All };
    let word = c.take_while(|b| b.is_ascii_alphabetic() || b == b'.').to_ascii_uppercase();
    section.what = match word.as_slice() {
        b"" => SectionWhat::All,
        b"HEADER" => SectionWhat::Header,
        b"TEXT" => SectionWhat::Text,
        b"MIME" if !section.part.is_empty() => SectionWhat::Mime,
        b"HEADER.FIELDS" => SectionWhat::HeaderFields(names(c)?),
        b"HEADER.FIELDS.NOT" => SectionWhat::HeaderFieldsNot(names(c)?),
        _ => return syntax("unknown section"),
    };
    c.spaces();
    c.expect(b']', "a section does not end")?;
    Ok(FetchItem::Section { peek, section, partial: octets(c)? })
}

fn names(c: &mut Cursor<'_>) -> Parse<Vec<String>> {
    c.spaces();
    let names = c.list(LIST_MAX, super::cursor::Cursor::astring_text)?;
    if names.is_empty() {
        return syntax("a header list needs a name");
    }
    // A name goes back to the client in the answer: only what can be a field name (RFC 5322 2.2).
    if names.iter().any(|n| n.is_empty() || n.len() > 255 || !n.bytes().all(|b| b.is_ascii_graphic() && b != b':')) {
        return syntax("this is not a header name");
    }
    Ok(names)
}

fn binary(c: &mut Cursor<'_>, peek: bool) -> Parse<FetchItem> {
    c.expect(b'[', "a section is missing")?;
    let part = part_numbers(c)?;
    c.expect(b']', "a section does not end")?;
    Ok(FetchItem::Binary { peek, part, partial: octets(c)? })
}

/// `1.2.3`, with the dot before a following word taken; empty if there is no number.
fn part_numbers(c: &mut Cursor<'_>) -> Parse<Vec<u32>> {
    let mut part = Vec::new();
    while c.peek().is_some_and(|b| b.is_ascii_digit()) {
        if part.len() == PART_LEVELS_MAX {
            return syntax("a part number has too many levels");
        }
        part.push(c.nz_number()?);
        if !c.eat(b'.') {
            break;
        }
        if c.peek() == Some(b']') {
            return syntax("a part number does not end in a dot");
        }
    }
    Ok(part)
}

/// `<first.count>` (RFC 9051 6.4.5).
fn octets(c: &mut Cursor<'_>) -> Parse<Option<(u32, u32)>> {
    if !c.eat(b'<') {
        return Ok(None);
    }
    let first = c.number()?;
    c.expect(b'.', "a partial fetch is written <first.count>")?;
    let count = c.nz_number()?;
    c.expect(b'>', "a partial fetch is written <first.count>")?;
    Ok(Some((first, count)))
}
