//! The pure algorithms of IMAP: number sets, LIST matching, search, sort and threads.
//!
//! Contract: no I/O, no clock, no randomness; the same input gives the same answer on every node. Failure classes: none;
//! bounds are those of the input.

pub mod list;
pub mod ranges;
pub mod search;
pub mod sort;
pub mod thread;
