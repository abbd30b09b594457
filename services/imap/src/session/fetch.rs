//! FETCH: from the list alone where that is enough, else in batches from the index and the bodies.
//!
//! Contract: memory is bounded by two batches, whatever is asked for: the next one is read while the client takes this one.
//! A message that another session expunged meanwhile is still answered (its body stays readable); a damaged one is shown as
//! damaged, and the others are not touched by it.

use super::answer::{Answer, Stop};
use super::item::{Facts, Shown, damaged, write_message};
use super::out::{Out, Sink};
use super::tell::{Tell, tell_step};
use super::{Done, Modes, Session};
use crate::backend::{Backend, FlagChange, FlagMode, Outcome};
use crate::codec::ast::{Fetch, FetchItem, PartialRange};
use crate::codec::respond::{self, FlagText};
use crate::settings::Settings;
use bytes::Bytes;
use futures_util::future::join;
use std::collections::HashSet;
use std::sync::Arc;
use twinpost_message::view::{Entry, Snapshot};
use twinpost_message::{AccountId, BodyId, Flags, ModSeq, Parsed, Uid};

/// Bodies in one batch at most, however small they are.
const BODIES_MAX: usize = 256;

/// What is asked of each message.
pub(super) struct Wanted {
    pub items: Vec<FetchItem>,
    /// Flags are told beside the items: reading set `\Seen` (RFC 9051 6.4.5).
    pub seen: HashSet<Uid>,
    pub modes: Modes,
}

/// Messages with what was read of them.
pub(super) type Batch<'a> = (&'a [(u32, Entry)], Vec<Facts>);

impl<B: Backend> Session<B> {
    /// RFC 9051 6.4.5.
    pub(super) async fn fetch<S: Sink>(&mut self, fetch: Fetch, out: &mut Out<'_, S>) -> Done {
        let account = self.who()?;
        if fetch.vanished && !(self.modes.qresync && fetch.uid && fetch.changed_since.is_some()) {
            // RFC 7162 3.2.6
            return Err(Answer::bad("VANISHED needs UID FETCH, CHANGEDSINCE and QRESYNC enabled").into());
        }
        let mut items = fetch.items;
        if fetch.uid && !items.contains(&FetchItem::Uid) {
            items.insert(0, FetchItem::Uid);
        }
        if fetch.changed_since.is_some() && !items.contains(&FetchItem::ModSeq) {
            // RFC 7162 3.1.4.1: CHANGEDSINCE implies MODSEQ.
            items.push(FetchItem::ModSeq);
        }
        // RFC 7162 3.1: both switch CONDSTORE on.
        self.modes.condstore |= items.contains(&FetchItem::ModSeq);
        let here = self.here()?;
        let (id, read_only) = (here.id, here.read_only);
        let mut picked = here.pick(&fetch.set, fetch.uid)?;
        let told = here.view.told().clone();
        let asked = fetch.vanished.then(|| fetch.set.uids(&told, &here.saved));
        if let Some(since) = fetch.changed_since {
            picked.retain(|(_, e)| e.modseq.0 > since);
        }
        if let Some(range) = fetch.partial {
            picked = part_of(picked, range);
        }
        if let (Some(asked), Some(since)) = (asked, fetch.changed_since) {
            let gone = self.vanished(account, id, &told, &asked, ModSeq(since), None).await?;
            respond::vanished(&gone, true, &mut out.buf);
        }
        let mut wanted = Wanted { items, seen: HashSet::new(), modes: self.modes };
        if !read_only && wanted.items.iter().any(FetchItem::sets_seen) {
            wanted.seen = self.set_seen(account, &mut picked, out).await?;
        }
        let keywords = self.here()?.view.told().clone();
        let unknown_encoding = self.write_messages(account, &picked, &keywords, &wanted, out).await?;
        Ok(if unknown_encoding {
            // RFC 3516 4.3
            Answer::no("UNKNOWN-CTE", "A part is encoded in a way that is not known here")
        } else {
            Answer::ok("Fetched")
        })
    }

    /// One commit marks all of them as read, before they are shown. If it cannot be done (a full disk), they are shown all the same.
    async fn set_seen<S: Sink>(
        &mut self,
        account: AccountId,
        picked: &mut [(u32, Entry)],
        out: &mut Out<'_, S>,
    ) -> Result<HashSet<Uid>, Stop> {
        let unread: Vec<Uid> = picked.iter().filter(|(_, e)| !e.flags.contains(Flags::SEEN)).map(|(_, e)| e.uid).collect();
        if unread.is_empty() {
            return Ok(HashSet::new());
        }
        let change =
            FlagChange { uids: unread, mode: FlagMode::Add, flags: Flags::SEEN, keywords: Vec::new(), unchanged_since: None };
        let id = self.here()?.id;
        if let Err(error) = self.backend.store_flags(account, id, change).await {
            tracing::warn!(%error, "messages could not be marked as read");
            return Ok(HashSet::new());
        }
        let modes = self.modes;
        let here = self.here()?;
        let step = here.view.advance(false);
        // Those that are shown carry their new flags; the rest of the step is told as always.
        let shown: HashSet<Uid> = picked.iter().map(|(_, e)| e.uid).collect();
        let now = here.view.told();
        let ours = |uid: Uid| shown.contains(&uid);
        tell_step(modes, &step, now, |c| if ours(c.entry.uid) { Tell::Nothing } else { Tell::Flags }, out).await?;
        for (_, entry) in picked.iter_mut() {
            if let Some((_, is)) = now.find(entry.uid) {
                *entry = *is;
            }
        }
        Ok(step.changed.iter().map(|c| c.entry.uid).filter(|u| ours(*u)).collect())
    }

    /// Writes the FETCH responses of these messages. True: an encoding was not known.
    pub(super) async fn write_messages<S: Sink>(
        &self,
        account: AccountId,
        list: &[(u32, Entry)],
        names: &Snapshot,
        wanted: &Wanted,
        out: &mut Out<'_, S>,
    ) -> Result<bool, Stop> {
        let bodies = wanted.items.iter().any(FetchItem::needs_body);
        if !bodies && !wanted.items.iter().any(FetchItem::needs_parsed) {
            // The list alone: no store is asked.
            let none = Facts::default();
            let mut flags = FlagText::default();
            for (seq, entry) in list {
                let shown = Shown { seq: *seq, entry, facts: &none, keywords: &names.keywords };
                write_message(wanted, &shown, &mut flags, out).await?;
            }
            return Ok(false);
        }
        let mut unknown_encoding = false;
        let mut flags = FlagText::default();
        let mut batches = batches(list, bodies, &self.settings).into_iter();
        let mut ready = match batches.next() {
            Some(batch) => Some(load(&*self.backend, account, batch, bodies).await?),
            None => None,
        };
        while let Some((messages, facts)) = ready.take() {
            let ahead = async {
                match batches.next() {
                    Some(batch) => load(&*self.backend, account, batch, bodies).await.map(Some),
                    None => Ok(None),
                }
            };
            let write = async {
                for ((seq, entry), facts) in messages.iter().zip(&facts) {
                    let shown = Shown { seq: *seq, entry, facts, keywords: &names.keywords };
                    unknown_encoding |= write_message(wanted, &shown, &mut flags, out).await?;
                }
                Ok::<(), std::io::Error>(())
            };
            let (written, next) = join(write, ahead).await;
            written?;
            ready = next?;
        }
        Ok(unknown_encoding)
    }
}

/// Cuts the list into batches: by bytes where bodies are read, by number where the index is.
pub(super) fn batches<'a>(list: &'a [(u32, Entry)], bodies: bool, settings: &Settings) -> Vec<&'a [(u32, Entry)]> {
    if !bodies {
        return list.chunks(settings.parsed_batch.max(1)).collect();
    }
    let mut out = Vec::new();
    let (mut start, mut bytes) = (0, 0u64);
    for (i, (_, entry)) in list.iter().enumerate() {
        let size = u64::from(entry.size_bytes);
        if i > start && (bytes + size > settings.fetch_ahead_bytes || i - start >= BODIES_MAX) {
            out.push(&list[start..i]);
            (start, bytes) = (i, 0);
        }
        bytes += size;
    }
    if start < list.len() {
        out.push(&list[start..]);
    }
    out
}

pub(super) async fn load<'a, B: Backend>(
    backend: &B,
    account: AccountId,
    batch: &'a [(u32, Entry)],
    bodies: bool,
) -> Outcome<Batch<'a>> {
    let ids: Vec<BodyId> = batch.iter().map(|(_, e)| e.body).collect();
    let parsed = backend.parsed(account, &ids).await?;
    let mut bytes: Vec<Option<Outcome<Bytes>>> = match bodies {
        true => backend.bodies(account, &ids).await?.into_iter().map(Some).collect(),
        false => vec![None; ids.len()],
    };
    // A row of the index that cannot be read: the body tells the same.
    for (i, id) in ids.iter().enumerate() {
        if parsed.get(i).is_some_and(Result::is_err) && bytes[i].is_none() {
            bytes[i] = backend.bodies(account, &[*id]).await?.pop();
        }
    }
    let facts = batch.iter().zip(parsed).zip(bytes).map(|(((_, entry), parsed), body)| facts(entry, parsed, body)).collect();
    Ok((batch, facts))
}

fn facts(entry: &Entry, parsed: Outcome<Arc<Parsed>>, body: Option<Outcome<Bytes>>) -> Facts {
    match (parsed, body) {
        (Ok(parsed), None) => Facts { parsed: Some(parsed), ..Facts::default() },
        (Ok(parsed), Some(Ok(body))) => Facts { parsed: Some(parsed), body: Some(body), damage: None },
        (Ok(parsed), Some(Err(why))) => damaged(entry, Some(&parsed), &why),
        // The index row is bad and the body may be good: parse it again.
        (Err(_), Some(Ok(body))) => Facts { parsed: Some(Arc::new(Parsed::parse(&body))), body: Some(body), damage: None },
        (Err(why), _) => damaged(entry, None, &why),
    }
}

/// RFC 9394 3.1: the first or last messages of what would be answered.
pub(super) fn part_of<T>(mut list: Vec<T>, range: PartialRange) -> Vec<T> {
    let len = list.len();
    let (first, last) = (range.first as usize, (range.last as usize).min(len));
    if first > last {
        return Vec::new();
    }
    if range.from_end {
        list.truncate(len - (first - 1));
        list.drain(..list.len() - (last - first + 1));
    } else {
        list.truncate(last);
        list.drain(..first - 1);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_result() {
        let cut = |from_end, first, last| part_of((1..=10).collect::<Vec<u32>>(), PartialRange { from_end, first, last });
        assert_eq!(cut(false, 1, 3), [1, 2, 3]);
        assert_eq!(cut(false, 9, 30), [9, 10]);
        assert_eq!(cut(true, 1, 3), [8, 9, 10]);
        assert_eq!(cut(true, 4, 5), [6, 7]);
        assert_eq!(cut(true, 9, 30), [1, 2]);
        assert!(cut(false, 11, 12).is_empty() && cut(true, 11, 12).is_empty());
    }
}
