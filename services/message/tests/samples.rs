//! Mail as it comes: charsets of Asia, broken structure, and what ENVELOPE and BODYSTRUCTURE say of it.

use twinpost_message::{Addr, Mailbox, Needle, Parsed, Part, PartBody, decode_part, search_text};

fn parse(mail: &[u8]) -> Parsed {
    Parsed::parse(mail)
}

fn join(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.concat()
}

/// `kind/subtype` of all parts with their sizes and lines, as BODYSTRUCTURE nests them.
fn shape(part: &Part) -> String {
    let own = format!("{}/{}", part.kind, part.subtype);
    match &part.body {
        PartBody::Leaf => format!("{own} {} {}", part.body_bytes(), part.lines),
        PartBody::Multipart(parts) => format!("{own}({})", parts.iter().map(shape).collect::<Vec<_>>().join(", ")),
        PartBody::Message(inner) => format!("{own} {} {}[{}]", part.body_bytes(), part.lines, shape(&inner.1)),
    }
}

fn mailbox(addr: &Addr) -> Mailbox {
    match addr {
        Addr::Mailbox(mailbox) => mailbox.clone(),
        Addr::Group(group) => panic!("a group: {group:?}"),
    }
}

/// The message of RFC 9051 section 8, whose FETCH answer is printed there.
#[test]
fn rfc_9051_section_8() {
    let mail = b"Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\nFrom: Terry Gray <gray@cac.washington.edu>\r\n\
        Subject: IMAP4rev2 WG mtg summary and minutes\r\nTo: imap@cac.washington.edu\r\n\
        cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\nMessage-Id: <B27397-0100000@cac.washington.ed>\r\n\
        MIME-Version: 1.0\r\nContent-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\r\nHello.\r\n";
    let parsed = parse(mail);
    let envelope = &parsed.envelope;
    assert_eq!(envelope.date.as_deref(), Some("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)"));
    assert_eq!(envelope.subject.as_deref(), Some("IMAP4rev2 WG mtg summary and minutes"));
    let terry = Mailbox { name: Some("Terry Gray".into()), local: "gray".into(), host: "cac.washington.edu".into() };
    for list in [&envelope.from, &envelope.sender, &envelope.reply_to] {
        assert_eq!(list.iter().map(mailbox).collect::<Vec<_>>(), std::slice::from_ref(&terry));
    }
    assert_eq!(
        envelope.cc.iter().map(mailbox).map(|m| (m.name, m.local, m.host)).collect::<Vec<_>>(),
        [(None, "minutes".into(), "CNRI.Reston.VA.US".into()), (Some("John Klensin".into()), "KLENSIN".into(), "MIT.EDU".into())]
    );
    assert!(envelope.bcc.is_empty() && envelope.in_reply_to.is_none());
    assert_eq!(envelope.message_id.as_deref(), Some("<B27397-0100000@cac.washington.ed>"));
    assert_eq!(parsed.id.as_deref(), Some("B27397-0100000@cac.washington.ed"));
    assert_eq!((parsed.sent_s, parsed.sent_zone_min), (Some(837_595_405), -420));
    assert_eq!(
        (parsed.root.kind.as_str(), parsed.root.param("charset"), parsed.root.encoding.as_str()),
        ("text", Some("US-ASCII"), "7bit")
    );
    assert_eq!((parsed.root.body_bytes(), parsed.root.lines), (8, 1));
}

#[test]
fn raw_headers_and_bodies_in_the_charsets_of_asia() {
    for (charset, subject, raw) in [
        ("GBK", "关于学校的通知", &b"\xb9\xd8\xd3\xda\xd1\xa7\xd0\xa3\xb5\xc4\xcd\xa8\xd6\xaa"[..]),
        ("gb2312", "学校", b"\xd1\xa7\xd0\xa3"),
        ("GB18030", "学\u{20000}", b"\xd1\xa7\x95\x32\x82\x36"),
        ("Big5", "學校", b"\xbe\xc7\xae\xd5"),
        ("ISO-2022-JP", "日本", b"\x1b$BF|K\\\x1b(B"),
        ("Shift_JIS", "日本", b"\x93\xfa\x96{"),
        ("EUC-KR", "한국", b"\xc7\xd1\xb1\xb9"),
        ("utf-8", "学校", "学校".as_bytes()),
    ] {
        let mail = join(&[
            b"From: ",
            raw,
            b" <a@x.example>\r\nSubject: ",
            raw,
            b"\r\nContent-Type: text/plain; charset=",
            charset.as_bytes(),
            b"\r\n\r\n",
            raw,
            b"\r\n",
        ]);
        let parsed = parse(&mail);
        assert_eq!(parsed.envelope.subject_text, subject, "{charset}");
        assert_eq!(mailbox(&parsed.envelope.from[0]).name.as_deref(), Some(subject), "{charset}");
        assert_eq!(parsed.preview, subject, "{charset}");
        let text = search_text(&mail, &parsed);
        assert!(Needle::new(subject).matches(&text.body) && Needle::new(subject).matches(&text.subject), "{charset}");
    }
    // Nothing says which charset it is: old Chinese mailers.
    let parsed = parse(b"Subject: \xd1\xa7\xd0\xa3\xa3\xac ok\r\n\r\n\xd1\xa7\xd0\xa3\xa1\xa3");
    assert_eq!((parsed.envelope.subject_text.as_str(), parsed.preview.as_str()), ("学校，\u{20}ok", "学校。"));
    assert_eq!(parse(b"Subject: caf\xe9\r\n\r\n").envelope.subject_text, "café");
}

#[test]
fn structures() {
    for (mail, want) in [
        ("", "text/plain 0 0"),
        ("\r\nbody", "text/plain 4 0"),
        ("Subject: only", "text/plain 0 0"),
        ("A: b\n\none\ntwo\n", "text/plain 8 2"),
        ("Content-Type: nonsense\r\n\r\nx", "text/plain 1 0"),
        ("Content-Type: text/html; charset=utf-8\r\n\r\nx\r\n", "text/html 3 1"),
        // No boundary, a boundary that does not occur, nothing inside.
        ("Content-Type: multipart/mixed\r\n\r\ntext\r\n", "text/plain 6 1"),
        ("Content-Type: multipart/mixed; boundary=b\r\n\r\ntext\r\n", "text/plain 6 1"),
        ("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b--\r\n", "text/plain 7 1"),
        // No end; preamble and epilogue; white space behind; the break before a boundary is not the part's.
        ("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n", "multipart/mixed(text/plain 5 1)"),
        (
            "Content-Type: multipart/mixed; boundary=\"b b\"\r\n\r\npre\r\n--b b \r\n\r\none\r\n\r\n--b b\t\r\n\r\ntwo\r\n--b b--\r\nepi\r\n--b b\r\n\r\nno",
            "multipart/mixed(text/plain 5 1, text/plain 3 0)",
        ),
        // A part that has no header, one that has no body, one that has neither.
        (
            "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: image/png\n--b\n\n--b\n--b--",
            "multipart/mixed(image/png 0 0, text/plain 0 0, text/plain 0 0)",
        ),
        // The inner one does not end; its boundary begins with the outer one's.
        (
            "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/alternative; boundary=bb\n\n--bb\n\none\n--bb\n\ntwo\n--b\n\nthree\n--b--\n",
            "multipart/mixed(multipart/alternative(text/plain 3 0, text/plain 3 0), text/plain 5 0)",
        ),
        // Only the beginning of a boundary line counts (RFC 2046 5.1.1).
        ("Content-Type: multipart/mixed; boundary=foo\n\n--foo bar\n\nx\n--foo--", "multipart/mixed(text/plain 1 0)"),
        (
            "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: in\r\n\r\nx\r\n--b--\r\n",
            "multipart/digest(message/rfc822 16 2[text/plain 1 0])",
        ),
        (
            "Content-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\nSubject: a\r\n\r\nb\r\n",
            "message/rfc822 49 5[message/rfc822 17 3[text/plain 3 1]]",
        ),
        // An encoded message is a file.
        (
            "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogYQ==\r\n",
            "application/octet-stream 18 0",
        ),
        ("Content-Type: message/delivery-status\r\n\r\nStatus: 5.0.0\r\n", "message/delivery-status 15 0"),
    ] {
        assert_eq!(shape(&parse(mail.as_bytes()).root), want, "{mail:?}");
    }
}

#[test]
fn limits_hold() {
    let deep = format!("{}\n\nx", "Content-Type: message/rfc822\n\n".repeat(500));
    let mut part = parse(deep.as_bytes()).root;
    let mut depth = 0;
    while let PartBody::Message(inner) = part.body {
        part = inner.1;
        depth += 1;
    }
    assert!((10..=50).contains(&depth) && part.is("application", "octet-stream"), "{depth}");
    let wide = format!("Content-Type: multipart/mixed; boundary=b\n\n{}", "--b\n\nx\n".repeat(5000));
    assert!(matches!(parse(wide.as_bytes()).root.body, PartBody::Multipart(parts) if (100..=1000).contains(&parts.len())));
    let long = format!("Subject: {}\nTo: {}\n\n", "=?utf-8?q?a".repeat(100_000), "a@b,".repeat(100_000));
    let parsed = parse(long.as_bytes());
    assert!(parsed.envelope.to.len() <= 20_000 && parsed.envelope.subject_text.len() <= 64 * 1024);
    let text = search_text(long.as_bytes(), &parsed);
    assert!(!text.complete);
    let references = format!("References: {}\n\n", (0..500).map(|n| format!("<{n}@x> ")).collect::<String>());
    let list = parse(references.as_bytes()).references;
    assert_eq!((list.len(), list[0].as_str(), list[99].as_str()), (100, "0@x", "499@x"));
}

#[test]
fn threads() {
    let thread = |header: &str| parse(format!("{header}\r\n\r\n").as_bytes()).thread;
    let root = thread("Message-ID: <1@x>");
    for reply in [
        "Message-ID: <2@x>\r\nIn-Reply-To: <1@x>",
        "Message-ID: <3@x>\r\nReferences: <1@x> <2@x>\r\nIn-Reply-To: <2@x>",
        "References: comment <\"1\"@x>\r\n <2@x>",
        "In-Reply-To: your mail <1@x>",
    ] {
        assert_eq!(thread(reply), root, "{reply}");
    }
    assert_ne!(thread("Message-ID: <2@x>"), root);
    assert_ne!(thread("Subject: a"), thread("Subject: b"));
    assert_eq!(root >> 63, 0, "fits a signed column");
}

#[test]
fn transfer_encodings_by_their_names() {
    for (name, kept, plain) in [
        ("BASE64", "base64", Some("ab")),
        ("base64 (comment)", "base64", Some("ab")),
        ("8-bit", "8bit", Some("YWI=")),
        ("", "7bit", Some("YWI=")),
        ("x-uuencode", "x-uuencode", None),
    ] {
        let mail = format!("Content-Transfer-Encoding: {name}\r\n\r\nYWI=");
        let parsed = parse(mail.as_bytes());
        assert_eq!(parsed.root.encoding, kept);
        let decoded = decode_part(mail.as_bytes(), &parsed.root);
        assert_eq!(decoded.ok().as_deref(), plain.map(str::as_bytes), "{name}");
    }
}

#[test]
fn attachments() {
    for (header, want) in [
        ("Content-Type: text/plain", false),
        ("Content-Type: application/pdf; name=a.pdf", true),
        ("Content-Type: text/plain\r\nContent-Disposition: attachment; filename=a.txt", true),
        ("Content-Type: application/pgp-signature", false),
    ] {
        let mail = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{header}\r\n\r\nx\r\n--b--\r\n");
        assert_eq!(parse(mail.as_bytes()).has_attachment, want, "{header}");
    }
    let inline = b"Content-Type: multipart/related; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\nx\r\n--b\r\n\
        Content-Type: image/png; name=logo.png\r\nContent-ID: <1>\r\nContent-Disposition: inline; filename=logo.png\r\n\r\nx\r\n--b--\r\n";
    assert!(!parse(inline).has_attachment);
}
