//! Files of the history: written whole or not at all.
//!
//! Contract: [`Disk::write`] replaces a file atomically and durably and keeps its permissions. In tests a [`Disk`] stops after so many steps, as a power cut does.
//!
//! Failure classes: [`HistoryError::File`].

use super::HistoryError;
use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The way to the disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// Steps until the power goes; `None`: never.
    steps: Cell<Option<u32>>,
}

fn fault<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> HistoryError + 'a {
    move |source| HistoryError::File { what, path: path.to_owned(), source }
}

/// The tests' power cuts are steps, not lost caches: without the real waiting they go through hundreds of them.
fn sync(file: &File) -> io::Result<()> {
    if cfg!(test) { Ok(()) } else { file.sync_all() }
}

impl Disk {
    #[cfg(test)]
    pub(super) fn failing_after(&self, steps: Option<u32>) {
        self.steps.set(steps);
    }

    /// One step; false: the power is gone, nothing happens any more.
    fn step(&self) -> io::Result<()> {
        match self.steps.get() {
            None => Ok(()),
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                self.steps.set(Some(left - 1));
                Ok(())
            }
        }
    }

    pub(super) fn folder(&self, dir: &Path) -> Result<(), HistoryError> {
        self.step()
            .and_then(|()| fs::DirBuilder::new().recursive(true).mode(0o750).create(dir))
            .map_err(fault("making the folder", dir))
    }

    /// Puts `content` under `path`; a new file gets `mode`.
    pub(super) fn write(&self, path: &Path, content: &[u8], mode: u32) -> Result<(), HistoryError> {
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".new");
        let new = path.with_file_name(name);
        let written = || -> io::Result<()> {
            match fs::remove_file(&new) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            self.step()?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
            if let Ok(facts) = fs::metadata(path) {
                file.set_permissions(fs::Permissions::from_mode(facts.permissions().mode() & 0o7777))?;
            }
            let (first, second) = content.split_at(content.len() / 2);
            file.write_all(first)?;
            self.step()?;
            file.write_all(second)?;
            sync(&file)
        };
        written().map_err(fault("writing", &new))?;
        self.step().and_then(|()| fs::rename(&new, path)).map_err(fault("renaming into place", path))?;
        let dir = path.parent().unwrap_or(Path::new("."));
        self.step().and_then(|()| sync(&File::open(dir)?)).map_err(fault("syncing the folder", dir))
    }

    /// The content, at most `max` bytes of it and one more; `None` if there is no such file.
    pub(super) fn read(&self, path: &Path, max: usize) -> Result<Option<Vec<u8>>, HistoryError> {
        let file = match File::open(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(fault("opening", path))?,
        };
        let mut content = Vec::new();
        file.take(max as u64 + 1).read_to_end(&mut content).map_err(fault("reading", path))?;
        Ok(Some(content))
    }

    /// Takes a file away that nobody needs; if it does not go, nobody minds.
    pub(super) fn forget(&self, path: &Path) {
        if self.step().is_ok() {
            let _ = fs::remove_file(path);
        }
    }
}
