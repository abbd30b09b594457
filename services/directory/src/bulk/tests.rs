//! Import and export, on both engines.

use crate::tests::{ACTOR, PASSWORD, a, open, school, shown};
use crate::{Error, Export, ImportOptions, ImportReport, Originator::System, Outcome, Service};
use twinpost_sql::testing::Place;

fn outcomes(report: &ImportReport) -> Vec<Outcome> {
    report.lines.iter().map(|l| l.outcome).collect()
}

const LIST: &str = "\
address,password,display_name,role,quota_bytes,aliases,groups,suspended
anna@school.example,,Anna Berg,domain_admin,2G,head@school.example,staff@school.example,
carl@school.example,long enough,=1+cmd|' /C calc'!A0,,,,staff@school.example,no
dora@new.example,long enough,,,,,,yes
ben@school.example,short,,,,,,
carl@school.example,,,,,,,
x@school.example,long enough,,emperor,,,,
y@school.example,long enough,,,,ben@school.example,,
";

async fn each_line_is_told_its_fate(place: &Place) {
    let d = school(place).await;
    let options = ImportOptions { create_domains: true, create_groups: true, ..ImportOptions::default() };
    let dry = ImportOptions { dry_run: true, ..options.clone() };
    let before = d.generation();
    use Outcome::{Added, Refused, Unchanged, Updated};
    let fates = [Updated, Added, Added, Refused, Refused, Refused, Refused];
    let report = d.import(ACTOR, LIST.into(), &dry).await.expect("is read");
    assert_eq!(outcomes(&report), fates, "{report:#?}");
    assert!(!report.committed);
    let all = ImportOptions { all_or_nothing: true, ..options.clone() };
    assert!(!d.import(ACTOR, LIST.into(), &all).await.expect("is read").committed);
    assert_eq!(d.generation(), before);
    let report = d.import(ACTOR, LIST.into(), &options).await.expect("is read");
    assert_eq!(outcomes(&report), fates, "{report:#?}");
    assert!(report.committed);
    for (line, part) in [(5, "8 are needed"), (6, "line 3"), (7, "emperor"), (8, "already in use")] {
        let told = report.lines.iter().find(|l| l.line == line).map(|l| l.reason.as_str()).unwrap_or_default();
        assert!(told.contains(part), "line {line}: {told}");
    }
    assert_eq!(shown(&d.resolve(&a("head@school.example"), System)), "anna");
    assert_eq!(shown(&d.resolve(&a("staff@school.example"), System)), "anna carl");
    d.authenticate("carl@school.example", "long enough", Service::Imap).await.expect("the password opens");
    assert!(d.authenticate("dora@new.example", "long enough", Service::Imap).await.is_err(), "suspended");
    d.authenticate("ben@school.example", PASSWORD, Service::Imap).await.expect("a refused line changes nothing");
    assert!(d.account(&a("y@school.example")).is_none());
    // The same list again changes nothing, also after the hash was renewed at sign-in.
    let before = d.generation();
    let report = d.import(ACTOR, LIST.into(), &options).await.expect("is read");
    assert_eq!(outcomes(&report), [Unchanged, Unchanged, Unchanged, Refused, Refused, Refused, Refused], "{report:#?}");
    assert_eq!(d.generation(), before);
    let reopened = open(place).await;
    assert_eq!(reopened.accounts(None).ok(), d.accounts(None).ok());
    assert_eq!(reopened.groups(None).ok(), d.groups(None).ok());
}

async fn an_export_is_an_import(place: &Place) {
    let d = school(place).await;
    d.import(ACTOR, LIST.into(), &ImportOptions { create_domains: true, create_groups: true, ..ImportOptions::default() })
        .await
        .expect("is read");
    let list = d.export(&Export { hashes: true, byte_order_mark: true, domain: None }).await.expect("exports");
    assert!(list.contains(",'=1+cmd|"), "a formula is text in the list: {list}");
    let report = d.import(ACTOR, list.clone().into(), &ImportOptions::default()).await.expect("is read");
    assert_eq!((report.unchanged, report.lines.len()), (4, 4), "{report:#?}");
    let other = Place::sqlite();
    let copy = open(&other).await;
    let options = ImportOptions { create_domains: true, create_groups: true, all_or_nothing: true, ..ImportOptions::default() };
    let report = copy.import(ACTOR, list.into(), &options).await.expect("is read");
    assert_eq!((report.added, report.committed), (4, true), "{report:#?}");
    for (name, password) in [("anna", PASSWORD), ("carl", "long enough")] {
        copy.authenticate(&format!("{name}@school.example"), password, Service::Imap).await.expect(name);
    }
    let plain = Export { domain: Some("school.example".to_owned()), ..Export::default() };
    assert_eq!(copy.export(&plain).await.ok(), d.export(&plain).await.ok());
    assert!(matches!(d.import(ACTOR, b"shoe\n1\n".to_vec(), &options).await, Err(Error::List(_))));
}

twinpost_sql::on_both_engines!(each_line_is_told_its_fate, an_export_is_an_import);
