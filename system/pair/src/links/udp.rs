//! Frames by UDP unicast.
//!
//! Contract: the socket is connected, so that nobody else's datagrams come in and the kernel tells when nobody listens at the peer
//! (ECONNREFUSED after its "port unreachable", ip(7)). Sending never waits.

use super::News;
use crate::api::Text;
use crate::settings::UdpLink;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use twinpost_heartbeat::{FRAME_BYTES, Link};

/// Between two tries to open.
const AGAIN: Duration = Duration::from_secs(1);
/// RFC 4594 3.1: network control, so that heartbeats do not queue behind mail.
const CLASS_SELECTOR_6: u32 = 0xC0;

/// Where frames leave.
#[derive(Clone, Default)]
pub(crate) struct UdpOut {
    socket: Arc<Mutex<Option<Arc<UdpSocket>>>>,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It left.
    Yes,
    /// It did not.
    No,
    /// It left (or not); the kernel said beforehand that nobody listens there.
    Gone,
}

impl UdpOut {
    /// Sends at once or not at all.
    pub(crate) fn send(&self, bytes: &[u8]) -> Sent {
        let Some(socket) = self.socket.lock().clone() else { return Sent::No };
        match socket.send(bytes) {
            Ok(_) => Sent::Yes,
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
                // That error belongs to a frame before; this one was not sent.
                let _ = socket.send(bytes);
                Sent::Gone
            }
            Err(_) => Sent::No,
        }
    }
}

fn open(link: &UdpLink) -> io::Result<(tokio::net::UdpSocket, Arc<UdpSocket>)> {
    let socket = Socket::new(Domain::for_address(link.bind), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // Without the right to it, frames only queue behind others.
    let _ = if link.bind.is_ipv4() { socket.set_tos_v4(CLASS_SELECTOR_6) } else { socket.set_tclass_v6(CLASS_SELECTOR_6) };
    socket.bind(&link.bind.into())?;
    socket.connect(&link.peer.into())?;
    let socket: UdpSocket = socket.into();
    let out = Arc::new(socket.try_clone()?);
    Ok((tokio::net::UdpSocket::from_std(socket)?, out))
}

/// Reads for ever.
pub(crate) async fn run(link: Link, set: UdpLink, out: UdpOut, news: mpsc::Sender<News>) {
    let mut troubled = false;
    loop {
        let socket = match open(&set) {
            Ok((socket, sender)) => {
                *out.socket.lock() = Some(sender);
                socket
            }
            Err(e) => {
                if !troubled {
                    troubled = true;
                    let what = Text::new(
                        format!("cannot use {} towards {}: {e}; check the cable and the address", set.bind, set.peer),
                        format!("无法使用 {} 连接 {}：{e}；请检查线缆和地址", set.bind, set.peer),
                    );
                    if news.send(News::Trouble { link, what: Some(what) }).await.is_err() {
                        return;
                    }
                }
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        if std::mem::take(&mut troubled) && news.send(News::Trouble { link, what: None }).await.is_err() {
            return;
        }
        if read(link, &socket, &news).await.is_none() {
            return;
        }
        *out.socket.lock() = None;
        tokio::time::sleep(AGAIN / 4).await;
    }
}

/// Until the socket fails; `None` when the heart is gone.
async fn read(link: Link, socket: &tokio::net::UdpSocket, news: &mpsc::Sender<News>) -> Option<()> {
    loop {
        let mut bytes = [0; FRAME_BYTES + 1];
        let what = match socket.recv(&mut bytes).await {
            Ok(length) => News::Block { link, bytes, length },
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => News::Gone,
            Err(_) => return Some(()),
        };
        match news.try_send(what) {
            Err(mpsc::error::TrySendError::Closed(_)) => return None,
            // A flood, or a heart that is behind: lost as on a wire.
            Err(mpsc::error::TrySendError::Full(_)) => tokio::task::yield_now().await,
            Ok(()) => {}
        }
    }
}
