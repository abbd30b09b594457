//! The same mail read by another parser (mail-parser): well-formed mail is read alike.

use mail_parser::{MessageParser, MimeHeaders, PartType};
use proptest::prelude::*;
use twinpost_message::{Parsed, Part, PartBody, charset, decode_part};

/// Decoded texts of all text leaves, in order.
fn texts(mail: &[u8], part: &Part, out: &mut Vec<String>) {
    match &part.body {
        PartBody::Multipart(parts) => parts.iter().for_each(|p| texts(mail, p, out)),
        PartBody::Message(inner) => texts(mail, &inner.1, out),
        PartBody::Leaf if part.kind == "text" => {
            let bytes = decode_part(mail, part).unwrap();
            out.push(charset::decode(&bytes, part.param("charset")).into_owned());
        }
        PartBody::Leaf => {}
    }
}

fn peer_texts(message: &mail_parser::Message<'_>, out: &mut Vec<String>) {
    for part in &message.parts {
        match &part.body {
            PartType::Text(text) | PartType::Html(text) => out.push(text.to_string()),
            PartType::Message(inner) => peer_texts(inner, out),
            PartType::Binary(_) | PartType::InlineBinary(_) | PartType::Multipart(_) => {}
        }
    }
}

#[derive(Clone, Debug)]
enum Tree {
    Text { html: bool, text: String, quoted: bool },
    File(String),
    Multipart(Vec<Tree>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        (any::<bool>(), "[a-zA-Zé学校 =_.?]{1,60}", any::<bool>()).prop_map(|(html, text, quoted)| Tree::Text {
            html,
            text: format!("x{text}x"),
            quoted
        }),
        "[a-z]{1,8}\\.pdf".prop_map(Tree::File),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| prop::collection::vec(inner, 1..4).prop_map(Tree::Multipart))
}

fn write(tree: &Tree, count: &mut u32, out: &mut String) {
    match tree {
        Tree::Text { html, text, quoted: true } => {
            let coded: String = text.bytes().map(|b| format!("={b:02X}")).collect::<Vec<_>>().chunks(20).map(<[String]>::concat).collect::<Vec<_>>().join("=\r\n");
            out.push_str(&format!(
                "Content-Type: text/{}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{coded}",
                if *html { "html" } else { "plain" }
            ));
        }
        Tree::Text { html, text, quoted: false } => {
            out.push_str(&format!("Content-Type: text/{}; charset=utf-8\r\n\r\n{text}", if *html { "html" } else { "plain" }));
        }
        Tree::File(name) => out.push_str(&format!(
            "Content-Type: application/pdf\r\nContent-Disposition: attachment; filename*=utf-8''{name}\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC"
        )),
        Tree::Multipart(parts) => {
            *count += 1;
            let boundary = format!("=_b{count}_x");
            out.push_str(&format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n"));
            for part in parts {
                out.push_str(&format!("--{boundary}\r\n"));
                write(part, count, out);
                out.push_str("\r\n");
            }
            out.push_str(&format!("--{boundary}--\r\n"));
        }
    }
}

fn names(part: &Part, out: &mut Vec<String>) {
    match &part.body {
        PartBody::Multipart(parts) => parts.iter().for_each(|p| names(p, out)),
        PartBody::Leaf | PartBody::Message(_) => out.extend(part.file_name().map(str::to_owned)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn well_formed_mail_is_read_alike(tree in tree(), subject in "[A-Za-z]{1,10}( (=\\?utf-8\\?q\\?[a-z]{1,5}=C3=A9\\?=|[a-z]{1,5})){0,4}") {
        let mut mail = format!("From: \"A. B\" <a.b@x.example>\r\nTo: c@x.example, D <d@x.example>\r\nDate: Fri, 21 Nov 1997 09:55:06 -0600\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n");
        write(&tree, &mut 0, &mut mail);
        let parsed = Parsed::parse(mail.as_bytes());
        let peer = MessageParser::default().parse(mail.as_bytes()).unwrap();
        prop_assert_eq!(Some(parsed.envelope.subject_text.as_str()), peer.subject());
        prop_assert_eq!(parsed.sent_s, peer.date().map(mail_parser::DateTime::to_timestamp));
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        texts(mail.as_bytes(), &parsed.root, &mut ours);
        peer_texts(&peer, &mut theirs);
        prop_assert_eq!(ours, theirs);
        let mut ours = Vec::new();
        names(&parsed.root, &mut ours);
        let theirs: Vec<String> = peer.parts.iter().filter_map(|p| p.attachment_name().map(str::to_owned)).collect();
        prop_assert_eq!(ours, theirs);
    }
}
