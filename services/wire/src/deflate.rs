//! COMPRESS=DEFLATE (RFC 4978, over raw DEFLATE, RFC 1951): raw deflate over any layer.
//!
//! Contract: what is read never grows beyond the caller's own buffer (a compression bomb costs the sender its
//! bandwidth and us only the work on bytes that the caller asked for). The compressor, the dearest part (some 300 KB),
//! lives from a write to the flush that ends it: a new one continues at the byte boundary that a sync flush leaves,
//! because it never points back behind its own beginning. The decompressor keeps its 32 KB window.

use crate::io::Io;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Compressed bytes taken from the wire at once, and held back for it at most before a write waits.
const CHUNK_BYTES: usize = 16 * 1024;

pub(crate) struct Deflate {
    inner: Io,
    decompress: Decompress,
    /// Compressed bytes that came and are not decompressed yet: `input[taken..]`.
    input: Vec<u8>,
    taken: usize,
    /// The decompressor may hold more output than the last buffer could take.
    more: bool,
    compress: Option<Compress>,
    /// Compressed bytes on their way out: `output[sent..]`.
    output: Vec<u8>,
    sent: usize,
}

impl Deflate {
    /// `early`: compressed bytes that came already.
    pub(crate) fn new(inner: Io, early: Vec<u8>) -> Self {
        Self {
            inner,
            decompress: Decompress::new(false),
            input: early,
            taken: 0,
            more: false,
            compress: None,
            output: Vec::new(),
            sent: 0,
        }
    }

    pub(crate) fn inner(&self) -> &Io {
        &self.inner
    }

    fn broken<T>() -> io::Result<T> {
        Err(io::Error::new(io::ErrorKind::InvalidData, "broken deflate data"))
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.output.len() {
            let n = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.output[self.sent..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += n;
        }
        self.output = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Deflate {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.more || this.taken < this.input.len() {
                let (before_in, before_out) = (this.decompress.total_in(), this.decompress.total_out());
                let spare = buf.initialize_unfilled();
                let room = spare.len();
                let input = &this.input[this.taken..];
                let Ok(status) = this.decompress.decompress(input, spare, FlushDecompress::Sync) else {
                    return Poll::Ready(Self::broken());
                };
                let consumed = usize::try_from(this.decompress.total_in() - before_in).unwrap_or(usize::MAX);
                let produced = usize::try_from(this.decompress.total_out() - before_out).unwrap_or(usize::MAX);
                this.taken += consumed;
                this.more = produced == room;
                if this.taken >= this.input.len() {
                    this.input = Vec::new();
                    this.taken = 0;
                }
                if produced > 0 {
                    buf.advance(produced);
                    return Poll::Ready(Ok(()));
                }
                // RFC 4978 3: the stream does not end; a peer that ends it has nothing more to say.
                if status == flate2::Status::StreamEnd {
                    return Poll::Ready(Ok(()));
                }
                if consumed == 0 && !this.input.is_empty() {
                    return Poll::Ready(Self::broken());
                }
                continue;
            }
            let mut chunk = vec![0; CHUNK_BYTES];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut read))?;
            let n = read.filled().len();
            if n == 0 {
                return Poll::Ready(Ok(()));
            }
            chunk.truncate(n);
            this.input = chunk;
            this.taken = 0;
        }
    }
}

impl AsyncWrite for Deflate {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.output.len() - this.sent >= CHUNK_BYTES {
            ready!(this.poll_drain(cx))?;
        }
        let compress = this.compress.get_or_insert_with(|| Compress::new(Compression::fast(), false));
        this.output.reserve(buf.len() / 2 + 1024);
        let before = compress.total_in();
        if compress.compress_vec(buf, &mut this.output, FlushCompress::None).is_err() {
            return Poll::Ready(Self::broken());
        }
        let taken = usize::try_from(compress.total_in() - before).unwrap_or(usize::MAX);
        if taken == 0 && !buf.is_empty() {
            // No room in the output vector although there was: let the caller try again with more.
            this.output.reserve(CHUNK_BYTES);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(compress) = &mut this.compress {
            loop {
                this.output.reserve(1024);
                if compress.compress_vec(&[], &mut this.output, FlushCompress::Sync).is_err() {
                    return Poll::Ready(Self::broken());
                }
                // A sync flush that left room has written everything.
                if this.output.len() < this.output.capacity() {
                    break;
                }
            }
            this.compress = None;
        }
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
