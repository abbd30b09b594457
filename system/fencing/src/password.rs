//! Password files of switches: one line, readable by their owner only.

use crate::Error;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

fn bad(switch: &str, path: &Path, what: String) -> Error {
    Error::File { switch: switch.to_owned(), path: path.to_owned(), what }
}

/// Refuses a file that others can read.
pub(crate) fn check(switch: &str, path: &Path) -> Result<(), Error> {
    let meta = std::fs::metadata(path).map_err(|e| bad(switch, path, e.to_string()))?;
    if meta.permissions().mode() & 0o077 == 0 {
        Ok(())
    } else {
        Err(bad(switch, path, "others can read this password; chmod 600 it".to_owned()))
    }
}

/// The first line.
pub(crate) fn read(switch: &str, path: &Path) -> Result<String, Error> {
    check(switch, path)?;
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| bad(switch, path, e.to_string()))?;
    file.take(4096).read_to_string(&mut text).map_err(|e| bad(switch, path, e.to_string()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
