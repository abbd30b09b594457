//! Changes of messages that are there: flags, expunge, copy, move.

use super::batch::Batch;
use super::committer::{Committer, NewEntry};
use crate::Error;
use crate::db::Value;
use crate::types::{ChangeKind, Expunged, FlagAction, FlagNames, FlagsSet, SetFlags, Transfer, Transferred};
use twinpost_message::view::Entry;
use twinpost_message::{Flags, MailboxId, ModSeq, Uid};

impl Committer {
    /// The entries of these UIDs that are there, in rising order. The mailbox has a view in the batch.
    fn entries(batch: &Batch, mailbox: MailboxId, uids: &[Uid]) -> Vec<Entry> {
        let Some(view) = batch.views.get(&mailbox) else { return Vec::new() };
        let mut uids = uids.to_vec();
        uids.sort_unstable();
        uids.dedup();
        // A long list is merged with the mailbox, a short one looked up.
        if uids.len() < 64 {
            return uids.iter().filter_map(|u| view.snapshot.find(*u).map(|(_, e)| *e)).collect();
        }
        let mut wanted = uids.into_iter().peekable();
        let mut found = Vec::new();
        for entry in view.snapshot.iter() {
            while wanted.peek().is_some_and(|u| *u < entry.uid) {
                wanted.next();
            }
            match wanted.peek() {
                None => break,
                Some(uid) if *uid == entry.uid => found.push(*entry),
                Some(_) => {}
            }
        }
        found
    }

    pub(super) async fn set_flags(&mut self, batch: &mut Batch, set: SetFlags) -> Result<FlagsSet, Error> {
        self.view(batch, set.mailbox, None).await?;
        let make = set.action != FlagAction::Remove;
        if make && !set.flags.keywords.is_empty() {
            self.room_for(set.mailbox, &set.flags)?;
        }
        let given = self.flags_of(batch, set.mailbox, &set.flags, make).await?;
        let mut done = FlagsSet::default();
        let mut updated = Vec::new();
        for mut entry in Self::entries(batch, set.mailbox, &set.uids) {
            if set.unchanged_since.is_some_and(|since| entry.modseq > since) {
                done.modified.push(entry.uid);
                continue;
            }
            let flags = match set.action {
                FlagAction::Add => entry.flags.with(given),
                FlagAction::Remove => entry.flags.without(given),
                FlagAction::Replace => given,
            };
            if flags == entry.flags {
                continue;
            }
            let modseq = self.number();
            let Some(m) = self.state.mailboxes.get_mut(&set.mailbox) else { return Err(Error::NoMailbox(set.mailbox)) };
            m.discount(entry.flags, entry.size_bytes);
            m.count(flags, entry.size_bytes);
            m.highest_modseq = ModSeq(modseq);
            (entry.flags, entry.modseq) = (flags, ModSeq(modseq));
            batch.change(modseq, m, ChangeKind::Flags, entry.uid, entry.body);
            batch.messages.insert((set.mailbox, entry.uid), Some(entry));
            done.changed.push(entry.uid);
            updated.push(entry);
        }
        self.apply(batch, set.mailbox, &updated, &[]);
        done.modseq = self.state.mailboxes.get(&set.mailbox).map_or(ModSeq(0), |m| m.highest_modseq);
        Ok(done)
    }

    /// A client that sets a keyword must not be told that it is set when there is no room for its name.
    fn room_for(&mut self, mailbox: MailboxId, flags: &FlagNames) -> Result<(), Error> {
        let Some(known) = self.state.mailboxes.get(&mailbox).and_then(|m| m.keywords.as_ref()) else { return Ok(()) };
        let mut fresh: Vec<String> = flags.keywords.iter().map(|k| k.to_ascii_lowercase()).collect();
        fresh.sort_unstable();
        fresh.dedup();
        fresh.retain(|k| !known.iter().any(|have| have.eq_ignore_ascii_case(k)));
        if known.len() + fresh.len() > Flags::KEYWORDS_MAX {
            return Err(Error::TooMany { what: "different keywords in one mailbox", most: Flags::KEYWORDS_MAX });
        }
        Ok(())
    }

    fn apply(&mut self, batch: &mut Batch, mailbox: MailboxId, updated: &[Entry], removed: &[Uid]) {
        if updated.is_empty() && removed.is_empty() {
            return;
        }
        batch.mailboxes.insert(mailbox);
        let highest = self.state.mailboxes.get(&mailbox).map_or(ModSeq(0), |m| m.highest_modseq);
        if let Some(view) = batch.views.get_mut(&mailbox) {
            view.snapshot = view.snapshot.apply(updated, removed, &[], highest);
        }
    }

    pub(super) async fn expunge(
        &mut self,
        batch: &mut Batch,
        mailbox: MailboxId,
        uids: &[Uid],
        only_deleted: bool,
    ) -> Result<Expunged, Error> {
        self.view(batch, mailbox, None).await?;
        let mut entries = Self::entries(batch, mailbox, uids);
        entries.retain(|e| !only_deleted || e.flags.contains(Flags::DELETED));
        self.remove(batch, mailbox, &entries, true)?;
        let modseq = self.state.mailboxes.get(&mailbox).map_or(ModSeq(0), |m| m.highest_modseq);
        Ok(Expunged { uids: entries.iter().map(|e| e.uid).collect(), modseq })
    }

    /// Takes entries out of a mailbox; `keep` puts them where they can be brought back, if the store does so at all.
    fn remove(&mut self, batch: &mut Batch, mailbox: MailboxId, entries: &[Entry], keep: bool) -> Result<(), Error> {
        let mut size_bytes = 0;
        for entry in entries {
            let modseq = self.number();
            let trash_id = if keep && self.undelete_s > 0 { Some(modseq) } else { None };
            let Some(m) = self.state.mailboxes.get_mut(&mailbox) else { return Err(Error::NoMailbox(mailbox)) };
            m.discount(entry.flags, entry.size_bytes);
            m.highest_modseq = ModSeq(modseq);
            size_bytes += i64::from(entry.size_bytes);
            batch.change(modseq, m, ChangeKind::Expunged, entry.uid, entry.body);
            batch.messages.insert((mailbox, entry.uid), None);
            match trash_id {
                Some(id) => batch.trash.push(trash_row(id, m.account.0, &m.name, entry, batch.now_s)),
                None => batch.refer(entry.body, -1),
            }
        }
        let removed: Vec<Uid> = entries.iter().map(|e| e.uid).collect();
        let account = self.state.mailboxes.get(&mailbox).map(|m| m.account).unwrap_or_default();
        if !removed.is_empty() {
            self.charge(batch, account, -i64::try_from(removed.len()).unwrap_or(0), -size_bytes);
        }
        self.apply(batch, mailbox, &[], &removed);
        Ok(())
    }

    pub(super) async fn transfer(&mut self, batch: &mut Batch, transfer: Transfer) -> Result<Transferred, Error> {
        let Transfer { from, uids, to, limits, remove } = transfer;
        self.need(batch, to).await?;
        self.view(batch, from, None).await?;
        let entries = Self::entries(batch, from, &uids);
        let owner = |c: &mut Self, id| c.state.mailboxes.get(&id).map(|m: &super::state::Mailbox| m.account);
        let same_account = owner(self, from) == owner(self, to);
        if !(remove && same_account) {
            let total = entries.iter().map(|e| u64::from(e.size_bytes)).sum();
            let account = owner(self, to).unwrap_or_default();
            self.keep_limits(account, &limits, total, entries.len() as u64)?;
        }
        let names = self.state.mailboxes.get(&from).and_then(|m| m.keywords.clone()).unwrap_or_default();
        let mut done = Transferred::default();
        for entry in &entries {
            let keywords = names.iter().enumerate().filter(|(i, _)| entry.flags.contains(Flags::keyword(*i)));
            let wanted = FlagNames { system: entry.flags, keywords: keywords.map(|(_, n)| n.clone()).collect() };
            let flags = self.flags_of(batch, to, &wanted, true).await?;
            let Entry { body, size_bytes, received_s, .. } = *entry;
            let new = self.add(batch, to, NewEntry { body, flags, size_bytes, received_s })?;
            done.pairs.push((entry.uid, new.uid));
        }
        if remove {
            // The new rows hold the bodies: a moved message is not one that was deleted.
            self.view(batch, from, None).await?;
            self.remove(batch, from, &entries, false)?;
        }
        if let Some(m) = self.state.mailboxes.get(&to) {
            done.uid_validity = m.uid_validity;
        }
        if let Some(m) = self.state.mailboxes.get(&from) {
            done.modseq = m.highest_modseq;
        }
        Ok(done)
    }
}

pub(super) fn trash_row(id: u64, account: i64, mailbox_name: &str, entry: &Entry, now_s: i64) -> Vec<Value> {
    vec![
        id.into(),
        account.into(),
        mailbox_name.into(),
        entry.uid.0.into(),
        entry.body.0.into(),
        entry.flags.0.into(),
        entry.received_s.into(),
        entry.saved_s.into(),
        entry.size_bytes.into(),
        now_s.into(),
    ]
}
