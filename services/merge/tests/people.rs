//! Accounts that differ: made there, renamed, removed, given the same number on both sides.
mod support;

use std::sync::Arc;
use support::*;
use twinpost_directory::{Directory, HashCost, NewAccount, NewDomain, NewPassword, Service, Settings};
use twinpost_merge::{Directories, Options, People, Sides, Watch};
use twinpost_message::{AccountId, Address, DomainId};
use twinpost_sql::Location;
use twinpost_store::{Delivery, RECOVERED, Store};

const ACTOR: &str = "test";
const PASSWORD: &str = "correct horse battery";

fn a(text: &str) -> Address {
    Address::parse(text).expect("an address")
}

async fn directory(data: &std::path::Path) -> Directory {
    let cost = HashCost { memory_kib: 64, passes: 1, scram_iterations: 4096 };
    let settings = Settings { cost, ..Settings::default() };
    Directory::open(&Location::Sqlite(data.join("directory.sqlite")), settings).await.expect("the directory opens")
}

async fn add(directory: &Directory, address: &str) -> i64 {
    let new = NewAccount { password: NewPassword::Plain(PASSWORD.to_owned()), ..NewAccount::default() };
    directory.add_account(ACTOR, &a(address), &new).await.expect("adds").0
}

async fn send(store: &Store, directory: &Directory, to: &str, text: &str) {
    let account = directory.account(&a(to)).expect("the account is there");
    let mut delivery: Delivery = delivery(text, &[account.id.0]);
    delivery.targets[0].domain = account.domain_id;
    store.deliver(delivery).await.expect("delivers");
}

async fn subjects(store: &Store, account: i64) -> Vec<String> {
    let prefix = format!("{account}/");
    places(store).await.iter().filter_map(|p| p.strip_prefix(&prefix)).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_goes_to_whom_it_belongs() {
    let world = World::new();
    let d = directory(&world.data()).await;
    d.add_domain(ACTOR, "x.example", &NewDomain::default()).await.unwrap();
    for name in ["anna@x.example", "bob@x.example", "carl@x.example"] {
        add(&d, name).await;
    }
    // Numbers are believed when they are older than the parting: time passes by seconds.
    let old = d.account(&a("anna@x.example")).unwrap().created_s;
    let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    while clock() <= old.cast_unsigned() {
        tokio::task::yield_now().await;
    }
    let here = world.here().await;
    send(&here, &d, "anna@x.example", "common").await;
    here.close().await;
    d.close().await;
    world.part();
    for end in ["", "-wal", "-shm"] {
        let name = format!("directory.sqlite{end}");
        let _ = std::fs::copy(world.data().join(&name), world.aside().join(&name));
    }
    let (here, there) = (world.here().await, world.there().await);
    let (d, theirs) = (directory(&world.data()).await, directory(&world.aside()).await);
    // The same number for two people.
    let ours = add(&d, "dora@x.example").await;
    assert_eq!(add(&theirs, "emil@x.example").await, ours);
    // The same address for two numbers; and a domain of their own.
    add(&d, "filler@x.example").await;
    add(&theirs, "fritz@x.example").await;
    let fritz = {
        let id = add(&d, "fritz@x.example").await;
        assert_ne!(theirs.account(&a("fritz@x.example")).unwrap().id.0, id);
        id
    };
    theirs.add_domain(ACTOR, "y.example", &NewDomain::default()).await.unwrap();
    add(&theirs, "gerd@y.example").await;
    theirs.add_alias(ACTOR, &a("info@x.example"), &[a("anna@x.example")]).await.unwrap();
    // Renamed here, deleted here.
    d.rename_account(ACTOR, &a("bob@x.example"), &a("robert@x.example"), twinpost_directory::Renamed::FreeOldName).await.unwrap();
    d.delete_account(ACTOR, &a("carl@x.example")).await.unwrap();
    d.purge_account_now(ACTOR, &a("carl@x.example")).await.unwrap();
    let carl = theirs.account(&a("carl@x.example")).unwrap().id;
    d.purged(ACTOR, &[carl]).await.unwrap();
    send(&here, &d, "dora@x.example", "for dora").await;
    for (to, text) in [
        ("anna@x.example", "for anna"),
        ("bob@x.example", "for bob"),
        ("carl@x.example", "for carl"),
        ("emil@x.example", "for emil"),
        ("fritz@x.example", "for fritz"),
        ("gerd@y.example", "for gerd"),
    ] {
        send(&there, &theirs, to, text).await;
    }
    // Mail for a number that no directory knows.
    deliver(&there, "for nobody", &[4711]).await;
    there.close().await;
    theirs.close().await;
    let people: Arc<dyn People> = Arc::new(Directories::open(d.clone(), &world.aside(), &world.data()).await.unwrap());
    assert_eq!(people.fault(), None);
    let sides = Sides { people, ..world.sides(&here) };
    let found = twinpost_merge::differences(&sides, &Watch::default()).await.unwrap();
    assert_eq!(found.totals.accounts_made_there, 2, "{found:#?}");
    assert_eq!(found.names_there, ["domain y.example", "alias info@x.example"]);
    assert!(d.account(&a("emil@x.example")).is_none(), "looking changes nothing");
    let report = twinpost_merge::merge(&sides, Options::default(), &Watch::default()).await.unwrap();
    assert_eq!(report.totals.counts.taken, 6, "{report:#?}");
    let number = |address: &str| d.account(&a(address)).expect("the account is here").id.0;
    let (emil, gerd) = (number("emil@x.example"), number("gerd@y.example"));
    assert!(emil != ours && gerd != emil);
    assert_eq!(subjects(&here, ours).await, ["INBOX/for dora"], "nobody's mail goes to anybody else");
    assert_eq!(subjects(&here, emil).await, ["INBOX/for emil"]);
    assert_eq!(subjects(&here, gerd).await, ["INBOX/for gerd"]);
    assert_eq!(subjects(&here, fritz).await, ["INBOX/for fritz"]);
    assert_eq!(subjects(&here, number("robert@x.example")).await, ["INBOX/for bob"]);
    assert_eq!(subjects(&here, number("anna@x.example")).await, ["INBOX/common", "INBOX/for anna"]);
    assert_eq!(subjects(&here, 0).await, [format!("{RECOVERED}/for nobody")]);
    assert!(report.accounts.iter().any(|a| a.removed_here && a.address == "carl@x.example"));
    // Emil signs in with the password that he was given there.
    let identity = d.authenticate("emil@x.example", PASSWORD, Service::Imap).await.expect("the old password opens");
    assert_eq!(identity.account.0, emil);
    let head = *here.head().borrow();
    let again = twinpost_merge::merge(&sides, Options::default(), &Watch::default()).await.unwrap();
    assert_eq!((again.totals.counts.taken, *here.head().borrow()), (0, head));
    drop(sides);
    let left: Vec<_> = bytes_of(&world.data().join("merge")).into_keys().map(|p| p.file_name().unwrap().to_owned()).collect();
    assert!(!left.iter().any(|name| name.to_str().unwrap().contains("sqlite")), "no copy stays: {left:?}");
    d.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_other_directory_numbers_count_if_they_are_old() {
    let world = World::new();
    let d = directory(&world.data()).await;
    d.add_domain(ACTOR, "x.example", &NewDomain::default()).await.unwrap();
    let anna = add(&d, "anna@x.example").await;
    std::fs::write(world.aside().join("directory.sqlite"), [9; 9000]).unwrap();
    let people = Directories::open(d.clone(), &world.aside(), &world.data()).await.unwrap();
    assert!(people.fault().is_some());
    let created = d.account_by_id(AccountId(anna)).unwrap().created_s;
    let found = |common: Option<i64>| people.find(AccountId(anna), common);
    assert!(matches!(found(Some(created + 1)).await.unwrap(), twinpost_merge::Found::Here(h) if h.account == AccountId(anna)));
    assert_eq!(found(Some(created)).await.unwrap(), twinpost_merge::Found::Unknown);
    assert_eq!(found(None).await.unwrap(), twinpost_merge::Found::Unknown);
    assert_eq!(DomainId(1), d.account_by_id(AccountId(anna)).unwrap().domain_id);
    d.close().await;
}
