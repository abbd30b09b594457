//! Folders of a run: `merge/lock`, `merge/work/` in the data that goes on.

use crate::Error;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

/// The folder of reports.
pub(crate) fn reports(data: &Path) -> PathBuf {
    data.join("merge")
}

/// The folder of data that is meant: itself, or its `data`.
pub(crate) fn data_of(aside: &Path) -> PathBuf {
    let inner = aside.join("data");
    if !aside.join("store").is_dir() && inner.join("store").is_dir() { inner } else { aside.to_owned() }
}

/// The working folder, held by one run. The system lets go of it when its owner ends, however it ends.
pub(crate) struct Work {
    pub dir: PathBuf,
    _lock: File,
}

impl Work {
    pub fn take(data: &Path) -> Result<Self, Error> {
        let (folder, dir) = (reports(data), reports(data).join("work"));
        let fault = |what: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { what, path, source }
        };
        std::fs::create_dir_all(&dir).map_err(fault("make", &dir))?;
        let path = folder.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(fault("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::Busy(path)),
            Err(TryLockError::Error(source)) => Err(Error::File { what: "lock", path, source }),
        }
    }
}
