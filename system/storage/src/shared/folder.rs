//! The "mount" of a shared folder: a symbolic link from the node's folder to the shared data, made and removed without losing any.
//!
//! Contract: called by the holder of the lock only. Data is only ever moved by one rename, and only into a place that holds none; whoever
//! finds data in both places gets [`Error::TwoDataFolders`] and nothing was changed. Each step may be cut by a crash: the next call goes on.

use crate::Error;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

/// What stands at a path.
enum Found {
    Nothing,
    Link(PathBuf),
    Empty,
    Full,
    Other,
}

fn find(path: &Path) -> Result<Found, Error> {
    let about = match fs::symlink_metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(Error::io("look at", path)(error)),
    };
    if about.is_symlink() {
        return Ok(Found::Link(fs::read_link(path).map_err(Error::io("read the link", path))?));
    }
    if !about.is_dir() {
        return Ok(Found::Other);
    }
    let first = fs::read_dir(path).and_then(|mut list| list.next().transpose()).map_err(Error::io("list", path))?;
    Ok(if first.is_some() { Found::Full } else { Found::Empty })
}

pub(crate) fn sync_folder(path: &Path) -> Result<(), Error> {
    fs::File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::io("make durable", path))
}

pub(crate) fn make_folder(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::io("create", path))
}

fn parent(path: &Path) -> Result<&Path, Error> {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .ok_or_else(|| Error::Unfit { path: path.into(), why: "must be an absolute path below some folder".into() })
}

/// Makes sure that the data is in the shared folder, adopting the data of a node that was alone. `ever`: the volume was in use before.
pub(crate) fn adopt(data: &Path, mount: &Path, ever: bool) -> Result<(), Error> {
    match (find(mount)?, find(data)?) {
        (Found::Other, _) => {
            Err(Error::Unfit { path: mount.into(), why: "is not a folder; the mail volume belongs there".into() })
        }
        (_, Found::Other) => {
            Err(Error::Unfit { path: data.into(), why: "is not a folder; the mail volume belongs there".into() })
        }
        (Found::Full, Found::Full) => Err(Error::TwoDataFolders { here: mount.into(), there: data.into() }),
        (Found::Full, Found::Link(_)) => {
            Err(Error::Unfit { path: data.into(), why: "is a symbolic link; the mail volume belongs there".into() })
        }
        // rename(2) puts a folder in the place of an empty one in one step.
        (Found::Full, Found::Nothing | Found::Empty) => {
            fs::rename(mount, data).map_err(|error| {
                if error.kind() == ErrorKind::CrossesDevices {
                    let why = format!("lies on another disk than {}; move it there while nothing runs", data.display());
                    return Error::Unfit { path: mount.into(), why };
                }
                Error::io("move into the shared folder", mount)(error)
            })?;
            sync_folder(parent(data)?)?;
            sync_folder(parent(mount)?)?;
            tracing::info!(from = %mount.display(), to = %data.display(), "the mail volume of this node is now shared");
            Ok(())
        }
        // An empty mailbox instead of a lost one would look like success.
        (_, Found::Nothing) if ever => Err(Error::Unfit {
            path: data.into(),
            why: "the mail volume is gone; put it back, or make an empty folder to start anew".into(),
        }),
        (_, Found::Nothing) => {
            make_folder(data)?;
            sync_folder(parent(data)?)
        }
        (_, Found::Link(_) | Found::Empty | Found::Full) => Ok(()),
    }
}

/// Text of the link: relative, so that the whole folder can be moved.
fn target(data: &Path, mount: &Path) -> Result<PathBuf, Error> {
    let at = |path: &Path| fs::canonicalize(path).map_err(Error::io("find", path));
    let from = at(parent(mount)?)?;
    let to = at(parent(data)?)?.join(data.file_name().unwrap_or_default());
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    Ok(up.chain(to.components().skip(shared)).collect())
}

/// Whether the link is the one that [`link`] makes.
fn is_ours(text: &Path, data: &Path, mount: &Path) -> Result<bool, Error> {
    if target(data, mount).is_ok_and(|ours| ours == text) {
        return Ok(true);
    }
    match (fs::canonicalize(mount), fs::canonicalize(data)) {
        (Ok(there), Ok(data)) => Ok(there == data),
        _ => Ok(false),
    }
}

/// Makes the link.
pub(crate) fn link(data: &Path, mount: &Path) -> Result<(), Error> {
    match find(mount)? {
        Found::Link(text) if is_ours(&text, data, mount)? => return Ok(()),
        Found::Link(text) => {
            let why = format!("is a link to {} that this program did not make; remove it", text.display());
            return Err(Error::Unfit { path: mount.into(), why });
        }
        Found::Empty => fs::remove_dir(mount).map_err(Error::io("remove the empty folder", mount))?,
        Found::Nothing => {}
        // `adopt` has moved every other folder away.
        Found::Full | Found::Other => return Err(Error::TwoDataFolders { here: mount.into(), there: data.into() }),
    }
    std::os::unix::fs::symlink(target(data, mount)?, mount).map_err(Error::io("make the link", mount))
}

/// Removes the link, and nothing else.
pub(crate) fn unlink(data: &Path, mount: &Path) -> Result<(), Error> {
    match find(mount)? {
        Found::Link(text) if is_ours(&text, data, mount)? => fs::remove_file(mount).map_err(Error::io("remove the link", mount)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        folder: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir_all(folder.path().join("shared")).unwrap();
            fs::create_dir_all(folder.path().join("a")).unwrap();
            Self { folder }
        }
        fn data(&self) -> PathBuf {
            self.folder.path().join("shared/data")
        }
        fn mount(&self) -> PathBuf {
            self.folder.path().join("a/data")
        }
        fn up(&self, ever: bool) -> Result<(), Error> {
            adopt(&self.data(), &self.mount(), ever)?;
            link(&self.data(), &self.mount())
        }
    }

    #[test]
    fn a_new_pair_gets_an_empty_volume_and_a_relative_link() {
        let place = Place::new();
        place.up(false).unwrap();
        assert_eq!(fs::read_link(place.mount()).unwrap(), Path::new("../shared/data"));
        place.up(true).unwrap();
        fs::write(place.mount().join("mail"), "x").unwrap();
        unlink(&place.data(), &place.mount()).unwrap();
        assert!(!place.mount().exists() && place.data().join("mail").exists());
        unlink(&place.data(), &place.mount()).unwrap();
    }

    #[test]
    fn a_node_that_was_alone_keeps_its_mail() {
        for empty_there in [false, true] {
            let place = Place::new();
            fs::create_dir(place.mount()).unwrap();
            fs::write(place.mount().join("mail"), "x").unwrap();
            if empty_there {
                fs::create_dir(place.data()).unwrap();
            }
            place.up(false).unwrap();
            assert_eq!(fs::read_to_string(place.data().join("mail")).unwrap(), "x");
            assert_eq!(fs::read_to_string(place.mount().join("mail")).unwrap(), "x");
        }
    }

    #[test]
    fn data_in_both_places_is_left_alone() {
        let place = Place::new();
        for folder in [place.mount(), place.data()] {
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("mail"), "x").unwrap();
        }
        assert!(matches!(place.up(false), Err(Error::TwoDataFolders { .. })));
        assert!(place.mount().join("mail").exists() && place.data().join("mail").exists());
        unlink(&place.data(), &place.mount()).unwrap();
        assert!(place.mount().join("mail").exists(), "a folder is never unlinked");
    }

    #[test]
    fn a_crash_between_move_and_link_is_made_good() {
        let place = Place::new();
        fs::create_dir(place.data()).unwrap();
        fs::write(place.data().join("mail"), "x").unwrap();
        place.up(true).unwrap();
        assert!(place.mount().join("mail").exists());
    }

    #[test]
    fn a_lost_volume_is_not_replaced_by_an_empty_one() {
        let place = Place::new();
        let error = place.up(true).unwrap_err();
        assert!(error.needs_a_person() && error.to_string().contains("gone"), "{error}");
        assert!(!place.data().exists());
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let place = Place::new();
        fs::create_dir(place.data()).unwrap();
        std::os::unix::fs::symlink("/tmp", place.mount()).unwrap();
        assert!(matches!(place.up(true), Err(Error::Unfit { .. })));
        unlink(&place.data(), &place.mount()).unwrap();
        assert!(fs::symlink_metadata(place.mount()).is_ok(), "a foreign link stays");
        fs::remove_file(place.mount()).unwrap();
        fs::write(place.mount(), "a file").unwrap();
        assert!(matches!(place.up(true), Err(Error::Unfit { .. })));
    }

    #[test]
    fn a_missing_node_folder_is_said() {
        let place = Place::new();
        fs::remove_dir(place.folder.path().join("a")).unwrap();
        let error = place.up(false).unwrap_err().to_string();
        assert!(error.contains("/a"), "{error}");
    }
}
