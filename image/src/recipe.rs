//! The recipe under `image/recipe`, parsed once into types.
//!
//! Contract: what is in a recipe file is used or refused with file and line; every rule carries its reason (`why`). Failure class: the
//! recipe ([`Error::Recipe`](crate::Error::Recipe)).

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::{Error, Result, io};
use crate::modules;
use crate::toml::{Source, Table};

/// The whole recipe.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Suite of the distribution.
    pub suite: String,
    /// Architecture of the packages.
    pub architecture: String,
    /// Names of the packages asked for; what they depend on comes with them.
    pub packages: Vec<String>,
    /// What stays of the packages' files.
    pub keep: Keep,
    /// Users and groups.
    pub users: Users,
    /// Which units start and which never do.
    pub units: Units,
    /// Words of the kernel command line that every image has.
    pub cmdline: Vec<String>,
    /// Kernel modules of the initramfs.
    pub initrd: modules::List,
    /// Ways to build.
    pub profiles: Vec<Profile>,
    /// BLAKE3 of what the base archive is made from: its name.
    pub base_key: blake3::Hash,
}

/// A way to build (`profiles.toml`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Name.
    pub name: String,
    /// zstd level of the squashfs.
    pub squashfs_level: u32,
    /// It makes images that are broken on purpose, too.
    pub may_be_broken: bool,
}

/// What stays of the packages' files (`keep.toml`).
#[derive(Debug, Clone, Default)]
pub struct Keep {
    /// Largest squashfs.
    pub squashfs_limit_bytes: u64,
    /// Programs that stay in usr/bin and usr/sbin.
    pub programs: BTreeSet<String>,
    /// Libraries that are loaded by name.
    pub libraries: BTreeSet<String>,
    /// Patterns of what goes.
    pub drop: Vec<String>,
    /// Patterns that are stronger than `drop`.
    pub keep: Vec<String>,
    /// Patterns that are stronger than `keep`.
    pub drop_final: Vec<String>,
    /// Folders of kernel modules, below `kernel/`.
    pub module_folders: Vec<String>,
    /// Kernel modules by name.
    pub module_names: Vec<String>,
    /// Patterns of modules that the folders bring and that go nevertheless, below `kernel/`.
    pub module_without: Vec<String>,
}

/// A user (`users.toml`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// Number of the main group.
    pub gid: u32,
    /// Home folder.
    pub home: String,
    /// Further groups by name.
    pub groups: Vec<String>,
}

/// Users and groups with their fixed numbers.
#[derive(Debug, Clone, Default)]
pub struct Users {
    /// Users in the order of the file.
    pub users: Vec<User>,
    /// Groups (name, number) in the order of the file.
    pub groups: Vec<(String, u32)>,
}

/// Which units start and which never do (`units.toml`).
#[derive(Debug, Clone, Default)]
pub struct Units {
    /// Units linked to /dev/null.
    pub mask: Vec<String>,
    /// (unit, the unit that wants it).
    pub enable: Vec<(String, String)>,
    /// Target that boots by default; graphical.target of the package if empty.
    pub default_target: Option<String>,
}

impl Recipe {
    /// Reads the recipe folder.
    pub fn open(folder: &Path) -> Result<Self> {
        let (suite, architecture, packages) = packages(&Source::open(&folder.join("packages.toml"))?)?;
        let mut base = blake3::Hasher::new();
        for word in [&suite, &architecture].into_iter().chain(&packages) {
            base.update(word.as_bytes()).update(b"\n");
        }
        base.update(crate::base::WAY);
        let path = folder.join("initrd.toml");
        let initrd = modules::List::parse(&std::fs::read_to_string(&path).map_err(io("cannot read", path))?)?;
        let mut keep = keep(&Source::open(&folder.join("keep.toml"))?)?;
        // What the initramfs loads must be in the tree that it is made from.
        let modules::List { always, efi, drivers, late } = &initrd;
        keep.module_names.extend([always, efi, drivers, late].into_iter().flatten().cloned());
        Ok(Self {
            suite,
            architecture,
            packages,
            keep,
            users: users(&Source::open(&folder.join("users.toml"))?)?,
            units: units(&Source::open(&folder.join("units.toml"))?)?,
            cmdline: cmdline(&Source::open(&folder.join("kernel.toml"))?)?,
            initrd,
            profiles: profiles(&Source::open(&folder.join("profiles.toml"))?)?,
            base_key: base.finalize(),
        })
    }

    /// The profile of this name.
    pub fn profile(&self, name: &str) -> Result<&Profile> {
        self.profiles.iter().find(|profile| profile.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.profiles.iter().map(|profile| profile.name.as_str()).collect();
            Error::Recipe {
                file: "profiles.toml".into(),
                line: 0,
                why: format!("has no profile {name}, only {}", known.join(", ")),
            }
        })
    }
}

/// Reads the reason of a rule, which must be there, and ends the table.
fn reason(mut table: Table<'_>) -> Result<()> {
    table.text("why")?;
    table.done()
}

fn packages(source: &Source) -> Result<(String, String, Vec<String>)> {
    let mut top = source.table();
    let (suite, architecture) = (top.text("suite")?, top.text("architecture")?);
    let mut names = Vec::new();
    for mut table in top.tables("package")? {
        let name = table.text("name")?;
        let fits = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte));
        if !fits || names.contains(&name) {
            return Err(table.error(format!("{name} is no package name, or is named twice")));
        }
        names.push(name);
        reason(table)?;
    }
    top.done()?;
    Ok((suite, architecture, names))
}

fn cmdline(source: &Source) -> Result<Vec<String>> {
    let mut top = source.table();
    let mut all: Vec<String> = Vec::new();
    for mut table in top.tables("cmdline")? {
        for word in table.list("words")? {
            if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_graphic()) || word.starts_with("twinpost.") {
                return Err(table.error(format!("{word:?} is no single word, or one that the builder sets")));
            }
            all.push(word);
        }
        reason(table)?;
    }
    top.done()?;
    Ok(all)
}

fn profiles(source: &Source) -> Result<Vec<Profile>> {
    let mut top = source.table();
    let mut all = Vec::new();
    for mut table in top.tables("profile")? {
        let level = table.number("squashfs_level")?;
        // The levels of zstd.
        let level = u32::try_from(level).ok().filter(|level| (1..=22).contains(level));
        let squashfs_level = level.ok_or_else(|| table.error("squashfs_level must be 1 to 22"))?;
        let may_be_broken = table.flag("may_be_broken")?;
        all.push(Profile { name: table.text("name")?, squashfs_level, may_be_broken });
        reason(table)?;
    }
    top.done()?;
    Ok(all)
}

fn keep(source: &Source) -> Result<Keep> {
    let mut top = source.table();
    let mut keep = Keep { squashfs_limit_bytes: top.number("squashfs_limit_bytes")?, ..Keep::default() };
    for (key, names) in [("program", &mut keep.programs), ("library", &mut keep.libraries)] {
        for mut table in top.tables(key)? {
            for name in table.list("names")? {
                if !names.insert(name.clone()) {
                    return Err(table.error(format!("{name} is named twice")));
                }
            }
            reason(table)?;
        }
    }
    for mut table in top.tables("drop")? {
        let last = table.flag("final")?;
        let paths = table.list("paths")?;
        if last { &mut keep.drop_final } else { &mut keep.drop }.extend(paths);
        reason(table)?;
    }
    for mut table in top.tables("keep")? {
        keep.keep.extend(table.list("paths")?);
        reason(table)?;
    }
    for mut table in top.tables("module")? {
        keep.module_folders.extend(table.list("folders")?);
        keep.module_names.extend(table.list("names")?);
        keep.module_without.extend(table.list("without")?);
        reason(table)?;
    }
    top.done()?;
    Ok(keep)
}

fn users(source: &Source) -> Result<Users> {
    let mut top = source.table();
    let mut all = Users::default();
    for mut table in top.tables("group")? {
        let (name, gid) = (table.text("name")?, id(&mut table, "gid")?);
        if all.groups.iter().any(|(other, number)| *other == name || *number == gid) {
            return Err(table.error(format!("group {name} or its number {gid} is there already")));
        }
        table.text_or_none("why")?;
        table.done()?;
        all.groups.push((name, gid));
    }
    for mut table in top.tables("user")? {
        let user = User {
            name: table.text("name")?,
            uid: id(&mut table, "uid")?,
            gid: id(&mut table, "gid")?,
            home: table.text("home")?,
            groups: table.list("groups")?,
        };
        if all.users.iter().any(|other| other.name == user.name || other.uid == user.uid) {
            return Err(table.error(format!("user {} or its number {} is there already", user.name, user.uid)));
        }
        if !all.groups.iter().any(|(_, gid)| *gid == user.gid) {
            return Err(table.error(format!("no group has the number {}", user.gid)));
        }
        if let Some(group) = user.groups.iter().find(|wanted| !all.groups.iter().any(|(name, _)| name == *wanted)) {
            return Err(table.error(format!("there is no group {group}")));
        }
        all.users.push(user);
        reason(table)?;
    }
    top.done()?;
    Ok(all)
}

fn id(table: &mut Table<'_>, key: &'static str) -> Result<u32> {
    let number = table.number(key)?;
    u32::try_from(number).ok().filter(|&number| number < u32::MAX).ok_or_else(|| table.error(format!("{number} is no {key}")))
}

fn units(source: &Source) -> Result<Units> {
    let mut top = source.table();
    let mut units = Units { default_target: top.text_or_none("default_target")?, ..Units::default() };
    for mut table in top.tables("mask")? {
        for unit in table.list("units")? {
            if units.mask.contains(&unit) {
                return Err(table.error(format!("{unit} is masked twice")));
            }
            units.mask.push(unit);
        }
        reason(table)?;
    }
    for mut table in top.tables("enable")? {
        let by = table.text("wanted_by")?;
        for unit in table.list("units")? {
            if units.mask.contains(&unit) {
                return Err(table.error(format!("{unit} is masked, so it cannot be enabled")));
            }
            units.enable.push((unit, by.clone()));
        }
        reason(table)?;
    }
    top.done()?;
    Ok(units)
}

impl Users {
    /// `/etc/passwd`: nobody has a password (`x`, and `*` in shadow) or a shell.
    #[must_use]
    pub fn passwd(&self) -> String {
        self.users
            .iter()
            .map(|user| format!("{}:x:{}:{}::{}:/usr/sbin/nologin\n", user.name, user.uid, user.gid, user.home))
            .collect()
    }

    /// `/etc/shadow`: every account is locked.
    #[must_use]
    pub fn shadow(&self) -> String {
        self.users.iter().map(|user| format!("{}:*:::::::\n", user.name)).collect()
    }

    /// `/etc/group`, in the order of the numbers.
    #[must_use]
    pub fn group(&self) -> String {
        let mut groups = self.groups.clone();
        groups.sort_by_key(|(_, gid)| *gid);
        let members = |name: &str| {
            let of = self.users.iter().filter(|user| user.groups.iter().any(|group| group == name));
            of.map(|user| user.name.as_str()).collect::<Vec<_>>().join(",")
        };
        groups.iter().map(|(name, gid)| format!("{name}:x:{gid}:{}\n", members(name))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_of_this_repository_is_read() {
        let recipe = Recipe::open(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/recipe"))).unwrap();
        assert!(recipe.packages.iter().any(|name| name == "linux-image-amd64"));
        assert!(recipe.keep.programs.contains("mdadm") && !recipe.keep.programs.contains("sh"));
        assert!(recipe.users.passwd().contains("twinpost:x:980:980::"));
        assert!(recipe.users.group().contains("dialout:x:20:twinpost-sms\n"));
        for user in &recipe.users.users {
            assert!(recipe.users.shadow().contains(&format!("{}:*:", user.name)));
        }
    }

    #[test]
    fn mistakes_are_refused_with_their_line() {
        let parse = |text: &str| Source::parse("x.toml", text).unwrap();
        let why = |error: crate::Error| error.to_string();
        assert!(
            why(packages(&parse("suite='a'\narchitecture='b'\n[[package]]\nname='x'\n")).unwrap_err())
                .starts_with("x.toml:3: why is missing")
        );
        assert!(
            why(packages(&parse("suite='a'\narchitecture='b'\nmirror='c'\n")).unwrap_err())
                .starts_with("x.toml:3: unknown key mirror")
        );
        let twice = "[[group]]\nname='a'\ngid=1\n[[group]]\nname='b'\ngid=1\n";
        assert!(why(users(&parse(twice)).unwrap_err()).starts_with("x.toml:4: group b"));
        let masked = "[[mask]]\nunits=['a.service']\nwhy='x'\n[[enable]]\nunits=['a.service']\nwanted_by='b.target'\nwhy='x'\n";
        assert!(why(units(&parse(masked)).unwrap_err()).starts_with("x.toml:4: a.service is masked"));
        assert!(
            why(keep(&parse("squashfs_limit_bytes = -1\n")).unwrap_err()).starts_with("x.toml:1: squashfs_limit_bytes must be")
        );
    }
}
