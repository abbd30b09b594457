//! The DRBD driver over scripted programs. Lines and messages are those of drbd-utils 9.22 with the 8.4.11 module, recorded on two machines
//! in QEMU (tests/drbd-8.4-events.txt is such a recording, from first contact over a cut cable, a refused and an allowed resync to
//! held writes that were dropped).
#![allow(clippy::print_stdout, reason = "what is left out is said")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use twinpost_heartbeat::{Replication, Writes};
use twinpost_storage::drbd::{Drbd, Host, Programs, Settings, View, run_handler};
use twinpost_storage::{Error, Event, Header, Program, Role, Storage};

const LONG: Duration = Duration::from_secs(30);
const RECORDED: &str = include_str!("drbd-8.4-events.txt");

const CONNECTED: &str = "change connection name:mail peer-node-id:0 conn-name:peer connection:Connected role:Secondary\n\
    change peer-device name:mail peer-node-id:0 conn-name:peer volume:0 replication:Established peer-disk:UpToDate out-of-sync:0\n";
const CUT: &str = "change resource name:mail suspended:fencing\n\
    change connection name:mail peer-node-id:0 conn-name:peer connection:NetworkFailure role:Unknown\n\
    change peer-device name:mail peer-node-id:0 conn-name:peer volume:0 replication:Off peer-disk:DUnknown out-of-sync:0\n\
    change connection name:mail peer-node-id:0 conn-name:peer connection:Connecting\n";
const ALONE: &str = "change connection name:mail peer-node-id:0 conn-name:peer connection:StandAlone role:Unknown\n";

/// Programs whose answers a test writes. Each call is a line of `log`.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    /// `state`: the dump that a running resource gives.
    fn new(disk: &str, peer: &str) -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["answers", "mnt"] {
            std::fs::create_dir(bench.at(folder)).unwrap();
        }
        for file in ["log", "mountinfo"] {
            std::fs::write(bench.at(file), "").unwrap();
        }
        std::fs::write(bench.at("disk"), vec![0; 65536]).unwrap();
        bench.answer("get-gi", "echo 79028A7E8BA262E6:0000000000000000:0000000000000000:0000000000000000:1:1:0:1:0:0:0");
        bench.answer("primary", "echo 'change resource name:mail role:Primary' >> events");
        bench.answer("secondary", "echo 'change resource name:mail role:Secondary' >> events");
        let at = bench.folder.path().display();
        bench.program("drbdsetup", "case $1 in events2) exec tail -n +1 -f events ;; status) cat status ;; esac");
        bench.program("drbdadm", "echo \"$3 $4\" | sed 's/ mail$//' >> log; [ ! -f \"answers/$3\" ] || . \"answers/$3\"");
        bench.program("fsck", "echo fsck >> log; cat said 2>/dev/null; [ ! -f fsck.code ] || exit $(cat fsck.code)");
        bench.program("mkfs", "echo mkfs >> log");
        bench.program("mount", &format!("echo \"mount $4\" >> log; echo \"1 1 0:1 / {at}/mnt rw - ext4 x rw\" >> mountinfo"));
        bench.program("umount", "echo umount >> log; [ ! -f busy ] || { echo target is busy >&2; exit 32; }; : > mountinfo");
        let connection = if peer.is_empty() { ("Connecting", "Off", "DUnknown") } else { ("Connected", "Established", peer) };
        bench.events(&format!(
            "exists resource name:mail role:Secondary suspended:no write-ordering:flush\n\
             exists connection name:mail peer-node-id:0 conn-name:peer connection:{} role:Secondary congested:no\n\
             exists device name:mail volume:0 minor:0 disk:{disk} size:98264\n\
             exists peer-device name:mail peer-node-id:0 conn-name:peer volume:0 replication:{} peer-disk:{} out-of-sync:0\n\
             exists -\n",
            connection.0, connection.1, connection.2
        ));
        bench
    }
    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    fn program(&self, name: &str, script: &str) {
        let path = self.at(name);
        std::fs::write(&path, format!("#!/bin/sh\ncd {}\n{script}\n", self.folder.path().display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    fn answer(&self, command: &str, script: &str) {
        std::fs::write(self.at("answers").join(command), script).unwrap();
    }
    /// DRBD says something more.
    fn events(&self, lines: &str) {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.at("events")).unwrap();
        file.write_all(lines.as_bytes()).unwrap();
    }
    fn log(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.at("log")).unwrap();
        log.lines().map(|line| line.trim().to_owned()).filter(|line| line != "get-gi").collect()
    }
    fn settings(&self) -> Settings {
        let host = |name: &str, n: u8| Host {
            name: name.into(),
            address: std::net::SocketAddr::from(([10, 1, 1, n], 7789)),
            disk: self.at("disk"),
        };
        let program = |name: &str| Program::new(self.at(name));
        let mut settings = Settings::new(host("a", 1), host("b", 2), "secret".into(), self.at("mnt"), self.at("state"));
        (settings.device, settings.mountinfo) = (self.at("disk"), self.at("mountinfo"));
        (settings.promote, settings.demote) = (Duration::from_secs(2), Duration::from_millis(300));
        settings.programs = Programs {
            drbdadm: program("drbdadm"),
            drbdsetup: program("drbdsetup"),
            fsck: program("fsck"),
            mkfs: program("mkfs"),
            mount: program("mount"),
            umount: program("umount"),
        };
        settings
    }
    fn node(&self) -> Drbd {
        Drbd::new(self.settings()).unwrap()
    }
    /// DRBD calls its handler.
    fn ask(&self, kind: &'static str) -> JoinHandle<u8> {
        let socket = self.at("state/drbd.sock");
        tokio::task::spawn_blocking(move || run_handler(&socket, kind, "mail"))
    }
}

async fn code(handler: JoinHandle<u8>) -> u8 {
    tokio::time::timeout(LONG, handler).await.expect("an answer comes").unwrap()
}

async fn until(events: &mut Receiver<Event>, wanted: Event) {
    let mut seen = Vec::new();
    loop {
        let next = tokio::time::timeout(LONG, events.recv()).await;
        let event = next.unwrap_or_else(|_| panic!("{wanted:?} comes; seen {seen:?}")).expect("the driver lives");
        if event == wanted {
            return;
        }
        seen.push(event);
    }
}

async fn when(what: &str, mut condition: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + LONG;
    while !condition() {
        assert!(std::time::Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn mirror(word: Replication) -> Event {
    Event::Replication(word)
}

#[test]
fn a_recorded_life() {
    let (mut view, mut active, mut standby) = (View::default(), Vec::new(), Vec::new());
    let mut frozen = Vec::new();
    for line in RECORDED.lines() {
        view.take("mail", line);
        if !view.complete {
            continue;
        }
        if active.last() != Some(&view.of_active()) {
            active.push(view.of_active());
        }
        if standby.last() != Some(&view.of_standby()) {
            standby.push(view.of_standby());
        }
        if frozen.last() != Some(&view.frozen) {
            frozen.push(view.frozen);
        }
        assert!(!view.mirrored() || view.connected(), "{line}");
    }
    use Replication::{Behind, Complete, CopyPartial, CopyWhole, Lost};
    // First contact, blank copies agree; cable cut; refused; allowed; cut; caught up as the target, cut, caught up again.
    let expected = [Lost, Behind, Complete, Lost, Behind, Lost, Behind, Complete, Lost, Behind, Lost, Behind];
    assert_eq!(active[..expected.len()], expected);
    assert_eq!(standby[..3], [CopyPartial, CopyWhole, CopyPartial]);
    assert_eq!(frozen[..5], [false, true, false, true, false]);
    let mut other = View::default();
    for line in RECORDED.lines() {
        other.take("another", line);
    }
    assert!(!other.exists);
}

#[tokio::test]
async fn a_blank_pair_is_founded() {
    let bench = Bench::new("Inconsistent", "Inconsistent");
    bench.answer("get-gi", "echo 0000000000000004:0000000000000000:0000000000000000:0000000000000000:0:0:0:1:0:1:0");
    bench.answer(
        "new-current-uuid",
        "printf 'change device name:mail volume:0 disk:UpToDate\\nchange peer-device name:mail volume:0 peer-disk:UpToDate\\n' >> events
         echo 'echo 79028A7E8BA262E6:0:0:0:1:1:0:1:0:0:0' > answers/get-gi",
    );
    let a = bench.node();
    let mut events = a.events();
    assert_eq!(a.position().await.unwrap(), 0);
    a.promote(1).await.unwrap();
    let wanted = ["new-current-uuid --clear-bitmap", "primary", "mkfs", "fsck"];
    assert_eq!(bench.log()[..4], wanted);
    assert!(bench.log()[4].starts_with("mount noatime"), "{:?}", bench.log());
    assert_eq!(Header::read(&bench.at("disk")).unwrap(), Header { reign: 1, by: "a".into() });
    until(&mut events, Event::Position(1)).await;
    a.writes(Writes::Alone).await.unwrap();
    until(&mut events, mirror(Replication::Complete)).await;
    let status = a.status();
    assert_eq!((status.role, status.reign, status.disk.as_str()), (Role::Active, 1, "UpToDate"));
    assert_eq!(status.sentence, "Both copies are equal.");
    let calls = bench.log().len();
    a.promote(1).await.unwrap();
    assert_eq!(bench.log().len(), calls, "nothing is done twice");
    a.demote().await.unwrap();
    assert_eq!(bench.log()[calls..], ["umount", "secondary"]);
    until(&mut events, mirror(Replication::CopyWhole)).await;
    // The other node reads the same header from its own disk.
    assert!(matches!(a.promote(0).await, Err(Error::Stale { known: 1, .. })));
    Header { reign: 5, by: "b".into() }.write(&bench.at("disk")).unwrap();
    assert_eq!(a.position().await.unwrap(), 5);
    assert!(matches!(a.promote(5).await, Err(Error::Stale { known: 5, .. })));
}

/// Both nodes lost their power, and DRBD makes the copy of the one that did not write the target of the other.
#[tokio::test]
async fn a_copy_that_drbd_marks_as_outdated_is_behind_and_becomes_primary_only_when_the_core_knows() {
    const OUTDATED: &str = "change device name:mail volume:0 minor:0 disk:Outdated\n";
    let bench = Bench::new("Consistent", "");
    Header { reign: 5, by: "b".into() }.write(&bench.at("disk")).unwrap();
    // They meet while it is being made primary.
    bench.answer("primary", &format!("[ -f met ] || printf '{OUTDATED}' >> events; touch met; [ -f off ] || exit 17; echo 'change resource name:mail role:Primary' >> events"));
    let a = bench.node();
    let mut events = a.events();
    until(&mut events, Event::Position(5)).await;
    assert!(a.promote(6).await.is_err());
    assert!(!bench.log().iter().any(|call| call.starts_with("primary --force")), "{:?}", bench.log());
    until(&mut events, Event::Position(4)).await;
    std::fs::write(bench.at("off"), "").unwrap();
    // The peer is off for certain, and all that was acknowledged is here too.
    a.promote(6).await.unwrap();
    assert!(bench.log().iter().any(|call| call.starts_with("primary --force")), "{:?}", bench.log());
    assert_eq!(Header::read(&bench.at("disk")).unwrap().reign, 6);
}

#[tokio::test]
async fn a_blank_copy_is_never_the_source() {
    for peer in ["", "UpToDate"] {
        let bench = Bench::new("Inconsistent", peer);
        bench.answer("get-gi", "echo 0000000000000004:0:0:0:0:0:0:1:0:1:0");
        let a = bench.node();
        let error = a.promote(1).await.unwrap_err().to_string();
        assert!(error.contains("blank"), "{error}");
        assert!(!bench.log().iter().any(|call| call.starts_with("primary")), "{:?}", bench.log());
        assert_eq!(a.position().await.unwrap(), 0);
    }
    // Half a copy is none either.
    let bench = Bench::new("Inconsistent", "UpToDate");
    let a = bench.node();
    let mut events = a.events();
    until(&mut events, mirror(Replication::CopyPartial)).await;
    assert!(matches!(a.promote(1).await, Err(Error::Refused(_))));
}

#[tokio::test]
async fn a_disk_with_a_copy_is_not_made_blank_by_accident() {
    let bench = Bench::new("UpToDate", "UpToDate");
    let a = bench.node();
    assert!(matches!(a.make_blank(false).await, Err(Error::Refused(_))));
    assert!(bench.log().is_empty());
    a.make_blank(true).await.unwrap();
    assert_eq!(bench.log(), ["down", "create-md --force", "up"]);
}

#[tokio::test]
async fn a_damaged_file_system_is_not_mounted() {
    let bench = Bench::new("UpToDate", "UpToDate");
    std::fs::write(bench.at("fsck.code"), "4").unwrap();
    std::fs::write(bench.at("said"), "UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.").unwrap();
    let a = bench.node();
    let error = a.promote(1).await.unwrap_err();
    assert!(matches!(error, Error::Damaged { code: 4, .. }) && error.to_string().contains("MANUALLY"), "{error}");
    assert_eq!(bench.log(), ["primary", "fsck", "secondary"]);
    assert_eq!(a.status().role, Role::Standby);
    for mended in ["1", "2", "3"] {
        std::fs::write(bench.at("fsck.code"), mended).unwrap();
        a.promote(2).await.unwrap();
        a.demote().await.unwrap();
    }
    std::fs::write(bench.at("fsck.code"), "32").unwrap();
    assert!(matches!(a.promote(3).await, Err(Error::Program { .. })));
}

#[tokio::test]
async fn a_peer_that_still_counts_as_primary() {
    // It gives the role up in time.
    let bench = Bench::new("UpToDate", "UpToDate");
    bench.events("change connection name:mail peer-node-id:0 conn-name:peer role:Primary\n");
    bench.answer(
        "primary",
        "grep -q other events && { echo 'change resource name:mail role:Primary' >> events; exit 0; }
        echo other >> events; echo '0: State change failed: (-1) Multiple primaries not allowed by config' >&2; exit 11",
    );
    let a = bench.node();
    when("the view is there", || a.status().role == Role::Standby).await;
    let promote = tokio::spawn(async move { (a.promote(2).await, a) });
    bench.events("change connection name:mail peer-node-id:0 conn-name:peer role:Secondary\n");
    let (done, _a) = promote.await.unwrap();
    done.unwrap();
    assert_eq!(bench.log()[..2], ["primary", "primary"], "tried again");
    // It is dead and not yet missed.
    let bench = Bench::new("UpToDate", "UpToDate");
    bench.events("change connection name:mail peer-node-id:0 conn-name:peer role:Primary\n");
    bench.answer("disconnect", &format!("printf '%s' '{ALONE}' >> events"));
    let a = bench.node();
    when("the peer is seen", || a.status().role == Role::Standby).await;
    a.promote(2).await.unwrap();
    assert_eq!(bench.log()[..2], ["disconnect --force", "primary"]);
    // A handshake is under way: asked again at once.
    let bench = Bench::new("UpToDate", "UpToDate");
    bench.answer("primary", "[ -f again ] || { : > again; echo '0: State change failed: (-18) In transient state, retry after next state change' >&2; exit 11; }
        echo 'change resource name:mail role:Primary' >> events");
    bench.node().promote(2).await.unwrap();
    // It never gives up.
    let bench = Bench::new("UpToDate", "UpToDate");
    bench.answer("primary", "echo '0: State change failed: (-1) Multiple primaries not allowed by config' >&2; exit 11");
    let a = bench.node();
    let error = a.promote(2).await.unwrap_err().to_string();
    assert!(error.contains("Multiple primaries"), "{error}");
    assert_eq!(a.status().role, Role::Standby);
}

#[tokio::test]
async fn a_standby_that_goes_leaves_the_mirror_and_stays_out() {
    let bench = Bench::new("UpToDate", "UpToDate");
    let a = bench.node();
    a.promote(1).await.unwrap();
    assert!(!a.leave().await.unwrap(), "an active stays");
    a.demote().await.unwrap();
    bench.answer("disconnect", &format!("printf '%s' '{ALONE}' >> events"));
    assert!(a.leave().await.unwrap());
    let left = bench.log().iter().filter(|line| line.starts_with("disconnect")).count();
    assert_eq!(left, 1);
    when("it stands alone", || a.status().connection == "StandAlone").await;
    // The keeper's next turns do not bring it back.
    let turns = bench.log().len();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(!bench.log()[turns..].iter().any(|line| line.starts_with("connect")), "{:?}", bench.log());
}

#[tokio::test]
async fn held_writes_wait_for_the_core() {
    let bench = Bench::new("UpToDate", "UpToDate");
    let a = bench.node();
    let mut events = a.events();
    assert_eq!(code(bench.ask("fence-peer")).await, 1, "nobody becomes primary behind the driver's back");
    a.promote(1).await.unwrap();
    for how in [Writes::Alone, Writes::Mirrored] {
        a.writes(how).await.unwrap();
    }
    until(&mut events, mirror(Replication::Complete)).await;
    bench.events(CUT);
    let handler = bench.ask("fence-peer");
    until(&mut events, mirror(Replication::Lost)).await;
    a.writes(Writes::Held).await.unwrap();
    assert!(a.status().sentence.contains("new mail waits"), "{}", a.status().sentence);
    assert!(!handler.is_finished());
    a.writes(Writes::Alone).await.unwrap();
    assert_eq!(code(handler).await, 7);
    assert!(events.try_recv().is_err(), "that it is lost is known");
    // The next cut: the cable is back before the core decided.
    bench.events("change resource name:mail suspended:no\n");
    bench.events(CONNECTED);
    until(&mut events, mirror(Replication::Complete)).await;
    a.writes(Writes::Mirrored).await.unwrap();
    bench.events(CUT);
    until(&mut events, mirror(Replication::Lost)).await;
    let handler = bench.ask("fence-peer");
    a.writes(Writes::Held).await.unwrap();
    bench.events("change resource name:mail suspended:no\n");
    bench.events(CONNECTED);
    assert_eq!(code(handler).await, 1, "DRBD goes on by itself; nothing is said of the peer");
    until(&mut events, mirror(Replication::Complete)).await;
}

#[tokio::test]
async fn a_node_that_gives_up_drops_what_it_never_answered() {
    let bench = Bench::new("UpToDate", "UpToDate");
    bench.answer("detach", "echo 'change device name:mail volume:0 minor:0 disk:Diskless' >> events");
    bench.answer("resume-io", "echo 'change resource name:mail suspended:no' >> events");
    bench.answer("attach", "echo 'change device name:mail volume:0 minor:0 disk:Consistent' >> events");
    let a = bench.node();
    let mut events = a.events();
    a.promote(1).await.unwrap();
    a.writes(Writes::Alone).await.unwrap();
    a.writes(Writes::Mirrored).await.unwrap();
    bench.events(CUT);
    until(&mut events, mirror(Replication::Lost)).await;
    a.writes(Writes::Held).await.unwrap();
    let handler = bench.ask("fence-peer");
    let calls = bench.log().len();
    a.demote().await.unwrap();
    assert_eq!(bench.log()[calls..], ["detach --force", "resume-io", "umount", "secondary", "attach"]);
    assert_eq!(code(handler).await, 1, "the peer was not fenced");
    until(&mut events, mirror(Replication::CopyWhole)).await;
}

#[tokio::test]
async fn an_active_whose_disk_failed_says_so() {
    let bench = Bench::new("UpToDate", "UpToDate");
    bench.answer("attach", "exit 1");
    let a = bench.node();
    let mut events = a.events();
    a.promote(1).await.unwrap();
    a.writes(Writes::Alone).await.unwrap();
    a.writes(Writes::Mirrored).await.unwrap();
    // As DRBD 8.4 goes there by `on-io-error detach`.
    bench
        .events("change device name:mail volume:0 minor:0 disk:Failed\nchange device name:mail volume:0 minor:0 disk:Diskless\n");
    until(&mut events, Event::OwnCopyLost(true)).await;
    a.demote().await.unwrap();
    until(&mut events, Event::OwnCopyLost(false)).await;
    until(&mut events, mirror(Replication::CopyPartial)).await;
}

#[tokio::test]
async fn a_demote_without_programs_fails_at_once() {
    let bench = Bench::new("UpToDate", "UpToDate");
    let mut settings = bench.settings();
    settings.demote = Duration::from_secs(100_000);
    let a = Drbd::new(settings).unwrap();
    a.promote(1).await.unwrap();
    std::fs::remove_file(bench.at("umount")).unwrap();
    let error = tokio::time::timeout(LONG, a.demote()).await.expect("it does not try for a day").unwrap_err().to_string();
    assert!(error.contains("umount") && error.contains("cannot be run"), "{error}");
}

#[tokio::test]
async fn a_resync_begins_only_when_allowed() {
    let bench = Bench::new("UpToDate", "");
    let a = bench.node();
    let mut events = a.events();
    assert_eq!(code(bench.ask("before-resync-target")).await, 0, "a standby may be brought up to date");
    assert_eq!(code(bench.ask("before-resync-source")).await, 1, "but is no source");
    assert!(a.allow_resync().await.is_err());
    a.promote(1).await.unwrap();
    a.writes(Writes::Alone).await.unwrap();
    assert_eq!(code(bench.ask("before-resync-target")).await, 1, "an active is never overwritten");
    assert_eq!(code(bench.ask("before-resync-source")).await, 1, "not allowed yet");
    bench.events(ALONE);
    when("the connection was dropped", || a.status().connection == "StandAlone").await;
    let calls = bench.log().len();
    a.allow_resync().await.unwrap();
    assert_eq!(bench.log()[calls..], ["connect"]);
    assert_eq!(code(bench.ask("before-resync-source")).await, 0, "it holds for the connection that follows");
    bench.events(
        "change connection name:mail peer-node-id:0 conn-name:peer connection:Connected role:Secondary\n\
         change peer-device name:mail volume:0 replication:SyncSource peer-disk:Inconsistent out-of-sync:13884\n",
    );
    until(&mut events, mirror(Replication::Behind)).await;
    bench.events("change peer-device name:mail volume:0 out-of-sync:6942\n");
    when("half of it is there", || a.status().done_percent == Some(50.0)).await;
    std::fs::write(
        bench.at("status"),
        "mail role:Primary\n  volume:0 replication:SyncSource peer-disk:Inconsistent done:75.50\n",
    )
    .unwrap();
    when("it was asked for", || a.status().done_percent == Some(75.5)).await;
    assert!(a.status().sentence.contains("brought up to date"), "{}", a.status().sentence);
    bench.events("change peer-device name:mail volume:0 replication:Established peer-disk:UpToDate out-of-sync:0\n");
    until(&mut events, mirror(Replication::Complete)).await;
    // The permission is for one connection.
    bench.events(CUT);
    until(&mut events, mirror(Replication::Lost)).await;
    let handler = bench.ask("before-resync-source");
    a.allow_resync().await.unwrap();
    assert_eq!(code(handler).await, 0, "the word may come while the handler waits");
    bench.events(CONNECTED);
    until(&mut events, mirror(Replication::Complete)).await;
    bench.events(CUT);
    until(&mut events, mirror(Replication::Lost)).await;
    assert_eq!(code(bench.ask("before-resync-source")).await, 1);
}

#[tokio::test]
async fn diverged_data_is_kept_before_it_is_overwritten() {
    let bench = Bench::new("UpToDate", "");
    Header { reign: 4, by: "a".into() }.write(&bench.at("disk")).unwrap();
    std::fs::create_dir(bench.at("mnt/packs")).unwrap();
    std::fs::write(bench.at("mnt/packs/1"), "mail").unwrap();
    let a = bench.node();
    let mut events = a.events();
    until(&mut events, mirror(Replication::CopyWhole)).await;
    let helper = |kind: &str| format!("call helper name:mail peer-node-id:0 conn-name:peer volume:0 minor:0 helper:{kind}\n");
    bench.events(&helper("initial-split-brain"));
    bench.events(&helper("split-brain"));
    bench.events(ALONE);
    until(&mut events, mirror(Replication::Diverged)).await;
    assert_eq!(code(bench.ask("split-brain")).await, 0);
    assert_eq!(code(bench.ask("before-resync-target")).await, 1, "nothing is overwritten");
    assert!(matches!(a.promote(9).await, Err(Error::Refused(_))));
    when("both see that it stands alone", || a.status().connection == "StandAlone").await;
    bench.answer("connect", "echo 'mail: Failure: (102) Local address(port) already in use.' >&2; exit 10");
    let calls = bench.log().len();
    let folder = a.keep_aside().await.unwrap();
    assert_eq!(folder, bench.at("state/aside/reign-4"));
    assert_eq!(std::fs::read_to_string(folder.join("packs/1")).unwrap(), "mail");
    let log = bench.log();
    assert_eq!(log[calls..calls + 2], ["primary", "fsck"]);
    assert!(log[calls + 2].starts_with("mount ro,"), "{log:?}");
    assert_eq!(log[calls + 3..], ["umount", "secondary", "connect --discard-my-data"]);
    // They meet again, and DRBD knows whose data was given up.
    bench.events(&helper("initial-split-brain"));
    bench.events(CONNECTED);
    until(&mut events, mirror(Replication::CopyWhole)).await;
    when("they are connected", || a.status().connection == "Connected").await;
    assert_eq!(code(bench.ask("before-resync-target")).await, 0, "now it may be");
    assert!(events.try_recv().is_err() || a.status().role == Role::Standby, "told once");
}

#[tokio::test]
async fn a_volume_in_use_is_not_given_up() {
    let bench = Bench::new("UpToDate", "UpToDate");
    let a = bench.node();
    a.promote(1).await.unwrap();
    std::fs::write(bench.at("busy"), "").unwrap();
    let open = std::fs::File::create(bench.at("mnt/open")).unwrap();
    let error = a.demote().await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }) || error.to_string().contains("busy"), "{error}");
    assert!(!bench.log().contains(&"secondary".to_owned()), "mounted and secondary do not go together");
    assert_eq!(a.status().role, Role::Changing);
    drop(open);
    std::fs::remove_file(bench.at("busy")).unwrap();
    a.demote().await.unwrap();
    assert_eq!(a.status().role, Role::Standby);
}

#[tokio::test]
async fn what_a_killed_daemon_left_is_given_up() {
    let bench = Bench::new("UpToDate", "UpToDate");
    bench.events("change resource name:mail role:Primary\n");
    std::fs::write(bench.at("mountinfo"), format!("1 1 0:1 / {}/mnt rw - ext4 x rw\n", bench.folder.path().display())).unwrap();
    let a = bench.node();
    when("it is unmounted", || bench.log().starts_with(&["umount".into(), "secondary".into()])).await;
    a.promote(3).await.unwrap();
    assert_eq!(Header::read(&bench.at("disk")).unwrap().reign, 3);
}

#[tokio::test]
async fn the_events_begin_anew_for_ever_and_the_resource_is_brought_up() {
    let bench = Bench::new("UpToDate", "UpToDate");
    // The program ends after each dump; the first dump is cut in the middle of a line.
    bench.program("drbdsetup", "[ -f whole ] && exec tail -n +1 -f events; : > whole; head -c 200 events");
    let a = bench.node();
    let mut events = a.events();
    until(&mut events, mirror(Replication::CopyWhole)).await;
    // A resource that is not there.
    let bench = Bench::new("UpToDate", "UpToDate");
    std::fs::rename(bench.at("events"), bench.at("later")).unwrap();
    bench.events("exists -\n");
    bench.answer("up", "sed '/exists -/d' later >> events");
    let b = bench.node();
    let mut events = b.events();
    until(&mut events, mirror(Replication::CopyPartial)).await;
    until(&mut events, mirror(Replication::CopyWhole)).await;
    assert!(bench.log().starts_with(&["up".into()]));
    drop((a, b));
}

#[tokio::test]
async fn a_handler_that_was_killed_does_not_hold_writes_for_ever() {
    let bench = Bench::new("UpToDate", "UpToDate");
    bench.answer("resume-io", "echo 'change resource name:mail suspended:no' >> events");
    let a = bench.node();
    a.promote(1).await.unwrap();
    a.writes(Writes::Alone).await.unwrap();
    bench.events(CUT);
    when("writes go on", || bench.log().contains(&"resume-io".to_owned())).await;
}

#[tokio::test]
async fn without_drbd_everything_says_so() {
    let bench = Bench::new("UpToDate", "UpToDate");
    bench.program("drbdsetup", "echo 'Could not connect to drbd generic netlink family' >&2; exit 20");
    bench.program("drbdadm", "echo 'Could not connect to drbd generic netlink family' >&2; exit 20");
    let mut settings = bench.settings();
    settings.demote = Duration::ZERO;
    let a = Drbd::new(settings).unwrap();
    let error = a.promote(1).await.unwrap_err().to_string();
    assert!(error.contains("generic netlink") && error.contains("exit status: 20"), "{error}");
    assert!(a.position().await.is_err());
    assert_eq!(a.status().role, Role::Unknown);
    assert!(!a.reserve(1).await.unwrap());
}

#[tokio::test]
async fn a_name_or_a_secret_that_breaks_the_file_is_refused() {
    let bench = Bench::new("UpToDate", "UpToDate");
    let mut settings = bench.settings();
    settings.secret = "\"; }".into();
    assert!(Drbd::new(settings).is_err());
    assert!(!Path::new(&bench.at("state/drbd.conf")).exists());
    let a = bench.node();
    let mode = std::fs::metadata(bench.at("state/drbd.conf")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the secret is in it");
    drop(a);
}

mod any {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            twinpost_storage::drbd::fuzz_events(&data);
        }

        #[test]
        fn shuffled_words_of_real_lines(picks in proptest::collection::vec((0usize..97, 0usize..12, any::<bool>()), 0..60)) {
            // Lines cut short, joined and out of order: never a panic, never a mirror without a connection.
            let lines: Vec<&str> = super::RECORDED.lines().collect();
            let mut text = String::new();
            for (line, words, end) in picks {
                let line = lines[line % lines.len()];
                text.extend(line.split(' ').take(words).flat_map(|word| [word, " "]));
                text.push_str(if end { "\n" } else { "" });
            }
            twinpost_storage::drbd::fuzz_events(text.as_bytes());
        }
    }
}
