//! Power cuts, thousands of them, against a model.
//!
//! The model is the part of the store that matters here: records are appended, synced, and then an index (atomic and
//! durable at once, as a database) gets their locations and answers. After each cut: every location in the index
//! reads back byte for byte; every record that a scan shows was appended once, whole; no scan shows damage.
//! `TWINPOST_SEED=n` runs that seed alone, `TWINPOST_SEEDS=n` so many.

use super::*;
use crate::files::Rng;
use std::collections::{BTreeMap, BTreeSet};

/// What can be wrong with a store, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    /// Nothing.
    None,
    /// The index gets its rows before the pack is synced.
    IndexBeforeSync,
    /// A failed sync is tried again on the same file.
    SyncAgain,
    /// Nothing is cleared away at open.
    NoClearing,
}

#[derive(Default)]
struct Model {
    /// The index: what was promised.
    index: BTreeMap<Location, Vec<u8>>,
    known_end: (u32, u64),
    /// Everything that was ever handed to `append`.
    handed: BTreeSet<BodyHash>,
    /// A sync failed or the index was lost: damage may lie where nothing points to.
    blemished: bool,
}

impl Model {
    fn commit(&mut self, placed: Vec<(Location, Vec<u8>)>) {
        for (at, bytes) in placed {
            self.known_end = self.known_end.max((at.pack, at.end()));
            self.index.insert(at, bytes);
        }
    }

    fn check(&self, set: &PackSet) -> Result<(), String> {
        let reader = set.reader();
        for (at, bytes) in &self.index {
            match reader.read(*at) {
                Ok(found) if found == bytes => {}
                other => return Err(format!("{at:?}: {other:?}")),
            }
        }
        let mut shown = BTreeSet::new();
        for pack in set.packs().map_err(|e| e.to_string())? {
            for found in reader.scan(pack.pack).map_err(|e| e.to_string())? {
                match found {
                    Found::Record { location, .. } => {
                        let header = reader.check(location).map_err(|e| format!("shown but not readable: {e}"))?;
                        if !self.handed.contains(&header.id) {
                            return Err(format!("a record that nobody wrote: {location:?}"));
                        }
                        shown.insert(location);
                    }
                    Found::Damaged { .. } if self.blemished => {}
                    Found::Damaged { .. } => return Err(format!("{found:?}")),
                }
            }
        }
        match self.index.keys().find(|at| !shown.contains(at)) {
            Some(at) => Err(format!("{at:?} is in the index and not in the scan")),
            None => Ok(()),
        }
    }
}

fn random_mail(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(4) {
        0 => rng.below(60),
        1 => rng.below(600),
        _ => rng.below(4000),
    } as usize;
    if rng.one_in(2) {
        return (0..len).map(|_| rng.bits() as u8).collect();
    }
    format!("{:016x} the same words again ", rng.bits()).into_bytes().into_iter().cycle().take(len).collect()
}

/// One life between two cuts; returns what the next life may count on. Errors of the disk are part of it.
fn live(set: &mut PackSet, disk: &FaultFiles, model: &mut Model, rng: &mut Rng, mutant: Mutant) {
    let mut waiting: Vec<(Location, Vec<u8>)> = Vec::new();
    while !disk.is_off() {
        let fault = match rng.below(60) {
            0 => Some(FaultKind::Sync),
            1 => Some(FaultKind::Write),
            2 => Some(FaultKind::SetLen),
            _ => None,
        };
        if let Some(kind) = fault {
            disk.fail(kind, rng.below(3), 1 + rng.below(2));
            model.blemished = true;
        }
        disk.set_capacity(rng.one_in(40).then(|| disk.used_bytes() + rng.below(3000)));
        let mails: Vec<Vec<u8>> = (0..=rng.below(4)).map(|_| random_mail(rng)).collect();
        let encoded: Vec<EncodedRecord> = mails.iter().map(|m| record::encode(m)).collect();
        model.handed.extend(encoded.iter().map(EncodedRecord::id));
        match set.append(&encoded.iter().collect::<Vec<_>>()) {
            Ok(places) => waiting.extend(places.into_iter().zip(mails)),
            Err(PackError::Sync { .. }) => waiting.clear(),
            Err(_) => {}
        }
        if mutant == Mutant::IndexBeforeSync {
            model.commit(waiting.clone());
        }
        if rng.one_in(3) {
            continue;
        }
        match set.sync() {
            Ok(()) => model.commit(std::mem::take(&mut waiting)),
            Err(_) => {
                // The mutant does what looks right: the same pages once more, and success is believed.
                if mutant == Mutant::SyncAgain && !disk.is_off() {
                    model.commit(std::mem::take(&mut waiting));
                }
                waiting.clear();
            }
        }
        if rng.one_in(20) {
            let _ = set.roll();
        }
    }
}

/// A whole story of one seed: some lives with cuts between them.
fn story(seed: u64, mutant: Mutant) -> Result<(), String> {
    let mut rng = Rng::new(seed ^ 0x7077_6f65_7200);
    let mut disk = FaultFiles::new(seed);
    let mut model = Model::default();
    for _ in 0..=rng.below(4) {
        // Now and then the cut comes while the packs are being opened after the last one.
        let soon = rng.one_in(4);
        disk.cut_at(1 + rng.below(if soon { 12 } else { 90 }));
        let known_end = if rng.one_in(16) {
            model.blemished = true;
            None
        } else {
            Some(model.known_end)
        };
        if let Ok((mut set, _)) = PackSet::open(Arc::new(disk.clone()), Path::new(DIR), options(known_end)) {
            live(&mut set, &disk, &mut model, &mut rng, mutant);
        }
        disk = disk.power_on();
        let known_end = if mutant == Mutant::NoClearing { None } else { Some(model.known_end) };
        let (set, _) =
            PackSet::open(Arc::new(disk.clone()), Path::new(DIR), options(known_end)).map_err(|e| format!("reopen: {e}"))?;
        model.check(&set)?;
    }
    Ok(())
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|s| s.parse::<u64>().ok());
    number("TWINPOST_SEED").map_or(0..number("TWINPOST_SEEDS").unwrap_or(count), |seed| seed..seed + 1)
}

#[test]
fn what_was_promised_survives_and_nothing_half_written_is_shown() {
    for seed in seeds(2000) {
        if let Err(what) = story(seed, Mutant::None) {
            panic!("TWINPOST_SEED={seed}: {what}");
        }
    }
}

#[test]
fn the_model_catches_each_mutant() {
    for mutant in [Mutant::IndexBeforeSync, Mutant::SyncAgain, Mutant::NoClearing] {
        let caught = (0..4000).find(|seed| story(*seed, mutant).is_err());
        assert!(caught.is_some(), "{mutant:?} went through 4000 seeds unseen");
    }
}
