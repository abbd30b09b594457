//! The kernel as a plain ELF file, taken out of the compressed kernel image: QEMU starts it through its PVH entry without the 3 to 6 seconds
//! that decompression takes under emulation.
//!
//! Contract: `vmlinuz` (bzImage) in, the ELF inside it out, byte for byte. Form: Documentation/x86/boot.rst of Linux ("payload_offset").
//! Failure classes: [`Error::Format`] for another form, [`Error::Program`] when `xz` is not there or refuses.

use crate::{Error, Result};
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

/// A kernel of more than this is none.
const MAX_BYTES: u64 = 512 << 20;

/// Takes the ELF out of a bzImage.
///
/// # Errors
/// [`Error::Format`] when it is no bzImage, has an unknown compression or no PVH note; [`Error::Program`] when `xz` fails.
pub fn vmlinux(vmlinuz: &[u8]) -> Result<Vec<u8>> {
    let bad = |why: &str| Error::Format { what: "vmlinuz".to_owned(), why: why.to_owned() };
    let payload = payload(vmlinuz).ok_or_else(|| bad("is no bzImage of boot protocol 2.08 or later"))?;
    // The compressed stream is followed by its unpacked size as u32.
    let stream = &payload[..payload.len() - 4];
    let elf = match stream {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => unxz(stream)?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut elf = Vec::new();
            let decoder = zstd::Decoder::new(stream).map_err(|error| bad(&error.to_string()))?;
            decoder.take(MAX_BYTES).read_to_end(&mut elf).map_err(|error| bad(&error.to_string()))?;
            elf
        }
        _ => return Err(bad("is compressed in a way that is not known here (known: xz, zstd)")),
    };
    if !elf.starts_with(b"\x7fELF") {
        return Err(bad("does not hold an ELF file"));
    }
    if !has_pvh_note(&elf) {
        return Err(bad("holds a kernel without the PVH entry (CONFIG_PVH)"));
    }
    Ok(elf)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// The compressed kernel, with the size behind it; at least 10 bytes.
fn payload(vmlinuz: &[u8]) -> Option<&[u8]> {
    // boot.rst: "HdrS" at 0x202, protocol version at 0x206, sectors of the real-mode part at 0x1f1 (0 means 4).
    if vmlinuz.get(0x202..0x206)? != b"HdrS" || u16_at(vmlinuz, 0x206)? < 0x0208 {
        return None;
    }
    let sectors = match *vmlinuz.get(0x1f1)? {
        0 => 4,
        n => usize::from(n),
    };
    let start = (sectors + 1) * 512 + usize::try_from(u32_at(vmlinuz, 0x248)?).ok()?;
    let length = usize::try_from(u32_at(vmlinuz, 0x24c)?).ok()?;
    vmlinuz.get(start..start.checked_add(length)?).filter(|payload| payload.len() >= 10)
}

/// `xz` as a program: the kernel's stream uses the x86 filter, and the package is needed for the build anyway.
fn unxz(stream: &[u8]) -> Result<Vec<u8>> {
    let failed = |why: String| Error::Program { program: "xz".to_owned(), why };
    let child = Command::new("xz")
        .args(["-dc", "--single-stream"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| failed(format!("cannot be started: {error}")))?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(failed("has no pipes".to_owned()));
    };
    let mut elf = Vec::new();
    std::thread::scope(|scope| {
        // A writer of its own: both pipes are bounded. What a writer may complain of shows in xz's own message.
        scope.spawn(move || input.write_all(stream).ok());
        output.take(MAX_BYTES).read_to_end(&mut elf)
    })
    .map_err(|error| failed(error.to_string()))?;
    let done = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if !done.status.success() {
        return Err(failed(String::from_utf8_lossy(&done.stderr).trim().to_owned()));
    }
    Ok(elf)
}

/// Whether the ELF has the note XEN_ELFNOTE_PHYS32_ENTRY (18) of owner "Xen", by which QEMU finds the PVH entry.
fn has_pvh_note(elf: &[u8]) -> bool {
    let find = || -> Option<bool> {
        let headers = usize::try_from(u64_at(elf, 32)?).ok()?;
        let (size, count) = (usize::from(u16_at(elf, 54)?), usize::from(u16_at(elf, 56)?));
        for number in 0..count {
            let at = headers.checked_add(number * size)?;
            const PT_NOTE: u32 = 4;
            if u32_at(elf, at)? != PT_NOTE {
                continue;
            }
            let (mut at, length) = (usize::try_from(u64_at(elf, at + 8)?).ok()?, usize::try_from(u64_at(elf, at + 32)?).ok()?);
            let end = at.checked_add(length)?;
            while at.checked_add(12)? <= end {
                let (name, content, kind) = (u32_at(elf, at)? as usize, u32_at(elf, at + 4)? as usize, u32_at(elf, at + 8)?);
                if kind == 18 && elf.get(at + 12..at + 12 + 4)? == b"Xen\0" {
                    return Some(true);
                }
                at = at.checked_add(12 + name.checked_next_multiple_of(4)?)?.checked_add(content.checked_next_multiple_of(4)?)?;
            }
        }
        Some(false)
    };
    find().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An ELF of one note segment, and a bzImage around its compressed form.
    fn elf(kind: u8) -> Vec<u8> {
        let mut elf = vec![0; 64 + 56];
        elf[..4].copy_from_slice(b"\x7fELF");
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 1;
        elf[64] = 4;
        elf[64 + 8] = 120;
        elf[64 + 32] = 24;
        elf.extend_from_slice(&[4, 0, 0, 0, 8, 0, 0, 0, kind, 0, 0, 0]);
        elf.extend_from_slice(b"Xen\0");
        elf.extend_from_slice(&[0; 8]);
        elf
    }

    fn bzimage(stream: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024 + 16];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x207] = 2;
        image[0x206] = 15;
        image[0x248] = 16;
        image[0x24c..0x250].copy_from_slice(&u32::try_from(stream.len() + 4).unwrap().to_le_bytes());
        image.extend_from_slice(stream);
        image.extend_from_slice(&[0; 20]);
        image
    }

    #[test]
    fn the_kernel_comes_out_as_it_went_in() {
        let kernel = elf(18);
        assert_eq!(vmlinux(&bzimage(&zstd::encode_all(kernel.as_slice(), 1).unwrap())).unwrap(), kernel);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kernel");
        std::fs::write(&file, &kernel).unwrap();
        let xz =
            Command::new("xz").args(["-c", "--check=crc32", "--x86", "--lzma2"]).arg(&file).output().expect("xz is installed");
        assert_eq!(vmlinux(&bzimage(&xz.stdout)).unwrap(), kernel);
    }

    #[test]
    fn other_files_are_refused_with_the_reason() {
        let why = |image: &[u8]| vmlinux(image).unwrap_err().to_string();
        assert!(why(b"MZ").contains("no bzImage"));
        assert!(why(&bzimage(b"0123456789")).contains("compressed"));
        assert!(why(&bzimage(&zstd::encode_all(&elf(17)[..], 1).unwrap())).contains("PVH"));
        assert!(why(&bzimage(&zstd::encode_all(&b"text"[..], 1).unwrap())).contains("ELF"));
        assert!(why(&bzimage(b"\xfd7zXZ\0garbage")).starts_with("xz "));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut image in proptest::collection::vec(any::<u8>(), 0..900), start in any::<bool>()) {
            if start && image.len() > 0x250 {
                image[0x202..0x206].copy_from_slice(b"HdrS");
            }
            let _ = payload(&image);
            let _ = has_pvh_note(&image);
        }
    }
}
