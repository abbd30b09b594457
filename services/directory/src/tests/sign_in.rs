use super::{ACTOR, PASSWORD, a, school, settings};
use crate::{Directory, Error, NewAccount, NewDomain, NewPassword, Service, Services, Settings, SignInError};
use twinpost_sasl::ScramSecret;
use twinpost_sql::testing::Place;

async fn passwords_open_and_close(place: &Place) {
    let d = school(place).await;
    let anna = a("anna@school.example");
    for name in ["anna@school.example", "ANNA@School.Example", "anna", " anna "] {
        let who = d.authenticate(name, PASSWORD, Service::Imap).await.expect(name);
        assert_eq!(who.address, anna);
    }
    for (name, password) in [("anna", "wrong horse"), ("nobody", PASSWORD), ("anna@x.example", PASSWORD), ("", ""), ("anna", "")]
    {
        let refused = d.authenticate(name, password, Service::Imap).await;
        assert!(matches!(refused, Err(SignInError::Wrong)), "{name}: {refused:?}");
    }
    // Remembered, and forgotten at once.
    d.set_password(ACTOR, &anna, &NewPassword::Plain("another horse".to_owned())).await.expect("changes");
    assert!(matches!(d.authenticate("anna", PASSWORD, Service::Imap).await, Err(SignInError::Wrong)));
    d.authenticate("anna", "another horse", Service::Pop3).await.expect("the new one opens");
    let change = crate::AccountChange { services: Some([Service::Imap].into_iter().collect()), ..Default::default() };
    d.change_account(ACTOR, &anna, &change).await.expect("changes");
    let refused = d.authenticate("anna", "another horse", Service::Pop3).await;
    assert!(matches!(refused, Err(SignInError::NotAllowed(Service::Pop3))), "{refused:?}");
    d.suspend_account(ACTOR, &anna).await.expect("suspends");
    assert!(matches!(d.authenticate("anna", "another horse", Service::Imap).await, Err(SignInError::Suspended)));
    assert!(matches!(d.authenticate("anna", "wrong", Service::Imap).await, Err(SignInError::Wrong)), "only the owner is told");
    d.add_domain(ACTOR, "other.example", &NewDomain::default()).await.expect("adds");
    assert!(matches!(d.authenticate("ben", PASSWORD, Service::Imap).await, Err(SignInError::Wrong)), "which domain?");
    let with_default = Settings { default_domain: Some("school.example".to_owned()), ..settings() };
    let d = Directory::open(place.location(), with_default).await.expect("opens");
    d.authenticate("ben", PASSWORD, Service::Imap).await.expect("the default domain's");
}

async fn old_hashes_are_replaced_at_sign_in(place: &Place) {
    let d = school(place).await;
    for (name, hash, password) in [
        ("md5", "$1$5pZSV9va$azfrPr6af3Fc7dLblQXVa0", "password"),
        ("sha", "{CRYPT}$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!"),
        ("bcrypt", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"),
        ("plain", "{PLAIN}geheim", "geheim"),
    ] {
        let address = a(&format!("{name}@school.example"));
        let new = NewAccount { password: NewPassword::Hash(hash.to_owned()), ..NewAccount::default() };
        let id = d.add_account(ACTOR, &address, &new).await.expect(name);
        assert!(matches!(d.authenticate(name, "nonsense", Service::Imap).await, Err(SignInError::Wrong)), "{name}");
        d.authenticate(name, password, Service::Imap).await.expect(name);
        let stored = d.credential(id).await.ok().flatten().expect("it has a credential");
        assert!(stored.hash.as_ref().is_some_and(|h| h.starts_with("$argon2id$")), "{name}: {:?}", stored.hash);
        assert!(stored.scram.as_ref().is_some_and(|s| s.opens(password)), "{name}");
        if name != "plain" {
            assert!(stored.came_from(hash), "{name}: the same import changes nothing");
        }
        // From the new hash, not from memory.
        let fresh = super::open(place).await;
        fresh.authenticate(name, password, Service::Imap).await.expect(name);
        assert!(matches!(fresh.authenticate(name, "nonsense", Service::Imap).await, Err(SignInError::Wrong)), "{name}");
    }
    let weak = NewPassword::Hash("{SSHA}0123".to_owned());
    assert!(matches!(d.set_password(ACTOR, &a("anna@school.example"), &weak).await, Err(Error::Hash(_))));
}

async fn app_passwords_are_for_one_program(place: &Place) {
    let d = school(place).await;
    let anna = a("anna@school.example");
    let shown = d.add_app_password(ACTOR, &anna, "phone", [Service::Imap].into_iter().collect()).await.expect("makes one");
    assert_eq!(shown.len(), 23, "{shown}");
    let typed = shown.replace('-', " ").to_uppercase();
    for text in [&shown, &typed] {
        let who = d.authenticate("anna", text, Service::Imap).await.expect("opens");
        assert_eq!(who.app_password.as_deref(), Some("phone"));
        assert_eq!(who.services.to_string(), "imap");
    }
    assert!(matches!(d.authenticate("anna", &shown, Service::Pop3).await, Err(SignInError::NotAllowed(Service::Pop3))));
    assert!(matches!(d.authenticate("ben", &shown, Service::Imap).await, Err(SignInError::Wrong)));
    let again = d.add_app_password(ACTOR, &anna, "phone", Services::ALL).await;
    assert!(matches!(again, Err(Error::Taken { .. })), "{again:?}");
    assert_eq!(d.app_passwords(&anna).await.map(|l| l.len()).ok(), Some(1));
    d.authenticate("anna", PASSWORD, Service::Pop3).await.expect("the own one still opens");
    d.revoke_app_password(ACTOR, &anna, "phone").await.expect("revokes");
    assert!(matches!(d.authenticate("anna", &shown, Service::Imap).await, Err(SignInError::Wrong)));
    assert!(matches!(d.revoke_app_password(ACTOR, &anna, "phone").await, Err(Error::NoAppPassword { .. })));
}

async fn scram_tells_nobody_who_exists(place: &Place) {
    let d = school(place).await;
    let real = d.scram_secret("Anna@school.example").await.expect("a secret");
    assert_eq!(real, ScramSecret::from_password(PASSWORD, &real.salt, real.iterations));
    assert_eq!(d.identity("anna", Service::Imap).map(|i| i.address).ok(), Some(a("anna@school.example")));
    let fake = d.scram_secret("nobody@school.example").await.expect("a secret");
    assert_eq!((fake.salt.len(), fake.iterations), (real.salt.len(), real.iterations));
    let again = super::open(place).await.scram_secret("Nobody@school.example").await.expect("a secret");
    assert_eq!(fake, again, "the same after a restart");
    assert_ne!(fake.salt, d.scram_secret("nobody2@school.example").await.expect("a secret").salt);
}

async fn too_many_at_once_are_sent_away(place: &Place) {
    let narrow = Settings { verifications_at_once: 1, verifications_waiting: 2, ..settings() };
    school(place).await.close().await;
    let d = Directory::open(place.location(), narrow).await.expect("opens");
    let tries: Vec<_> = (0..30)
        .map(|n| {
            let d = d.clone();
            tokio::spawn(async move { d.authenticate("anna", &format!("guess {n}"), Service::Imap).await })
        })
        .collect();
    let (mut wrong, mut busy) = (0, 0);
    for outcome in tries {
        match outcome.await.expect("a sign-in does not panic") {
            Err(SignInError::Wrong) => wrong += 1,
            Err(SignInError::Busy) => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(wrong >= 1, "{wrong} were tried, {busy} sent away");
    d.authenticate("anna", PASSWORD, Service::Imap).await.expect("the queue is free again");
}

twinpost_sql::on_both_engines!(
    passwords_open_and_close,
    old_hashes_are_replaced_at_sign_in,
    app_passwords_are_for_one_program,
    scram_tells_nobody_who_exists,
    too_many_at_once_are_sent_away,
);
