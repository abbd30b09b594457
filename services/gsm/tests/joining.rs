//! The joiner: many messages at once, out of order, twice, too many of them. Every part handed in comes out exactly once.

use proptest::collection::vec;
use proptest::prelude::*;
use twinpost_gsm::{Address, Concatenation, Joiner, Lost, Pushed};

fn from(number: u8) -> Address {
    Address::parse(&format!("+86138{number:08}")).expect("a number")
}

fn part(reference: u16, total: u8, number: u8) -> Concatenation {
    Concatenation { wide: false, reference, total, number }
}

#[test]
fn different_messages_do_not_mix() {
    let mut joiner = Joiner::<&str, 8, 32>::new();
    let none = |lost: Lost<&str>| panic!("{lost:?}");
    let wide = Concatenation { wide: true, ..part(1, 2, 1) };
    for (n, (sender, concatenation)) in
        [(1, part(1, 2, 1)), (2, part(1, 2, 1)), (1, part(2, 2, 1)), (1, part(1, 3, 1)), (1, wide)].into_iter().enumerate()
    {
        let pushed = joiner.push(&from(sender), concatenation, 0, "first", none);
        assert_eq!(pushed, Pushed::Waiting { have: 1, total: concatenation.total });
        assert_eq!(joiner.len(), n + 1);
    }
    let Pushed::Complete(complete) = joiner.push(&from(2), part(1, 2, 2), 1, "second", none) else { panic!("complete") };
    assert_eq!(joiner.take(complete).collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(joiner.len(), 4);
    // One part of one: complete at once.
    let Pushed::Complete(complete) = joiner.push(&from(3), part(1, 1, 1), 1, "alone", none) else { panic!("complete") };
    assert_eq!(joiner.take(complete).collect::<Vec<_>>(), ["alone"]);
}

#[test]
fn the_same_part_twice() {
    let mut joiner = Joiner::<&str, 4, 8>::new();
    let none = |lost: Lost<&str>| panic!("{lost:?}");
    assert_eq!(joiner.push(&from(1), part(7, 3, 2), 0, "b", none), Pushed::Waiting { have: 1, total: 3 });
    assert_eq!(joiner.push(&from(1), part(7, 3, 2), 1, "b", none), Pushed::Duplicate("b"));
    assert_eq!(joiner.push(&from(1), part(7, 3, 3), 2, "c", none), Pushed::Waiting { have: 2, total: 3 });
    // The same reference again with another text: the old message is given up, the new one begins.
    let mut lost = Vec::new();
    let pushed = joiner.push(&from(1), part(7, 3, 2), 3, "B", |part| lost.push((part.number, part.item)));
    assert_eq!(pushed, Pushed::Waiting { have: 1, total: 3 });
    assert_eq!(lost, [(2, "b"), (3, "c")]);
}

#[test]
fn the_oldest_is_given_up_with_notice() {
    let mut joiner = Joiner::<u8, 2, 3>::new();
    let mut lost = Vec::new();
    let mut push = |joiner: &mut Joiner<u8, 2, 3>, sender, concatenation, now_s, item| {
        joiner.push(&from(sender), concatenation, now_s, item, |part: Lost<u8>| {
            lost.push((part.from, part.number, part.total, part.item));
        })
    };
    push(&mut joiner, 1, part(1, 3, 1), 10, 11);
    push(&mut joiner, 2, part(1, 3, 1), 20, 21);
    // Sender 1 is heard of again: 2 is the oldest now.
    push(&mut joiner, 1, part(1, 3, 2), 30, 12);
    assert_eq!(push(&mut joiner, 3, part(1, 2, 1), 40, 31), Pushed::Waiting { have: 1, total: 2 });
    // No place for a part: 1 goes, though there is a place for a message.
    assert_eq!(push(&mut joiner, 4, part(1, 2, 1), 50, 41), Pushed::Waiting { have: 1, total: 2 });
    assert_eq!(lost, [(from(2), 1, 3, 21), (from(1), 1, 3, 11), (from(1), 2, 3, 12)]);
    // Longer than the joiner: given up when the room ends.
    let mut small = Joiner::<u8, 1, 2>::new();
    let mut lost = Vec::new();
    for number in 1..=3 {
        small.push(&from(1), part(1, 3, number), 0, number, |part| lost.push(part.item));
    }
    assert_eq!(lost, [1, 2, 3]);
    assert!(small.is_empty());
}

#[test]
fn expiry() {
    let mut joiner = Joiner::<u8, 4, 8>::new();
    joiner.push(&from(1), part(1, 2, 1), 100, 1, |lost| panic!("{lost:?}"));
    joiner.push(&from(2), part(1, 2, 1), 200, 2, |lost| panic!("{lost:?}"));
    joiner.expire(100, |lost| panic!("{lost:?}"));
    let mut lost = Vec::new();
    joiner.expire(101, |part| lost.push(part.item));
    assert_eq!((lost, joiner.len()), (vec![1], 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// Whatever comes in whatever order into however little room: each part is joined, given back, lost with notice, or still there.
    #[test]
    fn nothing_disappears(pushes in vec((0..3u8, 0..3u16, 1..=5u8, any::<prop::sample::Index>(), any::<bool>(), 0..50i64), 0..200), at_once in any::<bool>()) {
        let mut joiner = Joiner::<(u32, bool), 3, 7>::new();
        let mut out = Vec::new();
        let mut joined = 0;
        for (n, (sender, reference, total, number, again, at_s)) in pushes.iter().enumerate() {
            let number = number.index(usize::from(*total)) as u8 + 1;
            // `again` makes equal items, which count as duplicates of each other.
            let item = (if *again { 0 } else { n as u32 + 1 }, *again);
            let mut lost = Vec::new();
            let pushed = joiner.push(&from(*sender), part(*reference, *total, number), *at_s, item, |part| lost.push(part.item));
            out.extend(lost);
            match pushed {
                Pushed::Duplicate(item) => {
                    prop_assert!(*again);
                    out.push(item);
                }
                Pushed::Waiting { have, total: of } => prop_assert!(have < of && of == *total),
                Pushed::Complete(complete) => {
                    let total = complete.total;
                    let parts: Vec<_> = if at_once {
                        joiner.take(complete).collect()
                    } else {
                        let mut parts = joiner.take(complete);
                        let first = parts.next().into_iter().collect::<Vec<_>>();
                        first.into_iter().chain(parts).collect()
                    };
                    prop_assert_eq!(parts.len(), usize::from(total));
                    joined += parts.len();
                    out.extend(parts);
                }
            }
        }
        joiner.expire(i64::MAX, |part| out.push(part.item));
        prop_assert!(joiner.is_empty());
        prop_assert_eq!(out.len(), pushes.len());
        let mut numbered: Vec<u32> = out.iter().filter(|item| !item.1).map(|item| item.0).collect();
        numbered.sort_unstable();
        let wanted: Vec<u32> = pushes.iter().enumerate().filter(|(_, push)| !push.4).map(|(n, _)| n as u32 + 1).collect();
        prop_assert_eq!(numbered, wanted);
        prop_assert!(joined <= out.len());
    }
}
