//! GETMETADATA and SETMETADATA (RFC 5464).

use super::answer::{Answer, Stop};
use super::out::{Out, Sink};
use super::{Done, Session};
use crate::backend::Backend;
use crate::codec::ast::{Depth, GetMetadata, MailboxName};
use crate::codec::respond;
use bytes::Bytes;
use twinpost_message::MailboxId;

impl<B: Backend> Session<B> {
    async fn annotated(&self, mailbox: Option<&MailboxName>) -> Result<Option<MailboxId>, Stop> {
        match mailbox {
            None => Ok(None),
            Some(name) => Ok(Some(self.find(name).await?.id)),
        }
    }

    /// RFC 5464 4.2.
    pub(super) async fn get_metadata<S: Sink>(&mut self, get: GetMetadata, out: &mut Out<'_, S>) -> Done {
        let target = self.annotated(get.mailbox.as_ref()).await?;
        let known = self.backend.annotations(self.who()?, target).await?;
        let mut found: Vec<(&str, Option<&Bytes>)> = Vec::new();
        for entry in get.entries.iter().map(|e| e.trim_end_matches('/')) {
            check_name(entry)?;
            let before = found.len();
            for (name, value) in &known {
                let matches = name.strip_prefix(entry).is_some_and(|rest| match get.depth {
                    Depth::Zero => rest.is_empty(),
                    Depth::One => rest.is_empty() || (rest.starts_with('/') && !rest[1..].contains('/')),
                    Depth::Infinity => rest.is_empty() || rest.starts_with('/'),
                });
                if matches {
                    found.push((name, Some(value)));
                }
            }
            if found.len() == before && get.depth == Depth::Zero {
                found.push((entry, None));
            }
        }
        found.sort_by_key(|(name, _)| *name);
        found.dedup_by_key(|(name, _)| *name);
        // RFC 5464 4.2.1: what is longer is left out, and the size of the longest told.
        let limit = get.max_size_bytes.map_or(usize::MAX, |n| n as usize);
        let longest = found.iter().filter_map(|(_, v)| v.map(Bytes::len)).filter(|n| *n > limit).max();
        found.retain(|(_, v)| v.is_none_or(|v| v.len() <= limit));
        if !found.is_empty() {
            let name = get.mailbox.as_ref().map_or("", MailboxName::as_str);
            let entries = found.iter().map(|(name, value)| (*name, value.map(|v| &v[..])));
            respond::metadata(name, entries, self.modes.utf8, &mut out.buf);
        }
        let done = Answer::ok("Done");
        Ok(match longest {
            Some(n) => done.with_code(format!("METADATA LONGENTRIES {n}")),
            None => done,
        })
    }

    /// RFC 5464 4.3.
    pub(super) async fn set_metadata(&mut self, mailbox: Option<MailboxName>, entries: Vec<(String, Option<Vec<u8>>)>) -> Done {
        let target = self.annotated(mailbox.as_ref()).await?;
        let limit = self.settings.annotation_max_bytes;
        for (name, value) in &entries {
            check_name(name)?;
            if target.is_none() && name.starts_with("/shared") {
                return Ok(Answer::no("NOPERM", "Annotations of the server are made by its administrator"));
            }
            if value.as_ref().is_some_and(|v| v.len() > limit) {
                let text = "The value is too long";
                return Ok(Answer::no("LIMIT", text).with_code(format!("METADATA MAXSIZE {limit}")));
            }
        }
        let entries = entries.into_iter().map(|(name, value)| (name, value.map(Bytes::from))).collect();
        match self.backend.set_annotations(self.who()?, target, entries).await {
            Err(crate::Refusal::Limit(text)) => Ok(Answer::no("METADATA TOOMANY", text)),
            other => other.map(|()| Answer::ok("Done")).map_err(Into::into),
        }
    }
}

/// RFC 5464 3.2: names live below /private or /shared, without empty components, wildcards or more than ASCII.
fn check_name(name: &str) -> Result<(), Stop> {
    let rest = name.strip_prefix("/private").or_else(|| name.strip_prefix("/shared"));
    let fine = |rest: &str| {
        (rest.is_empty() || rest.starts_with('/'))
            && !rest.contains("//")
            && !rest.ends_with('/')
            && rest
                .bytes()
                .all(|b| (0x20..0x7f).contains(&b) && !matches!(b, b'*' | b'%' | b'(' | b')' | b'{' | b'"' | b' ' | b'\\'))
    };
    if rest.is_some_and(fine) { Ok(()) } else { Err(Answer::bad("Annotations are named /private/... or /shared/...").into()) }
}
