//! Reads from an ELF file what decides whether it can run: its interpreter, the libraries it names and where it looks for them.
//!
//! Contract: 64-bit little-endian ELF (the image is x86-64); anything else is `None`. Every offset of the file is checked: no panic on any
//! input. Source: System V ABI, chapters 4 and 5.

/// What an ELF file asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elf {
    /// Dynamic linker (PT_INTERP); `None` for libraries and static programs.
    pub interpreter: Option<String>,
    /// Libraries named (DT_NEEDED).
    pub needed: Vec<String>,
    /// Folders searched first (DT_RUNPATH or DT_RPATH), `$ORIGIN` as written.
    pub runpath: Vec<String>,
    /// Shared object or position-independent program (ET_DYN).
    pub shared: bool,
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// Reads the program headers and the dynamic section; `None` if this is no such ELF file.
#[must_use]
pub fn read(file: &[u8]) -> Option<Elf> {
    if file.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let kind = u16_at(file, 16)?;
    let table = u64_at(file, 32)?;
    let size = u64::from(u16_at(file, 54)?);
    let count = u64::from(u16_at(file, 56)?);
    let mut elf = Elf { shared: kind == 3, ..Elf::default() };
    let mut loads = Vec::new();
    let mut dynamic = None;
    for index in 0..count {
        let at = usize::try_from(table.checked_add(index.checked_mul(size)?)?).ok()?;
        let (offset, address, length) = (u64_at(file, at + 8)?, u64_at(file, at + 16)?, u64_at(file, at + 32)?);
        match u32_at(file, at)? {
            PT_LOAD => loads.push((address, offset, length)),
            PT_DYNAMIC => dynamic = Some((offset, length)),
            PT_INTERP => elf.interpreter = Some(text(file, usize::try_from(offset).ok()?)?),
            _ => {}
        }
    }
    let Some((offset, length)) = dynamic else { return Some(elf) };
    let start = usize::try_from(offset).ok()?;
    let section = file.get(start..start.checked_add(usize::try_from(length).ok()?)?)?;
    let entries =
        || section.chunks_exact(16).map(|entry| (u64_le(&entry[..8]), u64_le(&entry[8..]))).take_while(|&(tag, _)| tag != 0);
    let Some((_, strings)) = entries().find(|&(tag, _)| tag == DT_STRTAB) else { return Some(elf) };
    // DT_STRTAB is an address in memory; the segment that holds it says where that is in the file.
    let &(address, offset, _) = loads.iter().find(|&&(address, _, length)| strings >= address && strings - address < length)?;
    let strings = (strings - address).checked_add(offset)?;
    for (tag, value) in entries() {
        let string = || text(file, usize::try_from(strings.checked_add(value)?).ok()?);
        match tag {
            DT_NEEDED => elf.needed.push(string()?),
            DT_RPATH | DT_RUNPATH => elf.runpath.extend(string()?.split(':').map(str::to_owned)),
            _ => {}
        }
    }
    Some(elf)
}

/// Entry point of the property test.
pub fn fuzz(data: &[u8]) {
    let _ = read(data);
}

fn text(file: &[u8], at: usize) -> Option<String> {
    let rest = file.get(at..)?;
    let end = rest.iter().take(4096).position(|&byte| byte == 0)?;
    String::from_utf8(rest[..end].to_vec()).ok()
}

fn u16_at(file: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(file.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(file: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(file.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(file: &[u8], at: usize) -> Option<u64> {
    file.get(at..at.checked_add(8)?).map(u64_le)
}

fn u64_le(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| (value << 8) | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_this_very_program() {
        let me = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let elf = read(&me).unwrap();
        assert_eq!(elf.interpreter.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
        assert!(elf.needed.iter().any(|name| name == "libc.so.6"), "{elf:?}");
        assert_eq!(read(b"#!/bin/sh\n"), None);
    }

    proptest! {
        #[test]
        fn never_panics(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            fuzz(&data);
            let mut elf = b"\x7fELF\x02\x01".to_vec();
            elf.extend(&data);
            fuzz(&elf);
        }

        #[test]
        fn never_panics_on_a_damaged_one(at in 0_usize..1024, byte in any::<u8>()) {
            static ME: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            let mut me = ME.get_or_init(|| std::fs::read("/proc/self/exe").unwrap()).clone();
            me[at] = byte;
            fuzz(&me);
        }
    }
}
