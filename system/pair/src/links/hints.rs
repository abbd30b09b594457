//! What can be seen of the world beside frames: carrier of a cable, an answer of the gateway.
//!
//! Contract: both are looked at off the heart's thread, since either may wait in the kernel. Carrier counts as lost only when the kernel
//! says so of an interface that is up; a missing or switched-off interface of this node says nothing about the peer. A
//! ping needs no privilege (an ICMP datagram socket, icmp(7)); where that is not permitted there is no hint.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks at the carrier.
const CARRIER_EVERY: Duration = Duration::from_millis(100);
/// Between two pings; an answer may take as long.
const PING_EVERY: Duration = Duration::from_secs(1);
/// So many pings without an answer in turn: the gateway is away.
const PINGS_LOST: u32 = 3;

/// Follows the carrier of an interface.
pub(crate) async fn carrier(interface: String, out: watch::Sender<bool>) {
    let path = format!("/sys/class/net/{interface}/carrier");
    loop {
        // EINVAL while the interface is down: unknown.
        let lost = tokio::fs::read(&path).await.is_ok_and(|value| value.first() == Some(&b'0'));
        out.send_if_modified(|up| std::mem::replace(up, !lost) == lost);
        tokio::select! {
            () = out.closed() => return,
            () = tokio::time::sleep(CARRIER_EVERY) => {}
        }
    }
}

fn open(gateway: IpAddr) -> io::Result<tokio::net::UdpSocket> {
    let (domain, protocol) = if gateway.is_ipv4() { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.connect(&SocketAddr::new(gateway, 0).into())?;
    tokio::net::UdpSocket::from_std(UdpSocket::from(socket))
}

/// An echo request; the kernel fills in identifier and (where needed) checksum. RFC 792, RFC 4443 4.1.
fn echo(v4: bool, sequence: u16) -> [u8; 8] {
    let mut packet = [0; 8];
    packet[0] = if v4 { 8 } else { 128 };
    packet[6..].copy_from_slice(&sequence.to_be_bytes());
    packet
}

/// Pings the gateway for ever.
pub(crate) async fn ping(gateway: IpAddr, out: watch::Sender<bool>) {
    let socket = match open(gateway) {
        Ok(socket) => socket,
        Err(e) => {
            tracing::info!(%gateway, error = %e, "the gateway is not pinged: not permitted here");
            return;
        }
    };
    let (mut lost, mut sequence) = (0_u32, 0_u16);
    loop {
        sequence = sequence.wrapping_add(1);
        let _ = socket.send(&echo(gateway.is_ipv4(), sequence)).await;
        let answer = async {
            let mut buf = [0; 64];
            loop {
                match socket.recv(&mut buf).await {
                    Ok(n) if n >= 8 && matches!(buf[0], 0 | 129) && buf[6..8] == sequence.to_be_bytes() => return,
                    Ok(_) => {}
                    // "unreachable" comes as an error of the socket
                    Err(_) => tokio::time::sleep(PING_EVERY).await,
                }
            }
        };
        let begun = tokio::time::Instant::now();
        lost = if tokio::time::timeout(PING_EVERY, answer).await.is_ok() { 0 } else { lost.saturating_add(1) };
        let answers = lost < PINGS_LOST;
        out.send_if_modified(|up| std::mem::replace(up, answers) != answers);
        tokio::select! {
            () = out.closed() => return,
            () = tokio::time::sleep_until(begun + PING_EVERY) => {}
        }
    }
}
