//! The page of the status: one sentence first, then what it stands on, faults before all that is well.

use crate::Tongue;
use crate::look::sentence;
use crate::net;
use crate::session::Answer;
use serde_json::Value;

/// The page, from the answers in the order in which the menu asks: pair, disks, update, boot report, addresses.
pub(crate) fn page(answers: &[Answer], tongue: Tongue) -> String {
    let answer = |at: usize| answers.get(at).and_then(|answer| answer.as_ref().ok()).unwrap_or(&Value::Null);
    let (pair, disks, update, boot, addresses) = (answer(0), answer(1), answer(2), answer(3), answer(4));
    let mut page = String::from("\n");
    page.push_str(&first(pair, answers.first(), boot, tongue));
    page.push('\n');
    for fault in list(boot, "faults").iter().filter_map(|fault| sentence(fault, tongue)) {
        page.push_str(&format!("! {fault}\n"));
    }
    for alarm in list(pair, "alarms").iter().filter_map(|alarm| sentence(alarm, tongue)) {
        page.push_str(&format!("! {alarm}\n"));
    }
    page.push('\n');
    let mut row = |name: &str, text: &str| {
        if !text.is_empty() {
            page.push_str(&format!("{name}: {text}\n"));
        }
    };
    for node in list(pair, "nodes") {
        let (name, state) = (node["name"].as_str().unwrap_or("?"), node["state"].as_str().unwrap_or("?"));
        row(&format!("{} {name}", tongue.say("Node", "节点")), state);
    }
    let links: Vec<String> = list(pair, "links")
        .iter()
        .filter(|link| link["state"] != "off")
        .filter_map(|link| Some(format!("{} {}", link["name"].as_str()?, link["state"].as_str()?)))
        .collect();
    row(tongue.say("Paths between the nodes", "节点间链路"), &links.join(", "));
    row(tongue.say("Mirror", "镜像"), &sentence(&pair["storage"], tongue).unwrap_or_default());
    for array in disks["arrays"]["running"].as_array().map_or_else(|| list(disks, "arrays"), Vec::as_slice) {
        let name = array["array"].as_str().or_else(|| array["name"].as_str()).unwrap_or("?");
        row(&format!("{} {name}", tongue.say("Array", "阵列")), &array_text(array, tongue));
    }
    for bay in disks.as_array().or_else(|| disks["bays"].as_array()).into_iter().flatten() {
        let name = bay["label"].as_str().or_else(|| bay["name"].as_str()).or_else(|| bay["bay"].as_str()).unwrap_or("?");
        row(&format!("{} {name}", tongue.say("Bay", "盘位")), &disk_text(&bay["disk"], tongue));
    }
    let running = [update["version"].as_str(), update["slot"].as_str()].into_iter().flatten().collect::<Vec<_>>().join(", ");
    row(tongue.say("System", "系统"), &running);
    row(tongue.say("Board", "主板"), boot["board"].as_str().or_else(|| boot["board"]["name"].as_str()).unwrap_or_default());
    page.push_str(&net::page(addresses, tongue));
    page
}

/// How an array is: the kernel's word, and how many of its disks are missing.
fn array_text(array: &Value, tongue: Tongue) -> String {
    let state = sentence(array, tongue).unwrap_or_default();
    let (missing, of) = (array["degraded"].as_u64().unwrap_or(0), array["disks"].as_u64().unwrap_or(0));
    let mut text = match (missing, tongue) {
        (0, _) => state,
        (_, Tongue::English) => format!("{state}, {missing} of {of} disks missing"),
        (_, Tongue::Chinese) => format!("{state}，{of} 块磁盘中缺 {missing} 块"),
    };
    let action = &array["action"];
    if let (Some(what), Some(done), Some(of @ 1..)) =
        (action["what"].as_str(), action["done_bytes"].as_u64(), action["of_bytes"].as_u64())
    {
        text.push_str(&format!(", {what} {} %", done.saturating_mul(100) / of));
    }
    text
}

/// What is in a bay.
fn disk_text(disk: &Value, tongue: Tongue) -> String {
    if !disk.is_object() {
        return tongue.say("empty", "空").to_owned();
    }
    let mut parts: Vec<String> = ["model", "serial"].iter().filter_map(|key| disk[key].as_str()).map(str::to_owned).collect();
    parts.retain(|part| !part.is_empty());
    if let Some(bytes) = disk["bytes"].as_u64() {
        parts.push(format!("{:.1} GB", bytes as f64 / 1e9));
    }
    if disk["health"]["passed"] == false {
        parts.push(tongue.say("FAILS SOON", "即将损坏").to_owned());
    }
    parts.join(" ")
}

/// The sentence that somebody reads who reads no other.
fn first(pair: &Value, why: Option<&Answer>, boot: &Value, tongue: Tongue) -> String {
    let own = tongue.say("sentence", "sentence_zh");
    if let Some(text) = pair[own].as_str().or_else(|| pair["sentence"].as_str()) {
        return text.to_owned();
    }
    if boot.is_null() {
        return tongue
            .say("This node has not finished its start, or its start failed.", "本节点尚未完成启动，或启动失败。")
            .to_owned();
    }
    let first = tongue.say(
        "The pair daemon of this node does not answer: it serves no mail. A new node is set up with entry 2.",
        "本节点的配对守护进程没有应答：本节点不提供邮件服务。新节点请用菜单 2 进行设置。",
    );
    match why {
        Some(Err(why)) => format!("{first}\n{why}"),
        _ => first.to_owned(),
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn seen() -> Vec<Answer> {
        vec![
            Ok(
                json!({"sentence": "Node a serves.", "sentence_zh": "节点 a 在提供服务。", "nodes": [{"name": "a", "state": "active"}],
                "links": [{"name": "eth1", "state": "up"}, {"name": "serial", "state": "off"}], "storage": {"sentence": "mirrored"},
                "alarms": [{"text": {"en": "eth1 is cut", "zh": "eth1 中断"}}]}),
            ),
            Ok(
                json!({"bays": [{"name": "1", "label": "left", "disk": {"model": "X", "serial": "S1", "bytes": 2_000_000_000_u64}}, {"name": "2", "disk": null}],
                "arrays": {"running": [{"array": "mail", "state": "clean", "disks": 2, "degraded": 1,
                    "action": {"what": "recover", "done_bytes": 1, "of_bytes": 4}}]}}),
            ),
            Ok(json!({"version": "0.1.0", "slot": "a"})),
            Ok(json!({"board": "qemu-pc", "faults": [{"en": "no modem", "zh": "没有调制解调器"}]})),
            Ok(json!({"lan": {"up": true, "addresses": ["10.9.0.11/24"]}, "pair": {"up": false, "addresses": []}})),
        ]
    }

    #[test]
    fn the_sentence_stands_first_then_the_faults() {
        let page = page(&seen(), Tongue::English);
        let lines: Vec<_> = page.lines().collect();
        assert_eq!(lines[1..4], ["Node a serves.", "! no modem", "! eth1 is cut"]);
        for line in [
            "Node a: active",
            "Paths between the nodes: eth1 up",
            "Mirror: mirrored",
            "Array mail: clean, 1 of 2 disks missing, recover 25 %",
            "Bay left: X S1 2.0 GB",
        ] {
            assert!(lines.contains(&line), "{line} is not in {page}");
        }
        for line in ["Bay 2: empty", "System: 0.1.0, a", "Board: qemu-pc", "lan: 10.9.0.11/24", "pair (no cable): -"] {
            assert!(lines.contains(&line), "{line} is not in {page}");
        }
        assert!(super::page(&seen(), Tongue::Chinese).contains("节点 a 在提供服务。\n! 没有调制解调器\n! eth1 中断"));
    }

    #[test]
    fn a_node_without_a_pair_says_why() {
        let mut answers = seen();
        answers[0] = Err("no node in /state/node".into());
        let text = page(&answers, Tongue::English);
        assert!(text.contains("does not answer") && text.contains("no node in /state/node"), "{text}");
        answers[3] = Err("no such file".into());
        assert!(page(&answers, Tongue::English).contains("has not finished its start"));
        assert!(!page(&[], Tongue::English).is_empty());
    }
}
