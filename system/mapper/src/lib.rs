//! The verified root over the disks of a node, as the device mapper of Linux has it.
//!
//! Contract: [`cmdline`] says what a slot must hold, [`table`] what its devices look like to the kernel, [`Mapper`] makes them: the first program at the start
//! ([`Mapper::leg`], [`Mapper::create`]), and [`root`] on a running node, where a disk that was replaced becomes a leg again without a restart.
//! A device that is made is active, read-only, and has its node `/dev/dm-<minor>` (devtmpfs makes it).
//!
//! Failure classes: [`Error`]: the kernel refuses a table; a partition does not hold the slot. What was half made is removed again.

pub mod cmdline;
mod ioctl;
mod mapper;
pub mod root;
pub mod table;

pub use cmdline::Cmdline;
pub use mapper::Mapper;
pub use table::Number;

/// What was tried on what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device mapper does not answer.
    #[error("the kernel's device mapper does not answer: {0}")]
    Absent(std::io::Error),
    /// A device could not be made, changed or asked about.
    #[error("cannot {what} the device {device}: {source}")]
    Device {
        /// What was tried.
        what: &'static str,
        /// Its name.
        device: String,
        /// The kernel's word.
        source: std::io::Error,
    },
    /// A partition is too small to hold the slot.
    #[error("it has {sectors} sectors and the slot needs {needed}")]
    Small {
        /// What it has.
        sectors: u64,
        /// What it needs.
        needed: u64,
    },
    /// A block of a verified device cannot be read.
    #[error("block {0} cannot be read or is not what was installed")]
    Damaged(u64),
    /// Another failure of reading.
    #[error("block {block} cannot be read: {source}")]
    Unreadable {
        /// Which.
        block: u64,
        /// Why.
        source: std::io::Error,
    },
    /// What the kernel says of the root is not understood.
    #[error("the root's table is none of ours: {0}")]
    Strange(String),
}

/// Every parser of this crate with arbitrary bytes.
pub fn fuzz(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Cmdline::parse(text);
        root::fuzz(text);
    }
    ioctl::fuzz(data);
}
