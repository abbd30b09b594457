//! The one place with `unsafe`: the device mapper has no system calls of its own, only ioctl on a buffer that begins with `struct dm_ioctl`.
//!
//! Sound because the buffer is owned here, aligned to 8 bytes, zeroed, and its `data_size` field always is its real length: the kernel reads
//! and writes no byte beyond `data_size` (Documentation and drivers/md/dm-ioctl.c, "copy_params"). No pointer is kept in it.
#![expect(unsafe_code, reason = "ioctl has no safe wrapper")]

use crate::table::{Number, Table};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

/// `sizeof(struct dm_ioctl)`.
const HEADER_BYTES: usize = 312;
/// `sizeof(struct dm_target_spec)`.
const SPEC_BYTES: usize = 40;
const NAME_BYTES: usize = 128;
const UUID_BYTES: usize = 129;
/// Offsets in `struct dm_ioctl`.
const DATA_SIZE: usize = 12;
const DATA_START: usize = 16;
const TARGET_COUNT: usize = 20;
const FLAGS: usize = 28;
const DEVICE: usize = 40;
const NAME: usize = 48;
const UUID: usize = NAME + NAME_BYTES;
/// DM_READONLY_FLAG.
pub const READ_ONLY: u32 = 1;
/// DM_STATUS_TABLE_FLAG: the table, not the status.
pub const STATUS_TABLE: u32 = 1 << 4;
/// DM_BUFFER_FULL_FLAG: the answer did not fit.
const BUFFER_FULL: u32 = 1 << 8;
/// ENXIO: there is no such device.
pub const NO_SUCH_DEVICE: i32 = nix::errno::Errno::ENXIO as i32;
/// EIO.
pub const INPUT_OUTPUT: i32 = nix::errno::Errno::EIO as i32;
/// Room for answers: a table of sixteen legs takes a tenth of it.
const ANSWER_BYTES: usize = 4096;

/// Commands of the interface: `nr` of `_IOWR(0xfd, nr, struct dm_ioctl)`.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub enum Command {
    /// DM_VERSION
    Version = 0,
    /// DM_DEV_CREATE
    DevCreate = 3,
    /// DM_DEV_REMOVE
    DevRemove = 4,
    /// DM_DEV_SUSPEND
    DevSuspend = 6,
    /// DM_TABLE_LOAD
    TableLoad = 9,
    /// DM_TABLE_CLEAR
    TableClear = 10,
    /// DM_TABLE_DEPS
    TableDeps = 11,
    /// DM_TABLE_STATUS
    TableStatus = 12,
}

/// The buffer of a call; words keep it aligned.
#[derive(Debug)]
pub struct Request {
    words: Vec<u64>,
}

impl Request {
    /// A request about the device `name`; `uuid` only when one is created.
    pub fn new(name: &str, uuid: &str) -> io::Result<Self> {
        if name.len() >= NAME_BYTES || uuid.len() >= UUID_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "name of a device is too long"));
        }
        let mut request = Self { words: vec![0; HEADER_BYTES / 8] };
        // Version 4.0.0 of the interface is all that is used; the kernel answers with its own.
        request.put(0, &4u32.to_le_bytes());
        request.put(DATA_SIZE, &u32_of(HEADER_BYTES).to_le_bytes());
        request.put(DATA_START, &u32_of(HEADER_BYTES).to_le_bytes());
        request.put(NAME, name.as_bytes());
        request.put(UUID, uuid.as_bytes());
        Ok(request)
    }

    /// A request with room for an answer behind the header.
    pub fn answered(name: &str) -> io::Result<Self> {
        let mut request = Self::new(name, "")?;
        request.words.resize((HEADER_BYTES + ANSWER_BYTES) / 8, 0);
        request.put(DATA_SIZE, &u32_of(HEADER_BYTES + ANSWER_BYTES).to_le_bytes());
        Ok(request)
    }

    fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// What the kernel wrote behind the header.
    fn answer(bytes: &[u8]) -> Option<&[u8]> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let (start, end) = (word(DATA_START)? as usize, word(DATA_SIZE)? as usize);
        (word(FLAGS)? & BUFFER_FULL == 0 && start >= HEADER_BYTES).then(|| bytes.get(start..end.min(bytes.len())))?
    }

    /// After [`Command::TableStatus`]: target and words of a device with one target.
    pub fn line(&self) -> Option<(String, String)> {
        line(&self.bytes())
    }

    /// After [`Command::TableDeps`]: the devices below.
    pub fn dependencies(&self) -> Vec<Number> {
        dependencies(&self.bytes()).unwrap_or_default()
    }

    /// Sets the flags.
    pub fn flags(&mut self, flags: u32) {
        self.put(FLAGS, &flags.to_le_bytes());
    }

    /// Appends one target: `struct dm_target_spec`, then its parameters with a NUL, padded to 8 bytes.
    pub fn table(&mut self, table: &Table) -> io::Result<()> {
        if table.target.len() >= 16 || table.parameters.len() > 4096 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "table is too long"));
        }
        let start = HEADER_BYTES;
        let spec_bytes = (SPEC_BYTES + table.parameters.len() + 1).next_multiple_of(8);
        self.words.resize((start + spec_bytes) / 8, 0);
        self.put(DATA_SIZE, &u32_of(start + spec_bytes).to_le_bytes());
        self.put(TARGET_COUNT, &1u32.to_le_bytes());
        // sector_start u64 (0), length u64, status i32, next u32, target_type [16]
        self.put(start + 8, &table.sectors.to_le_bytes());
        self.put(start + 20, &u32_of(spec_bytes).to_le_bytes());
        self.put(start + 24, table.target.as_bytes());
        self.put(start + SPEC_BYTES, table.parameters.as_bytes());
        Ok(())
    }

    /// Number of the device, after a call that answers it.
    pub fn number(&self) -> Number {
        decode(self.words[DEVICE / 8])
    }

    /// Writes bytes at an offset, which lies within the buffer (all callers are above).
    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (at, byte) in (at..).zip(bytes) {
            let shift = at % 8 * 8;
            let word = &mut self.words[at / 8];
            *word = *word & !(0xff << shift) | u64::from(*byte) << shift;
        }
    }
}

/// The kernel's huge_encode_dev: minor bits 0-7, major bits 8-19, minor bits 8-19 above.
fn decode(device: u64) -> Number {
    let low = u32::try_from(device & 0xffff_ffff).unwrap_or(u32::MAX);
    Number { major: (low >> 8) & 0xfff, minor: (low & 0xff) | ((low >> 12) & 0xf_ff00) }
}

/// `struct dm_target_spec` and the text behind it, of an answer with one target.
fn line(bytes: &[u8]) -> Option<(String, String)> {
    let count = u32::from_le_bytes(bytes.get(TARGET_COUNT..TARGET_COUNT + 4)?.try_into().ok()?);
    let answer = Request::answer(bytes).filter(|_| count == 1)?;
    let text =
        |bytes: &[u8]| String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).trim().to_owned();
    Some((text(answer.get(24..SPEC_BYTES)?), text(answer.get(SPEC_BYTES..)?)))
}

/// `struct dm_target_deps`: count u32, padding u32, then each device as u64.
fn dependencies(bytes: &[u8]) -> Option<Vec<Number>> {
    let answer = Request::answer(bytes)?;
    let count = u32::from_le_bytes(answer.get(..4)?.try_into().ok()?) as usize;
    let devices = answer.get(8..)?.chunks_exact(8).take(count);
    Some(devices.filter_map(|device| Some(decode(u64::from_le_bytes(device.try_into().ok()?)))).collect())
}

/// The parsers with arbitrary bytes.
pub fn fuzz(data: &[u8]) {
    let _ = (line(data), dependencies(data));
    let mut whole = vec![0; HEADER_BYTES];
    whole[DATA_START..DATA_START + 4].copy_from_slice(&u32_of(HEADER_BYTES).to_le_bytes());
    whole[DATA_SIZE..DATA_SIZE + 4]
        .copy_from_slice(&u32::try_from(data.len().min(60_000) + HEADER_BYTES).unwrap_or(0).to_le_bytes());
    whole[TARGET_COUNT] = 1;
    whole.extend(&data[..data.len().min(60_000)]);
    let _ = (line(&whole), dependencies(&whole));
}

fn u32_of(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("requests are limited to a few kilobytes")
}

/// `/dev/mapper/control`, opened.
#[derive(Debug)]
pub struct Control {
    file: File,
}

impl Control {
    /// Opens it.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::options().read(true).write(true).open(path)? })
    }

    /// Makes the call; the answer is in the request.
    pub fn call(&self, command: Command, request: &mut Request) -> io::Result<()> {
        let code = nix::request_code_readwrite!(0xfd, command as u8, HEADER_BYTES);
        // SAFETY: the module's first lines.
        let done = unsafe { nix::libc::ioctl(self.file.as_raw_fd(), code as _, request.words.as_mut_ptr()) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_are_taken_apart() {
        let mut request = Request::answered("root").unwrap();
        assert_eq!(request.line(), None, "nothing was answered");
        request.put(TARGET_COUNT, &1u32.to_le_bytes());
        request.put(HEADER_BYTES + 24, b"linear\0");
        request.put(HEADER_BYTES + SPEC_BYTES, b"254:0 0\0");
        assert_eq!(request.line(), Some(("linear".to_owned(), "254:0 0".to_owned())));
        let mut request = Request::answered("leg1").unwrap();
        request.put(HEADER_BYTES, &1u32.to_le_bytes());
        request.put(HEADER_BYTES + 8, &((259u64 << 8) | 2).to_le_bytes());
        assert_eq!(request.dependencies(), [Number { major: 259, minor: 2 }]);
        request.flags(BUFFER_FULL);
        assert_eq!(request.dependencies(), []);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            crate::fuzz(&data);
        }
    }

    #[test]
    fn a_request_has_the_layout_of_the_kernels_header() {
        let mut request = Request::new("root", "twinpost-root").unwrap();
        request.flags(READ_ONLY);
        request.table(&Table { sectors: 8, target: "linear", parameters: "254:0 0".into() }).unwrap();
        let bytes = request.bytes();
        assert_eq!(bytes.len(), 312 + 48);
        assert_eq!(bytes[..4], [4, 0, 0, 0]);
        assert_eq!(bytes[12..16], 360u32.to_le_bytes());
        assert_eq!(bytes[16..20], 312u32.to_le_bytes());
        assert_eq!((bytes[20], bytes[28]), (1, 1));
        assert_eq!(&bytes[48..53], b"root\0");
        assert_eq!(&bytes[176..190], b"twinpost-root\0");
        assert_eq!(bytes[312 + 8..312 + 16], 8u64.to_le_bytes());
        assert_eq!(bytes[312 + 20..312 + 24], 48u32.to_le_bytes());
        assert_eq!(&bytes[312 + 24..312 + 31], b"linear\0");
        assert_eq!(&bytes[312 + 40..312 + 48], b"254:0 0\0");
        assert!(Request::new(&"x".repeat(128), "").is_err());
        let long = Table { sectors: 8, target: "linear", parameters: "x".repeat(5000) };
        assert!(request.table(&long).is_err());
    }

    #[test]
    fn device_numbers_are_taken_apart() {
        let mut request = Request::new("x", "").unwrap();
        request.put(DEVICE, &((254u64 << 8) | 3).to_le_bytes());
        assert_eq!(request.number(), Number { major: 254, minor: 3 });
        request.put(DEVICE, &((259u64 << 8) | 0x10 | (0x123 << 20)).to_le_bytes());
        assert_eq!(request.number(), Number { major: 259, minor: 0x1_2310 });
    }
}
