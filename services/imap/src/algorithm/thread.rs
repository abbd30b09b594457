//! THREAD (RFC 5256 3): ORDEREDSUBJECT and REFERENCES.
//!
//! Contract: pure; every message given appears once; nearly linear (sorting apart) in messages and references, and nothing
//! recurses, so that a thread may be as long as a mailbox. Failure classes: none; references that lie make no loops.

mod references;

use crate::algorithm::sort::sent_s;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use twinpost_message::view::Entry;
use twinpost_message::{Parsed, fold};

pub use references::references;

/// A message in a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Sequence number or UID, whichever the caller gave; 0 for a dummy that holds siblings together.
    pub number: u32,
    /// Indexes of its children in [`Forest::nodes`], in order.
    pub children: Vec<usize>,
}

/// Threads. Nodes stand in one list: a thread may be as deep as a mailbox is long, and nothing recurses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forest {
    /// All nodes; some may be in no thread.
    pub nodes: Vec<Node>,
    /// Indexes of the roots, in order.
    pub roots: Vec<usize>,
}

/// A message to be threaded.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// What the answer calls it: sequence number or UID.
    pub number: u32,
    /// Its entry in the list.
    pub entry: &'a Entry,
    /// What was parsed at arrival; none (damaged): a message without headers.
    pub parsed: Option<&'a Parsed>,
}

impl Message<'_> {
    fn sent_s(&self) -> i64 {
        sent_s(self.entry, self.parsed)
    }
    fn base_subject(&self) -> String {
        self.parsed.map_or_else(String::new, |p| fold(&p.base_subject))
    }
}

/// RFC 5256 3 ORDEREDSUBJECT: threads of one base subject, by date; all but the first message are children of the first.
/// `messages` are in order of sequence numbers.
#[must_use]
pub fn ordered_subject(messages: &[Message<'_>]) -> Forest {
    let mut order: Vec<usize> = (0..messages.len()).collect();
    // Stable: equal dates keep the order of sequence numbers.
    order.sort_by_key(|i| messages[*i].sent_s());
    let mut forest =
        Forest { nodes: messages.iter().map(|m| Node { number: m.number, children: Vec::new() }).collect(), roots: Vec::new() };
    let mut first: HashMap<String, usize> = HashMap::new();
    for i in order {
        match first.entry(messages[i].base_subject()) {
            Slot::Occupied(root) => forest.nodes[*root.get()].children.push(i),
            Slot::Vacant(slot) => {
                slot.insert(i);
                forest.roots.push(i);
            }
        }
    }
    forest
}

#[cfg(test)]
mod tests;
