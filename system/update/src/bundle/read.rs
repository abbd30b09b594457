//! Reading a bundle from any stream.

use super::{CHUNK_BYTES, FORM, MAGIC, MANIFEST_MAX_BYTES, MAX_SIGNATURES, Manifest, Part, signed_message};
use crate::error::Error;
use crate::keys::{KeyId, Keys};
use crate::text::{Progress, Step, Text};
use std::io::{ErrorKind, Read};
use std::path::Path;

/// A bundle whose manifest a trusted key has signed.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    manifest: Manifest,
    signers: Vec<KeyId>,
    header_bytes: u64,
}

impl<R: Read> Reader<R> {
    /// Reads as far as the manifest and verifies it.
    ///
    /// # Errors
    /// [`Error::NoBundle`], [`Error::NotTrusted`], [`Error::Manifest`], [`Error::Truncated`], [`Error::Io`]
    pub fn open(mut source: R, keys: &Keys) -> Result<Self, Error> {
        let mut head = [0; 20];
        // A short file is no bundle rather than half of one.
        read(&mut source, &mut head, "its head")?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if head[..8] != MAGIC {
            return Err(Error::NoBundle("it begins with other bytes".to_owned()));
        }
        if number(8) != FORM {
            return Err(Error::NoBundle(format!("its form is {}, this version knows {FORM}", number(8))));
        }
        let (length, count) = (number(12) as usize, number(16) as usize);
        if length > MANIFEST_MAX_BYTES || count == 0 || count > MAX_SIGNATURES {
            return Err(Error::NoBundle(format!("{length} bytes of manifest and {count} signatures are not possible")));
        }
        let mut signatures = Vec::with_capacity(count);
        for _ in 0..count {
            let (mut id, mut signature) = ([0; 8], [0; 64]);
            read(&mut source, &mut id, "its signatures")?;
            read(&mut source, &mut signature, "its signatures")?;
            signatures.push((KeyId(id), signature));
        }
        let mut manifest = vec![0; length];
        read(&mut source, &mut manifest, "its manifest")?;
        let message = signed_message(&manifest);
        let good = signatures.iter().filter(|(id, signature)| keys.verify(*id, &message, signature));
        let signers: Vec<KeyId> = good.map(|(id, _)| *id).collect();
        if signers.is_empty() {
            let list = |ids: Vec<KeyId>| match ids.len() {
                0 => "none".to_owned(),
                _ => ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            };
            let named = list(signatures.into_iter().map(|(id, _)| id).collect());
            return Err(Error::NotTrusted { named, trusted: list(keys.ids()) });
        }
        let header_bytes = (head.len() + count * 72 + length) as u64;
        Ok(Self { source, manifest: Manifest::parse(&manifest)?, signers, header_bytes })
    }

    /// What was signed.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The trusted keys that have signed it.
    pub fn signers(&self) -> &[KeyId] {
        &self.signers
    }

    /// Size of all before the first part.
    pub fn header_bytes(&self) -> u64 {
        self.header_bytes
    }

    /// Size of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.header_bytes + self.manifest.bytes()
    }

    /// Hands out every chunk, verified, in the order of the file: the part, the offset in it, the bytes. Then the file must end.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Truncated`], [`Error::Io`], and whatever `take` says.
    pub fn chunks<E: From<Error>>(&mut self, mut take: impl FnMut(&Part, u64, &[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut buffer = vec![0; CHUNK_BYTES];
        for part in &self.manifest.parts {
            let mut offset = 0;
            for chunk in 0..part.chunks.len() {
                let bytes = &mut buffer[..part.chunk_bytes(chunk)];
                read(&mut self.source, bytes, &part.name)?;
                // Both are hashes: comparing without an early end costs nothing and blake3::Hash does so.
                if part.hash(chunk) != Some(blake3::hash(bytes)) {
                    return Err(Error::Damaged { part: part.name.clone(), offset }.into());
                }
                take(part, offset, bytes)?;
                offset += bytes.len() as u64;
            }
        }
        let mut more = [0];
        match read(&mut self.source, &mut more, "its end") {
            Err(Error::Truncated { .. }) => Ok(()),
            Ok(()) => Err(Error::Damaged { part: "what follows its end".to_owned(), offset: 0 }.into()),
            Err(other) => Err(other.into()),
        }
    }
}

fn read(source: &mut impl Read, into: &mut [u8], what: &str) -> Result<(), Error> {
    source.read_exact(into).map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => Error::Truncated { what: what.to_owned() },
        _ => Error::Io { what: "read", path: Path::new("the bundle").to_owned(), source: e },
    })
}

/// Verifies a whole bundle without writing anything.
///
/// # Errors
/// As [`Reader`].
pub fn verify(source: impl Read, keys: &Keys, progress: Progress<'_>) -> Result<Manifest, Error> {
    let mut reader = Reader::open(source, keys)?;
    let (of, mut done) = (reader.manifest.bytes(), 0);
    reader.chunks(|_, _, bytes| {
        done += bytes.len() as u64;
        progress(Step { what: Text::new("verifying the bundle", "校验升级包"), done, of });
        Ok::<(), Error>(())
    })?;
    Ok(reader.manifest)
}
