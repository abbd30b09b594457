//! Responses on their way to the client: a buffer that is handed on in pieces, so that no answer is ever built whole.
//!
//! Contract: what was written goes out in order; [`Out::relieve`] waits while the client does not read (back-pressure), so what
//! is held for it stays near the chunk size. Failure class: the connection is gone (`io::Error`).

use bytes::Bytes;
use std::future::Future;
use std::io;
use twinpost_wire::{Stream, WriteError};

/// Where the bytes go.
pub(crate) trait Sink: Send {
    /// Takes bytes to be sent; cheap.
    fn queue(&mut self, bytes: Bytes);
    /// Bytes taken and not sent.
    fn queued_bytes(&self) -> usize;
    /// Sends them all.
    fn flush(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

impl Sink for Stream {
    fn queue(&mut self, bytes: Bytes) {
        self.queue_bytes(bytes);
    }
    fn queued_bytes(&self) -> usize {
        Stream::queued_bytes(self)
    }
    async fn flush(&mut self) -> io::Result<()> {
        Stream::flush(self).await.map_err(|error| match error {
            WriteError::Io(error) => error,
            WriteError::TimedOut => io::ErrorKind::TimedOut.into(),
        })
    }
}

/// A buffered sink.
pub(crate) struct Out<'a, S> {
    /// Append here; call [`Out::relieve`] now and then.
    pub buf: Vec<u8>,
    sink: &'a mut S,
    chunk_bytes: usize,
}

impl<'a, S: Sink> Out<'a, S> {
    pub fn new(sink: &'a mut S, chunk_bytes: usize) -> Self {
        Self { buf: Vec::new(), sink, chunk_bytes }
    }
    /// Appends a line; the line break is added.
    pub fn line(&mut self, text: &str) {
        self.buf.extend_from_slice(text.as_bytes());
        self.buf.extend_from_slice(b"\r\n");
    }
    /// Passes the buffer on when it is full enough.
    pub async fn relieve(&mut self) -> io::Result<()> {
        if self.buf.len() < self.chunk_bytes && self.sink.queued_bytes() < self.chunk_bytes {
            return Ok(());
        }
        self.flush().await
    }
    /// Sends everything.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.hand_over();
        self.sink.flush().await
    }
    /// Bytes that may be many: not copied when they are. A slice keeps its whole body in memory until it is sent, so that small
    /// ones (the headers of large messages) are copied: no more than a handful of bodies stand behind what is queued.
    pub fn bytes(&mut self, bytes: Bytes) {
        if bytes.len() < self.chunk_bytes / 4 {
            self.buf.extend_from_slice(&bytes);
        } else {
            self.hand_over();
            self.sink.queue(bytes);
        }
    }
    fn hand_over(&mut self) {
        if !self.buf.is_empty() {
            self.sink.queue(Bytes::from(std::mem::take(&mut self.buf)));
        }
    }
    /// The end of a command: nothing stays in the buffer; the sink sends it when the client's next command must be awaited.
    pub fn finish(mut self) {
        self.hand_over();
    }
}
