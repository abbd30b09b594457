//! The folder of a node on the image: who owns what in it.
//!
//! Contract: the pair daemon, the system daemon and the console are root; mail and the modem's process have users of their own and the group
//! of the node in common. What both sides need lies in folders that give this group on (set-group-ID), which is also how the programs see
//! that a socket in them is to be shared. Secrets (identity, keys, passwords) are root's alone. [`prepare`] can be repeated; it never removes
//! anything.
//!
//! Failure classes: a file system that cannot be written: the caller hears which folder it was.

use nix::unistd::{Gid, Group, Uid, User, chown};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// User of the mail process.
pub const MAIL_USER: &str = "twinpost";
/// User of the modem's process.
pub const SMS_USER: &str = "twinpost-sms";
/// Group of both.
pub const GROUP: &str = "twinpost";
/// Sockets of the node's programs: gone with the power.
pub const RUN: &str = "/run/twinpost/node";

/// What could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot prepare {path}: {source}")]
pub struct Error {
    /// What.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Users and group of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct People {
    /// Of the mail process.
    pub mail: Uid,
    /// Of the modem's process.
    pub sms: Uid,
    /// Common to both.
    pub group: Gid,
}

impl People {
    /// As /etc/passwd and /etc/group have them.
    ///
    /// # Errors
    /// One is not there: this is no image of ours.
    pub fn find() -> Result<Self, Error> {
        let missing = |name: &str| Error {
            path: PathBuf::from("/etc/passwd"),
            source: io::Error::new(io::ErrorKind::NotFound, format!("no {name} there")),
        };
        let user = |name: &str| User::from_name(name).ok().flatten().map(|user| user.uid).ok_or_else(|| missing(name));
        let group = Group::from_name(GROUP).ok().flatten().map(|group| group.gid).ok_or_else(|| missing(GROUP))?;
        Ok(Self { mail: user(MAIL_USER)?, sms: user(SMS_USER)?, group })
    }
}

/// Makes the folders of the node in `node` and its folder for sockets, `run`.
///
/// # Errors
/// The first that could not be made.
pub fn prepare(node: &Path, run: &Path, people: &People) -> Result<(), Error> {
    let root = Uid::from_raw(0);
    // sys_stat.h(0): 02000 gives the group on. Each program makes its sockets in a folder where nobody else can make or remove one; the group may connect.
    folder(run, root, people.group, 0o2750)?;
    folder(&run.join("mail"), people.mail, people.group, 0o2750)?;
    folder(&run.join("sms"), people.sms, people.group, 0o2750)?;
    folder(node, root, people.group, 0o2750)?;
    folder(&node.join("tls"), root, people.group, 0o2750)?;
    folder(&node.join("pair"), root, people.group, 0o750)?;
    folder(&node.join("pair/aside"), root, people.group, 0o2750)?;
    folder(&node.join("config"), root, Gid::from_raw(0), 0o700)?;
    folder(&node.join("sms"), people.sms, people.group, 0o700)?;
    folder(&node.join("modem"), people.sms, people.group, 0o700)?;
    // Where the mail volume is mounted. While it is not, nobody may write there: mail on the wrong disk would be lost.
    let data = node.join("data");
    if !mounted(&data) {
        folder(&data, root, Gid::from_raw(0), 0o500)?;
    }
    let link = node.join("run");
    if std::fs::read_link(&link).ok().as_deref() != Some(run) {
        let failed = |source| Error { path: link.clone(), source };
        if link.is_symlink() || link.is_file() {
            std::fs::remove_file(&link).map_err(failed)?;
        } else if link.is_dir() {
            // An earlier program without this rule: only dead sockets are in it.
            std::fs::remove_dir_all(&link).map_err(failed)?;
        }
        std::os::unix::fs::symlink(run, &link).map_err(failed)?;
    }
    for file in ["appliance.toml", "node.toml"] {
        let path = node.join(file);
        if path.exists() {
            own(&path, root, people.group, 0o640)?;
        }
    }
    Ok(())
}

fn mounted(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).map(|about| about.dev()).ok();
    let above = path.parent().and_then(device);
    above.is_some() && device(path).is_some_and(|device| Some(device) != above)
}

fn folder(path: &Path, user: Uid, group: Gid, mode: u32) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(|source| Error { path: path.to_owned(), source })?;
    own(path, user, group, mode)
}

fn own(path: &Path, user: Uid, group: Gid, mode: u32) -> Result<(), Error> {
    let failed = |source| Error { path: path.to_owned(), source };
    chown(path, Some(user), Some(group)).map_err(|errno| failed(errno.into()))?;
    // After chown, which takes the special bits away.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_once_and_kept() {
        use std::os::unix::fs::MetadataExt;
        if !nix::unistd::geteuid().is_root() {
            // Only root may give files away; the image's boot is root, and so are the machines that test it.
            return;
        }
        let dir = std::env::temp_dir().join(format!("twinpost-folder-{}", std::process::id()));
        let (node, run) = (dir.join("node"), dir.join("run"));
        let people = People { mail: Uid::from_raw(4001), sms: Uid::from_raw(4002), group: Gid::from_raw(4000) };
        for _ in 0..2 {
            prepare(&node, &run, &people).unwrap();
            let mode = |path: &str| std::fs::metadata(node.join(path)).unwrap().permissions().mode() & 0o7777;
            assert_eq!([mode("."), mode("pair"), mode("pair/aside"), mode("data")], [0o2750, 0o750, 0o2750, 0o500]);
            assert_eq!(mode("run"), 0o2750, "the link leads to the folder of the sockets");
            let owner = |path: &str| (std::fs::metadata(node.join(path)).unwrap().uid(), mode(path));
            assert_eq!([owner("run/mail"), owner("run/sms")], [(4001, 0o2750), (4002, 0o2750)]);
            std::fs::write(node.join("appliance.toml"), "version = 1\n").unwrap();
        }
        let about = std::fs::metadata(node.join("appliance.toml")).unwrap();
        assert_eq!((about.gid(), about.mode() & 0o777), (4000, 0o640));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
