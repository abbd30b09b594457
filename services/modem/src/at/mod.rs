//! The AT dialogue without I/O and without a clock (ITU-T V.250, 3GPP TS 27.005, TS 27.007).
//!
//! Contract: bytes and times go in, [`Action`]s come out; the same bytes in other chunks give the same actions; no
//! input panics; all memory is bounded. Failure classes: a command ends with its final result, whatever it is
//! ([`Answer`]), or with a [`Failure`] that says at which stage the modem fell silent or restarted.

mod command;
mod engine;
mod line;
mod reply;

pub use command::{Command, Expect};
pub use engine::{Action, Answer, Dialect, Engine, Failure, Notice, Stage};
pub use line::{MAX_LINE_BYTES, Piece, Splitter};
pub use reply::{Final, fields, hex_decode, hex_encode, plain};
