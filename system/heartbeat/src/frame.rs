//! The heartbeat frame: 64 bytes, fixed layout, the same over UDP and over the serial line.
//!
//! Contract: [`Frame::encode`] and [`Decoder::decode`] are inverse; nothing allocates; any bytes may come in. Layout, big-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 0 | version |
//! | 1 | link |
//! | 2 | node |
//! | 3 | state |
//! | 4-7 | cluster |
//! | 8-11 | boot id of the sender |
//! | 12-15 | sequence, counted over all links |
//! | 16-19 | boot id of the receiver as the sender knows it (0: not yet) |
//! | 20-23 | newest sequence heard from the receiver |
//! | 24-27 | reign of the data |
//! | 28-31 | ballot: the reign claimed or promised |
//! | 32-39 | data position |
//! | 40-41 | lease granted, ms |
//! | 42 | health, 0 (worst) to 255 |
//! | 43 | flags |
//! | 44-47 | config generation |
//! | 48-63 | BLAKE3 keyed with the cluster's key over bytes 0-47, first 16 bytes |
//!
//! **Replays.** A boot id grows with every start and is on disk before the first frame leaves, so that (boot, sequence) never
//! repeats. A receiver takes only growing pairs on each link (the link is inside the hash: a frame does not travel to another one).
//! A receiver that restarted has forgotten the pair; therefore a frame also names the *receiver's* boot id, and one that names an
//! older one serves only to learn the sender's boot id: it is no sign of life, no grant and no proof. So no clock is compared
//! and a recording of yesterday says nothing today.
//!
//! Failure classes: [`Drop`], counted in [`Drops`].

/// Bytes of a frame on the wire.
pub const FRAME_BYTES: usize = 64;
/// The version that this code speaks.
const VERSION: u8 = 1;
const BODY_BYTES: usize = 48;

/// A path between the nodes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub enum Link {
    /// The crossover cable; storage is mirrored over it.
    Eth1 = 0,
    /// The local network.
    Lan = 1,
    /// The null-modem cable.
    Serial = 2,
}

impl Link {
    /// All links, in the order of [`Link::index`].
    pub const ALL: [Self; 3] = [Self::Eth1, Self::Lan, Self::Serial];

    /// Place in an array with one entry for each link.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What a node says that it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub enum NodeState {
    /// Started, has not yet heard its peer.
    Boot = 0,
    /// Does not serve and may not take over.
    StandbyIneligible = 1,
    /// Does not serve; its data is current.
    StandbyEligible = 2,
    /// On the way to active: asks for proofs, waits, stores its reign or promotes its storage.
    TakingOver = 3,
    /// Serves; the peer has every byte.
    ActiveSynced = 4,
    /// Serves alone under its own reign.
    ActiveAlone = 5,
    /// Serves; the peer is catching up.
    Resync = 6,
    /// Serves still, on its way to standby.
    Draining = 7,
    /// Both hold data that the other lacks: waits for the administrator.
    Conflict = 8,
    /// Does not serve and will not by itself until the maintenance ends.
    Maintenance = 9,
}

impl NodeState {
    const ALL: [Self; 10] = [
        Self::Boot,
        Self::StandbyIneligible,
        Self::StandbyEligible,
        Self::TakingOver,
        Self::ActiveSynced,
        Self::ActiveAlone,
        Self::Resync,
        Self::Draining,
        Self::Conflict,
        Self::Maintenance,
    ];

    /// Whether a node in this state may be answering clients.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::ActiveSynced | Self::ActiveAlone | Self::Resync | Self::Draining)
    }
}

/// Yes-or-no facts of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// From the active: the receiver's data is current, it is eligible.
    pub const GRANT: u8 = 1;
    /// The sender asks for the reign `ballot`.
    pub const CLAIM: u8 = 2;
    /// The sender is not active and promised the reign `ballot` to the receiver: a release.
    pub const PROMISE: u8 = 4;
    /// The claimed reign is already won at the witness.
    pub const WON: u8 = 8;
    /// The sender holds data that its peer may lack.
    pub const UNSHARED: u8 = 16;
    /// The sender's copy is in the middle of a resync.
    pub const INCONSISTENT: u8 = 32;
    /// The sender reaches its gateway: a hint, never a proof.
    pub const PING: u8 = 64;

    /// Whether `bit` is set.
    #[must_use]
    pub const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    /// This set with `bit` set if `yes`.
    #[must_use]
    pub const fn with(self, bit: u8, yes: bool) -> Self {
        if yes { Self(self.0 | bit) } else { self }
    }
}

/// One frame. Field by field as in the table of this module.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Frame {
    /// The link that it was sent on.
    pub link: Link,
    /// The sender: 0 or 1.
    pub node: u8,
    /// What the sender is.
    pub state: NodeState,
    /// Boot id of the sender.
    pub boot: u32,
    /// Sequence within the boot, over all links.
    pub seq: u32,
    /// Boot id of the receiver as the sender knows it, 0 for not yet.
    pub echo_boot: u32,
    /// Newest sequence that the sender heard from the receiver in that boot.
    pub echo_seq: u32,
    /// Reign that the sender's data belongs to.
    pub reign: u32,
    /// Reign claimed or promised, see [`Flags`].
    pub ballot: u32,
    /// Position in the data, grows with every write.
    pub position: u64,
    /// Lease granted to the receiver, counted from the frame named by `echo_seq`.
    pub lease_ms: u16,
    /// 0 (worst) to 255.
    pub health: u8,
    /// Facts.
    pub flags: Flags,
    /// Generation of the config document.
    pub config: u32,
}

/// Keys of the cluster: frames leave under `current`; both are accepted, so that a key is changed without a gap
/// (give both nodes the next key, then make it current on both, then forget the old one).
#[derive(Clone)]
pub struct Keys {
    /// Signs what is sent.
    pub current: [u8; 32],
    /// Accepted beside it.
    pub next: Option<[u8; 32]>,
}

/// Why a frame was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Drop {
    /// Not 64 bytes, or a serial block that was cut or garbled.
    Cut = 0,
    /// Another version of the layout.
    Version = 1,
    /// Another pair's.
    Cluster = 2,
    /// The hash fits neither key.
    Forged = 3,
    /// Authentic, but a field has no meaning (a newer writer), or it came over a link that it was not sent on.
    Meaning = 4,
    /// Says that it is from this very node: the same name on both sides, or an echo.
    Own = 5,
    /// Not newer than what this link already brought.
    Replayed = 6,
}

/// Dropped frames by class; saturating.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Drops([u32; 7]);

impl Drops {
    /// Counts one.
    pub const fn count(&mut self, why: Drop) {
        self.0[why as usize] = self.0[why as usize].saturating_add(1);
    }

    /// How many of a class.
    #[must_use]
    pub const fn of(&self, why: Drop) -> u32 {
        self.0[why as usize]
    }
}

fn hash(key: &[u8; 32], body: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&blake3::keyed_hash(key, body).as_bytes()[..16]);
    out
}

/// Compares without an early end, so that time tells nothing about the hash.
fn same(a: &[u8; 16], b: &[u8]) -> bool {
    b.len() == 16 && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

impl Frame {
    /// The bytes on the wire.
    #[must_use]
    pub fn encode(&self, cluster: u32, keys: &Keys) -> [u8; FRAME_BYTES] {
        let mut out = [0; FRAME_BYTES];
        out[..4].copy_from_slice(&[VERSION, self.link as u8, self.node, self.state as u8]);
        for (at, word) in [
            (4, cluster),
            (8, self.boot),
            (12, self.seq),
            (16, self.echo_boot),
            (20, self.echo_seq),
            (24, self.reign),
            (28, self.ballot),
            (44, self.config),
        ] {
            out[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        out[32..40].copy_from_slice(&self.position.to_be_bytes());
        out[40..42].copy_from_slice(&self.lease_ms.to_be_bytes());
        out[42] = self.health;
        out[43] = self.flags.0;
        let tag = hash(&keys.current, &out[..BODY_BYTES]);
        out[BODY_BYTES..].copy_from_slice(&tag);
        out
    }
}

/// Reads frames of one cluster and counts what it drops. Replays are seen by [`crate::step`], which knows what came before.
pub struct Decoder {
    /// The cluster that is listened to.
    pub cluster: u32,
    /// This node; its own frames are dropped.
    pub node: u8,
    /// Accepted keys.
    pub keys: Keys,
    /// What was dropped so far.
    pub drops: Drops,
}

impl Decoder {
    /// A decoder that has dropped nothing yet.
    #[must_use]
    pub fn new(cluster: u32, node: u8, keys: Keys) -> Self {
        Self { cluster, node, keys, drops: Drops::default() }
    }

    /// The frame in `bytes` that came over `link`.
    ///
    /// # Errors
    /// The class, which is also counted.
    pub fn decode(&mut self, link: Link, bytes: &[u8]) -> Result<Frame, Drop> {
        let read = self.read(link, bytes);
        if let Err(why) = read {
            self.drops.count(why);
        }
        read
    }

    fn read(&self, link: Link, bytes: &[u8]) -> Result<Frame, Drop> {
        let bytes: &[u8; FRAME_BYTES] = bytes.try_into().map_err(|_| Drop::Cut)?;
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if bytes[0] != VERSION {
            return Err(Drop::Version);
        }
        if word(4) != self.cluster {
            return Err(Drop::Cluster);
        }
        let (body, tag) = bytes.split_at(BODY_BYTES);
        let next = self.keys.next.is_some_and(|key| same(&hash(&key, body), tag));
        if !next && !same(&hash(&self.keys.current, body), tag) {
            return Err(Drop::Forged);
        }
        if bytes[2] == self.node {
            return Err(Drop::Own);
        }
        let state = NodeState::ALL.get(usize::from(bytes[3])).copied().ok_or(Drop::Meaning)?;
        if bytes[1] != link as u8 || bytes[2] > 1 {
            return Err(Drop::Meaning);
        }
        Ok(Frame {
            link,
            node: bytes[2],
            state,
            boot: word(8),
            seq: word(12),
            echo_boot: word(16),
            echo_seq: word(20),
            reign: word(24),
            ballot: word(28),
            position: u64::from(word(32)) << 32 | u64::from(word(36)),
            lease_ms: u16::from_be_bytes([bytes[40], bytes[41]]),
            health: bytes[42],
            flags: Flags(bytes[43]),
            config: word(44),
        })
    }
}

/// Fuzz entry point: any bytes, first with no key known, then behind a hash that fits.
pub fn fuzz(data: &[u8]) {
    let keys = Keys { current: [7; 32], next: None };
    let mut decoder = Decoder::new(0, 0, keys);
    let _ = decoder.decode(Link::Eth1, data);
    let mut sealed = [0; FRAME_BYTES];
    let n = data.len().min(BODY_BYTES);
    sealed[..n].copy_from_slice(&data[..n]);
    sealed[0] = VERSION;
    sealed[4..8].fill(0);
    let tag = hash(&[7; 32], &sealed[..BODY_BYTES]);
    sealed[BODY_BYTES..].copy_from_slice(&tag);
    for link in Link::ALL {
        if let Ok(frame) = decoder.decode(link, &sealed) {
            assert_eq!(frame.encode(0, &decoder.keys), sealed, "what was read is written back the same");
        }
    }
}
