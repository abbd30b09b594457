//! Answers for people (tables) and machines (`--json`).

use crate::cli::{AccountOrder, AliasOrder, DomainOrder, GroupOrder, Order, QueueOrder, SmsOrder, StoreOrder};
use crate::complain;
use crate::control::Failure;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

/// Plain text on standard output.
#[allow(clippy::print_stdout, reason = "the answer of a command belongs on standard output")]
pub fn text(text: &str) {
    use std::io::Write;
    // A reader that went away (`| head`) is no failure of ours.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if !text.ends_with('\n') {
        let _ = std::io::stdout().write_all(b"\n");
    }
}

fn json_text(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|e| format!("{{\"error\": \"{e}\"}}"))
}

/// A sentence, or its JSON.
pub fn note(sentence: &str, value: &Value, json: bool) {
    text(&if json { json_text(value) } else { sentence.to_owned() });
}

/// Why it was refused.
pub fn failure(order: &Order, failure: &Failure, json: bool) {
    if json {
        text(&json_text(&serde_json::json!({ "error": failure.message, "found": failure.found })));
        return;
    }
    if let Some(found) = &failure.found {
        result(order, found, false);
    }
    complain(&failure.message);
}

/// What an order brought.
pub fn result(order: &Order, value: &Value, json: bool) {
    if let (Order::Export { .. }, Value::String(csv), false) = (order, value, json) {
        return text(csv);
    }
    if json {
        return text(&json_text(value));
    }
    if let (Order::Import { .. }, Some(Value::Array(lines))) = (order, value.get("lines")) {
        let worth = lines.iter().filter(|l| l["outcome"] == "refused" || l["reason"].as_str().is_some_and(|r| !r.is_empty()));
        let rows: Vec<Value> = worth.cloned().collect();
        if !rows.is_empty() {
            text(&table(&rows, &["line", "address", "outcome", "reason"]).to_string());
        }
        let count = |key: &str| value[key].as_u64().unwrap_or(0);
        let kept = if value["committed"] == true { "" } else { " (nothing was changed)" };
        return text(&format!(
            "{} added, {} updated, {} unchanged, {} refused{kept}",
            count("added"),
            count("updated"),
            count("unchanged"),
            count("refused")
        ));
    }
    if matches!(order, Order::Pair(_))
        && let Ok(report) = serde_json::from_value::<twinpost_merge::Report>(value.clone())
    {
        let chinese = ["LC_ALL", "LANG"].iter().find_map(|name| std::env::var(name).ok()).is_some_and(|l| l.starts_with("zh"));
        let tongue = if chinese { twinpost_merge::Tongue::Zh } else { twinpost_merge::Tongue::En };
        return text(&report.sentences(tongue).join("\n"));
    }
    if matches!(order, Order::Store(StoreOrder::Rebuild)) && value.is_object() {
        return text(&rebuilt(value));
    }
    match value {
        Value::Null => text("done"),
        Value::String(sentence) => text(sentence),
        Value::Array(rows) if rows.is_empty() => text("nothing there"),
        Value::Array(rows) => text(&table(rows, columns(order)).to_string()),
        Value::Object(map) => {
            let mut table = blank();
            for (key, value) in map {
                table.add_row([key.replace('_', " "), cell(key, value)]);
            }
            text(&table.to_string());
        }
        other => text(&other.to_string()),
    }
}

/// What `store rebuild` made, in sentences: it is read by somebody who is worried.
fn rebuilt(report: &Value) -> String {
    let n = |key: &str| report[key].as_u64().unwrap_or(0);
    let mut lines = vec![format!(
        "The index was made again from {} packs ({}): {} messages in {} mailboxes, {} entries in the queue.",
        n("packs"),
        size(n("bytes")),
        n("messages"),
        n("mailboxes"),
        n("queue_entries")
    )];
    lines.push(match report["complete"].as_bool() {
        Some(true) => "It is complete: the packs end as at a proper stop, and nothing in them is damaged.".to_owned(),
        _ => "The packs do not end as at a proper stop, or are damaged: UIDs of each mailbox go on 10,000 higher.".to_owned(),
    });
    if n("last_moment") > 0 {
        lines.push(format!("{} messages of the last moment before the loss were delivered once more.", n("last_moment")));
    }
    if n("damaged_bodies") > 0 {
        lines.push(format!("{} messages are damaged, and are shown as such.", n("damaged_bodies")));
    }
    if n("recovered") > 0 {
        lines.push(format!(
            "{} messages have lost their owner: they are kept in the mailbox Recovered of account 0.",
            n("recovered")
        ));
    }
    let faults = report["faults"].as_array().map(Vec::as_slice).unwrap_or_default();
    lines.extend(faults.iter().filter_map(Value::as_str).map(|fault| format!("- {fault}")));
    if let Some(old) = report["old_index"].as_str() {
        lines.push(format!("The old index is kept as {old}; remove it when you miss nothing."));
    }
    lines.join("\n")
}

/// Which keys make the columns of a list; all keys when the list is of no known kind.
fn columns(order: &Order) -> &'static [&'static str] {
    match order {
        Order::Domain(DomainOrder::List) => &["name", "aliases", "state", "accounts", "quota_bytes", "catch_all"],
        Order::Account(AccountOrder::List { .. }) => &["address", "display_name", "role", "state", "services", "quota_bytes"],
        Order::Alias(AliasOrder::List { .. }) => &["address", "targets"],
        Order::Group(GroupOrder::List { .. }) => &["address", "display_name", "senders", "members"],
        Order::Queue(QueueOrder::List { .. }) => {
            &["id", "trace", "sender", "recipients", "size_bytes", "age_s", "next_try_s", "hold", "last_reply"]
        }
        Order::Sms(SmsOrder::Log { .. }) => &["when", "event", "who", "number", "parts", "detail", "trace"],
        Order::Sms(SmsOrder::Rules(_)) => &["name", "numbers", "enabled", "only", "per_day"],
        Order::Store(StoreOrder::Deleted { .. }) => &["id", "mailbox", "subject", "deleted", "size_bytes"],
        _ => &[],
    }
}

/// Rows as a table.
pub fn rows(rows: &[Value], columns: &[&str]) -> String {
    table(rows, columns).to_string()
}

/// A table without lines.
pub fn blank() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    // Some terminals do not know how wide they are.
    if table.width().is_some_and(|columns| columns < 40) {
        table.set_width(80);
    }
    table
}

fn table(rows: &[Value], columns: &[&str]) -> Table {
    let mut table = blank();
    let names: Vec<String> = if columns.is_empty() {
        rows.first().and_then(Value::as_object).map(|o| o.keys().cloned().collect()).unwrap_or_default()
    } else {
        columns.iter().map(|c| (*c).to_owned()).collect()
    };
    if names.is_empty() {
        for row in rows {
            table.add_row([cell("", row)]);
        }
        return table;
    }
    table.set_header(names.iter().map(|n| n.trim_end_matches("_bytes").trim_end_matches("_s").replace('_', " ").to_uppercase()));
    for row in rows {
        table.add_row(names.iter().map(|n| cell(n, row.get(n).unwrap_or(&Value::Null))));
    }
    table
}

/// One value for people: sizes and times in the unit that their key names.
fn cell(key: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_u64() {
            Some(n) if key.ends_with("_bytes") => size(n),
            Some(n) if key.ends_with("_s") => span(n),
            _ => number.to_string(),
        },
        Value::Array(list) => {
            list.iter().map(|v| cell("", v)).collect::<Vec<_>>().join(if list.iter().any(Value::is_object) { "\n" } else { ", " })
        }
        Value::Object(map) => {
            map.iter().map(|(k, v)| format!("{}: {}", k.replace('_', " "), cell(k, v))).collect::<Vec<_>>().join("\n")
        }
    }
}

fn size(bytes: u64) -> String {
    let (value, unit) = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(shift, _)| bytes >> shift > 0)
        .map_or((bytes as f64, "B"), |(shift, unit)| (bytes as f64 / (1u64 << shift) as f64, unit));
    if value.fract() == 0.0 { format!("{value} {unit}") } else { format!("{value:.1} {unit}") }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_are_for_people() {
        assert_eq!([size(0), size(1023), size(1024), size(1536), size(5 << 30)], ["0 B", "1023 B", "1 KiB", "1.5 KiB", "5 GiB"]);
        assert_eq!([span(5), span(600), span(7200), span(864_000)], ["5 s", "10 min", "2 h", "10 d"]);
    }
}
