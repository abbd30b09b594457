//! What the policy says about senders and recipients.

use super::*;
use crate::settings::{Group, Numbers, Pins, Role, Who};
use std::collections::BTreeMap;

fn a(text: &str) -> Address {
    Address::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}
fn anna() -> Sender {
    Sender { account: Some(a("anna@school.example")), address: Some(a("anna@school.example")), ..Sender::default() }
}
fn outside(address: &str) -> Sender {
    Sender { address: Some(a(address)), ..Sender::default() }
}
fn settings() -> Settings {
    Settings { domains: vec!["Mail2SMS.example".to_owned()], ..Settings::default() }
}
fn policy(change: impl FnOnce(&mut Settings)) -> Policy {
    let mut settings = settings();
    change(&mut settings);
    Policy::new(settings).expect("sound settings")
}
fn ask(policy: &Policy, sender: &Sender, local: &str) -> Result<Vec<String>, Fault> {
    let to = Address::new(local, "mail2sms.example").expect("an address");
    let answer = policy.recipient(sender, &to, &[], |_| false);
    answer.map(|r| r.addresses.iter().map(ToString::to_string).collect()).map_err(|r| r.fault)
}
fn one(number: &str) -> Result<Vec<String>, Fault> {
    Ok(vec![format!("{number}@mail2sms.example")])
}

#[test]
fn addresses_become_numbers() {
    let policy = policy(|s| s.numbers = Numbers { short: vec!["10086".to_owned()], ..Numbers::default() });
    for local in [
        "13800138000",
        "+8613800138000",
        "008613800138000",
        "138-0013-8000",
        "138.0013.8000",
        "13800138000+math",
        "138 0013 8000",
    ] {
        assert_eq!(ask(&policy, &anna(), local), one("+8613800138000"), "{local}");
    }
    assert_eq!(ask(&policy, &anna(), "10086"), one("10086"));
    for (local, fault) in [
        ("138+00138000", Fault::Address),
        ("1380013800o", Fault::Address),
        ("1380013800", Fault::Digits),
        ("13800138000.4711", Fault::Digits),
        ("anna", Fault::NoGroup),
        ("+85261234567", Fault::Prefix),
        ("10010", Fault::Digits),
    ] {
        assert_eq!(ask(&policy, &anna(), local), Err(fault), "{local}");
    }
    for (address, number) in [
        ("+8613800138000@mail2sms.example", Some("+8613800138000")),
        ("10086@mail2sms.example", Some("10086")),
        ("13800138000@other.example", None),
        ("x@mail2sms.example", None),
    ] {
        assert_eq!(policy.number_of(&a(address)).as_ref().map(Number::as_str), number, "{address}");
    }
}

#[test]
fn who_may() {
    let with = |signed_in| policy(|s| s.who.signed_in = signed_in);
    let listed = vec!["ANNA@school.example".to_owned(), ".other.example".to_owned()];
    let ben = Sender { account: Some(a("ben@school.example")), address: Some(a("ben@school.example")), ..Sender::default() };
    let admin = Sender { role: Role::DomainAdmin, ..ben.clone() };
    for (signed_in, sender, may) in [
        (SignedIn::All, &anna(), true),
        (SignedIn::Nobody, &anna(), false),
        (SignedIn::Listed(listed.clone()), &anna(), true),
        (SignedIn::Listed(listed), &ben, false),
        (SignedIn::AtLeast(Role::DomainAdmin), &admin, true),
        (SignedIn::AtLeast(Role::DomainAdmin), &ben, false),
        (SignedIn::AtLeast(Role::Operator), &admin, false),
    ] {
        assert_eq!(with(signed_in.clone()).sender(sender).is_ok(), may, "{signed_in:?}");
    }
    let denied = policy(|s| s.who.denied = vec!["school.example".to_owned()]);
    assert_eq!(denied.sender(&anna()).map_err(|r| r.fault), Err(Fault::Sender));
    let null = Sender { address: None, ..anna() };
    assert_eq!(policy(|_| {}).sender(&null).map_err(|r| r.fault), Err(Fault::NullSender));
    assert_eq!(policy(|_| {}).sender(&outside("x@y.example")).map_err(|r| r.fault), Err(Fault::Sender));
}

#[test]
fn senders_elsewhere_need_a_pin() {
    let who = Who { outside: vec!["y.example".to_owned()], ..Who::default() };
    let bad = Settings { who: who.clone(), ..settings() };
    assert!(matches!(Policy::new(bad), Err(Error::Setting { key, .. }) if key == "who.outside"));
    let pins = Pins { domains: BTreeMap::from([("y.example".to_owned(), Pin::new("ab12"))]), ..Pins::default() };
    let policy = policy(|s| {
        s.who = who;
        s.pins = pins;
    });
    let x = outside("x@y.example");
    assert_eq!(ask(&policy, &x, "13800138000"), Err(Fault::NoPin));
    assert_eq!(ask(&policy, &x, "13800138000.ab13"), Err(Fault::Pin));
    assert_eq!(ask(&policy, &x, "138.0013.8000.Ab12"), one("+8613800138000"));
    // An answer to somebody elsewhere carries no proof of who writes: the PIN stays.
    let to = a("13800138000@mail2sms.example");
    assert_eq!(policy.recipient(&x, &to, &[], |_| true).map_err(|r| r.fault), Err(Fault::NoPin));
    // The same domain's users here need none.
    assert_eq!(ask(&policy, &anna(), "13800138000"), one("+8613800138000"));
}

#[test]
fn the_closest_pin_decides() {
    let pins = Pins {
        everybody: Some(Pin::new("1111")),
        domains: BTreeMap::from([("School.example".to_owned(), Pin::new("2222"))]),
        accounts: BTreeMap::from([("Anna@school.example".to_owned(), Pin::new("3333"))]),
    };
    let policy = policy(|s| s.pins = pins);
    let account = |name: &str| Sender { account: Some(a(name)), address: Some(a(name)), ..Sender::default() };
    for (name, pin) in [("anna@school.example", "3333"), ("ben@school.example", "2222"), ("x@y.example", "1111")] {
        for given in ["1111", "2222", "3333"] {
            let answer = ask(&policy, &account(name), &format!("13800138000.{given}"));
            assert_eq!(answer.is_ok(), given == pin, "{name} {given}");
        }
    }
    assert!(matches!(
        Policy::new(Settings { pins: Pins { everybody: Some(Pin::new("12")), ..Pins::default() }, ..settings() }),
        Err(Error::Setting { .. })
    ));
    assert_eq!(format!("{:?}", Pin::new("4711")), "Pin(...)");
}

#[test]
fn groups_and_how_many() {
    let numbers = |n: usize| (0..n).map(|i| format!("138{i:08}")).collect::<Vec<_>>();
    let policy = policy(|s| {
        s.groups.insert("Class.3a".to_owned(), Group { numbers: numbers(3), senders: vec!["anna@school.example".to_owned()] });
        s.groups.insert(
            "一班".to_owned(),
            Group { numbers: vec!["+85261234567".to_owned(), "+852-6123-4567".to_owned()], ..Group::default() },
        );
        s.numbers_per_mail_max = 4;
    });
    assert_eq!(ask(&policy, &anna(), "class.3A").map(|l| l.len()), Ok(3));
    // Written down by the administrator: no beginning is asked for, and twice the same is once.
    assert_eq!(ask(&policy, &anna(), "一班+家长"), one("+85261234567"));
    let ben = Sender { account: Some(a("ben@school.example")), ..anna() };
    assert_eq!(ask(&policy, &ben, "class.3a"), Err(Fault::Sender));
    let group = a("class.3a@mail2sms.example");
    let so_far = policy.recipient(&anna(), &group, &[], |_| false).expect("the group").numbers;
    let more = |to: &str| policy.recipient(&anna(), &a(to), &so_far, |_| false).map(|r| r.numbers.len()).map_err(|r| r.fault);
    assert_eq!(more("13800000001@mail2sms.example"), Ok(0), "it is there already");
    assert_eq!(more("13900000001@mail2sms.example"), Ok(1));
    let five = [so_far.clone(), vec![Number::from_canonical("+8613900000001").expect("canonical")]].concat();
    assert_eq!(
        policy.recipient(&anna(), &a("13900000002@mail2sms.example"), &five, |_| false).map_err(|r| r.fault),
        Err(Fault::TooManyNumbers)
    );
    for (name, numbers) in
        [("123", numbers(1)), ("a", vec![]), ("a", numbers(501)), ("a", vec!["x".to_owned()]), ("a+b", numbers(1))]
    {
        let groups = BTreeMap::from([(name.to_owned(), Group { numbers, senders: vec![] })]);
        assert!(Policy::new(Settings { groups, ..settings() }).is_err(), "{name}");
    }
}

#[test]
fn settings_without_sense_are_named() {
    let key = |change: fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        match Policy::new(settings) {
            Err(Error::Setting { key, .. }) => key,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(key(|s| s.domains = vec!["a b".to_owned()]), "domains");
    assert_eq!(key(|s| s.parts_max = 0), "parts_max");
    assert_eq!(key(|s| s.numbers_per_mail_max = 0), "numbers_per_mail_max");
    assert_eq!(key(|s| s.reply_days = 0), "reply_days");
    assert_eq!(key(|s| s.zone_min = 900), "zone_min");
    assert_eq!(
        key(|s| s.quiet = Some(crate::settings::Quiet { hours: Hours { from_min: 5, to_min: 5 }, urgent_passes: true })),
        "quiet.hours"
    );
    assert_eq!(key(|s| s.strays_to = Some("x".to_owned())), "strays_to");
    assert_eq!(key(|s| s.who.denied = vec!["a b".to_owned()]), "who.denied");
    assert_eq!(key(|s| s.quotas.accounts = BTreeMap::from([("x".to_owned(), 1)])), "quotas.accounts");
}

proptest::proptest! {
    #[test]
    fn any_local_part_is_judged_and_the_sentence_is_ascii(local in "\\PC{1,20}|[+]?[0-9.+-]{1,20}", pin: bool) {
        let policy = policy(|s| s.pins.everybody = pin.then(|| Pin::new("4711")));
        if let Ok(to) = Address::new(&local, "mail2sms.example") {
            match policy.recipient(&anna(), &to, &[], |_| false) {
                Ok(recipient) => {
                    proptest::prop_assert_eq!(recipient.addresses.len(), 1);
                    proptest::prop_assert_eq!(policy.number_of(&recipient.addresses[0]), recipient.numbers.first().cloned());
                }
                Err(refusal) => {
                    proptest::prop_assert!(refusal.sentence.en.bytes().all(|b| (b' '..=b'~').contains(&b)));
                    proptest::prop_assert!(refusal.sentence.en.len() < 300 && !refusal.sentence.zh.is_ascii() && refusal.is_permanent());
                }
            }
        }
    }
}
