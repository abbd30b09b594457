//! Looks whether the finished tree would work: libraries, interpreters, links and the programs that units start.
//!
//! Contract: pure reading; all findings are returned together, each with its path, so that one build shows everything that is missing.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::strip::{at_run_time, elf, library};
use crate::tree::{Entry, Kind, Tree};

/// Folders with the units of the system manager, the stronger first.
const UNITS: [&str; 2] = ["etc/systemd/system", "usr/lib/systemd/system"];
/// Settings of a unit that name a program.
const PROGRAM_SETTINGS: [&str; 7] =
    ["ExecStart", "ExecStartPre", "ExecStartPost", "ExecCondition", "ExecStop", "ExecStopPost", "ExecReload"];

/// Refuses a tree with findings.
pub fn check(tree: &Tree) -> Result<()> {
    let mut findings = Vec::new();
    for (path, entry) in tree.iter() {
        match &entry.kind {
            Kind::File(_) => file(tree, path, entry, &mut findings)?,
            Kind::Link(target) if !at_run_time(target) && tree.resolve(path).is_none() => {
                findings.push(format!("{path} links to {target}, which is not in the image"));
            }
            Kind::Link(_) | Kind::Folder => {}
        }
    }
    units(tree, &mut findings)?;
    if findings.is_empty() { Ok(()) } else { Err(Error::Findings { findings }) }
}

fn file(tree: &Tree, path: &str, entry: &Entry, findings: &mut Vec<String>) -> Result<()> {
    if path.starts_with("usr/lib/modules/") {
        return Ok(());
    }
    let Some(content) = entry.content() else { return Ok(()) };
    let head = content.head(256)?;
    if entry.mode & 0o111 != 0 && head.starts_with(b"#!") {
        let line = String::from_utf8_lossy(&head[2..]).into_owned();
        let interpreter = line.lines().next().unwrap_or_default().split_whitespace().next().unwrap_or_default();
        if tree.resolve(interpreter).is_none() {
            findings.push(format!("{path} is a script for {interpreter}, which is not in the image"));
        }
    }
    if let Some(elf) = elf(tree, path)? {
        if let Some(interpreter) = elf.interpreter.as_deref().filter(|interpreter| tree.resolve(interpreter).is_none()) {
            findings.push(format!("{path} needs the interpreter {interpreter}, which is not in the image"));
        }
        for name in elf.needed.iter().filter(|name| library(tree, path, &elf, name).is_none()) {
            findings.push(format!("{path} needs the library {name}, which is not in the image"));
        }
    }
    Ok(())
}

/// Each unit that is not masked: do the programs it starts exist?
fn units(tree: &Tree, findings: &mut Vec<String>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for folder in UNITS {
        for (path, _) in tree.below(folder) {
            // Drop-ins change a unit: their programs are looked at as well.
            let name = &path[folder.len() + 1..];
            if path.contains(".wants/") || path.contains(".requires/") || !seen.insert(name) {
                continue;
            }
            let Some(real) = tree.resolve(path) else { continue };
            let Some(content) = tree.get(&real).and_then(Entry::content) else { continue };
            let masked = |unit: &str| matches!(tree.get(&format!("{}/{unit}", UNITS[0])).map(|entry| &entry.kind), Some(Kind::Link(to)) if to == "/dev/null");
            let unit = name.split('/').next().unwrap_or(name);
            if masked(unit) || masked(unit.trim_end_matches(".d")) {
                continue;
            }
            let text = String::from_utf8_lossy(&content.read()?).into_owned();
            for program in programs(&text) {
                if tree.resolve(&program).is_none() {
                    findings.push(format!("{path} starts {program}, which is not in the image"));
                }
            }
        }
    }
    Ok(())
}

/// Absolute paths of the programs that a unit file starts (systemd.service(5), COMMAND LINES). A leading `-` means that failing is no
/// fault; a program that cannot exist is one nevertheless: such a line only hides something.
fn programs(unit: &str) -> Vec<String> {
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    lines
        .filter(|(key, _)| PROGRAM_SETTINGS.contains(&key.trim()))
        .filter_map(|(_, value)| value.trim().trim_start_matches(['-', '@', '+', '!', ':']).split_whitespace().next())
        .filter(|program| program.starts_with('/') && !program.contains('%'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(tree: &Tree) -> Vec<String> {
        match check(tree) {
            Ok(()) => Vec::new(),
            Err(Error::Findings { findings }) => findings,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn scripts_links_and_units_without_their_program_are_found() {
        let mut tree = Tree::new();
        tree.file("usr/lib/x/script", 0o755, b"#! /bin/sh -e\n".to_vec());
        tree.file("usr/lib/x/example", 0o644, b"#!/bin/sh\n".to_vec());
        tree.link("usr/lib/dangling", "nothing");
        tree.link("etc/mtab", "../proc/self/mounts");
        tree.file(
            "usr/lib/systemd/system/a.service",
            0o644,
            b"[Service]\nExecStart=-/usr/bin/a --x\nExecStopPost=/usr/bin/b\n".to_vec(),
        );
        tree.file("usr/lib/systemd/system/m.service", 0o644, b"[Service]\nExecStart=/usr/bin/m\n".to_vec());
        tree.link("etc/systemd/system/m.service", "/dev/null");
        tree.file("usr/bin/a", 0o755, b"a".to_vec());
        assert_eq!(
            findings(&tree),
            [
                "usr/lib/dangling links to nothing, which is not in the image",
                "usr/lib/x/script is a script for /bin/sh, which is not in the image",
                "usr/lib/systemd/system/a.service starts /usr/bin/b, which is not in the image",
            ]
        );
    }

    #[test]
    fn a_program_without_its_libraries_is_found() {
        let mut tree = Tree::new();
        tree.file("usr/bin/me", 0o755, std::fs::read("/proc/self/exe").unwrap());
        let found = findings(&tree);
        assert!(found.iter().any(|finding| finding.contains("libc.so.6")), "{found:?}");
        assert!(found.iter().any(|finding| finding.contains("interpreter /lib64/ld-linux-x86-64.so.2")), "{found:?}");
    }

    #[test]
    fn command_lines_of_units() {
        assert_eq!(
            programs("ExecStart=!!/usr/lib/a -b\nExecStartPre=b\nExecReload=/usr/bin/c $MAINPID\nExecStart=\nDescription=/x\n"),
            ["/usr/lib/a", "/usr/bin/c"]
        );
    }
}
