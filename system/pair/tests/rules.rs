//! Orders, rules that outlive a restart, a full disk, a watchdog, a node that cuts its own power.

mod rig;

use futures_util::future::BoxFuture;
use rig::{Rig, node_of};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use tokio::sync::mpsc;
use twinpost_heartbeat::Writes;
use twinpost_pair::api::{Answer, FailBack, Leaving, OrderName, Request};
use twinpost_pair::{Error, Handle, PeerChannel};
use twinpost_storage::{Storage, StorageStatus};

/// The trusted channel, without TLS: straight to the other daemon's door.
#[derive(Default)]
struct Line(OnceLock<Handle>);

impl PeerChannel for Line {
    fn call(&self, request: twinpost_peer::Request) -> BoxFuture<'_, Result<twinpost_peer::Answer, twinpost_peer::Error>> {
        Box::pin(async move {
            match self.0.get() {
                Some(handle) => handle.peer_asked(request).await.map_err(twinpost_peer::Error::Refused),
                None => Err(twinpost_peer::Error::Late { limit_ms: 0 }),
            }
        })
    }

    fn about(&self) -> Option<twinpost_peer::About> {
        self.0.get().map(|_| twinpost_peer::About {
            name: "other".to_owned(),
            board: "model-7".to_owned(),
            program: "9.9".to_owned(),
        })
    }

    fn connected(&self) -> bool {
        self.0.get().is_some()
    }
}

fn joined(rig: &Rig) -> (rig::Node, rig::Node) {
    let lines = [Arc::new(Line::default()), Arc::new(Line::default())];
    let [a, b] = [0, 1].map(|n| {
        let line = lines[n].clone();
        let mut set = rig.settings(n);
        set.board = if n == 0 { "model-7" } else { "model-3" }.to_owned();
        rig.start_changed(set, move |parts| parts.channel = Some(line))
    });
    assert!(lines[0].0.set(b.handle.clone()).is_ok() && lines[1].0.set(a.handle.clone()).is_ok());
    (a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_asks_the_peer_and_machines_that_differ_are_told() {
    let rig = Rig::new();
    let (a, b) = joined(&rig);
    a.until_active().await;
    b.until_eligible().await;
    a.until("b eligible", |s| node_of(s, "b").eligible && s.channel == Some(true)).await;
    let answer = b.ask(Request::Preview { order: OrderName::Takeover }).await;
    assert!(
        matches!(&answer, Answer::Preview { reasons, text } if reasons.is_empty() && text.en.contains("disconnected once")),
        "{answer:?}"
    );
    assert_eq!(b.status().await.active.as_deref(), Some("a"), "a preview changes nothing");
    let answer = b.ask(Request::Takeover).await;
    assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
    let status = b.until_active().await;
    assert_eq!(node_of(&status, "a").version.as_deref(), Some("9.9"));
    a.until_eligible().await;
    // The other way round it is refused by the one that does not serve, in words.
    let Answer::Refused { reasons } = b.ask(Request::Takeover).await else { panic!("it serves already") };
    assert_eq!(reasons[0].code, "already_active");
    let alarm = b.until_told("boards_differ").await;
    assert!(alarm.text.en.contains("model-3") && alarm.text.en.contains("model-7"), "{alarm:?}");
    assert!(a.status().await.alarms.iter().all(|alarm| alarm.code != "boards_differ"), "both are model-7 as a sees it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maintenance_holds_on_both_nodes_and_over_a_restart() {
    let rig = Rig::new();
    let (a, b) = joined(&rig);
    a.until_active().await;
    b.until_eligible().await;
    let answer = a.ask(Request::Maintenance { for_s: Some(3600) }).await;
    assert!(matches!(&answer, Answer::Done { text } if !text.en.contains("not told")), "{answer:?}");
    b.until("maintenance", |s| s.maintenance_left_s.is_some_and(|left| left > 3500)).await;
    b.leave().await.expect("an orderly end");
    let b = rig.start(1);
    b.until("still", |s| s.maintenance_left_s.is_some_and(|left| left > 3500) && s.sentence.contains("Maintenance")).await;
    b.until("hears a", |s| s.active.as_deref() == Some("a")).await;
    a.kill().await;
    let status = b.until("a silent", |s| node_of(s, "a").state == "silent").await;
    assert_eq!((status.active, node_of(&b.status().await, "b").state.as_str()), (None, "maintenance"));
    let Answer::Refused { reasons } = b.ask(Request::Standby).await else { panic!("it does not serve") };
    assert!(reasons.iter().any(|r| r.code == "maintenance"), "{reasons:?}");
    assert!(matches!(b.ask(Request::Maintenance { for_s: None }).await, Answer::Done { .. }));
    // It was current when a died, and takes over as soon as it may.
    assert_eq!(b.until_active().await.proof.as_deref(), Some("reservation"));
    // The end of the maintenance is kept too.
    b.kill().await;
    let b = rig.start(1);
    let status = b.until("running", |s| node_of(s, "b").boot > 2).await;
    assert_eq!(status.maintenance_left_s, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_goes_back_to_the_preferred_node() {
    let rig = Rig::new();
    let (a, b) = joined(&rig);
    a.until_active().await;
    b.until_eligible().await;
    let rule = FailBack::Node { node: "b".to_owned(), after_s: 1 };
    let answer = b.ask(Request::FailBack { rule: rule.clone() }).await;
    assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
    b.until_active().await;
    a.until_told("fail_back").await;
    b.kill().await;
    a.until_active().await;
    // Kept over a restart, on both nodes.
    let b = rig.start(1);
    assert_eq!(b.until("running", |s| node_of(s, "b").boot > 1).await.fail_back, rule);
    assert_eq!(b.until_active().await.fail_back, rule);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_a_person_switches_off_is_off_and_no_alarm() {
    let rig = Rig::new();
    let (a, b) = joined(&rig);
    a.until_active().await;
    b.until_eligible().await;
    let answer = b.ask(Request::Leaving { what: Leaving::Off }).await;
    assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
    b.leave().await.expect("an orderly end");
    let status = a.until("b is off", |s| node_of(s, "b").state == "off").await;
    assert!(status.sentence.contains("person's order") && status.active.as_deref() == Some("a"), "{}", status.sentence);
    a.until_told("peer_off_by_order").await;
    // Kept over a restart of the daemon, and silence of all paths is no alarm meanwhile.
    a.kill().await;
    let a = rig.start(0);
    let status = a.until("still off", |s| s.active.as_deref() == Some("a") && node_of(s, "b").state == "off").await;
    let loud = |status: &twinpost_pair::api::Status| status.alarms.iter().any(|alarm| alarm.code == "peer_silent");
    assert!(!loud(&status), "{:?}", status.alarms);
    assert_eq!(status.alarms.iter().filter(|alarm| alarm.code == "peer_off_by_order").count(), 1);
    // It is heard again: as any node from now on.
    let b = rig.start(1);
    a.until("b is back", |s| node_of(s, "b").state.starts_with("standby")).await;
    b.kill().await;
    a.until_told("peer_silent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_nothing_is_acted_on_until_there_is_room() {
    let rig = Rig::new();
    let dir = rig.folder(0).join("pair");
    std::fs::create_dir_all(&dir).expect("a folder");
    // full(4): every write fails with ENOSPC.
    let slots = ["state.0", "state.1"].map(|name| dir.join(name));
    slots.iter().for_each(|slot| std::os::unix::fs::symlink("/dev/full", slot).expect("a link"));
    let (a, b) = (rig.start(0), rig.start(1));
    let alarm = a.until_told("state_not_stored").await;
    assert!(alarm.text.en.contains("No space left"), "{alarm:?}");
    let status = b.status().await;
    assert_eq!(
        (node_of(&status, "a").state.as_str(), status.active.as_deref()),
        ("unheard", None),
        "no frame left without a stored boot id"
    );
    slots.iter().for_each(|slot| std::fs::remove_file(slot).expect("removed"));
    let status = a.until_active().await;
    assert_eq!(status.alarms.iter().filter(|alarm| alarm.code == "state_not_stored").count(), 1, "told once");
}

/// A storage with a fault: it cannot be unmounted, or it says more than the one under it.
struct Faulty {
    inner: Arc<dyn Storage>,
    stuck: bool,
    says: Mutex<Option<mpsc::Receiver<twinpost_storage::Event>>>,
}

impl Storage for Faulty {
    fn events(&self) -> mpsc::Receiver<twinpost_storage::Event> {
        let mut inner = self.inner.events();
        let Some(mut says) = self.says.lock().expect("whole").take() else { return inner };
        let (tell, events) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Some(event) = tokio::select! {
                event = inner.recv() => event,
                Some(event) = says.recv() => Some(event),
            } {
                if tell.send(event).await.is_err() {
                    return;
                }
            }
        });
        events
    }
    fn path(&self) -> &Path {
        self.inner.path()
    }
    fn promote(&self, reign: u32) -> BoxFuture<'_, Result<(), twinpost_storage::Error>> {
        self.inner.promote(reign)
    }
    fn demote(&self) -> BoxFuture<'_, Result<(), twinpost_storage::Error>> {
        if !self.stuck {
            return self.inner.demote();
        }
        Box::pin(async { Err(twinpost_storage::Error::Busy { what: PathBuf::from("/mail"), by: "somebody".to_owned() }) })
    }
    fn writes(&self, how: Writes) -> BoxFuture<'_, Result<(), twinpost_storage::Error>> {
        self.inner.writes(how)
    }
    fn allow_resync(&self) -> BoxFuture<'_, Result<(), twinpost_storage::Error>> {
        self.inner.allow_resync()
    }
    fn reserve(&self, reign: u32) -> BoxFuture<'_, Result<bool, twinpost_storage::Error>> {
        self.inner.reserve(reign)
    }
    fn keep_aside(&self) -> BoxFuture<'_, Result<PathBuf, twinpost_storage::Error>> {
        self.inner.keep_aside()
    }
    fn position(&self) -> BoxFuture<'_, Result<u64, twinpost_storage::Error>> {
        self.inner.position()
    }
    fn status(&self) -> StorageStatus {
        self.inner.status()
    }
    fn lock_fd(&self) -> Option<Arc<std::os::fd::OwnedFd>> {
        self.inner.lock_fd()
    }
}

/// The watchdog's end: everything that was fed.
fn fed(bowl: &UnixDatagram) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buf = [0; 4];
    while let Ok(1) = bowl.recv(&mut buf) {
        all.push(buf[0]);
    }
    all
}

fn bowl(rig: &Rig, name: &str) -> (UnixDatagram, PathBuf) {
    let path = rig.dir.path().join(name);
    let bowl = UnixDatagram::bind(&path).expect("binds");
    bowl.set_nonblocking(true).expect("set");
    (bowl, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_stop_starves_its_watchdog_and_one_that_ends_disarms_it() {
    let rig = Rig::new();
    let (bowls, paths): (Vec<_>, Vec<_>) = [bowl(&rig, "dog-a"), bowl(&rig, "dog-b")].into_iter().unzip();
    let [a, b] = [0, 1].map(|n| {
        let mut set = rig.settings(n);
        set.watchdog = Some(paths[n].clone());
        rig.start_changed(set, |parts| {
            if n == 0 {
                parts.storage = Arc::new(Faulty { inner: Arc::clone(&parts.storage), stuck: true, says: Mutex::default() });
            }
        })
    });
    let status = a.until_active().await;
    assert!(status.watchdog.is_some_and(|dog| dog.open && dog.timeout_ms == 10_000));
    let pid = status.services.pids[0];
    b.until_eligible().await;
    a.until("b eligible", |s| node_of(s, "b").eligible).await;
    assert!(fed(&bowls[0]).contains(&b'1'));
    assert!(matches!(a.ask(Request::Standby).await, Answer::Done { .. }));
    let told = a.told.clone();
    assert!(matches!(a.ended().await, Err(Error::SelfFenced)));
    assert!(told.0.lock().expect("whole").iter().any(|alarm| alarm.code == "self_fenced"));
    assert!(!fed(&bowls[0]).contains(&b'V'), "the watchdog stays armed");
    assert!(!Path::new(&format!("/proc/{pid}/exe")).exists(), "its services are gone");
    b.leave().await.expect("an orderly end");
    assert_eq!(fed(&bowls[1]).last(), Some(&b'V'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disks_fail_hands_over_as_soon_as_its_peer_can_take_it() {
    let rig = Rig::new();
    let (disk, says) = mpsc::channel(1);
    let says = Mutex::new(Some(says));
    let a = rig.start_changed(rig.settings(0), |parts| {
        parts.storage = Arc::new(Faulty { inner: Arc::clone(&parts.storage), stuck: false, says });
    });
    let b = rig.start(1);
    a.until_active().await;
    b.until_eligible().await;
    b.kill().await;
    a.until("b silent", |s| node_of(s, "b").state == "silent").await;
    // Nobody can take it: it goes on with what it has.
    disk.send(twinpost_storage::Event::OwnCopyLost(true)).await.expect("heard");
    let alarm = a.until_told("copy_lost").await;
    assert!(alarm.text.en.contains("Replace the disks of a"), "{alarm:?}");
    assert_eq!(a.status().await.active.as_deref(), Some("a"));
    let b = rig.start(1);
    b.until_active().await;
    assert_eq!(a.status().await.alarms.iter().filter(|alarm| alarm.code == "copy_lost").count(), 1, "told once");
    // What it told is over with its service: it is an ordinary standby.
    disk.send(twinpost_storage::Event::OwnCopyLost(false)).await.expect("heard");
    a.until_eligible().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_die_are_restarted_in_place_and_then_the_peer_takes_them() {
    let rig = Rig::new();
    let (a, b) = joined(&rig);
    let status = a.until_active().await;
    b.until_eligible().await;
    a.until("b eligible", |s| node_of(s, "b").eligible).await;
    let mut pids = status.services.pids;
    for restarts in 1..=3_u8 {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pids[0]).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("killed");
        if restarts == 3 {
            break;
        }
        let old = pids[0];
        let status = a
            .until("restarted", |s| {
                s.services.restarts == restarts
                    && s.services.state == "up"
                    && s.services.pids.first().is_some_and(|&pid| pid != old)
            })
            .await;
        assert_eq!(status.active.as_deref(), Some("a"));
        pids = status.services.pids;
    }
    b.until_active().await;
    let alarm = a.until_told("switching").await;
    assert!(alarm.text.en.contains("mail ended"), "{alarm:?}");
}
