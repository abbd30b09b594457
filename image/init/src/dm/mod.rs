//! Device mapper: making a device from a table.
//!
//! Contract: a device that is made is active when the call returns, read-only, and has its node `/dev/dm-<minor>` (devtmpfs makes it). Source:
//! include/uapi/linux/dm-ioctl.h, Documentation/admin-guide/device-mapper of Linux. Failure class: [`std::io::Error`] of the kernel; a device
//! half made is removed again.

mod ioctl;

use crate::table::{Number, Table};
use ioctl::{Command, Control, READ_ONLY, Request};
use std::io;

/// The device mapper of the running kernel.
#[derive(Debug)]
pub struct Mapper {
    control: Control,
}

impl Mapper {
    /// Opens `/dev/mapper/control`, which is there once the module dm-mod is.
    ///
    /// # Errors
    /// Of opening it, or when the kernel speaks another major version.
    pub fn open() -> io::Result<Self> {
        let control = Control::open()?;
        control.call(Command::Version, &mut Request::new("", "")?)?;
        Ok(Self { control })
    }

    /// Makes the read-only device `name` from a table.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` or `EIO` when the table's target refuses its parameters.
    pub fn create(&self, name: &str, table: &Table) -> io::Result<Number> {
        let mut request = Request::new(name, &format!("twinpost-{name}"))?;
        self.control.call(Command::DevCreate, &mut request)?;
        let number = request.number();
        let activated = self.load(name, table).and_then(|()| {
            let mut request = Request::new(name, "")?;
            request.flags(READ_ONLY);
            // DM_DEV_SUSPEND without the suspend flag resumes: the loaded table becomes the active one.
            self.control.call(Command::DevSuspend, &mut request)
        });
        if let Err(error) = activated {
            // What failed counts; a device without a table disturbs nobody.
            let _ = self.remove(name);
            return Err(error);
        }
        Ok(number)
    }

    fn load(&self, name: &str, table: &Table) -> io::Result<()> {
        let mut request = Request::new(name, "")?;
        request.flags(READ_ONLY);
        request.table(table)?;
        self.control.call(Command::TableLoad, &mut request)
    }

    /// Removes the device `name`.
    ///
    /// # Errors
    /// The kernel's; `EBUSY` while it is open.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.control.call(Command::DevRemove, &mut Request::new(name, "")?)
    }
}
