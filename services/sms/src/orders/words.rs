//! The words of orders, in two languages. Any text is read; what is no order is `None`.

use super::Language;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Status,
    Help,
    /// This alarm.
    Acknowledge(u32),
    /// With the code that was sent back, if one was.
    Switch(Option<u32>),
    /// An order's word, and something behind it that does not belong there.
    Unclear,
}

/// An order and the language of its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Words {
    pub order: Order,
    pub language: Language,
}

/// Longest text that can be an order, in characters: everything longer is a message.
const LONGEST: usize = 40;

/// Reads a text as an order. The case of letters, full-width forms and a full stop at the end do not matter.
pub(crate) fn words(text: &str) -> Option<Words> {
    if text.chars().nth(LONGEST).is_some() {
        return None;
    }
    let plain: String = text
        .chars()
        .map(|c| match c {
            // Full-width forms, as Chinese keyboards give them.
            '\u{FF01}'..='\u{FF5E}' => char::from_u32(u32::from(c) - 0xFEE0).unwrap_or(c),
            '\u{3000}' | '\u{3002}' => ' ',
            c => c,
        })
        .collect::<String>()
        .to_ascii_uppercase();
    let plain = plain.trim().trim_end_matches('.').trim();
    let (word, rest, language) = split(plain)?;
    let number = |digits: usize| {
        let fits = !rest.is_empty() && rest.len() <= digits && rest.bytes().all(|b| b.is_ascii_digit());
        rest.parse::<u32>().ok().filter(|_| fits)
    };
    let order = match word {
        "STATUS" if rest.is_empty() => Order::Status,
        "HELP" if rest.is_empty() => Order::Help,
        "ACK" => number(9).map_or(Order::Unclear, Order::Acknowledge),
        "SWITCH" if rest.is_empty() => Order::Switch(None),
        // A code has six digits; anything else behind the word is a wrong code too, and counts as one.
        "SWITCH" => Order::Switch(Some(number(6).filter(|_| rest.len() == 6).unwrap_or(u32::MAX))),
        _ => Order::Unclear,
    };
    Some(Words { order, language })
}

/// The order's word in English, what follows it, and its language.
fn split(text: &str) -> Option<(&'static str, &str, Language)> {
    const CHINESE: [(&str, &str); 6] =
        [("状态", "STATUS"), ("帮助", "HELP"), ("确认", "ACK"), ("切换", "SWITCH"), ("狀態", "STATUS"), ("幫助", "HELP")];
    for (word, order) in CHINESE {
        if let Some(rest) = text.strip_prefix(word) {
            return Some((order, rest.trim(), Language::Chinese));
        }
    }
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let order = ["STATUS", "HELP", "ACK", "SWITCH"].into_iter().find(|order| *order == word)?;
    // Ordinary messages begin with these words too ("Help me with ..."): then they are no orders.
    let rest = rest.trim();
    let short = rest.split_whitespace().count() <= 1;
    short.then_some((order, rest, Language::English))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn orders_are_read_in_both_languages() {
        let order = |text: &str| words(text).map(|w| w.order);
        assert_eq!(order("status"), Some(Order::Status));
        assert_eq!(order(" Status. \r\n"), Some(Order::Status));
        assert_eq!(order("状态"), Some(Order::Status));
        assert_eq!(order("帮助。"), Some(Order::Help));
        assert_eq!(order("ack 12"), Some(Order::Acknowledge(12)));
        assert_eq!(order("确认12"), Some(Order::Acknowledge(12)));
        assert_eq!(order("ＡＣＫ　１２"), Some(Order::Acknowledge(12)));
        assert_eq!(order("ACK twelve"), Some(Order::Unclear));
        assert_eq!(order("switch"), Some(Order::Switch(None)));
        assert_eq!(order("SWITCH 048291"), Some(Order::Switch(Some(48_291))));
        assert_eq!(order("切换 482913"), Some(Order::Switch(Some(482_913))));
        // A wrong code is a wrong code, not another kind of message.
        assert_eq!(order("SWITCH 48291"), Some(Order::Switch(Some(u32::MAX))));
        for no in ["", "Thank you", "Help me with the printer", "STATUSES", "stat"] {
            assert_eq!(order(no), None, "{no}");
        }
        assert_eq!(words("状态").map(|w| w.language), Some(Language::Chinese));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC*") {
            let _ = words(&text);
            let _ = words(&format!("SWITCH {text}"));
            let _ = words(&format!("确认{text}"));
        }
    }
}
