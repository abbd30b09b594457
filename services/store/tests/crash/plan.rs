//! What the workers of the harness do, and what must be there after it.
//!
//! Contract: the operation of a worker's step follows from the seed and the steps before, down to the UIDs (a worker's mailboxes
//! are touched by nobody else), so whoever knows how many steps were acknowledged knows the state of its mailboxes. The
//! shared mailbox and the queue are filled by all workers at once; each message names its step.

use std::collections::{BTreeMap, BTreeSet};
use twinpost_message::Flags;
use twinpost_store::files::Rng;

pub const WORKERS: u64 = 6;
/// The account whose INBOX all workers deliver to.
pub const SHARED: i64 = 1000;
/// The account that gets a mail after the first of two cuts, and that mail.
pub const OTHER: i64 = 1001;
pub const AFTERWARDS: u64 = 999 << 32;
pub const KEEP: &str = "Keep";

/// Which of a worker's mailboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Inbox,
    Keep,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// To the worker's INBOX and perhaps elsewhere, in one commit.
    Deliver {
        mail: u64,
        shared: bool,
        queue: bool,
    },
    /// All or none.
    Append {
        place: Place,
        mails: Vec<u64>,
    },
    Flags {
        place: Place,
        uid: u32,
        flags: Flags,
    },
    Expunge {
        place: Place,
        uids: Vec<u32>,
    },
    /// From INBOX to Keep.
    Transfer {
        uids: Vec<u32>,
        remove: bool,
    },
}

/// What a worker has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// UID -> mail and flags.
    pub boxes: BTreeMap<Place, BTreeMap<u32, (u64, Flags)>>,
    next: BTreeMap<Place, u32>,
    /// Mails that it put into the shared INBOX.
    pub shared: BTreeSet<u64>,
    /// Mails that it put into the queue.
    pub queued: BTreeSet<u64>,
}

/// A name for the mail of a step; `n` of them may be in one.
fn mail(worker: u64, step: u64, n: u64) -> u64 {
    (worker << 32) | (step << 4) | n
}

/// The worker and the step that made this mail.
pub fn origin(mail: u64) -> (u64, u64) {
    (mail >> 32, (mail & 0xffff_ffff) >> 4)
}

/// The text of a mail: the same for the same name and seed.
pub fn text(seed: u64, mail: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed ^ mail.wrapping_mul(0x9e37_79b9));
    let mut out = format!(
        "From: w@school.example\r\nTo: x@school.example\r\nSubject: mail {mail}\r\nMessage-ID: <{mail}@school.example>\r\n\r\n"
    );
    // Some larger than a page of the disk or of the database, most small; half of them do not compress.
    let lines = if rng.one_in(8) { rng.below(300) } else { rng.below(12) };
    for _ in 0..lines {
        if mail.is_multiple_of(2) {
            (0..4).for_each(|_| out.push_str(&format!("{:016x}", rng.bits())));
        } else {
            out.push_str("the same line again and again and again, as in most mail");
        }
        out.push_str("\r\n");
    }
    out.into_bytes()
}

impl State {
    /// After so many steps.
    pub fn after(seed: u64, worker: u64, steps: u64) -> Self {
        let mut state = Self::default();
        for step in 0..steps {
            let op = state.plan(seed, worker, step);
            state.apply(&op);
        }
        state
    }

    /// What the worker does next.
    pub fn plan(&self, seed: u64, worker: u64, step: u64) -> Op {
        let mut rng = Rng::new(seed ^ (worker << 40) ^ (step << 8));
        let place = if rng.one_in(3) { Place::Keep } else { Place::Inbox };
        let some: Vec<u32> = self.uids(place).filter(|_| rng.one_in(3)).collect();
        match rng.below(10) {
            0..4 => {
                // Now and then the mail of an earlier step: one body for both.
                let again = step > 0 && rng.one_in(6);
                let of = if again { rng.below(step) } else { step };
                Op::Deliver {
                    mail: mail(worker, of, u64::from(again) * 15),
                    shared: !again && rng.one_in(2),
                    queue: !again && rng.one_in(4),
                }
            }
            4 => Op::Append { place, mails: (0..=rng.below(3)).map(|n| mail(worker, step, n)).collect() },
            5 | 6 => match some.first() {
                Some(uid) => {
                    let flags = [Flags::SEEN, Flags::DELETED, Flags::FLAGGED, Flags::SEEN.with(Flags::ANSWERED), Flags(0)];
                    Op::Flags { place, uid: *uid, flags: flags[rng.below(5) as usize] }
                }
                None => Op::Append { place, mails: vec![mail(worker, step, 0)] },
            },
            7 if !some.is_empty() => Op::Expunge { place, uids: some.into_iter().take(3).collect() },
            8 if self.uids(Place::Inbox).next().is_some() => {
                let uids = self.uids(Place::Inbox).take(1 + rng.below(3) as usize).collect();
                Op::Transfer { uids, remove: rng.one_in(2) }
            }
            _ => Op::Deliver { mail: mail(worker, step, 0), shared: true, queue: rng.one_in(4) },
        }
    }

    pub fn uids(&self, place: Place) -> impl Iterator<Item = u32> {
        self.boxes.get(&place).into_iter().flat_map(|b| b.keys().copied())
    }

    /// UIDNEXT.
    pub fn next_uid(&self, place: Place) -> u32 {
        self.next.get(&place).copied().unwrap_or(1)
    }

    fn add(&mut self, place: Place, mail: u64, flags: Flags) {
        let uid = self.next.entry(place).or_insert(1);
        self.boxes.entry(place).or_default().insert(*uid, (mail, flags));
        *uid += 1;
    }

    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Deliver { mail, shared, queue } => {
                self.add(Place::Inbox, *mail, Flags(0));
                self.shared.extend(shared.then_some(*mail));
                self.queued.extend(queue.then_some(*mail));
            }
            Op::Append { place, mails } => mails.iter().for_each(|mail| self.add(*place, *mail, Flags::SEEN)),
            Op::Flags { place, uid, flags } => {
                if let Some(entry) = self.boxes.entry(*place).or_default().get_mut(uid) {
                    entry.1 = *flags;
                }
            }
            Op::Expunge { place, uids } => self.boxes.entry(*place).or_default().retain(|uid, _| !uids.contains(uid)),
            Op::Transfer { uids, remove } => {
                let inbox = self.boxes.entry(Place::Inbox).or_default();
                let gone: Vec<(u64, Flags)> = uids.iter().filter_map(|uid| inbox.get(uid).copied()).collect();
                if *remove {
                    inbox.retain(|uid, _| !uids.contains(uid));
                }
                gone.into_iter().for_each(|(mail, flags)| self.add(Place::Keep, mail, flags));
            }
        }
    }
}
