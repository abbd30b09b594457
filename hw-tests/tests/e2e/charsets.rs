//! Mail as it really comes: GBK, GB18030, Big5, ISO-2022-JP, wrong labels and broken forms; found by its words.

use crate::node::{Node, wait_for};
use crate::programs::python;

#[test]
fn words_are_found_in_every_charset_before_and_after_indexing() {
    let node = Node::start();
    let ben = "ben@school.example";
    let (smtp, imaps, ip) = (node.port("smtp").to_string(), node.port("imaps").to_string(), node.ip().to_string());
    let (ca, password) = (node.ca(), node.password(ben));
    let words = |what| {
        [what, ip.as_str(), smtp.as_str(), imaps.as_str(), ca.to_str().unwrap(), ben, password.as_str()].map(str::to_owned)
    };
    let call = |what| {
        let words = words(what);
        println!("{}", python("charsets.py", &words.each_ref().map(String::as_str)).well());
    };
    let behind = || {
        let status = node.json(&["status"]);
        let (log, index) = (status["log_position"].as_u64().unwrap(), status["search_position"].as_u64().unwrap());
        println!("log at {log}, index at {index}");
        index < log
    };
    call("send");
    behind();
    call("search");
    wait_for("the index", || (!behind()).then_some(()));
    call("search");
}
