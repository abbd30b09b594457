//! The document read again while mail runs.
//!
//! Contract: a document with a fault changes nothing. What can change in a running process is taken at once, for what begins
//! from then on; the answer names what was taken, and each key that waits for the next start, also when it was changed by an
//! earlier reload.

use super::{Live, certificate_files};
use crate::{logs, settings};
use twinpost_config::Document;

/// Whether two documents say the same of a part.
type Same = fn(&Document, &Document) -> bool;

/// Parts that a running process takes, and for what.
const TAKEN: [(&str, &str, Same); 9] = [
    ("[smtp]", "for connections from now on", |a, b| a.smtp == b.smtp),
    ("[limits]", "from now on; what was counted against a limit that stays is kept", |a, b| a.limits == b.limits),
    ("[queue]", "from the next try of each message on", |a, b| {
        let (a, b) = (&a.queue, &b.queue);
        a.retry == b.retry
            && a.expire == b.expire
            && a.warn == b.warn
            && a.per_destination == b.per_destination
            && a.port == b.port
            && a.source == b.source
            && a.smart_host == b.smart_host
    }),
    ("[imap]", "for sessions from now on", |a, b| {
        a.imap.idle_timeout == b.imap.idle_timeout && a.imap.per_account == b.imap.per_account
    }),
    ("[pop3]", "for sessions from now on", |a, b| a.pop3 == b.pop3),
    ("[sms.gateway]", "from now on", |a, b| a.sms.gateway == b.sms.gateway),
    ("[sms.numbers]", "from now on", |a, b| a.sms.numbers == b.sms.numbers),
    ("log.level", "from now on", |a, b| a.log.level == b.log.level),
    ("tls.allow_plain_sign_in", "for connections from now on", |a, b| a.tls.allow_plain_sign_in == b.tls.allow_plain_sign_in),
];

/// What only a start takes.
const WAITS: [(&str, Same); 9] = [
    ("[node]", |a, b| a.node == b.node),
    ("[network]", |a, b| a.network == b.network),
    ("[store]", |a, b| a.store == b.store),
    ("[directory]", |a, b| a.directory == b.directory),
    ("queue.connections", |a, b| a.queue.connections == b.queue.connections),
    ("queue.dns", |a, b| a.queue.dns == b.queue.dns),
    ("imap.max_append", |a, b| a.imap.max_append == b.imap.max_append),
    ("[sms] (or SIGHUP of `twinpost sms`)", |a, b| {
        let modem = |d: &Document| {
            let mut sms = d.sms.clone();
            (sms.gateway, sms.numbers) = Default::default();
            sms
        };
        modem(a) == modem(b)
    }),
    ("log.form", |a, b| a.log.form == b.log.form),
];

/// The answer: what is new against `before`, and what differs from what runs since the start.
fn notes(started: &Document, before: &Document, new: &Document) -> Vec<String> {
    let taken = TAKEN.iter().filter(|(.., same)| !same(before, new)).map(|(part, when, _)| format!("taken: {part}, {when}"));
    let waits = WAITS.iter().filter(|(_, same)| !same(started, new)).map(|(part, _)| format!("waits for the next start: {part}"));
    std::iter::once("taken: certificates, for connections from now on".to_owned()).chain(taken).chain(waits).collect()
}

/// Takes the document from its file.
///
/// # Errors
/// Its faults, or what cannot be used; the old settings stay.
pub(super) fn reload(live: &Live) -> Result<Vec<String>, String> {
    let file = twinpost_config::load(&live.folder.document()).map_err(|e| e.to_string())?;
    let started = &live.started;
    // What waits for the next start must not come in by the side door, with a part that is taken.
    let mut new = file.clone();
    new.node = started.node.clone();
    new.network = started.network.clone();
    // Whatever can fail comes first.
    let files = certificate_files(&new, &live.tls_dir)?;
    let queue = settings::queue(&new)?;
    settings::sms::check(&new)?;
    live.tls.replace(vec![files]).map_err(|e| e.to_string())?;
    live.queue.set_settings(queue)?;
    let overruled = logs::set_level(&new.log)?;
    for (role, server) in &live.smtp {
        server.set_settings(settings::smtp(&new, *role));
    }
    live.imap.set_settings(settings::imap(&new));
    live.pop3.set_settings(settings::pop3(&new));
    live.limiter.set_settings(settings::limits(&new));
    live.wishes.take(&new);
    if let Some(texts) = &live.texts {
        texts.gateway().replace(settings::sms::gateway(&new)).map_err(|e| e.to_string())?;
    }
    let mut document = live.document.lock();
    let mut notes = notes(started, &document, &file);
    if overruled && document.log.level != file.log.level {
        notes.push(format!("log.level is overruled by the environment variable {}", logs::VARIABLE));
    }
    *document = file;
    drop(document);
    // Mail that waits may be due earlier, or go another way.
    live.queue.wake();
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        twinpost_config::parse(&format!("version = 1\n{text}"), "test").unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn each_part_is_taken_or_waits_and_a_wait_is_told_until_the_start() {
        let (old, none) = (document(""), document(""));
        assert_eq!(notes(&old, &none, &none), ["taken: certificates, for connections from now on"]);
        let new = document(
            "[queue]\ndns = [\"127.0.0.1:53\"]\nretry = [\"1 min\"]\n[limits]\nconnections = 7\n[log]\nlevel = \"debug\"\n",
        );
        let text = notes(&old, &none, &new).join("\n");
        for part in ["taken: [queue]", "taken: [limits]", "taken: log.level", "waits for the next start: queue.dns"] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        assert!(!text.contains("[smtp]") && !text.contains("[pop3]"), "{text}");
        let text = notes(&old, &none, &document("[sms]\nport = \"/dev/ttyS0\"\n[sms.gateway]\nparts = 2\n")).join("\n");
        for part in ["taken: [sms.gateway]", "waits for the next start: [sms] (or SIGHUP of `twinpost sms`)"] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        let text = notes(&old, &new, &new).join("\n");
        assert!(text.contains("queue.dns") && !text.contains("taken: [queue]"), "{text}");
    }
}
