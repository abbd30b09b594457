//! The rules of the register, without disk, socket or clock.
//!
//! Contract: [`Register::decide`] says what the answer is and what must be on the disk before it leaves; only then is the decision
//! [`Register::take`]n. Time comes in as milliseconds since this witness started.
//!
//! Why a node's lease protects it only while it is the *holder*: a renewal of a newer reign makes its node the holder first, and a claim
//! wins only when the holder's lease is over. So whoever has a fresh lease is the holder, unless a node with a newer reign renewed since, which
//! is the peer's own release.

use crate::error::Refusal;
use crate::{Claimed, Renewed};

/// Longest lease that a node may ask for: what a restarted witness may have to wait out.
pub(crate) const MAX_LEASE_MS: u32 = 600_000;

/// What must survive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Record {
    /// Newest reign; 0: none yet.
    pub reign: u32,
    /// Whose: 0 or 1.
    pub holder: u8,
    /// Longest lease that each node was ever given; 0: none. A restarted witness does not know which are still fresh.
    pub longest_ms: [u32; 2],
}

/// A question of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Question {
    Claim { knows: u32, new: u32, lease_ms: u32 },
    Renew { reign: u32, lease_ms: u32 },
    Read,
}

/// What the register answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Claim(Claimed),
    Renew(Renewed),
    State { reign: u32, holder: u8 },
    Refused(Refusal),
}

/// A verdict and what it needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Decision {
    pub verdict: Verdict,
    /// Must be on the disk before the verdict leaves.
    pub store: Option<Record>,
    renewed: Option<(usize, Lease)>,
}

impl Decision {
    const fn only(verdict: Verdict) -> Self {
        Self { verdict, store: None, renewed: None }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Lease {
    at_ms: u64,
    lease_ms: u32,
}

/// The register of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Register {
    record: Record,
    leases: [Option<Lease>; 2],
    /// When this register was opened: of leases from before it is known only that they are older.
    opened_ms: u64,
}

fn clamp(ms: u64) -> u32 {
    u32::try_from(ms).unwrap_or(u32::MAX)
}

impl Register {
    pub(crate) const fn new(record: Record, opened_ms: u64) -> Self {
        Self { record, leases: [None; 2], opened_ms }
    }

    pub(crate) const fn record(&self) -> Record {
        self.record
    }

    /// Age of a node's last renewal that this witness remembers.
    pub(crate) fn renewed_ago_ms(&self, node: u8, now_ms: u64) -> Option<u64> {
        let lease = self.leases.get(usize::from(node)).copied().flatten()?;
        Some(now_ms.saturating_sub(lease.at_ms))
    }

    /// How long `node`'s lease is still fresh. One from before the register was opened may be as young as that moment.
    fn left_ms(&self, node: usize, asked_lease_ms: u32, now_ms: u64) -> u32 {
        let longest = self.record.longest_ms[node];
        let (at_ms, lease_ms) = match self.leases[node] {
            Some(lease) => (lease.at_ms, lease.lease_ms.max(asked_lease_ms)),
            None if longest > 0 => (self.opened_ms, longest.max(asked_lease_ms)),
            None => return 0,
        };
        clamp(at_ms.saturating_add(u64::from(lease_ms)).saturating_sub(now_ms))
    }

    /// At least this long ago `node` was given a lease.
    fn granted_ms(&self, node: usize, now_ms: u64) -> u32 {
        match self.leases[node] {
            Some(lease) => clamp(now_ms.saturating_sub(lease.at_ms)).min(u32::MAX - 1),
            None if self.record.longest_ms[node] > 0 => clamp(now_ms.saturating_sub(self.opened_ms)).min(u32::MAX - 1),
            None => u32::MAX,
        }
    }

    pub(crate) fn decide(&self, node: u8, question: Question, now_ms: u64) -> Decision {
        let me = usize::from(node);
        if me > 1 {
            return Decision::only(Verdict::Refused(Refusal::Senseless));
        }
        let senseless = match question {
            Question::Claim { knows, new, lease_ms } => new <= knows || lease_ms == 0 || lease_ms > MAX_LEASE_MS,
            Question::Renew { reign, lease_ms } => reign == 0 || lease_ms == 0 || lease_ms > MAX_LEASE_MS,
            Question::Read => false,
        };
        if senseless {
            return Decision::only(Verdict::Refused(Refusal::Senseless));
        }
        match question {
            Question::Claim { knows, new, lease_ms } => self.claim(me, knows, new, lease_ms, now_ms),
            Question::Renew { reign, lease_ms } => self.renew(me, reign, lease_ms, now_ms),
            Question::Read => Decision::only(Verdict::State { reign: self.record.reign, holder: self.record.holder }),
        }
    }

    fn claim(&self, me: usize, knows: u32, new: u32, lease_ms: u32, now_ms: u64) -> Decision {
        let Record { reign, holder, .. } = self.record;
        let theirs = reign > 0 && usize::from(holder) != me;
        let granted_ms = self.granted_ms(1 - me, now_ms);
        if reign == new && !theirs {
            return Decision::only(Verdict::Claim(Claimed::Won { reign, granted_ms }));
        }
        if reign >= new || (theirs && reign > knows) {
            return Decision::only(Verdict::Claim(Claimed::Lost { reign }));
        }
        let left_ms = if theirs { self.left_ms(1 - me, lease_ms, now_ms) } else { 0 };
        if left_ms > 0 {
            return Decision::only(Verdict::Claim(Claimed::Held { left_ms }));
        }
        let store = Record { reign: new, holder: u8::from(me == 1), ..self.record };
        Decision { verdict: Verdict::Claim(Claimed::Won { reign: new, granted_ms }), store: Some(store), renewed: None }
    }

    fn renew(&self, me: usize, new: u32, lease_ms: u32, now_ms: u64) -> Decision {
        let Record { reign, holder, .. } = self.record;
        let theirs = reign > 0 && usize::from(holder) != me;
        // Both may have asked for one number, and the peer released its claim later: who serves renews. Never both.
        let both = theirs && reign == new && self.left_ms(1 - me, lease_ms, now_ms) > 0;
        if (theirs && reign > new) || both {
            return Decision::only(Verdict::Renew(Renewed::Lost { reign }));
        }
        let mut record = Record { reign: reign.max(new), holder: u8::from(me == 1), ..self.record };
        record.longest_ms[me] = record.longest_ms[me].max(lease_ms);
        let store = (record != self.record).then_some(record);
        Decision { verdict: Verdict::Renew(Renewed::Renewed), store, renewed: Some((me, Lease { at_ms: now_ms, lease_ms })) }
    }

    /// The decision stands: what it stores is on the disk.
    pub(crate) fn take(&mut self, decision: &Decision) {
        if let Some(record) = decision.store {
            self.record = record;
        }
        if let Some((node, lease)) = decision.renewed {
            self.leases[node] = Some(lease);
        }
    }
}

#[cfg(test)]
#[path = "register_tests.rs"]
mod tests;
