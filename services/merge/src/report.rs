//! What a run found and did: numbers for programs, names and subjects for people.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use twinpost_store::Divergence;

/// Accounts that a report lists; further ones are in the totals.
pub(crate) const ACCOUNTS_MAX: usize = 10_000;
/// Mailboxes of one account that a report lists.
pub(crate) const MAILBOXES_MAX: usize = 200;
/// Messages of one mailbox that a report shows.
pub(crate) const SAMPLES_MAX: usize = 5;
/// Queue entries that a report lists.
pub(crate) const QUEUE_MAX: usize = 10_000;
/// Faults that a report lists.
pub(crate) const FAULTS_MAX: usize = 1_000;

/// What a run was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Run {
    /// Only looked.
    #[default]
    Compared,
    /// Took in everything.
    Merged,
    /// Took in a part: the next run goes on.
    Stopped {
        /// Why.
        why: String,
    },
}

/// Which index of the other side was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum IndexUsed {
    /// Its own.
    #[default]
    Own,
    /// One that was made from its packs.
    Made {
        /// What is wrong with its own.
        why: String,
        /// What is wrong with its packs.
        faults: Vec<String>,
        /// Messages of the last moment there whose mailbox is known by their arrival only.
        last_moment: u64,
        /// Messages that nobody can be named for: in `Recovered` of account 0.
        recovered: u64,
    },
}

/// What differs, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Messages that are only there and were not taken in by an earlier run.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that both have whose flags were changed there, and get them here.
    pub flags: u64,
    /// Messages that an earlier run took in.
    pub taken_before: u64,
    /// Messages that came on both sides by the same delivery.
    pub on_both: u64,
    /// Messages that both have and that were moved there. Here they stay where they are.
    pub moved_there: u64,
    /// Messages that both had and that were deleted there. Here they stay.
    pub deleted_there: u64,
    /// Messages that came there and were deleted there: they are not brought back.
    pub came_and_deleted_there: u64,
    /// Messages that this run took in.
    pub taken: u64,
    /// Messages whose flags this run completed.
    pub flagged: u64,
    /// Messages that cannot be read there.
    pub unreadable: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        let fields: [(&mut u64, u64); 11] = [
            (&mut self.messages, other.messages),
            (&mut self.bytes, other.bytes),
            (&mut self.flags, other.flags),
            (&mut self.taken_before, other.taken_before),
            (&mut self.on_both, other.on_both),
            (&mut self.moved_there, other.moved_there),
            (&mut self.deleted_there, other.deleted_there),
            (&mut self.came_and_deleted_there, other.came_and_deleted_there),
            (&mut self.taken, other.taken),
            (&mut self.flagged, other.flagged),
            (&mut self.unreadable, other.unreadable),
        ];
        for (sum, n) in fields {
            *sum += n;
        }
    }
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// A message, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// From whom.
    pub from: String,
    /// Its subject, decoded.
    pub subject: String,
    /// INTERNALDATE, seconds since 1970 UTC.
    pub received_s: i64,
    /// Its size.
    pub size_bytes: u32,
}

/// What differs in a mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MailboxDifference {
    /// Its name there.
    pub name: String,
    /// Its name here; none: it is not here (yet).
    pub here: Option<String>,
    /// It was made there.
    pub made_there: bool,
    /// It was not here when the run began.
    pub missing_here: bool,
    /// It was deleted there. Here it stays.
    pub gone_there: bool,
    /// It was renamed there. Here it keeps its name.
    pub renamed_there: bool,
    /// In numbers.
    #[serde(flatten)]
    pub counts: Counts,
    /// Some of the messages that are only there.
    pub samples: Vec<Sample>,
}

/// What differs for an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountDifference {
    /// Its address.
    pub address: String,
    /// Its number here; none: it is not here (yet).
    pub here: Option<i64>,
    /// Its number there.
    pub there: i64,
    /// It was made there.
    pub made_there: bool,
    /// It was removed here on purpose, so its mail of the other side is not taken in.
    pub removed_here: bool,
    /// After the merge it is above this limit.
    pub over_quota: Option<String>,
    /// Its mailboxes in which something differs.
    pub mailboxes: Vec<MailboxDifference>,
    /// Further mailboxes that differ and are not listed.
    pub more_mailboxes: u64,
}

/// Where an outbound message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outbound {
    /// Came there and waits there still: it is queued here.
    OnlyThere,
    /// As `OnlyThere`, and an earlier run queued it.
    TakenBefore,
    /// Waits on both sides: it is sent from here.
    OnBoth,
    /// Waits here, but for some recipients the other side sent it, or its operator dropped it. Look before it goes out twice.
    DoneThere,
}

/// An entry of the outbound queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueDifference {
    /// Where it stands.
    pub state: Outbound,
    /// Its name in logs.
    pub trace: String,
    /// Reverse-path; empty is the null sender.
    pub sender: String,
    /// Recipients that are concerned.
    pub recipients: Vec<String>,
    /// Its subject.
    pub subject: String,
    /// Its size.
    pub size_bytes: u32,
    /// When it came.
    pub created_s: i64,
    /// It was due when the other side stopped, so a try may have been under way: it may have been sent already.
    pub maybe_sent: bool,
    /// Its number here.
    pub here: Option<i64>,
}

/// Everything together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Accounts in which something differs.
    pub accounts: u64,
    /// Accounts made there.
    pub accounts_made_there: u64,
    /// Mailboxes in which something differs.
    pub mailboxes: u64,
    /// Mailboxes made there that were not here when the run began.
    pub mailboxes_made_there: u64,
    /// Messages and flags.
    #[serde(flatten)]
    pub counts: Counts,
    /// Outbound messages that are queued here by a merge.
    pub queue: u64,
    /// Outbound messages that this run queued.
    pub queued: u64,
    /// Outbound messages that cannot be read there.
    pub queue_unreadable: u64,
    /// Accounts above a limit after the merge.
    pub over_quota: u64,
}

/// What a run found and did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this form.
    pub version: u32,
    /// What it was.
    pub run: Run,
    /// When it began, seconds since 1970 UTC.
    pub began_s: i64,
    /// When it ended.
    pub ended_s: Option<i64>,
    /// The data that was set aside.
    pub aside: PathBuf,
    /// How that could be read.
    pub index: IndexUsed,
    /// Where the two went apart.
    pub divergence: Divergence,
    /// Everything together.
    pub totals: Totals,
    /// Account by account.
    pub accounts: Vec<AccountDifference>,
    /// Accounts that differ and are not listed.
    pub more_accounts: u64,
    /// The outbound queue.
    pub queue: Vec<QueueDifference>,
    /// Domains, aliases and groups made there: they are not taken in, an operator makes them again if they are wanted.
    pub names_there: Vec<String>,
    /// What could not be read or taken in, in sentences.
    pub faults: Vec<String>,
    /// How many there were.
    pub faults_total: u64,
}

impl Report {
    /// There is something that a merge would take in.
    #[must_use]
    pub fn has_more(&self) -> bool {
        let t = &self.totals;
        match self.run {
            Run::Compared => t.counts.messages + t.counts.flags + t.queue + t.accounts_made_there + t.mailboxes_made_there > 0,
            Run::Merged => t.counts.unreadable + t.queue_unreadable > 0,
            Run::Stopped { .. } => true,
        }
    }

    pub(crate) fn fault(&mut self, text: String) {
        tracing::warn!(fault = %text, "merge");
        self.faults_total += 1;
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(text);
        }
    }
}
