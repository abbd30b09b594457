//! CREATE, DELETE, RENAME, SUBSCRIBE, STATUS.

use super::answer::Answer;
use super::out::{Out, Sink};
use super::{Done, Session};
use crate::backend::{Backend, DELIMITER, MailboxInfo, SpecialUse};
use crate::codec::ast::{MailboxName, StatusItem};
use crate::codec::{name, respond};
use twinpost_message::{Flags, MailboxId};

/// RFC 8474 4.2: `F` and the number.
pub(super) fn mailbox_id(id: MailboxId) -> String {
    respond::mailbox_id(id).to_string()
}

impl<B: Backend> Session<B> {
    /// RFC 9051 6.3.4, RFC 6154 3.
    pub(super) async fn create(&mut self, mailbox: &MailboxName, uses: &[SpecialUse]) -> Done {
        if let Err(fault) = name::creatable(mailbox) {
            return Ok(Answer::no("CANNOT", fault.to_string()));
        }
        let special_use = match uses {
            [] => None,
            // \All and \Flagged are views of other mailboxes' messages, which we do not have; one mailbox has one use.
            [SpecialUse::All | SpecialUse::Flagged] | [_, _, ..] => {
                return Ok(Answer::no("USEATTR", "A mailbox cannot have this special use"));
            }
            [one] => Some(*one),
        };
        let id = self.backend.create(self.who()?, mailbox.as_str(), special_use).await?;
        // RFC 8474 4.1
        Ok(Answer::ok("Created").with_code(format!("MAILBOXID ({})", mailbox_id(id))))
    }

    /// RFC 9051 6.3.5.
    pub(super) async fn delete<S: Sink>(&mut self, mailbox: &MailboxName, out: &mut Out<'_, S>) -> Done {
        if mailbox.is_inbox() {
            return Ok(Answer::no("CANNOT", "INBOX cannot be deleted"));
        }
        let info = self.find(mailbox).await?;
        self.backend.delete(self.who()?, info.id).await?;
        if self.selected.as_ref().is_some_and(|s| s.id == info.id) {
            self.selected = None;
            out.line("* OK [CLOSED] The selected mailbox was deleted");
        }
        Ok(Answer::ok("Deleted"))
    }

    /// RFC 9051 6.3.6.
    pub(super) async fn rename(&mut self, from: &MailboxName, to: &MailboxName) -> Done {
        if let Err(fault) = name::creatable(to) {
            return Ok(Answer::no("CANNOT", fault.to_string()));
        }
        let below = to.as_str().strip_prefix(from.as_str()).is_some_and(|rest| rest.starts_with(DELIMITER));
        if below && !from.is_inbox() {
            return Ok(Answer::no("CANNOT", "A mailbox cannot be moved below itself"));
        }
        self.backend.rename(self.who()?, from.as_str(), to.as_str()).await?;
        Ok(Answer::ok("Renamed"))
    }

    /// RFC 9051 6.3.7 and 6.3.8. Only mailboxes that exist can be on the list; taking off what is not there is fine.
    pub(super) async fn subscribe(&mut self, mailbox: &MailboxName, on: bool) -> Done {
        match self.backend.subscribe(self.who()?, mailbox.as_str(), on).await {
            Err(crate::Refusal::NonExistent) if !on => Ok(Answer::ok("Not on the list")),
            other => other.map(|()| Answer::ok("Done")).map_err(Into::into),
        }
    }

    /// RFC 9051 6.3.11.
    pub(super) async fn status<S: Sink>(&mut self, mailbox: &MailboxName, items: &[StatusItem], out: &mut Out<'_, S>) -> Done {
        let info = self.find(mailbox).await?;
        if items.contains(&StatusItem::HighestModSeq) {
            // RFC 7162 3.1: asking for HIGHESTMODSEQ switches CONDSTORE on.
            self.modes.condstore = true;
        }
        self.write_status(&info, items, out).await?;
        Ok(Answer::ok("Done"))
    }

    /// `* STATUS INBOX (MESSAGES 3)`.
    pub(super) async fn write_status<S: Sink>(
        &self,
        info: &MailboxInfo,
        items: &[StatusItem],
        out: &mut Out<'_, S>,
    ) -> Result<(), super::answer::Stop> {
        let limit = self.account.as_ref().map(|a| a.append_limit_bytes);
        let deleted_bytes = match items.contains(&StatusItem::DeletedStorage) && info.deleted > 0 {
            true => {
                let snapshot = self.backend.open(self.who()?, info.id).await?.borrow().clone();
                snapshot.iter().filter(|e| e.flags.contains(Flags::DELETED)).map(|e| u64::from(e.size_bytes)).sum()
            }
            false => 0,
        };
        respond::status(info, items, limit, deleted_bytes.div_ceil(1024), self.modes.utf8, &mut out.buf);
        Ok(())
    }
}
