//! Private files: written whole or not at all, readable by their owner only.
//!
//! Contract: after [`write`] returns the new content is on the disk under its name; a power cut before leaves the old content. [`read`] takes a
//! file of bounded size that nobody else may read or write.
//!
//! Failure classes: [`Error::File`], [`Error::Exposed`], [`Error::Damaged`] (too large, or no regular file).

use crate::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Enough for every file of an identity.
pub(crate) const MAX_BYTES: u64 = 64 << 10;

fn fault<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |source| Error::File { what, path: path.to_owned(), source }
}

/// Makes the folder, for the owner only, with those above it.
pub(crate) fn folder(dir: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fault("making the folder", dir))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

pub(crate) fn sync_folder(path: &Path) -> Result<(), Error> {
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir).and_then(|d| d.sync_all()).map_err(fault("syncing the folder", dir))
}

/// Puts `content` under `path`, mode 0600, atomically and durably.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    let new = beside(path);
    match fs::remove_file(&new) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(fault("removing", &new)(e)),
        _ => {}
    }
    // Created exclusively: a link that somebody laid there is not followed, and the mode is right from the first byte on.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(fault("creating", &new))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(fault("writing", &new))?;
    fs::rename(&new, path).map_err(fault("renaming into place", path))?;
    sync_folder(path)
}

/// The content of a private file, `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = match File::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(fault("opening", path))?,
    };
    let facts = file.metadata().map_err(fault("reading", path))?;
    if !facts.is_file() || facts.len() > MAX_BYTES {
        return Err(Error::Damaged { path: path.to_owned(), what: "not a file of a few kilobytes".to_owned() });
    }
    if facts.mode() & 0o077 != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode: facts.mode() & 0o7777 });
    }
    let mut content = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut content).map_err(fault("reading", path))?;
    Ok(Some(content))
}

/// Takes the file away, durably; no fault if there is none.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(fault("removing", path)(e)),
        Ok(()) => sync_folder(path),
    }
}

/// Moves a file of the same folder over another, durably.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(fault("renaming into place", to))?;
    sync_folder(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_private_file_is_private_and_an_exposed_one_refused() -> Result<(), Error> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("deep/er/key");
        folder(path.parent().expect("a parent"))?;
        assert!(read(&path)?.is_none());
        write(&path, b"one")?;
        // Debris of a power cut does not stop the next write.
        fs::write(beside(&path), b"half").expect("debris");
        write(&path, b"two")?;
        assert_eq!(read(&path)?.as_deref(), Some(&b"two"[..]));
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o620, 0o602, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
            let Err(Error::Exposed { mode: found, .. }) = read(&path) else { panic!("mode {mode:o} was taken") };
            assert_eq!(found, mode);
        }
        remove(&path)?;
        remove(&path)
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("key");
        write(&path, &vec![b'x'; MAX_BYTES as usize + 1]).expect("written");
        assert!(matches!(read(&path), Err(Error::Damaged { .. })));
        assert!(matches!(read(dir.path()), Err(Error::Damaged { .. })));
    }
}
