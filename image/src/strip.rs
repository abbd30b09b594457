//! Takes out of the packages' tree what a node does not need, by the rules of `keep.toml`.
//!
//! Contract: a program stays if it is named; a library of the system folder stays if something that stays needs it; everything else by
//! pattern. Set-user-ID bits go: no program of the image gives rights. Failure classes: a program or library that the recipe names and no
//! package has ([`Error::Recipe`]), an owner without a name in `users.toml` ([`Error::Findings`]).

use std::collections::BTreeSet;

use crate::elf::{self, Elf};
use crate::error::{Error, Result};
use crate::glob;
use crate::kernel;
use crate::recipe::{Keep, Recipe};
use crate::tree::{Kind, Tree};

/// Folder of the system's libraries.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// Folders of programs.
const PROGRAMS: [&str; 2] = ["usr/bin/", "usr/sbin/"];
/// Set-user-ID, set-group-ID.
const SET_ID: u32 = 0o6000;

/// Applies the recipe. Returns the number of kernel modules that stay.
pub fn strip(tree: &mut Tree, recipe: &Recipe) -> Result<usize> {
    named_programs_exist(tree, &recipe.keep)?;
    tree.retain(|path, entry| stays(&recipe.keep, path, matches!(entry.kind, Kind::Folder)));
    libraries(tree, &recipe.keep)?;
    let modules = kernel::reduce(tree, &recipe.keep)?;
    dangling_links_go(tree);
    for folder in ["usr/lib", "usr/share"] {
        kernel::drop_empty(tree, folder);
    }
    let paths: Vec<String> = tree.iter().map(|(path, _)| path.to_owned()).collect();
    for path in paths {
        if let Some(entry) = tree.get_mut(&path) {
            entry.mode &= !SET_ID;
        }
    }
    owners(tree, recipe)?;
    Ok(modules)
}

/// The rules of path patterns and of programs.
fn stays(keep: &Keep, path: &str, folder: bool) -> bool {
    for programs in PROGRAMS {
        if let Some(name) = path.strip_prefix(programs) {
            return keep.programs.contains(name);
        }
    }
    let any = |patterns: &[String]| patterns.iter().any(|pattern| glob::fits(pattern, path));
    // A folder goes when it is empty in the end, not by itself: something below it may be kept.
    let drop = any(&keep.drop_final) || (any(&keep.drop) && !any(&keep.keep));
    !drop || (folder && keep.keep.iter().any(|pattern| pattern.starts_with(&format!("{path}/"))))
}

fn named_programs_exist(tree: &Tree, keep: &Keep) -> Result<()> {
    let there = |name: &String| PROGRAMS.iter().any(|folder| tree.get(&format!("{folder}{name}")).is_some());
    let missing: Vec<&str> = keep.programs.iter().filter(|name| !there(name)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Recipe { file: "keep.toml".into(), line: 0, why: format!("no package has the programs {}", missing.join(", ")) })
}

/// Where the file of a needed library is, as ld.so(8) searches: the file's own folders first, then the system's.
#[must_use]
pub fn library(tree: &Tree, of: &str, elf: &Elf, name: &str) -> Option<String> {
    if name.contains('/') {
        return tree.resolve(name);
    }
    let origin = of.rsplit_once('/').map_or("", |(folder, _)| folder);
    let own = elf.runpath.iter().map(|folder| folder.replace("$ORIGIN", &format!("/{origin}")));
    // A library of a private folder finds its sisters there because the program that brought it did (systemd's own libraries).
    own.chain([LIBRARIES.to_owned(), "usr/lib".to_owned(), origin.to_owned()])
        .find_map(|folder| tree.resolve(&format!("{folder}/{name}")))
}

/// Reads an entry as ELF; `None` if it is none.
pub fn elf(tree: &Tree, path: &str) -> Result<Option<Elf>> {
    let Some(content) = tree.get(path).and_then(|entry| entry.content()) else { return Ok(None) };
    if content.head(4)? != b"\x7fELF" {
        return Ok(None);
    }
    Ok(elf::read(&content.read()?))
}

/// Keeps of the library folder what programs and named libraries need.
fn libraries(tree: &mut Tree, keep: &Keep) -> Result<()> {
    let inside = |path: &str| path.strip_prefix(LIBRARIES).is_some_and(|rest| rest.starts_with('/'));
    let modules = |path: &str| path.starts_with("usr/lib/modules/");
    let by_pattern = |path: &str| keep.keep.iter().any(|pattern| glob::fits(pattern, path));
    let mut queue: Vec<String> = tree
        .iter()
        .filter(|(path, entry)| matches!(entry.kind, Kind::File(_)) && !modules(path) && (!inside(path) || by_pattern(path)))
        .map(|(path, _)| path.to_owned())
        .collect();
    for name in &keep.libraries {
        let path = tree.resolve(&format!("{LIBRARIES}/{name}"));
        queue.push(path.ok_or_else(|| Error::Recipe {
            file: "keep.toml".into(),
            line: 0,
            why: format!("no package has the library {name}"),
        })?);
    }
    let mut seen = BTreeSet::new();
    while let Some(path) = queue.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        if let Some(elf) = elf(tree, &path)? {
            queue.extend(elf.interpreter.iter().filter_map(|path| tree.resolve(path)));
            // What is missing is found by the check of the finished tree, which knows our own files too.
            queue.extend(elf.needed.iter().filter_map(|name| library(tree, &path, &elf, name)));
        }
    }
    let links: BTreeSet<String> = tree
        .below(LIBRARIES)
        .filter(|(path, entry)| {
            matches!(entry.kind, Kind::Link(_)) && tree.resolve(path).is_some_and(|real| seen.contains(&real))
        })
        .map(|(path, _)| path.to_owned())
        .collect();
    tree.retain(|path, entry| match entry.kind {
        Kind::Folder => true,
        Kind::File(_) => !inside(path) || seen.contains(path),
        Kind::Link(_) => !inside(path) || links.contains(path),
    });
    Ok(())
}

/// True for link targets that exist only on a running node.
#[must_use]
pub fn at_run_time(target: &str) -> bool {
    let target = target.trim_start_matches("../").trim_start_matches('/');
    ["proc/", "run/", "dev/", "sys/", "var/", "tmp/", "state/"].iter().any(|folder| target.starts_with(folder))
}

/// Links of packages whose target was taken out go with it.
fn dangling_links_go(tree: &mut Tree) {
    loop {
        let dangling: BTreeSet<String> = tree
            .iter()
            .filter(|(path, entry)| {
                matches!(&entry.kind, Kind::Link(target) if !at_run_time(target)) && tree.resolve(path).is_none()
            })
            .map(|(path, _)| path.to_owned())
            .collect();
        if dangling.is_empty() {
            return;
        }
        tree.retain(|path, _| !dangling.contains(path));
    }
}

/// Every owner must have a name: a number without one would belong to whoever gets it next.
fn owners(tree: &Tree, recipe: &Recipe) -> Result<()> {
    let users: BTreeSet<u32> = recipe.users.users.iter().map(|user| user.uid).collect();
    let groups: BTreeSet<u32> = recipe.users.groups.iter().map(|(_, gid)| *gid).collect();
    let strangers = tree.iter().filter(|(_, entry)| !users.contains(&entry.uid) || !groups.contains(&entry.gid));
    let findings: Vec<String> =
        strangers.map(|(path, entry)| format!("{path} belongs to {}:{}, not in users.toml", entry.uid, entry.gid)).collect();
    if findings.is_empty() { Ok(()) } else { Err(Error::Findings { findings }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep() -> Keep {
        let own = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        Keep {
            programs: ["mdadm".to_owned()].into(),
            drop: own(&["usr/share/**", "etc/**"]),
            keep: own(&["usr/share/zoneinfo/**", "etc/ssl/ca.crt"]),
            drop_final: own(&["usr/share/zoneinfo/right/**", "**/*.la"]),
            ..Keep::default()
        }
    }

    #[test]
    fn rules_in_their_order_of_strength() {
        let keep = keep();
        for (path, stay) in [
            ("usr/sbin/mdadm", true),
            ("usr/bin/sh", false),
            ("usr/share/doc/x", false),
            ("usr/share/zoneinfo/Asia/Shanghai", true),
            ("usr/share/zoneinfo/right/UTC", false),
            ("usr/lib/x.la", false),
            ("etc/ssl/ca.crt", true),
            ("etc/shells", false),
            ("usr/lib/systemd/systemd", true),
        ] {
            assert_eq!(stays(&keep, path, false), stay, "{path}");
        }
        assert!(stays(&keep, "etc/ssl", true));
    }

    #[test]
    fn a_program_without_a_package_is_refused() {
        let error = named_programs_exist(&Tree::new(), &keep()).unwrap_err();
        assert!(error.to_string().contains("mdadm"), "{error}");
    }

    #[test]
    fn links_to_what_went_go_and_links_into_the_running_node_stay() {
        let mut tree = Tree::new();
        tree.link("a", "b");
        tree.link("b", "gone");
        tree.link("etc/mtab", "../proc/self/mounts");
        tree.link("etc/resolv.conf", "/run/twinpost/resolv.conf");
        tree.file("c", 0o644, Vec::new());
        tree.link("d", "c");
        dangling_links_go(&mut tree);
        assert_eq!(tree.iter().map(|(path, _)| path).collect::<Vec<_>>(), ["", "c", "d", "etc", "etc/mtab", "etc/resolv.conf"]);
    }
}
