//! Telling the client what changed in the selected mailbox.
//!
//! Contract: everything that is told comes from one [`Step`] of the view, so that a client that adds up what it hears has what
//! the store has. FETCH responses carry UID always (RFC 9051 7.5.2: a client without sequence numbers can use them) and MODSEQ
//! once CONDSTORE is on (RFC 7162 3.1.4).

use super::answer::Stop;
use super::flags;
use super::out::{Out, Sink};
use super::{Modes, Session};
use crate::algorithm::ranges::{Ranges, put_u64};
use crate::backend::Backend;
use crate::codec::respond;
use crate::view::{Changed, Step};
use std::borrow::Cow;
use std::io;
use twinpost_message::Flags;
use twinpost_message::view::{Entry, Snapshot};

/// How one changed message is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    /// With its flags.
    Flags,
    /// The client knows the flags (STORE .SILENT): MODSEQ alone, where CONDSTORE is on.
    ModSeq,
    /// It was told elsewhere.
    Nothing,
}

impl<B: Backend> Session<B> {
    /// Goes to the newest state and tells it.
    pub async fn tell<S: Sink>(&mut self, out: &mut Out<'_, S>, expunges: bool) -> Result<(), Stop> {
        let modes = self.modes;
        let Some(here) = self.selected.as_deref_mut() else { return Ok(()) };
        if here.view.is_gone() {
            // RFC 2180 3.3: the mailbox was deleted by another session; without it the client's numbers mean nothing.
            return Err(Stop::Bye(None, Cow::Borrowed("The mailbox was deleted, or the server is closing")));
        }
        let step = here.view.advance(expunges);
        self.just_told = step.changed.iter().map(|c| c.entry.uid).collect();
        if !step.is_empty() {
            tell_step(modes, &step, here.view.told(), |_| Tell::Flags, out).await?;
        }
        Ok(())
    }
}

/// Writes a step: expunges, EXISTS, new keywords, flag changes.
pub(super) async fn tell_step<S: Sink>(
    modes: Modes,
    step: &Step,
    now: &Snapshot,
    how: impl Fn(&Changed) -> Tell + Send,
    out: &mut Out<'_, S>,
) -> io::Result<()> {
    if modes.qresync && !step.expunged.is_empty() {
        // RFC 7162 3.2.10: one VANISHED instead of many EXPUNGE.
        let uids = Ranges::from_numbers(step.expunged.iter().rev().map(|(_, uid)| uid.0));
        respond::vanished(&uids, false, &mut out.buf);
    } else {
        for (seq, _) in &step.expunged {
            out.buf.extend_from_slice(b"* ");
            put_u64(&mut out.buf, u64::from(*seq));
            out.buf.extend_from_slice(b" EXPUNGE\r\n");
            out.relieve().await?;
        }
    }
    if let Some(exists) = step.exists {
        out.buf.extend_from_slice(b"* ");
        put_u64(&mut out.buf, u64::from(exists));
        out.buf.extend_from_slice(b" EXISTS\r\n");
        if !modes.rev2 {
            out.line("* 0 RECENT");
        }
    }
    if step.keywords {
        flags::write_flags_line(&now.keywords, &mut out.buf);
    }
    for changed in &step.changed {
        let what = how(changed);
        if what == Tell::Nothing || (what == Tell::ModSeq && !modes.condstore) {
            continue;
        }
        let flags = (what == Tell::Flags).then_some(changed.entry.flags);
        write_change(modes, changed.seq, &changed.entry, flags, &now.keywords, &mut out.buf);
        out.relieve().await?;
    }
    Ok(())
}

/// `* 3 FETCH (UID 17 FLAGS (\Seen) MODSEQ (65402))`.
pub(super) fn write_change(modes: Modes, seq: u32, entry: &Entry, flags: Option<Flags>, keywords: &[String], out: &mut Vec<u8>) {
    out.extend_from_slice(b"* ");
    put_u64(out, u64::from(seq));
    out.extend_from_slice(b" FETCH (UID ");
    put_u64(out, u64::from(entry.uid.0));
    if let Some(flags) = flags {
        out.extend_from_slice(b" FLAGS ");
        respond::flags(flags, keywords, out);
    }
    if modes.condstore {
        out.extend_from_slice(b" MODSEQ (");
        put_u64(out, entry.modseq.0);
        out.push(b')');
    }
    out.extend_from_slice(b")\r\n");
}
