//! Keeps what stages made under a name made from all that went into it.
//!
//! Contract: a file in the cache is whole (it is renamed into place) and its name says what it was made from, so it never has to be
//! compared; a few of each kind are kept, the oldest go. Failure class: files of the build machine.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Result, io};
use crate::progress::Step;

/// Results kept of each kind: the present one, one before it, and those of another profile.
const KEPT: usize = 4;

/// Collects what a result is made from.
#[derive(Debug)]
pub struct Key(blake3::Hasher);

impl Key {
    /// A key for results of this kind; `version` grows when the stage's own code gives other bytes for the same inputs.
    #[must_use]
    pub fn new(kind: &str, version: u32) -> Self {
        Self(blake3::Hasher::new()).with(kind.as_bytes()).with(&version.to_le_bytes())
    }

    /// One more input; its length goes in too, so that inputs cannot run into each other.
    #[must_use]
    pub fn with(mut self, input: &[u8]) -> Self {
        self.0.update(&(input.len() as u64).to_le_bytes()).update(input);
        self
    }

    fn name(&self) -> String {
        self.0.finalize().to_hex()[..24].to_owned()
    }
}

/// The file `kind-<key>` of the cache, made by `make` if it is not there.
pub fn file(folder: &Path, kind: &str, key: &Key, step: &Step, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let path = folder.join(format!("{kind}-{}", key.name()));
    if path.exists() {
        step.cached();
        // The oldest by use go first.
        let touched = std::fs::File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        touched.map_err(io("cannot touch", &path))?;
        return Ok(path);
    }
    std::fs::create_dir_all(folder).map_err(io("cannot make", folder))?;
    let partial = tempfile::Builder::new()
        .prefix(&format!("{kind}-partial-"))
        .tempdir_in(folder)
        .map_err(io("cannot make a folder in", folder))?;
    let inside = partial.path().join(kind);
    make(&inside)?;
    std::fs::rename(&inside, &path).map_err(io("cannot rename to", &path))?;
    prune(folder, kind, KEPT)?;
    Ok(path)
}

/// The same for bytes.
pub fn bytes(folder: &Path, kind: &str, key: &Key, step: &Step, make: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let path = file(folder, kind, key, step, |out| std::fs::write(out, make()?).map_err(io("cannot write", out)))?;
    std::fs::read(&path).map_err(io("cannot read", path))
}

/// Takes away all files of a kind but the `kept` newest ones.
pub fn prune(folder: &Path, kind: &str, kept: usize) -> Result<()> {
    let prefix = format!("{kind}-");
    let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io("cannot list", folder))? {
        let entry = entry.map_err(io("cannot list", folder))?;
        // Another build may have taken it away meanwhile.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_file() && entry.file_name().to_string_lossy().starts_with(&prefix) {
            files.push((meta.modified().map_err(io("cannot read", entry.path()))?, entry.path()));
        }
    }
    files.sort_by(|a, b| b.cmp(a));
    for (_, path) in files.into_iter().skip(kept) {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Progress;

    #[test]
    fn a_result_is_made_once_for_each_key_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let mut made = 0;
        for round in 0..2 {
            for input in 0..3_u8 {
                let key = Key::new("x", 1).with(&[input]);
                let got = Progress::quiet()
                    .stage("x", |step| {
                        bytes(folder.path(), "x", &key, step, || {
                            made += 1;
                            Ok(vec![input])
                        })
                    })
                    .unwrap();
                assert_eq!(got, [input], "round {round}");
            }
        }
        assert_eq!(made, 3);
        let failing = Progress::quiet().stage("x", |step| {
            bytes(folder.path(), "x", &Key::new("x", 2), step, || Err(crate::Error::Tree { path: "a".into(), why: "b".into() }))
        });
        assert!(failing.is_err());
        for input in 10..20_u8 {
            let key = Key::new("x", 1).with(&[input]);
            Progress::quiet().stage("x", |step| bytes(folder.path(), "x", &key, step, || Ok(vec![input]))).unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), KEPT);
    }

    #[test]
    fn inputs_do_not_run_into_each_other() {
        assert_ne!(Key::new("x", 1).with(b"ab").with(b"c").name(), Key::new("x", 1).with(b"a").with(b"bc").name());
    }
}
