//! Reports on the disk: `merge/20261122T064512Z.json` in the data that goes on.

use crate::{Error, Report, paths};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::macros::format_description;

/// Bytes of a report that are read.
const REPORT_BYTES_MAX: u64 = 256 << 20;

/// A report that was kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Its name, for [`report`].
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

fn fault(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { what, path, source }
}

/// Writes a report under the time of its end. Durable when it returns.
pub(crate) fn keep(data: &Path, report: &Report) -> Result<(), Error> {
    let folder = paths::reports(data);
    std::fs::create_dir_all(&folder).map_err(fault("make", &folder))?;
    let form = format_description!("[year][month][day]T[hour][minute][second]Z");
    let at = OffsetDateTime::from_unix_timestamp(report.ended_s.unwrap_or(report.began_s)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let stem = at.format(form).unwrap_or_else(|_| "report".to_owned());
    let mut path = folder.join(format!("{stem}.json"));
    for n in 2.. {
        if !path.exists() {
            break;
        }
        path = folder.join(format!("{stem}-{n}.json"));
    }
    let text = serde_json::to_vec_pretty(report).map_err(|e| Error::Report { name: stem, why: e.to_string() })?;
    let part = folder.join("report.part");
    let written = std::fs::File::create(&part).and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()
    });
    written.map_err(fault("write", &part))?;
    std::fs::rename(&part, &path).map_err(fault("name", &path))?;
    std::fs::File::open(&folder).and_then(|f| f.sync_all()).map_err(fault("write", &folder))
}

/// Reports that were kept, oldest first. Only merges keep one.
///
/// # Errors
/// [`Error::File`].
pub fn reports(data: &Path) -> Result<Vec<Kept>, Error> {
    let folder = paths::reports(data);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(fault("list", &folder)(e)),
    };
    let mut kept = Vec::new();
    for entry in entries {
        let entry = entry.map_err(fault("list", &folder))?;
        let path = entry.path();
        if let Some(name) = entry.file_name().to_str().and_then(|n| n.strip_suffix(".json")) {
            let bytes = entry.metadata().map_err(fault("read", &path))?.len();
            kept.push(Kept { name: name.to_owned(), path, bytes });
        }
    }
    kept.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(kept)
}

/// The report of this name, from [`reports`].
///
/// # Errors
/// [`Error::NoReport`], [`Error::Report`], [`Error::File`].
pub fn report(data: &Path, name: &str) -> Result<Report, Error> {
    let path = paths::reports(data).join(format!("{name}.json"));
    // A name, not a way out of the folder.
    if name.is_empty() || name.contains(['/', '\\', '\0']) || !path.is_file() {
        return Err(Error::NoReport(name.to_owned()));
    }
    let damaged = |why: String| Error::Report { name: name.to_owned(), why };
    let bytes = std::fs::metadata(&path).map_err(fault("read", &path))?.len();
    if bytes > REPORT_BYTES_MAX {
        return Err(damaged(format!("{bytes} bytes are too many")));
    }
    serde_json::from_slice(&std::fs::read(&path).map_err(fault("read", &path))?).map_err(|e| damaged(e.to_string()))
}
