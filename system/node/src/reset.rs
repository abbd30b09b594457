//! Back to the state of a new machine.
//!
//! What is erased: everything on the state volume (documents, identity, keys, logs, the record of updates) and, only with a second explicit word, this node's copy of the mail. Never
//! the other node's: the mail is erased while nothing replicates. What stays: the system itself in both slots.
//!
//! Contract: nothing happens before the typed word; then one marker on the state volume, atomic and durable, is the point of no return, and the machine starts again. The next
//! `twinpost boot` calls [`complete`] as soon as the state volume is there and before anything reads it; the marker goes last. A power cut before the marker leaves the old
//! node, after it the new one: whatever was erased half is erased whole at the next start.
//!
//! Failure classes: [`Error::Refused`] (all reasons), [`Error::Word`], [`Error::Io`]. A marker that cannot be read orders nothing.

use crate::api::Text;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// On the state volume.
pub const MARKER: &str = "factory-reset.json";
const MARKER_MAX_BYTES: u64 = 64 << 10;
/// Files up to this size are overwritten before they are removed: those that may hold keys.
const OVERWRITE_MAX_BYTES: u64 = 1 << 20;
/// Of the mail array, at its begin: the file system's root.
const HEAD_BYTES: u64 = if cfg!(test) { 3 << 20 } else { 320 << 20 };
/// At its end: what the replication remembers.
const TAIL_BYTES: u64 = if cfg!(test) { 2 << 20 } else { 64 << 20 };
const DEPTH_MAX: usize = 64;

/// Why nothing was reset.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Everything that stands against it.
    #[error("{}", reasons.iter().map(|r| r.en.as_str()).collect::<Vec<_>>().join("; "))]
    Refused {
        /// All reasons.
        reasons: Vec<Text>,
    },
    /// The word was not typed as it is asked for.
    #[error("type `{0}` to do it: nothing was changed")]
    Word(String),
    /// The state volume or the mail array cannot be written.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// For people.
    #[must_use]
    pub fn reasons(&self) -> Vec<Text> {
        let zh = match self {
            Self::Refused { reasons } => return reasons.clone(),
            Self::Word(word) => format!("请输入 `{word}` 以执行：未作任何更改"),
            Self::Io { what, path, source } => format!("对 {} 的操作失败（{what}）：{source}", path.display()),
        };
        vec![Text::new(self.to_string(), zh)]
    }
}

fn fail(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { what, path, source }
}

/// What is known of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `a` or `b`; empty on a machine that nobody has set up.
    pub node: String,
    /// The other node's letter, if there is one.
    pub peer: Option<String>,
    /// This node serves.
    pub serving: bool,
    /// The other node could take over.
    pub peer_eligible: bool,
    /// The state volume is on disk.
    pub state_on_disk: bool,
    /// A version of the system is being judged.
    pub on_trial: bool,
}

/// What would happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// In words.
    pub text: Text,
    /// Everything that stands against it.
    pub reasons: Vec<Text>,
    /// What must be typed.
    pub word: String,
}

/// The order, as it stands on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Form of this file.
    pub version: u32,
    /// The mail too.
    pub mail: bool,
    /// Who gave it.
    pub by: String,
    /// When, seconds since 1970.
    pub at_s: i64,
}

/// An order that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// The order.
    pub marker: Marker,
    /// The mail was erased. False although it was ordered: this node has no array that could be opened.
    pub mail_erased: bool,
}

/// The word that is typed: the node is named, so that nobody resets the wrong one.
#[must_use]
pub fn word(node: &str, mail: bool) -> String {
    let node = if node.is_empty() { "this machine".to_owned() } else { format!("node {node}") };
    if mail { format!("erase {node} and its mail") } else { format!("erase {node}") }
}

/// What would happen, and what stands against it. Changes nothing.
#[must_use]
pub fn preview(facts: &Facts, mail: bool) -> Preview {
    let mut reasons = Vec::new();
    if facts.serving && facts.peer.is_some() {
        reasons.push(if facts.peer_eligible {
            Text::new(
                "this node serves: let the other take over first (`twinpost ctl pair standby`)",
                "本节点正在提供服务：请先让对方接管（`twinpost ctl pair standby`）",
            )
        } else {
            Text::new(
                "this node serves and the other could not take over: the mail service would end; wait until the other is current, or forget it first (`twinpost ctl pair pairing undo`)",
                "本节点正在提供服务且对方不能接管：邮件服务会中断；请等待对方数据同步，或先解除配对（`twinpost ctl pair pairing undo`）",
            )
        });
    }
    if !facts.state_on_disk {
        reasons.push(Text::new(
            "the state volume is in memory only: the order could not be remembered over the restart",
            "状态卷仅在内存中：重启后无法记住该命令",
        ));
    }
    if facts.on_trial {
        reasons.push(Text::new(
            "the running version is still on trial: wait until it is kept",
            "正在运行的版本仍在试运行：请等待其确认",
        ));
    }
    let mut text = Text::new(
        "The node forgets everything that was set up: addresses, domain, identity, keys, pairing, logs. Then it starts again as a new machine. The system stays as it is.",
        "节点将清除全部设置：地址、域名、身份、密钥、配对关系和日志，然后作为新机器重新启动。系统本身保持不变。",
    );
    let (en, zh) = if mail {
        (
            " This node's copy of the mail is erased too and cannot be brought back from here. (Before a disk is given away, use its own secure erase as well.)",
            "本节点上的邮件副本也会被清除且无法恢复。（磁盘转交他人之前，请另外使用磁盘自身的安全擦除。）",
        )
    } else {
        (" The mail stays on its disks.", "邮件保留在磁盘上。")
    };
    text.en.push_str(en);
    text.zh.push_str(zh);
    if let Some(peer) = &facts.peer {
        text.en.push_str(&format!(" Node {peer} keeps its mail and its settings; pair with it anew afterwards."));
        text.zh.push_str(&format!("节点 {peer} 的邮件和设置不受影响；之后需要重新配对。"));
    }
    Preview { text, reasons, word: word(&facts.node, mail) }
}

/// Gives the order: the marker is on the disk when this returns. Restart the machine then.
///
/// # Errors
/// As the module says; nothing has changed then.
pub fn order(state: &Path, facts: &Facts, mail: bool, typed: &str, by: &str, at_s: i64) -> Result<(), Error> {
    let preview = preview(facts, mail);
    if !preview.reasons.is_empty() {
        return Err(Error::Refused { reasons: preview.reasons });
    }
    if typed.trim() != preview.word {
        return Err(Error::Word(preview.word));
    }
    let marker = Marker { version: 1, mail, by: by.chars().take(100).collect(), at_s };
    let path = state.join(MARKER);
    let new = state.join(format!("{MARKER}.new"));
    let json = serde_json::to_vec(&marker).map_err(|e| fail("write", &path)(e.into()))?;
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(fail("create", &new))?;
    file.write_all(&json).and_then(|()| file.sync_all()).map_err(fail("write", &new))?;
    std::fs::rename(&new, &path).map_err(fail("rename into place", &path))?;
    sync(state)?;
    tracing::warn!(mail, by, "factory reset ordered: the next start carries it out");
    Ok(())
}

/// An order that waits, or was being carried out when the power went.
#[must_use]
pub fn pending(state: &Path) -> Option<Marker> {
    let mut json = Vec::new();
    File::open(state.join(MARKER)).ok()?.take(MARKER_MAX_BYTES).read_to_end(&mut json).ok()?;
    serde_json::from_slice(&json).ok().filter(|marker: &Marker| marker.version == 1)
}

/// Carries out an order that waits; answers it. `mail` is the assembled array of this node alone, if there is one: nothing replicates it yet at this point of a start.
///
/// # Errors
/// [`Error::Io`]: the marker stays, the next start tries again.
pub fn complete(state: &Path, mail: Option<&Path>) -> Result<Option<Completed>, Error> {
    let Some(marker) = pending(state) else { return Ok(None) };
    let mut mail_erased = false;
    if marker.mail
        && let Some(array) = mail
    {
        erase_array(array)?;
        mail_erased = true;
    }
    let device = std::fs::symlink_metadata(state).map_err(fail("look at", state))?.dev();
    empty(state, device, 0, true)?;
    // From here on it is another machine; the marker goes last.
    sync(state)?;
    let path = state.join(MARKER);
    std::fs::remove_file(&path).map_err(fail("remove", &path))?;
    sync(state)?;
    tracing::warn!(mail = marker.mail, mail_erased, by = marker.by, "factory reset done");
    Ok(Some(Completed { marker, mail_erased }))
}

fn sync(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail("sync", folder))
}

/// Removes everything in a folder that is on the same file system; what is mounted there stays.
fn empty(folder: &Path, device: u64, depth: usize, top: bool) -> Result<(), Error> {
    for entry in std::fs::read_dir(folder).map_err(fail("list", folder))? {
        let entry = entry.map_err(fail("list", folder))?;
        let (path, name) = (entry.path(), entry.file_name());
        if top && (name == MARKER || name == "lost+found") {
            continue;
        }
        let facts = match std::fs::symlink_metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(fail("look at", &path))?,
        };
        if facts.dev() != device {
            tracing::warn!(path = %path.display(), "another file system is mounted here and stays as it is");
            continue;
        }
        if !facts.is_dir() {
            if facts.is_file() && facts.nlink() == 1 && facts.len() <= OVERWRITE_MAX_BYTES {
                overwrite(&path, facts.len()).map_err(fail("overwrite", &path))?;
            }
            std::fs::remove_file(&path).map_err(fail("remove", &path))?;
            continue;
        }
        if depth >= DEPTH_MAX {
            return Err(fail("remove", &path)(io::Error::other("too many folders in each other")));
        }
        empty(&path, device, depth + 1, false)?;
        match std::fs::remove_dir(&path) {
            // Something is mounted in it or on it.
            Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy) => {}
            other => other.map_err(fail("remove", &path))?,
        }
    }
    Ok(())
}

fn overwrite(path: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let zeros = vec![0; usize::try_from(bytes).unwrap_or(0)];
    file.write_all_at(&zeros, 0)?;
    file.sync_data()
}

/// Zeros over the begin and the end of the mail array.
fn erase_array(array: &Path) -> Result<(), Error> {
    let exclusive = i32::try_from(rustix::fs::OFlags::EXCL.bits()).unwrap_or(0);
    let mut options = OpenOptions::new();
    options.write(true);
    // A file system or a replication that has it must not lose it under its feet. (Only of a device does the flag say that.)
    if std::fs::metadata(array).is_ok_and(|facts| !facts.is_file()) {
        options.custom_flags(exclusive);
    }
    let mut file = options.open(array).map_err(fail("open", array))?;
    let bytes = file.seek(SeekFrom::End(0)).map_err(fail("measure", array))?;
    let head = HEAD_BYTES.min(bytes);
    let tail = bytes.saturating_sub(TAIL_BYTES).max(head);
    for (from, to) in [(0, head), (tail, bytes)] {
        let zeros = vec![0; 1 << 20];
        let mut at = from;
        while at < to {
            let n = usize::try_from(to - at).unwrap_or(zeros.len()).min(zeros.len());
            file.write_all_at(&zeros[..n], at).map_err(fail("erase", array))?;
            at += n as u64;
        }
    }
    file.sync_all().map_err(fail("sync", array))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn facts() -> Facts {
        Facts { node: "a".into(), peer: Some("b".into()), state_on_disk: true, peer_eligible: true, ..Facts::default() }
    }

    fn state() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "s3cret").unwrap();
        };
        [
            "node/identity.json",
            "node/run/x",
            "node/appliance.toml",
            "log/journal/ab/system.journal",
            "system/update.json",
            "lost+found/x",
        ]
        .into_iter()
        .for_each(at);
        symlink("/etc/passwd", dir.path().join("node/link")).unwrap();
        dir
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_stands_against_it() {
        assert!(preview(&facts(), false).reasons.is_empty());
        let bad = Facts { serving: true, state_on_disk: false, on_trial: true, ..facts() };
        assert_eq!(preview(&bad, true).reasons.len(), 3);
        let alone = Facts { serving: true, peer: None, ..facts() };
        assert!(preview(&alone, true).reasons.is_empty(), "a node without a peer may be reset while it serves");
        let told = preview(&facts(), true);
        assert!(told.text.en.contains("Node b keeps its mail") && told.text.zh.contains("节点 b"));
        assert_eq!((told.word.as_str(), word("", false).as_str()), ("erase node a and its mail", "erase this machine"));
    }

    #[test]
    fn without_the_word_nothing_happens() {
        let dir = state();
        for typed in ["", "yes", "erase node b", "erase node a and its mail", "ERASE NODE A"] {
            assert!(matches!(order(dir.path(), &facts(), false, typed, "test", 7), Err(Error::Word(_))), "{typed}");
        }
        // The word without the mail does not erase the mail.
        assert!(matches!(order(dir.path(), &facts(), true, "erase node a", "test", 7), Err(Error::Word(_))));
        assert!(matches!(
            order(dir.path(), &Facts { on_trial: true, ..facts() }, false, "erase node a", "test", 7),
            Err(Error::Refused { .. })
        ));
        assert_eq!((pending(dir.path()), complete(dir.path(), None).unwrap()), (None, None));
        assert_eq!(names(dir.path()), ["log", "lost+found", "node", "system"]);
    }

    #[test]
    fn the_state_goes_the_mail_stays_and_links_are_not_followed() {
        let dir = state();
        let mail = dir.path().with_extension("mail");
        std::fs::write(&mail, vec![7; 1000]).unwrap();
        order(dir.path(), &facts(), false, "erase node a\n", "console", 7).unwrap();
        assert_eq!(pending(dir.path()).unwrap().by, "console");
        let done = complete(dir.path(), Some(&mail)).unwrap().unwrap();
        assert!(!done.marker.mail && !done.mail_erased);
        assert_eq!(names(dir.path()), ["lost+found"]);
        assert!(std::fs::read(&mail).unwrap().iter().all(|&b| b == 7), "the mail stays");
        assert!(Path::new("/etc/passwd").exists());
        assert_eq!(complete(dir.path(), Some(&mail)).unwrap(), None, "once");
        std::fs::remove_file(mail).unwrap();
    }

    #[test]
    fn with_the_second_word_the_mail_goes_too() {
        let dir = state();
        let mail = dir.path().with_extension("mail");
        let file = File::create(&mail).unwrap();
        let size = HEAD_BYTES + TAIL_BYTES + (8 << 20);
        file.set_len(size).unwrap();
        for at in [0, HEAD_BYTES - 5, HEAD_BYTES + (1 << 20), size - TAIL_BYTES, size - 5] {
            file.write_all_at(b"mail!", at).unwrap();
        }
        order(dir.path(), &facts(), true, "erase node a and its mail", "test", 7).unwrap();
        assert!(complete(dir.path(), Some(&mail)).unwrap().unwrap().mail_erased);
        let read = |at| {
            let mut bytes = [9; 5];
            File::open(&mail).unwrap().read_exact_at(&mut bytes, at).unwrap();
            bytes
        };
        assert_eq!([read(0), read(HEAD_BYTES - 5), read(size - TAIL_BYTES), read(size - 5)], [[0; 5]; 4]);
        std::fs::remove_file(mail).unwrap();
    }

    /// A power cut after each removal: the next start ends it.
    #[test]
    fn a_cut_anywhere_leads_to_the_new_machine() {
        let all = [
            "node/identity.json",
            "node/run/x",
            "node/appliance.toml",
            "node/link",
            "log/journal/ab/system.journal",
            "system/update.json",
            "node/run",
        ];
        for gone in 0..=all.len() {
            let dir = state();
            order(dir.path(), &facts(), false, "erase node a", "test", 7).unwrap();
            for name in &all[..gone] {
                let path = dir.path().join(name);
                if path.is_dir() { std::fs::remove_dir(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
            }
            assert!(complete(dir.path(), None).unwrap().is_some());
            assert_eq!(names(dir.path()), ["lost+found"]);
        }
        // A cut while the marker was being written: the old machine.
        let dir = state();
        for torn in ["", "{", "{\"version\":1}", "{\"version\":2,\"mail\":true,\"by\":\"\",\"at_s\":0}"] {
            std::fs::write(dir.path().join(MARKER), torn).unwrap();
            assert_eq!(complete(dir.path(), None).unwrap(), None);
        }
        std::fs::remove_file(dir.path().join(MARKER)).unwrap();
        std::fs::write(dir.path().join(format!("{MARKER}.new")), r#"{"version":1,"mail":true,"by":"","at_s":0}"#).unwrap();
        assert_eq!(complete(dir.path(), None).unwrap(), None);
        assert!(dir.path().join("node/identity.json").exists());
    }
}
