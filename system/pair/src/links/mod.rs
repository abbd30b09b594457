//! The paths to the peer: bytes in, bytes out, and what can be seen of the cables.
//!
//! Contract: each path runs by itself for ever; a port or an address that is not there is tried again. What comes in is passed on as
//! bytes of bounded length through a bounded queue; when the heart is behind, the newest is lost, as on a wire. Sending never waits.
//!
//! Failure classes: none that end anything; each lasting trouble is told as [`News::Trouble`].

pub(crate) mod hints;
pub(crate) mod serial;
pub(crate) mod sides;
pub(crate) mod udp;

use crate::api::Text;
use twinpost_heartbeat::{FRAME_BYTES, Link};

/// What a path tells the heart.
#[derive(Debug)]
pub(crate) enum News {
    /// Bytes that may be a frame; one more than a frame has when they were longer.
    Block { link: Link, bytes: [u8; FRAME_BYTES + 1], length: usize },
    /// So many blocks were cut or garbled.
    Cut { link: Link, blocks: u32 },
    /// The peer's kernel says that nobody listens.
    Gone,
    /// Modem lines of the serial cable.
    Lines(bool),
    /// Something answers that is a modem, or echoes what is sent.
    Modem(String),
    /// What is wrong; none: works again.
    Trouble { link: Link, what: Option<Text> },
}

/// Name of a path in logs, status and alarms.
pub(crate) const fn name(link: Link) -> &'static str {
    match link {
        Link::Eth1 => "eth1",
        Link::Lan => "lan",
        Link::Serial => "serial",
    }
}

/// The same for people who read Chinese.
pub(crate) const fn name_zh(link: Link) -> &'static str {
    match link {
        Link::Eth1 => "eth1 直连线",
        Link::Lan => "局域网",
        Link::Serial => "串口线",
    }
}
