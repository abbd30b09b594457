//! What every engine must do. Clusters are independent, so the parts run at once.

use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use twinpost_witness::{Claimed, Error, Refusal, Renewed, Witness};

pub type Nodes = [Arc<dyn Witness>; 2];

/// An engine under test.
pub trait Engine: Sync {
    /// The two nodes of a cluster that never was, lease 800 ms.
    fn nodes(&self, cluster: u32) -> impl Future<Output = Nodes> + Send;
    /// What a lease of 800 ms lasts at least.
    fn shortest_lease_ms(&self) -> u64;
}

pub async fn run(engine: &impl Engine) {
    tokio::join!(
        first_wins(engine.nodes(0xa1).await),
        renewing_active_is_not_deposed(engine.nodes(0xa2).await, engine.shortest_lease_ms()),
        reign_won_elsewhere(engine.nodes(0xa3).await),
        never_both_in_one_reign(engine.nodes(0xa4).await),
        senseless(engine.nodes(0xa5).await),
        state_is_told(engine.nodes(0xa6).await),
        exactly_one(engine),
    );
}

async fn first_wins([a, b]: Nodes) {
    assert_eq!(a.claim(5, 6).await.unwrap(), Claimed::Won { reign: 6, granted_ms: u32::MAX });
    assert_eq!(b.claim(5, 6).await.unwrap(), Claimed::Lost { reign: 6 });
    assert_eq!(b.claim(5, 7).await.unwrap(), Claimed::Lost { reign: 6 });
    assert_eq!(a.claim(5, 6).await.unwrap(), Claimed::Won { reign: 6, granted_ms: u32::MAX }, "a repeated claim");
    assert_eq!(a.claim(4, 5).await.unwrap(), Claimed::Lost { reign: 6 }, "its own deeds are newer than its record");
    assert_eq!(b.claim(6, 7).await.unwrap(), Claimed::Won { reign: 7, granted_ms: u32::MAX });
    assert_eq!(a.claim(5, 6).await.unwrap(), Claimed::Lost { reign: 7 });
    assert_eq!(a.renew(6).await.unwrap(), Renewed::Lost { reign: 7 });
}

/// A lower bound of the age is told, by the one clock of this test.
async fn renewing_active_is_not_deposed([a, b]: Nodes, lease_ms: u64) {
    assert!(matches!(a.claim(0, 1).await.unwrap(), Claimed::Won { reign: 1, .. }));
    let begin = Instant::now();
    let mut last;
    loop {
        last = Instant::now();
        assert_eq!(a.renew(1).await.unwrap(), Renewed::Renewed);
        match b.claim(1, 2).await.unwrap() {
            Claimed::Held { left_ms } => assert!(left_ms > 0),
            // The machine stood still between renewal and claim.
            Claimed::Won { .. } if last.elapsed().as_millis() >= u128::from(lease_ms) => return,
            other => panic!("a renewing active was deposed: {other:?}"),
        }
        if begin.elapsed() > Duration::from_millis(lease_ms * 2) {
            break;
        }
        sleep(Duration::from_millis(lease_ms / 8)).await;
    }
    // It falls silent.
    let granted_ms = loop {
        match b.claim(1, 2).await.unwrap() {
            Claimed::Held { left_ms } => sleep(Duration::from_millis(u64::from(left_ms.clamp(10, 300)))).await,
            Claimed::Won { reign: 2, granted_ms } => break granted_ms,
            other => panic!("{other:?}"),
        }
    };
    let age = last.elapsed();
    assert!(age >= Duration::from_millis(lease_ms), "won after {age:?}");
    assert!(u128::from(granted_ms) <= age.as_millis(), "told {granted_ms} ms of {age:?}");
    assert!(u64::from(granted_ms) >= lease_ms, "told {granted_ms} ms of {age:?}");
    assert_eq!(a.renew(1).await.unwrap(), Renewed::Lost { reign: 2 });
    assert_eq!(b.renew(2).await.unwrap(), Renewed::Renewed);
    assert!(matches!(a.claim(2, 3).await.unwrap(), Claimed::Held { .. }));
    // The holder itself may go on at once: nobody else has a lease.
    assert!(matches!(b.claim(2, 3).await.unwrap(), Claimed::Won { reign: 3, .. }));
}

async fn reign_won_elsewhere([a, b]: Nodes) {
    assert!(matches!(a.claim(0, 1).await.unwrap(), Claimed::Won { .. }));
    assert_eq!(b.renew(4).await.unwrap(), Renewed::Renewed, "released or fenced: won without the witness");
    assert_eq!(a.claim(1, 5).await.unwrap(), Claimed::Lost { reign: 4 });
    assert_eq!(a.renew(1).await.unwrap(), Renewed::Lost { reign: 4 });
}

async fn never_both_in_one_reign([a, b]: Nodes) {
    assert!(matches!(a.claim(0, 1).await.unwrap(), Claimed::Won { .. }));
    assert_eq!(b.renew(1).await.unwrap(), Renewed::Renewed, "the winner released its claim and never renewed");
    assert_eq!(a.renew(1).await.unwrap(), Renewed::Lost { reign: 1 });
    assert_eq!(a.claim(0, 1).await.unwrap(), Claimed::Lost { reign: 1 });
}

async fn senseless([a, _b]: Nodes) {
    for refused in [a.claim(3, 3).await.map(drop), a.claim(3, 2).await.map(drop), a.renew(0).await.map(drop)] {
        assert!(matches!(refused, Err(Error::Refused { why: Refusal::Senseless, .. })), "{refused:?}");
    }
    assert_eq!(a.claim(0, 1).await.unwrap(), Claimed::Won { reign: 1, granted_ms: u32::MAX }, "they changed nothing");
}

async fn state_is_told([a, _b]: Nodes) {
    a.state().wait_for(|reachable| *reachable).await.unwrap();
}

/// Both claim the same reign at once, over and over, in several clusters on threads of their own.
async fn exactly_one(engine: &impl Engine) {
    let mut races = tokio::task::JoinSet::new();
    for cluster in 0xb0..0xb8 {
        let [a, b] = engine.nodes(cluster).await;
        races.spawn(async move {
            let mut wins = [0, 0];
            for reign in 1..=15 {
                let [one, two] = [&a, &b].map(Arc::clone);
                let one = tokio::spawn(async move { one.claim(reign - 1, reign).await.unwrap() });
                let two = tokio::spawn(async move { two.claim(reign - 1, reign).await.unwrap() });
                let outcome = [one.await.unwrap(), two.await.unwrap()];
                let won = outcome.map(|claimed| matches!(claimed, Claimed::Won { reign: r, .. } if r == reign));
                assert_eq!(won.iter().filter(|won| **won).count(), 1, "reign {reign} of cluster {cluster:x}: {outcome:?}");
                assert!(outcome.contains(&Claimed::Lost { reign }), "{outcome:?}");
                wins[usize::from(won[1])] += 1;
            }
            wins
        });
    }
    let wins = races.join_all().await;
    assert_eq!(wins.iter().flatten().sum::<u32>(), 8 * 15);
}
