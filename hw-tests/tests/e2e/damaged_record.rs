//! A damaged record: that message shows as damaged, the others are whole, and `store verify` names it.

use crate::line::Line;
use crate::node::Node;
use crate::smtp::message;

#[test]
fn a_damaged_record_shows_as_damaged_and_touches_nothing_else() {
    let mut node = Node::start();
    let ben = "ben@school.example";
    let mut ends = Vec::new();
    for n in 0..3 {
        let text = message(&format!("m{n}@load.example"), &format!("number {n}"), 30_000);
        assert_eq!(node.mx().mail("sender@elsewhere.example", &[ben], &text).unwrap().code, 250);
        ends.push(node.pack_bytes());
    }
    node.stop();
    let packs = node.packs();
    let [pack] = packs.as_slice() else { panic!("one pack holds three small messages, not {packs:?}") };
    let mut bytes = std::fs::read(pack).unwrap();
    let (from, to) = (usize::try_from(ends[0]).unwrap(), usize::try_from(ends[1]).unwrap());
    assert!(to - from > 15_000, "the records lie one after the other: {ends:?}");
    let middle = usize::midpoint(from, to);
    println!("flipping bits of {} at {middle}, in the record of the second message", pack.display());
    for byte in &mut bytes[middle..middle + 8] {
        *byte ^= 0xFF;
    }
    std::fs::write(pack, bytes).unwrap();
    node.again();

    println!("`store verify` names it, while the node runs");
    let found = node.ctl(&["--json", "store", "verify"]);
    println!("{}", found.out);
    assert_eq!(found.code, 4, "{found:?}");
    let report: serde_json::Value = serde_json::from_str(&found.out).unwrap();
    assert_eq!(report["found"]["records"], 2, "two bodies are whole");
    let faults = report["found"]["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 1, "{report:#}");
    assert_eq!(faults[0]["kind"], "damaged_record");
    assert_eq!((&faults[0]["messages"][0]["mailbox"], &faults[0]["messages"][0]["uid"]), (&"INBOX".into(), &2.into()));

    println!("by IMAP: the second is shown as damaged");
    let mut imap = node.imap(ben);
    imap.ok("SELECT INBOX");
    let answer = imap.command("UID FETCH 1:* (BODY.PEEK[])").unwrap();
    println!("{}", answer.status);
    let whole: Vec<bool> =
        (0..3).map(|n| answer.lines.iter().any(|l| l.len() > 30_000 && l.contains(&format!("<m{n}@load.example>")))).collect();
    assert_eq!(whole, [true, false, true], "{:?}", answer.lines.iter().map(String::len).collect::<Vec<_>>());
    assert!(answer.lines.iter().any(|l| l.contains("damaged") && l.contains("[CORRUPTION]")), "the damage is said");
    assert!(answer.lines.iter().any(|l| l.contains("Subject: [damaged message] number 1")), "something stands in its place");

    println!("by POP3: the second is refused, the others come");
    let mut pop = Line::tls(node.at("pop3s"), &node.ca()).unwrap();
    let mut line = |command: String| {
        if !command.is_empty() {
            pop.send(format!("{command}\r\n").as_bytes()).unwrap();
        }
        let first = String::from_utf8_lossy(&pop.line().unwrap()).into_owned();
        if first.starts_with("+OK") && command.starts_with("RETR") {
            while pop.line().unwrap() != b"." {}
        }
        first
    };
    assert!(line(String::new()).starts_with("+OK"));
    assert!(line(format!("USER {ben}")).starts_with("+OK"));
    assert!(line(format!("PASS {}", node.password(ben))).starts_with("+OK"));
    assert!(line("RETR 1".to_owned()).starts_with("+OK"));
    let damaged = line("RETR 2".to_owned());
    assert!(damaged.starts_with("-ERR") && damaged.contains("damaged"), "{damaged}");
    assert!(line("RETR 3".to_owned()).starts_with("+OK"));
    assert!(line("QUIT".to_owned()).starts_with("+OK"));

    println!("new mail is taken, and the damaged message can be deleted");
    assert_eq!(node.mx().mail("a@elsewhere.example", &[ben], &message("new@load.example", "new", 1000)).unwrap().code, 250);
    imap.ok("UID STORE 2 +FLAGS (\\Deleted)");
    imap.ok("EXPUNGE");
    assert_eq!(imap.count("INBOX"), 3);
}
