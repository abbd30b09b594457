//! Settings of a node, and the switches by which tests prove that each safety rule is needed.

/// Times and means of a node. Both nodes of a pair must agree on the times; the defaults are the design's start values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Settings {
    /// This node: 0 or 1.
    pub node: u8,
    /// Between two frames on eth1 and LAN.
    pub keepalive_ms: u32,
    /// Between two frames on the serial line.
    pub serial_keepalive_ms: u32,
    /// Silence after which a standby asks for a release.
    pub warn_ms: u32,
    /// Life of a lease; silence after which the means other than a release are used.
    pub lease_ms: u32,
    /// The hardware watchdog resets the node this long after the last feed at the latest; 0 without one.
    pub watchdog_ms: u32,
    /// Added to lease + watchdog before a winner at the witness serves: drift of both clocks and the time that an address rule needs.
    pub margin_ms: u32,
    /// After a start, how long to wait for the peer before a node that holds the newest data looks for a proof.
    pub first_contact_ms: u32,
    /// Between two tries of fencing, of the witness or of the reservation.
    pub retry_ms: u32,
    /// The address is announced at once, after this and again after five times this.
    pub announce_ms: u32,
    /// A witness is configured.
    pub witness: bool,
    /// The peer's power can be switched and read back.
    pub fencing: bool,
    /// The data is on a dual-attached array with exclusive reservations: there is one copy, and it never diverges.
    pub reservation: bool,
    /// That reservation is a lock: it never takes anything from a living holder (off the image, a locked directory). Asking for it is
    /// then harmless and done at `warn_ms`; false is one that preempts (SCSI-3), asked for at `lease_ms` like the other means.
    ///
    /// Of either kind: the storage cannot be promoted without the reservation, and nobody writes who lost it. So an active on an array
    /// needs no lease of the witness, whoever else may have what proof, and a standby does not ask the witness: the array says more.
    /// The driver tells [`crate::Event::Position`], the reign of the last promotion, which stands beside the reservation: at the start
    /// (0 is none), and before `Reservation(true)`, so that no reign is used twice. It answers [`crate::Effect::Resync`] with
    /// [`crate::Replication::Complete`] at once and need never say `Lost`: a peer that is silent for a lease is not current any more.
    pub reservation_excludes: bool,
    /// HA.md `takeover = "evidence"`; false is `takeover = "proof"`.
    pub evidence: bool,
    /// Health that frames carry, 0 (worst) to 255. The daemon may change it between two steps.
    pub health: u8,
    /// An active that is clearly less healthy than its eligible peer for so long hands over, as by an order; 0 = never. Clearly: `health`
    /// is lower by [`Settings::HEALTH_STEP`] or more, or the gateway answers there and not here ([`crate::Event::Ping`]; a lost LAN
    /// carrier is told as a lost ping), and neither speaks for this node. A node that took over keeps the services six times as long.
    pub prefer_after_ms: u32,
    /// Generation of the config document.
    pub config: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            node: 0,
            keepalive_ms: 200,
            serial_keepalive_ms: 500,
            warn_ms: 400,
            lease_ms: 800,
            watchdog_ms: 1000,
            margin_ms: 100,
            first_contact_ms: 30_000,
            retry_ms: 1000,
            announce_ms: 1000,
            witness: false,
            fencing: false,
            reservation: false,
            reservation_excludes: false,
            evidence: false,
            health: 255,
            prefer_after_ms: 0,
            config: 0,
        }
    }
}

impl Settings {
    /// Health that differs by less is not told apart.
    pub const HEALTH_STEP: u8 = 64;

    /// Whether an active whose peer may take over needs a lease: only a witness says who may without the other hearing it, and on an
    /// array no such word counts.
    #[must_use]
    pub const fn leases(&self) -> bool {
        self.witness && !self.reservation
    }

    /// HA.md "the winner waits lease + watchdog + margin after the last grant that it sent".
    #[must_use]
    pub const fn wait_ms(&self) -> u32 {
        self.lease_ms.saturating_add(self.watchdog_ms).saturating_add(self.margin_ms)
    }
}

/// The safety rules as switches. [`crate::step`] always runs [`Rules::ALL`]; with one of them off, a test must see the pair break.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rules {
    /// After a boot a node alone waits for its peer.
    pub wait_for_all: bool,
    /// A power switch counts only when the power was read back as off.
    pub read_power_back: bool,
    /// 250 only when the peer has the bytes, or alone under a new reign with a proof.
    pub peer_has_bytes: bool,
    /// The service address expires by itself: a stalled node stops.
    pub address_expires: bool,
    /// The active stops itself when its lease ends.
    pub stop_at_lease_end: bool,
    /// A winner at the witness waits lease + watchdog + margin.
    pub wait_out_lease: bool,
    /// A ping to the gateway is no proof.
    pub ping_is_no_proof: bool,
    /// Eligibility is forgotten at a boot.
    pub forget_eligibility: bool,
    /// A standby takes over only with the word of the witness, if there is one, whatever else tells that the active is off.
    pub witness_decides: bool,
    /// A reservation proves nothing for a node that had no right to ask for it.
    pub reservation_needs_right: bool,
    /// "Nobody listens there" is no proof.
    pub gone_is_no_proof: bool,
    /// A node whose lease ended gives up its right to serve again with the first promise.
    pub lapse_ends: bool,
}

impl Rules {
    /// Every rule in force: production.
    pub const ALL: Self = Self {
        wait_for_all: true,
        read_power_back: true,
        peer_has_bytes: true,
        address_expires: true,
        stop_at_lease_end: true,
        wait_out_lease: true,
        ping_is_no_proof: true,
        forget_eligibility: true,
        witness_decides: true,
        reservation_needs_right: true,
        gone_is_no_proof: true,
        lapse_ends: true,
    };
}
