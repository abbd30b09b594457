//! Wrong PINs are counted: a sender address can be forged, and four digits are quickly guessed.
//!
//! Contract: after [`TRIES_MAX`] wrong ones in an hour a sender gets no answer about PINs for the rest of it, not even with the right one.
//! Senders elsewhere are counted by domain, as the rest of a forged address costs nothing. Bounded: [`SENDERS_MAX`] are remembered.

use crate::refusal::{Fault, Refusal};
use crate::sender::{self, Sender};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Wrong PINs an hour; people mistype a few.
const TRIES_MAX: u32 = 20;
const HOUR_S: i64 = 3600;
/// Senders that are remembered at once.
const SENDERS_MAX: usize = 10_000;

/// Wrong PINs of the running hour.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guesses {
    /// Since when, and how many, by sender.
    counts: Arc<Mutex<HashMap<String, (i64, u32)>>>,
}

fn name(sender: &Sender) -> Option<String> {
    match (&sender.account, &sender.address) {
        (Some(account), _) => Some(sender::key(account)),
        (None, address) => address.as_ref().map(|a| a.domain().to_owned()),
    }
}

impl Guesses {
    /// Counts a wrong PIN.
    pub(crate) fn count(&self, sender: &Sender, now_s: i64) {
        let Some(name) = name(sender) else { return };
        let mut counts = self.counts.lock();
        if counts.len() >= SENDERS_MAX && !counts.contains_key(&name) {
            counts.retain(|_, (since_s, _)| now_s - *since_s < HOUR_S);
            // Still full: an attack from everywhere. Who has tried least is the least of it.
            if counts.len() >= SENDERS_MAX {
                counts.retain(|_, (_, tries)| *tries > TRIES_MAX / 2);
            }
        }
        let entry = counts.entry(name).or_insert((now_s, 0));
        if now_s - entry.0 >= HOUR_S {
            *entry = (now_s, 0);
        }
        entry.1 = entry.1.saturating_add(1);
    }

    /// The refusal of a sender who guessed too often.
    pub(crate) fn refusal(&self, sender: &Sender, now_s: i64) -> Option<Refusal> {
        let counts = self.counts.lock();
        let (since_s, tries) = *counts.get(&name(sender)?)?;
        (tries >= TRIES_MAX && now_s - since_s < HOUR_S).then(|| {
            Refusal::new(
                Fault::Pin,
                450,
                (7, 1),
                "too many wrong PINs in the last hour: please try again in an hour",
                "一小时内密码错误次数过多，请一小时后再试",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinpost_message::Address;

    #[test]
    fn twenty_wrong_ones_an_hour() {
        let from = |text: &str| Sender { address: Address::parse(text).ok(), ..Sender::default() };
        let guesses = Guesses::default();
        for n in 0..20 {
            assert!(guesses.refusal(&from("a@x.example"), 100).is_none(), "{n}");
            guesses.count(&from(&format!("a{n}@x.example")), 100);
        }
        assert_eq!(guesses.refusal(&from("b@x.example"), 200).map(|r| r.code), Some(450));
        assert!(guesses.refusal(&from("a@y.example"), 200).is_none());
        assert!(guesses.refusal(&from("b@x.example"), 100 + HOUR_S).is_none());
        guesses.count(&from("b@x.example"), 100 + HOUR_S);
        assert!(guesses.refusal(&from("b@x.example"), 101 + HOUR_S).is_none());
        for n in 0..2 * SENDERS_MAX {
            guesses.count(&from(&format!("a@d{n}.example")), 10_000);
        }
        assert!(guesses.counts.lock().len() <= SENDERS_MAX);
    }
}
