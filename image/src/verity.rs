//! The dm-verity hash tree behind the squashfs.
//!
//! Contract: format version 1 of the kernel's dm-verity, SHA-256, blocks of 4096 bytes for data and hashes, salt before the block, no
//! superblock (all it would say stands on the command line, inside the signed kernel image). Levels from the top to the bottom, each
//! padded with zeros to whole blocks. Source: Documentation/admin-guide/device-mapper/verity.rst of Linux.
//! Failure class: files of the build machine.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::Root;
use crate::error::{Error, Result, io};

/// Bytes of a block of data and of hashes.
pub const BLOCK_BYTES: usize = 4096;
const HASH_BYTES: usize = 32;
const PER_BLOCK: usize = BLOCK_BYTES / HASH_BYTES;

/// The salt of a release: fixed by its version and sequence, so that a rebuild gives the same tree.
#[must_use]
pub fn salt(version: &str, sequence: u64) -> [u8; HASH_BYTES] {
    Sha256::new().chain_update(b"twinpost root ").chain_update(version).chain_update(sequence.to_le_bytes()).finalize().into()
}

/// Writes `data` (a multiple of 4096 bytes) and its hash tree to `out`.
pub fn append(data: &Path, out: &Path, salt: &[u8; HASH_BYTES]) -> Result<Root> {
    let mut file = File::open(data).map_err(io("cannot open", data))?;
    let bytes = file.metadata().map_err(io("cannot read", data))?.len();
    if bytes == 0 || bytes % BLOCK_BYTES as u64 != 0 {
        return Err(Error::Format { what: data.display().to_string(), why: format!("{bytes} bytes are no whole blocks") });
    }
    let leaves = leaves(&file, data, bytes, salt)?;
    let (levels, roothash) = levels(leaves, salt);
    let partial = out.with_extension("partial");
    let mut target = File::create(&partial).map_err(io("cannot write", &partial))?;
    std::io::copy(&mut Read::by_ref(&mut file), &mut target).map_err(io("cannot write", &partial))?;
    for level in levels.iter().rev() {
        target.write_all(level).map_err(io("cannot write", &partial))?;
    }
    target.sync_all().map_err(io("cannot write", &partial))?;
    std::fs::rename(&partial, out).map_err(io("cannot rename to", out))?;
    Ok(Root { roothash: hex(&roothash), salt: hex(salt), data_blocks: bytes / BLOCK_BYTES as u64 })
}

/// The hashes of all data blocks, one after the other; the work is shared by the processors.
fn leaves(file: &File, path: &Path, bytes: u64, salt: &[u8]) -> Result<Vec<u8>> {
    let blocks = usize::try_from(bytes / BLOCK_BYTES as u64)
        .map_err(|_| Error::Format { what: "squashfs".into(), why: "is too big".into() })?;
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = blocks.div_ceil(threads);
    let mut hashes = vec![0; blocks * HASH_BYTES];
    std::thread::scope(|scope| {
        let parts = hashes.chunks_mut(share * HASH_BYTES).enumerate();
        let running: Vec<_> =
            parts.map(|(part, hashes)| scope.spawn(move || part_of(file, path, part * share, hashes, salt))).collect();
        running.into_iter().try_for_each(|thread| thread.join().expect("hashing does not panic"))
    })?;
    Ok(hashes)
}

fn part_of(file: &File, path: &Path, first: usize, hashes: &mut [u8], salt: &[u8]) -> Result<()> {
    const AT_ONCE: usize = 256;
    let mut buffer = vec![0; AT_ONCE * BLOCK_BYTES];
    let mut block = first;
    for hashes in hashes.chunks_mut(AT_ONCE * HASH_BYTES) {
        let data = &mut buffer[..hashes.len() / HASH_BYTES * BLOCK_BYTES];
        file.read_exact_at(data, block as u64 * BLOCK_BYTES as u64).map_err(io("cannot read", path))?;
        for (hash, data) in hashes.chunks_mut(HASH_BYTES).zip(data.chunks(BLOCK_BYTES)) {
            hash.copy_from_slice(&digest(salt, data));
        }
        block += data.len() / BLOCK_BYTES;
    }
    Ok(())
}

/// All levels from the lowest to the top one (one block), each padded to whole blocks, and the hash of the top.
fn levels(mut hashes: Vec<u8>, salt: &[u8]) -> (Vec<Vec<u8>>, [u8; HASH_BYTES]) {
    let mut levels = Vec::new();
    // One block of data has no tree above it: its hash is the root (dm-verity-target.c, verity_ctr: no levels).
    while hashes.len() > HASH_BYTES {
        hashes.resize(hashes.len().next_multiple_of(BLOCK_BYTES), 0);
        let above = hashes.chunks(PER_BLOCK * HASH_BYTES).flat_map(|block| digest(salt, block)).collect();
        levels.push(std::mem::replace(&mut hashes, above));
    }
    let mut root = [0; HASH_BYTES];
    root.copy_from_slice(&hashes);
    (levels, root)
}

fn digest(salt: &[u8], block: &[u8]) -> [u8; HASH_BYTES] {
    Sha256::new().chain_update(salt).chain_update(block).finalize().into()
}

/// Small letters, two for each byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Data that differs from block to block.
    fn data(blocks: usize) -> Vec<u8> {
        (0..blocks).flat_map(|block| (0..BLOCK_BYTES).map(move |at| u8::try_from((block * 31 + at) % 251).unwrap())).collect()
    }

    fn build(blocks: usize) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("data"), data(blocks)).unwrap();
        let root = append(&folder.path().join("data"), &folder.path().join("slot"), &salt("1.2.3", 77)).unwrap();
        (folder, root)
    }

    /// veritysetup of cryptsetup is a second opinion from another author.
    #[test]
    fn veritysetup_makes_and_accepts_the_same_tree() {
        if Command::new("veritysetup").arg("--version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "veritysetup is missing: package cryptsetup-bin");
            return;
        }
        // One level, exactly one full block of hashes, two and three levels.
        for blocks in [2, 127, 128, 129, 16_384, 16_385] {
            let (folder, root) = build(blocks);
            assert_eq!(root.data_blocks, blocks as u64);
            let slot = folder.path().join("slot");
            let theirs = folder.path().join("theirs");
            std::fs::write(&theirs, data(blocks)).unwrap();
            let offset = format!("--hash-offset={}", blocks * BLOCK_BYTES);
            let common = ["--no-superblock", "--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096", &offset];
            let said = Command::new("veritysetup")
                .arg("format")
                .args(common)
                .args([&format!("--salt={}", root.salt), &format!("--data-blocks={blocks}")])
                .args([&theirs, &theirs])
                .output()
                .unwrap();
            assert!(said.status.success(), "{said:?}");
            let text = String::from_utf8_lossy(&said.stdout).into_owned();
            assert!(text.contains(&root.roothash), "{blocks} blocks: {text}\nours: {}", root.roothash);
            assert!(std::fs::read(&slot).unwrap() == std::fs::read(&theirs).unwrap(), "{blocks} blocks: other bytes");
            let verify = Command::new("veritysetup")
                .arg("verify")
                .args(common)
                .args([&format!("--salt={}", root.salt), &format!("--data-blocks={blocks}")])
                .args([&slot, &slot])
                .arg(&root.roothash)
                .output()
                .unwrap();
            assert!(verify.status.success(), "{verify:?}");
        }
    }

    #[test]
    fn any_changed_block_changes_the_root() {
        let (folder, root) = build(300);
        let path = folder.path().join("data");
        let mut bytes = std::fs::read(&path).unwrap();
        for block in [0, 127, 128, 299] {
            bytes[block * BLOCK_BYTES + 5] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let other = append(&path, &folder.path().join("slot"), &salt("1.2.3", 77)).unwrap();
            assert_ne!(other.roothash, root.roothash, "block {block}");
            bytes[block * BLOCK_BYTES + 5] ^= 1;
        }
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(append(&path, &folder.path().join("slot"), &salt("1.2.3", 77)).unwrap(), root);
        assert_ne!(append(&path, &folder.path().join("slot"), &salt("1.2.4", 77)).unwrap().roothash, root.roothash);
    }

    #[test]
    fn data_that_is_no_whole_blocks_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        for bytes in [0, 4095, 4097] {
            std::fs::write(&path, vec![0; bytes]).unwrap();
            assert!(append(&path, &folder.path().join("slot"), &[0; 32]).is_err());
        }
    }
}
