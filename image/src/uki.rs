//! The unified kernel image: systemd's EFI stub with kernel, initramfs, command line and release file as sections of one PE file.
//!
//! Contract: sections are added after the stub's last one, at addresses aligned to pages, their content aligned in the file as the stub asks;
//! the stub's symbol table is left out, sizes and checksum of the header are made right. Equal inputs give equal bytes. Form: PE/COFF
//! specification (Microsoft), names of the sections: systemd-stub(7). Failure classes: [`Error::Format`] when the stub is no such PE file,
//! has no room for headers or a part does not fit into it.

use crate::{Error, Result};

/// Pages: firmware that protects memory by sections does it by pages.
const ADDRESS_ALIGN: usize = 4096;
/// IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ.
const READ_ONLY_DATA: u32 = 0x4000_0040;
const SECTION_HEADER_BYTES: usize = 40;
const MAX_SECTIONS: usize = 96;

/// What goes into the image.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// `os-release`: the boot manager shows its PRETTY_NAME, and sorts by a version if there is one.
    pub os_release: &'a str,
    /// Kernel command line.
    pub cmdline: &'a str,
    /// Release of the kernel.
    pub uname: &'a str,
    /// Initramfs, compressed.
    pub initrd: &'a [u8],
    /// The kernel (bzImage with EFI stub).
    pub linux: &'a [u8],
}

/// A section of a PE file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Name (`.linux`).
    pub name: String,
    /// Size in memory.
    pub virtual_bytes: usize,
    /// Address relative to the image.
    pub address: usize,
    /// Bytes in the file (a multiple of the file's alignment).
    pub raw_bytes: usize,
    /// Where in the file.
    pub offset: usize,
}

/// Offsets of the headers of a PE32+ file.
struct Pe {
    coff: usize,
    optional: usize,
    table: usize,
    file_align: usize,
    headers_bytes: usize,
    sections: Vec<Section>,
}

fn bad(why: impl Into<String>) -> Error {
    Error::Format { what: "EFI stub".to_owned(), why: why.into() }
}

fn number<const N: usize>(file: &[u8], at: usize) -> Result<usize> {
    let bytes = at.checked_add(N).and_then(|end| file.get(at..end)).ok_or_else(|| bad("ends too early"))?;
    Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
}

fn put(file: &mut [u8], at: usize, value: usize) -> Result<()> {
    let value = u32::try_from(value).map_err(|_| bad("would be larger than 4 GiB"))?;
    file.get_mut(at..at + 4).ok_or_else(|| bad("ends too early"))?.copy_from_slice(&value.to_le_bytes());
    Ok(())
}

impl Pe {
    fn parse(file: &[u8]) -> Result<Self> {
        if !file.starts_with(b"MZ") {
            return Err(bad("is no PE file (no MZ)"));
        }
        let pe = number::<4>(file, 0x3c)?;
        if pe.checked_add(4).and_then(|end| file.get(pe..end)) != Some(b"PE\0\0") {
            return Err(bad("is no PE file (no PE header)"));
        }
        let coff = pe + 4;
        let count = number::<2>(file, coff + 2)?;
        let optional = coff + 20;
        if number::<2>(file, optional)? != 0x20b {
            return Err(bad("is not for 64 bits (PE32+)"));
        }
        if count > MAX_SECTIONS {
            return Err(bad(format!("has {count} sections")));
        }
        let table = optional + number::<2>(file, coff + 16)?;
        let file_align = number::<4>(file, optional + 36)?;
        if !file_align.is_power_of_two() || file_align > 65536 {
            return Err(bad(format!("aligns its content to {file_align} bytes")));
        }
        let mut sections = Vec::new();
        for entry in 0..count {
            let at = table + entry * SECTION_HEADER_BYTES;
            let name = file.get(at..at + 8).ok_or_else(|| bad("ends too early"))?;
            let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
            let field = |offset| number::<4>(file, at + offset);
            let section =
                Section { name, virtual_bytes: field(8)?, address: field(12)?, raw_bytes: field(16)?, offset: field(20)? };
            if section.raw_bytes > 0 && section.offset.checked_add(section.raw_bytes).is_none_or(|end| end > file.len()) {
                return Err(bad(format!("section {} lies outside of the file", section.name)));
            }
            sections.push(section);
        }
        Ok(Self { coff, optional, table, file_align, headers_bytes: number::<4>(file, optional + 60)?, sections })
    }
}

/// The sections of a PE file.
///
/// # Errors
/// [`Error::Format`] when it is none.
pub fn sections(file: &[u8]) -> Result<Vec<Section>> {
    Ok(Pe::parse(file)?.sections)
}

/// Content of a section, without the padding at its end; `None` when the file has no such section.
#[must_use]
pub fn section<'a>(file: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let section = sections(file).ok()?.into_iter().find(|section| section.name == name)?;
    file.get(section.offset..section.offset + section.raw_bytes.min(section.virtual_bytes))
}

/// Joins stub and parts to the kernel image that UEFI firmware or systemd-boot starts.
///
/// # Errors
/// [`Error::Format`] as the module says; also for an empty kernel and a command line with a NUL or line break.
pub fn build(stub: &[u8], parts: &Parts<'_>) -> Result<Vec<u8>> {
    if parts.linux.is_empty() || parts.initrd.is_empty() {
        return Err(Error::Format { what: "UKI".to_owned(), why: "kernel or initramfs is empty".to_owned() });
    }
    if parts.cmdline.contains(['\0', '\n']) {
        return Err(Error::Format { what: "kernel command line".to_owned(), why: "has a NUL or a line break".to_owned() });
    }
    // The kernel last: nothing lies behind it in memory that its own unpacking could touch.
    let mut wanted = vec![
        (".osrel", parts.os_release.as_bytes()),
        (".cmdline", parts.cmdline.as_bytes()),
        (".uname", parts.uname.as_bytes()),
        (".initrd", parts.initrd),
        (".linux", parts.linux),
    ];
    let pe = Pe::parse(stub)?;
    // systemd's own stub carries its .sbat (shim refuses revoked generations by it); a stub without one gets the table's first line.
    if !pe.sections.iter().any(|section| section.name == ".sbat") {
        wanted.insert(0, (".sbat", b"sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n"));
    }
    if let Some((name, _)) = wanted.iter().find(|(name, _)| pe.sections.iter().any(|section| section.name == *name)) {
        return Err(bad(format!("has a section {name} already")));
    }
    let count = pe.sections.len() + wanted.len();
    let first_content = pe
        .sections
        .iter()
        .filter(|section| section.raw_bytes > 0)
        .map(|section| section.offset)
        .min()
        .unwrap_or(pe.headers_bytes);
    if pe.table + count * SECTION_HEADER_BYTES > first_content.min(pe.headers_bytes) {
        return Err(bad(format!("has no room for the headers of {} more sections", wanted.len())));
    }
    let mut address = pe.sections.iter().map(|section| section.address + section.virtual_bytes).max().unwrap_or(0);
    let end = pe.sections.iter().map(|section| section.offset + section.raw_bytes).max().unwrap_or(pe.headers_bytes);
    // Behind the last section lies only the symbol table.
    let mut file = stub.get(..end).ok_or_else(|| bad("ends too early"))?.to_vec();
    let mut data_bytes = number::<4>(stub, pe.optional + 8)?;
    for (entry, (name, content)) in (pe.sections.len()..).zip(&wanted) {
        address = address.next_multiple_of(ADDRESS_ALIGN);
        file.resize(file.len().next_multiple_of(pe.file_align), 0);
        let offset = file.len();
        file.extend_from_slice(content);
        file.resize(file.len().next_multiple_of(pe.file_align), 0);
        let raw_bytes = file.len() - offset;
        let at = pe.table + entry * SECTION_HEADER_BYTES;
        file[at..at + SECTION_HEADER_BYTES].fill(0);
        file[at..at + name.len()].copy_from_slice(name.as_bytes());
        put(&mut file, at + 8, content.len())?;
        put(&mut file, at + 12, address)?;
        put(&mut file, at + 16, raw_bytes)?;
        put(&mut file, at + 20, offset)?;
        file[at + 36..at + 40].copy_from_slice(&READ_ONLY_DATA.to_le_bytes());
        address += content.len();
        data_bytes += raw_bytes;
    }
    let count = u16::try_from(count).map_err(|_| bad("has too many sections"))?;
    file[pe.coff + 2..pe.coff + 4].copy_from_slice(&count.to_le_bytes());
    // No symbol table any more, and no signature: what was signed is another file.
    put(&mut file, pe.coff + 8, 0)?;
    put(&mut file, pe.coff + 12, 0)?;
    let directories = number::<4>(&file, pe.optional + 108)?;
    if directories > 4 {
        put(&mut file, pe.optional + 112 + 4 * 8, 0)?;
        put(&mut file, pe.optional + 112 + 4 * 8 + 4, 0)?;
    }
    put(&mut file, pe.optional + 8, data_bytes)?;
    let align = number::<4>(&file, pe.optional + 32)?.max(1);
    put(&mut file, pe.optional + 56, address.next_multiple_of(align))?;
    put(&mut file, pe.optional + 64, 0)?;
    let sum = checksum(&file);
    file[pe.optional + 64..pe.optional + 68].copy_from_slice(&sum.to_le_bytes());
    Ok(file)
}

/// Checksum of a PE image whose checksum field is zero: sum of 16-bit words with carries folded in, plus the length.
fn checksum(file: &[u8]) -> u32 {
    let mut sum = 0u64;
    for word in file.chunks(2) {
        sum += u64::from(word[0]) | word.get(1).map_or(0, |high| u64::from(*high) << 8);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u32::try_from(sum + file.len() as u64).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    /// A small PE32+ file: headers of 1 KiB, one section `.text`, a symbol table behind it.
    fn stub() -> Vec<u8> {
        let mut file = vec![0; 0x400];
        file[..2].copy_from_slice(b"MZ");
        file[0x3c] = 0x80;
        file[0x80..0x84].copy_from_slice(b"PE\0\0");
        file[0x84..0x86].copy_from_slice(&0x8664u16.to_le_bytes());
        file[0x86] = 1;
        file[0x84 + 8..0x84 + 12].copy_from_slice(&0x600u32.to_le_bytes());
        file[0x84 + 16] = 240;
        file[0x84 + 18..0x84 + 20].copy_from_slice(&0x206u16.to_le_bytes());
        let optional = 0x98;
        file[optional..optional + 2].copy_from_slice(&0x20bu16.to_le_bytes());
        for (at, value) in [(32, 0x200u32), (36, 0x200), (56, 0x1200), (60, 0x400), (68, 10), (108, 16)] {
            file[optional + at..optional + at + 4].copy_from_slice(&value.to_le_bytes());
        }
        let table = optional + 240;
        file[table..table + 5].copy_from_slice(b".text");
        for (at, value) in [(8, 0x123u32), (12, 0x1000), (16, 0x200), (20, 0x400), (36, 0x6000_0020)] {
            file[table + at..table + at + 4].copy_from_slice(&value.to_le_bytes());
        }
        file.resize(0x600, 0xcc);
        file.extend_from_slice(b"symbols");
        file
    }

    fn parts() -> Parts<'static> {
        Parts { os_release: "ID=twinpost\n", cmdline: "twinpost.slot=a", uname: "6.1", initrd: &[7; 5000], linux: &[9; 9000] }
    }

    #[test]
    fn parts_come_out_as_they_went_in_and_nothing_overlaps() {
        let file = build(&stub(), &parts()).unwrap();
        assert_eq!(file, build(&stub(), &parts()).unwrap());
        assert_eq!(section(&file, ".osrel"), Some(&b"ID=twinpost\n"[..]));
        assert_eq!(section(&file, ".cmdline"), Some(&b"twinpost.slot=a"[..]));
        assert_eq!(section(&file, ".initrd"), Some(&[7; 5000][..]));
        assert_eq!(section(&file, ".linux"), Some(&[9; 9000][..]));
        assert_eq!(section(&file, ".text").unwrap().len(), 0x123);
        assert!(section(&file, ".sbat").unwrap().starts_with(b"sbat,1,"));
        assert_eq!(section(&file, ".gone"), None);
        let list = sections(&file).unwrap();
        assert_eq!(list.len(), 7);
        for pair in list.windows(2) {
            assert!(pair[0].address + pair[0].virtual_bytes <= pair[1].address);
            assert!(pair[0].offset + pair[0].raw_bytes <= pair[1].offset);
            assert_eq!((pair[1].address % 4096, pair[1].offset % 512), (0, 0));
        }
        let last = list.last().unwrap();
        assert_eq!(
            number::<4>(&file, 0x98 + 56).unwrap(),
            (last.address + last.virtual_bytes).next_multiple_of(512),
            "SizeOfImage"
        );
        assert_eq!(file.len(), last.offset + last.raw_bytes, "nothing behind the last section");
        let mut zeroed = file.clone();
        zeroed[0x98 + 64..0x98 + 68].fill(0);
        assert_eq!(u32::from_le_bytes(file[0x98 + 64..0x98 + 68].try_into().unwrap()), checksum(&zeroed));
    }

    #[test]
    fn another_program_reads_the_same_sections() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("uki.efi");
        let file = build(&stub(), &parts()).unwrap();
        std::fs::write(&path, &file).unwrap();
        let text = Command::new("objdump").arg("-h").arg(&path).output().expect("objdump is installed (binutils)");
        let text = String::from_utf8(text.stdout).unwrap();
        for section in sections(&file).unwrap() {
            let line = text
                .lines()
                .find(|line| line.split_whitespace().nth(1) == Some(&section.name))
                .unwrap_or_else(|| panic!("{} in {text}", section.name));
            let fields = line.split_whitespace().collect::<Vec<_>>();
            assert_eq!(usize::from_str_radix(fields[2], 16).unwrap(), section.virtual_bytes, "{line}");
            assert_eq!(usize::from_str_radix(fields[3], 16).unwrap(), section.address, "{line}");
            assert_eq!(usize::from_str_radix(fields[5], 16).unwrap(), section.offset, "{line}");
        }
    }

    #[test]
    fn refusals_say_why() {
        let why = |stub: &[u8], parts: &Parts<'_>| build(stub, parts).unwrap_err().to_string();
        assert!(why(b"ELF", &parts()).contains("MZ"));
        assert!(why(&build(&stub(), &parts()).unwrap(), &parts()).contains("already"));
        let mut full = stub();
        full[0x98 + 60] = 0xff;
        full[0x98 + 61] = 1;
        assert!(why(&full, &parts()).contains("room"));
        assert!(why(&stub(), &Parts { cmdline: "a\nb", ..parts() }).contains("line break"));
        assert!(why(&stub(), &Parts { linux: b"", ..parts() }).contains("empty"));
    }

    proptest! {
        #[test]
        fn no_stub_makes_it_panic(at in proptest::collection::vec((0usize..0x200, any::<u8>()), 0..8), cut in 0usize..0x610) {
            let mut file = stub();
            for (at, value) in at {
                file[at] = value;
            }
            file.truncate(cut);
            let _ = build(&file, &parts());
            let _ = section(&file, ".text");
        }
    }
}
