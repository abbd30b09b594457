//! Mail clients of the tests: they say exactly what they are told to, and remember every promise.
//!
//! Contract: nothing waits for ever. What a test expects is checked by a panic that says what came instead, so that a test
//! ends where its expectation does.

pub mod imap;
pub mod line;
pub mod load;
pub mod smtp;
