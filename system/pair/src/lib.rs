//! The pair daemon: the heart of `twinpost-heartbeat` with links, disk, clock and drivers around it.
//!
//! Contract: [`serve`] runs one node of a pair until it is told to stop. What is decided is decided by the heart (`step`, pure and model-checked);
//! this crate owes it time, frames and honest answers: a tick at least every half keepalive, every effect carried out in
//! order, nothing acted on that is not stored. Setting the wall clock changes nothing.
//!
//! Inside: `engine` is the one thread that owns the state; `workers` do what takes time; `links` are the paths to the peer; `state_file`,
//! `memory` and `alarms` are what outlives a restart; `clerk` answers requests, `server` and [`Client`] speak [`api`] on the
//! control socket. Drivers come in as [`Parts`].
//!
//! Failure classes: [`Error`].

mod alarms;
pub mod api;
mod clerk;
mod client;
mod clock;
mod course;
mod door;
mod engine;
mod error;
mod input;
mod links;
mod memory;
mod real_time;
mod serve;
mod server;
mod settings;
mod snapshot;
mod state_file;
mod status;
mod watchdog;
mod words;
mod workers;

pub use alarms::Alarms;
pub use client::{Client, Watch};
pub use door::{Door, Handle, door};
pub use error::{Error, SELF_FENCED_EXIT};
pub use links::serial::fuzz as fuzz_serial_line;
pub use serve::serve;
pub use settings::{Changes, Desk, Parts, PeerChannel, SerialLink, Settings, UdpLink};
