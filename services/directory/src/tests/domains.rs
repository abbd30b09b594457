use super::{ACTOR, a, open, person, school, settings, shown};
use crate::{AuditQuery, Directory, DomainSettings, Error, NewDomain, Originator::System, Renamed, Resolution, Settings, State};
use twinpost_sql::testing::Place;

async fn a_domain_lives_and_dies(place: &Place) {
    let d = school(place).await;
    d.suspend_domain("boss", "School.Example").await.expect("suspends");
    assert_eq!(d.resolve(&a("anna@school.example"), System), Resolution::Suspended);
    assert_eq!(d.resolve(&a("nobody@school.example"), System), Resolution::Suspended);
    d.resume_domain("boss", "school.example").await.expect("resumes");
    assert_eq!(shown(&d.resolve(&a("anna@school.example"), System)), "anna");
    let at = d.remove_domain("boss", "school.example").await.expect("removes");
    assert_eq!(d.resolve(&a("anna@school.example"), System), Resolution::NotOurDomain);
    assert_eq!(d.to_purge(at - 1), []);
    assert_eq!(d.to_purge(at).len(), 2);
    let again = d.add_domain(ACTOR, "school.example", &NewDomain::default()).await;
    assert!(matches!(again, Err(Error::Taken { .. })), "{again:?}");
    d.restore_domain("boss", "school.example").await.expect("restores");
    assert_eq!(shown(&d.resolve(&a("anna@school.example"), System)), "anna");
    assert!(matches!(d.restore_domain("boss", "school.example").await, Err(Error::NotDeleted(_))));
    d.remove_domain("boss", "school.example").await.expect("removes");
    d.purge_domain_now("boss", "school.example").await.expect("ends the grace time");
    let due: Vec<_> = d.to_purge(crate::directory::now_s()).iter().map(|p| p.account).collect();
    d.purged("boss", &due).await.expect("forgets");
    assert_eq!(d.domain("school.example"), None);
    d.add_domain(ACTOR, "school.example", &NewDomain::default()).await.expect("the name is free");
    let trail = d.audit(&AuditQuery::default()).await.expect("the trail");
    let actions: Vec<&str> = trail.iter().rev().map(|e| e.action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "domain.add",
            "account.add",
            "account.add",
            "domain.suspend",
            "domain.resume",
            "domain.remove",
            "domain.restore",
            "domain.remove",
            "domain.purge_now",
            "account.purge",
            "account.purge",
            "domain.purge",
            "domain.add"
        ]
    );
    assert!(trail.iter().any(|e| e.actor == "boss" && e.subject == "school.example"));
}

async fn other_names_and_new_names_lead_to_the_same_people(place: &Place) {
    let d = school(place).await;
    d.add_domain_alias(ACTOR, "school.example", "schule.example").await.expect("another name");
    assert_eq!(shown(&d.resolve(&a("Anna@Schule.example"), System)), "anna");
    assert!(matches!(d.add_domain(ACTOR, "schule.example", &NewDomain::default()).await, Err(Error::Taken { .. })));
    d.add_alias(ACTOR, &a("head@school.example"), &[a("anna@schule.example")]).await.expect("an alias");
    d.rename_domain(ACTOR, "school.example", "college.example", true).await.expect("renames");
    for address in ["anna@college.example", "anna@school.example", "anna@schule.example", "head@school.example"] {
        assert_eq!(shown(&d.resolve(&a(address), System)), "anna", "{address}");
    }
    assert_eq!(d.account(&a("anna@school.example")).map(|x| x.address), Some(a("anna@college.example")));
    d.remove_domain_alias(ACTOR, "schule.example").await.expect("takes a name away");
    assert_eq!(d.resolve(&a("anna@schule.example"), System), Resolution::NotOurDomain);
    d.rename_domain(ACTOR, "college.example", "school.example", false).await.expect("its own alias becomes the name");
    assert_eq!(d.resolve(&a("anna@college.example"), System), Resolution::NotOurDomain);
    assert_eq!(shown(&d.resolve(&a("head@school.example"), System)), "anna");
}

async fn limits_come_from_the_domain_unless_set(place: &Place) {
    let d = school(place).await;
    d.change_domain(ACTOR, "school.example", |s| {
        s.account_quota_bytes = Some(100);
        s.quota_messages = Some(7);
        s.max_accounts = Some(3);
        s.catch_all = Some(a("Ben@school.example"));
        s.plus_separator = Some('-');
    })
    .await
    .expect("changes");
    let anna = d.account(&a("anna@school.example")).expect("anna is there");
    assert_eq!((anna.limits.account_bytes, anna.limits.domain_messages), (Some(100), Some(7)));
    let change = crate::AccountChange { quota_bytes: Some(Some(0)), ..Default::default() };
    d.change_account(ACTOR, &a("anna@school.example"), &change).await.expect("changes");
    assert_eq!(d.limits(anna.id).and_then(|l| l.account_bytes), None, "0 means no limit");
    d.add_account(ACTOR, &a("carl@school.example"), &person("long enough")).await.expect("the third");
    let fourth = d.add_account(ACTOR, &a("dora@school.example"), &person("long enough")).await;
    assert!(matches!(fourth, Err(Error::DomainFull { max: 3, .. })), "{fourth:?}");
    assert_eq!(shown(&d.resolve(&a("whoever@school.example"), System)), "ben");
    assert_eq!(shown(&d.resolve(&a("anna-Books@school.example"), System)), "anna+Books");
    let odd = d.change_domain(ACTOR, "school.example", |s| s.plus_separator = Some('a')).await;
    assert!(matches!(odd, Err(Error::Value { .. })), "{odd:?}");
    let reopened = open(place).await;
    assert_eq!(reopened.domains(), d.domains());
    assert_eq!(reopened.accounts(None).ok(), d.accounts(None).ok());
}

async fn two_processes_see_each_other(place: &Place) {
    let (one, two) = (school(place).await, open(place).await);
    let seen = two.changes();
    one.suspend_account(ACTOR, &a("anna@school.example")).await.expect("suspends");
    assert_eq!(shown(&two.resolve(&a("anna@school.example"), System)), "anna", "not yet seen");
    assert!(two.refresh().await.expect("refreshes"));
    assert!(seen.has_changed().unwrap_or(false));
    assert_eq!(two.resolve(&a("anna@school.example"), System), Resolution::Suspended);
    assert!(!two.refresh().await.expect("refreshes"));
    // Both change at once, many times: none is lost, no number is given twice.
    let add = |d: Directory, who: &'static str| async move {
        for n in 0..10 {
            d.add_account(who, &a(&format!("{who}{n}@school.example")), &person("long enough")).await.expect("adds");
        }
    };
    tokio::join!(add(one.clone(), "one"), add(two.clone(), "two"));
    one.refresh().await.expect("refreshes");
    two.refresh().await.expect("refreshes");
    assert_eq!(one.accounts(None).map(|l| l.len()).ok(), Some(22));
    assert_eq!(one.accounts(None).ok(), two.accounts(None).ok());
}

async fn numbers_are_never_used_again(place: &Place) {
    let d = Directory::open(place.location(), Settings { grace_s: 0, ..settings() }).await.expect("opens");
    d.add_domain(ACTOR, "x.example", &NewDomain { settings: DomainSettings::default(), aliases: vec!["y.example".into()] })
        .await
        .expect("adds");
    let first = d.add_account(ACTOR, &a("a@x.example"), &person("long enough")).await.expect("adds");
    d.delete_account(ACTOR, &a("a@y.example")).await.expect("deletes by another name");
    assert!(matches!(d.account_by_id(first).map(|x| x.state), Some(State::Deleted { .. })));
    d.purged(ACTOR, &[first]).await.expect("forgets");
    let d = Directory::open(place.location(), settings()).await.expect("opens again");
    let second = d.add_account(ACTOR, &a("a@x.example"), &person("long enough")).await.expect("adds");
    assert!(second > first, "{second} after {first}");
    d.rename_account(ACTOR, &a("a@x.example"), &a("b@x.example"), Renamed::FreeOldName).await.expect("renames");
    assert_eq!(d.resolve(&a("a@x.example"), System), Resolution::UnknownUser);
}

twinpost_sql::on_both_engines!(
    a_domain_lives_and_dies,
    other_names_and_new_names_lead_to_the_same_people,
    limits_come_from_the_domain_unless_set,
    two_processes_see_each_other,
    numbers_are_never_used_again,
);
