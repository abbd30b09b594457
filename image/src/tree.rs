//! The files of the image as data: a sorted map from path to owner, mode and content.
//!
//! Contract: nothing is unpacked on the build machine, so owners, modes and device nodes need no root there and no umask or file system
//! of the build machine can leak into the image. Content of packages stays in the base archive and is read when it is needed. Paths have no
//! leading slash (`usr/lib/systemd/systemd`), the root folder is the empty path; a parent always sorts before its children.
//! Failure classes: an archive that cannot be read ([`Error::Io`]), a path that is missing or of another kind ([`Error::Tree`]).

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::fs::File;
use std::io::{Read, Write};
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result, io};

/// Symlinks followed on one path before it counts as a loop (as Linux does, path_resolution(7)).
const LINKS: usize = 40;

/// Where the bytes of a file are.
#[derive(Debug, Clone)]
pub enum Content {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// A stretch of an archive.
    Slice {
        /// The archive, open.
        archive: Arc<File>,
        /// Its path, for errors.
        path: Arc<Path>,
        /// First byte.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// A file of the build machine.
    File {
        /// Its path.
        path: PathBuf,
        /// Length in bytes.
        len: u64,
    },
}

impl Content {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Slice { len, .. } | Self::File { len, .. } => *len,
        }
    }

    /// True for an empty file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `max` bytes, or all if there are fewer.
    pub fn head(&self, max: usize) -> Result<Vec<u8>> {
        let wanted = usize::try_from(self.len()).unwrap_or(usize::MAX).min(max);
        match self {
            Self::Bytes(bytes) => Ok(bytes[..wanted].to_vec()),
            Self::Slice { archive, path, offset, .. } => {
                let mut bytes = vec![0; wanted];
                archive.read_exact_at(&mut bytes, *offset).map_err(io("cannot read", &**path))?;
                Ok(bytes)
            }
            Self::File { path, .. } => {
                let file = File::open(path).map_err(io("cannot open", path))?;
                let mut bytes = vec![0; wanted];
                file.read_exact_at(&mut bytes, 0).map_err(io("cannot read", path))?;
                Ok(bytes)
            }
        }
    }

    /// All bytes.
    pub fn read(&self) -> Result<Vec<u8>> {
        self.head(usize::MAX)
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

/// What an entry is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file.
    File(Content),
    /// A symbolic link with its target as written.
    Link(String),
}

/// One entry of the tree.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Permission bits (0o7777).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Folder, file or link.
    pub kind: Kind,
    /// Debian package it came from; `None` for what we made ourselves.
    pub package: Option<Arc<str>>,
}

impl Entry {
    /// The content of a regular file.
    #[must_use]
    pub fn content(&self) -> Option<&Content> {
        match &self.kind {
            Kind::File(content) => Some(content),
            Kind::Folder | Kind::Link(_) => None,
        }
    }
}

/// The files of the image.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

impl Tree {
    /// An empty tree with its root folder.
    #[must_use]
    pub fn new() -> Self {
        let mut tree = Self::default();
        tree.entries.insert(String::new(), Entry { mode: 0o755, uid: 0, gid: 0, kind: Kind::Folder, package: None });
        tree
    }

    /// Reads the table of an uncompressed tar archive; contents stay where they are. Device nodes and sockets are left out: devtmpfs makes
    /// the nodes, and an image needs no sockets.
    pub fn from_tar(path: &Path) -> Result<Self> {
        let file = Arc::new(File::open(path).map_err(io("cannot open", path))?);
        let name: Arc<Path> = path.into();
        let mut archive = tar::Archive::new(&*file);
        let mut tree = Self::new();
        for entry in archive.entries_with_seek().map_err(io("cannot read", path))? {
            let entry = entry.map_err(io("cannot read", path))?;
            let header = entry.header();
            let field = |what: &'static str| io(what, path);
            let key = clean(&String::from_utf8_lossy(&entry.path_bytes()));
            let mode = header.mode().map_err(field("cannot read a mode in"))? & 0o7777;
            let uid = u32::try_from(header.uid().map_err(field("cannot read an owner in"))?).unwrap_or(u32::MAX);
            let gid = u32::try_from(header.gid().map_err(field("cannot read a group in"))?).unwrap_or(u32::MAX);
            let target = entry.link_name_bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            let kind = match (header.entry_type(), target) {
                (tar::EntryType::Directory, _) => Kind::Folder,
                (tar::EntryType::Regular | tar::EntryType::Continuous, _) => Kind::File(Content::Slice {
                    archive: Arc::clone(&file),
                    path: Arc::clone(&name),
                    offset: entry.raw_file_position(),
                    len: entry.size(),
                }),
                (tar::EntryType::Symlink, Some(target)) => Kind::Link(target),
                // A hard link names an entry that stands before it in the archive.
                (tar::EntryType::Link, Some(target)) => {
                    let first = tree.entries.get(&clean(&target)).map(|entry| entry.kind.clone());
                    first.ok_or_else(|| Error::Tree {
                        path: key.clone(),
                        why: format!("hard link to {target}, which is not in the archive"),
                    })?
                }
                _ => continue,
            };
            tree.entries.insert(key, Entry { mode, uid, gid, kind, package: None });
        }
        Ok(tree)
    }

    /// Number of entries, the root folder included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there is nothing but (at most) the root folder.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.len() <= 1
    }

    /// All entries in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Entries below `folder` (itself not included), in the order of their paths. Links are not followed.
    pub fn below<'a>(&'a self, folder: &str) -> impl Iterator<Item = (&'a str, &'a Entry)> + use<'a> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let range: Range<'_, String, Entry> = self.entries.range((Bound::Excluded(prefix.clone()), Bound::Unbounded));
        range.take_while(move |(path, _)| path.starts_with(&prefix)).map(|(path, entry)| (path.as_str(), entry))
    }

    /// The entry at exactly this path; links are not followed.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, path: &str) -> Option<&mut Entry> {
        self.entries.get_mut(path)
    }

    /// Follows links in every part of `path` (a leading slash is allowed) and returns the path of what it names, or `None` if there is
    /// nothing: `/lib/modules` gives `usr/lib/modules`.
    #[must_use]
    pub fn resolve(&self, path: &str) -> Option<String> {
        let mut rest: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut at = String::new();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    at.truncate(at.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let next = if at.is_empty() { part } else { format!("{at}/{part}") };
            match &self.entries.get(&next)?.kind {
                Kind::Link(target) => {
                    links += 1;
                    if links > LINKS {
                        return None;
                    }
                    if target.starts_with('/') {
                        at.clear();
                    }
                    rest.extend(target.split('/').rev().map(str::to_owned));
                }
                Kind::Folder | Kind::File(_) => at = next,
            }
        }
        Some(at)
    }

    /// The content of the file that `path` names, links followed.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let missing = |why: &str| Error::Tree { path: path.to_owned(), why: why.to_owned() };
        let real = self.resolve(path).ok_or_else(|| missing("is not there"))?;
        let entry = self.entries.get(&real).ok_or_else(|| missing("is not there"))?;
        entry.content().ok_or_else(|| missing("is not a file"))?.read()
    }

    /// Puts an entry at `path` (parents are made as needed: root's, 0755), replacing what was there.
    pub fn insert(&mut self, path: &str, entry: Entry) {
        let path = clean(path);
        let mut end = 0;
        while let Some(slash) = path[end..].find('/') {
            end += slash;
            let parent = &path[..end];
            if !self.entries.contains_key(parent) {
                let folder = Entry { mode: 0o755, uid: 0, gid: 0, kind: Kind::Folder, package: None };
                self.entries.insert(parent.to_owned(), folder);
            }
            end += 1;
        }
        self.entries.insert(path, entry);
    }

    /// A file of root's.
    pub fn file(&mut self, path: &str, mode: u32, content: impl Into<Content>) {
        self.insert(path, Entry { mode, uid: 0, gid: 0, kind: Kind::File(content.into()), package: None });
    }

    /// A folder.
    pub fn folder(&mut self, path: &str, mode: u32) {
        self.insert(path, Entry { mode, uid: 0, gid: 0, kind: Kind::Folder, package: None });
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.insert(path, Entry { mode: 0o777, uid: 0, gid: 0, kind: Kind::Link(target.to_owned()), package: None });
    }

    /// Takes out `path` and all below it; false if there was nothing.
    pub fn remove(&mut self, path: &str) -> bool {
        let below: Vec<String> = self.below(path).map(|(path, _)| path.to_owned()).collect();
        for path in &below {
            self.entries.remove(path);
        }
        self.entries.remove(path).is_some() || !below.is_empty()
    }

    /// Keeps the entries for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &Entry) -> bool) {
        self.entries.retain(|path, entry| path.is_empty() || keep(path, entry));
    }

    /// Writes the tree as a tar archive: sorted, every time the same (`epoch_s`), names of owners left out.
    pub fn write_tar(&self, out: &mut dyn Write, epoch_s: u64) -> std::io::Result<()> {
        let mut archive = tar::Builder::new(out);
        archive.mode(tar::HeaderMode::Complete);
        for (path, entry) in &self.entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(entry.mode);
            header.set_uid(entry.uid.into());
            header.set_gid(entry.gid.into());
            header.set_mtime(epoch_s);
            header.set_size(0);
            let name = format!("./{path}");
            match &entry.kind {
                Kind::Folder => {
                    header.set_entry_type(tar::EntryType::Directory);
                    archive.append_data(
                        &mut header,
                        if path.is_empty() { "./".to_owned() } else { format!("{name}/") },
                        std::io::empty(),
                    )?;
                }
                Kind::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    archive.append_link(&mut header, name, target)?;
                }
                Kind::File(content) => {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_size(content.len());
                    let reader = Reader { content, at: 0 };
                    archive.append_data(&mut header, name, reader)?;
                }
            }
        }
        archive.into_inner()?.flush()
    }
}

/// Reads a content from front to back without holding it.
struct Reader<'a> {
    content: &'a Content,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.content.len() - self.at).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        let read = match self.content {
            Content::Bytes(bytes) => {
                let at = usize::try_from(self.at).map_err(std::io::Error::other)?;
                buffer[..wanted].copy_from_slice(&bytes[at..at + wanted]);
                wanted
            }
            Content::Slice { archive, offset, .. } => archive.read_at(&mut buffer[..wanted], offset + self.at)?,
            // Files of the build machine are few (our own programs): opening again for each stretch costs nothing.
            Content::File { path, .. } => File::open(path)?.read_at(&mut buffer[..wanted], self.at)?,
        };
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.at += read as u64;
        Ok(read)
    }
}

/// A path without `./`, doubled slashes and a slash at either end.
fn clean(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if !out.is_empty() {
            out.push('/');
        }
        out.push_str(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tree {
        let mut tree = Tree::new();
        tree.file("usr/lib/modules/6.1/modules.dep", 0o644, b"a".to_vec());
        tree.file("usr/bin/mount", 0o755, b"mount".to_vec());
        tree.link("lib", "usr/lib");
        tree.link("sbin", "/usr/sbin");
        tree.link("usr/sbin", "bin");
        tree.link("usr/lib/loop", "loop");
        tree.link("usr/lib/up", "../../usr/bin/mount");
        tree
    }

    #[test]
    fn follows_links_as_the_kernel_does() {
        let tree = sample();
        assert_eq!(tree.resolve("/lib/modules/6.1/modules.dep").as_deref(), Some("usr/lib/modules/6.1/modules.dep"));
        assert_eq!(tree.resolve("/sbin/mount").as_deref(), Some("usr/bin/mount"));
        assert_eq!(tree.resolve("lib/up").as_deref(), Some("usr/bin/mount"));
        assert_eq!(tree.resolve("lib/loop"), None);
        assert_eq!(tree.resolve("lib/nothing"), None);
        assert_eq!(tree.read("/sbin/mount").unwrap(), b"mount");
        assert!(tree.read("lib").is_err());
    }

    #[test]
    fn below_and_remove_take_whole_folders_only() {
        let mut tree = sample();
        tree.file("usr/lib-old/x", 0o644, Vec::new());
        assert_eq!(
            tree.below("usr/lib/modules").map(|(path, _)| path).collect::<Vec<_>>(),
            ["usr/lib/modules/6.1", "usr/lib/modules/6.1/modules.dep"]
        );
        assert!(tree.remove("usr/lib"));
        assert!(tree.get("usr/lib-old/x").is_some());
        assert!(tree.get("usr/lib/modules").is_none());
        assert!(!tree.remove("usr/lib"));
    }

    #[test]
    fn a_tar_round_trip_keeps_everything_and_is_the_same_each_time() {
        let mut tree = sample();
        tree.get_mut("usr/bin/mount").unwrap().uid = 70_000;
        tree.file(&format!("usr/share/{}/x", "long".repeat(40)), 0o600, vec![7; 100_000]);
        let mut first = Vec::new();
        tree.write_tar(&mut first, 1_000).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tree.tar");
        std::fs::write(&path, &first).unwrap();
        let again = Tree::from_tar(&path).unwrap();
        assert_eq!(again.len(), tree.len());
        for ((left, a), (right, b)) in tree.iter().zip(again.iter()) {
            assert_eq!((left, a.mode, a.uid, a.gid), (right, b.mode, b.uid, b.gid));
            match (&a.kind, &b.kind) {
                (Kind::Folder, Kind::Folder) => {}
                (Kind::Link(a), Kind::Link(b)) => assert_eq!(a, b),
                (Kind::File(a), Kind::File(b)) => assert_eq!(a.read().unwrap(), b.read().unwrap()),
                other => panic!("{left}: {other:?}"),
            }
        }
        let mut second = Vec::new();
        again.write_tar(&mut second, 1_000).unwrap();
        assert!(first == second);
    }
}
