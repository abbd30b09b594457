//! Frames of the channel on a byte stream.
//!
//! Contract: [`Codec`] encodes and decodes inversely; a frame is at most its limit large (1 MiB between paired nodes), and a header that says otherwise ends the
//! connection before memory is taken for it. Layout, big-endian: 4 bytes length of what follows, 4 bytes length of the JSON, JSON, raw bytes.
//!
//! Failure classes: [`FrameError`]; each ends the connection, since the place of the next frame is lost.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// Largest frame between paired nodes, with its header.
pub const MAX_FRAME_BYTES: usize = 1 << 20;
/// Largest frame of a node that is not trusted yet.
pub(crate) const MAX_PAIRING_BYTES: usize = 16 << 10;
const HEADER_BYTES: usize = 8;

/// One frame: JSON, and raw bytes where the JSON says what they are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frame {
    /// The message.
    pub json: Bytes,
    /// What belongs to it.
    pub data: Bytes,
}

/// Why a stream is not one of frames.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Larger than the limit.
    #[error("a frame of {bytes} bytes, at most {limit} are taken")]
    TooLarge {
        /// What its header says.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The header contradicts itself.
    #[error("a frame header that contradicts itself")]
    Header,
    /// The connection ended or failed, maybe inside a frame.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Reads and writes [`Frame`]s.
#[derive(Clone, Debug)]
pub struct Codec {
    max_bytes: usize,
}

impl Codec {
    /// With this limit, header included.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes }
    }
}

impl Decoder for Codec {
    type Item = Frame;
    type Error = FrameError;

    fn decode(&mut self, from: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(header) = from.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize;
        let (rest, json) = (word(0), word(4));
        if rest.saturating_add(4) > self.max_bytes {
            return Err(FrameError::TooLarge { bytes: rest.saturating_add(4), limit: self.max_bytes });
        }
        if rest < 4 || json > rest - 4 {
            return Err(FrameError::Header);
        }
        let missing = (rest + 4).saturating_sub(from.len());
        if missing > 0 {
            from.reserve(missing);
            return Ok(None);
        }
        from.advance(HEADER_BYTES);
        let json = from.split_to(json).freeze();
        let data = from.split_to(rest - 4 - json.len()).freeze();
        Ok(Some(Frame { json, data }))
    }
}

impl Encoder<Frame> for Codec {
    type Error = FrameError;

    fn encode(&mut self, frame: Frame, to: &mut BytesMut) -> Result<(), FrameError> {
        let bytes = HEADER_BYTES + frame.json.len() + frame.data.len();
        let too_large = || FrameError::TooLarge { bytes, limit: self.max_bytes };
        if bytes > self.max_bytes {
            return Err(too_large());
        }
        let [rest, json] = [bytes - 4, frame.json.len()].map(u32::try_from);
        to.reserve(bytes);
        to.put_u32(rest.map_err(|_| too_large())?);
        to.put_u32(json.map_err(|_| too_large())?);
        to.put_slice(&frame.json);
        to.put_slice(&frame.data);
        Ok(())
    }
}

/// Fuzz entry point: any bytes, in pieces; what is understood is written back the same.
pub fn fuzz(data: &[u8]) {
    let mut codec = Codec::new(4096);
    let mut buffer = BytesMut::new();
    let mut back = BytesMut::new();
    let mut taken = 0;
    for piece in data.chunks(7) {
        buffer.put_slice(piece);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(frame)) => {
                    assert!(codec.encode(frame, &mut back).is_ok(), "what came in fits out");
                    assert_eq!(&back[..], &data[taken..taken + back.len()], "written back the same");
                    taken += back.len();
                    back.clear();
                }
                Ok(None) => break,
                Err(_) => return,
            }
            assert!(buffer.len() <= data.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_survived(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            fuzz(&data);
        }

        #[test]
        fn frames_survive_any_cutting(
            frames in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..60), proptest::collection::vec(any::<u8>(), 0..60)), 0..8),
            cuts in proptest::collection::vec(1usize..50, 1..20),
        ) {
            let frames: Vec<Frame> = frames.into_iter().map(|(json, data)| Frame { json: json.into(), data: data.into() }).collect();
            let mut wire = BytesMut::new();
            let mut codec = Codec::new(4096);
            for frame in &frames {
                codec.encode(frame.clone(), &mut wire)?;
            }
            fuzz(&wire);
            let (mut buffer, mut found, mut cut) = (BytesMut::new(), Vec::new(), cuts.iter().cycle());
            while !wire.is_empty() {
                let n = (*cut.next().expect("endless")).min(wire.len());
                buffer.put_slice(&wire.split_to(n));
                while let Some(frame) = codec.decode(&mut buffer)? {
                    found.push(frame);
                }
            }
            prop_assert_eq!(found, frames);
        }
    }

    #[test]
    fn a_header_is_judged_before_memory_is_taken() {
        let mut codec = Codec::new(MAX_FRAME_BYTES);
        let mut huge = BytesMut::from(&[0xff; 8][..]);
        assert!(matches!(codec.decode(&mut huge), Err(FrameError::TooLarge { .. })));
        assert!(huge.capacity() < 4096);
        for lies in [[0, 0, 0, 3, 0, 0, 0, 0], [0, 0, 0, 8, 0, 0, 0, 5], [0, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(matches!(codec.decode(&mut BytesMut::from(&lies[..])), Err(FrameError::Header)));
        }
        let over = Frame { json: vec![0; MAX_FRAME_BYTES - 7].into(), data: Bytes::new() };
        let mut out = BytesMut::new();
        assert!(matches!(codec.encode(over, &mut out), Err(FrameError::TooLarge { .. })));
        assert!(out.is_empty());
    }
}
