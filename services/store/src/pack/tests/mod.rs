//! The promises of the packs, one by one; `power` has the power cuts.

mod power;

use super::*;
use crate::files::{FaultFiles, FaultKind, RealFiles};
use proptest::prelude::*;
use twinpost_message::BodyHash;

const DIR: &str = "/packs";

fn options(known_end: Option<(u32, u64)>) -> PackOptions {
    PackOptions { max_bytes: 40_000, allocate_bytes: 4096, known_end, ..PackOptions::default() }
}

fn open(disk: &FaultFiles, known_end: Option<(u32, u64)>) -> (PackSet, ScanReport) {
    PackSet::open(Arc::new(disk.clone()), Path::new(DIR), options(known_end)).expect("a pack set opens on a working disk")
}

fn put(set: &mut PackSet, bytes: &[u8]) -> Location {
    let at = set.append(&[&record::encode(bytes)]).expect("space")[0];
    set.sync().expect("a working disk");
    at
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut rng = crate::files::Rng::new(bytes as u64);
    (0..bytes).map(|_| rng.bits() as u8).collect()
}

fn path(pack: u32) -> std::path::PathBuf {
    Path::new(DIR).join(format!("{pack:08}.pack"))
}

fn records(reader: &PackReader, pack: u32) -> Vec<Location> {
    let scan = reader.scan(pack).expect("the pack");
    scan.filter_map(|f| if let Found::Record { location, .. } = f { Some(location) } else { None }).collect()
}

#[test]
fn a_batch_is_read_back_and_packs_roll() -> Result<(), PackError> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let files = Arc::new(RealFiles);
    let (mut set, report) = PackSet::open(files.clone(), &dir.path().join("a/b"), options(Some((0, 0))))?;
    assert_eq!(report, ScanReport::default());
    assert_eq!(set.append(&[])?, []);
    let reader = set.reader();
    let mut all = Vec::new();
    for batch in 0..30u32 {
        let texts: Vec<Vec<u8>> = (0..5).map(|n| format!("mail {batch} {n} ").repeat(100).into_bytes()).collect();
        let encoded: Vec<EncodedRecord> = texts.iter().map(|t| record::encode(t)).collect();
        let noise = record::encode_bytes(&noise(1500).into());
        let batch: Vec<&EncodedRecord> = encoded.iter().chain([&noise]).collect();
        let places = set.append(&batch)?;
        assert_eq!(places.windows(2).filter(|w| w[0].end() != w[1].offset || w[0].pack != w[1].pack).count(), 0);
        set.sync()?;
        all.extend(places.into_iter().zip(texts));
    }
    let packs = set.packs()?;
    assert!(packs.len() > 1 && packs.iter().all(|p| p.bytes <= 40_000), "{packs:?}");
    for (at, text) in &all {
        assert_eq!(reader.read(*at)?, text);
        assert_eq!(reader.check(*at)?.id, BodyHash::of(text));
    }
    let end = set.synced_end();
    set.close()?;
    let (mut set, report) = PackSet::open(files, &dir.path().join("a/b"), options(end))?;
    assert_eq!((report.unindexed_records, report.cut_bytes, report.damage.len()), (0, 0, 0));
    assert_eq!(packs.iter().map(|p| records(&set.reader(), p.pack).len()).sum::<usize>(), 180);
    let next = set.append(&[&record::encode_placement(b"where")])?[0];
    assert_eq!(Some((next.pack, next.offset)), end, "writing goes on where it ended");
    set.sync()?;
    assert_eq!(set.reader().check(next)?.kind, Kind::Placement);
    Ok(())
}

#[test]
fn a_damaged_record_says_so_and_concerns_nobody_else() -> Result<(), PackError> {
    let disk = FaultFiles::new(1);
    let (mut set, _) = open(&disk, Some((0, 0)));
    let [a, b, c] = [&b"first"[..], b"second", b"third"].map(|t| put(&mut set, t));
    let reader = set.reader();

    disk.damage(&path(1), b.offset + 60, 1).expect("the file");
    assert!(matches!(reader.read(b), Err(PackError::Damaged { location, fault: Fault::PayloadChecksum }) if location == b));
    let found: Vec<Found> = reader.scan(1)?.collect();
    assert!(matches!(found[1], Found::Damaged { offset, bytes, header: Some(h), fault: Fault::PayloadChecksum, .. }
        if offset == b.offset && bytes == u64::from(b.stored_bytes) && h.id == BodyHash::of(b"second")));

    disk.damage(&path(1), b.offset + 45, 1).expect("the file");
    assert!(matches!(reader.read(b), Err(PackError::Damaged { fault: Fault::HeaderChecksum, .. })));
    let found: Vec<Found> = reader.scan(1)?.collect();
    assert!(matches!(found[1], Found::Damaged { offset, bytes, header: None, .. }
        if offset == b.offset && bytes == u64::from(b.stored_bytes)));
    assert_eq!(records(&reader, 1), [a, c]);
    assert_eq!((&reader.read(a)?[..], &reader.read(c)?[..]), (&b"first"[..], &b"third"[..]));

    // Opening leaves it as it is: a row points there.
    let end = set.synced_end();
    drop(set);
    let (set, report) = open(&disk, end);
    assert_eq!((report.cut_bytes, report.damage.len()), (0, 0));
    assert!(matches!(set.reader().read(b), Err(PackError::Damaged { .. })));

    let gone = Location { pack: 9, ..a };
    assert!(matches!(set.reader().read(gone), Err(PackError::Missing(l)) if l == gone));
    let beyond = Location { offset: c.end(), ..a };
    assert!(matches!(set.reader().read(beyond), Err(PackError::Torn(l)) if l == beyond));
    let off = Location { offset: a.offset + 1, ..a };
    assert!(matches!(set.reader().read(off), Err(PackError::Damaged { fault: Fault::NoHeader, .. })));
    for stored_bytes in [0, 55, a.stored_bytes - 1, u32::MAX] {
        assert!(matches!(set.reader().read(Location { stored_bytes, ..a }), Err(PackError::Damaged { .. })));
    }
    Ok(())
}

#[test]
fn a_sector_that_cannot_be_read_hides_only_its_records() -> Result<(), PackError> {
    let disk = FaultFiles::new(1);
    let (mut set, _) = open(&disk, Some((0, 0)));
    let all: Vec<Location> = (0..200u8).map(|n| put(&mut set, &[n; 40])).collect();
    // The window fails, then the second of its sectors.
    disk.fail(FaultKind::Read, 0, 1);
    let reader = set.reader();
    assert_eq!(records(&reader, 1).len(), 200);
    disk.damage(&path(1), all[100].offset, 4096).expect("the file");
    assert!(matches!(records(&reader, 1).len(), 150..200));
    disk.fail(FaultKind::Read, 0, 1);
    assert!(matches!(reader.read(all[0]), Err(PackError::Io { what: "read", .. })));
    Ok(())
}

#[test]
fn one_copy_of_the_head_is_enough_and_is_made_good() -> Result<(), PackError> {
    for at in [0, 4096] {
        let disk = FaultFiles::new(1);
        let (mut set, _) = open(&disk, Some((0, 0)));
        let a = put(&mut set, b"text");
        disk.damage(&path(1), at, 28).expect("the file");
        let (set, report) = open(&disk, set.synced_end());
        assert_eq!((report.damage.len(), &set.reader().read(a)?[..]), (0, &b"text"[..]));
        disk.damage(&path(1), 4096 - at, 28).expect("the file");
        let (set, _) = open(&disk, set.synced_end());
        assert_eq!(&set.reader().read(a)?[..], b"text");
        disk.damage(&path(1), 0, 8192).expect("the file");
        let (mut set, report) = open(&disk, set.synced_end());
        assert_eq!(report.damage.len(), 1);
        assert!(matches!(set.reader().read(a), Err(PackError::Head { pack: 1 })));
        assert_eq!(put(&mut set, b"goes on").pack, 2);
    }
    Ok(())
}

#[test]
fn a_full_disk_refuses_new_mail_and_keeps_the_old() -> Result<(), PackError> {
    let disk = FaultFiles::new(3);
    let (mut set, _) = open(&disk, Some((0, 0)));
    let a = put(&mut set, b"before");
    for room in [0, 1, 30, 100, 1000] {
        disk.set_capacity(Some(disk.used_bytes() + room));
        // Larger than what was reserved in advance.
        let noise = noise(6000);
        let failed = set.append(&[&record::encode(b"small"), &record::encode(&noise)]);
        assert!(failed.as_ref().is_err_and(PackError::is_full), "{failed:?}");
        set.sync()?;
        assert_eq!(&set.reader().read(a)?[..], b"before");
    }
    disk.set_capacity(None);
    let b = put(&mut set, b"after");
    assert_eq!((b.pack, b.offset), (1, a.end()), "nothing of the refused batches is left");
    let (set, report) = open(&disk.power_on(), set.synced_end());
    assert_eq!((report.cut_bytes, records(&set.reader(), 1)), (0, vec![a, b]));

    // A disk that is full from the start opens, and recovers by itself.
    let disk = FaultFiles::new(4);
    disk.set_capacity(Some(100));
    let (mut set, _) = open(&disk, Some((0, 0)));
    assert!(set.append(&[&record::encode(b"x")]).is_err_and(|e| e.is_full()));
    assert_eq!(set.packs()?, []);
    disk.set_capacity(None);
    put(&mut set, b"x");
    Ok(())
}

#[test]
fn what_a_full_disk_cut_short_does_not_come_back_behind_a_finished_pack() -> Result<(), PackError> {
    for seed in 0..100 {
        let disk = FaultFiles::new(seed);
        let (mut set, _) = open(&disk, Some((0, 0)));
        let a = put(&mut set, b"before");
        disk.set_capacity(Some(disk.used_bytes() + 500));
        assert!(set.append(&[&record::encode(&noise(9000))]).is_err_and(|e| e.is_full()));
        disk.set_capacity(None);
        set.roll()?;
        let b = put(&mut set, b"after");
        assert_eq!((a.pack, b.pack), (1, 2));
        let (set, _) = open(&disk.power_on(), Some((b.pack, b.end())));
        assert_eq!(set.reader().scan(1)?.count(), 1, "seed {seed}: a torn write came back");
    }
    Ok(())
}

#[test]
fn after_a_failed_sync_mail_goes_into_a_new_pack() -> Result<(), PackError> {
    for seed in 0..50 {
        let disk = FaultFiles::new(seed);
        let (mut set, _) = open(&disk, Some((0, 0)));
        let a = put(&mut set, b"durable");
        set.append(&[&record::encode(b"void")])?;
        disk.fail(FaultKind::Sync, 0, 1);
        assert!(matches!(set.sync(), Err(PackError::Sync { pack: 1, from, .. }) if from == a.end()));
        let b = put(&mut set, b"again");
        assert_eq!(b.pack, 2);
        let (set, report) = open(&disk.power_on(), set.synced_end());
        assert_eq!(report.damage, []);
        assert_eq!((&set.reader().read(a)?[..], &set.reader().read(b)?[..]), (&b"durable"[..], &b"again"[..]));
        assert_eq!(set.reader().scan(1)?.count(), 1, "seed {seed}: nothing void is shown");
    }
    Ok(())
}

#[test]
fn a_failed_write_voids_what_waited_for_its_sync() -> Result<(), PackError> {
    let disk = FaultFiles::new(5);
    let (mut set, _) = open(&disk, Some((0, 0)));
    let a = put(&mut set, b"durable");
    set.append(&[&record::encode(b"waits")])?;
    disk.fail(FaultKind::Write, 0, 1);
    assert!(matches!(set.append(&[&record::encode(b"fails")]), Err(PackError::Io { what: "append to", .. })));
    assert!(matches!(set.sync(), Err(PackError::Sync { pack: 1, from, .. }) if from == a.end()));
    set.sync()?;
    assert_eq!(put(&mut set, b"again").pack, 2);
    assert_eq!(records(&set.reader(), 1), [a]);
    Ok(())
}

#[test]
fn a_pack_is_emptied_into_another_and_retired() -> Result<(), PackError> {
    let disk = FaultFiles::new(6);
    let (mut set, _) = open(&disk, Some((0, 0)));
    let text = b"the same words ".repeat(200);
    let old = put(&mut set, &text);
    assert!(matches!(set.retire(1), Err(PackError::Active { pack: 1 })));
    set.roll()?;
    let reader = set.reader();
    let new = set.append(&[&reader.read_stored(old)?])?[0];
    set.sync()?;
    set.retire(1)?;
    assert!(matches!(set.retire(1), Err(PackError::NoPack { pack: 1 })));
    assert_eq!(reader.read(new)?, text);
    assert_eq!(new.stored_bytes, old.stored_bytes, "compressed once");
    assert!(matches!(reader.read(old), Err(PackError::Missing(_))));
    let (set, _) = open(&disk.power_on(), set.synced_end());
    assert_eq!(set.packs()?.iter().map(|p| p.pack).collect::<Vec<_>>(), [2]);
    // Even when every pack is gone the index still knows their numbers.
    let (mut set, _) = open(&FaultFiles::new(1), Some((7, 9000)));
    assert_eq!(put(&mut set, b"x").pack, 8);
    Ok(())
}

#[test]
fn a_record_inside_a_mail_is_never_taken_for_one() -> Result<(), PackError> {
    let disk = FaultFiles::new(7);
    let (mut set, _) = open(&disk, Some((0, 0)));
    let inner = record::encode_placement(b"forged");
    let a = put(&mut set, b"x");
    // The best guess of a stranger: all fields right, and the place too; only the seal is not known to him.
    let at = a.end() + HEADER_BYTES as u64;
    let mut mail = inner.header().to_bytes(Seal(0), at).to_vec();
    mail.extend_from_slice(inner.payload());
    let b = put(&mut set, &mail);
    let c = put(&mut set, b"y");
    disk.damage(&path(1), b.offset, 1).expect("the file");
    assert_eq!(records(&set.reader(), 1), [a, c]);
    Ok(())
}

#[test]
fn a_scan_of_the_newest_pack_shows_what_is_synced() -> Result<(), PackError> {
    let disk = FaultFiles::new(8);
    let (mut set, _) = open(&disk, Some((0, 0)));
    let a = put(&mut set, b"synced");
    set.append(&[&record::encode(b"not yet")])?;
    assert_eq!(records(&set.reader(), 1), [a]);
    set.sync()?;
    assert_eq!(records(&set.reader(), 1).len(), 2);
    assert!(matches!(set.reader().scan(2), Err(PackError::NoPack { pack: 2 })));
    Ok(())
}

#[test]
fn a_record_larger_than_the_window_is_scanned() -> Result<(), PackError> {
    let disk = FaultFiles::new(9);
    let (mut set, _) = open(&disk, Some((0, 0)));
    let noise = noise(3_000_001);
    let (a, b) = (put(&mut set, &noise), put(&mut set, b"behind"));
    assert_eq!((a.pack, b.pack), (1, 2), "a batch beyond the size has a pack of its own");
    assert_eq!(records(&set.reader(), 1), [a]);
    disk.damage(&path(1), a.offset, 100).expect("the file");
    let found: Vec<Found> = set.reader().scan(1)?.collect();
    assert!(matches!(found[..], [Found::Damaged { bytes, .. }] if bytes == u64::from(a.stored_bytes)));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn garbage_never_panics_and_is_never_a_record(data in prop::collection::vec(any::<u8>(), 0..3000)) {
        fuzz(&data);
    }

    /// Garbage with many beginnings of records.
    #[test]
    fn magic_garbage_never_panics(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 0..40)) {
        fuzz(&pieces.join(&record::MAGIC[..]));
    }
}
