//! What lasts long enough to be told: a way that cannot send, a spool that cannot be written, an inbox that nobody
//! empties. Pure: conditions and time come in, events come out.
//!
//! Contract: a trouble is told once, after it has lasted, and its end is told once, after that has lasted. A way that
//! changes between two kinds of trouble is one trouble; it is told anew only when somebody can do something about the
//! new kind (a SIM's PIN, say).

use crate::api::{Condition, Event, Way};
use crate::reasons;

/// Watches one subject.
#[derive(Debug, Clone)]
struct Watched {
    subject: String,
    /// The trouble as it is now, and since when.
    bad: Option<(Trouble, i64)>,
    /// Good since then.
    good_since: i64,
    told: Option<Event>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    condition: Option<Condition>,
    text: String,
    zh: String,
}

/// Watches everything.
#[derive(Debug)]
pub(crate) struct Health {
    after_ms: i64,
    recovered_ms: i64,
    watched: Vec<Watched>,
}

impl Health {
    pub(crate) fn new(after_ms: i64, recovered_ms: i64) -> Health {
        Health { after_ms, recovered_ms, watched: Vec::new() }
    }

    /// How a way is now.
    pub(crate) fn way(&mut self, now: i64, way: &Way) {
        let bad = (way.condition != Condition::Ready).then(|| {
            let (lead, lead_zh) = (format!("{}: ", way.name), format!("{}：", way.name));
            Trouble { condition: Some(way.condition), text: lead + &way.text, zh: lead_zh + &way.zh }
        });
        self.now(now, format!("way/{}", way.name), bad);
    }

    /// Whether the spool takes what it is given.
    pub(crate) fn spool(&mut self, now: i64, writable: bool) {
        let bad = (!writable).then(|| {
            let reason = reasons::disk("see the log");
            Trouble { condition: None, text: reason.text, zh: reason.zh }
        });
        self.now(now, "spool".into(), bad);
    }

    /// Whether incoming messages are taken.
    pub(crate) fn incoming(&mut self, now: i64, full: bool) {
        let bad = full.then(|| Trouble {
            condition: None,
            text: "too many received text messages wait, because nobody takes them: further ones stay on the SIM".into(),
            zh: "收到的短信长时间无人处理，新短信暂存在 SIM 卡上".into(),
        });
        self.now(now, "incoming".into(), bad);
    }

    fn now(&mut self, now: i64, subject: String, bad: Option<Trouble>) {
        let at = self.watched.iter().position(|w| w.subject == subject).unwrap_or_else(|| {
            self.watched.push(Watched { subject, bad: None, good_since: now, told: None });
            self.watched.len() - 1
        });
        let w = &mut self.watched[at];
        match (&mut w.bad, bad) {
            (None, None) => {}
            (Some((old, _)), Some(new)) => *old = new,
            (none @ None, Some(new)) => *none = Some((new, now)),
            (old, None) => {
                *old = None;
                w.good_since = now;
            }
        }
    }

    /// What is to be told now.
    pub(crate) fn due(&mut self, now: i64) -> Vec<Event> {
        let mut events = Vec::new();
        for w in &mut self.watched {
            let event = match (&w.bad, &w.told) {
                (Some((trouble, since)), None) if now - since >= self.after_ms => Some(event(&w.subject, trouble, *since)),
                (Some((trouble, _)), Some(told)) if needs_hands(trouble.condition) && told.condition != trouble.condition => {
                    Some(event(&w.subject, trouble, now))
                }
                (None, Some(told)) if now - w.good_since >= self.recovered_ms => {
                    let over = Event {
                        subject: w.subject.clone(),
                        recovered: true,
                        condition: Some(Condition::Ready).filter(|_| told.condition.is_some()),
                        text: format!("over: {}", told.text),
                        zh: format!("已恢复：{}", told.zh),
                        at_ms: w.good_since,
                    };
                    w.told = None;
                    events.push(over);
                    None
                }
                _ => None,
            };
            if let Some(event) = event {
                w.told = Some(event.clone());
                events.push(event);
            }
        }
        events
    }

    /// When something may become due.
    pub(crate) fn next_wake(&self) -> Option<i64> {
        let next = |w: &Watched| match (&w.bad, &w.told) {
            (Some((_, since)), None) => Some(since + self.after_ms),
            (None, Some(_)) => Some(w.good_since + self.recovered_ms),
            _ => None,
        };
        self.watched.iter().filter_map(next).min()
    }

    /// What was told and is not over.
    pub(crate) fn troubles(&self) -> Vec<Event> {
        self.watched.iter().filter_map(|w| w.told.clone()).collect()
    }

    /// The clock was set.
    pub(crate) fn shift(&mut self, by_ms: i64) {
        for w in &mut self.watched {
            w.good_since = w.good_since.saturating_add(by_ms);
            if let Some((_, since)) = &mut w.bad {
                *since = since.saturating_add(by_ms);
            }
        }
    }
}

fn event(subject: &str, trouble: &Trouble, at_ms: i64) -> Event {
    Event {
        subject: subject.to_owned(),
        recovered: false,
        condition: trouble.condition,
        text: trouble.text.clone(),
        zh: trouble.zh.clone(),
        at_ms,
    }
}

/// Somebody has to come and do something.
fn needs_hands(condition: Option<Condition>) -> bool {
    matches!(
        condition,
        Some(
            Condition::NoSim
                | Condition::PinWanted
                | Condition::PinWrong
                | Condition::PukWanted
                | Condition::Denied
                | Condition::BindRefused
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Kind;

    fn way(condition: Condition) -> Way {
        let (text, zh) = reasons::condition(condition);
        Way {
            name: "modem".into(),
            kind: Kind::Modem,
            condition,
            text: text.into(),
            zh: zh.into(),
            since_ms: 0,
            signal_dbm: None,
            operator: None,
            family: None,
            model: None,
            imei: None,
            smsc: None,
            registration: None,
        }
    }

    #[test]
    fn a_trouble_is_told_when_it_lasts_and_its_end_when_that_lasts() {
        let mut health = Health::new(60, 20);
        health.way(0, &way(Condition::Silent));
        assert_eq!(health.next_wake(), Some(60));
        assert!(health.due(59).is_empty());
        // Another kind of the same trouble does not begin anew.
        health.way(50, &way(Condition::Resetting));
        let told = health.due(60);
        assert_eq!(told.len(), 1);
        assert!(!told[0].recovered && told[0].at_ms == 0);
        assert!(health.due(61).is_empty());
        health.way(100, &way(Condition::Ready));
        assert!(health.due(119).is_empty());
        // A flicker of good does not end it.
        health.way(119, &way(Condition::Silent));
        health.way(130, &way(Condition::Ready));
        assert!(health.due(149).is_empty());
        let over = health.due(150);
        assert!(over.len() == 1 && over[0].recovered && over[0].at_ms == 130);
        assert!(health.troubles().is_empty());
        assert_eq!(health.next_wake(), None);
    }

    #[test]
    fn a_short_trouble_is_not_told_and_one_that_needs_hands_is_told_anew() {
        let mut health = Health::new(60, 20);
        health.way(0, &way(Condition::NoNetwork));
        health.way(30, &way(Condition::Ready));
        assert!(health.due(1000).is_empty());
        health.way(1000, &way(Condition::NoNetwork));
        assert_eq!(health.due(1060).len(), 1);
        health.way(1070, &way(Condition::PinWrong));
        let told = health.due(1070);
        assert_eq!(told[0].condition, Some(Condition::PinWrong));
        assert!(health.due(1071).is_empty());
        assert_eq!(health.troubles().len(), 1);
    }
}
