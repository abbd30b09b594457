//! Whoever is not the partner: refused, counted, bounded.

use super::*;
use crate::frame::Codec;
use crate::tls::{self, Anyone};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

async fn tcp(to: SocketAddr) -> TcpStream {
    TcpStream::connect(to).await.expect("connected")
}

/// Connects as `config` says, then reads until the server closes; whatever it says on the way is thrown away.
async fn tls_until_end(to: SocketAddr, config: Arc<ClientConfig>, say: &[u8]) {
    if let Ok(mut tls) = TlsConnector::from(config).connect(tls::no_name(), tcp(to).await).await {
        let _ = tls.write_all(say).await;
        let _ = tls.flush().await;
        let mut rest = Vec::new();
        let _ = tls.read_to_end(&mut rest).await;
        assert!(!String::from_utf8_lossy(&rest).contains("program"), "it was greeted");
    }
}

fn frame(json: &Value) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    let frame = crate::frame::Frame { json: json.to_string().into(), data: Bytes::new() };
    tokio_util::codec::Encoder::encode(&mut Codec::new(MAX_FRAME_BYTES), frame, &mut out).expect("fits");
    out.to_vec()
}

#[tokio::test]
async fn nobody_but_the_partner_is_answered() {
    let pair = Pair::new();
    let a = pair.start(0).await;
    let to = a.listening()[0];
    let (cluster, stranger_dir) = (pair.identities[0].pair().expect("paired").cluster, pair.path("stranger"));

    let stranger = Identity::create(&stranger_dir).expect("an identity");
    let hello = frame(&json!({ "hello": { "protocol": 1, "cluster": cluster, "node": "b", "name": "b" } }));
    tls_until_end(to, tls::client(&stranger, Anyone).expect("set up"), &hello).await;
    assert_eq!(a.counts().strangers, 1);

    // A stranger that shows the partner's certificate without its key.
    let (chain, _) = pair.identities[1].certified();
    let (_, wrong_key) = stranger.certified();
    let signer = crate::secret::provider().key_provider.load_private_key(wrong_key).expect("a key");
    let forged = Arc::new(rustls::sign::CertifiedKey::new(chain, signer));
    let mut config = (*tls::client(&stranger, Anyone).expect("set up")).clone();
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(forged));
    tls_until_end(to, Arc::new(config), &hello).await;
    assert_eq!(a.counts().accepted, 0);
    let after_forged = a.counts();
    assert_eq!(after_forged.strangers + after_forged.garbage, 2, "{after_forged:?}");

    let builder =
        ClientConfig::builder_with_provider(crate::secret::provider()).with_protocol_versions(&[&rustls::version::TLS12]);
    let old = builder.expect("set up").with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let mut nameless = (*tls::client(&stranger, Anyone).expect("set up")).clone();
    nameless.client_auth_cert_resolver = old.client_auth_cert_resolver.clone();
    tls_until_end(to, Arc::new(nameless), &hello).await;
    assert_eq!(a.counts().no_certificate, 1, "{:?}", a.counts());
    tls_until_end(to, Arc::new(old), &hello).await;
    assert_eq!(a.counts().version, 1, "{:?}", a.counts());

    let before = a.counts().garbage;
    for garbage in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0xff; 300], &[0x16, 3, 1, 0xff, 0xff, 1, 0, 0]] {
        let mut tcp = tcp(to).await;
        tcp.write_all(garbage).await.expect("sent");
        tcp.shutdown().await.expect("shut down");
        let _ = tcp.read_to_end(&mut Vec::new()).await;
    }
    assert_eq!(a.counts().garbage, before + 3, "{:?}", a.counts());

    // The partner's key, but another cluster, this node's own letter, no greeting at all, or a frame beyond the limit.
    let own = || tls::client(&pair.identities[1], Anyone).expect("set up");
    for (node, cluster) in [("b", cluster.wrapping_add(1)), ("a", cluster)] {
        let hello = frame(&json!({ "hello": { "protocol": 1, "cluster": cluster, "node": node, "name": "b" } }));
        tls_until_end(to, own(), &hello).await;
    }
    assert_eq!(a.counts().mismatched, 2);
    tls_until_end(to, own(), &frame(&json!({ "id": 1, "request": { "ask": "status" } }))).await;
    tls_until_end(to, own(), &frame(&json!([1, 2, 3]))).await;
    tls_until_end(to, own(), &[0xff; 64]).await;
    assert_eq!(a.counts().oversized, 3, "{:?}", a.counts());
    assert_eq!((a.counts().accepted, a.counts().requests), (0, 0));

    // And after all that, the partner is answered.
    let b = pair.start(1).await;
    assert!(b.call(Request::Status).await.is_ok());
}

#[tokio::test]
async fn the_client_does_not_believe_another_key_either() {
    let pair = Pair::new();
    let others = Pair::new();
    // A machine of another pair answers at the partner's address.
    let _other = others.start(1).await;
    let a = pair.start_with(0, others.addresses[1]).await;
    let mut state = a.state();
    let told = state.wait_for(|s| matches!(s, State::Down { why } if why.contains("another machine answers"))).await;
    assert!(told.is_ok());
}

// The clock of the test jumps whenever everybody waits: what is slow is cut off at once, and nothing else is.
#[tokio::test(start_paused = true)]
async fn who_is_slow_is_cut_off_and_holds_nobody_up() {
    let pair = Pair::new();
    let a = pair.start_with(0, own_address()).await;
    let to = a.listening()[0];
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut tcp = tcp(to).await;
        tcp.write_all(&[0x16, 3, 1]).await.expect("sent");
        slow.push(tcp);
    }
    for mut tcp in slow {
        let _ = tcp.read_to_end(&mut Vec::new()).await;
    }
    assert_eq!(a.counts().slow, 4);
    // Authenticated, and then half a frame: cut off too.
    let config = tls::client(&pair.identities[1], Anyone).expect("set up");
    let mut tls = TlsConnector::from(config).connect(tls::no_name(), tcp(to).await).await.expect("paired");
    tls.write_all(&[0, 0, 1, 0, 0, 0]).await.expect("sent");
    tls.flush().await.expect("sent");
    let _ = tls.read_to_end(&mut Vec::new()).await;
    assert_eq!(a.counts().slow, 5);
}

#[tokio::test]
async fn a_crowd_is_bounded() {
    let pair = Pair::new();
    let a = pair.start_with(0, own_address()).await;
    let to = a.listening()[0];
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(tcp(to).await);
    }
    // Those beyond the limit are closed without a word; the last one surely is.
    let mut last = crowd.pop().expect("there");
    let _ = last.read_to_end(&mut Vec::new()).await;
    assert_eq!(a.counts().crowd, 24);
    drop(crowd);
    let b = pair.start(1).await;
    assert!(b.call(Request::Status).await.is_ok());
}

#[tokio::test]
async fn a_relay_that_flips_bits_changes_no_answer() {
    let pair = Pair::new();
    let _b = pair.start(1).await;
    let relay_at = own_address();
    let relay = TcpListener::bind(relay_at).await.expect("bound");
    let target = pair.addresses[1];
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        // Each connection is disturbed later than the one before, in both directions.
        for n in 0_usize.. {
            let Ok((near, _)) = relay.accept().await else { return };
            let Ok(far) = TcpStream::connect(target).await else { return };
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            connections.spawn(disturb(near_in, far_out, 40 + n * 311));
            connections.spawn(disturb(far_in, near_out, 77 + n * 419));
        }
    });
    let a = pair.start_with(0, relay_at).await;
    let (mut right, mut wrong) = (0, 0);
    while right < 40 && wrong < 400 {
        match a.call_within(Request::Status, Duration::from_secs(5)).await {
            Ok(answer) => {
                assert_eq!(answer, Answer::Told(json!({ "node": "b" })));
                right += 1;
            }
            Err(Error::Down { .. } | Error::Lost { .. } | Error::Late { .. }) => wrong += 1,
            Err(other) => panic!("a flipped bit became {other}"),
        }
    }
    assert!(right == 40, "{right} right, {wrong} wrong");
}

async fn disturb(mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf, at: usize) {
    let (mut buffer, mut passed) = ([0; 1024], 0);
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if (passed..passed + n).contains(&at) {
            buffer[at - passed] ^= 1 << (at % 8);
        }
        passed += n;
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
