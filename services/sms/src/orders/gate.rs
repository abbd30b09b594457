//! Who may order what: numbers, one-time codes, lock-out. Pure: time and chance come in.
//!
//! Contract: a code is good once, for a while, for the number it was sent to, and is made only on that number's own
//! request. After some wrong codes the number is locked out for a while and gets no answers. What a number may cost
//! in answers is bounded by the hour. Codes live in memory only: a restart makes them void.

use super::{Language, Order, words::Words};
use crate::number::{international, same_phone};
use crate::settings::OrdersSettings;
use std::collections::HashMap;

/// What is done with an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Carry it out and send its answer.
    Do(Order),
    /// Send this.
    Say(String),
    /// No answer; why, for the log.
    Silence(&'static str),
}

#[derive(Debug, Default)]
struct Known {
    /// The code and until when it is good.
    code: Option<(u32, i64)>,
    wrong: u8,
    locked_until: i64,
    /// Answers in the hour that began then.
    hour_began: i64,
    answers: u32,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Gate {
    settings: OrdersSettings,
    country: Option<String>,
    known: HashMap<usize, Known>,
}

impl Gate {
    pub(crate) fn new(settings: OrdersSettings, country: Option<String>) -> Gate {
        Gate { settings, country, known: HashMap::new() }
    }

    /// The administrator's number as it is in the settings, if it is one. Answers go there, not to what a message says
    /// of its sender.
    pub(crate) fn knows(&self, from: &str) -> Option<&str> {
        self.administrator(from).map(|n| self.settings.numbers[n].as_str())
    }

    fn administrator(&self, from: &str) -> Option<usize> {
        let country = self.country.as_deref();
        self.settings.numbers.iter().position(|n| match country {
            Some(_) => international(n, country) == international(from, country),
            None => same_phone(n, from),
        })
    }

    /// Judges an order. `chance` gives a code from 0 to 999,999.
    pub(crate) fn judge(&mut self, now: i64, from: &str, words: &Words, chance: impl FnOnce() -> u32) -> Verdict {
        let Some(who) = self.administrator(from) else { return Verdict::Silence("not an administrator's number") };
        let valid_ms = i64::try_from(self.settings.code_valid.as_millis()).unwrap_or(i64::MAX);
        let lockout_ms = i64::try_from(self.settings.lockout.as_millis()).unwrap_or(i64::MAX);
        let known = self.known.entry(who).or_default();
        if known.locked_until > now {
            return Verdict::Silence("locked out after wrong codes");
        }
        if now - known.hour_began >= 3_600_000 {
            known.hour_began = now;
            known.answers = 0;
        }
        if known.answers >= self.settings.answers_per_hour {
            return Verdict::Silence("too many orders in an hour");
        }
        known.answers += 1;
        let language = words.language;
        match words.order {
            Order::Status | Order::Acknowledge(_) => Verdict::Do(words.order),
            Order::Help | Order::Unclear => Verdict::Say(help(language)),
            Order::Switch(None) => {
                let code = chance() % 1_000_000;
                known.code = Some((code, now.saturating_add(valid_ms)));
                let minutes = (valid_ms / 60_000).max(1);
                Verdict::Say(match language {
                    Language::English => format!("To make the peer take over, reply SWITCH {code:06} within {minutes} min."),
                    Language::Chinese => format!("如需切换到备机，请在 {minutes} 分钟内回复：切换 {code:06}"),
                })
            }
            Order::Switch(Some(given)) => {
                // Taken whether it fits or not: every guess needs a new code.
                let code = known.code.take();
                match code {
                    Some((code, until)) if same(code, given) => {
                        if until > now {
                            known.wrong = 0;
                            return Verdict::Do(words.order);
                        }
                        Verdict::Say(
                            language
                                .say("The code is too old. Send SWITCH for a new one.", "验证码已过期，请重新发送“切换”。")
                                .into(),
                        )
                    }
                    _ => {
                        known.wrong = known.wrong.saturating_add(1);
                        if known.wrong >= self.settings.wrong_max {
                            known.wrong = 0;
                            known.locked_until = now.saturating_add(lockout_ms);
                            return Verdict::Say(
                                language
                                    .say(
                                        "Wrong code. Orders from this number are locked now.",
                                        "验证码错误，此号码的指令已被锁定。",
                                    )
                                    .into(),
                            );
                        }
                        Verdict::Say(
                            language.say("Wrong code. Send SWITCH for a new one.", "验证码错误，请重新发送“切换”。").into(),
                        )
                    }
                }
            }
        }
    }

    /// Forgets codes that are too old.
    pub(crate) fn sweep(&mut self, now: i64) {
        for known in self.known.values_mut() {
            // One more validity: an old code is told from a wrong one.
            known.code = known.code.filter(|(_, until)| until.saturating_add(3_600_000) > now);
        }
    }
}

/// Compares without telling by its time where the difference is.
fn same(a: u32, b: u32) -> bool {
    let difference = a.to_be_bytes().iter().zip(b.to_be_bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0
}

fn help(language: Language) -> String {
    language
        .say(
            "STATUS: how the system is. ACK n: acknowledge alarm n. SWITCH: let the peer take over (asks for a code).",
            "状态：查询系统；确认 n：确认第 n 号告警；切换：切换到备机（需验证码）。",
        )
        .into()
}

#[cfg(test)]
mod tests {
    use super::super::words;
    use super::*;

    const ADMIN: &str = "+8613800138000";

    fn gate() -> Gate {
        Gate::new(OrdersSettings::new(vec!["13800138000".into(), "+4915112345678".into()]), None)
    }

    fn judge(gate: &mut Gate, now: i64, from: &str, text: &str, code: u32) -> Verdict {
        gate.judge(now, from, &words(text).unwrap(), || code)
    }

    #[test]
    fn a_code_is_good_once_for_a_while_for_its_number() {
        let mut g = gate();
        let say = judge(&mut g, 0, ADMIN, "switch", 42);
        assert_eq!(say, Verdict::Say("To make the peer take over, reply SWITCH 000042 within 5 min.".into()));
        // Another administrator cannot use it.
        assert!(matches!(judge(&mut g, 1, "+4915112345678", "switch 000042", 0), Verdict::Say(_)));
        assert!(matches!(judge(&mut g, 1, ADMIN, "switch 000042", 0), Verdict::Do(Order::Switch(_))));
        // Used.
        assert!(matches!(judge(&mut g, 2, ADMIN, "switch 000042", 0), Verdict::Say(_)));
        // Too old.
        judge(&mut g, 10, ADMIN, "switch", 7);
        let late = judge(&mut g, 10 + 300_000, ADMIN, "switch 000007", 0);
        assert!(matches!(late, Verdict::Say(text) if text.contains("too old")));
    }

    #[test]
    fn wrong_codes_lock_out_and_each_guess_needs_a_new_code() {
        let mut g = gate();
        for n in 0..3 {
            judge(&mut g, n, ADMIN, "switch", 111_111);
            assert!(matches!(judge(&mut g, n, ADMIN, "switch 222222", 0), Verdict::Say(_)));
            if n < 2 {
                assert!(matches!(judge(&mut g, n, ADMIN, "switch 111111", 0), Verdict::Say(_)), "the guess used it up");
                break;
            }
        }
        judge(&mut g, 5, ADMIN, "switch", 1);
        judge(&mut g, 6, ADMIN, "switch 000002", 1);
        assert_eq!(judge(&mut g, 7, ADMIN, "status", 1), Verdict::Silence("locked out after wrong codes"));
        assert_eq!(judge(&mut g, 7 + 3_600_000, ADMIN, "status", 1), Verdict::Do(Order::Status));
    }

    #[test]
    fn strangers_get_nothing_and_answers_are_bounded() {
        let mut g = gate();
        assert!(matches!(judge(&mut g, 0, "+8613800138001", "status", 0), Verdict::Silence(_)));
        assert_eq!(g.knows("10086"), None);
        assert_eq!(g.knows(ADMIN), Some("13800138000"));
        for _ in 0..30 {
            assert_eq!(judge(&mut g, 0, ADMIN, "状态", 0), Verdict::Do(Order::Status));
        }
        assert_eq!(judge(&mut g, 1, ADMIN, "状态", 0), Verdict::Silence("too many orders in an hour"));
    }
}
