//! The whole process over its socket, with a fake way: what clients see, orders by SMS, kills and restarts.

use super::Named;
use crate::api::{Class, Condition, Incoming, Kind, ResetStep, SmsState, State, Submit, Way};
use crate::book::{Body, Fragment, Reference};
use crate::client::{Client, Seen, Submitted};
use crate::orders::{Language, Orders};
use crate::serve::serve_ways;
use crate::settings::{By, OrdersSettings, Settings, WaySettings};
use crate::transport::{Inbound, Outcome, Parcel, Token, Transport};
use crate::{Error, reasons, server};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

const ADMIN: &str = "+8613900000001";

/// The network behind the fake way; it outlives the process.
#[derive(Default)]
struct Net {
    /// What arrived, and whether it said that it may be a second one.
    arrived: Mutex<Vec<Parcel>>,
}

struct Fake {
    net: Arc<Net>,
    state: watch::Sender<Way>,
    parcels: mpsc::UnboundedSender<Parcel>,
    confirmed: mpsc::UnboundedSender<Token>,
    mr: AtomicU8,
    /// Parts are accepted only as far as this lets them.
    gate: Option<Arc<tokio::sync::Semaphore>>,
}

impl Transport for Fake {
    fn kind(&self) -> Kind {
        Kind::Modem
    }

    fn window(&self) -> usize {
        1
    }

    fn state(&self) -> watch::Receiver<Way> {
        self.state.subscribe()
    }

    async fn send(&self, parcel: Parcel) -> Outcome {
        self.net.arrived.lock().push(parcel.clone());
        let _ = self.parcels.send(parcel);
        if let Some(gate) = &self.gate {
            match gate.acquire().await {
                Ok(permit) => permit.forget(),
                Err(_) => return Outcome::Unknown(reasons::unknown("closed")),
            }
        }
        Outcome::Accepted(Reference::Mr(self.mr.fetch_add(1, Ordering::Relaxed)))
    }

    async fn confirm(&self, token: Token) {
        let _ = self.confirmed.send(token);
    }

    async fn reset(&self, _: ResetStep) {}

    async fn stop(&self) {}
}

fn way(condition: Condition) -> Way {
    let (text, zh) = reasons::condition(condition);
    Way {
        name: String::new(),
        kind: Kind::Modem,
        condition,
        text: text.into(),
        zh: zh.into(),
        since_ms: 0,
        signal_dbm: Some(-71),
        operator: None,
        family: None,
        model: None,
        imei: None,
        smsc: None,
        registration: None,
    }
}

#[derive(Default, Clone)]
struct Done {
    switches: Arc<AtomicU32>,
}

impl Orders for Done {
    async fn status(&self, state: &State, language: Language) -> String {
        language.say("ok", "正常").to_owned() + &format!(" {}", state.ways.len())
    }

    async fn acknowledge(&self, alarm: u32, by: &str, _: Language) -> Result<String, String> {
        Ok(format!("{alarm} acknowledged by {by}"))
    }

    async fn switch(&self, _: &str, _: Language) -> Result<String, String> {
        self.switches.fetch_add(1, Ordering::SeqCst);
        Ok("switching".into())
    }
}

struct Process {
    client: Client,
    settings: Settings,
    state: watch::Sender<Way>,
    inbound: mpsc::Sender<Inbound>,
    parcels: mpsc::UnboundedReceiver<Parcel>,
    confirmed: mpsc::UnboundedReceiver<Token>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), Error>>,
    orders: Done,
}

fn settings(folder: &std::path::Path) -> Settings {
    let mut settings = Settings::new(folder.join("sms.sock"), folder.join("sms"), twinpost_modem::Settings::new("/nonexistent"));
    settings.ways =
        vec![WaySettings { name: "fake".into(), by: By::Modem(Box::new(twinpost_modem::Settings::new("/nonexistent"))) }];
    settings.orders = Some(OrdersSettings::new(vec![ADMIN.into()]));
    settings.pace.parts_per_minute = 1_000_000;
    settings.pace.burst_parts = 1_000;
    settings.pace.trouble_after = Duration::from_millis(20);
    settings.pace.recovered_after = Duration::from_millis(20);
    settings
}

async fn start(settings: Settings, net: Arc<Net>, condition: Condition, gate: Option<Arc<tokio::sync::Semaphore>>) -> Process {
    let (state, _) = watch::channel(way(condition));
    let (parcels_in, parcels) = mpsc::unbounded_channel();
    let (confirmed_in, confirmed) = mpsc::unbounded_channel();
    let (inbound_in, inbound) = mpsc::channel(8);
    let fake = Fake { net, state: state.clone(), parcels: parcels_in, confirmed: confirmed_in, mr: AtomicU8::new(100), gate };
    let ways = vec![Named { name: "fake".into(), transport: Arc::new(fake), inbound }];
    let shutdown = CancellationToken::new();
    let orders = Done::default();
    let listener = server::bind(&settings.socket).await.unwrap();
    let task = tokio::spawn(serve_ways(settings.clone(), ways, orders.clone(), false, listener, shutdown.clone()));
    let client = Client::connect(&settings.socket).await.unwrap();
    Process { client, settings, state, inbound: inbound_in, parcels, confirmed, shutdown, task, orders }
}

impl Process {
    async fn end(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    async fn receive(&self, token: u64, from: &str, text: &str, part: (u8, u8)) {
        let digest = *blake3::hash(format!("{token}").as_bytes()).as_bytes();
        let fragment = Fragment {
            from: from.into(),
            reference: 9,
            total: part.1,
            number: part.0,
            body: Body::Text(text.into()),
            sent_s: 1,
            received_s: 0,
            digest,
            until_confirmed: false,
        };
        self.inbound.send(Inbound::Fragment(Box::new(fragment), Token(token))).await.unwrap();
    }
}

fn message(key: &str, class: Class, text: &str) -> Submit {
    Submit {
        key: key.into(),
        class,
        to: "13800138000".into(),
        text: text.into(),
        validity_s: None,
        report: false,
        flash: false,
        durable: class == Class::Alarm,
        account: Some("li@school.example".into()),
        domain: Some("school.example".into()),
        parts_max: None,
    }
}

async fn until(client: &Client, key: &str, state: SmsState) -> crate::api::Status {
    let mut follow = client.follow(key).await.unwrap().expect("the key is known");
    while let Some(status) = follow.next().await.unwrap() {
        if status.state == state {
            return status;
        }
    }
    panic!("{key} ended without being {state:?}");
}

#[tokio::test]
async fn a_message_is_submitted_followed_known_again_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut p = start(settings(folder.path()), Arc::default(), Condition::Ready, None).await;
    let long = "水".repeat(100);
    let accepted = p.client.submit(message("k1", Class::Person, &long)).await.unwrap();
    assert_eq!(accepted, Submitted::Accepted { parts: 2, stored: true });
    let status = until(&p.client, "k1", SmsState::Accepted).await;
    assert_eq!((status.accepted, status.references.as_slice(), status.more), (2, &[100, 101][..], false));
    let parcel = p.parcels.recv().await.unwrap();
    assert!(parcel.number == 1 && parcel.of == 2 && parcel.more_follows);
    assert!(!p.parcels.recv().await.unwrap().more_follows);
    assert!(matches!(p.client.submit(message("k1", Class::Person, &long)).await.unwrap(), Submitted::Known(_)));
    assert!(matches!(p.client.submit(message("k2", Class::Person, "")).await.unwrap(), Submitted::Refused(_)));
    assert!(p.client.follow("unknown").await.unwrap().is_none());
    assert!(p.client.cancel("unknown").await.unwrap().is_none());
    let counts = p.client.statistics(1).await.unwrap();
    assert_eq!((counts[0].domain.as_str(), counts[0].sent, counts[0].parts), ("school.example", 1, 2));
    let key = p.client.test("13800138000").await.unwrap();
    // The fake network reports nothing, so there may be more to say.
    assert!(until(&p.client, &key, SmsState::Accepted).await.more);
    p.end().await;
}

#[tokio::test]
async fn nonsense_on_the_socket_is_answered_and_a_stream_ends_at_the_next_request() {
    let folder = tempfile::tempdir().unwrap();
    let p = start(settings(folder.path()), Arc::default(), Condition::Ready, None).await;
    let stream = tokio::net::UnixStream::connect(&p.settings.socket).await.unwrap();
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"hello\n").await.unwrap();
    assert!(lines.next_line().await.unwrap().unwrap().contains("this is no request"));
    write.write_all(b"{\"op\":\"watch\"}\n").await.unwrap();
    assert!(lines.next_line().await.unwrap().unwrap().contains("\"condition\":\"ready\""));
    write.write_all(b"{\"op\":\"queue\",\"most\":5}\n").await.unwrap();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "{\"is\":\"queue\",\"entries\":[],\"total\":0}");
    write.write_all(&vec![b'x'; 70_000]).await.unwrap();
    assert!(lines.next_line().await.unwrap().unwrap().contains("at most 65536 bytes"));
    // The connection is closed; the unread rest may show as a reset.
    assert!(!matches!(lines.next_line().await, Ok(Some(_))));
    let second = server::bind(&p.settings.socket).await;
    assert!(matches!(second, Err(Error::AlreadyServed(_))));
    p.end().await;
}

#[tokio::test]
async fn an_incoming_message_is_stored_then_confirmed_and_offered_until_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let mut p = start(settings(folder.path()), Arc::default(), Condition::Ready, None).await;
    let mut stream = p.client.incoming(0).await.unwrap();
    p.receive(2, "+8613700000000", "world", (2, 2)).await;
    p.receive(1, "+8613700000000", "hello ", (1, 2)).await;
    assert_eq!([p.confirmed.recv().await.unwrap(), p.confirmed.recv().await.unwrap()], [Token(2), Token(1)]);
    let first = stream.next().await.unwrap();
    assert_eq!((first.text.as_str(), first.parts), ("hello world", 2));
    // Shown again by the modem: confirmed again, offered once.
    p.receive(1, "+8613700000000", "hello ", (1, 2)).await;
    assert_eq!(p.confirmed.recv().await.unwrap(), Token(1));
    p.receive(3, "+8613700000000", "more", (1, 1)).await;
    let second = stream.next().await.unwrap();
    assert_eq!(second.text, "more");
    let settings = p.settings.clone();
    p.end().await;

    let p = start(settings, Arc::default(), Condition::Ready, None).await;
    assert_eq!(p.client.state().await.unwrap().incoming, 2);
    let mut stream = p.client.incoming(0).await.unwrap();
    assert_eq!(stream.next().await.unwrap(), Incoming { ..first.clone() });
    p.client.take(first.id).await.unwrap();
    p.client.take(first.id).await.unwrap();
    let mut again = p.client.incoming(0).await.unwrap();
    assert_eq!(again.next().await.unwrap().id, second.id);
    assert_eq!(p.client.state().await.unwrap().incoming, 1);
    p.end().await;
}

#[tokio::test]
async fn orders_come_from_administrators_only_and_a_switch_needs_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let mut p = start(settings(folder.path()), Arc::default(), Condition::Ready, None).await;
    p.receive(1, "+8613700000000", "STATUS", (1, 1)).await;
    // A stranger's goes to the mail side, and nothing goes out.
    assert_eq!(p.client.incoming(0).await.unwrap().next().await.unwrap().text, "STATUS");
    p.receive(2, "13900000001", "状态", (1, 1)).await;
    let answer = p.parcels.recv().await.unwrap();
    assert_eq!((&*answer.to, &*answer.text), (ADMIN, "正常 1"));
    p.receive(3, ADMIN, "ack 7", (1, 1)).await;
    assert_eq!(&*p.parcels.recv().await.unwrap().text, "7 acknowledged by +8613900000001");
    p.receive(4, ADMIN, "Switch", (1, 1)).await;
    let ask = p.parcels.recv().await.unwrap().text;
    let code: String = ask.chars().filter(char::is_ascii_digit).take(6).collect();
    assert_eq!(p.orders.switches.load(Ordering::SeqCst), 0);
    p.receive(5, ADMIN, &format!("SWITCH {code}"), (1, 1)).await;
    assert_eq!(&*p.parcels.recv().await.unwrap().text, "switching");
    p.receive(6, ADMIN, &format!("SWITCH {code}"), (1, 1)).await;
    assert!(p.parcels.recv().await.unwrap().text.starts_with("Wrong code"));
    assert_eq!(p.orders.switches.load(Ordering::SeqCst), 1);
    // The administrator's other words are ordinary messages.
    p.receive(7, ADMIN, "thank you", (1, 1)).await;
    let mut stream = p.client.incoming(0).await.unwrap();
    assert_eq!(stream.next().await.unwrap().from, "+8613700000000");
    assert_eq!(stream.next().await.unwrap().text, "thank you");
    p.end().await;
}

#[tokio::test]
async fn a_lasting_trouble_and_its_end_are_told_on_watch_and_followers_learn_what_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let p = start(settings(folder.path()), Arc::default(), Condition::NoSim, None).await;
    p.client.submit(message("w", Class::Person, "x")).await.unwrap();
    let status = until(&p.client, "w", SmsState::Waiting).await;
    assert!(status.reason.unwrap().text.contains("SIM"));
    let mut watch = p.client.watch().await.unwrap();
    let event = |seen: Seen| match seen {
        Seen::Event(event) => Some(event),
        Seen::State(_) => None,
    };
    // It may have been told before the watch began: then it is in the state.
    let trouble = loop {
        let seen = watch.next().await.unwrap();
        if let Seen::State(state) = &seen
            && let Some(trouble) = state.troubles.first()
        {
            break trouble.clone();
        }
        if let Some(event) = event(seen) {
            break event;
        }
    };
    assert_eq!((trouble.subject.as_str(), trouble.recovered, trouble.condition), ("way/fake", false, Some(Condition::NoSim)));
    p.state.send_replace(way(Condition::Ready));
    let over = loop {
        if let Some(event) = event(watch.next().await.unwrap())
            && event.recovered
        {
            break event;
        }
    };
    assert_eq!(over.subject, "way/fake");
    until(&p.client, "w", SmsState::Accepted).await;
    p.end().await;
}

#[tokio::test]
async fn the_end_waits_for_what_is_on_the_wire_and_an_alarm_goes_on_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let net = Arc::<Net>::default();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let mut p = start(settings(folder.path()), net.clone(), Condition::Ready, Some(gate.clone())).await;
    p.client.submit(message("one", Class::Alarm, "x")).await.unwrap();
    p.client.submit(message("two", Class::Alarm, "y")).await.unwrap();
    p.parcels.recv().await.unwrap();
    p.shutdown.cancel();
    gate.add_permits(1);
    p.task.await.unwrap().unwrap();
    assert_eq!(net.arrived.lock().len(), 1, "nothing new was begun");
    let p = start(p.settings, net.clone(), Condition::Ready, None).await;
    assert!(!until(&p.client, "two", SmsState::Accepted).await.possible_duplicate);
    assert!(!until(&p.client, "one", SmsState::Accepted).await.possible_duplicate);
    assert_eq!(net.arrived.lock().len(), 2);
    p.end().await;
}

/// The whole process is thrown away in the middle, again and again, at another moment each time.
#[test]
fn killed_at_any_moment_the_process_loses_nothing_and_marks_every_second_sending() {
    let folder = tempfile::tempdir().unwrap();
    let net = Arc::<Net>::default();
    let keys: Vec<String> = (0..40).map(|n| format!("m{n}")).collect();
    for life in 0..24u32 {
        let last = life == 23;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let gate = (!last).then(|| Arc::new(tokio::sync::Semaphore::new((life % 5) as usize)));
            let mut p = start(settings(folder.path()), net.clone(), Condition::Ready, gate).await;
            for (n, key) in keys.iter().enumerate() {
                let class = if n % 3 == 0 { Class::Alarm } else { Class::Person };
                p.client.submit(message(key, class, &"long text ".repeat(30))).await.unwrap();
                if !last && life % 4 == 0 && n as u32 == life / 4 {
                    return;
                }
            }
            if last {
                for key in &keys {
                    until(&p.client, key, SmsState::Accepted).await;
                }
                p.end().await;
            } else {
                // One part more than are let through is on the wire.
                for _ in 0..=(life % 5) {
                    p.parcels.recv().await;
                }
            }
        });
        runtime.shutdown_timeout(Duration::from_secs(5));
    }
    let arrived = net.arrived.lock();
    for key in &keys {
        for part in 1..=2 {
            let copies: Vec<&Parcel> = arrived.iter().filter(|p| *p.key == **key && p.number == part).collect();
            assert!(!copies.is_empty(), "{key}/{part} is lost");
            assert!(copies[1..].iter().all(|p| p.again && p.mr == copies[0].mr), "{key}/{part} went twice, unmarked");
        }
    }
    assert!(arrived.iter().any(|p| p.again), "no kill met a part on the wire");
}
