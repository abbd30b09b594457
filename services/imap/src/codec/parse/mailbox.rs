//! Commands about mailboxes: SELECT, CREATE, LIST, STATUS, quota, metadata, NOTIFY.

use super::cursor::{Cursor, LIST_MAX, Parse, limit, syntax};
use super::{argument, fetch};
use crate::codec::ast::{
    Depth, EventGroup, GetMetadata, List, ListReturn, ListSelect, MailboxFilter, MailboxName, Notify, NotifyEvent, Qresync,
    Request, Select, StatusItem,
};

/// Patterns in one LIST at most.
const PATTERNS_MAX: usize = 64;
/// Metadata entries in one command at most.
const ENTRIES_MAX: usize = 256;

/// RFC 9051 6.3.2, RFC 7162 3.1.8 and 3.2.5.
pub(super) fn select(c: &mut Cursor<'_>, read_only: bool) -> Parse<Request> {
    let mut select = Select { mailbox: argument(c)?, read_only, condstore: false, qresync: None };
    if !c.at_end() {
        c.sp()?;
        c.list(8, |c| {
            match c.word()?.as_str() {
                "CONDSTORE" => select.condstore = true,
                "QRESYNC" => {
                    c.sp()?;
                    select.qresync = Some(qresync(c)?);
                }
                _ => return syntax("unknown SELECT parameter"),
            }
            Ok(())
        })?;
    }
    Ok(Request::Select(select))
}

fn qresync(c: &mut Cursor<'_>) -> Parse<Qresync> {
    c.expect(b'(', "QRESYNC needs a list")?;
    let uid_validity = c.nz_number()?;
    c.sp()?;
    let mut q = Qresync { uid_validity, modseq: c.number64()?, known_uids: None, seq_match: None };
    c.spaces();
    if c.peek().is_some_and(|b| b.is_ascii_digit()) {
        q.known_uids = Some(c.set()?);
        c.spaces();
    }
    if c.eat(b'(') {
        let seqs = c.set()?;
        c.sp()?;
        let uids = c.set()?;
        c.spaces();
        c.expect(b')', "the match data do not end")?;
        // RFC 7162 3.2.5.2: numbers only
        if !seqs.is_numbers() || !uids.is_numbers() {
            return syntax("the match data are numbers only");
        }
        q.seq_match = Some((seqs, uids));
        c.spaces();
    }
    if q.known_uids.as_ref().is_some_and(|k| !k.is_numbers()) {
        return syntax("the known UIDs are numbers only");
    }
    c.expect(b')', "QRESYNC does not end")?;
    Ok(q)
}

/// RFC 9051 6.3.4, RFC 6154 5.1.
pub(super) fn create(c: &mut Cursor<'_>) -> Parse<Request> {
    c.sp()?;
    let name = c.astring()?;
    let parent_only = name.len() > 1 && name.ends_with(b"/");
    if name.contains(&0) || name.len() > 4 * crate::codec::name::NAME_MAX_BYTES {
        return Err(super::Fault {
            kind: crate::codec::ast::ErrorKind::Cannot,
            message: "this can not be a mailbox name".into(),
        });
    }
    let mailbox = MailboxName::new(&crate::codec::name::decode(&name, c.is_utf8()));
    let mut special_use = Vec::new();
    if !c.at_end() {
        c.sp()?;
        c.list(4, |c| {
            if !c.eat_word("USE") {
                return syntax("unknown CREATE parameter");
            }
            c.spaces();
            special_use = c.list(16, super::cursor::Cursor::special_use)?;
            Ok(())
        })?;
    }
    Ok(Request::Create { mailbox, parent_only, special_use })
}

fn reference(c: &mut Cursor<'_>) -> Parse<String> {
    let bytes = c.astring()?;
    if bytes.len() > 4 * crate::codec::name::NAME_MAX_BYTES {
        return limit("the reference is too long");
    }
    Ok(crate::codec::name::decode(&bytes, c.is_utf8()))
}

/// RFC 3501 6.3.9.
pub(super) fn lsub(c: &mut Cursor<'_>) -> Parse<Request> {
    c.sp()?;
    let reference = reference(c)?;
    c.sp()?;
    Ok(Request::List(List {
        lsub: true,
        reference,
        patterns: vec![c.pattern()?],
        extended: false,
        select: ListSelect { subscribed: true, ..ListSelect::default() },
        returns: ListReturn { subscribed: true, ..ListReturn::default() },
    }))
}

/// RFC 9051 6.3.9.
pub(super) fn list(c: &mut Cursor<'_>) -> Parse<Request> {
    c.sp()?;
    let mut list = List {
        lsub: false,
        reference: String::new(),
        patterns: Vec::new(),
        extended: false,
        select: ListSelect::default(),
        returns: ListReturn::default(),
    };
    if c.peek() == Some(b'(') {
        list.extended = true;
        c.list(16, |c| {
            match c.word()?.as_str() {
                "SUBSCRIBED" => list.select.subscribed = true,
                "REMOTE" => list.select.remote = true,
                "RECURSIVEMATCH" => list.select.recursive_match = true,
                "SPECIAL-USE" => list.select.special_use = true,
                _ => return syntax("unknown LIST selection option"),
            }
            Ok(())
        })?;
        // RFC 9051 6.3.9.1: RECURSIVEMATCH modifies another option (REMOTE is not one of them)
        if list.select.recursive_match && !list.select.subscribed && !list.select.special_use {
            return syntax("RECURSIVEMATCH needs another selection option");
        }
        c.sp()?;
    }
    list.reference = reference(c)?;
    c.sp()?;
    if c.peek() == Some(b'(') {
        list.extended = true;
        list.patterns = c.list(PATTERNS_MAX, super::cursor::Cursor::pattern)?;
        if list.patterns.is_empty() {
            return syntax("a pattern is missing");
        }
    } else {
        list.patterns.push(c.pattern()?);
    }
    // RFC 5258 3: SUBSCRIBED as a selection option implies the return option; RFC 6154 5.2 leaves it to the server.
    list.returns.subscribed = list.select.subscribed;
    list.returns.special_use = list.select.special_use;
    if !c.at_end() {
        c.sp()?;
        if !c.eat_word("RETURN") {
            return syntax("RETURN is missing");
        }
        list.extended = true;
        c.spaces();
        c.list(16, |c| {
            match c.word()?.as_str() {
                "SUBSCRIBED" => list.returns.subscribed = true,
                "CHILDREN" => list.returns.children = true,
                "SPECIAL-USE" => list.returns.special_use = true,
                "STATUS" => {
                    c.sp()?;
                    list.returns.status = Some(status_items(c)?);
                }
                _ => return syntax("unknown LIST return option"),
            }
            Ok(())
        })?;
    }
    Ok(Request::List(list))
}

/// RFC 9051 6.3.11.
pub(super) fn status(c: &mut Cursor<'_>) -> Parse<Request> {
    let mailbox = argument(c)?;
    c.sp()?;
    Ok(Request::Status { mailbox, items: status_items(c)? })
}

fn status_items(c: &mut Cursor<'_>) -> Parse<Vec<StatusItem>> {
    let mut items: Vec<StatusItem> = Vec::new();
    c.list(64, |c| {
        let item = match c.word()?.as_str() {
            "MESSAGES" => StatusItem::Messages,
            "RECENT" => StatusItem::Recent,
            "UIDNEXT" => StatusItem::UidNext,
            "UIDVALIDITY" => StatusItem::UidValidity,
            "UNSEEN" => StatusItem::Unseen,
            "DELETED" => StatusItem::Deleted,
            "SIZE" => StatusItem::Size,
            "HIGHESTMODSEQ" => StatusItem::HighestModSeq,
            "APPENDLIMIT" => StatusItem::AppendLimit,
            "MAILBOXID" => StatusItem::MailboxId,
            "DELETED-STORAGE" => StatusItem::DeletedStorage,
            _ => return syntax("unknown STATUS item"),
        };
        if !items.contains(&item) {
            items.push(item);
        }
        Ok(())
    })?;
    if items.is_empty() { syntax("STATUS needs an item") } else { Ok(items) }
}

/// RFC 9208 4.1.3.
pub(super) fn set_quota(c: &mut Cursor<'_>) -> Parse<Request> {
    c.sp()?;
    let root = c.astring_text()?;
    c.sp()?;
    let limits = c.list(32, |c| {
        let name = c.word()?;
        c.sp()?;
        Ok((name, c.number64()?))
    })?;
    Ok(Request::SetQuota { root, limits })
}

/// The empty name is the server (RFC 5464 4.2).
fn metadata_mailbox(c: &mut Cursor<'_>) -> Parse<Option<MailboxName>> {
    c.mailbox().map(|m| Some(m).filter(|m| !m.as_str().is_empty()))
}

/// RFC 5464 4.2. The options stand before the mailbox in the grammar and behind it in the RFC's examples: both are taken.
pub(super) fn get_metadata(c: &mut Cursor<'_>) -> Parse<Request> {
    c.sp()?;
    let mut get = GetMetadata { mailbox: None, entries: Vec::new(), max_size_bytes: None, depth: Depth::Zero };
    if c.peek() == Some(b'(') {
        metadata_options(c, &mut get)?;
        c.sp()?;
    }
    get.mailbox = metadata_mailbox(c)?;
    c.sp()?;
    if c.looks_at("(MAXSIZE ") || c.looks_at("(DEPTH ") {
        metadata_options(c, &mut get)?;
        c.sp()?;
    }
    get.entries = if c.peek() == Some(b'(') { c.list(ENTRIES_MAX, entry)? } else { vec![entry(c)?] };
    if get.entries.is_empty() { syntax("an entry name is missing") } else { Ok(Request::GetMetadata(get)) }
}

fn metadata_options(c: &mut Cursor<'_>, get: &mut GetMetadata) -> Parse<()> {
    c.list(8, |c| {
        match c.word()?.as_str() {
            "MAXSIZE" => {
                c.sp()?;
                get.max_size_bytes = Some(c.number()?);
            }
            "DEPTH" => {
                c.sp()?;
                get.depth = match c.word()?.as_str() {
                    "0" => Depth::Zero,
                    "1" => Depth::One,
                    "INFINITY" => Depth::Infinity,
                    _ => return syntax("DEPTH is 0, 1 or infinity"),
                };
            }
            _ => return syntax("unknown GETMETADATA option"),
        }
        Ok(())
    })
    .map(|_| ())
}

/// RFC 5464 3.2: begins with `/`, no `*`, `%`, `//`, no `/` at the end, not case-sensitive.
fn entry(c: &mut Cursor<'_>) -> Parse<String> {
    let name = c.astring()?;
    let good = name.len() <= 1024
        && name.starts_with(b"/")
        && !name.ends_with(b"/")
        && name.iter().all(|b| matches!(b, 0x20..=0x7e) && !matches!(b, b'*' | b'%'))
        && !name.windows(2).any(|w| w == b"//");
    if good { Ok(super::text(&name).to_ascii_lowercase()) } else { syntax("this is not a metadata entry name") }
}

/// RFC 5464 4.3.
pub(super) fn set_metadata(c: &mut Cursor<'_>) -> Parse<Request> {
    c.sp()?;
    let mailbox = metadata_mailbox(c)?;
    c.sp()?;
    let entries = c.list(ENTRIES_MAX, |c| {
        let name = entry(c)?;
        c.sp()?;
        Ok((name, c.nstring()?.map(std::borrow::Cow::into_owned)))
    })?;
    if entries.is_empty() { syntax("an entry is missing") } else { Ok(Request::SetMetadata { mailbox, entries }) }
}

/// RFC 5465 8.
pub(super) fn notify(c: &mut Cursor<'_>) -> Parse<Request> {
    c.sp()?;
    if c.eat_word("NONE") {
        return Ok(Request::Notify(Notify::None));
    }
    if !c.eat_word("SET") {
        return syntax("NOTIFY is followed by SET or NONE");
    }
    c.sp()?;
    let status = c.eat_word("STATUS");
    if status {
        c.sp()?;
    }
    let mut groups = vec![event_group(c)?];
    while !c.at_end() {
        if groups.len() == 64 {
            return limit("too many event groups");
        }
        c.sp()?;
        groups.push(event_group(c)?);
    }
    Ok(Request::Notify(Notify::Set { status, groups }))
}

fn event_group(c: &mut Cursor<'_>) -> Parse<EventGroup> {
    c.expect(b'(', "an event group is missing")?;
    let filter = match c.word()?.as_str() {
        "SELECTED" => MailboxFilter::Selected,
        "SELECTED-DELAYED" => MailboxFilter::SelectedDelayed,
        "INBOXES" => MailboxFilter::Inboxes,
        "PERSONAL" => MailboxFilter::Personal,
        "SUBSCRIBED" => MailboxFilter::Subscribed,
        "SUBTREE" => MailboxFilter::Subtree(mailboxes(c)?),
        "MAILBOXES" => MailboxFilter::Mailboxes(mailboxes(c)?),
        _ => return syntax("unknown mailbox filter"),
    };
    c.sp()?;
    let events = if c.eat_word("NONE") { Vec::new() } else { c.list(32, event)? };
    c.spaces();
    c.expect(b')', "an event group does not end")?;
    Ok(EventGroup { filter, events })
}

fn mailboxes(c: &mut Cursor<'_>) -> Parse<Vec<MailboxName>> {
    c.sp()?;
    if c.peek() == Some(b'(') { c.list(LIST_MAX, super::cursor::Cursor::mailbox) } else { Ok(vec![c.mailbox()?]) }
}

fn event(c: &mut Cursor<'_>) -> Parse<NotifyEvent> {
    Ok(match c.word()?.as_str() {
        "MESSAGENEW" => {
            let items = if c.looks_at(" (") {
                c.spaces();
                c.list(64, fetch::item)?
            } else {
                Vec::new()
            };
            NotifyEvent::MessageNew(items)
        }
        "MESSAGEEXPUNGE" => NotifyEvent::MessageExpunge,
        "FLAGCHANGE" => NotifyEvent::FlagChange,
        "ANNOTATIONCHANGE" => NotifyEvent::AnnotationChange,
        "MAILBOXNAME" => NotifyEvent::MailboxName,
        "SUBSCRIPTIONCHANGE" => NotifyEvent::SubscriptionChange,
        "MAILBOXMETADATACHANGE" => NotifyEvent::MailboxMetadataChange,
        "SERVERMETADATACHANGE" => NotifyEvent::ServerMetadataChange,
        _ => return syntax("unknown event"),
    })
}
