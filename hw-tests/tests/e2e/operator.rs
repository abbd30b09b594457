//! The operator's day: `twinpost ctl` changes people and domains, and the running node follows at once.

use crate::line::Line;
use crate::node::{Node, wait_for};
use crate::programs::Ended;
use crate::smtp::{Reply, Smtp, message};
use serde_json::{Value, json};
use std::net::TcpListener;

const BEN: &str = "ben@school.example";
const ANNA: &str = "anna@school.example";

#[track_caller]
fn refused(ended: &Ended, code: i32, word: &str) {
    assert_eq!(ended.code, code, "{ended:?}");
    assert!(ended.err.contains(word), "{word:?} is missing: {ended:?}");
}

fn mail(node: &Node, to: &str) -> Reply {
    node.mx().mail("a@elsewhere.example", &[to], &message("m@load.example", "hello", 2000)).unwrap()
}

fn signs_in(node: &Node, user: &str, password: &str) -> bool {
    node.imap_as(user, password).is_ok()
}

#[test]
fn domains_aliases_and_groups() {
    let node = Node::start();
    println!("domains: add, show, set, alias of a domain, rename, suspend, resume, remove");
    node.ctl(&["domain", "add", "club.example", "--quota", "1 GiB"]).well();
    refused(&node.ctl(&["domain", "add", "club.example"]), 1, "club.example");
    refused(&node.ctl(&["domain", "show", "nowhere.example"]), 1, "nowhere.example");
    assert_eq!(node.json(&["domain", "show", "club.example"])["quota_bytes"], 1u64 << 30);
    node.ctl(&["account", "add", "li@club.example"]).well();
    node.ctl(&["domain", "add-alias", "club.example", "verein.example"]).well();
    assert_eq!(mail(&node, "li@verein.example").code, 250);
    node.ctl(&["domain", "rename", "club.example", "guild.example"]).well();
    assert_eq!(mail(&node, "li@guild.example").code, 250);
    assert_eq!(mail(&node, "li@club.example").code, 250, "the old name stays as an alias");
    assert_eq!(node.json(&["account", "show", "li@guild.example"])["used_messages"], 3);
    node.ctl(&["domain", "suspend", "guild.example"]).well();
    assert_eq!(mail(&node, "li@guild.example").code, 550);
    node.ctl(&["domain", "resume", "guild.example"]).well();
    assert_eq!(mail(&node, "li@guild.example").code, 250);
    node.ctl(&["domain", "set", "guild.example", "--catch-all", "li@guild.example"]).well();
    assert_eq!(mail(&node, "whoever@guild.example").code, 250);
    node.ctl(&["domain", "set", "guild.example", "--catch-all", "none"]).well();
    assert_eq!(mail(&node, "whoever@guild.example").code, 550);
    refused(&node.ctl(&["domain", "remove", "guild.example"]), 1, "--with-accounts");
    node.ctl(&["domain", "remove", "guild.example", "--with-accounts"]).well();
    assert_eq!(mail(&node, "li@guild.example").code, 550);
    node.ctl(&["domain", "restore", "guild.example"]).well();
    assert_eq!(mail(&node, "li@guild.example").code, 250);

    println!("aliases: a loop is refused, whichever end closes it");
    node.ctl(&["alias", "add", "staff@school.example", BEN, ANNA]).well();
    node.ctl(&["alias", "add", "all@school.example", "staff@school.example"]).well();
    refused(&node.ctl(&["alias", "add", "staff@school.example", "all@school.example"]), 1, "staff@school.example");
    node.ctl(&["alias", "add", "one@school.example", "two@school.example"]).well();
    node.ctl(&["alias", "add", "two@school.example", "three@school.example"]).well();
    refused(&node.ctl(&["alias", "add", "three@school.example", "one@school.example"]), 1, "circle");
    refused(&node.ctl(&["alias", "add", "self@school.example", "self@school.example"]), 1, "circle");
    assert_eq!(mail(&node, "all@school.example").code, 250);
    for person in [BEN, ANNA] {
        assert_eq!(node.imap(person).count("INBOX"), 1, "{person}");
    }

    println!("groups: members, and who may write to them");
    node.ctl(&["group", "add", "inner@school.example", "--senders", "members", BEN]).well();
    assert_eq!(mail(&node, "inner@school.example").code, 550, "a stranger may not");
    let text = format!("From: {BEN}\r\nSubject: inner\r\n\r\nx\r\n");
    assert_eq!(node.submission(BEN).mail(BEN, &["inner@school.example"], text.as_bytes()).unwrap().code, 250);
    let text = format!("From: {ANNA}\r\nSubject: inner\r\n\r\nx\r\n");
    assert_eq!(node.submission(ANNA).mail(ANNA, &["inner@school.example"], text.as_bytes()).unwrap().code, 550);
    node.ctl(&["group", "add-member", "inner@school.example", ANNA]).well();
    assert_eq!(node.submission(ANNA).mail(ANNA, &["inner@school.example"], text.as_bytes()).unwrap().code, 250);
    node.ctl(&["group", "remove-member", "inner@school.example", BEN]).well();
    assert_eq!(node.json(&["group", "show", "inner@school.example"])["members"], json!([ANNA]));
    node.ctl(&["group", "remove", "inner@school.example"]).well();
    assert_eq!(mail(&node, "inner@school.example").code, 550);

    println!("the audit trail knows who did what");
    let audit = node.json(&["audit", "--limit", "5"]);
    assert_eq!(audit.as_array().unwrap().len(), 5);
    assert_eq!(audit[0]["subject"], "inner@school.example");
}

#[test]
fn people_passwords_and_services() {
    let node = Node::start();
    let first = node.password(BEN);
    println!("a new password holds at the next sign-in, the old one no more");
    assert!(signs_in(&node, BEN, &first));
    node.ctl_with(&["account", "password", BEN, "--password-stdin"], b"correct horse battery\n").well();
    assert!(!signs_in(&node, BEN, &first));
    assert!(signs_in(&node, BEN, "correct horse battery"));
    let made = node.json(&["account", "password", BEN]);
    let password = made["password"].as_str().unwrap().to_owned();
    assert!(signs_in(&node, BEN, &password) && !signs_in(&node, BEN, "correct horse battery"));
    let short = node.ctl_with(&["account", "password", BEN, "--password-stdin"], b"short\n");
    assert_eq!(short.code, 1, "{short:?}");

    println!("app passwords: for named services only, revoked at once");
    let app = node.json(&["account", "add-app-password", BEN, "phone", "--services", "imap"]);
    let app = app["password"].as_str().unwrap().to_owned();
    assert!(signs_in(&node, BEN, &app));
    let mut smtp = Smtp::open_tls(node.at("submissions"), &node.ca()).unwrap();
    assert_eq!(smtp.sign_in(BEN, &app).unwrap().code, 535, "not for submission");
    assert_eq!(node.json(&["account", "app-passwords", BEN]).as_array().unwrap().len(), 1);
    node.ctl(&["account", "remove-app-password", BEN, "phone"]).well();
    assert!(!signs_in(&node, BEN, &app));

    println!("services: POP3 only");
    node.ctl(&["account", "set", BEN, "--services", "pop3"]).well();
    assert!(!signs_in(&node, BEN, &password));
    let mut pop = Line::tls(node.at("pop3s"), &node.ca()).unwrap();
    pop.send(format!("USER {BEN}\r\nPASS {password}\r\n").as_bytes()).unwrap();
    let said: Vec<String> = (0..3).map(|_| String::from_utf8_lossy(&pop.line().unwrap()).into_owned()).collect();
    assert!(said.iter().all(|l| l.starts_with("+OK")), "{said:?}");
    node.ctl(&["account", "set", BEN, "--services", "imap,pop3,submission"]).well();
    assert!(signs_in(&node, BEN, &password));

    println!("suspend ends mail and sign-in, resume brings both back");
    node.ctl(&["account", "suspend", BEN]).well();
    assert_eq!(mail(&node, BEN).code, 550);
    assert!(!signs_in(&node, BEN, &password));
    node.ctl(&["account", "resume", BEN]).well();
    assert_eq!(mail(&node, BEN).code, 250);
    assert!(signs_in(&node, BEN, &password));

    println!("rename keeps mail and the old address; delete can be taken back with all mail");
    node.ctl(&["account", "rename", BEN, "benjamin@school.example"]).well();
    assert_eq!(mail(&node, BEN).code, 250);
    assert_eq!(node.imap_as("benjamin@school.example", &password).unwrap().count("INBOX"), 2);
    node.ctl(&["account", "delete", "benjamin@school.example"]).well();
    assert_eq!(mail(&node, "benjamin@school.example").code, 550);
    assert!(!signs_in(&node, "benjamin@school.example", &password));
    node.ctl(&["account", "restore", "benjamin@school.example"]).well();
    assert_eq!(node.imap_as("benjamin@school.example", &password).unwrap().count("INBOX"), 2);
    refused(&node.ctl(&["account", "show", "nobody@school.example"]), 1, "nobody@school.example");
}

#[test]
fn quotas_are_answered_at_rcpt_and_at_data() {
    let node = Node::start();
    node.ctl(&["quota", "set", BEN, "--bytes", "100 KiB"]).well();
    assert_eq!(node.json(&["quota", "show", BEN])["limit_bytes"], 102_400);
    let mut smtp = node.mx();
    let large = message("large@load.example", "large", 120_000);
    println!("the size is known at RCPT");
    smtp.command("MAIL FROM:<a@elsewhere.example> SIZE=120000").unwrap();
    let reply = smtp.command(&format!("RCPT TO:<{BEN}>")).unwrap();
    assert_eq!((reply.code, reply.text.get(..5)), (452, Some("4.2.2")), "{reply:?}");
    smtp.command("RSET").unwrap();
    println!("the size is known at the end of DATA only");
    smtp.command("MAIL FROM:<a@elsewhere.example>").unwrap();
    assert_eq!(smtp.command(&format!("RCPT TO:<{BEN}>")).unwrap().code, 250);
    assert_eq!(smtp.command("DATA").unwrap().code, 354);
    smtp.line.send(&[large.as_slice(), b".\r\n"].concat()).unwrap();
    let reply = smtp.reply().unwrap();
    assert_eq!((reply.code, reply.text.get(..5)), (452, Some("4.2.2")), "{reply:?}");
    println!("what fits is taken, and the administrator sees it");
    assert_eq!(mail(&node, BEN).code, 250);
    assert_eq!(node.json(&["quota", "show", BEN])["used_messages"], 1);
    let over = node.imap(BEN).append("INBOX", &large).unwrap();
    assert!(over.status.starts_with("NO [OVERQUOTA]"), "{over:?}");

    println!("messages are counted too, and a domain has a limit of its own");
    node.ctl(&["quota", "set", BEN, "--bytes", "none", "--messages", "1"]).well();
    assert_eq!(mail(&node, BEN).code, 452);
    node.ctl(&["quota", "set", BEN, "--messages", "none"]).well();
    assert_eq!(mail(&node, BEN).code, 250);
    node.ctl(&["quota", "set", "school.example", "--messages", "2"]).well();
    assert_eq!(mail(&node, ANNA).code, 452);
    node.ctl(&["quota", "set", "school.example", "--messages", "none"]).well();
    assert_eq!(mail(&node, ANNA).code, 250);

    println!("with over_quota = \"refuse\" the sender is told at once");
    let mut text = std::fs::read_to_string(node.document()).unwrap();
    text.push_str("\n[smtp]\nover_quota = \"refuse\"\n");
    std::fs::write(node.document(), text).unwrap();
    let mut node = node;
    node.stop();
    node.again();
    node.ctl(&["quota", "set", BEN, "--messages", "1"]).well();
    assert_eq!(mail(&node, BEN).code, 552);
}

#[test]
fn lists_of_people_come_and_go_as_csv() {
    let node = Node::start();
    let file = node.dir().join("people.csv");
    let faulty = "address,password,name,quota_bytes\nli@school.example,a long password,李雷,1 GiB\nnot an address,a long password,X,\nhan@school.example,another password,韩梅梅,\n";
    std::fs::write(&file, faulty).unwrap();
    let file = file.to_str().unwrap().to_owned();
    println!("one faulty line: nothing is changed, the line is named, exit 4");
    let said = node.ctl(&["import", &file]);
    assert_eq!(said.code, 4, "{said:?}");
    assert!(said.out.contains("not an address") || said.out.contains('3'), "{said:?}");
    assert_eq!(node.ctl(&["account", "show", "li@school.example"]).code, 1);
    let said = node.ctl(&["--json", "import", &file]);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    println!("{report:#}");
    assert!(said.out.contains("\"line\": 3") || said.out.contains("\"number\": 3"), "{report:#}");
    println!("--skip-faulty takes the rest");
    assert_eq!(node.ctl(&["import", &file, "--skip-faulty"]).code, 4);
    assert_eq!(node.json(&["account", "show", "li@school.example"])["display_name"], "李雷");
    assert!(signs_in(&node, "li@school.example", "a long password"));
    println!("what is exported can be imported elsewhere: the same people with the same passwords");
    let list = node.ctl(&["export"]).well();
    assert_eq!(list.lines().count(), 8, "{list}");
    let other = Node::start_with(crate::node::own_address(), &["--demo", "none"]);
    let copy = other.dir().join("copy.csv");
    std::fs::write(&copy, list).unwrap();
    other.ctl(&["import", copy.to_str().unwrap(), "--create-domains", "--create-groups"]).well();
    assert!(signs_in(&other, "li@school.example", "a long password"));
    assert!(signs_in(&other, BEN, &node.password(BEN)));
    assert_eq!(mail(&other, "everyone@school.example").code, 250);
    assert_eq!(other.imap_as("han@school.example", "another password").unwrap().count("INBOX"), 0);
}

#[test]
fn the_queue_is_looked_at_and_steered() {
    let mut node = Node::start();
    // Nobody listens there: mail waits.
    let nobody = TcpListener::bind((node.ip(), 0)).unwrap().local_addr().unwrap();
    node.stop();
    let mut text = std::fs::read_to_string(node.document()).unwrap();
    text.push_str(&format!(
        "\n[queue]\nretry = [\"1 h\"]\n\n[queue.smart_host]\nserver = \"{nobody}\"\ntls = \"opportunistic\"\n"
    ));
    std::fs::write(node.document(), text).unwrap();
    node.again();
    let text = format!("From: {BEN}\r\nSubject: far away\r\n\r\nx\r\n");
    let mut smtp = node.submission(BEN);
    for to in ["first@away.example", "second@away.example", "third@away.example"] {
        assert_eq!(smtp.mail(BEN, &[to], text.as_bytes()).unwrap().code, 250);
    }
    let list = wait_for("three first tries", || {
        let list = node.json(&["queue", "list"]);
        let tried = list.as_array().unwrap().iter().filter(|m| m["last_reply"].as_str().is_some_and(|r| !r.is_empty())).count();
        (tried == 3).then_some(list)
    });
    println!("{}", node.ctl(&["queue", "list"]).well());
    let ids: Vec<String> = list.as_array().unwrap().iter().map(|m| m["id"].to_string()).collect();
    let [first, second, third] = ids.as_slice() else { panic!("{list:#}") };
    assert_eq!(node.json(&["queue", "list", "--match-text", "second@"]).as_array().unwrap().len(), 1);

    let shown = node.json(&["queue", "show", first]);
    assert_eq!(shown["sender"], BEN, "{shown:#}");
    let tries = shown["recipients"][0]["attempts"].as_u64().unwrap();
    assert!(shown["recipients"][0]["reply"].as_str().is_some_and(|r| !r.is_empty()), "{shown:#}");
    let trace = shown["trace"].as_str().unwrap();
    assert!(node.log().lines().filter(|l| l.contains(trace)).count() >= 2, "the log tells the way of {trace}");

    node.ctl(&["queue", "hold", second]).well();
    assert_eq!(node.json(&["queue", "show", second])["hold"], true);
    println!("retry: the one asked for is tried now, a held one is not");
    node.ctl(&["queue", "retry", first]).well();
    wait_for("the second try", || (node.json(&["queue", "show", first])["recipients"][0]["attempts"] == tries + 1).then_some(()));
    let held = node.json(&["queue", "show", second])["recipients"][0]["attempts"].clone();
    node.ctl(&["queue", "retry"]).well();
    wait_for("the third try", || (node.json(&["queue", "show", first])["recipients"][0]["attempts"] == tries + 2).then_some(()));
    assert_eq!(node.json(&["queue", "show", second])["recipients"][0]["attempts"], held);
    node.ctl(&["queue", "release", second]).well();
    assert_eq!(node.json(&["queue", "show", second])["hold"], false);

    println!("drop: one in silence, one with a notice to the sender");
    node.ctl(&["queue", "drop", second]).well();
    node.ctl(&["queue", "drop", third, "--notify"]).well();
    refused(&node.ctl(&["queue", "show", third]), 1, third);
    let mut imap = node.imap(BEN);
    assert_eq!(imap.count("INBOX"), 1, "one notice");
    imap.ok("EXAMINE INBOX");
    let notice = imap.ok("FETCH 1 (BODY[])").concat();
    assert!(notice.contains("third@away.example") && notice.contains("multipart/report"), "{notice}");
    assert_eq!(node.json(&["queue", "list"]).as_array().unwrap().len(), 1);
}

#[test]
fn deleted_mail_comes_back_and_the_store_gives_its_room() {
    let node = Node::start();
    for n in 0..3 {
        let text = message(&format!("u{n}@load.example"), &format!("number {n}"), 3000);
        assert_eq!(node.mx().mail("a@elsewhere.example", &[BEN], &text).unwrap().code, 250);
    }
    let mut imap = node.imap(BEN);
    imap.ok("SELECT INBOX");
    imap.ok("STORE 1:2 +FLAGS (\\Deleted)");
    imap.ok("EXPUNGE");
    assert_eq!(imap.count("INBOX"), 1);
    let deleted = node.json(&["store", "deleted", BEN]);
    println!("{}", node.ctl(&["store", "deleted", BEN]).well());
    assert_eq!(deleted.as_array().unwrap().len(), 2);
    assert!(deleted[0]["subject"].as_str().unwrap().starts_with("number "), "{deleted:#}");
    let id = deleted[0]["id"].to_string();
    assert_eq!(node.json(&["store", "undelete", BEN, &id])["restored"], 1);
    assert_eq!(node.json(&["store", "undelete", BEN])["restored"], 1);
    assert_eq!(node.json(&["store", "deleted", BEN]), json!([]));
    let found = node.imap(BEN).message_ids("INBOX");
    for n in 0..3 {
        assert_eq!(found.get(&format!("u{n}@load.example")), Some(&1), "{found:?}");
    }
    node.json(&["store", "compact"]);
}

#[test]
fn every_answer_is_json_and_every_exit_code_means_something() {
    let mut node = Node::start();
    for words in [
        &["status"][..],
        &["domain", "list"],
        &["domain", "show", "school.example"],
        &["account", "list"],
        &["account", "list", "--domain", "school.example"],
        &["account", "show", BEN],
        &["alias", "list"],
        &["group", "list"],
        &["group", "show", "everyone@school.example"],
        &["quota", "show", BEN],
        &["quota", "show", "school.example"],
        &["queue", "list"],
        &["store", "deleted", BEN],
        &["config", "check"],
        &["config", "reload"],
        &["config", "reference"],
        &["export"],
        &["audit"],
        &["alias", "add", "x@school.example", BEN],
        &["alias", "remove", "x@school.example"],
    ] {
        node.json(words);
        if words[0] != "alias" {
            assert_eq!(node.ctl(words).code, 0, "{words:?} for people");
        }
    }
    let refusal = node.ctl(&["--json", "account", "show", "nobody@school.example"]);
    assert_eq!(refusal.code, 1);
    let refusal: Value = serde_json::from_str(&refusal.out).unwrap();
    assert!(refusal["error"].as_str().is_some_and(|e| e.contains("nobody@school.example")), "{refusal:#}");
    assert_eq!(node.ctl(&["no-such-word"]).code, 2, "a wrong command line");
    println!("on a stopped node orders work too");
    node.stop();
    assert_eq!(node.json(&["status"])["running"], false);
    node.ctl(&["domain", "add", "club.example"]).well();
    node.again();
    assert_eq!(node.json(&["domain", "list"]).as_array().unwrap().len(), 2);
    println!("where no node is: exit 3");
    let empty = tempfile::tempdir().unwrap();
    let nothing = crate::programs::run(
        std::process::Command::new(crate::node::program()).arg("ctl").arg("--dir").arg(empty.path()).arg("status"),
        b"",
    );
    assert_eq!(nothing.code, 3, "{nothing:?}");
}
