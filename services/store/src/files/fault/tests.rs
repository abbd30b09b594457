//! What the simulated disk does and does not keep.

use super::*;

fn write(file: &dyn DiskFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
    file.write_at(&[IoSlice::new(bytes)], offset)
}

fn content(disk: &FaultFiles, path: &str) -> Option<Vec<u8>> {
    let file = disk.open(Path::new(path), Mode::Read).ok()?;
    let mut out = vec![0; file.len().ok()? as usize];
    file.read_at(&mut out, 0).ok()?;
    Some(out)
}

#[test]
fn what_was_synced_survives_and_the_rest_in_every_way() -> io::Result<()> {
    let (mut names, mut contents) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..300 {
        let disk = FaultFiles::new(seed);
        let a = disk.open(Path::new("/a"), Mode::Create)?;
        write(&*a, 0, b"kept")?;
        a.sync_data()?;
        disk.sync_dir(Path::new("/"))?;
        disk.open(Path::new("/b"), Mode::Create)?;
        write(&*a, 4, &[1; 600])?;
        write(&*a, 604, &[2; 600])?;
        let after = disk.power_on();
        assert!(write(&*a, 0, b"dead").is_err());
        let found = content(&after, "/a").expect("its name was synced");
        assert_eq!(found[..4], *b"kept", "seed {seed}");
        names.insert(content(&after, "/b").is_some());
        let second = found.get(604..).is_some_and(|rest| rest.contains(&2));
        let first = found[4..].contains(&1);
        contents.insert((first, second));
    }
    assert_eq!(names.len(), 2, "an unsynced name is there after some cuts and not after others");
    assert_eq!(contents.len(), 4, "either write survives without the other");
    Ok(())
}

#[test]
fn a_failed_sync_is_never_made_good_by_the_next() -> io::Result<()> {
    let mut lost = 0;
    for seed in 0..100 {
        let disk = FaultFiles::new(seed);
        let a = disk.open(Path::new("/a"), Mode::Create)?;
        disk.sync_dir(Path::new("/"))?;
        disk.fail(FaultKind::Sync, 0, 1);
        write(&*a, 0, b"void")?;
        assert!(a.sync_data().is_err());
        a.sync_data()?;
        assert_eq!(content(&disk, "/a").as_deref(), Some(&b"void"[..]));
        lost += u32::from(content(&disk.power_on(), "/a").as_deref() != Some(b"void"));
    }
    assert!(lost > 10, "lost in {lost} of 100");
    Ok(())
}

#[test]
fn a_full_disk_takes_what_fits() -> io::Result<()> {
    let disk = FaultFiles::new(1);
    let a = disk.open(Path::new("/a"), Mode::Create)?;
    disk.set_capacity(Some(10));
    write(&*a, 0, b"1234567")?;
    assert_eq!(write(&*a, 5, b"abcdefgh").map_err(|e| e.kind()), Err(ErrorKind::StorageFull));
    assert_eq!(content(&disk, "/a").as_deref(), Some(&b"12345abcde"[..]));
    assert_eq!(a.allocate(0, 11).map_err(|e| e.kind()), Err(ErrorKind::StorageFull));
    disk.set_capacity(None);
    a.allocate(0, 12)?;
    assert_eq!(content(&disk, "/a").as_deref(), Some(&b"12345abcde\0\0"[..]));
    Ok(())
}

#[test]
fn the_same_seed_gives_the_same_disk() -> io::Result<()> {
    let run = |seed| -> io::Result<_> {
        let disk = FaultFiles::new(seed);
        let a = disk.open(Path::new("/a"), Mode::Create)?;
        disk.sync_dir(Path::new("/"))?;
        (0..20).try_for_each(|n| write(&*a, n * 700, &[n as u8 + 1; 700]))?;
        Ok(content(&disk.power_on(), "/a"))
    };
    assert_eq!(run(7)?, run(7)?);
    assert_ne!(run(7)?, run(8)?);
    Ok(())
}
