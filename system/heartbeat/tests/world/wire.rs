//! What only the simulator has: loss by chance, the real codec, a serial line that garbles and cuts, clocks that drift, slow disks,
//! and the counts of all that happened.

use twinpost_heartbeat::*;

use super::{Twist, World, random};

macro_rules! counts {
    ($($name:ident $words:literal)+) => {
        /// What a schedule may exercise.
        #[derive(Clone, Copy, Debug)]
        #[repr(usize)]
        pub enum Count { $($name),+ }

        /// In words.
        pub const WORDS: &[&str] = &[$($words),+];
    };
}

counts! {
    Crash "machines crashed"
    Killed "daemons killed"
    Stall "daemons stalled"
    Freeze "machines frozen"
    WatchdogReset "resets by the watchdog"
    Cut "links cut"
    Lost "frames lost"
    Garbled "serial bytes garbled"
    CutByte "serial bytes cut out"
    Added "serial bytes added"
    Dropped "serial blocks dropped"
    HeldFrame "frames held back"
    Drift "schedules with clocks that drift"
    SlowStore "slow writes of a state file"
    Torn "state files torn"
    WitnessGone "witness losses"
    WitnessHeld "claims held back by a fresh lease"
    LeaseEnded "leases ended"
    SwitchLies "power switches unread"
    PeerGone "hints that nobody listens"
    Forged "such hints made up"
    PromoteFailed "promotions failed"
    StopFailed "stops failed"
    Resync "resyncs"
    ResyncBroken "resyncs broken off"
    Preempted "reservations taken away"
    Unasked "locks that came unasked"
    Order "planned switches ordered"
    Unwell "nodes unwell"
    Healthier "handed over to the healthier"
    Force "forced by the administrator"
    Diverged "copies found diverged"
    Conflict "conflicts"
    GaveWay "conflicts ended by an order"
    ByRelease "takeovers by release"
    ByFence "takeovers by fencing"
    ByWitness "takeovers by the witness"
    ByReservation "takeovers by reservation"
    ByEvidence "takeovers by evidence"
    ByForce "takeovers by force"
}

/// How many there are.
pub const COUNTS: usize = WORDS.len();

impl Count {
    pub fn of(proof: Proof) -> Self {
        match proof {
            Proof::Release => Self::ByRelease,
            Proof::Fenced => Self::ByFence,
            Proof::Witness => Self::ByWitness,
            Proof::Reservation => Self::ByReservation,
            Proof::Evidence => Self::ByEvidence,
            Proof::Forced => Self::ByForce,
        }
    }
}

/// Of one schedule.
#[derive(Clone, Debug)]
pub struct Sim {
    /// Random loss in percent and its generator.
    pub loss: u64,
    pub seed: u64,
    /// What each node's clock gains in a tick.
    pub drift_ms: [i32; 2],
    /// How long a state file takes, 0 for no time; a crash before tears it.
    pub slow_ms: u32,
    pub pending: [Option<(u32, Record)>; 2],
    /// A byte that should not have been believed was.
    pub believed: bool,
    pub counts: [u32; COUNTS],
    deframers: [Deframer; 2],
}

// No model explores it: it makes no two states differ.
impl PartialEq for Sim {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Sim {}

impl std::hash::Hash for Sim {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl Sim {
    pub fn new(seed: u64, drift_ms: [i32; 2], slow_ms: u32) -> Box<Self> {
        Box::new(Self {
            loss: 5,
            seed: seed | 1,
            drift_ms,
            slow_ms,
            pending: [None; 2],
            believed: false,
            counts: [0; COUNTS],
            deframers: [Deframer::new(), Deframer::new()],
        })
    }
}

const KEYS: Keys = Keys { current: [3; 32], next: None };

/// The frame without a look at its hash.
fn believe(cluster: u32, to: u8, bytes: &[u8; FRAME_BYTES]) -> Option<Frame> {
    let mut frame = *bytes;
    frame[1] = Link::Serial as u8;
    // What a decoder without a key would take: the same body under the right hash.
    let body = &frame[..48];
    let mut hasher = blake3::Hasher::new_keyed(&KEYS.current);
    hasher.update(body);
    let tag = *hasher.finalize().as_bytes();
    frame[48..].copy_from_slice(&tag[..16]);
    Decoder::new(cluster, to, KEYS).decode(Link::Serial, &frame).ok()
}

impl World {
    /// Through the real codec; the serial line garbles and cuts, and what it spoils may spoil the next block too, or bring it late.
    pub fn through_wire(&mut self, n: usize, frame: &Frame) -> Option<Frame> {
        let believed = self.fixed.twist == Twist::BytesAreBelieved;
        let sim = self.sim.as_mut()?;
        if sim.loss > 0 && random(&mut sim.seed) % 100 < sim.loss {
            sim.counts[Count::Lost as usize] += 1;
            return None;
        }
        let bytes = frame.encode(9, &KEYS);
        let mut decoder = Decoder::new(9, 1 - n as u8, KEYS);
        if frame.link != Link::Serial {
            return decoder.decode(frame.link, &bytes).ok();
        }
        let garble = sim.loss > 0 && random(&mut sim.seed) % 100 < 2 * sim.loss;
        let at = if garble { (random(&mut sim.seed) % ENCODED_BYTES as u64) as usize } else { usize::MAX };
        let mut out = None;
        let deframer = &mut sim.deframers[n];
        for (i, mut byte) in encode_serial(&bytes).into_iter().enumerate() {
            if i == at {
                let kind = random(&mut sim.seed) % 3;
                sim.counts[[Count::CutByte, Count::Garbled, Count::Added][kind as usize] as usize] += 1;
                match kind {
                    0 => continue,
                    1 => byte ^= 1 << (random(&mut sim.seed) % 8),
                    _ => drop(deframer.push(random(&mut sim.seed) as u8)),
                }
            }
            if let Some(block) = deframer.push(byte) {
                out = decoder.decode(Link::Serial, &block).ok();
                if believed && out.is_none() {
                    out = believe(9, 1 - n as u8, &block);
                    sim.believed |= out.is_some();
                }
            }
        }
        sim.counts[Count::Dropped as usize] += u32::from(out.is_none());
        out
    }
}
