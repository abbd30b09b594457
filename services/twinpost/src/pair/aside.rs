//! Data that the peer set aside, brought here for the merge over the trusted channel.
//!
//! Contract: the files below one folder of the peer's `pair/aside/` come into `pair/aside/` here, each checked by its hash; a transfer that was cut
//! goes on where it was. A folder gets its name only when it is whole. What this node set aside itself is never touched.
//!
//! Failure classes: the channel does not stand, the peer set nothing aside, a disk refuses: a sentence; another try goes on.

use crate::node::Folder;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};
use twinpost_peer::{Answer, Channel, Refusal, RefusalKind, Request};

/// Name of the question which data was set aside.
pub const LIST: &str = "aside";
/// Files of one folder, at most; more are not ours.
const FILES_MAX: usize = 20_000;
/// Deeper trees are not ours.
const DEPTH_MAX: u32 = 16;

/// One folder that was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its name.
    pub name: String,
    /// Its files, by their path below it.
    pub files: Vec<String>,
}

/// What this node set aside itself: the newest, if any.
pub fn own(folder: &Folder) -> std::io::Result<Option<Offer>> {
    let newest = match std::fs::read_dir(folder.aside()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        entries => entries?.filter_map(Result::ok).map(|e| e.path()).filter(|p| p.is_dir() && !is_of_peer(p)).max(),
    };
    let Some(newest) = newest else { return Ok(None) };
    let mut files = Vec::new();
    walk(&newest, &newest, 0, &mut files)?;
    let name = newest.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Some(Offer { name, files }))
}

fn walk(root: &Path, dir: &Path, depth: u32, out: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        if kind.is_dir() && depth < DEPTH_MAX {
            walk(root, &path, depth + 1, out)?;
        } else if kind.is_file() && out.len() < FILES_MAX {
            let below = path.strip_prefix(root).ok().and_then(Path::to_str).map(str::to_owned);
            out.extend(below);
        }
    }
    Ok(())
}

/// Folders that came from the peer carry its mark.
const OF_PEER: &str = "-of-peer";

fn is_of_peer(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(OF_PEER))
}

/// A path that stays below the folder that it is joined to.
fn plain(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Where a file is that the peer asks for by `folder/path`.
///
/// # Errors
/// It is not one that was set aside here.
pub fn file(folder: &Folder, name: &str) -> Result<PathBuf, Refusal> {
    let refused = || Refusal::new(RefusalKind::NotFound, format!("no file is offered as {name:.120}"));
    let below = name.strip_prefix(LIST).and_then(|rest| rest.strip_prefix('/')).filter(|rest| plain(rest)).ok_or_else(refused)?;
    let path = folder.aside().join(below);
    if path.is_file() { Ok(path) } else { Err(refused()) }
}

/// Answers the peer's question.
///
/// # Errors
/// The folder cannot be read.
pub fn answer(folder: &Folder) -> Result<Answer, Refusal> {
    let offer = own(folder).map_err(|e| Refusal::new(RefusalKind::Failed, e.to_string()))?;
    serde_json::to_value(offer).map(Answer::Told).map_err(|e| Refusal::new(RefusalKind::Failed, e.to_string()))
}

/// The merge is the work of the mail process, which has a user of its own: what was brought becomes its.
fn give(path: &Path, owner: (u32, u32), depth: u32) -> std::io::Result<()> {
    std::os::unix::fs::lchown(path, Some(owner.0), Some(owner.1))?;
    if depth < DEPTH_MAX && std::fs::symlink_metadata(path)?.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give(&entry?.path(), owner, depth + 1)?;
        }
    }
    Ok(())
}

/// Brings what the peer set aside here, unless it is here already; gives its folder. It becomes `owner`'s (user and group), if there is one.
///
/// # Errors
/// A sentence.
pub async fn bring(folder: &Folder, channel: &Channel, owner: Option<(u32, u32)>) -> Result<Option<PathBuf>, String> {
    let question = Request::Order { name: LIST.to_owned(), arguments: serde_json::Value::Null };
    let told = match channel.call(question).await.map_err(|e| e.to_string())? {
        Answer::Told(value) => serde_json::from_value::<Option<Offer>>(value).map_err(|e| format!("the peer's answer: {e}"))?,
        other => return Err(format!("the peer's answer was {other:?}")),
    };
    let Some(offer) = told else { return Ok(None) };
    if !plain(&offer.name) || !offer.files.iter().all(|file| plain(file)) {
        return Err("the peer names files outside of its folder".to_owned());
    }
    let here = folder.aside().join(format!("{}{OF_PEER}", offer.name));
    if here.is_dir() {
        return Ok(Some(here));
    }
    let part = here.with_extension("part");
    for file in &offer.files {
        let to = part.join(file);
        let made = to.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.map_err(|e| format!("cannot make a folder for {}: {e}", to.display()))?;
        let name = format!("{LIST}/{}/{file}", offer.name);
        if !to.is_file() {
            let fetched = channel.fetch(&name, &to, |_| {}).await.map_err(|e| format!("{name}: {e}"))?;
            tracing::info!(file = name, bytes = fetched.bytes, "brought from the peer");
        }
    }
    if let Some(owner) = owner {
        give(&part, owner, 0).map_err(|e| format!("cannot give {} to its user: {e}", part.display()))?;
    }
    std::fs::rename(&part, &here).map_err(|e| format!("cannot name {}: {e}", here.display()))?;
    Ok(Some(here))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_brought_is_given_to_its_user() {
        use std::os::unix::fs::MetadataExt as _;
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let packs = dir.path().join("store/packs");
        std::fs::create_dir_all(&packs).unwrap();
        std::fs::write(packs.join("1"), b"x").unwrap();
        give(dir.path(), (4001, 4000), 0).unwrap();
        for path in [dir.path().to_owned(), packs.clone(), packs.join("1")] {
            let about = std::fs::metadata(&path).unwrap();
            assert_eq!((about.uid(), about.gid()), (4001, 4000), "{}", path.display());
        }
    }

    #[test]
    fn only_files_that_were_set_aside_are_given() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        assert_eq!(own(&folder).unwrap(), None);
        let aside = folder.aside().join("reign-7");
        std::fs::create_dir_all(aside.join("store/packs")).unwrap();
        std::fs::create_dir_all(folder.aside().join("reign-9-of-peer")).unwrap();
        std::fs::write(aside.join("store/packs/1"), b"x").unwrap();
        std::fs::write(folder.pair().join("node.key"), b"secret").unwrap();
        let offer = own(&folder).unwrap().unwrap();
        assert_eq!((offer.name.as_str(), offer.files), ("reign-7", vec!["store/packs/1".to_owned()]));
        assert!(file(&folder, "aside/reign-7/store/packs/1").is_ok());
        for wrong in
            ["aside/../node.key", "aside/reign-7/../../node.key", "aside//etc/passwd", "/etc/passwd", "aside/", "node.key"]
        {
            assert!(file(&folder, wrong).is_err(), "{wrong}");
        }
    }
}
