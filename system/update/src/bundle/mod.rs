//! The update bundle: one signed file. docs/update-format.md describes it for other programs.
//!
//! Contract: [`Reader::open`] answers only when a trusted key has signed the manifest; [`Reader::chunks`] hands out a piece only when its hash is the
//! manifest's, in the order of the file, with memory for one piece. Nothing is decompressed and no length from the file is trusted before its signature is: the parts
//! are compressed inside already (squashfs, kernel), so a second compression would save nothing and put a decompressor in front of the verification.
//! [`write`] is reproducible: the same parts, facts and keys give the same bytes.
//!
//! Failure classes: [`Error::NoBundle`], [`Error::NotTrusted`], [`Error::Manifest`], [`Error::Damaged`], [`Error::Truncated`], [`Error::Io`].

mod manifest;
mod read;
mod write;

pub use manifest::{Manifest, Part};
pub use read::{Reader, verify};
pub use write::{Facts, write};

use crate::error::Error;

/// First bytes of a bundle. The line ends show a file that was copied as text, as those of PNG do.
pub const MAGIC: [u8; 8] = *b"TPUP\r\n\x1a\n";
/// Form of the file.
pub const FORM: u32 = 1;
/// Bytes of a chunk; only the last of a part is shorter.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Largest manifest: room for the hashes of 3 GiB.
pub const MANIFEST_MAX_BYTES: usize = 256 << 10;
/// Signatures that a bundle may carry.
pub const MAX_SIGNATURES: usize = 8;
/// Largest boot entry (a UKI).
pub const UKI_MAX_BYTES: u64 = 90 << 20;
/// Largest slot image.
pub const SLOT_MAX_BYTES: u64 = 2 << 30;

/// The part for both slots' partitions.
pub const SLOT: &str = "slot";
/// All parts, in the order of the file. The kernel command line inside a UKI names the slot, so each slot has its own.
pub const PARTS: [&str; 3] = [SLOT, "uki-a", "uki-b"];

/// Stands before the manifest in what is signed: a signature of this key for another purpose is none for an update.
const PURPOSE: &[u8] = b"twinpost update manifest\0";

fn signed_message(manifest: &[u8]) -> Vec<u8> {
    [PURPOSE, &FORM.to_le_bytes(), manifest].concat()
}

/// For fuzzing: any bytes as a bundle, and as a signed manifest.
pub fn fuzz(data: &[u8]) {
    let key = crate::keys::SigningKey::from_seed(&[7; 32]);
    let keys = crate::keys::Keys::of(&[&key]);
    if let Ok(mut reader) = Reader::open(data, &keys) {
        let _ = reader.chunks(|_, _, _| Ok::<(), Error>(()));
    }
    let _ = Manifest::parse(data);
    // With a good signature over any manifest: what only the key's owner can do must not hurt either.
    if data.len() <= MANIFEST_MAX_BYTES {
        let file = write::frame(data, &[&key]);
        if let Ok(mut reader) = Reader::open(&file[..], &keys) {
            let _ = reader.chunks(|_, _, _| Ok::<(), Error>(()));
        }
    }
}

#[cfg(test)]
mod tests;
