//! THREAD (RFC 5256 3).

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
    /// All nodes.
    pub nodes: Vec<Node>,
    /// Indexes of the roots, in order.
    pub roots: Vec<usize>,
}
