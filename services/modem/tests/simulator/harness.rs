//! A simulator and a driver on it, and ways to wait for what they do.

use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;
use twinpost_hw_modem::{Family, Handle, Line, Options, Simulator};
use twinpost_modem::{Event, Modem, Phase, Settings, State, Token};

/// Longest wait for anything: the machine may be busy.
pub const LONG: Duration = Duration::from_secs(60);
/// `hello` to +8613800138000.
pub const HELLO: &str = "01000D91683108108300F0000005E8329BFD06";
/// The same with a status report asked for.
pub const HELLO_REPORT: &str = "21000D91683108108300F0000005E8329BFD06";

pub fn octets(hex: &str) -> Vec<u8> {
    twinpost_modem::at::hex_decode(hex).unwrap()
}

pub struct Bench {
    pub dir: TempDir,
    pub sim: Option<Handle>,
    pub modem: Modem,
    pub events: mpsc::Receiver<Event>,
    /// Events that were not waited for.
    pub seen: Vec<Event>,
}

pub fn settings(dir: &TempDir) -> Settings {
    let mut settings = Settings::new(dir.path().join("modem"));
    settings.lock_dir = Some(dir.path().to_owned());
    settings.pin_memory = Some(dir.path().join("pins"));
    let t = &mut settings.timing;
    t.port_retry_min = Duration::from_millis(10);
    t.port_retry_max = Duration::from_millis(100);
    t.probe = Duration::from_millis(300);
    t.watch = Duration::from_millis(500);
    t.wait_network = Duration::from_millis(50);
    t.answer_max = Some(Duration::from_millis(1_000));
    t.send_max = Some(Duration::from_millis(1_500));
    t.boot_max = Some(Duration::from_secs(5));
    t.ladder_min = Duration::from_millis(50);
    t.ladder_max = Duration::from_millis(200);
    t.drop = Duration::from_millis(20);
    settings
}

pub fn options(dir: &TempDir, family: &str) -> Options {
    let family = Family::named(family).unwrap();
    Options { line: Line::Pty(dir.path().join("modem")), family, ..Options::default() }
}

pub fn bench_with(family: &str, change: impl FnOnce(&mut Options, &mut Settings)) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let (mut options, mut settings) = (options(&dir, family), settings(&dir));
    change(&mut options, &mut settings);
    let sim = Simulator::start(options).unwrap();
    let (modem, events) = Modem::start(settings);
    Bench { dir, sim: Some(sim), modem, events, seen: Vec::new() }
}

pub fn bench(family: &str) -> Bench {
    bench_with(family, |_, _| {})
}

impl Bench {
    pub fn sim(&self) -> &Handle {
        self.sim.as_ref().unwrap()
    }

    /// Orders the simulator by a line of its control language.
    pub fn order(&self, line: &str) {
        if let Err(sentence) = self.sim().control(line) {
            panic!("{line}: {sentence}");
        }
    }

    pub async fn state(&self, what: &str, mut good: impl FnMut(&State) -> bool) -> State {
        let mut states = self.modem.state();
        match tokio::time::timeout(LONG, states.wait_for(|s| good(s))).await {
            Ok(Ok(state)) => state.clone(),
            _ => panic!("never {what}: {:?}", self.modem.state().borrow()),
        }
    }

    pub async fn phase(&self, phase: Phase) -> State {
        self.state(&format!("{phase:?}"), |s| s.phase == phase).await
    }

    pub async fn ready(&self) -> State {
        self.phase(Phase::Ready).await
    }

    /// The next event that `pick` takes.
    pub async fn event<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        loop {
            let Ok(Some(event)) = tokio::time::timeout(LONG, self.events.recv()).await else {
                panic!("no {what}; seen {:?}; {:?}", self.seen, self.modem.state().borrow())
            };
            if let Some(picked) = pick(&event) {
                return picked;
            }
            self.seen.push(event);
        }
    }

    pub async fn deliver(&mut self) -> (Vec<u8>, Token) {
        self.event("message", |e| match e {
            Event::Deliver { pdu, token } => Some((pdu.clone(), *token)),
            _ => None,
        })
        .await
    }

    pub async fn report(&mut self) -> (Vec<u8>, Token) {
        self.event("report", |e| match e {
            Event::StatusReport { pdu, token } => Some((pdu.clone(), *token)),
            _ => None,
        })
        .await
    }

    pub async fn hello(&self) -> Result<u8, twinpost_modem::SendError> {
        tokio::time::timeout(LONG, self.modem.send(&octets(HELLO), None, false)).await.expect("every send ends")
    }

    pub async fn received(&self, n: usize) -> Vec<String> {
        let got = self.sim().wait_received(n, LONG).await.expect("phones receive");
        got.into_iter().map(|r| r.text).collect()
    }
}
