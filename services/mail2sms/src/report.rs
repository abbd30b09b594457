//! What became of a text, as a delivery status notice says it (RFC 3464).

use crate::number::Number;
use crate::refusal::Sentence;

/// Why a text waits or failed, in the words of modem and network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reason {
    /// Trying again changes nothing.
    pub permanent: bool,
    /// +CMS ERROR, TP-Status or SMPP status.
    pub code: Option<u32>,
    /// English.
    pub en: String,
    /// Chinese.
    pub zh: String,
}

/// What became of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The network took all of it.
    Sent {
        /// Short messages.
        parts: u8,
        /// A part may have gone twice.
        possible_duplicate: bool,
    },
    /// It waits.
    Waiting(Reason),
    /// It will not be sent; so many parts had gone by then.
    Failed {
        /// Short messages that had gone.
        parts: u8,
        /// Why.
        reason: Reason,
    },
    /// The network reports that it reached the telephone.
    Delivered,
    /// The network reports that it did not.
    NotDelivered(Reason),
}

/// Action of RFC 3464 2.3.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It arrived.
    Delivered,
    /// It was handed over; nothing more is known.
    Relayed,
    /// Not yet.
    Delayed,
    /// Never.
    Failed,
}

/// One recipient of a delivery status notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What is told.
    pub action: Action,
    /// Status (RFC 3463): class, subject, detail.
    pub status: (u16, u16, u16),
    /// For people.
    pub sentence: Sentence,
    /// Diagnostic-Code of type `x-sms` (RFC 3464 2.3.6), ASCII: the network's number and words.
    pub diagnostic: String,
}

impl Report {
    /// What one recipient is told.
    #[must_use]
    pub fn of(outcome: &Outcome, number: &Number) -> Self {
        let to = number.as_str();
        let because = |reason: &Reason| {
            let en = if reason.en.is_empty() { "no reason was given" } else { reason.en.trim_end_matches('.') };
            let zh = if reason.zh.is_empty() { "没有给出原因" } else { reason.zh.trim_end_matches('。') };
            (en.to_owned(), zh.to_owned())
        };
        // RFC 3463: X.1.5 address valid, X.4.0 network, X.4.7 delivery time expired.
        let (action, status, en, zh, reason) = match outcome {
            Outcome::Sent { parts, possible_duplicate } => {
                let (twice_en, twice_zh) = if *possible_duplicate {
                    ("; part of it may arrive twice", "；部分内容可能重复收到")
                } else {
                    ("", "")
                };
                let en = format!("the text message to {to} was handed to the mobile network in {parts} part(s){twice_en}");
                (Action::Relayed, (2, 1, 5), en, format!("发给 {to} 的短信已提交给移动网络，共 {parts} 条{twice_zh}"), None)
            }
            Outcome::Delivered => {
                let en = format!("the text message to {to} has reached the telephone");
                (Action::Delivered, (2, 1, 5), en, format!("发给 {to} 的短信已送达对方手机"), None)
            }
            Outcome::Waiting(reason) => {
                let (why, why_zh) = because(reason);
                let en = format!("the text message to {to} waits and will be tried again: {why}");
                (Action::Delayed, (4, 4, 0), en, format!("发给 {to} 的短信正在等待重试：{why_zh}"), Some(reason))
            }
            Outcome::Failed { parts, reason } => {
                let (why, why_zh) = because(reason);
                let (some_en, some_zh) = match parts {
                    0 => (String::new(), String::new()),
                    n => (format!("; {n} part(s) of it had been sent before"), format!("；其中 {n} 条此前已发出")),
                };
                let status = if reason.permanent { (5, 4, 0) } else { (5, 4, 7) };
                let en = format!("the text message to {to} could not be sent: {why}{some_en}");
                (Action::Failed, status, en, format!("发给 {to} 的短信发送失败：{why_zh}{some_zh}"), Some(reason))
            }
            Outcome::NotDelivered(reason) => {
                let (why, why_zh) = because(reason);
                let status = if reason.permanent { (5, 4, 0) } else { (5, 4, 7) };
                let en = format!("the mobile network could not deliver the text message to {to}: {why}");
                (Action::Failed, status, en, format!("移动网络未能将短信送达 {to}：{why_zh}"), Some(reason))
            }
        };
        let sentence = Sentence::new(en, zh);
        let diagnostic = match reason {
            Some(Reason { code: Some(code), en, .. }) => Sentence::new(format!("{code} {en}"), "").en,
            _ => sentence.en.clone(),
        };
        Self { action, status, sentence, diagnostic }
    }
    /// `5.4.0`
    #[must_use]
    pub fn enhanced(&self) -> String {
        let (class, subject, detail) = self.status;
        format!("{class}.{subject}.{detail}")
    }
    /// What the queue writes down: enhanced code and English sentence, ASCII.
    #[must_use]
    pub fn reply_text(&self) -> String {
        format!("{} {}", self.enhanced(), self.sentence.en)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told() {
        let number = Number::from_canonical("+8613800138000").expect("canonical");
        let reason =
            |permanent| Reason {
                permanent, code: Some(38), en: "Network out of order.".to_owned(), zh: "网络故障。".to_owned()
            };
        let told = |outcome| Report::of(&outcome, &number);
        let failed = told(Outcome::Failed { parts: 1, reason: reason(true) });
        assert_eq!(
            failed.reply_text(),
            "5.4.0 the text message to +8613800138000 could not be sent: Network out of order; 1 part(s) of it had been sent before"
        );
        assert_eq!(failed.sentence.zh, "发给 +8613800138000 的短信发送失败：网络故障；其中 1 条此前已发出");
        assert_eq!(failed.diagnostic, "38 Network out of order.");
        assert_eq!(told(Outcome::Waiting(reason(false))).enhanced(), "4.4.0");
        assert_eq!(told(Outcome::NotDelivered(reason(false))).enhanced(), "5.4.7");
        assert_eq!(told(Outcome::Delivered).action, Action::Delivered);
        let twice = told(Outcome::Sent { parts: 2, possible_duplicate: true });
        assert!(twice.action == Action::Relayed && twice.sentence.en.ends_with("may arrive twice"));
    }
}
