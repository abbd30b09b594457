//! Text on a terminal that other programs and other people's data speak through.

use crate::Tongue;
use serde_json::Value;

/// Text as a raw terminal takes it: CR LF, and no control character that came with somebody's data.
pub(crate) fn lines(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            '\n' => out.extend_from_slice(b"\r\n"),
            c if c.is_control() => out.push(b'?'),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

/// A sentence of a report: text, or `{"en", "zh"}`, or an object that holds one of these under a usual name.
pub(crate) fn sentence(value: &Value, tongue: Tongue) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(map) => {
            let own = map.get(tongue.say("en", "zh")).or_else(|| map.get("en")).and_then(Value::as_str);
            own.map(str::to_owned).or_else(|| {
                let zh = (tongue == Tongue::Chinese).then(|| map.get("sentence_zh").or_else(|| map.get("text_zh"))).flatten();
                let parts = [zh, map.get("sentence"), map.get("text"), map.get("what"), map.get("why"), map.get("state")];
                parts.into_iter().flatten().find_map(|part| sentence(part, tongue))
            })
        }
        _ => None,
    }
}

/// What an order says when it refuses: a sentence, or `{"reasons": [...]}`.
pub(crate) fn refusal(error: &Value, tongue: Tongue) -> Option<String> {
    let reasons = error["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
    let reasons: Vec<String> = reasons.iter().filter_map(|reason| sentence(reason, tongue)).collect();
    if reasons.is_empty() { sentence(error, tongue) } else { Some(reasons.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_from_outside_steers_the_terminal() {
        assert_eq!(lines("a\n\x1b[2J\u{9b}中"), "a\r\n?[2J?中".as_bytes());
    }

    #[test]
    fn a_sentence_in_its_forms() {
        for value in [json!("one"), json!({"en": "one", "zh": "一"}), json!({"text": {"en": "one"}}), json!({"sentence": "one"})]
        {
            assert_eq!(sentence(&value, Tongue::English).as_deref(), Some("one"), "{value}");
        }
        assert_eq!(sentence(&json!({"en": "one", "zh": "一"}), Tongue::Chinese).as_deref(), Some("一"));
        assert_eq!(sentence(&json!({"sentence": "one", "sentence_zh": "一"}), Tongue::Chinese).as_deref(), Some("一"));
        assert_eq!(sentence(&json!(3), Tongue::English), None);
        let refused = json!({"reasons": [{"en": "one", "zh": "一"}, {"en": "two", "zh": "二"}]});
        assert_eq!(refusal(&refused, Tongue::English).as_deref(), Some("one\ntwo"));
        assert_eq!(refusal(&json!("no"), Tongue::Chinese).as_deref(), Some("no"));
    }
}
