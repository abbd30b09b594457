//! TCP and TLS plumbing for the protocol servers and for the outbound queue.
//!
//! Contract: a [`Stream`] reads lines and bulk data with a limit and a time-out on each read, gathers writes, changes
//! to TLS or deflate in place, and holds no buffer while it waits for a silent peer. [`ServerTls`] holds certificates
//! that can be exchanged while connections live. [`serve`] accepts connections until it is told to stop and survives
//! what a listening socket meets (no descriptors left, peers gone before accept). Nothing here knows a protocol.
//!
//! Failure classes: [`ReadError`] and [`WriteError`] concern one connection (the recoverable ones say so);
//! [`TlsError`] one handshake or one certificate file; [`ListenError`] an address that cannot be served, worded for
//! the person who has to free it.

mod buffers;
mod client;
mod deflate;
mod error;
mod io;
mod listen;
pub mod proxy;
mod self_signed;
mod serve;
mod stream;
mod tls;
mod x509;

pub use client::{ClientTls, connect};
pub use error::{ListenError, ReadError, TlsError, WriteError};
pub use io::Duplex;
pub use listen::{Endpoint, listen, take};
pub use self_signed::{SelfSigned, SelfSignedSettings, self_signed};
pub use serve::{Connection, ServeSettings, serve};
pub use stream::{Line, LineEnds, Stream};
pub use tls::{CertFiles, ServerTls, TlsInfo};

/// Any bytes through every parser of this crate: must not panic.
pub fn fuzz(data: &[u8]) {
    let _ = proxy::parse(data);
    x509::fuzz(data);
}
