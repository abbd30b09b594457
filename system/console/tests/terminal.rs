//! The console on a pseudo-terminal, with real children.

use nix::pty::{OpenptyResult, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use twinpost_console::Settings;

/// A program that stands in for `twinpost`: its orders are those of the tests.
// With the usual answer to SIGINT, even when the tests run in the background of a script that ignores it.
const PROGRAM: &str = r#"#!/usr/bin/env -S --default-signal=INT sh
[ "$1 $2 $3" = "ctl --dir /state/node" ] || { echo "called as: $*"; exit 99; }
shift 3
case $1 in
  say) shift; for word; do echo "<$word>"; done; echo "to stderr" >&2; [ -t 0 ] || read x || echo "no input"; exit 3;;
  ask) [ -t 0 ] && [ -t 1 ] || exit 9; printf 'Sure? '; read answer; echo "got $answer, $LANG, $USER"; exit 0;;
  hang) trap 'echo interrupted; exit 7' INT; echo hanging; while :; do sleep 0.1; done;;
  deaf) trap '' INT; sleep 100 & echo "child $!"; wait; sleep 100;;
  flood) while :; do echo 0123456789012345678901234567890123456789012345678901234567890123456789; done;;
esac
"#;

struct Console {
    keyboard: File,
    screen: mpsc::UnboundedReceiver<Vec<u8>>,
    seen: String,
    pair: File,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<Result<(), twinpost_console::Error>>,
    _folder: tempfile::TempDir,
}

fn console(limit: Duration) -> Console {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("twinpost");
    std::fs::write(&program, PROGRAM).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    let name: PathBuf = nix::unistd::ttyname(&slave).unwrap();
    let mut settings = Settings::image(name, program, "/state/node".into());
    settings.boot_report = folder.path().join("boot.json");
    settings.order_limit = limit;
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(twinpost_console::run(settings, async move { drop(stopped.await) }));
    let (sender, screen) = mpsc::unbounded_channel();
    let mut reader = File::from(master.try_clone().unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = reader.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    Console {
        keyboard: File::from(master),
        screen,
        seen: String::new(),
        pair: File::from(slave),
        stop: Some(stop),
        task,
        _folder: folder,
    }
}

impl Console {
    fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }
    /// Waits until this was shown; gives everything since the last wait.
    async fn shows(&mut self, text: &str) -> String {
        let wait = async {
            while !self.seen.contains(text) {
                self.seen.push_str(&String::from_utf8_lossy(&self.screen.recv().await.expect("the console is there")));
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(20), wait).await.is_ok(), "{text:?} was not shown: {:?}", self.seen);
        let end = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..end).collect()
    }
    fn raw(&self) -> bool {
        !tcgetattr(&self.pair).unwrap().local_flags.contains(LocalFlags::ICANON)
    }
    async fn leave(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        let Self { task, pair, .. } = self;
        task.await.unwrap().unwrap();
        assert!(tcgetattr(&pair).unwrap().local_flags.contains(LocalFlags::ICANON), "the mode was put back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_of_a_program() {
    let mut c = console(Duration::from_secs(60));
    c.shows("twinpost> ").await;
    assert!(c.raw());
    c.types("@7 say 'a  b' \"c\\\"d\" $HOME;\r");
    let shown = c.shows("twinpost> ").await;
    let frame = "\x027\r\n<a  b>\r\n<c\"d>\r\n<$HOME;>\r\nto stderr\r\nno input\r\n\x037 3\r\n\r\ntwinpost> ";
    assert_eq!(shown, frame, "whole, in order, without echo");
    // An order that ends at Ctrl-C, and one that does not.
    c.types("@8 hang\r");
    c.shows("hanging").await;
    c.types("\x03");
    assert_eq!(c.shows("\x038 7\r\n").await, "\r\ninterrupted\r\n\x038 7\r\n");
    c.types("@9 deaf\r");
    c.shows("child ").await;
    let pid: i32 = c.shows("\r\n").await.trim().parse().unwrap();
    c.types("\x03\x03");
    c.shows("\x039 137\r\n").await;
    // Killed with its group; it may still wait to be reaped by init.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
    c.types("@10 flood\r");
    c.shows("\x0310 125\r\n").await;
    c.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_answers_an_order() {
    let mut c = console(Duration::from_secs(60));
    c.shows("twinpost> ").await;
    c.types("l\r");
    c.shows("twinpost> ").await;
    c.types("ask\r");
    c.shows("Sure? ").await;
    c.types("yes\r");
    let shown = c.shows("-- done: 0\r\n").await;
    assert!(shown.contains("got yes, zh_CN.UTF-8, console "), "{shown}");
    c.shows("twinpost> ").await;
    c.types("hang\r");
    c.shows("hanging").await;
    c.types("\x03");
    c.shows("-- done: 7\r\n").await;
    c.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_lasts_too_long_ends() {
    let mut c = console(Duration::from_millis(300));
    c.shows("twinpost> ").await;
    c.types("@1 deaf\r");
    c.shows("\x031 124\r\n").await;
    c.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_goes_away_ends_the_console() {
    let c = console(Duration::from_secs(60));
    let Console { keyboard, pair, mut screen, task, stop, .. } = c;
    screen.recv().await.unwrap();
    drop((pair, keyboard));
    // The reader's copy of the master is the last one; it ends when the console writes nothing more: pull it by the thread's end.
    drop(screen);
    drop(stop);
    let ended = tokio::time::timeout(Duration::from_secs(20), task).await.expect("the console ends").unwrap();
    assert!(ended.is_ok() || matches!(ended, Err(twinpost_console::Error::Gone { .. })), "{ended:?}");
}
