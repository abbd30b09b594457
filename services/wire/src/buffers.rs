//! Read and write buffers that exist only while they hold something.
//!
//! Contract: an idle connection holds no buffer. The read buffer starts small, doubles while reads fill it (and halves while they
//! do not), and is given back when the peer is silent and nothing is left in it. The write queue gathers small pieces into one block
//! and keeps large ones as they are, shared with their owner.

use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::IoSlice;

/// First size of the read buffer: a few commands.
const READ_MIN_BYTES: usize = 4 * 1024;
/// Largest room offered to one read.
const READ_MAX_BYTES: usize = 64 * 1024;

#[derive(Default)]
pub(crate) struct ReadBuffer {
    pub(crate) bytes: BytesMut,
    /// No line end before this offset.
    pub(crate) scanned: usize,
    /// What the last reads were worth: the room for the next one.
    room: usize,
}

impl ReadBuffer {
    /// Room for one read.
    pub(crate) fn prepare(&mut self) {
        self.room = self.room.max(READ_MIN_BYTES);
        if self.bytes.capacity() - self.bytes.len() < self.room / 2 {
            self.bytes.reserve(self.room);
        }
    }
    /// After a read of `n` bytes into `spare` bytes of room.
    pub(crate) fn learned(&mut self, n: usize, spare: usize) {
        if n >= spare {
            self.room = (self.room * 2).min(READ_MAX_BYTES);
        } else if n < self.room / 4 {
            self.room = (self.room / 2).max(READ_MIN_BYTES);
        }
    }
    pub(crate) fn consume(&mut self, n: usize) {
        self.bytes.advance(n);
        self.scanned = self.scanned.saturating_sub(n);
    }
    pub(crate) fn give_back(&mut self) {
        if self.bytes.is_empty() {
            // What was learned stays: a sender of messages pauses between them too.
            *self = Self { room: self.room, ..Self::default() };
        }
    }
}

/// Pieces from this size are queued without a copy.
const SHARE_FROM_BYTES: usize = 2 * 1024;
/// Slices given to one vectored write.
const SLICES: usize = 32;

#[derive(Default)]
pub(crate) struct WriteQueue {
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
}

impl WriteQueue {
    pub(crate) fn len(&self) -> usize {
        self.len
    }
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }
    pub(crate) fn push_bytes(&mut self, bytes: Bytes) {
        if bytes.len() < SHARE_FROM_BYTES {
            return self.push(&bytes);
        }
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
        self.len += bytes.len();
        self.pieces.push_back(bytes);
    }
    pub(crate) fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }
    /// After bytes were appended to [`WriteQueue::tail`].
    pub(crate) fn grown(&mut self, bytes: usize) {
        self.len += bytes;
    }
    pub(crate) fn slices<'a>(&'a self, into: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut n = 0;
        for piece in self.pieces.iter().map(|p| &p[..]).chain([&self.tail[..]]).filter(|p| !p.is_empty()) {
            if n == SLICES {
                break;
            }
            into[n] = IoSlice::new(piece);
            n += 1;
        }
        n
    }
    pub(crate) fn empty_slices<'a>() -> [IoSlice<'a>; SLICES] {
        [IoSlice::new(&[]); SLICES]
    }
    pub(crate) fn written(&mut self, mut n: usize) {
        self.len -= n;
        while let Some(front) = self.pieces.front_mut() {
            if n < front.len() {
                front.advance(n);
                return;
            }
            n -= front.len();
            self.pieces.pop_front();
        }
        self.tail.advance(n);
    }
    pub(crate) fn give_back(&mut self) {
        if self.len == 0 && (self.tail.capacity() > 0 || self.pieces.capacity() > 0) {
            *self = Self::default();
        }
    }
}
