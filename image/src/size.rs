//! The size report: what takes how much of the image, and what grew since the last build.
//!
//! Contract: sizes of files are those before compression (the squashfs compresses to about a third); content that two names share counts
//! once, for the first name. Failure classes: above the limit ([`Error::TooBig`]), files of the build machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, io};
use crate::tree::{Content, Tree};

/// Lines of a table that an error shows.
const LINES: usize = 15;
/// Name for what no package brought.
const OURS: &str = "(twinpost)";

/// The report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Size of the squashfs.
    pub squashfs_bytes: u64,
    /// Size of the last build's squashfs.
    pub squashfs_before_bytes: Option<u64>,
    /// Bytes of all files, before compression.
    pub content_bytes: u64,
    /// Number of files.
    pub files: usize,
    /// By folder: three parts of the path, or fewer.
    pub folders: Vec<Share>,
    /// By package.
    pub packages: Vec<Share>,
}

/// What one folder or package takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Folder or package.
    pub name: String,
    /// Bytes before compression.
    pub bytes: u64,
    /// The same in the last build.
    pub before_bytes: Option<u64>,
}

impl Report {
    /// Measures the tree; `last` is the report of the build before.
    pub fn new(tree: &Tree, squashfs: &Path, last: Option<&Self>) -> Result<Self> {
        let squashfs_bytes = std::fs::metadata(squashfs).map_err(io("cannot read", squashfs))?.len();
        let (mut folders, mut packages) = (BTreeMap::new(), BTreeMap::new());
        let (mut content_bytes, mut files, mut seen) = (0, 0, BTreeSet::new());
        for (path, entry) in tree.iter() {
            let Some(content) = entry.content() else { continue };
            files += 1;
            if let Content::Slice { offset, .. } = content
                && !content.is_empty()
                && !seen.insert(*offset)
            {
                continue;
            }
            content_bytes += content.len();
            *folders.entry(folder(path)).or_insert(0) += content.len();
            *packages.entry(entry.package.as_deref().unwrap_or(OURS).to_owned()).or_insert(0) += content.len();
        }
        Ok(Self {
            squashfs_bytes,
            squashfs_before_bytes: last.map(|last| last.squashfs_bytes),
            content_bytes,
            files,
            folders: shares(folders, last.map(|last| &last.folders)),
            packages: shares(packages, last.map(|last| &last.packages)),
        })
    }

    /// Reads a report.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(io("cannot read", path))?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Format { what: path.display().to_string(), why: error.to_string() })
    }

    /// Writes the report.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::Format { what: "size.json".into(), why: error.to_string() })?;
        text.push(b'\n');
        std::fs::write(path, text).map_err(io("cannot write", path))
    }

    /// Refuses a squashfs above the limit.
    pub fn within(&self, limit: u64) -> Result<()> {
        if self.squashfs_bytes <= limit {
            return Ok(());
        }
        Err(Error::TooBig { what: "squashfs", bytes: self.squashfs_bytes, limit, report: self.text(LINES) })
    }

    /// The report as a table: what grew, then the biggest `lines` folders and packages.
    #[must_use]
    pub fn text(&self, lines: usize) -> String {
        let before = self.squashfs_before_bytes.map(|before| format!(" (before: {})", mega(before))).unwrap_or_default();
        let mut out = format!(
            "squashfs {}{before}; {} files, {} before compression\n",
            mega(self.squashfs_bytes),
            self.files,
            mega(self.content_bytes)
        );
        let grown = |share: &&Share| share.before_bytes.is_some_and(|before| before != share.bytes);
        for (title, shares) in [("folder", &self.folders), ("package", &self.packages)] {
            let mut changed: Vec<&Share> = shares.iter().filter(grown).collect();
            changed.sort_by_key(|share| std::cmp::Reverse(share.bytes.abs_diff(share.before_bytes.unwrap_or(0))));
            for (title, shares) in
                [(format!("{title}s that changed"), changed), (format!("biggest {title}s"), shares.iter().collect())]
            {
                if !shares.is_empty() {
                    let _ = writeln!(out, "{title}");
                }
                for share in shares.iter().take(lines) {
                    let _ = writeln!(out, "  {:>9}  {:>9}  {}", mega(share.bytes), change(share), share.name);
                }
            }
        }
        out
    }
}

/// The first parts of a path: `usr/lib/modules`, `usr/bin`, `etc`.
fn folder(path: &str) -> String {
    let parents: Vec<&str> = path.split('/').collect();
    parents[..(parents.len() - 1).min(3)].join("/")
}

fn shares(sizes: BTreeMap<String, u64>, last: Option<&Vec<Share>>) -> Vec<Share> {
    let before = |name: &str| last.map(|last| last.iter().find(|share| share.name == name).map_or(0, |share| share.bytes));
    let mut shares: Vec<Share> =
        sizes.into_iter().map(|(name, bytes)| Share { before_bytes: before(&name), name, bytes }).collect();
    shares.sort_by_key(|share| std::cmp::Reverse(share.bytes));
    shares
}

/// `52.8 MB`.
#[must_use]
pub fn mega(bytes: u64) -> String {
    let tenths = (bytes + 50_000) / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

fn change(share: &Share) -> String {
    match share.before_bytes {
        Some(before) if before < share.bytes => format!("+{}", mega(share.bytes - before)),
        Some(before) if before > share.bytes => format!("-{}", mega(before - share.bytes)),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(tree: &Tree, last: Option<&Report>) -> Report {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("squashfs");
        std::fs::write(&path, vec![0; 8192]).unwrap();
        Report::new(tree, &path, last).unwrap()
    }

    #[test]
    fn says_what_grew_and_refuses_what_is_too_big() {
        let mut tree = Tree::new();
        tree.file("usr/lib/modules/6.1/a.ko", 0o644, vec![0; 5_000_000]);
        tree.file("usr/bin/mount", 0o755, vec![0; 300_000]);
        tree.get_mut("usr/bin/mount").unwrap().package = Some("mount".into());
        let first = report(&tree, None);
        assert_eq!(first.content_bytes, 5_300_000);
        assert_eq!(first.folders[0], Share { name: "usr/lib/modules".into(), bytes: 5_000_000, before_bytes: None });
        assert_eq!(first.packages.iter().map(|share| share.name.as_str()).collect::<Vec<_>>(), [OURS, "mount"]);
        tree.file("usr/bin/mount", 0o755, vec![0; 2_300_000]);
        let second = report(&tree, Some(&first));
        let text = second.text(5);
        assert!(text.contains("   2.3 MB    +2.0 MB  usr/bin\n"), "{text}");
        second.within(8192).unwrap();
        let error = second.within(8191).unwrap_err().to_string();
        assert!(error.contains("limit is 8191") && error.contains("+2.0 MB"), "{error}");
    }

    #[test]
    fn a_report_is_read_back() {
        let first = report(&Tree::new(), None);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("size.json");
        first.write(&path).unwrap();
        assert_eq!(Report::open(&path).unwrap(), first);
    }
}
