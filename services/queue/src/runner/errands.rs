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
/// An entry that finds no room comes back after this time, and up to as much again.
const PUT_OFF_S: i64 = 15;

impl<S: Spool, D: Dns, C: Courier> Queue<S, D, C> {
    /// Gives the recipients to the courier; gives back what is not written down yet.
    pub(super) async fn by_courier(&self, round: &Round<'_>, recipients: Vec<Recipient>) -> Vec<Fate> {
        if recipients.is_empty() {
            return Vec::new();
        }
        let Ok(_place) = self.errands.try_acquire() else {
            let until_s = now_s() + PUT_OFF_S + rand::random_range(0..PUT_OFF_S);
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
        here: carried.fate == courier::Fate::Delivered,
        reported_there: false,
        wait,
    }
}
