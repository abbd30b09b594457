//! What the sender is told (RFC 3461 to 3464, 6533), read with somebody else's parser; and what the log says.

use crate::peer::{Manners, Peer};
use crate::spool::{BODY, Memory, entry, now_s};
use crate::{Site, settings, there};
use mail_parser::{Message, MessageParser, MimeHeaders, PartType};
use parking_lot::Mutex;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use twinpost_message::Address;
use twinpost_queue::{Entry, Notify, Reply, Ret, Settings, State};

async fn send(manners: Manners, entry: Entry, body: &[u8]) -> (Peer, Memory) {
    let (peer, names) = there(manners).await;
    let site = Site::start(names, settings());
    let n = entry.recipients.len();
    site.spool.put(entry, body.to_vec());
    site.spool.updated(n).await;
    (peer, site.end().await)
}

/// The three parts of a report: sentence, fields by blocks, what is returned with its type.
struct Read {
    message: Message<'static>,
    blocks: Vec<Vec<(String, String)>>,
    status_type: String,
    returned_type: String,
    returned: Vec<u8>,
}

fn read(raw: &[u8]) -> Read {
    for line in raw.split(|b| *b == b'\n') {
        assert!(line.len() <= 999 && (line.is_empty() || line.ends_with(b"\r")), "a line of {} bytes", line.len());
    }
    let message = MessageParser::default().parse(raw).unwrap().into_owned();
    let root = message.content_type().unwrap();
    assert_eq!(
        (root.ctype(), root.subtype(), root.attribute("report-type")),
        ("multipart", Some("report"), Some("delivery-status"))
    );
    let PartType::Multipart(parts) = &message.parts[0].body else { panic!("no multipart") };
    assert_eq!(parts.len(), 3);
    let name = |n: usize| {
        let kind = message.parts[parts[n] as usize].content_type().unwrap();
        format!("{}/{}", kind.ctype(), kind.subtype().unwrap())
    };
    let bytes = |n: usize| {
        let part = &message.parts[parts[n] as usize];
        raw[part.raw_body_offset() as usize..part.raw_end_offset() as usize].to_vec()
    };
    assert_eq!(name(0), "text/plain");
    let fields = String::from_utf8(bytes(1)).unwrap();
    let field = |l: &str| l.split_once(": ").map_or_else(|| panic!("no field: {l}"), |(n, v)| (n.to_owned(), v.to_owned()));
    let blocks = fields.trim_end().split("\r\n\r\n").map(|b| b.lines().map(field).collect()).collect();
    let (status_type, returned_type, returned) = (name(1), name(2), bytes(2));
    Read { blocks, status_type, returned_type, returned, message }
}

impl Read {
    fn field(&self, block: usize, name: &str) -> Option<&str> {
        let mut found = self.blocks[block].iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let value = found.next();
        assert!(found.next().is_none(), "{name} stands twice");
        value
    }
}

#[tokio::test]
async fn a_failure_is_reported_once_for_all_recipients() {
    let manners = Manners::default().once("RCPT TO:<b@", "550-5.1.1 no\r\n550 5.1.1 body here").once("RCPT TO:<c@", "553 bad");
    let (_, spool) =
        send(manners, entry(1, &["b@there.example", "c@there.example", "d@there.example", "e@missing.example"]), BODY).await;
    let reports = spool.reports();
    assert_eq!((reports.len(), reports[0].to.to_string()), (1, "a@us.example".to_owned()));
    let read = read(&reports[0].message);
    assert_eq!(read.message.header_raw("Auto-Submitted").unwrap().trim(), "auto-replied");
    assert_eq!(read.message.in_reply_to().as_text(), Some("1@us.example"));
    assert_eq!(read.message.to().unwrap().first().unwrap().address(), Some("a@us.example"));
    assert!(read.message.message_id().is_some() && read.message.date().is_some());
    assert!(read.message.body_text(0).unwrap().contains("mx.there.example said: 550 5.1.1 no body here"));
    assert_eq!((read.blocks.len(), read.status_type.as_str()), (4, "message/delivery-status"));
    assert_eq!(
        (read.field(0, "Reporting-MTA"), read.field(0, "Original-Envelope-Id")),
        (Some("dns; mail.us.example"), Some("E1"))
    );
    let block = |text: &str| (1..4).find(|n| read.field(*n, "Final-Recipient") == Some(text)).unwrap();
    let (b, c, e) = (block("rfc822; b@there.example"), block("rfc822; c@there.example"), block("rfc822; e@missing.example"));
    assert_eq!(read.field(b, "Original-Recipient"), Some("rfc822;b@there.example"));
    assert_eq!(
        [b, c, e].map(|n| (read.field(n, "Action").unwrap(), read.field(n, "Status").unwrap())),
        [("failed", "5.1.1"), ("failed", "5.0.0"), ("failed", "5.1.2")]
    );
    assert_eq!(
        (read.field(b, "Diagnostic-Code"), read.field(b, "Remote-MTA")),
        (Some("smtp; 550 5.1.1 no body here"), Some("dns; mx.there.example"))
    );
    assert!(read.field(e, "Diagnostic-Code").unwrap().starts_with("x-twinpost; 5.1.2") && read.field(e, "Remote-MTA").is_none());
    assert_eq!(
        (read.returned_type.as_str(), read.returned.as_slice().trim_ascii_end()),
        ("message/rfc822", BODY.trim_ascii_end())
    );
}

#[tokio::test]
async fn notify_and_ret_are_kept() {
    let notify = |success, failure| Notify { given: true, success, failure, delay: false };
    // NEVER, the null sender, and a server that reports by itself: nothing.
    let mut never = entry(1, &["b@there.example"]);
    never.recipients[0].notify = notify(false, false);
    let refuse = || Manners::default().always("RCPT", "550 5.1.1 no");
    assert!(send(refuse(), never, BODY).await.1.reports().is_empty());
    let mut null = entry(1, &["b@there.example"]);
    null.sender = None;
    let (peer, spool) = send(refuse(), null, BODY).await;
    assert!(spool.reports().is_empty() && peer.said("MAIL")[0].starts_with("MAIL FROM:<> "));
    let mut success = entry(1, &["b@there.example", "c@here.example"]);
    success.recipients.iter_mut().for_each(|r| r.notify = notify(true, true));
    success.ret = Some(Ret::Full);
    let dsn = Manners::offering(&["DSN"]);
    let one = |e: &Entry| Entry { recipients: e.recipients[..1].to_vec(), ..e.clone() };
    let (peer, spool) = send(dsn, one(&success), BODY).await;
    assert!(spool.reports().is_empty());
    assert_eq!(peer.said("MAIL"), ["MAIL FROM:<a@us.example> RET=FULL ENVID=E1"]);
    assert_eq!(peer.said("RCPT"), ["RCPT TO:<b@there.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b@there.example"]);
    // A server that cannot: relayed (RFC 3461 5.2.2), with the header only. One of this site: delivered.
    let (_peer, names) = there(Manners::default()).await;
    let site = Site::start(names, settings());
    site.spool
        .edit(|s| s.here.insert("here.example".into(), (State::Delivered, Reply { code: 250, text: "2.1.5 delivered".into() })));
    site.spool.put(success, BODY);
    site.spool.updated(2).await;
    let mut actions: Vec<(String, String)> = Vec::new();
    for report in site.spool.reports() {
        let read = read(&report.message);
        assert_eq!(
            (read.returned_type.as_str(), read.returned.as_slice().trim_ascii_end()),
            ("text/rfc822-headers", &b"Message-ID: <1@us.example>\r\nSubject: s"[..])
        );
        actions.push((read.field(1, "Action").unwrap().to_owned(), read.field(1, "Status").unwrap().to_owned()));
    }
    actions.sort();
    assert_eq!(actions, [("delivered".into(), "2.1.5".into()), ("relayed".into(), "2.0.0".into())]);
    let mut headers = entry(1, &["b@there.example"]);
    headers.ret = Some(Ret::Headers);
    assert_eq!(read(&send(refuse(), headers, BODY).await.1.reports()[0].message).returned_type, "text/rfc822-headers");
}

#[tokio::test]
async fn a_delay_is_told_once_and_expiry_ends_it() {
    let (_peer, names) = there(Manners::default().always("RCPT", "450 4.2.0 greylisted")).await;
    let site = Site::start(names, Settings { warn_after: Duration::from_secs(3600), ..settings() });
    let mut old = entry(1, &["b@there.example", "c@there.example"]);
    old.created_s -= 4000;
    old.recipients[1].notify = Notify { given: true, success: false, failure: true, delay: false };
    site.spool.put(old, BODY);
    site.spool.updated(2).await;
    let report = read(&site.spool.reports()[0].message);
    assert_eq!((report.blocks.len(), report.field(1, "Action"), report.field(1, "Status")), (2, Some("delayed"), Some("4.2.0")));
    assert!(
        report.field(1, "Will-Retry-Until").is_some() && site.spool.last(1, 0).delay_told && !site.spool.last(1, 1).delay_told
    );
    site.again();
    site.spool.updated(4).await;
    assert_eq!(site.spool.reports().len(), 1, "once");
    site.spool.edit(|s| s.entries.values_mut().for_each(|e| e.expires_s = now_s() - 1));
    site.again();
    site.spool.until("expired", |s| s.entries.is_empty()).await;
    let report = read(&site.spool.reports()[1].message);
    // RFC 3463 2: the class of what lasted too long stays 4.
    assert_eq!((report.blocks.len(), report.field(1, "Action"), report.field(2, "Status")), (3, Some("failed"), Some("4.2.0")));
    assert!(report.field(1, "Diagnostic-Code").unwrap().ends_with("greylisted (given up after 3 tries)"));
}

#[tokio::test]
async fn addresses_beyond_ascii_are_reported_to_those_who_can_read_them() {
    let refuse = || {
        Manners { ehlo: Some(vec!["SMTPUTF8".into(), "8BITMIME".into()]), ..Manners::default() }
            .always("RCPT", "550 5.1.1 gibt’s nicht")
    };
    let mut e = entry(1, &["张三@there.example"]);
    e.smtputf8 = true;
    e.recipients[0].orcpt = Some("utf-8;张三@there.example".into());
    let text = "Subject: Grüße\r\n\r\nx\r\n".as_bytes();
    let ascii = read(&send(refuse(), e.clone(), text).await.1.reports()[0].message);
    assert_eq!(ascii.status_type, "message/delivery-status");
    assert_eq!(ascii.field(1, "Final-Recipient"), Some("utf-8; \\x{5F20}\\x{4E09}@there.example"));
    assert_eq!(ascii.field(1, "Original-Recipient"), Some("utf-8;\\x{5F20}\\x{4E09}@there.example"));
    assert_eq!(ascii.field(1, "Diagnostic-Code"), Some("smtp; 550 5.1.1 gibt?s nicht"));
    assert!(ascii.blocks.iter().flatten().all(|(n, v)| n.is_ascii() && v.is_ascii()));
    assert_eq!(
        (ascii.returned_type.as_str(), ascii.returned.as_slice().trim_ascii_end()),
        ("message/global", text.trim_ascii_end())
    );
    e.sender = Some(Address::parse("李四@us.example").unwrap());
    let global = read(&send(refuse(), e, text).await.1.reports()[0].message);
    assert_eq!(global.status_type, "message/global-delivery-status");
    assert_eq!(global.field(1, "Final-Recipient"), Some("utf-8; 张三@there.example"));
    assert_eq!(global.field(1, "Diagnostic-Code"), Some("smtp; 550 5.1.1 gibt’s nicht"));
}

#[tokio::test]
async fn hostile_replies_and_messages_make_sound_reports() {
    let long = "ü".repeat(1500);
    for (reply, body) in [
        ("550 \x1b[2J\x07 --report Action: delivered", &b"no header at all\n.\n\0\rx"[..]),
        (&format!("550-5.1.1 {long}\r\n550 5.1.1 {long}"), b""),
        ("550 5.1.1 no", &[&b"Subject: "[..], &[b'x'; 5000], b"\r\n\r\n"].concat()),
    ] {
        let (_, spool) = send(Manners::default().always("RCPT", reply), entry(1, &["b@there.example"]), body).await;
        let read = read(&spool.reports()[0].message);
        assert_eq!((read.blocks.len(), read.field(1, "Action")), (2, Some("failed")));
        assert_eq!(read.returned_type, if body.is_empty() { "message/rfc822" } else { "text/rfc822-headers" });
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn each_outcome_is_one_line_with_the_trace() {
    let log = Log::default();
    let to = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || to.clone()).finish();
    // For the whole process: the other tests' lines bear other traces.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let manners = Manners::default().once("RCPT TO:<c@", "450 4.2.0 later").once("RCPT TO:<d@", "550 5.1.1 no");
    let e = entry(777_001, &["b@there.example", "c@there.example", "d@there.example"]);
    let trace = e.trace;
    send(manners, e, BODY).await;
    let log = String::from_utf8(log.0.lock().clone()).unwrap();
    for (to, verb) in [("b", "delivered"), ("c", "deferred"), ("d", "bounced")] {
        let lines: Vec<&str> = log
            .lines()
            .filter(|l| l.contains(&format!(" trace={trace} ")) && l.contains(&format!("to={to}@there.example")))
            .collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(lines[0].contains(verb) && lines[0].contains("from=a@us.example"), "{}", lines[0]);
    }
    assert!(log.contains(&format!("about={trace}")), "the report names the message: {log}");
}
