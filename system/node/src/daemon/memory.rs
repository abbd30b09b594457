//! What the programs of this node take of its memory: by unit, as the kernel accounts it (cgroup v2), and in all.
//!
//! Contract: only looks. A unit that ends meanwhile is not in the list. Failure classes: none; what the kernel does not tell is absent.

use serde::Serialize;
use std::path::Path;

/// Units in one answer.
const UNITS_MAX: usize = 64;

/// One unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unit {
    /// Its name: `twinpost-pair.service`.
    pub unit: String,
    /// All that is charged to it: its own memory, and files that it was the first to read (`memory.current`).
    pub bytes: u64,
    /// Its own memory, which cannot be dropped (`anon` of `memory.stat`).
    pub own_bytes: u64,
}

/// The whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Of the machine (`MemTotal`).
    pub total_bytes: u64,
    /// What a program could still get (`MemAvailable`).
    pub available_bytes: u64,
    /// Those that run, the largest first.
    pub units: Vec<Unit>,
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number behind a word that begins a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next()?.parse().ok())
}

fn unit(folder: &Path) -> Option<Unit> {
    let name = folder.file_name()?.to_str().filter(|name| name.ends_with(".service"))?;
    let stat = std::fs::read_to_string(folder.join("memory.stat")).ok()?;
    // systemd writes a hyphen of an instance's slice as \x2d; names of units have none of that.
    Some(Unit { unit: name.to_owned(), bytes: number(&folder.join("memory.current"))?, own_bytes: field(&stat, "anon ")? })
}

fn folders(of: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(of).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Of the running system: `cgroups` stands for /sys/fs/cgroup, `proc` for /proc.
#[must_use]
pub fn look(cgroups: &Path, proc: &Path) -> Memory {
    let system = folders(&cgroups.join("system.slice"));
    // Instances (`twinpost-console@ttyS0`) have a slice of their own in it.
    let inner = system.iter().filter(|path| path.extension().is_some_and(|end| end == "slice")).flat_map(|path| folders(path));
    let mut units: Vec<Unit> = system.iter().cloned().chain(inner).filter_map(|path| unit(&path)).collect();
    units.sort_by_key(|unit| std::cmp::Reverse(unit.bytes));
    units.truncate(UNITS_MAX);
    let about = std::fs::read_to_string(proc.join("meminfo")).unwrap_or_default();
    let kilobytes = |name: &str| field(&about, name).unwrap_or(0).saturating_mul(1024);
    Memory { total_bytes: kilobytes("MemTotal:"), available_bytes: kilobytes("MemAvailable:"), units }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_instances_are_found_the_largest_first() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let unit = |path: &str, bytes: u64, anon: u64| {
            write(&format!("system.slice/{path}/memory.current"), &format!("{bytes}\n"));
            write(&format!("system.slice/{path}/memory.stat"), &format!("anon {anon}\nfile 1\nkernel 2\n"));
        };
        unit("twinpost-pair.service", 9_000_000, 5_000_000);
        unit("twinpost-mail.service", 50_000_000, 20_000_000);
        unit("system-twinpost\\x2dconsole.slice/twinpost-console@ttyS0.service", 2_000_000, 1_000_000);
        write("system.slice/ended.service/cgroup.events", "populated 0\n");
        write("meminfo", "MemTotal:         754132 kB\nMemFree:          1 kB\nMemAvailable:     600000 kB\n");
        let found = look(root.path(), root.path());
        let names: Vec<(&str, u64)> = found.units.iter().map(|unit| (unit.unit.as_str(), unit.own_bytes)).collect();
        assert_eq!(
            names,
            [
                ("twinpost-mail.service", 20_000_000),
                ("twinpost-pair.service", 5_000_000),
                ("twinpost-console@ttyS0.service", 1_000_000)
            ]
        );
        assert_eq!((found.total_bytes, found.available_bytes), (754_132 << 10, 600_000 << 10));
        assert_eq!(look(Path::new("/nowhere"), Path::new("/nowhere")), Memory::default());
    }
}
