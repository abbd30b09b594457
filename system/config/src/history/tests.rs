//! Tests of the history: hand edits, offers, conflicts, power cuts, and two nodes at random.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

/// Refuses what contains `bad`, and `new` unless the node knows it.
fn judge(knows_new: bool) -> impl Fn(&str) -> Result<(), Vec<String>> {
    move |text| {
        let faults: Vec<String> = text
            .lines()
            .enumerate()
            .filter(|(_, line)| line.contains("bad") || (!knows_new && line.contains("new")))
            .map(|(n, line)| format!("line {}: {line}", n + 1))
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

struct Node {
    dir: tempfile::TempDir,
    history: History,
    knows_new: bool,
}

impl Node {
    fn open(dir: &Path, knows_new: bool) -> (History, Seen) {
        let opened = History::open(&dir.join("config"), &dir.join("appliance.toml"), "n", Some("factory"), &judge(knows_new));
        let (mut history, seen) = opened.expect("opens");
        history.set_settle(Duration::ZERO);
        (history, seen)
    }

    fn new(text: Option<&str>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        if let Some(text) = text {
            std::fs::write(dir.path().join("appliance.toml"), text).expect("written");
        }
        let (history, _) = Self::open(dir.path(), true);
        Self { dir, history, knows_new: true }
    }

    fn reopen(&mut self) -> Seen {
        let (history, seen) = Self::open(self.dir.path(), self.knows_new);
        self.history = history;
        seen
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("appliance.toml")
    }

    fn edit(&self, text: &str) {
        std::fs::write(self.path(), text).expect("written");
    }

    fn file(&self) -> String {
        std::fs::read_to_string(self.path()).expect("read")
    }

    fn text(&self) -> &str {
        self.history.head().map_or("", |head| head.text.as_str())
    }

    fn take(&mut self, text: &str) -> Result<Generation, HistoryError> {
        self.history.take(text, "admin", &judge(self.knows_new))
    }

    fn notice(&mut self) -> Seen {
        self.history.notice(&judge(self.knows_new)).expect("looked")
    }

    fn receive(&mut self, offer: &Offer) -> Received {
        self.history.receive(offer, &judge(self.knows_new)).expect("received")
    }
}

/// One offers, the other answers, the first draws the consequences; `lost`: the answer does not arrive.
fn exchange(from: &mut Node, to: &mut Node, lost: bool) -> Settled {
    from.notice();
    let Some(offer) = from.history.offer() else { return Settled::Open };
    let json = serde_json::to_string(&offer).expect("written");
    let answer = to.receive(&serde_json::from_str(&json).expect("read"));
    if lost {
        return Settled::Open;
    }
    let json = serde_json::to_string(&answer).expect("written");
    let answer = serde_json::from_str(&json).expect("read");
    from.history.answered(&answer, &judge(from.knows_new)).expect("settled")
}

#[test]
fn a_change_on_either_node_gets_to_the_other() {
    let (mut a, mut b) = (Node::new(Some("one")), Node::new(Some("one")));
    assert_eq!(a.history.head().expect("a head").id, b.history.head().expect("a head").id, "one text, one generation");
    assert_eq!(exchange(&mut a, &mut b, false), Settled::Agreed);
    a.take("two").expect("taken");
    a.take("three").expect("taken");
    assert_eq!(exchange(&mut a, &mut b, false), Settled::Agreed);
    assert_eq!((b.text(), b.file().as_str(), b.history.number()), ("three", "three", 3));
    // By hand, on the other node, and asked for by the first.
    b.edit("four");
    assert!(matches!(b.notice(), Seen::New(made) if made.who == "file on n" && made.number == 4));
    assert_eq!(exchange(&mut a, &mut b, false), Settled::Agreed);
    assert_eq!((a.text(), a.file().as_str()), ("four", "four"));
    // Back to an older text is a new generation, not an older one.
    a.take("one").expect("taken");
    assert_eq!(exchange(&mut b, &mut a, false), Settled::Agreed);
    assert_eq!((b.text(), b.history.number()), ("one", 5));
    assert_eq!(b.reopen(), Seen::Same);
    assert_eq!(b.history.number(), 5);
}

#[test]
fn a_conflict_is_shown_on_both_and_a_choice_on_either_ends_it() {
    for choice in [Choice::Ours, Choice::Theirs] {
        for both in [false, true] {
            let (mut a, mut b) = (Node::new(Some("x\none\ny")), Node::new(Some("x\none\ny")));
            a.take("x\nleft\ny").expect("taken");
            b.take("x\nright\ny").expect("taken");
            assert_eq!(exchange(&mut a, &mut b, false), Settled::Conflict);
            let (of_a, of_b) = (a.history.conflict().expect("shown"), b.history.conflict().expect("shown"));
            assert_eq!((&of_a.ours, &of_a.theirs), (&of_b.theirs, &of_b.ours));
            assert!(of_a.diff.contains("-left\n+right\n"), "{}", of_a.diff);
            // It outlives a restart, nothing is overwritten, and asking again changes nothing.
            a.reopen();
            assert_eq!(exchange(&mut b, &mut a, false), Settled::Conflict);
            assert_eq!((a.file().as_str(), b.file().as_str()), ("x\nleft\ny", "x\nright\ny"));
            let expected = if choice == Choice::Ours { "x\nleft\ny" } else { "x\nright\ny" };
            let made = a.history.choose(choice, "admin", &judge(true)).expect("chosen");
            assert_eq!((made.text.as_str(), made.parents.len(), made.number), (expected, 2, 3));
            if both {
                // At the same time on the other node, to the same effect.
                let mirrored = if choice == Choice::Ours { Choice::Theirs } else { Choice::Ours };
                b.history.choose(mirrored, "admin", &judge(true)).expect("chosen");
            }
            assert_eq!(exchange(&mut b, &mut a, false), Settled::Agreed);
            assert_eq!((a.file().as_str(), b.file().as_str()), (expected, expected));
            assert!(a.history.conflict().is_none() && b.history.conflict().is_none());
            assert_eq!(a.history.head(), b.history.head());
            // What was not chosen can be looked up on the node that chose.
            let texts: Vec<String> = a.history.kept().to_vec();
            let kept: Vec<String> =
                texts.iter().filter_map(|id| a.history.generation(id).expect("read")).map(|g| g.text).collect();
            assert!(kept.contains(&"x\nleft\ny".to_owned()) && kept.contains(&"x\nright\ny".to_owned()), "{kept:?}");
            assert!(matches!(a.history.choose(choice, "admin", &judge(true)), Err(HistoryError::NoConflict)));
        }
    }
}

#[test]
fn a_document_with_faults_changes_nothing_anywhere() {
    let (mut a, mut b) = (Node::new(Some("one")), Node::new(Some("one")));
    let Err(HistoryError::Faults(faults)) = a.take("bad\nfine\nbad too") else { panic!("taken") };
    assert_eq!(faults, ["line 1: bad", "line 3: bad too"], "all at once");
    b.knows_new = false;
    a.take("new key").expect("taken");
    let Settled::TheyRefuse { faults } = exchange(&mut a, &mut b, false) else { panic!("taken") };
    assert_eq!(faults, ["line 1: new key"]);
    assert!(matches!(exchange(&mut b, &mut a, false), Settled::WeRefuse { .. }));
    assert_eq!((b.text(), b.file().as_str()), ("one", "one"));
    // An edit by hand with faults is not overwritten by the other node's change, nor by an administrator's.
    b.edit("bad");
    assert!(matches!(b.notice(), Seen::Faults(f) if f == ["line 1: bad"]));
    a.take("two").expect("taken");
    assert!(matches!(exchange(&mut a, &mut b, false), Settled::TheyRefuse { .. }));
    assert!(matches!(b.take("three"), Err(HistoryError::Edited { .. })));
    assert_eq!(b.file(), "bad");
    b.edit("repaired");
    assert_eq!(exchange(&mut a, &mut b, false), Settled::Conflict, "it was made without knowing the other");
}

#[test]
fn odd_files_are_told_and_left_alone() {
    let mut a = Node::new(Some("one"));
    for odd in [&b"\xff\xfe"[..], b"", b" \n\n", &vec![b'x'; MAX_TEXT_BYTES + 1]] {
        std::fs::write(a.path(), odd).expect("written");
        assert!(matches!(a.notice(), Seen::Faults(_)), "{:?}", &odd[..odd.len().min(5)]);
        assert_eq!(std::fs::read(a.path()).expect("read"), odd);
        assert_eq!(a.text(), "one");
    }
    std::fs::remove_file(a.path()).expect("removed");
    assert_eq!((a.notice(), a.file().as_str()), (Seen::Restored, "one"));
    a.edit("two");
    a.history.set_settle(Duration::from_secs(3600));
    assert_eq!(a.notice(), Seen::Settling);
    assert!(matches!(a.take("three"), Err(HistoryError::Edited { .. })));
    a.history.set_settle(Duration::ZERO);
    assert!(matches!(a.take("three"), Err(HistoryError::Meanwhile { number: 2 })), "the edit is not covered up");
    assert!(matches!(a.take(&"x".repeat(MAX_TEXT_BYTES + 1)), Err(HistoryError::TooLarge { .. })));
    // Damage of the history itself is told; the document is not touched.
    std::fs::write(a.dir.path().join("config/state.json"), "{}\nx\n").expect("written");
    let opened = History::open(&a.dir.path().join("config"), &a.path(), "n", None, &judge(true));
    assert!(matches!(opened, Err(HistoryError::Damaged { .. })));
    assert_eq!(a.file(), "two");
}

#[test]
fn a_new_node_and_a_factory_document_yield() {
    let mut a = Node::new(Some("mine"));
    let (mut blank, mut factory) = (Node::new(None), Node::new(Some("factory")));
    assert_eq!((blank.history.head(), factory.history.number()), (None, 0));
    assert_eq!(exchange(&mut factory, &mut a, false), Settled::Agreed);
    assert_eq!(exchange(&mut a, &mut blank, false), Settled::Agreed);
    assert_eq!((factory.file().as_str(), blank.file().as_str()), ("mine", "mine"));
    // An edited factory document is somebody's work.
    let mut edited = Node::new(Some("factory"));
    edited.take("work").expect("taken");
    assert_eq!(exchange(&mut a, &mut edited, false), Settled::Conflict);
    // Unless a person said that this node is the blank one.
    edited.history.yield_to_other(&judge(true)).expect("yields");
    assert_eq!((edited.reopen(), edited.file().as_str()), (Seen::Same, "work"));
    assert_eq!(exchange(&mut edited, &mut a, false), Settled::Agreed);
    assert_eq!((a.file().as_str(), edited.file().as_str()), ("mine", "mine"));
    let kept = edited.history.kept().to_vec();
    assert!(
        kept.iter().any(|id| edited.history.generation(id).expect("read").is_some_and(|g| g.text == "work")),
        "what was here is kept"
    );
}

#[test]
fn a_forged_or_damaged_offer_is_refused() {
    let (mut a, mut b) = (Node::new(Some("one")), Node::new(Some("one")));
    a.take("two").expect("taken");
    let good = a.history.offer().expect("an offer");
    let mut offers = vec![good.clone(); 5];
    offers[0].generation.text.push('!');
    offers[1].generation.number += 1;
    offers[2].generation.parents.clear();
    offers[3].ancestors = vec!["../../etc/passwd".to_owned()];
    offers[4].ancestors = vec![good.generation.id.clone(); ANCESTORS + 1];
    for offer in &offers {
        assert!(matches!(b.receive(offer), Received::Refused { .. }));
    }
    assert_eq!(b.receive(&good), Received::Taken);
    // An answer of a newer version is no fault.
    let answer: Received = serde_json::from_str(r#"{"is":"postponed","until":5}"#).expect("read");
    assert_eq!(a.history.answered(&answer, &judge(true)).expect("settled"), Settled::Open);
}

#[test]
fn the_history_is_bounded_and_the_oldest_goes() {
    let mut a = Node::new(Some("0"));
    for n in 1..=KEPT + 20 {
        a.take(&n.to_string()).expect("taken");
    }
    assert_eq!(a.history.kept().len(), KEPT);
    assert_eq!(std::fs::read_dir(a.dir.path().join("config/generations")).expect("there").count(), KEPT);
    let oldest = a.history.kept().last().cloned().expect("one");
    assert_eq!(a.history.generation(&oldest).expect("read").expect("kept").text, "21");
    assert_eq!(a.history.offer().expect("an offer").ancestors.len(), KEPT + 20);
}

/// The power goes after each step of each kind of change; after the restart document and history say the same, the change is made or not made, and
/// a hand edit of the dead node stands beside it.
#[test]
fn a_power_cut_at_any_step_is_repaired() {
    let (mut edits_beside, mut rounds) = (0, 0);
    for kind in ["take", "receive", "choose", "hand"] {
        for edited in [false, true] {
            let mut steps = 0;
            loop {
                let (mut a, mut b) = (Node::new(Some("one")), Node::new(Some("one")));
                b.take("two").expect("taken");
                if kind == "choose" {
                    a.take("other").expect("taken");
                    exchange(&mut a, &mut b, false);
                }
                if kind == "hand" {
                    a.edit("two");
                }
                let before = a.text().to_owned();
                let offer = b.history.offer().expect("an offer");
                a.history.power_cut_after(Some(steps));
                let done = match kind {
                    "take" => a.take("two").is_ok(),
                    "receive" => a.history.receive(&offer, &judge(true)).is_ok(),
                    "choose" => a.history.choose(Choice::Theirs, "admin", &judge(true)).is_ok(),
                    _ => a.history.notice(&judge(true)).is_ok(),
                };
                if edited {
                    a.edit("by hand");
                }
                a.reopen();
                // Settling is switched off only after the opening look: look once more.
                a.notice();
                assert_eq!(a.file(), a.text(), "{kind} after {steps} steps");
                let current = a.text().to_owned();
                let texts: BTreeSet<String> = {
                    let ids = a.history.kept().to_vec();
                    ids.iter().filter_map(|id| a.history.generation(id).expect("read")).map(|g| g.text).collect()
                };
                if edited {
                    assert_eq!(current, "by hand", "a person's edit is not written over");
                    let beside = a.history.conflict().is_some_and(|c| c.theirs.text == "two");
                    edits_beside += u32::from(beside && kind != "choose");
                    assert!(texts.contains("one") || texts.contains("two"));
                } else {
                    assert!(current == before || current == "two", "{kind} after {steps} steps: {current}");
                    assert!(!done || current == "two", "{kind}: what was told as done is done");
                }
                // And it works on.
                a.take("next").expect("taken");
                assert_eq!(a.file(), "next");
                rounds += 1;
                steps += 1;
                if done {
                    break;
                }
                assert!(steps < 100);
            }
        }
    }
    assert!(rounds > 80, "{rounds}");
    assert!(edits_beside > 0, "the edit between the power cut and the restart was not met");
}

#[derive(Clone, Debug)]
enum Step {
    Edit(usize, u8),
    Take(usize, u8),
    Exchange(usize, bool),
    Choose(usize, bool),
    PowerCut(usize, u32, u8),
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..2_usize;
    prop_oneof![
        3 => (node.clone(), 0..12_u8).prop_map(|(n, t)| Step::Edit(n, t)),
        3 => (node.clone(), 0..12_u8).prop_map(|(n, t)| Step::Take(n, t)),
        4 => (node.clone(), any::<bool>()).prop_map(|(n, lost)| Step::Exchange(n, lost)),
        2 => (node.clone(), any::<bool>()).prop_map(|(n, ours)| Step::Choose(n, ours)),
        1 => (node.clone(), 0..20_u32, 0..12_u8).prop_map(|(n, s, t)| Step::PowerCut(n, s, t)),
        1 => node.prop_map(Step::Restart),
    ]
}

/// All generations that ever were, by id.
#[derive(Default)]
struct World(HashMap<String, Generation>);

impl World {
    fn see(&mut self, nodes: &[Node; 2]) {
        for node in nodes {
            for id in node.history.kept() {
                if !self.0.contains_key(id) {
                    let made = node.history.generation(id).expect("read").expect("kept");
                    self.0.insert(id.clone(), made);
                }
            }
        }
    }

    /// What the heads descend from, where the same text counts as the same.
    fn covered(&self, nodes: &[Node; 2]) -> BTreeSet<String> {
        let mut open: Vec<String> = nodes.iter().filter_map(|n| n.history.head()).map(|g| g.id.clone()).collect();
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            if seen.insert(id.clone())
                && let Some(made) = self.0.get(&id)
            {
                open.extend(made.parents.iter().cloned());
                open.extend(self.0.values().filter(|g| g.hash == made.hash).map(|g| g.id.clone()));
            }
        }
        seen
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn two_nodes_converge_or_say_conflict_and_lose_no_edit(steps in proptest::collection::vec(step(), 1..25), same_start in any::<bool>()) {
        let mut nodes = [Node::new(Some("start")), Node::new(Some(if same_start { "start" } else { "factory" }))];
        let mut world = World::default();
        let mut serial = 0;
        // A few texts come again and again, most are unique; some are refused by both, some by one.
        let mut text = |t: u8| {
            serial += 1;
            match t {
                0 => "same".to_owned(),
                1 => "same too".to_owned(),
                2 => "bad".to_owned(),
                _ => format!("text {serial}"),
            }
        };
        for step in &steps {
            let [a, b] = &mut nodes;
            match *step {
                Step::Edit(n, t) => { nodes[n].edit(&text(t)); nodes[n].notice(); }
                Step::Take(n, t) => { let _ = nodes[n].take(&text(t)); }
                Step::Exchange(0, lost) => { exchange(a, b, lost); }
                Step::Exchange(_, lost) => { exchange(b, a, lost); }
                Step::Choose(n, ours) => {
                    let choice = if ours { Choice::Ours } else { Choice::Theirs };
                    let _ = nodes[n].history.choose(choice, "admin", &judge(true));
                }
                Step::PowerCut(n, after, t) => {
                    nodes[n].history.power_cut_after(Some(after));
                    let _ = nodes[n].take(&text(t));
                    nodes[n].reopen();
                    nodes[n].notice();
                }
                Step::Restart(n) => { nodes[n].reopen(); nodes[n].notice(); }
            }
            world.see(&nodes);
            let covered = world.covered(&nodes);
            for made in world.0.values() {
                let factory = made.number == 0;
                prop_assert!(factory || covered.contains(&made.id), "lost after {step:?}: {made:?}");
            }
        }
        // The files are repaired where a person left faults in one, then the nodes talk.
        for node in &mut nodes {
            if matches!(node.notice(), Seen::Faults(_)) {
                let text = node.text().to_owned();
                node.edit(&text);
            }
        }
        let [a, b] = &mut nodes;
        let first = exchange(a, b, false);
        let second = exchange(b, a, false);
        prop_assert_eq!(&first, &second, "both say the same");
        if second == Settled::Agreed {
            prop_assert_eq!(a.text(), b.text());
            prop_assert_eq!(a.history.head(), b.history.head());
            prop_assert!(a.history.conflict().is_none() && b.history.conflict().is_none());
        } else {
            prop_assert_eq!(second, Settled::Conflict);
            let (of_a, of_b) = (a.history.conflict().expect("shown"), b.history.conflict().expect("shown"));
            prop_assert_eq!((of_a.ours, of_a.theirs), (of_b.theirs, of_b.ours));
        }
        prop_assert_eq!(a.file(), a.text());
        prop_assert_eq!(b.file(), b.text());
    }
}
