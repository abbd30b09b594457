//! Frames, serial framing and records: any bytes, every class of a dropped frame, and the stream that finds its way back.

use proptest::prelude::*;
use twinpost_heartbeat::*;

fn keys(byte: u8) -> Keys {
    Keys { current: [byte; 32], next: None }
}

prop_compose! {
    fn frame()(link in 0..3_usize, state in 0..10_usize, words in any::<[u32; 7]>(), position: u64, lease_ms: u16, health: u8, flags: u8) -> Frame {
        const STATES: [NodeState; 10] = [
            NodeState::Boot, NodeState::StandbyIneligible, NodeState::StandbyEligible, NodeState::TakingOver, NodeState::ActiveSynced,
            NodeState::ActiveAlone, NodeState::Resync, NodeState::Draining, NodeState::Conflict, NodeState::Maintenance,
        ];
        let [boot, seq, echo_boot, echo_seq, reign, ballot, config] = words;
        Frame {
            link: Link::ALL[link], node: 1, state: STATES[state], boot, seq, echo_boot, echo_seq, reign, ballot, position,
            lease_ms, health, flags: Flags(flags), config,
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz_frame(&data);
        fuzz_serial(&data);
        let _ = Record::decode(&data);
    }

    #[test]
    fn a_frame_comes_back(frame in frame()) {
        let bytes = frame.encode(5, &keys(1));
        prop_assert_eq!(Decoder::new(5, 0, keys(1)).decode(frame.link, &bytes), Ok(frame));
    }

    #[test]
    fn one_flipped_bit_is_never_taken(frame in frame(), bit in 0..512_usize) {
        let mut bytes = frame.encode(5, &keys(1));
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Decoder::new(5, 0, keys(1)).decode(frame.link, &bytes).is_err());
    }

    #[test]
    fn the_stream_finds_its_way_back(frames in proptest::collection::vec(frame(), 1..8), garbage in proptest::collection::vec(any::<u8>(), 0..200), cut in 0..67_usize) {
        let mut stream = garbage;
        // A block that breaks off, and then good ones.
        stream.extend(&encode_serial(&frames[0].encode(5, &keys(1)))[..cut]);
        for frame in &frames {
            stream.extend(encode_serial(&frame.encode(5, &keys(1))));
        }
        let mut deframer = Deframer::new();
        let mut decoder = Decoder::new(5, 0, keys(1));
        let read: Vec<_> = stream.into_iter().filter_map(|byte| deframer.push(byte))
            .filter_map(|bytes| frames.iter().find_map(|frame| decoder.decode(frame.link, &bytes).ok())).collect();
        prop_assert!(read.ends_with(&frames), "every frame after the garbage comes through");
    }

    #[test]
    fn a_torn_record_is_none(writes: u32, boot: u32, reign: u32, peer_boot: u32, unshared: bool, at in 0..RECORD_BYTES) {
        let old = Record { writes: writes / 2, boot, reign, unshared, eligible: false, peer_boot };
        let new = Record { writes: writes / 2 + 1, ..old };
        prop_assert_eq!(newest_record([&old.encode(), &new.encode()]), Some(new));
        prop_assert_eq!(newest_record([&old.encode(), &new.encode()[..at]]), Some(old));
        prop_assert_eq!(newest_record([b"", b"TPR1"]), None);
    }

    /// Frames of any content and events in any order: no panic, and never an address without a proof.
    #[test]
    fn any_events_never_panic(frames in proptest::collection::vec((frame(), 0..2000_u32, 0..14_u8), 0..60)) {
        let settings = Settings { witness: true, fencing: true, evidence: true, ..Settings::default() };
        let mut state = State::start(None, 0);
        for (frame, elapsed_ms, kind) in frames {
            let writes = state.record.writes;
            let event = match kind {
                0 => Event::Tick,
                1 => Event::Stored(writes),
                2 => Event::Promoted(frame.health > 20),
                3 => Event::Demoted(true),
                4 => Event::ServicesStopped(true),
                5 => Event::Checked(frame.health > 99),
                6 => Event::Replication(Replication::Complete),
                7 => Event::Replication(Replication::Lost),
                8 => Event::Fence(FenceAnswer::Unread),
                9 => Event::Order(Order::Standby),
                // As from a peer that knows this boot.
                _ => Event::Frame(Frame { echo_boot: state.record.boot, boot: frame.boot % 4 + 1, ..frame }),
            };
            let (next, effects) = step(&settings, &state, elapsed_ms, event);
            prop_assert!(!next.address || next.proof.is_some());
            prop_assert!(effects.len() < 24);
            state = next;
        }
    }
}

#[test]
fn each_class_is_counted() {
    let sample = Frame {
        link: Link::Lan,
        node: 1,
        state: NodeState::StandbyEligible,
        boot: 1,
        seq: 1,
        echo_boot: 1,
        echo_seq: 0,
        reign: 1,
        ballot: 0,
        position: 0,
        lease_ms: 800,
        health: 255,
        flags: Flags(0),
        config: 1,
    };
    let bytes = sample.encode(5, &keys(1));
    let mut decoder = Decoder::new(5, 0, keys(1));
    assert!(decoder.decode(Link::Lan, &bytes).is_ok());
    let mut other_version = bytes;
    other_version[0] = 2;
    let cases = [
        (Drop::Cut, bytes[..63].to_vec()),
        (Drop::Version, other_version.to_vec()),
        (Drop::Cluster, sample.encode(6, &keys(1)).to_vec()),
        (Drop::Forged, sample.encode(5, &keys(2)).to_vec()),
        (Drop::Meaning, Frame { link: Link::Eth1, ..sample }.encode(5, &keys(1)).to_vec()),
        (Drop::Own, Frame { node: 0, ..sample }.encode(5, &keys(1)).to_vec()),
    ];
    for (class, bytes) in cases {
        assert_eq!(decoder.decode(Link::Lan, &bytes), Err(class));
        assert_eq!(decoder.drops.of(class), 1, "{class:?} is counted once");
    }
    // The next key is accepted beside the current one.
    decoder.keys.next = Some([2; 32]);
    assert!(decoder.decode(Link::Lan, &sample.encode(5, &keys(2))).is_ok());
}

#[test]
fn replays_are_refused_also_after_a_restart() {
    let settings = Settings::default();
    let (mut state, _) = step(&settings, &State::start(None, 0), 0, Event::Tick);
    (state, _) = step(&settings, &state, 0, Event::Stored(state.record.writes));
    let frame = Frame {
        link: Link::Lan,
        node: 1,
        state: NodeState::StandbyIneligible,
        boot: 1,
        seq: 7,
        echo_boot: 1,
        echo_seq: 0,
        reign: 0,
        ballot: 0,
        position: 0,
        lease_ms: 0,
        health: 255,
        flags: Flags(0),
        config: 0,
    };
    (state, _) = step(&settings, &state, 10, Event::Frame(frame));
    assert!(state.peer.is_some());
    let (again, _) = step(&settings, &state, 10, Event::Frame(frame));
    assert_eq!(again.replays, 1, "the same frame twice");
    let mut restarted = State::start(Some(state.record), 0);
    (restarted, _) = step(&settings, &restarted, 0, Event::Frame(frame));
    assert!(restarted.peer.is_none(), "a frame for the boot before is no sign of life");
}

#[test]
fn a_refused_order_names_every_reason() {
    let state = State::start(None, 0);
    let found: Vec<_> = reasons(&state, &Settings::default(), Order::Standby).iter().collect();
    assert_eq!(found, [Reason::NotActive, Reason::PeerSilent, Reason::PeerNotCurrent]);
    let found: Vec<_> = reasons(&state, &Settings::default(), Order::Takeover).iter().collect();
    assert_eq!(found, [Reason::PeerSilent, Reason::NotCurrent]);
}
