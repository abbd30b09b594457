//! The phones on the other side of the network: they read what was sent, join long messages, and notice what came twice.
//!
//! Contract: each message that a phone would show is one [`Received`]. Each part is read by itself, so a sender that cuts an escape or a
//! surrogate pair at the end of a part shows it in the text. What came twice:
//! * a whole message with the number and the text of an earlier one is recorded again, with `duplicate`; `possible_duplicate` says
//!   whether its sender had marked it (TP-RD, 23.040 9.2.3.25), so an unmarked repeat is a line with `duplicate` and without
//!   `possible_duplicate`;
//! * a part that a phone already has, marked: the phone drops it, the counter `marked_repeats` grows; unmarked inside a message that is
//!   not complete: dropped too, `unmarked_repeats` grows.

use crate::tpdu::{self, Concatenation, Submit};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

/// Long messages that phones keep open at a time.
const OPEN_MOST: usize = 4096;
/// Completed long messages whose repeated parts are still recognised.
const DONE_MOST: usize = 4096;

/// A message that a phone received: one line of the record file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Received {
    /// When the last part came, RFC 3339.
    pub time: String,
    /// When the terminal gave the send command of the last part, RFC 3339.
    pub asked: String,
    /// TPDUs as they went over the air, in the order of the parts, in hex.
    pub pdus: Vec<String>,
    /// The phone, with `+` when international.
    pub number: String,
    /// The decoded text.
    pub text: String,
    /// Number of parts.
    pub parts: u8,
    /// Concatenation reference, or TP-MR of a message in one part.
    pub reference: u16,
    /// TP-MR of each part.
    pub references: Vec<u8>,
    /// The sender marked at least one part as a possible repeat (TP-RD).
    pub possible_duplicate: bool,
    /// This phone has shown the same text before.
    pub duplicate: bool,
    /// `7bit`, `8bit` or `ucs2`.
    pub alphabet: &'static str,
    /// National tables, locking and single; 0 is none.
    pub languages: (u8, u8),
    /// Message class; 0 is a flash message.
    pub class: Option<u8>,
    /// A status report was asked for.
    pub report: bool,
    /// Validity asked for, in seconds from the sending.
    pub validity_s: Option<i64>,
    /// The service centre it went through.
    pub smsc: String,
}

/// What phones did not show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Repeats {
    /// Parts that a phone dropped because it had them, marked by the sender.
    pub marked_repeats: u64,
    /// The same, not marked.
    pub unmarked_repeats: u64,
    /// Messages shown a second time without mark.
    pub unmarked_duplicates: u64,
    /// Long messages given up because a part with other contents took their place, or too many were open.
    pub abandoned: u64,
}

#[derive(Hash, PartialEq, Eq, Clone)]
struct Key {
    number: String,
    reference: u16,
    wide: bool,
    parts: u8,
}

struct Part {
    submit: Submit,
    hex: String,
}

#[derive(Default)]
struct Assembly {
    parts: Vec<Option<Part>>,
    began: u64,
}

/// All phones of the world.
#[derive(Default)]
pub struct Phones {
    open: HashMap<Key, Assembly, Stable>,
    done: HashMap<Key, (u64, Vec<u64>), Stable>,
    shown: HashSet<u64, Stable>,
    /// What was dropped.
    pub repeats: Repeats,
    clock: u64,
}

/// No random keys: the same seed gives the same run.
type Stable = BuildHasherDefault<DefaultHasher>;

fn mark(of: impl std::hash::Hash) -> u64 {
    Stable::default().hash_one(of)
}

impl Phones {
    /// Takes a part; the message when it is now complete. `now_ms` since 1970.
    pub fn take(&mut self, submit: Submit, octets: &[u8], smsc: &str, now_ms: i64, asked_ms: i64) -> Option<Received> {
        self.clock += 1;
        let part = Part { submit, hex: crate::address::hex(octets) };
        let Some(place) = part.submit.data.concatenation else {
            return Some(self.show(vec![part], smsc, now_ms, asked_ms));
        };
        let Concatenation { reference, wide, parts, part: n } = place;
        let key = Key { number: part.submit.to.to_string(), reference, wide, parts };
        let at = usize::from(n) - 1;
        if !self.open.contains_key(&key) && part.submit.reject_duplicates {
            let known = self.done.get(&key).and_then(|(_, marks)| marks.get(at));
            if known == Some(&mark(&part.submit.data.raw)) {
                self.repeats.marked_repeats += 1;
                return None;
            }
        }
        let clock = self.clock;
        let fresh = || Assembly { parts: (0..parts).map(|_| None).collect(), began: clock };
        let assembly = self.open.entry(key.clone()).or_insert_with(fresh);
        match &mut assembly.parts[at] {
            Some(had) if had.submit.data.raw == part.submit.data.raw => {
                if part.submit.reject_duplicates {
                    self.repeats.marked_repeats += 1;
                    had.submit.reject_duplicates = true;
                } else {
                    self.repeats.unmarked_repeats += 1;
                }
                return None;
            }
            Some(_) => {
                self.repeats.abandoned += 1;
                *assembly = fresh();
                assembly.parts[at] = Some(part);
            }
            free => *free = Some(part),
        }
        if assembly.parts.iter().any(Option::is_none) {
            self.bound();
            return None;
        }
        let whole: Vec<Part> = self.open.remove(&key).map(|a| a.parts).unwrap_or_default().into_iter().flatten().collect();
        let marks = whole.iter().map(|p| mark(&p.submit.data.raw)).collect();
        self.done.insert(key, (self.clock, marks));
        self.bound();
        Some(self.show(whole, smsc, now_ms, asked_ms))
    }

    /// Whether a phone has this text, or this part of a long one, already.
    #[must_use]
    pub fn knows(&self, submit: &Submit) -> bool {
        let number = submit.to.to_string();
        let Some(Concatenation { reference, wide, parts, part }) = submit.data.concatenation else {
            return self.shown.contains(&mark((&number, &submit.data.text)));
        };
        let key = Key { number, reference, wide, parts };
        let at = usize::from(part) - 1;
        let open = self.open.get(&key).and_then(|a| a.parts[at].as_ref()).is_some_and(|p| p.submit.data.raw == submit.data.raw);
        open || self.done.get(&key).and_then(|(_, m)| m.get(at)) == Some(&mark(&submit.data.raw))
    }

    /// Parts that wait for others.
    #[must_use]
    pub fn incomplete(&self) -> usize {
        self.open.len()
    }

    fn bound(&mut self) {
        if self.open.len() > OPEN_MOST {
            let oldest = self.open.iter().min_by_key(|(_, a)| a.began).map(|(k, _)| k.clone());
            self.repeats.abandoned += u64::from(oldest.is_some_and(|k| self.open.remove(&k).is_some()));
        }
        if self.done.len() > DONE_MOST {
            let limit = self.clock.saturating_sub(DONE_MOST as u64 / 2);
            self.done.retain(|_, (when, _)| *when >= limit);
        }
    }

    fn show(&mut self, parts: Vec<Part>, smsc: &str, now_ms: i64, asked_ms: i64) -> Received {
        let first = &parts[0].submit;
        let number = first.to.to_string();
        let text: String = parts.iter().map(|p| p.submit.data.text.as_str()).collect();
        let possible_duplicate = parts.iter().any(|p| p.submit.reject_duplicates);
        let duplicate = !self.shown.insert(mark((&number, &text)));
        self.repeats.unmarked_duplicates += u64::from(duplicate && !possible_duplicate);
        Received {
            time: crate::stamp::rfc3339(now_ms),
            asked: crate::stamp::rfc3339(asked_ms),
            parts: parts.len() as u8,
            reference: first.data.concatenation.map_or(first.reference.into(), |c| c.reference),
            references: parts.iter().map(|p| p.submit.reference).collect(),
            possible_duplicate,
            duplicate,
            alphabet: first.data.alphabet.name(),
            languages: first.data.languages,
            class: tpdu::class(first.coding),
            report: parts.iter().any(|p| p.submit.wants_report),
            validity_s: match first.validity {
                tpdu::Validity::Own => None,
                tpdu::Validity::For(s) => Some(s.into()),
                tpdu::Validity::Until(at) => Some(at - now_ms.div_euclid(1000)),
            },
            smsc: smsc.to_owned(),
            number,
            text,
            pdus: parts.into_iter().map(|p| p.hex).collect(),
        }
    }
}
