//! The head of a pack: its number and its seal, twice.
//!
//! Contract: a head is written and synced before the first record. Two copies lie 4096 bytes apart, so that one bad
//! sector does not take the seal, without which no record of the pack could be believed. One good copy is enough.

use super::record::Seal;
use crate::files::DiskFile;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, IoSlice};

/// Where the first record starts.
pub const DATA_START: u64 = 8192;
const COPY_AT: u64 = 4096;
const BYTES: usize = 28;
const MAGIC: [u8; 8] = *b"TWPACK\r\x01";

/// 64 bits that nobody else knows: the keys of a hasher come from the randomness of the system.
pub fn new_seal() -> Seal {
    Seal(RandomState::new().build_hasher().finish() ^ RandomState::new().hash_one("seal").rotate_left(32))
}

pub fn write(file: &dyn DiskFile, pack: u32, seal: Seal) -> io::Result<()> {
    let mut head = [0; BYTES];
    head[..8].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&pack.to_le_bytes());
    head[16..24].copy_from_slice(&seal.0.to_le_bytes());
    let sum = crc32c::crc32c(&head[..24]);
    head[24..].copy_from_slice(&sum.to_le_bytes());
    let mut all = [0; DATA_START as usize];
    all[..BYTES].copy_from_slice(&head);
    all[COPY_AT as usize..][..BYTES].copy_from_slice(&head);
    file.write_at(&[IoSlice::new(&all)], 0)
}

/// The seal, if one of the copies is good. An error only if the disk gave one for both.
pub fn read(file: &dyn DiskFile, pack: u32) -> io::Result<Option<Seal>> {
    let mut error = None;
    for at in [0, COPY_AT] {
        let mut head = [0; BYTES];
        match file.read_at(&mut head, at) {
            Err(e) => error = Some(e),
            Ok(n) if n < BYTES => {}
            Ok(_) => {
                let sum = crc32c::crc32c(&head[..24]).to_le_bytes();
                if head[..8] == MAGIC && head[8..12] == pack.to_le_bytes() && head[24..] == sum {
                    let mut seal = [0; 8];
                    seal.copy_from_slice(&head[16..24]);
                    return Ok(Some(Seal(u64::from_le_bytes(seal))));
                }
            }
        }
    }
    error.map_or(Ok(None), Err)
}
