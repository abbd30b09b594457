//! STORE, and how flags are written.

use super::answer::{Answer, Status};
use super::out::{Out, Sink};
use super::tell::{Tell, tell_step, write_change};
use super::{Done, Session};
use crate::algorithm::ranges::Ranges;
use crate::backend::{Backend, FlagChange, FlagMode};
use crate::codec::ast::{FlagList, Store, StoreAction};
use std::collections::{HashMap, HashSet};
use twinpost_message::view::{Entry, Snapshot};
use twinpost_message::{Flags, ModSeq, Uid};

/// `* FLAGS (..)`: the flags that the mailbox knows, and PERMANENTFLAGS with `\*` (RFC 9051 7.1, 7.3.5).
pub(super) fn write_flags_line(keywords: &[String], out: &mut Vec<u8>) {
    out.extend_from_slice(b"* FLAGS ");
    write_all(keywords, false, out);
    out.extend_from_slice(b"\r\n* OK [PERMANENTFLAGS ");
    write_all(keywords, true, out);
    out.extend_from_slice(b"] These flags are kept\r\n");
}

/// All flags there are, with `\*` when new keywords may be made.
pub(super) fn write_all(keywords: &[String], star: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"(\\Answered \\Flagged \\Deleted \\Seen \\Draft");
    for name in keywords {
        out.push(b' ');
        out.extend_from_slice(name.as_bytes());
    }
    // RFC 9051 7.1: \* only while there is room for a keyword.
    if star && keywords.len() < Flags::KEYWORDS_MAX {
        out.extend_from_slice(b" \\*");
    }
    out.push(b')');
}

/// The flags that a client means, as bits of this mailbox. Keywords that it does not have are passed over.
pub(super) fn bits(list: &FlagList, snapshot: &Snapshot) -> Flags {
    list.keywords.iter().fold(list.system, |flags, word| {
        match snapshot.keywords.iter().position(|k| k.eq_ignore_ascii_case(word)) {
            Some(index) if index < Flags::KEYWORDS_MAX => flags.with(Flags::keyword(index)),
            _ => flags,
        }
    })
}

impl<B: Backend> Session<B> {
    /// RFC 9051 6.4.6, RFC 7162 3.1.3.
    pub(super) async fn store<S: Sink>(&mut self, store: Store, out: &mut Out<'_, S>) -> Done {
        let account = self.who()?;
        if store.unchanged_since.is_some() {
            // RFC 7162 3.1: UNCHANGEDSINCE switches CONDSTORE on.
            self.modes.condstore = true;
        }
        let modes = self.modes;
        let here = self.here_to_write()?;
        let mailbox = here.id;
        let picked = here.pick(&store.set, store.uid)?;
        if picked.is_empty() {
            return Ok(Answer::ok("No messages"));
        }
        let change = FlagChange {
            uids: picked.iter().map(|(_, e)| e.uid).collect(),
            mode: match store.action {
                StoreAction::Replace => FlagMode::Replace,
                StoreAction::Add => FlagMode::Add,
                StoreAction::Remove => FlagMode::Remove,
            },
            flags: store.flags.system,
            keywords: store.flags.keywords.clone(),
            unchanged_since: store.unchanged_since.map(ModSeq),
        };
        let outcome = self.backend.store_flags(account, mailbox, change).await?;

        // These were told between the client's command and its answer: whatever it believes of them by now, it hears the result.
        let unsure: HashSet<Uid> = std::mem::take(&mut self.just_told).into_iter().collect();
        let here = self.here()?;
        let old = here.view.told().clone();
        let step = here.view.advance(false);
        let now = here.view.told();
        let meant = bits(&store.flags, now);
        let skipped: HashSet<Uid> = outcome.modified.iter().chain(&outcome.missing).copied().collect();
        let stored: HashMap<Uid, &Entry> = picked.iter().map(|(_, e)| (e.uid, e)).filter(|(u, _)| !skipped.contains(u)).collect();
        // What a client that was told nothing believes: the flags it knew, changed as it asked.
        let expected = |uid: Uid, before: Flags| match store.action {
            _ if !stored.contains_key(&uid) => None,
            StoreAction::Replace => Some(meant),
            StoreAction::Add => Some(before.with(meant)),
            StoreAction::Remove => Some(before.without(meant)),
        };
        // RFC 9051 6.4.6: without .SILENT each message that was stored is told, changed or not; with it only what the client
        // cannot know. RFC 7162 3.1.3: with UNCHANGEDSINCE the new MODSEQ of each is told in any case.
        let every = !store.silent || store.unchanged_since.is_some();
        tell_step(
            modes,
            &step,
            now,
            |c| match expected(c.entry.uid, c.before) {
                Some(_) if every => Tell::Nothing,
                Some(flags) if flags == c.entry.flags && !unsure.contains(&c.entry.uid) => Tell::ModSeq,
                _ => Tell::Flags,
            },
            out,
        )
        .await?;
        if every {
            for (_, entry) in &picked {
                let Some((seq, is)) = stored.get(&entry.uid).and_then(|e| now.find(e.uid)) else { continue };
                let before = old.find(entry.uid).map_or(entry.flags, |(_, e)| e.flags);
                let sure = expected(entry.uid, before) == Some(is.flags) && !unsure.contains(&entry.uid);
                let silent = store.silent && sure;
                write_change(modes, seq, is, (!silent).then_some(is.flags), &now.keywords, &mut out.buf);
                out.relieve().await?;
            }
        }
        Ok(stored_answer(&store, &picked, &outcome.modified, &outcome.missing))
    }
}

fn stored_answer(store: &Store, picked: &[(u32, Entry)], modified: &[Uid], missing: &[Uid]) -> Answer {
    let refused: HashSet<Uid> = match store.unchanged_since {
        // RFC 7162 3.1.3: a message that is gone has certainly changed.
        Some(_) => modified.iter().chain(missing).copied().collect(),
        None => HashSet::new(),
    };
    // A client that names messages by UID has no claim that they are there; one that names numbers had.
    let gone = !missing.is_empty() && !store.uid;
    if refused.is_empty() {
        // RFC 5530 3 EXPUNGEISSUED
        return match gone {
            true => Answer::no("EXPUNGEISSUED", "Some of the messages were expunged by another session"),
            false => Answer::ok("Stored"),
        };
    }
    let numbers = Ranges::from_numbers(
        picked.iter().filter(|(_, e)| refused.contains(&e.uid)).map(|(seq, e)| if store.uid { e.uid.0 } else { *seq }),
    );
    let mut code = b"MODIFIED ".to_vec();
    numbers.write(&mut code);
    let code = String::from_utf8_lossy(&code).into_owned();
    if gone {
        return Answer { status: Status::No, code: Some(code.into()), text: "Some of the messages no longer exist".into() };
    }
    Answer::ok("Some messages were changed by somebody else").with_code(code)
}
