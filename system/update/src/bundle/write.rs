//! Making a bundle.

use super::{CHUNK_BYTES, FORM, MAGIC, MANIFEST_MAX_BYTES, MAX_SIGNATURES, Manifest, PARTS, Part, signed_message};
use crate::error::{Error, io_error};
use crate::keys::SigningKey;
use crate::release::Release;
use crate::text::{Progress, Step, Text};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

/// What the manifest says beside the parts.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The version that it brings, as its `release.json` has it.
    pub release: Release,
    /// Smallest sequence of a running system that it can be installed from.
    pub from_sequence: u64,
    /// Boards that it is for; empty: any.
    pub boards: Vec<String>,
}

/// Writes a bundle of a slot image and the two boot entries, signed by these keys.
///
/// # Errors
/// [`Error::Io`], [`Error::Manifest`], [`Error::Key`] (none, or too many), [`Error::Damaged`] (a part changed while it was read).
pub fn write(
    out: &mut impl Write,
    facts: Facts,
    [slot, uki_a, uki_b]: [&Path; 3],
    keys: &[&SigningKey],
    progress: Progress<'_>,
) -> Result<Manifest, Error> {
    if keys.is_empty() || keys.len() > MAX_SIGNATURES {
        return Err(Error::Key { what: format!("set of {}", keys.len()), why: format!("1 to {MAX_SIGNATURES} keys sign") });
    }
    let paths = [slot, uki_a, uki_b];
    let mut parts = Vec::with_capacity(PARTS.len());
    for (name, path) in PARTS.into_iter().zip(paths) {
        let (mut bytes, mut chunks) = (0, Vec::new());
        pieces(path, |piece| {
            bytes += piece.len() as u64;
            chunks.push(blake3::hash(piece).to_hex().to_string());
            Ok(())
        })?;
        parts.push(Part { name: name.to_owned(), bytes, chunks });
    }
    let Facts { release, from_sequence, boards } = facts;
    let manifest = Manifest { product: "twinpost".to_owned(), release, from_sequence, boards, parts };
    manifest.check()?;
    let json = serde_json::to_vec(&manifest).map_err(|e| Error::Manifest(e.to_string()))?;
    if json.len() > MANIFEST_MAX_BYTES {
        return Err(Error::Manifest(format!("{} bytes are too many", json.len())));
    }
    let target = Path::new("the bundle");
    out.write_all(&frame(&json, keys)).map_err(io_error("write", target))?;
    let (of, mut done) = (manifest.bytes(), 0);
    for (part, path) in manifest.parts.iter().zip(paths) {
        let (mut chunk, mut offset) = (0, 0);
        pieces(path, |piece| {
            if part.hash(chunk) != Some(blake3::hash(piece)) {
                return Err(Error::Damaged { part: part.name.clone(), offset });
            }
            out.write_all(piece).map_err(io_error("write", target))?;
            (chunk, offset, done) = (chunk + 1, offset + piece.len() as u64, done + piece.len() as u64);
            progress(Step { what: Text::new("writing the bundle", "写入升级包"), done, of });
            Ok(())
        })?;
        if offset != part.bytes {
            return Err(Error::Damaged { part: part.name.clone(), offset });
        }
    }
    out.flush().map_err(io_error("write", target))?;
    Ok(manifest)
}

/// Head, signatures and manifest.
pub(super) fn frame(manifest: &[u8], keys: &[&SigningKey]) -> Vec<u8> {
    let number = |n: usize| u32::try_from(n).expect("at most 256 KiB and 8 signatures: checked by the caller").to_le_bytes();
    let mut out = MAGIC.to_vec();
    out.extend(FORM.to_le_bytes());
    out.extend(number(manifest.len()));
    out.extend(number(keys.len()));
    let message = signed_message(manifest);
    for key in keys {
        out.extend(key.id().0);
        out.extend(key.sign(&message));
    }
    out.extend(manifest);
    out
}

fn pieces(path: &Path, mut take: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
    let mut file = File::open(path).map_err(io_error("open", path))?;
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read(&mut buffer[filled..]).map_err(io_error("read", path))? {
                0 => break,
                n => filled += n,
            }
        }
        if filled == 0 {
            return Ok(());
        }
        take(&buffer[..filled])?;
    }
}
