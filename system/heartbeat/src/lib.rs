//! The heart of the pair: frames and the takeover state machine, without I/O and without a clock.
//!
//! Contract: [`step`] is a function of its arguments. It reads no clock (time comes in as milliseconds that passed on the
//! node's monotonic clock), does no I/O (it answers with [`Effect`]s), allocates nothing and panics on no input. The daemon,
//! the model checker and the simulator drive this one function. `docs` of each rule name the line of the design (HA.md).
//!
//! Failure classes: a frame that cannot be trusted is dropped and counted by class ([`Drop`]); an order that cannot be
//! followed is answered with *all* reasons ([`Reasons`]); a fault that people must know of is an [`Alarm`].
#![no_std]

mod array;
mod claim;
mod frame;
mod health;
mod orders;
mod record;
mod serial;
mod settings;
mod state;
mod step;

pub use frame::{Decoder, Drop, Drops, FRAME_BYTES, Flags, Frame, Keys, Link, NodeState, fuzz as fuzz_frame};
pub use orders::{Order, Reason, Reasons, reasons};
pub use record::{RECORD_BYTES, Record, newest as newest_record};
pub use serial::{Deframer, ENCODED_BYTES, encode as encode_serial, fuzz as fuzz_serial};
pub use settings::{Rules, Settings};
pub use state::{
    Alarm, Claim, Effect, Effects, Event, FenceAnswer, Grounds, Mirror, Peer, Phase, Proof, Replication, State, Writes,
};
pub use step::{step, step_with};
