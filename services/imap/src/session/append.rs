//! APPEND, MULTIAPPEND and REPLACE: what the session decides. The connection reads the messages.

use super::answer::{Answer, Stop, refused_target};
use super::out::{Out, Sink};
use super::{Done, Session};
use crate::backend::{Backend, NewMessage};
use crate::codec::ast::{AppendItem, MailboxName, Replace};
use crate::codec::respond;
use bytes::Bytes;
use twinpost_message::{MailboxId, Uid};

/// Where an upload goes, checked before a byte of it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AppendTarget {
    mailbox: MailboxId,
    /// REPLACE: the selected mailbox and the message that goes.
    replaces: Option<(MailboxId, Uid)>,
}

/// The messages read so far.
#[derive(Default)]
pub(crate) struct Upload {
    messages: Vec<NewMessage>,
    total_bytes: u64,
}

impl Upload {
    /// A message was read.
    pub fn push(&mut self, item: AppendItem, body: Bytes) {
        self.total_bytes += body.len() as u64;
        self.messages.push(NewMessage {
            body,
            flags: item.flags.system,
            keywords: item.flags.keywords,
            received_s: item.received_s,
        });
    }
}

impl<B: Backend> Session<B> {
    /// Before the first message: the state, the rights, the target. RFC 9051 6.3.12: TRYCREATE comes before the literal.
    pub(crate) async fn append_target(&mut self, mailbox: &MailboxName, replace: Option<&Replace>) -> Result<AppendTarget, Stop> {
        let account = self.who()?;
        if !self.backend.still_allowed(account) {
            return Err(Answer::no("EXPIRED", "The account was closed; please ask your administrator").into());
        }
        let replaces = match replace {
            None => None,
            Some(replace) => {
                let here = self.here_to_write()?;
                let picked = here.pick(&replace.number, replace.uid)?;
                let [(_, entry)] = picked[..] else {
                    // RFC 8508 3.3
                    return Err(Answer::no("NONEXISTENT", "There is no such message to replace").into());
                };
                if !here.view.still_there(entry.uid) {
                    return Err(Answer::no("EXPUNGEISSUED", "The message was expunged by another session").into());
                }
                Some((here.id, entry.uid))
            }
        };
        let target = self.find_target(mailbox).await?;
        Ok(AppendTarget { mailbox: target.id, replaces })
    }

    /// Before each message: its size. Said before `+`, so that a client need not send it (RFC 7889 3).
    pub(crate) fn append_admit(&self, target: &AppendTarget, upload: &Upload, item: &AppendItem) -> Result<(), Answer> {
        let size = item.literal.size_bytes;
        if item.utf8 && !self.modes.utf8 {
            // RFC 6855 4
            return Err(Answer::bad("UTF8 needs ENABLE UTF8=ACCEPT"));
        }
        if size == 0 {
            // RFC 3502 6.3.11: an empty message cancels.
            return Err(Answer::bad("The APPEND was cancelled by an empty message"));
        }
        if size > self.account.as_ref().map_or(0, |a| u64::from(a.append_limit_bytes)) {
            return Err(Answer::no("TOOBIG", "The message is larger than this account may store"));
        }
        if target.replaces.is_some() && !upload.messages.is_empty() {
            return Err(Answer::bad("REPLACE takes one message"));
        }
        let full = upload.messages.len() >= self.settings.append_messages_max;
        if full || upload.total_bytes.saturating_add(size) > self.settings.append_total_max_bytes {
            return Err(Answer::no("LIMIT", "Too many messages in one command"));
        }
        Ok(())
    }

    /// All messages are there: stores them, all or none.
    pub(crate) async fn append<S: Sink>(&mut self, target: AppendTarget, mut upload: Upload, out: &mut Out<'_, S>) -> Done {
        let account = self.who()?;
        if let Some((source, old)) = target.replaces {
            let Some(message) = upload.messages.pop() else { return Err(Answer::bad("REPLACE takes one message").into()) };
            let done =
                self.backend.replace(account, source, old, target.mailbox, message).await.map_err(|e| refused_target(&e))?;
            // RFC 8508 3.2: APPENDUID comes before the EXPUNGE of the old message.
            let uid = done.uids.first().copied().unwrap_or_default();
            out.line(&format!("* OK [APPENDUID {} {uid}] Replaced", done.uid_validity));
            self.tell(out, true).await?;
            return Ok(self.with_highest(Answer::ok("Replaced")));
        }
        let done = self.backend.append(account, target.mailbox, upload.messages).await.map_err(|e| refused_target(&e))?;
        // RFC 4315 3, RFC 3502 6.3.11
        let mut code = Vec::new();
        respond::append_uid(done.uid_validity, &done.uids, &mut code);
        Ok(Answer::ok("Stored").with_code(String::from_utf8_lossy(&code).into_owned()))
    }
}
