//! What workers, hints and people bring.

use super::{Ended, Engine, Leaving};
use crate::api::Severity;
use crate::clock;
use crate::input::{GroupOutcome, Input};
use crate::words;
use crate::workers::StorageJob;
use tokio::sync::oneshot;
use twinpost_group::GroupEvent;
use twinpost_heartbeat::{Event, NodeState, Order, Phase, Reasons, reasons};

/// A planned end waits no longer than this for the peer.
const LEAVE_MAX_MS: u64 = 20_000;
/// After its own stop, a planned end gives the peer so long to hear of it.
const HEARD_OF_MS: u64 = 1500;
/// While its owner stops everything by hand, the watchdog is fed no longer than this.
const FROZEN_MAX_MS: u64 = 60_000;
/// Renewals of the address that failed in turn before people are told.
const ADDRESS_FAILURES: u32 = 3;

impl Engine {
    pub(super) fn input(&mut self, input: Input) {
        match input {
            Input::Event(event) => {
                if matches!(event, Event::Stored(_)) {
                    self.board.over("store");
                }
                self.event(event);
            }
            Input::StoreFailed { error } => {
                let dir = self.set.state_dir.clone();
                self.board.lasting("store", || words::store_failed(&dir, &error));
            }
            Input::Address(outcome) => self.address_said(outcome),
            Input::Group { order, outcome } => self.group_said(order, outcome),
            Input::GroupEvent(event) => self.group_noticed(event),
            Input::Storage { what, error } => {
                if let Some(error) = error {
                    let me = self.set.name().to_owned();
                    self.storage_trouble = Some(what);
                    if !self.board.lasting("storage", || words::storage_failed(&me, what, &error)) {
                        tracing::debug!(what, %error, "the storage did not do it");
                    }
                } else if self.storage_trouble == Some(what) {
                    self.storage_trouble = None;
                    self.board.over("storage");
                }
            }
            Input::OwnCopyLost(lost) => {
                self.copy_lost = lost;
                self.watch_copy();
            }
            Input::WritesAre(how) => self.writes = Some(how),
            Input::Fence { said, error, event } => {
                tracing::warn!(peer = self.set.peer_name(), said, error, "the power switch answered");
                self.fence_said = Some(said);
                self.event(event);
            }
            Input::KeptAside(path) => {
                let me = self.set.name().to_owned();
                self.board.raise(words::kept_aside(&me, &path));
            }
            Input::Carrier(up) => self.event(Event::Carrier(up)),
            Input::Outside(up) => self.event(Event::Ping(up)),
            Input::Changes(changes) => {
                self.sides.set_keys(&changes.keys);
                (self.heart.config, self.heart.health) = (changes.config, changes.health);
            }
            Input::Look(reply) => {
                let _ = reply.send(Box::new(self.snapshot()));
            }
            Input::Order { order, reply } => {
                let _ = reply.send(self.order(order));
            }
            Input::Weigh { order, reply } => {
                let _ = reply.send(reasons(&self.state, &self.heart, order));
            }
            Input::FailBack(rule) => {
                tracing::info!(?rule, "the rule for going back");
                (self.fail_back, self.peer_eligible_since_ms) = (rule, None);
            }
            Input::Resync => self.workers.storage(StorageJob::Resync),
            Input::Alarm { alarm, lasting: Some(key) } => {
                self.board.lasting(key, || alarm);
            }
            Input::Alarm { alarm, lasting: None } => self.board.raise(alarm),
            Input::Over(key) => {
                self.board.over(key);
            }
            Input::PeerLeaves(what) => self.peer_leaves(what, clock::now_ms()),
            Input::Leave(reply) => self.leave(reply),
            Input::End => self.ended = Some(Ended::Orderly),
        }
    }

    /// All reasons against it; none: it is followed.
    pub(super) fn order(&mut self, order: Order) -> Reasons {
        self.refused = None;
        self.event(Event::Order(order));
        let refused = self.refused.take().unwrap_or_default();
        tracing::info!(?order, refused = !refused.is_empty(), "an order");
        refused
    }

    fn address_said(&mut self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => {
                self.address_failures = 0;
                self.board.over("address");
                if let Some(course) = &mut self.course {
                    course.address(clock::now_ms());
                }
            }
            Err(error) => {
                self.address_failures += 1;
                if self.address_failures == 1 {
                    tracing::warn!(%error, "the service address");
                }
                if self.address_failures >= ADDRESS_FAILURES {
                    self.board.lasting("address", || words::address_failed(&error));
                }
            }
        }
    }

    fn group_said(&mut self, order: u64, outcome: GroupOutcome) {
        if order != self.group_order {
            // Superseded: whoever gave the newer order waits for that.
            return;
        }
        match outcome {
            GroupOutcome::Up => {
                self.services = "starting";
                if let Some(course) = &mut self.course {
                    course.services(clock::now_ms());
                }
                self.event(Event::ServicesUp);
            }
            GroupOutcome::Failed(why) => {
                tracing::warn!(%why, "the services did not come up");
                (self.services, self.services_why) = ("failing", Some(why));
                self.event(Event::Checked(false));
            }
            GroupOutcome::Stopped => {
                (self.services, self.services_why) = ("stopped", None);
                self.event(Event::ServicesStopped(true));
            }
            GroupOutcome::NotStopped(why) => {
                tracing::error!(%why, "the services did not stop");
                (self.services, self.services_why) = ("failing", Some(why));
                self.event(Event::ServicesStopped(false));
            }
        }
    }

    fn group_noticed(&mut self, event: GroupEvent) {
        match event {
            GroupEvent::Up { name, pid } => tracing::info!(service = %name, pid, "started"),
            GroupEvent::Died { name, how, essential } => {
                tracing::warn!(service = %name, %how, essential, "a service ended unasked");
                if essential {
                    self.check_said(false, format!("{name} ended: {how}"));
                }
            }
            GroupEvent::Checked { ok, why } => self.check_said(ok, why),
        }
    }

    /// Only while the heart waits for checks: what comes during a restart belongs to the time before it.
    fn check_said(&mut self, good: bool, why: String) {
        if !self.checking {
            return;
        }
        if good {
            (self.services, self.services_why) = ("up", None);
        } else {
            tracing::warn!(%why, "the services fail their check");
            (self.services, self.services_why) = ("failing", Some(why));
            self.checking = false;
        }
        let serving = self.state.phase == Phase::Active;
        self.event(Event::Checked(good));
        // Nothing was restarted or handed over: go on looking.
        if !good && serving && self.state.phase == Phase::Active && self.services == "failing" {
            self.checking = true;
        }
    }

    fn leave(&mut self, reply: oneshot::Sender<bool>) {
        let busy = matches!(self.state.phase, Phase::Claim | Phase::Wait | Phase::Store | Phase::Promote);
        if !self.state.is_active() && !busy {
            let _ = reply.send(false);
            return;
        }
        if self.state.phase == Phase::Active && !self.order(Order::Standby).is_empty() || busy {
            self.frozen_until_ms = Some(clock::now_ms() + FROZEN_MAX_MS);
            let _ = reply.send(true);
            return;
        }
        self.leaving = Some(Leaving { reply, left_ms: clock::now_ms() + LEAVE_MAX_MS, idle_since_ms: None });
    }

    /// Whether a planned end is complete: this node does not serve and the peer knows.
    pub(super) fn watch_leaving(&mut self, now_ms: u64) {
        let serving = self.state.is_active();
        let Some(leaving) = &mut self.leaving else { return };
        if serving {
            leaving.idle_since_ms = None;
        } else if leaving.idle_since_ms.is_none() {
            leaving.idle_since_ms = Some(now_ms);
        }
        let taken = self.state.peer.is_some_and(|peer| {
            peer.silent_ms < self.heart.warn_ms && (peer.frame.state.is_active() || peer.frame.state == NodeState::TakingOver)
        });
        let heard_of = leaving.idle_since_ms.is_some_and(|since| now_ms.saturating_sub(since) >= HEARD_OF_MS);
        if (!serving && taken) || heard_of || now_ms >= leaving.left_ms {
            if serving {
                self.frozen_until_ms = Some(now_ms + FROZEN_MAX_MS);
            }
            if let Some(leaving) = self.leaving.take() {
                let _ = leaving.reply.send(serving);
            }
        }
    }

    /// A node that serves from its peer's copy hands over to the peer: the next fault of either node, or of the cable, would end the
    /// service. While the peer cannot take over, it goes on and tries again.
    pub(super) fn watch_copy(&mut self) {
        if !self.copy_lost {
            self.board.over("copy_lost");
            return;
        }
        let (me, peer) = (self.set.name().to_owned(), self.set.peer_name().to_owned());
        self.board.lasting("copy_lost", || words::copy_lost(&me, &peer));
        if self.state.phase == Phase::Active && reasons(&self.state, &self.heart, Order::Standby).is_empty() {
            self.order(Order::Standby);
        }
    }

    /// Goes back to the preferred node.
    pub(super) fn watch_fail_back(&mut self, now_ms: u64) {
        let crate::api::FailBack::Node { node, after_s } = &self.fail_back else { return };
        let eligible = self.state.peer_within(self.heart.lease_ms).is_some_and(|peer| peer.state == NodeState::StandbyEligible);
        if node != self.set.peer_name() || self.state.phase != Phase::Active || !eligible {
            self.peer_eligible_since_ms = None;
            return;
        }
        let since_ms = *self.peer_eligible_since_ms.get_or_insert(now_ms);
        let due = now_ms.saturating_sub(since_ms) >= u64::from(*after_s) * 1000;
        if due && reasons(&self.state, &self.heart, Order::Standby).is_empty() {
            let node = node.clone();
            self.peer_eligible_since_ms = None;
            self.board.raise(words::alarm(
                "fail_back",
                Severity::Info,
                format!("The service goes back to node {node}, which was current for the time that is set."),
                format!("节点 {node} 已按设定时间保持数据最新，服务切回该节点。"),
            ));
            self.order(Order::Standby);
        }
    }
}
