//! The whole process on the real driver and the simulated modem, over a pseudo-terminal.

use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use twinpost_hw_modem::{Handle, Line, Options, Received, Simulator};
use twinpost_sms::api::{Class, Condition, SmsState, State, Status, Submit};
use twinpost_sms::{Client, Language, Orders, OrdersSettings, Seen, Settings, Submitted, serve};

/// Longest wait for anything: the machine may be busy.
const LONG: Duration = Duration::from_secs(60);

struct Says;

impl Orders for Says {
    async fn status(&self, state: &State, _: Language) -> String {
        format!("{} way, {:?}", state.ways.len(), state.ways[0].condition)
    }

    async fn acknowledge(&self, alarm: u32, _: &str, _: Language) -> Result<String, String> {
        Err(format!("there is no alarm {alarm}"))
    }

    async fn switch(&self, _: &str, _: Language) -> Result<String, String> {
        Ok("switching".into())
    }
}

struct Bench {
    dir: TempDir,
    sim: Handle,
    client: Client,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), twinpost_sms::Error>>,
}

fn modem(dir: &TempDir) -> twinpost_modem::Settings {
    let mut modem = twinpost_modem::Settings::new(dir.path().join("modem"));
    modem.lock_dir = None;
    let t = &mut modem.timing;
    t.port_retry_min = Duration::from_millis(10);
    t.port_retry_max = Duration::from_millis(100);
    t.probe = Duration::from_millis(300);
    t.wait_network = Duration::from_millis(50);
    t.answer_max = Some(Duration::from_secs(1));
    t.send_max = Some(Duration::from_millis(1_500));
    t.ladder_min = Duration::from_millis(50);
    t.drop = Duration::from_millis(20);
    modem
}

async fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let sim = Simulator::start(Options { line: Line::Pty(dir.path().join("modem")), ..Options::default() }).unwrap();
    sim.control("report on").unwrap();
    let mut settings = Settings::new(dir.path().join("run/sms.sock"), dir.path().join("sms"), modem(&dir));
    settings.orders = Some(OrdersSettings::new(vec!["+8613900000001".into()]));
    settings.pace.alarm_retry = vec![Duration::from_millis(50)];
    settings.pace.rest = Duration::from_millis(100);
    let shutdown = CancellationToken::new();
    let client = Client::new(settings.socket.clone());
    let task = tokio::spawn(serve(settings, Says, shutdown.clone()));
    while client.state().await.is_err() {
        assert!(!task.is_finished(), "the process serves");
        tokio::task::yield_now().await;
    }
    let mut watch = client.watch().await.unwrap();
    loop {
        if let Seen::State(state) = watch.next().await.unwrap()
            && state.ways[0].condition == Condition::Ready
        {
            break;
        }
    }
    Bench { dir, sim, client, shutdown, task }
}

impl Bench {
    async fn until(&self, key: &str, state: SmsState) -> Status {
        let mut follow = self.client.follow(key).await.unwrap().expect("a known key");
        let mut seen = Vec::new();
        let end = tokio::time::timeout(LONG, async {
            while let Some(status) = follow.next().await.unwrap() {
                seen.push(status.clone());
                if status.state == state {
                    return Some(status);
                }
            }
            None
        });
        match end.await {
            Ok(Some(status)) => status,
            _ => panic!("{key} was never {state:?}: {seen:?}"),
        }
    }

    async fn received(&self, n: u64) -> Vec<Received> {
        assert!(self.sim.wait_until(LONG, |c| c.received >= n).await, "{n} messages at phones");
        self.sim.received()
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
        drop(self.dir);
    }
}

fn alarm(key: &str, text: &str) -> Submit {
    Submit {
        key: key.into(),
        class: Class::Alarm,
        to: "+8613800138000".into(),
        text: text.into(),
        validity_s: Some(3600),
        report: true,
        flash: false,
        durable: true,
        account: None,
        domain: None,
        parts_max: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chinese_text_of_two_hundred_characters_arrives_whole_and_is_reported() {
    let b = bench().await;
    let text = "水火木金土".repeat(40);
    assert_eq!(b.client.submit(alarm("a", &text)).await.unwrap(), Submitted::Accepted { parts: 3, stored: true });
    let status = b.until("a", SmsState::Delivered).await;
    assert!(status.accepted == 3 && !status.possible_duplicate);
    let got = &b.received(1).await[0];
    assert_eq!((got.number.as_str(), got.text.as_str(), got.parts), ("+8613800138000", text.as_str(), 3));
    assert_eq!(got.references, status.references);
    assert!(!got.possible_duplicate && got.report && got.validity_s == Some(3600));
    b.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_phones_send_is_offered_and_an_administrators_order_is_answered() {
    let b = bench().await;
    let mut incoming = b.client.incoming(0).await.unwrap();
    let long = "a long answer ".repeat(20);
    b.sim.control(&format!("receive +8613700000000 {long}")).unwrap();
    let message = tokio::time::timeout(LONG, incoming.next()).await.unwrap().unwrap();
    assert_eq!((message.from.as_str(), message.text.trim(), message.parts), ("+8613700000000", long.trim(), 2));
    assert!(message.sent_s > 1_700_000_000);
    b.client.take(message.id).await.unwrap();
    b.sim.control("receive +8613900000001 status").unwrap();
    let got = &b.received(1).await[0];
    assert_eq!((got.number.as_str(), got.text.as_str()), ("+8613900000001", "1 way, Ready"));
    b.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modem_that_hangs_after_the_message_left_makes_a_marked_second_sending() {
    let b = bench().await;
    // The network has it, and the modem says nothing more until it is reset.
    b.sim.control("hang sent cfun").unwrap();
    b.client.submit(alarm("h", "only once, or marked")).await.unwrap();
    // A report of the first sending may settle it; otherwise it goes again.
    let mut follow = b.client.follow("h").await.unwrap().unwrap();
    let mut last = None;
    while let Some(status) = tokio::time::timeout(LONG, follow.next()).await.unwrap().unwrap() {
        last = Some(status);
    }
    let last = last.unwrap();
    assert!(matches!(last.state, SmsState::Accepted | SmsState::Delivered), "{last:?}");
    let got = b.sim.received();
    assert!(!got.is_empty());
    for again in &got[1..] {
        assert!(again.possible_duplicate && last.possible_duplicate, "{again:?} {last:?}");
    }
    b.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_number_fails_with_the_modems_own_reason() {
    let b = bench().await;
    b.sim.control("error 1").unwrap();
    b.client.submit(alarm("bad", "x")).await.unwrap();
    let status = b.until("bad", SmsState::Failed).await;
    let reason = status.reason.unwrap();
    assert!(reason.permanent && reason.code == Some(1), "{reason:?}");
    assert!(!reason.zh.is_empty());
    b.end().await;
}
