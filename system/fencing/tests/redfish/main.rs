//! A BMC over HTTP and HTTPS, well-behaved and not.

mod service;

use service::{Manners, PASSWORD, Service, USER};
use std::time::{Duration, Instant};
use twinpost_fencing::{Error, Power, PowerOff, PowerSwitch as _, Redfish, RedfishAuth, RedfishSettings, Times, Trust};

fn settings(service: &Service, limit_ms: u64) -> RedfishSettings {
    let ms = Duration::from_millis;
    let times = Times { step: ms(limit_ms), limit: ms(limit_ms), poll: ms(5), settle: ms(10) };
    RedfishSettings { times, ..RedfishSettings::new(&service.base, None, USER, service.password(PASSWORD)) }
}

async fn bench(manners: Manners, limit_ms: u64) -> (Service, Redfish) {
    let service = Service::start(false, manners).await;
    let switch = Redfish::new(settings(&service, limit_ms)).unwrap();
    (service, switch)
}

/// Where something must come, a loaded machine gets its time.
const PATIENT: u64 = 15_000;

#[tokio::test]
async fn switches_and_reads_back_whatever_the_dialect() {
    let plain = Manners::default();
    for (name, manners) in [
        ("plain", plain.clone()),
        ("between", Manners { between: Some("PoweringOff"), ..plain.clone() }),
        ("no list", Manners { allowed: None, ..plain.clone() }),
        ("action info", Manners { in_action_info: true, ..plain.clone() }),
        ("ForceOn", Manners { allowed: Some(&["ForceOn", "ForceOff"]), ..plain.clone() }),
        ("tag", Manners { wants_tag: true, ..plain }),
    ] {
        let (service, switch) = bench(manners, PATIENT).await;
        assert_eq!(switch.read().await.unwrap(), Power::On, "{name}");
        assert_eq!(switch.off().await.unwrap(), PowerOff::ReadBackOff, "{name}");
        assert!(!service.is_on(), "{name}");
        switch.on().await.unwrap();
        assert!(service.is_on(), "{name}");
    }
}

#[tokio::test]
async fn sessions_are_kept_and_opened_again() {
    let service = Service::start(false, Manners { forgets_after: 3, ..Manners::default() }).await;
    let switch = Redfish::new(RedfishSettings { auth: RedfishAuth::Session, ..settings(&service, PATIENT) }).unwrap();
    assert_eq!(switch.off().await.unwrap(), PowerOff::ReadBackOff);
    let logins = service.state.lock().unwrap().logins;
    assert!((2..10).contains(&logins), "{logins} logins");
    service.state.lock().unwrap().manners.forgets_after = 0;
    assert!(matches!(switch.read().await, Err(Error::Login { .. })));
    let stranger =
        RedfishSettings { auth: RedfishAuth::Session, password: service.password("wrong"), ..settings(&service, PATIENT) };
    let refused = Redfish::new(stranger).unwrap().off().await.unwrap_err();
    assert!(matches!(&refused, Error::Login { why, .. } if why.contains("not authorized")), "{refused}");
}

#[tokio::test]
async fn tls_trusts_the_pinned_certificate_or_the_named_authority_only() {
    let service = Service::start(true, Manners::default()).await;
    let with = |trust| Redfish::new(RedfishSettings { trust: Some(trust), ..settings(&service, PATIENT) }).unwrap();
    assert_eq!(with(Trust::Pinned(service.fingerprint)).off().await.unwrap(), PowerOff::ReadBackOff);
    with(Trust::Authorities(service.certificate.clone())).on().await.unwrap();
    let other = Service::start(true, Manners::default()).await;
    for trust in [Trust::Pinned(other.fingerprint), Trust::Authorities(other.certificate.clone())] {
        let refused = with(trust).off().await.unwrap_err();
        assert!(matches!(&refused, Error::Unreachable { .. }), "{refused}");
    }
    assert!(service.is_on(), "nothing was sent to a stranger");
    let before = service.state.lock().unwrap().requests.len();
    let untold = RedfishSettings { trust: None, ..settings(&service, PATIENT) };
    assert!(matches!(Redfish::new(untold), Err(Error::Setting { .. })));
    assert_eq!(service.state.lock().unwrap().requests.len(), before);
}

#[tokio::test]
async fn ok_without_effect_is_unread() {
    let (service, switch) = bench(Manners { lies: true, ..Manners::default() }, 1500).await;
    assert_eq!(switch.off().await.unwrap(), PowerOff::Unread);
    assert!(service.is_on());
    service.state.lock().unwrap().on = false;
    assert!(matches!(switch.on().await, Err(Error::StaysOff { .. })));
}

#[tokio::test]
async fn power_that_comes_back_by_itself_is_unread() {
    let (_service, switch) = bench(Manners { flaps: true, ..Manners::default() }, 1500).await;
    assert_eq!(switch.off().await.unwrap(), PowerOff::Unread);
}

#[tokio::test]
async fn refusals_say_why_and_are_no_failure_when_it_is_off_already() {
    let (service, switch) = bench(Manners { refuses: Some(409), ..Manners::default() }, PATIENT).await;
    let refused = switch.off().await.unwrap_err();
    assert!(matches!(&refused, Error::Refused { why, .. } if why.contains("being updated")), "{refused}");
    service.state.lock().unwrap().on = false;
    assert_eq!(switch.off().await.unwrap(), PowerOff::ReadBackOff);

    let (_service, switch) = bench(Manners { allowed: Some(&["GracefulShutdown"]), ..Manners::default() }, PATIENT).await;
    let refused = switch.off().await.unwrap_err();
    assert!(matches!(&refused, Error::Refused { why, .. } if why.contains("GracefulShutdown")), "{refused}");

    let (service, _) = bench(Manners::default(), PATIENT).await;
    let stranger = RedfishSettings { password: service.password("wrong"), ..settings(&service, PATIENT) };
    assert!(matches!(Redfish::new(stranger).unwrap().off().await, Err(Error::Login { .. })));
    assert!(service.is_on());
}

#[tokio::test]
async fn several_systems_need_a_name() {
    let (service, switch) = bench(Manners { systems: vec!["left", "right"], ..Manners::default() }, PATIENT).await;
    let refused = switch.off().await.unwrap_err();
    assert!(matches!(&refused, Error::Setting { what, .. } if what.contains("left, right")), "{refused}");
    let named = |id: &str| Redfish::new(RedfishSettings { system: Some(id.to_owned()), ..settings(&service, PATIENT) }).unwrap();
    assert!(matches!(named("middle").off().await, Err(Error::Setting { .. })));
    assert_eq!(named("left").off().await.unwrap(), PowerOff::ReadBackOff);
}

#[tokio::test]
async fn hanging_gone_and_garbage_services_prove_nothing() {
    let begin = Instant::now();
    let (_service, switch) = bench(Manners { hangs: true, ..Manners::default() }, 200).await;
    assert!(matches!(switch.off().await, Err(Error::TimedOut { .. })));
    assert!(begin.elapsed() < Duration::from_secs(10));

    let gone = Service::start(false, Manners::default()).await;
    let nobody = RedfishSettings { base: "http://127.0.0.1:1".to_owned(), ..settings(&gone, PATIENT) };
    assert!(matches!(Redfish::new(nobody).unwrap().off().await, Err(Error::Unreachable { .. })));

    let long: &'static [u8] = Box::leak(
        [b"HTTP/1.1 200 X\r\nContent-Length: 3000000\r\n\r\n".to_vec(), vec![b' '; 3_000_000]].concat().into_boxed_slice(),
    );
    for says in [
        &b"220 bmc.example ESMTP\r\n"[..],
        b"HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n{\"Systems",
        long,
    ] {
        let (_service, switch) = bench(Manners { says: Some(says), ..Manners::default() }, PATIENT).await;
        let failed = switch.off().await.unwrap_err();
        assert!(matches!(failed, Error::Garbage { .. }), "{}: {failed}", String::from_utf8_lossy(&says[..says.len().min(40)]));
    }
    // An action that lies elsewhere is not followed.
    let (service, switch) = bench(Manners { target: Some("http://127.0.0.1:1/off"), ..Manners::default() }, PATIENT).await;
    assert!(matches!(switch.off().await, Err(Error::Garbage { .. })));
    assert!(service.state.lock().unwrap().requests.iter().all(|request| request.starts_with("GET ")));
}
