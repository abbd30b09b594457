//! Published examples, what real clients send, wrong forms, and any bytes.

use super::*;
use crate::codec::ast::*;
use crate::codec::set::{Bound, SequenceSet};
use proptest::prelude::*;
use twinpost_message::Flags;

fn ok(command: &str) -> Request {
    match parse(format!("A1 {command}\r\n").as_bytes(), false) {
        Ok(c) => {
            assert_eq!(c.tag, "A1");
            c.request
        }
        Err(e) => panic!("{command}: {e:?}"),
    }
}

fn fault(command: &str) -> ErrorKind {
    match parse(format!("A1 {command}\r\n").as_bytes(), false) {
        Ok(c) => panic!("{command}: {c:?}"),
        Err(e) => {
            assert_eq!(e.tag.as_deref(), Some("A1"));
            assert!(e.message.is_ascii() && !e.message.is_empty());
            e.kind
        }
    }
}

fn program(search: &str) -> SearchKey {
    match ok(&format!("SEARCH {search}")) {
        Request::Search(s) => s.program,
        other => panic!("{other:?}"),
    }
}

fn items(fetch: &str) -> Vec<FetchItem> {
    match ok(&format!("FETCH 1 {fetch}")) {
        Request::Fetch(f) => f.items,
        other => panic!("{other:?}"),
    }
}

fn name(text: &str) -> MailboxName {
    MailboxName::new(text)
}

#[test]
fn commands_without_much() {
    assert_eq!(ok("capability"), Request::Capability);
    assert_eq!(ok("NOOP  "), Request::Noop);
    assert_eq!(ok("LOGIN SMITH SESAME"), Request::Login { user: "SMITH".into(), password: "SESAME".into() });
    assert_eq!(
        ok("LOGIN {5}\r\nf\r\n\"d {7+}\r\nfat man"),
        Request::Login { user: "f\r\n\"d".into(), password: "fat man".into() }
    );
    assert_eq!(ok(r#"login "a\"b\\c" "c:\dir]""#), Request::Login { user: "a\"b\\c".into(), password: "c:\\dir]".into() });
    assert_eq!(ok("LOGIN jürgen päss"), Request::Login { user: "jürgen".into(), password: "päss".into() });
    // RFC 4959 3
    assert_eq!(
        ok("authenticate plain dGVzdAB0ZXN0AHRlc3Q="),
        Request::Authenticate { mechanism: "PLAIN".into(), initial: Some("dGVzdAB0ZXN0AHRlc3Q=".into()) }
    );
    assert_eq!(
        ok("AUTHENTICATE EXTERNAL ="),
        Request::Authenticate { mechanism: "EXTERNAL".into(), initial: Some(String::new()) }
    );
    assert_eq!(ok("AUTHENTICATE SCRAM-SHA-256"), Request::Authenticate { mechanism: "SCRAM-SHA-256".into(), initial: None });
    assert_eq!(ok("ENABLE condstore X-GOOD-IDEA"), Request::Enable(vec!["CONDSTORE".into(), "X-GOOD-IDEA".into()]));
    // RFC 2971 3.1
    assert_eq!(
        ok(r#"ID ("name" "sodr" "version" "19.34" "vendor" NIL)"#),
        Request::Id(vec![
            ("name".into(), Some("sodr".into())),
            ("version".into(), Some("19.34".into())),
            ("vendor".into(), None)
        ])
    );
    assert_eq!(ok("ID NIL"), Request::Id(vec![]));
    assert_eq!(ok("COMPRESS DEFLATE"), Request::Compress("DEFLATE".into()));
    assert_eq!(ok("UID EXPUNGE 3000:3002"), Request::Expunge { uids: SequenceSet::parse(b"3000:3002") });
    // RFC 9208 4.1.3
    assert_eq!(
        ok("SETQUOTA \"\" (STORAGE 512)"),
        Request::SetQuota { root: String::new(), limits: vec![("STORAGE".into(), 512)] }
    );
    assert_eq!(ok("GETQUOTAROOT INBOX"), Request::GetQuotaRoot(name("INBOX")));
}

#[test]
fn wrong_forms_are_refused_with_their_tag() {
    for command in [
        "",
        " ",
        "FROB",
        "NOOP x",
        "LOGIN",
        "LOGIN a",
        "LOGIN a \"b",
        "LOGIN a b c",
        "LOGIN (a) b",
        "SELECT",
        "SELECT a b",
        "SELECT a (X)",
        "FETCH",
        "FETCH 1",
        "FETCH 0 FLAGS",
        "FETCH 1 ()",
        "FETCH 1 (FLAGS",
        "FETCH 1 FLAG",
        "FETCH a FLAGS",
        "FETCH 1 BODY[",
        "FETCH 1 BODY[1.]",
        "FETCH 1 BODY[MIME]",
        "FETCH 1 BODY[0]",
        "FETCH 1 BODY[]<0>",
        "FETCH 1 BODY[]<0.0>",
        "FETCH 1 (FLAGS) (VANISHED)",
        "FETCH 1:4294967296 FLAGS",
        "FETCH 1 BODY[HEADER.FIELDS ()]",
        "FETCH 1 BODY[HEADER.FIELDS (\"a\\\"b\")] x",
        "FETCH 1 BODY[HEADER.FIELDS (a:b)]",
        "STORE 1 FLAGS",
        "STORE 1 *FLAGS (x)",
        "STORE 1 +FLAGS (\\Seen",
        "STORE 1 (X 1) FLAGS ()",
        "STORE 1 FLAGS (a]b)",
        "STORE 1 FLAGS (ä)",
        "SEARCH",
        "SEARCH FROB",
        "SEARCH NOT",
        "SEARCH OR 1",
        "SEARCH (",
        "SEARCH ()",
        "SEARCH ON 31-Feb-2000",
        "SEARCH RETURN (FROB) ALL",
        "SEARCH FROM",
        "COPY 1",
        "LIST",
        "LIST \"\"",
        "LIST (RECURSIVEMATCH) \"\" *",
        "LIST (FROB) \"\" *",
        "LIST \"\" () RETURN ()",
        "STATUS INBOX",
        "STATUS INBOX ()",
        "STATUS INBOX (FROB)",
        "ENABLE",
        "APPEND INBOX \"text\"",
        "APPEND INBOX",
        "UID",
        "UID NOOP",
        "UID APPEND x",
        "CREATE",
        "RENAME a",
        "SORT (FROB) UTF-8 ALL",
        "SORT () UTF-8 ALL",
        "THREAD FROB UTF-8 ALL",
        "SETMETADATA INBOX (/a)",
        "SETMETADATA INBOX (a NIL)",
        "GETMETADATA INBOX /a//b",
        "NOTIFY",
        "NOTIFY SET",
        "NOTIFY FROB",
        "LOGIN {3}\r\nab",
        "ID (\"a\")",
        "SEARCH MODSEQ \"x\" frob 1",
        "EXPUNGE 1",
        "UID EXPUNGE",
    ] {
        assert_eq!(fault(command), ErrorKind::Syntax, "{command}");
    }
    assert_eq!(fault("SEARCH CHARSET KLINGON TEXT x"), ErrorKind::BadCharset);
    assert_eq!(fault("CREATE x (USE (\\Frob))"), ErrorKind::Cannot);
    assert_eq!(fault(&format!("SEARCH {}ALL", "NOT ".repeat(200))), ErrorKind::Limit);
    assert_eq!(fault(&format!("SEARCH {}ALL{}", "(".repeat(20_000), ")".repeat(20_000))), ErrorKind::Limit);
    assert_eq!(fault(&format!("FETCH 1 ({})", "FLAGS ".repeat(300))), ErrorKind::Limit);
    for command in ["", "\r\n", "(a) NOOP\r\n", "+ NOOP\r\n", "* OK\r\n", "\"a\" NOOP"] {
        assert_eq!(parse(command.as_bytes(), false).unwrap_err().tag, None, "{command}");
    }
}

#[test]
fn mailbox_commands() {
    let Request::Select(s) = ok("SELECT inbox") else { panic!() };
    assert!(s.mailbox.is_inbox() && !s.read_only && !s.condstore && s.qresync.is_none());
    let Request::Select(s) = ok("EXAMINE \"&U,BTFw-\" (CONDSTORE)") else { panic!() };
    assert!(s.read_only && s.condstore);
    assert_eq!(s.mailbox.as_str(), "台北");
    // RFC 7162 3.2.5.2
    let Request::Select(s) = ok("SELECT INBOX (QRESYNC (67890007 90060115194045000 41:211,214:541 (1,5,9 41,91,200)))") else {
        panic!()
    };
    let q = s.qresync.unwrap();
    assert_eq!((q.uid_validity, q.modseq), (67_890_007, 90_060_115_194_045_000));
    assert_eq!(q.known_uids, SequenceSet::parse(b"41:211,214:541"));
    assert_eq!(q.seq_match.unwrap().1, SequenceSet::parse(b"41,91,200").unwrap());
    let Request::Select(s) = ok("SELECT INBOX (QRESYNC (67890007 20050715194045000))") else { panic!() };
    assert_eq!(s.qresync.unwrap().known_uids, None);

    // RFC 6154 5.1
    assert_eq!(
        ok("CREATE MySpecial/ (USE (\\Drafts \\Sent))"),
        Request::Create {
            mailbox: name("MySpecial"),
            parent_only: true,
            special_use: vec![SpecialUse::Drafts, SpecialUse::Sent]
        }
    );
    let list = |command: &str| match ok(command) {
        Request::List(l) => l,
        other => panic!("{other:?}"),
    };
    let l = list("LIST \"\" *");
    assert_eq!((l.patterns, l.extended, l.lsub), (vec!["*".to_owned()], false, false));
    let l = list("LIST \"\" \"\"");
    assert_eq!((l.patterns, l.extended), (vec![String::new()], false));
    // RFC 9051 6.3.9.7 and 6.3.9.8
    let l = list("LIST (SUBSCRIBED) \"\" (\"INBOX\" Foo% \"&ZeVnLIqe-/*\") RETURN (CHILDREN STATUS (MESSAGES UNSEEN))");
    assert!(l.select.subscribed && l.returns.subscribed && l.returns.children && l.extended);
    assert_eq!(l.patterns, ["INBOX", "Foo%", "日本語/*"]);
    assert_eq!(l.returns.status, Some(vec![StatusItem::Messages, StatusItem::Unseen]));
    assert!(list("list (SPECIAL-USE RECURSIVEMATCH) \"\" %").select.recursive_match);
    let l = list("LSUB \"#news.\" \"comp.mail.*\"");
    assert!(l.lsub && l.select.subscribed);
    assert_eq!(
        ok("STATUS \"blurdybloop\" (UIDNEXT MESSAGES messages HIGHESTMODSEQ SIZE )"),
        Request::Status {
            mailbox: name("blurdybloop"),
            items: vec![StatusItem::UidNext, StatusItem::Messages, StatusItem::HighestModSeq, StatusItem::Size]
        }
    );
    // In UTF-8 mode `&` is a character as any other (RFC 6855 3)
    let c = parse("a DELETE \"A&XfJT0ZAB-é\"".as_bytes(), true).unwrap();
    assert_eq!(c.request, Request::Delete(name("A&XfJT0ZAB-é")));
}

#[test]
fn fetch_items() {
    // RFC 9051 6.4.5
    let Request::Fetch(f) = ok("FETCH 2:4 (FLAGS BODY[HEADER.FIELDS (DATE FROM)])") else { panic!() };
    assert_eq!(f.set, SequenceSet::parse(b"2:4").unwrap());
    assert_eq!(
        f.items[1],
        FetchItem::Section {
            peek: false,
            section: Section { part: vec![], what: SectionWhat::HeaderFields(vec!["DATE".into(), "FROM".into()]) },
            partial: None
        }
    );
    assert_eq!(items("FULL").len(), 5);
    assert_eq!(
        items("BODY.PEEK[4.2.2.1]<0.2048>"),
        [FetchItem::Section {
            peek: true,
            section: Section { part: vec![4, 2, 2, 1], what: SectionWhat::All },
            partial: Some((0, 2048))
        }]
    );
    assert_eq!(
        items("(body.peek[1.MIME] BODY[TEXT] body[4.1.Header.Fields.Not (\"To\" {2}\r\nCc)] body bodystructure)").len(),
        5
    );
    assert_eq!(
        items("(BINARY.PEEK[1.2]<3.4> BINARY[] BINARY.SIZE[2])"),
        [
            FetchItem::Binary { peek: true, part: vec![1, 2], partial: Some((3, 4)) },
            FetchItem::Binary { peek: false, part: vec![], partial: None },
            FetchItem::BinarySize(vec![2])
        ]
    );
    assert_eq!(
        items("(PREVIEW (LAZY) UID PREVIEW EMAILID THREADID SAVEDATE MODSEQ RFC822.SIZE RFC822.HEADER RFC822)")[..3],
        [FetchItem::Preview { lazy: true }, FetchItem::Uid, FetchItem::Preview { lazy: false }]
    );
    assert_eq!(items("PREVIEW"), [FetchItem::Preview { lazy: false }]);
    // RFC 7162 3.2.6
    let Request::Fetch(f) = ok("UID FETCH 300:500 (FLAGS) (CHANGEDSINCE 12345 VANISHED)") else { panic!() };
    assert_eq!((f.uid, f.changed_since, f.vanished), (true, Some(12345), true));
    // RFC 9394 3.3
    let Request::Fetch(f) = ok("UID FETCH 25900:26600 (UID FLAGS) (PARTIAL -1:-100)") else { panic!() };
    assert_eq!(f.partial, Some(PartialRange { from_end: true, first: 1, last: 100 }));
}

#[test]
fn store_copy_and_append() {
    let Request::Store(s) = ok("STORE 2:4 +FLAGS (\\Deleted)") else { panic!() };
    assert_eq!((s.action, s.silent, s.flags.system), (StoreAction::Add, false, Flags::DELETED));
    // RFC 7162 3.1.3
    let Request::Store(s) = ok("UID STORE 6,4,8 (UNCHANGEDSINCE 12121230045) +FLAGS.SILENT (\\Deleted $MDNSent $mdnsent)") else {
        panic!()
    };
    assert_eq!((s.unchanged_since, s.silent, s.flags.keywords.len(), s.uid), (Some(12_121_230_045), true, 1, true));
    // Python's imaplib, and flags without parentheses
    let Request::Store(s) = ok("STORE 1 -flags \\Seen \\Recent $Junk[1") else { panic!() };
    assert_eq!((s.action, s.flags.system, s.flags.keywords), (StoreAction::Remove, Flags::SEEN, vec!["$Junk[1".to_owned()]));
    assert!(matches!(ok("STORE 1 FLAGS ()"), Request::Store(Store { action: StoreAction::Replace, .. })));
    assert_eq!(
        ok("UID MOVE 42:69 foo"),
        Request::Move { uid: true, set: SequenceSet::parse(b"42:69").unwrap(), mailbox: name("foo") }
    );
    assert_eq!(ok("COPY $ foo"), Request::Copy { uid: false, set: SequenceSet::Saved, mailbox: name("foo") });

    // RFC 9051 6.3.12
    let a = append_start(b"A003 APPEND saved-messages (\\Seen) {326}\r\n", false).unwrap();
    assert_eq!((a.tag.as_str(), a.mailbox.as_str(), a.item.flags.system), ("A003", "saved-messages", Flags::SEEN));
    assert_eq!(a.item.literal, Literal { size_bytes: 326, sync: true, binary: false });
    let a = append_start(b"A APPEND {5+}\r\nInbox () \" 7-Feb-1994 21:52:25 -0800\" ~{10+}\r\n", false).unwrap();
    assert!(a.mailbox.is_inbox() && a.item.literal.binary && !a.item.literal.sync);
    assert_eq!(a.item.received_s, Some(760_686_745));
    let a = append_start(b"A APPEND x UTF8 (~{42}\r\n", true).unwrap();
    assert!(a.item.utf8);
    // RFC 8508 3.5
    let a = append_start(b"A UID REPLACE 2004 \"Drafts\" (\\Seen \\Draft) {312}\r\n", false).unwrap();
    assert_eq!(a.replace, Some(Replace { uid: true, number: SequenceSet::one(2004) }));
    assert_eq!(append_next(b"\r\n", false), Ok(None));
    assert_eq!(append_next(b")\r\n", true), Ok(None));
    let next = append_next(b" (\\Answered x) \"07-Feb-1994 21:52:25 +0000\" {3}\r\n", false).unwrap().unwrap();
    assert_eq!((next.flags.system, next.flags.keywords.len(), next.literal.size_bytes), (Flags::ANSWERED, 1, 3));
    assert!(append_next(b"\r\n", true).is_err());
    assert!(append_next(b"x\r\n", false).is_err());
    assert!(append_start(b"A UID APPEND x {1}\r\n", false).is_err());
    assert!(append_start(b"A APPEND x (\\Seen {1}\r\n", false).is_err());
    assert_eq!(append_start(b"A APPEND x \"07-Feb-1994 25:52:25 +0000\" {3}\r\n", false).unwrap_err().tag.as_deref(), Some("A"));
}

#[test]
fn search_programs() {
    use SearchKey as K;
    // RFC 9051 6.4.4.4
    assert_eq!(
        program("RETURN (MIN COUNT) FLAGGED SINCE 1-Feb-1994 NOT FROM \"Smith\""),
        K::And(vec![
            K::Flag(Flags::FLAGGED),
            K::Since(DateField::Received, 8797),
            K::Not(Box::new(K::Address(AddressField::From, "Smith".into())))
        ])
    );
    assert_eq!(program("CHARSET UTF-8 TEXT {13}\r\nмать мать".replace("{13}", "{17}").as_str()), K::Text("мать мать".into()));
    let Request::Search(s) = ok("SEARCH RETURN () $ SMALLER 4096") else { panic!() };
    assert!(s.returns.unwrap().all);
    assert_eq!(s.program, K::And(vec![K::Sequence(SequenceSet::Saved), K::Smaller(4096)]));
    let Request::Search(s) = ok("UID SEARCH RETURN (SAVE PARTIAL 1:500) ALL") else { panic!() };
    assert_eq!(s.returns.unwrap().partial, Some(PartialRange { from_end: false, first: 1, last: 500 }));
    assert_eq!(
        program("OR (UNSEEN 1:*) NOT KEYWORD $Forwarded"),
        K::Or(
            Box::new(K::And(vec![
                K::Not(Box::new(K::Flag(Flags::SEEN))),
                K::Sequence(SequenceSet::Ranges(vec![(Bound::Number(1), Bound::Star)]))
            ])),
            Box::new(K::Not(Box::new(K::Keyword("$Forwarded".into()))))
        )
    );
    assert_eq!(program("HEADER Message-ID <a@b>"), K::Header("message-id".into(), "<a@b>".into()));
    assert_eq!(
        program("SENTSINCE \"1-Jan-1970\" YOUNGER 259200"),
        K::And(vec![K::Since(DateField::Sent, 0), K::Younger(259_200)])
    );
    assert_eq!(program("MODSEQ \"/flags/\\\\draft\" all 620162338"), K::ModSeq(620_162_338));
    assert_eq!(program("EMAILID M6d99ac3275bb4e"), K::EmailId("M6d99ac3275bb4e".into()));
    assert_eq!(program("SAVEDON 1-Feb-1994"), K::On(DateField::Saved, 8797));
    // strings in their charset: GBK and Latin-1 bytes
    let gbk = b"a SEARCH CHARSET GBK SUBJECT \"\xcd\xa8\xd6\xaa\"\r\n";
    let Ok(Command { request: Request::Search(s), .. }) = parse(gbk, false) else { panic!() };
    assert_eq!(s.program, K::Subject("通知".into()));
    // RFC 5256 3
    let Request::Sort { keys, .. } = ok("SORT (REVERSE DATE SUBJECT) US-ASCII UNDELETED") else { panic!() };
    assert_eq!(keys, [SortKey { reverse: true, by: SortBy::Date }, SortKey { reverse: false, by: SortBy::Subject }]);
    assert!(matches!(
        ok("UID THREAD REFERENCES UTF-8 SINCE 5-MAR-2000"),
        Request::Thread { algorithm: ThreadAlgorithm::References, .. }
    ));
    // a hundred Message-IDs in nested ORs, as some clients ask
    program(&format!("{}HEADER MESSAGE-ID z", (0..100).map(|n| format!("OR HEADER MESSAGE-ID {n} ")).collect::<String>()));
}

#[test]
fn metadata_and_notify() {
    // RFC 5464 4.2
    let Request::GetMetadata(g) = ok("GETMETADATA (MAXSIZE 1024 DEPTH infinity) \"INBOX\" (/shared/comment /private/Comment)")
    else {
        panic!()
    };
    assert_eq!((g.max_size_bytes, g.depth), (Some(1024), Depth::Infinity));
    assert_eq!(g.entries, ["/shared/comment", "/private/comment"]);
    let Request::GetMetadata(g) = ok("GETMETADATA \"\" (MAXSIZE 1024) /shared/comment") else { panic!() };
    assert_eq!((g.mailbox, g.max_size_bytes), (None, Some(1024)));
    assert_eq!(
        ok("SETMETADATA INBOX (/private/comment {3}\r\nM\r\n /shared/comment NIL)"),
        Request::SetMetadata {
            mailbox: Some(name("INBOX")),
            entries: vec![("/private/comment".into(), Some(b"M\r\n".to_vec())), ("/shared/comment".into(), None)]
        }
    );
    // RFC 5465 3.1 and 5.
    let Request::Notify(Notify::Set { status, groups }) = ok("notify set status (selected MessageNew MessageExpunge)"
        .replace("MessageNew MessageExpunge", "(MessageNew (uid body.peek[header.fields (from to subject)]) MessageExpunge)")
        .as_str())
    else {
        panic!()
    };
    assert!(status);
    assert!(matches!(&groups[0].events[0], NotifyEvent::MessageNew(items) if items.len() == 2));
    let Request::Notify(Notify::Set { groups, .. }) =
        ok("NOTIFY SET (personal (MessageNew FlagChange)) (mailboxes (a \"b c\") NONE)")
    else {
        panic!()
    };
    assert_eq!(groups[1], EventGroup { filter: MailboxFilter::Mailboxes(vec![name("a"), name("b c")]), events: vec![] });
    assert_eq!(ok("NOTIFY NONE"), Request::Notify(Notify::None));
}

#[test]
fn what_clients_send() {
    for command in [
        // Thunderbird
        "list (subscribed) \"\" \"*\" return (special-use)",
        "UID fetch 1:* (FLAGS)",
        "getquotaroot \"INBOX\"",
        "UID store 7 +Flags (\\Seen)",
        "UID fetch 12,14:20 (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)])",
        // Apple Mail
        "ID (\"name\" \"Mac OS X Mail\" \"version\" \"16.0 (3696.120.41.1.1)\" \"os\" \"Mac OS X\" \"vendor\" \"Apple Inc.\")",
        "UID FETCH 1:13 (INTERNALDATE UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (date subject from to cc message-id in-reply-to references)])",
        // Outlook
        "LIST \"\" \"%\" ",
        "UID FETCH 1:* (UID FLAGS) (CHANGEDSINCE 1)",
        "LSUB \"\" \"*\"",
        // mutt, mbsync, offlineimap
        "FETCH 1:5 (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (DATE FROM SENDER SUBJECT TO CC MESSAGE-ID REFERENCES CONTENT-TYPE CONTENT-DESCRIPTION IN-REPLY-TO REPLY-TO LINES LIST-POST X-LABEL)])",
        "UID FETCH 1:2147483647 (UID FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (X-TUID)])",
        "UID STORE 3 +FLAGS.SILENT (\\Seen)",
        // imaplib
        "SELECT INBOX",
        "FETCH 1 (RFC822)",
        "SEARCH ALL",
        "SEARCH CHARSET UTF-8 SUBJECT \"x\"",
        "STORE 1 +FLAGS (\\Deleted)",
        "STATUS INBOX (MESSAGES UIDNEXT)",
        // Roundcube
        "UID THREAD REFERENCES US-ASCII ALL UNDELETED",
        "UID SORT (ARRIVAL) US-ASCII UNDELETED",
        "UID SEARCH RETURN (ALL) UNSEEN UNDELETED",
        "LIST (SUBSCRIBED) \"\" (\"*\" \"INBOX\") RETURN (STATUS (MESSAGES UNSEEN))",
    ] {
        let _ = ok(command);
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(format!("{{{}+}}\r\n{text}", text.len()).as_bytes());
}

fn put_day(out: &mut Vec<u8>, day: Day) {
    let date = time::Date::from_julian_day(day + 2_440_588).unwrap();
    let month = &date.month().to_string()[..3];
    out.extend_from_slice(format!("{}-{month}-{:04}", date.day(), date.year()).as_bytes());
}

/// Writes a program as a client would: the counterpart of the parser for the property below.
fn write_key(out: &mut Vec<u8>, key: &SearchKey) {
    use SearchKey as K;
    let word = |out: &mut Vec<u8>, w: &str| out.extend_from_slice(w.as_bytes());
    match key {
        K::All => word(out, "ALL"),
        K::And(keys) => {
            out.push(b'(');
            for (i, k) in keys.iter().enumerate() {
                if i > 0 {
                    out.push(b' ');
                }
                write_key(out, k);
            }
            out.push(b')');
        }
        K::Or(a, b) => {
            word(out, "OR ");
            write_key(out, a);
            out.push(b' ');
            write_key(out, b);
        }
        K::Not(k) => {
            word(out, "NOT ");
            write_key(out, k);
        }
        K::Sequence(set) => set.write(out),
        K::Uid(set) => {
            word(out, "UID ");
            set.write(out);
        }
        K::Flag(f) => word(out, if *f == Flags::SEEN { "SEEN" } else { "FLAGGED" }),
        K::Keyword(k) => word(out, &format!("KEYWORD {k}")),
        K::Subject(s) => {
            word(out, "SUBJECT ");
            put_string(out, s);
        }
        K::Header(n, s) => {
            word(out, &format!("HEADER {n} "));
            put_string(out, s);
        }
        K::Since(DateField::Saved, d) => {
            word(out, "SAVEDSINCE ");
            put_day(out, *d);
        }
        K::Larger(n) => word(out, &format!("LARGER {n}")),
        K::ModSeq(n) => word(out, &format!("MODSEQ {n}")),
        other => panic!("not generated: {other:?}"),
    }
}

fn set() -> impl Strategy<Value = SequenceSet> {
    let bound = prop_oneof![(1u32..).prop_map(Bound::Number), Just(Bound::Star)];
    prop_oneof![
        1 => Just(SequenceSet::Saved),
        4 => prop::collection::vec((bound.clone(), bound), 1..6).prop_map(SequenceSet::Ranges)
    ]
}

fn key() -> impl Strategy<Value = SearchKey> {
    use SearchKey as K;
    let leaf = prop_oneof![
        Just(K::All),
        set().prop_map(K::Sequence),
        set().prop_map(K::Uid),
        Just(K::Flag(Flags::SEEN)),
        Just(K::Flag(Flags::FLAGGED)),
        "[$a-z]{1,12}".prop_map(K::Keyword),
        any::<String>().prop_map(K::Subject),
        ("[a-z-]{1,9}", any::<String>()).prop_map(|(n, s)| K::Header(n, s)),
        (-1000i32..60_000).prop_map(|d| K::Since(DateField::Saved, d)),
        any::<u32>().prop_map(K::Larger),
        (0..u64::MAX / 2).prop_map(K::ModSeq),
    ];
    leaf.prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..5).prop_map(K::And),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| K::Or(Box::new(a), Box::new(b))),
            inner.prop_map(|k| K::Not(Box::new(k))),
        ]
    })
}

proptest! {
    #[test]
    fn a_written_program_is_read_again(key in key()) {
        let mut out = b"t UID SEARCH ".to_vec();
        write_key(&mut out, &key);
        out.extend_from_slice(b"\r\n");
        let read = parse(&out, true).map_err(|e| TestCaseError::fail(format!("{e:?}")))?;
        prop_assert_eq!(read.request, Request::Search(Search { uid: true, returns: None, program: key }));
    }
    #[test]
    fn any_bytes(data: Vec<u8>) { fuzz(&data); }
    #[test]
    fn any_grammar_soup(words in prop::collection::vec(prop_oneof![
        prop::sample::select(vec!["FETCH", "SEARCH", "UID", "LIST", "SELECT", "STORE", "NOTIFY SET", "SORT", "APPEND", "REPLACE", "GETMETADATA", "STATUS", "RETURN",
            "(", ")", "BODY[", "]", "<0.1>", "\"", "\\", "{3}\r\n", "{0+}\r\n", "~{1}\r\n", "1:*", "$", "NOT", "OR", "HEADER", "\\Seen", "QRESYNC", "1", "-", "INBOX", "%",
            "\" 1-Jan-2000 00:00:00 +0000\"", "UTF8", "NIL", "é"]).prop_map(str::to_owned),
        "[ -~]{0,6}"
    ], 0..20), spaced: bool) {
        fuzz(words.join(if spaced { " " } else { "" }).as_bytes());
    }
}
