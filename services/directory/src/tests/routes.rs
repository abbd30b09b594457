use super::{ACTOR, PASSWORD, a, open, person, school, shown};
use crate::{Error, GroupChange, NewDomain, NewGroup, Originator, Resolution, Senders};
use twinpost_sql::testing::Place;

async fn aliases_lead_on_once_to_each(place: &Place) {
    let d = school(place).await;
    let add = |from: &'static str, to: &'static [&'static str]| {
        let d = d.clone();
        async move { d.add_alias(ACTOR, &a(from), &to.iter().map(|t| a(t)).collect::<Vec<_>>()).await }
    };
    add("office@school.example", &["Anna@school.example", "ben@school.example", "Out@x.example"]).await.expect("adds");
    add("all@school.example", &["office@school.example", "anna+x@school.example", "Out@x.example"]).await.expect("adds");
    let all = shown(&d.resolve(&a("ALL@school.example"), Originator::System));
    let mut words: Vec<&str> = all.split(' ').collect();
    words.sort_unstable();
    assert_eq!(words, ["anna+x", "ben", "out:Out@x.example"]);
    assert_eq!(shown(&d.resolve(&a("office+y@school.example"), Originator::System)), "anna ben out:Out@x.example");
    d.suspend_account(ACTOR, &a("anna@school.example")).await.expect("suspends");
    assert_eq!(shown(&d.resolve(&a("office@school.example"), Originator::System)), "ben out:Out@x.example");
    add("only@school.example", &["anna@school.example"]).await.expect("adds");
    assert_eq!(d.resolve(&a("only@school.example"), Originator::System), Resolution::Suspended);
    assert!(matches!(add("none@school.example", &[]).await, Err(Error::NoTarget(_))));
    assert!(matches!(add("ben@school.example", &["x@x.example"]).await, Err(Error::Taken { .. })));
    let reopened = open(place).await;
    assert_eq!(reopened.aliases(None).ok(), d.aliases(None).ok());
    d.remove_alias(ACTOR, &a("office@school.example")).await.expect("removes");
    assert_eq!(d.alias(&a("all@school.example")).map(|x| x.targets.len()), Some(2), "nothing leads to it any more");
}

async fn circles_are_spelled_out(place: &Place) {
    let d = school(place).await;
    d.add_domain_alias(ACTOR, "school.example", "schule.example").await.expect("another name");
    d.add_alias(ACTOR, &a("a@school.example"), &[a("b@school.example")]).await.expect("leads nowhere yet");
    d.add_group(ACTOR, &a("c@school.example"), &NewGroup { members: vec![a("a@school.example")], ..NewGroup::default() })
        .await
        .expect("adds");
    let closed = d.add_alias(ACTOR, &a("b@school.example"), &[a("C+plus@schule.example")]).await;
    let Err(Error::Loop { path }) = closed else { panic!("{closed:?}") };
    assert_eq!(path, ["b@school.example", "c@school.example", "a@school.example", "b@school.example"]);
    assert_eq!(d.alias(&a("b@school.example")), None);
    let own = d.add_alias(ACTOR, &a("d@school.example"), &[a("D@school.example")]).await;
    assert!(matches!(&own, Err(Error::Loop { path }) if path.len() == 2), "{own:?}");
    let change = d.change_alias(ACTOR, &a("a@school.example"), &[a("c@school.example")]).await;
    assert!(matches!(change, Err(Error::Loop { .. })), "{change:?}");
    let caught = d.change_domain(ACTOR, "school.example", |s| s.catch_all = Some(a("nobody@school.example"))).await;
    assert!(matches!(caught, Err(Error::Loop { .. })), "{caught:?}");
    // A domain that is added later can close a circle that nobody could see: mail ends where it began.
    d.add_alias(ACTOR, &a("e@school.example"), &[a("e@later.example"), a("anna@school.example")]).await.expect("adds");
    let later = NewDomain { aliases: vec![], ..NewDomain::default() };
    d.add_domain(ACTOR, "later.example", &later).await.expect("adds");
    let back = d.add_alias(ACTOR, &a("e@later.example"), &[a("e@school.example")]).await;
    assert!(matches!(back, Err(Error::Loop { .. })), "{back:?}");
    assert_eq!(shown(&d.resolve(&a("e@school.example"), Originator::System)), "anna");
}

async fn groups_choose_who_writes(place: &Place) {
    let d = school(place).await;
    d.add_account(ACTOR, &a("carl@school.example"), &person(PASSWORD)).await.expect("adds");
    let id = |name: &str| d.account(&a(&format!("{name}@school.example"))).expect("it is there").id;
    let (anna, ben, carl) = (id("anna"), id("ben"), id("carl"));
    let staff = a("staff@school.example");
    d.add_alias(ACTOR, &a("boss@school.example"), &[a("ben@school.example")]).await.expect("adds");
    let members = vec![a("anna@school.example"), a("boss@school.example"), a("guest@x.example")];
    d.add_group(ACTOR, &staff, &NewGroup { members, ..NewGroup::default() }).await.expect("adds");
    let guest = a("guest@x.example");
    let forged = a("anna@school.example");
    for (senders, allowed) in [
        (Senders::Anyone, [true, true, true, true, true, true]),
        (Senders::Members, [true, true, false, true, false, false]),
        (Senders::Domain, [true, true, true, false, false, false]),
        (Senders::Listed(vec![a("CARL@school.example")]), [false, false, true, false, false, false]),
    ] {
        let change = GroupChange { senders: Some(senders.clone()), ..GroupChange::default() };
        d.change_group(ACTOR, &staff, &change).await.expect("changes");
        let froms = [
            Originator::Account(anna),
            Originator::Account(ben),
            Originator::Account(carl),
            Originator::Outside(Some(&guest)),
            Originator::Outside(Some(&forged)),
            Originator::Outside(None),
        ];
        let found: Vec<bool> = froms.iter().map(|f| d.resolve(&staff, *f) != Resolution::NotAllowed).collect();
        assert_eq!(found, allowed, "{senders:?}");
        assert_eq!(shown(&d.resolve(&staff, Originator::System)).split(' ').count(), 3);
    }
    assert!(!d.may_send_as(anna, &staff));
    let change = GroupChange {
        members_send_as: Some(true),
        remove_members: vec![a("guest@x.example")],
        display_name: Some("Staff".to_owned()),
        ..GroupChange::default()
    };
    d.change_group(ACTOR, &staff, &change).await.expect("changes");
    for (who, address, may) in [
        (anna, "anna@school.example", true),
        (anna, "Anna+news@school.example", true),
        (anna, "ben@school.example", false),
        (anna, "staff@school.example", true),
        (ben, "boss@school.example", true),
        (ben, "staff@school.example", true),
        (carl, "staff@school.example", false),
        (carl, "boss@school.example", false),
        (carl, "carl@elsewhere.example", false),
        (carl, "unknown@school.example", false),
    ] {
        assert_eq!(d.may_send_as(who, &a(address)), may, "{who} as {address}");
    }
    let reopened = open(place).await;
    assert_eq!(reopened.groups(Some("school.example")).ok(), d.groups(None).ok());
    d.remove_group(ACTOR, &staff).await.expect("removes");
    assert_eq!(d.resolve(&staff, Originator::System), Resolution::UnknownUser);
}

twinpost_sql::on_both_engines!(aliases_lead_on_once_to_each, circles_are_spelled_out, groups_choose_who_writes);
