//! SEARCH, SORT and THREAD (RFC 9051 6.4.4, RFC 5256, RFC 5957, RFC 5032, RFC 7162, RFC 8474, RFC 8514, RFC 9394).

use super::cursor::{Cursor, Fault, Parse, limit, syntax, text};
use super::fetch::partial_range;
use crate::codec::ast::{
    AddressField, DateField, ErrorKind, Request, ReturnOptions, Search, SearchKey, SortBy, SortKey, ThreadAlgorithm,
};
use std::borrow::Cow;
use twinpost_message::Flags;

/// NOT, OR and parentheses in each other at most. Clients that look for many Message-IDs nest one OR in the other.
const DEPTH_MAX: usize = 128;
/// Keys in one program at most.
const KEYS_MAX: usize = 4096;

/// How the strings of a program are read.
#[derive(Clone, Copy)]
enum Charset {
    /// None named: UTF-8 (RFC 9051 6.4.4), Latin-1 if it is not.
    Default,
    /// By name.
    Named(&'static encoding_rs::Encoding),
}

struct Program {
    charset: Charset,
    keys: usize,
}

pub(super) fn search(c: &mut Cursor<'_>, uid: bool) -> Parse<Search> {
    c.sp()?;
    let returns = return_options(c)?;
    let charset = if c.eat_word("CHARSET") {
        c.sp()?;
        let charset = charset(c)?;
        c.sp()?;
        charset
    } else {
        Charset::Default
    };
    Ok(Search { uid, returns, program: program(c, charset)? })
}

pub(super) fn sort(c: &mut Cursor<'_>, uid: bool) -> Parse<Request> {
    c.sp()?;
    let returns = return_options(c)?;
    let keys = c.list(32, |c| {
        let reverse = c.eat_word("REVERSE");
        if reverse {
            c.sp()?;
        }
        let by = match c.word()?.as_str() {
            "ARRIVAL" => SortBy::Arrival,
            "CC" => SortBy::Cc,
            "DATE" => SortBy::Date,
            "FROM" => SortBy::From,
            "SIZE" => SortBy::Size,
            "SUBJECT" => SortBy::Subject,
            "TO" => SortBy::To,
            "DISPLAYFROM" => SortBy::DisplayFrom,
            "DISPLAYTO" => SortBy::DisplayTo,
            _ => return syntax("unknown SORT key"),
        };
        Ok(SortKey { reverse, by })
    })?;
    if keys.is_empty() {
        return syntax("SORT needs a key");
    }
    c.sp()?;
    let charset = charset(c)?;
    c.sp()?;
    Ok(Request::Sort { keys, search: Search { uid, returns, program: program(c, charset)? } })
}

pub(super) fn thread(c: &mut Cursor<'_>, uid: bool) -> Parse<Request> {
    c.sp()?;
    let algorithm = match c.word()?.as_str() {
        "ORDEREDSUBJECT" => ThreadAlgorithm::OrderedSubject,
        "REFERENCES" => ThreadAlgorithm::References,
        _ => return syntax("unknown THREAD algorithm"),
    };
    c.sp()?;
    let charset = charset(c)?;
    c.sp()?;
    Ok(Request::Thread { algorithm, search: Search { uid, returns: None, program: program(c, charset)? } })
}

/// `RETURN (..)` with the space behind it.
fn return_options(c: &mut Cursor<'_>) -> Parse<Option<ReturnOptions>> {
    if !c.eat_word("RETURN") {
        return Ok(None);
    }
    c.spaces();
    let mut options = ReturnOptions::default();
    let given = c.list(16, |c| {
        match c.word()?.as_str() {
            "MIN" => options.min = true,
            "MAX" => options.max = true,
            "ALL" => options.all = true,
            "COUNT" => options.count = true,
            "SAVE" => options.save = true,
            "PARTIAL" => {
                c.sp()?;
                options.partial = Some(partial_range(c)?);
            }
            _ => return syntax("unknown RETURN option"),
        }
        Ok(())
    })?;
    // RFC 9051 6.4.4: an empty list means ALL
    options.all |= given.is_empty();
    // RFC 9394 3.1: not together
    if options.all && options.partial.is_some() {
        return syntax("ALL and PARTIAL exclude each other");
    }
    c.sp()?;
    Ok(Some(options))
}

/// US-ASCII and UTF-8 always (RFC 9051 6.4.4), others that are known on the web.
fn charset(c: &mut Cursor<'_>) -> Parse<Charset> {
    let name = c.astring()?;
    if name.eq_ignore_ascii_case(b"US-ASCII") || name.eq_ignore_ascii_case(b"UTF-8") {
        return Ok(Charset::Default);
    }
    // UTF-16 strings hold NUL bytes, which no literal may.
    match encoding_rs::Encoding::for_label_no_replacement(&name) {
        Some(e) if e.is_ascii_compatible() || e == encoding_rs::ISO_2022_JP => Ok(Charset::Named(e)),
        _ => Err(Fault { kind: ErrorKind::BadCharset, message: Cow::Borrowed("this charset is not known") }),
    }
}

fn program(c: &mut Cursor<'_>, charset: Charset) -> Parse<SearchKey> {
    let mut program = Program { charset, keys: 0 };
    let mut keys = vec![program.key(c, 0)?];
    while !c.at_end() {
        c.sp()?;
        keys.push(program.key(c, 0)?);
    }
    Ok(and(keys))
}

fn and(mut keys: Vec<SearchKey>) -> SearchKey {
    match keys.len() {
        1 => keys.pop().unwrap_or(SearchKey::All),
        _ => SearchKey::And(keys),
    }
}

fn not(key: SearchKey) -> SearchKey {
    SearchKey::Not(Box::new(key))
}

impl Program {
    fn string(&self, c: &mut Cursor<'_>) -> Parse<String> {
        c.sp()?;
        let bytes = c.astring()?;
        Ok(match self.charset {
            Charset::Default => text(&bytes),
            Charset::Named(encoding) => encoding.decode_without_bom_handling(&bytes).0.into_owned(),
        })
    }

    fn key(&mut self, c: &mut Cursor<'_>, depth: usize) -> Parse<SearchKey> {
        self.keys += 1;
        if depth > DEPTH_MAX || self.keys > KEYS_MAX {
            return limit("the search is nested too deep or too long");
        }
        match c.peek() {
            Some(b'(') => {
                let keys = c.list(KEYS_MAX, |c| self.key(c, depth + 1))?;
                return if keys.is_empty() { syntax("a search key is missing") } else { Ok(and(keys)) };
            }
            Some(b'0'..=b'9' | b'*' | b'$') => return c.set().map(SearchKey::Sequence),
            _ => {}
        }
        let word = c.word()?;
        let address = |field| move |value| SearchKey::Address(field, value);
        Ok(match word.as_str() {
            "ALL" => SearchKey::All,
            "ANSWERED" => SearchKey::Flag(Flags::ANSWERED),
            "DELETED" => SearchKey::Flag(Flags::DELETED),
            "DRAFT" => SearchKey::Flag(Flags::DRAFT),
            "FLAGGED" => SearchKey::Flag(Flags::FLAGGED),
            "SEEN" => SearchKey::Flag(Flags::SEEN),
            "UNANSWERED" => not(SearchKey::Flag(Flags::ANSWERED)),
            "UNDELETED" => not(SearchKey::Flag(Flags::DELETED)),
            "UNDRAFT" => not(SearchKey::Flag(Flags::DRAFT)),
            "UNFLAGGED" => not(SearchKey::Flag(Flags::FLAGGED)),
            "UNSEEN" => not(SearchKey::Flag(Flags::SEEN)),
            "RECENT" => SearchKey::Recent,
            "NEW" => SearchKey::And(vec![SearchKey::Recent, not(SearchKey::Flag(Flags::SEEN))]),
            "OLD" => not(SearchKey::Recent),
            "KEYWORD" => self.keyword(c)?,
            "UNKEYWORD" => not(self.keyword(c)?),
            "FROM" => self.string(c).map(address(AddressField::From))?,
            "TO" => self.string(c).map(address(AddressField::To))?,
            "CC" => self.string(c).map(address(AddressField::Cc))?,
            "BCC" => self.string(c).map(address(AddressField::Bcc))?,
            "SUBJECT" => SearchKey::Subject(self.string(c)?),
            "BODY" => SearchKey::Body(self.string(c)?),
            "TEXT" => SearchKey::Text(self.string(c)?),
            "HEADER" => {
                let name = self.string(c)?.to_ascii_lowercase();
                SearchKey::Header(name, self.string(c)?)
            }
            "BEFORE" => date(c, DateField::Received, SearchKey::Before)?,
            "ON" => date(c, DateField::Received, SearchKey::On)?,
            "SINCE" => date(c, DateField::Received, SearchKey::Since)?,
            "SENTBEFORE" => date(c, DateField::Sent, SearchKey::Before)?,
            "SENTON" => date(c, DateField::Sent, SearchKey::On)?,
            "SENTSINCE" => date(c, DateField::Sent, SearchKey::Since)?,
            "SAVEDBEFORE" => date(c, DateField::Saved, SearchKey::Before)?,
            "SAVEDON" => date(c, DateField::Saved, SearchKey::On)?,
            "SAVEDSINCE" => date(c, DateField::Saved, SearchKey::Since)?,
            "SAVEDATESUPPORTED" => SearchKey::SaveDateSupported,
            "LARGER" => SearchKey::Larger(number(c)?),
            "SMALLER" => SearchKey::Smaller(number(c)?),
            "OLDER" => SearchKey::Older(number(c)?),
            "YOUNGER" => SearchKey::Younger(number(c)?),
            "UID" => {
                c.sp()?;
                SearchKey::Uid(c.set()?)
            }
            "MODSEQ" => mod_seq(c)?,
            "EMAILID" => SearchKey::EmailId(self.string(c)?),
            "THREADID" => SearchKey::ThreadId(self.string(c)?),
            "NOT" => {
                c.sp()?;
                not(self.key(c, depth + 1)?)
            }
            "OR" => {
                c.sp()?;
                let a = self.key(c, depth + 1)?;
                c.sp()?;
                SearchKey::Or(Box::new(a), Box::new(self.key(c, depth + 1)?))
            }
            _ => return syntax("unknown search key"),
        })
    }

    fn keyword(&self, c: &mut Cursor<'_>) -> Parse<SearchKey> {
        c.sp()?;
        let mut flags = crate::codec::ast::FlagList::default();
        c.flag(&mut flags)?;
        Ok(match flags.keywords.pop() {
            Some(keyword) => SearchKey::Keyword(keyword),
            // `KEYWORD \Seen` is not in the grammar but has one meaning only.
            None if flags.system != Flags::default() => SearchKey::Flag(flags.system),
            None => SearchKey::Recent,
        })
    }
}

fn number(c: &mut Cursor<'_>) -> Parse<u32> {
    c.sp()?;
    c.number()
}

fn date(c: &mut Cursor<'_>, field: DateField, key: fn(DateField, i32) -> SearchKey) -> Parse<SearchKey> {
    c.sp()?;
    c.date().map(|day| key(field, day))
}

/// RFC 7162 3.1.5: `MODSEQ 620162338` or `MODSEQ "/flags/\\draft" all 620162338`; there is one mod-sequence for all entries.
fn mod_seq(c: &mut Cursor<'_>) -> Parse<SearchKey> {
    c.sp()?;
    if c.peek() == Some(b'"') {
        c.string()?;
        c.sp()?;
        if !matches!(c.word()?.as_str(), "PRIV" | "SHARED" | "ALL") {
            return syntax("a MODSEQ entry type is priv, shared or all");
        }
        c.sp()?;
    }
    c.number64().map(SearchKey::ModSeq)
}
