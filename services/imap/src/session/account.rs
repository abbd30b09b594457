//! ENABLE, ID, NAMESPACE and quotas: what concerns the account or the session as a whole.

use super::answer::Answer;
use super::out::{Out, Sink};
use super::{Done, Session};
use crate::backend::{Backend, Usage};
use crate::codec::ast::MailboxName;
use crate::codec::respond;

/// The one quota root: an account has one limit for all its mailboxes.
const ROOT: &str = "account";

impl<B: Backend> Session<B> {
    /// RFC 5161 3.1: what is not known is passed over.
    pub(super) fn enable<S: Sink>(&mut self, names: &[String], out: &mut Out<'_, S>) -> Answer {
        let mut enabled = String::from("* ENABLED");
        for name in names {
            match name.as_str() {
                "CONDSTORE" => self.modes.condstore = true,
                // RFC 7162 3.2.3: QRESYNC switches CONDSTORE on as well.
                "QRESYNC" => (self.modes.condstore, self.modes.qresync) = (true, true),
                "UTF8=ACCEPT" => self.modes.utf8 = true,
                // RFC 9051 6.3.1
                "IMAP4REV2" => (self.modes.rev2, self.modes.utf8) = (true, true),
                _ => continue,
            }
            enabled.push(' ');
            enabled.push_str(if name == "IMAP4REV2" { "IMAP4rev2" } else { name });
        }
        out.line(&enabled);
        Answer::ok("Enabled")
    }

    /// RFC 2971 3.1.
    pub(super) fn id<S: Sink>(&mut self, fields: &[(String, Option<String>)], out: &mut Out<'_, S>) -> Answer {
        if !fields.is_empty() {
            let known = |key: &str| fields.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).and_then(|(_, v)| v.as_deref());
            tracing::debug!(name = known("name"), version = known("version"), "the client names itself");
        }
        out.buf.extend_from_slice(b"* ID (");
        for (i, (key, value)) in [("name", &self.settings.product), ("version", &self.settings.version)].into_iter().enumerate() {
            if i > 0 {
                out.buf.push(b' ');
            }
            respond::string(key.as_bytes(), self.modes.utf8, &mut out.buf);
            out.buf.push(b' ');
            respond::string(value.as_bytes(), self.modes.utf8, &mut out.buf);
        }
        out.line(")");
        Answer::ok("Nice to meet you")
    }

    /// RFC 9051 6.3.10: personal mailboxes only.
    pub(super) fn namespace<S: Sink>(&self, out: &mut Out<'_, S>) -> Answer {
        out.line("* NAMESPACE ((\"\" \"/\")) NIL NIL");
        Answer::ok("Done")
    }

    /// RFC 9208 4.1.1.
    pub(super) async fn get_quota<S: Sink>(&mut self, root: &str, out: &mut Out<'_, S>) -> Done {
        let usage = self.backend.usage(self.who()?).await?;
        if root != ROOT || !limited(&usage) {
            return Ok(Answer::no("NONEXISTENT", "There is no such quota root"));
        }
        write_quota(&usage, &mut out.buf);
        Ok(Answer::ok("Done"))
    }

    /// RFC 9208 4.1.2.
    pub(super) async fn get_quota_root<S: Sink>(&mut self, mailbox: &MailboxName, out: &mut Out<'_, S>) -> Done {
        self.find(mailbox).await?;
        let usage = self.backend.usage(self.who()?).await?;
        out.buf.extend_from_slice(b"* QUOTAROOT ");
        respond::mailbox(mailbox.as_str(), self.modes.utf8, &mut out.buf);
        // A mailbox without any limit has no root (RFC 9208 4.2.2 allows an empty list); an empty QUOTA has no syntax.
        if limited(&usage) {
            out.buf.push(b' ');
            out.line(ROOT);
            write_quota(&usage, &mut out.buf);
        } else {
            out.line("");
        }
        Ok(Answer::ok("Done"))
    }
}

fn limited(usage: &Usage) -> bool {
    usage.bytes_limit.is_some() || usage.messages_limit.is_some() || usage.mailboxes_limit.is_some()
}

fn write_quota(usage: &Usage, out: &mut Vec<u8>) {
    // RFC 9208 5.1: STORAGE counts in units of 1024 octets; what is used is rounded up, so that a full account shows full.
    let storage = usage.bytes_limit.map(|limit| ("STORAGE", usage.bytes.div_ceil(1024), limit / 1024));
    let messages = usage.messages_limit.map(|limit| ("MESSAGE", usage.messages, limit));
    let mailboxes = usage.mailboxes_limit.map(|limit| ("MAILBOX", usage.mailboxes, limit));
    let list: Vec<String> = [storage, messages, mailboxes]
        .into_iter()
        .flatten()
        .map(|(name, used, limit)| format!("{name} {used} {limit}"))
        .collect();
    out.extend_from_slice(format!("* QUOTA {ROOT} ({})\r\n", list.join(" ")).as_bytes());
}
