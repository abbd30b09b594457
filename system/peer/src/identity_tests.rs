use super::*;
use crate::error::PairingError;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

fn dirs() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let (a, b) = (dir.path().join("a/pair"), dir.path().join("b/pair"));
    (dir, a, b)
}

#[test]
fn a_couple_shares_everything_but_letters_and_keys() -> Result<(), Error> {
    let (_keep, dir_a, dir_b) = dirs();
    let [a, b] = Identity::couple(&dir_a, &dir_b, ["a", "b"])?;
    let (of_a, of_b) = (a.pair().expect("paired"), b.pair().expect("paired"));
    assert_eq!((of_a.node.number(), of_b.node.number()), (0, 1));
    assert_eq!((&of_a.partner.key, &of_b.partner.key), (b.public(), a.public()));
    assert_eq!((of_a.partner.about.name.as_str(), of_b.partner.about.name.as_str()), ("b", "a"));
    assert_ne!(of_a.cluster, 0);
    assert_eq!((of_a.cluster, &of_a.keys, of_a.witness_key), (of_b.cluster, &of_b.keys, of_b.witness_key));
    assert_ne!(of_a.keys.current, of_a.witness_key);
    for file in [dir_a.join(KEY), dir_a.join(PAIR), dir_b.join(KEY), dir_b.join(PAIR)] {
        assert_eq!(fs::metadata(&file).expect("there").mode() & 0o777, 0o600, "{}", file.display());
    }
    // Again: nothing changes, and a plain load sees the same.
    let [a2, _] = Identity::couple(&dir_a, &dir_b, ["a", "b"])?;
    assert_eq!((a2.pair(), a2.public()), (a.pair(), a.public()));
    assert_eq!(Identity::load(&dir_b)?.pair(), b.pair());
    Ok(())
}

#[test]
fn a_couple_that_a_crash_left_half_made_is_finished() -> Result<(), Error> {
    for gone in 0..2 {
        let (_keep, dir_a, dir_b) = dirs();
        let [a, _] = Identity::couple(&dir_a, &dir_b, ["a", "b"])?;
        let cluster = a.pair().expect("paired").cluster;
        fs::remove_file([&dir_a, &dir_b][gone].join(PAIR)).expect("removed");
        let [a, b] = Identity::couple(&dir_a, &dir_b, ["a", "b"])?;
        let (of_a, of_b) = (a.pair().expect("paired"), b.pair().expect("paired"));
        assert_eq!((of_a.cluster, of_b.cluster), (cluster, cluster));
        assert_eq!((of_a.node, of_b.node), (Letter::A, Letter::B));
    }
    Ok(())
}

#[test]
fn folders_of_different_pairs_are_not_coupled() -> Result<(), Error> {
    let (_keep, dir_a, dir_b) = dirs();
    let (_keep2, dir_c, dir_d) = dirs();
    Identity::couple(&dir_a, &dir_b, ["a", "b"])?;
    Identity::couple(&dir_c, &dir_d, ["c", "d"])?;
    assert!(matches!(Identity::couple(&dir_a, &dir_d, ["a", "d"]), Err(Error::Pairing(PairingError::TwoPairs { .. }))));
    // A copied folder is one identity twice.
    assert!(matches!(Identity::couple(&dir_a, &dir_a, ["a", "b"]), Err(Error::Pairing(PairingError::SameKey))));
    Ok(())
}

#[test]
fn each_fault_of_a_file_is_told_once_and_says_what_to_do() -> Result<(), Error> {
    let (_keep, dir_a, dir_b) = dirs();
    let told = |dir: &Path| Identity::load(dir).expect_err("a fault").to_string();
    assert!(told(&dir_a).contains("pairing this node"), "{}", told(&dir_a));
    Identity::couple(&dir_a, &dir_b, ["a", "b"])?;
    let pair = fs::read(dir_a.join(PAIR)).expect("read");
    // Every single flipped bit and every cut is noticed.
    for at in 0..pair.len() - 1 {
        let mut bad = pair.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(dir_a.join(PAIR), &bad).expect("written");
        assert!(matches!(Identity::load(&dir_a), Err(Error::Damaged { .. })), "bit of byte {at}");
        fs::write(dir_a.join(PAIR), &pair[..at]).expect("written");
        assert!(matches!(Identity::load(&dir_a), Err(Error::Damaged { .. })), "cut at {at}");
    }
    assert!(told(&dir_a).contains("pair the two nodes again"));
    fs::write(dir_a.join(PAIR), &pair).expect("written");
    fs::set_permissions(dir_a.join(KEY), fs::Permissions::from_mode(0o644)).expect("chmod");
    assert!(told(&dir_a).contains("chmod 600"), "{}", told(&dir_a));
    fs::remove_file(dir_a.join(KEY)).expect("removed");
    assert!(matches!(Identity::create(&dir_a), Err(Error::Damaged { .. })), "no new key beside an old pair");
    fs::write(dir_b.join(KEY), b"-----BEGIN PRIVATE KEY-----\n").expect("written");
    assert!(matches!(Identity::load(&dir_b), Err(Error::Damaged { .. })));
    Ok(())
}

#[test]
fn frame_keys_change_on_disk_before_anyone_sees_them() -> Result<(), Error> {
    let (_keep, dir_a, dir_b) = dirs();
    let [a, _] = Identity::couple(&dir_a, &dir_b, ["a", "b"])?;
    let mut seen = a.watch();
    seen.mark_unchanged();
    let next = crate::pair::OtherKey { epoch: 2, key: crate::secret::Secret::new()? };
    a.change_keys(&KeyStep::Accept(next.clone()))?;
    assert!(seen.has_changed().expect("open"));
    assert_eq!(Identity::load(&dir_a)?.pair(), a.pair());
    a.change_keys(&KeyStep::Use { epoch: 2 })?;
    assert_eq!(Identity::load(&dir_a)?.pair().expect("paired").keys.current, next.key);
    assert!(matches!(a.change_keys(&KeyStep::Use { epoch: 7 }), Err(Error::Answer(_))));
    let long = About { name: "x".repeat(100_000), ..About::default() };
    a.learn(&long)?;
    assert_eq!(Identity::load(&dir_a)?.pair(), a.pair(), "what the partner tells cannot make the file unreadable");
    a.learn(&About { name: "b2".to_owned(), ..About::default() })?;
    assert_eq!(Identity::load(&dir_a)?.pair().expect("paired").partner.about.name, "b2");
    a.unpair()?;
    assert!(matches!(a.change_keys(&KeyStep::Use { epoch: 2 }), Err(Error::NotPaired)));
    assert_eq!(Identity::load(&dir_a)?.pair(), None);
    Ok(())
}
