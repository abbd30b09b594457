//! What a node must remember over a restart, as the bytes of its state file.
//!
//! Contract: the daemon keeps two files (or two slots) and writes them in turn, each with fsync; [`newest`] takes the newest
//! whole one. A torn write is a write that was never reported as stored, and the slot before it is the truth.

/// Bytes of an encoded record.
pub const RECORD_BYTES: usize = 38;

/// Kept on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Record {
    /// Grows with every write of the record: which of two slots is newer.
    pub writes: u32,
    /// Boot id; grows with every start.
    pub boot: u32,
    /// Reign that the data belongs to.
    pub reign: u32,
    /// The data may hold writes that the peer lacks: was active alone.
    pub unshared: bool,
    /// Was eligible when this was written. For the log only: HA.md "never restored from disk after a boot".
    pub eligible: bool,
    /// Highest boot id of the peer that was heard: a recording of an older one is refused even after a restart.
    pub peer_boot: u32,
}

impl Record {
    /// The bytes of a slot.
    #[must_use]
    pub fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut out = [0; RECORD_BYTES];
        out[..4].copy_from_slice(b"TPR1");
        for (i, word) in [self.writes, self.boot, self.reign, self.peer_boot].into_iter().enumerate() {
            out[4 + 4 * i..8 + 4 * i].copy_from_slice(&word.to_be_bytes());
        }
        out[20] = u8::from(self.unshared);
        out[21] = u8::from(self.eligible);
        let check = blake3::hash(&out[..22]);
        out[22..].copy_from_slice(&check.as_bytes()[..16]);
        out
    }

    /// The record in a slot, `None` if torn, foreign or empty.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; RECORD_BYTES] = bytes.try_into().ok()?;
        if &bytes[..4] != b"TPR1" || blake3::hash(&bytes[..22]).as_bytes()[..16] != bytes[22..] {
            return None;
        }
        let word = |i: usize| u32::from_be_bytes([bytes[4 + 4 * i], bytes[5 + 4 * i], bytes[6 + 4 * i], bytes[7 + 4 * i]]);
        Some(Self {
            writes: word(0),
            boot: word(1),
            reign: word(2),
            peer_boot: word(3),
            unshared: bytes[20] != 0,
            eligible: bytes[21] != 0,
        })
    }
}

/// The newest whole record of two slots.
#[must_use]
pub fn newest(slots: [&[u8]; 2]) -> Option<Record> {
    slots.into_iter().filter_map(Record::decode).max_by_key(|record| record.writes)
}
