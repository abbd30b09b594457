//! The heart's end of the three paths: frames out, frames in, what was dropped, and what that says about the cables.

use super::serial::SerialOut;
use super::udp::{Sent, UdpOut};
use super::{News, name, serial, udp};
use crate::api::{Dropped, Text};
use crate::settings::Settings;
use crate::snapshot::LinkSnapshot;
use tokio::sync::mpsc;
use twinpost_heartbeat::{Decoder, Drop as Why, Frame, Keys, Link};

/// News that may wait; what comes beyond is lost as on a wire.
pub(crate) const NEWS_MAX: usize = 64;
/// Sequences between two wrong frames of one class on one path before people are told: one of them may be an accident.
const TOLD_AFTER: u64 = 3;

enum Out {
    Off,
    Udp(UdpOut),
    Serial(SerialOut),
}

/// One path.
pub(crate) struct Side {
    link: Link,
    out: Out,
    decoder: Decoder,
    cut: u64,
    replayed: u64,
    sent: u64,
    received: u64,
    heard_at_ms: Option<u64>,
    /// Wrong frames of a class since the last good one.
    wrong: [u64; 7],
    trouble: Option<Text>,
}

/// What wrong frames say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The cable leads to another pair.
    Cluster(Link),
    /// The peer's program speaks another version.
    Version(Link),
    /// The keys differ, or somebody forges.
    Forged(Link),
    /// The other side has this node's name, or it is an echo.
    Own(Link),
}

/// All three.
pub(crate) struct Sides {
    sides: [Side; 3],
    cluster: u32,
    keys: Keys,
}

impl Sides {
    /// Opens the paths on the current runtime.
    pub(crate) fn open(settings: &Settings, news: &mpsc::Sender<News>) -> Self {
        let side = |link, out| Side {
            link,
            out,
            decoder: Decoder::new(settings.cluster, settings.heart.node, settings.keys.clone()),
            cut: 0,
            replayed: 0,
            sent: 0,
            received: 0,
            heard_at_ms: None,
            wrong: [0; 7],
            trouble: None,
        };
        let sides = Link::ALL.map(|link| {
            let udp = match link {
                Link::Eth1 => &settings.eth1,
                Link::Lan => &settings.lan,
                Link::Serial => &None,
            };
            if let Some(set) = udp {
                let out = UdpOut::default();
                tokio::spawn(udp::run(link, set.clone(), out.clone(), news.clone()));
                return side(link, Out::Udp(out));
            }
            match &settings.serial {
                Some(set) if link == Link::Serial => {
                    let out = SerialOut::default();
                    tokio::spawn(serial::run(set.clone(), out.clone(), news.clone()));
                    side(link, Out::Serial(out))
                }
                _ => side(link, Out::Off),
            }
        });
        Self { sides, cluster: settings.cluster, keys: settings.keys.clone() }
    }

    /// Whether this path is used.
    pub(crate) fn on(&self, link: Link) -> bool {
        !matches!(self.sides[link.index()].out, Out::Off)
    }

    /// Paths in use.
    pub(crate) fn used(&self) -> impl Iterator<Item = Link> {
        Link::ALL.into_iter().filter(|&link| self.on(link))
    }

    /// Sends now or never; true when the kernel says that nobody listens.
    pub(crate) fn send(&mut self, frame: &Frame) -> bool {
        let side = &mut self.sides[frame.link.index()];
        let bytes = frame.encode(self.cluster, &self.keys);
        let sent = match &side.out {
            Out::Off => return false,
            Out::Udp(out) => out.send(&bytes),
            Out::Serial(out) if out.send(&bytes) => Sent::Yes,
            Out::Serial(_) => Sent::No,
        };
        side.sent += u64::from(sent != Sent::No);
        sent == Sent::Gone
    }

    /// New keys.
    pub(crate) fn set_keys(&mut self, keys: &Keys) {
        self.keys = keys.clone();
        for side in &mut self.sides {
            side.decoder.keys = keys.clone();
        }
    }

    /// Bytes that came: a frame, or what they say instead.
    pub(crate) fn came(&mut self, link: Link, bytes: &[u8], now_ms: u64) -> Result<Frame, Option<Wrong>> {
        let side = &mut self.sides[link.index()];
        match side.decoder.decode(link, bytes) {
            Ok(frame) => {
                side.received += 1;
                side.heard_at_ms = Some(now_ms);
                side.wrong = [0; 7];
                Ok(frame)
            }
            Err(why) => {
                let count = &mut side.wrong[why as usize];
                *count += 1;
                let wrong = match why {
                    Why::Cluster => Wrong::Cluster(link),
                    Why::Version => Wrong::Version(link),
                    Why::Forged => Wrong::Forged(link),
                    Why::Own => Wrong::Own(link),
                    Why::Cut | Why::Meaning | Why::Replayed => return Err(None),
                };
                Err((*count >= TOLD_AFTER).then_some(wrong))
            }
        }
    }

    /// The heart took a frame for a replay.
    pub(crate) fn replayed(&mut self, link: Link) {
        let side = &mut self.sides[link.index()];
        (side.replayed, side.received) = (side.replayed + 1, side.received.saturating_sub(1));
    }

    /// Blocks of the serial line that were cut.
    pub(crate) fn cut(&mut self, link: Link, blocks: u32) {
        self.sides[link.index()].cut += u64::from(blocks);
    }

    /// What is wrong with a path; none: it works again.
    pub(crate) fn trouble(&mut self, link: Link, what: Option<Text>) {
        if let Some(what) = &what {
            tracing::warn!(link = name(link), "{}", what.en);
        } else {
            tracing::info!(link = name(link), "the path works again");
        }
        self.sides[link.index()].trouble = what;
    }

    /// Whether something is wrong with it.
    pub(crate) fn troubled(&self, link: Link) -> bool {
        self.sides[link.index()].trouble.is_some()
    }

    /// Age of the last authentic frame.
    pub(crate) fn heard_ms(&self, link: Link, now_ms: u64) -> Option<u64> {
        self.sides[link.index()].heard_at_ms.map(|at| now_ms.saturating_sub(at))
    }

    /// For people.
    pub(crate) fn snapshot(&self, now_ms: u64) -> [LinkSnapshot; 3] {
        self.sides.each_ref().map(|side| {
            let of = |why| u64::from(side.decoder.drops.of(why));
            LinkSnapshot {
                on: self.on(side.link),
                heard_ms: self.heard_ms(side.link, now_ms),
                sent: side.sent,
                received: side.received,
                dropped: Dropped {
                    forged: of(Why::Forged),
                    replayed: side.replayed,
                    cluster: of(Why::Cluster),
                    version: of(Why::Version),
                    cut: of(Why::Cut) + side.cut,
                    own: of(Why::Own),
                    meaning: of(Why::Meaning),
                },
                trouble: side.trouble.clone(),
            }
        })
    }
}
