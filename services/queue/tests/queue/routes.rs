//! Where mail goes: MX and addresses, loops, literals; and the real resolver against a real name server.

use crate::names::Names;
use crate::peer::{Manners, Peer};
use crate::spool::{BODY, entry};
use crate::{Site, peer, settings};
use hickory_proto::op::{Metadata, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use twinpost_queue::dns::{Dns, Resolver};
use twinpost_queue::route::{HostAnswer, MxAnswer};
use twinpost_queue::{RecipientUpdate, Settings, State};

async fn fate<D: Dns>(dns: D, settings: Settings, to: &str) -> RecipientUpdate {
    let site = Site::start(dns, settings);
    site.spool.put(entry(1, &[to]), BODY);
    site.spool.updated(1).await;
    site.end().await.last(1, 0)
}

/// Nobody listens here.
fn dead() -> IpAddr {
    peer::address()
}

#[tokio::test]
async fn the_next_host_is_asked_when_the_first_does_not_serve() {
    let refuses = Peer::start(Manners { greeting: "554 5.3.2 no service".into(), ..Manners::default() }).await;
    let busy = Peer::start(Manners { greeting: "421 4.3.2 busy".into(), ..Manners::default() }).await;
    let good = Peer::start(Manners::default()).await;
    let names = Names::new()
        .mx("x.example", &[(40, "good"), (10, "gone"), (20, "refuses"), (30, "busy"), (5, "unknown")])
        .host("gone", &[dead(), dead()])
        .host("refuses", &[refuses.ip()])
        .host("busy", &[busy.ip()])
        .host("good", &[dead(), good.ip()])
        .host_answer("unknown", HostAnswer::Unknown("SERVFAIL".into()));
    let fate = fate(names, settings(), "b@x.example").await;
    assert_eq!(fate.state, State::Delivered, "{fate:?}");
    assert_eq!((refuses.heard().connections, busy.heard().connections, good.heard().messages.len()), (1, 1, 1));
}

#[tokio::test]
async fn a_refusal_by_one_host_does_not_outweigh_the_silence_of_another() {
    let refuses = Peer::start(Manners { greeting: "554 5.3.2 no service".into(), ..Manners::default() }).await;
    let base = Names::new().host("refuses", &[refuses.ip()]).host("gone", &[dead()]).host("both", &[dead(), refuses.ip()]);
    let names = |list: &[(u16, &str)]| base.clone().mx("x.example", list);
    let only = fate(names(&[(1, "refuses")]), settings(), "b@x.example").await;
    assert_eq!((only.state, only.reply.code), (State::Failed, 554));
    for list in [&[(1, "gone"), (2, "refuses")][..], &[(1, "refuses"), (2, "gone")], &[(1, "both")]] {
        assert_eq!(fate(names(list), settings(), "b@x.example").await.state, State::Waiting, "{list:?}");
    }
}

#[tokio::test]
async fn what_dns_says_decides() {
    let peer = Peer::start(Manners::default()).await;
    let names = Names::new()
        .mx("null.example", &[(0, "")])
        .mx_answer("silent.example", MxAnswer::Unknown("timed out".into()))
        .mx_answer("bare.example", MxAnswer::None)
        .host("bare.example", &[peer.ip()])
        .mx_answer("nothing.example", MxAnswer::None)
        .mx("hollow.example", &[(1, "nowhere")]);
    for (to, state, text) in [
        ("b@null.example", State::Failed, "5.1.10"),
        ("b@missing.example", State::Failed, "5.1.2"),
        ("b@silent.example", State::Waiting, "4.4.3"),
        ("b@bare.example", State::Delivered, "2.0.0"),
        ("b@nothing.example", State::Failed, "5.4.4"),
        ("b@hollow.example", State::Failed, "5.4.4"),
    ] {
        let fate = fate(names.clone(), settings(), to).await;
        assert!(fate.state == state && fate.reply.text.starts_with(text), "{to}: {fate:?}");
    }
}

#[tokio::test]
async fn literals_go_to_the_address() {
    let four = Peer::start(Manners::default()).await;
    let to = format!("b@[{}]", four.ip());
    assert_eq!(fate(Names::new(), settings(), &to).await.state, State::Delivered);
    assert_eq!(four.said("RCPT"), [format!("RCPT TO:<{to}>")]);
    // Machines without IPv6 have nothing to test here.
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
        let six = Peer::at(Ipv6Addr::LOCALHOST.into(), Manners::default()).await;
        assert_eq!(fate(Names::new(), settings(), "b@[IPv6:::1]").await.state, State::Delivered);
        assert_eq!(six.heard().messages.len(), 1);
    }
}

#[tokio::test]
async fn mail_that_would_come_back_to_us_is_refused() {
    let own = Peer::start(Manners { name: "Mail.Us.example".into(), ..Manners::default() }).await;
    let other = Peer::start(Manners::default()).await;
    let by_address = Settings { own_addresses: vec![own.to], ..settings() };
    let by_any = Settings {
        own_addresses: vec![SocketAddr::new("0.0.0.0".parse().unwrap(), peer::port())],
        source: vec![own.ip()],
        ..settings()
    };
    let names = Names::new()
        .mx("best.example", &[(10, "mail.us.example"), (20, "other")])
        .mx("address.example", &[(10, "alias"), (20, "other")])
        .mx_answer("mail.us.example", MxAnswer::None)
        .host("mail.us.example", &[own.ip()])
        .host("alias", &[own.ip()])
        .host("gone", &[dead()])
        .host("other", &[other.ip()])
        .mx("second.example", &[(10, "gone"), (20, "alias"), (30, "other")]);
    let literal = format!("b@[{}]", own.ip());
    for (settings, to) in [
        (settings(), "b@best.example"),
        (settings(), "b@mail.us.example"),
        (by_address.clone(), "b@address.example"),
        (by_address.clone(), literal.as_str()),
        (by_any, "b@address.example"),
        // Known by its greeting only.
        (settings(), "b@address.example"),
    ] {
        let fate = fate(names.clone(), settings, to).await;
        assert!(fate.state == State::Failed && fate.reply.text.starts_with("5.4.6"), "{to}: {fate:?}");
    }
    // We are a backup: the better host is down, the worse ones would come back to us. The mail waits.
    assert_eq!(fate(names, by_address, "b@second.example").await.state, State::Waiting);
    assert_eq!((own.heard().messages.len(), other.heard().connections), (0, 0));
}

/// A name server for the tests.
struct Zone(Vec<(&'static str, RData)>);

impl Zone {
    fn answer(&self, name: &str, kind: RecordType) -> (ResponseCode, Vec<Record>) {
        if name.starts_with("broken.") || (name.starts_with("half.") && kind == RecordType::A) {
            return (ResponseCode::ServFail, Vec::new());
        }
        let record = |data: &RData| Record::from_rdata(Name::from_ascii(name).unwrap(), 60, data.clone());
        let own: Vec<_> = self.0.iter().filter(|(n, _)| *n == name).collect();
        let mut records: Vec<Record> = own.iter().filter(|(_, d)| d.record_type() == kind).map(|(_, d)| record(d)).collect();
        if let Some((_, RData::CNAME(to))) = own.iter().find(|(_, d)| d.record_type() == RecordType::CNAME) {
            records.push(record(&RData::CNAME(to.clone())));
            records.extend(self.answer(&to.0.to_ascii(), kind).1);
        }
        (if own.is_empty() { ResponseCode::NXDomain } else { ResponseCode::NoError }, records)
    }
}

impl RequestHandler for Zone {
    // What async_trait makes of the trait's `async fn`.
    fn handle_request<'life0, 'life1, 'async_trait, R, T>(
        &'life0 self,
        request: &'life1 Request,
        mut answer_to: R,
    ) -> Pin<Box<dyn Future<Output = ResponseInfo> + Send + 'async_trait>>
    where
        R: ResponseHandler + 'async_trait,
        T: Time + 'async_trait,
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let query = request.request_info().unwrap().query;
            let (code, records) = self.answer(&Name::from(query.name().clone()).to_ascii().to_lowercase(), query.query_type());
            let mut head = Metadata::response_from_request(&request.metadata);
            head.response_code = code;
            head.authoritative = true;
            let example = Name::from_ascii("example.").unwrap();
            let soa = SOA::new(example.clone(), example.clone(), 1, 60, 60, 60, 60);
            let soa = [Record::from_rdata(example, 60, RData::SOA(soa))];
            // An empty answer is proven by the zone's SOA (negative caching).
            let proof = if records.is_empty() && code != ResponseCode::ServFail { &soa[..] } else { &[] };
            let response = MessageResponseBuilder::from_message_request(request).build(head, &records, &[], proof, &[]);
            answer_to.send_response(response).await.unwrap()
        })
    }
}

async fn name_server(zone: Zone) -> (Server<Zone>, SocketAddr) {
    let ip = peer::address();
    let tcp = TcpListener::bind((ip, 0)).await.unwrap();
    let at = tcp.local_addr().unwrap();
    let mut server = Server::new(zone);
    server.register_socket(UdpSocket::bind(at).await.unwrap());
    server.register_listener(tcp, Duration::from_secs(5), 10);
    (server, at)
}

#[tokio::test]
async fn the_real_resolver_against_a_real_name_server() {
    let peer = Peer::start(Manners::default()).await;
    let IpAddr::V4(ip) = peer.ip() else { unreachable!() };
    let mx = |p, host: &str| RData::MX(MX::new(p, Name::from_ascii(host).unwrap()));
    // More records than fit a UDP answer: the resolver has to come back by TCP.
    let mut list: Vec<(&'static str, RData)> =
        (0..60).map(|n| ("many.example.", mx(n + 10, &format!("a-rather-long-host-name-{n}.example.")))).collect();
    list.extend([
        ("there.example.", mx(10, "MX.there.example.")),
        ("mx.there.example.", RData::A(A(ip))),
        ("alias.example.", RData::CNAME(CNAME(Name::from_ascii("there.example.").unwrap()))),
        ("null.example.", mx(0, ".")),
        ("bare.example.", RData::A(A(ip))),
        ("xn--fsqu00a.example.", mx(1, "mx.there.example.")),
        ("many.example.", mx(1, "mx.there.example.")),
        ("half.example.", mx(1, "half.there.example.")),
        ("half.there.example.", RData::MX(MX::new(1, Name::root()))),
        ("dual.example.", RData::A(A(ip))),
        ("dual.example.", RData::AAAA(AAAA(Ipv6Addr::LOCALHOST))),
    ]);
    let (_server, at) = name_server(Zone(list)).await;
    let dns = Resolver::new(&[at]).unwrap();
    assert_eq!(dns.addresses("dual.example").await, HostAnswer::Addresses(vec![Ipv6Addr::LOCALHOST.into(), ip.into()]));
    assert_eq!(dns.mx("missing.example").await, MxAnswer::NoDomain);
    assert_eq!(dns.addresses("missing.example").await, HostAnswer::None);
    for (to, state, text) in [
        ("b@there.example", State::Delivered, "2.0.0"),
        ("b@alias.example", State::Delivered, "2.0.0"),
        ("b@bare.example", State::Delivered, "2.0.0"),
        ("b@例子.example", State::Delivered, "2.0.0"),
        ("b@many.example", State::Delivered, "2.0.0"),
        ("b@null.example", State::Failed, "5.1.10"),
        ("b@missing.example", State::Failed, "5.1.2"),
        ("b@broken.example", State::Waiting, "4.4.3"),
        // No AAAA, and no answer about A: that is not "no address".
        ("b@half.example", State::Waiting, "4.4.3"),
    ] {
        let fate = fate(dns.clone(), settings(), to).await;
        assert!(fate.state == state && fate.reply.text.starts_with(text), "{to}: {fate:?}");
    }
    assert!(peer.said("RCPT").contains(&"RCPT TO:<b@xn--fsqu00a.example>".to_owned()));
}

#[tokio::test]
async fn a_dead_name_server_keeps_the_mail() {
    // Bound, so that nobody answers and nobody refuses.
    let silent = UdpSocket::bind((peer::address(), 0)).await.unwrap();
    let dns = Resolver::within(&[silent.local_addr().unwrap()], Duration::from_millis(100)).unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(60), dns.mx("there.example")).await.unwrap();
    assert!(matches!(waited, MxAnswer::Unknown(_)), "{waited:?}");
}
