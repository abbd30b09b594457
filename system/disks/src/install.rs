//! The installation medium: a disk image, or the disk that it was written to.
//!
//! Contract: [`Medium::open`] says whether something can be installed from; reads only. The medium differs from an installed disk in one word
//! of its kernels' command line, `twinpost.install=1`, which is blanked while the partition is copied: the length stays, so nothing
//! else of the kernel image moves.

use crate::table::{self, Table};
use crate::{Error, layout};
use std::path::{Path, PathBuf};

/// The word that makes a boot an installation.
const WORD: &[u8] = b"twinpost.install=1";

/// A medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Medium {
    pub path: PathBuf,
    pub table: Table,
}

impl Medium {
    pub fn open(path: &Path) -> Result<Self, Error> {
        let medium = |why: &str| Error::Medium { path: path.into(), why: why.into() };
        let table = table::read(path, 512)?.ok_or_else(|| medium("it has no partition table"))?;
        for name in [layout::ESP, layout::SLOT_A] {
            layout::named(&table.partitions, name).ok_or_else(|| medium("it has no system partitions"))?;
        }
        Ok(Self { path: path.into(), table })
    }
}

/// Blanks the word wherever it stands alone. It lies within one sector of the kernel image, so no part that is copied cuts it.
pub fn installed(part: &mut [u8]) {
    let mut from = 0;
    while let Some(at) = memchr::memmem::find(&part[from..], WORD).map(|at| from + at) {
        let alone = |byte: Option<&u8>| byte.is_none_or(|byte| matches!(byte, b' ' | 0 | b'\n'));
        let before = at.checked_sub(1).and_then(|before| part.get(before));
        if alone(before) && alone(part.get(at + WORD.len())) {
            part[at..at + WORD.len()].fill(b' ');
        }
        from = at + WORD.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_goes_and_nothing_moves() {
        let mut part =
            b"quiet twinpost.install=1 twinpost.slot=a xtwinpost.install=1 twinpost.install=12 twinpost.install=1\0rest".to_vec();
        let before = part.len();
        installed(&mut part);
        assert_eq!(part.len(), before);
        let said = String::from_utf8(part).unwrap();
        assert_eq!(
            said.split_whitespace().collect::<Vec<_>>(),
            ["quiet", "twinpost.slot=a", "xtwinpost.install=1", "twinpost.install=12", "\0rest"]
        );
        let mut only = WORD.to_vec();
        installed(&mut only);
        assert!(only.iter().all(|byte| *byte == b' '));
    }

    #[test]
    fn what_is_no_medium_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        std::fs::write(&path, vec![0; 1 << 20]).unwrap();
        assert!(Medium::open(&path).unwrap_err().to_string().contains("no partition table"));
        assert!(Medium::open(&folder.path().join("none")).is_err());
    }
}
