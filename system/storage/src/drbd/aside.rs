//! Keeping diverged data: before the losing copy is overwritten, its files are copied to this node's own folder for the merge.
//!
//! Contract: the copy is complete and durable before its folder gets its name, or there is none; free space is compared first. The
//! losing side is opened through DRBD, as primary without its peer, and mounted read-only: the journal that a crash left must be replayed to
//! read the files, and a replay that went past DRBD would change blocks that no resync would know of. The store of a mail volume is one
//! folder tree of packs, change log and index, so a plain copy of the tree is what the merge needs; no volume manager is involved.
//!
//! Afterwards this side connects as the one that gives its data up; it is overwritten once the other side's core allows that.

use super::{Inner, Mode};
use crate::Error;
use crate::shared::{make_folder, sync_folder};
use std::path::{Path, PathBuf};

/// Left free on the node's own disk.
const SPARE_BYTES: u64 = 64 << 20;
/// Deeper trees are not ours.
const DEPTH_MAX: u32 = 64;

impl Inner {
    pub(super) async fn keep_aside(&self) -> Result<PathBuf, Error> {
        if self.mode() != Mode::Standby {
            return Err(Error::Refused("an active node's data is the one that stays".into()));
        }
        let view = self.view.borrow().clone();
        if view.connected() && view.mirrored() && !self.state().diverged {
            return Err(Error::Refused("the copies are equal: nothing has to be kept".into()));
        }
        let header = self.read_header().await?;
        if !view.stands_alone() {
            self.drbdadm(&["disconnect", "--force"]).await?;
        }
        // The fence handler is asked on the way to primary: this node writes nothing that anybody will be told of.
        self.mode.send_replace(Mode::Promoting);
        let copied = self.copy_all(header.reign).await;
        let given_up = self.demote().await;
        let folder = copied?;
        given_up?;
        // drbdsetup(8) connect --discard-my-data: holds for the one connection that follows.
        self.drbdadm(&["connect", "--discard-my-data"]).await?;
        self.state().diverged = false;
        tracing::warn!(folder = %folder.display(), "diverged mail was kept aside");
        Ok(folder)
    }

    async fn copy_all(&self, reign: u32) -> Result<PathBuf, Error> {
        self.become_primary(true).await?;
        self.volume.mount(true, self.settings.check, self.settings.promote).await?;
        let (from, state) = (self.settings.mount.clone(), self.settings.state.join("aside"));
        let (skip, owner) = (self.settings.aside_skip.clone(), self.settings.owner);
        tokio::task::spawn_blocking(move || {
            let kept = keep(&from, &state, reign, &skip)?;
            if let Some(owner) = owner {
                give(&kept, owner, 0)?;
            }
            Ok(kept)
        })
        .await
        .map_err(|_| Error::Stopped)?
    }
}

/// Copies the tree into `aside/reign-R[-N]`.
fn keep(from: &Path, aside: &Path, reign: u32, skip: &[String]) -> Result<PathBuf, Error> {
    make_folder(aside)?;
    let needed = measure(from, skip, 0)?;
    let space = rustix::fs::statvfs(aside).map_err(|errno| Error::io("look at", aside)(errno.into()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if needed.saturating_add(SPARE_BYTES) > free {
        let why = format!("has {} MiB free, and {} MiB of diverged mail must be kept; make room", free >> 20, needed >> 20);
        return Err(Error::Unfit { path: aside.into(), why });
    }
    // Left by a crash: never had its name.
    let part = aside.join("part");
    if part.exists() {
        std::fs::remove_dir_all(&part).map_err(Error::io("remove", &part))?;
    }
    copy(from, &part, skip, 0)?;
    let mut to = aside.join(format!("reign-{reign}"));
    for n in 2.. {
        if !to.exists() {
            break;
        }
        to = aside.join(format!("reign-{reign}-{n}"));
    }
    std::fs::rename(&part, &to).map_err(Error::io("put in place", &to))?;
    sync_folder(aside)?;
    Ok(to)
}

/// The merge is the work of the mail process: what was kept is its user's.
fn give(path: &Path, owner: (u32, u32), depth: u32) -> Result<(), Error> {
    std::os::unix::fs::lchown(path, Some(owner.0), Some(owner.1)).map_err(Error::io("give to its user", path))?;
    if path.is_dir() && !path.is_symlink() {
        for entry in entries(path, &[], depth)? {
            give(&entry.path(), owner, depth + 1)?;
        }
    }
    Ok(())
}

fn entries(folder: &Path, skip: &[String], depth: u32) -> Result<Vec<std::fs::DirEntry>, Error> {
    if depth > DEPTH_MAX {
        return Err(Error::Unfit { path: folder.into(), why: "lies deeper than any mail store".into() });
    }
    let list =
        std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>).map_err(Error::io("list", folder))?;
    let wanted = |entry: &std::fs::DirEntry| depth > 0 || !skip.iter().any(|name| entry.file_name() == name.as_str());
    Ok(list.into_iter().filter(wanted).collect())
}

fn measure(folder: &Path, skip: &[String], depth: u32) -> Result<u64, Error> {
    let mut bytes = 0_u64;
    for entry in entries(folder, skip, depth)? {
        let about = entry.metadata().map_err(Error::io("look at", entry.path()))?;
        let more = if about.is_dir() { measure(&entry.path(), skip, depth + 1)? } else { about.len() };
        bytes = bytes.saturating_add(more).saturating_add(4096);
    }
    Ok(bytes)
}

fn copy(from: &Path, to: &Path, skip: &[String], depth: u32) -> Result<(), Error> {
    make_folder(to)?;
    for entry in entries(from, skip, depth)? {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(Error::io("look at", &path))?;
        if kind.is_dir() {
            copy(&path, &target, skip, depth + 1)?;
        } else if kind.is_file() {
            std::fs::copy(&path, &target).map_err(Error::io("copy", &path))?;
            let file = std::fs::File::open(&target).and_then(|file| file.sync_all());
            file.map_err(Error::io("make durable", &target))?;
        }
        // Sockets, links and the like hold no mail.
    }
    sync_folder(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_tree_is_kept_and_named_once() {
        let folder = tempfile::tempdir().unwrap();
        let (from, aside) = (folder.path().join("from"), folder.path().join("aside"));
        for (path, text) in [("packs/1", "mail"), ("log", "changes"), ("search/x", "index"), ("packs/search/y", "kept")] {
            let path = from.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        std::os::unix::fs::symlink("/etc", from.join("link")).unwrap();
        std::fs::create_dir_all(aside.join("part/torn")).unwrap();
        let skip = vec!["search".to_owned()];
        let kept = keep(&from, &aside, 7, &skip).unwrap();
        assert_eq!(kept, aside.join("reign-7"));
        assert_eq!(std::fs::read_to_string(kept.join("packs/1")).unwrap(), "mail");
        assert_eq!(std::fs::read_to_string(kept.join("packs/search/y")).unwrap(), "kept");
        assert!(!kept.join("search").exists() && !kept.join("link").exists() && !kept.join("torn").exists());
        assert_eq!(keep(&from, &aside, 7, &skip).unwrap(), aside.join("reign-7-2"), "an earlier one is never overwritten");
        assert!(!aside.join("part").exists());
        assert!(keep(&folder.path().join("none"), &aside, 8, &skip).is_err());
    }
}
