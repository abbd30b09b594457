use super::*;
use crate::codec::respond;
use proptest::prelude::*;
use twinpost_message::{BodyId, Flags, ModSeq, Uid};

/// A message by id, references (oldest first), subject and minute of sending.
struct Mail(&'static str, &'static str, &'static str, i64);

fn parsed(mail: &Mail) -> Parsed {
    let ids = |text: &str| text.split_whitespace().map(|i| format!("<{i}@x>")).collect::<Vec<_>>().join(" ");
    let mut text = format!("Subject: {}\r\n", mail.2);
    if !mail.0.is_empty() {
        text.push_str(&format!("Message-ID: {}\r\n", ids(mail.0)));
    }
    if !mail.1.is_empty() {
        text.push_str(&format!("References: {}\r\n", ids(mail.1)));
    }
    let mut parsed = Parsed::parse(format!("{text}\r\nx").as_bytes());
    parsed.sent_s = Some(mail.3 * 60);
    parsed
}

fn shown(mails: &[Mail], thread: fn(&[Message<'_>]) -> Forest) -> String {
    let parsed: Vec<Parsed> = mails.iter().map(parsed).collect();
    let entries: Vec<Entry> = (1..=u32::try_from(mails.len()).unwrap()).map(entry).collect();
    let messages: Vec<Message<'_>> =
        entries.iter().zip(&parsed).map(|(e, p)| Message { number: e.uid.0, entry: e, parsed: Some(p) }).collect();
    let mut out = Vec::new();
    respond::thread(&thread(&messages), &mut out);
    String::from_utf8(out).unwrap()["* THREAD".len()..].trim().to_owned()
}

fn entry(uid: u32) -> Entry {
    Entry { uid: Uid(uid), flags: Flags::default(), modseq: ModSeq(1), body: BodyId(1), size_bytes: 1, received_s: 0, saved_s: 0 }
}

#[test]
fn ordered_by_subject() {
    let mails = [
        Mail("", "", "apples", 5),
        Mail("", "", "Re: pears", 2),
        Mail("", "", "Re: Apples", 9),
        Mail("", "", "[x] pears (fwd)", 1),
        Mail("", "", "Re: apples", 7),
        Mail("", "", "", 6),
    ];
    assert_eq!(shown(&mails, ordered_subject), "(4 2)(1 (5)(3))(6)");
    assert_eq!(shown(&[], ordered_subject), "");
}

#[test]
fn references_make_trees() {
    // The shape of RFC 5256 4: (2)(3 6 (4 23)(44 7 96)), with numbers from 1
    let mails = [
        Mail("b", "", "two", 0),
        Mail("c", "", "three", 1),
        Mail("f", "c", "Re: three", 2),
        Mail("d", "c f", "Re: three", 3),
        Mail("w", "c f d", "Re: three", 4),
        Mail("r", "c f", "Re: three", 5),
        Mail("g", "c f r", "Re: three", 6),
        Mail("z", "c f r g", "Re: three", 7),
    ];
    assert_eq!(shown(&mails, references), "(1)(2 3 (4 5)(6 7 8))");
}

#[test]
fn missing_messages() {
    // the middle is missing: the child moves up
    assert_eq!(shown(&[Mail("a", "", "s", 0), Mail("c", "a b", "t", 1)], references), "(1 2)");
    // a missing root with one child is nothing, with two it is a dummy
    assert_eq!(shown(&[Mail("b", "a", "s", 0)], references), "(1)");
    assert_eq!(shown(&[Mail("b", "a", "s", 0), Mail("c", "a", "t", 1)], references), "((1)(2))");
    // siblings and roots go by date, a dummy by its first child
    let mails = [Mail("b", "a", "s", 9), Mail("c", "a", "t", 3), Mail("x", "", "u", 5)];
    assert_eq!(shown(&mails, references), "((2)(1))(3)");
    // a chain of missing ones
    assert_eq!(shown(&[Mail("z", "a b c d", "s", 0), Mail("y", "a b", "t", 1)], references), "((1)(2))");
}

#[test]
fn subjects_join_threads() {
    // (5) (C): a reply goes under the message that is none
    assert_eq!(shown(&[Mail("a", "", "s", 0), Mail("b", "", "Re: s", 1)], references), "(1 2)");
    // though it is older
    assert_eq!(shown(&[Mail("a", "", "Re: s", 0), Mail("b", "", "s", 1)], references), "(2 1)");
    // equals become siblings under a dummy, and a third joins them
    assert_eq!(shown(&[Mail("a", "", "s", 0), Mail("b", "", "s", 1)], references), "((1)(2))");
    assert_eq!(shown(&[Mail("a", "", "s", 0), Mail("b", "", "s", 1), Mail("c", "", "Re: s", 2)], references), "((1)(2)(3))");
    assert_eq!(shown(&[Mail("a", "", "Re: s", 0), Mail("b", "", "Re: s", 1)], references), "((1)(2))");
    // two dummies become one
    let mails = [Mail("a", "m", "s", 0), Mail("b", "m", "x", 1), Mail("c", "n", "s", 2), Mail("d", "n", "y", 3)];
    assert_eq!(shown(&mails, references), "((1)(2)(3)(4))");
    // empty subjects join nothing
    assert_eq!(shown(&[Mail("a", "", "Re:", 0), Mail("b", "", "", 1)], references), "(1)(2)");
}

#[test]
fn ids_that_lie() {
    // duplicates are messages of their own
    assert_eq!(shown(&[Mail("a", "", "s", 0), Mail("a", "", "t", 1), Mail("b", "a", "u", 2)], references), "(1 3)(2)");
    // loops: of two, of itself, through others
    assert_eq!(shown(&[Mail("a", "b", "s", 0), Mail("b", "a", "t", 1)], references), "(2 1)");
    assert_eq!(shown(&[Mail("a", "a", "s", 0)], references), "(1)");
    assert_eq!(shown(&[Mail("a", "c b", "s", 0), Mail("b", "a", "t", 1), Mail("c", "b", "u", 2)], references), "(3 2 1)");
    // what the message says outweighs what others said of it
    let mails = [Mail("c", "a b", "s", 0), Mail("a", "", "t", 1), Mail("x", "", "v", 2), Mail("b", "x", "u", 3)];
    assert_eq!(shown(&mails, references), "(2)(3 4 1)");
}

#[test]
fn a_chain_as_long_as_a_mailbox() {
    // Each answers the one before: neither depth nor length hurts, whichever way round they come.
    let n = 20_000u32;
    for backwards in [false, true] {
        let parsed: Vec<Parsed> = (0..n)
            .map(|i| if backwards { n - 1 - i } else { i })
            .map(|i| Parsed {
                id: Some(format!("{i}")),
                references: i.checked_sub(1).map(|before| format!("{before}")).into_iter().collect(),
                sent_s: Some(i64::from(i)),
                ..Parsed::default()
            })
            .collect();
        let entries: Vec<Entry> = (1..=n).map(entry).collect();
        let messages: Vec<Message<'_>> =
            entries.iter().zip(&parsed).map(|(e, p)| Message { number: e.uid.0, entry: e, parsed: Some(p) }).collect();
        let forest = references(&messages);
        assert_eq!(forest.roots.len(), 1);
        let mut out = Vec::new();
        respond::thread(&forest, &mut out);
        assert_eq!(out.iter().filter(|b| **b == b'(').count(), 1);
        assert_eq!(out.iter().filter(|b| **b == b' ').count(), n as usize + 1);
    }
}

proptest! {
    /// Whatever the headers say, each message appears once and dummies hold at least two.
    #[test]
    fn every_message_appears_once(mails in prop::collection::vec((0u8..12, prop::collection::vec(0u8..15, 0..5), 0u8..5, any::<bool>(), 0i64..9), 0..40)) {
        let parsed: Vec<Parsed> = mails.iter().map(|(id, refs, subject, reply, sent)| Parsed {
            id: (*id > 0).then(|| format!("{id}")),
            references: refs.iter().map(|r| format!("{r}")).collect(),
            base_subject: if *subject == 0 { String::new() } else { format!("s{subject}") },
            is_reply: *reply,
            sent_s: Some(*sent),
            ..Parsed::default()
        }).collect();
        let entries: Vec<Entry> = (1..=u32::try_from(mails.len()).unwrap()).map(entry).collect();
        let messages: Vec<Message<'_>> = entries.iter().zip(&parsed).map(|(e, p)| Message { number: e.uid.0, entry: e, parsed: Some(p) }).collect();
        for forest in [references(&messages), ordered_subject(&messages)] {
            let mut seen = Vec::new();
            let mut todo = forest.roots.clone();
            while let Some(n) = todo.pop() {
                let node = &forest.nodes[n];
                if node.number == 0 {
                    prop_assert!(node.children.len() > 1 && forest.roots.contains(&n));
                } else {
                    seen.push(node.number);
                }
                todo.extend(&node.children);
                prop_assert!(seen.len() <= mails.len());
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (1..=u32::try_from(mails.len()).unwrap()).collect::<Vec<_>>());
        }
    }
}
