//! The group with real child processes.
//!
//! This test program is its own service: called with `PLAY_PORT` in the environment, the test `play` listens there and greets with
//! `PLAY_BANNER`. Shells around it do the rest: ignore SIGTERM, leave the process group, write down that they end.

#![allow(missing_docs, reason = "a test program")]
#![allow(clippy::print_stdout, reason = "figures for people")]

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use std::io::Write as _;

use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, Signal, kill_process, test_kill_process},
};
use tokio::{sync::mpsc::Receiver, time::timeout};
use twinpost_group::{Check, Error, Group, GroupEvent, Run, Service, ServiceState, Settings};

const LONG: Duration = Duration::from_secs(20);
/// What a script begins with to become the service in the end.
const PLAY: &str = r#"exec "$0" --exact play --nocapture >/dev/null"#;

#[test]
fn play() {
    let Ok(port) = std::env::var("PLAY_PORT") else { return };
    // A slow start is what this plays.
    std::thread::sleep(Duration::from_millis(std::env::var("PLAY_DELAY_MS").map_or(0, |ms| ms.parse().unwrap())));
    let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap();
    let banner = std::env::var("PLAY_BANNER").unwrap();
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(banner.as_bytes());
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A service that greets as SMTP does, made by a shell script.
fn script(name: &str, address: SocketAddr, script: &str, env: &[(&str, &str)]) -> Service {
    let exe = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let mut all = vec![("PLAY_PORT".to_owned(), address.port().to_string()), ("PLAY_BANNER".to_owned(), "220 x\r\n".to_owned())];
    all.extend(env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let mut service = Service::child(name, vec!["sh".to_owned(), "-c".to_owned(), script.to_owned(), exe]);
    let Run::Child { env, .. } = &mut service.run else { unreachable!("made as a child") };
    *env = all;
    service.check = vec![Check::smtp(address).within(Duration::from_millis(300))];
    service
}

fn plain(name: &str, address: SocketAddr) -> Service {
    script(name, address, PLAY, &[])
}

fn group(services: Vec<Service>) -> (Group, Receiver<GroupEvent>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::new(dir.path().to_str().unwrap(), services);
    settings.check_every = Duration::from_millis(50);
    settings.hung_after = Duration::from_millis(1500);
    let (group, events) = Group::new(settings).unwrap();
    (group, events, dir)
}

async fn next(events: &mut Receiver<GroupEvent>) -> GroupEvent {
    timeout(LONG, events.recv()).await.expect("an event in time").expect("the group lives")
}

fn pid_of(group: &Group, name: &str) -> u32 {
    group.pids().into_iter().find(|(n, _)| n == name).expect("it runs").1
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

fn runs(number: u32) -> bool {
    // A zombie of this test answers to signals, but runs no more.
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    test_kill_process(pid(number)).is_ok() && !stat.contains(") Z ")
}

/// Reads a number that a script writes.
async fn number_in(path: &Path) -> u32 {
    let until = Instant::now() + LONG;
    loop {
        if let Some(number) = fs::read_to_string(path).ok().and_then(|text| text.strip_suffix('\n')?.parse().ok()) {
            return number;
        }
        assert!(Instant::now() < until, "{} never came", path.display());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn starts_in_order_and_stops_in_reverse() {
    let (a, b) = (free(), free());
    let notes = tempfile::tempdir().unwrap();
    let log = notes.path().join("log");
    let slow = [("PLAY_DELAY_MS", "300"), ("LOG", log.to_str().unwrap())];
    let noted = r#"trap 'echo $NAME >> $LOG; exit 0' TERM; "$0" --exact play --nocapture >/dev/null & wait"#;
    let mut first = script("first", a, noted, &slow);
    let mut second = script("second", b, noted, &[("LOG", log.to_str().unwrap())]);
    for service in [&mut first, &mut second] {
        let Run::Child { env, .. } = &mut service.run else { unreachable!("made as a child") };
        env.push(("NAME".to_owned(), service.name.clone()));
    }
    let (group, mut events, _dir) = group(vec![first, second]);
    group.start().await.unwrap();
    assert!(matches!(next(&mut events).await, GroupEvent::Up { name, .. } if name == "first"));
    assert!(matches!(next(&mut events).await, GroupEvent::Up { name, .. } if name == "second"));
    let status = group.status();
    assert!(status.iter().all(|s| s.state == ServiceState::Up), "{status:?}");
    assert!(status[1].since - status[0].since > Duration::ZERO, "the second waited for the first");

    let pids = group.pids();
    group.stop().await.unwrap();
    assert_eq!(fs::read_to_string(&log).unwrap(), "second\nfirst\n");
    assert!(pids.into_iter().all(|(_, pid)| !runs(pid)));
    assert!(TcpStream::connect(a).is_err() && TcpStream::connect(b).is_err(), "what the shells started is gone, too");
    assert!(group.pids().is_empty());
    group.stop().await.unwrap();
    // And again.
    group.start().await.unwrap();
    TcpStream::connect(b).unwrap();
    group.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing_and_says_why() {
    let (a, b) = (free(), free());
    let mut wrong = script("wrong", b, PLAY, &[("PLAY_BANNER", "554 no\r\n")]);
    wrong.start_limit = Duration::from_millis(500);
    let (group, mut events, _dir) = group(vec![plain("good", a), wrong]);
    let error = group.start().await.unwrap_err();
    assert!(matches!(&error, Error::NotReady { name, .. } if name == "wrong"), "{error}");
    assert!(error.to_string().contains("read \"554 no\" instead of \"220\"") && !error.unverified(), "{error}");
    assert!(TcpStream::connect(a).is_err() && TcpStream::connect(b).is_err());
    assert!(group.pids().is_empty());
    for _ in 0..2 {
        assert!(matches!(next(&mut events).await, GroupEvent::Up { .. }));
    }
    assert!(events.try_recv().is_err(), "what the group stopped did not die");
}

#[tokio::test]
async fn what_dies_at_once_is_told_at_once() {
    let (group, _events, _dir) = group(vec![script("brief", free(), "exit 7", &[])]);
    let begun = Instant::now();
    let error = group.start().await.unwrap_err();
    assert!(matches!(&error, Error::Ended { how, .. } if how == "exit status 7"), "{error}");
    assert!(begun.elapsed() < LONG, "not the whole limit of 30 s");

    let missing = Service::child("missing", vec!["/nowhere/to/be/found".to_owned()]);
    let (group, _events, _dir) = crate::group(vec![missing]);
    let error = group.start().await.unwrap_err();
    assert!(matches!(&error, Error::Spawn { program, .. } if program == "/nowhere/to/be/found"), "{error}");
}

#[tokio::test]
async fn what_ignores_sigterm_is_killed_after_its_grace() {
    let mut deaf = script("deaf", free(), &format!("trap '' TERM; {PLAY}"), &[]);
    deaf.stop_grace = Duration::from_millis(200);
    let (group, _events, _dir) = group(vec![deaf]);
    group.start().await.unwrap();
    let main = pid_of(&group, "deaf");
    let begun = Instant::now();
    group.stop().await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(200), "it had its grace");
    assert!(!runs(main));
}

#[tokio::test]
async fn what_was_stopped_by_a_signal_hears_sigterm() {
    let mut frozen = plain("frozen", free());
    frozen.stop_grace = Duration::from_secs(600);
    let (group, _events, _dir) = group(vec![frozen]);
    group.start().await.unwrap();
    kill_process(pid(pid_of(&group, "frozen")), Signal::STOP).unwrap();
    timeout(LONG, group.stop()).await.expect("long before its grace is over").unwrap();
}

#[tokio::test]
async fn kill_9_while_it_is_being_stopped() {
    let mut deaf = script("deaf", free(), &format!("trap '' TERM; {PLAY}"), &[]);
    deaf.stop_grace = Duration::from_secs(600);
    let (group, mut events, _dir) = group(vec![deaf]);
    group.start().await.unwrap();
    let main = pid_of(&group, "deaf");
    let stopping = tokio::spawn({
        let group = group.clone();
        async move { group.stop().await }
    });
    while group.status()[0].state != ServiceState::Stopping {
        tokio::task::yield_now().await;
    }
    kill_process(pid(main), Signal::KILL).unwrap();
    timeout(LONG, stopping).await.unwrap().unwrap().unwrap();
    assert!(matches!(next(&mut events).await, GroupEvent::Up { .. }));
    assert!(events.try_recv().is_err(), "an end that was asked for is no death");
}

#[tokio::test]
async fn grandchildren_that_leave_the_group_are_found() {
    let notes = tempfile::tempdir().unwrap();
    let (orphan, wiped) = (notes.path().join("orphan"), notes.path().join("wiped"));
    let env = [("ORPHAN", orphan.to_str().unwrap()), ("WIPED", wiped.to_str().unwrap())];
    // One has a session of its own and no parent any more; the other a session of its own
    // and no marker, but its parents live.
    let escape = format!(
        r#"(setsid sh -c 'echo $$ > $ORPHAN; exec sleep 1000' &); W=$WIPED; env -i W=$W setsid sh -c 'sh -c "echo \$\$ > $W; exec sleep 1000"; :' & {PLAY}"#
    );
    let (group, _events, _dir) = group(vec![script("mother", free(), &escape, &env)]);
    group.start().await.unwrap();
    let (orphan, wiped) = (number_in(&orphan).await, number_in(&wiped).await);
    assert!(runs(orphan) && runs(wiped));
    group.stop().await.unwrap();
    assert!(!runs(orphan), "found by the marker");
    assert!(!runs(wiped), "found by descent");
}

#[tokio::test]
async fn who_escapes_everything_still_holds_the_lock() {
    let notes = tempfile::tempdir().unwrap();
    let path = notes.path().join("lock");
    let escaped = notes.path().join("escaped");
    let lock = Arc::new(OwnedFd::from(fs::File::create(&path).unwrap()));
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let free_now = || flock(fs::File::open(&path).unwrap(), FlockOperation::NonBlockingLockExclusive).is_ok();

    // No group, no parent, no environment: it has all that it takes not to be found.
    let vanish = format!(r#"E=$ESCAPED; (env -i setsid sh -c "echo \$\$ > $E; exec sleep 1000" &); {PLAY}"#);
    let service = script("mother", self::free(), &vanish, &[("ESCAPED", escaped.to_str().unwrap())]);
    let (group, _events, _dir) = group(vec![service]);
    group.inherit(Some(Arc::clone(&lock)));
    group.start().await.unwrap();
    let escaped = number_in(&escaped).await;
    drop(lock);
    assert!(!free_now(), "the service holds it");
    group.stop().await.unwrap();
    assert!(runs(escaped) && !free_now(), "the data stays here while anything can write to it");
    kill_process(pid(escaped), Signal::KILL).unwrap();
    let until = Instant::now() + LONG;
    while !free_now() {
        assert!(Instant::now() < until, "the last holder is gone");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn the_lock_is_free_after_a_stop() {
    let notes = tempfile::tempdir().unwrap();
    let path = notes.path().join("lock");
    let lock = OwnedFd::from(fs::File::create(&path).unwrap());
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let ready = notes.path().join("ready");
    let needs = format!(r#"[ -e "$READY" ] || exit 1; {PLAY}"#);
    let service = script("mail", free(), &needs, &[("READY", ready.to_str().unwrap())]);
    let (group, _events, _dir) = group(vec![service]);
    group.inherit(Some(Arc::new(lock)));
    // A start that fails lets nobody else in before the next try.
    group.start().await.unwrap_err();
    assert!(flock(fs::File::open(&path).unwrap(), FlockOperation::NonBlockingLockExclusive).is_err());
    fs::write(&ready, "").unwrap();
    group.start().await.unwrap();
    let other = fs::File::open(&path).unwrap();
    assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_err());
    group.stop().await.unwrap();
    // The group let go of it, and nobody else has it.
    flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
}

#[tokio::test]
async fn two_starts_at_once_start_once() {
    let (group, mut events, _dir) = group(vec![plain("mail", free())]);
    let (one, two) = tokio::join!(group.start(), group.start());
    one.and(two).unwrap();
    assert!(matches!(next(&mut events).await, GroupEvent::Up { .. }));
    assert!(events.try_recv().is_err());
    group.stop().await.unwrap();
}

#[tokio::test]
async fn a_stop_cuts_a_start_short() {
    let never = script("never", free(), "exec sleep 1000", &[]);
    let (group, mut events, _dir) = group(vec![never]);
    let start = |group: Group| tokio::spawn(async move { group.start().await });
    let (first, second) = (start(group.clone()), start(group.clone()));
    let GroupEvent::Up { pid, .. } = next(&mut events).await else { panic!("it starts first") };
    timeout(LONG, group.stop()).await.unwrap().unwrap();
    assert!(matches!(first.await.unwrap(), Err(Error::Stopped)));
    assert!(matches!(second.await.unwrap(), Err(Error::Stopped)), "one that waited for its turn, too");
    assert!(!runs(pid));
    assert!(matches!(group.restart().await, Err(Error::Stopped)), "a stopped group is not restarted");
}

#[tokio::test]
async fn a_death_is_told_and_only_the_dead_restarts() {
    let (group, mut events, _dir) = group(vec![plain("mail", free()), plain("sms", free())]);
    group.start().await.unwrap();
    let (mail, sms) = (pid_of(&group, "mail"), pid_of(&group, "sms"));
    kill_process(pid(sms), Signal::KILL).unwrap();
    let died = loop {
        if let GroupEvent::Died { name, how, essential } = next(&mut events).await {
            break (name, how, essential);
        }
    };
    assert_eq!(died, ("sms".to_owned(), "killed by SIGKILL".to_owned(), true));
    group.restart().await.unwrap();
    assert_eq!(pid_of(&group, "mail"), mail);
    assert_ne!(pid_of(&group, "sms"), sms);
    // With nothing wrong, everything.
    group.restart().await.unwrap();
    assert_ne!(pid_of(&group, "mail"), mail);
    group.stop().await.unwrap();
}

#[tokio::test]
async fn a_service_that_hangs_fails_its_checks_until_it_answers_again() {
    let (group, mut events, _dir) = group(vec![plain("mail", free())]);
    group.check_on();
    group.start().await.unwrap();
    assert!(matches!(next(&mut events).await, GroupEvent::Up { .. }));
    assert_eq!(next(&mut events).await, GroupEvent::Checked { ok: true, why: String::new() });
    let mail = pid(pid_of(&group, "mail"));
    kill_process(mail, Signal::STOP).unwrap();
    let why = loop {
        if let GroupEvent::Checked { ok: false, why } = next(&mut events).await {
            break why;
        }
    };
    assert!(why.starts_with("mail: 127.0.0.1:") && why.contains("no answer within 300 ms, for "), "{why}");
    assert_eq!(group.status()[0].state, ServiceState::Failing);
    kill_process(mail, Signal::CONT).unwrap();
    while !matches!(next(&mut events).await, GroupEvent::Checked { ok: true, .. }) {}
    assert_eq!(group.status()[0].state, ServiceState::Up);
    group.check_off();
    group.stop().await.unwrap();
}

#[tokio::test]
async fn a_late_answer_is_no_failed_check() {
    let (group, mut events, _dir) = group(vec![plain("mail", free())]);
    group.check_on();
    group.start().await.unwrap();
    assert!(matches!(next(&mut events).await, GroupEvent::Up { .. }));
    assert_eq!(next(&mut events).await, GroupEvent::Checked { ok: true, why: String::new() });
    let mail = pid(pid_of(&group, "mail"));
    // Longer than a check waits, shorter than what counts as hung; again and again, as on a machine that is overloaded.
    for _ in 0..3 {
        kill_process(mail, Signal::STOP).unwrap();
        tokio::time::sleep(Duration::from_millis(350)).await;
        kill_process(mail, Signal::CONT).unwrap();
        // What was asked meanwhile is answered or late; the next round that counts is good.
        assert_eq!(next(&mut events).await, GroupEvent::Checked { ok: true, why: String::new() });
        while events.try_recv().is_ok() {}
    }
    assert_eq!((group.status()[0].state, pid(pid_of(&group, "mail"))), (ServiceState::Up, mail));
    // Who refuses is not late.
    let begun = Instant::now();
    kill_process(mail, Signal::KILL).unwrap();
    while !matches!(next(&mut events).await, GroupEvent::Died { .. }) {}
    assert!(begun.elapsed() < Duration::from_millis(450), "{:?}", begun.elapsed());
    group.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_not_essential_holds_nobody_up_and_comes_back() {
    let mut modem = script("modem", free(), "exit 3", &[]);
    modem.essential = false;
    let mut missing = Service::child("missing", vec!["/nowhere/to/be/found".to_owned()]);
    missing.essential = false;
    let (group, mut events, _dir) = group(vec![modem, missing, plain("mail", free())]);
    group.start().await.unwrap();
    let (mut ups, mut deaths) = (0, 0);
    while ups < 2 || deaths < 2 {
        match next(&mut events).await {
            GroupEvent::Up { name, .. } if name == "modem" => ups += 1,
            GroupEvent::Died { name, essential, .. } if name == "modem" => {
                assert!(!essential);
                deaths += 1;
            }
            _ => {}
        }
    }
    let status = group.status();
    // The missing one may be tried in this very moment.
    assert!(status[1].state != ServiceState::Up && status[2].state == ServiceState::Up, "{status:?}");
    group.stop().await.unwrap();
}

/// Figures for the docs; nothing is asserted of them.
#[tokio::test]
async fn figures() {
    let (group, _events, _dir) = group(vec![plain("mail", free())]);
    let (mut starts, mut stops) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        let begun = Instant::now();
        group.start().await.unwrap();
        starts.push(begun.elapsed().as_micros());
        let begun = Instant::now();
        group.stop().await.unwrap();
        stops.push(begun.elapsed().as_micros());
    }
    starts.sort_unstable();
    stops.sort_unstable();
    println!("start to the first good check: median {} us, worst {} us of 15", starts[7], starts[14]);
    println!("stop, proven: median {} us, worst {} us", stops[7], stops[14]);
}

#[tokio::test]
async fn settings_that_make_no_sense() {
    let refused = |services| Group::new(Settings::new("m", services)).unwrap_err().to_string();
    assert!(refused(vec![plain("a", free()), plain("a", free())]).contains("two services are named a"));
    assert!(refused(vec![Service::child("a", Vec::new())]).contains("a has no command"));
    assert!(refused(vec![Service::unit("a", "--now")]).contains("a has no unit"));
    assert!(refused(vec![plain("a:b", free())]).contains("is no name"));
    assert!(Group::new(Settings::new("", Vec::new())).is_err());
}
