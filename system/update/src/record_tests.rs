use super::*;

fn release(version: &str, sequence: u64) -> Release {
    Release { version: version.to_owned(), sequence, ..Release::default() }
}

fn running(slot: Slot, release: Release) -> Running {
    Running { slot, release }
}

fn manifest(change: impl FnOnce(&mut Manifest)) -> Manifest {
    let mut manifest = Manifest {
        product: "twinpost".into(),
        release: release("2", 200),
        from_sequence: 0,
        boards: Vec::new(),
        parts: Vec::new(),
    };
    change(&mut manifest);
    manifest
}

const GOOD: Marks = Marks { good: true, counting: false, exhausted: false };

#[test]
fn what_stands_against_an_installation() {
    let now = running(Slot::A, Release { floor: 50, ..release("1", 100) });
    let wish = Wish { allow_downgrade: false, board: "qemu-pc".into() };
    let brave = Wish { allow_downgrade: true, ..wish.clone() };
    let reasons = |manifest: &Manifest, wish: &Wish, marks| {
        let reasons = accept(&Record::default(), &now, marks, manifest, wish);
        assert!(reasons.iter().all(|reason| !reason.zh.is_ascii()));
        reasons.into_iter().map(|reason| reason.en).collect::<Vec<_>>().join("|")
    };
    assert_eq!(reasons(&manifest(|_| {}), &wish, GOOD), "");
    assert_eq!(reasons(&manifest(|m| m.boards = vec!["qemu-pc".into()]), &wish, GOOD), "");
    assert!(reasons(&manifest(|m| m.boards = vec!["other".into()]), &wish, GOOD).contains("for the boards other"));
    assert!(reasons(&manifest(|m| m.release = release("1", 100)), &brave, GOOD).contains("runs already"));
    assert!(reasons(&manifest(|m| m.release = release("1.1", 100)), &brave, GOOD).contains("neither is the later one"));
    let old = manifest(|m| m.release = release("0.9", 90));
    assert!(reasons(&old, &wish, GOOD).contains("--downgrade"));
    assert_eq!(reasons(&old, &brave, GOOD), "");
    let ancient = manifest(|m| m.release = release("0.1", 49));
    assert!(reasons(&ancient, &brave, GOOD).contains("cannot read what"), "the floor holds for everybody");
    assert!(reasons(&manifest(|m| m.from_sequence = 101), &brave, GOOD).contains("version between"));
    assert!(reasons(&manifest(|_| {}), &wish, Marks { counting: true, ..Marks::default() }).contains("on trial"));
    // Everything at once.
    let all = manifest(|m| {
        (m.release, m.boards) = (release("0.1", 1), vec!["x".into()]);
        m.from_sequence = 1000;
    });
    assert_eq!(reasons(&all, &wish, Marks { counting: true, ..Marks::default() }).split('|').count(), 4);
}

/// Every stage, every kind of marks, either slot running: where it leads, and that it stays there.
#[test]
fn every_start_leads_to_an_end_or_a_trial() {
    let whys = [Why::Health, Why::Loader, Why::Power, Why::Chosen].map(|why| Stage::Returned { why });
    let stages = [Stage::Received, Stage::Written, Stage::Trial, Stage::Committed, Stage::Failed].into_iter().chain(whys);
    let mut seen_ends = std::collections::HashSet::new();
    let mut count = 0;
    for stage in stages {
        for bits in 0u8..64 {
            let marks = |bits: u8| Marks { good: bits & 1 != 0, counting: bits & 2 != 0, exhausted: bits & 4 != 0 };
            let (old_slot, new_slot) = (Slot::A, Slot::B);
            let seen = Seen { a: marks(bits & 7), b: marks(bits >> 3) };
            for (boots, ill, slot) in
                (0..2).flat_map(|n| [(n, false, old_slot), (n, true, old_slot), (n, false, new_slot), (n, true, new_slot)])
            {
                count += 1;
                let mut record = Record::default();
                let now = running(old_slot, release("1", 100));
                record.begin(&now, release("2", 200), Baseline::default(), 7);
                let attempt = record.attempt.as_mut().unwrap();
                (attempt.stage, attempt.boots) = (stage, boots);
                if ill {
                    attempt.reasons = vec![Text::new("ill", "病")];
                }
                let here = running(slot, release(if slot == new_slot { "2" } else { "1" }, 1));
                let what = record.booted(&here, seen);
                let after = record.attempt.clone().unwrap();
                let context = format!("{stage:?} {seen:?} boots {boots} ill {ill} runs {slot}: {what:?} {after:?}");
                // What runs is never made unbootable by a start, and the other never made good.
                for one in &what {
                    match one {
                        Do::Bless(slot) => {
                            assert!(*slot == here.slot && (seen.of(*slot).good || stage == Stage::Committed), "{context}");
                        }
                        Do::Bad(slot) | Do::Drop(slot) => assert!(*slot != here.slot, "{context}"),
                    }
                }
                if stage.over() {
                    assert_eq!(after.stage, stage, "an end is an end: {context}");
                } else {
                    let trial = after.stage == Stage::Trial && slot == new_slot;
                    assert!(after.stage.over() || trial || (stage == Stage::Received && slot == new_slot), "{context}");
                    if trial {
                        assert!(after.boots == boots + 1 && after.reasons.is_empty() && !seen.b.good, "{context}");
                    }
                }
                if after.stage.over() {
                    seen_ends.insert(after.stage);
                    // Again, with the same facts: nothing changes any more.
                    let mut again = record.clone();
                    let _ = again.booted(&here, seen);
                    assert_eq!(again.attempt, record.attempt, "{context}");
                    let news = record.news().unwrap();
                    record.told();
                    assert!(!news.text.en.is_empty() && !news.text.zh.is_ascii() && record.news().is_none(), "{context}");
                }
            }
        }
    }
    assert_eq!((count, seen_ends.len()), (9 * 64 * 8, 6));
}

#[test]
fn why_a_node_came_back() {
    let exhausted = Marks { exhausted: true, ..Marks::default() };
    let counting = Marks { counting: true, ..Marks::default() };
    let back = |stage, boots, ill: bool, there| {
        let mut record = Record::default();
        let now = running(Slot::A, release("1", 100));
        record.begin(&now, release("2", 200), Baseline::default(), 7);
        record.written();
        let attempt = record.attempt.as_mut().unwrap();
        (attempt.stage, attempt.boots) = (stage, boots);
        if ill {
            let _ = record.give_up(Slot::B, vec![Text::new("imap does not answer", "imap 无应答")]);
        }
        let what = record.booted(&now, Seen { a: GOOD, b: there });
        (record.attempt.as_ref().unwrap().stage, what, record.news().unwrap().text.en)
    };
    let returned = |why| Stage::Returned { why };
    let (stage, what, text) = back(Stage::Written, 0, false, exhausted);
    assert_eq!((stage, what), (returned(Why::Loader), vec![Do::Bad(Slot::B)]));
    assert!(text.contains("did not start"), "{text}");
    let (stage, _, text) = back(Stage::Trial, 1, true, exhausted);
    assert_eq!(stage, returned(Why::Health));
    assert!(text.contains("imap does not answer"), "{text}");
    assert_eq!(back(Stage::Trial, 3, false, exhausted).0, returned(Why::Power));
    assert_eq!(back(Stage::Trial, 1, false, counting).0, returned(Why::Chosen));
    let (stage, what, text) = back(Stage::Written, 0, false, counting);
    assert_eq!((stage, what), (Stage::Failed, vec![Do::Drop(Slot::B)]));
    assert!(text.contains("power went"), "{text}");
}

#[test]
fn a_lost_or_damaged_record_is_no_end() {
    for bytes in [&b""[..], b"{", b"[1]", b"{\"attempt\":{\"stage\":\"x\"}}", &[0xff; 40]] {
        assert_eq!(Record::read(Some(bytes)), (Record::default(), true));
    }
    assert_eq!(Record::read(None), (Record::default(), false));
    let mut record = Record::default();
    let here = running(Slot::B, release("2", 200));
    let counting = Marks { counting: true, ..Marks::default() };
    // The loader counts: this boot is on trial even so.
    assert!(record.booted(&here, Seen { a: GOOD, b: counting }).is_empty());
    assert!(record.on_trial(Slot::B, counting));
    assert_eq!(record.commit(Slot::B), [Do::Bless(Slot::B)]);
    record.committed(&here);
    assert_eq!(record.news(), None);
    // Good on one disk is good on all.
    let half = Marks { good: true, ..counting };
    assert!(!record.on_trial(Slot::B, half));
    assert_eq!(record.booted(&here, Seen { a: GOOD, b: half }), [Do::Bless(Slot::B)]);
}

#[test]
fn records_survive_their_file_and_the_history_is_bounded() {
    let mut record = Record::default();
    let now = running(Slot::A, release("1", 100));
    for n in 0..30 {
        record.begin(&now, release("2", 200 + n), Baseline::default(), 7);
        record.written();
        let _ = record.booted(&running(Slot::B, release("2", 200 + n)), Seen { a: GOOD, b: Marks::default() });
        record.committed(&running(Slot::B, release("2", 200 + n)));
    }
    assert_eq!(record.history.len(), HISTORY_MAX);
    assert_eq!(Record::read(Some(&record.bytes())), (record, false));
}

#[test]
fn versions_of_a_pair() {
    let (old, new) = (release("1", 100), release("2", 200));
    assert_eq!(versions_differ("a", &old, "b", &old), None);
    for told in [versions_differ("a", &old, "b", &new).unwrap(), versions_differ("b", &new, "a", &old).unwrap()] {
        assert!(told.text.en.contains("update node a to 2"), "{told:?}");
        assert!(told.text.zh.contains("节点 a"), "{told:?}");
    }
}
