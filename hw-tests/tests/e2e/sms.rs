//! Text messages end to end: mail by swaks becomes a text on a simulated phone, and a text becomes mail.

use crate::node::{Node, wait_for};
use crate::phones::Phones;
use crate::programs::{Ended, run};
use serde_json::json;
use std::process::Command;

pub const BEN: &str = "ben@school.example";
pub const ZHANG: &str = "zhang.wei@school.example";
pub const PHONE: &str = "13800138000";
pub const INTERNATIONAL: &str = "+8613800138000";

/// A mail by swaks on the submission port, as a person's program sends it.
pub fn swaks(node: &Node, from: &str, to: &str, subject: &str, text: &str, more: &[&str]) -> Ended {
    run(
        Command::new("swaks")
            .args(["--server", &node.at("submission").to_string(), "--tls", "--auth", "PLAIN", "--auth-user", from])
            .args(["--auth-password", &node.password(from), "--from", from, "--to", to])
            .args(["--header", &format!("Subject: {subject}"), "--header", "Content-Type: text/plain; charset=utf-8"])
            .args(["--body", text])
            .args(more),
        b"",
    )
}

/// The whole INBOX by curl, decoded where it is base64 or encoded words.
pub fn inbox(node: &Node, user: &str) -> Vec<String> {
    let mut imap = node.imap(user);
    let count = imap.count("INBOX");
    let login = format!("{user}:{}", node.password(user));
    let one = |n: u64| {
        let url = format!("imaps://{}/INBOX;MAILINDEX={n}", node.at("imaps"));
        let read = Command::new("curl")
            .args(["--silent", "--show-error", "--cacert"])
            .arg(node.ca())
            .args(["-u", &login, &url])
            .output();
        let read = read.expect("curl is installed");
        assert!(read.status.success(), "{read:?}");
        decoded(&read.stdout)
    };
    (1..=count).map(one).collect()
}

/// The message by Python's own parser: header fields decoded, a blank line, the text parts.
fn decoded(message: &[u8]) -> String {
    let script = "import sys, email, email.policy\n\
        m = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.default)\n\
        out = ''.join(f'{k}: {v}\\n' for k, v in m.items()) + '\\n'\n\
        for p in m.walk():\n\
        \x20   if p.get_content_maintype() == 'text': out += p.get_content() + '\\n'\n\
        \x20   elif p.get_content_type() == 'message/delivery-status': out += str(p) + '\\n'\n\
        sys.stdout.buffer.write(out.encode())\n";
    run(Command::new("python3").args(["-c", script]), message).well()
}

pub fn wait_for_mail(node: &Node, user: &str, what: &str, is: impl Fn(&str) -> bool) -> String {
    wait_for(&format!("mail for {user}: {what}"), || inbox(node, user).into_iter().find(|mail| is(mail)))
}

#[test]
fn a_mail_becomes_a_text_and_the_answer_comes_back_as_mail() {
    let node = Node::start_with_modem();
    let phones = node.phones();
    println!("swaks -> submission -> gateway -> queue -> modem -> phone");
    swaks(&node, BEN, &phones.at(PHONE), "Meeting", "The meeting is at 3 pm.", &[]).well();
    let text = phones.wait_for_text("The meeting is at 3 pm.");
    assert_eq!((&text["number"], &text["parts"]), (&json!(INTERNATIONAL), &json!(1)), "{text}");
    assert_eq!(text["possible_duplicate"], false, "{text}");
    assert_eq!(text["pdus"].as_array().map(Vec::len), Some(1), "{text}");

    println!("200 Chinese characters are one concatenated message");
    let long: String = "学校将于明天上午九点举行家长会请各位家长准时参加".chars().cycle().take(200).collect();
    swaks(&node, ZHANG, &phones.at("008613800138000"), "通知", &long, &[]).well();
    let text = phones.wait_for_text(&long);
    assert_eq!((&text["number"], &text["parts"]), (&json!(INTERNATIONAL), &json!(3)), "{text}");
    assert_eq!(text["pdus"].as_array().map(Vec::len), Some(3), "{text}");

    println!("a phone answers: mail for the last who wrote to it");
    phones.order(&format!("receive {INTERNATIONAL} 收到，谢谢"));
    let mail = wait_for_mail(&node, ZHANG, "an answer", |mail| mail.contains("收到，谢谢"));
    assert!(mail.contains("Subject: Re: 通知") && mail.contains("In-Reply-To:"), "{mail}");
    assert!(mail.contains(&format!("From: \"{PHONE}")) || mail.contains(PHONE), "{mail}");
    assert!(inbox(&node, BEN).is_empty(), "nobody else hears of it");
    wait_for("the text to be taken", || (node.json(&["sms", "status"])["incoming"] == 0).then_some(()));

    println!("who did what is written down");
    let log = node.json(&["sms", "log"]);
    let events: Vec<&str> = log.as_array().unwrap().iter().filter_map(|l| l["event"].as_str()).collect();
    for event in ["accepted", "sent", "answer"] {
        assert!(events.contains(&event), "{event} is not in {events:?}");
    }
    assert_eq!(node.json(&["sms", "usage", ZHANG])["used"], 3);
    let statistics = node.json(&["sms", "statistics", "--of", ZHANG]);
    assert_eq!(statistics[0]["parts"], 3, "{statistics}");
}

#[test]
fn an_alarm_goes_out_by_ctl_and_the_modem_tells_of_itself() {
    let node = Node::start_with_modem();
    let phones = node.phones();
    let status = node.json(&["sms", "send", PHONE, "Disk 2 of node a failed"]);
    assert_eq!((&status["state"], &status["accepted"]), (&json!("accepted"), &json!(1)), "{status}");
    phones.wait_for_text("Disk 2 of node a failed");
    println!("and while mail is down: the order goes to the modem's process itself");
    node.kill_mail();
    let said = node.ctl(&["sms", "send", PHONE, "mail is down"]).well();
    assert!(said.contains("was accepted by the network"), "{said}");
    phones.wait_for_text("mail is down");
    let said = node.ctl(&["sms", "status"]).well();
    assert!(said.contains("signal") && said.contains("CHINA MOBILE"), "{said}");
    assert!(node.ctl(&["sms", "signal"]).well().contains("dBm"));
    assert!(node.ctl(&["sms", "queue"]).well().contains("nothing waits"));
    node.ctl(&["sms", "test", PHONE]).well();
    let refused = node.ctl(&["sms", "send", "nobody", "no number"]);
    assert!(refused.code == 1 && refused.err.contains("refused"), "{refused:?}");
    let unknown = node.ctl(&["sms", "show", "nonsense"]);
    assert!(unknown.code == 1 && unknown.out.contains("no text has the key"), "{unknown:?}");
}

fn refusal(node: &Node, user: &str, to: &str, message: &[u8]) -> (u16, String) {
    let reply = node.submission(user).mail(user, &[to], message).unwrap();
    (reply.code, format!("{reply:?}"))
}

fn mail(headers: &str, body: &str) -> Vec<u8> {
    format!(
        "From: {BEN}\r\nTo: x@mail2sms.example\r\nMessage-ID: <{}@x.example>\r\n{headers}\r\n{body}\r\n",
        rand::random::<u64>()
    )
    .into_bytes()
}

#[test]
fn what_must_not_become_a_text_is_refused_with_a_sentence() {
    let mut node = Node::start_with_modem();
    let phones = node.phones();
    let good = mail("", "Hello");
    println!("not signed in");
    let stranger = node.mx().mail("a@elsewhere.example", &[&phones.at(PHONE)], &good).unwrap();
    assert!(stranger.code == 550 && format!("{stranger:?}").contains("sign in"), "{stranger:?}");
    println!("no number");
    for (number, word) in
        [("1380013800", "digits"), ("138001380000", "digits"), ("class9z", "group"), ("+4915112345678", "not allowed")]
    {
        let (code, text) = refusal(&node, BEN, &phones.at(number), &good);
        assert!(matches!(code, 550 | 553) && text.contains(word), "{number}: {text}");
        assert!(text.is_ascii(), "English for an English account: {text}");
    }
    println!("in Chinese too for a Chinese account");
    let (_, text) = refusal(&node, ZHANG, &phones.at("class9z"), &mail("", "x").replace_from(ZHANG));
    assert!(text.contains("短信群组"), "{text}");
    println!("too long");
    let (code, text) =
        refusal(&node, BEN, &phones.at(PHONE), &mail("Content-Type: text/plain; charset=utf-8\r\n", &"长".repeat(500)));
    assert!(code == 552 && text.contains("too long"), "{text}");
    println!("nothing to send");
    let (code, text) = refusal(&node, BEN, &phones.at(PHONE), &mail("", ""));
    assert!(code == 554 && text.contains("no text"), "{text}");
    println!("lists and programs");
    for header in ["List-Id: <all.school.example>\r\n", "Auto-Submitted: auto-replied\r\n", "Precedence: bulk\r\n"] {
        let (code, text) = refusal(&node, BEN, &phones.at(PHONE), &mail(header, "Hello"));
        assert!(code >= 550, "{header}: {text}");
    }
    println!("an account without the service");
    node.ctl(&["account", "set", BEN, "--services", "submission,imap,pop3"]).well();
    let (code, text) = refusal(&node, BEN, &phones.at(PHONE), &good);
    assert!(code == 550 && text.contains("administrator"), "{text}");
    println!("a quota that is used up, and a PIN");
    node.stop();
    let mut document = std::fs::read_to_string(node.document()).unwrap();
    document
        .push_str(&format!("[sms.gateway]\npins = {{ \"anna@school.example\" = \"4711\" }}\nquotas = {{ \"{ZHANG}\" = 1 }}\n"));
    std::fs::write(node.document(), document).unwrap();
    node.again();
    let two_parts = mail("", &"x".repeat(200)).replace_from(ZHANG);
    let (code, text) = refusal(&node, ZHANG, &phones.at(PHONE), &two_parts);
    assert!(code == 552 && text.contains("1 are left"), "{text}");
    let anna = "anna@school.example";
    let (code, text) = refusal(&node, anna, &phones.at(PHONE), &good.replace_from(anna));
    assert!(code == 550 && text.contains("PIN"), "{text}");
    let (code, text) = refusal(&node, anna, &phones.at(&format!("{PHONE}.4711")), &good.replace_from(anna));
    assert!(code == 250, "{text}");
    phones.wait_for_text("Hello");
    assert_eq!(phones.received().len(), 1, "one text in all: {:?}", phones.received());
}

/// The same mail by another author.
trait Author {
    fn replace_from(&self, author: &str) -> Vec<u8>;
}

impl Author for Vec<u8> {
    fn replace_from(&self, author: &str) -> Vec<u8> {
        String::from_utf8(self.clone()).unwrap().replace(BEN, author).into_bytes()
    }
}

#[test]
fn a_failure_comes_back_with_the_networks_reason_and_success_when_asked() {
    let node = Node::start_with_modem();
    let phones = node.phones();
    println!("+CMS ERROR 1: unassigned number");
    phones.order("error 1 1");
    swaks(&node, BEN, &phones.at(PHONE), "Lost", "will not arrive", &[]).well();
    let report = wait_for_mail(&node, BEN, "a failure", |mail| mail.contains("Action: failed"));
    for part in ["Diagnostic-Code: X-SMS;", "Status: 5.", "+8613800138000", "Remote-MTA: x-gsm;"] {
        assert!(report.contains(part), "{part} is not in {report}");
    }
    println!("the same for a Chinese account, in Chinese too");
    phones.order("error 1 1");
    swaks(&node, ZHANG, &phones.at(PHONE), "x", "will not arrive either", &[]).well();
    let report = wait_for_mail(&node, ZHANG, "a failure", |mail| mail.contains("Action: failed"));
    assert!(report.contains("短信发送失败"), "{report}");

    println!("a receipt: the telephone's confirmation by a status report");
    swaks(
        &node,
        BEN,
        &phones.at(PHONE),
        "Receipt",
        "please confirm",
        &["--header", &format!("Disposition-Notification-To: {BEN}")],
    )
    .well();
    phones.wait_for_text("please confirm");
    let report = wait_for_mail(&node, BEN, "a confirmation", |mail| mail.contains("Action: delivered"));
    assert!(report.contains("X-SMS") || report.contains("Status: 2."), "{report}");
    wait_for("an empty queue", || (node.json(&["queue", "list"]) == json!([])).then_some(()));
    assert_eq!(texts(&phones, "please confirm"), 1);
}

/// How often a text was received.
fn texts(phones: &Phones, text: &str) -> usize {
    phones.received().iter().filter(|one| one["text"] == text).count()
}

#[test]
fn new_mail_is_told_by_text_where_a_rule_says_so() {
    let node = Node::start_with_modem();
    let phones = node.phones();
    node.ctl(&["sms", "rules", "add", BEN, PHONE, "--name", "boss", "--from", "boss@elsewhere.example"]).well();
    assert_eq!(node.json(&["sms", "rules", "list", BEN])[0]["name"], "boss");
    let told = |from: &str, subject: &str| {
        let text = format!("From: {from}\r\nTo: {BEN}\r\nSubject: {subject}\r\n\r\nCome at once, please.\r\n");
        assert_eq!(node.mx().mail(from, &[BEN], text.as_bytes()).unwrap().code, 250);
    };
    told("other@elsewhere.example", "of no interest");
    told("boss@elsewhere.example", "Server room");
    let text = phones.wait("a notice", |one| one["text"].as_str().is_some_and(|t| t.contains("Server room")));
    assert!(text["text"].as_str().unwrap().contains("boss@elsewhere.example"), "{text}");
    assert_eq!(phones.received().len(), 1);
    node.ctl(&["sms", "rules", "remove", BEN, "boss"]).well();
    assert_eq!(node.json(&["sms", "rules", "list", BEN]), json!([]));
}

#[test]
fn orders_come_from_administrators_only() {
    let mut node = Node::start_with_modem();
    node.stop();
    let mut document = std::fs::read_to_string(node.document()).unwrap();
    document.push_str("[sms.orders]\nnumbers = [\"+8613900139000\"]\n");
    std::fs::write(node.document(), document).unwrap();
    node.again();
    node.wait_for_modem();
    let phones = node.phones();
    phones.order("receive +8613700137000 STATUS");
    phones.order("receive +8613900139000 STATUS");
    let answer = phones.wait("an answer to STATUS", |one| one["number"] == "+8613900139000");
    assert!(answer["text"].as_str().unwrap().contains("mail up"), "{answer}");
    assert!(phones.received().iter().all(|one| one["number"] == "+8613900139000"), "nobody else gets an answer");
}
