//! One record of a pack: bytes to record and back.
//!
//! Contract: [`encode`] does all the work of the processor (identity, compression, checksum of the payload) on the task of
//! its caller, so that the one writer only writes. What a header says is believed only after its checksum, which is
//! bound to the pack and the place (see [`Seal`]): a record that a stranger wrote into his mail, or that lies where it was
//! never written, is not a record. Decoding takes any bytes, never panics and allocates no more than the checked lengths.
//! The format is described in docs/pack-format.md.

use super::PackError;
use bytes::Bytes;
use std::cell::RefCell;
use twinpost_message::BodyHash;

/// Bytes of a header before its payload.
pub const HEADER_BYTES: usize = 56;
/// First bytes of each record. The first one stands in no ASCII text, so the search for a next record skips most mail fast.
pub const MAGIC: [u8; 4] = [0xd7, b'T', b'p', 0xb1];
/// Version of the record format.
pub const VERSION: u8 = 1;
/// Largest plain record, and so the largest stored one: 256 MiB.
pub const PLAIN_BYTES_MAX: u32 = 1 << 28;

/// Below this many bytes a header of zstd and its tables gain nothing worth a call.
const COMPRESS_FROM_BYTES: usize = 1024;
/// From this size on a sample is compressed first: archives, pictures and ciphertext are not worth a whole pass.
const SAMPLE_FROM_BYTES: usize = 32 * 1024;
const SAMPLE_BYTES: usize = 4096;
/// A thread keeps its output buffer up to this size between two records.
const BUFFER_KEPT_BYTES: usize = 1 << 20;

const FLAG_ZSTD: u8 = 1;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A message as it was accepted.
    Body,
    /// What the index needs to know to be made again: bytes of its writer, opaque here.
    Placement,
    /// Nothing: covers a range that no row pointed to when a torn write was cleared away. Never shown.
    Gap,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Body => 1,
            Self::Placement => 2,
            Self::Gap => 3,
        }
    }
    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Body),
            2 => Some(Self::Placement),
            3 => Some(Self::Gap),
            _ => None,
        }
    }
}

/// What binds the headers of one pack to it: 64 random bits, made with the pack and told to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal(pub u64);

impl Seal {
    fn checksum(self, offset: u64, header: &[u8]) -> u32 {
        let mut place = [0; 16];
        place[..8].copy_from_slice(&self.0.to_le_bytes());
        place[8..].copy_from_slice(&offset.to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c(&place), header)
    }
}

/// A checked header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the record holds.
    pub kind: Kind,
    /// The payload is a zstd frame.
    pub compressed: bool,
    /// BLAKE3 of the plain bytes.
    pub id: BodyHash,
    /// Length of the plain bytes.
    pub plain_bytes: u32,
    /// Length of the payload as stored.
    pub payload_bytes: u32,
    /// CRC32C of the payload as stored.
    pub payload_crc: u32,
}

impl Header {
    /// Header and payload together, in bytes.
    #[must_use]
    pub fn stored_bytes(&self) -> u32 {
        // Both are checked against PLAIN_BYTES_MAX where a header is made, so the sum fits.
        self.payload_bytes.saturating_add(HEADER_BYTES as u32)
    }

    /// The bytes of this header at this place.
    #[must_use]
    pub fn to_bytes(&self, seal: Seal, offset: u64) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[4] = VERSION;
        out[5] = self.kind.code();
        out[6] = if self.compressed { FLAG_ZSTD } else { 0 };
        out[8..40].copy_from_slice(&self.id.0);
        out[40..44].copy_from_slice(&self.plain_bytes.to_le_bytes());
        out[44..48].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[48..52].copy_from_slice(&self.payload_crc.to_le_bytes());
        let sum = seal.checksum(offset, &out[..52]);
        out[52..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// The header at the start of `bytes`, if it is one of this pack at this place.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8], seal: Seal, offset: u64) -> Result<Self, Fault> {
        let Some((bytes, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Err(Fault::Short) };
        if bytes[..4] != MAGIC {
            return Err(Fault::NoHeader);
        }
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if seal.checksum(offset, &bytes[..52]) != word(52) {
            return Err(Fault::HeaderChecksum);
        }
        if bytes[4] != VERSION || bytes[6] & !FLAG_ZSTD != 0 {
            return Err(Fault::Version(bytes[4]));
        }
        let Some(kind) = Kind::from_code(bytes[5]) else { return Err(Fault::Version(bytes[4])) };
        let mut id = [0; 32];
        id.copy_from_slice(&bytes[8..40]);
        let header = Self {
            kind,
            compressed: bytes[6] & FLAG_ZSTD != 0,
            id: BodyHash(id),
            plain_bytes: word(40),
            payload_bytes: word(44),
            payload_crc: word(48),
        };
        // A gap has no plain bytes and may be as long as what was lost there.
        if kind != Kind::Gap && (header.plain_bytes > PLAIN_BYTES_MAX || header.payload_bytes > PLAIN_BYTES_MAX) {
            return Err(Fault::Length);
        }
        if kind != Kind::Gap && !header.compressed && header.plain_bytes != header.payload_bytes {
            return Err(Fault::Length);
        }
        Ok(header)
    }

    /// The plain bytes of a payload that belongs to this header.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(&self, payload: &Bytes) -> Result<Bytes, Fault> {
        if payload.len() != self.payload_bytes as usize {
            return Err(Fault::Short);
        }
        if crc32c::crc32c(payload) != self.payload_crc {
            return Err(Fault::PayloadChecksum);
        }
        if !self.compressed {
            return Ok(payload.clone());
        }
        let plain = DECOMPRESSOR.with_borrow_mut(|slot| {
            let zstd = match slot {
                Some(zstd) => zstd,
                None => slot.insert(zstd::bulk::Decompressor::new()?),
            };
            zstd.decompress(payload, self.plain_bytes as usize)
        });
        match plain {
            Ok(plain) if plain.len() == self.plain_bytes as usize => Ok(Bytes::from(plain)),
            Ok(_) | Err(_) => Err(Fault::Compression),
        }
    }
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes end before the record does.
    #[error("it ends before its length")]
    Short,
    /// No record starts here.
    #[error("no record starts here")]
    NoHeader,
    /// The header is not the one that was written here.
    #[error("the checksum of its header is wrong")]
    HeaderChecksum,
    /// Written by a later program, or impossible.
    #[error("its version {0} or kind is unknown to this program")]
    Version(u8),
    /// A checked header with lengths that this program never writes.
    #[error("its lengths are impossible")]
    Length,
    /// The payload is not the one that was written.
    #[error("the checksum of its payload is wrong")]
    PayloadChecksum,
    /// The payload is as written but cannot be decompressed.
    #[error("its payload cannot be decompressed")]
    Compression,
    /// The plain bytes are not those that its id names.
    #[error("its bytes do not have the hash that it is named by")]
    Identity,
}

thread_local! {
    static COMPRESSOR: RefCell<Option<(zstd::bulk::Compressor<'static>, Vec<u8>)>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// A record ready to be written; only its place and the checksum of its header are missing.
#[derive(Clone, Debug)]
pub struct EncodedRecord {
    header: Header,
    plain_bytes: usize,
    payload: Bytes,
}

/// A message as a record. Takes some 20 µs for 10 KB: call it on the session's task, not on the writer's.
#[must_use]
pub fn encode(bytes: &[u8]) -> EncodedRecord {
    EncodedRecord::new(Kind::Body, bytes, || Bytes::copy_from_slice(bytes))
}

/// As [`encode`], without a copy where the record is stored plain.
#[must_use]
pub fn encode_bytes(bytes: &Bytes) -> EncodedRecord {
    EncodedRecord::new(Kind::Body, bytes, || bytes.clone())
}

/// What the index writer wants to find again in `rebuild`, as a record.
#[must_use]
pub fn encode_placement(bytes: &[u8]) -> EncodedRecord {
    EncodedRecord::new(Kind::Placement, bytes, || Bytes::copy_from_slice(bytes))
}

impl EncodedRecord {
    fn new(kind: Kind, plain: &[u8], as_it_is: impl FnOnce() -> Bytes) -> Self {
        let compressed = compress(plain);
        let is_compressed = compressed.is_some();
        let payload = compressed.unwrap_or_else(as_it_is);
        let header = Header {
            kind,
            compressed: is_compressed,
            id: BodyHash::of(plain),
            // Beyond 32 bits the limit refuses the record in `check`, whatever stands here.
            plain_bytes: u32::try_from(plain.len()).unwrap_or(u32::MAX),
            payload_bytes: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            payload_crc: crc32c::crc32c(&payload),
        };
        Self { header, plain_bytes: plain.len(), payload }
    }

    /// A record that was read from a pack, to be written to another one as it is (compaction).
    pub(super) fn stored(header: Header, payload: Bytes) -> Self {
        Self { header, plain_bytes: header.plain_bytes as usize, payload }
    }

    /// BLAKE3 of the plain bytes.
    #[must_use]
    pub fn id(&self) -> BodyHash {
        self.header.id
    }
    /// What it holds.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.header.kind
    }
    /// Length of the plain bytes.
    #[must_use]
    pub fn plain_bytes(&self) -> usize {
        self.plain_bytes
    }
    /// Bytes that it takes in a pack.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }
    pub(super) fn header(&self) -> &Header {
        &self.header
    }
    pub(super) fn payload(&self) -> &Bytes {
        &self.payload
    }

    pub(super) fn check(&self) -> Result<(), PackError> {
        if self.plain_bytes > PLAIN_BYTES_MAX as usize || self.payload.len() > PLAIN_BYTES_MAX as usize {
            return Err(PackError::TooLarge { bytes: self.plain_bytes as u64, limit_bytes: u64::from(PLAIN_BYTES_MAX) });
        }
        Ok(())
    }
}

/// The zstd frame of these bytes where it saves at least a sixteenth.
fn compress(plain: &[u8]) -> Option<Bytes> {
    if plain.len() < COMPRESS_FROM_BYTES || plain.len() > PLAIN_BYTES_MAX as usize {
        return None;
    }
    COMPRESSOR.with_borrow_mut(|slot| {
        let (zstd, buffer) = match slot {
            Some(both) => both,
            // Without memory for a compressor the mail is stored plain, which is always right.
            None => slot.insert((zstd::bulk::Compressor::new(1).ok()?, Vec::new())),
        };
        if plain.len() >= SAMPLE_FROM_BYTES {
            // From the middle: the header fields at the start say nothing of the attachment.
            let sample = &plain[plain.len() / 2..][..SAMPLE_BYTES];
            frame(zstd, buffer, sample)?;
        }
        let out = frame(zstd, buffer, plain).map(|bytes| Bytes::copy_from_slice(&buffer[..bytes]));
        if buffer.capacity() > BUFFER_KEPT_BYTES {
            *buffer = Vec::new();
        }
        out
    })
}

/// Compresses into the buffer; the length if it was worth it.
fn frame(zstd: &mut zstd::bulk::Compressor<'_>, buffer: &mut Vec<u8>, plain: &[u8]) -> Option<usize> {
    buffer.clear();
    buffer.reserve(zstd::zstd_safe::compress_bound(plain.len()));
    let bytes = zstd.compress_to_buffer(plain, buffer).ok()?;
    (bytes + bytes / 15 < plain.len()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round(plain: &[u8]) -> EncodedRecord {
        let record = encode(plain);
        let bytes = record.header.to_bytes(Seal(7), 9);
        let header = Header::parse(&bytes, Seal(7), 9).expect("its own header");
        assert_eq!(header, record.header);
        assert_eq!(header.open(&record.payload).expect("its own payload"), plain);
        assert_eq!(record.id(), BodyHash::of(plain));
        record
    }

    #[test]
    fn text_is_compressed_and_noise_is_not() {
        let text = b"Received: from mx.example by mail.example; the same words again\r\n".repeat(100);
        assert!(round(&text).stored_bytes() < text.len() / 4);
        let noise = blake3::Hasher::new().finalize_xof();
        let mut bytes = vec![0; 100_000];
        { noise }.fill(&mut bytes);
        assert_eq!(round(&bytes).stored_bytes(), bytes.len() + HEADER_BYTES);
        assert_eq!(round(b"").stored_bytes(), HEADER_BYTES);
    }

    #[test]
    fn a_header_is_valid_in_its_pack_and_at_its_place_only() {
        let bytes = encode(b"x").header.to_bytes(Seal(7), 9);
        assert_eq!(Header::parse(&bytes, Seal(8), 9), Err(Fault::HeaderChecksum));
        assert_eq!(Header::parse(&bytes, Seal(7), 10), Err(Fault::HeaderChecksum));
        for at in 0..HEADER_BYTES * 8 {
            let mut bad = bytes;
            bad[at / 8] ^= 1 << (at % 8);
            assert!(Header::parse(&bad, Seal(7), 9).is_err(), "bit {at}");
        }
    }

    #[test]
    fn a_record_beyond_the_limit_is_refused() {
        let mut record = encode(b"x");
        record.plain_bytes = PLAIN_BYTES_MAX as usize + 1;
        assert!(matches!(record.check(), Err(PackError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(plain in prop::collection::vec(any::<u8>(), 0..3000), times in 1usize..40) {
            round(&plain.repeat(times));
        }

        #[test]
        fn any_bytes_are_no_record(bytes in prop::collection::vec(any::<u8>(), 0..200), seal: u64) {
            prop_assert!(Header::parse(&bytes, Seal(seal), 0).is_err());
        }
    }
}
