//! Recipients that go by the courier instead of SMTP.
//!
//! Each is settled as soon as it has arrived; the others wait for the end of the round, so that the sender gets one report.
//! Errands that are under way hold half of the queue's room at most: a slow courier does not keep other mail waiting.

use super::settle::{Fate, Wait};
use super::{Queue, Round, now_s};
use crate::client::Trouble;
use crate::courier::{self, Courier};
use crate::dns::Dns;
use crate::spool::{Recipient, Reply, Spool, State};
use futures_util::StreamExt;

/// Errands of one entry that are under way at once.
const AT_ONCE: usize = 16;
/// An entry that finds no room comes back after this time, or a multiple of it when many wait.
const PUT_OFF_S: i64 = 15;
/// Longest time that an entry is put off.
const PUT_OFF_MAX_S: i64 = 900;

impl<S: Spool, D: Dns, C: Courier> Queue<S, D, C> {
    /// The turn of an entry that finds no room: behind all that were put off before it, so many at a time, so that a long
    /// queue is not written down again and again while it waits.
    fn turn_s(&self) -> i64 {
        let now = now_s();
        let at_once = i64::try_from(self.settings().settings.claims / 2).unwrap_or(i64::MAX).max(1);
        let mut turns = self.errand_turns.lock();
        let (at_s, taken) = if turns.0 <= now { (now + PUT_OFF_S, 0) } else { *turns };
        *turns = if taken + 1 >= at_once { (at_s + PUT_OFF_S, 0) } else { (at_s, taken + 1) };
        at_s.min(now + PUT_OFF_MAX_S)
    }

    /// Gives the recipients to the courier; gives back what is not written down yet.
    pub(super) async fn by_courier(&self, round: &Round<'_>, recipients: Vec<Recipient>) -> Vec<Fate> {
        if recipients.is_empty() {
            return Vec::new();
        }
        let Ok(_place) = self.errands.try_acquire() else {
            let until_s = self.turn_s();
            let text = "4.4.5 as many errands as there is room for are under way".to_owned();
            return Fate::all(recipients, &Reply { code: 0, text }, None, Wait::NotYet(until_s));
        };
        let message = match self.message(round, &recipients).await {
            Ok(message) => message,
            Err(fates) => return fates,
        };
        let several = recipients.len() > 1 || !round.alone;
        let errands = recipients.into_iter().map(|recipient| {
            let message = message.clone();
            async move {
                let carried = tokio::select! {
                    biased;
                    carried = self.courier.carry(round.entry, &recipient, message) => Some(carried),
                    () = round.stop.cancelled() => None,
                };
                fate::<C>(recipient, carried)
            }
        });
        let mut errands = futures_util::stream::iter(errands).buffer_unordered(AT_ONCE);
        let mut open = Vec::new();
        while let Some(fate) = errands.next().await {
            if several && fate.state == State::Delivered {
                self.settle_delivered(round, vec![fate]).await;
            } else {
                open.push(fate);
            }
        }
        open
    }
}

/// The courier's word as the queue writes it down; none: the queue stops.
fn fate<C: Courier>(recipient: Recipient, carried: Option<courier::Carried>) -> Fate {
    let Some(carried) = carried else {
        return Fate {
            recipient,
            state: State::Waiting,
            reply: Trouble::Stopping.reply(),
            host: None,
            courier: Some(C::KIND),
            words: None,
            here: false,
            reported_there: false,
            wait: Wait::NotYet(now_s()),
        };
    };
    let (state, wait) = match carried.fate {
        courier::Fate::Delivered | courier::Fate::Relayed => (State::Delivered, Wait::Tried),
        courier::Fate::Failed => (State::Failed, Wait::Tried),
        courier::Fate::Waits(None) => (State::Waiting, Wait::Tried),
        courier::Fate::Waits(Some(at_s)) => (State::Waiting, Wait::TriedUntil(at_s)),
        courier::Fate::Rests(until_s) => (State::Waiting, Wait::Rests(until_s)),
    };
    Fate {
        recipient,
        state,
        reply: carried.reply,
        host: carried.by,
        courier: Some(C::KIND),
        words: carried.words,
        here: carried.fate == courier::Fate::Delivered,
        reported_there: false,
        wait,
    }
}
