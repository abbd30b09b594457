//! A node whose power goes after every single effect.

use super::*;
use crate::bundle::{CHUNK_BYTES, Facts};
use crate::keys::SigningKey;
use crate::platform::{Listed, SlotDevice};
use crate::record::{Stage, Why};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

const OLD: u64 = 100;
const NEW: u64 = 200;

fn uki(sequence: u64, slot: Slot) -> Vec<u8> {
    format!("entry of {sequence} for slot {slot}").into_bytes()
}

/// Two chunks and a bit.
fn image(sequence: u64) -> Arc<Vec<u8>> {
    static MADE: Mutex<BTreeMap<u64, Arc<Vec<u8>>>> = Mutex::new(BTreeMap::new());
    let salt = u8::try_from(sequence % 251).unwrap();
    let make = || Arc::new((0..2 * CHUNK_BYTES + 99).map(|i| u8::try_from(i % 251).unwrap() ^ salt).collect());
    MADE.lock().unwrap().entry(sequence).or_insert_with(make).clone()
}

fn release(sequence: u64) -> Release {
    Release { version: sequence.to_string(), sequence, ..Release::default() }
}

fn key() -> SigningKey {
    SigningKey::from_seed(&[5; 32])
}

fn keys() -> Keys {
    Keys::of(&[&key()])
}

/// Bundles by sequence, made once.
fn bundle(sequence: u64) -> PathBuf {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| tempfile::tempdir().unwrap()).path();
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap();
    let path = dir.join(format!("{sequence}.tpu"));
    if !path.exists() {
        let contents = [image(sequence).to_vec(), uki(sequence, Slot::A), uki(sequence, Slot::B)];
        let paths: [PathBuf; 3] = std::array::from_fn(|i| dir.join(format!("{sequence}.{i}")));
        for (path, content) in paths.iter().zip(contents) {
            std::fs::write(path, content).unwrap();
        }
        let facts = Facts { release: release(sequence), ..Facts::default() };
        let mut out = Vec::new();
        bundle::write(&mut out, facts, paths.each_ref().map(PathBuf::as_path), &[&key()], &|_| {}).unwrap();
        std::fs::write(&path, out).unwrap();
    }
    path
}

#[derive(Clone, Debug)]
enum Op {
    Create(String),
    Append(String, Vec<u8>),
    Rename(String, String),
    Remove(String),
}

type Files = BTreeMap<String, Vec<u8>>;

fn apply(files: &mut Files, op: &Op) {
    match op {
        Op::Create(name) => drop(files.insert(name.clone(), Vec::new())),
        Op::Append(name, bytes) => files.entry(name.clone()).or_default().extend(bytes),
        Op::Rename(from, to) => {
            if let Some(content) = files.remove(from) {
                files.insert(to.clone(), content);
            }
        }
        Op::Remove(name) => drop(files.remove(name)),
    }
}

/// What the power cut leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Nothing,
    Everything,
    /// The first half of it; the last of that torn.
    Half,
    /// Names got there, content did not.
    NamesOnly,
    /// FAT: the new name is there and the old one too.
    RenameBoth,
    /// FAT: neither is.
    RenameNeither,
}

const LOSSES: [Loss; 6] = [Loss::Nothing, Loss::Everything, Loss::Half, Loss::NamesOnly, Loss::RenameBoth, Loss::RenameNeither];

#[derive(Clone, Debug, Default)]
struct Fat {
    durable: Files,
    live: Files,
    pending: Vec<Op>,
}

impl Fat {
    fn with(files: Files) -> Self {
        Self { durable: files.clone(), live: files, pending: Vec::new() }
    }

    fn lose(&mut self, loss: Loss) {
        let half = self.pending.len() / 2;
        for (i, op) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            match (loss, &op) {
                (Loss::Everything, _) => {}
                (Loss::Half, _) if i > half => {}
                (Loss::Half, Op::Append(name, bytes)) if i == half => {
                    let torn = Op::Append(name.clone(), bytes[..bytes.len() / 2].to_vec());
                    apply(&mut self.durable, &torn);
                }
                (Loss::NamesOnly, Op::Append(..)) => {}
                (Loss::RenameBoth, Op::Rename(from, to)) => {
                    if let Some(content) = self.durable.get(from).cloned() {
                        self.durable.insert(to.clone(), content);
                    }
                }
                (Loss::RenameNeither, Op::Rename(from, _)) => drop(self.durable.remove(from)),
                _ => apply(&mut self.durable, &op),
            }
        }
        self.live = self.durable.clone();
    }
}

/// A partition: what is on it, and the chunks that only the cache has.
#[derive(Clone, Debug, Default)]
struct Partition {
    /// Shared between worlds until it is written.
    durable: Arc<Vec<u8>>,
    pending: Vec<(usize, Arc<Vec<u8>>)>,
}

impl Partition {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        Arc::make_mut(&mut self.durable)[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn lose(&mut self, loss: Loss) {
        for (at, bytes) in std::mem::take(&mut self.pending) {
            match loss {
                Loss::Everything | Loss::NamesOnly => {}
                Loss::Half => self.put(at, &bytes[..bytes.len() / 2]),
                Loss::Nothing | Loss::RenameBoth | Loss::RenameNeither => self.put(at, &bytes),
            }
        }
    }

    fn holds(&self, sequence: u64) -> bool {
        self.durable.starts_with(image(sequence).as_slice())
    }
}

#[derive(Clone, Debug)]
struct Disk {
    there: bool,
    /// Gives back other bytes than were written.
    liar: bool,
    esp: Fat,
    slots: [Partition; 2],
}

#[derive(Clone, Debug)]
struct World {
    disks: Vec<Disk>,
    record: Option<Vec<u8>>,
    running: Running,
    effects: usize,
    cut_at: Option<usize>,
}

impl World {
    /// The old system runs from slot a; slot b holds one before it.
    fn new() -> Self {
        let entry = |sequence, slot| Entry { rank: sequence, slot, tries: None };
        let files: Files = [(50, Slot::B), (OLD, Slot::A)].map(|(n, slot)| (entry(n, slot).name(), uki(n, slot))).into();
        let partition = |sequence| {
            let mut durable = image(sequence).to_vec();
            durable.resize(3 * CHUNK_BYTES, 0);
            Partition { durable: Arc::new(durable), pending: Vec::new() }
        };
        let disk = Disk { there: true, liar: false, esp: Fat::with(files), slots: [partition(OLD), partition(50)] };
        let running = Running { slot: Slot::A, release: release(OLD) };
        Self { disks: vec![disk.clone(), disk], record: None, running, effects: 0, cut_at: None }
    }

    fn effect(&mut self) -> io::Result<()> {
        if self.cut_at.is_some_and(|at| self.effects >= at) {
            return Err(io::Error::other("the power is off"));
        }
        self.effects += 1;
        Ok(())
    }

    fn power_cut(&mut self, loss: Loss) {
        self.cut_at = None;
        for disk in &mut self.disks {
            disk.esp.lose(loss);
            disk.slots.iter_mut().for_each(|slot| slot.lose(loss));
        }
    }

    /// Firmware, loader and initramfs: boots from this disk, or the other when it has no entry.
    fn boot(&mut self, first: usize, starts: impl Fn(u64) -> bool) -> bool {
        self.power_cut(Loss::Nothing);
        let order = [first, 1 - first];
        let chosen = order.into_iter().filter(|i| self.disks[*i].there).find_map(|i| {
            let mut entries: Vec<Entry> = self.disks[i].esp.live.keys().filter_map(|name| Entry::parse(name)).collect();
            entries.sort_by(Entry::order);
            entries.first().map(|entry| (i, *entry))
        });
        let (disk, entry) = chosen.expect("some disk has an entry");
        let content = self.disks[disk].esp.live[&entry.name()].clone();
        let sequence = [50, OLD, NEW, 300].into_iter().find(|n| uki(*n, entry.slot) == content);
        let sequence = sequence.unwrap_or_else(|| panic!("the loader starts half an entry: {entry:?}"));
        if let Some(tries @ Tries { left: 1.., .. }) = entry.tries {
            let counted = Entry { tries: Some(Tries { left: tries.left - 1, done: tries.done + 1 }), ..entry };
            apply(&mut self.disks[disk].esp.durable, &Op::Rename(entry.name(), counted.name()));
            self.disks[disk].esp.live = self.disks[disk].esp.durable.clone();
        }
        let slot = usize::from(entry.slot == Slot::B);
        let good = self.disks.iter().any(|disk| disk.there && disk.slots[slot].holds(sequence));
        assert!(good, "{entry:?} boots a slot that does not verify");
        if !starts(sequence) {
            return false;
        }
        self.running = Running { slot: entry.slot, release: release(sequence) };
        true
    }
}

#[derive(Clone)]
struct Sim(Arc<Mutex<World>>);

impl Sim {
    fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }
}

struct SimEsp(Sim, usize);

impl SimEsp {
    fn change(&mut self, op: Op) -> io::Result<()> {
        let mut world = self.0.world();
        world.effect()?;
        let esp = &mut world.disks[self.1].esp;
        if let Op::Rename(from, _) | Op::Remove(from) | Op::Append(from, _) = &op {
            assert!(esp.live.contains_key(from), "{op:?}");
        }
        apply(&mut esp.live, &op);
        esp.pending.push(op);
        Ok(())
    }
}

impl Esp for SimEsp {
    fn list(&self) -> io::Result<Vec<Listed>> {
        let world = self.0.world();
        let files = &world.disks[self.1].esp.live;
        Ok(files.iter().map(|(name, content)| Listed { name: name.clone(), bytes: content.len() as u64 }).collect())
    }
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(10 << 20)
    }
    fn read(&self, name: &str, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let world = self.0.world();
        let content = &world.disks[self.1].esp.durable[name][usize::try_from(offset).unwrap()..];
        let n = content.len().min(into.len());
        into[..n].copy_from_slice(&content[..n]);
        Ok(n)
    }
    fn create(&mut self, name: &str) -> io::Result<()> {
        self.change(Op::Create(name.to_owned()))
    }
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.change(Op::Append(name.to_owned(), bytes.to_vec()))
    }
    fn sync(&mut self, name: &str) -> io::Result<()> {
        let mut world = self.0.world();
        world.effect()?;
        let esp = &mut world.disks[self.1].esp;
        let (of_file, rest) = std::mem::take(&mut esp.pending)
            .into_iter()
            .partition(|op| matches!(op, Op::Create(n) | Op::Append(n, _) if n == name));
        esp.pending = rest;
        let of_file: Vec<Op> = of_file;
        of_file.iter().for_each(|op| apply(&mut esp.durable, op));
        Ok(())
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.change(Op::Rename(from.to_owned(), to.to_owned()))
    }
    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.change(Op::Remove(name.to_owned()))
    }
    fn sync_folder(&mut self) -> io::Result<()> {
        let mut world = self.0.world();
        world.effect()?;
        world.disks[self.1].esp.lose(Loss::Nothing);
        Ok(())
    }
}

struct SimSlot(Sim, usize, usize);

impl SlotDevice for SimSlot {
    fn name(&self) -> String {
        format!("disk{}", self.1)
    }
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.world().disks[self.1].slots[self.2].durable.len() as u64)
    }
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.0.world();
        world.effect()?;
        let at = usize::try_from(offset).unwrap();
        world.disks[self.1].slots[self.2].pending.push((at, Arc::new(bytes.to_vec())));
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        let mut world = self.0.world();
        world.effect()?;
        world.disks[self.1].slots[self.2].lose(Loss::Nothing);
        Ok(())
    }
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let world = self.0.world();
        let disk = &world.disks[self.1];
        let at = usize::try_from(offset).unwrap();
        into.copy_from_slice(&disk.slots[self.2].durable[at..at + into.len()]);
        if disk.liar {
            into[7] ^= 1;
        }
        Ok(())
    }
}

fn media<T>(sim: &Sim, make: impl Fn(usize) -> T) -> Vec<Medium<T>> {
    let there: Vec<bool> = sim.world().disks.iter().map(|disk| disk.there).collect();
    let of = |(i, there): (usize, bool)| Medium {
        bay: (i + 1).to_string(),
        medium: if there { Ok(make(i)) } else { Err(Text::new("no disk", "没有磁盘")) },
    };
    there.into_iter().enumerate().map(of).collect()
}

impl Platform for Sim {
    fn running(&self) -> Result<Running, Error> {
        Ok(self.world().running.clone())
    }
    fn esps(&self) -> Result<Vec<Medium<Box<dyn Esp>>>, Error> {
        Ok(media(self, |i| Box::new(SimEsp(self.clone(), i)) as Box<dyn Esp>))
    }
    fn slots(&self, slot: Slot) -> Result<Vec<Medium<Box<dyn SlotDevice>>>, Error> {
        Ok(media(self, |i| Box::new(SimSlot(self.clone(), i, usize::from(slot == Slot::B))) as Box<dyn SlotDevice>))
    }
    fn load(&self) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.world().record.clone())
    }
    fn store(&self, record: &[u8]) -> Result<(), Error> {
        let mut world = self.world();
        world.effect().map_err(io_error("store", Path::new("update.json")))?;
        world.record = Some(record.to_vec());
        Ok(())
    }
}

fn put(sim: &Sim, sequence: u64) -> Result<Preview, Error> {
    install(&bundle(sequence), &keys(), sim, &Wish::default(), Baseline::default(), 7, &|_| {})
}

fn ill() -> Vec<Text> {
    vec![Text::new("imap does not answer", "imap 无应答")]
}

fn stage(sim: &Sim) -> Option<Stage> {
    let (record, damaged) = Record::read(sim.world().record.as_deref());
    assert!(!damaged);
    record.attempt.map(|attempt| attempt.stage)
}

/// Starts until it stays, and looks at what holds then. Answers which system stays.
fn settle(sim: &Sim, first: usize, healthy: bool, context: &str) -> u64 {
    let mut alarms = 0;
    for _ in 0..8 {
        assert!(sim.world().boot(first, |_| true));
        let found = started(sim, false).unwrap();
        let mut hear = |alarm: Option<Alarm>| {
            if alarm.is_some() {
                alarms += 1;
                told(sim).unwrap();
            }
        };
        hear(found.alarm);
        if !found.on_trial {
            break;
        }
        // The daemon is started again in the same boot: that counts nothing.
        let before = sim.world().record.clone();
        assert!(started(sim, true).unwrap().on_trial);
        assert_eq!(sim.world().record, before);
        if healthy || sim.world().running.release.sequence != NEW {
            hear(commit(sim).unwrap());
        } else if give_up(sim, ill()).unwrap() {
            continue;
        }
    }
    let running = sim.world().running.clone();
    let stage = stage(sim);
    assert!(stage.is_none_or(Stage::over), "{context}: {stage:?}");
    assert_eq!(alarms, usize::from(stage.is_some()), "{context}: an end is told once");
    let status = status(sim).unwrap();
    assert!(!status.on_trial, "{context}");
    for (bay, entries) in &status.disks {
        let entries = entries.as_ref().unwrap();
        assert!(entries.len() <= 2, "{context}: {bay} {entries:?}");
        let good = entries.iter().filter(|e| e.tries.is_none()).count();
        assert!(good >= 1 && entries.iter().all(|e| e.tries.is_none_or(|t| t.left == 0)), "{context}: {bay} {entries:?}");
    }
    for disk in &sim.world().disks {
        assert!(disk.esp.live.keys().all(|name| Entry::parse(name).is_some()), "{context}: {:?}", disk.esp.live.keys());
    }
    if stage == Some(Stage::Committed) {
        assert_eq!(running.release.sequence, NEW, "{context}");
        assert!(status.disks.iter().all(|(_, e)| e.as_ref().unwrap()[0].slot == Slot::B), "{context}: {status:?}");
    } else {
        assert_eq!(running.release.sequence, OLD, "{context}: {stage:?}");
    }
    running.release.sequence
}

/// Runs `act` on a copy of the world for every number of effects after which the power goes, for every loss.
fn cut_everywhere(name: &str, world: &World, act: impl Fn(&Sim), mut then: impl FnMut(&Sim, &str)) -> usize {
    let sim = Sim::new(world.clone());
    sim.world().effects = 0;
    act(&sim);
    let effects = sim.world().effects;
    for cut in 0..=effects {
        let sim = Sim::new(World { effects: 0, cut_at: Some(cut), ..world.clone() });
        act(&sim);
        let world = sim.world().clone();
        for loss in LOSSES {
            let mut world = world.clone();
            world.power_cut(loss);
            then(&Sim::new(world), &format!("{name}: cut after {cut} of {effects}, {loss:?}"));
        }
    }
    effects
}

/// Both disks first, healthy and ill: the node boots and comes to an end.
fn boots_in_every_way(sim: &Sim, context: &str) -> Vec<u64> {
    let world = sim.world().clone();
    let ways = [(0, true), (1, true), (0, false), (1, false)];
    ways.map(|(first, healthy)| {
        let sim = Sim::new(world.clone());
        settle(&sim, first, healthy, &format!("{context}, disk {first} first, healthy {healthy}"))
    })
    .to_vec()
}

#[test]
fn a_power_cut_at_every_effect_of_an_installation() {
    let mut kept = [0, 0];
    let effects = cut_everywhere(
        "install",
        &World::new(),
        |sim| drop(put(sim, NEW)),
        |sim, context| {
            for sequence in boots_in_every_way(sim, context) {
                kept[usize::from(sequence == NEW)] += 1;
            }
        },
    );
    assert!(effects > 25 && kept[0] > 50 && kept[1] > 10, "{effects} effects, {kept:?}");
}

fn installed_and_booted() -> World {
    let sim = Sim::new(World::new());
    put(&sim, NEW).unwrap();
    assert!(sim.world().boot(0, |_| true));
    sim.world().clone()
}

#[test]
fn a_power_cut_at_every_effect_of_the_first_start_and_of_the_commit() {
    let world = installed_and_booted();
    let act = |sim: &Sim| {
        if started(sim, false).is_ok() {
            let _ = commit(sim);
        }
    };
    let effects = cut_everywhere("commit", &world, act, |sim, context| drop(boots_in_every_way(sim, context)));
    assert!(effects >= 5, "{effects}");
}

#[test]
fn a_power_cut_at_every_effect_of_giving_up_and_of_the_way_back() {
    let world = installed_and_booted();
    let act = |sim: &Sim| {
        if started(sim, false).is_ok() {
            let _ = give_up(sim, ill());
        }
    };
    cut_everywhere("give up", &world, act, |sim, context| drop(boots_in_every_way(sim, context)));
    let sim = Sim::new(world);
    act(&sim);
    assert!(sim.world().boot(0, |_| true));
    let world = sim.world().clone();
    assert_eq!(world.running.release.sequence, OLD);
    let back = |sim: &Sim| drop(started(sim, false));
    cut_everywhere("way back", &world, back, |sim, context| drop(boots_in_every_way(sim, context)));
}

#[test]
fn a_power_cut_at_every_effect_of_withdrawing_a_version_that_was_kept() {
    let sim = Sim::new(installed_and_booted());
    assert!(started(&sim, false).unwrap().on_trial);
    commit(&sim).unwrap();
    let world = sim.world().clone();
    let act = |sim: &Sim| drop(withdraw(sim, ill()));
    cut_everywhere("withdraw", &world, act, |sim, context| drop(boots_in_every_way(sim, context)));
    let sim = Sim::new(world);
    withdraw(&sim, ill()).unwrap();
    for first in [0, 1] {
        let sim = Sim::new(sim.world().clone());
        assert!(sim.world().boot(first, |_| true));
        assert_eq!(sim.world().running.release.sequence, OLD);
        let alarm = started(&sim, false).unwrap().alarm.unwrap();
        assert!(alarm.code == "update_returned" && alarm.text.en.contains(&ill()[0].en), "{alarm:?}");
        assert_eq!(stage(&sim), Some(Stage::Returned { why: Why::Health }));
        assert!(status(&sim).unwrap().other_marks.exhausted, "it never starts again by itself");
    }
    // There must be something to go back to.
    let sim = Sim::new(World::new());
    put(&sim, NEW).unwrap();
    assert!(withdraw(&sim, ill()).is_err(), "the other one was never good");
}

#[test]
fn a_system_that_does_not_start_is_left_after_three_tries() {
    let sim = Sim::new(World::new());
    put(&sim, NEW).unwrap();
    for _ in 0..3 {
        assert!(!sim.world().boot(0, |sequence| sequence != NEW));
    }
    assert!(sim.world().boot(0, |sequence| sequence != NEW), "the old one comes back");
    let found = started(&sim, false).unwrap();
    assert!(!found.on_trial && found.alarm.unwrap().text.en.contains("did not start"));
    assert_eq!(stage(&sim), Some(Stage::Returned { why: Why::Loader }));
    // The other disk, which has counted nothing, does not try it again.
    assert!(sim.world().boot(1, |sequence| sequence != NEW));
    // And a new update goes into the same slot.
    put(&sim, 300).unwrap();
    assert!(sim.world().boot(1, |_| true));
    assert_eq!(sim.world().running.release.sequence, 300);
}

#[test]
fn a_system_that_dies_before_it_is_judged_is_left_too() {
    let sim = Sim::new(World::new());
    put(&sim, NEW).unwrap();
    for boots in 1..=3 {
        assert!(sim.world().boot(0, |_| true));
        assert!(started(&sim, false).unwrap().on_trial, "{boots}");
    }
    assert!(sim.world().boot(0, |_| true));
    let found = started(&sim, false).unwrap();
    assert!(!found.on_trial && found.alarm.is_some());
    assert_eq!(stage(&sim), Some(Stage::Returned { why: Why::Power }));
}

#[test]
fn one_update_after_another_and_back() {
    let sim = Sim::new(World::new());
    put(&sim, NEW).unwrap();
    assert_eq!(settle(&sim, 0, true, "first"), NEW);
    assert!(matches!(put(&sim, NEW), Err(Error::Refused { .. })), "it runs already");
    assert!(matches!(put(&sim, 50), Err(Error::Refused { .. })), "older");
    // On purpose: an older one gets a higher rank and boots.
    let wish = Wish { allow_downgrade: true, ..Wish::default() };
    install(&bundle(50), &keys(), &sim, &wish, Baseline::default(), 7, &|_| {}).unwrap();
    assert!(sim.world().boot(1, |_| true));
    assert_eq!(sim.world().running, Running { slot: Slot::A, release: release(50) });
    assert!(started(&sim, false).unwrap().on_trial);
    assert!(matches!(put(&sim, 300), Err(Error::Refused { .. })), "on trial");
    commit(&sim).unwrap();
    // Back to the one before.
    assert_eq!(back(&sim, false).unwrap().unwrap().sequence, NEW);
    assert_eq!(status(&sim).unwrap().disks[0].1.as_ref().unwrap()[0].slot, Slot::A, "a preview changes nothing");
    back(&sim, true).unwrap();
    assert!(sim.world().boot(0, |_| true));
    assert_eq!(sim.world().running.release.sequence, NEW);
    assert!(!started(&sim, false).unwrap().on_trial);
}

#[test]
fn a_missing_disk_is_told_and_a_failing_one_stops_it() {
    let mut world = World::new();
    world.disks[1].there = false;
    let sim = Sim::new(world);
    let preview = put(&sim, NEW).unwrap();
    assert_eq!((preview.bays, preview.missing.len()), (vec!["1".to_owned()], 1));
    assert!(sim.world().boot(1, |_| true));
    assert_eq!(sim.world().running.release.sequence, NEW);
    let mut world = World::new();
    world.disks[1].liar = true;
    let sim = Sim::new(world);
    assert!(matches!(put(&sim, NEW), Err(Error::ReadBack { device, .. }) if device == "disk1"));
    assert_eq!(stage(&sim), Some(Stage::Failed));
    assert!(sim.world().boot(0, |_| true));
    assert_eq!(sim.world().running.release.sequence, OLD);
}

#[test]
fn nothing_is_written_of_a_bundle_that_is_not_good() {
    let good = std::fs::read(bundle(NEW)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.tpu");
    let refused = |bytes: &[u8], keys: &Keys| {
        std::fs::write(&path, bytes).unwrap();
        let sim = Sim::new(World::new());
        let result = install(&path, keys, &sim, &Wish::default(), Baseline::default(), 7, &|_| {});
        assert!(result.is_err());
        let world = sim.world();
        assert_eq!((world.effects, &world.record), (0, &None), "nothing was changed");
    };
    refused(&good, &Keys::of(&[&SigningKey::from_seed(&[6; 32])]));
    refused(&good[..good.len() - 1], &keys());
    for at in [0, 9, 30, 100, 500, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        refused(&bad, &keys());
    }
}

#[test]
fn an_ill_system_without_a_way_back_stays() {
    let mut world = World::new();
    for disk in &mut world.disks {
        let name = Entry { rank: OLD, slot: Slot::A, tries: Some(Tries { left: 0, done: 3 }) }.name();
        disk.esp = Fat::with([(name, uki(OLD, Slot::A))].into());
    }
    let sim = Sim::new(world);
    assert!(started(&sim, false).unwrap().on_trial);
    assert!(!give_up(&sim, ill()).unwrap());
    commit(&sim).unwrap();
    assert!(!started(&sim, false).unwrap().on_trial);
}

#[test]
fn a_disk_that_comes_back_gets_the_running_system() {
    let sim = Sim::new(World::new());
    sim.world().disks[1].there = false;
    put(&sim, NEW).unwrap();
    assert!(sim.world().boot(0, |_| true));
    assert!(started(&sim, false).unwrap().on_trial);
    commit(&sim).unwrap();
    sim.world().disks[1].there = true;
    let world = sim.world().clone();
    let heal = |sim: &Sim| drop(heal(sim, &|_| {}));
    // Whenever the power goes, the other disk boots the new system or the one before, never a mixture.
    cut_everywhere("heal", &world, heal, |sim, context| {
        for first in [0, 1] {
            let sim = Sim::new(sim.world().clone());
            assert!(sim.world().boot(first, |_| true), "{context}");
            let found = started(&sim, false).unwrap();
            assert!(!found.on_trial && found.healed.iter().all(|(_, done)| done.is_ok()), "{context}: {found:?}");
        }
    });
    let healed = super::heal(&sim, &|_| {}).unwrap();
    assert_eq!(healed, [("2".to_owned(), Ok(()))]);
    assert!(super::heal(&sim, &|_| {}).unwrap().is_empty(), "nothing is left to do");
    assert!(sim.world().disks[1].slots[1].holds(NEW));
    sim.world().disks[0].there = false;
    assert!(sim.world().boot(1, |_| true));
    assert_eq!(sim.world().running.release.sequence, NEW);
}
