//! The serial power switch over a real pseudo-terminal: obeys, lies, falls silent, speaks noise, comes back on.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use twinpost_fencing::relay::{Mishaps, RelaySimulator, Switchboard};
use twinpost_fencing::{Error, Power, PowerOff, PowerSwitch as _, Relay, RelaySettings, Times};

struct Bench {
    board: Arc<Switchboard>,
    mishaps: Arc<Mishaps>,
    link: PathBuf,
    _dir: tempfile::TempDir,
    running: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("power");
        let board = Arc::new(Switchboard::new(2));
        let simulator = RelaySimulator::open(Some(&link), board.clone()).unwrap();
        let mishaps = simulator.mishaps();
        Self { board, mishaps, link, _dir: dir, running: tokio::spawn(simulator.run()) }
    }

    /// Patient enough for a loaded machine where something must come, and quick where nothing may.
    fn switch(&self, outlet: u8, limit_ms: u64) -> Relay {
        let ms = Duration::from_millis;
        let times = Times { step: ms(limit_ms.min(5000)), limit: ms(limit_ms), poll: ms(5), settle: ms(10) };
        Relay::new(RelaySettings { times, ..RelaySettings::new(self.link.clone(), outlet) })
    }
}

#[tokio::test]
async fn switches_and_reads_back() {
    let bench = Bench::new();
    let switch = bench.switch(2, 20_000);
    assert_eq!(switch.name(), format!("relay {} outlet 2", bench.link.display()));
    assert_eq!(switch.read().await.unwrap(), Power::On);
    assert_eq!(switch.off().await.unwrap(), PowerOff::ReadBackOff);
    assert!(!bench.board.is_lit(2));
    assert!(bench.board.is_lit(1), "only the outlet asked for");
    assert_eq!(switch.off().await.unwrap(), PowerOff::ReadBackOff, "off already");
    assert_eq!(switch.read().await.unwrap(), Power::Off);
    switch.on().await.unwrap();
    assert!(bench.board.is_lit(2));
}

#[tokio::test]
async fn many_hands_take_turns() {
    let bench = Bench::new();
    let switch = Arc::new(bench.switch(1, 20_000));
    let mut hands = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let switch = Arc::clone(&switch);
        hands.spawn(async move { switch.off().await.unwrap() });
    }
    assert!(hands.join_all().await.iter().all(|off| *off == PowerOff::ReadBackOff));
}

#[tokio::test]
async fn a_welded_relay_is_no_proof() {
    let bench = Bench::new();
    bench.board.welded.store(true, Ordering::SeqCst);
    assert_eq!(bench.switch(1, 1500).off().await.unwrap(), PowerOff::Unread);
    bench.board.welded.store(false, Ordering::SeqCst);
    bench.board.turn(1, false);
    bench.board.welded.store(true, Ordering::SeqCst);
    assert!(matches!(bench.switch(1, 1500).on().await, Err(Error::StaysOff { .. })));
}

#[tokio::test]
async fn refusals_say_why() {
    let bench = Bench::new();
    let refused = bench.switch(7, 20_000).off().await.unwrap_err();
    assert!(matches!(&refused, Error::Refused { why, .. } if why.contains("no such outlet")), "{refused}");
    bench.mishaps.locked.store(true, Ordering::SeqCst);
    let switch = bench.switch(1, 20_000);
    let refused = switch.off().await.unwrap_err();
    assert!(matches!(&refused, Error::Refused { why, .. } if why.contains("locked by hand")), "{refused}");
    assert!(bench.board.is_lit(1));
    // Locked, but off: that is read, and it is the truth.
    bench.board.turn(1, false);
    assert_eq!(switch.off().await.unwrap(), PowerOff::ReadBackOff);
}

#[tokio::test]
async fn silence_and_noise_are_told_apart_and_prove_nothing() {
    let bench = Bench::new();
    bench.mishaps.mute.store(true, Ordering::SeqCst);
    let begin = std::time::Instant::now();
    assert!(matches!(bench.switch(1, 300).off().await, Err(Error::TimedOut { .. })));
    assert!(matches!(bench.switch(1, 300).read().await, Err(Error::TimedOut { .. })));
    assert!(begin.elapsed() < Duration::from_secs(10), "every wait has an end");
    assert!(!bench.board.is_lit(1), "the order was obeyed all the same, so nothing is known");
    bench.mishaps.mute.store(false, Ordering::SeqCst);
    bench.mishaps.noise.store(u32::MAX, Ordering::SeqCst);
    assert!(matches!(bench.switch(1, 2000).read().await, Err(Error::Garbage { .. })));
    // Noise before the answer is only noise.
    bench.mishaps.noise.store(2, Ordering::SeqCst);
    assert_eq!(bench.switch(1, 20_000).off().await.unwrap(), PowerOff::ReadBackOff);
}

#[tokio::test]
async fn an_answer_to_an_earlier_question_is_not_an_answer() {
    let bench = Bench::new();
    let switch = bench.switch(1, 20_000);
    bench.mishaps.late.store(true, Ordering::SeqCst);
    bench.board.turn(1, false);
    assert_eq!(switch.read().await.unwrap(), Power::Off);
    // What the switch still has to say is that it was off.
    bench.board.turn(1, true);
    assert_eq!(switch.read().await.unwrap(), Power::On);
    assert_eq!(switch.off().await.unwrap(), PowerOff::ReadBackOff);
    assert!(!bench.board.is_lit(1));
}

#[tokio::test]
async fn power_that_comes_back_by_itself_is_switched_off_again_or_unread() {
    let bench = Bench::new();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (board, stopped) = (bench.board.clone(), Arc::clone(&stop));
    let spring = tokio::spawn(async move {
        while !stopped.load(Ordering::SeqCst) {
            board.turn(1, true);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert_eq!(bench.switch(1, 1500).off().await.unwrap(), PowerOff::Unread);
    stop.store(true, Ordering::SeqCst);
    spring.await.unwrap();
    assert_eq!(bench.switch(1, 20_000).off().await.unwrap(), PowerOff::ReadBackOff);
}

#[tokio::test]
async fn a_switch_that_is_unplugged_and_plugged_in_again() {
    let mut bench = Bench::new();
    let switch = bench.switch(1, 20_000);
    assert_eq!(switch.read().await.unwrap(), Power::On);
    bench.running.abort();
    assert!((&mut bench.running).await.is_err());
    assert!(!bench.link.exists(), "the link goes with the switch");
    assert!(matches!(switch.off().await, Err(Error::Unreachable { .. })));
    let board = Arc::new(Switchboard::new(1));
    let simulator = RelaySimulator::open(Some(&bench.link), board.clone()).unwrap();
    bench.running = tokio::spawn(simulator.run());
    assert_eq!(switch.off().await.unwrap(), PowerOff::ReadBackOff);
    assert!(!board.is_lit(1));
}
