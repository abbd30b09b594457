//! The words of the state machine: what it is, what it hears, what it asks for.
//!
//! Contract: plain values without allocation; timers count down and ages count up in ms, so that a state says nothing about any
//! clock and equal situations are equal values (the model checker lives on that).

use crate::frame::{Frame, Link, NodeState};
use crate::orders::{Order, Reasons};
use crate::record::Record;

/// Where a node is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// Waits for its peer (HA.md "wait-for-all").
    Boot,
    /// Does not serve.
    Standby,
    /// Asks for a proof.
    Claim,
    /// Won at the witness; waits until the loser's lease is over.
    Wait,
    /// Has a proof; its reign is being stored.
    Store,
    /// Its storage is being promoted.
    Promote,
    /// Serves.
    Active,
    /// Its address is leaving and its services are being stopped.
    Stop,
    /// Its storage is being demoted.
    Demote,
    /// Waits for the administrator.
    Conflict,
    /// Has cut its own power.
    Fenced,
}

/// The mirror as the active sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mirror {
    /// The peer may lack data and cannot take over.
    Alone,
    /// The peer is catching up.
    Resync,
    /// The peer has every byte; "the peer has it" is being stored before it is granted.
    Granting,
    /// The peer has every byte and may know it.
    Synced,
    /// The peer may know that it is current, but is out of reach: no write is answered.
    Held,
}

/// Why a node may ask for a reign.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Grounds {
    /// Eligible: any proof will do, but where there is a witness, it is asked: the active may have gone on alone by its word.
    Eligible,
    /// Its own record says that it was active alone: any proof will do.
    Newest,
    /// Both were heard and this node's data is not older: only the other's release will do, for if the other falls silent now it
    /// may have gone on by a proof of its own.
    Agreed,
    /// Active, and lost its mirror: any proof will do.
    Mirror,
    /// Was active, its lease ended, and nobody was heard since: its data is as new as any that the witness does not know of.
    /// So the witness is asked.
    Lapsed,
}

/// A reign that is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Claim {
    /// The reign.
    pub ballot: u32,
    /// Why.
    pub grounds: Grounds,
    /// Until fencing, witness and a preempting reservation are tried again.
    pub retry_left_ms: u32,
    /// The peer is known not to serve, and by what; the witness has still to say that it has no newer data.
    pub off: Option<Proof>,
}

/// HA.md "proof: why a node may become active".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Proof {
    /// The peer's own authenticated word.
    Release,
    /// The peer's power was read back as off.
    Fenced,
    /// Compare-and-set at the witness, waited out.
    Witness,
    /// The disk's exclusive reservation.
    Reservation,
    /// No carrier, modem lines low, LAN silent.
    Evidence,
    /// The administrator's word.
    Forced,
}

/// The last that was heard of the peer in this boot of both.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Peer {
    /// Its newest frame.
    pub frame: Frame,
    /// Age of that frame.
    pub silent_ms: u32,
}

/// What the power switch said.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FenceAnswer {
    /// The peer's power was read back as off.
    Off,
    /// The order was taken, nothing was read back.
    Unread,
    /// It failed, or the power was read back as on.
    Failed,
}

/// What the storage driver says of the mirror.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Replication {
    /// Connected, the peer is behind (to the active).
    Behind,
    /// Connected, the peer has every byte (to the active).
    Complete,
    /// Lost: the driver holds writes and asks (to the active).
    Lost,
    /// This node's copy is whole again (to a standby).
    CopyWhole,
    /// This node's copy is being overwritten (to a standby).
    CopyPartial,
    /// The driver itself found diverged data.
    Diverged,
}

/// What happened. Time comes in beside it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// Nothing but time.
    Tick,
    /// An authentic frame came.
    Frame(Frame),
    /// The record with this number of writes is on disk.
    Stored(u32),
    /// The storage was promoted, or could not be.
    Promoted(bool),
    /// The storage was demoted, or could not be.
    Demoted(bool),
    /// The services have started, to be checked next.
    ServicesUp,
    /// The services have stopped, or a stop failed.
    ServicesStopped(bool),
    /// What the check from outside said.
    Checked(bool),
    /// The mirror changed.
    Replication(Replication),
    /// How far this node's data is.
    Position(u64),
    /// The power switch answered.
    Fence(FenceAnswer),
    /// The witness gave the reign to this node; its last grant to the peer is `granted_ms` old (`u32::MAX`: none known).
    WitnessWon {
        /// The reign.
        reign: u32,
        /// Age of the last renewal that the witness gave to the peer, at the moment of the compare-and-set.
        granted_ms: u32,
    },
    /// The witness knows a newer reign, the peer's.
    WitnessLost {
        /// That reign.
        reign: u32,
    },
    /// The witness refused a claim because the peer's lease there is fresh: nothing changed.
    WitnessHeld {
        /// Until that lease ends, if it is not renewed.
        left_ms: u32,
    },
    /// The witness renewed the lease asked for under this number.
    WitnessRenewed(u32),
    /// The reservation is (or is no longer) this node's: the answer to [`Effect::Reserve`], or unasked. A driver that waits on a lock
    /// says `true` the moment it has it.
    Reservation(bool),
    /// The peer's kernel says that nobody listens there (a refused datagram). A hint: it lets an eligible standby *ask* at once, for a
    /// release and for a reservation that excludes. Anyone on the network could make it up, so it proves nothing; a frame ends it.
    PeerGone,
    /// Carrier of eth1.
    Carrier(bool),
    /// Modem lines of the null-modem cable: true while the peer raises them.
    ModemLines(bool),
    /// The gateway answered a ping, or did not.
    Ping(bool),
    /// Diverged data of this node was set aside for the merge.
    SetAside,
    /// The administrator's order.
    Order(Order),
}

/// How writes are answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Writes {
    /// When the peer has the bytes.
    Mirrored,
    /// Not at all: the caller waits, then 451.
    Held,
    /// When this node has the bytes.
    Alone,
}

/// What people must hear.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Alarm {
    /// This node took over, by this proof.
    TookOver(Proof),
    /// The mirror was lost and this node goes on alone, by this proof.
    Alone(Proof),
    /// The mirror was lost and there is no proof yet: mail waits.
    MailWaits,
    /// The mirror is whole again.
    Synced,
    /// This node stopped serving because its lease ended.
    LeaseEnded,
    /// The peer holds a newer reign; this node stopped serving.
    Deposed,
    /// Both hold data that the other lacks.
    Conflict,
    /// The storage could not be promoted.
    PromoteFailed,
    /// Services fail and the peer cannot take them.
    ServicesFail,
    /// Services still fail after restarts in place; the peer takes over.
    Switching,
    /// The peer is healthier and takes over.
    Healthier,
    /// Something did not stop; this node cuts its own power.
    SelfFenced,
    /// The power switch failed or could not be read.
    FenceFailed,
    /// No frame comes over this link.
    LinkSilent(Link),
    /// Maintenance ended by itself.
    MaintenanceEnded,
}

/// What the daemon must do, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// Send on the frame's link.
    Send(Frame),
    /// Write with fsync, then [`Event::Stored`].
    Store(Record),
    /// Make the storage writable here, then [`Event::Promoted`]. It takes no more writes of the peer.
    Promote,
    /// Then [`Event::Demoted`].
    Demote,
    /// The service address here for so long from the *moment at which the event was taken in*, by a kernel rule that expires.
    Address {
        /// `None` only when a test switches the rule off.
        expires_ms: Option<u32>,
    },
    /// Take the address away.
    AddressDown,
    /// Gratuitous ARP and unsolicited neighbour advertisement.
    Announce,
    /// Start the service group, then [`Event::ServicesUp`].
    StartServices,
    /// Stop it, then [`Event::ServicesStopped`].
    StopServices,
    /// Stop and start it in place, then [`Event::ServicesUp`].
    RestartServices,
    /// Check it from outside (and go on checking), then [`Event::Checked`].
    Check,
    /// How writes are answered from now on.
    Writes(Writes),
    /// The peer's copy may be overwritten from this node's. (The peer's driver refuses that while its own record says `unshared`: it may
    /// have started anew since.)
    Resync,
    /// Cut the peer's power and read back, then [`Event::Fence`].
    Fence,
    /// Compare-and-set: `new` for this node if the witness knows nothing above `knows` that is the peer's.
    WitnessClaim {
        /// Reign of this node's data.
        knows: u32,
        /// Wanted.
        new: u32,
    },
    /// Renew the lease, unless the witness knows a newer reign of the peer.
    WitnessRenew {
        /// This node's.
        reign: u32,
        /// Comes back in [`Event::WitnessRenewed`].
        ask: u32,
    },
    /// Take the exclusive reservation, then [`Event::Reservation`]. One that excludes may be asked for at any time; its driver may go on
    /// waiting after it answered `false`, until [`Effect::Unreserve`].
    Reserve,
    /// Give the lock back and wait for it no longer, as by a demotion (its answer is not waited for): it came to a node that may not use
    /// it, and the peer may.
    Unreserve,
    /// The hardware watchdog may live on.
    FeedWatchdog,
    /// Cut this node's own power.
    SelfFence,
    /// Keep this node's diverged data for the merge, then [`Event::SetAside`].
    KeepAside,
    /// Tell people.
    Alarm(Alarm),
    /// The order is not followed; all reasons.
    Refused(Reasons),
}

/// At most so many effects of one step.
pub type Effects = heapless::Vec<Effect, 24>;

/// A node's mind.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    /// Where it is.
    pub phase: Phase,
    /// The mirror, while active.
    pub mirror: Mirror,
    /// As last given to the disk.
    pub record: Record,
    /// It must be given to the disk in this step.
    pub dirty: bool,
    /// That record is on disk.
    pub stored: bool,
    /// The boot id is on disk: frames may leave.
    pub live: bool,
    /// Reign and `unshared` before the last proof, should its storage not follow.
    pub prior: (u32, bool),
    /// Going on alone as soon as the record is stored.
    pub settling: bool,
    /// The service address is here.
    pub address: bool,
    /// The last word of the mirror to an active.
    pub replication: Replication,
    /// Highest reign that this node ever asked for in this boot: none is asked for twice, so that a late promise finds no claim.
    pub claimed: u32,
    /// Age of the last restart in place, or of the last time that the services were passed to the peer.
    pub restart_age_ms: u32,
    /// How far the data is.
    pub position: u64,
    /// The copy is whole (no resync into it is under way).
    pub whole: bool,
    /// The driver found that the copies diverged, and this one has not given way.
    pub diverged: bool,
    /// Live: this standby's data is current.
    pub eligible: bool,
    /// A reign that is asked for.
    pub claim: Option<Claim>,
    /// Highest reign promised to the peer.
    pub promised: u32,
    /// The promise stands.
    pub promising: bool,
    /// How the last proof came.
    pub proof: Option<Proof>,
    /// Boot id of the peer, 0 for never heard.
    pub peer_boot: u32,
    /// Newest sequence of the peer on each link.
    pub last_seq: [u32; 3],
    /// Newest sequence of the peer over all.
    pub newest_seq: u32,
    /// Authentic frames dropped as replays.
    pub replays: u32,
    /// The peer, if it was heard in this boot of both.
    pub peer: Option<Peer>,
    /// The peer's kernel says that nobody listens, and no frame came since.
    pub gone: bool,
    /// A frame belied that word: not listened to for so long.
    pub gone_deaf_ms: u32,
    /// Silence of each link.
    pub link_silent_ms: [u32; 3],
    /// Sequence of the last frame sent.
    pub seq: u32,
    /// Until the next frame on each link.
    pub send_left_ms: [u32; 3],
    /// Lease of an active whose peer may take over at the witness.
    pub lease_left_ms: u32,
    /// The frame that asks for a lease, and its age.
    pub ask: Option<(u32, u32)>,
    /// The renewal asked of the witness, and its age.
    pub renew: Option<(u32, u32)>,
    /// Age of the last lease granted to the peer.
    pub granted_age_ms: u32,
    /// The reservation was asked for and not yet answered.
    pub reserving: bool,
    /// Until a reservation that excludes is asked for again.
    pub reserve_left_ms: u32,
    /// A claim was given up: until the next. Without it two conditions that disagree would claim as fast as the network answers.
    pub rest_left_ms: u32,
    /// This node's lease ended while it was active, and since then it promised nothing and heard of nobody newer.
    pub lapsed: bool,
    /// How long the peer has clearly been the healthier one.
    pub worse_ms: Option<u32>,
    /// How long this node is active, counted while health decides.
    pub active_ms: u32,
    /// Of the winner at the witness.
    pub wait_left_ms: u32,
    /// Since the start, saturating at `first_contact_ms`.
    pub up_ms: u32,
    /// While above 0 this node leaves the reign to the peer.
    pub yield_left_ms: u32,
    /// While above 0 nothing is taken over or handed over by itself.
    pub maintenance_left_ms: u32,
    /// Restarts in place so far.
    pub restarts: u8,
    /// How often in turn this node passed the services to its peer because they fail: each time it first tries twice as often itself, so
    /// that services that fail on both nodes are not passed to and fro without end.
    pub passes: u8,
    /// The services were checked from outside since this node became active.
    pub checked: bool,
    /// Announcements still to come, and the time until the next.
    pub announce: (u8, u32),
    /// Resync was allowed.
    pub resync_allowed: bool,
    /// A serious alarm that lasts was told.
    pub told: bool,
    /// Carrier of eth1.
    pub carrier: bool,
    /// Modem lines of the serial cable.
    pub modem_lines: bool,
    /// The gateway answers.
    pub ping: bool,
}

impl State {
    /// A node that starts. `record` is what [`crate::newest_record`] found, `position` how far its data is. A node with data and without
    /// a record cannot know whose data it holds and starts in `conflict`. The first effect stores the new boot id; no
    /// frame leaves before that.
    #[must_use]
    pub fn start(record: Option<Record>, position: u64) -> Self {
        let old = record.unwrap_or_default();
        Self {
            phase: if record.is_none() && position > 0 { Phase::Conflict } else { Phase::Boot },
            mirror: Mirror::Alone,
            record: Record { boot: old.boot.saturating_add(1), ..old },
            dirty: true,
            stored: false,
            live: false,
            prior: (old.reign, old.unshared),
            settling: false,
            address: false,
            replication: Replication::Lost,
            claimed: 0,
            restart_age_ms: 0,
            position,
            whole: true,
            diverged: false,
            eligible: false,
            claim: None,
            promised: old.reign,
            promising: false,
            proof: None,
            peer_boot: old.peer_boot,
            last_seq: [0; 3],
            newest_seq: 0,
            replays: 0,
            peer: None,
            gone: false,
            gone_deaf_ms: 0,
            link_silent_ms: [0; 3],
            seq: 0,
            send_left_ms: [0; 3],
            lease_left_ms: 0,
            ask: None,
            renew: None,
            granted_age_ms: u32::MAX,
            reserving: false,
            reserve_left_ms: 0,
            rest_left_ms: 0,
            lapsed: false,
            worse_ms: None,
            active_ms: 0,
            wait_left_ms: 0,
            up_ms: 0,
            yield_left_ms: 0,
            maintenance_left_ms: 0,
            restarts: 0,
            passes: 0,
            checked: false,
            announce: (0, 0),
            resync_allowed: false,
            told: false,
            carrier: true,
            modem_lines: true,
            ping: true,
        }
    }

    /// What this node tells the world that it is.
    #[must_use]
    pub const fn node_state(&self) -> NodeState {
        match self.phase {
            Phase::Conflict => NodeState::Conflict,
            Phase::Claim | Phase::Wait | Phase::Store | Phase::Promote => NodeState::TakingOver,
            Phase::Active => match self.mirror {
                Mirror::Alone => NodeState::ActiveAlone,
                Mirror::Resync | Mirror::Granting => NodeState::Resync,
                Mirror::Synced | Mirror::Held => NodeState::ActiveSynced,
            },
            Phase::Stop | Phase::Demote => NodeState::Draining,
            _ if self.maintenance_left_ms > 0 => NodeState::Maintenance,
            Phase::Boot => NodeState::Boot,
            Phase::Standby | Phase::Fenced if self.eligible => NodeState::StandbyEligible,
            Phase::Standby | Phase::Fenced => NodeState::StandbyIneligible,
        }
    }

    /// The reign that this node's answers belong to: the old one until a new one is stored.
    #[must_use]
    pub const fn reign(&self) -> u32 {
        if self.settling && matches!(self.mirror, Mirror::Held) { self.prior.0 } else { self.record.reign }
    }

    /// Whether the services are this node's.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Active | Phase::Stop | Phase::Demote)
    }

    /// The peer, if it was heard within `ms`.
    #[must_use]
    pub fn peer_within(&self, ms: u32) -> Option<Frame> {
        self.peer.filter(|peer| peer.silent_ms < ms).map(|peer| peer.frame)
    }

    /// HA.md "so with a witness the active serves only while it holds a lease": needed while the peer may know that it is eligible.
    /// Alone under a reign of its own no peer can win, and none is needed. `leases` is [`crate::Settings::leases`].
    #[must_use]
    pub const fn needs_lease(&self, leases: bool) -> bool {
        leases && matches!(self.mirror, Mirror::Synced | Mirror::Held)
    }
}
