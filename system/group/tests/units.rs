//! The systemd form, before a program that answers as `systemctl` does: it keeps one unit in a folder.

#![allow(missing_docs, reason = "a test program")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{sync::mpsc::Receiver, time::timeout};
use twinpost_group::{Door, Error, Group, GroupEvent, Service, ServiceState, Settings, Waits};

/// systemctl(1) for one unit: `start`, `stop`, `kill` and `show`. Files beside it make it refuse.
const SYSTEMCTL: &str = r#"#!/bin/sh
D=$(dirname "$0")
echo "$*" >> "$D/asked"
alive() { [ -s "$D/pid" ] && kill -0 "$(cat "$D/pid")" 2>/dev/null && ! grep -q ') Z ' "/proc/$(cat "$D/pid")/stat"; }
case "$1" in
start)
  [ -e "$D/refuse" ] && { echo "Job for mail.service failed because the control process exited with error code." >&2; exit 1; }
  [ -e "$D/hang" ] && exec sleep 1000
  if [ -e "$D/waits" ]; then
    alive || { PLAY_DIR="$D" "$(cat "$D/waits")" --exact plays_one_that_waits >/dev/null 2>&1 & echo $! > "$D/pid"; }
  else alive || { sleep 1000 >/dev/null 2>&1 & echo $! > "$D/pid"; }; fi ;;
stop) [ -e "$D/deaf" ] && exec sleep 1000; alive && kill "$(cat "$D/pid")"; rm -f "$D/pid" ;;
kill) [ -e "$D/immortal" ] || { alive && kill -9 "$(cat "$D/pid")"; rm -f "$D/pid"; } ;;
show)
  if alive; then echo "ActiveState=active"; echo "SubState=running"; echo "MainPID=$(cat "$D/pid")"
  else echo "ActiveState=failed"; echo "SubState=failed"; echo "MainPID=0"; fi
  echo "Result=signal"; echo "ControlGroup=" ;;
esac
exit 0
"#;

/// The process of a unit that waits, started by the program above; files beside its door say how it behaves.
#[tokio::test]
async fn plays_one_that_waits() {
    let Some(dir) = std::env::var_os("PLAY_DIR") else { return };
    let dir = Path::new(&dir);
    let word = Door::open(&dir.join("door")).unwrap().word().await.unwrap();
    word.sees(dir).unwrap();
    if fs::remove_file(dir.join("refuse-once")).is_ok() {
        return word.refused("not today").await;
    }
    fs::write(dir.join("serves"), std::process::id().to_string()).unwrap();
    word.serving().await;
    std::future::pending::<()>().await;
}

/// A group whose service waits.
fn group_that_waits(dir: &Path) -> (Group, Receiver<GroupEvent>) {
    fs::write(dir.join("waits"), std::env::current_exe().unwrap().to_str().unwrap()).unwrap();
    let waits = Waits { door: dir.join("door"), data: dir.to_owned() };
    group_of(dir, Service::waiting_unit("mail", "mail.service", waits))
}

fn group(dir: &Path) -> (Group, Receiver<GroupEvent>) {
    group_of(dir, Service::unit("mail", "mail.service"))
}

async fn until_waiting(group: &Group, not: u32) -> u32 {
    let looking = async {
        loop {
            let status = group.status().remove(0);
            match status.pid {
                Some(pid) if status.state == ServiceState::Waiting && pid != not => return pid,
                _ => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    };
    timeout(Duration::from_secs(20), looking).await.expect("one waits in time")
}

fn orders(dir: &Path, word: &str) -> usize {
    fs::read_to_string(dir.join("asked")).unwrap().lines().filter(|line| line.starts_with(word)).count()
}

/// Its program runs no more; whoever is its parent here may not have waited for it.
async fn until_gone(pid: u32) {
    let runs = || fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    let looking = async {
        while runs() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), looking).await.expect("it is gone in time");
}

#[tokio::test]
async fn one_that_waits_is_told_to_serve() {
    let dir = tempfile::tempdir().unwrap();
    let (group, mut events) = group_that_waits(dir.path());
    group.ready();
    let pid = until_waiting(&group, 0).await;
    assert!(group.pids().is_empty() && !dir.path().join("serves").exists(), "it does not serve");
    let started = orders(dir.path(), "start");
    group.start().await.unwrap();
    assert_eq!(next(&mut events).await, GroupEvent::Up { name: "mail".to_owned(), pid });
    assert_eq!(fs::read_to_string(dir.path().join("serves")).unwrap(), pid.to_string());
    assert_eq!((orders(dir.path(), "start"), group.pids()), (started, vec![("mail".to_owned(), pid)]), "no other was started");
    group.stop().await.unwrap();
    until_gone(pid).await;
    assert_eq!(group.status()[0].state, ServiceState::Stopped);
    // After the stop nobody waits until it is wanted again.
    assert_eq!(orders(dir.path(), "start"), started);
    group.ready();
    let second = until_waiting(&group, pid).await;
    group.stop().await.unwrap();
    // A stop ends those that wait, too.
    until_gone(second).await;
}

#[tokio::test]
async fn one_that_waits_and_dies_is_replaced_and_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let (group, mut events) = group_that_waits(dir.path());
    group.ready();
    let first = until_waiting(&group, 0).await;
    kill_process(Pid::from_raw(i32::try_from(first).unwrap()).unwrap(), Signal::KILL).unwrap();
    let second = until_waiting(&group, first).await;
    group.start().await.unwrap();
    assert_eq!(next(&mut events).await, GroupEvent::Up { name: "mail".to_owned(), pid: second }, "no death was told before");
    // Told to serve it is a service like any other.
    kill_process(Pid::from_raw(i32::try_from(second).unwrap()).unwrap(), Signal::KILL).unwrap();
    assert!(matches!(next(&mut events).await, GroupEvent::Died { essential: true, .. }));
    group.restart().await.unwrap();
    group.stop().await.unwrap();
}

#[tokio::test]
async fn without_one_that_waits_or_when_it_refuses_one_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let (group, _events) = group_that_waits(dir.path());
    group.start().await.unwrap();
    group.stop().await.unwrap();
    group.ready();
    let refuses = until_waiting(&group, 0).await;
    fs::write(dir.path().join("refuse-once"), "").unwrap();
    group.start().await.unwrap();
    let serves = group.pids()[0].1;
    assert_ne!(serves, refuses, "another serves");
    until_gone(refuses).await;
    group.stop().await.unwrap();
    // One that was started now and refuses is a failed start.
    fs::write(dir.path().join("refuse-once"), "").unwrap();
    let error = group.start().await.unwrap_err();
    assert!(matches!(&error, Error::Ended { how, .. } if how == "not today"), "{error}");
    assert!(group.pids().is_empty());
}

fn group_of(dir: &Path, mut service: Service) -> (Group, Receiver<GroupEvent>) {
    let program = dir.join("systemctl");
    fs::write(&program, SYSTEMCTL).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    service.stop_grace = Duration::from_millis(300);
    service.start_limit = Duration::from_secs(2);
    let mut settings = Settings::new(dir.to_str().unwrap(), vec![service]);
    settings.systemctl = program;
    settings.kill_limit = Duration::from_millis(300);
    Group::new(settings).unwrap()
}

async fn next(events: &mut Receiver<GroupEvent>) -> GroupEvent {
    timeout(Duration::from_secs(20), events.recv()).await.expect("an event in time").expect("the group lives")
}

#[tokio::test]
async fn a_unit_starts_dies_restarts_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let (group, mut events) = group(dir.path());
    group.start().await.unwrap();
    let GroupEvent::Up { pid, .. } = next(&mut events).await else { panic!("it is up") };
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    let died = GroupEvent::Died { name: "mail".to_owned(), how: "failed (failed), result signal".to_owned(), essential: true };
    assert_eq!(next(&mut events).await, died);
    group.restart().await.unwrap();
    assert_ne!(group.pids()[0].1, pid);
    group.stop().await.unwrap();
    let asked = fs::read_to_string(dir.path().join("asked")).unwrap();
    assert!(asked.contains("start mail.service\n") && asked.contains("stop mail.service\n"), "{asked}");
}

#[tokio::test]
async fn a_job_that_fails_or_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let (group, _events) = group(dir.path());
    fs::write(dir.path().join("refuse"), "").unwrap();
    let error = group.start().await.unwrap_err();
    assert!(matches!(&error, Error::Ended { how, .. } if how.contains("Job for mail.service failed")), "{error}");
    fs::remove_file(dir.path().join("refuse")).unwrap();

    fs::write(dir.path().join("hang"), "").unwrap();
    let started = tokio::spawn({
        let group = group.clone();
        async move { group.start().await }
    });
    while !fs::read_to_string(dir.path().join("asked")).unwrap().ends_with("start mail.service\n") {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    group.stop().await.unwrap();
    assert!(matches!(started.await.unwrap(), Err(Error::Stopped)));
}

#[tokio::test]
async fn a_unit_that_does_not_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (group, _events) = group(dir.path());
    fs::write(dir.path().join("deaf"), "").unwrap();
    group.clear().await.unwrap();
    group.start().await.unwrap();
    group.stop().await.unwrap();
    let asked = fs::read_to_string(dir.path().join("asked")).unwrap();
    assert!(asked.contains("kill --signal=KILL mail.service\n"), "deaf to stop, it was killed: {asked}");

    group.start().await.unwrap();
    fs::write(dir.path().join("immortal"), "").unwrap();
    let error = group.stop().await.unwrap_err();
    assert!(matches!(error, Error::NotGone { .. }) && error.unverified(), "{error}");
    // Tried again, it may succeed.
    fs::remove_file(dir.path().join("immortal")).unwrap();
    group.stop().await.unwrap();
}
