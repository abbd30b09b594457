//! All mail through one server.

use crate::names::Names;
use crate::peer::{Manners, Peer};
use crate::spool::{BODY, entry};
use crate::{Site, settings};
use std::net::IpAddr;
use std::path::PathBuf;
use twinpost_queue::{RecipientUpdate, Settings, SmartHost, SmartHostTls, State};
use twinpost_wire::{SelfSignedSettings, ServerTls, self_signed};

fn certificate(dir: &tempfile::TempDir, name: &str) -> (ServerTls, PathBuf) {
    let wanted = SelfSignedSettings { names: vec![name.into()], ..Default::default() };
    let made = self_signed(dir.path(), &wanted, time::OffsetDateTime::now_utc()).unwrap();
    (ServerTls::load(vec![made.server]).unwrap(), made.ca)
}

fn through(ip: IpAddr, tls: SmartHostTls, password: &str, ca_file: PathBuf) -> (Names, Settings) {
    let names = Names::new().host("relay.example", &[ip]);
    let credentials = (!password.is_empty()).then(|| ("user".to_owned(), password.to_owned()));
    let smart_host = SmartHost { host: "relay.example".into(), port: crate::peer::port(), tls, credentials, ca_file };
    (names, Settings { smart_host: Some(smart_host), ..settings() })
}

async fn fate((names, settings): (Names, Settings)) -> RecipientUpdate {
    let site = Site::start(names, settings);
    site.spool.put(entry(1, &["b@x.example"]), BODY);
    site.spool.updated(1).await;
    site.end().await.last(1, 0)
}

fn wants(mechanisms: &str, tls: Option<ServerTls>) -> Manners {
    let password = Some(("user".to_owned(), "right".to_owned()));
    Manners { tls, password, ..Manners::offering(&[&format!("AUTH {mechanisms}")]) }
}

#[tokio::test]
async fn recipients_of_all_domains_go_in_one_transaction() {
    let relay = Peer::start(Manners::default()).await;
    let (names, settings) = through(relay.ip(), SmartHostTls::Opportunistic, "", PathBuf::new());
    let site = Site::start(names, settings);
    site.spool.put(entry(1, &["b@x.example", "c@y.example"]), BODY);
    site.spool.updated(2).await;
    assert_eq!(relay.heard().messages[0].1.len(), 2);
}

#[tokio::test]
async fn it_signs_in_and_waits_with_a_wrong_password() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, ca) = certificate(&dir, "relay.example");
    for mechanisms in ["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN"] {
        let relay = Peer::start(wants(mechanisms, Some(tls.clone()))).await;
        let good = fate(through(relay.ip(), SmartHostTls::Required, "right", ca.clone())).await;
        assert_eq!(good.state, State::Delivered, "{mechanisms}: {good:?}");
        assert!(relay.heard().commands.iter().all(|(_, tls, c)| *tls || !c.starts_with("AUTH")));
        let wrong = fate(through(relay.ip(), SmartHostTls::Required, "wrong", ca.clone())).await;
        assert!(wrong.state == State::Waiting && wrong.reply.text.starts_with("4.7.8"), "{mechanisms}: {wrong:?}");
        assert_eq!(relay.heard().messages.len(), 1);
    }
    // Without TLS a password is not shown to anybody; SCRAM does not show it.
    let relay = Peer::start(wants("PLAIN LOGIN", None)).await;
    let none = fate(through(relay.ip(), SmartHostTls::Opportunistic, "right", ca.clone())).await;
    assert!(none.state == State::Waiting && relay.said("AUTH").is_empty(), "{none:?}");
    let relay = Peer::start(wants("SCRAM-SHA-256", None)).await;
    assert_eq!(fate(through(relay.ip(), SmartHostTls::Opportunistic, "right", ca)).await.state, State::Delivered);
}

#[tokio::test]
async fn required_tls_is_required() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, ca) = certificate(&dir, "relay.example");
    let (other, _) = certificate(&tempfile::tempdir().unwrap(), "relay.example");
    let (named, _) = certificate(&dir, "somebody-else.example");
    for (what, manners) in [
        ("not offered", Manners::default()),
        ("broken", Manners { tls_broken: true, ..Manners::default() }),
        ("refused", Manners { tls: Some(tls), ..Manners::default() }.always("STARTTLS", "454 4.7.0 not now")),
        ("another authority", Manners { tls: Some(other), ..Manners::default() }),
        ("another name", Manners { tls: Some(named), ..Manners::default() }),
    ] {
        let relay = Peer::start(manners).await;
        let fate = fate(through(relay.ip(), SmartHostTls::Required, "", ca.clone())).await;
        assert_eq!((fate.state, relay.said("MAIL").len()), (State::Waiting, 0), "{what}: {fate:?}");
        assert_eq!(relay.heard().connections, 1, "{what}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_smart_host_bounces_nothing() {
    for manners in [
        Manners { greeting: "554 5.7.1 go away".into(), ..Manners::default() },
        Manners::default().always("EHLO", "550 5.7.1 not you"),
        Manners::default().always("MAIL", "530 5.7.0 authentication required"),
    ] {
        let relay = Peer::start(manners).await;
        assert_eq!(fate(through(relay.ip(), SmartHostTls::Opportunistic, "", PathBuf::new())).await.state, State::Waiting);
    }
    let (_, settings) = through(crate::peer::address(), SmartHostTls::Opportunistic, "", PathBuf::new());
    assert_eq!(fate((Names::new(), settings)).await.state, State::Waiting, "its name is unknown");
    // What it says of a recipient counts.
    let relay = Peer::start(Manners::default().always("RCPT", "550 5.1.1 no such user")).await;
    assert_eq!(fate(through(relay.ip(), SmartHostTls::Opportunistic, "", PathBuf::new())).await.state, State::Failed);
}
