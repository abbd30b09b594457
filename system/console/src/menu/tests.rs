//! Each entry: what it asks, and the order that it gives.

use super::*;
use serde_json::json;

fn menu() -> Menu {
    Menu::new(Place { title: "Twinpost".into(), orders: true, chinese: true, installer: false })
}

fn order(steps: &[Step]) -> Option<String> {
    steps.iter().find_map(|step| match step {
        Step::Run(words) => Some(words.join(" ")),
        _ => None,
    })
}

fn text(steps: &[Step]) -> String {
    steps
        .iter()
        .map(|step| match step {
            Step::Say(text) | Step::Question(text) => text.as_str(),
            _ => "",
        })
        .collect()
}

/// Types lines one after another; the order that the last one gives.
fn typed(menu: &mut Menu, lines: &[&str]) -> Option<String> {
    let mut last = None;
    for line in lines {
        assert_eq!(last, None, "an order was given before {line:?}");
        last = order(&menu.line(line));
    }
    last
}

#[test]
fn each_entry_leads_to_its_order() {
    let gives = |lines: &[&str]| typed(&mut menu(), lines);
    assert_eq!(gives(&["5", "1"]).as_deref(), Some("disks list"));
    assert_eq!(gives(&["5", "2"]).as_deref(), Some("disks init"));
    assert_eq!(gives(&["5", "3", "left 2", "2"]).as_deref(), Some("disks replace 2"));
    assert_eq!(gives(&["6", "2"]).as_deref(), Some("pair standby"));
    assert_eq!(gives(&["6", "5", "x", "1234-5678"]).as_deref(), Some("pair pairing join 1234-5678"));
    assert_eq!(gives(&["8"]).as_deref(), Some("support save --usb"));
    assert_eq!(gives(&["9", "y"]).as_deref(), Some("power reboot --yes"));
    assert_eq!(gives(&["10", "yes"]).as_deref(), Some("power off --yes"));
    assert_eq!(gives(&["11"]).as_deref(), Some("reset factory"));
}

#[test]
fn without_a_yes_nothing_is_done() {
    for no in ["", "0", "n", "no", "1", "yy"] {
        let mut menu = menu();
        menu.line("9");
        assert_eq!(order(&menu.line(no)), None, "{no:?}");
        // Back in the main menu.
        assert!(text(&menu.line("?")).contains("Status"));
    }
    assert!(text(&menu().line("99")).contains("no such number"));
}

#[test]
fn the_first_setup_asks_and_checks_and_shows() {
    let mut menu = menu();
    menu.line("2");
    let steps = menu.gathered(&[Ok(json!({"node": null})), Ok(json!({"lan": {"up": true, "addresses": []}}))]);
    assert!(text(&steps).contains("lan: -\n") && text(&steps).contains("first time"), "{steps:?}");
    let lines =
        ["1", "c", "a", "10.9.0.11", "10.9.0.11/33", "10.9.0.11/24", "", "10.9.0.1,10.9.0.2", "", "10.9.0.100/24", "school"];
    assert_eq!(typed(&mut menu, &lines), None);
    let shown = text(&menu.line("school.example"));
    let setup = "setup --node a --lan 10.9.0.11/24 --dns 10.9.0.1 --dns 10.9.0.2 --service 10.9.0.100/24 --domain school.example";
    assert!(shown.contains(setup), "{shown}");
    assert_eq!(order(&menu.line("y")).as_deref(), Some(setup));
}

#[test]
fn one_address_is_changed_alone() {
    let seen = || [Ok(json!({"node": "a", "lan": "10.9.0.11/24", "dns": ["10.9.0.1"]})), Ok(json!({}))];
    let given = |lines: &[&str]| {
        let mut menu = menu();
        menu.line("2");
        assert!(text(&menu.gathered(&seen())).contains("Name servers: 10.9.0.1\n"));
        typed(&mut menu, lines)
    };
    assert_eq!(given(&["1", "2001:db8::11/64"]).as_deref(), Some("setup --lan 2001:db8::11/64"));
    assert_eq!(given(&["2", "10.9.0.1"]).as_deref(), Some("setup --gateway 10.9.0.1"));
    assert_eq!(given(&["4", "ntp.example 10.9.0.1"]).as_deref(), Some("setup --ntp ntp.example --ntp 10.9.0.1"));
    assert_eq!(given(&["3", ""]), None);
}

#[test]
fn an_administrator_gets_a_password_and_comes_in_again() {
    let mut menu = menu();
    menu.line("3");
    let accounts =
        json!([{"address": "anna@school.example", "role": "operator"}, {"address": "ben@school.example", "role": "user"}]);
    assert!(!text(&menu.gathered(&[Ok(accounts)])).contains("ben@"));
    assert_eq!(typed(&mut menu, &["1", "y"]).as_deref(), Some("account password anna@school.example"));
    assert_eq!(order(&menu.ended(0)).as_deref(), Some("account resume anna@school.example"));
    assert!(menu.ended(0).is_empty());

    menu.line("3");
    assert!(text(&menu.gathered(&[Err("node b serves".into())])).contains("node b serves"));
    menu.line("3");
    assert!(text(&menu.gathered(&[Ok(json!([]))])).contains("account add"));
}

#[test]
fn a_slot_is_chosen_and_started() {
    let mut menu = menu();
    menu.line("7");
    let slots = json!({"slots": [{"slot": "a", "version": "0.1.0", "state": "running"}, {"slot": "b", "version": "0.1.1", "state": "good"}]});
    assert!(text(&menu.gathered(&[Ok(slots)])).contains(" 2  b: 0.1.1 good\n"));
    assert_eq!(typed(&mut menu, &["2", "y"]).as_deref(), Some("update slot b --yes"));
    assert!(text(&menu.ended(0)).contains("Restart now?"));
    assert_eq!(order(&menu.line("y")).as_deref(), Some("power reboot --yes"));
}

#[test]
fn the_tests_of_the_network() {
    let mut menu = menu();
    assert_eq!(typed(&mut menu, &["4", "1"]), None);
    assert_eq!(menu.line("192.0.2.1"), [Step::Probe(Probe::Ping("192.0.2.1".into()))]);
    assert_eq!(typed(&mut menu, &["4", "2"]), None);
    assert_eq!(menu.line("school.example"), [Step::Probe(Probe::Name("school.example".into()))]);
}

#[test]
fn an_installer_shows_the_disks_asks_which_and_restarts_only_after_a_success() {
    let mut menu = Menu::new(Place { title: "Twinpost installer".into(), orders: true, chinese: false, installer: true });
    assert!(menu.screen().contains("installer medium") && menu.screen().contains(" 1  Install Twinpost"));
    assert_eq!(order(&menu.line("1")).as_deref(), Some("disks list"));
    assert!(text(&menu.ended(0)).contains("Bays"));
    assert!(text(&menu.line("1 -2")).contains("no bay"));
    assert!(text(&menu.line("1 2")).contains("Serial"));
    assert_eq!(order(&menu.line("WD-1 WD-2")).as_deref(), Some("disks install 1 2 --erase WD-1 --erase WD-2"));
    assert_eq!(menu.ended(1), [], "refused, and said why");
    menu.line("1");
    menu.ended(0);
    menu.line("");
    assert_eq!(order(&menu.line("")).as_deref(), Some("disks install"), "Enter twice: all bays, nothing is erased");
    assert!(text(&menu.ended(0)).contains("Take the stick out"));
    assert_eq!(order(&menu.line("y")).as_deref(), Some("power reboot --yes"));
    assert_eq!(order(&menu.line("11")), None, "what belongs to a node is not there");
}
