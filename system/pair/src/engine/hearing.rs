//! What the paths bring.

use super::Engine;
use crate::clock;
use crate::links::News;
use crate::links::sides::Wrong;
use crate::words;
use twinpost_heartbeat::{Event, Frame, Link, NodeState, Phase, State};

impl Engine {
    pub(super) fn news(&mut self, news: News) {
        match news {
            News::Block { link, bytes, length } => {
                let now_ms = clock::now_ms();
                match self.sides.came(link, &bytes[..length.min(bytes.len())], now_ms) {
                    Ok(frame) => self.frame(frame, now_ms),
                    Err(Some(wrong)) => self.wrong(wrong, now_ms),
                    Err(None) => {}
                }
            }
            News::Cut { link, blocks } => self.sides.cut(link, blocks),
            News::Gone => self.event(Event::PeerGone),
            News::Lines(up) => self.event(Event::ModemLines(up)),
            News::Modem(said) => {
                let text = words::serial_is_modem(&said);
                if self.board.lasting("serial_is_modem", || text.clone()) {
                    self.sides.trouble(Link::Serial, Some(text.text));
                }
            }
            News::Trouble { link, what } => self.sides.trouble(link, what),
        }
    }

    fn frame(&mut self, frame: Frame, now_ms: u64) {
        let replays = self.state.replays;
        self.event(Event::Frame(frame));
        if self.state.replays != replays {
            self.sides.replayed(frame.link);
            return;
        }
        if frame.link == Link::Serial && self.board.over("serial_is_modem") {
            self.sides.trouble(Link::Serial, None);
        }
        self.peer_is_back();
        if self.board.over("peer_silent") {
            tracing::info!(peer = self.set.peer_name(), link = crate::links::name(frame.link), "the peer is heard again");
        }
        self.watching.config(frame.config == self.heart.config, now_ms);
    }

    fn wrong(&mut self, wrong: Wrong, now_ms: u64) {
        let (me, peer) = (self.set.name().to_owned(), self.set.peer_name().to_owned());
        let key = self.watching.wrong(wrong, now_ms);
        self.board.lasting(key, || words::wrong_frames(wrong, &me, &peer));
    }

    /// Notes how the step changed what this node and its peer are.
    pub(super) fn follow(&mut self, before: &State, event: Event, now_ms: u64) {
        let was_serving = before.peer.is_some_and(|peer| serves(peer.frame.state));
        if let Event::Frame(_) = event {
            let state = self.state.peer.map(|peer| peer.frame.state);
            self.watching.peer(state, self.state.peer.is_some_and(|peer| peer.silent_ms == 0), now_ms);
        }
        self.watching.own(self.state.node_state(), self.state.phase, now_ms);
        if before.phase == self.state.phase {
            return;
        }
        if self.state.phase == Phase::Standby {
            // The data is not mounted here now: the services may be started as far as they need none.
            self.group.ready();
        }
        match self.state.phase {
            Phase::Claim | Phase::Store if self.course.is_none() => {
                let peer = self.state.peer.or(before.peer);
                let active = peer.is_some_and(|peer| peer.frame.state.is_active()) || was_serving;
                let seen_ms = match self.watching.peer_left_ms() {
                    Some(left_ms) => left_ms,
                    None => peer.filter(|_| active).map_or(now_ms, |peer| now_ms.saturating_sub(peer.silent_ms.into())),
                };
                let from = (active || self.watching.peer_left_ms().is_some()).then(|| self.set.peer_name().to_owned());
                let mut course = crate::course::Course::begin(seen_ms, now_ms, from);
                course.entered(self.state.phase, now_ms);
                self.course = Some(course);
                tracing::info!(silent_ms = now_ms.saturating_sub(seen_ms), phase = ?self.state.phase, "asks for a reign");
            }
            Phase::Standby | Phase::Boot | Phase::Conflict | Phase::Stop | Phase::Demote | Phase::Fenced => {
                self.course = None;
            }
            phase => {
                if let Some(course) = &mut self.course {
                    course.entered(phase, now_ms);
                }
            }
        }
        tracing::info!(
            from = ?before.phase,
            to = ?self.state.phase,
            reign = self.state.record.reign,
            eligible = self.state.eligible,
            "phase"
        );
    }
}

/// Answers clients, and is not on its way out.
const fn serves(state: NodeState) -> bool {
    matches!(state, NodeState::ActiveSynced | NodeState::ActiveAlone | NodeState::Resync)
}
