//! Signed A/B updates of the image.
//!
//! Contract: a bundle is one signed file ([`bundle`]); nothing of it is written anywhere before its manifest's signature is verified, and no
//! byte of it before the hash of its chunk is. It is written into the slot that does not run, on every system disk, and becomes bootable as the very last step
//! ([`install`]); the loader counts its boots ([`entries`]), the node judges itself ([`health`]) and either keeps the boot or goes back. What was attempted and what
//! became of it is one record that survives every power cut ([`record`]); the two nodes of a pair follow one plan, the standby first ([`plan`]).
//!
//! What touches the machine is behind [`platform::Platform`]; [`linux`] is the real one, the tests cut the power of a simulated one after every single effect.
//!
//! Failure classes: one enum, [`Error`]; what a person must decide about has its reasons in both languages ([`Text`]).

pub mod bundle;
mod error;

pub mod entries;
pub mod health;
pub mod install;
pub mod keys;
pub mod linux;
pub mod plan;
pub mod platform;
pub mod record;
pub mod release;
mod slot;
pub mod slots;
mod text;

pub use error::{Error, io_error};
pub use keys::{Keys, SigningKey};
pub use release::Release;
pub use slot::Slot;
pub use text::{Progress, Step, Text};
