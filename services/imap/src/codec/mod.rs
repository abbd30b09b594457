//! Bytes to commands and facts to bytes: the IMAP grammar, without sockets, clock or store.
//!
//! Contract: [`frame`] says from the bytes received so far what to do next (wait, send `+`, read a message literal, parse);
//! [`parse`] turns a complete command into [`ast::Command`]; [`respond`] appends responses to a byte buffer. Every
//! function takes any bytes, never panics, and its work and memory are bounded by the length of its input.
//!
//! Failure classes: a command that is not understood is a [`ast::CommandError`] (the session answers `BAD` or `NO` with its
//! code and goes on); a line or literal over the limit is refused by [`frame`] before its bytes are read.

pub mod ast;
pub mod frame;
pub mod name;
pub mod parse;
pub mod respond;
pub mod set;
