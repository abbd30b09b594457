//! docs/rfc.md is made from the remarks `RFC NNNN` beside the code and from the table of titles and states.
//!
//! Contract: the page names every RFC that the code cites, with what is done of it and where. The test fails when the code
//! cites an RFC that the table does not know, when the table claims one that no code cites, and when the page differs from
//! what would be written now. `TWINPOST_WRITE_DOCS=1` writes the page.

#[path = "rfc/remarks.rs"]
mod remarks;
#[path = "rfc/table.rs"]
mod table;

use remarks::{Citation, citations};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use table::{Rfc, State, TABLE};

/// Folders whose code counts.
const ROOMS: [&str; 2] = ["system", "services"];
/// Sections of one file that the page lists at most; the rest is "and more".
const SECTIONS_SHOWN: usize = 12;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("hw-tests lies in the workspace").to_owned()
}

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    let mut list: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| entry.expect("a folder of the repository can be listed").path())
        .collect();
    list.sort();
    for path in list {
        if path.is_dir() {
            if path.file_name().is_some_and(|n| n != "target") {
                sources(&path, into);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// A test may quote what no code does: it proves nothing about the product.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.contains("/examples/") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

/// By RFC, by file: the sections.
type Found = BTreeMap<u32, BTreeMap<String, BTreeSet<Section>>>;

/// `4.10` stands behind `4.9`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Section(Vec<u32>, String);

fn section(text: &str) -> Section {
    Section(text.split('.').filter_map(|part| part.parse().ok()).collect(), text.to_owned())
}

struct Scan {
    /// What the code itself cites.
    code: Found,
    /// Every place, tests included, for messages: `file:line`.
    places: BTreeMap<u32, Vec<String>>,
}

fn scan() -> Scan {
    let root = root();
    let mut files = Vec::new();
    for room in ROOMS {
        sources(&root.join(room), &mut files);
    }
    let (mut code, mut places) = (Found::new(), BTreeMap::<u32, Vec<String>>::new());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let shown = file.strip_prefix(&root).expect("the file was found below the root").to_string_lossy().into_owned();
        for (number, line) in text.lines().enumerate() {
            for Citation { rfc, sections } in citations(line) {
                places.entry(rfc).or_default().push(format!("{shown}:{}", number + 1));
                if !is_test(&shown) {
                    code.entry(rfc).or_default().entry(shown.clone()).or_default().extend(sections.iter().map(|s| section(s)));
                }
            }
        }
    }
    Scan { code, places }
}

/// `services/smtp/src/session.rs` as `smtp` and `session.rs`.
fn crate_and_file(path: &str) -> (String, String) {
    let mut parts = path.split('/');
    let (room, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let file: Vec<&str> = parts.skip_while(|p| *p == "src").collect();
    let name = if room == "system" { format!("system/{name}") } else { name.to_owned() };
    (name, file.join("/"))
}

fn places_of(files: &BTreeMap<String, BTreeSet<Section>>) -> String {
    let mut crates: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, sections) in files {
        let (name, file) = crate_and_file(path);
        let mut shown: Vec<&str> = sections.iter().take(SECTIONS_SHOWN).map(|s| s.1.as_str()).collect();
        if sections.len() > SECTIONS_SHOWN {
            shown.push("and more");
        }
        let sections = if shown.is_empty() { String::new() } else { format!(" ({})", shown.join(", ")) };
        crates.entry(name).or_default().push(format!("{file}{sections}"));
    }
    let lines: Vec<String> = crates.iter().map(|(name, files)| format!("**{name}**: {}", files.join("; "))).collect();
    lines.join("<br>")
}

fn page(code: &Found) -> String {
    let count = |state| TABLE.iter().filter(|r| r.state == state).count();
    let mut text = format!(
        "# RFCs\n\n\
         What Twinpost does of each RFC that its code cites. This page is made by `make docs` from the remarks beside the code\n\
         (`RFC 9051 6.3.2`) and a table in `hw-tests/tests/rfc/`. A test holds the three together: it fails when the code cites an\n\
         RFC that the table does not know, and when the table names one that no code cites.\n\n\
         - **whole** ({}): everything that it asks of a program in our place. Options that are left out are named.\n\
         - **part** ({}): the note says what is missing.\n\
         - **read** ({}): understood when it comes in, never written.\n\
         - **used** ({}): a rule, a form or a word is taken from it. It is no protocol that is spoken here.\n\n",
        count(State::Whole),
        count(State::Part),
        count(State::Read),
        count(State::Used)
    );
    text.push_str("| RFC | title | state | note | where (sections) |\n|---:|---|---|---|---|\n");
    for Rfc { number, title, state, note } in TABLE {
        let places = code.get(number).map(places_of).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| [{number}](https://www.rfc-editor.org/rfc/rfc{number}) | {title} | {} | {note} | {places} |",
            state.name()
        );
    }
    text
}

#[test]
fn every_rfc_that_is_cited_is_in_the_table() {
    let scan = scan();
    let unknown: Vec<String> = scan
        .places
        .iter()
        .filter(|(rfc, _)| !TABLE.iter().any(|r| r.number == **rfc))
        .map(|(rfc, places)| format!("RFC {rfc} at {}", places.join(", ")))
        .collect();
    assert!(unknown.is_empty(), "the table in hw-tests/tests/rfc/table.rs does not know:\n{}", unknown.join("\n"));
}

#[test]
fn every_rfc_in_the_table_is_cited_by_code() {
    let code = scan().code;
    let idle: Vec<u32> = TABLE.iter().map(|r| r.number).filter(|n| !code.contains_key(n)).collect();
    assert!(idle.is_empty(), "the table claims RFCs that no code cites: {idle:?}");
}

#[test]
fn the_table_is_in_order_and_says_what_is_missing() {
    for pair in TABLE.windows(2) {
        assert!(pair[0].number < pair[1].number, "RFC {} stands before RFC {}", pair[0].number, pair[1].number);
    }
    for rfc in TABLE {
        let Rfc { number, title, state, note } = rfc;
        assert!(!title.is_empty() && !title.contains('|') && !note.contains('|'), "RFC {number}: title or note");
        assert!(*state == State::Whole || !note.is_empty(), "RFC {number} is {}: a note has to say how far", state.name());
    }
}

#[test]
fn the_page_is_up_to_date() {
    let scan = scan();
    let path = root().join("docs/rfc.md");
    let wanted = page(&scan.code);
    if std::env::var_os("TWINPOST_WRITE_DOCS").is_some_and(|v| v == "1") {
        std::fs::write(&path, &wanted).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if let Some((line, (wanted, found))) = wanted.lines().zip(found.lines()).enumerate().find(|(_, (w, f))| w != f) {
        panic!("docs/rfc.md differs in line {}: run `make docs`\n wanted: {wanted}\n found:  {found}", line + 1);
    }
    assert_eq!(wanted, found, "docs/rfc.md is too long or too short: run `make docs`");
}
