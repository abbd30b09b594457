//! Recipients that go by a courier instead of SMTP: a scripted one, which remembers every errand it was given.

use crate::names::Names;
use crate::peer::Manners;
use crate::spool::{BODY, Memory, entry, now_s};
use crate::{Site, settings, there};
use bytes::Bytes;
use mail_parser::{MessageParser, MimeHeaders};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use twinpost_message::QueueId;
use twinpost_queue::courier::{Carried, Courier, Fate, Kind};
use twinpost_queue::{Entry, Notify, Queue, Recipient, Reply, Settings, State};

/// What the courier says to the recipients whose address begins so; `None`: it never comes back.
type Script = BTreeMap<&'static str, Option<Carried>>;

#[derive(Clone, Default)]
struct Scripted {
    script: Arc<Mutex<Script>>,
    /// Errands by their key, and how often each was given.
    asked: Arc<Mutex<HashMap<String, usize>>>,
    /// What it really carried: each key once.
    carried: Arc<Mutex<HashSet<String>>>,
    given: Arc<watch::Sender<usize>>,
}

impl Scripted {
    fn says(self, who: &'static str, fate: Fate, text: &str) -> Self {
        let reply = Reply { code: 0, text: text.to_owned() };
        self.script
            .lock()
            .insert(who, Some(Carried { fate, reply, words: Some("原因".into()), by: Some("some network".into()) }));
        self
    }
    fn silent(self, who: &'static str) -> Self {
        self.script.lock().insert(who, None);
        self
    }
    async fn asked(&self, n: usize) {
        let mut given = self.given.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(30), given.wait_for(|given| *given >= n)).await;
        waited.expect("the courier is asked").unwrap();
    }
}

impl Courier for Scripted {
    const KIND: Kind = Kind { mta: "x-network", diagnostic: "X-SMS" };
    fn takes(&self, domain: &str) -> bool {
        domain == "sms.example"
    }
    async fn carry(&self, entry: &Entry, recipient: &Recipient, message: Bytes) -> Carried {
        assert_eq!(message, BODY, "the courier gets the message as it was sent");
        let key = format!("{}-{}-{}", entry.trace, entry.id, recipient.n);
        *self.asked.lock().entry(key.clone()).or_default() += 1;
        self.carried.lock().insert(key);
        self.given.send_modify(|n| *n += 1);
        let local = recipient.address.to_string();
        let found = self.script.lock().iter().find(|(who, _)| local.starts_with(**who)).map(|(_, said)| said.clone());
        match found.expect("the script knows the recipient") {
            Some(carried) => carried,
            None => std::future::pending().await,
        }
    }
}

fn site(courier: &Scripted, settings: Settings) -> Site<Names, Scripted> {
    Site::with_courier(Memory::new(), Names::new(), courier.clone(), settings)
}

/// The fields of a report after its blank line, block by block.
fn blocks(report: &[u8]) -> Vec<HashMap<String, String>> {
    let message = MessageParser::default().parse(report).unwrap();
    let part = message.parts.iter().find(|p| p.content_type().is_some_and(|c| c.subtype() == Some("delivery-status"))).unwrap();
    let text = String::from_utf8(report[part.raw_body_offset() as usize..part.raw_end_offset() as usize].to_vec()).unwrap();
    let fields = |block: &str| block.lines().filter_map(|l| l.split_once(": ")).map(|(k, v)| (k.into(), v.into())).collect();
    text.trim_end().split("\r\n\r\n").map(fields).collect()
}

#[tokio::test]
async fn a_courier_takes_its_domains_and_the_others_go_by_smtp() {
    let (peer, names) = there(Manners::default()).await;
    let courier = Scripted::default().says("138", Fate::Relayed, "2.1.9 accepted by the network");
    let site = Site::with_courier(Memory::new(), names, courier.clone(), settings());
    site.spool.put(entry(1, &["13800138000@SMS.example", "b@there.example"]), BODY);
    site.spool.until("all gone", |s| s.entries.is_empty()).await;
    let spool = site.end().await;
    assert_eq!((spool.last(1, 0).state, spool.last(1, 1).state), (State::Delivered, State::Delivered));
    assert_eq!(spool.last(1, 0).reply, Reply { code: 0, text: "2.1.9 accepted by the network".into() });
    let heard = peer.heard();
    assert_eq!((heard.messages.len(), courier.asked.lock().len()), (1, 1));
    assert!(spool.reports().is_empty(), "nobody asked to be told of success");
}

#[tokio::test]
async fn a_failure_is_told_with_the_couriers_own_reason() {
    let reason = "5.1.1 the network does not know the number (+CMS ERROR 1: unassigned number)";
    let courier =
        Scripted::default().says("139", Fate::Failed, reason).says("138", Fate::Relayed, "2.1.9 accepted by the network");
    let site = site(&courier, settings());
    site.spool.put(entry(1, &["13800138000@sms.example", "13900@sms.example", "13901@sms.example"]), BODY);
    site.spool.until("all gone", |s| s.entries.is_empty()).await;
    let reports = site.end().await.reports();
    assert_eq!(reports.len(), 1, "one report for both");
    let blocks = blocks(&reports[0].message);
    assert_eq!(blocks.len(), 3);
    for block in &blocks[1..] {
        let field = |name: &str| block[name].as_str();
        assert_eq!((field("Action"), field("Status")), ("failed", "5.1.1"));
        // RFC 3464 2.3.6
        assert_eq!(field("Diagnostic-Code"), format!("X-SMS; {reason}"));
        assert_eq!(field("Remote-MTA"), "x-network; some network");
        assert!(field("Final-Recipient").starts_with("rfc822; 1390"));
    }
    assert!(String::from_utf8_lossy(&reports[0].message).contains("some network said: 5.1.1 the network does not know"));
    assert!(String::from_utf8_lossy(&reports[0].message).contains("    原因\r\n"), "in the sender's language too");
}

#[tokio::test]
async fn success_is_relayed_or_delivered_as_the_courier_knows() {
    let courier = Scripted::default().says("138", Fate::Relayed, "2.1.9 accepted by the network").says(
        "139",
        Fate::Delivered,
        "2.1.5 received by the phone",
    );
    let site = site(&courier, settings());
    let mut asked = entry(1, &["138@sms.example", "139@sms.example"]);
    for recipient in &mut asked.recipients {
        recipient.notify = Notify { given: true, success: true, failure: true, delay: false };
    }
    site.spool.put(asked, BODY);
    site.spool.until("all gone", |s| s.entries.is_empty()).await;
    let reports = site.end().await.reports();
    let mut told: Vec<(String, String)> = reports
        .iter()
        .map(|r| blocks(&r.message)[1].clone())
        .map(|b| (b["Final-Recipient"].clone(), b["Action"].clone()))
        .collect();
    told.sort();
    let told: Vec<(&str, &str)> = told.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(told, [("rfc822; 138@sms.example", "relayed"), ("rfc822; 139@sms.example", "delivered")]);
}

#[tokio::test]
async fn what_waits_comes_back_when_the_courier_says_and_its_delay_is_told() {
    let at_s = now_s() + 77;
    let courier = Scripted::default()
        .says("138", Fate::Waits(Some(at_s)), "4.4.1 the phone is switched off")
        .says("139", Fate::Rests(at_s + 1), "4.4.1 the modem is not ready")
        .says("137", Fate::Waits(None), "4.3.0 not now");
    let site = site(&courier, Settings { warn_after: Duration::from_secs(3600), ..settings() });
    let mut old = entry(1, &["138@sms.example", "139@sms.example", "137@sms.example"]);
    old.created_s -= 4000;
    site.spool.put(old, BODY);
    site.spool.updated(3).await;
    let (tried, rested, scheduled) = (site.spool.last(1, 0), site.spool.last(1, 1), site.spool.last(1, 2));
    assert_eq!((tried.next_try_s, tried.tried_s.is_some(), tried.state), (at_s, true, State::Waiting));
    assert_eq!((rested.next_try_s, rested.tried_s, rested.state), (at_s + 1, None, State::Waiting), "that was no try");
    assert!(scheduled.next_try_s >= now_s() + 100, "by the schedule of the queue: {scheduled:?}");
    let reports = site.spool.reports();
    assert_eq!(reports.len(), 1);
    let blocks = blocks(&reports[0].message);
    assert_eq!((blocks[1]["Action"].as_str(), blocks[1]["Status"].as_str()), ("delayed", "4.4.1"));
    assert_eq!(blocks[1]["Diagnostic-Code"], "X-SMS; 4.4.1 the phone is switched off");
    // An hour later it is too late for one that nobody could be asked about, too.
    site.spool.edit(|s| s.entries.values_mut().for_each(|e| e.expires_s = now_s() - 1));
    site.again();
    site.spool.until("given up", |s| s.entries.is_empty()).await;
    assert_eq!(site.end().await.last(1, 1).state, State::Failed);
}

#[tokio::test]
async fn a_kill_between_the_couriers_word_and_the_commit_repeats_the_errand_under_the_same_name() {
    let courier = Scripted::default().says("138", Fate::Relayed, "2.1.9 accepted by the network");
    let spool = Memory::new();
    spool.fail_updates(usize::MAX);
    // A process of its own, as far as a test has one.
    let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let first = Queue::with_courier(spool.clone(), Names::new(), courier.clone(), settings()).unwrap();
    process.spawn(first.run(CancellationToken::new()));
    spool.put(entry(1, &["138@sms.example"]), BODY);
    courier.asked(1).await;
    // It dies before the outcome is written; its claims end with it.
    tokio::task::spawn_blocking(move || process.shutdown_timeout(Duration::from_secs(20))).await.unwrap();
    spool.fail_updates(0);
    spool.edit(|s| s.entries.values_mut().flat_map(|e| &mut e.recipients).for_each(|r| r.next_try_s = 0));
    twinpost_queue::Spool::unclaim(&spool, QueueId(1));
    let second = Site::with_courier(spool, Names::new(), courier.clone(), settings());
    second.spool.until("all gone", |s| s.entries.is_empty()).await;
    assert_eq!(second.end().await.last(1, 0).state, State::Delivered);
    let asked = courier.asked.lock().clone();
    assert_eq!(asked.len(), 1, "one name: {asked:?}");
    assert!(asked.values().all(|n| *n >= 2), "asked again: {asked:?}");
    assert_eq!(courier.carried.lock().len(), 1, "carried once");
}

#[tokio::test]
async fn a_slow_courier_keeps_no_other_mail_waiting_and_a_stop_gives_its_errands_back() {
    let (peer, names) = there(Manners::default()).await;
    let courier = Scripted::default().silent("138");
    let site = Site::with_courier(Memory::new(), names, courier.clone(), Settings { claims: 8, ..settings() });
    for id in 0..20 {
        site.spool.put(entry(id, &["138@sms.example"]), BODY);
    }
    courier.asked(4).await;
    for id in 100..110 {
        site.spool.put(entry(id, &["b@there.example"]), BODY);
    }
    site.spool.until("the other mail", |s| s.entries.keys().all(|id| id.0 < 100)).await;
    assert_eq!(peer.heard().messages.len(), 10);
    assert_eq!(courier.asked.lock().len(), 4, "half of the room is for errands");
    let spool = site.end().await;
    spool.read(|s| {
        assert_eq!(s.entries.len(), 20, "all wait");
        assert!(s.entries.values().all(|e| e.recipients[0].attempts == 0), "and none counts as tried");
    });
}
