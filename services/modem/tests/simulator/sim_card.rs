//! PIN, PUK, no card; and above all: never a second wrong try.

use twinpost_hw_modem::{Card, Order};
use twinpost_modem::{Modem, Phase, Pin};

use crate::harness::{bench_with, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_right_pin_opens() {
    let bench = bench_with("mc35i", |options, settings| {
        options.pin = Some("1234".into());
        settings.pin = Some(Pin::new("1234").unwrap());
    });
    bench.ready().await;
    bench.hello().await.unwrap();
    assert_eq!(std::fs::read_to_string(bench.dir.path().join("pins")).unwrap(), "", "what was accepted is not held against it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_wrong_pin_is_tried_once_over_restarts_of_everything() {
    let mut bench = bench_with("mc35i", |options, settings| {
        options.pin = Some("1234".into());
        settings.pin = Some(Pin::new("9999").unwrap());
    });
    bench.phase(Phase::PinWrong).await;
    for _ in 0..3 {
        // The daemon dies and comes again; the modem starts anew.
        bench.modem.clone().stop().await;
        bench.sim().order(Order::PowerCycle).unwrap();
        let mut settings = settings(&bench.dir);
        settings.pin = Some(Pin::new("9999").unwrap());
        let (modem, events) = Modem::start(settings);
        (bench.modem, bench.events) = (modem, events);
        bench.phase(Phase::PinWrong).await;
    }
    // Two tries are left, so the right one still opens it.
    bench.modem.clone().stop().await;
    let mut settings = settings(&bench.dir);
    settings.pin = Some(Pin::new("1234").unwrap());
    let (modem, events) = Modem::start(settings);
    (bench.modem, bench.events) = (modem, events);
    bench.ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_pin_that_nobody_knows_is_waited_for() {
    let bench = bench_with("plain", |options, _| options.pin = Some("1234".into()));
    bench.phase(Phase::PinWanted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn puk_and_missing_card_are_states_that_end() {
    let bench = bench_with("sim800", |options, _| options.card = Card::Out);
    bench.phase(Phase::NoSim).await;
    bench.sim().order(Order::Card(Card::Locked)).unwrap();
    bench.phase(Phase::PukWanted).await;
    bench.sim().order(Order::Card(Card::In)).unwrap();
    bench.order("reset");
    bench.ready().await;
    // Pulled out while it works
    bench.sim().order(Order::Card(Card::Out)).unwrap();
    bench.phase(Phase::NoSim).await;
    bench.sim().order(Order::Card(Card::In)).unwrap();
    bench.ready().await;
}
