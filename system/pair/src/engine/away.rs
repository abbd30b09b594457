//! A peer that went down by a person's order.
//!
//! Contract: until it is heard from a later start, its silence is no alarm, and one that is off by order gets no power from this node. The proofs of
//! a takeover are the same as ever: this is about people, not about who may serve.
//!
//! Failure classes: it goes on all the same, or a restart does not end: after a while its silence counts again.

use super::Engine;
use crate::api::Leaving;
use crate::words;

/// A restart that lasts longer is told as silence.
const RESTART_MAX_MS: u64 = 300_000;
/// Still heard so long after its word, it did not go.
const GOES_MAX_MS: u64 = 120_000;

/// Its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Away {
    pub(crate) what: Leaving,
    /// The start in which it said so.
    boot: u32,
    since_ms: u64,
}

impl Away {
    /// As it was kept over a restart of this daemon.
    pub(super) const fn kept(boot: u32, now_ms: u64) -> Self {
        Self { what: Leaving::Off, boot, since_ms: now_ms }
    }
}

impl Engine {
    pub(super) fn peer_leaves(&mut self, what: Leaving, now_ms: u64) {
        let boot = self.state.peer_boot;
        self.away = Some(Away { what, boot, since_ms: now_ms });
        self.peer_off.send_replace((what == Leaving::Off).then_some(boot));
        let told = words::peer_leaves(what, self.set.peer_name());
        self.board.raise(told);
    }

    /// A frame came in.
    pub(super) fn peer_is_back(&mut self) {
        if self.away.is_some_and(|away| self.state.peer_boot > away.boot) {
            tracing::info!(peer = self.set.peer_name(), "the peer is back from what a person ordered");
            self.forget_away();
        }
    }

    fn forget_away(&mut self) {
        self.away = None;
        self.peer_off.send_replace(None);
    }

    /// Once a second.
    pub(super) fn watch_away(&mut self, now_ms: u64) {
        let Some(away) = self.away else { return };
        let since_ms = now_ms.saturating_sub(away.since_ms);
        let heard = self.state.peer_within(self.heart.lease_ms).is_some();
        if heard && since_ms >= GOES_MAX_MS {
            tracing::warn!(peer = self.set.peer_name(), "the peer said that it goes down and did not");
            self.forget_away();
        } else if !heard && away.what == Leaving::Restart && since_ms >= RESTART_MAX_MS {
            self.forget_away();
            let (me, peer) = (self.set.name().to_owned(), self.set.peer_name().to_owned());
            self.board.lasting("peer_silent", || words::peer_silent(&me, &peer));
        }
    }
}
