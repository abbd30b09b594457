//! Every course that a plan can take, in a model of a pair.

use super::*;
use crate::health::Baseline;
use crate::record::{Attempt, Why};
use crate::slot::Slot;

fn release(sequence: u64) -> Release {
    Release { version: format!("v{sequence}"), sequence, ..Release::default() }
}

/// How the world behaves: answered from a list, so that all lists can be tried.
struct Fate {
    answers: Vec<usize>,
    limits: Vec<usize>,
    at: usize,
}

impl Fate {
    /// One of `n` ways; 0 is the good one.
    fn choose(&mut self, n: usize) -> usize {
        if self.at == self.answers.len() {
            self.answers.push(0);
            self.limits.push(n);
        }
        self.at += 1;
        self.answers[self.at - 1]
    }

    /// The next list, in the order of counting.
    fn next(mut self) -> Option<Self> {
        loop {
            let last = self.answers.pop()?;
            let limit = self.limits.pop()?;
            if last + 1 < limit {
                self.answers.push(last + 1);
                self.limits.push(limit);
                return Some(Self { at: 0, ..self });
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Node {
    view: NodeView,
    boots: u32,
    /// It does not answer for so many looks; `usize::MAX`: for ever.
    away: usize,
    /// It catches up for so many looks.
    behind: usize,
    /// It cannot serve with the new version.
    ill: bool,
}

fn attempt(stage: record::Stage) -> Attempt {
    Attempt {
        release: release(2),
        from: release(1),
        target: Slot::B,
        stage,
        boots: 1,
        reasons: vec![Text::new("imap does not answer", "imap 无应答")],
        at_s: 0,
        told: false,
        baseline: Baseline::default(),
    }
}

fn pair(serving: usize) -> [Node; 2] {
    ["a", "b"].map(|name| {
        let serves = (name == "a") == (serving == 0);
        let view = NodeView {
            name: name.into(),
            release: release(1),
            boot: format!("{name}0"),
            serving: serves,
            eligible: !serves,
            well: Some(true),
            ..NodeView::default()
        };
        Node { view, boots: 0, away: 0, behind: 0, ill: false }
    })
}

fn view(nodes: &[Node; 2], here: usize) -> View {
    let there = &nodes[1 - here];
    View { here: nodes[here].view.clone(), there: (there.away == 0).then(|| there.view.clone()) }
}

fn restart(nodes: &mut [Node; 2], node: usize, fate: &mut Fate) {
    let good = nodes[node].view.attempt.as_ref().is_some_and(|a| a.stage == record::Stage::Written);
    assert!(!nodes[node].view.serving, "a node that serves was restarted");
    let node = &mut nodes[node];
    node.boots += 1;
    (node.view.boot, node.view.eligible) = (format!("{}{}", node.view.name, node.boots), false);
    node.away = 3;
    match fate.choose(4) {
        0 if good => {
            (node.view.release, node.view.on_trial, node.behind) = (release(2), true, 3);
            node.view.attempt = Some(attempt(record::Stage::Trial));
        }
        1 => {
            node.view.attempt = Some(attempt(record::Stage::Returned { why: Why::Health }));
            node.behind = 1;
        }
        2 => node.away = usize::MAX,
        // Kept, and its data never becomes current.
        _ => {
            (node.view.release, node.behind) = (release(2), usize::MAX);
            node.view.attempt = Some(attempt(record::Stage::Committed));
        }
    }
}

/// The first gives the new version up.
fn give_up(node: &mut Node, fate: &mut Fate) {
    assert!(!node.view.serving, "a node that serves was restarted");
    node.boots += 1;
    (node.view.boot, node.view.eligible, node.away) = (format!("{}{}", node.view.name, node.boots), false, 3);
    // Each further try is another list of answers: two are enough.
    match if node.boots > 2 { 0 } else { fate.choose(3) } {
        0 => {
            (node.view.release, node.ill, node.behind) = (release(1), false, 2);
            node.view.attempt = Some(attempt(record::Stage::Returned { why: Why::Health }));
        }
        // The power went before it was written down: the new version starts again.
        1 => node.behind = 2,
        _ => node.away = usize::MAX,
    }
}

/// Each says how it finds itself.
fn tell(nodes: &mut [Node; 2]) {
    for node in nodes {
        node.view.well = Some(!(node.ill && node.view.serving));
    }
}

/// A second of the world.
fn pass(nodes: &mut [Node; 2], here: usize) {
    for (i, node) in nodes.iter_mut().enumerate() {
        if node.away > 0 {
            if node.away != usize::MAX && i != here {
                node.away -= 1;
            } else if i == here {
                node.away = 0;
            }
            continue;
        }
        if node.view.on_trial {
            node.view.on_trial = false;
            node.view.attempt = Some(attempt(record::Stage::Committed));
        } else if node.behind > 0 && node.behind != usize::MAX {
            node.behind -= 1;
            node.view.eligible = node.behind == 0 && !node.view.serving;
        }
    }
}

fn run(fate: &mut Fate, serving: usize, here: usize) -> (Plan, [Node; 2]) {
    let mut nodes = pair(serving);
    let mut plan = Plan::new(&view(&nodes, here), release(2), false).unwrap();
    assert_eq!(plan.order[1], nodes[serving].view.name);
    // With waits of a minute the longest limit is reached in 120 looks.
    let (mut back, mut away): (Option<usize>, Option<usize>) = (None, None);
    let mut waits = std::collections::BTreeMap::new();
    for _ in 0..600 {
        plan = serde_json::from_str::<Plan>(&serde_json::to_string(&plan).unwrap())
            .map(|stored| Plan { waited_ms: plan.waited_ms, acting: plan.acting, ..stored })
            .unwrap();
        let next = plan.look(&view(&nodes, here), 60_000);
        assert_eq!(plan.steps().len(), 6);
        let action = match next {
            Next::Over => {
                assert!(plan.over());
                return (plan, nodes);
            }
            Next::Wait(text) => {
                *waits.entry(format!("{:?} {}", plan.stage, text.en)).or_insert(0) += 1;
                assert!(!text.en.is_empty() && !text.zh.is_ascii());
                pass(&mut nodes, here);
                // The pair itself moves the service to a node that fails, and away again.
                if let Some(to) = back.take() {
                    (nodes[to].view.serving, nodes[1 - to].view.serving) = (true, false);
                    nodes[to].ill = true;
                    away = Some(to);
                } else if let Some(to) = away.take() {
                    (nodes[to].view.serving, nodes[1 - to].view.serving) = (false, true);
                    (nodes[to].view.eligible, nodes[to].ill) = (true, false);
                }
                tell(&mut nodes);
                continue;
            }
            Next::Do(action) => action,
        };
        let index = |name: &str| usize::from(name == "b");
        let refused = || Err(vec![Text::new("no", "不")]);
        match action {
            Action::Copy => plan.finished(if fate.choose(2) == 0 { Ok(()) } else { refused() }),
            Action::Install { node } => {
                let i = index(&node);
                if node == plan.order[1] {
                    let first = &nodes[1 - i].view;
                    let good = first.release.sequence == 2 && !first.on_trial && first.serving && first.well == Some(true);
                    assert!(good, "too early: {first:?}");
                }
                match fate.choose(3) {
                    0 => {
                        nodes[i].view.attempt = Some(attempt(record::Stage::Written));
                        plan.finished(Ok(()));
                    }
                    1 => plan.finished(refused()),
                    // Done, and then the plan's daemon starts again before it hears of it.
                    _ => {
                        nodes[i].view.attempt = Some(attempt(record::Stage::Written));
                        plan.resumed();
                    }
                }
            }
            Action::Switch { to } => {
                assert!(nodes[index(&to)].view.eligible);
                let fails = nodes[index(&to)].view.release.sequence == 2;
                let how = fate.choose(if fails { 5 } else { 3 });
                if matches!(how, 0 | 3) {
                    for (i, node) in nodes.iter_mut().enumerate() {
                        node.view.serving = i == index(&to);
                        node.view.eligible = !node.view.serving;
                    }
                    // It serves, and what it serves with does not work.
                    nodes[index(&to)].ill = how == 3;
                }
                tell(&mut nodes);
                match how {
                    1 => plan.finished(refused()),
                    // It moves, fails and comes back between two looks, or never moved: nothing is seen of it.
                    _ => plan.finished(Ok(())),
                }
                if how == 4 {
                    back = Some(index(&to));
                }
            }
            Action::Return { node, reasons } => {
                assert!(!reasons.is_empty());
                give_up(&mut nodes[index(&node)], fate);
                if index(&node) == here {
                    plan.resumed();
                } else {
                    plan.finished(Ok(()));
                }
            }
            Action::Restart { node } => {
                restart(&mut nodes, index(&node), fate);
                if index(&node) == here {
                    plan.resumed();
                } else {
                    plan.finished(Ok(()));
                }
            }
        }
    }
    panic!("it never ends: {:?} {waits:#?} {plan:?} {nodes:?}", fate.answers);
}

#[test]
fn every_course_of_a_plan() {
    for (serving, here) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut fate = Some(Fate { answers: Vec::new(), limits: Vec::new(), at: 0 });
        let (mut courses, mut done, mut withdrawn) = (0, 0, 0);
        while let Some(mut now) = fate {
            let (mut plan, nodes) = run(&mut now, serving, here);
            let runs = nodes.iter().filter(|node| node.view.release.sequence == 2).count();
            assert_eq!(nodes.iter().filter(|node| node.view.serving).count(), 1, "{:?}", now.answers);
            let news = plan.news().unwrap();
            assert!(!news.text.zh.is_ascii());
            match &plan.stage {
                Stage::Done => {
                    assert_eq!(runs, 2, "{:?}", now.answers);
                    assert!(plan.steps().iter().all(|(_, mark)| *mark == Mark::Done));
                    done += 1;
                }
                Stage::Aborted { reasons } => {
                    assert!(!reasons.is_empty() && reasons.iter().all(|reason| !reason.en.is_empty()));
                    assert_eq!(plan.steps().iter().filter(|(_, mark)| *mark == Mark::Failed).count(), 1);
                    withdrawn += usize::from(news.text.en.contains("went back to the version before"));
                    let untouched = news.text.en.contains("was not touched");
                    let second = nodes.iter().find(|node| node.view.name == plan.order[1]).unwrap();
                    assert!(!untouched || second.view.attempt.is_none(), "{:?}", now.answers);
                }
                other => panic!("{other:?}"),
            }
            plan.told = true;
            assert!(plan.news().is_none() && plan.look(&view(&nodes, here), 1) == Next::Over);
            courses += 1;
            fate = now.next();
        }
        assert!(courses > 30 && done >= 2 && withdrawn >= 3, "{courses} courses, {done} done, {withdrawn} withdrawn");
    }
}

#[test]
fn what_stands_against_a_plan() {
    let nodes = pair(0);
    let reasons = |view: &View, sequence| match Plan::new(view, release(sequence), false) {
        Err(Error::Refused { reasons }) => reasons.into_iter().map(|r| r.en).collect::<Vec<_>>().join("|"),
        other => panic!("{other:?}"),
    };
    let good = view(&nodes, 0);
    assert!(reasons(&View { there: None, ..good.clone() }, 2).contains("does not answer"));
    assert!(reasons(&good, 1).contains("already"));
    let mut bad = good.clone();
    bad.there.as_mut().unwrap().eligible = false;
    bad.here.on_trial = true;
    let said = reasons(&bad, 2);
    assert!(said.contains("could not take over") && said.contains("on trial"), "{said}");
    bad.there.as_mut().unwrap().serving = true;
    assert!(reasons(&bad, 2).contains("exactly one"));
}

#[test]
fn one_node_that_has_it_already_is_left_alone() {
    let mut nodes = pair(0);
    nodes[1].view.release = release(2);
    let mut plan = Plan::new(&view(&nodes, 0), release(2), false).unwrap();
    assert_eq!(plan.look(&view(&nodes, 0), 1), Next::Do(Action::Switch { to: "b".into() }));
    plan.finished(Ok(()));
    (nodes[0].view.serving, nodes[1].view.serving) = (false, true);
    assert!(matches!(plan.look(&view(&nodes, 0), 1), Next::Wait(_)), "it has to show first that it serves well");
    assert_eq!(plan.look(&view(&nodes, 0), PROVE_MS), Next::Do(Action::Install { node: "a".into() }));
    plan.finished(Ok(()));
    nodes[0].view.attempt = Some(attempt(record::Stage::Written));
    assert_eq!(plan.look(&view(&nodes, 0), 1), Next::Do(Action::Restart { node: "a".into() }));
}

#[test]
fn a_version_that_cannot_serve_is_taken_back_before_the_second_node_gets_it() {
    let mut nodes = pair(0);
    nodes[1].view.release = release(2);
    let mut plan = Plan::new(&view(&nodes, 0), release(2), false).unwrap();
    assert_eq!(plan.look(&view(&nodes, 0), 1), Next::Do(Action::Switch { to: "b".into() }));
    plan.finished(Ok(()));
    (nodes[0].view.serving, nodes[1].view.serving, nodes[1].view.well) = (false, true, Some(false));
    nodes[0].view.eligible = true;
    for _ in 0..(PROVE_LIMIT_MS / 60_000 - 1) {
        assert!(matches!(plan.look(&view(&nodes, 0), 60_000), Next::Wait(_)));
    }
    assert_eq!(plan.look(&view(&nodes, 0), 60_000), Next::Do(Action::Switch { to: "a".into() }));
    plan.finished(Ok(()));
    (nodes[0].view.serving, nodes[1].view.serving) = (true, false);
    let Next::Do(Action::Return { node, reasons }) = plan.look(&view(&nodes, 0), 1) else { panic!("{plan:?}") };
    assert!(node == "b" && reasons[0].en.contains("could not serve"));
    plan.finished(Ok(()));
    (nodes[1].view.release, nodes[1].view.boot) = (release(1), "b1".into());
    assert_eq!(plan.look(&view(&nodes, 0), 1), Next::Over);
    assert!(plan.news().unwrap().text.en.contains("Node b went back to the version before; node a was not touched"));
}

#[test]
fn a_first_node_that_serves_by_now_is_not_restarted() {
    let mut nodes = pair(0);
    let mut plan = Plan::new(&view(&nodes, 0), release(2), false).unwrap();
    assert_eq!(plan.look(&view(&nodes, 0), 1), Next::Do(Action::Copy));
    plan.finished(Ok(()));
    assert_eq!(plan.look(&view(&nodes, 0), 1), Next::Do(Action::Install { node: "b".into() }));
    (nodes[0].view.serving, nodes[1].view.serving) = (false, true);
    plan.finished(Ok(()));
    assert_eq!(plan.look(&view(&nodes, 0), 1), Next::Over);
    assert!(plan.news().unwrap().text.en.contains("serves now"));
}

#[test]
fn a_plan_is_kept_and_its_own_node_cannot_start_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Plan::load(dir.path()), None);
    let mut plan = Plan::new(&view(&pair(0), 0), release(2), false).unwrap();
    for _ in 0..RESUMES_MAX {
        plan.store(dir.path()).unwrap();
        plan = Plan::load(dir.path()).unwrap();
        plan.resumed();
        assert!(!plan.over());
    }
    plan.resumed();
    assert!(plan.over());
    std::fs::write(dir.path().join(FILE), "{").unwrap();
    assert_eq!(Plan::load(dir.path()), None);
    let mut plan = Plan::new(&view(&pair(0), 0), release(2), false).unwrap();
    plan.cancel();
    assert!(plan.news().unwrap().text.en.contains("somebody stopped it"));
}
