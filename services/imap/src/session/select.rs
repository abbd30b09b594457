//! SELECT and EXAMINE with QRESYNC, CLOSE, UNSELECT, EXPUNGE.

use super::answer::Answer;
use super::flags::{write_all, write_flags_line};
use super::mailboxes::mailbox_id;
use super::out::{Out, Sink};
use super::tell::write_change;
use super::{Done, Selected, Session, answer::Stop};
use crate::algorithm::ranges::Ranges;
use crate::backend::{Backend, MailboxInfo, Vanished};
use crate::codec::ast::{Qresync, Select};
use crate::codec::respond;
use crate::codec::set::{Bound, SequenceSet};
use crate::view::View;
use twinpost_message::view::Snapshot;
use twinpost_message::{AccountId, Flags, MailboxId, ModSeq, Uid};

impl<B: Backend> Session<B> {
    /// RFC 9051 6.3.2 and 6.3.3, RFC 7162 3.2.5.
    pub(super) async fn select<S: Sink>(&mut self, select: Select, out: &mut Out<'_, S>) -> Done {
        let account = self.who()?;
        if select.qresync.is_some() && !self.modes.qresync {
            // RFC 7162 3.2.5: the parameter needs ENABLE QRESYNC before.
            return Err(Answer::bad("QRESYNC is not enabled").into());
        }
        if self.selected.take().is_some() {
            // RFC 9051 7.1 CLOSED: what follows is about the new mailbox. A SELECT that fails leaves none selected.
            out.line("* OK [CLOSED] The mailbox before is closed");
        }
        let info = self.find(&select.mailbox).await?;
        let view = View::new(self.backend.open(account, info.id).await?);
        self.modes.condstore |= select.condstore || select.qresync.is_some();
        let here = Selected { id: info.id, read_only: select.read_only, view, saved: Ranges::default() };
        self.write_state(&here, &info, out).await?;
        if let Some(known) = &select.qresync {
            self.resync(account, &here, known, out).await?;
        }
        self.selected = Some(Box::new(here));
        let code = if select.read_only { "READ-ONLY" } else { "READ-WRITE" };
        Ok(Answer::ok("The mailbox is open").with_code(code))
    }

    async fn write_state<S: Sink>(&self, here: &Selected, info: &MailboxInfo, out: &mut Out<'_, S>) -> Result<(), Stop> {
        let told = here.view.told();
        if here.read_only {
            out.buf.extend_from_slice(b"* FLAGS ");
            write_all(&told.keywords, false, &mut out.buf);
            out.line("\r\n* OK [PERMANENTFLAGS ()] Nothing can be changed");
        } else {
            write_flags_line(&told.keywords, &mut out.buf);
        }
        out.line(&format!("* {} EXISTS", told.len()));
        if !self.modes.rev2 {
            out.line("* 0 RECENT");
            if let Some(first) = told.iter().position(|e| !e.flags.contains(Flags::SEEN)) {
                // RFC 3501 7.1
                out.line(&format!("* OK [UNSEEN {}] The first that was not read", first + 1));
            }
        }
        out.line(&format!("* OK [UIDVALIDITY {}] UIDs are valid", told.uid_validity));
        out.line(&format!("* OK [UIDNEXT {}] Predicted next UID", told.uid_next));
        out.line(&format!("* OK [HIGHESTMODSEQ {}] Highest", told.highest_modseq.0.max(1)));
        out.line(&format!("* OK [MAILBOXID ({})] Ok", mailbox_id(info.id)));
        if self.modes.rev2 {
            // RFC 9051 6.3.2: LIST tells the name in its own form.
            let line = respond::ListLine { name: &info.name, ..Default::default() };
            respond::list(&line, self.modes.utf8, &mut out.buf);
        }
        out.relieve().await?;
        Ok(())
    }

    /// What changed since the client was here (RFC 7162 3.2.5).
    async fn resync<S: Sink>(
        &self,
        account: AccountId,
        here: &Selected,
        known: &Qresync,
        out: &mut Out<'_, S>,
    ) -> Result<(), Stop> {
        let told = here.view.told();
        if known.uid_validity != told.uid_validity.0 {
            // RFC 7162 3.2.5: everything that the client remembers is void; it sees UIDVALIDITY above.
            return Ok(());
        }
        let uids = match &known.known_uids {
            Some(set) => set.uids(told, &Ranges::default()),
            None => Ranges::from_pairs([(1, u32::MAX)]),
        };
        let sure = known.seq_match.as_ref().and_then(|(seqs, uids)| last_match(told, seqs, uids));
        let gone = self.vanished(account, here.id, told, &uids, ModSeq(known.modseq), sure).await?;
        respond::vanished(&gone, true, &mut out.buf);
        for (seq, entry) in uids.select_uids(told).filter(|(_, e)| e.modseq.0 > known.modseq) {
            write_change(self.modes, seq, entry, Some(entry.flags), &told.keywords, &mut out.buf);
            out.relieve().await?;
        }
        Ok(())
    }

    /// UIDs among `uids` that were removed after `since` and that the client does not have in its numbers. What it still counts
    /// is told by VANISHED without EARLIER when its turn comes. `sure`: below and at this UID the client is known to be right.
    pub(super) async fn vanished(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        told: &Snapshot,
        uids: &Ranges,
        since: ModSeq,
        sure: Option<Uid>,
    ) -> Result<Ranges, Stop> {
        let gone = match self.backend.vanished(account, mailbox, since).await? {
            Vanished::Known(list) => Ranges::from_numbers(list.iter().map(|u| u.0)).intersection(uids),
            Vanished::Forgotten => {
                // RFC 7162 3.2.5.1: then all that is not there, from the first UID that may be wrong.
                let from = sure.map_or(1, |u| u.0.saturating_add(1));
                uids.intersection(&Ranges::from_pairs([(from, told.uid_next.0.saturating_sub(1))]))
            }
        };
        Ok(gone.difference(&Ranges::from_numbers(told.iter().map(|e| e.uid.0))))
    }

    /// RFC 9051 6.4.1: removes what bears `\Deleted`, tells nothing.
    pub(super) async fn close(&mut self) -> Done {
        let account = self.who()?;
        let here = self.here()?;
        let (id, read_only) = (here.id, here.read_only);
        let marked = marked(&here.view.newest(), None);
        if !read_only && !marked.is_empty() {
            self.backend.expunge(account, id, &marked).await?;
        }
        self.selected = None;
        Ok(Answer::ok("Closed"))
    }

    /// RFC 9051 6.4.2.
    pub(super) fn unselect(&mut self) -> Answer {
        self.selected = None;
        Answer::ok("Closed; nothing was removed")
    }

    /// RFC 9051 6.4.3 and 6.4.9.
    pub(super) async fn expunge<S: Sink>(&mut self, uids: Option<SequenceSet>, out: &mut Out<'_, S>) -> Done {
        let account = self.who()?;
        let here = self.here_to_write()?;
        let id = here.id;
        let newest = here.view.newest();
        let only = uids.map(|set| set.uids(here.view.told(), &here.saved));
        let marked = marked(&newest, only.as_ref());
        if !marked.is_empty() {
            self.backend.expunge(account, id, &marked).await?;
        }
        self.tell(out, true).await?;
        let done = Answer::ok("Expunged");
        Ok(if marked.is_empty() { done } else { self.with_highest(done) })
    }

    /// RFC 7162 3.2.10: after messages went away a client that keeps a cache learns the position at which its list is complete.
    pub(super) fn with_highest(&self, answer: Answer) -> Answer {
        match &self.selected {
            Some(here) if self.modes.condstore => {
                answer.with_code(format!("HIGHESTMODSEQ {}", here.view.told().highest_modseq.0.max(1)))
            }
            _ => answer,
        }
    }
}

/// Messages with `\Deleted`.
fn marked(newest: &Snapshot, only: Option<&Ranges>) -> Vec<Uid> {
    newest
        .iter()
        .filter(|e| e.flags.contains(Flags::DELETED) && only.is_none_or(|o| o.contains(e.uid.0)))
        .map(|e| e.uid)
        .collect()
}

/// The highest UID that has the number which the client remembers (RFC 7162 3.2.5.2). The list only ever loses members
/// below it, so up to there the client has what we have.
fn last_match(told: &Snapshot, seqs: &SequenceSet, uids: &SequenceSet) -> Option<Uid> {
    let (SequenceSet::Ranges(seqs), SequenceSet::Ranges(uids)) = (seqs, uids) else { return None };
    let count = u32::try_from(told.len()).unwrap_or(u32::MAX);
    let numbers = |list: &[(Bound, Bound)]| {
        let plain = |b: &Bound| match b {
            Bound::Number(n) => *n,
            Bound::Star => 0,
        };
        let ranges: Vec<(u32, u32)> = list.iter().map(|(a, b)| (plain(a).min(plain(b)), plain(a).max(plain(b)))).collect();
        // Bounded: sets may name four thousand million numbers.
        ranges.into_iter().flat_map(|(a, b)| a..=b).take(1 << 20)
    };
    numbers(seqs)
        .zip(numbers(uids))
        .filter(|(seq, uid)| *seq >= 1 && *seq <= count && told.at(*seq).is_some_and(|e| e.uid.0 == *uid))
        .map(|(_, uid)| Uid(uid))
        .max()
}
