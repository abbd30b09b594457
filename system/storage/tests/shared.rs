//! The shared folder with real processes: `kill -9`, stops, inherited locks, races, torn files, full disks.
#![allow(clippy::print_stdout, reason = "the process of its own speaks to its parent; what is left out is said")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use twinpost_heartbeat::{Replication, Writes};
use twinpost_storage::shared::{Settings, Shared, prepare};
use twinpost_storage::{Error, Event, Role, Storage};

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(30);

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        prepare(&place.root()).unwrap();
        place
    }
    fn root(&self) -> PathBuf {
        self.folder.path().join("shared")
    }
    fn lock(&self) -> PathBuf {
        self.root().join("lock")
    }
    fn settings(&self, node: &str) -> Settings {
        let own = self.folder.path().join(node);
        std::fs::create_dir_all(&own).unwrap();
        Settings { watch_ms: 10, ..Settings::new(node, self.root(), own.join("data")) }
    }
    fn node(&self, node: &str) -> Shared {
        Shared::new(self.settings(node)).unwrap()
    }
    /// Another process that promotes and then does nothing.
    fn holder(&self, node: &str, reign: u32, how: &str) -> Holder {
        self.settings(node);
        Holder::start(self.folder.path(), node, reign, how, None)
    }
}

struct Holder {
    child: Child,
    said: String,
}

impl Holder {
    fn start(folder: &Path, node: &str, reign: u32, how: &str, user: Option<u32>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["a_process_of_its_own", "--exact", "--nocapture", "--test-threads=1"]);
        command.env("HOLDER", folder).env("NODE", node).env("REIGN", reign.to_string()).env("HOW", how);
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.as_mut().unwrap())
            .lines()
            .map(|line| line.unwrap())
            .find_map(|line| line.split_once("SAYS ").map(|(_, said)| said.to_owned()));
        Self { child, said: said.unwrap_or_default() }
    }
    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test by itself: the process that other tests start.
#[test]
fn a_process_of_its_own() {
    let Some(folder) = std::env::var_os("HOLDER").map(PathBuf::from) else { return };
    let (node, how) = (std::env::var("NODE").unwrap(), std::env::var("HOW").unwrap());
    let reign = std::env::var("REIGN").unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let settings = Settings::new(&node, folder.join("shared"), folder.join(&node).join("data"));
    let driver = Shared::new(settings).unwrap();
    match runtime.block_on(driver.promote(reign)) {
        Err(error) => println!("SAYS error {error}"),
        #[allow(clippy::zombie_processes, reason = "the child must outlive this process: that is the test")]
        Ok(()) if how == "child" => {
            let fd = driver.lock_fd().unwrap();
            rustix::io::fcntl_setfd(&*fd, rustix::io::FdFlags::empty()).unwrap();
            let child = Command::new("sleep").arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
            println!("SAYS {}", child.id());
        }
        Ok(()) => println!("SAYS held"),
    }
    // Until this end is closed or the process is killed.
    std::io::stdin().lines().next();
}

async fn next(events: &mut Receiver<Event>) -> Event {
    tokio::time::timeout(LONG, events.recv()).await.expect("an event comes").expect("the driver lives")
}

async fn until(events: &mut Receiver<Event>, wanted: Event) {
    while next(events).await != wanted {}
}

/// Waits for a condition that another thread brings about, without a fixed time.
async fn when(what: &str, mut condition: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + LONG;
    while !condition() {
        assert!(std::time::Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn promote_and_demote_move_the_volume() {
    let place = Place::new();
    let (a, b) = (place.node("a"), place.node("b"));
    let mut events = a.events();
    assert_eq!(a.position().await.unwrap(), 0);
    a.promote(1).await.unwrap();
    a.promote(1).await.unwrap();
    assert_eq!(next(&mut events).await, Event::Position(1));
    std::fs::write(a.path().join("mail"), "hello").unwrap();
    assert!(a.lock_fd().is_some() && b.lock_fd().is_none());
    assert_eq!((a.status().role, a.status().reign, a.status().holder.as_str()), (Role::Active, 1, "a"));
    // The core hears of the mirror after it heard of the promote.
    a.writes(Writes::Alone).await.unwrap();
    assert_eq!(next(&mut events).await, Event::Replication(Replication::Complete));
    a.writes(Writes::Mirrored).await.unwrap();
    a.allow_resync().await.unwrap();
    assert_eq!(next(&mut events).await, Event::Replication(Replication::Complete));
    when("b sees who has it", || b.status().sentence == "Node a has the mail volume.").await;
    assert!(!b.reserve(2).await.unwrap());
    a.demote().await.unwrap();
    a.demote().await.unwrap();
    assert!(!a.path().exists() && a.lock_fd().is_none());
    b.promote(2).await.unwrap();
    assert_eq!(std::fs::read_to_string(b.path().join("mail")).unwrap(), "hello");
    assert_eq!(a.position().await.unwrap(), 2);
    assert_eq!(a.status().holder, "b");
    assert!(b.events().recv().await.is_some() && b.events().recv().await.is_none(), "taken once");
}

#[tokio::test]
async fn a_killed_holder_frees_the_lock_at_once() {
    let place = Place::new();
    let b = place.node("b");
    let mut events = b.events();
    let holder = place.holder("a", 3, "");
    assert_eq!(holder.said, "held");
    until(&mut events, Event::Position(3)).await;
    assert!(!b.reserve(4).await.unwrap());
    holder.signal(rustix::process::Signal::KILL);
    until(&mut events, Event::Reservation(true)).await;
    assert!(b.reserve(4).await.unwrap());
    b.promote(4).await.unwrap();
    assert_eq!(b.status().reign, 4);
}

#[tokio::test]
async fn a_stopped_holder_keeps_it() {
    let place = Place::new();
    let holder = place.holder("a", 3, "");
    holder.signal(rustix::process::Signal::STOP);
    let b = Shared::new(Settings { patience_ms: 100, ..place.settings("b") }).unwrap();
    assert!(!b.reserve(4).await.unwrap());
    let error = b.promote(4).await.unwrap_err();
    assert!(matches!(error, Error::Held { .. }), "{error}");
    let pid = holder.child.id().to_string();
    assert!(error.to_string().contains("node a") && error.to_string().contains(&pid), "{error}");
    assert!(!error.needs_a_person() && b.status().trouble == error.to_string());
    holder.signal(rustix::process::Signal::CONT);
    assert!(!b.reserve(4).await.unwrap());
}

#[tokio::test]
async fn whoever_inherited_the_lock_keeps_it() {
    let place = Place::new();
    let b = place.node("b");
    let mut events = b.events();
    let holder = place.holder("a", 1, "child");
    let child = rustix::process::Pid::from_raw(holder.said.parse().unwrap()).unwrap();
    until(&mut events, Event::Position(1)).await;
    drop(holder);
    assert!(!b.reserve(2).await.unwrap(), "the daemon is dead, its service may still write");
    // The same node's next daemon may not believe that it writes no more, either.
    let a = Shared::new(Settings { release_ms: 50, ..place.settings("a") }).unwrap();
    let error = a.demote().await.unwrap_err().to_string();
    assert!(error.contains("sleep"), "{error}");
    rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
    until(&mut events, Event::Reservation(true)).await;
    b.promote(2).await.unwrap();
    a.demote().await.unwrap();
}

#[tokio::test]
async fn a_service_that_does_not_end_makes_the_demote_fail() {
    let place = Place::new();
    let a = Shared::new(Settings { release_ms: 50, ..place.settings("a") }).unwrap();
    a.promote(1).await.unwrap();
    let fd = a.lock_fd().unwrap();
    let error = a.demote().await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    assert!(matches!(a.demote().await, Err(Error::Busy { .. })), "and it is not forgotten");
    let b = Shared::new(Settings { patience_ms: 0, ..place.settings("b") }).unwrap();
    assert!(b.promote(2).await.is_err());
    drop(fd);
    a.demote().await.unwrap();
    b.promote(2).await.unwrap();
}

#[tokio::test]
async fn an_offer_that_is_not_used_goes_back() {
    let place = Place::new();
    let b = Shared::new(Settings { offer_ms: 30, ..place.settings("b") }).unwrap();
    let mut events = b.events();
    let holder = place.holder("a", 1, "");
    until(&mut events, Event::Position(1)).await;
    drop(holder);
    until(&mut events, Event::Reservation(true)).await;
    // b does nothing; a comes back and gets it.
    let a = place.node("a");
    a.promote(2).await.unwrap();
    until(&mut events, Event::Position(2)).await;
    assert!(!b.reserve(3).await.unwrap());
}

#[tokio::test]
async fn a_planned_switch_offers_nothing_unasked() {
    let place = Place::new();
    let (a, b) = (place.node("a"), place.node("b"));
    let (mut of_a, mut of_b) = (a.events(), b.events());
    for reign in 1..20 {
        let (from, to) = if reign % 2 == 1 { (&b, &a) } else { (&a, &b) };
        from.demote().await.unwrap();
        to.promote(reign).await.unwrap();
        for events in [&mut of_a, &mut of_b] {
            until(events, Event::Position(reign.into())).await;
        }
    }
    for events in [&mut of_a, &mut of_b] {
        // A position may be told twice: by the promote and by the look at the file.
        while let Ok(event) = events.try_recv() {
            assert_eq!(event, Event::Position(19), "no offer, nothing but positions");
        }
    }
}

#[tokio::test]
async fn the_reign_never_goes_down() {
    let place = Place::new();
    let (a, b) = (place.node("a"), place.node("b"));
    a.promote(7).await.unwrap();
    assert!(matches!(a.promote(6).await, Err(Error::Stale { asked: 6, known: 7, .. })));
    assert_eq!(a.status().role, Role::Active, "a refused reign changes nothing");
    a.promote(8).await.unwrap();
    a.demote().await.unwrap();
    for reign in [0, 1, 8] {
        assert!(matches!(b.promote(reign).await, Err(Error::Stale { known: 8, .. })), "{reign}");
        // Asked for with any reign, so that the core hears of the one beside the lock.
        assert!(b.reserve(reign).await.unwrap());
        assert!(matches!(b.promote(reign).await, Err(Error::Stale { known: 8, .. })), "{reign}");
    }
    // The refused one keeps nothing; the node of the reign may have it again.
    a.promote(8).await.unwrap();
    a.demote().await.unwrap();
    assert!(b.reserve(9).await.unwrap());
    b.demote().await.unwrap();
    a.promote(9).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_and_never_two() {
    let place = Place::new();
    let reigns = Arc::new(AtomicU32::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..4 {
        let driver = Shared::new(Settings { patience_ms: 200, ..place.settings(&format!("n{n}")) }).unwrap();
        let reigns = Arc::clone(&reigns);
        tasks.spawn(async move {
            let mut won = 0;
            for _ in 0..40 {
                let reign = reigns.fetch_add(1, Ordering::SeqCst) + 1;
                if n % 2 == 0 && driver.reserve(reign).await.is_err() {
                    continue;
                }
                match driver.promote(reign).await {
                    Ok(()) => {
                        let mark = driver.path().join("mark");
                        std::fs::File::create_new(&mark).expect("nobody else writes");
                        std::fs::remove_file(&mark).unwrap();
                        driver.demote().await.unwrap();
                        won += 1;
                    }
                    Err(Error::Stale { .. } | Error::Held { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            won
        });
    }
    let won: u32 = tasks.join_all().await.into_iter().sum();
    assert!(won > 0);
}

#[tokio::test]
async fn a_torn_lock_file() {
    let place = Place::new();
    let a = place.node("a");
    for reign in 1..=2 {
        a.promote(reign).await.unwrap();
    }
    a.demote().await.unwrap();
    let whole = std::fs::read(place.lock()).unwrap();
    // A power cut in the write of one slot: the other still knows the reign.
    for slot in 0..2 {
        let mut torn = whole.clone();
        torn[slot * 256 + 40..slot * 256 + 90].fill(0xFF);
        std::fs::write(place.lock(), &torn).unwrap();
        assert!(matches!(a.promote(1).await, Err(Error::Stale { .. })), "slot {slot}");
        assert_eq!(a.position().await.unwrap(), 2);
    }
    for rubbish in [&b"\0"[..], &[0xFF; 512], b"twinpost-lock reign=99 check=00000000"] {
        std::fs::write(place.lock(), rubbish).unwrap();
        let error = a.promote(9).await.unwrap_err();
        assert!(error.needs_a_person(), "{error}");
        assert_eq!(std::fs::read(place.lock()).unwrap(), rubbish, "left for a person to see");
        assert!(a.position().await.is_err());
    }
    std::fs::write(place.lock(), &whole).unwrap();
    a.promote(3).await.unwrap();
}

#[tokio::test]
async fn what_is_missing_is_said_and_not_made() {
    let place = Place::new();
    std::fs::remove_dir_all(place.root()).unwrap();
    let a = place.node("a");
    for _ in 0..2 {
        let error = a.promote(1).await.unwrap_err().to_string();
        assert!(error.contains("shared"), "{error}");
        assert!(!place.root().exists() || !place.lock().exists());
        // The mount point of a volume that is not mounted.
        let _ = std::fs::create_dir(place.root());
    }
    when("the status says so too", || a.status().trouble.contains("lock file is missing")).await;
    prepare(&place.root()).unwrap();
    a.promote(1).await.unwrap();
    a.demote().await.unwrap();
    std::fs::remove_dir_all(place.root().join("data")).unwrap();
    let error = a.promote(2).await.unwrap_err();
    assert!(error.needs_a_person() && error.to_string().contains("gone"), "{error}");
    prepare(&place.root()).unwrap();
    assert!(a.promote(2).await.is_err(), "a lost volume is not replaced by an empty one");
}

#[tokio::test]
async fn a_lock_file_replaced_under_the_active_is_told() {
    let place = Place::new();
    let a = place.node("a");
    let mut events = a.events();
    a.promote(1).await.unwrap();
    std::fs::remove_file(place.lock()).unwrap();
    until(&mut events, Event::Reservation(false)).await;
    assert!(a.promote(2).await.is_err());
    assert!(a.status().trouble.contains("replaced"), "{}", a.status().trouble);
}

#[tokio::test]
async fn a_node_that_was_alone_brings_its_mail() {
    let place = Place::new();
    let settings = place.settings("a");
    std::fs::create_dir(&settings.mount).unwrap();
    std::fs::write(settings.mount.join("mail"), "old").unwrap();
    let a = Shared::new(settings).unwrap();
    a.promote(1).await.unwrap();
    assert_eq!(std::fs::read_to_string(a.path().join("mail")).unwrap(), "old");
    assert_eq!(std::fs::read_to_string(place.root().join("data/mail")).unwrap(), "old");
    // A second node with mail of its own is never mixed in.
    let settings = place.settings("b");
    std::fs::create_dir(&settings.mount).unwrap();
    std::fs::write(settings.mount.join("mail"), "other").unwrap();
    let b = Shared::new(settings).unwrap();
    a.demote().await.unwrap();
    assert!(matches!(b.promote(2).await, Err(Error::TwoDataFolders { .. })));
    a.promote(3).await.unwrap();
    assert_eq!(std::fs::read_to_string(b.path().join("mail")).unwrap(), "other");
}

#[tokio::test]
async fn no_permission() {
    let place = Place::new();
    if rustix::process::geteuid().is_root() {
        // Root may everything: a process of another user tries.
        std::fs::set_permissions(place.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::set_permissions(place.root(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let readable = Command::new(std::env::current_exe().unwrap()).arg("--list").uid(65534).gid(65534).output();
        if readable.is_err() {
            println!("left out: the test program cannot be run by another user");
            return;
        }
        let holder = Holder::start(place.folder.path(), "a", 1, "", Some(65534));
        assert!(holder.said.contains("ermission denied") && holder.said.contains("shared"), "{}", holder.said);
    } else {
        std::fs::set_permissions(place.lock(), std::fs::Permissions::from_mode(0o000)).unwrap();
        let error = place.node("a").promote(1).await.unwrap_err().to_string();
        assert!(error.contains("ermission denied") && error.contains("shared/lock"), "{error}");
    }
}

/// A small file system of its own, unmounted in the end.
struct Small(tempfile::TempDir);

impl Small {
    fn new(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|done| done.status.success()) {
            return Some(Self(folder));
        }
        println!("left out: a full disk (mounting needs root)");
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn a_full_disk() {
    let Some(small) = Small::new("size=256k") else { return };
    let root = small.0.path().join("shared");
    prepare(&root).unwrap();
    let settings = |node: &str| {
        let own = small.0.path().join(node);
        std::fs::create_dir_all(&own).unwrap();
        Settings::new(node, &root, own.join("data"))
    };
    let (a, b) = (Shared::new(settings("a")).unwrap(), Shared::new(settings("b")).unwrap());
    a.promote(1).await.unwrap();
    let filled = std::fs::write(small.0.path().join("fill"), vec![1; 1 << 20]);
    assert!(filled.is_err(), "the disk is full");
    // Mail cannot be taken, but the node can change: what is there must stay readable.
    a.demote().await.unwrap();
    b.promote(2).await.unwrap();
    assert_eq!(b.status().reign, 2);
}

#[tokio::test]
async fn a_disk_without_room_for_the_link() {
    let Some(small) = Small::new("nr_inodes=8") else { return };
    let place = Place::new();
    let own = small.0.path().join("a");
    std::fs::create_dir(&own).unwrap();
    let a = Shared::new(Settings::new("a", place.root(), own.join("data"))).unwrap();
    let mut n = 0;
    while std::fs::write(small.0.path().join(format!("fill{n}")), "").is_ok() {
        n += 1;
    }
    let error = a.promote(1).await.unwrap_err().to_string();
    assert!(error.contains("make the link"), "{error}");
    let b = place.node("b");
    b.promote(2).await.unwrap();
}
