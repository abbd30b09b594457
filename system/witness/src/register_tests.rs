//! Rules of the register against an onlooker that remembers everything.

use super::*;
use proptest::prelude::*;

fn ask(register: &mut Register, node: u8, question: Question, now_ms: u64) -> Verdict {
    let decision = register.decide(node, question, now_ms);
    register.take(&decision);
    decision.verdict
}

fn claim(register: &mut Register, node: u8, knows: u32, new: u32, now_ms: u64) -> Verdict {
    ask(register, node, Question::Claim { knows, new, lease_ms: 800 }, now_ms)
}

fn renew(register: &mut Register, node: u8, reign: u32, now_ms: u64) -> Verdict {
    ask(register, node, Question::Renew { reign, lease_ms: 800 }, now_ms)
}

fn won(reign: u32, granted_ms: u32) -> Verdict {
    Verdict::Claim(Claimed::Won { reign, granted_ms })
}

const LOST_AT_6: Verdict = Verdict::Claim(Claimed::Lost { reign: 6 });
const RENEWED: Verdict = Verdict::Renew(Renewed::Renewed);

#[test]
fn the_first_wins_and_may_ask_again() {
    let mut r = Register::new(Record::default(), 0);
    assert_eq!(claim(&mut r, 0, 5, 6, 0), won(6, u32::MAX));
    assert_eq!(claim(&mut r, 1, 5, 6, 1), LOST_AT_6);
    assert_eq!(claim(&mut r, 1, 5, 7, 2), LOST_AT_6, "a peer that does not know reign 6 has not seen its data");
    assert_eq!(claim(&mut r, 0, 5, 6, 3), won(6, u32::MAX));
    assert_eq!(claim(&mut r, 1, 6, 7, 4), won(7, u32::MAX), "a winner that never renewed has no lease");
}

#[test]
fn a_renewing_active_is_not_deposed() {
    let mut r = Register::new(Record::default(), 0);
    claim(&mut r, 0, 0, 1, 0);
    assert_eq!(renew(&mut r, 0, 1, 1000), RENEWED);
    assert_eq!(claim(&mut r, 1, 1, 2, 1500), Verdict::Claim(Claimed::Held { left_ms: 300 }));
    assert_eq!(claim(&mut r, 1, 1, 2, 1800), won(2, 800));
    assert_eq!(renew(&mut r, 0, 1, 1801), Verdict::Renew(Renewed::Lost { reign: 2 }));
    assert_eq!(claim(&mut r, 1, 1, 2, 2000), won(2, 1000), "the age is that of the repeated answer");
}

#[test]
fn a_restarted_witness_counts_from_its_own_start() {
    let mut r = Register::new(Record::default(), 0);
    claim(&mut r, 0, 0, 1, 0);
    renew(&mut r, 0, 1, 10);
    let mut r = Register::new(r.record(), 0);
    assert_eq!(claim(&mut r, 1, 1, 2, 5), Verdict::Claim(Claimed::Held { left_ms: 795 }));
    assert_eq!(claim(&mut r, 0, 1, 2, 5), won(2, u32::MAX), "the holder itself need not wait, and the peer never renewed");
    assert_eq!(claim(&mut r, 1, 2, 3, 900), won(3, 900));
}

#[test]
fn a_reign_won_elsewhere_is_stored_by_its_renewal() {
    let mut r = Register::new(Record::default(), 0);
    claim(&mut r, 0, 0, 1, 0);
    assert_eq!(renew(&mut r, 1, 4, 10), RENEWED);
    assert_eq!(r.record(), Record { reign: 4, holder: 1, longest_ms: [0, 800] });
    assert_eq!(claim(&mut r, 0, 1, 5, 10_000), Verdict::Claim(Claimed::Lost { reign: 4 }));
}

#[test]
fn two_that_renew_one_reign_never_both_get_it() {
    let mut r = Register::new(Record::default(), 0);
    claim(&mut r, 0, 0, 1, 0);
    assert_eq!(renew(&mut r, 1, 1, 10), RENEWED, "node 0 released its claim: it never renewed");
    assert_eq!(renew(&mut r, 0, 1, 20), Verdict::Renew(Renewed::Lost { reign: 1 }));
    assert_eq!(claim(&mut r, 0, 0, 1, 30), Verdict::Claim(Claimed::Lost { reign: 1 }));
}

#[test]
fn senseless_questions_change_nothing() {
    let mut r = Register::new(Record::default(), 0);
    for (node, question) in [
        (2, Question::Read),
        (0, Question::Claim { knows: 3, new: 3, lease_ms: 800 }),
        (0, Question::Claim { knows: 3, new: 4, lease_ms: 0 }),
        (0, Question::Claim { knows: 3, new: 4, lease_ms: MAX_LEASE_MS + 1 }),
        (1, Question::Renew { reign: 0, lease_ms: 800 }),
        (1, Question::Renew { reign: 1, lease_ms: 0 }),
    ] {
        assert_eq!(ask(&mut r, node, question, 0), Verdict::Refused(Refusal::Senseless));
    }
    assert_eq!(r.record(), Record::default());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Claim { node: u8, knows: u32, above: u32 },
    Renew { node: u8, reign: u32 },
    Wait(u64),
    Restart,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2u8, 0..8u32, 1..3u32).prop_map(|(node, knows, above)| Step::Claim { node, knows, above }),
        4 => (0..2u8, 1..9u32).prop_map(|(node, reign)| Step::Renew { node, reign }),
        3 => (0..1000u64).prop_map(Step::Wait),
        1 => Just(Step::Restart),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    /// Over any history: one winner a reign, no reign lost, no fresh lease deposed by a claim, and no age told that is above the true one.
    #[test]
    fn never_two_and_never_too_old(steps in proptest::collection::vec(step(), 1..60)) {
        let mut r = Register::new(Record::default(), 0);
        let (mut now, mut started) = (0u64, 0u64);
        let mut winner = std::collections::HashMap::new();
        let mut leases: [Option<u64>; 2] = [None, None];
        for step in steps {
            let before = r.record();
            match step {
                Step::Wait(ms) => now += ms,
                // A new run counts from 0, a register that is only opened anew goes on counting.
                Step::Restart => {
                    r = Register::new(r.record(), 0);
                    started = now;
                }
                Step::Reopen => r = Register::new(r.record(), now - started),
                Step::Claim { node, knows, above } => {
                    let new = knows + above;
                    let peer = usize::from(1 - node);
                    if let Verdict::Claim(Claimed::Won { reign, granted_ms }) = claim(&mut r, node, knows, new, now - started) {
                        prop_assert_eq!(reign, new);
                        prop_assert_eq!(*winner.entry(new).or_insert(node), node, "two winners of one reign");
                        let true_age = leases[peer].map_or(u64::from(u32::MAX), |at| now - at);
                        prop_assert!(u64::from(granted_ms) <= true_age, "told {} of {}", granted_ms, true_age);
                        let deposed = before.reign > 0 && before.holder != node;
                        prop_assert!(!deposed || true_age >= 800, "a fresh lease was deposed");
                        prop_assert!(!deposed || before.reign <= knows);
                    }
                }
                Step::Renew { node, reign } => {
                    if renew(&mut r, node, reign, now - started) == RENEWED {
                        prop_assert!(before.holder == node || before.reign <= reign, "renewed below the peer's reign");
                        leases[usize::from(node)] = Some(now);
                        winner.insert(r.record().reign, node);
                    }
                }
            }
            prop_assert!(r.record().reign >= before.reign, "a reign was forgotten");
        }
    }
}
