//! A partner of the next version, made by hand.

use super::*;
use crate::frame::{Codec, Frame};
use crate::tls::{self, Anyone};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::codec::Framed;

type Framed1<S> = Framed<S, Codec>;

async fn send<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(stream: &mut Framed1<S>, json: &Value) {
    stream
        .send(Frame { json: json.to_string().into(), data: Bytes::from_static(b"attached by a newer one") })
        .await
        .expect("sent");
}

async fn receive<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(stream: &mut Framed1<S>) -> Value {
    let frame = stream.next().await.expect("open").expect("a frame");
    serde_json::from_slice(&frame.json).expect("JSON")
}

fn hello(pair: &Pair, node: &str, protocol: u32, oldest: u32) -> Value {
    let cluster = pair.identities[0].pair().expect("paired").cluster;
    json!({
        "hello": { "protocol": protocol, "oldest": oldest, "cluster": cluster, "node": node, "name": node, "colour": "blue" },
        "compression": ["zstd"],
    })
}

#[tokio::test]
async fn a_newer_client_is_understood() {
    let pair = Pair::new();
    let a = pair.start_with(0, own_address()).await;
    let config = tls::client(&pair.identities[1], Anyone).expect("set up");
    let connect = async || {
        let tcp = TcpStream::connect(a.listening()[0]).await.expect("connected");
        let tls = TlsConnector::from(config.clone()).connect(tls::no_name(), tcp).await.expect("paired");
        Framed::new(tls, Codec::new(MAX_FRAME_BYTES))
    };
    let mut stream = connect().await;
    send(&mut stream, &hello(&pair, "b", 2, 1)).await;
    let answer = receive(&mut stream).await;
    assert_eq!(answer["hello"]["node"], "a", "{answer}");
    // A kind of message that is not known is passed over; then unknown fields, an unknown request, a known one that makes no sense.
    send(&mut stream, &json!({ "notice": { "moon": "full" } })).await;
    send(&mut stream, &json!({ "id": 7, "request": { "ask": "status", "detail": 3 }, "priority": 1 })).await;
    let answer = receive(&mut stream).await;
    assert_eq!((&answer["id"], &answer["answer"]["told"]["node"]), (&json!(7), &json!("a")), "{answer}");
    send(&mut stream, &json!({ "id": 8, "request": { "ask": "teleport", "to": "moon" } })).await;
    let answer = receive(&mut stream).await;
    assert_eq!((&answer["id"], &answer["refused"]["kind"]), (&json!(8), &json!("unknown")), "{answer}");
    assert!(answer["refused"]["reasons"][0].as_str().is_some_and(|s| s.contains("`teleport`")), "{answer}");
    send(&mut stream, &json!({ "id": 9, "request": { "ask": "read", "name": "x" } })).await;
    let answer = receive(&mut stream).await;
    assert_eq!((&answer["id"], &answer["refused"]["kind"]), (&json!(9), &json!("malformed")), "{answer}");
    for odd in [json!(null), json!(5), json!({ "ask": 5 }), json!({})] {
        send(&mut stream, &json!({ "id": 10, "request": odd, "within_ms": 500 })).await;
        if odd != Value::Null {
            let answer = receive(&mut stream).await;
            assert_eq!(answer["refused"]["kind"], json!("unknown"), "{odd}: {answer}");
        }
    }
    assert_eq!(a.counts().unknown, 4);
    // A version that does not understand us any more is told so.
    let mut stream = connect().await;
    send(&mut stream, &hello(&pair, "b", 9, 2)).await;
    let answer = receive(&mut stream).await;
    assert!(answer["refused"]["reasons"][0].as_str().is_some_and(|s| s.contains("upgrade")), "{answer}");
    assert_eq!(a.counts().version, 1);
}

#[tokio::test]
async fn a_newer_server_is_understood() {
    let pair = Pair::new();
    let listener = TcpListener::bind(pair.addresses[1]).await.expect("bound");
    let config = tls::server(&pair.identities[1], Anyone).expect("set up");
    let greeting = hello(&pair, "b", 2, 1);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (tcp, _) = listener.accept().await.expect("accepted");
        let tls = TlsAcceptor::from(config).accept(tcp).await.expect("paired");
        let mut stream = Framed::new(tls, Codec::new(MAX_FRAME_BYTES));
        receive(&mut stream).await;
        send(&mut stream, &greeting).await;
        loop {
            let asked = receive(&mut stream).await;
            let id = &asked["id"];
            let answer = match asked["request"]["ask"].as_str().expect("a name") {
                "status" => json!({ "id": id, "answer": { "told": { "node": "b" } }, "took_ms": 3 }),
                "version" => json!({ "id": id, "answer": { "version": { "name": "b", "program": "0.2.0", "colour": "red" } } }),
                "standby" => json!({ "id": id, "answer": { "perhaps": 1 } }),
                "order" => json!({ "id": id, "refused": { "kind": "novel", "reasons": ["not today"], "until": "tomorrow" } }),
                "config_get" => json!({ "id": id }),
                _ => json!({ "id": id, "answer": { "time": { "unix_ms": 1, "up_ms": 1, "zone": 8 } } }),
            };
            send(&mut stream, &answer).await;
        }
    });
    let a = pair.start(0).await;
    assert_eq!(up(&a).await.protocol, 2);
    assert_eq!(a.call(Request::Status).await.expect("answered"), Answer::Told(json!({ "node": "b" })));
    assert!(matches!(a.call(Request::Version).await, Ok(Answer::Version(about)) if about.program == "0.2.0"));
    assert!(matches!(a.call(Request::Standby { why: String::new() }).await, Err(Error::Answer(_))));
    assert!(matches!(a.call(Request::ConfigGet).await, Err(Error::Answer(_))));
    let refused = a.call(Request::Order { name: "x".to_owned(), arguments: Value::Null }).await;
    assert!(
        matches!(&refused, Err(Error::Refused(r)) if r.kind == RefusalKind::Other && r.reasons == ["not today"]),
        "{refused:?}"
    );
    assert!(matches!(a.call(Request::Time).await, Ok(Answer::Time { unix_ms: 1, .. })));
}

#[test]
fn every_request_is_in_the_list_of_names() {
    let hash = String::new();
    let step = KeyStep::Use { epoch: 1 };
    let offer: twinpost_config::history::Offer = serde_json::from_value(json!({
        "generation": { "number": 1, "id": "", "hash": "", "parents": [], "when_s": 0, "who": "", "text": "" }, "ancestors": [],
    }))
    .expect("an offer");
    let name = String::new;
    let all = [
        Request::Standby { why: name() },
        Request::Status,
        Request::ConfigOffer(Box::new(offer)),
        Request::ConfigGet,
        Request::Order { name: name(), arguments: Value::Null },
        Request::Time,
        Request::Version,
        Request::Receive { name: name(), purpose: name() },
        Request::Keys(step),
        Request::RotateKeys,
        Request::File { name: name() },
        Request::Read { name: name(), offset: 0, bytes: 0, hash },
    ];
    let names: Vec<Value> = all.iter().map(|r| serde_json::to_value(r).expect("written")["ask"].clone()).collect();
    assert_eq!(names, Request::NAMES.map(Value::from));
    for request in all {
        let json = serde_json::to_value(&request).expect("written");
        assert_eq!(serde_json::from_value::<Request>(json).expect("read"), request);
        assert!(request.limit() >= Duration::from_secs(1));
    }
}
