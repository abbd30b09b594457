use super::{ACTOR, PASSWORD, a, person, school, shown};
use crate::{
    AccountChange, AuditQuery, Error, NewAccount, NewPassword, Originator::System, PasswordFault, Renamed, Resolution, Role,
};
use twinpost_sql::testing::Place;

async fn an_account_is_deleted_and_comes_back(place: &Place) {
    let d = school(place).await;
    d.add_alias(ACTOR, &a("head@school.example"), &[a("anna@school.example")]).await.expect("an alias");
    let at = d.delete_account(ACTOR, &a("anna@school.example")).await.expect("deletes");
    assert_eq!(d.resolve(&a("anna@school.example"), System), Resolution::UnknownUser);
    assert_eq!(d.resolve(&a("head@school.example"), System), Resolution::UnknownUser);
    let taken = d.add_account(ACTOR, &a("ANNA@school.example"), &person(PASSWORD)).await;
    assert!(matches!(taken, Err(Error::InGrace { days: 30, .. })), "{taken:?}");
    assert_eq!(d.domain("school.example").map(|d| d.accounts), Some(1));
    assert_eq!(d.to_purge(at - 1), []);
    assert_eq!(d.to_purge(at).len(), 1);
    d.restore_account(ACTOR, &a("anna@school.example")).await.expect("restores");
    assert_eq!(shown(&d.resolve(&a("head@school.example"), System)), "anna");
    d.delete_account(ACTOR, &a("anna@school.example")).await.expect("deletes");
    let anna = d.account(&a("anna@school.example")).expect("anna is listed").id;
    d.purged(ACTOR, &[anna]).await.expect("does nothing to an account in its grace time");
    assert!(d.account_by_id(anna).is_some());
    d.purge_account_now(ACTOR, &a("anna@school.example")).await.expect("ends the grace time");
    d.purged(ACTOR, &[anna]).await.expect("forgets");
    assert!(d.account_by_id(anna).is_none());
    assert_eq!(d.alias(&a("head@school.example")), None, "an alias to nobody goes too");
    assert_eq!(d.credential(anna).await.ok(), Some(None));
}

async fn names_are_one_whatever_their_case(place: &Place) {
    let d = school(place).await;
    d.add_account(ACTOR, &a("José.张三@School.example"), &person(PASSWORD)).await.expect("adds");
    assert_eq!(shown(&d.resolve(&a("JOSE\u{301}.张三@school.example"), System)), "josé.张三");
    for taken in ["anna@school.example", "ANNA@SCHOOL.EXAMPLE"] {
        assert!(matches!(d.add_account(ACTOR, &a(taken), &person(PASSWORD)).await, Err(Error::Taken { .. })), "{taken}");
    }
    let plus = d.add_account(ACTOR, &a("a+b@school.example"), &person(PASSWORD)).await;
    assert!(matches!(plus, Err(Error::Value { .. })), "{plus:?}");
    let elsewhere = d.add_account(ACTOR, &a("a@other.example"), &person(PASSWORD)).await;
    assert!(matches!(elsewhere, Err(Error::NoDomain(_))), "{elsewhere:?}");
}

async fn a_new_name_takes_everything_along(place: &Place) {
    let d = school(place).await;
    d.add_alias(ACTOR, &a("head@school.example"), &[a("anna@school.example"), a("x@out.example")]).await.expect("an alias");
    d.change_domain(ACTOR, "school.example", |s| s.catch_all = Some(a("anna@school.example"))).await.expect("a catch-all");
    let id = d.account(&a("anna@school.example")).map(|x| x.id);
    d.rename_account(ACTOR, &a("anna@school.example"), &a("anna.berg@school.example"), Renamed::KeepOldName)
        .await
        .expect("renames");
    for to in ["anna.berg@school.example", "anna@school.example", "stranger@school.example"] {
        assert_eq!(shown(&d.resolve(&a(to), System)), "anna.berg", "{to}");
    }
    assert_eq!(shown(&d.resolve(&a("head@school.example"), System)), "anna.berg out:x@out.example");
    assert_eq!(d.account(&a("anna.berg@school.example")).map(|x| x.id), id);
    let taken = d.rename_account(ACTOR, &a("ben@school.example"), &a("anna@school.example"), Renamed::FreeOldName).await;
    assert!(matches!(taken, Err(Error::Taken { .. })), "{taken:?}");
}

async fn a_refused_change_leaves_no_trace(place: &Place) {
    let d = school(place).await;
    let before = (d.generation(), d.audit(&AuditQuery::default()).await.map(|t| t.len()).ok());
    let weak = |p: &str| NewPassword::Plain(p.to_owned());
    let short = d.set_password(ACTOR, &a("anna@school.example"), &weak("short")).await;
    assert!(matches!(short, Err(Error::Password(PasswordFault::Short { chars: 5, min: 8 }))), "{short:?}");
    let new = NewAccount { password: weak("carl.carlson"), ..NewAccount::default() };
    let named = d.add_account(ACTOR, &a("carl.carlson@school.example"), &new).await;
    assert!(matches!(named, Err(Error::Password(PasswordFault::Name))), "{named:?}");
    let change = AccountChange { role: Some(Role::Operator), display_name: Some("x\ny".to_owned()), ..AccountChange::default() };
    assert!(d.change_account(ACTOR, &a("anna@school.example"), &change).await.is_err());
    d.change_account(ACTOR, &a("anna@school.example"), &AccountChange::default()).await.expect("changes nothing");
    assert_eq!(before, (d.generation(), d.audit(&AuditQuery::default()).await.map(|t| t.len()).ok()));
    let change = AccountChange { role: Some(Role::DomainAdmin), ..AccountChange::default() };
    d.change_account("boss", &a("anna@school.example"), &change).await.expect("changes");
    let query = AuditQuery { subject: Some("anna@school.example".to_owned()), limit: 1, ..AuditQuery::default() };
    let last = d.audit(&query).await.expect("the trail");
    assert_eq!(last[0].detail, "role: user -> domain_admin");
    let older = AuditQuery { before_id: Some(last[0].id), ..query };
    assert_eq!(d.audit(&older).await.expect("the trail")[0].action, "account.add");
}

twinpost_sql::on_both_engines!(
    an_account_is_deleted_and_comes_back,
    names_are_one_whatever_their_case,
    a_new_name_takes_everything_along,
    a_refused_change_leaves_no_trace,
);
