//! Two machines to try the appliance on: in QEMU ([`Qemu`]), or real ones on a bench ([`Bench`]).
//!
//! Contract: a test speaks to [`Rig`] alone: orders over the nodes' own consoles, faults as capabilities that the rig declares, clients
//! on the LAN. A rig takes everything that it started away again, whatever becomes of it. What happened stands in the
//! [`Timeline`].
//!
//! Failure classes: [`Error`] says what was tried on what; a capability that is missing is an [`Error::Cannot`].

mod accel;
mod bench;
pub mod blocklog;
pub mod bmc;
mod capability;
pub mod client;
pub mod console;
pub mod desk;
mod error;
pub mod fault;
pub mod found;
pub mod frame;
mod image;
mod machine;
pub mod observe;
pub mod outside;
pub mod pair;
mod partition;
mod patch;
mod place;
pub mod qemu;
mod qmp;
pub mod recover;
mod rig;
mod space;
mod stand;
mod timeline;
pub mod wait;

pub use accel::Accel;
pub use bench::Bench;
pub use bmc::{Bmc, Mains, PASSWORD as SWITCH_PASSWORD, USER as SWITCH_USER};
pub use capability::{Capabilities, Capability};
pub use console::Console;
pub use error::{Error, Result};
pub use frame::Answer;
pub use image::Image;
pub use machine::{Disk, Machine, Options, Start};
pub use observe::Observers;
pub use pair::{Founded, Pair};
pub use patch::{Patch, Wire};
pub use place::Place;
pub use qemu::{Disks, Qemu};
pub use qmp::Qmp;
pub use rig::{Cable, Door, Fault, NODES, NewDisk, Node, Rig, other};
pub use space::Space;
pub use stand::Stand;
pub use timeline::{Event, Timeline};
