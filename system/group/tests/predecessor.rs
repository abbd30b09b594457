//! What a daemon that was killed left behind. (A program of its own, so that its children cannot inherit a lock of other tests.)

#![allow(missing_docs, reason = "a test program")]

use std::process::{Child, Command};

use twinpost_group::{Group, MARKER, Service, Settings};

fn left(value: String) -> Child {
    Command::new("sleep").arg("1000").env(MARKER, value).spawn().unwrap()
}

#[tokio::test]
async fn what_a_predecessor_left_is_ended_first() {
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().to_str().unwrap();
    let mut mine = left(format!("{marker}:mail"));
    let mut another = left(format!("{marker}x:mail"));
    let service = Service::child("mail", vec!["true".to_owned()]);
    let (group, _events) = Group::new(Settings::new(marker, vec![service])).unwrap();
    group.clear().await.unwrap();
    assert!(mine.try_wait().unwrap().is_some(), "ended");
    assert!(another.try_wait().unwrap().is_none(), "another node's is left alone");
    another.kill().unwrap();
    mine.wait().unwrap();
    another.wait().unwrap();
}
