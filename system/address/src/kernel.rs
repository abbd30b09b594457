//! What the kernel tells unasked: carrier of the interface, addresses that others remove, hosts that claim a service address.
//!
//! Contract: one thread of its own, which reads two sockets and ends within a second of its driver. Messages of netlink may be
//! lost when too many come at once (ENOBUFS); then everything is asked anew, so that the carrier is never stale.

use std::{
    collections::HashMap,
    io::{self, Read as _},
    net::IpAddr,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::Weak,
    thread,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{NetlinkAddr, bind},
};
use rtnetlink::{
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        address::AddressAttribute,
        link::{LinkAttribute, LinkFlags, LinkMessage},
    },
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    interface::Shared,
    packet::mac_text,
    raw::{Ear, Hear, Port},
};

const AF_NETLINK: i32 = 16;
const NETLINK_ROUTE: i32 = 0;
/// rtnetlink(7): link, IPv4 and IPv6 addresses.
const GROUPS: u32 = 1 << 0 | 1 << 4 | 1 << 8;
/// linux/errno: the receive buffer overran.
const ENOBUFS: i32 = 105;
/// How soon the thread sees that its driver is gone.
const LOOK_UP_MS: u16 = 1000;
/// The same host is told once in this time.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// And no more hosts than this are remembered.
const HOSTS: usize = 64;

/// Starts the thread.
///
/// # Errors
/// No socket, no thread.
pub(crate) fn watch(shared: &std::sync::Arc<Shared>) -> io::Result<()> {
    let socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_ROUTE)))?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    socket.set_nonblocking(true)?;
    let mut watcher = Watcher {
        shared: std::sync::Arc::downgrade(shared),
        interface: shared.settings.interface.clone(),
        socket,
        index: 0,
        ear: None,
        told: HashMap::new(),
    };
    watcher.ask()?;
    thread::Builder::new().name("address-watch".to_owned()).spawn(move || watcher.run())?;
    Ok(())
}

struct Watcher {
    shared: Weak<Shared>,
    interface: String,
    socket: Socket,
    /// Of the interface, 0 while there is none.
    index: u32,
    /// Hears ARP on it.
    ear: Option<Ear>,
    told: HashMap<[u8; 6], Instant>,
}

impl Watcher {
    /// Asks for the interface; the answer comes as if it were news.
    fn ask(&self) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(self.interface.clone()));
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetLink(link));
        message.header.flags = NLM_F_REQUEST;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes).map(drop)
    }

    fn run(&mut self) {
        loop {
            let mut wait = vec![PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            wait.extend(self.ear.iter().map(|ear| PollFd::new(ear.0.as_fd(), PollFlags::POLLIN)));
            let _ = poll(&mut wait, PollTimeout::from(LOOK_UP_MS));
            let Some(shared) = self.shared.upgrade() else { return };
            self.hear(&shared);
            self.listen(&shared);
        }
    }

    fn hear(&mut self, shared: &Shared) {
        let mut bytes = vec![0; 64 * 1024];
        for _ in 0..256 {
            match (&self.socket).read(&mut bytes) {
                Ok(count) => self.read(shared, &bytes[..count]),
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => {
                    tracing::debug!(interface = self.interface, "netlink overran: asked anew");
                    shared.look_again();
                    let _ = self.ask();
                }
                Err(_) => return,
            }
        }
    }

    fn read(&mut self, shared: &Shared, mut bytes: &[u8]) {
        while bytes.len() >= 16 {
            let length = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let Some(length) = usize::try_from(length).ok().filter(|&l| l >= 16 && l <= bytes.len()) else { return };
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes[..length]).map(|m| m.payload) {
                Ok(NetlinkPayload::InnerMessage(message)) => self.news(shared, message),
                // The answer to a question for an interface that is not there.
                Ok(NetlinkPayload::Error(_)) => shared.set_carrier(false),
                _ => {}
            }
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }

    fn news(&mut self, shared: &Shared, message: RouteNetlinkMessage) {
        let mine = |link: &LinkMessage| {
            link.attributes.iter().any(|a| matches!(a, LinkAttribute::IfName(name) if *name == self.interface))
        };
        match message {
            RouteNetlinkMessage::NewLink(link) if mine(&link) => {
                if self.index != link.header.index {
                    self.index = link.header.index;
                    self.ear = Port::of(&self.interface).and_then(|port| port.listen(Hear::Arp)).ok();
                    // An interface made anew has none of our addresses.
                    shared.look_again();
                }
                shared.set_carrier(link.header.flags.contains(LinkFlags::LowerUp));
            }
            RouteNetlinkMessage::DelLink(link) if mine(&link) => {
                (self.index, self.ear) = (0, None);
                shared.set_carrier(false);
            }
            RouteNetlinkMessage::DelAddress(message) => {
                let gone = message.attributes.iter().any(|attribute| match attribute {
                    AddressAttribute::Address(ip) | AddressAttribute::Local(ip) => shared.settings.is_service(*ip),
                    _ => false,
                });
                if gone {
                    shared.look_again();
                }
            }
            _ => {}
        }
    }

    /// RFC 5227 2.4: somebody else says that an address is its own while it is ours.
    fn listen(&mut self, shared: &Shared) {
        while let Some(claim) = self.ear.as_ref().and_then(Ear::claim) {
            let IpAddr::V4(_) = claim.address else { continue };
            let mine = Port::of(&self.interface).is_ok_and(|port| port.mac == claim.mac);
            if mine || !shared.settings.is_service(claim.address) || !shared.is_here() {
                continue;
            }
            let now = Instant::now();
            self.told.retain(|_, told| now.duration_since(*told) < TELL_AGAIN);
            if self.told.len() < HOSTS && !self.told.contains_key(&claim.mac) {
                self.told.insert(claim.mac, now);
                shared.conflict(claim.address, claim.mac);
                tracing::warn!(address = %claim.address, mac = mac_text(claim.mac), "another host claims the service address");
            }
        }
    }
}
