//! A merge that is stopped: by kill -9 in a process of its own, by a full disk. The next run goes on, and each message is there once.
mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use support::*;
use twinpost_merge::{Options, Progress, Run, Sides, Step, Watch};
use twinpost_message::{AccountId, DomainId};
use twinpost_store::files::{DiskFile, Files, Mode, RealFiles, Room};
use twinpost_store::*;

const MESSAGES: usize = 2_600;

async fn diverged(messages: usize) -> World {
    let world = World::new();
    let here = world.here().await;
    here.open_account(AccountId(1), DomainId(1)).await.unwrap();
    deliver(&here, "common", &[1]).await;
    here.close().await;
    world.part();
    let there = world.there().await;
    // One after the other would take one sync each.
    let deliveries = (0..messages).map(|n| there.deliver(delivery(&format!("m{n:05}"), &[1])));
    for done in futures_util::future::join_all(deliveries).await {
        done.unwrap();
    }
    for n in 0..20 {
        enqueue(&there, &format!("outbound {n}")).await;
    }
    there.close().await;
    world
}

async fn all_once(store: &Store, messages: usize) {
    let mut expected: Vec<String> = (0..messages).map(|n| format!("1/INBOX/m{n:05}")).collect();
    expected.insert(0, "1/INBOX/common".to_owned());
    assert_eq!(places(store).await, expected);
    assert_eq!(queue(store).await.len(), 20);
    let verified = store.verify(|_, _| {}).await.unwrap();
    assert!(verified.faults.is_empty(), "{verified:?}");
}

/// The process that is killed: merges, and says how far it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of the test below"]
#[allow(clippy::print_stdout, reason = "the test that started it reads this")]
async fn merging_process() {
    let data = std::path::PathBuf::from(std::env::var("MERGE_DATA").expect("the test says where"));
    let store = open(&data).await;
    let people = Arc::new(SameNumbers { limits: Limits::default() });
    let sides = Sides { store, aside: std::env::var("MERGE_ASIDE").expect("the test says where").into(), data, people };
    let progress = Arc::new(|p: Progress| {
        if p.step == Step::Take {
            println!("taken {}", p.done);
        }
    });
    let watch = Watch { progress: Some(progress), ..Watch::default() };
    twinpost_merge::merge(&sides, Options::default(), &watch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_it_goes_on_where_it_was() {
    let world = diverged(MESSAGES).await;
    let mut reached = 0;
    // Each process is killed at its second, third... report of progress: behind a commit, and in the middle of the next.
    for ticks in [1, 2, 2, 3] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "merging_process", "--ignored", "--nocapture"])
            .env("MERGE_DATA", world.data())
            .env("MERGE_ASIDE", world.aside())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines.map_while(Result::ok).filter(|l| l.starts_with("taken ")).nth(ticks);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(said.is_some(), "it was still at work");
        let store = world.here().await;
        let seen = places(&store).await;
        let unique: std::collections::HashSet<&String> = seen.iter().collect();
        assert_eq!(unique.len(), seen.len(), "nothing came twice");
        assert!(seen.len() >= reached, "nothing was lost");
        reached = seen.len();
        store.close().await;
    }
    assert!(reached > 1, "something had come");
    let store = world.here().await;
    let report = world.merge(&store).await;
    assert_eq!(report.totals.counts.taken + report.totals.counts.taken_before, MESSAGES as u64);
    all_once(&store, MESSAGES).await;
}

/// The packs of this side lie on a disk with this much left.
#[derive(Debug)]
struct Narrow {
    left: Arc<AtomicU64>,
}

#[derive(Debug)]
struct NarrowFile {
    below: Arc<dyn DiskFile>,
    left: Arc<AtomicU64>,
}

impl DiskFile for NarrowFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.below.read_at(buffer, offset)
    }
    fn write_at(&self, parts: &[std::io::IoSlice<'_>], offset: u64) -> std::io::Result<()> {
        let bytes = parts.iter().map(|p| p.len() as u64).sum();
        let take = |left: u64| left.checked_sub(bytes);
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_err() {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.below.write_at(parts, offset)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.below.sync_data()
    }
    fn len(&self) -> std::io::Result<u64> {
        self.below.len()
    }
    fn set_len(&self, bytes: u64) -> std::io::Result<()> {
        self.below.set_len(bytes)
    }
    fn allocate(&self, offset: u64, bytes: u64) -> std::io::Result<()> {
        self.below.allocate(offset, bytes)
    }
}

impl Files for Narrow {
    fn open(&self, path: &std::path::Path, mode: Mode) -> std::io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(NarrowFile { below: RealFiles.open(path, mode)?, left: self.left.clone() }))
    }
    fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
        RealFiles.rename(from, to)
    }
    fn remove(&self, path: &std::path::Path) -> std::io::Result<()> {
        RealFiles.remove(path)
    }
    fn list(&self, dir: &std::path::Path) -> std::io::Result<Vec<String>> {
        RealFiles.list(dir)
    }
    fn create_dir(&self, dir: &std::path::Path) -> std::io::Result<()> {
        RealFiles.create_dir(dir)
    }
    fn sync_dir(&self, dir: &std::path::Path) -> std::io::Result<()> {
        RealFiles.sync_dir(dir)
    }
    fn room(&self, dir: &std::path::Path) -> std::io::Result<Room> {
        RealFiles.room(dir)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_it_and_space_lets_it_go_on() {
    let world = diverged(MESSAGES).await;
    let left = Arc::new(AtomicU64::new(u64::MAX));
    let files = Arc::new(Narrow { left: left.clone() });
    let options = twinpost_store::Options { files, ..twinpost_store::Options::new(&world.data().join("store")) };
    let store = Store::open(options).await.unwrap();
    left.store(400_000, Ordering::SeqCst);
    let stopped = twinpost_merge::merge(&world.sides(&store), Options::default(), &Watch::default()).await;
    assert!(stopped.as_ref().is_err_and(twinpost_merge::Error::is_disk_full), "{stopped:?}");
    let kept = twinpost_merge::reports(&world.data()).unwrap();
    let report = twinpost_merge::report(&world.data(), &kept[0].name).unwrap();
    assert!(matches!(report.run, Run::Stopped { .. }) && report.has_more());
    let part = places(&store).await.len();
    assert!(part > 1 && part < MESSAGES, "{part} came before the disk was full");
    assert_eq!(report.totals.counts.taken, part as u64 - 1, "the report tells what came");
    left.store(u64::MAX, Ordering::SeqCst);
    let report = world.merge(&store).await;
    assert_eq!(report.totals.counts.taken, (MESSAGES + 1 - part) as u64);
    all_once(&store, MESSAGES).await;
}

/// How long a large merge takes: `cargo test --release -p twinpost-merge --test stops -- --ignored --nocapture hundred`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout, reason = "its result")]
async fn hundred_thousand() {
    let began = std::time::Instant::now();
    let world = diverged(100_000).await;
    println!("made in {:?}", began.elapsed());
    let store = world.here().await;
    for what in ["compared and taken", "compared again"] {
        let began = std::time::Instant::now();
        let report = world.merge(&store).await;
        println!("{what} in {:?}: {} messages", began.elapsed(), report.totals.counts.taken);
    }
}
