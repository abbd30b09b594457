//! The service address: set, announced, and gone by itself when its lease ends.
//!
//! Contract: [`Address::up`] makes the addresses answer here until the lease ends, whatever becomes of this process; calling it
//! again renews the lease with one message to the kernel. [`Address::down`] takes them away and proves it. Leftovers of a
//! predecessor that was killed are removed when a driver is made. Drivers are [`Interface`] (root: the appliance) and [`Loopback`] (no root:
//! the address exists anyway; nothing but the services themselves is here only while active).
//!
//! Failure classes: [`Error::LeaseOver`] is a caller that was too late (nothing was renewed: the address stays unreachable);
//! [`Error::Taken`] is another host on the address; [`Error::StillHere`] a `down` that could not be proven; the rest says which
//! order to the kernel failed. Things that people must know of but that change nothing come as [`Notice`].

mod interface;
mod kernel;
mod loopback;
mod packet;
mod raw;
mod rule;

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

pub use interface::{Interface, ServiceAddress, Settings};
pub use loopback::Loopback;
pub use packet::fuzz as fuzz_frame;
pub use rule::fuzz as fuzz_netlink;

/// A driver of the service address. Each serialises its own work.
pub trait Address: Send + Sync {
    /// The addresses are here until `expires` after `since`, the moment at which the event behind it was taken in (`None`: until `down`;
    /// tests only). Renews when they are here already.
    ///
    /// # Errors
    /// [`Error::LeaseOver`] when that moment has passed; otherwise what could not be done.
    fn up(&self, expires: Option<Duration>, since: Instant) -> BoxFuture<'_, Result<(), Error>>;

    /// The addresses are not here any more. First no packet is answered, then they leave the interface.
    ///
    /// # Errors
    /// It could not be proven that they are gone.
    fn down(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// Tells the neighbours: gratuitous ARP in both forms, unsolicited neighbour advertisement with the override flag. While they are not
    /// here it does nothing.
    ///
    /// # Errors
    /// A packet could not be sent.
    fn announce(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// Carrier of the LAN interface.
    fn carrier(&self) -> watch::Receiver<bool>;

    /// For people.
    fn status(&self) -> AddressStatus;
}

/// For people.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct AddressStatus {
    /// `interface` or `loopback`.
    pub driver: &'static str,
    /// Interface.
    pub interface: String,
    /// The service addresses.
    pub addresses: Vec<IpAddr>,
    /// Here, and the lease has not ended.
    pub here: bool,
    /// What is left of the lease; `None` while not here, or without an end.
    pub lease_left_ms: Option<u64>,
    /// Of the interface.
    pub carrier: bool,
}

/// What people must hear; it changes nothing by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// Another host answers on a service address while it is (or becomes) ours.
    Conflict {
        /// Address.
        address: IpAddr,
        /// Its hardware address, `02:00:00:00:00:01`.
        mac: String,
        /// It is the peer's.
        peer: bool,
    },
    /// A predecessor had left addresses on an interface.
    Leftover {
        /// Address and interface.
        what: String,
    },
    /// Somebody took the address or the rule away; it is put back.
    Restored {
        /// What was missing.
        what: String,
    },
}

/// What was tried on what, and why it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings make no sense.
    #[error("service address: {0}")]
    Settings(String),
    /// The lease ended before it could be set.
    #[error("the lease of the service address ended {late_ms} ms ago: not renewed")]
    LeaseOver {
        /// So late.
        late_ms: u128,
    },
    /// Another host has the address (duplicate address detection).
    #[error("service address {address} is used by another host, {mac}")]
    Taken {
        /// Address.
        address: IpAddr,
        /// Its hardware address.
        mac: String,
    },
    /// `down` could not be proven.
    #[error("service address {address} is still on {interface}")]
    StillHere {
        /// Address.
        address: IpAddr,
        /// Interface.
        interface: String,
    },
    /// No such address on this machine (loopback driver).
    #[error("service address {address} is not on this machine: {source}")]
    NotLocal {
        /// Address.
        address: IpAddr,
        /// Why a socket could not be bound.
        source: std::io::Error,
    },
    /// The kernel refused, or a program failed.
    #[error("{what}: {why}")]
    Kernel {
        /// What was tried on what.
        what: String,
        /// Why.
        why: String,
    },
}
