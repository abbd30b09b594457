//! The IMAP server over a store in memory: dialogues, exactness of two sessions, memory of an idle connection.

mod bench;
mod dialogues;
mod exact;
mod idle_size;
mod memory;
