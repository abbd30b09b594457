//! Who may send as whom, and where an address leads.

use crate::node::Node;
use crate::smtp::message;

const BEN: &str = "ben@school.example";

fn from(author: &str) -> Vec<u8> {
    format!("From: {author}\r\nTo: anna@school.example\r\nSubject: hello\r\n\r\nhello\r\n").into_bytes()
}

#[test]
fn an_account_sends_as_itself_and_its_aliases_only() {
    let node = Node::start();
    node.ctl(&["alias", "add", "maths@school.example", BEN]).well();
    let mut smtp = node.submission(BEN);
    let to = ["anna@school.example"];
    for (envelope, author, code) in [
        (BEN, BEN, 250),
        ("maths@school.example", "maths@school.example", 250),
        (BEN, "maths@school.example", 250),
        ("anna@school.example", "anna@school.example", 553),
        (BEN, "Anna <anna@school.example>", 553),
        ("postmaster@school.example", "postmaster@school.example", 553),
        ("ben@elsewhere.example", "ben@elsewhere.example", 553),
        ("", BEN, 250),
    ] {
        let reply = smtp.mail(envelope, &to, &from(author)).unwrap();
        println!("MAIL FROM:<{envelope}>, From: {author}: {reply:?}");
        assert_eq!(reply.code, code, "MAIL FROM:<{envelope}>, From: {author}: {reply:?}");
    }
    println!("who is not signed in does not relay");
    let refused = node.mx().mail("a@elsewhere.example", &["far@away.example"], &from("a@elsewhere.example")).unwrap();
    assert_eq!(refused.code, 550, "{refused:?}");
    let refused = crate::smtp::Smtp::open_tls(node.at("submissions"), &node.ca()).unwrap().command(&format!("MAIL FROM:<{BEN}>"));
    assert_eq!(refused.unwrap().code, 530);
    assert_eq!(node.imap("anna@school.example").count("INBOX"), 4);
}

#[test]
fn plus_addressing_leads_into_the_folder_of_that_name() {
    let node = Node::start();
    let mut imap = node.imap(BEN);
    imap.ok("CREATE Lists");
    let mut smtp = node.mx();
    for to in ["ben+Lists@school.example", "ben+lists@school.example", "ben+nowhere@school.example"] {
        assert_eq!(smtp.mail("a@elsewhere.example", &[to], &from("a@elsewhere.example")).unwrap().code, 250, "{to}");
    }
    println!("Lists has {}, INBOX has {}", imap.count("Lists"), imap.count("INBOX"));
    assert!(imap.count("Lists") >= 1, "the folder that is there took its mail");
    assert_eq!(imap.count("Lists") + imap.count("INBOX"), 3, "none of the three is lost");
    assert!(imap.count("INBOX") >= 1, "a folder that is not there is not made by a stranger");
}

#[test]
fn mail_to_a_group_is_one_body_on_disk() {
    let node = Node::start();
    let mut smtp = node.mx();
    let before = node.pack_bytes();
    let size = 400_000;
    let reply =
        smtp.mail("a@elsewhere.example", &["everyone@school.example"], &message("g@load.example", "to all", size)).unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    let grown = node.pack_bytes() - before;
    println!("a message of {size} bytes to three people made the packs {grown} bytes larger");
    assert!(grown < size as u64 * 3 / 2, "{grown} bytes: more than one body");
    for member in [BEN, "anna@school.example", "zhang.wei@school.example"] {
        assert_eq!(node.imap(member).message_ids("INBOX").get("g@load.example"), Some(&1), "{member}");
    }
    println!("each has a message of its own: flags and deletion touch nobody else");
    let mut ben = node.imap(BEN);
    ben.ok("SELECT INBOX");
    ben.ok("UID STORE 1 +FLAGS (\\Deleted)");
    ben.ok("EXPUNGE");
    let mut anna = node.imap("anna@school.example");
    anna.ok("SELECT INBOX");
    assert!(anna.ok("UID FETCH 1 (FLAGS BODY.PEEK[])").iter().any(|l| l.contains("<g@load.example>") && l.contains("FLAGS ()")));
}
