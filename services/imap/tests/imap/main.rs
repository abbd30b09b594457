//! The IMAP server over a store in memory: dialogues, exactness of two sessions, sign-in, compression, slow and silent clients,
//! memory of an idle connection.

mod bench;
mod client;
mod compress;
mod dialogues;
mod exact;
mod idle_size;
mod memory;
mod pressure;
mod scram;
mod waits;
