//! The appliance document with faults: all of them are said at once, and a running node keeps the old one.

use crate::node::Node;

#[test]
fn all_faults_of_a_document_are_said_with_their_lines() {
    let node = Node::start();
    assert_eq!(node.ctl(&["config", "check"]).code, 0);
    assert_eq!(node.json(&["config", "check"])["faults"], serde_json::json!([]));

    let good = std::fs::read_to_string(node.document()).unwrap();
    let lines = good.lines().count();
    let bad = format!(
        "{good}\n[smtp]\nmax_message = \"9 GiB\"\nmax_recipient = 7\n\n[queue]\nretry = [\"soon\"]\n\n[sauna]\nhot = true\n"
    );
    std::fs::write(node.document(), &bad).unwrap();
    let said = node.ctl(&["config", "check"]);
    println!("{}", said.out);
    assert_eq!(said.code, 4, "{said:?}");
    for (line, key) in [(3, "max_message"), (4, "max_recipient"), (7, "retry"), (9, "sauna")] {
        let found = said.out.lines().find(|l| l.contains(key)).unwrap_or_else(|| panic!("{key} is not named:\n{}", said.out));
        assert!(found.contains(&(lines + line).to_string()), "{key} is in line {}: {found}", lines + line);
    }
    let machine = node.ctl(&["--json", "config", "check"]);
    assert_eq!(machine.code, 4);
    let machine: serde_json::Value = serde_json::from_str(&machine.out).unwrap();
    assert_eq!(machine["faults"].as_array().unwrap().len(), 4, "{machine:#}");

    println!("the running node keeps the old one and says what is wrong");
    let mail = node.mail_pid();
    let refused = node.ctl(&["config", "reload"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("max_recipient") && refused.err.contains("sauna"), "{refused:?}");
    assert_eq!(node.mail_pid(), mail);
    assert!(node.mx().command("EHLO c.example").unwrap().text.contains("SIZE 52428800"), "50 MiB, as before");

    println!("mended, it is taken by the running node");
    std::fs::write(node.document(), format!("{good}\n[smtp]\nmax_message = \"1 MiB\"\n")).unwrap();
    node.ctl(&["config", "reload"]).well();
    assert!(node.mx().command("EHLO c.example").unwrap().text.contains("SIZE 1048576"));
    assert_eq!(node.mail_pid(), mail, "without a restart");
}

#[test]
fn a_node_does_not_start_with_a_faulty_document() {
    let mut node = Node::start();
    node.stop();
    let mut text = std::fs::read_to_string(node.document()).unwrap();
    text.push_str("\n[limits2]\n");
    std::fs::write(node.document(), text).unwrap();
    let refused =
        crate::programs::run(std::process::Command::new(crate::node::program()).arg("up").arg("--dir").arg(node.dir()), b"");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("appliance.toml") && refused.err.contains("limits2"), "{refused:?}");
}
