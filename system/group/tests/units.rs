//! The systemd form, before a program that answers as `systemctl` does: it keeps one unit in a folder.

#![allow(missing_docs, reason = "a test program")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{sync::mpsc::Receiver, time::timeout};
use twinpost_group::{Error, Group, GroupEvent, Service, Settings};

/// systemctl(1) for one unit: `start`, `stop`, `kill` and `show`. Files beside it make it refuse.
const SYSTEMCTL: &str = r#"#!/bin/sh
D=$(dirname "$0")
echo "$*" >> "$D/asked"
alive() { [ -s "$D/pid" ] && kill -0 "$(cat "$D/pid")" 2>/dev/null && ! grep -q ') Z ' "/proc/$(cat "$D/pid")/stat"; }
case "$1" in
start)
  [ -e "$D/refuse" ] && { echo "Job for mail.service failed because the control process exited with error code." >&2; exit 1; }
  [ -e "$D/hang" ] && exec sleep 1000
  alive || { sleep 1000 >/dev/null 2>&1 & echo $! > "$D/pid"; } ;;
stop) [ -e "$D/deaf" ] && exec sleep 1000; alive && kill "$(cat "$D/pid")"; rm -f "$D/pid" ;;
kill) [ -e "$D/immortal" ] || { alive && kill -9 "$(cat "$D/pid")"; rm -f "$D/pid"; } ;;
show)
  if alive; then echo "ActiveState=active"; echo "SubState=running"; echo "MainPID=$(cat "$D/pid")"
  else echo "ActiveState=failed"; echo "SubState=failed"; echo "MainPID=0"; fi
  echo "Result=signal"; echo "ControlGroup=" ;;
esac
exit 0
"#;

fn group(dir: &Path) -> (Group, Receiver<GroupEvent>) {
    let program = dir.join("systemctl");
    fs::write(&program, SYSTEMCTL).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut service = Service::unit("mail", "mail.service");
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
