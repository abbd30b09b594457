//! Builds the whole image from real packages: twice, in two places, and compares every byte; then once more to see what the cache saves.
//!
//! Needs mmdebstrap and the programs of `hw-tests/need image`, and root or user namespaces. The base archive is kept in the target folder, so
//! that only the first run fetches packages.

use std::path::{Path, PathBuf};

use twinpost_image::manifest::Manifest;
use twinpost_image::size::Report;
use twinpost_image::{Inputs, Kind, Progress, Tree};
use twinpost_update::{Keys, SigningKey};

fn inputs(cache: &Path) -> Inputs {
    // Any program will do for the bytes; a node that boots with the real ones is the rig's business.
    let program = PathBuf::from(env!("CARGO_BIN_EXE_twinpost-image"));
    Inputs {
        repository: Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
        binary: program.clone(),
        init: program,
        profile: "test".into(),
        epoch_s: 1_763_800_000,
        version: "1.2.3".into(),
        commit: "0123456".into(),
        cache: cache.to_owned(),
        fresh: false,
        floor: 0,
        patience_s: None,
        broken: None,
        trusted: Vec::new(),
        signing_key: None,
    }
}

/// The cache of the target folder, and in it the base archive.
fn base(cache: &Path) -> PathBuf {
    let files = std::fs::read_dir(cache).unwrap().flatten().map(|entry| entry.path());
    let mut bases: Vec<_> = files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("base-")).collect();
    bases.sort_by_key(|path| path.metadata().unwrap().modified().unwrap());
    bases.pop().expect("the build made one")
}

#[test]
fn two_builds_are_the_same_to_the_byte() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned();
    let cache = target.join("image/cache");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let key = folder.path().join("key.pem");
    let signing = SigningKey::from_seed(&[7; 32]);
    std::fs::write(&key, signing.to_pem().unwrap()).unwrap();
    let inputs = |cache: &Path| Inputs {
        signing_key: Some(key.clone()),
        trusted: vec![("a.pub".into(), signing.public_pem().unwrap())],
        ..inputs(cache)
    };
    let first_out = folder.path().join("first");
    let first = twinpost_image::build(&inputs(&cache), &first_out, &Progress::default()).unwrap();

    // The second place shares nothing but the packages.
    let other = folder.path().join("other/cache");
    std::fs::create_dir_all(&other).unwrap();
    let packages = base(&cache);
    std::os::unix::fs::symlink(&packages, other.join(packages.file_name().unwrap())).unwrap();
    let second_out = folder.path().join("a/longer/name/of/a/folder");
    let second = twinpost_image::build(&inputs(&other), &second_out, &Progress::default()).unwrap();
    assert_eq!(first, second);
    assert_eq!(Manifest::open(&first_out).unwrap(), first);
    for name in first.files.keys() {
        assert!(
            std::fs::read(first_out.join(name)).unwrap() == std::fs::read(second_out.join(name)).unwrap(),
            "{} differs",
            name.display()
        );
    }
    assert!(first.files.len() >= 12, "{:?}", first.files);

    // A node takes the update; its parts are those of the image.
    let file = std::fs::File::open(first_out.join(first.update.as_ref().unwrap())).unwrap();
    let update = twinpost_update::bundle::verify(file, &Keys::of(&[&signing]), &|_| {}).unwrap();
    assert_eq!((update.release.sequence, update.part("slot").unwrap().bytes), (first.sequence, first.files[&first.slot].bytes));

    // Compression on one processor gives the bytes that it gives on all of them.
    let slot = folder.path().join("slot.img");
    let root = twinpost_image::slot(&inputs(&cache), &slot, Some(1)).unwrap();
    assert_eq!(root, first.root);
    assert!(std::fs::read(&slot).unwrap() == std::fs::read(first_out.join(&first.slot)).unwrap());

    // Nothing changed: nothing dear is made again.
    let progress = Progress::quiet();
    assert_eq!(twinpost_image::build(&inputs(&other), &second_out, &progress).unwrap().root, first.root);
    for stage in ["packages", "program", "squashfs", "initramfs", "kernel"] {
        assert!(progress.timings().iter().any(|timing| timing.stage == stage && timing.cached), "{stage} was made again");
    }

    // The sequence of a release is in it, so another one has another root.
    let mut later = inputs(&other);
    later.epoch_s += 1;
    assert_ne!(twinpost_image::slot(&later, &slot, None).unwrap().roothash, first.root.roothash);

    bill(&first_out, &first);
    sizes(&first_out, &first);
    no_shell(&cache, &first_out.join(&first.slot), folder.path());
}

/// Each Debian package of the bill has version, supplier and the checksum of its archive.
fn bill(out: &Path, made: &Manifest) {
    let bill: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join(&made.sbom)).unwrap()).unwrap();
    let packages = bill["packages"].as_array().unwrap();
    let named = |name: &str| {
        packages.iter().find(|package| package["name"] == name).unwrap_or_else(|| panic!("{name} is not in the bill"))
    };
    for package in packages.iter().filter(|package| package["SPDXID"].as_str().unwrap().starts_with("SPDXRef-deb-")) {
        assert_eq!(package["checksums"][0]["checksumValue"].as_str().map(str::len), Some(64), "{package}");
        assert!(package["supplier"].as_str().unwrap().contains(": "), "{package}");
    }
    assert_eq!(
        named(&format!("linux-image-{}", made.kernel_release))["sourceInfo"].as_str().unwrap().split(' ').nth(2),
        Some("linux-signed-amd64")
    );
    named("ca-certificates");
    assert!(named("mdadm")["licenseDeclared"] != "");
    assert_eq!(named("rustls")["checksums"][0]["algorithm"], "SHA256");
    for gone in ["dash", "bash", "perl-base", "apt", "dpkg", "coreutils"] {
        assert!(!packages.iter().any(|package| package["name"] == gone), "{gone} is in the bill");
    }
}

fn sizes(out: &Path, made: &Manifest) {
    let report = Report::open(&out.join(&made.size)).unwrap();
    assert!(report.squashfs_bytes < 100_000_000 && report.content_bytes > report.squashfs_bytes, "{}", report.text(10));
    assert!(report.packages.iter().any(|share| share.name == "systemd"));
}

/// Reads the squashfs as it would be mounted: no shell, no interpreter, no package manager, nothing set-user-ID.
fn no_shell(cache: &Path, slot: &Path, folder: &Path) {
    let list = std::process::Command::new("unsquashfs")
        .args(["-lln", "-d", ""])
        .arg(slot)
        .output()
        .expect("squashfs-tools are installed");
    let list = String::from_utf8(list.stdout).unwrap();
    let entries: Vec<(&str, &str)> =
        list.lines().filter_map(|line| Some((line.split_whitespace().next()?, line.split_whitespace().nth(5)?))).collect();
    assert!(entries.len() > 1000, "{list}");
    assert!(
        entries.iter().any(|(_, path)| *path == "/usr/lib/systemd/systemd")
            && entries.iter().any(|(_, path)| *path == "/usr/lib/twinpost/twinpost")
    );
    for (mode, path) in entries {
        let name = path.rsplit('/').next().unwrap();
        let forbidden = [
            "sh", "bash", "dash", "busybox", "perl", "python3", "awk", "mawk", "apt", "apt-get", "dpkg", "gcc", "sed", "su",
            "login",
        ];
        let program = path.starts_with("/usr/bin/") || path.starts_with("/usr/sbin/");
        assert!(!(program && forbidden.contains(&name)), "{path} is in the image");
        assert!(!mode.contains(['s', 'S']), "{mode} {path}");
    }
    // The base archive has them all: the test above can fail.
    let tree = Tree::from_tar(&base(cache)).unwrap();
    assert!(
        tree.iter().any(|(path, entry)| path == "usr/bin/dash" && matches!(entry.kind, Kind::File(_))),
        "{}",
        folder.display()
    );
}
