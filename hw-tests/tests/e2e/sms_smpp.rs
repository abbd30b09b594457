//! Text messages by an operator's service centre, SMPP 3.4, where there is no modem.

use crate::node::{Node, own_address, wait_for};
use crate::sms::{BEN, INTERNATIONAL, PHONE, ZHANG, inbox, swaks, wait_for_mail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use twinpost_hw_modem::smsc::{Centre, Text};

fn wait_for_text(centre: &Centre, text: &str, parts: u8) {
    let wanted = Text { number: INTERNATIONAL.to_owned(), text: text.to_owned(), parts };
    wait_for(&format!("a text on a phone: {text}"), || centre.received().contains(&wanted).then_some(()));
}

#[test]
fn mail_and_texts_go_by_an_operators_service_centre() {
    let centre = Centre::start("school", "secret").unwrap();
    let node = Node::start_with(own_address(), &["--modem", "none"]);
    let at = |number: &str| format!("{number}@{}", node.phones().domain);

    println!("the contract is written into the document of a running node; the modem's process takes it by SIGHUP");
    let document = std::fs::read_to_string(node.document()).unwrap();
    let smpp =
        format!("\n[sms.smpp]\nserver = \"{}\"\nsystem_id = \"school\"\npassword_file = \"smpp-password\"\n", centre.address());
    std::fs::write(node.document(), document + &smpp).unwrap();
    std::fs::write(node.document().with_file_name("smpp-password"), "secret\n").unwrap();
    let notes = node.json(&["config", "reload"]).to_string();
    assert!(notes.contains("waits for the next start: [sms] (or SIGHUP"), "{notes}");
    let pid = node.wait_for_part("sms", 0);
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGHUP).unwrap();
    node.wait_for_modem();
    let ways = node.json(&["sms", "status"])["ways"].clone();
    assert_eq!((&ways[0]["kind"], &ways[1]["condition"]), (&json!("smpp"), &json!("no_port")), "{ways}");

    println!("swaks -> submission -> gateway -> queue -> SMPP -> phone");
    swaks(&node, BEN, &at(PHONE), "Meeting", "The meeting costs 3 € [each].", &[]).well();
    wait_for_text(&centre, "The meeting costs 3 € [each].", 1);
    let long: String = "学校将于明天上午九点举行家长会请各位家长准时参加".chars().cycle().take(200).collect();
    swaks(&node, ZHANG, &at(PHONE), "通知", &long, &[]).well();
    wait_for_text(&centre, &long, 3);

    println!("a phone answers: it is taken from the operator, and mail for the last who wrote");
    centre.write(INTERNATIONAL, "收到，谢谢");
    let mail = wait_for_mail(&node, ZHANG, "an answer", |mail| mail.contains("收到，谢谢"));
    assert!(mail.contains("Subject: Re: 通知"), "{mail}");
    wait_for("the answer to deliver_sm", || (centre.taken() == 1).then_some(()));
    assert!(inbox(&node, BEN).is_empty(), "nobody else hears of it");

    println!("ESME_RINVDSTADR comes back as a report with the operator's reason");
    centre.refuse(&[0x0B]);
    swaks(&node, BEN, &at(PHONE), "Lost", "will not arrive", &[]).well();
    let report = wait_for_mail(&node, BEN, "a failure", |mail| mail.contains("Action: failed"));
    assert!(report.contains("SMPP status 0xB") && report.contains("Diagnostic-Code: X-SMS;"), "{report}");

    println!("the operator's receipt confirms what asked for it");
    let wanted = ["--header", &format!("Disposition-Notification-To: {BEN}")];
    swaks(&node, BEN, &at(PHONE), "Receipt", "please confirm", &wanted).well();
    wait_for_text(&centre, "please confirm", 1);
    wait_for_mail(&node, BEN, "a confirmation", |mail| mail.contains("Action: delivered"));

    println!("a session that broke is made again, and texts go on");
    centre.cut();
    wait_for("another session", || (centre.binds() >= 2).then_some(()));
    node.wait_for_modem();
    swaks(&node, BEN, &at(PHONE), "Again", "after the break", &[]).well();
    wait_for_text(&centre, "after the break", 1);
    wait_for("an empty queue", || (node.json(&["queue", "list"]) == json!([])).then_some(()));
    println!("a site that never had a modem says so, and is not told of a missing one");
    let document = std::fs::read_to_string(node.document()).unwrap();
    let lines = document.lines().map(|l| if l.starts_with("port = \"") { "port = \"\"" } else { l });
    std::fs::write(node.document(), lines.collect::<Vec<_>>().join("\n")).unwrap();
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGHUP).unwrap();
    wait_for("the way of the modem to go", || {
        let state: serde_json::Value = serde_json::from_str(&node.ctl(&["--json", "sms", "status"]).out).ok()?;
        let conditions: Vec<_> = state["ways"].as_array()?.iter().map(|way| way["condition"].clone()).collect();
        (conditions == [json!("ready")]).then_some(())
    });
    assert_eq!(centre.received().len(), 4, "each once: {:?}", centre.received());
}
