//! Files of /etc and /run, from the documents.

use super::Fault;
use super::firewall::{FIREWALL_FILE, elements, opened};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use twinpost_config::{Document, NodeDocument};

/// Path and text of each file.
pub type Files = BTreeMap<PathBuf, String>;

/// What files are made from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// `node.toml`; its defaults before a setup.
    pub node: &'a NodeDocument,
    /// The appliance document; none before a setup.
    pub document: Option<&'a Document>,
    /// 32 hexadecimal digits (machine-id(5)), kept on the state volume.
    pub machine_id: Option<&'a str>,
}

/// The machine's name: `twinpost-a`. DRBD finds its own section by it.
#[must_use]
pub fn host_name(node: &NodeDocument) -> String {
    match node.node.name.as_deref() {
        Some(letter) => format!("twinpost-{letter}"),
        None => "twinpost".to_owned(),
    }
}

/// All files.
#[must_use]
pub fn files(facts: Facts<'_>) -> Files {
    let Facts { node, document, machine_id } = facts;
    let mut files = Files::new();
    let mut add = |path: &str, text: String| drop(files.insert(PathBuf::from(path), text));
    add("/etc/hostname", format!("{}\n", host_name(node)));
    add("/etc/hosts", hosts(node, document));
    add("/etc/resolv.conf", resolv_conf(node));
    add("/etc/systemd/timesyncd.conf", timesyncd_conf(node));
    // mdadm.conf(5): nothing is assembled by itself; `twinpost boot` does it by bay.
    add(
        "/etc/mdadm/mdadm.conf",
        "# Arrays are put together by bay, by `twinpost boot` alone.\nAUTO -all\nHOMEHOST <ignore>\n".to_owned(),
    );
    if let Some(id) = machine_id {
        add("/etc/machine-id", format!("{id}\n"));
    }
    add(FIREWALL_FILE, elements(&opened(node, document)));
    files
}

fn hosts(node: &NodeDocument, document: Option<&Document>) -> String {
    let name = host_name(node);
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
    for (ip, _) in &node.lan.addresses {
        let _ = writeln!(text, "{ip} {name}");
    }
    if node.lan.addresses.is_empty() {
        let _ = writeln!(text, "127.0.1.1 {name}");
    }
    let peer = match node.node.name.as_deref() {
        Some("a") => Some("twinpost-b"),
        Some("b") => Some("twinpost-a"),
        _ => None,
    };
    let bound = node.pair.eth1.peer.or(node.pair.channel.peer).map(|at| at.ip());
    if let Some((peer, ip)) = peer.zip(bound) {
        let _ = writeln!(text, "{ip} {peer}");
    }
    // The name by which others know the service leads to the service address, also while the site's name servers are out of reach.
    if let Some(document) = document {
        for (ip, _) in &node.pair.address.addresses {
            let _ = writeln!(text, "{ip} {}", document.node.host_name);
        }
    }
    text
}

fn resolv_conf(node: &NodeDocument) -> String {
    let mut text = String::new();
    for server in &node.lan.dns {
        let _ = writeln!(text, "nameserver {server}");
    }
    if let Some(domain) = &node.lan.search {
        let _ = writeln!(text, "search {domain}");
    }
    // resolv.conf(5): its defaults are 5 s and 2 tries for each server, in turn; a dead first server would hold up every mail.
    text.push_str("options timeout:2 attempts:2\n");
    text
}

/// timesyncd.conf(5). An empty list empties what was compiled in: no server that nobody named is asked.
fn timesyncd_conf(node: &NodeDocument) -> String {
    format!("[Time]\nNTP={}\nFallbackNTP=\n", node.lan.ntp.join(" "))
}

/// Writes files below a root, each at once (a new file takes the old one's place); what has the right text already is left alone.
pub fn write(root: &Path, files: &Files) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, text) in files {
        let place = root.join(path.strip_prefix("/").unwrap_or(path));
        if let Err(error) = write_one(&place, text) {
            faults.push(Fault::new(
                "file",
                Some(&path.display().to_string()),
                format!("cannot write {}: {error}", path.display()),
                format!("无法写入 {}：{error}", path.display()),
            ));
        }
    }
    faults
}

pub(crate) fn write_one(place: &Path, text: &str) -> std::io::Result<()> {
    // A link (resolv.conf may be one) is replaced, not followed.
    let is_link = place.symlink_metadata().is_ok_and(|m| m.is_symlink());
    if !is_link && std::fs::read(place).is_ok_and(|now| now == text.as_bytes()) {
        return Ok(());
    }
    let folder = place.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(place.file_name().unwrap_or_default());
    name.push(".new");
    let fresh = folder.join(name);
    let mut file = std::fs::File::create(&fresh)?;
    file.write_all(text.as_bytes())?;
    // Every user of the node reads these, whatever the mask of the one who writes.
    file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    match std::fs::rename(&fresh, place) {
        // systemd(1) may have put a mount over /etc/machine-id: a mount point takes text, but no other file.
        Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
            let _ = std::fs::remove_file(&fresh);
            std::fs::write(place, text)
        }
        other => other,
    }
}

/// Whether an address is the peer's on cable or LAN, as the documents say.
pub(crate) fn peers(node: &NodeDocument) -> Vec<IpAddr> {
    let pair = &node.pair;
    let mut all: Vec<IpAddr> =
        [pair.eth1.peer, pair.lan.peer, pair.channel.peer, pair.storage.peer].into_iter().flatten().map(|at| at.ip()).collect();
    all.sort_unstable();
    all.dedup();
    all
}
