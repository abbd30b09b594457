//! Every family of the simulator: found, brought up, sending, receiving, reporting, emptied.

use twinpost_hw_modem::FAMILIES;
use twinpost_modem::{Phase, SendError};

use crate::harness::{HELLO_REPORT, LONG, bench, bench_with, octets};

async fn through_its_paces(name: &str) {
    let mut bench = bench(name);
    let state = bench.ready().await;
    let family = if name == "plain" { "generic" } else { name };
    assert_eq!(state.family.as_deref(), Some(family));
    assert_eq!(state.imsi.as_deref(), Some("460001234567890"), "{name}");
    assert_eq!(state.imei.as_deref(), Some("356938035643809"), "{name}");
    assert_eq!(state.smsc.as_deref(), Some("+8613800100500"), "{name}");
    assert_eq!(state.signal_dbm, Some(-71), "{name}");

    bench.hello().await.unwrap();
    let got = bench.sim().wait_received(1, LONG).await.unwrap();
    assert_eq!((got[0].number.as_str(), got[0].text.as_str()), ("+8613800138000", "hello"), "{name}");

    // A message is deleted from the modem only when it is confirmed.
    bench.order("receive +8613900139000 good day");
    let (pdu, token) = bench.deliver().await;
    assert!(pdu.len() > 20, "{name}");
    bench.modem.confirm(token).await;
    bench.order("receive +8613900139000 again");
    let (_, token) = bench.deliver().await;
    bench.modem.confirm(token).await;

    bench.modem.send(&octets(HELLO_REPORT), None, false).await.unwrap();
    let (_, token) = bench.report().await;
    bench.modem.confirm(token).await;
    bench.order("receive +8613900139000 last");
    let (_, token) = bench.deliver().await;
    bench.modem.confirm(token).await;

    // Several parts in a row, the radio link kept.
    for more in [true, true, false] {
        bench.modem.send(&octets(crate::harness::HELLO), None, more).await.unwrap();
    }
    bench.sim().wait_received(5, LONG).await.unwrap();
    let modem = bench.modem.clone();
    modem.stop().await;
    assert_eq!(bench.modem.state().borrow().phase, Phase::Stopped);
    assert_eq!(bench.hello().await, Err(SendError::Stopped));
}

macro_rules! families {
    ($($test:ident $name:literal),*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
            async fn $test() {
                through_its_paces($name).await;
            }
        )*
        #[test]
        fn all_families_are_tested() {
            assert_eq!(FAMILIES.iter().map(|f| f.name).collect::<Vec<_>>(), [$($name),*]);
        }
    };
}

families!(
    mc35i "mc35i", tc35 "tc35", mc55 "mc55", wavecom "wavecom", sim800 "sim800", sim7600 "sim7600", m35 "m35", ec20 "ec20",
    ec25 "ec25", huawei "huawei", nokia "nokia", zte "zte", plain "plain"
);

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn stored_messages_are_found_at_start_and_kept_until_confirmed() {
    let mut bench = bench("mc35i");
    bench.ready().await;
    for n in 0..5 {
        bench.order(&format!("receive +8613900139000 number {n}"));
    }
    let mut first = Vec::new();
    for _ in 0..5 {
        first.push(bench.deliver().await.0);
    }
    // Nobody confirmed: another driver on the same SIM finds all of them again.
    bench.modem.clone().stop().await;
    let (modem, events) = twinpost_modem::Modem::start(crate::harness::settings(&bench.dir));
    bench.modem = modem;
    bench.events = events;
    let mut tokens = Vec::new();
    for _ in 0..5 {
        let (pdu, token) = bench.deliver().await;
        assert!(first.contains(&pdu));
        tokens.push(token);
    }
    for token in tokens {
        bench.modem.confirm(token).await;
    }
    bench.state("emptied", |s| s.phase == Phase::Ready && s.storage.as_ref().is_some_and(|s| s.used == 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn siemens_refusal_is_told_though_its_default_says_ok() {
    let bench = bench("mc35i");
    bench.ready().await;
    bench.order("error 38");
    assert_eq!(bench.hello().await, Err(SendError::Refused { cms: 38 }));
    bench.hello().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn speed_is_found() {
    let bench = bench_with("tc35", |options, _| options.baud = Some(19_200));
    assert_eq!(bench.ready().await.baud, Some(19_200));
    bench.hello().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn wrong_speed_is_told_with_the_right_one() {
    let bench = bench_with("tc35", |options, settings| {
        options.baud = Some(9_600);
        settings.baud = Some(115_200);
    });
    let state = bench.phase(Phase::WrongSpeed).await;
    assert!(state.detail.contains("115200") && state.detail.contains("9600"), "{}", state.detail);
    assert_eq!(bench.hello().await, Err(SendError::NotReady(Phase::WrongSpeed)));
    bench.order("baud 115200");
    bench.ready().await;
}
