//! The support bundle: one `tar.zst` with what a person needs to see why a node does what it does, and no secret.
//!
//! Contract: every part is bounded in size and time; one that cannot be had is named in `manifest.json` with the reason and stops nothing. Everything that
//! is text goes through [`redact`]. Nothing of the mail is in it but what the logs say; no key, no password, no token. The file is complete under its name or not
//! there: it is written beside it, synced, and renamed.
//!
//! Failure classes: [`Error`], all about the target; [`usb::Error`] for a stick.

pub mod redact;

use crate::api::{Progress, Step, Text};
use crate::usb::{self, Stick};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Of one file or answer.
const PART_MAX_BYTES: usize = 4 << 20;
/// Of the journal.
const JOURNAL_MAX_BYTES: usize = 24 << 20;
/// Lines of the journal, the newest.
const JOURNAL_LINES: &str = "20000";
/// A program that takes longer is given up.
const PROGRAM_LIMIT: Duration = Duration::from_secs(30);
/// Room that a stick must have: text shrinks to a tenth.
const ROOM_MIN_BYTES: u64 = 16 << 20;
const LEVEL: i32 = 9;

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be written.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The stick.
    #[error(transparent)]
    Usb(#[from] usb::Error),
    /// The stick is full.
    #[error("the stick {device} has {free_bytes} bytes free, {ROOM_MIN_BYTES} are needed")]
    Room {
        /// Which.
        device: PathBuf,
        /// How much there is.
        free_bytes: u64,
    },
}

impl Error {
    /// For people.
    #[must_use]
    pub fn text(&self) -> Text {
        let zh = match self {
            Self::Io { what, path, source } => format!("对 {} 的操作失败（{what}）：{source}", path.display()),
            Self::Usb(error) => return error.text(),
            Self::Room { device, free_bytes } => {
                format!("U 盘 {} 剩余 {free_bytes} 字节，需要 {ROOM_MIN_BYTES} 字节", device.display())
            }
        };
        Text::new(self.to_string(), zh)
    }
}

/// How the content of a source is cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Toml,
    Json,
    Journal,
}

impl Form {
    fn clean(self, bytes: &[u8]) -> Vec<u8> {
        let text = || String::from_utf8_lossy(bytes);
        match self {
            Self::Text => redact::text(&text()).into_bytes(),
            Self::Toml => redact::document(&text()).into_bytes(),
            Self::Journal => redact::journal(bytes),
            Self::Json => match serde_json::from_slice::<Value>(bytes) {
                Ok(mut value) => {
                    redact::json(&mut value);
                    serde_json::to_vec_pretty(&value).unwrap_or_default()
                }
                // Several values, or a damaged file.
                Err(_) => redact::text(&text()).into_bytes(),
            },
        }
    }
}

/// Where everything is: replaced by tests.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The node's name, for the file's.
    pub node: String,
    /// Version of this program.
    pub version: String,
    /// `/state/node`
    pub folder: PathBuf,
    /// `/state/system`
    pub system: PathBuf,
    /// `/run/twinpost`
    pub run: PathBuf,
    /// `/usr/lib/twinpost`
    pub lib: PathBuf,
    /// `/proc`
    pub proc: PathBuf,
    /// `/sys`
    pub sys: PathBuf,
    /// Programs by their names; a name that is not here is found by `PATH`.
    pub programs: PathBuf,
    /// What the caller knows: name in the bundle and value, as the status of the pair and of the machine.
    pub told: Vec<(String, Value)>,
}

impl Sources {
    /// As the image has them.
    #[must_use]
    pub fn new(node: &str, version: &str, told: Vec<(String, Value)>) -> Self {
        Self {
            node: node.to_owned(),
            version: version.to_owned(),
            folder: crate::api::NODE_FOLDER.into(),
            system: "/state/system".into(),
            run: "/run/twinpost".into(),
            lib: "/usr/lib/twinpost".into(),
            proc: "/proc".into(),
            sys: "/sys".into(),
            programs: PathBuf::new(),
            told,
        }
    }

    fn files(&self) -> Vec<(&'static str, PathBuf, Form)> {
        use Form::{Json, Text, Toml};
        let (node, system, run, proc) = (&self.folder, &self.system, &self.run, &self.proc);
        vec![
            ("config/appliance.toml", node.join("appliance.toml"), Toml),
            ("config/node.toml", node.join("node.toml"), Toml),
            ("reports/boot.json", run.join("boot.json"), Json),
            ("reports/init.json", run.join("init.json"), Json),
            ("reports/release.json", self.lib.join("release.json"), Json),
            ("reports/update.json", system.join("update.json"), Json),
            ("reports/pair-update.json", system.join("pair-update.json"), Json),
            ("system/mdstat", proc.join("mdstat"), Text),
            ("system/drbd", proc.join("drbd"), Text),
            ("system/meminfo", proc.join("meminfo"), Text),
            ("system/loadavg", proc.join("loadavg"), Text),
            ("system/uptime", proc.join("uptime"), Text),
            ("system/mounts", proc.join("self/mountinfo"), Text),
            ("system/cmdline", proc.join("cmdline"), Text),
            ("system/modules", proc.join("modules"), Text),
            ("system/partitions", proc.join("partitions"), Text),
            ("system/diskstats", proc.join("diskstats"), Text),
            ("system/interrupts", proc.join("interrupts"), Text),
            ("system/pressure-io", proc.join("pressure/io"), Text),
            ("system/pressure-memory", proc.join("pressure/memory"), Text),
            ("network/dev", proc.join("net/dev"), Text),
            ("network/route", proc.join("net/route"), Text),
            ("network/ipv6_route", proc.join("net/ipv6_route"), Text),
            ("network/fib_trie", proc.join("net/fib_trie"), Text),
            ("network/arp", proc.join("net/arp"), Text),
            ("network/sockstat", proc.join("net/sockstat"), Text),
            ("network/snmp", proc.join("net/snmp"), Text),
        ]
    }

    fn answers(&self) -> Vec<(&'static str, &'static str, Vec<&'static str>, Form, usize)> {
        let show = "Id,ActiveState,SubState,Result,NRestarts,ExecMainStatus,ExecMainCode,ActiveEnterTimestamp,StateChangeTimestamp,MemoryCurrent";
        let list = |name, program, args: &[&'static str], form, limit| (name, program, args.to_vec(), form, limit);
        let part = PART_MAX_BYTES;
        vec![
            list(
                "units/all.txt",
                "systemctl",
                &["list-units", "--all", "--plain", "--no-legend", "--no-pager"],
                Form::Text,
                part,
            ),
            list("units/twinpost.txt", "systemctl", &["show", "--no-pager", "-p", show, "twinpost-*"], Form::Text, part),
            list(
                "logs/kernel.txt",
                "journalctl",
                &["--no-pager", "-k", "-b", "-o", "short-monotonic", "-n", JOURNAL_LINES],
                Form::Text,
                part,
            ),
            list(
                "logs/journal.export",
                "journalctl",
                &["--no-pager", "-o", "export", "-n", JOURNAL_LINES],
                Form::Journal,
                JOURNAL_MAX_BYTES,
            ),
            list("system/drbd-status.txt", "drbdadm", &["status"], Form::Text, part),
            list("system/md-state.txt", "mdadm", &["--detail", "/dev/md/state"], Form::Text, part),
            list("system/md-mail.txt", "mdadm", &["--detail", "/dev/md/mail"], Form::Text, part),
            list("network/firewall.txt", "nft", &["list", "ruleset"], Form::Text, part),
        ]
    }

    fn program(&self, name: &str) -> PathBuf {
        let own = self.programs.join(name);
        if self.programs.as_os_str().is_empty() || !own.exists() { name.into() } else { own }
    }
}

/// A bundle that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Where; on a stick the path from its top folder.
    pub file: PathBuf,
    /// The stick, if it is one.
    pub stick: Option<PathBuf>,
    /// Its size.
    pub bytes: u64,
    /// What is in it.
    pub parts: Vec<String>,
    /// What could not be had, and why.
    pub missing: Vec<(String, String)>,
}

/// Name of a file of now.
#[must_use]
pub fn name(sources: &Sources, now_s: i64) -> String {
    let (days, second) = (now_s.div_euclid(86_400), now_s.rem_euclid(86_400));
    let (y, m, d) = civil(days);
    let plain: String = sources.node.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    let node = if plain.is_empty() { "new".to_owned() } else { plain };
    format!("twinpost-support-{node}-{y:04}{m:02}{d:02}-{:02}{:02}{:02}.tar.zst", second / 3600, second / 60 % 60, second % 60)
}

/// Year, month and day of a number of days since 1970, in the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Counted from 1 March of a year that begins a period of 400 years: leap days come last.
    let z = days + 719_468;
    let (era, day) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (m, d) = (if month < 10 { month + 3 } else { month - 9 }, of_year - (153 * month + 2) / 5 + 1);
    (year + era * 400 + i64::from(m <= 2), m, d)
}

/// Writes a bundle to this file.
///
/// # Errors
/// [`Error::Io`]
pub async fn to_file(to: &Path, sources: &Sources, now_s: i64, progress: Progress<'_>) -> Result<Written, Error> {
    let (parts, missing) = gather(sources, progress).await;
    progress(Step { what: Text::new("writing the support bundle", "写入支持包"), done: 0, of: 0 });
    let manifest = json!({
        "node": sources.node, "version": sources.version, "made_s": now_s,
        "missing": missing.iter().map(|(part, why)| json!({"part": part, "why": why})).collect::<Vec<_>>(),
        "removed": "passwords, keys, tokens; telephone numbers in part",
    });
    let names: Vec<String> = parts.iter().map(|(name, _)| name.clone()).collect();
    let folder = name(sources, now_s).trim_end_matches(".tar.zst").to_owned();
    let target = to.to_owned();
    let bytes = tokio::task::spawn_blocking(move || pack(&target, &folder, &manifest, &parts, now_s))
        .await
        .map_err(|e| Error::Io { what: "write", path: to.to_owned(), source: io::Error::other(e) })??;
    tracing::info!(file = %to.display(), bytes, parts = names.len(), missing = missing.len(), "support bundle written");
    Ok(Written { file: to.to_owned(), stick: None, bytes, parts: names, missing })
}

/// Writes a bundle to the first USB stick that takes it. `bays` are the machine's own disks.
///
/// # Errors
/// [`Error`]
pub async fn to_usb(sources: &Sources, bays: &[PathBuf], now_s: i64, progress: Progress<'_>) -> Result<Written, Error> {
    progress(Step { what: Text::new("looking for a USB stick", "查找 U 盘"), done: 0, of: 0 });
    let found = usb::find(&sources.sys, Path::new("/dev"), bays)?;
    let mut last = None;
    for one in found {
        let stick = match Stick::mount(&one, Path::new(usb::MOUNTS), true) {
            Ok(stick) => stick,
            Err(why) => {
                last = Some(Error::Usb(why));
                continue;
            }
        };
        let free_bytes = stick.free_bytes();
        if free_bytes < ROOM_MIN_BYTES {
            last = Some(Error::Room { device: one.device, free_bytes });
            continue;
        }
        let file = name(sources, now_s);
        let written = to_file(&stick.root.join(&file), sources, now_s, progress).await?;
        stick.close()?;
        return Ok(Written { file: file.into(), stick: Some(one.device), ..written });
    }
    Err(last.unwrap_or(Error::Usb(usb::Error::None("-".to_owned()))))
}

type Parts = Vec<(String, Vec<u8>)>;

async fn gather(sources: &Sources, progress: Progress<'_>) -> (Parts, Vec<(String, String)>) {
    let (mut parts, mut missing) = (Parts::new(), Vec::new());
    let (files, answers) = (sources.files(), sources.answers());
    let of = (files.len() + answers.len()) as u64;
    let mut done = 0;
    let mut step = || {
        done += 1;
        progress(Step { what: Text::new("collecting", "收集信息"), done, of });
    };
    for (name, value) in &sources.told {
        let mut value = value.clone();
        redact::json(&mut value);
        parts.push((format!("status/{name}.json"), serde_json::to_vec_pretty(&value).unwrap_or_default()));
    }
    for (name, path, form) in files {
        match read(&path).await {
            Ok(bytes) => parts.push((name.to_owned(), form.clean(&bytes))),
            Err(why) => missing.push((name.to_owned(), why.to_string())),
        }
        step();
    }
    for (name, program, args, form, limit) in answers {
        match run(&sources.program(program), &args, limit).await {
            Ok(bytes) => parts.push((name.to_owned(), form.clean(&bytes))),
            Err(why) => missing.push((name.to_owned(), why)),
        }
        step();
    }
    (parts, missing)
}

async fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    tokio::fs::File::open(path).await?.take(PART_MAX_BYTES as u64).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// What a program says, as much as is wanted of it, whatever its exit status is.
async fn run(program: &Path, args: &[&str], limit: usize) -> Result<Vec<u8>, String> {
    let mut child = tokio::process::Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let complaints = tokio::spawn(up_to(err, 4096));
    let work = async {
        let out = up_to(out, limit).await;
        if out.len() >= limit {
            // A program with more to say than is wanted would wait for a reader for ever.
            let _ = child.start_kill();
        }
        let status = child.wait().await;
        (out, complaints.await.unwrap_or_default(), status)
    };
    let Ok((out, err, status)) = tokio::time::timeout(PROGRAM_LIMIT, work).await else {
        return Err(format!("{} took longer than {} s", program.display(), PROGRAM_LIMIT.as_secs()));
    };
    if out.is_empty() && !err.is_empty() {
        let status = status.map_or_else(|e| e.to_string(), |status| status.to_string());
        return Err(format!("{status}: {}", redact::text(String::from_utf8_lossy(&err).trim())));
    }
    Ok(out)
}

async fn up_to(from: Option<impl AsyncRead + Unpin>, limit: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(from) = from {
        let _ = from.take(limit as u64).read_to_end(&mut kept).await;
    }
    kept
}

fn pack(to: &Path, folder: &str, manifest: &Value, parts: &[(String, Vec<u8>)], now_s: i64) -> Result<u64, Error> {
    let fail = |what: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { what, path, source }
    };
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = to.with_file_name(name);
    let write = || -> io::Result<u64> {
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(&part)?;
        let mut tar = tar::Builder::new(zstd::Encoder::new(file, LEVEL)?);
        let mut add = |name: &str, content: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(u64::try_from(now_s).unwrap_or(0));
            tar.append_data(&mut header, format!("{folder}/{name}"), content)
        };
        add("manifest.json", &serde_json::to_vec_pretty(manifest)?)?;
        for (name, content) in parts {
            add(name, content)?;
        }
        let mut file = tar.into_inner()?.finish()?;
        file.flush()?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    };
    let bytes = write().map_err(|source| {
        let _ = std::fs::remove_file(&part);
        fail("write", &part)(source)
    })?;
    std::fs::rename(&part, to).map_err(fail("rename into place", to))?;
    let folder = to.parent().unwrap_or(Path::new("."));
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail("sync", folder))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    fn sources(dir: &Path) -> Sources {
        let at = |name: &str| {
            let path = dir.join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let programs = at("bin");
        let program = |name: &str, script: &str| {
            let path = programs.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        program("systemctl", "echo twinpost-mail.service active token=s3cr");
        program("journalctl", "printf 'MESSAGE=login password=s3cr to 13800138000\\n\\n'");
        program("drbdadm", "echo 'no such resource password=s3cr' >&2; exit 1");
        // More than anybody wants.
        program("mdadm", "while :; do echo 0123456789012345678901234567890123456789; done");
        program("nft", "echo table");
        let folder = at("state/node");
        std::fs::write(folder.join("appliance.toml"), "hostname = \"mail.example\"\npin = \"s3cr\"\n").unwrap();
        std::fs::write(folder.join("node.toml"), "token = \"s3cr\"\n").unwrap();
        // What nobody asks for stays, whatever it is called.
        std::fs::write(folder.join("identity.json"), "s3cr").unwrap();
        std::fs::write(at("run").join("boot.json"), r#"{"board":"qemu-pc","secret":"s3cr"}"#).unwrap();
        Sources {
            folder,
            system: at("state/system"),
            run: at("run"),
            lib: at("lib"),
            proc: at("proc"),
            sys: at("sys"),
            programs,
            ..Sources::new("a", "1.2.3", vec![("pair".into(), json!({"active": "a", "keys": {"current": "s3cr"}}))])
        }
    }

    fn unpacked(file: &Path) -> BTreeMap<String, String> {
        let mut tar = tar::Archive::new(zstd::Decoder::new(std::fs::File::open(file).unwrap()).unwrap());
        let text = |mut entry: tar::Entry<'_, _>| {
            let mut content = String::new();
            io::Read::read_to_string(&mut entry, &mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        };
        tar.entries().unwrap().map(|entry| text(entry.unwrap())).collect()
    }

    #[tokio::test]
    async fn what_is_in_it_and_what_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let sources = sources(dir.path());
        let steps = std::sync::Mutex::new(0);
        let to = dir.path().join(name(&sources, 1_790_000_000));
        let written = to_file(&to, &sources, 1_790_000_000, &|_| *steps.lock().unwrap() += 1).await.unwrap();
        assert_eq!((written.bytes, &written.file), (std::fs::metadata(&to).unwrap().len(), &to));
        assert!(*steps.lock().unwrap() > 30 && !to.with_extension("zst.part").exists());
        let files = unpacked(&to);
        let of = |name: &str| &files[&format!("twinpost-support-a-20260921-141320/{name}")];
        for (name, content) in &files {
            assert!(!content.contains("s3cr"), "{name}: {content}");
            assert!(content.len() <= PART_MAX_BYTES, "{name}");
        }
        assert!(of("config/appliance.toml").contains("mail.example"));
        assert!(of("reports/boot.json").contains("qemu-pc"));
        assert!(of("units/all.txt").contains("twinpost-mail.service active"));
        assert!(of("logs/journal.export").contains("138******00"));
        assert!(of("status/pair.json").contains("\"active\": \"a\""));
        assert_eq!(of("system/md-mail.txt").len(), PART_MAX_BYTES, "cut, not waited for");
        let manifest: Value = serde_json::from_str(of("manifest.json")).unwrap();
        let missing = manifest["missing"].to_string();
        assert!(missing.contains("system/drbd-status.txt") && missing.contains("no such resource"), "{missing}");
        assert!(missing.contains("reports/init.json"), "{missing}");
        assert_eq!(manifest["version"], "1.2.3");
    }

    #[tokio::test]
    async fn a_target_that_cannot_be_written_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let sources = sources(dir.path());
        let to = dir.path().join("none/x.tar.zst");
        let why = to_file(&to, &sources, 0, &|_| {}).await.unwrap_err();
        assert!(matches!(why, Error::Io { .. }) && !why.text().zh.is_ascii());
        let why = to_usb(&sources, &[], 0, &|_| {}).await.unwrap_err();
        assert!(matches!(why, Error::Usb(usb::Error::None(_))), "{why}");
    }

    #[test]
    fn names_of_days() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (20_718, (2026, 9, 22)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil(days), date, "{days}");
        }
        let mut sources = Sources::new("../a b", "1", Vec::new());
        assert_eq!(name(&sources, 86_399), "twinpost-support-ab-19700101-235959.tar.zst");
        sources.node = "..".into();
        assert!(name(&sources, -1).starts_with("twinpost-support-new-19691231-"));
    }
}
