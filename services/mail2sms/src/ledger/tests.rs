//! The gateway with its ledger, each test on SQLite and on PostgreSQL.

use super::*;
use crate::answer::Incoming;
use crate::gateway::{Gateway, Intake, Settle};
use crate::number::Number;
use crate::refusal::Fault;
use crate::report::{Outcome, Reason};
use crate::sender::Sender;
use crate::settings::{Pin, Pins, Quotas, Settings};
use twinpost_message::Address;
use twinpost_sql::testing::Place;

/// Sunday, 22 November 2026, 15:00 in China.
const NOW_S: i64 = 1_795_330_800;
const DAY_S: i64 = 86_400;

fn a(text: &str) -> Address {
    Address::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}
fn anna() -> Sender {
    Sender { account: Some(a("Anna@school.example")), address: Some(a("anna@school.example")), ..Sender::default() }
}
fn ben() -> Sender {
    Sender { account: Some(a("ben@school.example")), address: Some(a("ben@school.example")), ..Sender::default() }
}
fn number(text: &str) -> Number {
    Number::from_canonical(text).expect("canonical")
}
fn settings() -> Settings {
    let quotas = Quotas { account: Some(10), domain: Some(15), ..Quotas::default() };
    Settings {
        domains: vec!["sms.example".to_owned()],
        quotas,
        strays_to: Some("office@school.example".to_owned()),
        ..Settings::default()
    }
}
async fn open(place: &Place, settings: Settings) -> Gateway {
    Gateway::open(place.location(), settings).await.expect("the gateway opens")
}
const MAIL: &[u8] = b"From: Anna <anna@school.example>\r\nSubject: Trip\r\nMessage-ID: <2@school.example>\r\nReferences: <1@school.example>\r\n\r\nWe meet at eight.\r\n";

async fn send(gateway: &Gateway, sender: &Sender, trace: &str, numbers: &[&str]) -> Result<u8, Fault> {
    let numbers: Vec<Number> = numbers.iter().map(|n| number(n)).collect();
    let intake = Intake { sender, trace, numbers: &numbers, mail: MAIL, now_s: NOW_S };
    gateway.accept(intake).await.map(|m| m.parts).map_err(|r| r.fault)
}
async fn settle(gateway: &Gateway, trace: &str, to: &str, outcome: Outcome) {
    let news = Settle { kind: Kind::Mail, trace, number: &number(to), outcome: &outcome, now_s: NOW_S };
    gateway.settle(news).await.expect("settled");
}
async fn used(gateway: &Gateway, who: &Sender) -> (u64, u64) {
    let (usage, _) = gateway.usage(who.who().expect("a sender"), NOW_S).await.expect("usage");
    (usage.reserved, usage.used)
}
fn sent(parts: u8) -> Outcome {
    Outcome::Sent { parts, possible_duplicate: false }
}
fn sms(from: &str) -> Incoming {
    Incoming { id: 1, from: from.to_owned(), text: "ok".to_owned(), sent_s: NOW_S, received_s: NOW_S }
}

const ONE: &str = "+8613800138000";
const TWO: &str = "+8613900139000";

async fn a_quota_is_taken_and_settled_once(place: &Place) {
    let gateway = open(place, settings()).await;
    assert_eq!(send(&gateway, &anna(), "t1", &[ONE, TWO]).await, Ok(1));
    assert_eq!(used(&gateway, &anna()).await, (2, 0));
    // The same mail again costs nothing more.
    assert_eq!(send(&gateway, &anna(), "t1", &[ONE, TWO]).await, Ok(1));
    assert_eq!(used(&gateway, &anna()).await, (2, 0));
    for _ in 0..2 {
        settle(&gateway, "t1", ONE, sent(1)).await;
        assert_eq!(used(&gateway, &anna()).await, (1, 1));
    }
    let reason = Reason { permanent: true, code: Some(1), en: "Unassigned number".to_owned(), zh: "空号".to_owned() };
    settle(&gateway, "t1", TWO, Outcome::Failed { parts: 0, reason }).await;
    assert_eq!(used(&gateway, &anna()).await, (0, 1));
    settle(&gateway, "t1", ONE, Outcome::Delivered).await;
    settle(&gateway, "t1", ONE, Outcome::Delivered).await;
    // What nobody reserved changes nothing.
    settle(&gateway, "t9", ONE, sent(1)).await;
    let query = StatisticsQuery { from_day: 0, to_day: i64::MAX, domain: None, account: None, by: StatisticsBy::Account };
    let rows = gateway.statistics(&query).await.expect("statistics");
    let counts = Counts { texts: 1, parts: 1, failed: 1, delivered: 1, ..Counts::default() };
    assert_eq!(rows, [Row { name: "anna@school.example".to_owned(), day: None, counts }]);
    let by = |by| StatisticsQuery { by, domain: Some("school.example".to_owned()), ..query.clone() };
    let days = gateway.statistics(&by(StatisticsBy::Day)).await.expect("statistics");
    assert_eq!(days, [Row { name: String::new(), day: Some(20_779), counts }]);
    assert_eq!(gateway.statistics(&by(StatisticsBy::Domain)).await.expect("statistics")[0].name, "school.example");
    let lines = gateway.audit(&AuditQuery::default()).await.expect("audit");
    let events: Vec<(&str, &str)> = lines.iter().rev().map(|l| (l.event.as_str(), l.number.as_str())).collect();
    assert_eq!(events, [("accepted", ONE), ("accepted", TWO), ("sent", ONE), ("failed", TWO), ("delivered", ONE)]);
    assert_eq!(lines[1].detail, "1 Unassigned number");
    gateway.close().await;
}

async fn what_is_not_stored_is_given_back(place: &Place) {
    let gateway = open(place, settings()).await;
    send(&gateway, &anna(), "t1", &[ONE, TWO]).await.expect("accepted");
    settle(&gateway, "t1", ONE, sent(1)).await;
    gateway.release("t1").await.expect("released");
    gateway.release("t1").await.expect("released");
    assert_eq!(used(&gateway, &anna()).await, (0, 1));
}

async fn quotas_of_account_and_domain(place: &Place) {
    let gateway = open(place, settings()).await;
    for n in 0..5 {
        send(&gateway, &anna(), &format!("t{n}"), &[ONE, TWO]).await.expect("accepted");
    }
    assert_eq!(send(&gateway, &anna(), "more", &[ONE]).await, Err(Fault::Quota));
    assert_eq!(used(&gateway, &anna()).await, (10, 0));
    // Refused as soon as nothing is left, and in words.
    let refusal = gateway.recipient(&anna(), &a("13800138000@sms.example"), &[], NOW_S).await.expect_err("nothing left");
    assert_eq!((refusal.code, refusal.enhanced().as_str()), (552, "5.2.2"));
    assert_eq!(refusal.sentence.en, "you may send 10 text messages a day and all of them are used: please try again tomorrow");
    for n in 0..2 {
        send(&gateway, &ben(), &format!("b{n}"), &[ONE, TWO]).await.expect("accepted");
    }
    // The domain has one left: two are refused whole, one goes.
    assert_eq!(send(&gateway, &ben(), "b8", &[ONE, TWO]).await, Err(Fault::Quota));
    assert_eq!(send(&gateway, &ben(), "b9", &[ONE]).await, Ok(1));
    // Tomorrow all is new.
    let tomorrow = Intake { sender: &anna(), trace: "n", numbers: &[number(ONE)], mail: MAIL, now_s: NOW_S + DAY_S };
    gateway.accept(tomorrow).await.expect("a new day");
}

async fn two_at_once_never_exceed_a_quota(place: &Place) {
    let gateway = open(place, settings()).await;
    let tasks: Vec<_> = (0..40)
        .map(|n| {
            let gateway = gateway.clone();
            let sender = if n % 2 == 0 { anna() } else { ben() };
            tokio::spawn(async move { send(&gateway, &sender, &format!("t{n}"), &[ONE]).await })
        })
        .collect();
    let mut accepted = 0;
    for task in tasks {
        match task.await.expect("no panic") {
            Ok(_) => accepted += 1,
            Err(fault) => assert_eq!(fault, Fault::Quota),
        }
    }
    assert_eq!(accepted, 15);
    let (anna, ben) = (used(&gateway, &anna()).await.0, used(&gateway, &ben()).await.0);
    assert!(anna <= 10 && ben <= 10 && anna + ben == 15, "{anna} {ben}");
}

async fn an_answer_goes_to_the_last_who_wrote(place: &Place) {
    let gateway = open(place, settings()).await;
    let to = async |from: &str, now_s: i64| {
        let mail = gateway.incoming(&sms(from), now_s).await.expect("the ledger answers");
        mail.map(|m| (m.to.to_string(), m.answer))
    };
    let office = Some(("office@school.example".to_owned(), false));
    assert_eq!(to("+8613800138000", NOW_S).await, office);
    send(&gateway, &anna(), "t1", &[ONE]).await.expect("accepted");
    send(&gateway, &ben(), "t2", &[ONE]).await.expect("accepted");
    for _ in 0..2 {
        assert_eq!(to("13800138000", NOW_S).await, Some(("ben@school.example".to_owned(), true)));
    }
    // The same SMS was offered twice and counts once.
    let query = StatisticsQuery {
        from_day: 0,
        to_day: i64::MAX,
        domain: None,
        account: Some("ben@school.example".to_owned()),
        by: StatisticsBy::Day,
    };
    assert_eq!(gateway.statistics(&query).await.expect("statistics")[0].counts.answers, 1);
    // A text that failed was never read by anybody.
    settle(&gateway, "t2", ONE, Outcome::Failed { parts: 0, reason: Reason::default() }).await;
    assert_eq!(to("008613800138000", NOW_S).await, Some(("anna@school.example".to_owned(), true)));
    let mail = gateway.incoming(&sms(ONE), NOW_S).await.expect("the ledger answers").expect("a mail");
    let text = String::from_utf8(mail.message).expect("ASCII");
    for line in [
        "Subject: Re: Trip\r\n",
        "In-Reply-To: <2@school.example>\r\n",
        "References: <1@school.example>\r\n <2@school.example>\r\n",
        "X-Twinpost-Sms: answer\r\n",
        "<+8613800138000@sms.example>\r\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(to(ONE, NOW_S + 7 * DAY_S + 1).await, office);
    assert_eq!((to("Bank", NOW_S).await, to(TWO, NOW_S).await), (office.clone(), office));
    gateway.replace(Settings { strays_to: None, ..settings() }).expect("sound");
    assert_eq!(to(TWO, NOW_S).await, None);
}

async fn who_was_answered_needs_no_pin(place: &Place) {
    let pins = Pins { everybody: Some(Pin::new("4711")), ..Pins::default() };
    let gateway = open(place, Settings { pins, ..settings() }).await;
    let ask = async |sender: Sender, local: &str| {
        gateway.recipient(&sender, &a(&format!("{local}@sms.example")), &[], NOW_S).await.map(|r| r.numbers).map_err(|r| r.fault)
    };
    assert_eq!(ask(anna(), "13800138000").await, Err(Fault::NoPin));
    assert_eq!(ask(anna(), "13800138000.4711").await, Ok(vec![number(ONE)]));
    send(&gateway, &anna(), "t1", &[ONE]).await.expect("accepted");
    assert_eq!(ask(anna(), ONE).await, Err(Fault::NoPin));
    gateway.incoming(&sms(ONE), NOW_S).await.expect("the ledger answers");
    assert_eq!(ask(anna(), ONE).await, Ok(vec![number(ONE)]));
    assert_eq!((ask(ben(), ONE).await, ask(anna(), TWO).await), (Err(Fault::NoPin), Err(Fault::NoPin)));
    // A refused PIN is nowhere in the audit.
    assert_eq!(ask(anna(), "13900139000.9999").await, Err(Fault::Pin));
    let lines =
        gateway.audit(&AuditQuery { who: Some("anna@school.example".to_owned()), ..AuditQuery::default() }).await.expect("audit");
    assert!(lines.iter().any(|l| l.event == "refused" && l.number == "13900139000" && l.detail == "pin"), "{lines:?}");
    assert!(!format!("{lines:?}").contains("9999"));
}

async fn pins_are_not_guessed(place: &Place) {
    let pins = Pins { everybody: Some(Pin::new("4711")), ..Pins::default() };
    let gateway = open(place, Settings { pins, ..settings() }).await;
    let ask = async |sender: Sender, pin: &str| {
        gateway
            .recipient(&sender, &a(&format!("13800138000.{pin}@sms.example")), &[], NOW_S)
            .await
            .map_err(|r| r.code)
            .map(|_| ())
    };
    // Who forgets the PIN guesses nothing.
    for _ in 0..30 {
        let refusal = gateway.recipient(&anna(), &a("13800138000@sms.example"), &[], NOW_S).await.expect_err("no PIN");
        assert_eq!((refusal.fault, refusal.code), (Fault::NoPin, 550));
    }
    for n in 0..20 {
        assert_eq!(ask(anna(), &format!("{n:04}")).await, Err(550));
    }
    assert_eq!(ask(anna(), "4711").await, Err(450));
    assert_eq!(ask(ben(), "4711").await, Ok(()));
}

async fn rules_and_notices(place: &Place) {
    let gateway = open(place, settings()).await;
    let account = a("Anna@School.example");
    let mail = b"From: Ben <ben@school.example>\r\nSubject: Fire\r\nX-Priority: 1\r\n\r\nrun\r\n";
    let told = async |trace: &str| gateway.notice(&account, None, mail, trace, NOW_S).await.expect("the ledger answers");
    assert_eq!(told("t0").await, None);
    let rule = |name: &str| Rule {
        name: name.to_owned(),
        numbers: vec!["13800138000".to_owned()],
        per_day_max: Some(2),
        urgent_only: true,
        ..Rule::default()
    };
    gateway.set_rule(&account, rule("fire")).await.expect("a sound rule");
    gateway.set_rule(&account, rule("fire")).await.expect("replaced");
    assert!(gateway.set_rule(&account, Rule { numbers: vec![], ..rule("bad") }).await.is_err());
    let first = told("t1").await.expect("told");
    assert_eq!((first.text.as_str(), first.to.as_slice()), ("紧急邮件 Ben: Fire\nrun", [number(ONE)].as_slice()));
    assert!(told("t2").await.is_some());
    assert_eq!(told("t3").await, None, "two a day are allowed");
    let news = Settle { kind: Kind::Notice, trace: "t1", number: &number(ONE), outcome: &sent(1), now_s: NOW_S };
    gateway.settle(news).await.expect("settled");
    // Notices count for the domain, and an answer to one leads nowhere.
    let domain = gateway.ledger_for_tests().usage_of_domain("school.example", 20_779).await.expect("usage");
    assert_eq!((domain.reserved, domain.used), (1, 1));
    assert!(gateway.incoming(&sms(ONE), NOW_S).await.expect("the ledger answers").is_some_and(|m| !m.answer));
    // Another process reads what this one wrote.
    let other = open(place, settings()).await;
    assert_eq!(other.rules(&account).len(), 1);
    assert!(
        other.remove_rule(&account, "fire").await.expect("removed") && !other.remove_rule(&account, "fire").await.expect("asked")
    );
    gateway.refresh().await.expect("read");
    assert!(gateway.rules(&account).is_empty());
    for n in 0..20 {
        gateway.set_rule(&account, rule(&format!("r{n}"))).await.expect("room");
    }
    assert!(gateway.set_rule(&account, rule("r20")).await.is_err());
    gateway.forget_account(&account).await.expect("forgotten");
    assert!(gateway.rules(&account).is_empty());
}

async fn what_is_old_is_forgotten(place: &Place) {
    let gateway = open(place, settings()).await;
    send(&gateway, &anna(), "t1", &[ONE]).await.expect("accepted");
    settle(&gateway, "t1", ONE, sent(1)).await;
    assert_eq!(gateway.prune(NOW_S).await.expect("pruned"), 0);
    assert_eq!(gateway.prune(NOW_S + 31 * DAY_S).await.expect("pruned"), 3, "the text, and usage of account and domain");
    assert_eq!(gateway.prune(NOW_S + 200 * DAY_S).await.expect("pruned"), 2, "two audit lines");
    assert_eq!(gateway.prune(NOW_S + 500 * DAY_S).await.expect("pruned"), 1, "the statistics of a day");
}

twinpost_sql::on_both_engines!(
    a_quota_is_taken_and_settled_once,
    what_is_not_stored_is_given_back,
    quotas_of_account_and_domain,
    two_at_once_never_exceed_a_quota,
    an_answer_goes_to_the_last_who_wrote,
    who_was_answered_needs_no_pin,
    pins_are_not_guessed,
    rules_and_notices,
    what_is_old_is_forgotten,
);
