//! From files to boards: bases, revisions, changes of the administrator.

use crate::board::Board;
use crate::choose::Choice;
use crate::dmi::{Dmi, Match};
use crate::layer::{self, Kind, Layer};
use crate::{Error, GENERIC};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use twinpost_config::Faults;

/// Boards that rest on boards: so many, no more.
const BASES_MAX: usize = 4;
/// Folders looked at.
const BOARDS_MAX: usize = 1000;

/// All boards of a folder.
#[derive(Debug, Default)]
pub struct Boards {
    /// Those without faults, with each revision as a board of its own, by their full names.
    pub boards: Vec<Board>,
    /// What is wrong with the others: file, line, key, sentence.
    pub faults: Vec<String>,
}

struct File {
    path: PathBuf,
    text: String,
    layer: Layer,
}

impl Boards {
    /// Reads every `<name>/board.toml` of the folder.
    #[must_use]
    pub fn load_all(dir: &Path) -> Self {
        let mut this = Self::default();
        let mut files: BTreeMap<String, File> = BTreeMap::new();
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) => {
                this.faults.push(format!("cannot read the boards in {}: {error}", dir.display()));
                return this;
            }
        };
        for entry in entries.flatten().take(BOARDS_MAX) {
            let path = entry.path().join("board.toml");
            let name = entry.file_name().to_string_lossy().into_owned();
            if !entry.path().is_dir() {
                continue;
            }
            match layer::text_of(&path) {
                Ok(text) => {
                    let mut faults = Faults::new(&path.display().to_string(), &text);
                    let layer = layer::read(&text, Kind::Board, &mut faults);
                    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b)) {
                        faults.add(
                            None,
                            "",
                            format!("the folder's name {name:?} is the board's: small letters, digits, - and _ only"),
                        );
                    }
                    if faults.is_empty() {
                        files.insert(name, File { path, text, layer });
                    } else {
                        this.faults.push(faults.to_string());
                    }
                }
                Err(error) => this.faults.push(format!("cannot read the board {}: {error}", path.display())),
            }
        }
        for name in files.keys() {
            match assemble(name, &files) {
                Ok(boards) => this.boards.extend(boards),
                Err(faults) => this.faults.push(faults),
            }
        }
        this
    }

    /// The board of this name, without or with its revision.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn named(&self, name: &str) -> Result<&Board, Error> {
        self.boards.iter().find(|board| board.full_name() == name).ok_or_else(|| Error::Unknown {
            name: name.to_owned(),
            known: self.boards.iter().map(Board::full_name).collect::<Vec<_>>().join(", "),
        })
    }
}

/// One board and its revisions.
fn assemble(name: &str, files: &BTreeMap<String, File>) -> Result<Vec<Board>, String> {
    let own = &files[name];
    let mut faults = Faults::new(&own.path.display().to_string(), &own.text);
    let mut chain = vec![own];
    let mut seen = vec![name];
    while let Some(base) = &chain[chain.len() - 1].layer.base {
        let message = match files.get_key_value(base.as_str()) {
            None => {
                let known: Vec<&str> = files.keys().map(String::as_str).filter(|n| *n != name).collect();
                Some(format!("there is no sound board {base:?}; there are: {}", known.join(", ")))
            }
            Some((base, _)) if seen.contains(&base.as_str()) => {
                Some(format!("the bases go round: {} -> {base}", seen.join(" -> ")))
            }
            Some(_) if chain.len() > BASES_MAX => Some(format!("more than {BASES_MAX} bases below each other")),
            Some((base, file)) => {
                seen.push(base);
                chain.push(file);
                None
            }
        };
        if let Some(message) = message {
            faults.add(None, "base", message);
            return Err(faults.to_string());
        }
    }
    let mut board =
        Board { name: name.to_owned(), title: name.to_owned(), matches: own.layer.matches.clone(), ..Board::default() };
    for file in chain.iter().rev() {
        file.layer.onto(&mut board);
        board.files.push(file.path.clone());
    }
    let mut boards = vec![board.clone()];
    for revision in &own.layer.revisions {
        let narrowed = |own: &Match| own.and(&revision.pattern);
        let mut revised = Board {
            revision: Some(revision.name.clone()),
            matches: if board.matches.is_empty() {
                vec![revision.pattern.clone()]
            } else {
                board.matches.iter().map(narrowed).collect()
            },
            ..board.clone()
        };
        revision.layer.onto(&mut revised);
        if boards.iter().any(|b| b.revision == revised.revision) {
            faults.add(None, "revision", format!("there are two revisions {:?}", revision.name));
        }
        boards.push(revised);
    }
    for board in &boards {
        for (key, message) in layer::check(board) {
            let line = layer::line_of(&own.layer.lines, &key);
            let of = board.revision.as_ref().map(|r| format!(" (revision {r})")).unwrap_or_default();
            faults.add_at_line(line, &key, format!("{message}{of}"));
        }
    }
    if faults.is_empty() { Ok(boards) } else { Err(faults.to_string()) }
}

/// Lays the administrator's changes on a board. A change names parts as a board file does; `base` in it names the board to be
/// changed instead of the one that the firmware's words choose.
///
/// # Errors
/// [`Error::Faults`], [`Error::Unknown`].
pub(crate) fn change(boards: &Boards, chosen: &Board, path: &Path, text: &str) -> Result<Board, Error> {
    let mut faults = Faults::new(&path.display().to_string(), text);
    let layer = layer::read(text, Kind::Changes, &mut faults);
    if !faults.is_empty() {
        return Err(Error::Faults(faults.to_string()));
    }
    let mut board = match &layer.base {
        Some(base) => boards.named(base)?.clone(),
        None => chosen.clone(),
    };
    layer.onto(&mut board);
    // Who names the port needs no search for it.
    if layer.nics.contains_key(&crate::NicRole::Lan) {
        board.careful.lan_first_with_link = false;
    }
    if !layer.bays.is_empty() {
        board.careful.own_disks = false;
    }
    board.files.push(path.to_owned());
    for (key, message) in layer::check(&board) {
        faults.add_at_line(layer::line_of(&layer.lines, &key), &key, message);
    }
    if faults.is_empty() { Ok(board) } else { Err(Error::Faults(faults.to_string())) }
}

/// The board of this machine, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detected {
    /// The board, with the administrator's changes.
    pub board: Board,
    /// What the firmware says.
    pub dmi: Dmi,
    /// No board fits this machine: it is the careful one.
    pub unknown: bool,
    /// The administrator's changes hold.
    pub changed: bool,
    /// What is wrong with the data: left out, and to be told.
    pub faults: Vec<String>,
}

/// Finds the board of this machine: by the firmware's words under `sys`, among the boards in `dir`, with the changes of the
/// administrator if that file is there. Never fails: whatever is wrong is told, and the careful board holds.
#[must_use]
pub fn detect(sys: &Path, dir: &Path, changes: Option<&Path>) -> Detected {
    let mut unread = None;
    let text = changes.and_then(|path| match layer::text_of(path) {
        Ok(text) => Some((path, text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            unread = Some(format!("cannot read the changes of the board {}: {error}", path.display()));
            None
        }
    });
    let mut detected = detect_with(sys, dir, text.as_ref().map(|(path, text)| (*path, text.as_str())));
    detected.faults.extend(unread);
    detected
}

/// The same with this text of changes, whether it is in the file or not: what would hold with it.
#[must_use]
pub fn detect_with(sys: &Path, dir: &Path, text: Option<(&Path, &str)>) -> Detected {
    let dmi = Dmi::read(sys);
    let boards = Boards::load_all(dir);
    let mut faults = boards.faults.clone();
    let (chosen, unknown) = match boards.matching(&dmi) {
        Ok(Choice { board: Some(board), .. }) => (board, false),
        Ok(Choice { board: None, .. }) => (boards.careful(), true),
        Err(error) => {
            faults.push(error.to_string());
            (boards.careful(), true)
        }
    };
    let (board, changed) = match text.map(|(path, text)| change(&boards, &chosen, path, text)) {
        Some(Ok(board)) => (board, true),
        Some(Err(error)) => {
            faults.push(error.to_string());
            (chosen, false)
        }
        None => (chosen, false),
    };
    Detected { board, dmi, unknown, changed, faults }
}

impl Boards {
    /// The board of a machine that no other fits; without any file, one that knows no part.
    #[must_use]
    pub fn careful(&self) -> Board {
        self.named(GENERIC).cloned().unwrap_or_else(|_| Board {
            name: GENERIC.to_owned(),
            title: "unknown machine".to_owned(),
            ..Board::default()
        })
    }
}
