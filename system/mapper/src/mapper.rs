//! Device mapper: making a device from a table, exchanging tables, asking what there is. Source: include/uapi/linux/dm-ioctl.h,
//! Documentation/admin-guide/device-mapper of Linux.

use crate::cmdline::Cmdline;
use crate::ioctl::{Command, Control, READ_ONLY, Request, STATUS_TABLE};
use crate::table::{self, Number, Table};
use crate::{Error, ioctl};
use rustix::fs::Advice;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Blocks of a leg that are read before it is trusted, spread evenly, the first and the last among them.
const SAMPLES: u64 = 16;
const BLOCK_BYTES: u64 = 4096;

/// The device mapper of the running kernel.
#[derive(Debug)]
pub struct Mapper {
    control: Control,
}

/// What a device is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Name of the target.
    pub target: String,
    /// Its parameters, or how it is.
    pub words: String,
}

fn failed(what: &'static str, device: &str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Device { what, device: device.to_owned(), source }
}

impl Mapper {
    /// Opens `/dev/mapper/control`, which is there once the module dm-mod is.
    ///
    /// # Errors
    /// Of opening it, or when the kernel speaks another major version.
    pub fn open() -> Result<Self, Error> {
        Self::open_at(Path::new("/dev/mapper/control"))
    }

    /// The same by another path.
    ///
    /// # Errors
    /// As [`Mapper::open`].
    pub fn open_at(path: &Path) -> Result<Self, Error> {
        let control = Control::open(path).map_err(Error::Absent)?;
        let ask = || control.call(Command::Version, &mut Request::new("", "")?);
        ask().map_err(Error::Absent)?;
        Ok(Self { control })
    }

    fn call(&self, command: Command, request: &mut Request) -> io::Result<()> {
        self.control.call(command, request)
    }

    /// Makes the read-only device `name` from a table.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` or `EIO` when the table's target refuses its parameters, `EBUSY` when there is such a device.
    pub fn create(&self, name: &str, table: &Table) -> Result<Number, Error> {
        let made = || {
            let mut request = Request::new(name, &format!("twinpost-{name}"))?;
            self.call(Command::DevCreate, &mut request)?;
            Ok(request.number())
        };
        let number = made().map_err(failed("make", name))?;
        if let Err(error) = self.exchange(name, table) {
            // What failed counts; a device without a table disturbs nobody.
            let _ = self.remove(name);
            return Err(error);
        }
        Ok(number)
    }

    /// Gives a device another table, at once. What is read meanwhile waits.
    ///
    /// # Errors
    /// The kernel's; the device goes on with the table that it had.
    pub fn exchange(&self, name: &str, table: &Table) -> Result<(), Error> {
        let load = || {
            let mut request = Request::new(name, "")?;
            request.flags(READ_ONLY);
            request.table(table)?;
            self.call(Command::TableLoad, &mut request)
        };
        let resume = || {
            let mut request = Request::new(name, "")?;
            request.flags(READ_ONLY);
            // DM_DEV_SUSPEND without the suspend flag resumes: a loaded table becomes the active one. A device that runs is suspended for it within
            // the same call, so that this program, which may lie on it, never needs it meanwhile.
            self.call(Command::DevSuspend, &mut request)
        };
        load().map_err(failed("load a table for", name))?;
        resume().map_err(|error| {
            let _ = Request::new(name, "").and_then(|mut request| self.call(Command::TableClear, &mut request));
            failed("put a table in force for", name)(error)
        })
    }

    /// Removes the device `name`.
    ///
    /// # Errors
    /// The kernel's; `EBUSY` while it is open.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let remove = || self.call(Command::DevRemove, &mut Request::new(name, "")?);
        remove().map_err(failed("remove", name))
    }

    /// The number of a device, and the devices that its table stands on; `None`: there is no such device.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stands_on(&self, name: &str) -> Result<Option<(Number, Vec<Number>)>, Error> {
        let ask = || {
            let mut request = Request::answered(name)?;
            match self.call(Command::TableDeps, &mut request) {
                Ok(()) => Ok(Some((request.number(), request.dependencies()))),
                Err(error) if error.raw_os_error() == Some(ioctl::NO_SUCH_DEVICE) => Ok(None),
                Err(error) => Err(error),
            }
        };
        ask().map_err(failed("ask what stands below", name))
    }

    /// The table of a device that has one target.
    ///
    /// # Errors
    /// The kernel's.
    pub fn table_of(&self, name: &str) -> Result<Option<Line>, Error> {
        self.line(name, STATUS_TABLE)
    }

    /// How a device with one target is, in its target's words.
    ///
    /// # Errors
    /// The kernel's.
    pub fn status_of(&self, name: &str) -> Result<Option<Line>, Error> {
        self.line(name, 0)
    }

    fn line(&self, name: &str, flags: u32) -> Result<Option<Line>, Error> {
        let ask = || {
            let mut request = Request::answered(name)?;
            request.flags(flags);
            match self.call(Command::TableStatus, &mut request) {
                Ok(()) => Ok(request.line().map(|(target, words)| Line { target, words })),
                Err(error) if error.raw_os_error() == Some(ioctl::NO_SUCH_DEVICE) => Ok(None),
                Err(error) => Err(error),
            }
        };
        ask().map_err(failed("ask about", name))
    }

    /// Makes the verified device `name` of a slot's partition, and reads samples of it.
    ///
    /// # Errors
    /// [`Error::Small`], [`Error::Damaged`], [`Error::Unreadable`], or the kernel's.
    pub fn leg(&self, name: &str, root: &Cmdline, partition: Number, sectors: u64) -> Result<Number, Error> {
        let needed = table::slot_blocks(root.data_blocks) * table::SECTORS_A_BLOCK;
        if sectors < needed {
            return Err(Error::Small { sectors, needed });
        }
        let device = self.create(name, &table::verity(partition, root))?;
        if let Err(error) = read_blocks(device, samples(root.data_blocks)) {
            // It stays unused if it cannot be removed.
            let _ = self.remove(name);
            return Err(error);
        }
        Ok(device)
    }
}

/// Numbers of the blocks that are read before a leg is trusted.
fn samples(blocks: u64) -> impl Iterator<Item = u64> {
    let last = blocks.saturating_sub(1);
    let count = SAMPLES.min(blocks);
    (0..count).map(move |n| if count == 1 { 0 } else { last * n / (count - 1) })
}

/// Reads blocks of a verified device; a wrong one is a read error. With the block the whole path of hashes up to the root hash is checked.
fn read_blocks(device: Number, blocks: impl Iterator<Item = u64>) -> Result<(), Error> {
    let path = format!("/dev/dm-{}", device.minor);
    let file = File::open(&path).map_err(failed("open", &path))?;
    // No reading ahead: only what is asked for is checked now.
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::Random);
    let mut content = vec![0; usize::try_from(BLOCK_BYTES).unwrap_or(4096)];
    for block in blocks {
        file.read_exact_at(&mut content, block * BLOCK_BYTES).map_err(|source| match source.raw_os_error() {
            Some(ioctl::INPUT_OUTPUT) => Error::Damaged(block),
            _ => Error::Unreadable { block, source },
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_both_ends_and_lie_inside() {
        assert_eq!(samples(1).collect::<Vec<_>>(), [0]);
        assert_eq!(samples(3).collect::<Vec<_>>(), [0, 1, 2]);
        let many = samples(18_765).collect::<Vec<_>>();
        assert_eq!((many.len(), many[0], many[15]), (16, 0, 18_764));
        assert!(many.is_sorted_by(|a, b| a < b));
    }
}
