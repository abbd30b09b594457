//! The resource file of DRBD 8.4, rendered from settings.
//!
//! Contract: what is rendered parses, or an error says which setting cannot stand in such a file. The policies that decide about data are
//! not settings: synchronous replication (protocol C), writes frozen without the peer until it is fenced
//! (`resource-and-stonith`), and after a split brain never an automatic choice (`disconnect` in every case).
//!
//! Source: drbd.conf(5) of 8.4.

use crate::{Error, Program};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The programs that the driver runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Programs {
    /// `drbdadm`.
    pub drbdadm: Program,
    /// `drbdsetup`.
    pub drbdsetup: Program,
    /// `fsck.ext4`.
    pub fsck: Program,
    /// `mkfs.ext4`.
    pub mkfs: Program,
    /// `mount`.
    pub mount: Program,
    /// `umount`.
    pub umount: Program,
}

impl Default for Programs {
    fn default() -> Self {
        Self {
            drbdadm: Program::new("drbdadm"),
            drbdsetup: Program::new("drbdsetup"),
            fsck: Program::new("fsck.ext4"),
            mkfs: Program::new("mkfs.ext4"),
            mount: Program::new("mount"),
            umount: Program::new("umount"),
        }
    }
}

/// One node of the resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// Host name (`uname -n`): DRBD finds its own section by it.
    pub name: String,
    /// Address and port of the replication link (eth1).
    pub address: SocketAddr,
    /// The disk below: `/dev/md0`.
    pub disk: PathBuf,
}

/// Where the volume is and how it is mirrored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// This node.
    pub this: Host,
    /// The other.
    pub peer: Host,
    /// Name of the resource: letters, digits, `-`, `_`.
    pub resource: String,
    /// Number of the block device: `/dev/drbdN`.
    pub minor: u32,
    /// The block device, `/dev/drbdN` unless a test says otherwise.
    pub device: PathBuf,
    /// Known to both nodes only; up to 64 characters.
    pub secret: String,
    /// Where the volume is mounted while this node is active.
    pub mount: PathBuf,
    /// Folder of this node, outside of the volume: diverged data is kept there.
    pub state: PathBuf,
    /// User and group of the program that works in the volume, when it is not the daemon's own: the root of the volume and what is kept aside
    /// are theirs.
    pub owner: Option<(u32, u32)>,
    /// The resource file that the driver writes.
    pub config: PathBuf,
    /// Socket on which the driver answers DRBD's handlers.
    pub socket: PathBuf,
    /// Program and first arguments of the handler; the socket and DRBD's word for what it asks are added. It calls
    /// [`run_handler`](super::run_handler).
    pub handler: Vec<String>,
    /// Names of folders in the volume that are not worth keeping aside: what can be made anew.
    pub aside_skip: Vec<String>,
    /// A promote, without the file-system check.
    pub promote: Duration,
    /// A demote.
    pub demote: Duration,
    /// The file-system check: a large damaged volume takes long.
    pub check: Duration,
    /// How long an active lets a resync wait for the core's word, while writes wait for it too; then the resync is refused and
    /// begins with the next connection.
    pub resync_patience: Duration,
    /// A resync gets so much beside mail, in KiB/s. DRBD's default of 250 (drbd.conf(5), `c-min-rate`) keeps a node that comes back
    /// while mail flows behind for minutes in which it cannot take over.
    pub resync_min_kib_s: u32,
    /// A resync never takes more of the link than this, in KiB/s.
    pub resync_max_kib_s: u32,
    /// The kernel's table of mounts.
    pub mountinfo: PathBuf,
    /// DRBD's own table: it counts differing blocks while no peer is connected, when its events say nothing of them.
    pub table: PathBuf,
    /// Programs.
    pub programs: Programs,
}

impl Settings {
    /// With the appliance's paths and times.
    #[must_use]
    pub fn new(this: Host, peer: Host, secret: String, mount: PathBuf, state: PathBuf) -> Self {
        Self {
            this,
            peer,
            resource: "mail".into(),
            minor: 0,
            device: "/dev/drbd0".into(),
            secret,
            mount,
            config: state.join("drbd.conf"),
            socket: state.join("drbd.sock"),
            handler: vec!["/usr/bin/twinpost".into(), "pair-handler".into()],
            state,
            owner: None,
            aside_skip: vec!["lost+found".into()],
            promote: Duration::from_secs(8),
            demote: Duration::from_secs(10),
            check: Duration::from_secs(600),
            resync_patience: Duration::from_millis(500),
            resync_min_kib_s: 32_768,
            resync_max_kib_s: 400_000,
            mountinfo: "/proc/self/mountinfo".into(),
            table: "/proc/drbd".into(),
            programs: Programs::default(),
        }
    }

    /// The resource file.
    pub fn render(&self) -> Result<String, Error> {
        let refused = |what: &str, why: &str| Error::Unfit { path: self.config.clone(), why: format!("{what} {why}") };
        let name = |what: &str, name: &str| {
            let good =
                !name.is_empty() && name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            if good { Ok(()) } else { Err(refused(what, "must be of letters, digits, '-', '_' and '.'")) }
        };
        let quoted = |what: &str, text: &str| {
            let good = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() || c == ' ') && !text.contains(['"', '\\']);
            if good { Ok(format!("\"{text}\"")) } else { Err(refused(what, "cannot stand between quotes in DRBD's file")) }
        };
        let path = |what: &str, path: &Path| {
            let text = path.to_str().filter(|text| text.starts_with('/'));
            text.ok_or_else(|| refused(what, "must be an absolute path")).and_then(|text| quoted(what, text))
        };
        name("the resource", &self.resource)?;
        name("the host name", &self.this.name)?;
        name("the peer's host name", &self.peer.name)?;
        if self.this.name == self.peer.name || self.this.address == self.peer.address {
            return Err(refused("both nodes", "have the same name or address"));
        }
        // SHARED_SECRET_MAX of linux/drbd.h counts the byte that ends the text.
        if self.secret.len() > 63 {
            return Err(refused("the secret", "is longer than 63 characters"));
        }
        let mut out = String::from(
            "# Written by the pair daemon at each start; what is changed here is lost.\nglobal { usage-count no; }\n",
        );
        let handler = |kind: &str| quoted("the handler", &format!("{} {} {kind}", self.handler.join(" "), self.socket.display()));
        let _ = write!(
            out,
            "resource {name} {{
    device minor {minor};
    meta-disk internal;
    net {{
        protocol C;
        cram-hmac-alg sha256;
        shared-secret {secret};
        timeout 20;
        connect-int 3;
        ping-int 1;
        ping-timeout 5;
        after-sb-0pri disconnect;
        after-sb-1pri disconnect;
        after-sb-2pri disconnect;
        rr-conflict disconnect;
        verify-alg crc32c;
    }}
    disk {{
        fencing resource-and-stonith;
        on-io-error detach;
        c-min-rate {least};
        c-max-rate {rate};
    }}
    handlers {{
        fence-peer {fence};
        before-resync-source {source};
        before-resync-target {target};
        split-brain {split};
    }}
",
            name = self.resource,
            minor = self.minor,
            secret = quoted("the secret", &self.secret)?,
            least = self.resync_min_kib_s,
            rate = self.resync_max_kib_s,
            fence = handler("fence-peer")?,
            source = handler("before-resync-source")?,
            target = handler("before-resync-target")?,
            split = handler("split-brain")?,
        );
        for (what, host) in [("the disk", &self.this), ("the peer's disk", &self.peer)] {
            let family = if host.address.is_ipv6() { "ipv6 " } else { "" };
            let _ = writeln!(
                out,
                "    on {} {{\n        address {family}{};\n        disk {};\n    }}",
                host.name,
                host.address,
                path(what, &host.disk)?
            );
        }
        out.push_str("}\n");
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn settings() -> Settings {
        let host = |name: &str, n: u8| Host {
            name: name.into(),
            address: SocketAddr::from(([10, 1, 1, n], 7789)),
            disk: "/dev/md0".into(),
        };
        Settings::new(host("a", 1), host("b", 2), "s3cret of both".into(), "/data".into(), "/state".into())
    }

    #[test]
    fn drbds_own_parser_takes_it() {
        // drbd-utils' program for 8.4 kernels.
        let Some(drbdadm) =
            ["/lib/drbd/drbdadm-84", "/usr/lib/drbd/drbdadm-84"].into_iter().find(|path| Path::new(path).exists())
        else {
            // Where drbd-utils is not installed its parser cannot judge; `make test` installs it.
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("drbd.conf");
        let mut settings = settings();
        for address in ["10.1.1.1:7789", "[fd00::1]:7789"] {
            settings.this.address = address.parse().unwrap();
            if address.starts_with('[') {
                settings.peer.address = "[fd00::2]:7789".parse().unwrap();
            }
            std::fs::write(&file, settings.render().unwrap()).unwrap();
            let done = Command::new(drbdadm)
                .args(["-c", file.to_str().unwrap(), "dump", "mail"])
                .env("__DRBD_NODE__", "a")
                .output()
                .unwrap();
            let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
            assert!(done.status.success(), "{err}");
            for wanted in [
                "resource-and-stonith",
                "pair-handler /state/drbd.sock fence-peer",
                "s3cret of both",
                "/dev/md0",
                address.split(':').next().unwrap(),
            ] {
                assert!(out.contains(wanted), "{wanted}: {out}");
            }
        }
    }

    #[test]
    fn what_cannot_stand_in_the_file_is_refused() {
        let spoil: [fn(&mut Settings); 9] = [
            |s| s.resource = "a b".into(),
            |s| s.resource = String::new(),
            |s| s.secret = "x\"; } evil".into(),
            |s| s.secret = "x".repeat(64),
            |s| s.secret = "a\nb".into(),
            |s| s.this.disk = "relative".into(),
            |s| s.peer.name = s.this.name.clone(),
            |s| s.peer.address = s.this.address,
            |s| s.handler = vec!["/bin/x\"y".into()],
        ];
        for (n, spoil) in spoil.into_iter().enumerate() {
            let mut settings = settings();
            spoil(&mut settings);
            assert!(matches!(settings.render(), Err(Error::Unfit { .. })), "case {n}");
        }
    }
}
