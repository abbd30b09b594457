//! The base archive: the packages of the recipe, installed by mmdebstrap into one tar file.
//!
//! Contract: one archive for each package list, kept in the cache until it is asked for anew; an archive that is not complete never has
//! the name of a complete one. The package sources are those of the build machine that carry the recipe's suite: nothing else of its
//! settings gets in. Failure classes: no such source, mmdebstrap or the network.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cache;
use crate::error::{Error, Result, io};
use crate::program;
use crate::progress::Step;
use crate::recipe::Recipe;

/// Where apt keeps the sources of the build machine.
const SOURCES: &str = "/etc/apt";
/// Time that package scripts see. All times of the image are set later, so this may be the same for every release, and with it the archive.
const EPOCH_S: u64 = 1_700_000_000;

/// Why a person who is not root cannot make the archive.
const NO_MODE: &str = "needs root, or a user namespace with more than one user: the package uidmap, and lines for you in /etc/subuid and \
                       /etc/subgid (as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 YOU). Nothing but this step needs it";
/// Archives kept: the present one and the one before it.
const BASES: usize = 2;
/// How the archive is made; another way is another archive.
pub(crate) const WAY: &[u8] = b"essential, lists kept, 2";

/// The base archive of `recipe`, fetched and installed if the cache has none (or `fresh`).
pub fn archive(recipe: &Recipe, cache: &Path, fresh: bool, step: &Step) -> Result<PathBuf> {
    let path = cache.join(format!("base-{}.tar", &recipe.base_key.to_hex()[..16]));
    if path.exists() && !fresh {
        step.cached();
        return Ok(path);
    }
    std::fs::create_dir_all(cache).map_err(io("cannot make", cache))?;
    let sources = sources(Path::new(SOURCES), &recipe.suite)?;
    let partial = path.with_extension("partial");
    let mut command = Command::new("mmdebstrap");
    command.args(["--mode=auto", "--variant=essential", "--format=tar", "--skip=cleanup/apt/lists"]);
    command.arg(format!("--architectures={}", recipe.architecture));
    command.args(["--aptopt=Apt::Install-Recommends \"false\"", "--dpkgopt=path-exclude=/usr/share/man/*"]);
    command.args(["--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/info/*"]);
    command.arg(format!("--include={}", recipe.packages.join(",")));
    command.arg(&recipe.suite).arg(&partial).arg("-");
    // The kernel package would make an initramfs of the distribution, half a minute for a file that nobody reads.
    command.env("INITRD", "No").env("SOURCE_DATE_EPOCH", EPOCH_S.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| program::missing(&command, &error))?;
    let mut pipe = child.stdin.take().expect("stdin was asked for");
    // mmdebstrap reads all of it before it does anything else, and closes it if it does not like its arguments; then its message counts.
    let given = pipe.write_all(sources.as_bytes());
    drop(pipe);
    let mut said: Vec<String> = Vec::new();
    for line in BufReader::new(child.stderr.take().expect("stderr was asked for")).lines() {
        let line = line.map_err(io("cannot read what mmdebstrap says while writing", &partial))?;
        if let Some(what) = line.strip_prefix("I: ") {
            step.says(what);
        }
        said.push(line);
    }
    let output = std::process::Output {
        status: child.wait().map_err(io("cannot wait for mmdebstrap writing", &partial))?,
        stdout: Vec::new(),
        stderr: said.join("\n").into_bytes(),
    };
    if said.iter().any(|line| line.contains("unable to pick chroot mode")) {
        return Err(Error::Program { program: "mmdebstrap".into(), why: NO_MODE.into() });
    }
    program::check(&command, output)?;
    given.map_err(io("cannot give the package sources to mmdebstrap for", &partial))?;
    std::fs::rename(&partial, &path).map_err(io("cannot rename to", &path))?;
    cache::prune(cache, "base", BASES)?;
    Ok(path)
}

/// The sources of this machine that carry `suite`, its updates and its security fixes, as apt writes them.
fn sources(folder: &Path, suite: &str) -> Result<String> {
    let mut files = vec![folder.join("sources.list")];
    if let Ok(entries) = std::fs::read_dir(folder.join("sources.list.d")) {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.sort();
    let mut out = String::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => text.lines().filter(|line| one_line(line, suite)).for_each(|line| out.push_str(&stanza(line))),
            Some("sources") => text.split("\n\n").filter(|part| deb822(part, suite)).for_each(|part| {
                out.push_str(part.trim());
                out.push_str("\n\n");
            }),
            _ => {}
        }
    }
    if out.is_empty() {
        let why = format!(
            "has no package source for {suite}: no entry below {} names that suite with the component main",
            folder.display()
        );
        return Err(Error::Program { program: "apt".into(), why });
    }
    Ok(out)
}

fn of(word: &str, suite: &str) -> bool {
    word.strip_prefix(suite).is_some_and(|rest| matches!(rest, "" | "-updates" | "-security"))
}

/// `deb [options] URI suite components` (sources.list(5)).
fn one_line(line: &str, suite: &str) -> bool {
    let words = words(line);
    words.first() == Some(&"deb")
        && words.get(2).is_some_and(|word| of(word, suite))
        && words.iter().skip(3).any(|word| *word == "main")
}

/// The words of a one-line entry without its options.
fn words(line: &str) -> Vec<&str> {
    let line = line.split('#').next().unwrap_or_default();
    match (line.find('['), line.find(']')) {
        (Some(from), Some(to)) if from < to => line[..from].split_whitespace().chain(line[to + 1..].split_whitespace()).collect(),
        _ => line.split_whitespace().collect(),
    }
}

/// A one-line entry as a stanza, so that entries of both kinds can stand in one file.
fn stanza(line: &str) -> String {
    let words = words(line);
    let keys = line.find('[').zip(line.find(']')).filter(|(from, to)| from < to).and_then(|(from, to)| {
        line[from + 1..to]
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by=").map(|keys| format!("Signed-By: {keys}\n")))
    });
    format!(
        "Types: deb\nURIs: {}\nSuites: {}\nComponents: {}\n{}\n",
        words[1],
        words[2],
        words[3..].join(" "),
        keys.unwrap_or_default()
    )
}

fn deb822(part: &str, suite: &str) -> bool {
    let field = |name: &str| {
        part.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.split_whitespace().collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let on = field("Enabled:").first().is_none_or(|word| *word != "no");
    let suites = field("Suites:");
    on && field("Types:").contains(&"deb")
        && !suites.is_empty()
        && suites.iter().all(|word| of(word, suite))
        && field("Components:").contains(&"main")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sources_of_the_suite_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("sources.list");
        std::fs::write(
            &list,
            "# deb file:/a bookworm main\ndeb [signed-by=/k arch=amd64] file:/b bookworm main contrib\ndeb file:/c bookworm-backports main\ndeb-src file:/d bookworm main\n",
        )
        .unwrap();
        let parts = folder.path().join("sources.list.d");
        std::fs::create_dir(&parts).unwrap();
        std::fs::write(
            parts.join("x.sources"),
            "Types: deb\nURIs: file:/e\nSuites: bookworm bookworm-updates\nComponents: main\n\nTypes: deb\nURIs: file:/f\nSuites: nodistro\nComponents: main\n\n\
             Types: deb\nURIs: file:/g\nSuites: bookworm-security\nComponents: main\nEnabled: no\n",
        )
        .unwrap();
        assert_eq!(
            sources(folder.path(), "bookworm").unwrap(),
            "Types: deb\nURIs: file:/b\nSuites: bookworm\nComponents: main contrib\nSigned-By: /k\n\nTypes: deb\nURIs: file:/e\nSuites: bookworm bookworm-updates\nComponents: main\n\n"
        );
        let error = sources(folder.path(), "trixie").unwrap_err();
        assert!(error.to_string().contains("no package source for trixie"), "{error}");
    }
}
