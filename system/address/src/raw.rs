//! Raw sockets on one interface (packet(7)).
//!
//! Contract: frames leave as they are, past routes, neighbour tables and packet filters. The interface is looked up at each use, for it
//! may have been made anew with another index.

use std::{
    io::{self, Read as _},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{LinkAddr, MsgFlags, bind, sendto},
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::packet::{self, Claim, Mac};

const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
/// More than any frame that is looked at.
const FRAME_BYTES: usize = 256;

/// An interface with a hardware address: where frames go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port {
    link: LinkAddr,
    pub(crate) mac: Mac,
}

/// Which frames are heard.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hear {
    Arp,
    Ipv6,
}

impl Port {
    /// # Errors
    /// No such interface, or one without a hardware address of six bytes.
    pub(crate) fn of(interface: &str) -> io::Result<Self> {
        // getifaddrs(3) gives one AF_PACKET address for each interface: index and hardware address, without a protocol.
        let link = getifaddrs()?
            .filter(|entry| entry.interface_name == interface)
            .find_map(|entry| entry.address.and_then(|address| address.as_link_addr().copied()))
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no interface {interface}")))?;
        match link.addr() {
            Some(mac) if link.halen() == 6 && mac != [0; 6] => Ok(Self { link, mac }),
            _ => Err(io::Error::other(format!("{interface} has no hardware address"))),
        }
    }

    /// # Errors
    /// The interface is down, or gone.
    pub(crate) fn send(&self, frames: &[Vec<u8>]) -> io::Result<()> {
        // Protocol 0: this socket hears nothing.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        for frame in frames {
            sendto(socket.as_raw_fd(), frame, &self.link, MsgFlags::empty())?;
        }
        Ok(())
    }

    /// A socket that hears what others send on this interface.
    ///
    /// # Errors
    /// As the kernel says.
    pub(crate) fn listen(&self, hear: Hear) -> io::Result<Ear> {
        let protocol = match hear {
            Hear::Arp => ETH_P_ARP,
            Hear::Ipv6 => ETH_P_IPV6,
        };
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(protocol.to_be()))))?;
        // Bound with protocol 0 it keeps the protocol that it was made with.
        bind(socket.as_raw_fd(), &self.link)?;
        socket.set_nonblocking(true)?;
        Ok(Ear(socket))
    }
}

/// Hears claims.
#[derive(Debug)]
pub(crate) struct Ear(pub(crate) Socket);

impl Ear {
    /// The next claim that has come already; frames that claim nothing are skipped.
    pub(crate) fn claim(&self) -> Option<Claim> {
        let mut frame = [0; FRAME_BYTES];
        // Bounded, so that a flood cannot hold the caller.
        for _ in 0..1024 {
            match (&self.0).read(&mut frame) {
                Ok(count) => {
                    if let Some(claim) = packet::claim(&frame[..count]) {
                        return Some(claim);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // The interface went down: the error is told once, then it is quiet.
                Err(_) => {}
            }
        }
        None
    }

    /// Claims until `end` that `wanted` says yes to. Blocking.
    pub(crate) fn claims_until(&self, end: Instant, mut wanted: impl FnMut(&Claim) -> bool) -> Option<Claim> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd as _;
        loop {
            while let Some(claim) = self.claim() {
                if wanted(&claim) {
                    return Some(claim);
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let left = PollTimeout::try_from(left.max(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX);
            let _ = poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], left);
        }
    }
}
