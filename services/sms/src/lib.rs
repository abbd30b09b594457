//! The SMS process of a node: it has the modem, and everybody on the node who wants to send or receive text messages
//! asks it over a Unix socket.
//!
//! Contract: [`serve`] runs until it is told to stop. A message is known by its key: submitted twice it is sent once. A
//! part that the network accepted is never sent again, over restarts too; one whose outcome is unknown is sent again and
//! marked as a possible duplicate. Alarms go first. What phones send is stored before the network is told so.
//!
//! Inside: [`api`] is what is spoken on the socket, `server` speaks it, `engine` is the one task that owns the state,
//! `desk` decides (pure), `book` is the spool on disk, `by_modem` and `smpp` are the ways out, `orders` are the
//! administrators' orders by SMS.
//!
//! When the local modem is dead, the peer's modem can send: every message that the desk keeps waiting is visible by
//! `Queue` and `Follow` (state `waiting` with the modem's trouble as its reason). Whoever owns the pair cancels it here
//! and, when the answer says that no part was accepted and it is no possible duplicate, submits it to the peer's socket
//! under the same key. This process never talks to the peer.
//!
//! Failure classes: [`Error`].

pub mod api;
mod book;
mod by_modem;
mod client;
mod clock;
mod desk;
mod engine;
mod error;
mod health;
mod number;
mod orders;
mod reasons;
mod serve;
mod server;
mod settings;
mod smpp;
#[cfg(test)]
mod soak;
mod submit;
mod text;
mod transport;
mod verdict;

pub use client::{Client, Follow, IncomingStream, Seen, Submitted, Watch};
pub use error::Error;
pub use orders::{Language, Orders};
pub use serve::serve;
pub use settings::{By, Limits, LongText, OrdersSettings, Pace, Route, Settings, SmppSettings, WaySettings};
