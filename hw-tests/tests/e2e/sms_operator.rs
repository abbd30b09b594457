//! Text messages as an operator handles them: taken back, dropped, held back by the hour, sent to groups; the modem reset.

use crate::node::{Node, wait_for};
use crate::sms::{BEN, PHONE, inbox, swaks, wait_for_mail};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// A mail whose text the network does not take at once; gives the text's key when it waits.
fn text_that_waits(node: &Node, text: &str) -> String {
    // TS 27.005 3.2.5: +CMS ERROR 500, unknown error: it is tried again, later.
    node.phones().order("error 500 1");
    swaks(node, BEN, &node.phones().at(PHONE), "x", text, &[]).well();
    wait_for("a text that waits", || {
        let entry = node.json(&["sms", "queue"])["entries"][0].clone();
        (entry["status"]["state"] == "waiting").then(|| entry["status"]["key"].as_str().unwrap().to_owned())
    })
}

fn nothing_is_used(node: &Node) {
    wait_for("the quota to be given back", || (node.json(&["sms", "usage", BEN])["under_way"] == 0).then_some(()));
    assert_eq!(node.json(&["sms", "usage", BEN])["used"], 0);
}

#[test]
fn a_text_that_waits_is_taken_back_alone_or_with_its_mail() {
    let node = Node::start_with_modem();
    println!("sms cancel: the sender hears that an operator took it back");
    let key = text_that_waits(&node, "canceled in time");
    let status = node.json(&["sms", "cancel", &key]);
    assert_eq!((&status["state"], &status["accepted"]), (&json!("canceled"), &json!(0)), "{status}");
    let report = wait_for_mail(&node, BEN, "a failure", |mail| mail.contains("Action: failed"));
    assert!(report.contains("taken back by an operator"), "{report}");
    wait_for("an empty queue", || (node.json(&["queue", "list"]) == json!([])).then_some(()));
    nothing_is_used(&node);
    let unknown = node.ctl(&["sms", "cancel", "nonsense"]);
    assert!(unknown.code == 1 && unknown.out.contains("no text has the key"), "{unknown:?}");

    println!("queue drop: the text goes with its mail, and nobody hears of it");
    let key = text_that_waits(&node, "dropped in time");
    let id = node.json(&["queue", "list"])[0]["id"].to_string();
    let dropped = node.json(&["queue", "drop", &id]);
    assert_eq!((&dropped[0]["key"], &dropped[0]["state"]), (&json!(key), &json!("canceled")), "{dropped}");
    assert_eq!(node.json(&["sms", "queue"])["entries"], json!([]));
    assert_eq!(node.json(&["queue", "list"]), json!([]));
    nothing_is_used(&node);
    swaks(&node, BEN, BEN, "later", "a mail behind it", &[]).well();
    wait_for_mail(&node, BEN, "a mail", |mail| mail.contains("a mail behind it"));
    assert_eq!(inbox(&node, BEN).len(), 2, "no report of a drop without --notify: {:?}", inbox(&node, BEN));

    println!("sms reset: the modem goes, comes back and sends");
    let since = |way: &Value| way["since_ms"].as_i64().unwrap();
    let before = since(&node.json(&["sms", "status"])["ways"][0]);
    let nonsense = node.ctl(&["sms", "reset", "--step", "kick"]);
    assert!(nonsense.code == 1 && nonsense.err.contains("attention, restart, dtr or power"), "{nonsense:?}");
    node.ctl(&["sms", "reset", "--step", "restart"]).well();
    wait_for("a modem that is ready again", || {
        let way = node.json(&["sms", "status"])["ways"][0].clone();
        (way["condition"] == "ready" && since(&way) > before).then_some(())
    });
    node.ctl(&["sms", "send", PHONE, "after the reset"]).well();
    node.phones().wait_for_text("after the reset");
    assert_eq!(node.phones().received().len(), 1, "what was taken back never went: {:?}", node.phones().received());
}

/// A part of the day around this moment by a clock at +08:00.
fn around_now() -> String {
    let minutes = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 60 + 8 * 60;
    let clock = |minutes: u64| format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60);
    format!("{}-{}", clock(minutes - 60), clock(minutes + 120))
}

#[test]
fn a_group_gets_each_text_once_and_ordinary_texts_wait_in_quiet_hours() {
    let node = Node::start_with_modem();
    let phones = node.phones();
    let document = std::fs::read_to_string(node.document()).unwrap();
    let set = |keys: &str| {
        std::fs::write(node.document(), format!("{document}\n[sms.gateway]\n{keys}\n")).unwrap();
        let notes = node.json(&["config", "reload"]).to_string();
        assert!(notes.contains("taken: [sms.gateway]"), "{notes}");
    };
    println!("a group, and one of its numbers besides");
    let group = "groups = { class3a = [\"13800138000\", \"13900139000\"] }";
    set(group);
    let to = format!("{},{}", phones.at("Class3A"), phones.at("+8613900139000"));
    swaks(&node, BEN, &to, "x", "No lessons today", &[]).well();
    wait_for("an empty queue", || (node.json(&["queue", "list"]) == json!([])).then_some(()));
    let mut numbers: Vec<String> = phones.received().iter().map(|one| one["number"].as_str().unwrap().to_owned()).collect();
    numbers.sort();
    assert_eq!(numbers, ["+8613800138000", "+8613900139000"]);
    assert_eq!(node.json(&["sms", "usage", BEN])["used"], 2);

    println!("quiet hours hold an ordinary text back, with the reason");
    set(&format!("{group}\nquiet = \"{}\"", around_now()));
    swaks(&node, BEN, &phones.at(PHONE), "x", "can wait", &[]).well();
    let id = wait_for("the text in the queue, with its reason", || {
        let entry = node.json(&["queue", "list"])[0].clone();
        let told = entry["last_reply"].as_str().is_some_and(|reply| reply.contains("quiet hours"));
        (told && entry["next_try_s"].as_i64().unwrap() > 3600).then(|| entry["id"].to_string())
    });
    println!("an urgent one passes");
    swaks(&node, BEN, &phones.at(PHONE), "x", "cannot wait", &["--header", "Importance: high"]).well();
    phones.wait_for_text("cannot wait");
    node.ctl(&["queue", "retry", &id]).well();
    wait_for("the text to be held back again", || {
        (node.json(&["queue", "list"])[0]["next_try_s"].as_i64()? > 3600).then_some(())
    });
    assert!(phones.received().iter().all(|one| one["text"] != "can wait"), "{:?}", phones.received());
    println!("it goes when they are over");
    set(group);
    node.ctl(&["queue", "retry", &id]).well();
    phones.wait_for_text("can wait");
    wait_for("an empty queue", || (node.json(&["queue", "list"]) == json!([])).then_some(()));
    assert_eq!(phones.received().len(), 4, "{:?}", phones.received());
}
