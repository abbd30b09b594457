//! The initramfs: a cpio archive in the kernel's `newc` form, compressed with zstd.
//!
//! Contract: the archive holds the program as `/init`, the modules below `/modules`, the mount points and `/dev/console`; its entries are
//! sorted and have one time, so equal inputs give equal bytes. Form: Documentation/driver-api/early-userspace/buffer-format.rst of Linux.
//! Failure classes: [`Error::Format`] when a part is too big for the form (4 GiB).

use crate::{Error, Result, modules::Modules};
use std::collections::BTreeMap;

/// The kernel frees this after unpacking; level 19 takes seconds once and saves time at every start (fewer bytes to read by firmware).
const ZSTD_LEVEL: i32 = 19;

#[derive(Debug)]
enum Item<'a> {
    Folder,
    File(&'a [u8], u32),
    /// Character device: major, minor.
    Device(u32, u32),
}

/// Builds the compressed initramfs from the program and the modules. All entries have the time `epoch_s` (seconds since 1970).
///
/// # Errors
/// [`Error::Format`] for a part of 4 GiB or a time after 2106.
pub fn build(init: &[u8], modules: &Modules, epoch_s: u64) -> Result<Vec<u8>> {
    let archive = archive(init, modules, epoch_s)?;
    zstd::encode_all(archive.as_slice(), ZSTD_LEVEL)
        .map_err(|error| Error::Format { what: "initramfs".to_owned(), why: error.to_string() })
}

/// The archive before compression.
fn archive(init: &[u8], modules: &Modules, epoch_s: u64) -> Result<Vec<u8>> {
    let mut items = BTreeMap::<String, Item<'_>>::new();
    for folder in ["dev", "modules", "proc", "root", "run", "sys", "sysroot"] {
        items.insert(folder.to_owned(), Item::Folder);
    }
    // The kernel opens it as standard output of the program before anything is mounted.
    items.insert("dev/console".to_owned(), Item::Device(5, 1));
    // And where there is no console, the program's run time opens this in its place.
    items.insert("dev/null".to_owned(), Item::Device(1, 3));
    items.insert("init".to_owned(), Item::File(init, 0o755));
    for (name, table) in [("order", &modules.order), ("efi", &modules.efi), ("drivers", &modules.drivers)] {
        items.insert(format!("modules/{name}"), Item::File(table.as_bytes(), 0o644));
    }
    for (name, content) in &modules.files {
        items.insert(format!("modules/{name}"), Item::File(content, 0o644));
    }
    let time = u32::try_from(epoch_s)
        .map_err(|_| Error::Format { what: "initramfs".to_owned(), why: format!("time {epoch_s} is after 2106") })?;
    let mut out = Vec::new();
    for (number, (name, item)) in (1u32..).zip(&items) {
        let (mode, links, content, device) = match item {
            Item::Folder => (0o040_755, 2, &[][..], (0, 0)),
            Item::File(content, mode) => (0o100_000 | mode, 1, *content, (0, 0)),
            Item::Device(major, minor) => (0o020_600, 1, &[][..], (*major, *minor)),
        };
        entry(&mut out, number, name, mode, links, time, content, device)?;
    }
    entry(&mut out, 0, "TRAILER!!!", 0, 1, 0, &[], (0, 0))?;
    // The form asks for nothing after the trailer; blocks of 512 bytes are what cpio programs write.
    out.resize(out.len().next_multiple_of(512), 0);
    Ok(out)
}

#[expect(clippy::too_many_arguments, reason = "the fields of one header of the form, used twice")]
fn entry(
    out: &mut Vec<u8>,
    inode: u32,
    name: &str,
    mode: u32,
    links: u32,
    time: u32,
    content: &[u8],
    device: (u32, u32),
) -> Result<()> {
    let length = |bytes: usize| {
        u32::try_from(bytes).map_err(|_| Error::Format { what: format!("initramfs: {name}"), why: format!("{bytes} bytes") })
    };
    let fields = [inode, mode, 0, 0, links, time, length(content.len())?, 0, 0, device.0, device.1, length(name.len() + 1)?, 0];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(4), 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn modules() -> Modules {
        let files = BTreeMap::from([("z.ko".to_owned(), b"zz".to_vec()), ("a.ko".to_owned(), b"\x7fELF....".to_vec())]);
        Modules { order: "a.ko\n".into(), efi: String::new(), drivers: "module z.ko\nalias pci:*\n".into(), files }
    }

    #[test]
    fn equal_inputs_give_equal_bytes() {
        let first = build(b"init", &modules(), 1_700_000_000).unwrap();
        assert_eq!(first, build(b"init", &modules(), 1_700_000_000).unwrap());
        assert_ne!(first, build(b"init!", &modules(), 1_700_000_000).unwrap());
        assert_eq!(zstd::decode_all(first.as_slice()).unwrap(), archive(b"init", &modules(), 1_700_000_000).unwrap());
        assert!(build(b"init", &modules(), 1 << 40).is_err());
    }

    #[test]
    fn cpio_reads_what_was_written() {
        let archive = archive(b"program", &modules(), 86_400).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.cpio");
        std::fs::write(&file, &archive).unwrap();
        let list = Command::new("cpio")
            .args(["-tv", "--quiet", "-F"])
            .arg(&file)
            .env("TZ", "UTC")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .expect("cpio is installed");
        let text = String::from_utf8(list.stdout).unwrap();
        assert!(list.status.success(), "{text}");
        assert_eq!(text.lines().count(), 15, "{text}");
        assert!(
            text.lines().any(|l| l.starts_with("-rwxr-xr-x") && l.contains(" 7 Jan  2  1970") && l.ends_with(" init")),
            "{text}"
        );
        assert!(
            text.lines().any(|l| l.starts_with("crw-------") && l.contains("5,   1") && l.ends_with("dev/console")),
            "{text}"
        );
        assert!(text.lines().any(|l| l.ends_with("modules/z.ko")), "{text}");
    }
}
