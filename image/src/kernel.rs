//! Which kernel modules stay in the root file system, and the tables that modprobe reads about them.
//!
//! Contract: a kept module has everything it depends on beside it; the tables are made by depmod for exactly the kept ones. Modules are
//! not touched: they carry the distribution's signature. Failure classes: a recipe that names a module that the kernel has not, depmod.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::error::{Error, Result, io};
use crate::glob;
use crate::program;
use crate::recipe::Keep;
use crate::tree::{Kind, Tree};

/// The kernel release of the tree: the only folder in `usr/lib/modules`.
pub fn release(tree: &Tree) -> Result<String> {
    let mut releases: Vec<&str> = tree.below("usr/lib/modules").filter_map(|(path, _)| path.split('/').nth(3)).collect();
    releases.dedup();
    match releases[..] {
        [one] => Ok(one.to_owned()),
        _ => Err(Error::Tree { path: "usr/lib/modules".into(), why: format!("must hold one kernel, has {releases:?}") }),
    }
}

/// Name of a module as the kernel says it: `dm-verity.ko` is `dm_verity`.
#[must_use]
pub fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

/// Takes the modules that the recipe does not want out of `tree` and writes the tables anew. Returns how many modules stay.
pub fn reduce(tree: &mut Tree, keep: &Keep) -> Result<usize> {
    let release = release(tree)?;
    let root = format!("usr/lib/modules/{release}");
    let dep = String::from_utf8_lossy(&tree.read(&format!("{root}/modules.dep"))?).into_owned();
    let builtin = String::from_utf8_lossy(&tree.read(&format!("{root}/modules.builtin"))?).into_owned();
    let softdep = String::from_utf8_lossy(&tree.read(&format!("{root}/modules.softdep"))?).into_owned();
    let wanted = select(&dep, &builtin, &softdep, keep)?;
    let tables = format!("{root}/modules.");
    let prefix = format!("{root}/");
    tree.retain(|path, entry| {
        let Some(module) = path.strip_prefix(&prefix) else { return true };
        let table = path.starts_with(&tables);
        let source = matches!(module, "modules.order" | "modules.builtin" | "modules.builtin.modinfo");
        match entry.kind {
            Kind::Folder => true,
            Kind::File(_) => (table && source) || wanted.contains(module),
            Kind::Link(_) => false,
        }
    });
    drop_empty(tree, &root);
    depmod(tree, &root, &release)?;
    Ok(wanted.len())
}

/// The wanted modules with all they depend on, as paths below the release's folder.
fn select(dep: &str, builtin: &str, softdep: &str, keep: &Keep) -> Result<BTreeSet<String>> {
    let needs: BTreeMap<&str, Vec<&str>> = dep
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(module, needs)| (module, needs.split_whitespace().collect()))
        .collect();
    let by_name: BTreeMap<String, &str> = needs.keys().map(|path| (module_name(path), *path)).collect();
    let built: BTreeSet<String> = builtin.lines().map(module_name).collect();
    let mut soft: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in softdep.lines().filter_map(|line| line.strip_prefix("softdep ")) {
        let mut words = line.split_whitespace();
        let module = words.next().unwrap_or_default().replace('-', "_");
        soft.entry(module).or_default().extend(words.filter(|word| !word.ends_with(':')).map(|word| word.replace('-', "_")));
    }
    let mut queue: Vec<&str> = Vec::new();
    let mut absent: Vec<&str> = Vec::new();
    for folder in &keep.module_folders {
        let prefix = format!("kernel/{folder}/");
        let before = queue.len();
        let without = |path: &str| {
            keep.module_without.iter().any(|pattern| glob::fits(pattern, path.strip_prefix("kernel/").unwrap_or(path)))
        };
        queue.extend(needs.keys().filter(|path| path.starts_with(&prefix) && !without(path)));
        let inside = builtin.lines().any(|path| path.starts_with(&prefix));
        if queue.len() == before && !inside {
            absent.push(folder);
        }
    }
    for given in &keep.module_names {
        let name = given.replace('-', "_");
        match by_name.get(&name) {
            Some(path) => queue.push(path),
            None if built.contains(&name) => {}
            None => absent.push(given),
        }
    }
    if !absent.is_empty() {
        return Err(Error::Recipe {
            file: "keep.toml".into(),
            line: 0,
            why: format!("the kernel has no module {}", absent.join(", ")),
        });
    }
    let mut wanted = BTreeSet::new();
    while let Some(path) = queue.pop() {
        if wanted.insert(path.to_owned()) {
            queue.extend(needs.get(path).into_iter().flatten());
            // A soft dependency that the kernel has not is no fault: that is what makes it soft.
            let soft = soft.get(&module_name(path));
            queue.extend(soft.into_iter().flatten().filter_map(|name| by_name.get(name)));
        }
    }
    Ok(wanted)
}

/// Takes out the folders below `root` that hold nothing any more.
pub(crate) fn drop_empty(tree: &mut Tree, root: &str) {
    let mut full: BTreeSet<String> = BTreeSet::new();
    for (path, entry) in tree.below(root) {
        if !matches!(entry.kind, Kind::Folder) {
            let mut end = path.len();
            while let Some(slash) = path[..end].rfind('/') {
                if !full.insert(path[..slash].to_owned()) {
                    break;
                }
                end = slash;
            }
        }
    }
    let prefix = format!("{root}/");
    tree.retain(|path, entry| !path.starts_with(&prefix) || !matches!(entry.kind, Kind::Folder) || full.contains(path));
}

/// Runs depmod on a copy of the kept modules and puts its tables into the tree.
fn depmod(tree: &mut Tree, root: &str, release: &str) -> Result<()> {
    let folder = tempfile::tempdir().map_err(io("cannot make a folder in", std::env::temp_dir()))?;
    let base = folder.path().join("lib/modules").join(release);
    for (path, entry) in tree.below(root) {
        let Some(content) = entry.content() else { continue };
        let to = base.join(&path[root.len() + 1..]);
        let parent = to.parent().unwrap_or(&base);
        std::fs::create_dir_all(parent).map_err(io("cannot make", parent))?;
        std::fs::write(&to, content.read()?).map_err(io("cannot write", &to))?;
    }
    program::run(Command::new("depmod").arg("--basedir").arg(folder.path()).arg(release))?;
    for entry in std::fs::read_dir(&base).map_err(io("cannot list", &base))? {
        let entry = entry.map_err(io("cannot list", &base))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // modprobe reads the .bin tables; the texts stay for the stages after this one (and for people), they are small.
        if name.starts_with("modules.") {
            tree.file(&format!("{root}/{name}"), 0o644, std::fs::read(entry.path()).map_err(io("cannot read", entry.path()))?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko\nkernel/fs/jbd2/jbd2.ko:\nkernel/lib/crc16.ko:\n\
                       kernel/net/a/b-c.ko:\nkernel/net/a/cam.ko:\nkernel/crypto/crc32c_generic.ko:\n";

    fn keep(folders: &[&str], names: &[&str], without: &[&str]) -> Keep {
        let own = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect();
        Keep { module_folders: own(folders), module_names: own(names), module_without: own(without), ..Keep::default() }
    }

    #[test]
    fn what_a_module_needs_comes_with_it() {
        let wanted =
            select(DEP, "kernel/drivers/x/y.ko\n", "softdep ext4 pre: crc32c-generic\n", &keep(&["fs/ext4"], &["y"], &[]))
                .unwrap();
        let names: Vec<String> = wanted.iter().map(|path| module_name(path)).collect();
        assert_eq!(names, ["crc32c_generic", "ext4", "jbd2", "crc16"]);
    }

    #[test]
    fn a_name_that_the_kernel_has_not_is_refused() {
        assert!(select(DEP, "", "", &keep(&[], &["nothing"], &[])).unwrap_err().to_string().contains("no module nothing"));
        assert!(select(DEP, "", "", &keep(&["drivers/none"], &[], &[])).unwrap_err().to_string().contains("drivers/none"));
        let wanted = select(DEP, "", "", &keep(&["net/a"], &[], &["net/a/cam*"])).unwrap();
        assert_eq!(wanted.into_iter().collect::<Vec<_>>(), ["kernel/net/a/b-c.ko"]);
    }

    #[test]
    fn empty_folders_go() {
        let mut tree = Tree::new();
        tree.folder("a/b/c", 0o755);
        tree.file("a/d/e", 0o644, Vec::new());
        drop_empty(&mut tree, "a");
        assert_eq!(tree.iter().map(|(path, _)| path).collect::<Vec<_>>(), ["", "a", "a/d", "a/d/e"]);
    }
}
