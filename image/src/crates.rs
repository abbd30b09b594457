//! The Rust crates inside our programs, as cargo resolves them from the lock file.
//!
//! Contract: exactly the crates that are compiled into the named programs for the image's platform (not those of tests and build
//! scripts), from `cargo metadata --locked` and `Cargo.lock`; the network is not asked. Failure classes: cargo, the form of its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::error::{Error, Result, io};
use crate::program;

/// The platform of the image.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// A crate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Crate {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Licence expression of its manifest.
    pub licence: Option<String>,
    /// SHA-256 of its archive, from the lock file; none for our own.
    pub sha256: Option<String>,
    /// True for crates from the registry.
    pub registry: bool,
}

/// The crates in `programs` (package names), in the order of their names.
pub fn read(repository: &Path, programs: &[&str]) -> Result<Vec<Crate>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform", PLATFORM])
        .current_dir(repository);
    let answer = program::run(&mut command)?;
    let metadata: Value = serde_json::from_slice(&answer).map_err(|error| bad(&error.to_string()))?;
    let path = repository.join("Cargo.lock");
    let lock = std::fs::read_to_string(&path).map_err(io("cannot read", path))?;
    select(&metadata, &sums(&lock)?, programs)
}

fn bad(why: &str) -> Error {
    Error::Format { what: "answer of cargo metadata".into(), why: why.to_owned() }
}

/// (name, version) -> SHA-256 of the archive.
fn sums(lock: &str) -> Result<BTreeMap<(String, String), String>> {
    let document: toml_edit::DocumentMut = lock
        .parse()
        .map_err(|error: toml_edit::TomlError| Error::Format { what: "Cargo.lock".into(), why: error.message().to_owned() })?;
    let packages = document.get("package").and_then(|item| item.as_array_of_tables()).into_iter().flatten();
    let text = |table: &toml_edit::Table, key: &str| table.get(key).and_then(|item| item.as_str()).map(str::to_owned);
    Ok(packages.filter_map(|table| Some(((text(table, "name")?, text(table, "version")?), text(table, "checksum")?))).collect())
}

fn select(metadata: &Value, sums: &BTreeMap<(String, String), String>, programs: &[&str]) -> Result<Vec<Crate>> {
    let list = |value: &'_ Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let packages: BTreeMap<String, Value> =
        list(metadata, "packages").into_iter().filter_map(|package| Some((text(&package, "id")?, package))).collect();
    let nodes: BTreeMap<String, Value> = list(metadata.get("resolve").unwrap_or(&Value::Null), "nodes")
        .into_iter()
        .filter_map(|node| Some((text(&node, "id")?, node)))
        .collect();
    let mut queue = Vec::new();
    for program in programs {
        let own = packages
            .iter()
            .find(|(_, package)| text(package, "name").as_deref() == Some(program) && text(package, "source").is_none());
        queue.push(own.map(|(id, _)| id.clone()).ok_or_else(|| bad(&format!("has no package {program}")))?);
    }
    let mut seen = BTreeSet::new();
    while let Some(id) = queue.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        for dependency in list(nodes.get(&id).ok_or_else(|| bad(&format!("does not resolve {id}")))?, "deps") {
            // A kind of null is a normal dependency; "dev" and "build" are not in the program.
            let normal = list(&dependency, "dep_kinds").iter().any(|kind| kind.get("kind").is_none_or(Value::is_null));
            if normal {
                queue.extend(text(&dependency, "pkg"));
            }
        }
    }
    let mut crates = BTreeSet::new();
    for id in &seen {
        let package = packages.get(id).ok_or_else(|| bad(&format!("has no package {id}")))?;
        let (Some(name), Some(version)) = (text(package, "name"), text(package, "version")) else {
            return Err(bad(&format!("names no version of {id}")));
        };
        let sha256 = sums.get(&(name.clone(), version.clone())).cloned();
        crates.insert(Crate {
            licence: text(package, "license"),
            registry: text(package, "source").is_some(),
            name,
            version,
            sha256,
        });
    }
    Ok(crates.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_compiled_in() {
        let dep = |id: &str, kind: Value| serde_json::json!({ "pkg": id, "dep_kinds": [{ "kind": kind }] });
        let package = |id: &str, source: Value| serde_json::json!({ "id": id, "name": id, "version": "1.0.0", "license": "MIT", "source": source });
        let registry = Value::from("registry+x");
        let metadata = serde_json::json!({
            "packages": [package("me", Value::Null), package("a", registry.clone()), package("b", registry.clone()), package("t", registry.clone()), package("c", registry)],
            "resolve": { "nodes": [
                { "id": "me", "deps": [dep("a", Value::Null), dep("t", Value::from("dev")), dep("c", Value::from("build"))] },
                { "id": "a", "deps": [dep("b", Value::Null)] }, { "id": "b", "deps": [] }, { "id": "t", "deps": [] }, { "id": "c", "deps": [] }
            ] }
        });
        let sums = sums("[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"ff\"\n").unwrap();
        let crates = select(&metadata, &sums, &["me"]).unwrap();
        assert_eq!(crates.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["a", "b", "me"]);
        assert_eq!(crates[0].sha256.as_deref(), Some("ff"));
        assert!(!crates[2].registry);
        assert!(select(&metadata, &sums, &["nobody"]).is_err());
    }

    #[test]
    fn this_repository() {
        let crates = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &["twinpost-init"]).unwrap();
        let rustix = crates.iter().find(|one| one.name == "rustix").unwrap();
        assert!(rustix.registry && rustix.sha256.as_ref().is_some_and(|sum| sum.len() == 64), "{rustix:?}");
        assert!(!crates.iter().any(|one| one.name == "proptest"), "{crates:?}");
    }
}
