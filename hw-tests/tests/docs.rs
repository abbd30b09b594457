//! The pages hold together: every link leads somewhere, every `twinpost` command in them is one that the program takes, and
//! nothing in them belongs to one machine only.

#[path = "../../services/twinpost/src/cli.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, unused_imports, reason = "the program's own command line, read here as it is")]
mod cli;

/// What the command line file names of its own program: an order that nobody can type, so that its content matters to no page.
mod operators {
    /// In place of the program's.
    #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
    pub struct Notice;
}

use clap::Parser;
use std::path::{Component, Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("hw-tests lies in the workspace").to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All pages, by their path from the root.
fn pages() -> Vec<(PathBuf, String)> {
    let root = root();
    let mut found: Vec<PathBuf> = Vec::new();
    let mut open = vec![root.join("docs")];
    found.extend(["README.md", "README.zh-CN.md", "CHANGELOG.md"].map(|n| root.join(n)));
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.expect("a folder of the repository can be listed").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    let shown = |path: &Path| path.strip_prefix(&root).expect("it was found below the root").to_owned();
    found.iter().map(|path| (shown(path), read(path))).collect()
}

/// `a/b/../c` as `a/c`.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

/// The name by which a heading is linked: lower case, letters, digits and hyphens.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter_map(|c| if c == ' ' { Some('-') } else { (c.is_alphanumeric() || c == '-' || c == '_').then_some(c) })
        .collect()
}

fn anchors(page: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in page.lines() {
        fenced ^= line.starts_with("```");
        if !fenced && line.starts_with('#') {
            found.push(anchor(line.trim_start_matches('#')));
        }
    }
    found
}

/// Targets of `[text](target)`.
fn links(page: &str) -> Vec<&str> {
    page.match_indices("](").filter_map(|(at, _)| page[at + 2..].split_once(')').map(|(target, _)| target)).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let mut dead = Vec::new();
    for (page, text) in &pages {
        for link in links(text).into_iter().filter(|l| !l.starts_with("https://")) {
            let (path, wanted) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { plain(&page.parent().unwrap_or(Path::new("")).join(path)) };
            let there = root().join(&target).exists();
            let heading = wanted.is_empty() || pages.iter().any(|(p, t)| *p == target && anchors(t).iter().any(|a| a == wanted));
            if !there || !heading {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
}

#[test]
fn every_page_is_in_the_list_of_all_pages() {
    let index = read(&root().join("docs/index.md"));
    let listed: Vec<PathBuf> = links(&index).into_iter().map(|l| plain(&Path::new("docs").join(l))).collect();
    let missing: Vec<String> = pages()
        .into_iter()
        .map(|(page, _)| page)
        .filter(|p| p.starts_with("docs") && *p != Path::new("docs/index.md") && !listed.contains(p))
        .map(|p| p.display().to_string())
        .collect();
    assert!(missing.is_empty(), "docs/index.md does not list {missing:?}");
}

/// Words of a shell line up to a comment, pipe or redirection.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let (mut quote, mut inside) = (None, false);
    for c in line.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => words.last_mut().expect("a quote is inside a word").push(c),
            None if matches!(c, '#' | '|' | '<' | '>') && !inside => break,
            None if c.is_whitespace() => inside = false,
            None => {
                if !inside {
                    words.push(String::new());
                    inside = true;
                }
                match c {
                    '"' | '\'' => quote = Some(c),
                    c => words.last_mut().expect("a word was begun").push(c),
                }
            }
        }
    }
    words
}

/// The `twinpost` commands of a page: lines of ```sh blocks, also behind a pipe or under the alias that the README sets.
fn commands(page: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut shell = false;
    for line in page.lines() {
        if let Some(kind) = line.strip_prefix("```") {
            shell = kind == "sh";
        } else if shell {
            let line = line.split(" | ").last().unwrap_or_default().trim();
            let mut words = words(line);
            match words.first().map(String::as_str) {
                Some("twinpost" | "target/release/twinpost") => words[0] = "twinpost".to_owned(),
                Some("ctl") => words.insert(0, "twinpost".to_owned()),
                _ => continue,
            }
            found.push(words);
        }
    }
    found
}

#[test]
fn every_command_in_the_pages_is_taken() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (page, text) in pages() {
        for command in commands(&text).into_iter().filter(|c| !c.iter().any(|w| w == "COMMAND")) {
            seen += 1;
            if let Err(error) = cli::Cli::try_parse_from(&command) {
                wrong.push(format!("{}: {}\n{error}", page.display(), command.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 60, "only {seen} commands were found: the pages or this test have changed their form");
}

#[test]
fn shell_lines_are_read_as_a_shell_does() {
    let read = |line: &str| words(line).join("|");
    assert_eq!(read("ctl a --quota \"5 GiB\" 'x y'z  # note"), "ctl|a|--quota|5 GiB|x yz");
    assert_eq!(read("ctl p --password-stdin < file"), "ctl|p|--password-stdin");
    assert_eq!(commands("```sh\necho x | twinpost ctl b\n```\ntwinpost no\n"), [["twinpost", "ctl", "b"]]);
}

#[test]
fn nothing_belongs_to_one_machine() {
    for (page, text) in pages() {
        for part in ["/root/", "/home/", "/tmp/", "/work/"] {
            assert!(!text.contains(part), "{} names {part}", page.display());
        }
    }
}
