//! One connection: reading, writing, and the changes to TLS and deflate.

use crate::buffers::{ReadBuffer, WriteQueue};
use crate::client::ClientTls;
use crate::deflate::Deflate;
use crate::error::{ReadError, TlsError, WriteError};
use crate::io::{Duplex, Io, Raw};
use crate::tls::{Certificates, ServerTls, TlsInfo};
use bytes::{Bytes, BytesMut};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How strict a line end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnds {
    /// CRLF only; a bare LF gives [`ReadError::BareLf`] (and the line is consumed).
    Strict,
    /// CRLF or bare LF.
    Tolerant,
}

/// One line without its end. A bare CR inside of it stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The line.
    pub bytes: Bytes,
    /// It ended with LF instead of CRLF.
    pub bare_lf: bool,
}

impl std::ops::Deref for Line {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What a line that is too long may still send before its end.
const SKIP_MAX_BYTES: usize = 256 * 1024;

/// A connection to a client or to a server.
///
/// All waits are cancel-safe: a read or a flush that is dropped half-way loses nothing, the next call goes on.
pub struct Stream {
    io: Io,
    read: ReadBuffer,
    write: WriteQueue,
    write_timeout: Duration,
    peer: SocketAddr,
    local: SocketAddr,
    /// The certificates that were offered in the handshake, for `tls-server-end-point`.
    certificates: Option<Arc<Certificates>>,
    /// Bytes of an overlong line thrown away so far.
    skipping: Option<usize>,
    eof: bool,
}

impl Stream {
    /// Default for [`Stream::set_write_timeout`].
    pub const WRITE_TIMEOUT: Duration = Duration::from_mins(5);

    /// Over a TCP connection.
    ///
    /// # Errors
    /// When the peer is gone already, so that the system does not know its address.
    pub fn tcp(tcp: TcpStream) -> io::Result<Self> {
        let (peer, local) = (tcp.peer_addr()?, tcp.local_addr()?);
        Ok(Self::new(Raw::Tcp(tcp), plain_v4(peer), plain_v4(local)))
    }

    /// Over anything else, with the addresses that it shall tell.
    #[must_use]
    pub fn boxed(io: Box<dyn Duplex>, peer: SocketAddr, local: SocketAddr) -> Self {
        Self::new(Raw::Boxed(io), peer, local)
    }

    fn new(raw: Raw, peer: SocketAddr, local: SocketAddr) -> Self {
        Self {
            io: Io::Raw(raw),
            read: ReadBuffer::default(),
            write: WriteQueue::default(),
            write_timeout: Self::WRITE_TIMEOUT,
            peer,
            local,
            certificates: None,
            skipping: None,
            eof: false,
        }
    }

    /// The peer's address: the client's own behind a proxy that names it.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }
    /// Our address of the connection.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
    pub(crate) fn set_addresses(&mut self, peer: SocketAddr, local: SocketAddr) {
        (self.peer, self.local) = (peer, local);
    }
    /// How long the peer may leave a write without taking a byte.
    pub fn set_write_timeout(&mut self, limit: Duration) {
        self.write_timeout = limit;
    }

    // ---- reading

    /// What has been read and not consumed yet.
    #[must_use]
    pub fn buffered(&self) -> &[u8] {
        &self.read.bytes
    }
    /// Throws away the first `n` bytes of [`Stream::buffered`].
    ///
    /// # Panics
    /// If there are fewer.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.read.bytes.len(), "{n} bytes consumed, {} there", self.read.bytes.len());
        self.read.consume(n);
    }
    /// Takes the first `n` bytes of [`Stream::buffered`] without a copy.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn take(&mut self, n: usize) -> Bytes {
        assert!(n <= self.read.bytes.len(), "{n} bytes taken, {} there", self.read.bytes.len());
        self.read.scanned = self.read.scanned.saturating_sub(n);
        self.read.bytes.split_to(n).freeze()
    }

    /// One read from the connection into the buffer. 0: the peer has closed.
    async fn read_some(&mut self) -> Result<usize, ReadError> {
        let (io, read, write) = (&mut self.io, &mut self.read, &mut self.write);
        let n = poll_fn(|cx| {
            read.prepare();
            let spare = read.bytes.capacity() - read.bytes.len();
            match pin!(io.read_buf(&mut read.bytes)).poll(cx) {
                Poll::Ready(Ok(n)) => {
                    read.learned(n, spare);
                    Poll::Ready(Ok(n))
                }
                Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
                Poll::Pending => {
                    // The peer is silent: hold no buffer for it.
                    read.give_back();
                    write.give_back();
                    Poll::Pending
                }
            }
        })
        .await;
        match n {
            Ok(n) => {
                self.eof |= n == 0;
                Ok(n)
            }
            // A peer that closes TCP without a TLS close_notify: an end like any other, since every protocol here
            // counts or terminates its data.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                self.eof = true;
                Ok(0)
            }
            Err(e) if e.kind() == io::ErrorKind::InvalidData && matches!(self.io, Io::Deflate(_)) => Err(ReadError::Deflate),
            Err(e) => Err(e.into()),
        }
    }

    /// The next line, at most `limit_bytes` long without its end; `None` when the peer has closed between lines.
    /// `within`: the whole line must be there by then.
    ///
    /// # Errors
    /// See [`ReadError`]; after a recoverable one the next line can be read.
    pub async fn read_line(&mut self, limit_bytes: usize, ends: LineEnds, within: Duration) -> Result<Option<Line>, ReadError> {
        if let Some(result) = self.buffered_line(limit_bytes, ends) {
            return result.map(Some);
        }
        match timeout(within, self.read_line_slow(limit_bytes, ends)).await {
            Ok(result) => result,
            Err(_) => Err(ReadError::TimedOut),
        }
    }

    async fn read_line_slow(&mut self, limit_bytes: usize, ends: LineEnds) -> Result<Option<Line>, ReadError> {
        loop {
            if self.eof || self.read_some().await? == 0 {
                return if self.read.bytes.is_empty() && self.skipping.is_none() { Ok(None) } else { Err(ReadError::Truncated) };
            }
            if let Some(result) = self.buffered_line(limit_bytes, ends) {
                return result.map(Some);
            }
        }
    }

    /// The next line if all of it has been read already: for pipelined commands without a wait between them.
    pub fn buffered_line(&mut self, limit_bytes: usize, ends: LineEnds) -> Option<Result<Line, ReadError>> {
        let read = &mut self.read;
        let Some(at) = memchr::memchr(b'\n', &read.bytes[read.scanned..]).map(|i| i + read.scanned) else {
            read.scanned = read.bytes.len();
            if let Some(skipped) = &mut self.skipping {
                *skipped += read.bytes.len();
                let flood = *skipped > SKIP_MAX_BYTES;
                let n = read.bytes.len();
                read.consume(n);
                return flood.then_some(Err(ReadError::Flood));
            }
            // One more byte may be the CR of a line that is just as long as allowed.
            if read.bytes.len() > limit_bytes + 1 {
                self.skipping = Some(0);
                let n = read.bytes.len();
                read.consume(n);
            }
            return None;
        };
        if self.skipping.take().is_some() {
            read.consume(at + 1);
            return Some(Err(ReadError::LineTooLong { limit_bytes }));
        }
        let bare_lf = at == 0 || read.bytes[at - 1] != b'\r';
        let len = if bare_lf { at } else { at - 1 };
        if len > limit_bytes {
            read.consume(at + 1);
            return Some(Err(ReadError::LineTooLong { limit_bytes }));
        }
        if bare_lf && ends == LineEnds::Strict {
            read.consume(at + 1);
            return Some(Err(ReadError::BareLf));
        }
        let mut bytes = read.bytes.split_to(at + 1);
        read.scanned = 0;
        bytes.truncate(len);
        Some(Ok(Line { bytes: bytes.freeze(), bare_lf }))
    }

    /// What is buffered, or else the next bytes that come: for bulk data, with [`Stream::consume`] or
    /// [`Stream::take`]. Empty: the peer has closed.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn fill(&mut self, within: Duration) -> Result<&[u8], ReadError> {
        if self.read.bytes.is_empty() && !self.eof {
            timeout(within, self.read_some()).await.map_err(|_| ReadError::TimedOut)??;
        }
        Ok(&self.read.bytes)
    }

    /// Reads more behind what is buffered. `false`: the peer has closed. For parsers that need more than they have.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn fill_more(&mut self, within: Duration) -> Result<bool, ReadError> {
        if self.eof {
            return Ok(false);
        }
        Ok(timeout(within, self.read_some()).await.map_err(|_| ReadError::TimedOut)?? > 0)
    }

    /// Appends exactly `n` bytes to `into`. `within` is for each wait, not for all: a large literal over a slow line
    /// takes its time as long as it moves. Cancelled, `into` holds what came so far.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] when the peer closes before; others as they come.
    pub async fn read_exact_into(&mut self, into: &mut Vec<u8>, n: usize, within: Duration) -> Result<(), ReadError> {
        let target = into.len() + n;
        // Not all at once: the peer has only promised these bytes.
        into.reserve(n.min(1024 * 1024));
        while into.len() < target {
            let have = self.fill(within).await?;
            if have.is_empty() {
                return Err(ReadError::Truncated);
            }
            let take = have.len().min(target - into.len());
            into.extend_from_slice(&have[..take]);
            self.consume(take);
        }
        Ok(())
    }

    // ---- writing

    /// Queues bytes; nothing is sent before [`Stream::flush`].
    pub fn queue(&mut self, bytes: &[u8]) {
        self.write.push(bytes);
    }
    /// Queues bytes without a copy when they are many.
    pub fn queue_bytes(&mut self, bytes: Bytes) {
        self.write.push_bytes(bytes);
    }
    /// Appends to the queue through a closure, for `write!` and encoders.
    pub fn queue_with(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let tail = self.write.tail();
        let before = tail.len();
        write(tail);
        let grown = tail.len().checked_sub(before).expect("the closure only appends");
        self.write.grown(grown);
    }
    /// Bytes queued and not sent. A caller that answers pipelined commands flushes when this gets large (64 KB is
    /// a good measure), so that a client that does not read costs no more than that.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.write.len()
    }

    /// Sends everything that is queued. The peer must take something within the write time-out.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn flush(&mut self) -> Result<(), WriteError> {
        let mut sent_any = false;
        while self.write.len() > 0 {
            let wrote =
                timeout(self.write_timeout, write_some(&mut self.io, &self.write)).await.map_err(|_| WriteError::TimedOut)??;
            if wrote == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            self.write.written(wrote);
            sent_any = true;
        }
        // TLS and deflate hold data back until they are told to flush; a flush that was cancelled is made good too.
        if sent_any || !matches!(self.io, Io::Raw(_)) {
            timeout(self.write_timeout, self.io.flush()).await.map_err(|_| WriteError::TimedOut)??;
        }
        Ok(())
    }

    /// Sends what is queued, says goodbye (TLS close_notify) and closes our direction. Errors are not told: the
    /// connection is over either way.
    pub async fn shutdown(&mut self) {
        let limit = self.write_timeout.min(Duration::from_secs(10));
        let _ = timeout(limit, async {
            if self.flush().await.is_ok() {
                let _ = self.io.shutdown().await;
            }
        })
        .await;
    }

    /// Reads on for a little after [`Stream::shutdown`] and throws away what comes: a socket that is closed with unread
    /// data resets the connection, and the client would never see the last reply. Ends when the client closes, at the
    /// latest after 2 seconds or 1 MB.
    pub async fn linger(&mut self) {
        const LINGER: Duration = Duration::from_secs(2);
        const LINGER_MAX_BYTES: usize = 1024 * 1024;
        let _ = timeout(LINGER, async {
            let mut left_bytes = LINGER_MAX_BYTES;
            while let Ok(1..) = self.fill(LINGER).await.map(<[u8]>::len) {
                let n = self.read.bytes.len();
                self.consume(n);
                left_bytes = left_bytes.saturating_sub(n);
                if left_bytes == 0 {
                    break;
                }
            }
        })
        .await;
    }

    // ---- changes of layer

    /// The server's side of STARTTLS, STLS or a TLS port. What is queued is sent first, in the old layer.
    ///
    /// # Errors
    /// [`TlsError::Buffered`] when the client sent anything behind its STARTTLS (RFC 3207 5, RFC 9051 6.2.1: a
    /// server must not act on it): then what is queued is thrown away; handshake failures. After an error only closing
    /// is possible.
    pub async fn start_tls(&mut self, tls: &ServerTls, within: Duration) -> Result<(), TlsError> {
        let raw = self.take_raw().await?;
        self.accept_tls(raw, tls, within).await
    }

    /// TLS from the first byte behind a PROXY header: what was read beyond the header belongs to the handshake.
    pub(crate) async fn start_tls_behind_proxy(&mut self, tls: &ServerTls, within: Duration) -> Result<(), TlsError> {
        let early = self.read.bytes.split().freeze();
        self.read.scanned = 0;
        let mut raw = self.take_raw().await?;
        if !early.is_empty() {
            let (head, rest) = (io::Cursor::new(early), raw);
            let (reader, writer) = tokio::io::split(rest);
            raw = Raw::Boxed(Box::new(tokio::io::join(head.chain(reader), writer)));
        }
        self.accept_tls(raw, tls, within).await
    }

    async fn accept_tls(&mut self, raw: Raw, tls: &ServerTls, within: Duration) -> Result<(), TlsError> {
        let (config, certificates) = tls.current();
        let accept = Box::pin(tokio_rustls::TlsAcceptor::from(config).accept(raw));
        let stream = match timeout(within, accept).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(e)) => return Err(TlsError::Handshake(e)),
            Err(_) => return Err(TlsError::TimedOut),
        };
        self.io = Io::Tls(Box::new(stream.into()));
        self.certificates = Some(certificates);
        Ok(())
    }

    /// The client's side of STARTTLS. `name` is the server's host name.
    ///
    /// # Errors
    /// As for [`Stream::start_tls`].
    pub async fn start_tls_client(&mut self, tls: &ClientTls, name: &str, within: Duration) -> Result<(), TlsError> {
        let name = ClientTls::server_name(name, self.peer.ip());
        let raw = self.take_raw().await?;
        let connect = Box::pin(tls.connector().connect(name, raw));
        let stream = match timeout(within, connect).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(e)) => return Err(TlsError::Handshake(e)),
            Err(_) => return Err(TlsError::TimedOut),
        };
        self.io = Io::Tls(Box::new(stream.into()));
        Ok(())
    }

    async fn take_raw(&mut self) -> Result<Raw, TlsError> {
        if !matches!(self.io, Io::Raw(_)) {
            return Err(TlsError::State);
        }
        if !self.read.bytes.is_empty() || self.skipping.is_some() {
            // Also the "go ahead" that is queued must not be sent any more.
            self.write = WriteQueue::default();
            return Err(TlsError::Buffered);
        }
        self.flush().await?;
        self.read.give_back();
        match std::mem::replace(&mut self.io, Io::Gone) {
            Io::Raw(raw) => Ok(raw),
            _ => Err(TlsError::State),
        }
    }

    /// Compresses both directions from here on (RFC 4978). What is queued is sent uncompressed first; what has been
    /// read beyond the command is compressed data already.
    ///
    /// # Errors
    /// [`WriteError`]; `InvalidInput` when the stream is compressed already.
    pub async fn start_deflate(&mut self) -> Result<(), WriteError> {
        if self.is_compressed() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
        }
        self.flush().await?;
        let early = self.read.bytes.to_vec();
        self.read = ReadBuffer::default();
        let io = std::mem::replace(&mut self.io, Io::Gone);
        self.io = Io::Deflate(Box::new(Deflate::new(io, early)));
        Ok(())
    }

    /// Deflate is on.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        matches!(self.io, Io::Deflate(_))
    }
    /// TLS is on.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls().is_some()
    }

    fn tls(&self) -> Option<&tokio_rustls::TlsStream<Raw>> {
        match &self.io {
            Io::Tls(tls) => Some(tls),
            Io::Deflate(deflate) => match deflate.inner() {
                Io::Tls(tls) => Some(tls),
                _ => None,
            },
            Io::Raw(_) | Io::Gone => None,
        }
    }

    /// What was agreed, for log lines and `Received` headers. `None` without TLS.
    #[must_use]
    pub fn tls_info(&self) -> Option<TlsInfo> {
        self.tls().map(TlsInfo::of)
    }

    /// `tls-exporter` (RFC 9266): 32 bytes, the same on both ends of this connection and nowhere else. Only with
    /// TLS 1.3, where the value is safe without further conditions (RFC 9266 4.2).
    #[must_use]
    pub fn channel_binding(&self) -> Option<Vec<u8>> {
        // RFC 9266 2
        TlsInfo::exporter(self.tls()?)
    }

    /// `tls-server-end-point` (RFC 5929 4.1), on the server's side: the hash of the certificate that it showed.
    #[must_use]
    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        let certificates = self.certificates.as_ref()?;
        match self.tls()? {
            tokio_rustls::TlsStream::Server(tls) => certificates.end_point(tls.get_ref().1.server_name()),
            tokio_rustls::TlsStream::Client(_) => None,
        }
    }
}

/// One write of what is queued.
async fn write_some(io: &mut Io, queue: &WriteQueue) -> io::Result<usize> {
    poll_fn(|cx| {
        let mut slices = WriteQueue::empty_slices();
        let n = queue.slices(&mut slices);
        let io = Pin::new(&mut *io);
        let wrote = if io.is_write_vectored() {
            ready!(io.poll_write_vectored(cx, &slices[..n]))
        } else {
            ready!(io.poll_write(cx, &slices[0]))
        };
        Poll::Ready(wrote)
    })
    .await
}

/// An IPv4 client on an IPv6 socket is an IPv4 client.
pub(crate) fn plain_v4(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
