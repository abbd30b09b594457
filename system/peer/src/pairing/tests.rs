//! Tests of pairing over real sockets on loopback.

mod attack;
mod kill;

use super::*;
use crate::secret::Secret;
use proptest::prelude::*;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

const ANY: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

pub(super) struct Nodes {
    pub(super) dir: tempfile::TempDir,
    pub(super) a: Arc<Identity>,
    pub(super) b: Arc<Identity>,
}

impl Nodes {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let [a, b] = ["a", "b"].map(|name| Arc::new(Identity::create(&dir.path().join(name)).expect("an identity")));
        Self { dir, a, b }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

pub(super) fn named(name: &str) -> PairAs {
    let about = About { name: name.to_owned(), board: "x1".to_owned(), program: "0.1.0".to_owned() };
    PairAs { about, replace: false }
}

pub(super) async fn offer(identity: &Arc<Identity>, mine: PairAs) -> Offer {
    pair_offer(identity.clone(), mine, SocketAddr::from(ANY)).await.expect("an offer")
}

pub(super) async fn pair(offers: (&Arc<Identity>, PairAs), joins: (&Arc<Identity>, PairAs)) -> [Result<Paired, Error>; 2] {
    let offer = offer(offers.0, offers.1).await;
    let (address, code) = (offer.address(), offer.code().to_string());
    let (offered, joined) = tokio::join!(offer.wait(), pair_join(joins.0.clone(), joins.1, address, &code));
    [offered, joined]
}

/// Both halves fit, in memory and on disk; returns the cluster.
pub(super) fn assert_pair(a: &Path, b: &Path) -> u32 {
    let [a, b] = [a, b].map(|dir| Identity::load(dir).expect("loads"));
    let (of_a, of_b) = (a.pair().expect("a is paired"), b.pair().expect("b is paired"));
    assert_eq!(
        (of_a.cluster, of_a.node, &of_a.keys, of_a.witness_key),
        (of_b.cluster, of_b.node.other(), &of_b.keys, of_b.witness_key)
    );
    assert_eq!((&of_a.partner.key, &of_b.partner.key), (b.public(), a.public()));
    assert!(a.unfinished().is_none() && b.unfinished().is_none());
    of_a.cluster
}

fn why(end: &Result<Paired, Error>) -> &PairingError {
    match end {
        Err(Error::Pairing(why)) => why,
        other => panic!("expected a refusal, found {other:?}"),
    }
}

#[tokio::test]
async fn two_new_nodes_are_paired_by_the_code() {
    let nodes = Nodes::new();
    let mut second = named("second");
    second.about.board = "x2".to_owned();
    let [offered, joined] = pair((&nodes.a, named("first")), (&nodes.b, second)).await;
    let (offered, joined) = (offered.expect("paired"), joined.expect("paired"));
    assert_eq!((offered.kind, joined.kind), (Kind::New, Kind::New));
    assert_eq!((offered.pair.node, joined.pair.node), (Letter::A, Letter::B));
    assert_eq!((offered.pair.partner.about.name.as_str(), joined.pair.partner.about.name.as_str()), ("second", "first"));
    assert!(joined.warnings.len() == 1 && joined.warnings[0].contains("boards"), "{:?}", joined.warnings);
    assert_eq!(offered.warnings.len(), 1);
    let cluster = assert_pair(&nodes.path("a"), &nodes.path("b"));
    // Again, the other way round: nothing changes.
    let [offered, joined] = pair((&nodes.b, named("second")), (&nodes.a, named("first"))).await;
    assert_eq!((offered.expect("paired").kind, joined.expect("paired").kind), (Kind::Again, Kind::Again));
    assert_eq!(assert_pair(&nodes.path("a"), &nodes.path("b")), cluster);
    // One half is lost (the node was set up anew from its key): the other half is given back.
    for lost in [&nodes.a, &nodes.b] {
        lost.unpair().expect("removed");
        let [offered, joined] = pair((&nodes.a, named("first")), (&nodes.b, named("second"))).await;
        assert_eq!((offered.expect("paired").kind, joined.expect("paired").kind), (Kind::Again, Kind::Again));
        assert_eq!(assert_pair(&nodes.path("a"), &nodes.path("b")), cluster);
    }
}

#[tokio::test]
async fn a_blank_node_replaces_a_partner_only_on_the_administrators_word() {
    for blank_joins in [true, false] {
        let nodes = Nodes::new();
        let old = Arc::new(Identity::create(&nodes.path("old")).expect("an identity"));
        let [one, two] = pair((&nodes.a, named("a")), (&old, named("old"))).await;
        let (before, _) = (one.expect("paired").pair, two.expect("paired"));
        let both = async |replace: bool| {
            let stays = PairAs { replace, ..named("a") };
            match blank_joins {
                true => pair((&nodes.a, stays), (&nodes.b, named("b"))).await,
                false => pair((&nodes.b, named("b")), (&nodes.a, stays)).await,
            }
        };
        let ends = both(false).await;
        let told = PairingError::AlreadyPaired { node: "a".to_owned(), with: "old".to_owned() };
        assert!(ends.iter().all(|end| *why(end) == told), "{ends:?}");
        assert_eq!((nodes.a.pair(), nodes.b.pair()), (Some(before.clone()), None));
        let ends = both(true).await.map(|end| end.expect("paired"));
        assert!(ends.iter().all(|end| end.kind == Kind::Replacement));
        assert_eq!([ends[0].follows, ends[1].follows], [!blank_joins, blank_joins], "the blank node follows");
        assert_eq!(assert_pair(&nodes.path("a"), &nodes.path("b")), before.cluster);
        let after = nodes.a.pair().expect("paired");
        assert_eq!((after.node, after.witness_key, after.keys.epoch), (before.node, before.witness_key, before.keys.epoch + 1));
        assert_ne!(after.keys.current, before.keys.current, "the old partner signs with a key that counts no more");
        assert!(nodes.a.pair_with(old.public()).is_none());
        // A pair does not take a node of another pair, even on one administrator's word.
        let [c, d] = Identity::couple(&nodes.path("c"), &nodes.path("d"), ["c", "d"]).expect("a couple").map(Arc::new);
        let ends = pair((&nodes.a, PairAs { replace: true, ..named("a") }), (&c, PairAs { replace: true, ..named("c") })).await;
        assert!(ends.iter().all(|end| matches!(why(end), PairingError::TwoPairs { .. })), "{ends:?}");
        drop(d);
    }
}

#[tokio::test]
async fn one_name_or_one_key_on_both_nodes_is_told() {
    let nodes = Nodes::new();
    let ends = pair((&nodes.a, named("mail")), (&nodes.b, named("Mail"))).await;
    assert!(ends.iter().all(|end| matches!(why(end), PairingError::SameName { .. })), "{ends:?}");
    let ends = pair((&nodes.a, named("a")), (&nodes.a, named("b"))).await;
    assert!(ends.iter().all(|end| *why(end) == PairingError::SameKey), "{ends:?}");
    assert_eq!((nodes.a.pair(), nodes.b.pair()), (None, None));
}

#[test]
fn both_nodes_decide_the_same_and_never_overwrite_a_pair_unasked() {
    let key = |n: u8| PublicKey::new(vec![n]);
    let presents = |other: u8| {
        [None, Some(other), Some(9)]
            .map(|partner| partner.map(|p| Present { cluster: 1, node: Letter::A, partner: key(p), name: "x".to_owned() }))
    };
    for (of_first, of_second) in presents(2).iter().flat_map(|f| presents(1).map(|s| (f.clone(), s))) {
        for replace in [[false, false], [true, false], [false, true], [true, true]] {
            let card = |name: &str, replace, paired| Card { about: named(name).about, replace, paired };
            let (first, second) = (card("1", replace[0], of_first.clone()), card("2", replace[1], of_second.clone()));
            let decided = plan((&first, &key(1)), (&second, &key(2)));
            let foreign = |paired: &Option<Present>| paired.as_ref().is_some_and(|p| p.partner == key(9));
            let expected = match (&of_first, &of_second) {
                (None, None) => Some((Kind::New, true)),
                (Some(_), None) if foreign(&of_first) => replace[0].then_some((Kind::Replacement, true)),
                (None, Some(_)) if foreign(&of_second) => replace[1].then_some((Kind::Replacement, false)),
                (Some(_), None) => Some((Kind::Again, true)),
                (None, Some(_)) => Some((Kind::Again, false)),
                (Some(_), Some(_)) => (!foreign(&of_first) && !foreign(&of_second)).then_some((Kind::Again, true)),
            };
            let found = decided.as_ref().ok().map(|plan| (plan.kind, plan.offerer_rules));
            assert_eq!(found, expected, "{first:?} {second:?} {decided:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_code_ends_after_ten_minutes() {
    let nodes = Nodes::new();
    let offer = offer(&nodes.a, named("a")).await;
    let (address, code, begun) = (offer.address(), offer.code().to_string(), tokio::time::Instant::now());
    assert_eq!(*why(&offer.wait().await), PairingError::Expired);
    assert!(begun.elapsed() >= VALID && begun.elapsed() < VALID + Duration::from_secs(1));
    let late = pair_join(nodes.b.clone(), named("b"), address, &code).await;
    assert!(matches!(why(&late), PairingError::Interrupted { .. }), "{late:?}");
}

#[tokio::test]
async fn another_version_is_told_which_node_to_upgrade() {
    let nodes = Nodes::new();
    let offer = offer(&nodes.a, named("a")).await;
    let address = offer.address();
    let waiting = tokio::spawn(offer.wait());
    let config = crate::tls::client(&nodes.b, crate::tls::Anyone).expect("set up");
    // N+1 that still understands N goes on; one that does not is refused.
    for (version, oldest, fits) in [(VERSION + 1, VERSION, true), (VERSION + 1, VERSION + 1, false)] {
        let tcp = tokio::net::TcpStream::connect(address).await.expect("connected");
        let tls = tokio_rustls::TlsConnector::from(config.clone()).connect(crate::tls::no_name(), tcp).await.expect("TLS");
        let mut side = Side::new(tls, nodes.b.clone(), named("b"), nodes.a.public().clone(), false);
        let exchange = Exchange::start(Code(0), nodes.b.public(), nodes.a.public(), &[0; 32], false);
        side.say(&Say::Start { version, oldest, share: exchange.share() }).await.expect("said");
        match side.hear().await {
            Ok(Say::Reply { .. }) => assert!(fits),
            Err(Error::Pairing(PairingError::Version { ours, theirs })) => {
                assert!(!fits);
                assert_eq!((ours, theirs), (version, VERSION));
            }
            other => panic!("{other:?}"),
        }
    }
    waiting.abort();
}

proptest! {
    #[test]
    fn any_message_of_a_stranger_is_survived(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz(&data);
    }

    #[test]
    fn messages_survive_the_wire(share in "[0-9a-fA-FxyzB]{0,70}", version in any::<u32>(), name in ".{0,20}") {
        let about = About { name, ..About::default() };
        let pair = Pair::new(Letter::B, Partner { key: PublicKey::new(vec![7]), about: about.clone() }).expect("random");
        let no = Say::No { why: PairingError::SameName { name: about.name.clone() } };
        let card = Say::Card(Card { about, replace: true, paired: None });
        for say in [Say::Start { version, oldest: 0, share: share.clone() }, card, Say::Terms { pair: Box::new(pair) }, no, Say::Thanks] {
            fuzz(&serde_json::to_vec(&say).expect("written"));
        }
        fuzz(share.as_bytes());
    }

    #[test]
    fn a_code_is_read_as_people_type_it(n in 0u32..100_000_000, at in 0usize..9, gap in "[ \t-]{0,3}") {
        let shown = Code(n).to_string();
        prop_assert_eq!(shown.len(), 9);
        let mut typed = format!("{n:08}");
        typed.insert_str(at.min(8), &gap);
        prop_assert_eq!(typed.parse::<Code>(), Ok(Code(n)));
        prop_assert_eq!(shown.parse::<Code>(), Ok(Code(n)));
    }

    #[test]
    fn only_the_same_code_roles_keys_and_connection_fit(n in 0u32..100_000_000, wrong in 0u32..100_000_000, what in 0usize..5) {
        let (a, b, c) = (PublicKey::new(vec![1]), PublicKey::new(vec![2]), PublicKey::new(vec![3]));
        let (code, binding) = (Code(n), Secret::new().expect("random").0);
        let joins = Exchange::start(code, &a, &b, &binding, false);
        let offers = match what {
            0 => Exchange::start(code, &a, &b, &binding, true),
            1 => Exchange::start(Code(if wrong == n { n ^ 1 } else { wrong }), &a, &b, &binding, true),
            2 => Exchange::start(code, &c, &b, &binding, true),
            3 => Exchange::start(code, &a, &c, &binding, true),
            _ => Exchange::start(code, &a, &b, &Secret::new().expect("random").0, true),
        };
        let (of_a, of_b) = (joins.share(), offers.share());
        let (left, right) = (joins.finish(&of_b, false).expect("a share"), offers.finish(&of_a, true).expect("a share"));
        prop_assert_eq!(left.joiner == right.joiner && left.offerer == right.offerer, what == 0);
        prop_assert!(left.joiner != left.offerer);
    }
}

#[test]
fn what_is_no_code_is_refused() {
    for bad in ["", "1234567", "123456789", "1234-567a", "１２３４５６７８", "1234+5678", "-", "0x123456"] {
        assert_eq!(bad.parse::<Code>(), Err(PairingError::CodeForm), "{bad}");
    }
    let drawn: std::collections::HashSet<String> = (0..50).map(|_| Code::new().expect("random").to_string()).collect();
    assert!(drawn.len() > 45, "codes are drawn anew");
}
