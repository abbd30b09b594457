//! What the heart wants done.

use super::Engine;
use crate::clock;
use crate::words;
use crate::workers::{AddressJob, GroupJob, StorageJob};
use std::time::{Duration, Instant};
use twinpost_heartbeat::{Alarm, Effect, Event, Mirror, Proof};

/// A path that was heard so long ago carries frames still.
const HEARD_LATELY_MS: u64 = 3000;

impl Engine {
    /// In order, and without waiting.
    pub(super) fn carry_out(&mut self, effect: Effect, taken_in: Instant, now_ms: u64) {
        match effect {
            Effect::Send(frame) => {
                if self.sides.send(&frame) && !self.pending.contains(&Event::PeerGone) {
                    self.pending.push_back(Event::PeerGone);
                }
            }
            Effect::Store(record) => self.workers.store(record),
            Effect::Promote => self.workers.storage(StorageJob::Promote(self.state.record.reign)),
            Effect::Demote => self.workers.storage(StorageJob::Demote),
            Effect::Address { expires_ms } => {
                let expires = expires_ms.map(|ms| Duration::from_millis(ms.into()));
                self.workers.address(AddressJob::Up { expires, since: taken_in });
            }
            Effect::AddressDown => self.workers.address(AddressJob::Down),
            Effect::Announce => self.workers.address(AddressJob::Announce),
            Effect::StartServices => {
                let gate = self.workers.gate();
                self.order_group(GroupJob::Start(gate), "starting");
            }
            Effect::StopServices => self.order_group(GroupJob::Stop, "stopping"),
            Effect::RestartServices => self.order_group(GroupJob::Restart, "starting"),
            Effect::Check => {
                // Not a new order: the answer to the start stays the newest.
                self.checking = true;
                self.group_order = self.workers.group(GroupJob::Check);
            }
            Effect::Writes(how) => self.workers.storage(StorageJob::Writes(how)),
            Effect::Resync => self.workers.storage(StorageJob::Resync),
            Effect::Fence => self.workers.fence(),
            Effect::WitnessClaim { knows, new } => self.workers.claim(knows, new),
            Effect::WitnessRenew { reign, ask } => self.workers.renew(reign, ask),
            Effect::Reserve => {
                let reign = self.state.claim.map_or(self.state.record.reign, |claim| claim.ballot);
                self.workers.storage(StorageJob::Reserve(reign));
            }
            Effect::Unreserve => self.workers.storage(StorageJob::Unreserve),
            Effect::FeedWatchdog => self.feed(),
            Effect::SelfFence => self.self_fence(),
            Effect::KeepAside => self.workers.storage(StorageJob::KeepAside),
            Effect::Alarm(alarm) => self.alarm(alarm, now_ms),
            Effect::Refused(reasons) => self.refused = Some(reasons),
        }
    }

    fn order_group(&mut self, job: GroupJob, state: &'static str) {
        self.checking = false;
        (self.services, self.services_why) = (state, None);
        self.group_order = self.workers.group(job);
    }

    fn alarm(&mut self, alarm: Alarm, now_ms: u64) {
        let (me, peer) = (self.set.name().to_owned(), self.set.peer_name().to_owned());
        match alarm {
            // Its going was told once.
            Alarm::LinkSilent(_) | Alarm::Alone(_) if self.away.is_some() => {
                tracing::info!(?alarm, "the peer went down by a person's order");
            }
            Alarm::TookOver(proof) => self.took_over(proof, now_ms),
            Alarm::LinkSilent(link) => {
                if !self.sides.on(link) {
                    return;
                }
                let others: Vec<_> = self
                    .sides
                    .used()
                    .filter(|&other| other != link && self.sides.heard_ms(other, now_ms).is_some_and(|ms| ms < HEARD_LATELY_MS))
                    .collect();
                if others.is_empty() {
                    // No cable is to blame when nothing comes at all.
                    self.board.lasting("peer_silent", || words::peer_silent(&me, &peer));
                } else {
                    self.board.raise(words::link_silent(link, &others, &peer));
                }
            }
            Alarm::ServicesFail | Alarm::Switching => {
                let mut told = words::of_heart(alarm, &me, &peer);
                if let Some(why) = &self.services_why {
                    told.text.en.push_str(&format!(" Last check: {why}."));
                    told.text.zh.push_str(&format!(" 最近一次检查：{why}。"));
                }
                self.board.raise(told);
            }
            other => self.board.raise(words::of_heart(other, &me, &peer)),
        }
    }

    /// The end of a takeover: one line with everything.
    fn took_over(&mut self, proof: Proof, now_ms: u64) {
        let (me, peer) = (self.set.name().to_owned(), self.set.peer_name().to_owned());
        let mut told = words::of_heart(Alarm::TookOver(proof), &me, &peer);
        if let Some(course) = self.course.take() {
            let reign = self.state.record.reign;
            let switch = course.checked(now_ms, clock::wall_s(), me.clone(), reign, words::proof_code(proof));
            let s = switch.steps;
            tracing::info!(
                reign,
                proof = %switch.proof,
                from = switch.from.as_deref().unwrap_or("nobody"),
                to = %switch.to,
                took_ms = switch.took_ms,
                detected_ms = s.detected_ms,
                proof_ms = s.proof_ms,
                stored_ms = s.stored_ms,
                promoted_ms = s.promoted_ms,
                address_ms = s.address_ms,
                services_ms = s.services_ms,
                checked_ms = s.checked_ms,
                alone = self.state.mirror == Mirror::Alone,
                "took over"
            );
            if switch.from.is_none() {
                told = words::began(&me, proof);
            }
            told.text.en.push_str(&format!(" It took {} ms.", switch.took_ms));
            told.text.zh.push_str(&format!(" 用时 {} 毫秒。", switch.took_ms));
            self.board.switched(switch);
        }
        self.board.raise(told);
    }
}
