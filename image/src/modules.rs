//! Kernel modules: what a module needs, and which ones the initramfs carries.
//!
//! Contract: from the tables that depmod wrote (`modules.dep`, `.builtin`, `.softdep`, `.alias`) and names, the files in an order in which
//! they can be loaded. The same tree and list give the same answer. Failure classes: [`Error::Recipe`] for a name that the kernel has
//! neither as a module nor built in, [`Error::Tree`] for a table or a file that is not there, [`Error::Format`] for tables that contradict
//! themselves (a circle).

use crate::{Error, Result, Tree};
use std::collections::{BTreeMap, BTreeSet};

/// Depth of soft dependencies that is followed; the deepest chain of a Debian kernel is 2.
const MAX_DEPTH: usize = 16;

/// A kernel module as a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModuleFile {
    /// Path below `usr/lib/modules/<release>`: `kernel/fs/squashfs/squashfs.ko`.
    pub path: String,
}

impl ModuleFile {
    /// File name without folders: `squashfs.ko`.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Name as the kernel knows it: `sha256_ssse3`.
    #[must_use]
    pub fn name(&self) -> String {
        normal(self.file_name())
    }
}

/// `kernel/crypto/sha256-ssse3.ko` and `sha256-ssse3` -> `sha256_ssse3`: the kernel does not tell `-` from `_`.
fn normal(name: &str) -> String {
    let base = name.rsplit('/').next().unwrap_or(name);
    let base = [".ko.xz", ".ko.zst", ".ko.gz", ".ko"].iter().find_map(|end| base.strip_suffix(end)).unwrap_or(base);
    base.replace('-', "_")
}

/// The tables of one kernel.
#[derive(Debug, Default)]
pub struct Index {
    /// Name -> (path, paths it needs, in depmod's order: the last is loaded first).
    modules: BTreeMap<String, (String, Vec<String>)>,
    builtin: BTreeSet<String>,
    /// Name -> names loaded before it if they are there.
    soft: BTreeMap<String, Vec<String>>,
    /// Name of module -> its alias patterns, in the table's order.
    aliases: BTreeMap<String, Vec<String>>,
    /// Alias without a pattern -> modules (`crypto-sha256`).
    by_alias: BTreeMap<String, Vec<String>>,
}

impl Index {
    /// Reads the tables of `release` out of the tree.
    ///
    /// # Errors
    /// [`Error::Tree`] when a table is not there.
    pub fn of(tree: &Tree, release: &str) -> Result<Self> {
        let text = |name: &str| {
            tree.read(&format!("usr/lib/modules/{release}/{name}")).map(|b| String::from_utf8_lossy(&b).into_owned())
        };
        Ok(Self::parse(&text("modules.dep")?, &text("modules.builtin")?, &text("modules.softdep")?, &text("modules.alias")?))
    }

    /// Parses the texts of `modules.dep`, `.builtin`, `.softdep` and `.alias`. Lines of another shape are passed over, as modprobe does.
    #[must_use]
    pub fn parse(dep: &str, builtin: &str, softdep: &str, alias: &str) -> Self {
        let mut index = Self::default();
        for line in dep.lines() {
            if let Some((path, needs)) = line.split_once(':') {
                index.modules.insert(normal(path), (path.to_owned(), needs.split_whitespace().map(str::to_owned).collect()));
            }
        }
        index.builtin = builtin.lines().map(|line| normal(line.trim())).filter(|name| !name.is_empty()).collect();
        for line in softdep.lines() {
            let mut words = line.split_whitespace();
            if words.next() != Some("softdep") {
                continue;
            }
            let Some(name) = words.next() else { continue };
            // modprobe.d(5): `softdep NAME pre: A B post: C`. What stands after `post:` is not needed to work, but asked for.
            let wanted = words.filter(|word| *word != "pre:" && *word != "post:").map(normal).collect::<Vec<_>>();
            index.soft.entry(normal(name)).or_default().extend(wanted);
        }
        for line in alias.lines() {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(pattern), Some(module)) = (words.next(), words.next(), words.next()) {
                index.aliases.entry(normal(module)).or_default().push(pattern.to_owned());
                if !pattern.contains(['*', '?', '[']) {
                    index.by_alias.entry(normal(pattern)).or_default().push(normal(module));
                }
            }
        }
        index
    }

    /// Whether the kernel has `name` built in.
    #[must_use]
    pub fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(&normal(name))
    }

    /// Alias patterns of a module (`pci:v00001AF4d*...`), in the table's order.
    #[must_use]
    pub fn aliases(&self, name: &str) -> &[String] {
        self.aliases.get(&normal(name)).map_or(&[], Vec::as_slice)
    }

    /// The files of `names` and of all they need, each once, in an order in which they can be loaded.
    ///
    /// # Errors
    /// [`Error::Recipe`] names the first name that the kernel does not have; [`Error::Format`] a circle in the tables.
    pub fn closure(&self, names: &[String]) -> Result<Vec<ModuleFile>> {
        let mut files = Vec::new();
        let mut seen = BTreeSet::new();
        for name in names {
            let key = normal(name);
            if self.modules.contains_key(&key) {
                self.add(&key, &mut files, &mut seen, 0)?;
            } else if !self.builtin.contains(&key) {
                let why = format!(
                    "the kernel has no module {name}; look for its present name in modules.dep, or take it out of the list"
                );
                return Err(Error::Recipe { file: "initrd.toml".to_owned(), line: 0, why });
            }
        }
        Ok(files)
    }

    fn add(&self, key: &str, files: &mut Vec<ModuleFile>, seen: &mut BTreeSet<String>, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::Format { what: "modules.dep".to_owned(), why: format!("{key} needs itself") });
        }
        let Some((path, needs)) = self.modules.get(key) else { return Ok(()) };
        if !seen.insert(path.clone()) {
            return Ok(());
        }
        for soft in self.soft.get(key).into_iter().flatten() {
            if self.modules.contains_key(soft) {
                self.add(soft, files, seen, depth + 1)?;
            } else if !self.builtin.contains(soft) {
                for module in self.by_alias.get(soft).into_iter().flatten() {
                    self.add(module, files, seen, depth + 1)?;
                }
            }
        }
        // depmod writes the whole closure of hard dependencies, the deepest last.
        for need in needs.iter().rev() {
            self.add(&normal(need), files, seen, depth + 1)?;
        }
        files.push(ModuleFile { path: path.clone() });
        Ok(())
    }
}

/// The files of `names` in `tree` and of all they need: [`Index::of`] and [`Index::closure`] in one.
///
/// # Errors
/// As those two.
pub fn closure(tree: &Tree, release: &str, names: &[String]) -> Result<Vec<ModuleFile>> {
    Index::of(tree, release)?.closure(names)
}

/// `image/recipe/initrd.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Loaded at every start.
    pub always: Vec<String>,
    /// Loaded on UEFI.
    pub efi: Vec<String>,
    /// Loaded where the hardware is there.
    pub drivers: Vec<String>,
    /// The same, for hardware whose disks appear some time later.
    pub late: Vec<String>,
}

impl List {
    /// Parses the text of the file.
    ///
    /// # Errors
    /// [`Error::Recipe`] with the line for a mistake of TOML, the missing table otherwise.
    pub fn parse(text: &str) -> Result<Self> {
        let recipe = |line, why: String| Error::Recipe { file: "initrd.toml".to_owned(), line, why };
        let document = text.parse::<toml_edit::DocumentMut>().map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count().max(1));
            recipe(line, error.message().to_owned())
        })?;
        for (table, _) in document.iter() {
            if !["always", "efi", "drivers", "late"].contains(&table) {
                return Err(recipe(0, format!("unknown table [{table}]; known are [always], [efi], [drivers], [late]")));
            }
        }
        let names = |table: &str| {
            let list = document.get(table).and_then(|t| t.get("modules")).and_then(toml_edit::Item::as_array);
            let list = list.ok_or_else(|| recipe(0, format!("[{table}] needs modules = [\"...\"]")))?;
            list.iter()
                .map(|value| {
                    value.as_str().map(str::to_owned).ok_or_else(|| recipe(0, format!("[{table}] modules: {value} is no text")))
                })
                .collect::<Result<Vec<_>>>()
        };
        Ok(Self { always: names("always")?, efi: names("efi")?, drivers: names("drivers")?, late: names("late")? })
    }
}

/// What the initramfs carries: the three text tables that its program reads, and the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modules {
    /// `/modules/order`: one file name a line.
    pub order: String,
    /// `/modules/efi`: one file name a line.
    pub efi: String,
    /// `/modules/drivers`: `module a.ko b.ko` or `late a.ko b.ko` (the last is the driver, before it what it needs), then its
    /// `alias PATTERN` lines.
    pub drivers: String,
    /// File name -> content.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// Chooses the modules of the initramfs from the tree.
///
/// # Errors
/// As [`Index::closure`]; [`Error::Tree`] when a file is not in the tree.
pub fn initramfs(tree: &Tree, release: &str, list: &List) -> Result<Modules> {
    let index = Index::of(tree, release)?;
    let mut modules = Modules { order: String::new(), efi: String::new(), drivers: String::new(), files: BTreeMap::new() };
    let mut all = BTreeSet::new();
    for (names, table) in [(&list.always, &mut modules.order), (&list.efi, &mut modules.efi)] {
        for file in index.closure(names)? {
            table.push_str(file.file_name());
            table.push('\n');
            all.insert(file.path);
        }
    }
    let drivers = list.drivers.iter().map(|name| ("module", name));
    for (word, driver) in drivers.chain(list.late.iter().map(|name| ("late", name))) {
        let closure = index.closure(std::slice::from_ref(driver))?;
        if closure.is_empty() {
            continue;
        }
        let names = closure.iter().map(ModuleFile::file_name).collect::<Vec<_>>();
        modules.drivers.push_str(&format!("{word} {}\n", names.join(" ")));
        for alias in index.aliases(driver) {
            modules.drivers.push_str(&format!("alias {alias}\n"));
        }
        all.extend(closure.into_iter().map(|file| file.path));
    }
    for path in all {
        let content = tree.read(&format!("usr/lib/modules/{release}/{path}"))?;
        // The program of the initramfs hands the file to the kernel as it is (finit_module without decompression).
        if !content.starts_with(b"\x7fELF") {
            return Err(Error::Format { what: path, why: "is not an uncompressed kernel module".to_owned() });
        }
        modules.files.insert(ModuleFile { path }.file_name().to_owned(), content);
    }
    Ok(modules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEP: &str = "kernel/a.ko:\nkernel/x/b-b.ko: kernel/a.ko\nkernel/c.ko: kernel/x/b-b.ko kernel/a.ko\nkernel/s.ko:\nkernel/v.ko: kernel/c.ko kernel/x/b-b.ko kernel/a.ko\n";
    const ALIAS: &str = "# Aliases\nalias pci:v00001AF4d* c\nalias crypto-soft s\nalias pci:v1 c\n";

    fn index() -> Index {
        Index::parse(DEP, "kernel/in.ko\n", "# Soft\nsoftdep v pre: crypto-soft in\n", ALIAS)
    }

    fn names(files: &[ModuleFile]) -> Vec<String> {
        files.iter().map(ModuleFile::name).collect()
    }

    #[test]
    fn what_a_module_needs_comes_before_it() {
        let index = index();
        assert_eq!(names(&index.closure(&["c".into()]).unwrap()), ["a", "b_b", "c"]);
        assert_eq!(names(&index.closure(&["b_b".into(), "b-b".into(), "a".into()]).unwrap()), ["a", "b_b"]);
        assert_eq!(names(&index.closure(&["v".into()]).unwrap()), ["s", "a", "b_b", "c", "v"]);
        assert!(index.closure(&["in".into()]).unwrap().is_empty(), "built in");
        assert!(index.closure(&["gone".into()]).unwrap_err().to_string().contains("gone"));
        assert_eq!(index.aliases("c"), ["pci:v00001AF4d*", "pci:v1"]);
    }

    #[test]
    fn a_circle_is_no_endless_loop() {
        let soft = "softdep a pre: b\nsoftdep b pre: a\n";
        let files = Index::parse("a.ko:\nb.ko:\n", "", soft, "").closure(&["a".into()]).unwrap();
        assert_eq!(names(&files), ["b", "a"]);
    }

    #[test]
    fn the_list_of_the_repository_is_well_formed() {
        let list = List::parse(include_str!("../recipe/initrd.toml")).unwrap();
        assert!(list.always.contains(&"dm-verity".to_owned()) && list.drivers.contains(&"virtio_blk".to_owned()));
        assert!(List::parse("[always]\nmodules = [1]\n[efi]\nmodules=[]\n[drivers]\nmodules=[]\n[late]\nmodules=[]").is_err());
        let error = List::parse("[always]\nmodules = [\n\n[efi]").unwrap_err().to_string();
        assert!(error.starts_with("initrd.toml:"), "{error}");
        assert!(List::parse("[alwais]\nmodules = []").unwrap_err().to_string().contains("alwais"));
    }

    proptest! {
        #[test]
        fn every_order_is_loadable(edges in proptest::collection::vec((1u8..30, 0u8..30), 0..60), wanted in proptest::collection::vec(0u8..30, 1..6)) {
            // Only edges to smaller numbers: no circles. depmod's lists are transitive, the deepest last.
            let mut needs = BTreeMap::<u8, BTreeSet<u8>>::new();
            for (from, to) in edges {
                if to < from {
                    needs.entry(from).or_default().insert(to);
                }
            }
            let mut dep = String::new();
            for module in 0..30u8 {
                let mut all = BTreeSet::new();
                let mut open = vec![module];
                while let Some(next) = open.pop() {
                    for need in needs.get(&next).into_iter().flatten() {
                        if all.insert(*need) {
                            open.push(*need);
                        }
                    }
                }
                let list = all.iter().rev().map(|n| format!(" m{n}.ko")).collect::<String>();
                dep.push_str(&format!("m{module}.ko:{list}\n"));
            }
            let wanted = wanted.iter().map(|n| format!("m{n}")).collect::<Vec<_>>();
            let files = Index::parse(&dep, "", "", "").closure(&wanted).unwrap();
            let mut loaded = BTreeSet::new();
            for file in &files {
                let number = file.name()[1..].parse::<u8>().unwrap();
                for need in needs.get(&number).into_iter().flatten() {
                    prop_assert!(loaded.contains(need), "{number} before {need}");
                }
                prop_assert!(loaded.insert(number), "twice");
            }
            for name in wanted {
                prop_assert!(loaded.contains(&name[1..].parse::<u8>().unwrap()));
            }
        }

        #[test]
        fn no_text_makes_it_fail(text in "\\PC{0,200}") {
            let _ = Index::parse(&text, &text, &text, &text).closure(std::slice::from_ref(&text));
            let _ = List::parse(&text);
        }
    }
}
