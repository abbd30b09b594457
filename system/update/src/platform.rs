//! What an update touches on a machine, as traits: the real one is [`crate::linux`], the tests have one whose power can be cut after every effect.
//!
//! Contract: calls that change something are single effects, in the order in which they are made; what was not synced may be lost, half or whole, when the power goes. All
//! calls block. [`Platform::store`] is atomic and durable.
//!
//! Failure classes: [`Error::Io`] and [`std::io::Error`]; a disk that is not there is no failure but a [`Medium`] that says why.

use crate::error::Error;
use crate::release::Release;
use crate::slot::Slot;
use crate::text::Text;
use std::io;

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// From which slot.
    pub slot: Slot,
    /// Which version.
    pub release: Release,
}

/// Something that each system disk has, or why this one does not.
#[derive(Debug)]
pub struct Medium<T> {
    /// The bay, as it is printed on the machine.
    pub bay: String,
    /// The thing, or why it cannot be used.
    pub medium: Result<T, Text>,
}

/// A file in the folder of the boot entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// The folder `EFI/Linux` of a mounted EFI system partition. Unmounted when dropped.
pub trait Esp: Send {
    /// Everything in the folder.
    fn list(&self) -> io::Result<Vec<Listed>>;
    /// Room for new files.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Reads at an offset; short only at the end.
    fn read(&self, name: &str, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Makes an empty file, or empties one.
    fn create(&mut self, name: &str) -> io::Result<()>;
    /// Writes at the end of a file.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// The content of a file is on stable storage, and the cache no longer answers for it.
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Renames within the folder, over what is there.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Takes a file away.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Names are on stable storage.
    fn sync_folder(&mut self) -> io::Result<()>;
}

/// The partition of a slot on one disk.
pub trait SlotDevice: Send {
    /// For people: `/dev/sda3`.
    fn name(&self) -> String;
    /// Its size.
    fn bytes(&self) -> io::Result<u64>;
    /// Writes there.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// All that was written is on stable storage, and the cache no longer answers for it.
    fn sync(&mut self) -> io::Result<()>;
    /// Reads there, all of it.
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
}

/// A machine.
pub trait Platform: Send + Sync {
    /// What runs.
    fn running(&self) -> Result<Running, Error>;
    /// The EFI system partition of every system disk. They stay mounted until dropped.
    fn esps(&self) -> Result<Vec<Medium<Box<dyn Esp>>>, Error>;
    /// The partition of a slot on every system disk.
    fn slots(&self, slot: Slot) -> Result<Vec<Medium<Box<dyn SlotDevice>>>, Error>;
    /// The record, if there is one.
    fn load(&self) -> Result<Option<Vec<u8>>, Error>;
    /// Replaces the record, atomically and durably.
    fn store(&self, record: &[u8]) -> Result<(), Error>;
}
