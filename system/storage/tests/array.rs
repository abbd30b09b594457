//! The array driver against a simulated `sg_persist` (tests/sg_persist.sh keeps SPC-4's rules): two nodes, one disk.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use twinpost_heartbeat::{Replication, Writes};
use twinpost_storage::array::{Array, Key, Programs, Settings};
use twinpost_storage::{Error, Event, Header, Program, Role, Storage};

const LONG: Duration = Duration::from_secs(30);

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(bench.at("array"), "gen 0\n").unwrap();
        std::fs::write(bench.at("disk"), vec![0; 65536]).unwrap();
        bench.program("fsck", "[ ! -f fsck.code ] || exit $(cat fsck.code)");
        bench.program("mkfs", "");
        bench.program("mount", "echo \"1 1 0:1 / $6 rw - ext4 x rw\" >> mountinfo.$NEXUS");
        bench.program("umount", "[ ! -f busy ] || { echo target is busy >&2; exit 32; }; : > mountinfo.$NEXUS");
        bench
    }
    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    fn program(&self, name: &str, script: &str) {
        std::fs::write(self.at(name), format!("#!/bin/sh\ncd {}\n{script}\n", self.folder.path().display())).unwrap();
        std::fs::set_permissions(self.at(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    fn node(&self, name: &str, number: u8) -> Array {
        self.node_within(name, number, 60_000)
    }
    fn node_within(&self, name: &str, number: u8, reserve_ms: u32) -> Array {
        let table = self.at(&format!("mountinfo.{name}"));
        if !table.exists() {
            std::fs::write(&table, "").unwrap();
        }
        let program = |path: PathBuf| {
            let mut program = Program::new(path);
            program.env = vec![("NEXUS".into(), name.into()), ("ARRAY".into(), self.at("array").into())];
            program
        };
        let mut settings = Settings::new(name, number, self.at("disk"), self.at(&format!("mnt.{name}")));
        (settings.mountinfo, settings.watch_ms, settings.limit) = (table, 10, Duration::from_secs(2));
        settings.reserve_ms = reserve_ms;
        settings.programs = Programs {
            sg_persist: program(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sg_persist.sh").into()),
            fsck: program(self.at("fsck")),
            mkfs: program(self.at("mkfs")),
            mount: program(self.at("mount")),
            umount: program(self.at("umount")),
        };
        Array::new(settings).unwrap()
    }
    fn array(&self) -> String {
        std::fs::read_to_string(self.at("array")).unwrap()
    }
}

async fn until(events: &mut Receiver<Event>, wanted: Event) {
    loop {
        let next = tokio::time::timeout(LONG, events.recv()).await;
        if next.unwrap_or_else(|_| panic!("{wanted:?} comes")).expect("the driver lives") == wanted {
            return;
        }
    }
}

#[tokio::test]
async fn a_switch_and_back() {
    let bench = Bench::new();
    let (a, b) = (bench.node("a", 0), bench.node("b", 1));
    a.make().await.unwrap();
    let (mut of_a, mut of_b) = (a.events(), b.events());
    assert_eq!(a.position().await.unwrap(), 0);
    a.promote(1).await.unwrap();
    a.promote(1).await.unwrap();
    a.writes(Writes::Alone).await.unwrap();
    until(&mut of_a, Event::Replication(Replication::Complete)).await;
    until(&mut of_b, Event::Position(1)).await;
    assert_eq!((a.status().role, a.status().reign), (Role::Active, 1));
    assert!(bench.array().contains(&format!("res a {:x} 5", Key { node: 0, reign: 1 }.number())), "{}", bench.array());
    assert!(a.make().await.is_err(), "never over a volume that is held");
    a.demote().await.unwrap();
    a.demote().await.unwrap();
    assert!(!bench.array().contains("reg") && !bench.array().contains("res"), "{}", bench.array());
    b.promote(2).await.unwrap();
    assert_eq!(Header::read(&bench.at("disk")).unwrap(), Header { reign: 2, by: "b".into() });
    b.demote().await.unwrap();
    a.promote(3).await.unwrap();
    a.demote().await.unwrap();
}

#[tokio::test]
async fn taking_it_from_a_holder_shuts_the_holder_out() {
    let bench = Bench::new();
    let (a, b) = (bench.node("a", 0), bench.node("b", 1));
    let mut of_a = a.events();
    a.promote(1).await.unwrap();
    assert!(b.reserve(2).await.unwrap());
    let key = Key { node: 1, reign: 2 }.number();
    assert!(bench.array().contains(&format!("res b {key:x} 5")), "{}", bench.array());
    assert!(!bench.array().contains("reg a"), "a registrant may write: {}", bench.array());
    until(&mut of_a, Event::Reservation(false)).await;
    assert!(!a.reserve(3).await.unwrap(), "a loser gives up before it asks again");
    b.promote(2).await.unwrap();
    a.demote().await.unwrap();
    assert_eq!(b.status().role, Role::Active);
    assert!(matches!(a.promote(1).await, Err(Error::Stale { known: 2, .. })));
    assert!(matches!(a.promote(2).await, Err(Error::Stale { known: 2, .. })), "a reign is one node's");
    assert_eq!(b.status().role, Role::Active, "a refused reign takes nothing");
    // Killed: its reservation stays with the array, and is taken.
    drop(b);
    a.promote(3).await.unwrap();
    assert!(!bench.array().contains("reg b"), "{}", bench.array());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_at_once_and_one_has_it() {
    for round in 1..5 {
        let bench = Bench::new();
        let (a, b) = (bench.node("a", 0), bench.node("b", 1));
        let (one, two) = tokio::join!(a.reserve(round), b.reserve(round + 1));
        let (one, two) = (one.unwrap_or(false), two.unwrap_or(false));
        let array = bench.array();
        assert!(array.matches("res ").count() <= 1, "{array}");
        // A `true` may be overtaken by a later preemption, but whoever has it is alone.
        if let Some(holder) = array.lines().find_map(|line| line.strip_prefix("res ")) {
            let holder = &holder[..1];
            assert!(if holder == "a" { one } else { two }, "the holder knows: {array}");
            assert_eq!(array.matches("reg ").count(), 1, "{array}");
        }
    }
}

#[tokio::test]
async fn a_reservation_that_is_not_used_goes_back() {
    let bench = Bench::new();
    let b = bench.node_within("b", 1, 1);
    assert!(b.reserve(1).await.unwrap());
    let end = std::time::Instant::now() + LONG;
    while b.status().role != Role::Standby {
        assert!(std::time::Instant::now() < end, "it is given back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!bench.array().contains("reg"), "{}", bench.array());
    let a = bench.node("a", 0);
    assert!(a.reserve(1).await.unwrap());
    assert!(a.reserve(1).await.unwrap());
    assert_eq!(a.status().role, Role::Changing);
    a.demote().await.unwrap();
    assert!(!bench.array().contains("reg"), "{}", bench.array());
    // A promote takes what was reserved, under the reign that counts.
    assert!(a.reserve(2).await.unwrap());
    a.promote(2).await.unwrap();
    a.promote(3).await.unwrap();
    assert_eq!(a.status().reign, 3);
    assert!(matches!(a.promote(2).await, Err(Error::Stale { .. })));
}

#[tokio::test]
async fn other_clusters_and_other_devices_are_refused() {
    let bench = Bench::new();
    std::fs::write(bench.at("array"), "gen 3\nreg x 123abc\nres x 123abc 5\n").unwrap();
    let a = bench.node("a", 0);
    let error = a.promote(1).await.unwrap_err();
    assert!(error.to_string().contains("another cluster (key 0x123abc)"), "{error}");
    assert_eq!(bench.array(), "gen 3\nreg x 123abc\nres x 123abc 5\n", "nothing was touched");
    std::fs::write(bench.at("array.broken"), "").unwrap();
    let error = a.reserve(1).await.unwrap_err();
    assert!(matches!(error, Error::NoLocks { .. }) && error.needs_a_person(), "{error}");
}

#[tokio::test]
async fn a_promote_that_fails_leaves_nothing_behind() {
    let bench = Bench::new();
    std::fs::write(bench.at("fsck.code"), "8").unwrap();
    let a = bench.node("a", 0);
    assert!(matches!(a.promote(1).await, Err(Error::Damaged { code: 8, .. })));
    assert!(!bench.array().contains("reg"), "{}", bench.array());
    std::fs::remove_file(bench.at("fsck.code")).unwrap();
    a.promote(2).await.unwrap();
    std::fs::write(bench.at("busy"), "").unwrap();
    assert!(a.demote().await.is_err());
    assert!(bench.array().contains("res a"), "still mounted, still reserved: {}", bench.array());
    std::fs::remove_file(bench.at("busy")).unwrap();
    a.demote().await.unwrap();
}

#[tokio::test]
async fn what_a_killed_daemon_left_is_given_up() {
    let bench = Bench::new();
    let a = bench.node("a", 0);
    a.promote(4).await.unwrap();
    drop(a);
    let a = bench.node("a", 0);
    a.demote().await.unwrap();
    assert!(!bench.array().contains("reg"), "{}", bench.array());
    assert!(std::fs::read_to_string(bench.at("mountinfo.a")).unwrap().is_empty());
    assert_eq!(a.position().await.unwrap(), 4);
}
