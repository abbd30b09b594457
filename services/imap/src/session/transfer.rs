//! COPY and MOVE.

use super::answer::{Answer, Stop, refused_target};
use super::out::{Out, Sink};
use super::{Done, Session};
use crate::backend::{Backend, Copied};
use crate::codec::ast::MailboxName;
use crate::codec::respond;
use crate::codec::set::SequenceSet;
use twinpost_message::{MailboxId, Uid};

impl<B: Backend> Session<B> {
    /// RFC 9051 6.4.7.
    pub(super) async fn copy(&mut self, uid: bool, set: &SequenceSet, mailbox: &MailboxName) -> Done {
        let account = self.who()?;
        let (from, uids) = self.picked(uid, set)?;
        let target = self.find_target(mailbox).await?;
        if uids.is_empty() {
            return Ok(Answer::ok("No messages"));
        }
        let copied = self.backend.copy(account, from, target.id, &uids).await.map_err(|e| refused_target(&e))?;
        let answer = Answer::ok("Copied");
        Ok(match copy_uid(&copied) {
            Some(code) => answer.with_code(code),
            None => answer,
        })
    }

    /// RFC 6851, RFC 9051 6.4.8.
    pub(super) async fn move_messages<S: Sink>(
        &mut self,
        uid: bool,
        set: &SequenceSet,
        mailbox: &MailboxName,
        out: &mut Out<'_, S>,
    ) -> Done {
        let account = self.who()?;
        self.here_to_write()?;
        let (from, uids) = self.picked(uid, set)?;
        let target = self.find_target(mailbox).await?;
        if target.id == from {
            // RFC 6851 3.3: allowed to refuse; giving new UIDs to the same list serves nobody.
            return Ok(Answer::no("CANNOT", "The messages are in this mailbox already"));
        }
        if uids.is_empty() {
            return Ok(Answer::ok("No messages"));
        }
        let moved = self.backend.move_to(account, from, target.id, &uids).await.map_err(|e| refused_target(&e))?;
        if let Some(code) = copy_uid(&moved) {
            // RFC 6851 4.3: before the EXPUNGE responses, so that the client can still name the messages.
            out.line(&format!("* OK [{code}] Moved"));
        }
        self.tell(out, true).await?;
        Ok(self.with_highest(Answer::ok("Moved")))
    }

    /// The UIDs that a set means. A client that names numbers is told when one of them is gone, and nothing is done
    /// (RFC 2180 4.4); one that names UIDs takes what is there.
    fn picked(&mut self, uid: bool, set: &SequenceSet) -> Result<(MailboxId, Vec<Uid>), Stop> {
        let here = self.here()?;
        let uids: Vec<Uid> = here.pick(set, uid)?.iter().map(|(_, e)| e.uid).collect();
        if !uid {
            let newest = here.view.newest();
            if uids.iter().any(|u| newest.find(*u).is_none()) {
                return Err(Answer::no("EXPUNGEISSUED", "Some of the messages were expunged by another session").into());
            }
        }
        Ok((here.id, uids))
    }
}

/// RFC 4315 3: `COPYUID 38505 304,319:320 3956:3958`; none when nothing was copied.
fn copy_uid(copied: &Copied) -> Option<String> {
    if copied.pairs.is_empty() {
        return None;
    }
    let mut code = Vec::new();
    respond::copy_uid(copied.uid_validity, &copied.pairs, &mut code);
    Some(String::from_utf8_lossy(&code).into_owned())
}
