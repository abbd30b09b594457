//! A GSM modem that is not there, written from 3GPP TS 27.005, 27.007, 23.038 and 23.040 alone.
//!
//! It stands on a pseudo-terminal, a Unix socket or a TCP port; behind it is a network with phones that read what was sent. Nothing in
//! here comes from the product's own codecs: a fault there must not cancel itself out.
//!
//! [`Simulator::start`] gives a [`Handle`]; [`Engine`] is the same modem without line and clock. What cannot be (a line that cannot be
//! made) is an error at the start; nothing on the line, from the network or on the control socket stops it.

mod address;
mod alphabet;
mod dice;
mod engine;
mod family;
mod national;
mod options;
mod order;
mod phones;
mod port;
mod run;
mod simulator;
pub mod smsc;
mod stamp;
mod storage;
pub mod tpdu;

pub use address::{Number, hex, unhex};
pub use alphabet::{decode, decode_ucs2, encode, encode_ucs2, pack, unpack};
pub use dice::Dice;
pub use engine::{Counters, Engine, EngineState, PortAct, fuzz};
pub use family::{FAMILIES, Family};
pub use options::{Card, Effect, Fault, Line, Options, Stage, Timing, Until};
pub use order::{HELP, Order};
pub use phones::{Phones, Received, Repeats};
pub use simulator::{Handle, Simulator};
