//! The history on the disk of one node.
//!
//! Contract: after a call returned `Ok`, document and history are on the disk and say the same; after an `Err` both are as before, or the next
//! [`History::open`] or [`History::notice`] makes them so.
//!
//! Failure classes: [`HistoryError`].

use super::disk::Disk;
use super::{ANCESTORS, Conflict, Generation, HistoryError, KEPT, MAX_TEXT_BYTES, Offer, diff};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Judges a document: all its faults, a sentence each.
pub type Validate<'a> = &'a dyn Fn(&str) -> Result<(), Vec<String>>;

/// The largest `state.json`: a conflict with its text, escaped, and all ids.
const MAX_STATE_BYTES: usize = 8 << 20;
/// An edit by hand is taken when the file has been still for so long: an editor may write it in pieces.
const SETTLE: Duration = Duration::from_secs(1);

/// What a look at the document file found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// What the history says.
    Same,
    /// An edit by hand, which is a generation now.
    New(Generation),
    /// An edit by hand that has faults: it stays in the file, the generation before it stays in force.
    Faults(Vec<String>),
    /// It is being written just now; look again in a second.
    Settling,
    /// It was missing and is written again.
    Restored,
    /// There is neither a file nor a history.
    Nothing,
}

/// `state.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) head: Option<String>,
    /// Generations kept with their text, newest first, the head among them.
    pub(super) kept: Vec<String>,
    /// Ids that the head descends from, newest first.
    pub(super) ancestors: Vec<String>,
    #[serde(default)]
    pub(super) conflict: Option<Offer>,
    /// The document file is being replaced.
    #[serde(default)]
    writing: Option<Writing>,
}

/// What a power cut in the middle of a replacement needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Writing {
    /// Hash of what the file held; `None`: there was none.
    held: Option<String>,
    head: Option<String>,
    ancestors: Vec<String>,
}

/// See [the module](super).
pub struct History {
    dir: PathBuf,
    file: PathBuf,
    node: String,
    disk: Disk,
    settle: Duration,
    pub(super) state: State,
    pub(super) head: Option<Generation>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History")
            .field("dir", &self.dir)
            .field("head", &self.head.as_ref().map(|h| h.number))
            .finish_non_exhaustive()
    }
}

pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn hash_of(text: &[u8]) -> String {
    blake3::hash(text).to_hex().to_string()
}

impl History {
    /// Opens the history in the folder `dir` of the document `file`, repairs what a power cut left, and looks at the file. `node` is this node's name.
    /// The document of a new history is its first generation; if it is the text of the `factory`, its number is 0 and it yields to any other.
    ///
    /// # Errors
    /// [`HistoryError::File`], [`HistoryError::Damaged`].
    pub fn open(
        dir: &Path,
        file: &Path,
        node: &str,
        factory: Option<&str>,
        validate: Validate<'_>,
    ) -> Result<(Self, Seen), HistoryError> {
        let disk = Disk::default();
        disk.folder(&dir.join("generations"))?;
        let path = dir.join("state.json");
        let state = match disk.read(&path, MAX_STATE_BYTES)? {
            None => State::default(),
            Some(content) => read_state(&content).map_err(|what| HistoryError::Damaged { path, what })?,
        };
        let mut history =
            Self { dir: dir.to_owned(), file: file.to_owned(), node: node.to_owned(), disk, settle: SETTLE, state, head: None };
        if let Some(id) = history.state.head.clone() {
            let path = history.path(&id);
            let missing =
                || HistoryError::Damaged { path: path.clone(), what: "the newest generation is missing or changed".to_owned() };
            history.head = Some(history.read(&id)?.ok_or_else(missing)?);
        }
        let seen = if history.head.is_none() { history.begin(factory, validate)? } else { history.notice(validate)? };
        Ok((history, seen))
    }

    fn begin(&mut self, factory: Option<&str>, validate: Validate<'_>) -> Result<Seen, HistoryError> {
        match self.document()? {
            None => Ok(Seen::Nothing),
            Some(Err(faults)) => Ok(Seen::Faults(faults)),
            Some(Ok(text)) => {
                if let Err(faults) = validate(&text) {
                    return Ok(Seen::Faults(faults));
                }
                // Two nodes that start with one text start with one generation: no time and no name in it.
                let number = u32::from(factory != Some(text.as_str()));
                let first = Generation::new(number, Vec::new(), 0, "first document", &text);
                self.advance(first.clone(), Vec::new(), None, false)?;
                Ok(Seen::New(first))
            }
        }
    }

    /// How long the file has to be still before an edit by hand is taken; 1 s by default.
    pub fn set_settle(&mut self, settle: Duration) {
        self.settle = settle;
    }

    /// The generation in force.
    #[must_use]
    pub fn head(&self) -> Option<&Generation> {
        self.head.as_ref()
    }

    /// Its number; 0 where there is none.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.head.as_ref().map_or(0, |head| head.number)
    }

    /// Ids of the generations that are kept with their text, newest first.
    #[must_use]
    pub fn kept(&self) -> &[String] {
        &self.state.kept
    }

    /// A kept generation.
    ///
    /// # Errors
    /// [`HistoryError::File`].
    pub fn generation(&self, id: &str) -> Result<Option<Generation>, HistoryError> {
        if self.state.kept.iter().any(|kept| kept == id) { self.read(id) } else { Ok(None) }
    }

    /// For the other node.
    #[must_use]
    pub fn offer(&self) -> Option<Offer> {
        let generation = self.head.clone()?;
        Some(Offer { generation, ancestors: self.state.ancestors.clone() })
    }

    /// The conflict that waits for a person.
    #[must_use]
    pub fn conflict(&self) -> Option<Conflict> {
        let (ours, theirs) = (self.head.clone()?, self.state.conflict.as_ref()?.generation.clone());
        let diff = diff(&ours.text, &theirs.text);
        Some(Conflict { ours, theirs, diff })
    }

    /// A person's change, made in force. The same text again changes nothing.
    ///
    /// # Errors
    /// [`HistoryError::Faults`] with all of them; [`HistoryError::Meanwhile`] or [`HistoryError::Edited`] if the file was edited by hand;
    /// [`HistoryError::TooLarge`]; [`HistoryError::File`].
    pub fn take(&mut self, text: &str, who: &str, validate: Validate<'_>) -> Result<Generation, HistoryError> {
        self.undisturbed(validate)?;
        if text.len() > MAX_TEXT_BYTES {
            return Err(HistoryError::TooLarge { bytes: text.len() });
        }
        validate(text).map_err(HistoryError::Faults)?;
        if let Some(head) = self.head.as_ref().filter(|head| head.text == text) {
            return Ok(head.clone());
        }
        let made = self.child(text, who);
        let conflict = self.state.conflict.clone();
        self.advance(made.clone(), Vec::new(), conflict, true)?;
        Ok(made)
    }

    /// Looks at the file: an edit by hand becomes a generation.
    ///
    /// # Errors
    /// [`HistoryError::File`].
    pub fn notice(&mut self, validate: Validate<'_>) -> Result<Seen, HistoryError> {
        if self.state.writing.is_some() {
            return self.repair(validate);
        }
        let Some(head) = self.head.clone() else { return self.begin(None, validate) };
        let text = match self.document()? {
            None => {
                self.disk.write(&self.file, head.text.as_bytes(), 0o640)?;
                return Ok(Seen::Restored);
            }
            Some(Ok(text)) if text == head.text => return Ok(Seen::Same),
            Some(_) if self.is_fresh() => return Ok(Seen::Settling),
            Some(Err(faults)) => return Ok(Seen::Faults(faults)),
            Some(Ok(text)) => text,
        };
        if let Err(faults) = self.judge_edit(&text, &head, validate) {
            return Ok(Seen::Faults(faults));
        }
        let made = self.child(&text, &self.by_hand());
        let conflict = self.state.conflict.clone();
        self.advance(made.clone(), Vec::new(), conflict, false)?;
        Ok(Seen::New(made))
    }

    /// This node's document yields to the other node's from now on, as one of the factory does: for a blank node that replaces another.
    /// What was here stays in the history.
    ///
    /// # Errors
    /// Those of [`History::take`] for an edit by hand; [`HistoryError::File`].
    pub fn yield_to_other(&mut self, validate: Validate<'_>) -> Result<(), HistoryError> {
        match self.undisturbed(validate) {
            Ok(()) | Err(HistoryError::Meanwhile { .. }) => {}
            Err(why) => return Err(why),
        }
        let Some(head) = self.head.as_ref().filter(|head| head.number > 0) else { return Ok(()) };
        let made = Generation::new(0, Vec::new(), 0, "yields", &head.text);
        self.keep(&made)?;
        let mut next = State { head: Some(made.id.clone()), kept: self.state.kept.clone(), ..State::default() };
        next.kept.retain(|id| *id != made.id);
        next.kept.insert(0, made.id.clone());
        self.save(&next)?;
        self.state = next;
        self.head = Some(made);
        Ok(())
    }

    /// No edit by hand is in the way of a write.
    pub(super) fn undisturbed(&mut self, validate: Validate<'_>) -> Result<(), HistoryError> {
        let edited = |path: &Path, faults| HistoryError::Edited { path: path.to_owned(), faults };
        match self.notice(validate)? {
            Seen::Same | Seen::Restored | Seen::Nothing => Ok(()),
            Seen::New(made) => Err(HistoryError::Meanwhile { number: made.number }),
            Seen::Settling => Err(edited(&self.file, vec!["it is being written just now".to_owned()])),
            Seen::Faults(faults) => Err(edited(&self.file, faults)),
        }
    }

    fn by_hand(&self) -> String {
        format!("file on {}", self.node)
    }

    fn judge_edit(&self, text: &str, head: &Generation, validate: Validate<'_>) -> Result<(), Vec<String>> {
        // An empty document is a valid one (all defaults), but an empty file is what a crash or a full disk leaves of one.
        if text.trim().is_empty() && !head.text.trim().is_empty() {
            return Err(vec![format!(
                "{}: the file is empty; to set all to default, leave a comment in it",
                self.file.display()
            )]);
        }
        validate(text)
    }

    fn child(&self, text: &str, who: &str) -> Generation {
        let parents = self.head.iter().map(|head| head.id.clone()).collect();
        let who: String = who.chars().take(100).collect();
        Generation::new(self.number().saturating_add(1), parents, now_s(), &who, text)
    }

    /// The text of the file; faults where it is none.
    fn document(&self) -> Result<Option<Result<String, Vec<String>>>, HistoryError> {
        let Some(content) = self.disk.read(&self.file, MAX_TEXT_BYTES)? else { return Ok(None) };
        let fault = |what: &str| Some(Err(vec![format!("{}: {what}", self.file.display())]));
        if content.len() > MAX_TEXT_BYTES {
            return Ok(fault("the file is larger than a document may be"));
        }
        Ok(String::from_utf8(content).map_or_else(|_| fault("the file is not UTF-8 text"), |text| Some(Ok(text))))
    }

    fn is_fresh(&self) -> bool {
        let changed = std::fs::metadata(&self.file).and_then(|facts| facts.modified());
        // A time in the future (a clock that was set back) is no reason to wait.
        changed.ok().and_then(|at| at.elapsed().ok()).is_some_and(|age| age < self.settle)
    }

    /// Makes `made` the head, with what else it descends from. `write`: the file does not hold it yet.
    pub(super) fn advance(
        &mut self,
        made: Generation,
        more_ancestors: Vec<String>,
        conflict: Option<Offer>,
        write: bool,
    ) -> Result<(), HistoryError> {
        self.keep(&made)?;
        let before = self.state.clone();
        let mut ancestors: Vec<String> = made.parents.clone();
        ancestors.extend(before.head.iter().chain(&before.ancestors).cloned());
        ancestors.extend(more_ancestors);
        let mut known = HashSet::from([made.id.clone()]);
        ancestors.retain(|id| known.insert(id.clone()));
        ancestors.truncate(ANCESTORS);
        let mut next = State { head: Some(made.id.clone()), ancestors, conflict, writing: None, kept: before.kept.clone() };
        next.kept.retain(|id| *id != made.id);
        next.kept.insert(0, made.id.clone());
        if write {
            let held = self.disk.read(&self.file, MAX_TEXT_BYTES)?.map(|content| hash_of(&content));
            next.writing = Some(Writing { held, head: before.head.clone(), ancestors: before.ancestors.clone() });
        }
        let gone = next.kept.split_off(next.kept.len().min(KEPT));
        self.save(&next)?;
        if write {
            if let Err(why) = self.disk.write(&self.file, made.text.as_bytes(), 0o640) {
                // As before, if the disk still takes that much; otherwise the remark in the state lets the next look repair it.
                if self.save(&before).is_err() {
                    self.state = next;
                    self.head = Some(made);
                }
                return Err(why);
            }
            next.writing = None;
            self.save(&next)?;
        }
        self.state = next;
        self.head = Some(made);
        for id in gone {
            self.disk.forget(&self.path(&id));
        }
        Ok(())
    }

    /// Finishes a replacement of the file that was cut off.
    fn repair(&mut self, validate: Validate<'_>) -> Result<Seen, HistoryError> {
        let (Some(writing), Some(head)) = (self.state.writing.clone(), self.head.clone()) else { return Ok(Seen::Nothing) };
        let found = self.disk.read(&self.file, MAX_TEXT_BYTES)?.map(|content| hash_of(&content));
        let mut next = State { writing: None, ..self.state.clone() };
        if found.as_ref() == Some(&head.hash) {
            self.save(&next)?;
            self.state = next;
            return Ok(Seen::Same);
        }
        if found == writing.held || found.is_none() {
            self.disk.write(&self.file, head.text.as_bytes(), 0o640)?;
            self.save(&next)?;
            self.state = next;
            return Ok(Seen::Restored);
        }
        // Edited by hand between the power cut and now: by a person who saw the old document, so the edit stands beside the new one.
        let text = match self.document()? {
            _ if self.is_fresh() => return Ok(Seen::Settling),
            Some(Ok(text)) => text,
            Some(Err(faults)) => return Ok(Seen::Faults(faults)),
            None => return Ok(Seen::Settling),
        };
        if let Err(faults) = self.judge_edit(&text, &head, validate) {
            return Ok(Seen::Faults(faults));
        }
        let other = Offer { ancestors: self.state.ancestors.clone(), generation: head };
        let made = Generation::new(
            other.generation.number.max(1),
            writing.head.iter().cloned().collect(),
            now_s(),
            &self.by_hand(),
            &text,
        );
        self.keep(&made)?;
        next.kept.insert(0, made.id.clone());
        next.ancestors = writing.head.into_iter().chain(writing.ancestors).collect();
        next.ancestors.truncate(ANCESTORS);
        next.head = Some(made.id.clone());
        next.conflict = Some(other);
        self.save(&next)?;
        self.state = next;
        self.head = Some(made.clone());
        Ok(Seen::New(made))
    }

    /// Puts a generation beside the others, not into force.
    pub(super) fn keep(&self, made: &Generation) -> Result<(), HistoryError> {
        let path = self.path(&made.id);
        let text = serde_json::to_vec(made).map_err(|e| HistoryError::Damaged { path: path.clone(), what: e.to_string() })?;
        self.disk.write(&path, &text, 0o640)
    }

    /// Writes the state; what is in memory is changed by the caller, after it.
    pub(super) fn save(&self, state: &State) -> Result<(), HistoryError> {
        let path = self.dir.join("state.json");
        let text = serde_json::to_string(state).map_err(|e| HistoryError::Damaged { path: path.clone(), what: e.to_string() })?;
        self.disk.write(&path, format!("{text}\n{}\n", hash_of(text.as_bytes())).as_bytes(), 0o640)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join("generations").join(format!("{id}.json"))
    }

    /// `None` where it is missing or not what was written.
    fn read(&self, id: &str) -> Result<Option<Generation>, HistoryError> {
        if blake3::Hash::from_hex(id).is_err() {
            return Ok(None);
        }
        let content = self.disk.read(&self.path(id), MAX_STATE_BYTES)?;
        let made = content.and_then(|content| serde_json::from_slice::<Generation>(&content).ok());
        Ok(made.filter(|made| made.id == id && made.is_whole()))
    }

    #[cfg(test)]
    pub(super) fn power_cut_after(&self, steps: Option<u32>) {
        self.disk.failing_after(steps);
    }
}

fn read_state(content: &[u8]) -> Result<State, String> {
    let content = std::str::from_utf8(content).map_err(|_| "it is not text".to_owned())?;
    let (text, hash) = content.split_once('\n').ok_or("it is cut off")?;
    if hash.trim() != hash_of(text.as_bytes()) {
        return Err("its checksum does not fit".to_owned());
    }
    serde_json::from_str(text).map_err(|e| e.to_string())
}
