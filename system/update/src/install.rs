//! Installing a bundle on one node, and what follows at the next starts.
//!
//! Contract, in this order, so that a power cut after any effect leaves a node that boots its old system, or the whole new one:
//! 1. the whole bundle is verified, and everything that stands against it is told at once; until here nothing is changed;
//! 2. the record says that it begins;
//! 3. the other slot's boot entry goes from every disk: what is about to be overwritten cannot boot any more;
//! 4. the slot and the new entry (under a name that the loader does not see) are written on every disk, each chunk verified again before it is, synced, and read back;
//! 5. the record says that it is written;
//! 6. on each disk one rename makes the entry visible: with three tries.
//!
//! A disk that is missing is told of; one that fails stops the update. All functions block: call them where that does no harm.
//!
//! Failure classes: those of [`Error`]; after step 2 a failure is in the record too, and what was prepared is taken away as far as the disks allow.

use crate::bundle::{self, Manifest, Reader, SLOT};
use crate::entries::{Entries, Entry, Marks, TRIES, Tries, next_rank};
use crate::error::{Error, io_error};
use crate::health::Baseline;
use crate::keys::Keys;
use crate::platform::{Esp, Medium, Platform, Running};
use crate::record::{self, Alarm, Do, Record, Seen, Stage, Wish};
use crate::release::Release;
use crate::slot::Slot;
use crate::slots;
use crate::text::{Progress, Step, Text};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// What would be installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// The version in the bundle.
    pub release: Release,
    /// The version that runs.
    pub running: Release,
    /// The slot that is overwritten.
    pub target: Slot,
    /// What is in it now, as far as is known.
    pub replaces: Option<Release>,
    /// Names of the trusted keys that signed.
    pub signers: Vec<String>,
    /// Bays that are written.
    pub bays: Vec<String>,
    /// Bays that are not, and why.
    pub missing: Vec<(String, Text)>,
    /// Everything that stands against it; empty when it can be done.
    pub reasons: Vec<Text>,
}

/// The boot partitions of all system disks that are there.
struct Boots {
    there: Vec<(String, Box<dyn Esp>)>,
    missing: Vec<(String, Text)>,
}

impl Boots {
    fn open(platform: &dyn Platform) -> Result<Self, Error> {
        let (mut there, mut missing) = (Vec::new(), Vec::new());
        for Medium { bay, medium } in platform.esps()? {
            match medium {
                Ok(esp) => there.push((bay, esp)),
                Err(why) => missing.push((bay, why)),
            }
        }
        Ok(Self { there, missing })
    }

    fn each(&mut self, mut what: impl FnMut(&mut Entries<'_>) -> Result<(), Error>) -> Result<(), Error> {
        // Every disk is tried before the first failure is told: the others shall be right.
        let mut first = Ok(());
        for (bay, esp) in &mut self.there {
            let done = what(&mut Entries::new(bay, esp.as_mut()));
            first = first.and(done);
        }
        first
    }

    fn all(&mut self) -> Result<Vec<Entry>, Error> {
        let mut all = Vec::new();
        self.each(|entries| {
            all.extend(entries.list()?);
            Ok(())
        })?;
        Ok(all)
    }

    fn seen(&mut self) -> Result<Seen, Error> {
        let all = self.all()?;
        Ok(Seen { a: Marks::of(&all, Slot::A), b: Marks::of(&all, Slot::B) })
    }

    fn carry_out(&mut self, what: &[Do]) -> Result<(), Error> {
        for one in what {
            self.each(|entries| match *one {
                Do::Bless(slot) => entries.bless(slot),
                Do::Bad(slot) => entries.bad(slot),
                Do::Drop(slot) => entries.drop_slot(slot),
            })?;
        }
        Ok(())
    }
}

fn record(platform: &dyn Platform) -> Result<Record, Error> {
    let (record, damaged) = Record::read(platform.load()?.as_deref());
    if damaged {
        tracing::warn!("the record of updates cannot be read and begins anew");
    }
    Ok(record)
}

fn open(bundle: &Path, keys: &Keys) -> Result<Reader<BufReader<File>>, Error> {
    let file = File::open(bundle).map_err(io_error("open", bundle))?;
    Reader::open(BufReader::with_capacity(bundle::CHUNK_BYTES, file), keys)
}

/// Reads the manifest and looks at everything that stands against it. Changes nothing.
///
/// # Errors
/// [`Error`]; reasons against it are no error but in the answer.
pub fn preview(bundle: &Path, keys: &Keys, platform: &dyn Platform, wish: &Wish) -> Result<Preview, Error> {
    let reader = open(bundle, keys)?;
    let mut boots = Boots::open(platform)?;
    weigh(&reader, platform, &mut boots, wish).map(|(preview, ..)| preview)
}

fn weigh(
    reader: &Reader<BufReader<File>>,
    platform: &dyn Platform,
    boots: &mut Boots,
    wish: &Wish,
) -> Result<(Preview, Record, Running), Error> {
    let manifest = reader.manifest();
    let (running, record) = (platform.running()?, record(platform)?);
    let target = running.slot.other();
    let seen = boots.seen()?;
    let mut reasons = record::accept(&record, &running, seen.of(running.slot), manifest, wish);
    let uki_bytes = manifest.part(Manifest::uki(target)).map_or(0, |part| part.bytes);
    let mut room = Vec::new();
    boots.each(|entries| {
        room.push(entries.room_bytes(target)?);
        Ok(())
    })?;
    for ((bay, _), room) in boots.there.iter().zip(room) {
        if room < uki_bytes {
            reasons.push(Text::new(
                format!("the boot partition in bay {bay} has room for {room} bytes, needed are {uki_bytes}"),
                format!("{bay} 号槽位的启动分区剩余 {room} 字节，需要 {uki_bytes} 字节"),
            ));
        }
    }
    if boots.there.is_empty() {
        reasons.push(Text::new("no system disk with a boot partition was found", "没有找到带启动分区的系统磁盘"));
    }
    let slot_bytes = manifest.part(SLOT).map_or(0, |part| part.bytes);
    let mut missing = boots.missing.clone();
    let mut bays: Vec<String> = boots.there.iter().map(|(bay, _)| bay.clone()).collect();
    match slots::Writer::new(platform.slots(target)?, slot_bytes) {
        Ok(writer) => {
            // A disk counts only whole.
            bays.retain(|bay| writer.bays().contains(&bay.as_str()));
            for (bay, why) in writer.missing() {
                if !missing.iter().any(|(known, _)| known == bay) {
                    missing.push((bay.clone(), why.clone()));
                }
            }
        }
        Err(Error::Refused { reasons: more }) => reasons.extend(more),
        Err(other) => return Err(other),
    }
    let preview = Preview {
        release: manifest.release.clone(),
        running: running.release.clone(),
        target,
        replaces: record.slot(target).cloned(),
        signers: reader.signers().iter().map(ToString::to_string).collect(),
        bays,
        missing,
        reasons,
    };
    Ok((preview, record, running))
}

/// Installs; the next start tries it. See the module for the order.
///
/// # Errors
/// [`Error::Refused`] with all reasons (nothing was changed), and the others.
pub fn install(
    bundle: &Path,
    keys: &Keys,
    platform: &dyn Platform,
    wish: &Wish,
    baseline: Baseline,
    at_s: i64,
    progress: Progress<'_>,
) -> Result<Preview, Error> {
    let mut reader = open(bundle, keys)?;
    let mut boots = Boots::open(platform)?;
    let (preview, mut record, running) = weigh(&reader, platform, &mut boots, wish)?;
    if !preview.reasons.is_empty() {
        return Err(Error::Refused { reasons: preview.reasons });
    }
    // A damaged copy is found before the way back is given up.
    let (of, mut done) = (reader.manifest().bytes(), 0);
    reader.chunks(|_, _, bytes| {
        done += bytes.len() as u64;
        progress(Step { what: Text::new("verifying the bundle", "校验升级包"), done, of });
        Ok::<(), Error>(())
    })?;
    let manifest = reader.manifest().clone();
    drop(reader);
    record.begin(&running, manifest.release.clone(), baseline, at_s);
    platform.store(&record.bytes())?;
    let target = preview.target;
    let written = write(bundle, keys, &manifest, platform, &mut boots, target, progress).and_then(|entry| {
        record.written();
        platform.store(&record.bytes())?;
        boots.each(|entries| entries.arm(&entry))
    });
    if let Err(why) = written {
        // Best effort: the record tells the next start to do it again.
        record.failed(why.reasons());
        let _ = platform.store(&record.bytes());
        let _ = boots.each(|entries| entries.drop_slot(target));
        return Err(why);
    }
    tracing::info!(version = %manifest.release.version, sequence = manifest.release.sequence, slot = %target, bays = ?preview.bays,
        missing = preview.missing.len(), "update written, the next start tries it");
    Ok(preview)
}

fn write(
    bundle: &Path,
    keys: &Keys,
    expected: &Manifest,
    platform: &dyn Platform,
    boots: &mut Boots,
    target: Slot,
    progress: Progress<'_>,
) -> Result<Entry, Error> {
    let mut reader = open(bundle, keys)?;
    // The file may be another one by now.
    if reader.manifest() != expected {
        return Err(Error::Damaged { part: "its manifest, which has changed".to_owned(), offset: 0 });
    }
    let rank = next_rank(&boots.all()?, expected.release.sequence);
    let entry = Entry { rank, slot: target, tries: Some(Tries { left: TRIES, done: 0 }) };
    boots.each(|entries| entries.drop_slot(target))?;
    boots.each(|entries| entries.prepare(&entry))?;
    let (slot, uki) = (part(expected, SLOT)?, part(expected, Manifest::uki(target))?);
    let mut writer = slots::Writer::new(platform.slots(target)?, slot.bytes)?;
    let (of, mut done) = (slot.bytes + uki.bytes, 0);
    reader.chunks(|part, offset, bytes| {
        if part.name == SLOT {
            writer.write(offset, bytes)?;
        } else if part.name == uki.name {
            boots.each(|entries| entries.append(&entry, bytes))?;
        } else {
            return Ok(());
        }
        done += bytes.len() as u64;
        progress(Step { what: Text::new("writing the system", "写入系统"), done, of });
        Ok::<(), Error>(())
    })?;
    writer.finish(slot, progress)?;
    boots.each(|entries| entries.prepared(&entry, uki))?;
    Ok(entry)
}

fn part<'a>(manifest: &'a Manifest, name: &str) -> Result<&'a bundle::Part, Error> {
    manifest.part(name).ok_or_else(|| Error::Manifest(format!("there is no part {name}")))
}

/// Bays whose disk did not hold the running system, and whether it does now.
pub type Healed = Vec<(String, Result<(), Text>)>;

/// What a start found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// This boot is judged: keep it by [`commit`] or take it back by [`give_up`].
    pub on_trial: bool,
    /// How long it gets, milliseconds.
    pub patience_ms: u64,
    /// What to compare with.
    pub baseline: Baseline,
    /// What became of an update: call [`told`] once people have heard it.
    pub alarm: Option<Alarm>,
    /// Bays without a boot partition.
    pub missing: Vec<(String, Text)>,
    /// Bays whose disk now holds the running system as the others do, or why not; see [`heal`].
    pub healed: Healed,
}

/// Call once after each start of the node (also again after a start of the daemon alone: `again`, which counts nothing).
///
/// # Errors
/// [`Error`]; the node runs on.
pub fn started(platform: &dyn Platform, again: bool) -> Result<Started, Error> {
    let mut boots = Boots::open(platform)?;
    let (running, mut record) = (platform.running()?, record(platform)?);
    let seen = boots.seen()?;
    let before = record.clone();
    let still = record.on_trial(running.slot, seen.of(running.slot));
    if !(again && still) {
        let what = record.booted(&running, seen);
        #[expect(
            clippy::redundant_closure_for_method_calls,
            reason = "the method itself is not general enough over the lifetime"
        )]
        boots.each(|entries| entries.tidy())?;
        boots.carry_out(&what)?;
    }
    let alarm = record.news();
    if record != before {
        platform.store(&record.bytes())?;
    }
    let on_trial = record.on_trial(running.slot, seen.of(running.slot));
    let attempt = record.attempt.filter(|attempt| attempt.target == running.slot);
    let baseline = attempt.map(|a| a.baseline).unwrap_or_default();
    let healed = if on_trial { Vec::new() } else { heal_all(platform, &mut boots, running.slot, &|_| {})? };
    let patience_ms = running.release.patience_ms();
    Ok(Started { on_trial, patience_ms, baseline, alarm, missing: boots.missing, healed })
}

/// Lets every disk hold the running system: one that came back, or was being written when the power went, gets the slot's content and its boot entry from a disk that
/// has them. Call it when a disk was put in. Answers the bays that were not the same, and why if they still are not.
///
/// # Errors
/// [`Error`]
pub fn heal(platform: &dyn Platform, progress: Progress<'_>) -> Result<Healed, Error> {
    let mut boots = Boots::open(platform)?;
    let slot = platform.running()?.slot;
    heal_all(platform, &mut boots, slot, progress)
}

fn heal_all(platform: &dyn Platform, boots: &mut Boots, slot: Slot, progress: Progress<'_>) -> Result<Healed, Error> {
    let mut found = Vec::new();
    boots.each(|entries| {
        found.push(entries.list()?.into_iter().find(|entry| entry.slot == slot && entry.tries.is_none()));
        Ok(())
    })?;
    // The newest is what runs: nothing newer than the running system is ever good in its slot.
    let Some(reference) = found.iter().flatten().max_by_key(|entry| entry.rank).copied() else { return Ok(Vec::new()) };
    let Some(source) = found.iter().position(|entry| *entry == Some(reference)) else { return Ok(Vec::new()) };
    let mut healed = Vec::new();
    for target in (0..found.len()).filter(|i| found[*i] != Some(reference)) {
        let done = heal_one(platform, boots, &reference, [source, target], progress);
        let bay = boots.there[target].0.clone();
        match &done {
            Ok(()) => tracing::info!(%bay, %slot, "the disk holds the running system again"),
            Err(why) => tracing::warn!(%bay, %slot, %why, "the disk does not hold the running system"),
        }
        healed.push((bay, done.map_err(|why| why.reasons().into_iter().next().unwrap_or_default())));
    }
    Ok(healed)
}

fn heal_one(
    platform: &dyn Platform,
    boots: &mut Boots,
    entry: &Entry,
    [source, target]: [usize; 2],
    progress: Progress<'_>,
) -> Result<(), Error> {
    let bays = [source, target].map(|i| boots.there[i].0.clone());
    let [mut from, mut to] = [None, None];
    for Medium { bay, medium } in platform.slots(entry.slot)? {
        let device = medium.map_err(Error::refused);
        if bay == bays[0] {
            from = Some(device?);
        } else if bay == bays[1] {
            to = Some(device?);
        }
    }
    let (Some(from), Some(mut to)) = (from, to) else {
        return Err(Error::refused(Text::new("the disk has no partition for the system", "该磁盘没有系统分区")));
    };
    let content = {
        let (bay, esp) = &mut boots.there[source];
        Entries::new(bay, esp.as_mut()).content(entry)?
    };
    let (bay, esp) = &mut boots.there[target];
    let mut entries = Entries::new(bay, esp.as_mut());
    let room = entries.room_bytes(entry.slot)?;
    if room < content.len() as u64 {
        return Err(Error::refused(Text::new(
            format!("the boot partition in bay {bay} has room for {room} bytes, needed are {}", content.len()),
            format!("{bay} 号槽位的启动分区剩余 {room} 字节，需要 {} 字节", content.len()),
        )));
    }
    // What is about to be overwritten cannot boot meanwhile.
    entries.drop_slot(entry.slot)?;
    slots::copy(from.as_ref(), to.as_mut(), progress)?;
    entries.prepare(entry)?;
    for piece in content.chunks(bundle::CHUNK_BYTES) {
        entries.append(entry, piece)?;
    }
    entries.prepared(entry, &bundle::Part::of(Manifest::uki(entry.slot), &content))?;
    entries.arm(entry)
}

/// People have heard what [`started`] or [`commit`] answered: it is not said again.
///
/// # Errors
/// [`Error`]; then it is said again.
pub fn told(platform: &dyn Platform) -> Result<(), Error> {
    let mut record = record(platform)?;
    record.told();
    platform.store(&record.bytes())
}

/// The running system is kept: on every disk its entry is good. Answers what to tell people; call [`told`] afterwards.
///
/// # Errors
/// [`Error`]; call it again.
pub fn commit(platform: &dyn Platform) -> Result<Option<Alarm>, Error> {
    let mut boots = Boots::open(platform)?;
    let (running, mut record) = (platform.running()?, record(platform)?);
    boots.carry_out(&record.commit(running.slot))?;
    record.committed(&running);
    let alarm = record.news();
    platform.store(&record.bytes())?;
    // A disk that the power cut left without the entry gets it now; one that fails is told of at the next start.
    heal_all(platform, &mut boots, running.slot, &|_| {})?;
    Ok(alarm)
}

/// The running system, which is on trial, is given up: reboot when this answers true or fails. False: there is no other system that could boot, so this one stays, ill as
/// it is.
///
/// # Errors
/// [`Error`]; the loader's count then ends the trial.
pub fn give_up(platform: &dyn Platform, reasons: Vec<Text>) -> Result<bool, Error> {
    let mut boots = Boots::open(platform)?;
    let (running, mut record) = (platform.running()?, record(platform)?);
    let other = boots.seen()?.of(running.slot.other());
    if !other.good && !other.counting {
        return Ok(false);
    }
    let what = record.give_up(running.slot, reasons);
    let stored = platform.store(&record.bytes());
    boots.carry_out(&what).and(stored)?;
    Ok(true)
}

/// The other slot boots from now on, if it holds a system that was good once. Reboot afterwards.
///
/// # Errors
/// [`Error::Refused`], and the others.
pub fn back(platform: &dyn Platform, go: bool) -> Result<Option<Release>, Error> {
    let mut boots = Boots::open(platform)?;
    let (running, record) = (platform.running()?, record(platform)?);
    let (other, seen) = (running.slot.other(), boots.seen()?);
    let marks = seen.of(other);
    if !marks.good {
        let text = if marks.exhausted || marks.counting {
            Text::new(
                format!("slot {other} holds a version that was never found good"),
                format!("系统槽 {other} 中的版本从未通过健康判定"),
            )
        } else {
            Text::new(format!("slot {other} holds no system"), format!("系统槽 {other} 中没有系统"))
        };
        return Err(Error::refused(text));
    }
    let release = record.slot(other).cloned();
    if let Some(old) = release.as_ref().filter(|old| old.sequence < running.release.floor) {
        let (old, now) = (&old.version, &running.release.version);
        return Err(Error::refused(Text::new(
            format!("version {old} in slot {other} cannot read what version {now} has written"),
            format!("系统槽 {other} 中的版本 {old} 无法读取版本 {now} 写入的数据"),
        )));
    }
    if go {
        boots.each(|entries| entries.prefer(other))?;
    }
    Ok(release)
}

/// The running system, though kept, is given up, and the one before it boots from now on, which tells the reasons. Reboot afterwards.
///
/// # Errors
/// As [`back`].
pub fn withdraw(platform: &dyn Platform, reasons: Vec<Text>) -> Result<(), Error> {
    back(platform, false)?;
    let mut boots = Boots::open(platform)?;
    let (running, mut record) = (platform.running()?, record(platform)?);
    let what = record.withdrawn(running.slot, reasons);
    let stored = platform.store(&record.bytes());
    boots.carry_out(&what).and(stored)
}

/// For people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The slot that runs.
    pub slot: Slot,
    /// The version that runs.
    pub release: Release,
    /// What is in the other slot, as far as is known.
    pub other: Option<Release>,
    /// What the entries of the other slot say.
    pub other_marks: Marks,
    /// This boot is judged.
    pub on_trial: bool,
    /// The last update and those before it.
    pub record: Record,
    /// The entries of each disk, in the loader's order, or why there are none.
    pub disks: Vec<(String, Result<Vec<Entry>, Text>)>,
    /// All of it in one sentence.
    pub sentence: Text,
}

/// How it stands.
///
/// # Errors
/// [`Error`]
pub fn status(platform: &dyn Platform) -> Result<Status, Error> {
    let mut boots = Boots::open(platform)?;
    let (running, record) = (platform.running()?, record(platform)?);
    let seen = boots.seen()?;
    let mut disks = Vec::new();
    for (bay, esp) in &mut boots.there {
        let entries = Entries::new(bay, esp.as_mut()).list()?;
        disks.push((bay.clone(), Ok(entries)));
    }
    disks.extend(boots.missing.into_iter().map(|(bay, why)| (bay, Err(why))));
    let on_trial = record.on_trial(running.slot, seen.of(running.slot));
    let version = &running.release.version;
    let mut sentence = Text::new(
        format!("Version {version} runs from slot {}.", running.slot),
        format!("正在从系统槽 {} 运行版本 {version}。", running.slot),
    );
    if let Some(attempt) = &record.attempt {
        // Kept once, and somebody chose the other one since.
        let left = attempt.stage == Stage::Committed && attempt.target != running.slot;
        let more = if left {
            let kept = &attempt.release.version;
            Text::new(
                format!("Version {kept} in slot {} was in use before.", attempt.target),
                format!("此前使用过系统槽 {} 中的版本 {kept}。", attempt.target),
            )
        } else {
            attempt.sentence()
        };
        sentence.en.push_str(&format!(" {}", more.en));
        sentence.zh.push_str(&more.zh);
    }
    let other = running.slot.other();
    Ok(Status {
        slot: running.slot,
        release: running.release,
        other: record.slot(other).cloned(),
        other_marks: seen.of(other),
        on_trial,
        record,
        disks,
        sentence,
    })
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
