//! The packages of the base archive: what dpkg wrote about them, before it is stripped.
//!
//! Contract: `var/lib/dpkg/status` and the file lists are read as deb822(5) and dpkg-query(1) describe them; every file of the tree learns
//! its package. Failure class: an archive without dpkg's records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::tree::{Content, Entry, Kind, Tree};

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Name.
    pub name: String,
    /// Version of the binary package.
    pub version: String,
    /// Architecture.
    pub architecture: String,
    /// Source package and its version.
    pub source: (String, String),
    /// Who maintains it.
    pub maintainer: String,
    /// Home page of the upstream project.
    pub homepage: Option<String>,
    /// SHA-256 of the package's archive, from the signed package lists.
    pub sha256: Option<String>,
    /// Text of its copyright file.
    pub copyright: Option<String>,
}

/// Reads the packages of an unstripped tree, by name.
pub fn read(tree: &Tree) -> Result<Vec<Package>> {
    let status = String::from_utf8_lossy(&tree.read("var/lib/dpkg/status")?).into_owned();
    let mut packages: Vec<Package> = status.split("\n\n").filter_map(stanza).collect();
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    for package in &mut packages {
        let file = tree.read(&format!("usr/share/doc/{}/copyright", package.name));
        package.copyright = file.ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    }
    sums(tree, &mut packages)?;
    Ok(packages)
}

/// Fills in the checksums from apt's lists (`var/lib/apt/lists/*_Packages`), which apt checked against the signature of the suite.
fn sums(tree: &Tree, packages: &mut [Package]) -> Result<()> {
    let wanted: BTreeSet<(&str, &str, &str)> =
        packages.iter().map(|one| (one.name.as_str(), one.version.as_str(), one.architecture.as_str())).collect();
    let mut found = BTreeMap::new();
    for (path, entry) in tree.below("var/lib/apt/lists").filter(|(path, _)| path.ends_with("_Packages")) {
        let Some(content) = entry.content() else { continue };
        let bytes = content.read()?;
        let text =
            std::str::from_utf8(&bytes).map_err(|error| Error::Format { what: path.to_owned(), why: error.to_string() })?;
        // Tens of megabytes: one pass over the lines, the four fields as they come by.
        let (mut name, mut version, mut architecture) = ("", "", "");
        for line in text.lines() {
            match line.split_once(": ") {
                Some(("Package", value)) => name = value,
                Some(("Version", value)) => version = value,
                Some(("Architecture", value)) => architecture = value,
                Some(("SHA256", value)) if wanted.contains(&(name, version, architecture)) => {
                    found.insert((name.to_owned(), version.to_owned()), value.to_owned());
                }
                _ => {}
            }
        }
    }
    for package in packages {
        package.sha256 = found.remove(&(package.name.clone(), package.version.clone()));
    }
    Ok(())
}

fn stanza(text: &str) -> Option<Package> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name).and_then(|rest| rest.strip_prefix(':')));
        line.map(|value| value.trim().to_owned())
    };
    if field("Status")? != "install ok installed" {
        return None;
    }
    let (name, version) = (field("Package")?, field("Version")?);
    // `Source: linux-signed-amd64 (6.1.1+1)`; without it the source has the package's own name and version.
    let source = match field("Source") {
        None => (name.clone(), version.clone()),
        Some(source) => match source.split_once(" (") {
            Some((source, version)) => (source.to_owned(), version.trim_end_matches(')').to_owned()),
            None => (source, version.clone()),
        },
    };
    Some(Package {
        architecture: field("Architecture")?,
        source,
        maintainer: field("Maintainer").unwrap_or_default(),
        homepage: field("Homepage"),
        sha256: None,
        copyright: None,
        name,
        version,
    })
}

/// Files that a package's installation makes, so that no list names them.
const GENERATED: [(&str, &str); 1] = [("etc/ssl/certs/ca-certificates.crt", "ca-certificates")];
/// Where the image keeps the packages' notices.
const NOTICES: &str = "usr/share/doc";

/// Takes the copyright notices of all packages from an unstripped tree: the licences ask that they come with the programs.
#[must_use]
pub fn notices(tree: &Tree, packages: &[Package]) -> BTreeMap<Arc<str>, Content> {
    let of = |package: &Package| {
        // The folder may be a link to that of a sister package.
        let real = tree.resolve(&format!("{NOTICES}/{}/copyright", package.name))?;
        Some((package.name.as_str().into(), tree.get(&real)?.content()?.clone()))
    };
    packages.iter().filter_map(of).collect()
}

/// Puts the notices of the packages that are still in the tree back into it.
pub fn keep_notices(tree: &mut Tree, mut notices: BTreeMap<Arc<str>, Content>) {
    let inside: BTreeSet<Arc<str>> = tree.iter().filter_map(|(_, entry)| entry.package.clone()).collect();
    for package in inside {
        if let Some(content) = notices.remove(&package) {
            let path = format!("{NOTICES}/{package}/copyright");
            tree.insert(&path, Entry { mode: 0o644, uid: 0, gid: 0, kind: Kind::File(content), package: Some(package) });
        }
    }
}

/// Tells every file of an unstripped tree which package it came from.
pub fn attribute(tree: &mut Tree, packages: &[Package]) {
    let mut owners: BTreeMap<String, Arc<str>> = BTreeMap::new();
    for package in packages {
        let name: Arc<str> = package.name.as_str().into();
        let places =
            [format!("var/lib/dpkg/info/{name}.list"), format!("var/lib/dpkg/info/{name}:{}.list", package.architecture)];
        let Some(list) = places.iter().find_map(|path| tree.read(path).ok()) else { continue };
        for path in String::from_utf8_lossy(&list).lines() {
            // Lists say /lib where the merged tree has /usr/lib; the last part may itself be a link.
            let path = path.trim_matches('/');
            let real = match path.rsplit_once('/') {
                Some((folder, file)) => tree.resolve(folder).map(|folder| format!("{folder}/{file}")),
                None => Some(path.to_owned()),
            };
            owners.extend(real.map(|real| (real, Arc::clone(&name))));
        }
    }
    for (path, name) in GENERATED {
        if packages.iter().any(|package| package.name == name) {
            owners.insert(path.to_owned(), name.into());
        }
    }
    for (path, name) in owners {
        if let Some(entry) = tree.get_mut(&path).filter(|entry| !matches!(entry.kind, Kind::Folder)) {
            entry.package = Some(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Package: mdadm\nStatus: install ok installed\nMaintainer: Debian QA <a@b>\nArchitecture: amd64\nVersion: 4.2-5\nDescription: x\n long\n\n\
                          Package: linux-image\nStatus: install ok installed\nArchitecture: amd64\nSource: linux-signed-amd64 (6.1.1+1)\nVersion: 6.1.1-1\n\n\
                          Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n";

    #[test]
    fn installed_packages_and_their_files() {
        let mut tree = Tree::new();
        tree.file("var/lib/dpkg/status", 0o644, STATUS.as_bytes().to_vec());
        tree.file("var/lib/dpkg/info/mdadm.list", 0o644, b"/.\n/sbin\n/sbin/mdadm\n/usr/share/doc/mdadm/copyright\n".to_vec());
        tree.file("usr/share/doc/mdadm/copyright", 0o644, b"GPL".to_vec());
        let list = "Package: mdadm\nVersion: 4.1-1\nArchitecture: amd64\nSHA256: 00\n\nPackage: mdadm\nVersion: 4.2-5\nArchitecture: amd64\nSize: 1\nSHA256: 11\n";
        tree.file("var/lib/apt/lists/x_main_binary-amd64_Packages", 0o644, list.as_bytes().to_vec());
        tree.link("sbin", "usr/sbin");
        tree.file("usr/sbin/mdadm", 0o755, b"m".to_vec());
        let packages = read(&tree).unwrap();
        assert_eq!(packages.iter().map(|package| package.name.as_str()).collect::<Vec<_>>(), ["linux-image", "mdadm"]);
        assert_eq!(packages[0].source, ("linux-signed-amd64".to_owned(), "6.1.1+1".to_owned()));
        assert_eq!((packages[0].sha256.as_deref(), packages[1].sha256.as_deref()), (None, Some("11")));
        assert_eq!(packages[1].copyright.as_deref(), Some("GPL"));
        attribute(&mut tree, &packages);
        assert_eq!(tree.get("usr/sbin/mdadm").unwrap().package.as_deref(), Some("mdadm"));
        assert_eq!(tree.get("usr/sbin").unwrap().package, None);
        let notices = notices(&tree, &packages);
        tree.remove("usr/share");
        keep_notices(&mut tree, notices);
        assert_eq!(tree.read("usr/share/doc/mdadm/copyright").unwrap(), b"GPL");
        assert!(tree.get("usr/share/doc/linux-image").is_none());
    }
}
