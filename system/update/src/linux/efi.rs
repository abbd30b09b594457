//! What the loader and the system tell each other in variables of the firmware (<https://systemd.io/BOOT_LOADER_INTERFACE>).
//!
//! Contract: [`boot_once`] lets the next start, and only that, take an entry, good or not, without counting against it.
//!
//! Failure classes: [`Error::Io`]; a machine that was not started by UEFI has no such variables.

use crate::error::{Error, io_error};
use rustix::fs::IFlags;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;

/// Where the kernel shows the variables.
pub const VARIABLES: &str = "/sys/firmware/efi/efivars";
/// The loader's.
const VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Kept over a power cut, seen by the firmware and by us (UEFI 2.10, 8.2.1).
const ATTRIBUTES: u32 = 0x7;
const MAX_BYTES: u64 = 4096;

/// The next start takes the entry of this file name, once.
///
/// # Errors
/// [`Error::Io`]
pub fn boot_once(variables: &Path, entry: &str) -> Result<(), Error> {
    let path = variables.join(format!("LoaderEntryOneShot-{VENDOR}"));
    // The kernel protects variables that it does not know against accidents.
    match File::open(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(io_error("open", &path)(e)),
        Ok(file) => {
            if let Ok(flags) = rustix::fs::ioctl_getflags(&file) {
                let _ = rustix::fs::ioctl_setflags(&file, flags - IFlags::IMMUTABLE);
            }
        }
    }
    let mut value = ATTRIBUTES.to_le_bytes().to_vec();
    value.extend(entry.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
    // One write: the kernel takes a variable whole.
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(io_error("open", &path))?;
    file.write_all(&value).map_err(io_error("write", &path))
}

/// The entry that the loader took at this start, if it said so.
#[must_use]
pub fn selected(variables: &Path) -> Option<String> {
    let mut value = Vec::new();
    let path = variables.join(format!("LoaderEntrySelected-{VENDOR}"));
    File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut value).ok()?;
    let (_, text) = value.split_at_checked(4)?;
    let units: Vec<u16> =
        text.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).take_while(|&u| u != 0).collect();
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_a_variable() {
        let dir = tempfile::tempdir().unwrap();
        boot_once(dir.path(), "twinpost-7-a.efi").unwrap();
        let path = dir.path().join(format!("LoaderEntryOneShot-{VENDOR}"));
        let value = std::fs::read(&path).unwrap();
        assert_eq!(value[..8], [7, 0, 0, 0, b't', 0, b'w', 0]);
        assert_eq!((value.len(), &value[value.len() - 2..]), (4 + 17 * 2, &[0, 0][..]));
        assert_eq!(selected(dir.path()), None);
        std::fs::rename(path, dir.path().join(format!("LoaderEntrySelected-{VENDOR}"))).unwrap();
        assert_eq!(selected(dir.path()).as_deref(), Some("twinpost-7-a.efi"));
        std::fs::write(dir.path().join(format!("LoaderEntrySelected-{VENDOR}")), [1, 2]).unwrap();
        assert_eq!(selected(dir.path()), None);
    }
}
