//! What must be seen over time: how long nodes are what they are, wrong frames, configurations that differ.

use super::Engine;
use crate::clock;
use crate::links::sides::Wrong;
use crate::snapshot::Snapshot;
use crate::words;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use twinpost_heartbeat::{NodeState, Phase};

/// Between two looks at what changes slowly.
const EVERY_MS: u64 = 1000;
/// Wrong frames of a kind are forgotten so long after the last one.
const WRONG_FORGOTTEN_MS: u64 = 600_000;
/// A new configuration needs a moment to reach the peer.
const CONFIG_DIFFERS_MS: u64 = 30_000;

/// Names of the lasting alarms, by kind and path.
const WRONG_KEYS: [[&str; 3]; 4] = [
    ["cluster_eth1", "cluster_lan", "cluster_serial"],
    ["version_eth1", "version_lan", "version_serial"],
    ["forged_eth1", "forged_lan", "forged_serial"],
    ["own_eth1", "own_lan", "own_serial"],
];

/// See the module.
#[derive(Debug)]
pub(super) struct Watching {
    own: (NodeState, Phase),
    own_since_ms: u64,
    peer: Option<NodeState>,
    peer_since_ms: u64,
    peer_heard_ms: Option<u64>,
    /// When the peer, which served, began to hand over.
    peer_left_ms: Option<u64>,
    wrong_ms: [[Option<u64>; 3]; 4],
    config_differs_ms: Option<u64>,
    looked_ms: u64,
    seen: u64,
}

impl Watching {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            own: (NodeState::Boot, Phase::Boot),
            own_since_ms: now_ms,
            peer: None,
            peer_since_ms: now_ms,
            peer_heard_ms: None,
            peer_left_ms: None,
            wrong_ms: [[None; 3]; 4],
            config_differs_ms: None,
            looked_ms: now_ms,
            seen: 0,
        }
    }

    pub(super) fn own(&mut self, state: NodeState, phase: Phase, now_ms: u64) {
        if self.own.0 != state {
            self.own_since_ms = now_ms;
        }
        if phase == Phase::Active && self.own.1 != Phase::Active {
            self.peer_left_ms = None;
        }
        self.own = (state, phase);
    }

    pub(super) fn peer(&mut self, state: Option<NodeState>, heard: bool, now_ms: u64) {
        if heard {
            self.peer_heard_ms = Some(now_ms);
        }
        if self.peer == state {
            return;
        }
        let served = |state: Option<NodeState>| {
            matches!(state, Some(NodeState::ActiveSynced | NodeState::ActiveAlone | NodeState::Resync))
        };
        if served(self.peer) && state.is_some() && !served(state) {
            self.peer_left_ms = Some(now_ms);
        } else if served(state) {
            self.peer_left_ms = None;
        }
        (self.peer, self.peer_since_ms) = (state, now_ms);
    }

    pub(super) const fn peer_left_ms(&self) -> Option<u64> {
        self.peer_left_ms
    }

    /// The name of the lasting alarm.
    pub(super) fn wrong(&mut self, wrong: Wrong, now_ms: u64) -> &'static str {
        let (kind, link) = match wrong {
            Wrong::Cluster(link) => (0, link),
            Wrong::Version(link) => (1, link),
            Wrong::Forged(link) => (2, link),
            Wrong::Own(link) => (3, link),
        };
        self.wrong_ms[kind][link.index()] = Some(now_ms);
        WRONG_KEYS[kind][link.index()]
    }

    pub(super) fn config(&mut self, same: bool, now_ms: u64) {
        if same {
            self.config_differs_ms = None;
        } else if self.config_differs_ms.is_none() {
            self.config_differs_ms = Some(now_ms);
        }
    }
}

impl Engine {
    /// Once in a while.
    pub(super) fn watch(&mut self) {
        let now_ms = clock::now_ms();
        self.watch_leaving(now_ms);
        if now_ms.saturating_sub(self.watching.looked_ms) < EVERY_MS {
            return;
        }
        self.watching.looked_ms = now_ms;
        self.watch_fail_back(now_ms);
        self.watch_copy();
        self.watch_away(now_ms);
        for (kind, keys) in WRONG_KEYS.iter().enumerate() {
            for (link, key) in keys.iter().enumerate() {
                let last = &mut self.watching.wrong_ms[kind][link];
                if last.is_some_and(|last| now_ms.saturating_sub(last) >= WRONG_FORGOTTEN_MS) {
                    *last = None;
                    self.board.over(key);
                }
            }
        }
        match self.watching.config_differs_ms {
            None => {
                self.board.over("config_differs");
            }
            Some(since) if now_ms.saturating_sub(since) >= CONFIG_DIFFERS_MS => {
                let peer = self.state.peer.map_or(0, |peer| peer.frame.config);
                let (own, name) = (self.heart.config, self.set.peer_name().to_owned());
                self.board.lasting("config_differs", || words::config_differs(own, peer, &name));
            }
            Some(_) => {}
        }
    }

    /// Tells watchers when something that people see has changed.
    pub(super) fn tell_changes(&mut self, now_ms: u64) {
        let s = &self.state;
        let heard = |limit_ms: u64| s.peer.is_some_and(|peer| u64::from(peer.silent_ms) < limit_ms);
        let limit_ms = crate::status::heard_limit_ms(&self.heart);
        let mut hasher = DefaultHasher::new();
        (s.phase, s.mirror, s.eligible, s.record.reign, s.record.boot, s.whole, s.proof, s.address, s.restarts).hash(&mut hasher);
        (
            s.maintenance_left_ms > 0,
            s.peer.map(|p| (p.frame.state, p.frame.reign, p.frame.boot, p.frame.config)),
            heard(limit_ms),
        )
            .hash(&mut hasher);
        for link in self.sides.used() {
            let up = self.sides.heard_ms(link, now_ms).is_some_and(|ms| ms < crate::status::link_limit_ms(&self.heart, link));
            (up, self.sides.troubled(link)).hash(&mut hasher);
        }
        (self.services, &self.services_why, self.writes, self.fence_said).hash(&mut hasher);
        self.away.map(|away| away.what == crate::api::Leaving::Off).hash(&mut hasher);
        (self.board.journal.alarms.back().map(|alarm| (alarm.at, &alarm.code)), self.board.journal.alarms.len())
            .hash(&mut hasher);
        let seen = hasher.finish();
        if std::mem::replace(&mut self.watching.seen, seen) != seen {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// How everything is.
    pub(super) fn snapshot(&self) -> Snapshot {
        let now_ms = clock::now_ms();
        Snapshot {
            state: self.state,
            heart: self.heart,
            links: self.sides.snapshot(now_ms),
            up_ms: now_ms.saturating_sub(self.start_ms),
            since_ms: now_ms.saturating_sub(self.watching.own_since_ms),
            peer_since_ms: now_ms.saturating_sub(self.watching.peer_since_ms),
            peer_silent_ms: self.watching.peer_heard_ms.map(|at| now_ms.saturating_sub(at)),
            stall_max_ms: self.stall_max_ms,
            last_switch: self.board.journal.last_switch.clone(),
            alarms: self.board.journal.alarms.iter().cloned().collect(),
            writes: self.writes,
            services: self.services,
            services_why: self.services_why.clone(),
            fence_said: self.fence_said,
            watchdog_open: self.watchdog.as_ref().is_some_and(crate::watchdog::Watchdog::is_open)
                && !self.board.lasts("watchdog"),
            fail_back: self.fail_back.clone(),
            away: self.away.map(|away| away.what),
        }
    }
}
