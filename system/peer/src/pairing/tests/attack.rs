//! Guessing, relays and noise.

use super::*;
use crate::tls::{self, Anyone};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn other_code(code: Code, n: u32) -> String {
    Code((code.0 + 1 + n) % 100_000_000).to_string()
}

#[tokio::test]
async fn three_wrong_codes_end_the_offer_and_two_do_not() {
    let nodes = Nodes::new();
    let open = offer(&nodes.a, named("a")).await;
    let (address, code, wrong) = (open.address(), open.code(), open.wrong());
    let waiting = tokio::spawn(open.wait());
    for left in [2, 1] {
        let end = pair_join(nodes.b.clone(), named("b"), address, &other_code(code, left)).await;
        assert_eq!(*why(&end), PairingError::WrongCode { left: left as u8 });
    }
    assert_eq!(*wrong.borrow(), 2);
    pair_join(nodes.b.clone(), named("b"), address, &code.to_string()).await.expect("the right one is taken still");
    waiting.await.expect("lives").expect("paired");
    assert_pair(&nodes.path("a"), &nodes.path("b"));

    let nodes = Nodes::new();
    let open = offer(&nodes.a, named("a")).await;
    let (address, code) = (open.address(), open.code());
    let waiting = tokio::spawn(open.wait());
    for n in 0..3 {
        let end = pair_join(nodes.b.clone(), named("b"), address, &other_code(code, n)).await;
        assert_eq!(*why(&end) == PairingError::TooManyWrongCodes, n == 2, "{end:?}");
    }
    assert_eq!(*why(&waiting.await.expect("lives")), PairingError::TooManyWrongCodes);
    let end = pair_join(nodes.b.clone(), named("b"), address, &code.to_string()).await;
    assert!(matches!(why(&end), PairingError::Interrupted { .. }), "the right code comes too late: {end:?}");
    assert_eq!((nodes.a.pair(), nodes.b.pair()), (None, None));
}

#[tokio::test]
async fn guesses_side_by_side_are_three_too() {
    let nodes = Nodes::new();
    let open = offer(&nodes.a, named("a")).await;
    let (address, code, wrong) = (open.address(), open.code(), open.wrong());
    let waiting = tokio::spawn(open.wait());
    let guesses =
        (0..30).map(|n| pair_join(nodes.b.clone(), named("b"), address, Box::leak(other_code(code, n).into_boxed_str())));
    let ends = join_all(guesses).await;
    let judged = ends.iter().filter(|end| matches!(why(end), PairingError::WrongCode { .. })).count();
    assert!(judged <= 2, "{ends:?}");
    assert_eq!(*why(&waiting.await.expect("lives")), PairingError::TooManyWrongCodes);
    assert_eq!(*wrong.borrow(), 3);
}

#[tokio::test]
async fn who_goes_before_confirming_is_not_counted_and_learned_nothing() {
    let nodes = Nodes::new();
    let open = offer(&nodes.a, named("a")).await;
    let (address, code, wrong) = (open.address(), open.code().to_string(), open.wrong());
    let waiting = tokio::spawn(open.wait());
    let config = tls::client(&nodes.b, Anyone).expect("set up");
    for _ in 0..5 {
        let tls = TlsConnector::from(config.clone())
            .connect(tls::no_name(), TcpStream::connect(address).await.expect("connected"))
            .await
            .expect("TLS");
        let mut side = Side::new(tls, nodes.b.clone(), named("b"), nodes.a.public().clone(), false);
        let exchange = Exchange::start(Code(1), nodes.b.public(), nodes.a.public(), &[0; 32], false);
        side.say(&Say::Start { version: VERSION, oldest: VERSION, share: exchange.share() }).await.expect("said");
        // Only the share comes, which fits every code; no tag before ours.
        assert!(matches!(side.hear().await, Ok(Say::Reply { .. })));
    }
    // Noise of other kinds: no TLS, no JSON, out of turn, no share.
    let mut tcp = TcpStream::connect(address).await.expect("connected");
    tcp.write_all(b"hello\r\n\r\n").await.expect("sent");
    let _ = tcp.read_to_end(&mut Vec::new()).await;
    for say in [Say::Done, Say::Confirm { tag: "00".to_owned() }, Say::Start { version: 1, oldest: 1, share: "zz".to_owned() }] {
        let tcp = TcpStream::connect(address).await.expect("connected");
        let tls = TlsConnector::from(config.clone()).connect(tls::no_name(), tcp).await.expect("TLS");
        let mut side = Side::new(tls, nodes.b.clone(), named("b"), nodes.a.public().clone(), false);
        side.say(&say).await.expect("said");
        while side.hear().await.is_ok() {}
    }
    assert_eq!(*wrong.borrow(), 0);
    pair_join(nodes.b.clone(), named("b"), address, &code).await.expect("paired");
    waiting.await.expect("lives").expect("paired");
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_does_not_hold_the_door() {
    let nodes = Nodes::new();
    let open = offer(&nodes.a, named("a")).await;
    let address = open.address();
    let waiting = tokio::spawn(open.wait());
    let mut slow = Vec::new();
    for _ in 0..12 {
        slow.push(TcpStream::connect(address).await.expect("connected"));
    }
    for mut tcp in slow {
        let _ = tcp.read_to_end(&mut Vec::new()).await;
    }
    assert!(!waiting.is_finished());
    waiting.abort();
}

/// A relay that ends TLS on both sides with keys of its own and passes on every message unchanged.
#[tokio::test]
async fn a_relay_between_the_nodes_is_a_wrong_code_on_both() {
    let nodes = Nodes::new();
    let relay = Identity::create(&nodes.path("relay")).expect("an identity");
    let open = offer(&nodes.a, named("a")).await;
    let (target, code, wrong) = (open.address(), open.code().to_string(), open.wrong());
    let waiting = tokio::spawn(open.wait());
    let listener = TcpListener::bind(SocketAddr::from(ANY)).await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let (server, client) = (tls::server(&relay, Anyone).expect("set up"), tls::client(&relay, Anyone).expect("set up"));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.expect("accepted");
            let mut near = TlsAcceptor::from(server.clone()).accept(tcp).await.expect("TLS");
            let tcp = TcpStream::connect(target).await.expect("connected");
            let mut far = TlsConnector::from(client.clone()).connect(tls::no_name(), tcp).await.expect("TLS");
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
    });
    let end = pair_join(nodes.b.clone(), named("b"), address, &code).await;
    assert_eq!(*why(&end), PairingError::WrongCode { left: 2 });
    assert_eq!(*wrong.borrow(), 1);
    assert_eq!((nodes.a.pair(), nodes.b.pair()), (None, None));
    // Without the relay the same code pairs.
    pair_join(nodes.b.clone(), named("b"), target, &code).await.expect("paired");
    waiting.await.expect("lives").expect("paired");
}

/// A relay that flips one bit, each time in another place and direction: no pair comes of it, or the right one; no code is counted; a repetition repairs.
#[tokio::test]
async fn flipped_bits_are_an_interruption() {
    let (mut interrupted, mut through) = (0, 0);
    for n in 0..70_usize {
        let nodes = Nodes::new();
        let open = offer(&nodes.a, named("a")).await;
        let (target, code, wrong) = (open.address(), open.code().to_string(), open.wrong());
        let waiting = tokio::spawn(open.wait());
        let listener = TcpListener::bind(SocketAddr::from(ANY)).await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (near, _) = listener.accept().await.expect("accepted");
            let far = TcpStream::connect(target).await.expect("connected");
            let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
            let at = n / 2 * 97;
            let never = usize::MAX;
            let (up, down) = if n % 2 == 0 { (at, never) } else { (never, at) };
            let up = async { relay(&mut near_in, &mut far_out, up).await };
            let down = async { relay(&mut far_in, &mut near_out, down).await };
            tokio::select! { () = up => {} () = down => {} }
        });
        let end = pair_join(nodes.b.clone(), named("b"), address, &code).await;
        match &end {
            Ok(_) => through += 1,
            Err(Error::Pairing(PairingError::Interrupted { .. })) => interrupted += 1,
            other => panic!("a flipped bit became {other:?}"),
        }
        assert_eq!(*wrong.borrow(), 0, "noise is no guess");
        // Repeated: at the same offer if it is open still, at a new one otherwise.
        if end.is_err() && pair_join(nodes.b.clone(), named("b"), target, &code).await.is_err() {
            let [one, two] = pair((&nodes.a, named("a")), (&nodes.b, named("b"))).await;
            assert!(one.is_ok() && two.is_ok(), "flip {n}: {one:?} {two:?}");
        }
        waiting.abort();
        let _ = waiting.await;
        assert_pair(&nodes.path("a"), &nodes.path("b"));
    }
    assert!(interrupted > 20 && through > 0, "{interrupted} interrupted, {through} through");
}

async fn relay(from: &mut tokio::net::tcp::OwnedReadHalf, to: &mut tokio::net::tcp::OwnedWriteHalf, flip_at: usize) {
    let (mut buffer, mut passed) = ([0; 512], 0);
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if (passed..passed + n).contains(&flip_at) {
            buffer[flip_at - passed] ^= 4;
        }
        passed += n;
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
