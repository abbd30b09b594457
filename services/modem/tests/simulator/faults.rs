//! Faults of line, modem and network, each where it hurts most.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use twinpost_hw_modem::{Effect, Fault, Order, Simulator, Stage, Until};
use twinpost_modem::{Event, Modem, Outcome, Phase, Power, ResetStep, SendError, Settings};

use crate::harness::{LONG, bench, bench_with, options, settings};

fn fault(stage: Stage, effect: Effect) -> Order {
    Order::Faults(vec![Fault { stage, effect }])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn silence_before_the_prompt_is_not_sent() {
    let bench = bench("mc35i");
    bench.ready().await;
    bench.sim().order(fault(Stage::BeforePrompt, Effect::Hang(Until::At))).unwrap();
    assert_eq!(bench.hello().await, Err(SendError::NoPrompt));
    bench.ready().await;
    bench.hello().await.unwrap();
    assert_eq!(bench.received(1).await, ["hello"]);
    assert_eq!(bench.sim().counters().received, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn silence_after_the_pdu_is_unknown() {
    let bench = bench("mc35i");
    for sent in [false, true] {
        bench.ready().await;
        bench.sim().order(fault(Stage::AfterSend { sent }, Effect::Hang(Until::At))).unwrap();
        let error = bench.hello().await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    }
    bench.ready().await;
    bench.sim().order(fault(Stage::AfterPrompt, Effect::Hang(Until::At))).unwrap();
    assert_eq!(bench.hello().await.unwrap_err().outcome(), Outcome::Unknown);
    bench.ready().await;
    bench.hello().await.unwrap();
    bench.received(2).await;
    assert_eq!(bench.sim().counters().received, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_that_comes_late_settles_the_outcome() {
    let bench = bench("mc35i");
    bench.ready().await;
    bench.order("late 2000");
    bench.hello().await.unwrap();
    assert_eq!(bench.received(1).await, ["hello"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_restart_in_the_middle() {
    for (stage, outcomes) in [
        (Stage::BeforePrompt, &[Outcome::NotSent][..]),
        // The restart may be told before the PDU is written.
        (Stage::AfterPrompt, &[Outcome::NotSent, Outcome::Unknown]),
        (Stage::AfterSend { sent: true }, &[Outcome::Unknown]),
    ] {
        for away_ms in [None, Some(100)] {
            let mut bench = bench("mc35i");
            bench.ready().await;
            bench.sim().order(fault(stage, Effect::Reset { away_ms })).unwrap();
            let outcome = bench.hello().await.unwrap_err().outcome();
            assert!(outcomes.contains(&outcome), "{stage:?} {away_ms:?}: {outcome:?}");
            let accepted = bench.sim().counters().accepted;
            assert!(accepted == 0 || outcome == Outcome::Unknown);
            bench.ready().await;
            if away_ms.is_none() {
                bench.event("restart", |e| matches!(e, Event::Restarted { .. }).then_some(())).await;
            }
            bench.hello().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn refusals_carry_their_code() {
    let bench = bench("ec25");
    bench.ready().await;
    for code in [1, 21, 38, 69, 208, 322, 500] {
        bench.order(&format!("error {code}"));
        assert_eq!(bench.hello().await, Err(SendError::Refused { cms: code }));
        bench.ready().await;
    }
    bench.hello().await.unwrap();
    let state = bench.modem.state().borrow().clone();
    assert_eq!((state.counters.sent, state.counters.refused, state.counters.unknown), (1, 7, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_ladder_wakes_a_modem_that_only_a_restart_wakes() {
    let mut bench = bench("mc35i");
    bench.ready().await;
    bench.sim().order(Order::Hang(Until::Cfun)).unwrap();
    let mut steps = Vec::new();
    while steps.last() != Some(&ResetStep::Restart) {
        steps.push(bench.event("reset", |e| if let Event::Reset { step, .. } = e { Some(*step) } else { None }).await);
    }
    assert_eq!(steps, [ResetStep::Attention, ResetStep::Restart]);
    bench.event("ready", |e| matches!(e, Event::Phase { phase: Phase::Ready, .. }).then_some(())).await;
    assert_eq!(bench.ready().await.reset, None);
    bench.hello().await.unwrap();
}

struct Switch(Arc<Simulated>, AtomicUsize);
type Simulated = twinpost_hw_modem::Handle;

impl Power for Switch {
    fn switch(&self, on: bool) -> std::io::Result<()> {
        self.1.fetch_add(1, Ordering::Relaxed);
        if on { self.0.order(Order::PowerCycle).map_err(std::io::Error::other) } else { Ok(()) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn power_is_the_last_rung() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Arc::new(Simulator::start(options(&dir, "plain")).unwrap());
    let power = Arc::new(Switch(Arc::clone(&sim), AtomicUsize::new(0)));
    let mut settings: Settings = settings(&dir);
    settings.power = Some(power.clone());
    let (modem, _events) = Modem::start(settings);
    let mut states = modem.state();
    let mut wait = async |phase| {
        let got = tokio::time::timeout(LONG, states.wait_for(|s| s.phase == phase)).await;
        assert!(got.is_ok(), "never {phase:?}");
    };
    wait(Phase::Ready).await;
    sim.order(Order::Hang(Until::Power)).unwrap();
    wait(Phase::Resetting).await;
    wait(Phase::Ready).await;
    assert_eq!(power.1.load(Ordering::Relaxed), 2, "off and on");
    modem.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ordered_resets_are_followed() {
    let mut bench = bench("sim800");
    bench.ready().await;
    bench.modem.reset(ResetStep::Restart).await;
    let step = bench.event("reset", |e| if let Event::Reset { step, .. } = e { Some(*step) } else { None }).await;
    assert_eq!(step, ResetStep::Restart);
    bench.event("ready", |e| matches!(e, Event::Phase { phase: Phase::Ready, .. }).then_some(())).await;
    bench.hello().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_network_goes_and_comes() {
    let bench = bench("huawei");
    bench.ready().await;
    for (network, phase) in [(2, Phase::NoNetwork), (3, Phase::Denied), (0, Phase::NoNetwork)] {
        bench.sim().order(Order::Network(network)).unwrap();
        bench.phase(phase).await;
        assert_eq!(bench.hello().await, Err(SendError::NotReady(phase)));
        bench.sim().order(Order::Network(5)).unwrap();
        bench.ready().await;
    }
    bench.sim().order(Order::Signal(7)).unwrap();
    bench.state("weak", |s| s.signal_dbm == Some(-99)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_full_memory_is_a_state_and_sends_go_on() {
    let mut bench = bench("wavecom");
    bench.ready().await;
    bench.sim().order(Order::Capacity(2)).unwrap();
    bench.state("smaller", |s| s.storage.as_ref().is_some_and(|s| s.total == 2)).await;
    bench.order("receive +8613900139000 one");
    bench.order("receive +8613900139000 two");
    let (_, one) = bench.deliver().await;
    let (_, two) = bench.deliver().await;
    bench.phase(Phase::StorageFull).await;
    bench.hello().await.unwrap();
    bench.order("receive +8613900139000 three");
    bench.modem.confirm(one).await;
    bench.modem.confirm(two).await;
    bench.ready().await;
    // The network kept the third until there was room.
    let (_, three) = bench.deliver().await;
    bench.modem.confirm(three).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn messages_in_the_midst_of_sends_are_kept() {
    let mut bench = bench_with("zte", |options, _| options.unsolicited = 0.3);
    bench.ready().await;
    let modem = bench.modem.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..30 {
            modem.send(&crate::harness::octets(crate::harness::HELLO), None, true).await.unwrap();
        }
    });
    for n in 0..10 {
        bench.order(&format!("receive +8613900139000 message {n}"));
        let (_, token) = bench.deliver().await;
        bench.modem.confirm(token).await;
    }
    sending.await.unwrap();
    assert_eq!(bench.received(30).await.len(), 30);
    assert_eq!(bench.sim().counters().received, 30);
}

/// On a line with noise every answer that says "accepted" is true, and every one that says "not sent" too.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[allow(clippy::print_stdout)] // figures for who runs it by hand
async fn noise_makes_no_lies() {
    let number = |name, otherwise| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise);
    let bench = bench_with("plain", |options, settings| {
        options.seed = number("TWINPOST_SEED", 7);
        settings.timing.answer_max = Some(std::time::Duration::from_millis(150));
        settings.timing.send_max = Some(std::time::Duration::from_millis(150));
    });
    bench.ready().await;
    bench.sim().order(Order::Garble(0.002)).unwrap();
    let (mut accepted, mut unknown) = (0, 0);
    for _ in 0..number("TWINPOST_SENDS", 60) {
        bench.state("able to send", |s| s.phase.can_send()).await;
        match bench.hello().await {
            Ok(_) => accepted += 1,
            Err(error) if error.outcome() == Outcome::Unknown => unknown += 1,
            Err(_) => {}
        }
    }
    bench.sim().order(Order::Healthy).unwrap();
    let submitted = bench.sim().counters().accepted;
    println!("{accepted} accepted, {unknown} unknown, {submitted} in the network, {:?}", bench.modem.state().borrow().counters);
    assert!(accepted > 0);
    assert!((accepted..=accepted + unknown).contains(&submitted), "{accepted} accepted, {unknown} unknown, {submitted} sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_port_comes_goes_and_is_somebody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let (modem, _events) = Modem::start(settings(&dir));
    let mut states = modem.state();
    let mut wait = async |phase| {
        let got = tokio::time::timeout(LONG, states.wait_for(|s| s.phase == phase)).await;
        assert!(got.is_ok(), "never {phase:?}");
    };
    wait(Phase::NoPort).await;
    let sim = Simulator::start(options(&dir, "plain")).unwrap();
    wait(Phase::Ready).await;
    // A second driver finds it busy, by the lock file and without it.
    let mut second = settings(&dir);
    let (other, _other_events) = Modem::start(second.clone());
    assert!(tokio::time::timeout(LONG, other.state().wait_for(|s| s.phase == Phase::PortBusy)).await.is_ok());
    other.stop().await;
    second.lock_dir = None;
    let (other, _other_events) = Modem::start(second);
    assert!(tokio::time::timeout(LONG, other.state().wait_for(|s| s.phase == Phase::PortBusy)).await.is_ok());
    sim.stop();
    wait(Phase::NoPort).await;
    let _sim = Simulator::start(options(&dir, "plain")).unwrap();
    let ready = tokio::time::timeout(LONG, async {
        let (mut a, mut b) = (modem.state(), other.state());
        tokio::select! { r = a.wait_for(|s| s.phase == Phase::Ready) => r.is_ok(), r = b.wait_for(|s| s.phase == Phase::Ready) => r.is_ok() }
    });
    assert!(ready.await.unwrap_or(false), "one of the two gets it");
    other.stop().await;
    modem.stop().await;
    assert!(std::fs::read_dir(dir.path()).unwrap().all(|e| !e.unwrap().file_name().to_string_lossy().starts_with("LCK..")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_modem_without_network_is_made_to_search() {
    let mut bench = bench_with("m35", |_, settings| settings.timing.network_patience = std::time::Duration::from_millis(100));
    bench.ready().await;
    bench.sim().order(Order::Network(0)).unwrap();
    let reset =
        bench.event("reset", |e| if let Event::Reset { step, reason } = e { Some((*step, reason.clone())) } else { None }).await;
    assert_eq!(reset, (ResetStep::Restart, "it has found no network for long".to_owned()));
    bench.sim().order(Order::Network(1)).unwrap();
    bench.event("ready", |e| matches!(e, Event::Phase { phase: Phase::Ready, .. }).then_some(())).await;
}

/// Longer by hand: `TWINPOST_SENDS=20000 cargo test -p twinpost-modem --test simulator storm -- --nocapture`.
/// Hangs, restarts, refusals, noise and incoming messages at once; every answer must be true.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[allow(clippy::print_stdout)] // figures for who runs it by hand
async fn a_storm_of_faults_makes_no_lies() {
    let sends: u64 = std::env::var("TWINPOST_SENDS").ok().and_then(|n| n.parse().ok()).unwrap_or(250);
    let mut bench = bench_with("plain", |options, settings| {
        let (at, reset) = (Effect::Hang(Until::At), Effect::Reset { away_ms: None });
        let part = |stage, effect| (Fault { stage, effect }, 0.01);
        options.chances = vec![
            part(Stage::BeforePrompt, at),
            part(Stage::AfterPrompt, at),
            part(Stage::AfterSend { sent: true }, at),
            part(Stage::AfterSend { sent: false }, at),
            part(Stage::AfterSend { sent: true }, reset),
            part(Stage::BeforePrompt, reset),
            part(Stage::AfterSend { sent: false }, Effect::Cms(38)),
            part(Stage::AfterPrompt, Effect::Reset { away_ms: Some(20) }),
        ];
        options.unsolicited = 0.05;
        options.seed = 3;
        settings.timing.answer_max = Some(std::time::Duration::from_millis(150));
        settings.timing.send_max = Some(std::time::Duration::from_millis(150));
    });
    bench.ready().await;
    let (mut accepted, mut unknown, mut received) = (0, 0, 0);
    for n in 0..sends {
        bench.state("able to send", |s| s.phase.can_send()).await;
        if n % 50 == 0 {
            bench.order(&format!("receive +8613900139000 storm {n}"));
        }
        match bench.hello().await {
            Ok(_) => accepted += 1,
            Err(error) if error.outcome() == Outcome::Unknown => unknown += 1,
            Err(_) => {}
        }
        while let Ok(event) = bench.events.try_recv() {
            if let Event::Deliver { token, .. } = event {
                received += 1;
                bench.modem.confirm(token).await;
            }
        }
    }
    bench.sim().order(Order::Healthy).unwrap();
    while received < sends.div_ceil(50) {
        let (_, token) = bench.deliver().await;
        received += 1;
        bench.modem.confirm(token).await;
    }
    let network = bench.sim().counters().accepted;
    assert!(
        (accepted..=accepted + unknown).contains(&network),
        "{accepted} accepted, {unknown} unknown, {network} in the network"
    );
    println!("{sends} sends: {accepted} accepted, {unknown} unknown, {network} in the network, {received} received");
}

/// Prints how long a send takes with a modem that answers at once, from a standing start. No assertion on time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout)] // figures for who runs it by hand
async fn how_fast() {
    let start = std::time::Instant::now();
    let bench = bench_with("plain", |_, settings| settings.timing = twinpost_modem::Timing::default());
    bench.ready().await;
    println!("ready after {:?}", start.elapsed());
    let mut times: Vec<_> = Vec::new();
    for _ in 0..500 {
        let start = std::time::Instant::now();
        bench.hello().await.unwrap();
        times.push(start.elapsed());
    }
    times.sort();
    println!("a part with an instant modem: p50 {:?}, p99 {:?}, most {:?}", times[250], times[495], times[499]);
}
