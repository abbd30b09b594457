//! Tests of the channel over real sockets: two nodes on loopback addresses of their own.

mod files;
mod strangers;
mod versions;

use super::*;
use serde_json::json;
use std::path::Path;
use std::sync::atomic::AtomicU32;
use tokio::sync::Notify;

/// A loopback address that no other test of this machine uses: its middle comes from the process, its end counts.
pub(super) fn own_address() -> SocketAddr {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let [_, _, c, d] = std::process::id().to_be_bytes();
    let n = LAST.fetch_add(1, Ordering::Relaxed) as u8;
    SocketAddr::from(([127, 64 + (n % 128), c.wrapping_add(n / 128), d.clamp(1, 254)], 4115))
}

/// Answers `Status` with what it is, `Order` by its name, and names files of a folder.
pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) folder: PathBuf,
    pub(super) asked: Notify,
}

impl Handler for Node {
    fn answer(&self, request: Request) -> BoxFuture<'_, Result<Answer, Refusal>> {
        Box::pin(async move {
            match request {
                Request::Status => Ok(Answer::Told(json!({ "node": self.name }))),
                Request::Standby { .. } => Ok(Answer::Done),
                Request::Order { name, .. } if name == "wait" => {
                    self.asked.notify_one();
                    std::future::pending().await
                }
                Request::Order { name, .. } if name == "huge" => Ok(Answer::Told(json!("x".repeat(MAX_FRAME_BYTES)))),
                other => Err(Refusal { kind: RefusalKind::Refused, reasons: vec!["one".to_owned(), format!("two {other:?}")] }),
            }
        })
    }

    fn file(&self, name: String) -> BoxFuture<'_, Result<PathBuf, Refusal>> {
        Box::pin(async move {
            if name.contains('/') {
                return Err(Refusal::new(RefusalKind::NotFound, "no folders"));
            }
            Ok(self.folder.join(name))
        })
    }
}

pub(super) struct Pair {
    pub(super) dir: tempfile::TempDir,
    pub(super) identities: [Arc<Identity>; 2],
    pub(super) addresses: [SocketAddr; 2],
    pub(super) nodes: [Arc<Node>; 2],
}

impl Pair {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let [a, b] = Identity::couple(&dir.path().join("a"), &dir.path().join("b"), ["a", "b"]).expect("a couple");
        let nodes = ["a", "b"]
            .map(|name| Arc::new(Node { name, folder: dir.path().join(format!("{name}-files")), asked: Notify::new() }));
        for node in &nodes {
            std::fs::create_dir(&node.folder).expect("a folder");
        }
        Self { identities: [Arc::new(a), Arc::new(b)], addresses: [own_address(), own_address()], nodes, dir }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts node 0 or 1, with its partner at `partner`.
    pub(super) async fn start_with(&self, node: usize, partner: SocketAddr) -> Channel {
        let about = About { name: self.nodes[node].name.to_owned(), board: "test".to_owned(), program: "0.1.0".to_owned() };
        let settings = Settings { listen: vec![self.addresses[node]], partner: vec![partner], from: None, about };
        let channel = Channel::start(self.identities[node].clone(), settings, self.nodes[node].clone()).await.expect("it starts");
        channel.heard(true);
        channel
    }

    pub(super) async fn start(&self, node: usize) -> Channel {
        self.start_with(node, self.addresses[1 - node]).await
    }

    pub(super) async fn both(&self) -> [Channel; 2] {
        [self.start(0).await, self.start(1).await]
    }
}

pub(super) async fn up(channel: &Channel) -> Hello {
    let mut state = channel.state();
    match &*state.wait_for(|state| matches!(state, State::Up { .. })).await.expect("it lives") {
        State::Up { hello, .. } => hello.clone(),
        State::Down { .. } => panic!("waited for the other"),
    }
}

pub(super) async fn down(channel: &Channel) -> String {
    let mut state = channel.state();
    match &*state.wait_for(|state| matches!(state, State::Down { .. })).await.expect("it lives") {
        State::Down { why } => why.clone(),
        State::Up { .. } => panic!("waited for the other"),
    }
}

#[tokio::test]
async fn both_nodes_ask_and_answer() {
    let pair = Pair::new();
    let [a, b] = pair.both().await;
    assert_eq!(a.call(Request::Status).await.expect("answered"), Answer::Told(json!({ "node": "b" })));
    assert_eq!(b.call(Request::Status).await.expect("answered"), Answer::Told(json!({ "node": "a" })));
    assert_eq!((up(&a).await.node, up(&b).await.node), (Letter::B, Letter::A));
    let Ok(Answer::Version(about)) = a.call(Request::Version).await else { panic!("no version") };
    assert_eq!((about.name.as_str(), about.board.as_str()), ("b", "test"));
    let Ok(Answer::Time { unix_ms, up_ms }) = a.call(Request::Time).await else { panic!("no time") };
    assert!(unix_ms > 1_700_000_000_000 && up_ms > 0);
    // What a node tells about itself is kept with the pair.
    assert_eq!(pair.identities[0].pair().expect("paired").partner.about.board, "test");
    let Err(Error::Refused(refusal)) = a.call(Request::ConfigGet).await else { panic!("not refused") };
    assert_eq!(refusal.reasons.len(), 2, "every reason arrives: {refusal}");
    let counts = b.counts();
    assert_eq!((counts.accepted, counts.unknown, counts.strangers), (1, 0, 0));
}

#[tokio::test]
async fn calls_run_side_by_side_and_are_bounded() {
    let pair = Pair::new();
    let [a, _b] = pair.both().await;
    up(&a).await;
    let wait = Request::Order { name: "wait".to_owned(), arguments: Value::Null };
    // One that never ends does not hold up the next, and ends with its limit on both sides.
    let slow = a.call_within(wait.clone(), Duration::from_millis(300));
    let quick = async {
        pair.nodes[1].asked.notified().await;
        a.call(Request::Status).await
    };
    let (slow, quick) = tokio::join!(slow, quick);
    assert!(matches!(slow, Err(Error::Late { .. } | Error::Refused(Refusal { kind: RefusalKind::Late, .. }))), "{slow:?}");
    assert!(quick.is_ok(), "{quick:?}");
    let many = (0..MAX_CALLS + 10).map(|_| a.call_within(wait.clone(), Duration::from_millis(200)));
    let ends = futures_util::future::join_all(many).await;
    assert_eq!(ends.iter().filter(|end| matches!(end, Err(Error::Busy { .. }))).count(), 10);
    let refused = |kind| ends.iter().filter(|end| matches!(end, Err(Error::Refused(r)) if r.kind == kind)).count();
    assert!(refused(RefusalKind::Busy) > 0, "the other side bounds them too: {ends:?}");
    // The other side's clocks for what was given up run out a moment after ours.
    let free = async {
        while let Err(why) = a.call(Request::Status).await {
            assert!(matches!(&why, Error::Refused(r) if r.kind == RefusalKind::Busy), "{why:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), free).await.expect("its places are free again");
}

#[tokio::test]
async fn what_is_too_large_is_told_and_harms_nothing() {
    let pair = Pair::new();
    let [a, _b] = pair.both().await;
    let order = |name: &str, arguments| Request::Order { name: name.to_owned(), arguments };
    let end = a.call(order("x", json!("y".repeat(MAX_FRAME_BYTES)))).await;
    assert!(matches!(end, Err(Error::TooLarge { .. })), "{end:?}");
    let end = a.call(order("huge", Value::Null)).await;
    assert!(matches!(&end, Err(Error::Refused(r)) if r.kind == RefusalKind::Failed), "{end:?}");
    assert!(a.call(Request::Status).await.is_ok());
}

#[tokio::test]
async fn a_partner_that_restarts_is_found_again() {
    let pair = Pair::new();
    let a = pair.start(0).await;
    let end = a.call_within(Request::Status, Duration::from_millis(50)).await;
    assert!(matches!(end, Err(Error::Down { .. })), "{end:?}");
    for round in 0..3 {
        let b = pair.start(1).await;
        assert!(a.call(Request::Status).await.is_ok(), "round {round}");
        let wait = a.call(Request::Order { name: "wait".to_owned(), arguments: Value::Null });
        let kill = async {
            pair.nodes[1].asked.notified().await;
            b.close().await;
        };
        let (end, ()) = tokio::join!(wait, kill);
        assert!(matches!(end, Err(Error::Lost { .. })), "it is not known whether it was done: {end:?}");
        down(&a).await;
    }
}

#[tokio::test]
async fn an_unpaired_node_waits_for_its_pair() {
    let pair = Pair::new();
    let [a, b] = pair.both().await;
    up(&a).await;
    up(&b).await;
    pair.identities[1].unpair().expect("unpaired");
    // The connection at hand lives on; a new one is refused.
    b.close().await;
    let b = pair.start(1).await;
    assert!(down(&b).await.contains("not"));
    let mut state = a.state();
    let told = state.wait_for(|s| matches!(s, State::Down { why } if why.contains("does not know this node's key"))).await;
    assert!(told.is_ok());
    drop(told);
    assert!(b.counts().strangers > 0);
    // Paired again (as after a restored backup), both find each other by themselves.
    let of_a = pair.identities[0].pair().expect("paired");
    let about = About { name: "a".to_owned(), ..About::default() };
    let of_b = of_a.mirrored(crate::pair::Partner { key: pair.identities[0].public().clone(), about });
    pair.identities[1].prepare(&of_b).expect("prepared");
    pair.identities[1].commit().expect("paired");
    up(&a).await;
    up(&b).await;
}

#[tokio::test]
async fn frame_keys_change_on_both_nodes_wherever_an_earlier_change_stopped() {
    let pair = Pair::new();
    let [a, b] = pair.both().await;
    let keys = |node: usize| pair.identities[node].pair().expect("paired").keys;
    let before = keys(0);
    let new = a.rotate_keys().await.expect("changed");
    assert_eq!((&new, &keys(0)), (&keys(1), &keys(1)));
    assert_eq!((new.epoch, new.other.is_none()), (before.epoch + 1, true));
    assert_ne!(new.current, before.current);
    let asked = b.rotate_keys().await.expect("changed by node a");
    assert_eq!((asked.epoch, &asked), (new.epoch + 1, &keys(0)));
    // Steps that were done before the change stopped: (on a, on b).
    for (on_a, on_b) in [(1, 0), (1, 1), (2, 1), (2, 2), (3, 2), (3, 3)] {
        let now = keys(0);
        assert_eq!(now, keys(1));
        let epoch = now.epoch + 1;
        let next = OtherKey { epoch, key: Secret::new().expect("random") };
        let steps = [KeyStep::Accept(next), KeyStep::Use { epoch }, KeyStep::Forget { epoch }];
        for (node, done) in [(0, on_a), (1, on_b)] {
            for step in &steps[..done] {
                pair.identities[node].change_keys(step).expect("a step");
            }
        }
        let new = a.rotate_keys().await.expect("changed");
        assert_eq!((&new, &new), (&keys(0), &keys(1)), "stopped at {on_a} {on_b}");
        assert!(new.epoch >= epoch && new.other.is_none());
    }
    // On disk too.
    let load = |name: &str| Identity::load(&pair.path(name)).expect("loads").pair();
    assert_eq!((load("a"), load("b")), (pair.identities[0].pair(), pair.identities[1].pair()));
}

#[tokio::test]
async fn an_address_that_is_taken_is_told() {
    let pair = Pair::new();
    let _a = pair.start(0).await;
    let settings = Settings { listen: vec![pair.addresses[0]], partner: Vec::new(), from: None, about: About::default() };
    let end = Channel::start(pair.identities[1].clone(), settings, pair.nodes[1].clone()).await;
    assert!(matches!(end, Err(Error::Listen { .. })));
}

pub(super) fn write(path: &Path, content: &[u8]) {
    std::fs::write(path, content).expect("written");
}
