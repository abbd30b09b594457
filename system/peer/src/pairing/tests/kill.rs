//! Either node is killed at every step of a pairing: both are paired, or a repetition (or the first connection of the channel) makes it so.

use super::*;
use crate::{Answer, Channel, Handler, Refusal, RefusalKind, Request, Settings};
use futures_util::future::BoxFuture;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::runtime::{Builder, Runtime};

/// Runs a future for so many polls and then drops it: every place where it waits is a place where its process may die.
struct Polls<F> {
    run: Option<Pin<Box<F>>>,
    left: usize,
}

impl<F: Future> Future for Polls<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            self.run = None;
        }
        let Some(run) = self.run.as_mut() else { return Poll::Ready(None) };
        let done = run.as_mut().poll(context).map(Some);
        self.left -= 1;
        if self.left == 0 && done.is_pending() {
            context.waker().wake_by_ref();
        }
        done
    }
}

fn polls<F: Future>(left: usize, run: F) -> Polls<F> {
    Polls { run: Some(Box::pin(run)), left }
}

/// What was on its way to the disk when its node was killed gets there before the barrier, as one blocking thread serves all.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().max_blocking_threads(1).build().expect("a runtime")
}

async fn barrier() {
    tokio::task::spawn_blocking(|| ()).await.expect("done");
}

struct Nothing;

impl Handler for Nothing {
    fn answer(&self, _: Request) -> BoxFuture<'_, Result<Answer, Refusal>> {
        Box::pin(async { Err(Refusal::new(RefusalKind::Refused, "a test")) })
    }
}

/// Kills one node after `n` polls. Returns whether it was done before, and the states: (offerer paired, joiner paired, joiner unfinished).
async fn run(nodes: &Nodes, kill_joiner: bool, n: usize) -> (bool, [bool; 3]) {
    let open = offer(&nodes.a, named("a")).await;
    let (address, code) = (open.address(), open.code().to_string());
    let join = pair_join(nodes.b.clone(), named("b"), address, &code);
    let done = if kill_joiner {
        let waiting = tokio::spawn(open.wait());
        let done = polls(n, join).await.is_some_and(|end| end.is_ok());
        // The offering node lives: it hears of the end and goes on waiting, or is done. Whoever joins next gets there after that.
        if !done {
            let next = Arc::new(Identity::create(&nodes.path("stranger")).expect("an identity"));
            let _ = pair_join(next, named("stranger"), address, "00000000").await;
        }
        waiting.abort();
        let _ = waiting.await;
        done
    } else {
        // Its guests are tasks of its own: they die with it.
        let (offered, joined) = tokio::join!(polls(n, open.wait()), join);
        offered.is_some_and(|end| end.is_ok()) && joined.is_ok()
    };
    barrier().await;
    let [a, b] = ["a", "b"].map(|name| Identity::load(&nodes.path(name)).expect("what is on the disk is whole"));
    (done, [a.pair().is_some(), b.pair().is_some(), b.unfinished().is_some()])
}

#[test]
fn killed_at_every_step_both_are_paired_or_a_repetition_repairs() {
    let (mut seen, mut halves) = (std::collections::BTreeSet::new(), 0);
    for kill_joiner in [true, false] {
        let mut n = 1;
        loop {
            let nodes = Nodes::new();
            let (done, state) = runtime().block_on(run(&nodes, kill_joiner, n));
            seen.insert(state);
            let [offerer, joiner, unfinished] = state;
            assert!(offerer || !joiner, "the joining node is never paired alone");
            assert!(!offerer || joiner || unfinished, "the authority is paired only with one who has the terms");
            if done {
                assert_pair(&nodes.path("a"), &nodes.path("b"));
                break;
            }
            let load = |name: &str| Arc::new(Identity::load(&nodes.path(name)).expect("loads"));
            let before = load("a").pair().map(|pair| pair.cluster);
            halves += usize::from(offerer && !joiner);
            if offerer && !joiner && halves % 2 == 1 {
                runtime().block_on(first_connection(load("a"), load("b")));
            } else {
                let ends = runtime().block_on(async {
                    let (a, b) = (load("a"), load("b"));
                    // The roles of the repetition do not matter.
                    if n % 3 == 0 {
                        pair((&b, named("b")), (&a, named("a"))).await
                    } else {
                        pair((&a, named("a")), (&b, named("b"))).await
                    }
                });
                assert!(ends.iter().all(Result::is_ok), "killed after {n} polls: {ends:?}");
            }
            let after = assert_pair(&nodes.path("a"), &nodes.path("b"));
            assert!(before.is_none_or(|before| before == after), "a pair that was made is kept");
            n += 1;
            assert!(n < 500, "it never ends");
        }
    }
    // Killed before the terms, between the terms and the confirmation, and after it.
    for state in [[false, false, false], [true, false, true], [true, true, false]] {
        assert!(seen.contains(&state), "{state:?} was not met: {seen:?}");
    }
}

/// Any half that was made by hand as a crash leaves it: the authority is paired, the other has the terms only.
#[test]
fn the_first_connection_finishes_what_was_interrupted() {
    let nodes = Nodes::new();
    let partner = |of: &Identity, name: &str| Partner { key: of.public().clone(), about: named(name).about };
    let pair = Pair::new(Letter::A, partner(&nodes.b, "b")).expect("random");
    nodes.a.prepare(&pair).expect("written");
    nodes.a.commit().expect("written");
    nodes.b.prepare(&pair.mirrored(partner(&nodes.a, "a"))).expect("written");
    let load = |name: &str| Arc::new(Identity::load(&nodes.path(name)).expect("loads"));
    runtime().block_on(first_connection(load("a"), load("b")));
    assert_eq!(assert_pair(&nodes.path("a"), &nodes.path("b")), pair.cluster);
}

async fn first_connection(a: Arc<Identity>, b: Arc<Identity>) {
    let settings =
        |partner, name: &str| Settings { listen: vec![SocketAddr::from(ANY)], partner, from: None, about: named(name).about };
    let server = Channel::start(a, settings(Vec::new(), "a"), Arc::new(Nothing)).await.expect("starts");
    let client = Channel::start(b.clone(), settings(vec![server.listening()[0]], "b"), Arc::new(Nothing)).await.expect("starts");
    let mut pair = b.watch();
    pair.wait_for(Option::is_some).await.expect("finished");
    assert!(matches!(client.call(Request::Time).await, Ok(Answer::Time { .. })));
    client.close().await;
    server.close().await;
}
